package delivery

import (
	"strings"
	"time"
)

// What a site teaches. Constants are ours where no source is named; the shape is
// Postfix's concurrency feedback (its qmgr(8), "initial destination concurrency" and
// "failed cohort limit"), with pauses for what a site asks for.
const (
	firstWindow = 5 // attempts at a site nothing is known of

	deadAfter = 3 // attempts in a row that reached nobody
	deadFor   = time.Minute
	maxDead   = 30 * time.Minute

	busyFor   = 15 * time.Second
	maxBusy   = 15 * time.Minute
	briefBusy = 2 * time.Second // where it took some mail since the last pause: it has a rate, and that is learned

	maxSpacing = time.Minute // between two attempts, learned

	calmAfter = 10 // attempts in a row that were taken, until pauses begin short again
)

// lesson is what an attempt tells of its site.
type lesson uint8

const (
	nothing     lesson = iota // nothing
	answered                  // it is there; the answer was about recipients or message
	busy                      // it asks for less
	unreachable               // nobody answered
	taken                     // it takes mail
)

// siteState is what is known of one site, and decides what may begin there. It is a
// value; time is a parameter. The zero siteState is that of a site nothing is known
// of.
type siteState struct {
	window  float64   // attempts at a time, learned; 0: firstWindow
	careful bool      // there was trouble since it took all that its limits allow
	missed  int       // in a row that reached nobody
	calm    int       // in a row that were taken
	pauses  int       // in a row, each longer than the one before
	until   time.Time // when the last pause ends
	since   time.Time // when it began
	dead    bool      // until then, mail is deferred without an attempt
	why     Result    // what began it
	next    time.Time // no attempt before: the rate
	last    time.Time // attempt that began

	spacing time.Duration // between attempts, learned of a site that takes some and refuses the rest
	flowing time.Time     // the first attempt since the last pause
	took    int           // taken since

	slow      int       // by what the shaping file divides the limits
	slowUntil time.Time // and until when
}

// connections is how many attempts may be under way at a time.
func (s *siteState) connections(l SiteLimits) int {
	window := s.window
	if window == 0 {
		window = firstWindow
	}
	return max(1, min(int(window), l.Connections))
}

// paused says until when nothing is to begin, and why.
func (s *siteState) paused(now time.Time) (until time.Time, yes bool) {
	return s.until, now.Before(s.until)
}

// ready says whether one more attempt may begin beside those under way; if not,
// when to ask again. The zero time is: when one has ended.
func (s *siteState) ready(now time.Time, l SiteLimits, underWay int) (ok bool, again time.Time) {
	l = s.slowed(now, l)
	switch {
	case underWay >= s.connections(l):
		return false, time.Time{}
	case now.Before(s.until):
		return false, s.until
	case s.interval(l) > 0 && now.Before(s.next):
		return false, s.next
	}
	return true, time.Time{}
}

// begin notes that an attempt began. Attempts are spaced evenly, so that no span of
// time, wherever it begins, has more than the limit.
func (s *siteState) begin(now time.Time, l SiteLimits) {
	s.last = now
	s.reshape(now, l)
	if s.flowing.IsZero() || s.flowing.Before(s.until) {
		s.flowing = now
	}
}

// reshape says when the next attempt may begin, by these limits.
func (s *siteState) reshape(now time.Time, l SiteLimits) {
	if interval := s.interval(s.slowed(now, l)); interval > 0 && !s.last.IsZero() {
		s.next = s.last.Add(interval)
	}
}

// interval is the time between two attempts, by the limits and by what was learned;
// 0: no bound.
func (s *siteState) interval(l SiteLimits) time.Duration { return max(l.interval(), s.spacing) }

// interval is the time between two attempts; 0: no bound.
func (l SiteLimits) interval() time.Duration {
	if l.Messages <= 0 || l.Span <= 0 {
		return 0
	}
	return (l.Span + time.Duration(l.Messages) - 1) / time.Duration(l.Messages)
}

