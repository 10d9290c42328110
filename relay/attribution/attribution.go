// Package attribution decides whose a message is: evidence in, one Proof out, or
// the reason there is none.
//
//	Evidence ─► claims: credential, tenant ─► they agree ─► second proof ─► origin class ─► Proof
//
// It is pure: no connection, no clock of its own, no look-up. Checks run in a
// fixed order, so that a reply never tells which of several proofs was right.
// What is missing, repeated, malformed or unknown never counts in favour.
//
// It guarantees: without evidence there is no Proof; evidence of one
// organisation never proves another; evidence that contradicts refuses, whatever
// else is right; a provider's address range, name or certificate alone proves
// nothing. Whether the proven organisation may send this message is policy's
// question, not asked here.
package attribution

import (
	"crypto/subtle"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
)

// ReservedTenant is the tenant that all of consumer outlook.com shares.
const ReservedTenant = "84df9e7f-e9f6-40af-b435-aaaaaaaaaaaa"

// AtRecipient says, before any message is seen, whether the peer can prove
// anything at all. A provider's peer is judged at the end of the data.
func AtRecipient(dir *org.Directory, peer netip.Addr, tls bool, username string) *mail.Refusal {
	provider := dir.Providers().Microsoft365
	switch {
	case username != "":
		return nil
	case provider.Excludes(peer):
		return mail.RelayPool
	case provider.Contains(peer) && !tls:
		return mail.ProviderNeedsTLS
	case provider.Contains(peer):
		return nil
	}
	if s, ok := dir.Address(peer); ok {
		return mail.SourceKindNotSupported.Because("peer %s is source %s of %s, of kind address", peer, s.ID, s.Organisation)
	}
	return mail.RelayDenied
}

// claim is a source that some evidence points to, with what it rests on.
type claim struct {
	source  *org.Source
	methods Methods
}

// Attribute decides whose a message is. The Refusal is nil if and only if the
// Proof is not zero.
func Attribute(dir *org.Directory, ev *Evidence, now time.Time) (Proof, *mail.Refusal) {
	if refusal := AtRecipient(dir, ev.Peer, ev.TLS, ev.Username); refusal != nil {
		return Proof{}, refusal
	}
	credential, refusal := claimByCredential(dir, ev)
	if refusal != nil {
		return Proof{}, refusal
	}
	tenant, refusal := claimByTenant(dir, ev)
	if refusal != nil {
		return Proof{}, refusal
	}
	if refusal := agree(dir, ev, credential, tenant); refusal != nil {
		return Proof{}, refusal
	}
	if credential.source != nil {
		return proveCredential(dir, ev, credential)
	}
	return proveTenant(dir, ev, tenant, now)
}

// claimByCredential is the claim of an authenticated session. The user name may
// have gone from the Directory since.
func claimByCredential(dir *org.Directory, ev *Evidence) (claim, *mail.Refusal) {
	if ev.Username == "" {
		return claim{}, nil
	}
	s, ok := dir.Username(ev.Username)
	switch {
	case !ok || s.Kind != org.Credential || !ev.TLS:
		return claim{}, mail.RelayDenied.Because("the credential is no longer one of this relay's")
	case len(s.Addresses) > 0 && !inAny(ev.Peer, s.Addresses):
		return claim{}, mail.SourceNotAllowed.Because("credential source %s is not for address %s", s.ID, ev.Peer)
	}
	return claim{source: s, methods: ByCredential}, nil
}

// claimByTenant is the claim of a provider's stamps. They are worth something
// from a peer in the provider's range with the provider's confirmed name alone;
// from any other peer they are a stranger's text and claim nothing.
func claimByTenant(dir *org.Directory, ev *Evidence) (claim, *mail.Refusal) {
	if !dir.Providers().Microsoft365.Contains(ev.Peer) {
		return claim{}, nil
	}
	h := &ev.Header
	if ev.Username != "" && h.TenantID.Count == 0 && h.Originator.Count == 0 {
		return claim{}, nil // a client of its own, at a provider's address
	}
	if refusal := judgePeer(ev); refusal != nil {
		return claim{}, refusal
	}
	tenant, originator, refusal := readTenant(h)
	if refusal != nil {
		return claim{}, refusal
	}
	return matchTenant(dir, ev, tenant, originator)
}

