package campaign

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"anechoic/mail"
	"anechoic/watch/detect"
)

// Bounds of what is remembered.
const (
	maxKeys     = 50_000 // things shared, of all campaigns
	maxOwnKeys  = 2000   // of one
	maxPending  = 20_000 // keys of refusals that are no campaign yet
	maxNames    = 200    // of one list of a campaign
	maxSamples  = 10
	maxMerges   = 50
	maxMembers  = 1000 // scopes whose counts a campaign remembers
	maxWord     = 120  // octets
	peakStep    = 10 * time.Minute
	commonUses  = 3 // campaigns that share a weak key before it says nothing
	pendingLast = time.Hour
)

// Grouper holds the campaigns. It is for one goroutine.
type Grouper struct {
	o         Options
	now       time.Time
	campaigns map[string]*incident
	keys      map[string]*key
	pending   map[string]*pending
	merged    map[string]string // the ID of a campaign that is no more to the one it became
}

// key is something that messages share, and the campaign it leads to.
type key struct {
	Campaign string    `json:"campaign"`
	Last     time.Time `json:"last"`
	Uses     int       `json:"uses"` // campaigns it led to before
}

// pending is refusals that share something, before they are a campaign.
type pending struct {
	First         time.Time `json:"first"`
	Last          time.Time `json:"last"`
	Messages      int       `json:"messages"`
	Organisations []Count   `json:"organisations"`
	Domains       []Count   `json:"domains"`
	Reasons       []Count   `json:"reasons"`
	IDs           []string  `json:"ids"`
}

// incident is a Campaign with what is needed to go on counting.
type incident struct {
	Campaign
	Members  map[string]member `json:"members"`
	Keys     []string          `json:"keys"`
	Step10   int64             `json:"step10"` // the ten minutes being counted
	InStep   int               `json:"in_step"`
	Told     int               `json:"told"`      // messages when people were told last
	ToldOrgs int               `json:"told_orgs"` // and organisations
	ToldLeft bool              `json:"told_left"`
	Alarmed  bool              `json:"alarmed"` // it was told at all
}

// member is what a finding counted for already.
type member struct {
	Messages int `json:"messages"`
	Left     int `json:"left"`
}

// New makes a Grouper without campaigns.
func New(o Options) *Grouper {
	return &Grouper{o: o.withDefaults(), campaigns: map[string]*incident{}, keys: map[string]*key{}, pending: map[string]*pending{}, merged: map[string]string{}}
}

// Add takes a finding: new, grown or ended. One that is a note only joins a campaign
// that is there; it opens none.
func (g *Grouper) Add(f detect.Finding) (Campaign, Change) {
	g.advance(f.Last)
	if f.Ended {
		return Campaign{}, Unchanged // the campaign ends when all of it is quiet
	}
	keys := keysOf(f)
	c, change := g.join(keys, f.Last)
	if c == nil {
		if !f.IsAlarm() {
			return Campaign{}, Unchanged
		}
		c, change = g.begin(keys[0], f.First), Opened
	}
	c.own(g, keys, f.Last)
	c.finding(f)
	return g.tell(c, change)
}

// Refused takes a refused message. Many that share something open a campaign, even
// where no finding is.
func (g *Grouper) Refused(e detect.Event) (Campaign, Change) {
	if e.What != detect.Refused || e.Claimed == "" && e.Org == "" || !isAttempt(e.Reason) {
		return Campaign{}, Unchanged
	}
	g.advance(e.Time)
	e.Time = g.now
	keys := keysOfRefusal(e)
	c, change := g.join(keys, e.Time)
	if c == nil {
		if !g.wait(keys, &e) {
			return Campaign{}, Unchanged
		}
		before := g.waited(keys)
		c, change = g.begin(keys[0], before.First), Opened
		c.own(g, keys, e.Time)
		c.waited(before, e.Time)
		return g.tell(c, change)
	}
	c.own(g, keys, e.Time)
	c.refusal(&e)
	return g.tell(c, change)
}

// isAttempt says that a refusal is of mail in a name that was not the sender's.
func isAttempt(r mail.Reason) bool {
	switch r {
	case mail.ReasonTenantNotAuthorized, mail.ReasonTenantReserved, mail.ReasonSecondProofMissing, mail.ReasonHybridUnknown, mail.ReasonOwnEcho,
		mail.ReasonOriginContradicted, mail.ReasonRelayPool, mail.ReasonFromNotOwned, mail.ReasonSenderNotOwned, mail.ReasonSourceNotAllowed,
		mail.ReasonAttributionConflict, mail.ReasonAttributionAmbig, mail.ReasonReplayed, mail.ReasonOwnDomainSpoof:
		return true
	}
	return false
}

