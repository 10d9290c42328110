package acceptance

import (
	"fmt"
	"strings"
	"testing"

	"anechoic/lab"
	"anechoic/mail"
)

// newLimited is a relay with limits of its own.
func newLimited(t *testing.T, limits string) *relay {
	t.Helper()
	r := newRelay(t, registry(), nil)
	r.write(t, "relay.toml", nodeFor(r)+"[limits]\n"+limits+"\n")
	r.restart(t)
	return r
}

// putOff wants a letter to be answered with 451 RATE_LIMITED, on a connection that
// stays open for the next.
func (r *relay) putOff(t *testing.T, what string, l letter) {
	t.Helper()
	if stage, answer := r.send(t, l); stage != atData || answer.code != 451 || answer.enhanced != "4.7.28" || answer.reason != mail.ReasonRateLimited {
		t.Errorf("%s: at %s: %s", what, stage, answer)
	}
}

// refusedFor wants a letter to be refused as ever.
func (r *relay) refusedFor(t *testing.T, what string, reason mail.Reason, l letter) {
	t.Helper()
	if _, answer := r.send(t, l); answer.code != 550 || answer.reason != reason {
		t.Errorf("%s: %s", what, answer)
	}
}

// floodVariants: a provider's addresses are shared, so a flood through them is put
// off by tenant and claimed organisation, and by nothing else.
func floodVariants() []variant {
	return []variant{
		does("a flood through a tenant, as one organisation", tenantFlood),
		does("a flood without stamps, as one organisation", unstampedFlood),
		does("a flood through Google, as one organisation", googleFlood),
		does("a flood with the organisation's own tenant id, from where no name is confirmed", unconfirmedFlood),
	}
}

// used is how many refusals the relays of these tests allow.
const used = 3

func tenantFlood(t *testing.T, _ *relay) {
	r := newLimited(t, fmt.Sprintf("refused_per_claim = %d", used))
	spoof := func(n int) letter { return mailFromMicrosoft(attacker, fmt.Sprintf("ceo%d@acme.test", n)) }
	for n := range used {
		r.refusedFor(t, "a spoof", mail.ReasonTenantNotAuthorized, spoof(n))
	}
	r.putOff(t, "one more", spoof(used))
	r.putOff(t, "from another host", spoof(used).peerIs(eopSecond))
	r.putOff(t, "over IPv6", spoof(used).peerIs(eopIPv6))
	r.putOff(t, "with another MAIL FROM", spoof(used).sender("x@evil.test"))
	r.putOff(t, "as another domain of the organisation", mailFromMicrosoft(attacker, "ceo@acme-sub.test"))

	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(initech, "ann@initech.test"))
	r.acceptedAndDelivered(t, mailThrough(acme, lab.Hybrid, hybrid, "ann@acme.test"))
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
	r.refusedFor(t, "the same tenant as another organisation", mail.ReasonTenantNotAuthorized, mailFromMicrosoft(attacker, "ceo@globex.test"))
	r.refusedFor(t, "another tenant as the same organisation", mail.ReasonFromNotOwned, mailFromMicrosoft(initech, "ceo@acme.test"))
	r.sameConnection(t, spoof(used), mailFromMicrosoft(acme, "bob@acme.test"))
}

// sameConnection: what is put off does not close a connection, for the next
// message on it may be a customer's.
func (r *relay) sameConnection(t *testing.T, flood, honest letter) {
	t.Helper()
	c, answer := r.open(t, flood)
	if c == nil {
		t.Fatal(answer)
	}
	for _, l := range []letter{flood, flood, honest} {
		c.must(250, "MAIL FROM:<"+l.from+">")
		c.must(250, "RCPT TO:<x@"+mailbox+">")
		c.must(354, "DATA")
		c.write(stuffed(l.data) + ".\r\n")
		want := 451
		if l.data == honest.data {
			want = 250
		}
		if answer := c.reply(); answer.code != want {
			t.Errorf("%s, want %d", answer, want)
		}
	}
	r.await(t, messageID(honest.data))
}

