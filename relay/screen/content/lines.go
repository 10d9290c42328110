package content

import (
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
	window     []byte    // what was read and not given yet
	from       io.Reader // what follows the window; nil: nothing
	buffer     *[]byte   // in which the window lies; nil: the body is in memory as it is
	boundaries []string
	midLine    bool   // the next piece continues a line
	continued  bool   // the piece given last does
	back       []byte // a line that was given back
	ended      bool   // no more input
	hit        int    // the index of the boundary that was met; -1: none
	closing    bool   // it was the last of its multipart
	err        error  // of reading
}

// linesIn reads a body that is in memory where it lies.
func linesIn(body []byte) *lines { return &lines{window: body, hit: -1} }

func newLines(r io.Reader) *lines {
	return &lines{from: r, buffer: windows.Get().(*[]byte), hit: -1}
}

// windowSize is how much is read at once: some lines of the longest kind.
const windowSize = 8 * lineBuffer

// windows are buffers that no lines use now.
var windows = sync.Pool{New: func() any { b := make([]byte, windowSize); return &b }}

// free gives the buffer back; nothing is read after that.
func (l *lines) free() {
	if l.buffer != nil {
		windows.Put(l.buffer)
	}
	l.window, l.from, l.buffer, l.ended = nil, nil, nil, true
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
	line, whole := l.piece()
	begins := !l.midLine
	l.continued, l.midLine, l.ended = l.midLine, !whole, len(line) == 0
	if l.ended || begins && whole && l.boundary(line) {
		return nil, false
	}
	return line, true
}

// piece takes the next line off the window; not whole: it goes on. An empty one is
// the end.
func (l *lines) piece() (line []byte, whole bool) {
	for {
		near := l.window[:min(len(l.window), lineBuffer)]
		end := bytes.IndexByte(near, '\n') + 1
		if end == 0 && len(near) < lineBuffer && l.fill() {
			continue
		}
		if whole = end > 0 || len(near) < lineBuffer; end == 0 {
			end = len(near)
		}
		line, l.window = l.window[:end:end], l.window[end:] // nobody appends to the body
		return line, whole
	}
}

// fill reads on behind the window; false: there is no more.
func (l *lines) fill() bool {
	if l.from == nil {
		return false
	}
	buffer := *l.buffer
	n := copy(buffer, l.window)
	more, err := io.ReadAtLeast(l.from, buffer[n:], 1)
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = err
	}
	l.window = buffer[:n+more]
	return more > 0
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
	if len(line) < 2 || line[0] != '-' || line[1] != '-' || len(l.boundaries) == 0 {
		return false
	}
	text := trimmedRight(line[2:])
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

// trimmedRight is a line without the white space at its end.
func trimmedRight(line []byte) []byte {
	end := len(line)
	for end > 0 && (line[end-1] == '\n' || line[end-1] == '\r' || line[end-1] == ' ' || line[end-1] == '\t') {
		end--
	}
	return line[:end]
}

// field is a header field that says what a part is, unfolded.
type field struct {
	name  string // one of contentFields
	value []byte
}

// contentFields are the names of those that are read (RFC 2045, RFC 2183).
var contentFields = [...]string{"content-type", "content-disposition", "content-transfer-encoding"}

// contentField gives one of them as it stands there; empty: it is another name.
func contentField(name []byte) string {
	for _, known := range contentFields {
		if len(known) == len(name) && strings.EqualFold(known, string(name)) {
			return known
		}
	}
	return ""
}

// header reads the header of a part, as far as max octets. A line that no header
// can have ends it and belongs to what follows.
func (l *lines) header(max int) (fields []field, complete bool) {
	fields = make([]field, 0, len(contentFields))
	var last *field // that a line may continue; nil: it is not one of these
	for size, n := 0, 0; ; n++ {
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
		if (text[0] == ' ' || text[0] == '\t' || l.continued) && n > 0 {
			if last != nil {
				last.value = append(last.value, text...)
			}
			continue
		}
		name, value, ok := bytes.Cut(text, []byte{':'})
		if !ok {
			l.giveBack(line)
			return fields, true
		}
		last = nil
		if name := contentField(bytes.TrimSpace(name)); name != "" {
			fields = append(fields, field{name, bytes.Clone(value)})
			last = &fields[len(fields)-1]
		}
	}
}
