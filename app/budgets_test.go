package app

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/control/config"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/policy"
)

// What the registry of these tests knows: a tenant and a Google Workspace of
// acme, a tenant of globex that forwards, a client's key, an address.
const (
	acmeTenant     = "11111111-1111-4111-8111-111111111111"
	globexTenant   = "22222222-2222-4222-8222-222222222222"
	attackerTenant = "99999999-9999-4999-8999-999999999999"
)

var (
	acmeSecret, acmeGoogle, globexSecret = org.NewSecret(), org.NewSecret(), org.NewSecret()

	eopPeer     = netip.MustParseAddr("40.107.3.4")
	eopBeside   = netip.MustParseAddr("40.107.3.5") // in its /24
	eopElse     = netip.MustParseAddr("40.107.4.4")
	googlePeer  = netip.MustParseAddr("209.85.220.41")
	serversPeer = netip.MustParseAddr("192.0.2.7")
	knownKey    = [32]byte{0x4f}
)

func floodDirectory(t testing.TB) *org.Directory {
	t.Helper()
	digest := func(secret string) string {
		d, ok := org.HashSecret(secret)
		if !ok {
			t.Fatal("a new secret has no digest")
		}
		return fmt.Sprintf("%x", d)
	}
	text := `
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
  [[organisation.domain]]
  name = "acme.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.source]]
  id = "m365"
  kind = "microsoft365"
  tenant_ids = ["` + acmeTenant + `"]
  originator_orgs = ["acme.test"]
  provider_domains = ["acme.onmicrosoft.com"]
  secret_header = { name = "X-Acme-Key", sha256 = ["` + digest(acmeSecret) + `"] }
  [[organisation.source]]
  id = "workspace"
  kind = "google"
  dkim = [{ domain = "acme.test", selectors = ["google"] }]
  secret_header = { name = "X-Acme-Google-Key", sha256 = ["` + digest(acmeGoogle) + `"] }
  [[organisation.source]]
  id = "gateway"
  kind = "certificate"
  spki_sha256 = ["` + fmt.Sprintf("%x", knownKey) + `"]
  from = ["*@acme.test"]
  [[organisation.source]]
  id = "app"
  kind = "credential"
  username = "app@acme"
  password = { argon2id = "` + org.HashPassword([]byte("right password")) + `" }
  from = ["*@acme.test"]
[[organisation]]
id = "globex"
name = "Globex"
security_contact = "security@globex.test"
  [[organisation.domain]]
  name = "globex.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.source]]
  id = "m365"
  kind = "microsoft365"
  tenant_ids = ["` + globexTenant + `"]
  originator_orgs = ["globex.test"]
  forwarded = "hold"
  secret_header = { name = "X-Globex-Key", sha256 = ["` + digest(globexSecret) + `"] }
  [[organisation.source]]
  id = "server"
  kind = "address"
  addresses = ["192.0.2.7/32"]
  from = ["*@globex.test"]
`
	registry, problems := org.ParseRegistry("registry.toml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	providers := org.Providers{
		Microsoft365: org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("40.107.0.0/16")}},
		Google:       org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("209.85.128.0/17")}},
	}
	dir, problems, _ := org.Build(registry, providers, nil, 1, noon)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return dir
}

func domainNamed(s string) mail.Domain {
	d, err := mail.ParseDomain(s)
	if err != nil {
		panic(err) // names are constants
	}
	return d
}

