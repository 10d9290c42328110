package api

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func TestASelectionNeedsToSelect(t *testing.T) {
	r := newRelay(t, registry)
	r.keep(t, "acme", "a@one.test")
	for body, fix := range map[string]string{
		`{}`:                             "name ids",
		`{"by":"ann"}`:                   "name ids",
		`{"all":true,"reply":"full"}`:    "one of them",
		`{"all":true,"via":"hop:25"}`:    "leave it out",
		`{"all":true,"why":"no"}`:        "leave it out",
		`{"state":"lost"}`:               "queued, leased or held",
		`{"sender":"not a domain"}`:      "example.org",
		`{"before":"yesterday"}`:         "documented fields",
		`{"all":true,"colour":"orange"}`: "documented fields",
	} {
		if p := r.refused(t, "POST", "/api/v1/queue/hold", body); p.Code != CodeBadRequest || !strings.Contains(p.Fix, fix) {
			t.Errorf("%s: %+v", body, p)
		}
	}
	for _, via := range []string{"", "hop", "hop:0", "hop:25 rm", "[::1]"} {
		if p := r.refused(t, "POST", "/api/v1/queue/reroute", selection(t, Selection{All: true, Via: via})); p.Code != CodeBadRequest || !strings.Contains(p.Detail, "next hop") {
			t.Errorf("via %q: %+v", via, p)
		}
	}
	if d := r.Queue.Depth(); d.Held != 0 {
		t.Errorf("%+v", d)
	}
}

func TestOnlyWhatAnOrganisationSentIsRerouted(t *testing.T) {
	r := newRelay(t, registry)
	r.keep(t, "acme", "a@one.test") // the relay's own notice
	for _, dry := range []bool{true, false} {
		var got Steered
		r.call(t, "POST", "/api/v1/queue/reroute", selection(t, Selection{All: true, Via: "hop.test:25", DryRun: dry}), &got)
		if got.Recipients != 0 || got.Verb != Reroute {
			t.Errorf("%+v", got)
		}
	}
}

func TestABounceEndsWhatIsHeldToo(t *testing.T) {
	r := newRelay(t, registry)
	id := r.keep(t, "acme", "a@one.test", "b@one.test")
	r.call(t, "POST", "/api/v1/queue/hold", `{"all":true}`, nil)
	var got Steered
	r.call(t, "POST", "/api/v1/queue/bounce", selection(t, Selection{IDs: []mail.ID{id}, By: "ann", Why: "the house moved"}), &got)
	if got.Messages != 1 || got.Recipients != 2 {
		t.Fatalf("%+v", got)
	}
	var m Queued
	r.call(t, "GET", "/api/v1/queue/"+string(id), "", &m)
	if !m.Recipients[0].Ended || m.Why != "Ended by ann (the house moved): it is about to go back to its sender." {
		t.Errorf("%+v", m)
	}
	r.call(t, "POST", "/api/v1/queue/bounce", selection(t, Selection{All: true, DryRun: true}), &got)
	if got.Recipients != 0 {
		t.Errorf("ended twice: %+v", got)
	}
	var story Message
	r.call(t, "GET", "/api/v1/messages/"+string(id), "", &story)
	if text := strings.Join(story.Story, "\n"); !strings.Contains(text, "Ended for a@one.test, b@one.test: returned to the sender by ann: the house moved") {
		t.Error(text)
	}
}

func TestADryRunShowsTheFirstMessages(t *testing.T) {
	r := newRelay(t, registry)
	for range MaxSample + 5 {
		r.keep(t, "acme", "a@one.test")
	}
	var got Steered
	r.call(t, "POST", "/api/v1/queue/drop", `{"domain":"one.test","dry_run":true}`, &got)
	if got.Messages != MaxSample+5 || len(got.Sample) != MaxSample || r.Queue.Depth().Messages != MaxSample+5 {
		t.Errorf("%d messages, %d shown, %+v", got.Messages, len(got.Sample), r.Queue.Depth())
	}
}

