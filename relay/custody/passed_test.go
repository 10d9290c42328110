package custody_test

import (
	"fmt"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/relay/custody"
)

// TestMuchThatCannotGoDoesNotHideTheRest: of thousands of domains that are passed
// over a call looks at a bounded number, and goes on where the last one ended.
func TestMuchThatCannotGoDoesNotHideTheRest(t *testing.T) {
	const resting = 3000
	q := open(t, memory.New())
	for n := range resting {
		sub := submission(fmt.Sprintf("r@d%d.test", n))
		sub.Warrant = warrantOf(fmt.Sprintf("org%d", n%7))
		keep(t, q, sub, noon)
	}
	want := keep(t, q, submission("r@free.test"), noon.Add(time.Millisecond))
	now := noon.Add(time.Second)
	for call := 1; ; call++ {
		asked := 0
		leases, err := q.Lease(ctx, now, 10, func(c custody.Candidate) bool {
			asked++
			return c.Domain.String() != "free.test"
		})
		switch {
		case err != nil:
			t.Fatal(err)
		case asked > 300:
			t.Fatalf("call %d asked of %d", call, asked)
		case len(leases) == 1 && leases[0].ID == want:
			settle(t, q, leases[0], custody.Outcome{Result: custody.Delivered}, now)
			rests(t, q, now)
			return
		case len(leases) > 0 || call > 20:
			t.Fatalf("call %d gave %d leases", call, len(leases))
		}
		if due, ok := q.NextDue(now); !ok || due.Sub(now) > 10*time.Millisecond {
			t.Fatalf("the rest is looked at only at %s (%v)", due, ok)
		}
	}
}

// rests: when all was looked at and nothing could go, nothing is looked at again
// until something changes.
func rests(t *testing.T, q *custody.Queue, now time.Time) {
	t.Helper()
	for range 30 {
		if leases, err := q.Lease(ctx, now, 10, func(custody.Candidate) bool { return true }); err != nil || len(leases) > 0 {
			t.Fatalf("%d leases, %v", len(leases), err)
		}
		if due, ok := q.NextDue(now); !ok || due.Sub(now) > time.Second {
			return
		}
	}
	t.Error("it looks again and again")
}
