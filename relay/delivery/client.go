package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fault says that a connection is of no more use, and at which stage it failed.
type fault struct {
	stage    string
	reply    Reply // what the server said instead of going on; zero if it said nothing
	err      error // what happened if it said nothing
	tls      bool  // the TLS handshake failed
	lost     bool  // the connection was found dead or ended, with 421 or without a word
	unworthy bool  // the host does not take mail at all (RFC 7504)
	noChunks bool  // it offers CHUNKING and does not know BDAT
}

func (f *fault) Error() string {
	if f.reply.Code != 0 {
		return f.stage + ": " + f.reply.String()
	}
	return f.stage + ": " + describe(f.err)
}

// describe says what an error of the connection means, without addresses and
// file descriptors.
func describe(err error) string {
	var errno syscall.Errno
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return "the server closed the connection"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return "the attempt was ended"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &op) && op.Err != nil:
		return op.Err.Error()
	}
	return err.Error()
}

// extensions is what a server offered in its answer to EHLO.
type extensions struct {
	pipelining, eightBit, startTLS, dsn, utf8, chunking, requireTLS bool

	size int64 // the largest message it takes; 0: it does not say
	has  bool  // SIZE was offered

	mailMax, rcptMax, rcptDomainMax int // LIMITS; 0: it does not say
}

// client is one connection to one server, after its greeting. It is used by one
// goroutine at a time.
type client struct {
	conn     net.Conn
	replies  replyReader
	out      []byte // commands that were not written yet
	timeouts Timeouts
	host     string // its name
	server   netip.AddrPort
	ext      extensions
	security Security
	tls      string // as Result.TLS
	tlsError error  // what spoke against TLS, also where it decided nothing
	known    bool   // EHLO was answered
	messages int    // transactions begun
	lmtp     bool   // it speaks LMTP: an answer a recipient at the end
	chunked  bool   // a chunk was taken on it
	since    time.Time
	egress   netip.Addr // where it leaves from; zero: not known

	site string
	left func(site string) // called once when it is closed; nil: nobody counts
}

// close ends the connection without a word. What comes of it is of no interest:
// it failed already, or nothing depends on how it ends.
func (c *client) close() {
	c.conn.Close()
	if c.left != nil {
		c.left(c.site)
		c.left = nil
	}
}

// hello is how a client introduces itself and what it wants of TLS.
type hello struct {
	helo     string
	tls      *tls.Config // base; nil: never ask for TLS
	security Security
	roots    *x509.CertPool
}

// newClient takes a fresh connection.
func newClient(conn net.Conn, name string, addr netip.AddrPort, t Timeouts) *client {
	return &client{conn: conn, replies: newReplyReader(conn), timeouts: t, host: name, server: addr, since: time.Now()}
}

// open brings the connection to where MAIL can be sent: greeting, EHLO,
// STARTTLS where offered, EHLO again.
func (c *client) open(ctx context.Context, h hello) *fault {
	c.security = h.security
	if f := c.greeting(); f != nil {
		return f
	}
	if f := c.hello(h.helo); f != nil {
		return f
	}
	c.known = true
	if h.tls == nil {
		return nil
	}
	start, err := h.security.Start(c.ext.startTLS)
	if err != nil {
		c.tlsError = err
		return &fault{stage: "STARTTLS", err: err}
	}
	if start {
		if f := c.startTLS(ctx, h); f != nil {
			return f
		}
	}
	if err := h.security.Mail(c.ext.requireTLS); err != nil {
		return &fault{stage: "EHLO", err: err}
	}
	return nil
}

// greeting waits for 220 (RFC 5321 section 3.1).
func (c *client) greeting() *fault {
	r, f := c.read("greeting", c.timeouts.Greeting)
	if f != nil {
		return f
	}
	return c.expect(r, 220, "greeting")
}

// hello says EHLO, and HELO to a server that does not know it (RFC 5321 section
// 4.1.1.1); LHLO where LMTP is spoken (RFC 2033 section 4.1).
func (c *client) hello(helo string) *fault {
	c.ext = extensions{}
	word := "EHLO"
	if c.lmtp {
		word = "LHLO"
	}
	r, f := c.command(word, c.timeouts.Hello, word+" ", helo)
	if f != nil {
		return f
	}
	if !c.lmtp && r.permanent() && r.code != 521 {
		if r, f = c.command("HELO", c.timeouts.Hello, "HELO ", helo); f != nil {
			return f
		}
		return c.expect(r, 250, "HELO")
	}
	if f := c.expect(r, 250, word); f != nil {
		return f
	}
	c.ext = parseExtensions(r.text)
	c.ext.chunking = c.ext.chunking && !c.lmtp // one way to end a message is enough there
	return nil
}

// parseExtensions reads the lines after the first of an answer to EHLO. Words
// that are not known, or not well formed, offer nothing.
func parseExtensions(text []byte) (e extensions) {
	_, lines, _ := bytes.Cut(text, []byte{'\n'})
	for line := range bytes.SplitSeq(lines, []byte{'\n'}) {
		word, argument, _ := strings.Cut(string(line), " ")
		switch strings.ToUpper(word) {
		case "PIPELINING":
			e.pipelining = true
		case "8BITMIME":
			e.eightBit = true
		case "STARTTLS":
			e.startTLS = true
		case "DSN":
			e.dsn = true
		case "SMTPUTF8":
			e.utf8 = true
		case "CHUNKING":
			e.chunking = true
		case "REQUIRETLS":
			e.requireTLS = true
		case "LIMITS":
			e.readLimits(argument)
		case "SIZE": // RFC 1870 section 4: no number, or zero: no fixed limit
			e.has = true
			if n, err := strconv.ParseInt(strings.TrimSpace(argument), 10, 64); err == nil && n > 0 {
				e.size = n
			}
		}
	}
	return e
}

