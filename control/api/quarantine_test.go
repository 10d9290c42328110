package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/watch/seen"
)

// fakeOrganisations remembers what it was told.
type fakeOrganisations struct{ known map[org.ID]OrganisationRecord }

func (f *fakeOrganisations) List(context.Context) (list []OrganisationRecord, err error) {
	for _, r := range f.known {
		list = append(list, r)
	}
	return list, nil
}

func (f *fakeOrganisations) Close(_ context.Context, id org.ID, _ bool) (OrganisationRecord, error) {
	r, ok := f.known[id]
	if !ok {
		return r, fmt.Errorf("organisation %q: %w", id, custody.ErrNotFound)
	}
	return r, nil
}

func (f *fakeOrganisations) Reopen(ctx context.Context, id org.ID) error {
	r, err := f.Close(ctx, id, false)
	if err == nil && r.State != OrganisationClosed {
		return fmt.Errorf("%w: %s is not closed", ErrConflict, id)
	}
	r.State = OrganisationReopening
	if err == nil {
		f.known[id] = r
	}
	return err
}

// detain puts a message of an organisation into detention.
func (r *relay) detain(t *testing.T, of org.ID, ev attribution.Evidence) mail.ID {
	t.Helper()
	header, err := mail.ParseHeader([]byte("From: <friend@freemail.test>\r\nSubject: very private\r\n\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	to, err := mail.ParseAddress("bob@example.org")
	if err != nil {
		t.Fatal(err)
	}
	d := custody.Detention{
		ID: mail.NewID(time.Now()), Organisation: of, Source: "server", Reason: mail.ReasonForwardedMail, Evidence: ev,
		Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: to}}}, Header: header, Body: mail.NewBody([]byte("text\r\n")),
	}
	if _, err := r.Queue.Detain(t.Context(), d, time.Now()); err != nil {
		t.Fatal(err)
	}
	return d.ID
}

func TestDetainedMailIsListedAndShownWithoutItsContent(t *testing.T) {
	r := newRelay(t, registry)
	ev := attribution.Evidence{
		Peer: netip.MustParseAddr("192.0.2.1"), TLS: true, Username: "server@acme",
		Header: attribution.HeaderEvidence{
			Resent: true, Hops: []attribution.Hop{{By: "mx.acme.test", From: netip.MustParseAddr("172.16.0.5"), Over: true}},
			TenantID: attribution.Stamp{Count: 2, Value: "x\x1b[31m"}, Secrets: []attribution.Secret{{Name: "x-key", WellFormed: true, Digest: [32]byte{0xab, 0xcd}}},
		},
	}
	first, second := r.detain(t, "acme", ev), r.detain(t, "globex", ev)
	var page DetainedPage
	r.call(t, "GET", "/api/v1/quarantine?org=globex&reason=forwarded_mail", "", &page)
	if len(page.Messages) != 1 || page.Messages[0].ID != second || page.Messages[0].Recipients[0] != "bob@example.org" {
		t.Errorf("globex has %+v", page)
	}
	page = DetainedPage{}
	r.call(t, "GET", "/api/v1/quarantine?limit=1", "", &page)
	if len(page.Messages) != 1 || page.NextPageToken == "" {
		t.Fatalf("the first page is %+v", page)
	}
	token := page.NextPageToken
	page = DetainedPage{}
	r.call(t, "GET", "/api/v1/quarantine?page_token="+token, "", &page)
	if len(page.Messages) != 1 || page.NextPageToken != "" {
		t.Errorf("the second page is %+v", page)
	}
	var got DetainedMessage
	r.call(t, "GET", "/api/v1/quarantine/"+string(first), "", &got)
	text, _ := json.Marshal(got)
	for _, hidden := range []string{"very private", "text\\r", "abcd", "171,205", "\x1b"} {
		if strings.Contains(string(text), hidden) {
			t.Errorf("it shows %q: %s", hidden, text)
		}
	}
	told := strings.Join(got.Evidence, "\n")
	for _, want := range []string{"192.0.2.1 over TLS", "authenticated as server@acme", "Resent-*", "mx.acme.test\" had it from 172.16.0.5", "2 times, so it counts for nothing", "secret header x-key"} {
		if !strings.Contains(told, want) {
			t.Errorf("the evidence does not tell %q:\n%s", want, told)
		}
	}
	if !slices.Equal(got.Header, []string{"From", "Subject"}) || got.Release.Done || got.Release.Reason != mail.ReasonForwardedMail || !strings.Contains(got.Release.Detail, "it was forwarded") {
		t.Errorf("it is %+v", got)
	}
}

