package bounce

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/mail"
)

var (
	returning = NewReturns([]byte("0123456789abcdef0123456789abcdef"))
	sentAt    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	sentID    = mail.NewID(sentAt)
)

func domainOf(t testing.TB, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// returnTo is the return address of acme's message to some recipients.
func returnTo(t testing.TB, recipients ...mail.Recipient) mail.Address {
	t.Helper()
	a, err := returning.Address("acme", sentID, recipients, domainOf(t, "bounces.acme.example"), sentAt)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func to(t testing.TB, s string, n mail.Notify) mail.Recipient {
	return mail.Recipient{Address: address(t, s), Notify: n}
}

func TestAReturnAddressSaysWhichMessageAndRecipient(t *testing.T) {
	a := returnTo(t, to(t, "Bob@globex.example", mail.NotifySuccess|mail.NotifyFailure))
	if len(a.Local()) > mail.MaxLocalPart || strings.ToLower(a.Local()) != a.Local() {
		t.Errorf("local part %q", a.Local())
	}
	for _, local := range []string{a.Local(), strings.ToUpper(a.Local())} {
		back, err := returning.Open("acme", local, sentAt.Add(ReturnDays*24*time.Hour))
		if err != nil || back.Message != sentID || back.Notify != mail.NotifySuccess|mail.NotifyFailure || back.Sent.After(sentAt) {
			t.Errorf("%+v, %v", back, err)
		}
		if !returning.Concerns(back, "bob@GLOBEX.example") || returning.Concerns(back, "carol@globex.example") {
			t.Error("it is about another recipient")
		}
	}
}

func TestAReturnAddressOfSeveralIsAboutAnyOfThem(t *testing.T) {
	a := returnTo(t, to(t, "bob@globex.example", mail.NotifyNever), to(t, "carol@globex.example", 0))
	back, err := returning.Open("acme", a.Local(), sentAt)
	if err != nil || back.Notify != mail.NotifyFailure || !returning.Concerns(back, "bob@globex.example") || !returning.Concerns(back, "carol@globex.example") {
		t.Errorf("%+v, %v", back, err)
	}
	a = returnTo(t, to(t, "bob@globex.example", mail.NotifyNever), to(t, "carol@globex.example", mail.NotifyNever))
	if back, err := returning.Open("acme", a.Local(), sentAt); err != nil || back.Notify.OnFailure() {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestOnlyTheAddressThatWasMadeIsOurs(t *testing.T) {
	local := returnTo(t, to(t, "bob@globex.example", 0)).Local()
	refused := func(name, org, local string, now time.Time) {
		t.Helper()
		if back, err := returning.Open(org, local, now); !errors.Is(err, ErrNotOurs) {
			t.Errorf("%s: %+v, %v", name, back, err)
		}
	}
	refused("another organisation", "globex", local, sentAt)
	refused("too old", "acme", local, sentAt.Add((ReturnDays+2)*24*time.Hour))
	refused("of tomorrow and more", "acme", local, sentAt.Add(-48*time.Hour))
	refused("no prefix", "acme", strings.TrimPrefix(local, returnPrefix), sentAt)
	refused("nothing", "acme", "", sentAt)
	refused("the prefix alone", "acme", returnPrefix, sentAt)
	refused("cut", "acme", local[:len(local)-1], sentAt)
	refused("longer", "acme", local+"2", sentAt)
	if _, err := NewReturns([]byte("another secret of the relay 0000")).Open("acme", local, sentAt); !errors.Is(err, ErrNotOurs) {
		t.Error("another relay's key opens it")
	}
	for i := len(returnPrefix); i < len(local); i++ {
		c := byte('2')
		if local[i] == c {
			c = '3'
		}
		refused("one character changed", "acme", local[:i]+string(c)+local[i+1:], sentAt)
	}
}

func TestEveryReturnAddressOpens(t *testing.T) {
	at := domainOf(t, "bounces.acme.example")
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(rapid.Int64Range(0, 5_000_000_000).Draw(t, "now"), 0)
		id := mail.NewID(now)
		rcpt, err := mail.ParseAddress(rapid.StringMatching(`[a-z0-9]{1,64}@[a-z]{1,20}\.example`).Draw(t, "to"))
		if err != nil {
			t.Fatal(err)
		}
		notify := rapid.SampledFrom([]mail.Notify{0, mail.NotifyNever, mail.NotifyFailure, mail.NotifySuccess, mail.NotifyDelay | mail.NotifyFailure}).Draw(t, "notify")
		a, err := returning.Address("acme", id, []mail.Recipient{{Address: rcpt, Notify: notify}}, at, now)
		if err != nil {
			t.Fatal(err)
		}
		back, err := returning.Open("acme", a.Local(), now.Add(time.Duration(rapid.Int64Range(0, ReturnDays*24).Draw(t, "hours"))*time.Hour))
		if err != nil || back.Message != id || back.Notify.OnFailure() != notify.OnFailure() || !returning.Concerns(back, rcpt.String()) {
			t.Fatalf("%+v, %v", back, err)
		}
	})
}

// FuzzOpen lets anybody write a local part: nothing that was not made here opens.
func FuzzOpen(f *testing.F) {
	f.Add("b+")
	f.Add(returnTo(f, to(f, "bob@globex.example", 0)).Local())
	f.Fuzz(func(t *testing.T, local string) {
		if back, err := NewReturns([]byte("a key that no seed knows")).Open("acme", local, sentAt); err == nil {
			t.Fatalf("%q opens: %+v", local, back)
		}
	})
}
