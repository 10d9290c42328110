// Package limit bounds what a principal may send in a span of time. It counts
// who was proven, never what a message claims: whoever writes another From spends
// from the same budget.
//
// A Rate is so many units in a span, with the whole span's units available at
// once to who was quiet (a leaky bucket that is read as GCRA: one time stamp per
// key). Take is a decision of key, amount and now; it either takes the whole
// amount or nothing, and says when the amount would fit.
//
// It keeps a bounded number of keys in memory. A key it had to forget has its
// whole budget again; so has every key after a restart.
package limit

import (
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

	mu    sync.Mutex           // guards spent
	spent map[string]time.Time // when the budget of a key is whole again
}

// Claim is an amount of one budget.
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
	if l.spent == nil {
		l.spent = make(map[string]time.Time)
	}
	for _, c := range claims {
		if at := c.fitsAt(l.spent[c.Key], now); at.After(now) && at.After(retry) {
			retry = at
		}
	}
	if !retry.IsZero() {
		return retry
	}
	for _, c := range claims {
		if c.Rate.Limited() && c.Amount > 0 {
			l.makeRoom(c.Key, now)
			l.spent[c.Key] = later(l.spent[c.Key], now).Add(c.cost())
		}
	}
	return time.Time{}
}

// never is when a claim fits that is larger than the whole budget.
const never = 365 * 24 * time.Hour

// fitsAt is the generic cell rate algorithm (ITU-T I.371): whole is when the
// budget will be whole again.
func (c Claim) fitsAt(whole, now time.Time) time.Time {
	switch {
	case !c.Rate.Limited() || c.Amount <= 0:
		return now
	case c.Amount > c.Rate.Units:
		return now.Add(never)
	}
	return later(whole, now).Add(c.cost()).Add(-c.Rate.Span)
}

// cost is the time in which the amount is earned back.
func (c Claim) cost() time.Duration {
	return time.Duration(float64(c.Rate.Span) * float64(c.Amount) / float64(c.Rate.Units))
}

// makeRoom forgets budgets that are whole again and, if that is not enough, some.
// mu is held.
func (l *Limiter) makeRoom(key string, now time.Time) {
	most := l.Keys
	if most == 0 {
		most = DefaultKeys
	}
	if _, known := l.spent[key]; known || len(l.spent) < most {
		return
	}
	for k, whole := range l.spent {
		if !whole.After(now) {
			delete(l.spent, k)
		}
	}
	for k := range l.spent {
		if len(l.spent) < most {
			return
		}
		delete(l.spent, k)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
