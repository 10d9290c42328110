package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// someFacts are about one refused and one delivered message.
func someFacts(refusedID, takenID mail.ID) []ledger.Fact {
	peer := netip.MustParseAddr("40.107.1.2")
	return []ledger.Fact{
		{Time: start, Event: ledger.Started},
		{Time: start.Add(time.Second), ID: refusedID, Event: ledger.Refused, Peer: peer, TLS: "TLS 1.3", MailFrom: "x@evil.test", From: "ceo@acme.test", ClaimedOrg: "acme",
			Rcpt: []string{"bob@example.org"}, Reason: mail.ReasonTenantNotAuthorized, Tenant: "22222222-2222-4222-8222-222222222222", Detail: "tenant 22222222-2222-4222-8222-222222222222 is no source here",
			Reply: "550 5.7.1 Not proven to come from this organisation [TENANT_NOT_AUTHORIZED id=x]"},
		{Time: start.Add(2 * time.Second), ID: takenID, Event: ledger.Accepted, Peer: peer, TLS: "TLS 1.3", MailFrom: "alice@acme.test", From: "alice@acme.test", Org: "acme", Source: "acme-m365",
			Rcpt: []string{"bob@example.org", "carol@example.net"}, Size: 1234, Identity: ledger.Proven, Proofs: []string{"tenant", "originator", "secret-header"}},
		{Time: start.Add(3 * time.Second), ID: takenID, Event: ledger.Leased, Org: "acme", Rcpt: []string{"bob@example.org"}, Attempt: 1},
		{Time: start.Add(4 * time.Second), ID: takenID, Event: ledger.Delivered, Org: "acme", Rcpt: []string{"bob@example.org"}, Attempt: 1, Site: "mx.example.org", TLS: "TLS 1.3", Reply: "250 ok"},
		{Time: start.Add(5 * time.Second), ID: takenID, Event: ledger.Deferred, Org: "acme", Rcpt: []string{"carol@example.net"}, Attempt: 1, Site: "mx.example.net", Reply: "451 later"},
	}
}

// lines reads a stream of facts.
func (r *relay) lines(t *testing.T, query string) (events []string) {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/log?"+query, nil))
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("log?%s answers %d %s", query, w.Code, w.Body)
	}
	in := bufio.NewScanner(w.Body)
	for in.Scan() {
		var line LogLine
		if err := json.Unmarshal(in.Bytes(), &line); err != nil || line.Problem != nil {
			t.Fatalf("line %s: %v", in.Text(), err)
		}
		events = append(events, string(line.Event))
	}
	return events
}

func TestLogIsSearchedByEveryField(t *testing.T) {
	r := newRelay(t, registry)
	refusedID, takenID := mail.NewID(start), mail.NewID(start.Add(time.Second))
	r.record(t, someFacts(refusedID, takenID)...)
	all := []string{"started", "refused", "accepted", "leased", "delivered", "deferred"}
	for query, want := range map[string][]string{
		"":                        all,
		"id=" + string(refusedID): {"refused"},
		"id=" + strings.ToUpper(string(refusedID)): {"refused"},
		"org=acme":                        all[1:],
		"event=delivered":                 {"delivered"},
		"reason=tenant_not_authorized":    {"refused"},
		"domain=example.net":              {"accepted", "deferred"},
		"address=ceo@acme.test":           {"refused"},
		"since=2026-11-22T09:00:04Z":      {"delivered", "deferred"},
		"until=2026-11-22T09:00:02Z":      {"started", "refused"},
		"limit=2":                         {"delivered", "deferred"},
		"limit=2&address=bob@example.org": {"leased", "delivered"},
		"limit=0":                         nil,
		"limit=1000":                      all,
		"org=acme&event=held":             nil,
	} {
		if diff := cmp.Diff(want, r.lines(t, query)); diff != "" {
			t.Errorf("log?%s (-want +got):\n%s", query, diff)
		}
	}
}

