package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"anechoic/control/metrics"
	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/org/document"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/relay/inbound/echo"
	"anechoic/relay/quarantine"
	"anechoic/relay/signing"
	"anechoic/watch/seen"
)

// start is when everything in these tests happens.
var start = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

const registry = `
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
  [[organisation.domain]]
  name = "acme.test"
  dkim = [ { selector = "an1", algorithm = "rsa-2048" }, { selector = "an1e", algorithm = "ed25519" } ]
  [[organisation.source]]
  id = "acme-billing"
  kind = "credential"
  username = "billing@acme"
  password = { argon2id = "$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE" }
  from = ["*@acme.test"]
`

// tenantSource is a source that is believed on a single proof until a day.
const tenantSource = `
  [[organisation.source]]
  id = "acme-m365"
  kind = "microsoft365"
  tenant_ids = ["11111111-1111-4111-8111-111111111111"]
  originator_orgs = ["acme.test"]
  single_proof_until = %s
`

// fakeKeys publishes every key but those of one selector.
type fakeKeys struct{ unpublished string }

func (k fakeKeys) List(ctx context.Context, dir *org.Directory, now time.Time) (list []signing.KeyInfo) {
	for d := range dir.Domains() {
		list = append(list, k.ListDomain(ctx, d, now)...)
	}
	return list
}

func (k fakeKeys) ListDomain(_ context.Context, d *org.Domain, _ time.Time) (list []signing.KeyInfo) {
	for _, key := range d.Keys {
		ref := signing.KeyRef{Organisation: d.Organisation, Domain: d.Name, Selector: key.Selector, Algorithm: key.Algorithm}
		info := signing.KeyInfo{
			Organisation: string(ref.Organisation), Domain: ref.Domain.String(), Selector: ref.Selector, Algorithm: string(ref.Algorithm),
			RecordName: ref.RecordName(), RecordValue: "v=DKIM1; p=AAAA", Published: ref.Selector != k.unpublished,
		}
		if !info.Published {
			info.Detail = "DNS has no such record"
		}
		list = append(list, info)
	}
	return list
}

// relay is a Server over an engine in memory.
type relay struct {
	*Server
	engine *memory.Engine
	reload error
}

