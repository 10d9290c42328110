package custody_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func course(via string) custody.Course {
	return custody.Course{Via: via, By: "ann", Why: "their server is being moved"}
}

// proven is a message that acme was proven to send.
func proven(t testing.TB, to ...string) custody.Submission {
	s := submission(to...)
	s.Warrant = provenWarrant(t)
	return s
}

func TestReroutedMailIsLeasedForItsNextHopAlsoAfterARestart(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, proven(t, "a@else.test", "b@else.test"), noon)
	keep(t, q, submission("c@else.test"), noon) // the relay's own notice
	s, err := q.Reroute(ctx, custody.Filter{Domain: domain("else.test")}, course("hop.test:25"), noon.Add(time.Minute))
	steered(t, s, err, custody.Steered{Messages: 1, Recipients: 2})
	again, err := q.Reroute(ctx, custody.Filter{ID: id}, course("hop.test:25"), noon.Add(time.Minute))
	steered(t, again, err, custody.Steered{})
	for _, q := range []*custody.Queue{q, open(t, engine.Clone())} {
		var ways []string
		for _, l := range leaseAll(t, q, noon.Add(time.Minute)) {
			ways = append(ways, string(l.Domain.String())+" via "+l.Via)
			if l.Via != "" && (len(l.Recipients) != 2 || l.Recipients[0].Course.By != "ann") {
				t.Errorf("%+v", l)
			}
		}
		if diff := cmp.Diff(map[string]bool{"else.test via hop.test:25": true, "else.test via ": true}, set(ways)); diff != "" {
			t.Error(diff)
		}
	}
	want := []string{"accepted a@else.test b@else.test", "rerouted a@else.test b@else.test", "leased a@else.test b@else.test"}
	if diff := cmp.Diff(want, story(t, engine, id)); diff != "" {
		t.Error(diff)
	}
}

func set(list []string) map[string]bool {
	m := map[string]bool{}
	for _, s := range list {
		m[s] = true
	}
	return m
}

func TestACourseBackLeadsWhereTheDomainDoes(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, proven(t, "a@else.test"), noon)
	for _, via := range []string{"hop.test:25", ""} {
		s, err := q.Reroute(ctx, custody.Filter{ID: id}, course(via), noon)
		steered(t, s, err, custody.Steered{Messages: 1, Recipients: 1})
	}
	if l := leaseOne(t, q, noon); l.Via != "" || l.Recipients[0].Course != nil {
		t.Errorf("%+v", l)
	}
}

func TestHeldMailKeepsItsNewCourseUntilItIsReleased(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, proven(t, "a@else.test"), noon)
	if _, err := q.Hold(ctx, custody.Filter{ID: id}, mail.ReasonHeld, noon); err != nil {
		t.Fatal(err)
	}
	s, err := q.Reroute(ctx, custody.Filter{ID: id}, course("hop.test:25"), noon)
	steered(t, s, err, custody.Steered{Messages: 1, Recipients: 1})
	if leases := leaseAll(t, q, noon.Add(time.Hour)); len(leases) > 0 {
		t.Error("what is held was leased")
	}
	if r := show(t, q, id).Recipients[0]; r.State != custody.StateHeld || r.Reason != mail.ReasonHeld || r.Course.Via != "hop.test:25" {
		t.Errorf("%+v", r)
	}
	if _, err := q.Release(ctx, custody.Filter{ID: id}, noon); err != nil {
		t.Fatal(err)
	}
	if l := leaseOne(t, q, noon); l.Via != "hop.test:25" {
		t.Errorf("%+v", l)
	}
}

func TestANewCourseTakesEffectWhenTheAttemptInFlightFails(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, proven(t, "a@else.test", "b@else.test"), noon)
	l := leaseOne(t, q, noon)
	s, err := q.Reroute(ctx, custody.Filter{ID: id}, course("hop.test:25"), noon)
	steered(t, s, err, custody.Steered{Messages: 1, Recipients: 2, Later: 2})
	if again := leaseOne(t, open(t, engine.Clone()), noon); again.Via != "hop.test:25" { // a crash here
		t.Errorf("%+v", again)
	}
	err = q.Settle(ctx, l, []custody.Outcome{{Index: 0, Result: custody.Delivered}, {Index: 1, Result: custody.Deferred, Reply: "451"}}, nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	rest := leaseOne(t, q, noon)
	if rest.Via != "hop.test:25" || len(rest.Recipients) != 1 || rest.Recipients[0].Address != address("b@else.test") || rest.Attempt != 2 {
		t.Errorf("%+v", rest)
	}
	if err := q.Settle(ctx, rest, []custody.Outcome{{Result: custody.Delivered}}, nil, noon); err != nil {
		t.Fatal(err)
	}
	gone(t, q, id)
}

