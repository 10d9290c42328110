package limit

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sent is a message that was taken.
type sent struct {
	at         time.Time
	amount     Amount
	recipients []uint64
}

// within gives what was taken in the 24 hours that end at the last of all.
func within(all []sent) (sum Amount, different map[uint64]bool) {
	end := all[len(all)-1].at
	different = map[uint64]bool{}
	for _, s := range all {
		if end.Sub(s.at) > Day {
			continue
		}
		sum.add(s.amount, 1)
		for _, r := range s.recipients {
			different[r] = true
		}
	}
	return sum, different
}

// TestNeverMoreThanTheCapInAnyDay: whatever is sent when, no 24 hours hold more than
// a cap. It is enough to look at those that end with a message.
func TestNeverMoreThanTheCapInAnyDay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		caps := Caps{
			MessagesPerDay: int64(rapid.IntRange(1, 30).Draw(rt, "messages")), RecipientsPerDay: int64(rapid.IntRange(5, 60).Draw(rt, "recipients")),
			BytesPerDay: int64(rapid.IntRange(5_000, 50_000).Draw(rt, "octets")), UniquePerDay: int64(rapid.IntRange(5, 40).Draw(rt, "different")),
		}
		var b Book
		var all []sent
		now := noon
		for range rapid.IntRange(1, 300).Draw(rt, "attempts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3*3600).Draw(rt, "pause")) * time.Second)
			s := to(&b, caps, rapid.SliceOfNDistinct(rapid.IntRange(0, 99), 1, 5, rapid.ID).Draw(rt, "recipients"))
			s.Amount.Bytes = int64(rapid.IntRange(1, 5000).Draw(rt, "octets"))
			_, excess := b.Take(now, []Spend{s})
			if !excess.IsZero() {
				if !excess.Retry.After(now) {
					rt.Fatalf("put off until %s, and it is %s", excess.Retry, now)
				}
				continue
			}
			all = append(all, sent{now, s.Amount, s.Recipients})
			sum, different := within(all)
			if sum.Messages > caps.MessagesPerDay || sum.Recipients > caps.RecipientsPerDay || sum.Bytes > caps.BytesPerDay || int64(len(different)) > caps.UniquePerDay {
				rt.Fatalf("in a day %v to %d different, the caps are %+v", sum, len(different), caps)
			}
		}
	})
}

// TestAPatientSenderAlwaysGetsTheCap: what fits into the cap with all that was taken in
// the last 24 hours and a quarter is taken; and whoever is put off and comes back
// when he was told is taken.
func TestAPatientSenderAlwaysGetsTheCap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		caps := Caps{RecipientsPerDay: int64(rapid.IntRange(5, 60).Draw(rt, "recipients")), UniquePerDay: int64(rapid.IntRange(5, 40).Draw(rt, "different"))}
		var b Book
		var all []sent
		now := noon
		for range rapid.IntRange(1, 200).Draw(rt, "attempts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3*3600).Draw(rt, "pause")) * time.Second)
			s := to(&b, caps, rapid.SliceOfNDistinct(rapid.IntRange(0, 99), 1, 5, rapid.ID).Draw(rt, "recipients"))
			var sum int64
			different := map[uint64]bool{}
			for _, before := range append(all, sent{now, s.Amount, s.Recipients}) {
				if now.Sub(before.at) >= Day+slotWidth {
					continue
				}
				sum += before.amount.Recipients
				for _, r := range before.recipients {
					different[r] = true
				}
			}
			_, excess := b.Take(now, []Spend{s})
			if !excess.IsZero() && sum <= caps.RecipientsPerDay && int64(len(different)) <= caps.UniquePerDay {
				rt.Fatalf("put off with %d of %d recipients, %d of %d different", sum, caps.RecipientsPerDay, len(different), caps.UniquePerDay)
			}
			if !excess.IsZero() && rapid.Bool().Draw(rt, "patient") {
				now = excess.Retry
				for range 2 { // the second cap may last longer for these recipients
					if _, excess = b.Take(now, []Spend{s}); excess.IsZero() {
						break
					}
					now = excess.Retry
				}
				if !excess.IsZero() {
					rt.Fatalf("back when it was told, and put off again: %v", excess)
				}
			}
			if excess.IsZero() {
				all = append(all, sent{now, s.Amount, s.Recipients})
			}
		}
	})
}

// TestWithSketchesTooTheCapHolds: beyond what is counted exactly, different recipients
// are never more than the cap, and a sender gets as many as the cap in all.
func TestWithSketchesTooTheCapHolds(t *testing.T) {
	const most = 90_000
	var b Book
	caps := Caps{UniquePerDay: most}
	taken, at := 0, noon
	for i := range 1200 {
		s := Spend{Principal: OfSource("acme", "app"), Caps: caps, Amount: Amount{1, 100, 1}}
		for r := range 100 {
			s.Recipients = append(s.Recipients, b.Hash(fmt.Sprint(i*100+r)))
		}
		at = at.Add(time.Second)
		if _, excess := b.Take(at, []Spend{s}); excess.IsZero() {
			taken += 100
		}
	}
	if taken != most {
		t.Errorf("%d different recipients were taken of a cap of %d", taken, most)
	}
	if b.exact != 0 {
		t.Errorf("%d are kept exactly beside the sketches", b.exact)
	}
	repeated := Spend{Principal: OfSource("acme", "app"), Caps: caps, Amount: Amount{1, 1, 1}, Recipients: []uint64{b.Hash("0")}}
	if _, excess := b.Take(at.Add(Day+2*time.Hour), []Spend{repeated}); !excess.IsZero() {
		t.Errorf("a day later nothing is free: %v", excess)
	}
}

