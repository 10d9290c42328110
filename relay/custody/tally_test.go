package custody_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// manyLanes keeps a message each of some organisations to some domains.
func manyLanes(t testing.TB, q *custody.Queue, organisations, domains int) {
	t.Helper()
	var list []custody.Submission
	for o := range organisations {
		for d := range domains {
			s := submission(fmt.Sprintf("r@d%d.test", d))
			s.Warrant = warrantOf(fmt.Sprintf("org%d", o))
			list = append(list, s)
		}
	}
	for some := range slices.Chunk(list, 200) {
		if err := q.KeepMany(ctx, some, func(int) time.Time { return noon }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMailFlowsWhileTheQueueIsCounted: no count of the queue and no command over all of
// it keeps the others out for longer than it takes to look at some of it.
func TestMailFlowsWhileTheQueueIsCounted(t *testing.T) {
	const organisations, domains = 20, 200
	for name, count := range map[string]func(t *testing.T, q *custody.Queue){
		"the depth": func(t *testing.T, q *custody.Queue) {
			if d := q.Depth(); d.Queued != organisations*domains || len(d.Domains) != custody.MaxDepthDomains || !d.Oldest.Equal(noon) {
				t.Errorf("%d queued, %d domains, oldest %s", d.Queued, len(d.Domains), d.Oldest)
			}
		},
		"shares": func(t *testing.T, q *custody.Queue) {
			n := 0
			for s := range q.Shares {
				n += s.Queued + s.Leased
			}
			if n < organisations*domains-1000 {
				t.Errorf("%d are shared out", n)
			}
		},
		"suspending an organisation": func(t *testing.T, q *custody.Queue) {
			if err := q.Suspend(ctx, suspension(custody.ScopeOrganisation, "org1")); err != nil {
				t.Error(err)
			}
		},
		"a command": func(t *testing.T, q *custody.Queue) {
			if _, err := q.Hold(ctx, custody.Filter{Domain: domain("d1.test")}, mail.ReasonHeld, noon); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := open(t, memory.New())
			manyLanes(t, q, organisations, domains)
			rests := 0
			once := sync.Mutex{} // what flows meanwhile may walk too
			q.AtRest(func(looked int) {
				if !once.TryLock() {
					return
				}
				defer once.Unlock()
				if rests++; looked > custody.MaxLook {
					t.Errorf("%d were looked at without a rest", looked)
				}
				keep(t, q, submission(fmt.Sprintf("new@n%d.test", rests)), noon) // would wait for ever if it were locked out
				for _, l := range leaseSome(t, q, 3) {
					settle(t, q, l, custody.Outcome{Result: custody.Delivered}, noon)
				}
			})
			count(t, q)
			if name != "suspending an organisation" && rests < 3 {
				t.Errorf("there were %d rests", rests)
			}
			if wrong := q.Miscounted(); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

func leaseSome(t testing.TB, q *custody.Queue, want int) []*custody.Lease {
	t.Helper()
	leases, err := q.Lease(ctx, noon, want, nil)
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

// TestWhatIsSuspendedWhileItWasReadyIsLookedAtInParts: thousands of lanes that fell empty
// by a suspension do not make one call long, nor hide the rest.
func TestWhatIsSuspendedWhileItWasReadyIsLookedAtInParts(t *testing.T) {
	q := open(t, memory.New())
	manyLanes(t, q, 1, 3000)
	leaseSome(t, q, 1) // the others are ready now
	if err := q.Suspend(ctx, suspension(custody.ScopeOrganisation, "org0")); err != nil {
		t.Fatal(err)
	}
	want := keep(t, q, submission("r@free.test"), noon)
	for call := 1; ; call++ {
		if leases := leaseSome(t, q, 10); len(leases) == 1 && leases[0].ID == want {
			break
		}
		if due, ok := q.NextDue(noon); call > 20 || !ok || due.Sub(noon) > 10*time.Millisecond {
			t.Fatalf("call %d: the rest is looked at only at %s (%v)", call, due, ok)
		}
	}
	if err := q.Resume(ctx, suspension(custody.ScopeOrganisation, "org0")); err != nil {
		t.Fatal(err)
	}
	resumed := 0
	for call := 0; call < 20 && resumed < 2999; call++ {
		resumed += len(leaseSome(t, q, 3000))
	}
	if resumed != 2999 {
		t.Errorf("%d were leased after it was resumed", resumed)
	}
}

func TestWhatASuspensionIsAboutIsCountedWithoutALookAtTheQueue(t *testing.T) {
	q := open(t, memory.New())
	for i := range 5 {
		s := submission(fmt.Sprintf("r%d@one.test", i), "x@two.test")
		s.Warrant = provenWarrant(t) // of acme, by its source app
		keep(t, q, s, noon)
	}
	keep(t, q, submission("bounce@one.test"), noon) // of acme, by no source
	q.AtRest(func(int) { t.Error("the queue was walked") })
	for _, c := range []struct {
		scope custody.Scope
		name  string
		want  int
	}{
		{custody.ScopeOrganisation, "acme", 11}, {custody.ScopeSource, "acme/app", 10}, {custody.ScopeDomain, "one.test", 6},
		{custody.ScopeOrganisation, "globex", 0}, {custody.ScopeSource, "acme/other", 0}, {custody.ScopeDomain, "else.test", 0}, {custody.ScopeSite, "one.test", 0},
	} {
		if n := q.QueuedUnder(custody.Suspension{Scope: c.scope, Name: c.name}); n != c.want {
			t.Errorf("%s %s is about %d, want %d", c.scope, c.name, n, c.want)
		}
	}
}
