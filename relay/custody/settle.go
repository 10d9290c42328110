package custody

import (
	"context"
	"fmt"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// verdict is what becomes of one recipient of a lease.
type verdict struct {
	event  ledger.Event
	done   bool // the recipient is
	tried  bool
	state  recipientState
	due    time.Time
	retry  time.Time // due, before a person's command; zero: no retry
	reason mail.Reason
	detail string
	course **Course // nil: it stays as it is
	Outcome
}

// Settle ends a lease with the result for each recipient; one that no outcome
// names was not tried. Records, facts and notices (bounces, which are kept as
// by Keep) are one durable batch; with the last recipient the message and its
// body go too. A recipient deferred when the message has expired is bounced (see
// Lease.Final). What a person asked for while the attempt was in flight takes
// effect now. After an error nothing is settled as far as is known, and Settle
// can be called again: the recipients stay leased until it succeeds.
func (q *Queue) Settle(ctx context.Context, l *Lease, outcomes []Outcome, notices []Submission, now time.Time) error {
	var b Batch
	kept := make([]*staged, len(notices))
	for i, n := range notices {
		var err error
		if kept[i], err = q.stage(ctx, &b, n, now); err != nil {
			return fmt.Errorf("custody: settle %s: keep the notice %s: %w", l.ID, n.ID, err)
		}
	}
	if err := q.beginSettle(l); err != nil {
		return fmt.Errorf("custody: settle %s: %w", l.ID, err)
	}
	verdicts, err := q.judge(l, outcomes, now)
	if err == nil {
		err = q.write(&b, l, verdicts, now)
	}
	last := err == nil && q.lastOf(l, verdicts)
	if last {
		finish(&b, l.ID, l.slot.entry.aside)
	}
	if err == nil {
		err = q.engine.Commit(ctx, &b)
	}
	if err != nil {
		q.abortSettle(l)
		return fmt.Errorf("custody: settle %s: %w", l.ID, err)
	}
	for _, k := range kept {
		q.enter(k)
	}
	clean := q.endSettle(l, verdicts, last)
	q.wakeUp()
	if clean {
		return q.cleanUp(ctx, l.slot.entry)
	}
	return nil
}

// beginSettle waits for a person's command about these recipients to be
// written, and keeps others away.
func (q *Queue) beginSettle(l *Lease) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for l.slot.busy {
		q.idle.Wait()
	}
	if l.slot.lease() != l {
		return ErrNoLease
	}
	l.slot.busy = true
	l.slot.entry.busy++
	q.index.letGo(l.slot.entry) // from here on the stored records differ
	return nil
}

func (q *Queue) abortSettle(l *Lease) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.slot.busy = false
	l.slot.entry.busy--
	q.idle.Broadcast()
}

// judge says what becomes of each recipient.
func (q *Queue) judge(l *Lease, outcomes []Outcome, now time.Time) ([]verdict, error) {
	verdicts := make([]verdict, len(l.Recipients))
	for i := range verdicts {
		verdicts[i].Outcome = Outcome{Index: i, Detail: "not attempted"}
	}
	for _, o := range outcomes {
		if o.Index < 0 || o.Index >= len(verdicts) || o.Result > Held {
			return nil, fmt.Errorf("outcome %d with result %d fits none of %d recipients", o.Index, o.Result, len(verdicts))
		}
		verdicts[o.Index].Outcome = o
	}
	for i := range verdicts {
		var before *verdict
		if i > 0 {
			before = &verdicts[i-1]
		}
		q.judgeOne(l, i, &verdicts[i], before, now)
	}
	return verdicts, nil
}

// judgeOne says it of one. What failed together with the one before it is due together
// again: one transaction, and one notice to the sender.
func (q *Queue) judgeOne(l *Lease, i int, v, before *verdict, now time.Time) {
	v.tried = v.Result != Untried
	v.reason, v.detail = v.Reason, v.Detail
	switch v.Result {
	case Delivered:
		v.event, v.done = ledger.Delivered, true
		return
	case Bounced:
		v.event, v.done = ledger.Bounced, true
		return
	case Held:
		v.event, v.state, v.due = ledger.Held, recipientHeld, now
		v.tried = false // nobody was asked
	case Deferred:
		if l.Final(now) && !v.Again {
			v.event, v.done, v.detail = ledger.Bounced, true, "expired: "+v.Detail
			break
		}
		v.event = ledger.Deferred
		last := l.Message.Expires
		if l.Final(now) {
			last = time.Time{}
		}
		v.due = q.retryAt(now, int(l.stored[i].Attempts)+1, v.NotBefore, last)
		if before != nil && !before.retry.IsZero() && l.stored[i].Attempts == l.stored[i-1].Attempts && v.NotBefore.Equal(before.NotBefore) {
			v.due = before.retry
		}
		v.retry = v.due
	case Untried:
		v.event, v.due = ledger.Deferred, later(l.stored[i].Due, earlier(v.NotBefore, now.Add(q.opts.longestWait())))
	}
	if w, asked := l.wishes[l.numbers[i]]; asked && !v.done {
		v.obey(w, now)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b.UTC()
	}
	return a
}

