// Package policy decides whether a proven organisation may send a message: Proof
// and originators in, a Proven warrant out, or the reason there is none.
//
// Every originator (the From mailbox, Sender, each Resent-From and Resent-Sender,
// MAIL FROM) lies in the organisation's proven domains, or in the source's
// provider domains, and in what the source may send as. The signing domain comes
// from the organisation's registry entry, never from the message.
//
// It is pure: whether a domain's DNS record stands is asked through a function.
// Mail that the organisation only forwarded gets no warrant, whoever is in From.
// Detains says whether it is kept for a person to see, Disown whether it may be passed
// on in nobody's name, instead of being refused.
//
// The same questions are asked again when a message is leased for delivery and
// the Directory changed since: what was revoked in between is held, not sent.
package policy

import (
	"encoding/hex"
	"net/netip"
	"slices"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
)

// Message is what policy needs to know of a message.
type Message struct {
	MailFrom    mail.Address // zero: the null sender
	Originators mail.Originators
	Report      bool // multipart/report, or Auto-Submitted other than "no" (RFC 3834)
}

// Standing says whether DNS stands behind a domain for its organisation. name is
// the domain of the address, which may be a sub-domain of d.
type Standing func(d *org.Domain, name mail.Domain) org.Standing

// Permit makes the warrant to send a message as the organisation of proof. The
// Refusal is nil if and only if the warrant is not zero.
func Permit(dir *org.Directory, proof attribution.Proof, m *Message, standing Standing) (warrant custody.Proven, refusal *mail.Refusal) {
	source, refusal := stillAuthorised(dir, proof)
	if refusal != nil {
		return warrant, refusal
	}
	if proof.Origin() == attribution.Forwarded {
		return warrant, mail.ForwardedMail.Because("source %s of %s: the organisation handled this message, but did not write it", source.ID, source.Organisation)
	}
	signAs, refusal := judgeFrom(dir, source, m.Originators.From.Address, standing)
	if refusal != nil {
		return warrant, refusal
	}
	if refusal := judgeSenders(dir, source, m, standing); refusal != nil {
		return warrant, refusal
	}
	if m.MailFrom.IsZero() && !m.Report {
		return warrant, mail.NullSender
	}
	warrant, err := custody.NewProven(proof, signAs)
	if err != nil {
		return warrant, mail.Internal.Because("%v", err)
	}
	return warrant, nil
}

// stillAuthorised finds the source of a proof and checks that what it was proven
// by is still the source's: the proof may be older than the Directory.
func stillAuthorised(dir *org.Directory, proof attribution.Proof) (*org.Source, *mail.Refusal) {
	if proof.IsZero() {
		return nil, mail.RelayDenied.Because("there is no proof")
	}
	source, ok := dir.Source(proof.Organisation(), proof.Source())
	switch {
	case !ok:
		return nil, mail.TenantNotAuthorized.Because("source %s of %s is gone", proof.Source(), proof.Organisation())
	case proof.Tenant() != "" && !slices.Contains(source.TenantIDs, proof.Tenant()):
		return nil, mail.TenantNotAuthorized.Because("tenant %s is no longer source %s of %s", proof.Tenant(), source.ID, source.Organisation)
	case !stillNamed(proof, source):
		return nil, mail.RelayDenied.Because("what proved source %s of %s is no longer the source's", source.ID, source.Organisation)
	case !stillSecret(proof, source):
		return nil, mail.RelayDenied.Because("the secret that proved source %s of %s is no longer one of the source's", source.ID, source.Organisation)
	case !stillSigner(dir, proof, source):
		return nil, mail.RelayDenied.Because("the DKIM identity that proved source %s of %s is no longer the source's", source.ID, source.Organisation)
	}
	return source, nil
}

// stillNamed says that the identifier a proof rests on is still the source's.
func stillNamed(proof attribution.Proof, s *org.Source) bool {
	switch s.Kind {
	case org.Microsoft365:
		return proof.Tenant() != "" && stillOriginator(proof, s) && (proof.Origin() != attribution.Hybrid || isIn(proof.Address(), s.HybridAddresses))
	case org.Google:
		return proof.Methods() == attribution.BySecretHeader|attribution.ByDKIM
	case org.Credential:
		return proof.Username() == s.Username
	case org.Certificate:
		return slices.ContainsFunc(s.SPKI, func(key [32]byte) bool { return hex.EncodeToString(key[:]) == proof.ClientKey() })
	case org.Address:
		return isIn(proof.Address(), s.Addresses)
	}
	return false
}