// TestARepeatedRecipientIsFree: only different ones count against that cap.
func TestARepeatedRecipientIsFree(t *testing.T) {
	var b Book
	caps := Caps{UniquePerDay: 2}
	for range 50 {
		if _, excess := b.Take(noon, []Spend{to(&b, caps, []int{1, 2})}); !excess.IsZero() {
			t.Fatal(excess)
		}
	}
	if _, excess := b.Take(noon, []Spend{to(&b, caps, []int{3})}); excess.Unit != UniquePerDay {
		t.Errorf("a third recipient: %v", excess)
	}
}

// TestAllPayOrNobody: an organisation's ceiling that is reached leaves the sources'
// own budgets alone, and is the reason that is told.
func TestAllPayOrNobody(t *testing.T) {
	var b Book
	message := func(source string) []Spend {
		return []Spend{
			{Principal: OfSource("acme", source), Caps: Caps{MessagesPerDay: 10}, Amount: Amount{1, 1, 1}},
			{Principal: OfOrganisation("acme"), Caps: Caps{MessagesPerDay: 15}, Amount: Amount{1, 1, 1}},
		}
	}
	taken := map[string]int{}
	for _, source := range []string{"one", "two", "three"} {
		for range 20 {
			if _, excess := b.Take(noon, message(source)); excess.IsZero() {
				taken[source]++
			}
		}
	}
	if taken["one"] != 10 || taken["two"] != 5 || taken["three"] != 0 {
		t.Errorf("taken: %v", taken)
	}
	_, excess := b.Take(noon, message("two"))
	if excess.Principal != OfOrganisation("acme") || excess.Unit != MessagesPerDay {
		t.Errorf("it is told: %v", excess)
	}
	if budgets, _ := b.Look(noon, OfSource("acme", "two"), Caps{MessagesPerDay: 10}); budgets[0].Left != 5 {
		t.Errorf("%d are left to the second", budgets[0].Left)
	}
}

// TestWhatCameToNothingIsPaidBack: and only that.
func TestWhatCameToNothingIsPaidBack(t *testing.T) {
	var b Book
	caps := Caps{MessagesPerMinute: 2, MessagesPerDay: 2, RecipientsPerDay: 4, BytesPerDay: 2000}
	for i := range 100 {
		taken, excess := b.Take(noon.Add(time.Duration(i)*time.Second), []Spend{to(&b, caps, []int{1, 2})})
		if !excess.IsZero() {
			t.Fatal(excess)
		}
		b.Return(noon.Add(time.Duration(i+1)*time.Second), taken)
	}
	if _, spent := b.Look(noon.Add(time.Hour), OfSource("acme", "app"), caps); spent != (Amount{}) {
		t.Errorf("%v is still spent", spent)
	}
}

