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

// What is counted is what a list has, whatever is queued, leased and held, and whatever a filter
// selects.
func TestReachCountsWhatAListHas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		engine := memory.New()
		q := open(t, engine)
		domains := []string{"one.test", "two.test", "three.test"}
		for n := range rapid.IntRange(0, 12).Draw(rt, "messages") {
			var to []string
			for i, d := range rapid.SliceOfNDistinct(rapid.SampledFrom(domains), 1, 3, rapid.ID[string]).Draw(rt, "domains") {
				to = append(to, fmt.Sprintf("r%d.%d@%s", n, i, d))
			}
			s := submission(to...)
			warrant, err := custody.NewNotice("about", org.ID(rapid.SampledFrom([]string{"acme", "globex"}).Draw(rt, "org")))
			if err != nil {
				rt.Fatal(err)
			}
			s.ID, s.Warrant = mail.NewID(noon.Add(time.Duration(n)*time.Second)), warrant
			keep(t, q, s, noon)
		}
		if _, err := q.Lease(ctx, noon.Add(time.Minute), rapid.IntRange(0, 6).Draw(rt, "leases"), nil); err != nil {
			rt.Fatal(err)
		}
		some := custody.Filter{Domain: domain(rapid.SampledFrom(domains).Draw(rt, "held"))}
		if _, err := q.Hold(ctx, some, mail.ReasonHeld, noon); err != nil {
			rt.Fatal(err)
		}
		known := rapid.SampledFrom(domains).Draw(rt, "known")
		f := custody.Filter{
			Org:    rapid.SampledFrom([]string{"", "acme", "nobody"}).Draw(rt, "of"),
			State:  rapid.SampledFrom([]custody.State{"", custody.StateQueued, custody.StateLeased, custody.StateHeld}).Draw(rt, "state"),
			Before: rapid.SampledFrom([]time.Time{{}, noon.Add(5 * time.Second)}).Draw(rt, "before"),
			Leads:  func(d mail.Domain, _ string) bool { return d.String() != known },
		}
		got, err := q.Reach(ctx, f)
		if err != nil {
			rt.Fatal(err)
		}
		entries, _, err := q.List(ctx, f)
		if err != nil {
			rt.Fatal(err)
		}
		want, there := custody.Reach{Messages: len(entries)}, map[mail.Domain]bool{}
		for _, e := range entries {
			want.Recipients += len(e.Recipients)
			for _, r := range e.Recipients {
				there[r.Address.Domain()] = true
			}
		}
		if want.Domains = len(there); got != want {
			rt.Fatalf("%+v is counted, listed are %+v", got, want)
		}
	})
}
