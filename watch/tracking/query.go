package tracking

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anechoic/ledger"
)

// Query selects facts: all conditions must hold. Parse makes one of a line, And adds
// to it. The zero Query selects everything.
type Query struct {
	Since, Until time.Time // not before, before; zero: no bound
	conditions   []condition
}

// condition holds if a field has one of some values.
type condition struct {
	field  *field
	values []string // as they were written, without quotes
	spans  []span   // the terms that fulfil it
}

// span is a range of terms: low alone, or from low to below high.
type span struct {
	low, high string
}

// exactly is the span of one term.
func exactly(term string) span { return span{low: term} }

// beginning is the span of the terms that begin with a text.
func beginning(text string) span {
	high := []byte(text)
	for len(high) > 0 && high[len(high)-1] == 0xff {
		high = high[:len(high)-1]
	}
	if len(high) > 0 {
		high[len(high)-1]++
	}
	return span{low: text, high: string(high)}
}

func (s span) has(term []byte) bool {
	if s.high == "" {
		return string(term) == s.low
	}
	return string(term) >= s.low && string(term) < s.high
}

// bounds are the first term that is in the span, and the first one behind it.
func (s span) bounds() (low, high string) {
	if s.high == "" {
		return s.low, s.low + "\x00"
	}
	return s.low, s.high
}

// holds says that a term fulfils the condition.
func (c condition) holds(term []byte) bool {
	for _, s := range c.spans {
		if s.has(term) {
			return true
		}
	}
	return false
}

// IsZero says that everything is selected.
func (q Query) IsZero() bool { return q.Since.IsZero() && q.Until.IsZero() && len(q.conditions) == 0 }

// Match says that a fact is selected.
func (q Query) Match(f ledger.Fact) bool { return newMatcher(q).match(&f) }

// matcher tells for many facts whether a query selects them. It spells only the terms of
// the kinds that are asked for.
type matcher struct {
	query Query
	held  uint64 // conditions that the fact in hand fulfils, a bit each
	terms speller
}

func newMatcher(q Query) *matcher {
	m := &matcher{query: q}
	for _, c := range q.conditions {
		for _, s := range c.spans {
			m.terms.wanted = m.terms.wanted.and(s.low)
		}
	}
	m.terms.visit = func(term []byte) {
		for n, c := range q.conditions {
			if m.held&(1<<n) == 0 && c.holds(term) {
				m.held |= 1 << n
			}
		}
	}
	return m
}

func (m *matcher) match(f *ledger.Fact) bool {
	if !m.query.within(f.Time) {
		return false
	}
	m.held = 0
	m.terms.fact(f)
	return m.held == 1<<len(m.query.conditions)-1
}

func (q Query) within(t time.Time) bool {
	return (q.Since.IsZero() || !t.Before(q.Since)) && (q.Until.IsZero() || t.Before(q.Until))
}

// And adds a condition on a field of the language, as Parse would read field:value.
// An empty value adds none.
func (q Query) And(name, value string, now time.Time) (Query, error) {
	if value == "" {
		return q, nil
	}
	token := token{key: name, value: value}
	q.conditions = slices.Clone(q.conditions)
	if err := q.add(token, now); err != nil {
		return q, err
	}
	return q, nil
}

