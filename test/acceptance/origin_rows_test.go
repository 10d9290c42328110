package acceptance

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/mail"
)

// originRows: did the organisation write it, or only handle it?
func originRows() []row {
	ann := "Ann <ann@acme.test>"
	hosted := func() letter { return mailFromMicrosoft(acme, ann) }
	relayedThrough := func(server, from string) letter { return mailThrough(acme, lab.Hybrid, server, from) }
	relayed := func(server string) letter { return relayedThrough(server, ann) }
	forwarded := mail.ForwardedMail
	secret := acme.SecretName + ": " + acmeSecret
	connecting := "OriginalAttributedTenantConnectingIp: TenantId=" + acme.GUID + ";Ip=[" + hybrid + "]"
	app := func(lines ...string) letter { return mailFromUser("app@acme", ann, lines...) }
	outside := "Received: from vps (vps.attacker.test [51.68.66.6])\r\n\tby mail.acme.test with ESMTP; Sun, 22 Nov 2026 11:00:00 +0000"
	return []row{
		// What a person can do with held mail has its stories in detained_test.go, what is
		// passed on in nobody's name in disowned_test.go.
		{id: "A11", scenario: "own tenant auto-forwards foreign mail", variants: []variant{
			does("held for a person, never signed, never sent", heldForAPerson),
			does("sealed: passed on in nobody's name if something stands behind it", sealedAndPassedOn),
			no("a tenant that holds: a registered From is refused all the same", forwarded, mailThrough(hooli, lab.Forward, vps, "ceo@globex.test").topped(hooli.SecretName+": "+hooliSecret)),
			no("a tenant that holds: hosted mail with a foreign From is no forwarded mail", mail.FromNotOwned, mailFromMicrosoft(hooli, "someone@gmail.test").sender("ann@hooli.test")),
			no("a tenant that holds, without its secret", mail.SecondProofMissing, mailThrough(hooli, lab.Forward, vps, "someone@gmail.test").sender("box@hooli.test")),
			no("as the tenant forwards", forwarded, mailThrough(acme, lab.Forward, vps, "someone@gmail.test").sender("box@acme.test").topped(secret)),
			no("a foreign From with the tenant's own sender, by a rule", forwarded, mailThrough(acme, lab.Forward, vps, "someone@gmail.test").sender("box+caf_=victim=mailbox.test@acme.test").topped(secret)),
			no("with the secret twice: the secret comes first", mail.SecondProofMissing, mailThrough(acme, lab.Forward, vps, "someone@gmail.test").topped(secret, secret)),
			no("a forwarding loop on hosted mail", forwarded, hosted().ended("X-MS-Exchange-ForwardingLoop: box@acme.test;"+acme.GUID)),
			no("LD-Processed", forwarded, hosted().ended("X-LD-Processed: "+acme.GUID+",ExtFwd")),
			no("ExternalRecipientOutboundConnectors", forwarded, hosted().ended("X-ExternalRecipientOutboundConnectors: "+acme.GUID)),
			no("Resent-From", forwarded, hosted().topped("Resent-From: box@acme.test")),
			no("AuthAs is Anonymous", forwarded, hosted().edited("AuthAs: Internal", "AuthAs: Anonymous")),
			no("AuthAs is missing", forwarded, hosted().headless("X-MS-Exchange-CrossTenant-AuthAs")),
			no("AuthAs twice", forwarded, hosted().topped("X-MS-Exchange-CrossTenant-AuthAs: Internal")),
			no("the entity is Internet", forwarded, hosted().edited("FromEntityHeader: Hosted", "FromEntityHeader: Internet")),
			no("the entity is unknown", forwarded, hosted().edited("FromEntityHeader: Hosted", "FromEntityHeader: HostedX")),
			no("the entity is missing", forwarded, hosted().headless("X-MS-Exchange-CrossTenant-FromEntityHeader")),
			no("the entity twice", forwarded, hosted().ended("X-MS-Exchange-CrossTenant-FromEntityHeader: Hosted")),
			no("SenderADCheck is 0", forwarded, hosted().edited("SenderADCheck: 1", "SenderADCheck: 0")),
			no("SenderADCheck twice", forwarded, hosted().ended("X-MS-Exchange-SenderADCheck: 1")),
			no("a connecting address on hosted mail", forwarded, hosted().ended("X-MS-Exchange-CrossTenant-"+connecting)),
			yes("SenderADCheck is absent", hosted().headless("X-MS-Exchange-SenderADCheck"), acmeTest, acmeTest),
		}},
		{id: "A12", scenario: "LaunDroMARC", variants: append(slices.Concat(contradictedVariants(), uncontradictedVariants()), []variant{
			no("as another customer", forwarded, mailThrough(acme, lab.Forward, vps, "ceo@globex.test").topped(secret).sender("box@acme.test")),
			no("as a sub-domain that covers", forwarded, mailThrough(acme, lab.Forward, vps, "ceo@news.acme-sub.test").topped(secret)),
			no("as the tenant's provider domain", forwarded, mailThrough(acme, lab.Forward, vps, "ceo@acme.onmicrosoft.com").topped(secret)),
			no("with results that praise it", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret,
				"ARC-Authentication-Results: i=1; mx.microsoft.com 1; spf=pass smtp.mailfrom=acme.test; dmarc=pass header.from=acme.test; dkim=pass header.d=acme.test",
				"Authentication-Results: spf=pass; dkim=pass header.d=acme.test; dmarc=pass; compauth=pass")),
			no("with hosted stamps of its own below the provider's", forwarded, mailThrough(acme, lab.Forward, vps, ann, "X-MS-Exchange-CrossTenant-AuthAs: Internal", "X-MS-Exchange-CrossTenant-FromEntityHeader: Hosted").topped(secret)),
			no("through a tenant that holds forwarded mail: its own From is refused, not held", forwarded, mailThrough(hooli, lab.Forward, vps, "ceo@hooli.test").topped(hooli.SecretName+": "+hooliSecret)),
			no("through that tenant, as another customer", forwarded, mailThrough(hooli, lab.Forward, vps, "ceo@acme.test").topped(hooli.SecretName+": "+hooliSecret)),
			no("the tenant forwards a spoof of itself", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret)),
			no("from a VPS at the tenant's door", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret).edited("AuthAs: Anonymous", "AuthAs: Internal")),
		}...)},
		{id: "A13", scenario: "Direct Send echo", variants: []variant{
			no("to oneself, and the stamps say hosted", mail.OriginContradicted, hosted().edited("To: victim@mailbox.test", "To: ann@acme.test").sealed(strings.Replace(sawFail("acme.test"), "spf=fail", "spf=softfail", 1))),
			no("as a report, and the stamps say hosted", mail.OriginContradicted, mailFromMicrosoft(acme, ann, "Auto-Submitted: auto-replied").sender("").sealed(sawFail("acme.test"))),
			no("out through a connector to a listed server and back", mail.OriginContradicted, relayedThrough(hybrid, ann).sealed(sawFail("acme.test")).sealed(sawInside("acme.test"))),
			no("to oneself", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret).headless("X-MS-Exchange-ForwardingLoop").edited("To: victim@mailbox.test", "To: ann@acme.test")),
			no("with the null sender", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret).headless("X-MS-Exchange-ForwardingLoop").sender("")),
			no("as a report", forwarded, mailThrough(acme, lab.Forward, vps, ann, "Auto-Submitted: auto-replied").topped(secret).headless("X-MS-Exchange-ForwardingLoop").sender("")),
			no("AuthAs Internal, the entity Internet", forwarded, hosted().edited("FromEntityHeader: Hosted", "FromEntityHeader: Internet")),
			no("the entity Hosted, AuthAs Anonymous", forwarded, hosted().edited("AuthAs: Internal", "AuthAs: Anonymous")),
			no("over a connector that says HybridOnPrem, from the attacker's address", mail.HybridSourceUnknown, mailThrough(acme, lab.BlindRelay, vps, ann).topped(secret)),
			no("sent to the tenant's own exchanger", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret).headless("X-MS-Exchange-ForwardingLoop")),
		}},
		{id: "A14", scenario: "hybrid through the tenant, unlisted server", variants: []variant{
			no("from a VPS", mail.HybridSourceUnknown, relayed(vps)),
			no("IPv6", mail.HybridSourceUnknown, relayed("2001:db8::7")),
			no("the address source of the same organisation", mail.HybridSourceUnknown, relayed(onprem)),
			no("From of another domain of the organisation makes it no better", mail.HybridSourceUnknown, mailThrough(acme, lab.Hybrid, vps, "x@acme-sub.test")),
			no("beside the listed one", mail.HybridSourceUnknown, relayed("198.51.100.8")),
			no("an internal address", mail.HybridSourceUnknown, relayed("10.1.2.3")),
			no("the provider's own address", mail.HybridSourceUnknown, relayed(eop)),
			no("IPv6 that ends in the listed one", mail.HybridSourceUnknown, relayed("2002:c633:6407::1")),
			no("the tenant id of another", forwarded, relayed(hybrid).edited("TenantId="+acme.GUID, "TenantId="+attacker.GUID)),
			no("two connecting addresses", forwarded, relayed(hybrid).ended("X-MS-Exchange-CrossTenant-"+connecting+";Helo=[x]")),
			no("two addresses in one stamp", forwarded, relayed(hybrid).edited("Ip=["+hybrid+"]", "Ip=["+vps+"];Ip=["+hybrid+"]")),
			no("two tenants in one stamp", forwarded, relayed(hybrid).edited("TenantId="+acme.GUID, "TenantId="+attacker.GUID+";TenantId="+acme.GUID)),
			no("no address in the stamp", forwarded, relayed(hybrid).edited(";Ip=["+hybrid+"]", "")),
			no("no stamp at all", forwarded, relayed(hybrid).headless("X-MS-Exchange-CrossTenant-OriginalAttributedTenantConnectingIp")),
		}},
		{id: "A15", scenario: "hybrid through the tenant, listed server", variants: []variant{
			yes("as it comes", relayed(hybrid), acmeTest, acmeTest),
			yes("the address in its mapped form", relayed("::ffff:"+hybrid), acmeTest, acmeTest),
			yes("the tenant id in capitals", relayed(hybrid).edited("TenantId="+acme.GUID, "TenantId="+strings.ToUpper(acme.GUID)), acmeTest, acmeTest),
			yes("From in another domain of the organisation", mailThrough(acme, lab.Hybrid, hybrid, "Ann <ann@news.acme-sub.test>"), "acme-sub.test"),
			yes("the helo may be anything", relayed(hybrid).edited("Helo=[mail.sender.example]", "Helo=[vps.attacker.test]"), acmeTest, acmeTest),
			no("a foreign From", mail.FromNotOwned, mailThrough(acme, lab.Hybrid, hybrid, "x@elsewhere.test").sender("ann@acme.test")),
			yes("written on the server itself", relayed(hybrid).edited("Received: from desk7 (desk7.corp.example [10.1.2.3])\r\n by", "Received: by"), acmeTest, acmeTest),
			yes("ARC and Authentication-Results by Microsoft say nothing", relayed(hybrid).topped("ARC-Seal: i=1; a=rsa-sha256; cv=none; d=microsoft.com; s=s; b=x", "Authentication-Results: spf=pass smtp.mailfrom=acme.test"), acmeTest, acmeTest),
			no("the secret is still wanted", mail.SecondProofMissing, relayed(hybrid).headless(acme.SecretName)),
		}},
		{id: "A58", scenario: "forwarded through a source that is no provider's", variants: append([]variant{
			does("a certificate on every listener, and with TLS 1.2", certificateEverywhere),
			yes("a certificate for another year, by another authority: the key counts", mailWithCertificate("gateway", ann).showing(certificateOf("gateway", 1000*time.Hour)), acmeTest, acmeTest),
			yes("an IPv6 address in the source's network", mailFromAddress(printerIPv6, ann), acmeTest, acmeTest),
			yes("an address in its mapped form", mailFromAddress("::ffff:"+printer, ann), acmeTest, acmeTest),
			yes("an address without TLS", mailFromAddress(printer, ann).inPlainText(), acmeTest, acmeTest),
			yes("a server's address: its own hop", mailFromAddress(onprem, ann).topped("Received: from mail.acme.test (mail.acme.test [203.0.113.10]) by relay1.acme.test; Sun, 22 Nov 2026 11:00:00 +0000"), acmeTest, acmeTest),
			yes("a certificate and its secret header", mailWithCertificate("device", "x@initech.test").topped("X-Initech-Device-Relay-Key: "+deviceSecret), "initech.test"),
			no("a certificate without its secret header", mail.SecondProofMissing, mailWithCertificate("device", "x@initech.test")),
			no("a certificate with the secret of the same organisation's other source", mail.SecondProofMissing, mailWithCertificate("device", "x@initech.test").topped(initech.SecretName+": "+initechSecret)),
			no("a certificate's mail outside its from", mail.SourceNotAllowed, mailWithCertificate("scanner", "ceo@acme.test")),
			no("a certificate's mail from another customer", mail.FromNotOwned, mailWithCertificate("gateway", "ceo@globex.test")),
			no("an address's mail from another customer", mail.FromNotOwned, mailFromAddress(onprem, "ceo@globex.test")),
			no("stamps on mail of an address are a stranger's text", mail.FromNotOwned, mailFromMicrosoft(globex, "ceo@globex.test").peerIs(printer)),
			early(atRcpt, "an expired certificate", mail.RelayDenied, mailFromNobody(vps, ann).showing(certificateOf("gateway", -time.Hour))),
			early(atRcpt, "another key in a certificate of the same name", mail.RelayDenied, mailFromNobody(vps, ann).showing(certificateOf("stranger", time.Hour))),
			early(atMail, "another key, on the submission port", mail.AuthRequired, mailFromNobody(vps, ann).showing(certificateOf("stranger", time.Hour)).through(submission)),
			early(atMail, "an expired certificate, on the submission port", mail.AuthRequired, mailFromNobody(vps, ann).showing(certificateOf("gateway", -time.Hour)).through(submission)),
			early(atRcpt, "beside the address", mail.RelayDenied, mailFromNobody("203.0.113.12", ann)),
			early(atRcpt, "outside the IPv6 network", mail.RelayDenied, mailFromNobody("2001:db8:ac:1::42", ann)),
			early(atRcpt, "an IPv6 address that ends in the source's", mail.RelayDenied, mailFromNobody("64:ff9b::cb00:710b", ann)),
		}, forwardedVariants()...)},
		{id: "A59", scenario: "forwarded through a listed hybrid server", variants: []variant{
			no("Resent-From", forwarded, relayed(hybrid).topped("Resent-From: box@acme.test")),
			no("Resent-To alone", forwarded, relayed(hybrid).topped("Resent-To: box@acme.test")),
			no("X-Forwarded-To", forwarded, relayed(hybrid).topped("X-Forwarded-To: box@acme.test")),
			no("X-Forwarded-For", forwarded, relayed(hybrid).topped("x-forwarded-for: box@acme.test")),
			no("Delivered-To", forwarded, relayed(hybrid).topped("Delivered-To: box@acme.test")),
			no("List-Id", forwarded, relayed(hybrid).topped("List-Id: <all.acme.test>")),
			no("a hop below the server's own from outside", forwarded, relayed(hybrid).edited("desk7.corp.example [10.1.2.3]", "vps.attacker.test [51.68.66.6]")),
			no("a second hop below from outside", forwarded, relayed(hybrid).edited("From: Ann", outside+"\r\nFrom: Ann")),
			no("Resent-From of the organisation's own", forwarded, relayed(hybrid).topped("Resent-From: ann@acme.test", "Resent-Sender: ann@acme.test")),
			no("a hop that says nothing of where it came from", forwarded, relayed(hybrid).edited("desk7.corp.example [10.1.2.3]", "desk7.corp.example")),
			no("an internal name, an outside address", forwarded, relayed(hybrid).edited("desk7.corp.example [10.1.2.3]", "10.1.2.3 [51.68.66.6]")),
			no("a hop that came in by IPv6", forwarded, relayed(hybrid).edited("[10.1.2.3]", "[IPv6:2001:db8::bad]")),
			no("a hop that pretends to be the provider's", forwarded, relayed(hybrid).edited("From: Ann", "Received: from vps ([51.68.66.6]) by x.outlook.com; Sun, 22 Nov 2026 11:00:00 +0000\r\nFrom: Ann")),
			no("a forwarding loop", forwarded, relayed(hybrid).ended("X-MS-Exchange-ForwardingLoop: box@acme.test;"+acme.GUID)),
		}},
		{id: "A61", scenario: "our own echo", variants: []variant{
			no("our egress as the hybrid server", mail.OwnEcho, relayed("127.0.0.1")),
			no("in its mapped form", mail.OwnEcho, relayed("::ffff:127.0.0.1")),
			refusesRegistry("the registry lists it as a hybrid server", edit("198.51.100.7/32", "127.0.0.1/32"), "echo"),
			refusesRegistry("the registry lists a network around it", edit("198.51.100.7/32", "127.0.0.0/24"), "echo"),
			refusesRegistry("the registry lists it as a server of its own", edit("203.0.113.10/32", "127.0.0.1/32"), "echo"),
			no("in hexadecimal", mail.OwnEcho, relayed("::ffff:7f00:1")),
			no("with a whole chain of our own fields", mail.OwnEcho, relayed("127.0.0.1").topped("Received: from relay.anechoic.test ([127.0.0.1]) by mail.acme.test; Sun, 22 Nov 2026 11:00:00 +0000")),
			early(atRcpt, "our own egress connects as the customer's server would", mail.RelayDenied, mailFromAddress("127.0.0.1", ann)),
			no("our own signature is no proof at Google", mail.SecondProofMissing, mailFromGoogleUnsigned(wonka, "willy@wonka.test").signed("wonka.test", "an1e", keys()["wonka.test/an1e"])),
			no("our own signature is no proof at Microsoft", mail.SecondProofMissing, mailFromMicrosoft(globex, "ceo@globex.test").signed("globex.test", "an1e", keys()["globex.test/an1e"])),
			refusesRegistry("the registry lists our own selector as Google's", edit(`selectors = ["google", "weak"`, `selectors = ["an1e", "weak"`), "key of this relay's"),
			refusesRegistry("the registry lists its IPv4 address in IPv6 form", edit("203.0.113.11/32", "::ffff:127.0.0.1/128"), "IPv6 form"),
			refusesRegistry("the registry locks a credential to it", edit("192.0.2.0/24", "127.0.0.0/8"), "echo"),
		}},
		{id: "A19", scenario: "evidence does not leave", variants: []variant{
			yes("with every kind of evidence", hosted().topped("X-MS-Exchange-Organization-AuthAs: Internal", "X-MS-Exchange-CrossTenant-userprincipalname: abc\r\n def",
				"X-Anechoic-Note: x", "x-anechoic-trace: y"), acmeTest, acmeTest),
			yes("of hybrid mail", relayed(hybrid), acmeTest, acmeTest),
			yes("another organisation's secret header, with a text that is none", hosted().topped(initech.SecretName+": nothing"), acmeTest, acmeTest),
			yes("on mail of an application", app("X-OriginatorOrg: acme.test", "X-MS-Exchange-CrossTenant-Id: "+attacker.GUID, secret), acmeTest, acmeTest),
			does("not in a bounce either", bounceLeaksNothing),
		}},
	}
}

