package custody

import (
	"errors"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// ErrNoWarrant says that something was to be kept, signed or sent for which no
// warrant was made.
var ErrNoWarrant = errors.New("no warrant")

// Warrant says by what right a message is in custody. It is a closed sum: Proven,
// Notice, Inbound, Disowned. Zero values are refused by every consumer.
type Warrant interface {
	// Kind names the variant in records and ledger.
	Kind() WarrantKind
	// IsZero says that no stage made this warrant.
	IsZero() bool
	warrant() // closed
}

// WarrantKind names a variant of Warrant.
type WarrantKind string

// The variants.
const (
	KindProven   WarrantKind = "proven"
	KindNotice   WarrantKind = "notice"
	KindInbound  WarrantKind = "inbound"
	KindDisowned WarrantKind = "disowned"
)

// Proven is the right to send as an organisation: attribution proved whose the
// message is and policy permitted it. Nothing else can be signed as an
// organisation.
type Proven struct {
	proof  attribution.Proof
	signAs mail.Domain
}

// NewProven is for relay/policy alone (arch_test.go keeps it so). signAs is the
// organisation's registered domain that covers From; zero for mail that leaves
// without our signature (a provider's own domain of the tenant).
func NewProven(proof attribution.Proof, signAs mail.Domain) (Proven, error) {
	if proof.IsZero() {
		return Proven{}, ErrNoWarrant
	}
	return Proven{proof: proof, signAs: signAs}, nil
}

// Kind, IsZero: see Warrant.
func (Proven) Kind() WarrantKind { return KindProven }
func (w Proven) IsZero() bool    { return w.proof.IsZero() }
func (Proven) warrant()          {}

// Proof is what the warrant rests on.
func (w Proven) Proof() attribution.Proof { return w.proof }

// Organisation is whose the message is.
func (w Proven) Organisation() org.ID { return w.proof.Organisation() }

// SignAs is the registered domain whose keys sign; zero: none do.
func (w Proven) SignAs() mail.Domain { return w.signAs }

// Notice is the right to send what the relay composed itself: a bounce, later a
// report. From is in the relay's own domain.
type Notice struct {
	about mail.ID
	org   org.ID
}

// NewNotice is for app alone. about is the message the notice tells of, of is
// the organisation it goes to.
func NewNotice(about mail.ID, of org.ID) (Notice, error) {
	if about == "" || of == "" {
		return Notice{}, ErrNoWarrant
	}
	return Notice{about: about, org: of}, nil
}

// Kind, IsZero: see Warrant.
func (Notice) Kind() WarrantKind { return KindNotice }
func (w Notice) IsZero() bool    { return w.about == "" }
func (Notice) warrant()          {}

// About is the message the notice tells of; Organisation is whom it is for.
func (w Notice) About() mail.ID       { return w.about }
func (w Notice) Organisation() org.ID { return w.org }

// Inbound is the right to hand a message to an organisation's own server: it is
// for the organisation, and was judged. It is never signed.
type Inbound struct {
	org      org.ID
	verdicts Verdicts
}

// Verdicts is what an inbound message was found to be, in the words of RFC 8601;
// empty: it was not asked.
type Verdicts struct {
	SPF   string `json:"spf,omitempty"`
	DKIM  string `json:"dkim,omitempty"` // of the signature that counted: an aligned one, if there is one
	DMARC string `json:"dmarc,omitempty"`
	ARC   string `json:"arc,omitempty"`
	Echo  string `json:"echo,omitempty"`
	// Answerable says that MAIL FROM may be told of a failure: its domain authorised
	// the peer that used it.
	Answerable bool `json:"answerable,omitempty"`
}

// NewInbound is for relay/inbound alone. of is the organisation whose domain the
// recipients have.
func NewInbound(of org.ID, v Verdicts) (Inbound, error) {
	if of == "" || v == (Verdicts{}) {
		return Inbound{}, ErrNoWarrant
	}
	return Inbound{org: of, verdicts: v}, nil
}

// Kind, IsZero: see Warrant.
func (Inbound) Kind() WarrantKind { return KindInbound }
func (w Inbound) IsZero() bool    { return w.org == "" }
func (Inbound) warrant()          {}

// Organisation is whom the message is for.
func (w Inbound) Organisation() org.ID { return w.org }

// Verdicts is what the message was found to be when it was accepted.
func (w Inbound) Verdicts() Verdicts { return w.verdicts }

// Disowned is the right to pass on what an organisation forwarded, so that nothing
// about it aligns with any organisation here: unsigned, with a sender of the relay's
// own forwarding domain, from addresses in nobody's SPF record.
type Disowned struct {
	proof attribution.Proof
}

// NewDisowned is for relay/policy alone. The proof says who forwarded, and that it
// did no more.
func NewDisowned(proof attribution.Proof) (Disowned, error) {
	if proof.IsZero() || proof.Origin() != attribution.Forwarded {
		return Disowned{}, ErrNoWarrant
	}
	return Disowned{proof: proof}, nil
}

// Kind, IsZero: see Warrant.
func (Disowned) Kind() WarrantKind { return KindDisowned }
func (w Disowned) IsZero() bool    { return w.proof.IsZero() }
func (Disowned) warrant()          {}

// Proof says whose source handed the message over, and how.
func (w Disowned) Proof() attribution.Proof { return w.proof }

// Organisation is who forwarded the message.
func (w Disowned) Organisation() org.ID { return w.proof.Organisation() }
