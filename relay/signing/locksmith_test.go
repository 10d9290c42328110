package signing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

func batchOf(key string, value []byte) *custody.Batch {
	return &custody.Batch{Put: []custody.Record{{Key: key, Value: value}}}
}

// shop is a Locksmith for acme.test and its Ed25519 key an1e, over a store and a
// data directory that outlive it.
type shop struct {
	*Locksmith
	dir     *org.Directory
	zone    *dns.Zone
	engine  *memory.Engine
	dataDir string
}

func newShop(t testing.TB) *shop {
	t.Helper()
	s := &shop{zone: new(dns.Zone), engine: memory.New(), dataDir: t.TempDir(), dir: directory(t, organisation("acme", "acme.test", org.KeyEntry{Selector: "an1e", Algorithm: "ed25519"}), globex())}
	s.open(t)
	return s
}

// open is a start of the relay, or the next one.
func (s *shop) open(t testing.TB) {
	t.Helper()
	lives, err := OpenLives(context.Background(), s.engine)
	if err != nil {
		t.Fatal(err)
	}
	keys := openKeys(t, s.dataDir)
	if err := keys.Follow(lives); err != nil {
		t.Fatal(err)
	}
	keys.Use(prepare(t, keys, s.dir))
	facts := func(o Order, ref KeyRef, now time.Time) []ledger.Fact {
		return []ledger.Fact{{Time: now, Event: ledger.Reloaded, Org: string(ref.Organisation), Detail: string(o.Verb) + " " + ref.String()}}
	}
	s.Locksmith = &Locksmith{Keys: keys, Lives: lives, Signer: &Signer{Keys: keys, Resolver: s.zone, Lives: lives}, Facts: facts}
}

