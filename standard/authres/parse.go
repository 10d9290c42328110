package authres

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// errNoID says that a field does not say whose it is.
var errNoID = errors.New("there is no authserv-id")

// Words with a meaning of their own in the grammar.
const (
	none   = "none"
	reason = "reason"
)

// Parse reads the value of an Authentication-Results field, folded or not, or what
// follows "i=N;" of an ARC-Authentication-Results. It keeps to the grammar of RFC
// 8601 section 2.2 except where everybody writes otherwise: a value may be any
// text without space, semicolon, quote and parenthesis (header.b=a/b+c=), or
// nothing; a property may lack its type; a semicolon may end the list. The comment
// directly behind a result is kept, all others are dropped. Errors wrap ErrSyntax.
func Parse(body []byte) (Results, error) {
	s, err := unfold(body)
	if err != nil {
		return Results{}, err
	}
	r, err := (&parser{s: s}).results()
	if err != nil {
		return Results{}, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	for i := 0; i < len(s); i++ {
		r.UTF8 = r.UTF8 || s[i] >= utf8.RuneSelf
	}
	return r, nil
}

// unfold takes line ends out and checks that the rest is text of bounded length.
func unfold(body []byte) (string, error) {
	if len(body) > MaxLength {
		return "", fmt.Errorf("%w: %d octets, the limit is %d", ErrSyntax, len(body), MaxLength)
	}
	s := strings.ReplaceAll(strings.ReplaceAll(string(body), "\r\n ", " "), "\r\n\t", "\t")
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", fmt.Errorf("%w: control character %#02x", ErrSyntax, c)
		}
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%w: it is not UTF-8", ErrSyntax)
	}
	return s, nil
}

// parser reads from s, of which the first pos octets are read.
type parser struct {
	s   string
	pos int
}

func (p *parser) results() (r Results, err error) {
	if err = p.head(&r); err != nil {
		return r, err
	}
	for p.peek() == ';' {
		p.pos++
		if _, err = p.space(); err != nil {
			return r, err
		}
		if p.done() && len(r.Methods) > 0 {
			return r, nil
		}
		m, isNone, err := p.result()
		switch {
		case err != nil:
			return r, err
		case isNone && (len(r.Methods) > 0 || !p.done()):
			return r, fmt.Errorf("%q does not stand alone", none)
		case isNone:
			return r, nil
		case len(r.Methods) == MaxResults:
			return r, fmt.Errorf("more than %d results", MaxResults)
		}
		r.Methods = append(r.Methods, m)
	}
	if len(r.Methods) == 0 {
		return r, fmt.Errorf("there is neither a result nor %q", none)
	}
	return r, nil
}

// head reads the authserv-id and the version, up to the first semicolon.
func (p *parser) head(r *Results) (err error) {
	if _, err = p.space(); err != nil {
		return err
	}
	start := p.pos
	if r.ID, err = p.value(); err != nil {
		return err
	}
	raw := p.s[start:p.pos]
	if _, err = p.space(); err != nil {
		return err
	}
	if r.ID == "" || p.peek() == '=' || raw[0] != '"' && strings.Contains(raw, "=") { // a result stands where the name should
		return errNoID
	}
	if isDigit(p.peek()) {
		if r.Version, err = p.number(); err != nil {
			return err
		}
		if _, err = p.space(); err != nil {
			return err
		}
	}
	if !p.atEnd() {
		return fmt.Errorf("a semicolon is missing at %.20q", p.s[p.pos:])
	}
	return nil
}

// result reads up to the next semicolon or the end. isNone says that it was the
// word "none" instead of a result.
func (p *parser) result() (r Result, isNone bool, err error) {
	if r.Method, err = p.keyword("a method"); err != nil {
		return r, false, err
	}
	if _, err = p.space(); err != nil {
		return r, false, err
	}
	if r.Method == none && p.atEnd() {
		return r, true, nil
	}
	if p.peek() == '/' {
		p.pos++
		if _, err = p.space(); err != nil {
			return r, false, err
		}
		if r.Version, err = p.number(); err != nil {
			return r, false, err
		}
	}
	if err = p.equals(r.Method); err != nil {
		return r, false, err
	}
	if r.Value, err = p.keyword("the result of " + r.Method); err != nil {
		return r, false, err
	}
	if r.Comment, err = p.space(); err != nil {
		return r, false, err
	}
	return r, false, p.rest(&r)
}

// rest reads the reason and the properties.
func (p *parser) rest(r *Result) error {
	hasReason := false
	for !p.atEnd() {
		if before := p.s[p.pos-1]; before != ' ' && before != '\t' && before != ')' && before != '"' {
			return fmt.Errorf("%.20q follows a word without space", p.s[p.pos:])
		}
		property, err := p.property()
		if err != nil {
			return err
		}
		if _, err := p.space(); err != nil {
			return err
		}
		switch {
		case property.Type == "" && property.Name == reason && hasReason:
			return fmt.Errorf("%s has two reasons", r.Method)
		case property.Type == "" && property.Name == reason:
			r.Reason, hasReason = property.Value, true
		case len(r.Properties) == MaxProperties:
			return fmt.Errorf("%s has more than %d properties", r.Method, MaxProperties)
		default:
			r.Properties = append(r.Properties, property)
		}
	}
	return nil
}

