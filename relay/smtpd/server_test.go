package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test in a synctest bubble with a server over pipes.
func bubble(t *testing.T, h Handler, test func(t *testing.T, s *Server, listener *pipes)) {
	t.Helper()
	bubbleOf(t, Plain, h, test)
}

func bubbleOf(t *testing.T, mode Mode, h Handler, test func(t *testing.T, s *Server, listener *pipes)) {
	t.Helper()
	certificate() // made outside: it is shared
	synctest.Test(t, func(t *testing.T) {
		s := newServer(h)
		listener := newPipes()
		serveUntilEnd(t, s, listener, mode)
		test(t, s, listener)
	})
}

// hello connects and says EHLO.
func hello(t *testing.T, listener *pipes) *client {
	t.Helper()
	conn := listener.dial("192.0.2.1:40000")
	t.Cleanup(func() { _ = conn.Close() })
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.expect("220")
	c.command("EHLO client.a.example", "250")
	return c
}

// closed wants the end of the connection.
func (c *client) closed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Fatalf("not closed: %q, %v", rest, err)
	}
}

// drip writes text again and again until the connection is closed.
func (c *client) drip(every time.Duration, text string) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for {
			time.Sleep(every)
			if _, err := io.WriteString(c.conn, text); err != nil {
				return
			}
		}
	}()
	return done
}

func TestSilentPeerIsClosedAfterFiveMinutes(t *testing.T) {
	bubble(t, &recorder{}, func(t *testing.T, _ *Server, listener *pipes) {
		c := hello(t, listener)
		begun := time.Now()
		c.expect("421 4.4.2 Timed out")
		c.closed()
		if d := time.Since(begun); d != DefaultCommandTimeout {
			t.Errorf("after %v", d)
		}
	})
}

func TestSingleOctetsWinNoTime(t *testing.T) {
	bubble(t, &recorder{}, func(t *testing.T, _ *Server, listener *pipes) {
		c := hello(t, listener)
		begun := time.Now()
		dripped := c.drip(time.Minute, "x")
		c.expect("421 4.4.2 Timed out")
		if d := time.Since(begun); d != DefaultCommandTimeout {
			t.Errorf("after %v", d)
		}
		_ = c.conn.Close()
		<-dripped
	})
}

func TestSlowDataIsClosed(t *testing.T) {
	h := &recorder{}
	bubble(t, h, func(t *testing.T, _ *Server, listener *pipes) {
		c := hello(t, listener)
		c.begin("a@a.example")
		begun := time.Now()
		c.write("Subject: x\r\n\r\n")
		dripped := c.drip(time.Second, "MAIL FROM:<evil@a.example>\r\n") // 28 octets a second
		c.expect("421 4.4.2 Data arrives too slowly")
		if d := time.Since(begun); d != DefaultDataWindow {
			t.Errorf("after %v", d)
		}
		_ = c.conn.Close()
		<-dripped
	})
	if mails, _ := h.calls(); mails != 1 || len(h.kept()) != 0 {
		t.Errorf("asked about %d senders, %d kept", mails, len(h.kept()))
	}
}

// Deadlines pass between the windows; reads are taken up again, with TLS too.
func TestSteadyDataMayTakeLong(t *testing.T) {
	for _, mode := range []Mode{Plain, ImplicitTLS} {
		t.Run(mode.String(), func(t *testing.T) {
			h := &recorder{}
			bubbleOf(t, mode, h, func(t *testing.T, _ *Server, listener *pipes) {
				c := open(t, listener, mode)
				_ = c.conn.SetDeadline(time.Time{})
				c.write("Subject: x\r\n\r\n")
				for range 30 * 60 {
					time.Sleep(time.Second)
					c.write(strings.Repeat("y", 200) + "\r\n")
				}
				c.write(".\r\n")
				c.expect("250")
				_ = c.conn.Close()
			})
			if len(h.kept()) != 1 || h.kept()[0].size != int64(len("Subject: x\r\n\r\n")+30*60*202) {
				t.Errorf("%d kept", len(h.kept()))
			}
		})
	}
}

func TestTransactionEndsAfterAnHour(t *testing.T) {
	bubble(t, &recorder{}, func(t *testing.T, _ *Server, listener *pipes) {
		c := hello(t, listener)
		begun := time.Now()
		c.begin("a@a.example")
		c.write("Subject: x\r\n\r\n")
		dripped := c.drip(time.Second, strings.Repeat("y", 200)+"\r\n")
		c.expect("421 4.4.2 Data arrives too slowly")
		if d := time.Since(begun); d != DefaultTransactionTimeout {
			t.Errorf("after %v", d)
		}
		_ = c.conn.Close()
		<-dripped
	})
}

func TestTransactionWithoutDataEndsAfterAnHour(t *testing.T) {
	bubble(t, &recorder{}, func(t *testing.T, _ *Server, listener *pipes) {
		c := hello(t, listener)
		begun := time.Now()
		c.command("MAIL FROM:<a@a.example>", "250")
		for range 14 {
			time.Sleep(4*time.Minute + 10*time.Second)
			c.command("RCPT TO:<b@b.example>", "250")
		}
		c.expect("421 4.4.2 Timed out")
		if d := time.Since(begun); d != DefaultTransactionTimeout {
			t.Errorf("after %v", d)
		}
	})
}

