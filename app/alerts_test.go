package app

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/lab/sink"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/watch/alert"
)

// people is where alerts arrive: a mail server, and a web server for webhooks.
type people struct {
	sink    *sink.Sink
	web     *httptest.Server
	mu      sync.Mutex
	headers []string
	posts   []string
	letters []letter
}

// letter is an envelope as it arrived.
type letter struct{ from, to string }

// Answer is sink.Behaviour: it takes everything, and writes down for whom.
func (p *people) Answer(q sink.Question) sink.Answer {
	if q.Stage == sink.Recipient {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.letters = append(p.letters, letter{q.From, q.To})
	}
	return sink.Answer{}
}

func newPeople(t *testing.T) *people {
	t.Helper()
	p := new(people)
	var err error
	p.sink, err = sink.Open(sink.Options{Addr: "127.0.0.1:0", Domain: "people.example", Behaviour: p, Stamp: func(header []byte) (string, time.Time, bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.headers = append(p.headers, string(header))
		return "", time.Time{}, false
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.sink.Close() })
	p.web = httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.posts = append(p.posts, string(body))
	}))
	t.Cleanup(p.web.Close)
	return p
}

func (p *people) got() (mails, posts []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(mails, p.headers...), append(posts, p.posts...)
}

// start starts a relay whose alerts go to these people.
func (p *people) start(t *testing.T) *App {
	t.Helper()
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range map[string]string{
		"relay.toml": fmt.Sprintf("hostname = \"relay.anechoic.test\"\nregistry = \"registry.toml\"\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n[dns]\nservers = [\"127.0.0.1:9\"]\n[delivery]\nsmart_host = %q\n"+
			"[console]\nlisten = \"\"\n[operations]\nlisten = \"\"\n[alerts]\ncontact = \"operator@people.example\"\nloopback_webhooks = true\n", p.sink.Addr().String()),
		"registry.toml": fmt.Sprintf("[[organisation]]\nid = \"acme\"\nsecurity_contact = \"security@people.example\"\n[[organisation.domain]]\nname = \"acme.example\"\n[[organisation.webhook]]\nid = \"siem\"\nurl = %q\nsecret_files = [\"siem.secret\"]\n"+
			"[[organisation]]\nid = \"quiet\"\n[[organisation.domain]]\nname = \"quiet.example\"\n", p.web.URL),
		"siem.secret": "whsec_YSBzZWNyZXQgZm9yIHRlc3RzLCAzMiBvY3RldHMgLi4u\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.web.Certificate())
	a, err := New(Options{ConfigFile: filepath.Join(dir, "relay.toml"), Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = a.Stop(ctx) // the test looked at what matters
	})
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	return a
}

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not within 30 seconds: %s", what)
		case <-tick.C:
		}
	}
}

func TestAnAlertReachesTheContactTheOperatorAndTheWebhook(t *testing.T) {
	p := newPeople(t)
	a := p.start(t)
	for count := 1; count <= 1000; count++ {
		if err := a.alerts.Tell(t.Context(), alert.Alert{Key: "c1", Org: "acme", Kind: "campaign", Severity: alert.Critical, Title: "Mail in the name of acme\r\nBcc: eve@people.example", Text: "See http://evil.example/", Count: count}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "two mails and a request", func() bool { mails, posts := p.got(); return len(mails) >= 2 && len(posts) >= 1 })
	mails, posts := p.got()
	all := strings.Join(mails, "\n")
	for _, want := range []string{"To: security@people.example", "To: operator@people.example", "From: Mail relay <alerts@relay.anechoic.test>", "Auto-Submitted: auto-generated", "Subject: [critical] "} {
		if !strings.Contains(all, want) {
			t.Errorf("no mail has %q:\n%s", want, all)
		}
	}
	if len(mails) != 2 || strings.Contains(all, "\nBcc:") {
		t.Errorf("%d mails:\n%s", len(mails), all)
	}
	if !strings.Contains(posts[0], `"type":"alert.opened.v1"`) {
		t.Error(posts[0])
	}
	client := api.NewClient(a.config.DataDir)
	list, err := client.Incidents(t.Context(), url.Values{"org": {"acme"}, "open": {"true"}})
	if err != nil || len(list.Incidents) != 1 || list.Incidents[0].Count != 1000 || list.Incidents[0].Told != 10 {
		t.Errorf("%v: %+v", err, list)
	}
	if list, err = client.Incidents(t.Context(), url.Values{"org": {"quiet"}}); err != nil || len(list.Incidents) != 0 {
		t.Errorf("another organisation sees it: %v, %+v", err, list)
	}
	tested, err := client.TestAlerts(t.Context(), api.AlertTest{Org: "acme", Webhook: "siem"})
	if err != nil || tested.Request == nil || tested.Request.State != alert.Delivered {
		t.Fatalf("%v: %+v", err, tested)
	}
	again, err := client.ReplayAlert(t.Context(), tested.Request.ID)
	if err != nil || again.State != alert.Pending {
		t.Errorf("%v: %+v", err, again)
	}
	if _, err := client.TestAlerts(t.Context(), api.AlertTest{Org: "acme", Webhook: "none"}); err == nil || !strings.Contains(err.Error(), "no such webhook") {
		t.Errorf("%v", err)
	}
	requests, err := client.AlertRequests(t.Context(), url.Values{"org": {"acme"}, "webhook": {"siem"}})
	if err != nil || len(requests) != 11 {
		t.Errorf("%v: %d requests", err, len(requests))
	}
}

func TestAWeeksSummaryIsSentOnceAndToNobodyWithoutNews(t *testing.T) {
	p := newPeople(t)
	a := p.start(t)
	now := time.Now().UTC()
	end := weekEnd(now)
	eventually(t, "the loop's first look", func() bool { mark, err := a.summaryMark(t.Context(), ""); return err == nil && mark.Equal(end) })
	if err := a.recordAll([]ledger.Fact{{Time: end.AddDate(0, 0, -1), Event: ledger.Refused, ClaimedOrg: "acme", Reason: mail.ReasonTenantNotAuthorized, Tenant: "9f3c", Count: 7}}); err != nil {
		t.Fatal(err)
	}
	if err := a.putSummaryMark(t.Context(), "", end.AddDate(0, 0, -7)); err != nil { // as if the week were not told yet
		t.Fatal(err)
	}
	for range 3 {
		if err := a.summariesDue(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a summary", func() bool { mails, _ := p.got(); return len(mails) > 0 })
	mails, _ := p.got()
	if len(mails) != 1 || !strings.Contains(mails[0], "Subject: Your week: 7 refused") || !strings.Contains(mails[0], "To: security@people.example") {
		t.Errorf("%d mails:\n%s", len(mails), strings.Join(mails, "\n"))
	}
}

func TestAWeekEndsOnMondayMorning(t *testing.T) {
	monday := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	for at, want := range map[time.Time]time.Time{
		monday: monday, monday.Add(-time.Second): monday.AddDate(0, 0, -7), monday.AddDate(0, 0, 6): monday, monday.AddDate(0, 0, 7): monday.AddDate(0, 0, 7),
		monday.Add(-7 * time.Hour): monday.AddDate(0, 0, -7),
	} {
		if got := weekEnd(at); !got.Equal(want) {
			t.Errorf("at %s: %s", at, got)
		}
	}
}