func TestLongWorkTellsHowFarItCame(t *testing.T) {
	r := newRelay(t, registry)
	for range 300 {
		r.keep(t, "acme", "a@one.test")
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/queue/hold?progress=true", strings.NewReader(`{"all":true}`)))
	var messages []int
	var last SteerLine
	for lines := json.NewDecoder(w.Body); lines.More(); {
		last = SteerLine{}
		if err := lines.Decode(&last); err != nil {
			t.Fatal(err)
		}
		messages = append(messages, last.Messages)
	}
	if !last.Done || last.Verb != Hold || last.Messages != 300 || len(messages) != 4 || messages[0] != 128 {
		t.Errorf("%v, the last %+v", messages, last)
	}
}

func TestWhatIsSuspendedIsListedAndResumed(t *testing.T) {
	r := newRelay(t, registry)
	id := r.keep(t, "acme", "a@one.test", "b@two.test")
	var one Suspended
	for _, wish := range []SuspensionWish{
		{Scope: custody.ScopeOrganisation, Name: "acme", By: "ann", Reason: "asked for", DryRun: true},
		{Scope: custody.ScopeOrganisation, Name: "acme", By: "ann", Reason: "asked for"},
	} {
		body, _ := json.Marshal(wish)
		if r.call(t, "POST", "/api/v1/suspensions/suspend", string(body), &one); one.Recipients != 2 || len(r.Queue.Suspensions()) == 0 != wish.DryRun {
			t.Fatalf("%+v: %+v", wish, one)
		}
	}
	var list SuspensionList
	r.call(t, "GET", "/api/v1/suspensions", "", &list)
	if len(list.Suspensions) != 1 || list.Suspensions[0].By != "ann" || list.Suspensions[0].Recipients != 2 {
		t.Errorf("%+v", list)
	}
	var m Queued
	r.call(t, "GET", "/api/v1/queue/"+string(id), "", &m)
	if !strings.Contains(m.Why, "by ann with the organisation acme (asked for)") || m.Recipients[0].Suspended != custody.ScopeOrganisation {
		t.Errorf("%+v", m)
	}
	var status Status
	r.call(t, "GET", "/api/v1/status", "", &status)
	if len(status.Suspensions) != 1 || status.Queue.Suspended != 2 {
		t.Errorf("%+v", status.Queue)
	}
	r.call(t, "POST", "/api/v1/suspensions/resume", `{"scope":"organisation","name":"acme"}`, &one)
	if len(r.Queue.Suspensions()) != 0 {
		t.Errorf("%+v", r.Queue.Suspensions())
	}
	for body, code := range map[string]Code{
		`{"scope":"organisation","name":"acme"}`: CodeNotFound,
		`{"scope":"planet","name":"mars"}`:       CodeBadRequest,
		`{"scope":"source","name":"acme"}`:       CodeBadRequest,
		`{"scope":"domain","name":"not one"}`:    CodeBadRequest,
	} {
		if p := r.refused(t, "POST", "/api/v1/suspensions/resume", body); p.Code != code {
			t.Errorf("%s: %+v", body, p)
		}
	}
}

func TestTopTellsOfSitesAndOrganisations(t *testing.T) {
	r := newRelay(t, registry)
	r.keep(t, "acme", "a@one.test", "b@two.test")
	r.keep(t, "globex", "c@two.test")
	now := time.Now()
	r.Traffic.Fact(ledger.Fact{Time: now, ID: mail.NewID(now), Event: ledger.Delivered, Org: "acme", Site: "two.test", Rcpt: []string{"x@two.test"}})
	r.Traffic.Fact(ledger.Fact{Time: now, Event: ledger.Deferred, Org: "acme", Site: "three.test", Reply: "450 later", Rcpt: []string{"y@three.test"}})
	if err := r.Queue.Suspend(t.Context(), custody.Suspension{Scope: custody.ScopeSite, Name: "two.test", By: "ann", At: now}); err != nil {
		t.Fatal(err)
	}
	var top Top
	r.call(t, "GET", "/api/v1/top", "", &top)
	if len(top.Sites) != 3 || top.Sites[0].Name != "two.test" || top.Sites[0].Queued != 2 || top.Sites[0].Delivered != 1 || top.Sites[0].State != SiteSuspended {
		t.Errorf("%+v", top.Sites)
	}
	if last := top.Sites[2]; last.Name != "one.test" && last.LastReply != "450 later" {
		t.Errorf("%+v", last)
	}
	if len(top.Organisations) != 2 || top.Organisations[0].ID != "acme" || top.Organisations[0].Queued != 2 || top.All.Deferred != 1 {
		t.Errorf("%+v, %+v", top.Organisations, top.All)
	}
}