func (s *shop) order(t testing.TB, o Order, now time.Time) Change {
	t.Helper()
	c, err := s.try(o, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *shop) try(o Order, now time.Time) (Change, error) {
	o.Organisation, o.Domain = "acme", domain("acme.test")
	return s.Do(context.Background(), s.dir, o, now)
}

// publishFirst publishes the key of the registry.
func (s *shop) publishFirst(t testing.TB) {
	t.Helper()
	s.zone.SetTXT(acmeEd.RecordName(), dkim.RecordValue(public(t, s.Keys, acmeEd)))
}

func (s *shop) publish(keys ...KeyInfo) {
	for _, k := range keys {
		s.zone.SetTXT(k.RecordName, k.RecordValue)
	}
}

// signers signs a message and gives the selectors that did, or the reason why
// none.
func (s *shop) signers(t testing.TB, now time.Time) string {
	t.Helper()
	header, hashes := message(t, "billing@acme.test", body)
	fields, refusal := s.Signer.Sign(context.Background(), proven(t, "acme", "acme.test"), s.dir, header, hashes, now)
	if refusal != nil {
		return string(refusal.Reason())
	}
	var names []string
	for _, f := range fields {
		names = append(names, selectorFor(f, domain("acme.test")))
	}
	return strings.Join(names, " ")
}

func (s *shop) list(now time.Time) []KeyInfo {
	d, _ := s.dir.Owner(domain("acme.test"))
	return s.Signer.ListDomain(context.Background(), d, now)
}

// stages is the list in short.
func (s *shop) stages(now time.Time) string {
	var parts []string
	for _, k := range s.list(now) {
		part := k.Selector + " " + string(k.Stage)
		if k.Signs {
			part += "*"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func TestRotationFromTheFirstKeyToTheRetirementOfIt(t *testing.T) {
	s := newShop(t)
	s.publishFirst(t)
	now := noon
	expect := func(what, signers, stages string) {
		t.Helper()
		if got := s.signers(t, now); got != signers {
			t.Errorf("%s: signed by %s, want %s", what, got, signers)
		}
		if got := s.stages(now); got != stages {
			t.Errorf("%s: %s, want %s", what, got, stages)
		}
	}
	expect("at first", "an1e", "an1e active*")

	rotated := s.order(t, Order{Verb: VerbRotate}, now)
	if len(rotated.Made) != 1 || rotated.Made[0].Selector != "an2e" || rotated.Replaced[0].Selector != "an1e" || RegistryLine(rotated.Made[0]) != `{ selector = "an2e", algorithm = "ed25519" }` {
		t.Fatalf("rotated: %+v", rotated)
	}
	now = now.Add(time.Hour)
	expect("before the new one is published", "an1e", "an1e active*, an2e added")

	now = now.Add(30 * 24 * time.Hour)
	expect("a month later still", "an1e", "an1e active*, an2e added")

	s.publish(rotated.Made...)
	now = now.Add(time.Hour)
	expect("once it is", "an2e", "an1e retiring, an2e active*")

	s.open(t)
	expect("after a restart", "an2e", "an1e retiring, an2e active*")

	now = now.Add(6*24*time.Hour + 23*time.Hour)
	expect("before seven days are over", "an2e", "an1e retiring, an2e active*")
	now = now.Add(time.Hour)
	expect("when they are", "an2e", "an1e retired, an2e active*")

	s.zone.Remove("an1e._domainkey.acme.test")
	s.dir = directory(t, organisation("acme", "acme.test", org.KeyEntry{Selector: "an2e", Algorithm: "ed25519"}), globex())
	s.open(t)
	expect("when the registry names the new one alone", "an2e", "an2e active*")
	if again := s.order(t, Order{Verb: VerbRotate}, now); again.Made[0].Selector != "an3e" {
		t.Errorf("the next is %s", again.Made[0].Selector)
	}
}

func TestOldKeySignsAgainWhileItsSuccessorIsLostOrRevoked(t *testing.T) {
	s := newShop(t)
	s.publishFirst(t)
	s.publish(s.order(t, Order{Verb: VerbRotate}, noon).Made...)
	now := noon.Add(time.Minute)
	if got := s.signers(t, now); got != "an2e" {
		t.Fatalf("signed by %s", got)
	}
	s.zone.Remove("an2e._domainkey.acme.test")
	now = now.Add(publishedFresh)
	if got := s.signers(t, now); got != "an1e" {
		t.Errorf("with the new record lost, signed by %s", got)
	}
	s.order(t, Order{Verb: VerbRevoke, Selector: "an2e"}, now)
	if got := s.stages(now); got != "an1e active*, an2e revoked" {
		t.Errorf("with the new key revoked: %s", got)
	}
}

func TestRevokedKeyNeverSignsAgain(t *testing.T) {
	s := newShop(t)
	s.publishFirst(t)
	if got := s.signers(t, noon); got != "an1e" {
		t.Fatalf("signed by %s", got)
	}
	c := s.order(t, Order{Verb: VerbRevoke, Selector: "an1e"}, noon)
	if len(c.Revoked) != 1 || c.Revoked[0].RecordValue != "v=DKIM1; k=ed25519; p=" || !strings.Contains(strings.Join(c.Notes, "\n"), "no other key of acme.test is published") {
		t.Errorf("it says %+v", c)
	}
	never := func(when string) {
		t.Helper()
		if got := s.signers(t, noon); got != string(mail.ReasonKeyNotPublished) {
			t.Errorf("%s: %s", when, got)
		}
		if _, err := s.Keys.Public(KeyRef{"acme", domain("acme.test"), "an1e", org.Ed25519}); !errors.Is(err, ErrRevoked) {
			t.Errorf("%s: the key store says %v", when, err)
		}
	}
	never("at once, though still published and in the registry")
	s.open(t)
	never("after a restart")
	if err := os.Remove(filepath.Join(s.dataDir, "keys", "acme", "acme.test", "an1e.ed25519.age")); err != nil {
		t.Fatal(err)
	}
	s.open(t)
	never("with its file gone")
	if _, err := os.Stat(filepath.Join(s.dataDir, "keys", "acme", "acme.test", "an1e.ed25519.age")); err == nil {
		t.Error("another key was made under a revoked name")
	}
	for _, o := range []Order{{Verb: VerbAdd, Selector: "an1e", Algorithm: org.Ed25519}, {Verb: VerbAdd, Selector: "an1e", Algorithm: org.RSA2048}} {
		if _, err := s.try(o, noon); !errors.Is(err, ErrTaken) {
			t.Errorf("add under the revoked name: %v", err)
		}
	}
	if made := s.order(t, Order{Verb: VerbAdd, Algorithm: org.Ed25519}, noon).Made[0]; made.Selector != "an2e" {
		t.Errorf("the next name is %s", made.Selector)
	}
	if again := s.order(t, Order{Verb: VerbRevoke, Selector: "an1e"}, noon.Add(time.Hour)); !again.Revoked[0].RevokedAt.Equal(noon) {
		t.Errorf("revoked a second time at %v", again.Revoked[0].RevokedAt)
	}
}

func TestListSaysWhatDNSHasInPlaceOfARevokedKey(t *testing.T) {
	s := newShop(t)
	s.publishFirst(t)
	revoked := s.order(t, Order{Verb: VerbRevoke, Selector: "an1e"}, noon).Revoked[0]
	name := revoked.RecordName
	for what, set := range map[string]func(){
		"DNS still publishes a key": func() {},
		"and DNS says so":           func() { s.publish(revoked) },
		"DNS has no record":         func() { s.zone.Remove(name) },
		"the look-up failed":        func() { s.zone.SetFault(name, true) },
	} {
		s.zone.SetFault(name, false)
		set()
		if got := s.list(noon)[0]; !strings.Contains(got.Detail, what) || got.Published || got.RecordValue != "v=DKIM1; k=ed25519; p=" {
			t.Errorf("%s: %+v", what, got)
		}
		s.zone.SetTXT(name, dkim.RecordValue(rsaKey().Public()))
	}
}

func TestAddedKeyIsUsedOnceItIsPublishedAndSurvivesAReload(t *testing.T) {
	s := newShop(t)
	s.publishFirst(t)
	dry := s.order(t, Order{Verb: VerbAdd, Algorithm: org.Ed25519, Selector: "new", DryRun: true}, noon)
	if dry.Made[0].RecordName != "new._domainkey.acme.test" || dry.Made[0].RecordValue != "" || len(s.list(noon)) != 1 {
		t.Errorf("a dry run made %+v", dry.Made)
	}
	made := s.order(t, Order{Verb: VerbAdd, Algorithm: org.Ed25519, Selector: "new"}, noon).Made[0]
	if made.ManagedBy != ByCommand || made.Stage != StageAdded || !strings.HasPrefix(made.RecordValue, "v=DKIM1; k=ed25519; p=") {
		t.Errorf("made %+v", made)
	}
	s.Keys.Use(prepare(t, s.Keys, s.dir)) // a reload
	s.publish(made)
	later := noon.Add(time.Hour)
	if got := s.signers(t, later); got != "new" {
		t.Errorf("signed by %s", got)
	}
	s.dir = directory(t, organisation("acme", "acme.test", org.KeyEntry{Selector: "an1e", Algorithm: "ed25519"}, org.KeyEntry{Selector: "new", Algorithm: "ed25519"}), globex())
	s.open(t)
	if got := s.list(later); got[1].RecordValue != made.RecordValue || got[1].ManagedBy != ByFile || !got[1].Signs {
		t.Errorf("once the registry names it: %+v", got)
	}
}

func TestOrdersThatCannotBeCarriedOutSayWhy(t *testing.T) {
	s := newShop(t)
	withGoogle := organisation("acme", "acme.test", org.KeyEntry{Selector: "an1e", Algorithm: "ed25519"})
	withGoogle.Sources = []org.SourceEntry{{
		ID: "ws", Kind: "google", DKIM: []org.IdentityEntry{{Domain: "acme.test", Selectors: []string{"theirs"}}},
		SecretHeader: &org.SecretHeaderEntry{Name: "X-Acme-Key", SHA256: []string{strings.Repeat("0", 64)}},
	}}
	s.dir = directory(t, withGoogle, globex())
	for _, test := range []struct {
		order Order
		want  error
		says  string
	}{
		{Order{Verb: "burn"}, ErrOrder, "add, rotate or revoke"},
		{Order{Verb: VerbAdd}, ErrOrder, "rsa-2048 or ed25519"},
		{Order{Verb: VerbAdd, Algorithm: "rsa-512"}, ErrOrder, "rsa-2048 or ed25519"},
		{Order{Verb: VerbAdd, Algorithm: org.Ed25519, Selector: "../x"}, ErrOrder, "no selector"},
		{Order{Verb: VerbAdd, Algorithm: org.Ed25519, Selector: "An1"}, ErrOrder, "no selector"},
		{Order{Verb: VerbAdd, Algorithm: org.Ed25519, RetireAfter: 8 * 24 * time.Hour}, ErrOrder, "only rotate"},
		{Order{Verb: VerbAdd, Algorithm: org.Ed25519, Selector: "an1e"}, ErrTaken, "of the registry already"},
		{Order{Verb: VerbAdd, Algorithm: org.Ed25519, Selector: "theirs"}, ErrTaken, "a provider's"},
		{Order{Verb: VerbRotate}, ErrTaken, "not published"},
		{Order{Verb: VerbRotate, Algorithm: org.RSA2048}, ErrTaken, "no key to rotate"},
		{Order{Verb: VerbRotate, Selector: "an1e"}, ErrOrder, "name an algorithm"},
		{Order{Verb: VerbRotate, RetireAfter: time.Hour}, ErrOrder, "6 days at least"},
		{Order{Verb: VerbRotate, RetireAfter: -time.Hour}, ErrOrder, "6 days at least"},
		{Order{Verb: VerbRevoke}, ErrOrder, "which selector"},
		{Order{Verb: VerbRevoke, Selector: "an1e", Algorithm: org.Ed25519}, ErrOrder, "not an algorithm"},
		{Order{Verb: VerbRevoke, Selector: "gone"}, ErrNoKey, "no key gone"},
	} {
		_, err := s.try(test.order, noon)
		if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%+v: %v, want %v: %s", test.order, err, test.want, test.says)
		}
	}
	for _, o := range []Order{{Organisation: "globex", Domain: domain("acme.test")}, {Organisation: "acme", Domain: domain("mail.acme.test")}, {Organisation: "nobody", Domain: domain("acme.test")}} {
		o.Verb, o.Algorithm = VerbAdd, org.Ed25519
		if _, err := s.Do(t.Context(), s.dir, o, noon); !errors.Is(err, ErrNoDomain) {
			t.Errorf("%s of %s: %v", o.Domain, o.Organisation, err)
		}
	}
}

func TestOurKeyListedAsAProvidersIsAProblemOfTheReload(t *testing.T) {
	s := newShop(t)
	s.order(t, Order{Verb: VerbAdd, Algorithm: org.Ed25519, Selector: "mine"}, noon)
	listing := organisation("acme", "acme.test", org.KeyEntry{Selector: "an1e", Algorithm: "ed25519"})
	listing.Sources = []org.SourceEntry{{
		ID: "ws", Kind: "google", DKIM: []org.IdentityEntry{{Domain: "acme.test", Selectors: []string{"mine"}}},
		SecretHeader: &org.SecretHeaderEntry{Name: "X-Acme-Key", SHA256: []string{strings.Repeat("0", 64)}},
	}}
	set, problems := s.Keys.Prepare(t.Context(), directory(t, listing), nil)
	if set != nil || len(problems) != 1 || !strings.Contains(problems[0].String(), `source ws of organisation acme: selector "mine" of acme.test is a key of this relay's`) {
		t.Errorf("got %v and %v", set, problems)
	}
}

func TestMadeKeyWhoseFileIsLostIsNotMadeAnew(t *testing.T) {
	s := newShop(t)
	s.order(t, Order{Verb: VerbAdd, Algorithm: org.Ed25519, Selector: "mine"}, noon)
	if err := os.Remove(filepath.Join(s.dataDir, "keys", "acme", "acme.test", "mine.ed25519.age")); err != nil {
		t.Fatal(err)
	}
	keys := openKeys(t, s.dataDir)
	if err := keys.Follow(s.Lives); err == nil || !strings.Contains(err.Error(), "acme/acme.test/mine/ed25519") {
		t.Errorf("got %v", err)
	}
}

func TestCrashBetweenSealingAndRememberingLeavesNothingInUse(t *testing.T) {
	s := newShop(t)
	ref := KeyRef{"acme", domain("acme.test"), "an2e", org.Ed25519}
	if err := s.Keys.make(ref); err != nil { // and no life
		t.Fatal(err)
	}
	s.open(t)
	s.publishFirst(t)
	if got := s.stages(noon); got != "an1e active*" {
		t.Errorf("the keys are %s", got)
	}
	if made := s.order(t, Order{Verb: VerbRotate}, noon.Add(time.Minute)).Made[0]; made.Selector != "an3e" {
		t.Errorf("the half-made name was taken: %s", made.Selector)
	}
}

func TestRecordThatCannotBeReadStopsTheStart(t *testing.T) {
	engine := memory.New()
	if err := engine.Commit(t.Context(), batchOf("key/acme.test/an1", []byte("{"))); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLives(t.Context(), engine); err == nil || !strings.Contains(err.Error(), "key/acme.test/an1") {
		t.Errorf("got %v", err)
	}
}

func TestChangesAreFactsOfTheirOwnBatch(t *testing.T) {
	s := newShop(t)
	s.publishFirst(t)
	s.order(t, Order{Verb: VerbRotate}, noon)
	s.order(t, Order{Verb: VerbRevoke, Selector: "an1e"}, noon)
	s.order(t, Order{Verb: VerbRevoke, Selector: "an1e"}, noon) // nothing changed
	var told []string
	if err := ledger.Read(t.Context(), s.engine, 0, func(f ledger.Fact) bool { told = append(told, f.Detail); return true }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(told, "; "); got != "rotate acme/acme.test/an2e/ed25519; revoke acme/acme.test/an1e/ed25519" {
		t.Errorf("the ledger has %q", got)
	}
}

func TestSignaturesOfARevokedKeyAreRecognised(t *testing.T) {
	s := newShop(t)
	s.publishFirst(t)
	header, hashes := message(t, "billing@acme.test", body)
	fields, refusal := s.Signer.Sign(t.Context(), proven(t, "acme", "acme.test"), s.dir, header, hashes, noon)
	if refusal != nil {
		t.Fatal(refusal)
	}
	ours := mail.NewField("Received", "from a by relay")
	theirs := mail.NewField("Received", "from b by a")
	kept := header.Prepend(append([]mail.Field{ours}, fields...)...)
	returned := header.Prepend(append([]mail.Field{ours, theirs}, fields...)...)
	broken := header.Prepend(ours, mail.NewField("DKIM-Signature", "d=acme.test; s=an1e; s=an1e"))
	if s, revoked := s.Lives.RevokedSignature(domain("acme.test"), kept); revoked {
		t.Errorf("before the revocation: %s", s)
	}
	s.order(t, Order{Verb: VerbRevoke, Selector: "an1e"}, noon)
	for name, test := range map[string]struct {
		as     string
		header mail.Header
		want   string
	}{
		"kept with our signature on top":              {"acme.test", kept, "an1e"},
		"signed as another domain now":                {"globex.test", kept, ""},
		"an old signature that came with a message":   {"acme.test", returned, ""},
		"a signature that cannot be read is not ours": {"acme.test", broken, ""},
		"none": {"acme.test", header, ""},
	} {
		if got, revoked := s.Lives.RevokedSignature(domain(test.as), test.header); got != test.want || revoked != (test.want != "") {
			t.Errorf("%s: %q %v", name, got, revoked)
		}
	}
	var none *Lives
	if _, revoked := none.RevokedSignature(domain("acme.test"), kept); revoked {
		t.Error("without anything remembered")
	}
}
