// Package limit bounds what a key may do in a span of time: what a principal
// sends, what is refused of who claims an organisation, how often a password is
// guessed. What a key is, the caller says. A principal's is who was proven, never
// what a message claims: whoever writes another From spends from the same budget.
//
// A Rate is so many units in a span, with the whole span's units available at
// once to who was quiet (a leaky bucket that is read as GCRA: one time stamp per
// key). Take is a decision of key, amount and now; it either takes the whole
// amount or nothing, and says when the amount would fit. Ask says the same and
// takes nothing. Return gives back what was taken for nothing.
//
// It keeps a bounded number of keys in memory. If there are more, the budget that
// would be whole again soonest is forgotten first: that forgets the least. So a
// budget that is nearly spent is not reset by whoever makes many new keys: each
// of them would have to spend as much. What must not compete at all has a Limiter
// of its own. A key that is forgotten has its whole budget again; so has every key
// after a restart.
package limit

import (
	"container/heap"
	"sync"
	"time"
)

// Rate is Units in a Span. A Rate without units does not limit.
type Rate struct {
	Units int
	Span  time.Duration
}

// Limited says that r limits anything.
func (r Rate) Limited() bool { return r.Units > 0 && r.Span > 0 }

// DefaultKeys is how many keys a Limiter keeps at most: a time stamp each.
const DefaultKeys = 100_000

// Limiter keeps budgets. The zero Limiter is ready. It is safe for concurrent
// use.
type Limiter struct {
	Keys int // at most; zero: DefaultKeys

	mu    sync.Mutex // guards what follows
	spent map[string]*budget
	order soonest
}

// Claim is an amount of one budget. Claims that are taken together have different
// keys.
type Claim struct {
	Key    string
	Rate   Rate
	Amount int
}

// Take takes all claims, or none. The zero time says that they were taken; else
// it is when the one that did not fit would, far away if it never can.
func (l *Limiter) Take(now time.Time, claims ...Claim) (retry time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if retry = l.ask(now, claims); !retry.IsZero() {
		return retry
	}
	for _, c := range claims {
		if c.spends() {
			l.set(c.Key, later(l.whole(c.Key), now).Add(c.cost()))
		}
	}
	l.trim(now)
	return time.Time{}
}

// Ask says what Take would say now, and takes nothing.
func (l *Limiter) Ask(now time.Time, claims ...Claim) (retry time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ask(now, claims)
}

// Return gives back claims that were taken, because nothing came of it. It never
// makes more than a whole budget.
func (l *Limiter) Return(now time.Time, claims ...Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range claims {
		b := l.spent[c.Key]
		switch {
		case b == nil || !c.spends():
		case b.whole.Add(-c.cost()).After(now):
			l.set(c.Key, b.whole.Add(-c.cost()))
		default:
			l.forget(b)
		}
	}
}

// ask gives the latest time at which a claim fits; zero: now. mu is held.
func (l *Limiter) ask(now time.Time, claims []Claim) (retry time.Time) {
	for _, c := range claims {
		if at := c.fitsAt(l.whole(c.Key), now); at.After(now) && at.After(retry) {
			retry = at
		}
	}
	return retry
}

// never is when a claim fits that is larger than the whole budget.
const never = 365 * 24 * time.Hour

// fitsAt is the generic cell rate algorithm (ITU-T I.371): whole is when the
// budget will be whole again.
func (c Claim) fitsAt(whole, now time.Time) time.Time {
	switch {
	case !c.spends():
		return now
	case c.Amount > c.Rate.Units:
		return now.Add(never)
	}
	return later(whole, now).Add(c.cost()).Add(-c.Rate.Span)
}

// spends says that c takes anything of a budget that is limited.
func (c Claim) spends() bool { return c.Rate.Limited() && c.Amount > 0 }

// cost is the time in which the amount is earned back.
func (c Claim) cost() time.Duration {
	return time.Duration(float64(c.Rate.Span) * float64(c.Amount) / float64(c.Rate.Units))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// budget is one key's.
type budget struct {
	key   string
	whole time.Time // when nothing of it is spent any more
	at    int       // its place in the order
}

// whole is when the budget of a key is whole again; the zero time for one that
// is. mu is held.
func (l *Limiter) whole(key string) time.Time {
	if b := l.spent[key]; b != nil {
		return b.whole
	}
	return time.Time{}
}

// set says when the budget of a key is whole again. mu is held.
func (l *Limiter) set(key string, whole time.Time) {
	if b := l.spent[key]; b != nil {
		b.whole = whole
		heap.Fix(&l.order, b.at)
		return
	}
	if l.spent == nil {
		l.spent = make(map[string]*budget)
	}
	b := &budget{key: key, whole: whole}
	l.spent[key] = b
	heap.Push(&l.order, b)
}

func (l *Limiter) forget(b *budget) {
	heap.Remove(&l.order, b.at)
	delete(l.spent, b.key)
}

// trimAtOnce bounds how many whole budgets one call forgets: a few more than it
// can add, so that they do become fewer.
const trimAtOnce = 8

// trim forgets budgets that are whole again, and those that soonest will be while
// there are too many. mu is held.
func (l *Limiter) trim(now time.Time) {
	most := l.Keys
	if most == 0 {
		most = DefaultKeys
	}
	for n := 0; len(l.order) > 0; n++ {
		first := l.order[0]
		if len(l.order) <= most && (n >= trimAtOnce || first.whole.After(now)) {
			return
		}
		l.forget(first)
	}
}

// soonest is a heap of budgets by when they are whole again.
type soonest []*budget

func (s soonest) Len() int           { return len(s) }
func (s soonest) Less(i, j int) bool { return s[i].whole.Before(s[j].whole) }
func (s soonest) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = i, j
}

// Push implements heap.Interface.
func (s *soonest) Push(b any) {
	added := b.(*budget)
	added.at = len(*s)
	*s = append(*s, added)
}

// Pop implements heap.Interface.
func (s *soonest) Pop() any {
	last := (*s)[len(*s)-1]
	(*s)[len(*s)-1] = nil
	*s = (*s)[:len(*s)-1]
	return last
}
