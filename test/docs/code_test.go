package docs

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	codePath = regexp.MustCompile("`((?:mail|standard|org|ledger|relay|engine|control|app|lab|cmd|test|docs)/[A-Za-z0-9_./-]*|[a-z_]+_test\\.go)`")
	testName = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z][A-Za-z0-9]+\b`)
	rfcName  = regexp.MustCompile(`RFC (\d+)`)
)

func TestFilesThatPagesNameExist(t *testing.T) {
	for _, p := range manual(t) {
		for _, m := range codePath.FindAllStringSubmatch(p.prose(), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil && m[1] != "docs/adr/" {
				t.Errorf("%s names %s, which is not there", p.name, m[1])
			}
		}
	}
}

func TestTestsThatPagesNameExist(t *testing.T) {
	known := map[string]bool{}
	sources(t, func(name string, f *ast.File) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasSuffix(name, "_test.go") {
				known[fn.Name.Name] = true
			}
		}
	})
	for _, p := range manual(t) {
		for _, name := range testName.FindAllString(p.prose(), -1) {
			if !known[name] {
				t.Errorf("%s names %s, and there is no such test", p.name, name)
			}
		}
	}
}

func TestEveryRFCThatTheCodeCitesIsCovered(t *testing.T) {
	text := read(t, "docs/rfc-coverage.md").text
	var told []string
	for _, m := range rfcName.FindAllStringSubmatch(text, -1) {
		told = append(told, m[1])
	}
	sources(t, func(name string, f *ast.File) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test/") {
			return
		}
		for _, group := range f.Comments {
			for _, m := range rfcName.FindAllStringSubmatch(group.Text(), -1) {
				if !slices.Contains(told, m[1]) {
					told = append(told, m[1])
					t.Errorf("docs/rfc-coverage.md does not tell of RFC %s, which %s cites", m[1], name)
				}
			}
		}
	})
}
