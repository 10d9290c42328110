package acceptance

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pelletier/go-toml/v2"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// player is an organisation with all it could prove itself by.
type player struct {
	id       org.ID
	domain   string
	tenant   string
	originer string
	secret   string
	header   string
	username string
	provider string

	clientKey string // whose certificate it shows
	server    string // address that is its alone
	workspace string // secret header at Google
	google    string // that header's secret
}

// players are two customers and a stranger who is none.
var players = []player{
	{"acme", "acme.test", acme.GUID, "acme.test", acmeSecret, "X-Acme-Relay-Key", "app@acme", "acme.onmicrosoft.com", "gateway", onprem, "X-Acme-Google-Key", wonkaSecret},
	{"globex", "globex.test", globex.GUID, "globex.test", initechSecret, "X-Globex-Relay-Key", "app@globex", "globex.onmicrosoft.com", "scanner", printer, "X-Globex-Google-Key", oompaSecret},
}

var stranger = player{"", "evil.test", attacker.GUID, attacker.Originator, acmeNextSecret, "X-Evil-Relay-Key", "evil", "evil123.onmicrosoft.com", "stranger", vps, "X-Evil-Google-Key", deviceSecret}

// setup is what an operator chose for one organisation.
type setup struct {
	second string // secret, dkim, both, single
	role   string // of the credential; empty: there is none
	locked bool   // the credential to 192.0.2.0/24
	tenant bool   // there is a tenant source
	hybrid bool   // it lists a hybrid server

	forwarded string // what its tenant source does with forwarded mail

	certificate, address, google bool // there are sources of these kinds
	learning                     bool // mail in its name may be held that would be refused
}

func setups() *rapid.Generator[setup] {
	return rapid.Custom(func(t *rapid.T) setup {
		return setup{
			second:    rapid.SampledFrom([]string{"secret", "dkim", "both", "single", "ended"}).Draw(t, "second proof"),
			role:      rapid.SampledFrom([]string{"", "application", "server"}).Draw(t, "role"),
			forwarded: rapid.SampledFrom([]string{"seal", "hold", ""}).Draw(t, "forwarded"),
			locked:    rapid.Bool().Draw(t, "locked"), tenant: rapid.Bool().Draw(t, "tenant"), hybrid: rapid.Bool().Draw(t, "hybrid"),
			certificate: rapid.Bool().Draw(t, "certificate"), address: rapid.Bool().Draw(t, "address"), google: rapid.Bool().Draw(t, "google"),
			learning: rapid.Bool().Draw(t, "learning"),
		}
	})
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// entry writes an organisation as its registry has it.
func (p player) entry(s setup) org.OrganisationEntry {
	e := org.OrganisationEntry{ID: string(p.id), Name: string(p.id), Learning: s.learning, Domains: []org.DomainEntry{{Name: p.domain}}}
	if s.tenant {
		source := org.SourceEntry{ID: "m365", Kind: "microsoft365", TenantIDs: []string{p.tenant}, OriginatorOrgs: []string{p.originer}, ProviderDomains: []string{p.provider}}
		source.Forwarded = s.forwarded
		source.RequireDKIM = s.second == "dkim" || s.second == "both"
		if s.second == "secret" || s.second == "both" {
			source.SecretHeader = &org.SecretHeaderEntry{Name: p.header, SHA256: []string{digest(p.secret)}}
		}
		switch s.second {
		case "single":
			source.SingleProofUntil = &toml.LocalDate{Year: 2026, Month: 12, Day: 31}
		case "ended":
			source.SingleProofUntil = &toml.LocalDate{Year: 2026, Month: 1, Day: 31}
		}
		if s.hybrid {
			source.HybridAddresses = []string{hybridOf(p) + "/32"}
		}
		e.Sources = append(e.Sources, source)
	}
	if s.role != "" {
		source := org.SourceEntry{ID: "app", Kind: "credential", Role: s.role, Username: p.username, Password: &org.PasswordEntry{Argon2id: hashes()["app@globex"]}, From: []string{"*@" + p.domain}}
		if s.locked {
			source.Addresses = []string{"192.0.2.0/24"}
		}
		if s.role == "server" {
			source.Internal = []string{"10.0.0.0/8"}
		}
		e.Sources = append(e.Sources, source)
	}
	from := []string{"*@" + p.domain}
	if s.certificate {
		e.Sources = append(e.Sources, org.SourceEntry{ID: "gateway", Kind: "certificate", SPKI: []string{spki(p.clientKey)}, From: from})
	}
	if s.address {
		e.Sources = append(e.Sources, org.SourceEntry{ID: "server", Kind: "address", Role: "server", Internal: []string{"10.0.0.0/8"}, Addresses: []string{p.server + "/32"}, From: from})
	}
	if s.google {
		e.Sources = append(e.Sources, org.SourceEntry{ID: "workspace", Kind: "google", DKIM: []org.IdentityEntry{{Domain: p.domain, Selectors: []string{"google"}}},
			SecretHeader: &org.SecretHeaderEntry{Name: p.workspace, SHA256: []string{digest(p.google)}}})
	}
	return e
}

func hybridOf(p player) string {
	if p.id == "acme" {
		return hybrid
	}
	return "198.51.100.9"
}

func build(t *rapid.T, generation uint64, entries ...org.OrganisationEntry) *org.Directory {
	providers := org.Providers{Microsoft365: org.Provider{
		Ranges:  []netip.Prefix{netip.MustParsePrefix("40.107.0.0/16"), netip.MustParsePrefix("40.92.0.0/14")},
		Exclude: []netip.Prefix{netip.MustParsePrefix("40.95.0.0/16")},
	}, Google: org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("209.85.128.0/17")}}}
	dir, problems, _ := org.Build(org.Registry{Organisations: entries}, providers, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, generation, noon)
	if dir == nil {
		t.Fatalf("the registry of the test does not load: %v", problems)
	}
	return dir
}

