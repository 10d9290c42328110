package detect

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

var update = flag.Bool("update", false, "write the golden files")

// cases are, for each signal, what makes it speak, and what is like it and does not.
var cases = []struct {
	kind  Kind
	days  int
	speak func(w *world)
	quiet func(w *world)
}{
	{Ramp, 14, func(w *world) { w.to(10).burst(700, time.Second, nil) }, func(w *world) { w.to(10).burst(450, time.Second, nil) }},
	{Creep, 70, func(w *world) { creepBy(w, 900) }, func(w *world) { creepBy(w, 250) }},
	{Novelty, 14, func(w *world) {
		w.to(10).burst(300, time.Second, func(i int, e *Event) { e.Rcpt = []string{fmt.Sprintf("new%d@else.example", i)} })
	}, func(w *world) {
		w.to(10).burst(300, time.Second, func(i int, e *Event) {
			if i%4 == 0 {
				e.Rcpt = []string{fmt.Sprintf("new%d@else.example", i)}
			}
		})
	}},
	{FreeMail, 14, func(w *world) {
		w.to(10).burst(150, time.Second, func(i int, e *Event) { e.Rcpt = []string{stranger(i)} })
	}, func(w *world) {
		w.to(10).burst(150, time.Second, func(i int, e *Event) {
			if i%2 == 0 {
				e.Rcpt = []string{stranger(i)}
			}
		})
	}},
	{Family, 14, func(w *world) {
		w.to(10).burst(60, time.Second, func(i int, e *Event) { e.From = "admin_support" + random(i) + "@acme.example" })
	}, func(w *world) {
		w.to(10).burst(60, time.Second, func(i int, e *Event) { e.From = fmt.Sprintf("ticket-%d@acme.example", 10_000+i) })
	}},
	{Mismatch, 14, func(w *world) {
		w.to(10).burst(100, time.Second, func(_ int, e *Event) { e.MailFrom = "x@elsewhere.example" })
	}, func(w *world) {
		w.to(10).burst(100, time.Second, func(_ int, e *Event) { e.MailFrom = "x@bounces.acme.example" })
	}},
	{IDHost, 14, func(w *world) {
		w.to(10).burst(100, time.Second, func(_ int, e *Event) { e.Print.IDHost = "powermta.bad.example" })
	}, func(w *world) {
		w.to(10).burst(100, time.Second, func(_ int, e *Event) { e.Print.IDHost = "other.acme.example" })
	}},
	{Drift, 14, func(w *world) {
		w.to(10).burst(100, time.Second, func(_ int, e *Event) { e.Peer = netip.MustParseAddr("203.0.113.7") })
	}, func(w *world) {
		w.to(10).burst(100, time.Second, func(_ int, e *Event) { e.Peer = netip.MustParseAddr("192.0.2.99") })
	}},
	{OneSender, 14, drip, func(w *world) {
		w.to(0).burst(144, 10*time.Minute, func(_ int, e *Event) { e.From = "persona@acme.example" })
	}},
	{OneRecipient, 14, func(w *world) { w.to(2).burst(40, time.Minute, takeHome("myself@gmail.com", 4_000_000)) },
		func(w *world) {
			w.to(2).burst(40, time.Minute, takeHome("partner1@partner1.example", 4_000_000))
			w.burst(40, time.Minute, takeHome("friend@gmail.com", 4_000))
		}},
	{Odd, 14, func(w *world) { w.to(10).burst(60, time.Minute, theft) }, func(w *world) { w.to(10).burst(20, time.Minute, theft) }},
	{Hours, 14, func(w *world) { w.to(3).burst(150, time.Second, nil) }, func(w *world) { w.to(11).burst(150, time.Second, nil) }},
	{Dormant, 14, func(w *world) { w.now = w.now.AddDate(0, 0, 45); w.to(10).burst(80, time.Minute, nil) },
		func(w *world) { w.now = w.now.AddDate(0, 0, 20); w.to(10).burst(80, time.Minute, nil) }},
	{Bounces, 14, func(w *world) { answers(w, Bounced, 60) }, func(w *world) { answers(w, Bounced, 20) }},
	{Complaints, 14, func(w *world) { answers(w, Complained, 6) }, func(w *world) { answers(w, Complained, 2) }},
	{WrongFrom, 14, func(w *world) { refusals(w, 25, mail.ReasonFromNotOwned, "office") }, func(w *world) { refusals(w, 10, mail.ReasonFromNotOwned, "office") }},
	{ForeignTenant, 1, func(w *world) { refusals(w, 60, mail.ReasonTenantNotAuthorized, "") }, func(w *world) { refusals(w, 10, mail.ReasonTenantNotAuthorized, "") }},
	{SecondProof, 1, func(w *world) { refusals(w, 60, mail.ReasonSecondProofMissing, "") }, func(w *world) { refusals(w, 10, mail.ReasonSecondProofMissing, "") }},
	{UnknownHybrid, 1, func(w *world) { refusals(w, 60, mail.ReasonHybridUnknown, "") }, func(w *world) { refusals(w, 60, mail.ReasonForwardedMail, "") }},
	{Contradicted, 1, func(w *world) { refusals(w, 60, mail.ReasonOriginContradicted, "") }, func(w *world) { refusals(w, 60, mail.ReasonLookupFailed, "") }},
	{Replay, 14, func(w *world) { replay(w, 40, 0) }, func(w *world) { replay(w, 20, 2) }},
	{Spread, 14, func(w *world) { sameText(w, 5, 4) }, func(w *world) { sameText(w, 1, 20) }},
	{RefusedContent, 14, func(w *world) { refusedThenSent(w, "beta") }, func(w *world) { refusedThenSent(w, "acme") }},
	{ManySources, 14, func(w *world) { twoSources(w, "acme.example") }, func(w *world) { twoSources(w, "other.example") }},
}

