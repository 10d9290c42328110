package smtpd

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"anechoic/mail"
)

// maxIdleCommands is how many commands that bring nothing (NOOP, RSET, EHLO and
// their like) may stand between two MAIL commands.
const maxIdleCommands = 100

// conn is one connection and its one goroutine.
type conn struct {
	server   *Server
	wire     *wire
	timeouts Timeouts
	session  Session
	tx       *Transaction // the open transaction
	chunked  *chunked     // what came of its message by BDAT

	// mailRefused says that the last MAIL, or a chunk of its message, was refused:
	// what was pipelined behind it is out of order by no new fault.
	mailRefused  bool
	swallowed    int64 // octets of chunks thrown away since the last MAIL
	errors       int   // spent of the budget
	authFailures int
	idleCommands int
	linger       bool         // the last reply must reach a peer that still writes
	counted      netip.Prefix // the peer this connection counts for; server.mu

	mu       sync.Mutex // guards what follows
	stopping bool       // Shutdown was called
	idle     bool       // waiting while no transaction is open
}

func newConn(s *Server, raw net.Conn, mode Mode) *conn {
	now := time.Now()
	c := &conn{server: s, wire: newWire(raw), timeouts: s.Timeouts.withDefaults()}
	c.wire.writeTimeout = c.timeouts.Write
	c.session = Session{
		ID: mail.NewID(now), Mode: mode, Started: now,
		Peer: addrPort(raw.RemoteAddr()), Local: addrPort(raw.LocalAddr()),
	}
	return c
}

// serve is the life of a connection.
func (c *conn) serve(ctx context.Context) {
	defer c.server.dismiss(c)
	defer func() { c.wire.close(c.linger) }()
	defer c.reset()
	defer c.recoverPanic()
	if !c.open() {
		return
	}
	for c.next(ctx) {
	}
}

// recoverPanic ends the connection of a session that panicked, in our code or in
// the Handler's. What it was about was not kept: a Receipt would have been
// answered.
func (c *conn) recoverPanic() {
	p := recover()
	if p == nil {
		return
	}
	c.server.Counters.Panics.Add(1)
	c.server.log().Error("smtp: panic in a session; its connection is closed, please report this",
		"session", c.session.ID, "peer", c.session.Peer, "panic", mail.PanicText(p), "stack", string(debug.Stack()))
	defer func() {
		if recover() != nil { // the Refused hook panics too
			c.server.Counters.Panics.Add(1)
		}
	}()
	c.linger = true
	c.refuseFreely(mail.Internal.Because("panic, see the log"))
}

// open does what comes before the first command.
func (c *conn) open() bool {
	if c.session.Mode == Proxy && !c.readProxy() {
		return false
	}
	if !c.server.countPeer(c) {
		c.refuseFreely(mail.TooManyConnections.Because("from %s", peerNetwork(c.session.Peer.Addr())))
		return false
	}
	if c.session.Mode == ImplicitTLS && !c.startTLS() {
		return false
	}
	return c.reply("220 " + c.server.Hostname + " ESMTP")
}

// readProxy reads the header that a balancer must send, and takes from it who
// the peer is. What was read behind it is the peer's.
func (c *conn) readProxy() bool {
	c.session.Balancer = c.session.Peer
	if !trusted(c.server.ProxyFrom, c.session.Balancer.Addr()) {
		return c.refuseFreely(mail.ProxyHeaderMissing.Because("%s is not one of the trusted balancers", c.session.Balancer.Addr()))
	}
	if err := c.arm(c.timeouts.ProxyHeader); err != nil {
		return c.lineFailed(err)
	}
	r := bufio.NewReaderSize(c.wire.raw, commandBuffer)
	p, err := readProxyHeader(r)
	if err != nil {
		return c.refuseFreely(mail.ProxyHeaderMissing.Because("%v", err))
	}
	behind, _ := r.Peek(r.Buffered())
	c.wire.w = copy(c.wire.buf, behind)
	c.session.BalancerItself = p.itself
	if !p.itself {
		c.session.Peer, c.session.Local = p.peer, p.local
	}
	return true
}

