package authres

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"anechoic/mail"
)

// Ours says whether a field that arrived could be taken for one that the server
// named id wrote: such fields are removed on entry (RFC 8601 section 5). It errs
// on the side of removal. True is
//
//   - a field that reads well and names id: in any case, quoted, folded, with
//     comments, with a trailing dot, in U-labels or A-labels;
//   - one that reads well and names something that a lenient program may decode or
//     trim into id: encoded words, invisible characters, spaces;
//   - one that does not read well and has id anywhere, disguised or not;
//   - one that names nobody: a program may take it for its own border's.
//
// Received-SPF is treated in the same way: it has no authserv-id but perhaps a
// receiver, and without one readers go by its place. A field of another name is
// never ours: a stranger's ARC-Authentication-Results stay, as their chain vouches
// for them and breaks without them.
func Ours(f mail.Field, id string) bool {
	var name string
	var err error
	switch {
	case f.Is(FieldName):
		var r Results
		r, err = Parse(f.RawValue())
		name = r.ID
	case f.Is(ReceivedSPFName):
		var r ReceivedSPF
		if r, err = ParseReceivedSPF(f.RawValue()); err == nil && r.Receiver == "" {
			return true
		}
		name = r.Receiver
	default:
		return false
	}
	text := string(f.RawValue())
	switch {
	case errors.Is(err, errNoID):
		return true
	case err != nil:
		return mentions(text, id) || strings.Contains(text, encodedWord)
	}
	return SameHost(name, id) || mentions(name, id) || strings.Contains(name, encodedWord)
}

// SameHost says that two names are one host for a reader that is not strict: in
// any case, with trailing dots, in U-labels or A-labels.
func SameHost(a, b string) bool {
	a, b = strings.TrimRight(a, "."), strings.TrimRight(b, ".")
	if strings.EqualFold(a, b) {
		return true
	}
	x, errX := mail.ParseDomain(a)
	y, errY := mail.ParseDomain(b)
	return errX == nil && errY == nil && x == y
}

// mentions says that a text has id in it, as a whole name, for somebody who
// overlooks quotes, backslashes, control and invisible characters, space around
// dots (RFC 5322 section 4.4, obs-domain), and perhaps comments.
func mentions(text, id string) bool {
	text = visible(text)
	return hasWord(text, id) || hasWord(withoutComments(text), id)
}

func hasWord(text, id string) bool {
	words := strings.FieldsFunc(spaceAroundDots.ReplaceAllString(text, "."), func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	return slices.ContainsFunc(words, func(word string) bool { return SameHost(strings.TrimLeft(word, "."), id) })
}

var spaceAroundDots = regexp.MustCompile(`\s*\.\s*`)

// visible takes out what a reader of text does not see, and quoting.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

// withoutComments takes out what stands in parentheses.
func withoutComments(text string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch {
		case r == '(':
			depth++
			return -1
		case r == ')':
			depth = max(depth-1, 0)
			return -1
		case depth > 0:
			return -1
		}
		return r
	}, text)
}
