package detect

import (
	"net/netip"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// What says what happened to the message of an Event.
type What int

// What happens to messages, as far as detection asks.
const (
	Nothing    What = iota
	Sent            // a proven source's message was taken into custody, or held
	Refused         // a message, or a recipient, was refused
	Delivered       // to a recipient
	Bounced         // a recipient failed for good, at once or later
	Complained      // a recipient's provider complained
)

// Event is one fact as detection reads it. Texts are as in the ledger: a stranger
// may have written them.
type Event struct {
	Time         time.Time
	What         What
	ID           mail.ID
	Org          string // the proven organisation; of refused mail, who was proven before it was refused
	Claimed      string // of refused mail: the organisation whose domain is in From
	Source       string
	From         string // address in From
	MailFrom     string
	Rcpt         []string
	Peer         netip.Addr
	Tenant       string // of the provider, by GUID
	Originator   string
	Origin       string // hosted | hybrid | forwarded
	ConnectingIP string
	Reason       mail.Reason
	Class        string // of a bounce: docs/bounces.md
	Size         int64
	Count        int // messages it stands for: 1, or more where refusals were aggregated
	Print        ledger.Print
}

// Of is the event of a fact; false: detection does not ask for such facts.
func Of(f ledger.Fact) (Event, bool) {
	what := whatOf(f)
	if what == Nothing {
		return Event{}, false
	}
	return Event{
		Time: f.Time, What: what, ID: f.ID, Org: f.Org, Claimed: f.ClaimedOrg, Source: f.Source, From: f.From, MailFrom: f.MailFrom, Rcpt: f.Rcpt,
		Peer: f.Peer, Tenant: f.Tenant, Originator: f.Originator, Origin: f.Origin, ConnectingIP: connectingAddress(f.ConnectingIP), Reason: f.Reason, Class: f.Class,
		Size: f.Size, Count: max(f.Count, 1), Print: f.Print,
	}, true
}

// whatOf is what a fact means. Of inbound mail only what is about a message of ours
// means anything here.
func whatOf(f ledger.Fact) What {
	switch f.Event {
	case ledger.BounceReceived:
		if IsFailure(&f) {
			return Bounced
		}
		return Nothing
	case ledger.ComplaintReceived:
		if IsComplaint(&f) {
			return Complained
		}
		return Nothing
	}
	if f.Direction == "inbound" {
		return Nothing
	}
	switch f.Event {
	case ledger.Accepted, ledger.Held, ledger.WouldRefuse:
		return Sent
	case ledger.Refused:
		return Refused
	case ledger.Delivered:
		return Delivered
	case ledger.Bounced:
		return Bounced
	}
	return Nothing
}

// IsFailure says that a report that came back is about a recipient that failed for
// good: not a delay, a success that was asked for, nor somebody's automatic answer. Its
// kind and action are the first words of the detail.
func IsFailure(f *ledger.Fact) bool {
	kind, rest, _ := strings.Cut(words(f), " ")
	action, _, _ := strings.Cut(rest, " ")
	return kind == "bounce" || kind == "status" && action == "failed"
}

// Unproven begins the detail of a report that anybody may have written who was shown
// the message it is about: it is no failure and no complaint.
const Unproven = "unproven"

// IsComplaint says that a report of feedback (RFC 5965 section 7.3) is against a message:
// not that it is no spam, nor about a signature that did not verify (RFC 6591).
func IsComplaint(f *ledger.Fact) bool {
	kind, _, _ := strings.Cut(words(f), " ")
	return kind != "not-spam" && kind != "auth-failure" && kind != Unproven
}

// words is what the detail of a fact about a report says of it, before who brought it.
func words(f *ledger.Fact) string {
	said, _, _ := strings.Cut(f.Detail, ",")
	return said
}

// domainOf is the domain of an address, in small letters.
func domainOf(address string) string {
	return strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
}

// connectingAddress is the address within what Microsoft stamps as the connecting
// server, "TenantId=…;Ip=[192.0.2.1];Helo=[…]"; what has another form stays as it is.
func connectingAddress(stamp string) string {
	_, rest, ok := strings.Cut(stamp, "Ip=[")
	address, _, closed := strings.Cut(rest, "]")
	if !ok || !closed {
		return stamp
	}
	return address
}
