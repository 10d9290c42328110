package alert

import (
	"testing"
	"time"
)

// Each step of a response is news, whatever the numbers of its incident are; everything
// else is told when it doubles.
func TestWhatIsNewsIsToldHoweverLittleChanged(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var i Incident
	for n, want := range []Change{Opened, Updated, Updated, Updated, Updated} {
		var got Change
		if i, got = i.After(Alert{Key: "response 1", Severity: Warning, Time: at, News: true}); got != want {
			t.Errorf("step %d is %q, want %q", n, got, want)
		}
	}
	var other Incident
	told := 0
	for range 5 {
		var got Change
		if other, got = other.After(Alert{Key: "finding 1", Severity: Warning, Time: at}); got != Nothing {
			told++
		}
	}
	if told != 3 { // the first, the second, the fourth
		t.Errorf("five alerts were told %d times", told)
	}
}