func TestPeerThatDoesNotReadIsClosed(t *testing.T) {
	bubble(t, &recorder{}, func(t *testing.T, s *Server, listener *pipes) {
		conn := listener.dial("192.0.2.1:40000")
		defer conn.Close()
		time.Sleep(2 * DefaultWriteTimeout)
		synctest.Wait()
		if n := s.Counters.Open.Load(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}

func TestHandshakeThatDoesNotComeIsClosed(t *testing.T) {
	certificate()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(&recorder{})
		listener := newPipes()
		serveUntilEnd(t, s, listener, ImplicitTLS)
		conn := listener.dial("192.0.2.1:40000")
		defer conn.Close()
		begun := time.Now()
		if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
			t.Errorf("%q, %v", rest, err)
		}
		if d := time.Since(begun); d != DefaultHandshakeTimeout || s.Counters.HandshakesFailed.Load() != 1 {
			t.Errorf("after %v, %d failed", d, s.Counters.HandshakesFailed.Load())
		}
	})
}

func TestShutdownTellsIdleSessionsAtOnce(t *testing.T) {
	bubble(t, &recorder{}, func(t *testing.T, s *Server, listener *pipes) {
		idle := hello(t, listener)
		synctest.Wait()
		begun := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(context.Background()) }()
		idle.expect("421 4.3.2 Service is stopping")
		idle.closed()
		if err := <-stopped; err != nil || time.Since(begun) != 0 {
			t.Errorf("%v, after %v", err, time.Since(begun))
		}
		if err := s.Serve(context.Background(), newPipes(), Plain); !errors.Is(err, ErrShutDown) {
			t.Errorf("Serve after Shutdown: %v", err)
		}
	})
}

func TestShutdownLetsTransactionsEnd(t *testing.T) {
	h := &recorder{}
	bubble(t, h, func(t *testing.T, s *Server, listener *pipes) {
		inData, inMail := hello(t, listener), hello(t, listener)
		inData.begin("a@a.example")
		inData.write("Subject: x\r\n")
		inMail.command("MAIL FROM:<a@a.example>", "250")
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(context.Background()) }()
		synctest.Wait()

		inData.write("\r\ntext\r\n.\r\n")
		inData.expect("250 2.0.0 Kept")
		inData.expect("421 4.3.2 Service is stopping")
		inData.closed()
		inMail.command("RCPT TO:<b@b.example>", "250")
		inMail.command("DATA", "354")
		inMail.write(".\r\nMAIL FROM:<next@a.example>\r\n")
		inMail.expect("250 2.0.0 Kept")
		inMail.expect("421 4.3.2 Service is stopping")
		inMail.closed()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	if len(h.kept()) != 2 {
		t.Errorf("%d kept", len(h.kept()))
	}
}

func TestShutdownIsBoundedByItsContext(t *testing.T) {
	h := &recorder{hold: make(chan struct{}), started: make(chan struct{}, 1)}
	bubble(t, h, func(t *testing.T, s *Server, listener *pipes) {
		h.hold, h.started = make(chan struct{}), make(chan struct{}, 1) // of this bubble
		c := hello(t, listener)
		c.begin("a@a.example")
		c.write(".\r\n")
		<-h.started
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		begun := time.Now()
		err := s.Shutdown(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 30*time.Second {
			t.Errorf("%v, after %v", err, time.Since(begun))
		}
	})
	if len(h.kept()) != 0 {
		t.Errorf("%d kept", len(h.kept()))
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(&recorder{})
		listener := newPipes()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, listener, Plain) }()
		c := hello(t, listener)
		c.begin("a@a.example")
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		c.closed()
	})
}

func TestOnePeerIsAnAddressOrASlash64(t *testing.T) {
	s := newServer(&recorder{})
	s.MaxConnectionsPerPeer = 2
	listener := newPipes()
	serveUntilEnd(t, s, listener, Plain)
	dial := func(from, code string) net.Conn {
		conn := listener.dial(from)
		t.Cleanup(func() { _ = conn.Close() })
		(&client{t: t, conn: conn, r: bufio.NewReader(conn)}).expect(code)
		return conn
	}
	dial("192.0.2.1:1", "220")
	dial("[::ffff:192.0.2.1]:2", "220")
	dial("192.0.2.1:3", "421 4.7.0 Too many connections")
	dial("192.0.2.2:4", "220")
	dial("[2001:db8::1]:5", "220")
	dial("[2001:db8::2]:6", "220")
	dial("[2001:db8::3]:7", "421 4.7.0 Too many connections")
	dial("[2001:db8:0:1::1]:8", "220")
}

