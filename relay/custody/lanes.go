package custody

import (
	"container/heap"
	"time"

	"anechoic/mail"
)

// Whose turn it is. Organisations take turns, one lease each; within an
// organisation its recipient domains do; within one domain of an organisation
// what is due longest goes first. So the flood of one organisation, or to one of
// its domains, costs another a turn and no more: between two leases of an organisation
// that has something due, any other gets at most one.

// tenant is what is queued for one organisation.
type tenant struct {
	org       string
	origins   []*origin
	lanes     map[laneKey]*lane
	ready     []*lane // were due, in the order of their turns
	passed    []*lane // passed over in this call of take
	messages  int
	listed    bool // it is in index.ready, or about to be put back there
	suspended bool
}

// origin is one source of an organisation.
type origin struct {
	tenant    *tenant
	source    string
	suspended bool
}

// place says where a lane stands.
type place uint8

const (
	placeNowhere place = iota // nothing queued that may go
	placeWaiting
	placeReady
)

// laneKey is what the lanes of an organisation differ by.
type laneKey struct {
	domain mail.Domain
	way    way
}

// lane is what is queued of one organisation for one recipient domain, and goes one
// way.
type lane struct {
	laneKey
	tenant    *tenant
	parts     []part // by origin: few organisations have several sources
	due       int64  // of the first slot, while it is waiting
	refs      int    // slots that name it, queued or not
	queued    int    // recipients in the slots of its heaps
	at        int    // in index.waiting
	place     place
	suspended bool // its domain is
}

// part is what one origin has in a lane.
type part struct {
	origin *origin
	slots  slotHeap
}

// origin is that of a message; it is made at the first.
func (x *index) origin(org, source string) *origin {
	t := x.tenants[org]
	if t == nil {
		t = &tenant{org: org, lanes: map[laneKey]*lane{}, suspended: x.suspended.has(ScopeOrganisation, org)}
		x.tenants[org] = t
	}
	for _, o := range t.origins {
		if o.source == source {
			return o
		}
	}
	o := &origin{tenant: t, source: source, suspended: source != "" && x.suspended.has(ScopeSource, sourceName(org, source))}
	t.origins = append(t.origins, o)
	return o
}

// lane is that of an organisation to a domain, for one more slot.
func (x *index) lane(t *tenant, k laneKey) *lane {
	l := t.lanes[k]
	if l == nil {
		l = &lane{tenant: t, laneKey: k, suspended: x.suspended.has(ScopeDomain, k.domain.String())}
		t.lanes[k] = l
	}
	l.refs++
	return l
}

func (l *lane) part(o *origin) *part {
	for i := range l.parts {
		if l.parts[i].origin == o {
			return &l.parts[i]
		}
	}
	l.parts = append(l.parts, part{origin: o})
	return &l.parts[len(l.parts)-1]
}

// first is the slot that is due first of those that are not suspended, or nil. What
// a person ended is not sent to anybody, so that no suspension is about it.
func (l *lane) first() (first *slot) {
	if (l.suspended || l.tenant.suspended) && !l.way.end {
		return nil
	}
	for i := range l.parts {
		p := &l.parts[i]
		if len(p.slots) > 0 && (!p.origin.suspended || l.way.end) && (first == nil || p.slots[0].due < first.due) {
			first = p.slots[0]
		}
	}
	return first
}

// place puts a slot into its lane's heap if a recipient is queued.
func (x *index) place(s *slot) {
	queued := 0
	rcpts := s.rcpts()
	for i := range rcpts {
		if r := &rcpts[i]; r.state == recipientQueued {
			if queued == 0 || r.due < s.due {
				s.due = r.due
			}
			x.latest = max(x.latest, r.due)
			queued++
		}
	}
	if queued == 0 {
		return
	}
	s.lane.queued += queued
	heap.Push(&s.lane.part(s.entry.origin).slots, s)
	x.moved(s.lane)
}

// remove takes a slot out of its lane's heap, if it is there.
func (x *index) remove(s *slot) {
	if s.at == outside {
		return
	}
	for _, r := range s.rcpts() {
		if r.state == recipientQueued {
			s.lane.queued--
		}
	}
	heap.Remove(&s.lane.part(s.entry.origin).slots, int(s.at))
	x.moved(s.lane)
}

// moved puts a lane where it belongs after its first slot changed. One that is
// ready stays so until its turn.
func (x *index) moved(l *lane) {
	first := l.first()
	if first != nil {
		l.due = first.due
	}
	switch {
	case l.place == placeReady:
	case first == nil && l.place == placeWaiting:
		heap.Remove(&x.waiting, l.at)
	case first == nil:
	case l.place == placeWaiting:
		heap.Fix(&x.waiting, l.at)
	default:
		heap.Push(&x.waiting, l)
	}
}

// Candidate is what a lease is about to be taken of.
type Candidate struct {
	Domain       mail.Domain
	Via          string // the next hop a person chose instead; see Lease
	End          bool   // it is bounced without an attempt
	Organisation string
	// Overdue says that the message has, as far as its id tells, no time left.
	Overdue bool
}

// How much of what cannot go is looked at in one call of take, and how soon the rest
// is: with a million messages for a site that takes no more, looking at all of them
// at each call would be all that a processor does.
const (
	maxPassed = 256
	lookAgain = 5 * time.Millisecond
)