// keysOf is what a finding may share, the most telling first.
func keysOf(f detect.Finding) (keys []string) {
	for _, s := range f.Shares {
		keys = append(keys, word(s))
	}
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(strength(b), strength(a)) })
	scope := fmt.Sprintf("scope:%s/%s/%s", f.Scope.Org, f.Scope.Source, f.Scope.Domain)
	keys = append(keys, word(scope))
	if f.Scope.Domain != "" {
		keys = append(keys, word("domain:"+f.Scope.Domain))
	}
	return unique(keys)
}

// keysOfRefusal is what a refused message may share.
func keysOfRefusal(e detect.Event) (keys []string) {
	if e.Print.Text != 0 {
		keys = append(keys, fmt.Sprintf("text:%016x", e.Print.Text))
	}
	if e.Org == "" && e.Tenant != "" {
		keys = append(keys, word("tenant:"+e.Tenant))
	}
	if at := network(e); at != "" {
		keys = append(keys, "peer:"+at)
	}
	for _, h := range e.Print.Hosts[:min(len(e.Print.Hosts), 4)] {
		keys = append(keys, word("host:"+site(h)))
	}
	return unique(append(keys, word("domain:"+domainOf(e.From))))
}

// domainOf is the domain of an address, in small letters.
func domainOf(address string) string {
	return strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
}

// network is where a message came from, unless that is a provider's own server.
func network(e detect.Event) string {
	ip := e.Peer
	if e.ConnectingIP != "" {
		parsed, err := netip.ParseAddr(strings.Trim(e.ConnectingIP, "[]"))
		if err != nil {
			return ""
		}
		ip = parsed
	} else if e.Tenant != "" {
		return ""
	}
	if ip = ip.Unmap(); !ip.IsValid() {
		return ""
	}
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}

// site is the organisational domain of a host, as findings have it.
func site(host string) string {
	name, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return name
}

// strength is how much a key says: two for what one attacker has, one for what others
// have too.
func strength(k string) int {
	if strings.HasPrefix(k, "host:") || strings.HasPrefix(k, "domain:") {
		return 1
	}
	return 2
}

// join finds the open campaign that keys lead to; campaigns that several of them lead
// to become one.
func (g *Grouper) join(keys []string, now time.Time) (found *incident, change Change) {
	for _, k := range keys {
		at := g.keys[k]
		if at == nil || now.Sub(at.Last) >= g.o.Quiet {
			continue
		}
		c := g.campaigns[at.Campaign]
		switch {
		case c == nil || !c.Open || strength(k) < 2 && at.Uses >= commonUses:
		case found == nil:
			found = c
		case c != found:
			found, change = g.merge(found, c, k, now), Merged
		}
	}
	return found, change
}

// begin opens a campaign. Its ID follows from what it began with.
func (g *Grouper) begin(first string, start time.Time) *incident {
	sum := fnv.New64a()
	fmt.Fprint(sum, first, start.UTC().UnixNano())
	c := &incident{Campaign: Campaign{ID: fmt.Sprintf("c-%016x", sum.Sum64()), Open: true, Start: start, Peak: start, Last: start}, Members: map[string]member{}}
	for g.campaigns[c.ID] != nil {
		c.ID += "x"
	}
	g.makeRoom()
	g.campaigns[c.ID] = c
	return c
}

// makeRoom forgets the campaign that was quiet for longest, ended ones first.
func (g *Grouper) makeRoom() {
	if len(g.campaigns) < g.o.Campaigns {
		return
	}
	var least *incident
	for _, c := range g.campaigns {
		if least == nil || compareAge(c, least) < 0 {
			least = c
		}
	}
	g.forget(least)
}

func compareAge(a, b *incident) int {
	if a.Open != b.Open {
		if a.Open {
			return 1
		}
		return -1
	}
	return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.ID, b.ID))
}

func (g *Grouper) forget(c *incident) {
	for _, k := range c.Keys {
		if at := g.keys[k]; at != nil && at.Campaign == c.ID {
			delete(g.keys, k)
		}
	}
	delete(g.campaigns, c.ID)
	maps.DeleteFunc(g.merged, func(_, to string) bool { return to == c.ID })
}

// own makes keys lead to the campaign.
func (c *incident) own(g *Grouper, keys []string, now time.Time) {
	for _, k := range keys {
		at := g.keys[k]
		if at == nil {
			if len(c.Keys) >= maxOwnKeys || len(g.keys) >= maxKeys {
				c.more("keys")
				continue
			}
			at = &key{Campaign: c.ID}
			g.keys[k] = at
			c.Keys = append(c.Keys, k)
		}
		if at.Campaign != c.ID {
			at.Campaign, at.Uses = c.ID, at.Uses+1
			if len(c.Keys) < 2*maxOwnKeys {
				c.Keys = append(c.Keys, k)
			}
		}
		at.Last = now
		c.indicator(k)
	}
}

// indicator puts a key into the list it belongs to.
func (c *incident) indicator(k string) {
	what, name, _ := strings.Cut(k, ":")
	lists := map[string]*[]string{"tenant": &c.Tenants, "peer": &c.Addresses, "host": &c.Hosts, "family": &c.Families}
	if list := lists[what]; list != nil {
		c.add(list, what, name)
	}
}

