package delivery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/mail"
)

// sink is a server on loopback that takes everything, and notes from where.
type sink struct {
	net.Listener
	tls        *tls.Config
	sessions   sync.WaitGroup
	accepted   atomic.Int64
	mails      atomic.Int64
	recipients atomic.Int64
	peers      sync.Map // address -> true
	last       atomic.Pointer[[]byte]
}

func newSink(t testing.TB, conf *tls.Config) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{Listener: l, tls: conf}
	s.sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.peers.Store(conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(), true)
			s.sessions.Go(func() { s.session(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); s.sessions.Wait() })
	return s
}

func (s *sink) route() Route {
	ap := s.Addr().(*net.TCPAddr).AddrPort()
	return Route{Site: "sink", Hosts: []Host{{Name: "mx1.globex.example", Addresses: []netip.Addr{ap.Addr().Unmap()}, Port: ap.Port()}}}
}

// session answers as fast as it can, batched as the commands are.
func (s *sink) session(raw net.Conn) {
	conn := raw
	defer func() { conn.Close() }()
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)
	say := func(line string) { out.WriteString(line + "\r\n") }
	say("220 sink")
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		switch word := string(bytes.ToUpper(line[:min(4, len(line))])); word {
		case "EHLO":
			if s.tls != nil && conn == raw {
				say("250-sink\r\n250-STARTTLS\r\n250 PIPELINING")
			} else {
				say("250-sink\r\n250-PIPELINING\r\n250 8BITMIME")
			}
		case "STAR":
			say("220 go")
			out.Flush()
			secure := tls.Server(conn, s.tls)
			conn, in, out = secure, bufio.NewReaderSize(secure, 64<<10), bufio.NewWriter(secure)
		case "RCPT":
			s.recipients.Add(1)
			say("250 Ok")
		case "DATA":
			say("354 go")
			out.Flush()
			if !s.content(in) {
				return
			}
			s.mails.Add(1)
			say("250 2.0.0 Kept")
		case "QUIT":
			say("221 bye")
			out.Flush()
			return
		default:
			say("250 Ok")
		}
	}
}

func (s *sink) content(in *bufio.Reader) bool {
	var content []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return false
		}
		if string(line) == ".\r\n" {
			s.last.Store(&content)
			return true
		}
		content = append(content, bytes.TrimPrefix(line, []byte("."))...)
	}
}

func testAttempt(t testing.TB, route Route, content string, recipients ...string) Attempt {
	c := newContent(content)
	a := Attempt{ID: "test", Route: route, Size: int64(len(c.all)), Content: c, Envelope: mail.Envelope{From: address(t, "alice@acme.example")}}
	for _, r := range recipients {
		a.Envelope.Recipients = append(a.Envelope.Recipients, mail.Recipient{Address: address(t, r)})
	}
	return a
}

func expectDelivered(t testing.TB, results []Result) {
	t.Helper()
	for i, r := range results {
		if r.Status != Delivered {
			t.Fatalf("recipient %d: %+v", i, r)
		}
	}
}

func TestConnectionsLeaveFromTheBoundAddress(t *testing.T) {
	s := newSink(t, nil)
	bind := netip.MustParseAddr("127.0.0.77")
	transport := &SMTP{Helo: "relay.anechoic.test", Bind: []netip.Addr{bind, netip.MustParseAddr("::1")}}
	defer transport.Close()
	expectDelivered(t, transport.Deliver(t.Context(), testAttempt(t, s.route(), plainContent, "bob@globex.example")))
	if _, ok := s.peers.Load(bind); !ok {
		t.Error("the connection came from another address")
	}
}

func TestAFamilyWithoutEgressAddressIsPassedOver(t *testing.T) {
	transport := &SMTP{Helo: "relay.anechoic.test", Bind: []netip.Addr{netip.MustParseAddr("::1")}}
	defer transport.Close()
	route := Route{Site: "x", Hosts: []Host{{Name: "x.example", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: 9}}}
	got := transport.Deliver(t.Context(), testAttempt(t, route, plainContent, "bob@globex.example"))[0]
	if got.Status != Deferred || !strings.Contains(got.Reply, "no egress address is of the family of 127.0.0.1") {
		t.Errorf("%+v", got)
	}
}