func TestDetainedMailIsJudgedOneByOne(t *testing.T) {
	r := newRelay(t, registry)
	first, second := r.detain(t, "acme", attribution.Evidence{}), r.detain(t, "acme", attribution.Evidence{})
	judge := func(verb Verb, s DetainedSelection) (told Judgement) {
		t.Helper()
		body, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if code := r.call(t, "POST", "/api/v1/quarantine/"+string(verb), string(body), &told); code != 200 {
			t.Fatalf("%s %s answers %d", verb, body, code)
		}
		return told
	}
	if told := judge(Release, DetainedSelection{Org: "acme"}); told.Done != 0 || told.Stay != 2 || len(told.Messages) != 2 {
		t.Errorf("released: %+v", told)
	}
	if told := judge(Drop, DetainedSelection{All: true, DryRun: true}); told.Done != 2 || !told.DryRun {
		t.Errorf("rehearsed: %+v", told)
	}
	if told := judge(Drop, DetainedSelection{IDs: []mail.ID{first, first}}); told.Done != 1 {
		t.Errorf("dropped: %+v", told)
	}
	if p := r.refused(t, "POST", "/api/v1/quarantine/drop", fmt.Sprintf(`{"ids":[%q,%q]}`, second, first)); p.Code != CodeNotFound || r.Queue.DetainedUse("").Messages != 1 {
		t.Errorf("one that is gone beside one that is there: %+v, %+v", p, r.Queue.DetainedUse(""))
	}
	if told := judge(Drop, DetainedSelection{Reason: "FORWARDED_MAIL"}); told.Done != 1 {
		t.Errorf("dropped: %+v", told)
	}
	if told := judge(Drop, DetainedSelection{All: true}); told.Done != 0 || told.Messages == nil {
		t.Errorf("dropped: %+v", told)
	}
}

func TestTenantsSeenAreListedWithWhatTheyAreNow(t *testing.T) {
	r := newRelay(t, registry+fmt.Sprintf(tenantSource, "2099-01-01"))
	originator, err := mail.ParseDomain("acme.test")
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"11111111-1111-4111-8111-111111111111", "22222222-1111-4111-8111-111111111111", "22222222-1111-4111-8111-111111111111"} {
		r.Seen.Note(seen.Sighting{Time: start, Tenant: tenant, Originator: originator, Reason: mail.ReasonTenantNotAuthorized, Leak: &seen.Leak{Organisation: "acme", Digest: "abcd"}})
	}
	var page SeenPage
	r.call(t, "GET", "/api/v1/seen?limit=1", "", &page)
	if len(page.Tenants) != 1 || page.Total != 2 || page.Tenants[0].Messages != 2 || page.Tenants[0].Source != "" {
		t.Errorf("the list is %+v", page)
	}
	page = SeenPage{}
	r.call(t, "GET", "/api/v1/seen?tenant=11111111-1111-4111-8111-111111111111", "", &page)
	if len(page.Tenants) != 1 || page.Tenants[0].Source != "acme/acme-m365" || len(page.Tenants[0].Leaks)+len(page.Tenants[0].Replace) != 0 {
		t.Errorf("the one that is a source is %+v", page)
	}
}

func TestOrganisationsAreListedClosedAndReopened(t *testing.T) {
	r := newRelay(t, registry)
	var list OrganisationList
	r.call(t, "GET", "/api/v1/organisations", "", &list)
	if len(list.Organisations) != 1 || list.Organisations[0].State != OrganisationClosed {
		t.Errorf("the list is %+v", list)
	}
	var got OrganisationRecord
	r.call(t, "POST", "/api/v1/organisations/acme/reopen", `{"dry_run":true}`, &got)
	if got.State != OrganisationClosed {
		t.Errorf("a dry run made it %+v", got)
	}
	r.call(t, "POST", "/api/v1/organisations/acme/reopen", "{}", &got)
	if got.State != OrganisationReopening {
		t.Errorf("reopened it is %+v", got)
	}
	if p := r.refused(t, "POST", "/api/v1/organisations/acme/reopen", "{}"); p.Code != CodeConflict {
		t.Errorf("reopened twice: %+v", p)
	}
}

func TestTheStoryOfADetentionSaysThatNothingWasProven(t *testing.T) {
	held := ledger.Fact{
		Time: start, ID: "x", Event: ledger.Held, Org: "acme", Source: "server", Identity: ledger.Unproven, Reason: mail.ReasonForwardedMail,
		From: "friend@freemail.test", Rcpt: []string{"bob@example.org"}, Peer: netip.MustParseAddr("192.0.2.1"), TLS: "TLS 1.3",
	}
	then := func(events ...ledger.Event) []ledger.Fact {
		facts := []ledger.Fact{held}
		for _, e := range events {
			facts = append(facts, ledger.Fact{Time: start, ID: "x", Event: e, Org: "acme", Identity: ledger.Proven, Rcpt: held.Rcpt})
		}
		return facts
	}
	for want, facts := range map[string][]ledger.Fact{
		"Recipients now: 1 held.":      then(),
		"Recipients now: 1 dropped.":   then(ledger.Dropped),
		"Recipients now: 1 waiting.":   then(ledger.Released, ledger.Accepted),
		"Recipients now: 1 delivered.": then(ledger.Released, ledger.Accepted, ledger.Delivered),
	} {
		story := Story(facts)
		if got := story[len(story)-1]; got != want {
			t.Errorf("it ends with %q, want %q", got, want)
		}
		if !strings.Contains(story[0], "Detained from 192.0.2.1 over TLS 1.3 (FORWARDED_MAIL)") || !strings.Contains(story[0], "neither signed nor sent") {
			t.Errorf("it begins with %q", story[0])
		}
	}
}
