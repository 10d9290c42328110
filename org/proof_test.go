package org

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/mail/dns"
)

func TestRecordsAreReadStrictly(t *testing.T) {
	for _, test := range []struct {
		txt  string
		want string // org relay sub, or the error's start
	}{
		{"v=anechoic1; org=acme", "acme  false"},
		{"v=anechoic1;org=acme;", "acme  false"},
		{" v = anechoic1 ; org = acme ; sub = yes ; ", "acme  true"},
		{"v=anechoic1; sub=yes; relay=Relay.Anechoic.test; org=acme", "acme relay.anechoic.test true"},
		{"v=anechoic1; org=acme; note=what ever; x=", "acme  false"},
		{"v=anechoic1; org=acme; sub=YES", "acme  false"},
		{"v=anechoic1; org=acme; sub=no", "acme  false"},
		{"v=anechoic1; org=acme; ORG=other", "acme  false"}, // an unknown tag
		{"v=anechoic1; org=acme; org=acme", "tag org is given twice"},
		{"v=anechoic1; org=acme; sub=yes; sub=no", "tag sub is given twice"},
		{"v=anechoic1; org=acme; x=1; x=2", "tag x is given twice"},
		{"v=anechoic1; org=acme; v=anechoic1", "tag v is given twice"},
		{"v=anechoic1", "it names no organisation"},
		{"v=anechoic1; org=", "org= is empty"},
		{"v=anechoic1; org=acme; relay=", "relay="},
		{"v=anechoic1; org=acme; relay=a b", "relay="},
		{"v=anechoic1; org=acme; sub", `" sub" is not name=value`},
		{"v=anechoic1; org=acme;; sub=yes", `"" is not name=value`},
		{"v=anechoic1; org=acme; =x", `" =x" is not name=value`},
		{"org=acme; v=anechoic1", "not an anechoic record"},
		{"v=anechoic2; org=acme", "not an anechoic record"},
		{"v=spf1 -all", "not an anechoic record"},
		{"", "not an anechoic record"},
		{"v=anechoic1; org=acme" + strings.Repeat("; a", 9), `" a" is not name=value`},
	} {
		r, err := ParseProof(test.txt)
		got := string(r.Organisation) + " " + r.Relay.String() + " " + map[bool]string{true: "true", false: "false"}[r.Sub]
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%q: %s, want %s", test.txt, got, test.want)
		}
	}
}

