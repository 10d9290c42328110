package dkim

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrTagSyntax says that a text is no tag list.
var ErrTagSyntax = errors.New("not a tag list")

// maxTags bounds the work that a list can cause. RFC 6376 knows 13 tags.
const maxTags = 64

// Tags is a tag list (RFC 6376 section 3.2): the value of a DKIM-Signature or
// of an ARC field, or a key record. Each name stands once.
type Tags struct {
	list []tag
}

type tag struct {
	name, value string
	start, end  int // octets of the raw value, with the white space around it
}

// ParseTags reads a tag list, folded or not. Values lose their folding and the
// white space around them; white space inside stays. A name that stands twice,
// an empty element, a control character and more than 64 tags are errors that
// wrap ErrTagSyntax.
// UTF-8 may stand in values (RFC 8616 section 3).
func ParseTags(b []byte) (Tags, error) {
	if !utf8.Valid(b) {
		return Tags{}, fmt.Errorf("%w: it is not UTF-8", ErrTagSyntax)
	}
	t := Tags{list: make([]tag, 0, 12)}
	text := string(b) // all names, and values that are not folded, are parts of it
	for pos := 0; pos < len(b); {
		end := pos
		for end < len(b) && b[end] != ';' {
			end++
		}
		if end == len(b) && pos > 0 && isSpace(b[pos:end]) {
			break // a semicolon may end the list
		}
		if len(t.list) == maxTags {
			return Tags{}, fmt.Errorf("%w: it has more than %d tags", ErrTagSyntax, maxTags)
		}
		next, err := readTag(text, pos, end)
		if err != nil {
			return Tags{}, err
		}
		if _, twice := t.Get(next.name); twice {
			return Tags{}, fmt.Errorf("%w: tag %.40s= stands twice", ErrTagSyntax, next.name) // RFC 6376 section 3.2
		}
		t.list = append(t.list, next)
		pos = end + 1
	}
	return t, nil
}

// readTag reads text[pos:end] as name, "=" and value.
func readTag(text string, pos, end int) (tag, error) {
	name, value, ok := strings.Cut(text[pos:end], "=")
	if !ok {
		return tag{}, fmt.Errorf("%w: %.40q has no =", ErrTagSyntax, text[pos:end])
	}
	start := pos + len(name) + 1
	name = strings.Trim(name, spaces)
	if !isTagName(name) {
		return tag{}, fmt.Errorf("%w: %.40q is no tag name", ErrTagSyntax, name)
	}
	value = strings.Trim(value, spaces)
	if strings.Contains(value, "\r\n") {
		value = strings.ReplaceAll(value, "\r\n", "")
	}
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return tag{}, fmt.Errorf("%w: tag %s= has a control character", ErrTagSyntax, name)
		}
	}
	return tag{name: name, value: value, start: start, end: end}, nil
}

// spaces is the octets of folding white space (RFC 5322 section 3.2.2).
const spaces = " \t\r\n"

func isSpace(b []byte) bool {
	for _, c := range b {
		if strings.IndexByte(spaces, c) < 0 {
			return false
		}
	}
	return true
}

// isTagName checks tag-name of RFC 6376 section 3.2.
func isTagName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// Get is the value of a tag and whether it is there. Names differ by case.
func (t Tags) Get(name string) (value string, ok bool) {
	for _, tag := range t.list {
		if tag.name == name {
			return tag.value, true
		}
	}
	return "", false
}

// First is the name of the first tag, empty if there is none.
func (t Tags) First() string {
	if len(t.list) == 0 {
		return ""
	}
	return t.list[0].name
}

// span is where the value of a tag stands in what was parsed.
func (t Tags) span(name string) (start, end int, ok bool) {
	for _, tag := range t.list {
		if tag.name == name {
			return tag.start, tag.end, true
		}
	}
	return 0, 0, false
}

// DecodeBase64 decodes a tag value, in which white space may stand anywhere
// (RFC 6376 section 2.10).
func DecodeBase64(value string) ([]byte, error) {
	value = stripSpace(value)
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, errors.New("not base64")
	}
	return b, nil
}

// stripSpace takes all white space out.
func stripSpace(s string) string {
	if !strings.ContainsAny(s, spaces) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for len(s) > 0 {
		run := strings.IndexAny(s, spaces)
		if run < 0 {
			run = len(s)
		}
		b.WriteString(s[:run])
		s = s[min(run+1, len(s)):]
	}
	return b.String()
}

// splitColons splits a list such as "a : b" into its elements without white
// space around them.
func splitColons(s string) []string {
	list := strings.Split(s, ":")
	for i, e := range list {
		list[i] = strings.Trim(e, spaces)
	}
	return list
}
