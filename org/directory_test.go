package org

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

// example is two organisations with a source of every kind.
const example = `
[[organisation]]
id = "acme"
  [[organisation.domain]]
  name = "acme.test"
  subdomains = true
  dkim = [ { selector = "an1", algorithm = "rsa-2048" } ]
  [[organisation.domain]]
  name = "payroll.acme.test"
  [[organisation.domain]]
  name = "bücher.test"
  [[organisation.source]]
  id = "tenant"
  kind = "microsoft365"
  tenant_ids = ["AAAAAAAA-1111-4111-8111-111111111111"]
  originator_orgs = ["acme.test"]
  provider_domains = ["acme.onmicrosoft.com"]
  hybrid_addresses = ["203.0.113.10/32"]
  secret_header = { name = "X-Acme-Relay-Key", sha256 = ["8dd43d064957db5314152621dc37cecef7835035fdf7147c24dcd13987cb6374"] }
  [[organisation.source]]
  id = "onprem"
  kind = "address"
  role = "server"
  internal = ["10.0.0.0/8"]
  addresses = ["203.0.113.10/32", "203.0.113.16/28", "2001:db8:10::/64"]
  from = ["*@acme.test", "Ceo@Payroll.acme.test"]
  [[organisation.source]]
  id = "app"
  kind = "credential"
  username = "billing@acme"
  password = { argon2id = "$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE" }
  from = ["billing@acme.test"]
  [[organisation.source]]
  id = "scanner"
  kind = "certificate"
  spki_sha256 = ["4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796"]
  from = ["scanner@acme.test"]

[[organisation]]
id = "abc"
  [[organisation.domain]]
  name = "globex.test"
  [[organisation.domain]]
  name = "guest.acme.test"
  [[organisation.source]]
  id = "app"
  kind = "google"
  dkim = [ { domain = "globex.test", selectors = ["google"] } ]
  secret_header = { name = "X-Globex-Relay-Key", sha256 = ["56b2f408699f991c8eb8bd7a13d7c484faba1d5f594f084ea6eb4bfff02e4841"] }
  [[organisation.inbound]]
  domains = ["globex.test"]
  deliver_to = "127.0.0.1:2600"
`

func TestOwnerComparesLabelByLabel(t *testing.T) {
	d := build(t, example)
	for _, test := range []struct{ name, owner string }{
		{"acme.test", "acme.test"},
		{"ACME.Test", "acme.test"},
		{"news.acme.test", "acme.test"},
		{"a.b.news.acme.test", "acme.test"},
		{"payroll.acme.test", "payroll.acme.test"}, // its own entry overrides
		{"guest.acme.test", "guest.acme.test"},     // another organisation's own entry too
		{"x.payroll.acme.test", ""},                // subdomains not set there
		{"x.guest.acme.test", ""},
		{"x.globex.test", ""},
		{"evilacme.test", ""},
		{"acme.test.evil.test", ""},
		{"test", ""},
		{"xn--bcher-kva.test", "xn--bcher-kva.test"},
		{"BÜCHER.test", "xn--bcher-kva.test"},
		{"bucher.test", ""},
		{"аcme.test", ""}, // a Cyrillic a
	} {
		owner, ok := d.Owner(domain(t, test.name))
		if ok != (test.owner != "") || ok && owner.Name.String() != test.owner {
			t.Errorf("%s belongs to %v, want %q", test.name, owner, test.owner)
		}
	}
}