// obey lets a command take effect that came while the attempt was in flight.
func (v *verdict) obey(w wish, now time.Time) {
	switch w.state {
	case recipientHeld:
		v.event, v.state, v.due, v.reason = ledger.Held, recipientHeld, now, w.reason
	case recipientDropped:
		v.event, v.done = ledger.Dropped, true
	}
	if w.course == nil || v.done {
		return
	}
	v.course = w.course
	if c := *w.course; c != nil && c.End && w.state == recipientQueued { // not held after it was ended
		v.event, v.state, v.reason = ledger.Deferred, recipientQueued, ""
	}
	if v.state == recipientQueued {
		v.due = now.UTC()
	}
}

// write adds to the batch what the verdicts change, and the facts that tell it.
func (q *Queue) write(b *Batch, l *Lease, verdicts []verdict, now time.Time) error {
	for i := range verdicts {
		v, key := &verdicts[i], recipientKey(l.ID, l.numbers[i])
		if l.slot.entry.gone { // set aside whole, meanwhile
			key = asidePrefix + key
		}
		if v.done {
			b.Delete = append(b.Delete, key)
			continue
		}
		r := *l.stored[i]
		r.Due, r.State, r.Reason = v.due, v.state, v.reason
		if v.tried {
			r.Attempts, r.Reply = r.Attempts+1, v.Reply
		}
		r.Told = r.Told || v.Told
		if r.State == recipientQueued {
			r.Reason = ""
		}
		if v.course != nil {
			q.setCourse(l.ID, l.numbers[i], &r, *v.course)
		}
		value, err := encodeRecord(&r)
		if err != nil {
			return err
		}
		b.Put = append(b.Put, Record{Key: key, Value: value})
	}
	b.Facts = append(b.Facts, l.facts(verdicts, now)...)
	return nil
}

// facts are one for each group of recipients that fared the same.
func (l *Lease) facts(verdicts []verdict, now time.Time) []ledger.Fact {
	type fate struct {
		event                    ledger.Event
		reply, site, tls, detail string
		reason                   mail.Reason
		class, egress            string
	}
	facts := make([]ledger.Fact, 0, 1)
	seen := map[fate]int{}
	for i := range verdicts {
		v := &verdicts[i]
		k := fate{v.event, v.Reply, v.Site, v.TLS, v.detail, v.reason, v.Class, v.Egress}
		n, ok := seen[k]
		if !ok {
			n = len(facts)
			seen[k] = n
			f := l.fact(v.event, now, nil)
			f.Reply, f.TLS, f.Detail, f.Reason, f.Disposition = v.Reply, v.TLS, v.detail, v.reason, disposition(v.event)
			f.Class, f.Egress = v.Class, v.Egress
			if v.Site != "" {
				f.Site = v.Site
			}
			facts = append(facts, f)
		}
		facts[n].Rcpt = append(facts[n].Rcpt, l.Recipients[i].Address.String())
	}
	return facts
}

func disposition(e ledger.Event) ledger.Disposition {
	switch e {
	case ledger.Delivered:
		return ledger.DispositionRelayed
	case ledger.Deferred:
		return ledger.DispositionDeferred
	case ledger.Bounced:
		return ledger.DispositionBounced
	case ledger.Held:
		return ledger.DispositionHeld
	}
	return ""
}

// lastOf says that with these verdicts nothing of the message is left. Then
// nobody else is writing about it either: what is being settled is open still.
func (q *Queue) lastOf(l *Lease, verdicts []verdict) bool {
	done := int32(0)
	for i := range verdicts {
		if verdicts[i].done {
			done++
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return l.slot.entry.open == done && !l.slot.entry.gone
}

// finish adds to the batch what ends a message: it is deleted with its body. The
// body stays if a record of the message was set aside.
func finish(b *Batch, id mail.ID, aside bool) {
	b.Delete = append(b.Delete, messageKey(id))
	if !aside {
		b.DeleteBody = append(b.DeleteBody, string(id))
	}
}

// endSettle brings the index in line with what was committed. It says that
// recipients of other leases were settled at the same time, so that nobody
// could delete the message, and that this is to be done now.
func (q *Queue) endSettle(l *Lease, verdicts []verdict, last bool) (clean bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := l.slot
	q.endLease(l)
	byNumber := make(map[uint32]*verdict, len(verdicts))
	for i := range verdicts {
		byNumber[l.numbers[i]] = &verdicts[i]
	}
	rcpts := s.rcpts()
	for i := range rcpts {
		if v := byNumber[rcpts[i].number]; v != nil && !v.done {
			q.index.change(s, &rcpts[i], v.state, v.due)
			if v.tried {
				rcpts[i].attempts++
			}
		}
	}
	q.index.done(s, func(r *rcpt) bool { v := byNumber[r.number]; return v != nil && v.done })
	for number, v := range byNumber {
		if v.course != nil && !v.done && !s.entry.gone {
			q.index.move(s, number, (*v.course).way())
		}
	}
	q.replace(s)
	return q.release(s, last)
}

// release ends what beginSettle or a steering began. mu is held.
func (q *Queue) release(s *slot, last bool) (clean bool) {
	e := s.entry
	s.busy = false
	e.busy--
	q.idle.Broadcast()
	if e.open > 0 || e.busy > 0 || e.gone {
		return false
	}
	q.index.leave(e)
	return !last
}

// cleanUp deletes a message of which nothing is left. If the relay stops before,
// OpenQueue does it.
func (q *Queue) cleanUp(ctx context.Context, e *entry) error {
	var b Batch
	finish(&b, e.id(), e.aside)
	if err := q.engine.Commit(ctx, &b); err != nil {
		return fmt.Errorf("custody: delete %s, which is done: %w", e.id(), err)
	}
	return nil
}
