package signing

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/standard/dkim"
)

func TestStageFollowsFromWhatIsRememberedAndDNS(t *testing.T) {
	day := 24 * time.Hour
	for name, test := range map[string]struct {
		life       Life
		superseded time.Time
		published  bool
		want       Stage
	}{
		"made, not published":                   {Life{Added: noon}, time.Time{}, false, StageAdded},
		"of the registry, not published":        {Life{}, time.Time{}, false, StageAdded},
		"published":                             {Life{Added: noon}, time.Time{}, true, StageActive},
		"published before, DNS lost it":         {Life{Seen: noon}, time.Time{}, false, StageActive},
		"its successor was just seen":           {Life{Seen: noon}, noon, true, StageRetiring},
		"a moment before the end":               {Life{RetireAfter: 8 * day}, noon.Add(time.Second - 8*day), true, StageRetiring},
		"at the end":                            {Life{RetireAfter: 8 * day}, noon.Add(-8 * day), true, StageRetired},
		"without a time of its own: seven days": {Life{}, noon.Add(-7 * day), true, StageRetired},
		"never before signatures end":           {Life{RetireAfter: time.Hour}, noon.Add(-6 * day), true, StageRetiring},
		"retired and not published":             {Life{}, noon.Add(-30 * day), false, StageRetired},
		"revoked":                               {Life{Revoked: noon, Seen: noon}, time.Time{}, true, StageRevoked},
		"revoked while it retired":              {Life{Revoked: noon}, noon, true, StageRevoked},
	} {
		if got := test.life.stage(test.superseded, test.published, noon); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestNewestKeyIsTriedFirst(t *testing.T) {
	at := func(hour int) time.Time { return noon.Add(time.Duration(hour) * time.Hour) }
	life := func(selector string, added int, follower string) Life {
		return Life{Organisation: "acme", Domain: domain("acme.test"), Selector: selector, Algorithm: org.Ed25519, Added: at(added), Successor: follower}
	}
	revoked := func(l Life) Life { l.Revoked = noon; return l }
	foreign := func(l Life) Life { l.Organisation = "globex"; return l }
	for name, test := range map[string]struct {
		file  []string
		lives []Life
		want  string
	}{
		"the registry's alone: the last":                    {[]string{"a", "b"}, nil, "b a"},
		"a command's after the registry's":                  {[]string{"a", "b"}, []Life{life("c", 1, ""), life("d", 2, "")}, "d c b a"},
		"a successor before what it follows":                {[]string{"b", "a"}, []Life{{Organisation: "acme", Selector: "a", Algorithm: org.Ed25519, Successor: "b"}}, "b a"},
		"a chain the file lists in another order":           {[]string{"c", "a", "b"}, []Life{life("a", 0, "b"), life("b", 1, "c"), life("c", 2, "")}, "c b a"},
		"a revoked one not at all":                          {[]string{"a", "b"}, []Life{revoked(life("b", 1, ""))}, "a"},
		"a revoked successor does not hide what it follows": {[]string{"a"}, []Life{life("a", 0, "b"), revoked(life("b", 1, "c")), life("c", 2, "")}, "c a"},
		"another organisation's key is none of the domain":  {[]string{"a"}, []Life{foreign(life("b", 1, ""))}, "a"},
		"but its revoked name is burnt":                     {[]string{"a", "b"}, []Life{revoked(foreign(life("b", 1, "")))}, "a"},
		"a life of another algorithm is another key's":      {[]string{"a", "b"}, []Life{{Organisation: "acme", Selector: "b", Algorithm: org.RSA2048, Successor: "a"}}, "b a"},
		"a life that points nowhere":                        {[]string{"a", "b"}, []Life{{Organisation: "acme", Selector: "a", Algorithm: org.Ed25519, Successor: "gone"}}, "b a"},
		"a circle, which nobody makes":                      {[]string{"a", "b"}, []Life{life("a", 0, "b"), life("b", 1, "a")}, "a b"},
	} {
		d := &org.Domain{Organisation: "acme", Name: domain("acme.test")}
		for _, s := range test.file {
			d.Keys = append(d.Keys, org.Key{Selector: s, Algorithm: org.Ed25519})
		}
		var got []string
		for _, k := range newestFirst(keysOfDomain(d, test.lives), org.Ed25519) {
			got = append(got, k.Selector)
		}
		if joined := strings.Join(got, " "); joined != test.want {
			t.Errorf("%s: %q, want %q", name, joined, test.want)
		}
	}
}

func TestNextSelectorCountsOn(t *testing.T) {
	for last, want := range map[string]string{
		"an1": "an2", "an9": "an10", "an1e": "an2e", "s009": "s010", "google": "google2", "a-b": "a-b2", "k1.mail": "k2.mail",
		"a99999999999999999999999": "a999999999999999999999992", strings.Repeat("a", 63): "an1", "an1-used2": "an1-used3",
	} {
		if got := nextSelector(last, func(string) bool { return false }); got != want {
			t.Errorf("after %q comes %q, want %q", last, got, want)
		}
	}
	used := []string{"an2", "an3"}
	if got := nextSelector("an1", func(s string) bool { return slices.Contains(used, s) }); got != "an4" {
		t.Errorf("after an1 with an2 and an3 taken comes %s", got)
	}
}

func FuzzNextSelector(f *testing.F) {
	for _, s := range []string{"an1", "an1e", "s009", "a-9", "9", strings.Repeat("9", 63), "4294967295", "x.y9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, last string) {
		if !org.ValidSelector(last) {
			return
		}
		first := nextSelector(last, func(string) bool { return false })
		second := nextSelector(last, func(s string) bool { return s == first })
		if !org.ValidSelector(first) || !org.ValidSelector(second) || first == second || first == last {
			t.Errorf("after %q come %q and %q", last, first, second)
		}
	})
}

// anyKey is Keys with a key for every name, so that only the life of keys decides.
type anyKey struct{ private ed25519.PrivateKey }

func (k anyKey) Public(KeyRef) (crypto.PublicKey, error) { return k.private.Public(), nil }

func (k anyKey) Sign(_ context.Context, _ KeyRef, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.private.Sign(nil, digest, opts)
}

// keyWorld is a domain whose keys are added, rotated, revoked, published and
// lost, over restarts; what should be is remembered apart.
type keyWorld struct {
	engine  *memory.Engine
	lives   *Lives
	keys    anyKey
	zone    *dns.Zone
	file    []string
	now     time.Time
	made    int
	revoked map[string]bool
	follows map[string]string // successor by selector
}

func (w *keyWorld) domain() *org.Domain {
	d := &org.Domain{Organisation: "acme", Name: domain("acme.test")}
	for _, s := range w.file {
		d.Keys = append(d.Keys, org.Key{Selector: s, Algorithm: org.Ed25519})
	}
	return d
}

func (w *keyWorld) ref(selector string) KeyRef {
	return KeyRef{"acme", domain("acme.test"), selector, org.Ed25519}
}

// names gives every name that ever was.
func (w *keyWorld) names() (names []string) {
	for i := range w.made {
		names = append(names, fmt.Sprintf("an%d", i))
	}
	return names
}

func (w *keyWorld) newName() string {
	w.made++
	return fmt.Sprintf("an%d", w.made-1)
}

func (w *keyWorld) publishedInDNS(selector string) bool {
	answer, err := w.zone.TXT(context.Background(), w.ref(selector).RecordName())
	return err == nil && len(answer.Records) == 1
}

func TestNoRevokedKeySignsAndSomePublishedOneDoes(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	rapid.Check(t, func(rt *rapid.T) {
		w := &keyWorld{engine: memory.New(), keys: anyKey{private}, zone: new(dns.Zone), now: noon, revoked: map[string]bool{}, follows: map[string]string{}}
		if w.lives, err = OpenLives(ctx, w.engine); err != nil {
			rt.Fatal(err)
		}
		some := func(label string) string { return rapid.SampledFrom(append(w.names(), w.newName())).Draw(rt, label) }
		rt.Repeat(map[string]func(*rapid.T){
			"the file names a key": func(rt *rapid.T) {
				if s := some("selector"); !slices.Contains(w.file, s) {
					at := rapid.IntRange(0, len(w.file)).Draw(rt, "place")
					w.file = slices.Insert(w.file, at, s)
				}
			},
			"the file drops a key": func(rt *rapid.T) {
				s := some("selector")
				w.file = slices.DeleteFunc(w.file, func(f string) bool { return f == s })
			},
			"a key is added": func(*rapid.T) {
				if err := w.lives.add(ctx, nil, w.ref(w.newName()), "", 0, w.now); err != nil {
					rt.Fatal(err)
				}
			},
			"a key is rotated": func(*rapid.T) {
				ordered := newestFirst(keysOfDomain(w.domain(), w.lives.ofDomain(domain("acme.test"))), org.Ed25519)
				if len(ordered) == 0 {
					return
				}
				old, next := ordered[0].Selector, w.newName()
				if err := w.lives.add(ctx, nil, w.ref(next), old, DefaultRetireAfter, w.now); err != nil {
					rt.Fatal(err)
				}
				w.follows[old] = next
			},
			"a key is revoked": func(rt *rapid.T) {
				s := some("selector")
				if err := w.lives.revoke(ctx, nil, w.ref(s), w.now); err != nil {
					rt.Fatal(err)
				}
				w.revoked[s] = true
				if err := w.lives.add(ctx, nil, w.ref(s), "", 0, w.now); err == nil {
					rt.Errorf("the name %s is used again", s)
				}
			},
			"a record is published": func(rt *rapid.T) {
				w.zone.SetTXT(w.ref(some("selector")).RecordName(), dkim.RecordValue(private.Public()))
			},
			"a record is lost": func(rt *rapid.T) { w.zone.Remove(w.ref(some("selector")).RecordName()) },
			"time passes": func(rt *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 300).Draw(rt, "hours")) * time.Hour)
			},
			"the relay starts again": func(*rapid.T) {
				w.engine = w.engine.Clone()
				if w.lives, err = OpenLives(ctx, w.engine); err != nil {
					rt.Fatal(err)
				}
			},
			"": w.check,
		})
	})
}