func TestEverySourceIsFoundByWhatItClaims(t *testing.T) {
	d := build(t, example)
	var key [32]byte
	hex.Decode(key[:], []byte("4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796"))
	secret, _ := HashSecret("anx1_3abigakvquj4hqwgnv7k4x7gvhi")
	at := netip.MustParseAddr
	find := func(s *Source, ok bool) string {
		if !ok {
			return "-"
		}
		return string(s.Organisation) + "/" + s.ID
	}
	for _, test := range []struct{ what, got, want string }{
		{"tenant", find(d.Tenant("aaaaaaaa-1111-4111-8111-111111111111")), "acme/tenant"},
		{"another tenant", find(d.Tenant("bbbbbbbb-1111-4111-8111-111111111111")), "-"},
		{"originator", find(d.Originator(domain(t, "acme.test"))), "acme/tenant"},
		{"provider domain", find(d.ProviderDomain(domain(t, "acme.onmicrosoft.com"))), "acme/tenant"},
		{"user name", find(d.Username("billing@acme")), "acme/app"},
		{"user name in capitals", find(d.Username("Billing@acme")), "-"},
		{"client key", find(d.ClientKey(key)), "acme/scanner"},
		{"no client key", find(d.ClientKey([32]byte{})), "-"},
		{"address", find(d.Address(at("203.0.113.10"))), "acme/onprem"},
		{"address in IPv6 form", find(d.Address(at("::ffff:203.0.113.10"))), "acme/onprem"},
		{"address beside it", find(d.Address(at("203.0.113.11"))), "-"},
		{"first of a /28", find(d.Address(at("203.0.113.16"))), "acme/onprem"},
		{"last of a /28", find(d.Address(at("203.0.113.31"))), "acme/onprem"},
		{"after a /28", find(d.Address(at("203.0.113.32"))), "-"},
		{"in a /64", find(d.Address(at("2001:db8:10::ffff:1"))), "acme/onprem"},
		{"beside a /64", find(d.Address(at("2001:db8:10:1::1"))), "-"},
		{"no address", find(d.Address(netip.Addr{})), "-"},
		{"secret", find(d.Secret("x-acme-relay-key", secret)), "acme/tenant"},
		{"secret under another's name", find(d.Secret("X-Globex-Relay-Key", secret)), "-"},
		{"no secret", find(d.Secret("X-Acme-Relay-Key", sha256.Sum256(nil))), "-"},
		{"identity", find(d.Identity(domain(t, "globex.test"), "google")), "abc/app"},
		{"our own key", find(d.Identity(domain(t, "acme.test"), "an1")), "-"},
		{"by id", find(d.Source("abc", "app")), "abc/app"},
		{"by the same id elsewhere", find(d.Source("acme", "app")), "acme/app"},
		{"by no id", find(d.Source("acme", "tenant2")), "-"},
	} {
		if test.got != test.want {
			t.Errorf("%s: %s, want %s", test.what, test.got, test.want)
		}
	}
}

func TestOrganisationsComeInOrder(t *testing.T) {
	d := build(t, example)
	var ids, names []string
	for o := range d.Organisations() {
		ids = append(ids, string(o.ID))
	}
	for name := range d.Domains() {
		names = append(names, name.Name.String())
	}
	if got := strings.Join(ids, " "); got != "abc acme" {
		t.Errorf("organisations: %s", got)
	}
	if got := strings.Join(names, " "); got != "globex.test guest.acme.test acme.test payroll.acme.test xn--bcher-kva.test" {
		t.Errorf("domains: %s", got)
	}
	if _, ok := d.Organisation("acme"); !ok || d.Generation() != 1 {
		t.Error("acme is missing, or the generation")
	}
}

