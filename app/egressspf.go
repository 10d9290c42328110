package app

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/standard/spf"
)

// The times of what SPF is asked about our own addresses.
const (
	egressSweep     = 5 * time.Minute
	egressDaily     = 24 * time.Hour   // how often a domain is asked about (ARCHITECTURE 2, third invariant)
	egressListed    = 10 * time.Minute // the same while its SPF lists an address: so long its mail waits after the record is right
	egressRetry     = time.Hour        // the same while DNS gives no answer
	egressAtLease   = 10 * time.Second // the least time between two look-ups for mail that waits
	egressListedNow = time.Minute      // the same while an address is listed
	egressOld       = 25 * time.Hour   // answers older than this are asked for again before mail leaves
)

// Bounds of the work, ours: in a sweep every domain of a million has its turn once in
// less than a day, and one installation of ordinary size is done at once.
const (
	egressPerSweep = 5000
	egressAsking   = 4      // domains at a time
	egressSubnames = 10_000 // names below registered ones that are remembered
	egressTold     = 1000   // domains whose finding tells details
	egressLogged   = 10     // domains a sweep logs one by one
	egressFacts    = 500    // facts in one batch
)

// nobodysPool is where mail leaves from that is in no organisation's name.
type nobodysPool uint8

// The pools, as bits of egressState.
const (
	fromInbound nobodysPool = 1 << iota
	fromDisowned
)

// pools lists them with the names that relay.toml has for them.
var pools = [...]struct {
	pool nobodysPool
	key  string
}{{fromInbound, "inbound"}, {fromDisowned, "disowned"}}

// egressState is what is known of one name. The zero state knows nothing.
type egressState struct {
	asked     uint32 // seconds since 1970; 0: never
	answered  bool   // there was an answer for every address at some time
	failed    bool   // the last time there was not
	dependent bool   // it depends on what the sender says: each message is asked about
	listed    nobodysPool
}

func (s egressState) age(now time.Time) time.Duration { return now.Sub(time.Unix(int64(s.asked), 0)) }

// due says that a sweep is to ask. fresh is that somebody wants to know at once what
// became of listed ones.
func (s egressState) due(fresh bool, now time.Time) bool {
	switch {
	case s.asked == 0, s.listed != 0 && fresh:
		return true
	case s.listed != 0:
		return s.age(now) >= egressListed
	case s.failed:
		return s.age(now) >= egressRetry
	}
	return s.age(now) >= egressDaily
}

// dueAtLease says that it is to be asked before mail leaves.
func (s egressState) dueAtLease(now time.Time) bool {
	switch {
	case s.listed != 0:
		return s.age(now) >= egressListedNow
	case !s.answered:
		return s.age(now) >= egressAtLease
	}
	return s.age(now) >= egressOld && !s.failed
}

// next is the state after answers about every pool. What is not known keeps the last
// answer.
func (s egressState) next(answers []poolAnswer, now time.Time) egressState {
	after := egressState{asked: uint32(now.Unix())}
	for _, a := range answers {
		if a.listed || a.unknown && s.listed&a.pool != 0 {
			after.listed |= a.pool
		}
		after.failed = after.failed || a.unknown
		after.dependent = after.dependent || a.dependent
	}
	after.answered = s.answered || !after.failed
	after.dependent = after.dependent || after.failed && s.dependent
	return after
}

// poolAnswer is what SPF says of all addresses of a pool.
type poolAnswer struct {
	pool                       nobodysPool
	listed, unknown, dependent bool
	by                         spf.Listing // the first that is listed
}

func answersOf(pool nobodysPool, listings []spf.Listing) (a poolAnswer) {
	a.pool = pool
	for _, l := range listings {
		switch {
		case l.Inclusion == spf.Included && !a.listed:
			a.listed, a.by = true, l
		case l.Inclusion == spf.Unknown && l.Result.Status != spf.TempError && l.Result.Dependent:
			a.dependent = true
		case l.Inclusion == spf.Unknown:
			a.unknown = true
		}
	}
	return a
}

// listedEgress tells of one domain for people.
type listedEgress struct {
	organisation org.ID
	key          string // inbound or disowned
	address      netip.Addr
	term         string // of the record
}

