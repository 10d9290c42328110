package limit

import (
	"fmt"
	"time"
)

// Tier is how far a source is trusted that nobody set limits for.
type Tier string

// The tiers, from the least on.
const (
	New         Tier = "new"         // nobody knows it yet
	Known       Tier = "known"       // a week old, and received
	Established Tier = "established" // a month old, well received, and its identity is confirmed
	Trusted     Tier = "trusted"     // a person says so: no caps of its own
)

// Rule is what a tier allows a source, and what it takes to get there.
type Rule struct {
	Tier Tier
	Caps Caps // zero: none

	Age       time.Duration // since the source is known
	Days      int           // different days on which it sent
	Delivered int           // recipients that were delivered to, ever
	Confirmed bool          // its identity rests on more than a password
	ByPerson  bool          // time alone never gets there
}

// Tiers is every number of the tiers. They are ours. The first is what may leave
// before anybody looks; the third is as much as a provider allows a customer of a
// thousand people (MicrosoftRecipients(1000) is 72,446).
var Tiers = []Rule{
	{Tier: New, Caps: Caps{MessagesPerMinute: 60, MessagesPerHour: 500, RecipientsPerDay: 1_000}},
	{Tier: Known, Caps: Caps{MessagesPerMinute: 200, MessagesPerHour: 2_000, RecipientsPerDay: 10_000}, Age: 7 * Day, Days: 3, Delivered: 100},
	{Tier: Established, Caps: Caps{MessagesPerMinute: 1_000, MessagesPerHour: 20_000, RecipientsPerDay: 100_000}, Age: 30 * Day, Days: 10, Delivered: 2_000, Confirmed: true},
	{Tier: Trusted, ByPerson: true},
}

// SharedTimes is how many times the caps of its best source all sources of an
// organisation that tiers bound may use together: many new sources are no way
// around the caps of one.
const SharedTimes = 3

// What is not well received: then a source is a tier lower than it would be.
const (
	maxBounced    = 0.05  // of its recipients lately refused for good (DOMAIN: bounce ratio over 5 %)
	maxComplained = 0.003 // complained (Google's guidelines for senders: never reach 0.3 %)
	judgedFrom    = 50    // recipients lately; fewer say nothing
	lately        = 7 * Day
)

// RuleOf gives the rule of a tier; false: there is no such tier.
func RuleOf(t Tier) (Rule, bool) {
	for _, r := range Tiers {
		if r.Tier == t {
			return r, true
		}
	}
	return Rule{}, false
}

// Above says that a tier allows more than another.
func (t Tier) Above(other Tier) bool { return place(t) > place(other) }

func place(t Tier) int {
	for i, r := range Tiers {
		if r.Tier == t {
			return i
		}
	}
	return 0
}

// History is what is known of a source.
type History struct {
	First      time.Time `json:"first"`               // it was in the registry
	Founder    bool      `json:"founder,omitempty"`   // it stood there when tiers came into force here
	Days       int       `json:"days,omitempty"`      // on which it sent
	LastDay    int       `json:"last_day,omitempty"`  // number of the last of them since 1970
	Delivered  int       `json:"delivered,omitempty"` // recipients, ever
	Lately     Reception `json:"lately,omitzero"`
	Identities []string  `json:"identities,omitempty"` // hashes of what proves it
	Grant      *Grant    `json:"grant,omitempty"`
}

// Reception is how a source's mail was received lately: what is a week old counts
// half.
type Reception struct {
	At         time.Time `json:"at"`
	Delivered  float64   `json:"delivered"`
	Bounced    float64   `json:"bounced"`
	Complained float64   `json:"complained"`
}

// Grant is a tier that a person gave a source for a while.
type Grant struct {
	Tier  Tier      `json:"tier"`
	Until time.Time `json:"until,omitzero"` // zero: until it is taken back
	By    string    `json:"by"`
	Note  string    `json:"note,omitempty"`
}

