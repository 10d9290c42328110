package app

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"anechoic/control/config"
	"anechoic/control/metrics"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/limit"
)

// limits is what proven mail is counted by, and how far each source is trusted.
//
// A message pays from every account it belongs to, or is put off: its source's, its
// organisation's, its tenant's, its From domain's, that of all sources of the
// organisation that tiers bound, and what its source sends to each recipient
// domain. All of these were proven; what else a message claims (MAIL FROM, the
// local part of From, Message-ID) opens no account. The recipient domains, which a
// sender can choose, are in a book of their own, so that they push nobody out.
type limits struct {
	options config.Limits
	metrics *metrics.Metrics // nil: nothing is counted
	book    limit.Book       // of proven principals
	sites   limit.Book       // of recipient domains
	trust   limit.Trust

	mu     sync.Mutex // guards what follows
	cached map[org.ID]*standings

	flushing sync.Mutex    // guards next
	next     uint64        // offset of the first fact that may not be stored in the books
	replay   []ledger.Fact // what was accepted after the books were stored: only while the relay starts
	founding bool          // sources that are met now were there before tiers: only while it starts
}

// principalsAtMost is how many accounts are kept. Nobody but a proven source makes one.
const principalsAtMost = 1_000_000

// Prefixes of records.
const (
	bookPrefix  = "limit/book/"
	sitePrefix  = "limit/site/"
	trustPrefix = "limit/trust/"
)

func newLimits(options config.Limits) *limits {
	return &limits{options: options, book: limit.Book{Keys: principalsAtMost, Prefix: bookPrefix}, sites: limit.Book{Prefix: sitePrefix}, trust: limit.Trust{Prefix: trustPrefix}}
}

// standings is where an organisation's sources stand, for a while.
type standings struct {
	dir    *org.Directory
	until  time.Time
	tiers  map[string]limit.Tier // of sources that tiers bound
	shared limit.Caps            // of those together
}

// standingsFor is how long a standing is not looked at again.
const standingsFor = time.Minute

// standings gives where an organisation's sources stand.
func (l *limits) standings(dir *org.Directory, o *org.Organisation, now time.Time) *standings {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.cached[o.ID]; s != nil && s.dir == dir && now.Before(s.until) {
		return s
	}
	s := &standings{dir: dir, until: now.Add(standingsFor), tiers: map[string]limit.Tier{}}
	best := limit.New
	for _, source := range o.Sources {
		if !l.tiered(source) {
			continue
		}
		tier := l.stand(o, source, now).Tier
		s.tiers[source.ID] = tier
		if rule, _ := limit.RuleOf(tier); tier.Above(best) && rule.Caps != (limit.Caps{}) {
			best = tier
		}
	}
	rule, _ := limit.RuleOf(best)
	s.shared = rule.Caps.Times(limit.SharedTimes)
	if len(l.cached) >= principalsAtMost || l.cached == nil {
		l.cached = map[org.ID]*standings{}
	}
	l.cached[o.ID] = s
	return s
}

// forgetStandings lets all be looked at again.
func (l *limits) forgetStandings() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cached = nil
}

// tiered says that a source is bound by its tier: nobody set limits for it.
func (l *limits) tiered(s *org.Source) bool { return l.options.Tiers && s.Limits == (org.Limits{}) }

// stand says where a source stands, and why.
func (l *limits) stand(o *org.Organisation, s *org.Source, now time.Time) limit.Standing {
	pinned := s.Trust
	if pinned == "" {
		pinned = o.Trust
	}
	return l.trust.Stand(limit.Name{Organisation: string(o.ID), Source: s.ID}, limit.Tier(pinned), confirmed(s, now), now)
}

// confirmed says that a source's identity rests on more than one thing that can be
// copied.
func confirmed(s *org.Source, now time.Time) bool {
	switch s.Kind {
	case org.Microsoft365:
		return !s.SingleProof(now)
	case org.Credential:
		return len(s.Addresses) > 0 || s.Secret != nil
	}
	return true
}

