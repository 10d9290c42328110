package dkim

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"

	"anechoic/mail"
)

// Canonicalization is how much change in transit a signature forgives (RFC 6376
// section 3.4). The zero value is Simple, as in the standard.
type Canonicalization uint8

// The two forms.
const (
	Simple  Canonicalization = iota // almost none
	Relaxed                         // white space and the case of field names
)

// String is the word in c=.
func (c Canonicalization) String() string {
	if c == Relaxed {
		return "relaxed"
	}
	return "simple"
}

// ParseCanonicalization reads a c= tag. Without its second half the body is
// simple (RFC 6376 section 3.5).
func ParseCanonicalization(value string) (header, body Canonicalization, err error) {
	h, b, both := strings.Cut(value, "/")
	if !both {
		b = "simple"
	}
	header, okHeader := parseForm(h)
	body, okBody := parseForm(b)
	if !okHeader || !okBody {
		return 0, 0, fmt.Errorf("canonicalization %.40q is not known", value)
	}
	return header, body, nil
}

func parseForm(s string) (c Canonicalization, ok bool) {
	switch s {
	case "simple":
		return Simple, true
	case "relaxed":
		return Relaxed, true
	}
	return 0, false
}

// AppendField appends a header field in canonical form, with its CRLF.
func AppendField(dst []byte, f mail.Field, c Canonicalization) []byte {
	return appendCanonical(dst, f.Raw(), len(f.Raw())-len(f.RawValue())-3, c)
}

// AppendUnsigned appends a signature field in canonical form as its own
// signature covers it: the value of b= and the white space around it deleted,
// without the final CRLF (RFC 6376 section 3.7).
func AppendUnsigned(dst []byte, f mail.Field, c Canonicalization) []byte {
	raw, name := f.Raw(), len(f.Raw())-len(f.RawValue())-3
	if tags, err := ParseTags(f.RawValue()); err == nil {
		if start, end, ok := tags.span("b"); ok {
			raw = append(append(make([]byte, 0, len(raw)), raw[:name+1+start]...), raw[name+1+end:]...)
		}
	}
	dst = appendCanonical(dst, raw, name, c)
	return dst[:len(dst)-len(crlf)]
}

// appendCanonical takes a whole field whose name has that many octets. In a
// mail.Field, CR and LF are only folding, always followed by white space.
func appendCanonical(dst, raw []byte, name int, c Canonicalization) []byte {
	if c == Simple {
		return append(dst, raw...)
	}
	for _, b := range raw[:name] {
		dst = append(dst, lower(b))
	}
	dst = append(dst, ':')
	value := bytes.Trim(raw[name+1:], spaces)
	space := false
	for _, b := range value {
		if b == ' ' || b == '\t' || b == '\r' || b == '\n' {
			space = true
			continue
		}
		if space {
			dst = append(dst, ' ')
			space = false
		}
		dst = append(dst, b)
	}
	return append(dst, crlf...)
}

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + ('a' - 'A')
	}
	return b
}

// Index finds the fields of a header by name, from the bottom up, as signatures
// count them. It is made once for all signatures of a message, so that long
// headers under long h= lists stay cheap.
type Index struct {
	fields []mail.Field
	lowest map[string]int // by name in lower case: the last field of that name, counted from 1
	above  []int          // of each field: the one before of the same name, counted from 1; 0: none
}

// NewIndex reads the names of a header.
func NewIndex(header mail.Header) Index {
	x := Index{fields: header.Fields, lowest: make(map[string]int, len(header.Fields)), above: make([]int, len(header.Fields))}
	var name []byte
	for i, f := range header.Fields {
		name = name[:0]
		for _, b := range f.Raw()[:len(f.Raw())-len(f.RawValue())-3] {
			name = append(name, lower(b))
		}
		x.above[i] = x.lowest[string(name)]
		x.lowest[string(name)] = i + 1
	}
	return x
}

// Count is the number of fields of that name, given in lower case.
func (x Index) Count(name string) (n int) {
	for at := x.lowest[name]; at > 0; at = x.above[at-1] {
		n++
	}
	return n
}

// AppendFields appends the fields that an h= list of names in lower case
// selects: for each occurrence of a name the next field from the bottom, nothing
// where there is none left (RFC 6376 section 5.4.2). The signature field that is
// being verified is never selected (section 3.5); pass the zero Field to sign.
func (x Index) AppendFields(dst []byte, names []string, own mail.Field, c Canonicalization) []byte {
	next := make(map[string]int, len(names)) // the field that the next occurrence selects
	for _, name := range names {
		at, again := next[name]
		if !again {
			at = x.lowest[name]
		}
		if at > 0 && same(x.fields[at-1], own) {
			at = x.above[at-1]
		}
		if at > 0 {
			dst = AppendField(dst, x.fields[at-1], c)
			at = x.above[at-1]
		}
		next[name] = at
	}
	return dst
}

// same says that two fields are the same octets in memory.
func same(a, b mail.Field) bool {
	return len(b.Raw()) > 0 && &a.Raw()[0] == &b.Raw()[0]
}

// Digest is what the signature field own signs: the selected fields, then own
// itself without its b= (RFC 6376 section 3.7).
func (x Index) Digest(names []string, own mail.Field, c Canonicalization) [sha256.Size]byte {
	b := x.AppendFields(make([]byte, 0, 4096), names, own, c)
	return sha256.Sum256(AppendUnsigned(b, own, c))
}
