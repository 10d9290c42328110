package custody_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// submissionOf is a message of an organisation.
func submissionOf(organisation, to string, at time.Time) custody.Submission {
	s := submission(to)
	s.ID = mail.NewID(at)
	warrant, err := custody.NewNotice("about", org.ID(organisation))
	if err != nil {
		panic(err)
	}
	s.Warrant = warrant
	return s
}

// Between two leases of an organisation that has something due, any other gets at
// most one, and within an organisation the same holds for its domains; within one
// domain of one organisation what is due longest goes first; and nobody is forgotten.
func TestOrganisationsTakeTurnsAndNobodyStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, err := custody.OpenQueue(ctx, memory.New(), options)
		if err != nil {
			t.Fatal(err)
		}
		waiting := map[string]map[string]int{} // organisation, domain: messages
		total := 0
		for n := range rapid.IntRange(1, 4).Draw(t, "organisations") {
			name := fmt.Sprintf("org%d", n)
			waiting[name] = map[string]int{}
			for d := range rapid.IntRange(1, 3).Draw(t, "domains") {
				count := rapid.SampledFrom([]int{1, 2, 30}).Draw(t, "messages")
				to := fmt.Sprintf("d%d.test", d)
				for i := range count {
					if _, err := q.Keep(ctx, submissionOf(name, fmt.Sprintf("r@%s", to), noon), noon.Add(time.Duration(i)*time.Second)); err != nil {
						t.Fatal(err)
					}
				}
				waiting[name][to] = count
				total += count
			}
		}
		sinceOrg := map[string]map[string]int{}
		due := map[[2]string]time.Time{}
		for total > 0 {
			leases, err := q.Lease(ctx, noon.Add(time.Hour), rapid.IntRange(1, 7).Draw(t, "want"), nil)
			if err != nil || len(leases) == 0 {
				t.Fatalf("%d messages are left and none is leased: %v", total, err)
			}
			for _, l := range leases {
				name, to := l.Message.Organisation, l.Domain.String()
				for other, since := range sinceOrg {
					if since[name]++; other != name && since[name] > 1 {
						t.Fatalf("%s had %d leases while %s waited for one", name, since[name], other)
					}
				}
				delete(sinceOrg, name)
				k := [2]string{name, to}
				if l.Message.Kept.Before(due[k]) {
					t.Fatalf("%s to %s: one due %s after one due %s", name, to, l.Message.Kept, due[k])
				}
				due[k] = l.Message.Kept
				total--
				if waiting[name][to]--; waiting[name][to] == 0 {
					delete(waiting[name], to)
				}
				if len(waiting[name]) > 0 {
					sinceOrg[name] = map[string]int{}
				}
			}
		}
	})
}

// A flood of one organisation costs another one turn.
func TestAFloodDelaysOnlyItsOrganisation(t *testing.T) {
	q := open(t, memory.New())
	for n := range 2000 {
		keep(t, q, submissionOf("flood", fmt.Sprintf("r%d@big.test", n), noon), noon)
	}
	keep(t, q, submissionOf("quiet", "bob@big.test", noon), noon.Add(time.Minute))
	leases, err := q.Lease(ctx, noon.Add(time.Hour), 2, nil)
	if err != nil || len(leases) != 2 || leases[0].Message.Organisation == leases[1].Message.Organisation {
		t.Errorf("%d leases, %v", len(leases), err)
	}
}

func TestAClockThatIsPutBackFreezesNothing(t *testing.T) {
	q := open(t, memory.New())
	wrong := noon.Add(300 * 24 * time.Hour)
	id := keep(t, q, submission("bob@else.test"), wrong)
	settle(t, q, leaseOne(t, q, wrong), custody.Outcome{Result: custody.Deferred}, wrong)
	keep(t, q, submission("carol@else.test"), noon)
	settle(t, q, leaseOne(t, q, noon), custody.Outcome{Result: custody.Delivered}, noon)
	longest := noon.Add(66 * time.Minute)
	if due, ok := q.NextDue(noon); !ok || due.After(longest) {
		t.Fatalf("due %s, after the longest retry, %s", due, longest)
	}
	if l := leaseOne(t, q, longest); l.ID != id {
		t.Errorf("leased %s", l.ID)
	}
}

func TestAClockThatLeapsForwardLeavesEveryMessageAnAttempt(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, submission("bob@else.test"), noon)
	leap := noon.Add(300 * 24 * time.Hour)
	l := leaseOne(t, q, leap)
	if !l.Final(leap) || l.Attempt != 1 {
		t.Errorf("attempt %d, final %t", l.Attempt, l.Final(leap))
	}
	settle(t, q, l, custody.Outcome{Result: custody.Deferred, Again: true}, leap) // the site was not asked
	if r := show(t, q, id).Recipients[0]; !r.Due.After(leap) || r.Attempts != 1 {
		t.Errorf("%+v", r)
	}
	later := leap.Add(time.Hour)
	settle(t, q, leaseOne(t, q, later), custody.Outcome{Result: custody.Deferred}, later)
	gone(t, q, id)
}

func TestWhatIsReturnedIsDueLaterAndNotCounted(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("bob@else.test", "carol@else.test"), noon)
	l := leaseOne(t, q, noon)
	if _, err := q.Hold(ctx, custody.Filter{ID: id}, mail.ReasonHeld, noon); err != nil {
		t.Fatal(err)
	}
	other := keep(t, q, submission("dora@else.test"), noon)
	m := leaseOne(t, q, noon)
	until := noon.Add(5 * time.Minute)
	for range 2 { // twice is once
		if err := q.Return(ctx, []*custody.Lease{l, m}, until, "no room", noon); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range show(t, q, id).Recipients {
		if r.State != custody.StateHeld {
			t.Errorf("a hold was forgotten: %+v", r)
		}
	}
	if r := show(t, q, other).Recipients[0]; !r.Due.Equal(until) || r.Attempts != 0 || r.State != custody.StateQueued {
		t.Errorf("%+v", r)
	}
	if f := lastFact(t, engine); f.Detail != "not attempted: no room" || len(facts(t, engine)) != 7 {
		t.Errorf("%+v", facts(t, engine))
	}
	if leases := leaseAll(t, q, until); len(leases) != 1 || leases[0].ID != other || leases[0].Attempt != 1 {
		t.Errorf("%+v", leases)
	}
}
