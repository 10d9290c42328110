package signing

import (
	"context"
	"crypto"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

const body = "Good morning,\r\n\r\nall is well.\r\n"

// sign signs a message from acme at a time.
func (b *bench) sign(t testing.TB, w custody.Proven, now time.Time) ([]mail.Field, *mail.Refusal) {
	t.Helper()
	header, hashes := message(t, "billing@acme.test", body)
	return b.Sign(context.Background(), w, b.dir, header, hashes, now)
}

// selectors verifies every field as a receiver and names the selectors.
func (b *bench) selectors(t testing.TB, fields []mail.Field, now time.Time) []string {
	t.Helper()
	header, _ := message(t, "billing@acme.test", body)
	signed := header.Prepend(fields...)
	var names []string
	for _, r := range dkim.Verify(context.Background(), b.zone, signed, bodyHashes(t, signed, body), now) {
		if r.Status != dkim.Pass {
			t.Errorf("selector %s: %v, %v", r.Selector, r.Status, r.Err)
		}
		if r.Domain != domain("acme.test") {
			t.Errorf("signed for %s", r.Domain)
		}
		names = append(names, r.Selector)
	}
	return names
}

func TestEveryPublishedKeySignsOnce(t *testing.T) {
	for name, test := range map[string]struct {
		published []KeyRef
		want      []string
	}{
		"both":         {[]KeyRef{acmeRSA, acmeEd}, []string{"an1", "an1e"}},
		"rsa only":     {[]KeyRef{acmeRSA}, []string{"an1"}},
		"ed25519 only": {[]KeyRef{acmeEd}, []string{"an1e"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.publish(t, test.published...)
			fields, refusal := b.sign(t, proven(t, "acme", "acme.test"), noon)
			if refusal != nil {
				t.Fatal(refusal)
			}
			if got := b.selectors(t, fields, noon); !reflect.DeepEqual(got, test.want) {
				t.Errorf("signed by %q, want %q", got, test.want)
			}
		})
	}
}

func TestSignatureEndsAfterSixDaysAndHasNoLength(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA, acmeEd)
	fields, refusal := b.sign(t, proven(t, "acme", "acme.test"), noon)
	if refusal != nil {
		t.Fatal(refusal)
	}
	for _, f := range fields {
		tags, err := dkim.ParseTags(f.RawValue())
		if err != nil {
			t.Fatal(err)
		}
		signed, _ := tags.Get("t")
		expires, _ := tags.Get("x")
		_, length := tags.Get("l")
		if signed != "1795348800" || expires != "1795867200" || length {
			t.Errorf("t=%s x=%s l=%v", signed, expires, length)
		}
	}
}

func TestNoPublishedKeyPutsTheMessageOff(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA)
	right := dkim.RecordValue(public(t, b.keys, acmeRSA))
	wrong := dkim.RecordValue(public(t, b.keys, globexKey))
	for name, test := range map[string]struct {
		an1, an1e string // TXT; empty: no such name
		says      []string
	}{
		"absent":             {"", "", []string{"an1._domainkey.acme.test TXT: the name does not exist", "an1e._domainkey.acme.test", "key show"}},
		"exchanged":          {wrong, right, []string{"type ed25519", "type rsa"}},
		"another key":        {"", wrong, []string{"another key"}},
		"revoked":            {"v=DKIM1; p=", "v=DKIM1; k=ed25519; p=", []string{"revoked"}},
		"something unusable": {"v=spf1 -all", "", []string{"not a usable key record"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bench{Signer: &Signer{Keys: b.keys, Resolver: b.zone}, keys: b.keys, zone: b.zone, dir: b.dir}
			for ref, txt := range map[KeyRef]string{acmeRSA: test.an1, acmeEd: test.an1e} {
				b.zone.Remove(ref.RecordName())
				if txt != "" {
					b.zone.SetTXT(ref.RecordName(), txt)
				}
			}
			fields, refusal := b.sign(t, proven(t, "acme", "acme.test"), noon)
			if fields != nil || refusal.Reason() != mail.ReasonKeyNotPublished || refusal.Code() != 451 {
				t.Fatalf("got %d fields and %v", len(fields), refusal)
			}
			for _, want := range test.says {
				if !strings.Contains(refusal.Detail(), want) {
					t.Errorf("detail %q does not say %q", refusal.Detail(), want)
				}
			}
		})
	}
}

