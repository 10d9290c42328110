package custody_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func steered(t *testing.T, s custody.Steered, err error, want custody.Steered) {
	t.Helper()
	if err != nil || s != want {
		t.Errorf("%+v, %v, want %+v", s, err, want)
	}
}

func TestHeldMailStaysUntilItIsReleased(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("a@else.test", "b@other.test"), noon)
	s, err := q.Hold(ctx, custody.Filter{ID: id}, mail.ReasonHeld, noon)
	steered(t, s, err, custody.Steered{Messages: 1, Recipients: 2})
	engine = engine.Reopen()
	q = open(t, engine)
	if leases := leaseAll(t, q, noon.Add(time.Hour)); len(leases) > 0 {
		t.Error("what is held was leased")
	}
	if d := q.Depth(); d.Held != 2 || d.Queued != 0 {
		t.Errorf("%+v", d)
	}
	s, err = q.Release(ctx, custody.Filter{Domain: domain("other.test")}, noon.Add(time.Hour))
	steered(t, s, err, custody.Steered{Messages: 1, Recipients: 1})
	if l := leaseOne(t, q, noon.Add(time.Hour)); l.Domain != domain("other.test") {
		t.Errorf("%+v", l)
	}
	want := []string{"accepted a@else.test b@other.test", "held a@else.test", "held b@other.test", "released b@other.test", "leased b@other.test"}
	if diff := cmp.Diff(want, story(t, engine, id)); diff != "" {
		t.Error(diff)
	}
}

func TestAMessageCanBeKeptHeld(t *testing.T) {
	q := open(t, memory.New())
	s := submission("bob@else.test")
	s.Held = mail.ReasonHeld
	id := keep(t, q, s, noon)
	if leases := leaseAll(t, q, noon); len(leases) > 0 {
		t.Error("leased")
	}
	if r := show(t, q, id).Recipients[0]; r.State != custody.StateHeld || r.Reason != mail.ReasonHeld {
		t.Errorf("%+v", r)
	}
	if _, err := q.Release(ctx, custody.Filter{}, noon.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	leaseOne(t, q, noon.Add(time.Minute))
}

func TestRetryMakesDueWhatIsQueued(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, submission("bob@else.test"), noon)
	settle(t, q, leaseOne(t, q, noon), custody.Outcome{Result: custody.Deferred, Reply: "451"}, noon)
	if leases := leaseAll(t, q, noon.Add(time.Minute)); len(leases) > 0 {
		t.Fatal("due at once")
	}
	s, err := q.Retry(ctx, custody.Filter{ID: id}, noon.Add(time.Minute))
	steered(t, s, err, custody.Steered{Messages: 1, Recipients: 1})
	if l := leaseOne(t, q, noon.Add(time.Minute)); l.Attempt != 2 || l.Recipients[0].LastReply != "451" {
		t.Errorf("%+v", l)
	}
}

func TestDroppedMailIsGoneWithoutABounce(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("a@else.test", "b@other.test"), noon)
	other := keep(t, q, submission("c@else.test"), noon)
	s, err := q.Drop(ctx, custody.Filter{ID: id}, noon)
	steered(t, s, err, custody.Steered{Messages: 1, Recipients: 2})
	gone(t, q, id)
	if _, err := engine.OpenBody(ctx, string(id)); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("the body is still there: %v", err)
	}
	if diff := cmp.Diff([]string{"accepted a@else.test b@other.test", "dropped a@else.test", "dropped b@other.test"}, story(t, engine, id)); diff != "" {
		t.Error(diff)
	}
	if l := leaseOne(t, q, noon); l.ID != other {
		t.Error("the wrong message was dropped")
	}
}

