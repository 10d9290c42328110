package dkim

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// bh32 is a bh= of the right length.
const bh32 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

func TestASignatureIsReadWhole(t *testing.T) {
	got, err := ParseSignature([]byte(" v=1; a=rsa-sha256; c=relaxed; d=T.Example;\r\n s=R1.Mail; i= a=20b=40c@Sub.T.example;\r\n q=other:dns/txt; t=1793534400;\r\n x=1794052800; l=10; h= From :to\r\n : Subject; z=From:a@b; zz=unknown;\r\n bh=" + bh32 + "; b=aG\r\n\tk=;"))
	if err != nil {
		t.Fatal(err)
	}
	want := Signature{
		Domain: domain(t, "t.example"), Selector: "r1.mail", Algorithm: RSASHA256, Header: Relaxed, Body: Simple,
		Identity: "a b@c@Sub.T.example", SignedFields: []string{"from", "to", "subject"},
		Signed: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Expires: time.Date(2026, 11, 7, 12, 0, 0, 0, time.UTC),
		Signature: []byte("hi"), HasLength: true,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Signature{}), cmpopts.IgnoreFields(Signature{}, "BodyHash"), cmp.Comparer(sameDomain)); diff != "" {
		t.Error(diff)
	}
	if got.KeyName() != "r1.mail._domainkey.t.example" {
		t.Errorf("the key is at %s", got.KeyName())
	}
}

func TestWhatASignatureLeavesOutHasDefaults(t *testing.T) {
	s, err := ParseSignature([]byte("v=1; a=ed25519-sha256; d=t.example; s=e1; h=from; bh=" + bh32 + "; b=AA=="))
	if err != nil {
		t.Fatal(err)
	}
	if s.Header != Simple || s.Body != Simple || s.Identity != "@t.example" || !s.Signed.IsZero() || !s.Expires.IsZero() || s.HasLength {
		t.Errorf("%+v", s)
	}
}

func TestInternationalNamesAreLookedUpAsALabels(t *testing.T) {
	s, err := ParseSignature([]byte("v=1; a=rsa-sha256; d=bücher.example; s=schlüssel; i=ö@bücher.example; h=from; bh=" + bh32 + "; b=AA=="))
	if err != nil {
		t.Fatal(err)
	}
	if want := "xn--schlssel-95a._domainkey.xn--bcher-kva.example"; s.KeyName() != want {
		t.Errorf("the key is at %s, want %s", s.KeyName(), want)
	}
}

func TestBrokenSignaturesSayWhatIsWrong(t *testing.T) {
	good := map[string]string{"v": "1", "a": "rsa-sha256", "d": "t.example", "s": "r1", "h": "from", "bh": bh32, "b": "AA=="}
	const absent = "-"
	for _, c := range []struct{ tag, value, problem string }{
		{"v", absent, "v= is missing"}, {"v", "2", "version"}, {"v", "1.0", "version"}, {"v", "", "version"},
		{"a", absent, "a= is missing"}, {"a", "rsa-sha512", "not known"}, {"a", "RSA-SHA256", "not known"}, {"a", "none", "not known"},
		{"d", absent, "d= is missing"}, {"d", "", "d="}, {"d", "t.example.", "d="}, {"d", "[192.0.2.1]", "d="}, {"d", "t example", "d="},
		{"s", absent, "s= is missing"}, {"s", "", "selector"}, {"s", "a..b", "selector"}, {"s", "a/b", "selector"}, {"s", strings.Repeat("a", 64), "selector"},
		{"h", absent, "h= is missing"}, {"h", "", "empty field"}, {"h", "from::to", "empty field"}, {"h", "fr om", "no field name"},
		{"bh", absent, "bh= is missing"}, {"bh", "", "no SHA-256"}, {"bh", "AA==", "no SHA-256"}, {"bh", "%%%", "base64"},
		{"b", absent, "b= is missing"}, {"b", "", "empty"}, {"b", "a", "base64"},
		{"c", "nowsp", "not known"}, {"c", "relaxed/", "not known"}, {"c", "relaxed/relaxed/relaxed", "not known"}, {"c", "", "not known"},
		{"i", "t.example", "no @"}, {"i", "@other.example", "not within"}, {"i", "@badt.example", "not within"}, {"i", "@example", "not within"},
		{"i", "a=2@t.example", "quoted"}, {"i", "=4", "quoted"}, {"i", "a=ab@t.example", "quoted"}, {"i", "a@", "i="},
		{"q", "dns/http", "query"}, {"q", "", "query"},
		{"t", "soon", "seconds"}, {"t", "-1", "seconds"}, {"t", "", "seconds"},
		{"x", "later", "seconds"},
		{"l", "all", "number"}, {"l", "-1", "number"},
	} {
		var list []string
		for _, name := range []string{"v", "a", "c", "d", "s", "h", "bh", "b", "i", "q", "t", "x", "l"} {
			value, ok := good[name]
			if name == c.tag {
				value, ok = c.value, c.value != absent
			}
			if ok {
				list = append(list, name+"="+value)
			}
		}
		_, err := ParseSignature([]byte(strings.Join(list, "; ")))
		if err == nil || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s=%s: got %v, want …%s…", c.tag, c.value, err, c.problem)
		}
	}
}

func TestExpiryMustFollowSigning(t *testing.T) {
	const rest = "v=1; a=rsa-sha256; d=t.example; s=r1; h=from; bh=" + bh32 + "; b=AA==; "
	for tags, ok := range map[string]bool{
		"t=100; x=101": true, "t=100; x=100": false, "t=100; x=99": false, "x=1": true,
		"t=100; x=99999999999999999999999": true, // never
	} {
		if _, err := ParseSignature([]byte(rest + tags)); (err == nil) != ok {
			t.Errorf("%s: %v", tags, err)
		}
	}
}
