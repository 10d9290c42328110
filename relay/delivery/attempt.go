package delivery

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// Transport makes one attempt: it takes a message to one of the hosts of a route
// and says for each recipient what came of it.
type Transport interface {
	// Deliver gives one Result a recipient of a, in their order. It ends soon
	// after ctx does.
	Deliver(ctx context.Context, a Attempt) []Result
}

// Attempt is one message on its way to recipients that share a route.
type Attempt struct {
	ID         mail.ID
	Message    *custody.Message // whose it is; must not be changed
	Route      Route
	Envelope   mail.Envelope // its recipients are those of this attempt
	Size       int64         // octets of header and body
	Content    Content
	Egress     string // the pool it leaves from; empty: the default
	RequireTLS bool   // never in the clear and never to an unverified host, whatever the transport's own rule
}

// Content is the octets to be sent, as custody.Content has them. It can be read
// more than once: a second host starts from the beginning.
type Content interface {
	// Header is the header with its empty line. It is not changed.
	Header() []byte
	// Body reads what follows the header, from its start at each call.
	Body() io.Reader
	// BodyInMemory gives the body in one piece, if that is how it is held.
	BodyInMemory() ([]byte, bool)
}

// Status is what an attempt came to for one recipient.
type Status uint8

// The statuses. The zero Status is no result.
const (
	Undecided Status = iota // inside this package only
	Delivered               // the next hop answered 2yz to the end of data
	Deferred                // failed for now
	Failed                  // failed for good
)

func (s Status) String() string {
	return [...]string{"undecided", "delivered", "deferred", "failed"}[s]
}

// Result is the fate of one recipient in one attempt, fit for ledger and bounce.
type Result struct {
	Status   Status
	Enhanced string // RFC 3463, for example "5.1.1"; never empty
	Reply    string // what the host said, or what stood in the way; printable, at most 512 octets
	Said     bool   // Reply is the host's, word for word
	Host     string // name of the host that was reached; empty if none was
	Server   netip.AddrPort
	TLS      string      // "TLS1.3 TLS_AES_128_GCM_SHA256 verified"; empty: in the clear
	Egress   netip.Addr  // the address it was tried from; zero: not known
	Reason   mail.Reason // why nobody was asked, where there is one
	Relayed  bool        // Delivered to a host without DSN: nobody will tell the sender of the rest (RFC 3461 section 5.2.2)
}

// Where is the host as log and ledger have it: "mx.example[192.0.2.1]:25".
func (r Result) Where() string {
	switch {
	case r.Host == "":
		return ""
	case r.Host == r.Server.Addr().String():
		return r.Server.String()
	}
	return fmt.Sprintf("%s[%s]:%d", r.Host, r.Server.Addr(), r.Server.Port())
}

// deferred and failed are results that no host gave.
func deferred(enhanced, format string, args ...any) Result {
	return Result{Status: Deferred, Enhanced: enhanced, Reply: printable(fmt.Sprintf(format, args...), maxKeptReply)}
}

func failed(enhanced, format string, args ...any) Result {
	return Result{Status: Failed, Enhanced: enhanced, Reply: printable(fmt.Sprintf(format, args...), maxKeptReply)}
}

// fill gives result to every recipient that has none.
func fill(results []Result, result Result) {
	for i := range results {
		if results[i].Status == Undecided {
			results[i] = result
		}
	}
}

// Host is one machine that takes mail for a domain.
type Host struct {
	Name      string // as MX or configuration has it; certificates are compared with it
	Addresses []netip.Addr
	Port      uint16
}

// Route is where mail for a domain goes: hosts in the order in which they are
// tried. Site is what domains of one operator share; concurrency is bounded by it.
type Route struct {
	Site   string
	Hosts  []Host
	Chosen bool // a person named the host, not the domain's DNS
	Own    *OwnServer
	Local  bool // the message goes on here, by the way of inbound mail: no host is asked
}

// OwnServer is where an organisation takes its inbound mail: its own word, not
// DNS, and all that decides about TLS there.
type OwnServer struct {
	Address  SmartHost
	LMTP     bool // RFC 2033
	Security Security
}

// TLSPolicy says what a connection must be before a message is sent on it.
type TLSPolicy string

// The policies.
const (
	// Opportunistic: TLS where it is offered, verified or not; after a failed
	// handshake once more in the clear (RFC 7435).
	Opportunistic TLSPolicy = "opportunistic"
	// Required: TLS with a certificate that is valid for the host's name, or the
	// message waits.
	Required TLSPolicy = "required"
)

// Timeouts bound each stage of a connection. They are for a whole reply or
// block, not for a single read. A zero field is as in DefaultTimeouts.
type Timeouts struct {
	Connect, Greeting, Hello, Handshake   time.Duration
	Mail, Rcpt, DataStart, DataBlock, End time.Duration
	Reset, Quit                           time.Duration
}

// DefaultTimeouts are the minimums of RFC 5321 section 4.5.3.2; the stages it
// does not name (connect, hello, handshake, reset, quit) have our own values.
var DefaultTimeouts = Timeouts{
	Connect:   30 * time.Second,
	Greeting:  5 * time.Minute,  // 4.5.3.2.1
	Mail:      5 * time.Minute,  // 4.5.3.2.2
	Rcpt:      5 * time.Minute,  // 4.5.3.2.3
	DataStart: 2 * time.Minute,  // 4.5.3.2.4
	DataBlock: 3 * time.Minute,  // 4.5.3.2.5
	End:       10 * time.Minute, // 4.5.3.2.6
	Hello:     5 * time.Minute,
	Handshake: time.Minute,
	Reset:     20 * time.Second,
	Quit:      5 * time.Second,
}

// orDefault fills the zero fields.
func (t Timeouts) orDefault() Timeouts {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Connect, DefaultTimeouts.Connect}, {&t.Greeting, DefaultTimeouts.Greeting},
		{&t.Hello, DefaultTimeouts.Hello}, {&t.Handshake, DefaultTimeouts.Handshake},
		{&t.Mail, DefaultTimeouts.Mail}, {&t.Rcpt, DefaultTimeouts.Rcpt},
		{&t.DataStart, DefaultTimeouts.DataStart}, {&t.DataBlock, DefaultTimeouts.DataBlock},
		{&t.End, DefaultTimeouts.End}, {&t.Reset, DefaultTimeouts.Reset}, {&t.Quit, DefaultTimeouts.Quit},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return t
}

// isXtextLike says that a stored DSN parameter can be passed on: it is printable
// and has no space, as reception made sure (RFC 3461 section 4).
func isXtextLike(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
