package limit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// shelf is a Store in memory.
type shelf struct {
	records map[string][]byte
	broken  bool
}

func (s *shelf) Save(_ context.Context, put []Record, gone []string) error {
	if s.broken {
		return errors.New("no room")
	}
	if s.records == nil {
		s.records = map[string][]byte{}
	}
	for _, key := range gone {
		delete(s.records, key)
	}
	for _, r := range put {
		s.records[r.Key] = slices.Clone(r.Value)
	}
	return nil
}

func (s *shelf) Load(_ context.Context, prefix string, visit func(Record)) error {
	for _, key := range slices.Sorted(maps.Keys(s.records)) {
		if strings.HasPrefix(key, prefix) {
			visit(Record{key, s.records[key]})
		}
	}
	return nil
}

// restarted is another Book with what was stored.
func restarted(t testing.TB, s *shelf, now time.Time) *Book {
	t.Helper()
	b := &Book{Prefix: "limit/"}
	if _, _, err := b.Load(context.Background(), s, now); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestARestartForgetsNothing: whenever the book is stored and read back, it decides as
// one that never stopped.
func TestARestartForgetsNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		caps := Caps{
			MessagesPerHour: int64(rapid.IntRange(1, 50).Draw(rt, "an hour")), RecipientsPerDay: int64(rapid.IntRange(5, 300).Draw(rt, "a day")),
			UniquePerDay: int64(rapid.IntRange(5, 60).Draw(rt, "different")),
		}
		running, stopping, store := &Book{Prefix: "limit/"}, &Book{Prefix: "limit/"}, &shelf{}
		stopping.secret = running.key()
		now := noon
		for range rapid.IntRange(1, 100).Draw(rt, "messages") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3*3600).Draw(rt, "pause")) * time.Second)
			if rapid.IntRange(0, 4).Draw(rt, "restart") == 0 {
				if err := stopping.Flush(t.Context(), store, now, 0); err != nil {
					rt.Fatal(err)
				}
				stopping = restarted(t, store, now)
			}
			s := to(running, caps, rapid.SliceOfNDistinct(rapid.IntRange(0, 99), 1, 5, rapid.ID).Draw(rt, "recipients"))
			_, want := running.Take(now, []Spend{s})
			taken, got := stopping.Take(now, []Spend{s})
			if got.IsZero() != want.IsZero() || got.Unit != want.Unit {
				rt.Fatalf("after restarts %v, without %v", got, want)
			}
			if rapid.IntRange(0, 5).Draw(rt, "came to nothing") == 0 && got.IsZero() {
				running.Return(now, taken)
				stopping.Return(now, taken)
			}
		}
	})
}

// to is a message of one source to some recipients.
func to(b *Book, caps Caps, recipients []int) Spend {
	s := Spend{Principal: OfSource("acme", "app"), Caps: caps, Amount: Amount{1, int64(len(recipients)), 1000}}
	for _, r := range recipients {
		s.Recipients = append(s.Recipients, b.Hash(fmt.Sprintf("r%d@else.test", r)))
	}
	return s
}

