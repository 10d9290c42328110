package custody

import (
	"context"
	"fmt"

	"anechoic/mail"
)

// Reach is how much filters select.
type Reach struct {
	Messages   int
	Recipients int
	Domains    int // of these recipients
}

// Reach counts what filters select, as far as the index can tell: Sender and Reply are in the
// records alone, and select everything here. It looks at every message only where
// there is a domain that is selected.
func (q *Queue) Reach(ctx context.Context, filters ...Filter) (r Reach, err error) {
	domains := map[mail.Domain]bool{}
	for _, f := range filters {
		if err := q.readFor(ctx, f); err != nil {
			return Reach{}, fmt.Errorf("custody: count: %w", err)
		}
		if !q.anyLane(f) {
			continue
		}
		seen := map[*entry]bool{}
		for _, s := range q.findSlots(f) {
			if n, domain := q.selected(s, f); n > 0 {
				seen[s.entry], domains[domain] = true, true
				r.Recipients += n
			}
		}
		r.Messages += len(seen)
	}
	r.Domains = len(domains)
	return r, nil
}

// anyLane says that something waits in a lane that a filter selects.
func (q *Queue) anyLane(f Filter) bool {
	w := q.walk()
	defer w.end()
	for l := range w.lanes {
		if f.matchLane(l) {
			return true
		}
	}
	return false
}

// selected counts the recipients of a slot that a filter selects by their state.
func (q *Queue) selected(s *slot, f Filter) (n int, of mail.Domain) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.lane == nil { // done meanwhile
		return 0, of
	}
	inFlight := s.inFlight()
	rcpts := s.rcpts()
	for i := range rcpts {
		if f.State == "" || f.State == publicState(&rcpts[i], inFlight[rcpts[i].number]) {
			n++
		}
	}
	return n, s.lane.to.domain
}