// learn takes what an attempt that began at a time told. What began before the last
// pause tells nothing new of it.
func (s *siteState) learn(now, began time.Time, what lesson, why Result, l SiteLimits) {
	if s.window == 0 {
		s.window = firstWindow
	}
	if what != taken && began.Before(s.since) {
		return
	}
	switch what {
	case answered:
		s.missed = 0
	case taken:
		s.missed = 0
		s.grow(float64(max(l.Connections, 1)))
		if !began.Before(s.since) {
			s.took++
		}
		if s.calm++; s.calm >= calmAfter {
			s.calm, s.pauses = 0, 0
			s.hasten()
		}
	case busy:
		s.missed = 0
		s.window, s.careful = max(1, s.window/2), true
		if s.took == 0 {
			s.pause(now, busyFor, maxBusy, why)
			break
		}
		s.slacken(now)
		s.pauses = 0
		s.pause(now, briefBusy, briefBusy, why)
		s.pauses = 0 // the next is the first of those without any mail between
	case unreachable:
		s.window, s.careful = max(1, s.window-1), true
		s.calm = 0
		if s.missed++; s.missed >= deadAfter {
			s.window = 1
			s.pause(now, deadFor, maxDead, why)
			s.dead = true
		}
	}
}

// grow lets more begin: doubled by what is taken in one round, or one more a round
// where there was trouble.
func (s *siteState) grow(most float64) {
	more := 1.0
	if s.careful {
		more = 1 / s.window
	}
	if s.window += more; s.window >= most {
		s.window, s.careful = most, false
	}
}

// slacken spaces attempts wider than the site took them since the last pause.
func (s *siteState) slacken(now time.Time) {
	lately := now.Sub(s.flowing) / time.Duration(s.took)
	s.spacing = min(max(lately, s.spacing, time.Millisecond)*3/2, maxSpacing)
}

// hasten spaces attempts a little closer, in the end not at all.
func (s *siteState) hasten() {
	if s.spacing -= s.spacing / 8; s.spacing < 2*time.Millisecond {
		s.spacing = 0
	}
}

// pause begins one: of the first length, doubled with each in a row.
func (s *siteState) pause(now time.Time, first, longest time.Duration, why Result) {
	length := longest
	if s.pauses < 16 {
		length = min(first<<s.pauses, longest)
	}
	s.pauses++
	s.calm, s.took, s.dead = 0, 0, false
	s.since, s.why = now, why
	if end := now.Add(length); end.After(s.until) { // advice may have made it longer
		s.until = end
	}
}

// isDead says that what is for the site now is deferred without an attempt.
func (s *siteState) isDead(now time.Time) bool { return s.dead && now.Before(s.until) }

// lessonOf says what the results of an attempt tell of the site, and the result
// that tells it.
func lessonOf(results []Result) (tells lesson, why Result) {
	for _, r := range results {
		if l := r.lesson(); l > tells {
			tells, why = l, r
		}
	}
	return tells, why
}

func (r Result) lesson() lesson {
	switch {
	case r.Status == Delivered:
		return taken
	case r.Reason != "": // a rule of ours stood in the way
		return nothing
	case r.Status == Deferred && r.Said && asksForLess(r):
		return busy
	case r.Said:
		return answered
	case r.Status == Deferred && r.Host == "" && (r.Enhanced == "4.4.1" || r.Enhanced == "4.4.4"):
		if strings.Contains(r.Reply, " 421 ") { // every server answered, this in its greeting
			return busy
		}
		return unreachable
	}
	return nothing
}

// asksForLess says that a reply is about the rate of mail rather than about this
// message: 421 (RFC 5321 section 3.8), a congested or unwilling system (RFC 3463
// sections 3.4 and 3.5: 4.3.2, 4.4.5), and 4.7.x, which the large providers use for
// it. Greylisting uses 4.7.x too; it is about one message.
func asksForLess(r Result) bool {
	text := strings.ToLower(r.Reply)
	if strings.Contains(text, "greylist") || strings.Contains(text, "graylist") || strings.Contains(text, "grey list") || strings.Contains(text, "gray list") {
		return false
	}
	return strings.HasPrefix(r.Reply, "421") || r.Enhanced == "4.3.2" || r.Enhanced == "4.4.5" || strings.HasPrefix(r.Enhanced, "4.7.")
}
