package migrate

import (
	"fmt"
	"strings"
)

// Report is the whole plan for people, as Markdown.
func (p *Plan) Report() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# From Postfix to Anechoic\n")
	line("Made by `anechoic import postfix`. docs/migration.md tells how the week goes from here.\n")
	p.reportHoles(line)
	p.reportTaken(line)
	p.reportUndecided(line)
	p.reportLeft(line)
	return b.String()
}

func (p *Plan) reportHoles(line func(string, ...any)) {
	line("## What would have been an echo\n")
	if len(p.Holes) == 0 {
		line("Nothing of what is looked for was found. That is no proof: tables that could not be read are listed below.\n")
	}
	for i, h := range p.Holes {
		line("%d. **%s** (%s)\n", i+1, strings.ReplaceAll(h.Kind, "_", " "), code(h.At.String()))
		line("   %s\n", code(h.Line))
		line("   - What an attacker could have done: %s", marked(h.Attack))
		line("   - What the new registry does: %s", marked(h.Instead))
		line("   - What to do: %s\n", marked(h.Do))
	}
}

func (p *Plan) reportTaken(line func(string, ...any)) {
	line("## What was taken over\n")
	if len(p.Organisations) == 0 {
		line("No organisation: no domain was found that one could own. Name one: --organisation acme=acme.example")
	}
	for _, o := range p.Organisations {
		if len(o.Domains) == 0 {
			line("- organisation %s: no domain of it was found: it was not written", code(o.ID))
			continue
		}
		line("- organisation %s: %s", code(o.ID), marked(o.Why))
		for _, d := range o.Domains {
			line("  - domain %s (%s); publish `_anechoic.%s TXT \"v=anechoic1; org=%s\"`", code(d.Name.String()), code(d.At.String()), d.Name, o.ID)
			for _, k := range d.Keys {
				what := "the old key: its record stays"
				if k.File == "" {
					what = "a new key: `anechoic key list` shows the record to publish"
				}
				line("    - selector %s, %s: %s", code(k.Selector), k.Algorithm, what)
			}
		}
		for _, s := range o.Sources {
			line("  - source %s (%s), as %s: %s", code(s.ID), s.Kind, code(strings.Join(s.From, " ")), code(places(s.At)))
		}
		for _, in := range o.Inbound {
			line("  - mail for %s to %s: %s", code(in.Domains[0].String()), code(in.DeliverTo), code(in.At.String()))
		}
	}
	if hint := p.joinHint(); hint != "" {
		line("\nDomains that nothing ties together are kept apart, each an organisation: none can send as another. If they are one\n"+
			"organisation's, import again with:\n\n    %s", hint)
	}
	if n := len(p.passwords); n > 0 {
		line("\n%d new passwords are in `%s`: the old ones are known only as hashes of another kind, or not at all.", n, PasswordsFile)
	}
	line("")
}

// joinHint is the option that makes all organisations one.
func (p *Plan) joinHint() string {
	if len(p.Organisations) < 2 {
		return ""
	}
	return "--organisation '" + p.Organisations[0].ID + "=*'"
}

func (p *Plan) reportUndecided(line func(string, ...any)) {
	if len(p.Undecided) == 0 {
		return
	}
	line("## To be decided\n")
	line("These could send until now. They are not in the registry, but stand there as remarks, until somebody says as whom.\n")
	for _, u := range p.Undecided {
		line("- %s (%s): %s", code(u.What), code(u.At.String()), marked(u.Why))
	}
	line("")
}

func (p *Plan) reportLeft(line func(string, ...any)) {
	if len(p.Unread) > 0 {
		line("## What could not be read\n")
		for _, u := range p.Unread {
			line("- %s, named in %s: %s", code(u.What), code(u.At.String()), marked(u.Why))
		}
		line("")
	}
	line("## What was not taken over\n")
	if len(p.Left) == 0 {
		line("Nothing.")
	}
	for _, l := range p.Left {
		line("- %s (%s): %s. To do: %s", code(l.What), code(l.At.String()), marked(l.Why), marked(l.Do))
	}
}

// code is a stranger's text as Markdown shows it literally.
func code(s string) string {
	if s = strings.ReplaceAll(printable(s), "`", "'"); s == "" {
		return "``` ```"
	}
	return "`" + s + "`"
}

// marked is text of ours that may hold a stranger's words: nothing in it is a link or
// HTML.
func marked(s string) string {
	return strings.NewReplacer("<", "&lt;", "](", "] (").Replace(printable(s))
}
