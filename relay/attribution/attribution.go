// Package attribution decides whose a message is: evidence in, one Proof out, or
// the reason there is none.
//
//	Evidence ─► claims: credential, certificate, tenant, workspace, address ─► they agree ─► second proof ─► origin class ─► not contradicted by the provider's own seals ─► Proof
//
// It is pure: no connection, no clock of its own, no look-up. Checks run in a
// fixed order, so that a reply never tells which of several proofs was right.
// What is missing, repeated, malformed or unknown never counts in favour.
//
// It guarantees: without evidence there is no Proof; evidence of one
// organisation never proves another; evidence that contradicts refuses, whatever
// else is right; a provider's address range, name or certificate alone proves
// nothing. Whether the proven organisation may send this message, also what
// becomes of mail it only forwarded, is policy's question, not asked here.
package attribution

import (
	"crypto/subtle"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
)

// AtRecipient says, before any message is seen, whether the peer can prove
// anything at all. A provider's peer is judged at the end of the data.
func AtRecipient(dir *org.Directory, peer netip.Addr, tls bool, username string, key ClientKey) *mail.Refusal {
	if _, known := dir.ClientKey(key.SPKI); username != "" || known && key.Present && !key.Expired && tls {
		return nil
	}
	providers := dir.Providers()
	inRange := providers.Microsoft365.Contains(peer) || providers.Google.Contains(peer)
	switch {
	case providers.Microsoft365.Excludes(peer) || providers.Google.Excludes(peer):
		return mail.RelayPool
	case inRange && !tls:
		return mail.ProviderNeedsTLS
	case inRange:
		return nil
	}
	if _, known := dir.Address(peer); known {
		return nil
	}
	return mail.RelayDenied
}

// claim is a source that some evidence points to, with what it rests on.
type claim struct {
	source  *org.Source
	methods Methods
}

