package org

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org/document"
)

// builder makes one Directory and collects what is wrong on the way.
type builder struct {
	reg      *Registry
	dir      *Directory
	now      time.Time
	problems []Problem
	findings []Finding
	shared   []netip.Prefix     // every provider's addresses, those of its doubtful pool too
	claims   []claimedPrefix    // of kind address, and hybrid servers
	folded   map[string]*Source // user names in lower case
}

// Build checks a registry whole and makes a Directory of it: all problems of the
// registry are listed, and with one of them there is no Directory. egress is the
// addresses this relay itself sends from. Findings are what loads but is a risk.
func Build(reg Registry, providers Providers, egress []netip.Addr, generation uint64, now time.Time) (*Directory, []Problem, []Finding) {
	if reg.text.Broken() || reg.text == nil && len(reg.faults) > 0 {
		return nil, reg.faults, nil
	}
	b := newBuilder(&reg, providers, egress, generation, now)
	for i := range reg.Organisations {
		b.organisation(i)
	}
	for i := range reg.Organisations { // what follows asks whose a domain is
		b.sources(i)
		b.inbounds(i)
	}
	for i := range reg.Organisations { // what follows asks where mail is delivered
		b.returns(i)
	}
	b.addressConflicts()
	slices.SortFunc(b.dir.organisations, func(x, y *Organisation) int { return strings.Compare(string(x.ID), string(y.ID)) })
	if problems := b.placed(); len(problems) > 0 {
		return nil, problems, b.findings
	}
	return b.dir, nil, b.findings
}

func newBuilder(reg *Registry, providers Providers, egress []netip.Addr, generation uint64, now time.Time) *builder {
	b := &builder{reg: reg, now: now, folded: make(map[string]*Source)}
	b.shared = slices.Concat(providers.Microsoft365.Ranges, providers.Microsoft365.Exclude, providers.Google.Ranges, providers.Google.Exclude)
	b.dir = &Directory{
		generation:    generation,
		providers:     providers,
		byID:          make(map[ID]*Organisation, len(reg.Organisations)),
		domains:       make(map[mail.Domain]*Domain, len(reg.Organisations)),
		sources:       make(map[sourceName]*Source, len(reg.Organisations)),
		tenants:       make(map[string]*Source),
		originators:   make(map[mail.Domain]*Source),
		providerNames: make(map[mail.Domain]*Source),
		usernames:     make(map[string]*Source),
		clientKeys:    make(map[[32]byte]*Source),
		secrets:       make(map[[32]byte]*Source),
		identities:    make(map[identity]*Source),
		inbound:       make(map[mail.Domain]*Inbound),
		secretHeaders: make(map[string]struct{}),
		returnPaths:   make(map[mail.Domain]*Organisation),
	}
	for _, a := range egress {
		b.dir.egress = append(b.dir.egress, a.Unmap())
	}
	return b
}

// placed gives all problems, those of the registry's form too, in file order.
func (b *builder) placed() []Problem {
	problems := b.problems
	if b.reg.text != nil {
		problems = b.reg.text.Place(problems)
	}
	problems = slices.Concat(b.reg.faults, problems)
	document.Sort(problems)
	return problems
}

