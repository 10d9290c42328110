package acceptance

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/signing"
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
		{id: "A50", scenario: "the provider's list fails", variants: []variant{
			feed("nothing", ""),
			feed("comments only", "# 40.92.0.0/15\n"),
			feed("everything", "0.0.0.0/0\n"),
			feed("everything in IPv6, beside the right ones", goodFeed+"::/0\n"),
			feed("half of everything, twice", goodFeed+"0.0.0.0/1\n128.0.0.0/1\n"),
			feed("most is gone", "40.107.0.0/24\n2a01:111:f400::/48\n2a01:111:f403::/48\n"),
			feed("IPv6 is gone", "40.92.0.0/15\n40.107.0.0/16\n52.100.0.0/14\n104.47.0.0/17\n"),
			feed("it grew wildly", goodFeed+"51.0.0.0/8\n"),
			feed("the attacker's address among a thousand others", goodFeed+manyNetworks()),
			feed("an error page", "<html><body>503 Service Unavailable</body></html>\n"),
			feed("half a line", goodFeed+"51.68.66.0"),
			feed("bits below the prefix", goodFeed+"51.68.66.6/16\n"),
			does("it is gone, and so is the memory of the process", feedGone),
			does("a change that can be believed is taken", feedChanges),
		}},
		{id: "A62", scenario: "revoked while queued", variants: []variant{
			revoked("the tenant", edit(acme.GUID, "77777777-7777-4777-8777-777777777777"), mailFromMicrosoft(acme, "ann@acme.test"), mail.ReasonTenantNotAuthorized),
			revoked("the credential", edit(`username = "app@acme"`, `username = "app2@acme"`), mailFromUser("app@acme", "ann@acme.test"), mail.ReasonRelayDenied),
			revoked("the whole source", removeSource("app"), mailFromUser("app@acme", "ann@acme.test"), mail.ReasonTenantNotAuthorized),
			revoked("what the source may send as", edit(`from = ["*@acme.test", `, `from = [`), mailFromUser("app@acme", "ann@acme.test"), mail.ReasonSourceNotAllowed),
			revoked("the domain, given to another organisation", strings.NewReplacer("globex.test", "attack.com", "attack.com", "globex.test").Replace, mailFromUser("app@globex", "ann@globex.test"), mail.ReasonFromNotOwned),
			revoked("the address", edit("203.0.113.11/32", "203.0.113.13/32"), mailFromAddress(printer, "ann@acme.test"), mail.ReasonRelayDenied),
			revoked("the certificate's key", edit(spki("gateway"), spki("stranger")), mailWithCertificate("gateway", "ann@acme.test"), mail.ReasonRelayDenied),
			revoked("the workspace", removeSource("workspace"), mailFromGoogle(wonka, "willy@wonka.test"), mail.ReasonTenantNotAuthorized),
			revoked("the workspace's secret", edit(digest(wonkaSecret), digest(replacement)), mailFromGoogle(wonka, "willy@wonka.test"), mail.ReasonRelayDenied),
			revoked("the workspace's selector", edit(`"google", "weak"`, `"weak"`), mailFromGoogle(wonka, "willy@wonka.test"), mail.ReasonRelayDenied),
			revoked("a domain's identity at the workspace", edit(`, { domain = "a-b.test", selectors = ["google"] }`, ""), mailFromGoogleUnsigned(wonka, "x@a-b.test").byGoogle("a-b.test"), mail.ReasonRelayDenied),
			revoked("another domain's identity at the workspace", edit(`, { domain = "a-b.test", selectors = ["google"] }`, ""), mailFromGoogle(wonka, "willy@wonka.test"), ""),
			revoked("nothing: the workspace's secret rotates, the old one is still listed", edit(`"`+digest(wonkaSecret), `"`+digest(replacement)+`", "`+digest(wonkaSecret)), mailFromGoogle(wonka, "willy@wonka.test"), ""),
			revoked("nothing: another selector of the workspace's is gone", edit(`"google", "weak"`, `"google"`), mailFromGoogle(wonka, "willy@wonka.test"), ""),
			revoked("the tenant's secret", edit(digest(acmeSecret), digest(replacement)), mailFromMicrosoft(acme, "ann@acme.test"), mail.ReasonRelayDenied),
			revoked("nothing: the next of the tenant's secrets is gone", edit(`, "`+digest(acmeNextSecret)+`"`, ""), mailFromMicrosoft(acme, "ann@acme.test"), ""),
			revoked("the certificate's secret", edit(digest(deviceSecret), digest(replacement)), mailWithCertificate("device", "x@initech.test").topped("X-Initech-Device-Relay-Key: "+deviceSecret), mail.ReasonRelayDenied),
			revoked("Microsoft's signature as the second proof", edit("require_dkim = true", `secret_header = { name = "X-Globex-Relay-Key", sha256 = ["`+digest(replacement)+`"] }`), microsoftSigned(globex, "globex.test", "ann@globex.test"), mail.ReasonRelayDenied),
			revoked("the provider domain that signed", edit(`provider_domains = ["globex.onmicrosoft.com"]`, ""), mailFromMicrosoft(globex, "ann@globex.test").signed("globex.onmicrosoft.com", "selector1-globex-test", microsoftKey), mail.ReasonRelayDenied),
			revoked("the other tenant of hybrid mail", edit(acme.GUID, "77777777-7777-4777-8777-777777777777"), mailThrough(acme, lab.Hybrid, hybrid, "ann@acme.test"), mail.ReasonTenantNotAuthorized),
			does("the key", keyRevoked),
			does("one of two keys: what it signed is held, what follows is signed by the other", oneKeyRevoked),
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

// goodFeed is the provider's ranges of relay.toml, as a feed has them.
const goodFeed = "40.92.0.0/15\n40.107.0.0/16\n52.100.0.0/14\n104.47.0.0/17\n2a01:111:f400::/48\n2a01:111:f403::/48\n"

// manyNetworks are a thousand networks with the attacker's among them.
func manyNetworks() string {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "51.%d.%d.0/22\n", 60+i/64, 4*(i%64))
	}
	return b.String()
}

