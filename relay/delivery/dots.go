package delivery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// errContent says that kept content is not fit to be sent: it has a bare CR, a
// bare LF or a NUL, or does not end in CRLF. A next hop could take such bytes
// for the end of the message and what follows for commands.
var errContent = errors.New("the content has a bare CR, a bare LF or a NUL, or does not end in CRLF")

// dotWriter writes message content to a connection with each leading dot
// doubled (RFC 5321 section 4.5.2), in few large writes. It checks every octet
// before it is written: content that is not made of CRLF lines is errContent,
// and Close then writes no final dot, so that nothing is handed over.
type dotWriter struct {
	w    io.Writer
	buf  []byte // collected output; its capacity is the size of a write
	last byte   // the octet before the next one, over slices
	err  error
}

// newDotWriter writes to w through buf, which must be empty and have capacity.
func newDotWriter(w io.Writer, buf []byte) *dotWriter {
	return &dotWriter{w: w, buf: buf, last: '\n'}
}

// Write takes the next piece of content.
func (d *dotWriter) Write(p []byte) (int, error) {
	if d.err == nil && len(p) > 0 {
		if d.check(p); d.err == nil {
			d.stuff(p)
		}
	}
	if d.err != nil {
		return 0, d.err
	}
	return len(p), nil
}

// check finds what may not be sent before anything of p is.
func (d *dotWriter) check(p []byte) {
	if !madeOfLines(d.last, p) {
		d.err = errContent
	}
}

// madeOfLines says that p, which follows the octet last and is not empty, has no
// bare CR, no bare LF and no NUL. It counts instead of walking twice: where each
// LF has a CR before it, there are as many CRs as LFs exactly if no CR is bare. A
// CR at the end of a piece may be completed by the next piece.
func madeOfLines(before byte, p []byte) bool {
	open := 0 // CRs that wait for their LF: one more before p, one less after it
	if before == '\r' {
		open++
	}
	if p[len(p)-1] == '\r' {
		open--
	}
	last, lfs := before, 0
	for rest := p; len(rest) > 0; lfs++ {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if i > 0 {
			last = rest[i-1]
		}
		if last != '\r' {
			return false
		}
		last, rest = '\n', rest[i+1:]
	}
	return bytes.Count(p, []byte{'\r'})+open == lfs && !(before == '\r' && p[0] != '\n') && bytes.IndexByte(p, 0) < 0
}

// stuff writes p, a dot before each that begins a line.
func (d *dotWriter) stuff(p []byte) {
	if d.last == '\n' && p[0] == '.' {
		d.put(dot)
	}
	d.last = p[len(p)-1]
	for d.err == nil {
		i := bytes.Index(p, lineWithDot)
		if i < 0 {
			d.put(p)
			return
		}
		d.put(p[:i+1])
		d.put(dot)
		p = p[i+1:]
	}
}

var (
	dot         = []byte(".")
	lineWithDot = []byte("\n.")
)

// put collects output and writes it when the buffer is full.
func (d *dotWriter) put(p []byte) {
	for d.err == nil && len(d.buf)+len(p) > cap(d.buf) {
		n := cap(d.buf) - len(d.buf)
		d.buf, p = append(d.buf, p[:n]...), p[n:]
		d.flush()
	}
	d.buf = append(d.buf, p...)
}

func (d *dotWriter) flush() {
	if d.err == nil {
		_, d.err = d.w.Write(d.buf)
	}
	d.buf = d.buf[:0]
}

// Close ends the message with a line of one dot and writes what is left.
func (d *dotWriter) Close() error {
	if d.err == nil && d.last != '\n' {
		d.err = errContent
	}
	if d.err != nil {
		return d.err
	}
	d.put([]byte(".\r\n"))
	d.flush()
	return d.err
}

// hasEightBit says that p has octets outside ASCII.
func hasEightBit(p []byte) bool {
	const highBits = 0x8080808080808080
	for ; len(p) >= 8; p = p[8:] {
		if binary.LittleEndian.Uint64(p)&highBits != 0 {
			return true
		}
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
