package acceptance

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

// keyRecord is the DKIM record of one of the matrix's keys.
func keyRecord(name string) string { return dkim.RecordValue(keys()[name].Public()) }

func (r *relay) status(t *testing.T) api.Status {
	t.Helper()
	s, err := r.api.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// queued gives the recipients of a message that are in a state.
func (r *relay) queued(t *testing.T, id mail.ID, state custody.State) (found []api.QueuedRecipient) {
	t.Helper()
	page, err := r.api.Queue(t.Context(), url.Values{"state": {string(state)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Messages {
		if m.ID == id {
			found = append(found, m.Recipients...)
		}
	}
	return found
}

// waiting sends a letter whose receiver is busy, and gives its ids once the first
// attempt failed.
func (r *relay) waiting(t *testing.T, l letter) (id mail.ID, messageID string) {
	t.Helper()
	r.receiver.Answer("busy.test", "451 4.2.1 mailbox busy")
	l.to = []string{"victim@busy.test"}
	_, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatalf("it was answered %s", answer)
	}
	_, rest, _ := strings.Cut(answer.text, "id=")
	id = mail.ID(rest[:26])
	eventually(t, "the first attempt fails", func() bool {
		q := r.queued(t, id, custody.StateQueued)
		return len(q) == 1 && q[0].Attempts == 1
	})
	r.receiver.Answer("busy.test", "")
	_, rest, _ = strings.Cut(l.data, "Message-ID: ")
	return id, rest[:strings.Index(rest, "\r\n")]
}

func (r *relay) steer(t *testing.T, verb api.Verb, id mail.ID) {
	t.Helper()
	if done, err := r.api.Steer(t.Context(), verb, api.Selection{IDs: []mail.ID{id}}, nil); err != nil || done.Recipients != 1 {
		t.Fatalf("%s: %+v, %v", verb, done, err)
	}
}

// isHeld waits until a message is held, and says why.
func (r *relay) isHeld(t *testing.T, id mail.ID) mail.Reason {
	t.Helper()
	var reason mail.Reason
	eventually(t, "the message is held", func() bool {
		held := r.queued(t, id, custody.StateHeld)
		if len(held) == 1 {
			reason = held[0].Reason
		}
		return len(held) == 1
	})
	return reason
}

// source is a whole [[organisation.source]] of a registry.
func source(organisation, id string) *regexp.Regexp {
	return regexp.MustCompile(`(?s)(\[\[organisation\]\]\nid = "` + organisation + `".*?)\[\[organisation\.source\]\]\nid = "` + id + `".*?(\[\[)`)
}

// What was taken under a proof that is withdrawn afterwards is held when it is
// about to leave, stays held when a person releases it, and leaves once the proof
// is back.
func TestWhatIsRevokedWhileQueuedIsHeld(t *testing.T) {
	replace := func(old, with string) func(string) string {
		return func(text string) string { return strings.Replace(text, old, with, 1) }
	}
	without := func(organisation, id string) func(string) string {
		return func(text string) string { return source(organisation, id).ReplaceAllString(text, "$1$2") }
	}
	fromServer := func(from string) letter {
		l := mailFromUser("", from)
		l.peer, l.user = "203.0.113.10", ""
		return l
	}
	for name, c := range map[string]struct {
		letter letter
		revoke func(string) string
		why    mail.Reason
	}{
		"the tenant":               {mailFromMicrosoft(acme, "ann@acme.test"), replace(acme.GUID, "aaaaaaaa-1111-4111-8111-111111111111"), mail.ReasonTenantNotAuthorized},
		"the originator":           {mailFromMicrosoft(acme, "ann@acme.test"), replace(`originator_orgs = ["acme.test", `, "originator_orgs = ["), mail.ReasonRelayDenied},
		"the hybrid server":        {mailThrough(acme, lab.Hybrid, hybrid, "ann@acme.test"), replace("198.51.100.7/32", "198.51.100.8/32"), mail.ReasonRelayDenied},
		"the tenant's source":      {mailFromMicrosoft(acme, "ann@acme.test"), without("acme", "m365"), mail.ReasonTenantNotAuthorized},
		"the credential":           {mailFromUser("app@acme", "ann@acme.test"), without("acme", "app"), mail.ReasonTenantNotAuthorized},
		"the user name":            {mailFromUser("app@acme", "ann@acme.test"), replace(`username = "app@acme"`, `username = "other@acme"`), mail.ReasonRelayDenied},
		"what it may send as":      {mailFromUser("app@acme", "ann@acme.test"), replace(`from = ["*@acme.test", "*@acme-sub.test"`, `from = ["ben@acme.test", "*@acme-sub.test"`), mail.ReasonSourceNotAllowed},
		"the server's address":     {fromServer("ann@acme.test"), replace("203.0.113.10/32", "203.0.113.200/32"), mail.ReasonRelayDenied},
		"a domain":                 {mailFromUser("app@acme", "ann@acme-sub.test"), withoutDomain("acme-sub.test"), mail.ReasonFromNotOwned},
		"the sub-domains":          {mailFromUser("app@acme", "ann@desk.acme-sub.test"), replace("name = \"acme-sub.test\"\nsubdomains = true", "name = \"acme-sub.test\"\nsubdomains = false"), mail.ReasonFromNotOwned},
		"the workspace's secret":   {mailFromGoogle(wonka, "willy@wonka.test"), replace(digest(wonkaSecret), digest(replacement)), mail.ReasonRelayDenied},
		"the workspace's selector": {mailFromGoogle(wonka, "willy@wonka.test"), replace(`"google", "weak"`, `"weak"`), mail.ReasonRelayDenied},
		"the tenant's secret":      {mailFromMicrosoft(acme, "ann@acme.test"), replace(digest(acmeSecret), digest(replacement)), mail.ReasonRelayDenied},
		"a domain, to another one": {mailFromUser("app@acme", "ann@acme-sub.test"), transferred, mail.ReasonFromNotOwned},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t, registry(), nil)
			id, messageID := r.waiting(t, c.letter)
			revoked := c.revoke(registry())
			if revoked == registry() {
				t.Fatal("nothing was revoked")
			}
			r.writeRegistry(t, revoked)
			r.reload(t)
			r.steer(t, api.Retry, id)
			if why := r.isHeld(t, id); why != c.why {
				t.Errorf("it is held for %s, want %s", why, c.why)
			}
			r.steer(t, api.Release, id)
			eventually(t, "it is held again", func() bool { return r.timesHeld(t, id) == 2 })
			r.restart(t)
			r.steer(t, api.Release, id)
			eventually(t, "it is held after a restart", func() bool { return r.timesHeld(t, id) == 3 })
			if j, arrived := r.receiver.Judgement(messageID); arrived {
				t.Fatalf("it arrived: %+v", j)
			}
			r.writeRegistry(t, registry())
			r.reload(t)
			r.steer(t, api.Release, id)
			if j := r.await(t, messageID); !j.Aligned {
				t.Errorf("it arrived as %+v", j)
			}
		})
	}
}

