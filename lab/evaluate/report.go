package evaluate

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"anechoic/lab/campaign"
	"anechoic/watch/detect"
)

// The aims that are published, and measured against.
const (
	AimContained  = time.Minute     // the campaign of 2024, where one source lets its part through
	AimLeft       = 500             // messages of it until then
	AimCredential = 5 * time.Minute // a stolen credential, until a person is told
	AimRecall     = 0.95            // of all attacks
	AimFalse      = 1.0             // false alarms an organisation and month, at most
)

// Report is what came out of one set of parameters.
type Report struct {
	Set          string         `json:"set"`
	About        string         `json:"about"`
	Seeds        []uint64       `json:"seeds"`
	Events       int            `json:"events"`
	OrgMonths    float64        `json:"org_months"`
	Attacks      []AttackResult `json:"attacks"`
	Stresses     []StressResult `json:"stresses"`
	Recall       Interval       `json:"recall"`      // of all attacks
	Precision    Interval       `json:"precision"`   // alarms that were right, those at stresses being wrong
	Episodes     Interval       `json:"episodes"`    // false alarms an organisation and month; those within a day are one
	Findings     Interval       `json:"findings"`    // the same, each finding counted
	WithStresses Interval       `json:"with_stress"` // episodes, those at stresses too
	Stopped      Interval       `json:"stopped"`     // share of wanted mail that an action put off or held
	FalseKinds   map[string]int `json:"false_kinds"` // by kind of finding, those at stresses too
	Examples     []Alarm        `json:"examples"`    // of false alarms
	Aims         []Aim          `json:"aims"`
}

// AttackResult is about one kind of attack.
type AttackResult struct {
	Kind        string         `json:"kind"`
	Messages    Interval       `json:"messages"`          // median, tried
	Recall      Interval       `json:"recall"`            // a person was told
	Seconds     Interval       `json:"seconds"`           // median, from the first message to the alarm, of those that were
	Slowest     float64        `json:"slowest"`           // 90 of 100 were no slower
	AfterSent   Interval       `json:"after_messages"`    // median of messages until then
	Contained   Interval       `json:"contained"`         // share, of those of which something leaves
	ContainedIn Interval       `json:"contained_seconds"` // median
	MostSeconds float64        `json:"contained_slowest"` // the slowest of all
	LeftUntil   Interval       `json:"left_until"`        // median of messages that left until it was contained, or at all
	MostLeft    float64        `json:"left_until_most"`   // the most of all
	Left        Interval       `json:"left"`              // median, in the end
	By          map[string]int `json:"by"`                // what noticed it first
}

// StressResult is about one kind of stress.
type StressResult struct {
	Kind    string      `json:"kind"`
	Cases   int         `json:"cases"`
	Alarmed Interval    `json:"alarmed"` // share that set off an alarm
	Step    detect.Step `json:"step"`    // strongest that was proposed
	Beyond  int         `json:"beyond"`  // cases with one beyond throttling
}

// Aim is one aim and what was measured.
type Aim struct {
	Aim      string `json:"aim"`
	Measured string `json:"measured"`
	Met      bool   `json:"met"`
}

// Run tries all seeds, as many at once as there are processors, and sums up. Progress is
// called after each, from one goroutine at a time; it may be nil.
func Run(ctx context.Context, p campaign.Parameters, seeds []uint64, o Options, progress func(done int)) (Report, error) {
	trials, err := tryAll(ctx, p, seeds, o, progress)
	if err != nil {
		return Report{}, err
	}
	return Summarise(p, trials), nil
}

func tryAll(ctx context.Context, p campaign.Parameters, seeds []uint64, o Options, progress func(done int)) ([]Trial, error) {
	trials, errs := make([]Trial, len(seeds)), make([]error, len(seeds))
	var mu sync.Mutex // guards done
	var group sync.WaitGroup
	done, slots := 0, make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, seed := range seeds {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if errs[i] = ctx.Err(); errs[i] != nil {
				return
			}
			trials[i], errs[i] = Try(p, seed, o)
			mu.Lock()
			defer mu.Unlock()
			if done++; progress != nil {
				progress(done)
			}
		})
	}
	group.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("evaluate: seed %d of %s: %w", seeds[i], p.Name, err)
		}
	}
	return trials, nil
}

// examples is how many false alarms a report shows.
const examples = 12

