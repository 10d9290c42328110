package smtpd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Sizes of our own: buffers, and how much is swallowed to answer politely.
const (
	commandBuffer = 4 << 10
	dataBuffer    = 32 << 10 // two TLS records
	replyBatch    = 4 << 10  // replies are sent at the latest when they come to this

	maxSwallowedLine = 64 << 10
	lingerTime       = time.Second
	lingerOctets     = 256 << 10
)

// Limits of one command line in octets, with its CRLF.
const (
	// maxCommandLine is the 512 of RFC 5321 section 4.5.3.1.4 and what SIZE, BODY,
	// AUTH= and DSN add (RFC 1870, 6152, 4954, 3461), rounded up.
	maxCommandLine = 2048
	maxAuthLine    = 12288 // RFC 4954 section 4
)

var (
	errBareNewline = errors.New("a CR or LF without the other, or a NUL")
	errLineTooLong = errors.New("line too long")
	errEndlessLine = errors.New("line without end")
)

var dataBuffers = sync.Pool{New: func() any { return new([dataBuffer]byte) }}

// wire is the octets of one connection in both directions. Replies gather in out
// and are sent before any read that may wait, so that pipelined commands are
// answered in one write and nobody waits for a reply that was never sent.
type wire struct {
	raw          net.Conn // for deadlines and for closing
	conn         net.Conn // raw, or TLS over it
	writeTimeout time.Duration

	buf   []byte // what was read: buf[r:w] is to be consumed
	r, w  int
	small []byte            // buf while no more is needed
	large *[dataBuffer]byte // from dataBuffers, while buf is it

	out []byte
}

func newWire(raw net.Conn) *wire {
	small := make([]byte, commandBuffer)
	return &wire{raw: raw, conn: raw, small: small, buf: small}
}

// buffered is what was read and not consumed.
func (w *wire) buffered() []byte { return w.buf[w.r:w.w] }

// fill sends what is to be sent, then reads what comes, at least one octet.
func (w *wire) fill() error {
	if err := w.flush(); err != nil {
		return err
	}
	w.w = copy(w.buf, w.buffered())
	w.r = 0
	if w.w == len(w.buf) {
		w.enlarge()
	}
	n, err := w.conn.Read(w.buf[w.w:])
	w.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// enlarge takes a large buffer, shrink gives it back as soon as what is buffered
// has room in the small one.
func (w *wire) enlarge() {
	if w.large != nil {
		return
	}
	w.large = dataBuffers.Get().(*[dataBuffer]byte)
	w.w = copy(w.large[:], w.buffered())
	w.r, w.buf = 0, w.large[:]
}

func (w *wire) shrink() {
	if w.large == nil || w.w-w.r > len(w.small) {
		return
	}
	w.w = copy(w.small, w.buffered())
	w.r, w.buf = 0, w.small
	dataBuffers.Put(w.large)
	w.large = nil
}

// cutLine takes a command line from what is buffered, without its CRLF. The line
// is valid until the next fill. No line: it is not complete yet. limit says how
// long a line that begins so may be.
func (w *wire) cutLine(limit func(start []byte) int) (line []byte, complete bool, err error) {
	b := w.buffered()
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > limit(b) {
			return nil, false, errLineTooLong
		}
		return nil, false, nil
	}
	w.r += end + 1
	if end == 0 || bytes.IndexByte(b[:end], '\r') != end-1 {
		return nil, false, errBareNewline
	}
	if end+1 > limit(b[:end]) {
		return nil, true, errLineTooLong
	}
	return b[:end-1], true, nil
}

// swallowLine reads past the end of a line that is too long.
func (w *wire) swallowLine() error {
	for swallowed := 0; swallowed < maxSwallowedLine; {
		b := w.buffered()
		if end := bytes.IndexByte(b, '\n'); end >= 0 {
			w.r += end + 1
			if end == 0 || bytes.IndexByte(b[:end], '\r') != end-1 {
				return errBareNewline
			}
			return nil
		}
		keep := min(1, len(b)) // it may be the CR
		if bytes.IndexByte(b[:len(b)-keep], '\r') >= 0 {
			return errBareNewline
		}
		swallowed += len(b) - keep
		w.r += len(b) - keep
		if err := w.fill(); err != nil {
			return err
		}
	}
	return errEndlessLine
}

// write adds a reply line; CRLF is added.
func (w *wire) write(line string) error {
	w.out = append(append(w.out, line...), "\r\n"...)
	if len(w.out) < replyBatch {
		return nil
	}
	return w.flush()
}

// flush sends the replies.
func (w *wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	if err := w.raw.SetWriteDeadline(time.Now().Add(w.writeTimeout)); err != nil {
		return err
	}
	_, err := w.conn.Write(w.out)
	w.out = w.out[:0]
	return err
}

// close sends what is to be sent and ends the connection. With linger, the last
// reply is given a chance: the peer is told that we write no more, and what it still sends is thrown away for
// a moment, because closing over unread input would take the reply back (RFC 1122
// section 4.2.2.13).
func (w *wire) close(linger bool) {
	if w.flush() == nil && linger {
		w.linger()
	}
	_ = w.conn.Close() // TLS: with close_notify
	w.r, w.w = 0, 0
	w.shrink()
}

func (w *wire) linger() {
	type halfCloser interface{ CloseWrite() error }
	if t, ok := w.conn.(halfCloser); ok && w.conn != w.raw {
		_ = t.CloseWrite() // TLS: close_notify
	}
	tcp, ok := w.raw.(halfCloser)
	if !ok || tcp.CloseWrite() != nil || w.raw.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	w.r, w.w = 0, 0
	for thrown := 0; thrown < lingerOctets; {
		n, err := w.raw.Read(w.buf)
		if err != nil {
			return
		}
		thrown += n
	}
}