// capsOf are a source's, with those of all tier-bound sources together; of who has
// limits of its own those are zero.
func (l *limits) capsOf(dir *org.Directory, o *org.Organisation, s *org.Source, now time.Time) (own, shared limit.Caps) {
	if !l.tiered(s) {
		return explicitCaps(&s.Limits), limit.Caps{}
	}
	all := l.standings(dir, o, now)
	rule, _ := limit.RuleOf(all.tiers[s.ID])
	if rule.Caps == (limit.Caps{}) {
		return limit.Caps{}, limit.Caps{}
	}
	return rule.Caps, all.shared
}

// explicitCaps are the limits that somebody wrote: numbers before a preset's.
func explicitCaps(l *org.Limits) limit.Caps {
	if l == nil {
		return limit.Caps{}
	}
	preset, _ := limit.Preset(l.Preset).Of(l.Licences)
	return limit.Caps{
		MessagesPerMinute: int64(l.MessagesPerMinute), MessagesPerHour: int64(l.MessagesPerHour), MessagesPerDay: int64(l.MessagesPerDay),
		RecipientsPerMinute: int64(l.RecipientsPerMinute), RecipientsPerHour: int64(l.RecipientsPerHour), RecipientsPerDay: int64(l.RecipientsPerDay),
		UniquePerDay: int64(l.UniqueRecipientsPerDay), BytesPerHour: int64(l.MegabytesPerHour) << 20, BytesPerDay: int64(l.MegabytesPerDay) << 20,
	}.Or(preset)
}

// paying is a message that is to be paid for.
type paying struct {
	organisation *org.Organisation
	source       *org.Source
	tenant       string      // as proven; empty: none
	from         mail.Domain // of From
	recipients   []mail.Address
	bytes        int64
	report       bool // it has the null sender
}

// spent is what a message paid, to be given back if it is not kept.
type spent struct{ principals, sites limit.Taken }

// spend takes a message from all its accounts, or none.
func (l *limits) spend(dir *org.Directory, p *paying, now time.Time) (spent, *mail.Refusal) {
	var paid spent
	var excess limit.Excess
	if paid.principals, excess = l.book.Take(now, l.spends(dir, p, now)); !excess.IsZero() {
		return spent{}, l.putOff(excess, now)
	}
	sites := l.siteSpends(p)
	if len(sites) == 0 {
		return paid, nil
	}
	if paid.sites, excess = l.sites.Take(now, sites); !excess.IsZero() {
		l.book.Return(now, paid.principals)
		return spent{}, l.putOff(excess, now)
	}
	return paid, nil
}

// giveBack returns what was spent for nothing.
func (l *limits) giveBack(now time.Time, paid spent) {
	l.book.Return(now, paid.principals)
	l.sites.Return(now, paid.sites)
}

// spends lists what a message pays to proven principals.
func (l *limits) spends(dir *org.Directory, p *paying, now time.Time) []limit.Spend {
	o, s := p.organisation, p.source
	id := string(o.ID)
	amount := limit.Amount{Messages: 1, Recipients: int64(len(p.recipients)), Bytes: p.bytes}
	own, shared := l.capsOf(dir, o, s, now)
	list := make([]limit.Spend, 0, 6)
	list = append(list,
		limit.Spend{Principal: limit.OfSource(id, s.ID), Caps: l.ofAllTenants(s, own), Amount: amount},
		limit.Spend{Principal: limit.OfOrganisation(id), Caps: explicitCaps(o.Limits), Amount: amount},
	)
	if shared != (limit.Caps{}) {
		list = append(list, limit.Spend{Principal: limit.OfShared(id), Caps: shared, Amount: amount})
	}
	if p.tenant != "" && len(s.TenantIDs) > 1 {
		list = append(list, limit.Spend{Principal: limit.OfTenant(id, p.tenant), Caps: own, Amount: amount})
	}
	if d, ok := dir.Owner(p.from); ok && d.Organisation == o.ID && d.Limits != nil {
		list = append(list, limit.Spend{Principal: limit.OfDomain(id, d.Name.String()), Caps: explicitCaps(d.Limits), Amount: amount})
	}
	if p.report && l.options.ReportsPerHour > 0 {
		list = append(list, limit.Spend{Principal: limit.OfReports(id, s.ID), Caps: limit.Caps{MessagesPerHour: int64(l.options.ReportsPerHour)}, Amount: limit.Amount{Messages: 1}})
	}
	for i := range list {
		if list[i].Caps.UniquePerDay > 0 {
			list[i].Recipients = l.hashes(p.recipients)
		}
	}
	return list
}

