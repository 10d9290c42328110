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

// evasions: whatever a message claims, and however it is split, it pays from the
// accounts of who was proven.
func evasions() []variant {
	return []variant{
		does("with every MAIL FROM, local part, domain, peer and number of recipients", rotatingWhatIsClaimed),
		does("through every source of an organisation", throughManySources),
		does("through every source, as one domain", asOneDomain),
		does("to one recipient domain, in small pieces", toOneRecipientDomain),
		does("by sending again what was put off", patienceIsPaidOnce),
		does("by a source that was added today", aNewSourceStartsSmall),
		does("over a restart and a reload", overARestart),
	}
}

// withLimits is the matrix's registry with a line put behind another.
func withLimits(t *testing.T, behind, line string) string {
	t.Helper()
	text := registry()
	if !strings.Contains(text, behind) {
		t.Fatalf("the registry has no %q", behind)
	}
	return strings.Replace(text, behind, behind+line+"\n", 1)
}

// Places in the registry that limits are written behind.
const (
	ofAcme       = "[[organisation]]\nid = \"acme\"\nname = \"acme\"\n"
	ofAcmeDomain = "name = \"acme.test\"\nsubdomains = false\n"
	ofLimited    = "from = [\"*@acme.test\"]\nlimits = { messages_per_hour = 3, recipients_per_day = 5 }\n"
)

// withSource is the registry with other limits for limited@acme.
func withSource(t *testing.T, limits string) string {
	t.Helper()
	return strings.Replace(withLimits(t, ofLimited, ""), ofLimited, "from = [\"*@acme.test\"]\nlimits = "+limits+"\n", 1)
}

// taken counts the letters that were taken; the others have to be put off.
func (r *relay) taken(t *testing.T, letters ...letter) (n int) {
	t.Helper()
	for i, l := range letters {
		stage, answer := r.send(t, l)
		switch {
		case answer.code == 250:
			n++
		case stage != atData || answer.code != 451 || answer.enhanced != "4.7.28" || answer.reason != mail.ReasonRateLimited:
			t.Errorf("letter %d: at %s: %s", i, stage, answer)
		}
	}
	return n
}

func rotatingWhatIsClaimed(t *testing.T, _ *relay) {
	r := newRelay(t, withSource(t, "{ recipients_per_day = 12 }"), nil)
	var letters []letter
	for i := range 10 {
		from := fmt.Sprintf("admin_support%c%c@acme.test", 'a'+i, 'z'-i)
		l := mailFromUser("limited@acme", from, fmt.Sprintf("Reply-To: r%d@else.test", i)).sender(fmt.Sprintf("bounce%d@acme.test", i))
		to := []string{fmt.Sprintf("v%d@%s", i, mailbox), fmt.Sprintf("w%d@second.test", i)}[:1+i%2]
		letters = append(letters, l.recipients(to...).peerIs([]string{vps, peerOutside}[i%2]))
	}
	if n := r.taken(t, letters...); n != 8 { // 1, 2, 1, 2, 1, 2, 1, 2 recipients are twelve
		t.Errorf("%d letters were taken, want 8 with twelve recipients", n)
	}
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
}

// peerOutside is an address that is nobody's here.
const peerOutside = "192.0.2.201"

func throughManySources(t *testing.T, _ *relay) {
	r := newRelay(t, withLimits(t, ofAcme, "limits = { messages_per_day = 4 }"), nil)
	var letters []letter
	for range 3 {
		letters = append(letters, mailFromUser("app@acme", "ann@acme.test"), mailFromMicrosoft(acme, "bob@acme.test"), mailFromUser("limited@acme", "cleo@acme.test"))
	}
	if n := r.taken(t, letters...); n != 4 {
		t.Errorf("%d letters were taken of an organisation that may send 4", n)
	}
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "ann@globex.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(initech, "ann@initech.test"))
}

