package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/limit"
	"anechoic/watch/detect"
	"anechoic/watch/response"
)

// responsePrefix begins the records of orders: response/<id>.
const responsePrefix = "response/"

// responses is what is done against findings: the machine that decides, what of it is
// in force, and the budgets of what is throttled. What is in force is an overlay of
// the Directory: it only ever takes away.
//
// A change counts once it is durable, with its fact in the same batch.
type responses struct {
	store     custody.Engine
	directory *atomic.Pointer[org.Directory]
	ceiling   response.Step
	patience  time.Duration          // between two steps; zero: response.Patience
	learnFor  time.Duration          // how long an organisation is here before anything is done without a person
	since     func(org.ID) time.Time // when it came
	log       *slog.Logger

	turn     chan struct{}    // whoever has its one token may use machine
	machine  response.Machine //
	overlay  atomic.Pointer[response.Overlay]
	lifted   atomic.Bool // something ended that held queued mail
	throttle limit.Limiter
}

// openResponses reads back what was in force.
func (a *App) openResponses() error {
	r := &responses{store: a.store, directory: &a.directory, ceiling: a.config.Response.Ceiling, learnFor: a.config.Response.LearnFor, since: a.orgs.since, log: a.log, turn: make(chan struct{}, 1)}
	a.responses = r
	r.turn <- struct{}{}
	r.lifted.Store(true) // perhaps, before the stop
	return r.reload(context.Background())
}

// reload makes the machine of what is stored.
func (r *responses) reload(ctx context.Context) error {
	var orders []response.Order
	var bad error
	err := r.store.Scan(ctx, responsePrefix, "", func(key string, value []byte) bool {
		o, err := response.Decode(value)
		if err == nil && responsePrefix+o.ID != key {
			err = errors.New("it is another one's")
		}
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("%s: %w", key, err))
			return true
		}
		orders = append(orders, o)
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("responses: %w", err) // what was in force must not be forgotten unnoticed
	}
	r.machine = response.Machine{Patience: r.patience}
	r.machine.Load(orders)
	r.publish()
	return nil
}

func (r *responses) publish() {
	v := r.machine.Overlay()
	r.overlay.Store(&v)
}

