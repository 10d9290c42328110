package org

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
)

// sourceKinds lists the kinds as a hint shows them.
const sourceKinds = `"microsoft365", "google", "credential", "certificate" or "address"`

// reservedTenants belong to everybody or nobody: proving one of them proves no
// organisation (DOMAIN A10).
var reservedTenants = []string{
	"84df9e7f-e9f6-40af-b435-aaaaaaaaaaaa", // consumer outlook.com
	"9188040d-6c67-4c5b-b112-36a304b66dad", // personal Microsoft accounts
	"f8cdef31-a31e-4b4a-93e4-5f571e91255a", // Microsoft's own services
	"00000000-0000-0000-0000-000000000000",
	"ffffffff-ffff-ffff-ffff-ffffffffffff",
}

// ReservedTenant says that a tenant, by GUID in lower case, can never be an
// organisation's.
func ReservedTenant(guid string) bool { return slices.Contains(reservedTenants, guid) }

// sources checks an organisation's sources.
func (b *builder) sources(i int) {
	o := b.dir.organisations[i]
	sources := make([]Source, len(b.reg.Organisations[i].Sources))
	o.Sources = make([]*Source, len(sources))
	for j := range sources {
		e, s := &b.reg.Organisations[i].Sources[j], &sources[j]
		*s = Source{Organisation: o.ID, ID: e.ID, Kind: Kind(e.Kind), directory: b.dir, entry: entry{i, j}}
		where := b.path(s.entry, "source")
		b.checkID(where+".id", e.ID)
		o.Sources[j] = s
		b.source(o, s, where, e)
	}
}

// source checks what the kinds have in common, then what is the kind's own.
func (b *builder) source(o *Organisation, s *Source, where string, e *SourceEntry) {
	if !slices.Contains([]Kind{Microsoft365, Google, Credential, Certificate, Address}, s.Kind) {
		b.refuse(where+".kind", "one of "+sourceKinds, "%q is no kind of source", e.Kind)
		return
	}
	b.belongs(s.Kind, where, e)
	b.role(s, where, e)
	b.limits(s, where, e)
	b.secretHeader(s, where+".secret_header", e.SecretHeader)
	switch s.Kind {
	case Microsoft365:
		b.microsoft365(o, s, where, e)
	case Google:
		b.google(o, s, where, e)
	case Credential:
		b.credential(s, where, e)
	case Certificate:
		b.certificate(s, where, e)
	case Address:
		b.address(s, where, e)
	}
	b.from(o, s, where, e)
}

// belongs refuses keys that mean nothing for a kind: somebody thinks they do.
func (b *builder) belongs(k Kind, where string, e *SourceEntry) {
	for _, field := range []struct {
		name  string
		set   bool
		kinds []Kind
	}{
		{"role", e.Role != "", []Kind{Credential, Certificate, Address}},
		{"internal", e.Internal != nil, []Kind{Microsoft365, Credential, Certificate, Address}},
		{"addresses", e.Addresses != nil, []Kind{Credential, Address}},
		{"tenant_ids", e.TenantIDs != nil, []Kind{Microsoft365}},
		{"originator_orgs", e.OriginatorOrgs != nil, []Kind{Microsoft365}},
		{"provider_domains", e.ProviderDomains != nil, []Kind{Microsoft365}},
		{"hybrid_addresses", e.HybridAddresses != nil, []Kind{Microsoft365}},
		{"require_dkim", e.RequireDKIM, []Kind{Microsoft365}},
		{"single_proof_until", e.SingleProofUntil != nil, []Kind{Microsoft365}},
		{"dkim", e.DKIM != nil, []Kind{Google}},
		{"username", e.Username != "", []Kind{Credential}},
		{"password", e.Password != nil, []Kind{Credential}},
		{"spki_sha256", e.SPKI != nil, []Kind{Certificate}},
	} {
		if field.set && !slices.Contains(field.kinds, k) {
			b.refuse(where+"."+field.name, "take it out", "%s means nothing for a source of kind %s", field.name, k)
		}
	}
}

