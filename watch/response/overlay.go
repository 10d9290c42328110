package response

import (
	"strings"

	"anechoic/watch/detect"
)

// Overlay is the orders in force, as the path of a message asks for them. It is never
// changed; the zero Overlay asks nothing of anybody.
type Overlay struct {
	byOrg map[string][]Order
}

// Overlay is the orders that are in force now.
func (m *Machine) Overlay() Overlay {
	v := Overlay{byOrg: map[string][]Order{}}
	for _, o := range m.live {
		if o.InForce() {
			v.byOrg[o.Scope.Org] = append(v.byOrg[o.Scope.Org], o.clone())
		}
	}
	return v
}

// Any says that something is in force for an organisation.
func (v *Overlay) Any(org string) bool { return len(v.byOrg[org]) > 0 }

// Message is what is asked about one message of a proven source.
type Message struct {
	Org, Source string
	From        string   // domain in From, in small letters
	Others      []string // the other domains it speaks for: MAIL FROM, Sender, the one that signs
}

// Strongest is the strongest order in force that reaches a message, and all throttles
// that do.
func (v *Overlay) Strongest(m Message) (strongest Order, throttles []Order) {
	for _, o := range v.byOrg[m.Org] {
		if !reaches(&o, &m) {
			continue
		}
		if o.Step == Throttle {
			throttles = append(throttles, o)
		}
		if o.Step > strongest.Step {
			strongest = o
		}
	}
	return strongest, throttles
}

// reaches says that a message lies in the scope of an order. A domain is that of From,
// or lies above it; Kill asks about every domain the message speaks for.
func reaches(o *Order, m *Message) bool {
	s := &o.Scope
	if s.Org != m.Org || s.Source != "" && s.Source != m.Source {
		return false
	}
	if s.Domain == "" || within(m.From, s.Domain) {
		return true
	}
	if o.Step != Kill {
		return false
	}
	for _, d := range m.Others {
		if within(d, s.Domain) {
			return true
		}
	}
	return false
}

func within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// Killed is the domains of an organisation that are killed.
func (v *Overlay) Killed(org string) (killed []detect.Scope) {
	for _, o := range v.byOrg[org] {
		if o.Step == Kill {
			killed = append(killed, o.Scope)
		}
	}
	return killed
}

// Counts is how many orders are in force, by step.
func (v *Overlay) Counts() map[Step]int {
	counts := map[Step]int{}
	for _, orders := range v.byOrg {
		for _, o := range orders {
			counts[o.Step]++
		}
	}
	return counts
}
