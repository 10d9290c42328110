// Package probe looks at a relay from outside: at what DNS says of the
// organisations' domains, at the machine, at files and ports.
//
//	ask (a resolver, the name servers of a zone, a dialer, a file) ─► compare ─► Check
//
// Asking and comparing are apart. What compares is pure: records and what they
// should be go in, a Check comes out, with what was expected, what was seen and how
// to mend it. What asks is bounded in time, each question by itself.
//
// It guarantees: nothing is changed, nothing is sent but questions, no Check holds a
// secret. What could not be found out is never reported as good.
//
// It is not for decisions about mail: those ask for themselves.
package probe

import (
	"fmt"
	"slices"
	"strings"
)

// State is how a check ended.
type State string

// The states, best first.
const (
	OK      State = "ok"
	Skipped State = "skipped" // it needs something that is not there, as a running relay; Fix says what
	Warning State = "warning" // it works, and should not stay so; or it could not be found out
	Problem State = "problem" // something does not work, or is missing
)

var badness = map[State]int{OK: 0, Skipped: 1, Warning: 2, Problem: 3}

// Worse gives the worse of two states.
func (s State) Worse(other State) State {
	if badness[other] > badness[s] {
		return other
	}
	return s
}

// Check is one thing that was looked at.
type Check struct {
	Name     string   `json:"check"`              // for example "spf"
	About    string   `json:"about"`              // a domain, an address, a file
	State    State    `json:"state"`              //
	Expected string   `json:"expected,omitempty"` // in words, or a record
	Seen     string   `json:"seen"`               //
	Fix      string   `json:"fix,omitempty"`      // what to do
	Publish  []string `json:"publish,omitempty"`  // lines of a zone file, ready to be pasted
	Servers  []Answer `json:"servers,omitempty"`  // what each name server has, where several were asked
}

// Answer is what one name server has at a name.
type Answer struct {
	Server  string   `json:"server"`
	Records []string `json:"records"`
	Alias   string   `json:"alias,omitempty"` // where a CNAME record leads out of the zone
	Problem string   `json:"problem,omitempty"`
	Differs bool     `json:"differs,omitempty"` // it judges otherwise than the relay's own resolver
}

// Worst is the worst state of several checks; OK of none.
func Worst(checks []Check) (worst State) {
	worst = OK
	for _, c := range checks {
		worst = worst.Worse(c.State)
	}
	return worst
}

// Verdict is what a comparison says, without the name of what was compared.
type Verdict struct {
	State State
	Seen  string
	Fix   string
}

func ok(format string, args ...any) Verdict {
	return Verdict{State: OK, Seen: fmt.Sprintf(format, args...)}
}

// Reading is what one server has at a name. Missing says that the name does not
// exist; with Err nothing is known.
type Reading struct {
	Server  string
	Records []string
	Alias   string
	Missing bool
	Err     error
}

// Readings is what all who were asked have at a name: the relay's own resolver, and
// the servers that have the zone.
type Readings struct {
	Own         Reading
	Zone        string // empty: it was not found, Note says why
	Authorities []Reading
	Note        string
}

// Over judges every reading alike. What the relay's own resolver has decides
// whether the relay works now; a server of the zone that has something else makes
// at least a warning, since mail and receivers will meet it.
func (r *Readings) Over(c Check, judge func(records []string) Verdict) Check {
	own := judgeReading(r.Own, judge)
	c.State, c.Seen, c.Fix = own.State, own.Seen, own.Fix
	c.Servers = append(c.Servers, answerOf(r.Own, own))
	var differ, silent []string
	for _, reading := range r.Authorities {
		if reading.Alias != "" && reading.Err == nil { // what is behind it, its own servers say
			reading.Records = r.Own.Records
		}
		v := judgeReading(reading, judge)
		answer := answerOf(reading, v)
		switch {
		case reading.Err != nil:
			silent = append(silent, reading.Server)
		case v.State != own.State || v.Seen != own.Seen:
			answer.Differs = true
			differ = append(differ, reading.Server+": "+v.Seen)
			if c.Fix == "" {
				c.Fix = v.Fix
			}
		}
		c.Servers = append(c.Servers, answer)
	}
	if len(differ) > 0 {
		c.State = c.State.Worse(Warning)
		c.Seen += "; the zone's servers differ: " + strings.Join(differ, "; ")
		c.Fix = orElse(c.Fix, "wait until all servers of the zone have the same; if they never do, the transfer between them is broken")
	}
	if len(silent) > 0 {
		c.State = c.State.Worse(Warning)
		c.Seen += "; no answer of " + strings.Join(silent, ", ")
		c.Fix = orElse(c.Fix, "see why that name server does not answer: receivers ask it too")
	}
	if r.Note != "" {
		c.Servers = append(c.Servers, Answer{Server: "the zone's own servers", Records: []string{}, Problem: r.Note})
	}
	return c
}

func judgeReading(r Reading, judge func([]string) Verdict) Verdict {
	if r.Err != nil {
		return Verdict{State: Problem, Seen: "no answer: " + r.Err.Error(), Fix: "see that the name server answers; until it does nothing is known, and mail waits"}
	}
	return judge(r.Records)
}

func answerOf(r Reading, v Verdict) Answer {
	a := Answer{Server: r.Server, Records: slices.Clone(r.Records), Alias: r.Alias}
	if a.Records == nil {
		a.Records = []string{}
	}
	if v.State != OK {
		a.Problem = v.Seen
	}
	return a
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
