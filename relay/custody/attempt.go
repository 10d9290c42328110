package custody

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"anechoic/ledger"
)

// Lease gives up to want leases of what is due at now: the organisations in turn,
// of each its domains in turn, in each what is due longest; all due recipients of a message at a domain
// together. skip, which may be nil, is asked before each lease whether it
// is to be passed over; it must not call the queue. The leased facts of
// all of them are durable when Lease returns. No lease and no error: nothing is
// due.
func (q *Queue) Lease(ctx context.Context, now time.Time, want int, skip func(Candidate) bool) ([]*Lease, error) {
	leases := q.take(now, want, skip)
	if len(leases) == 0 {
		return nil, ctx.Err()
	}
	good := leases[:0:0]
	var b Batch
	for _, l := range leases {
		err := q.fill(ctx, l)
		switch {
		case unreadable(err) || errors.Is(err, ErrNotFound):
			_ = q.setAside(ctx, l, err)
		case err != nil:
			q.giveBack(leases)
			return nil, fmt.Errorf("custody: lease %s: %w", l.ID, err)
		default:
			good = append(good, l)
			b.Facts = append(b.Facts, l.fact(ledger.Leased, now, l.addresses(nil)))
		}
	}
	if len(good) == 0 {
		return nil, nil
	}
	if err := q.engine.Commit(ctx, &b); err != nil {
		q.giveBack(good)
		return nil, fmt.Errorf("custody: lease: %w", err)
	}
	return good, nil
}

// take takes due slots out of the index and makes leases of them.
func (q *Queue) take(now time.Time, want int, skip func(Candidate) bool) []*Lease {
	q.mu.Lock()
	defer q.mu.Unlock()
	slots := q.index.take(now.UnixNano(), want, skip)
	if len(slots) == 0 {
		return nil
	}
	leases := make([]*Lease, len(slots))
	for i, s := range slots {
		l := &Lease{ID: s.entry.id(), Domain: s.lane.to.domain, Via: s.lane.to.way.via, End: s.lane.to.way.end, slot: s, at: now, recent: q.index.atHand(s.entry)}
		rcpts := s.rcpts()
		for j := range rcpts {
			if r := &rcpts[j]; r.state == recipientQueued && r.due <= now.UnixNano() {
				l.numbers = append(l.numbers, r.number)
			}
		}
		q.index.countLeased(s, int32(len(l.numbers)))
		s.setLease(l)
		leases[i] = l
	}
	return leases
}

// fill gives a lease its records.
func (q *Queue) fill(ctx context.Context, l *Lease) (err error) {
	if l.record, l.stored, err = q.records(ctx, l); err != nil {
		return err
	}
	l.Message = l.record.message(l.ID)
	l.Recipients = make([]Recipient, len(l.stored))
	for i, r := range l.stored {
		l.Recipients[i] = Recipient{Recipient: r.Recipient, Attempts: int(r.Attempts), LastReply: r.Reply, Told: r.Told, Course: r.Course}
		l.Attempt = max(l.Attempt, int(r.Attempts)+1)
	}
	return nil
}

// records are those of a lease: at hand since Keep, or read and checked.
func (q *Queue) records(ctx context.Context, l *Lease) (*messageRecord, []*recipientRecord, error) {
	stored := make([]*recipientRecord, len(l.numbers))
	if l.recent != nil {
		for i, n := range l.numbers {
			stored[i] = &l.recent.recipients[n]
		}
		return l.recent.record, stored, nil
	}
	b, err := q.engine.Get(ctx, messageKey(l.ID))
	if err != nil {
		return nil, nil, err
	}
	m, err := decodeMessage(b)
	if err != nil {
		return nil, nil, err
	}
	if m.Org != l.slot.entry.org() || m.Source != l.slot.entry.origin.source {
		return nil, nil, fmt.Errorf("%w: it is of another organisation or source than its summary says", errRecord)
	}
	for i, n := range l.numbers {
		if stored[i], err = q.recipient(ctx, l, n); err != nil {
			return nil, nil, err
		}
	}
	return m, stored, nil
}

// recipient reads one recipient of a lease, which must be the one that was
// accepted.
func (q *Queue) recipient(ctx context.Context, l *Lease, number uint32) (*recipientRecord, error) {
	b, err := q.engine.Get(ctx, recipientKey(l.ID, number))
	if err != nil {
		return nil, err
	}
	r, err := decodeRecipient(b)
	if err != nil {
		return nil, err
	}
	if !q.seals.isAccepted(l.ID, number, r) || r.Address.Domain() != l.Domain || r.Course.way() != (way{l.Via, l.End}) {
		return nil, fmt.Errorf("%w: recipient %d is not the one that was accepted", errRecord, number)
	}
	return r, nil
}

// giveBack ends leases as if they had never been.
func (q *Queue) giveBack(leases []*Lease) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range leases {
		if l.slot.lease() == l {
			q.endLease(l)
			q.replace(l.slot)
		}
	}
}