func asOneDomain(t *testing.T, _ *relay) {
	r := newRelay(t, withLimits(t, ofAcmeDomain, "limits = { recipients_per_day = 3 }"), nil)
	var letters []letter
	for i := range 3 {
		letters = append(letters, mailFromUser("app@acme", fmt.Sprintf("a%d@acme.test", i)), mailFromMicrosoft(acme, fmt.Sprintf("b%d@acme.test", i)))
	}
	if n := r.taken(t, letters...); n != 3 {
		t.Errorf("%d letters were taken as a domain that may send 3", n)
	}
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme-sub.test"))
}

func toOneRecipientDomain(t *testing.T, _ *relay) {
	r := newRelay(t, withSource(t, "{ recipients_per_domain_per_day = 3 }"), nil)
	to := func(names ...string) letter {
		return mailFromUser("limited@acme", "ann@acme.test").recipients(names...)
	}
	if n := r.taken(t, to("a@"+mailbox, "b@"+mailbox), to("c@"+mailbox, "d@"+mailbox), to("e@"+mailbox), to("f@"+strings.ToUpper(mailbox))); n != 2 {
		t.Errorf("%d letters were taken, want the first and the third", n)
	}
	r.acceptedAndDelivered(t, to("a@second.test"))
}

// patienceIsPaidOnce: what is put off pays nothing, however often it is tried.
func patienceIsPaidOnce(t *testing.T, _ *relay) {
	r := newRelay(t, withSource(t, "{ messages_per_day = 2, recipients_per_day = 10, unique_recipients_per_day = 2 }"), nil)
	l := mailFromUser("limited@acme", "ann@acme.test")
	if n := r.taken(t, l.recipients("a@"+mailbox, "b@"+mailbox), l.recipients("c@"+mailbox), l.recipients("c@"+mailbox), l.recipients("d@"+mailbox), l.recipients("B@"+mailbox)); n != 2 {
		t.Errorf("%d letters were taken, want the first and the last: to people who were written to already", n)
	}
	if n := r.taken(t, l.recipients("a@"+mailbox)); n != 0 {
		t.Error("a third message was taken of two")
	}
}

// aNewSourceStartsSmall: who was there at the first start may send as before; a source
// that is added by a reload has a thousand recipients in its first days, and so
// have its sisters not much more together.
func aNewSourceStartsSmall(t *testing.T, _ *relay) {
	founders := strings.Replace(withSource(t, "{ recipients_per_day = 5 }"), `id = "app"`, `id = "app-before"`, 1)
	founders = strings.Replace(founders, `username = "app@acme"`, `username = "app-before@acme"`, 1)
	r := newRelay(t, founders, nil)
	crowd := func(name string, n int) (to []string) {
		for i := range n {
			to = append(to, fmt.Sprintf("%s%d@%s", name, i, mailbox))
		}
		return to
	}
	r.writeRegistry(t, withSource(t, "{ recipients_per_day = 5 }"))
	r.reload(t)
	l := mailFromUser("app@acme", "ann@acme.test")
	if n := r.taken(t, l.recipients(crowd("a", 999)...), l.recipients(crowd("b", 2)...), l.recipients("c@"+mailbox), l); n != 2 {
		t.Errorf("%d letters were taken of a new source, want two with a thousand recipients", n)
	}
	if n := r.taken(t, mailFromMicrosoft(acme, "ann@acme.test").recipients(crowd("d", 1000)...), mailFromMicrosoft(acme, "ann@acme.test")); n != 2 {
		t.Errorf("%d letters were taken of a source that was there at the first start", n)
	}
}

func overARestart(t *testing.T, _ *relay) {
	r := newRelay(t, withSource(t, "{ messages_per_hour = 2 }"), nil)
	l := mailFromUser("limited@acme", "ann@acme.test")
	if n := r.taken(t, l, l, l); n != 2 {
		t.Fatalf("%d were taken", n)
	}
	r.reload(t)
	if n := r.taken(t, l); n != 0 {
		t.Error("a reload gives a budget back")
	}
	r.restart(t)
	if n := r.taken(t, l); n != 0 {
		t.Error("a restart gives a budget back")
	}
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
}
