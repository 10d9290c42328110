package dkim

import (
	"encoding/base64"
	"strings"
)

// maxColumn is where lines of our fields end (RFC 5322 section 2.1.1).
const maxColumn = 78

// TagWriter writes the value of a field that is a tag list, folded so that no
// line passes 78 columns where that can be helped.
type TagWriter struct {
	field  string
	b      strings.Builder
	column int
}

// NewTagWriter starts the value of a field of that name.
func NewTagWriter(field string) *TagWriter {
	return &TagWriter{field: field, column: len(field) + len(": ")}
}

// Tag writes name=value.
func (w *TagWriter) Tag(name, value string) {
	if w.b.Len() > 0 {
		w.put(" ", name+"="+value+";")
		return
	}
	w.put("", name+"="+value+";")
}

// List writes name=a:b:c, which may be folded after each colon (RFC 6376
// section 3.5, h=).
func (w *TagWriter) List(name string, items []string) {
	separator := " "
	for i, item := range items {
		if i == 0 {
			item = name + "=" + item
		}
		if i < len(items)-1 {
			item += ":"
		} else {
			item += ";"
		}
		w.put(separator, item)
		separator = ""
	}
}

// put writes what may not be broken, on the next line if it does not fit.
func (w *TagWriter) put(separator, s string) {
	if w.column+len(separator)+len(s) > maxColumn {
		w.b.WriteString("\r\n")
		separator, w.column = " ", 0
	}
	w.b.WriteString(separator)
	w.b.WriteString(s)
	w.column += len(separator) + len(s)
}

const bTag = "\r\n b="

// unsigned is the value with an empty b=.
func (w *TagWriter) unsigned() string { return w.b.String() + bTag }

// signed fills the b= that unsigned ends with. The white space of folding is
// not part of what was signed (RFC 6376 section 3.7).
func (w *TagWriter) signed(unsigned string, signature []byte) string {
	var b strings.Builder
	b.WriteString(unsigned)
	text := base64.StdEncoding.EncodeToString(signature)
	room := maxColumn - len(" b=")
	for len(text) > room {
		b.WriteString(text[:room])
		b.WriteString("\r\n ")
		text, room = text[room:], maxColumn-1
	}
	b.WriteString(text)
	return b.String()
}