func (l listedEgress) text(d mail.Domain) string {
	return fmt.Sprintf("SPF of %s passes for %s (by %q), from where %s mail leaves: take the address out of the record, or give %[4]s.bind in relay.toml addresses of its own; until then such mail with %[1]s as a sender is held",
		d, l.address, l.term, l.key)
}

// egressSPF knows for which registered domains SPF passes from the addresses that mail
// in nobody's name leaves from: what is handed on from there would be believed to be
// theirs (ARCHITECTURE 2, third invariant). run asks about all domains, at the start,
// daily, and soon after a reload about new ones; holds is asked before mail leaves.
//
// What DNS does not answer keeps the last answer; where there never was one, mail that
// it would decide about waits. A relay that starts knows nothing yet: holds then asks
// by itself.
type egressSPF struct {
	resolver  mail.Resolver
	directory func() *org.Directory
	addresses map[nobodysPool][]netip.Addr
	helo      string
	perSweep  int // domains
	record    func([]ledger.Fact) error
	ended     func(context.Context) // SPF of some domain does not list us any more, or may not
	log       *slog.Logger
	wake      chan struct{}

	mu         sync.Mutex // guards what follows
	generation uint64     // of the Directory that forget saw last
	swept      bool
	states     map[mail.Domain]egressState
	below      map[mail.Domain]struct{} // those of states that are below registered names
	listed     int                      // of states
	told       map[mail.Domain]listedEgress
}

// open makes it ready.
func (e *egressSPF) open() *egressSPF {
	e.wake = make(chan struct{}, 1)
	e.states, e.below, e.told = map[mail.Domain]egressState{}, map[mail.Domain]struct{}{}, map[mail.Domain]listedEgress{}
	return e
}

// refresh has run look at once at what is new, and at what was listed.
func (e *egressSPF) refresh() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run asks about registered domains until ctx ends.
func (e *egressSPF) run(ctx context.Context) {
	if len(e.addresses[fromInbound])+len(e.addresses[fromDisowned]) == 0 {
		return
	}
	tick := time.NewTicker(egressSweep)
	defer tick.Stop()
	for fresh := false; ; {
		e.sweep(ctx, fresh)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fresh = false
		case <-e.wake:
			fresh = true
		}
	}
}

// sweep asks about what is due, and tells of what changed.
func (e *egressSPF) sweep(ctx context.Context, fresh bool) {
	dir := e.directory()
	e.forget(dir)
	asking := background.Limit(egressAsking)
	var mu sync.Mutex // guards changed
	var changed []egressChange
	for _, name := range e.due(dir.Domains(), fresh, time.Now()) {
		if ctx.Err() != nil {
			break
		}
		asking.Go(func() {
			if c := e.ask(ctx, name); c.matters() {
				mu.Lock()
				defer mu.Unlock()
				changed = append(changed, c)
			}
		})
	}
	asking.Wait()
	e.tell(changed)
	if first := e.first(ctx); first || slices.ContainsFunc(changed, egressChange.isBetter) {
		e.ended(ctx)
	}
}

// first says once that a sweep came to its end.
func (e *egressSPF) first(ctx context.Context) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.swept || ctx.Err() != nil {
		return false
	}
	e.swept = true
	return true
}

// due gives names to ask about, those first that were asked about longest ago.
func (e *egressSPF) due(registered iter.Seq[*org.Domain], fresh bool, now time.Time) []mail.Domain {
	type waiting struct {
		name  mail.Domain
		asked uint32
	}
	var list []waiting
	never := 0
	e.mu.Lock()
	for d := range registered {
		s := e.states[d.Name]
		if !s.due(fresh, now) {
			continue
		}
		list = append(list, waiting{d.Name, s.asked})
		if s.asked == 0 {
			never++
		}
		if never == e.perSweep {
			break // nothing comes before these
		}
	}
	e.mu.Unlock()
	slices.SortStableFunc(list, func(a, b waiting) int { return cmp.Compare(a.asked, b.asked) })
	list = list[:min(len(list), e.perSweep)]
	names := make([]mail.Domain, len(list))
	for i, w := range list {
		names[i] = w.name
	}
	return names
}

