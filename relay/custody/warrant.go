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
	KindProven WarrantKind = "proven"
	KindNotice WarrantKind = "notice"
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
