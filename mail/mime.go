package mail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// DefaultMaxMIMEDepth is how deep parts may stand in parts where nothing else is
// configured. Real mail, forwarded many times, stays under twenty.
const DefaultMaxMIMEDepth = 100

// maxContentType bounds one Content-Type field: longer ones are not read, and
// what is not read cannot be followed.
const maxContentType = 8 << 10

// ErrMIMETooDeep says that parts stand in parts beyond the limit.
var ErrMIMETooDeep = errors.New("MIME parts are nested too deeply")

// MIMEScanner follows how deep the parts of a message stand in each other (RFC
// 2046 sections 5.1 and 5.2.1), while its body arrives. It keeps the boundaries
// of the parts that are open, and nothing of what they hold: memory is bounded by
// the depth, and time by the octets.
//
// It counts each multipart and each message/rfc822 as one level. Where programs
// differ about what is a boundary line it takes the reading that nests deeper; a
// part in base64 that holds a message is not looked into. It is not for finding
// content, and its answer is no part of any proof.
type MIMEScanner struct {
	maxDepth  int
	maxHeader int // octets of one part's header

	levels     []mimeLevel
	byBoundary map[string]int // the innermost level of a boundary

	inHeader bool   // the next line belongs to the header of a part
	octets   int    // of that header so far
	reading  bool   // field is a Content-Type whose next line may follow
	field    []byte // its value, unfolded
	nests    nesting
	err      error
}

// mimeLevel is one part that is open and holds others.
type mimeLevel struct {
	boundary string // empty: a message, which ends with what it stands in
	digest   bool   // multipart/digest: a part without Content-Type is a message
	outer    int    // the level that has the same boundary and is hidden by this; -1: none
	inner    int    // the innermost level with a boundary, up to this; -1: none
}

// nesting is what a Content-Type says about what is inside.
type nesting struct {
	known    bool // there was a Content-Type
	message  bool
	digest   bool
	boundary string // of a multipart
}

func (n nesting) any() bool { return n.message || n.boundary != "" }

// NewMIMEScanner makes a scanner for the body under header. maxDepth is how many
// levels may be open at once, maxHeader how many octets the header of a part may
// have; zero is no limit of octets, and DefaultMaxMIMEDepth.
func NewMIMEScanner(header Header, maxDepth, maxHeader int) *MIMEScanner {
	s := &MIMEScanner{maxDepth: maxDepth, maxHeader: maxHeader}
	if maxDepth <= 0 {
		s.maxDepth = DefaultMaxMIMEDepth
	}
	for _, f := range header.Fields {
		if f.Is("Content-Type") {
			s.take(f.RawValue())
		}
	}
	s.endHeader()
	return s
}

// Err is why the message cannot be taken: an error that wraps ErrMIMETooDeep or
// ErrHeaderTooBig. It stays once it is there.
func (s *MIMEScanner) Err() error { return s.err }

// Scan takes the next lines of the body, each with its CRLF.
func (s *MIMEScanner) Scan(lines []byte) {
	for len(lines) > 0 && s.err == nil && (s.inHeader || len(s.levels) > 0) {
		if !s.inHeader && !bytes.HasPrefix(lines, dashes) {
			next := bytes.Index(lines, lineAndDashes)
			if next < 0 {
				return
			}
			lines = lines[next+1:]
		}
		line, rest, _ := bytes.Cut(lines, crlf)
		s.line(line)
		lines = rest
	}
}

var (
	dashes        = []byte("--")
	lineAndDashes = []byte("\n--")
)

// line looks at one line. A line that no header can have ends one, and belongs to
// what follows.
func (s *MIMEScanner) line(line []byte) {
	for s.inHeader && s.err == nil {
		if s.headerLine(line) {
			return
		}
		s.endHeader()
	}
	if s.err == nil && bytes.HasPrefix(line, dashes) {
		s.delimiter(line[len(dashes):])
	}
}

