package sink

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func after(d time.Duration, stage Stage) Question { return Question{Stage: stage, Now: noon.Add(d)} }

func TestAStormPutsEverythingOffUntilItIsOver(t *testing.T) {
	s := &Storm{Lasts: 10 * time.Second}
	for _, step := range []struct {
		at   time.Duration
		calm bool
	}{{0, false}, {9 * time.Second, false}, {10 * time.Second, true}, {time.Hour, true}} {
		if a := s.Answer(after(step.at, Recipient)); (a.Reply == "") != step.calm {
			t.Errorf("after %s: %q", step.at, a.Reply)
		}
	}
	if a := s.Answer(after(0, Sender)); a != (Answer{}) {
		t.Errorf("a storm is about recipients, and says %+v to MAIL", a)
	}
}

func TestStormsComeAgain(t *testing.T) {
	s := &Storm{Lasts: 2 * time.Second, Every: 10 * time.Second}
	for second := range 40 {
		a := s.Answer(after(time.Duration(second)*time.Second, Recipient))
		if stormy := second%10 < 2; stormy != (a.Reply != "") {
			t.Errorf("second %d: %q", second, a.Reply)
		}
	}
}

// TestTheSameSeedIsTheSameStorm: a run can be repeated.
func TestTheSameSeedIsTheSameStorm(t *testing.T) {
	script := func() (text string) {
		s := &Storm{Lasts: time.Hour, Share: 0.5, Dice: Seeded(7)}
		for range 100 {
			text += s.Answer(after(0, Recipient)).Reply + "\n"
		}
		return text
	}
	once := script()
	if n := strings.Count(once, "451"); n < 30 || n > 70 {
		t.Errorf("half of a hundred are put off, not %d", n)
	}
	if script() != once {
		t.Error("the same seed says something else the second time")
	}
}

func TestGreylistingTakesALaterAttemptOfTheSameThree(t *testing.T) {
	g := &Greylist{Delay: 5 * time.Second}
	ask := func(at time.Duration, peer, from, to string) bool {
		return g.Answer(Question{Stage: Recipient, Now: noon.Add(at), Peer: netip.MustParseAddr(peer), From: from, To: to}).Reply == ""
	}
	for _, step := range []struct {
		at             time.Duration
		peer, from, to string
		taken          bool
	}{
		{0, "192.0.2.1", "a@a.example", "b@b.example", false},
		{4 * time.Second, "192.0.2.1", "a@a.example", "b@b.example", false},
		{5 * time.Second, "192.0.2.1", "a@a.example", "b@b.example", true},
		{6 * time.Second, "192.0.2.200", "a@a.example", "b@b.example", true}, // another address of the same pool
		{7 * time.Second, "198.51.100.1", "a@a.example", "b@b.example", false},
		{8 * time.Second, "192.0.2.1", "a@a.example", "c@b.example", false},
		{9 * time.Second, "2001:db8::1", "a@a.example", "b@b.example", false},
		{20 * time.Second, "2001:db8::2", "a@a.example", "b@b.example", true},
	} {
		if got := ask(step.at, step.peer, step.from, step.to); got != step.taken {
			t.Errorf("after %s from %s to %s: taken is %t", step.at, step.peer, step.to, got)
		}
	}
	if g := (&Greylist{}); g.Answer(after(0, Recipient)).Reply == "" {
		t.Error("the first attempt was taken")
	}
}

func TestAConnectionEndsAfterSoManyMessages(t *testing.T) {
	c := Closing{Messages: 3}
	for taken, want := range []string{"", "", "", "421", "421"} {
		if a := c.Answer(Question{Stage: Sender, Taken: taken}); !strings.HasPrefix(a.Reply, want) || want == "" && a.Reply != "" {
			t.Errorf("after %d messages: %q", taken, a.Reply)
		}
	}
}

func TestSlowAnswersStayWithinTheirBounds(t *testing.T) {
	s := &Slow{Least: time.Second, Most: 2 * time.Second, Dice: Seeded(1)}
	for range 100 {
		if a := s.Answer(after(0, Content)); a.Reply != "" || a.After < time.Second || a.After >= 2*time.Second {
			t.Fatalf("%+v", a)
		}
	}
	if a := (&Slow{Most: time.Second}).Answer(after(0, Content)); a.After != time.Second {
		t.Errorf("without dice: %+v", a)
	}
	if a := s.Answer(after(0, Recipient)); a != (Answer{}) {
		t.Errorf("only the final dot is slow, RCPT got %+v", a)
	}
}

// TestARateIsNeverPassed: whenever clients come, no more than burst and rate
// allow are taken in any time from the first.
func TestARateIsNeverPassed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perSecond, burst := rapid.Float64Range(0.5, 50).Draw(t, "rate"), rapid.Float64Range(1, 20).Draw(t, "burst")
		r := &Rate{PerSecond: perSecond, Burst: burst, Dice: Seeded(rapid.Uint64().Draw(t, "seed"))}
		at, taken := time.Duration(0), 0
		for _, gap := range rapid.SliceOfN(rapid.Int64Range(0, int64(time.Second)), 1, 200).Draw(t, "gaps") {
			at += time.Duration(gap)
			a := r.Answer(after(at, Sender))
			if a.Reply == "" {
				taken++
			}
			if allowed := burst + perSecond*at.Seconds(); float64(taken) > allowed+1e-6 {
				t.Fatalf("%d taken in %s, %.2f allowed", taken, at, allowed)
			}
		}
	})
}

func TestARateSaysNoInBothWays(t *testing.T) {
	r := &Rate{PerSecond: 1, Burst: 1, Dice: Seeded(3)}
	said := map[string]int{}
	for range 50 {
		code, _, _ := strings.Cut(r.Answer(after(0, Sender)).Reply, " ")
		said[code]++
	}
	if said["421"] == 0 || said["451"] == 0 {
		t.Errorf("%v", said)
	}
	r.Dice = nil
	if a := r.Answer(after(0, Sender)); !strings.HasPrefix(a.Reply, "451 4.7.1") {
		t.Errorf("without dice: %q", a.Reply)
	}
}

func TestACrowdedProviderTurnsTheNextConnectionAway(t *testing.T) {
	c := Crowded{Connections: 2}
	if a := c.Answer(Question{Stage: Greeting, Open: 2}); a.Reply != "" {
		t.Errorf("the second: %q", a.Reply)
	}
	if a := c.Answer(Question{Stage: Greeting, Open: 3}); !strings.HasPrefix(a.Reply, "421") {
		t.Errorf("the third: %q", a.Reply)
	}
	if a := c.Answer(Question{Stage: Sender, Open: 9}); a.Reply != "" {
		t.Errorf("who is in stays: %q", a.Reply)
	}
}

func TestSeveralBehavioursAreOne(t *testing.T) {
	all := All{Crowded{Connections: 1}, Closing{Messages: 1}, &Slow{Most: time.Second}, &Slow{Most: time.Minute}}
	for _, tt := range []struct {
		q    Question
		want Answer
	}{
		{Question{Stage: Greeting, Open: 1}, Answer{}},
		{Question{Stage: Greeting, Open: 2}, Answer{Reply: "421 4.7.0 too many connections from your address"}},
		{Question{Stage: Sender, Taken: 1}, Answer{Reply: "421 4.7.0 too many messages on this connection, closing"}},
		{Question{Stage: Content}, Answer{After: 61 * time.Second}},
	} {
		if got := all.Answer(tt.q); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.q, got, tt.want)
		}
	}
}
