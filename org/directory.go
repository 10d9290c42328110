package org

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"anechoic/mail"
)

// Directory is an immutable snapshot of who exists. Every look-up is a map
// access or a few of them and allocates nothing. It is safe for concurrent use;
// a reload makes a new one and swaps a pointer. Only Build makes a Directory
// that holds anything; the zero Directory knows nobody.
type Directory struct {
	generation uint64
	providers  Providers
	egress     []netip.Addr

	organisations []*Organisation // by ID
	byID          map[ID]*Organisation
	domains       domainIndex
	sources       map[sourceName]*Source
	tenants       map[string]*Source
	originators   map[mail.Domain]*Source
	providerNames map[mail.Domain]*Source
	usernames     map[string]*Source
	clientKeys    map[[32]byte]*Source
	secrets       map[[32]byte]*Source
	addresses     prefixes[*Source]
	identities    map[identity]*Source
	inbound       map[mail.Domain]*Inbound
	secretHeaders map[string]struct{} // lower-case
	returnPaths   map[mail.Domain]*Organisation
}

// sourceName is what names a source: its own id within an organisation.
type sourceName struct {
	org ID
	id  string
}

// identity is a DKIM signing domain and selector.
type identity struct {
	domain   mail.Domain
	selector string
}

// Finding is what loads but is a risk somebody should know and end.
type Finding struct {
	Organisation ID
	Source       string
	Text         string
	Until        time.Time // zero: without an end
	Opens        bool      // somebody else may be believed to be the organisation while it lasts
}

// Generation counts Directories: each reload has a higher one.
func (d *Directory) Generation() uint64 { return d.generation }

// Providers is what the configuration says of shared providers.
func (d *Directory) Providers() Providers { return d.providers }

// Egress is the addresses this relay sends from, as far as they are configured.
func (d *Directory) Egress() []netip.Addr { return slices.Clone(d.egress) }

// IsEgress says that a is one of Egress; IPv4-mapped addresses are read as IPv4.
func (d *Directory) IsEgress(a netip.Addr) bool { return slices.Contains(d.egress, a.Unmap()) }

// Organisations gives all, in order of ID.
func (d *Directory) Organisations() iter.Seq[*Organisation] { return slices.Values(d.organisations) }

// Organisation gives the one of that id.
func (d *Directory) Organisation(id ID) (*Organisation, bool) {
	o, ok := d.byID[id]
	return o, ok
}

// Owner gives the registered domain a name belongs to: the name itself, or the
// nearest registered name above it if that one has subdomains = true. A name of
// its own entry belongs to that entry alone. Whether DNS agrees is Proofs'.
func (d *Directory) Owner(name mail.Domain) (*Domain, bool) {
	if found, ok := d.domains.get(name); ok {
		return found, true
	}
	for above := name.Parent(); !above.IsZero(); above = above.Parent() {
		if found, ok := d.domains.get(above); ok {
			if !found.Subdomains {
				return nil, false
			}
			return found, true
		}
	}
	return nil, false
}

// Source gives an organisation's source by its id.
func (d *Directory) Source(org ID, id string) (*Source, bool) {
	s, ok := d.sources[sourceName{org, id}]
	return s, ok
}

// Tenant gives the source that claims a Microsoft 365 tenant, by GUID in lower
// case.
func (d *Directory) Tenant(guid string) (*Source, bool) {
	s, ok := d.tenants[guid]
	return s, ok
}

// Originator gives the source that lists a name as originator organisation.
func (d *Directory) Originator(name mail.Domain) (*Source, bool) {
	s, ok := d.originators[name]
	return s, ok
}

// ProviderDomain gives the source to whose tenant a provider's name belongs
// (<tenant>.onmicrosoft.com).
func (d *Directory) ProviderDomain(name mail.Domain) (*Source, bool) {
	s, ok := d.providerNames[name]
	return s, ok
}

// Username gives the credential source of a user name, octet for octet.
func (d *Directory) Username(name string) (*Source, bool) {
	s, ok := d.usernames[name]
	return s, ok
}

// ClientKey gives the certificate source of a client's key, by SHA-256 of its
// DER SubjectPublicKeyInfo.
func (d *Directory) ClientKey(spki [32]byte) (*Source, bool) {
	s, ok := d.clientKeys[spki]
	return s, ok
}

// Address gives the source of kind address that a belongs to; IPv4-mapped
// addresses are read as IPv4.
func (d *Directory) Address(a netip.Addr) (*Source, bool) { return d.addresses.lookup(a.Unmap()) }

