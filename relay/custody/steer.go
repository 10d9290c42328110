package custody

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// steer selects slots and changes them some at a time. One command runs at a
// time.
func (q *Queue) steer(ctx context.Context, f Filter, now time.Time, c command) (done Steered, err error) {
	select {
	case <-q.steering:
		defer func() { q.steering <- struct{}{} }()
	case <-ctx.Done():
		return done, ctx.Err()
	}
	defer q.wakeUp()
	seen := map[*entry]bool{}
	for chunk := range slices.Chunk(q.selectSlots(f), steerChunk) {
		t := turn{q: q, command: c, filter: f, now: now, dropped: map[*entry]int32{}}
		if err := t.run(ctx, chunk); err != nil {
			return done, fmt.Errorf("custody: %s: %w", c.event, err)
		}
		for _, s := range t.changes {
			seen[s.slot.entry] = true
			done.Recipients++
			if s.leased {
				done.Later++
			}
		}
		done.Messages = len(seen)
	}
	return done, nil
}

// selectSlots gives the slots whose message and domain a filter selects, in the
// order of ids.
func (q *Queue) selectSlots(f Filter) []*slot {
	q.mu.Lock()
	defer q.mu.Unlock()
	var found []*slot
	add := func(e *entry) {
		for _, s := range e.slots {
			if f.matchEntry(e) && (f.Domain.IsZero() || f.Domain == s.domain.domain) {
				found = append(found, s)
			}
		}
	}
	if f.ID != "" {
		if e := q.index.messages[f.ID]; e != nil {
			add(e)
		}
		return found
	}
	for _, e := range q.index.messages {
		add(e)
	}
	slices.SortFunc(found, func(a, b *slot) int {
		if a.entry.id < b.entry.id {
			return -1
		}
		return 1
	})
	return f.limit(found)
}

func (f Filter) matchEntry(e *entry) bool {
	return (f.ID == "" || f.ID == e.id) && (f.Org == "" || f.Org == e.org) && (f.After == "" || e.id > f.After)
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
		if s.entry.gone || len(s.rcpts) == 0 {
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
		inFlight := s.inFlight()
		var rcpt []string
		for i := range s.rcpts {
			r := &s.rcpts[i]
			if !t.applies(r, inFlight[r.number]) {
				continue
			}
			address, err := t.put(ctx, b, s, r, inFlight[r.number])
			if err != nil {
				return err
			}
			rcpt = append(rcpt, address.String())
		}
		if len(rcpt) > 0 {
			b.Facts = append(b.Facts, t.fact(s, rcpt))
		}
	}
	t.ended = t.endings(b)
	return nil
}

// inFlight is the numbers of the recipients whose attempt is.
func (s *slot) inFlight() map[uint32]bool {
	if s.lease == nil {
		return nil
	}
	m := make(map[uint32]bool, len(s.lease.numbers))
	for _, n := range s.lease.numbers {
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
	return t.state == recipientDropped || r.state == t.from
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

// put adds one recipient's change to the batch.
func (t *turn) put(ctx context.Context, b *Batch, s *slot, r *rcpt, leased bool) (mail.Address, error) {
	key := recipientKey(s.entry.id, r.number)
	value, err := t.q.engine.Get(ctx, key)
	if err != nil {
		return mail.Address{}, err
	}
	stored, err := decodeRecipient(value)
	if err != nil {
		return mail.Address{}, fmt.Errorf("%s: %w", key, err)
	}
	c := change{slot: s, number: r.number, leased: leased, due: stored.Due}
	if t.state == recipientQueued {
		c.due = t.now.UTC()
	}
	t.changes = append(t.changes, c)
	if t.state == recipientDropped && !leased {
		b.Delete = append(b.Delete, key)
		t.dropped[s.entry]++
		return stored.Address, nil
	}
	stored.State, stored.Reason, stored.Due = t.state, t.reason, c.due
	if value, err = encodeRecord(stored); err != nil {
		return mail.Address{}, err
	}
	b.Put = append(b.Put, Record{Key: key, Value: value})
	return stored.Address, nil
}

func (t *turn) fact(s *slot, rcpt []string) ledger.Fact {
	f := ledger.Fact{
		Time: t.now.UTC(), ID: s.entry.id, Event: t.event, Org: s.entry.org, Direction: "outbound",
		Rcpt: rcpt, Site: s.domain.domain.String(), Reason: t.reason, Disposition: disposition(t.event), Detail: t.detail,
	}
	if s.lease != nil && t.leased {
		f.Detail = "asked for while an attempt was in flight"
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
			e.finish(b)
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
		if s.lease == nil {
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
		if c.slot.lease.wishes == nil {
			c.slot.lease.wishes = map[uint32]wish{}
		}
		c.slot.lease.wishes[c.number] = wish{state: t.state, reason: t.reason}
	case t.state == recipientDropped:
		t.q.index.done(c.slot, func(r *rcpt) bool { return r.number == c.number })
	default:
		for i := range c.slot.rcpts {
			if r := &c.slot.rcpts[i]; r.number == c.number {
				t.q.index.change(r, t.state, c.due)
			}
		}
	}
}
