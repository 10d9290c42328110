package smtpd

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// extensions are what EHLO announces, but for the last. Each is enforced.
func (c *conn) extensions() []string {
	list := []string{
		c.server.Hostname,
		"PIPELINING", // RFC 2920
		"SIZE " + strconv.FormatInt(c.maxMessage(), 10), // RFC 1870
		"8BITMIME", // RFC 6152
		"CHUNKING", // RFC 3030
		"SMTPUTF8", // RFC 6531
		"DSN",      // RFC 3461
		"LIMITS RCPTMAX=" + strconv.Itoa(c.maxRecipients()), // RFC 9422
	}
	if c.server.tls != nil && c.session.TLS == nil {
		list = append(list, "STARTTLS") // RFC 3207
	}
	if c.session.TLS != nil {
		list = append(list, "REQUIRETLS") // RFC 8689 section 2: inside TLS only
	}
	if c.authOffered() {
		list = append(list, "AUTH PLAIN LOGIN") // RFC 4954
	}
	return list
}

func (c *conn) authOffered() bool { return c.server.Authenticate != nil && c.session.TLS != nil }

func (c *conn) maxMessage() int64  { return cmp.Or(c.server.MaxMessageBytes, DefaultMaxMessageBytes) }
func (c *conn) maxRecipients() int { return cmp.Or(c.server.MaxRecipients, DefaultMaxRecipients) }

// mail answers MAIL: a new transaction.
func (c *conn) mail(ctx context.Context, args string) bool {
	c.idleCommands = 0
	if r := c.mayMail(); r != nil {
		c.mailRefused = true
		return c.refuse(r)
	}
	envelope, size, r := parseMail(args, offers{extended: c.session.EHLO, auth: c.authOffered(), secure: c.session.TLS != nil})
	if r == nil && size > c.maxMessage() {
		r = mail.MessageTooBig.Because("SIZE=%d", size)
	}
	if c.mailRefused = r != nil; r != nil {
		return c.refuse(r)
	}
	now := time.Now()
	t := &Transaction{ID: mail.NewID(now), Session: &c.session, Started: now, Envelope: envelope, DeclaredSize: size}
	c.server.Counters.Transactions.Add(1)
	if r := c.server.Handler.Mail(ctx, t); r != nil {
		c.mailRefused = true
		return c.answer(r, t.ID)
	}
	c.tx, c.swallowed = t, 0
	return c.reply("250 2.1.0 Sender accepted")
}

// mayMail says what is missing before a transaction can begin.
func (c *conn) mayMail() *mail.Refusal {
	switch {
	case c.session.Helo == "" || c.tx != nil:
		return mail.BadSequence
	case c.isStopping():
		return mail.ShuttingDown
	case c.session.Mode != Submission:
		return nil
	case c.session.TLS == nil:
		return mail.TLSRequired
	case c.session.Username != "":
		return nil
	case c.server.CertificateSource != nil && c.server.CertificateSource(&c.session):
		return nil
	}
	return mail.AuthRequired
}

// rcpt answers RCPT: one more recipient.
func (c *conn) rcpt(ctx context.Context, args string) bool {
	if c.tx == nil {
		return c.refuseOutOfOrder()
	}
	if c.chunked != nil {
		return c.refuse(mail.BadSequence.Because("RCPT behind BDAT"))
	}
	rcpt, r := parseRcpt(args, offers{extended: c.session.EHLO, utf8: c.tx.Envelope.UTF8}, c.server.Hostname)
	if r == nil && len(c.tx.Envelope.Recipients) >= c.maxRecipients() {
		r = mail.TooManyRecipients
	}
	if r != nil {
		c.tx.refused++
		return c.refuse(r)
	}
	if r := c.server.Handler.Rcpt(ctx, c.tx, rcpt); r != nil {
		c.tx.refused++
		return c.answer(r, c.tx.ID)
	}
	c.tx.Envelope.Recipients = append(c.tx.Envelope.Recipients, rcpt)
	return c.reply("250 2.1.5 Recipient accepted")
}