func TestTheStoryOfADeliveredMessage(t *testing.T) {
	r := newRelay(t, registry)
	refusedID, takenID := mail.NewID(start), mail.NewID(start.Add(time.Second))
	r.record(t, someFacts(refusedID, takenID)...)
	var got Message
	r.call(t, "GET", "/api/v1/messages/"+string(takenID), "", &got)
	want := []string{
		"2026-11-22 09:00:02  Taken into custody from 40.107.1.2 over TLS 1.3: From alice@acme.test, for bob@example.org, carol@example.net, 1234 octets. Proven to be acme's, by source acme-m365 with tenant and originator and secret-header.",
		`2026-11-22 09:00:04  Delivered to bob@example.org at mx.example.org over TLS 1.3, which answered "250 ok".`,
		`2026-11-22 09:00:05  Attempt 1 for carol@example.net failed for now at mx.example.net, which answered "451 later"; another follows.`,
		"Recipients now: 1 delivered, 1 waiting for another attempt.",
	}
	if diff := cmp.Diff(want, got.Story); diff != "" {
		t.Errorf("the story (-want +got):\n%s", diff)
	}
	if len(got.Facts) != 4 {
		t.Errorf("there are %d facts, want 4", len(got.Facts))
	}
}

func TestTheStoryOfARefusedSpoof(t *testing.T) {
	id := mail.NewID(start)
	got := Story(someFacts(id, id)[1:2])
	want := []string{
		`2026-11-22 09:00:01  Refused from 40.107.1.2 over TLS 1.3 (TENANT_NOT_AUTHORIZED): From ceo@acme.test, a domain of acme: tenant 22222222-2222-4222-8222-222222222222 is no source here; the peer was told "550 5.7.1 Not proven to come from this organisation [TENANT_NOT_AUTHORIZED id=x]". Nothing was signed or kept. If tenant 22222222-2222-4222-8222-222222222222 is yours, add it as a source.`,
		"It never came into custody.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the story (-want +got):\n%s", diff)
	}
}

func TestEveryEventHasItsWords(t *testing.T) {
	rcpt := []string{"a@x.test", "b@x.test", "c@x.test", "d@x.test"}
	facts := []ledger.Fact{{Event: ledger.Accepted, Rcpt: rcpt}}
	for _, e := range Events() {
		story := Story(append(facts[:1:1], ledger.Fact{Event: e, Rcpt: rcpt, Attempt: 2, Reason: mail.ReasonHeld, Detail: "why"}))
		if len(story) != 3 || strings.Contains(story[1], "%!") {
			t.Errorf("%s: %q", e, story)
		}
	}
	if got := Story(facts)[0]; !strings.Contains(got, "a@x.test, b@x.test, c@x.test and 1 more") {
		t.Errorf("many recipients are told as %q", got)
	}
	aside := Story([]ledger.Fact{facts[0], {Event: ledger.SetAside, Detail: "seal does not open"}})
	if got := aside[2]; got != "Recipients now: 4 set aside." {
		t.Errorf("a message set aside ends with %q", got)
	}
}

func TestAMessageOfWhichNothingIsKnownIsNotFound(t *testing.T) {
	if p := newRelay(t, registry).refused(t, "GET", "/api/v1/messages/"+string(mail.NewID(start)), ""); p.Code != CodeNotFound {
		t.Errorf("it is %s", p.Code)
	}
}

func TestVerifyFindsAChangedFact(t *testing.T) {
	r := newRelay(t, registry)
	r.record(t, someFacts(mail.NewID(start), mail.NewID(start))...)
	r.engine.Seal()
	var got Verified
	if code := r.call(t, "GET", "/api/v1/log/verify", "", &got); code != 200 || !got.OK || got.Facts != 6 {
		t.Fatalf("verify answers %d %+v", code, got)
	}
	key := ledger.FactKey(1)
	record, err := r.engine.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	r.engine.Put(key, bytes.Replace(record, []byte("refused"), []byte("relayed"), 1))
	got = Verified{}
	if code := r.call(t, "GET", "/api/v1/log/verify", "", &got); code != 200 || got.OK || got.Bad == "" {
		t.Errorf("verify of a changed ledger answers %d %+v", code, got)
	}
}