// theft is a message of a stolen credential.
func theft(i int, e *Event) {
	e.Peer = netip.MustParseAddr("203.0.113.77")
	e.Rcpt = []string{stranger(i)}
}

// drip is a mailbox that writes to somebody new every ten minutes, day and night, among
// what its person and all others write.
func drip(w *world) {
	w.to(0).burst(2*144, 5*time.Minute, func(i int, e *Event) {
		if i%2 == 0 {
			e.From, e.Rcpt = "persona@acme.example", []string{stranger(i)}
		}
	})
}

// takeHome is a message of that size from one person to one address.
func takeHome(to string, size int64) func(int, *Event) {
	return func(_ int, e *Event) { e.From, e.Rcpt, e.Size = "personb@acme.example", []string{to}, size }
}

// creepBy lets the mail of a day grow to n in steps too small to be seen from one
// day to the next.
func creepBy(w *world, n int) {
	for day := range 28 {
		today := 120 + (n-120)*day/28
		w.to(8).burst(today, 10*time.Hour/time.Duration(today), nil)
		w.to(0)
	}
}

func answers(w *world, what What, n int) {
	w.to(10).burst(200, time.Second, nil)
	for i := range n {
		w.observe(Event{What: what, Org: "acme", Source: "office", Rcpt: []string{fmt.Sprintf("partner%d@partner.example", i)}})
	}
}

func refusals(w *world, n int, reason mail.Reason, source string) {
	for range n {
		e := Event{What: Refused, Claimed: "acme", From: "ceo@acme.example", Tenant: "00000000-0000-4000-8000-000000000001", Reason: reason, Source: source}
		if source != "" {
			e.Org, e.From = "acme", "someone@elsewhere.example"
		}
		w.observe(e)
		w.now = w.now.Add(time.Second)
	}
}

