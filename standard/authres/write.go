package authres

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxColumn is where lines of our fields end (RFC 5322 section 2.1.1).
const maxColumn = 78

// Append adds the value to b, folded. column is the number of octets before it on
// its line: the name of the field, and "i=N; " in ARC.
//
// Text that could do harm is replaced, see clean. A method, result or property
// whose name is no keyword is left out: such names are the program's own. Results
// beyond MaxResults or MaxLength are left out too, so the ones that matter come
// first.
func (r Results) Append(b []byte, column int) []byte {
	r = r.clean()
	w := &writer{b: b, start: len(b), column: column}
	w.word(value(r.ID))
	if r.Version > 0 {
		w.put(" ", strconv.Itoa(r.Version))
	}
	if len(r.Methods) == 0 {
		w.put("", ";")
		w.put(" ", "none")
	}
	for _, m := range r.Methods {
		before := *w
		if w.result(m); len(w.b)-w.start > MaxLength {
			*w = before
			break
		}
	}
	return w.b
}

// writer folds words. Nothing is folded inside a word: not quotes, not comments.
type writer struct {
	b      []byte
	start  int
	column int
}

func (w *writer) word(s string) { w.put("", s) }

// put writes what may not be broken, on the next line if it does not fit.
func (w *writer) put(separator, s string) {
	if separator != "" && w.column+len(separator)+len(s)+len(";") > maxColumn {
		w.b, w.column = append(w.b, "\r\n"...), 0
	}
	w.b = append(append(w.b, separator...), s...)
	w.column += len(separator) + len(s)
}

func (w *writer) result(r Result) {
	w.put("", ";")
	method := r.Method
	if r.Version > 0 {
		method += "/" + strconv.Itoa(r.Version)
	}
	w.put(" ", method+"="+r.Value)
	if r.Comment != "" {
		w.put(" ", comment(r.Comment))
	}
	if r.Reason != "" {
		w.put(" ", "reason="+quoted(r.Reason))
	}
	for _, p := range r.Properties {
		name := p.Name
		if p.Type != "" {
			name = p.Type + "." + name
		}
		w.put(" ", name+"="+value(p.Value))
	}
}

// value writes a token or an address as it is, all else in quotes (RFC 8601
// section 2.2, pvalue). An apostrophe is part of a token, but there are readers
// for whom it is a quote (espoofer, A4 and A6).
func value(s string) string {
	local, domain, isAddress := strings.Cut(s, "@")
	if !isAddress && s != "" && only(s, "!#$%&*+-.^_~") {
		return s // a token (RFC 2045 section 5.1)
	}
	if isAddress && only(local, "!#$%&*+-./=^_~") && domain != "" && only(domain, "-.") && dotted(domain) && (local == "" || dotted(local)) {
		return s
	}
	return quoted(s)
}

// only says that s consists of letters and digits of ASCII and of others.
func only(s, others string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte(others, c) < 0:
			return false
		}
	}
	return true
}

// dotted says that dots stand only between other characters.
func dotted(s string) bool {
	return s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
}

var (
	inQuotes  = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	inComment = strings.NewReplacer(`\`, `\\`, `(`, `\(`, `)`, `\)`)
)

func quoted(s string) string  { return `"` + inQuotes.Replace(s) + `"` }
func comment(s string) string { return "(" + inComment.Replace(s) + ")" }

// clean gives results of which every word can be written. It is idempotent.
func (r Results) clean() Results {
	if r.ID = r.text(r.ID); r.ID == "" {
		r.ID = "unknown"
	}
	r.Version = version(r.Version)
	kept := make([]Result, 0, len(r.Methods))
	for _, m := range r.Methods {
		m.Method, m.Value = strings.ToLower(m.Method), strings.ToLower(m.Value)
		if !writable(m.Method) || m.Method == none || !writable(m.Value) || len(kept) == MaxResults {
			continue
		}
		m.Version = version(m.Version)
		m.Reason, m.Comment = r.text(m.Reason), r.text(m.Comment)
		m.Properties = r.properties(m.Properties)
		kept = append(kept, m)
	}
	r.Methods = kept
	return r
}

func (r Results) properties(list []Property) (kept []Property) {
	for _, p := range list {
		p.Type, p.Name = strings.ToLower(p.Type), strings.ToLower(p.Name)
		bare := p.Type == "" && p.Name != reason
		if len(kept) < MaxProperties && (bare || writable(p.Type)) && writable(p.Name) {
			p.Value = r.text(p.Value)
			kept = append(kept, p)
		}
	}
	return kept
}

// version leaves out what is no version.
func version(n int) int {
	if n < 1 || n > maxVersion {
		return 0
	}
	return n
}

// writable says that a name can be written: it is short and a keyword.
func writable(s string) bool { return len(s) <= maxKeyword && keyword(s) }

// text makes printable text of bounded length: white space becomes a space; what
// is no visible character, and all outside ASCII unless UTF8, a question mark; an
// encoded word loses its form.
func (r Results) text(s string) string {
	if len(s) > MaxValue {
		s = s[:MaxValue]
	}
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '\t', c == '\r', c == '\n':
			return ' '
		case c < utf8.RuneSelf && c >= ' ' && c != 0x7f:
			return c
		case c == utf8.RuneError, c < utf8.RuneSelf, !r.UTF8, !unicode.IsPrint(c):
			return '?'
		}
		return c
	}, s)
	return breakEncodedWords(s)
}
