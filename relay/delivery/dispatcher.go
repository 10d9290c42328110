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
	"anechoic/relay/custody"
)

// Defaults and bounds of the dispatcher.
const (
	DefaultPerSite   = 20   // attempts at one site at a time
	DefaultWorkers   = 500  // attempts in all at a time
	DefaultMaxLeases = 5000 // leases in memory: being routed, ready, under way

	leaseBatch  = 50               // leases taken at a time: one durable commit each batch
	pauseOnLoss = time.Second      // before a queue that gave an error is asked again
	notReadable = time.Minute      // before a message that could not be loaded is tried again
	settleTries = 3                // then a lease stays open until the relay starts again
	settleTime  = 30 * time.Second // for one try
	surplusWait = 5 * time.Second  // before a lease that found its site full is due again
)

// Dispatcher takes due messages out of the queue and sees each attempt to its
// end. Fields are set before Start. Leases wait in memory by site, first come,
// first served; a bounded number of workers a site attempts them one after the
// other, so that a connection serves many messages. Where all workers are busy,
// sites take turns: a slow site never holds up another.
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

	PerSite   int // zero: DefaultPerSite
	Workers   int // zero: DefaultWorkers
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

// Bounce is what Notice composes from: recipients of one lease that failed for
// good, or have no time left.
type Bounce struct {
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
	d.board.open(orDefault(d.PerSite, DefaultPerSite), orDefault(d.Workers, DefaultWorkers), orDefault(d.MaxLeases, DefaultMaxLeases))
	leasing, stopLeasing := context.WithCancel(context.Background())
	attempting, stopAttempts := context.WithCancel(context.Background())
	d.stopLeasing, d.stopAttempts = stopLeasing, stopAttempts
	d.running.Go(func() { d.run(leasing, attempting) })
}

