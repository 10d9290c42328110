package mail

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// parse gives the syntax of a file of this package.
func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// constants gives names and values of the reasons, in the order of reason.go.
func constants(t *testing.T) (names []string, values map[string]Reason) {
	values = map[string]Reason{}
	ast.Inspect(parse(t, "reason.go"), func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Error(err)
			}
			names = append(names, v.Names[0].Name)
			values[v.Names[0].Name] = Reason(text)
		}
		return true
	})
	return names, values
}

type reply struct {
	name    string
	refusal *Refusal
}

// catalogue makes every reply of replies.go again from its source, so that none
// is forgotten. Anything there that is no call of refuse is an error.
func catalogue(t *testing.T) (replies []reply) {
	t.Helper()
	_, reasons := constants(t)
	for _, d := range parse(t, "replies.go").Decls {
		for _, s := range d.(*ast.GenDecl).Specs {
			v := s.(*ast.ValueSpec)
			call, ok := v.Values[0].(*ast.CallExpr)
			if !ok || len(v.Names) != 1 || call.Fun.(*ast.Ident).Name != "refuse" {
				t.Fatalf("%s is not made by refuse", v.Names[0])
			}
			code, err1 := strconv.Atoi(call.Args[0].(*ast.BasicLit).Value)
			enhanced, err2 := strconv.Unquote(call.Args[1].(*ast.BasicLit).Value)
			text, err3 := strconv.Unquote(call.Args[3].(*ast.BasicLit).Value)
			reason, known := reasons[call.Args[2].(*ast.Ident).Name]
			if err1 != nil || err2 != nil || err3 != nil || !known {
				t.Fatalf("%s cannot be read: %v %v %v, reason known: %v", v.Names[0], err1, err2, err3, known)
			}
			replies = append(replies, reply{v.Names[0].Name, refuse(code, enhanced, reason, text)})
		}
	}
	return replies
}

// TestCatalogue prints every reply; -update writes the golden file anew.
func TestCatalogue(t *testing.T) {
	var b strings.Builder
	for _, r := range catalogue(t) {
		fmt.Fprintf(&b, "%-22s  %s\n", r.name, r.refusal.Line("ID"))
	}
	golden := filepath.Join("testdata", "catalogue.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("the catalogue changed; if that is meant, go test ./mail -update (-golden +now):\n%s", d)
	}
}

func TestEveryReplyIsWellFormed(t *testing.T) {
	form := regexp.MustCompile(`^([45])[0-9]{2} ([45])\.[0-9]{1,3}\.[0-9]{1,3} [ -Z\\-~]+ \[[A-Z0-9_]+ id=[a-z2-7]{26}\]$`)
	seen := map[string]string{}
	for _, r := range catalogue(t) {
		line := r.refusal.Line("abcdefghijklmnopqrstuvwxyz")
		m := form.FindStringSubmatch(line)
		if m == nil || m[1] != m[2] || len(line) > 510 { // RFC 5321 section 4.5.3.1.5
			t.Errorf("%s: %q", r.name, line)
		}
		if !slices.Contains(Reasons(), r.refusal.Reason()) {
			t.Errorf("%s: %q is not in Reasons", r.name, r.refusal.Reason())
		}
		if other, twice := seen[line]; twice {
			t.Errorf("%s and %s are the same reply", r.name, other)
		}
		seen[line] = r.name
		if r.refusal.Temporary() != (r.refusal.Code() < 500) || r.refusal.Closes() != (r.refusal.Code() == 421 || r.refusal.Code() == 521) {
			t.Errorf("%s: temporary %v, closes %v", r.name, r.refusal.Temporary(), r.refusal.Closes())
		}
	}
}

func TestReasonsListsTheWholeSet(t *testing.T) {
	names, values := constants(t)
	var want []Reason
	for _, n := range names {
		if values[n] == "" || slices.Contains(want, values[n]) {
			t.Errorf("%s is %q: empty or there twice", n, values[n])
		}
		want = append(want, values[n])
	}
	if d := cmp.Diff(want, Reasons()); d != "" {
		t.Errorf("-constants +Reasons:\n%s", d)
	}
}

// TestNoRefusalIsASuccess: not even one that nobody made.
func TestNoRefusalIsASuccess(t *testing.T) {
	for name, r := range map[string]*Refusal{"nil": nil, "zero": {}, "nil with a cause": (*Refusal)(nil).Because("x"), "zero with a cause": new(Refusal).Because("x")} {
		if r.Code() != Internal.Code() || r.Enhanced() != Internal.Enhanced() || r.Reason() != ReasonInternal || r.Text() != Internal.Text() || !r.Temporary() || r.Closes() {
			t.Errorf("%s: %s", name, r)
		}
		if !strings.HasPrefix(r.Line("id"), "451 4.3.0 ") || !strings.HasPrefix(r.String(), "451 4.3.0 ") {
			t.Errorf("%s: %s", name, r.Line("id"))
		}
	}
	for _, bad := range []struct {
		code     int
		enhanced string
	}{{250, "2.0.0"}, {354, "3.0.0"}, {600, "6.0.0"}, {550, "4.7.1"}, {451, "5.7.1"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d %s became a refusal", bad.code, bad.enhanced)
				}
			}()
			refuse(bad.code, bad.enhanced, ReasonInternal, "text")
		}()
	}
}

func TestTheCauseStaysWithUs(t *testing.T) {
	r := FromNotOwned.Because("%s is not one of %s", "a.example", "b.example")
	if strings.Contains(r.Line("id"), "a.example") || !strings.Contains(r.String(), "a.example") || FromNotOwned.Detail() != "" {
		t.Errorf("%s / %s", r.Line("id"), r)
	}
}
