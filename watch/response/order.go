package response

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"anechoic/watch/detect"
)

// Step is a rung of the ladder, with a name.
type Step detect.Step

// The ladder.
const (
	Log      = Step(detect.Log)
	Throttle = Step(detect.Throttle)
	Hold     = Step(detect.Hold)
	Suspend  = Step(detect.SuspendSource)
	Kill     = Step(detect.KillDomain)
)

var stepNames = [...]string{"log", "throttle", "hold", "suspend", "kill"}

// String is the step as registry, API and command line write it.
func (s Step) String() string {
	if s < Log || s > Kill {
		return fmt.Sprintf("step %d", int(s))
	}
	return stepNames[s]
}

// ParseStep reads what String gives.
func ParseStep(name string) (Step, error) {
	for i, known := range stepNames {
		if name == known {
			return Step(i), nil
		}
	}
	return Log, fmt.Errorf("%.40q is no step: %s", name, strings.Join(stepNames[:], ", "))
}

// Names are the names of all steps, the weakest first.
func Names() []string { return append([]string(nil), stepNames[:]...) }

// MarshalText implements encoding.TextMarshaler.
func (s Step) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Step) UnmarshalText(text []byte) (err error) {
	*s, err = ParseStep(string(text))
	return err
}

// Watch is who acts when nobody asked.
const Watch = "watch"

// Order is what is in force, proposed, or over, for one scope.
type Order struct {
	ID       string        `json:"id"` // letters and digits, never used again
	Scope    detect.Scope  `json:"scope"`
	Step     Step          `json:"step"`           // in force; Log: nothing is
	Wants    Step          `json:"wants"`          // what the findings propose
	Rate     int           `json:"rate,omitempty"` // of Throttle: messages an hour
	Since    time.Time     `json:"since"`          // of the order
	StepAt   time.Time     `json:"step_at"`        // of the step that is in force
	Until    time.Time     `json:"until,omitzero"` // zero: until a person ends it
	By       string        `json:"by"`             // who set the step: Watch, or a person
	Why      string        `json:"why"`            // the sentence of the finding, or of the person
	Findings []string      `json:"findings,omitempty"`
	Kinds    []detect.Kind `json:"kinds,omitempty"`
	Ended    time.Time     `json:"ended,omitzero"`
	EndedBy  string        `json:"ended_by,omitempty"`
	EndedWhy string        `json:"ended_why,omitempty"`
}

// Over says that the order has ended.
func (o *Order) Over() bool { return !o.Ended.IsZero() }

// InForce says that something is done by it.
func (o *Order) InForce() bool { return !o.Over() && o.Step > Log }

// Waits says that a person may go further than it did by itself.
func (o *Order) Waits() bool { return !o.Over() && o.Wants > o.Step }

// State is one word for a list.
func (o *Order) State() string {
	switch {
	case o.Over():
		return "ended"
	case o.InForce():
		return "in force"
	}
	return "proposed"
}

// Decode reads an order as it is stored, in JSON.
func Decode(stored []byte) (o Order, err error) {
	if err = json.Unmarshal(stored, &o); err != nil {
		return Order{}, fmt.Errorf("response: a stored order: %w", err)
	}
	if o.ID == "" || o.Scope.Org == "" || o.Step < Log || o.Step > Kill || len(o.ID) > maxID {
		return Order{}, fmt.Errorf("response: a stored order %.40q that is none", o.ID)
	}
	return o, nil
}

const maxID = 64

// ScopeText is a scope as people read it.
func ScopeText(s detect.Scope) string {
	text := s.Org
	if s.Source != "" {
		text += "/" + s.Source
	}
	if s.Domain != "" {
		text += " as " + s.Domain
	}
	return text
}

// What says what happened to an order.
type What string

// What happens to orders.
const (
	Begun     What = "begun"    // a step is in force where none was
	Raised    What = "raised"   // a stronger one
	Lowered   What = "lowered"  // a weaker one, or another rate
	Proposed  What = "proposed" // a step waits for a person
	Extended  What = "extended" // it lasts longer; nothing to tell
	Over      What = "ended"
	Forgotten What = "forgotten" // it ended long ago; nothing to tell
)

// Change is an order as it is now, and what happened to it.
type Change struct {
	What  What  `json:"what"`
	Was   Step  `json:"was"`
	Order Order `json:"order"`
}

// InDNS is what a person is to do with the DKIM records of a domain, beside what the
// relay does by itself.
type InDNS string

// What is to be done in DNS.
const (
	NothingInDNS InDNS = ""
	Withdraw     InDNS = "withdraw from DNS" // the domain is killed: signatures made already are to be believed no more
	PublishAgain InDNS = "publish again in DNS, as they were,"
)

// DNS is what is to be done in DNS while the order is as it is: withdrawn while a
// domain is killed, and published again once that is over.
func (o *Order) DNS() InDNS {
	switch {
	case o.Step != Kill:
		return NothingInDNS
	case o.Over():
		return PublishAgain
	}
	return Withdraw
}

// DNS is what is to be done in DNS now that this changed.
func (c Change) DNS() InDNS {
	if c.Was == Kill && c.Order.Step != Kill {
		return PublishAgain
	}
	return c.Order.DNS()
}

// Told says that people are to hear of it.
func (c Change) Told() bool { return c.What != Extended && c.What != Forgotten }

// Sentence tells a change in plain words.
func (c Change) Sentence() string {
	o := &c.Order
	scope := ScopeText(o.Scope)
	switch c.What {
	case Over:
		return fmt.Sprintf("%s of %s ended by %s: %s", c.Was, scope, o.EndedBy, o.EndedWhy)
	case Proposed:
		return fmt.Sprintf("%s of %s is proposed and waits for a person: %s", o.Wants, scope, o.Why)
	case Lowered:
		return fmt.Sprintf("%s of %s is now %s%s, by %s: %s", c.Was, scope, o.Step, o.lasts(), o.By, o.Why)
	}
	return fmt.Sprintf("%s of %s%s, by %s: %s", o.Step, scope, o.lasts(), o.By, o.Why)
}

func (o *Order) lasts() string {
	text := ""
	if o.Step == Throttle {
		text = fmt.Sprintf(" to %d messages an hour", o.Rate)
	}
	if o.Until.IsZero() {
		return text + " until somebody ends it"
	}
	return text + " until " + o.Until.UTC().Format(time.RFC3339)
}