// check holds what signs against what should.
func (w *keyWorld) check(rt *rapid.T) {
	s := &Signer{Keys: w.keys, Resolver: w.zone, Lives: w.lives}
	signing, refusal := s.published(context.Background(), w.domain(), w.now)
	could := map[string]bool{}
	for _, k := range keysOfDomain(w.domain(), w.lives.ofDomain(domain("acme.test"))) {
		could[k.Selector] = !w.revoked[k.Selector] && w.publishedInDNS(k.Selector)
	}
	any := slices.Contains(slices.Collect(maps.Values(could)), true)
	if refusal != nil {
		if any || refusal.Reason() != mail.ReasonKeyNotPublished {
			rt.Errorf("no key signs, though some are published: %v of %v", refusal, could)
		}
		return
	}
	if len(signing) != 1 || !could[signing[0].ref.Selector] {
		rt.Fatalf("signed by %v; could be %v", signing, could)
	}
	signer := signing[0].ref.Selector
	for next := w.follows[signer]; next != ""; next = w.follows[next] {
		if could[next] {
			rt.Errorf("%s signs, though its successor %s is published", signer, next)
		}
	}
	list := s.ListDomain(context.Background(), w.domain(), w.now)
	for _, k := range list {
		if k.Signs != (k.Selector == signer) || w.revoked[k.Selector] != (k.Stage == StageRevoked) {
			rt.Errorf("%s signs; the list says %+v", signer, k)
		}
	}
}