func TestWhatIsEndedIsLeasedForItsBounceWhateverKeptItBack(t *testing.T) {
	for name, before := range map[string]func(*custody.Queue, mail.ID) error{
		"queued": func(*custody.Queue, mail.ID) error { return nil },
		"held": func(q *custody.Queue, id mail.ID) error {
			_, err := q.Hold(ctx, custody.Filter{ID: id}, mail.ReasonHeld, noon)
			return err
		},
		"suspended": func(q *custody.Queue, _ mail.ID) error {
			return q.Suspend(ctx, suspension(custody.ScopeOrganisation, "acme"))
		},
		"rerouted": func(q *custody.Queue, id mail.ID) error {
			_, err := q.Reroute(ctx, custody.Filter{ID: id}, course("hop.test:25"), noon)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			engine := memory.New()
			q := open(t, engine)
			id := keep(t, q, proven(t, "a@else.test"), noon)
			if err := before(q, id); err != nil {
				t.Fatal(err)
			}
			s, err := q.Bounce(ctx, custody.Filter{ID: id}, custody.Course{By: "ann", Why: "asked for"}, noon)
			steered(t, s, err, custody.Steered{Messages: 1, Recipients: 1})
			for _, q := range []*custody.Queue{q, open(t, engine.Clone())} {
				l := leaseOne(t, q, noon)
				if !l.End || l.Via != "" || l.Recipients[0].Course.Why != "asked for" {
					t.Errorf("%+v", l)
				}
				settle(t, q, l, custody.Outcome{Result: custody.Bounced}, noon)
				gone(t, q, id)
			}
		})
	}
}

// The last thing that was asked for counts, whatever stands in the records already.
func TestWhatWasEndedAndThenHeldStaysUntilItIsEndedAgain(t *testing.T) {
	end := custody.Course{By: "ann", Why: "asked for"}
	for name, inFlight := range map[string]bool{"while it waits": false, "while an attempt is in flight": true} {
		t.Run(name, func(t *testing.T) {
			engine := memory.New()
			q := open(t, engine)
			id := keep(t, q, proven(t, "a@else.test"), noon)
			var l *custody.Lease
			want := custody.Steered{Messages: 1, Recipients: 1}
			if inFlight {
				l, want.Later = leaseOne(t, q, noon), 1
			}
			s, err := q.Bounce(ctx, custody.Filter{ID: id}, end, noon)
			steered(t, s, err, want)
			s, err = q.Hold(ctx, custody.Filter{ID: id}, mail.ReasonHeld, noon)
			steered(t, s, err, want)
			if l != nil {
				settle(t, q, l, custody.Outcome{Result: custody.Deferred, Reply: "451"}, noon)
			}
			for _, q := range []*custody.Queue{q, open(t, engine.Clone())} {
				if r := show(t, q, id).Recipients[0]; r.State != custody.StateHeld || !r.Course.End {
					t.Fatalf("held after it was ended: %+v", r)
				}
				s, err = q.Bounce(ctx, custody.Filter{ID: id}, end, noon)
				steered(t, s, err, custody.Steered{Messages: 1, Recipients: 1})
				if l := leaseOne(t, q, noon); !l.End {
					t.Errorf("%+v", l)
				}
			}
		})
	}
}