// headerLine takes a line of a part's header; false: it is none. An empty line
// ends the header.
func (s *MIMEScanner) headerLine(line []byte) bool {
	if s.octets += len(line) + len(crlf); s.maxHeader > 0 && s.octets > s.maxHeader {
		s.err = fmt.Errorf("%w: the header of a part has more than %d octets", ErrHeaderTooBig, s.maxHeader)
		return true
	}
	switch {
	case len(line) == 0:
		s.endHeader()
		return true
	case line[0] == ' ' || line[0] == '\t':
		if s.reading {
			s.extend(line)
		}
		return true
	}
	s.takeField()
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || bytes.HasPrefix(line, dashes) {
		return false
	}
	if s.reading = strings.EqualFold(string(bytes.TrimRight(name, " \t")), "Content-Type"); s.reading {
		s.extend(value)
	}
	return true
}

func (s *MIMEScanner) extend(value []byte) {
	if s.field = append(s.field, value...); len(s.field) > maxContentType {
		s.err = fmt.Errorf("%w: a Content-Type has more than %d octets", ErrHeaderTooBig, maxContentType)
	}
}

// takeField ends the Content-Type that was being read, if there is one.
func (s *MIMEScanner) takeField() {
	if s.reading {
		s.take(s.field)
	}
	s.reading, s.field = false, s.field[:0]
}

// take reads a Content-Type. Of several in one header the first that nests counts.
func (s *MIMEScanner) take(value []byte) {
	if len(value) > maxContentType {
		s.err = fmt.Errorf("%w: the Content-Type has %d octets, the limit is %d", ErrHeaderTooBig, len(value), maxContentType)
	} else if !s.nests.any() {
		s.nests = readNesting(value)
	}
}

// endHeader goes on to what a header announced: the parts of a multipart, the
// header of a message, or text.
func (s *MIMEScanner) endHeader() {
	s.takeField()
	n := s.nests
	s.nests, s.octets, s.inHeader = nesting{}, 0, false
	top := len(s.levels) - 1
	if n.message || !n.known && top >= 0 && s.levels[top].digest {
		s.open(mimeLevel{})
		s.inHeader = true
	} else if n.boundary != "" {
		s.open(mimeLevel{boundary: n.boundary, digest: n.digest})
	}
}

func (s *MIMEScanner) open(l mimeLevel) {
	depth := len(s.levels)
	if depth >= s.maxDepth {
		s.err = fmt.Errorf("%w: more than %d levels", ErrMIMETooDeep, s.maxDepth)
		return
	}
	l.outer, l.inner = -1, -1
	if depth > 0 {
		l.inner = s.levels[depth-1].inner
	}
	if l.boundary != "" {
		if s.byBoundary == nil {
			s.byBoundary = make(map[string]int)
		}
		if hidden, ok := s.byBoundary[l.boundary]; ok {
			l.outer = hidden
		}
		s.byBoundary[l.boundary], l.inner = depth, depth
	}
	s.levels = append(s.levels, l)
}

// closeTo closes the innermost levels until n are open.
func (s *MIMEScanner) closeTo(n int) {
	for len(s.levels) > n {
		last := len(s.levels) - 1
		l := s.levels[last]
		if l.outer >= 0 {
			s.byBoundary[l.boundary] = l.outer
		} else if l.boundary != "" {
			delete(s.byBoundary, l.boundary)
		}
		s.levels = s.levels[:last]
	}
}

// delimiter looks at what follows "--" at the start of a line: a boundary, which
// begins the next part, or with "--" behind it ends the last (RFC 2046 section
// 5.1.1).
func (s *MIMEScanner) delimiter(text []byte) {
	text = bytes.TrimRight(text, " \t")
	level, ends, ok := s.find(text)
	if !ok {
		return
	}
	if ends {
		s.closeTo(level)
		return
	}
	s.closeTo(level + 1)
	s.inHeader = true
}

// find gives the level whose boundary a line has. The section lets a line go on
// behind the boundary, and few programs do: that is looked at for the innermost
// level only, so that no longer boundary is taken for a shorter one around it.
func (s *MIMEScanner) find(text []byte) (level int, ends, ok bool) {
	if level, ok = s.byBoundary[string(text)]; ok {
		return level, false, true
	}
	if open, closing := bytes.CutSuffix(text, dashes); closing {
		if level, ok = s.byBoundary[string(open)]; ok {
			return level, true, true
		}
	}
	if len(s.levels) == 0 || s.levels[len(s.levels)-1].inner < 0 {
		return 0, false, false
	}
	level = s.levels[len(s.levels)-1].inner
	behind, ok := bytes.CutPrefix(text, []byte(s.levels[level].boundary))
	return level, bytes.HasPrefix(behind, dashes), ok
}

