package mail

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// UTF8Xtext writes an address in ASCII, for places that cannot have another:
// ORCPT, and Final-Recipient of a report (utf-8-addr-xtext of RFC 6533 section
// 3). What is no UTF-8 becomes U+FFFD.
func UTF8Xtext(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r > ' ' && r < utf8.RuneSelf-1 && r != '+' && r != '=' && r != '\\' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		}
	}
	return b.String()
}