// startTLS makes the handshake, and forgets what was said before it (RFC 3207
// section 4.2).
func (c *conn) startTLS() bool {
	if c.server.tls == nil {
		c.server.log().Error("smtp: a port with implicit TLS has no certificate", "local", c.session.Local)
		return false
	}
	if c.arm(c.timeouts.Handshake) != nil || c.wire.raw.SetWriteDeadline(time.Now().Add(c.timeouts.Handshake)) != nil {
		return false
	}
	t := tls.Server(c.wire.raw, c.server.tls)
	if err := t.Handshake(); err != nil {
		return c.handshakeFailed(err)
	}
	c.wire.conn = t
	state := t.ConnectionState()
	c.session.TLS = &state
	c.session.Helo, c.session.EHLO, c.session.Username = "", false, ""
	c.reset()
	return true
}

func (c *conn) handshakeFailed(err error) bool {
	c.server.Counters.HandshakesFailed.Add(1)
	c.server.log().Info("smtp: TLS handshake failed", "session", c.session.ID, "peer", c.session.Peer, "error", err)
	var plain tls.RecordHeaderError
	if c.session.Mode == ImplicitTLS && errors.As(err, &plain) && plain.Conn != nil {
		c.linger = true
		c.refuseFreely(mail.ImplicitTLSExpected)
	}
	return false
}

// stop asks the session to end: at once if it is idle, else when its transaction
// ends.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if c.idle {
		_ = c.wire.raw.SetReadDeadline(time.Unix(1, 0)) // past: wakes the read
	}
}

func (c *conn) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

var errShuttingDown = errors.New("the server stops")

