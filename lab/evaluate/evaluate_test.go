package evaluate

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/lab/campaign"
	"anechoic/relay/limit"
	"anechoic/watch/detect"
)

// The seeds that figures are reported of must not move with the thresholds. Whoever
// changes this sum makes all figures of before worthless for comparison.
func TestTheSplitOfSeedsIsFrozen(t *testing.T) {
	all := fmt.Sprint(Tuning(), Reporting("standard"), Reporting("slow"))
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(all)))[:16]; got != frozen {
		t.Errorf("the split of seeds has the sum %s, want %s", got, frozen)
	}
	seen := map[uint64]bool{}
	for _, list := range [][]uint64{Tuning(), Reporting("standard"), Reporting("slow")} {
		for _, s := range list {
			if seen[s] {
				t.Errorf("seed %d is in two parts", s)
			}
			seen[s] = true
		}
	}
}

const frozen = "9f2ef01d28f531ca"

// small is the standard set with less of everything but attacks.
func small(t *testing.T, attacks, stresses []string) campaign.Parameters {
	t.Helper()
	p, err := campaign.Preset("standard")
	if err != nil {
		t.Fatal(err)
	}
	p.Organisations, p.Largest, p.Days, p.Quiet = 4, 100, 20, 14
	p.Attacks, p.Stresses = attacks, stresses
	return p
}

func TestTheSameTrialGivesTheSameOutcome(t *testing.T) {
	p := small(t, []string{campaign.AttackOpen, campaign.AttackCredential}, []string{campaign.StressMerge})
	first, err := Try(p, 3, Options{Allow: detect.Throttle})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Try(p, 3, Options{Allow: detect.Throttle})
	if diff := cmp.Diff(first, second); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestTheCampaignOf2024IsContainedInAMinute(t *testing.T) {
	p := small(t, []string{campaign.AttackOpen}, []string{})
	trial, err := Try(p, 1, Options{Allow: detect.Throttle})
	if err != nil {
		t.Fatal(err)
	}
	o := trial.Outcomes[0]
	if !o.Detected || !o.Contained || o.ContainedIn > AimContained || o.LeftUntil > AimLeft {
		t.Errorf("%+v", o)
	}
	if o.Left >= o.Messages/3 {
		t.Errorf("%d of %d messages left though they were throttled", o.Left, o.Messages)
	}
}

func TestAStolenCredentialIsNoticedInFiveMinutes(t *testing.T) {
	trial, err := Try(small(t, []string{campaign.AttackCredential}, []string{}), 2, Options{Allow: detect.Log})
	if err != nil {
		t.Fatal(err)
	}
	if o := trial.Outcomes[0]; !o.Detected || o.After > AimCredential {
		t.Errorf("%+v", o)
	}
}

func TestAnInsiderAndASlowDripAreNoticedOnTheirFirstDay(t *testing.T) {
	trial, err := Try(small(t, []string{campaign.AttackInsider, campaign.AttackDrip}, []string{}), 2, Options{Allow: detect.Throttle})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range trial.Outcomes {
		if !o.Detected || o.After > 24*time.Hour || o.Step > detect.Throttle {
			t.Errorf("%+v", o)
		}
	}
}

func TestCapsBoundAnAttackThatNobodyStops(t *testing.T) {
	p := small(t, []string{campaign.AttackCredential}, []string{})
	p.Speed, p.Days, p.Quiet = 3, 3, 1
	trial, err := Try(p, 2, Options{Allow: detect.Log})
	if err != nil {
		t.Fatal(err)
	}
	rule, _ := limit.RuleOf(limit.Known)
	o := trial.Outcomes[0]
	bound := int(rule.Caps.MessagesPerHour) * (1 + int(o.Case.End.Sub(o.Case.Start)/time.Hour))
	if o.Left > bound || o.Left == 0 || o.Left == o.Messages {
		t.Errorf("%d of %d messages left, the cap allows %d", o.Left, o.Messages, bound)
	}
}

func TestAResponseStaysInItsScopeAndEnds(t *testing.T) {
	start := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	letter := func(second int, org, source string) detect.Event {
		return detect.Event{Time: at(second), What: detect.Sent, Org: org, Source: source, From: "a@" + org + ".example"}
	}
	finding := detect.Finding{ID: "f", Propose: detect.Action{Step: detect.Hold, Scope: detect.Scope{Org: "a", Source: "s"}, Rate: 60, For: time.Hour}}
	r := newResponse(detect.Hold)
	r.take(finding, start)
	if !r.lets(letter(1, "a", "s")) {
		t.Error("it was in force at once")
	}
	if !r.lets(letter(3, "a", "s")) || r.lets(letter(4, "a", "s")) {
		t.Error("a throttle of 60 an hour lets one a minute through")
	}
	if !r.lets(letter(4, "a", "other")) || !r.lets(letter(4, "b", "s")) {
		t.Error("it reached beyond its scope")
	}
	r.take(finding, at(10))
	if r.lets(letter(100, "a", "s")) {
		t.Error("a finding that grew was not answered by the next step")
	}
	if !r.lets(letter(2*3600, "a", "s")) {
		t.Error("it did not end")
	}
	r.take(finding, at(3*3600))
	finding.Ended = true
	r.take(finding, at(3*3600+1))
	if len(r.live) != 0 {
		t.Error("the end of the finding did not end it")
	}
}

func TestAlarmsOfADayAreOneEpisode(t *testing.T) {
	at := func(hours int, org string) Alarm {
		return Alarm{Scope: detect.Scope{Org: org}, Time: time.Date(2026, 2, 1, hours, 0, 0, 0, time.UTC)}
	}
	for want, alarms := range map[int][]Alarm{
		0: nil,
		1: {at(0, "a"), at(20, "a"), at(40, "a")},
		2: {at(40, "b"), at(0, "a"), at(1, "a")},
		3: {at(0, "a"), at(30, "a"), at(60, "a")},
	} {
		if got := Episodes(alarms); got != want {
			t.Errorf("%d episodes, want %d", got, want)
		}
	}
}

func TestIntervalsHoldTheTruthAboutAsOftenAsTheySay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const truth, runs = 0.9, 2000
	inside := 0
	for range runs {
		hits := 0
		for range 24 {
			hits += one(r.Float64() < truth)
		}
		if i := Proportion(hits, 24); i.Low <= truth && truth <= i.High {
			inside++
		}
	}
	if share := float64(inside) / runs; share < 0.92 || share > 0.99 {
		t.Errorf("Wilson's interval holds the truth in %.3f of runs", share)
	}
	if i := Proportion(20, 20); i.Value != 1 || i.High != 1 || math.Abs(i.Low-0.8389) > 0.0001 {
		t.Errorf("20 of 20: %+v", i) // 1/(1+1.96²/20)
	}
	values := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9}
	i := Bootstrap(values, Mean)
	if i.Value != 5 || i.Low >= 5 || i.High <= 5 || i.Low < 2.5 || i.High > 7.5 {
		t.Errorf("bootstrap of the mean: %+v", i)
	}
	if diff := cmp.Diff(i, Bootstrap(values, Mean)); diff != "" {
		t.Error(diff)
	}
	if m := Quantile(0.5)([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median %g", m)
	}
	if never := Rate([]float64{0, 0}, []float64{10, 20}); never.Value != 0 || never.High != 0.1 {
		t.Errorf("what did not happen in 30 months: %+v", never)
	}
	if empty := Bootstrap(nil, Mean); empty.Of != 0 || empty.text(1) != "-" {
		t.Errorf("%+v", empty)
	}
}

