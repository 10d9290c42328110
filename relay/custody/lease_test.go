package custody_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func TestRecipientsAtOneDomainGoTogether(t *testing.T) {
	q := open(t, memory.New())
	keep(t, q, submission("a@else.test", "b@other.test", "c@ELSE.test", "d@else.test"), noon)
	var got []string
	for _, l := range leaseAll(t, q, noon) {
		s := l.Domain.String() + ":"
		for _, r := range l.Recipients {
			s += " " + r.Address.Local()
		}
		got = append(got, s)
	}
	if diff := cmp.Diff([]string{"else.test: a c d", "other.test: b"}, sorted(got)); diff != "" {
		t.Error(diff)
	}
}

func TestDomainsTakeTurnsAndTheOldestGoesFirst(t *testing.T) {
	q := open(t, memory.New())
	names := map[mail.ID]string{}
	for i, to := range []string{"x@big.test", "x@big.test", "x@big.test", "x@small.test", "x@big.test", "x@tiny.test"} {
		at := noon.Add(time.Duration(i) * time.Second)
		names[keep(t, q, submission(to), at)] = fmt.Sprintf("%d", i)
	}
	var order []string
	for range 3 {
		leases, err := q.Lease(ctx, noon.Add(time.Minute), 2, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leases {
			order = append(order, names[l.ID])
		}
	}
	if got := strings.Join(order, " "); got != "0 3 5 1 2 4" {
		t.Errorf("order %s", got)
	}
}

func TestASkippedDomainKeepsItsTurn(t *testing.T) {
	q := open(t, memory.New())
	for i, to := range []string{"x@slow.test", "x@a.test", "x@b.test"} {
		keep(t, q, submission(to), noon.Add(time.Duration(i)))
	}
	skip := true
	slow := func(c custody.Candidate) bool { return skip && c.Domain == domain("slow.test") }
	var got []string
	for range 3 {
		leases, err := q.Lease(ctx, noon.Add(time.Minute), 1, slow)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leases {
			got = append(got, l.Domain.String())
		}
		skip = len(got) < 1
	}
	if diff := cmp.Diff([]string{"a.test", "slow.test", "b.test"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestALeaseIsExclusiveUntilItIsSettled(t *testing.T) {
	q := open(t, memory.New())
	keep(t, q, submission("bob@else.test"), noon)
	l := leaseOne(t, q, noon)
	if again := leaseAll(t, q, noon.Add(time.Hour)); len(again) > 0 {
		t.Error("leased twice")
	}
	settle(t, q, l, custody.Outcome{Result: custody.Delivered}, noon)
	if err := q.Settle(ctx, l, nil, nil, noon); !errors.Is(err, custody.ErrNoLease) {
		t.Errorf("settled twice: %v", err)
	}
}

func TestTheLeaseIsInTheLedgerBeforeTheAttempt(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	id := keep(t, q, submission("bob@else.test"), noon)
	engine.set(true, false)
	if leases, err := q.Lease(ctx, noon, 1, nil); !errors.Is(err, errLost) || leases != nil {
		t.Errorf("leased without a fact: %v, %v", leases, err)
	}
	engine.set(false, false)
	leaseOne(t, q, noon)
	if diff := cmp.Diff([]string{"accepted bob@else.test", "leased bob@else.test"}, story(t, engine, id)); diff != "" {
		t.Error(diff)
	}
}

func TestADeliveredMessageLeavesNothingButFacts(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("a@else.test", "b@other.test"), noon)
	for _, l := range leaseAll(t, q, noon) {
		settle(t, q, l, custody.Outcome{Result: custody.Delivered, Reply: "250 Ok", Site: "mx.test", TLS: "TLS1.3"}, noon)
	}
	if found := keys(t, engine); len(found) > 0 {
		t.Errorf("left %v", found)
	}
	if _, err := engine.OpenBody(ctx, string(id)); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("the body is still there: %v", err)
	}
	f := lastFact(t, engine)
	if f.Event != ledger.Delivered || f.Reply != "250 Ok" || f.Site != "mx.test" || f.TLS != "TLS1.3" || f.Attempt != 1 || f.Disposition != ledger.DispositionRelayed {
		t.Errorf("%+v", f)
	}
	if d := q.Depth(); d.Messages+d.Queued+d.Leased+d.Held+len(d.Domains) != 0 {
		t.Errorf("%+v", d)
	}
}

func TestTheLastRecipientTakesTheMessageInTheSameBatch(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	keep(t, q, submission("bob@else.test"), noon)
	settle(t, q, leaseOne(t, q, noon), custody.Outcome{Result: custody.Delivered}, noon)
	if b := engine.last; len(b.Delete) != 2 || len(b.DeleteBody) != 1 || len(b.Facts) != 1 || b.Lazy {
		t.Errorf("%+v", b)
	}
}

func TestDeferralsFollowTheScheduleGiveOrTakeATenth(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, submission("bob@else.test"), noon)
	now := noon
	for attempt, want := range []time.Duration{10 * time.Minute, time.Hour, time.Hour} {
		l := leaseOne(t, q, now)
		if l.Attempt != attempt+1 || l.Recipients[0].Attempts != attempt {
			t.Fatalf("attempt %d: %+v", attempt+1, l)
		}
		settle(t, q, l, custody.Outcome{Result: custody.Deferred, Reply: "451 later"}, now)
		r := show(t, q, id).Recipients[0]
		if wait := r.Due.Sub(now); wait < want*9/10 || wait > want*11/10 {
			t.Errorf("after attempt %d the next is due in %s, want about %s", attempt+1, wait, want)
		}
		if r.LastReply != "451 later" || r.Attempts != attempt+1 || r.State != custody.StateQueued {
			t.Errorf("%+v", r)
		}
		if early := leaseAll(t, q, r.Due.Add(-1)); len(early) > 0 {
			t.Error("leased before it is due")
		}
		if due, ok := q.NextDue(now); !ok || !due.Equal(r.Due) {
			t.Errorf("NextDue %s, %t, want %s", due, ok, r.Due)
		}
		now = r.Due
	}
}

func TestNotBeforeIsHonoured(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, submission("bob@else.test"), noon)
	later := noon.Add(65 * time.Minute) // the longest retry is 66 minutes off
	settle(t, q, leaseOne(t, q, noon), custody.Outcome{Result: custody.Deferred, NotBefore: later}, noon)
	if r := show(t, q, id).Recipients[0]; !r.Due.Equal(later) {
		t.Errorf("due %s", r.Due)
	}
	settle(t, q, leaseOne(t, q, later), custody.Outcome{Result: custody.Untried, NotBefore: later.Add(time.Minute)}, later)
	if r := show(t, q, id).Recipients[0]; !r.Due.Equal(later.Add(time.Minute)) || r.Attempts != 1 {
		t.Errorf("%+v", r)
	}
}