// TestManyAtOnceNeverGetMore: takes, returns, looks and flushes at the same time.
func TestManyAtOnceNeverGetMore(t *testing.T) {
	var b Book
	var all sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				caps := Caps{MessagesPerDay: 500, UniquePerDay: 50}
				got, excess := b.Take(noon, []Spend{to(&b, caps, []int{n % 50})})
				b.Look(noon, OfSource("acme", "app"), caps)
				if n%50 == 0 {
					_ = b.Flush(t.Context(), &shelf{}, noon, 0)
				}
				if excess.IsZero() && n%10 == i {
					b.Return(noon, got)
				} else if excess.IsZero() {
					mu.Lock()
					taken++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if _, spent := b.Look(noon, OfSource("acme", "app"), Caps{}); taken > 500 || int64(taken) != spent.Messages {
		t.Errorf("%d were taken of 500, %d are counted", taken, spent.Messages)
	}
}

// TestClocksThatAreSetGiveNothing: neither back nor forward.
func TestClocksThatAreSetGiveNothing(t *testing.T) {
	store := &shelf{}
	b := restarted(t, store, noon)
	caps := Caps{MessagesPerDay: 1}
	one := []Spend{{Principal: OfSource("acme", "app"), Caps: caps, Amount: Amount{1, 1, 1}}}
	if _, excess := b.Take(noon, one); !excess.IsZero() {
		t.Fatal(excess)
	}
	if _, excess := b.Take(noon.Add(-30*Day), one); excess.IsZero() {
		t.Error("setting the clock back resets a budget")
	}
	if err := b.Flush(t.Context(), store, noon, 0); err != nil {
		t.Fatal(err)
	}
	if _, excess := restarted(t, store, noon.Add(-30*Day)).Take(noon.Add(-30*Day), one); excess.IsZero() {
		t.Error("a restart with the clock set back resets a budget")
	}
	back := restarted(t, store, noon.Add(-30*Day))
	if _, excess := back.Take(noon.Add(-29*Day).Add(slotWidth), one); !excess.IsZero() {
		t.Errorf("with the clock set back, a day that passed does not count: %v", excess)
	}

	start := time.Now() // with a reading of the monotonic clock
	var c clock
	before := c.at(start)
	forward := c.at(start.Round(0).Add(30 * Day)) // without one: as the time of day says
	if forward-before != int64(30*Day) {
		t.Errorf("without a monotonic clock, %s passed", time.Duration(forward-before))
	}
}

// TestForgettingIsBounded: accounts are bounded, and who spent most is remembered.
func TestForgettingIsBounded(t *testing.T) {
	b := Book{Keys: 200}
	caps := Caps{RecipientsPerDay: 100}
	spend := func(domain string, recipients int64) []Spend {
		return []Spend{{Principal: OfRecipientDomain("acme", "app", domain), Caps: caps, Amount: Amount{1, recipients, 1}}}
	}
	b.Take(noon, spend("spent.test", 100))
	for i := range 5000 {
		b.Take(noon, spend(fmt.Sprintf("d%d.test", i), 1))
	}
	if b.Accounts() > 200 {
		t.Errorf("%d accounts", b.Accounts())
	}
	if _, excess := b.Take(noon, spend("spent.test", 1)); excess.IsZero() {
		t.Error("many domains reset a budget")
	}
}

// TestADecisionAllocatesNothing in the common case.
func TestADecisionAllocatesNothing(t *testing.T) {
	var b Book
	spends := usual(0)
	now := noon
	b.Take(now, spends)
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Millisecond)
		b.Take(now, spends)
	}); n != 0 {
		t.Errorf("%.1f allocations", n)
	}
}

// usual is what a message costs of an organisation with limits at every scope.
func usual(n int) []Spend {
	organisation := fmt.Sprint("org", n)
	a := Amount{1, 1, 10_000}
	rates := Caps{MessagesPerMinute: 1_000_000, MessagesPerHour: 10_000_000, RecipientsPerDay: 100_000_000}
	return []Spend{
		{Principal: OfSource(organisation, "app"), Caps: rates, Amount: a},
		{Principal: OfOrganisation(organisation), Caps: rates, Amount: a},
		{Principal: OfTenant(organisation, "11111111-1111-4111-8111-111111111111"), Caps: rates, Amount: a},
		{Principal: OfDomain(organisation, "acme.test"), Caps: rates, Amount: a},
	}
}

// TestAHundredThousandPrincipalsFitIntoMemory: with some hours of mail each.
func TestAHundredThousandPrincipalsFitIntoMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := Book{Keys: 100_000}
	for n := range 100_000 {
		s := []Spend{{Principal: OfSource(fmt.Sprint("org", n), "app"), Caps: Caps{RecipientsPerDay: 1000}, Amount: Amount{1, 1, 1}}}
		for i := range 8 {
			b.Take(noon.Add(time.Duration(i)*slotWidth), s)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 150<<20 {
		t.Errorf("%d MiB", used>>20)
	} else {
		t.Logf("%d MiB", used>>20)
	}
	runtime.KeepAlive(&b)
}

func BenchmarkTakeOfFourPrincipals(b *testing.B) {
	book := Book{Keys: 1_000_000}
	var all [][]Spend
	for n := range 25_000 {
		all = append(all, usual(n))
		book.Take(noon, all[n])
	}
	b.ReportAllocs()
	now := noon
	for i := 0; b.Loop(); i++ {
		now = now.Add(time.Millisecond)
		book.Take(now, all[i%len(all)])
	}
}

func BenchmarkTakeWithDifferentRecipients(b *testing.B) {
	var book Book
	s := []Spend{{Principal: OfSource("acme", "app"), Caps: Caps{UniquePerDay: 1 << 40}, Amount: Amount{1, 1, 1}, Recipients: make([]uint64, 1)}}
	b.ReportAllocs()
	now := noon
	for i := 0; b.Loop(); i++ {
		now = now.Add(time.Millisecond)
		s[0].Recipients[0] = uint64(i)*0x9e3779b97f4a7c15 ^ 0x51
		book.Take(now, s)
	}
}

// TestMoreRecipientsThanTheCapNeverFit even if some of them are known already.
func TestMoreRecipientsThanTheCapNeverFit(t *testing.T) {
	var b Book
	caps := Caps{UniquePerDay: 5}
	if _, excess := b.Take(noon, []Spend{to(&b, caps, []int{1, 2, 3})}); !excess.IsZero() {
		t.Fatal(excess)
	}
	_, excess := b.Take(noon, []Spend{to(&b, caps, []int{1, 2, 3, 4, 5, 6})})
	if excess.IsZero() || excess.Retry.Sub(noon) < 300*Day {
		t.Errorf("six of five: %v", excess)
	}
}
