package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func (sh *shell) manCommand() *cobra.Command {
	var dir, format string
	c := &cobra.Command{
		Use:   "man",
		Short: "Write the manual pages of all commands",
		Long: `Write a manual page for each command, anechoic.1, anechoic-queue-drop.1 and so on,
into a folder, which is made if it is not there. With --format markdown all of them
are printed as one page.`,
		Example: `  anechoic man --dir /usr/local/share/man/man1
  anechoic man --format markdown > commands.md`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.man(c.Root(), dir, format) },
	}
	c.Flags().StringVar(&dir, "dir", "", "the `folder`")
	c.Flags().StringVar(&format, "format", "roff", "roff, or markdown")
	return c
}

// manPages is what `man --json` prints.
type manPages struct {
	Dir   string   `json:"dir"`
	Pages []string `json:"pages"`
}

func (sh *shell) man(root *cobra.Command, dir, format string) error {
	root.InitDefaultHelpFlag()
	list := documented(root)
	switch {
	case format == "markdown":
		_, err := fmt.Fprint(sh.out, markdownOf(list))
		return err
	case format != "roff":
		return usagef("--format %q: say roff or markdown", format)
	case dir == "":
		return usagef("man needs --dir FOLDER")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	written := manPages{Dir: dir, Pages: []string{}}
	for _, c := range list {
		name := manName(c) + ".1"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(roffOf(c)), 0o644); err != nil {
			return fmt.Errorf("man: %w", err)
		}
		written.Pages = append(written.Pages, name)
	}
	if sh.asJSON {
		return sh.printJSON(written)
	}
	sh.printf("%s: %s\n", dir, count(len(list), "page", "pages"))
	return nil
}

// documented gives a command and all below it that have a page.
func documented(c *cobra.Command) (list []*cobra.Command) {
	if c.IsAdditionalHelpTopicCommand() || c.Name() == "help" || c.Hidden {
		return nil
	}
	list = append(list, c)
	below := slices.Clone(c.Commands())
	slices.SortFunc(below, func(a, b *cobra.Command) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, b := range below {
		list = append(list, documented(b)...)
	}
	return list
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// roffOf is a page in the man macros (man(7)).
func roffOf(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %q 1 \"\" %q \"User commands\"\n", strings.ToUpper(manName(c)), "Anechoic "+thisBuild().Version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.nf\n%s\n.fi\n", roff(c.UseLine()))
	b.WriteString(".SH DESCRIPTION\n" + roffText(cmp.Or(c.Long, c.Short)))
	roffFlags(&b, "OPTIONS", c.NonInheritedFlags().FlagUsages())
	roffFlags(&b, "GLOBAL OPTIONS", c.InheritedFlags().FlagUsages())
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, ".TP\n%d\n%s\n", e.code, roff(e.means))
	}
	if also := seeAlso(c); len(also) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", roff(strings.Join(also, ", ")))
	}
	return b.String()
}

func roffFlags(b *strings.Builder, title, usages string) {
	if usages != "" {
		fmt.Fprintf(b, ".SH %s\n.nf\n%s.fi\n", title, roff(usages))
	}
}

// roff escapes what roff would obey: backslashes, and dots and quotes that begin a line.
// Hyphens stay hyphens, and what is outside ASCII is named.
func roff(text string) string {
	var plain strings.Builder
	for _, r := range strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text) {
		if r < utf8.RuneSelf {
			plain.WriteRune(r)
		} else {
			fmt.Fprintf(&plain, `\[u%04X]`, r)
		}
	}
	text = plain.String()
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// roffText is text of paragraphs; what is indented stays as it is.
func roffText(text string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.HasPrefix(paragraph, "  ") {
			fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(paragraph))
			continue
		}
		b.WriteString(roff(paragraph) + "\n")
	}
	return b.String()
}

func seeAlso(c *cobra.Command) (names []string) {
	if c.HasParent() {
		names = append(names, manName(c.Parent())+"(1)")
	}
	for _, below := range c.Commands() {
		if len(documented(below)) > 0 {
			names = append(names, manName(below)+"(1)")
		}
	}
	slices.Sort(names)
	return names
}

// markdownOf is one page of all commands.
func markdownOf(list []*cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Commands\n\n<!-- Made by: go run ./test/docs/generate. Changes belong into what it is made of. -->\n\nEvery command, as its `--help` tells. What they are for: [commands](../commands.md).\n\n## Global flags\n\n")
	fmt.Fprintf(&b, "```text\n%s```\n", list[0].PersistentFlags().FlagUsages())
	b.WriteString("\n## Exit codes\n\n| exit code | means |\n|---|---|\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, e.means)
	}
	for _, c := range list[1:] {
		if strings.HasPrefix(c.CommandPath(), "anechoic completion ") {
			continue // the library's own words
		}
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n```\n\n%s\n", c.CommandPath(), c.UseLine(), markdownText(cmp.Or(c.Long, c.Short)))
		if c.HasAvailableLocalFlags() {
			fmt.Fprintf(&b, "\n```text\n%s```\n", c.NonInheritedFlags().FlagUsages())
		}
		if c.Example != "" {
			fmt.Fprintf(&b, "\n```text\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
		}
	}
	return b.String()
}

// markdownText is help as Markdown: what is indented is code, and nothing else is
// markup.
func markdownText(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, "  ") {
			paragraphs[i] = "```text\n" + p + "\n```"
			continue
		}
		paragraphs[i] = strings.NewReplacer("<", `\<`, "*", `\*`, "[", `\[`).Replace(p)
	}
	return strings.Join(paragraphs, "\n\n")
}
