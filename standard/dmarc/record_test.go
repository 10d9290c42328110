package dmarc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestARecordIsReadWhole(t *testing.T) {
	got, err := Parse("V = DMARC1 ; P=Quarantine;SP=reject; np=none; adkim=s; aspf=S; t=y; psd=n; fo=1:d ; rua=mailto:a@b.example!10m , https://b.example/r%20x; ruf=MAILTO:F@B.Example;")
	if err != nil {
		t.Fatal(err)
	}
	want := Record{
		Policy: PolicyQuarantine, SubdomainPolicy: PolicyReject, NonexistentPolicy: PolicyNone,
		StrictDKIM: true, StrictSPF: true, Testing: true, Suffix: SuffixNo,
		AggregateURIs:  []string{"mailto:a@b.example", "https://b.example/r%20x"},
		FailureURIs:    []string{"MAILTO:F@B.Example"},
		FailureOptions: FailureAny | FailureDKIM,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Record{}, "Text"), cmpopts.IgnoreUnexported(Record{})); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNoRecord(t *testing.T) {
	for _, txt := range []string{
		"", "v", "v=", "v=dmarc1; p=reject", "v=DMARC1x; p=reject", "v=DMARC11", "v=DMARC1 x; p=reject", "v=DMARC2; p=reject",
		" v=DMARC1; p=reject", "\tv=DMARC1", ";v=DMARC1; p=reject", "p=reject; v=DMARC1", "vv=DMARC1", "v==DMARC1", "v:DMARC1",
		"v=\nDMARC1; p=reject", "v=spf1 -all", "\"v=DMARC1; p=reject\"", "\xefv=DMARC1",
		"v=DMARC1; p=reject;" + strings.Repeat(" ", MaxRecord),
	} {
		if _, err := Parse(txt); !errors.Is(err, ErrNotRecord) {
			t.Errorf("%.40q: %v", txt, err)
		}
	}
}

// TestPoliciesOfARecord tells what each record asks of a domain itself, of one
// below it and of one that does not exist; nothing at all if it does not apply.
func TestPoliciesOfARecord(t *testing.T) {
	for _, c := range []struct{ about, tags, want string }{
		{"p alone is for all", "p=reject", "reject reject reject"},
		{"sp is for all below", "p=reject; sp=none", "reject none none"},
		{"np is for what does not exist", "p=none; np=reject", "none none reject"},
		{"all three", "p=none; sp=quarantine; np=reject", "none quarantine reject"},
		{"the order does not matter", "np=reject; rua=mailto:a@b.example; p=none", "none none reject"},
		{"no p, and nowhere to report", "adkim=s", ""},
		{"nothing at all", "", ""},
		{"no p, but reports", "rua=mailto:a@b.example", "none none none"},
		{"no p, but reports and sp", "sp=reject; rua=mailto:a@b.example", "none reject reject"},
		{"no p, sp alone", "sp=reject", ""},
		{"a wrong p", "p=rejected; sp=reject", ""},
		{"a wrong p, but reports", "p=rejected; sp=reject; rua=mailto:a@b.example", "none none none"},
		{"a wrong sp", "p=reject; sp=x", ""},
		{"a wrong sp, but reports", "p=reject; sp=x; rua=mailto:a@b.example", "none none none"},
		{"a wrong np, but reports", "p=reject; np=; rua=mailto:a@b.example", "none none none"},
		{"reports to no URI are none", "p=x; rua=postmaster", ""},
		{"an empty p", "p=", ""},
		{"p twice, alike", "p=reject; p=reject", "reject reject reject"},
		{"p twice, different", "p=reject; p=none", ""},
		{"p twice, different, but reports", "p=reject; p=none; rua=mailto:a@b.example", "none none none"},
		{"a name without value is no tag", "p=reject; p; adkim", "reject reject reject"},
		{"a value without name is no tag", "p=reject; =none; = none", "reject reject reject"},
		{"unknown tags, gone tags", "p=reject; pct=0; rf=afrf; ri=1; x-y=z; 123; é=ü", "reject reject reject"},
		{"v again", "p=reject; v=DMARC2", "reject reject reject"},
		{"no separator but a comma", "p=reject, sp=none", ""},
		{"control characters", "p=rej\x00ect", ""},
	} {
		r, err := Parse("v=DMARC1; " + c.tags)
		if err != nil {
			t.Fatalf("%s: %v", c.about, err)
		}
		got := ""
		if r.Applies() {
			got = fmt.Sprintf("%s %s %s", r.PolicyFor(Same), r.PolicyFor(Subdomain), r.PolicyFor(Nonexistent))
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q (%v)", c.about, got, c.want, r.Problems)
		}
	}
}

