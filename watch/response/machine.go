package response

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/watch/detect"
)

// ErrNotFound says that there is no order of an id that is not over.
var ErrNotFound = errors.New("no such response")

// ErrBadWish says that a person asked for what makes no sense.
var ErrBadWish = errors.New("bad response")

// Times and bounds. They are ours: docs/response.md gives the reasons.
const (
	Patience   = 15 * time.Second    // a step has this long to work before the next
	MutedFor   = 24 * time.Hour      // what a person ended is not begun again by the same kinds of findings
	Probation  = time.Hour           // at its end a stronger step is a throttle this long
	Waiting    = 24 * time.Hour      // a proposal without new findings is dropped
	Remembered = 30 * 24 * time.Hour // ended orders
	MaxOrders  = 10_000              // that are not over
	MaxEnded   = 1_000

	DefaultRate = 100 // messages an hour, where a finding names none

	maxNames = 16 // findings and kinds of one order
	maxText  = 400
)

// lasting is how long each step is in force where the finding names no time. Zero:
// until a person ends it.
var lasting = [...]time.Duration{Log: Waiting, Throttle: time.Hour, Hold: 4 * time.Hour, Suspend: 24 * time.Hour, Kill: 0}

// Machine holds the orders. It is for one goroutine; the zero Machine is empty and
// ready.
type Machine struct {
	Patience time.Duration // zero: the constant Patience

	orders map[string]*Order
	live   map[detect.Scope]*Order // those that are not over
	count  uint64                  // of orders, for their ids
}

// Load takes over stored orders. It is called once, first.
func (m *Machine) Load(orders []Order) {
	m.ready()
	for _, o := range orders {
		m.orders[o.ID] = &o
		if !o.Over() {
			m.live[o.Scope] = &o
		}
	}
}

func (m *Machine) ready() {
	if m.orders == nil {
		m.orders, m.live = map[string]*Order{}, map[detect.Scope]*Order{}
	}
}

// Orders is all that is known, those that are not over first, then the latest first.
func (m *Machine) Orders() []Order {
	all := make([]Order, 0, len(m.orders))
	for _, o := range m.orders {
		all = append(all, o.clone())
	}
	slices.SortFunc(all, func(a, b Order) int {
		if a.Over() != b.Over() {
			if a.Over() {
				return 1
			}
			return -1
		}
		return cmp.Or(b.Since.Compare(a.Since), strings.Compare(a.ID, b.ID))
	})
	return all
}

// Get is one order.
func (m *Machine) Get(id string) (Order, bool) {
	o, ok := m.orders[id]
	if !ok {
		return Order{}, false
	}
	return o.clone(), true
}

func (o *Order) clone() Order {
	c := *o
	c.Findings, c.Kinds = slices.Clone(o.Findings), slices.Clone(o.Kinds)
	return c
}

// Consider takes a finding, when it begins and whenever it goes on. most is the
// strongest step that is taken without a person, for this organisation.
func (m *Machine) Consider(f detect.Finding, most Step, now time.Time) []Change {
	m.ready()
	wants, scope := wanted(f)
	if wants == Log || scope.Org == "" || m.muted(scope, f.Kind, now) {
		return nil
	}
	target := borne(min(wants, most), scope)
	o := m.live[scope]
	if o == nil {
		return m.begin(f, scope, wants, target, now)
	}
	return m.goesOn(o, f, wants, target, now)
}

// wanted is the step that a finding proposes, as far as its scope bears it.
func wanted(f detect.Finding) (Step, detect.Scope) {
	step, scope := Step(f.Propose.Step), f.Propose.Scope
	if scope.Org == "" {
		scope = f.Scope
	}
	return borne(min(max(step, Log), Kill), scope), scope
}

// borne is the strongest step, up to one, that a scope bears.
func borne(step Step, scope detect.Scope) Step {
	switch {
	case step == Kill && scope.Domain == "":
		return borne(Suspend, scope)
	case step == Suspend && scope.Source == "":
		return borne(Hold, scope)
	case step == Hold && scope.Source == "" && scope.Domain == "":
		return Throttle
	}
	return step
}

// above is the next step that a scope bears.
func above(step Step, scope detect.Scope) Step {
	next := step + 1
	for next < Kill && borne(next, scope) != next {
		next++
	}
	return next
}

