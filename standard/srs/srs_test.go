package srs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func address1(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddressUTF8(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func rewriter(t testing.TB, domain string) Rewriter {
	t.Helper()
	d, err := mail.ParseDomain(domain)
	if err != nil {
		t.Fatal(err)
	}
	return New([]byte("a secret of the relay"), d)
}

func TestASenderIsRewrittenAndFoundAgain(t *testing.T) {
	r := rewriter(t, "fwd.relay.example")
	for sender, form := range map[string]string{
		"ann@first.example":                        "SRS0=??????=??=first.example=ann@fwd.relay.example",
		"a=b=c@first.example":                      "SRS0=??????=??=first.example=a=b=c@fwd.relay.example",
		"Ann.Lee+x@First.Example":                  "SRS0=??????=??=first.example=Ann.Lee+x@fwd.relay.example",
		"SRS0=HHH=TT=first.example=ann@second.com": "SRS1=????????=second.com==HHH=TT=first.example=ann@fwd.relay.example",
		"srs0+HHH=TT=a.example=ann@second.com":     "SRS1=????????=second.com=+HHH=TT=a.example=ann@fwd.relay.example",
		"SRS0-HHH=TT=a.example=ann@second.com":     "SRS1=????????=second.com=-HHH=TT=a.example=ann@fwd.relay.example",
		"SRS1=KKK=second.com==H=T=a.ex=ann@third":  "SRS1=????????=second.com==H=T=a.ex=ann@fwd.relay.example",
		"SRS1=KKK=no domain@third.com":             "",
		"SRS1=nothing@third.com":                   "SRS0=??????=??=third.com=SRS1=nothing@fwd.relay.example",
		"SRS@third.com":                            "SRS0=??????=??=third.com=SRS@fwd.relay.example",
		`"a b"@first.example`:                      `"SRS0=??????=??=first.example=a b"@fwd.relay.example`,
		`"a@b\"c"@first.example`:                   `"SRS0=??????=??=first.example=a@b\"c"@fwd.relay.example`,
		"jürg@first.example":                       "SRS0=??????=??=first.example=jürg@fwd.relay.example",
	} {
		if form == "" {
			continue
		}
		a := address1(t, sender)
		got, err := r.Forward(a, noon)
		if err != nil || !matches(got.String(), form) {
			t.Errorf("%s becomes %s %v, want %s", sender, got, err, form)
			continue
		}
		back := a
		if at, rest, ok := chained(a); ok {
			back = address1(t, "SRS0"+rest+"@"+at.String())
		}
		for _, local := range []string{got.Local(), strings.ToLower(got.Local()), strings.ToUpper(got.Local())} {
			if opened, err := r.Reverse(local, noon.Add(20*24*time.Hour)); err != nil || !strings.EqualFold(opened.String(), back.String()) {
				t.Errorf("%s leads to %s %v, not %s", local, opened, err, back)
			}
		}
		if again, err := r.Forward(got, noon); err != nil || again != got {
			t.Errorf("forwarded again, %s becomes %s %v", got, again, err)
		}
	}
}

// matches compares where a question mark stands for any character.
func matches(s, form string) bool {
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		if form[i] != '?' && s[i] != form[i] {
			return false
		}
	}
	return true
}

func TestWhatCannotBeRewritten(t *testing.T) {
	r := rewriter(t, "fwd.relay.example")
	long := strings.Repeat("a", 64-len("SRS0=hhhhhh=tt=first.example="))
	if a, err := r.Forward(address1(t, long+"@first.example"), noon); err != nil || len(a.Local()) != mail.MaxLocalPart {
		t.Errorf("the longest: %s %v", a, err)
	}
	_, err := r.Forward(address1(t, long+"b@first.example"), noon)
	if !errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(), "65 octets") {
		t.Errorf("one more: %v", err)
	}
	if _, err := r.Forward(mail.Address{}, noon); !errors.Is(err, ErrNullSender) {
		t.Errorf("the null sender: %v", err)
	}
	if _, err := r.Forward(address1(t, "ann@fwd.relay.example"), noon); !errors.Is(err, ErrForm) {
		t.Errorf("an address at the forwarding domain that is none of ours: %v", err)
	}
	if _, err := (Rewriter{}).Forward(address1(t, "ann@first.example"), noon); err == nil {
		t.Error("without a domain")
	}
}

