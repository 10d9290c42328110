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
	lanes     map[*destination]*lane
	ready     []*lane // were due, in the order of their turns
	passed    []*lane // passed over in this call of take
	messages  int
	counts    counts
	listed    bool // it is in index.ready, or about to be put back there
	suspended bool
}

// origin is one source of an organisation.
type origin struct {
	tenant    *tenant
	source    string
	queued    int32 // recipients in the heaps of its parts
	suspended bool
}

// Where a lane stands that is not in index.waiting: what lane.at is then.
const (
	nowhere int32 = -1 // nothing is queued that may go
	isReady int32 = -2 // in tenant.ready or tenant.passed
)

// destination is a recipient domain and one way there: what the lanes of an
// organisation differ by. Those of all organisations share it.
type destination struct {
	domain    mail.Domain
	way       way
	other     *destination // of the same domain; nil: there is no more
	lanes     int32        // that lead there
	counts    counts
	suspended bool // the domain is
}

// lane is what is queued of one organisation for one recipient domain, and goes one
// way.
type lane struct {
	to     *destination
	part   part    // of the first origin: few organisations have several sources
	more   *[]part // of the others
	due    int64   // of the first slot, while it is waiting
	leased int32   // recipients, as in counts
	held   int32
	refs   int32 // slots that name it, queued or not
	at     int32 // in index.waiting; nowhere, isReady
}

func (l *lane) tenant() *tenant { return l.part.origin.tenant }
func (l *lane) waits() bool     { return l.at >= 0 }

// counts are the recipients in the lane; those queued are what its parts have.
func (l *lane) counts() counts {
	c := counts{leased: l.leased, held: l.held}
	for p := range l.parts {
		c.queued += p.queued
	}
	return c
}

// part is what one origin has in a lane.
type part struct {
	origin *origin
	slots  slotHeap
	queued int32 // recipients in them
}