// property reads ptype.property=value, or name=value.
func (p *parser) property() (q Property, err error) {
	if q.Name, err = p.keyword("a property"); err != nil {
		return q, err
	}
	if _, err = p.space(); err != nil {
		return q, err
	}
	if p.peek() == '.' {
		p.pos++
		if _, err = p.space(); err != nil {
			return q, err
		}
		q.Type = q.Name
		if q.Name, err = p.keyword("a property of " + q.Type); err != nil {
			return q, err
		}
	}
	if err = p.equals(q.Name); err != nil {
		return q, err
	}
	q.Value, err = p.value()
	return q, err
}

// equals reads "=" with white space around it. A value that is empty keeps the
// space behind it.
func (p *parser) equals(name string) error {
	if _, err := p.space(); err != nil {
		return err
	}
	if p.peek() != '=' {
		return fmt.Errorf("%.40q is not followed by =", name)
	}
	p.pos++
	start := p.pos
	if _, err := p.space(); err != nil {
		return err
	}
	if p.atEnd() {
		p.pos = start
	}
	return nil
}

// space skips white space and comments, and gives the first comment's text.
func (p *parser) space() (text string, err error) {
	for first := true; !p.done(); {
		switch p.s[p.pos] {
		case ' ', '\t':
			p.pos++
		case '(':
			comment, err := p.comment()
			if err != nil {
				return "", err
			}
			if first {
				text, first = comment, false
			}
		default:
			return text, nil
		}
	}
	return text, nil
}

// comment reads a comment with those inside it (RFC 5322 section 3.2.2), and gives
// its text without the outer parentheses and without backslashes.
func (p *parser) comment() (string, error) {
	var b strings.Builder
	for depth := 0; !p.done(); p.pos++ {
		c := p.s[p.pos]
		switch c {
		case '(':
			depth++
			if depth == 1 {
				continue
			}
		case ')':
			depth--
			if depth == 0 {
				p.pos++
				return b.String(), nil
			}
		case '\\':
			p.pos++
			if p.done() {
				continue
			}
			c = p.s[p.pos]
		}
		b.WriteByte(c)
	}
	return "", fmt.Errorf("a comment does not end")
}

// keyword reads a name and gives it in lower case.
func (p *parser) keyword(what string) (string, error) {
	start := p.pos
	for !p.done() && isKeyword(p.s[p.pos]) {
		p.pos++
	}
	word := strings.ToLower(p.s[start:p.pos])
	if !keyword(word) {
		return "", fmt.Errorf("%s is missing at %.20q", what, p.s[start:])
	}
	return word, nil
}

// value reads text up to white space, a comment, a semicolon or the end. A quoted
// string that is the whole value loses its quotes; one that is a local part keeps
// them.
func (p *parser) value() (string, error) {
	start, unquoted, quotes := p.pos, "", 0
	for !p.done() && strings.IndexByte(" \t;()", p.s[p.pos]) < 0 {
		if p.s[p.pos] != '"' {
			p.pos++
			continue
		}
		text, err := p.quoted()
		if err != nil {
			return "", err
		}
		unquoted, quotes = text, quotes+1
		if quotes == 1 && p.s[start] == '"' && (p.done() || strings.IndexByte(" \t;()", p.s[p.pos]) >= 0) {
			return unquoted, nil
		}
	}
	raw := p.s[start:p.pos]
	if quotes > 0 && (quotes > 1 || raw[0] != '"' || !strings.Contains(raw, `"@`)) {
		return "", fmt.Errorf("%.40q has quotes inside", raw)
	}
	return raw, nil
}

// quoted reads a quoted-string (RFC 5322 section 3.2.4) and gives its meaning.
func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for p.pos++; !p.done(); p.pos++ {
		switch c := p.s[p.pos]; c {
		case '"':
			p.pos++
			return b.String(), nil
		case '\\':
			if p.pos++; !p.done() {
				b.WriteByte(p.s[p.pos])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("a quote does not end")
}

// number reads a version.
func (p *parser) number() (int, error) {
	start := p.pos
	for !p.done() && isDigit(p.s[p.pos]) {
		p.pos++
	}
	n, err := strconv.Atoi(p.s[start:p.pos])
	if err != nil || n < 1 || n > maxVersion {
		return 0, fmt.Errorf("%.20q is no version", p.s[start:])
	}
	return n, nil
}

func (p *parser) done() bool  { return p.pos >= len(p.s) }
func (p *parser) atEnd() bool { return p.done() || p.s[p.pos] == ';' }

// peek is the next octet, 0 at the end.
func (p *parser) peek() byte {
	if p.done() {
		return 0
	}
	return p.s[p.pos]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
