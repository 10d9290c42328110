package dmarc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRecordsAndOrganisations is the tree walk, by the examples of RFC 9989 and
// beside them: whose record applies, and which is the organisational domain.
func TestRecordsAndOrganisations(t *testing.T) {
	const r = "v=DMARC1; p=reject"
	deep := "a.b.c.d.e.f.g.h.i.j.k.example.com"
	for _, c := range []struct {
		about    string
		zone     records
		author   string
		from     string // whose record
		org      string
		suffixes bool // by RFC 7489
	}{
		{"the domain's own record", records{"_dmarc.example.com": {r}}, "example.com", "example.com", "example.com", false},
		{"4.10.2: the highest record names the organisation", records{"_dmarc.mail.example.com": {r}, "_dmarc.example.com": {r}}, "a.mail.example.com", "example.com", "example.com", false},
		{"4.10.2: psd=n ends the walk", records{"_dmarc.mail.example.com": {r + "; psd=n"}, "_dmarc.example.com": {r}}, "a.mail.example.com", "mail.example.com", "mail.example.com", false},
		{"4.10.2: one label below psd=y", records{"_dmarc.com": {r + "; psd=y"}}, "a.mail.example.com", "com", "example.com", false},
		{"own record, organisation above", records{"_dmarc.mail.example.com": {r}, "_dmarc.example.com": {r}}, "mail.example.com", "mail.example.com", "example.com", false},
		{"own record with psd=n", records{"_dmarc.mail.example.com": {r + "; psd=n"}, "_dmarc.example.com": {r}}, "mail.example.com", "mail.example.com", "mail.example.com", false},
		{"own record with psd=y is not below itself", records{"_dmarc.bank.example": {r + "; psd=y"}, "_dmarc.example": {r}}, "bank.example", "bank.example", "bank.example", false},
		{"psd=u is none", records{"_dmarc.mail.example.com": {r + "; psd=u"}, "_dmarc.example.com": {r}}, "mail.example.com", "mail.example.com", "example.com", false},
		{"B.4.3: the organisation under a public suffix", records{"_dmarc.bank.example": {r + "; psd=y"}, "_dmarc.giant.bank.example": {r}}, "mail.giant.bank.example", "giant.bank.example", "giant.bank.example", false},
		{"B.4.3: without a record of its own", records{"_dmarc.bank.example": {r + "; psd=y"}, "_dmarc.giant.bank.example": {r}}, "mail.mega.bank.example", "bank.example", "mega.bank.example", false},
		{"a record between organisation and From does not apply", records{"_dmarc.b.giant.bank.example": {r}, "_dmarc.bank.example": {r + "; psd=y"}}, "a.b.giant.bank.example", "bank.example", "giant.bank.example", false},
		{"a top level with psd=y", records{"_dmarc.example": {r + "; psd=y"}}, "foo.example", "example", "foo.example", false},
		{"11.8: a top level that forgot psd=y", records{"_dmarc.example": {r}}, "foo.example", "example", "example", false},
		{"11.8: and psd=n against it", records{"_dmarc.example": {r}, "_dmarc.foo.example": {r + "; psd=n"}}, "www.foo.example", "foo.example", "foo.example", false},
		{"nothing anywhere", records{}, "a.example.com", "", "a.example.com", false},
		{"one label", records{}, "localhost", "", "localhost", false},
		{"B.4.2: a deep name", records{"_dmarc.example.com": {r}}, deep, "example.com", "example.com", false},
		{"a deep name's own record", records{"_dmarc." + deep: {r}}, deep, deep, deep, false},
		{"5.1.8: the record that no walk finds", records{"_dmarc.b.c.d.e.f.g.example.com": {r + "; psd=n"}, "_dmarc.example.com": {r}}, "mail.a.b.c.d.e.f.g.example.com", "example.com", "example.com", false},
		{"a public suffix of seven labels under a deep name", records{"_dmarc.3.4.5.6.7.example.com": {r + "; psd=y"}}, "a.b.c.2.3.4.5.6.7.example.com", "3.4.5.6.7.example.com", "2.3.4.5.6.7.example.com", false},
		{"other texts do not count", records{"_dmarc.mail.example.com": {"x", "v=spf1 -all", "v=dmarc1; p=none"}, "_dmarc.example.com": {"y", r, "z"}}, "mail.example.com", "example.com", "example.com", false},
		{"two records above count as none", records{"_dmarc.example.com": {r, r}, "_dmarc.com": {r}}, "mail.example.com", "com", "com", false},
		{"two records of its own: none applies", records{"_dmarc.mail.example.com": {r, r}, "_dmarc.example.com": {r}}, "mail.example.com", "", "example.com", false},
		{"two records with psd=n do not end the walk", records{"_dmarc.mail.example.com": {r + "; psd=n", r + "; psd=n"}, "_dmarc.example.com": {r}}, "a.mail.example.com", "example.com", "example.com", false},
		{"a record without p= is a record of the walk", records{"_dmarc.mail.example.com": {"v=DMARC1; psd=n"}, "_dmarc.example.com": {r}}, "a.mail.example.com", "mail.example.com", "mail.example.com", false},

		{"RFC 7489: own record", records{"_dmarc.a.example.co.uk": {r}, "_dmarc.example.co.uk": {r}}, "a.example.co.uk", "a.example.co.uk", "example.co.uk", true},
		{"RFC 7489: that of the organisation", records{"_dmarc.b.example.co.uk": {r}, "_dmarc.example.co.uk": {r}}, "a.b.example.co.uk", "example.co.uk", "example.co.uk", true},
		{"RFC 7489: psd= means nothing", records{"_dmarc.b.example.co.uk": {r + "; psd=n"}}, "a.b.example.co.uk", "", "example.co.uk", true},
		{"RFC 7489: a public suffix", records{"_dmarc.co.uk": {r}}, "co.uk", "co.uk", "co.uk", true},
		{"RFC 7489: below a public suffix with a record", records{"_dmarc.co.uk": {r + "; psd=y"}}, "example.co.uk", "", "example.co.uk", true},
		{"RFC 7489: two records", records{"_dmarc.a.example.co.uk": {r, r}, "_dmarc.example.co.uk": {r}}, "a.example.co.uk", "", "example.co.uk", true},
		{"RFC 7489: two records above", records{"_dmarc.example.co.uk": {r, r}}, "a.example.co.uk", "", "example.co.uk", true},
	} {
		method := TreeWalk
		if c.suffixes {
			method = PublicSuffix
		}
		resolver := &listening{Resolver: c.zone.zone()}
		d, err := Discover(context.Background(), resolver, method, domain(t, c.author))
		if err != nil || d.Domain.String() != c.from || d.OrganisationalDomain.String() != c.org || (d.Reason != nil) != (c.from == "") {
			t.Errorf("%s: record of %q, organisation %q, %v, %v", c.about, d.Domain, d.OrganisationalDomain, d.Reason, err)
		}
		if len(resolver.asked) > MaxQueries || c.suffixes && len(resolver.asked) > 2 {
			t.Errorf("%s: %d look-ups", c.about, len(resolver.asked))
		}
	}
}