func replay(w *world, here, elsewhere int) {
	w.to(10).burst(here+elsewhere, time.Minute, func(i int, e *Event) {
		e.Print.Signature = 42
		if i >= here {
			e.Peer = netip.MustParseAddr("203.0.113.7")
		}
	})
}

// sameText lets so many organisations send the same text, so often each.
func sameText(w *world, orgs, messages int) {
	w.to(10).burst(orgs*messages, time.Second, func(i int, e *Event) {
		e.Org = fmt.Sprint("org", i%orgs)
		e.Print.Text = 0xfeedfacecafe ^ uint64(i%2)
	})
}

func refusedThenSent(w *world, claimed string) {
	for range 5 {
		e := Event{What: Refused, Claimed: claimed, From: "ceo@" + claimed + ".example", Reason: mail.ReasonTenantNotAuthorized, Tenant: "t"}
		e.Print.Text = 0xfeedfacecafe
		w.observe(e)
	}
	w.to(10).burst(5, time.Second, func(_ int, e *Event) { e.Print.Text = 0xfeedfacecafe })
}

func twoSources(w *world, second string) {
	w.to(10).burst(120, time.Second, func(i int, e *Event) {
		e.From = "admin_support" + random(i) + "@acme.example"
		if i%2 == 1 {
			e.Source, e.From = "shop", "admin_support"+random(i)+"@"+second
		}
		e.Rcpt = []string{stranger(i)}
		e.Peer = netip.MustParseAddr("203.0.113.7")
	})
}

func TestEachSignalSpeaksAndKeepsQuiet(t *testing.T) {
	var seen []Kind
	for _, c := range cases {
		seen = append(seen, c.kind)
		t.Run(string(c.kind), func(t *testing.T) {
			w := newWorld(t).days(c.days)
			w.found = nil
			c.speak(w)
			f := w.has(c.kind)
			if f == nil {
				t.Fatalf("is silent; found %v", kindsOf(w.found))
			}
			if f.Sentence == "" || len(f.Evidence) == 0 || f.Score <= 0 || f.Score > 1 || f.ID == "" || f.Scope.Org == "" || f.Last.Before(f.First) || f.Propose.Scope.Org != f.Scope.Org {
				t.Errorf("%+v", f)
			}
			w = newWorld(t).days(c.days)
			w.found = nil
			c.quiet(w)
			if f := w.has(c.kind); f != nil && f.IsAlarm() {
				t.Errorf("speaks where it should not: %s", f.Sentence)
			}
			if f := w.has(c.kind); f != nil && signals[c.kind].group != outside {
				t.Errorf("speaks where it should not: %s", f.Sentence)
			}
		})
	}
	for k := range signals {
		if !slices.Contains(seen, k) {
			t.Errorf("%s has no case", k)
		}
	}
}

func kindsOf(fs []Finding) (kinds []Kind) {
	for _, f := range fs {
		if !slices.Contains(kinds, f.Kind) {
			kinds = append(kinds, f.Kind)
		}
	}
	return kinds
}

func TestSentencesAreThoseThatPeopleRead(t *testing.T) {
	var b strings.Builder
	for _, c := range cases {
		w := newWorld(t).days(c.days)
		w.found = nil
		c.speak(w)
		if f := w.has(c.kind); f != nil {
			fmt.Fprintf(&b, "%s\t%.2f\t%s\n\t%s\n", f.Kind, f.Score, f.Propose.Step, f.Sentence)
		}
	}
	golden := filepath.Join("testdata", "sentences.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("go test ./watch/detect -run Sentences -update, if this is meant:\n%s", diff)
	}
}

func TestAFindingEndsOnceAfterAQuietTime(t *testing.T) {
	w := newWorld(t).days(14).to(10)
	w.burst(700, time.Second, nil)
	id := w.has(Ramp).ID
	w.found = w.d.Tick(w.now.Add(7 * time.Hour))
	if len(w.found) == 0 || !w.found[0].Ended || !slices.ContainsFunc(w.found, func(f Finding) bool { return f.ID == id }) {
		t.Fatalf("%+v", w.found)
	}
	if again := w.d.Tick(w.now.Add(8 * time.Hour)); len(again) != 0 || len(w.d.Open()) != 0 {
		t.Errorf("ended again: %+v", again)
	}
}

