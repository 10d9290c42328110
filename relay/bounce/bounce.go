// Package bounce composes what a sender is told of recipients that failed for
// good, that wait for long, or that were served where a report was asked for: a
// delivery status notification (RFC 3464) in a multipart/report (RFC 6522) of three
// parts: text that a person understands, the same for programs, and a few header
// fields of the message. And it reads what comes back from others: reports of
// their servers, in whatever shape, and complaints (incoming.go), at addresses
// that only mail of ours has borne (verp.go).
//
// It guarantees that a bounce gives nothing away and is never answered: the
// body of the message is never returned (RET=FULL is read as HDRS, which RFC
// 3461 section 4.3 leaves to us), of its header only fields that its sender
// wrote for others to see; it is ASCII but for the sender's own address, sent
// from the null sender, and marked as automatic (RFC 3834). There is no bounce to
// the null sender.
//
// Who may get one, and by what warrant, is not decided here.
package bounce

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"anechoic/mail"
)

// ErrNullSender says that there is nobody to tell (RFC 5321 section 6.1).
var ErrNullSender = errors.New("bounce: mail from the null sender is never answered")

// Report is what a bounce tells of: one message, one or more of its recipients.
type Report struct {
	ID       mail.ID       // of the bounce itself
	Hostname string        // of the relay: Reporting-MTA, and the domain of From
	About    mail.ID       // the message that failed
	Envelope mail.Envelope // of that message: whom to tell, ENVID
	Header   mail.Header   // of that message, as it was to be sent
	Arrived  time.Time     // of that message
	Now      time.Time
	Action   Action
	Expires  time.Time // of Delayed: when it is given up
	Failures []Failure // the recipients, whatever became of them
}

// Action is what a report tells of its recipients (RFC 3464 section 2.3.3). The
// zero Action is Failed.
type Action uint8

// The actions. Of a relay's own knowledge there is no "delivered": the last server
// on the way is not this one. It is there for what such a server told us.
const (
	Failed    Action = iota
	Delayed          // attempts go on
	Relayed          // handed to a server that tells nothing further (RFC 3461 section 5.2.2)
	Delivered        // the last server says so
)

func (a Action) String() string { return [...]string{"failed", "delayed", "relayed", "delivered"}[a] }

// Failure is what is told of one recipient; with the Action Relayed it is no
// failure.
type Failure struct {
	Recipient mail.Recipient
	Enhanced  string // RFC 3463; of a temporary failure if it expired
	Reply     string // what the host said, or what stood in the way: printable
	Said      bool   // Reply is an SMTP reply, word for word
	Host      string // who said it; empty if no host was reached
	Expired   bool   // failed for now, again and again, until there was no time left
	Attempts  int
	Later     bool // it was taken, and the report of its failure came back later
}

// Bounds of one bounce.
const (
	maxHeaderCopy = 8 << 10 // octets of the message's header that are returned
	textWidth     = 72      // columns of the text part
	maxDiagnostic = 512     // octets of a host's words
)

// Compose writes the bounce. The recipient of its envelope is the sender of the
// message; NOTIFY=NEVER keeps others from reporting on the report.
func Compose(r Report) (mail.Header, *mail.Body, mail.Envelope, error) {
	switch {
	case r.Envelope.From.IsZero():
		return mail.Header{}, nil, mail.Envelope{}, ErrNullSender
	case len(r.Failures) == 0:
		return mail.Header{}, nil, mail.Envelope{}, errors.New("bounce: no recipient failed")
	case r.ID == "" || r.Hostname == "":
		return mail.Header{}, nil, mail.Envelope{}, errors.New("bounce: identifier or host name is missing")
	}
	boundary := "report-" + rand.Text()
	env := mail.Envelope{RequireTLS: r.Envelope.RequireTLS, UTF8: !r.Envelope.From.IsASCII(), Recipients: []mail.Recipient{{Address: r.Envelope.From, Notify: mail.NotifyNever}}}
	return header(r, boundary), mail.NewBody(body(r, boundary)), env, nil
}

// header is the header of the bounce (RFC 3464 section 2, RFC 3834 section 5).
func header(r Report, boundary string) mail.Header {
	fields := []mail.Field{
		mail.NewField("Date", r.Now.UTC().Format(time.RFC1123Z)),
		mail.NewField("From", fmt.Sprintf("Mail Delivery System <postmaster@%s>", r.Hostname)),
		mail.NewField("To", r.Envelope.From.String()),
		mail.NewField("Subject", titles[r.Action]+subject(r.Failures)),
		mail.NewField("Message-ID", fmt.Sprintf("<%s@%s>", r.ID, r.Hostname)),
	}
	if id, ok := original(r.Header, "Message-ID"); ok {
		fields = append(fields, mail.NewField("In-Reply-To", id), mail.NewField("References", id))
	}
	return mail.Header{Fields: append(fields,
		mail.NewField("Auto-Submitted", "auto-replied"),
		mail.NewField("MIME-Version", "1.0"),
		mail.NewField("Content-Type", "multipart/report; report-type=delivery-status;\r\n\tboundary=\""+boundary+"\""),
		mail.NewField("Content-Transfer-Encoding", "7bit"),
	)}
}

// titles begin the Subject.
var titles = map[Action]string{
	Failed: "Not delivered: your message to ", Delayed: "Not delivered yet: your message to ",
	Relayed: "Handed on: your message to ", Delivered: "Delivered: your message to ",
}

// subject names one recipient and how many more.
func subject(failures []Failure) string {
	first := ascii(failures[0].Recipient.Address.String())
	switch n := len(failures) - 1; n {
	case 0:
		return first
	case 1:
		return first + " and one other"
	default:
		return fmt.Sprintf("%s and %d others", first, n)
	}
}