// ofAllTenants are the caps of a source whose limits are a preset's: those are for
// one tenant, and it may have several.
func (l *limits) ofAllTenants(s *org.Source, own limit.Caps) limit.Caps {
	if n := int64(len(s.TenantIDs)); n > 1 && s.Limits.Preset != "" {
		return own.Times(n)
	}
	return own
}

// hashes are those of different recipients.
func (l *limits) hashes(recipients []mail.Address) []uint64 {
	all := make([]uint64, len(recipients))
	for i, a := range recipients {
		all[i] = l.book.Hash(strings.ToLower(a.String()))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// siteSpends lists what a message pays to recipient domains.
func (l *limits) siteSpends(p *paying) (list []limit.Spend) {
	most := int64(p.source.Limits.RecipientsPerDomainPerDay)
	if most == 0 {
		return nil
	}
	count := map[mail.Domain]int64{}
	for _, a := range p.recipients {
		count[a.Domain()]++
	}
	for domain, n := range count {
		list = append(list, limit.Spend{
			Principal: limit.OfRecipientDomain(string(p.organisation.ID), p.source.ID, domain.String()),
			Caps:      limit.Caps{RecipientsPerDay: most}, Amount: limit.Amount{Messages: 1, Recipients: n},
		})
	}
	return list
}

// putOff counts an excess, and gives the refusal.
func (l *limits) putOff(e limit.Excess, now time.Time) *mail.Refusal {
	if l.metrics != nil {
		l.metrics.Limited(e.Principal.Scope().String(), metrics.LimitPutOff)
	}
	return putOff(e, now)
}

// putOff is the refusal of a message that is too much. What the peer is told is when
// to come back, roughly: neither whose budget it was nor how large that is.
func putOff(e limit.Excess, now time.Time) *mail.Refusal {
	reply := mail.RateLimitedDay
	switch wait := e.Retry.Sub(now); {
	case wait <= 10*time.Minute:
		reply = mail.RateLimitedMinutes
	case wait <= time.Hour:
		reply = mail.RateLimitedHour
	case wait <= 6*time.Hour:
		reply = mail.RateLimitedHours
	case wait > 2*limit.Day:
		return mail.RateLimitedAlone.Because("%s may never take that at once: %s", e.Principal, e.Unit)
	}
	return reply.Because("%s is used up: %s; there is some again at %s", e.Unit, e.Principal, e.Retry.UTC().Format(time.RFC3339))
}

// meet notes which sources are in the registry.
func (l *limits) meet(dir *org.Directory, now time.Time) {
	if !l.options.Tiers {
		return
	}
	for o := range dir.Organisations() {
		for _, s := range o.Sources {
			l.trust.Meet(limit.Name{Organisation: string(o.ID), Source: s.ID}, identitiesOf(s), l.founding, now)
		}
	}
	l.forgetStandings()
}

// identitiesOf are hashes of what proves a source: whoever keeps one of them is the
// same source.
func identitiesOf(s *org.Source) (hashes []string) {
	add := func(kind string, value any) {
		sum := sha256.Sum256(fmt.Append(nil, kind, "\x00", value))
		hashes = append(hashes, hex.EncodeToString(sum[:8]))
	}
	for _, id := range s.TenantIDs {
		add("tenant", id)
	}
	for _, d := range s.DKIM {
		add("domain", d.Domain)
	}
	if s.Username != "" {
		add("user", s.Username)
	}
	for _, key := range s.SPKI {
		add("key", fmt.Sprintf("%x", key))
	}
	if s.Kind == org.Address {
		for _, p := range s.Addresses {
			add("address", p)
		}
	}
	return hashes
}
