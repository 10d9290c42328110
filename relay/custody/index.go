package custody

import (
	"container/heap"
	"time"

	"anechoic/mail"
)

// index is the queue in memory: what is due when, for whom, and what is leased.
// It holds about 300 octets a message; envelopes and contents stay in the
// engine. It decides, and does no I/O; Queue guards it by its mutex.
type index struct {
	messages map[mail.ID]*entry
	domains  map[mail.Domain]*domainQueue
	waiting  domainHeap     // domains whose first slot is not due, by when it is
	ready    []*domainQueue // domains that were due, in the order of their turns
	orgs     map[string]string
	held     int // recipients
	leased   int // recipients

	recent [maxRecent]*entry // whose records are still at hand
	// recentOctets are those of the contents at hand.
	recentOctets int
	nextRecent   int
}

// maxRecent is how many messages keep their records in memory until their first
// attempt, about 1 KiB each: most mail is attempted as soon as it is kept.
const maxRecent = 4096

// Bounds of the contents that are kept in memory with them, in octets: of one, and
// of all.
const (
	maxRecentContent = 64 << 10
	maxRecentOctets  = 16 << 20
)

func newIndex() *index {
	return &index{messages: map[mail.ID]*entry{}, domains: map[mail.Domain]*domainQueue{}, orgs: map[string]string{}}
}

// entry is one message.
type entry struct {
	id     mail.ID
	org    string
	slots  []*slot
	recent *recent
	open   int32 // recipients not done
	busy   int32 // commits in flight that may finish recipients
	aside  bool  // a record of it was set aside: message and body are never deleted
	gone   bool  // done, or set aside whole
}

// recent is the records of a message as they were kept.
type recent struct {
	record     *messageRecord
	recipients []recipientRecord
	warrant    Warrant
	whole      []byte // header and body; nil: too large, or too much is at hand already
}

// remember keeps the records of a message at hand, and lets go of those of the
// message that was remembered longest ago.
func (x *index) remember(e *entry, r *recent) {
	if old := x.recent[x.nextRecent]; old != nil {
		x.letGo(old)
	}
	if len(r.whole) > maxRecentContent || x.recentOctets+len(r.whole) > maxRecentOctets {
		r.whole = nil
	}
	x.recentOctets += len(r.whole)
	e.recent = r
	x.recent[x.nextRecent] = e
	x.nextRecent = (x.nextRecent + 1) % maxRecent
}

// letGo gives up what is at hand of a message.
func (x *index) letGo(e *entry) {
	if e.recent != nil {
		x.recentOctets -= len(e.recent.whole)
		e.recent = nil
	}
}

// slot is the recipients of one message at one domain. It is in its domain's
// heap while a recipient is queued and nobody has it.
type slot struct {
	entry  *entry
	domain *domainQueue
	due    int64 // of the first queued recipient, in nanoseconds since 1970, as all times here
	at     int   // in the domain's heap; outside: it is leased, steered, or nothing is queued
	lease  *Lease
	busy   bool // a commit about its recipients is in flight
	rcpts  []rcpt
}

const outside = -1

// rcpt is one recipient not done.
type rcpt struct {
	due      int64
	number   uint32 // of its record
	attempts uint16
	state    recipientState
}

// place says where a domainQueue stands.
type place uint8

const (
	placeNowhere place = iota // nothing queued
	placeWaiting
	placeReady
)

// domainQueue is what is queued for one recipient domain.
type domainQueue struct {
	domain mail.Domain
	slots  slotHeap
	refs   int // slots that name it, queued or not
	queued int // recipients in the slots of the heap
	place  place
	at     int // in index.waiting
}

// add makes a message known, all its recipients idle.
func (x *index) add(id mail.ID, org string) *entry {
	e := &entry{id: id, org: x.intern(org)}
	x.messages[id] = e
	return e
}

func (x *index) intern(s string) string {
	if known, ok := x.orgs[s]; ok {
		return known
	}
	x.orgs[s] = s
	return s
}

// addRecipient adds a recipient to the slot of its domain, which place then puts
// where it can be found.
func (x *index) addRecipient(e *entry, domain mail.Domain, r rcpt) {
	e.open++
	if r.state != recipientQueued {
		x.held++
	}
	for i := len(e.slots) - 1; i >= 0; i-- {
		if s := e.slots[i]; s.domain.domain == domain {
			s.rcpts = append(s.rcpts, r)
			return
		}
	}
	d := x.domains[domain]
	if d == nil {
		d = &domainQueue{domain: domain}
		x.domains[domain] = d
	}
	d.refs++
	e.slots = append(e.slots, &slot{entry: e, domain: d, at: outside, rcpts: []rcpt{r}})
}

// place puts a slot into its domain's heap if a recipient is queued.
func (x *index) place(s *slot) {
	queued := 0
	for _, r := range s.rcpts {
		if r.state == recipientQueued {
			if queued == 0 || r.due < s.due {
				s.due = r.due
			}
			queued++
		}
	}
	if queued == 0 {
		return
	}
	s.domain.queued += queued
	heap.Push(&s.domain.slots, s)
	x.moved(s.domain)
}

