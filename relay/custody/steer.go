package custody

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// Steered says what a command reached.
type Steered struct {
	Messages   int
	Recipients int // changed
	Later      int // of those: an attempt is in flight; takes effect when it fails
}

// steerChunk is how many slots one durable batch of a command changes.
const steerChunk = 128

// command is one way of steering: of which recipients it changes what.
type command struct {
	event  ledger.Event
	from   recipientState // what it applies to
	leased bool           // also to what is leased, when the attempt ends
	state  recipientState // what it makes of it; recipientDropped: it is gone
	reason mail.Reason
	detail string
	course **Course // what it makes of the course; nil: it stays as it is
	stays  bool     // the state does; from does not count
	proven bool     // only messages that an organisation was proven to send
}

// Retry makes what is queued due now.
func (q *Queue) Retry(ctx context.Context, f Filter, now time.Time) (Steered, error) {
	return q.steer(ctx, f, now, command{event: ledger.Released, from: recipientQueued, state: recipientQueued, detail: "retry now"})
}

// Hold keeps what is queued or leased from being sent until it is released. An
// attempt in flight goes on; the hold is durable and takes effect if it fails.
func (q *Queue) Hold(ctx context.Context, f Filter, reason mail.Reason, now time.Time) (Steered, error) {
	return q.steer(ctx, f, now, command{event: ledger.Held, from: recipientQueued, leased: true, state: recipientHeld, reason: reason})
}

// Release makes what is held due now.
func (q *Queue) Release(ctx context.Context, f Filter, now time.Time) (Steered, error) {
	return q.steer(ctx, f, now, command{event: ledger.Released, from: recipientHeld, state: recipientQueued})
}

// Drop gives up what is queued, held or leased, without a bounce. An attempt in
// flight goes on; the drop is durable and takes effect if it fails.
func (q *Queue) Drop(ctx context.Context, f Filter, now time.Time) (Steered, error) {
	return q.steer(ctx, f, now, command{event: ledger.Dropped, leased: true, state: recipientDropped})
}

// Reroute sends what is queued to another next hop, at once, and what is held when it
// is released; a Course without Via leads back to where the domain does. Only mail
// that an organisation was proven to send is rerouted. An attempt in flight goes on;
// the change is durable and takes effect if it fails.
func (q *Queue) Reroute(ctx context.Context, f Filter, to Course, now time.Time) (Steered, error) {
	to.End, to.At = false, now.UTC()
	return q.recourse(ctx, f, now, command{event: ledger.Rerouted, leased: true, stays: true, proven: true}, to)
}

// Bounce ends what is queued or held, suspended or not, without another attempt: it
// is due at once for nothing but the notice to its sender, where that is proven and
// wants one. An attempt in flight goes on; the end is durable and comes if it fails.
func (q *Queue) Bounce(ctx context.Context, f Filter, end Course, now time.Time) (Steered, error) {
	end.Via, end.End, end.At = "", true, now.UTC()
	return q.recourse(ctx, f, now, command{event: ledger.Ended, leased: true, state: recipientQueued}, end)
}

func (q *Queue) recourse(ctx context.Context, f Filter, now time.Time, c command, to Course) (Steered, error) {
	if err := to.check(); err != nil {
		return Steered{}, fmt.Errorf("custody: %s: %w", c.event, err)
	}
	c.detail = to.String()
	course := &to
	if to.way() == (way{}) {
		course = nil
	}
	c.course = &course
	return q.steer(ctx, f, now, c)
}

// setCourse writes a course into a record, bound to its recipient.
func (q *Queue) setCourse(id mail.ID, number uint32, r *recipientRecord, c *Course) {
	r.Course = c
	r.MAC = q.seals.recipientMAC(id, number, &r.Recipient, c)
}

// steer selects slots and changes them some at a time. One command runs at a
// time. After an error it says how far it came.
func (q *Queue) steer(ctx context.Context, f Filter, now time.Time, c command) (done Steered, err error) {
	if err := q.readFor(ctx, f); err != nil {
		return done, fmt.Errorf("custody: %s: %w", c.event, err)
	}
	select {
	case <-q.steering:
		defer func() { q.steering <- struct{}{} }()
	case <-ctx.Done():
		return done, ctx.Err()
	}
	defer q.wakeUp()
	if c.detail == "" && f.By != "" { // a course has it in its own text
		c.detail = "by " + f.By
	}
	seen := map[*entry]bool{}
	for chunk := range slices.Chunk(q.selectSlots(f), steerChunk) {
		t := turn{q: q, command: c, filter: f, now: now, dropped: map[*entry]int32{}}
		if err := t.run(ctx, chunk); err != nil {
			return done, fmt.Errorf("custody: %s: stopped at %s, after %d recipients of %d messages: %w", c.event, chunk[0].entry.id(), done.Recipients, done.Messages, err)
		}
		for _, c := range t.changes {
			seen[c.slot.entry] = true
			done.Recipients++
			if c.leased {
				done.Later++
			}
		}
		done.Messages = len(seen)
		if f.Progress != nil {
			f.Progress(done)
		}
	}
	return done, nil
}

