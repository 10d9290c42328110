package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
)

// hostile is a message whose every part wants to act.
const hostile = "From: \"Boss\x1b]0;x\x07\" <friend@freemail.test>\r\nTo: <bob@example.org>\r\nSubject: very private \x1b[2J\r\nX-Acme-Relay-Key: s3cret\r\n" +
	"X-OriginatorOrg: acme.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"

const hostileBody = "--b\r\nContent-Type: text/plain\r\n\r\nPay now\x1b[31m\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Click <a href=\"https://bad.example/x\">here</a><script>alert(1)</script>\r\n" +
	"--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"a\x07b.exe\"\r\n\r\nMZ\r\n--b--\r\n"

// detainMessage puts a message of given octets into detention.
func (r *relay) detainMessage(t *testing.T, of org.ID, header, body string) mail.ID {
	t.Helper()
	h, err := mail.ParseHeader([]byte(header), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	to, err := mail.ParseAddress("bob@example.org")
	if err != nil {
		t.Fatal(err)
	}
	d := custody.Detention{
		ID: mail.NewID(time.Now()), Organisation: of, Source: "server", Reason: mail.ReasonForwardedMail, Evidence: attribution.Evidence{},
		Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: to}}}, Header: h, Body: mail.NewBody([]byte(body)),
	}
	if _, err := r.Queue.Detain(t.Context(), d, time.Now()); err != nil {
		t.Fatal(err)
	}
	return d.ID
}

func TestContentIsShownAsSafeTextWhereItIsAskedFor(t *testing.T) {
	r := newRelay(t, registry)
	id := r.detainMessage(t, "acme", hostile, hostileBody)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/quarantine/"+string(id)+"?content=true", nil))
	var got DetainedMessage
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Content == nil {
		t.Fatalf("it answers %s, %v", w.Body, err)
	}
	for _, never := range []string{`\u001b`, `\u0007`, "alert(1)", "https://bad.example", "s3cret"} {
		if strings.Contains(w.Body.String(), never) {
			t.Errorf("it shows %q:\n%s", never, w.Body)
		}
	}
	p := got.Content
	if p.Subject != "very private ␛[2J" || got.Subject != p.Subject || len(p.Texts) != 2 || p.Texts[0].Text != "Pay now␛[31m" || p.Texts[1].Text != "Click here [link: hxxps://bad[.]example/x]" || !p.Texts[1].Reduced {
		t.Errorf("the content is %+v", p)
	}
	if len(p.Attachments) != 1 || p.Attachments[0].Name != "a␇b.exe" || p.Attachments[0].Size == 0 {
		t.Errorf("the attachments are %+v", p.Attachments)
	}
	var page DetainedPage
	r.call(t, "GET", "/api/v1/quarantine", "", &page)
	if page.Messages[0].Subject != "" {
		t.Errorf("the list shows the subject unasked: %+v", page)
	}
	r.call(t, "GET", "/api/v1/quarantine?content=true", "", &page)
	if page.Messages[0].Subject != "very private ␛[2J" {
		t.Errorf("asked for, the subject is %q", page.Messages[0].Subject)
	}
}

