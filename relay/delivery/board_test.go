package delivery

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// keepOf takes custody of a message of an organisation.
func (s *station) keepOf(organisation string, to ...mail.Recipient) mail.ID {
	s.t.Helper()
	warrant, err := custody.NewNotice("about", org.ID(organisation))
	if err != nil {
		s.t.Fatal(err)
	}
	sub := custody.Submission{
		ID: mail.NewID(time.Now()), Warrant: warrant, Envelope: mail.Envelope{From: address(s.t, "alice@acme.example"), Recipients: to},
		Header: mail.Header{Fields: []mail.Field{mail.NewField("Subject", "hello")}}, Body: mail.NewBody([]byte("Hello.\r\n")),
	}
	if _, err := s.queue.Keep(context.Background(), sub, time.Now()); err != nil {
		s.t.Fatal(err)
	}
	return sub.ID
}

// attemptsOf are the attempts to a domain, by number, and when they ended.
func (s *station) attemptsOf(domain string) (numbers []int, ends []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, a := range s.attempts {
		if a.Envelope.Recipients[0].Address.Domain().String() == domain {
			numbers, ends = append(numbers, n), append(ends, s.times[n])
		}
	}
	return numbers, ends
}

func TestAFloodToASiteDelaysAnotherOrganisationByATurnOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "big.example")
		s.zone.SetMX("alias.example", mail.MX{Preference: 5, Host: "mx.big.example"}) // the same site
		s.PerSite = 5
		s.took = func(Attempt) time.Duration { return 10 * time.Second }
		for n := range 600 {
			s.keepOf("flood", to(t, fmt.Sprintf("r%d@big.example", n))...)
		}
		s.Start()
		time.Sleep(time.Minute + time.Second)
		before := len(s.made())
		s.keepOf("quiet", to(t, "bob@alias.example")...)
		time.Sleep(time.Minute)
		numbers, _ := s.attemptsOf("alias.example")
		if len(numbers) != 1 || numbers[0]-before > 2*s.PerSite {
			t.Errorf("%v messages of the flood went first, from the %dth on", numbers, before)
		}
		s.stop()
	})
}

func TestAFloodToManySlowSitesLeavesAttemptsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "fast.example")
		s.Workers, s.MaxLeases = 20, 200
		s.took = func(a Attempt) time.Duration {
			if a.Route.Site == "fast.example" {
				return time.Second
			}
			return 30 * time.Minute
		}
		for n := range 400 {
			d := fmt.Sprintf("slow%d.example", n)
			s.zone.SetMX(d, mail.MX{Host: "mx." + d})
			s.zone.SetAddresses("mx."+d, netip.MustParseAddr("192.0.2.1"))
			s.keepOf("flood", to(t, "r@"+d)...)
		}
		s.Start()
		time.Sleep(time.Minute)
		if n := s.Counters().Workers; n != share(20) {
			t.Errorf("%d attempts of one organisation, want %d", n, share(20))
		}
		s.keepOf("quiet", to(t, "bob@fast.example")...)
		time.Sleep(2 * time.Second)
		if numbers, _ := s.attemptsOf("fast.example"); len(numbers) != 1 {
			t.Error("the other organisation waits")
		}
		time.Sleep(100 * time.Hour)
		s.stop()
		if s.left() != 0 {
			t.Errorf("%d are left", s.left())
		}
	})
}

func TestMailForADeadSiteIsDeferredWithoutWaitingForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "dead.example")
		alive := time.Now().Add(3 * time.Hour)
		s.took = func(Attempt) time.Duration { return 30 * time.Second }
		s.answer = func(a Attempt) []Result {
			if time.Now().Before(alive) {
				return each(a, deferred("4.4.1", "mx.dead.example[192.0.2.1]:25: connection timed out"))
			}
			return each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 Ok"})
		}
		for n := range 300 {
			s.keepOf("acme", to(t, fmt.Sprintf("r%d@dead.example", n))...)
		}
		s.Start()
		time.Sleep(5 * time.Minute)
		if n := len(s.made()); n > firstWindow+5 {
			t.Errorf("%d attempts at a dead site", n)
		}
		if d := s.queue.Depth(); d.Leased > 1 || !d.Oldest.After(time.Now()) {
			t.Errorf("not all were deferred: %+v", d)
		}
		status, ok := s.Site("dead.example")
		if !ok || !status.Dead && !status.Probing || status.Reply == "" {
			t.Errorf("%+v", status)
		}
		time.Sleep(6 * time.Hour)
		s.stop()
		if s.left() != 0 {
			t.Errorf("%d are left after it came back", s.left())
		}
	})
}

