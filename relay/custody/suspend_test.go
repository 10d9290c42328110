package custody_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/relay/custody"
)

func suspension(scope custody.Scope, name string) custody.Suspension {
	return custody.Suspension{Scope: scope, Name: name, Reason: "their server is being moved", By: "ann", At: noon}
}

func TestWhatIsSuspendedIsNotLeasedUntilItIsResumed(t *testing.T) {
	for name, s := range map[string]custody.Suspension{
		"an organisation": suspension(custody.ScopeOrganisation, "acme"),
		"a source":        suspension(custody.ScopeSource, "acme/app"),
		"a domain":        suspension(custody.ScopeDomain, "ELSE.test"),
	} {
		t.Run(name, func(t *testing.T) {
			engine := memory.New()
			q := open(t, engine)
			before := submission("bob@else.test")
			before.Warrant = provenWarrant(t) // of acme, by its source app
			keep(t, q, before, noon)
			other := keep(t, q, submissionOf("globex", "carol@other.test", noon), noon)
			if err := q.Suspend(ctx, s); err != nil {
				t.Fatal(err)
			}
			after := submission("dora@else.test")
			after.Warrant = provenWarrant(t)
			keep(t, q, after, noon) // accepting goes on
			for _, q = range []*custody.Queue{q, open(t, engine.Clone())} {
				leases := leaseAll(t, q, noon.Add(30*time.Hour)) // past expiry too
				if len(leases) != 1 || leases[0].ID != other {
					t.Fatalf("%d leases", len(leases))
				}
				if d := q.Depth(); d.Suspended != 2 || d.Queued != 2 {
					t.Errorf("%+v", d)
				}
				if r := show(t, q, after.ID).Recipients[0]; r.Suspended != s.Scope {
					t.Errorf("%+v", r)
				}
				if list := q.Suspensions(); len(list) != 1 || list[0].By != "ann" || list[0].Name != strings.ToLower(s.Name) {
					t.Errorf("%+v", list)
				}
				if _, ok := q.NextDue(noon); ok {
					t.Error("something is said to become due")
				}
			}
			if err := q.Resume(ctx, custody.Suspension{Scope: s.Scope, Name: s.Name, By: "ben", At: noon}); err != nil {
				t.Fatal(err)
			}
			if leases := leaseAll(t, q, noon.Add(30*time.Hour)); len(leases) != 2 {
				t.Errorf("%d leases", len(leases))
			}
			if len(q.Suspensions()) != 0 || q.Depth().Suspended != 0 {
				t.Error("something is still suspended")
			}
		})
	}
}

func TestOneSourceIsSuspendedAndOthersOfItsOrganisationAreNot(t *testing.T) {
	q := open(t, memory.New())
	s := submission("bob@else.test")
	s.Warrant = provenWarrant(t)
	keep(t, q, s, noon)
	notice := keep(t, q, submission("carol@else.test"), noon) // of acme, by no source
	if err := q.Suspend(ctx, suspension(custody.ScopeSource, "acme/app")); err != nil {
		t.Fatal(err)
	}
	if l := leaseOne(t, q, noon.Add(time.Hour)); l.ID != notice {
		t.Errorf("leased %s", l.ID)
	}
}

func TestASiteIsSuspendedForWhoKnowsWhereMailGoes(t *testing.T) {
	q := open(t, memory.New())
	keep(t, q, submission("bob@else.test"), noon)
	l := leaseOne(t, q, noon)
	if err := q.Suspend(ctx, suspension(custody.ScopeSite, "MX.big.test")); err != nil {
		t.Fatal(err)
	}
	if _, yes := q.Suspended(l, "mx.big.test"); !yes || !q.SuspendedSite("mx.big.test") {
		t.Error("nobody is told")
	}
	if _, yes := q.Suspended(l, "mx.small.test"); yes {
		t.Error("another site is suspended")
	}
}

func TestSuspensionsAreInTheLedgerAndASecondTakesThePlaceOfTheFirst(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	s := suspension(custody.ScopeDomain, "else.test")
	if err := q.Suspend(ctx, s); err != nil {
		t.Fatal(err)
	}
	s.Reason = "longer"
	if err := q.Suspend(ctx, s); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]custody.Suspension{s}, q.Suspensions()); diff != "" {
		t.Error(diff)
	}
	if err := q.Resume(ctx, s); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range facts(t, engine) {
		got = append(got, string(f.Event)+": "+f.Detail)
	}
	want := []string{"suspended: domain else.test by ann: their server is being moved", "suspended: domain else.test by ann: longer", "resumed: domain else.test by ann: longer"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := q.Resume(ctx, s); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("resumed twice: %v", err)
	}
}

func TestWhatNamesNothingIsNotSuspended(t *testing.T) {
	q := open(t, memory.New())
	for _, s := range []custody.Suspension{
		{Scope: custody.ScopeDomain, Name: "else.test"}, // by nobody
		suspension("planet", "earth"), suspension(custody.ScopeDomain, "not a domain"),
		suspension(custody.ScopeSource, "acme"), suspension(custody.ScopeOrganisation, ""),
	} {
		if err := q.Suspend(ctx, s); !errors.Is(err, custody.ErrBadSuspension) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestADamagedSuspensionIsSetAside(t *testing.T) {
	engine := memory.New()
	if err := open(t, engine).Suspend(ctx, suspension(custody.ScopeDomain, "else.test")); err != nil {
		t.Fatal(err)
	}
	edit(t, engine, "suspension/", "else.test", "evil.test")
	q := open(t, engine)
	if len(q.Suspensions()) != 0 || lastFact(t, engine).Event != ledger.SetAside {
		t.Errorf("%v, %+v", q.Suspensions(), lastFact(t, engine))
	}
}