// Stop takes no more leases, gives those back that wait, and waits for the
// attempts under way; those that are not over when ctx is are broken off and
// deferred. All goroutines have ended when it returns.
func (d *Dispatcher) Stop(ctx context.Context) {
	d.stopping.Store(true)
	d.stopLeasing()
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
		now := time.Now()
		if due, ok := d.Queue.NextDue(now); err != nil {
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
	leases, err := d.Queue.Lease(leasing, time.Now(), min(want, leaseBatch), d.board.picker())
	if err != nil && leasing.Err() == nil {
		d.logError(leasing, "leases could not be taken", "", err)
	}
	byDomain := make(map[mail.Domain][]*custody.Lease, len(leases))
	for _, l := range leases {
		byDomain[l.Domain] = append(byDomain[l.Domain], l)
	}
	d.board.admit(leases)
	for domain, leases := range byDomain {
		d.running.Go(func() { d.route(leasing, attempting, domain, leases) })
	}
	return len(leases) > 0, err
}

// route finds the site of a domain and puts its leases there. Where there is no
// route, it sees them to their end itself.
func (d *Dispatcher) route(leasing, attempting context.Context, domain mail.Domain, leases []*custody.Lease) {
	route, end := d.findRoute(leasing, domain)
	if end != nil {
		for _, l := range leases {
			d.attempt(attempting, task{lease: l, route: route, end: end})
		}
		return
	}
	start, surplus := d.board.enqueue(domain, route, leases)
	for range start {
		d.running.Go(func() { d.work(attempting, route.Site) })
	}
	for _, l := range surplus {
		d.settle(attempting, l, all(l, custody.Outcome{Result: custody.Untried, NotBefore: time.Now().Add(surplusWait)}))
		d.board.release(l)
	}
}

// findRoute asks the router. A panic is a fault of this program: it costs the
// leases of one domain one attempt.
func (d *Dispatcher) findRoute(ctx context.Context, domain mail.Domain) (route Route, end *Result) {
	defer func() {
		if fault := recover(); fault != nil {
			d.counters.panics.Add(1)
			d.logError(ctx, "panic in the router", "", fmt.Errorf("%s\n%s", mail.PanicText(fault), debug.Stack()))
			route, end = Route{}, &Result{Status: Deferred, Enhanced: "4.3.0", Reply: "a fault in this server"}
		}
	}()
	return d.Router.Route(ctx, domain)
}

// work attempts what is ready, at the site it was started for and then where it
// is needed.
func (d *Dispatcher) work(ctx context.Context, site string) {
	for {
		next, at, ok := d.board.next(site)
		if !ok {
			return
		}
		site = at
		d.attempt(ctx, next)
	}
}

// attempt sees one lease to its end. A panic is a fault of this program: it
// costs this attempt only.
func (d *Dispatcher) attempt(ctx context.Context, t task) {
	defer d.board.release(t.lease)
	defer func() {
		if fault := recover(); fault != nil {
			d.counters.panics.Add(1)
			d.logError(ctx, "panic in an attempt", t.lease.ID, fmt.Errorf("%s\n%s", mail.PanicText(fault), debug.Stack()))
			d.settle(ctx, t.lease, all(t.lease, custody.Outcome{Result: custody.Deferred, Reply: "a fault in this server"}))
		}
	}()
	if d.stopping.Load() {
		d.settle(ctx, t.lease, all(t.lease, custody.Outcome{Detail: "the relay stops"})) // untried: due as before
		return
	}
	if end, ok := d.try(ctx, t); ok {
		d.settle(ctx, t.lease, end)
	}
}

// try is the attempt itself: load, ask, deliver, and the bounce. Not ok means
// that the lease is over already.
func (d *Dispatcher) try(ctx context.Context, t task) (end ending, ok bool) {
	d.counters.attempts.Add(1)
	content, warrant, err := d.Queue.Load(ctx, t.lease)
	switch {
	case errors.Is(err, custody.ErrSetAside):
		d.counters.setAside.Add(1)
		d.logError(ctx, "message set aside", t.lease.ID, err)
		return ending{}, false
	case err != nil:
		d.logError(ctx, "message could not be loaded", t.lease.ID, err)
		return all(t.lease, custody.Outcome{Result: custody.Untried, NotBefore: time.Now().Add(notReadable), Detail: err.Error()}), true
	}
	bounce := Bounce{Lease: t.lease, Content: content, Warrant: warrant}
	if d.Ask != nil {
		if refusal := d.Ask(ctx, t.lease, content, warrant); refusal != nil {
			return d.refuse(ctx, bounce, refusal), true
		}
	}
	results := d.deliver(ctx, t, content)
	d.logAttempt(ctx, t, results)
	return d.conclude(ctx, bounce, t.route.Site, results), true
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
func (d *Dispatcher) deliver(ctx context.Context, t task, content custody.Content) []Result {
	if t.end != nil {
		results := make([]Result, len(t.lease.Recipients))
		fill(results, *t.end)
		return results
	}
	m := t.lease.Message
	a := Attempt{ID: t.lease.ID, Route: t.route, Envelope: m.Envelope, Size: content.Size(), Content: content}
	a.Envelope.Recipients = make([]mail.Recipient, len(t.lease.Recipients))
	for i, r := range t.lease.Recipients {
		a.Envelope.Recipients[i] = r.Recipient
	}
	return d.Transport.Deliver(ctx, a)
}

// conclude turns results into outcomes, and failures into a bounce.
func (d *Dispatcher) conclude(ctx context.Context, b Bounce, site string, results []Result) ending {
	b.Now = time.Now()
	end := ending{now: b.Now, outcomes: outcomes(site, results)}
	b.Failures = failures(b.Lease, results, b.Now)
	if len(b.Failures) == 0 || d.Notice == nil {
		return end
	}
	var err error
	if end.notices, err = d.Notice(ctx, b); err != nil {
		d.logError(ctx, "bounce could not be composed, recipients are tried again while they have time", b.Lease.ID, err)
		end.postpone()
	}
	return end
}

func outcomes(site string, results []Result) []custody.Outcome {
	list := make([]custody.Outcome, len(results))
	for i, r := range results {
		list[i] = custody.Outcome{Index: i, Result: custody.Deferred, Reply: r.Reply, Site: site, TLS: r.TLS, Detail: r.Where()}
		switch r.Status {
		case Delivered:
			list[i].Result = custody.Delivered
		case Failed:
			list[i].Result = custody.Bounced
		}
	}
	return list
}

// failures lists the recipients whose failure the sender wants to hear of. Mail
// from the null sender is never answered (RFC 5321 section 6.1).
func failures(lease *custody.Lease, results []Result, now time.Time) (list []Failure) {
	if lease.Message.Envelope.From.IsZero() {
		return nil
	}
	for i, r := range results {
		expired := r.Status == Deferred && lease.Final(now)
		if (r.Status == Failed || expired) && lease.Recipients[i].Notify.OnFailure() {
			list = append(list, Failure{Recipient: lease.Recipients[i], Result: r, Expired: expired})
		}
	}
	return list
}

// postpone makes failures temporary: without its bounce a failure is not final.
func (e *ending) postpone() {
	e.notices = nil
	for i := range e.outcomes {
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
