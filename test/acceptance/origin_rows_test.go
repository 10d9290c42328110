package acceptance

import (
	"strings"
	"testing"

	"anechoic/lab"
	"anechoic/mail"
)

// originRows: did the organisation write it, or only handle it?
func originRows() []row {
	ann := "Ann <ann@acme.test>"
	hosted := func() letter { return mailFromMicrosoft(acme, ann) }
	relayed := func(server string) letter { return mailThrough(acme, lab.Hybrid, server, ann) }
	forwarded := mail.ForwardedMail
	secret := acme.SecretName + ": " + acmeSecret
	connecting := "OriginalAttributedTenantConnectingIp: TenantId=" + acme.GUID + ";Ip=[" + hybrid + "]"
	app := func(lines ...string) letter { return mailFromUser("app@acme", ann, lines...) }
	server := func(lines ...string) letter { return mailFromUser("server@acme", ann).topped(lines...) }
	inside := "Received: from desk (desk.corp.test [10.1.2.3])\r\n\tby mail.acme.test with ESMTP; Sun, 22 Nov 2026 11:00:00 +0000"
	outside := "Received: from vps (vps.attacker.test [51.68.66.6])\r\n\tby mail.acme.test with ESMTP; Sun, 22 Nov 2026 11:00:00 +0000"
	return []row{
		{id: "A11", scenario: "own tenant auto-forwards foreign mail", pending: `forwarded = "hold" and "seal"`, variants: []variant{
			no("as the tenant forwards", forwarded, mailThrough(acme, lab.Forward, vps, "someone@gmail.test").sender("box@acme.test").topped(secret)),
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
		{id: "A12", scenario: "LaunDroMARC", pending: "a verified chain of the provider's that says dmarc=fail; until then the origin class refuses", variants: []variant{
			no("the tenant forwards a spoof of itself", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret)),
			no("from a VPS at the tenant's door", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret).edited("AuthAs: Anonymous", "AuthAs: Internal")),
		}},
		{id: "A13", scenario: "Direct Send echo", pending: "as A12", variants: []variant{
			no("sent to the tenant's own exchanger", forwarded, mailThrough(acme, lab.Forward, vps, ann).topped(secret).headless("X-MS-Exchange-ForwardingLoop")),
		}},
		{id: "A14", scenario: "hybrid through the tenant, unlisted server", variants: []variant{
			no("from a VPS", mail.HybridSourceUnknown, relayed(vps)),
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
			yes("written on the server itself", relayed(hybrid).edited("Received: from desk7 (desk7.corp.example [10.1.2.3])\r\n by", "Received: by"), acmeTest, acmeTest),
			yes("ARC and Authentication-Results by Microsoft say nothing", relayed(hybrid).topped("ARC-Seal: i=1; a=rsa-sha256; cv=none; d=microsoft.com; s=s; b=x", "Authentication-Results: spf=pass smtp.mailfrom=acme.test"), acmeTest, acmeTest),
			no("the secret is still wanted", mail.SecondProofMissing, relayed(hybrid).headless(acme.SecretName)),
		}},
		{id: "A58", scenario: "forwarded through a source that is no provider's", variants: []variant{
			no("application: Resent-From", forwarded, app("Resent-From: ann@acme.test")),
			no("application: Resent-Date alone", forwarded, app("Resent-Date: Sun, 22 Nov 2026 12:00:00 +0000")),
			no("application: ARC-Seal", forwarded, app("ARC-Seal: i=1; a=rsa-sha256; cv=none; d=x.test; s=s; b=x")),
			no("application: Delivered-To", forwarded, app("Delivered-To: ann@acme.test")),
			no("application: List-Id", forwarded, app("list-id: <all.acme.test>")),
			no("application: Authentication-Results", forwarded, app("Authentication-Results: mx.acme.test; dmarc=pass")),
			no("application: three hops", forwarded, app().topped(inside, inside, inside)),
			yes("application: two hops of its own", app().topped(inside, inside), acmeTest, acmeTest),
			no("server: what entered from outside", forwarded, server(outside)),
			no("server: what entered from outside and went through another server", forwarded, server(inside, outside)),
			no("server: a hop that hides where it came from", forwarded, server("Received: from somewhere by mail.acme.test; Sun, 22 Nov 2026 11:00:00 +0000")),
			no("server: an inside name with an outside address", forwarded, server("Received: from [10.1.2.3] (vps.attacker.test [51.68.66.6]) by mail.acme.test; Sun, 22 Nov 2026 11:00:00 +0000")),
			no("server: an inside address in a comment before the outside one", forwarded, server("Received: from x (helo 10.1.2.3) (vps [51.68.66.6]) by mail.acme.test; Sun, 22 Nov 2026 11:00:00 +0000")),
			yes("server: what was written inside", server(inside), acmeTest, acmeTest),
			yes("server: its own mail", server(), acmeTest, acmeTest),
		}},
		{id: "A59", scenario: "forwarded through a listed hybrid server", variants: []variant{
			no("Resent-From", forwarded, relayed(hybrid).topped("Resent-From: box@acme.test")),
			no("Resent-To alone", forwarded, relayed(hybrid).topped("Resent-To: box@acme.test")),
			no("X-Forwarded-To", forwarded, relayed(hybrid).topped("X-Forwarded-To: box@acme.test")),
			no("X-Forwarded-For", forwarded, relayed(hybrid).topped("x-forwarded-for: box@acme.test")),
			no("Delivered-To", forwarded, relayed(hybrid).topped("Delivered-To: box@acme.test")),
			no("List-Id", forwarded, relayed(hybrid).topped("List-Id: <all.acme.test>")),
			no("a hop below the server's own from outside", forwarded, relayed(hybrid).edited("desk7.corp.example [10.1.2.3]", "vps.attacker.test [51.68.66.6]")),
			no("a second hop below from outside", forwarded, relayed(hybrid).edited("From: Ann", outside+"\r\nFrom: Ann")),
			no("a forwarding loop", forwarded, relayed(hybrid).ended("X-MS-Exchange-ForwardingLoop: box@acme.test;"+acme.GUID)),
		}},
		{id: "A60", scenario: "forwarded through Google", pending: "sources of kind google"},
		{id: "A61", scenario: "our own echo", variants: []variant{
			no("our egress as the hybrid server", mail.OwnEcho, relayed("127.0.0.1")),
			no("in its mapped form", mail.OwnEcho, relayed("::ffff:127.0.0.1")),
			refusesRegistry("the registry lists it as a hybrid server", edit("198.51.100.7/32", "127.0.0.1/32"), "echo"),
			refusesRegistry("the registry lists a network around it", edit("198.51.100.7/32", "127.0.0.0/24"), "echo"),
			refusesRegistry("the registry lists it as a server of its own", edit("203.0.113.10/32", "127.0.0.1/32"), "echo"),
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
