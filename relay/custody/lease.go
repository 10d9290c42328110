package custody

import (
	"bytes"
	"io"
	"time"

	"anechoic/mail"
)

// Message is what the queue knows of a message in custody, without its content.
type Message struct {
	ID           mail.ID
	Kind         WarrantKind
	Organisation string
	Source       string // empty for a Notice
	Kept         time.Time
	Expires      time.Time
	Envelope     mail.Envelope // without recipients: a lease has its own
	HeaderSize   int64         // octets of the header with its empty line
	Size         int64         // octets of header and body
}

// Recipient is one recipient that a lease is to be delivered to.
type Recipient struct {
	mail.Recipient
	Attempts  int     // before this one
	LastReply string  // of the attempt before, or empty
	Told      bool    // the sender was told of a delay
	Course    *Course // what a person decided; nil: the domain's way
}

// Lease is the exclusive right to attempt delivery of one message to its due
// recipients at one domain. It ends with Settle (or when Load sets the message
// aside); it does not survive a restart.
type Lease struct {
	ID         mail.ID     // of the message
	Domain     mail.Domain // of all its recipients
	Via        string      // a person sends them to this next hop, "host:port", instead; see Course
	End        bool        // a person ended them: they are bounced without an attempt
	Attempt    int         // the first is 1; the largest among the recipients
	Message    *Message    // must not be changed
	Recipients []Recipient

	at      time.Time // of Lease
	slot    *slot
	recent  *recent // nil: the records are to be read
	record  *messageRecord
	numbers []uint32           // of Recipients
	stored  []*recipientRecord // of Recipients
	wishes  map[uint32]wish    // by number; guarded by the Queue's mutex
}

// wish is what a person asked for a recipient whose attempt is in flight.
type wish struct {
	state  recipientState
	reason mail.Reason
	course **Course // nil: it stays as it is
}

// Final says that a recipient deferred at now has no time left: Settle bounces
// it. Whoever composes the bounce asks this first, with the now of Settle.
func (l *Lease) Final(now time.Time) bool { return !now.Before(l.Message.Expires) }

// Result is what an attempt came to for one recipient.
type Result uint8

// The results. The zero Result is that of a recipient no Outcome names.
const (
	Untried   Result = iota // no attempt was made: due as before, not counted
	Delivered               // the next hop answered 2yz after the final dot
	Deferred                // failed for now
	Bounced                 // failed for good
	Held                    // not sent until released: policy no longer permits it
)

// Outcome is the result for one recipient of a lease.
type Outcome struct {
	Index     int // in Lease.Recipients
	Result    Result
	Reply     string      // the next hop's, or what stood in its way
	Site      string      // where it was tried
	TLS       string      // version and cipher of the connection
	Egress    string      // the address it was tried from
	Reason    mail.Reason // for Held, and where one applies
	Class     string      // what stood in the way (package dsn), for the fact
	Detail    string      // for log and ledger
	NotBefore time.Time   // Deferred, Untried: the next attempt is not due earlier, within the longest retry
	Again     bool        // Deferred: another attempt is due even if there is no time left
	Told      bool        // a notice in the same Settle tells the sender of the delay
}

// Content is the octets of a message as they are to be sent.
type Content struct {
	header []byte
	body   []byte      // if it is in memory
	stored io.ReaderAt // header and body, if not
	size   int64
}

// Size is the octets of header and body.
func (c Content) Size() int64 { return c.size }

// Header is the header with its empty line. It is shared and must not be changed.
func (c Content) Header() []byte { return c.header }

// Body reads what follows the header, from its start at each call.
func (c Content) Body() io.Reader {
	if c.stored == nil {
		return bytes.NewReader(c.body)
	}
	n := int64(len(c.header))
	return io.NewSectionReader(c.stored, n, c.size-n)
}

// BodyInMemory gives the body in one piece, shared, if the message is small enough
// to be held so; else read Body.
func (c Content) BodyInMemory() ([]byte, bool) { return c.body, c.stored == nil }
