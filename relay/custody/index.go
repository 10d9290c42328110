package custody

import (
	"time"

	"anechoic/mail"
)

// index is the queue in memory: what is due when, for whom, and what is leased.
// It holds about 160 octets for a message to one recipient; envelopes and
// contents stay in the engine. It decides, and does no I/O; Queue guards it by
// its mutex. Whose turn it is: lanes.go.
type index struct {
	messages  map[idKey]*entry
	tenants   map[string]*tenant
	suspended suspended

	destinations map[mail.Domain]*destination // the first of each domain
	lanes        int                          // of all tenants
	counts       counts

	waiting laneHeap  // lanes whose first slot is not due, by when it is
	ready   []*tenant // have lanes that were due, in the order of their turns
	passed  []*tenant // passed over in this call of take
	cut     bool      // the last call of take ended before all that is due was looked at

	readyLanes int // of all tenants
	fruitless  int // lanes passed over since one gave something, or since all were

	latest  int64 // no slot was placed with a later due
	longest int64 // how far off a due time can be by rights
	expires int64 // how long after it was kept a message expires

	recent [maxRecent]struct { // whose records are still at hand
		entry   *entry
		records *recent
	}
	recentOctets int // those of the contents at hand
	nextRecent   int
}

// maxRecent is how many messages keep their records in memory until their first
// attempt, about 1 KiB each: most mail is attempted as soon as it is kept.
const maxRecent = 4096

// Bounds of the contents that are kept in memory with them, in octets: of one, and
// of all.
const (
	maxRecentContent = 256 << 10
	maxRecentOctets  = 16 << 20
)

func newIndex(opts *Options) *index {
	return &index{
		messages: map[idKey]*entry{}, tenants: map[string]*tenant{}, destinations: map[mail.Domain]*destination{},
		longest: int64(opts.longestWait()), expires: int64(opts.ExpireAfter),
	}
}

// idKey is a mail.ID as it takes the least room.
type idKey [16]byte

func keyOf(id mail.ID) idKey {
	k, _ := id.Octets()
	return k
}

// kept is the time in the identifier, in nanoseconds since 1970: about when the
// message was kept.
func (k idKey) kept() int64 {
	ms := int64(k[0])<<40 | int64(k[1])<<32 | int64(k[2])<<24 | int64(k[3])<<16 | int64(k[4])<<8 | int64(k[5])
	return ms * int64(time.Millisecond)
}

// entry is one message. Its first slot is part of it: most messages have no other.
type entry struct {
	key    idKey
	origin *origin
	more   *[]*slot // beside first; nil: none
	open   int32    // recipients not done
	busy   int16    // commits in flight that may finish recipients
	recent uint16   // place in index.recent, from 1; 0: not at hand
	aside  bool     // a record of it was set aside: message and body are never deleted
	gone   bool     // done, or set aside whole
	first  slot     // its lane is nil when it is done
}

func (e *entry) id() mail.ID { return mail.IDOf(e.key) }
func (e *entry) org() string { return e.origin.tenant.org }

// slots gives the slots that are not done. None may be dropped meanwhile but the
// one that was given.
func (e *entry) slots(yield func(*slot) bool) {
	if e.first.lane != nil && !yield(&e.first) {
		return
	}
	if e.more == nil {
		return
	}
	for _, s := range append([]*slot(nil), *e.more...) {
		if !yield(s) {
			return
		}
	}
}

// recent is the records of a message as they were kept.
type recent struct {
	record     *messageRecord
	recipients []recipientRecord
	warrant    Warrant
	header     []byte // with its empty line; nil: the content is too large, or too much is at hand already
	body       []byte
}

// octets are those of the content.
func (r *recent) octets() int { return cap(r.header) + cap(r.body) }

// remember keeps the records of a message at hand, and lets go of those of the
// message that was remembered longest ago.
func (x *index) remember(e *entry, r *recent) {
	n := x.nextRecent
	place := &x.recent[n]
	if place.entry != nil {
		x.letGo(place.entry)
	}
	if n := r.octets(); n > maxRecentContent || x.recentOctets+n > maxRecentOctets {
		r.header, r.body = nil, nil
	}
	x.recentOctets += r.octets()
	place.entry, place.records = e, r
	e.recent = uint16(n + 1)
	x.nextRecent = (n + 1) % maxRecent
}

// atHand gives the records of a message that are at hand, or nil.
func (x *index) atHand(e *entry) *recent {
	if e.recent == 0 {
		return nil
	}
	return x.recent[e.recent-1].records
}

// letGo gives up what is at hand of a message.
func (x *index) letGo(e *entry) {
	if e.recent == 0 {
		return
	}
	place := &x.recent[e.recent-1]
	x.recentOctets -= place.records.octets()
	place.entry, place.records = nil, nil
	e.recent = 0
}

// slot is the recipients of one message at one domain. It is in its lane's heap
// while a recipient is queued and nobody has it.
type slot struct {
	entry *entry
	lane  *lane
	rare  *rare   // nil: it is not leased, and there never were several recipients
	one   [1]rcpt // the recipient, if there was one only
	at    int32   // in the lane's heap; outside: it is leased, steered, or nothing is queued
	n     uint8   // how many of one there are
	busy  bool    // a commit about its recipients is in flight
}

const outside = -1

// rare is what most slots have not, most of the time.
type rare struct {
	lease *Lease
	rcpts []rcpt // all recipients, if there ever were several
	due   int64  // of the first queued of them
}

func (s *slot) hasSeveral() bool { return s.rare != nil && s.rare.rcpts != nil }

