package metrics

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scrape answers %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestFactsAreCountedByTheirWords(t *testing.T) {
	m := New("v1")
	for _, f := range []ledger.Fact{
		{Event: ledger.Accepted, Org: "acme"},
		{Event: ledger.Refused, Reason: mail.ReasonTenantNotAuthorized},
		{Event: ledger.Refused, Reason: mail.ReasonTenantNotAuthorized, Count: 41},
		{Event: ledger.Delivered, Rcpt: []string{"a@b.test", "c@b.test"}},
		{Event: ledger.Deferred, Rcpt: []string{"d@b.test"}},
		{Event: ledger.Started},
	} {
		m.Fact(f)
	}
	m.Signed(2 * time.Millisecond)
	m.Kept(time.Millisecond)
	m.Intake(time.Millisecond)
	m.Attempted(time.Second, "site.test", "acme")
	m.Watch(Gauges{Faults: func() uint64 { return 1 }})
	m.Reloaded(nil)
	m.Reloaded(errors.New("bad file"))
	ended := m.Connected(Submission)
	m.Connected(Submission)
	ended()

	got := scrape(t, m)
	for _, want := range []string{
		`anechoic_build_info{version="v1"} 1`,
		`anechoic_messages_accepted_total{org="acme"} 1`,
		`anechoic_refused_total{reason="TENANT_NOT_AUTHORIZED"} 42`,
		`anechoic_refused_total{reason="DISK_FULL"} 0`,
		`anechoic_recipients_total{event="delivered"} 2`,
		`anechoic_recipients_total{event="deferred"} 1`,
		`anechoic_recipients_total{event="bounced"} 0`,
		`anechoic_facts_total{event="started"} 1`,
		`anechoic_unproven_signed_total 0`,
		`anechoic_messages_signed_total 1`,
		`anechoic_signing_seconds_count 1`,
		`anechoic_custody_seconds_count 1`,
		`anechoic_intake_seconds_count 1`,
		`anechoic_attempt_seconds_count 1`,
		`anechoic_reloads_total{result="failed"} 1`,
		`anechoic_reloads_total{result="ok"} 1`,
		`anechoic_faults_total 1`,
		`anechoic_connections_total{listener="submission"} 2`,
		`anechoic_connections_open{listener="submission"} 1`,
		`go_goroutines`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the scrape lacks %s", want)
		}
	}
}

func TestLabelsAreBoundedWhateverIsSent(t *testing.T) {
	m := New("v1")
	for i := range 10 * MaxOrganisations {
		m.Accepted(fmt.Sprintf("org-%d", i))
		m.Refused(mail.Reason(fmt.Sprintf("MADE_UP_%d", i)))
		m.Fact(ledger.Fact{Event: ledger.Event(fmt.Sprintf("event-%d", i))})
	}
	got := scrape(t, m)
	if n := strings.Count(got, "\nanechoic_messages_accepted_total{"); n != MaxOrganisations+1 {
		t.Errorf("there are %d series of accepted messages, want %d and %q", n, MaxOrganisations, Other)
	}
	if n := strings.Count(got, "\nanechoic_refused_total{"); n != len(mail.Reasons())+1 {
		t.Errorf("there are %d series of refusals, want one a reason and %q", n, Other)
	}
	if !strings.Contains(got, `anechoic_facts_total{event="other"}`) || strings.Contains(got, "event-7") {
		t.Error("an unknown event got a series of its own")
	}
}

func TestGaugesAreAskedAtTheScrape(t *testing.T) {
	m := New("v1")
	depth := custody.Depth{Messages: 3, Queued: 4, Leased: 1, Held: 2}
	m.Watch(Gauges{
		Queue:      func() custody.Depth { return depth },
		Generation: func() uint64 { return 7 },
		Findings:   func() int { return 1 },
		Ready:      func() bool { return true },
	})
	got := scrape(t, m)
	for _, want := range []string{
		"anechoic_queue_messages 3", `anechoic_queue_recipients{state="queued"} 4`, `anechoic_queue_recipients{state="held"} 2`,
		"anechoic_queue_oldest_age_seconds 0", "anechoic_directory_generation 7", "anechoic_findings 1", "anechoic_ready 1",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the scrape lacks %s", want)
		}
	}
}

func TestWhatIsNotDueHasNoAge(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		due  time.Time
		want time.Duration
	}{{time.Time{}, 0}, {now.Add(time.Hour), 0}, {now.Add(-time.Minute), time.Minute}} {
		if got := Age(c.due, now); got != c.want {
			t.Errorf("due %v: age %v, want %v", c.due, got, c.want)
		}
	}
}