func TestWhatWasNotTriedIsDueAsBeforeAndNotCounted(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("a@else.test", "b@else.test"), noon)
	l := leaseOne(t, q, noon)
	if err := q.Settle(ctx, l, []custody.Outcome{{Index: 0, Result: custody.Delivered}}, nil, noon); err != nil {
		t.Fatal(err)
	}
	e := show(t, q, id)
	if len(e.Recipients) != 1 || e.Recipients[0].Attempts != 0 || !e.Recipients[0].Due.Equal(noon) {
		t.Errorf("%+v", e)
	}
	if l := leaseOne(t, q, noon); l.Attempt != 1 || l.Recipients[0].Address != address("b@else.test") {
		t.Errorf("%+v", l)
	}
}

func TestRecipientsThatFaredTheSameShareAFact(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("a@else.test", "b@else.test", "c@else.test", "d@else.test"), noon)
	l := leaseOne(t, q, noon)
	err := q.Settle(ctx, l, []custody.Outcome{
		{Index: 0, Result: custody.Delivered, Reply: "250 Ok"}, {Index: 1, Result: custody.Bounced, Reply: "550 no"},
		{Index: 2, Result: custody.Delivered, Reply: "250 Ok"}, {Index: 3, Result: custody.Deferred, Reply: "451 later"},
	}, nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"delivered a@else.test c@else.test", "bounced b@else.test", "deferred d@else.test"}
	if diff := cmp.Diff(want, story(t, engine, id)[2:]); diff != "" {
		t.Error(diff)
	}
}