func evidenceWith(t testing.TB, dir *org.Directory, peer netip.Addr, name attribution.PeerName, from string, lines ...string) attribution.Evidence {
	t.Helper()
	h, err := mail.ParseHeader([]byte(strings.Join(append(lines, "Subject: x"), "\r\n")+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return attribution.Evidence{Peer: peer, TLS: true, PeerName: name, From: domainNamed(from), Header: attribution.ReadHeader(dir, h)}
}

func stampsOf(tenant, originator string) []string {
	return []string{
		"X-OriginatorOrg: " + originator, "X-MS-Exchange-CrossTenant-Id: " + tenant,
		"X-MS-Exchange-CrossTenant-AuthAs: Internal", "X-MS-Exchange-CrossTenant-FromEntityHeader: Hosted",
	}
}

// TestWhoeverMayBeProvenHasNoBudgetOfRefusals: whatever a peer brings, mail that
// belongs to a budget of refusals is refused without it too, and mail that is
// proven and permitted, or kept for a person, belongs to none. So no flood can
// keep any of it away.
func TestWhoeverMayBeProvenHasNoBudgetOfRefusals(t *testing.T) {
	dir := floodDirectory(t)
	stands := func(*org.Domain, mail.Domain) org.Standing { return org.Verified }
	counted, proven := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(what, honest string, others ...string) string {
			return rapid.SampledFrom(append([]string{honest, honest, honest, honest}, others...)).Draw(rt, what)
		}
		base := rapid.SampledFrom([]struct {
			peer                             netip.Addr
			tenant, originator, secret, from string
		}{
			{eopPeer, acmeTenant, "acme.test", "X-Acme-Key: " + acmeSecret, "acme.test"},
			{eopPeer, globexTenant, "globex.test", "X-Globex-Key: " + globexSecret, "globex.test"},
			{googlePeer, acmeTenant, "acme.test", "X-Acme-Google-Key: " + acmeGoogle, "acme.test"},
			{serversPeer, globexTenant, "globex.test", "X-Nothing: x", "globex.test"},
		}).Draw(rt, "honest")
		peer := rapid.SampledFrom([]netip.Addr{base.peer, base.peer, base.peer, base.peer, eopPeer, googlePeer, serversPeer}).Draw(rt, "peer")
		lines := append(stampsOf(pick("tenant", base.tenant, strings.ToUpper(base.tenant), acmeTenant, globexTenant, attackerTenant),
			pick("originator", base.originator, "acme.test", "globex.test", "evil.example")),
			pick("secret", base.secret, "X-Acme-Key: "+acmeSecret, "X-Acme-Google-Key: "+acmeGoogle, "X-Globex-Key: "+globexSecret, "X-Acme-Google-Key: wrong"))
		lines = append(lines, pick("more", "X-More: x", "X-MS-Exchange-CrossTenant-Id: "+acmeTenant, "Resent-From: x@example.com", "X-Forwarded-To: x@example.com"))
		if pick("stamps", "there", "gone") == "gone" {
			lines = lines[4:]
		}
		from := pick("From", base.from, "acme.test", "globex.test", "acme.onmicrosoft.com", "friend.example")
		ev := evidenceWith(t, dir, peer, attribution.PeerNameUnknown, from, lines...)
		switch pick("client", "none", "known", "unknown", "login") {
		case "known":
			ev.ClientKey = attribution.ClientKey{SPKI: knownKey, Present: true}
		case "unknown":
			ev.ClientKey = attribution.ClientKey{SPKI: [32]byte{1}, Present: true}
		case "login":
			ev.Username = "app@acme"
		}
		before := floodOf(dir, &ev)
		if peer == eopPeer {
			ev.PeerName = rapid.SampledFrom([]attribution.PeerName{attribution.PeerNameConfirmed, attribution.PeerNameConfirmed, attribution.PeerNameUnconfirmed, attribution.PeerNameFailed}).Draw(rt, "name")
		}
		if pick("signature", "there", "gone") == "there" {
			ev.Signatures = []attribution.Signature{{Domain: domainNamed("acme.test"), Selector: "google", Signed: noon}}
		}
		after := floodOf(dir, &ev)
		originators := mail.Originators{}
		originators.From.Address, _ = mail.ParseAddress("ann@" + from)
		proof, refusal := attribution.Attribute(dir, &ev, noon)
		if refusal == nil {
			_, refusal = policy.Permit(dir, proof, &policy.Message{MailFrom: originators.From.Address, Originators: originators}, stands)
		}
		passes := refusal == nil || policy.Detains(dir, proof, originators)
		if passes && (before != "" || after != "") {
			rt.Fatalf("it would pass, and is counted as %q, then %q", before, after)
		}
		if passes {
			proven++
		} else if after != "" {
			counted++
		}
	})
	if counted < 10 || proven < 10 {
		t.Errorf("%d were counted, %d proven: too little was tried", counted, proven)
	}
}

