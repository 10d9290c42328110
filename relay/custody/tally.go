package custody

import (
	"cmp"
	"slices"
	"time"

	"anechoic/mail"
)

// Counting what is in custody. The counts of the whole queue, of organisations, sources
// and destinations are kept as it changes: who asks for one of them looks at nothing
// else. What is due longest, and what a suspension keeps back, is asked of every lane,
// in walks that let go of the mutex again and again.

// counts is how many recipients are in custody, by where they are.
type counts struct {
	queued int32 // in the heap of their lane
	leased int32
	held   int32
}

// countQueued counts recipients that come into the heap of their lane, or leave it.
func (x *index) countQueued(s *slot, p *part, n int32) {
	l := s.lane
	p.queued += n
	p.origin.queued += n
	l.to.counts.queued += n
	l.tenant().counts.queued += n
	x.counts.queued += n
}

// countLeased counts recipients whose attempt begins or ends.
func (x *index) countLeased(s *slot, n int32) {
	l := s.lane
	l.leased += n
	l.to.counts.leased += n
	l.tenant().counts.leased += n
	x.counts.leased += n
}

// countHeld counts recipients that are held, or no more.
func (x *index) countHeld(s *slot, n int32) {
	l := s.lane
	l.held += n
	l.to.counts.held += n
	l.tenant().counts.held += n
	x.counts.held += n
}

// walkStep is how many things a walk looks at before it lets go of the mutex: with a
// million of them, whoever delivers or accepts would wait for all.
const walkStep = 1024

// walk goes over the index with the mutex held, and lets go of it at each rest. What
// it goes over may change meanwhile: a map that is ranged over gives what is there
// throughout once, and what comes or goes once or not at all.
type walk struct {
	q      *Queue
	looked int
}

// walk begins one: the mutex is held until end, but for the rests.
func (q *Queue) walk() *walk {
	q.mu.Lock()
	return &walk{q: q}
}

func (w *walk) end() { w.q.mu.Unlock() }

// rest is called after each thing that was looked at.
func (w *walk) rest() {
	if w.looked++; w.looked >= walkStep {
		w.let(func() {})
	}
}

// let does something without the mutex.
func (w *walk) let(do func()) {
	looked := w.looked
	w.looked = 0
	w.q.mu.Unlock()
	defer w.q.mu.Lock()
	do()
	if w.q.rested != nil {
		w.q.rested(looked)
	}
}

// lanes gives every lane.
func (w *walk) lanes(yield func(*lane) bool) {
	for _, t := range w.q.index.tenants {
		for _, l := range t.lanes {
			if !yield(l) {
				return
			}
			w.rest()
		}
		w.rest()
	}
}

// MaxDepthDomains bounds Depth.Domains.
const MaxDepthDomains = 100

// Depth counts recipients in custody.
type Depth struct {
	Messages  int
	Queued    int           // not leased
	Leased    int           // an attempt is in flight
	Held      int           // not sent until released
	Suspended int           // of Queued: not leased until resumed; those of a suspended site not counted
	Oldest    time.Time     // due longest of what is queued; zero: nothing is
	Domains   []DomainDepth // those with most queued, at most MaxDepthDomains
	Reading   bool          // what was stored is still being read: there is more than this
}

// DomainDepth counts one recipient domain.
type DomainDepth struct {
	Domain mail.Domain
	Queued int
	Oldest time.Time // earliest due
}

// Depth counts what is in custody. Messages, Queued, Leased and Held agree with each
// other; the rest costs a look at each recipient domain of each organisation, some at
// a time, and is as of a moment later.
func (q *Queue) Depth() Depth {
	w := q.walk()
	defer w.end()
	d := Depth{
		Messages: len(q.index.messages), Reading: q.reading.fresh != nil,
		Queued: int(q.index.counts.queued), Leased: int(q.index.counts.leased), Held: int(q.index.counts.held),
	}
	d.Domains = w.largest()
	places := make(map[mail.Domain]int, len(d.Domains))
	for i := range d.Domains {
		places[d.Domains[i].Domain] = i
	}
	for l := range w.lanes {
		d.Suspended += l.suspendedRecipients()
		due, ok := l.oldest()
		if !ok {
			continue
		}
		d.Oldest = Earliest(d.Oldest, fromNano(due))
		if i, shown := places[l.to.domain]; shown {
			d.Domains[i].Oldest = Earliest(d.Domains[i].Oldest, fromNano(due))
		}
	}
	return d
}

