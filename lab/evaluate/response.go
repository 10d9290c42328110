package evaluate

import (
	"time"

	"anechoic/lab/campaign"
	"anechoic/relay/limit"
	"anechoic/watch/detect"
)

// lag is how long after an event what follows from it is in force: facts are sealed
// every second, and the ledger is followed at that pace.
const lag = 2 * time.Second

// response puts in force what findings propose, up to a step. It is a model of the
// response ladder: an action grows by a step at most each time its finding grows,
// never reaches beyond its scope, and ends with its time or its finding.
type response struct {
	allow detect.Step
	live  map[string]*measure // by the finding's ID
}

// measure is an action in force.
type measure struct {
	action detect.Action
	from   time.Time
	until  time.Time // zero: until it is ended
	next   time.Time // of Throttle: when the next message may leave
}

func newResponse(allow detect.Step) *response {
	return &response{allow: allow, live: map[string]*measure{}}
}

// take reads a finding.
func (r *response) take(f detect.Finding, now time.Time) {
	if f.Ended {
		delete(r.live, f.ID)
		return
	}
	step := min(f.Propose.Step, r.allow)
	if step < detect.Throttle || f.Propose.Scope.Org == "" {
		return
	}
	m := r.live[f.ID]
	if m == nil {
		m = &measure{action: detect.Action{Step: detect.Log}, from: now.Add(lag)}
		r.live[f.ID] = m
	}
	m.action.Scope, m.action.Rate = f.Propose.Scope, f.Propose.Rate
	if m.action.Step < step {
		m.action.Step++
	}
	if m.until = (time.Time{}); f.Propose.For > 0 {
		m.until = now.Add(f.Propose.For)
	}
}

// lets says that no action stops a message now. One that any of them stops takes the
// turn of none.
func (r *response) lets(e detect.Event) bool {
	var reaching []*measure
	for id, m := range r.live {
		if !m.until.IsZero() && e.Time.After(m.until) {
			delete(r.live, id)
			continue
		}
		if e.Time.Before(m.from) || !within(m.action.Scope, e) {
			continue
		}
		if !m.free(e.Time) {
			return false
		}
		reaching = append(reaching, m)
	}
	for _, m := range reaching {
		m.next = e.Time.Add(time.Hour / time.Duration(m.action.Rate))
	}
	return true
}

// within says that a message is in a scope.
func within(s detect.Scope, e detect.Event) bool {
	return s.Org == e.Org && (s.Source == "" || s.Source == e.Source) && (s.Domain == "" || s.Domain == domainOf(e.From))
}

// free says that it is a message's turn.
func (m *measure) free(at time.Time) bool {
	return m.action.Step == detect.Throttle && m.action.Rate > 0 && !at.Before(m.next)
}

// caps are those of a source's tier, as relay/limit has them: of a minute and an hour
// all at once and evenly back, of a day never more in any 24 hours.
type caps struct {
	minute bucket
	hour   bucket
	day    window
	most   int // recipients a day
}

func newCaps(tier limit.Tier) *caps {
	rule, _ := limit.RuleOf(tier)
	return &caps{
		minute: newBucket(rule.Caps.MessagesPerMinute, time.Minute), hour: newBucket(rule.Caps.MessagesPerHour, time.Hour),
		most: int(rule.Caps.RecipientsPerDay),
	}
}

// take counts a message if there is room for it. What is over a cap waits, and is not
// counted.
func (c *caps) take(e detect.Event) bool {
	recipients := len(e.Rcpt)
	if !c.minute.has(e.Time) || !c.hour.has(e.Time) || c.most > 0 && c.day.count(e.Time)+recipients > c.most {
		return false
	}
	c.minute.left--
	c.hour.left--
	c.day.add(e.Time, recipients)
	return true
}

// bucket holds what may be sent at once, and fills evenly.
type bucket struct {
	size, left float64
	each       time.Duration // to fill it whole
	at         time.Time
}

func newBucket(size int64, each time.Duration) bucket {
	return bucket{size: float64(size), left: float64(size), each: each}
}

// has fills up and says that there is room for one more; a bucket without size has.
func (b *bucket) has(at time.Time) bool {
	if b.size == 0 {
		return true
	}
	if !b.at.IsZero() {
		b.left = min(b.size, b.left+b.size*float64(at.Sub(b.at))/float64(b.each))
	}
	b.at = at
	return b.left >= 1
}

// window counts a day, in quarters of an hour.
type window struct {
	slots [97]struct {
		number int64
		n      int
	}
}

func quarter(at time.Time) int64 { return at.Unix() / int64(15*time.Minute/time.Second) }

func (w *window) add(at time.Time, n int) {
	number := quarter(at)
	s := &w.slots[number%int64(len(w.slots))]
	if s.number != number {
		s.number, s.n = number, 0
	}
	s.n += n
}

func (w *window) count(at time.Time) (n int) {
	now := quarter(at)
	for _, s := range w.slots {
		if now-s.number < int64(len(w.slots)) {
			n += s.n
		}
	}
	return n
}

// tiers gives the tier of each source of a world.
func tiers(w *campaign.World) map[string]limit.Tier {
	list := map[string]limit.Tier{}
	for _, o := range w.Organisations {
		for _, s := range o.Sources {
			list[s.ID] = s.Tier
		}
	}
	return list
}
