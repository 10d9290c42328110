package smtpd

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"anechoic/mail"
)

// maxChunkDigits is the longest size that is read: enough for any that is
// swallowed. RFC 3030 section 2 has no bound.
const maxChunkDigits = 18

// chunked is a message that arrives by BDAT, between its chunks.
type chunked struct {
	message *message
	decoder decoder
	carry   []byte // of a line that the last chunk did not end; at most a line
	octets  int64  // of the chunks so far
}

// parseBDAT reads what follows "BDAT " (RFC 3030 section 2). The size is -1 if it
// cannot be read; a refusal beside a size is about what follows it.
func parseBDAT(args string) (size int64, last bool, r *mail.Refusal) {
	digits, word, more := strings.Cut(args, " ")
	if !isDigits(digits) || len(digits) > maxChunkDigits {
		return -1, false, mail.ChunkSizeSyntax.Because("%.30q", digits)
	}
	size, _ = strconv.ParseInt(digits, 10, 64) // of that many digits it fits
	if last = strings.EqualFold(word, "LAST"); more && !last {
		return size, false, mail.ArgumentSyntax.Because("behind the size of a chunk")
	}
	return size, last, nil
}

// bdat answers BDAT: it takes exactly as many octets as were announced, whatever
// becomes of them, because what follows them is a command. A refusal ends the
// transaction: a message with a hole is no message.
func (c *conn) bdat(ctx context.Context, args string) bool {
	size, last, r := parseBDAT(args)
	if size < 0 { // nobody knows where the next command begins
		c.linger = true
		c.refuse(r)
		return false
	}
	refuse := c.refuse
	if r == nil {
		r, refuse = c.mayChunk(size)
	}
	if r != nil {
		return c.swallowChunk(size) && c.abandon(r, refuse)
	}
	if c.chunked == nil {
		c.chunked = &chunked{message: c.newMessage(), decoder: decoder{chunked: true}}
	}
	if !c.readChunk(c.chunked, size) || last && !c.endChunks(c.chunked) {
		return false
	}
	if r := c.chunked.message.refusal(c.chunked.decoder.tooLong); r != nil {
		return c.abandon(r, c.refuseFreely)
	}
	if !last {
		return c.reply(fmt.Sprintf("250 2.0.0 %d octets taken", size))
	}
	m := c.chunked.message
	c.chunked = nil
	return c.handOver(ctx, m.received())
}

// mayChunk says why a chunk of that size may not come now, and how that is to be
// refused.
func (c *conn) mayChunk(size int64) (*mail.Refusal, func(*mail.Refusal) bool) {
	var before int64
	if c.chunked != nil {
		before = c.chunked.octets
	}
	if size == 0 {
		if c.idleCommands++; c.idleCommands > maxIdleCommands {
			return mail.TooManyErrors.Because("%d commands without content", c.idleCommands), c.refuseFreely
		}
	}
	switch {
	case c.tx == nil && c.mailRefused: // it was pipelined behind what was refused
		return mail.BadSequence.Because("the transaction was refused"), c.refuseFreely
	case c.tx == nil:
		return mail.BadSequence, c.refuse
	case len(c.tx.Envelope.Recipients) == 0 && c.tx.refused > 0:
		return mail.NoValidRecipients, c.refuseFreely
	case len(c.tx.Envelope.Recipients) == 0:
		return mail.BadSequence.Because("no RCPT"), c.refuse
	case size > c.maxMessage()-before:
		return mail.MessageTooBig.Because("chunks of %d octets and one of %d, the limit is %d", before, size, c.maxMessage()), c.refuseFreely
	}
	return nil, nil
}

// abandon refuses a chunk that was read, and with it the transaction. What was
// pipelined behind it is out of order by no new fault.
func (c *conn) abandon(r *mail.Refusal, refuse func(*mail.Refusal) bool) bool {
	goOn := refuse(r)
	begun := c.tx != nil || c.mailRefused
	c.reset()
	c.mailRefused = begun
	return goOn
}

// readChunk takes the octets of a chunk that is wanted. False: the connection is
// of no more use.
func (c *conn) readChunk(k *chunked, size int64) bool {
	k.octets += size
	return c.eachOctet(size, func(b []byte) *mail.Refusal {
		if k.take(b) != nil {
			return mail.BareNewline.Because("in a chunk")
		}
		return nil
	})
}

// swallowChunk throws the octets of a chunk away, as long as it comes with what
// was swallowed since the last MAIL to no more than twice the limit of a message.
func (c *conn) swallowChunk(size int64) bool {
	if c.swallowed += size; c.swallowed/2 > c.maxMessage() {
		c.linger = true
		c.refuseFreely(mail.MessageTooBig.Because("%d octets in vain, the limit is %d", c.swallowed, c.maxMessage()))
		return false
	}
	return c.eachOctet(size, func([]byte) *mail.Refusal { return nil })
}

// eachOctet reads exactly size octets, in pieces as they come. What take refuses
// ends the connection.
func (c *conn) eachOctet(size int64, take func([]byte) *mail.Refusal) bool {
	c.wire.enlarge()
	defer c.wire.shrink()
	for p := (pace{}); size > 0; {
		b := c.wire.buffered()
		if len(b) == 0 {
			if err := c.more(&p); err != nil {
				return c.dataEnded(c.readFailed(err))
			}
			continue
		}
		b = b[:min(int64(len(b)), size)]
		if r := take(b); r != nil {
			return c.dataEnded(r)
		}
		c.wire.r += len(b)
		size -= int64(len(b))
	}
	return true
}

// endChunks ends the message. A last line without CRLF gets one, before it is
// hashed and signed: DATA, by which it may leave, can end no other way (RFC 5321
// section 4.1.1.4). False: the connection is of no more use.
func (c *conn) endChunks(k *chunked) bool {
	if len(k.carry) > 0 && (bytes.HasSuffix(k.carry, cr) || k.take(crlf) != nil) {
		return c.dataEnded(mail.BareNewline.Because("at the end of the last chunk"))
	}
	return true
}

// take decodes the next octets of a chunk, all of them: a line that they do not
// end waits in carry.
func (k *chunked) take(b []byte) error {
	if len(k.carry) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		if end == 0 {
			end = len(b)
		}
		k.carry = append(k.carry, b[:end]...)
		b = b[end:]
		n, _, err := k.decoder.decode(k.carry, k.message.take)
		if err != nil {
			return err
		}
		k.carry = append(k.carry[:0], k.carry[n:]...)
	}
	n, _, err := k.decoder.decode(b, k.message.take)
	if err != nil {
		return err
	}
	k.carry = append(k.carry, b[n:]...)
	return nil
}
