package acceptance

import (
	"net/url"
	"strings"
	"testing"

	"anechoic/control/api"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// What waits for a site that is suspended goes another way when a person says so,
// signed as before, and the ledger tells who did.
func TestReroutedMailArrivesByAnotherNextHop(t *testing.T) {
	r := newRelay(t, registry(), nil)
	id, messageID := r.waiting(t, mailFromUser("app@acme", "ann@acme.test"))
	site := r.queued(t, id, custody.StateQueued)[0].Site
	if _, err := r.api.ChangeSuspensions(t.Context(), api.Suspend, api.SuspensionWish{Scope: custody.ScopeSite, Name: site, By: "ann"}); err != nil {
		t.Fatal(err)
	}
	r.steer(t, api.Retry, id)
	m, err := r.api.Queued(t.Context(), id)
	if err != nil || !strings.Contains(m.Why, "for ann with the site "+site) {
		t.Fatalf("%q, %v", m.Why, err)
	}
	wish := api.Selection{IDs: []mail.ID{id}, Via: r.receiver.Addr().String(), By: "ann"}
	if done, err := r.api.Steer(t.Context(), api.Reroute, wish, nil); err != nil || done.Recipients != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if j := r.await(t, messageID); !j.Aligned {
		t.Errorf("it arrived unaligned: %+v", j)
	}
}

// What a person ends is told to its proven sender, without another attempt.
func TestEndedMailIsToldToItsSender(t *testing.T) {
	r := newRelay(t, registry(), nil)
	l := mailFromUser("app@acme", "ann@acme.test")
	id, messageID := r.waiting(t, l)
	wish := api.Selection{IDs: []mail.ID{id}, By: "ann", Why: "the house moved"}
	if done, err := r.api.Steer(t.Context(), api.Bounce, wish, nil); err != nil || done.Recipients != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	r.bounced(t, id)
	r.bouncesAbout(t, l, 1)
	if j, arrived := r.receiver.Judgement(messageID); arrived {
		t.Errorf("it arrived: %+v", j)
	}
}

// A site selects for every command, and nothing that leads elsewhere.
func TestASiteSelectsWhatLedThere(t *testing.T) {
	r := newRelay(t, registry(), nil)
	id, _ := r.waiting(t, mailFromUser("app@acme", "ann@acme.test"))
	site := r.queued(t, id, custody.StateQueued)[0].Site
	r.receiver.Answer("second.test", "451 4.2.1 mailbox busy")
	other := r.kept(t, mailFromUser("app@acme", "ann@acme.test").recipients("bob@second.test"))
	eventually(t, "the first attempt elsewhere fails", func() bool {
		q := r.queued(t, other, custody.StateQueued)
		return len(q) == 1 && q[0].Attempts == 1
	})
	if elsewhere := r.queued(t, other, custody.StateQueued)[0].Site; site == "" || elsewhere == site {
		t.Fatalf("the sites are %q and %q", site, elsewhere)
	}
	page, err := r.api.Queue(t.Context(), url.Values{"site": {strings.ToUpper(site)}})
	if err != nil || len(page.Messages) != 1 || page.Messages[0].ID != id {
		t.Errorf("listed are %+v, %v", page.Messages, err)
	}
	for _, step := range []struct {
		verb api.Verb
		more api.Selection
	}{
		{verb: api.Retry, more: api.Selection{DryRun: true}},
		{verb: api.Hold},
		{verb: api.Reroute, more: api.Selection{Via: "hop.test:25"}},
		{verb: api.Reroute, more: api.Selection{Via: api.ViaDNS, Site: "hop.test:25"}}, // where a person sent it
		{verb: api.Release, more: api.Selection{DryRun: true}},
		{verb: api.Bounce, more: api.Selection{DryRun: true}},
		{verb: api.Drop},
	} {
		chosen := step.more
		if chosen.Site == "" {
			chosen.Site = site
		}
		if done, err := r.api.Steer(t.Context(), step.verb, chosen, nil); err != nil || done.Recipients != 1 || done.Messages != 1 {
			t.Errorf("%s %+v: %+v, %v", step.verb, chosen, done, err)
		}
	}
	if done, err := r.api.Steer(t.Context(), api.Drop, api.Selection{Site: site}, nil); err != nil || done.Messages != 0 {
		t.Errorf("dropped twice: %+v, %v", done, err)
	}
	if left := r.queued(t, other, custody.StateQueued); len(left) != 1 {
		t.Errorf("of what leads elsewhere is left %+v", left)
	}
}
