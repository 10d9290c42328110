package signing

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/standard/dkim"
)

func TestWhatALookUpChanges(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	was := func(s State, seen time.Duration) Publication {
		return Publication{State: s, Detail: "before", Seen: ago(seen), Asked: ago(seen)}
	}
	yes, no, failed := observed{Published, ""}, observed{NotPublished, "other key"}, observed{Unknown, "no answer"}
	for name, test := range map[string]struct {
		before Publication
		seen   observed
		after  Publication
	}{
		"the first answer, yes":            {Publication{}, yes, Publication{Published, "", noon, noon}},
		"the first answer, no":             {Publication{}, no, Publication{NotPublished, "other key", noon, noon}},
		"the first answer, none":           {Publication{}, failed, Publication{Unknown, "no answer", time.Time{}, noon}},
		"taken away":                       {was(Published, time.Hour), no, Publication{NotPublished, "other key", noon, noon}},
		"put there":                        {was(NotPublished, time.Minute), yes, Publication{Published, "", noon, noon}},
		"DNS fails after yes":              {was(Published, 23*time.Hour), failed, Publication{Published, "no answer", ago(23 * time.Hour), noon}},
		"DNS fails for a day after yes":    {was(Published, 24*time.Hour), failed, Publication{Unknown, "no answer", time.Time{}, noon}},
		"DNS fails after no":               {was(NotPublished, time.Minute), failed, Publication{Unknown, "no answer", time.Time{}, noon}},
		"DNS works again after a long gap": {was(Published, 48*time.Hour), yes, Publication{Published, "", noon, noon}},
	} {
		if diff := cmp.Diff(test.after, test.before.next(test.seen, noon)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestWhenACallerLooksUp(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	known := func(s State, seen, asked time.Duration) Publication {
		return Publication{State: s, Seen: ago(seen), Asked: ago(asked)}
	}
	for name, test := range map[string]struct {
		known  Publication
		atMost time.Duration
		want   step
	}{
		"nothing known":                              {Publication{}, publishedFresh, wait},
		"published, fresh":                           {known(Published, 59*time.Minute, 59*time.Minute), publishedFresh, use},
		"published, an hour old":                     {known(Published, time.Hour, time.Hour), publishedFresh, refresh},
		"published, two hours old":                   {known(Published, 2*time.Hour, 2*time.Hour), publishedFresh, wait},
		"published, DNS failed just now":             {known(Published, 3*time.Hour, time.Second), publishedFresh, use},
		"published, DNS failed some time ago":        {known(Published, 3*time.Hour, time.Minute), publishedFresh, refresh},
		"published, a day old":                       {known(Published, 24*time.Hour, time.Second), publishedFresh, wait},
		"not published, just asked":                  {known(NotPublished, 59*time.Second, 59*time.Second), publishedFresh, use},
		"not published, a minute old":                {known(NotPublished, time.Minute, time.Minute), publishedFresh, wait},
		"unknown, just asked":                        {Publication{Asked: ago(9 * time.Second)}, publishedFresh, use},
		"unknown, asked before":                      {Publication{Asked: ago(10 * time.Second)}, publishedFresh, wait},
		"published, a person looks":                  {known(Published, 11*time.Second, 11*time.Second), listFresh, wait},
		"not published, a person looks":              {known(NotPublished, 11*time.Second, 11*time.Second), listFresh, wait},
		"not published, a person looks all the time": {known(NotPublished, 6*time.Second, 6*time.Second), listFresh, use},
		"a caller whose clock read earlier":          {known(Published, -time.Second, -time.Second), publishedFresh, use},
	} {
		if got := test.known.step(noon, test.atMost); got != test.want {
			t.Errorf("%s: step %d, want %d", name, got, test.want)
		}
	}
}

// Whatever DNS answers and however it fails: a key counts as published only with
// such an answer, the last one DNS gave, less than a day ago.
func TestPublishedNeedsAnAnswerOfTheLastDay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Publication
		var yes time.Time // when DNS last said so, if it said nothing else since
		now := noon
		for range rapid.IntRange(1, 30).Draw(t, "look-ups") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30*3600).Draw(t, "seconds")) * time.Second)
			seen := observed{state: rapid.SampledFrom([]State{Unknown, Published, NotPublished}).Draw(t, "answer")}
			switch seen.state {
			case Published:
				yes = now
			case NotPublished:
				yes = time.Time{}
			}
			p = p.next(seen, now)
			if want := !yes.IsZero() && now.Sub(yes) < publishedStale; (p.State == Published) != want {
				t.Fatalf("%v at %v, DNS last said yes at %v", p, now, yes)
			}
			later := now.Add(time.Duration(rapid.IntRange(0, 30*3600).Draw(t, "later")) * time.Second)
			if p.State == Published && later.Sub(yes) >= publishedStale && p.step(later, publishedFresh) != wait {
				t.Fatalf("%v is still used at %v", p, later)
			}
		}
	})
}

