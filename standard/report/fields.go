package report

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Field is one field of a header, or of a group of a report: unfolded, without
// white space around its value.
type Field struct{ Name, Value string }

// Fields are fields in their order.
type Fields []Field

// Get gives the value of the first field of a name, without regard to case; or
// the empty text.
func (f Fields) Get(name string) string {
	for _, field := range f {
		if strings.EqualFold(field.Name, name) {
			return field.Value
		}
	}
	return ""
}

// All gives the values of all fields of a name.
func (f Fields) All(name string) (values []string) {
	for _, field := range f {
		if strings.EqualFold(field.Name, name) {
			values = append(values, field.Value)
		}
	}
	return values
}

// Message cuts a message, or a part, into its header's fields and what follows the
// empty line. A text that begins with no field has no header.
func Message(b []byte) (Fields, []byte) {
	fields, rest := group(b)
	return fields, rest
}

// Groups reads fields in groups with empty lines between them, as
// message/delivery-status has them (RFC 3464 section 2.1). Empty groups are left
// out.
func Groups(b []byte) (groups []Fields) {
	for len(b) > 0 && len(groups) < maxFields {
		var fields Fields
		if fields, b = group(b); len(fields) > 0 {
			groups = append(groups, fields)
		}
	}
	return groups
}

// group reads fields up to an empty line. A line that is neither a field nor goes
// on with one is passed over.
func group(b []byte) (fields Fields, rest []byte) {
	for len(b) > 0 {
		line, after, _ := bytes.Cut(b, []byte{'\n'})
		line, b = bytes.TrimSuffix(line, []byte{'\r'}), after
		text := bytes.TrimSpace(line)
		switch {
		case len(text) == 0:
			return fields, b
		case line[0] == ' ' || line[0] == '\t':
			if n := len(fields); n > 0 && n < maxFields {
				fields[n-1].Value += " " + string(text)
			}
		case len(fields) < maxFields:
			if name, value, ok := bytes.Cut(line, []byte{':'}); ok && isName(name) {
				fields = append(fields, Field{Name: string(bytes.TrimRight(name, " \t")), Value: string(bytes.TrimSpace(value))})
			}
		}
	}
	return fields, nil
}

// isName takes the name of a field (RFC 5322 section 3.6.8), with white space
// behind it.
func isName(name []byte) bool {
	name = bytes.TrimRight(name, " \t")
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(name) > 0
}

// Printable makes a stranger's text fit for a line of a log or a report: valid
// UTF-8 becomes ASCII with a question mark for everything else, white space one
// space, and it ends after so many octets.
func Printable(s string, limit int) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		switch {
		case r == ' ' || r == '\t' || r == '\r' || r == '\n':
			space = b.Len() > 0
			continue
		case r < ' ' || r > '~' || r == utf8.RuneError:
			r = '?'
		}
		if b.Len()+2 > limit {
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}
