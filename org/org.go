// Package org says who exists: organisations, the domains they proved, the
// sources their mail comes from, and the names of their keys.
//
// A Registry is what a person wrote (a TOML file). Build checks it whole and
// makes a Directory: an immutable snapshot with every look-up the path of a
// message needs, swapped behind an atomic pointer on reload. Each identifier (a
// tenant, an address, a key, a user name) belongs to one organisation; a second
// claim is a Problem. There is no way to write "any tenant", "any domain" or
// "any address": such a registry does not load.
//
// Whether a domain's DNS record stands is a fact of its own (Standing), kept by
// Proofs, because it changes without the registry changing.
package org

import (
	"net/netip"
	"time"

	"anechoic/mail"
)

// ID names an organisation for ever; it is never used again for another.
type ID string

// Kind is how a source proves whose its mail is.
type Kind string

// The kinds of source (ARCHITECTURE: sources).
const (
	Microsoft365 Kind = "microsoft365" // a tenant's mail, by provider stamps and a second proof
	Google       Kind = "google"       // a Workspace's mail, by secret header and aligned DKIM
	Credential   Kind = "credential"   // SMTP AUTH inside TLS
	Certificate  Kind = "certificate"  // a TLS client certificate's key
	Address      Kind = "address"      // addresses that belong to the organisation alone
)

// Role says what stands behind a source that is not a provider.
type Role string

// The roles.
const (
	Application Role = "application" // writes its own mail
	Server      Role = "server"      // an organisation's mail server: may forward
)

// Forwarded says what happens to mail of the source that it did not write.
type Forwarded string

// The choices for forwarded mail; Reject is the default.
const (
	Reject Forwarded = "reject"
	Hold   Forwarded = "hold"
	Seal   Forwarded = "seal"
)

// Organisation is a customer of the relay.
type Organisation struct {
	ID              ID
	Name            string
	SecurityContact mail.Address
	ReturnPath      mail.Domain  // where reports about its mail come back; zero: to MAIL FROM as it is
	Egress          string       // the pool its mail leaves from; empty: the default
	Suppression     *Suppression // nil: it has no suppression list
	Screening       Screening    // of its mail, by scanners
	Learning        bool         // not all its sources are known yet: some mail in its name is held that would be refused
	Response        Response     // how far the relay goes by itself against what is found in its mail
	Digest          bool         // its security contact is told once a day what is held
	Trust           string       // a tier a person chose for its sources; empty: they grow by themselves
	Limits          *Limits      // of all its mail together; nil: none
	Domains         []*Domain
	Sources         []*Source
	Inbound         []*Inbound
	Webhooks        []Webhook // where it is told of alerts
}

// Suppression says when an organisation's recipients are tried no more.
type Suppression struct {
	HardBounces  int           // of different messages, before an address is suppressed
	BounceFor    time.Duration // how long for bounces
	ComplaintFor time.Duration // how long for a complaint
}

// DefaultSuppression is what holds where the registry says only that there is a
// list. The numbers are ours: one hard bounce may be a server's mistake, two of
// different messages rarely are.
var DefaultSuppression = Suppression{HardBounces: 2, BounceFor: 90 * 24 * time.Hour, ComplaintFor: 365 * 24 * time.Hour}

// Domain is a name the organisation says is its own. It counts once DNS agrees.
type Domain struct {
	Organisation ID
	Name         mail.Domain
	Subdomains   bool // names below it too, if the record says sub=yes
	Keys         []Key
	Limits       *Limits // of mail with a From in it, whatever its source; nil: none

	entry entry
}

// Algorithm is a DKIM signing algorithm with its key size.
type Algorithm string

// The algorithms (RFC 8301 section 3, RFC 8463).
const (
	RSA2048 Algorithm = "rsa-2048"
	Ed25519 Algorithm = "ed25519"
)

// Key names a DKIM key: its private part is a file, or made and sealed in the
// data directory when File is empty.
type Key struct {
	Selector  string
	Algorithm Algorithm
	File      string // absolute, or empty
}

// Source is one way in, of one organisation. Which fields hold something
// depends on Kind.
type Source struct {
	Organisation ID
	ID           string
	Kind         Kind
	Role         Role
	Forwarded    Forwarded
	From         []Pattern // what it may send as; nil: every domain of the organisation (provider kinds only)
	Internal     []netip.Prefix
	Addresses    []netip.Prefix // address: where from; credential: an optional lock
	Limits       Limits
	Trust        string // a tier a person chose; empty: it grows by itself

	// microsoft365
	TenantIDs        []string // lower-case GUIDs
	OriginatorOrgs   []mail.Domain
	ProviderDomains  []mail.Domain
	HybridAddresses  []netip.Prefix
	RequireDKIM      bool
	SingleProofUntil time.Time // zero: never; else the day after which a second proof is needed

	// Secret is asked for beside the first proof where it is set: for google always,
	// for microsoft365 as the second proof, for the others as one more lock.
	Secret *SecretHeader

	// google
	DKIM []DKIMIdentity

	// credential
	Username string
	Password string // PHC string of argon2id

	// certificate
	SPKI [][32]byte // SHA-256 of the DER SubjectPublicKeyInfo

	directory *Directory // the one it stands in; nil: none, and no sub-domain is covered
	entry     entry
}

// SecretHeader is a header field whose value only the organisation knows.
type SecretHeader struct {
	Name   string // as written; compared without regard to case
	SHA256 [][32]byte
}

// DKIMIdentity is a signing identity an organisation uses at a provider.
type DKIMIdentity struct {
	Domain    mail.Domain
	Selectors []string
}

// Pattern is local@domain, or *@domain for every local part.
type Pattern struct {
	Local  string // "*" for all
	Domain mail.Domain
}

// Providers is what the node's configuration says of shared providers: where
// their mail may come from. It never proves an organisation.
type Providers struct {
	Microsoft365 Provider
	Google       Provider
}

// Provider is one provider's addresses.
type Provider struct {
	Ranges  []netip.Prefix
	Exclude []netip.Prefix // the pool for mail the provider does not vouch for

	ARCDomains []mail.Domain // whose ARC seals are the provider's
}

// Contains says that a is one of the provider's addresses, excluded ones not
// counted. IPv4-mapped addresses are read as IPv4.
func (p Provider) Contains(a netip.Addr) bool {
	a = a.Unmap()
	return !p.Excludes(a) && Within(a, p.Ranges)
}

// Excludes says that a belongs to the pool the provider does not vouch for.
func (p Provider) Excludes(a netip.Addr) bool { return Within(a.Unmap(), p.Exclude) }

// Within says that an address lies in one of several prefixes.
func Within(a netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
