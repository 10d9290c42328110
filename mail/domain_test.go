package mail

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestDomainsAreComparedAsALabels(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	for _, tt := range []struct {
		story, in string
		want      string // empty: refused
	}{
		{"plain", "host.example", "host.example"},
		{"mixed case", "HoSt.Example", "host.example"},
		{"U-label", "bücher.example", "xn--bcher-kva.example"},
		{"U-label in capitals", "BÜCHER.example", "xn--bcher-kva.example"},
		{"decomposed U-label", "bu\u0308cher.example", "xn--bcher-kva.example"},
		{"A-label", "xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"A-label in capitals", "XN--BCHER-KVA.EXAMPLE", "xn--bcher-kva.example"},
		{"sharp s is a letter of its own", "faß.example", "xn--fa-hia.example"},
		{"two s", "fass.example", "fass.example"},
		{"fullwidth letters", "ｈｏｓｔ.example", "host.example"},
		{"fullwidth dot", "host．example", "host.example"},
		{"ideographic dot", "host。example", "host.example"},
		{"a soft hyphen is nothing", "ho\u00adst.example", "host.example"},
		{"hyphens in the third and fourth place", "r3---sn.example", "r3---sn.example"},
		{"the same in capitals", "R3---SN.example", "r3---sn.example"},
		{"the same beside a U-label", "r3---sn.bücher.example", "r3---sn.xn--bcher-kva.example"},
		{"digits", "163.com", "163.com"},
		{"63 octets in a label", label63 + ".example", label63 + ".example"},
		{"a cyrillic look-alike is another name", "\u0430pple.example", "xn--pple-43d.example"},

		{"nothing", "", ""},
		{"a dot", ".", ""},
		{"a dot first", ".host.example", ""},
		{"a trailing dot", "host.example.", ""},
		{"a trailing ideographic dot", "host.example。", ""},
		{"two dots", "host..example", ""},
		{"a hyphen first", "-host.example", ""},
		{"a hyphen last", "host-.example", ""},
		{"a hyphen at the end", "host.example-", ""},
		{"an underscore", "_dmarc.example", ""},
		{"a space", "ho st.example", ""},
		{"NUL", "host\x00.example", ""},
		{"CRLF", "host\r\n.example", ""},
		{"a slash", "host/.example", ""},
		{"a sign that maps to a slash", "a\u2044b\u2100.example", ""},
		{"an at sign", "a@host.example", ""},
		{"a colon", "host.example:25", ""},
		{"an IPv4 address", "192.0.2.1", ""},
		{"a fullwidth IPv4 address", "１９２.0.2.1", ""},
		{"an address literal", "[192.0.2.1]", ""},
		{"an A-label that is none", "xn--a.example", ""},
		{"an A-label of plain letters", "xn--host-.example", ""},
		{"an A-label of a capital", "xn--wca.example", ""},
		{"an A-label of the replacement character", "xn--zn7c.example", ""},
		{"an empty A-label", "xn--.example", ""},
		{"64 octets in a label", label63 + "a.example", ""},
		{"254 octets", strings.Repeat("a.", 124) + "abcdef", ""},
		{"not UTF-8", "\xff.example", ""},
		{"a megabyte", strings.Repeat("a.", 1<<19) + "example", ""},
	} {
		d, err := ParseDomain(tt.in)
		if tt.want == "" {
			if !errors.Is(err, ErrDomainSyntax) || !d.IsZero() {
				t.Errorf("%s: %.40q gives %q, %v", tt.story, tt.in, d, err)
			}
			continue
		}
		if err != nil || d.String() != tt.want {
			t.Errorf("%s: %q gives %q, %v; want %q", tt.story, tt.in, d, err, tt.want)
		}
	}
}

func TestWithinGoesLabelByLabel(t *testing.T) {
	for _, tt := range []struct {
		d, other string
		want     bool
	}{
		{"t.example", "t.example", true},
		{"x.t.example", "t.example", true},
		{"y.x.t.example", "t.example", true},
		{"evilt.example", "t.example", false},
		{"t.example.evil.example", "t.example", false},
		{"example", "t.example", false},
		{"t.example", "xt.example", false},
	} {
		if got := must(ParseDomain(tt.d)).Within(must(ParseDomain(tt.other))); got != tt.want {
			t.Errorf("%s within %s: %v", tt.d, tt.other, got)
		}
	}
	if d := must(ParseDomain("t.example")); d.Within(Domain{}) || (Domain{}).Within(d) || (Domain{}).Within(Domain{}) {
		t.Error("the zero Domain is within nothing, and nothing is within it")
	}
}

func TestParentsAndPublicSuffixes(t *testing.T) {
	d := must(ParseDomain("mail.shop.co.uk"))
	for _, want := range []struct {
		name   string
		public bool
	}{{"mail.shop.co.uk", false}, {"shop.co.uk", false}, {"co.uk", true}, {"uk", true}} {
		if d.String() != want.name || d.IsPublicSuffix() != want.public {
			t.Errorf("%s public %v, want %+v", d, d.IsPublicSuffix(), want)
		}
		d = d.Parent()
	}
	if !d.IsZero() || !d.Parent().IsZero() {
		t.Errorf("%q above the top", d)
	}
}

func TestDomainsAsText(t *testing.T) {
	var d []Domain
	if err := json.Unmarshal([]byte(`["BÜCHER.example", ""]`), &d); err != nil || d[0].String() != "xn--bcher-kva.example" || !d[1].IsZero() {
		t.Errorf("%v, %v", d, err)
	}
	if b, err := json.Marshal(d); err != nil || string(b) != `["xn--bcher-kva.example",""]` {
		t.Errorf("%s, %v", b, err)
	}
	if err := json.Unmarshal([]byte(`["a..b"]`), &d); !errors.Is(err, ErrDomainSyntax) {
		t.Error(err)
	}
}

func FuzzParseDomain(f *testing.F) {
	for _, s := range []string{"host.example", "BÜCHER.example", "xn--bcher-kva.example", "ab--c.example", "faß.de", "ｈ。x", "1.2.3.4", "xn--a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDomain(s)
		if isASCII(s) { // case never matters
			if upper, err2 := ParseDomain(strings.ToUpper(s)); upper != d || (err == nil) != (err2 == nil) {
				t.Errorf("%q is %q, in capitals %q, %v", s, d, upper, err2)
			}
		}
		if err != nil {
			return
		}
		again, err := ParseDomain(d.String())
		if err != nil || again != d || !ldh(d.String()) || !d.Within(d) {
			t.Errorf("%q is %q, which is %q, %v", s, d, again, err)
		}
	})
}
