package attribution

import (
	"net/netip"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
)

// Evidence is all that Attribute knows of a message: plain values, no secret, no
// connection. App makes it out of a transaction, in one place.
type Evidence struct {
	Peer       netip.Addr  // connecting address, or the client's behind a trusted balancer
	TLS        bool        // the connection is encrypted
	Username   string      // proven by AUTH; empty: none
	ClientKey  ClientKey   // of the TLS client certificate, if there was one
	PeerName   PeerName    // of a peer in a provider's range
	From       mail.Domain // of the one From mailbox
	Header     HeaderEvidence
	Signatures []Signature // DKIM signatures that verified; looked at only where a source asks for them

	SignaturesFailed bool // DNS did not answer for some signature: none is not the same as unknown

	// What ReadChain found; looked at only for a provider's peer whose tenant is known,
	// and only where it can decide.
	Seals       []Sealed `json:",omitempty"`
	SealsFailed bool     `json:",omitempty"`
}

// PeerName says whether a peer's address has its provider's name, both ways
// (forward-confirmed reverse DNS).
type PeerName uint8

// The outcomes. The zero value confirms nothing.
const (
	PeerNameUnknown     PeerName = iota // not looked up
	PeerNameConfirmed                   // PTR and A/AAAA agree on a name of the provider
	PeerNameUnconfirmed                 // DNS answered, and they do not
	PeerNameFailed                      // DNS did not answer
)

// ClientKey is the key of a TLS client certificate whose possession the handshake
// proved.
type ClientKey struct {
	SPKI    [32]byte // SHA-256 of the DER SubjectPublicKeyInfo
	Present bool
	Expired bool // the certificate is not valid now: its key proves nothing
}

// Signature is a DKIM signature that verified.
type Signature struct {
	Domain   mail.Domain // d=
	Selector string      // s=
	Signed   time.Time   // t=; zero: it does not say
	Alias    string      // where the key record's name points to, if it is a CNAME
}

// HeaderEvidence is what ReadHeader found in the top-level header. Values are a
// stranger's until the peer is known to be the provider that stamps them.
type HeaderEvidence struct {
	TenantID     Stamp // X-MS-Exchange-CrossTenant-Id
	Originator   Stamp // X-OriginatorOrg
	AuthAs       Stamp // X-MS-Exchange-CrossTenant-AuthAs
	Entity       Stamp // X-MS-Exchange-CrossTenant-FromEntityHeader
	ConnectingIP Stamp // X-MS-Exchange-CrossTenant-OriginalAttributedTenantConnectingIp
	ADCheck      Stamp // X-MS-Exchange-SenderADCheck
	Looped       bool  // X-MS-Exchange-ForwardingLoop, X-LD-Processed or X-ExternalRecipientOutboundConnectors
	Resent       bool  // Resent-* of any kind
	XForwarded   bool  // X-Forwarded-* of any kind
	DeliveredTo  bool  // Delivered-To
	ListID       bool  // List-Id
	Sealed       bool  // ARC-*
	Authres      bool  // Authentication-Results
	Hops         []Hop // Received fields, topmost first

	Secrets []Secret // fields that bear the name of some organisation's secret header
}

// Stamp is a field that may stand once: how often it does and the topmost value,
// unfolded.
type Stamp struct {
	Count int
	Value string
}

// once gives the value if the stamp is there exactly once.
func (s Stamp) once() (string, bool) { return s.Value, s.Count == 1 }

func (s *Stamp) add(f mail.Field) {
	if s.Count++; s.Count == 1 {
		s.Value = f.Value()
	}
}

// Secret is a field that bears the name of a secret header: never its value, but
// the digest if the value has the form of a secret.
type Secret struct {
	Name       string // lower case
	WellFormed bool
	Digest     [32]byte
}

// ReadHeader collects the evidence of a header in one pass.
func ReadHeader(dir *org.Directory, h mail.Header) HeaderEvidence {
	var e HeaderEvidence
	for _, f := range h.Fields {
		e.read(f)
		if dir.IsSecretHeader(f.Name()) {
			digest, ok := org.HashSecret(f.Value())
			e.Secrets = append(e.Secrets, Secret{Name: strings.ToLower(f.Name()), WellFormed: ok, Digest: digest})
		}
	}
	return e
}

func (e *HeaderEvidence) read(f mail.Field) {
	switch {
	case f.Is("Received"):
		e.Hops = append(e.Hops, readHop(f.Value()))
	case f.Is(tenantIDName):
		e.TenantID.add(f)
	case f.Is(originatorName):
		e.Originator.add(f)
	case f.Is("X-MS-Exchange-CrossTenant-AuthAs"):
		e.AuthAs.add(f)
	case f.Is("X-MS-Exchange-CrossTenant-FromEntityHeader"):
		e.Entity.add(f)
	case f.Is("X-MS-Exchange-CrossTenant-OriginalAttributedTenantConnectingIp"):
		e.ConnectingIP.add(f)
	case f.Is("X-MS-Exchange-SenderADCheck"):
		e.ADCheck.add(f)
	case f.Is("X-MS-Exchange-ForwardingLoop"), f.Is("X-LD-Processed"), f.Is("X-ExternalRecipientOutboundConnectors"):
		e.Looped = true
	case f.HasPrefix("Resent-"):
		e.Resent = true
	case f.HasPrefix("X-Forwarded-"):
		e.XForwarded = true
	case f.Is("Delivered-To"):
		e.DeliveredTo = true
	case f.Is("List-Id"):
		e.ListID = true
	case f.HasPrefix("ARC-"):
		e.Sealed = true
	case f.Is("Authentication-Results"):
		e.Authres = true
	}
}

// The two stamps that name a tenant.
const (
	tenantIDName   = "X-MS-Exchange-CrossTenant-Id"
	originatorName = "X-OriginatorOrg"
)

// IsStamp says that a field name, perhaps with white space after it as only
// somebody who hopes for a careless reader writes it, is one of the two stamps
// that name a tenant. A header that does not parse because of such a field is
// ambiguous, not merely wrong.
func IsStamp(name string) bool {
	name = strings.TrimRight(name, " \t")
	return strings.EqualFold(name, tenantIDName) || strings.EqualFold(name, originatorName)
}

// IsEvidence says that a field is evidence that must not leave: every secret
// header, the provider's stamps, and the names this relay keeps for itself.
func IsEvidence(dir *org.Directory, f mail.Field) bool {
	return f.Is(originatorName) || f.HasPrefix("X-MS-Exchange-Organization-") ||
		f.HasPrefix("X-MS-Exchange-CrossTenant-") || f.HasPrefix("X-Anechoic-") || dir.IsSecretHeader(f.Name())
}

// Strip gives the header without evidence. It runs right after attribution,
// before anything else sees the message.
func Strip(dir *org.Directory, h mail.Header) mail.Header {
	return h.Without(func(f mail.Field) bool { return IsEvidence(dir, f) })
}
