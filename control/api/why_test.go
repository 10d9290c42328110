package api

import (
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
)

// Every state a recipient can be in, and the sentence for it.
func TestWhySaysWhatARecipientWaitsFor(t *testing.T) {
	at := func(d time.Duration) time.Time { return start.Add(d) }
	busy := delivery.SiteStatus{Name: "mx.test", UnderWay: 3, Window: 5, Ready: 7}
	paused := delivery.SiteStatus{Name: "mx.test", Until: at(time.Minute), Reply: "421 4.7.0 slow down"}
	dead := delivery.SiteStatus{Name: "mx.test", Until: at(5 * time.Minute), Dead: true, Reply: "connection refused"}
	rerouted := &custody.Course{Via: "hop.test:25", By: "ann"}
	for _, c := range []struct {
		Standing
		want string
	}{
		{Standing{State: custody.StateHeld, Reason: mail.ReasonHeld},
			"Held by an operator until somebody releases it."},
		{Standing{State: custody.StateHeld, Reason: mail.ReasonKeyRevoked},
			"Held because policy does not permit it any more (KEY_REVOKED), until somebody releases it and it is permitted."},
		{Standing{State: custody.StateQueued, Due: start, Course: &custody.Course{End: true, By: "ann", Why: "the house moved"}},
			"Ended by ann (the house moved): it is about to go back to its sender."},
		{Standing{State: custody.StateLeased, Site: busy, Began: at(-12 * time.Second)},
			"Being attempted now at mx.test, for 12s."},
		{Standing{State: custody.StateLeased, Site: delivery.SiteStatus{Name: "hop.test:25"}, Course: rerouted, Began: at(-time.Second)},
			"Being attempted now at hop.test:25, which ann chose, for 1s."},
		{Standing{State: custody.StateLeased, Site: busy},
			"Ready, and waiting for its turn at mx.test, where 3 of 5 attempts are under way."},
		{Standing{State: custody.StateLeased},
			"Its next hop is being looked up now."},
		{Standing{State: custody.StateQueued, Due: at(-time.Hour), Site: busy, Suspension: &custody.Suspension{Scope: custody.ScopeOrganisation, Name: "acme", By: "ann", At: start, Reason: "asked for"}},
			"Suspended since 2026-11-22 09:00:00 by ann with the organisation acme (asked for), until that is resumed."},
		{Standing{State: custody.StateQueued, Due: at(12 * time.Minute), Attempts: 2, LastReply: "450 4.2.0 Greylisted", Site: busy},
			`Scheduled for 2026-11-22 09:12:00, in 12m0s, after attempt 2 came to "450 4.2.0 Greylisted".`},
		{Standing{State: custody.StateQueued, Due: at(12 * time.Minute), Attempts: 2, LastReply: "no route", Course: rerouted},
			`Scheduled for 2026-11-22 09:12:00, in 12m0s at hop.test:25, which ann chose, after attempt 2 came to "no route".`},
		{Standing{State: custody.StateQueued, Due: at(time.Minute), Site: paused},
			`Scheduled for 2026-11-22 09:01:00, in 1m0s, because the site mx.test asked for less, and nothing is attempted there before 2026-11-22 09:01:00 ("421 4.7.0 slow down").`},
		{Standing{State: custody.StateQueued, Due: at(5 * time.Second), Site: busy},
			"Scheduled for 2026-11-22 09:00:05, in 5s: there was no room for it."},
		{Standing{State: custody.StateQueued, Due: at(-3 * time.Minute), Site: dead},
			`Due for 3m0s, but the site mx.test did not answer, and nothing is attempted there before 2026-11-22 09:05:00 ("connection refused").`},
		{Standing{State: custody.StateQueued, Due: start, Reading: true},
			"Due, while the relay reads its queue back after its start."},
		{Standing{State: custody.StateQueued, Due: at(-90 * time.Minute), Site: busy},
			"Due for 1h30m0s, and waiting for its organisation's turn at mx.test, where 3 of 5 attempts are under way and 7 are ready."},
		{Standing{State: custody.StateQueued, Due: start},
			"Due, and waiting for its organisation's turn."},
	} {
		c.Standing.Now = start
		if got := Why(c.Standing); got != c.want {
			t.Errorf("%+v\n got %s\nwant %s", c.Standing, got, c.want)
		}
	}
}

func TestTheSentenceOfAMessageIsThatOfItsRecipients(t *testing.T) {
	same := []QueuedRecipient{{Address: "a@x.test", Why: "Held."}, {Address: "b@x.test", Why: "Held."}}
	if got := whyAll(same); got != "Held." {
		t.Errorf("%q", got)
	}
	other := append(same, QueuedRecipient{Address: "c@x.test", Why: "Due."}, QueuedRecipient{Address: "d@x.test", Why: "Due."})
	if got, want := whyAll(other), "a@x.test: Held. b@x.test: Held. c@x.test: Due. and 1 more."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
