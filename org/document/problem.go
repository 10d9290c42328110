package document

import (
	"cmp"
	"fmt"
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

// String is the problem on one line: file:line:column: where: message (hint).
func (p Problem) String() string {
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
