package acceptance

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// holding is the registry of the matrix whose acme holds what it only forwarded.
func holding() string {
	text := strings.Replace(registry(), `hybrid_addresses = ["198.51.100.7/32"]`, "hybrid_addresses = [\"198.51.100.7/32\"]\nforwarded = \"hold\"", 1)
	return strings.Replace(text, "username = \"server@acme\"", "forwarded = \"hold\"\nusername = \"server@acme\"", 1)
}

// detain sends a letter that must be held, and gives its id.
func (r *relay) detain(t *testing.T, l letter) mail.ID {
	t.Helper()
	_, answer := r.send(t, l)
	if answer.code != 250 || !strings.Contains(answer.text, "[HELD id=") {
		t.Fatalf("it was answered %s; log:\n%s", answer, r.log)
	}
	_, rest, _ := strings.Cut(answer.text, "id=")
	return mail.ID(rest[:26])
}

func (r *relay) detained(t *testing.T, query url.Values) (ids []mail.ID) {
	t.Helper()
	page, err := r.api.Quarantine(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

func (r *relay) judge(t *testing.T, verb api.Verb, s api.DetainedSelection) api.Judgement {
	t.Helper()
	told, err := r.api.Judge(t.Context(), verb, s)
	if err != nil {
		t.Fatal(err)
	}
	return told
}

// fromOutside is mail that entered acme's server at an address outside.
func fromOutside(from string) letter {
	return mailFromUser("server@acme", from, "Received: from mail.elsewhere.test (mail.elsewhere.test [172.16.0.5])\r\n\tby mx.acme.test with ESMTP id x; Sun, 22 Nov 2026 11:00:00 +0000")
}

// forwardedBy is mail that acme's tenant forwarded, with its transport rule's
// secret header.
func forwardedBy(from string) letter {
	l := mailThrough(acme, lab.Forward, vps, from, acme.SecretName+": "+acme.Secret)
	l.from = "box@acme.test"
	return l
}

func TestForwardedMailIsHeldAndAReleaseNeverSignsIt(t *testing.T) {
	r := newRelay(t, holding(), nil)
	byTenant := r.detain(t, forwardedBy("friend@freemail.test"))
	byServer := r.detain(t, fromOutside("friend@freemail.test"))
	r.restart(t)
	if got, want := r.detained(t, url.Values{"org": {"acme"}, "reason": {"FORWARDED_MAIL"}}), []mail.ID{byTenant, byServer}; !slices.Equal(got, want) {
		t.Fatalf("detained are %v, want %v", got, want)
	}
	if got := r.detained(t, url.Values{"org": {"globex"}}); len(got) > 0 {
		t.Errorf("globex has %v", got)
	}

	told, err := r.api.Detained(t.Context(), byTenant)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.MarshalIndent(told, "", " ")
	for _, secret := range []string{acmeSecret, digest(acmeSecret), "your invoice", "a dot"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("it shows %q:\n%s", secret, text)
		}
	}
	for _, want := range []string{"confirmed host", acme.GUID, "forwarding stamp", "Subject", "friend@freemail.test", "x-acme-relay-key"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it does not tell %q:\n%s", want, text)
		}
	}
	if slices.ContainsFunc(told.Header, func(name string) bool {
		return strings.EqualFold(name, acme.SecretName) || strings.HasPrefix(name, "X-MS-Exchange-CrossTenant-")
	}) {
		t.Errorf("evidence is kept in the header: %v", told.Header)
	}
	if told.Release.Done || told.Release.Reason != mail.ReasonForwardedMail {
		t.Errorf("a release would say %+v", told.Release)
	}

	for range 2 {
		released := r.judge(t, api.Release, api.DetainedSelection{All: true})
		if released.Done != 0 || released.Stay != 2 || released.Messages[0].Reason != mail.ReasonForwardedMail {
			t.Errorf("released: %+v", released)
		}
	}
	if d := r.status(t).Queue; d.Messages != 0 {
		t.Errorf("the queue has %+v", d)
	}
	facts := r.facts(t, url.Values{"id": {string(byTenant)}})[byTenant]
	if len(facts) != 1 || facts[0].Event != ledger.Held || facts[0].Disposition != ledger.DispositionHeld || facts[0].Identity != ledger.Unproven || facts[0].Org != "acme" {
		t.Errorf("the ledger has %+v", facts)
	}
	story, err := r.api.Message(t.Context(), byTenant)
	if err != nil || !strings.HasPrefix(story.Story[0][21:], "Detained from "+eop) || story.Story[1] != "Recipients now: 1 held." {
		t.Errorf("the story is %q, %v", story.Story, err)
	}

	if dropped := r.judge(t, api.Drop, api.DetainedSelection{IDs: []mail.ID{byTenant}}); dropped.Done != 1 {
		t.Errorf("dropped: %+v", dropped)
	}
	if got := r.detained(t, nil); !slices.Equal(got, []mail.ID{byServer}) {
		t.Errorf("detained are %v", got)
	}
	r.stop(t)
	if got := r.receiver.Judgements(); len(got) != 0 {
		t.Errorf("something arrived: %+v", got)
	}
}

