package org

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever stands in a registry, Build ends with a Directory or with a reason;
// and what is in a Directory claims nothing of everybody's, and nothing twice.
func TestNoRegistryMakesADirectoryThatClaimsTooMuch(t *testing.T) {
	loaded := 0
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
			loaded += len(d.sources)
			checkClaims(t, d)
		}
	})
	t.Logf("%d sources loaded", loaded)
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

// anyRegistry makes registries that are nearly right, so that many load: each
// value is now and then another organisation's, or one that must not load.
func anyRegistry(t *rapid.T) Registry {
	seldom := func(label string) bool { return rapid.IntRange(0, 19).Draw(t, label) == 7 }
	pick := func(label, right string, wrong ...string) string {
		if seldom(label + " wrong") {
			return rapid.SampledFrom(wrong).Draw(t, label)
		}
		return right
	}
	var reg Registry
	for i := range rapid.IntRange(1, 3).Draw(t, "organisations") {
		own := []string{"acme", "globex", "initech"}[i]
		o := OrganisationEntry{ID: pick("id", own, "acme", "Acme", "")}
		o.Domains = []DomainEntry{{Name: pick("domain", own+".test", "acme.test", "co.uk", "*", "news.acme.test"), Subdomains: rapid.Bool().Draw(t, "sub")}}
		for j := range rapid.IntRange(0, 3).Draw(t, "sources") {
			n := fmt.Sprint(3*i + j)
			e := SourceEntry{ID: pick("source", "s"+n, "s0", "-"), Kind: rapid.SampledFrom([]string{"microsoft365", "google", "credential", "certificate", "address"}).Draw(t, "kind")}
			e.From = []string{pick("from", "*@"+own+".test", "*@*", "*@acme.test", "a@news.acme.test")}
			if seldom("no from") {
				e.From = nil
			}
			secret := &SecretHeaderEntry{pick("header", "X-Key", "From"), []string{pick("hash", strings.Repeat("0"+n, 32), strings.Repeat("00", 32), "x")}}
			server := pick("address", "203.0.113."+n+"/32", "203.0.113.0/28", "0.0.0.0/0", "40.92.0.1/32", "198.51.100.200/32", "203.0.113.1/32")
			switch Kind(e.Kind) {
			case Microsoft365:
				e.TenantIDs = []string{pick("tenant", "1111111"+n+"-1111-4111-8111-111111111111", "11111110-1111-4111-8111-111111111111", reservedTenants[0], "*")}
				e.OriginatorOrgs = []string{pick("originator", own+".test", "acme.test", "com")}
				e.HybridAddresses = []string{server}
				if e.SecretHeader = secret; seldom("no second proof") {
					e.SecretHeader = nil
				}
			case Google:
				e.SecretHeader = secret
				e.DKIM = []IdentityEntry{{own + ".test", []string{pick("selector", "g"+n, "g0", "")}}}
			case Credential:
				e.Username = pick("user", "user@"+n, "user@0", "a b")
				e.Password = &PasswordEntry{"$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE"}
			case Certificate:
				e.SPKI = []string{pick("key", strings.Repeat("0"+n, 32), strings.Repeat("00", 32), "x")}
			case Address:
				e.Addresses = []string{server}
			}
			o.Sources = append(o.Sources, e)
		}
		reg.Organisations = append(reg.Organisations, o)
	}
	return reg
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