func TestACommandDuringAnAttemptTakesEffectIfItFails(t *testing.T) {
	type steer func(*custody.Queue, custody.Filter) (custody.Steered, error)
	hold := func(q *custody.Queue, f custody.Filter) (custody.Steered, error) {
		return q.Hold(ctx, f, mail.ReasonHeld, noon)
	}
	drop := func(q *custody.Queue, f custody.Filter) (custody.Steered, error) { return q.Drop(ctx, f, noon) }
	for name, c := range map[string]struct {
		steer   steer
		result  custody.Result
		restart bool // instead of settling
		want    []string
		left    custody.State
	}{
		"hold, delivered":    {steer: hold, result: custody.Delivered, want: []string{"held bob@else.test", "delivered bob@else.test"}},
		"hold, deferred":     {steer: hold, result: custody.Deferred, want: []string{"held bob@else.test", "held bob@else.test"}, left: custody.StateHeld},
		"hold, not tried":    {steer: hold, result: custody.Untried, want: []string{"held bob@else.test", "held bob@else.test"}, left: custody.StateHeld},
		"hold, bounced":      {steer: hold, result: custody.Bounced, want: []string{"held bob@else.test", "bounced bob@else.test"}},
		"hold, then a crash": {steer: hold, restart: true, want: []string{"held bob@else.test"}, left: custody.StateHeld},
		"drop, delivered":    {steer: drop, result: custody.Delivered, want: []string{"dropped bob@else.test", "delivered bob@else.test"}},
		"drop, deferred":     {steer: drop, result: custody.Deferred, want: []string{"dropped bob@else.test", "dropped bob@else.test"}},
		"drop, held":         {steer: drop, result: custody.Held, want: []string{"dropped bob@else.test", "dropped bob@else.test"}},
		"drop, then a crash": {steer: drop, restart: true, want: []string{"dropped bob@else.test", "dropped bob@else.test"}},
	} {
		t.Run(name, func(t *testing.T) {
			engine := memory.New()
			q := open(t, engine)
			id := keep(t, q, submission("bob@else.test"), noon)
			l := leaseOne(t, q, noon)
			s, err := c.steer(q, custody.Filter{})
			steered(t, s, err, custody.Steered{Messages: 1, Recipients: 1, Later: 1})
			if e := show(t, q, id); e.Recipients[0].State != custody.StateLeased {
				t.Errorf("%+v", e)
			}
			if c.restart {
				engine = engine.Reopen()
				q = open(t, engine)
			} else {
				settle(t, q, l, custody.Outcome{Result: c.result}, noon)
			}
			if diff := cmp.Diff(c.want, story(t, engine, id)[2:]); diff != "" {
				t.Error(diff)
			}
			if c.left == "" {
				gone(t, q, id)
				if found := keys(t, engine); len(found) > 0 {
					t.Errorf("left %v", found)
				}
				return
			}
			if e := show(t, q, id); e.Recipients[0].State != c.left || e.Recipients[0].Reason != mail.ReasonHeld {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestWhatWasReleasedIsDueSinceThen(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, submission("bob@else.test"), noon)
	later := noon.Add(time.Hour)
	_, err1 := q.Hold(ctx, custody.Filter{}, mail.ReasonHeld, noon)
	_, err2 := q.Release(ctx, custody.Filter{}, later)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	settle(t, q, leaseOne(t, q, later), custody.Outcome{Result: custody.Untried}, later)
	if r := show(t, q, id).Recipients[0]; !r.Due.Equal(later) {
		t.Errorf("due %s", r.Due)
	}
}

// gated is an engine whose commits wait.
type gated struct {
	*memory.Engine
	gate    chan struct{}
	waiting *atomic.Int32
}

func (g gated) Commit(ctx context.Context, b *custody.Batch) error {
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	<-g.gate
	return g.Engine.Commit(ctx, b)
}

func TestSettlingWaitsForACommandThatIsBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := gated{memory.New(), make(chan struct{}, 1000), new(atomic.Int32)}
		for range 3 { // for OpenQueue, Keep and Lease
			engine.gate <- struct{}{}
		}
		q := open(t, engine)
		keep(t, q, submission("bob@else.test"), noon)
		l := leaseOne(t, q, noon)
		go func() {
			if _, err := q.Hold(ctx, custody.Filter{}, mail.ReasonHeld, noon); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait() // the hold is being written
		settled := false
		go func() {
			settle(t, q, l, custody.Outcome{Result: custody.Delivered}, noon)
			settled = true
		}()
		synctest.Wait()
		if n := engine.waiting.Load(); n != 1 {
			t.Errorf("%d commits about one recipient are in flight", n)
		}
		engine.gate <- struct{}{}
		engine.gate <- struct{}{}
		synctest.Wait()
		if !settled {
			t.Error("the settling never came to its turn")
		}
		if found := keys(t, engine); len(found) > 0 {
			t.Errorf("the command was written after the end: %v", found)
		}
	})
}

func TestACommandThatCannotBeWrittenChangesNothing(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	id := keep(t, q, submission("a@else.test", "b@else.test"), noon)
	engine.set(true, false)
	if s, err := q.Drop(ctx, custody.Filter{ID: id}, noon); !errors.Is(err, errLost) || s != (custody.Steered{}) {
		t.Errorf("%+v, %v", s, err)
	}
	engine.set(false, false)
	if l := leaseOne(t, q, noon); len(l.Recipients) != 2 {
		t.Errorf("%+v", l.Recipients)
	}
}

func TestListPagesInOrderAndFilters(t *testing.T) {
	q := open(t, memory.New())
	var ids []mail.ID
	for i := range 7 {
		s := submission(fmt.Sprintf("r@d%d.test", i%2))
		s.ID = mail.NewID(noon.Add(time.Duration(i) * time.Second))
		ids = append(ids, keep(t, q, s, noon))
	}
	var got []mail.ID
	f := custody.Filter{Limit: 3}
	for pages := 0; pages == 0 || f.After != ""; pages++ {
		entries, next, err := q.List(ctx, f)
		if err != nil || len(entries) > 3 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		for _, e := range entries {
			got = append(got, e.ID)
		}
		f.After = next
	}
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Error(diff)
	}
	for name, c := range map[string]struct {
		filter custody.Filter
		want   int
	}{
		"all":                     {custody.Filter{}, 7},
		"a domain":                {custody.Filter{Domain: domain("d1.test")}, 3},
		"an organisation":         {custody.Filter{Org: "acme"}, 7},
		"no other organisation":   {custody.Filter{Org: "globex"}, 0},
		"a state nothing is in":   {custody.Filter{State: custody.StateHeld}, 0},
		"one message":             {custody.Filter{ID: ids[3]}, 1},
		"one message, other side": {custody.Filter{ID: ids[3], Domain: domain("d0.test")}, 0},
	} {
		if entries, _, err := q.List(ctx, c.filter); err != nil || len(entries) != c.want {
			t.Errorf("%s: %d entries, %v", name, len(entries), err)
		}
	}
}

func TestShowSaysWhereEachRecipientStands(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, submission("a@queued.test", "b@leased.test", "c@held.test"), noon)
	if _, err := q.Hold(ctx, custody.Filter{Domain: domain("held.test")}, mail.ReasonHeld, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Lease(ctx, noon, 1, func(c custody.Candidate) bool { return c.Domain != domain("leased.test") }); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range show(t, q, id).Recipients {
		got = append(got, fmt.Sprintf("%s %s", r.Address, r.State))
	}
	if diff := cmp.Diff([]string{"a@queued.test queued", "b@leased.test leased", "c@held.test held"}, got); diff != "" {
		t.Error(diff)
	}
	if d := q.Depth(); d.Messages != 1 || d.Queued != 1 || d.Leased != 1 || d.Held != 1 || !d.Oldest.Equal(noon) || len(d.Domains) != 1 {
		t.Errorf("%+v", d)
	}
	if _, err := q.Show(ctx, "no id"); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestACommandForManyMessagesReachesAll(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	for range 300 {
		keep(t, q, submission("a@else.test", "b@other.test"), noon)
	}
	s, err := q.Hold(ctx, custody.Filter{Domain: domain("else.test")}, mail.ReasonHeld, noon)
	steered(t, s, err, custody.Steered{Messages: 300, Recipients: 300})
	s, err = q.Drop(ctx, custody.Filter{Limit: 10}, noon)
	steered(t, s, err, custody.Steered{Messages: 10, Recipients: 20})
	s, err = q.Drop(ctx, custody.Filter{}, noon)
	steered(t, s, err, custody.Steered{Messages: 290, Recipients: 580})
	if found := keys(t, engine); len(found) > 0 {
		t.Errorf("left %d records", len(found))
	}
	if r, err := ledger.Verify(ctx, engine); err != nil || !r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
}