// begin opens an order with its first step.
func (m *Machine) begin(f detect.Finding, scope detect.Scope, wants, target Step, now time.Time) []Change {
	if len(m.live) >= MaxOrders {
		return nil
	}
	o := &Order{ID: m.newID(scope, now), Scope: scope, Since: now, By: Watch, Why: cut(f.Sentence), Wants: wants}
	m.orders[o.ID], m.live[scope] = o, o
	o.note(f)
	o.take(min(target, Throttle), f, now)
	if o.Step == Log {
		return []Change{{Proposed, Log, o.clone()}}
	}
	return []Change{{Begun, Log, o.clone()}}
}

// goesOn lets a finding that goes on climb, or last.
func (m *Machine) goesOn(o *Order, f detect.Finding, wants, target Step, now time.Time) (changes []Change) {
	o.note(f)
	was := o.Step
	proposed := wants > o.Wants
	o.Wants = max(o.Wants, wants)
	mine := o.By == Watch
	if mine && target > o.Step && (o.Step == Log || now.Sub(o.StepAt) >= cmp.Or(m.Patience, Patience) && f.Last.After(o.StepAt)) {
		o.take(above(o.Step, o.Scope), f, now)
		o.Why = cut(f.Sentence)
		if was == Log {
			return []Change{{Begun, was, o.clone()}}
		}
		return []Change{{Raised, was, o.clone()}}
	}
	if proposed && o.Wants > max(target, o.Step) {
		o.Why = cut(f.Sentence)
		changes = append(changes, Change{Proposed, was, o.clone()})
	}
	if until := now.Add(o.span(f)); mine && f.Last.After(o.StepAt) && !o.Until.IsZero() && until.Sub(o.Until) >= o.span(f)/4 {
		o.Until = until
		changes = append(changes, Change{Extended, was, o.clone()})
	}
	return changes
}

// take puts a step in force.
func (o *Order) take(step Step, f detect.Finding, now time.Time) {
	o.Step, o.StepAt, o.Until = step, now, time.Time{}
	if step == Throttle {
		o.Rate = cmp.Or(max(f.Propose.Rate, 0), o.Rate, DefaultRate)
	}
	if span := o.span(f); span > 0 {
		o.Until = now.Add(span)
	}
}

// span is how long the step lasts: as the finding says if it is what it proposed.
func (o *Order) span(f detect.Finding) time.Duration {
	if Step(f.Propose.Step) == o.Step && f.Propose.For > 0 {
		return f.Propose.For
	}
	return lasting[o.Step]
}

func (o *Order) note(f detect.Finding) {
	if !slices.Contains(o.Findings, f.ID) {
		o.Findings = latest(append(o.Findings, f.ID))
	}
	if !slices.Contains(o.Kinds, f.Kind) {
		o.Kinds = latest(append(o.Kinds, f.Kind))
	}
}

func latest[T any](all []T) []T { return slices.Clone(all[max(0, len(all)-maxNames):]) }

// muted says that a person ended the answer to such findings not long ago.
func (m *Machine) muted(scope detect.Scope, kind detect.Kind, now time.Time) bool {
	for _, o := range m.orders {
		if o.Over() && o.EndedBy != Watch && o.Scope == scope && now.Sub(o.Ended) < MutedFor && slices.Contains(o.Kinds, kind) {
			return true
		}
	}
	return false
}

// Tick ends what is over, after it was lowered, and forgets what ended long ago.
func (m *Machine) Tick(now time.Time) (changes []Change) {
	for _, o := range m.orders {
		switch {
		case o.Over() || o.Until.IsZero() || o.Until.After(now):
		case o.By == Watch && o.Step > Throttle:
			changes = append(changes, o.lower(now))
		default:
			changes = append(changes, m.end(o, Watch, "its time is over", now))
		}
	}
	changes = append(changes, m.forget(now)...)
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Order.ID, b.Order.ID) })
	return changes
}

// lower makes a throttle of a stronger step.
func (o *Order) lower(now time.Time) Change {
	was := o.Step
	o.Step, o.StepAt, o.Until, o.Rate = Throttle, now, now.Add(Probation), cmp.Or(o.Rate, DefaultRate)
	o.Wants = Throttle
	return Change{Lowered, was, o.clone()}
}

func (m *Machine) end(o *Order, by, why string, now time.Time) Change {
	was := o.Step
	o.Ended, o.EndedBy, o.EndedWhy = now, by, cut(why)
	delete(m.live, o.Scope)
	return Change{Over, was, o.clone()}
}

