package document

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Problem is one thing wrong in a file, told so that it can be mended: where,
// what, and what to do. Line and Column count from 1; 0 means that the file as
// a whole is meant, or that there is no file.
type Problem struct {
	File    string
	Line    int
	Column  int
	Where   string // path of keys, for example organisation[1].source[0].from[2]
	Message string
	Hint    string
	Also    string // a second place that has to do with it: a path, after Place file:line:column
}

// String is the problem on one line: file:line:column: where: message (hint). It
// is discreet.
func (p Problem) String() string {
	p = p.Discreet()
	var b strings.Builder
	switch {
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	case p.File != "":
		b.WriteString(p.File + ": ")
	}
	if p.Where != "" {
		b.WriteString(p.Where + ": ")
	}
	b.WriteString(p.Message)
	if p.Also != "" {
		b.WriteString("; see also " + p.Also)
	}
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Error makes a Problem usable where an error is wanted.
func (p Problem) Error() string { return p.String() }

// secret is what a person may have put where it does not belong, and a problem
// would repeat: the secret of a secret header, a private key with or without its
// PEM lines, the hash of a password.
var secret = regexp.MustCompile(`(?s)anx1_[a-z2-7]+|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)|\$argon2[a-z]*\$[a-z0-9=,$]*\$[A-Za-z0-9+/]{8,}[A-Za-z0-9+/=$]*|[A-Za-z0-9+/=]{60,}`)

// digest is no secret: 64 hexadecimal digits and nothing else.
var digest = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// Discreet is the problem without secrets: problems are printed, answered and
// logged. A password has no form by which it is known: what reads one must not
// repeat it.
func (p Problem) Discreet() Problem {
	for _, text := range []*string{&p.Where, &p.Message, &p.Hint} {
		*text = secret.ReplaceAllStringFunc(*text, func(found string) string {
			if digest.MatchString(found) || isPath(found) {
				return found
			}
			return "(a secret, left out)"
		})
	}
	return p
}

// isPath tells a long path from a key in base64, where one character in 64 is a
// slash: a key as long as a path has so many once in fifty times, and begins as
// DER in base64 does.
func isPath(found string) bool {
	const charactersEach = 20
	der := strings.HasPrefix(found, "MI") || strings.HasPrefix(found, "MC4")
	return !der && strings.Count(found, "/") > len(found)/charactersEach
}

// Sort puts problems in the order of their files and lines.
func Sort(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Where, b.Where),
			cmp.Compare(a.Message, b.Message),
		)
	})
}
