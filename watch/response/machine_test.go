package response

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/watch/detect"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// finding is one about a source, that proposes a step.
func finding(step Step, last time.Time) detect.Finding {
	scope := detect.Scope{Org: "acme", Source: "app"}
	return detect.Finding{
		ID: "f1", Kind: "volume", Scope: scope, First: noon, Last: last, Messages: 900, Left: 900,
		Sentence: "app of acme sends ten times what is usual", Propose: detect.Action{Step: detect.Step(step), Scope: scope},
	}
}

// steps gives what the changes are, as "raised hold".
func steps(changes []Change) (told []string) {
	for _, c := range changes {
		told = append(told, string(c.What)+" "+c.Order.Step.String())
	}
	return told
}

func expect(t *testing.T, what string, changes []Change, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, steps(changes)); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func TestAFindingThatGoesOnClimbsOneStepAtATime(t *testing.T) {
	var m Machine
	expect(t, "it begins", m.Consider(finding(Suspend, noon), Kill, noon), "begun throttle")
	expect(t, "at once", m.Consider(finding(Suspend, noon.Add(time.Second)), Kill, noon.Add(time.Second)))
	at := noon.Add(Patience)
	expect(t, "nothing came since the throttle", m.Consider(finding(Suspend, noon), Kill, at))
	expect(t, "it goes on", m.Consider(finding(Suspend, at), Kill, at), "raised hold")
	at = at.Add(Patience)
	expect(t, "and on", m.Consider(finding(Suspend, at), Kill, at), "raised suspend")
	at = at.Add(Patience)
	expect(t, "past what it proposes", m.Consider(finding(Suspend, at), Kill, at))
}

func TestWhatTheOrganisationDoesNotAllowWaitsForAPerson(t *testing.T) {
	var m Machine
	expect(t, "begins", m.Consider(finding(Suspend, noon), Throttle, noon), "begun throttle")
	at := noon.Add(Patience)
	expect(t, "goes on", m.Consider(finding(Suspend, at), Throttle, at))
	o := m.Orders()[0]
	if !o.Waits() || o.Wants != Suspend {
		t.Fatalf("nothing waits: %+v", o)
	}
	c, err := m.Apply(Wish{ID: o.ID, Step: Suspend, By: "ann", Why: "it is not ours"}, at)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "ann applies it", []Change{c}, "raised suspend")
	if !c.Order.Until.IsZero() {
		t.Errorf("it ends by itself on %s", c.Order.Until)
	}
}

func TestAnOrganisationThatAllowsNothingIsOnlyTold(t *testing.T) {
	var m Machine
	expect(t, "begins", m.Consider(finding(Hold, noon), Log, noon), "proposed log")
	if v := m.Overlay(); v.Any("acme") {
		t.Error("something is in force")
	}
	expect(t, "goes on", m.Consider(finding(Hold, noon.Add(time.Minute)), Log, noon.Add(time.Minute)))
	expect(t, "nobody came", m.Tick(noon.Add(Waiting+time.Hour)), "ended log")
}

func TestAStrongStepComesDownToAThrottleBeforeItEnds(t *testing.T) {
	var m Machine
	m.Consider(finding(Hold, noon), Hold, noon)
	at := noon.Add(Patience)
	expect(t, "climbs", m.Consider(finding(Hold, at), Hold, at), "raised hold")
	expect(t, "too early", m.Tick(at.Add(lasting[Hold]-time.Second)))
	at = at.Add(lasting[Hold])
	expect(t, "time is over", m.Tick(at), "lowered throttle")
	expect(t, "probation", m.Tick(at.Add(Probation)), "ended throttle")
}

func TestAStepLastsAsLongAsTheFindingGoesOn(t *testing.T) {
	var m Machine
	m.Consider(finding(Throttle, noon), Throttle, noon)
	at := noon.Add(50 * time.Minute)
	expect(t, "goes on", m.Consider(finding(Throttle, at), Throttle, at), "extended throttle")
	expect(t, "an hour after it began", m.Tick(noon.Add(time.Hour)))
	expect(t, "an hour after it went on", m.Tick(at.Add(time.Hour)), "ended throttle")
}

