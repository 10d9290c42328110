package delivery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"anechoic/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A dialogue is a file of testdata/dialogues: the message, what servers say and
// expect to be told, and the result of each recipient. Lines of its first part
// are "key: value"; the second part is a script:
//
//	CONNECT 192.0.2.1:25   the next connection, and where it must go
//	REFUSE                 ... which is refused
//	S: text                the server says a line
//	S! "text"              the server sends these octets (a Go string)
//	S* 3 "text"            ... that many times
//	C: text                the client must say this line
//	TLS                    the server makes the handshake, with a valid certificate (TLS other: for another name)
//	CLOSE                  the server hangs up
//	HANG                   the server listens, and says nothing any more
//	RESULT status code text   of each recipient, of each message, in order
//
// A connection whose script ends may be used for QUIT only.
type dialogue struct {
	name        string
	attempt     Attempt
	policy      TLSPolicy
	probe       bool          // recipients are asked about only
	times       int           // the message is sent that often
	pause       time.Duration // between
	connections []*connection
	results     []string
}

type connection struct {
	server netip.AddrPort
	steps  []step
}

type step struct{ verb, text string }

// bytesContent is content in memory, in one piece or two.
type bytesContent struct {
	all    []byte
	header int
	split  bool
}

func newContent(s string) bytesContent {
	head, _, _ := strings.Cut(s, "\r\n\r\n")
	return bytesContent{all: []byte(s), header: min(len(head)+4, len(s))}
}

func (c bytesContent) Header() []byte               { return c.all[:c.header] }
func (c bytesContent) Body() io.Reader              { return bytes.NewReader(c.all[c.header:]) }
func (c bytesContent) BodyInMemory() ([]byte, bool) { return c.all[c.header:], !c.split }

const plainContent = "From: alice@acme.example\r\nSubject: Hello\r\n\r\nHello Bob.\r\n"

func parseDialogue(t testing.TB, name string, text string) *dialogue {
	t.Helper()
	d := &dialogue{name: name, times: 1}
	d.attempt = Attempt{ID: "test", Route: Route{Site: "globex.example"}, Envelope: mail.Envelope{From: address(t, "alice@acme.example")}}
	content, split, to := plainContent, false, "bob@globex.example"
	hosts := []string{"mx1.globex.example[192.0.2.1]", "mx2.globex.example[192.0.2.2]"}
	head, script := text[:max(0, strings.Index(text, "CONNECT"))], text[max(0, strings.Index(text, "CONNECT")):]
	for line := range strings.Lines(head) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case strings.HasPrefix(key, "#"), key == "":
		case key == "from" && value == "<>":
			d.attempt.Envelope.From = mail.Address{}
		case key == "to":
			to = value
		case key == "content":
			content = unquote(t, value)
		case key == "pieces":
			split = true
		case key == "ret":
			d.attempt.Envelope.Ret = value
		case key == "envid":
			d.attempt.Envelope.EnvID = value
		case key == "8bit":
			d.attempt.Envelope.EightBit = true
		case key == "utf8":
			d.attempt.Envelope.UTF8 = true
		case key == "from":
			d.attempt.Envelope.From = address(t, value)
		case key == "tls":
			d.policy = TLSPolicy(value)
		case key == "hosts":
			hosts = strings.Split(value, ", ")
		case key == "probe":
			d.probe = true
		case key == "lmtp":
			d.attempt.Route.Own = &OwnServer{LMTP: true}
		case key == "times":
			d.times, _ = strconv.Atoi(value)
		case key == "pause":
			d.pause, _ = time.ParseDuration(value)
		default:
			t.Fatalf("%s: unknown key in %q", name, line)
		}
	}
	c := newContent(content)
	c.split = split
	d.attempt.Content, d.attempt.Size = c, int64(len(c.all))
	for _, h := range hosts {
		host, addr, _ := strings.Cut(strings.TrimSuffix(h, "]"), "[")
		d.attempt.Route.Hosts = append(d.attempt.Route.Hosts, Host{Name: host, Addresses: []netip.Addr{netip.MustParseAddr(addr)}, Port: 25})
	}
	d.attempt.Envelope.Recipients = parseRecipients(t, to)
	d.parseScript(t, script)
	return d
}

