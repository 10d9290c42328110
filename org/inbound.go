package org

import (
	"bytes"
	"path/filepath"
	"strings"

	"anechoic/mail"
)

// Inbound is where mail for an organisation's domains goes, and how it is judged
// before.
type Inbound struct {
	Organisation ID
	Domains      []mail.Domain
	DeliverTo    string // host:port
	LMTP         bool   // what listens there speaks LMTP (RFC 2033)
	TLSRequired  bool
	TLSName      string
	TLSSPKI      [][32]byte
	DMARC        string // DMARCObserve or DMARCEnforce
	Echo         string // EchoMark, EchoHold or EchoRefuse: what becomes of a suspected echo
	Vouched      []Vouch
	Bounces      string // BouncesOurs or BouncesAny
	AskServer    bool   // unknown recipients are found by asking the organisation's server

	RecipientsFile string // the list of who there is, absolute; empty: there is none

	recipients map[string]struct{} // in lower case: local@domain, or @domain for all there; nil: there is no list
	entry      entry
}

// Vouch says that a tenant of Microsoft 365 may send as a domain, and as all below it,
// whatever else its mail looks like.
type Vouch struct {
	From   mail.Domain
	Tenant string // GUID, in lower case
}

// The values of Inbound.DMARC; enforce where nothing is written.
const (
	DMARCObserve = "observe"
	DMARCEnforce = "enforce"
)

// The values of Inbound.Echo; mark where nothing is written.
const (
	EchoMark   = "mark"
	EchoHold   = "hold"
	EchoRefuse = "refuse"
)

// The values of Inbound.Bounces. Where nothing is written, an organisation that
// sends here takes reports about its own mail only.
const (
	BouncesOurs = "ours"
	BouncesAny  = "any"
)

// The values of InboundEntry.Recipients.
const (
	recipientsAny = "any"
	recipientsAsk = "ask"
)

// Lists says whether the organisation wrote down who its recipients are.
func (in *Inbound) Lists() bool { return in.recipients != nil }

// Listed says that an address is on the list: itself, without what follows a plus
// sign in its local part, or all of its domain.
func (in *Inbound) Listed(a mail.Address) bool {
	local, at := strings.ToLower(a.Local()), "@"+a.Domain().String()
	base, _, _ := strings.Cut(local, "+")
	for _, key := range [...]string{local + at, base + at, at} {
		if _, ok := in.recipients[key]; ok {
			return true
		}
	}
	return false
}

// InboundEntry is one [[organisation.inbound]].
type InboundEntry struct {
	Domains        []string         `toml:"domains"`
	DeliverTo      string           `toml:"deliver_to"`
	TLS            *InboundTLSEntry `toml:"tls"`
	DMARC          string           `toml:"dmarc"`
	Echo           string           `toml:"echo"`
	Bounces        string           `toml:"bounces"`
	Recipients     string           `toml:"recipients"`
	RecipientsFile string           `toml:"recipients_file"`
	Vouched        []VouchEntry     `toml:"vouched"`
}

// VouchEntry is a tenant that somebody knows to belong to a domain.
type VouchEntry struct {
	From   string `toml:"from"`
	Tenant string `toml:"tenant"`
}

// InboundTLSEntry says what the organisation's own server must show.
type InboundTLSEntry struct {
	Required bool     `toml:"required"`
	Name     string   `toml:"name"`
	SPKI     []string `toml:"spki_sha256"`
}

func (b *builder) inbounds(i int) {
	e, o := &b.reg.Organisations[i], b.dir.organisations[i]
	for j := range e.Inbound {
		o.Inbound = append(o.Inbound, b.inboundRoute(o, i, j))
	}
}

