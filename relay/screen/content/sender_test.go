package content

import (
	"fmt"
	"strings"
	"testing"

	"anechoic/mail"
)

func TestSendersAreJudged(t *testing.T) {
	rules := Rules{Own: domains(t, "acme.example", "acme-group.example"), Protected: Protect(domains(t, "acme.example", "acme-group.example", "t2.example")), People: NewPeople([]string{"Ada Lovelace", "Bo"})}
	for _, c := range []struct{ behaviour, header, want string }{
		{"a plain name", `From: "Shop" <a@shop.example>`, ""},
		{"the own address as the name", `From: "a@shop.example" <a@shop.example>`, ""},
		{"the own organisation's address as the name", `From: "a@mail.shop.example" <a@shop.example>`, ""},
		{"another's address as the name", `From: "ceo@bank.example" <x@evil.example>`, "name-is-address:suspicious"},
		{"a protected address as the name", `From: "ceo@t2.example" <x@evil.example>`, "name-is-address:dangerous"},
		{"a protected address in an encoded-word", `From: =?utf-8?b?Y2VvQHQyLmV4YW1wbGU=?= <x@evil.example>`, "name-is-address:dangerous"},
		{"a wide at sign", `From: =?utf-8?b?Y2Vv77ygdDIuZXhhbXBsZQ==?= <x@evil.example>`, "name-is-address:dangerous"},
		{"an address in angle brackets", `From: "CEO <ceo@t2.example>" <x@evil.example>`, "name-is-address:dangerous"},
		{"a person of the organisation", `From: "Lovelace, Ada" <a@acme.example>`, ""},
		{"a person outside", `From: "Lovelace, Ada" <a@evil.example>`, "name-is-protected:suspicious"},
		{"a person with other letters", `From: =?utf-8?q?=D0=90da_Lovela=D1=81e?= <a@evil.example>`, "name-is-protected:suspicious"},
		{"a person with a word behind", `From: "Ada Lovelace (Acme)" <a@evil.example>`, "name-is-protected:suspicious"},
		{"a name that many people have", `From: Bo <a@evil.example>`, ""},
		{"a look-alike", `From: a@acrne.example`, "sender-look-alike:dangerous"},
		{"a sub-domain that looks so", `From: a@acme.example.evil.com`, "sender-look-alike:dangerous"},
		{"mixed letters", "From: a@xn--pple-43d.example", "sender-letters:suspicious"},
		{"letters of another script that all look Latin", "From: a@xn--80ak6aa92e.com", "sender-letters:suspicious"},
		{"a name of another script", "From: a@xn--80adxhks.com", ""},
		{"a foreign Reply-To", "From: a@shop.example\nReply-To: b@helpdesk.example", ""},
		{"a Reply-To that looks like From", "From: a@modem.example\nReply-To: \"x, y\" <b@b.example>, b@rnodern.example", "reply-look-alike:suspicious"},
		{"a Reply-To that looks like a protected domain", "From: a@shop.example\nReply-To: b@acrne.example", "reply-look-alike:suspicious"},
		{"two From fields", "From: a@shop.example\nFrom: \"ceo@t2.example\" <b@shop.example>", ""},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			findings := Judge(read(t, c.header+"\n\nhello"), rules)
			if got := codes(findings); got != c.want {
				t.Errorf("findings %q, want %q\n%+v", got, c.want, findings)
			}
		})
	}
}

func TestInvitationsAreJudged(t *testing.T) {
	rules := Rules{Own: domains(t, "acme.example", "acme-group.example"), Protected: Protect(domains(t, "acme.example"))}
	for _, c := range []struct{ behaviour, from, calendar, want string }{
		{"one's own meeting", "a@shop.example", "METHOD:REQUEST\nORGANIZER;CN=A:mailto:a@shop.example\nATTENDEE:mailto:x@acme.example", ""},
		{"a server of the organisation", "a@mail.shop.example", "METHOD:REQUEST\nORGANIZER:MAILTO:a@shop.example", ""},
		{"somebody else's", "a@evil.example", "METHOD:REQUEST\nORGANIZER:mailto:a@shop.example", "invite-other:suspicious"},
		{"somebody else's, folded", "a@evil.example", "METHOD:REQ\n UEST\nORGANIZER;CN=\"x:y;z\":mail\n to:a@shop.exa\n\tmple", "invite-other:suspicious"},
		{"a protected domain's", "a@evil.example", "METHOD:REQUEST\nORGANIZER:mailto:ceo%40acme.example", "invite-protected:dangerous"},
		{"a second meeting of a protected domain", "a@evil.example", "METHOD:PUBLISH\nORGANIZER:mailto:a@evil.example\nORGANIZER:mailto:ceo@acme.example", "invite-protected:dangerous"},
		{"sent by a delegate", "a@evil.example", "METHOD:REQUEST\nORGANIZER;SENT-BY=\"mailto:a@evil.example\":mailto:a@shop.example", "invite-other:note"},
		{"a delegate of a protected domain", "a@evil.example", "METHOD:REQUEST\nORGANIZER;SENT-BY=\"mailto:a@evil.example\":mailto:a@acme.example", "invite-protected:dangerous"},
		{"two domains of one organisation", "a@acme-group.example", "METHOD:REQUEST\nORGANIZER:mailto:a@acme.example", ""},
		{"an answer", "x@evil.example", "METHOD:REPLY\nORGANIZER:mailto:a@acme.example\nATTENDEE:mailto:x@evil.example", ""},
		{"a link in the meeting", "a@shop.example", "METHOD:REQUEST\nDESCRIPTION:come to\\nhttp://acrne.exa\n mple/\\nsoon", "link-look-alike:dangerous"},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			content := read(t, "From: "+c.from+"\nContent-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\n"+c.calendar+"\nEND:VCALENDAR\n")
			if got := codes(Judge(content, rules)); got != c.want {
				t.Errorf("findings %q, want %q\n%+v", got, c.want, content.Invites)
			}
		})
	}
}