func TestACourseThatLeadsNowhereIsRefused(t *testing.T) {
	q := open(t, memory.New())
	for name, c := range map[string]custody.Course{
		"nobody":    {Via: "hop.test:25"},
		"a space":   {Via: "hop.test 25", By: "ann"},
		"a letter":  {Via: "hóp.test:25", By: "ann"},
		"too long":  {Via: strings.Repeat("a", 400), By: "ann"},
		"much text": {By: "ann", Why: strings.Repeat("a", 4000)},
	} {
		if _, err := q.Reroute(ctx, custody.Filter{}, c, noon); !errors.Is(err, custody.ErrBadCourse) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A course that somebody wrote into the store is not one that a person gave.
func TestACourseThatWasNotGivenSetsTheMessageAside(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, proven(t, "a@else.test"), noon)
	if _, err := q.Reroute(ctx, custody.Filter{ID: id}, course("hop.test:25"), noon); err != nil {
		t.Fatal(err)
	}
	key := "recipient/" + string(id) + "/00000000"
	value, err := engine.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	forged := custody.SumAgain([]byte(strings.ReplaceAll(string(value), "hop.test", "foe.test")))
	if err := engine.Commit(ctx, &custody.Batch{Put: []custody.Record{{Key: key, Value: forged}}}); err != nil {
		t.Fatal(err)
	}
	q = open(t, engine.Clone())
	if leases := leaseAll(t, q, noon); len(leases) > 0 {
		t.Errorf("leased via %s", leases[0].Via)
	}
	gone(t, q, id)
}

func TestFiltersSelectBySourceSenderAgeReplyAndWhereMailLeads(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, proven(t, "a@else.test", "b@other.test"), noon)
	other := submissionOf("globex", "c@else.test", noon)
	other.ID = mail.NewID(noon.Add(time.Hour))
	other.Envelope.From = address("ben@globex.test")
	keep(t, q, other, noon)
	for _, l := range leaseAll(t, q, noon) {
		reply := "450 4.2.0 Greylisted"
		if l.Domain == domain("other.test") {
			reply = "452 4.2.2 Mailbox full"
		}
		settle(t, q, l, custody.Outcome{Result: custody.Deferred, Reply: reply}, noon)
	}
	for name, c := range map[string]struct {
		custody.Filter
		want custody.Steered
	}{
		"source":         {custody.Filter{Source: "app"}, custody.Steered{Messages: 1, Recipients: 2}},
		"sender":         {custody.Filter{Sender: domain("globex.test")}, custody.Steered{Messages: 1, Recipients: 1}},
		"age":            {custody.Filter{Before: noon.Add(time.Minute)}, custody.Steered{Messages: 1, Recipients: 2}},
		"reply":          {custody.Filter{Reply: "greyLISTED"}, custody.Steered{Messages: 2, Recipients: 2}},
		"where it leads": {custody.Filter{Leads: func(d mail.Domain, _ string) bool { return d == domain("other.test") }}, custody.Steered{Messages: 1, Recipients: 1}},
		"all of them":    {custody.Filter{Source: "app", Sender: domain("acme.test"), Reply: "full"}, custody.Steered{Messages: 1, Recipients: 1}},
		"nothing":        {custody.Filter{Source: "app", Sender: domain("globex.test")}, custody.Steered{}},
	} {
		t.Run(name, func(t *testing.T) {
			var listed custody.Steered
			c.Filter.Limit = 1 // in pages, so that filtered ones lie between
			for more := true; more; more = c.Filter.After != "" {
				entries, next, err := q.List(ctx, c.Filter)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					listed.Messages++
					listed.Recipients += len(e.Recipients)
				}
				c.Filter.After = next
			}
			c.Filter.Limit = 0
			s, err := q.Retry(ctx, c.Filter, noon)
			steered(t, s, err, c.want)
			steered(t, listed, nil, c.want)
		})
	}
	if e := show(t, q, id); len(e.Recipients) != 2 {
		t.Errorf("%+v", e)
	}
}

func TestACommandTellsHowFarItCame(t *testing.T) {
	q := open(t, memory.New())
	for range 300 {
		keep(t, q, submission("a@else.test"), noon)
	}
	var told []int
	s, err := q.Hold(ctx, custody.Filter{Progress: func(s custody.Steered) { told = append(told, s.Messages) }}, mail.ReasonHeld, noon)
	steered(t, s, err, custody.Steered{Messages: 300, Recipients: 300})
	if diff := cmp.Diff([]int{128, 256, 300}, told); diff != "" {
		t.Error(diff)
	}
}