func TestRecordsOfSeveralRelaysStandTogether(t *testing.T) {
	here := domain(t, "relay.anechoic.test")
	for _, test := range []struct {
		name    string
		records []string
		want    Verdict
	}{
		{"nothing", nil, NoRecord},
		{"something else", []string{"v=spf1 -all", "hello"}, NoRecord},
		{"ours", []string{"v=anechoic1; org=acme"}, Agrees},
		{"ours, beside something else", []string{"hello", "v=anechoic1; org=acme; sub=yes"}, AgreesSub},
		{"ours at this relay", []string{"v=anechoic1; org=acme; relay=RELAY.anechoic.test"}, Agrees},
		{"ours at another relay", []string{"v=anechoic1; org=acme; relay=other.test"}, NoRecord},
		{"another's", []string{"v=anechoic1; org=globex"}, Contrary},
		{"another's at another relay", []string{"v=anechoic1; org=globex; relay=other.test"}, NoRecord},
		{"ours here, another's there", []string{"v=anechoic1; org=globex; relay=other.test", "v=anechoic1; org=acme; relay=relay.anechoic.test"}, Agrees},
		{"ours and another's", []string{"v=anechoic1; org=globex", "v=anechoic1; org=acme"}, Agrees},
		{"in capitals", []string{"v=anechoic1; org=ACME"}, Contrary},
		{"invalid", []string{"v=anechoic1; org=acme; org=acme"}, NoRecord},
	} {
		if got := Judge(test.records, "acme", here); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// The table of ProofState.Next, each row a history of look-ups.
func TestHistoriesOfLookups(t *testing.T) {
	type step struct {
		after  time.Duration
		answer Verdict
	}
	for _, test := range []struct {
		name  string
		steps []step
		at    time.Duration // after the last step
		want  Verdict
	}{
		{"never asked", nil, 0, NoAnswer},
		{"first found", []step{{0, Agrees}}, 0, Agrees},
		{"first not found", []step{{0, NoRecord}}, 0, NoRecord},
		{"first no answer", []step{{0, NoAnswer}}, 0, NoAnswer},
		{"not found once", []step{{0, Agrees}, {time.Hour, NoRecord}}, 0, Agrees},
		{"not found twice at once", []step{{0, Agrees}, {time.Hour, NoRecord}, {time.Second, NoRecord}}, 0, Agrees},
		{"not found twice", []step{{0, Agrees}, {time.Hour, NoRecord}, {time.Minute, NoRecord}}, 0, NoRecord},
		{"not found, no answer, not found", []step{{0, Agrees}, {time.Hour, NoRecord}, {time.Minute, NoAnswer}, {time.Minute, NoRecord}}, 0, NoRecord},
		{"not found, found, not found", []step{{0, Agrees}, {time.Hour, NoRecord}, {time.Minute, Agrees}, {time.Minute, NoRecord}}, 0, Agrees},
		{"another's at once", []step{{0, AgreesSub}, {time.Second, Contrary}}, 0, Contrary},
		{"another's, then none", []step{{0, Contrary}, {time.Second, NoRecord}}, 0, NoRecord},
		{"sub=yes taken away", []step{{0, AgreesSub}, {time.Second, Agrees}}, 0, Agrees},
		{"no answer for 72 hours", []step{{0, Agrees}, {time.Hour, NoAnswer}}, 71 * time.Hour, Agrees},
		{"no answer for longer", []step{{0, Agrees}, {time.Hour, NoAnswer}}, 71*time.Hour + time.Second, NoAnswer},
		{"unverified and no answer for longer", []step{{0, NoRecord}, {time.Hour, NoAnswer}}, 72 * time.Hour, NoAnswer},
		{"found again after that", []step{{0, Agrees}, {100 * time.Hour, Agrees}}, 0, Agrees},
		{"not found once and then no answer", []step{{0, Agrees}, {time.Hour, NoRecord}, {80 * time.Hour, NoAnswer}}, 0, NoAnswer},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s ProofState
			now := today
			for _, step := range test.steps {
				now = now.Add(step.after)
				s = s.Next(step.answer, now)
			}
			if got := s.At(now.Add(test.at)); got != test.want {
				t.Errorf("%v, want %v (%+v)", got, test.want, s)
			}
		})
	}
}

// Revocation is never survived, and a failure to look up neither gains nor loses
// anything but time.
func TestNoHistoryKeepsARevokedDomainOrLosesAStandingOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s ProofState
		now := today
		var lastYes, firstNo time.Time // since the last yes: when first and last told no
		var told bool                  // a no that counts came after the last yes
		for range rapid.IntRange(0, 40).Draw(t, "look-ups") {
			now = now.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "seconds")) * time.Second)
			answer := rapid.SampledFrom([]Verdict{NoRecord, Contrary, Agrees, AgreesSub, NoAnswer}).Draw(t, "answer")
			before := s.At(now)
			s = s.Next(answer, now)
			switch answer {
			case Agrees, AgreesSub:
				lastYes, firstNo, told = now, time.Time{}, false
			case Contrary:
				told = true
			case NoRecord:
				if firstNo.IsZero() {
					firstNo = now
				} else if now.Sub(firstNo) >= proofSecond {
					told = true
				}
			case NoAnswer:
				if after := s.At(now); after != before {
					t.Fatalf("no answer made %v of %v", after, before)
				}
			}
			good := s.At(now) == Agrees || s.At(now) == AgreesSub
			if good && (lastYes.IsZero() || told || now.Sub(lastYes) > proofGrace) {
				t.Fatalf("it stands: last yes %v, told no %v, now %v: %+v", lastYes, told, now, s)
			}
			if !good && !lastYes.IsZero() && !told && now.Sub(lastYes) <= proofGrace {
				t.Fatalf("it is lost: last yes %v, now %v: %+v", lastYes, now, s)
			}
		}
	})
}

// proofs is a Proofs over a zone, with the domains of the example.
func proofs(t *testing.T) (*Proofs, *dns.Zone, *Directory) {
	t.Helper()
	zone := new(dns.Zone)
	p := &Proofs{Resolver: zone, Relay: domain(t, "relay.anechoic.test")}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p, zone, build(t, example)
}

