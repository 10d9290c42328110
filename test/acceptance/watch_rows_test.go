package acceptance

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/watch/detect"
	"anechoic/watch/response"
)

// watchRows are what the ledger shows, and what is done about it.
func watchRows() []row {
	app := func(lines ...string) letter { return mailFromUser("app@acme", "ann@acme.test", lines...) }
	ours := func(l letter) letter { return l.signed("acme.test", "an1e", keys()["acme.test/an1e"]) }
	return []row{
		{id: "A32", scenario: "replayed DKIM", variants: []variant{
			early(atRcpt, "our own mail, by a stranger", mail.RelayDenied, ours(app()).peerIs(vps).authenticated("")),
			no("our own mail, through the attacker's tenant", mail.TenantNotAuthorized, ours(mailFromMicrosoft(attacker, "ann@acme.test"))),
			no("our own mail, through another customer", mail.FromNotOwned, ours(app()).authenticated("app@globex")),
			no("our own mail, through an application of ours", mail.Replayed, ours(app())),
			does("again and again, through the same source", func(t *testing.T, _ *relay) { copiesArePutOff(t) }),
		}},
		{id: "A48", scenario: "campaign replay", variants: []variant{
			does("refused, one incident, told within a minute; our customers' mail flows", func(t *testing.T, _ *relay) { aCampaignIsSeen(t) }),
		}},
	}
}

// copiesArePutOff: a message that bears one signature goes to so many recipients an
// hour, whatever its envelope says; other mail of the same source goes on.
func copiesArePutOff(t *testing.T) {
	r := newRelay(t, registry(), nil)
	r.write(t, "relay.toml", nodeFor(r)+"[response]\nrecipients_per_signature = 5\n")
	r.restart(t)
	replayed := mailFromUser("server@acme", "ann@acme.test").signed("acme.test", "an1e", keys()["acme.test/an1e"])
	to := func(l letter, from, n int) letter {
		var rcpts []string
		for i := range n {
			rcpts = append(rcpts, fmt.Sprintf("r%d@%s", from+i, mailbox))
		}
		return l.recipients(rcpts...)
	}
	for i, n := range []int{2, 1, 2} {
		if _, answer := r.send(t, to(replayed, 10*i, n)); answer.code != 250 {
			t.Fatalf("copy %d: %s", i, answer)
		}
	}
	r.putOff(t, "one more", to(replayed, 90, 1))
	r.putOff(t, "with another MAIL FROM", to(replayed.sender("bob@acme.test"), 91, 1))
	r.acceptedAndDelivered(t, mailFromUser("server@acme", "ann@acme.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
}

// The campaign of 2024, replayed: many small tenants, From rotated over customers and
// local parts of one stem, recipients at free-mail providers.
const (
	campaignTenants  = 119
	campaignMessages = 240
)

func aCampaignIsSeen(t *testing.T) {
	r := newRelay(t, registry(), nil)
	random := rand.New(rand.NewPCG(2024, 7))
	victims := []string{"acme.test", "globex.test", "initech.test"}
	start := time.Now()
	for n := range campaignMessages {
		tenant := lab.Tenant{
			GUID: fmt.Sprintf("%08x-4444-4444-8444-444444444444", n%campaignTenants), Originator: fmt.Sprintf("shop%d.onmicrosoft.com", n%campaignTenants),
		}
		from := "admin_support" + letters(random, 9) + "@" + victims[n%len(victims)]
		spoof := mailThrough(tenant, lab.BlindRelay, vps, from).recipients(letters(random, 10) + "@" + []string{"yahoo.com", "gmail.com", "gmx.de"}[n%3])
		if _, answer := r.send(t, spoof); answer.code != 550 && answer.code != 451 {
			t.Fatalf("message %d of the campaign was answered %s", n, answer)
		}
		if n%80 == 40 {
			r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
			r.acceptedAndDelivered(t, mailFromUser("app@globex", "bob@globex.test"))
		}
	}
	var seen api.CampaignList
	eventually(t, "the campaign is seen", func() (ok bool) {
		var err error
		if seen, err = r.api.Campaigns(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		return len(seen.Campaigns) > 0
	})
	eventually(t, "people are told", func() bool {
		told, err := r.api.Incidents(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range told.Incidents {
			if i.Campaign == seen.Campaigns[0].ID {
				return true
			}
		}
		return false
	})
	if took := time.Since(start); took > time.Minute {
		t.Logf("it took %s, with %d messages sent one after the other", took, campaignMessages)
	}
	eventually(t, "all of it is one incident", func() bool {
		seen, err := r.api.Campaigns(t.Context(), "")
		return err == nil && len(seen.Campaigns) == 1 && seen.Campaigns[0].Left == 0 && len(seen.Campaigns[0].Organisations) == len(victims)
	})
	page, err := r.api.Campaign(t.Context(), seen.Campaigns[0].ID)
	if err != nil || page.Text == "" {
		t.Errorf("its page: %q, %v", page.Text, err)
	}
	if orders, err := r.api.Responses(t.Context(), ""); err != nil {
		t.Fatal(err)
	} else {
		for _, o := range orders.Responses {
			if o.InForce() {
				t.Errorf("customers are answered for what others sent in their name: %+v", o)
			}
		}
	}
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
}

func letters(random *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + random.IntN(26))
	}
	return string(b)
}

// apply puts a step in force as a person would.
func (r *relay) apply(t *testing.T, step response.Step, scope detect.Scope, more ...func(*api.ResponseWish)) api.Response {
	t.Helper()
	wish := api.ResponseWish{Scope: scope, Step: step, Why: "a test", By: "ann"}
	for _, change := range more {
		change(&wish)
	}
	applied, err := r.api.ApplyResponse(t.Context(), "", wish)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

func (r *relay) endResponse(t *testing.T, id string) {
	t.Helper()
	if ended, err := r.api.EndResponse(t.Context(), id, "over"); err != nil || ended.State != "ended" {
		t.Fatalf("end %s: %+v, %v", id, ended, err)
	}
}

func (r *relay) suspended(t *testing.T, what string, l letter) {
	t.Helper()
	if _, answer := r.send(t, l); answer.code != 550 || answer.enhanced != "5.7.28" || answer.reason != mail.ReasonSourceSuspended {
		t.Errorf("%s: %s", what, answer)
	}
}

// A suspended source is refused, what is queued of it is held, over a restart too; the
// organisation's other sources, and other organisations, notice nothing. Ended, all
// flows again by itself.
func TestASuspendedSourceIsStoppedAloneUntilItEnds(t *testing.T) {
	r := newRelay(t, registry(), nil)
	id, message := r.waiting(t, mailFromUser("app@acme", "ann@acme.test"))
	order := r.apply(t, response.Suspend, detect.Scope{Org: "acme", Source: "app"})
	r.steer(t, api.Retry, id)
	if reason := r.isHeld(t, id); reason != mail.ReasonSourceSuspended {
		t.Errorf("it is held as %s", reason)
	}
	for range 2 {
		r.suspended(t, "the source", mailFromUser("app@acme", "ann@acme.test"))
		r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
		r.acceptedAndDelivered(t, mailFromUser("app@globex", "bob@globex.test"))
		r.restart(t)
	}
	if q := r.queued(t, id, custody.StateHeld); len(q) != 1 {
		t.Errorf("after a restart what was queued is %+v", r.queued(t, id, ""))
	}
	r.endResponse(t, order.ID)
	r.await(t, message)
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))

	var told []string
	for _, facts := range r.facts(t, url.Values{"event": {string(ledger.ResponseChanged)}}) {
		for _, f := range facts {
			told = append(told, f.Detail)
		}
	}
	if len(told) != 2 || !strings.Contains(told[0], "suspend of acme/app until somebody ends it, by ") || !strings.Contains(told[1], "ended by ") {
		t.Errorf("the ledger says %q", told)
	}
}

// A killed domain is sent for by nobody, whatever the source; the organisation's other
// domains are. The answer and the status say which keys to withdraw; ended, the same
// keys sign again.
func TestAKilledDomainIsSilentAndItsKeysComeBack(t *testing.T) {
	r := newRelay(t, registry(), nil)
	order := r.apply(t, response.Kill, detect.Scope{Org: "acme", Domain: "acme.test"})
	if !strings.Contains(order.Records, "an1e._domainkey.acme.test") || !strings.Contains(order.Records, "an1._domainkey.acme.test") {
		t.Errorf("the records to withdraw are %q", order.Records)
	}
	for what, l := range map[string]letter{
		"an application": mailFromUser("app@acme", "ann@acme.test"), "Microsoft 365": mailFromMicrosoft(acme, "ann@acme.test"),
		"another domain in From": mailFromUser("app@acme", "ann@acme-sub.test").sender("ann@acme.test"),
	} {
		r.suspended(t, what, l)
	}
	found := false
	for _, f := range r.status(t).Findings {
		found = found || strings.Contains(f.Text, "an1e._domainkey.acme.test")
	}
	if !found {
		t.Errorf("status says nothing of it: %+v", r.status(t).Findings)
	}
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme-sub.test"))
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "bob@globex.test"))
	r.endResponse(t, order.ID)
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
}

