package delivery

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"anechoic/mail"
)

// pipelineBatch is how many commands are written before their replies are read.
// It bounds what waits unread on the server's side, so that neither side blocks
// the other (RFC 2920 section 3.1).
const pipelineBatch = 100

// contentBuffer is the size of one write of content: small messages go in one.
const contentBuffer = 64 << 10

var contentBuffers = sync.Pool{New: func() any { b := make([]byte, 0, contentBuffer); return &b }}

// transaction is one MAIL to its end on one connection.
type transaction struct {
	*client
	*journey
	recipients []int // the indices of results this transaction is about, each fit for the server
	utf8       bool  // SMTPUTF8 is given
	later      []int // recipients the server wants in another transaction
}

// run hands the message over. It decides every recipient it is about, or leaves
// them undecided and gives the fault that stopped it: then nothing was handed
// over and another host may be tried.
func (t *transaction) run() *fault {
	t.utf8 = t.needsUTF8()
	t.messages++
	if t.probing {
		return t.ask()
	}
	offer := t.offerStepwise
	if t.ext.pipelining {
		offer = t.offerPipelined
	}
	data, f := offer()
	switch {
	case f != nil:
		return f
	case data.Code == 0 && t.wanted(): // the content goes in chunks
		return t.sendChunks()
	case data.Code == 0: // DATA was not sent: nobody to send it for
		return t.reset()
	case data.Code != 354:
		t.decideAll(t.verdict(data))
		return t.reset()
	case !t.wanted():
		return t.sendNothing()
	}
	return t.sendContent()
}

// ask says MAIL and each RCPT, and takes them back.
func (t *transaction) ask() *fault {
	t.queueMail()
	if f := t.flush("MAIL", t.timeouts.Mail); f != nil {
		return f
	}
	ok, f := t.readMail()
	if f != nil {
		return f
	}
	for _, i := range t.recipients {
		if !ok { // it may refuse us, or everybody: that says nothing of a recipient
			t.results[i].Status = Deferred
			continue
		}
		t.queueRcpt(i)
		if f := t.flush("RCPT", t.timeouts.Rcpt); f != nil {
			return f
		}
		if f := t.readRcpt(i); f != nil {
			return f
		}
		if t.results[i].Status == Undecided {
			t.results[i] = t.blame(Result{Status: Delivered, Enhanced: "2.1.5", Reply: "the recipient is accepted"})
		}
	}
	return t.reset()
}

// needsUTF8 says that the header or an address is outside ASCII.
func (t *transaction) needsUTF8() bool {
	if t.utf8Header || !t.Envelope.From.IsASCII() {
		return true
	}
	for _, i := range t.recipients {
		if !t.Envelope.Recipients[i].Address.IsASCII() {
			return true
		}
	}
	return false
}

// delivered says that some recipient got the message: then it is worth to try
// those that the server put off in another transaction.
func (t *transaction) delivered() bool {
	for _, i := range t.recipients {
		if t.results[i].Status == Delivered {
			return true
		}
	}
	return false
}

// offerStepwise says MAIL, each RCPT and DATA, one after the other. The zero
// Reply means that DATA was not sent.
func (t *transaction) offerStepwise() (Reply, *fault) {
	t.queueMail()
	if f := t.flush("MAIL", t.timeouts.Mail); f != nil {
		return Reply{}, f
	}
	ok, f := t.readMail()
	if f != nil || !ok {
		return Reply{}, f
	}
	for _, i := range t.recipients {
		t.queueRcpt(i)
		if f := t.flush("RCPT", t.timeouts.Rcpt); f != nil {
			return Reply{}, f
		}
		if f := t.readRcpt(i); f != nil {
			return Reply{}, f
		}
	}
	if !t.wanted() || t.ext.chunking {
		return Reply{}, nil
	}
	t.queue("DATA")
	if f := t.flush("DATA", t.timeouts.DataStart); f != nil {
		return Reply{}, f
	}
	return t.readData()
}

// offerPipelined writes MAIL, RCPTs and DATA in as few pieces as may be and then
// reads the replies (RFC 2920). DATA goes with the last piece, so it may be
// answered though nobody wants the message. With CHUNKING the content waits until
// it is known who does: that costs no more round trips.
func (t *transaction) offerPipelined() (Reply, *fault) {
	t.queueMail()
	mailRead, mailOK := false, false
	for rest := t.recipients; len(rest) > 0; {
		batch := rest[:min(pipelineBatch, len(rest))]
		rest = rest[len(batch):]
		for _, i := range batch {
			t.queueRcpt(i)
		}
		if len(rest) == 0 && !t.ext.chunking {
			t.queue("DATA")
		}
		if f := t.flush("MAIL", t.timeouts.Mail); f != nil {
			return Reply{}, f
		}
		if !mailRead {
			ok, f := t.readMail()
			if f != nil {
				return Reply{}, f
			}
			mailRead, mailOK = true, ok
		}
		for _, i := range batch {
			if f := t.readRcpt(i); f != nil {
				return Reply{}, f
			}
		}
		if !mailOK && len(rest) > 0 {
			return Reply{}, nil
		}
	}
	if t.ext.chunking {
		return Reply{}, nil
	}
	return t.readData()
}

