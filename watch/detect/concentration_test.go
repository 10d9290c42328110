package detect

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// counted are the alarms of a kind, or that name it behind what leads, by finding.
func (w *world) counted(k Kind) map[string]Finding {
	says := map[Kind]string{OneSender: "has one sender", OneRecipient: "to one recipient", Creep: "in a week"}[k]
	found := map[string]Finding{}
	for _, f := range w.alarms() {
		if strings.Contains(f.Sentence, says) {
			found[f.ID] = f
		}
	}
	return found
}

func TestAnInsiderIsNoticedAfterADozenLargeMessagesAndThreeNightsAreOneFinding(t *testing.T) {
	w := newWorld(t).days(14)
	for night := range 3 {
		w.to(1).burst(200, time.Minute, takeHome("myself@gmail.com", 4_000_000))
		if night == 0 {
			first := w.alarms()[0]
			if first.Kind != OneRecipient || first.Messages > 15 || first.Scope != (Scope{Org: "acme", Source: "office"}) || first.Propose.Step > Throttle {
				t.Errorf("%+v", first)
			}
			for _, want := range []string{"one sender of acme.example", "megabytes", "minutes", "gmail.com", "nobody here wrote before"} {
				if !strings.Contains(first.Sentence, want) || strings.Contains(first.Sentence, "myself") {
					t.Errorf("%q is not in %q, or the address is", want, first.Sentence)
				}
			}
		}
		w.to(8).days(1)
	}
	if found := w.counted(OneRecipient); len(found) != 1 {
		t.Errorf("%d findings", len(found))
	}
}

func TestAnInsiderWhoSendsSmallMessagesIsNoticedByTheirNumber(t *testing.T) {
	w := newWorld(t).days(14)
	w.to(1).burst(250, time.Minute, takeHome("myself@gmail.com", 5_000))
	if found := w.counted(OneRecipient); len(found) != 1 {
		t.Errorf("%d findings", len(found))
	}
}

// TestAnAddressThatWasWrittenToBeforeMayGetMoreButNotAnything: who tries once a month before,
// and then takes all, gains little.
func TestAnAddressThatWasWrittenToBeforeMayGetMoreButNotAnything(t *testing.T) {
	for messages, want := range map[int]int{20: 0, 60: 1} {
		w := newWorld(t)
		w.burst(1, time.Minute, takeHome("myself@gmail.com", 4_000))
		w.to(0).days(14)
		w.to(1).burst(messages, time.Minute, takeHome("myself@gmail.com", 4_000_000))
		if found := w.counted(OneRecipient); len(found) != want {
			t.Errorf("%d messages: %d findings, want %d", messages, len(found), want)
		}
	}
}

// TestAPhotographerWhoSendsPicturesEveryWeekIsNoFinding: what is large here is usual here.
func TestAPhotographerWhoSendsPicturesEveryWeekIsNoFinding(t *testing.T) {
	w := newWorld(t)
	for customer := range 12 {
		if customer == 4 {
			w.found = nil
		}
		for range 2 {
			w.to(10).burst(30, time.Minute, takeHome(fmt.Sprintf("customer%d@gmail.com", customer), 8_000_000))
			w.to(18).days(1)
		}
		w.to(0).days(5)
	}
	if found := w.counted(OneRecipient); len(found) != 0 {
		t.Errorf("%v", found)
	}
}

func TestADripIsNoticedOnTheFirstDayAndIsOneFindingForAllTenDays(t *testing.T) {
	w := newWorld(t).days(14)
	start := w.now
	for range 10 {
		drip(w)
	}
	found := w.counted(OneSender)
	if len(found) != 1 || w.alarms()[0].Last.Sub(start) > 8*time.Hour {
		t.Errorf("%d findings, the first: %+v", len(found), w.alarms()[0])
	}
}

// TestARecruiterBecomesUsual: somebody whose work is to write to strangers is told of once.
func TestARecruiterBecomesUsual(t *testing.T) {
	w := newWorld(t).days(14)
	for week := range 5 {
		if week == 2 {
			w.found = nil
		}
		for day := range 7 {
			if day < 5 {
				w.to(10).burst(40, 5*time.Minute, func(i int, e *Event) {
					e.From, e.Rcpt = "people@acme.example", []string{stranger(1000*(7*week+day) + i)}
				})
			}
			w.to(0)
		}
	}
	if found := w.counted(OneSender); len(found) > 1 {
		t.Errorf("%d findings", len(found))
	}
}

func TestAFormThatStrangersFeedIsNoticedByTheStrangersAmongItsCustomers(t *testing.T) {
	w := newWorld(t).days(14).to(10)
	start := w.now
	w.burst(400, 15*time.Second, func(i int, e *Event) {
		e.From = "shop@acme.example"
		if i%2 == 0 {
			e.Rcpt = []string{stranger(i)}
		}
	})
	alarms := w.alarms()
	if len(alarms) == 0 || alarms[0].Last.Sub(start) > 20*time.Minute || w.strongest() > Throttle {
		t.Fatalf("%d alarms, strongest %v", len(alarms), w.strongest())
	}
	t.Log(alarms[0].Sentence)
}

