package acceptance

import (
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