func (t *transaction) queueMail() {
	env := &t.Envelope
	t.out = append(append(append(t.out, "MAIL FROM:<"...), env.From.String()...), '>')
	if t.ext.has {
		t.out = strconv.AppendInt(append(t.out, " SIZE="...), t.Size, 10)
	}
	if t.ext.eightBit && (t.eightBit || env.EightBit) {
		t.out = append(t.out, " BODY=8BITMIME"...)
	}
	if t.utf8 {
		t.out = append(t.out, " SMTPUTF8"...)
	}
	if t.security.Require && t.ext.requireTLS { // RFC 8689 section 3
		t.out = append(t.out, " REQUIRETLS"...)
	}
	if t.ext.dsn && (env.Ret == "FULL" || env.Ret == "HDRS") {
		t.out = append(append(t.out, " RET="...), env.Ret...)
	}
	if t.ext.dsn && isXtextLike(env.EnvID) {
		t.out = append(append(t.out, " ENVID="...), env.EnvID...)
	}
	t.queue()
}

func (t *transaction) queueRcpt(i int) {
	r := &t.Envelope.Recipients[i]
	t.out = append(append(append(t.out, "RCPT TO:<"...), r.Address.String()...), '>')
	if t.ext.dsn && r.Notify != 0 {
		t.out = append(append(t.out, " NOTIFY="...), notifyText(r.Notify)...)
	}
	if t.ext.dsn && isXtextLike(r.ORcpt) {
		t.out = append(append(t.out, " ORCPT="...), r.ORcpt...)
	}
	t.queue()
}

// notifyText is the value of NOTIFY= (RFC 3461 section 4.1).
func notifyText(n mail.Notify) string {
	if n&mail.NotifyNever != 0 {
		return "NEVER"
	}
	s := ""
	for _, w := range []struct {
		bit  mail.Notify
		word string
	}{{mail.NotifySuccess, "SUCCESS"}, {mail.NotifyFailure, "FAILURE"}, {mail.NotifyDelay, "DELAY"}} {
		if n&w.bit != 0 {
			s += "," + w.word
		}
	}
	return s[min(1, len(s)):]
}

// readMail reads the reply to MAIL; a refusal decides every recipient.
func (t *transaction) readMail() (ok bool, f *fault) {
	r, f := t.read("MAIL", t.timeouts.Mail)
	switch {
	case f != nil:
		return false, f
	case r.positive():
		return true, nil
	case r.intermediate():
		return false, t.confused(r, "MAIL")
	}
	t.decideAll(t.verdict(r.keep()))
	return false, nil
}

// readRcpt reads the reply to one RCPT; a refusal decides that recipient.
func (t *transaction) readRcpt(i int) *fault {
	r, f := t.read("RCPT", t.timeouts.Rcpt)
	switch {
	case f != nil:
		return f
	case r.intermediate():
		return t.confused(r, "RCPT")
	case !r.positive() && t.results[i].Status == Undecided:
		t.results[i] = t.verdict(r.keep())
		if r.code == 452 || r.code == 552 { // too many recipients; RFC 5321 section 4.5.3.1.10: 552 is to be treated as 452
			t.results[i].Status = Deferred
			t.later = append(t.later, i)
		}
	}
	return nil
}

// readData reads the reply to DATA. A server that answers 2yz has lost its way.
func (t *transaction) readData() (Reply, *fault) {
	r, f := t.read("DATA", t.timeouts.DataStart)
	switch {
	case f != nil:
		return Reply{}, f
	case r.positive(), r.intermediate() && r.code != 354:
		return Reply{}, t.confused(r, "DATA")
	}
	return r.keep(), nil
}

func (t *transaction) confused(r reply, stage string) *fault {
	return &fault{stage: stage, err: fmt.Errorf("%w to %s: %s", errReply, stage, r.keep())}
}

// wanted says that a recipient of this transaction is still undecided.
func (t *transaction) wanted() bool {
	for _, i := range t.recipients {
		if t.results[i].Status == Undecided {
			return true
		}
	}
	return false
}

// sendNothing answers a 354 that nobody asked for with an empty message, which
// no recipient gets (RFC 2920 section 3.1).
func (t *transaction) sendNothing() *fault {
	_, f := t.command("end of data", t.timeouts.End, ".")
	return f
}

// sendContent writes the message and reads what the server makes of it. From
// here on there is no second host: the server may have taken the message even
// if its reply is lost.
func (t *transaction) sendContent() *fault {
	if f := t.writeContent(); f != nil {
		return f
	}
	if t.lmtp {
		return t.readEnds()
	}
	return t.readEnd("end of data")
}