func TestAFloodDoesNotShutAProvidersOtherCustomersOut(t *testing.T) {
	s := newServer(&recorder{})
	s.MaxConnections, s.MaxConnectionsPerPeer = 8, 2
	s.SharedPeer = func(a netip.Addr) bool { return a == netip.MustParseAddr("40.107.1.1") }
	listener := newPipes()
	serveUntilEnd(t, s, listener, Plain)
	dial := func(from, code string) {
		conn := listener.dial(from)
		t.Cleanup(func() { _ = conn.Close() })
		(&client{t: t, conn: conn, r: bufio.NewReader(conn)}).expect(code)
	}
	for range 3 {
		dial("[::ffff:40.107.1.1]:1", "220") // past the limit of one peer
	}
	dial("192.0.2.1:1", "220")
	dial("192.0.2.2:1", "220")
	dial("192.0.2.3:1", "220")
	dial("192.0.2.4:1", "421 4.7.0 Too many connections") // six of eight are open
	dial("40.107.1.1:4", "220")
	dial("40.107.1.1:5", "220")
	dial("40.107.1.1:6", "421 4.7.0 Too many connections")
}

func TestPeerNetwork(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.1": "192.0.2.1/32", "2001:db8::1": "2001:db8::/64", "fe80::1%eth0": "fe80::/64"} {
		if got := peerNetwork(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
	if peerNetwork(netip.Addr{}).IsValid() {
		t.Error("no address is a network")
	}
}

// flaky fails a few times before it accepts.
type flaky struct {
	*pipes
	failures int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures--; f.failures >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.pipes.Accept()
}

func TestAcceptThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := &flaky{pipes: newPipes(), failures: 10}
		serveUntilEnd(t, newServer(&recorder{}), listener, Plain)
		hello(t, listener.pipes)
	})
}

func TestBrokenListenerIsAnError(t *testing.T) {
	listener := newPipes()
	_ = listener.Close()
	if err := newServer(&recorder{}).Serve(context.Background(), listener, Plain); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestCountersAddUp(t *testing.T) {
	h := &recorder{}
	s := newServer(h)
	play(s, Plain, []byte("EHLO a\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<refused@b.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"), []byte(".\r\nFOO\r\n"))
	c := &s.Counters
	if c.Connections.Load() != 1 || c.Open.Load() != 0 || c.Transactions.Load() != 1 || c.Kept.Load() != 1 || c.Refused.Load() != 2 {
		t.Errorf("%d %d %d %d %d", c.Connections.Load(), c.Open.Load(), c.Transactions.Load(), c.Kept.Load(), c.Refused.Load())
	}
}

func TestTLSIsNeverWeakerThanTheServerInsists(t *testing.T) {
	s := newServer(&recorder{})
	s.TLS.MinVersion = tls.VersionTLS10
	if c := s.tlsConfig(); c.MinVersion != tls.VersionTLS12 || !c.SessionTicketsDisabled {
		t.Errorf("version %#x, tickets off %v", c.MinVersion, c.SessionTicketsDisabled)
	}
	s.TLS.MinVersion, s.TLS.ClientAuth = tls.VersionTLS13, tls.NoClientCert
	if c := s.tlsConfig(); c.MinVersion != tls.VersionTLS13 || c.SessionTicketsDisabled {
		t.Errorf("version %#x, tickets off %v", c.MinVersion, c.SessionTicketsDisabled)
	}
}

// Many clients at once, each with its own messages, over real sockets.
func TestManyClientsAtOnce(t *testing.T) {
	const clients, messages = 20, 20
	h := &recorder{}
	s := newServer(h)
	address := start(t, s, Plain)
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() { sendMany(t, address, n, messages) })
	}
	all.Wait()
	seen := map[string]bool{}
	for _, m := range h.kept() {
		if from := m.envelope.From.String() + "\r\n"; !bytes.HasSuffix(m.body, []byte(from)) || len(m.body) != 20000+len(from) {
			t.Errorf("the message of %q ends in another's", from)
		}
		seen[m.envelope.From.String()] = true
	}
	if len(seen) != clients*messages || len(h.kept()) != clients*messages {
		t.Errorf("%d kept of %d senders", len(h.kept()), len(seen))
	}
}

func sendMany(t *testing.T, address string, client, messages int) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(text, last string) bool {
		_, err := io.WriteString(conn, text)
		for err == nil {
			var line string
			if line, err = r.ReadString('\n'); strings.HasPrefix(line, last) {
				return true
			}
		}
		t.Errorf("no %q after %.60q: %v", last, text, err)
		return false
	}
	body := strings.Repeat(strings.Repeat("x", 78)+"\r\n", 250)
	ok := say("EHLO a\r\n", "250 ")
	for n := 0; ok && n < messages; n++ {
		from := fmt.Sprintf("a%d-%d@a.example", client, n)
		ok = say("MAIL FROM:<"+from+">\r\nRCPT TO:<b@b.example>\r\nDATA\r\n", "354 ") &&
			say(stuff("Subject: x\r\n\r\n"+body+from+"\r\n"), "250 2.0.0 Kept")
	}
}