func newRelay(t testing.TB, text string) *relay {
	t.Helper()
	reg, problems := org.ParseRegistry("registry.toml", []byte(text))
	dir, more, findings := org.Build(reg, org.Providers{}, nil, 7, time.Now())
	if len(problems)+len(more) > 0 {
		t.Fatalf("the test's registry: %v %v", problems, more)
	}
	engine := memory.New()
	queue, err := custody.OpenQueue(t.Context(), engine, custody.Options{
		SealKey: bytes.Repeat([]byte{1}, 32), RetryAfter: []time.Duration{time.Minute}, ExpireAfter: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{engine: engine}
	echoes := new(echo.Table)
	r.Server = &Server{
		Queue: queue, Delivery: &delivery.Dispatcher{Queue: queue}, Traffic: metrics.New("v1"), Ledger: engine, Keys: fakeKeys{unpublished: "an1e"}, Log: slog.New(slog.DiscardHandler),
		Directory: func() (*org.Directory, []org.Finding) { return dir, findings },
		Node: func() Node {
			return Node{Version: "v1", PID: 42, Started: start, Hostname: "relay.test", Files: []string{"relay.toml"}, Listeners: []Listener{{"smtp", "127.0.0.1:2525"}}}
		},
		Reload:   func(context.Context) error { return r.reload },
		Standing: func(context.Context, *org.Domain) (string, string) { return org.Unverified.String(), "" },
		Release: func(ctx context.Context, id mail.ID, by string, dryRun bool) (*mail.Refusal, error) {
			if _, _, err := queue.LoadDetained(ctx, id); err != nil {
				return nil, err
			}
			return mail.ForwardedMail.Because("it was forwarded"), nil
		},
		Approvals: quarantine.NewApprovals(engine, 3),
		Digest: func(_ context.Context, w DigestWish) (DigestSent, error) {
			return DigestSent{Org: w.Org, DryRun: w.DryRun}, quarantine.ErrNothingNew
		},
		Echoes: echoes, ForgetEcho: func(_ context.Context, d mail.Domain, _ string) (bool, error) { return echoes.Forget(d), nil },
		Seen: new(seen.Table), Organisations: &fakeOrganisations{known: map[org.ID]OrganisationRecord{"acme": {ID: "acme", State: OrganisationClosed}}},
	}
	return r
}

// keep puts a message of an organisation into custody.
func (r *relay) keep(t *testing.T, of org.ID, rcpt ...string) mail.ID {
	t.Helper()
	id := mail.NewID(time.Now())
	warrant, err := custody.NewNotice(mail.NewID(start), of)
	if err != nil {
		t.Fatal(err)
	}
	header, err := mail.ParseHeader([]byte("From: <postmaster@relay.test>\r\nSubject: returned\r\n\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	s := custody.Submission{ID: id, Warrant: warrant, Header: header, Body: mail.NewBody([]byte("text\r\n"))}
	for _, text := range rcpt {
		a, err := mail.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		s.Envelope.Recipients = append(s.Envelope.Recipients, mail.Recipient{Address: a})
	}
	if _, err := r.Queue.Keep(t.Context(), s, time.Now()); err != nil {
		t.Fatal(err)
	}
	return id
}

func (r *relay) record(t *testing.T, facts ...ledger.Fact) {
	t.Helper()
	if err := r.engine.Commit(t.Context(), &custody.Batch{Facts: facts}); err != nil {
		t.Fatal(err)
	}
}

// call makes a request and reads the answer.
func (r *relay) call(t *testing.T, method, path, body string, into any) int {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s %s answers %q: %v", method, path, w.Body, err)
		}
	}
	return w.Code
}

// refused makes a request that must fail, and gives the problem.
func (r *relay) refused(t *testing.T, method, path, body string) Problem {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s %s answers %d %s %q: no problem (%v)", method, path, w.Code, w.Header().Get("Content-Type"), w.Body, err)
	}
	if p.Status != w.Code || p.Code == "" || p.Detail == "" || p.Fix == "" || p.Title == "" {
		t.Errorf("%s %s: the problem is not whole: %+v", method, path, p)
	}
	return p
}

func TestStatusAnswersTheFirstQuestionWithNo(t *testing.T) {
	r := newRelay(t, registry)
	r.keep(t, "acme", "a@b.test", "c@b.test")
	var got Status
	if code := r.call(t, "GET", "/api/v1/status", "", &got); code != 200 {
		t.Fatalf("status answers %d", code)
	}
	if got.Answer != "No" || got.Organisations[0].Answer != "No" {
		t.Errorf("the answer is %q and %q, want No", got.Answer, got.Organisations[0].Answer)
	}
	if got.Version != "v1" || got.PID != 42 || got.Generation != 7 || got.OrganisationsTotal != 1 || got.UptimeSeconds == 0 {
		t.Errorf("the node is told wrongly: %+v", got)
	}
	d := got.Organisations[0].Domains[0]
	if d.Standing != "unverified" || !strings.Contains(d.Detail, `_anechoic.acme.test TXT "v=anechoic1; org=acme"`) {
		t.Errorf("the domain is %q (%s)", d.Standing, d.Detail)
	}
	if !d.Keys[0].Published || d.Keys[1].Published || d.Keys[1].Detail == "" {
		t.Errorf("the keys are %+v", d.Keys)
	}
	if got.Queue.Messages != 1 || got.Queue.Queued != 2 || got.Ledger.Facts != 1 {
		t.Errorf("queue %+v, ledger %+v", got.Queue, got.Ledger)
	}
}

func TestStatusSaysYesWhileASourceHasASingleProof(t *testing.T) {
	soon := time.Now().AddDate(0, 0, 10).Format(time.DateOnly)
	r := newRelay(t, registry+fmt.Sprintf(tenantSource, soon))
	var got Status
	r.call(t, "GET", "/api/v1/status?org=acme", "", &got)
	want := "Yes, because acme: source acme-m365 is believed with one proof: no second proof until " + soon
	if !strings.HasPrefix(got.Answer, want) {
		t.Errorf("the answer is %q, want %q…", got.Answer, want)
	}
	if len(got.Findings) == 0 || got.Findings[0].Source != "acme-m365" {
		t.Errorf("the findings are %v", got.Findings)
	}
}

func TestStatusSaysNoAgainWhenTheSingleProofEnded(t *testing.T) {
	past := time.Now().AddDate(0, 0, -2).Format(time.DateOnly)
	r := newRelay(t, registry+fmt.Sprintf(tenantSource, past))
	var got Status
	r.call(t, "GET", "/api/v1/status", "", &got)
	if got.Answer != "No" || len(got.Findings) == 0 {
		t.Errorf("the answer is %q with findings %v", got.Answer, got.Findings)
	}
}

func TestStatusOfAnUnknownOrganisationIsNotFound(t *testing.T) {
	if p := newRelay(t, registry).refused(t, "GET", "/api/v1/status?org=nobody", ""); p.Code != CodeNotFound {
		t.Errorf("it is %s", p.Code)
	}
}

func TestKeysAreListedAndShownWithTheirZoneLine(t *testing.T) {
	r := newRelay(t, registry)
	var list KeyList
	r.call(t, "GET", "/api/v1/keys?org=acme&domain=acme.test", "", &list)
	if len(list.Keys) != 2 || list.Keys[0].RecordName != "an1._domainkey.acme.test" {
		t.Errorf("the keys are %+v", list.Keys)
	}
	r.call(t, "GET", "/api/v1/keys?org=globex", "", &list)
	if len(list.Keys) != 0 {
		t.Errorf("another organisation has keys %+v", list.Keys)
	}
	var key KeyRecord
	r.call(t, "GET", "/api/v1/keys/acme/acme.test/an1", "", &key)
	if want := `an1._domainkey.acme.test. IN TXT ( "v=DKIM1; p=AAAA" )`; key.ZoneLine != want {
		t.Errorf("the zone line is %s, want %s", key.ZoneLine, want)
	}
	for _, path := range []string{"nobody/acme.test/an1", "acme/acme.test/an9", "acme/other.test/an1"} {
		if p := r.refused(t, "GET", "/api/v1/keys/"+path, ""); p.Code != CodeNotFound {
			t.Errorf("%s is %s", path, p.Code)
		}
	}
	if p := r.refused(t, "GET", "/api/v1/keys/acme/a..b/an1", ""); p.Code != CodeBadRequest {
		t.Errorf("a name that is none is %s", p.Code)
	}
}

func TestReloadTellsWhatIsInForce(t *testing.T) {
	r := newRelay(t, registry)
	var got Reloaded
	if code := r.call(t, "POST", "/api/v1/reload", "", &got); code != 200 || got.Generation != 7 || got.Organisations != 1 {
		t.Errorf("reload answers %d %+v", code, got)
	}
}

func TestReloadOfABadFileListsEveryProblem(t *testing.T) {
	r := newRelay(t, registry)
	faults := []document.Problem{
		{File: "relay.toml", Line: 3, Column: 1, Message: "unknown key", Hint: "take it out"},
		{File: "registry.toml", Line: 9, Column: 5, Where: "organisation[0].id", Message: "no id"},
	}
	r.reload = fmt.Errorf("reload: %w", errors.Join(faults[0], fmt.Errorf("and %w", faults[1])))
	p := r.refused(t, "POST", "/api/v1/reload", "")
	if p.Status != http.StatusUnprocessableEntity || p.Code != CodeInvalid || len(p.Problems) != 2 {
		t.Fatalf("it is %+v", p)
	}
	if got, want := p.Problems[0].String(), "relay.toml:3:1: unknown key (take it out)"; got != want {
		t.Errorf("the first is %q, want %q", got, want)
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   Code
		reason mail.Reason
	}{
		{ErrConflict, 409, CodeConflict, ""},
		{custody.ErrNotFound, 404, CodeNotFound, ""},
		{context.DeadlineExceeded, 504, CodeTimeout, mail.ReasonTimeout},
		{custody.ErrFull, 503, CodeUnavailable, mail.ReasonDiskFull},
		{custody.ErrBroken, 503, CodeUnavailable, mail.ReasonCustodyFailed},
		{io.ErrUnexpectedEOF, 500, CodeInternal, mail.ReasonInternal},
		{badRequest("x", "y"), 400, CodeBadRequest, mail.ReasonSyntax},
	} {
		p := problemOf(fmt.Errorf("reload: %w", c.err))
		if p.Status != c.status || p.Code != c.code || p.Reason != c.reason || p.Fix == "" {
			t.Errorf("%v is %+v, want %d %s %s", c.err, p, c.status, c.code, c.reason)
		}
	}
}

func TestAFaultOfAHandlerIsAProblemAndNotTheEnd(t *testing.T) {
	r := newRelay(t, registry)
	r.Node = func() Node { panic("a bug") }
	if p := r.refused(t, "GET", "/api/v1/status", ""); p.Code != CodeInternal || strings.Contains(p.Detail, "a bug") {
		t.Errorf("it is %+v", p)
	}
}

func TestUnknownPathsAndParametersAreProblems(t *testing.T) {
	r := newRelay(t, registry)
	for _, c := range []struct {
		method, path, body string
		code               Code
	}{
		{"GET", "/", "", CodeNotFound},
		{"GET", "/api/v1/nothing", "", CodeNotFound},
		{"POST", "/api/v1/queue/burn", `{"all":true}`, CodeNotFound},
		{"GET", "/api/v1/queue?colour=red", "", CodeBadRequest},
		{"GET", "/api/v1/queue?org=a&org=b", "", CodeBadRequest},
		{"GET", "/api/v1/queue?%zz", "", CodeBadRequest},
		{"GET", "/api/v1/queue?limit=1001", "", CodeBadRequest},
		{"GET", "/api/v1/queue?limit=-1", "", CodeBadRequest},
		{"GET", "/api/v1/queue?state=gone", "", CodeBadRequest},
		{"GET", "/api/v1/queue?domain=a..b", "", CodeBadRequest},
		{"GET", "/api/v1/queue?page_token=x", "", CodeBadRequest},
		{"GET", "/api/v1/queue/x", "", CodeBadRequest},
		{"GET", "/api/v1/quarantine?state=held", "", CodeBadRequest},
		{"GET", "/api/v1/quarantine?reason=BAD_MOOD", "", CodeBadRequest},
		{"GET", "/api/v1/quarantine?page_token=x", "", CodeBadRequest},
		{"GET", "/api/v1/quarantine?limit=x", "", CodeBadRequest},
		{"GET", "/api/v1/quarantine/x", "", CodeBadRequest},
		{"GET", "/api/v1/quarantine/" + string(mail.NewID(start)), "", CodeNotFound},
		{"POST", "/api/v1/quarantine/sign", `{"all":true}`, CodeNotFound},
		{"POST", "/api/v1/quarantine/release", "", CodeBadRequest},
		{"POST", "/api/v1/quarantine/release", "{}", CodeBadRequest},
		{"POST", "/api/v1/quarantine/release", `{"all":true,"org":"acme"}`, CodeBadRequest},
		{"POST", "/api/v1/quarantine/drop", `{"ids":["agpqvvzcdqaapfqnqyjsd3sfxe"],"all":true}`, CodeBadRequest},
		{"POST", "/api/v1/quarantine/drop", `{"ids":["x"]}`, CodeBadRequest},
		{"POST", "/api/v1/quarantine/drop", fmt.Sprintf(`{"ids":[%q]}`, mail.NewID(start)), CodeNotFound},
		{"GET", "/api/v1/seen?limit=x", "", CodeBadRequest},
		{"GET", "/api/v1/seen?colour=red", "", CodeBadRequest},
		{"GET", "/api/v1/organisations?org=acme", "", CodeBadRequest},
		{"POST", "/api/v1/organisations/acme/sell", "{}", CodeNotFound},
		{"POST", "/api/v1/organisations/nobody/close", "{}", CodeNotFound},
		{"POST", "/api/v1/organisations/nobody/reopen", "{}", CodeNotFound},
		{"GET", "/api/v1/log?event=exploded", "", CodeBadRequest},
		{"GET", "/api/v1/log?reason=BAD_MOOD", "", CodeBadRequest},
		{"GET", "/api/v1/log?since=yesterday", "", CodeBadRequest},
		{"GET", "/api/v1/log?until=1", "", CodeBadRequest},
		{"GET", "/api/v1/log?id=x", "", CodeBadRequest},
		{"GET", "/api/v1/log?follow=perhaps", "", CodeBadRequest},
		{"GET", "/api/v1/messages/x", "", CodeBadRequest},
		{"POST", "/api/v1/queue/drop", "", CodeBadRequest},
		{"POST", "/api/v1/queue/drop", "{}", CodeBadRequest},
		{"POST", "/api/v1/queue/drop", `{"everything":true}`, CodeBadRequest},
		{"POST", "/api/v1/queue/drop", `{"all":true} {"all":true}`, CodeBadRequest},
		{"POST", "/api/v1/queue/drop", `{"all":true,"org":"acme"}`, CodeBadRequest},
		{"POST", "/api/v1/queue/drop", `{"ids":["x"]}`, CodeBadRequest},
		{"POST", "/api/v1/queue/drop", `{"state":"burnt"}`, CodeBadRequest},
		{"POST", "/api/v1/queue/drop", `{"org":"` + strings.Repeat("a", maxRequestBody) + `"}`, CodeBadRequest},
	} {
		if p := r.refused(t, c.method, c.path, c.body); p.Code != c.code {
			t.Errorf("%s %s %.40s is %s, want %s", c.method, c.path, c.body, p.Code, c.code)
		}
	}
}

// FuzzRequest: whatever a request holds, the answer is JSON, and an error is a
// whole problem that is not a fault of ours.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body string }{
		{"GET", "/api/v1/log", "id=a&since=2026-11-22T09:00:00Z&limit=3", ""},
		{"POST", "/api/v1/queue/hold", "", `{"ids":["agpqvvzcdqaapfqnqyjsd3sfxe"],"dry_run":true}`},
		{"GET", "/api/v1/keys/acme/acme.test/an1", "", ""},
		{"GET", "/api/v1/queue", "domain=example.org&state=held&page_token=&limit=1", ""},
		{"POST", "/api/v1/queue/drop", "", `{"domain":"xn--a","state":"queued"}`},
		{"POST", "/api/v1/quarantine/release", "", `{"reason":"FORWARDED_MAIL","dry_run":true}`},
		{"GET", "/api/v1/seen", "org=acme&tenant=x&limit=1", ""},
		{"GET", "/api/v1/echo/mail.partner.test", "", ""},
		{"POST", "/api/v1/echo/partner.test/forget", "", ""},
		{"POST", "/api/v1/organisations/acme/close", "", `{"dry_run":true}`},
		{"POST", "/api/v1/keys/acme/acme.test/add", "", `{"algorithm":"ed25519","selector":"x"}`},
		{"POST", "/api/v1/keys/acme/acme.test/rotate", "", `{"retire_after_seconds":9e18,"dry_run":true}`},
		{"POST", "/api/v1/keys/acme/acme.test/revoke", "", `{"selector":"an1"}`},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body)
	}
	smith := newRelay(f, registry)
	smith.withKeys(f)
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r := newRelay(t, registry)
		r.Locksmith = smith.Locksmith
		q, err := http.NewRequest(method, "http://control/", strings.NewReader(body))
		if err != nil {
			return
		}
		q.URL.Path, q.URL.RawQuery = path, query
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond) // ends a stream that follows
		defer cancel()
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, q.WithContext(ctx))
		if w.Code >= 500 && ctx.Err() == nil {
			t.Errorf("%s %s?%s answers %d: %s", method, path, query, w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") == "application/problem+json" {
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code == "" {
				t.Errorf("the problem is not whole: %s", w.Body)
			}
		}
	})
}
