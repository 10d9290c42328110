package delivery

import (
	"container/heap"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// board is the dispatcher's memory: which leases are here, which of them are
// ready at which site, what the sites taught, and what is under way. It does no I/O
// and starts nothing; it says what is to be started.
//
// Where there is room for one more attempt, it goes to the site that has fewest
// under way of those that may begin one; at a site organisations take turns. No
// organisation has more than three quarters of all attempts or of all leases.
type board struct {
	perSite, maxAttempts, maxLeases int
	limits                          Limits // nil: perSite alone
	suspended                       func(l *custody.Lease, site string) bool
	suspendedSite                   func(site string) bool

	known *custody.Sites // where domains led lately, without leases here too

	// freed receives when a lease left the board, or a site was woken.
	freed chan struct{}

	mu       sync.Mutex // guards what follows
	leases   int
	attempts int
	turns    uint64
	domains  map[domainShare]int // leases
	orgs     map[string]*orgShare
	sites    map[string]*site
	going    map[*custody.Lease]task // attempts, since task.began
	runnable siteHeap                // may begin an attempt, as far as is known
	asleep   sleepHeap               // may not before a time
}

// task is one lease on its way.
type task struct {
	lease *custody.Lease
	route Route
	end   *Result // instead of a route, or of an attempt at a site that is dead
	site  *site   // nil: no site; counted nowhere but as a lease
	began time.Time
	org   *orgShare
}

// domainShare is what one organisation has for a recipient domain, or for a next hop
// that a person chose for it; all together, if it is empty.
type domainShare struct {
	domain mail.Domain
	via    string
	org    string
}

// sharesOf are the counts that a lease has a part in: of all together first, then of
// its organisation. What a person ended is counted apart.
func sharesOf(g goal, org string) [2]domainShare {
	via := g.via
	if g.end {
		via = "!"
	}
	return [2]domainShare{{g.domain, via, ""}, {g.domain, via, org}}
}

// maxSites is of how many sites with nothing ready and nothing under way it is
// remembered what they taught.
const maxSites = 10_000

// orgShare is what one organisation has on the board.
type orgShare struct {
	name     string
	leases   int
	attempts int
	parked   []*lane // have something ready, which waits for an attempt of the organisation to end
}

// site is where leases wait.
type site struct {
	name   string
	domain mail.Domain // one that leads here
	state  siteState
	limits SiteLimits
	lanes  []*lane // with something ready, in the order of their turns; parked ones are not here
	byOrg  map[string]*lane
	ready  int // tasks in its lanes, parked or not
	under  int // attempts under way

	place sitePlace
	at    int // in the heap of its place
	turn  uint64
	wake  time.Time // while asleep
}

// lane is what is ready at a site of one organisation, what came first first.
type lane struct {
	site  *site
	org   *orgShare
	tasks []task
}

// sitePlace says where a site stands.
type sitePlace uint8

const (
	placeIdle sitePlace = iota // nothing ready, or as much under way as may be
	placeRunnable
	placeAsleep
)

func (b *board) open(perSite, attempts, leases int, limits Limits) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.perSite, b.maxAttempts, b.maxLeases, b.limits = perSite, attempts, leases, limits
	b.freed = make(chan struct{}, 1)
	b.domains, b.sites, b.orgs = make(map[domainShare]int), make(map[string]*site), make(map[string]*orgShare)
	b.going = make(map[*custody.Lease]task)
	if b.known == nil {
		b.known = new(custody.Sites)
	}
}

// room is how many more leases may be taken: none or at least a batch, unless
// the board is nearly empty.
func (b *board) room() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	free := b.maxLeases - b.leases
	if free < min(leaseBatch, b.maxLeases/2+1) {
		return 0
	}
	return free
}

// share is the most one organisation may have of something: a quarter is left to
// others, where there is enough to share.
func share(all int) int { return all - all/4 }

// minShare is how many leases an organisation may have ready at a site however
// many others have.
const minShare = 2

// batch counts what one batch of leases adds to the board, before it is there.
type batch struct {
	orgs    map[string]int
	domains map[domainShare]int
	sites   map[string]int
	lanes   map[[2]string]int // site and organisation
}

