package docs

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the corpora may take, as test/seeds makes them, and how many fuzzers the
// project has at least.
const (
	largestSeed, allSeeds = 4 << 10, 1500 << 10
	fewestFuzzers         = 15
)

// TestEveryFuzzerHasACorpus: its seeds are in the repository, so that every run of
// the tests tries what fuzzing has found once. Only test/seeds and people put files
// there: what the engine wrote has to be looked at.
func TestEveryFuzzerHasACorpus(t *testing.T) {
	fuzzers, total, corpora := 0, 0, map[string]bool{}
	sources(t, func(name string, f *ast.File) {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") || !strings.HasSuffix(name, "_test.go") {
				continue
			}
			fuzzers++
			folder := filepath.Join(filepath.Dir(name), "testdata", "fuzz", fn.Name.Name)
			corpora[folder] = true
			total += sizeOfCorpus(t, folder)
		}
	})
	if fuzzers < fewestFuzzers || total > allSeeds {
		t.Errorf("%d fuzzers with %d octets of seeds, want at least %d and at most %d", fuzzers, total, fewestFuzzers, allSeeds)
	}
	found, err := filepath.Glob(filepath.Join(root, "*", "testdata", "fuzz", "*"))
	for _, pattern := range []string{"*/*", "*/*/*"} {
		more, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern), "testdata", "fuzz", "*"))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, more...)
	}
	if err != nil || len(found) < fuzzers {
		t.Errorf("%d corpora for %d fuzzers, %v", len(found), fuzzers, err)
	}
	for _, path := range found {
		if folder, err := filepath.Rel(root, path); err != nil || !corpora[folder] {
			t.Errorf("%s is the corpus of no fuzzer, %v: take it away", folder, err)
		}
	}
	t.Logf("%d fuzzers, %d octets of seeds", fuzzers, total)
}

// sizeOfCorpus looks at the files of one fuzzer.
func sizeOfCorpus(t *testing.T, folder string) (total int) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil || len(files) == 0 {
		t.Errorf("%s has no seeds (make some: go run ./test/seeds %s): %v", folder, filepath.Base(folder), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(root, folder, file.Name()))
		switch {
		case err != nil:
			t.Error(err)
		case !strings.HasPrefix(file.Name(), "seed-"):
			t.Errorf("%s/%s was found by fuzzing: mend what it shows, then call it seed-...", folder, file.Name())
		case !strings.HasPrefix(string(text), "go test fuzz v1\n") || len(text) > largestSeed:
			t.Errorf("%s/%s is no seed, or has %d octets, over %d", folder, file.Name(), len(text), largestSeed)
		}
		total += len(text)
	}
	return total
}
