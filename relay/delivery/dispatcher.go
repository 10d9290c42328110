package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/relay/custody"
	"anechoic/standard/dsn"
)

// Defaults and bounds of the dispatcher.
const (
	DefaultPerSite   = 20   // attempts at one site at a time
	DefaultWorkers   = 500  // attempts in all at a time
	DefaultMaxLeases = 5000 // leases in memory: being routed, ready, under way

	// DefaultDelayAfter is what RFC 3461 leaves to us and most relays do.
	DefaultDelayAfter = 4 * time.Hour

	leaseBatch  = 50               // leases taken at a time: one durable commit each batch
	pauseOnLoss = time.Second      // before a queue that gave an error is asked again
	notReadable = time.Minute      // before a message that could not be loaded is tried again
	settleTries = 3                // then a lease stays open until the relay starts again
	settleTime  = 30 * time.Second // for one try
	surplusWait = 5 * time.Second  // before a lease that found its site full is due again
)

// Dispatcher takes due messages out of the queue and sees each attempt to its
// end. Fields are set before Start. Leases wait in memory by site, where the
// organisations take turns. How many are attempted at a site at a time follows what
// it answers, within its limits; one that is found dead has its mail deferred
// without an attempt for a while, one that asks for less is left alone. Where there
// are not attempts for all, sites take turns: a slow site never holds up another.
type Dispatcher struct {
	Queue     *custody.Queue
	Router    *Router
	Transport Transport

	// Ask asks policy again whether the message may leave; nil to go on. A
	// temporary refusal defers, any other holds.
	Ask func(ctx context.Context, lease *custody.Lease, content custody.Content, warrant custody.Warrant) *mail.Refusal
	// Notice composes what the sender is told of recipients that failed for good.
	// It is called only where the sender is not null and wants to know. What it
	// gives is kept in the same batch as the failure. After an error the
	// recipients are tried again, where they have time left.
	Notice func(ctx context.Context, bounce Bounce) ([]custody.Submission, error)

	// Egress names the pool that a message leaves from; nil: all from the default.
	Egress func(warrant custody.Warrant) string

	// DelayAfter is how long after it was kept the sender is told that a message is
	// delayed, once for each recipient; zero: DefaultDelayAfter; negative: never.
	DelayAfter time.Duration
	// Limits bounds what is sent to a site; nil: PerSite attempts at a time.
	Limits Limits
	// Advise says what an answer means for its site; nil: nothing beyond what the
	// site teaches.
	Advise func(site string, domain mail.Domain, r Result) Advice

	// Known is where domains led lately, also before the start; nil: since the start.
	Known *custody.Sites

	PerSite   int // zero: DefaultPerSite; where Limits does not say
	Workers   int // attempts at a time; zero: DefaultWorkers
	MaxLeases int // zero: DefaultMaxLeases
	Log       *slog.Logger

	board   board
	running sync.WaitGroup // every goroutine of the dispatcher
	// stopLeasing ends the taking of leases and look-ups; stopAttempts what is
	// under way.
	stopLeasing, stopAttempts context.CancelFunc
	stopping                  atomic.Bool
	counters                  struct{ attempts, delivered, deferred, failed, held, setAside, panics, settleErrors atomic.Uint64 }
}

// NoticeKind is what a notice tells the sender of its recipients. The zero kind
// is NoticeFailed.
type NoticeKind int

// What a notice tells (RFC 3464 section 2.3.3).
const (
	NoticeFailed    NoticeKind = iota // they will not get the message, or have no time left
	NoticeDelayed                     // they did not get it yet; attempts go on
	NoticeRelayed                     // the next hop took it and tells nothing further: it does not offer DSN (RFC 3461 section 5.2.2)
	NoticeDelivered                   // the last hop took it for good
)

// Bounce is what Notice composes from: recipients of one lease of which the
// sender is to be told one and the same thing.
type Bounce struct {
	Kind     NoticeKind
	Lease    *custody.Lease
	Content  custody.Content
	Warrant  custody.Warrant
	Failures []Failure
	Now      time.Time
}

// ending is what Settle is told. Its now is the one that decided which recipients
// have no time left: for the bounce and for the queue alike.
type ending struct {
	now      time.Time
	outcomes []custody.Outcome
	notices  []custody.Submission
}

// Failure is the end of one recipient.
type Failure struct {
	Recipient custody.Recipient
	Result    Result
	Expired   bool // Result is a temporary failure, but there is no time left
}

