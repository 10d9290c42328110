package attribution

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/standard/arc"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
)

// Attested is what a provider saw when the message came to it: its
// ARC-Authentication-Results (RFC 8617 section 4.1.1).
type Attested struct {
	SPF        string        `json:"spf,omitempty"` // the words: "pass", "fail"…
	DMARC      string        `json:"dmarc,omitempty"`
	DKIM       []mail.Domain `json:"dkim,omitempty"` // domains whose signature passed
	HeaderFrom mail.Domain   `json:"from,omitzero"`
	MailFrom   mail.Domain   `json:"mail_from,omitzero"`
	SenderIP   netip.Addr    `json:"sender_ip,omitzero"` // who handed it over; zero: the provider says it came from inside
	Outside    bool          `json:"outside,omitempty"`  // it says that somebody handed it over, perhaps without a readable address
}

// Sealed is an ARC set of a provider whose seal verified.
type Sealed struct {
	Instance int
	Intact   bool // its message signature verifies too: the message is as it was sealed
	Attested Attested
}

// attestor is the name by which Microsoft signs its results.
const attestor = "mx.microsoft.com"

// maxAttestedDKIM bounds the passing signatures that are kept of one set of results.
const maxAttestedDKIM = 8

// senderIP begins the comment in which the provider tells who handed it the message.
const senderIP = "sender ip is "

// Attest reads what the provider's ARC-Authentication-Results say, behind "i=N;".
// false: they are not the provider's, or say two things of one method.
func Attest(r authres.Results) (Attested, bool) {
	if !strings.EqualFold(r.ID, attestor) {
		return Attested{}, false
	}
	var a Attested
	spf, dmarc := r.Of("spf"), r.Of("dmarc")
	if len(spf) > 1 || len(dmarc) > 1 {
		return Attested{}, false
	}
	for _, m := range spf {
		a.SPF = m.Value
		a.MailFrom = property(m, "smtp", "mailfrom")
		a.readSender(m.Comment)
	}
	for _, m := range dmarc {
		a.DMARC = m.Value
		a.HeaderFrom = property(m, "header", "from")
	}
	for _, m := range r.Of("dkim") {
		if d := property(m, "header", "d"); m.Value == "pass" && !d.IsZero() && len(a.DKIM) < maxAttestedDKIM {
			a.DKIM = append(a.DKIM, d)
		}
	}
	return a, true
}

func (a *Attested) readSender(comment string) {
	comment = strings.ToLower(strings.TrimSpace(comment))
	address, found := strings.CutPrefix(comment, senderIP)
	if !found {
		return
	}
	a.Outside = true
	if ip, err := netip.ParseAddr(strings.TrimSpace(address)); err == nil {
		a.SenderIP = ip.WithZone("").Unmap()
	}
}

// property is the domain of a property: an address counts by its domain.
func property(m authres.Result, ptype, name string) mail.Domain {
	v, _ := m.Get(ptype, name)
	if i := strings.LastIndexByte(v, '@'); i >= 0 {
		v = v[i+1:]
	}
	d, err := mail.ParseDomain(v)
	if err != nil {
		return mail.Domain{}
	}
	return d
}

// Accuses says that these words contradict From: the provider looked, and DMARC
// failed for it.
func (a Attested) Accuses(from mail.Domain) bool {
	return a.DMARC == "fail" && a.HeaderFrom == from && !from.IsZero()
}

// Vouches says that these words stand behind From: the provider took the message in
// from outside, and DMARC passed for it. Of what is written inside, it says pass
// without having looked at anything.
func (a Attested) Vouches(from mail.Domain) bool {
	return a.DMARC == "pass" && a.HeaderFrom == from && !from.IsZero() && a.Outside
}

// Accused says that some field of a header, if it is the provider's, contradicts
// From. It looks nothing up and believes nothing: it says whether it is worth it to
// verify the chain.
func Accused(h mail.Header, from mail.Domain) bool {
	for _, f := range h.Fields {
		if !f.Is(arc.ResultsField) {
			continue
		}
		_, words, _ := bytes.Cut(f.RawValue(), []byte(";"))
		if r, err := authres.Parse(words); err == nil {
			if a, ok := Attest(r); ok && a.Accuses(from) {
				return true
			}
		}
	}
	return false
}

// SealsOf gives what the seals of some domains say that was seen, each seal judged by
// itself, whatever the chain as a whole gives: see Sealed.
func SealsOf(chain arc.Chain, by []mail.Domain) (list []Sealed) {
	for i := range chain.Instances {
		set := &chain.Instances[i]
		if sealer := set.Sealer(); sealer.IsZero() || !slices.Contains(by, sealer) {
			continue
		}
		if saw, ok := Attest(set.Results); ok {
			list = append(list, Sealed{Instance: set.Number, Intact: set.Message.Status == dkim.Pass, Attested: saw})
		}
	}
	return list
}

// ReadChain adds to the evidence what the provider's seals say, of a chain of seals
// that all verify (RFC 8617 section 5.2 without step 4: the message may have changed
// since). A chain that does not verify, that says cv=fail or is not the provider's
// counts as absent. Where only DNS stands in the way, that is said instead, if what
// could not be verified would accuse.
func (ev *Evidence) ReadChain(chain arc.Chain, by []mail.Domain) {
	if chain.SealStatus == arc.Pass {
		ev.Seals = SealsOf(chain, by)
		return
	}
	accused, open := false, false
	for i := range chain.Instances {
		set := &chain.Instances[i]
		switch set.Seal.Status {
		case dkim.Pass:
		case dkim.TempError:
			open = true
		default:
			return
		}
		if saw, ok := Attest(set.Results); ok && slices.Contains(by, set.Seal.Domain) {
			accused = accused || saw.Accuses(ev.From)
		}
	}
	ev.SealsFailed = accused && open
}

// contradicted refuses what the provider itself saw fail: a verified chain of its
// seals says dmarc=fail of this From. One such seal is enough, whatever later ones
// say. What the origin class refuses anyway keeps that reason.
func contradicted(ev *Evidence, origin Origin) *mail.Refusal {
	if origin == Forwarded {
		return nil
	}
	for _, s := range ev.Seals {
		if s.Attested.Accuses(ev.From) {
			return mail.OriginContradicted.Because("ARC set %d, whose seal verifies, says dmarc=fail for %s", s.Instance, ev.From)
		}
	}
	if ev.SealsFailed {
		return mail.LookupFailed.Because("a key of the ARC chain could not be looked up, and the chain says dmarc=fail for %s", ev.From)
	}
	return nil
}