// arm sets the deadline of the reads that follow: after d, but not past the time
// that the open transaction has. Without a transaction it fails once the server
// stops.
func (c *conn) arm(d time.Duration) error {
	deadline := time.Now().Add(d)
	if c.tx != nil {
		if last := c.tx.Started.Add(c.timeouts.Transaction); last.Before(deadline) {
			deadline = last
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = c.tx == nil
	if c.idle && c.stopping {
		return errShuttingDown
	}
	return c.wire.raw.SetReadDeadline(deadline)
}

// readLine gives the next command line. Its deadline is for the whole line, so
// that single octets win no time, and is set only if something must be read.
func (c *conn) readLine(limit func(start []byte) int) (string, error) {
	c.wire.shrink()
	for armed := false; ; {
		line, complete, err := c.wire.cutLine(limit)
		if complete || errors.Is(err, errBareNewline) {
			return string(line), err
		}
		if !armed {
			if err := c.arm(c.timeouts.Command); err != nil {
				return "", err
			}
			armed = true
		}
		if err != nil { // too long
			return "", cmp.Or(c.wire.swallowLine(), err)
		}
		if err := c.wire.fill(); err != nil {
			return "", err
		}
	}
}

// lineFailed answers a line that was not read, if there is somebody to answer.
func (c *conn) lineFailed(err error) bool {
	switch {
	case errors.Is(err, errBareNewline):
		return c.refuse(mail.BareNewline.Because("in a command"))
	case errors.Is(err, errLineTooLong):
		return c.refuse(mail.CommandTooLong)
	case errors.Is(err, errEndlessLine):
		c.linger = true
		c.refuse(mail.CommandTooLong)
	case errors.Is(err, errShuttingDown), errors.Is(err, os.ErrDeadlineExceeded) && c.isStopping():
		c.refuseFreely(mail.ShuttingDown)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.refuseFreely(mail.ConnectionTimeout)
	}
	return false
}

func commandLimit(start []byte) int {
	if len(start) >= 5 && strings.EqualFold(string(start[:5]), "AUTH ") {
		return maxAuthLine
	}
	return maxCommandLine
}

// next reads one command and answers it. False: the connection ends.
func (c *conn) next(ctx context.Context) bool {
	line, err := c.readLine(commandLimit)
	if err != nil {
		return c.lineFailed(err)
	}
	verb, args := splitVerb(line)
	switch verb {
	case "MAIL":
		return c.mail(ctx, args)
	case "RCPT":
		return c.rcpt(ctx, args)
	case "DATA":
		return c.data(ctx, args)
	case "BDAT":
		return c.bdat(ctx, args)
	case "QUIT":
		if args != "" {
			return c.refuse(mail.ArgumentSyntax)
		}
		c.reply("221 2.0.0 Bye")
		return false
	}
	if c.idleCommands++; c.idleCommands > maxIdleCommands {
		return c.refuseFreely(mail.TooManyErrors.Because("%d commands without MAIL", c.idleCommands))
	}
	if hasControl(line) {
		return c.refuse(mail.ArgumentSyntax.Because("a control character"))
	}
	return c.other(ctx, verb, args)
}

// other answers the commands that carry no mail.
func (c *conn) other(ctx context.Context, verb, args string) bool {
	switch verb {
	case "EHLO", "HELO":
		return c.hello(verb == "EHLO", args)
	case "STARTTLS":
		return c.starttls(args)
	case "AUTH":
		return c.auth(ctx, args)
	case "RSET":
		if args != "" {
			return c.refuse(mail.ArgumentSyntax)
		}
		c.reset()
		return c.reply("250 2.0.0 Reset")
	case "NOOP":
		return c.reply("250 2.0.0 Nothing done")
	case "VRFY": // RFC 5321 section 7.3: nothing is told, and the command is there
		return c.reply("252 2.5.0 Send mail to find out")
	case "HELP":
		return c.reply("214 2.0.0 See RFC 5321")
	case "EXPN", "ETRN", "TURN", "SEND", "SAML", "SOML":
		return c.refuse(mail.CommandNotOffered)
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT": // a browser that was sent here
		c.linger = true
		c.refuse(mail.CommandUnknown)
		return false
	}
	return c.refuse(mail.CommandUnknown)
}

// hello answers EHLO and HELO (RFC 5321 section 4.1.1.1).
func (c *conn) hello(extended bool, name string) bool {
	if !validHelo(name) {
		return c.refuse(mail.ArgumentSyntax.Because("the name of the peer"))
	}
	c.reset()
	c.session.Helo, c.session.EHLO = name, extended
	if !extended {
		return c.reply("250 " + c.server.Hostname)
	}
	for _, extension := range c.extensions() {
		c.reply("250-" + extension)
	}
	return c.reply("250 ENHANCEDSTATUSCODES")
}

// starttls answers STARTTLS (RFC 3207). Nothing may follow it before the
// handshake: it would be plain text that is taken for protected.
func (c *conn) starttls(args string) bool {
	switch {
	case args != "":
		return c.refuse(mail.ArgumentSyntax)
	case c.session.TLS != nil:
		return c.refuse(mail.BadSequence.Because("TLS is there already"))
	case c.server.tls == nil:
		return c.refuse(mail.CommandNotOffered)
	case len(c.wire.buffered()) > 0:
		c.linger = true
		c.refuse(mail.PipelinedTLS)
		return false
	}
	return c.reply("220 2.0.0 Ready to start TLS") && c.wire.flush() == nil && c.startTLS()
}

// reset forgets the transaction (RFC 5321 section 4.1.1.5).
func (c *conn) reset() {
	if c.chunked != nil {
		c.chunked.message.drop()
	}
	c.tx, c.chunked = nil, nil
	c.mailRefused = false
}

// reply answers with a 2yz or 3yz line. False: the peer is gone.
func (c *conn) reply(line string) bool { return c.wire.write(line) == nil }

// refuse is a refusal of the server's own. A protocol error spends of the budget.
func (c *conn) refuse(r *mail.Refusal) bool {
	if reason := r.Reason(); reason == mail.ReasonSyntax || reason == mail.ReasonBadSequence {
		c.errors++
	}
	if budget := cmp.Or(c.server.ErrorBudget, DefaultErrorBudget); c.errors > budget {
		r = mail.TooManyErrors.Because("more than %d, the last: %s", budget, r)
	}
	return c.refuseFreely(r)
}

// refuseFreely is a refusal of the server's own that is no fault of the
// protocol's: it does not spend.
func (c *conn) refuseFreely(r *mail.Refusal) bool {
	id := c.session.ID
	if c.tx != nil {
		id = c.tx.ID
	}
	if c.server.Refused != nil {
		c.server.Refused(&c.session, c.tx, id, r)
	}
	return c.answer(r, id)
}

// answer sends a refusal. A peer that expects TLS and has none yet gets none.
func (c *conn) answer(r *mail.Refusal, id mail.ID) bool {
	c.server.Counters.Refused.Add(1)
	if c.session.Mode == ImplicitTLS && c.session.TLS == nil && r.Code() != mail.ImplicitTLSExpected.Code() {
		return false
	}
	switch r.Reason() {
	case mail.ReasonShuttingDown, mail.ReasonTimeout, mail.ReasonTooManyConnections: // the peer is silent, or one too many to wait for
	default:
		c.linger = c.linger || r.Closes()
	}
	return c.reply(r.Line(id)) && !r.Closes()
}

// refuseOutright refuses a connection that was not admitted, without a goroutine
// and without waiting for it.
func (c *conn) refuseOutright(r *mail.Refusal) {
	c.wire.writeTimeout = time.Second
	c.refuseFreely(r)
	c.wire.close(false)
}
