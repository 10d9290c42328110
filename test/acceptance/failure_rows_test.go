package acceptance

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

// failureRows: what is uncertain is put off, what is revoked is not sent.
func failureRows() []row {
	return []row{
		{id: "A49", scenario: "DNS does not answer", variants: []variant{
			does("domain proof, key and peer's name: put off, and accepted when it is over", dnsOutage),
			does("no key is published", keyNotPublished),
			does("one of two keys is published", oneKeyPublished),
			does("a record that publishes another key", otherKeyPublished),
			does("the domain's record is not there", domainUnverified),
			does("the recipient's domain does not resolve: kept, and delivered when it does", recipientOutage),
		}},
		{id: "A62", scenario: "revoked while queued", variants: []variant{
			revoked("the tenant", edit(acme.GUID, "77777777-7777-4777-8777-777777777777"), mailFromMicrosoft(acme, "ann@acme.test"), mail.ReasonTenantNotAuthorized),
			revoked("the credential", edit(`username = "app@acme"`, `username = "app2@acme"`), mailFromUser("app@acme", "ann@acme.test"), mail.ReasonRelayDenied),
			revoked("the whole source", removeSource("app"), mailFromUser("app@acme", "ann@acme.test"), mail.ReasonTenantNotAuthorized),
			revoked("what the source may send as", edit(`from = ["*@acme.test", `, `from = [`), mailFromUser("app@acme", "ann@acme.test"), mail.ReasonSourceNotAllowed),
			revoked("the domain, given to another organisation", strings.NewReplacer("globex.test", "attack.com", "attack.com", "globex.test").Replace, mailFromUser("app@globex", "ann@globex.test"), mail.ReasonFromNotOwned),
			revoked("something of another organisation's", edit(initech.GUID, "77777777-7777-4777-8777-777777777777"), mailFromUser("app@globex", "ann@globex.test"), ""),
		}},
	}
}

// dnsOutage: the look-ups that a decision rests on fail, one after the other.
func dnsOutage(t *testing.T, _ *relay) {
	tenant, application := mailFromMicrosoft(acme, "ann@acme.test"), mailFromUser("app@globex", "ann@globex.test")
	byMicrosoft := microsoftSigned(globex, "globex.test", "ceo@globex.test")
	for name, l := range map[string]letter{
		"_anechoic.globex.test":                                   application,
		reverse(netip.MustParseAddr(eop)):                         tenant,
		"an1e._domainkey.globex.test":                             application,
		"selector1-globex-test._domainkey.globex.onmicrosoft.com": byMicrosoft,
	} {
		t.Run(name, func(t *testing.T) { outage(t, name, l, mail.ReasonLookupFailed) })
	}
	t.Run("of another's key, which does not matter", func(t *testing.T) {
		r := newRelay(t, registry(), func(n *lab.Internet) {
			publishMicrosoftKeys(n)
			n.Zone.SetFault("selector1-initech-test._domainkey.initech.onmicrosoft.com", true)
		})
		r.acceptedAndDelivered(t, byMicrosoft)
	})
}

// outage: while a name does not resolve, a letter that is right in everything
// else is neither accepted nor refused for good; when it is over, the same letter
// passes.
func outage(t *testing.T, name string, l letter, reason mail.Reason) {
	r := newRelay(t, registry(), func(n *lab.Internet) { publishMicrosoftKeys(n); n.Zone.SetFault(name, true) })
	stage, answer := r.send(t, l)
	if stage != atData || answer.code != 451 || answer.reason != reason {
		t.Errorf("at %s: %s", stage, answer)
	}
	for range 3 { // no number of tries wears it down
		if _, again := r.send(t, l); again.code/100 != 4 {
			t.Errorf("again: %s", again)
		}
	}
	if n := len(r.receiver.Judgements()); n > 0 {
		t.Errorf("%d messages arrived", n)
	}
	r.internet.Zone.SetFault(name, false)
	r.restart(t) // that failures are remembered for a few seconds is another test's matter
	r.acceptedAndDelivered(t, l)
	if n := len(r.receiver.Judgements()); n != 1 {
		t.Errorf("%d messages arrived", n)
	}
	r.deferredInLedger(t, answer)
}

// deferredInLedger wants the fact of a 451.
func (r *relay) deferredInLedger(t *testing.T, answer reply) {
	t.Helper()
	if !slices.ContainsFunc(r.facts(t, url.Values{})[answer.id], func(f ledger.Fact) bool {
		return f.Event == ledger.Refused && f.Reason == answer.reason && f.Disposition == ledger.DispositionDeferred
	}) {
		t.Errorf("the ledger has no %s with id %s", answer.reason, answer.id)
	}
}

func keyNotPublished(t *testing.T, _ *relay) {
	const name = "an1e._domainkey.globex.test"
	r := newRelay(t, registry(), func(n *lab.Internet) { n.Zone.Remove(name) })
	l := mailFromUser("app@globex", "ann@globex.test")
	stage, answer := r.send(t, l)
	if stage != atData || answer.code != 451 || answer.enhanced != "4.7.5" || answer.reason != mail.ReasonKeyNotPublished {
		t.Errorf("at %s: %s", stage, answer)
	}
	r.internet.Publish(name, dkim.RecordValue(keys()["globex.test/an1e"].Public()))
	r.restart(t)
	if j := r.acceptedAndDelivered(t, l); !j.Aligned {
		t.Errorf("it left without a signature that holds")
	}
	r.deferredInLedger(t, answer)
}