// take waits for the turn; the function gives it back.
func (r *responses) take(ctx context.Context) (done func(), err error) {
	select {
	case <-r.turn:
		return func() { r.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// change lets decide change the machine, and makes it durable. If that fails, nothing
// has changed.
func (r *responses) change(ctx context.Context, decide func(*response.Machine, time.Time) ([]response.Change, error)) ([]response.Change, error) {
	done, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	now := time.Now().UTC()
	changes, err := decide(&r.machine, now)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	b, err := batchOf(changes, now)
	if err == nil {
		err = r.store.Commit(ctx, b)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("responses: store %d changes: %w", len(changes), err), r.reload(context.WithoutCancel(ctx)))
	}
	r.publish()
	for _, c := range changes {
		if c.Was >= response.Suspend && (c.Order.Over() || c.Order.Step < response.Suspend) {
			r.lifted.Store(true)
		}
		if c.Told() {
			r.log.Warn("response "+string(c.What), "id", c.Order.ID, "org", c.Order.Scope.Org, "source", c.Order.Scope.Source, "domain", c.Order.Scope.Domain, "step", c.Order.Step.String(), "by", c.Order.By, "until", c.Order.Until)
		}
	}
	return changes, nil
}

// batchOf is the records and facts of changes.
func batchOf(changes []response.Change, now time.Time) (*custody.Batch, error) {
	b := &custody.Batch{}
	for _, c := range changes {
		if c.Told() {
			b.Facts = append(b.Facts, ledger.Fact{
				Time: now, Event: ledger.ResponseChanged, Org: c.Order.Scope.Org, Source: c.Order.Scope.Source, Detail: printable("response " + c.Order.ID + ": " + c.Sentence()),
			})
		}
		if c.What == response.Forgotten {
			b.Delete = append(b.Delete, responsePrefix+c.Order.ID)
			continue
		}
		text, err := json.Marshal(c.Order)
		if err != nil {
			return nil, err
		}
		b.Put = append(b.Put, custody.Record{Key: responsePrefix + c.Order.ID, Value: text})
	}
	return b, nil
}

// consider answers findings.
func (r *responses) consider(ctx context.Context, findings []detect.Finding) ([]response.Change, error) {
	if len(findings) == 0 {
		return nil, nil
	}
	return r.change(ctx, func(m *response.Machine, now time.Time) (changes []response.Change, _ error) {
		for _, f := range findings {
			if scope := f.Propose.Scope; r.there(scope) || scope.Org == "" && r.there(f.Scope) {
				changes = append(changes, m.Consider(f, r.most(f, now), now)...)
			}
		}
		return changes, nil
	})
}

// tick lets time act: what is over ends, and what is no longer in the registry.
func (r *responses) tick(ctx context.Context) ([]response.Change, error) {
	return r.change(ctx, func(m *response.Machine, now time.Time) ([]response.Change, error) {
		return append(m.Tick(now), m.Gone(r.there, now)...), nil
	})
}

// most is the strongest step that a finding leads to by itself. What is usual for an
// organisation is not known in its first days: then people are told, and decide.
func (r *responses) most(f detect.Finding, now time.Time) response.Step {
	id := org.ID(f.Scope.Org)
	o, ok := r.directory.Load().Organisation(id)
	if !ok || now.Sub(r.since(id)) < r.learnFor {
		return response.Log
	}
	allowed, err := response.ParseStep(o.Response.Automatic)
	if err != nil {
		return response.Log
	}
	return min(allowed, r.ceiling)
}

// there says that a scope is in the registry. A domain is one of the organisation, or
// below it.
func (r *responses) there(s detect.Scope) bool {
	dir := r.directory.Load()
	if _, ok := dir.Organisation(org.ID(s.Org)); !ok {
		return false
	}
	if s.Source != "" {
		if _, ok := dir.Source(org.ID(s.Org), s.Source); !ok {
			return false
		}
	}
	if s.Domain == "" {
		return true
	}
	name, err := mail.ParseDomain(s.Domain)
	if err != nil {
		return false
	}
	if owner, ok := dir.Owner(name); ok {
		return string(owner.Organisation) == s.Org
	}
	source, ok := dir.ProviderDomain(name)
	return ok && string(source.Organisation) == s.Org
}

// List, Apply and End are what the control API asks.
func (r *responses) List(ctx context.Context) ([]response.Order, error) {
	done, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return r.machine.Orders(), nil
}

// errNotInRegistry says that a person named what is not there.
var errNotInRegistry = fmt.Errorf("%w: the registry has no such organisation, source or domain", response.ErrBadWish)

func (a *App) applyResponse(ctx context.Context, w response.Wish) (response.Change, error) {
	w.Scope.Domain = strings.ToLower(w.Scope.Domain)
	if w.ID == "" && w.Scope.Org != "" && !a.responses.there(w.Scope) {
		return response.Change{}, errNotInRegistry
	}
	return a.steerResponse(ctx, func(m *response.Machine, now time.Time) (response.Change, error) { return m.Apply(w, now) })
}

func (a *App) endResponse(ctx context.Context, id, by, why string) (response.Change, error) {
	return a.steerResponse(ctx, func(m *response.Machine, now time.Time) (response.Change, error) { return m.End(id, by, why, now) })
}

// steerResponse is one change that a person asks for.
func (a *App) steerResponse(ctx context.Context, steer func(*response.Machine, time.Time) (response.Change, error)) (response.Change, error) {
	changes, err := a.responses.change(ctx, func(m *response.Machine, now time.Time) ([]response.Change, error) {
		c, err := steer(m, now)
		return []response.Change{c}, err
	})
	if err != nil {
		return response.Change{}, err
	}
	a.tellResponses(ctx, changes)
	return changes[0], nil
}

// respond does to a message of a proven source what is in force: refuses it or holds
// it. It does nothing to what policy refuses anyhow, but that what is suspended is not
// passed on in nobody's name either. What is throttled pays with all else: see charge.
func (in *intake) respond(ctx context.Context, m *offered, signAs mail.Domain, permitted bool, fact *ledger.Fact, now time.Time) (receipt custody.Receipt, refusal *mail.Refusal, done bool) {
	v := in.responses.overlay.Load()
	if m.proof.IsZero() || !v.Any(string(m.proof.Organisation())) {
		return receipt, nil, false
	}
	order, _ := v.Strongest(spoken(string(m.proof.Organisation()), m.proof.Source(), m.tx.Envelope.From, m.originators, signAs))
	switch {
	case order.Step >= response.Suspend:
		return receipt, suspendedBy(&order), true
	case !permitted:
		return receipt, nil, false
	case order.Step == response.Hold:
		d := in.detention(m, now)
		receipt, refusal = in.detain(ctx, d, mail.HeldNoRoom.Because("response %s holds it: %s", order.ID, order.Why), fact, now)
		return receipt, refusal, true
	}
	return receipt, nil, false
}

// throttled takes a message from all throttles that reach it, or from none.
func (r *responses) throttled(m *offered, signAs mail.Domain, now time.Time) (claims []limit.Claim, refusal *mail.Refusal) {
	v := r.overlay.Load()
	if !v.Any(string(m.proof.Organisation())) {
		return nil, nil
	}
	_, throttles := v.Strongest(spoken(string(m.proof.Organisation()), m.proof.Source(), m.tx.Envelope.From, m.originators, signAs))
	for _, t := range throttles {
		claims = append(claims, limit.Claim{Key: t.ID, Rate: throttleRate(t.Rate), Amount: 1})
	}
	if retry := r.throttle.Take(now, claims...); !retry.IsZero() {
		return nil, mail.RateLimited.Because("%s: no budget before %s", throttledBy(throttles), retry.UTC().Format(time.RFC3339))
	}
	return claims, nil
}

func throttledBy(throttles []response.Order) string {
	var texts []string
	for _, t := range throttles {
		texts = append(texts, fmt.Sprintf("response %s throttles it to %d messages an hour", t.ID, t.Rate))
	}
	return strings.Join(texts, ", ")
}

func suspendedBy(o *response.Order) *mail.Refusal {
	return mail.SourceSuspended.Because("response %s (%s of %s): %s", o.ID, o.Step, response.ScopeText(o.Scope), o.Why)
}

// throttleRate spreads so many messages an hour: who was quiet may send a minute's
// worth at once, not an hour's.
func throttleRate(hourly int) limit.Rate {
	if hourly >= 60 {
		return limit.Rate{Units: hourly / 60, Span: time.Minute}
	}
	return limit.Rate{Units: 1, Span: time.Hour / time.Duration(max(hourly, 1))}
}

// spoken is what responses ask of a message.
func spoken(organisation, source string, mailFrom mail.Address, o mail.Originators, signAs mail.Domain) response.Message {
	m := response.Message{Org: organisation, Source: source, From: o.From.Address.Domain().String()}
	for _, a := range slices.Concat([]mail.Address{mailFrom}, o.Sender, o.ResentFrom, o.ResentSender) {
		if !a.IsZero() {
			m.Others = append(m.Others, a.Domain().String())
		}
	}
	if !signAs.IsZero() {
		m.Others = append(m.Others, signAs.String())
	}
	return m
}

// stops says that what is queued or detained may not leave now: its source is
// suspended or its domain killed.
func (r *responses) stops(m response.Message) *mail.Refusal {
	if order, _ := r.overlay.Load().Strongest(m); order.Step >= response.Suspend {
		return suspendedBy(&order)
	}
	return nil
}

// stopsLease is stops for a message at its lease.
func (r *responses) stopsLease(lease *custody.Lease, content custody.Content, organisation org.ID, source string, signAs mail.Domain) *mail.Refusal {
	if !r.overlay.Load().Any(string(organisation)) {
		return nil
	}
	header, err := mail.ParseHeader(content.Header(), mail.HeaderLimits{})
	if err != nil {
		return mail.Internal.Because("the stored header of %s: %v", lease.ID, err)
	}
	originators, refusal := lease.Message.Envelope.ReadOriginators(header)
	if refusal != nil {
		return refusal
	}
	return r.stops(spoken(string(organisation), source, lease.Message.Envelope.From, originators, signAs))
}

// releaseLifted lets what was held because of a response try again, once one ended.
// What may still not leave is held again at its lease.
func (a *App) releaseLifted(ctx context.Context) {
	if !a.responses.lifted.Swap(false) {
		return
	}
	if a.queue.Read(ctx) == nil && a.queue.Depth().Held == 0 {
		return // as a rule: listing would read every message
	}
	f := custody.Filter{State: custody.StateHeld, Limit: custody.MaxList}
	for {
		entries, next, err := a.queue.List(ctx, f)
		if err != nil {
			a.log.Error("what responses held could not be listed: release it yourself (anechoic queue release)", "error", err)
			return
		}
		for _, entry := range entries {
			if a.stillSuspended(&entry) || slices.ContainsFunc(entry.Recipients, func(r custody.RecipientEntry) bool { return r.Reason != mail.ReasonSourceSuspended }) {
				continue
			}
			if _, err := a.queue.Release(ctx, custody.Filter{ID: entry.ID, State: custody.StateHeld, By: response.Watch}, time.Now().UTC()); err != nil {
				a.log.Error("what a response held could not be released", "id", entry.ID, "error", err)
			}
		}
		if f.After = next; next == "" {
			return
		}
	}
}

// stillSuspended says that the whole source of a queued message is suspended.
func (a *App) stillSuspended(e *custody.Entry) bool {
	return a.responses.stops(response.Message{Org: e.Organisation, Source: e.Source}) != nil
}

// killed are findings about domains that are killed: what else is to be done.
func (a *App) killed(dir *org.Directory) (findings []org.Finding) {
	v := a.responses.overlay.Load()
	for o := range dir.Organisations() {
		for _, scope := range v.Killed(string(o.ID)) {
			findings = append(findings, org.Finding{
				Organisation: o.ID, Source: scope.Source, Text: fmt.Sprintf("nothing is accepted, signed or sent for %s (response list): %s; when it ends, publish them as they were", scope.Domain, keyRecords(dir, scope.Domain, response.Withdraw)),
			})
		}
	}
	return findings
}

// recordsToDo is what a person is to do in DNS about a kill that began or ended.
func (a *App) recordsToDo(c response.Change) string {
	if what := c.DNS(); what != response.NothingInDNS {
		return "\n\nIn DNS: " + keyRecords(a.directory.Load(), c.Order.Scope.Domain, what) + "."
	}
	return ""
}

// keyRecords says which DKIM records to withdraw, which keeps stolen signatures from
// being believed, or to publish again.
func keyRecords(dir *org.Directory, domain string, what response.InDNS) string {
	name, err := mail.ParseDomain(domain)
	if err != nil {
		return "no key is known"
	}
	owner, ok := dir.Owner(name)
	if !ok || len(owner.Keys) == 0 {
		return "no key of ours signs for it"
	}
	var records []string
	for _, k := range owner.Keys {
		records = append(records, k.Selector+"._domainkey."+owner.Name.String())
	}
	return string(what) + " the TXT records " + strings.Join(records, ", ")
}

// responding is what the control API asks.
func (a *App) responding() api.Responding {
	return api.Responding{
		Watched: a.watch.shown.Load, Orders: a.responses.List, Apply: a.applyResponse, End: a.endResponse,
		Records: func(domain string, what response.InDNS) string { return keyRecords(a.directory.Load(), domain, what) },
	}
}