// original is a short identifier field of the message, if it is fit to stand in
// a field of ours.
func original(h mail.Header, name string) (string, bool) {
	f, ok := h.First(name)
	if !ok {
		return "", false
	}
	v := f.Value()
	return v, len(v) > 2 && len(v) <= 500 && v[0] == '<' && v[len(v)-1] == '>' && ascii(v) == v
}

func body(r Report, boundary string) []byte {
	var b strings.Builder
	part := func(kind, description string) {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\nContent-Description: %s\r\nContent-Transfer-Encoding: 7bit\r\n\r\n", boundary, kind, description)
	}
	part("text/plain; charset=us-ascii", "What happened")
	writeText(&b, r)
	b.WriteString("\r\n")
	part("message/delivery-status", "The same for programs")
	writeStatus(&b, r)
	b.WriteString("\r\n")
	part("text/rfc822-headers", "Some header fields of the message")
	writeHeaderCopy(&b, r.Header)
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return []byte(b.String())
}

// writeStatus writes the per-message and per-recipient fields (RFC 3464
// sections 2.2 and 2.3).
func writeStatus(b *strings.Builder, r Report) {
	if id, ok := decodeXtext(r.Envelope.EnvID); ok {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", id)
	}
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", r.Hostname)
	fmt.Fprintf(b, "X-Message-Id: %s\r\n", r.About)
	if !r.Arrived.IsZero() {
		fmt.Fprintf(b, "Arrival-Date: %s\r\n", r.Arrived.UTC().Format(time.RFC1123Z))
	}
	for _, f := range r.Failures {
		b.WriteString("\r\n")
		if orcpt, ok := originalRecipient(f.Recipient.ORcpt); ok {
			fmt.Fprintf(b, "Original-Recipient: %s\r\n", orcpt)
		}
		fmt.Fprintf(b, "Final-Recipient: %s\r\n", finalRecipient(f.Recipient.Address))
		fmt.Fprintf(b, "Action: %s\r\nStatus: %s\r\n", r.Action, status(r.Action, f))
		if f.Host != "" {
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", ascii(f.Host))
		}
		if f.Said && f.Reply != "" {
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %s\r\n", ascii(f.Reply))
		}
		if !f.Later {
			fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", r.Now.UTC().Format(time.RFC1123Z))
		}
		if r.Action == Delayed && !r.Expires.IsZero() {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", r.Expires.UTC().Format(time.RFC1123Z))
		}
	}
}

// finalRecipient is an address with its type: one outside ASCII is written in it
// (RFC 6533 section 3).
func finalRecipient(a mail.Address) string {
	if a.IsASCII() {
		return "rfc822; " + a.String()
	}
	return "utf-8; " + mail.UTF8Xtext(a.String())
}

// status is the status of a recipient, in the class of the action. What expired
// keeps the cause, in the permanent class (RFC 3463 section 3.5: X.4.7, delivery
// time expired, where no cause is known).
func status(a Action, f Failure) string {
	class, cause, ok := strings.Cut(f.Enhanced, ".")
	known := ok && (class == "2" || class == "4" || class == "5")
	switch {
	case a == Relayed || a == Delivered:
		if !known || class != "2" {
			return "2.0.0"
		}
		return f.Enhanced
	case a == Delayed && (!known || class == "2"):
		return "4.0.0"
	case a == Delayed:
		return "4." + cause
	case !known || class == "2":
		return "5.0.0"
	case cause == "0.0" && f.Expired:
		return "5.4.7"
	}
	return "5." + cause
}

// decodeXtext reads xtext (RFC 3461 section 4). What is not printable ASCII when
// decoded is not repeated.
func decodeXtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c, i = byte(hi<<4|lo), i+2
		}
		if c < ' ' || c > '~' {
			return "", false
		}
		b.WriteByte(c)
	}
	return b.String(), b.Len() > 0
}

// hexDigit reads one upper-case digit, as xtext has them; -1 is none.
func hexDigit(c byte) int { return strings.IndexByte("0123456789ABCDEF", c) }

// originalRecipient reads ORCPT, "type;xtext", for Original-Recipient.
func originalRecipient(orcpt string) (string, bool) {
	kind, coded, ok := strings.Cut(orcpt, ";")
	address, valid := decodeXtext(coded)
	if !ok || !valid || kind == "" || ascii(kind) != kind || strings.ContainsAny(kind, " ") {
		return "", false
	}
	return kind + "; " + address, true
}

// returned are the fields a bounce may repeat: what the sender wrote for its
// reader. Everything else, and above all what providers and relays stamped, is
// left out: a secret header must not come back by a bounce.
var returned = []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "In-Reply-To", "References"}

// writeHeaderCopy repeats those fields, as far as they are ASCII and there is room.
func writeHeaderCopy(b *strings.Builder, h mail.Header) {
	room := maxHeaderCopy
	for _, f := range h.Fields {
		if room -= len(f.Raw()); room < 0 {
			return
		}
		if mayReturn(f) {
			b.Write(f.Raw())
		}
	}
}

func mayReturn(f mail.Field) bool {
	for _, c := range f.Raw() {
		if c > '~' || c < ' ' && c != '\r' && c != '\n' && c != '\t' {
			return false
		}
	}
	for _, name := range returned {
		if f.Is(name) {
			return true
		}
	}
	return false
}

// ascii makes s fit for a line of the bounce.
func ascii(s string) string {
	if len(s) > maxDiagnostic {
		s = s[:maxDiagnostic]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
