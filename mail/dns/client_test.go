package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/mail"
)

// liar is a DNS server that sends what a test wants: for each query the given
// datagrams, over TCP the first of them.
type liar struct {
	addr    string
	queries atomic.Int32
	overTCP atomic.Int32
}

func lie(t *testing.T, answer func(query *wire.Msg, tcp bool) [][]byte) *liar {
	t.Helper()
	pc, l, err := listenBoth("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &liar{addr: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			s.queries.Add(1)
			q := new(wire.Msg)
			if err := q.Unpack(buf[:n]); err != nil {
				t.Error(err)
			}
			for _, a := range answer(q, false) {
				pc.WriteTo(a, from)
			}
		}
	})
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.overTCP.Add(1)
			var length [2]byte
			io.ReadFull(conn, length[:])
			buf := make([]byte, binary.BigEndian.Uint16(length[:]))
			io.ReadFull(conn, buf)
			q := new(wire.Msg)
			if err := q.Unpack(buf); err != nil {
				t.Error(err)
			}
			for _, a := range answer(q, true) {
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
			}
			conn.Close()
		}
	})
	t.Cleanup(func() { pc.Close(); l.Close(); running.Wait() })
	return s
}

// reply is a good answer to q with these records, packed.
func reply(t *testing.T, q *wire.Msg, change func(m *wire.Msg), records ...string) []byte {
	m := new(wire.Msg)
	m.SetReply(q)
	for _, r := range records {
		rr, err := wire.NewRR(r)
		if err != nil {
			t.Error(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	if change != nil {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// short is a time after which a test gives up waiting for a server that is silent.
const short = 200 * time.Millisecond

var ctxAll = context.Background()

func TestStrayDatagramsArePassedOver(t *testing.T) {
	const forged = `a.example. 60 IN TXT "forged"`
	s := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		return [][]byte{
			{},
			[]byte("no message"),
			reply(t, q, func(m *wire.Msg) { m.Id++ }, forged),
			reply(t, q, func(m *wire.Msg) { m.Response = false }, forged),
			reply(t, q, func(m *wire.Msg) { m.Opcode = wire.OpcodeNotify }, forged),
			reply(t, q, func(m *wire.Msg) { m.Question = nil }, forged),
			reply(t, q, func(m *wire.Msg) { m.Question[0].Name = "b.example." }, forged),
			reply(t, q, func(m *wire.Msg) { m.Question[0].Qtype = wire.TypeA }, forged),
			reply(t, q, func(m *wire.Msg) { m.Question[0].Qclass = wire.ClassCHAOS }, forged),
			reply(t, q, nil, `a.example. 60 IN TXT "true"`, `b.example. 60 IN TXT "not asked for"`),
		}
	})
	c := client(t, Options{Servers: []string{s.addr}})
	a, err := c.TXT(ctxAll, "a.example")
	if err != nil || len(a.Records) != 1 || a.Records[0] != "true" {
		t.Errorf("%q, %v", a.Records, err)
	}
}

func TestOnlyLiesAreAFailure(t *testing.T) {
	s := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		return [][]byte{reply(t, q, func(m *wire.Msg) { m.Id++ }, `a.example. 60 IN TXT "forged"`)}
	})
	c := client(t, Options{Servers: []string{s.addr}, Timeout: short})
	if a, err := c.TXT(ctxAll, "a.example"); err == nil || errors.Is(err, mail.ErrNoDomain) {
		t.Errorf("%q, %v", a.Records, err)
	}
}

func TestAFloodOfStraysIsGivenUp(t *testing.T) {
	s := lie(t, func(q *wire.Msg, _ bool) (flood [][]byte) {
		for range maxStrays + 1 {
			flood = append(flood, reply(t, q, func(m *wire.Msg) { m.Id++ }))
		}
		return flood
	})
	c := client(t, Options{Servers: []string{s.addr}, Timeout: short})
	if _, err := c.TXT(ctxAll, "a.example"); err == nil || errors.Is(err, mail.ErrNoDomain) {
		t.Error(err)
	}
}

func TestACutAnswerIsAskedForOverTCP(t *testing.T) {
	s := lie(t, func(q *wire.Msg, tcp bool) [][]byte {
		if !tcp {
			return [][]byte{reply(t, q, func(m *wire.Msg) { m.Truncated = true }, `a.example. 60 IN TXT "half"`)}
		}
		return [][]byte{reply(t, q, nil, `a.example. 60 IN TXT "whole"`)}
	})
	c := client(t, Options{Servers: []string{s.addr}})
	if a, err := c.TXT(ctxAll, "a.example"); err != nil || a.Records[0] != "whole" || s.overTCP.Load() != 1 {
		t.Errorf("%q, %v, %d over TCP", a.Records, err, s.overTCP.Load())
	}
}

func TestLongAnswersOfARealServerComeWhole(t *testing.T) {
	z := zoneForTest(t)
	var texts []string
	for range 40 {
		texts = append(texts, strings.Repeat("x", 400))
	}
	z.SetTXT("big.example", texts...)
	c := client(t, Options{Servers: []string{serve(t, z).Addr()}})
	if a, err := c.TXT(ctxAll, "big.example"); err != nil || len(a.Records) != len(texts) {
		t.Errorf("%d records, %v", len(a.Records), err)
	}
}

func TestBadAnswersOverTCPAreFailures(t *testing.T) {
	for name, answer := range map[string]func(q *wire.Msg) [][]byte{
		"nothing":           func(*wire.Msg) [][]byte { return nil },
		"another question":  func(q *wire.Msg) [][]byte { return [][]byte{reply(t, q, func(m *wire.Msg) { m.Id++ })} },
		"cut as well":       func(q *wire.Msg) [][]byte { return [][]byte{reply(t, q, func(m *wire.Msg) { m.Truncated = true })} },
		"not a DNS message": func(*wire.Msg) [][]byte { return [][]byte{[]byte("HTTP/1.1 400 Bad Request")} },
	} {
		t.Run(name, func(t *testing.T) {
			s := lie(t, func(q *wire.Msg, tcp bool) [][]byte {
				if tcp {
					return answer(q)
				}
				return [][]byte{reply(t, q, func(m *wire.Msg) { m.Truncated = true })}
			})
			c := client(t, Options{Servers: []string{s.addr}, Timeout: short})
			if _, err := c.TXT(ctxAll, "a.example"); err == nil || errors.Is(err, mail.ErrNoDomain) {
				t.Error(err)
			}
		})
	}
}

func TestAServerWithoutEDNSIsAskedWithoutIt(t *testing.T) {
	s := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		if q.IsEdns0() != nil {
			return [][]byte{reply(t, q, func(m *wire.Msg) { m.Rcode, m.Question = wire.RcodeFormatError, nil })}
		}
		return [][]byte{reply(t, q, nil, `a.example. 60 IN TXT "plain"`)}
	})
	c := client(t, Options{Servers: []string{s.addr}})
	if a, err := c.TXT(ctxAll, "a.example"); err != nil || a.Records[0] != "plain" {
		t.Errorf("%q, %v", a.Records, err)
	}
}