// heldForAPerson: what a source that says hold only forwarded is kept, and
// neither a release nor anything else sends it.
func heldForAPerson(t *testing.T, r *relay) {
	for _, l := range []letter{
		mailThrough(hooli, lab.Forward, vps, "someone@gmail.test").sender("box@hooli.test").topped(hooli.SecretName + ": " + hooliSecret),
		mailFromAddress(holder, "someone@gmail.test").sender("box@hooli.test").topped("Received: from vps (vps [51.68.66.6]) by mail.hooli.test; Sun, 22 Nov 2026 11:00:00 +0000"),
		mailFromAddress(holder, "someone@gmail.test").sender("").topped("Received: from vps (vps [51.68.66.6]) by mail.hooli.test; Sun, 22 Nov 2026 11:00:00 +0000"),
	} {
		id := r.detain(t, l)
		if done := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); done.Done != 0 || done.Messages[0].Reason != mail.ReasonForwardedMail {
			t.Errorf("released: %+v", done)
		}
		r.acceptedAndDelivered(t, mailFromUser("app@globex", "marker@globex.test"))
		if j, arrived := r.receiver.Judgement(messageID(l.data)); arrived {
			t.Errorf("it was sent, signed by %v:\n%s", j.SignedBy, j.Data)
		}
	}
}

