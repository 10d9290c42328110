// Package ledger is the memory of the relay: an append-only list of facts, from
// which every other view is made. No decision is taken that the ledger cannot
// explain.
//
// A Fact is written in the same durable batch as the change it tells of. Facts
// are numbered without gaps by their offset and sealed in segments, at the
// latest every second or every 4,096 facts; each segment's Merkle root is
// chained to the one before, so that Verify finds any changed byte. Personal
// fields can be erased later: the leaf holds a keyed commitment to them.
//
// The package is types and pure functions over stored bytes; it knows no
// engine.
package ledger

import (
	"net/netip"
	"time"

	"anechoic/mail"
)

// Event is what happened. The set is closed.
type Event string

// The events.
const (
	Accepted           Event = "accepted"            // a message is in custody; the peer is told 250 after this is durable
	Refused            Event = "refused"             // a connection, recipient or message was refused
	Leased             Event = "leased"              // an attempt is about to begin; without a later event it was in flight when the relay stopped
	Delivered          Event = "delivered"           // the next hop took the recipients
	Deferred           Event = "deferred"            // an attempt failed for now; another is due
	Bounced            Event = "bounced"             // recipients failed for good, or expired
	Held               Event = "held"                // kept, not sent, until released
	Released           Event = "released"            // due again
	Dropped            Event = "dropped"             // given up by an operator
	Rerouted           Event = "rerouted"            // an operator chose another next hop, or the domain's own again
	Ended              Event = "ended"               // an operator ended attempts: recipients are bounced without another
	SetAside           Event = "set_aside"           // a stored record could not be read back or did not verify; it is never sent
	Suspended          Event = "suspended"           // mail of an organisation or source, or for a domain or site, is leased no more
	Resumed            Event = "resumed"             // it is leased again
	Started            Event = "started"             // the relay started
	Restored           Event = "restored"            // the data directory is that of a backup; what was queued in it is held
	Stopped            Event = "stopped"             // the relay stopped cleanly
	Reloaded           Event = "reloaded"            // a new Directory is in force
	BounceReceived     Event = "bounce_received"     // a report about a message of ours came back: delivered, delayed or failed later on
	ComplaintReceived  Event = "complaint_received"  // a recipient's provider complained about a message of ours
	SuppressionChanged Event = "suppression_changed" // an address was put on an organisation's suppression list, or taken off
	KeyChanged         Event = "key_changed"         // a signing key was added, rotated or revoked
	EchoForgotten      Event = "echo_forgotten"      // a person had what was learned of a domain's tenants forgotten
	LimitChanged       Event = "limit_changed"       // a person gave a source a tier for a while, took it back, or forgot what it spent
	EgressListed       Event = "egress_listed"       // SPF of a registered domain passes for an address that inbound or disowned mail leaves from
	EgressUnlisted     Event = "egress_unlisted"     // it does not any more
	WouldRefuse        Event = "would_refuse"        // a message was held that would have been refused, but that its organisation is learning
	Exported           Event = "exported"            // an operator took a copy of a detained message
	ApprovalChanged    Event = "approval_changed"    // a release that needs a second person was asked for, approved, refused, or expired
	Finding            Event = "finding"             // something is not as usual in what a source or domain sends, or in what is sent in its name
	Campaign           Event = "campaign"            // findings and refusals that belong together: it opened, grew, or ended
	ResponseChanged    Event = "response_changed"    // a step against a finding was put in force, proposed, changed or ended
	ContentAlarm       Event = "content_alarm"       // our own checks found something alarming in a message that a source of an organisation was proven to send
)

// MaxMessageID is how much of a Message-ID a fact keeps.
const MaxMessageID = 250

// Disposition is what became of the message, in the words users see.
type Disposition string

// The dispositions.
const (
	DispositionRelayed  Disposition = "relayed"
	DispositionRefused  Disposition = "refused"
	DispositionHeld     Disposition = "held"
	DispositionDeferred Disposition = "deferred"
	DispositionBounced  Disposition = "bounced"
)

// Identity says how well the message's organisation was proven.
type Identity string

// The identities.
const (
	Proven       Identity = "proven"
	Unproven     Identity = "unproven"
	Contradicted Identity = "contradicted"
)

// Fact is one thing that happened. Fields that do not apply are zero and absent
// from JSON. It never holds a secret, a subject or a body. MailFrom, From, Rcpt,
// Reply, Detail, MessageID and Print are personal and can be erased.
type Fact struct {
	Offset       uint64      `json:"offset"` // set when the fact is stored
	Time         time.Time   `json:"time"`
	ID           mail.ID     `json:"id,omitempty"` // of the message or transaction; of the connection before MAIL
	Event        Event       `json:"event"`
	Org          string      `json:"org,omitempty"`         // proven organisation
	ClaimedOrg   string      `json:"claimed_org,omitempty"` // owner of the From domain of refused mail
	Source       string      `json:"source,omitempty"`
	Direction    string      `json:"direction,omitempty"` // outbound | inbound
	Peer         netip.Addr  `json:"peer,omitzero"`
	Helo         string      `json:"helo,omitempty"`
	MailFrom     string      `json:"mail_from,omitempty"`
	From         string      `json:"from,omitempty"`
	Rcpt         []string    `json:"rcpt,omitempty"`
	Size         int64       `json:"size,omitempty"`
	Disposition  Disposition `json:"disposition,omitempty"`
	Identity     Identity    `json:"identity,omitempty"`
	Reason       mail.Reason `json:"reason,omitempty"`
	Class        string      `json:"class,omitempty"`   // what stood in the way: the classes of docs/bounces.md
	Proofs       []string    `json:"proofs,omitempty"`  // what proved the organisation: tenant, originator, secret-header, dkim, credential
	Origin       string      `json:"origin,omitempty"`  // hosted | hybrid | forwarded
	Results      string      `json:"results,omitempty"` // of inbound mail: "spf=pass dkim=pass dmarc=pass arc=none echo=none"
	Tenant       string      `json:"tenant,omitempty"`
	Originator   string      `json:"originator,omitempty"`
	ConnectingIP string      `json:"connecting_ip,omitempty"`
	Generation   uint64      `json:"generation,omitempty"` // of the Directory that decided
	Site         string      `json:"site,omitempty"`
	Reply        string      `json:"reply,omitempty"` // ours when refusing, the next hop's after an attempt
	Attempt      int         `json:"attempt,omitempty"`
	Egress       string      `json:"egress,omitempty"`     // the address an attempt was made from
	TLS          string      `json:"tls,omitempty"`        // version and cipher of the connection the fact is about
	Detail       string      `json:"detail,omitempty"`     // what was expected and what was seen
	MessageID    string      `json:"message_id,omitempty"` // as the message had it, at most MaxMessageID octets, printable
	Print        Print       `json:"print,omitzero"`       // what it has in common with messages like it
	Count        int         `json:"count,omitempty"`      // more than one: refusals of this kind that were aggregated
}