func TestLifeIsReadBackAsItWasWritten(t *testing.T) {
	engine := memory.New()
	lives, err := OpenLives(t.Context(), engine)
	if err != nil {
		t.Fatal(err)
	}
	if err := lives.add(t.Context(), nil, acmeEd, "an0e", 8*24*time.Hour, noon); err != nil {
		t.Fatal(err)
	}
	lives.seen(t.Context(), acmeEd, noon.Add(time.Hour))
	lives.seen(t.Context(), acmeEd, noon.Add(2*time.Hour)) // the first counts
	if err := lives.revoke(t.Context(), nil, acmeEd, noon.Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := lives.revoke(t.Context(), nil, acmeEd, noon.Add(4*time.Hour)); err != nil {
		t.Fatal(err)
	}
	again, err := OpenLives(t.Context(), engine.Clone())
	if err != nil {
		t.Fatal(err)
	}
	want := []Life{
		{Organisation: "acme", Domain: domain("acme.test"), Selector: "an0e", Algorithm: org.Ed25519, Successor: "an1e", RetireAfter: 8 * 24 * time.Hour},
		{Organisation: "acme", Domain: domain("acme.test"), Selector: "an1e", Algorithm: org.Ed25519, Added: noon, Seen: noon.Add(time.Hour), Revoked: noon.Add(3 * time.Hour)},
	}
	sameDomain := cmp.Comparer(func(a, b mail.Domain) bool { return a == b })
	if diff := cmp.Diff(want, again.ofDomain(domain("acme.test")), sameDomain); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func FuzzLifeRecord(f *testing.F) {
	good, err := json.Marshal(newLife(acmeEd))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("key/acme.test/an1e", good)
	f.Add("key/acme.test/an1e", []byte(`{"domain":"other.test","selector":"an1e"}`))
	f.Add("key/", []byte(`{}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if !strings.HasPrefix(key, lifePrefix) {
			return
		}
		engine := memory.New()
		if engine.Commit(t.Context(), batchOf(key, value)) != nil {
			return
		}
		lives, err := OpenLives(t.Context(), engine)
		if err != nil {
			return // refused: the relay does not start on it
		}
		for _, life := range lives.all() {
			if life.key() != key {
				t.Errorf("the record of %s is taken for %s", key, life.key())
			}
		}
	})
}