// Counters is what a dispatcher did since Start, and does now. Recipients are
// counted, but for attempts, set-aside messages and faults.
type Counters struct {
	Attempts, Delivered, Deferred, Failed, Held uint64
	SetAside, Panics, SettleErrors              uint64

	Leases, Workers, Sites int // now
}

// Counters reads the counters.
func (d *Dispatcher) Counters() Counters {
	c := Counters{
		Attempts: d.counters.attempts.Load(), Delivered: d.counters.delivered.Load(), Deferred: d.counters.deferred.Load(),
		Failed: d.counters.failed.Load(), Held: d.counters.held.Load(), SetAside: d.counters.setAside.Load(),
		Panics: d.counters.panics.Load(), SettleErrors: d.counters.settleErrors.Load(),
	}
	c.Leases, c.Workers, c.Sites = d.board.now()
	return c
}

// Start begins to deliver. Stop must be called, once.
func (d *Dispatcher) Start() {
	orDefault := func(n, value int) int {
		if n > 0 {
			return n
		}
		return value
	}
	if d.Known == nil {
		d.Known = new(custody.Sites)
	}
	d.board.known = d.Known
	d.board.open(orDefault(d.PerSite, DefaultPerSite), orDefault(d.Workers, DefaultWorkers), orDefault(d.MaxLeases, DefaultMaxLeases), d.Limits)
	d.board.suspendedSite = d.Queue.SuspendedSite
	d.board.suspended = func(l *custody.Lease, site string) bool {
		_, suspended := d.Queue.Suspended(l, site)
		return suspended
	}
	leasing, stopLeasing := context.WithCancel(context.Background())
	attempting, stopAttempts := context.WithCancel(context.Background())
	d.stopLeasing, d.stopAttempts = stopLeasing, stopAttempts
	background.Vital(&d.running, d.Log, "delivery: leases", func() { d.run(leasing, attempting) })
}

// Stop takes no more leases, gives those back that wait, and waits for the
// attempts under way; those that are not over when ctx is are broken off and
// deferred. All goroutines have ended when it returns.
func (d *Dispatcher) Stop(ctx context.Context) {
	d.stopping.Store(true)
	d.stopLeasing()
	d.pump(context.Background())
	defer context.AfterFunc(ctx, d.stopAttempts)()
	d.running.Wait()
	d.stopAttempts()
}

// run leases what is due as long as there is room, and sleeps until there is
// something to do.
func (d *Dispatcher) run(leasing, attempting context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for leasing.Err() == nil {
		leased, err := d.lease(leasing, attempting)
		if leased {
			continue
		}
		d.pump(attempting)
		now := time.Now()
		due, ok := d.Queue.NextDue(now)
		if wake, sleeps := d.board.wake(); sleeps && (!ok || wake.Before(due)) {
			due, ok = wake, true
		}
		if err != nil {
			timer.Reset(pauseOnLoss)
		} else if ok {
			timer.Reset(due.Sub(now))
		} else {
			timer.Stop()
		}
		wake := d.Queue.Wake()
		if err != nil {
			wake = nil
		}
		select {
		case <-leasing.Done():
		case <-timer.C:
		case <-wake:
		case <-d.board.freed:
		}
	}
}

// lease takes one batch and routes it, a goroutine a domain: a domain whose DNS
// is slow delays itself only.
func (d *Dispatcher) lease(leasing, attempting context.Context) (leased bool, err error) {
	want := d.board.room()
	if want == 0 {
		return false, nil
	}
	now := time.Now()
	leases, err := d.Queue.Lease(leasing, now, min(want, leaseBatch), d.board.picker(now))
	if err != nil && leasing.Err() == nil {
		d.logError(leasing, "leases could not be taken", "", err)
	}
	type together struct {
		goal
		kind custody.WarrantKind // what is for an organisation goes to its own server
	}
	byGoal := make(map[together][]*custody.Lease, len(leases))
	for _, l := range leases {
		g := together{goalOf(l), l.Message.Kind}
		byGoal[g] = append(byGoal[g], l)
	}
	d.board.admit(leases)
	for g, leases := range byGoal {
		background.Vital(&d.running, d.Log, "delivery: a route", func() { d.route(leasing, attempting, g.goal, g.kind, leases) })
	}
	return len(leases) > 0, err
}

// goal is what leases share that are routed together.
type goal struct {
	domain mail.Domain
	via    string // the next hop a person chose instead
	end    bool   // a person ended them: they go nowhere
}

