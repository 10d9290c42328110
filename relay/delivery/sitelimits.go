package delivery

import (
	"context"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
)

// SiteLimits bounds what is sent to one site. The zero of a field is its
// default: DefaultPerSite connections, and no other bound. What a site answers may make
// the dispatcher stay below them; nothing makes it go above.
type SiteLimits struct {
	Connections              int           // attempts at a time, each on a connection of its own
	MessagesPerConnection    int           // transactions before a connection is closed
	RecipientsPerTransaction int           // RCPT commands in one transaction
	Messages                 int           // attempts begun within Span
	Span                     time.Duration // in which Messages counts; zero: no bound
}

// Limits says what bounds a site. Domain is one that leads there: site names are
// those of the best host, rules may be about either. It is asked again and
// again, and must be quick; when what it says changes, call Reshape.
type Limits func(site string, domain mail.Domain) SiteLimits

// SiteStatus is what the dispatcher knows of a site now: why mail for it is not on
// its way, and what it learned.
type SiteStatus struct {
	Name     string
	Ready    int       // messages that wait for an attempt here; the queue has the rest
	UnderWay int       // attempts
	Window   int       // attempts at a time, as learned
	Limit    int       // attempts at a time, at most
	Until    time.Time // no attempt before: it asked for less, or is dead; zero: none of that
	Dead     bool      // nobody answered; what is due is deferred without an attempt
	Probing  bool      // it was dead: one attempt at a time finds out whether it still is
	Reply    string    // what brought the last pause about
}

// Site is what is known of a site; not ok: nothing.
func (d *Dispatcher) Site(name string) (SiteStatus, bool) { return d.board.status(name, time.Now()) }

// SiteOf is what is known of the site where a domain led lately; not ok: it is not
// known where.
func (d *Dispatcher) SiteOf(domain mail.Domain) (SiteStatus, bool) {
	name, ok := d.LeadsTo(domain)
	if !ok {
		return SiteStatus{}, false
	}
	if status, ok := d.Site(name); ok {
		return status, true
	}
	return SiteStatus{Name: name}, true
}

// LeadsTo is the name of the site where a domain led lately, or where the configuration
// sends all; not ok: it is not known.
func (d *Dispatcher) LeadsTo(domain mail.Domain) (site string, ok bool) {
	if d.Router != nil {
		if site, ok := d.Router.relayhost(domain); ok {
			return site, true
		}
	}
	if d.Known == nil {
		return "", false
	}
	return d.Known.Site(domain)
}

// SitesRead waits until what was known of domains' sites before the start is known again.
func (d *Dispatcher) SitesRead(ctx context.Context) error {
	if d.Known == nil {
		return nil
	}
	return d.Known.Read(ctx)
}

// Sites is what is known of all sites, by name.
func (d *Dispatcher) Sites() []SiteStatus { return d.board.statuses(time.Now()) }

// Reshape asks Limits again for every site that is known: what changed counts from the
// next attempt on, also where many messages wait and for a site that rests until its
// rate lets another attempt begin.
func (d *Dispatcher) Reshape() { d.board.reshape(time.Now()) }

func (b *board) reshape(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sites {
		s.limits = b.limitsOf(s.name, s.domain)
		s.state.reshape(now, s.limits)
		b.settle(s, now)
	}
	b.free()
}

func (b *board) status(name string, now time.Time) (SiteStatus, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sites[name]
	if s == nil {
		return SiteStatus{}, false
	}
	return s.status(now), true
}

func (b *board) statuses(now time.Time) []SiteStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]SiteStatus, 0, len(b.sites))
	for _, s := range b.sites {
		list = append(list, s.status(now))
	}
	slices.SortFunc(list, func(a, b SiteStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (s *site) status(now time.Time) SiteStatus {
	status := SiteStatus{
		Name: s.name, Ready: s.ready, UnderWay: s.under, Window: s.state.connections(s.limits), Limit: s.limits.Connections,
		Dead: s.state.isDead(now), Probing: s.state.dead && !s.state.isDead(now) && s.state.missed >= deadAfter, Reply: s.state.why.Reply,
	}
	if until, paused := s.state.paused(now); paused {
		status.Until = until
	}
	return status
}
