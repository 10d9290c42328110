package detect

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// monday is when the worlds of the tests begin: a Monday, midnight.
var monday = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// world feeds a Detector with days of an organisation's ordinary mail, and collects
// what it finds.
type world struct {
	t     *testing.T
	d     *Detector
	now   time.Time
	n     int
	found []Finding
	// each, if there is one, is called before every event.
	each func()
}

func newWorld(t *testing.T) *world {
	return &world{t: t, d: New(Options{}), now: monday}
}

func (w *world) observe(e Event) {
	if w.each != nil {
		w.each()
	}
	e.Time = w.now
	e.Count = max(e.Count, 1)
	w.found = append(w.found, w.d.Observe(e)...)
}

// usual is an ordinary message of acme's office.
func (w *world) usual() Event {
	w.n++
	return Event{
		What: Sent, Org: "acme", Source: "office", Peer: netip.MustParseAddr("192.0.2.10"), Origin: "hosted",
		From: fmt.Sprintf("person%c@acme.example", 'a'+w.n%20), MailFrom: fmt.Sprintf("person%c@acme.example", 'a'+w.n%20),
		Rcpt:  []string{fmt.Sprintf("partner%d@partner%d.example", w.n%50, w.n%7)},
		Print: ledger.Print{Text: sumOf(fmt.Sprint("text ", w.n)), IDHost: "mail.acme.example"},
	}
}

// days lets so many pass: with mail by day and none at night and at week-ends.
func (w *world) days(n int) *world {
	for range n {
		for hour := range 24 {
			messages := 0
			if hour >= 8 && hour < 18 && w.now.Weekday() != time.Saturday && w.now.Weekday() != time.Sunday {
				messages = 12
			}
			start := w.now
			for i := range messages {
				w.now = start.Add(time.Duration(i) * 5 * time.Minute)
				w.observe(w.usual())
			}
			w.now = start.Add(time.Hour)
		}
	}
	return w
}

// burst sends n messages, gap apart, each changed from the usual one.
func (w *world) burst(n int, gap time.Duration, change func(i int, e *Event)) {
	for i := range n {
		e := w.usual()
		if change != nil {
			change(i, &e)
		}
		w.observe(e)
		w.now = w.now.Add(gap)
	}
}

// to lets time pass without mail until that hour of the day.
func (w *world) to(hour int) *world {
	for w.now.Hour() != hour {
		w.now = w.now.Add(time.Hour)
	}
	return w
}

// strongest is the highest step that was proposed since the world began.
func (w *world) strongest() (s Step) {
	for _, f := range w.found {
		s = max(s, f.Propose.Step)
	}
	return s
}

func (w *world) alarms() (alarms []Finding) {
	for _, f := range w.found {
		if f.IsAlarm() && !f.Ended {
			alarms = append(alarms, f)
		}
	}
	return alarms
}

// has is the last finding of a kind; nil if there was none.
func (w *world) has(k Kind) *Finding {
	for i := len(w.found) - 1; i >= 0; i-- {
		if w.found[i].Kind == k && !w.found[i].Ended {
			return &w.found[i]
		}
	}
	return nil
}

// random is six letters that follow from i.
func random(i int) string {
	s := sumOf(fmt.Sprint("letters ", i))
	var b strings.Builder
	for range 6 {
		b.WriteByte('a' + byte(s%26))
		s /= 26
	}
	return b.String()
}

func stranger(i int) string { return fmt.Sprintf("%s%d@gmail.com", random(i), i) }

func TestOrdinaryMailIsNoFinding(t *testing.T) {
	w := newWorld(t).days(40)
	if alarms := w.alarms(); len(alarms) != 0 {
		t.Errorf("%d alarms, the first: %s", len(alarms), alarms[0].Sentence)
	}
}

func TestAMisconfiguredSourceThatLetsTheCampaignInIsSuspendedAfterDozens(t *testing.T) {
	w := newWorld(t).days(14).to(10)
	w.burst(200, time.Second, func(i int, e *Event) {
		e.From = "admin_support" + random(i) + "@acme.example"
		e.Rcpt = []string{stranger(i)}
		e.ConnectingIP = "203.0.113.9"
	})
	f := w.has(Family)
	if f == nil || w.strongest() != SuspendSource {
		t.Fatalf("%v, strongest %v", f, w.strongest())
	}
	for _, f := range w.found {
		if f.Propose.Step == SuspendSource {
			if f.Messages > 60 || f.Propose.Scope != (Scope{Org: "acme", Source: "office"}) {
				t.Errorf("after %d messages: %+v", f.Messages, f.Propose)
			}
			break
		}
	}
	if !strings.Contains(strings.Join(f.Shares, " "), "family:admin_support") {
		t.Errorf("shares %q", f.Shares)
	}
	t.Log(f.Sentence)
}

