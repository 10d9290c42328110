// Package echo judges inbound mail that passes SPF, DKIM and DMARC and may be an
// echo all the same: mail of a stranger's Microsoft 365 tenant that a shared relay
// signed in the name of whatever domain stood in From.
//
//	header ─► Read ─► Observation ─► Judge(rule, profile) ─► Verdict
//	                       └───────► Learn(profile) ─► profile, kept in a Table
//
// Steps of a verdict:
//
//  1. What is not DMARC-pass is not judged: DMARC says enough about it. Mail
//     without a provider's stamps or seals is not judged either.
//  2. Does the tenant that handed the message out belong to the From domain? It
//     does if the provider itself signed for that domain, if the originator is of
//     that domain, if the domain's DNS names the tenant, if an administrator
//     vouched for it, or if it was learned.
//  3. Else, was the message the domain's own before it came to the tenant, as
//     forwarded mail is?
//  4. What is left is foreign, and is weighed: how it came into the tenant, what
//     the provider attested of it, how many strangers there were of late.
//
// Learn believes only what the blind signature of a relay cannot make (DESIGN.md):
// mail from the provider's own hands, signed there with the domain's own key, on
// several days. Order and number of an attacker's messages do not matter to it.
//
// It guarantees that Judge and Learn are functions of their arguments, that a
// profile and a Table are bounded, and that nothing which was learned is older
// than Memory. It refuses and marks nothing by itself, it proves nothing about who
// wrote a message, and pass is no more than DMARC said already.
package echo

import (
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/attribution"
)

// Observation is what is known of one message: plain values.
type Observation struct {
	Time           time.Time   // of arrival
	From           mail.Domain // of the one From mailbox
	Organisational mail.Domain // the organisational domain of From (RFC 9989)
	DMARC          bool        // DMARC passed; without it there is no verdict
	SPF            bool        // SPF passed with a domain aligned to From
	Peer           Peer
	PeerName       mail.Domain // as DNS or the client gives it; for words only
	Stamps         Stamps
	Seals          []attribution.Sealed // of microsoft.com that verified, each by itself
	Signatures     []Signature          // DKIM signatures that verified
	Named          []mail.Domain        // tenants that From's DNS names, if it was looked up: NameOf the aliases of KeyNames
}

// Peer is whose server the message came from.
type Peer uint8

// The kinds. The zero value proves nothing about the stamps.
const (
	OtherPeer    Peer = iota // a relay, or anybody: the stamps are its word
	ProviderPeer             // in the provider's ranges and with its name both ways: the stamps are the provider's
)

// Stamps are the provider's fields in the header, as Read found them.
type Stamps struct {
	Tenant     string      // GUID of CrossTenant-Id, lower case; empty unless it stands once and is one
	Originator mail.Domain // X-OriginatorOrg; zero unless it stands once and is a domain
	Repeated   bool        // one of the two stands more than once, which the provider never writes
	Any        bool        // there is one at all, readable or not
	Entry      Entry
	Place      []Place // of each DKIM-Signature field, topmost first
}

// Entry is how the message came into the tenant, as the stamps say.
type Entry uint8

// The ways. An unknown or missing value is never Mailbox.
const (
	UnknownEntry Entry = iota
	Mailbox            // written in a mailbox of the tenant: Internal and Hosted
	Connector          // handed over by a server for which the tenant's administrator made a connector
	Outside            // from anybody, or forwarded
)

// Place is where a DKIM-Signature field stands in relation to the provider's
// Received fields, which tells when it was made.
type Place uint8

// The places. Fields are added at the top, so what stands below was there before.
const (
	Nowhere Place = iota // the provider left no Received field to compare with
	Egress               // directly on the provider's topmost: made as the message left, or by the next server
	Before               // below it: the message came to the tenant with this signature
	After                // above, with other servers' Received fields between
)

// Signature is a DKIM signature that verified.
type Signature struct {
	Domain   mail.Domain // d=
	Selector string      // s=
	Alias    string      // where the key record's name points to, if it is a CNAME
	Field    int         // the how-manieth DKIM-Signature field it is, from 0; selects its Place
}

// Echo is the verdict in a word, as Authentication-Results shows it.
type Echo string

// The words.
const (
	None    Echo = "none"    // nothing to judge: not DMARC-pass, or no trace of the provider
	Pass    Echo = "pass"    // the tenant belongs to the From domain
	Neutral Echo = "neutral" // a tenant that is not known to belong, without enough against it
	Suspect Echo = "suspect" // looks like an echo
)

// Verdict is what Judge says of a message.
type Verdict struct {
	Echo    Echo
	Score   int
	Reasons []Reason // the heaviest first
}

// Reason is one thing that Judge saw.
type Reason struct {
	Code   Code
	Points int
	Text   string // a sentence for people
}

// Code names a reason. Codes are stable.
type Code string

// The codes. docs/echo.md explains each.
const (
	SignedAtProvider  Code = "signed_at_provider"   // the provider signed with the From domain's own key
	OriginatorOfFrom  Code = "originator_of_from"   // the originator is the From domain's
	NamedByDNS        Code = "named_by_dns"         // From's DNS names the tenant
	VouchedFor        Code = "vouched_for"          // the configuration says so
	ConsumerMailbox   Code = "consumer_mailbox"     // a consumer domain, from the consumer tenant
	LearnedTenant     Code = "learned_tenant"       // the tenant was seen to hold the domain's key on several days
	GenuineForwarded  Code = "genuine_forwarded"    // the message was the domain's own before the tenant had it
	TenantUnstated    Code = "tenant_unstated"      // the stamps do not say which tenant
	StampRepeated     Code = "stamp_repeated"       // a stamp stands twice
	ForeignTenant     Code = "foreign_tenant"       // the tenant is not known to belong
	UsualTenantsOther Code = "usual_tenants_other"  // and the domain's own tenants are known
	EnteredFromOut    Code = "entered_from_outside" // handed to the tenant from outside, by connector or otherwise
	SPFAlone          Code = "spf_alone"            // no signature of the domain: DMARC passed by SPF of shared addresses
	AttestedFail      Code = "attested_fail"        // the provider saw DMARC fail for this very From
	ManyStrangers     Code = "many_strangers"       // several new foreign tenants within a day
)

// Has says that a verdict has a reason.
func (v Verdict) Has(c Code) bool {
	for _, r := range v.Reasons {
		if r.Code == c {
			return true
		}
	}
	return false
}

// Codes are the codes of the reasons in a line, for a header field or a log.
func (v Verdict) Codes() string {
	codes := make([]string, len(v.Reasons))
	for i, r := range v.Reasons {
		codes[i] = string(r.Code)
	}
	return strings.Join(codes, " ")
}
