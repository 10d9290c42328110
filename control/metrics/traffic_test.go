package metrics

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func delivered(site, org string, at time.Time, rcpt ...string) ledger.Fact {
	return ledger.Fact{Time: at, ID: mail.NewID(at.Add(-time.Minute)), Event: ledger.Delivered, Org: org, Site: site, Rcpt: rcpt}
}

func TestTrafficIsCountedBySiteAndOrganisation(t *testing.T) {
	m := New("v1")
	m.Fact(ledger.Fact{Time: noon, Event: ledger.Accepted, Org: "acme"})
	m.Fact(delivered("big.test", "acme", noon, "a@big.test", "b@big.test"))
	m.Fact(ledger.Fact{Time: noon, Event: ledger.Deferred, Org: "acme", Site: "big.test", Rcpt: []string{"c@big.test"}, Reply: "450 later"})
	m.Fact(ledger.Fact{Time: noon, Event: ledger.Deferred, Org: "acme", Site: "big.test", Rcpt: []string{"c@big.test"}, Detail: "not attempted"})
	m.Fact(ledger.Fact{Time: noon, Event: ledger.Bounced, Org: "acme", Site: "big.test", Rcpt: []string{"d@big.test"}, Reply: "550 no"})
	m.Attempted(2*time.Second, "big.test", "acme")
	m.Watch(Gauges{
		Shares: slices.Values([]custody.Share{
			{Organisation: "acme", Via: "hop.test:25", Queued: 3, Held: 2}, {Organisation: "globex", Via: "hop.test:25", Queued: 4, Leased: 1},
		}),
		Site: func(s custody.Share) string { return s.Via },
	})
	got := scrape(t, m)
	for _, want := range []string{
		`anechoic_site_recipients_total{event="delivered",site="big.test"} 2`,
		`anechoic_site_recipients_total{event="deferred",site="big.test"} 1`,
		`anechoic_site_recipients_total{event="bounced",site="big.test"} 1`,
		`anechoic_site_attempt_seconds_count{site="big.test"} 1`,
		`anechoic_site_attempt_seconds_sum{site="big.test"} 2`,
		`anechoic_site_delay_seconds_sum{site="big.test"} 120`,
		`anechoic_site_delay_seconds_count{site="big.test"} 2`,
		`anechoic_queue_recipients_by_site{site="hop.test:25",state="queued"} 7`,
		`anechoic_queue_recipients_by_site{site="hop.test:25",state="leased"} 1`,
		`anechoic_queue_recipients_by_site{site="hop.test:25",state="held"} 2`,
		`anechoic_queue_recipients_by_organisation{org="globex",state="queued"} 4`,
		`anechoic_queue_recipients_by_organisation{org="globex",state="leased"} 1`,
		`anechoic_queue_recipients_by_organisation{org="acme",state="held"} 2`,
		`anechoic_organisation_attempt_seconds_count{org="acme"} 1`,
		`anechoic_organisation_recipients_total{event="delivered",org="acme"} 2`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the scrape lacks %s", want)
		}
	}
	if traffic := m.Traffic(); traffic.Sites[0].LastReply != "550 no" || traffic.All.Accepted != 1 {
		t.Errorf("%+v", traffic)
	}
}

func TestSeriesOfSitesAreBoundedAndTheBusyOnesAreNamed(t *testing.T) {
	m := New("v1")
	for i := range 20 * MaxRanked {
		m.Fact(delivered(fmt.Sprintf("small-%d.test", i), "acme", noon, "a@x.test"))
	}
	for range 100 {
		m.Fact(delivered("late-but-busy.test", "acme", noon, "a@x.test"))
	}
	shares := make([]custody.Share, 3*MaxRanked)
	for i := range shares {
		shares[i] = custody.Share{Organisation: fmt.Sprintf("org-%d", i), Via: fmt.Sprintf("site-%d", i), Queued: 1 + i}
	}
	m.Watch(Gauges{Shares: slices.Values(shares), Site: func(s custody.Share) string { return s.Via }})
	got := scrape(t, m)
	for name, states := range map[string]int{"anechoic_site_attempt_seconds_count": 1, "anechoic_queue_recipients_by_site": 3, "anechoic_queue_recipients_by_organisation": 3} {
		if n := strings.Count(got, "\n"+name+"{"); n != states*(MaxRanked+1) {
			t.Errorf("%s has %d series, want %d for each of %d and %q", name, n, states, MaxRanked, Other)
		}
	}
	if !strings.Contains(got, `site="late-but-busy.test"`) || !strings.Contains(got, `anechoic_queue_recipients_by_site{site="site-149",state="queued"} 150`) || strings.Contains(got, "a@x.test") {
		t.Error("the busy ones are not named, or an address is")
	}
}

// Of more names than there is room for, those with most stay, and nothing is lost: a
// million domains of which no site is known do not take the memory of a million.
func TestWaitsOfVeryManyNamesTakeBoundedRoom(t *testing.T) {
	var w Waits
	w.Add("big", custody.Share{Queued: 1000, Oldest: noon})
	const many = 3 * maxWaits
	for i := range many {
		w.Add(fmt.Sprint("small-", i), custody.Share{Queued: 1, Held: 2, Oldest: noon.Add(-time.Hour)})
		if len(w.named) > maxWaits {
			t.Fatalf("%d names are kept apart", len(w.named))
		}
	}
	w.Add("big", custody.Share{Leased: 5})
	list, others := w.List(1)
	if want := (Waiting{Name: "big", Queued: 1000, Leased: 5, Oldest: noon}); len(list) != 1 || list[0] != want {
		t.Errorf("%+v, want %+v", list, want)
	}
	if want := (Waiting{Name: Other, Queued: many, Held: 2 * many, Oldest: noon.Add(-time.Hour)}); others != want {
		t.Errorf("%+v, want %+v", others, want)
	}
}

// Whatever comes in what order: room is bounded, nothing is counted twice, and no
// counter goes down but to zero.
func TestARankingIsBoundedAndNeverCountsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRanking()
		now, before := noon, map[string]uint64{}
		for i, n := uint64(1), rapid.IntRange(1, 2000).Draw(t, "events"); i < uint64(n); i++ {
			if i%100 == 0 {
				now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "minutes")) * time.Minute)
			}
			name := fmt.Sprint(rapid.IntRange(0, 120).Draw(t, "name"))
			r.of(name, now).Delivered++
			if len(r.named) > MaxRanked || len(r.candidates) > maxCandidates {
				t.Fatalf("%d named, %d candidates", len(r.named), len(r.candidates))
			}
			after, all := map[string]uint64{}, uint64(0)
			for _, one := range r.list() {
				after[one.Name] = one.Delivered
				all += one.Delivered
				if one.Delivered < before[one.Name] {
					t.Fatalf("%s went from %d to %d", one.Name, before[one.Name], one.Delivered)
				}
			}
			if all > i {
				t.Fatalf("%d counted of %d", all, i)
			}
			before = after // what lost its place begins at zero when it comes back
		}
	})
}
