package content

import (
	"strings"

	"golang.org/x/net/html"
)

// scan reads an HTML text as its standard says (HTML Living Standard, section 13.2.5),
// as far as it is made of what pages are nearly always made of. It gives where it
// stopped: at the end, or at markup of which the library's tokenizer is to make out
// what it is, which then begins there anew.
func (p *page) scan(s string) (at int) {
	if strings.IndexByte(s, 0) >= 0 {
		return 0
	}
	p.ahead = ahead{-1, -1, -1}
	for at < len(s) {
		open := nextMarkup(s, at)
		p.between(s, at, open)
		if open == len(s) {
			return open
		}
		end := p.markup(s, open)
		if end < 0 {
			return open
		}
		at = end
	}
	return at
}

// nextMarkup gives where the next tag or comment begins; len(s): there is none.
func nextMarkup(s string, at int) int {
	for {
		i := strings.IndexByte(s[at:], '<')
		if i < 0 || at+i+1 >= len(s) {
			return len(s)
		}
		at += i
		if c := s[at+1]; isLetter(c) || c == '/' || c == '!' || c == '?' {
			return at
		}
		at++
	}
}

// markup reads what begins at s[open] and gives where it ends; -1: this is not for
// scan, and nothing was made of it.
func (p *page) markup(s string, open int) (end int) {
	switch c := s[open+1]; {
	case isLetter(c):
		return p.opening(s, open)
	case c == '!' && strings.HasPrefix(s[open:], "<!--"):
		return commentEnd(s, open)
	case c == '/' && open+2 < len(s) && isLetter(s[open+2]):
		if end = p.opened.read(s, open+2); end >= 0 {
			p.endTag(p.opened.name)
		}
		return end
	case c == '/' && open+2 == len(s), c == '!' && open+4 > len(s):
		return -1
	}
	if i := strings.IndexByte(s[open+2:], '>'); i >= 0 { // <!doctype>, <?xml>, </>: nothing
		return open + 2 + i + 1
	}
	return -1
}

// commentEnd gives where a comment ends that is neither too short nor ends by "--!>".
func commentEnd(s string, open int) int {
	text := s[open+len("<!--"):]
	i := strings.Index(text, "-->")
	if i < 0 || text[0] == '>' || strings.HasPrefix(text, "->") || strings.Contains(text[:i+2], "--!") {
		return -1
	}
	return open + len("<!--") + i + len("-->")
}

// opening reads a tag that begins something, and its text if no markup counts in it.
func (p *page) opening(s string, open int) (end int) {
	t := &p.opened
	end = t.read(s, open+1)
	if end < 0 || t.name == "plaintext" {
		return -1
	}
	raw, last := "", end
	if textOnly(t.name) {
		raw = s[end : end+rawEnd(s[end:], t.name)]
		last += len(raw)
		if t.name == "script" && strings.Contains(raw, "<!--") {
			return -1
		}
	}
	if attributes, ok := t.attributes(); ok {
		p.element(t.name, attributes)
	} else {
		p.tokens(html.NewTokenizer(strings.NewReader(s[open:end])))
	}
	p.words(raw, t.name == "title" || t.name == "textarea")
	return last
}

// textOnly says that what stands in an element is no markup, up to its end tag.
func textOnly(name string) bool {
	switch name {
	case "iframe", "noembed", "noframes", "noscript", "script", "style", "textarea", "title", "xmp":
		return true
	}
	return false
}

// rawEnd gives where the end tag of an element begins; len(s): there is none.
func rawEnd(s, name string) int {
	for at := 0; ; at += len("</") {
		i := strings.Index(s[at:], "</")
		if i < 0 || at+i+len("</")+len(name) >= len(s) {
			return len(s)
		}
		at += i
		rest := s[at+len("</"):]
		if after := rest[len(name)]; lowerASCII(rest[:len(name)]) == name && (isSpace(after) || after == '/' || after == '>') {
			return at
		}
	}
}

// ahead knows where the octets stand next without which a text has nothing of a
// link; negative: they were not looked for. They are looked for from one to the
// next, and not in every piece of a text.
type ahead struct{ colon, dot, and int }

// within says that something in s[at:end] may be of a link: a colon before a slash,
// a dot behind a w, or an entity that stands for one of these. Of the entities with
// a name those are &colon; and &period;, and &sol; for the slash.
func (a *ahead) within(s string, at, end int) bool {
	for a.colon = nextOctet(s, a.colon, at, ':'); a.colon+1 < end; a.colon = nextOctet(s, a.colon, a.colon+1, ':') {
		if next := s[a.colon+1]; next == '/' || next == '&' {
			return true
		}
	}
	for a.dot = nextOctet(s, a.dot, at, '.'); a.dot < end; a.dot = nextOctet(s, a.dot, a.dot+1, '.') {
		if a.dot > at && s[a.dot-1]|0x20 == 'w' {
			return true
		}
	}
	for a.and = nextOctet(s, a.and, at, '&'); a.and+1 < end; a.and = nextOctet(s, a.and, a.and+1, '&') {
		if next := s[a.and+1]; next == '#' || next == 'c' || next == 'p' {
			return true
		}
	}
	return false
}

