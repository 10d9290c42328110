package app

import (
	"fmt"
	"testing"
	"time"

	"anechoic/org"
)

func TestADigestIsDueOnceADayInTheMorning(t *testing.T) {
	day := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	slots := map[time.Duration]bool{}
	for i := range 200 {
		id := org.ID(fmt.Sprint("org-", i))
		var mark digestMark
		sent := 0
		for now := day; now.Before(day.AddDate(0, 0, 5)); now = now.Add(10 * time.Minute) {
			if !digestDue(id, mark, now) {
				continue
			}
			if at := now.Sub(now.Truncate(24 * time.Hour)); sent > 0 && (at < digestFrom || at > digestFrom+digestSpread+10*time.Minute) {
				t.Fatalf("%s: due at %s", id, now)
			} else if sent > 0 {
				slots[at] = true
			}
			mark.At = now
			sent++
		}
		if sent != 6 { // the first at once: it was never told of anything
			t.Errorf("%s: %d digests in five days", id, sent)
		}
	}
	if len(slots) < 10 {
		t.Errorf("they are due at %d times of the day", len(slots))
	}
}
