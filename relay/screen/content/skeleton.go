package content

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

//go:generate go run ./confusables confusables.txt confusables_table.go

// confusable is a character, and where in confusableTexts what it looks like stands.
type confusable struct {
	from   rune
	at     uint16
	length uint8
}

// Skeleton is the skeleton of UTS 39 section 4: two texts with one skeleton look
// alike. It is for comparing only, never for showing. Its length is bounded by
// that of s, times the longest text of the table.
func Skeleton(s string) string {
	if isASCII(s) {
		return prototypes(s)
	}
	return norm.NFD.String(prototypes(norm.NFD.String(strings.ToValidUTF8(s, "\ufffd"))))
}

// prototypes puts what each character looks like in its place, and leaves out what
// nobody sees.
func prototypes(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		if r < utf8.RuneSelf && !changedASCII(r) {
			b.WriteByte(byte(r))
		} else if !invisible(r) {
			b.WriteString(prototype(r))
		}
	}
	return b.String()
}

// changedASCII quickly passes the characters of ASCII that look like no others.
func changedASCII(r rune) bool { return strings.ContainsRune("\"%01I`m|", r) }

// prototype looks a character up in the table.
func prototype(r rune) string {
	i, ok := slices.BinarySearchFunc(confusables[:], r, func(c confusable, r rune) int { return cmp.Compare(c.from, r) })
	if !ok {
		return string(r)
	}
	c := confusables[i]
	return confusableTexts[c.at : int(c.at)+int(c.length)]
}

// invisible says that r leaves no mark: Default_Ignorable_Code_Point as far as the
// unicode package has it.
func invisible(r rune) bool {
	return r >= 0xad && (unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) || unicode.Is(unicode.Cf, r) && !visibleFormat(r))
}

// visibleFormat lists the format characters that are seen: signs of Arabic, Syriac,
// Kaithi and Egyptian that stand before numbers or groups.
func visibleFormat(r rune) bool {
	return r >= 0x600 && r <= 0x605 || r == 0x6dd || r == 0x70f || r == 0x890 || r == 0x891 || r == 0x8e2 || r == 0x110bd || r == 0x110cd || r >= 0x13430 && r <= 0x1343f || r >= 0xfff9 && r <= 0xfffb
}

// likeness is Skeleton for names in small letters, with the tricks of ASCII that
// Unicode does not list: rn for m is in the table; vv for w, cl for d, i and j for l,
// 0, 1, 3 and 5 for letters are not.
func likeness(s string) string {
	s = strings.ToLower(Skeleton(strings.ToLower(s)))
	if !isASCII(s) {
		s = strings.Map(withoutMark, s)
	}
	return asciiTricks.Replace(s)
}

// withoutMark takes accents away: readers overlook them.
func withoutMark(r rune) rune {
	if unicode.Is(unicode.Mn, r) {
		return -1
	}
	return r
}

var asciiTricks = strings.NewReplacer("vv", "w", "cl", "d", "ci", "d", "i", "l", "0", "o", "1", "l", "3", "e", "5", "s")

// MixesScripts says that the characters of a name come from scripts that no
// language writes together: the highly restrictive level of UTS 39 section 5.2.
// Letters of one script, or those of Japanese, Korean or Chinese beside Latin, are
// not mixed. Scripts are those of the unicode package; characters that several
// scripts share count for none.
func MixesScripts(name string) bool {
	found := scriptsOf(name)
	if len(found) < 2 {
		return false
	}
	for _, together := range writtenTogether {
		if !slices.ContainsFunc(found, func(s string) bool { return !slices.Contains(together, s) }) {
			return false
		}
	}
	return true
}

var writtenTogether = [...][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

// scriptsOf lists the scripts of a name, each once.
func scriptsOf(name string) (found []string) {
	for _, r := range name {
		s := scriptOf(r)
		if s != "" && !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return found
}

// commonScripts are looked at first: the others together are under one character in
// a hundred.
var commonScripts = [...]string{"Latin", "Cyrillic", "Greek", "Han", "Hiragana", "Katakana", "Hangul", "Arabic", "Hebrew", "Thai", "Devanagari", "Armenian", "Georgian"}

// scriptOf names the script of r; empty: none of its own.
func scriptOf(r rune) string {
	if r < utf8.RuneSelf {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return "Latin"
		}
		return ""
	}
	for _, name := range commonScripts {
		if unicode.Is(unicode.Scripts[name], r) {
			return name
		}
	}
	if unicode.In(r, unicode.Common, unicode.Inherited) {
		return ""
	}
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return name
		}
	}
	return ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