// world is a Directory with the choices it was made from.
type world struct {
	dir    *org.Directory
	setups map[org.ID]setup
}

func worlds() *rapid.Generator[world] {
	return rapid.Custom(func(t *rapid.T) world {
		w := world{setups: map[org.ID]setup{}}
		var entries []org.OrganisationEntry
		for _, p := range players {
			s := setups().Draw(t, string(p.id))
			w.setups[p.id] = s
			entries = append(entries, p.entry(s))
		}
		w.dir = build(t, 7, entries...)
		return w
	})
}

// evidenceOf draws what a message may show when its sender can use what of has:
// all that is right for one of them, with up to three changes. Anybody can write
// anything into a header; the provider's stamps and AUTH are not anybody's, and
// are drawn from of.
func evidenceOf(of []player) *rapid.Generator[attribution.Evidence] {
	return rapid.Custom(func(t *rapid.T) attribution.Evidence {
		ev := rightEvidence(rapid.SampledFrom(of).Draw(t, "sender"), rapid.SampledFrom(ways).Draw(t, "way"))
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			changeEvidence(t, &ev, rapid.SampledFrom(of).Draw(t, "another"))
		}
		return ev
	})
}

// ways are the ways in that there are.
var ways = []string{"tenant", "hybrid", "credential", "certificate", "address", "google"}

// rightEvidence is all that one organisation can show.
func rightEvidence(p player, way string) attribution.Evidence {
	ev := attribution.Evidence{Peer: netip.MustParseAddr(office), TLS: true, From: domain(p.domain)}
	switch way {
	case "credential":
		ev.Username = p.username
		return ev
	case "certificate":
		ev.ClientKey = keyOf(p)
		return ev
	case "address":
		ev.Peer = netip.MustParseAddr(p.server)
		return ev
	case "google":
		ev.Peer = netip.MustParseAddr(gmail)
		ev.Header.Secrets = []attribution.Secret{googleSecretOf(p, true)}
		ev.Signatures = []attribution.Signature{googleSignatureOf(p)}
		return ev
	}
	one := func(v string) attribution.Stamp { return attribution.Stamp{Count: 1, Value: v} }
	ev.Peer, ev.PeerName = netip.MustParseAddr(eop), attribution.PeerNameConfirmed
	ev.Header = attribution.HeaderEvidence{
		TenantID: one(p.tenant), Originator: one(p.originer), AuthAs: one("Internal"), Entity: one("Hosted"), ADCheck: one("1"),
		Secrets: []attribution.Secret{secretOf(p, true)},
	}
	ev.Signatures = []attribution.Signature{signatureOf(p, false)}
	if way == "hybrid" {
		ev.Header.AuthAs, ev.Header.Entity = one("Anonymous"), one("HybridOnPrem")
		ev.Header.ConnectingIP = one("TenantId=" + p.tenant + ";Ip=[" + hybridOf(p) + "]")
	}
	return ev
}