func TestASiteThatAsksForLessIsLeftAloneForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "busy.example", "other.example")
		s.took = func(Attempt) time.Duration { return time.Second }
		start := time.Now()
		s.answer = func(a Attempt) []Result {
			if a.Route.Site == "busy.example" && time.Since(start) < 2*time.Minute {
				return each(a, Result{Status: Deferred, Enhanced: "4.7.0", Reply: "421 4.7.0 slow down", Said: true, Host: "mx.busy.example"})
			}
			return each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 Ok", Said: true})
		}
		for n := range 500 {
			s.keepOf("acme", to(t, fmt.Sprintf("r%d@busy.example", n))...)
		}
		s.keepOf("acme", to(t, "r@other.example")...)
		s.Start()
		time.Sleep(busyFor / 2)
		_, first := s.attemptsOf("busy.example")
		if d := s.queue.Depth(); len(first) != firstWindow || d.Leased != 0 {
			t.Errorf("%d attempts, %+v", len(first), d)
		}
		if status, ok := s.Site("busy.example"); !ok || !status.Until.After(time.Now()) || status.Reply != "421 4.7.0 slow down" {
			t.Errorf("%+v", status)
		}
		time.Sleep(2 * time.Minute)
		if _, ends := s.attemptsOf("busy.example"); len(ends) > firstWindow+8 {
			t.Errorf("%d attempts while it asked for less", len(ends))
		}
		time.Sleep(3 * time.Hour)
		s.stop()
		if s.left() != 0 {
			t.Errorf("%d are left", s.left())
		}
	})
}

func TestTheRateOfASiteIsNeverPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "slow.example")
		s.Limits = func(site string, domain mail.Domain) SiteLimits {
			return SiteLimits{Connections: 3, Messages: 10, Span: time.Minute}
		}
		for n := range 100 {
			s.keepOf(fmt.Sprintf("org%d", n%7), to(t, fmt.Sprintf("r%d@slow.example", n))...)
		}
		s.Start()
		time.Sleep(15 * time.Minute)
		s.stop()
		_, ends := s.attemptsOf("slow.example")
		if len(ends) != 100 {
			t.Fatalf("%d attempts", len(ends))
		}
		for i := 10; i < len(ends); i++ {
			if ends[i].Sub(ends[i-10]) < time.Minute {
				t.Fatalf("eleven attempts within %s", ends[i].Sub(ends[i-10]))
			}
		}
	})
}

func TestASuspendedSiteGetsNothingUntilItIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "big.example")
		s.PerSite = 2
		s.took = func(Attempt) time.Duration { return time.Second }
		for n := range 50 {
			s.keepOf("acme", to(t, fmt.Sprintf("r%d@big.example", n))...)
		}
		s.Start()
		time.Sleep(5*time.Second + time.Millisecond)
		what := custody.Suspension{Scope: custody.ScopeSite, Name: "big.example", By: "ann", At: time.Now()}
		if err := s.queue.Suspend(context.Background(), what); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // what is under way ends
		before := len(s.made())
		time.Sleep(10 * time.Hour)
		if n := len(s.made()); n != before || s.queue.Depth().Leased != 0 {
			t.Errorf("%d attempts while it was suspended, %+v", n-before, s.queue.Depth())
		}
		if err := s.queue.Resume(context.Background(), what); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.stop()
		if s.left() != 0 {
			t.Errorf("%d are left", s.left())
		}
	})
}

func TestTheSenderIsToldOfADelayOnce(t *testing.T) {
	for name, c := range map[string]struct {
		notify mail.Notify
		want   []NoticeKind
	}{
		"by default":      {0, []NoticeKind{NoticeDelayed, NoticeFailed}},
		"NOTIFY=DELAY":    {mail.NotifyDelay, []NoticeKind{NoticeDelayed}},
		"NOTIFY=FAILURE":  {mail.NotifyFailure, []NoticeKind{NoticeFailed}},
		"NOTIFY=NEVER":    {mail.NotifyNever, nil},
		"only of success": {mail.NotifySuccess, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStation(t, "globex.example")
				s.answer = func(a Attempt) []Result {
					return each(a, Result{Status: Deferred, Enhanced: "4.2.2", Reply: "452 4.2.2 Full", Said: true, Host: "mx"})
				}
				var told []NoticeKind
				tell := func(_ context.Context, b Bounce) ([]custody.Submission, error) {
					told = append(told, b.Kind)
					return nil, nil
				}
				s.Notice = tell
				s.keepOf("acme", mail.Recipient{Address: address(t, "bob@globex.example"), Notify: c.notify})
				s.Start()
				time.Sleep(8 * time.Hour)
				s.stop()
				s.open(s.engine.Reopen()) // that it was told is durable
				s.Notice = tell
				s.Start()
				time.Sleep(40 * time.Hour)
				s.stop()
				if diff := cmp.Diff(c.want, told); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		})
	}
}