// refuse notes a problem; what to do about it is the hint.
func (b *builder) refuse(where, hint, format string, args ...any) {
	b.problems = append(b.problems, Problem{Where: where, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

// second notes a claim to something that is claimed already, with both places.
func (b *builder) second(where, first, format string, args ...any) {
	b.problems = append(b.problems, Problem{Where: where, Also: first, Message: fmt.Sprintf(format, args...), Hint: "each identifier belongs to one alone: take it out of one of the two"})
}

// unread says that something stands there, of a type it should not have.
func (b *builder) unread(where string) bool { return b.reg.text.Unread(where) }

// below is the path of the i-th element of a list.
func below(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// entry says where in the registry something stood: which organisation, and
// which of its domains, sources or inbound routes.
type entry struct{ organisation, at int }

func (e entry) path(list string) string {
	return below(below("organisation", e.organisation)+"."+list, e.at)
}

func (s *Source) where() string  { return s.entry.path("source") }
func (d *Domain) where() string  { return d.entry.path("domain") }
func (i *Inbound) where() string { return i.entry.path("inbound") }

// organisation checks one organisation and its domains.
func (b *builder) organisation(i int) {
	e, where := &b.reg.Organisations[i], below("organisation", i)
	o := &Organisation{ID: ID(e.ID), Name: e.Name, Egress: e.Egress}
	b.checkID(where+".id", e.ID)
	if first, ok := b.dir.byID[o.ID]; ok {
		b.second(where+".id", below("organisation", slices.Index(b.dir.organisations, first)), "organisation %q is there already", e.ID)
	} else {
		b.dir.byID[o.ID] = o
	}
	b.dir.organisations = append(b.dir.organisations, o)
	if e.SecurityContact != "" {
		contact, err := mail.ParseAddress(e.SecurityContact)
		if err != nil {
			b.refuse(where+".security_contact", "write it as security@acme.example", "%v", err)
		}
		o.SecurityContact = contact
	}
	for j := range e.Domains {
		b.domain(o, i, j)
	}
}

// checkID holds an id to what file names, header fields and URLs can bear.
func (b *builder) checkID(where, id string) {
	good := len(id) > 0 && len(id) <= maxID && id[0] != '-'
	for i := range len(id) {
		c := id[i]
		good = good && (c == '-' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if !good {
		b.refuse(where, "1 to 63 of a-z, 0-9 and -, not - first", "%q is no id", id)
	}
}

const maxID = 63

// domain checks one domain and its keys.
func (b *builder) domain(o *Organisation, i, j int) {
	e := &b.reg.Organisations[i].Domains[j]
	d := &Domain{Organisation: o.ID, Subdomains: e.Subdomains, entry: entry{i, j}}
	where := d.where()
	for k := range e.DKIM {
		b.key(d, below(where+".dkim", k), &e.DKIM[k])
	}
	name, ok := b.ownName(where+".name", e.Name)
	if !ok {
		return
	}
	if first, taken := b.dir.domains[name]; taken {
		b.second(where+".name", first.where()+".name", "domain %s is organisation %s's already", name, first.Organisation)
		return
	}
	d.Name = name
	b.dir.domains[name] = d
	o.Domains = append(o.Domains, d)
}

// ownName reads a domain that an organisation can own and prove.
func (b *builder) ownName(where, s string) (mail.Domain, bool) {
	name, ok := b.domainName(where, s)
	switch {
	case !ok:
		return name, false
	case name.IsPublicSuffix():
		b.refuse(where, "register the names below it one by one", "%s is a public suffix: the names below it belong to different people", name)
		return name, false
	case isProviderName(name):
		b.refuse(where, "list it in provider_domains of the tenant's source", "%s is a name of the provider's: no organisation can prove it", name)
		return name, false
	}
	return name, true
}

// domainName reads a domain, and says so if it is none.
func (b *builder) domainName(where, s string) (mail.Domain, bool) {
	if strings.Contains(s, "*") {
		b.refuse(where, "there is no way to write \"any domain\": list the names, or set subdomains = true", "%q is a wildcard", s)
		return mail.Domain{}, false
	}
	name, err := mail.ParseDomain(s)
	if err != nil {
		b.refuse(where, "write it as acme.example, without a dot at the end", "%v", err)
	}
	return name, err == nil
}

// providerSuffixes are where Microsoft 365 names tenants, in its several clouds.
// As registered domains they could not be proven: their DNS is Microsoft's.
var providerSuffixes = []string{"onmicrosoft.com", "onmicrosoft.us", "onmicrosoft.de", "partner.onmschina.cn"}

func isProviderName(name mail.Domain) bool {
	return slices.ContainsFunc(providerSuffixes, func(suffix string) bool {
		return name.String() == suffix || strings.HasSuffix(name.String(), "."+suffix)
	})
}

// key checks one signing key of a domain.
func (b *builder) key(d *Domain, where string, e *KeyEntry) {
	if !ValidSelector(e.Selector) {
		b.refuse(where+".selector", "lower-case letters, digits and -, for example an1", "%q is no selector", e.Selector)
	}
	if slices.ContainsFunc(d.Keys, func(k Key) bool { return k.Selector == e.Selector }) {
		b.refuse(where+".selector", "each key needs a selector of its own", "selector %q is used twice for this domain", e.Selector)
	}
	if a := Algorithm(e.Algorithm); a != RSA2048 && a != Ed25519 {
		b.refuse(where+".algorithm", `"rsa-2048" or "ed25519"`, "%q is no algorithm", e.Algorithm)
	}
	file := b.reg.keyFile(e)
	if file != "" && file[0] != '/' {
		b.refuse(where+".key_file", "write the whole path", "%q is relative, and there is no file it is relative to", e.KeyFile)
	}
	d.Keys = append(d.Keys, Key{Selector: e.Selector, Algorithm: Algorithm(e.Algorithm), File: file})
}

// ValidSelector takes one or more labels (RFC 6376 section 3.1) in lower case.
func ValidSelector(s string) bool {
	name, err := mail.ParseDomain(s)
	return err == nil && name.String() == s && len(s) <= maxSelector
}

// maxSelector leaves room for ._domainkey. and a long domain in 253 octets.
const maxSelector = 63

// inbounds checks where an organisation's incoming mail goes.
func (b *builder) inbounds(i int) {
	e, o := &b.reg.Organisations[i], b.dir.organisations[i]
	for j := range e.Inbound {
		in := b.inboundRoute(o, i, j)
		o.Inbound = append(o.Inbound, in)
		for k, name := range in.Domains {
			at := below(in.where()+".domains", k)
			if first, taken := b.dir.inbound[name]; taken {
				b.second(at, first.where()+".domains", "mail for %s goes somewhere already", name)
			} else {
				b.dir.inbound[name] = in
			}
		}
	}
}

func (b *builder) inboundRoute(o *Organisation, i, j int) *Inbound {
	e := &b.reg.Organisations[i].Inbound[j]
	in := &Inbound{Organisation: o.ID, DeliverTo: e.DeliverTo, DMARC: e.DMARC, entry: entry{i, j}}
	where := in.where()
	if len(e.Domains) == 0 {
		b.refuse(where+".domains", "list the organisation's domains that receive mail here", "no domains")
	}
	for k, s := range e.Domains {
		at := below(where+".domains", k)
		if name, ok := b.domainName(at, s); ok && b.owns(o, at, name) {
			in.Domains = append(in.Domains, name)
		}
	}
	if err := checkHostPort(e.DeliverTo); err != nil {
		b.refuse(where+".deliver_to", `"host:port" of the organisation's own server, for example "mail.acme.example:25"`, "%v", err)
	}
	switch e.DMARC {
	case "":
		in.DMARC = DMARCEnforce
	case DMARCObserve, DMARCEnforce:
	default:
		b.refuse(where+".dmarc", `"observe" or "enforce"`, "%q is no way to treat DMARC", e.DMARC)
	}
	if t := e.TLS; t != nil {
		in.TLSRequired, in.TLSName = t.Required, t.Name
		in.TLSSPKI = b.fingerprints(where+".tls.spki_sha256", t.SPKI)
		if t.Name != "" {
			b.domainName(where+".tls.name", t.Name)
		}
	}
	return in
}

// The values of Inbound.DMARC; enforce where nothing is written.
const (
	DMARCObserve = "observe"
	DMARCEnforce = "enforce"
)

// owns says that a name is the organisation's, and notes it if not.
func (b *builder) owns(o *Organisation, where string, name mail.Domain) bool {
	owner, ok := b.dir.Owner(name)
	if ok && owner.Organisation == o.ID {
		return true
	}
	hint := "register it as [[organisation.domain]]"
	if above := b.nearest(o, name); above != nil {
		hint = fmt.Sprintf("register it as [[organisation.domain]], or set subdomains = true for %s", above.Name)
	}
	b.refuse(where, hint, "%s is not a domain of organisation %s", name, o.ID)
	return false
}

func (b *builder) nearest(o *Organisation, name mail.Domain) *Domain {
	for _, d := range o.Domains {
		if name.Within(d.Name) {
			return d
		}
	}
	return nil
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port from 1 to 65535", s)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if _, err := mail.ParseDomain(host); err != nil {
		return fmt.Errorf("%q has no host name or address", s)
	}
	return nil
}

// addressConflicts finds addresses that two sources claim.
func (b *builder) addressConflicts() {
	for _, pair := range findConflicts(b.claims) {
		first, then := pair[0], pair[1]
		if after(first.source.entry, then.source.entry) {
			first, then = then, first
		}
		b.second(then.where, first.where, "%s overlaps %s of source %s of organisation %s", then.prefix, first.prefix, first.source.ID, first.source.Organisation)
	}
	for _, c := range b.claims {
		if c.source.Kind == Address {
			b.dir.addresses.add(c.prefix, c.source)
		}
	}
	// The lengths most in use come first; order does not matter to the result.
	slices.Sort(b.dir.addresses.v4)
	slices.Sort(b.dir.addresses.v6)
}

func after(a, b entry) bool {
	return a.organisation > b.organisation || a.organisation == b.organisation && a.at > b.at
}

// SecretHeaders gives the names of all organisations' secret headers, in lower
// case and in order.
func (d *Directory) SecretHeaders() []string { return slices.Sorted(maps.Keys(d.secretHeaders)) }
