package org

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"pgregory.net/rapid"
)

// Whatever stands in a registry, Build ends with a Directory or with a reason;
// and what is in a Directory claims nothing of everybody's, and nothing twice.
func TestNoRegistryMakesADirectoryThatClaimsTooMuch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reg := anyRegistry(t)
		d, problems, _ := Build(reg, shared, ours, 1, today)
		if (d == nil) != (len(problems) > 0) {
			t.Fatalf("%v with %d problems", d, len(problems))
		}
		for _, p := range problems {
			if p.Message == "" || p.Where == "" {
				t.Fatalf("a problem without a message or a place: %+v", p)
			}
		}
		if d != nil {
			checkClaims(t, d)
		}
	})
}

func checkClaims(t *rapid.T, d *Directory) {
	type owner = map[string]ID
	tenants, names, addresses := owner{}, owner{}, map[netip.Prefix]ID{}
	claim := func(claims owner, what string, by ID) {
		if first, ok := claims[what]; ok {
			t.Fatalf("%s belongs to %s and %s", what, first, by)
		}
		claims[what] = by
	}
	for o := range d.Organisations() {
		for _, name := range o.Domains {
			claim(names, name.Name.String(), o.ID)
			if name.Name.IsPublicSuffix() {
				t.Fatalf("public suffix %s", name.Name)
			}
		}
		for _, s := range o.Sources {
			for _, guid := range s.TenantIDs {
				claim(tenants, guid, o.ID)
				if ReservedTenant(guid) || !isGUID(guid) {
					t.Fatalf("tenant %s", guid)
				}
			}
			if s.Kind == Microsoft365 && s.Secret == nil && !s.RequireDKIM && s.SingleProofUntil.IsZero() {
				t.Fatal("a tenant without a second proof")
			}
			if s.From == nil && s.Kind != Microsoft365 && s.Kind != Google {
				t.Fatal("a source that may send as anybody")
			}
			if s.Kind != Address {
				continue
			}
			for _, p := range s.Addresses {
				for other, by := range addresses {
					if p.Overlaps(other) {
						t.Fatalf("%s of %s overlaps %s of %s", p, o.ID, other, by)
					}
				}
				addresses[p] = o.ID
				if _, bad := overlaps(p, prefixList("40.92.0.0/15", "209.85.128.0/17", "198.51.100.200/32")); bad || p.Bits() < 28 {
					t.Fatalf("address source with %s", p)
				}
			}
		}
	}
}

// anyRegistry makes registries that are nearly right, so that some load.
func anyRegistry(t *rapid.T) Registry {
	one := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	some := func(label string, of ...string) []string {
		return rapid.SliceOfN(rapid.SampledFrom(of), 0, 2).Draw(t, label)
	}
	hashes := []string{strings.Repeat("01", 32), strings.Repeat("ab", 32), "x"}
	guids := []string{"11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "84df9e7f-e9f6-40af-b435-aaaaaaaaaaaa", "*"}
	domains := []string{"acme.test", "globex.test", "news.acme.test", "initech.test", "co.uk", "*"}
	source := rapid.Custom(func(t *rapid.T) SourceEntry {
		one := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
		e := SourceEntry{ID: one("source", "a", "b", "c", "A"), Kind: one("kind", "microsoft365", "google", "credential", "certificate", "address", "x")}
		if rapid.Bool().Draw(t, "limits") {
			e.Limits = &LimitsEntry{MessagesPerHour: rapid.IntRange(-1, 3).Draw(t, "per hour")}
		}
		e.From = some("from", "*@acme.test", "a@globex.test", "*@news.acme.test", "*@*", "*")
		e.Addresses = some("addresses", "203.0.113.1/32", "203.0.113.0/28", "0.0.0.0/0", "40.92.0.1/32", "198.51.100.200/32", "2001:db8::/64")
		if e.Kind != "address" && e.Kind != "credential" && rapid.IntRange(0, 9).Draw(t, "stray") > 0 {
			e.Addresses = nil
		}
		switch e.Kind {
		case "microsoft365":
			e.TenantIDs, e.OriginatorOrgs = some("tenants", guids...), some("originators", domains...)
			e.RequireDKIM = rapid.Bool().Draw(t, "dkim")
			if rapid.Bool().Draw(t, "single") {
				e.SingleProofUntil = &toml.LocalDate{Year: 2027, Month: 1, Day: 31}
			}
			e.HybridAddresses = some("hybrid", "203.0.113.1/32", "192.0.2.0/24", "0.0.0.0/0")
		case "credential":
			e.Username = one("user", "a@acme", "b@acme", "c@acme", "")
			e.Password = &PasswordEntry{"$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE"}
		case "certificate":
			e.SPKI = some("spki", hashes...)
		}
		if (e.Kind == "google" || e.Kind == "microsoft365" && !e.RequireDKIM) && rapid.Bool().Draw(t, "secret") {
			e.SecretHeader = &SecretHeaderEntry{one("header", "X-A", "X-B", "From"), some("hash", hashes...)}
		}
		return e
	})
	organisation := rapid.Custom(func(t *rapid.T) OrganisationEntry {
		e := OrganisationEntry{ID: one("id", "acme", "globex", "initech", "umbrella")}
		for _, name := range some("domains", domains...) {
			e.Domains = append(e.Domains, DomainEntry{Name: name, Subdomains: rapid.Bool().Draw(t, "sub")})
		}
		e.Sources = rapid.SliceOfN(source, 0, 2).Draw(t, "sources")
		return e
	})
	return Registry{Organisations: rapid.SliceOfN(organisation, 0, 3).Draw(t, "organisations")}
}

// Reading a text ends, with problems that have a place in it, and never makes a
// Directory of what was not read whole.
func FuzzParseRegistry(f *testing.F) {
	paths, _ := filepath.Glob(filepath.Join("testdata", "*", "*.toml"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(example))
	f.Add([]byte("organisation = [ { id = \"acme\", domain = [ { name = \"acme.test\" } ] } ]"))
	f.Add([]byte("[[organisation]]\n\"id\" = '''acme'''\n[organisation.domain.x]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := strings.Count(string(text), "\n") + 1
		reg, faults := ParseRegistry("registry.toml", text)
		d, problems, _ := Build(reg, shared, ours, 1, today)
		if len(problems) < len(faults) || d != nil && len(problems) > 0 || d == nil && len(problems) == 0 {
			t.Fatalf("%d faults, %d problems, %v", len(faults), len(problems), d)
		}
		for _, p := range problems {
			if p.Line < 0 || p.Line > lines || p.Column < 0 {
				t.Errorf("outside the text: %v", p)
			}
			_ = fmt.Sprint(p)
		}
	})
}
