package content

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"anechoic/mail"
)

// maxName is the longest file name that is kept, in octets: longer than any file
// system takes.
const maxName = 1 << 10

// addNames adds each name that the parameters give: the plain one, its form with a
// character set, and the one in pieces (RFC 2231). Programs differ in which they
// show.
func addNames(names []string, parameters []mail.Parameter, base string) []string {
	for _, p := range parameters {
		switch p.Name {
		case base:
			names = append(names, decodeWords(p.Value))
		case base + "*":
			names = append(names, decodeExtended(p.Value))
		}
	}
	if name := inPieces(parameters, base); name != "" {
		names = append(names, name)
	}
	for i, n := range names {
		names[i] = clip(strings.TrimSpace(n), maxName)
	}
	return names
}

// piece is one numbered part of a value (RFC 2231 section 3).
type piece struct {
	text    string
	percent bool
}

// joined gives a parameter as it is, or put together of its pieces.
func joined(parameters []mail.Parameter, base string) string {
	for _, p := range parameters {
		if p.Name == base {
			return p.Value
		}
	}
	return inPieces(parameters, base)
}

// inPieces puts a parameter together of its pieces in their order (RFC 2231 section
// 3); empty: there are none.
func inPieces(parameters []mail.Parameter, base string) string {
	var pieces map[int]piece
	for _, p := range parameters {
		rest, ok := strings.CutPrefix(p.Name, base)
		if !ok || !strings.HasPrefix(rest, "*") {
			continue
		}
		number, percent := strings.CutSuffix(rest[1:], "*")
		n, err := strconv.Atoi(number)
		if _, there := pieces[n]; err != nil || there {
			continue
		}
		if pieces == nil {
			pieces = map[int]piece{}
		}
		pieces[n] = piece{p.Value, percent}
	}
	return assemble(pieces)
}

// assemble joins pieces up to the first that is missing.
func assemble(pieces map[int]piece) string {
	if len(pieces) == 0 {
		return ""
	}
	var b []byte
	label := ""
	for n := 0; ; n++ {
		p, ok := pieces[n]
		if !ok {
			return decodeWords(decodeCharset(b, label))
		}
		if n == 0 && p.percent {
			label, p.text = cutCharset(p.text)
		}
		if p.percent {
			b = appendUnescaped(b, []byte(p.text), '%')
		} else {
			b = append(b, p.text...)
		}
	}
}

// decodeExtended decodes charset'language'percent-encoded (RFC 2231 section 4).
func decodeExtended(value string) string {
	label, text := cutCharset(value)
	return decodeCharset(appendUnescaped(nil, []byte(text), '%'), label)
}

func cutCharset(value string) (label, text string) {
	if parts := strings.SplitN(value, "'", 3); len(parts) == 3 {
		return parts[0], parts[2]
	}
	return "", value
}

// distinct keeps each name that is not empty once, in order.
func distinct(names []string) (kept []string) {
	for _, n := range names {
		if n != "" && !slices.Contains(kept, n) {
			kept = append(kept, n)
		}
	}
	return kept
}

// clip cuts s to n octets, at the border of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// extensions gives the last extension of a file name as the receiver's system takes
// it, and the one before it, in small letters without the dot. Dots and space at
// the end do not count on Windows; wide letters are letters.
func extensions(name string) (last, before string) {
	if name == "" {
		return "", ""
	}
	name = strings.Map(func(r rune) rune {
		if invisible(r) {
			return -1
		}
		return r
	}, norm.NFKC.String(name))
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.TrimRight(strings.ToLower(name), ". \t\u00a0")
	stem, last, ok := cutLast(name)
	if !ok {
		return "", ""
	}
	_, before, _ = cutLast(strings.TrimRight(stem, " \t\u00a0_"))
	return last, strings.TrimSpace(before)
}

func cutLast(name string) (stem, extension string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

// hiding says what in a name hides its end from a reader: characters that turn the
// direction of writing, and ones that nobody sees.
type hiding int

const (
	hidesNothing hiding = iota
	hidesInvisible
	hidesDirection
	hidesSpace // so much space that the end is out of sight
)

// farSpace is how many spaces in a row push the end of a name out of sight.
const farSpace = 12

func hidden(name string) hiding {
	found := hidesNothing
	spaces := 0
	var before rune
	for _, r := range name {
		switch {
		case r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			return hidesDirection
		case unicode.IsControl(r) || invisible(r) && !joins(r, before) && !unicode.Is(unicode.Variation_Selector, r):
			found = hidesInvisible
		}
		if spaces++; !unicode.IsSpace(r) {
			spaces = 0
		}
		if spaces >= farSpace && found == hidesNothing {
			found = hidesSpace
		}
		before = r
	}
	return found
}

// joins says that an invisible character is part of how its language or an emoji is
// written.
func joins(r, before rune) bool {
	return before >= utf8.RuneSelf && (r == 0x200c || r == 0x200d || r == 0x200e || r == 0x200f || r >= 0xe0020)
}
