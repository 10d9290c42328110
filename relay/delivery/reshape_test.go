package delivery

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/mail"
)

// shaped gives a station limits that a test can change while it runs.
func (s *station) shaped(first SiteLimits) (change func(SiteLimits)) {
	var in atomic.Pointer[SiteLimits]
	in.Store(&first)
	s.Limits = func(string, mail.Domain) SiteLimits { return *in.Load() }
	return func(l SiteLimits) { in.Store(&l); s.Reshape() }
}

// mostSince is the most attempts at a site at a time since it was asked last.
func (f *fakeTransport) mostSince(site string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer delete(f.most, site)
	return f.most[site]
}

func TestASiteThatRestsForItsRateGoesOnWhenAReloadAllowsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "slow.example")
		change := s.shaped(SiteLimits{Messages: 1, Span: 12 * time.Hour})
		for n := range 20 { // more than the board has at a time
			s.keepOf("acme", to(t, fmt.Sprintf("r%d@slow.example", n))...)
		}
		s.Start()
		defer s.stop()
		time.Sleep(time.Hour)
		if n := len(s.made()); n != 1 {
			t.Fatalf("%d attempts by the first limits", n)
		}
		change(SiteLimits{Messages: 60, Span: time.Hour})
		time.Sleep(30 * time.Second)
		if n := len(s.made()); n != 2 {
			t.Errorf("%d attempts soon after the change", n)
		}
		time.Sleep(10 * time.Minute)
		if n := len(s.made()); n != 12 {
			t.Errorf("%d attempts in ten minutes of one a minute", n)
		}
	})
}

func TestASiteWithMuchThatWaitsIsHeldToLessAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "big.example")
		change := s.shaped(SiteLimits{Connections: 20})
		s.took = func(Attempt) time.Duration { return time.Minute }
		for n := range 200 {
			s.keepOf("acme", to(t, fmt.Sprintf("r%d@big.example", n))...)
		}
		s.Start()
		defer s.stop()
		time.Sleep(5*time.Minute + time.Second)
		if n := s.mostSince("big.example"); n < 10 {
			t.Fatalf("at most %d at a time by the first limits", n)
		}
		change(SiteLimits{Connections: 2})
		if status, ok := s.Site("big.example"); !ok || status.Limit != 2 {
			t.Errorf("%+v", status)
		}
		time.Sleep(time.Minute) // what was under way ends
		s.mostSince("big.example")
		time.Sleep(10 * time.Minute)
		if n := s.mostSince("big.example"); n > 2 || n == 0 {
			t.Errorf("%d at a time after the change", n)
		}
	})
}