// role checks what stands behind the source, and what becomes of mail it only
// forwards. Where nothing is written the stricter choice holds: an application,
// and reject.
func (b *builder) role(s *Source, where string, e *SourceEntry) {
	s.Role, s.Forwarded = Role(e.Role), Forwarded(e.Forwarded)
	provider := s.Kind == Microsoft365 || s.Kind == Google
	switch {
	case s.Role == "" && !provider:
		s.Role = Application
	case s.Role != "" && s.Role != Application && s.Role != Server:
		b.refuse(where+".role", `"application" (writes its own mail) or "server" (a mail server, may forward)`, "%q is no role", e.Role)
	}
	switch s.Forwarded {
	case "":
		s.Forwarded = Reject
	case Reject, Hold, Seal:
	default:
		b.refuse(where+".forwarded", `"reject", "hold" or "seal"`, "%q is nothing to do with forwarded mail", e.Forwarded)
	}
	if !provider && s.Role == Application && e.Internal != nil {
		b.refuse(where+".internal", `take it out, or say role = "server"`, "an application has no internal networks")
	}
	if s.Role == Server && len(e.Internal) == 0 {
		b.find(s, time.Time{}, "a server without `internal` networks: all its mail that carries a Received field counts as forwarded")
	}
	s.Internal = b.networks(where+".internal", e.Internal, b.notShared)
}

func (b *builder) find(s *Source, until time.Time, format string, args ...any) {
	b.findings = append(b.findings, Finding{Organisation: s.Organisation, Source: s.ID, Text: fmt.Sprintf(format, args...), Until: until})
}

// microsoft365 checks a tenant's source: who it is, and its second proof.
func (b *builder) microsoft365(o *Organisation, s *Source, where string, e *SourceEntry) {
	b.tenants(s, where+".tenant_ids", e.TenantIDs)
	b.originators(o, s, where+".originator_orgs", e.OriginatorOrgs)
	b.providerDomains(o, s, where+".provider_domains", e.ProviderDomains)
	s.HybridAddresses = b.servers(s, where+".hybrid_addresses", e.HybridAddresses, hybrid4, hybrid6)
	if len(e.HybridAddresses) == 0 && len(e.Internal) > 0 {
		b.refuse(where+".internal", "list the servers in hybrid_addresses, or take it out", "internal networks of servers that are not listed")
	}
	s.RequireDKIM = e.RequireDKIM
	b.secondProof(s, where, e)
	if len(b.dir.providers.Microsoft365.Ranges) == 0 {
		b.find(s, time.Time{}, "providers.microsoft365 has no ranges: none of its mail can be proven")
	}
}

// secondProof wants the secret header or the provider's DKIM signature, or a day
// until which the tenant id alone will do.
func (b *builder) secondProof(s *Source, where string, e *SourceEntry) {
	second := e.SecretHeader != nil || e.RequireDKIM
	if e.SingleProofUntil == nil {
		if !second && !b.unread(where+".secret_header") && !b.unread(where+".require_dkim") && !b.unread(where+".single_proof_until") {
			b.refuse(where, "set secret_header or require_dkim = true; for a start, single_proof_until = a date", "source %q has no second proof: a tenant id alone does not prove authorship", e.ID)
		}
		return
	}
	if second {
		b.refuse(where+".single_proof_until", "take one of the two out", "single_proof_until stands instead of a second proof, and there is one")
		return
	}
	s.SingleProofUntil = e.SingleProofUntil.AsTime(time.UTC)
	if s.SingleProof(b.now) {
		b.find(s, s.SingleProofUntil, "no second proof until %s: whoever can send through the tenant is believed", s.SingleProofUntil.Format(time.DateOnly))
	} else {
		b.find(s, s.SingleProofUntil, "single_proof_until ended on %s: its mail is refused for want of a second proof", s.SingleProofUntil.Format(time.DateOnly))
	}
}

func (b *builder) tenants(s *Source, where string, list []string) {
	if len(list) == 0 {
		b.refuse(where, "list the tenant's GUID (Entra admin centre, Overview, Tenant ID)", "no tenant ids")
	}
	for i, written := range list {
		at, guid := b.below(where, i), strings.ToLower(written)
		switch {
		case !isGUID(guid):
			b.refuse(at, "a GUID such as 11111111-1111-4111-8111-111111111111; there is no way to write \"any tenant\"", "%q is no tenant id", written)
		case ReservedTenant(guid):
			b.refuse(at, "find the organisation's own tenant id", "tenant %s is shared by everybody and proves nothing", guid)
		default:
			b.claims.tenants = append(b.claims.tenants, claim[string, *Source]{guid, s, at})
			s.TenantIDs = append(s.TenantIDs, guid)
		}
	}
}

// isGUID takes 8-4-4-4-12 lower-case hex digits.
func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !isHex(s[i]) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func (b *builder) originators(o *Organisation, s *Source, where string, list []string) {
	if len(list) == 0 {
		b.refuse(where, "list the tenant's accepted domains that X-OriginatorOrg may name", "no originator organisations")
	}
	for i, written := range list {
		at := b.below(where, i)
		name, ok := b.domainName(at, written)
		if !ok || !b.claimable(o, at, name) {
			continue
		}
		b.claims.originators = append(b.claims.originators, claim[mail.Domain, *Source]{name, s, at})
		s.OriginatorOrgs = append(s.OriginatorOrgs, name)
	}
}

