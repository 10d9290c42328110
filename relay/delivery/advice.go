package delivery

import "time"

// heed asks what the shaping file says of the answers an attempt got, and tells
// the site. It is more than what the site teaches by itself: somebody wrote it
// down.
func (d *Dispatcher) heed(t task, results []Result) {
	if d.Advise == nil || t.end != nil {
		return
	}
	for _, r := range results {
		if a := d.Advise(t.route.Site, t.lease.Domain, r); a != (Advice{}) {
			d.board.heed(t.site, a, r, time.Now())
			return
		}
	}
}

func (b *board) heed(s *site, a Advice, why Result, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.state.heed(now, a, why)
	b.settle(s, now)
}

// heed begins what an answer asks for. A pause that is longer already stays, and
// one for a dead site becomes one for a site that answers.
func (s *siteState) heed(now time.Time, a Advice, why Result) {
	if until := now.Add(a.Pause); a.Pause > 0 && until.After(s.until) {
		s.since, s.until, s.why, s.dead = now, until, why, false
	}
	if a.Slow > 1 {
		s.slow, s.slowUntil = a.Slow, now.Add(a.For)
	}
}

// slowed divides the limits of a site by what an answer asked for, as long as that
// counts.
func (s *siteState) slowed(now time.Time, l SiteLimits) SiteLimits {
	if s.slow <= 1 || !now.Before(s.slowUntil) {
		return l
	}
	l.Connections = max(1, l.Connections/s.slow)
	if l.Messages > 0 {
		l.Span *= time.Duration(s.slow)
	}
	return l
}