// selectSlots gives the slots whose message and domain a filter selects, in the
// order of ids.
func (q *Queue) selectSlots(f Filter) []*slot {
	found := q.findSlots(f)
	slices.SortFunc(found, func(a, b *slot) int {
		return bytes.Compare(a.entry.key[:], b.entry.key[:])
	})
	return f.limit(found)
}

// findSlots gives them in no order.
func (q *Queue) findSlots(f Filter) (found []*slot) {
	w := q.walk()
	defer w.end()
	add := func(e *entry) {
		for s := range e.slots {
			if f.matchEntry(e) && f.matchLane(s.lane) {
				found = append(found, s)
			}
		}
	}
	if f.ID != "" {
		if e := q.index.messages[keyOf(f.ID)]; e != nil {
			add(e)
		}
		return found
	}
	for _, e := range q.index.messages {
		add(e)
		w.rest()
	}
	return found
}

func (f Filter) matchEntry(e *entry) bool {
	return (f.ID == "" || keyOf(f.ID) == e.key) && (f.Org == "" || f.Org == e.org()) && (f.Source == "" || f.Source == e.origin.source) &&
		(f.Before.IsZero() || e.key.kept() < f.Before.UnixNano()) && (f.After == "" || e.id() > f.After)
}

func (f Filter) matchLane(l *lane) bool {
	return (f.Domain.IsZero() || f.Domain == l.to.domain) && (f.Leads == nil || f.Leads(l.to.domain, l.to.way.via))
}

func (f Filter) matchSender(m *messageRecord) bool {
	return f.Sender.IsZero() || f.Sender == m.Envelope.From.Domain()
}

func hasText(reply, part string) bool {
	return part == "" || strings.Contains(strings.ToLower(reply), strings.ToLower(part))
}

// limit cuts sorted slots after Limit messages.
func (f Filter) limit(slots []*slot) []*slot {
	messages := 0
	for i, s := range slots {
		if i == 0 || slots[i-1].entry != s.entry {
			if messages++; f.Limit > 0 && messages > f.Limit {
				return slots[:i]
			}
		}
	}
	return slots
}

// turn is one batch of a command.
type turn struct {
	q *Queue
	command
	filter  Filter
	now     time.Time
	claimed []*slot
	changes []change
	dropped map[*entry]int32 // recipients this batch ends
	ended   map[*entry]bool  // messages this batch ends
}

// change is what a turn does to one recipient.
type change struct {
	slot   *slot
	number uint32
	leased bool
	state  recipientState
	due    time.Time
}

// run claims the slots, writes, and brings the index in line.
func (t *turn) run(ctx context.Context, slots []*slot) error {
	t.claim(slots)
	var b Batch
	err := t.build(ctx, &b)
	if err == nil && len(t.changes) > 0 {
		err = t.q.engine.Commit(ctx, &b)
	}
	if err != nil {
		t.changes = nil
	}
	for _, e := range t.apply() {
		err = errors.Join(err, t.q.cleanUp(ctx, e))
	}
	return err
}

// claim keeps everybody else away from the slots.
func (t *turn) claim(slots []*slot) {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	for _, s := range slots {
		for s.busy {
			t.q.idle.Wait()
		}
		if s.entry.gone || len(s.rcpts()) == 0 {
			continue
		}
		s.busy = true
		s.entry.busy++
		t.q.index.letGo(s.entry) // from here on the stored records differ
		t.q.index.remove(s)
		t.claimed = append(t.claimed, s)
	}
}

// build reads the records, and writes the batch.
func (t *turn) build(ctx context.Context, b *Batch) error {
	for _, s := range t.claimed {
		selected, err := t.selects(ctx, s)
		if err != nil {
			return err
		}
		if !selected {
			continue
		}
		inFlight := s.inFlight()
		var rcpt []string
		rcpts := s.rcpts()
		for i := range rcpts {
			r := &rcpts[i]
			if !t.applies(r, inFlight[r.number]) {
				continue
			}
			address, changed, err := t.put(ctx, b, s, r, inFlight[r.number])
			if err != nil {
				return err
			}
			if changed {
				rcpt = append(rcpt, address.String())
			}
		}
		if len(rcpt) > 0 {
			b.Facts = append(b.Facts, t.fact(s, rcpt))
		}
	}
	t.ended = t.endings(b)
	return nil
}

// selects asks what only the record of the message says.
func (t *turn) selects(ctx context.Context, s *slot) (bool, error) {
	if !t.proven && t.filter.Sender.IsZero() {
		return true, nil
	}
	key := messageKey(s.entry.id())
	value, err := t.q.engine.Get(ctx, key)
	var m *messageRecord
	if err == nil {
		m, err = decodeMessage(value)
	}
	if unreadable(err) {
		t.q.opts.Log.Error("a message was passed over: what is stored of it is damaged", "event", t.event, "key", key, "cause", err)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", key, err)
	}
	return (!t.proven || m.Kind == KindProven) && t.filter.matchSender(m), nil
}

