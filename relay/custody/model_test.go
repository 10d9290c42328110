package custody_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// model is what the queue should hold, kept as simply as can be: a state for
// each recipient, by message and address.
type model struct {
	t      *rapid.T
	proven custody.Warrant
	engine *fragile
	q      *custody.Queue
	now    time.Time
	leases []*custody.Lease
	rcpts  map[key]*modelRcpt
	order  []key // in the order of keeping
	next   int

	suspended map[mail.Domain]bool
	more      func() (bool, error) // reads on; nil: the queue was read
}

type key struct {
	id      mail.ID
	address string
}

type modelRcpt struct {
	state  custody.State // empty: done
	wish   custody.State // of a leased one: StateHeld, or "dropped"
	due    time.Time
	domain mail.Domain
	unsure bool // a commit about it failed: what is stored decides at the restart

	proven bool // by an organisation: only then it can be rerouted
	way    way
	next   way  // of a leased one: its way when the attempt ends
	turned bool // and a person chose it meanwhile
}

// way is where a person sends a recipient instead: to a next hop, or to its end.
type way struct {
	via string
	end bool
}

func wayOf(c *custody.Course) way {
	if c == nil {
		return way{}
	}
	return way{c.Via, c.End}
}

// lane is what leases are made of: one domain, one way.
type lane struct {
	domain mail.Domain
	way
}

func laneOf(l *custody.Lease) lane { return lane{l.Domain, way{l.Via, l.End}} }

func (r *modelRcpt) lane() lane { return lane{r.domain, r.way} }

const dropped custody.State = "dropped"