func TestDomainWithoutKeysIsNotSentUnsigned(t *testing.T) {
	b := newBench(t)
	fields, refusal := b.sign(t, proven(t, "initech", "initech.test"), noon)
	if fields != nil || refusal.Reason() != mail.ReasonKeyNotPublished {
		t.Errorf("got %d fields and %v", len(fields), refusal)
	}
}

func TestFailingDNSIsUncertain(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA)
	b.zone.SetFault(acmeRSA.RecordName(), true)
	fields, refusal := b.sign(t, proven(t, "acme", "acme.test"), noon) // an1 unknown, an1e absent
	if fields != nil || refusal.Reason() != mail.ReasonLookupFailed || refusal.Code() != 451 {
		t.Errorf("got %d fields and %v", len(fields), refusal)
	}
}

func TestKeyPublishedBeforeDNSFailedSignsForADay(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA)
	w := proven(t, "acme", "acme.test")
	if _, refusal := b.sign(t, w, noon); refusal != nil {
		t.Fatal(refusal)
	}
	b.zone.SetFault(acmeRSA.RecordName(), true)
	for after, want := range map[time.Duration]mail.Reason{
		3 * time.Hour:  "",
		23 * time.Hour: "",
		24 * time.Hour: mail.ReasonLookupFailed,
	} {
		got := mail.Reason("")
		one := &bench{Signer: &Signer{Keys: b.keys, Resolver: b.zone}, keys: b.keys, zone: b.zone, dir: b.dir}
		one.publications.entry(acmeRSA).public = public(t, b.keys, acmeRSA)
		one.publications.entry(acmeRSA).known = Publication{State: Published, Seen: noon, Asked: noon}
		if _, refusal := one.sign(t, w, noon.Add(after)); refusal != nil {
			got = refusal.Reason()
		}
		if got != want {
			t.Errorf("after %v: %q, want %q", after, got, want)
		}
	}
}

func TestRecordTakenAwayStopsTheSigning(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA)
	w := proven(t, "acme", "acme.test")
	if _, refusal := b.sign(t, w, noon); refusal != nil {
		t.Fatal(refusal)
	}
	b.zone.Remove(acmeRSA.RecordName())
	if _, refusal := b.sign(t, w, noon.Add(publishedFresh)); refusal.Reason() != mail.ReasonKeyNotPublished {
		t.Errorf("an hour later: %v", refusal)
	}
	b.publish(t, acmeRSA)
	if _, refusal := b.sign(t, w, noon.Add(publishedFresh+notPublishedFresh)); refusal != nil {
		t.Errorf("a minute after it is back: %v", refusal)
	}
}

func TestNothingUnprovenIsSigned(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA, acmeEd, globexKey)
	for name, w := range map[string]custody.Proven{
		"the zero warrant":               {},
		"one made by reflection":         reflect.New(reflect.TypeFor[custody.Proven]()).Elem().Interface().(custody.Proven),
		"another organisation's domain":  proven(t, "globex", "acme.test"),
		"a name below, not registered":   proven(t, "acme", "mail.acme.test"),
		"a domain nobody registered":     proven(t, "acme", "nowhere.test"),
		"an organisation that is no one": proven(t, "nobody", "acme.test"),
		"a public suffix":                proven(t, "acme", "test"),
	} {
		before := b.Faults()
		fields, refusal := b.sign(t, w, noon)
		if fields != nil || refusal == nil || refusal.Reason() != mail.ReasonSigningFailed || refusal.Code() != 451 {
			t.Errorf("%s: %d fields and %v", name, len(fields), refusal)
		}
		if b.Faults() != before+1 {
			t.Errorf("%s: not counted", name)
		}
	}
	header, hashes := message(t, "billing@acme.test", body)
	if fields, refusal := b.Sign(context.Background(), proven(t, "acme", "acme.test"), new(org.Directory), header, hashes, noon); fields != nil || refusal.Reason() != mail.ReasonSigningFailed {
		t.Errorf("the zero Directory: %d fields and %v", len(fields), refusal)
	}
}

// policy gives the registered domain that covers From; a name below it is none,
// even where the registry has subdomains = true.
func TestSubdomainIsSignedByItsRegisteredDomainOnly(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA)
	wide := acme(rsaKeyFile(t))
	wide.Domains[0].Subdomains = true
	b.dir = directory(t, wide)
	if fields, refusal := b.sign(t, proven(t, "acme", "mail.acme.test"), noon); fields != nil || refusal.Reason() != mail.ReasonSigningFailed {
		t.Errorf("got %d fields and %v", len(fields), refusal)
	}
	if _, refusal := b.sign(t, proven(t, "acme", "acme.test"), noon); refusal != nil {
		t.Error(refusal)
	}
}