func oneKeyPublished(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), func(n *lab.Internet) { n.Zone.Remove("an1._domainkey.acme.test") })
	j := r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
	if len(j.SignedBy) != 1 || !j.Aligned || strings.Count(string(j.Data), "DKIM-Signature:") != 1 {
		t.Errorf("signed by %v:\n%s", j.SignedBy, j.Data)
	}
}

func otherKeyPublished(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), func(n *lab.Internet) {
		n.Publish("an1e._domainkey.globex.test", dkim.RecordValue(keys()["initech.test/an1e"].Public()))
	})
	if stage, answer := r.send(t, mailFromUser("app@globex", "ann@globex.test")); answer.code != 451 || answer.reason != mail.ReasonKeyNotPublished {
		t.Errorf("at %s: %s", stage, answer)
	}
}

func domainUnverified(t *testing.T, _ *relay) {
	for name, record := range map[string]string{
		"absent": "", "of another organisation": "v=anechoic1; org=acme", "of another relay": "v=anechoic1; org=globex; relay=other.test",
		"with a repeated tag": "v=anechoic1; org=globex; org=globex", "of no version": "org=globex",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t, registry(), func(n *lab.Internet) {
				n.Zone.Remove("_anechoic.globex.test")
				if record != "" {
					n.Zone.SetTXT("_anechoic.globex.test", record)
				}
			})
			if stage, answer := r.send(t, mailFromUser("app@globex", "ann@globex.test")); answer.code != 550 || answer.reason != mail.ReasonDomainUnverified {
				t.Errorf("at %s: %s", stage, answer)
			}
			r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test")) // others are not touched
		})
	}
}

func recipientOutage(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), func(n *lab.Internet) { n.Zone.SetFault("second.test", true) })
	l := mailFromUser("app@globex", "ann@globex.test").recipients("victim@second.test")
	stage, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	r.tried(t, acceptedID(answer), 1)
	r.internet.Zone.SetFault("second.test", false)
	r.restart(t)
	r.retry(t, acceptedID(answer))
	r.await(t, messageID(l.data))
}

// tried waits until a message was attempted so often.
func (r *relay) tried(t *testing.T, id mail.ID, attempts int) {
	t.Helper()
	eventually(t, "an attempt that fails for now", func() bool {
		q, err := r.api.Queued(t.Context(), id)
		return err == nil && q.Recipients[0].State == custody.StateQueued && q.Recipients[0].Attempts >= attempts
	})
}

// retry makes a message due now.
func (r *relay) retry(t *testing.T, id mail.ID) {
	t.Helper()
	if done, err := r.api.Steer(t.Context(), api.Retry, api.Selection{IDs: []mail.ID{id}}); err != nil || done.Messages != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
}

// revoked: what was accepted and could not be delivered yet is held when the
// registry that permitted it changes, and not sent. With an empty reason the
// change is another's, and the message is sent.
func revoked(name string, change func(string) string, l letter, reason mail.Reason) variant {
	return does(name, func(t *testing.T, _ *relay) {
		r := newRelay(t, registry(), nil)
		r.receiver.Answer("busy.test", "451 4.2.1 busy")
		l := l.recipients("victim@busy.test")
		stage, answer := r.send(t, l)
		if answer.code != 250 {
			t.Fatalf("at %s: %s", stage, answer)
		}
		id := acceptedID(answer)
		r.tried(t, id, 1)
		r.receiver.Answer("busy.test", "")
		r.writeRegistry(t, change(registry()))
		r.reload(t)
		r.retry(t, id)
		if reason == "" {
			r.await(t, messageID(l.data))
			return
		}
		eventually(t, "the message to be held", func() bool {
			q, err := r.api.Queued(t.Context(), id)
			return err == nil && q.Recipients[0].State == custody.StateHeld && q.Recipients[0].Reason == reason
		})
		r.acceptedAndDelivered(t, mailFromMicrosoft(initech, "marker@initech.test"))
		if _, arrived := r.receiver.Judgement(messageID(l.data)); arrived {
			t.Error("it was sent")
		}
		r.restoredAndReleased(t, id, l)
	})
}

// restoredAndReleased: once the registry permits it again, a release sends it.
func (r *relay) restoredAndReleased(t *testing.T, id mail.ID, l letter) {
	t.Helper()
	if _, err := r.api.Steer(t.Context(), api.Release, api.Selection{IDs: []mail.ID{id}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it to be held again", func() bool {
		facts := r.facts(t, url.Values{"id": {string(id)}, "event": {string(ledger.Held)}})
		return len(facts[id]) >= 2
	})
	r.writeRegistry(t, registry())
	r.reload(t)
	if _, err := r.api.Steer(t.Context(), api.Release, api.Selection{IDs: []mail.ID{id}}); err != nil {
		t.Fatal(err)
	}
	r.await(t, messageID(l.data))
}

// removeSource takes a [[organisation.source]] of an id out.
func removeSource(id string) func(string) string {
	return func(text string) string {
		start := strings.Index(text, "[[organisation.source]]\nid = \""+id+"\"")
		end := start + 1 + strings.Index(text[start+1:], "[[")
		return text[:start] + text[end:]
	}
}