func TestForwardedMailWithTheFromOfAnyOrganisationIsRefusedNeverHeld(t *testing.T) {
	r := newRelay(t, holding(), nil)
	for name, l := range map[string]letter{
		"From its own domain, by the tenant":       forwardedBy("ceo@acme.test"),
		"From its own domain, by its server":       fromOutside("ceo@acme.test"),
		"From another organisation, by the tenant": forwardedBy("ceo@globex.test"),
		"From another organisation, by its server": fromOutside("ceo@globex.test"),
		"From below a domain with subdomains":      forwardedBy("ceo@desk.acme-sub.test"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, answer := r.send(t, l); answer.code != 550 || answer.reason != mail.ReasonForwardedMail {
				t.Errorf("it was answered %s", answer)
			}
		})
	}
	reject := mailThrough(umbrella, lab.Forward, vps, "friend@freemail.test")
	if _, answer := r.send(t, reject); answer.code != 550 || answer.reason != mail.ReasonForwardedMail {
		t.Errorf("of a source that rejects, it was answered %s", answer)
	}
	if got := r.detained(t, nil); len(got) != 0 {
		t.Errorf("detained are %v", got)
	}
}

// What was detained is released once the registry says that it is the
// organisation's own: here a domain that acme bought, from a server that turned
// out to be acme's.
func TestWhatTheRegistryOfNowProvesIsReleasedAndSigned(t *testing.T) {
	r := newRelay(t, holding(), func(i *lab.Internet) {
		i.AddCustomer("newbrand.test", "acme")
		i.Publish("an1e._domainkey.newbrand.test", keyRecord("acme.test/an1e"))
	})
	l := fromOutside("boss@newbrand.test")
	id := r.detain(t, l)
	stays := func(why mail.Reason) {
		t.Helper()
		if got := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); got.Done != 0 || got.Messages[0].Reason != why {
			t.Fatalf("released: %+v, want it to stay for %s", got, why)
		}
	}
	stays(mail.ReasonForwardedMail)

	server := strings.Replace(holding(), "role = \"server\"\ninternal = [\"10.0.0.0/8\"]\nfrom = [\"*@acme.test\"]", "role = \"server\"\ninternal = [\"10.0.0.0/8\", \"172.16.0.0/12\"]\nfrom = [\"*@acme.test\"]", 1)
	r.writeRegistry(t, server)
	r.reload(t)
	stays(mail.ReasonFromNotOwned)

	bought := strings.Replace(server, "[[organisation.domain]]\nname = \"acme.test\"", "[[organisation.domain]]\nname = \"newbrand.test\"\ndkim = [ { selector = \"an1e\", algorithm = \"ed25519\", key_file = \"acme.test-an1e.pem\" } ]\n[[organisation.domain]]\nname = \"acme.test\"", 1)
	r.writeRegistry(t, bought)
	r.reload(t)
	stays(mail.ReasonSourceNotAllowed)

	r.writeRegistry(t, strings.Replace(bought, "\"172.16.0.0/12\"]\nfrom = [\"*@acme.test\"]", "\"172.16.0.0/12\"]\nfrom = [\"*@acme.test\", \"*@newbrand.test\"]", 1))
	r.reload(t)
	r.restart(t)
	if got := r.judge(t, api.Release, api.DetainedSelection{All: true, DryRun: true}); got.Done != 1 || !got.DryRun {
		t.Fatalf("rehearsed: %+v", got)
	}
	if got := r.detained(t, nil); len(got) != 1 {
		t.Fatal("a dry run released it")
	}
	if got := r.judge(t, api.Release, api.DetainedSelection{Org: "acme"}); got.Done != 1 || got.Stay != 0 {
		t.Fatalf("released: %+v", got)
	}
	_, rest, _ := strings.Cut(l.data, "Message-ID: ")
	j := r.await(t, rest[:strings.Index(rest, "\r\n")])
	if !j.Aligned || len(j.SignedBy) != 1 || j.SignedBy[0].String() != "newbrand.test" || len(j.Leaked) > 0 || j.MailFrom != "boss@newbrand.test" {
		t.Errorf("it arrived as %+v", j)
	}
	_, body, _ := strings.Cut(l.data, "\r\n\r\n")
	if _, got, _ := strings.Cut(string(j.Data), "\r\n\r\n"); got != body {
		t.Errorf("the body arrived as %q", got)
	}
	if got := r.detained(t, nil); len(got) != 0 {
		t.Errorf("still detained: %v", got)
	}
	if _, err := r.api.Judge(t.Context(), api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); err == nil {
		t.Error("it was released twice")
	}
	var events []ledger.Event
	for _, f := range r.facts(t, url.Values{"id": {string(id)}})[id] {
		events = append(events, f.Event)
	}
	if len(events) < 3 || events[0] != ledger.Held || events[1] != ledger.Released || events[2] != ledger.Accepted {
		t.Errorf("the ledger has %v", events)
	}
}

// A person's release of queued mail is no such judgement.
func TestTheQueueDoesNotReachDetainedMail(t *testing.T) {
	r := newRelay(t, holding(), nil)
	r.detain(t, forwardedBy("friend@freemail.test"))
	for _, verb := range []api.Verb{api.Release, api.Retry, api.Drop} {
		done, err := r.api.Steer(t.Context(), verb, api.Selection{All: true}, nil)
		if err != nil || done.Messages > 0 {
			t.Errorf("queue %s: %+v, %v", verb, done, err)
		}
	}
	page, err := r.api.Queue(t.Context(), url.Values{"state": {string(custody.StateHeld)}})
	if err != nil || len(page.Messages) > 0 {
		t.Errorf("the queue shows %+v, %v", page, err)
	}
	if got := r.detained(t, nil); len(got) != 1 {
		t.Errorf("detained are %v", got)
	}
}