// TestARefusalSpendsFromItsTenantsAndClaimsBudgetAlone: one budget is used up, and
// every other tenant, organisation and network is heard as before.
func TestARefusalSpendsFromItsTenantsAndClaimsBudgetAlone(t *testing.T) {
	dir := floodDirectory(t)
	confirmed, unconfirmed, unknown := attribution.PeerNameConfirmed, attribution.PeerNameUnconfirmed, attribution.PeerNameUnknown
	spoof := func(peer netip.Addr, name attribution.PeerName, tenant, from string) attribution.Evidence {
		return evidenceWith(t, dir, peer, name, from, stampsOf(tenant, "evil.example")...)
	}
	bare := func(peer netip.Addr, name attribution.PeerName, from string) attribution.Evidence {
		return evidenceWith(t, dir, peer, name, from)
	}
	all := map[string]attribution.Evidence{
		"the attacker's tenant as acme":             spoof(eopPeer, confirmed, attackerTenant, "acme.test"),
		"the attacker's tenant as globex":           spoof(eopPeer, confirmed, attackerTenant, "globex.test"),
		"the attacker's tenant as nobody here":      spoof(eopPeer, confirmed, attackerTenant, "friend.example"),
		"globex's tenant as acme":                   spoof(eopPeer, confirmed, globexTenant, "acme.test"),
		"acme's tenant as globex":                   spoof(eopPeer, confirmed, acmeTenant, "globex.test"),
		"no stamps, from a confirmed peer":          bare(eopPeer, confirmed, "acme.test"),
		"acme's stamps, from a peer without a name": spoof(eopPeer, unconfirmed, acmeTenant, "acme.test"),
		"the same network elsewhere":                bare(eopElse, confirmed, "acme.test"),
		"Google's network":                          bare(googlePeer, unknown, "acme.test"),
		"Google's network as globex":                bare(googlePeer, unknown, "globex.test"),
	}
	same := map[string]attribution.Evidence{
		"the attacker's tenant as acme":             spoof(eopElse, confirmed, strings.ToUpper(attackerTenant), "acme.test"),
		"no stamps, from a confirmed peer":          bare(eopBeside, confirmed, "acme.test"),
		"acme's stamps, from a peer without a name": bare(eopBeside, unconfirmed, "acme.test"),
	}
	for used, ev := range all {
		b := newBudgets(config.Limits{RefusedPerClaim: 3})
		for range 3 {
			if r := b.flooded(dir, &ev, noon); r != nil {
				t.Fatalf("%s: %v", used, r)
			}
			b.refused(dir, &ev, mail.TenantNotAuthorized, noon)
		}
		for what, other := range all {
			r := b.flooded(dir, &other, noon)
			if (r != nil) != (what == used) {
				t.Errorf("after %s, %s: %v", used, what, r)
			}
			if r != nil && (r.Code() != 451 || r.Reason() != mail.ReasonRateLimited || !strings.Contains(r.Detail(), "before 2026-11-22T12:03:20Z")) {
				t.Errorf("%s: %v, %s", what, r, r.Detail())
			}
		}
		if other, ok := same[used]; ok && b.flooded(dir, &other, noon) == nil {
			t.Errorf("%s: a host beside it has a budget of its own", used)
		}
		if r := b.flooded(dir, &ev, noon.Add(refusalsSpan/3)); r != nil {
			t.Errorf("%s: nothing is earned back: %v", used, r)
		}
	}
}

// TestOnlyWhatIsRefusedForGoodIsCounted: an outage of DNS uses up nothing, nor
// does being put off.
func TestOnlyWhatIsRefusedForGoodIsCounted(t *testing.T) {
	dir := floodDirectory(t)
	b := newBudgets(config.Limits{RefusedPerClaim: 1})
	ev := evidenceWith(t, dir, eopPeer, attribution.PeerNameConfirmed, "acme.test", stampsOf(attackerTenant, "evil.example")...)
	for range 10 {
		b.refused(dir, &ev, mail.LookupFailed, noon)
		b.refused(dir, &ev, mail.RateLimited, noon)
	}
	if r := b.flooded(dir, &ev, noon); r != nil {
		t.Error(r)
	}
	off := newBudgets(config.Limits{})
	for range 10 {
		off.refused(dir, &ev, mail.TenantNotAuthorized, noon)
	}
	if r := off.flooded(dir, &ev, noon); r != nil {
		t.Errorf("no limit limits: %v", r)
	}
}

// TestAStrangersStampSpendsNothingOfTheTenants: who writes a tenant's id at a peer
// that is not Microsoft's is counted by his network.
func TestAStrangersStampSpendsNothingOfTheTenants(t *testing.T) {
	dir := floodDirectory(t)
	b := newBudgets(config.Limits{RefusedPerClaim: 1})
	liar := evidenceWith(t, dir, eopPeer, attribution.PeerNameUnconfirmed, "acme.test", stampsOf(globexTenant, "globex.test")...)
	b.refused(dir, &liar, mail.PeerNotEOP, noon)
	if b.flooded(dir, &liar, noon) == nil {
		t.Error("the stranger is not counted")
	}
	globex := evidenceWith(t, dir, eopPeer, attribution.PeerNameConfirmed, "acme.test", stampsOf(globexTenant, "globex.test")...)
	if r := b.flooded(dir, &globex, noon); r != nil {
		t.Errorf("the tenant pays: %v", r)
	}
}

