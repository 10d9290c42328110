package attribution

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/org"
)

// The registry of these tests: two organisations with every kind of source this
// stage decides on. Secrets are made anew for each run.
var (
	acmeSecret, globexSecret, googleSecret = org.NewSecret(), org.NewSecret(), org.NewSecret()

	now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

const (
	acmeTenant   = "11111111-1111-4111-8111-111111111111"
	initechGUID  = "22222222-2222-4222-8222-222222222222"
	globexTenant = "33333333-3333-4333-8333-333333333333"
	strangerGUID = "99999999-9999-4999-8999-999999999999"
	argon2id     = "$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE"
)

func registryText() string {
	digest := func(secret string) string {
		d, ok := org.HashSecret(secret)
		if !ok {
			panic("a new secret has no digest")
		}
		return fmt.Sprintf("%x", d)
	}
	return strings.NewReplacer("ACMESECRET", digest(acmeSecret), "GLOBEXSECRET", digest(globexSecret), "GOOGLESECRET", digest(googleSecret), "ARGON", argon2id).Replace(`
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
  [[organisation.domain]]
  name = "acme.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.source]]
  id = "acme-m365"
  kind = "microsoft365"
  tenant_ids = ["11111111-1111-4111-8111-111111111111"]
  originator_orgs = ["acme.test", "acme.onmicrosoft.com"]
  provider_domains = ["acme.onmicrosoft.com"]
  hybrid_addresses = ["198.51.100.7/32"]
  internal = ["10.0.0.0/8"]
  secret_header = { name = "X-Acme-Relay-Key", sha256 = ["ACMESECRET"] }
  [[organisation.source]]
  id = "acme-app"
  kind = "credential"
  role = "application"
  username = "app@acme"
  password = { argon2id = "ARGON" }
  from = ["*@acme.test"]
  addresses = ["192.0.2.0/24"]
  [[organisation.source]]
  id = "acme-server"
  kind = "credential"
  role = "server"
  internal = ["10.0.0.0/8"]
  username = "server@acme"
  password = { argon2id = "ARGON" }
  from = ["*@acme.test"]
[[organisation]]
id = "globex"
name = "Globex"
security_contact = "security@globex.test"
  [[organisation.domain]]
  name = "globex.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.source]]
  id = "globex-m365"
  kind = "microsoft365"
  tenant_ids = ["33333333-3333-4333-8333-333333333333"]
  originator_orgs = ["globex.test"]
  secret_header = { name = "X-Globex-Relay-Key", sha256 = ["GLOBEXSECRET"] }
  [[organisation.source]]
  id = "globex-google"
  kind = "google"
  dkim = [{ domain = "globex.test", selectors = ["google"] }]
  secret_header = { name = "X-Globex-Google-Key", sha256 = ["GOOGLESECRET"] }
  [[organisation.source]]
  id = "globex-server"
  kind = "address"
  role = "server"
  internal = ["10.0.0.0/8"]
  addresses = ["203.0.113.16/28", "2001:db8:10::/64"]
  from = ["*@globex.test"]
  [[organisation.source]]
  id = "globex-scanner"
  kind = "certificate"
  role = "application"
  spki_sha256 = ["4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796"]
  from = ["scanner@globex.test"]
[[organisation]]
id = "initech"
name = "Initech"
security_contact = "security@initech.test"
  [[organisation.domain]]
  name = "initech.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.source]]
  id = "initech-m365"
  kind = "microsoft365"
  tenant_ids = ["22222222-2222-4222-8222-222222222222"]
  originator_orgs = ["initech.test"]
  provider_domains = ["initech.onmicrosoft.com"]
  require_dkim = true
`)
}

var ourEgress = netip.MustParseAddr("203.0.113.99")

func directory(t testing.TB) *org.Directory {
	t.Helper()
	registry, problems := org.ParseRegistry("registry.toml", []byte(registryText()))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	providers := org.Providers{Microsoft365: org.Provider{
		Ranges:  []netip.Prefix{netip.MustParsePrefix("40.92.0.0/15"), netip.MustParsePrefix("40.107.0.0/16"), netip.MustParsePrefix("40.95.0.0/16"), netip.MustParsePrefix("2a01:111:f403::/48")},
		Exclude: []netip.Prefix{netip.MustParsePrefix("40.95.0.0/16")},
	}, Google: org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("209.85.128.0/17")}}}
	dir, problems, _ := org.Build(registry, providers, []netip.Addr{ourEgress}, 7, now)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return dir
}

