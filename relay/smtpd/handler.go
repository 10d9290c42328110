package smtpd

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

// Handler judges transactions and takes messages. Its methods are called one
// after the other for one session, and concurrently for different ones. The
// context ends when the server is stopped the hard way. A refusal that a Handler
// gives is the Handler's to record; the server only sends it.
type Handler interface {
	// Mail is asked about a new transaction, of which all but the recipients is
	// known. Nil: the sender is accepted for now.
	Mail(ctx context.Context, t *Transaction) *mail.Refusal
	// Rcpt is asked about one recipient. Nil: it is accepted, and after the call
	// added to the envelope.
	Rcpt(ctx context.Context, t *Transaction, rcpt mail.Recipient) *mail.Refusal
	// Data takes the message. Receipt or refusal; with a refusal the receipt is
	// not looked at, and neither, or a receipt for another message, is answered
	// with mail.Internal. The body is closed when Data returns.
	Data(ctx context.Context, t *Transaction, m *Received) (custody.Receipt, *mail.Refusal)
}

// Session is what is known of a connection. The server writes it, between calls
// of the Handler only.
type Session struct {
	ID      mail.ID
	Mode    Mode
	Started time.Time

	// Peer is who connected and Local what it connected to, as IPv4 where it is
	// IPv4. On a Proxy port they are what the balancer says.
	Peer, Local netip.AddrPort
	// Balancer is who connected on a Proxy port; zero elsewhere. BalancerItself
	// says that it spoke for itself (LOCAL, UNKNOWN): such a Peer proves nothing.
	Balancer       netip.AddrPort
	BalancerItself bool

	Helo     string               // as given: letters, digits and ".-_:[]" only
	EHLO     bool                 // it was EHLO, not HELO
	TLS      *tls.ConnectionState // nil without TLS
	Username string               // proved by AUTH; empty without

	State any // the Handler's own
}

// Protocol is the "with" word of Received (RFC 3848): SMTP, or ESMTP with S for
// TLS and A for AUTH.
func (s *Session) Protocol() string {
	switch {
	case s.TLS != nil && s.Username != "":
		return "ESMTPSA"
	case s.TLS != nil:
		return "ESMTPS"
	case s.EHLO:
		return "ESMTP"
	}
	return "SMTP"
}

// Transaction is one MAIL and what follows, up to the end of its DATA. Every
// MAIL makes a new one; nothing of an earlier one is in it.
type Transaction struct {
	ID       mail.ID
	Session  *Session
	Started  time.Time
	Envelope mail.Envelope // Recipients: those accepted so far
	// DeclaredSize is what SIZE said (RFC 1870); zero if nothing.
	DeclaredSize int64

	State any // the Handler's own

	refused int // RCPT commands that were refused
}

// Protocol is the "with" word of Received for the transaction: that of its session,
// or its counterpart for SMTPUTF8 (RFC 6531 section 3.7.3).
func (t *Transaction) Protocol() string {
	if !t.Envelope.UTF8 {
		return t.Session.Protocol()
	}
	return "UTF8SMTP" + strings.TrimPrefix(t.Session.Protocol(), "ESMTP")
}

// Received is a message as it arrived, without dot-stuffing.
type Received struct {
	// RawHeader is the header without its empty line. A header over the limit is
	// cut short, and its body thrown away.
	RawHeader []byte
	// Header is RawHeader read; it shares its bytes. If HeaderErr is not nil
	// (mail.ErrHeaderSyntax, mail.ErrHeaderTooBig) it is empty, the body was thrown
	// away, and the message cannot be accepted: the Handler words the refusal.
	Header    mail.Header
	HeaderErr error
	// Body is what follows the empty line, Hashes its hashes.
	Body   *mail.Body
	Hashes dkim.BodyHashes
	// Size is the number of octets of the whole message.
	Size int64
}
