package detect

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/ledger"
)

// TestEveryOpenFindingIsAmongItsOrganisations: as they come, make room for others, end,
// and are read back.
func TestEveryOpenFindingIsAmongItsOrganisations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := New(Options{})
		d.open.max = 7
		now := monday
		for range rapid.IntRange(1, 30).Draw(t, "messages") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{1, 60, 5 * 3600}).Draw(t, "seconds")) * time.Second)
			o, s := rapid.IntRange(0, 3).Draw(t, "organisation"), rapid.IntRange(0, 2).Draw(t, "source")
			for i := range rapid.SampledFrom([]int{1, 200}).Draw(t, "at once") {
				d.Observe(Event{
					Time: now, What: Sent, Org: fmt.Sprint("o", o), Source: fmt.Sprint("s", s), From: "admin_support" + random(i) + fmt.Sprintf("@o%d.example", o),
					Rcpt: []string{stranger(i)}, ConnectingIP: "203.0.113.9", Print: ledger.Print{Text: uint64(i % 3), Hosts: []string{"quiz.example"}},
				})
			}
			d.Tick(now)
		}
		if rapid.Bool().Draw(t, "read back") {
			again := New(Options{})
			if err := again.Restore(d.Snapshot()); err != nil {
				t.Fatal(err)
			}
			d = again
		}
		n := 0
		for o, all := range d.openOf {
			for k, f := range all {
				if n++; k.Scope.Org != o || d.open.find(k) != f {
					t.Fatalf("%s has %+v, which is not open", o, k)
				}
			}
			if len(all) == 0 {
				t.Fatalf("%s has none and is remembered", o)
			}
		}
		if n != len(d.open.entries) {
			t.Fatalf("%d of %d open findings are among those of an organisation", n, len(d.open.entries))
		}
	})
}
