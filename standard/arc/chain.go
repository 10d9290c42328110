package arc

import (
	"crypto/sha256"

	"anechoic/mail"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
)

// MaxInstances is the highest number of a set (RFC 8617 section 4.2.1).
const MaxInstances = 50

// Names of the three fields of a set (RFC 8617 section 4.1).
const (
	ResultsField = "ARC-Authentication-Results"
	MessageField = "ARC-Message-Signature"
	SealField    = "ARC-Seal"
)

// Status is what a chain is worth, and what a seal says in cv= (RFC 8617 section
// 4.4). The zero Status is None.
type Status uint8

// The statuses.
const (
	None Status = iota // there is no chain
	Pass               // it validates
	Fail               // it does not
)

// String is the word for cv= and for arc= in Authentication-Results.
func (s Status) String() string {
	switch s {
	case None:
		return "none"
	case Pass:
		return "pass"
	}
	return "fail"
}

// Chain is the sets of a message and what they are worth. The zero Chain is that of
// a message without ARC fields.
type Chain struct {
	Status Status
	Err    error // why Status is Fail; lower case, no secrets

	// SealStatus is Status without the question whether the message is still the one
	// that was sealed (RFC 8617 section 5.2 without step 4): the sets are whole,
	// their cv= agree, and every seal verifies.
	SealStatus Status

	// Temporary says that Status is Fail only because a key could not be looked up
	// now.
	Temporary bool

	// OldestPass is the oldest set whose message signature still verifies together
	// with all newer ones; 0 if that is true of every set, or of none (RFC 8617
	// section 5.2 step 5).
	OldestPass int

	Instances []Instance // set 1 first, up to the highest number that was read

	fields [sha256.Size]byte // of all ARC fields: which chain this is
}

// Instance is one set. What it says is proven only as far as Seal and Message are
// Pass.
type Instance struct {
	Number int

	// Results is what the handler says it saw; ResultsErr why it could not be read,
	// or is missing. Neither has a part in the status of the chain, but for a
	// field that is missing, stands twice or has no number. Text is the same as it
	// was written, without "i=N;", unfolded.
	Results    authres.Results
	ResultsErr error
	Text       string

	Claimed Status      // cv=: what the handler says of the older sets; None if it could not be read
	Message dkim.Result // of ARC-Message-Signature; its Status is None if there is none
	Seal    dkim.Result // of ARC-Seal, judged alone; its Status is None if there is none
}

// Sealer is the domain that sealed, if the seal verifies; otherwise the zero
// Domain.
func (i Instance) Sealer() mail.Domain {
	if i.Seal.Status != dkim.Pass {
		return mail.Domain{}
	}
	return i.Seal.Domain
}