// Secret gives the source whose secret header has this name and one of whose
// secrets has this SHA-256.
func (d *Directory) Secret(header string, hash [32]byte) (*Source, bool) {
	s, ok := d.secrets[hash]
	if !ok || !equalFold(s.Secret.Name, header) {
		return nil, false
	}
	return s, true
}

// Identity gives the source of kind google that lists a DKIM domain and
// selector.
func (d *Directory) Identity(domain mail.Domain, selector string) (*Source, bool) {
	s, ok := d.identities[identity{domain, selector}]
	return s, ok
}

// InboundFor gives where mail for an address of this domain goes, if it is one
// taken here.
func (d *Directory) InboundFor(name mail.Domain) (*Inbound, bool) {
	in, ok := d.inbound[name]
	return in, ok
}

// ReturnPath gives the organisation whose reports come back to addresses of this
// domain.
func (d *Directory) ReturnPath(name mail.Domain) (*Organisation, bool) {
	o, ok := d.returnPaths[name]
	return o, ok
}

// IsSecretHeader says that a field name is a secret header of any organisation,
// without regard to case.
func (d *Directory) IsSecretHeader(name string) bool {
	var lower [maxHeaderName]byte
	if len(name) > len(lower) {
		return false
	}
	for i := range len(name) {
		lower[i] = toLower(name[i])
	}
	_, ok := d.secretHeaders[string(lower[:len(name)])]
	return ok
}

// maxHeaderName is the longest secret header name: it fits a line of 78 with
// the colon, a space and a secret's first half, so that no mail system folds
// between name and value.
const maxHeaderName = 48

// MaySendAs says that the source's `from` covers an address. It does not say
// that the organisation owns the domain: ask Owner for that. Local parts
// compare without regard to the case of ASCII letters.
func (s *Source) MaySendAs(a mail.Address) bool {
	if s.From == nil {
		return true
	}
	for _, p := range s.From {
		if p.Local != "*" && !equalFold(p.Local, a.Local()) {
			continue
		}
		if p.Domain == a.Domain() || p.Local == "*" && s.covers(p.Domain, a.Domain()) {
			return true
		}
	}
	return false
}

// covers says that *@pattern reaches down to name: both belong to one registered
// domain that has subdomains = true, and name has no entry of its own.
func (s *Source) covers(pattern, name mail.Domain) bool {
	if s.directory == nil || !name.Within(pattern) {
		return false
	}
	above, ok := s.directory.Owner(pattern)
	owner, covered := s.directory.Owner(name)
	return ok && covered && above == owner && owner.Subdomains
}

// SingleProof says that the source may do without a second proof at this time:
// to the end of the day it names, in UTC.
func (s *Source) SingleProof(now time.Time) bool {
	return !s.SingleProofUntil.IsZero() && now.Before(s.SingleProofUntil.AddDate(0, 0, 1))
}

// prefixes finds the one of several prefixes, none of which overlap, that an
// address lies in: one map access for each length in use.
type prefixes[T any] struct {
	v4, v6 []int // lengths in use
	byNet  map[netip.Prefix]T
}

func (p *prefixes[T]) lookup(a netip.Addr) (found T, ok bool) {
	lengths := p.v6
	if a.Is4() {
		lengths = p.v4
	}
	for _, bits := range lengths {
		net, err := a.Prefix(bits)
		if err != nil {
			return found, false
		}
		if found, ok = p.byNet[net]; ok {
			return found, true
		}
	}
	return found, false
}

func (p *prefixes[T]) add(net netip.Prefix, value T) {
	if p.byNet == nil {
		p.byNet = make(map[netip.Prefix]T)
	}
	p.byNet[net] = value
	lengths := &p.v6
	if net.Addr().Is4() {
		lengths = &p.v4
	}
	if !slices.Contains(*lengths, net.Bits()) {
		*lengths = append(*lengths, net.Bits())
	}
}

// equalFold compares without regard to the case of ASCII letters and of nothing
// else (strings.EqualFold takes the Kelvin sign for a k).
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if toLower(a[i]) != toLower(b[i]) {
			return false
		}
	}
	return true
}

func toLower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// Domains gives every registered domain, organisation by organisation.
func (d *Directory) Domains() iter.Seq[*Domain] {
	return func(yield func(*Domain) bool) {
		for _, o := range d.organisations {
			for _, name := range o.Domains {
				if !yield(name) {
					return
				}
			}
		}
	}
}