// Whatever is asked for in whatever order, also during attempts and over restarts: a
// recipient is there until it is done, a lease goes one way, which is the one that was
// asked for last before it, and the counts are those of what is listed.
func TestCoursesAndCommandsInAnyOrderLoseNobody(whole *testing.T) {
	warrant := provenWarrant(whole)
	rapid.Check(whole, func(t *rapid.T) {
		engine := memory.New()
		q := open(whole, engine)
		now := noon
		way := map[string]string{} // of recipients not done
		var leases []*custody.Lease
		id := mail.ID("")
		ask := func(name string, do func(custody.Filter) (custody.Steered, error), then string) {
			f := custody.Filter{Org: "acme"}
			if rapid.Bool().Draw(t, name+" of one") {
				f.ID = id
			}
			if _, err := do(f); err != nil {
				t.Fatal(err)
			}
			if then == "" {
				return
			}
			for r := range way {
				if f.ID == "" || strings.HasSuffix(r, string(id)) {
					way[r] = strings.TrimPrefix(then, "dns")
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"keep": func(t *rapid.T) {
				s := submission("a@else.test", "b@else.test", "c@other.test")
				s.Warrant = warrant
				id = keep(whole, q, s, now)
				for _, r := range s.Envelope.Recipients {
					way[r.Address.String()+" "+string(id)] = ""
				}
			},
			"lease": func(t *rapid.T) {
				got, err := q.Lease(ctx, now, 2, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range got {
					leads := l.Via
					if l.End {
						leads = "end"
					}
					for _, r := range l.Recipients {
						if want, there := way[r.Address.String()+" "+string(l.ID)]; !there || want != leads {
							t.Fatalf("%s is leased %q, wanted %q (%t)", r.Address, leads, want, there)
						}
					}
				}
				leases = append(leases, got...)
			},
			"settle": func(t *rapid.T) {
				if len(leases) == 0 {
					t.Skip("nothing is leased")
				}
				l := leases[0]
				leases = leases[1:]
				var outcomes []custody.Outcome
				for i, r := range l.Recipients {
					result := rapid.SampledFrom([]custody.Result{custody.Delivered, custody.Deferred, custody.Bounced, custody.Held, custody.Untried}).Draw(t, "result")
					outcomes = append(outcomes, custody.Outcome{Index: i, Result: result})
					if result == custody.Delivered || result == custody.Bounced {
						delete(way, r.Address.String()+" "+string(l.ID))
					}
				}
				if err := q.Settle(ctx, l, outcomes, nil, now); err != nil {
					t.Fatal(err)
				}
			},
			"reroute": func(t *rapid.T) {
				via := rapid.SampledFrom([]string{"one.test:25", "two.test:25"}).Draw(t, "via")
				ask("reroute", func(f custody.Filter) (custody.Steered, error) { return q.Reroute(ctx, f, course(via), now) }, via)
			},
			"back": func(*rapid.T) {
				ask("back", func(f custody.Filter) (custody.Steered, error) { return q.Reroute(ctx, f, course(""), now) }, "dns")
			},
			"bounce": func(*rapid.T) {
				ask("bounce", func(f custody.Filter) (custody.Steered, error) { return q.Bounce(ctx, f, course(""), now) }, "end")
			},
			"hold": func(*rapid.T) {
				ask("hold", func(f custody.Filter) (custody.Steered, error) { return q.Hold(ctx, f, mail.ReasonHeld, now) }, "")
			},
			"release": func(*rapid.T) {
				ask("release", func(f custody.Filter) (custody.Steered, error) { return q.Release(ctx, f, now) }, "")
			},
			"later":   func(*rapid.T) { now = now.Add(20 * time.Minute) },
			"restart": func(t *rapid.T) { engine, leases = engine.Reopen(), nil; q = open(whole, engine) },
			"": func(t *rapid.T) {
				entries, _, err := q.List(ctx, custody.Filter{})
				if err != nil {
					t.Fatal(err)
				}
				var d custody.Depth
				for _, e := range entries {
					for _, r := range e.Recipients {
						key := r.Address.String() + " " + string(e.ID)
						leads := ""
						if r.Course != nil {
							if leads = r.Course.Via; r.Course.End {
								leads = "end"
							}
						}
						if want, there := way[key]; !there || want != leads {
							t.Fatalf("%s is listed %q, wanted %q (%t)", key, leads, want, there)
						}
						switch r.State {
						case custody.StateQueued:
							d.Queued++
						case custody.StateLeased:
							d.Leased++
						case custody.StateHeld:
							d.Held++
						}
					}
				}
				if got := q.Depth(); d.Queued+d.Leased+d.Held != len(way) || got.Leased != d.Leased || got.Messages != len(entries) {
					t.Fatalf("%d recipients are known, listed %+v, counted %+v", len(way), d, got)
				}
			},
		})
		// In the end all of it can be leased.
		for _, l := range leases {
			if err := q.Settle(ctx, l, nil, nil, now); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := q.Release(ctx, custody.Filter{}, now); err != nil {
			t.Fatal(err)
		}
		n := 0
		for {
			got, err := q.Lease(ctx, now.Add(3*time.Hour), 50, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 {
				break
			}
			for _, l := range got {
				n += len(l.Recipients)
				var all []custody.Outcome
				for i := range l.Recipients {
					all = append(all, custody.Outcome{Index: i, Result: custody.Delivered})
				}
				if err := q.Settle(ctx, l, all, nil, now); err != nil {
					t.Fatal(err)
				}
			}
		}
		if d := q.Depth(); n != len(way) || d.Messages+d.Queued+d.Held+d.Leased != 0 {
			t.Fatalf("%d of %d were leased, %+v is left", n, len(way), d)
		}
	})
}