func TestAnOutcomeForNobodyIsRefused(t *testing.T) {
	q := open(t, memory.New())
	keep(t, q, submission("bob@else.test"), noon)
	l := leaseOne(t, q, noon)
	for _, o := range []custody.Outcome{{Index: 1}, {Index: -1}, {Result: 99}} {
		if err := q.Settle(ctx, l, []custody.Outcome{o}, nil, noon); err == nil {
			t.Errorf("%+v was settled", o)
		}
	}
	settle(t, q, l, custody.Outcome{Result: custody.Delivered}, noon)
}

func TestAnExpiredMessageIsTriedOnceMoreAndBounces(t *testing.T) {
	engine := memory.New()
	slow := options
	slow.RetryAfter = []time.Duration{30 * time.Hour} // longer than it has time
	q, err := custody.OpenQueue(ctx, engine, slow)
	if err != nil {
		t.Fatal(err)
	}
	id := keep(t, q, submission("bob@else.test"), noon)
	expires := noon.Add(24 * time.Hour)
	l := leaseOne(t, q, noon)
	if l.Final(noon) {
		t.Error("final at its first attempt")
	}
	settle(t, q, l, custody.Outcome{Result: custody.Deferred}, noon)
	if r := show(t, q, id).Recipients[0]; !r.Due.Equal(expires) {
		t.Fatalf("due %s, after it expires", r.Due)
	}
	l = leaseOne(t, q, expires)
	if !l.Final(expires) {
		t.Error("not final when it expires")
	}
	settle(t, q, l, custody.Outcome{Result: custody.Deferred, Reply: "451 later"}, expires)
	gone(t, q, id)
	if f := lastFact(t, engine); f.Event != ledger.Bounced || f.Reply != "451 later" || !strings.HasPrefix(f.Detail, "expired") {
		t.Errorf("%+v", f)
	}
}

func TestPolicyHoldsWhatWasRevokedMeanwhile(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("bob@else.test"), noon)
	settle(t, q, leaseOne(t, q, noon), custody.Outcome{Result: custody.Held, Reason: mail.ReasonSourceSuspended}, noon)
	q = open(t, engine.Reopen())
	if leases := leaseAll(t, q, noon.Add(time.Hour)); len(leases) > 0 {
		t.Error("what is held was leased")
	}
	if r := show(t, q, id).Recipients[0]; r.State != custody.StateHeld || r.Reason != mail.ReasonSourceSuspended || r.Attempts != 0 {
		t.Errorf("%+v", r)
	}
}

func TestABounceIsKeptInTheBatchThatSettles(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	id := keep(t, q, submission("bob@else.test"), noon)
	notice := submission("ann@acme.test")
	notice.Envelope.From = mail.Address{}
	l := leaseOne(t, q, noon)
	engine.set(true, false)
	if err := q.Settle(ctx, l, all(l, custody.Outcome{Result: custody.Bounced}), []custody.Submission{notice}, noon); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	gone(t, q, notice.ID)
	engine.set(false, false) // the lease goes on, and can be settled again
	if err := q.Settle(ctx, l, all(l, custody.Outcome{Result: custody.Bounced}), []custody.Submission{notice}, noon); err != nil {
		t.Fatal(err)
	}
	gone(t, q, id)
	l = leaseOne(t, q, noon)
	if l.ID != notice.ID || !l.Message.Envelope.From.IsZero() || l.Message.Kind != custody.KindNotice {
		t.Errorf("%+v", l)
	}
}