func TestAStolenCredentialIsAnAlarmWithinMinutes(t *testing.T) {
	w := newWorld(t).days(14).to(10)
	start := w.now
	w.burst(400, 500*time.Millisecond, func(i int, e *Event) {
		e.From, e.MailFrom = "persona@acme.example", "persona@acme.example"
		e.Peer = netip.MustParseAddr("203.0.113.77")
		e.Rcpt = []string{stranger(i), stranger(i + 10_000)}
	})
	alarms := w.alarms()
	if len(alarms) == 0 || alarms[0].Last.Sub(start) > 2*time.Minute || w.strongest() < Hold {
		t.Fatalf("%d alarms, strongest %v: %+v", len(alarms), w.strongest(), w.found)
	}
	t.Log(alarms[len(alarms)-1].Sentence)
}

func TestNothingThatHappensToHonestPeopleIsMoreThanThrottled(t *testing.T) {
	for name, stress := range map[string]func(w *world){
		"a newsletter": func(w *world) {
			w.burst(3000, 500*time.Millisecond, func(i int, e *Event) {
				e.From, e.MailFrom = "news@acme.example", "bounce@news.acme.example"
				e.Rcpt = []string{stranger(i)}
				e.Print.Text = 0xabcdef
			})
		},
		"invoices at the end of the month": func(w *world) {
			w.burst(2000, time.Second, func(i int, e *Event) {
				e.From = "invoices@acme.example"
				e.Rcpt = []string{fmt.Sprintf("accounts@customer%d.example", i)}
			})
		},
		"a new office": func(w *world) {
			w.burst(300, 30*time.Second, func(i int, e *Event) {
				e.From = fmt.Sprintf("%s.%s@acme.example", []string{"ines", "marco", "olga", "peter", "yuki", "zoe"}[i%6], []string{"berg", "costa", "ito", "novak", "silva"}[i/6%5])
				e.Peer = netip.MustParseAddr("198.51.100.4")
				e.Rcpt = []string{fmt.Sprintf("someone%d@elsewhere%d.example", i, i%20)}
			})
		},
		"a migration": func(w *world) {
			w.burst(600, 10*time.Second, func(_ int, e *Event) {
				e.ConnectingIP, e.Origin = "198.51.100.4", "hybrid"
				e.Print.IDHost = "new.acme.example"
			})
		},
		"holidays, then all at once": func(w *world) {
			w.now = w.now.AddDate(0, 0, 35)
			w.burst(400, 10*time.Second, nil)
		},
		"a mail merge gone wrong": func(w *world) {
			w.burst(5000, 100*time.Millisecond, func(i int, e *Event) {
				e.From = "office@acme.example"
				e.Rcpt = []string{fmt.Sprintf("member%d@club.example", i%300)}
				e.Print.Text = 0x1234567
			})
			for i := range 200 {
				w.observe(Event{What: Bounced, Org: "acme", Source: "office", Rcpt: []string{fmt.Sprintf("member%d@club.example", i)}})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).days(14).to(10)
			stress(w)
			for _, f := range w.found {
				if f.Propose.Step > Throttle {
					t.Errorf("step %v: %s", f.Propose.Step, f.Sentence)
				}
			}
			for _, f := range w.alarms() {
				t.Logf("%.2f %s", f.Score, f.Sentence)
			}
		})
	}
}

func TestForeignTenantsInOneNameAreOneFinding(t *testing.T) {
	w := newWorld(t).days(1)
	for i := range 300 {
		w.observe(Event{What: Refused, Claimed: "acme", From: "admin_support" + random(i) + "@acme.example", Rcpt: []string{stranger(i)},
			Tenant: fmt.Sprintf("00000000-0000-4000-8000-%012d", i%30), Reason: mail.ReasonTenantNotAuthorized})
		w.now = w.now.Add(time.Second)
	}
	ids := map[string]bool{}
	for _, f := range w.found {
		ids[f.ID] = true
		if f.Left != 0 || f.Propose.Step != Log {
			t.Errorf("%+v", f)
		}
	}
	if len(ids) != 1 || len(w.alarms()) == 0 || len(w.found) > 12 {
		t.Fatalf("%d findings, %d told", len(ids), len(w.found))
	}
	last := w.found[len(w.found)-1]
	if !strings.HasPrefix(last.Sentence, "Domain acme.example of acme: 30 foreign tenants tried to send in its name") {
		t.Error(last.Sentence)
	}
}
