package probe

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
	"anechoic/standard/spf"
)

func domain(t *testing.T, name string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestProofRecordsAreCompared(t *testing.T) {
	d := &org.Domain{Organisation: "acme", Name: domain(t, "acme.test"), Subdomains: true}
	for _, tt := range []struct {
		name    string
		records []string
		want    State
		says    string
	}{
		{"as it is printed", []string{ProofRecord(d)}, OK, "acme"},
		{"beside others", []string{"google-site-verification=x", ProofRecord(d)}, OK, "acme"},
		{"without sub-domains", []string{"v=anechoic1; org=acme"}, Warning, "sub-domains"},
		{"none", nil, Problem, "no record"},
		{"of another organisation", []string{"v=anechoic1; org=globex"}, Problem, "another organisation"},
		{"for another relay", []string{"v=anechoic1; org=acme; relay=other.test"}, Problem, "no record that counts"},
		{"with a tag twice", []string{"v=anechoic1; org=acme; org=acme"}, Problem, "no record that counts"},
	} {
		if got := JudgeProof(tt.records, d, domain(t, "relay.test")); got.State != tt.want || !strings.Contains(got.Seen, tt.says) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestKeyRecordsAreCompared(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wanted := dkim.RecordValue(key.Public())
	for _, tt := range []struct {
		name    string
		records []string
		want    State
		says    string
	}{
		{"as it is printed", []string{wanted}, OK, "this key"},
		{"in another order", []string{strings.TrimPrefix(wanted, "v=DKIM1; ")}, OK, "this key"},
		{"none", nil, Problem, "no record"},
		{"two", []string{wanted, wanted}, Problem, "2 records"},
		{"of another key", []string{dkim.RecordValue(other)}, Problem, ""},
		{"cut at 255", []string{wanted[:255]}, Problem, "cut short"},
		{"cut to a few letters", []string{wanted[:40]}, Problem, "cut short"},
		{"taken back", []string{"v=DKIM1; k=rsa; p="}, Problem, "taken back"},
		{"for tests", []string{wanted + "; t=y"}, Warning, "t=y"},
		{"something else", []string{"v=spf1 -all"}, Problem, ""},
	} {
		got := JudgeKey(tt.records, wanted)
		if got.State != tt.want || !strings.Contains(got.Seen, tt.says) || got.State != OK && got.Fix == "" {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	if got := JudgeRevoked([]string{wanted}); got.State != Problem {
		t.Errorf("a revoked key that is published is %+v", got)
	}
	if got := JudgeRevoked([]string{"v=DKIM1; p="}); got.State != OK {
		t.Errorf("a revoked key that is taken back is %+v", got)
	}
	if got := JudgeWithdrawn([]string{wanted}); got.State != Problem || !strings.Contains(got.Fix, "withdraw") {
		t.Errorf("a killed domain's key that is published is %+v", got)
	}
	for _, gone := range [][]string{nil, {"v=DKIM1; p="}, {"v=spf1 -all"}} {
		if got := JudgeWithdrawn(gone); got.State != OK {
			t.Errorf("a killed domain's key that is gone (%q) is %+v", gone, got)
		}
	}
}

func TestDMARCRecordsAreCompared(t *testing.T) {
	for _, tt := range []struct {
		name      string
		records   []string
		inherited string
		want      State
		says      string
	}{
		{"reject with reports", []string{"v=DMARC1; p=reject; rua=mailto:r@acme.test"}, "", OK, "p=reject"},
		{"quarantine without reports", []string{"v=DMARC1; p=quarantine"}, "", Warning, "nobody gets reports"},
		{"none", []string{"v=DMARC1; p=none; rua=mailto:r@acme.test"}, "", Warning, "is delivered"},
		{"absent", nil, "", Problem, "no record"},
		{"absent, below one", nil, "acme.test", OK, "acme.test"},
		{"two", []string{"v=DMARC1; p=none", "v=DMARC1; p=reject"}, "", Problem, "2 records"},
		{"broken", []string{"v=DMARC1; p"}, "", Problem, ""},
		{"another text", []string{"hello"}, "", Problem, "no record"},
	} {
		if got := JudgeDMARC(tt.records, tt.inherited); got.State != tt.want || !strings.Contains(got.Seen, tt.says) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestExchangersAreCompared(t *testing.T) {
	here := func(host string) bool { return host == "relay.test" }
	for _, tt := range []struct {
		name    string
		records []string
		want    State
	}{
		{"here alone", []string{"10 relay.test"}, OK},
		{"none", nil, Problem},
		{"elsewhere", []string{"10 mx.elsewhere.test"}, Problem},
		{"here and around", []string{"10 relay.test", "20 mx.elsewhere.test"}, Problem},
		{"null", []string{"0 "}, Problem},
	} {
		if got := JudgeMX(tt.records, here); got.State != tt.want {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestSPFIsSuggested(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct{ record, want string }{
		{"", "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ~all"},
		{"v=spf1 include:x.test -all", "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 include:x.test -all"},
		{"v=spf1", "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1"},
		{"v=spf1 redirect=x.test", "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 redirect=x.test"},
	} {
		if got := SuggestSPF(tt.record, []netip.Addr{four, six}); got != tt.want {
			t.Errorf("%q: %q", tt.record, got)
		}
	}
	if got := JudgeSPFText([]string{"v=spf1 -all", "V=SPF1 ~all"}); got.State != Problem || !strings.Contains(got.Seen, "2 SPF records") {
		t.Errorf("two records: %+v", got)
	}
	if got := JudgeSPFText([]string{"v=spf10 -all"}); got.State != Problem {
		t.Errorf("a record of another version: %+v", got)
	}
}

func TestSPFOfEachAddressIsTold(t *testing.T) {
	name := domain(t, "acme.test")
	egress := []Egress{{netip.MustParseAddr("192.0.2.1"), name}}
	start := Check{Name: "spf", State: OK, Seen: "v=spf1 -all"}
	for _, tt := range []struct {
		name    string
		result  spf.Result
		want    State
		says    string
		publish string
	}{
		{"passes", spf.Result{Status: spf.Pass}, OK, "pass", ""},
		{"fails", spf.Result{Status: spf.Fail}, Problem, "fail", `"v=spf1 ip4:192.0.2.1 -all"`},
		{"no answer", spf.Result{Status: spf.TempError, Err: errors.New("timed out")}, Warning, "timed out", ""},
		{"too many look-ups", spf.Result{Status: spf.PermError, Lookups: spf.MaxLookups + 1, Err: errors.New("too many")}, Problem, "too many", ""},
		{"not to be read", spf.Result{Status: spf.PermError, Err: errors.New("term")}, Problem, "term", ""},
	} {
		got := withSPF(start, name, egress, []spf.Result{tt.result}, []string{"v=spf1 -all"})
		if got.State != tt.want || !strings.Contains(got.Seen, tt.says) || !strings.Contains(strings.Join(got.Publish, " "), tt.publish) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	if got := withListed(start, []netip.Addr{netip.MustParseAddr("192.0.2.9")}); got.State != Problem || !strings.Contains(got.Fix, "192.0.2.9") {
		t.Errorf("an address of nobody's mail: %+v", got)
	}
}

func TestServersThatDifferAreShown(t *testing.T) {
	judge := func(records []string) Verdict {
		if len(records) == 0 {
			return Verdict{Problem, "no record", "publish"}
		}
		return ok("%s", records[0])
	}
	there, missing := []string{"x"}, Reading{Server: "ns2", Missing: true}
	for _, tt := range []struct {
		name     string
		readings Readings
		want     State
		says     string
	}{
		{"all have it", Readings{Own: Reading{Records: there}, Authorities: []Reading{{Server: "ns1", Records: there}}}, OK, "x"},
		{"one has not", Readings{Own: Reading{Records: there}, Authorities: []Reading{{Server: "ns1", Records: there}, missing}}, Warning, "ns2: no record"},
		{"another text", Readings{Own: Reading{Records: there}, Authorities: []Reading{{Server: "ns1", Records: []string{"y"}}}}, Warning, "ns1: y"},
		{"one is silent", Readings{Own: Reading{Records: there}, Authorities: []Reading{{Server: "ns1", Err: errors.New("timed out")}}}, Warning, "no answer of ns1"},
		{"an alias", Readings{Own: Reading{Records: there}, Authorities: []Reading{{Server: "ns1", Alias: "elsewhere.test"}}}, OK, "x"},
		{"the resolver has nothing yet", Readings{Own: Reading{}, Authorities: []Reading{{Server: "ns1", Records: there}}}, Problem, "ns1: x"},
		{"the resolver is silent", Readings{Own: Reading{Err: errors.New("refused")}}, Problem, "refused"},
	} {
		got := tt.readings.Over(Check{}, judge)
		if got.State != tt.want || !strings.Contains(got.Seen, tt.says) || got.State != OK && got.Fix == "" {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func FuzzJudges(f *testing.F) {
	key, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	wanted := dkim.RecordValue(key)
	f.Add(wanted, "v=DMARC1; p=none")
	f.Add("v=DKIM1; k=ed25519; p=", "v=spf1 include:x -all")
	f.Add("p=;p=", "v=DMARC1; p=reject; rua=mailto:x@y")
	f.Fuzz(func(t *testing.T, one, two string) {
		records := []string{one, two}
		for _, list := range [][]string{records[:1], records} {
			for _, v := range []Verdict{JudgeKey(list, wanted), JudgeRevoked(list), JudgeDMARC(list, ""), JudgeSPFText(list), JudgeMX(list, func(string) bool { return false })} {
				if v.Seen == "" || badness[v.State] == badness[Problem] && v.Fix == "" {
					t.Fatalf("%q: %+v", list, v)
				}
			}
		}
		if v := JudgeKey(records[:1], wanted); v.State == OK && dkim.CheckPublished(one, key) != nil {
			t.Fatalf("%q counts as the key", one)
		}
	})
}