func TestABadNoticeSettlesNothing(t *testing.T) {
	q := open(t, memory.New())
	keep(t, q, submission("bob@else.test"), noon)
	l := leaseOne(t, q, noon)
	notice := submission("ann@acme.test")
	notice.Warrant = custody.Notice{}
	if err := q.Settle(ctx, l, all(l, custody.Outcome{Result: custody.Bounced}), []custody.Submission{notice}, noon); !errors.Is(err, custody.ErrNoWarrant) {
		t.Errorf("%v", err)
	}
	settle(t, q, l, custody.Outcome{Result: custody.Delivered}, noon)
}

func TestALeaseDoesNotSurviveARestart(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("bob@else.test"), noon)
	leaseOne(t, q, noon)
	q = open(t, engine.Clone())
	if l := leaseOne(t, q, noon); l.ID != id || l.Attempt != 1 {
		t.Errorf("%+v", l)
	}
}

func TestManyRecipientsDoNotRewriteEachOther(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	to := make([]string, 1000)
	for i := range to {
		to[i] = fmt.Sprintf("r%d@d%d.test", i, i)
	}
	keep(t, q, submission(to...), noon)
	leases := leaseAll(t, q, noon)
	if len(leases) != 1000 {
		t.Fatalf("%d leases", len(leases))
	}
	settle(t, q, leases[0], custody.Outcome{Result: custody.Deferred}, noon)
	if b := engine.last; len(b.Put) != 1 || len(b.Delete) != 0 {
		t.Errorf("one deferral puts %d records and deletes %d", len(b.Put), len(b.Delete))
	}
	for _, l := range leases[1:] {
		settle(t, q, l, custody.Outcome{Result: custody.Delivered}, noon)
	}
	if found := keys(t, engine); len(found) != 2 {
		t.Errorf("%d records are left, want message and recipient", len(found))
	}
}

func TestKeepWakesTheDispatcher(t *testing.T) {
	q := open(t, memory.New())
	<-q.Wake() // a queue that was opened may have something due
	if due, ok := q.NextDue(noon); ok {
		t.Errorf("an empty queue has something due at %s", due)
	}
	keep(t, q, submission("bob@else.test"), noon)
	<-q.Wake()
	if _, ok := q.NextDue(noon); ok {
		t.Error("what is due is told as something to come")
	}
	if due, ok := q.NextDue(noon.Add(-time.Second)); ok {
		t.Errorf("a domain that was due is told to come at %s", due)
	}
}