// Summarise makes the report of trials with the same parameters.
func Summarise(p campaign.Parameters, trials []Trial) Report {
	r := Report{Set: p.Name, About: p.About, FalseKinds: map[string]int{}}
	var months, episodes, findings, stressed []float64
	right, wrong, hits, attacks, legit, stopped := 0, 0, 0, 0, 0, 0
	for _, t := range trials {
		r.Seeds, r.Events, r.OrgMonths = append(r.Seeds, t.Seed), r.Events+t.Events, r.OrgMonths+t.OrgMonths
		both := slices.Concat(t.False, t.Stressed)
		months, episodes = append(months, t.OrgMonths), append(episodes, float64(Episodes(t.False)))
		findings, stressed = append(findings, float64(len(t.False))), append(stressed, float64(Episodes(both)))
		right, wrong, legit, stopped = right+t.True, wrong+len(both), legit+t.Legit, stopped+t.Stopped
		for _, a := range both {
			r.FalseKinds[string(a.Kind)]++
			if len(r.Examples) < examples {
				r.Examples = append(r.Examples, a)
			}
		}
		for _, o := range t.Outcomes {
			if o.Case.Attack {
				attacks++
				hits += one(o.Detected)
			}
		}
	}
	r.Recall, r.Precision, r.Stopped = Proportion(hits, attacks), Proportion(right, right+wrong), Proportion(stopped, legit)
	r.Episodes, r.Findings, r.WithStresses = Rate(episodes, months), Rate(findings, months), Rate(stressed, months)
	for _, kind := range p.Attacks {
		r.Attacks = append(r.Attacks, attackResult(kind, outcomesOf(trials, kind)))
	}
	for _, kind := range p.Stresses {
		r.Stresses = append(r.Stresses, stressResult(kind, outcomesOf(trials, kind)))
	}
	r.Aims = r.aims()
	return r
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Episodes counts alarms as a person does who is told once: those of an organisation
// that begin less than a day after the one before belong to it.
func Episodes(alarms []Alarm) (n int) {
	last := map[string]time.Time{}
	sorted := slices.SortedStableFunc(slices.Values(alarms), func(a, b Alarm) int { return a.Time.Compare(b.Time) })
	for _, a := range sorted {
		if before, seen := last[a.Scope.Org]; !seen || a.Time.Sub(before) >= 24*time.Hour {
			n++
		}
		last[a.Scope.Org] = a.Time
	}
	return n
}

func outcomesOf(trials []Trial, kind string) (list []Outcome) {
	for _, t := range trials {
		for _, o := range t.Outcomes {
			if o.Case.Kind == kind {
				list = append(list, o)
			}
		}
	}
	return list
}

func attackResult(kind string, list []Outcome) AttackResult {
	a := AttackResult{Kind: kind, By: map[string]int{}}
	var messages, seconds, sent, contained, until, left []float64
	open, stopped, detected := 0, 0, 0
	for _, o := range list {
		messages, left = append(messages, float64(o.Messages)), append(left, float64(o.Left))
		if o.Detected {
			detected++
			a.By[string(o.By)]++
			seconds, sent = append(seconds, o.After.Seconds()), append(sent, float64(o.AfterSent))
		}
		if !o.Case.Open {
			continue
		}
		open++
		if o.Contained {
			stopped++
			contained, until = append(contained, o.ContainedIn.Seconds()), append(until, float64(o.LeftUntil))
		} else {
			until = append(until, float64(o.Left))
		}
	}
	median := Quantile(0.5)
	a.Messages, a.Recall, a.Contained = Bootstrap(messages, median), Proportion(detected, len(list)), Proportion(stopped, open)
	a.Seconds, a.AfterSent, a.ContainedIn = Bootstrap(seconds, median), Bootstrap(sent, median), Bootstrap(contained, median)
	a.LeftUntil, a.Left = Bootstrap(until, median), Bootstrap(left, median)
	a.Slowest, a.MostSeconds, a.MostLeft = most(seconds, 0.9), most(contained, 1), most(until, 1)
	return a
}

func most(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return Quantile(q)(values)
}

func stressResult(kind string, list []Outcome) StressResult {
	s := StressResult{Kind: kind, Cases: len(list)}
	alarmed := 0
	for _, o := range list {
		alarmed += one(o.Detected)
		s.Step = max(s.Step, o.Step)
		s.Beyond += one(o.Step > detect.Throttle)
	}
	s.Alarmed = Proportion(alarmed, len(list))
	return s
}

// aims are those of the parameters' attacks.
func (r *Report) aims() (list []Aim) {
	for _, a := range r.Attacks {
		switch a.Kind {
		case campaign.AttackOpen:
			met := a.Contained.Of > 0 && a.Contained.Value == 1 && a.MostSeconds <= AimContained.Seconds() && a.MostLeft <= AimLeft
			list = append(list, Aim{
				fmt.Sprintf("the campaign is contained in %.0f s where one source is open, with at most %d messages gone", AimContained.Seconds(), AimLeft),
				fmt.Sprintf("in %s of cases, the slowest after %.0f s, with %.0f messages at most", percent(a.Contained), a.MostSeconds, a.MostLeft), met,
			})
		case campaign.AttackCredential:
			list = append(list, Aim{
				fmt.Sprintf("a stolen credential is noticed in %.0f min", AimCredential.Minutes()),
				fmt.Sprintf("%s were, 90 of 100 in %.0f s", percent(a.Recall), a.Slowest), a.Recall.Value >= AimRecall && a.Slowest <= AimCredential.Seconds(),
			})
		}
	}
	list = append(list, Aim{
		fmt.Sprintf("recall %.2f at no more than %.0f false alarm an organisation and month", AimRecall, AimFalse),
		fmt.Sprintf("recall %s at %s", r.Recall.text(2), r.Episodes.text(2)), r.Recall.Value >= AimRecall && r.Episodes.Value <= AimFalse,
	})
	beyond := 0
	for _, s := range r.Stresses {
		beyond += s.Beyond
	}
	return append(list, Aim{"no stress raises a step beyond throttling", fmt.Sprintf("%d did", beyond), beyond == 0})
}

func percent(i Interval) string { return fmt.Sprintf("%.0f %%", 100*i.Value) }

// byCount is the names of a tally, the largest first.
func byCount(tally map[string]int) []string {
	return slices.SortedFunc(maps.Keys(tally), func(a, b string) int { return cmp.Or(tally[b]-tally[a], cmp.Compare(a, b)) })
}