func (r *relay) timesHeld(t *testing.T, id mail.ID) (n int) {
	t.Helper()
	for _, f := range r.facts(t, url.Values{"id": {string(id)}})[id] {
		if f.Event == ledger.Held {
			n++
		}
	}
	return n
}

// withoutDomain takes a domain, and what names it, out of a registry.
func withoutDomain(name string) func(string) string {
	domain := regexp.MustCompile(`(?s)\[\[organisation\.domain\]\]\nname = "` + regexp.QuoteMeta(name) + `".*?(\[\[)`)
	return func(text string) string {
		return strings.ReplaceAll(domain.ReplaceAllString(text, "$1"), `"*@`+name+`", `, "")
	}
}

// transferred is a registry in which acme-sub.test went from acme to globex.
func transferred(text string) string {
	text = withoutDomain("acme-sub.test")(text)
	text = strings.Replace(text, "[[organisation.domain]]\nname = \"globex.test\"",
		"[[organisation.domain]]\nname = \"acme-sub.test\"\ndkim = [ { selector = \"an1e\", algorithm = \"ed25519\", key_file = \"acme-sub.test-an1e.pem\" } ]\n[[organisation.domain]]\nname = \"globex.test\"", 1)
	return strings.Replace(text, `from = ["*@globex.test"]`, `from = ["*@globex.test", "*@acme-sub.test"]`, 1)
}

// DNS alone may take a domain away: then the message that was never attempted is
// asked about too.
func TestMailOfADomainThatDNSGivesToAnotherIsHeld(t *testing.T) {
	r := newRelay(t, registry(), func(i *lab.Internet) { i.Zone.SetTTL(0) })
	id, messageID := r.waiting(t, mailFromUser("app@acme", "ann@acme.test"))
	steered, err := r.api.Steer(t.Context(), api.Hold, api.Selection{All: true}, nil)
	if err != nil || steered.Recipients != 1 {
		t.Fatalf("held: %+v, %v", steered, err)
	}
	r.internet.Zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=globex")
	r.status(t) // looks every domain up
	r.steer(t, api.Release, id)
	eventually(t, "it is held", func() bool { return r.timesHeld(t, id) == 2 })
	if held := r.queued(t, id, custody.StateHeld); len(held) != 1 || held[0].Reason != mail.ReasonDomainUnverified {
		t.Errorf("it is held as %+v", held)
	}
	if _, answer := r.send(t, mailFromUser("app@acme", "ann@acme.test")); answer.reason != mail.ReasonDomainUnverified {
		t.Errorf("new mail was answered %s", answer)
	}
	r.internet.Zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=acme")
	r.status(t)
	r.steer(t, api.Release, id)
	r.await(t, messageID)
}