// Damage to what is stored is found before anything is sent.
func TestWhatDoesNotOpenIsSetAsideAndNeverSent(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, e *memory.Engine, id mail.ID){
		"an octet of the body": func(t *testing.T, e *memory.Engine, id mail.ID) {
			e.PutBody(string(id), bytes.Replace(append(header.Bytes(), text...), []byte("Hello."), []byte("Hallo."), 1))
		},
		"the body is cut short": func(t *testing.T, e *memory.Engine, id mail.ID) { e.PutBody(string(id), header.Bytes()) },
		"another sender": func(t *testing.T, e *memory.Engine, id mail.ID) {
			edit(t, e, "message/", "ann@acme.test", "eve@acme.test")
		},
		"another organisation": func(t *testing.T, e *memory.Engine, id mail.ID) {
			edit(t, e, "message/", `"org":"acme"`, `"org":"evil"`)
		},
		"another signing domain": func(t *testing.T, e *memory.Engine, id mail.ID) {
			edit(t, e, "message/", `"sign_as":"acme.test"`, `"sign_as":"evil.test"`)
		},
		"another kind of warrant": func(t *testing.T, e *memory.Engine, id mail.ID) {
			edit(t, e, "message/", `"kind":"proven"`, `"kind":"notice"`)
		},
		"a kind there is not": func(t *testing.T, e *memory.Engine, id mail.ID) {
			edit(t, e, "message/", `"kind":"proven"`, `"kind":"trusted"`)
		},
		"a later expiry":            func(t *testing.T, e *memory.Engine, id mail.ID) { edit(t, e, "message/", "2026-11-23", "2036-11-23") },
		"another recipient":         func(t *testing.T, e *memory.Engine, id mail.ID) { edit(t, e, "recipient/", "bob@else", "eve@else") },
		"a message that is no JSON": func(t *testing.T, e *memory.Engine, id mail.ID) { e.Put("message/"+string(id), []byte("\x01{")) },
		"a recipient that is not":   func(t *testing.T, e *memory.Engine, id mail.ID) { edit(t, e, "recipient/", "{", "[") },
	} {
		for _, sum := range []bool{false, true} { // of what is there now: the damage was done on purpose
			t.Run(fmt.Sprintf("%s, summed %t", name, sum), func(t *testing.T) {
				engine := memory.New()
				q := open(t, engine)
				s := submission("bob@else.test")
				s.Warrant = provenWarrant(t)
				id := keep(t, q, s, noon)
				damage(t, engine, id)
				if sum {
					sumAgain(t, engine)
				}
				q = open(t, engine)
				for _, l := range leaseAll(t, q, noon) {
					if c, w, err := q.Load(ctx, l); !errors.Is(err, custody.ErrSetAside) {
						t.Fatalf("loaded %q by %v: %v", read(t, c), w, err)
					}
					if err := q.Settle(ctx, l, nil, nil, noon); !errors.Is(err, custody.ErrNoLease) {
						t.Errorf("the lease is not over: %v", err)
					}
				}
				for range 2 {
					if leases := leaseAll(t, q, noon.Add(48*time.Hour)); len(leases) > 0 {
						t.Fatal("leased again")
					}
					if f := lastFact(t, engine); f.Event != ledger.SetAside || f.ID != id || f.Detail == "" {
						t.Errorf("%+v", f)
					}
					if _, err := engine.OpenBody(ctx, string(id)); err != nil {
						t.Errorf("the body is not kept: %v", err)
					}
					if found := keys(t, engine); len(found) != 2 || !strings.HasPrefix(found[0], "aside/message/") || !strings.HasPrefix(found[1], "aside/recipient/") {
						t.Errorf("records %v", found)
					}
					engine = engine.Reopen()
					q = open(t, engine)
				}
			})
		}
	}
}

