package sink

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, b Behaviour) *Sink {
	t.Helper()
	s, err := Open(Options{Addr: "127.0.0.1:0", Domain: "storm.example", Behaviour: b})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client is a connection of a test: send writes, want reads a reply.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, s *Sink) *client {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) want(replies ...string) {
	c.t.Helper()
	for _, reply := range replies {
		line, err := c.in.ReadString('\n')
		for err == nil && len(line) > 3 && line[3] == '-' {
			line, err = c.in.ReadString('\n')
		}
		if err != nil || !strings.HasPrefix(line, reply) {
			c.t.Fatalf("got %q (%v), want %s", line, err, reply)
		}
	}
}

func (c *client) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Fatalf("the connection should have ended, but: %q, %v", rest, err)
	}
}

// message is a whole transaction, pipelined as RFC 2920 permits.
func message(id, to string) (group, text string) {
	return "MAIL FROM:<a@a.example>\r\nRCPT TO:<" + to + ">\r\nDATA\r\n",
		"Message-ID: <" + id + ">\r\nSubject: x\r\n\r\n..\r\nhello\r\n.\r\n"
}

func (c *client) deliver(id string) {
	c.t.Helper()
	group, text := message(id, "b@storm.example")
	c.send(group)
	c.want("250", "250", "354")
	c.send(text)
	c.want("250")
}

func TestWhatIsTakenIsCountedOnceAndTwice(t *testing.T) {
	s := open(t, Plain{})
	c := dial(t, s)
	c.want("220")
	c.send("EHLO relay.example\r\n")
	c.want("250")
	for _, id := range []string{"1@x", "2@x", "1@x"} {
		c.deliver(id)
	}
	c.send("QUIT\r\n")
	c.want("221")
	c.ended()
	got := s.Tally()
	if got.Accepted != 3 || got.Unique() != 2 || got.Duplicates != 1 || got.Attempts != 3 || got.Connections != 1 || got.Refused != 0 || got.Peak != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAStampTellsHowLongAMessageTook(t *testing.T) {
	sent := time.Now().Add(-time.Hour)
	s, err := Open(Options{Addr: "127.0.0.1:0", Domain: "storm.example", Behaviour: Plain{}, Stamp: func(header []byte) (string, time.Time, bool) {
		name, ok := Field(header, "message-id")
		return name, sent, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := dial(t, s)
	c.want("220")
	c.deliver("1@x")
	got := s.Tally()
	if took := got.Took(0.99); took < time.Hour || took > 2*time.Hour {
		t.Errorf("it took %s", took)
	}
	if got.Until(time.Now().Add(time.Hour)) != 1 || got.Until(sent) != 0 || got.Last().Before(sent) {
		t.Errorf("%+v", got)
	}
}

func TestAMessageOfAStormIsPutOffAndTheRestOfThePipelineAnswered(t *testing.T) {
	s := open(t, &Storm{Lasts: time.Hour})
	c := dial(t, s)
	c.want("220")
	group, _ := message("1@x", "b@storm.example")
	c.send(group)
	c.want("250", "451", "554")
	c.send("RSET\r\n")
	c.want("250")
	if got := s.Tally(); got.Refused != 1 || got.Attempts != 1 || got.Accepted != 0 {
		t.Errorf("%+v", got)
	}
}

func TestA421EndsTheConnectionAndIsHeard(t *testing.T) {
	s := open(t, Closing{Messages: 1})
	c := dial(t, s)
	c.want("220")
	c.deliver("1@x")
	group, _ := message("2@x", "b@storm.example")
	c.send(group)
	c.want("421")
	c.ended()
	if got := s.Tally(); got.Accepted != 1 || got.Attempts != 2 || got.Refused != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWhoIsOneTooManyIsTurnedAway(t *testing.T) {
	s := open(t, Crowded{Connections: 1})
	first := dial(t, s)
	first.want("220")
	second := dial(t, s)
	second.want("421")
	second.ended()
	first.deliver("1@x")
	if got := s.Tally(); got.Connections != 1 || got.TurnedAway != 1 || got.Peak != 1 || got.Unique() != 1 {
		t.Errorf("%+v", got)
	}
}

func TestASlowAnswerEndsWithTheSink(t *testing.T) {
	s := open(t, &Slow{Most: 24 * time.Hour})
	c := dial(t, s)
	c.want("220")
	group, text := message("1@x", "b@storm.example")
	c.send(group)
	c.want("250", "250", "354")
	c.send(text)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.Tally(); got.Accepted != 0 {
		t.Errorf("taken without an answer: %+v", got)
	}
}

func TestMailForAnotherDomainIsRefused(t *testing.T) {
	s := open(t, Plain{})
	c := dial(t, s)
	c.want("220")
	group, _ := message("1@x", "b@other.example")
	c.send(group)
	c.want("250", "550", "554")
}

func TestASinkOfNothingIsNotOpened(t *testing.T) {
	if _, err := Open(Options{Addr: "127.0.0.1:0"}); err == nil {
		t.Error("opened")
	}
	if _, err := Open(Options{Addr: "127.0.0.1:x", Domain: "a.example", Behaviour: Plain{}}); err == nil {
		t.Error("opened on no port")
	}
}

func TestPercentilesAreOfTheNearestRank(t *testing.T) {
	var tally Tally
	if tally.Took(0.5) != 0 {
		t.Error("nothing took time")
	}
	for i := range 100 {
		tally.Deliveries = append(tally.Deliveries, Delivery{Took: time.Duration(100 - i)})
	}
	for share, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := tally.Took(share); got != want {
			t.Errorf("%v: %d, want %d", share, got, want)
		}
	}
}

// FuzzProvider: whatever a client sends, the session ends, every reply has a code,
// and nothing counts as taken that was not.
func FuzzProvider(f *testing.F) {
	group, text := message("1@x", "b@storm.example")
	f.Add(group + text + "QUIT\r\n")
	f.Add("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<\r\nDATA\r\n")
	f.Add("DATA\r\n.\r\nMAIL\r\nMAIL\r\nRSET\r\nNOOP\n")
	f.Add(strings.Repeat("x", maxLine+1) + "\r\n")
	f.Fuzz(func(t *testing.T, input string) {
		s := &Sink{options: Options{Domain: "storm.example", Behaviour: Plain{}, Stamp: byMessageID}, closing: make(chan struct{}), names: map[string]bool{}}
		ours, theirs := net.Pipe()
		go func() {
			_, _ = io.WriteString(theirs, input)
			_, _ = fmt.Fprint(theirs, "\r\n.\r\nQUIT\r\n")
		}()
		said := make(chan string)
		go func() {
			all, _ := io.ReadAll(theirs)
			said <- string(all)
		}()
		newSession(s, ours, netip.MustParseAddr("127.0.0.1")).run()
		_ = ours.Close()
		taken := 0
		for line := range strings.Lines(<-said) {
			if code, err := strconv.Atoi(line[:min(3, len(line))]); err != nil || code < 200 || code > 599 {
				t.Errorf("reply %q", line)
			}
			if strings.HasPrefix(line, "250 2.0.0 taken") {
				taken++
			}
		}
		if got := s.Tally(); got.Accepted != taken || got.Open != 0 {
			t.Errorf("%d taken, counted %+v", taken, got)
		}
	})
}
