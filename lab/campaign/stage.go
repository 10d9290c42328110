package campaign

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// setting is where a case takes place.
type setting struct {
	number int
	kind   string
	o      *Organisation
	more   []*Organisation // further victims
	start  time.Time
	end    time.Time
	r      *rand.Rand
	peers  []netip.Addr // of the provider, for tenants of nobody's
}

// script is how a kind of case is played.
type script struct {
	kind    string
	victims int           // organisations it takes
	lasts   time.Duration // at speed 1, or at any: attacks in a hurry are not shorter, they are more
	needs   Role          // a source it goes through; empty: none in particular
	play    func(*World, *setting) Case
}

// stage gives each case its organisations and its time, and has it played. Where there
// are too few organisations, several cases happen to the same.
func (w *World) stage() {
	r := generator(w.Seed, "stage")
	order, next := r.Perm(len(w.Organisations)), 0
	take := func() *Organisation {
		o := w.Organisations[order[next%len(order)]]
		next++
		return o
	}
	for _, s := range w.scripts() {
		r := generator(w.Seed, "case", s.kind, len(w.Cases))
		set := &setting{number: len(w.Cases), kind: s.kind, o: take(), r: r, peers: providerPeers(r)}
		for range s.victims - 1 {
			set.more = append(set.more, take())
		}
		room := w.Parameters.End().Sub(w.Parameters.Calm()) - s.lasts
		set.start = w.Parameters.Calm()
		if room > 0 {
			set.start = set.start.Add(time.Duration(set.r.Int64N(int64(room)))).Truncate(time.Second)
		}
		set.end = set.start.Add(s.lasts)
		if s.needs != "" {
			w.ensure(set.o, s.needs)
		}
		c := s.play(w, set)
		c.Name, c.Kind, c.Attack, c.Start, c.End = fmt.Sprintf("%s-%d", s.kind, set.number), s.kind, slices.Contains(AttackKinds(), s.kind), set.start, set.end
		w.Cases = append(w.Cases, c)
	}
}

// ensure has an organisation a source of a role.
func (w *World) ensure(o *Organisation, role Role) {
	if _, found := o.Source(role); found {
		return
	}
	r := generator(w.Seed, "ensure", o.ID, role)
	switch role {
	case Server:
		o.Sources = append(o.Sources, w.server(o, r))
	case News:
		o.Sources = append(o.Sources, o.application(r, role, 0))
	default:
		o.Sources = append(o.Sources, o.application(r, role, o.Daily*0.3))
	}
}

// scripts are those of the parameters, in their order.
func (w *World) scripts() (list []script) {
	all := append(attacks(), stresses()...)
	for _, kind := range append(append([]string(nil), w.Parameters.Attacks...), w.Parameters.Stresses...) {
		for _, s := range all {
			if s.kind == kind {
				list = append(list, s)
			}
		}
	}
	return list
}

// source gives the organisation's source of a role, which stage made sure of.
func (s *setting) source(role Role) *Source {
	found, _ := s.o.Source(role)
	return found
}

// label is that of the case's messages.
func (s *setting) label(attack bool) Label {
	return Label{Kind: s.kind, Case: s.number, Attack: attack}
}

// even has so many messages an hour for as long as the case lasts.
func even(perHour float64) func(time.Time) float64 { return func(time.Time) float64 { return perHour } }

// play has a case's messages sent.
func (w *World) play(s *setting, mean func(time.Time) float64, write func(*rand.Rand, time.Time) message) {
	w.add(flow{from: s.start, until: s.end, mean: mean, write: write}, "case", s.kind, s.number, len(w.flows))
}