// TestTheCertificateOfAllOfMicrosoftExemptsNobody: it is shown with every message,
// and is no source's.
func TestTheCertificateOfAllOfMicrosoftExemptsNobody(t *testing.T) {
	dir := floodDirectory(t)
	ev := evidenceWith(t, dir, eopPeer, attribution.PeerNameConfirmed, "acme.test", stampsOf(attackerTenant, "evil.example")...)
	ev.ClientKey = attribution.ClientKey{SPKI: [32]byte{1}, Present: true}
	if floodOf(dir, &ev) == "" {
		t.Error("a flood is not counted")
	}
}

// TestManyClaimsDoNotResetABudget: a thousand tenants that claim a thousand
// organisations do not make room for the one that floods.
func TestManyClaimsDoNotResetABudget(t *testing.T) {
	dir := floodDirectory(t)
	b := newBudgets(config.Limits{RefusedPerClaim: 5})
	b.floods.Keys = 100
	flood := evidenceWith(t, dir, eopPeer, attribution.PeerNameConfirmed, "acme.test", stampsOf(attackerTenant, "evil.example")...)
	for range 5 {
		b.refused(dir, &flood, mail.TenantNotAuthorized, noon)
	}
	for i := range 10_000 {
		other := evidenceWith(t, dir, eopPeer, attribution.PeerNameConfirmed, "acme.test", stampsOf(fmt.Sprintf("00000000-0000-4000-8000-%012d", i), "evil.example")...)
		b.refused(dir, &other, mail.TenantNotAuthorized, noon)
	}
	if b.flooded(dir, &flood, noon) == nil {
		t.Error("the flood has its budget again")
	}
}

func TestNetworksAreCountedAsTheyAreGiven(t *testing.T) {
	var got []string
	for _, a := range []string{"192.0.2.7", "::ffff:192.0.2.7", "2001:db8:1:2:3::4", "fe80::1%eth0"} {
		got = append(got, network(netip.MustParseAddr(a), providerBits4).String())
	}
	want := []string{"192.0.2.0/24", "192.0.2.0/24", "2001:db8:1:2::/64", "fe80::/64"}
	if !slices.Equal(got, want) || network(netip.Addr{}, providerBits4).IsValid() {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestAFloodIsPutOffButForWhatIsEarned: when it goes on, one refusal for each unit that
// is earned back, and no more.
func TestAFloodIsPutOffButForWhatIsEarned(t *testing.T) {
	dir := floodDirectory(t)
	b := newBudgets(config.Limits{RefusedPerClaim: 10})
	ev := evidenceWith(t, dir, googlePeer, attribution.PeerNameUnknown, "acme.test")
	heard := 0
	for second := range int(refusalsSpan / time.Second) {
		now := noon.Add(time.Duration(second) * time.Second)
		if b.flooded(dir, &ev, now) == nil {
			heard++
			b.refused(dir, &ev, mail.SecondProofMissing, now)
		}
	}
	if heard < 10 || heard > 20 {
		t.Errorf("%d of a flood were looked into, want 10 and what is earned in the span", heard)
	}
}

// namesAsked counts look-ups of peers' names, and finds none.
type namesAsked struct {
	mail.Resolver
	n int
}

func (r *namesAsked) PTR(context.Context, netip.Addr) (mail.Answer[string], error) {
	r.n++
	return mail.Answer[string]{}, mail.ErrNoDomain
}

// TestAFloodCostsNoLookUps: once the budget of a stamped tenant is used up, not even
// its peer's name is asked for; that of another tenant's still is.
func TestAFloodCostsNoLookUps(t *testing.T) {
	dir := floodDirectory(t)
	asked := &namesAsked{}
	in := &intake{budgets: newBudgets(config.Limits{RefusedPerClaim: 1}), resolver: asked}
	spoof := func(tenant string, name attribution.PeerName) attribution.Evidence {
		return evidenceWith(t, dir, eopPeer, name, "acme.test", stampsOf(tenant, "evil.example")...)
	}
	refused := spoof(attackerTenant, attribution.PeerNameConfirmed)
	in.budgets.refused(dir, &refused, mail.TenantNotAuthorized, noon)

	flood := spoof(attackerTenant, attribution.PeerNameUnknown)
	if r := in.lookUp(t.Context(), dir, &flood, nil, noon); r == nil || r.Reason() != mail.ReasonRateLimited || asked.n != 0 {
		t.Errorf("the flood: %v, after %d look-ups", r, asked.n)
	}
	other := spoof(globexTenant, attribution.PeerNameUnknown)
	if r := in.lookUp(t.Context(), dir, &other, nil, noon); r != nil || asked.n != 1 {
		t.Errorf("another tenant: %v, after %d look-ups", r, asked.n)
	}
}
