package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// binary is the program, built once for all tests of this package.
var binary = struct {
	once sync.Once
	dir  string
	err  error
}{}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary.dir != "" {
		_ = os.RemoveAll(binary.dir) // a temporary folder
	}
	os.Exit(code)
}

// anechoic gives the path of the program.
func anechoic(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "anechoic-docs-"); binary.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", filepath.Join(binary.dir, "anechoic"), "./cmd/anechoic")
		build.Dir = root
		if text, err := build.CombinedOutput(); err != nil {
			t.Logf("%s", text)
			binary.err = err
		}
	})
	if binary.err != nil {
		t.Fatalf("the program cannot be built: %v", binary.err)
	}
	return filepath.Join(binary.dir, "anechoic")
}

// command is one command of the program, as its --help tells of it.
type command struct {
	name  string // without "anechoic"
	flags []string
	group bool // it only has commands below it
}

var (
	belowHelp = regexp.MustCompile(`(?s)Available Commands:\n(.*?)\n\n`)
	flagHelp  = regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`)
)

// commands asks the program for all its commands.
func commands(t *testing.T, path ...string) (found []command) {
	t.Helper()
	help, err := exec.Command(anechoic(t), append(path, "--help")...).Output()
	if err != nil {
		t.Fatalf("anechoic %s --help: %v", strings.Join(path, " "), err)
	}
	own, _, _ := strings.Cut(string(help), "\nGlobal Flags:")
	c := command{name: strings.Join(path, " ")}
	if m := belowHelp.FindStringSubmatch(own); m != nil {
		c.group = true
		for _, line := range strings.Split(m[1], "\n") {
			if below := strings.Fields(line)[0]; below != "help" {
				found = append(found, commands(t, append(path, below)...)...)
			}
		}
	}
	for _, m := range flagHelp.FindAllStringSubmatch(own, -1) {
		if m[1] != "--help" && (len(path) == 0 || m[1] != "--config" && m[1] != "--json") {
			c.flags = append(c.flags, m[1])
		}
	}
	return append(found, c)
}

func TestEveryCommandAndFlagIsDocumented(t *testing.T) {
	text := read(t, "docs/commands.md").text
	all := commands(t)
	if len(all) < 15 {
		t.Fatalf("only %d commands were found: the search is broken", len(all))
	}
	known := map[string]bool{"--help": true}
	for _, c := range all {
		for _, f := range c.flags {
			known[f] = true
			if !strings.Contains(text, f) {
				t.Errorf("docs/commands.md does not tell of %s of anechoic %s", f, c.name)
			}
		}
		shell := strings.HasPrefix(c.name, "completion ")
		switch {
		case shell && !strings.Contains(text, "`"+c.name+"`"), !shell && !c.group && !strings.Contains(text, "\n## "+c.name+"\n"):
			t.Errorf("docs/commands.md does not tell of anechoic %s", c.name)
		case !shell && !c.group && !strings.Contains(text, "    anechoic "+c.name):
			t.Errorf("docs/commands.md has no example of anechoic %s", c.name)
		}
	}
	for _, f := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(text, -1) {
		if !known[f] {
			t.Errorf("docs/commands.md tells of %s, and no command has it", f)
		}
	}
}

// Pages name commands in code, as `anechoic key list`, or in lines a reader
// types.
var mentioned = regexp.MustCompile("(?m)(?:`|^    |^\\$ )anechoic ([a-z]+(?: [a-z]+)?)")

func TestEveryCommandThatPagesNameExists(t *testing.T) {
	known := map[string]bool{"help": true}
	for _, c := range commands(t) {
		known[c.name] = true
	}
	for _, p := range manual(t) {
		for _, m := range mentioned.FindAllStringSubmatch(p.text, -1) {
			first, _, _ := strings.Cut(m[1], " ")
			if !known[m[1]] && !known[first] {
				t.Errorf("%s names anechoic %s, which is no command", p.name, m[1])
			}
		}
	}
}
