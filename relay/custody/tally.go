package custody

import (
	"time"

	"anechoic/mail"
)

// Share is what is queued in one lane: of one organisation, to one domain, one way.
type Share struct {
	Organisation string
	Domain       mail.Domain
	Via          string // the next hop a person chose instead of the domain's
	Queued       int    // recipients not leased and not held
	Suspended    int    // of those
	Oldest       time.Time
}

// Shares gives what is queued, lane by lane, in no order: what views by site or
// organisation are summed of. It costs a look at each lane.
func (q *Queue) Shares() (list []Share) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for org, t := range q.index.tenants {
		for k, l := range t.lanes {
			if due, ok := l.oldest(); ok {
				list = append(list, Share{org, k.domain, k.way.via, l.queued, l.suspendedRecipients(), fromNano(due)})
			}
		}
	}
	return list
}

// Queued counts the recipients that a filter selects and that are neither leased nor
// held, as far as the index tells: Sender and Reply do not count.
func (q *Queue) Queued(f Filter) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.index.messages {
		if !f.matchEntry(e) {
			continue
		}
		for s := range e.slots {
			if s.lease != nil || !f.matchLane(s.lane) {
				continue
			}
			for _, r := range s.rcpts() {
				if r.state == recipientQueued {
					n++
				}
			}
		}
	}
	return n
}

// SuspensionOf gives the suspension that keeps mail of a source, for a domain that
// leads to a site, from being leased.
func (q *Queue) SuspensionOf(org, source string, d mail.Domain, site string) (Suspension, bool) {
	return q.suspensions().of(org, source, d, site)
}