// Attribute decides whose a message is. The Refusal is nil if and only if the
// Proof is not zero. A Proof whose Origin is Forwarded says who handled the
// message, not who wrote it.
func Attribute(dir *org.Directory, ev *Evidence, now time.Time) (Proof, *mail.Refusal) {
	if refusal := AtRecipient(dir, ev.Peer, ev.TLS, ev.Username, ev.ClientKey); refusal != nil {
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
	workspace, refusal := claimByWorkspace(dir, ev)
	if refusal != nil {
		return Proof{}, refusal
	}
	claims := [...]claim{credential, claimByCertificate(dir, ev), tenant, workspace, claimByAddress(dir, ev)}
	claimed, refusal := agree(dir, ev, claims[:])
	if refusal != nil {
		return Proof{}, refusal
	}
	return prove(dir, ev, claimed, now)
}

// claimByCredential is the claim of an authenticated session. The user name may
// have gone from the Directory since.
func claimByCredential(dir *org.Directory, ev *Evidence) (claim, *mail.Refusal) {
	if ev.Username == "" {
		return claim{}, nil
	}
	s, ok := dir.Username(ev.Username)
	switch {
	case !ok || !ev.TLS:
		return claim{}, mail.RelayDenied.Because("the credential is no longer one of this relay's")
	case len(s.Addresses) > 0 && !org.Within(ev.Peer, s.Addresses):
		return claim{}, mail.SourceNotAllowed.Because("credential source %s is not for address %s", s.ID, ev.Peer)
	}
	return claim{source: s, methods: ByCredential}, nil
}

// claimByCertificate is the claim of a client certificate's key, while the
// certificate is valid. A key that is nobody's here, as the one that all of
// Microsoft shares, claims nothing.
func claimByCertificate(dir *org.Directory, ev *Evidence) claim {
	if !ev.TLS || !ev.ClientKey.Present || ev.ClientKey.Expired {
		return claim{}
	}
	s, ok := dir.ClientKey(ev.ClientKey.SPKI)
	if !ok {
		return claim{}
	}
	return claim{source: s, methods: ByCertificate}
}

// claimByAddress is the claim of an address that is one organisation's alone.
func claimByAddress(dir *org.Directory, ev *Evidence) claim {
	s, ok := dir.Address(ev.Peer)
	if !ok {
		return claim{}
	}
	return claim{source: s, methods: ByAddress}
}

// claimByTenant is the claim of Microsoft 365's stamps. They are worth something
// from a peer in the provider's range with the provider's confirmed name alone;
// from any other peer they are a stranger's text and claim nothing.
func claimByTenant(dir *org.Directory, ev *Evidence) (claim, *mail.Refusal) {
	if !dir.Providers().Microsoft365.Contains(ev.Peer) {
		return claim{}, nil
	}
	h := &ev.Header
	if provesItself(dir, ev) && h.TenantID.Count == 0 && h.Originator.Count == 0 {
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

// provesItself says that the session has a proof of its own beside what the
// message says.
func provesItself(dir *org.Directory, ev *Evidence) bool {
	return ev.Username != "" || claimByCertificate(dir, ev).source != nil
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
	if org.ReservedTenant(tenant) {
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
	if leaked, ok := foreignSecret(dir, ev.Header.Secrets, ""); ok {
		detail = "; the secret header of " + string(leaked) + " was right: it has leaked and must be replaced"
	}
	return claim{}, mail.TenantNotAuthorized.Because("tenant %s (%s) is no source here%s", tenant, originator, detail)
}

// claimByWorkspace is the claim of a Google Workspace. Google writes no tenant id:
// the organisation's secret header names it, and a DKIM signature of its own must
// say the same. Which of the two is missing, no reply tells.
func claimByWorkspace(dir *org.Directory, ev *Evidence) (claim, *mail.Refusal) {
	if !dir.Providers().Google.Contains(ev.Peer) {
		return claim{}, nil
	}
	named := namedBySecret(dir, ev.Header.Secrets)
	signed := namedBySignature(dir, ev.Signatures)
	switch {
	case provesItself(dir, ev) && named == nil && signed == nil:
		return claim{}, nil // a client of its own, at a provider's address
	case !ev.TLS:
		return claim{}, mail.ProviderNeedsTLS
	case named != nil && signed != nil && named.Organisation != signed.Organisation:
		return claim{}, mail.AttributionConflict.Because("the secret header is of %s, the DKIM signature of %s", named.Organisation, signed.Organisation)
	case named == nil:
		return claim{}, mail.SecondProofMissing.Because("no secret header of a google source is there, once and right")
	}
	return claim{source: named}, nil
}

// namedBySecret is the google source whose secret header is there.
func namedBySecret(dir *org.Directory, found []Secret) *org.Source {
	for i := range found {
		if s, ok := dir.Secret(found[i].Name, found[i].Digest); ok && found[i].WellFormed && s.Kind == org.Google {
			return s
		}
	}
	return nil
}

// namedBySignature is a google source that lists a signature's identity.
func namedBySignature(dir *org.Directory, found []Signature) *org.Source {
	for _, sig := range found {
		if s, ok := dir.Identity(sig.Domain, sig.Selector); ok {
			return s
		}
	}
	return nil
}

// agree gives the claim a proof will rest on: the first there is. It refuses a
// message whose evidence points to more than one organisation, or to none.
func agree(dir *org.Directory, ev *Evidence, claims []claim) (claim, *mail.Refusal) {
	var first claim
	for _, c := range claims {
		switch {
		case c.source == nil:
		case first.source == nil:
			first = c
		case c.source.Organisation != first.source.Organisation:
			return claim{}, mail.AttributionConflict.Because("source %s of %s and source %s of %s", first.source.ID, first.source.Organisation, c.source.ID, c.source.Organisation)
		}
	}
	if first.source == nil {
		return claim{}, mail.RelayDenied
	}
	if other, ok := foreignSecret(dir, ev.Header.Secrets, first.source.Organisation); ok {
		return claim{}, mail.AttributionConflict.Because("source %s of %s, but the secret header of %s was right", first.source.ID, first.source.Organisation, other)
	}
	return first, nil
}

// prove asks for the second proof and the origin class.
func prove(dir *org.Directory, ev *Evidence, c claim, now time.Time) (Proof, *mail.Refusal) {
	second, refusal := secondProof(dir, ev, c.source, now)
	if refusal != nil {
		return Proof{}, refusal
	}
	origin, refusal := originOf(dir, ev, c.source)
	if refusal != nil {
		return Proof{}, refusal
	}
	if refusal := contradicted(ev, origin); refusal != nil {
		return Proof{}, refusal
	}
	p := content{
		Organisation: c.source.Organisation, Source: c.source.ID, Origin: origin,
		Methods: c.methods | second.methods, Generation: dir.Generation(),
		Secret: second.secret, Signer: second.signer, Selector: second.selector,
	}
	switch c.source.Kind {
	case org.Microsoft365:
		p.Tenant, p.Originator = strings.ToLower(ev.Header.TenantID.Value), ev.Header.Originator.Value
		if origin == Hybrid {
			_, server, _ := readConnectingIP(ev.Header.ConnectingIP.Value)
			p.Address = server.String()
		}
	case org.Credential:
		p.Username = c.source.Username
	case org.Certificate:
		p.ClientKey = hex.EncodeToString(ev.ClientKey.SPKI[:])
	case org.Address:
		p.Address = ev.Peer.Unmap().String()
	}
	return Proof{p}, nil
}

// originOf is the origin class, by the truth table of the source's kind.
func originOf(dir *org.Directory, ev *Evidence, s *org.Source) (Origin, *mail.Refusal) {
	switch s.Kind {
	case org.Microsoft365:
		return providerOrigin(dir, s, strings.ToLower(ev.Header.TenantID.Value), &ev.Header)
	case org.Google:
		if ev.Header.XForwarded {
			return Forwarded, nil
		}
		return Hosted, nil
	}
	return ownOrigin(s, ev.Peer, &ev.Header), nil
}

// second is what a proof rests on beside the claim.
type second struct {
	methods  Methods
	secret   Digest      // of the secret header's value
	signer   mail.Domain // d= and s= of the DKIM signature
	selector string
}

func bySecretHeader(of Digest) second { return second{methods: BySecretHeader, secret: of} }

func (s second) andSignature(sig *Signature) second {
	s.methods, s.signer, s.selector = s.methods|ByDKIM, sig.Domain, sig.Selector
	return s
}

// secondProof is the independent proof that a source's kind or configuration
// asks for beside the first.
func secondProof(dir *org.Directory, ev *Evidence, s *org.Source, now time.Time) (have second, refusal *mail.Refusal) {
	var secret Digest
	bySecret := false
	if s.Secret != nil {
		secret, bySecret = rightSecret(ev.Header.Secrets, s.Secret)
	}
	switch s.Kind {
	case org.Microsoft365:
		signature := providerSignature(dir, ev, s)
		switch {
		case bySecret:
			have = bySecretHeader(secret)
		case s.RequireDKIM && signature != nil:
			have = have.andSignature(signature)
		case s.RequireDKIM && ev.SignaturesFailed:
			return have, mail.LookupFailed.Because("source %s of %s: a DKIM key could not be looked up", s.ID, s.Organisation)
		case s.SingleProof(now):
			return have, nil
		}
	case org.Google:
		signature := ownSignature(dir, ev, s, now)
		switch {
		case bySecret && signature != nil:
			have = bySecretHeader(secret).andSignature(signature)
		case bySecret && ev.SignaturesFailed:
			return have, mail.LookupFailed.Because("source %s of %s: a DKIM key could not be looked up", s.ID, s.Organisation)
		}
	default:
		if s.Secret == nil {
			return have, nil
		}
		if bySecret {
			have = bySecretHeader(secret)
		}
	}
	if have.methods == 0 {
		return have, mail.SecondProofMissing.Because("source %s of %s: %s", s.ID, s.Organisation, secondProofDetail(ev, s))
	}
	return have, nil
}

func secondProofDetail(ev *Evidence, s *org.Source) string {
	right := false
	if s.Secret != nil {
		_, right = rightSecret(ev.Header.Secrets, s.Secret)
	}
	switch {
	case s.Kind == org.Google && right:
		return "no fresh DKIM signature by a listed selector that is aligned with From"
	case s.Secret != nil && !slices.ContainsFunc(ev.Header.Secrets, func(f Secret) bool { return strings.EqualFold(f.Name, s.Secret.Name) }):
		return "the secret header is not there"
	case s.Secret != nil:
		return "the secret header is repeated or not right"
	case s.RequireDKIM:
		return "no verified DKIM signature of the provider for this organisation"
	}
	return "single_proof_until is over"
}

// rightSecret gives the digest of the header's value; it wants the header exactly
// once and right.
func rightSecret(found []Secret, want *org.SecretHeader) (digest Digest, ok bool) {
	count, right := 0, 0
	for i := range found {
		if !strings.EqualFold(found[i].Name, want.Name) {
			continue
		}
		count++
		right += isRight(&found[i], want)
		digest = found[i].Digest
	}
	if count != 1 || right != 1 {
		return Digest{}, false
	}
	return digest, true
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

// providerSignature looks for a signature by Microsoft for this organisation:
// by the tenant's own provider domain, or by a domain of the organisation that
// covers From and whose key record Microsoft keeps.
func providerSignature(dir *org.Directory, ev *Evidence, s *org.Source) *Signature {
	for i := range ev.Signatures {
		sig := &ev.Signatures[i]
		if slices.Contains(s.ProviderDomains, sig.Domain) {
			return sig
		}
		d, ok := dir.Owner(sig.Domain)
		if ok && d.Organisation == s.Organisation && ev.From.Within(sig.Domain) && keptByMicrosoft(sig.Alias) {
			return sig
		}
	}
	return nil
}

// keptByMicrosoft says that a key record is an alias into Microsoft's zones.
func keptByMicrosoft(alias string) bool {
	alias = strings.ToLower(alias)
	return strings.HasSuffix(alias, ".onmicrosoft.com") || strings.HasSuffix(alias, ".dkim.mail.microsoft")
}

// Bounds of a signature's age as proof: what is older may be a copy that somebody
// sends again.
const (
	maxSignatureAge = 24 * time.Hour
	maxClockSkew    = 5 * time.Minute
)

// ownSignature looks for the organisation's own signature at Google: by a
// listed identity (never one of our keys), aligned with From, fresh.
func ownSignature(dir *org.Directory, ev *Evidence, s *org.Source, now time.Time) *Signature {
	for i := range ev.Signatures {
		sig := &ev.Signatures[i]
		owner, ok := dir.Identity(sig.Domain, sig.Selector)
		fresh := !sig.Signed.IsZero() && now.Sub(sig.Signed) <= maxSignatureAge && sig.Signed.Sub(now) <= maxClockSkew
		if ok && owner == s && fresh && ev.From.Within(sig.Domain) {
			return sig
		}
	}
	return nil
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