// sumAgain gives every record the sum of what it holds.
func sumAgain(t *testing.T, e *memory.Engine) {
	t.Helper()
	for _, prefix := range []string{"message/", "recipient/"} {
		err := e.Scan(ctx, prefix, "", func(key string, value []byte) bool {
			if value[0] == 2 {
				e.Put(key, custody.SumAgain(bytes.Clone(value)))
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// edit replaces text in the one record whose key begins with prefix.
func edit(t *testing.T, e *memory.Engine, prefix, old, new string) {
	t.Helper()
	err := e.Scan(ctx, prefix, "", func(key string, value []byte) bool {
		changed := strings.Replace(string(value), old, new, 1)
		if changed == string(value) {
			t.Errorf("%s does not say %s: %s", key, old, value)
		}
		e.Put(key, []byte(changed))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAQueueOpensWithTheKeyItWasSealedWithOnly(t *testing.T) {
	engine := memory.New()
	keep(t, open(t, engine), submission("bob@else.test"), noon)
	if _, err := custody.OpenQueue(ctx, engine, custody.Options{SealKey: bytes.Repeat([]byte{8}, 32)}); !errors.Is(err, custody.ErrSealKey) {
		t.Errorf("opened with another key: %v", err)
	}
	leaseOne(t, open(t, engine), noon)
}

func TestARecordOfOneMessageDoesNotServeAnother(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	a, b := submission("bob@else.test"), submission("bob@else.test")
	a.Warrant = provenWarrant(t)
	keep(t, q, a, noon)
	keep(t, q, b, noon)
	stolen, err := engine.Get(ctx, "message/"+string(a.ID))
	if err != nil {
		t.Fatal(err)
	}
	engine.Put("message/"+string(b.ID), stolen)
	q = open(t, engine)
	loaded := 0
	for _, l := range leaseAll(t, q, noon) {
		_, _, err := q.Load(ctx, l)
		if l.ID == b.ID && !errors.Is(err, custody.ErrSetAside) {
			t.Errorf("the proof of another message was taken: %v", err)
		}
		if err == nil {
			loaded++
		}
	}
	if loaded != 1 {
		t.Errorf("%d messages loaded", loaded)
	}
}

func TestOneDamagedRecipientDoesNotStopTheOthers(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("a@else.test", "b@else.test"), noon)
	engine.Put("recipient/"+string(id)+"/00000000", []byte("torn"))
	engine = engine.Reopen()
	q = open(t, engine)
	l := leaseOne(t, q, noon)
	if len(l.Recipients) != 1 || l.Recipients[0].Address != address("b@else.test") {
		t.Fatalf("%+v", l.Recipients)
	}
	settle(t, q, l, custody.Outcome{Result: custody.Delivered}, noon)
	want := []string{"aside/message/" + string(id), "aside/recipient/" + string(id) + "/00000000"}
	if diff := cmp.Diff(want, keys(t, engine)); diff != "" {
		t.Error(diff)
	}
	if _, err := engine.OpenBody(ctx, string(id)); err != nil {
		t.Errorf("what was set aside lost its body: %v", err)
	}
}

func TestRecordsThatBelongToNothingAreSetAside(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("bob@else.test"), noon)
	engine.Remove("message/" + string(id))
	engine.Put("message/what", []byte("x"))
	engine.Put("recipient/what/1", []byte("x"))
	q = open(t, engine)
	if leases := leaseAll(t, q, noon); len(leases) > 0 {
		t.Error("leased without a message")
	}
	want := []string{"aside/message/what", "aside/recipient/" + string(id) + "/00000000", "aside/recipient/what/1"}
	if diff := cmp.Diff(want, sorted(keys(t, engine))); diff != "" {
		t.Error(diff)
	}
}

func TestAMessageOfWhichNothingIsLeftIsFinishedAtTheNextStart(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("bob@else.test"), noon)
	engine.Remove("recipient/" + string(id) + "/00000000") // as after a stop between two settles
	open(t, engine)
	if found := keys(t, engine); len(found) > 0 {
		t.Errorf("left %v", found)
	}
	if _, err := engine.OpenBody(ctx, string(id)); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("left the body: %v", err)
	}
}

func TestRecipientsThatFailTogetherAreTriedTogetherAgain(t *testing.T) {
	q := open(t, memory.New())
	id := keep(t, q, submission("a@else.test", "b@else.test", "c@else.test", "d@else.test"), noon)
	l := leaseOne(t, q, noon)
	settle(t, q, l, custody.Outcome{Result: custody.Deferred, Reply: "451"}, noon)
	due := show(t, q, id).Recipients[0].Due
	again := leaseOne(t, q, due) // before, the others were due up to two minutes later
	if len(again.Recipients) != 4 {
		t.Errorf("%d of 4 are due together", len(again.Recipients))
	}
	outcomes := all(again, custody.Outcome{Result: custody.Deferred, Reply: "451"})
	outcomes[3].NotBefore = due.Add(9 * time.Hour) // asked for by the server for this one alone
	if err := q.Settle(ctx, again, outcomes, nil, due); err != nil {
		t.Fatal(err)
	}
	next := leaseOne(t, q, show(t, q, id).Recipients[0].Due)
	if len(next.Recipients) != 3 {
		t.Errorf("%d of 3 are due together", len(next.Recipients))
	}
}