// forget drops ended orders that are old, or too many.
func (m *Machine) forget(now time.Time) (changes []Change) {
	var ended []*Order
	for _, o := range m.orders {
		if o.Over() {
			ended = append(ended, o)
		}
	}
	slices.SortFunc(ended, func(a, b *Order) int { return cmp.Or(b.Ended.Compare(a.Ended), strings.Compare(a.ID, b.ID)) })
	for i, o := range ended {
		if i >= MaxEnded || now.Sub(o.Ended) >= Remembered {
			delete(m.orders, o.ID)
			changes = append(changes, Change{Forgotten, o.Step, o.clone()})
		}
	}
	return changes
}

// Wish is what a person asks for. With the ID of an order that is not over, Scope is
// its scope.
type Wish struct {
	ID    string
	Scope detect.Scope
	Step  Step
	Rate  int           // of Throttle; zero: DefaultRate
	For   time.Duration // zero: until somebody ends it
	By    string
	Why   string
}

// Apply puts exactly what a person asks for in force, whatever step it was before.
// Who may ask is not decided here.
func (m *Machine) Apply(w Wish, now time.Time) (Change, error) {
	m.ready()
	if w.ID != "" {
		o, ok := m.orders[w.ID]
		if !ok || o.Over() {
			return Change{}, fmt.Errorf("response %.40q: %w", w.ID, ErrNotFound)
		}
		w.Scope = o.Scope
	}
	if err := w.check(); err != nil {
		return Change{}, err
	}
	o, what := m.live[w.Scope], Raised
	switch {
	case o == nil && len(m.live) >= MaxOrders:
		return Change{}, fmt.Errorf("%w: there are %d already, end some first", ErrBadWish, MaxOrders)
	case o == nil:
		o = &Order{ID: m.newID(w.Scope, now), Scope: w.Scope, Since: now, Wants: w.Step}
		m.orders[o.ID], m.live[w.Scope], what = o, o, Begun
	case o.Step == Log:
		what = Begun
	case w.Step <= o.Step:
		what = Lowered
	}
	was := o.Step
	o.Step, o.StepAt, o.Until, o.By, o.Why = w.Step, now, time.Time{}, w.By, cut(w.Why)
	if w.For > 0 {
		o.Until = now.Add(w.For)
	}
	if o.Rate = 0; w.Step == Throttle {
		o.Rate = cmp.Or(w.Rate, DefaultRate)
	}
	return Change{what, was, o.clone()}, nil
}

func (w *Wish) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrBadWish}, args...)...)
	}
	switch {
	case w.By == "" || w.By == Watch:
		return bad("it is not said who asks")
	case w.Why == "":
		return bad("it is not said why")
	case w.Scope.Org == "":
		return bad("it names no organisation")
	case w.Step <= Log || w.Step > Kill:
		return bad("%s does nothing: throttle, hold, suspend or kill", w.Step)
	case w.Step == Suspend && w.Scope.Source == "":
		return bad("suspend is of a source: name it as organisation/source")
	case w.Step == Kill && w.Scope.Domain == "":
		return bad("kill is of a domain: name it")
	case w.Rate < 0 || w.For < 0:
		return bad("neither a rate nor a time is negative")
	}
	return nil
}

// End ends an order because a person says so.
func (m *Machine) End(id, by, why string, now time.Time) (Change, error) {
	o, ok := m.orders[id]
	switch {
	case !ok || o.Over():
		return Change{}, fmt.Errorf("response %.40q: %w", id, ErrNotFound)
	case by == "" || by == Watch:
		return Change{}, fmt.Errorf("%w: it is not said who asks", ErrBadWish)
	}
	return m.end(o, by, cmp.Or(why, "no reason given"), now), nil
}

// Gone ends what stands for organisations, sources and domains that are no more.
func (m *Machine) Gone(there func(detect.Scope) bool, now time.Time) (changes []Change) {
	for scope, o := range m.live {
		if !there(scope) {
			changes = append(changes, m.end(o, Watch, "it is no longer in the registry", now))
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Order.ID, b.Order.ID) })
	return changes
}

// newID names an order by its scope and time, so that the same events give the same
// names.
func (m *Machine) newID(scope detect.Scope, now time.Time) string {
	for {
		m.count++
		sum := sha256.Sum256([]byte(scope.Org + "\n" + scope.Source + "\n" + scope.Domain + "\n" + strconv.FormatInt(now.UnixNano(), 10) + "\n" + strconv.FormatUint(m.count, 10)))
		if id := hex.EncodeToString(sum[:5]); m.orders[id] == nil {
			return id
		}
	}
}

// cut bounds a text and makes it one printable line.
func cut(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxText)]
}
