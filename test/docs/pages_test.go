package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"anechoic/control/config"
	"anechoic/relay/delivery"
)

// root is the project's folder, seen from this one.
const root = "../.."

// page is one file of the manual.
type page struct {
	name string // relative to root
	text string
}

// manual reads all pages.
func manual(t *testing.T) (pages []page) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(names) < 5 {
		t.Fatalf("only %d pages were found: %v", len(names), err)
	}
	runbooks, err := filepath.Glob(filepath.Join(root, "docs", "runbooks", "*.md"))
	if err != nil || len(runbooks) < 5 {
		t.Fatalf("only %d runbooks were found: %v", len(runbooks), err)
	}
	for _, name := range append(append(names, runbooks...), filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md"), filepath.Join(root, "SECURITY.md"), filepath.Join(root, "THREAT-MODEL.md")) {
		relative, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, read(t, relative))
	}
	return pages
}

// read gives one page.
func read(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return page{name, string(text)}
}

// block is a fenced block of a page: what stands behind the fence, and the text.
type block struct{ page, kind, text string }

var fence = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")

func (p page) blocks() (found []block) {
	for _, m := range fence.FindAllStringSubmatch(p.text, -1) {
		found = append(found, block{p.name, m[1], m[2]})
	}
	return found
}

// blockOf gives the first block of a kind.
func (p page) blockOf(t *testing.T, kind string) string {
	t.Helper()
	for _, b := range p.blocks() {
		if b.kind == kind {
			return b.text
		}
	}
	t.Fatalf("%s has no block ```%s", p.name, kind)
	return ""
}

// prose is the page without fenced blocks.
func (p page) prose() string { return fence.ReplaceAllString(p.text, "") }

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInURL = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors are the places of a page that links can name.
func (p page) anchors() (names []string) {
	for _, m := range heading.FindAllStringSubmatch(p.prose(), -1) {
		plain := notInURL.ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(plain, " ", "-"))
	}
	return names
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	links := 0
	for _, p := range manual(t) {
		for _, m := range link.FindAllStringSubmatch(p.prose(), -1) {
			links++
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := p.name
			if file != "" {
				target = filepath.Join(filepath.Dir(p.name), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", p.name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(read(t, target).anchors(), anchor) {
				t.Errorf("%s links to %s: there is no such heading", p.name, m[1])
			}
		}
	}
	if links < 30 {
		t.Fatalf("only %d links were found: the search is broken", links)
	}
}

// What a block needs beside it to be a whole configuration.
const (
	bareRelay = `hostname = "relay.acme.example"
registry = "registry.toml"
[providers.microsoft365]
ranges = ["40.92.0.0/15"]
[providers.google]
ranges = ["209.85.128.0/17"]
`
	bareRegistry = "[[organisation]]\nid = \"acme\"\n"
)

func TestEveryConfigurationInTheManualLoads(t *testing.T) {
	blocks := 0
	for _, p := range manual(t) {
		for _, b := range p.blocks() {
			if !strings.HasPrefix(b.kind, "toml") {
				continue
			}
			blocks++
			relay, registry := bareRelay, bareRegistry
			switch b.kind {
			case "toml relay":
				relay = b.text
			case "toml registry":
				registry = b.text
			case "toml shaping":
				if _, problems := delivery.ParseShaping(p.name, []byte(b.text)); len(problems) > 0 {
					t.Errorf("%s: %v", p.name, problems)
				}
				continue
			default:
				t.Errorf("%s: mark the block ```%s as ```toml relay, ```toml registry or ```toml shaping", p.name, b.kind)
				continue
			}
			validate(t, b, relay, registry)
		}
	}
	if blocks < 6 {
		t.Fatalf("only %d blocks were found: the search is broken", blocks)
	}
}

func validate(t *testing.T, b block, relay, registry string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "relay.toml", relay)
	write(t, dir, "registry.toml", registry)
	_, _, problems, findings := config.Validate(filepath.Join(dir, "relay.toml"))
	for _, problem := range problems {
		t.Errorf("%s, block ```%s: %s", b.page, b.kind, problem)
	}
	for _, f := range findings {
		if b.kind == "toml registry" {
			t.Errorf("%s, block ```%s teaches a risk: %s/%s: %s", b.page, b.kind, f.Organisation, f.Source, f.Text)
		}
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// cells are the columns of every table row of a text, headers and rules left
// out.
func cells(text string) (rows [][]string) {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		inside, ok := strings.CutPrefix(strings.TrimSpace(line), "|")
		rule := strings.Trim(line, "|-: ") == ""
		header := i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|--")
		if !ok || rule || header {
			continue
		}
		var row []string
		for _, cell := range strings.Split(strings.ReplaceAll(strings.TrimSuffix(inside, "|"), `\|`, "\x00"), "|") {
			row = append(row, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
		}
		rows = append(rows, row)
	}
	return rows
}

var span = regexp.MustCompile("`([^`]+)`")

// spans are the words of a text in code.
func spans(text string) (words []string) {
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}
