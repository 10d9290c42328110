package evaluate

import (
	"slices"
	"strings"
	"time"

	"anechoic/lab/campaign"
	"anechoic/mail"
	"anechoic/watch/detect"
)

// Options are what a trial varies, beside parameters and seed.
type Options struct {
	Detect detect.Options
	Allow  detect.Step // what organisations allow to happen by itself
}

// Trial is what came out of one world.
type Trial struct {
	Set       string    `json:"set"`
	Seed      uint64    `json:"seed"`
	Events    int       `json:"events"`
	OrgMonths float64   `json:"org_months"` // of 30 days, after the quiet time, in which an alarm about the organisation would be false
	Outcomes  []Outcome `json:"outcomes"`
	True      int       `json:"true"`     // alarms that were right
	False     []Alarm   `json:"false"`    // alarms that were not, in ordinary traffic
	Stressed  []Alarm   `json:"stressed"` // and those that a stress set off
	Learning  int       `json:"learning"` // alarms of the quiet time, not counted above
	Legit     int       `json:"legit"`    // messages nobody should stop, after the quiet time
	Stopped   int       `json:"stopped"`  // of them those that an action put off or held
}

// Alarm is a finding that a person would have been told of.
type Alarm struct {
	Kind     detect.Kind  `json:"kind"`
	Scope    detect.Scope `json:"scope"`
	Time     time.Time    `json:"time"`
	Step     detect.Step  `json:"step"`
	Sentence string       `json:"sentence"`
	Case     string       `json:"case,omitempty"` // the stress
}

// Outcome is what became of one case.
type Outcome struct {
	Case     campaign.Case `json:"case"`
	First    time.Time     `json:"first"` // message of it
	Messages int           `json:"messages"`
	Left     int           `json:"left"` // in the end

	Detected    bool          `json:"detected"` // a person was told
	By          detect.Kind   `json:"by,omitempty"`
	After       time.Duration `json:"after,omitempty"`        // from the first message to the alarm
	AfterSent   int           `json:"after_messages"`         // messages until then
	Contained   bool          `json:"contained"`              // something was done about what leaves
	ContainedIn time.Duration `json:"contained_in,omitempty"` // from the first message to that
	LeftUntil   int           `json:"left_until_contained"`   // of it, until then
	Step        detect.Step   `json:"step"`                   // strongest that was proposed
	Kinds       []detect.Kind `json:"kinds,omitempty"`        // of all alarms
}

// tickEvery is how often time passes where nothing happens.
const tickEvery = 10 * time.Minute

// run is a trial under way.
type run struct {
	world    *campaign.World
	detector *detect.Detector
	response *response
	caps     map[string]*caps
	owner    map[mail.ID]int // the case of each of its messages
	alarms   map[string]bool // findings that were alarms already, by ID
	ticked   time.Time
	trial    Trial
}

// Try runs one world.
func Try(p campaign.Parameters, seed uint64, o Options) (Trial, error) {
	w, err := campaign.New(p, seed)
	if err != nil {
		return Trial{}, err
	}
	r := &run{
		world: w, detector: detect.New(o.Detect), response: newResponse(o.Allow), caps: map[string]*caps{}, owner: map[mail.ID]int{}, alarms: map[string]bool{},
		ticked: p.Start,
		trial:  Trial{Set: p.Name, Seed: seed, OrgMonths: exposure(w)},
	}
	for id, tier := range tiers(w) {
		r.caps[id] = newCaps(tier)
	}
	for _, c := range w.Cases {
		r.trial.Outcomes = append(r.trial.Outcomes, Outcome{Case: c})
	}
	for item := range w.Items(r.gate) {
		r.observe(item)
	}
	r.read(r.detector.Tick(p.End().Add(48*time.Hour)), p.End())
	return r.trial, nil
}

// gate is what stands between proof and custody. Ordinary mail over a cap waits and
// leaves later, which is not modelled: it is let through.
func (r *run) gate(item campaign.Item) bool {
	lets := r.response.lets(item.Event)
	if !item.Label.Attack {
		if item.Event.Time.After(r.world.Parameters.Calm()) {
			r.trial.Legit++
			if !lets {
				r.trial.Stopped++
			}
		}
		return true
	}
	return lets && r.caps[item.Event.Source].take(item.Event)
}

// observe counts an event and lets the detector see it.
func (r *run) observe(item campaign.Item) {
	e := item.Event
	r.trial.Events++
	if item.Label.Case >= 0 && (e.What == detect.Sent || e.What == detect.Refused) {
		o := &r.trial.Outcomes[item.Label.Case]
		if o.Messages == 0 {
			o.First = e.Time
		}
		o.Messages++
		if e.What == detect.Sent {
			o.Left++
		}
		r.owner[e.ID] = item.Label.Case
	}
	r.read(r.detector.Observe(e), e.Time)
	for e.Time.Sub(r.ticked) >= tickEvery {
		r.ticked = r.ticked.Add(tickEvery)
		r.read(r.detector.Tick(e.Time), e.Time)
	}
}

