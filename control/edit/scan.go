package edit

import (
	"bytes"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// span is a part of a text.
type span struct{ from, to int }

// expression is a key with its value, or a header.
type expression struct {
	span          // from the first octet of key or bracket to the last of value or bracket
	key  []string // its words
	list bool     // [[…]]
	head bool     // a header
	eq   int      // where = stands; not of headers
	val  span     // the value; not of headers
}

// scanner reads a TOML text expression by expression. It trusts the text to be
// TOML; where it finds that it is not, it stops and wrong says so.
type scanner struct {
	data   []byte
	at     int
	wrong  bool
	forget bool     // keys hold until the next expression only
	room   []string // for them
}

func newScanner(data []byte) scanner {
	s := scanner{data: data}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		s.at = 3
	}
	return s
}

// next gives the next expression; false at the end.
func (s *scanner) next() (e expression, ok bool) {
	s.at = skipSpace(s.data, s.at)
	if s.at >= len(s.data) || s.wrong {
		return e, false
	}
	var room []string
	if s.forget {
		room = s.room[:0]
	}
	if s.data[s.at] == '[' {
		e, ok = headerAt(s.data, s.at, room)
	} else {
		e, ok = pairAt(s.data, s.at, room)
	}
	s.room = e.key
	s.wrong = !ok
	s.at = e.to
	return e, ok
}

func headerAt(data []byte, at int, room []string) (e expression, ok bool) {
	e.from, e.head = at, true
	at++
	if at < len(data) && data[at] == '[' {
		e.list = true
		at++
	}
	if e.key, at, ok = keyAt(data, at, room); !ok {
		return e, false
	}
	end := "]"
	if e.list {
		end = "]]"
	}
	if !bytes.HasPrefix(data[at:], []byte(end)) {
		return e, false
	}
	e.to = at + len(end)
	return e, true
}

// pairAt reads key = value.
func pairAt(data []byte, at int, room []string) (e expression, ok bool) {
	e.from = at
	if e.key, at, ok = keyAt(data, at, room); !ok || at >= len(data) || data[at] != '=' {
		return e, false
	}
	e.eq = at
	e.val.from = skipBlank(data, at+1)
	e.val.to, ok = valueEnd(data, e.val.from)
	e.to = e.val.to
	return e, ok && e.val.to > e.val.from
}

// keyAt reads the words of a key, with blanks around, into room; end is what
// follows.
func keyAt(data []byte, at int, words []string) (_ []string, end int, ok bool) {
	for {
		at = skipBlank(data, at)
		from := at
		switch {
		case at < len(data) && (data[at] == '"' || data[at] == '\''):
			if at, ok = stringEnd(data, at); !ok {
				return nil, at, false
			}
			word, ok := textOf(data[from:at])
			if !ok {
				return nil, at, false
			}
			words = append(words, word)
		default:
			for at < len(data) && isBare(data[at]) {
				at++
			}
			if at == from {
				return nil, at, false
			}
			words = append(words, wordOf(data[from:at]))
		}
		if at = skipBlank(data, at); at >= len(data) || data[at] != '.' {
			return words, at, true
		}
		at++
	}
}

// words are those that a registry is full of: one copy of each is enough.
var words = func() map[string]string {
	all := make(map[string]string)
	for _, w := range []string{
		"organisation", "domain", "source", "inbound", "id", "name", "kind", "role", "from", "dkim", "limits", "username",
		"password", "argon2id", "selector", "algorithm", "addresses", "security_contact", "secret_header", "sha256",
	} {
		all[w] = w
	}
	return all
}()

