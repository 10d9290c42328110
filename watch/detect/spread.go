package detect

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
)

// Bounds of what is remembered over all organisations.
const (
	maxTexts      = 8192
	maxHosts      = 8192
	maxSignatures = 16_384
	maxSpread     = 8 // organisations and domains of one text
	alikeBits     = 3 // texts whose sums differ in no more bits are alike
)

// spread is who sent one text, or one host in links, and of whom it was refused.
type spread struct {
	First, Last  int64
	Sent, Left   uint32
	Refused      uint32
	Orgs         []string // that sent it
	Domains      []string // it was sent as
	RefusedNames []string // organisations in whose names it was refused
}

// signature is one DKIM signature that messages came with.
type signature struct {
	First, Last  int64
	Org, Source  string // who sent it first
	Origin       uint64 // where that came from
	Copies, Left uint32
	Others       uint32 // from other origins, sent or refused
}

// contents is what all organisations' messages have in common.
type contents struct {
	begun      int64 // the first event: before CommonAfter passed, everything is new
	texts      *table[uint64, spread]
	bands      map[uint64]uint64 // quarter of a sum and its place to a text that has it
	hosts      *table[string, spread]
	signatures *table[uint64, signature]
}

func newContents() *contents {
	c := &contents{
		texts: newTable[uint64, spread](maxTexts), bands: map[uint64]uint64{},
		hosts: newTable[string, spread](maxHosts), signatures: newTable[uint64, signature](maxSignatures),
	}
	c.texts.gone = func(sum uint64, _ *spread) {
		for i := range uint64(4) {
			if c.bands[band(sum, i)] == sum {
				delete(c.bands, band(sum, i))
			}
		}
	}
	return c
}

// band is the i-th quarter of a sum, marked with i. Two sums that differ in at most
// three bits have one quarter in common.
func band(sum, i uint64) uint64 { return i<<16 | sum>>(16*i)&0xffff }

// text is what is known of texts like sum; it is made if there are none.
func (c *contents) text(sum uint64) *spread {
	if sum == 0 {
		return nil
	}
	s, made := c.texts.touch(c.alike(sum))
	if made {
		c.index(sum)
	}
	return s
}

// alike is the text that sum counts as: itself, or one that was there and differs little.
func (c *contents) alike(sum uint64) uint64 {
	if c.texts.find(sum) != nil {
		return sum
	}
	for i := range uint64(4) {
		if known, ok := c.bands[band(sum, i)]; ok && bits.OnesCount64(known^sum) <= alikeBits {
			return known
		}
	}
	return sum
}

func (c *contents) index(sum uint64) {
	for i := range uint64(4) {
		c.bands[band(sum, i)] = sum
	}
}

// of is the spreads of an event's text and hosts, and how campaigns call them.
func (c *contents) of(e *Event) (all []*spread, names []string) {
	if s := c.text(e.Print.Text); s != nil {
		all, names = append(all, s), append(names, "text:"+fmt.Sprintf("%016x", c.alike(e.Print.Text)))
	}
	for _, host := range e.Print.Hosts[:min(len(e.Print.Hosts), 4)] {
		host = clean(site(host))
		s, _ := c.hosts.touch(host)
		all, names = append(all, s), append(names, "host:"+host)
	}
	return all, names
}

// isCommon says that everybody has it for long.
func (s *spread) isCommon(t *Thresholds, begun int64) bool {
	after := int64(t.CommonAfter.Seconds())
	return s.Last-s.First > after || s.First-begun < after
}

func (s *spread) sent(e *Event, domain string, n uint32) {
	s.seen(unix(e))
	s.Sent += n
	s.Left += left(e, n)
	s.Orgs = remember(s.Orgs, e.Org)
	s.Domains = remember(s.Domains, domain)
}

func (s *spread) refused(e *Event, n uint32) {
	s.seen(unix(e))
	s.Refused += n
	s.RefusedNames = remember(s.RefusedNames, e.Claimed)
}

func (s *spread) seen(now int64) {
	if s.First == 0 {
		s.First = now
	}
	s.Last = max(s.Last, now)
}

// remember adds a name to a short list, once.
func remember(names []string, name string) []string {
	if name == "" || len(names) >= maxSpread || slices.Contains(names, clean(name)) {
		return names
	}
	return append(names, clean(name))
}

