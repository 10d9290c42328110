package edit

import (
	"bytes"
	"strings"
)

// style is how the author of a registry writes.
type style struct {
	eol    string
	header string // what stands before a header below an organisation
	key    string // and before a key there
	known  bool
	tight  bool // no blank line between tables
}

// learn looks at the tables of an organisation; nil is none.
func (s *style) learn(data []byte, o *organisation) {
	if o == nil {
		return
	}
	for _, b := range o.blocks[1:] {
		if len(b.path) != 1 || s.known {
			continue
		}
		s.header, s.key, s.known = indent(data, b.header.from), indent(data, b.header.from), true
		if len(b.pairs) > 0 {
			s.key = indent(data, b.pairs[0].from)
		}
		s.tight = !blankBefore(data, b.lead(data))
	}
}

func (s *style) settle(data []byte) {
	s.eol = "\n"
	if i := bytes.IndexByte(data, '\n'); i > 0 && data[i-1] == '\r' {
		s.eol = "\r\n"
	}
	if !s.known {
		s.header, s.key = "  ", "  " // as the examples have it
	}
}

// indent is what stands before an offset on its line, if those are blanks.
func indent(data []byte, at int) string {
	text := string(data[lineStart(data, at):at])
	if strings.Trim(text, " \t") != "" {
		return ""
	}
	return text
}

func isBlank(line []byte) bool   { return len(bytes.TrimSpace(line)) == 0 }
func isComment(line []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) }

// attached is where the comment right below a table ends. A comment that goes on
// to the next header is that one's.
func attached(data []byte, end int) int {
	at := end
	for at < len(data) && isComment(data[at:lineEnd(data, at)]) {
		at = lineEnd(data, at)
	}
	if at == len(data) || isBlank(data[at:lineEnd(data, at)]) {
		return at
	}
	return end
}

// blankBefore says that the line before a line's start is blank.
func blankBefore(data []byte, start int) bool {
	return start > 0 && isBlank(data[lineStart(data, start-1):start])
}

// endsLine says that an offset is the start of a line.
func endsLine(data []byte, at int) bool { return at == 0 || data[at-1] == '\n' }

// column is where = stands in all of several keys, counted from the start of the
// key; 0: not in one column.
func column(keys []expression) int {
	at, lengths := 0, make(map[int]bool)
	for _, p := range keys {
		if at != 0 && p.eq-p.from != at {
			return 0
		}
		at = p.eq - p.from
		lengths[len(dotted(p.key))] = true
	}
	if len(lengths) < 2 {
		return 0
	}
	return at
}