func TestWhatAPersonEndedDoesNotComeBackForADay(t *testing.T) {
	var m Machine
	begun := m.Consider(finding(Hold, noon), Hold, noon)
	c, err := m.End(begun[0].Order.ID, "ann", "it is our newsletter", noon)
	if err != nil || c.What != Over {
		t.Fatalf("%v, %v", c, err)
	}
	var again Machine // after a restart too
	again.Load(m.Orders())
	for _, m := range []*Machine{&m, &again} {
		expect(t, "the same finding", m.Consider(finding(Hold, noon.Add(time.Hour)), Hold, noon.Add(time.Hour)))
		other := finding(Hold, noon.Add(time.Hour))
		other.Kind = "family"
		expect(t, "another kind", m.Consider(other, Hold, noon.Add(time.Hour)), "begun throttle")
	}
	var later Machine
	later.Load([]Order{c.Order})
	at := noon.Add(MutedFor)
	expect(t, "a day later", later.Consider(finding(Hold, at), Hold, at), "begun throttle")
}

func TestWhatAPersonAppliedStaysAsItIs(t *testing.T) {
	var m Machine
	scope := detect.Scope{Org: "acme", Source: "app"}
	if _, err := m.Apply(Wish{Scope: scope, Step: Throttle, Rate: 5, By: "ann", Why: "let us see"}, noon); err != nil {
		t.Fatal(err)
	}
	at := noon.Add(time.Hour)
	for _, c := range m.Consider(finding(Suspend, at), Kill, at) {
		if c.What != Proposed || c.Order.Rate != 5 {
			t.Errorf("a finding changed what a person applied: %+v", c)
		}
	}
	expect(t, "for ever", m.Tick(noon.AddDate(1, 0, 0)))
}

func TestAFindingAboutAWholeOrganisationDoesNoMoreThanThrottle(t *testing.T) {
	var m Machine
	f := finding(Kill, noon)
	f.Scope, f.Propose.Scope = detect.Scope{Org: "acme"}, detect.Scope{Org: "acme"}
	for i := range 10 {
		at := noon.Add(time.Duration(i) * time.Minute)
		f.Last = at
		m.Consider(f, Kill, at)
	}
	if o := m.Orders()[0]; o.Step != Throttle {
		t.Errorf("%s of a whole organisation", o.Step)
	}
}

func TestAPersonAsksForNonsense(t *testing.T) {
	var m Machine
	acme := detect.Scope{Org: "acme"}
	for what, w := range map[string]Wish{
		"nobody":            {Scope: acme, Step: Throttle, Why: "x"},
		"for no reason":     {Scope: acme, Step: Throttle, By: "ann"},
		"of nobody":         {Step: Throttle, By: "ann", Why: "x"},
		"nothing":           {Scope: acme, By: "ann", Why: "x"},
		"a whole suspended": {Scope: acme, Step: Suspend, By: "ann", Why: "x"},
		"a whole killed":    {Scope: acme, Step: Kill, By: "ann", Why: "x"},
		"negative":          {Scope: acme, Step: Throttle, Rate: -1, By: "ann", Why: "x"},
	} {
		if _, err := m.Apply(w, noon); !errors.Is(err, ErrBadWish) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := m.Apply(Wish{ID: "none", Step: Hold, By: "ann", Why: "x"}, noon); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown id: %v", err)
	}
	if _, err := m.End("none", "ann", "", noon); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown id: %v", err)
	}
}

func TestAnOrderReachesItsScopeAndNoFurther(t *testing.T) {
	var m Machine
	apply := func(s detect.Scope, step Step) {
		if _, err := m.Apply(Wish{Scope: s, Step: step, By: "ann", Why: "x"}, noon); err != nil {
			t.Fatal(err)
		}
	}
	apply(detect.Scope{Org: "acme", Source: "app"}, Suspend)
	apply(detect.Scope{Org: "acme", Domain: "shop.acme.test"}, Kill)
	apply(detect.Scope{Org: "acme", Source: "crm", Domain: "acme.test"}, Hold)
	v := m.Overlay()
	for _, c := range []struct {
		m    Message
		want Step
	}{
		{Message{Org: "acme", Source: "app", From: "acme.test"}, Suspend},
		{Message{Org: "acme", Source: "m365", From: "acme.test"}, Log},
		{Message{Org: "acme", Source: "m365", From: "shop.acme.test"}, Kill},
		{Message{Org: "acme", Source: "m365", From: "x.shop.acme.test"}, Kill},
		{Message{Org: "acme", Source: "m365", From: "workshop.acme.test"}, Log},
		{Message{Org: "acme", Source: "m365", From: "acme.test", Others: []string{"shop.acme.test"}}, Kill},
		{Message{Org: "acme", Source: "crm", From: "acme.test"}, Hold},
		{Message{Org: "acme", Source: "crm", From: "other.test", Others: []string{"acme.test"}}, Log},
		{Message{Org: "globex", Source: "app", From: "acme.test"}, Log},
	} {
		if got, _ := v.Strongest(c.m); got.Step != c.want {
			t.Errorf("%+v: %s, want %s", c.m, got.Step, c.want)
		}
	}
	if killed := v.Killed("acme"); len(killed) != 1 || killed[0].Domain != "shop.acme.test" {
		t.Errorf("killed: %v", killed)
	}
}