func goalOf(l *custody.Lease) goal { return goal{l.Domain, l.Via, l.End} }

// route finds the site of a domain and puts its leases there. Where there is no
// route, it sees them to their end itself.
func (d *Dispatcher) route(leasing, attempting context.Context, g goal, kind custody.WarrantKind, leases []*custody.Lease) {
	route, end := d.findRoute(leasing, g, kind)
	if end != nil {
		for _, l := range leases {
			d.attempt(attempting, task{lease: l, route: route, end: end})
			d.board.release(l)
		}
		return
	}
	now := time.Now()
	surplus := d.board.enqueue(g.domain, route, leases, now)
	back := make([]returned, len(surplus))
	for i, l := range surplus {
		back[i] = returned{lease: l, until: now.Add(surplusWait), why: "its site has enough waiting"}
	}
	d.giveBack(attempting, back)
	d.pump(attempting)
}

// pump begins what may begin, and gives back what may not.
func (d *Dispatcher) pump(ctx context.Context) {
	for _, t := range d.next(ctx) {
		background.Vital(&d.running, d.Log, "delivery: a worker", func() { d.work(ctx, t) })
	}
}

// next takes off the board what may begin; while the dispatcher stops, nothing.
func (d *Dispatcher) next(ctx context.Context) []task {
	now := time.Now()
	if d.stopping.Load() {
		var back []returned
		for _, l := range d.board.drain(now) {
			back = append(back, returned{lease: l, why: "the relay stops"})
		}
		d.giveBack(ctx, back)
		return nil
	}
	begin, back := d.board.pump(now)
	d.giveBack(ctx, back)
	return begin
}

// giveBack returns leases to the queue that nobody attempted, those with the same
// reason in one go.
func (d *Dispatcher) giveBack(ctx context.Context, list []returned) {
	type reason struct {
		until time.Time
		why   string
	}
	groups := make(map[reason][]*custody.Lease)
	for _, r := range list {
		k := reason{r.until, r.why}
		groups[k] = append(groups[k], r.lease)
	}
	for k, leases := range groups {
		returning, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		if err := d.Queue.Return(returning, leases, k.until, k.why, time.Now()); err != nil {
			d.logError(ctx, "leases were given back, but the ledger does not say so", "", err)
		}
		cancel()
		for _, l := range leases {
			d.board.release(l)
		}
	}
}

// findRoute asks the router. A panic is a fault of this program: it costs the
// leases of one domain one attempt.
func (d *Dispatcher) findRoute(ctx context.Context, g goal, kind custody.WarrantKind) (route Route, end *Result) {
	defer func() {
		if fault := recover(); fault != nil {
			d.counters.panics.Add(1)
			d.logError(ctx, "panic in the router", "", fmt.Errorf("%s\n%s", mail.PanicText(fault), debug.Stack()))
			route, end = Route{}, &Result{Status: Deferred, Enhanced: "4.3.0", Reply: "a fault in this server"}
		}
	}()
	switch {
	case g.end:
		return Route{}, &Result{Status: Failed, Enhanced: "5.0.0"} // see ended
	case g.via != "":
		return d.Router.Via(ctx, g.via)
	case kind == custody.KindInbound:
		return d.Router.Inward(ctx, g.domain)
	}
	return d.Router.Route(ctx, g.domain)
}

// ended are the results of recipients that a person ended: nobody is asked, policy
// neither, because nothing leaves but the notice to the sender.
func ended(l *custody.Lease) []Result {
	results := make([]Result, len(l.Recipients))
	for i, r := range l.Recipients {
		text := "an operator of this relay ended the attempts"
		if r.Course != nil && r.Course.Why != "" {
			text += ": " + r.Course.Why
		}
		results[i] = failed("5.0.0", "%s", text)
	}
	return results
}

// work attempts one task, and then what else may begin: the first of that itself.
func (d *Dispatcher) work(ctx context.Context, t task) {
	for {
		tells, why := d.attempt(ctx, t)
		d.board.finished(t, tells, why, time.Now())
		more := d.next(ctx)
		if len(more) == 0 {
			return
		}
		for _, other := range more[1:] {
			background.Vital(&d.running, d.Log, "delivery: a worker", func() { d.work(ctx, other) })
		}
		t = more[0]
	}
}

