package sink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	maxLine   = 64 << 10 // of a command or a line of content: more than RFC 5321 section 4.5.3.1 asks for
	maxHeader = 64 << 10 // kept of a header, for its stamp
	idle      = 5 * time.Minute
	parting   = time.Second // see part
)

// errOver ends a session whose last reply was said.
var errOver = errors.New("the session is over")

// session is one connection.
type session struct {
	sink  *Sink
	conn  net.Conn
	in    *bufio.Reader
	out   *bufio.Writer
	peer  netip.Addr
	taken int // messages

	from       string // of the transaction
	begun      bool   // MAIL was taken
	recipients int    // that were taken
}

func newSession(s *Sink, conn net.Conn, peer netip.Addr) *session {
	return &session{sink: s, conn: conn, in: bufio.NewReaderSize(conn, maxLine), out: bufio.NewWriter(conn), peer: peer}
}

// run speaks until either side ends it.
func (c *session) run() {
	defer c.part()
	a := c.sink.admit(c.peer)
	if a.Reply != "" {
		_ = c.answer(a, "")
		return
	}
	defer c.sink.left()
	err := c.answer(a, "220 "+c.sink.options.Domain+" ESMTP")
	for err == nil {
		var line []byte
		if line, err = c.line(); err == nil {
			err = c.command(string(bytes.TrimRight(line, "\r\n")))
		}
	}
}

// part sends what was said last, and reads for a moment what the client still
// sends: a connection closed with unread input takes its last reply with it.
func (c *session) part() {
	if c.out.Flush() != nil {
		return
	}
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil && c.conn.SetReadDeadline(time.Now().Add(parting)) == nil {
		_, _ = io.Copy(io.Discard, c.conn)
	}
}

// line reads one line, after everything said so far was sent if the client waits
// for it: a pipelined group is answered at once (RFC 2920 section 3.2).
func (c *session) line() ([]byte, error) {
	if buffered, _ := c.in.Peek(c.in.Buffered()); !bytes.Contains(buffered, []byte("\n")) {
		if err := c.out.Flush(); err != nil {
			return nil, err
		}
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
		return nil, err
	}
	return c.in.ReadSlice('\n')
}

// command does what one line asks for.
func (c *session) command(line string) error {
	verb, argument, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		c.reset()
		return c.say("250-" + c.sink.options.Domain + "\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME")
	case "HELO":
		c.reset()
		return c.say("250 " + c.sink.options.Domain)
	case "MAIL":
		return c.mail(argument)
	case "RCPT":
		return c.rcpt(argument)
	case "DATA":
		return c.data()
	case "RSET":
		c.reset()
		return c.say("250 2.0.0 ok")
	case "NOOP":
		return c.say("250 2.0.0 ok")
	case "QUIT":
		return errors.Join(c.say("221 2.0.0 bye"), errOver)
	}
	return c.say("500 5.5.2 not understood")
}

func (c *session) reset() { c.from, c.begun, c.recipients = "", false, 0 }

func (c *session) mail(argument string) error {
	if c.begun {
		return c.say("503 5.5.1 a transaction is open already")
	}
	c.from = path(argument)
	a := c.ask(Question{Stage: Sender})
	c.begun = a.Reply == ""
	return c.answer(a, "250 2.1.0 ok")
}

func (c *session) rcpt(argument string) error {
	if !c.begun {
		return c.say("503 5.5.1 MAIL first")
	}
	a := c.ask(Question{Stage: Recipient, To: path(argument)})
	if a.Reply == "" {
		c.recipients++
	}
	return c.answer(a, "250 2.1.5 ok")
}

func (c *session) data() error {
	if c.recipients == 0 {
		return c.say("554 5.5.1 no valid recipients")
	}
	if err := errors.Join(c.say("354 go"), c.out.Flush()); err != nil {
		return err
	}
	header, err := c.content()
	if err != nil {
		return err
	}
	a := c.ask(Question{Stage: Content})
	if !c.wait(a.After) {
		return errOver
	}
	a.After = 0
	if a.Reply == "" {
		c.sink.take(header)
		c.taken++
	}
	c.reset()
	return c.answer(a, "250 2.0.0 taken")
}

// content reads up to the final dot and gives the header.
func (c *session) content() (header []byte, err error) {
	inHeader := true
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return nil, errors.Join(io.ErrUnexpectedEOF, err)
		}
		text := bytes.TrimRight(line, "\r\n")
		if len(text) == 1 && text[0] == '.' {
			return header, nil
		}
		inHeader = inHeader && len(text) > 0 && len(header) < maxHeader
		if inHeader {
			header = append(header, line...)
		}
	}
}

// ask puts a question with what the session knows.
func (c *session) ask(q Question) Answer {
	q.Peer, q.From, q.Taken = c.peer, c.from, c.taken
	return c.sink.ask(q)
}

// answer says what a Behaviour wants, or yes.
func (c *session) answer(a Answer, yes string) error {
	if !c.wait(a.After) {
		return errOver
	}
	if a.Reply == "" {
		return c.say(yes)
	}
	err := c.say(a.Reply)
	if strings.HasPrefix(a.Reply, "421") { // RFC 5321 section 3.8
		err = errors.Join(err, c.out.Flush(), errOver)
	}
	return err
}

func (c *session) say(reply string) error {
	_, err := c.out.WriteString(reply + "\r\n")
	return err
}

// wait lets some time go by. It says false if the sink is closed meanwhile.
func (c *session) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	if c.out.Flush() != nil {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.sink.closing:
		return false
	}
}

// path takes the address out of "FROM:<a@b> SIZE=1".
func path(argument string) string {
	_, rest, _ := strings.Cut(argument, "<")
	address, _, _ := strings.Cut(rest, ">")
	return address
}