// The procedure of a transfer: the registry moves the domain, the new owner proves
// it in DNS, and only then may use it.
func TestADomainThatMovesIsTheNewOwnersOnlyWithItsOwnProof(t *testing.T) {
	r := newRelay(t, registry(), func(i *lab.Internet) { i.Zone.SetTTL(0) })
	byOld, byNew := mailFromUser("app@acme", "ann@acme-sub.test"), mailFromUser("app@globex", "bea@acme-sub.test")
	id, messageID := r.waiting(t, byOld)
	if _, answer := r.send(t, byNew); answer.reason != mail.ReasonFromNotOwned {
		t.Errorf("before, the new owner was answered %s", answer)
	}
	r.writeRegistry(t, transferred(registry()))
	r.reload(t)
	r.steer(t, api.Retry, id)
	if why := r.isHeld(t, id); why != mail.ReasonFromNotOwned {
		t.Errorf("the old owner's mail is held for %s", why)
	}
	if _, answer := r.send(t, byOld); answer.reason != mail.ReasonFromNotOwned {
		t.Errorf("the old owner was answered %s", answer)
	}
	if _, answer := r.send(t, byNew); answer.reason != mail.ReasonDomainUnverified {
		t.Errorf("without a proof the new owner was answered %s", answer)
	}
	r.internet.Zone.SetTXT("_anechoic.acme-sub.test", "v=anechoic1; org=globex")
	r.status(t)
	byNew = mailFromUser("app@globex", "bea@acme-sub.test")
	if _, answer := r.send(t, byNew); answer.code != 250 {
		t.Errorf("with its proof the new owner was answered %s", answer)
	}
	_, rest, _ := strings.Cut(byNew.data, "Message-ID: ")
	if j := r.await(t, rest[:strings.Index(rest, "\r\n")]); !j.Aligned {
		t.Errorf("it arrived as %+v", j)
	}
	r.steer(t, api.Release, id)
	eventually(t, "it is held again", func() bool { return r.timesHeld(t, id) == 2 })
	if _, arrived := r.receiver.Judgement(messageID); arrived {
		t.Error("the old owner's mail arrived")
	}
}

// The procedure of a closing: what is queued is held, the id is never used again
// but by the same organisation, with a person's word.
func TestAnOrganisationThatLeftLeavesItsIdBehind(t *testing.T) {
	r := newRelay(t, registry(), nil)
	id, messageID := r.waiting(t, mailFromUser("app@globex", "ann@globex.test"))
	record := func(verb api.Verb, dryRun bool) (api.OrganisationRecord, error) {
		return r.api.SteerOrganisation(t.Context(), verb, "globex", api.OrganisationWish{DryRun: dryRun})
	}
	if o, err := record(api.CloseOrganisation, true); err != nil || o.Queued != 1 || !o.InRegistry || o.State != api.OrganisationOpen {
		t.Errorf("before: %+v, %v", o, err)
	}
	if _, err := record(api.CloseOrganisation, false); err == nil {
		t.Error("it was closed while it is in the registry")
	}
	if _, err := record(api.ReopenOrganisation, false); err == nil {
		t.Error("it was reopened while it is open")
	}
	gone := regexp.MustCompile(`(?s)\[\[organisation\]\]\nid = "globex".*?(\[\[organisation\]\])`).ReplaceAllString(registry(), "$1")
	r.writeRegistry(t, gone)
	r.reload(t)
	if o, err := record(api.CloseOrganisation, false); err != nil || o.Queued != 1 || o.InRegistry || o.State != api.OrganisationClosed || o.Closed == nil {
		t.Errorf("closed: %+v, %v", o, err)
	}
	r.isHeld(t, id)
	r.steer(t, api.Release, id)
	eventually(t, "it is held again", func() bool { return r.timesHeld(t, id) == 2 })

	r.restart(t)
	r.writeRegistry(t, registry())
	err := r.app.Reload(t.Context())
	if problems := api.ListProblems(err); len(problems) != 1 || !strings.Contains(problems[0].String(), "anechoic org reopen globex") {
		t.Fatalf("the registry that names it again: %v", err)
	}
	if _, err := record(api.ReopenOrganisation, false); err != nil {
		t.Fatal(err)
	}
	r.writeRegistry(t, gone)
	r.reload(t) // it stays reopened until it is there
	r.writeRegistry(t, registry())
	r.reload(t)
	r.steer(t, api.Release, id)
	r.await(t, messageID)
	list, err := r.api.Organisations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		if o.State != api.OrganisationOpen || !o.InRegistry || o.Generation == 0 {
			t.Errorf("afterwards: %+v", o)
		}
	}
}