// inFlight is the numbers of the recipients whose attempt is.
func (s *slot) inFlight() map[uint32]bool {
	l := s.lease()
	if l == nil {
		return nil
	}
	m := make(map[uint32]bool, len(l.numbers))
	for _, n := range l.numbers {
		m[n] = true
	}
	return m
}

func (t *turn) applies(r *rcpt, leased bool) bool {
	if t.filter.State != "" && t.filter.State != publicState(r, leased) {
		return false
	}
	if leased {
		return t.leased
	}
	return t.state == recipientDropped || t.course != nil || r.state == t.from
}

func publicState(r *rcpt, leased bool) State {
	switch {
	case leased:
		return StateLeased
	case r.state == recipientQueued:
		return StateQueued
	}
	return StateHeld
}

// put adds one recipient's change to the batch, if it is one.
func (t *turn) put(ctx context.Context, b *Batch, s *slot, r *rcpt, leased bool) (of mail.Address, changed bool, err error) {
	key := recipientKey(s.entry.id(), r.number)
	value, err := t.q.engine.Get(ctx, key)
	var stored *recipientRecord
	if err == nil {
		stored, err = decodeRecipient(value)
	}
	if unreadable(err) {
		t.q.opts.Log.Error("a recipient was passed over: what is stored of it is damaged", "event", t.event, "key", key, "cause", err)
		return of, false, nil
	}
	if err != nil {
		return of, false, fmt.Errorf("%s: %w", key, err)
	}
	if !hasText(stored.Reply, t.filter.Reply) || t.isOnCourse(stored) {
		return of, false, nil
	}
	c := change{slot: s, number: r.number, leased: leased, state: t.state, due: stored.Due}
	if t.stays {
		c.state = stored.State
	}
	if c.state == recipientQueued {
		c.due = t.now.UTC()
	}
	t.changes = append(t.changes, c)
	if c.state == recipientDropped && !leased {
		b.Delete = append(b.Delete, key)
		t.dropped[s.entry]++
		return stored.Address, true, nil
	}
	if t.course != nil {
		if !t.q.seals.isAccepted(s.entry.id(), r.number, stored) {
			return of, false, fmt.Errorf("%s: %w: it is not the one that was accepted", key, errRecord)
		}
		t.q.setCourse(s.entry.id(), r.number, stored, *t.course)
	}
	stored.State, stored.Due = c.state, c.due
	if !t.stays {
		stored.Reason = t.reason
	}
	if value, err = encodeRecord(stored); err != nil {
		return of, false, err
	}
	b.Put = append(b.Put, Record{Key: key, Value: value})
	return stored.Address, true, nil
}

// isOnCourse says that a recipient is on the way it is to go already, and that
// nothing that was asked for meanwhile keeps it from there.
func (t *turn) isOnCourse(r *recipientRecord) bool {
	return t.course != nil && (*t.course).way() == r.Course.way() && (t.stays || r.State == t.state)
}

func (t *turn) fact(s *slot, rcpt []string) ledger.Fact {
	f := ledger.Fact{
		Time: t.now.UTC(), ID: s.entry.id(), Event: t.event, Org: s.entry.org(),
		Rcpt: rcpt, Site: s.lane.to.domain.String(), Reason: t.reason, Disposition: disposition(t.event), Detail: t.detail,
	}
	if s.lease() != nil && t.leased {
		f.Detail = strings.TrimPrefix(f.Detail+"; asked for while an attempt was in flight", "; ")
	}
	return f
}

// endings adds to the batch the end of messages of which it leaves nothing.
func (t *turn) endings(b *Batch) map[*entry]bool {
	ended := map[*entry]bool{}
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	for e, n := range t.dropped {
		if e.open == n {
			finish(b, e.id(), e.aside)
			ended[e] = true
		}
	}
	return ended
}

// apply brings the index in line with what was committed and lets go of the
// slots. It gives the messages that are done but not deleted yet.
func (t *turn) apply() (clean []*entry) {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	for _, c := range t.changes {
		t.applyOne(c)
	}
	for _, s := range t.claimed {
		if s.lease() == nil {
			t.q.replace(s)
		}
		if t.q.release(s, t.ended[s.entry]) {
			clean = append(clean, s.entry)
		}
	}
	return clean
}

func (t *turn) applyOne(c change) {
	switch {
	case c.leased:
		t.wish(c)
	case t.state == recipientDropped:
		t.q.index.done(c.slot, func(r *rcpt) bool { return r.number == c.number })
	default:
		rcpts := c.slot.rcpts()
		for i := range rcpts {
			if r := &rcpts[i]; r.number == c.number {
				t.q.index.change(c.slot, r, c.state, c.due)
			}
		}
		if t.course != nil {
			t.q.index.move(c.slot, c.number, (*t.course).way())
		}
	}
}

// wish notes what is to become of a recipient when its attempt ends. What an earlier
// command asked for stays, where this one says nothing of it.
func (t *turn) wish(c change) {
	l := c.slot.lease()
	if l.wishes == nil {
		l.wishes = map[uint32]wish{}
	}
	w := l.wishes[c.number]
	if !t.stays {
		w.state, w.reason = t.state, t.reason
	}
	if t.course != nil {
		w.course = t.course
	}
	l.wishes[c.number] = w
}