func TestLookAlikesAreFound(t *testing.T) {
	p := Protect(domains(t, "acme.example", "microsoft.com", "mail.modern-bank.co.uk", "paypal.com", "münchen.example", "ab.example"))
	for _, c := range []struct {
		domain, like string
		trick        Trick
	}{
		{"microsoft.com", "", TrickNone},
		{"www.microsoft.com", "", TrickNone},
		{"modern-bank.co.uk", "", TrickNone},
		{"rnicrosoft.com", "microsoft.com", TrickLetters},
		{"micr0soft.com", "microsoft.com", TrickLetters},
		{"login.micr0soft.com", "microsoft.com", TrickLetters},
		{"paypa1.com", "paypal.com", TrickLetters},
		{"paypai.com", "paypal.com", TrickLetters},
		{"раураӏ.com", "paypal.com", TrickLetters},
		{"microsóft.com", "microsoft.com", TrickLetters},
		{"munchen.example", "xn--mnchen-3ya.example", TrickLetters},
		{"micro-soft.com", "microsoft.com", TrickHyphen},
		{"modernbank.co.uk", "modern-bank.co.uk", TrickHyphen},
		{"microsoft.net", "microsoft.com", TrickEnding},
		{"rnicrosoft.net", "microsoft.com", TrickEnding},
		{"modern-bank.com", "modern-bank.co.uk", TrickEnding},
		{"acme.net", "", TrickNone}, // short names are somebody's own
		{"ab.net", "", TrickNone},
		{"acme.example.evil.com", "acme.example", TrickSubdomain},
		{"login.acme.example.x.evil.com", "acme.example", TrickSubdomain},
		{"acme-example.evil.com", "acme.example", TrickSubdomain},
		{"acme-example.com", "acme.example", TrickSubdomain},
		{"modern-bank.co.uk.evil.com", "modern-bank.co.uk", TrickSubdomain},
		{"microsoft-login.com", "microsoft.com", TrickWord},
		{"my-micr0soft.org", "microsoft.com", TrickWord},
		{"shop.example", "", TrickNone},
		{"example", "", TrickNone},
	} {
		like, trick := p.LookAlike(domains(t, c.domain)[0])
		if like.String() != c.like || trick != c.trick {
			t.Errorf("%s imitates %q by %q, want %q by %q", c.domain, like, trick, c.like, c.trick)
		}
	}
	if like, trick := LookAlike(domains(t, "acrne.example")[0], domains(t, "acme.example")); like.String() != "acme.example" || trick != TrickLetters {
		t.Errorf("%s %s", like, trick)
	}
	var nobody *Protected
	if like, trick := nobody.LookAlike(domains(t, "acme.example")[0]); trick != TrickNone || !like.IsZero() {
		t.Error("a set of nobody protects", like)
	}
}

func TestThousandsOfDomainsAreProtected(t *testing.T) {
	var list []mail.Domain
	for i := range 5000 {
		list = append(list, domains(t, fmt.Sprintf("customer-%c%c%d.example", 'a'+i%26, 'a'+i/26%26, i))...)
	}
	p := Protect(list)
	for range 2000 { // looked up one by one this would take long
		if _, trick := p.LookAlike(list[0].Parent()); trick != TrickNone {
			t.Fatal(trick)
		}
	}
	if like, trick := p.LookAlike(domains(t, strings.Replace(list[77].String(), "customer", "custorner", 1))[0]); like != list[77] || trick != TrickLetters {
		t.Errorf("%s by %s, want %s", like, trick, list[77])
	}
}

func TestSkeletons(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{"paypal", "раураӏ"}, {"m", "rn"}, {"0", "O"}, {"scope", "ѕсоре"}, {"a\u200bb", "ab"}, {"ﬁ", "fi"}, {"é", "e\u0301"}, {"𝐚𝐛𝐜", "abc"},
	} {
		if Skeleton(c.a) != Skeleton(c.b) && likeness(c.a) != likeness(c.b) {
			t.Errorf("%q has the skeleton %q, %q has %q", c.a, Skeleton(c.a), c.b, Skeleton(c.b))
		}
	}
	if Skeleton("acme") == Skeleton("acne") || confusablesVersion != "15.0.0" {
		t.Error("names that differ have one skeleton, or the table is another one")
	}
}

func TestScriptsThatAreMixed(t *testing.T) {
	for name, want := range map[string]bool{
		"acme": false, "münchen-2": false, "пример": false, "аcme": true, "αcme": true, "東京tower": false, "ひらカタ漢a": false, "한국abc": false, "한국ひら": true, "пример1": false, "acme-пример": true, "ქართული": false,
	} {
		if got := MixesScripts(name); got != want {
			t.Errorf("%q mixes scripts: %v, want %v", name, got, want)
		}
	}
}

func TestFindingsAreSafeToPrintAndBounded(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "http://u%d@host%d.example/\x1b[2J\u202e%s\n", i, i, strings.Repeat("x", 500))
	}
	findings := Judge(read(t, "From: a@a.example\n\n"+b.String()), Rules{})
	if len(findings) != maxFindings {
		t.Errorf("%d findings", len(findings))
	}
	for _, f := range findings {
		if !printable(f.Text) || !printable(f.Place) || len(f.Text) > 1000 {
			t.Fatalf("%q", f.Text)
		}
	}
	seen := map[Code]bool{}
	for _, c := range Codes() {
		if seen[c] {
			t.Errorf("%s is there twice", c)
		}
		seen[c] = true
	}
}
