package limit

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestABudgetIsSpentAndEarnedBack(t *testing.T) {
	var l Limiter
	hourly := Rate{Units: 60, Span: time.Hour}
	for i := range 60 {
		if retry := l.Take(noon, Claim{"a", hourly, 1}); !retry.IsZero() {
			t.Fatalf("message %d waits until %s", i+1, retry)
		}
	}
	retry := l.Take(noon, Claim{"a", hourly, 1})
	if want := noon.Add(time.Minute); !retry.Equal(want) {
		t.Fatalf("the 61st waits until %s, want %s", retry, want)
	}
	if l.Take(retry.Add(-time.Nanosecond), Claim{"a", hourly, 1}).IsZero() {
		t.Error("it was taken too early")
	}
	if !l.Take(retry, Claim{"a", hourly, 1}).IsZero() {
		t.Error("it was not taken when it was said")
	}
	if !l.Take(noon, Claim{"b", hourly, 60}).IsZero() {
		t.Error("another key pays for the first")
	}
	if l.Take(noon, Claim{"c", hourly, 61}).Before(noon.Add(24 * time.Hour)) {
		t.Error("more than the budget is said to fit some day")
	}
	if !l.Take(noon, Claim{"d", Rate{}, 1000000}).IsZero() {
		t.Error("no limit limits")
	}
}

func TestAllClaimsOrNone(t *testing.T) {
	var l Limiter
	messages, recipients := Rate{10, time.Hour}, Rate{20, 24 * time.Hour}
	if !l.Take(noon, Claim{"m", messages, 1}, Claim{"r", recipients, 20}).IsZero() {
		t.Fatal("refused")
	}
	for range 100 {
		if l.Take(noon, Claim{"m", messages, 1}, Claim{"r", recipients, 1}).IsZero() {
			t.Fatal("taken with no recipient left")
		}
	}
	if !l.Take(noon, Claim{"m", messages, 9}).IsZero() {
		t.Error("refused messages were paid for")
	}
}

// TestNeverMoreThanTwoBudgetsInASpan states what GCRA promises: in any span at
// most the burst and what is earned meanwhile.
func TestNeverMoreThanTwoBudgetsInASpan(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rate := Rate{Units: rapid.IntRange(1, 50).Draw(rt, "units"), Span: time.Hour}
		var l Limiter
		type taken struct {
			at     time.Time
			amount int
		}
		var all []taken
		now := noon
		for range rapid.IntRange(1, 200).Draw(rt, "attempts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 600).Draw(rt, "pause")) * time.Second)
			amount := rapid.IntRange(1, 5).Draw(rt, "amount")
			if l.Take(now, Claim{"k", rate, amount}).IsZero() {
				all = append(all, taken{now, amount})
			}
		}
		for i := range all {
			sum := 0
			for _, later := range all[i:] {
				if later.at.Sub(all[i].at) > rate.Span {
					break
				}
				sum += later.amount
			}
			if sum > 2*rate.Units {
				rt.Fatalf("%d units in a span of %d", sum, rate.Units)
			}
		}
	})
}

// TestWhatCameToNothingIsGivenBack: whatever is taken and returned in between,
// what is kept stays within what GCRA promises, and no budget grows.
func TestWhatCameToNothingIsGivenBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rate := Rate{Units: rapid.IntRange(1, 50).Draw(rt, "units"), Span: time.Hour}
		var l Limiter
		now, kept := noon, 0
		for range rapid.IntRange(1, 200).Draw(rt, "attempts") {
			c := Claim{"k", rate, rapid.IntRange(1, 5).Draw(rt, "amount")}
			taken := l.Take(now, c).IsZero()
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(rt, "pause")) * time.Second)
			if taken && rapid.Bool().Draw(rt, "nothing came of it") {
				l.Return(now, c)
			} else if taken {
				kept += c.Amount
			}
		}
		earned := int(float64(rate.Units) * now.Sub(noon).Hours())
		if kept > rate.Units+earned {
			rt.Fatalf("%d units were kept, of %d and %d earned", kept, rate.Units, earned)
		}
		if l.Take(now, Claim{"k", rate, rate.Units + 1}).IsZero() {
			rt.Fatal("the budget grew")
		}
	})
}

