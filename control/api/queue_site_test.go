package api

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// newRelayThatKnows is a relay that knows where two domains lead.
func newRelayThatKnows(t *testing.T) *relay {
	r := newRelay(t, registry)
	r.Delivery.Known = new(custody.Sites)
	for name, site := range map[string]string{"one.test": "big.test", "two.test": "small.test"} {
		d, err := mail.ParseDomain(name)
		if err != nil {
			t.Fatal(err)
		}
		r.Delivery.Known.Learn(d, site, time.Now())
	}
	return r
}

func TestASelectionBySiteSaysWhatItMayLeaveOut(t *testing.T) {
	r := newRelayThatKnows(t)
	id := r.keep(t, "acme", "a@one.test")
	r.keep(t, "acme", "b@two.test")
	var page QueuePage
	r.call(t, "GET", "/api/v1/queue?site=BIG.test", "", &page)
	if len(page.Messages) != 1 || page.Messages[0].ID != id || page.SiteUnknown != nil {
		t.Errorf("where all is known: %+v", page)
	}
	r.keep(t, "acme", "c@three.test", "d@three.test", "e@four.test", "f@one.test")
	r.keep(t, "globex", "g@four.test")
	for query, want := range map[string]*SiteUnknown{
		"site=big.test":                   {Messages: 2, Recipients: 4, Domains: 2},
		"site=nowhere.test":               {Messages: 2, Recipients: 4, Domains: 2},
		"site=big.test&org=globex":        {Messages: 1, Recipients: 1, Domains: 1},
		"site=big.test&domain=three.test": {Messages: 1, Recipients: 2, Domains: 1},
		"site=big.test&domain=one.test":   nil,
		"site=big.test&state=held":        nil,
		"site=big.test&before=" + early(): nil,
		"org=acme":                        nil,
		"site=big.test&limit=1":           {Messages: 2, Recipients: 4, Domains: 2},
		"site=big.test&state=queued":      {Messages: 2, Recipients: 4, Domains: 2},
	} {
		page := QueuePage{}
		r.call(t, "GET", "/api/v1/queue?"+query, "", &page)
		if diff := cmp.Diff(want, page.SiteUnknown); diff != "" {
			t.Errorf("%s: -want +got:\n%s", query, diff)
		}
	}
}

func early() string { return start.Add(-time.Hour).UTC().Format(time.RFC3339) }

func TestACommandBySiteSaysWhatItMayLeaveOut(t *testing.T) {
	r := newRelayThatKnows(t)
	r.keep(t, "acme", "a@one.test", "b@three.test")
	r.keep(t, "acme", "c@three.test")
	unknown := &SiteUnknown{Messages: 2, Recipients: 2, Domains: 1}
	for _, step := range []struct {
		verb Verb
		what Selection
		want *SiteUnknown
	}{
		{Hold, Selection{Site: "big.test", DryRun: true}, unknown},
		{Hold, Selection{Site: "big.test"}, unknown},
		{Release, Selection{Site: "big.test"}, nil}, // nothing of them is held
		{Retry, Selection{Site: "big.test"}, unknown},
		{Drop, Selection{Domain: "one.test"}, nil},
	} {
		var done Steered
		r.call(t, "POST", "/api/v1/queue/"+string(step.verb), selection(t, step.what), &done)
		if diff := cmp.Diff(step.want, done.SiteUnknown); diff != "" {
			t.Errorf("%s: -want +got:\n%s", step.verb, diff)
		}
	}
}

func TestASuspensionOfASiteSaysWhatMayBelongToIt(t *testing.T) {
	r := newRelayThatKnows(t)
	r.keep(t, "acme", "a@one.test", "b@three.test")
	var told Suspended
	r.call(t, "POST", "/api/v1/suspensions/suspend", `{"scope":"site","name":"big.test","by":"ann"}`, &told)
	if diff := cmp.Diff(&SiteUnknown{Recipients: 1, Domains: 1}, told.SiteUnknown); diff != "" || told.Recipients != 1 {
		t.Errorf("%+v: -want +got:\n%s", told, diff)
	}
	var page QueuePage
	r.call(t, "GET", "/api/v1/queue?domain=one.test", "", &page)
	if len(page.Messages) != 1 || page.Messages[0].Recipients[0].Suspended != custody.ScopeSite {
		t.Errorf("it is listed as %+v", page.Messages)
	}
	told = Suspended{}
	r.call(t, "POST", "/api/v1/suspensions/suspend", `{"scope":"domain","name":"one.test","by":"ann"}`, &told)
	if told.SiteUnknown != nil {
		t.Errorf("of a domain: %+v", told.SiteUnknown)
	}
}

// Until it was read which domain belongs to which site, a selection by site waits, and then
// says so: half an answer would be taken for a whole one.
func TestASelectionBySiteIsRefusedUntilItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t, registry)
		r.Delivery.Known = &custody.Sites{Store: r.engine} // nobody reads it
		for _, ask := range [][3]string{
			{"GET", "/api/v1/queue?site=big.test", ""},
			{"POST", "/api/v1/queue/drop", `{"site":"big.test"}`},
			{"POST", "/api/v1/suspensions/suspend", `{"scope":"site","name":"big.test","by":"ann"}`},
		} {
			if p := r.refused(t, ask[0], ask[1], ask[2]); p.Status != http.StatusServiceUnavailable {
				t.Errorf("%s: %+v", ask[1], p)
			}
		}
		var page QueuePage
		r.call(t, "GET", "/api/v1/queue?domain=one.test", "", &page)
	})
}
