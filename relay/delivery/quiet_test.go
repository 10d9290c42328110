package delivery

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestASiteThatRestsCostsFewFacts: what waits for a site that asks for less is not
// leased and given back again and again.
func TestASiteThatRestsCostsFewFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 400
		s := newStation(t, "busy.example")
		s.took = func(Attempt) time.Duration { return time.Second }
		until := time.Now().Add(20 * time.Minute)
		s.answer = func(a Attempt) []Result {
			if time.Now().Before(until) {
				return each(a, Result{Status: Deferred, Enhanced: "4.7.0", Reply: "421 4.7.0 slow down", Said: true, Host: "mx.busy.example"})
			}
			return each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 Ok", Said: true})
		}
		for n := range messages {
			s.keepOf("acme", to(t, fmt.Sprintf("r%d@busy.example", n))...)
		}
		s.Start()
		time.Sleep(4 * time.Hour)
		s.stop()
		if facts := len(s.events()); s.left() != 0 || facts > 4*messages {
			t.Errorf("%d messages are left, and took %d facts", s.left(), facts)
		}
	})
}