// parse reads header lines, joined by LF here, as evidence.
func parse(t testing.TB, dir *org.Directory, lines ...string) HeaderEvidence {
	t.Helper()
	h, err := mail.ParseHeader([]byte(strings.ReplaceAll(strings.Join(lines, "\n")+"\n", "\n", "\r\n")), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return ReadHeader(dir, h)
}

func domain(s string) mail.Domain {
	d, err := mail.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

// stamps are what Microsoft 365 writes on a cloud mailbox's mail.
func stamps(tenant, originator string) []string {
	return []string{
		"X-OriginatorOrg: " + originator,
		"X-MS-Exchange-CrossTenant-AuthAs: Internal",
		"X-MS-Exchange-CrossTenant-FromEntityHeader: Hosted",
		"X-MS-Exchange-CrossTenant-Id: " + tenant,
		"X-MS-Exchange-SenderADCheck: 1",
	}
}

// hybridStamps are what it writes on mail a server handed over.
func hybridStamps(tenant, originator, ip string) []string {
	return []string{
		"Received: from AM0PR01MB.eurprd01.prod.exchangelabs.com (2603:10a6::1) by\n VI1PR.eurprd.prod.outlook.com (2603:10a6::2) with Microsoft SMTP Server id 15.20",
		"Received: from mail.acme.test (" + ip + ") by\n HE1EUR01FT042.mail.protection.outlook.com (10.152.0.1) with Microsoft SMTP Server id 15.20 via Frontend Transport",
		"Received: from desk7.acme.test (desk7.acme.test [10.1.2.3])\n by mail.acme.test (Postfix) with ESMTP id 4711",
		"X-OriginatorOrg: " + originator,
		"X-MS-Exchange-CrossTenant-AuthAs: Anonymous",
		"X-MS-Exchange-CrossTenant-FromEntityHeader: HybridOnPrem",
		"X-MS-Exchange-CrossTenant-OriginalAttributedTenantConnectingIp: TenantId=" + tenant + ";Ip=[" + ip + "];Helo=[mail.acme.test]",
		"X-MS-Exchange-CrossTenant-Id: " + tenant,
	}
}

func secretLine() string { return "X-Acme-Relay-Key: " + acmeSecret }

// eop is evidence from a confirmed Microsoft 365 host.
func eop(t testing.TB, dir *org.Directory, lines ...string) Evidence {
	return Evidence{
		Peer: netip.MustParseAddr("40.107.3.4"), TLS: true, PeerName: PeerNameConfirmed,
		From: domain("acme.test"), Header: parse(t, dir, lines...),
	}
}

func TestMicrosoft365(t *testing.T) {
	dir := directory(t)
	cloud := append(stamps(acmeTenant, "acme.test"), secretLine())
	with := func(lines []string, more ...string) []string { return append(append([]string{}, lines...), more...) }
	without := func(lines []string, prefix string) (kept []string) {
		for _, l := range lines {
			if !strings.HasPrefix(l, prefix) {
				kept = append(kept, l)
			}
		}
		return kept
	}
	hybrid := with(hybridStamps(acmeTenant, "acme.test", "198.51.100.7"), secretLine())
	for name, c := range map[string]struct {
		lines  []string
		change func(*Evidence)
		want   *mail.Refusal // nil: proven
		origin Origin
	}{
		"a cloud mailbox with the secret header is proven": {lines: cloud, origin: Hosted},
		"stamps in lower case and odd case are the same": {
			lines: []string{"x-originatororg: Acme.Test", "x-ms-exchange-crosstenant-authas: internal", "X-MS-Exchange-CrossTenant-fromentityheader: hosted", "x-ms-exchange-crosstenant-id: " + strings.ToUpper(acmeTenant), secretLine()}, origin: Hosted,
		},
		"a folded stamp is unfolded": {
			lines: with(without(cloud, "X-OriginatorOrg"), "X-OriginatorOrg:\n acme.test"), origin: Hosted,
		},
		"the tenant's provider domain as originator":         {lines: with(stamps(acmeTenant, "acme.onmicrosoft.com"), secretLine()), origin: Hosted},
		"the classic: another tenant at the shared provider": {lines: stamps(strangerGUID, "evil.onmicrosoft.com"), want: mail.TenantNotAuthorized},
		"another tenant with a stolen secret":                {lines: with(stamps(strangerGUID, "evil.onmicrosoft.com"), secretLine()), want: mail.TenantNotAuthorized},
		"no stamps at all":                                   {lines: []string{secretLine()}, want: mail.AttributionMissing},
		"the tenant id alone":                                {lines: without(cloud, "X-OriginatorOrg"), want: mail.AttributionMissing},
		"the originator alone":                               {lines: without(cloud, "X-MS-Exchange-CrossTenant-Id"), want: mail.AttributionMissing},
		"two originators, ours first":                        {lines: with(cloud, "X-OriginatorOrg: evil.example"), want: mail.AttributionAmbiguous},
		"two originators, ours last":                         {lines: with([]string{"x-originatororg: evil.example"}, cloud...), want: mail.AttributionAmbiguous},
		"the same originator twice":                          {lines: with(cloud, "X-ORIGINATORORG: acme.test"), want: mail.AttributionAmbiguous},
		"two tenant ids":                                     {lines: with(cloud, "X-MS-Exchange-CrossTenant-Id: "+strangerGUID), want: mail.AttributionAmbiguous},
		"a tenant id that is none":                           {lines: with(without(cloud, "X-MS-Exchange-CrossTenant-Id"), "X-MS-Exchange-CrossTenant-Id: *"), want: mail.AttributionAmbiguous},
		"an originator with a trailing dot":                  {lines: with(without(cloud, "X-OriginatorOrg"), "X-OriginatorOrg: acme.test."), want: mail.AttributionAmbiguous},
		"our originator, a stranger's tenant":                {lines: with(stamps(strangerGUID, "acme.test"), secretLine()), want: mail.AttributionConflict},
		"our tenant, a stranger's originator":                {lines: with(stamps(acmeTenant, "evil.example"), secretLine()), want: mail.AttributionConflict},
		"our tenant, another customer's originator":          {lines: with(stamps(acmeTenant, "globex.test"), secretLine()), want: mail.AttributionConflict},
		"consumer outlook.com":                               {lines: with(stamps("84df9e7f-e9f6-40af-b435-aaaaaaaaaaaa", "sct-15-20.templatetenant"), secretLine()), want: mail.TenantReserved},
		"without the secret header":                          {lines: stamps(acmeTenant, "acme.test"), want: mail.SecondProofMissing},
		"with a wrong secret of the right form":              {lines: with(stamps(acmeTenant, "acme.test"), "X-Acme-Relay-Key: "+org.NewSecret()), want: mail.SecondProofMissing},
		"with a wrong secret of no form":                     {lines: with(stamps(acmeTenant, "acme.test"), "X-Acme-Relay-Key: letmein"), want: mail.SecondProofMissing},
		"with the secret twice":                              {lines: with(cloud, secretLine()), want: mail.SecondProofMissing},
		"with the secret and a wrong one":                    {lines: with(cloud, "X-Acme-Relay-Key: "+org.NewSecret()), want: mail.SecondProofMissing},
		"with another customer's secret beside ours":         {lines: with(cloud, "X-Globex-Relay-Key: "+globexSecret), want: mail.AttributionConflict},
		"from a plain-text connection":                       {lines: cloud, change: func(e *Evidence) { e.TLS = false }, want: mail.ProviderNeedsTLS},
		"from a range address without a name":                {lines: cloud, change: func(e *Evidence) { e.PeerName = PeerNameUnconfirmed }, want: mail.PeerNotEOP},
		"when the name cannot be looked up":                  {lines: cloud, change: func(e *Evidence) { e.PeerName = PeerNameFailed }, want: mail.LookupFailed},
		"when nobody looked the name up":                     {lines: cloud, change: func(e *Evidence) { e.PeerName = PeerNameUnknown }, want: mail.LookupFailed},
		"from the relay pool":                                {lines: cloud, change: func(e *Evidence) { e.Peer = netip.MustParseAddr("40.95.1.2") }, want: mail.RelayPool},
		"from outside the range":                             {lines: cloud, change: func(e *Evidence) { e.Peer = netip.MustParseAddr("198.51.100.200") }, want: mail.RelayDenied},
		"from a mapped address of the range":                 {lines: cloud, change: func(e *Evidence) { e.Peer = netip.MustParseAddr("::ffff:40.107.3.4") }, origin: Hosted},

		"auto-forward: AuthAs Anonymous":         {lines: with(without(cloud, "X-MS-Exchange-CrossTenant-AuthAs"), "X-MS-Exchange-CrossTenant-AuthAs: Anonymous"), origin: Forwarded},
		"auto-forward: entity Internet":          {lines: with(without(cloud, "X-MS-Exchange-CrossTenant-From"), "X-MS-Exchange-CrossTenant-FromEntityHeader: Internet"), origin: Forwarded},
		"auto-forward: no AuthAs":                {lines: without(cloud, "X-MS-Exchange-CrossTenant-AuthAs"), origin: Forwarded},
		"auto-forward: AuthAs twice":             {lines: with(cloud, "X-MS-Exchange-CrossTenant-AuthAs: Internal"), origin: Forwarded},
		"auto-forward: ForwardingLoop":           {lines: with(cloud, "X-MS-Exchange-ForwardingLoop: bob@acme.test;"+acmeTenant), origin: Forwarded},
		"auto-forward: LD-Processed":             {lines: with(cloud, "X-LD-Processed: "+acmeTenant+",ExtFwd"), origin: Forwarded},
		"auto-forward: outbound connectors":      {lines: with(cloud, "X-ExternalRecipientOutboundConnectors: "+acmeTenant), origin: Forwarded},
		"auto-forward: Resent-From":              {lines: with(cloud, "Resent-From: <bob@acme.test>"), origin: Forwarded},
		"auto-forward: SenderADCheck 0":          {lines: with(without(cloud, "X-MS-Exchange-SenderADCheck"), "X-MS-Exchange-SenderADCheck: 0"), origin: Forwarded},
		"hosted stamps with a connecting server": {lines: with(cloud, "X-MS-Exchange-CrossTenant-OriginalAttributedTenantConnectingIp: TenantId="+acmeTenant+";Ip=[198.51.100.7];Helo=[a]"), origin: Forwarded},
		"SenderADCheck may be absent":            {lines: without(cloud, "X-MS-Exchange-SenderADCheck"), origin: Hosted},

		"a listed hybrid server":                {lines: hybrid, origin: Hybrid},
		"a hybrid server that is not listed":    {lines: with(hybridStamps(acmeTenant, "acme.test", "51.38.1.1"), secretLine()), want: mail.HybridSourceUnknown},
		"our own echo":                          {lines: with(hybridStamps(acmeTenant, "acme.test", "203.0.113.99"), secretLine()), want: mail.OwnEcho},
		"a hybrid stamp of another tenant":      {lines: with(without(hybrid, "X-MS-Exchange-CrossTenant-Orig"), "X-MS-Exchange-CrossTenant-OriginalAttributedTenantConnectingIp: TenantId="+strangerGUID+";Ip=[198.51.100.7];Helo=[a]"), origin: Forwarded},
		"a hybrid stamp with two addresses":     {lines: with(without(hybrid, "X-MS-Exchange-CrossTenant-Orig"), "X-MS-Exchange-CrossTenant-OriginalAttributedTenantConnectingIp: TenantId="+acmeTenant+";Ip=[51.38.1.1];Ip=[198.51.100.7]"), origin: Forwarded},
		"hybrid without a connecting address":   {lines: without(hybrid, "X-MS-Exchange-CrossTenant-Orig"), origin: Forwarded},
		"hybrid that shows Delivered-To":        {lines: with(hybrid, "Delivered-To: bob@acme.test"), origin: Forwarded},
		"hybrid that shows a list":              {lines: with(hybrid, "List-Id: <x.acme.test>"), origin: Forwarded},
		"hybrid that shows X-Forwarded-To":      {lines: with(hybrid, "X-Forwarded-To: x@example.com"), origin: Forwarded},
		"hybrid with entry from the internet":   {lines: with(hybrid, "Received: from evil (evil.example [51.38.1.1])\n by mx.acme.test with ESMTP"), origin: Forwarded},
		"hybrid with a lying HELO":              {lines: with(hybrid, "Received: from [10.1.1.1] (evil.example [51.38.1.1])\n by mx.acme.test with ESMTP"), origin: Forwarded},
		"hybrid with entry from who knows":      {lines: with(hybrid, "Received: from somewhere by mx.acme.test with ESMTP"), origin: Forwarded},
		"hybrid with ARC and results is normal": {lines: with(hybrid, "ARC-Seal: i=1; cv=none", "Authentication-Results: spf=none"), origin: Hybrid},
	} {
		t.Run(name, func(t *testing.T) {
			ev := eop(t, dir, c.lines...)
			if c.change != nil {
				c.change(&ev)
			}
			proof, refusal := Attribute(dir, &ev, now)
			expect(t, proof, refusal, c.want)
			if c.want == nil && (proof.Organisation() != "acme" || proof.Origin() != c.origin || proof.Principal() != "tenant:"+acmeTenant) {
				t.Errorf("proof %+v, want acme, %s", proof, c.origin)
			}
		})
	}
}

func expect(t *testing.T, proof Proof, refusal, want *mail.Refusal) {
	t.Helper()
	switch {
	case (refusal == nil) == proof.IsZero():
		t.Fatalf("proof %+v with refusal %v: exactly one must be there", proof, refusal)
	case want == nil && refusal != nil:
		t.Errorf("refused: %v", refusal)
	case want != nil && refusal == nil:
		t.Errorf("proven as %s, want %v", proof.Organisation(), want)
	case want != nil && (refusal.Reason() != want.Reason() || refusal.Code() != want.Code()):
		t.Errorf("refused with %v, want %v", refusal, want)
	}
}

func TestASignatureOfTheProviderAsSecondProof(t *testing.T) {
	dir := directory(t)
	for name, c := range map[string]struct {
		signatures []Signature
		failed     bool
		want       *mail.Refusal
	}{
		"the tenant's provider domain":      {signatures: []Signature{{Domain: domain("initech.onmicrosoft.com"), Selector: "selector1"}}},
		"our domain, key kept by Microsoft": {signatures: []Signature{{Domain: domain("initech.test"), Alias: "selector1-initech-test._domainkey.initech.onmicrosoft.com"}}},
		"our domain, key of the new zone":   {signatures: []Signature{{Domain: domain("initech.test"), Alias: "selector1-initech-test._domainkey.initech.n-v1.dkim.mail.microsoft"}}},
		"our domain, key kept elsewhere":    {signatures: []Signature{{Domain: domain("initech.test"), Alias: "s1.sendgrid.net"}}, want: mail.SecondProofMissing},
		"our domain, key without alias":     {signatures: []Signature{{Domain: domain("initech.test"), Selector: "an1"}}, want: mail.SecondProofMissing},
		"a look-alike of the zone":          {signatures: []Signature{{Domain: domain("initech.test"), Alias: "x.evilonmicrosoft.com"}}, want: mail.SecondProofMissing},
		"another tenant's provider domain":  {signatures: []Signature{{Domain: domain("evil.onmicrosoft.com")}}, want: mail.SecondProofMissing},
		"another customer's domain":         {signatures: []Signature{{Domain: domain("acme.test"), Alias: "x.onmicrosoft.com"}}, want: mail.SecondProofMissing},
		"none":                              {want: mail.SecondProofMissing},
		"DNS did not answer":                {failed: true, want: mail.LookupFailed},
	} {
		t.Run(name, func(t *testing.T) {
			ev := eop(t, dir, stamps(initechGUID, "initech.test")...)
			ev.From, ev.Signatures, ev.SignaturesFailed = domain("initech.test"), c.signatures, c.failed
			proof, refusal := Attribute(dir, &ev, now)
			expect(t, proof, refusal, c.want)
		})
	}
}

func TestCredential(t *testing.T) {
	dir := directory(t)
	for name, c := range map[string]struct {
		user   string
		peer   string
		lines  []string
		change func(*Evidence)
		want   *mail.Refusal
		origin Origin // empty: hosted
	}{
		"an application writes its own mail":              {user: "app@acme", peer: "192.0.2.7"},
		"with one hop of its own":                         {user: "app@acme", peer: "192.0.2.7", lines: []string{"Received: from app (app [127.0.0.1]) by host"}},
		"from an address it is not for":                   {user: "app@acme", peer: "198.51.100.9", want: mail.SourceNotAllowed},
		"a user that is gone":                             {user: "gone@acme", peer: "192.0.2.7", want: mail.RelayDenied},
		"without TLS":                                     {user: "app@acme", peer: "192.0.2.7", change: func(e *Evidence) { e.TLS = false }, want: mail.RelayDenied},
		"nobody":                                          {peer: "192.0.2.7", want: mail.RelayDenied},
		"a message that was resent":                       {user: "app@acme", peer: "192.0.2.7", lines: []string{"Resent-From: a@acme.test"}, origin: Forwarded},
		"a message that was sealed":                       {user: "app@acme", peer: "192.0.2.7", lines: []string{"ARC-Seal: i=1"}, origin: Forwarded},
		"a message that was delivered":                    {user: "app@acme", peer: "192.0.2.7", lines: []string{"Delivered-To: a@acme.test"}, origin: Forwarded},
		"a message of a list":                             {user: "app@acme", peer: "192.0.2.7", lines: []string{"List-Id: <x>"}, origin: Forwarded},
		"a message that was checked on entry":             {user: "app@acme", peer: "192.0.2.7", lines: []string{"Authentication-Results: x"}, origin: Forwarded},
		"a message with three hops":                       {user: "app@acme", peer: "192.0.2.7", lines: []string{"Received: by a", "Received: by b", "Received: by c"}, origin: Forwarded},
		"forged stamps count nothing off the provider":    {user: "app@acme", peer: "192.0.2.7", lines: stamps(globexTenant, "globex.test")},
		"another customer's secret":                       {user: "app@acme", peer: "192.0.2.7", lines: []string{"X-Globex-Relay-Key: " + globexSecret}, want: mail.AttributionConflict},
		"a server's own mail has no hops":                 {user: "server@acme", peer: "192.0.2.7"},
		"a server's mail from inside":                     {user: "server@acme", peer: "192.0.2.7", lines: []string{"Received: from d (d [10.9.9.9]) by mail.acme.test"}},
		"a server's forwarded mail":                       {user: "server@acme", peer: "192.0.2.7", lines: []string{"Received: from e (e.example [51.38.1.1]) by mail.acme.test", "Received: from x ([10.1.1.1]) by e.example"}, origin: Forwarded},
		"a credential at the provider, of the same":       {user: "server@acme", peer: "40.107.3.4", lines: append(stamps(acmeTenant, "acme.test"), secretLine())},
		"a credential at the provider, of another tenant": {user: "server@acme", peer: "40.107.3.4", lines: append(stamps(globexTenant, "globex.test"), "X-Globex-Relay-Key: "+globexSecret), want: mail.AttributionConflict},
		"a credential with a stranger's tenant":           {user: "server@acme", peer: "40.107.3.4", lines: stamps(strangerGUID, "evil.example"), want: mail.TenantNotAuthorized},
	} {
		t.Run(name, func(t *testing.T) {
			ev := Evidence{Peer: netip.MustParseAddr(c.peer), TLS: true, Username: c.user, From: domain("acme.test"), Header: parse(t, dir, append([]string{"Subject: x"}, c.lines...)...), PeerName: PeerNameConfirmed}
			if c.change != nil {
				c.change(&ev)
			}
			proof, refusal := Attribute(dir, &ev, now)
			expect(t, proof, refusal, c.want)
			if c.want == nil && (proof.Organisation() != "acme" || proof.Principal() != "credential:"+c.user || proof.Origin() != cmp.Or(c.origin, Hosted)) {
				t.Errorf("proof %+v", proof)
			}
		})
	}
}

func TestGoogleWorkspace(t *testing.T) {
	dir := directory(t)
	secret := "X-Globex-Google-Key: " + googleSecret
	own := Signature{Domain: domain("globex.test"), Selector: "google", Signed: now.Add(-time.Minute)}
	with := func(change func(*Signature)) []Signature { s := own; change(&s); return []Signature{s} }
	for name, c := range map[string]struct {
		lines      []string
		signatures []Signature
		change     func(*Evidence)
		want       *mail.Refusal
		origin     Origin
	}{
		"secret and own signature":                     {lines: []string{secret}, signatures: []Signature{own}, origin: Hosted},
		"among others' signatures":                     {lines: []string{secret}, signatures: []Signature{{Domain: domain("globex-test.20230601.gappssmtp.com"), Selector: "20230601", Signed: now}, own}, origin: Hosted},
		"the shared range alone":                       {want: mail.SecondProofMissing},
		"the secret alone":                             {lines: []string{secret}, want: mail.SecondProofMissing},
		"the signature alone":                          {signatures: []Signature{own}, want: mail.SecondProofMissing},
		"the provider's own domain for a customer":     {lines: []string{secret}, signatures: with(func(s *Signature) { s.Domain = domain("globex-test.20230601.gappssmtp.com") }), want: mail.SecondProofMissing},
		"our own key":                                  {lines: []string{secret}, signatures: with(func(s *Signature) { s.Selector = "an1" }), want: mail.SecondProofMissing},
		"a selector that is not listed":                {lines: []string{secret}, signatures: with(func(s *Signature) { s.Selector = "other" }), want: mail.SecondProofMissing},
		"an old signature":                             {lines: []string{secret}, signatures: with(func(s *Signature) { s.Signed = now.Add(-25 * time.Hour) }), want: mail.SecondProofMissing},
		"a signature of tomorrow":                      {lines: []string{secret}, signatures: with(func(s *Signature) { s.Signed = now.Add(time.Hour) }), want: mail.SecondProofMissing},
		"a signature without a time":                   {lines: []string{secret}, signatures: with(func(s *Signature) { s.Signed = time.Time{} }), want: mail.SecondProofMissing},
		"a signature that is not aligned":              {lines: []string{secret}, signatures: []Signature{own}, change: func(e *Evidence) { e.From = domain("acme.test") }, want: mail.SecondProofMissing},
		"the secret twice":                             {lines: []string{secret, secret}, signatures: []Signature{own}, want: mail.SecondProofMissing},
		"a wrong secret":                               {lines: []string{"X-Globex-Google-Key: " + org.NewSecret()}, signatures: []Signature{own}, want: mail.SecondProofMissing},
		"the secret under another's header name":       {lines: []string{"X-Acme-Relay-Key: " + googleSecret}, signatures: []Signature{own}, want: mail.SecondProofMissing},
		"another customer's secret beside":             {lines: []string{secret, "X-Acme-Relay-Key: " + acmeSecret}, signatures: []Signature{own}, want: mail.AttributionConflict},
		"DNS did not answer for the key":               {lines: []string{secret}, change: func(e *Evidence) { e.SignaturesFailed = true }, want: mail.LookupFailed},
		"in the clear":                                 {lines: []string{secret}, signatures: []Signature{own}, change: func(e *Evidence) { e.TLS = false }, want: mail.ProviderNeedsTLS},
		"from outside the range":                       {lines: []string{secret}, signatures: []Signature{own}, change: func(e *Evidence) { e.Peer = netip.MustParseAddr("198.51.100.9") }, want: mail.RelayDenied},
		"forwarded by a rule":                          {lines: []string{secret, "X-Forwarded-To: x@example.com"}, signatures: []Signature{own}, origin: Forwarded},
		"forwarded for somebody":                       {lines: []string{secret, "X-Forwarded-For: a b"}, signatures: []Signature{own}, origin: Forwarded},
		"Microsoft's stamps from Google count nothing": {lines: append(stamps(acmeTenant, "acme.test"), secret), signatures: []Signature{own}, origin: Hosted},
	} {
		t.Run(name, func(t *testing.T) {
			ev := Evidence{Peer: netip.MustParseAddr("209.85.220.41"), TLS: true, From: domain("globex.test"), Header: parse(t, dir, append([]string{"Subject: x"}, c.lines...)...), Signatures: c.signatures}
			if c.change != nil {
				c.change(&ev)
			}
			proof, refusal := Attribute(dir, &ev, now)
			expect(t, proof, refusal, c.want)
			if c.want == nil && (proof.Organisation() != "globex" || proof.Source() != "globex-google" || proof.Origin() != c.origin) {
				t.Errorf("proof %+v", proof)
			}
		})
	}
}

func TestAddressAndCertificate(t *testing.T) {
	dir := directory(t)
	var pinned, other [32]byte
	pinned = mustKey("4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796")
	other[0] = 1
	for name, c := range map[string]struct {
		peer   string
		tls    bool
		key    ClientKey
		user   string
		lines  []string
		want   *mail.Refusal
		source string
		origin Origin
	}{
		"an address of the server":                     {peer: "203.0.113.17", source: "globex-server", origin: Hosted},
		"the same, mapped":                             {peer: "::ffff:203.0.113.17", source: "globex-server", origin: Hosted},
		"an IPv6 address of it":                        {peer: "2001:db8:10::25", tls: true, source: "globex-server", origin: Hosted},
		"the address beside":                           {peer: "203.0.113.32", want: mail.RelayDenied},
		"an IPv6 address beside":                       {peer: "2001:db8:11::25", want: mail.RelayDenied},
		"mail from inside the server's networks":       {peer: "203.0.113.17", lines: []string{"Received: from desk (desk [10.1.2.3]) by mail.globex.test"}, source: "globex-server", origin: Hosted},
		"mail that another of its servers took":        {peer: "203.0.113.17", lines: []string{"Received: from mx2 (mx2 [203.0.113.18]) by mail.globex.test"}, source: "globex-server", origin: Hosted},
		"mail that entered from outside":               {peer: "203.0.113.17", lines: []string{"Received: from e (e.example [51.38.1.1]) by mail.globex.test"}, source: "globex-server", origin: Forwarded},
		"mail that entered from nobody knows where":    {peer: "203.0.113.17", lines: []string{"Received: from somewhere by mail.globex.test"}, source: "globex-server", origin: Forwarded},
		"a pinned key":                                 {peer: "192.0.2.200", tls: true, key: ClientKey{SPKI: pinned, Present: true}, source: "globex-scanner", origin: Hosted},
		"a pinned key in an expired certificate":       {peer: "192.0.2.200", tls: true, key: ClientKey{SPKI: pinned, Present: true, Expired: true}, want: mail.RelayDenied},
		"a key that is nobody's":                       {peer: "192.0.2.200", tls: true, key: ClientKey{SPKI: other, Present: true}, want: mail.RelayDenied},
		"a key that was not shown":                     {peer: "192.0.2.200", tls: true, key: ClientKey{SPKI: pinned}, want: mail.RelayDenied},
		"a certificate and the address of the same":    {peer: "203.0.113.17", tls: true, key: ClientKey{SPKI: pinned, Present: true}, source: "globex-scanner", origin: Hosted},
		"an expired certificate at a known address":    {peer: "203.0.113.17", tls: true, key: ClientKey{SPKI: pinned, Present: true, Expired: true}, source: "globex-server", origin: Hosted},
		"a credential at another customer's address":   {peer: "203.0.113.17", tls: true, user: "server@acme", want: mail.AttributionConflict},
		"a certificate with another's credential":      {peer: "192.0.2.7", tls: true, user: "app@acme", key: ClientKey{SPKI: pinned, Present: true}, want: mail.AttributionConflict},
		"the provider's shared certificate is nothing": {peer: "192.0.2.7", tls: true, user: "app@acme", key: ClientKey{SPKI: other, Present: true}, source: "acme-app", origin: Hosted},
		"another customer's secret at the address":     {peer: "203.0.113.17", lines: []string{"X-Acme-Relay-Key: " + acmeSecret}, want: mail.AttributionConflict},
		"a resent message of an application":           {peer: "192.0.2.200", tls: true, key: ClientKey{SPKI: pinned, Present: true}, lines: []string{"Resent-To: a@b.example"}, source: "globex-scanner", origin: Forwarded},
	} {
		t.Run(name, func(t *testing.T) {
			ev := Evidence{Peer: netip.MustParseAddr(c.peer), TLS: c.tls, ClientKey: c.key, Username: c.user, From: domain("globex.test"), Header: parse(t, dir, append([]string{"Subject: x"}, c.lines...)...)}
			proof, refusal := Attribute(dir, &ev, now)
			expect(t, proof, refusal, c.want)
			if c.want == nil && (proof.Source() != c.source || proof.Origin() != c.origin) {
				t.Errorf("proof %+v, want source %s, %s", proof, c.source, c.origin)
			}
		})
	}
}

func mustKey(text string) (key [32]byte) {
	b, err := hex.DecodeString(text)
	if err != nil || copy(key[:], b) != len(key) {
		panic("not a key")
	}
	return key
}

// TestNoEvidenceNoProof enumerates evidence against the registry: a proof is made
// only of one organisation's complete evidence, adding another's never helps.
func TestNoEvidenceNoProof(t *testing.T) {
	dir := directory(t)
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(rt, label) }
		var lines []string
		for _, name := range []string{"X-OriginatorOrg", "X-MS-Exchange-CrossTenant-Id", "X-MS-Exchange-CrossTenant-AuthAs", "X-MS-Exchange-CrossTenant-FromEntityHeader", "X-Acme-Relay-Key", "X-Globex-Relay-Key"} {
			for range rapid.IntRange(0, 2).Draw(rt, name) {
				lines = append(lines, name+": "+pick(name+" value", acmeTenant, globexTenant, strangerGUID, "acme.test", "globex.test", "evil.example", "Internal", "Hosted", "Internet", acmeSecret, globexSecret, "x"))
			}
		}
		ev := Evidence{
			Peer: netip.MustParseAddr(pick("peer", "40.107.3.4", "40.95.1.1", "192.0.2.7", "198.51.100.7")),
			TLS:  rapid.Bool().Draw(rt, "tls"), PeerName: PeerName(rapid.IntRange(0, 3).Draw(rt, "name")),
			Username: pick("user", "", "", "app@acme", "nobody"), From: domain(pick("from", "acme.test", "globex.test")),
			Header: parse(t, dir, append([]string{"Subject: x"}, lines...)...),
		}
		proof, refusal := Attribute(dir, &ev, now)
		if (refusal == nil) == proof.IsZero() {
			rt.Fatalf("proof %+v, refusal %v", proof, refusal)
		}
		if refusal == nil {
			mustRestOnOwnEvidence(rt, &ev, proof)
		}
	})
}