// The bar of log verify: the last line has the answer, and the total is what is there.
func TestVerifyTellsHowFarItCame(t *testing.T) {
	r := newRelay(t, registry)
	r.record(t, someFacts(mail.NewID(start), mail.NewID(start))...)
	r.engine.Seal()
	var reached, total uint64
	found, err := VerifyLedger(t.Context(), r.engine, func(facts, of uint64) { reached, total = facts, of })
	if err != nil || reached != found.Facts || total != found.Facts || found.Facts == 0 {
		t.Errorf("it tells %d of %d, and finds %+v, %v", reached, total, found, err)
	}
	client, _ := serveOnSocket(t, r)
	if asked, err := client.Verify(t.Context(), func(uint64, uint64) {}); err != nil || asked != found {
		t.Errorf("asked of the relay it is %+v, %v", asked, err)
	}
}

func TestAFactThatCannotBeReadEndsTheStreamWithAProblem(t *testing.T) {
	r := newRelay(t, registry)
	r.record(t, someFacts(mail.NewID(start), mail.NewID(start))...)
	r.engine.Put(ledger.FactKey(2), []byte("rubbish"))
	client, _ := serveOnSocket(t, r)
	seen := 0
	err := client.Log(t.Context(), nil, func(ledger.Fact) bool { seen++; return true })
	var p *Problem
	if !errors.As(err, &p) || p.Code != CodeInternal || seen != 2 {
		t.Errorf("after %d facts the error is %v", seen, err)
	}
}

func TestAFollowedLogGoesOnWithNewFacts(t *testing.T) {
	r := newRelay(t, registry)
	facts := someFacts(mail.NewID(start), mail.NewID(start))
	r.record(t, facts[:3]...)
	client, _ := serveOnSocket(t, r)
	var seen []ledger.Event
	err := client.Log(t.Context(), url.Values{"follow": {"true"}, "limit": {"1"}}, func(f ledger.Fact) bool {
		if len(seen) == 0 {
			r.record(t, facts[3:]...)
		}
		seen = append(seen, f.Event)
		return len(seen) < 4
	})
	if diff := cmp.Diff([]ledger.Event{ledger.Accepted, ledger.Leased, ledger.Delivered, ledger.Deferred}, seen); diff != "" || err != nil {
		t.Errorf("seen (-want +got):\n%s%v", diff, err)
	}
}

func TestAFollowedLogEndsWithItsReader(t *testing.T) {
	r := newRelay(t, registry)
	r.record(t, ledger.Fact{Event: ledger.Started, Time: start})
	client, closed := serveOnSocket(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	err := client.Log(ctx, url.Values{"follow": {"true"}}, func(ledger.Fact) bool { cancel(); return true })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	closed() // waits for the handler
}

func TestFactsAreCountedWhateverTheirNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "facts")
		engine := memory.New()
		batch := &custody.Batch{}
		for range n {
			batch.Facts = append(batch.Facts, ledger.Fact{Event: ledger.Refused, Time: start})
		}
		if err := engine.Commit(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
		got, err := extentOf(context.Background(), engine)
		if err != nil || got.Facts != uint64(n) {
			t.Fatalf("counted %d of %d facts: %v", got.Facts, n, err)
		}
	})
}

func TestTheLastMatchesAreFoundHoweverFarBack(t *testing.T) {
	engine := memory.New()
	batch := &custody.Batch{}
	const n = firstWindow*5 + 17
	for i := range n {
		f := ledger.Fact{Event: ledger.Refused, Time: start, Org: "many"}
		if i%10000 == 3 {
			f.Org = "rare"
		}
		f.Detail = fmt.Sprint(i)
		batch.Facts = append(batch.Facts, f)
	}
	if err := engine.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		org  string
		n    int
		want []string
	}{
		{"rare", 2, []string{"10003", "20003"}},
		{"rare", 9, []string{"3", "10003", "20003"}},
		{"many", 2, []string{fmt.Sprint(n - 2), fmt.Sprint(n - 1)}},
		{"none", 5, nil},
	} {
		found, err := lastMatches(t.Context(), engine, ledger.Filter{Org: c.org}, c.n, n)
		var got []string
		for _, f := range found {
			got = append(got, f.Detail)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("the last %d of %s (-want +got):\n%s%v", c.n, c.org, diff, err)
		}
	}
}