// read takes findings as the relay would.
func (r *run) read(findings []detect.Finding, now time.Time) {
	for _, f := range findings {
		r.judge(f, now)
		r.response.take(f, now)
	}
}

// judge says whether a finding is right, and what it means for a case.
func (r *run) judge(f detect.Finding, now time.Time) {
	if f.Ended {
		return
	}
	number, isCase := r.caseOf(f, now)
	if isCase {
		r.trial.Outcomes[number].take(f, now)
	}
	if !f.IsAlarm() || r.alarms[f.ID] {
		return
	}
	r.alarms[f.ID] = true
	alarm := Alarm{Kind: f.Kind, Scope: f.Scope, Time: now, Step: f.Propose.Step, Sentence: f.Sentence}
	switch {
	case isCase && r.trial.Outcomes[number].Case.Attack:
		r.trial.True++
	case now.Before(r.world.Parameters.Calm()):
		r.trial.Learning++
	case isCase:
		alarm.Case = r.trial.Outcomes[number].Case.Name
		r.trial.Stressed = append(r.trial.Stressed, alarm)
	default:
		r.trial.False = append(r.trial.False, alarm)
	}
}

// aftermath is how long after its end a case may still be spoken of: bounces and
// complaints come late, and some signals look at the last week.
const aftermath = 8 * 24 * time.Hour

// exposure is how long all organisations together were under no attack after the
// quiet time, in months of 30 days.
func exposure(w *campaign.World) float64 {
	const month = 30 * 24 * time.Hour
	hours := 0
	for _, o := range w.Organisations {
		for at := w.Parameters.Calm(); at.Before(w.Parameters.End()); at = at.Add(time.Hour) {
			hours += one(!slices.ContainsFunc(w.Cases, func(c campaign.Case) bool {
				return c.Attack && slices.Contains(c.Orgs, o.ID) && !at.Before(c.Start.Add(-time.Hour)) && at.Before(c.End.Add(aftermath))
			}))
		}
	}
	return float64(hours) * float64(time.Hour) / float64(month)
}

// caseOf gives the case a finding is about: that of most of the messages it names, or
// else the one that goes on in its organisation.
func (r *run) caseOf(f detect.Finding, now time.Time) (number int, found bool) {
	votes := map[int]int{}
	for _, id := range f.IDs {
		if owner, ok := r.owner[mail.ID(id)]; ok {
			votes[owner]++
		}
	}
	best := 0
	for n, v := range votes {
		if v > best || v == best && found && n < number {
			number, best, found = n, v, true
		}
	}
	if found {
		return number, true
	}
	for n := range r.trial.Outcomes {
		c := &r.trial.Outcomes[n].Case
		if slices.Contains(c.Orgs, f.Scope.Org) && !f.First.Before(c.Start.Add(-time.Hour)) && now.Before(c.End.Add(aftermath)) && meets(f.Scope, *c) {
			return n, true
		}
	}
	return 0, false
}

// meets says that a scope does not name a source or domain that the case has nothing
// to do with.
func meets(s detect.Scope, c campaign.Case) bool {
	return (s.Source == "" || c.Source == "" || s.Source == c.Source) && (s.Domain == "" || c.Domain == "" || s.Domain == c.Domain)
}

// take notes what a finding means for a case.
func (o *Outcome) take(f detect.Finding, now time.Time) {
	o.Step = max(o.Step, f.Propose.Step)
	since := o.Case.Start
	if !o.First.IsZero() {
		since = o.First
	}
	if f.IsAlarm() {
		if !slices.Contains(o.Kinds, f.Kind) {
			o.Kinds = append(o.Kinds, f.Kind)
		}
		if !o.Detected {
			o.Detected, o.By, o.After, o.AfterSent = true, f.Kind, now.Sub(since), o.Messages
		}
	}
	if !o.Contained && f.Propose.Step >= detect.Throttle && covers(f.Propose.Scope, o.Case) {
		o.Contained, o.ContainedIn, o.LeftUntil = true, now.Add(lag).Sub(since), o.Left
	}
}

// covers says that an action in a scope reaches what leaves in a case.
func covers(s detect.Scope, c campaign.Case) bool {
	return slices.Contains(c.Orgs[:1], s.Org) && (s.Source == "" || s.Source == c.Source) && (s.Domain == "" || s.Domain == c.Domain)
}

func domainOf(address string) string {
	return strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
}
