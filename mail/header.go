package mail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// MaxLine is the longest line in octets without its CRLF (RFC 5322 section 2.1.1).
const MaxLine = 998

// ErrHeaderSyntax, ErrHeaderTooBig and ErrLineTooLong say why a header was not
// read. The wrapping error names the field or the line.
var (
	ErrHeaderSyntax = errors.New("header syntax")
	ErrHeaderTooBig = errors.New("header too big")
	ErrLineTooLong  = errors.New("line too long")
)

// Field is one header field exactly as it arrived: name, colon, value with its
// folding, final CRLF. It shares its bytes with the header it was read from and
// must not be changed.
type Field struct {
	raw  []byte
	name int // octets of the name, up to the colon
}

// NewField makes a field of our own. The value is written as it is after
// "name: " and may be folded (CRLF followed by space or tab). It panics on a
// value that would end the field or the header: what strangers wrote does not
// belong into a field of ours.
func NewField(name, value string) Field {
	raw := []byte(name + ": " + value + "\r\n")
	h, err := ParseHeader(raw, HeaderLimits{})
	if err != nil || len(h.Fields) != 1 {
		panic(fmt.Sprintf("mail: NewField(%q) is not one field: %v", name, err))
	}
	return h.Fields[0]
}

// Name is the field name as it was written.
func (f Field) Name() string { return string(f.raw[:f.name]) }

// Is compares the name without regard to case.
func (f Field) Is(name string) bool {
	return len(name) == f.name && strings.EqualFold(name, string(f.raw[:f.name]))
}

// HasPrefix says that the name begins with prefix, without regard to case.
func (f Field) HasPrefix(prefix string) bool {
	return len(prefix) <= f.name && strings.EqualFold(prefix, string(f.raw[:len(prefix)]))
}

// Raw is the whole field with its line ends.
func (f Field) Raw() []byte { return f.raw }

// RawValue is what follows the colon, folded, without the final CRLF.
func (f Field) RawValue() []byte { return f.raw[f.name+1 : len(f.raw)-2] }

// Value is the value unfolded (each CRLF taken out, RFC 5322 section 2.2.3) and
// without space around it.
func (f Field) Value() string {
	v := f.RawValue()
	if bytes.IndexByte(v, '\r') >= 0 {
		v = bytes.ReplaceAll(v, []byte("\r\n"), nil)
	}
	return string(bytes.Trim(v, " \t"))
}

// Header is the fields of a message in the order in which they arrived.
type Header struct {
	Fields []Field
}

// HeaderLimits bounds what ParseHeader accepts. Zero means no limit.
type HeaderLimits struct {
	Bytes  int // octets of the whole header
	Fields int // number of fields
}

// ParseHeader reads a whole header: fields, each ended by CRLF, optionally
// followed by the empty line. It is strict (RFC 5322 section 2.2): a name is
// one or more printable characters directly followed by the colon, the first
// line does not begin with space, a continuation line is not made of space
// alone, CR and LF stand only together, and NUL nowhere. Errors wrap one of
// the three errors above.
func ParseHeader(b []byte, limits HeaderLimits) (Header, error) {
	if limits.Bytes > 0 && len(b) > limits.Bytes {
		return Header{}, fmt.Errorf("%w: %d octets, the limit is %d", ErrHeaderTooBig, len(b), limits.Bytes)
	}
	h := Header{Fields: make([]Field, 0, 24)}
	for n := 1; len(b) > 0 && !bytes.Equal(b, crlf); n++ {
		if limits.Fields > 0 && n > limits.Fields {
			return Header{}, fmt.Errorf("%w: more than %d fields", ErrHeaderTooBig, limits.Fields)
		}
		f, err := cutField(b)
		if err != nil {
			return Header{}, fmt.Errorf("field %d: %w", n, err)
		}
		h.Fields = append(h.Fields, f)
		b = b[len(f.raw):]
	}
	return h, nil
}

var crlf = []byte("\r\n")

// cutField takes the first field from b.
func cutField(b []byte) (Field, error) {
	colon := 0
	for colon < len(b) && b[colon] > ' ' && b[colon] < 0x7f && b[colon] != ':' {
		colon++
	}
	name := b[:colon]
	if colon == len(b) || b[colon] != ':' {
		return Field{}, fmt.Errorf("%w: %.60q is not followed by a colon", ErrHeaderSyntax, name)
	}
	if colon == 0 {
		return Field{}, fmt.Errorf("%w: there is no field name before the colon", ErrHeaderSyntax)
	}
	end := 0
	for {
		eol := bytes.IndexByte(b[end:], '\n')
		if eol < 1 || b[end+eol-1] != '\r' {
			return Field{}, fmt.Errorf("%w: a line of %.60q does not end in CRLF", ErrHeaderSyntax, name)
		}
		line := b[end : end+eol-1]
		if len(line) > MaxLine {
			return Field{}, fmt.Errorf("%w: a line of %.60q has %d octets, the limit is %d", ErrLineTooLong, name, len(line), MaxLine)
		}
		if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
			return Field{}, fmt.Errorf("%w: %.60q has a bare CR or a NUL", ErrHeaderSyntax, name)
		}
		if end > 0 && len(bytes.Trim(line, " \t")) == 0 {
			return Field{}, fmt.Errorf("%w: %.60q has a continuation line of white space", ErrHeaderSyntax, name)
		}
		end += eol + 1
		if end == len(b) || b[end] != ' ' && b[end] != '\t' {
			return Field{raw: b[:end:end], name: colon}, nil
		}
	}
}

// All gives the fields of that name in order, without regard to case.
func (h Header) All(name string) []Field {
	var found []Field
	for _, f := range h.Fields {
		if f.Is(name) {
			found = append(found, f)
		}
	}
	return found
}

// Count is the number of fields of that name.
func (h Header) Count(name string) (n int) {
	for _, f := range h.Fields {
		if f.Is(name) {
			n++
		}
	}
	return n
}

// First is the topmost field of that name.
func (h Header) First(name string) (Field, bool) {
	for _, f := range h.Fields {
		if f.Is(name) {
			return f, true
		}
	}
	return Field{}, false
}

// Without gives a header that lacks the fields for which drop says true. The
// others keep their bytes and order.
func (h Header) Without(drop func(Field) bool) Header {
	kept := make([]Field, 0, len(h.Fields))
	for _, f := range h.Fields {
		if !drop(f) {
			kept = append(kept, f)
		}
	}
	return Header{Fields: kept}
}

// Prepend gives a header with the given fields on top, in that order.
func (h Header) Prepend(fields ...Field) Header {
	return Header{Fields: append(append(make([]Field, 0, len(fields)+len(h.Fields)), fields...), h.Fields...)}
}

// Size is the number of octets of Bytes.
func (h Header) Size() int {
	n := len(crlf)
	for _, f := range h.Fields {
		n += len(f.raw)
	}
	return n
}

// Bytes is the header as it goes on the wire, the empty line included.
func (h Header) Bytes() []byte {
	b := make([]byte, 0, h.Size())
	for _, f := range h.Fields {
		b = append(b, f.raw...)
	}
	return append(b, crlf...)
}
