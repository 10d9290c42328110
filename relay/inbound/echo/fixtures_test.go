package echo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// The people of the tests: Acme owns its tenant, Evil spoofs Acme through a relay.
const (
	acmeTenant  = "11111111-1111-4111-8111-111111111111"
	acmeSecond  = "22222222-2222-4222-8222-222222222222"
	evilTenant  = "eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee"
	acmeAlias   = "selector1-acme-example._domainkey.acmecorp.onmicrosoft.com"
	relayMX     = "mx0a-1.relay.example"
	providerHop = "Received: from a.prod.outlook.com (10.1.1.1) by b.prod.outlook.com (10.1.1.2) with Microsoft SMTP Server id 15.20; Sun, 22 Nov 2026 12:00:00 +0000"
	ingressHop  = "Received: from x.example (192.0.2.1) by c.mail.protection.outlook.com (10.1.1.3) with Microsoft SMTP Server id 15.20 via Frontend Transport; Sun, 22 Nov 2026 12:00:00 +0000"
	relayHop    = "Received: from n.outbound.protection.outlook.com (n.outbound.protection.outlook.com [192.0.2.9]) by mx0a-1.relay.example (PPS) with ESMTPS id 1; Sun, 22 Nov 2026 12:00:01 +0000"
	signature   = "DKIM-Signature: v=1; a=rsa-sha256; d=acme.example; s=s1; h=from; bh=; b="
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func domain(s string) mail.Domain {
	d, err := mail.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

func stamps(tenant, originator string) []string {
	return []string{"X-OriginatorOrg: " + originator, "X-MS-Exchange-CrossTenant-Id: " + tenant}
}

func mailbox(tenant, originator string) []string {
	return append(stamps(tenant, originator), "X-MS-Exchange-CrossTenant-AuthAs: Internal", "X-MS-Exchange-CrossTenant-FromEntityHeader: Hosted", "X-MS-Exchange-SenderADCheck: 1")
}

func connector(tenant, originator string) []string {
	return append(stamps(tenant, originator), "X-MS-Exchange-CrossTenant-AuthAs: Anonymous", "X-MS-Exchange-CrossTenant-FromEntityHeader: HybridOnPrem",
		fmt.Sprintf("X-MS-Exchange-CrossTenant-OriginalAttributedTenantConnectingIp: TenantId=%s;Ip=[192.0.2.1];Helo=[x.example]", tenant))
}

func outside(tenant, originator string) []string {
	return append(stamps(tenant, originator), "X-MS-Exchange-CrossTenant-AuthAs: Anonymous", "X-MS-Exchange-CrossTenant-FromEntityHeader: Internet")
}

// lines puts groups of header lines together.
func lines(groups ...any) (all []string) {
	for _, g := range groups {
		switch g := g.(type) {
		case string:
			all = append(all, g)
		case []string:
			all = append(all, g...)
		}
	}
	return all
}

// read parses header lines as a message bears them.
func read(t testing.TB, all []string) Stamps {
	t.Helper()
	h, err := mail.ParseHeader([]byte(strings.Join(all, "\r\n")+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return Read(attribution.ReadHeader(new(org.Directory), h), h)
}

// seen is a message as Acme's that passes DMARC, with a signature of Acme's in each
// DKIM-Signature field of the header.
func seen(t testing.TB, peer Peer, alias string, all []string) Observation {
	t.Helper()
	o := Observation{Time: noon, From: domain("acme.example"), Organisational: domain("acme.example"), DMARC: true, SPF: true, Peer: peer, PeerName: domain(relayMX), Stamps: read(t, all)}
	for i := range o.Stamps.Place {
		o.Signatures = append(o.Signatures, Signature{Domain: domain("acme.example"), Selector: "s1", Alias: alias, Field: i})
	}
	return o
}

// Messages of the tests, each as it arrives here.
func fromCloud(t testing.TB) Observation {
	return seen(t, ProviderPeer, acmeAlias, lines(signature, providerHop, mailbox(acmeTenant, "acme.example")))
}

func echoed(t testing.TB) Observation {
	return seen(t, OtherPeer, "", lines(signature, relayHop, providerHop, ingressHop, connector(evilTenant, "evil.onmicrosoft.com")))
}

func (o Observation) at(when time.Time) Observation {
	o.Time = when
	return o
}

func (o Observation) sealed(seals ...attribution.Sealed) Observation {
	o.Seals = append(o.Seals[:len(o.Seals):len(o.Seals)], seals...)
	return o
}

// acmeFails and acmeInside are what the provider attests of a spoof and of a mailbox.
var (
	acmeFails  = attribution.Sealed{Instance: 1, Intact: true, Attested: attribution.Attested{SPF: "fail", DMARC: "fail", HeaderFrom: domain("acme.example"), Outside: true}}
	acmeInside = attribution.Sealed{Instance: 1, Intact: true, Attested: attribution.Attested{SPF: "pass", DMARC: "pass", HeaderFrom: domain("acme.example"), DKIM: []mail.Domain{domain("acme.example")}}}
)

// taught is Acme's profile after ten days of its own mail.
func taught(t testing.TB) (p Profile) {
	for i := range 10 {
		p = Learn(Rule{}, p, fromCloud(t).at(noon.Add(time.Duration(i-10)*day)))
	}
	return p
}