// refuseOutOfOrder answers RCPT or DATA without a transaction.
func (c *conn) refuseOutOfOrder() bool {
	if c.mailRefused {
		return c.refuseFreely(mail.BadSequence.Because("the transaction was refused"))
	}
	return c.refuse(mail.BadSequence)
}

// data answers DATA: it reads the message and hands it over.
func (c *conn) data(ctx context.Context, args string) bool {
	switch {
	case len(c.wire.buffered()) > 0:
		// DATA is the last command of a group (RFC 2920 section 3.1). What follows it
		// before the 354 would become commands, were DATA refused.
		c.linger = true
		c.refuse(mail.BadSequence.Because("input behind DATA, before its 354"))
		return false
	case args != "":
		return c.refuse(mail.ArgumentSyntax)
	case c.tx == nil:
		return c.refuseOutOfOrder()
	case c.chunked != nil: // RFC 3030 section 2: never both in one transaction
		return c.abandon(mail.BadSequence.Because("DATA behind BDAT"), c.refuse)
	case len(c.tx.Envelope.Recipients) == 0 && c.tx.refused > 0:
		return c.refuseFreely(mail.NoValidRecipients)
	case len(c.tx.Envelope.Recipients) == 0:
		return c.refuse(mail.BadSequence.Because("no RCPT"))
	}
	if !c.reply("354 End data with <CR><LF>.<CR><LF>") {
		return false
	}
	received, r, ended := c.receive()
	if !ended {
		return c.dataEnded(r)
	}
	if r != nil {
		goOn := c.refuseFreely(r)
		c.reset()
		return goOn
	}
	return c.handOver(ctx, received)
}

// dataEnded ends a connection inside message data: what follows cannot be told
// from commands any more. r is what the peer is to hear, if anything.
func (c *conn) dataEnded(r *mail.Refusal) bool {
	c.linger = true
	if r != nil {
		c.refuseFreely(r)
	}
	return false
}

// handOver gives the message to the Handler. Only a receipt is a 250.
func (c *conn) handOver(ctx context.Context, m *Received) bool {
	defer func() { _ = m.Body.Close() }() // at most a file without a name
	t := c.tx
	receipt, r := c.server.Handler.Data(ctx, t, m)
	switch {
	case r != nil:
		c.reset()
		return c.answer(r, t.ID)
	case receipt.IsZero() || receipt.ID() != t.ID:
		goOn := c.refuseFreely(mail.Internal.Because("the receipt is for %q", receipt.ID()))
		c.reset()
		return goOn
	}
	c.reset()
	c.errors = 0
	c.server.Counters.Kept.Add(1)
	return c.reply(keptReply(receipt))
}

// keptReply is the 250 for a receipt. Of a message that waits for a person the
// peer is told so, with the reason where refusals have theirs.
func keptReply(r custody.Receipt) string {
	if r.Detained() {
		return "250 2.0.0 Kept for a person to judge, not sent before [" + string(mail.ReasonHeld) + " id=" + string(r.ID()) + "]"
	}
	return "250 2.0.0 Kept id=" + string(r.ID())
}

// receive reads the data of the open transaction. ended: its end was read, and
// commands follow; otherwise the connection is of no more use. r is why there is
// no message.
func (c *conn) receive() (received *Received, r *mail.Refusal, ended bool) {
	m := c.newMessage()
	taken := false
	defer func() {
		if !taken {
			m.drop()
		}
	}()
	var d decoder
	if r, ended = c.readData(&d, m); !ended || r != nil {
		return nil, r, ended
	}
	if r := m.refusal(d.tooLong); r != nil {
		return nil, r, true
	}
	taken = true
	return m.received(), nil, true
}