func TestTheNextServerIsAskedWhenOneFails(t *testing.T) {
	silent := lie(t, func(*wire.Msg, bool) [][]byte { return nil })
	refusing := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		return [][]byte{reply(t, q, func(m *wire.Msg) { m.Rcode = wire.RcodeRefused })}
	})
	good := serve(t, zoneForTest(t))
	c := client(t, Options{Servers: []string{silent.addr, refusing.addr, good.Addr()}, Timeout: 6 * short})
	if _, err := c.TXT(ctxAll, "text.example"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.TXT(ctxAll, "absent.example"); !errors.Is(err, mail.ErrNoDomain) {
		t.Error(err)
	}
	if n := silent.queries.Load(); n != 1 {
		t.Errorf("the silent server was asked %d times; the one that answered comes first", n)
	}
}

func TestASilentServerIsAFailureThatNamesIt(t *testing.T) {
	s := lie(t, func(*wire.Msg, bool) [][]byte { return nil })
	c := client(t, Options{Servers: []string{s.addr}, Timeout: short})
	_, err := c.TXT(ctxAll, "a.example")
	if err == nil || errors.Is(err, mail.ErrNoDomain) || !strings.Contains(err.Error(), s.addr) || !strings.Contains(err.Error(), "a.example") {
		t.Error(err)
	}
	if n := s.queries.Load(); n != rounds {
		t.Errorf("asked %d times, want %d", n, rounds)
	}
	if got := c.Counters(); got != (Counters{Misses: 1, Errors: 1}) {
		t.Errorf("%+v", got)
	}
}

func TestASilentZoneIsAFailure(t *testing.T) {
	z := zoneForTest(t)
	z.Set("silent.example", Records{Fault: Fault{On: true, Silent: true}})
	c := client(t, Options{Servers: []string{serve(t, z).Addr()}, Timeout: short})
	if _, err := c.TXT(ctxAll, "silent.example"); err == nil || errors.Is(err, mail.ErrNoDomain) {
		t.Error(err)
	}
	if _, err := z.TXT(ctxAll, "silent.example"); err == nil || errors.Is(err, mail.ErrNoDomain) {
		t.Error(err)
	}
}

