package policy

import (
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
)

// Vouch is what stands behind the From of forwarded mail, apart from who forwarded
// it. The zero Vouch is nothing.
type Vouch uint8

// The values.
const (
	Unvouched    Vouch = iota // nothing, or nothing that verifies
	VouchUnknown              // what might stand behind it could not be looked up
	Vouched                   // an aligned DKIM signature verifies, or a verified chain of a trusted sealer says dmarc=pass for this From
)

// Seals says that a source has its forwarded mail relayed disowned: only then is it
// worth asking what stands behind From. It promises nothing: see Disown.
func Seals(dir *org.Directory, proof attribution.Proof) bool {
	source, refusal := stillAuthorised(dir, proof)
	return refusal == nil && proof.Origin() == attribution.Forwarded && source.Forwarded == org.Seal
}

// Disown makes the warrant to pass on what an organisation forwarded, in nobody's
// name here. The Refusal is nil if and only if the warrant is not zero. In order:
//
//  1. The source is still the organisation's, and has its forwarded mail sealed.
//  2. From is nobody's here: not a domain of any organisation, nor below one, nor a
//     tenant's name. Sender and Resent fields may be the forwarding organisation's own,
//     as its server writes them, but no other's.
//  3. MAIL FROM is not null: what leaves has a sender that a report finds back to,
//     and a report that was forwarded would bear the sender of nobody.
//  4. Something stands behind From: see Vouched.
func Disown(dir *org.Directory, proof attribution.Proof, m *Message, v Vouch) (warrant custody.Disowned, refusal *mail.Refusal) {
	source, refusal := stillAuthorised(dir, proof)
	switch {
	case refusal != nil:
		return warrant, refusal
	case proof.Origin() != attribution.Forwarded || source.Forwarded != org.Seal:
		return warrant, mail.ForwardedMail.Because("source %s of %s does not have this message passed on", source.ID, source.Organisation)
	case m.MailFrom.IsZero():
		return warrant, mail.ForwardedMail.Because("source %s of %s: forwarded mail with the null sender is not passed on", source.ID, source.Organisation)
	}
	if refusal := judgeForeign(dir, source, m.Originators); refusal != nil {
		return warrant, refusal
	}
	from := m.Originators.From.Address.Domain()
	switch v {
	case VouchUnknown:
		return warrant, mail.LookupFailed.Because("whether something stands behind %s could not be looked up", from)
	case Unvouched:
		return warrant, mail.ForwardedMail.Because("source %s of %s: no DKIM signature of %s verifies any more, and no verified chain of a trusted sealer says dmarc=pass for it", source.ID, source.Organisation, from)
	}
	warrant, err := custody.NewDisowned(proof)
	if err != nil {
		return warrant, mail.Internal.Because("%v", err)
	}
	return warrant, nil
}

// judgeForeign wants every originator to be nobody's here, but for what the
// forwarding organisation's own server writes.
func judgeForeign(dir *org.Directory, s *org.Source, o mail.Originators) *mail.Refusal {
	if o.From.Address.IsZero() {
		return mail.FromNotSingle
	}
	if whose, ours := belongs(dir, o.From.Address.Domain()); ours {
		return mail.ForwardedMail.Because("source %s of %s: From is of %s, whose mail is never passed on forwarded", s.ID, s.Organisation, whose)
	}
	for _, list := range [...][]mail.Address{o.Sender, o.ResentFrom, o.ResentSender} {
		for _, a := range list {
			if whose, ours := belongs(dir, a.Domain()); ours && whose != s.Organisation {
				return mail.ForwardedMail.Because("source %s of %s: %s is of %s", s.ID, s.Organisation, a.Domain(), whose)
			}
		}
	}
	return nil
}

// belongs finds the organisation that a name is of: its domain, or below one whether
// or not that covers sub-domains, or its tenant's name.
func belongs(dir *org.Directory, name mail.Domain) (org.ID, bool) {
	if s, ok := dir.ProviderDomain(name); ok {
		return s.Organisation, true
	}
	for ; !name.IsZero(); name = name.Parent() {
		if d, ok := dir.Owner(name); ok {
			return d.Organisation, true
		}
	}
	return "", false
}