func TestWrongValuesAreTheDefaultAndAreNamed(t *testing.T) {
	for tags, want := range map[string]string{
		"adkim=x":               `tag adkim= at octet 9: "x" is not r or s`,
		"p=none; p=reject":      "tag p= at octet 17: it stands twice, with different values",
		"psd=maybe":             `tag psd= at octet 9: "maybe" is not u or y or n`,
		"t=1":                   `tag t= at octet 9: "1" is not n or y`,
		"aspf=s;aspf=r":         "tag aspf= at octet 16: it stands twice, with different values",
		"sp=all":                `tag sp= at octet 9: "all" is not none, quarantine or reject`,
		"hello":                 `at octet 9: "hello" is not name=value`,
		"rua=mailto:nobody":     `tag rua= at octet 9: "mailto:nobody" is no URI`,
		"rua=mailto:a@b,":       `tag rua= at octet 9: "" is no URI`,
		"ruf=mailto:a@b;fo=1:0": `tag fo= at octet 24: "1:0" is not a list with either 0 or 1`,
		"ruf=mailto:a@b;fo=dd":  `tag fo= at octet 24: "dd" is not a list of 0, 1, d and s`,
		"ruf=mailto:a@b;fo=d:d": `tag fo= at octet 24: "d:d" is not a list of 0, 1, d and s`,
		"ruf=mailto:a@b;fo=":    `tag fo= at octet 24: "" is not a list of 0, 1, d and s`,
	} {
		r, err := Parse("v=DMARC1;" + tags)
		if err != nil || len(r.Problems) != 1 || r.Problems[0].Error() != want {
			t.Errorf("%s: %v, %v", tags, r.Problems, err)
		}
		if r.StrictDKIM || r.StrictSPF || r.Testing || r.Suffix != SuffixUnknown || r.FailureOptions != FailureAll {
			t.Errorf("%s: %+v", tags, r)
		}
	}
}

func TestFailureOptionsNeedAnAddress(t *testing.T) {
	for tags, want := range map[string]FailureOptions{
		"fo=1":                      FailureAll,
		"fo=1; ruf=mailto:a@b":      FailureAny,
		"ruf=mailto:a@b; fo= D : s": FailureDKIM | FailureSPF,
		"ruf=mailto:a@b; fo=0:s:d":  FailureAll | FailureDKIM | FailureSPF,
		"ruf=mailto:a@b":            FailureAll,
		"ruf=nothing; fo=1":         FailureAll,
	} {
		if r, err := Parse("v=DMARC1; p=none; " + tags); err != nil || r.FailureOptions != want {
			t.Errorf("%s: %b, %v", tags, r.FailureOptions, err)
		}
	}
}

func TestAddressesOfReports(t *testing.T) {
	for uri, ok := range map[string]bool{
		"mailto:a@b.example": true, "mailto:a%2Cb@c.example": true, "https://r.example/": true, "x-1+.:y": true,
		"mailto:a@b.example?subject=x": true, "MAILTO:A@B": true,
		"mailto:": false, "mailto:@b": false, "mailto:a@": false, "mailto:?to=a@b": false, "a@b.example": false, ":a@b": false,
		"1x:y": false, "mailto:a b@c": false, "mailto:a%2@b": false, "mailto:a@%zz": false, "mailto:<a@b>": false, "mailto:ü@b.example": false, "": false,
	} {
		r, err := Parse("v=DMARC1; rua=" + uri)
		if err != nil || (len(r.AggregateURIs) == 1) != ok {
			t.Errorf("%q: %q, %v", uri, r.AggregateURIs, r.Problems)
		}
	}
}

func TestHugeRecordsAreReadWithinBounds(t *testing.T) {
	r, err := Parse("v=DMARC1; p=reject; rua=" + strings.Repeat("mailto:a@b.example,", 800))
	if err != nil || len(r.AggregateURIs) != MaxURIs || len(r.Problems) != 1 || r.Policy != PolicyReject {
		t.Errorf("%d addresses, %v, %v", len(r.AggregateURIs), r.Problems, err)
	}
	r, err = Parse("v=DMARC1" + strings.Repeat("; x", 4000) + "; p=reject")
	if err != nil || len(r.Problems) != maxProblems || r.Policy != NoPolicy {
		t.Errorf("%d problems, %v, %v", len(r.Problems), r.Policy, err)
	}
}