func TestChangesAreToldInASentence(t *testing.T) {
	var m Machine
	hostile := finding(Hold, noon)
	hostile.Sentence = "\x1b[31m" + strings.Repeat("ä", 1000)
	c := m.Consider(hostile, Hold, noon)[0]
	if s := c.Sentence(); strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) || len(s) > 600 {
		t.Errorf("%q", s)
	}
	var other Machine
	c = other.Consider(finding(Hold, noon), Hold, noon)[0]
	if got, want := c.Sentence(), "throttle of acme/app to 100 messages an hour until 2026-11-22T13:00:00Z, by watch: app of acme sends ten times what is usual"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c, _ = other.End(c.Order.ID, "ann", "a mistake", noon)
	if got, want := c.Sentence(), "throttle of acme/app ended by ann: a mistake"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWhatIsGoneFromTheRegistryEnds(t *testing.T) {
	var m Machine
	m.Consider(finding(Hold, noon), Hold, noon)
	expect(t, "still there", m.Gone(func(detect.Scope) bool { return true }, noon))
	expect(t, "gone", m.Gone(func(detect.Scope) bool { return false }, noon), "ended throttle")
}

// Whatever is found, and whenever the machine is stored and read back: by itself it
// never goes past what is allowed, nor two steps at once, nor beyond its scope, and
// it stays bounded.
func TestTheLadderIsNeverJumped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := new(Machine)
		now := noon
		allowed := Step(rapid.IntRange(0, 4).Draw(t, "allowed"))
		before := map[string]Step{}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "seconds")) * time.Second)
			var changes []Change
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				changes = m.Tick(now)
			case 1:
				restarted := new(Machine)
				var stored []Order
				for _, o := range m.Orders() {
					text, err := json.Marshal(o)
					if err != nil {
						t.Fatal(err)
					}
					back, err := Decode(text)
					if err != nil {
						t.Fatal(err)
					}
					stored = append(stored, back)
				}
				restarted.Load(stored)
				if diff := cmp.Diff(m.Orders(), restarted.Orders()); diff != "" {
					t.Fatalf("a restart changed it:\n%s", diff)
				}
				m = restarted
			default:
				f := finding(Step(rapid.IntRange(0, 4).Draw(t, "step")), now)
				f.Scope.Source = rapid.SampledFrom([]string{"", "app", "crm"}).Draw(t, "source")
				f.Scope.Domain = rapid.SampledFrom([]string{"", "acme.test"}).Draw(t, "domain")
				f.Propose.Scope = f.Scope
				f.ID = fmt.Sprint(rapid.IntRange(0, 100).Draw(t, "id"))
				changes = m.Consider(f, allowed, now)
			}
			for _, c := range changes {
				if c.Order.InForce() && (c.Order.Step > allowed || c.Order.Step > above(before[c.Order.ID], c.Order.Scope)) {
					t.Fatalf("%s to %s, allowed %s", before[c.Order.ID], c.Order.Step, allowed)
				}
				if s := c.Order.Scope; c.Order.Step == Suspend && s.Source == "" || c.Order.Step == Kill && s.Domain == "" {
					t.Fatalf("%s of %+v", c.Order.Step, s)
				}
				if len(c.Order.Findings) > maxNames || len(c.Order.Kinds) > maxNames {
					t.Fatal("unbounded")
				}
				before[c.Order.ID] = c.Order.Step
			}
		}
	})
}

func TestStepsHaveNames(t *testing.T) {
	for i, name := range Names() {
		if s, err := ParseStep(name); err != nil || s != Step(i) || s.String() != name {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	if _, err := ParseStep("annihilate"); err == nil {
		t.Error("an unknown step is read")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"id":"a1","scope":{"org":"acme"},"step":"throttle","wants":"hold"}`))
	f.Add([]byte(`{"id":"a1","scope":{"org":"acme"},"step":"5"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, stored []byte) {
		o, err := Decode(stored)
		if err != nil {
			return
		}
		var m Machine
		m.Load([]Order{o})
		m.Tick(noon)
		if !slices.Contains(Names(), o.Step.String()) {
			t.Errorf("step %s", o.Step)
		}
	})
}