// due is when the first queued recipient is due, in nanoseconds since 1970, as all
// times here.
func (s *slot) due() int64 {
	if s.hasSeveral() {
		return s.rare.due
	}
	return s.one[0].due
}

// lease is that of the slot, or nil.
func (s *slot) lease() *Lease {
	if r := s.rare; r != nil {
		return r.lease
	}
	return nil
}

func (s *slot) setLease(l *Lease) {
	switch {
	case s.rare != nil:
		s.rare.lease = l
	case l != nil:
		s.rare = &rare{lease: l}
	}
	if l == nil && !s.hasSeveral() {
		s.rare = nil
	}
}

// rcpts are the recipients not done. They may be changed in place.
func (s *slot) rcpts() []rcpt {
	if s.hasSeveral() {
		return s.rare.rcpts
	}
	return s.one[:s.n]
}

func (s *slot) addRcpt(r rcpt) {
	switch {
	case s.hasSeveral():
		s.rare.rcpts = append(s.rare.rcpts, r)
	case s.n == 0:
		s.one[0], s.n = r, 1
	default:
		if s.rare == nil {
			s.rare = new(rare)
		}
		s.rare.rcpts = []rcpt{s.one[0], r}
	}
}

// keepRcpts leaves those for which keep says true.
func (s *slot) keepRcpts(keep func(*rcpt) bool) {
	all := s.rcpts()
	left := all[:0]
	for i := range all {
		if keep(&all[i]) {
			left = append(left, all[i])
		}
	}
	if s.hasSeveral() {
		s.rare.rcpts = left
		return
	}
	s.n = uint8(len(left))
}

// rcpt is one recipient not done.
type rcpt struct {
	due      int64
	number   uint32 // of its record
	attempts uint16
	state    recipientState
}

// add makes a message known, all its recipients idle.
func (x *index) add(key idKey, org, source string) *entry {
	e := &entry{key: key, origin: x.origin(org, source)}
	e.origin.tenant.messages++
	x.messages[key] = e
	return e
}

// addRecipient adds a recipient to the slot of its domain and way, which place then
// puts where it can be found.
func (x *index) addRecipient(e *entry, domain mail.Domain, w way, r rcpt) {
	s := x.slot(e, domain, w)
	s.addRcpt(r)
	e.open++
	if r.state != recipientQueued {
		x.countHeld(s, 1)
	}
}

// slot is that of a message for a domain and way; it is made at the first recipient.
func (x *index) slot(e *entry, domain mail.Domain, w way) *slot {
	if e.first.lane == nil && e.more == nil {
		e.first = slot{entry: e, lane: x.lane(e.origin, domain, w), at: outside}
		return &e.first
	}
	for s := range e.slots {
		if s.lane.to.domain == domain && s.lane.to.way == w {
			return s
		}
	}
	s := &slot{entry: e, lane: x.lane(e.origin, domain, w), at: outside}
	if e.more == nil {
		e.more = new([]*slot)
	}
	*e.more = append(*e.more, s)
	return s
}

// move puts a recipient, whose slot is in no heap, on another way.
func (x *index) move(s *slot, number uint32, w way) {
	e, domain := s.entry, s.lane.to.domain
	var moved rcpt
	x.done(s, func(r *rcpt) bool {
		if r.number == number {
			moved = *r
		}
		return r.number == number
	})
	to := x.slot(e, domain, w)
	if idle := to.lease() == nil && !to.busy; idle {
		x.remove(to)
		defer x.place(to)
	}
	x.addRecipient(e, domain, w, moved)
}

// change gives a recipient, whose slot is in no heap, another state and due time.
func (x *index) change(s *slot, r *rcpt, state recipientState, due time.Time) {
	if r.state != recipientQueued {
		x.countHeld(s, -1)
	}
	if state != recipientQueued {
		x.countHeld(s, 1)
	}
	r.state, r.due = state, due.UnixNano()
}

// done takes the recipients for which gone says true out of a slot that is in
// no heap, and forgets slot and lane when they are empty.
func (x *index) done(s *slot, gone func(*rcpt) bool) {
	s.keepRcpts(func(r *rcpt) bool {
		if !gone(r) {
			return true
		}
		s.entry.open--
		if r.state != recipientQueued {
			x.countHeld(s, -1)
		}
		return false
	})
	if len(s.rcpts()) == 0 {
		x.dropSlot(s)
	}
}

// dropSlot takes a slot from its message, if it was not before.
func (x *index) dropSlot(s *slot) {
	e, l := s.entry, s.lane
	if l == nil {
		return
	}
	s.lane = nil
	if e.more == nil {
		e.more = new([]*slot) // the first is not used again
	}
	more := *e.more
	for i := range more {
		if more[i] == s {
			more[i] = more[len(more)-1]
			*e.more = more[:len(more)-1]
			break
		}
	}
	l.refs--
	x.unlist(l)
}

// leave takes a message that is done out of the index.
func (x *index) leave(e *entry) {
	e.gone = true
	if x.messages[e.key] != e {
		return
	}
	x.letGo(e)
	delete(x.messages, e.key)
	e.origin.tenant.messages--
	x.retire(e.origin.tenant)
}

// forget removes a message with whatever of it is idle. Slots that are leased
// stay with their leases.
func (x *index) forget(e *entry) {
	for s := range e.slots {
		if s.lease() == nil {
			x.remove(s)
			x.done(s, func(*rcpt) bool { return true })
		}
	}
	x.leave(e)
}