// newMessage is an empty message within the limits of the server.
func (c *conn) newMessage() *message {
	return &message{
		limits: mail.HeaderLimits{
			Bytes:  cmp.Or(c.server.MaxHeaderBytes, DefaultMaxHeaderBytes),
			Fields: cmp.Or(c.server.MaxHeaderFields, DefaultMaxHeaderFields),
		},
		maximum: c.maxMessage(),
		depth:   c.server.MaxMIMEDepth,
		body:    mail.BodyWriter{Dir: c.server.SpoolDir, Threshold: cmp.Or(c.server.SpoolThreshold, DefaultSpoolThreshold)},
	}
}

// refusal says why what has arrived of a message can never be handed over.
func (m *message) refusal(tooLong bool) *mail.Refusal {
	switch {
	case m.size > m.maximum:
		return mail.MessageTooBig.Because("%d octets, the limit is %d", m.size, m.maximum)
	case tooLong:
		return mail.LineTooLong
	case m.parts != nil && errors.Is(m.parts.Err(), mail.ErrMIMETooDeep):
		return mail.MIMETooDeep.Because("%v", m.parts.Err())
	case m.parts != nil && m.parts.Err() != nil:
		return mail.HeaderTooBig.Because("%v", m.parts.Err())
	case errors.Is(m.err, syscall.ENOSPC):
		return mail.DiskFull.Because("spool: %v", m.err)
	case m.err != nil:
		return mail.CustodyFailed.Because("spool: %v", m.err)
	}
	return nil
}

// readData decodes what arrives until the end of the data. A message over the
// limit is swallowed up to as much again, to be answered when it ends.
func (c *conn) readData(d *decoder, m *message) (r *mail.Refusal, ended bool) {
	c.wire.enlarge()
	defer c.wire.shrink()
	p, consumed := pace{}, int64(0)
	for {
		n, done, err := d.decode(c.wire.buffered(), m.take)
		if err != nil {
			return mail.BareNewline, false
		}
		c.wire.r += n
		consumed += int64(n)
		switch {
		case done:
			return nil, true
		case consumed/2 > m.maximum:
			return mail.MessageTooBig.Because("%d octets and no end, the limit is %d", consumed, m.maximum), false
		}
		if err := c.more(&p); err != nil {
			return c.readFailed(err), false
		}
	}
}

// pace is how much arrived in the current window of time.
type pace struct {
	started time.Time // of the first window
	octets  int
	armed   bool
}

var errTooSlow = errors.New("too slow")

// more reads what comes next of the data. The deadline is set once a window, and
// only when it has passed the pace is judged: reads can be taken up again after a
// deadline, with TLS too.
func (c *conn) more(p *pace) error {
	for {
		if !p.armed {
			if err := c.arm(c.timeouts.DataWindow); err != nil {
				return err
			}
			*p = pace{started: p.started, armed: true}
			if p.started.IsZero() {
				p.started = time.Now()
			}
		}
		before := len(c.wire.buffered())
		err := c.wire.fill()
		if err == nil {
			p.octets += len(c.wire.buffered()) - before
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		began := p.started
		if c.tx != nil {
			began = c.tx.Started
		}
		late := time.Since(began) >= c.timeouts.Transaction
		least := float64(c.timeouts.MinimumRate) * c.timeouts.DataWindow.Seconds()
		if late || float64(p.octets) < least {
			return errTooSlow
		}
		p.armed = false
	}
}

// readFailed words the end of a connection inside DATA, if anybody is to hear it.
func (c *conn) readFailed(err error) *mail.Refusal {
	if errors.Is(err, errTooSlow) {
		return mail.ConnectionTooSlow
	}
	id := c.session.ID
	if c.tx != nil {
		id = c.tx.ID
	}
	c.server.log().Info("smtp: connection lost inside message data, the message is not taken",
		"session", c.session.ID, "id", id, "peer", c.session.Peer, "error", err)
	return nil
}