// holds says that a grant counts.
func (g *Grant) holds(now time.Time) bool {
	return g != nil && (g.Until.IsZero() || now.Before(g.Until))
}

// Standing is where a source stands, and why.
type Standing struct {
	Tier    Tier
	Why     string    // in words
	Next    Tier      // empty: none that time brings
	Missing []string  // what the next takes yet
	NotYet  time.Time // when the next comes at the earliest, by age; zero: age is no matter
}

// Stand says where a source with this history stands. pinned is what the registry
// says, empty if nothing; confirmed says that its identity rests on more than a
// password now.
func (h *History) Stand(pinned Tier, confirmed bool, now time.Time) Standing {
	earned := h.earned(confirmed, now)
	switch {
	case pinned != "":
		return Standing{Tier: pinned, Why: "the registry says so"}
	case h.Grant.holds(now) && h.Grant.Tier.Above(earned.Tier):
		earned.Tier, earned.Why = h.Grant.Tier, "granted by "+h.Grant.By
		if !h.Grant.Until.IsZero() {
			earned.Why += " until " + h.Grant.Until.UTC().Format(time.RFC3339)
		}
		if !earned.Next.Above(earned.Tier) {
			earned.Next, earned.Missing, earned.NotYet = "", nil, time.Time{}
		}
		return earned
	case h.Founder:
		return Standing{Tier: Trusted, Why: "it was there when tiers came into force here"}
	}
	return earned
}

// earned is the tier by history alone.
func (h *History) earned(confirmed bool, now time.Time) Standing {
	at := 0
	for at+1 < len(Tiers) && !Tiers[at+1].ByPerson && len(h.missing(&Tiers[at+1], confirmed, now)) == 0 {
		at++
	}
	s := Standing{Why: fmt.Sprintf("known since %s", h.First.UTC().Format(time.DateOnly))}
	poor := h.Lately.poor(now)
	if poor != "" && at > 0 {
		at--
	}
	s.Tier = Tiers[at].Tier
	if at+1 < len(Tiers) && !Tiers[at+1].ByPerson {
		next := &Tiers[at+1]
		s.Next, s.Missing = next.Tier, h.missing(next, confirmed, now)
		if due := h.First.Add(next.Age); due.After(now) {
			s.NotYet = due
		}
	}
	if poor != "" {
		s.Why, s.Missing = poor, append(s.Missing, poor)
	}
	return s
}

// missing says what a tier takes that is not there yet, in words.
func (h *History) missing(r *Rule, confirmed bool, now time.Time) (missing []string) {
	day := func(d time.Duration) int { return int(d / Day) }
	if age := now.Sub(h.First); age < r.Age {
		missing = append(missing, fmt.Sprintf("it is known for %d of %d days", max(0, day(age)), day(r.Age)))
	}
	if h.Days < r.Days {
		missing = append(missing, fmt.Sprintf("it sent on %d of %d days", h.Days, r.Days))
	}
	if h.Delivered < r.Delivered {
		missing = append(missing, fmt.Sprintf("%d of %d recipients were delivered to", h.Delivered, r.Delivered))
	}
	if r.Confirmed && !confirmed {
		missing = append(missing, "its identity rests on one proof that can be copied: it needs a second one, an address lock or a certificate")
	}
	return missing
}

// poor says in words that mail is badly received; empty: it is not.
func (r Reception) poor(now time.Time) string {
	r.fade(now)
	all := r.Delivered + r.Bounced
	switch {
	case all < judgedFrom:
		return ""
	case r.Bounced > maxBounced*all:
		return fmt.Sprintf("%.0f %% of its recipients lately were refused for good; at most %.0f %% is well received", 100*r.Bounced/all, 100*maxBounced)
	case r.Complained > maxComplained*all:
		return fmt.Sprintf("%.1f %% of its recipients lately complained; at most %.1f %% is well received", 100*r.Complained/all, 100*maxComplained)
	}
	return ""
}