// attempt sees one lease to its end, and says what it tells of the site. A panic
// is a fault of this program: it costs this attempt only.
func (d *Dispatcher) attempt(ctx context.Context, t task) (tells lesson, why Result) {
	defer func() {
		if fault := recover(); fault != nil {
			d.counters.panics.Add(1)
			d.logError(ctx, "panic in an attempt", t.lease.ID, fmt.Errorf("%s\n%s", mail.PanicText(fault), debug.Stack()))
			d.settle(ctx, t.lease, all(t.lease, custody.Outcome{Result: custody.Deferred, Reply: "a fault in this server"}))
			tells, why = nothing, Result{}
		}
	}()
	if d.stopping.Load() {
		d.settle(ctx, t.lease, all(t.lease, custody.Outcome{Detail: "the relay stops"})) // untried: due as before
		return nothing, Result{}
	}
	end, results, ok := d.try(ctx, t)
	if ok {
		d.settle(ctx, t.lease, end)
	}
	d.heed(t, results)
	return lessonOf(results)
}

// try is the attempt itself: load, ask, deliver, and what the sender is told. Not ok
// means that the lease is over already.
func (d *Dispatcher) try(ctx context.Context, t task) (end ending, results []Result, ok bool) {
	if end, ok := d.skip(t); ok {
		return end, nil, true
	}
	d.counters.attempts.Add(1)
	content, warrant, err := d.Queue.Load(ctx, t.lease)
	switch {
	case errors.Is(err, custody.ErrSetAside):
		d.counters.setAside.Add(1)
		d.logError(ctx, "message set aside", t.lease.ID, err)
		return ending{}, nil, false
	case err != nil:
		d.logError(ctx, "message could not be loaded", t.lease.ID, err)
		return all(t.lease, custody.Outcome{Result: custody.Untried, NotBefore: time.Now().Add(notReadable), Detail: err.Error()}), nil, true
	}
	bounce := Bounce{Lease: t.lease, Content: content, Warrant: warrant}
	if t.lease.End {
		end = d.conclude(ctx, bounce, "", ended(t.lease))
		for i := range end.outcomes {
			end.outcomes[i].Class = "" // the words are ours: they say nothing of the recipient
		}
		return end, nil, true
	}
	if t.lease.Via != "" && warrant.Kind() != custody.KindProven {
		return d.refuse(ctx, bounce, mail.Internal.Because("message %s was rerouted without a proof", t.lease.ID)), nil, true
	}
	if d.Ask != nil {
		if refusal := d.Ask(ctx, t.lease, content, warrant); refusal != nil {
			return d.refuse(ctx, bounce, refusal), nil, true
		}
	}
	results = d.deliver(ctx, t, content, warrant)
	d.logAttempt(ctx, t, results)
	return d.conclude(ctx, bounce, t.route.Site, results), results, true
}

// skip defers what is for a site that is paused, where that tells the sender
// nothing. A message that was never attempted is not given up for want of time: its
// site may be back the next time.
func (d *Dispatcher) skip(t task) (end ending, ok bool) {
	now := time.Now()
	first := t.lease.Attempt == 1
	if t.site == nil || t.end == nil || !first && !d.silent(t.lease, now) {
		return ending{}, false
	}
	results := make([]Result, len(t.lease.Recipients))
	fill(results, *t.end)
	end = ending{now: now, outcomes: outcomes(t.route.Site, results)}
	for i := range end.outcomes {
		end.outcomes[i].Again, end.outcomes[i].Detail = first, "not attempted: the site did not answer others"
	}
	return end, true
}

// refuse holds what policy no longer permits, and defers where it cannot tell.
func (d *Dispatcher) refuse(ctx context.Context, b Bounce, r *mail.Refusal) ending {
	if !r.Temporary() {
		return all(b.Lease, custody.Outcome{Result: custody.Held, Reason: r.Reason(), Reply: r.Text(), Detail: r.Detail()})
	}
	results := make([]Result, len(b.Lease.Recipients))
	fill(results, deferred(r.Enhanced(), "%s", r.Text()))
	end := d.conclude(ctx, b, "", results)
	for i := range end.outcomes {
		end.outcomes[i].Reason, end.outcomes[i].Detail = r.Reason(), r.Detail()
	}
	return end
}

