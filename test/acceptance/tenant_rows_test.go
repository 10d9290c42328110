package acceptance

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"anechoic/lab"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/standard/dkim"
)

// tenantRows: whose mail of the shared provider is it?
func tenantRows() []row {
	ceo := "The CEO <ceo@acme.test>"
	spoof := func(route lab.Route) letter { return mailThrough(attacker, route, vps, ceo) }
	honest := func() letter { return mailFromMicrosoft(acme, "Ann <ann@acme.test>") }
	denied := mail.TenantNotAuthorized
	return []row{
		{id: "A01", scenario: "classic EchoSpoof", variants: []variant{
			claims("acme", no("blind relay through the attacker's connector", denied, spoof(lab.BlindRelay))),
			claims("acme", no("written in a mailbox of the attacker's tenant", denied, spoof(lab.Cloud))),
			claims("acme", no("auto-forwarded by the attacker's tenant", denied, spoof(lab.Forward))),
			claims("acme", no("from the attacker's own address in MAIL FROM", denied, spoof(lab.Hybrid).sender("bounce@evil123.onmicrosoft.com"))),
			claims("acme", no("with the null sender", denied, spoof(lab.BlindRelay).sender(""))),
			claims("acme", no("over IPv6", denied, spoof(lab.BlindRelay).peerIs(eopIPv6))),
			claims("acme", no("to several free mailboxes", denied, spoof(lab.BlindRelay).recipients("a@"+mailbox, "b@second.test", "c@"+mailbox))),
			claims("acme", no("From in capitals", denied, mailThrough(attacker, lab.BlindRelay, vps, "CEO@ACME.TEST").sender("ceo@acme.test"))),
			claims("globex", no("as another customer", denied, mailThrough(attacker, lab.BlindRelay, vps, "ceo@globex.test"))),
			claims("acme", no("hybrid stamp that names acme's listed server and tenant", denied,
				mailThrough(attacker, lab.Hybrid, hybrid, ceo).edited("TenantId="+attacker.GUID, "TenantId="+acme.GUID))),
			no("from nobody's domain", denied, mailThrough(attacker, lab.BlindRelay, vps, "x@elsewhere.test")),
			claims("acme", no("signed by the attacker's own domain", denied, spoof(lab.BlindRelay).signed("evil.test", "s1", keys()["globex.test/an1e"]))),
			does("the campaign counter goes up by each", campaignCounter),
		}},
		{id: "A02", scenario: "genuine cloud mail", variants: []variant{
			yes("as it comes", honest(), acmeTest, acmeTest),
			yes("from another host of the provider", honest().peerIs(eopSecond), acmeTest, acmeTest),
			yes("over IPv6", honest().peerIs(eopIPv6), acmeTest, acmeTest),
			yes("to several recipients", honest().recipients("a@"+mailbox, "b@"+mailbox), acmeTest, acmeTest),
			yes("stamps in other case", honest().edited("X-OriginatorOrg: acme.test", "x-originatororg: ACME.Test").edited("X-MS-Exchange-CrossTenant-Id: 1", "x-ms-exchange-crosstenant-id: 1"), acmeTest, acmeTest),
			yes("stamps folded", honest().edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg:\r\n acme.test").edited("CrossTenant-Id: 1", "CrossTenant-Id:\r\n\t1"), acmeTest, acmeTest),
			yes("the tenant's other originator", honest().edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg: acme.onmicrosoft.com"), acmeTest, acmeTest),
			yes("the other secret of a rotation", honest().edited(acmeSecret, acmeNextSecret), acmeTest, acmeTest),
			yes("a second proof by Microsoft's signature", microsoftSigned(globex, "globex.test", "ceo@globex.test"), "globex.test", "globex.test"),
			yes("no second proof, until a date", mailFromMicrosoft(umbrella, "ann@umbrella.test"), "umbrella.test"),
			yes("the tenant's own provider domain leaves without our signature", mailFromMicrosoft(acme, "Group <group@acme.onmicrosoft.com>")),
		}},
		{id: "A03", scenario: "no attribution headers", variants: []variant{
			claims("acme", no("none at all", mail.AttributionMissing, mailFromNobody(eop, ceo))),
			no("tenant id alone", mail.AttributionMissing, honest().headless("X-OriginatorOrg")),
			no("originator alone", mail.AttributionMissing, honest().headless("X-MS-Exchange-CrossTenant-Id")),
			no("the secret header alone", mail.AttributionMissing, mailFromNobody(eop, ceo).topped(acme.SecretName+": "+acmeSecret)),
			no("in the body only", mail.AttributionMissing, mailFromNobody(eop, ceo).body("X-OriginatorOrg: acme.test\r\nX-MS-Exchange-CrossTenant-Id: "+acme.GUID+"\r\n\r\n")),
			no("under names that look alike", mail.AttributionMissing, mailFromNobody(eop, ceo).topped("X-Originator-Org: acme.test", "X-MS-Exchange-CrossTenant-Ids: "+acme.GUID, "X-MS-Exchange-Organization-Id: "+acme.GUID)),
			no("renamed by a re-entry", mail.AttributionMissing, mailFromNobody(eop, ceo).topped("X-OriginatorOrg-Original: acme.test", "X-MS-Exchange-CrossTenant-Id-Prvs: "+acme.GUID)),
			no("inside another field's value", mail.AttributionMissing, mailFromNobody(eop, ceo).topped("X-Note: x\r\n X-OriginatorOrg: acme.test\r\n X-MS-Exchange-CrossTenant-Id: "+acme.GUID)),
		}},
		{id: "A04", scenario: "duplicate attribution headers", variants: []variant{
			no("ours, then the attacker's originator", mail.AttributionAmbiguous, honest().ended("X-OriginatorOrg: evil123.onmicrosoft.com")),
			no("the attacker's, then ours", mail.AttributionAmbiguous, honest().topped("X-OriginatorOrg: evil123.onmicrosoft.com")),
			no("the same twice", mail.AttributionAmbiguous, honest().topped("X-OriginatorOrg: acme.test")),
			no("in other case", mail.AttributionAmbiguous, honest().topped("x-ORIGINATORorg: acme.test")),
			no("folded", mail.AttributionAmbiguous, honest().topped("X-OriginatorOrg:\r\n\tacme.test")),
			no("two tenant ids", mail.AttributionAmbiguous, honest().topped("X-MS-Exchange-CrossTenant-Id: "+attacker.GUID)),
			no("the attacker's mail with acme's id on top", mail.AttributionAmbiguous, spoof(lab.BlindRelay).topped("X-MS-Exchange-CrossTenant-Id: "+acme.GUID)),
			no("a space before the colon", mail.AttributionAmbiguous, honest().topped("X-OriginatorOrg : acme.test")),
			no("a tab before the colon", mail.AttributionAmbiguous, honest().topped("X-MS-Exchange-CrossTenant-Id\t: "+attacker.GUID)),
			no("only one, with a space before the colon", mail.AttributionAmbiguous, honest().edited("X-OriginatorOrg: ", "X-OriginatorOrg : ")),
			no("two values in one field", mail.AttributionAmbiguous, honest().edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg: acme.test, evil.test")),
			no("two ids in one field", mail.AttributionAmbiguous, honest().edited("CrossTenant-Id: "+acme.GUID, "CrossTenant-Id: "+acme.GUID+" "+attacker.GUID)),
			no("an empty second one", mail.AttributionAmbiguous, honest().topped("X-OriginatorOrg:")),
			no("a tenant id in braces", mail.AttributionAmbiguous, honest().edited("CrossTenant-Id: "+acme.GUID, "CrossTenant-Id: {"+acme.GUID+"}")),
			no("a comment beside the originator", mail.AttributionAmbiguous, honest().edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg: acme.test (evil.test)")),
			no("a trailing dot", mail.AttributionAmbiguous, honest().edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg: acme.test.")),
		}},
		{id: "A05", scenario: "forged attribution from elsewhere", variants: []variant{
			early(atRcpt, "from a VPS", mail.RelayDenied, honest().peerIs(vps)),
			early(atRcpt, "without TLS", mail.RelayDenied, honest().peerIs(vps).inPlainText()),
			early(atRcpt, "a VPS that has Microsoft's name both ways", mail.RelayDenied, honest().peerIs(vpsNamed)),
			early(atRcpt, "one address below the range", mail.RelayDenied, honest().peerIs("40.91.255.255")),
			early(atRcpt, "one address above the range", mail.RelayDenied, honest().peerIs("40.108.0.0")),
			early(atRcpt, "IPv6 beside the range", mail.RelayDenied, honest().peerIs("2a01:111:f401::1")),
			early(atRcpt, "IPv6 that embeds a provider's IPv4 address", mail.RelayDenied, honest().peerIs("2002:286b:010a::1")),
			early(atRcpt, "NAT64 of a provider's address", mail.RelayDenied, honest().peerIs("64:ff9b::286b:10a")),
			early(atRcpt, "our own egress address", mail.RelayDenied, honest().peerIs("127.0.0.1")),
			early(atRcpt, "acme's hybrid server itself", mail.RelayDenied, honest().peerIs(hybrid)),
			early(atRcpt, "on the plain port", mail.RelayDenied, honest().through(plainPort)),
			early(atRcpt, "on the TLS port", mail.RelayDenied, honest().through(tlsPort)),
		}},
		{id: "A06", scenario: "Microsoft's range, not Microsoft 365", variants: []variant{
			early(atRcpt, "a virtual machine at Microsoft's", mail.RelayDenied, honest().peerIs(azure)),
			early(atRcpt, "another", mail.RelayDenied, honest().peerIs("20.160.56.84")),
			no("in the range without a name", mail.PeerNotEOP, honest().peerIs(eopNoPTR)),
			no("in the range with a foreign name", mail.PeerNotEOP, honest().peerIs(eopFalse)),
			no("a name that does not lead back", mail.PeerNotEOP, honest().peerIs(eopLiar)),
			early(atRcpt, "a virtual machine at Microsoft's that has a name both ways", mail.RelayDenied, honest().peerIs("20.160.56.85")),
			does("names in capitals, and one of several", func(t *testing.T, r *relay) {
				peer := netip.MustParseAddr("40.107.20.9")
				r.internet.Zone.SetPTR(peer, "host.attacker.test", "MAIL-X.Outbound.Protection.OUTLOOK.com")
				r.internet.Zone.SetAddresses("mail-x.outbound.protection.outlook.com", peer)
				r.acceptedAndDelivered(t, honest().peerIs(peer.String()))
			}),
			no("IPv6 in the range without a name", mail.PeerNotEOP, honest().peerIs("2a01:111:f400::dead")),
			no("without a name and without stamps: the peer comes first", mail.PeerNotEOP, mailFromNobody(eopNoPTR, ceo)),
			does("the look-up of the name fails", peerNameFails),
			does("the look-up of its address fails", peerAddressFails),
			does("a name that ends in the suffix of another", func(t *testing.T, r *relay) {
				peerNamed(t, r, "40.107.20.1", "mail.outbound.protection.outlook.com.attacker.test", mail.PeerNotEOP)
				peerNamed(t, r, "40.107.20.2", "xoutbound.protection.outlook.com", mail.PeerNotEOP)
			}),
		}},
		{id: "A07", scenario: "relay pool", variants: []variant{
			early(atRcpt, "with all of acme's proofs", mail.RelayPool, honest().peerIs(pool)),
			early(atRcpt, "the first address", mail.RelayPool, honest().peerIs("40.95.0.0")),
			early(atRcpt, "the last address", mail.RelayPool, honest().peerIs("40.95.255.255")),
			early(atRcpt, "without TLS", mail.RelayPool, honest().peerIs(pool).inPlainText()),
			early(atRcpt, "the attacker's tenant", mail.RelayPool, spoof(lab.Cloud).peerIs(pool)),
			early(atRcpt, "a report with the null sender", mail.RelayPool, honest().peerIs("40.95.77.1").sender("")),
			early(atRcpt, "with a certificate of nobody's", mail.RelayPool, honest().peerIs(pool).showing(certificateOf("stranger", time.Hour))),
			refusesNode("the pool is not taken out", `exclude = ["40.95.0.0/16"]`, `exclude = ["40.95.0.0/33"]`, "40.95"),
		}},
		{id: "A08", scenario: "IPv6 and mapped peers", variants: []variant{
			yes("IPv6 in the range", honest().peerIs(eopIPv6), acmeTest, acmeTest),
			yes("a mapped address is its IPv4 twin", honest().peerIs("::ffff:"+eopSecond), acmeTest, acmeTest),
			early(atRcpt, "a mapped address of the pool", mail.RelayPool, honest().peerIs("::ffff:"+pool)),
			early(atRcpt, "a mapped address of a VPS", mail.RelayDenied, honest().peerIs("::ffff:"+vps)),
			early(atRcpt, "Microsoft's, not Microsoft 365's", mail.RelayDenied, honest().peerIs("2a01:111::bad")),
			no("IPv6 in the second range, without a name", mail.PeerNotEOP, honest().peerIs("2a01:111:f403::1")),
			early(atRcpt, "a mapped address just above the range", mail.RelayDenied, honest().peerIs("::ffff:40.108.0.0")),
			yes("a mapped address in hexadecimal", honest().peerIs("::ffff:286b:10a"), acmeTest, acmeTest),
			early(atRcpt, "the old compatible form", mail.RelayDenied, honest().peerIs("::"+eopSecond)),
		}},
		{id: "A09", scenario: "originator and tenant disagree", variants: []variant{
			no("acme's originator, the attacker's tenant", mail.AttributionConflict, spoof(lab.Cloud).edited("X-OriginatorOrg: "+attacker.Originator, "X-OriginatorOrg: acme.test")),
			no("acme's tenant, the attacker's originator", mail.AttributionConflict, honest().edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg: "+attacker.Originator)),
			no("acme's tenant, globex's originator", mail.AttributionConflict, honest().edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg: globex.test")),
			no("globex's tenant, acme's originator and secret", mail.AttributionConflict, honest().edited("CrossTenant-Id: "+acme.GUID, "CrossTenant-Id: "+globex.GUID)),
			no("a sub-domain of acme's originator", mail.AttributionConflict, honest().edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg: sub.acme.test")),
			no("acme's mail with initech's secret beside its own", mail.AttributionConflict, honest().topped(initech.SecretName+": "+initechSecret)),
			no("globex's credential, acme's tenant", mail.AttributionConflict, honest().authenticated("app@globex")),
			no("globex's credential, initech's secret", mail.AttributionConflict, mailFromUser("app@globex", "ann@globex.test").topped(initech.SecretName+": "+initechSecret)),
			no("acme's certificate, the attacker's tenant", denied, spoof(lab.BlindRelay).showing(certificateOf("gateway", time.Hour))),
			no("acme's certificate, globex's credential", mail.AttributionConflict, mailFromUser("app@globex", "ann@globex.test").showing(certificateOf("gateway", time.Hour))),
			no("acme's address, globex's credential", mail.AttributionConflict, mailFromUser("app@globex", "ann@globex.test").peerIs(onprem)),
			no("acme's address, initech's certificate and secret", mail.AttributionConflict, mailFromAddress(onprem, "ann@acme.test", "X-Initech-Device-Relay-Key: "+deviceSecret).showing(certificateOf("device", time.Hour))),
			no("acme's address, initech's secret", mail.AttributionConflict, mailFromAddress(onprem, "ann@acme.test", initech.SecretName+": "+initechSecret)),
			no("acme's tenant, initech's certificate", mail.AttributionConflict, honest().showing(certificateOf("device", time.Hour))),
			yes("a certificate that all of Microsoft shares is neither proof nor conflict", honest().showing(certificateOf("stranger", time.Hour)), acmeTest, acmeTest),
			no("acme's credential, the attacker's tenant", denied, spoof(lab.BlindRelay).authenticated("app@acme")),
		}},
		{id: "A10", scenario: "consumer outlook.com", variants: []variant{
			no("as it comes", mail.TenantReserved, mailFromMicrosoft(consumer, ceo)),
			no("with acme's originator", mail.TenantReserved, mailFromMicrosoft(consumer, ceo).edited("X-OriginatorOrg: "+consumer.Originator, "X-OriginatorOrg: acme.test")),
			no("with acme's secret", mail.TenantReserved, mailFromMicrosoft(consumer, ceo).topped(acme.SecretName+": "+acmeSecret)),
			no("id in capitals", mail.TenantReserved, mailFromMicrosoft(consumer, ceo).edited("CrossTenant-Id: "+consumer.GUID, "CrossTenant-Id: "+strings.ToUpper(consumer.GUID))),
			refusesRegistry("the registry lists it", edit(acme.GUID, consumer.GUID), "shared by everybody"),
			refusesRegistry("the registry lists it in capitals", edit(acme.GUID, strings.ToUpper(consumer.GUID)), "shared by everybody"),
			refusesRegistry("the registry lists its template tenant", edit(`"acme.onmicrosoft.com"]
provider`, `"sct-15.templateTenant"]
provider`), "shared by everybody"),
		}},
		{id: "A16", scenario: "secret header missing or wrong", variants: []variant{
			no("missing", mail.SecondProofMissing, honest().headless(acme.SecretName)),
			no("wrong", mail.SecondProofMissing, honest().edited(acmeSecret, "anx1_3abigakvquj4hqwgnv7k4x7gvhi")),
			no("of another organisation, under acme's name", mail.SecondProofMissing, honest().edited(acmeSecret, initechSecret)),
			no("in capitals", mail.SecondProofMissing, honest().edited(acmeSecret, strings.ToUpper(acmeSecret))),
			no("cut short", mail.SecondProofMissing, honest().edited(acmeSecret, acmeSecret[:len(acmeSecret)-1])),
			no("its hash instead", mail.SecondProofMissing, honest().edited(acmeSecret, digest(acmeSecret))),
			no("with more after it", mail.SecondProofMissing, honest().edited(acmeSecret, acmeSecret+" x")),
			no("empty", mail.SecondProofMissing, honest().edited(acmeSecret, "")),
			no("in a field of another name", mail.SecondProofMissing, honest().edited(acme.SecretName, "X-Acme-Relay-Keys")),
			no("a signature instead of Microsoft's, by nobody", mail.SecondProofMissing, mailFromMicrosoft(globex, "ceo@globex.test")),
			no("our own signature instead of Microsoft's", mail.SecondProofMissing, mailFromMicrosoft(globex, "ceo@globex.test").signed("globex.test", "an1e", keys()["globex.test/an1e"])),
			no("Microsoft's signature for another organisation", mail.SecondProofMissing, microsoftSigned(globex, "initech.test", "ceo@globex.test")),
			no("Microsoft's signature over other text", mail.SecondProofMissing, microsoftSigned(globex, "globex.test", "ceo@globex.test").edited("Subject: your invoice", "Subject: my invoice")),
		}},
		{id: "A17", scenario: "stolen secret, foreign tenant", variants: []variant{
			leaked(no("blind relay", denied, spoof(lab.BlindRelay).ended(acme.SecretName+": "+acmeSecret))),
			leaked(no("a mailbox of the attacker's", denied, spoof(lab.Cloud).ended(acme.SecretName+": "+acmeSecret))),
			leaked(no("the next secret", denied, spoof(lab.Cloud).topped(strings.ToLower(acme.SecretName)+": "+acmeNextSecret))),
			no("of another organisation, by a customer", mail.AttributionConflict, mailFromMicrosoft(umbrella, "x@umbrella.test").topped(acme.SecretName+": "+acmeSecret)),
		}},
		{id: "A18", scenario: "secret header duplicated", variants: []variant{
			no("the same twice", mail.SecondProofMissing, honest().topped(acme.SecretName+": "+acmeSecret)),
			no("both of a rotation", mail.SecondProofMissing, honest().topped(acme.SecretName+": "+acmeNextSecret)),
			no("a wrong one first", mail.SecondProofMissing, honest().topped(acme.SecretName+": guess")),
			no("a wrong one last", mail.SecondProofMissing, honest().ended(acme.SecretName+": guess")),
			no("in other case", mail.SecondProofMissing, honest().ended(strings.ToUpper(acme.SecretName)+": "+acmeSecret)),
			no("an empty one", mail.SecondProofMissing, honest().ended(acme.SecretName+":")),
		}},
		// The table of tenants that were seen has its stories in seen_test.go.
		{id: "A21", scenario: "tenant moved", variants: movedVariants()},
	}
}

// claims adds whom the ledger must say the message claimed to be from.
func claims(org string, v variant) variant { v.claimed = org; return v }

func leaked(v variant) variant { v.detail = "has leaked"; return v }

// campaignCounter: anechoic_refused_total counts each refused spoof.
func campaignCounter(t *testing.T, r *relay) {
	before := r.refusedTotal(t, mail.ReasonTenantNotAuthorized)
	for range 3 {
		if _, answer := r.send(t, mailThrough(attacker, lab.BlindRelay, vps, "ceo@acme.test")); answer.reason != mail.ReasonTenantNotAuthorized {
			t.Fatal(answer)
		}
	}
	if after := r.refusedTotal(t, mail.ReasonTenantNotAuthorized); after != before+3 {
		t.Errorf("the counter went from %d to %d", before, after)
	}
}

// microsoftKey is the key that the provider signs with; its record is kept in
// the provider's zone, where the customer's points to.
var microsoftKey = keys()["umbrella.test/an1e"]

// microsoftSigned is a tenant's mail with the provider's signature for a domain.
func microsoftSigned(t lab.Tenant, domain, from string) letter {
	return mailFromMicrosoft(t, from).signed(domain, "selector1", microsoftKey)
}

// publishMicrosoftKeys puts the aliases up.
func publishMicrosoftKeys(n *lab.Internet) {
	for _, name := range []string{"globex", "initech"} {
		target := "selector1-" + name + "-test._domainkey." + name + ".onmicrosoft.com"
		n.Zone.SetCNAME("selector1._domainkey."+name+".test", target)
		n.Publish(target, dkim.RecordValue(microsoftKey.Public()))
	}
}

// peerNameFails and peerAddressFails: DNS that does not answer is no verdict.
func peerNameFails(t *testing.T, _ *relay) {
	outage(t, reverse(netip.MustParseAddr(eop)), mailFromMicrosoft(acme, "ann@acme.test"), mail.ReasonLookupFailed)
}

func peerAddressFails(t *testing.T, _ *relay) {
	outage(t, "mail-a.outbound.protection.outlook.com", mailFromMicrosoft(acme, "ann@acme.test"), mail.ReasonLookupFailed)
}

// reverse is the name of an IPv4 address in DNS.
func reverse(a netip.Addr) string { return strings.TrimSuffix(dns.ReverseName(a), ".") }

// peerNamed: a peer whose address has a name both ways is refused for it.
func peerNamed(t *testing.T, r *relay, addr, name string, want *mail.Refusal) {
	r.internet.Zone.SetPTR(netip.MustParseAddr(addr), name)
	r.internet.Zone.SetAddresses(name, netip.MustParseAddr(addr))
	if _, answer := r.send(t, mailFromMicrosoft(acme, "ann@acme.test").peerIs(addr)); answer.reason != want.Reason() {
		t.Errorf("%s named %s: %s", addr, name, answer)
	}
}

// tenantMoved: nothing is approved by itself; what the registry says counts from
// the reload on.
func tenantMoved(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), nil)
	moved := acme
	moved.GUID = "55555555-5555-4555-8555-555555555555"
	if _, answer := r.send(t, mailFromMicrosoft(moved, "ann@acme.test")); answer.reason != mail.ReasonAttributionConflict {
		t.Errorf("before it is approved: %s", answer)
	}
	r.writeRegistry(t, strings.Replace(registry(), `"`+acme.GUID+`"`, `"`+acme.GUID+`", "`+moved.GUID+`"`, 1))
	r.reload(t)
	r.acceptedAndDelivered(t, mailFromMicrosoft(moved, "ann@acme.test"))
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
	r.writeRegistry(t, strings.Replace(registry(), acme.GUID, moved.GUID, 1))
	r.reload(t)
	if _, answer := r.send(t, mailFromMicrosoft(acme, "ann@acme.test")); answer.reason != mail.ReasonAttributionConflict {
		t.Errorf("after it is revoked: %s", answer)
	}
	r.acceptedAndDelivered(t, mailFromMicrosoft(moved, "ann@acme.test"))
}

// acceptedAndDelivered sends a letter that must pass, and waits for it.
func (r *relay) acceptedAndDelivered(t *testing.T, l letter) lab.Judgement {
	t.Helper()
	expectAlso(messageID(l.data))
	if stage, answer := r.send(t, l); answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	return r.await(t, messageID(l.data))
}
