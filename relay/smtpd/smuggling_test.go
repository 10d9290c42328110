package smtpd

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// suite gives a file of the shared test data; without them the test is left out.
func suite(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(suitePath(t, name))
	if err != nil {
		t.Skipf("the shared test data are not there: set ANECHOIC_SUITES to their folder (%v)", err)
	}
	return b
}

func suitePath(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("ANECHOIC_SUITES")
	if root == "" {
		root = filepath.Join(projectRoot(t), "..", "shared", "suites")
	}
	return filepath.Join(root, name)
}

func projectRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// endings is the format of end-of-data.dev.json.
type endings struct {
	MustEnd    []string `json:"must_end"`
	MustNotEnd []struct {
		Seq string `json:"seq"`
	} `json:"must_not_end"`
}

// ours are endings beyond the suite's.
var ours = []string{
	"\r\n.\n", "\n.\r\r\n", "\r\r\n.\r\n", "\r.\r\r\n", "\r\n.\x00\r\n", "\r\n\x00.\x00\r\n", "\r\x00\n.\r\n", "\r\n.\r\x00\n",
}

func readEndings(t *testing.T) (must, mustNot []string) {
	t.Helper()
	var e endings
	if err := json.Unmarshal(suite(t, "smtp/end-of-data.dev.json"), &e); err != nil {
		t.Fatal(err)
	}
	for _, s := range e.MustNotEnd {
		mustNot = append(mustNot, s.Seq)
	}
	if len(e.MustEnd) == 0 || len(mustNot) < 9 {
		t.Fatalf("the suite has %d and %d sequences", len(e.MustEnd), len(mustNot))
	}
	return e.MustEnd, append(mustNot, ours...)
}

// second is the transaction that an attacker hides behind a sequence.
const second = "MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\nQUIT\r\n"

// client is a peer over pipes: each write arrives as one read.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

var allModes = []Mode{Plain, ImplicitTLS, Submission, Proxy}

// open goes as far as the 354 of a first transaction, in the way of the mode.
func open(t *testing.T, listener *pipes, mode Mode) *client {
	t.Helper()
	conn := listener.dial("127.0.0.1:50000")
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // a test that hangs says where
		t.Fatal(err)
	}
	switch mode {
	case Proxy:
		c.write("PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n")
	case ImplicitTLS:
		c.startTLS()
	}
	c.expect("220")
	c.command("EHLO client.a.example", "250")
	if mode == Submission {
		c.command("STARTTLS", "220")
		c.startTLS()
		c.command("EHLO client.a.example", "250")
		c.command("AUTH PLAIN AGFwcEBhLmV4YW1wbGUAY29ycmVjdCBob3JzZQ==", "235")
	}
	c.begin("first@a.example")
	return c
}

// begin opens a transaction up to its 354.
func (c *client) begin(from string) {
	c.t.Helper()
	c.command("MAIL FROM:<"+from+">", "250")
	c.command("RCPT TO:<b@b.example>", "250")
	c.command("DATA", "354")
}

func (c *client) startTLS() {
	c.t.Helper()
	conn := tls.Client(c.conn, clientTLS())
	if err := conn.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
}

func (c *client) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("writing %q: %v", s, err)
	}
}

// writeAnyway is write to a server that may close meanwhile.
func (c *client) writeAnyway(s string) { _, _ = io.WriteString(c.conn, s) }

func (c *client) command(line, code string) {
	c.t.Helper()
	c.write(line + "\r\n")
	c.expect(code)
}

// expect reads one reply of any number of lines.
func (c *client) expect(code string) {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, code) {
			c.t.Fatalf("want %s, got %q, %v", code, line, err)
		}
		if line[3] == ' ' {
			return
		}
	}
}