func wordOf(b []byte) string {
	if w, ok := words[string(b)]; ok {
		return w
	}
	return string(b)
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// skipBlank passes blanks, skipSpace line ends and comments too.
func skipBlank(data []byte, at int) int {
	for at < len(data) && (data[at] == ' ' || data[at] == '\t') {
		at++
	}
	return at
}

func skipSpace(data []byte, at int) int {
	for at < len(data) {
		switch data[at] {
		case ' ', '\t', '\r', '\n':
			at++
		case '#':
			at = lineEnd(data, at)
		default:
			return at
		}
	}
	return at
}

// stringEnd passes a text in any of TOML's four forms.
func stringEnd(data []byte, at int) (int, bool) {
	quote := data[at]
	three := []byte{quote, quote, quote}
	if !bytes.HasPrefix(data[at:], three) {
		if plain := bytes.IndexByte(data[at+1:], quote); plain >= 0 && bytes.IndexByte(data[at+1:at+1+plain], '\\') < 0 {
			return at + plain + 2, bytes.IndexByte(data[at+1:at+1+plain], '\n') < 0
		}
		for at++; at < len(data) && data[at] != quote; at++ {
			if data[at] == '\n' {
				return at, false
			}
			if quote == '"' && data[at] == '\\' {
				at++
			}
		}
		return min(at+1, len(data)), at < len(data)
	}
	for at += 3; at < len(data); at++ {
		if quote == '"' && data[at] == '\\' {
			at++
			continue
		}
		if bytes.HasPrefix(data[at:], three) {
			for at += 3; at < len(data) && data[at] == quote; at++ { // up to two more stand before the end
			}
			return at, true
		}
	}
	return len(data), false
}

// valueEnd passes a value of any kind.
func valueEnd(data []byte, at int) (int, bool) {
	if at >= len(data) {
		return at, false
	}
	switch data[at] {
	case '"', '\'':
		return stringEnd(data, at)
	case '[', '{':
		return bracketEnd(data, at)
	}
	from := at
	for at < len(data) && strings.IndexByte(",]}#\r\n", data[at]) < 0 {
		at++
	}
	for at > from && (data[at-1] == ' ' || data[at-1] == '\t') {
		at--
	}
	return at, at > from
}

// bracketEnd passes a list or an inline table.
func bracketEnd(data []byte, at int) (end int, ok bool) {
	depth := 0
	for at < len(data) {
		switch data[at] {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '"', '\'':
			if at, ok = stringEnd(data, at); !ok {
				return at, false
			}
			continue
		case '#':
			at = lineEnd(data, at)
			continue
		}
		if at++; depth == 0 {
			return at, true
		}
	}
	return at, false
}

// lineStart is where the line of an offset begins, lineEnd where the next one does.
func lineStart(data []byte, at int) int { return bytes.LastIndexByte(data[:at], '\n') + 1 }

func lineEnd(data []byte, at int) int {
	if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(data)
}

// textOf is what a text says; false if the value is no text.
func textOf(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' && raw[0] != '\'' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 && !bytes.HasPrefix(raw, []byte(`"""`)) && !bytes.HasPrefix(raw, []byte(`'''`)) {
		return wordOf(raw[1 : len(raw)-1]), true
	}
	var v struct{ V string }
	if toml.Unmarshal([]byte("V = "+string(raw)), &v) != nil {
		return "", false
	}
	return v.V, true
}

// element is one value of a list.
type element struct {
	span
	comma int // where the comma behind it stands; -1: there is none
}

// elements takes a list apart.
func elements(data []byte, list span) (all []element, ok bool) {
	at := list.from + 1
	for {
		if at = skipSpace(data, at); at >= list.to || data[at] == ']' {
			return all, at < list.to
		}
		e := element{span: span{from: at}, comma: -1}
		if e.to, ok = valueEnd(data, at); !ok {
			return all, false
		}
		if at = skipSpace(data, e.to); at < list.to && data[at] == ',' {
			e.comma = at
			at++
		} else if at >= list.to || data[at] != ']' {
			return all, false
		}
		all = append(all, e)
	}
}

// pairs takes an inline table apart.
func pairs(data []byte, table span) (all []expression, ok bool) {
	at := table.from + 1
	for {
		if at = skipSpace(data, at); at >= table.to || data[at] == '}' {
			return all, at < table.to
		}
		e, ok := pairAt(data, at, nil)
		if !ok {
			return all, false
		}
		all = append(all, e)
		if at = skipSpace(data, e.to); at < table.to && data[at] == ',' {
			at++
		} else if at >= table.to || data[at] != '}' {
			return all, false
		}
	}
}

// hasPath says that a key begins with these words.
func hasPath(key []string, path ...string) bool {
	if len(key) < len(path) {
		return false
	}
	for i, w := range path {
		if key[i] != w {
			return false
		}
	}
	return true
}

func dotted(key []string) string { return strings.Join(key, ".") }
