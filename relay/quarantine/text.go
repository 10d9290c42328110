package quarantine

import (
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// Bounds of shown text.
const (
	maxLine  = 400 // characters of one line: what is longer is cut
	maxMarks = 3   // combining marks on one character; scripts that are read need two
)

// Visible gives a stranger's line as one that is only shown: what a terminal or a
// page would obey (control characters, marks that turn the direction of text,
// characters without a shape) stands there by its name, line ends too. The result
// is valid UTF-8, one line, and bounded.
func Visible(s string) string { return visible(s, false) }

// VisibleText is Visible for text of many lines: line ends stay, tabs are spaces.
func VisibleText(s string) string { return visible(s, true) }

func visible(s string, lines bool) string {
	var b strings.Builder
	column, marks := 0, 0
	if lines {
		s = strings.ReplaceAll(s, "\r\n", "\n")
	}
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		if lines && r == '\n' {
			b.WriteByte('\n')
			column, marks = 0, 0
			continue
		}
		if column++; column > maxLine {
			if column == maxLine+1 {
				b.WriteString("[…]")
			}
			continue
		}
		if !unicode.Is(unicode.M, r) {
			marks = 0
		} else if marks++; marks > maxMarks {
			continue
		}
		writeVisible(&b, r, lines)
	}
	return b.String()
}

// writeVisible writes one character, or its name.
func writeVisible(b *strings.Builder, r rune, lines bool) {
	switch {
	case r == '\t' && lines:
		b.WriteString("    ")
	case r < ' ':
		b.WriteRune('\u2400' + r) // the pictures of control characters
	case r == 0x7f:
		b.WriteRune('\u2421')
	case unicode.Is(unicode.Zs, r):
		b.WriteByte(' ')
	case !unicode.IsPrint(r):
		fmt.Fprintf(b, "[U+%04X]", r)
	default:
		b.WriteRune(r)
	}
}

// maxWords is the longest header text in which encoded-words are decoded.
const maxWords = 4 << 10

// Words decodes the encoded-words of a header text (RFC 2047). What cannot be
// decoded stays. It is not safe to show yet: Visible is for that.
func Words(s string) string {
	if !strings.Contains(s, "=?") || len(s) > maxWords {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	d := mime.WordDecoder{CharsetReader: func(label string, in io.Reader) (io.Reader, error) {
		charset, err := htmlindex.Get(label)
		if err != nil {
			return nil, err
		}
		return charset.NewDecoder().Reader(in), nil
	}}
	text, err := d.DecodeHeader(s)
	if err != nil {
		text = s
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// Defanged writes an address or link so that no program makes a live one of it:
// "hxxps://bad[.]example/x", "eve[at]bad[.]example".
func Defanged(s string) string {
	s = Visible(strings.TrimSpace(s))
	if len(s) >= 4 && strings.EqualFold(s[:4], "http") {
		s = "hxxp" + s[4:]
	}
	return strings.NewReplacer(".", "[.]", "@", "[at]").Replace(s)
}