func TestWhatDNSSaysOfAKey(t *testing.T) {
	key := ed25519.PublicKey(strings.Repeat("k", 32))
	other := ed25519.PublicKey(strings.Repeat("o", 32))
	right := dkim.RecordValue(key)
	name := globexKey.RecordName()
	for what, test := range map[string]struct {
		records dns.Records
		absent  bool
		state   State
		detail  string
	}{
		"the record":              {records: dns.Records{TXT: []string{right}}, state: Published},
		"written in another way":  {records: dns.Records{TXT: []string{strings.ReplaceAll(right, "; ", " ;\t") + ";n=note"}}, state: Published},
		"by an alias":             {records: dns.Records{CNAME: "keys.host.test"}, state: Published},
		"testing":                 {records: dns.Records{TXT: []string{right + "; t=y"}}, state: Published, detail: "t=y"},
		"no such name":            {absent: true, state: NotPublished, detail: "does not exist"},
		"no TXT record":           {records: dns.Records{}, state: NotPublished, detail: "no TXT record"},
		"another key":             {records: dns.Records{TXT: []string{dkim.RecordValue(other)}}, state: NotPublished, detail: "another key"},
		"another kind of key":     {records: dns.Records{TXT: []string{dkim.RecordValue(rsaKey().Public())}}, state: NotPublished, detail: "type rsa"},
		"revoked":                 {records: dns.Records{TXT: []string{"v=DKIM1; k=ed25519; p="}}, state: NotPublished, detail: "revoked"},
		"not for mail":            {records: dns.Records{TXT: []string{right + "; s=tlsrpt"}}, state: NotPublished, detail: "not for email"},
		"not for SHA-256":         {records: dns.Records{TXT: []string{right + "; h=sha1"}}, state: NotPublished, detail: "sha256"},
		"malformed":               {records: dns.Records{TXT: []string{"v=DKIM1; k=ed25519"}}, state: NotPublished, detail: "p="},
		"cut off":                 {records: dns.Records{TXT: []string{right[:len(right)-9]}}, state: NotPublished, detail: "p="},
		"something else":          {records: dns.Records{TXT: []string{"v=spf1 -all"}}, state: NotPublished, detail: "not a usable key record"},
		"several, one right":      {records: dns.Records{TXT: []string{right, "v=spf1 -all"}}, state: NotPublished, detail: "2 TXT records"},
		"DNS fails":               {records: dns.Records{TXT: []string{right}, Fault: dns.Fault{On: true}}, state: Unknown, detail: "look-up failed"},
		"an alias to nothing":     {records: dns.Records{CNAME: "gone.host.test"}, state: NotPublished, detail: "does not exist"},
		"the right key twice":     {records: dns.Records{TXT: []string{right, right}}, state: NotPublished, detail: "2 TXT records"},
		"DNS fails for this type": {records: dns.Records{TXT: []string{right}, Fault: dns.Fault{On: true, Only: "TXT"}}, state: Unknown, detail: "look-up failed"},
	} {
		var zone dns.Zone
		zone.SetTXT("keys.host.test", right)
		if !test.absent {
			zone.Set(name, test.records)
		}
		got := observe(context.Background(), &zone, globexKey, key)
		if got.state != test.state || !strings.Contains(got.detail, test.detail) || test.detail == "" && got.detail != "" {
			t.Errorf("%s: %v, %q; want %v, %q", what, got.state, got.detail, test.state, test.detail)
		}
	}
}

// gate is a resolver that counts and that answers when the test says so.
type gate struct {
	mail.Resolver
	open  chan struct{} // nil: at once
	asked atomic.Int32
}

func (g *gate) TXT(ctx context.Context, name string) (mail.Answer[string], error) {
	g.asked.Add(1)
	if g.open != nil {
		select {
		case <-g.open:
		case <-ctx.Done():
			return mail.Answer[string]{}, ctx.Err()
		}
	}
	return g.Resolver.TXT(ctx, name)
}