func (b *builder) inboundRoute(o *Organisation, i, j int) *Inbound {
	e := &b.reg.Organisations[i].Inbound[j]
	in := &Inbound{Organisation: o.ID, entry: entry{i, j}}
	where := b.path(in.entry, "inbound")
	b.inboundDomains(in, o, where, e.Domains)
	in.DeliverTo, in.LMTP = strings.CutPrefix(e.DeliverTo, "lmtp:")
	if err := checkHostPort(in.DeliverTo); err != nil {
		b.refuse(where+".deliver_to", `"host:port" of the organisation's own server, for example "mail.acme.example:25", or "lmtp:host:port"`, "%v", err)
	}
	in.DMARC = b.choice(where+".dmarc", e.DMARC, DMARCEnforce, DMARCObserve)
	in.Echo = b.choice(where+".echo", e.Echo, EchoMark, EchoHold, EchoRefuse)
	usual, other := BouncesAny, BouncesOurs
	if len(b.reg.Organisations[i].Sources) > 0 {
		usual, other = other, usual
	}
	in.Bounces = b.choice(where+".bounces", e.Bounces, usual, other)
	in.AskServer = b.choice(where+".recipients", e.Recipients, recipientsAny, recipientsAsk) == recipientsAsk
	b.vouched(in, where+".vouched", e.Vouched)
	b.inboundTLS(in, where+".tls", e.TLS)
	b.recipients(in, where+".recipients_file", e.RecipientsFile)
	return in
}

func (b *builder) inboundDomains(in *Inbound, o *Organisation, where string, domains []string) {
	if len(domains) == 0 {
		b.refuse(where+".domains", "list the organisation's domains that receive mail here", "no domains")
	}
	for k, s := range domains {
		at := b.below(where+".domains", k)
		if name, ok := b.domainName(at, s); ok && b.owns(o, at, name) {
			in.Domains = append(in.Domains, name)
			b.claims.inbound = append(b.claims.inbound, claim[mail.Domain, *Inbound]{name, in, b.below(where+".domains", len(in.Domains)-1)})
		}
	}
}

// vouched reads the tenants that somebody knows. One that all share would vouch for
// everybody.
func (b *builder) vouched(in *Inbound, where string, entries []VouchEntry) {
	for k, e := range entries {
		at, guid := b.below(where, k), strings.ToLower(e.Tenant)
		from, ok := b.domainName(at+".from", e.From)
		switch {
		case !isGUID(guid):
			b.refuse(at+".tenant", "a GUID such as 11111111-1111-4111-8111-111111111111, as anechoic echo show lists it", "%q is no tenant id", e.Tenant)
		case ReservedTenant(guid):
			b.refuse(at+".tenant", "find the tenant's own id", "tenant %s is shared by everybody and proves nothing", guid)
		case ok && from.IsPublicSuffix():
			b.refuse(at+".from", "name the domain itself", "%s is a public suffix: the names below it belong to different people", from)
		case ok:
			in.Vouched = append(in.Vouched, Vouch{from, guid})
		}
	}
}

func (b *builder) inboundTLS(in *Inbound, where string, t *InboundTLSEntry) {
	if t == nil {
		return
	}
	in.TLSRequired, in.TLSName = t.Required, t.Name
	in.TLSSPKI = b.fingerprints(where+".spki_sha256", t.SPKI)
	if t.Name != "" {
		b.domainName(where+".name", t.Name)
	}
}

// choice takes one of a few words; the first where nothing is written.
func (b *builder) choice(where, given string, words ...string) string {
	for _, w := range words {
		if given == w {
			return w
		}
	}
	if given != "" {
		b.refuse(where, `"`+strings.Join(words, `" or "`)+`"`, "%q is none of the words that can stand here", given)
	}
	return words[0]
}

// maxRecipientsFile bounds a list of recipients: a million addresses.
const maxRecipientsFile = 32 << 20

// recipients reads the list of who there is: an address a line, or @domain for
// everybody at it; what follows # is a remark.
func (b *builder) recipients(in *Inbound, where, file string) {
	if file == "" {
		return
	}
	path := filepath.Join(b.reg.folder, file)
	if filepath.IsAbs(file) {
		path = file
	}
	data, err := readBounded(path, maxRecipientsFile)
	if err != nil {
		b.refuse(where, "a text file, relative to the registry, with an address in each line", "the list of recipients cannot be read: %v", err)
		return
	}
	in.RecipientsFile = path
	in.recipients = make(map[string]struct{}, bytes.Count(data, []byte{'\n'})+1)
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, ok := recipientKey(text)
		if !ok {
			b.refuse(where, "an address in each line, or @domain for everybody there", "line %d of the list is no address", number)
			return
		}
		in.recipients[key] = struct{}{}
	}
}

func recipientKey(text string) (key string, ok bool) {
	if domain, all := strings.CutPrefix(text, "@"); all {
		name, err := mail.ParseDomain(domain)
		return "@" + name.String(), err == nil
	}
	a, err := mail.ParseAddressUTF8(text)
	return strings.ToLower(a.Local()) + "@" + a.Domain().String(), err == nil
}