func judgePeer(ev *Evidence) *mail.Refusal {
	switch {
	case !ev.TLS:
		return mail.ProviderNeedsTLS
	case ev.PeerName == PeerNameConfirmed:
		return nil
	case ev.PeerName == PeerNameUnconfirmed:
		return mail.PeerNotEOP.Because("%s has no confirmed name of the provider", ev.Peer)
	}
	return mail.LookupFailed.Because("the name of peer %s could not be looked up", ev.Peer)
}

// readTenant reads the two stamps: both there, once each, well formed.
func readTenant(h *HeaderEvidence) (tenant string, originator mail.Domain, refusal *mail.Refusal) {
	switch {
	case h.TenantID.Count > 1 || h.Originator.Count > 1:
		return "", mail.Domain{}, mail.AttributionAmbiguous.Because("%d %s, %d %s", h.TenantID.Count, tenantIDName, h.Originator.Count, originatorName)
	case h.TenantID.Count == 0 || h.Originator.Count == 0:
		return "", mail.Domain{}, mail.AttributionMissing.Because("%d %s, %d %s", h.TenantID.Count, tenantIDName, h.Originator.Count, originatorName)
	}
	tenant = strings.ToLower(h.TenantID.Value)
	if tenant == ReservedTenant {
		return "", mail.Domain{}, mail.TenantReserved
	}
	originator, err := mail.ParseDomain(h.Originator.Value)
	if err != nil || !isGUID(tenant) {
		return "", mail.Domain{}, mail.AttributionAmbiguous.Because("tenant %.60q, originator %.60q: not a GUID and a domain", h.TenantID.Value, h.Originator.Value)
	}
	return tenant, originator, nil
}

// matchTenant finds the source of a tenant and checks that the originator is the
// same organisation's.
func matchTenant(dir *org.Directory, ev *Evidence, tenant string, originator mail.Domain) (claim, *mail.Refusal) {
	s, known := dir.Tenant(tenant)
	switch {
	case known && slices.Contains(s.OriginatorOrgs, originator):
		return claim{source: s, methods: ByTenant | ByOriginator}, nil
	case known:
		return claim{}, mail.AttributionConflict.Because("tenant %s is source %s of %s, but originator %s is not one of its originator_orgs", tenant, s.ID, s.Organisation, originator)
	}
	if owner, claimed := dir.Originator(originator); claimed {
		return claim{}, mail.AttributionConflict.Because("tenant %s is nobody's here, but originator %s is of %s", tenant, originator, owner.Organisation)
	}
	detail := ""
	if leaked, ok := matchingSecret(dir, ev.Header.Secrets); ok {
		detail = "; the secret header of " + string(leaked) + " was right: it has leaked and must be replaced"
	}
	return claim{}, mail.TenantNotAuthorized.Because("tenant %s (%s) is no source here%s", tenant, originator, detail)
}

// agree refuses a message whose evidence points to more than one organisation,
// or to none.
func agree(dir *org.Directory, ev *Evidence, credential, tenant claim) *mail.Refusal {
	claimed := credential.source
	if claimed == nil {
		claimed = tenant.source
	}
	if claimed == nil {
		return mail.RelayDenied
	}
	if tenant.source != nil && tenant.source.Organisation != claimed.Organisation {
		return mail.AttributionConflict.Because("credential of %s, tenant of %s", claimed.Organisation, tenant.source.Organisation)
	}
	if other, ok := foreignSecret(dir, ev.Header.Secrets, claimed.Organisation); ok {
		return mail.AttributionConflict.Because("source %s of %s, but the secret header of %s was right", claimed.ID, claimed.Organisation, other)
	}
	return nil
}

func proveCredential(dir *org.Directory, ev *Evidence, c claim) (Proof, *mail.Refusal) {
	s := c.source
	if ownOrigin(s, ev.Peer, &ev.Header) == Forwarded {
		return Proof{}, mail.ForwardedMail.Because("source %s (%s) sent a message that shows it was forwarded", s.ID, s.Role)
	}
	return Proof{content{
		Organisation: s.Organisation, Source: s.ID, Username: s.Username,
		Origin: Hosted, Methods: c.methods, Generation: dir.Generation(),
	}}, nil
}