// TestTenMessagesThatAreStrangeInEveryWayAreEnough: where from, to whom, and a Message-ID
// that does not fit.
func TestTenMessagesThatAreStrangeInEveryWayAreEnough(t *testing.T) {
	for host, alarm := range map[string]bool{"vps1.hosting.example": true, "mail.acme.example": false} {
		w := newWorld(t).days(14).to(10)
		w.found = nil
		w.burst(12, time.Second, func(i int, e *Event) {
			theft(i, e)
			e.Print.IDHost = host
		})
		if f := w.has(Odd); (f != nil && f.IsAlarm()) != alarm {
			t.Errorf("%s: %+v", host, f)
		}
	}
}

func TestACreepOfAWeekIsOneFindingAndNotOneADay(t *testing.T) {
	w := newWorld(t).days(70)
	w.found = nil
	creepBy(w, 900)
	for range 10 {
		w.to(8).burst(900, 40*time.Second, nil)
		w.to(0)
	}
	byScope := map[Scope]int{}
	for _, f := range w.counted(Creep) {
		byScope[f.Scope]++
	}
	for scope, n := range byScope {
		if n != 1 {
			t.Errorf("%+v: %d findings", scope, n)
		}
	}
	if len(byScope) == 0 {
		t.Error("no finding")
	}
}

// TestTheHeaviestNeverCountsTooMuch compares it with exact counting over all messages.
func TestTheHeaviestNeverCountsTooMuch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type letter struct {
			at int64
			n  uint32
		}
		var c concentration
		exact := map[uint64][]letter{}
		now := monday.Unix()
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			now += int64(rapid.SampledFrom([]int{0, 60, 7200, 86400, 5 * 86400, -7200, -90_000}).Draw(t, "gap"))
			sum, n := rapid.Uint64Range(1, 20).Draw(t, "who"), uint32(rapid.IntRange(1, 9).Draw(t, "strangers"))
			got := c.wrote(sum, now, &counts{Strangers: n, Rcpts: n + 1})
			exact[sum] = append(exact[sum], letter{now, n})
			var most uint64
			for _, l := range exact[sum] {
				if d := now - l.at; d < heavySteps*heavyStep {
					most += uint64(l.n)
				}
			}
			if got.weight > most || got.weight < uint64(n) || got.of < got.weight {
				t.Fatalf("%+v, exactly %d", got, most)
			}
			if len(c.heaviest) > maxHeaviest {
				t.Fatalf("%d entries", len(c.heaviest))
			}
		}
	})
}

func TestAClockThatIsSetBackBlindsNobody(t *testing.T) {
	w := newWorld(t).days(14)
	w.to(1).burst(100, time.Minute, takeHome("myself@gmail.com", 4_000_000))
	w.now = w.now.AddDate(-1, 0, 0)
	w.days(14)
	w.found = nil
	w.to(1).burst(100, time.Minute, takeHome("another@gmail.com", 4_000_000))
	if w.d.principals.find(Scope{Org: "acme"}).pairs.usual() > 1e9 {
		t.Error("what is usual has no bound")
	}
	w.now = w.now.AddDate(0, 0, 60)
	w.days(20)
	w.found = nil
	w.to(1).burst(100, time.Minute, takeHome("third@gmail.com", 4_000_000))
	if len(w.counted(OneRecipient)) == 0 {
		t.Error("silent ever after")
	}
}

func TestEverySignalIsInTheManual(t *testing.T) {
	page, err := os.ReadFile("../../docs/detection.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind := range Kinds() {
		if !strings.Contains(string(page), fmt.Sprintf("`%s`", kind)) {
			t.Errorf("docs/detection.md has no row for %s", kind)
		}
	}
}

// TestWhatIsHeaviestTakesBoundedMemory counts what a third of 100,000 principals, the
// organisations, can have at most.
func TestWhatIsHeaviestTakesBoundedMemory(t *testing.T) {
	d := New(Options{})
	for i := range 5000 {
		d.Observe(Event{Time: monday.Add(time.Duration(i) * time.Second), What: Sent, Org: "acme", Source: "s", From: random(i) + "@acme.example", Rcpt: []string{stranger(i)}, Size: 1 << 60,
			Peer: netip.AddrFrom4([4]byte{192, 0, 2, 1})})
	}
	p := d.principals.find(Scope{Org: "acme"})
	octets := 2*unsafe.Sizeof(concentration{}) + uintptr(cap(p.writers.heaviest)+cap(p.pairs.heaviest))*unsafe.Sizeof(heavy{})
	if octets > 1200 {
		t.Errorf("%d octets", octets)
	}
	t.Logf("%d octets of an organisation", octets)
}