// String writes the query so that Parse reads it to the same.
func (q Query) String() string {
	var words []string
	for _, c := range q.conditions {
		values := make([]string, len(c.values))
		for i, v := range c.values {
			values[i] = quoted(v)
		}
		words = append(words, c.field.name+":"+strings.Join(values, ","))
	}
	if !q.Since.IsZero() {
		words = append(words, "since:"+q.Since.UTC().Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		words = append(words, "until:"+q.Until.UTC().Format(time.RFC3339Nano))
	}
	return strings.Join(words, " ")
}

// quoted writes a value in quotes where it needs them.
func quoted(v string) string {
	if v != "" && !strings.ContainsAny(v, " ,\"\\\t") {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}

// field is a word of the language before the colon.
type field struct {
	name   string
	rank   int // who has fewer facts a value comes first in a search
	means  string
	spans  func(value string) ([]span, error)
	hashed []string // kinds of terms that are sums where personal data is hashed
}

// fields of the language, in the order of the manual.
var fields = []*field{
	{name: "id", rank: 0, means: "our id of a message, transaction or connection", spans: plain(kindID)},
	{name: "message_id", rank: 0, means: "the Message-ID field", spans: func(v string) ([]span, error) { return plain(kindMessageID)(messageID(v)) }, hashed: []string{kindMessageID}},
	{name: "address", rank: 1, means: "MAIL FROM, From or a recipient", spans: addresses(kindMailFrom, kindFrom, kindRcpt), hashed: []string{kindMailFrom, kindFrom, kindRcpt}},
	{name: "from", rank: 2, means: "MAIL FROM or From", spans: addresses(kindMailFrom, kindFrom), hashed: []string{kindMailFrom, kindFrom}},
	{name: "mail_from", rank: 2, means: "MAIL FROM", spans: addresses(kindMailFrom), hashed: []string{kindMailFrom}},
	{name: "header_from", rank: 2, means: "the From field", spans: addresses(kindFrom), hashed: []string{kindFrom}},
	{name: "to", rank: 1, means: "a recipient", spans: addresses(kindRcpt), hashed: []string{kindRcpt}},
	{name: "domain", rank: 5, means: "the domain of MAIL FROM, From or a recipient", spans: domains(kindMailFromDomain, kindFromDomain, kindRcptDomain)},
	{name: "org", rank: 7, means: "the proven organisation, or the one a refused message claimed", spans: plain(kindOrg, kindClaimed)},
	{name: "source", rank: 6, means: "the source of an organisation", spans: plain(kindSource)},
	{name: "peer", rank: 3, means: "the connecting address, or a network of them", spans: peers},
	{name: "tenant", rank: 4, means: "a provider's tenant", spans: plain(kindTenant)},
	{name: "originator", rank: 4, means: "the tenant's accepted domain", spans: plain(kindOriginator)},
	{name: "site", rank: 5, means: "who the next hop is", spans: domains(kindSite)},
	{name: "reason", rank: 6, means: "why, as replies say it", spans: plain(kindReason)},
	{name: "disposition", rank: 8, means: "relayed, refused, held, deferred, bounced", spans: oneOf(kindDisposition, dispositions)},
	{name: "identity", rank: 8, means: "proven, unproven, contradicted", spans: oneOf(kindIdentity, identities)},
	{name: "event", rank: 9, means: "what happened: accepted, refused, delivered, …", spans: plain(kindEvent)},
	{name: "class", rank: 7, means: "the class of a bounce", spans: plain(kindClass)},
	{name: "direction", rank: 9, means: "outbound or inbound", spans: oneOf(kindDirection, directions)},
	{name: "word", rank: 5, means: "a word of a reply or detail", spans: textWord},
}

var (
	dispositions = []string{string(ledger.DispositionRelayed), string(ledger.DispositionRefused), string(ledger.DispositionHeld), string(ledger.DispositionDeferred), string(ledger.DispositionBounced)}
	identities   = []string{string(ledger.Proven), string(ledger.Unproven), string(ledger.Contradicted)}
	directions   = []string{"outbound", "inbound"}
)

func fieldNamed(name string) *field {
	for _, f := range fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

// Fields lists the words of the language and what each means, for help texts.
func Fields() (list [][2]string) {
	for _, f := range fields {
		list = append(list, [2]string{f.name, f.means})
	}
	return append(list, [2]string{"since", "not before: 24h, 7d, 2026-11-22 or RFC 3339"}, [2]string{"until", "before"})
}

// plain is a text, or the beginning of one with a star at its end.
func plain(kinds ...string) func(string) ([]span, error) {
	return func(v string) (list []span, err error) {
		begins, open := strings.CutSuffix(v, "*")
		if begins == "" || strings.Contains(begins, "*") {
			return nil, fmt.Errorf("a star stands at the end, after something: %q", v)
		}
		for _, k := range kinds {
			if open {
				list = append(list, beginning(term(k, begins)))
			} else {
				list = append(list, exactly(term(k, v)))
			}
		}
		return list, nil
	}
}

func oneOf(kind string, words []string) func(string) ([]span, error) {
	return func(v string) ([]span, error) {
		if !slices.Contains(words, strings.ToLower(v)) {
			return nil, fmt.Errorf("%q is none of: %s", v, strings.Join(words, ", "))
		}
		return []span{exactly(term(kind, v))}, nil
	}
}

// domainKinds are the kinds of the domains of addresses.
var domainKinds = map[string]string{kindMailFrom: kindMailFromDomain, kindFrom: kindFromDomain, kindRcpt: kindRcptDomain}

// addresses is ann@acme.example, ann@*, ann*, *@acme.example, acme.example or
// *.example.
func addresses(kinds ...string) func(string) ([]span, error) {
	var below []string
	for _, k := range kinds {
		below = append(below, domainKinds[k])
	}
	return func(v string) ([]span, error) {
		local, domain, isAddress := strings.Cut(v, "@")
		switch {
		case isAddress && (local == "" || local == "*") && domain != "*":
			return domains(below...)(domain)
		case isAddress, strings.HasSuffix(v, "*"):
			return plain(kinds...)(v)
		case strings.Contains(v, "."):
			return domains(below...)(v)
		}
		return nil, fmt.Errorf("%q is no address: write ann@acme.example, ann@*, ann*, acme.example or *.example", v)
	}
}

// domains is a name, or all below one: *.example.
func domains(kinds ...string) func(string) ([]span, error) {
	return func(v string) (list []span, err error) {
		name, below := strings.CutPrefix(v, "*.")
		if name = strings.Trim(name, "."); name == "" || strings.ContainsAny(name, "*@") {
			return nil, fmt.Errorf("%q is no domain: write acme.example, or *.example for those below it", v)
		}
		for _, k := range kinds {
			t := term(k, backwards(name))
			if s := beginning(t); below {
				s.low = t + "\x01" // not the name itself
				list = append(list, s)
			} else {
				list = append(list, exactly(t))
			}
		}
		return list, nil
	}
}

// peers is an address or a network.
func peers(v string) ([]span, error) {
	if a, err := netip.ParseAddr(v); err == nil && a.Zone() == "" {
		return []span{exactly(kindPeer + peerDigits(a))}, nil
	}
	p, err := netip.ParsePrefix(v)
	if err != nil {
		return nil, fmt.Errorf("%q is no address and no network: write 192.0.2.1 or 192.0.2.0/24", v)
	}
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	low, high := p.Masked().Addr().As16(), p.Masked().Addr().As16()
	for i := bits; i < 128; i++ {
		high[i/8] |= 1 << (7 - i%8)
	}
	return []span{{low: kindPeer + hex.EncodeToString(low[:]), high: kindPeer + hex.EncodeToString(high[:]) + "\x00"}}, nil
}

// textWord is one word of a reply, or its beginning.
func textWord(v string) ([]span, error) {
	begins, open := strings.CutSuffix(v, "*")
	words := wordsOf(begins, 2)
	if len(words) != 1 {
		return nil, fmt.Errorf("%q is not one word", v)
	}
	if open {
		return []span{beginning(kindWord + words[0])}, nil
	}
	return []span{exactly(kindWord + words[0])}, nil
}
