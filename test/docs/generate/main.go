// Command generate writes docs/reference anew, out of the program. Run it from the
// project's root:
//
//	go run ./test/docs/generate
package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"anechoic/test/docs/reference"
)

func main() {
	if err := generate("."); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(root string) error {
	run := exec.Command("go", "run", "./cmd/anechoic", "man", "--format", "markdown")
	run.Dir, run.Stderr = root, os.Stderr
	commands, err := run.Output()
	if err != nil {
		return fmt.Errorf("anechoic man: %w", err)
	}
	pages, err := reference.Pages(root, string(commands))
	if err != nil {
		return err
	}
	folder := filepath.Join(root, reference.Folder)
	for name, text := range pages {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, file)
		if _, made := pages[filepath.ToSlash(name)]; err == nil && !made {
			err = os.Remove(file)
		}
		return err
	})
}
