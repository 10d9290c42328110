package mail

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestAddressesOfSMTP(t *testing.T) {
	longDomain := strings.Repeat("a.", 120) + "example" // 247 octets
	for _, tt := range []struct {
		story, in string
		want      string // as written again; empty: refused
	}{
		{"plain", "user@host.example", "user@host.example"},
		{"every kind of atext", "!#$%&'*+-/=?^_`{|}~@host.example", "!#$%&'*+-/=?^_`{|}~@host.example"},
		{"case is kept in the local part only", "User@Host.EXAMPLE", "User@host.example"},
		{"one label", "root@localhost", "root@localhost"},
		{"quoted without need", `"user"@host.example`, "user@host.example"},
		{"quoted with need", `"a b"@host.example`, `"a b"@host.example`},
		{"quoted at sign", `"a@b"@host.example`, `"a@b"@host.example`},
		{"quoted dots", `"..a"@host.example`, `"..a"@host.example`},
		{"quoted escapes", `"a\"\\\b"@host.example`, `"a\"\\b"@host.example`},
		{"A-label", "user@xn--bcher-kva.example", "user@xn--bcher-kva.example"},
		{"64 octets before the at sign", strings.Repeat("a", 64) + "@host.example", strings.Repeat("a", 64) + "@host.example"},
		{"254 octets", "user12@" + longDomain, "user12@" + longDomain},

		{"nothing", "", ""},
		{"no at sign", "user", ""},
		{"no local part", "@host.example", ""},
		{"no domain", "user@", ""},
		{"two at signs", "a@b@host.example", ""},
		{"NUL", "user\x00@host.example", ""},
		{"NUL in the domain", "user@host\x00.example", ""},
		{"NUL in quotes", "\"a\x00b\"@host.example", ""},
		{"an escaped NUL", "\"a\\\x00b\"@host.example", ""},
		{"CRLF and a command", "user@host.example\r\nRCPT TO:<x@y.example>", ""},
		{"CRLF in quotes", "\"a\r\n b\"@host.example", ""},
		{"a tab in quotes", "\"a\tb\"@host.example", ""},
		{"a space", "us er@host.example", ""},
		{"a space at the end", "user@host.example ", ""},
		{"a comment", "user(comment)@host.example", ""},
		{"a comment in the domain (espoofer A5)", "any@legitimate.com(a.attack.com", ""},
		{"a bracket (espoofer A2)", "(any@legitimate.com", ""},
		{"a quote in the domain (espoofer A6)", "any@legitimate.com'@any.attack.com", ""},
		{"a source route (espoofer A7)", "@legitimate.com,@any.com:'any@attack.com", ""},
		{"a percent route is a local part", "user%b.example@host.example", "user%b.example@host.example"},
		{"a quote that does not end", `"user@host.example`, ""},
		{"a backslash at the end", `"user\`, ""},
		{"an empty quote", `""@host.example`, ""},
		{"text after the quote", `"a"b@host.example`, ""},
		{"a dot first", ".user@host.example", ""},
		{"a dot last", "user.@host.example", ""},
		{"two dots", "us..er@host.example", ""},
		{"a trailing dot", "user@host.example.", ""},
		{"an address literal", "user@[192.0.2.1]", ""},
		{"an address without brackets", "user@192.0.2.1", ""},
		{"an underscore in the domain", "user@ho_st.example", ""},
		{"65 octets before the at sign", strings.Repeat("a", 65) + "@host.example", ""},
		{"255 octets", "user123@" + longDomain, ""},
		{"320 octets", strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 124) + "example", ""},
		{"a megabyte", strings.Repeat("a", 1<<20) + "@host.example", ""},
		{"angle brackets", "<user@host.example>", ""},
	} {
		a, err := ParseAddress(tt.in)
		if tt.want == "" {
			if !errors.Is(err, ErrAddressSyntax) || !a.IsZero() {
				t.Errorf("%s: %q gives %q, %v; want ErrAddressSyntax", tt.story, tt.in, a, err)
			}
			continue
		}
		if err != nil || a.String() != tt.want {
			t.Errorf("%s: %q gives %q, %v; want %q", tt.story, tt.in, a, err, tt.want)
		}
	}
}

func TestAddressesOutsideASCIINeedSMTPUTF8(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"grüße@host.example", "grüße@host.example"},
		{`"grüße an"@host.example`, `"grüße an"@host.example`},
		{"user@bücher.example", "user@xn--bcher-kva.example"},
		{"user@bücher。example", "user@xn--bcher-kva.example"},
		{"\xff@host.example", ""},
		{"\"\xff\"@host.example", ""},
		{"a\u0085b@host.example", ""}, // a C1 control: NEXT LINE
		{"a\u2028b@host.example", ""}, // a line separator
		{"\"a\u009bb\"@host.example", ""},
		{strings.Repeat("a", 64) + "@" + strings.Repeat("ü.", 50) + "example", ""}, // too long as A-labels
	} {
		if _, err := ParseAddress(tt.in); !errors.Is(err, ErrNotASCII) {
			t.Errorf("%q: %v without SMTPUTF8, want ErrNotASCII", tt.in, err)
		}
		a, err := ParseAddressUTF8(tt.in)
		if tt.want == "" && !errors.Is(err, ErrAddressSyntax) || tt.want != "" && (err != nil || a.String() != tt.want) {
			t.Errorf("%q gives %q, %v; want %q", tt.in, a, err, tt.want)
		}
	}
	a, _ := ParseAddressUTF8("user@bücher.example")
	b, _ := ParseAddress("user@XN--BCHER-KVA.example")
	if a != b || !a.IsASCII() {
		t.Errorf("%v and %v are the same mailbox", a, b)
	}
}

func TestTheNullSenderIsEmptyText(t *testing.T) {
	var a Address
	if a.String() != "" || !a.IsZero() || !a.Domain().IsZero() {
		t.Errorf("%q", a)
	}
	b, err := json.Marshal([]Address{{}, must(ParseAddress(`"a b"@host.example`))})
	var back []Address
	if err2 := json.Unmarshal(b, &back); err != nil || err2 != nil || len(back) != 2 || !back[0].IsZero() || back[1].Local() != "a b" {
		t.Errorf("%s %v %v %v", b, back, err, err2)
	}
	if err := json.Unmarshal([]byte(`["a@b@c"]`), &back); err == nil {
		t.Error("an address that is none was read")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"user@host.example", `"a\"b"@h.example`, "grüße@bücher.example", "a@b@c", "@a,@b:c@d", "\"\x00\"@x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil {
			checkAddress(t, s, a, ParseAddress)
		}
		if a, err := ParseAddressUTF8(s); err == nil {
			checkAddress(t, s, a, ParseAddressUTF8)
		}
	})
}

// checkAddress: a, read from s, can be written and read again as the same.
func checkAddress(t *testing.T, s string, a Address, parse func(string) (Address, error)) {
	t.Helper()
	written := a.String()
	again, err := parse(written)
	if err != nil || again != a || a.IsZero() || len(written) > MaxPath-2 {
		t.Errorf("%q is %q, which is %q, %v", s, written, again, err)
	}
	for i := 0; i < len(written); i++ {
		if written[i] < ' ' || written[i] == 0x7f {
			t.Errorf("%q is %q, with a control character", s, written)
		}
	}
	if !ldh(a.Domain().String()) {
		t.Errorf("%q has the domain %q", s, a.Domain())
	}
}