func proveTenant(dir *org.Directory, ev *Evidence, c claim, now time.Time) (Proof, *mail.Refusal) {
	s := c.source
	second := secondProof(dir, ev, s)
	if second == 0 && s.RequireDKIM && ev.SignaturesFailed {
		return Proof{}, mail.LookupFailed.Because("source %s of %s: a DKIM key could not be looked up", s.ID, s.Organisation)
	}
	if second == 0 && !s.SingleProof(now) {
		return Proof{}, mail.SecondProofMissing.Because("source %s of %s: %s", s.ID, s.Organisation, secondProofDetail(ev, s))
	}
	tenant := strings.ToLower(ev.Header.TenantID.Value)
	origin, refusal := providerOrigin(dir, s, tenant, &ev.Header)
	if refusal != nil {
		return Proof{}, refusal
	}
	if origin == Forwarded {
		return Proof{}, mail.ForwardedMail.Because("source %s of %s: origin class forwarded (AuthAs %q, entity %q)", s.ID, s.Organisation, ev.Header.AuthAs.Value, ev.Header.Entity.Value)
	}
	return Proof{content{
		Organisation: s.Organisation, Source: s.ID, Origin: origin, Methods: c.methods | second, Tenant: tenant,
		Originator: ev.Header.Originator.Value, Generation: dir.Generation(),
	}}, nil
}

// secondProof is the independent proof beside the tenant id; 0 if there is none.
func secondProof(dir *org.Directory, ev *Evidence, s *org.Source) Methods {
	switch {
	case s.Secret != nil && hasSecret(ev.Header.Secrets, s.Secret):
		return BySecretHeader
	case s.RequireDKIM && hasProviderSignature(dir, ev, s):
		return ByDKIM
	}
	return 0
}

func secondProofDetail(ev *Evidence, s *org.Source) string {
	switch {
	case s.Secret != nil && !slices.ContainsFunc(ev.Header.Secrets, func(f Secret) bool { return strings.EqualFold(f.Name, s.Secret.Name) }):
		return "the secret header is not there"
	case s.Secret != nil:
		return "the secret header is repeated or not right"
	case s.RequireDKIM:
		return "no verified DKIM signature of the provider for this organisation"
	}
	return "single_proof_until is over"
}

// hasSecret wants the header exactly once and right.
func hasSecret(found []Secret, want *org.SecretHeader) bool {
	count, right := 0, 0
	for i := range found {
		if !strings.EqualFold(found[i].Name, want.Name) {
			continue
		}
		count++
		right += isRight(&found[i], want)
	}
	return count == 1 && right == 1
}

// isRight compares with every digest of a rotation, in constant time.
func isRight(s *Secret, want *org.SecretHeader) int {
	if !s.WellFormed {
		return 0
	}
	right := 0
	for i := range want.SHA256 {
		right |= subtle.ConstantTimeCompare(s.Digest[:], want.SHA256[i][:])
	}
	return right
}

// foreignSecret finds a right secret of another organisation than of.
func foreignSecret(dir *org.Directory, found []Secret, of org.ID) (org.ID, bool) {
	for i := range found {
		if s, ok := dir.Secret(found[i].Name, found[i].Digest); ok && found[i].WellFormed && s.Organisation != of {
			return s.Organisation, true
		}
	}
	return "", false
}

func matchingSecret(dir *org.Directory, found []Secret) (org.ID, bool) {
	return foreignSecret(dir, found, "")
}

// hasProviderSignature looks for a signature by Microsoft for this organisation:
// by the tenant's own provider domain, or by a domain of the organisation that
// covers From and whose key record Microsoft keeps.
func hasProviderSignature(dir *org.Directory, ev *Evidence, s *org.Source) bool {
	for _, sig := range ev.Signatures {
		if slices.Contains(s.ProviderDomains, sig.Domain) {
			return true
		}
		d, ok := dir.Owner(sig.Domain)
		if ok && d.Organisation == s.Organisation && ev.From.Within(sig.Domain) && keptByMicrosoft(sig.Alias) {
			return true
		}
	}
	return false
}

// keptByMicrosoft says that a key record is an alias into Microsoft's zones.
func keptByMicrosoft(alias string) bool {
	alias = strings.ToLower(alias)
	return strings.HasSuffix(alias, ".onmicrosoft.com") || strings.HasSuffix(alias, ".dkim.mail.microsoft")
}

// isGUID wants the lower-case form 8-4-4-4-12.
func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