// deliver hands the message to the transport, unless the route was the end.
func (d *Dispatcher) deliver(ctx context.Context, t task, content custody.Content, warrant custody.Warrant) []Result {
	if t.end != nil {
		results := make([]Result, len(t.lease.Recipients))
		fill(results, *t.end)
		return results
	}
	m := t.lease.Message
	a := Attempt{ID: t.lease.ID, Message: m, Route: t.route, Envelope: m.Envelope, Size: content.Size(), Content: content}
	if d.Egress != nil {
		a.Egress = d.Egress(warrant)
	}
	a.Envelope.Recipients = make([]mail.Recipient, len(t.lease.Recipients))
	for i, r := range t.lease.Recipients {
		a.Envelope.Recipients[i] = r.Recipient
	}
	return d.Transport.Deliver(ctx, a)
}

func outcomes(site string, results []Result) []custody.Outcome {
	list := make([]custody.Outcome, len(results))
	for i, r := range results {
		list[i] = custody.Outcome{Index: i, Result: custody.Deferred, Reply: r.Reply, Site: site, TLS: r.TLS, Reason: r.Reason, Detail: r.Where()}
		if r.Egress.IsValid() {
			list[i].Egress = r.Egress.String()
		}
		switch r.Status {
		case Delivered:
			list[i].Result = custody.Delivered
		case Failed:
			list[i].Result = custody.Bounced
		}
		if r.Status != Delivered && r.Reason == "" {
			list[i].Class = string(dsn.Classify(0, r.Enhanced, r.Reply))
		}
	}
	return list
}

// postpone makes failures temporary: without its bounce a failure is not final.
func (e *ending) postpone() {
	e.notices = nil
	for i := range e.outcomes {
		e.outcomes[i].Told = false
		if e.outcomes[i].Result == custody.Bounced {
			e.outcomes[i].Result = custody.Deferred
		}
	}
}

// all is one outcome for every recipient of a lease.
func all(lease *custody.Lease, o custody.Outcome) ending {
	e := ending{now: time.Now(), outcomes: make([]custody.Outcome, len(lease.Recipients))}
	for i := range e.outcomes {
		e.outcomes[i], e.outcomes[i].Index = o, i
	}
	return e
}

// settle ends the lease durably, also while the dispatcher stops. What cannot be
// settled stays leased until the relay starts again, and is then due once more.
// If there is no room for the bounce, the failures wait for it.
func (d *Dispatcher) settle(ctx context.Context, lease *custody.Lease, e ending) {
	for n := 1; ; n++ {
		settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		err := d.Queue.Settle(settling, lease, e.outcomes, e.notices, e.now)
		cancel()
		if err == nil {
			d.count(e.outcomes)
			return
		}
		d.counters.settleErrors.Add(1)
		d.logError(ctx, "attempt could not be settled", lease.ID, err)
		if n == settleTries || errors.Is(err, custody.ErrBroken) || errors.Is(err, custody.ErrNoLease) {
			return
		}
		if errors.Is(err, custody.ErrFull) && len(e.notices) > 0 {
			e.postpone()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pauseOnLoss):
		}
	}
}

func (d *Dispatcher) count(outcomes []custody.Outcome) {
	for _, o := range outcomes {
		switch o.Result {
		case custody.Delivered:
			d.counters.delivered.Add(1)
		case custody.Deferred:
			d.counters.deferred.Add(1)
		case custody.Bounced:
			d.counters.failed.Add(1)
		case custody.Held:
			d.counters.held.Add(1)
		}
	}
}

// logAttempt writes one line an attempt. The ledger has the rest.
func (d *Dispatcher) logAttempt(ctx context.Context, t task, results []Result) {
	if d.Log == nil {
		return
	}
	var n [4]int
	worst := Result{}
	for _, r := range results {
		n[r.Status]++
		if r.Status >= worst.Status {
			worst = r
		}
	}
	d.Log.LogAttrs(ctx, slog.LevelInfo, "attempt",
		slog.String("id", string(t.lease.ID)), slog.String("domain", t.lease.Domain.String()), slog.String("site", t.route.Site),
		slog.Int("attempt", t.lease.Attempt), slog.Int("delivered", n[Delivered]), slog.Int("deferred", n[Deferred]), slog.Int("failed", n[Failed]),
		slog.String("host", worst.Where()), slog.String("tls", worst.TLS), slog.String("reply", worst.Reply))
}

func (d *Dispatcher) logError(ctx context.Context, what string, id mail.ID, err error) {
	if d.Log != nil {
		d.Log.LogAttrs(ctx, slog.LevelError, what, slog.String("id", string(id)), slog.String("error", err.Error()))
	}
}
