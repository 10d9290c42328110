package content

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
)

// lineBuffer is the longest piece of a line that is handled at once. Boundaries
// are shorter (RFC 2046 section 5.1.1: 70 characters).
const lineBuffer = 4 << 10

// lines reads a body line by line and knows the boundaries that are open (RFC 2046
// section 5.1). A line that is a boundary ends what is being read; hit and closing
// say which boundary that was, until resume.
type lines struct {
	in         *bufio.Reader
	boundaries []string
	midLine    bool   // the next piece continues a line
	continued  bool   // the piece given last does
	back       []byte // a line that was given back
	ended      bool   // no more input
	hit        int    // the index of the boundary that was met; -1: none
	closing    bool   // it was the last of its multipart
	err        error  // of reading
}

func newLines(r io.Reader) *lines {
	l := &lines{in: lineReaders.Get().(*bufio.Reader), hit: -1}
	l.in.Reset(r)
	return l
}

// lineReaders are buffers that no lines use now.
var lineReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, lineBuffer) }}

// free gives the buffer back; nothing is read after that.
func (l *lines) free() {
	l.in.Reset(nil)
	lineReaders.Put(l.in)
	l.in, l.ended = nil, true
}

// next gives the next line, its end included, or a piece of a long one; false: a
// boundary or the end was met. The bytes are good until the next call.
func (l *lines) next() ([]byte, bool) {
	if l.hit >= 0 || l.ended {
		return nil, false
	}
	if line := l.back; line != nil {
		l.back = nil
		return line, true
	}
	line, err := l.in.ReadSlice('\n')
	begins := !l.midLine
	l.continued = l.midLine
	l.midLine = errors.Is(err, bufio.ErrBufferFull)
	if err != nil && !l.midLine {
		l.ended = len(line) == 0
		if !errors.Is(err, io.EOF) {
			l.err = err
		}
		if l.ended {
			return nil, false
		}
	}
	if begins && !l.midLine && l.boundary(line) {
		return nil, false
	}
	return line, true
}

// giveBack makes next return line once more. The line must be the last one given.
func (l *lines) giveBack(line []byte) { l.back = line }

// resume goes on behind a boundary.
func (l *lines) resume() { l.hit, l.closing = -1, false }

// discard reads up to a boundary or the end.
func (l *lines) discard() {
	for ok := true; ok; {
		_, ok = l.next()
	}
}

// boundary says whether a line is one of the open boundaries, from the innermost
// out. For the innermost more may stand behind it.
func (l *lines) boundary(line []byte) bool {
	text, ok := bytes.CutPrefix(line, []byte("--"))
	if !ok || len(l.boundaries) == 0 {
		return false
	}
	text = bytes.TrimRight(text, " \t\r\n")
	for i := len(l.boundaries) - 1; i >= 0; i-- {
		rest, ok := bytes.CutPrefix(text, []byte(l.boundaries[i]))
		if ok && (len(rest) == 0 || string(rest) == "--") {
			l.hit, l.closing = i, len(rest) > 0
			return true
		}
	}
	last := len(l.boundaries) - 1
	if rest, ok := bytes.CutPrefix(text, []byte(l.boundaries[last])); ok {
		l.hit, l.closing = last, bytes.HasPrefix(rest, []byte("--"))
		return true
	}
	return false
}

// Read gives what is left up to the next boundary, so that lines is an io.Reader of
// one part.
func (l *lines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		line, ok := l.next()
		if !ok {
			break
		}
		m := copy(p[n:], line)
		if n += m; m < len(line) {
			l.giveBack(line[m:])
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// field is a header field of a part, unfolded.
type field struct {
	name  string // in lower case
	value []byte
}

// header reads the header of a part, as far as max octets. A line that no header
// can have ends it and belongs to what follows.
func (l *lines) header(max int) (fields []field, complete bool) {
	size := 0
	for {
		line, ok := l.next()
		if !ok {
			return fields, true
		}
		if size += len(line); size > max {
			return fields, false
		}
		text := bytes.TrimRight(line, "\r\n")
		if len(text) == 0 {
			return fields, true
		}
		if (text[0] == ' ' || text[0] == '\t' || l.continued) && len(fields) > 0 {
			last := &fields[len(fields)-1]
			last.value = append(last.value, text...)
			continue
		}
		name, value, ok := bytes.Cut(text, []byte{':'})
		if !ok {
			l.giveBack(line)
			return fields, true
		}
		fields = append(fields, field{strings.ToLower(string(bytes.TrimSpace(name))), bytes.Clone(value)})
	}
}