// forwardedVariants tries everything that shows a forwarded message on each kind
// of source that is no provider's, as an application and as a server.
func forwardedVariants() (variants []variant) {
	const ann = "Ann <ann@acme.test>"
	hop := func(from string) string {
		return "Received: from " + from + "\r\n\tby mail.acme.test with ESMTP; Sun, 22 Nov 2026 11:00:00 +0000"
	}
	inside, outside := hop("desk (desk.corp.test [10.1.2.3])"), hop("vps (vps.attacker.test [51.68.66.6])")
	letters := func(user, peer, key string) map[string]func(...string) letter {
		return map[string]func(...string) letter{
			"credential":  func(lines ...string) letter { return mailFromUser(user, ann).topped(lines...) },
			"address":     func(lines ...string) letter { return mailFromAddress(peer, ann).topped(lines...) },
			"certificate": func(lines ...string) letter { return mailWithCertificate(key, ann).topped(lines...) },
		}
	}
	applications, servers := letters("app@acme", printer, "scanner"), letters("server@acme", onprem, "gateway")
	for _, kind := range []string{"credential", "address", "certificate"} {
		for what, lines := range map[string][]string{
			"Resent-From": {"Resent-From: ann@acme.test"}, "Resent-Date alone": {"Resent-Date: Sun, 22 Nov 2026 12:00:00 +0000"},
			"ARC-Seal": {"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=x.test; s=s; b=x"}, "Delivered-To": {"Delivered-To: ann@acme.test"},
			"List-Id": {"list-id: <all.acme.test>"}, "Authentication-Results": {"Authentication-Results: mx.acme.test; dmarc=pass"},
			"three hops": {inside, inside, inside},
		} {
			variants = append(variants, no(kind+", application: "+what, mail.ForwardedMail, applications[kind](lines...)))
		}
		for what, lines := range map[string][]string{
			"what entered from outside": {outside}, "from outside, through another server": {inside, outside},
			"a hop that hides where it came from":                      {"Received: from somewhere by mail.acme.test; Sun, 22 Nov 2026 11:00:00 +0000"},
			"an inside name with an outside address":                   {hop("[10.1.2.3] (vps.attacker.test [51.68.66.6])")},
			"an inside address in a comment before the outside one":    {hop("x (helo 10.1.2.3) (vps [51.68.66.6])")},
			"inside, outside, inside, as who hides it in between does": {inside, outside, inside},
		} {
			variants = append(variants, no(kind+", server: "+what, mail.ForwardedMail, servers[kind](lines...)))
		}
		variants = append(variants,
			yes(kind+", application: its own mail", applications[kind](), acmeTest, acmeTest),
			yes(kind+", application: two hops of its own", applications[kind](inside, inside), acmeTest, acmeTest),
			yes(kind+", server: what was written inside", servers[kind](inside), acmeTest, acmeTest),
			yes(kind+", server: its own mail", servers[kind](), acmeTest, acmeTest))
	}
	return variants
}