// parseRecipients reads "bob@x.example NOTIFY=FAILURE,DELAY ORCPT=rfc822;b; carol@x.example".
func parseRecipients(t testing.TB, s string) (list []mail.Recipient) {
	for one := range strings.SplitSeq(s, ", ") {
		words := strings.Fields(one)
		r := mail.Recipient{Address: address(t, words[0])}
		for _, w := range words[1:] {
			key, value, _ := strings.Cut(w, "=")
			switch key {
			case "ORCPT":
				r.ORcpt = value
			case "NOTIFY":
				for _, v := range strings.Split(value, "+") {
					r.Notify |= map[string]mail.Notify{"NEVER": mail.NotifyNever, "SUCCESS": mail.NotifySuccess, "FAILURE": mail.NotifyFailure, "DELAY": mail.NotifyDelay}[v]
				}
			}
		}
		list = append(list, r)
	}
	return list
}

func (d *dialogue) parseScript(t testing.TB, script string) {
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		verb, text, _ := strings.Cut(line, " ")
		switch verb {
		case "CONNECT":
			d.connections = append(d.connections, &connection{server: netip.MustParseAddrPort(text)})
		case "RESULT":
			d.results = append(d.results, text)
		case "S:", "S!", "S*", "C:", "TLS", "CLOSE", "HANG", "REFUSE":
			c := d.connections[len(d.connections)-1]
			c.steps = append(c.steps, step{verb, text})
		case "", "#":
		default:
			t.Fatalf("%s: %q", d.name, line)
		}
	}
}