// Held by a response, mail waits for a person, who may release it.
func TestWhatAResponseHoldsAPersonReleases(t *testing.T) {
	r := newRelay(t, registry(), nil)
	order := r.apply(t, response.Hold, detect.Scope{Org: "acme", Source: "app"})
	l := mailFromUser("app@acme", "ann@acme.test")
	expectAlso(messageID(l.data))
	id := r.detain(t, l)
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
	stop := r.apply(t, response.Suspend, detect.Scope{Org: "acme", Source: "app"})
	if stop.ID != order.ID {
		t.Errorf("there are two orders for one scope: %s and %s", order.ID, stop.ID)
	}
	if judged := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); judged.Done != 0 {
		t.Errorf("released while its source is suspended: %+v", judged)
	}
	r.apply(t, response.Hold, detect.Scope{Org: "acme", Source: "app"})
	if judged := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); judged.Done != 1 {
		t.Errorf("not released: %+v", judged)
	}
	r.await(t, messageID(l.data))
}

func TestAThrottledSourceIsPutOffPastItsRate(t *testing.T) {
	r := newRelay(t, registry(), nil)
	r.apply(t, response.Throttle, detect.Scope{Org: "acme", Source: "app"}, func(w *api.ResponseWish) { w.Rate, w.For = 120, "1h" })
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
	r.putOff(t, "the third in a minute", mailFromUser("app@acme", "ann@acme.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
	if got := r.metricsPage(t); !strings.Contains(got, `anechoic_responses_in_force{step="throttle"} 1`) {
		t.Error("the metrics do not show it")
	}
}

func TestAResponseNamesSomethingOfTheRegistry(t *testing.T) {
	r := newRelay(t, registry(), nil)
	for _, scope := range []detect.Scope{{Org: "nobody"}, {Org: "acme", Source: "none"}, {Org: "acme", Source: "app", Domain: "globex.test"}, {}} {
		if _, err := r.api.ApplyResponse(t.Context(), "", api.ResponseWish{Scope: scope, Step: response.Throttle, Why: "x"}); err == nil {
			t.Errorf("%+v was taken", scope)
		}
	}
	if _, err := r.api.EndResponse(t.Context(), "none", ""); err == nil {
		t.Error("what does not exist was ended")
	}
}