func TestALongNameIsAskedForInTheStandardsOrder(t *testing.T) {
	for author, want := range map[string]string{
		"a.b.c.d.e.f.g.h.i.j.mail.example.com": "a.b.c.d.e.f.g.h.i.j.mail.example.com g.h.i.j.mail.example.com h.i.j.mail.example.com i.j.mail.example.com j.mail.example.com mail.example.com example.com com",
		"mail.a.b.c.d.e.f.g.example.com":       "mail.a.b.c.d.e.f.g.example.com c.d.e.f.g.example.com d.e.f.g.example.com e.f.g.example.com f.g.example.com g.example.com example.com com",
		"a.b.c.d.e.f.example.com":              "a.b.c.d.e.f.example.com b.c.d.e.f.example.com c.d.e.f.example.com d.e.f.example.com e.f.example.com f.example.com example.com com",
		"example.com":                          "example.com com",
	} {
		resolver := &listening{Resolver: records{}.zone()}
		if _, err := Discover(context.Background(), resolver, TreeWalk, domain(t, author)); err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range strings.FieldsSeq(want) {
			names = append(names, "_dmarc."+name)
		}
		if diff := cmp.Diff(names, resolver.asked); diff != "" {
			t.Errorf("%s: %s", author, diff)
		}
	}
}

// TestFaultsOfADiscovery tells what is still known when a look-up fails.
func TestFaultsOfADiscovery(t *testing.T) {
	const r, fault = "v=DMARC1; p=reject", "SERVFAIL"
	for _, c := range []struct {
		about             string
		zone              records
		author, from, org string
		failed            bool
		method            Method
	}{
		{"of the first name", records{"_dmarc.a.example.com": {fault}, "_dmarc.example.com": {r}}, "a.example.com", "", "", true, TreeWalk},
		{"above a record", records{"_dmarc.a.example.com": {r}, "_dmarc.example.com": {fault}}, "a.example.com", "a.example.com", "", true, TreeWalk},
		{"below a record", records{"_dmarc.a.example.com": {fault}, "_dmarc.example.com": {r}}, "b.a.example.com", "", "", true, TreeWalk},
		{"above the only record", records{"_dmarc.example.com": {r}, "_dmarc.com": {fault}}, "a.example.com", "", "", true, TreeWalk},
		{"above psd=n", records{"_dmarc.example.com": {r + "; psd=n"}, "_dmarc.com": {fault}}, "a.example.com", "example.com", "example.com", false, TreeWalk},
		{"RFC 7489: above a record", records{"_dmarc.a.example.com": {r}, "_dmarc.example.com": {fault}}, "a.example.com", "a.example.com", "example.com", false, PublicSuffix},
		{"RFC 7489: at the organisation", records{"_dmarc.example.com": {fault}}, "a.example.com", "", "example.com", true, PublicSuffix},
	} {
		d, err := Discover(context.Background(), c.zone.zone(), c.method, domain(t, c.author))
		if (err != nil) != c.failed || d.Domain.String() != c.from || d.OrganisationalDomain.String() != c.org || d.Reason != nil {
			t.Errorf("%s: record of %q, organisation %q, %v, %v", c.about, d.Domain, d.OrganisationalDomain, d.Reason, err)
		}
	}
}

func TestDiscoveryEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Discover(ctx, records{}.zone(), TreeWalk, domain(t, "example.com")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestANameThatTheDNSCannotHoldIsNotAskedFor(t *testing.T) {
	long := strings.Repeat("a.", 123) + "example" // 253 octets
	resolver := &listening{Resolver: records{"_dmarc.example": {"v=DMARC1; p=reject"}}.zone()}
	d, err := Discover(context.Background(), resolver, TreeWalk, domain(t, long))
	if err != nil || d.Domain.String() != "example" || len(resolver.asked) != MaxQueries-1 {
		t.Errorf("%s, %v, %q", d.Domain, err, resolver.asked)
	}
}

func TestNoDomainHasNoRecord(t *testing.T) {
	d, err := Discover(context.Background(), records{}.zone(), TreeWalk, domains(t, "example.com")[0].Parent().Parent())
	if err != nil || !errors.Is(d.Reason, ErrNoRecord) {
		t.Errorf("%v, %v", d.Reason, err)
	}
}
