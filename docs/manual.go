// Package docs is the manual inside the program, so that it can be read where there
// is no network: anechoic explain finds the page of a reason, an event, a key of the
// configuration or a metric.
//
// The pages of reference/ are generated (go run ./test/docs/generate); the others are
// written by people. It is not for looking anything up on the way of a message.
package docs

import (
	"embed"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

//go:embed *.md reference
var files embed.FS

// Kind is what a name is the name of.
type Kind string

// The kinds of entry.
const (
	Reason Kind = "reason"
	Event  Kind = "event"
	Option Kind = "option" // a key of relay.toml or of the registry
	Metric Kind = "metric"
)

// Entry is what the manual says of one name.
type Entry struct {
	Kind Kind
	Name string
	Text string // Markdown, without its heading
	Page string // where it stands, below docs/
}

// sectionPages hold one section a name.
var sectionPages = map[Kind]string{Event: "reference/events.md", Option: "reference/options.md", Metric: "reference/metrics.md"}

// reasonPages is the folder of one page a reason.
const reasonPages = "reference/reasons"

var entries = sync.OnceValue(readEntries)

// Entries gives everything that can be looked up, in the order of the pages.
func Entries() []Entry { return slices.Clone(entries()) }

// Find gives what the manual says of a name: several entries if it is the name of
// several things. Upper and lower case do not matter; of an option the end is enough.
func Find(name string) (found []Entry) {
	var ends []Entry
	for _, e := range entries() {
		switch {
		case strings.EqualFold(e.Name, name):
			found = append(found, e)
		case e.Kind == Option && strings.HasSuffix(strings.ToLower(e.Name), "."+strings.ToLower(name)):
			ends = append(ends, e)
		}
	}
	if len(found) == 0 {
		return ends
	}
	return found
}

func readEntries() (list []Entry) {
	pages, err := files.ReadDir(reasonPages)
	if err != nil {
		return nil
	}
	for _, p := range pages {
		name := strings.TrimSuffix(p.Name(), ".md")
		_, text, _ := strings.Cut(page(path.Join(reasonPages, p.Name())), "\n")
		list = append(list, Entry{Kind: Reason, Name: name, Text: strings.TrimSpace(text), Page: path.Join(reasonPages, p.Name())})
	}
	for _, kind := range []Kind{Event, Option, Metric} {
		file := sectionPages[kind]
		for _, s := range strings.Split(page(file), "\n## ")[1:] {
			name, text, _ := strings.Cut(s, "\n")
			list = append(list, Entry{Kind: kind, Name: name, Text: strings.TrimSpace(text), Page: file + "#" + anchor(name)})
		}
	}
	return list
}

// page is one file; empty if there is none.
func page(name string) string {
	text, err := files.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(text)
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// anchor is how links name a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// Plain is Markdown for a terminal: links are their words.
func Plain(markdown string) string { return link.ReplaceAllString(markdown, "$1") }
