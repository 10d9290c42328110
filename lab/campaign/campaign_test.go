package campaign

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/watch/detect"
)

// short is the standard set with little traffic.
func short(t *testing.T) Parameters {
	t.Helper()
	p, err := Preset("standard")
	if err != nil {
		t.Fatal(err)
	}
	p.Days, p.Quiet, p.Smallest, p.Largest = 20, 8, 20, 300
	return p
}

func make1(t *testing.T, p Parameters, seed uint64) *World {
	t.Helper()
	w, err := New(p, seed)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTheSameSeedGivesTheSameTrafficAndAnotherSeedAnother(t *testing.T) {
	sums := map[string]string{}
	for _, seed := range []uint64{7, 7, 8} {
		facts, labels := sha256.New(), sha256.New()
		if _, err := make1(t, short(t), seed).WriteFacts(facts, labels); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%x %x", facts.Sum(nil), labels.Sum(nil))
		key := fmt.Sprint(seed)
		if before, seen := sums[key]; seen && before != got {
			t.Errorf("seed %d gave two different runs", seed)
		}
		sums[key] = got
	}
	if sums["7"] == sums["8"] {
		t.Error("seeds 7 and 8 gave the same run")
	}
}

func TestEventsComeInOrderWithIDsOfTheirOwn(t *testing.T) {
	seen := map[mail.ID]bool{}
	var last time.Time
	for item := range make1(t, short(t), 1).Items(nil) {
		e := item.Event
		if e.Time.Before(last) {
			t.Fatalf("%s comes after %s", e.Time, last)
		}
		last = e.Time
		if !e.ID.Valid() || len(e.Rcpt) == 0 || e.Count != 1 {
			t.Fatalf("%+v", e)
		}
		if begins(e) == seen[e.ID] {
			t.Fatalf("a message begins once, before all else of it: %+v", e)
		}
		seen[e.ID] = true
	}
}

func TestAFactOfAnEventIsTheEventAgain(t *testing.T) {
	kinds := map[detect.What]bool{}
	for item := range make1(t, short(t), 2).Items(nil) {
		again, ok := detect.Of(FactOf(item.Event))
		if diff := cmp.Diff(item.Event, again, cmpopts.EquateComparable(item.Event.Peer)); !ok || diff != "" {
			t.Fatal(ok, diff)
		}
		kinds[item.Event.What] = true
	}
	if len(kinds) != 5 {
		t.Errorf("kinds of event: %v, want all five", kinds)
	}
}

func TestLabelsTellTheTruth(t *testing.T) {
	w := make1(t, short(t), 3)
	cases, messages := w.Cases, map[int]int{}
	if len(cases) != len(AttackKinds())+len(StressKinds()) {
		t.Fatalf("%d cases", len(cases))
	}
	for item := range w.Items(nil) {
		if item.Label.Case < 0 {
			if item.Label.Attack || item.Event.What == detect.Refused {
				t.Fatalf("ordinary mail is no attack and is not refused: %+v", item)
			}
			continue
		}
		if !begins(item.Event) {
			continue
		}
		c := cases[item.Label.Case]
		messages[item.Label.Case]++
		org := item.Event.Org + item.Event.Claimed
		if item.Label.Attack != c.Attack || item.Label.Kind != c.Kind || !slices.Contains(c.Orgs, org) {
			t.Fatalf("%+v is of %+v", item, c)
		}
		if item.Event.Time.Before(c.Start) || !item.Event.Time.Before(c.End) || item.Event.Time.Before(w.Parameters.Calm()) {
			t.Fatalf("%s is outside of %+v", item.Event.Time, c)
		}
		if !strings.HasSuffix(item.Event.From, "@"+org+".example") {
			t.Fatalf("From %s is not the victim's, %s", item.Event.From, org)
		}
	}
	for i, c := range cases {
		switchesOnly := c.Kind == StressMigration || c.Kind == StressHoliday
		if (messages[i] == 0) != switchesOnly {
			t.Errorf("%s has %d messages", c.Name, messages[i])
		}
	}
}

func TestWhatALabelFileHolds(t *testing.T) {
	var facts, labels bytes.Buffer
	counts, err := make1(t, short(t), 4).WriteFacts(&facts, &labels)
	if err != nil {
		t.Fatal(err)
	}
	known, lines := map[string]bool{}, 0
	for s := bufio.NewScanner(&facts); s.Scan(); lines++ {
		var f ledger.Fact
		if err := json.Unmarshal(s.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		known[string(f.ID)] = true
	}
	labelled := 0
	for s := bufio.NewScanner(&labels); s.Scan(); {
		var l struct{ ID, Case, Kind string }
		if err := json.Unmarshal(s.Bytes(), &l); err != nil || l.Case == "" || l.Kind == "" {
			t.Fatal(err, s.Text())
		}
		if l.ID != "" {
			labelled++
			if !known[l.ID] {
				t.Fatalf("%s is labelled and there is no fact of it", l.ID)
			}
		}
	}
	if lines != counts.Events || labelled != counts.Labelled || counts.Attacks == 0 || counts.Attacks >= counts.Labelled {
		t.Errorf("%d facts, %d labels, %+v", lines, labelled, counts)
	}
}

func TestPeopleSendByTheirOwnClock(t *testing.T) {
	p := short(t)
	p.Attacks, p.Stresses, p.Noise, p.Days = []string{}, []string{}, 0, 28
	w := make1(t, p, 5)
	zone := map[string]time.Duration{}
	want := map[string]float64{}
	for _, o := range w.Organisations {
		zone[o.ID], want[o.ID] = o.Zone, o.Daily
	}
	var byHour, byDay [24]float64
	sent := map[string]float64{}
	total := 0.0
	for item := range w.Items(nil) {
		if item.Event.What != detect.Sent || item.Label.Kind != Ordinary || strings.HasSuffix(item.Event.Source, "hybrid") {
			continue
		}
		local := item.Event.Time.Add(zone[item.Event.Org])
		byHour[local.Hour()]++
		byDay[local.Weekday()]++
		sent[item.Event.Org]++
		total++
	}
	weekTotal := 0.0
	for _, share := range week {
		weekTotal += share
	}
	for hour, n := range byHour {
		if tolerance := 0.01; math.Abs(n/total-hours[hour]) > tolerance {
			t.Errorf("hour %d has %.3f of the mail, want %.3f", hour, n/total, hours[hour])
		}
	}
	for d, share := range week {
		if math.Abs(byDay[d]/total-share/weekTotal) > 0.02 {
			t.Errorf("%s has %.3f of the mail, want %.3f", time.Weekday(d), byDay[d]/total, share/weekTotal)
		}
	}
	for id, n := range sent {
		expected := want[id] * weekTotal * 4
		if math.Abs(n-expected) > 6*math.Sqrt(expected)+0.05*expected {
			t.Errorf("%s sent %.0f messages in four weeks, want about %.0f", id, n, expected)
		}
	}
}

func TestSizesHaveAHeavyTail(t *testing.T) {
	p := short(t)
	p.Organisations, p.Attacks, p.Stresses, p.Smallest, p.Largest = 2000, []string{}, []string{}, 40, 3000
	var sizes []float64
	sum, top := 0.0, 0.0
	for _, o := range make1(t, p, 6).Organisations {
		if o.Daily < p.Smallest || o.Daily > p.Largest {
			t.Fatalf("%s sends %.0f a day", o.ID, o.Daily)
		}
		sizes = append(sizes, o.Daily)
		sum += o.Daily
	}
	slices.Sort(sizes)
	for _, s := range sizes[len(sizes)*9/10:] {
		top += s
	}
	if median := sizes[len(sizes)/2]; median > 100 || top/sum < 0.35 {
		t.Errorf("median %.0f, the largest tenth sends %.2f of the mail", median, top/sum)
	}
}

// TestOrdinaryLettersCarryThings is what a signal that weighs octets has to live with.
func TestOrdinaryLettersCarryThings(t *testing.T) {
	o := &Organisation{seed: 7}
	carry, large := 0, 0
	for letter := range uint32(80_000) {
		switch n := attached(o, letter); {
		case n > 35e6 || n < 0:
			t.Fatalf("%d octets", n)
		case n > 5e6:
			large++
			fallthrough
		case n > 0:
			carry++
		}
	}
	if carry < 9500 || carry > 10_500 || large < 200 || large > 1000 {
		t.Errorf("%d of 80,000 carry something, %d of them much", carry, large)
	}
}

func TestMostRecipientsWereWrittenToBefore(t *testing.T) {
	p := short(t)
	p.Attacks, p.Stresses, p.Days = []string{}, []string{}, 28
	known, again, late := map[string]bool{}, 0, 0
	w := make1(t, p, 9)
	half := p.Start.Add(14 * day)
	for item := range w.Items(nil) {
		if item.Event.What != detect.Sent || item.Label.Kind != Ordinary {
			continue
		}
		for _, to := range item.Event.Rcpt {
			key := item.Event.Org + to
			if item.Event.Time.After(half) {
				late++
				if known[key] {
					again++
				}
			}
			known[key] = true
		}
	}
	if share := float64(again) / float64(late); share < 0.7 || share > 0.95 {
		t.Errorf("%.2f of recipients after two weeks were known", share)
	}
}

func TestAGateTurnsProvenMailIntoARefusalForItsRate(t *testing.T) {
	left, refused := 0, 0
	for item := range make1(t, short(t), 10).Items(func(i Item) bool { return i.Label.Kind != AttackCredential }) {
		if item.Label.Kind != AttackCredential {
			continue
		}
		switch item.Event.What {
		case detect.Refused:
			refused++
			if item.Event.Reason != mail.ReasonRateLimited || item.Event.Org == "" {
				t.Fatalf("%+v", item.Event)
			}
		default:
			left++
		}
	}
	if left > 0 || refused == 0 {
		t.Errorf("%d left, %d were refused", left, refused)
	}
}

func TestALongRunNeedsNoMoreMemoryThanAShortOne(t *testing.T) {
	heap := func(days int) uint64 {
		p := short(t)
		p.Days = days
		w, n, most := make1(t, p, 11), 0, uint64(0)
		for range w.Items(nil) {
			if n++; n%40_000 == 0 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
		return most
	}
	if brief, long := heap(20), heap(120); long > brief+8<<20 {
		t.Errorf("20 days need %d KiB, 120 days %d KiB", brief>>10, long>>10)
	}
}

func TestParametersAreReadStrictly(t *testing.T) {
	for name, text := range map[string]string{
		"an unknown key":     `{"nmae": "x"}`,
		"two sets":           `{} {}`,
		"not midnight":       `{"start": "2026-01-05T01:00:00Z"}`,
		"an unknown attack":  `{"attacks": ["flood"]}`,
		"an unlikely number": `{"organisations": 1000000000}`,
	} {
		if _, err := ReadParameters([]byte(text)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	for _, name := range Presets() {
		if p, err := Preset(name); err != nil || p.Name != name || p.About == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Preset("nosuch"); err == nil || !strings.Contains(err.Error(), "standard, ") {
		t.Errorf("%v", err)
	}
}
