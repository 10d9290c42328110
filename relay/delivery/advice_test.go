package delivery

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAPauseOfTheShapingFileIsKept(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var s siteState
	l := SiteLimits{Connections: 10}
	s.heed(now, Advice{Pause: time.Hour}, Result{Reply: "421 4.7.28 unusual rate"})
	for after, want := range map[time.Duration]bool{0: false, 59 * time.Minute: false, time.Hour: true} {
		if ok, _ := s.ready(now.Add(after), l, 0); ok != want {
			t.Errorf("after %s: %t", after, ok)
		}
	}
	s.heed(now, Advice{Pause: time.Minute}, Result{})
	if ok, again := s.ready(now.Add(30*time.Minute), l, 0); ok || !again.Equal(now.Add(time.Hour)) {
		t.Errorf("a shorter pause took its place: %s", again)
	}
}

func TestASlowerSiteHasFewerConnectionsAndALowerRateForAWhile(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var s siteState
	l := SiteLimits{Connections: 10, Messages: 60, Span: time.Minute}
	s.heed(now, Advice{Slow: 4, For: time.Hour}, Result{})
	if got := s.slowed(now, l); got.Connections != 2 || got.interval() != 4*time.Second {
		t.Errorf("%+v", got)
	}
	if got := s.slowed(now.Add(time.Hour), l); got != l {
		t.Errorf("%+v", got)
	}
	if got := s.slowed(now, SiteLimits{Connections: 1}); got.Connections != 1 {
		t.Errorf("%+v", got)
	}
}

// TestNoMoreBeginsThanTheShapingFileAllows: whatever is learned and advised, the
// attempts under way and those of any span of time stay within the limits.
func TestNoMoreBeginsThanTheShapingFileAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := SiteLimits{Connections: rapid.IntRange(1, 30).Draw(t, "connections"), Messages: rapid.IntRange(0, 20).Draw(t, "messages")}
		if l.Messages > 0 {
			l.Span = time.Duration(rapid.IntRange(1, 120).Draw(t, "span")) * time.Second
		}
		var s siteState
		now, slowUntil, slow := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), time.Time{}, 1
		var pausedUntil time.Time
		var begun []time.Time
		underWay := 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				a := Advice{Pause: time.Duration(rapid.IntRange(0, 60).Draw(t, "pause")) * time.Second, Slow: rapid.IntRange(0, 5).Draw(t, "slow"), For: time.Minute}
				s.heed(now, a, Result{})
				if until := now.Add(a.Pause); until.After(pausedUntil) {
					pausedUntil = until
				}
				if a.Slow > 1 {
					slow, slowUntil = a.Slow, now.Add(a.For)
				}
			case 1, 2, 3:
				if underWay > 0 {
					underWay--
					s.learn(now, now, rapid.SampledFrom([]lesson{nothing, answered, busy, unreachable, taken, taken, taken}).Draw(t, "lesson"), Result{}, l)
				}
			default:
				if ok, _ := s.ready(now, l, underWay); !ok {
					continue
				}
				s.begin(now, l)
				underWay++
				begun = append(begun, now)
				most := l.Connections
				if now.Before(slowUntil) {
					most = max(1, most/slow)
				}
				if underWay > most {
					t.Fatalf("%d are under way, %d may be", underWay, most)
				}
				if now.Before(pausedUntil) {
					t.Fatalf("one began at %s, before %s", now, pausedUntil)
				}
				n := 0
				for _, at := range begun {
					if l.Messages > 0 && now.Sub(at) < l.Span {
						n++
					}
				}
				if n > l.Messages && l.Messages > 0 {
					t.Fatalf("%d began within %s, %d may", n, l.Span, l.Messages)
				}
			}
		}
	})
}