// picker gives the function that the queue asks, before each lease of one batch,
// whether it is to be passed over: its organisation has its share of leases; its domain,
// or the site where that led lately, has as many leases here as can be attempted at
// a time and as many in wait; or the site is paused or suspended. An organisation
// that has next to nothing here for them is not passed over because of others.
func (b *board) picker(now time.Time) (skip func(custody.Candidate) bool) {
	batch := batch{map[string]int{}, map[domainShare]int{}, map[string]int{}, map[[2]string]int{}}
	return func(c custody.Candidate) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		site := c.Via
		if site == "" && !c.End {
			site, _ = b.known.Site(c.Domain)
		}
		if b.suspendedSite(site) || b.full(c, b.sites[site], &batch, now) {
			return true
		}
		batch.orgs[c.Organisation]++
		for _, share := range sharesOf(goal{c.Domain, c.Via, c.End}, c.Organisation) {
			batch.domains[share]++
		}
		batch.sites[site]++
		batch.lanes[[2]string{site, c.Organisation}]++
		return false
	}
}

// full says that the board wants no more leases of a kind now. s is nil if the site
// is not known.
func (b *board) full(c custody.Candidate, s *site, more *batch, now time.Time) bool {
	if o := b.orgs[c.Organisation]; o != nil && o.leases+more.orgs[c.Organisation] >= share(b.maxLeases) {
		return true
	}
	wanted := 2 * b.perSite
	switch {
	case s != nil && s.state.careful: // what it does not take now would be given back, with a fact each
		wanted = 2 * s.state.connections(s.limits)
	case s != nil:
		wanted = max(wanted, 2*s.limits.Connections)
	}
	shares := sharesOf(goal{c.Domain, c.Via, c.End}, c.Organisation)
	all, own := shares[0], shares[1]
	if b.domains[all]+more.domains[all] >= wanted && b.domains[own]+more.domains[own] >= minShare {
		return true
	}
	if s == nil {
		return false
	}
	if _, paused := s.state.paused(now); paused && !s.state.dead && !c.Overdue {
		return true
	}
	waiting := more.lanes[[2]string{s.name, c.Organisation}]
	if l := s.byOrg[c.Organisation]; l != nil {
		waiting += len(l.tasks)
	}
	return s.ready+more.sites[s.name] >= wanted && waiting >= minShare
}

// admit counts leases that were taken.
func (b *board) admit(leases []*custody.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leases += len(leases)
	for _, l := range leases {
		for _, share := range sharesOf(goalOf(l), l.Message.Organisation) {
			b.domains[share]++
		}
		b.org(l.Message.Organisation).leases++
	}
}

func (b *board) org(name string) *orgShare {
	o := b.orgs[name]
	if o == nil {
		o = &orgShare{name: name}
		b.orgs[name] = o
	}
	return o
}

// release forgets a lease that is over.
func (b *board) release(l *custody.Lease) {
	b.mu.Lock()
	b.forget(l)
	b.mu.Unlock()
	b.free()
}