func TestForgedAddressesAreNotOpened(t *testing.T) {
	r := rewriter(t, "fwd.relay.example")
	made, err := r.Forward(address1(t, "ann@first.example"), noon)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := r.Forward(address1(t, "SRS0=HHH=TT=first.example=ann@second.example"), noon)
	if err != nil {
		t.Fatal(err)
	}
	hash, chainHash := made.Local()[5:11], chain.Local()[5:13]
	for name, local := range map[string]string{
		"no hash":                      "SRS0==" + made.Local()[12:],
		"another hash":                 "SRS0=aaaaaa=" + made.Local()[12:],
		"half a hash":                  "SRS0=" + hash[:3] + "=" + made.Local()[12:],
		"another local part":           strings.Replace(made.Local(), "=ann", "=bob", 1),
		"another domain":               strings.Replace(made.Local(), "first.", "other.", 1),
		"another day":                  made.Local()[:12] + "77" + made.Local()[14:],
		"the border moved":             strings.Replace(made.Local(), "first.example=ann", "first.example=an=n", 1),
		"an SRS1 out of an SRS0":       "SRS1=" + hash + "aa=first.example==x",
		"a chain to another domain":    strings.Replace(chain.Local(), "second.example", "victim.example", 1),
		"a chain with another address": strings.Replace(chain.Local(), "=ann", "=bob", 1),
		"a chain with another day":     "SRS1=" + chainHash[:6] + "77" + chain.Local()[13:],
		"a forged chain":               "SRS1=aaaaaaaa=victim.example==HHH=TT=other.example=ann",
		"a chain without its rest":     "SRS1=" + chainHash + "=second.example=",
		"nothing":                      "",
		"a tag alone":                  "SRS0",
		"a tag and a separator":        "SRS0=",
		"a name":                       "postmaster",
		"too long":                     made.Local() + strings.Repeat("x", 64),
	} {
		if a, err := r.Reverse(local, noon); err == nil {
			t.Errorf("%s: %s leads to %s", name, local, a)
		}
	}
	if _, err := rewriter(t, "fwd.other.example").Reverse(made.Local(), noon); !errors.Is(err, ErrForged) {
		t.Errorf("at another domain of ours: %v", err)
	}
	if _, err := New([]byte("another secret"), r.Domain()).Reverse(made.Local(), noon); !errors.Is(err, ErrForged) {
		t.Errorf("at another relay: %v", err)
	}
}

func TestAddressesExpire(t *testing.T) {
	r := rewriter(t, "fwd.relay.example")
	day := 24 * time.Hour
	for _, sender := range []string{"ann@first.example", "SRS0=HHH=TT=first.example=ann@second.example"} {
		for _, start := range []time.Time{noon, time.Unix(0, 0).Add(1023 * day), time.Unix(0, 0).Add(1024*20*day - time.Second)} {
			made, err := r.Forward(address1(t, sender), start)
			if err != nil {
				t.Fatal(err)
			}
			for after, want := range map[time.Duration]error{
				-2 * day: ErrExpired, -day: nil, 0: nil, day: nil, 21 * day: nil, 22 * day: ErrExpired, 300 * day: ErrExpired, 1000 * day: ErrExpired,
			} {
				if _, err := r.Reverse(made.Local(), start.Add(after)); !errors.Is(err, want) {
					t.Errorf("%s, %s after: %v, want %v", made, after, err, want)
				}
			}
		}
	}
}

// Whatever is forwarded: what Forward makes can be sent to, leads back, and stops
// doing so if a letter is exchanged.
func FuzzForward(f *testing.F) {
	for _, s := range []string{"ann@first.example", "SRS0=H=T=first.example=ann@second.example", "SRS1=H=second.example==H=T=first.example=ann@third.example", `"a b\"@"@x.example`, "=@x.example", "jürg@bücher.example"} {
		f.Add(s, uint8(7))
	}
	f.Fuzz(func(t *testing.T, sender string, at uint8) {
		a, err := mail.ParseAddressUTF8(sender)
		if err != nil {
			return
		}
		r := rewriter(t, "fwd.example")
		made, err := r.Forward(a, noon)
		if err != nil {
			return
		}
		if made.Domain() != r.Domain() || len(made.Local()) > mail.MaxLocalPart {
			t.Fatalf("%s becomes %s", a, made)
		}
		back, err := r.Reverse(made.Local(), noon)
		if err != nil {
			t.Fatalf("%s becomes %s, which is not opened: %v", a, made, err)
		}
		if _, _, further := chained(a); !further && a.Domain() != r.Domain() && back != a {
			t.Fatalf("%s becomes %s, which leads to %s", a, made, back)
		}
		i := int(at) % len(made.Local())
		other := byte('q')
		if c := made.Local()[i]; c == 'q' || c == 'Q' {
			other = 'x'
		}
		if forged, err := r.Reverse(made.Local()[:i]+string(other)+made.Local()[i+1:], noon); err == nil {
			t.Fatalf("%s with %q at %d leads to %s", made, other, i, forged)
		}
	})
}

// Whatever comes to the forwarding domain: nothing is opened that was not made.
func FuzzReverse(f *testing.F) {
	r := rewriter(f, "fwd.example")
	for _, s := range []string{"SRS0=aaaaaa=bb=x.example=ann", "SRS1=aaaaaabb=x.example==h=t=y.example=ann", "srs0+a=b=c=d", "SRS1-", "SRS0=\x00=\xff=a=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, local string) {
		if a, err := r.Reverse(local, noon); err == nil {
			t.Fatalf("%q leads to %s", local, a)
		}
	})
}
