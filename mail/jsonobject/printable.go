package jsonobject

import (
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable gives a JSON text in which every character prints: those that a terminal
// would obey, or that turn the direction of text, become escapes (RFC 8259 section 7).
// Blanks and line ends between values stay. The text means the same as before.
func Printable(text []byte) []byte {
	var out []byte
	kept := 0
	for at := 0; at < len(text); {
		r, size := rune(text[at]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[at:])
		}
		if r >= 0x7f && !unicode.IsPrint(r) {
			out = appendEscape(append(out, text[kept:at]...), r)
			kept = at + size
		}
		at += size
	}
	if out == nil {
		return text
	}
	return append(out, text[kept:]...)
}

func appendEscape(b []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Appendf(b, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(b, `\u%04x`, r)
}
