package custody

import (
	"context"
	"fmt"
	"time"

	"anechoic/mail"
)

// OpenInSteps opens a queue that reads so many messages back at each call of next,
// until that says that this was all. Nothing is read in between.
func OpenInSteps(ctx context.Context, engine Engine, opts Options, step int) (q *Queue, next func() (more bool, err error), err error) {
	q, r, err := openQueue(ctx, engine, opts)
	if err != nil {
		return nil, nil, err
	}
	r.step = step
	if err := r.readAside(ctx); err != nil {
		return nil, nil, err
	}
	if err := r.readDetained(ctx); err != nil {
		return nil, nil, err
	}
	return q, func() (bool, error) {
		more, err := r.next(ctx)
		if err == nil && !more {
			r.end(nil)
		}
		return more, err
	}, nil
}

// AtRest has a function called at each rest of a walk over the index, which is told how
// much was looked at since the mutex was taken. The mutex is free while it runs.
func (q *Queue) AtRest(f func(looked int)) { q.rested = f }

// MaxLook is how much a walk looks at between two rests.
const MaxLook = walkStep

// KeepMany keeps messages in one batch: benchmarks fill a queue with it.
func (q *Queue) KeepMany(ctx context.Context, list []Submission, at func(int) time.Time) error {
	var b Batch
	kept := make([]*staged, len(list))
	for i, s := range list {
		var err error
		if kept[i], err = q.stage(ctx, &b, s, at(i)); err != nil {
			return err
		}
	}
	b.Facts = nil
	if err := q.engine.Commit(ctx, &b); err != nil {
		return err
	}
	for _, k := range kept {
		q.enter(k)
	}
	return nil
}

// SumAgain gives a stored value the sum of what it holds now: damage that somebody
// made on purpose.
func SumAgain(value []byte) []byte {
	sumRecord(value)
	return value
}

// Miscounted compares every count that is kept as the queue changes with a look at all
// recipients, and says which is wrong.
func (q *Queue) Miscounted() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	x := q.index
	want := map[any]counts{}
	add := func(n counts, to ...any) {
		for _, one := range to {
			c := want[one]
			want[one] = counts{c.queued + n.queued, c.leased + n.leased, c.held + n.held}
		}
	}
	lanes := map[*lane]int32{}
	for _, e := range x.messages {
		for s := range e.slots {
			lanes[s.lane]++
			var n counts
			for _, r := range s.rcpts() {
				switch {
				case r.state != recipientQueued:
					n.held++
				case s.at != outside:
					n.queued++
				}
			}
			if l := s.lease(); l != nil {
				n.leased = int32(len(l.numbers))
			}
			add(n, x, e.origin.tenant, s.lane, s.lane.to)
			add(counts{queued: n.queued}, e.origin, s.lane.of(e.origin))
		}
	}
	return x.compare(want, lanes)
}

func (x *index) compare(want map[any]counts, lanes map[*lane]int32) string {
	if x.counts != want[x] {
		return fmt.Sprintf("the queue counts %+v, has %+v", x.counts, want[x])
	}
	all, leading := 0, map[*destination]int32{}
	for org, t := range x.tenants {
		if t.counts != want[t] {
			return fmt.Sprintf("%s counts %+v, has %+v", org, t.counts, want[t])
		}
		for _, o := range t.origins {
			if o.queued != want[o].queued {
				return fmt.Sprintf("%s/%s counts %d queued, has %d", org, o.source, o.queued, want[o].queued)
			}
		}
		for d, l := range t.lanes {
			all++
			leading[d]++
			if l.counts() != want[l] || l.refs != lanes[l] {
				return fmt.Sprintf("%s to %s counts %+v of %d slots, has %+v of %d", org, d.domain, l.counts(), l.refs, want[l], lanes[l])
			}
			for p := range l.parts {
				if p.queued != want[p].queued {
					return fmt.Sprintf("%s/%s to %s counts %d queued, has %d", org, p.origin.source, d.domain, p.queued, want[p].queued)
				}
			}
		}
	}
	if all != x.lanes {
		return fmt.Sprintf("%d lanes are counted, there are %d", x.lanes, all)
	}
	return x.compareDestinations(want, leading)
}

func (x *index) compareDestinations(want map[any]counts, leading map[*destination]int32) string {
	found := map[mail.Domain]int{}
	for domain, first := range x.destinations {
		for d := first; d != nil; d = d.other {
			found[domain]++
			if d.domain != domain || d.counts != want[d] || d.lanes != leading[d] || d.lanes == 0 {
				return fmt.Sprintf("%s counts %+v of %d lanes, has %+v of %d", domain, d.counts, d.lanes, want[d], leading[d])
			}
		}
	}
	n := 0
	for _, of := range found {
		n += of
	}
	if n != len(leading) {
		return fmt.Sprintf("%d destinations are known, lanes lead to %d", n, len(leading))
	}
	return ""
}

// AtMost bounds how many domains are remembered, before first use.
func (s *Sites) AtMost(n int) { s.full = n }

// SiteKey is where the record of a domain is.
var SiteKey = siteKey

// Bounds of Sites.
const (
	SiteStands  = siteStands
	SiteRenewed = siteRenewed
)
