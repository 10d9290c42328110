package acceptance

import (
	"testing"

	"anechoic/lab"
	"anechoic/mail"
)

// organisationRows: may the proven organisation send this?
func organisationRows() []row {
	app := func(from string, lines ...string) letter { return mailFromUser("app@acme", from, lines...) }
	server := func(from string, lines ...string) letter { return mailFromUser("server@acme", from, lines...) }
	hosted := func(from string) letter { return mailFromMicrosoft(acme, from) }
	notOwned, notSender := mail.FromNotOwned, mail.SenderNotOwned
	report := "Content-Type: multipart/report; report-type=delivery-status; boundary=x"
	asReport := func(l letter) letter { return l.headless("Content-Type").ended(report) }
	return []row{
		{id: "A22", scenario: "two customers spoof each other", variants: []variant{
			no("globex's credential as acme", notOwned, app("ceo@acme.test").authenticated("app@globex")),
			no("acme's credential as globex", notOwned, app("ceo@globex.test")),
			no("acme's tenant as globex", notOwned, hosted("ceo@globex.test")),
			no("with its own MAIL FROM", notOwned, app("ceo@globex.test").sender("ann@acme.test")),
			no("with the victim's MAIL FROM", notSender, app("ann@acme.test").sender("ceo@globex.test")),
			no("with its own Sender", notOwned, app("ceo@globex.test", "Sender: ann@acme.test")),
			no("under the victim's display name and address", notOwned, app(`"ann@acme.test" <ceo@globex.test>`)),
			no("an application's listed address only", mail.SourceNotAllowed, app("ceo@acme.test").authenticated("billing@acme")),
			no("a hybrid server as globex", notOwned, mailThrough(acme, lab.Hybrid, hybrid, "ceo@globex.test")),
			no("an organisation without sources", notOwned, app("x@legitimate.com").authenticated("app@attacker")),
			no("another tenant's provider domain", notOwned, hosted("x@globex.onmicrosoft.com")),
			no("a provider domain through an application", notOwned, app("x@acme.onmicrosoft.com")),
			yes("a display name may say anything", app(`"ceo@globex.test" <ann@acme.test>`), acmeTest, acmeTest),
		}},
		{id: "A23", scenario: "sub-domain", variants: []variant{
			no("of a domain without sub-domains", notOwned, app("x@sub.acme.test")),
			no("through the tenant", notOwned, hosted("x@sub.acme.test")),
			no("two levels down", notOwned, app("x@a.b.acme.test")),
			no("in MAIL FROM", notSender, app("ann@acme.test").sender("x@bounce.acme.test")),
			yes("of a domain with sub-domains, signed as that domain", app("x@news.acme-sub.test"), "acme-sub.test"),
			yes("two levels down of it", app("x@a.b.acme-sub.test"), "acme-sub.test"),
			no("of the parent of a domain with sub-domains", notOwned, app("x@test")),
			does("whose own record names another organisation", func(t *testing.T, r *relay) {
				r.internet.Zone.SetTXT("_anechoic.sold.acme-sub.test", "v=anechoic1; org=globex")
				if _, answer := r.send(t, app("x@sold.acme-sub.test")); answer.reason != mail.ReasonDomainUnverified || answer.code != 550 {
					t.Error(answer)
				}
			}),
		}},
		{id: "A24", scenario: "sibling and suffix", variants: []variant{
			no("evilacme.test", notOwned, app("x@evilacme.test")),
			no("acme.test.evil.com", notOwned, app("x@acme.test.evil.com")),
			no("acme.tes", notOwned, app("x@acme.tes")),
			no("acme-test", notOwned, app("x@acme-test")),
			no("cme.test", notOwned, app("x@cme.test")),
			no("a trailing dot", mail.FromSyntax, app("x@acme.test.").sender("ann@acme.test")),
			no("two dots", mail.FromSyntax, app("x@acme..test").sender("ann@acme.test")),
			no("a dot in front", mail.FromSyntax, app("x@.acme.test").sender("ann@acme.test")),
			no("a percent route", notOwned, app("ann%acme.test@evil.com")),
			no("through the tenant", notOwned, hosted("x@evilacme.test")),
			no("in MAIL FROM", notSender, app("ann@acme.test").sender("x@evilacme.test")),
			early(atMail, "a trailing dot in MAIL FROM", mail.SenderSyntax, app("ann@acme.test").sender("ann@acme.test.")),
			no("an underscore", mail.FromSyntax, app("x@_acme.test@evil.com").sender("ann@acme.test")),
		}},
		{id: "A25", scenario: "look-alike unicode", variants: []variant{
			no("a homograph's A-label", notOwned, app("ceo@xn--cme-7cd.test")),
			no("a homograph of the owned IDN", notOwned, app("ceo@xn--bher-1na5c.test")),
			no("the U-label of the owned one, without SMTPUTF8", mail.HeaderNeedsUTF8, app("ann@b\xc3\xbccher.test").sender("ann@acme.test")),
			no("a homograph's U-label, without SMTPUTF8", mail.HeaderNeedsUTF8, app("ceo@\xd0\xb0cme.test").sender("ann@acme.test")),
			no("full-width letters, without SMTPUTF8", mail.HeaderNeedsUTF8, app("ceo@\xef\xbd\x81cme.test").sender("ann@acme.test")),
			no("a zero-width joiner, without SMTPUTF8", mail.HeaderNeedsUTF8, app("ceo@ac\xe2\x80\x8dme.test").sender("ann@acme.test")),
			no("a homograph's U-label", notOwned, app("ceo@\xd0\xb0cme.test").sender("ann@acme.test").withUTF8()),
			no("a homograph of the owned IDN as a U-label", notOwned, app("ceo@b\xcf\x85cher.test").sender("ann@acme.test").withUTF8()),
			no("a decomposed form of another's", notOwned, app("ceo@acme\xcc\x81.test").sender("ann@acme.test").withUTF8()),
			no("in MAIL FROM", notSender, app("ann@acme.test").sender("ceo@\xd0\xb0cme.test").withUTF8()),
			no("in Sender", notSender, app("ann@acme.test", "Sender: ceo@\xd0\xb0cme.test").withUTF8()),
			no("in Sender, without SMTPUTF8", mail.HeaderNeedsUTF8, app("ann@acme.test", "Sender: ceo@\xd0\xb0cme.test")),
			does("full-width letters are the letters, as everywhere in IDNA", func(t *testing.T, r *relay) {
				if _, answer := r.send(t, app("ceo@\xef\xbd\x87lobex.test").sender("ann@acme.test").withUTF8()); answer.code != 550 {
					t.Error(answer)
				}
			}),
			does("the U-label of the owned one", ownedULabel),
			no("a broken A-label", mail.FromSyntax, app("ceo@xn--.test").sender("ann@acme.test")),
			yes("the owned A-label", app("ann@xn--bcher-kva.test"), "xn--bcher-kva.test"),
			yes("the owned A-label in capitals", app("ann@XN--BCHER-KVA.TEST").sender("ann@xn--bcher-kva.test"), "xn--bcher-kva.test"),
		}},
		{id: "A26", scenario: "envelope and header differ", variants: append([]variant{
			no("own MAIL FROM, foreign From", notOwned, app("x@other.com").sender("ann@acme.test")),
			no("foreign MAIL FROM, own From", notSender, app("ann@acme.test").sender("x@other.com")),
			no("the tenant with a foreign From", notOwned, hosted("x@other.com").sender("ann@acme.test")),
			no("the tenant with a foreign MAIL FROM", notSender, hosted("ann@acme.test").sender("x@other.com")),
			no("a bounce address in front of a foreign domain", notSender, app("ann@acme.test").sender("ann=acme.test@other.com")),
			yes("another of the organisation's domains", app("ann@acme.test").sender("bounce@acme-sub.test"), acmeTest, acmeTest),
			no("an address outside the source's own", mail.SourceNotAllowed, mailFromUser("billing@acme", "billing@acme.test").sender("ceo@acme.test")),
		}, espoofer("server_a1", "server_a2", "server_a3", "server_a4", "server_a5", "server_a6", "server_a7")...)},
		{id: "A27", scenario: "null sender", variants: []variant{
			no("on ordinary mail of an application", mail.NullSender, app("ann@acme.test").sender("")),
			no("on ordinary mail of the tenant", mail.NullSender, hosted("ann@acme.test").sender("")),
			no("Auto-Submitted: no", mail.NullSender, app("ann@acme.test", "Auto-Submitted: no").sender("")),
			no("an empty Auto-Submitted", mail.NullSender, app("ann@acme.test", "Auto-Submitted: ; x=y").sender("")),
			no("multipart/report in a comment", mail.NullSender, app("ann@acme.test", "X-Type: multipart/report").sender("")),
			no("a report from a foreign domain", notOwned, asReport(app("x@other.com")).sender("")),
			no("a report from a customer's, by another", notOwned, asReport(app("ceo@globex.test")).sender("")),
			early(atRcpt, "a report from a stranger", mail.RelayDenied, asReport(mailFromNobody(vps, "ann@acme.test")).sender("")),
			no("a report from the attacker's tenant", mail.TenantNotAuthorized, asReport(mailFromMicrosoft(attacker, "ann@acme.test")).sender("")),
			yes("a report", asReport(app("ann@acme.test")).sender(""), acmeTest, acmeTest),
			yes("a report of the tenant's", asReport(hosted("ann@acme.test")).sender(""), acmeTest, acmeTest),
			yes("an automatic answer", app("ann@acme.test", "Auto-Submitted: auto-replied").sender(""), acmeTest, acmeTest),
			does("past their own cap reports wait, and nothing else does", capOfReports),
		}},
		{id: "A30", scenario: "Sender, Resent and Reply-To", variants: []variant{
			no("Sender of another customer", notSender, app("ann@acme.test", "Sender: ceo@globex.test")),
			no("Sender of nobody here", notSender, hosted("ann@acme.test").topped("Sender: x@other.com")),
			no("Sender outside the source's own", mail.SourceNotAllowed, mailFromUser("billing@acme", "billing@acme.test", "Sender: ceo@acme.test")),
			no("Resent-From of another customer", notSender, server("ann@acme.test").topped("Resent-From: ceo@globex.test")),
			no("the second of several in Resent-From", notSender, server("ann@acme.test").topped("Resent-From: ann@acme.test, ceo@globex.test")),
			no("a second block of Resent fields", notSender, server("ann@acme.test").topped("Resent-From: ann@acme.test", "Resent-From: ceo@globex.test")),
			no("Resent-Sender of another customer", notSender, server("ann@acme.test").topped("Resent-Sender: ceo@globex.test")),
			no("Resent-From instead of From", mail.FromNotSingle, app("ann@acme.test").headless("From").topped("Resent-From: ann@acme.test")),
			no("no From", mail.FromNotSingle, app("ann@acme.test").headless("From")),
			no("Sender instead of From", mail.FromNotSingle, app("ann@acme.test").headless("From").topped("Sender: ann@acme.test")),
			no("two Sender", mail.DuplicateField, app("ann@acme.test", "Sender: ann@acme.test", "Sender: ceo@globex.test")),
			no("two addresses in Sender", mail.OriginatorSyntax, app("ann@acme.test", "Sender: ann@acme.test, ceo@globex.test")),
			no("two Reply-To", mail.DuplicateField, app("ann@acme.test", "Reply-To: a@x.test", "Reply-To: b@x.test")),
			yes("Reply-To may be foreign", app("ann@acme.test", "Reply-To: x@other.com"), acmeTest, acmeTest),
			yes("Sender of one's own", app("ann@acme.test", "Sender: bob@acme-sub.test"), acmeTest, acmeTest),
		}},
		{id: "A46", scenario: "stolen SMTP credential", variants: []variant{
			early(atAuth, "right password, an address beside the lock", mail.AuthFailed, mailFromUser("billing@acme", "billing@acme.test").peerIs("192.0.3.1")),
			early(atAuth, "right password, a mapped address outside", mail.AuthFailed, mailFromUser("billing@acme", "billing@acme.test").peerIs("::ffff:"+vps)),
			early(atAuth, "right password, IPv6", mail.AuthFailed, mailFromUser("billing@acme", "billing@acme.test").peerIs("2001:db8::20")),
			no("right password and address, wrong MAIL FROM", mail.SourceNotAllowed, mailFromUser("billing@acme", "billing@acme.test").sender("ceo@acme.test")),
			no("right password, another organisation's From", mail.FromNotOwned, mailFromUser("app@acme", "ceo@globex.test")),
			no("a certificate's key, wrong From", mail.SourceNotAllowed, mailWithCertificate("scanner", "ceo@acme.test")),
			does("volume, whatever it is called", volume),
			does("volume in recipients", volumeOfRecipients),
			does("what is not kept is not paid for", notKeptNotPaid),
			does("guessing shuts out the guesser, not the user", guessing),
			does("guessing many names shuts out the network's strangers, not its users", guessingNames),
			early(atAuth, "right password, wrong address", mail.AuthFailed, mailFromUser("billing@acme", "billing@acme.test").peerIs(vps)),
			early(atAuth, "wrong password", mail.AuthFailed, mailFromUser("app@acme", "ann@acme.test").with("app@acme", "guess")),
			early(atAuth, "another user's password", mail.AuthFailed, mailFromUser("app@acme", "ann@acme.test").with("app@acme", passwords["app@globex"])),
			early(atAuth, "an unknown user", mail.AuthFailed, mailFromUser("app@acme", "ann@acme.test").with("ceo@acme", passwords["app@acme"])),
			early(atAuth, "the user name in capitals", mail.AuthFailed, mailFromUser("app@acme", "ann@acme.test").with("APP@ACME", passwords["app@acme"])),
			no("right password and address, wrong From", mail.SourceNotAllowed, mailFromUser("billing@acme", "ceo@acme.test")),
			yes("right in everything", mailFromUser("billing@acme", "billing@acme.test"), acmeTest, acmeTest),
			yes("the local part in other case", mailFromUser("billing@acme", "Billing@acme.test"), acmeTest, acmeTest),
		}},
	}
}