// readings is what contents say about a message that was sent.
func (c *contents) readings(e *Event, t *Thresholds, all []*spread, names []string) (out []reading) {
	for i, s := range all {
		if others := refusedOfOthers(s, e.Org); others >= 3 {
			out = append(out, reading{kind: RefusedContent, score: over(RefusedContent, float64(others)/3), messages: s.Sent, left: s.Left, shares: names[i : i+1],
				explain: func() (string, []Value) {
					return fmt.Sprintf("sends what was refused %d times in the names of others", others),
						[]Value{{"refused in other names", strconv.Itoa(int(others)), "3"}, {"in common", names[i], ""}}
				}})
			continue
		}
		if s.isCommon(t, c.begun) || s.Sent < uint32(t.SpreadMessages) || len(s.Orgs) < t.SpreadOrgs && len(s.Domains) < t.SpreadDomains {
			continue
		}
		score := signals[Spread].score
		if len(s.Orgs) >= 2*t.SpreadOrgs {
			score = AlarmScore + 0.1
		}
		out = append(out, reading{kind: Spread, score: score, messages: s.Sent, left: s.Left, shares: names[i : i+1],
			explain: func() (string, []Value) {
				return fmt.Sprintf("sends the same new content as others: %d organisations, %d From domains", len(s.Orgs), len(s.Domains)),
					[]Value{{"organisations", strconv.Itoa(len(s.Orgs)), strconv.Itoa(t.SpreadOrgs)}, {"From domains", strconv.Itoa(len(s.Domains)), strconv.Itoa(t.SpreadDomains)}, {"in common", names[i], ""}}
			}})
	}
	return firstOfKind(out)
}

// refusedOfOthers is how often it was refused, if that was in the name of another
// organisation: one's own mail that was refused before it was set up is no attack.
func refusedOfOthers(s *spread, org string) uint32 {
	for _, name := range s.RefusedNames {
		if name != clean(org) {
			return s.Refused
		}
	}
	return 0
}

func firstOfKind(all []reading) (kept []reading) {
	for _, r := range all {
		if !slices.ContainsFunc(kept, func(k reading) bool { return k.kind == r.kind }) {
			kept = append(kept, r)
		}
	}
	return kept
}

// signed counts a message's signature. The reading is about who sent it first.
func (c *contents) signed(e *Event, t *Thresholds) (at Scope, r reading, ok bool) {
	known := c.signatures.find(e.Print.Signature)
	if e.Print.Signature == 0 || e.What == Refused && known == nil {
		return Scope{}, reading{}, false
	}
	s, made := c.signatures.touch(e.Print.Signature)
	if made {
		s.First, s.Org, s.Source, s.Origin = unix(e), clean(e.Org), clean(e.Source), originOf(e)
	}
	s.Last = max(s.Last, unix(e))
	switch {
	case originOf(e) != s.Origin:
		s.Others++
	case e.What == Sent:
		s.Copies++
	}
	if e.What == Sent {
		s.Left += left(e, 1)
	}
	if s.Others < uint32(t.ReplayOthers) && s.Copies < uint32(t.ReplayCopies) {
		return Scope{}, reading{}, false
	}
	copies, others := s.Copies, s.Others
	r = reading{kind: Replay, messages: copies + others, left: s.Left, score: AlarmScore + 0.05, explain: func() (string, []Value) {
		return fmt.Sprintf("has one signed message come again: %d times from where it came first, %d from elsewhere", copies, others),
			[]Value{{"copies from where it came first", strconv.Itoa(int(copies)), strconv.Itoa(t.ReplayCopies)}, {"from elsewhere", strconv.Itoa(int(others)), strconv.Itoa(t.ReplayOthers)}}
	}}
	if others >= uint32(t.ReplayOthers) {
		r.score = over(Replay, float64(others)/float64(t.ReplayOthers))
	}
	return Scope{Org: s.Org, Source: s.Source}, r, true
}

// originOf is where a message came from, with all addresses of a provider's tenant
// being one.
func originOf(e *Event) uint64 {
	if e.Tenant != "" {
		return sumOf("tenant " + e.Tenant)
	}
	if e.Peer.IsValid() {
		return sumOf(networkOf(e.Peer))
	}
	return 0
}