// mustRestOnOwnEvidence states independently of the code what a proof needs.
func mustRestOnOwnEvidence(rt *rapid.T, ev *Evidence, p Proof) {
	secrets := map[org.ID]string{"acme": acmeSecret, "globex": globexSecret}
	for id, secret := range secrets {
		digest, _ := org.HashSecret(secret)
		for _, s := range ev.Header.Secrets {
			if s.Digest == digest && strings.Contains(s.Name, string(id)) && id != p.Organisation() {
				rt.Fatalf("proven as %s with the secret of %s", p.Organisation(), id)
			}
		}
	}
	if ev.Username == "app@acme" {
		if p.Organisation() != "acme" || !ev.TLS || !netip.MustParsePrefix("192.0.2.0/24").Contains(ev.Peer) {
			rt.Fatalf("credential proof %+v from %+v", p, ev)
		}
		return
	}
	tenants := map[string]org.ID{acmeTenant: "acme", globexTenant: "globex"}
	if !ev.TLS || ev.PeerName != PeerNameConfirmed || ev.Peer != netip.MustParseAddr("40.107.3.4") ||
		ev.Header.TenantID.Count != 1 || ev.Header.Originator.Count != 1 || tenants[ev.Header.TenantID.Value] != p.Organisation() ||
		ev.Header.Originator.Value != string(p.Organisation())+".test" || p.Methods()&BySecretHeader == 0 {
		rt.Fatalf("tenant proof %+v from %+v", p, ev)
	}
}

