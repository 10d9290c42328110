package docs

import (
	"regexp"
	"strings"
)

// Setting is what configuration.md says of one key.
type Setting struct {
	Key     string // its path with dots: organisation.source.from
	File    string // relay.toml or registry.toml
	Meaning string // Markdown
	Default string
	Bounds  string
}

// The parts of configuration.md that have tables of keys.
const (
	relayPart    = "\n## relay.toml\n"
	registryPart = "\n## registry.toml\n"
)

// Settings reads the tables of configuration.md. A key that several kinds of source
// have is there once for each.
func Settings() (list []Setting) {
	text := page("configuration.md")
	_, relay, _ := strings.Cut(text, relayPart)
	relay, registry, _ := strings.Cut(relay, registryPart)
	for _, part := range []struct{ file, text string }{{"relay.toml", relay}, {"registry.toml", registry}} {
		for i, section := range strings.Split(part.text, "\n### ") {
			title, rows, _ := strings.Cut(section, "\n")
			if i == 0 {
				title, rows = "", section
			}
			list = append(list, settingsOf(part.file, title, rows)...)
		}
	}
	return list
}

// settingsOf reads the tables below one heading.
func settingsOf(file, title, text string) (list []Setting) {
	for line := range strings.Lines(text) {
		cells := tableRow(line)
		if len(cells) < 3 {
			continue
		}
		for _, key := range inCode.FindAllStringSubmatch(cells[0], -1) {
			for _, table := range tablesOf(title) {
				s := Setting{Key: table + key[1], File: file, Meaning: ofKind(title, cells[1]), Default: cells[2]}
				if len(cells) > 3 {
					s.Bounds = cells[3]
				}
				list = append(list, s)
			}
		}
	}
	return list
}

var (
	inCode    = regexp.MustCompile("`([^`]+)`")
	inTitle   = regexp.MustCompile(`\[+([a-z0-9_.]+)\]+`)
	kindTitle = regexp.MustCompile(`^kind = "([a-z0-9]+)"`)
)

// tablesOf gives what stands before the keys below a heading. Where a heading is of
// several tables, the keys are written whole, but for the two providers.
func tablesOf(title string) (tables []string) {
	if kindTitle.MatchString(title) {
		return []string{"organisation.source."}
	}
	for _, m := range inTitle.FindAllStringSubmatch(title, -1) {
		tables = append(tables, m[1]+".")
	}
	if len(tables) == 0 || len(tables) > 1 && !strings.HasPrefix(tables[0], "providers.") {
		return []string{""}
	}
	return tables
}

// ofKind says which kind of source a meaning is for.
func ofKind(title, meaning string) string {
	if m := kindTitle.FindStringSubmatch(title); m != nil {
		return "(" + m[1] + ") " + meaning
	}
	return meaning
}

// tableRow gives the cells of a row that begins with a key in code.
func tableRow(line string) (cells []string) {
	inside, ok := strings.CutPrefix(strings.TrimSpace(line), "|")
	if !ok || !strings.HasPrefix(strings.TrimSpace(inside), "`") {
		return nil
	}
	inside = strings.ReplaceAll(strings.TrimSuffix(inside, "|"), `\|`, "\x00")
	for cell := range strings.SplitSeq(inside, "|") {
		cells = append(cells, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
	}
	return cells
}

// Describe is what the manual says of a key, in one line of plain text; empty if it
// says nothing of it.
func Describe(key string) string {
	var all []string
	for _, s := range Settings() {
		if s.Key == key {
			all = append(all, strings.ReplaceAll(Plain(s.Meaning), "`", ""))
		}
	}
	return strings.Join(all, "; ")
}
