package edit

import (
	"bytes"
	"regexp"
	"testing"

	"anechoic/org"
)

// empty is what would not come back: a list or table with nothing in it goes when
// the last of what was added goes.
var empty = regexp.MustCompile(`[\[{][ \t\r\n]*(#[^\n]*\n[ \t\r\n]*)*[\]}]`)

// FuzzEdit: of any text that loads as a registry each member can be taken out and
// others added, and what is read then is just that. No text makes it panic.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(registry))
	f.Add([]byte("organisation = [ { id = \"a\", source = [ { id = 's', from = [\"x\" , ] } ], domain = [] } ]"))
	f.Add([]byte("[[organisation]]\r\nid = \"a\"\r\n[[organisation.source]]\r\nid = 's'\r\nlimits.messages_per_hour = 1\r\n[organisation.suppression]\r\n"))
	f.Add([]byte("[[organisation]]\nid = \"a\"\n[[organisation.source]]\nid = \"s\"\n[[organisation.domain]]\nname = \"a.test\"\n[organisation.source.limits]\n# none\n"))
	f.Add([]byte("\xef\xbb\xbf# top\n[['organisation']]\n\"id\" = '''\na'''\nname = \"\"\"#\n#\"\"\"\"\n[[organisation.domain]]\nname = \"a.test\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, loads := read(text)
		if !loads {
			_, _ = AddOrganisation(text, org.OrganisationEntry{ID: "new"}) // only that it ends
			_, _ = RemoveOrganisation(text, "a")
			return
		}
		if len(all) > 4 || ambiguous(all) {
			t.Skip()
		}
		wide := must(t, "add an organisation")(AddOrganisation(text, org.OrganisationEntry{ID: "fresh"}))
		says(t, wide, append(all, org.OrganisationEntry{ID: "fresh"}))
		if back := must(t, "remove it")(RemoveOrganisation(wide, "fresh")); !empty.Match(text) {
			same(t, text, back)
		}
		if empty.Match(text) {
			return
		}
		for at := range all {
			roundTrips(t, text, at)
		}
	})
}

// ambiguous says that a name is there twice, or is none: the check of content
// refuses such a registry.
func ambiguous(all []org.OrganisationEntry) bool {
	seen := map[string]bool{"": true, "fresh": true}
	for _, o := range all {
		if seen[o.ID] {
			return true
		}
		seen[o.ID] = true
		below := map[string]bool{"": true, "new": true, "new.test": true}
		for _, s := range o.Sources {
			if below[s.ID] {
				return true
			}
			below[s.ID] = true
		}
		for _, d := range o.Domains {
			for other := range below {
				if sameDomain(d.Name)(other) {
					return true
				}
			}
			below[d.Name] = true
		}
	}
	return false
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte("a\nb\nc\n"), []byte("a\nc\n"))
	f.Add([]byte("a"), []byte("a\n"))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		diff := []byte(Diff("r", before, after))
		if (len(diff) == 0) != bytes.Equal(before, after) {
			t.Fatalf("%q", diff)
		}
		if got := patched(t, before, diff); !bytes.Equal(got, after) {
			t.Fatalf("%q with\n%s\nis %q, not %q", before, diff, got, after)
		}
	})
}