func TestAHoldAtALeaseIsNoNewMessage(t *testing.T) {
	w := newWorld(t).days(14).to(10)
	w.found = nil
	for range 2000 {
		w.observe(Event{What: Sent, Org: "acme", Source: "office", Reason: "HELD"})
	}
	if len(w.found) != 0 {
		t.Errorf("%+v", w.found)
	}
}

func TestAnOutlierHardlyTeaches(t *testing.T) {
	w := newWorld(t).days(14).to(10)
	w.burst(3000, 500*time.Millisecond, nil)
	w.to(0).days(3).to(10)
	w.found = nil
	w.burst(700, time.Second, nil)
	if w.has(Ramp) == nil {
		t.Error("one burst was enough to make the next one usual")
	}
}

func TestLargeMessagesInAQuietHourAreAnAlarmAndSmallOnesANote(t *testing.T) {
	for size, alarms := range map[int64]bool{4_000_000: true, 4_000: false} {
		w := newWorld(t).days(14).to(2)
		w.found = nil
		w.burst(45, time.Minute, func(_ int, e *Event) { e.Rcpt, e.Size = []string{"myself@gmail.com"}, size })
		if f := w.has(Hours); f == nil || f.IsAlarm() != alarms {
			t.Errorf("%d octets each: %+v", size, f)
		}
	}
}

func TestStrangersAreNotHiddenByManyUsualRecipients(t *testing.T) {
	w := newWorld(t).days(14).to(10)
	w.found = nil
	w.burst(600, 5*time.Second, func(i int, e *Event) {
		if i%4 == 0 {
			e.Rcpt = []string{stranger(i)}
		}
	})
	if f := w.has(FreeMail); f == nil || !f.IsAlarm() || f.Propose.Step > Throttle {
		t.Errorf("%+v", f)
	}
}

func TestAWeeklyNewsletterBecomesUsual(t *testing.T) {
	w := newWorld(t)
	letter := func() {
		w.to(10).burst(1500, time.Second, func(i int, e *Event) { e.Rcpt = []string{fmt.Sprintf("reader%d@gmail.com", i)} })
		w.to(0).days(6)
	}
	w.days(14)
	for range 3 {
		letter()
	}
	w.found = nil
	for range 4 {
		letter()
	}
	if alarms := w.alarms(); len(alarms) != 0 {
		t.Errorf("%d alarms, the first: %s", len(alarms), alarms[0].Sentence)
	}
}

func TestAForeignTenantThatTriesForWeeksIsNoNews(t *testing.T) {
	w := newWorld(t)
	for day := range 20 {
		if day == 10 {
			w.found = nil
		}
		refusals(w, 80, mail.ReasonTenantNotAuthorized, "")
		w.days(1)
		w.to(0)
	}
	if alarms := w.alarms(); len(alarms) != 0 {
		t.Errorf("%d alarms, the first: %s", len(alarms), alarms[0].Sentence)
	}
}

func TestWhatHappensToOneOrganisationIsNoFindingOfAnother(t *testing.T) {
	w := newWorld(t).days(14).to(10)
	w.burst(400, time.Second, func(i int, e *Event) {
		if i%2 == 0 {
			*e = Event{What: Sent, Org: "beta", Source: "office", From: "admin_support" + random(i) + "@beta.example", Rcpt: []string{stranger(i)}, Peer: netip.MustParseAddr("203.0.113.5")}
		}
	})
	for _, f := range w.found {
		if f.Scope.Org == "acme" && f.IsAlarm() {
			t.Errorf("%s", f.Sentence)
		}
	}
}