// claimable refuses names that are another organisation's or everybody's.
func (b *builder) claimable(o *Organisation, where string, name mail.Domain) bool {
	owner, owned := b.dir.Owner(name)
	switch {
	case strings.HasSuffix(name.String(), ".templatetenant"): // consumer outlook.com (DOMAIN 1.3)
		b.refuse(where, "find the tenant's own name", "%s is shared by everybody and proves nothing", name)
	case name.IsPublicSuffix() || slices.Contains(providerSuffixes, name.String()):
		b.refuse(where, "write the whole name", "%s is a public suffix: the names below it belong to different people", name)
	case owned && owner.Organisation != o.ID:
		b.second(where, owner.where()+".name", "%s is a domain of organisation %s", name, owner.Organisation)
	default:
		return true
	}
	return false
}

func (b *builder) providerDomains(o *Organisation, s *Source, where string, list []string) {
	for i, written := range list {
		at := b.below(where, i)
		name, ok := b.domainName(at, written)
		if !ok || !b.claimable(o, at, name) {
			continue
		}
		if !isProviderName(name) {
			b.refuse(at, "<tenant>.onmicrosoft.com; own domains are registered as [[organisation.domain]]", "%s is not a name of the provider's", name)
			continue
		}
		b.claims.providerNames = append(b.claims.providerNames, claim[mail.Domain, *Source]{name, s, at})
		s.ProviderDomains = append(s.ProviderDomains, name)
	}
}

// google checks a Workspace's source: its signatures and its secret.
func (b *builder) google(o *Organisation, s *Source, where string, e *SourceEntry) {
	if e.SecretHeader == nil {
		b.refuse(where+".secret_header", "make one with `anechoic source secret new` and add it in the Workspace's routing setting", "a google source needs its secret header")
	}
	if len(e.DKIM) == 0 {
		b.refuse(where+".dkim", `write dkim = [ { domain = "acme.example", selectors = ["google"] } ]`, "a google source needs the domains and selectors it signs with")
	}
	for i := range e.DKIM {
		b.identity(o, s, b.below(where+".dkim", i), &e.DKIM[i])
	}
	if len(b.dir.providers.Google.Ranges) == 0 {
		b.find(s, time.Time{}, "providers.google has no ranges: none of its mail can be proven")
	}
}

// identity checks one signing identity at a provider: the organisation's domain,
// and no key of ours (our signature on mail that comes back is an echo).
func (b *builder) identity(o *Organisation, s *Source, where string, e *IdentityEntry) {
	name, ok := b.domainName(where+".domain", e.Domain)
	if !ok || !b.owns(o, where+".domain", name) {
		return
	}
	if len(e.Selectors) == 0 {
		b.refuse(where+".selectors", `for example ["google"]`, "no selectors")
	}
	listed := DKIMIdentity{Domain: name}
	for i, selector := range e.Selectors {
		at, id := b.below(where+".selectors", i), identity{name, selector}
		switch {
		case !ValidSelector(selector):
			b.refuse(at, "as it stands in s= of the provider's signatures", "%q is no selector", selector)
		case b.isOurs(id):
			b.refuse(at, "list the provider's selectors only", "selector %q of %s is a key of this relay's", selector, name)
		default:
			b.claims.identities = append(b.claims.identities, claim[identity, *Source]{id, s, at})
			listed.Selectors = append(listed.Selectors, selector)
		}
	}
	s.DKIM = append(s.DKIM, listed)
}

func (b *builder) isOurs(id identity) bool {
	d, ok := b.dir.domains.get(id.domain)
	return ok && slices.ContainsFunc(d.Keys, func(k Key) bool { return k.Selector == id.selector })
}

// credential checks a user name, its password and its lock.
func (b *builder) credential(s *Source, where string, e *SourceEntry) {
	b.username(s, where+".username", e.Username)
	if e.Password == nil {
		b.refuse(where+".password", `write password = { argon2id = "`+phcForm+`" }`, "no password")
	} else if _, err := ParsePasswordHash(e.Password.Argon2id); err != nil {
		b.refuse(where+".password.argon2id", "an argon2id PHC string of 8 to 64 MiB", "the password's hash cannot be used: %v", err)
	} else {
		s.Password = e.Password.Argon2id
	}
	s.Addresses = b.networks(where+".addresses", e.Addresses, b.notOurs)
}

