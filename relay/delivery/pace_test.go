package delivery

import (
	"testing"
	"time"
)

// TestTheRateOfASiteIsLearned has a site that takes ten messages a second and
// refuses what is more, as those do that count by sender: most of what it would take
// gets there, and little is refused.
func TestTheRateOfASiteIsLearned(t *testing.T) {
	const perSecond, burst, minutes = 10, 20, 10
	limits := SiteLimits{Connections: 20}
	var s siteState
	took, refused, tokens := 0, 0, float64(burst)
	end := dawn.Add(minutes * time.Minute)
	for now := dawn; now.Before(end); {
		ok, again := s.ready(now, limits, 0)
		if !ok {
			tokens = min(burst, tokens+perSecond*again.Sub(now).Seconds())
			now = again
			continue
		}
		began := now
		s.begin(now, limits)
		now = now.Add(time.Millisecond)
		tokens = min(burst, tokens+perSecond*time.Millisecond.Seconds())
		if tokens >= 1 {
			took, tokens = took+1, tokens-1
			s.learn(now, began, taken, Result{}, limits)
		} else {
			refused++
			s.learn(now, began, busy, Result{Reply: "451 4.7.1 too fast"}, limits)
		}
	}
	if most := perSecond * minutes * 60; took < most*7/10 || refused > took/10 {
		t.Errorf("%d of %d were taken, %d refused", took, most, refused)
	}
	if s.spacing == 0 {
		t.Error("nothing was learned")
	}
}