// TestNothingButCRLFDotCRLFEndsData sends each sequence that must not end DATA,
// with a whole transaction hidden behind it, in two writes split at every
// boundary, on every kind of port: one 521, the connection closed, and the Handler
// never hears of the second transaction.
func TestNothingButCRLFDotCRLFEndsData(t *testing.T) {
	_, mustNot := readEndings(t)
	for _, mode := range allModes {
		h := &recorder{}
		listener := newPipes()
		serveUntilEnd(t, newServer(h), listener, mode)
		attempts := 0
		for _, seq := range mustNot {
			data := "Subject: first\r\n\r\na line" + seq
			for at := len("Subject: first\r\n\r\na line"); at <= len(data); at++ {
				t.Run(fmt.Sprintf("%s/%q/split at %d", mode, seq, at), func(t *testing.T) {
					smuggle(t, open(t, listener, mode), data[:at], data[at:]+second)
				})
				attempts++
			}
		}
		if mails, rcpts := h.calls(); mails != attempts || rcpts != attempts || len(h.kept()) != 0 {
			t.Errorf("%s: after %d attempts the Handler was asked about %d senders and %d recipients, and has %d messages", mode, attempts, mails, rcpts, len(h.kept()))
		}
	}
}

// smuggle writes in two pieces and wants the one refusal, and the end.
func smuggle(t *testing.T, c *client, pieces ...string) {
	t.Helper()
	go func() {
		for _, piece := range pieces {
			c.writeAnyway(piece)
		}
	}()
	c.expect("521")
	if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
		t.Errorf("after the refusal the server said %q", rest)
	}
}

// TestSmugglingBehindACompleteMessage hides a sequence in the second message of
// one pipelined write.
func TestSmugglingBehindACompleteMessage(t *testing.T) {
	_, mustNot := readEndings(t)
	for _, mode := range allModes {
		for _, seq := range mustNot {
			t.Run(fmt.Sprintf("%s/%q", mode, seq), func(t *testing.T) {
				h := &recorder{}
				listener := newPipes()
				serveUntilEnd(t, newServer(h), listener, mode)
				c := open(t, listener, mode)
				go c.writeAnyway("Subject: first\r\n\r\nwhole\r\n.\r\nMAIL FROM:<second@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
				for _, code := range []string{"250", "250", "250", "354"} {
					c.expect(code)
				}
				smuggle(t, c, "Subject: second\r\n\r\na line"+seq+second)
				if mails, _ := h.calls(); mails != 2 || len(h.kept()) != 1 {
					t.Errorf("the Handler was asked about %d senders and has %d messages", mails, len(h.kept()))
				}
			})
		}
	}
}

// TestCRLFDotCRLFEndsData wants what must end to end, wherever it is split.
func TestCRLFDotCRLFEndsData(t *testing.T) {
	must, _ := readEndings(t)
	for _, mode := range allModes {
		for _, seq := range must {
			for at := 0; at <= len(seq); at++ {
				t.Run(fmt.Sprintf("%s/%q/split at %d", mode, seq, at), func(t *testing.T) {
					h := &recorder{}
					listener := newPipes()
					serveUntilEnd(t, newServer(h), listener, mode)
					c := open(t, listener, mode)
					c.write("Subject: first\r\n\r\na line" + seq[:at])
					if at < len(seq) {
						c.write(seq[at:])
					}
					c.expect("250")
					c.begin("next@a.example")
					if len(h.kept()) != 1 {
						t.Errorf("%d messages kept", len(h.kept()))
					}
				})
			}
		}
	}
}

// TestLostInsideDataIsNotKept breaks the connection at every octet of a message.
func TestLostInsideDataIsNotKept(t *testing.T) {
	const data = "Subject: x\r\n\r\nMAIL FROM:<evil@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n.\r"
	for at := range len(data) + 1 {
		h := &recorder{}
		play(newServer(h), Plain, []byte("EHLO a\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"), []byte(data[:at]))
		if mails, _ := h.calls(); mails != 1 || len(h.kept()) != 0 {
			t.Fatalf("lost after %q: asked about %d senders, %d kept", data[:at], mails, len(h.kept()))
		}
	}
}