func unquote(t testing.TB, s string) string {
	t.Helper()
	u, err := strconv.Unquote(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return u
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddressUTF8(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// run sends the message as the dialogue says and gives the results as text. It
// is called in a bubble: hours of silence take no time.
func (d *dialogue) run(t testing.TB, change func(*SMTP)) []string {
	var servers sync.WaitGroup
	defer servers.Wait()
	used := 0
	transport := &SMTP{Helo: "relay.anechoic.test", TLS: d.policy, Roots: testRoots().pool, IdleLimit: time.Minute}
	transport.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
		if used == len(d.connections) {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		c := d.connections[used]
		used++
		if c.server != to {
			t.Errorf("connection %d goes to %s, not %s", used, to, c.server)
		}
		if len(c.steps) > 0 && c.steps[0].verb == "REFUSE" {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		ours, theirs := net.Pipe()
		buffered := &bufferedConn{Conn: theirs, wake: make(chan struct{}, 1)}
		servers.Go(buffered.run)
		servers.Go(func() {
			if err := c.serve(buffered); err != nil {
				t.Errorf("connection to %s: %v", c.server, err)
			}
		})
		return ours, nil
	}
	if change != nil {
		change(transport)
	}
	defer transport.Close()
	var got []string
	for n := range d.times {
		if n > 0 {
			time.Sleep(d.pause)
		}
		for _, r := range d.send(t.Context(), transport) {
			line := fmt.Sprintf("%s %s %s", r.Status, r.Enhanced, r.Reply)
			if r.TLS != "" {
				line += " (" + r.TLS + ")"
			}
			got = append(got, line)
		}
	}
	if used != len(d.connections) {
		t.Errorf("%d connections were made, the script has %d", used, len(d.connections))
	}
	return got
}

func (d *dialogue) send(ctx context.Context, transport *SMTP) []Result {
	if d.probe {
		return transport.Probe(ctx, d.attempt.Route, "", d.attempt.Envelope.From, d.attempt.Envelope.Recipients...)
	}
	return transport.Deliver(ctx, d.attempt)
}

// bufferedConn is the server's end of a pipe with the buffer that a socket has:
// what is written waits until the client reads.
type bufferedConn struct {
	net.Conn
	wake chan struct{}

	mu      sync.Mutex // guards what follows
	waiting []byte
	closed  bool
}

func (c *bufferedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.waiting = append(c.waiting, p...)
	c.mu.Unlock()
	c.signal()
	return len(p), nil
}

func (c *bufferedConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.signal()
	return nil
}

func (c *bufferedConn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run passes on what waits, and closes when all is read.
func (c *bufferedConn) run() {
	defer c.Conn.Close()
	for range c.wake {
		c.mu.Lock()
		next, closed := c.waiting, c.closed
		c.waiting = nil
		c.mu.Unlock()
		if len(next) > 0 {
			if _, err := c.Conn.Write(next); err != nil {
				next = nil
			}
			c.signal()
		}
		if closed && len(next) == 0 {
			return
		}
	}
}

// serve follows the script.
func (c *connection) serve(conn net.Conn) error {
	raw := conn
	defer func() { raw.Close() }()
	in := bufio.NewReader(conn)
	for n, s := range c.steps {
		var err error
		switch s.verb {
		case "S:":
			_, err = io.WriteString(conn, s.text+"\r\n")
		case "S!":
			err = writeTimes(conn, 1, s.text)
		case "S*":
			times, text, _ := strings.Cut(s.text, " ")
			count, _ := strconv.Atoi(times)
			if writeTimes(conn, count, text) != nil {
				return nil // the client may have had enough
			}
		case "C:":
			err = expectLine(in, s.text)
		case "TLS":
			secure := tls.Server(conn, testRoots().server(s.text))
			if err = secure.Handshake(); err != nil {
				return nil // the client's results tell
			}
			conn, in = secure, bufio.NewReader(secure)
		case "CLOSE":
			return nil
		case "HANG":
			_, err := io.Copy(io.Discard, in)
			return ignoreClosed(err)
		}
		if err != nil {
			return fmt.Errorf("step %d, %s %s: %w", n+1, s.verb, s.text, err)
		}
	}
	return expectQuit(conn, in)
}

func writeTimes(w io.Writer, times int, quoted string) error {
	text, err := strconv.Unquote(quoted)
	for ; times > 0 && err == nil; times-- {
		_, err = io.WriteString(w, text)
	}
	return err
}

func expectLine(in *bufio.Reader, want string) error {
	got, err := in.ReadString('\n')
	if err == nil && got != want+"\r\n" {
		err = fmt.Errorf("the client says %q", got)
	}
	return err
}

// expectQuit allows no more than QUIT or the end.
func expectQuit(conn net.Conn, in *bufio.Reader) error {
	line, err := in.ReadString('\n')
	switch {
	case err != nil && line == "":
		return ignoreClosed(err)
	case line != "QUIT\r\n":
		return fmt.Errorf("the client goes on with %q", line)
	}
	_, err = io.WriteString(conn, "221 2.0.0 Bye\r\n")
	return ignoreClosed(err)
}

func ignoreClosed(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// certificates is an authority of the test and what it signed.
type certificates struct {
	pool  *x509.CertPool
	right tls.Certificate // for mx1 and mx2.globex.example
	other tls.Certificate // for other.example
}

// testRoots is made once. It is valid at the time at which bubbles begin, and now.
var testRoots = sync.OnceValue(func() *certificates {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	must(err)
	root, err := x509.ParseCertificate(der)
	must(err)
	leaf := func(serial int64, names ...string) tls.Certificate {
		cert := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: names, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		der, err := x509.CreateCertificate(rand.Reader, cert, root, key.Public(), key)
		must(err)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	c := &certificates{pool: x509.NewCertPool(), right: leaf(2, "mx1.globex.example", "mx2.globex.example"), other: leaf(3, "other.example")}
	c.pool.AddCert(root)
	return c
})

func (c *certificates) server(which string) *tls.Config {
	cert := c.right
	if which == "other" {
		cert = c.other
	}
	// Tickets would be written before the client reads: a pipe has no buffer.
	return &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
}

func readDialogue(t testing.TB, file string) *dialogue {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parseDialogue(t, filepath.Base(file), string(b))
}

func TestDialogues(t *testing.T) {
	files, _ := filepath.Glob("testdata/dialogues/*.txt")
	if len(files) == 0 {
		t.Fatal("no dialogues in testdata/dialogues")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			d := readDialogue(t, file)
			synctest.Test(t, func(t *testing.T) {
				if diff := cmp.Diff(d.results, d.run(t, nil)); diff != "" {
					t.Errorf("results: -script +got:\n%s", diff)
				}
			})
		})
	}
}

// TestEveryStageMayFail takes dialogues that succeed and spoils them at each
// line the server says, in each way. Only the final 2yz delivers, no stage takes
// forever, and only after the final dot may the recipient get it twice.
func TestEveryStageMayFail(t *testing.T) {
	spoilers := map[string][]step{
		"hangs up":         {{"CLOSE", ""}},
		"is silent":        {{"HANG", ""}},
		"says 421":         {{"S:", "421 4.3.2 Going down"}, {"CLOSE", ""}},
		"says 451":         {{"S:", "451 4.3.0 Later"}, {"HANG", ""}},
		"says 550":         {{"S:", "550 5.7.1 No"}, {"HANG", ""}},
		"says 200":         {{"S:", "200 what"}, {"HANG", ""}},
		"says 399":         {{"S:", "399 what"}, {"HANG", ""}},
		"says garbage":     {{"S:", "\x00\xff hello"}, {"HANG", ""}},
		"has bare LF":      {{"S!", `"220 ok\n"`}, {"HANG", ""}},
		"has no end":       {{"S*", `1000 "220-more\r\n"`}, {"HANG", ""}},
		"has a long line":  {{"S*", `4096 "2"`}, {"HANG", ""}},
		"stops in a line":  {{"S!", `"25"`}, {"HANG", ""}},
		"mixes codes":      {{"S!", `"250-a\r\n251 b\r\n"`}, {"HANG", ""}},
		"goes on and on":   {{"S!", `"250 a\r\n250 b\r\n250 c\r\n"`}, {"HANG", ""}},
		"hangs mid-answer": {{"S!", `"250-a\r\n"`}, {"CLOSE", ""}},
	}
	for _, name := range []string{"stepwise", "pipelined", "chunking", "tls-opportunistic"} {
		whole := readDialogue(t, "testdata/dialogues/"+name+".txt")
		steps := whole.connections[0].steps
		for at, s := range steps {
			if s.verb != "S:" && s.verb != "TLS" {
				continue
			}
			for how, spoiler := range spoilers {
				t.Run(fmt.Sprintf("%s/%d %s/%s", name, at+1, s.text, how), func(t *testing.T) {
					spoiled := *whole
					spoiled.connections = []*connection{{server: whole.connections[0].server, steps: slices.Concat(steps[:at], spoiler)}}
					synctest.Test(t, func(t *testing.T) { spoiled.expectSafe(t, at, s, how) })
				})
			}
		}
	}
}

// expectSafe runs a spoiled dialogue.
func (d *dialogue) expectSafe(t *testing.T, at int, s step, how string) {
	start := time.Now()
	dials := 0
	got := d.run(ignoreErrors{t}, func(transport *SMTP) {
		scripted := transport.Dial
		transport.Dial = func(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
			if dials++; dials > 1 {
				return nil, syscall.ECONNREFUSED
			}
			return scripted(ctx, from, to)
		}
	})
	final := strings.Contains(s.text, "Kept")
	answered := how == "says 200" || how == "goes on and on"
	for _, r := range got {
		switch status, _, _ := strings.Cut(r, " "); {
		case status == "delivered" && !(final && answered):
			t.Errorf("after %q the result is %q", s.text, r)
		case status == "undecided":
			t.Errorf("no result: %q", r)
		case strings.Contains(r, "twice") && !final && !(d.name == "chunking.txt" && how == "says 200"): // a chunk needs no word before it but RCPT's
			t.Errorf("%q, but the message was not sent", r)
		case final && (how == "hangs up" || how == "is silent") && !strings.Contains(r, "may get it twice"):
			t.Errorf("%q does not say that it may come twice", r)
		}
	}
	if took := time.Since(start); took > 40*time.Minute {
		t.Errorf("it took %s", took)
	}
}

// ignoreErrors lets a script break off: only results are judged.
type ignoreErrors struct{ testing.TB }

func (ignoreErrors) Errorf(string, ...any) {}
