package echo

import (
	"strings"
	"testing"
)

func TestNamesOfTenantsInKeyAliases(t *testing.T) {
	for alias, want := range map[string]string{
		"selector1-acme-example._domainkey.acmecorp.onmicrosoft.com":          "acmecorp.onmicrosoft.com",
		"Selector2-acme-example._domainkey.ACMECORP.onmicrosoft.com.":         "acmecorp.onmicrosoft.com",
		"selector1-acme-example._domainkey.acmecorp.n-v1.dkim.mail.microsoft": "acmecorp.onmicrosoft.com",
		"selector1._domainkey.acme.evilonmicrosoft.com":                       "",
		"selector1._domainkey.acme.evil.onmicrosoft.com":                      "",
		"selector1._domainkey.onmicrosoft.com":                                "",
		"selector1._domainkey.acme.dkim.mail.microsoft.evil.example":          "",
		"acmecorp.onmicrosoft.com":                                            "",
		"s1._domainkey.relay.example":                                         "",
		"":                                                                    "",
	} {
		if got, ok := NameOf(alias); got.String() != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", alias, got, ok, want)
		}
	}
}

func TestKeyNamesAreThoseThatNameOfUnderstands(t *testing.T) {
	for _, n := range KeyNames(domain("acme.example")) {
		if !strings.HasSuffix(n, "._domainkey.acme.example") {
			t.Errorf("%q is no key's name", n)
		}
	}
}

// Whatever the alias: a name is one label below the provider's zone.
func FuzzNameOf(f *testing.F) {
	for _, alias := range []string{acmeAlias, "s._domainkey.a.b.dkim.mail.microsoft.", "x._domainkey..onmicrosoft.com", "._domainkey._domainkey.a.onmicrosoft.com"} {
		f.Add(alias)
	}
	f.Fuzz(func(t *testing.T, alias string) {
		d, ok := NameOf(alias)
		label, below := strings.CutSuffix(d.String(), tenantZone)
		if ok != !d.IsZero() || ok && (!below || label == "" || strings.Contains(label, ".")) {
			t.Errorf("%q out of %q", d, alias)
		}
	})
}