func TestTheOrderOfFieldsDoesNotMatter(t *testing.T) {
	dir := directory(t)
	lines := append(stamps(acmeTenant, "acme.test"), secretLine())
	rapid.Check(t, func(rt *rapid.T) {
		ev := eop(t, dir, rapid.Permutation(lines).Draw(rt, "order")...)
		if proof, refusal := Attribute(dir, &ev, now); refusal != nil || proof.Organisation() != "acme" {
			rt.Fatalf("%v", refusal)
		}
	})
}

func TestSealedProofs(t *testing.T) {
	dir := directory(t)
	ev := eop(t, dir, append(stamps(acmeTenant, "acme.test"), secretLine())...)
	proof, refusal := Attribute(dir, &ev, now)
	if refusal != nil {
		t.Fatal(refusal)
	}
	key, context := []byte(strings.Repeat("k", 32)), []byte("custody id, envelope, hashes")
	sealed, err := Seal(key, proof, context)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := Open(key, sealed, context); err != nil || opened != proof {
		t.Fatalf("opened %+v, %v; want %+v", opened, err, proof)
	}
	for i := range sealed {
		forged := append([]byte(nil), sealed...)
		forged[i] ^= 1
		if p, err := Open(key, forged, context); err == nil || !p.IsZero() {
			t.Fatalf("octet %d changed: opened %+v", i, p)
		}
	}
	if _, err := Open(key, sealed, []byte("another message")); err == nil {
		t.Error("opened for another message")
	}
	if _, err := Open([]byte(strings.Repeat("l", 32)), sealed, context); err == nil {
		t.Error("opened with another key")
	}
	if _, err := Seal(key, Proof{}, context); err == nil {
		t.Error("the zero proof was sealed")
	}
	empty := append(authenticate(key, []byte("{}"), context), "{}"...)
	if _, err := Open(key, empty, context); err == nil {
		t.Error("a sealed zero proof was opened")
	}
}