func (b *board) free() {
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

func (b *board) forget(l *custody.Lease) {
	b.leases--
	for _, d := range sharesOf(goalOf(l), l.Message.Organisation) {
		if b.domains[d]--; b.domains[d] == 0 {
			delete(b.domains, d)
		}
	}
	o := b.orgs[l.Message.Organisation]
	if o.leases--; o.leases == 0 && o.attempts == 0 {
		delete(b.orgs, o.name)
	}
}

// enqueue makes leases ready at their site. Those past what may wait at one site are
// surplus: many domains turned out to share it.
func (b *board) enqueue(domain mail.Domain, route Route, leases []*custody.Lease, now time.Time) (surplus []*custody.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.site(route.Site, domain)
	b.remember(domain, route, now)
	for _, l := range leases {
		org := b.org(l.Message.Organisation)
		queue := s.byOrg[org.name]
		if s.ready >= 2*b.perSite+2*leaseBatch && queue != nil && len(queue.tasks) >= minShare {
			surplus = append(surplus, l)
			continue
		}
		if queue == nil {
			queue = &lane{site: s, org: org}
			s.byOrg[org.name] = queue
			s.lanes = append(s.lanes, queue)
		}
		queue.tasks = append(queue.tasks, task{lease: l, route: route, site: s, org: org})
		s.ready++
	}
	b.settle(s, now)
	return surplus
}

// site is that of a name. A site that is made may cost another what it taught.
func (b *board) site(name string, domain mail.Domain) *site {
	s := b.sites[name]
	if s == nil {
		if len(b.sites) >= maxSites {
			b.forgetSite()
		}
		s = &site{name: name, byOrg: map[string]*lane{}}
		b.sites[name] = s
	}
	if s.domain = domain; s.limits == (SiteLimits{}) || b.limits != nil {
		s.limits = b.limitsOf(name, domain)
	}
	return s
}

func (b *board) limitsOf(name string, domain mail.Domain) (l SiteLimits) {
	if b.limits != nil {
		l = b.limits(name, domain)
	}
	if l.Connections <= 0 {
		l.Connections = b.perSite
	}
	return l
}

// forgetSite forgets one site that has nothing to do, rather one that is not
// paused.
func (b *board) forgetSite() {
	var paused *site
	for _, s := range b.sites {
		switch {
		case s.ready+s.under > 0:
		case s.place == placeIdle:
			delete(b.sites, s.name)
			return
		default:
			paused = s
		}
	}
	if paused != nil {
		heap.Remove(&b.asleep, paused.at)
		delete(b.sites, paused.name)
	}
}

// remember notes where a domain led by itself. What comes in here goes to the
// organisation's own server in the end: that is its site.
func (b *board) remember(d mail.Domain, route Route, now time.Time) {
	if route.Chosen {
		return
	}
	if _, known := b.known.Site(d); route.Local && known {
		return
	}
	b.known.Learn(d, route.Site, now)
}

// settle puts a site where it belongs.
func (b *board) settle(s *site, now time.Time) {
	place, wake := s.where(now)
	switch s.place {
	case placeRunnable:
		heap.Remove(&b.runnable, s.at)
	case placeAsleep:
		heap.Remove(&b.asleep, s.at)
	}
	s.place, s.wake = place, wake
	switch place {
	case placeRunnable:
		b.turns++
		s.turn = b.turns
		heap.Push(&b.runnable, s)
	case placeAsleep:
		heap.Push(&b.asleep, s)
	}
}

// where is the place of a site now. What is ready at one that is paused is taken
// off it, to be deferred or given back. A paused site sleeps also when nothing is
// ready, because the queue may have mail that is passed over till then.
func (s *site) where(now time.Time) (sitePlace, time.Time) {
	until, paused := s.state.paused(now)
	switch {
	case paused && len(s.lanes) > 0:
		return placeRunnable, time.Time{}
	case paused:
		return placeAsleep, until
	case len(s.lanes) == 0:
		return placeIdle, time.Time{}
	}
	ok, again := s.state.ready(now, s.limits, s.under)
	switch {
	case ok:
		return placeRunnable, time.Time{}
	case again.IsZero():
		return placeIdle, again
	}
	return placeAsleep, again
}

// pump takes what may begin now, and what cannot: leases to be given back, because
// they were suspended or their site is paused.
func (b *board) pump(now time.Time) (begin []task, back []returned) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.asleep) > 0 && !b.asleep[0].wake.After(now) {
		b.settle(b.asleep[0], now)
		b.free() // the queue may have more for it
	}
	for b.attempts < b.maxAttempts && len(b.runnable) > 0 {
		s := b.runnable[0]
		if t, ok := b.pick(s, now, &back); ok {
			begin = append(begin, t)
		}
		b.settle(s, now)
	}
	return begin, back
}

// returned is leases that are given back to the queue untried.
type returned struct {
	lease *custody.Lease
	until time.Time
	why   string
}