func TestHeldMailIsSearched(t *testing.T) {
	r := newRelay(t, registry)
	id := r.detainMessage(t, "acme", "From: <a@b.test>\r\nSubject: =?utf-8?q?Rechnung_f=C3=BCr?= May\r\n\r\n", "x\r\n")
	r.detain(t, "globex", attribution.Evidence{})
	for query, want := range map[string]int{
		"":                                 2,
		"text=F%C3%9CR+bob":                1,
		"text=nothing":                     0,
		"recipient=example.org":            2,
		"recipient=bob@example.org":        2,
		"recipient=eve@example.org":        0,
		"sender=%3C%3E":                    2,
		"direction=inbound":                0,
		"source=server&org=acme":           1,
		"id=" + string(id):                 1,
		"since=2099-01-01T00:00:00Z":       0,
		"until=2099-01-01T00:00:00Z":       2,
		"domain=EXAMPLE.org&reason=HELD":   0,
		"domain=example.org&direction=out": -1,
		"since=yesterday":                  -1,
		"text=" + strings.Repeat("x", 300): -1,
		"colour=red":                       -1,
	} {
		path := "/api/v1/quarantine?" + query
		if want < 0 {
			if p := r.refused(t, "GET", path, ""); p.Code != CodeBadRequest {
				t.Errorf("%s: %+v", query, p)
			}
			continue
		}
		var page DetainedPage
		if r.call(t, "GET", path, "", &page); len(page.Messages) != want {
			t.Errorf("%s: %d messages, want %d", query, len(page.Messages), want)
		}
	}
	if p := r.refused(t, "POST", "/api/v1/quarantine/drop", fmt.Sprintf(`{"ids":[%q],"text":"x"}`, id)); p.Code != CodeBadRequest {
		t.Errorf("ids and a filter: %+v", p)
	}
	var told Judgement
	r.call(t, "POST", "/api/v1/quarantine/drop", `{"text":"rechnung"}`, &told)
	if told.Done != 1 || told.Messages[0].ID != id {
		t.Errorf("dropped: %+v", told)
	}
}

func TestACopyLeavesWithAWarningAndAFactAndNoEvidence(t *testing.T) {
	r := newRelay(t, registry)
	id := r.detainMessage(t, "acme", hostile, hostileBody)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/quarantine/"+string(id)+"/copy?by=alice", nil))
	got := w.Body.String()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "message/rfc822" || !strings.HasPrefix(got, "X-Anechoic-Quarantine: HELD") || !strings.HasSuffix(got, "\r\n\r\n"+hostileBody) {
		t.Errorf("%d %v %q", w.Code, w.Header(), got)
	}
	if strings.Contains(got, "X-OriginatorOrg") {
		t.Error("evidence leaves with it")
	}
	var facts []ledger.Fact
	if err := ledger.Read(t.Context(), r.engine, 0, func(f ledger.Fact) bool { facts = append(facts, f); return true }); err != nil {
		t.Fatal(err)
	}
	if last := facts[len(facts)-1]; last.Event != ledger.Exported || last.ID != id || last.Detail != "by alice" {
		t.Errorf("the last fact is %+v", last)
	}
	if p := r.refused(t, "GET", "/api/v1/quarantine/"+string(mail.NewID(start))+"/copy", ""); p.Code != CodeNotFound {
		t.Errorf("of none: %+v", p)
	}
}

// releasing lets every release succeed, but of ids that are named.
func (r *relay) releasing(stays ...mail.ID) *[]mail.ID {
	var left []mail.ID
	r.Release = func(ctx context.Context, id mail.ID, by string, dryRun bool) (*mail.Refusal, error) {
		if _, _, err := r.Queue.LoadDetained(ctx, id); err != nil {
			return nil, err
		}
		for _, s := range stays {
			if s == id {
				return mail.ForwardedMail, nil
			}
		}
		if !dryRun {
			left = append(left, id)
			return nil, r.Queue.DropDetained(ctx, id, by, time.Now())
		}
		return nil, nil
	}
	return &left
}