func TestWarrantWithoutDomainLeavesUnsigned(t *testing.T) {
	b := newBench(t)
	if fields, refusal := b.sign(t, proven(t, "acme", ""), noon); fields != nil || refusal != nil {
		t.Errorf("got %d fields and %v", len(fields), refusal)
	}
}

func TestHeaderThatCannotBeSignedIsPutOff(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA)
	header, hashes := message(t, "billing@acme.test", body)
	w := proven(t, "acme", "acme.test")
	for name, test := range map[string]struct {
		header mail.Header
		hashes dkim.BodyHashes
	}{
		"two From fields": {header.Prepend(mail.NewField("From", "ceo@acme.test")), hashes},
		"no From field":   {mail.Header{}, hashes},
		"no body hash":    {header, dkim.BodyHashes{}},
	} {
		if fields, refusal := b.Sign(context.Background(), w, b.dir, test.header, test.hashes, noon); fields != nil || refusal.Reason() != mail.ReasonSigningFailed {
			t.Errorf("%s: %d fields and %v", name, len(fields), refusal)
		}
	}
}

// failing is a key store that is there and does not answer.
type failing struct {
	Keys
	public, sign error
	exchanged    crypto.PublicKey // what Public gives after the first time
	asked        int
}

func (f *failing) Public(ref KeyRef) (crypto.PublicKey, error) {
	if f.asked++; f.exchanged != nil && f.asked > 2 { // acme has two keys: each is asked for once before signing
		return f.exchanged, nil
	}
	if f.public != nil {
		return nil, f.public
	}
	return f.Keys.Public(ref)
}

func (f *failing) Sign(ctx context.Context, ref KeyRef, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if f.sign != nil {
		return nil, f.sign
	}
	return f.Keys.Sign(ctx, ref, digest, opts)
}

func TestKeyStoreThatFailsPutsTheMessageOff(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA, acmeEd)
	lost := errors.New("the key store is lost")
	for name, keys := range map[string]*failing{
		"no public half":       {Keys: b.keys, public: lost},
		"no signature":         {Keys: b.keys, sign: lost},
		"the key is exchanged": {Keys: b.keys, exchanged: public(t, b.keys, globexKey)},
	} {
		one := &bench{Signer: &Signer{Keys: keys, Resolver: b.zone}, dir: b.dir}
		if fields, refusal := one.sign(t, proven(t, "acme", "acme.test"), noon); fields != nil || refusal.Reason() != mail.ReasonSigningFailed {
			t.Errorf("%s: %d fields and %v", name, len(fields), refusal)
		}
	}
}

func TestManySignAtOnceAcrossReloads(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA, acmeEd)
	w := proven(t, "acme", "acme.test")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				fields, refusal := b.sign(t, w, noon)
				if refusal != nil {
					t.Error(refusal)
					return
				}
				b.selectors(t, fields, noon)
			}
		})
	}
	for range 3 {
		b.keys.Use(prepare(t, b.keys, b.dir))
	}
	wg.Wait()
}

func TestWaitingForAProcessorEndsWithItsContext(t *testing.T) {
	var s slots
	for range cap(slotsOf(t, &s)) - 1 {
		if err := s.take(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.take(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.give()
	if err := s.take(context.Background()); err != nil {
		t.Error(err)
	}
}

// slotsOf takes the first slot, which makes the others.
func slotsOf(t *testing.T, s *slots) chan struct{} {
	t.Helper()
	if err := s.take(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s.free
}

func BenchmarkSign(b *testing.B) {
	all := newBench(b)
	w := proven(b, "acme", "acme.test")
	header, hashes := message(b, "billing@acme.test", strings.Repeat("twenty kilobytes of body text, more or less\r\n", 455))
	for name, refs := range map[string][]KeyRef{"rsa-2048": {acmeRSA}, "ed25519": {acmeEd}, "both": {acmeRSA, acmeEd}} {
		b.Run(name, func(b *testing.B) {
			for _, ref := range []KeyRef{acmeRSA, acmeEd} {
				all.zone.Remove(ref.RecordName())
			}
			all.publish(b, refs...)
			s := &Signer{Keys: all.keys, Resolver: all.zone}
			b.ReportAllocs()
			for b.Loop() {
				if _, refusal := s.Sign(context.Background(), w, all.dir, header, hashes, noon); refusal != nil {
					b.Fatal(refusal)
				}
			}
		})
	}
}