// changeEvidence changes one thing, perhaps to what another could show.
func changeEvidence(t *rapid.T, ev *attribution.Evidence, other player) {
	h := &ev.Header
	stamps := []*attribution.Stamp{&h.TenantID, &h.Originator, &h.AuthAs, &h.Entity, &h.ADCheck, &h.ConnectingIP}
	values := []string{other.tenant, other.originer, "Anonymous", "Internet", "0", "TenantId=" + other.tenant + ";Ip=[" + vps + "]"}
	i := rapid.IntRange(0, len(stamps)-1).Draw(t, "stamp")
	switch rapid.IntRange(0, 18).Draw(t, "change") {
	case 14:
		ev.ClientKey = keyOf(other)
		ev.ClientKey.Expired = rapid.Bool().Draw(t, "expired")
	case 15:
		ev.Peer = netip.MustParseAddr(other.server)
	case 16:
		h.Secrets = append(h.Secrets, googleSecretOf(other, rapid.Bool().Draw(t, "right")))
	case 17:
		ev.Signatures = append(ev.Signatures, googleSignatureOf(other))
	case 18:
		h.XForwarded, h.ListID = rapid.Bool().Draw(t, "X-Forwarded"), rapid.Bool().Draw(t, "List-Id")
	case 0:
		ev.TLS = false
	case 1:
		ev.Peer = netip.MustParseAddr(rapid.SampledFrom([]string{eop, eopFalse, pool, vps, office, gmail, "127.0.0.1"}).Draw(t, "peer"))
	case 2:
		ev.PeerName = rapid.SampledFrom([]attribution.PeerName{attribution.PeerNameUnknown, attribution.PeerNameUnconfirmed, attribution.PeerNameFailed}).Draw(t, "peer's name")
	case 3:
		ev.Username = rapid.SampledFrom([]string{"", other.username}).Draw(t, "username")
	case 4:
		ev.From = domain(other.domain)
	case 5:
		stamps[i].Count = rapid.SampledFrom([]int{0, 1, 2, 3}).Draw(t, "count")
	case 6, 7:
		stamps[i].Value = rapid.SampledFrom([]string{values[i], "*", ""}).Draw(t, "value")
	case 8:
		h.Secrets = nil
	case 9, 10:
		h.Secrets = append(h.Secrets, secretOf(other, rapid.Bool().Draw(t, "right")))
	case 11:
		ev.Signatures = nil
	case 12:
		ev.Signatures = append(ev.Signatures, signatureOf(other, rapid.Bool().Draw(t, "by provider domain")))
	case 13:
		h.Looped, h.Resent = rapid.Bool().Draw(t, "looped"), rapid.Bool().Draw(t, "resent")
	}
}

// pieces is how many pieces of evidence each configuration is tried with.
const pieces = 40

func secretOf(p player, right bool) attribution.Secret { return secretNamed(p.header, p.secret, right) }

func googleSecretOf(p player, right bool) attribution.Secret {
	return secretNamed(p.workspace, p.google, right)
}

func secretNamed(name, value string, right bool) attribution.Secret {
	if !right {
		value = org.NewSecret()
	}
	sum, ok := org.HashSecret(value)
	return attribution.Secret{Name: lower(name), WellFormed: ok, Digest: sum}
}

func keyOf(p player) attribution.ClientKey {
	return attribution.ClientKey{SPKI: spkiSum(p.clientKey), Present: true}
}