func (m *model) open() {
	m.more = nil
	q, err := custody.OpenQueue(ctx, m.engine, options)
	if err == nil {
		err = q.Read(ctx)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.q = q
}

// keep keeps a message; its commit may fail before or after it happened.
func (m *model) keep(t *rapid.T) {
	n := rapid.IntRange(1, 4).Draw(t, "recipients")
	to := make([]string, n)
	for i := range to {
		m.next++
		to[i] = fmt.Sprintf("r%d@d%d.test", m.next, rapid.IntRange(0, 3).Draw(t, "domain"))
	}
	s := submission(to...)
	s.ID = mail.NewID(m.now)
	proven := rapid.IntRange(0, 3).Draw(t, "a notice") > 0
	if proven {
		s.Warrant = m.proven
	}
	if rapid.IntRange(0, 5).Draw(t, "held") == 0 {
		s.Held = mail.ReasonHeld
	}
	_, err := m.q.Keep(ctx, s, m.now)
	for _, address := range to {
		k := key{s.ID, address}
		r := &modelRcpt{state: custody.StateQueued, due: m.now, domain: domain(address[len(address)-len("d0.test"):]), unsure: err != nil, proven: proven}
		if s.Held != "" {
			r.state = custody.StateHeld
		}
		m.rcpts[k] = r
		m.order = append(m.order, k)
	}
	m.afterCommit(err)
}

// afterCommit restarts the queue if a commit failed, as the program would be.
func (m *model) afterCommit(err error) {
	if err == nil {
		return
	}
	if !errors.Is(err, errLost) {
		m.t.Fatalf("unexpected error: %v", err)
	}
	m.restart(nil)
}

func (m *model) lease(t *rapid.T) {
	want := rapid.SampledFrom([]int{1, 2, 1000}).Draw(t, "want")
	skip := rapid.IntRange(-1, 3).Draw(t, "skip")
	skipped := domain("none.test")
	if skip >= 0 {
		skipped = domain(fmt.Sprintf("d%d.test", skip))
	}
	leases, err := m.q.Lease(ctx, m.now, want, func(c custody.Candidate) bool { return c.Domain == skipped })
	if err != nil {
		m.afterCommit(err)
		return
	}
	if len(leases) > want {
		m.t.Fatalf("%d leases, wanted %d", len(leases), want)
	}
	oldest := map[lane]time.Time{} // all of one organisation
	for _, l := range leases {
		if m.suspended[l.Domain] && !l.End {
			m.t.Fatalf("leased for %s, which is suspended", l.Domain)
		}
		if l.Domain == skipped {
			m.t.Fatalf("leased for %s, which was skipped", l.Domain)
		}
		first := m.leased(l)
		if first.Before(oldest[laneOf(l)]) {
			m.t.Fatalf("%v: due %s leased after due %s", laneOf(l), first, oldest[laneOf(l)])
		}
		oldest[laneOf(l)] = first
	}
	m.leases = append(m.leases, leases...)
	if want == 1000 && m.more == nil {
		m.nothingForgotten(skipped)
	}
}

// leased checks one lease, and gives when its first recipient was due.
func (m *model) leased(l *custody.Lease) (first time.Time) {
	for _, r := range l.Recipients {
		want := m.rcpts[key{l.ID, r.Address.String()}]
		switch {
		case want == nil || want.state == "":
			m.t.Fatalf("%s of %s was leased: it is done", r.Address, l.ID)
		case want.state != custody.StateQueued:
			m.t.Fatalf("%s of %s was leased: it is %s", r.Address, l.ID, want.state)
		case want.due.After(m.now):
			m.t.Fatalf("%s of %s was leased at %s: it is due at %s", r.Address, l.ID, m.now, want.due)
		case want.domain != l.Domain:
			m.t.Fatalf("%s was leased for %s", r.Address, l.Domain)
		case want.way != laneOf(l).way || wayOf(r.Course) != want.way:
			m.t.Fatalf("%s of %s was leased on the way %v, want %v", r.Address, l.ID, laneOf(l).way, want.way)
		}
		if first.IsZero() || want.due.Before(first) {
			first = want.due
		}
		want.state, want.next = custody.StateLeased, want.way
	}
	return first
}

// nothingForgotten says that all that is due was leased, but what shares its
// message, domain and way with a lease that was there before.
func (m *model) nothingForgotten(skipped mail.Domain) {
	busy := map[mail.ID]map[lane]bool{}
	for _, l := range m.leases {
		if busy[l.ID] == nil {
			busy[l.ID] = map[lane]bool{}
		}
		busy[l.ID][laneOf(l)] = true
	}
	for k, r := range m.rcpts {
		if r.state == custody.StateQueued && !r.due.After(m.now) && r.domain != skipped && (!m.suspended[r.domain] || r.way.end) && !busy[k.id][r.lane()] {
			m.t.Fatalf("%s of %s is due since %s and was not leased", k.address, k.id, r.due)
		}
	}
}

func (m *model) settle(t *rapid.T) {
	if len(m.leases) == 0 {
		t.Skip("nothing is leased")
	}
	i := rapid.IntRange(0, len(m.leases)-1).Draw(t, "lease")
	l := m.leases[i]
	m.leases = append(m.leases[:i:i], m.leases[i+1:]...)
	var outcomes []custody.Outcome
	results := make([]custody.Result, len(l.Recipients))
	for n := range l.Recipients {
		results[n] = rapid.SampledFrom([]custody.Result{custody.Delivered, custody.Deferred, custody.Bounced, custody.Held, custody.Untried}).Draw(t, "result")
		if results[n] != custody.Untried {
			outcomes = append(outcomes, custody.Outcome{Index: n, Result: results[n], Reply: "reply"})
		}
	}
	err := m.q.Settle(ctx, l, outcomes, nil, m.now)
	for n, r := range l.Recipients {
		m.settled(l, key{l.ID, r.Address.String()}, results[n], err != nil)
	}
	m.afterCommit(err)
}

func (m *model) settled(l *custody.Lease, k key, result custody.Result, failed bool) {
	r := m.rcpts[k]
	r.unsure = failed
	if result == custody.Deferred && l.Final(m.now) {
		result = custody.Bounced
	}
	turned := r.turned
	switch {
	case result == custody.Delivered || result == custody.Bounced || r.wish == dropped:
		r.state = ""
	case r.wish == custody.StateHeld, result == custody.Held && (!turned || !r.next.end):
		r.state = custody.StateHeld
	default:
		r.state = custody.StateQueued
	}
	r.wish, r.way, r.turned = "", r.next, false
	if failed || r.state != custody.StateQueued {
		return
	}
	if turned {
		result, r.due = custody.Untried, m.now // at once
	}
	m.readDue(k, r, result)
}

// readDue takes over the due time the queue chose, within what is allowed.
func (m *model) readDue(k key, r *modelRcpt, result custody.Result) {
	e, err := m.q.Show(ctx, k.id)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, s := range e.Recipients {
		if s.Address.String() != k.address {
			continue
		}
		if result == custody.Untried && !s.Due.Equal(r.due) {
			m.t.Fatalf("%s was not tried, was due %s and is due %s", k.address, r.due, s.Due)
		}
		if result == custody.Deferred && (s.Due.After(e.Expires) || s.Due.Before(m.now.Add(9*time.Minute)) && s.Due.Before(e.Expires)) {
			m.t.Fatalf("%s: next due %s at %s", k.address, s.Due, m.now)
		}
		r.due = s.Due
		return
	}
	m.t.Fatalf("%s is not in the queue", k.address)
}

// giveBack returns a lease that nobody attempted.
func (m *model) giveBack(t *rapid.T) {
	if len(m.leases) == 0 {
		t.Skip("nothing is leased")
	}
	i := rapid.IntRange(0, len(m.leases)-1).Draw(t, "lease")
	l := m.leases[i]
	m.leases = append(m.leases[:i:i], m.leases[i+1:]...)
	err := m.q.Return(ctx, []*custody.Lease{l}, time.Time{}, "no room", m.now)
	wished := false
	for _, r := range l.Recipients {
		one := m.rcpts[key{l.ID, r.Address.String()}]
		wished = wished || one.wish != "" || one.turned
	}
	for _, r := range l.Recipients {
		one := m.rcpts[key{l.ID, r.Address.String()}]
		one.unsure = err != nil && wished
		if one.turned {
			one.due = m.now
		}
		one.ended()
	}
	m.afterCommit(err)
}

// suspend suspends a domain, or resumes it.
func (m *model) suspend(t *rapid.T) {
	d := domain(fmt.Sprintf("d%d.test", rapid.IntRange(0, 3).Draw(t, "domain")))
	s := custody.Suspension{Scope: custody.ScopeDomain, Name: d.String(), By: "ann", At: m.now}
	var err error
	if m.suspended[d] {
		err = m.q.Resume(ctx, s)
	} else {
		err = m.q.Suspend(ctx, s)
	}
	if err == nil {
		m.suspended[d] = !m.suspended[d]
		return
	}
	m.afterCommit(err)
	m.suspended = map[mail.Domain]bool{}
	for _, s := range m.q.Suspensions() {
		m.suspended[domain(s.Name)] = true
	}
}

// restartSlowly is a restart after which the queue is read message by message,
// while everything else goes on.
func (m *model) restartSlowly(t *rapid.T) {
	m.readAll()
	for _, r := range m.rcpts {
		if r.unsure {
			t.Skip("what is stored is not known")
		}
	}
	m.engine.set(false, false)
	m.engine.Engine = m.engine.Engine.Clone()
	m.leases = nil
	var err error
	if m.q, m.more, err = custody.OpenInSteps(ctx, m.engine, options, rapid.IntRange(1, 3).Draw(t, "step")); err != nil {
		t.Fatal(err)
	}
	for _, r := range m.rcpts {
		r.ended()
	}
}

// ended is what becomes of a lease that a stop ended.
func (r *modelRcpt) ended() {
	switch {
	case r.state != custody.StateLeased:
	case r.wish == dropped:
		r.state = ""
	case r.wish == custody.StateHeld:
		r.state = custody.StateHeld
	default:
		r.state = custody.StateQueued
	}
	if r.turned {
		r.way = r.next
	}
	r.wish, r.turned = "", false
}

// read reads on, some messages. A commit of it may fail: then it is done again.
func (m *model) read(t *rapid.T) {
	if m.more == nil {
		t.Skip("it was read")
	}
	more, err := m.more()
	if err != nil {
		if !errors.Is(err, errLost) {
			t.Fatal(err)
		}
		m.engine.set(false, false)
		return
	}
	if !more {
		m.more = nil
	}
}

func (m *model) readAll() {
	for m.more != nil {
		m.engine.set(false, false)
		m.read(m.t)
	}
}

func (m *model) steer(t *rapid.T) {
	m.readAll() // commands wait for it
	f := custody.Filter{}
	if rapid.Bool().Draw(t, "by domain") {
		f.Domain = domain(fmt.Sprintf("d%d.test", rapid.IntRange(0, 3).Draw(t, "domain")))
	} else if len(m.order) > 0 {
		f.ID = m.order[rapid.IntRange(0, len(m.order)-1).Draw(t, "message")].id
	}
	var err error
	action := rapid.SampledFrom([]string{"hold", "release", "retry", "drop", "reroute", "back", "bounce"}).Draw(t, "action")
	switch action {
	case "hold":
		_, err = m.q.Hold(ctx, f, mail.ReasonHeld, m.now)
	case "release":
		_, err = m.q.Release(ctx, f, m.now)
	case "retry":
		_, err = m.q.Retry(ctx, f, m.now)
	case "drop":
		_, err = m.q.Drop(ctx, f, m.now)
	case "reroute":
		_, err = m.q.Reroute(ctx, f, custody.Course{Via: "hop.test:25", By: "ann"}, m.now)
	case "back":
		_, err = m.q.Reroute(ctx, f, custody.Course{By: "ann"}, m.now)
	case "bounce":
		_, err = m.q.Bounce(ctx, f, custody.Course{By: "ann"}, m.now)
	}
	for k, r := range m.rcpts {
		if (f.ID == "" || f.ID == k.id) && (f.Domain.IsZero() || f.Domain == r.domain) {
			r.steered(action, m.now, err != nil)
		}
	}
	m.afterCommit(err)
}

func (r *modelRcpt) steered(action string, now time.Time, failed bool) {
	before := *r
	switch {
	case r.state == "":
	case action == "hold" && r.state == custody.StateQueued:
		r.state = custody.StateHeld
	case action == "hold" && r.state == custody.StateLeased && r.wish != dropped:
		r.wish = custody.StateHeld
	case action == "hold" && r.state == custody.StateLeased:
		r.wish = custody.StateHeld // the last command counts
	case action == "release" && r.state == custody.StateHeld, action == "retry" && r.state == custody.StateQueued:
		r.state, r.due = custody.StateQueued, now
	case action == "drop" && r.state == custody.StateLeased:
		r.wish = dropped
	case action == "drop":
		r.state = ""
	case action == "reroute" && r.proven:
		r.turn(way{via: "hop.test:25"}, now)
	case action == "back" && r.proven:
		r.turn(way{}, now)
	case action == "bounce":
		r.end(now)
	}
	r.unsure = r.unsure || failed && *r != before
}

// turn is a reroute: whether it is held or given up is not its affair.
func (r *modelRcpt) turn(to way, now time.Time) {
	switch {
	case r.state == custody.StateLeased && r.next != to:
		r.next, r.turned = to, true
		if r.wish == "" {
			r.due = now
		}
	case r.state != custody.StateLeased && r.way != to:
		r.way = to
		if r.state == custody.StateQueued {
			r.due = now
		}
	}
}

// end is a bounce: what is held, or was to be held or dropped, comes to its end too.
func (r *modelRcpt) end(now time.Time) {
	end := way{end: true}
	switch {
	case r.state == custody.StateLeased && (r.next != end || r.wish != ""):
		r.next, r.turned, r.wish, r.due = end, true, "", now
	case r.state == custody.StateHeld, r.state == custody.StateQueued && r.way != end:
		r.way, r.state, r.due = end, custody.StateQueued, now
	}
}

func (m *model) advance(t *rapid.T) {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 12 * time.Minute, 2 * time.Hour, 25 * time.Hour}).Draw(t, "time"))
}