func TestSecretHeadersOfAllOrganisationsAreKnown(t *testing.T) {
	d := build(t, example)
	for name, want := range map[string]bool{
		"X-Acme-Relay-Key": true, "x-acme-relay-KEY": true, "X-Globex-Relay-Key": true,
		"X-Acme-Relay-Keys": false, "From": false, "": false, strings.Repeat("x", 2000): false,
	} {
		if d.IsSecretHeader(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	if got := d.SecretHeaders(); !slices.Equal(got, []string{"x-acme-relay-key", "x-globex-relay-key"}) {
		t.Errorf("%q", got)
	}
}

func TestInboundGoesToTheOrganisationsServer(t *testing.T) {
	d := build(t, example)
	in, ok := d.InboundFor(domain(t, "globex.test"))
	if !ok || in.DeliverTo != "127.0.0.1:2600" || in.DMARC != DMARCEnforce {
		t.Errorf("%+v", in)
	}
	if _, ok := d.InboundFor(domain(t, "acme.test")); ok {
		t.Error("acme.test receives nothing here")
	}
}

func TestEgressIsOurs(t *testing.T) {
	d := build(t, example)
	if !d.IsEgress(netip.MustParseAddr("::ffff:198.51.100.200")) || d.IsEgress(netip.MustParseAddr("198.51.100.201")) {
		t.Error("198.51.100.200 alone is ours")
	}
	d.Egress()[0] = netip.Addr{}
	if !d.IsEgress(ours[0]) {
		t.Error("a Directory was changed from outside")
	}
}

func TestSourcesMaySendAsTheirPatternsSay(t *testing.T) {
	d := build(t, example)
	for _, test := range []struct {
		org    ID
		source string
		as     string
		want   bool
	}{
		{"acme", "tenant", "anybody@anywhere.test", true}, // no `from`: policy asks whose the domain is
		{"acme", "app", "billing@acme.test", true},
		{"acme", "app", "BILLING@acme.test", true},
		{"acme", "app", "bılling@acme.test", false}, // a dotless i
		{"acme", "app", "ceo@acme.test", false},
		{"acme", "app", "billing@news.acme.test", false},
		{"acme", "app", "billing@globex.test", false},
		{"acme", "app", "billing+x@acme.test", false},
		{"acme", "onprem", "ceo@acme.test", true},
		{"acme", "onprem", "ceo@news.acme.test", true}, // subdomains = true
		{"acme", "onprem", "ceo@a.b.acme.test", true},
		{"acme", "onprem", "ceo@payroll.acme.test", true}, // by its own pattern
		{"acme", "onprem", "x@payroll.acme.test", false},  // its own entry overrides
		{"acme", "onprem", "x@guest.acme.test", false},    // another organisation's
		{"acme", "onprem", "x@evilacme.test", false},
		{"acme", "onprem", "x@test", false},
	} {
		s, _ := d.Source(test.org, test.source)
		a, err := mail.ParseAddressUTF8(test.as)
		if err != nil {
			t.Fatal(err)
		}
		if s.MaySendAs(a) != test.want {
			t.Errorf("%s as %s: %v", test.source, test.as, !test.want)
		}
	}
}

func TestASourceOutsideADirectoryCoversNoSubdomains(t *testing.T) {
	s := Source{From: []Pattern{{"*", domain(t, "acme.test")}}}
	if !s.MaySendAs(address(t, "a@acme.test")) || s.MaySendAs(address(t, "a@news.acme.test")) {
		t.Error("the pattern covers something else than its domain")
	}
}

func TestSingleProofEndsWithItsDay(t *testing.T) {
	s := Source{SingleProofUntil: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)}
	for at, want := range map[time.Time]bool{
		time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC):   true,
		time.Date(2027, 1, 31, 23, 59, 59, 0, time.UTC): true,
		time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC):     false,
	} {
		if s.SingleProof(at) != want {
			t.Errorf("%s: %v", at, !want)
		}
	}
	if (&Source{}).SingleProof(today) {
		t.Error("a source without a date does without a second proof")
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	d := build(t, example)
	s, _ := d.Source("acme", "onprem")
	deep, from, name := domain(t, "a.b.news.acme.test"), address(t, "Ceo@news.acme.test"), domain(t, "acme.test")
	addr := netip.MustParseAddr("::ffff:203.0.113.20")
	allocs := testing.AllocsPerRun(100, func() {
		d.Owner(deep)
		d.Tenant("aaaaaaaa-1111-4111-8111-111111111111")
		d.Username("billing@acme")
		d.Address(addr)
		d.ClientKey([32]byte{})
		d.Secret("X-Acme-Relay-Key", [32]byte{})
		d.Identity(name, "google")
		d.InboundFor(name)
		d.IsSecretHeader("X-MS-Exchange-CrossTenant-Id")
		d.IsEgress(addr)
		s.MaySendAs(from)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestTheZeroDirectoryKnowsNobody(t *testing.T) {
	var d Directory
	_, owned := d.Owner(domain(t, "acme.test"))
	_, tenant := d.Tenant("")
	_, user := d.Username("")
	_, addr := d.Address(netip.MustParseAddr("192.0.2.1"))
	_, secret := d.Secret("", [32]byte{})
	if owned || tenant || user || addr || secret || d.IsSecretHeader("") || d.Generation() != 0 {
		t.Error("it knows somebody")
	}
}

func TestAProgramsRegistryNeedsNoFile(t *testing.T) {
	reg := Registry{Organisations: []OrganisationEntry{{ID: "acme", Domains: []DomainEntry{{Name: "com"}, {Name: "acme.test", DKIM: []KeyEntry{{Selector: "an1", Algorithm: "ed25519", KeyFile: "an1.pem"}}}}}}}
	_, problems, _ := Build(reg, shared, ours, 1, today)
	want := []string{
		"organisation[0].domain[0].name: com is a public suffix: the names below it belong to different people (register the names below it one by one)",
		`organisation[0].domain[1].dkim[0].key_file: "an1.pem" is relative, and there is no file it is relative to (write the whole path)`,
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

func TestARegistryThatCannotBeReadIsNoEmptyRegistry(t *testing.T) {
	reg, problems := ReadRegistry("testdata/none.toml")
	d, again, _ := Build(reg, shared, ours, 1, today)
	if len(problems) != 1 || len(again) != 1 || d != nil {
		t.Errorf("%v, %v, %v", problems, again, d)
	}
}

func TestSharedProvidersWithoutRangesAreAFinding(t *testing.T) {
	reg, _ := ParseRegistry("registry.toml", []byte(example))
	_, _, findings := Build(reg, Providers{}, nil, 1, today)
	if len(findings) != 2 {
		t.Errorf("%v", findings)
	}
}

// crowd is a registry of n organisations with ten domains and three sources each.
func crowd(n int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[[organisation]]\nid = \"org-%d\"\nname = \"Organisation %d\"\nsecurity_contact = \"security@d0-%d.test\"\n", i, i, i)
		for j := range 10 {
			fmt.Fprintf(&b, "[[organisation.domain]]\nname = \"d%d-%d.test\"\ndkim = [ { selector = \"an1\", algorithm = \"rsa-2048\" } ]\n", j, i)
		}
		hash := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		fmt.Fprintf(&b, "[[organisation.source]]\nid = \"tenant\"\nkind = \"microsoft365\"\ntenant_ids = [\"%08x-1111-4111-8111-111111111111\"]\noriginator_orgs = [\"d0-%d.test\"]\nsecret_header = { name = \"X-Key-%d\", sha256 = [\"%x\"] }\n", i, i, i, hash)
		fmt.Fprintf(&b, "[[organisation.source]]\nid = \"app\"\nkind = \"credential\"\nusername = \"app@%d\"\npassword = { argon2id = \"$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE\" }\nfrom = [\"*@d0-%d.test\"]\n", i, i)
		fmt.Fprintf(&b, "[[organisation.source]]\nid = \"onprem\"\nkind = \"address\"\naddresses = [\"%s/32\"]\nfrom = [\"*@d1-%d.test\"]\n", netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), i)
	}
	return []byte(b.String())
}

func BenchmarkTenThousandOrganisationsLoad(b *testing.B) {
	text := crowd(10_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		reg, _ := ParseRegistry("registry.toml", text)
		if d, problems, _ := Build(reg, shared, ours, 1, today); d == nil {
			b.Fatal(problems[0])
		}
	}
}

func BenchmarkOwnerOfASubdomain(b *testing.B) {
	reg, _ := ParseRegistry("registry.toml", []byte(example))
	d, _, _ := Build(reg, shared, ours, 1, today)
	name := domain(b, "a.b.news.acme.test")
	b.ReportAllocs()
	for b.Loop() {
		d.Owner(name)
	}
}
