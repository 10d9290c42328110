package docs

import (
	"go/ast"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEveryDirectDependencyIsExplained takes as direct what some package of the
// module imports, as the go command does.
func TestEveryDirectDependencyIsExplained(t *testing.T) {
	modules := required(t)
	direct := map[string]bool{}
	sources(t, func(name string, f *ast.File) {
		if strings.HasPrefix(name, "tools/") {
			return // a module of its own
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if module := moduleOf(path, modules); module != "" {
				direct[module] = true
			}
		}
	})
	var want, got []string
	for module := range direct {
		want = append(want, module)
	}
	for _, row := range cells(read(t, "docs/dependencies.md").text) {
		got = append(got, spans(row[0])...)
		if len(row) != 3 || row[1] == "" || row[2] == "" {
			t.Errorf("docs/dependencies.md, %s: say what it saves us, and its licence", row[0])
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/dependencies.md has other modules than the code imports (-code +page):\n%s", diff)
	}
}

// required are the modules of go.mod.
func required(t *testing.T) (modules []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
			modules = append(modules, fields[0])
		}
	}
	return modules
}

// moduleOf is the module that a package is in: the longest that fits.
func moduleOf(path string, modules []string) (longest string) {
	for _, m := range modules {
		if (path == m || strings.HasPrefix(path, m+"/")) && len(m) > len(longest) {
			longest = m
		}
	}
	return longest
}