// stillSecret says that the secret a proof rests on, if it rests on one, is still
// listed. A proof that does not say which (versions before wrote such) is not
// believed. A secret that the source asks for only since then does not hold up what
// came before it.
func stillSecret(proof attribution.Proof, s *org.Source) bool {
	if proof.Methods()&attribution.BySecretHeader == 0 {
		return true
	}
	digest := proof.Secret()
	return digest != (attribution.Digest{}) && s.Secret != nil && slices.Contains(s.Secret.SHA256, [32]byte(digest))
}

// stillSigner says that the DKIM identity a proof rests on, if it rests on one, is
// still the source's: listed for a Workspace; for a tenant, of a provider domain or
// of a domain of the organisation while such signatures are asked for.
func stillSigner(dir *org.Directory, proof attribution.Proof, s *org.Source) bool {
	if proof.Methods()&attribution.ByDKIM == 0 {
		return true
	}
	signer, selector := proof.Signature()
	if s.Kind == org.Google {
		listed, ok := dir.Identity(signer, selector)
		return ok && listed == s
	}
	owner, ok := dir.Owner(signer)
	return s.RequireDKIM && (slices.Contains(s.ProviderDomains, signer) || ok && owner.Organisation == s.Organisation)
}

// stillOriginator says that the accepted domain of the tenant is still one that
// the source lists.
func stillOriginator(proof attribution.Proof, s *org.Source) bool {
	name, err := mail.ParseDomain(proof.Originator())
	return err == nil && slices.Contains(s.OriginatorOrgs, name)
}

func isIn(address string, prefixes []netip.Prefix) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Detains says that a message which Permit refused as forwarded is to be kept in
// detention, because its source says hold (or seal, where this relay has no forwarding
// domain to seal with: see Disown).
// A From of any organisation here is never kept so: forwarded, it is refused.
func Detains(dir *org.Directory, proof attribution.Proof, o mail.Originators) bool {
	source, refusal := stillAuthorised(dir, proof)
	if refusal != nil || proof.Origin() != attribution.Forwarded || source.Forwarded == org.Reject || source.Forwarded == "" {
		return false
	}
	_, owned := dir.Owner(o.From.Address.Domain())
	return !owned && !o.From.Address.IsZero()
}

// judgeFrom gives the domain whose keys sign; zero for a provider's own domain,
// which leaves without our signature.
func judgeFrom(dir *org.Directory, s *org.Source, from mail.Address, standing Standing) (mail.Domain, *mail.Refusal) {
	if from.IsZero() {
		return mail.Domain{}, mail.FromNotSingle
	}
	d, refusal := judgeAddress(dir, s, from, mail.FromNotOwned, standing)
	if refusal != nil || d == nil {
		return mail.Domain{}, refusal
	}
	return d.Name, nil
}

func judgeSenders(dir *org.Directory, s *org.Source, m *Message, standing Standing) *mail.Refusal {
	o := &m.Originators
	for _, list := range [...][]mail.Address{o.Sender, o.ResentFrom, o.ResentSender} {
		for _, a := range list {
			if _, refusal := judgeAddress(dir, s, a, mail.SenderNotOwned, standing); refusal != nil {
				return refusal
			}
		}
	}
	if m.MailFrom.IsZero() {
		return nil
	}
	_, refusal := judgeAddress(dir, s, m.MailFrom, mail.SenderNotOwned, standing)
	return refusal
}

// judgeAddress checks one originator. The domain is nil for a provider domain.
func judgeAddress(dir *org.Directory, s *org.Source, a mail.Address, notOwned *mail.Refusal, standing Standing) (*org.Domain, *mail.Refusal) {
	if slices.Contains(s.ProviderDomains, a.Domain()) {
		return nil, nil
	}
	d, ok := dir.Owner(a.Domain())
	switch {
	case !ok || d.Organisation != s.Organisation:
		return nil, notOwned.Because("%s is not a domain of %s", a.Domain(), s.Organisation)
	case !s.MaySendAs(a):
		return nil, mail.SourceNotAllowed.Because("source %s of %s may not send as %s", s.ID, s.Organisation, a)
	}
	switch standing(d, a.Domain()) {
	case org.Verified:
		return d, nil
	case org.Unverified:
		return nil, mail.DomainUnverified.Because("_anechoic.%s has no record that names %s", d.Name, s.Organisation)
	}
	return nil, mail.LookupFailed.Because("the record of %s could not be looked up", d.Name)
}