func unstampedFlood(t *testing.T, _ *relay) {
	r := newLimited(t, fmt.Sprintf("refused_per_claim = %d", used))
	for range used {
		r.refusedFor(t, "a spoof", mail.ReasonAttributionMissing, mailFromNobody(eop, "ceo@acme.test"))
	}
	r.putOff(t, "one more", mailFromNobody(eop, "ceo@acme.test"))
	r.refusedFor(t, "as another organisation", mail.ReasonAttributionMissing, mailFromNobody(eop, "ceo@globex.test"))
	r.refusedFor(t, "through a tenant", mail.ReasonTenantNotAuthorized, mailFromMicrosoft(attacker, "ceo@acme.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
}

func googleFlood(t *testing.T, _ *relay) {
	r := newLimited(t, fmt.Sprintf("refused_per_claim = %d", used))
	spoof := mailFromNobody(gmail, "ceo@wonka.test")
	for range used {
		r.refusedFor(t, "a spoof", mail.ReasonSecondProofMissing, spoof)
	}
	r.putOff(t, "one more", spoof)
	r.refusedFor(t, "as another organisation", mail.ReasonSecondProofMissing, mailFromNobody(gmail, "ceo@oompa.test"))
	r.acceptedAndDelivered(t, mailFromGoogle(wonka, "willy@wonka.test"))
	r.acceptedAndDelivered(t, mailFromGoogle(oompa, "ann@oompa.test"))
}

func unconfirmedFlood(t *testing.T, _ *relay) {
	r := newLimited(t, fmt.Sprintf("refused_per_claim = %d", used))
	spoof := mailFromMicrosoft(acme, "ceo@acme.test").peerIs(eopNoPTR)
	for range used {
		r.refusedFor(t, "a spoof", mail.ReasonPeerNotEOP, spoof)
	}
	r.putOff(t, "one more", spoof)
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
}

// capOfReports: reports have a budget of their own beside the source's, so that a
// loop of automatic answers ends, and ordinary mail goes on.
func capOfReports(t *testing.T, _ *relay) {
	r := newLimited(t, "reports_per_hour = 2")
	report := func(user string) letter {
		_, domain, _ := strings.Cut(user, "@")
		return mailFromUser(user, "ann@"+domain+".test", "Auto-Submitted: auto-replied").sender("")
	}
	for range 2 {
		r.acceptedAndDelivered(t, report("app@acme"))
	}
	r.putOff(t, "a third report", report("app@acme"))
	r.putOff(t, "with another From", mailFromUser("app@acme", "bob@acme-sub.test", "Auto-Submitted: auto-generated").sender(""))
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
	r.acceptedAndDelivered(t, report("app@globex"))
}

// notKeptNotPaid: a message that is refused after its budget was taken gives it
// back: ten tries of a source with three messages an hour wait for their key.
func notKeptNotPaid(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), func(n *lab.Internet) {
		for selector := range keysOf(acmeTest) {
			n.Zone.Remove(selector + "._domainkey." + acmeTest)
		}
	})
	l := mailFromUser("limited@acme", "a@acme.test")
	for range 10 {
		if _, answer := r.send(t, l); answer.code != 451 || answer.reason != mail.ReasonKeyNotPublished {
			t.Fatalf("not for its key: %s", answer)
		}
	}
}

// guessingNames: wrong passwords for many names use up the network's budget; a
// user who logged in from there before, and everybody elsewhere, logs in.
func guessingNames(t *testing.T, _ *relay) {
	r := newLimited(t, "auth_failures_per_peer = 10")
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test").peerIs(vps))
	for i := range 10 {
		if _, answer := r.send(t, mailFromUser("app@acme", "ann@acme.test").with(fmt.Sprint("user", i), "guess").peerIs(vps)); answer.code != 535 {
			t.Fatal(answer)
		}
	}
	if _, answer := r.send(t, mailFromUser("app@globex", "ann@globex.test").peerIs(vps)); answer.code != 454 {
		t.Errorf("a stranger there: %s", answer)
	}
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test").peerIs(vps))
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "ann@globex.test"))
}