// remove takes a slot out of its domain's heap, if it is there.
func (x *index) remove(s *slot) {
	if s.at == outside {
		return
	}
	for _, r := range s.rcpts {
		if r.state == recipientQueued {
			s.domain.queued--
		}
	}
	heap.Remove(&s.domain.slots, s.at)
	x.moved(s.domain)
}

// moved puts a domain where it belongs after its first slot changed. One that
// is ready stays so until its turn.
func (x *index) moved(d *domainQueue) {
	switch {
	case d.place == placeReady:
	case len(d.slots) == 0 && d.place == placeWaiting:
		heap.Remove(&x.waiting, d.at)
	case len(d.slots) == 0:
	case d.place == placeWaiting:
		heap.Fix(&x.waiting, d.at)
	default:
		heap.Push(&x.waiting, d)
	}
}

// take gives up to want slots that are due, out of their heaps: the domains in
// turn, within a domain what is due longest. skip is asked before each; a domain
// it names is passed over until the next call and keeps its turn.
func (x *index) take(now int64, want int, skip func(mail.Domain) bool) []*slot {
	x.ripen(now)
	var taken []*slot
	var passed []*domainQueue
	for len(x.ready) > 0 && len(taken) < want {
		d := x.ready[0]
		x.ready = x.ready[1:]
		switch {
		case len(d.slots) == 0 || d.slots[0].due > now:
			d.place = placeNowhere
			x.moved(d)
			x.unlist(d)
		case skip != nil && skip(d.domain):
			passed = append(passed, d)
		default:
			s := d.slots[0]
			x.remove(s)
			taken = append(taken, s)
			x.ready = append(x.ready, d)
		}
	}
	if len(passed) > 0 {
		x.ready = append(passed, x.ready...)
	}
	return taken
}

// ripen makes ready the domains that are due.
func (x *index) ripen(now int64) {
	for len(x.waiting) > 0 && x.waiting[0].slots[0].due <= now {
		d := heap.Pop(&x.waiting).(*domainQueue)
		d.place = placeReady
		x.ready = append(x.ready, d)
	}
}

// nextDue is when the first domain becomes due of those that are not at now.
func (x *index) nextDue(now int64) (int64, bool) {
	x.ripen(now)
	if len(x.waiting) == 0 {
		return 0, false
	}
	return x.waiting[0].slots[0].due, true
}

// change gives a recipient, whose slot is in no heap, another state and due time.
func (x *index) change(r *rcpt, state recipientState, due time.Time) {
	if r.state != recipientQueued {
		x.held--
	}
	if state != recipientQueued {
		x.held++
	}
	r.state, r.due = state, due.UnixNano()
}

// done takes the recipients for which gone says true out of a slot that is in
// no heap, and forgets slot and domain when they are empty.
func (x *index) done(s *slot, gone func(*rcpt) bool) {
	left := s.rcpts[:0]
	for i := range s.rcpts {
		r := &s.rcpts[i]
		if !gone(r) {
			left = append(left, *r)
			continue
		}
		s.entry.open--
		if r.state != recipientQueued {
			x.held--
		}
	}
	s.rcpts = left
	if len(left) == 0 {
		x.dropSlot(s)
	}
}

func (x *index) dropSlot(s *slot) {
	slots := s.entry.slots
	for i := range slots {
		if slots[i] == s {
			slots[i] = slots[len(slots)-1]
			s.entry.slots = slots[:len(slots)-1]
			break
		}
	}
	s.domain.refs--
	x.unlist(s.domain)
}

// unlist forgets a domain that no slot names; one that is ready, at its turn.
func (x *index) unlist(d *domainQueue) {
	if d.refs == 0 && d.place == placeNowhere {
		delete(x.domains, d.domain)
	}
}

// forget removes a message with whatever of it is idle. Slots that are leased
// stay with their leases.
func (x *index) forget(e *entry) {
	e.gone = true
	x.letGo(e)
	delete(x.messages, e.id)
	for _, s := range append([]*slot(nil), e.slots...) {
		if s.lease == nil {
			x.remove(s)
			x.done(s, func(*rcpt) bool { return true })
		}
	}
}

// slotHeap is a heap.Interface by due.
type slotHeap []*slot

func (h slotHeap) Len() int           { return len(h) }
func (h slotHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h slotHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *slotHeap) Push(s any)        { s.(*slot).at = len(*h); *h = append(*h, s.(*slot)) }
func (h *slotHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	s.at = outside
	*h = old[:len(old)-1]
	return s
}

// domainHeap is a heap.Interface by the due of each domain's first slot.
type domainHeap []*domainQueue

func (h domainHeap) Len() int           { return len(h) }
func (h domainHeap) Less(i, j int) bool { return h[i].slots[0].due < h[j].slots[0].due }
func (h domainHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *domainHeap) Push(d any) {
	q := d.(*domainQueue)
	q.at, q.place = len(*h), placeWaiting
	*h = append(*h, q)
}
func (h *domainHeap) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	d.place = placeNowhere
	*h = old[:len(old)-1]
	return d
}