func googleSignatureOf(p player) attribution.Signature {
	return attribution.Signature{Domain: domain(p.domain), Selector: "google", Signed: noon.Add(-time.Hour)}
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func signatureOf(p player, byProvider bool) attribution.Signature {
	if byProvider {
		return attribution.Signature{Domain: domain(p.provider), Selector: "selector1"}
	}
	return attribution.Signature{Domain: domain(p.domain), Selector: "selector1", Alias: "selector1-x._domainkey." + p.provider}
}

func domain(s string) mail.Domain {
	d, err := mail.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

// enough says whether evidence is enough for an organisation by the rules: an
// authenticated user of its own, its certificate's key, its address, or a
// confirmed peer of a provider over TLS with what that kind of source wants. It is
// what must hold of every proof; more may be wanted.
func enough(w world, p player, ev attribution.Evidence) bool {
	s := w.setups[p.id]
	if s.role != "" && ev.TLS && ev.Username == p.username && (!s.locked || netip.MustParsePrefix("192.0.2.0/24").Contains(ev.Peer)) {
		return true
	}
	switch {
	case s.certificate && ev.TLS && ev.ClientKey == keyOf(p), s.address && ev.Peer == netip.MustParseAddr(p.server):
		return true
	case s.google && ev.TLS && ev.Peer == netip.MustParseAddr(gmail) && ev.From == domain(p.domain) && slices.Contains(ev.Signatures, googleSignatureOf(p)):
		return once(ev.Header.Secrets, googleSecretOf(p, true))
	}
	return enoughFromMicrosoft(s, p, ev)
}

// enoughFromMicrosoft wants tenant and originator of its own, once each, and the
// second proof that its setup wants.
func enoughFromMicrosoft(s setup, p player, ev attribution.Evidence) bool {
	h := ev.Header
	inRange := netip.MustParsePrefix("40.107.0.0/16").Contains(ev.Peer) || ev.Peer == netip.MustParseAddr(eopFalse)
	if !s.tenant || !ev.TLS || !inRange || ev.PeerName != attribution.PeerNameConfirmed ||
		h.TenantID != (attribution.Stamp{Count: 1, Value: p.tenant}) || h.Originator != (attribution.Stamp{Count: 1, Value: p.originer}) {
		return false
	}
	bySecret := (s.second == "secret" || s.second == "both") && once(h.Secrets, secretOf(p, true))
	byDKIM := (s.second == "dkim" || s.second == "both") && (slices.Contains(ev.Signatures, signatureOf(p, true)) || ev.From == domain(p.domain) && slices.Contains(ev.Signatures, signatureOf(p, false)))
	return bySecret || byDKIM || s.second == "single"
}

// once says that a secret is there, and nothing else under its name.
func once(found []attribution.Secret, want attribution.Secret) bool {
	named := 0
	for _, secret := range found {
		if secret.Name == want.Name {
			named++
		}
	}
	return named == 1 && slices.Contains(found, want)
}

// contradicted says that evidence points to another organisation too: its secret
// is right, or user and tenant are of different ones.
func contradicted(w world, p player, ev attribution.Evidence) bool {
	for _, other := range players {
		s := w.setups[other.id]
		if other.id == p.id {
			continue
		}
		if s.tenant && (s.second == "secret" || s.second == "both") && slices.Contains(ev.Header.Secrets, secretOf(other, true)) {
			return true
		}
		switch {
		case ev.Username == other.username,
			s.google && slices.Contains(ev.Header.Secrets, googleSecretOf(other, true)),
			s.certificate && ev.TLS && ev.ClientKey == keyOf(other),
			s.address && ev.Peer == netip.MustParseAddr(other.server):
			return true
		}
	}
	if ev.PeerName != attribution.PeerNameConfirmed {
		return false
	}
	return ev.Peer == netip.MustParseAddr(eop) && (ev.Header.TenantID.Value != p.tenant && ev.Header.TenantID.Count > 0 || ev.Header.Originator.Value != p.originer && ev.Header.Originator.Count > 0)
}