var edPublic = ed25519.PublicKey(strings.Repeat("k", 32))

func zoneWith(t *testing.T, key ed25519.PublicKey) *dns.Zone {
	t.Helper()
	var zone dns.Zone
	zone.SetTXT(globexKey.RecordName(), dkim.RecordValue(key))
	return &zone
}

func TestManyCallersMakeOneLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{Resolver: zoneWith(t, edPublic), open: make(chan struct{})}
		var p publications
		var published atomic.Int32
		for range 50 {
			go func() {
				if p.check(context.Background(), g, globexKey, edPublic, noon, publishedFresh).State == Published {
					published.Add(1)
				}
			}()
		}
		synctest.Wait()
		close(g.open)
		synctest.Wait()
		if g.asked.Load() != 1 || published.Load() != 50 {
			t.Errorf("%d look-ups, %d callers saw the key", g.asked.Load(), published.Load())
		}
	})
}

func TestStaleAnswerIsUsedWhileOneCallerLooksUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{Resolver: zoneWith(t, edPublic)}
		var p publications
		p.check(context.Background(), g, globexKey, edPublic, noon, publishedFresh)
		g.open = make(chan struct{})
		later := noon.Add(90 * time.Minute)
		go p.check(context.Background(), g, globexKey, edPublic, later, publishedFresh)
		synctest.Wait()
		if got := p.check(context.Background(), g, globexKey, edPublic, later, publishedFresh); got.State != Published || got.Seen != noon {
			t.Errorf("got %v, want the answer of before", got)
		}
		close(g.open)
		synctest.Wait()
		if got := p.check(context.Background(), g, globexKey, edPublic, later, publishedFresh); got.Seen != later {
			t.Errorf("got %v, want the new answer", got)
		}
		if g.asked.Load() != 2 {
			t.Errorf("%d look-ups, want 2", g.asked.Load())
		}
	})
}

func TestCallerWhoGoesAwayLeavesTheLookUpToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{Resolver: zoneWith(t, edPublic), open: make(chan struct{})}
		var p publications
		first, leave := context.WithCancel(context.Background())
		results := make(chan Publication, 2)
		go func() { results <- p.check(first, g, globexKey, edPublic, noon, publishedFresh) }()
		synctest.Wait()
		go func() {
			results <- p.check(context.Background(), g, globexKey, edPublic, noon, publishedFresh)
		}()
		synctest.Wait()
		leave()
		if got := <-results; got.State != Unknown {
			t.Errorf("who left got %v", got)
		}
		close(g.open)
		if got := <-results; got.State != Published {
			t.Errorf("who stayed got %v", got)
		}
	})
}

func TestCallerWhoWaitsCanGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{Resolver: zoneWith(t, edPublic), open: make(chan struct{})}
		var p publications
		go p.check(context.Background(), g, globexKey, edPublic, noon, publishedFresh)
		synctest.Wait()
		ctx, leave := context.WithCancel(context.Background())
		leave()
		if got := p.check(ctx, g, globexKey, edPublic, noon, publishedFresh); got.State != Unknown {
			t.Errorf("got %v", got)
		}
		close(g.open)
	})
}

func TestExchangedKeyIsLookedUpAnew(t *testing.T) {
	other := ed25519.PublicKey(strings.Repeat("o", 32))
	zone := zoneWith(t, edPublic)
	var p publications
	if got := p.check(context.Background(), zone, globexKey, edPublic, noon, publishedFresh); got.State != Published {
		t.Errorf("the old key is %v", got)
	}
	if got := p.check(context.Background(), zone, globexKey, other, noon, publishedFresh); got.State != NotPublished {
		t.Errorf("the new key is %v", got)
	}
}

func TestPanicInTheResolverDoesNotBlockTheNext(t *testing.T) {
	var p publications
	func() {
		defer func() { recover() }()
		p.check(context.Background(), panicking{}, globexKey, edPublic, noon, publishedFresh)
	}()
	if got := p.check(context.Background(), zoneWith(t, edPublic), globexKey, edPublic, noon, publishedFresh); got.State != Published {
		t.Errorf("got %v", got)
	}
}

type panicking struct{ mail.Resolver }

func (panicking) TXT(context.Context, string) (mail.Answer[string], error) {
	panic(errors.New("a fault"))
}
