package delivery

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var dawn = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

// Whatever a site answers: never more at a time than its limit, never more in any
// span than its rate, never anything in a pause, pauses that end in bounded time,
// and a site that takes mail again gets all it may.
func TestTheLimitsOfASiteAreNeverPassed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := SiteLimits{
			Connections: rapid.IntRange(1, 30).Draw(t, "connections"),
			Messages:    rapid.IntRange(0, 20).Draw(t, "messages"),
			Span:        rapid.SampledFrom([]time.Duration{0, time.Second, 7 * time.Second, time.Minute}).Draw(t, "span"),
		}
		var s siteState
		var underWay, begun []time.Time
		now := dawn
		begin := func() {
			ok, again := s.ready(now, l, len(underWay))
			_, paused := s.paused(now)
			switch {
			case ok && paused:
				t.Fatal("an attempt may begin in a pause")
			case ok:
				s.begin(now, l)
				underWay, begun = append(underWay, now), append(begun, now)
			case !again.IsZero() && (!again.After(now) || again.After(now.Add(maxDead+l.Span))):
				t.Fatalf("to be asked again at %s, which is %s off", again, again.Sub(now))
			case again.IsZero() && len(underWay) == 0:
				t.Fatal("nothing is under way, and nothing may begin")
			}
			if len(underWay) > l.Connections {
				t.Fatalf("%d at a time", len(underWay))
			}
		}
		end := func(what lesson) {
			if len(underWay) == 0 {
				return
			}
			s.learn(now, underWay[0], what, Result{}, l)
			underWay = underWay[1:]
		}
		t.Repeat(map[string]func(*rapid.T){
			"":       func(t *rapid.T) { checkRate(t, begun, l) },
			"begin":  func(*rapid.T) { begin() },
			"begin2": func(*rapid.T) { begin() },
			"end": func(t *rapid.T) {
				end(rapid.SampledFrom([]lesson{nothing, answered, busy, unreachable, taken}).Draw(t, "lesson"))
			},
			"wait": func(t *rapid.T) {
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour}).Draw(t, "wait"))
			},
		})
		now = now.Add(time.Hour)
		for range 1000 {
			now = now.Add(time.Minute)
			underWay = append(underWay, now)
			end(taken)
		}
		if n := s.connections(l); n != l.Connections {
			t.Fatalf("after 1000 messages that were taken there are %d at a time, the limit is %d", n, l.Connections)
		}
	})
}

// checkRate looks at each span that ends with an attempt.
func checkRate(t *rapid.T, begun []time.Time, l SiteLimits) {
	if l.interval() == 0 || len(begun) == 0 {
		return
	}
	last, n := begun[len(begun)-1], 0
	for _, at := range begun {
		if last.Sub(at) < l.Span {
			n++
		}
	}
	if n > l.Messages {
		t.Fatalf("%d attempts within %s, the limit is %d", n, l.Span, l.Messages)
	}
}

func TestASiteThatAsksForLessGetsLongerPausesEachTime(t *testing.T) {
	l := SiteLimits{Connections: 20}
	var s siteState
	now, longest := dawn, time.Duration(0)
	for n := range 12 {
		began := now
		s.learn(now, began, busy, Result{Reply: "421 4.7.0 slow down"}, l)
		until, paused := s.paused(now)
		if !paused || until.Sub(now) < longest || until.Sub(now) > maxBusy {
			t.Fatalf("pause %d is %s after one of %s", n, until.Sub(now), longest)
		}
		s.learn(now, began.Add(-time.Second), busy, Result{}, l) // from before the pause
		if again, _ := s.paused(now); again != until {
			t.Fatal("what began before the pause made it longer")
		}
		longest, now = until.Sub(now), until
	}
	if longest != maxBusy || s.connections(l) != 1 {
		t.Errorf("the longest pause is %s, %d at a time", longest, s.connections(l))
	}
	for range calmAfter {
		s.learn(now, now, taken, Result{}, l)
	}
	for _, want := range []time.Duration{briefBusy, busyFor} {
		s.begin(now, l)
		s.learn(now, now, busy, Result{}, l)
		until, _ := s.paused(now)
		if until.Sub(now) != want {
			t.Errorf("after a calm time the pause is %s, want %s", until.Sub(now), want)
		}
		now = until
	}
}

func TestASiteThatNobodyReachesIsDeadForAWhile(t *testing.T) {
	l := SiteLimits{Connections: 20}
	var s siteState
	for range deadAfter {
		if s.isDead(dawn) {
			t.Fatal("dead too early")
		}
		s.learn(dawn, dawn, unreachable, Result{Reply: "connection refused"}, l)
	}
	if !s.isDead(dawn) || s.isDead(dawn.Add(deadFor)) || s.why.Reply != "connection refused" {
		t.Fatalf("%+v", s)
	}
	after := dawn.Add(deadFor)
	if s.connections(l) != 1 {
		t.Errorf("%d try it again", s.connections(l))
	}
	s.learn(after, after, unreachable, Result{}, l)
	if !s.isDead(after.Add(deadFor)) {
		t.Error("it is not dead for longer the second time")
	}
	after = after.Add(2 * deadFor)
	s.learn(after, after, answered, Result{}, l)
	s.learn(after, after, unreachable, Result{}, l)
	if s.isDead(after) {
		t.Error("one miss after an answer makes it dead")
	}
}

func TestWhatAReplyTellsOfTheSite(t *testing.T) {
	said := func(status Status, enhanced, reply string) Result {
		return Result{Status: status, Enhanced: enhanced, Reply: reply, Said: true, Host: "mx.example"}
	}
	for _, c := range []struct {
		result Result
		want   lesson
	}{
		{said(Delivered, "2.0.0", "250 Ok"), taken},
		{said(Deferred, "4.7.0", "421 4.7.0 Try again later"), busy},
		{said(Deferred, "4.7.28", "450 4.7.28 unusual rate of mail"), busy},
		{said(Deferred, "4.3.2", "450 4.3.2 Server busy"), busy},
		{said(Deferred, "4.7.1", "451 4.7.1 Greylisting in action, please come back later"), answered},
		{said(Deferred, "4.2.2", "452 4.2.2 Mailbox full"), answered},
		{said(Failed, "5.1.1", "550 5.1.1 No such user"), answered},
		{deferred("4.4.1", "mx.example[192.0.2.1]:25: connection refused"), unreachable},
		{deferred("4.4.1", "mx.example[192.0.2.1]:25: greeting: 421 too many connections"), busy},
		{deferred("4.4.2", "the attempt was ended before a server answered; "), nothing},
		{deferred("4.4.3", "the mail exchangers of a.example could not be looked up"), nothing},
		{deferred("4.3.0", "the stored message could not be read"), nothing},
		{Result{Status: Deferred, Enhanced: "4.4.1", Reason: "X"}, nothing},
	} {
		if got, _ := lessonOf([]Result{c.result}); got != c.want {
			t.Errorf("%s: %d, want %d", c.result.Reply, got, c.want)
		}
	}
}
