package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/quarantine"
)

var (
	alice = quarantine.Person{Name: "alice", Told: "root (uid 0) for alice"}
	bob   = quarantine.Person{Name: "bob", Told: "bob (uid 1001)"}
)

func ids(n int) (list []mail.ID) {
	for range n {
		list = append(list, mail.NewID(noon))
	}
	return list
}

// propose asks for a release of so many messages.
func propose(t *testing.T, a *quarantine.Approvals, by quarantine.Person, n int) quarantine.Proposal {
	t.Helper()
	p, err := quarantine.Propose(by, "org=acme", ids(n), noon)
	if err == nil {
		err = a.Ask(t.Context(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func told(t *testing.T, engine *memory.Engine) (details []string) {
	t.Helper()
	err := ledger.Read(t.Context(), engine, 0, func(f ledger.Fact) bool {
		if f.Event == ledger.ApprovalChanged {
			details = append(details, f.Detail)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return details
}

func TestAReleaseOfManyNeedsSomebodyElse(t *testing.T) {
	engine := memory.New()
	a := quarantine.NewApprovals(engine, 3)
	p := propose(t, a, alice, 5)
	a = quarantine.NewApprovals(engine, 3) // a restart
	waiting, err := a.Waiting(t.Context(), noon.Add(time.Hour))
	if err != nil || len(waiting) != 1 || waiting[0].ID != p.ID || !slices.Equal(waiting[0].Messages, p.Messages) {
		t.Fatalf("waiting: %+v, %v", waiting, err)
	}
	for name, by := range map[string]quarantine.Person{"who asked": alice, "who asked, in other letters": {Name: " ALICE ", Told: "x"}, "nobody known": {Told: "an operator"}} {
		if _, err := a.Approve(t.Context(), p.ID, by, noon); err == nil {
			t.Errorf("%s approved it", name)
		}
	}
	if _, err := a.Approve(t.Context(), p.ID, bob, noon.Add(quarantine.ApprovalFor)); !errors.Is(err, quarantine.ErrNoProposal) {
		t.Errorf("expired, it was approved: %v", err)
	}
	got, err := a.Approve(t.Context(), p.ID, bob, noon.Add(time.Hour))
	if err != nil || !slices.Equal(got.Messages, p.Messages) || got.By != alice {
		t.Errorf("approved: %+v, %v", got, err)
	}
	if _, err := a.Approve(t.Context(), p.ID, bob, noon.Add(time.Hour)); !errors.Is(err, quarantine.ErrNoProposal) {
		t.Errorf("it was approved twice: %v", err)
	}
	want := []string{"release of 5 held messages asked for by root (uid 0) for alice", "release of 5 held messages approved by bob (uid 1001)"}
	if got := told(t, engine); !slices.Equal(got, want) {
		t.Errorf("the ledger says %q", got)
	}
}

func TestProposalsEndByRefusalAndByTime(t *testing.T) {
	engine := memory.New()
	a := quarantine.NewApprovals(engine, 1)
	refused, expired := propose(t, a, alice, 2), propose(t, a, bob, 2)
	if _, err := a.Refuse(t.Context(), refused.ID, alice, noon); err != nil {
		t.Errorf("who asked cannot take it back: %v", err)
	}
	if err := a.Sweep(t.Context(), noon.Add(quarantine.ApprovalFor-1)); err != nil || len(told(t, engine)) != 3 {
		t.Errorf("swept too early: %v, %q", err, told(t, engine))
	}
	if err := a.Sweep(t.Context(), noon.Add(quarantine.ApprovalFor)); err != nil {
		t.Error(err)
	}
	if got := told(t, engine); len(got) != 4 || got[3] != "release of 2 held messages expired" {
		t.Errorf("the ledger says %q", got)
	}
	if _, err := a.Approve(t.Context(), expired.ID, alice, noon); !errors.Is(err, quarantine.ErrNoProposal) {
		t.Errorf("what expired is there: %v", err)
	}
	if _, err := a.Refuse(t.Context(), "nonsense/../id", alice, noon); !errors.Is(err, quarantine.ErrNoProposal) {
		t.Errorf("nonsense: %v", err)
	}
}

func TestManySmallReleasesAreOneLargeOne(t *testing.T) {
	a := quarantine.NewApprovals(memory.New(), 3)
	if a.Needs(alice, 3, noon) || !a.Needs(alice, 4, noon) || a.Needs(alice, 0, noon) {
		t.Error("the number itself is asked about wrongly")
	}
	a.Released(alice, 2, noon)
	if a.Needs(alice, 1, noon) || !a.Needs(quarantine.Person{Name: "Alice"}, 2, noon.Add(59*time.Minute)) {
		t.Error("what was released a moment ago does not count")
	}
	if a.Needs(bob, 3, noon) || a.Needs(alice, 3, noon.Add(time.Hour)) {
		t.Error("it counts for others, or for ever")
	}
	if quarantine.NewApprovals(memory.New(), 0).Needs(alice, 10_000, noon) {
		t.Error("where nobody is asked for, somebody is")
	}
}

func TestProposalsAreBounded(t *testing.T) {
	a := quarantine.NewApprovals(memory.New(), 1)
	if _, err := quarantine.Propose(alice, "", ids(quarantine.MaxProposed+1), noon); !errors.Is(err, quarantine.ErrManyMessages) {
		t.Errorf("too many messages: %v", err)
	}
	if _, err := quarantine.Propose(quarantine.Person{Told: "an operator"}, "", ids(1), noon); !errors.Is(err, quarantine.ErrNobody) {
		t.Errorf("by nobody: %v", err)
	}
	for range 100 {
		propose(t, a, alice, 1)
	}
	p, err := quarantine.Propose(alice, "", ids(1), noon)
	if err == nil {
		err = a.Ask(t.Context(), p)
	}
	if !errors.Is(err, quarantine.ErrManyWaiting) {
		t.Errorf("one more: %v", err)
	}
}

func TestOneOfManyApproversWins(t *testing.T) {
	a := quarantine.NewApprovals(memory.New(), 1)
	p := propose(t, a, alice, 2)
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := a.Approve(context.Background(), p.ID, quarantine.Person{Name: fmt.Sprint("p", i)}, noon); err == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d approved it", won.Load())
	}
}
