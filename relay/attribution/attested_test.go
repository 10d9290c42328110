package attribution

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
	"anechoic/standard/arc"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
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

// attestedFail is what the provider says of mail from outside that is not what it
// claims to be.
func attestedFail(from string) Attested {
	return Attested{SPF: "fail", DMARC: "fail", HeaderFrom: domain(from), Outside: true, SenderIP: netip.MustParseAddr("51.68.66.6")}
}

func TestWhatTheProviderSawFailIsContradicted(t *testing.T) {
	dir := directory(t)
	hosted := eop(t, dir, append(stamps(acmeTenant, "acme.test"), secretLine())...)
	hybrid := eop(t, dir, append(hybridStamps(acmeTenant, "acme.test", "198.51.100.7"), secretLine())...)
	forwarded := eop(t, dir, append(stamps(acmeTenant, "acme.test"), secretLine(), "Resent-From: box@acme.test")...)
	fail, other := attestedFail("acme.test"), attestedFail("elsewhere.test")
	pass := Attested{SPF: "pass", DMARC: "pass", HeaderFrom: domain("acme.test")}
	for name, c := range map[string]struct {
		ev      Evidence
		seals   []Sealed
		unknown bool
		want    *mail.Refusal
	}{
		"hosted":                               {hosted, []Sealed{{Instance: 1, Intact: true, Attested: fail}}, false, mail.OriginContradicted},
		"hosted, and changed since":            {hosted, []Sealed{{Instance: 1, Attested: fail}}, false, mail.OriginContradicted},
		"hybrid":                               {hybrid, []Sealed{{Instance: 2, Intact: true, Attested: fail}}, false, mail.OriginContradicted},
		"one of several":                       {hosted, []Sealed{{Instance: 1, Attested: pass}, {Instance: 2, Attested: fail}, {Instance: 3, Attested: pass}}, false, mail.OriginContradicted},
		"it passed":                            {hosted, []Sealed{{Instance: 1, Intact: true, Attested: pass}}, false, nil},
		"it failed for another From":           {hosted, []Sealed{{Instance: 1, Intact: true, Attested: other}}, false, nil},
		"no results at all":                    {hosted, []Sealed{{Instance: 1, Intact: true}}, false, nil},
		"a key could not be looked up":         {hosted, nil, true, mail.LookupFailed},
		"what is forwarded keeps that":         {forwarded, []Sealed{{Instance: 1, Intact: true, Attested: fail}}, false, nil},
		"what is forwarded, and no key":        {forwarded, nil, true, nil},
		"a known failure comes before unknown": {hosted, []Sealed{{Instance: 1, Intact: true, Attested: fail}}, true, mail.OriginContradicted},
	} {
		t.Run(name, func(t *testing.T) {
			c.ev.Seals, c.ev.SealsFailed = c.seals, c.unknown
			proof, refusal := Attribute(dir, &c.ev, now)
			expect(t, proof, refusal, c.want)
		})
	}
}

func TestAChainSpeaksOnlyIfAllOfItVerifies(t *testing.T) {
	microsoft, list := domain("microsoft.com"), domain("lists.test")
	words := func(text string) authres.Results {
		r, err := authres.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	fails := words("mx.microsoft.com 1; spf=fail (sender ip is 51.68.66.6); dmarc=fail header.from=acme.test")
	passes := words("mx.microsoft.com 1; dmarc=pass header.from=acme.test")
	set := func(number int, by mail.Domain, status dkim.Status, r authres.Results) arc.Instance {
		return arc.Instance{Number: number, Results: r, Seal: dkim.Result{Domain: by, Status: status}, Message: dkim.Result{Status: dkim.Pass}}
	}
	for name, c := range map[string]struct {
		seals   arc.Status
		sets    []arc.Instance
		want    int
		unknown bool
	}{
		"all verify":                                  {arc.Pass, []arc.Instance{set(1, microsoft, dkim.Pass, fails)}, 1, false},
		"of others nothing is taken":                  {arc.Pass, []arc.Instance{set(1, list, dkim.Pass, fails), set(2, microsoft, dkim.Pass, fails)}, 1, false},
		"the chain does not hold":                     {arc.Fail, []arc.Instance{set(1, list, dkim.Fail, passes), set(2, microsoft, dkim.Pass, fails)}, 0, false},
		"all verify, and cv=fail":                     {arc.Fail, []arc.Instance{set(1, microsoft, dkim.Pass, fails)}, 0, false},
		"a key could not be looked up":                {arc.Fail, []arc.Instance{set(1, microsoft, dkim.TempError, fails)}, 0, true},
		"another's key could not":                     {arc.Fail, []arc.Instance{set(1, list, dkim.TempError, passes), set(2, microsoft, dkim.Pass, fails)}, 0, true},
		"a key could not, and nobody accuses":         {arc.Fail, []arc.Instance{set(1, microsoft, dkim.TempError, passes)}, 0, false},
		"a key could not, and a stranger accuses":     {arc.Fail, []arc.Instance{set(1, list, dkim.TempError, fails)}, 0, false},
		"a key could not, and another seal is forged": {arc.Fail, []arc.Instance{set(1, list, dkim.Fail, fails), set(2, microsoft, dkim.TempError, fails)}, 0, false},
		"there is none":                               {arc.None, nil, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			ev := Evidence{From: domain("acme.test")}
			ev.ReadChain(arc.Chain{SealStatus: c.seals, Instances: c.sets}, []mail.Domain{microsoft})
			if len(ev.Seals) != c.want || ev.SealsFailed != c.unknown {
				t.Errorf("%+v", ev)
			}
		})
	}
}

func TestOnlyWordsThatWouldDecideAreVerified(t *testing.T) {
	for line, want := range map[string]bool{
		"ARC-Authentication-Results: i=1; mx.microsoft.com 1; dmarc=fail header.from=acme.test":                                            true,
		"arc-authentication-results: i=1;\r\n MX.Microsoft.com 1; spf=fail (sender ip is 192.0.2.1);\r\n DMARC=FAIL header.from=Acme.Test": true,
		"ARC-Authentication-Results: i=1; mx.microsoft.com 1; dmarc=pass header.from=acme.test":                                            false,
		"ARC-Authentication-Results: i=1; mx.microsoft.com 1; dmarc=fail header.from=globex.test":                                          false,
		"ARC-Authentication-Results: i=1; lists.test; dmarc=fail header.from=acme.test":                                                    false,
		"Authentication-Results: mx.microsoft.com; dmarc=fail header.from=acme.test":                                                       false,
		"ARC-Authentication-Results: nothing that can be read":                                                                             false,
	} {
		h, err := mail.ParseHeader([]byte("From: a@acme.test\r\n"+line+"\r\n"), mail.HeaderLimits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := Accused(h, domain("acme.test")); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestWhatWasSealedStaysInStoredEvidence(t *testing.T) {
	ev := Evidence{From: domain("acme.test"), Seals: []Sealed{{Instance: 1, Intact: true, Attested: attestedFail("acme.test")}, {Instance: 2}}, SealsFailed: true}
	text, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	var again Evidence
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ev.Seals, again.Seals, comparers); diff != "" || !again.SealsFailed {
		t.Error(diff)
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
