package delivery

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// chunkHead is the room for the command before a chunk.
const chunkHead = 32

// chunkWindow is how many chunks may be on their way without an answer: what
// answers them fits into any buffer, and a refusal is heard before much is sent.
const chunkWindow = 4

// sendChunks writes the message with BDAT (RFC 3030 section 2): its exact octets
// in chunks of one buffer, several on their way where the server takes commands
// in groups. Each chunk is read and checked before it is announced. Before the
// last is written nothing is handed over.
//
// A server that offers CHUNKING and does not know BDAT would take the content
// for commands: the connection ends at once, and another goes without.
func (t *transaction) sendChunks() *fault {
	buf := contentBuffers.Get().(*[]byte)
	defer contentBuffers.Put(buf)
	window := 0
	if t.ext.pipelining {
		window = chunkWindow
	}
	if t.replies.in.Buffered() > 0 { // it would be taken for the answer to a chunk
		return &fault{stage: "BDAT", err: fmt.Errorf("%w: it answers what it was not asked", errReply)}
	}
	in := chunkReader{in: contentReader(t.Content), last: '\n'}
	unread := 0
	for last := false; !last; {
		var n int
		var err error
		if n, last, err = in.read((*buf)[chunkHead:cap(*buf)]); err != nil {
			t.decideAll(t.blame(unreadable(err)))
			return &fault{stage: "content", err: err}
		}
		if _, err := (blockWriter{t.client}).Write(announced((*buf)[:chunkHead+n], last)); err != nil {
			return t.chunkLost(unread, last, err)
		}
		for unread++; unread > window && !last; unread-- {
			if f, refused := t.readChunk(unread - 1); f != nil || refused {
				return f
			}
		}
	}
	for ; unread > 1; unread-- {
		if f, refused := t.readChunk(unread - 1); f != nil || refused {
			return t.afterLast(f)
		}
	}
	return t.readEnd("BDAT")
}

// announced puts the command in front of a chunk, whose octets begin at
// chunkHead.
func announced(buf []byte, last bool) []byte {
	command := strconv.AppendInt(append(make([]byte, 0, chunkHead), "BDAT "...), int64(len(buf)-chunkHead), 10)
	if last {
		command = append(command, " LAST"...)
	}
	command = append(command, '\r', '\n')
	start := chunkHead - len(command)
	copy(buf[start:], command)
	return buf[start:]
}

// unreadable is the result of content that cannot be sent.
func unreadable(err error) Result {
	if errors.Is(err, errContent) {
		return failed("5.6.0", "not sent: %v", err)
	}
	return deferred("4.3.0", "the stored message could not be read: %v", err)
}

// chunkLost is the end after a chunk that could not be written. The server has
// often said why.
func (t *transaction) chunkLost(unread int, last bool, err error) *fault {
	f := t.lastWords("BDAT", err, unread+1)
	if f.reply.Code != 0 && f.reply.Code != 421 {
		t.decideAll(t.verdict(f.reply))
	}
	if last { // it may have got all of it
		return t.afterLast(f)
	}
	return f
}

// afterLast decides everybody: the last chunk was written, and what became of
// the message is not known, unless the server said so.
func (t *transaction) afterLast(f *fault) *fault {
	switch {
	case f == nil || f.noChunks:
	case f.reply.Code == 0:
		t.decideAll(t.blame(confirmationLost(f)))
	default:
		t.decideAll(t.verdict(f.reply))
	}
	return f
}

// readChunk reads the answer to a chunk that is not the last. A refusal is about
// the whole message: after it the answers to the chunks behind it are of no
// interest, and the connection is made ready for the next.
func (t *transaction) readChunk(behind int) (f *fault, refused bool) {
	r, f := t.read("BDAT", t.timeouts.End)
	switch {
	case f != nil:
		return f, false
	case r.intermediate():
		return t.confused(r, "BDAT"), false
	case r.positive():
		t.chunked = true
		return nil, false
	case t.unknown(r):
		return t.withoutChunks(r), false
	}
	t.decideAll(t.verdict(r.keep()))
	for ; behind > 0; behind-- {
		if _, f := t.read("BDAT", t.timeouts.End); f != nil {
			return f, true
		}
	}
	return t.reset(), true
}

// unknown says that the server does not know BDAT though it offers it: that it
// never took a chunk, and calls the command wrong, not the message.
func (t *transaction) unknown(r reply) bool {
	return !t.chunked && (r.code == 500 || r.code == 502 || r.code == 503 || r.code == 504)
}

func (t *transaction) withoutChunks(r reply) *fault {
	return &fault{stage: "BDAT", reply: r.keep(), noChunks: true}
}

// contentReader reads header and body as one.
func contentReader(c Content) io.Reader {
	return io.MultiReader(bytes.NewReader(c.Header()), c.Body())
}

// chunkReader cuts content into chunks and checks that it is made of CRLF lines:
// chunks could bear anything, but a hop after the next may not.
type chunkReader struct {
	in   io.Reader
	last byte          // the octet before the next one
	next *bufio.Reader // in, once the first chunk did not hold all
}

// read fills p as far as there is content, and says whether it was the last.
func (c *chunkReader) read(p []byte) (n int, last bool, err error) {
	if c.next != nil {
		n, err = io.ReadFull(c.next, p)
	} else {
		n, err = io.ReadFull(c.in, p)
	}
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		last = true
	case err != nil:
		return 0, false, readError{err}
	default:
		if c.next == nil {
			c.next = bufio.NewReader(c.in)
		}
		_, err = c.next.Peek(1)
		if last = err == io.EOF; err != nil && !last {
			return 0, false, readError{err}
		}
	}
	if n > 0 {
		if !madeOfLines(c.last, p[:n]) {
			return 0, false, errContent
		}
		c.last = p[n-1]
	}
	if last && c.last != '\n' {
		return 0, false, errContent
	}
	return n, last, nil
}
