package echo

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
	"anechoic/standard/authres"
)

var comparers = cmp.Options{
	cmp.Comparer(func(a, b mail.Domain) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestWhatTheProviderAttested(t *testing.T) {
	acme := domain("acme.example")
	for name, test := range map[string]struct {
		text string
		want Attested
		bad  bool
	}{
		"a mailbox": {
			text: "mx.microsoft.com 1; spf=pass smtp.mailfrom=acme.example; dmarc=pass action=none header.from=acme.example; dkim=pass header.d=acme.example; arc=none",
			want: Attested{SPF: "pass", DMARC: "pass", DKIM: []mail.Domain{acme}, HeaderFrom: acme, MailFrom: acme},
		},
		"from outside": {
			text: "mx.microsoft.com 1; spf=pass (sender ip is 165.204.84.17) smtp.rcpttodomain=globex.example\r\n smtp.mailfrom=acme.example; dmarc=pass (p=quarantine sp=quarantine pct=100) action=none header.from=acme.example; dkim=none (message not signed); arc=none (0)",
			want: Attested{SPF: "pass", DMARC: "pass", HeaderFrom: acme, MailFrom: acme, Outside: true, SenderIP: netip.MustParseAddr("165.204.84.17")},
		},
		"a spoof": {
			text: "MX.microsoft.com; spf=fail (Sender IP is ::ffff:192.0.2.7) smtp.mailfrom=bounce@evil.example; dkim=fail header.d=acme.example; dkim=pass header.d=evil.example; dmarc=fail header.from=acme.example",
			want: Attested{SPF: "fail", DMARC: "fail", DKIM: []mail.Domain{domain("evil.example")}, HeaderFrom: acme, MailFrom: domain("evil.example"), Outside: true, SenderIP: netip.MustParseAddr("192.0.2.7")},
		},
		"nothing checked":            {text: "mx.microsoft.com 1; none", want: Attested{}},
		"an address that is none":    {text: "mx.microsoft.com 1; spf=none (sender ip is x)", want: Attested{SPF: "none", Outside: true}},
		"somebody else's":            {text: "mx.google.com; dmarc=fail header.from=acme.example", bad: true},
		"a name that ends like it":   {text: "evil-mx.microsoft.com; dmarc=pass header.from=acme.example", bad: true},
		"two answers about one From": {text: "mx.microsoft.com 1; dmarc=fail header.from=acme.example; dmarc=pass header.from=acme.example", bad: true},
		"two senders":                {text: "mx.microsoft.com 1; spf=pass; spf=fail (sender ip is 192.0.2.1)", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := authres.Parse([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := Attest(r)
			if diff := cmp.Diff(test.want, got, comparers); diff != "" || ok == test.bad {
				t.Errorf("%v %s", ok, diff)
			}
		})
	}
}

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

// Whatever is attested: the words are those of the field, and who is not the
// provider attests nothing.
func FuzzAttest(f *testing.F) {
	f.Add("mx.microsoft.com 1; spf=pass (sender ip is 165.204.84.17) smtp.rcpttodomain=b.example smtp.mailfrom=a@acme.example; dmarc=fail action=none header.from=acme.example; dkim=pass header.d=acme.example")
	f.Add("mx.microsoft.com 1; dkim=pass header.d=a.example; dkim=pass header.d=b.example; dmarc=pass; arc=none (0)")
	f.Add("other.example; none")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := authres.Parse([]byte(text))
		if err != nil {
			return
		}
		a, ok := Attest(r)
		if ok != (strings.EqualFold(r.ID, attestor) && len(r.Of("spf")) < 2 && len(r.Of("dmarc")) < 2) {
			t.Errorf("%v of %q", ok, text)
		}
		if len(a.DKIM) > maxAttestedDKIM || a.SenderIP.IsValid() && !a.Outside || !ok && (a.DMARC != "" || a.Outside) {
			t.Errorf("%+v of %q", a, text)
		}
	})
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
