package org

import (
	"fmt"
	"hash/maphash"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
)

// Build checks a registry whole and makes a Directory of it: all problems of the
// registry are listed, and with one of them there is no Directory. egress is the
// addresses this relay itself sends from. Findings are what loads but is a risk.
func Build(reg Registry, providers Providers, egress []netip.Addr, generation uint64, now time.Time) (*Directory, []Problem, []Finding) {
	return buildInParts(reg, providers, egress, generation, now, partSize)
}

func buildInParts(reg Registry, providers Providers, egress []netip.Addr, generation uint64, now time.Time, partSize int) (*Directory, []Problem, []Finding) {
	if reg.text.Broken() || reg.text == nil && len(reg.faults) > 0 {
		return nil, reg.faults, nil
	}
	c := making{reg: &reg, now: now}
	c.shared = slices.Concat(providers.Microsoft365.Ranges, providers.Microsoft365.Exclude, providers.Google.Ranges, providers.Google.Exclude)
	c.dir = newDirectory(providers, egress, generation)
	if len(reg.faults) == 0 {
		if dir, problems, findings := c.run(partSize); len(problems) == 0 {
			return dir, nil, findings
		}
	}
	c.dir, c.places = newDirectory(providers, egress, generation), true
	dir, problems, findings := c.run(partSize)
	if problems = c.placed(problems); len(problems) > 0 {
		return nil, problems, findings
	}
	return dir, nil, findings
}

func newDirectory(providers Providers, egress []netip.Addr, generation uint64) *Directory {
	d := &Directory{generation: generation, providers: providers, domains: domainIndex{seed: maphash.MakeSeed()}}
	for _, a := range egress {
		d.egress = append(d.egress, a.Unmap())
	}
	return d
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

// below is the path of the i-th element of a list, if places are told.
func (b *builder) below(list string, i int) string {
	if !b.places {
		return ""
	}
	return below(list, i)
}

// path is where an entry stands, if places are told.
func (b *builder) path(e entry, list string) string {
	if !b.places {
		return ""
	}
	return e.path(list)
}

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
func (b *builder) organisation(i int) *Organisation {
	e, where := &b.reg.Organisations[i], b.below("organisation", i)
	o := &Organisation{ID: ID(e.ID), Name: e.Name, Egress: e.Egress}
	b.checkID(where+".id", e.ID)
	if e.SecurityContact != "" {
		contact, err := mail.ParseAddress(e.SecurityContact)
		if err != nil {
			b.refuse(where+".security_contact", "write it as security@acme.example", "%v", err)
		}
		o.SecurityContact = contact
	}
	o.Trust, o.Limits = b.trust(where, e.Trust), b.sharedLimits(where, e.Limits)
	domains, keys := make([]Domain, len(e.Domains)), 0
	o.Domains = make([]*Domain, 0, len(e.Domains))
	for j := range e.Domains {
		keys += len(e.Domains[j].DKIM)
	}
	room := make([]Key, 0, keys)
	for j := range e.Domains {
		domains[j] = Domain{Organisation: o.ID, entry: entry{i, j}}
		room = b.domain(o, &domains[j], &e.Domains[j], room)
	}
	return o
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

// domain checks one domain and its keys, which go into room; it gives what is left
// of that.
func (b *builder) domain(o *Organisation, d *Domain, e *DomainEntry, room []Key) []Key {
	d.Subdomains = e.Subdomains
	where := b.path(d.entry, "domain")
	d.Limits = b.sharedLimits(where, e.Limits)
	for k := range e.DKIM {
		room = append(room, b.key(room, b.below(where+".dkim", k), &e.DKIM[k]))
	}
	if n := len(e.DKIM); n > 0 {
		d.Keys, room = room[:n:n], room[n:]
	}
	if name, ok := b.ownName(where+".name", e.Name); ok {
		d.Name = name
		o.Domains = append(o.Domains, d)
		shard := b.dir.domains.shard(name)
		b.domains[shard] = append(b.domains[shard], d)
	}
	return room
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
		above, ok := strings.CutSuffix(name.String(), suffix)
		return ok && (above == "" || above[len(above)-1] == '.')
	})
}

// key checks one signing key of a domain, beside those before it.
func (b *builder) key(before []Key, where string, e *KeyEntry) Key {
	if !ValidSelector(e.Selector) {
		b.refuse(where+".selector", "lower-case letters, digits and -, for example an1", "%q is no selector", e.Selector)
	}
	if slices.ContainsFunc(before, func(k Key) bool { return k.Selector == e.Selector }) {
		b.refuse(where+".selector", "each key needs a selector of its own", "selector %q is used twice for this domain", e.Selector)
	}
	if a := Algorithm(e.Algorithm); a != RSA2048 && a != Ed25519 {
		b.refuse(where+".algorithm", `"rsa-2048" or "ed25519"`, "%q is no algorithm", e.Algorithm)
	}
	file := b.reg.keyFile(e)
	if file != "" && file[0] != '/' {
		b.refuse(where+".key_file", "write the whole path", "%q is relative, and there is no file it is relative to", e.KeyFile)
	}
	return Key{Selector: e.Selector, Algorithm: Algorithm(e.Algorithm), File: file}
}

// ValidSelector takes one or more labels (RFC 6376 section 3.1) in lower case.
func ValidSelector(s string) bool {
	name, err := mail.ParseDomain(s)
	return err == nil && name.String() == s && len(s) <= maxSelector
}

// maxSelector leaves room for ._domainkey. and a long domain in 253 octets.
const maxSelector = 63

// inbounds checks where an organisation's incoming mail goes.
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

// SecretHeaders gives the names of all organisations' secret headers, in lower
// case and in order.
func (d *Directory) SecretHeaders() []string { return slices.Sorted(maps.Keys(d.secretHeaders)) }