// feed: a bad list changes nothing but the findings.
func feed(name, text string) variant {
	return does(name, func(t *testing.T, _ *relay) {
		r := fedRelay(t)
		r.write(t, "eop.txt", text)
		r.reload(t)
		r.lastGoodStays(t)
	})
}

// fedRelay is a relay whose provider's ranges come from a file.
func fedRelay(t *testing.T) *relay {
	r := newRelay(t, registry(), nil)
	r.write(t, "eop.txt", goodFeed)
	r.write(t, "relay.toml", edit("[providers.microsoft365]\n", "[providers.microsoft365]\nfeed = \"eop.txt\"\n")(nodeFor(r)))
	r.reload(t)
	if n := r.feedFindings(t); n != 0 {
		t.Fatalf("%d findings about a good feed", n)
	}
	return r
}

// lastGoodStays: honest mail passes, the attacker's addresses are nobody's, and
// the status says that the feed is not used.
func (r *relay) lastGoodStays(t *testing.T) {
	t.Helper()
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test").peerIs(eopIPv6))
	for _, peer := range []string{vps, vpsNamed, azure, "2001:db8::66"} {
		if stage, answer := r.send(t, mailFromMicrosoft(acme, "ann@acme.test").peerIs(peer)); stage != atRcpt || answer.reason != mail.ReasonRelayDenied {
			t.Errorf("%s: at %s: %s", peer, stage, answer)
		}
	}
	if stage, answer := r.send(t, mailFromMicrosoft(acme, "ann@acme.test").peerIs(pool)); answer.reason != mail.ReasonRelayPool {
		t.Errorf("the pool: at %s: %s", stage, answer)
	}
	if r.feedFindings(t) != 1 {
		t.Error("the findings do not say that the feed is not used")
	}
}

func (r *relay) feedFindings(t *testing.T) (n int) {
	t.Helper()
	status, err := r.api.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range status.Findings {
		if strings.Contains(f.Text, "the feed of provider microsoft365 is not used") {
			n++
		}
	}
	return n
}

func feedGone(t *testing.T, _ *relay) {
	r := fedRelay(t)
	if err := os.Remove(filepath.Join(r.dir, "eop.txt")); err != nil {
		t.Fatal(err)
	}
	r.restart(t)
	r.lastGoodStays(t)
}

// feedChanges: an added network counts from the reload on, and over a restart
// with a bad file too.
func feedChanges(t *testing.T, _ *relay) {
	r := fedRelay(t)
	const added = "198.18.40.1"
	r.internet.Zone.SetPTR(netip.MustParseAddr(added), "mail-n.outbound.protection.outlook.com")
	r.internet.Zone.SetAddresses("mail-n.outbound.protection.outlook.com", netip.MustParseAddr(added))
	l := mailFromMicrosoft(acme, "ann@acme.test").peerIs(added)
	if _, answer := r.send(t, l); answer.reason != mail.ReasonRelayDenied {
		t.Errorf("before: %s", answer)
	}
	r.write(t, "eop.txt", goodFeed+"198.18.40.0/24\n")
	r.reload(t)
	r.acceptedAndDelivered(t, l)
	r.write(t, "eop.txt", "0.0.0.0/0\n")
	r.restart(t)
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test").peerIs(added))
	r.lastGoodStays(t)
}

