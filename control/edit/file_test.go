package edit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestAFileIsReplacedWithItsModeAndBehindItsLink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.toml"), filepath.Join(dir, "link.toml")
	writeFile(t, real, "old", 0o640)
	if err := os.Symlink("real.toml", link); err != nil {
		t.Fatal(err)
	}
	f, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	if f, err = f.Replace([]byte("new")); err != nil || string(f.Text) != "new" {
		t.Fatal(f, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced by a file", err)
	}
	info, err := os.Stat(real)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := f.Replace([]byte("newer")); err != nil {
		t.Error("what Replace gives cannot be replaced again:", err)
	}
	leftNothing(t, dir, "real.toml", "link.toml")
}

func TestAFileThatSomebodyElseChangedIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.toml")
	writeFile(t, path, "old", 0o600)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "bob's", 0o600)
	if _, err := f.Replace([]byte("mine")); !errors.Is(err, ErrChanged) {
		t.Errorf("the error is %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "bob's" {
		t.Errorf("the file says %q", text)
	}
}

func TestOfManyWhoChangeAFileAtATimeOneDoes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.toml")
	writeFile(t, path, "old", 0o600)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const many = 8
	var wait sync.WaitGroup
	results := make([]error, many)
	for i := range many {
		wait.Add(1)
		go func() {
			defer wait.Done()
			_, results[i] = f.Replace([]byte(strings.Repeat("x", i+1)))
		}()
	}
	wait.Wait()
	done := 0
	for _, err := range results {
		if err == nil {
			done++
		} else if !errors.Is(err, ErrChanged) {
			t.Error(err)
		}
	}
	if done != 1 {
		t.Errorf("%d of them changed it", done)
	}
	leftNothing(t, dir, "r.toml")
}

func TestWhatCannotBeReplacedSaysSo(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func leftNothing(t *testing.T, dir string, but ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		found := false
		for _, name := range but {
			found = found || e.Name() == name
		}
		if !found {
			t.Errorf("%s was left over", e.Name())
		}
	}
}

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