// Return ends leases that nobody attempted, with a reason why. They are due as
// before, but not before notBefore as far as that is within the longest retry; this
// much is in memory only. It costs one write that nobody waits for, with the facts:
// so it is for what could not be attempted at all, by the hundred. What a person
// asked for meanwhile takes effect.
func (q *Queue) Return(ctx context.Context, leases []*Lease, notBefore time.Time, why string, now time.Time) error {
	notBefore = earlier(notBefore, now.Add(q.opts.longestWait()))
	b := Batch{Lazy: true}
	var steered []*Lease
	q.mu.Lock()
	for _, l := range leases {
		for l.slot.busy {
			q.idle.Wait()
		}
		switch {
		case l.slot.lease() != l:
		case len(l.wishes) > 0:
			steered = append(steered, l)
		default:
			q.postpone(l, notBefore)
			f := l.fact(ledger.Deferred, now, l.addresses(nil))
			f.Disposition, f.Detail = ledger.DispositionDeferred, "not attempted: "+why
			b.Facts = append(b.Facts, f)
		}
	}
	q.mu.Unlock()
	q.wakeUp()
	var err error
	for _, l := range steered {
		err = errors.Join(err, q.Settle(ctx, l, nil, nil, now))
	}
	if len(b.Facts) > 0 {
		err = errors.Join(err, q.engine.Commit(ctx, &b))
	}
	if err != nil {
		return fmt.Errorf("custody: return leases: %w", err)
	}
	return nil
}

// postpone ends a lease; its recipients are not due before a time. mu is held.
func (q *Queue) postpone(l *Lease, notBefore time.Time) {
	q.endLease(l)
	rcpts := l.slot.rcpts()
	for i := range rcpts {
		if slices.Contains(l.numbers, rcpts[i].number) {
			rcpts[i].due = max(rcpts[i].due, notBefore.UnixNano())
		}
	}
	q.replace(l.slot)
}

// endLease takes a lease from its slot. mu is held.
func (q *Queue) endLease(l *Lease) {
	l.slot.setLease(nil)
	q.index.countLeased(l.slot, -int32(len(l.numbers)))
}

// replace puts a slot back that nobody has any more. mu is held.
func (q *Queue) replace(s *slot) {
	if s.entry.gone {
		q.index.done(s, func(*rcpt) bool { return true })
		return
	}
	if len(s.rcpts()) > 0 {
		q.index.place(s)
	}
}

// addresses are those of the recipients with the given indexes; nil: of all.
func (l *Lease) addresses(of []int) []string {
	if of == nil {
		all := make([]string, len(l.Recipients))
		for i, r := range l.Recipients {
			all[i] = r.Address.String()
		}
		return all
	}
	some := make([]string, len(of))
	for i, n := range of {
		some[i] = l.Recipients[n].Address.String()
	}
	return some
}

// fact is an event of the lease.
func (l *Lease) fact(event ledger.Event, now time.Time, rcpt []string) ledger.Fact {
	return ledger.Fact{
		Time: now.UTC(), ID: l.ID, Event: event, Org: l.record.Org, Source: l.record.Source, Direction: l.record.direction(),
		MailFrom: l.record.Envelope.From.String(), Rcpt: rcpt, Size: l.record.Size, Attempt: l.Attempt, Site: l.Domain.String(),
	}
}

// Load gives what is to be sent, and by what right. Content and warrant are
// verified: the warrant opens only for this message, envelope and content as
// they were kept. What does not open is set aside with a fact, and the lease is
// over: ErrSetAside. Another error says that the engine could not read; the
// lease goes on.
func (q *Queue) Load(ctx context.Context, l *Lease) (Content, Warrant, error) {
	if l.recent != nil && l.recent.header != nil {
		return l.recent.content(), l.recent.warrant, nil // it never left this process
	}
	w, err := q.seals.open(l.ID, l.record)
	if err != nil {
		return Content{}, nil, q.setAside(ctx, l, err)
	}
	body, err := q.engine.OpenBody(ctx, string(l.ID))
	switch {
	case unreadable(err) || errors.Is(err, ErrNotFound):
		return Content{}, nil, q.setAside(ctx, l, err)
	case err != nil:
		return Content{}, nil, fmt.Errorf("custody: load %s: %w", l.ID, err)
	}
	c, err := readContent(body, l.record)
	switch {
	case unreadable(err):
		return Content{}, nil, q.setAside(ctx, l, err)
	case err != nil:
		return Content{}, nil, fmt.Errorf("custody: load %s: %w", l.ID, err)
	}
	return c, w, nil
}

// content is what is at hand since Keep.
func (r *recent) content() Content {
	return Content{header: r.header, body: r.body, size: r.record.Size}
}

// readContent reads a body through and compares it with what was kept.
func readContent(body StoredBody, m *messageRecord) (Content, error) {
	if body.Size() != m.Size {
		return Content{}, fmt.Errorf("%w: the content has %d octets, %d were kept", errRecord, body.Size(), m.Size)
	}
	if whole, ok := body.Whole(); ok {
		if sum := sha256.Sum256(whole); !bytes.Equal(sum[:], m.Hash) {
			return Content{}, fmt.Errorf("%w: the content is not what was kept", errRecord)
		}
		return Content{header: whole[:m.HeaderSize:m.HeaderSize], body: whole[m.HeaderSize:], size: m.Size}, nil
	}
	c := Content{header: make([]byte, m.HeaderSize), stored: body, size: m.Size}
	if n, err := body.ReadAt(c.header, 0); n < len(c.header) {
		return Content{}, err
	}
	sum, _, err := hashContent(nil, io.NewSectionReader(body, 0, m.Size))
	if err != nil {
		return Content{}, err
	}
	if !bytes.Equal(sum, m.Hash) {
		return Content{}, fmt.Errorf("%w: the content is not what was kept", errRecord)
	}
	return c, nil
}