// certificateEverywhere: a certificate proves on each listener, in both versions
// of TLS, and stands for AUTH on the submission port.
func certificateEverywhere(t *testing.T, r *relay) {
	for _, d := range []door{plainPort, submission, behindProxy} {
		r.acceptedAndDelivered(t, mailWithCertificate("gateway", "ann@acme.test").through(d))
	}
	c := r.connectWithout(t, tlsPort)
	c.cert = certificateOf("gateway", time.Hour)
	c.handshake()
	c.greeted()
	c.must(250, "EHLO sender.test")
	c.must(250, "MAIL FROM:<ann@acme.test>")
	c.must(250, "RCPT TO:<victim@mailbox.test>")
	c = r.connect(t, plainPort).greeted()
	c.must(250, "EHLO sender.test")
	c.must(220, "STARTTLS")
	c.cert, c.newest = certificateOf("gateway", time.Hour), tls.VersionTLS12
	c.handshake()
	c.must(250, "EHLO sender.test")
	c.must(250, "MAIL FROM:<ann@acme.test>")
	c.must(250, "RCPT TO:<victim@mailbox.test>")
}

// bounceLeaksNothing: what comes back to the sender shows the message as it left.
func bounceLeaksNothing(t *testing.T, r *relay) {
	r.receiver.Answer("refusing.test", "550 5.1.1 no such mailbox")
	l := mailFromMicrosoft(acme, "Ann <ann@acme.test>").topped("X-Anechoic-Note: x").recipients("nobody@refusing.test")
	_, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatal(answer)
	}
	var bounce lab.Judgement
	eventually(t, "a bounce", func() bool {
		for _, j := range r.receiver.Judgements() {
			if isBounce(j) && strings.Contains(string(j.Data), messageID(l.data)) {
				bounce = j
			}
		}
		return bounce.Data != nil
	})
	if len(bounce.Recipients) != 1 || bounce.Recipients[0] != "ann@acme.test" {
		t.Errorf("it went to %v", bounce.Recipients)
	}
	for line := range strings.SplitSeq(string(bounce.Data), "\r\n") {
		if name, _, ok := strings.Cut(line, ":"); ok && evidence.MatchString(name) {
			t.Errorf("the bounce shows %s", name)
		}
	}
}
