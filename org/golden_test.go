package org

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// verdict loads a registry and tells everything about it, a line each.
func verdict(path string) (told string, directory *Directory) {
	reg, _ := ReadRegistry(path)
	directory, problems, findings := Build(reg, shared, ours, 1, today)
	var b strings.Builder
	for _, p := range problems {
		p.File = filepath.Base(p.File)
		fmt.Fprintln(&b, p)
	}
	for _, f := range findings {
		fmt.Fprintf(&b, "finding: %s/%s (until %s): %s\n", f.Organisation, f.Source, f.Until.Format(time.DateOnly), f.Text)
	}
	folder, _ := filepath.Abs(filepath.Dir(path))
	told = strings.ReplaceAll(b.String(), folder, "FOLDER")
	return strings.ReplaceAll(told, path, filepath.Base(path)), directory
}

// checkGolden compares what is told with the file beside the registry.
func checkGolden(t *testing.T, path, told string) {
	t.Helper()
	golden := strings.TrimSuffix(path, ".toml") + ".golden"
	if *update {
		if err := os.WriteFile(golden, []byte(told), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), told); diff != "" {
		t.Errorf("%s tells something else (-want +got; -update writes it anew):\n%s", path, diff)
	}
}

func registries(t *testing.T, folder string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.toml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no registries in testdata/%s", folder)
	}
	return paths
}

func TestBadRegistriesAreRefusedWithEveryProblemAndItsPlace(t *testing.T) {
	for _, path := range registries(t, "bad") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".toml"), func(t *testing.T) {
			told, d := verdict(path)
			if d != nil {
				t.Error("a Directory was made of it")
			}
			if !strings.Contains(told, ".toml:") {
				t.Errorf("no problem with a place:\n%s", told)
			}
			checkGolden(t, path, told)
		})
	}
}

func TestGoodRegistriesLoad(t *testing.T) {
	for _, path := range registries(t, "good") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".toml"), func(t *testing.T) {
			told, d := verdict(path)
			if d == nil {
				t.Error("no Directory was made of it")
			}
			checkGolden(t, path, told)
		})
	}
}
