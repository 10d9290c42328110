package echo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// learned is a table that had ten days of Acme's mail.
func learned(t testing.TB) *Table {
	table := new(Table)
	for i := range 10 {
		table.Observe(Rule{}, fromCloud(t).at(noon.Add(time.Duration(i-10)*day)))
	}
	return table
}

func TestATableLearnsAndJudges(t *testing.T) {
	table := learned(t)
	if v := table.Observe(Rule{}, echoed(t)); v.Echo != Suspect || !v.Has(UsualTenantsOther) {
		t.Errorf("%+v", v)
	}
	if v := new(Table).Observe(Rule{}, echoed(t)); v.Echo != Neutral {
		t.Errorf("an empty table: %+v", v)
	}
	if !table.Forget(domain("acme.example")) || table.Forget(domain("acme.example")) {
		t.Error("a domain is forgotten once")
	}
	if v := table.Observe(Rule{}, echoed(t)); v.Has(UsualTenantsOther) {
		t.Errorf("what was forgotten counts: %+v", v)
	}
}

func TestATableOutlastsARestart(t *testing.T) {
	ctx, engine := context.Background(), memory.New()
	table := learned(t)
	for i := range 1200 {
		o := echoedBy(evilTenant)
		o.From, o.Organisational = numbered(i), numbered(i)
		table.Observe(Rule{}, o)
	}
	if err := table.Flush(ctx, engine); err != nil {
		t.Fatal(err)
	}
	again := new(Table)
	if err := again.Load(ctx, engine); err != nil {
		t.Fatal(err)
	}
	for _, d := range []mail.Domain{domain("acme.example"), numbered(0), numbered(1199)} {
		want, _ := table.Profile(d)
		got, ok := again.Profile(d)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b mail.Domain) bool { return a == b })); !ok || diff != "" {
			t.Errorf("%s: %v %s", d, ok, diff)
		}
	}
	again.Forget(domain("acme.example"))
	if err := again.Flush(ctx, engine); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Get(ctx, key(domain("acme.example"))); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("what was forgotten is stored still: %v", err)
	}
}

func numbered(i int) mail.Domain { return domain(fmt.Sprintf("d%d.example", i)) }

func TestDamageIsToldAndPassedOver(t *testing.T) {
	ctx, engine := context.Background(), memory.New()
	if err := learned(t).Flush(ctx, engine); err != nil {
		t.Fatal(err)
	}
	many, err := json.Marshal(Profile{Domain: domain("many.example"), Tenants: make([]Tenant, maxTenants+1)})
	if err != nil {
		t.Fatal(err)
	}
	batch := &custody.Batch{Put: []custody.Record{
		{Key: prefix + "broken.example", Value: []byte("{")},
		{Key: prefix + "other.example", Value: []byte(`{"domain":"acme.example"}`)},
		{Key: prefix + "many.example", Value: many},
	}}
	if err := engine.Commit(ctx, batch); err != nil {
		t.Fatal(err)
	}
	table := new(Table)
	if err := table.Load(ctx, engine); err == nil || !strings.Contains(err.Error(), "3 stored profiles") {
		t.Errorf("%v", err)
	}
	if _, ok := table.Profile(domain("acme.example")); !ok || len(table.known) != 1 {
		t.Errorf("%d profiles", len(table.known))
	}
}

// failing refuses batches.
type failing struct{ custody.Engine }

func (failing) Commit(context.Context, *custody.Batch) error { return custody.ErrFull }

func TestWhatCouldNotBeWrittenIsWrittenLater(t *testing.T) {
	ctx, engine := context.Background(), memory.New()
	table := learned(t)
	if err := table.Flush(ctx, failing{engine}); !errors.Is(err, custody.ErrFull) {
		t.Fatal(err)
	}
	if err := table.Flush(ctx, engine); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Get(ctx, key(domain("acme.example"))); err != nil {
		t.Error(err)
	}
}

func TestAFloodOfDomainsPushesOutNothingLearned(t *testing.T) {
	table := learned(t)
	for i := range MaxUntaught + 100 {
		o := echoedBy(evilTenant)
		o.From, o.Organisational = numbered(i), numbered(i)
		table.Observe(Rule{}, o)
	}
	if _, ok := table.Profile(domain("acme.example")); !ok {
		t.Error("what was learned is gone")
	}
	if _, ok := table.Profile(numbered(0)); ok || table.untaught.Len() != MaxUntaught || len(table.known) != MaxUntaught+1 {
		t.Errorf("%d profiles", len(table.known))
	}
}

func TestSweepForgetsDomainsThatFellSilent(t *testing.T) {
	table := learned(t)
	o := echoedBy(evilTenant)
	o.From, o.Organisational = numbered(1), numbered(1)
	table.Observe(Rule{}, o)
	for at, want := range map[time.Duration]int{0: 0, newcomerMemory + time.Hour: 1, Memory + time.Hour: 2} {
		table := learned(t)
		table.Observe(Rule{}, o)
		if got := table.Sweep(noon.Add(at)); got != want {
			t.Errorf("after %v %d were swept, want %d", at, got, want)
		}
	}
}

func TestATableIsUsedByManyAtOnce(t *testing.T) {
	ctx, engine, table := context.Background(), memory.New(), learned(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 200 {
				o := echoedBy(evilTenant)
				o.From, o.Organisational = numbered(n%17), numbered(n%17)
				table.Observe(Rule{}, o)
				table.Profile(numbered(i))
				if n%50 == 0 && table.Flush(ctx, engine) != nil {
					t.Error("flush failed")
				}
				table.Sweep(noon)
			}
		})
	}
	group.Wait()
	if len(table.known) != 18 {
		t.Errorf("%d profiles", len(table.known))
	}
}

// What is stored and believed keeps the bounds, and is stored again as it is.
func FuzzProfile(f *testing.F) {
	text, err := json.Marshal(taught(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("acme.example", text)
	f.Add("x", []byte(`{"domain":"x","tenants":[null]}`))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		p, ok := decode(prefix+name, value)
		if !ok {
			return
		}
		if len(p.Tenants) > maxTenants || len(p.Names) > maxNames || len(p.Strangers) > maxStrangers || p.Domain.String() != name {
			t.Fatalf("%+v", p)
		}
		after := Learn(Rule{}, p, echoedBy(evilTenant))
		if len(after.Strangers) > maxStrangers {
			t.Fatalf("%+v", after)
		}
		Judge(Rule{}, p, echoedBy(evilTenant))
	})
}