func TestAReleaseOfManyWaitsForASecondPerson(t *testing.T) {
	r := newRelay(t, registry) // more than three need one
	var ids []mail.ID
	for range 5 {
		ids = append(ids, r.detain(t, "acme", attribution.Evidence{}))
	}
	left := r.releasing(ids[4])
	var told Judgement
	if code := r.call(t, "POST", "/api/v1/quarantine/release", `{"org":"acme","by":"alice"}`, &told); code != http.StatusAccepted || told.Approval == nil || told.Waiting != 4 || told.Stay != 1 || told.Done != 0 || len(*left) != 0 {
		t.Fatalf("%d %+v, released %v", code, told, *left)
	}
	later := r.detain(t, "acme", attribution.Evidence{})
	if err := r.Queue.DropDetained(t.Context(), ids[0], "", time.Now()); err != nil {
		t.Fatal(err)
	}
	path := "/api/v1/quarantine/approvals/" + string(told.Approval.ID)
	for name, c := range map[string]struct {
		path, body string
		code       Code
	}{
		"who asked":           {path + "/approve", `{"by":"Alice"}`, CodeConflict},
		"nobody":              {path + "/approve", `{}`, CodeConflict},
		"another id":          {"/api/v1/quarantine/approvals/" + string(later) + "/approve", `{"by":"bob"}`, CodeNotFound},
		"a verb that is none": {path + "/bless", `{"by":"bob"}`, CodeNotFound},
	} {
		if p := r.refused(t, "POST", c.path, c.body); p.Code != c.code {
			t.Errorf("%s: %+v", name, p)
		}
	}
	var list ProposalList
	if r.call(t, "GET", "/api/v1/quarantine/approvals", "", &list); len(list.Approvals) != 1 || list.Above != 3 || list.Approvals[0].What != "org=acme" {
		t.Errorf("waiting: %+v", list)
	}
	var done ApprovalDone
	if code := r.call(t, "POST", path+"/approve", `{"by":"bob"}`, &done); code != http.StatusOK || done.Released == nil || done.Released.Done != 3 || done.Released.Stay != 1 || len(*left) != 3 {
		t.Fatalf("%d %+v", code, done)
	}
	if use := r.Queue.DetainedUse("acme"); use.Messages != 2 { // the one that stays, and the one that came later
		t.Errorf("detained: %+v", use)
	}
	if p := r.refused(t, "POST", path+"/approve", `{"by":"bob"}`); p.Code != CodeNotFound {
		t.Errorf("twice: %+v", p)
	}
}

func TestSmallReleasesAreCountedTogetherAndADryRunNever(t *testing.T) {
	r := newRelay(t, registry)
	var ids []mail.ID
	for range 5 {
		ids = append(ids, r.detain(t, "acme", attribution.Evidence{}))
	}
	r.releasing()
	release := func(body string) (told Judgement) {
		t.Helper()
		r.call(t, "POST", "/api/v1/quarantine/release", body, &told)
		return told
	}
	if told := release(`{"all":true,"dry_run":true,"by":"alice"}`); told.Done != 5 || told.Approval != nil {
		t.Errorf("rehearsed: %+v", told)
	}
	if told := release(fmt.Sprintf(`{"ids":[%q,%q],"by":"alice"}`, ids[0], ids[1])); told.Done != 2 {
		t.Errorf("released: %+v", told)
	}
	if told := release(fmt.Sprintf(`{"ids":[%q,%q],"by":"alice"}`, ids[2], ids[3])); told.Done != 0 || told.Approval == nil {
		t.Errorf("four in an hour: %+v", told)
	}
	var done ApprovalDone
	list, _ := r.Approvals.Waiting(t.Context(), time.Now())
	if r.call(t, "POST", "/api/v1/quarantine/approvals/"+string(list[0].ID)+"/refuse", `{"by":"alice"}`, &done); done.Released != nil || done.Verb != Refuse {
		t.Errorf("refused: %+v", done)
	}
	if p := r.refused(t, "POST", "/api/v1/quarantine/release", `{"ids":["`+string(ids[0])+`"]}`); p.Code != CodeNotFound {
		t.Errorf("one that left: %+v", p)
	}
}

func TestLongJudgingTellsHowFarItCame(t *testing.T) {
	r := newRelay(t, registry)
	r.detain(t, "acme", attribution.Evidence{})
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/quarantine/drop?progress=true", strings.NewReader(`{"all":true}`)))
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	var last JudgeLine
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Judgement == nil || last.Judgement.Done != 1 || last.Problem != nil || w.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("it said %q, %v", w.Body, err)
	}
	w = httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/quarantine/drop?progress=true", strings.NewReader(`{}`)))
	if err := json.Unmarshal(w.Body.Bytes(), &last); err != nil || last.Problem == nil || last.Problem.Code != CodeBadRequest {
		t.Errorf("it said %q, %v", w.Body, err)
	}
}

func TestADigestOfNothingIsAConflict(t *testing.T) {
	r := newRelay(t, registry)
	if p := r.refused(t, "POST", "/api/v1/quarantine/digest", `{"org":"acme"}`); p.Code != CodeConflict {
		t.Errorf("%+v", p)
	}
}
