package docs

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/control/config"
	"anechoic/org"
)

// guides are the pages on what sends, and the source that each registers first.
var guides = map[string]string{
	"docs/microsoft365.md": "office", "docs/google.md": "workspace", "docs/exchange.md": "exchange", "docs/postfix.md": "mailserver",
	"docs/exim.md": "mailserver", "docs/applications.md": "billing", "docs/scanners.md": "scanner-2nd-floor",
}

// Who follows a guide by commands has the registry of who writes the page's block,
// but for what is secret.
func TestEveryGuideCanBeFollowedByCommands(t *testing.T) {
	const relay = "hostname = \"relay.acme.example\"\ndata_dir = \"data\"\nregistry = \"registry.toml\"\n" +
		"[providers.microsoft365]\nranges = [\"40.92.0.0/15\"]\n[providers.google]\nranges = [\"209.85.128.0/17\"]\n"
	for name, source := range guides {
		t.Run(name, func(t *testing.T) {
			p := read(t, name)
			byHand, byCommands := &walk{T: t, dir: t.TempDir()}, &walk{T: t, dir: t.TempDir()}
			for _, w := range []*walk{byHand, byCommands} {
				write(t, w.dir, "relay.toml", relay)
				write(t, w.dir, "registry.toml", "")
			}
			write(t, byHand.dir, "registry.toml", p.blockOf(t, "toml registry"))
			commands := strings.NewReplacer("\\\n", " ", "'", "").Replace(p.blockOf(t, "sh register"))
			for line := range strings.Lines(commands) {
				byCommands.says(strings.TrimPrefix(line, "anechoic "))
			}
			if diff := cmp.Diff(registered(byHand, source), registered(byCommands, source)); diff != "" {
				t.Errorf("-block of TOML +commands:\n%s", diff)
			}
		})
	}
}

// registered is a source as it is shown, and the keys of its organisation's domains.
func registered(w *walk, source string) (shown map[string]any) {
	w.Helper()
	if err := json.Unmarshal(w.says("source show acme "+source+" --json"), &shown); err != nil {
		w.Fatal(err)
	}
	_, dir, problems, _ := config.Validate(w.dir + "/relay.toml")
	if len(problems) > 0 {
		w.Fatal(problems)
	}
	o, _ := dir.Organisation(org.ID("acme"))
	for _, d := range o.Domains {
		shown["domain "+d.Name.String()] = d.Keys
	}
	return shown
}