func TestManyMessagesShareAConnectionUpToABound(t *testing.T) {
	s := newSink(t, testRoots().server(""))
	transport := &SMTP{Helo: "relay.anechoic.test", TLS: Required, Roots: testRoots().pool, MaxMessages: 10}
	defer transport.Close()
	for range 35 {
		expectDelivered(t, transport.Deliver(t.Context(), testAttempt(t, s.route(), plainContent, "bob@globex.example")))
	}
	if n := s.accepted.Load(); n != 4 {
		t.Errorf("%d connections for 35 messages, 10 on each", n)
	}
	if c := transport.Counters(); c.Opened != 4 || c.Reused != 31 || c.Transactions != 35 || c.Encrypted != 4 {
		t.Errorf("%+v", c)
	}
}

func TestThousandRecipientsGoInPieces(t *testing.T) {
	s := newSink(t, nil)
	transport := &SMTP{Helo: "relay.anechoic.test"}
	defer transport.Close()
	var rcpts []string
	for n := range 1000 {
		rcpts = append(rcpts, fmt.Sprintf("recipient-with-a-long-name-%d@globex.example", n))
	}
	expectDelivered(t, transport.Deliver(t.Context(), testAttempt(t, s.route(), plainContent, rcpts...)))
	if s.recipients.Load() != 1000 || s.mails.Load() != 1 {
		t.Errorf("%d recipients, %d messages", s.recipients.Load(), s.mails.Load())
	}
}

func TestLargeContentArrivesAsItIs(t *testing.T) {
	s := newSink(t, nil)
	transport := &SMTP{Helo: "relay.anechoic.test"}
	defer transport.Close()
	var b strings.Builder
	b.WriteString("Subject: large\r\n\r\n")
	for n := range 60000 {
		fmt.Fprintf(&b, "%s line %d\r\n", strings.Repeat(".", n%4), n)
	}
	a := testAttempt(t, s.route(), b.String(), "bob@globex.example")
	for _, split := range []bool{false, true} {
		c := newContent(b.String())
		c.split = split
		a.Content = c
		expectDelivered(t, transport.Deliver(t.Context(), a))
		if got := *s.last.Load(); !bytes.Equal(got, []byte(b.String())) {
			t.Errorf("%d octets arrived of %d", len(got), b.Len())
		}
	}
}

// writeCounter counts what goes out, one count a write.
type writeCounter struct {
	net.Conn
	writes *[]int
}

func (c writeCounter) Write(p []byte) (int, error) {
	*c.writes = append(*c.writes, len(p))
	return c.Conn.Write(p)
}

func TestAPipelinedMessageIsTwoWrites(t *testing.T) {
	s := newSink(t, nil)
	var writes []int
	transport := &SMTP{Helo: "relay.anechoic.test"}
	transport.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
		conn, err := dialTCP(ctx, from, to)
		return writeCounter{conn, &writes}, err
	}
	defer transport.Close()
	content := "Subject: x\r\n\r\n" + strings.Repeat("A line.\r\n", 2000)
	expectDelivered(t, transport.Deliver(t.Context(), testAttempt(t, s.route(), content, "bob@globex.example", "carol@globex.example")))
	if len(writes) != 3 || writes[2] != len(content)+3 {
		t.Errorf("writes of %d octets, want EHLO, MAIL to DATA, content", writes)
	}
}

func TestAnAttemptEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := parseDialogue(t, "silent", "CONNECT 192.0.2.1:25\nHANG\n")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		transport := &SMTP{Helo: "relay.anechoic.test", Dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { io.Copy(io.Discard, theirs); theirs.Close() }()
			return ours, nil
		}}
		got := transport.Deliver(ctx, d.attempt)
		transport.Close()
		if got[0].Status != Deferred || time.Since(start) != 10*time.Second {
			t.Errorf("%+v after %s", got[0], time.Since(start))
		}
	})
}

func TestAnIdleConnectionIsEndedWithQuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		said := make(chan string, 1)
		go func() {
			line, _ := bufio.NewReader(theirs).ReadString('\n')
			said <- line
			io.WriteString(theirs, "221 bye\r\n")
			theirs.Close()
		}()
		var p pool
		server := netip.MustParseAddrPort("192.0.2.1:25")
		key := poolKey{server: server}
		start := time.Now()
		p.put(key, newClient(ours, "mx", server, Timeouts{}.orDefault()), start, 4*time.Second)
		if got := <-said; got != "QUIT\r\n" {
			t.Errorf("%q", got)
		}
		if waited := time.Since(start); waited < 4*time.Second || waited > 6*time.Second {
			t.Errorf("it waited %s", waited)
		}
		if p.take(key) != nil {
			t.Error("an ended connection was given out")
		}
		synctest.Wait() // the sweeper has ended by itself
		p.close()
	})
}

func TestAClosedPoolKeepsNothing(t *testing.T) {
	s := newSink(t, nil)
	transport := &SMTP{Helo: "relay.anechoic.test"}
	transport.Close()
	for range 3 {
		expectDelivered(t, transport.Deliver(t.Context(), testAttempt(t, s.route(), plainContent, "bob@globex.example")))
	}
	if n := s.accepted.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

// TestPostfixSinkTakesTwoHundredMessages delivers to smtp-sink of Postfix, twenty
// at a time, and counts what it wrote down.
func TestPostfixSinkTakesTwoHundredMessages(t *testing.T) {
	program, err := exec.LookPath("smtp-sink")
	if err != nil {
		if program = "/usr/sbin/smtp-sink"; !exists(program) {
			t.Skip("smtp-sink is not installed: apt-get install --no-install-recommends postfix")
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-D", "%Y%m%d%H%M.", "-R", dir, "-u", "nobody", fmt.Sprintf("127.0.0.1:%d", port), "100")
	if os.Getuid() != 0 {
		cmd = exec.CommandContext(ctx, program, "-D", filepath.Join(dir, "%Y%m%d%H%M."), fmt.Sprintf("127.0.0.1:%d", port), "100")
	}
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }() // killed on purpose
	transport := &SMTP{Helo: "relay.anechoic.test"}
	defer transport.Close()
	route := Route{Site: "sink", Hosts: []Host{{Name: "sink.example", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: port}}}
	if !listens(port) {
		t.Fatal("smtp-sink does not listen")
	}
	var workers sync.WaitGroup
	for w := range 20 {
		workers.Go(func() {
			for n := range 10 {
				content := fmt.Sprintf("From: alice@acme.example\r\nMessage-ID: <%d.%d@acme.example>\r\nSubject: x\r\n\r\n.leading dot\r\n..\r\n.\r\n", w, n)
				for _, r := range transport.Deliver(context.Background(), testAttempt(t, route, content, "bob@globex.example", "carol@globex.example")) {
					if r.Status != Delivered {
						t.Errorf("%+v", r)
					}
				}
			}
		})
	}
	workers.Wait()
	transport.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	ids := map[string]int{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "Message-ID:") {
				ids[line]++
			}
		}
	}
	if len(ids) != 200 {
		t.Errorf("%d messages arrived in %d files", len(ids), len(files))
	}
}

func exists(file string) bool { _, err := os.Stat(file); return err == nil }

func freePort(t testing.TB) uint16 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// listens waits until the program takes connections.
func listens(port uint16) bool {
	for range 200 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return true
		}
		<-time.After(25 * time.Millisecond) // another program's start; nothing tells when
	}
	return false
}

// BenchmarkDeliver is one message of 20 KiB over one connection to a sink on
// loopback in the same process: it measures both sides.
func BenchmarkDeliver(b *testing.B) {
	for name, conf := range map[string]*tls.Config{"plain": nil, "tls": testRoots().server("")} {
		b.Run(name, func(b *testing.B) {
			s := newSink(b, conf)
			transport := &SMTP{Helo: "relay.anechoic.test", Roots: testRoots().pool, MaxMessages: 1 << 30}
			defer transport.Close()
			content := "From: alice@acme.example\r\nSubject: x\r\n\r\n" + strings.Repeat("A line of seventy octets, as mail has them most of the time, to its end.\r\n", 280)
			a := testAttempt(b, s.route(), content, "bob@globex.example")
			b.ReportAllocs()
			for b.Loop() {
				expectDelivered(b, transport.Deliver(context.Background(), a))
			}
		})
	}
}
