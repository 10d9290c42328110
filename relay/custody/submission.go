package custody

import (
	"anechoic/ledger"
	"anechoic/mail"
)

// Receipt says that a message is in custody: durable, with its recipients and
// facts. Only Keep makes one, and Detain for what waits for a person instead.
// The zero Receipt is refused by every consumer.
type Receipt struct {
	id       mail.ID
	detained bool
}

// ID names the message that was kept.
func (r Receipt) ID() mail.ID { return r.id }

// Detained says that the message is kept, but goes nowhere before a person
// releases it.
func (r Receipt) Detained() bool { return r.detained }

// IsZero says that nothing was kept.
func (r Receipt) IsZero() bool { return r.id == "" }

// Submission is what Keep takes: a finished message, by what right it is here,
// and where it is to go.
type Submission struct {
	ID       mail.ID
	Warrant  Warrant
	Envelope mail.Envelope
	Header   mail.Header // final: signed, stripped, traced
	Body     *mail.Body  // read once; still the caller's to close
	// Facts tell of the message in the same durable batch. Without any, an
	// accepted fact is made of the rest.
	Facts []ledger.Fact
	// Put is records of the keeper's own, written with the message and left when it
	// is gone: never those of the queue.
	Put []Record
	// Held keeps the message without sending it, for this reason; empty: it is
	// due at once.
	Held mail.Reason
}
