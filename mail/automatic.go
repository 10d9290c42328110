package mail

import (
	"bytes"
	"strings"
)

// IsAutomatic says that a message calls itself a report or an automatic answer,
// which alone may come from the null sender: a multipart/report (RFC 6522
// section 3), or Auto-Submitted with another word than "no" (RFC 3834 section 5).
// A field that is there twice says nothing, because its readers may differ.
func IsAutomatic(h Header) bool {
	if h.Count("Auto-Submitted") == 1 {
		f, _ := h.First("Auto-Submitted")
		if word := firstWord(f.RawValue()); isToken(word) && !strings.EqualFold(word, "no") {
			return true
		}
	}
	if h.Count("Content-Type") != 1 {
		return false
	}
	f, _ := h.First("Content-Type")
	return mediaType(f.RawValue()) == "multipart/report"
}

// firstWord is a value up to its parameters, without comments.
func firstWord(value []byte) string {
	word, _, _ := bytes.Cut(withoutComments(value), []byte{';'})
	return string(bytes.TrimSpace(word))
}

// isToken is token of RFC 2045 section 5.1, as far as such words need it.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAtext(s[i]) && s[i] != '.' {
			return false
		}
	}
	return s != ""
}