// largest are the domains with most queued, in this order.
func (w *walk) largest() (list []DomainDepth) {
	for domain, first := range w.q.index.destinations {
		of := DomainDepth{Domain: domain}
		for d := first; d != nil; d = d.other {
			of.Queued += int(d.counts.queued)
		}
		if of.Queued > 0 {
			list = of.insert(list)
		}
		w.rest()
	}
	return list
}

// insert puts a domain where it belongs in a list of those with most.
func (d DomainDepth) insert(list []DomainDepth) []DomainDepth {
	i, _ := slices.BinarySearchFunc(list, d, func(a, b DomainDepth) int {
		return cmp.Or(cmp.Compare(b.Queued, a.Queued), cmp.Compare(a.Domain.String(), b.Domain.String()))
	})
	if i == MaxDepthDomains {
		return list
	}
	list = slices.Insert(list, i, d)
	return list[:min(len(list), MaxDepthDomains)]
}

// oldest is the first due time of a lane, suspended or not.
func (l *lane) oldest() (due int64, ok bool) {
	for p := range l.parts {
		if len(p.slots) > 0 && (!ok || p.slots[0].due() < due) {
			due, ok = p.slots[0].due(), true
		}
	}
	return due, ok
}

// Earliest is the earlier of two times, or the one that is not zero.
func Earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Share is what is in custody in one lane: of one organisation, to one domain, one way.
type Share struct {
	Organisation string
	Domain       mail.Domain
	Via          string // the next hop a person chose instead of the domain's
	Queued       int    // recipients not leased and not held
	Suspended    int    // of those
	Leased       int
	Held         int
	Oldest       time.Time // earliest due of what is queued; zero: nothing is
}

// Shares gives what is in custody, lane by lane, in no order: what views by site or
// organisation are summed of. It costs a look at each lane, some at a time, while the
// queue goes on; yield may take its time.
func (q *Queue) Shares(yield func(Share) bool) {
	w := q.walk()
	defer w.end()
	more := true
	room := make([]Share, 0, min(q.index.lanes, walkStep))
	give := func() {
		for i := 0; more && i < len(room); i++ {
			more = yield(room[i])
		}
		room = room[:0]
	}
	for l := range w.lanes {
		if s := l.share(); s.Queued+s.Leased+s.Held > 0 {
			room = append(room, s)
		}
		if len(room) >= walkStep {
			w.let(give)
		}
		if !more {
			return
		}
	}
	w.let(give)
}

func (l *lane) share() Share {
	n := l.counts()
	s := Share{
		Organisation: l.tenant().org, Domain: l.to.domain, Via: l.to.way.via, Suspended: l.suspendedRecipients(),
		Queued: int(n.queued), Leased: int(n.leased), Held: int(n.held),
	}
	if due, ok := l.oldest(); ok {
		s.Oldest = fromNano(due)
	}
	return s
}

// QueuedUnder counts the recipients that a suspension of an organisation, source or
// domain is about, in force or not, and that are neither leased nor held. Which domains lead to a
// site only delivery knows: for a site it is 0, see Shares.
func (q *Queue) QueuedUnder(s Suspension) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch s.Scope {
	case ScopeOrganisation:
		if t := q.index.tenants[s.Name]; t != nil {
			return int(t.counts.queued)
		}
	case ScopeSource:
		if o := q.index.originOf(s.Name); o != nil {
			return int(o.queued)
		}
	case ScopeDomain:
		for d := q.index.destinations[domainOf(s)]; d != nil; d = d.other {
			n += int(d.counts.queued)
		}
	}
	return n
}

// MessagesOf counts the messages in custody by organisation.
func (q *Queue) MessagesOf() map[string]int {
	w := q.walk()
	defer w.end()
	counts := make(map[string]int, len(q.index.tenants))
	for org, t := range q.index.tenants {
		if t.messages > 0 {
			counts[org] = t.messages
		}
		w.rest()
	}
	return counts
}

// SuspensionOf gives the suspension that keeps mail of a source, for a domain that
// leads to a site, from being leased.
func (q *Queue) SuspensionOf(org, source string, d mail.Domain, site string) (Suspension, bool) {
	return q.suspensions().of(org, source, d, site)
}
