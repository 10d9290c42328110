package ledger

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"
)

// shelf is an engine of a few facts.
type shelf map[string][]byte

func (s shelf) Scan(_ context.Context, prefix, from string, visit func(string, []byte) bool) error {
	keys := make([]string, 0, len(s))
	for k := range s {
		if strings.HasPrefix(k, prefix) && k >= from {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		if !visit(k, s[k]) {
			return nil
		}
	}
	return nil
}

func TestReadSinceBeginsAtTheTime(t *testing.T) {
	start := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for _, n := range []int{0, 1, 2, 3, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			facts := shelf{}
			for i := range n {
				e, err := Encode(Fact{Time: start.Add(time.Duration(i) * time.Hour), Event: Started})
				if err != nil {
					t.Fatal(err)
				}
				facts[FactKey(uint64(i))] = e.Record()
			}
			for since := -2; since < n+2; since++ {
				first := -1
				err := ReadSince(t.Context(), facts, start.Add(time.Duration(since)*time.Hour), func(f Fact) bool { first = int(f.Offset); return false })
				want := max(since, 0)
				if want >= n {
					want = -1
				}
				if err != nil || first != want {
					t.Errorf("since %d: begins at %d, want %d (%v)", since, first, want, err)
				}
			}
		})
	}
}