// standing asks for a name as policy does.
func standing(t *testing.T, p *Proofs, d *Directory, name string, now time.Time) Standing {
	t.Helper()
	owner, ok := d.Owner(domain(t, name))
	if !ok {
		t.Fatalf("nobody owns %s", name)
	}
	return p.Standing(t.Context(), owner, domain(t, name), now)
}

func TestADomainCountsOnceItsRecordIsThere(t *testing.T) {
	p, zone, d := proofs(t)
	if got := standing(t, p, d, "globex.test", today); got != Unverified {
		t.Errorf("without a record: %v", got)
	}
	zone.SetTXT("_anechoic.globex.test", "v=anechoic1; org=abc")
	if got := standing(t, p, d, "globex.test", today.Add(59*time.Second)); got != Unverified {
		t.Errorf("asked again within a minute: %v", got)
	}
	if got := standing(t, p, d, "globex.test", today.Add(time.Minute)); got != Verified {
		t.Errorf("with the record: %v", got)
	}
	zone.SetTXT("_anechoic.globex.test", "v=anechoic1; org=acme")
	if got := standing(t, p, d, "globex.test", today.Add(24*time.Hour)); got != Verified {
		t.Errorf("asked again within a day: %v", got)
	}
	if got := standing(t, p, d, "globex.test", today.Add(24*time.Hour+time.Minute)); got != Unverified {
		t.Errorf("another's record: %v", got)
	}
}

func TestDNSThatDoesNotAnswerKeepsTheLastAnswerForThreeDays(t *testing.T) {
	p, zone, d := proofs(t)
	zone.SetFault("_anechoic.globex.test", true)
	if got := standing(t, p, d, "globex.test", today); got != LookupFailed {
		t.Errorf("never answered: %v", got)
	}
	zone.SetFault("_anechoic.globex.test", false)
	zone.SetTXT("_anechoic.globex.test", "v=anechoic1; org=abc")
	if got := standing(t, p, d, "globex.test", today.Add(proofRetry)); got != Verified {
		t.Errorf("answered: %v", got)
	}
	zone.SetFault("_anechoic.globex.test", true)
	heard := today.Add(proofRetry)
	if got := standing(t, p, d, "globex.test", heard.Add(72*time.Hour)); got != Verified {
		t.Errorf("no answer for 72 hours: %v", got)
	}
	if got := standing(t, p, d, "globex.test", heard.Add(72*time.Hour+proofRetry)); got != LookupFailed {
		t.Errorf("no answer for longer: %v", got)
	}
}

