package lab

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// tone is how text stands out. Words always say the same: a tone alone never
// carries meaning.
type tone uint8

const (
	plain tone = iota
	strong
	good
	bad
	faint
)

// span is text of one tone; line is what stands on one.
type (
	span struct {
		tone tone
		text string
	}
	line []span
)

func textLine(text string) line { return line{{plain, text}} }

// length is in columns, as far as letters are one wide.
func (l line) length() (n int) {
	for _, s := range l {
		n += utf8.RuneCountInString(s.text)
	}
	return n
}

// padded is l with blanks up to a length.
func (l line) padded(length int) line {
	return append(l[:len(l):len(l)], span{plain, strings.Repeat(" ", max(length-l.length(), 0))})
}

// Escape sequences of a terminal (ECMA-48).
var escapes = [...]string{strong: "\x1b[1m", good: "\x1b[32m", bad: "\x1b[31m", faint: "\x1b[2m"}

// plainEnd ends a tone.
const plainEnd = "\x1b[0m"

// render writes a line for a terminal, with colours if there may be.
func (l line) render(colour bool) string {
	var b strings.Builder
	for _, s := range l {
		if !colour || s.tone == plain || strings.TrimSpace(s.text) == "" {
			b.WriteString(printable(s.text))
			continue
		}
		b.WriteString(escapes[s.tone] + printable(s.text) + plainEnd)
	}
	return strings.TrimRight(b.String(), " ")
}

// printable replaces what a terminal would obey: control characters, and marks
// that turn the direction of text. Each stays one column.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// wrap breaks text at blanks into lines of at most a width; a word that is longer
// is cut.
func wrap(text string, width int) (lines []string) {
	width = max(width, 1)
	current := ""
	for _, word := range strings.Fields(printable(text)) {
		for {
			room := width - utf8.RuneCountInString(current)
			if current != "" {
				room--
			}
			runes := []rune(word)
			if len(runes) <= room {
				if current != "" {
					current += " "
				}
				current += word
				break
			}
			if current != "" {
				lines, current = append(lines, current), ""
				continue
			}
			lines, word = append(lines, string(runes[:width])), string(runes[width:])
		}
	}
	return append(lines, current)
}

// fit cuts a text to a width, and shows that it did.
func fit(text string, width int) string {
	runes := []rune(printable(text))
	if len(runes) <= width {
		return string(runes)
	}
	return string(runes[:max(width-1, 0)]) + "…"
}