// forget drops what was known of names that are registered no more.
func (e *egressSPF) forget(dir *org.Directory) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if dir.Generation() == e.generation {
		return
	}
	e.generation = dir.Generation()
	for name := range e.states {
		d, ok := dir.Owner(name)
		if ok && d.Name == name {
			delete(e.below, name)
		}
		if !ok {
			e.drop(name)
		}
	}
}

// drop forgets a name. mu is held.
func (e *egressSPF) drop(name mail.Domain) {
	if e.states[name].listed != 0 {
		e.listed--
	}
	delete(e.states, name)
	delete(e.below, name)
	delete(e.told, name)
}

// egressChange is what became of one name.
type egressChange struct {
	name          mail.Domain
	owner         org.ID
	before, after nobodysPool
	listed        []listedEgress
}

func (c egressChange) matters() bool  { return c.before != c.after }
func (c egressChange) isBetter() bool { return c.before&^c.after != 0 }

// ask looks a name up that belongs to somebody here.
func (e *egressSPF) ask(ctx context.Context, name mail.Domain) (c egressChange) {
	d, ok := e.directory().Owner(name)
	if !ok {
		return c
	}
	c.name, c.owner = name, d.Organisation
	answers := make([]poolAnswer, 0, len(pools))
	for _, p := range pools {
		a := answersOf(p.pool, spf.Includes(ctx, e.resolver, name, e.addresses[p.pool]))
		if a.listed {
			c.listed = append(c.listed, listedEgress{d.Organisation, p.key, a.by.Address, a.by.Result.Mechanism})
		}
		answers = append(answers, a)
	}
	if ctx.Err() != nil {
		return egressChange{} // it was not asked to the end
	}
	e.heard(&c, d.Name != name, answers)
	return c
}

// heard keeps what was learned.
func (e *egressSPF) heard(c *egressChange, below bool, answers []poolAnswer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.states[c.name]
	if below && before.asked == 0 {
		e.makeRoom()
		e.below[c.name] = struct{}{}
	}
	after := before.next(answers, time.Now())
	e.states[c.name] = after
	c.before, c.after = before.listed, after.listed
	if before.listed != 0 {
		e.listed--
	}
	if after.listed == 0 {
		delete(e.told, c.name)
		return
	}
	e.listed++
	if _, told := e.told[c.name]; len(c.listed) > 0 && (told || len(e.told) < egressTold) {
		e.told[c.name] = c.listed[0]
	}
}

// makeRoom forgets names below registered ones while there are too many; which, is up
// to the map's order. They are asked about again when mail bears them. mu is held.
func (e *egressSPF) makeRoom() {
	for name := range e.below {
		if len(e.below) < egressSubnames {
			return
		}
		e.drop(name)
	}
}

// tell writes what changed into ledger and log.
func (e *egressSPF) tell(changed []egressChange) {
	facts := make([]ledger.Fact, len(changed))
	for i, c := range changed {
		event, detail := ledger.EgressUnlisted, "SPF of "+c.name.String()+" passes for no address of "+poolNames(c.before&^c.after)+".bind any more"
		if c.after&^c.before != 0 {
			event, detail = ledger.EgressListed, c.text()
		}
		facts[i] = ledger.Fact{Time: time.Now().UTC(), Event: event, Org: string(c.owner), Detail: detail}
		if i < egressLogged {
			e.log.Warn("spf of an organisation's domain and our own addresses", "event", string(event), "org", string(c.owner), "domain", c.name.String(), "detail", detail)
		}
	}
	if n := len(changed) - egressLogged; n > 0 {
		e.log.Warn("spf of organisations' domains and our own addresses: the ledger tells of the rest", "domains", n)
	}
	for batch := range slices.Chunk(facts, egressFacts) {
		if err := e.record(batch); err != nil {
			e.log.Error("what SPF says of our own addresses is not in the ledger", "facts", len(batch), "error", err)
		}
	}
}

func (c egressChange) text() string {
	for _, l := range c.listed {
		return l.text(c.name)
	}
	return "SPF of " + c.name.String() + " passes for an address of " + poolNames(c.after) + ".bind"
}

func poolNames(of nobodysPool) string {
	if of == fromDisowned {
		return "disowned"
	}
	return "inbound"
}