// volume: past its budget a credential is put off, whatever it writes into MAIL
// FROM, From or To, and from wherever; other sources of the organisation are not.
func volume(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), nil)
	l := func(from string) letter { return mailFromUser("limited@acme", from) }
	for _, from := range []string{"a@acme.test", "b@acme.test", "c@acme.test"} {
		r.acceptedAndDelivered(t, l(from))
	}
	for what, l := range map[string]letter{
		"the same": l("a@acme.test"), "another local part": l("d@acme.test"), "another MAIL FROM": l("a@acme.test").sender("x@acme.test"),
		"another peer": l("a@acme.test").peerIs(vps), "another recipient": l("a@acme.test").recipients("b@second.test"), "another port": l("a@acme.test").through(submission),
		"by chunks": l("a@acme.test").inChunks(50), "a report": mailFromUser("limited@acme", "a@acme.test", "Auto-Submitted: auto-replied").sender(""),
	} {
		if stage, answer := r.send(t, l); stage != atData || answer.code != 451 || answer.enhanced != "4.7.28" || answer.reason != mail.ReasonRateLimited {
			t.Errorf("%s: at %s: %s", what, stage, answer)
		}
	}
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "a@acme.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "a@acme.test"))
}

// volumeOfRecipients: one message may not spend more than the budget either.
func volumeOfRecipients(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), nil)
	many := func(n int) (to []string) {
		for i := range n {
			to = append(to, string(rune('a'+i))+"@"+mailbox)
		}
		return to
	}
	l := mailFromUser("limited@acme", "a@acme.test")
	if _, answer := r.send(t, l.recipients(many(6)...)); answer.reason != mail.ReasonRateLimited {
		t.Errorf("six: %s", answer)
	}
	r.acceptedAndDelivered(t, l.recipients(many(4)...)) // what was refused spent nothing
	if _, answer := r.send(t, l.recipients(many(2)...)); answer.reason != mail.ReasonRateLimited {
		t.Errorf("two more: %s", answer)
	}
}

// guessing: wrong passwords end the guesser's tries for a user, not the user's.
func guessing(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), nil)
	shut := false
	for range 20 {
		_, answer := r.send(t, mailFromUser("app@acme", "ann@acme.test").with("app@acme", "guess").peerIs(vps))
		if answer.code/100 != 4 && answer.code != 535 {
			t.Fatal(answer)
		}
		shut = shut || answer.code/100 == 4
	}
	if !shut {
		t.Error("twenty guesses, and no end")
	}
	if _, answer := r.send(t, mailFromUser("app@acme", "ann@acme.test").peerIs(vps)); answer.code == 250 {
		t.Error("the guesser's next guess is right, and is taken")
	}
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
}
