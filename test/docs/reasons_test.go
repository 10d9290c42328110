package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

// parse gives the syntax of a file below root.
func parse(t *testing.T, name string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// sources visits every Go file of the project.
func sources(t *testing.T, visit func(name string, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && d.Name() != root && d.Name() != ".."
		if d.IsDir() && (d.Name() == "testdata" || hidden) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		relative, err := filepath.Rel(root, name)
		if err == nil {
			visit(filepath.ToSlash(relative), parse(t, relative))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reply is one variable of the catalogue.
type reply struct {
	name   string
	code   string // with the enhanced code
	reason mail.Reason
}

// catalogue reads mail/replies.go.
func catalogue(t *testing.T) (replies []reply) {
	t.Helper()
	reasons := map[string]mail.Reason{}
	values(parse(t, "mail/reason.go"), func(name string, value ast.Expr) {
		if literal, ok := value.(*ast.BasicLit); ok {
			reasons[name] = mail.Reason(unquoted(t, literal))
		}
	})
	values(parse(t, "mail/replies.go"), func(name string, value ast.Expr) {
		args := value.(*ast.CallExpr).Args
		code := args[0].(*ast.BasicLit).Value + " " + unquoted(t, args[1])
		replies = append(replies, reply{name, code, reasons[args[2].(*ast.Ident).Name]})
	})
	if len(replies) < 40 {
		t.Fatalf("only %d replies were found: the search is broken", len(replies))
	}
	return replies
}

// values visits the constants and variables of a file that have a value.
func values(f *ast.File, visit func(name string, value ast.Expr)) {
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			visit(v.Names[0].Name, v.Values[0])
		}
		return true
	})
}

func unquoted(t *testing.T, e ast.Expr) string {
	t.Helper()
	text, err := strconv.Unquote(e.(*ast.BasicLit).Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// given are the replies that some code outside the catalogue uses.
func given(t *testing.T) map[string]bool {
	t.Helper()
	used := map[string]bool{}
	sources(t, func(name string, f *ast.File) {
		if strings.HasSuffix(name, "_test.go") || name == "mail/replies.go" {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if from, ok := n.X.(*ast.Ident); ok && from.Name == "mail" {
					used[n.Sel.Name] = true
				}
			case *ast.Ident:
				if strings.HasPrefix(name, "mail/") {
					used[n.Name] = true
				}
			}
			return true
		})
	})
	return used
}

// section is one reason as the page has it.
type section struct {
	codes    []string
	notGiven bool
	text     string
}

var reasonSection = regexp.MustCompile(`(?m)^## ([A-Z0-9_]+)$`)

func reasonSections(t *testing.T) (order []mail.Reason, sections map[mail.Reason]section) {
	t.Helper()
	text := read(t, "docs/reasons.md").text
	sections = map[mail.Reason]section{}
	at := reasonSection.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		name, body := mail.Reason(text[m[2]:m[3]]), text[m[1]:end]
		replies, _, _ := strings.Cut(strings.TrimSpace(body), "\n")
		order = append(order, name)
		sections[name] = section{codes: spans(replies), notGiven: strings.Contains(replies, "Not given yet"), text: body}
	}
	return order, sections
}

func TestEveryReasonHasItsSection(t *testing.T) {
	order, sections := reasonSections(t)
	if diff := cmp.Diff(mail.Reasons(), order); diff != "" {
		t.Errorf("docs/reasons.md has other sections than there are reasons (-program +page):\n%s", diff)
	}
	for name, s := range sections {
		for _, part := range []string{"- **Sender:** ", "- **Administrator:** "} {
			if !strings.Contains(s.text, part) {
				t.Errorf("docs/reasons.md, %s: %q is missing", name, part)
			}
		}
	}
}

func TestEveryReasonHasTheCodesOfTheCatalogue(t *testing.T) {
	_, sections := reasonSections(t)
	codes := map[mail.Reason][]string{}
	for _, r := range catalogue(t) {
		codes[r.reason] = append(codes[r.reason], r.code)
	}
	for name, s := range sections {
		want := codes[name]
		slices.Sort(want)
		got := slices.Sorted(slices.Values(s.codes))
		if diff := cmp.Diff(slices.Compact(want), got, cmp.Transformer("text", func(s []string) string { return fmt.Sprint(s) })); diff != "" {
			t.Errorf("docs/reasons.md, %s (-catalogue +page):\n%s", name, diff)
		}
	}
}

// HELD and RESTORED are no replies: an operator gives them.
func TestReasonsThatAreNotGivenYetAreMarked(t *testing.T) {
	_, sections := reasonSections(t)
	used, gives := given(t), map[mail.Reason]bool{mail.ReasonHeld: true, mail.ReasonRestored: true}
	for _, r := range catalogue(t) {
		gives[r.reason] = gives[r.reason] || used[r.name]
	}
	for name, s := range sections {
		switch {
		case s.notGiven && gives[name]:
			t.Errorf("docs/reasons.md says that %s is not given yet, but the code gives it: take the mark out", name)
		case !s.notGiven && !gives[name]:
			t.Errorf("docs/reasons.md does not say that %s is not given yet, and no code gives it", name)
		}
	}
}