// holds says why mail must not leave from a pool with those senders. Only names of
// organisations here count; the others do not know our addresses.
func (e *egressSPF) holds(ctx context.Context, from nobodysPool, senders ...mail.Address) *mail.Refusal {
	if len(e.addresses[from]) == 0 {
		return nil
	}
	for _, sender := range senders {
		name := sender.Domain()
		if _, ours := e.directory().Owner(name); sender.IsZero() || !ours {
			continue
		}
		s := e.state(ctx, name)
		var refusal *mail.Refusal
		switch {
		case s.listed&from != 0:
			refusal = mail.EgressInSPF.Because("SPF of %s passes for an address of %s.bind", name, poolNames(from))
		case !s.answered, s.dependent:
			refusal = e.judgeSender(ctx, from, sender)
		}
		if refusal != nil {
			return refusal
		}
	}
	return nil
}

// state is what is known of a name, asked for if that is due.
func (e *egressSPF) state(ctx context.Context, name mail.Domain) egressState {
	known := func() egressState {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.states[name]
	}
	if s := known(); !s.dueAtLease(time.Now()) {
		return s
	}
	if c := e.ask(ctx, name); c.matters() {
		e.tell([]egressChange{c})
	}
	return known()
}

// judgeSender asks about one sender, where the domain's answer depends on it or did
// not come.
func (e *egressSPF) judgeSender(ctx context.Context, from nobodysPool, sender mail.Address) *mail.Refusal {
	for _, address := range e.addresses[from] {
		result := spf.Check(ctx, e.resolver, spf.Request{IP: address, HELO: e.helo, MailFrom: sender.String(), Now: time.Now()})
		switch result.Status {
		case spf.Pass:
			return mail.EgressInSPF.Because("SPF passes for %s from %s, an address of %s.bind", sender, address, poolNames(from))
		case spf.TempError:
			return mail.LookupFailed.Because("whether SPF of %s lists %s, from where this would leave: %v", sender.Domain(), address, result.Err)
		}
	}
	return nil
}

// count is how many domains list us.
func (e *egressSPF) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listed
}

// findings tells of them, by name, of the first with details.
func (e *egressSPF) findings() (findings []org.Finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range slices.SortedFunc(maps.Keys(e.told), func(a, b mail.Domain) int { return cmp.Compare(a.String(), b.String()) }) {
		l := e.told[name]
		findings = append(findings, org.Finding{Organisation: l.organisation, Text: l.text(name)})
	}
	if more := e.listed - len(e.told); more > 0 {
		findings = append(findings, org.Finding{Text: fmt.Sprintf("SPF of %d more domains passes for addresses that inbound or disowned mail leaves from (anechoic log search --event egress_listed)", more)})
	}
	return findings
}

// leavesAsNobody says that SPF of no sender's domain passes from where a message is
// about to leave that is in no organisation's name.
func (a *App) leavesAsNobody(ctx context.Context, lease *custody.Lease, content custody.Content, from nobodysPool) *mail.Refusal {
	header, err := mail.ParseHeader(content.Header(), mail.HeaderLimits{})
	if err != nil {
		return mail.Internal.Because("the stored header of %s: %v", lease.ID, err)
	}
	originators, refusal := lease.Message.Envelope.ReadOriginators(header)
	if refusal != nil {
		return refusal
	}
	return a.egressSPF.holds(ctx, from, lease.Message.Envelope.From, originators.From.Address)
}

// releaseListed lets what was held because of SPF try again; what may still not leave
// is held again.
func (a *App) releaseListed(ctx context.Context) {
	f := custody.Filter{State: custody.StateHeld, Limit: custody.MaxList}
	for {
		entries, next, err := a.queue.List(ctx, f)
		if err != nil {
			a.log.Error("what is held because of SPF could not be listed: release it yourself (anechoic queue release)", "error", err)
			return
		}
		for _, entry := range entries {
			if slices.ContainsFunc(entry.Recipients, func(r custody.RecipientEntry) bool { return r.Reason != mail.ReasonEgressInSPF }) {
				continue // a person holds it too
			}
			if _, err := a.queue.Release(ctx, custody.Filter{ID: entry.ID, State: custody.StateHeld, By: "spf"}, time.Now().UTC()); err != nil {
				a.log.Error("what was held because of SPF could not be released", "id", entry.ID, "error", err)
			}
		}
		if f.After = next; next == "" {
			return
		}
	}
}