// restart is a stop at this point, whatever was in flight, and a start. What
// the model is unsure of it learns from the store.
func (m *model) restart(*rapid.T) {
	m.engine.set(false, false)
	m.engine.Engine = m.engine.Engine.Clone()
	m.leases = nil
	m.open()
	stored := map[key]custody.RecipientEntry{}
	entries, _, err := m.q.List(ctx, custody.Filter{Limit: custody.MaxList})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		for _, r := range e.Recipients {
			stored[key{e.ID, r.Address.String()}] = r
		}
	}
	for k, r := range m.rcpts {
		s, there := stored[k]
		switch {
		case r.unsure:
			r.state, r.due, r.way, r.turned = s.State, s.Due, wayOf(s.Course), false
		default:
			r.ended()
		}
		r.unsure, r.wish = false, ""
		if there != (r.state != "") || s.State != r.state || r.state == custody.StateQueued && !s.Due.Equal(r.due) || there && wayOf(s.Course) != r.way {
			m.t.Fatalf("after a restart %s of %s is %q due %s on the way %v, want %q due %s on the way %v", k.address, k.id, s.State, s.Due, wayOf(s.Course), r.state, r.due, r.way)
		}
	}
}

// fail makes the next commits fail, before or after they happen.
func (m *model) fail(t *rapid.T) {
	after := rapid.Bool().Draw(t, "after")
	m.engine.set(!after, after)
}

