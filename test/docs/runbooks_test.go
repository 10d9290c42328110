package docs

import (
	"slices"
	"strings"
	"testing"
)

// globals are the flags that every command takes.
var globals = []string{"--help", "--config", "--json", "--color", "--no-input"}

// TestCommandsOfRunbooksCanBeTyped: in the middle of the night nobody looks up what was
// meant. Each line of a runbook, and of the pages on trust and installation, that calls the
// program names a command of it, with flags it has.
func TestCommandsOfRunbooksCanBeTyped(t *testing.T) {
	known := map[string]command{}
	for _, c := range commands(t) {
		known[c.name] = c
	}
	lines := 0
	for _, p := range manual(t) {
		if !strings.Contains(p.name, "runbooks/") && p.name != "docs/install.md" {
			continue
		}
		for line := range strings.Lines(p.text) {
			program, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			if !strings.HasPrefix(line, "    ") || program != "anechoic" && !strings.HasSuffix(program, "/anechoic") {
				continue
			}
			lines++
			typed(t, p.name, known, rest)
		}
	}
	if lines < 30 {
		t.Errorf("only %d lines were found: the search is broken", lines)
	}
}

// typed checks one command line.
func typed(t *testing.T, page string, known map[string]command, line string) {
	t.Helper()
	line, _, _ = strings.Cut(line, " #")
	words := strings.Fields(line)
	n := len(words)
	for n > 0 && known[strings.Join(words[:n], " ")].name == "" {
		n--
	}
	c := known[strings.Join(words[:n], " ")]
	if n == 0 || c.group {
		t.Errorf("%s: %q is no command", page, line)
		return
	}
	for _, word := range words[n:] {
		if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") && !slices.Contains(c.flags, flag) && !slices.Contains(globals, flag) {
			t.Errorf("%s: %q: %s has no flag %s", page, line, c.name, flag)
		}
	}
}
