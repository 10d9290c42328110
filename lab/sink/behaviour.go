package sink

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Stage is where in a session a Behaviour is asked.
type Stage int

// The stages, in the order of a session.
const (
	Greeting  Stage = iota // a connection was opened
	Sender                 // MAIL
	Recipient              // RCPT
	Content                // the final dot
)

// Question is what a Behaviour may know. The times of questions never go back.
type Question struct {
	Stage Stage
	Now   time.Time
	Peer  netip.Addr
	Open  int    // connections that are open, this one too
	Taken int    // messages that this connection handed over before
	From  string // from Sender on
	To    string // at Recipient
}

// Answer is what is said. The zero Answer is yes, at once.
type Answer struct {
	Reply string        // "451 4.7.1 later"; a 421 ends the connection; empty: yes
	After time.Duration // how long the client waits for it
}

// Behaviour is a provider's way with a client. A Sink asks one question at a
// time, so a Behaviour has no lock; it belongs to one Sink.
type Behaviour interface {
	Answer(Question) Answer
}

// Seeded gives the same dice for the same seed.
func Seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// Plain takes everything at once.
type Plain struct{}

// Answer implements Behaviour.
func (Plain) Answer(Question) Answer { return Answer{} }

// Storm puts off a share of recipients for a while, once or again and again.
type Storm struct {
	Lasts time.Duration // from the first recipient on
	Every time.Duration // from the beginning of one to that of the next; 0: there is one only
	Share float64       // of recipients that are put off meanwhile: 1 is all of them
	Dice  *rand.Rand    // nil: all are, whatever Share says

	began time.Time
}

// Answer implements Behaviour.
func (s *Storm) Answer(q Question) Answer {
	if q.Stage != Recipient {
		return Answer{}
	}
	if s.began.IsZero() {
		s.began = q.Now
	}
	into := q.Now.Sub(s.began)
	if s.Every > 0 {
		into %= s.Every
	}
	if into >= s.Lasts || s.Dice != nil && s.Dice.Float64() >= s.Share {
		return Answer{}
	}
	return Answer{Reply: "451 4.3.2 the system is not accepting mail now"}
}

// Greylist puts the first attempt of a sender, recipient and network off, and
// takes later ones once some time went by (RFC 6647 section 2.4). The network is
// a /24 or a /64, so that a pool of addresses is one client.
type Greylist struct {
	Delay time.Duration

	first map[string]time.Time
}

// Answer implements Behaviour.
func (g *Greylist) Answer(q Question) Answer {
	if q.Stage != Recipient {
		return Answer{}
	}
	key := network(q.Peer).String() + " " + q.From + " " + q.To
	first, known := g.first[key]
	if !known {
		if g.first == nil {
			g.first = map[string]time.Time{}
		}
		g.first[key], first = q.Now, q.Now
	}
	if q.Now.Sub(first) < g.Delay || !known {
		return Answer{Reply: "451 4.7.1 greylisted, try again later"}
	}
	return Answer{}
}

func network(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() && !a.Is4In6() {
		bits = 64
	}
	p, _ := a.Unmap().Prefix(bits) // the zero Addr gives the zero Prefix
	return p
}

// Closing ends a connection after so many messages.
type Closing struct {
	Messages int
}

// Answer implements Behaviour.
func (c Closing) Answer(q Question) Answer {
	if q.Stage == Sender && q.Taken >= c.Messages {
		return Answer{Reply: "421 4.7.0 too many messages on this connection, closing"}
	}
	return Answer{}
}

// Slow answers the final dot late: between the two times, as the dice say.
type Slow struct {
	Least, Most time.Duration
	Dice        *rand.Rand // nil: always Most
}

// Answer implements Behaviour.
func (s *Slow) Answer(q Question) Answer {
	switch {
	case q.Stage != Content:
		return Answer{}
	case s.Dice == nil || s.Most <= s.Least:
		return Answer{After: s.Most}
	}
	return Answer{After: s.Least + time.Duration(s.Dice.Int64N(int64(s.Most-s.Least)))}
}

// Rate takes so many transactions a second, after a burst of at most Burst. The
// others are put off, some of them by closing the connection: providers do both.
type Rate struct {
	PerSecond float64
	Burst     float64
	Dice      *rand.Rand // nil: never by closing

	tokens float64
	last   time.Time
}

// Answer implements Behaviour.
func (r *Rate) Answer(q Question) Answer {
	if q.Stage != Sender {
		return Answer{}
	}
	if r.last.IsZero() {
		r.tokens, r.last = r.Burst, q.Now
	}
	r.tokens = min(r.Burst, r.tokens+r.PerSecond*q.Now.Sub(r.last).Seconds())
	r.last = q.Now
	if r.tokens >= 1 {
		r.tokens--
		return Answer{}
	}
	if r.Dice != nil && r.Dice.IntN(2) == 0 {
		return Answer{Reply: "421 4.7.0 unusual rate of mail from your address, try again later"}
	}
	return Answer{Reply: "451 4.7.1 rate limit reached, try again later"}
}

// Crowded has room for so many connections and turns the others away.
type Crowded struct {
	Connections int
}

// Answer implements Behaviour.
func (c Crowded) Answer(q Question) Answer {
	if q.Stage == Greeting && q.Open > c.Connections {
		return Answer{Reply: "421 4.7.0 too many connections from your address"}
	}
	return Answer{}
}

// All is several behaviours in one: the first that says no is heard, and their
// waits add up.
type All []Behaviour

// Answer implements Behaviour. All are asked, so that each sees every question.
func (all All) Answer(q Question) (a Answer) {
	for _, b := range all {
		one := b.Answer(q)
		a.After += one.After
		if a.Reply == "" {
			a.Reply = one.Reply
		}
	}
	return a
}
