// Package reference makes the pages of docs/reference out of the program: what a
// reason, an event, a key of the configuration, a metric, a reply and a command is.
//
// The texts are those that stand in one place already: the comments of mail/reason.go,
// mail/replies.go and ledger/fact.go, the sections of docs/reasons.md, the tables of
// docs/configuration.md and docs/operations.md, the commands' own help. Nobody writes
// below docs/reference: go run ./test/docs/generate does, and a test says when it has
// to run again.
package reference

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/docs"
	"anechoic/mail"
)

// Folder is where the pages stand, seen from the project's root.
const Folder = "docs/reference"

// Pages makes all pages by their path below Folder. commands is the page that the
// program prints about its own commands.
func Pages(root, commands string) (map[string]string, error) {
	reasons, err := reasonPages(root)
	if err != nil {
		return nil, err
	}
	pages := reasons
	for name, make := range map[string]func(string) (string, error){
		"events.md": eventPage, "metrics.md": metricPage, "replies.md": replyPage,
		"options.md": func(string) (string, error) { return optionPage(), nil },
	} {
		if pages[name], err = make(root); err != nil {
			return nil, err
		}
	}
	pages["commands.md"] = commands
	pages["README.md"] = overview()
	return pages, nil
}

func overview() string {
	var b strings.Builder
	b.WriteString("# Reference\n\n" + generated + `
- [Commands](commands.md): every command with its flags, as the program tells them
- [Options](options.md): every key of the configuration and the registry
- [Replies](replies.md): every reply that refuses or puts off
- [Events](events.md): every event of the ledger
- [Metrics](metrics.md)
- Reasons, a page each:
`)
	for _, r := range mail.Reasons() {
		fmt.Fprintf(&b, "  - [%s](reasons/%s.md)\n", r, r)
	}
	return b.String()
}

// generated stands at the head of each page.
const generated = "<!-- Made by: go run ./test/docs/generate. Changes belong into what it is made of. -->\n"

// reply is one variable of the catalogue, as its source has it.
type reply struct {
	name, code, text, when string
	reason                 mail.Reason
}

// replies reads mail/replies.go.
func replies(root string) (list []reply, err error) {
	reasons, err := constants(root, "mail/reason.go")
	if err != nil {
		return nil, err
	}
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "mail/replies.go"), nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		args := v.Values[0].(*ast.CallExpr).Args
		r := reply{name: v.Names[0].Name, code: literal(args[0]) + " " + literal(args[1]), text: literal(args[3]), when: oneLine(v.Comment.Text())}
		for _, c := range reasons {
			if c.name == args[2].(*ast.Ident).Name {
				r.reason = mail.Reason(c.value)
			}
		}
		list = append(list, r)
		return true
	})
	return list, nil
}

// constant is one constant of the program with the remark behind it.
type constant struct{ name, value, comment string }

// constants reads the constants of a file that are texts.
func constants(root, file string) (list []constant, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if len(v.Values) == 1 {
				list = append(list, constant{v.Names[0].Name, literal(v.Values[0]), oneLine(v.Comment.Text())})
			}
		}
	}
	return list, nil
}

