package anechoic

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rooms in reading order: a package may import packages of its own room and of
// rooms above it in this list. docs is the manual, which imports nothing of ours.
var rooms = []string{"docs", "mail", "standard", "org", "ledger", "relay", "engine", "watch", "control", "app", "lab", "cmd"}

// leaves are the stages of relay/ that the others may import: they are the
// types that pass between stages.
var leaves = []string{"anechoic/relay/attribution", "anechoic/relay/custody"}

// carried are the types whose values are rights. Only their own packages write
// composite literals of them, the empty one included.
var carried = map[string][]string{
	"anechoic/relay/attribution": {"Proof"},
	"anechoic/relay/custody":     {"Proven", "Notice", "Inbound", "Disowned", "Receipt"},
}

// makers are functions that make rights, and the packages that may call them.
var makers = map[string][]string{
	"anechoic/relay/custody.NewProven":     {"anechoic/relay/policy", "anechoic/relay/custody"},
	"anechoic/relay/custody.NewNotice":     {"anechoic/app", "anechoic/relay/custody"},
	"anechoic/relay/custody.NewInbound":    {"anechoic/relay/inbound", "anechoic/relay/custody"},
	"anechoic/relay/custody.NewDisowned":   {"anechoic/relay/policy", "anechoic/relay/custody"},
	"anechoic/relay/attribution.Open":      {"anechoic/relay/custody"},
	"anechoic/relay/attribution.Seal":      {"anechoic/relay/custody"},
	"anechoic/relay/attribution.Attribute": {"anechoic/app"},
	"anechoic/relay/policy.Permit":         {"anechoic/app"},
	"anechoic/relay/policy.Disown":         {"anechoic/app"},
	"anechoic/relay/inbound.Admit":         {"anechoic/app"},
}

// testRooms hold tests and benchmarks that may import everything.
var testRooms = []string{"test"}

// sourceFile is a parsed Go file with its package path.
type sourceFile struct {
	path    string
	pkg     string
	test    bool
	imports map[string]string // local name to import path
	ast     *ast.File
}

func TestImportsPointOneWay(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range sources(t) {
		for _, imported := range f.imports {
			if !strings.HasPrefix(imported, "anechoic/") {
				continue
			}
			if problem := misdirected(f, imported); problem != "" {
				t.Errorf("%s imports %s: %s", f.path, imported, problem)
			}
			seen[f.pkg] = true
		}
	}
	if len(seen) < 10 {
		t.Fatalf("only %d packages import others: the walk is broken", len(seen))
	}
}

// misdirected says what is wrong with an import, or nothing.
func misdirected(f sourceFile, imported string) string {
	from, to := room(f.pkg), room(imported)
	if slices.Contains(testRooms, from) {
		return ""
	}
	i, j := slices.Index(rooms, from), slices.Index(rooms, to)
	switch {
	case f.pkg == "anechoic":
		return ""
	case i < 0 || j < 0:
		return "one of the two is in no room of the architecture"
	case f.test && !strings.HasPrefix(f.pkg, "anechoic/mail"):
		return "" // a test may use a later room's fakes
	case j > i:
		return "imports point up the list of rooms only"
	case from == "relay" && to == "relay" && stage(f.pkg) != stage(imported) && !slices.Contains(leaves, imported):
		return "no stage imports another stage"
	}
	return ""
}

func TestRightsAreMadeWhereTheyBelong(t *testing.T) {
	calls := 0
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if pkg, name := f.selected(n.Type); pkg != f.pkg && slices.Contains(carried[pkg], name) {
					t.Errorf("%s: composite literal of %s.%s outside its package", f.path, pkg, name)
				}
			case *ast.SelectorExpr:
				pkg, name := f.selected(n)
				allowed, isMaker := makers[pkg+"."+name]
				if !isMaker {
					return true
				}
				calls++
				if !slices.Contains(allowed, f.pkg) && pkg != f.pkg && !slices.Contains(testRooms, room(f.pkg)) {
					t.Errorf("%s uses %s.%s, which is for %s", f.path, pkg, name, strings.Join(allowed, " and "))
				}
			}
			return true
		})
	}
	if calls < 4 {
		t.Fatalf("only %d uses of makers found: the walk is broken", calls)
	}
}

// selected resolves pkg.Name to the import path and the name.
func (f sourceFile) selected(e ast.Expr) (pkg, name string) {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	return f.imports[id.Name], sel.Sel.Name
}

func room(pkg string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(pkg, "anechoic/"), "/")
	return first
}

// stage is the folder below relay/.
func stage(pkg string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(pkg, "anechoic/relay/"), "/")
	return first
}

// sources parses every Go file of the project.
func sources(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 1 && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, ".go") {
			files = append(files, parseSource(t, name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func parseSource(t *testing.T, name string) sourceFile {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	f := sourceFile{path: name, pkg: path.Join("anechoic", filepath.ToSlash(filepath.Dir(name))), test: strings.HasSuffix(name, "_test.go"), imports: map[string]string{}, ast: parsed}
	for _, spec := range parsed.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		f.imports[local] = imported
	}
	return f
}

// unguarded are rooms and packages whose goroutines need not be told of by
// mail/background: tools, fakes, and the command line beside `serve`.
func unguarded(pkg string) bool {
	return slices.Contains([]string{"test", "tools", "lab", "cmd", "anechoic"}, room(pkg)) || strings.HasSuffix(pkg, "test") || pkg == "anechoic/mail/background"
}

// A panic ends the process with a trace that shows its text. Only goroutines of
// mail/background do not.
func TestGoroutinesAreStartedByTheBackground(t *testing.T) {
	started, groups := 0, map[string]map[string]bool{} // by package, the names of its WaitGroups
	var files []sourceFile
	for _, f := range sources(t) {
		if f.test || unguarded(f.pkg) {
			continue
		}
		files = append(files, f)
		if groups[f.pkg] == nil {
			groups[f.pkg] = map[string]bool{}
		}
		f.waitGroups(groups[f.pkg])
	}
	for _, f := range files {
		if _, found := f.imports["errgroup"]; found {
			t.Errorf("%s imports errgroup: use background.Group", f.path)
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s has a go statement: use mail/background", f.path)
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if pkg, _ := f.selected(sel); pkg == "anechoic/mail/background" {
					started++
				} else if sel.Sel.Name == "Go" && groups[f.pkg][lastName(sel.X)] {
					t.Errorf("%s calls %s.Go of a sync.WaitGroup: use mail/background", f.path, lastName(sel.X))
				}
			}
			return true
		})
	}
	if started < 20 {
		t.Fatalf("only %d uses of mail/background found: the walk is broken", started)
	}
}

// waitGroups notes the names of variables and fields that are a sync.WaitGroup.
func (f sourceFile) waitGroups(names map[string]bool) {
	note := func(of ast.Expr, idents []*ast.Ident) {
		if pkg, name := f.selected(of); pkg == "sync" && name == "WaitGroup" {
			for _, id := range idents {
				names[id.Name] = true
			}
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			note(n.Type, n.Names)
		case *ast.Field:
			note(n.Type, n.Names)
		}
		return true
	})
}

// lastName is the last identifier of a.b.c.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