// TestSketchesOutliveARestart: what is known of too many recipients is kept too.
func TestSketchesOutliveARestart(t *testing.T) {
	b, store := &Book{Prefix: "limit/"}, &shelf{}
	caps := Caps{UniquePerDay: 1_000_000}
	for i := range 700 {
		s := Spend{Principal: OfSource("acme", "app"), Caps: caps, Amount: Amount{1, 100, 1}}
		for r := range 100 {
			s.Recipients = append(s.Recipients, b.Hash(fmt.Sprint(i*100+r)))
		}
		b.Charge(noon.Add(time.Duration(i)*time.Minute), []Spend{s})
		if i%100 == 0 {
			if err := b.Flush(t.Context(), store, noon, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	now := noon.Add(700 * time.Minute)
	if err := b.Flush(t.Context(), store, now, 0); err != nil {
		t.Fatal(err)
	}
	for key := range store.records {
		if strings.Contains(key, seenRecord) {
			t.Errorf("%s is kept beside the sketches", key)
		}
	}
	for name, book := range map[string]*Book{"running": b, "restarted": restarted(t, store, now)} {
		budgets, spent := book.Look(now, OfSource("acme", "app"), caps)
		used := budgets[0].Most - budgets[0].Left
		if used < 70_000 || used > 75_000 || spent.Recipients != 70_000 {
			t.Errorf("%s: %d different recipients of %d, there were 70,000", name, used, spent.Recipients)
		}
	}
}

// TestWhatCouldNotBeStoredIsStoredNextTime and nothing is lost in between.
func TestWhatCouldNotBeStoredIsStoredNextTime(t *testing.T) {
	b, store := &Book{Prefix: "limit/"}, &shelf{broken: true}
	caps := Caps{RecipientsPerDay: 10, UniquePerDay: 10}
	if _, e := b.Take(noon, []Spend{to(b, caps, []int{1, 2, 3})}); !e.IsZero() {
		t.Fatal(e)
	}
	if err := b.Flush(t.Context(), store, noon, 7); err == nil {
		t.Fatal("a store that is broken took it")
	}
	store.broken = false
	if err := b.Flush(t.Context(), store, noon, 8); err != nil {
		t.Fatal(err)
	}
	again := &Book{Prefix: "limit/"}
	mark, stored, err := again.Load(t.Context(), store, noon)
	if mark != 8 || !stored || err != nil {
		t.Errorf("mark %d, stored %t, %v", mark, stored, err)
	}
	for _, budget := range first(again.Look(noon, OfSource("acme", "app"), caps)) {
		if budget.Left != 7 {
			t.Errorf("%s: %d are left, want 7", budget.Unit, budget.Left)
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestDamageCostsOneAccount: a record that cannot be read is told, all else counts.
func TestDamageCostsOneAccount(t *testing.T) {
	b, store := &Book{Prefix: "limit/"}, &shelf{}
	for _, source := range []string{"one", "two"} {
		b.Charge(noon, []Spend{{Principal: OfSource("acme", source), Amount: Amount{1, 5, 1}}})
	}
	if err := b.Flush(t.Context(), store, noon, 0); err != nil {
		t.Fatal(err)
	}
	store.records[b.accountKey(OfSource("acme", "one"))] = []byte(`{"scope":1,"org":"acme","name":"one","day":[[9,1,1,1],[8,1,1,1]]}`)
	again := &Book{Prefix: "limit/"}
	if _, _, err := again.Load(t.Context(), store, noon); !errors.Is(err, errDamaged) {
		t.Errorf("damage is not told: %v", err)
	}
	if _, spent := again.Look(noon, OfSource("acme", "two"), Caps{}); spent.Recipients != 5 {
		t.Errorf("the other account has %v", spent)
	}
}

// TestAccountsThatAreOverLeaveTheStore: nothing is kept for ever.
func TestAccountsThatAreOverLeaveTheStore(t *testing.T) {
	b, store := &Book{Prefix: "limit/"}, &shelf{}
	b.Charge(noon, []Spend{to(b, Caps{UniquePerDay: 5}, []int{1, 2})})
	for _, now := range []time.Time{noon, noon.Add(Day + 2*slotWidth)} {
		if err := b.Flush(t.Context(), store, now, 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(store.records) != 1 || b.Accounts() != 0 || b.exact != 0 {
		t.Errorf("%d records, %d accounts, %d recipients are kept", len(store.records), b.Accounts(), b.exact)
	}
}

// FuzzDecodeAccount: whatever stands in a record, what is read of it counts as
// something that could have been spent.
func FuzzDecodeAccount(f *testing.F) {
	f.Add([]byte(`{"scope":1,"org":"acme","name":"app","rates":[1,2,3,4,5],"day":[[1,1,2,3]]}`))
	f.Add([]byte(`{"scope":1,"org":"acme","rates":[9223372036854775807,0,0,0,-1],"day":[[1982400,4294967295,1,4611686018427387904],[1982401,1,1,1]]}`))
	f.Add([]byte(`{"scope":1,"day":[[2,1,1,1],[1,1,1,1]]}`))
	f.Add([]byte(`[`))
	at := noon.UnixNano()
	f.Fuzz(func(t *testing.T, text []byte) {
		p, a, err := decodeAccount(text, at)
		if err != nil {
			return
		}
		var sum Amount
		for _, s := range a.day.slots {
			sum.add(s.amount(), 1)
		}
		if sum != a.day.sum || len(a.day.slots) > 98 {
			t.Fatalf("%v in %d slots, said to be %v", sum, len(a.day.slots), a.day.sum)
		}
		for i, r := range (&Caps{}).rates() {
			if a.rates[i] > at+int64(r.span) {
				t.Fatalf("%s is whole only at %d", r.unit, a.rates[i])
			}
		}
		again, b, err := decodeAccount(a.encode(p), at)
		if err != nil || again != p || b.day.sum != a.day.sum {
			t.Fatalf("it reads otherwise after it was written: %v", err)
		}
	})
}