// origin is that of a message; it is made at the first.
func (x *index) origin(org, source string) *origin {
	t := x.tenants[org]
	if t == nil {
		t = &tenant{org: org, lanes: map[*destination]*lane{}, suspended: x.suspended.has(ScopeOrganisation, org)}
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

// destination is that of a domain and a way; it is made at the first lane.
func (x *index) destination(domain mail.Domain, w way) *destination {
	first := x.destinations[domain]
	for d := first; d != nil; d = d.other {
		if d.way == w {
			return d
		}
	}
	d := &destination{domain: domain, way: w, suspended: x.suspended.has(ScopeDomain, domain.String())}
	if first == nil {
		x.destinations[domain] = d
	} else {
		d.other, first.other = first.other, d
	}
	return d
}

// leaveDestination forgets a destination that no lane leads to any more.
func (x *index) leaveDestination(gone *destination) {
	first := x.destinations[gone.domain]
	switch {
	case first != gone:
		for d := first; d != nil; d = d.other {
			if d.other == gone {
				d.other = gone.other
			}
		}
	case gone.other != nil:
		x.destinations[gone.domain] = gone.other
	default:
		delete(x.destinations, gone.domain)
	}
}

// lane is that of an origin's organisation to a domain, for one more slot.
func (x *index) lane(o *origin, domain mail.Domain, w way) *lane {
	d := x.destination(domain, w)
	l := o.tenant.lanes[d]
	if l == nil {
		l = &lane{to: d, part: part{origin: o}, at: nowhere}
		o.tenant.lanes[d] = l
		d.lanes++
		x.lanes++
	}
	l.refs++
	return l
}

// of is the part of an origin; it is made at the first slot.
func (l *lane) of(o *origin) *part {
	for p := range l.parts {
		if p.origin == o {
			return p
		}
	}
	if l.more == nil {
		l.more = new([]part)
	}
	*l.more = append(*l.more, part{origin: o})
	return &(*l.more)[len(*l.more)-1]
}

// parts gives what each origin has in the lane.
func (l *lane) parts(yield func(*part) bool) {
	if !yield(&l.part) || l.more == nil {
		return
	}
	for i := range *l.more {
		if !yield(&(*l.more)[i]) {
			return
		}
	}
}

// first is the slot that is due first of those that are not suspended, or nil. What
// a person ended is not sent to anybody, so that no suspension is about it.
func (l *lane) first() (first *slot) {
	ended := l.to.way.end
	if (l.to.suspended || l.tenant().suspended) && !ended {
		return nil
	}
	for p := range l.parts {
		if len(p.slots) > 0 && (ended || !p.origin.suspended) && (first == nil || p.slots[0].due() < first.due()) {
			first = p.slots[0]
		}
	}
	return first
}

// place puts a slot into its lane's heap if a recipient is queued.
func (x *index) place(s *slot) {
	queued, due := int32(0), int64(0)
	rcpts := s.rcpts()
	for i := range rcpts {
		if r := &rcpts[i]; r.state == recipientQueued {
			if queued == 0 || r.due < due {
				due = r.due
			}
			x.latest = max(x.latest, r.due)
			queued++
		}
	}
	if queued == 0 {
		return
	}
	if s.hasSeveral() {
		s.rare.due = due
	}
	p := s.lane.of(s.entry.origin)
	x.countQueued(s, p, queued)
	heap.Push(&p.slots, s)
	x.moved(s.lane)
}

// remove takes a slot out of its lane's heap, if it is there.
func (x *index) remove(s *slot) {
	if s.at == outside {
		return
	}
	queued := int32(0)
	for _, r := range s.rcpts() {
		if r.state == recipientQueued {
			queued++
		}
	}
	p := s.lane.of(s.entry.origin)
	x.countQueued(s, p, -queued)
	heap.Remove(&p.slots, int(s.at))
	x.moved(s.lane)
}

// moved puts a lane where it belongs after its first slot changed. One that is
// ready stays so until its turn.
func (x *index) moved(l *lane) {
	first := l.first()
	if first != nil {
		l.due = first.due()
	}
	switch {
	case l.at == isReady:
	case first == nil && l.waits():
		heap.Remove(&x.waiting, int(l.at))
	case first == nil:
	case l.waits():
		heap.Fix(&x.waiting, int(l.at))
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
// at each call would be all that a processor does. What was suspended while it was
// ready costs less to look at, and does so once.
const (
	maxPassed  = 256
	maxEmptied = 4 * maxPassed
	lookAgain  = 5 * time.Millisecond
)

// look is how much one call of take looked at.
type look struct {
	passed  int // lanes passed over, which stay ready
	emptied int // lanes of which nothing may go any more
}

// over says that this was enough for one call.
func (k *look) over() bool { return k.passed >= maxPassed || k.emptied >= maxEmptied }

// take gives up to want slots that are due, out of their heaps. skip is asked
// before each; a lane it names is passed over until the next call and keeps its
// turn, unless so many are passed over that the call ends: then those come last, and
// the next call goes on where this one ended.
func (x *index) take(now int64, want int, skip func(Candidate) bool) []*slot {
	x.ripen(now)
	var taken []*slot
	var idle []*tenant
	var looked look
	for len(x.ready) > 0 && len(taken) < want && !looked.over() {
		t := x.ready[0]
		x.ready = x.ready[1:]
		s := x.turn(t, now, skip, &looked)
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
	if x.fruitless += looked.passed; len(taken) > 0 {
		x.fruitless = 0
	}
	cut := looked.over()
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
func (x *index) turn(t *tenant, now int64, skip func(Candidate) bool, looked *look) *slot {
	for len(t.ready) > 0 && !looked.over() {
		l := t.ready[0]
		t.ready = t.ready[1:]
		s := l.first()
		switch {
		case s == nil || s.due() > now:
			l.at = nowhere
			x.readyLanes--
			x.moved(l)
			x.unlist(l)
			looked.emptied++
		case skip != nil && skip(Candidate{Domain: l.to.domain, Via: l.to.way.via, End: l.to.way.end, Organisation: t.org, Overdue: s.entry.key.kept()+x.expires <= now}):
			if t.passed == nil {
				x.passed = append(x.passed, t)
			}
			t.passed = append(t.passed, l)
			looked.passed++
		default:
			x.remove(s)
			t.ready = append(t.ready, l)
			return s
		}
	}
	return nil
}

// maxRipened is how many lanes become ready at a time, those that are due longest
// first: a million may be due at once, after a suspension.
const maxRipened = 4096

// ripen makes ready the lanes that are due.
func (x *index) ripen(now int64) {
	x.pullIn(now)
	for n := 0; n < maxRipened && len(x.waiting) > 0 && x.waiting[0].due <= now; n++ {
		l := heap.Pop(&x.waiting).(*lane)
		l.at = isReady
		x.readyLanes++
		t := l.tenant()
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
	for p := range l.parts {
		for _, s := range p.slots {
			if s.hasSeveral() {
				s.rare.due = min(s.rare.due, limit)
			}
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
	return max(x.waiting[0].due, now), true // at now: more are due than became ready
}

// unlist forgets a lane that no slot names; one that is ready, at its turn.
func (x *index) unlist(l *lane) {
	if l.refs == 0 && l.at == nowhere {
		delete(l.tenant().lanes, l.to)
		x.lanes--
		if l.to.lanes--; l.to.lanes == 0 {
			x.leaveDestination(l.to)
		}
		x.retire(l.tenant())
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
func (h slotHeap) Less(i, j int) bool { return h[i].due() < h[j].due() }
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
func (h laneHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = int32(i), int32(j) }
func (h *laneHeap) Push(l any) {
	q := l.(*lane)
	q.at = int32(len(*h))
	*h = append(*h, q)
}
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	l.at = nowhere
	*h = old[:len(old)-1]
	return l
}