func TestSubdomainsFollowTheNearestRecord(t *testing.T) {
	for _, test := range []struct {
		name string
		zone map[string]string
		from string
		want Standing
	}{
		{"sub=yes covers", map[string]string{"acme.test": "v=anechoic1; org=acme; sub=yes"}, "news.acme.test", Verified},
		{"several labels down", map[string]string{"acme.test": "v=anechoic1; org=acme; sub=yes"}, "a.b.c.acme.test", Verified},
		{"too many labels down", map[string]string{"acme.test": "v=anechoic1; org=acme; sub=yes"}, "1.2.3.4.5.6.7.8.9.acme.test", Unverified},
		{"no sub=yes does not", map[string]string{"acme.test": "v=anechoic1; org=acme"}, "news.acme.test", Unverified},
		{"no record at all", nil, "news.acme.test", Unverified},
		{"its own record is enough", map[string]string{"news.acme.test": "v=anechoic1; org=acme"}, "news.acme.test", Verified},
		{"its own record overrides", map[string]string{"acme.test": "v=anechoic1; org=acme; sub=yes", "news.acme.test": "v=anechoic1; org=globex"}, "news.acme.test", Unverified},
		{"the record of a name between overrides", map[string]string{"acme.test": "v=anechoic1; org=acme; sub=yes", "b.acme.test": "v=anechoic1; org=globex; sub=yes"}, "a.b.acme.test", Unverified},
		{"the record of a name between covers only with sub=yes", map[string]string{"acme.test": "v=anechoic1; org=acme; sub=yes", "b.acme.test": "v=anechoic1; org=acme"}, "a.b.acme.test", Unverified},
		{"the record of a name between covers", map[string]string{"b.acme.test": "v=anechoic1; org=acme; sub=yes"}, "a.b.acme.test", Verified},
		{"a record for another relay is none", map[string]string{"acme.test": "v=anechoic1; org=acme; sub=yes", "news.acme.test": "v=anechoic1; org=globex; relay=other.test"}, "news.acme.test", Verified},
		{"whether it overrides is not known", map[string]string{"acme.test": "v=anechoic1; org=acme; sub=yes", "news.acme.test": "fault"}, "news.acme.test", LookupFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, zone, d := proofs(t)
			for name, txt := range test.zone {
				zone.SetTXT(ProofPrefix+name, txt)
				zone.SetFault(ProofPrefix+name, txt == "fault")
			}
			if got := standing(t, p, d, test.from, today); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestANameOutsideTheDomainNeverCounts(t *testing.T) {
	p, zone, d := proofs(t)
	zone.SetTXT("_anechoic.payroll.acme.test", "v=anechoic1; org=acme; sub=yes")
	zone.SetTXT("_anechoic.x.payroll.acme.test", "v=anechoic1; org=acme")
	payroll, _ := d.Owner(domain(t, "payroll.acme.test"))
	for _, name := range []string{"acme.test", "x.payroll.acme.test", "evilpayroll.acme.test"} {
		if got := p.Standing(t.Context(), payroll, domain(t, name), today); got != Unverified {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAFreshStandingIsReadWithoutAllocation(t *testing.T) {
	p, zone, d := proofs(t)
	zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=acme; sub=yes")
	name := domain(t, "news.acme.test")
	owner, _ := d.Owner(name)
	ctx := t.Context()
	if allocs := testing.AllocsPerRun(100, func() { p.Standing(ctx, owner, name, today) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestSubdomainsThatMailClaimsAreRememberedWithinBounds(t *testing.T) {
	p, zone, d := proofs(t)
	zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=acme; sub=yes")
	owner, _ := d.Owner(domain(t, "acme.test"))
	for i := range maxSubnames + 100 {
		name, err := mail.ParseDomain("n" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + ".acme.test")
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Standing(t.Context(), owner, name, today); got != Verified {
			t.Fatalf("%s: %v", name, got)
		}
	}
	if len(p.subs) > maxSubnames || len(p.states) != 1 {
		t.Errorf("%d sub-domains, %d domains", len(p.subs), len(p.states))
	}
}

// slow is a resolver that answers after a while, and counts.
type slow struct {
	mail.Resolver
	mu    sync.Mutex
	asked int
}

func (s *slow) TXT(context.Context, string) (mail.Answer[string], error) {
	s.mu.Lock()
	s.asked++
	s.mu.Unlock()
	time.Sleep(time.Second)
	return mail.Answer[string]{Records: []string{"v=anechoic1; org=abc"}}, nil
}

func TestManyWhoAskAtOnceShareOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resolver := new(slow)
		p := &Proofs{Resolver: resolver}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		globex, _ := build(t, example).Owner(domain(t, "globex.test"))
		gone, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range 50 {
			group.Go(func() {
				ctx := t.Context()
				if i == 0 {
					ctx = gone // one caller goes away: the others have their answer
				}
				if got := p.Standing(ctx, globex, globex.Name, time.Now()); got != Verified && i != 0 {
					t.Errorf("%v", got)
				}
			})
		}
		synctest.Wait()
		cancel()
		group.Wait()
		if resolver.asked != 1 {
			t.Errorf("asked %d times", resolver.asked)
		}
	})
}

func TestTheBackgroundLooksUpAtTheStartDailyAndAfterAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, zone, d := proofs(t)
		zone.SetTXT("_anechoic.globex.test", "v=anechoic1; org=abc")
		zone.SetFault("_anechoic.acme.test", true)
		known := func(name string) Standing {
			owner, _ := d.Owner(domain(t, name))
			return p.Known(owner, time.Now())
		}
		if got := known("globex.test"); got != Unknown {
			t.Errorf("before the start: %v", got)
		}
		ctx, stop := context.WithCancel(t.Context())
		registered := d.Domains
		var done sync.WaitGroup
		done.Go(func() { p.Run(ctx, func() iter.Seq[*Domain] { return registered() }) })
		synctest.Wait()
		if globex, acme, payroll := known("globex.test"), known("acme.test"), known("payroll.acme.test"); globex != Verified || acme != LookupFailed || payroll != Unverified {
			t.Errorf("at the start: %v, %v, %v", globex, acme, payroll)
		}

		zone.SetFault("_anechoic.acme.test", false)
		zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=acme")
		time.Sleep(time.Minute + time.Second)
		if got := known("acme.test"); got != Verified {
			t.Errorf("after DNS answers: %v", got)
		}

		zone.Remove("_anechoic.globex.test")
		time.Sleep(23 * time.Hour)
		if got := known("globex.test"); got != Verified {
			t.Errorf("before a day is over: %v", got)
		}
		time.Sleep(59*time.Minute + 29*time.Second)
		synctest.Wait()
		if got := known("globex.test"); got != Verified {
			t.Errorf("not found once: %v", got)
		}
		time.Sleep(2 * time.Minute)
		if got := known("globex.test"); got != Unverified {
			t.Errorf("not found twice: %v", got)
		}

		registered = func() iter.Seq[*Domain] { return func(func(*Domain) bool) {} }
		p.Refresh()
		synctest.Wait()
		if got := known("acme.test"); got != Unknown {
			t.Errorf("registered no more: %v", got)
		}
		stop()
		done.Wait()
	})
}

func TestWhatWasKnownOutlivesARestartButIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var saved []SavedProof
		failing := true
		save := func(batch []SavedProof) error {
			if failing {
				failing = false
				return errors.New("disk full")
			}
			saved = append(saved, batch...)
			return nil
		}
		p, zone, d := proofs(t)
		p.Save = save
		zone.SetTXT("_anechoic.globex.test", "v=anechoic1; org=abc")
		zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=acme")
		ctx, stop := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { p.Run(ctx, d.Domains) })
		time.Sleep(2 * time.Minute)
		stop()
		done.Wait()
		var names []string
		for _, s := range saved {
			names = append(names, s.Name.String())
		}
		slices.Sort(names)
		names = slices.Compact(names)
		if diff := cmp.Diff([]string{"acme.test", "globex.test", "guest.acme.test", "payroll.acme.test", "xn--bcher-kva.test"}, names); diff != "" {
			t.Errorf("saved (-want +got):\n%s", diff)
		}

		zone.SetFault("_anechoic.globex.test", true)
		zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=globex")
		again := &Proofs{Resolver: zone, Load: func() ([]SavedProof, error) { return saved, nil }}
		if err := again.Start(); err != nil {
			t.Fatal(err)
		}
		if got := standing(t, again, d, "globex.test", time.Now()); got != Verified {
			t.Errorf("DNS gives no answer after the restart: %v", got)
		}
		if got := standing(t, again, d, "acme.test", time.Now()); got != Unverified {
			t.Errorf("revoked over the restart: %v", got)
		}
	})
}

