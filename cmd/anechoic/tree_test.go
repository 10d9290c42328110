package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// This file walks the tree of commands: what every command must have, whoever writes
// the next one.

// leaves are the commands that do something, those of the library left out.
func leaves(t *testing.T) (list []*cobra.Command) {
	t.Helper()
	for _, c := range documented((&shell{}).root()) {
		if !c.HasSubCommands() && c.RunE != nil {
			list = append(list, c)
		}
	}
	if len(list) < 40 {
		t.Fatalf("only %d commands were found: the walk is broken", len(list))
	}
	return list
}

// calls says, for each function of this package, what it calls, and which fields and
// methods of shell it uses.
func calls(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	mentioned := make(map[string][]string)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				mentioned[fn.Name.Name] = append(mentioned[fn.Name.Name], usedBy(n)...)
				return true
			})
		}
	}
	return mentioned
}

// usedBy is a call of a function, or something of shell.
func usedBy(n ast.Node) []string {
	switch n := n.(type) {
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok {
			return []string{id.Name}
		}
	case *ast.SelectorExpr:
		if on, ok := n.X.(*ast.Ident); ok && on.Name == "sh" {
			return []string{n.Sel.Name}
		}
	case *ast.KeyValueExpr:
		if id, ok := n.Key.(*ast.Ident); ok && id.Name == "RunE" {
			return []string{"RunE"}
		}
	}
	return nil
}

// reaches says that a function, or what it calls here, mentions a name.
func reaches(mentioned map[string][]string, from, name string) bool {
	seen := map[string]bool{from: true}
	for open := []string{from}; len(open) > 0; open = open[1:] {
		for _, to := range mentioned[open[0]] {
			if to == name {
				return true
			}
			if _, here := mentioned[to]; here && !seen[to] {
				seen[to] = true
				open = append(open, to)
			}
		}
	}
	return false
}

var maker = regexp.MustCompile(`\(\*shell\)\.([A-Za-z]+)\.func`)

// madeBy is the function that makes a command: its RunE is a function within.
func madeBy(t *testing.T, c *cobra.Command) string {
	t.Helper()
	name := runtime.FuncForPC(reflect.ValueOf(c.RunE).Pointer()).Name()
	m := maker.FindStringSubmatch(name)
	if m == nil {
		t.Fatalf("%s: who makes it cannot be told from %s: let a method of shell make it, with a function as RunE", c.CommandPath(), name)
	}
	return m[1]
}

// withoutJSON are commands whose output is not for --json, with the reason.
var withoutJSON = map[string]string{
	"anechoic serve":             "its ready line is JSON always",
	"anechoic config schema":     "is JSON always",
	"anechoic quarantine export": "prints a message as it is",
	"anechoic lab generate":      "is JSON lines always",
}

func TestEveryCommandThatPrintsHasJSON(t *testing.T) {
	mentioned := calls(t)
	for _, c := range leaves(t) {
		path := c.CommandPath()
		_, excused := withoutJSON[path]
		if has := reaches(mentioned, madeBy(t, c), "asJSON"); !has && !excused {
			t.Errorf("%s has no --json: ask sh.asJSON, and print with sh.printJSON", path)
		}
	}
}

// neverAsk are commands that share code with others that ask, and do not themselves:
// what they do can be undone.
var neverAsk = []string{"anechoic domain add", "anechoic key add", "anechoic org add", "anechoic source password hash", "anechoic source secret new", "anechoic user add"}

func TestEveryCommandThatAsksTakesYes(t *testing.T) {
	mentioned := calls(t)
	for _, c := range leaves(t) {
		asks := reaches(mentioned, madeBy(t, c), "confirm")
		if yes := c.Flags().Lookup("yes"); asks && yes == nil && !slices.Contains(neverAsk, c.CommandPath()) && onlyOne(mentioned, madeBy(t, c)) {
			t.Errorf("%s asks, and has no --yes", c.CommandPath())
		}
	}
}

// onlyOne says that a function makes one command: of several, not each may ask.
func onlyOne(mentioned map[string][]string, name string) bool {
	n := 0
	for _, m := range mentioned[name] {
		if m == "RunE" {
			n++
		}
	}
	return n == 1
}

func TestEveryCommandHasAPageOfTheManual(t *testing.T) {
	dir := t.TempDir()
	var out, errs strings.Builder
	if code := run([]string{"man", "--dir", dir}, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Fatalf("man leaves with %d: %s", code, errs.String())
	}
	for _, c := range leaves(t) {
		text, err := os.ReadFile(filepath.Join(dir, manName(c)+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, want := range []string{".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLES", ".SH EXIT STATUS"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s.1 has no %s", manName(c), want)
			}
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("pages were not rendered: there is no groff (apt-get install groff-base)")
		return
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(groff, append([]string{"-man", "-Tutf8", "-ww", "-z"}, pages...)...).CombinedOutput()
	if err != nil || len(text) > 0 {
		t.Errorf("groff complains: %v\n%s", err, text)
	}
}

func TestHelpTopicsAreShown(t *testing.T) {
	for _, topic := range topics() {
		var out, errs strings.Builder
		if code := run([]string{"help", topic.name}, strings.NewReader(""), &out, &errs); code != exitOK || !strings.Contains(out.String(), topic.text) {
			t.Errorf("help %s leaves with %d and prints %q", topic.name, code, out.String())
		}
	}
}

// completed is what a shell offers.
func completed(t *testing.T, args ...string) []string {
	t.Helper()
	var out, errs strings.Builder
	if code := run(append([]string{"__completeNoDesc"}, args...), strings.NewReader(""), &out, &errs); code != exitOK {
		t.Fatalf("completion leaves with %d: %s", code, errs.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[:len(lines)-1] // the last says how to go on
}

func TestShellsCompleteWhatIsRegistered(t *testing.T) {
	dir := t.TempDir()
	registry := "[[organisation]]\nid = \"acme\"\n[[organisation.domain]]\nname = \"acme.test\"\n[[organisation]]\nid = \"globex\"\n"
	if err := os.WriteFile(filepath.Join(dir, "registry.toml"), []byte(registry), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "relay.toml")
	if err := os.WriteFile(file, []byte("hostname = \"relay.test\"\nregistry = \"registry.toml\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"log", "search", "--org", ""}, []string{"acme", "globex"}},
		{[]string{"org", "close", "g"}, []string{"globex"}},
		{[]string{"log", "search", "--event", "acc"}, []string{"accepted"}},
		{[]string{"log", "search", "--reason", "TENANT_N"}, []string{"TENANT_NOT_AUTHORIZED"}},
		{[]string{"queue", "show", ""}, nil}, // no relay runs
	} {
		got := completed(t, append([]string{"--config", file}, c.args...)...)
		if !slices.Equal(got, c.want) {
			t.Errorf("%q offers %q, want %q", c.args, got, c.want)
		}
	}
	if got := completed(t, "--config", filepath.Join(dir, "none.toml"), "log", "search", "--org", ""); len(got) > 0 {
		t.Errorf("without a configuration it offers %q", got)
	}
}
