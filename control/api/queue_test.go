package api

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
	"anechoic/relay/custody"
)

func selection(t *testing.T, s Selection) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestQueueIsListedByFilterAndInPages(t *testing.T) {
	r := newRelay(t, registry)
	first := r.keep(t, "acme", "a@one.test", "b@two.test")
	second := r.keep(t, "globex", "c@two.test")

	var page QueuePage
	r.call(t, "GET", "/api/v1/queue", "", &page)
	if len(page.Messages) != 2 || page.NextPageToken != "" {
		t.Fatalf("the queue is %+v", page)
	}
	page = QueuePage{}
	r.call(t, "GET", "/api/v1/queue?org=globex", "", &page)
	if len(page.Messages) != 1 || page.Messages[0].ID != second || page.Messages[0].Organisation != "globex" {
		t.Errorf("globex has %+v", page)
	}
	page = QueuePage{}
	r.call(t, "GET", "/api/v1/queue?domain=one.test", "", &page)
	if len(page.Messages) != 1 || page.Messages[0].ID != first || len(page.Messages[0].Recipients) != 1 {
		t.Errorf("one.test has %+v", page)
	}
	page = QueuePage{}
	r.call(t, "GET", "/api/v1/queue?limit=1", "", &page)
	if len(page.Messages) != 1 || page.NextPageToken == "" {
		t.Fatalf("the first page is %+v", page)
	}
	seen := page.Messages[0].ID
	token := page.NextPageToken
	page = QueuePage{}
	r.call(t, "GET", "/api/v1/queue?limit=1&page_token="+token, "", &page)
	if len(page.Messages) != 1 || page.Messages[0].ID == seen || page.NextPageToken != "" {
		t.Errorf("the second page is %+v", page)
	}
}

func TestOneMessageIsShownOrNotFound(t *testing.T) {
	r := newRelay(t, registry)
	id := r.keep(t, "acme", "a@one.test")
	var got Queued
	r.call(t, "GET", "/api/v1/queue/"+string(id), "", &got)
	if got.ID != id || got.Kind != "notice" || len(got.Recipients) != 1 || got.Recipients[0].State != custody.StateQueued || got.Recipients[0].Due == nil {
		t.Errorf("it is %+v", got)
	}
	if p := r.refused(t, "GET", "/api/v1/queue/"+string(mail.NewID(start)), ""); p.Code != CodeNotFound {
		t.Errorf("a message that is not there is %s", p.Code)
	}
}

func TestMessagesAreHeldReleasedAndDropped(t *testing.T) {
	r := newRelay(t, registry)
	id := r.keep(t, "acme", "a@one.test", "b@two.test")
	other := r.keep(t, "acme", "c@one.test")
	for _, step := range []struct {
		verb Verb
		what Selection
		want Steered
	}{
		{Hold, Selection{IDs: []mail.ID{id}, DryRun: true}, Steered{DryRun: true, Messages: 1, Recipients: 2}},
		{Hold, Selection{IDs: []mail.ID{id}}, Steered{Messages: 1, Recipients: 2}},
		{Hold, Selection{IDs: []mail.ID{id}}, Steered{}},
		{Retry, Selection{All: true}, Steered{Messages: 1, Recipients: 1}},
		{Release, Selection{Domain: "one.test", DryRun: true}, Steered{DryRun: true, Messages: 1, Recipients: 1}},
		{Release, Selection{Domain: "one.test"}, Steered{Messages: 1, Recipients: 1}},
		{Drop, Selection{Org: "globex"}, Steered{}},
		{Drop, Selection{State: custody.StateHeld}, Steered{Messages: 1, Recipients: 1}},
		{Drop, Selection{IDs: []mail.ID{id, other}}, Steered{Messages: 2, Recipients: 2}},
		{Drop, Selection{All: true}, Steered{}},
	} {
		var got Steered
		if code := r.call(t, "POST", "/api/v1/queue/"+string(step.verb), selection(t, step.what), &got); code != 200 {
			t.Fatalf("%s %+v answers %d", step.verb, step.what, code)
		}
		step.want.Verb, got.Sample = step.verb, nil
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s %+v (-want +got):\n%s", step.verb, step.what, diff)
		}
	}
}

func TestNothingIsDoneIfOneIdIsNotThere(t *testing.T) {
	r := newRelay(t, registry)
	id := r.keep(t, "acme", "a@one.test")
	p := r.refused(t, "POST", "/api/v1/queue/drop", selection(t, Selection{IDs: []mail.ID{id, mail.NewID(start)}}))
	if p.Code != CodeNotFound || r.Queue.Depth().Messages != 1 {
		t.Errorf("it is %s, and the queue has %+v", p.Code, r.Queue.Depth())
	}
}

func TestWhatIsInFlightTakesEffectLater(t *testing.T) {
	r := newRelay(t, registry)
	r.keep(t, "acme", "a@one.test")
	leases, err := r.Queue.Lease(t.Context(), start.AddDate(50, 0, 0), 1, nil)
	if err != nil || len(leases) != 1 {
		t.Fatalf("leases %v, %v", leases, err)
	}
	want := Steered{Verb: Drop, DryRun: true, Messages: 1, Recipients: 1, Later: 1}
	var got Steered
	r.call(t, "POST", "/api/v1/queue/drop", `{"all":true,"dry_run":true}`, &got)
	got.Sample = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rehearsed (-want +got):\n%s", diff)
	}
	r.call(t, "POST", "/api/v1/queue/drop", `{"all":true}`, &got)
	if got.Later != 1 || r.Queue.Depth().Messages != 1 {
		t.Errorf("done: %+v, the queue has %+v", got, r.Queue.Depth())
	}
}