// maxUsername bounds what AUTH has to carry (RFC 4616 section 2 allows any).
const maxUsername = 255

func (b *builder) username(s *Source, where, name string) {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			b.refuse(where, "letters, digits and signs of ASCII, without spaces", "%q is no user name", name)
			return
		}
	}
	if name == "" || len(name) > maxUsername {
		b.refuse(where, "for example billing@acme", "the user name has %d characters", len(name))
		return
	}
	s.Username = name
	b.claims.usernames = append(b.claims.usernames, claim[string, *Source]{name, s, where})
}

// certificate checks the keys of TLS clients.
func (b *builder) certificate(s *Source, where string, e *SourceEntry) {
	if len(e.SPKI) == 0 {
		b.refuse(where+".spki_sha256", "the SHA-256 of the certificate's DER SubjectPublicKeyInfo", "no keys")
	}
	for i, h := range e.SPKI {
		at := b.below(where+".spki_sha256", i)
		if hash, ok := b.fingerprint(at, h); ok {
			b.claims.clientKeys = append(b.claims.clientKeys, claim[[32]byte, *Source]{hash, s, at})
			s.SPKI = append(s.SPKI, hash)
		}
	}
}

// address checks addresses that are the organisation's alone.
func (b *builder) address(s *Source, where string, e *SourceEntry) {
	if len(e.Addresses) == 0 {
		b.refuse(where+".addresses", "list the organisation's own servers, for example 203.0.113.10/32", "no addresses")
	}
	s.Addresses = b.servers(s, where+".addresses", e.Addresses, narrowest4, narrowest6)
}

// servers reads prefixes that identify an organisation: no provider's, not ours,
// and noted for the search for overlaps.
func (b *builder) servers(s *Source, where string, list []string, bits4, bits6 int) []netip.Prefix {
	return b.prefixes(where, list, bits4, bits6, func(at string, p netip.Prefix) {
		if b.notOurs(at, p) {
			b.claims.addresses = append(b.claims.addresses, claimedPrefix{p, s, at})
		}
	})
}

// networks reads prefixes that only narrow something down, and checks each.
func (b *builder) networks(where string, list []string, check func(string, netip.Prefix) bool) []netip.Prefix {
	return b.prefixes(where, list, wide4, wide6, func(at string, p netip.Prefix) { check(at, p) })
}

// prefixes reads a list and gives each to check; what is no prefix is told and
// left out.
func (b *builder) prefixes(where string, list []string, bits4, bits6 int, check func(string, netip.Prefix)) (prefixes []netip.Prefix) {
	for i, s := range list {
		p, err := parsePrefix(s, bits4, bits6)
		if err != nil {
			hint := "there is no way to write \"any address\": list the organisation's own"
			if strings.HasSuffix(where, ".internal") {
				hint = "list the server's own networks one by one: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7, fe80::/10 or parts of them; what came from elsewhere is forwarded mail"
			}
			b.refuse(b.below(where, i), hint, "%v", err)
			continue
		}
		check(b.below(where, i), p)
		prefixes = append(prefixes, p)
	}
	return prefixes
}

// notOurs refuses our own egress, and what notShared refuses.
func (b *builder) notOurs(where string, p netip.Prefix) bool {
	if i := slices.IndexFunc(b.dir.egress, p.Contains); i >= 0 {
		b.refuse(where, "our own mail that comes back is an echo, never the organisation's: take it out", "%s holds %s, an address this relay sends from", p, b.dir.egress[i])
		return false
	}
	return b.notShared(where, p)
}

// notShared refuses a provider's addresses: everybody's mail comes from there.
func (b *builder) notShared(where string, p netip.Prefix) bool {
	shared, ok := overlaps(p, b.shared)
	if ok {
		b.refuse(where, "a provider's addresses prove no organisation: use a microsoft365 or google source", "%s overlaps %s, which a provider's customers share", p, shared)
	}
	return !ok
}

// secretHeader checks a secret header's name and hashes.
func (b *builder) secretHeader(s *Source, where string, e *SecretHeaderEntry) {
	if e == nil {
		return
	}
	if why := badSecretName(e.Name); why != "" {
		name := strconv.Quote(e.Name)
		if strings.Contains(strings.ToLower(e.Name), secretPrefix) { // somebody wrote the secret itself: it is not repeated
			name = "the name"
		}
		b.refuse(where+".name", "a name of its own, for example X-Acme-Relay-Key", "%s %s", name, why)
	}
	if len(e.SHA256) == 0 {
		b.refuse(where+".sha256", "make a secret with `anechoic source secret new`", "no secret's hash")
	}
	s.Secret = &SecretHeader{Name: e.Name}
	for i, h := range e.SHA256 {
		at := b.below(where+".sha256", i)
		if hash, ok := b.fingerprint(at, h); ok {
			b.claims.secrets = append(b.claims.secrets, claim[[32]byte, *Source]{hash, s, at})
			s.Secret.SHA256 = append(s.Secret.SHA256, hash)
		}
	}
}