// readNesting reads the value of a Content-Type as forgivingly as its readers do.
func readNesting(value []byte) nesting {
	n := nesting{known: true}
	kind := mediaType(value)
	switch {
	case kind == "message/rfc822", kind == "message/global", kind == "message/news": // RFC 2046 section 5.2.1, RFC 6532 section 3.7
		n.message = true
	case strings.HasPrefix(kind, "multipart/"):
		n.boundary, n.digest = boundaryOf(value), kind == "multipart/digest" // section 5.1.5
	}
	return n
}

// mediaType is the type and subtype of a Content-Type, in lower case, without
// comments and space.
func mediaType(value []byte) string {
	kind, _, _ := bytes.Cut(withoutComments(value), []byte{';'})
	kind = bytes.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, kind)
	return strings.ToLower(string(kind))
}

// boundaryOf gives the boundary parameter: as it is, or put together of the pieces
// of RFC 2231 section 3. A boundary that no line can have is none.
func boundaryOf(value []byte) string {
	var plain, pieces string
	_, rest, _ := bytes.Cut(withoutComments(value), []byte{';'})
	for len(rest) > 0 {
		var name, v string
		name, v, rest = cutParameter(rest)
		switch {
		case name == "boundary" && plain == "":
			plain = v
		case strings.HasPrefix(name, "boundary*"):
			pieces += decodePiece(name, v)
		}
	}
	if plain == "" {
		plain = pieces
	}
	plain = strings.TrimRight(plain, " \t")
	if len(plain) > MaxLine-len(dashes) {
		return ""
	}
	return plain
}

// cutParameter takes one parameter and the semicolon behind it (RFC 2045 section
// 5.1); names in lower case, values without quotes.
func cutParameter(s []byte) (name, value string, rest []byte) {
	var v []byte
	n := bytes.IndexAny(s, "=;")
	if n < 0 || s[n] == ';' {
		_, rest, _ = bytes.Cut(s, []byte{';'})
		return "", "", rest
	}
	name = strings.ToLower(string(bytes.TrimSpace(s[:n])))
	s = bytes.TrimLeft(s[n+1:], " \t\r\n")
	if len(s) == 0 || s[0] != '"' {
		v, rest, _ = bytes.Cut(s, []byte{';'})
		return name, string(bytes.TrimSpace(v)), rest
	}
	i := 1
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		if s[i] != '\r' && s[i] != '\n' {
			v = append(v, s[i])
		}
	}
	_, rest, _ = bytes.Cut(s[min(i+1, len(s)):], []byte{';'})
	return name, string(v), rest
}

// decodePiece decodes one piece of a parameter; a name that ends in * says that it
// is percent-encoded, the first one with a character set in front (RFC 2231
// section 4).
func decodePiece(name, v string) string {
	if !strings.HasSuffix(name, "*") {
		return v
	}
	if parts := strings.SplitN(v, "'", 3); len(parts) == 3 {
		v = parts[2]
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		c := v[i]
		if c == '%' && i+2 < len(v) {
			if hi, lo := hexValue(v[i+1]), hexValue(v[i+2]); hi >= 0 && lo >= 0 {
				c, i = byte(hi<<4|lo), i+2
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// withoutComments takes comments out of a structured value (RFC 5322 section
// 3.2.2), but not what looks like one in quotes.
func withoutComments(value []byte) []byte {
	if bytes.IndexByte(value, '(') < 0 {
		return value
	}
	kept := make([]byte, 0, len(value))
	depth, quoted := 0, false
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '\\' && (quoted || depth > 0) && i+1 < len(value):
			if depth == 0 {
				kept = append(kept, c, value[i+1])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			kept = append(kept, c)
		}
	}
	return kept
}