// check compares the counts.
func (m *model) check(*rapid.T) {
	want := custody.Depth{}
	for _, r := range m.rcpts {
		switch r.state {
		case custody.StateQueued:
			want.Queued++
		case custody.StateHeld:
			want.Held++
		case custody.StateLeased:
			want.Leased++
		}
	}
	if wrong := m.q.Miscounted(); wrong != "" {
		m.t.Fatal(wrong)
	}
	got := m.q.Depth()
	// Recipients beside leased ones of their message and domain are in no heap.
	if m.more != nil {
		if got.Held > want.Held || got.Leased != want.Leased || got.Queued > want.Queued {
			m.t.Fatalf("depth %+v while reading, want %+v", got, want)
		}
		return
	}
	if got.Held != want.Held || got.Leased != want.Leased || got.Queued > want.Queued {
		m.t.Fatalf("depth %+v, want %+v", got, want)
	}
}

// drain delivers all that is left, and looks at what remains: nothing but a
// ledger that verifies and tells one end for every recipient.
func (m *model) drain() {
	m.restart(nil)
	for _, s := range m.q.Suspensions() {
		if err := m.q.Resume(ctx, s); err != nil {
			m.t.Fatal(err)
		}
	}
	if _, err := m.q.Release(ctx, custody.Filter{}, m.now); err != nil {
		m.t.Fatal(err)
	}
	m.now = m.now.Add(48 * time.Hour)
	for {
		leases, err := m.q.Lease(ctx, m.now, 10, nil)
		if err != nil {
			m.t.Fatal(err)
		}
		if len(leases) == 0 {
			break
		}
		for _, l := range leases {
			if _, _, err := m.q.Load(ctx, l); err != nil {
				m.t.Fatal(err)
			}
			if err := m.q.Settle(ctx, l, all(l, custody.Outcome{Result: custody.Delivered}), nil, m.now); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.engine.Seal()
	if r, err := ledger.Verify(ctx, m.engine); err != nil || !r.OK() {
		m.t.Fatalf("%+v, %v", r, err)
	}
	m.ends()
	err := m.engine.Scan(ctx, "", "", func(k string, _ []byte) bool {
		for _, prefix := range []string{"message/", "recipient/", "aside/"} {
			if len(k) > len(prefix) && k[:len(prefix)] == prefix {
				m.t.Errorf("left %s", k)
			}
		}
		return true
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// ends reads the ledger: nobody is attempted after an end, everybody accepted
// has one.
func (m *model) ends() {
	ended, accepted := map[key]ledger.Event{}, map[key]bool{}
	err := ledger.Read(ctx, m.engine, 0, func(f ledger.Fact) bool {
		for _, address := range f.Rcpt {
			k := key{f.ID, address}
			switch f.Event {
			case ledger.Accepted:
				accepted[k] = true
			case ledger.Delivered, ledger.Bounced:
				if ended[k] != "" && ended[k] != ledger.Dropped {
					m.t.Fatalf("%s of %s was %s and then %s", address, f.ID, ended[k], f.Event)
				}
				ended[k] = f.Event
			case ledger.Dropped: // asked for, which an attempt in flight may outrun
				ended[k] = f.Event
			case ledger.Held, ledger.Released, ledger.Ended:
				if ended[k] == ledger.Dropped { // the command was taken back
					delete(ended, k)
				}
			case ledger.Leased:
				if ended[k] != "" {
					m.t.Fatalf("%s of %s was %s and then leased", address, f.ID, ended[k])
				}
			}
		}
		return true
	})
	if err != nil {
		m.t.Fatal(err)
	}
	for k := range accepted {
		if ended[k] == "" {
			m.t.Fatalf("%s of %s was accepted and has no end", k.address, k.id)
		}
	}
	for k, r := range m.rcpts {
		if !accepted[k] && r.state != "" {
			m.t.Fatalf("%s of %s was never accepted", k.address, k.id)
		}
	}
}

func TestTheQueueKeepsItsPromisesWhateverHappens(t *testing.T) {
	proven := provenWarrant(t)
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, proven: proven, engine: &fragile{Engine: memory.New()}, now: noon, rcpts: map[key]*modelRcpt{}, suspended: map[mail.Domain]bool{}}
		m.open()
		t.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"keep":    m.keep,
			"keep2":   m.keep,
			"lease":   m.lease,
			"lease2":  m.lease,
			"settle":  m.settle,
			"settle2": m.settle,
			"steer":   m.steer,
			"advance": m.advance,
			"restart": m.restart,
			"fail":    m.fail,
			"slowly":  m.restartSlowly,
			"return":  m.giveBack,
			"suspend": m.suspend,
			"read":    m.read,
			"read2":   m.read,
		})
		m.drain()
	})
}