// readEnds reads an answer for each recipient that the server took, in their order
// (RFC 2033 section 4.2).
func (t *transaction) readEnds() *fault {
	for _, i := range t.recipients {
		if t.results[i].Status != Undecided {
			continue
		}
		r, f := t.read("end of data", t.timeouts.End)
		switch {
		case f != nil && f.reply.Code == 0:
			t.decideAll(t.blame(confirmationLost(f)))
			return f
		case f != nil:
			t.decideAll(t.verdict(f.reply))
			return f
		case r.intermediate():
			confused := t.confused(r, "end of data")
			t.decideAll(t.blame(deferred("4.5.0", "%s", confused)))
			return confused
		}
		t.results[i] = t.verdict(r.keep())
	}
	return nil
}

// readEnd reads the answer to the whole message.
func (t *transaction) readEnd(stage string) *fault {
	r, f := t.read(stage, t.timeouts.End)
	switch {
	case f != nil && f.reply.Code == 0:
		t.decideAll(t.blame(confirmationLost(f)))
		return f
	case f != nil:
		t.decideAll(t.verdict(f.reply))
		return f
	case r.intermediate():
		confused := t.confused(r, stage)
		t.decideAll(t.blame(deferred("4.5.0", "%s", confused)))
		return confused
	case stage == "BDAT" && t.unknown(r):
		return t.withoutChunks(r)
	}
	t.decideAll(t.verdict(r.keep()))
	if stage == "BDAT" && r.positive() {
		t.chunked = true
	}
	if stage == "BDAT" && !r.positive() { // RFC 3030 section 2: the rest of the transaction is undefined then
		return t.reset()
	}
	return nil
}

func confirmationLost(f *fault) Result {
	return deferred("4.4.2", "the message was sent, but its confirmation was lost (%s): the recipient may get it twice", f)
}

// writeContent writes header and body with the final dot. If it fails, the
// final dot was not written.
func (t *transaction) writeContent() *fault {
	buf := contentBuffers.Get().(*[]byte)
	defer func() { contentBuffers.Put(buf) }()
	w := newDotWriter(blockWriter{t.client}, (*buf)[:0])
	err := copyContent(w, t.Content)
	if err == nil {
		err = w.Close()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errContent), errors.As(err, new(readError)):
		t.decideAll(t.blame(unreadable(err)))
	default:
		f := t.lastWords("content", err, 1)
		if f.reply.Code != 0 {
			t.decideAll(t.verdict(f.reply))
		}
		return f
	}
	return &fault{stage: "content", err: err}
}

// readError is an error of the store, not of the connection.
type readError struct{ error }

func copyContent(w *dotWriter, c Content) error {
	if _, err := w.Write(c.Header()); err != nil {
		return err
	}
	if body, ok := c.BodyInMemory(); ok {
		_, err := w.Write(body)
		return err
	}
	piece := contentBuffers.Get().(*[]byte)
	defer contentBuffers.Put(piece)
	for body := c.Body(); ; {
		n, err := body.Read((*piece)[:cap(*piece)])
		if _, err := w.Write((*piece)[:n]); err != nil {
			return err
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return readError{err}
		}
	}
}

// contentHasEightBit reads the content for octets outside ASCII.
func contentHasEightBit(c Content) (bool, error) {
	if hasEightBit(c.Header()) {
		return true, nil
	}
	if body, ok := c.BodyInMemory(); ok {
		return hasEightBit(body), nil
	}
	piece := contentBuffers.Get().(*[]byte)
	defer contentBuffers.Put(piece)
	for body := c.Body(); ; {
		n, err := body.Read((*piece)[:cap(*piece)])
		switch {
		case hasEightBit((*piece)[:n]):
			return true, nil
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, readError{err}
		}
	}
}

// blockWriter writes one block of content within its time.
type blockWriter struct{ c *client }

func (w blockWriter) Write(p []byte) (int, error) {
	if err := w.c.conn.SetWriteDeadline(deadline(w.c.timeouts.DataBlock)); err != nil {
		return 0, err
	}
	return w.c.conn.Write(p)
}

// decideAll gives result to every recipient of the transaction that has none.
func (t *transaction) decideAll(result Result) {
	for _, i := range t.recipients {
		if t.results[i].Status == Undecided {
			t.results[i] = result
		}
	}
}

// verdict is what a reply of the host means for a recipient.
func (t *transaction) verdict(r Reply) Result {
	result := t.blame(Result{Enhanced: r.Enhanced, Reply: r.String(), Said: true})
	switch r.Code / 100 {
	case 2:
		result.Status, result.Relayed = Delivered, !t.ext.dsn
	case 4:
		result.Status = Deferred
	case 5:
		result.Status = Failed
	}
	if result.Enhanced == "" {
		result.Enhanced = strconv.Itoa(r.Code/100) + ".0.0"
	}
	return result
}

// blame names the host in a result that is ours, and where it was asked from.
func (c *client) blame(r Result) Result {
	r.Host, r.Server, r.TLS, r.Egress = c.host, c.server, c.tls, c.egress
	return r
}