func TestWhatIsReturnedCanBeTakenAgain(t *testing.T) {
	var l Limiter
	one := Claim{"k", Rate{1, time.Hour}, 1}
	for range 100 {
		if !l.Take(noon, one).IsZero() {
			t.Fatal("it was not given back")
		}
		l.Return(noon, one)
	}
	l.Return(noon, one, one, Claim{"never taken", one.Rate, 1})
	if !l.Take(noon, one).IsZero() || l.Take(noon, one).IsZero() {
		t.Error("more was given back than was taken")
	}
}

func TestAskingTakesNothing(t *testing.T) {
	var l Limiter
	one := Claim{"k", Rate{1, time.Hour}, 1}
	for range 10 {
		if !l.Ask(noon, one).IsZero() {
			t.Fatal("asking was paid for")
		}
	}
	if len(l.spent) > 0 {
		t.Error("asking is remembered")
	}
	l.Take(noon, one)
	if got, want := l.Ask(noon, one), noon.Add(time.Hour); !got.Equal(want) {
		t.Errorf("it is said to fit at %s, want %s", got, want)
	}
}

func TestKeysAreBounded(t *testing.T) {
	l := Limiter{Keys: 100}
	for i := range 10_000 {
		l.Take(noon, Claim{fmt.Sprint(i), Rate{1, time.Hour}, 1})
	}
	if len(l.spent) > 100 || len(l.order) != len(l.spent) {
		t.Errorf("%d keys are kept, %d in order", len(l.spent), len(l.order))
	}
	l.Take(noon.Add(2*time.Hour), Claim{"much later", Rate{1, time.Hour}, 1})
	if len(l.spent) > 100-trimAtOnce+1 {
		t.Errorf("%d keys are kept after they are whole", len(l.spent))
	}
}

// TestManyKeysDoNotResetASpentBudget: whoever makes new keys by the thousand gets
// no budget back that he has used up, and resets nobody else's.
func TestManyKeysDoNotResetASpentBudget(t *testing.T) {
	l := Limiter{Keys: 100}
	hourly := Rate{10, time.Hour}
	l.Take(noon, Claim{"spent", hourly, 10})
	for i := range 10_000 {
		for range 1 + i%9 {
			l.Take(noon, Claim{fmt.Sprint(i), hourly, 1})
		}
	}
	if l.Take(noon, Claim{"spent", hourly, 1}).IsZero() {
		t.Error("ten thousand keys reset a budget")
	}
}

// TestTheLeastSpentIsForgottenFirst: what a full Limiter forgets at a step is
// never more spent than what it keeps.
func TestTheLeastSpentIsForgottenFirst(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := Limiter{Keys: rapid.IntRange(1, 10).Draw(rt, "keys")}
		for range rapid.IntRange(1, 300).Draw(rt, "steps") {
			before := map[string]time.Time{}
			for key, b := range l.spent {
				before[key] = b.whole
			}
			key := fmt.Sprint(rapid.IntRange(0, 30).Draw(rt, "key"))
			l.Take(noon, Claim{key, Rate{20, time.Hour}, rapid.IntRange(1, 20).Draw(rt, "amount")})
			for forgotten, whole := range before {
				if l.spent[forgotten] == nil && whole.After(l.order[0].whole) {
					rt.Fatalf("%s was forgotten, and spent more than %s", forgotten, l.order[0].key)
				}
			}
			if len(l.spent) > l.Keys || len(l.order) != len(l.spent) {
				rt.Fatalf("%d keys are kept of %d, %d in order", len(l.spent), l.Keys, len(l.order))
			}
		}
	})
}
