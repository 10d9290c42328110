package custody_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// yielding is an engine during whose commits others run.
type yielding struct{ *memory.Engine }

func (y yielding) Commit(ctx context.Context, b *custody.Batch) error {
	runtime.Gosched()
	err := y.Engine.Commit(ctx, b)
	runtime.Gosched()
	return err
}

func TestManyWorkersEndEveryRecipientOnce(t *testing.T) {
	const messages, domains, workers = 60, 12, 8
	engine := yielding{memory.New()}
	q := open(t, engine)
	to := make([]string, domains)
	for i := range to {
		to[i] = fmt.Sprintf("r@d%d.test", i)
	}
	var left atomic.Int64
	left.Store(messages * domains)
	var keeping, working sync.WaitGroup
	keeping.Go(func() {
		for range messages {
			if _, err := q.Keep(ctx, submission(to...), noon); err != nil {
				t.Error(err)
			}
		}
	})
	keeping.Go(func() {
		for range messages {
			_, err := q.Hold(ctx, custody.Filter{Domain: domain("d3.test")}, mail.ReasonHeld, noon)
			_, err2 := q.Release(ctx, custody.Filter{}, noon)
			_, _, err3 := q.List(ctx, custody.Filter{})
			q.Depth()
			if err := errors.Join(err, err2, err3); err != nil {
				t.Error(err)
			}
		}
	})
	for range workers {
		working.Go(func() {
			for left.Load() > 0 && !t.Failed() {
				leases, err := q.Lease(ctx, noon, 5, nil)
				if err != nil {
					t.Error(err)
				}
				for _, l := range leases {
					left.Add(-int64(work(t, q, l)))
				}
				if len(leases) == 0 {
					runtime.Gosched()
					if _, err := q.Release(ctx, custody.Filter{}, noon); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	keeping.Wait()
	working.Wait()
	if found := keys(t, engine); len(found) > 0 {
		t.Errorf("left %v", found)
	}
	delivered := map[string]int{}
	for _, f := range facts(t, engine) {
		if f.Event == ledger.Delivered {
			delivered[string(f.ID)+f.Rcpt[0]]++
		}
	}
	for k, n := range delivered {
		if n != 1 {
			t.Errorf("%s was delivered %d times", k, n)
		}
	}
	if len(delivered) != messages*domains {
		t.Errorf("%d recipients were delivered, want %d", len(delivered), messages*domains)
	}
	if d := q.Depth(); d.Messages+d.Queued+d.Held+d.Leased+len(d.Domains) > 0 {
		t.Errorf("%+v", d)
	}
}

// work delivers a lease, or now and then does not try.
func work(t *testing.T, q *custody.Queue, l *custody.Lease) (done int) {
	if _, _, err := q.Load(ctx, l); err != nil {
		t.Error(err)
	}
	result := custody.Delivered
	if rand.IntN(4) == 0 {
		result = custody.Untried
	}
	if err := q.Settle(ctx, l, all(l, custody.Outcome{Result: result}), nil, noon); err != nil {
		t.Error(err)
	}
	if result == custody.Delivered {
		return len(l.Recipients)
	}
	return 0
}