// A proof says which secret and which signature it rests on, also after it was
// stored; one that an older version wrote says neither.
func TestASealedProofKeepsWhatTheSecondProofWas(t *testing.T) {
	dir := directory(t)
	digest, _ := org.HashSecret(googleSecret)
	ev := Evidence{Peer: netip.MustParseAddr("209.85.220.41"), TLS: true, From: domain("globex.test"), Header: parse(t, dir, "X-Globex-Google-Key: "+googleSecret),
		Signatures: []Signature{{Domain: domain("gmail.test"), Selector: "x", Signed: now}, {Domain: domain("globex.test"), Selector: "google", Signed: now}}}
	proof, refusal := Attribute(dir, &ev, now)
	if refusal != nil {
		t.Fatal(refusal)
	}
	key := []byte(strings.Repeat("k", 32))
	sealed, err := Seal(key, proof, nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Open(key, sealed, nil)
	if signer, selector := opened.Signature(); err != nil || opened != proof || opened.Secret() != digest || signer != domain("globex.test") || selector != "google" {
		t.Errorf("opened %+v, %v", opened, err)
	}
	for text, readable := range map[string]bool{
		`{"org":"globex","source":"globex-google","origin":"hosted","methods":12,"generation":1}`:                  true,
		`{"org":"globex","source":"globex-google","origin":"hosted","methods":12,"secret":"ab"}`:                   false,
		`{"org":"globex","source":"globex-google","origin":"hosted","methods":12,"secret":"` + googleSecret + `"}`: false,
		`{"org":"globex","source":"globex-google","origin":"hosted","methods":12,"signer":"a b"}`:                  false,
	} {
		opened, err := Open(key, append(authenticate(key, []byte(text), nil), text...), nil)
		if signer, selector := opened.Signature(); readable != (err == nil) || opened.Secret() != (Digest{}) || !signer.IsZero() || selector != "" {
			t.Errorf("%s: opened %+v, %v", text, opened, err)
		}
	}
}

func TestEvidenceIsStripped(t *testing.T) {
	dir := directory(t)
	h, err := mail.ParseHeader([]byte(strings.Join([]string{
		"From: a@acme.test", "x-originatororg: acme.test", "X-MS-Exchange-CrossTenant-Id: 1", "X-MS-Exchange-Organization-AuthAs: x",
		"x-acme-relay-KEY: s", "X-Globex-Relay-Key: s", "X-Anechoic-Anything: s", "X-MS-Has-Attach: yes", "Subject: kept", "",
	}, "\r\n")), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	want := "From: a@acme.test\r\nX-MS-Has-Attach: yes\r\nSubject: kept\r\n\r\n"
	if got := string(Strip(dir, h).Bytes()); got != want {
		t.Errorf("left %q, want %q", got, want)
	}
}

func FuzzHop(f *testing.F) {
	f.Add("from [10.1.1.1] (evil.example [51.38.1.1]) by mx.acme.test with ESMTP id 1; date")
	f.Add("by mail.example (Postfix, from userid 0) id 1")
	f.Add("from x (IPv6:2001:db8::1) (qmail (nested) [1.2.3.4]) by y")
	f.Fuzz(func(t *testing.T, v string) {
		h := readHop(v)
		if h.From.IsValid() && !h.Over {
			t.Errorf("%q: an address without a from clause: %+v", v, h)
		}
		if tenant, ip, ok := readConnectingIP(v); ok && (!ip.IsValid() || tenant != strings.ToLower(tenant)) {
			t.Errorf("%q: %s %s", v, tenant, ip)
		}
	})
}

func BenchmarkAttribute(b *testing.B) {
	dir := directory(b)
	ev := eop(b, dir, append(stamps(acmeTenant, "acme.test"), secretLine())...)
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := Attribute(dir, &ev, now); refusal != nil {
			b.Fatal(refusal)
		}
	}
}
