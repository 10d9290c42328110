package detect

import (
	"strconv"
	"time"
)

// Kind is a signal's stable name; docs/detection.md has a paragraph for each.
type Kind string

// Scope is what a finding is about, and how far an action may reach. Empty fields
// are not restricted; Org never is empty in an action.
type Scope struct {
	Org    string `json:"org"`
	Source string `json:"source,omitempty"`
	Domain string `json:"domain,omitempty"` // in From
}

// Value is one number or word of the evidence, with what was usual.
type Value struct {
	Name  string `json:"name"`
	Seen  string `json:"seen"`
	Usual string `json:"usual,omitempty"` // or the threshold: which, the name says
}

// Step is a rung of the response ladder; each is stronger than the one before.
type Step int

// The ladder (docs/response.md).
const (
	Log           Step = iota // nothing but the finding
	Throttle                  // 451 4.7.28 past a rate
	Hold                      // kept for a person
	SuspendSource             // 550 5.7.28 for the source
	KillDomain                // nothing is signed or sent for the domain, and its DKIM records are to be withdrawn
)

// String is the step's name.
func (s Step) String() string {
	names := [...]string{"log", "throttle", "hold", "suspend", "kill"}
	if s < 0 || int(s) >= len(names) {
		return "step " + strconv.Itoa(int(s))
	}
	return names[s]
}

// Action is what a finding proposes.
type Action struct {
	Step  Step          `json:"step"`
	Scope Scope         `json:"scope"`
	For   time.Duration `json:"for,omitempty"`  // then it ends by itself; zero: until somebody ends it
	Rate  int           `json:"rate,omitempty"` // of Throttle: messages an hour
}

// Finding is one thing that is not as usual. It is given when it begins and again as
// it grows, with the same ID.
type Finding struct {
	ID       string    `json:"id"` // the same for the same finding: kind, scope and beginning
	Kind     Kind      `json:"kind"`
	Scope    Scope     `json:"scope"`
	Score    float64   `json:"score"` // 0 to 1
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Messages int       `json:"messages"` // that it counts
	Left     int       `json:"left"`     // of them those that were taken to be sent: what got through
	Evidence []Value   `json:"evidence"`
	Sentence string    `json:"sentence"`
	Propose  Action    `json:"propose"`
	// Shares is what it may have in common with others, by which campaigns are put
	// together: "tenant:<guid>", "host:<name>", "text:<simhash>", "peer:<prefix>", "family:<stem>".
	Shares []string `json:"shares,omitempty"`
	IDs    []string `json:"ids,omitempty"`   // of some messages
	Ended  bool     `json:"ended,omitempty"` // nothing more was seen of it for its time: given once
}

// AlarmScore is from where on a finding is worth telling a person of. Those below
// are notes: they stand on the page of a campaign, and nobody is woken.
const AlarmScore = 0.5

// IsAlarm says that a person should be told.
func (f Finding) IsAlarm() bool { return f.Score >= AlarmScore }
