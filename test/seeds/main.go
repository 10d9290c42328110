// Command seeds makes the corpora of the fuzzers: for each FuzzXxx of the tree a
// few inputs in testdata/fuzz/FuzzXxx beside it, which every go test runs, and
// from which every fuzzing run starts.
//
//	go run ./test/seeds                       all fuzzers, 15 seconds each
//	go run ./test/seeds -time 1m FuzzSession  the named ones, a minute each
//
// For each fuzzer it starts from the seeds in the code and the corpus there is,
// fuzzes for the time given with a cache of its own, runs what was found one by
// one under coverage, and keeps those that show statements, or numbers of
// repetitions of one, that nothing kept before shows. The files are named seed-
// and a hash of their content; files of other names are left alone (the engine
// writes an input that fails a test there, under a name that git ignores: such a
// find is for a person to look at, to mend, and to rename).
//
// It is no test: it runs the go command, and what it finds differs each time. So
// it is run by hand, when a fuzzer is new or what it feeds has changed.
package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What a corpus may take: the whole of them is read at every go test.
const (
	maxFiles = 24       // files of one fuzzer
	minFiles = 3        // even where they show nothing new
	maxSize  = 4 << 10  // octets of a file
	maxTotal = 24 << 10 // octets of one fuzzer's files
	maxTried = 150      // inputs that are run one by one
)

func main() {
	spent := flag.Duration("time", 15*time.Second, "how long each fuzzer runs")
	flag.Parse()
	fuzzers, err := find(".")
	if err != nil {
		fail(err)
	}
	failed := false
	for _, f := range fuzzers {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), f.name) {
			continue
		}
		files, err := f.renew(*spent)
		if err != nil {
			failed = true
			fmt.Fprintf(os.Stderr, "seeds: %s in %s: %v\n", f.name, f.dir, err)
			continue
		}
		fmt.Printf("%s %s: %d files\n", f.dir, f.name, files)
	}
	if failed {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "seeds:", err)
	os.Exit(1)
}

// fuzzer is one FuzzXxx function and the folder of its package.
type fuzzer struct{ dir, name string }

