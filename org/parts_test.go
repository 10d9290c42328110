package org

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

// many is the text of a registry of n organisations with every kind of source.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `
[[organisation]]
id = "o%[1]d"
name = "Number %[1]d"
security_contact = "security@a.o%[1]d.test"
[[organisation.domain]]
name = "a.o%[1]d.test"
dkim = [ { selector = "an1", algorithm = "rsa-2048" }, { selector = "an1e", algorithm = "ed25519" } ]
[[organisation.domain]]
name = "b.o%[1]d.test"
subdomains = true
[[organisation.source]]
id = "tenant"
kind = "microsoft365"
tenant_ids = ["11111111-1111-4111-8111-%012[1]d"]
originator_orgs = ["a.o%[1]d.test", "o%[1]d.onmicrosoft.com"]
provider_domains = ["o%[1]d.onmicrosoft.com"]
hybrid_addresses = ["100.%[2]d.%[3]d.64/26"]
internal = ["10.0.0.0/8"]
require_dkim = true
[[organisation.source]]
id = "workspace"
kind = "google"
dkim = [ { domain = "a.o%[1]d.test", selectors = ["google", "old"] } ]
secret_header = { name = "X-O%[1]d-Key", sha256 = ["%064[1]x"] }
[[organisation.source]]
id = "app"
kind = "credential"
username = "app@o%[1]d"
password = { argon2id = "$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE" }
from = ["*@news.b.o%[1]d.test", "billing@a.o%[1]d.test"]
limits = { messages_per_hour = 2000 }
[[organisation.source]]
id = "device"
kind = "certificate"
spki_sha256 = ["%064[1]x"]
from = ["*@a.o%[1]d.test"]
[[organisation.source]]
id = "server"
kind = "address"
role = "server"
addresses = ["100.%[2]d.%[3]d.1/32"]
from = ["*@a.o%[1]d.test"]
[[organisation.inbound]]
domains = ["a.o%[1]d.test"]
deliver_to = "mail.o%[1]d.test:25"
`, i, i/256, i%256)
	}
	return b.String()
}

// carefully is the same registry with one number in a form that the quick way of
// reading leaves alone.
func carefully(text string) string {
	return strings.Replace(text, "messages_per_hour = 2000", "messages_per_hour = 2_000", 1)
}

// However the reading and the building are divided, the Directory is the same.
func TestADirectoryOfManyIsTheSameReadInPartsAndAtOnce(t *testing.T) {
	const n = 2000
	text := many(n)
	if carefully(text) == text {
		t.Fatal("nothing is read the careful way")
	}
	var directories []*Directory
	for _, c := range []struct {
		text     string
		partSize int
	}{{text, partSize}, {text, 7}, {carefully(text), n}} {
		reg, _ := ParseRegistry("registry.toml", []byte(c.text))
		d, problems, findings := buildInParts(reg, shared, ours, 1, today, c.partSize)
		if d == nil || len(findings) != n { // a server without internal networks
			t.Fatalf("%d problems, %d findings; the first: %v", len(problems), len(findings), slices.Concat(problems, []Problem{{}})[0])
		}
		for i := range findings {
			if findings[i].Organisation != ID(fmt.Sprintf("o%d", i)) {
				t.Fatalf("finding %d is of %s", i, findings[i].Organisation)
			}
		}
		directories = append(directories, d)
	}
	for _, d := range directories {
		for i := 0; i < n; i += 9 {
			knows(t, d, i)
		}
		for _, o := range d.organisations {
			for _, s := range o.Sources {
				s.directory = nil // each its own
			}
		}
		for i, o := range d.organisations {
			if first := directories[0].organisations[i]; !reflect.DeepEqual(first, o) {
				t.Fatalf("organisation %s differs:\n%+v\n%+v", o.ID, first, o)
			}
		}
	}
}

// knows checks that every look-up finds what is organisation i's.
func knows(t *testing.T, d *Directory, i int) {
	t.Helper()
	id := ID(fmt.Sprintf("o%d", i))
	o, ok := d.Organisation(id)
	if !ok || o.ID != id || len(o.Sources) != 5 || len(o.Domains) != 2 {
		t.Fatalf("organisation %s: %+v", id, o)
	}
	name := func(format string) mail.Domain {
		found, err := mail.ParseDomain(fmt.Sprintf(format, i))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for _, format := range []string{"a.o%d.test", "b.o%d.test", "x.y.b.o%d.test"} {
		if owner, ok := d.Owner(name(format)); !ok || owner.Organisation != id {
			t.Errorf("%s belongs to %+v", name(format), owner)
		}
	}
	if owner, ok := d.Owner(name("x.a.o%d.test")); ok {
		t.Errorf("%s belongs to %+v", name("x.a.o%d.test"), owner)
	}
	var digest [32]byte
	for at, left := 31, i; left > 0; at, left = at-1, left>>8 {
		digest[at] = byte(left)
	}
	found := func(s *Source, ok bool) string {
		if !ok {
			return "nothing"
		}
		return string(s.Organisation) + "/" + s.ID
	}
	for what, got := range map[string]string{
		"tenant":    found(d.Tenant(fmt.Sprintf("11111111-1111-4111-8111-%012d", i))),
		"workspace": found(d.Secret(fmt.Sprintf("x-o%d-key", i), digest)),
		"app":       found(d.Username(fmt.Sprintf("app@o%d", i))),
		"device":    found(d.ClientKey(digest)),
		"server":    found(d.Address(netip.AddrFrom4([4]byte{100, byte(i / 256), byte(i), 1}))),
	} {
		if got != string(id)+"/"+what {
			t.Errorf("%s of %s: found %s", what, id, got)
		}
	}
	for what, got := range map[string]string{
		"tenant":    found(d.Originator(name("o%d.onmicrosoft.com"))) + found(d.ProviderDomain(name("o%d.onmicrosoft.com"))),
		"workspace": found(d.Identity(name("a.o%d.test"), "google")) + found(d.Identity(name("a.o%d.test"), "old")),
	} {
		if one := string(id) + "/" + what; got != one+one {
			t.Errorf("%s of %s: found %s", what, id, got)
		}
	}
	if in, ok := d.InboundFor(name("a.o%d.test")); !ok || in.Organisation != id || !d.IsSecretHeader(fmt.Sprintf("x-O%d-kEY", i)) {
		t.Errorf("inbound of %s: %+v", id, in)
	}
	if s, ok := d.Source(id, "device"); !ok || s.Organisation != id {
		t.Errorf("source of %s: %+v", id, s)
	}
}

// Far from each other in a long file, faults and second claims are told with their
// places, the same however the work is divided.
func TestProblemsInALongRegistryHaveTheirPlaces(t *testing.T) {
	const n = 2000
	text := many(n)
	for _, change := range [][2]string{
		{`tenant_ids = ["11111111-1111-4111-8111-000000001999"]`, `tenant_ids = ["11111111-1111-4111-8111-000000000000", "*"]`},
		{`name = "b.o1500.test"`, `name = "a.o3.test"`},
		{`username = "app@o777"`, `username = "APP@o776"`},
		{`domains = ["a.o1200.test"]`, `domains = ["a.o1201.test"]`},
		{`"100.3.232.1/32"`, `"100.3.231.64/28"`},
		{`id = "o901"`, `id = "o900"`},
		{`spki_sha256 = ["` + fmt.Sprintf("%064x", 600) + `"]`, `spki_sha256 = ["` + fmt.Sprintf("%064x", 601) + `"]`},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("%s stands there %d times", change[0], strings.Count(text, change[0]))
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	var told []string
	for _, c := range []struct {
		text     string
		partSize int
	}{{text, partSize}, {carefully(text), n}} {
		reg, _ := ParseRegistry("registry.toml", []byte(c.text))
		d, problems, _ := buildInParts(reg, shared, ours, 1, today, c.partSize)
		if d != nil {
			t.Fatal("a Directory was made of it")
		}
		var b strings.Builder
		for _, p := range problems {
			fmt.Fprintln(&b, p)
		}
		told = append(told, b.String())
	}
	if diff := cmp.Diff(told[1], told[0]); diff != "" {
		t.Errorf("-at once +in parts:\n%s", diff)
	}
	for _, want := range []struct{ passage, says, first string }{
		{`"*"]`, `"*" is no tenant id`, ""},
		{`"11111111-1111-4111-8111-000000000000", "*"]`, "is source tenant of organisation o0 already", `tenant_ids = ["11111111-1111-4111-8111-000000000000"]`},
		{`username = "APP@o776"`, "is source app of organisation o776 already", `username = "app@o776"`},
		{`"100.3.231.64/28"`, "overlaps 100.3.231.64/26 of source tenant of organisation o999", `"100.3.231.64/26"`},
	} {
		line := placeOf(text, want.passage) + " "
		at := strings.Index("\n"+told[0], "\n"+line)
		if at < 0 {
			t.Errorf("nothing is told of %s:\n%s", line, told[0])
			continue
		}
		said, _, _ := strings.Cut(told[0][at:], "\n")
		if !strings.Contains(said, want.says) || want.first != "" && !strings.Contains(said, "see also "+strings.TrimSuffix(placeOf(text, want.first), ":")+" ") {
			t.Errorf("of %s is told %q", want.passage, said)
		}
	}
}

// placeOf is file:line:column: of the first place of a passage.
func placeOf(text, passage string) string {
	before, _, _ := strings.Cut(text, passage)
	return fmt.Sprintf("registry.toml:%d:%d:", strings.Count(before, "\n")+1, len(before)-strings.LastIndexByte(before, '\n'))
}