// keyRevoked: what a revoked key signed is held for good, and the key signs no
// more.
func keyRevoked(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), nil)
	id, l := r.busy(t, mailFromUser("app@globex", "ann@globex.test"))
	if _, err := r.api.SteerKeys(t.Context(), signing.VerbRevoke, "globex", "globex.test", api.KeyOrder{Selector: "an1e"}); err != nil {
		t.Fatal(err)
	}
	r.retry(t, id)
	r.heldFor(t, id, mail.ReasonKeyRevoked)
	if _, err := r.api.Steer(t.Context(), api.Release, api.Selection{IDs: []mail.ID{id}}, nil); err != nil {
		t.Fatal(err)
	}
	r.heldAgain(t, id)
	if stage, answer := r.send(t, mailFromUser("app@globex", "ann@globex.test")); answer.code/100 != 4 {
		t.Errorf("new mail: at %s: %s", stage, answer)
	}
	r.restart(t)
	if stage, answer := r.send(t, mailFromUser("app@globex", "ann@globex.test")); answer.code/100 != 4 {
		t.Errorf("new mail after a restart: at %s: %s", stage, answer)
	}
	r.acceptedAndDelivered(t, mailFromMicrosoft(initech, "marker@initech.test"))
	if _, arrived := r.receiver.Judgement(messageID(l.data)); arrived {
		t.Error("it was sent")
	}
}

func oneKeyRevoked(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), nil)
	id, l := r.busy(t, mailFromUser("app@acme", "ann@acme.test"))
	if _, err := r.api.SteerKeys(t.Context(), signing.VerbRevoke, "acme", "acme.test", api.KeyOrder{Selector: "an1e"}); err != nil {
		t.Fatal(err)
	}
	r.retry(t, id)
	r.heldFor(t, id, mail.ReasonKeyRevoked)
	j := r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
	if len(j.SignedBy) != 1 || strings.Contains(string(j.Data), "s=an1e;") {
		t.Errorf("signed by %v:\n%s", j.SignedBy, j.Data)
	}
	if _, arrived := r.receiver.Judgement(messageID(l.data)); arrived {
		t.Error("it was sent")
	}
}

// busy has a letter accepted and tried once, by a receiver that will take it next
// time.
func (r *relay) busy(t *testing.T, l letter) (mail.ID, letter) {
	t.Helper()
	r.receiver.Answer("busy.test", "451 4.2.1 busy")
	l = l.recipients("victim@busy.test")
	stage, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	id := acceptedID(answer)
	r.tried(t, id, 1)
	r.receiver.Answer("busy.test", "")
	return id, l
}

func (r *relay) heldFor(t *testing.T, id mail.ID, reason mail.Reason) {
	t.Helper()
	eventually(t, "the message to be held", func() bool {
		q, err := r.api.Queued(t.Context(), id)
		return err == nil && q.Recipients[0].State == custody.StateHeld && q.Recipients[0].Reason == reason
	})
}

// heldAgain waits for the fact that a released message was held anew.
func (r *relay) heldAgain(t *testing.T, id mail.ID) {
	t.Helper()
	eventually(t, "it to be held again", func() bool {
		facts := r.facts(t, url.Values{"id": {string(id)}, "event": {string(ledger.Held)}})
		return len(facts[id]) >= 2
	})
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
	if done, err := r.api.Steer(t.Context(), api.Retry, api.Selection{IDs: []mail.ID{id}}, nil); err != nil || done.Messages != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
}

// revoked: what was accepted and could not be delivered yet is held when the
// registry that permitted it changes, and not sent. With an empty reason the
// change is another's, and the message is sent.
func revoked(name string, change func(string) string, l letter, reason mail.Reason) variant {
	return does(name, func(t *testing.T, _ *relay) {
		r := newRelay(t, registry(), publishMicrosoftKeys)
		id, l := r.busy(t, l)
		changed := change(registry())
		if changed == registry() {
			t.Fatal("nothing was changed")
		}
		r.writeRegistry(t, changed)
		r.reload(t)
		r.retry(t, id)
		if reason == "" {
			r.await(t, messageID(l.data))
			return
		}
		r.heldFor(t, id, reason)
		r.acceptedAndDelivered(t, mailFromMicrosoft(initech, "marker@initech.test"))
		if _, arrived := r.receiver.Judgement(messageID(l.data)); arrived {
			t.Error("it was sent")
		}
		r.restoredAndReleased(t, id, l)
	})
}

// replacement is a secret that comes after another.
var replacement = org.NewSecret()

// restoredAndReleased: once the registry permits it again, a release sends it.
func (r *relay) restoredAndReleased(t *testing.T, id mail.ID, l letter) {
	t.Helper()
	if _, err := r.api.Steer(t.Context(), api.Release, api.Selection{IDs: []mail.ID{id}}, nil); err != nil {
		t.Fatal(err)
	}
	r.heldAgain(t, id)
	r.writeRegistry(t, registry())
	r.reload(t)
	if _, err := r.api.Steer(t.Context(), api.Release, api.Selection{IDs: []mail.ID{id}}, nil); err != nil {
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
