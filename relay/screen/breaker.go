package screen

import "time"

// breaker decides whether a scanner is asked at all. After a number of losses in a
// row it says no until a rest is over, and then lets one question through: its end
// decides. It is pure: the caller passes the time and holds the lock.
type breaker struct {
	after int           // losses in a row before it opens
	rest  time.Duration // how long it stays open

	losses  int
	until   time.Time // the end of the rest, once losses >= after
	probing bool      // one question is under way to see whether it is back
}

// ticket is the right to ask once. It is given back with settle or abandon.
type ticket struct{ probe bool }

// admit gives a ticket, or says that the scanner rests.
func (b *breaker) admit(now time.Time) (ticket, bool) {
	if b.losses < b.after {
		return ticket{}, true
	}
	if b.probing || now.Before(b.until) {
		return ticket{}, false
	}
	b.probing = true
	return ticket{probe: true}, true
}

// settle counts how a question ended.
func (b *breaker) settle(t ticket, lost bool, now time.Time) {
	b.abandon(t)
	if !lost {
		b.losses = 0
		return
	}
	b.losses = min(b.losses+1, b.after)
	if b.losses == b.after {
		b.until = now.Add(b.rest)
	}
}

// abandon ends a question that says nothing about the scanner.
func (b *breaker) abandon(t ticket) {
	if t.probe {
		b.probing = false
	}
}

// Circuit is the state of a scanner's breaker.
type Circuit string

// The states.
const (
	Closed   Circuit = "closed"    // it is asked
	Open     Circuit = "open"      // it rests: what it should look at is lost at once
	HalfOpen Circuit = "half_open" // the next message, or one under way, shows whether it is back
)

func (b *breaker) state(now time.Time) Circuit {
	switch {
	case b.losses < b.after:
		return Closed
	case b.probing || !now.Before(b.until):
		return HalfOpen
	}
	return Open
}