func TestTheSenderWhoAsksIsToldThatAHostWithoutDSNTookTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.answer = func(a Attempt) []Result {
			return each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 Ok", Relayed: true})
		}
		var told []string
		s.Notice = func(_ context.Context, b Bounce) ([]custody.Submission, error) {
			for _, f := range b.Failures {
				told = append(told, fmt.Sprint(b.Kind, " ", f.Recipient.Address))
			}
			return nil, nil
		}
		s.keepOf("acme", mail.Recipient{Address: address(t, "bob@globex.example"), Notify: mail.NotifySuccess}, mail.Recipient{Address: address(t, "carol@globex.example")})
		s.Start()
		time.Sleep(time.Minute)
		s.stop()
		if diff := cmp.Diff([]string{fmt.Sprint(NoticeRelayed, " bob@globex.example")}, told); diff != "" {
			t.Error(diff)
		}
	})
}

// Whatever comes and whatever sites answer: limits hold, nothing that is ready is
// forgotten while it could begin, and the board is empty at the end.
func TestTheBoardForgetsNothingAndPassesNoLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b board
		limits := SiteLimits{Connections: rapid.IntRange(1, 4).Draw(t, "connections"), Messages: rapid.IntRange(0, 3).Draw(t, "messages"), Span: time.Second}
		b.open(4, rapid.IntRange(1, 9).Draw(t, "attempts"), 100, func(string, mail.Domain) SiteLimits { return limits })
		b.suspended = func(l *custody.Lease, _ string) bool { return l.Attempt == 7 }
		b.suspendedSite = func(string) bool { return false }
		now := dawn
		var under []task
		admitted, ended := 0, 0
		pump := func() {
			begin, back := b.pump(now)
			under, ended = append(under, begin...), ended+len(back)
			for _, r := range back {
				b.release(r.lease)
			}
			perSite, perOrg := map[string]int{}, map[string]int{}
			for _, u := range under {
				if u.end == nil {
					perSite[u.site.name]++
				}
				perOrg[u.org.name]++
			}
			for name, n := range perSite {
				if n > limits.Connections {
					t.Fatalf("%d at %s", n, name)
				}
			}
			for name, n := range perOrg {
				if n > share(b.maxAttempts) {
					t.Fatalf("%d of %s", n, name)
				}
			}
			if len(under) > b.maxAttempts {
				t.Fatalf("%d attempts", len(under))
			}
		}
		end := func(i int, tells lesson) {
			u := under[i]
			under = slices.Delete(under, i, i+1)
			b.finished(u, tells, Result{Status: Deferred}, now)
			ended++
			pump()
		}
		t.Repeat(map[string]func(*rapid.T){
			"lease": func(t *rapid.T) {
				d, err := mail.ParseDomain(rapid.SampledFrom([]string{"a.test", "b.test", "c.test"}).Draw(t, "domain"))
				if err != nil {
					t.Fatal(err)
				}
				var leases []*custody.Lease
				for range rapid.IntRange(1, 9).Draw(t, "leases") {
					leases = append(leases, &custody.Lease{Domain: d, Attempt: rapid.IntRange(1, 7).Draw(t, "attempt"), Message: &custody.Message{
						Organisation: rapid.SampledFrom([]string{"acme", "globex", "initech"}).Draw(t, "organisation"),
						Expires:      dawn.Add(time.Duration(rapid.IntRange(-1, 100).Draw(t, "expires")) * time.Hour),
					}})
				}
				b.admit(leases)
				admitted += len(leases)
				for _, l := range b.enqueue(d, Route{Site: d.String()}, leases, now) {
					b.release(l)
					ended++
				}
				pump()
			},
			"end": func(t *rapid.T) {
				if len(under) == 0 {
					t.Skip("nothing is under way")
				}
				end(rapid.IntRange(0, len(under)-1).Draw(t, "which"), rapid.SampledFrom([]lesson{nothing, answered, busy, unreachable, taken}).Draw(t, "lesson"))
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "milliseconds")) * time.Millisecond)
				pump()
			},
		})
		for n := 0; admitted > ended; n++ {
			if n > 10_000 {
				t.Fatalf("%d of %d leases never end", admitted-ended, admitted)
			}
			if len(under) > 0 {
				end(0, taken)
				continue
			}
			wake, ok := b.wake()
			if !ok {
				t.Fatalf("%d leases are ready, nothing is under way and nothing will be", admitted-ended)
			}
			now = wake
			pump()
		}
		if leases, attempts, sites := b.now(); leases+attempts+sites+len(b.orgs)+len(b.domains) != 0 {
			t.Fatalf("left: %d leases, %d attempts, %d sites, %d organisations, %d domains", leases, attempts, sites, len(b.orgs), len(b.domains))
		}
	})
}
