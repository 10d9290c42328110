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

func TestKeysAreBounded(t *testing.T) {
	l := Limiter{Keys: 100}
	for i := range 10_000 {
		l.Take(noon, Claim{fmt.Sprint(i), Rate{1, time.Hour}, 1})
	}
	if len(l.spent) > 100 {
		t.Errorf("%d keys are kept", len(l.spent))
	}
}