var fuzzFunction = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]+)\(`)

// find gives the fuzzers of the tree below root.
func find(root string) (fuzzers []fuzzer, err error) {
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, found := range fuzzFunction.FindAllSubmatch(code, -1) {
			fuzzers = append(fuzzers, fuzzer{filepath.Dir(path), string(found[1])})
		}
		return err
	})
	return fuzzers, err
}

// input is one file of a corpus.
type input struct {
	content []byte
	shows   map[string]bool // what it covers, empty until it has been run
}

// renew fuzzes for a time and writes the corpus anew.
func (f fuzzer) renew(spent time.Duration) (files int, err error) {
	work, err := os.MkdirTemp("", "seeds")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	cache := filepath.Join(work, "cache")
	if err := f.fuzz(work, cache, spent); err != nil {
		return 0, err
	}
	inputs, err := read(filepath.Join(cache, f.name), f.corpus())
	if err != nil {
		return 0, err
	}
	if err := f.cover(work, inputs); err != nil {
		return 0, err
	}
	chosen := choose(inputs)
	return len(chosen), f.write(chosen)
}

// corpus is the folder the engine reads.
func (f fuzzer) corpus() string { return filepath.Join(f.dir, "testdata", "fuzz", f.name) }

// fuzz runs the fuzzer in its own folder with a cache of this run alone.
func (f fuzzer) fuzz(work, cache string, spent time.Duration) error {
	binary := filepath.Join(work, "fuzz.test")
	if err := command(".", "go", "test", "-c", "-fuzz", "^"+f.name+"$", "-o", binary, "./"+f.dir); err != nil {
		return err
	}
	err := command(f.dir, binary, "-test.run=^$", "-test.fuzz=^"+f.name+"$", "-test.fuzzcachedir="+cache,
		"-test.fuzztime="+spent.String(), "-test.fuzzminimizetime=20x", "-test.parallel=1")
	if err != nil && strings.Contains(err.Error(), "context deadline exceeded") && !strings.Contains(err.Error(), "Failing input") {
		return nil // at the end of its time the engine now and then reports its own deadline
	}
	return err
}

func command(dir, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, out)
	}
	return nil
}

// read gives the inputs of folders that are small enough, each once, the short
// ones first; of very many, some of every length.
func read(folders ...string) (inputs []*input, err error) {
	seen := map[string]bool{}
	for _, folder := range folders {
		files, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, file := range files {
			content, err := os.ReadFile(filepath.Join(folder, file.Name()))
			if err != nil {
				return nil, err
			}
			if len(content) <= maxSize && !seen[string(content)] {
				seen[string(content)] = true
				inputs = append(inputs, &input{content: content})
			}
		}
	}
	slices.SortFunc(inputs, func(a, b *input) int {
		return cmp.Or(cmp.Compare(len(a.content), len(b.content)), cmp.Compare(string(a.content), string(b.content)))
	})
	if step := len(inputs)/maxTried + 1; step > 1 {
		var some []*input
		for i := step - 1; i < len(inputs); i += step {
			some = append(some, inputs[i])
		}
		inputs = some
	}
	return inputs, nil
}

// cover runs each input alone and notes what of the package it shows.
func (f fuzzer) cover(work string, inputs []*input) error {
	binary, profile := filepath.Join(work, "cover.test"), filepath.Join(work, "profile")
	if err := command(".", "go", "test", "-c", "-cover", "-covermode=atomic", "-o", binary, "./"+f.dir); err != nil {
		return err
	}
	room := filepath.Join(work, "room")
	if err := mirror(f.dir, room); err != nil {
		return err
	}
	file := filepath.Join(room, "testdata", "fuzz", f.name, "input")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	for _, in := range inputs {
		if err := os.WriteFile(file, in.content, 0o644); err != nil {
			return err
		}
		if err := command(room, binary, "-test.run=^"+f.name+"$/^input$", "-test.coverprofile="+profile); err != nil {
			return fmt.Errorf("%q: %w", in.content, err)
		}
		var err error
		if in.shows, err = shown(profile); err != nil {
			return err
		}
	}
	return nil
}

// mirror makes a folder that holds what a package's folder holds, but no corpora.
func mirror(dir, room string) error {
	if err := os.MkdirAll(filepath.Join(room, "testdata"), 0o755); err != nil {
		return err
	}
	for _, part := range []string{"", "testdata"} {
		entries, err := os.ReadDir(filepath.Join(dir, part))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if name := filepath.Join(part, e.Name()); name != "testdata" && name != filepath.Join("testdata", "fuzz") {
				target, err := filepath.Abs(filepath.Join(dir, name))
				if err := errors.Join(err, os.Symlink(target, filepath.Join(room, name))); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// shown gives the blocks of a profile that ran, each with the power of two of how
// often.
func shown(profile string) (map[string]bool, error) {
	file, err := os.Open(profile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	shows := map[string]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		block := strings.Fields(lines.Text()) // place, statements, count
		if len(block) != 3 {
			continue
		}
		if count, err := strconv.ParseUint(block[2], 10, 64); err == nil && count > 0 {
			shows[fmt.Sprint(block[0], " ", bits.Len64(count))] = true
		}
	}
	return shows, lines.Err()
}

// choose takes, again and again, the input that adds most to what is shown, until
// none adds anything or the bounds are met.
func choose(inputs []*input) (chosen []*input) {
	shown, total := map[string]bool{}, 0
	for len(chosen) < min(maxFiles, len(inputs)) {
		var best *input
		most := 0
		for _, in := range inputs {
			if slices.Contains(chosen, in) || total+len(in.content) > maxTotal {
				continue
			}
			adds := 0
			for s := range in.shows {
				if !shown[s] {
					adds++
				}
			}
			if best == nil || adds > most {
				best, most = in, adds
			}
		}
		if best == nil || most == 0 && len(chosen) >= minFiles {
			break
		}
		chosen, total = append(chosen, best), total+len(best.content)
		for s := range best.shows {
			shown[s] = true
		}
	}
	return chosen
}

// write puts the chosen in the place of the seeds that were there.
func (f fuzzer) write(chosen []*input) error {
	old, err := filepath.Glob(filepath.Join(f.corpus(), "seed-*"))
	if err := errors.Join(err, os.MkdirAll(f.corpus(), 0o755)); err != nil {
		return err
	}
	for _, in := range chosen {
		name := filepath.Join(f.corpus(), fmt.Sprintf("seed-%.6x", sha256.Sum256(in.content)))
		if err := os.WriteFile(name, in.content, 0o644); err != nil {
			return err
		}
		old = slices.DeleteFunc(old, func(s string) bool { return s == name })
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