// between reads the text s[at:end] that stands between tags. Most of it has nothing
// of a link.
func (p *page) between(s string, at, end int) {
	if at < end && (p.shown() || p.ahead.within(s, at, end)) {
		p.words(s[at:end], true)
	}
}

// shown says that text is looked at whatever it is.
func (p *page) shown() bool { return p.href != "" || p.inStyle }

// words reads text that is looked at.
func (p *page) words(s string, escaped bool) {
	if s == "" {
		return
	}
	if p.shown() {
		s = newlines(s)
	}
	if escaped && strings.IndexByte(s, '&') >= 0 {
		s = html.UnescapeString(s)
	}
	p.text(s)
}

// newlines makes every end of line the same (HTML, section 13.2.3.5).
func newlines(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// fewAttributes is how many that matter a tag of a page has at most, nearly always.
const fewAttributes = 8

// markupTag is a tag as it stands, of its attributes those that matter.
type markupTag struct {
	name  string
	first [fewAttributes]attribute
	count int
	many  bool // more than fewAttributes, or far too many
}

// read reads a tag from its name on and gives where it ends; -1: it does not.
func (t *markupTag) read(s string, at int) (end int) {
	begin := at
	for at < len(s) && !endsName[s[at]] {
		at++
	}
	t.name, t.count, t.many = lowerASCII(s[begin:at]), 0, false
	for n := 0; ; n++ {
		if at = skipSpace(s, at); at >= len(s) {
			return -1
		}
		if s[at] == '>' {
			return at + 1
		}
		key, next := attributeKey(s, at)
		value := ""
		if at = skipSpace(s, next); at >= len(s) {
			return -1
		}
		switch s[at] {
		case '/':
			at++
		case '=':
			if value, at = attributeValue(s, at+1); at < 0 {
				return -1
			}
		}
		t.note(key, value)
		t.many = t.many || n >= maxAttributes
	}
}

// note keeps an attribute that matters. Of one that is there twice the first counts.
func (t *markupTag) note(key, value string) {
	if key = attributeName(key); key == "" {
		return
	}
	for _, a := range t.first[:t.count] {
		if a.key == key {
			return
		}
	}
	if t.count == fewAttributes {
		t.many = true
		return
	}
	t.first[t.count] = attribute{key, value}
	t.count++
}

// attributes gives them, decoded; false: that is for the library.
func (t *markupTag) attributes() ([]attribute, bool) {
	for i := range t.count {
		value := newlines(t.first[i].value)
		if strings.IndexByte(value, '&') >= 0 {
			if strings.Count(value, "&") != strings.Count(value, "&amp;") {
				return nil, false
			}
			value = strings.ReplaceAll(value, "&amp;", "&")
		}
		t.first[i].value = value
	}
	return t.first[:t.count], !t.many
}

// attributeKey reads one (section 13.2.5.33) and gives where it ends. It may be empty,
// and begin with the sign that ends others.
func attributeKey(s string, at int) (key string, end int) {
	if end = at; s[at] == '=' {
		end++
	}
	for end < len(s) && !endsKey[s[end]] {
		end++
	}
	return s[at:end], end
}

// attributeValue reads what stands behind the = of an attribute, and gives where to go
// on; -1: the tag has no end.
func attributeValue(s string, at int) (value string, end int) {
	if at = skipSpace(s, at); at >= len(s) {
		return "", -1
	}
	switch c := s[at]; c {
	case '>':
		return "", at
	case '\'', '"':
		i := strings.IndexByte(s[at+1:], c)
		if i < 0 {
			return "", -1
		}
		return s[at+1 : at+1+i], at + 1 + i + 1
	}
	begin := at
	for at < len(s) && !isSpace(s[at]) && s[at] != '>' {
		at++
	}
	return s[begin:at], at
}

func skipSpace(s string, at int) int {
	for at < len(s) && isSpace(s[at]) {
		at++
	}
	return at
}

// The octets of markup.
var (
	spaces   = octetsOf(" \n\r\t\f")
	endsName = octetsOf(" \n\r\t\f/>")
	endsKey  = octetsOf(" \n\r\t\f/>=")
)

func isSpace(c byte) bool { return spaces[c] }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// lowerASCII leaves other letters as they are: names of HTML know no others.
func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] |= 0x20
				}
			}
			return string(b)
		}
	}
	return s
}