// TestAliasesAreChasedWhereTheServerDoesNot has a server that gives one alias at
// a time, as one without recursion does.
func TestAliasesAreChasedWhereTheServerDoesNot(t *testing.T) {
	s := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		switch q.Question[0].Name {
		case "a.example.":
			return [][]byte{reply(t, q, nil, `a.example. 60 IN CNAME b.example.`)}
		case "b.example.":
			return [][]byte{reply(t, q, nil, `b.example. 60 IN CNAME C.example.`)}
		case "c.example.":
			return [][]byte{reply(t, q, nil, `c.EXAMPLE. 60 IN TXT "the end"`)}
		}
		return [][]byte{reply(t, q, nil, `loop.example. 60 IN CNAME loop.example.`)}
	})
	c := client(t, Options{Servers: []string{s.addr}})
	if a, err := c.TXT(ctxAll, "a.example"); err != nil || len(a.Records) != 1 || a.Records[0] != "the end" {
		t.Errorf("%q, %v", a.Records, err)
	}
	if _, err := c.TXT(ctxAll, "loop.example"); err == nil || errors.Is(err, mail.ErrNoDomain) {
		t.Error(err)
	}
}

func TestAnEndOfServiceAndACancelledCallerAreFailures(t *testing.T) {
	s := lie(t, func(*wire.Msg, bool) [][]byte { return nil })
	c := client(t, Options{Servers: []string{s.addr}, Timeout: time.Minute})
	gone, cancel := context.WithCancel(ctxAll)
	cancel()
	if _, err := c.TXT(gone, "a.example"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := zoneForTest(t).TXT(gone, "text.example"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	waiting := make(chan error)
	go func() {
		_, err := c.TXT(ctxAll, "a.example")
		waiting <- err
	}()
	c.Close()
	if err := <-waiting; err == nil || errors.Is(err, mail.ErrNoDomain) {
		t.Error(err)
	}
	if _, err := c.TXT(ctxAll, "b.example"); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

func TestIdenticalQuestionsAreAskedOnce(t *testing.T) {
	const callers = 50
	hold := make(chan struct{})
	s := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		<-hold
		return [][]byte{reply(t, q, nil, `a.example. 0 IN TXT "once"`)}
	})
	c := client(t, Options{Servers: []string{s.addr}, Timeout: time.Minute})
	var asked sync.WaitGroup
	for range callers {
		asked.Go(func() {
			if a, err := c.TXT(ctxAll, "a.example"); err != nil || a.Records[0] != "once" {
				t.Errorf("%q, %v", a.Records, err)
			}
		})
	}
	for c.Counters().Misses < callers { // all wait for the same flight
		runtime.Gosched()
	}
	close(hold)
	asked.Wait()
	if n := s.queries.Load(); n != 1 {
		t.Errorf("%d queries", n)
	}
}

func TestManyAskWhileRecordsChange(t *testing.T) {
	z := zoneForTest(t)
	z.SetTTL(time.Second)
	c := client(t, Options{Servers: []string{serve(t, z).Addr()}, Entries: 3})
	names := []string{"text.example", "alias.example", "loop.example", "broken.example", "absent.example", "empty.example"}
	var asked sync.WaitGroup
	for n := range 8 {
		asked.Go(func() {
			for i := range 20 {
				c.TXT(ctxAll, names[(n+i)%len(names)])
				c.Addresses(ctxAll, names[(n+i)%len(names)])
				z.SetTXT("text.example", "changed")
				z.SetAddresses("empty.example", netip.MustParseAddr("127.0.0.1"))
				z.Remove("empty.example")
			}
		})
	}
	asked.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cache.entries) > 3 || len(c.flights) > 0 {
		t.Errorf("%d entries, %d flights", len(c.cache.entries), len(c.flights))
	}
}

func TestOptionsAreCheckedWhole(t *testing.T) {
	err := Options{Servers: []string{"127.0.0.1", "ns.example:53", "127.0.0.1:0", "[::1]:53"}, Timeout: -1, Entries: -1}.Validate()
	if err == nil {
		t.Fatal("nothing was found")
	}
	for _, want := range []string{"servers[0]", "servers[1]", "servers[2]", "timeout", "entries"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "servers[3]") {
		t.Error(err)
	}
	if _, err := New(Options{Servers: []string{"localhost"}}); err == nil {
		t.Error("New took it")
	}
}

func TestOnlyLoopbackIsServed(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "192.0.2.1:53", "localhost:0", ""} {
		if s, err := new(Zone).Serve(addr); err == nil {
			s.Close()
			t.Errorf("%q is served", addr)
		}
	}
}

func TestTheServerRefusesWhatIsNoQuestion(t *testing.T) {
	s := serve(t, zoneForTest(t))
	conn, err := net.Dial("udp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q := newQuery(question{"text.example.", wire.TypeTXT}, true)
	q.Question[0].Qclass = wire.ClassCHAOS
	packed, _ := q.Pack()
	m, err := overUDP(conn, packed, q)
	if err != nil || m.Rcode != wire.RcodeNotImplemented {
		t.Errorf("%v, %v", m, err)
	}
}
