package delivery

import (
	"sync"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// board is the dispatcher's memory: which leases are here, which of them are
// ready at which site, and where the workers are. It does no I/O and starts
// nothing; it says what is to be started.
type board struct {
	perSite, maxWorkers, maxLeases int

	// freed receives when a lease left the board.
	freed chan struct{}

	mu      sync.Mutex // guards what follows
	leases  int
	workers int
	domains map[mail.Domain]int // leases of each
	sites   map[string]*site
	short   []*site                // have something ready and no worker for it, in turn
	known   map[mail.Domain]string // where domains led lately, without leases here too
}

// task is one lease on its way.
type task struct {
	lease *custody.Lease
	route Route
	end   *Result // instead of a route
}

// maxKnown bounds the memory for where domains lead.
const maxKnown = 10_000

// site is where leases wait for a worker.
type site struct {
	name    string
	ready   []task // first come, first served
	workers int
	short   bool // it is in board.short
}

func (b *board) open(perSite, maxWorkers, maxLeases int) {
	b.perSite, b.maxWorkers, b.maxLeases = perSite, maxWorkers, maxLeases
	b.freed = make(chan struct{}, 1)
	b.domains, b.sites = make(map[mail.Domain]int), make(map[string]*site)
	b.known = make(map[mail.Domain]string)
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

// picker gives the function that the queue asks, before each lease of one batch,
// whether a domain is to be passed over: it, or the site where it led lately, has
// as many leases here as can be attempted at a time, and as many in wait.
func (b *board) picker() (skip func(mail.Domain) bool) {
	domains, sites := make(map[mail.Domain]int), make(map[*site]int) // of this batch
	return func(d mail.Domain) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		s := b.sites[b.known[d]]
		if b.domains[d]+domains[d] >= 2*b.perSite || s != nil && len(s.ready)+sites[s] >= 2*b.perSite {
			return true
		}
		domains[d]++
		sites[s]++
		return false
	}
}

// admit counts leases that were taken.
func (b *board) admit(leases []*custody.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leases += len(leases)
	for _, l := range leases {
		b.domains[l.Domain]++
	}
}

// release forgets a lease whose attempt is over.
func (b *board) release(l *custody.Lease) {
	b.mu.Lock()
	b.leases--
	if b.domains[l.Domain]--; b.domains[l.Domain] == 0 {
		delete(b.domains, l.Domain)
	}
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

// enqueue makes leases ready at their site and says how many workers to start
// for it. Leases past what may wait at one site are surplus: many domains turned
// out to share it.
func (b *board) enqueue(domain mail.Domain, route Route, leases []*custody.Lease) (start int, surplus []*custody.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sites[route.Site]
	if s == nil {
		s = &site{name: route.Site}
		b.sites[route.Site] = s
	}
	b.remember(domain, s.name)
	space := max(0, 2*b.perSite+2*leaseBatch-len(s.ready))
	if len(leases) > space {
		leases, surplus = leases[:space], leases[space:]
	}
	for _, l := range leases {
		s.ready = append(s.ready, task{lease: l, route: route})
	}
	start = max(0, min(len(s.ready), b.perSite-s.workers, b.maxWorkers-b.workers))
	s.workers += start
	b.workers += start
	b.mark(s)
	return start, surplus
}

// remember notes where a domain led. Which entry goes for a new one does not
// matter.
func (b *board) remember(d mail.Domain, site string) {
	if _, there := b.known[d]; !there && len(b.known) >= maxKnown {
		for old := range b.known {
			delete(b.known, old)
			break
		}
	}
	b.known[d] = site
}

// mark puts a site in the list of those that want workers, if it does.
func (b *board) mark(s *site) {
	if !s.short && len(s.ready) > 0 && s.workers < b.perSite && b.workers == b.maxWorkers {
		s.short = true
		b.short = append(b.short, s)
	}
}

// next gives a worker its next task and the site where it is now. Not ok ends
// the worker. A worker leaves its site for one that has fewer, so that sites
// take turns where there are not workers for all.
func (b *board) next(name string) (t task, at string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sites[name]
	if needy := b.neediest(); needy != nil && needy != s {
		if len(s.ready) == 0 || needy.workers == 0 || needy.workers+1 < s.workers {
			s = b.move(s, needy)
		} else {
			b.mark(needy)
		}
	}
	if len(s.ready) == 0 {
		b.leave(s)
		return task{}, "", false
	}
	t = s.ready[0]
	s.ready[0] = task{}
	s.ready = s.ready[1:]
	b.mark(s)
	return t, s.name, true
}

// neediest takes the first site off the list that still wants a worker.
func (b *board) neediest() *site {
	for len(b.short) > 0 {
		s := b.short[0]
		b.short = b.short[1:]
		s.short = false
		if len(s.ready) > 0 && s.workers < b.perSite {
			return s
		}
	}
	return nil
}

// move takes a worker from one site to another.
func (b *board) move(from, to *site) *site {
	to.workers++
	b.workers++
	b.leave(from)
	b.mark(from)
	return to
}

// leave takes a worker off a site.
func (b *board) leave(s *site) {
	s.workers--
	b.workers--
	if s.workers == 0 && len(s.ready) == 0 {
		delete(b.sites, s.name)
	}
}

// now is what is on the board.
func (b *board) now() (leases, workers, sites int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leases, b.workers, len(b.sites)
}