// pick takes the next task of a site that may begin one, or none.
func (b *board) pick(s *site, now time.Time, back *[]returned) (task, bool) {
	l := s.lanes[0]
	s.lanes = s.lanes[1:]
	if l.org.attempts >= share(b.maxAttempts) {
		l.org.parked = append(l.org.parked, l)
		return task{}, false
	}
	t := s.first(l)
	until, paused := s.state.paused(now)
	switch {
	case b.suspended(t.lease, s.name):
		*back = append(*back, returned{lease: t.lease, until: now.Add(surplusWait), why: "it was suspended"})
		b.unpark(l.org, now)
		return task{}, false
	case paused && !s.state.dead && !t.lease.Final(now):
		*back = append(*back, returned{lease: t.lease, until: until, why: "the site asked for less: " + s.state.why.Reply})
		b.unpark(l.org, now)
		return task{}, false
	case paused:
		end := s.state.why
		t.end = &end
	default:
		s.state.begin(now, s.limits)
		s.under++
	}
	t.began = now
	b.going[t.lease] = t
	t.org.attempts++
	b.attempts++
	return t, true
}

// first takes the first task of a lane, which then has its next turn last.
func (s *site) first(l *lane) task {
	t := l.tasks[0]
	l.tasks[0] = task{}
	l.tasks = l.tasks[1:]
	s.ready--
	if len(l.tasks) > 0 {
		s.lanes = append(s.lanes, l)
	} else {
		delete(s.byOrg, l.org.name)
	}
	return t
}

// unpark lets something of an organisation that has less than its share of attempts
// begin.
func (b *board) unpark(o *orgShare, now time.Time) {
	for len(o.parked) > 0 {
		l := o.parked[0]
		o.parked = o.parked[1:]
		l.site.lanes = append(l.site.lanes, l)
		b.settle(l.site, now)
		if l.site.place == placeRunnable {
			return
		}
	}
}

// finished notes that a task is over, and what it told of its site.
func (b *board) finished(t task, tells lesson, why Result, now time.Time) {
	b.mu.Lock()
	s, org := t.site, t.org
	b.attempts--
	delete(b.going, t.lease)
	org.attempts--
	b.unpark(org, now)
	b.forget(t.lease)
	if t.end == nil {
		s.under--
		s.state.learn(now, t.began, tells, why, s.limits)
	}
	b.settle(s, now)
	b.mu.Unlock()
	b.free()
}

// drain takes all that is ready off the board: the dispatcher stops.
func (b *board) drain(now time.Time) (leases []*custody.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sites {
		for _, l := range s.byOrg {
			for _, t := range l.tasks {
				leases = append(leases, t.lease)
			}
			l.org.parked = nil
		}
		s.lanes, s.ready = nil, 0
		clear(s.byOrg)
		b.settle(s, now)
	}
	return leases
}

// wake is when the first site is to be looked at again.
func (b *board) wake() (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asleep) == 0 {
		return time.Time{}, false
	}
	return b.asleep[0].wake, true
}

// now is what is on the board.
func (b *board) now() (leases, attempts, sites int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sites {
		if s.ready+s.under > 0 {
			sites++
		}
	}
	return b.leases, b.attempts, sites
}

// siteHeap is a heap.Interface: fewest under way first, then who waits longest.
type siteHeap []*site

func (h siteHeap) Len() int { return len(h) }
func (h siteHeap) Less(i, j int) bool {
	if h[i].under != h[j].under {
		return h[i].under < h[j].under
	}
	return h[i].turn < h[j].turn
}
func (h siteHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *siteHeap) Push(s any)   { s.(*site).at = len(*h); *h = append(*h, s.(*site)) }
func (h *siteHeap) Pop() any     { return pop((*[]*site)(h)) }

// sleepHeap is a heap.Interface by when a site is to be woken.
type sleepHeap []*site

func (h sleepHeap) Len() int           { return len(h) }
func (h sleepHeap) Less(i, j int) bool { return h[i].wake.Before(h[j].wake) }
func (h sleepHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *sleepHeap) Push(s any)        { s.(*site).at = len(*h); *h = append(*h, s.(*site)) }
func (h *sleepHeap) Pop() any          { return pop((*[]*site)(h)) }

func pop(h *[]*site) *site {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}
