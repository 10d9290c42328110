package acceptance

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
)

// bounceRows: who is told that mail could not be delivered, and whose bounces come
// in.
func bounceRows() []row {
	toNobody := func(l letter) letter { return l.recipients("nobody@refusing.test") }
	app := func(lines ...string) letter { return mailFromUser("app@globex", "ann@globex.test", lines...) }
	report := app("Auto-Submitted: auto-generated").sender("")
	return []row{{id: "A44", scenario: "backscatter", variants: []variant{
		does("bounces of others to senders of ours", func(t *testing.T, _ *relay) { foreignBounces(t) }),
		does("bounces that give back a Message-ID alone", func(t *testing.T, _ *relay) { onlyOurBouncesComeInByMessageID(t) }),
		does("mail that came in and cannot be delivered", func(t *testing.T, _ *relay) { undeliverableInboundMail(t) }),
		bounces("mail of a proven sender", 1, toNobody(app())),
		bounces("mail of a tenant", 1, toNobody(mailFromMicrosoft(acme, "ann@acme.test"))),
		bounces("mail by an address", 1, toNobody(mailFromAddress(printer, "ann@acme.test"))),
		bounces("two recipients that fail: one bounce tells of both", 1, app().recipients("nobody@refusing.test", "noone@refusing.test")),
		bounces("one of two recipients fails", 1, app().recipients("nobody@refusing.test", "b@second.test")),
		bounces("a report, which has no sender", 0, toNobody(report)),
		bounces("a report of a tenant's", 0, toNobody(mailFromMicrosoft(acme, "ann@acme.test", "Auto-Submitted: auto-replied").sender(""))),
		does("the sender wants none (NOTIFY=NEVER)", func(t *testing.T, r *relay) {
			r.receiver.Answer("refusing.test", "550 5.1.1 no such mailbox")
			l := app()
			c, _ := r.open(t, l)
			c.must(250, "MAIL FROM:<ann@globex.test>")
			c.must(250, "RCPT TO:<nobody@refusing.test> NOTIFY=NEVER")
			answer := c.chunks(l.data, 1<<20)
			r.bounced(t, acceptedID(answer))
			r.bouncesAbout(t, l, 0)
		}),
		does("a bounce that cannot be delivered makes none", bounceOfABounce),
		unheard("the attacker's tenant with a forged sender", mail.TenantNotAuthorized, mailThrough(attacker, lab.BlindRelay, vps, "ceo@acme.test")),
		unheard("a customer with another's sender", mail.SenderNotOwned, app().sender("ceo@acme.test")),
		unheard("a customer with a stranger's sender", mail.SenderNotOwned, app().sender("victim@second.test")),
		unheard("forwarded mail", mail.ForwardedMail, mailThrough(acme, lab.Forward, vps, "ceo@acme.test").topped(acme.SecretName+": "+acmeSecret)),
		unheard("a broken header", mail.FromNotSingle, app().topped("From: ann@globex.test")),
		early(atRcpt, "a stranger with a customer's sender", mail.RelayDenied, toNobody(mailFromNobody(vps, "ceo@acme.test"))),
		early(atRcpt, "a stranger with the null sender", mail.RelayDenied, toNobody(mailFromNobody(vps, "ceo@acme.test").sender(""))),
	}}}
}

// bounces: accepted mail that fails for good is told of so many times.
func bounces(name string, times int, l letter) variant {
	return does(name, func(t *testing.T, r *relay) {
		r.receiver.Answer("refusing.test", "550 5.1.1 no such mailbox")
		stage, answer := r.send(t, l)
		if answer.code != 250 {
			t.Fatalf("at %s: %s", stage, answer)
		}
		expectAlso(messageID(l.data)) // to the recipients that do not fail
		r.bounced(t, acceptedID(answer))
		found := r.bouncesAbout(t, l, times)
		for _, j := range found {
			if j.MailFrom != "" || !slices.Equal(j.Recipients, []string{l.from}) {
				t.Errorf("a bounce from %q to %v", j.MailFrom, j.Recipients)
			}
		}
	})
}

// unheard: what is refused is told to the peer and to nobody else.
func unheard(name string, refusal *mail.Refusal, l letter) variant {
	return does(name, func(t *testing.T, r *relay) {
		r.receiver.Answer("refusing.test", "550 5.1.1 no such mailbox")
		l := l.recipients("nobody@refusing.test")
		if stage, answer := r.send(t, l); answer.reason != refusal.Reason() {
			t.Fatalf("at %s: %s, want %s", stage, answer, refusal)
		}
		r.bouncesAbout(t, l, 0)
	})
}

// bounced waits for the fact that recipients failed for good.
func (r *relay) bounced(t *testing.T, id mail.ID) {
	t.Helper()
	eventually(t, "a bounced fact", func() bool {
		return len(r.facts(t, url.Values{"id": {string(id)}, "event": {string(ledger.Bounced)}})[id]) > 0
	})
}

// bouncesAbout wants so many bounces about a message. For none, what was sent
// after it has arrived.
func (r *relay) bouncesAbout(t *testing.T, l letter, want int) (found []lab.Judgement) {
	t.Helper()
	look := func() bool {
		found = slices.DeleteFunc(r.receiver.Judgements(), func(j lab.Judgement) bool {
			return !isBounce(j) || !strings.Contains(string(j.Data), messageID(l.data))
		})
		return len(found) >= want
	}
	eventually(t, "a bounce", look)
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "marker@globex.test"))
	if look(); len(found) != want {
		t.Errorf("%d bounces, want %d", len(found), want)
	}
	return found
}

// bounceOfABounce: the sender's own domain refuses what tells of the failure.
func bounceOfABounce(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), nil)
	r.receiver.Answer("refusing.test", "550 5.1.1 no such mailbox")
	r.receiver.Answer("globex.test", "550 5.1.1 no such mailbox")
	l := mailFromUser("app@globex", "ann@globex.test").recipients("nobody@refusing.test")
	_, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatal(answer)
	}
	r.bounced(t, acceptedID(answer))
	eventually(t, "two bounced facts", func() bool {
		n := 0
		for _, facts := range r.facts(t, url.Values{"event": {string(ledger.Bounced)}}) {
			n += len(facts)
		}
		return n == 2
	})
	r.receiver.Answer("globex.test", "")
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "marker@acme.test"))
	eventually(t, "an empty queue", func() bool { return r.queueDepth(t) == 0 })
	for _, j := range r.receiver.Judgements() {
		if isBounce(j) {
			t.Errorf("a bounce of a bounce:\n%s", j.Data)
		}
	}
}

func (r *relay) queueDepth(t *testing.T) int {
	t.Helper()
	page, err := r.api.Queue(t.Context(), url.Values{})
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Messages)
}