// readLimits reads the limits a server announces (RFC 9422 section 4). What is
// not known, or no number of the form of section 3, is no limit.
func (e *extensions) readLimits(text string) {
	for word := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(word, "=")
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n == 0 || len(value) > 6 {
			continue
		}
		switch strings.ToUpper(name) {
		case "MAILMAX":
			e.mailMax = int(n)
		case "RCPTMAX":
			e.rcptMax = int(n)
		case "RCPTDOMAINMAX":
			e.rcptDomainMax = int(n)
		}
	}
}

// startTLS changes to TLS and says EHLO again (RFC 3207 section 4.2). Where TLS
// is not mandatory a server that refuses the command keeps the connection in the
// clear. Octets that came in the clear after the reply would be taken for the
// first of the protected channel, so they end the connection.
func (c *client) startTLS(ctx context.Context, h hello) *fault {
	r, f := c.command("STARTTLS", c.timeouts.Hello, "STARTTLS")
	if f != nil {
		c.tlsError = f
		return f
	}
	if r.code != 220 {
		f := c.refusal(r, "STARTTLS")
		f.err = h.security.blocked(errors.New("the server offers STARTTLS and refuses it"))
		c.tlsError = f.err
		if h.security.mandatory() || r.code == 421 || !r.temporary() && !r.permanent() {
			return f
		}
		return nil
	}
	if c.replies.in.Buffered() > 0 {
		c.tlsError = fmt.Errorf("%w: it goes on in the clear after the reply to STARTTLS", errReply)
		return &fault{stage: "STARTTLS", tls: true, err: h.security.blocked(c.tlsError)}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.Handshake)
	defer cancel()
	conn, text, judged, err := h.security.Handshake(ctx, c.conn, c.host, h.tls, h.roots)
	if err != nil {
		c.tlsError = err
		return &fault{stage: "TLS handshake", tls: true, err: err}
	}
	c.tlsError = judged
	c.conn, c.replies.in = conn, newReplyReader(conn).in
	c.tls = text
	return c.hello(h.helo)
}

// command writes what is waiting and one command, and waits for its reply.
func (c *client) command(stage string, timeout time.Duration, words ...string) (reply, *fault) {
	c.queue(words...)
	if f := c.flush(stage, timeout); f != nil {
		return reply{}, f
	}
	return c.read(stage, timeout)
}

// queue adds a command to what is waiting to be written.
func (c *client) queue(words ...string) {
	for _, w := range words {
		c.out = append(c.out, w...)
	}
	c.out = append(c.out, '\r', '\n')
}

// flush writes the commands that wait, in one piece.
func (c *client) flush(stage string, timeout time.Duration) *fault {
	if err := c.conn.SetWriteDeadline(deadline(timeout)); err != nil {
		return &fault{stage: stage, err: err, lost: true}
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		return c.lastWords(stage, err, 1)
	}
	return nil
}

// lastWords is the fault of a write that failed: a server that closes a
// connection has often said why, in one of the answers that were not read yet.
func (c *client) lastWords(stage string, err error, unread int) *fault {
	f := &fault{stage: stage, err: err, lost: true}
	if c.conn.SetReadDeadline(deadline(c.timeouts.Quit)) != nil && c.replies.in.Buffered() == 0 {
		return f
	}
	for ; unread > 0; unread-- {
		r, readErr := c.replies.read()
		if readErr != nil {
			return f
		}
		if r.temporary() || r.permanent() {
			f.reply = r.keep()
			return f
		}
	}
	return f
}

// read waits for one reply, bounded as a whole. 421 ends a connection wherever
// it comes (RFC 5321 section 3.8).
func (c *client) read(stage string, timeout time.Duration) (reply, *fault) {
	if err := c.conn.SetReadDeadline(deadline(timeout)); err != nil && c.replies.in.Buffered() == 0 {
		return reply{}, &fault{stage: stage, err: err, lost: true}
	}
	r, err := c.replies.read()
	if err != nil {
		return reply{}, &fault{stage: stage, err: err, lost: !errors.Is(err, errReply)}
	}
	if r.code == 421 {
		return r, c.refusal(r, stage)
	}
	return r, nil
}

// expect takes a reply of one code only.
func (c *client) expect(r reply, code int, stage string) *fault {
	if r.code == code {
		return nil
	}
	return c.refusal(r, stage)
}

// refusal ends the use of a connection because of what the server said.
func (c *client) refusal(r reply, stage string) *fault {
	return &fault{stage: stage, reply: r.keep(), lost: r.code == 421, unworthy: r.code == 521}
}

// reset makes the connection ready for the next transaction after one that was
// not brought to its end.
func (c *client) reset() *fault {
	r, f := c.command("RSET", c.timeouts.Reset, "RSET")
	if f != nil {
		return f
	}
	return c.expect(r, 250, "RSET")
}

// quit ends the connection with courtesy, but without long waiting.
func (c *client) quit() {
	c.command("QUIT", c.timeouts.Quit, "QUIT")
	c.close()
}

// deadline is when a stage that begins now must be over.
func deadline(timeout time.Duration) time.Time { return time.Now().Add(timeout) }
