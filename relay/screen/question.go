package screen

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"

	"anechoic/mail"
	"anechoic/org"
)

// Direction is which way a message goes.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// Question is one message with what scanners may know about it. Its Message is
// read, by several scanners at once, and not changed.
type Question struct {
	ID           mail.ID
	Direction    Direction
	Organisation org.ID
	Principal    string     // whom an outbound message was proven to come from, as "organisation/source"; empty inbound
	Peer         netip.Addr // who connected; invalid: not known
	PeerName     string     // its confirmed host name; empty: not known
	Helo         string
	TLS          string // protocol version of the session, as "TLSv1.3"; empty: none
	Envelope     mail.Envelope
	Message      mail.Message // evidence stripped
	Rules        Rules
}

// Rules is what the organisation wants for this direction.
type Rules struct {
	HoldLoss bool    // what could not be screened is held; else it is put off
	HoldAt   float64 // a score of rspamd from which a message is held; 0: as rspamd says
	RefuseAt float64 // from which it is refused; 0: as rspamd says
	Checks   Checking
}

// size is the number of octets of the message.
func (q *Question) size() int64 { return q.Message.Size() }

// content reads the message from its first octet. The reader must be shut before
// Ask returns: what it reads from belongs to the caller.
func (q *Question) content() *octets {
	return &octets{r: io.MultiReader(bytes.NewReader(q.Message.Header.Bytes()), q.Message.Body.Reader())}
}

// octets is a reader that can be taken away: net/http may go on reading a
// request's body after it gave the answer.
type octets struct {
	mu   sync.Mutex // guards what follows
	r    io.Reader
	gone bool
}

var errGone = errors.New("screen: the message is not there any more")

// Read implements io.Reader.
func (c *octets) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return 0, errGone
	}
	return c.r.Read(p)
}

// shut ends all reading, and waits for a read under way.
func (c *octets) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
}

// safe makes text that may be shown of what somebody else wrote: printable ASCII,
// at most n octets.
func safe(s string, n int) string {
	s = s[:min(n, len(s))]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// oneLine is s without control characters, so that it ends no line, field or
// string of a protocol. UTF-8 stays: addresses may have it (RFC 6531).
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