func TestAReportSaysWhatWasCountedAndWhichAimsWereMissed(t *testing.T) {
	p := small(t, []string{campaign.AttackOpen, campaign.AttackCredential}, []string{campaign.StressMerge})
	open := Outcome{
		Case: campaign.Case{Kind: campaign.AttackOpen, Attack: true, Open: true}, Messages: 900, Left: 700,
		Detected: true, After: 5 * time.Second, Contained: true, ContainedIn: 30 * time.Second, LeftUntil: 600,
	}
	missed := Outcome{Case: campaign.Case{Kind: campaign.AttackCredential, Attack: true, Open: true}, Messages: 10, Left: 10}
	merge := Outcome{Case: campaign.Case{Kind: campaign.StressMerge}, Step: detect.Hold}
	trial := Trial{OrgMonths: 4, Outcomes: []Outcome{open, missed, merge}, True: 3, False: []Alarm{{Kind: "creep"}}, Legit: 100, Stopped: 1}
	r := Summarise(p, []Trial{trial})
	if r.Recall.Value != 0.5 || r.Precision.Value != 0.75 || r.Episodes.Value != 0.25 || r.Stopped.Value != 0.01 {
		t.Errorf("%+v", r)
	}
	for _, a := range r.Aims {
		if a.Met {
			t.Errorf("met: %+v", a)
		}
	}
	text := Tables([]Report{r})
	for _, want := range []string{"| campaign-open | 900 | 1.00 (0.21–1.00) | 5 s", "| mail-merge | 1 | 0.00", "hold | 1 |", "**not met**", "creep 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestTablesGoWhereThePageHasItsMarks(t *testing.T) {
	page := "before\n" + beginMark + "\nold\n" + endMark + "\nafter\n"
	got, err := Replace(page, "new\n")
	if want := "before\n" + beginMark + "\n\nnew\n\n" + endMark + "\nafter\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Replace("nothing", "new"); err == nil {
		t.Error("a page without marks was changed")
	}
}

func TestTuningTriesOneThresholdAtATime(t *testing.T) {
	list, err := Tune(t.Context(), small(t, []string{campaign.AttackCredential}, []string{}), []string{"OddFloor"}, []uint64{1}, Options{}, nil)
	if err != nil || len(list) != 3 || list[0].Threshold != "" || list[1].Value == list[2].Value {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := Tune(t.Context(), small(t, []string{}, []string{}), []string{"NoSuch"}, []uint64{1}, Options{}, nil); err == nil {
		t.Error("an unknown threshold was tried")
	}
	thresholds := detect.DefaultThresholds()
	for _, name := range Thresholds() {
		if value := scale(&thresholds, name, 2); value == "" || value == "0" {
			t.Errorf("%s twice is %q", name, value)
		}
	}
}