// knownHeaders are fields that mail systems write or read; a secret under such a
// name would be stripped mail, or would be written by others.
var knownHeaders = []string{
	"from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "in-reply-to", "references",
	"comments", "keywords", "return-path", "received", "mime-version", "authentication-results", "dkim-signature",
	"domainkey-signature", "received-spf", "delivered-to", "x-original-to", "x-originating-ip", "x-received", "x-mailer",
	"user-agent", "organization", "precedence", "auto-submitted", "importance", "priority", "x-priority", "sensitivity",
	"feedback-id", "errors-to", "disposition-notification-to", "autocrypt", "x-originatororg", "x-sender-id",
	"x-ld-processed", "x-eopattributedmessage", "x-eoptenantattributedmessage", "x-externalrecipientoutboundconnectors",
	"tls-required", "require-recipient-valid-since", "original-recipient", "mail-followup-to", "envelope-to",
}

// knownPrefixes are families of such fields.
var knownPrefixes = []string{
	"content-", "resent-", "list-", "arc-", "received-", "x-ms-", "x-microsoft-", "x-forefront-", "x-google-", "x-gm-",
	"x-forwarded-", "x-anechoic-", "x-spam-", "x-virus-", "x-proofpoint-", "thread-", "bimi-", "authentication-results-",
}

// badSecretName says what is wrong with a name for a secret header.
func badSecretName(name string) string {
	lower := strings.ToLower(name)
	if name == "" || len(name) > maxHeaderName {
		return fmt.Sprintf("has not 1 to %d characters", maxHeaderName)
	}
	for i := range len(lower) {
		if c := lower[i]; !(c == '-' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
			return "holds something other than letters, digits and -"
		}
	}
	if slices.Contains(knownHeaders, lower) || slices.ContainsFunc(knownPrefixes, func(p string) bool { return strings.HasPrefix(lower, p) }) {
		return "is a field that mail systems use"
	}
	return ""
}

// fingerprints reads a list of SHA-256 values; wrong ones are told and left out.
func (b *builder) fingerprints(where string, list []string) (hashes [][32]byte) {
	for i, s := range list {
		if h, ok := b.fingerprint(b.below(where, i), s); ok {
			hashes = append(hashes, h)
		}
	}
	return hashes
}

func (b *builder) fingerprint(where, s string) (hash [32]byte, ok bool) {
	n, err := hex.Decode(hash[:], []byte(s[:min(len(s), 2*len(hash))]))
	if err != nil || n != len(hash) || len(s) != 2*len(hash) || s != strings.ToLower(s) {
		// The text is not repeated: somebody may have written the secret itself.
		b.refuse(where, "64 lower-case hex digits; `anechoic source secret new` prints them", "no SHA-256: it has %d characters", len(s))
		return hash, false
	}
	return hash, true
}

// from reads what the source may send as.
func (b *builder) from(o *Organisation, s *Source, where string, e *SourceEntry) {
	provider := s.Kind == Microsoft365 || s.Kind == Google
	if len(e.From) == 0 && (!provider || e.From != nil) {
		b.refuse(where+".from", "list addresses as billing@acme.example, or *@acme.example", "no `from`: a source of kind %s must say what it may send as", s.Kind)
		return
	}
	for i, written := range e.From {
		at := b.below(where+".from", i)
		p, why := parsePattern(written)
		if why != "" {
			b.refuse(at, "local@domain or *@domain, nothing else", "%q %s", written, why)
			continue
		}
		if slices.Contains(s.ProviderDomains, p.Domain) || b.owns(o, at, p.Domain) {
			s.From = append(s.From, p)
		}
	}
}

// parsePattern reads local@domain or *@domain, or says what is wrong.
func parsePattern(s string) (p Pattern, why string) {
	local, name, ok := strings.Cut(s, "@")
	if ok && local == "*" {
		d, err := mail.ParseDomain(name)
		if err != nil {
			return p, "has no domain after the @"
		}
		return Pattern{"*", d}, ""
	}
	if strings.Contains(s, "*") {
		return p, "has a * where none can stand"
	}
	a, err := mail.ParseAddressUTF8(s)
	if err != nil {
		return p, "is no address"
	}
	return Pattern{a.Local(), a.Domain()}, ""
}