func literal(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	if text, err := strconv.Unquote(l.Value); err == nil {
		return text
	}
	return l.Value
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// reasonPages makes a page for each reason.
func reasonPages(root string) (map[string]string, error) {
	all, err := replies(root)
	if err != nil {
		return nil, err
	}
	comments, err := constants(root, "mail/reason.go")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/reasons.md"))
	if err != nil {
		return nil, err
	}
	pages := make(map[string]string)
	for _, r := range mail.Reasons() {
		_, section, found := strings.Cut(string(text), "\n## "+string(r)+"\n")
		if !found {
			return nil, fmt.Errorf("docs/reasons.md has no section %s", r)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		pages["reasons/"+string(r)+".md"] = reasonPage(r, commentOf(comments, string(r)), section, all)
	}
	return pages, nil
}

func commentOf(list []constant, value string) string {
	i := slices.IndexFunc(list, func(c constant) bool { return c.value == value })
	if i < 0 || list[i].comment == "" {
		return ""
	}
	comment := strings.TrimSuffix(list[i].comment, ".")
	return strings.ToUpper(comment[:1]) + comment[1:] + "."
}

func reasonPage(r mail.Reason, meaning, section string, all []reply) string {
	lead, rest, _ := strings.Cut(strings.TrimSpace(section), "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s", r, generated)
	if meaning != "" {
		fmt.Fprintf(&b, "\n%s\n", meaning)
	}
	if strings.Contains(lead, "Not given yet") {
		b.WriteString("\n*Not given yet: a later version brings it.*\n")
	}
	fmt.Fprintf(&b, "\n%s\n", fromReasons(strings.TrimSpace(rest)))
	written := false
	for _, reply := range all {
		if reply.reason == r {
			if !written {
				b.WriteString("\n## What the peer is told\n\n")
				written = true
			}
			fmt.Fprintf(&b, "    %s %s [%s id=…]\n", reply.code, reply.text, r)
		}
	}
	fmt.Fprintf(&b, "\n## Where to look\n\n    anechoic log search --reason %s --since 24h\n\nEach message: `anechoic explain ID`, with the id of the reply.", r)
	if related := relatedTo(r, section); len(related) > 0 {
		b.WriteString(" Related:")
		for i, other := range related {
			fmt.Fprintf(&b, "%s [%s](%s.md)", strings.Repeat(",", min(i, 1)), other, other)
		}
		b.WriteString(".")
	}
	b.WriteString("\n")
	return b.String()
}

// relatedTo gives the other reasons that a section names.
func relatedTo(r mail.Reason, section string) (related []mail.Reason) {
	for _, other := range mail.Reasons() {
		if other != r && regexp.MustCompile(`\b`+string(other)+`\b`).MatchString(section) && !slices.Contains(plainWords, other) {
			related = append(related, other)
		}
	}
	return related
}

// plainWords are reasons that are words of other meanings too.
var plainWords = []mail.Reason{mail.ReasonTimeout, mail.ReasonInternal, mail.ReasonHeld, mail.ReasonSyntax}

var (
	toReason = regexp.MustCompile(`\]\((?:reasons\.md)?#([a-z0-9_]+)\)`)
	toPage   = regexp.MustCompile(`\]\(([a-z0-9-]+\.md(?:#[^)]*)?|adr/[^)]*)\)`)
)

// fromReasons makes links of docs/ lead on from docs/reference/reasons.
func fromReasons(text string) string {
	text = toReason.ReplaceAllStringFunc(text, func(link string) string {
		name := strings.ToUpper(toReason.FindStringSubmatch(link)[1])
		if slices.Contains(mail.Reasons(), mail.Reason(name)) {
			return "](" + name + ".md)"
		}
		return "](../../reasons.md#" + strings.ToLower(name) + ")"
	})
	return toPage.ReplaceAllString(text, "](../../$1)")
}

// fromReference is fromReasons for docs/reference itself.
func fromReference(text, page string) string {
	text = regexp.MustCompile(`\]\((#[^)]*)\)`).ReplaceAllString(text, "](../"+page+"$1)")
	return toPage.ReplaceAllString(text, "](../$1)")
}

// eventPage has a section for each event.
func eventPage(root string) (string, error) {
	comments, err := constants(root, "ledger/fact.go")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Events\n\n" + generated + "\nWhat happens is written to the ledger as one of these. `anechoic log search --event EVENT` finds all of a kind,\n`anechoic_facts_total{event=\"EVENT\"}` counts them.\n")
	for _, e := range api.Events() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n    anechoic log search --event %s --since 24h\n", e, commentOf(comments, string(e)), e)
	}
	return b.String(), nil
}

// replyPage is the whole catalogue.
func replyPage(root string) (string, error) {
	all, err := replies(root)
	if err != nil {
		return "", err
	}
	slices.SortStableFunc(all, func(a, b reply) int { return cmp.Compare(a.code, b.code) })
	var b strings.Builder
	b.WriteString("# Replies\n\n" + generated + "\nEvery reply that refuses (5yz) or puts off (4yz) ends with `[REASON id=…]`.\n\n| reply | text | reason |\n|---|---|---|\n")
	for _, r := range all {
		fmt.Fprintf(&b, "| `%s` | %s | [%s](reasons/%s.md) |\n", r.code, r.text, r.reason, r.reason)
	}
	return b.String(), nil
}

// optionPage has a section for each key, with what the loader knows of it and what
// the manual says.
func optionPage() string {
	var b strings.Builder
	b.WriteString("# Options\n\n" + generated + "\nEvery key of `relay.toml` and the registry. The whole, with examples: [configuration](../configuration.md).\n")
	settings := docs.Settings()
	for _, file := range []struct {
		name   string
		schema *config.Schema
	}{{"relay.toml", config.RelaySchema(docs.Describe)}, {"registry.toml", config.RegistrySchema(docs.Describe)}} {
		for _, key := range file.schema.Keys() {
			writeOption(&b, file.name, key, file.schema.At(key), settings)
		}
	}
	return b.String()
}

func writeOption(b *strings.Builder, file, key string, s *config.Schema, settings []docs.Setting) {
	kind := s.Type
	if s.Items != nil {
		kind = "list of " + s.Items.Type + "s"
	}
	if s.Format != "" {
		kind = s.Format
	}
	fmt.Fprintf(b, "\n## %s\n\nIn `%s`: %s.", key, file, kind)
	if len(s.Enum) > 0 {
		fmt.Fprintf(b, " One of `\"%s\"`.", strings.Join(s.Enum, "\"`, `\""))
	}
	b.WriteString("\n")
	for _, m := range settings {
		if m.Key != key {
			continue
		}
		fmt.Fprintf(b, "\n%s\n\n- default: %s\n", fromReference(m.Meaning, "configuration.md"), fromReference(m.Default, "configuration.md"))
		if m.Bounds != "" {
			fmt.Fprintf(b, "- bounds: %s\n", fromReference(m.Bounds, "configuration.md"))
		}
	}
}

var (
	metricRow   = regexp.MustCompile("(?m)^\\| (`anechoic_[^|]*) \\|([^|]*)\\|(.*)\\|$")
	metricInRow = regexp.MustCompile("`(anechoic_[a-z_]+)`")
)

// metricPage has a section for each metric of docs/operations.md, which a test holds
// against the running relay.
func metricPage(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		return "", err
	}
	_, section, found := strings.Cut(string(text), "\n## Metrics\n")
	if !found {
		return "", fmt.Errorf("docs/operations.md has no section Metrics")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var b strings.Builder
	b.WriteString("# Metrics\n\n" + generated + "\nOn `operations.listen`, at `/metrics`: [operations](../operations.md#metrics).\n")
	known := map[string]bool{}
	for _, row := range metricRow.FindAllStringSubmatch(section, -1) {
		for _, m := range metricInRow.FindAllStringSubmatch(row[1], -1) {
			known[m[1]] = true
			fmt.Fprintf(&b, "\n## %s\n\n%s\n", m[1], fromReference(strings.TrimSpace(row[3]), "operations.md"))
			if labels := strings.TrimSpace(row[2]); labels != "" {
				fmt.Fprintf(&b, "\nLabels: %s.\n", labels)
			}
		}
	}
	for paragraph := range strings.SplitSeq(metricRow.ReplaceAllString(section, ""), "\n\n") {
		for _, m := range metricInRow.FindAllStringSubmatch(paragraph, -1) {
			if !known[m[1]] {
				known[m[1]] = true
				fmt.Fprintf(&b, "\n## %s\n\n%s\n", m[1], fromReference(oneLine(paragraph), "operations.md"))
			}
		}
	}
	return b.String(), nil
}
