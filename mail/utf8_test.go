package mail

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// TestAddressFieldsOutsideASCII: address fields are UTF-8 with SMTPUTF8 and ASCII
// without; other fields pass as they are.
func TestAddressFieldsOutsideASCII(t *testing.T) {
	const from = "From: a@t.example\r\n"
	for _, tt := range []struct {
		story, header string
		plain, utf8   *Refusal
	}{
		{"ASCII alone", from, nil, nil},
		{"a Subject in UTF-8", from + "Subject: Grüße\r\n", nil, nil},
		{"a Subject in Latin-1", from + "Subject: Gr\xfc\xdfe\r\n", nil, nil},
		{"a From in UTF-8", "From: Grüße <grüße@bücher.example>\r\n", HeaderNeedsUTF8, nil},
		{"a From in Latin-1", "From: Gr\xfc\xdfe <a@t.example>\r\n", HeaderNeedsUTF8, FromSyntax},
		{"two mailboxes in From", "From: ü@t.example, b@t.example\r\n", HeaderNeedsUTF8, FromNotSingle},
		{"a Sender in UTF-8", from + "Sender: ü@t.example\r\n", HeaderNeedsUTF8, nil},
		{"a list in Sender", from + "Sender: ü@t.example, b@t.example\r\n", HeaderNeedsUTF8, OriginatorSyntax},
		{"a Resent-From in UTF-8", from + "Resent-From: ü@t.example, b@t.example\r\n", HeaderNeedsUTF8, nil},
		{"a Resent-Sender in UTF-8", from + "Resent-Sender: ü@t.example\r\n", HeaderNeedsUTF8, nil},
		{"a To in UTF-8", from + "To: Jürgen <j@u.example>\r\n", HeaderNeedsUTF8, nil},
		{"a To in Latin-1", from + "To: J\xfcrgen <j@u.example>\r\n", HeaderNeedsUTF8, HeaderSyntax},
		{"a Cc with a line separator", from + "Cc: J\u2028 <j@u.example>\r\n", HeaderNeedsUTF8, HeaderSyntax},
		{"a Bcc, a Reply-To", from + "Bcc: ü@u.example\r\nReply-To: ü@u.example\r\n", HeaderNeedsUTF8, nil},
		{"a Resent-Cc", from + "Resent-Cc: \xfc@u.example\r\n", HeaderNeedsUTF8, HeaderSyntax},
	} {
		h := must(ParseHeader([]byte(tt.header), HeaderLimits{}))
		_, plain := ReadOriginators(h)
		_, extended := Envelope{UTF8: true}.ReadOriginators(h)
		if _, same := (Envelope{}).ReadOriginators(h); text(same) != text(plain) {
			t.Errorf("%s: %v and %v without SMTPUTF8", tt.story, plain, same)
		}
		if text(plain) != text(tt.plain) {
			t.Errorf("%s: %v without SMTPUTF8, want %v", tt.story, plain, tt.plain)
		}
		if text(extended) != text(tt.utf8) {
			t.Errorf("%s: %v with SMTPUTF8, want %v", tt.story, extended, tt.utf8)
		}
	}
}

func text(r *Refusal) string {
	if r == nil {
		return ""
	}
	return r.Text()
}

// TestOwnedIDNAndItsLookAlikes: the U-label of a domain is that domain, in every
// spelling that UTS 46 maps to it; what only looks like it is another.
func TestOwnedIDNAndItsLookAlikes(t *testing.T) {
	owned, plain := must(ParseDomain("bücher.example")), must(ParseDomain("paypal.example"))
	if owned.String() != "xn--bcher-kva.example" {
		t.Fatal(owned)
	}
	read := func(domain string) (Domain, *Refusal) {
		h := must(ParseHeader([]byte("From: a@"+domain+"\r\n"), HeaderLimits{}))
		o, refusal := Envelope{UTF8: true}.ReadOriginators(h)
		return o.From.Address.Domain(), refusal
	}
	for _, same := range []string{"bücher.example", "BÜCHER.example", "bu\u0308cher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE", "bücher。example", "ｂücher.example", "bü\u00adcher.example"} {
		if d, refusal := read(same); refusal != nil || d != owned {
			t.Errorf("%q is %q, %v", same, d, refusal)
		}
	}
	for _, other := range []string{
		"bucher.example", "büсher.example" /* a Cyrillic es */, "bűcher.example", "bücher.example.evil.test", "xn--bucher-kva.example",
		"pаypal.example" /* a Cyrillic a */, "paypaⅼⅼ.example", "рaypal.example", "paypal.exаmple", "xn--pypal-4ve.example", "páypal.example",
	} {
		if d, refusal := read(other); refusal == nil && (d == owned || d == plain) {
			t.Errorf("%q passes as %q", other, d)
		}
	}
	if d, refusal := read("ⓟⓐⓨⓟⓐⓛ.example"); refusal != nil || d != plain { // UTS 46 maps it for everybody
		t.Errorf("circled letters are %q, %v", d, refusal)
	}
}

func TestXtextOfAddressesOutsideASCII(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a@b.example": "a@b.example", "ü@b.example": `\x{FC}@b.example`, "a+b=c\\": `a\x{2B}b\x{3D}c\x{5C}`,
		"a b": `a\x{20}b`, "\U0001F4E7@b": `\x{1F4E7}@b`, "\r\n\x00\x7f": `\x{0D}\x{0A}\x{00}\x{7F}`, "\xff": `\x{FFFD}`,
	} {
		if got := UTF8Xtext(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// FuzzUTF8Address: an address with SMTPUTF8 is the same however its domain is
// written, never passes without where it is not ASCII, and can be written in ASCII
// for a report.
func FuzzUTF8Address(f *testing.F) {
	for _, s := range []string{
		"grüße@bücher.example", "a@xn--bcher-kva.example", `"a ü"@b.example`, "用户@例子.example", "a@ß.example", "a@faß.example", "a@\u200d.example",
		"a@\u0430\u0431.example", "a@bücher。example", "\u202ea@b.example", "a@xn--a.example", "a\u0301@b.example", "\xc0\xaf@b.example", "a@א1.example",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		plain, errPlain := ParseAddress(s)
		a, err := ParseAddressUTF8(s)
		if isASCII(s) && (plain != a || (err == nil) != (errPlain == nil)) {
			t.Fatalf("%q: %v %v without SMTPUTF8, %v %v with", s, plain, errPlain, a, err)
		}
		if !isASCII(s) && errPlain == nil {
			t.Fatalf("%q passes without SMTPUTF8", s)
		}
		if err != nil {
			if !errors.Is(err, ErrAddressSyntax) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		checkAddress(t, s, a, ParseAddressUTF8)
		if !utf8.ValidString(a.String()) || a.IsASCII() != isASCII(a.String()) {
			t.Errorf("%q is %q", s, a)
		}
		if u, err := idna.ToUnicode(a.Domain().String()); err == nil {
			again, err := ParseDomain(u)
			if err != nil || again != a.Domain() {
				t.Errorf("%q has the domain %q, which is %q, which is %q, %v", s, a.Domain(), u, again, err)
			}
		}
		if x := UTF8Xtext(a.String()); !isASCII(x) || strings.ContainsAny(x, "+= \r\n\x00") {
			t.Errorf("%q is %q in a report", s, x)
		}
	})
}