// take gives up to want slots that are due, out of their heaps. skip is asked
// before each; a lane it names is passed over until the next call and keeps its
// turn, unless so many are passed over that the call ends: then those come last, and
// the next call goes on where this one ended.
func (x *index) take(now int64, want int, skip func(Candidate) bool) []*slot {
	x.ripen(now)
	var taken []*slot
	var idle []*tenant
	passes := 0
	for len(x.ready) > 0 && len(taken) < want && passes < maxPassed {
		t := x.ready[0]
		x.ready = x.ready[1:]
		s := x.turn(t, now, skip, &passes)
		switch {
		case s != nil:
			taken = append(taken, s)
			x.ready = append(x.ready, t)
		case len(t.ready) > 0: // the call ends
			x.ready = append(x.ready, t)
		case len(t.passed) > 0:
			idle = append(idle, t)
		default:
			t.listed = false
			x.retire(t)
		}
	}
	if x.fruitless += passes; len(taken) > 0 {
		x.fruitless = 0
	}
	cut := passes >= maxPassed
	if x.cut = cut && x.fruitless < x.readyLanes; !x.cut {
		x.fruitless = 0 // all were looked at
	}
	for _, t := range x.passed {
		if cut {
			t.ready = append(t.ready, t.passed...)
		} else {
			t.ready = append(t.passed, t.ready...)
		}
		t.passed = nil
	}
	x.passed = x.passed[:0]
	if cut {
		x.ready = append(x.ready, idle...)
	} else if len(idle) > 0 {
		x.ready = append(idle, x.ready...)
	}
	return taken
}

// turn gives the next slot of one organisation, or nil, and counts the lanes that
// it passed over.
func (x *index) turn(t *tenant, now int64, skip func(Candidate) bool, passes *int) *slot {
	for len(t.ready) > 0 && *passes < maxPassed {
		l := t.ready[0]
		t.ready = t.ready[1:]
		s := l.first()
		switch {
		case s == nil || s.due > now:
			l.place = placeNowhere
			x.readyLanes--
			x.moved(l)
			x.unlist(l)
		case skip != nil && skip(Candidate{Domain: l.domain, Via: l.way.via, End: l.way.end, Organisation: t.org, Overdue: s.entry.key.kept()+x.expires <= now}):
			if t.passed == nil {
				x.passed = append(x.passed, t)
			}
			t.passed = append(t.passed, l)
			*passes++
		default:
			x.remove(s)
			t.ready = append(t.ready, l)
			return s
		}
	}
	return nil
}

// ripen makes ready the lanes that are due.
func (x *index) ripen(now int64) {
	x.pullIn(now)
	for len(x.waiting) > 0 && x.waiting[0].due <= now {
		l := heap.Pop(&x.waiting).(*lane)
		l.place = placeReady
		x.readyLanes++
		t := l.tenant
		t.ready = append(t.ready, l)
		if !t.listed {
			t.listed = true
			x.ready = append(x.ready, t)
		}
	}
}

// clockSlack is what a clock may be put back without anything being done.
const clockSlack = time.Minute

// pullIn sees to it that nothing waits longer than a retry can be off. Only what
// got its due time before the clock was put back does.
func (x *index) pullIn(now int64) {
	limit := now + x.longest
	if x.latest <= limit+int64(clockSlack) {
		return
	}
	for _, t := range x.tenants {
		for _, l := range t.lanes {
			l.pullIn(limit)
		}
	}
	x.latest = limit
}

// pullIn leaves the order as it is: what was earlier is not later afterwards.
func (l *lane) pullIn(limit int64) {
	l.due = min(l.due, limit)
	for i := range l.parts {
		for _, s := range l.parts[i].slots {
			s.due = min(s.due, limit)
			rcpts := s.rcpts()
			for j := range rcpts {
				rcpts[j].due = min(rcpts[j].due, limit)
			}
		}
	}
}

// nextDue is when the first lane becomes due of those that are not at now; or soon, if
// not all that were due were looked at.
func (x *index) nextDue(now int64) (int64, bool) {
	x.ripen(now)
	if x.cut {
		return now + int64(lookAgain), true
	}
	if len(x.waiting) == 0 {
		return 0, false
	}
	return x.waiting[0].due, true
}

// unlist forgets a lane that no slot names; one that is ready, at its turn.
func (x *index) unlist(l *lane) {
	if l.refs == 0 && l.place == placeNowhere {
		delete(l.tenant.lanes, l.laneKey)
		x.retire(l.tenant)
	}
}

// retire forgets an organisation of which nothing is left; one that is listed,
// at its turn.
func (x *index) retire(t *tenant) {
	if t.messages == 0 && len(t.lanes) == 0 && !t.listed && x.tenants[t.org] == t {
		delete(x.tenants, t.org)
	}
}

// slotHeap is a heap.Interface by due.
type slotHeap []*slot

func (h slotHeap) Len() int           { return len(h) }
func (h slotHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h slotHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = int32(i), int32(j) }
func (h *slotHeap) Push(s any)        { s.(*slot).at = int32(len(*h)); *h = append(*h, s.(*slot)) }
func (h *slotHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	s.at = outside
	*h = old[:len(old)-1]
	return s
}

// laneHeap is a heap.Interface by the due of each lane's first slot.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h laneHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *laneHeap) Push(l any) {
	q := l.(*lane)
	q.at, q.place = len(*h), placeWaiting
	*h = append(*h, q)
}
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	l.place = placeNowhere
	*h = old[:len(old)-1]
	return l
}