func (c *incident) add(list *[]string, what, name string) {
	at, found := slices.BinarySearch(*list, name)
	switch {
	case found || name == "":
	case len(*list) >= maxNames:
		c.more(what)
	default:
		*list = slices.Insert(*list, at, name)
	}
}

func (c *incident) count(list *[]Count, what, name string, n int) {
	if !addCount(list, maxNames, name, n) {
		c.more(what)
	}
}

// addCount adds n to a name; false: the list is full.
func addCount(list *[]Count, limit int, name string, n int) bool {
	if name = word(name); name == "" || n <= 0 {
		return true
	}
	for i := range *list {
		if (*list)[i].Name == name {
			(*list)[i].Messages += n
			return true
		}
	}
	if len(*list) >= limit {
		return false
	}
	*list = append(*list, Count{name, n})
	return true
}

func (c *incident) more(what string) {
	if !slices.Contains(c.More, what) {
		c.More = append(c.More, what)
	}
}

// finding takes what a finding says. Refusals that it counts come one by one too, so
// only what was sent is counted here.
func (c *incident) finding(f detect.Finding) {
	if f.First.Before(c.Start) {
		c.Start = f.First
	}
	if f.Last.After(c.Last) {
		c.Last = f.Last
	}
	messages := 0
	if !isOfRefusals(f.Kind) {
		messages = c.sent(f)
	}
	c.count(&c.Organisations, "organisations", f.Scope.Org, max(messages, 1))
	c.count(&c.Domains, "domains", f.Scope.Domain, max(messages, 1))
	c.add(&c.Sources, "sources", word(source(f.Scope)))
	if !slices.Contains(c.Kinds, f.Kind) && len(c.Kinds) < maxNames {
		c.Kinds = append(c.Kinds, f.Kind)
	}
	c.Score, c.Step = max(c.Score, f.Score), max(c.Step, f.Propose.Step)
	if _, known := slices.BinarySearch(c.Findings, word(f.ID)); !known && len(c.Sentences) < maxSamples && f.IsAlarm() {
		c.Sentences = append(c.Sentences, sentence(f.Sentence))
	}
	c.add(&c.Findings, "findings", word(f.ID))
	for _, id := range f.IDs {
		c.sample(id)
	}
}

// sent counts what a finding counts beyond what others of the same scope did:
// several findings of one source count the same messages, and the one that counts
// most is taken.
func (c *incident) sent(f detect.Finding) (messages int) {
	scope := word(f.Scope.Org + "/" + f.Scope.Source + "/" + f.Scope.Domain)
	known, isMember := c.Members[scope]
	if !isMember && len(c.Members) >= maxMembers {
		c.more("findings")
		return 0
	}
	messages = max(f.Messages-known.Messages, 0)
	c.at(f.Last, messages)
	c.Left += max(f.Left-known.Left, 0)
	c.Members[scope] = member{max(f.Messages, known.Messages), max(f.Left, known.Left)}
	return messages
}

func isOfRefusals(k detect.Kind) bool {
	switch k {
	case detect.ForeignTenant, detect.SecondProof, detect.UnknownHybrid, detect.Contradicted, detect.WrongFrom:
		return true
	}
	return false
}

func source(s detect.Scope) string {
	if s.Source == "" {
		return ""
	}
	return s.Org + "/" + s.Source
}

// refusal counts a refused message.
func (c *incident) refusal(e *detect.Event) {
	n := max(e.Count, 1)
	c.at(e.Time, n)
	c.Refused += n
	c.count(&c.Organisations, "organisations", cmp.Or(e.Claimed, e.Org), n)
	c.count(&c.Domains, "domains", domainOf(e.From), n)
	c.count(&c.Reasons, "reasons", string(e.Reason), n)
	c.sample(string(e.ID))
}

// waited counts what came before it was a campaign.
func (c *incident) waited(p *pending, now time.Time) {
	c.at(now, p.Messages)
	c.Refused += p.Messages
	c.Organisations, c.Domains, c.Reasons = slices.Clone(p.Organisations), slices.Clone(p.Domains), slices.Clone(p.Reasons)
	for _, id := range p.IDs {
		c.sample(id)
	}
}

func (c *incident) sample(id string) {
	if id = word(id); id != "" && len(c.IDs) < maxSamples && !slices.Contains(c.IDs, id) {
		c.IDs = append(c.IDs, id)
	}
}

// at counts n messages at a time, and notes the peak.
func (c *incident) at(now time.Time, n int) {
	if now.After(c.Last) {
		c.Last = now
	}
	step := now.Unix() / int64(peakStep/time.Second)
	if step != c.Step10 {
		c.Step10, c.InStep = step, 0
	}
	c.Messages += n
	c.InStep += n
	if c.InStep > c.PeakMessages {
		c.PeakMessages, c.Peak = c.InStep, time.Unix(step*int64(peakStep/time.Second), 0).UTC()
	}
}
