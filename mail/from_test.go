package mail

import (
	"errors"
	netmail "net/mail"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMailboxes(t *testing.T) {
	const one = "user@host.example"
	for _, tt := range []struct {
		story, value  string
		name, address string
	}{
		{"bare", "user@host.example", "", one},
		{"bare with space around", " \tuser@host.example ", "", one},
		{"in brackets", "<user@host.example>", "", one},
		{"atoms", "A Person <user@host.example>", "A Person", one},
		{"no space before the bracket", "Person<user@host.example>", "Person", one},
		{"dots in the name", "J. R. Person Jr. <user@host.example>", "J. R. Person Jr.", one},
		{"quoted name", `"Person, A." <user@host.example>`, "Person, A.", one},
		{"quoted address as a name", `"ceo@other.example" <user@host.example>`, "ceo@other.example", one},
		{"escapes in a name", `"A \"B\" \\ C" <user@host.example>`, `A "B" \ C`, one},
		{"words and quotes", `A "B C"  D <user@host.example>`, "A B C D", one},
		{"an empty name", `"" <user@host.example>`, "", one},
		{"an encoded-word stays as it is", "=?utf-8?Q?Gr=C3=BC=C3=9Fe?= <user@host.example>", "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", one},
		{"a comment for a name", "user@host.example (A. Person)", "", one},
		{"nested comments", "user@host.example (a (b (c)))", "", one},
		{"comments before and between", "(x) A (y) B (z) <user@host.example> (w)", "A B", one},
		{"folded", "A\r\n Person\r\n\t<user@host.example>\r\n (x\r\n y)", "A Person", one},
		{"folded in quotes", "\"A\r\n Person\" <user@host.example>", "A Person", one},
		{"a quoted local part", `<"a b"@host.example>`, "", `"a b"@host.example`},
		{"a quoted local part, bare", `"a b"@host.example`, "", `"a b"@host.example`},
		{"A-label in capitals", "<user@XN--BCHER-KVA.example>", "", "user@xn--bcher-kva.example"},
		{"a local part with odd characters", "<prvs=1=a+b/c@host.example>", "", "prvs=1=a+b/c@host.example"},
	} {
		m, err := ParseMailbox([]byte(tt.value))
		if err != nil || m.Name != tt.name || m.Address.String() != tt.address {
			t.Errorf("%s: %q gives %q %q, %v", tt.story, tt.value, m.Name, m.Address, err)
		}
	}
}

func TestWhatIsNotOneMailbox(t *testing.T) {
	list, syntax, eightBit := ErrNotOneMailbox, ErrAddressSyntax, ErrNotASCII
	for _, tt := range []struct {
		story, value string
		want         error
	}{
		{"two", "<a@b.example>, <c@d.example>", list},
		{"two bare", "a@b.example,c@d.example", list},
		{"a bare one and one in brackets (A18)", "admin@legitimate.com,<second@attack.com>", list},
		{"an encoded address and another (A15)", "=?utf-8?B?PGFkbWluQGxlZ2l0aW1hdGUuY29tPg==?=,<second@attack.com>", list},
		{"an empty element", ",<a@b.example>", list},
		{"a comma at the end", "<a@b.example>,", list},
		{"a group", "g:a@t.example;", list},
		{"an empty group", "undisclosed:;", list},
		{"a comma in a name without quotes", "Person, A. <a@b.example>", list},

		{"nothing", "", syntax},
		{"space", " ", syntax},
		{"a comment", "(a@b.example)", syntax},
		{"a name", "A Person", syntax},
		{"an encoded address (A29)", "=?utf-8?B?PGFkbWluQGxlZ2l0aW1hdGUuY29tPg==?=", syntax},
		{"an encoded-word for a local part", "=?utf-8?Q?admin?=@legitimate.com", syntax},
		{"the same in brackets", "<=?utf-8?Q?admin?=@legitimate.com>", syntax},
		{"the same in quotes", `<"=?utf-8?Q?admin?="@legitimate.com>`, syntax},
		{"an encoded-word for a domain", "<a@=?utf-8?Q?legitimate.com?=>", syntax},
		{"a source route (A16)", "<@attack.com,@any.com:admin@legitimate.com>", syntax},
		{"a short source route", "<@x.example:a@t.example>", syntax},
		{"a quoted pair (A17)", `<admin@legitimate.com>\,<second@attack.com>`, syntax},
		{"an address behind the brackets (A19)", "<any@attack.com>admin@legitimate.com", syntax},
		{"an address before the brackets", "admin@legitimate.com <any@attack.com>", syntax},
		{"the same without space", "admin@legitimate.com<any@attack.com>", syntax},
		{"a name with an at sign", "ceo @ legitimate.com <any@attack.com>", syntax},
		{"two in brackets", "<a@b.example> <c@d.example>", syntax},
		{"brackets in brackets", "<<a@b.example>>", syntax},
		{"brackets behind brackets", "<a@b.example>>", syntax},
		{"no closing bracket", "<a@b.example", syntax},
		{"the null address", "<>", syntax},
		{"a semicolon", "a@b.example;", syntax},
		{"space in the brackets", "< a@b.example >", syntax},
		{"space before the at sign", "a @b.example", syntax},
		{"space behind the at sign", "a@ b.example", syntax},
		{"space around a dot", "a@b . example", syntax},
		{"folding in the address", "<a@\r\n b.example>", syntax},
		{"a comment in the address", "a(x)@b.example", syntax},
		{"a comment in the domain", "<a@(x)b.example>", syntax},
		{"a comment in the brackets", "<(x)a@b.example>", syntax},
		{"an address in a comment", "a@b.example (c@d.example)", syntax},
		{"a bracket in a comment", "a@b.example (<c)", syntax},
		{"a comma in a comment", "a@b.example (c, d)", syntax},
		{"a quote in a comment", `a@b.example ("c")`, syntax},
		{"a backslash in a comment", `a@b.example (c\))`, syntax},
		{"a comment that does not end", "a@b.example (c", syntax},
		{"a comment too many ends", "a@b.example (c))", syntax},
		{"comments in comments in comments", "a@b.example " + strings.Repeat("(", 9) + strings.Repeat(")", 9), syntax},
		{"a million comments", "a@b.example " + strings.Repeat("(", 1<<20), syntax},
		{"a quote that does not end", `"A <a@b.example>`, syntax},
		{"an escaped quote and an address", `"A\" <evil@x.example>, \"" <a@b.example>`, syntax},
		{"a quoted local part with an at sign", `<"admin@legitimate.com"@attack.com>`, syntax},
		{"a quoted local part with a bracket", `<"admin@legitimate.com> "@attack.com>`, syntax},
		{"an obsolete local part", `<"a".b@c.example>`, syntax},
		{"a trailing dot", "<a@t.example.>", syntax},
		{"an address literal", "<a@[192.0.2.1]>", syntax},
		{"NUL", "<a\x00@b.example>", syntax},
		{"NUL in the name", "\"A\x00\" <a@b.example>", syntax},
		{"ESC in the name", "A\x1b[31m <a@b.example>", syntax},
		{"bare CR", "A\r <a@b.example>", syntax},
		{"bare LF", "A\n <a@b.example>", syntax},
		{"a line that is no folding", "A\r\n<a@b.example>", syntax},
		{"a line end at the end", "<a@b.example>\r\n", syntax},
		{"8 bits in the name", "Gr\xfc\xdfe <a@b.example>", eightBit},
		{"8 bits in a comment", "a@b.example (Gr\xfc\xdfe)", eightBit},
		{"8 bits in the local part", "<gr\xfc\xdfe@b.example>", eightBit},
		{"a U-label", "<a@bücher.example>", eightBit},
	} {
		m, err := ParseMailbox([]byte(tt.value))
		if !errors.Is(err, tt.want) || errors.Is(err, list) != (tt.want == list) || m != (Mailbox{}) {
			t.Errorf("%s: %.60q gives %v, %v; want %v", tt.story, tt.value, m, err, tt.want)
		}
	}
}

func TestMailboxesOutsideASCII(t *testing.T) {
	m, err := ParseMailboxUTF8([]byte("Grüße an \"Jürgen\" <jürgen@bücher.example> (für)"))
	if err != nil || m.Name != "Grüße an Jürgen" || m.Address.String() != "jürgen@xn--bcher-kva.example" {
		t.Errorf("%v, %v", m, err)
	}
	for _, bad := range []string{"Gr\xfc <a@b.example>", "a\u0085b <a@b.example>", "\"a\u2028b\" <a@b.example>"} {
		if m, err := ParseMailboxUTF8([]byte(bad)); !errors.Is(err, ErrAddressSyntax) {
			t.Errorf("%q gives %v, %v", bad, m, err)
		}
	}
}

func TestOriginators(t *testing.T) {
	const from = "From: A <a@t.example>\r\n"
	for _, tt := range []struct {
		story, header string
		want          []string // the addresses claimed
		refusal       *Refusal
	}{
		{"From alone, no Date", from, []string{"a@t.example"}, nil},
		{"all of them", from + "Sender: b@t.example\r\nReply-To: any thing, at all\r\nDate: now\r\nTo: x, y\r\n",
			[]string{"a@t.example", "b@t.example"}, nil},
		{"case of names does not matter", "fRoM: a@t.example\r\nSENDER: b@t.example\r\n", []string{"a@t.example", "b@t.example"}, nil},
		{"sent again, twice", "Resent-From: c@t.example, D <d@u.example>\r\nRESENT-FROM: e@t.example\r\nResent-Sender: f@t.example\r\nResent-Sender: g@t.example\r\n" + from,
			[]string{"a@t.example", "c@t.example", "d@u.example", "e@t.example", "f@t.example", "g@t.example"}, nil},
		{"a folded From", "From:\r\n A\r\n <a@t.example>\r\n", []string{"a@t.example"}, nil},
		{"names that only look like From", from + "X-From: b@u.example\r\nFrom-: b@u.example\r\nFro: c@u.example\r\n", []string{"a@t.example"}, nil},
		{"many trace fields", strings.Repeat("Received: x\r\n", 40) + from, []string{"a@t.example"}, nil},

		{"no From", "To: a@t.example\r\n", nil, FromNotSingle},
		{"nothing", "", nil, FromNotSingle},
		{"only Resent-From (A30)", "Resent-From: a@t.example\r\n", nil, FromNotSingle},
		{"two From", from + from, nil, FromNotSingle},
		{"two From in other case", from + "FROM: b@u.example\r\n", nil, FromNotSingle},
		{"two mailboxes", "From: a@t.example, b@t.example\r\n", nil, FromNotSingle},
		{"a group", "From: g:a@t.example;\r\n", nil, FromNotSingle},
		{"an empty From", "From: \r\n", nil, FromSyntax},
		{"a From of 8 bits", "From: Gr\xfc\xdfe <a@t.example>\r\n", nil, HeaderNeedsUTF8},
		{"two Sender", from + "Sender: a@t.example\r\nSender: b@t.example\r\n", nil, DuplicateField},
		{"two Date", from + "Date: x\r\nDate: x\r\n", nil, DuplicateField},
		{"two To", from + "To: x\r\nto: y\r\n", nil, DuplicateField},
		{"two Cc", from + "Cc: x\r\ncC: y\r\n", nil, DuplicateField},
		{"two Subject", from + "Subject: x\r\nSubject: y\r\n", nil, DuplicateField},
		{"two Message-ID", from + "Message-ID: x\r\nMessage-Id: y\r\n", nil, DuplicateField},
		{"two Bcc", from + "Bcc: x\r\nbcc: y\r\n", nil, DuplicateField},
		{"two In-Reply-To", from + "In-Reply-To: <x@y>\r\nIn-reply-to: <x@y>\r\n", nil, DuplicateField},
		{"two References", from + "References: <x@y>\r\nREFERENCES: <x@y>\r\n", nil, DuplicateField},
		{"two MIME-Version", from + "MIME-Version: 1.0\r\nMime-Version: 1.0\r\n", nil, DuplicateField},
		{"two Content-Type", from + "Content-Type: text/plain\r\nContent-type: text/html\r\n", nil, DuplicateField},
		{"two Content-Transfer-Encoding", from + "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n", nil, DuplicateField},
		{"two Reply-To", from + "Reply-To: x\r\nReply-to: y\r\n", nil, DuplicateField},
		{"a list for a Sender", from + "Sender: a@t.example, b@u.example\r\n", nil, OriginatorSyntax},
		{"an empty Sender", from + "Sender:\r\n", nil, OriginatorSyntax},
		{"a Resent-From that ends in a comma", from + "Resent-From: a@t.example,\r\n", nil, OriginatorSyntax},
		{"a Resent-From with an empty element", from + "Resent-From: a@t.example,,b@t.example\r\n", nil, OriginatorSyntax},
		{"a group in Resent-From", from + "Resent-From: g:a@t.example;\r\n", nil, OriginatorSyntax},
		{"two addresses without a comma", from + "Resent-From: a@t.example b@u.example\r\n", nil, OriginatorSyntax},
		{"a list for a Resent-Sender", from + "Resent-Sender: a@t.example,b@u.example\r\n", nil, OriginatorSyntax},
	} {
		o, refusal := readOriginators([]byte(tt.header + "\r\nbody\r\n"))
		if tt.refusal != nil {
			if refusal == nil || refusal.Text() != tt.refusal.Text() || refusal.Detail() == "" {
				t.Errorf("%s: %v, want %v", tt.story, refusal, tt.refusal)
			}
			continue
		}
		if refusal != nil {
			t.Errorf("%s: %v", tt.story, refusal)
		} else if d := cmp.Diff(tt.want, claims(o)); d != "" {
			t.Errorf("%s: %s", tt.story, d)
		}
	}
}

// TestNameOfARepeatedFieldIsInTheLog: the operator learns which one it was.
func TestNameOfARepeatedFieldIsInTheLog(t *testing.T) {
	_, refusal := readOriginators([]byte("From: a@t.example\r\nsubject: x\r\nSubject: y\r\n\r\n"))
	if !strings.Contains(refusal.Detail(), "Subject") {
		t.Errorf("%v", refusal)
	}
}

func FuzzParseMailbox(f *testing.F) {
	for _, s := range []string{
		"A. Person <user@host.example>", "user@host.example (A (B) C)", `"A \"B\"" <"a b"@h.example>`, "<@a,@b:c@d>", "a@b,<c@d>",
		"g:a@t;", "=?utf-8?B?PGE=?=@x", "A\r\n B\r\n <a@b> (c\r\n d)", `<"a@b> "@c>`, "Grüße <ü@ü.example>", `(a) "b" <c@d.example> (e)`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		m, err := ParseMailboxUTF8(value)
		ascii, errASCII := ParseMailbox(value)
		if isASCII(string(value)) && (m != ascii || (err == nil) != (errASCII == nil)) || !isASCII(string(value)) && errASCII == nil {
			t.Fatalf("%q: %v %v with UTF-8, %v %v without", value, m, err, ascii, errASCII)
		}
		if err != nil {
			return
		}
		checkAddress(t, string(value), m.Address, ParseAddressUTF8)
		for _, form := range []string{m.Address.String(), "<" + m.Address.String() + ">", "(c) x \"y\" <" + m.Address.String() + "> (z)"} {
			if again, err := ParseMailboxUTF8([]byte(form)); err != nil || again.Address != m.Address {
				t.Errorf("%q: %q is %v, %v", value, form, again, err)
			}
		}
		if s := string(value); !strings.Contains(m.Address.Local(), " ") && !strings.ContainsAny(s, "\r\n") && !strings.Contains(s, `\ `) {
			folded := strings.ReplaceAll(s, " ", "\r\n ")
			if again, err := ParseMailboxUTF8([]byte(folded)); err != nil || again != m {
				t.Errorf("%q folded is %v, %v", value, again, err)
			}
		}
		agreesWithAnother(t, string(value), m)
	})
}

// agreesWithAnother: where another parser reads the value too, it reads the same
// address.
func agreesWithAnother(t *testing.T, value string, m Mailbox) {
	other, err := netmail.ParseAddress(value)
	if err != nil || !isASCII(value) {
		return
	}
	at := strings.LastIndexByte(other.Address, '@')
	if other.Address[:at] != m.Address.Local() || must(ParseDomain(other.Address[at+1:])) != m.Address.Domain() {
		t.Errorf("%q is %v here and %q elsewhere", value, m.Address, other.Address)
	}
}