func TestAnotherOrganisationInheritsNoStanding(t *testing.T) {
	p, zone, d := proofs(t)
	zone.SetTXT("_anechoic.globex.test", "v=anechoic1; org=abc")
	globex, _ := d.Owner(domain(t, "globex.test"))
	if got := p.Check(t.Context(), globex, today); got != Verified {
		t.Fatalf("%v", got)
	}
	taken := &Domain{Organisation: "mallory", Name: globex.Name}
	if got := p.Standing(t.Context(), taken, taken.Name, today); got != Unverified {
		t.Errorf("%v", got)
	}
}

func FuzzParseProof(f *testing.F) {
	f.Add("v=anechoic1; org=acme; relay=relay.anechoic.test; sub=yes")
	f.Add("v=anechoic1; org=acme; org=acme")
	f.Add("v=anechoic1;;")
	f.Add(" v =\tanechoic1;org= \x00;relay=bücher.test")
	f.Fuzz(func(t *testing.T, txt string) {
		r, err := ParseProof(txt)
		if err != nil {
			if (r != ProofRecord{}) {
				t.Errorf("an error, and %+v", r)
			}
			return
		}
		if r.Organisation == "" {
			t.Error("a record without an organisation")
		}
		if got := Judge([]string{txt}, r.Organisation+"x", r.Relay); got != Contrary {
			t.Errorf("for another organisation it is %v", got)
		}
		if again, err := ParseProof(txt + "; org=other"); err == nil {
			t.Errorf("org given twice: %+v", again)
		}
	})
}
