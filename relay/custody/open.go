package custody

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"sync"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/background"
)

// OpenQueue opens what an engine holds, and returns before it read the messages:
// mail is accepted at once, and leased as far as it was read. Every recipient that
// is not done is queued or held again, leases do not outlive a restart. Records
// that cannot be read or belong to nothing are moved aside, with a fact and a line
// in the log; they are never sent and never deleted. What a stop left half done is
// finished. Close must be called before the engine is closed.
func OpenQueue(ctx context.Context, engine Engine, opts Options) (*Queue, error) {
	q, r, err := openQueue(ctx, engine, opts)
	if err != nil {
		return nil, err
	}
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	q.stopReading = stop
	background.Vital(&q.running, q.opts.Log, "custody: read the queue", func() { r.run(reading) })
	return q, nil
}

// openQueue does what cannot wait: without the suspensions nothing may be leased.
func openQueue(ctx context.Context, engine Engine, opts Options) (*Queue, *reading, error) {
	opts, err := opts.prepared()
	if err != nil {
		return nil, nil, err
	}
	q := &Queue{
		engine: engine, opts: opts, seals: newSealer(opts.SealKey), index: newIndex(&opts), wake: make(chan struct{}, 1),
		steering: make(chan struct{}, 1), suspending: make(chan struct{}, 1), stopReading: func() {},
	}
	q.idle = sync.NewCond(&q.mu)
	q.steering <- struct{}{}
	q.suspending <- struct{}{}
	q.reading.begin()
	r := newReading(q)
	for _, step := range []func(context.Context) error{q.checkKey, r.readSuspensions} {
		if err := step(ctx); err != nil {
			return nil, nil, fmt.Errorf("custody: open the queue: %w", err)
		}
	}
	return q, r, nil
}

// Close ends the reading of the queue and waits for it. Nothing else is running:
// leases and commands belong to who asked for them.
func (q *Queue) Close() {
	q.stopReading()
	q.running.Wait()
}

// keyCheck is where the queue's seal key is proven: the value is an HMAC with it.
const keyCheck = "queue/key"

// checkKey refuses another key than the one the queue was made with. Without
// this a lost key would set every message aside.
func (q *Queue) checkKey(ctx context.Context) error {
	want := authenticate(q.opts.SealKey, []byte("anechoic custody key check"))
	stored, err := q.engine.Get(ctx, keyCheck)
	switch {
	case errors.Is(err, ErrNotFound):
		return q.engine.Commit(ctx, &Batch{Put: []Record{{Key: keyCheck, Value: want}}})
	case err != nil:
		return err
	case !hmac.Equal(stored, want):
		return fmt.Errorf("%w: put the key back that belongs to this data directory", ErrSealKey)
	}
	return nil
}

// damage is a record to be moved aside.
type damage struct {
	Record
	id    mail.ID // may be empty
	whole bool    // its message is not damaged: a copy of that goes aside too
	stays bool    // the record goes on: a copy goes aside
	cause error
}

func damaged(key string, value []byte, id mail.ID, cause error) damage {
	return damage{Record: Record{Key: key, Value: bytes.Clone(value)}, id: id, cause: cause}
}

// moveAside moves one record. That of its message stays in force for the other
// recipients; a copy goes aside too, because the original ends with them.
func (q *Queue) moveAside(ctx context.Context, d damage) error {
	q.opts.Log.Error("a stored record is damaged: it was set aside and is not sent; see queue show", "key", d.Key, "id", d.id, "cause", d.cause)
	b := Batch{
		Put:   []Record{{Key: asideKey(d.Key), Value: d.Value}},
		Facts: []ledger.Fact{{Time: time.Now().UTC(), ID: d.id, Event: ledger.SetAside, Detail: d.Key + ": " + d.cause.Error()}},
	}
	if !d.stays {
		b.Delete = []string{d.Key}
	}
	if d.whole {
		message, err := q.engine.Get(ctx, messageKey(d.id))
		if err != nil {
			return err
		}
		b.Put = append(b.Put, Record{Key: asideKey(messageKey(d.id)), Value: message})
	}
	return q.engine.Commit(ctx, &b)
}

// asideKey is where a record goes. A key that leaves no room for the prefix is cut:
// it is none of ours.
func asideKey(key string) string {
	return (asidePrefix + key)[:min(len(asidePrefix)+len(key), MaxKey)]
}

// setAside ends a lease whose message did not read back as it was kept, and
// moves all that is left of the message aside, as far as it can be read; what cannot
// stays where it is. Nothing of it is sent any more, even if that cannot be written.
func (q *Queue) setAside(ctx context.Context, l *Lease, cause error) error {
	first := q.forget(l)
	err := fmt.Errorf("custody: message %s: %w: %w", l.ID, ErrSetAside, cause)
	if !first {
		return err
	}
	q.opts.Log.Error("a message is not what was kept: it was set aside and is not sent; see queue show", "id", l.ID, "cause", cause)
	b := Batch{Facts: []ledger.Fact{{Time: l.at.UTC(), ID: l.ID, Event: ledger.SetAside, Org: l.slot.entry.org(), Detail: cause.Error()}}}
	move := func(key string, value []byte) bool {
		b.Put = append(b.Put, Record{Key: asideKey(key), Value: bytes.Clone(value)})
		b.Delete = append(b.Delete, key)
		return true
	}
	for _, prefix := range []string{messageKey(l.ID), recipientPrefix + string(l.ID) + "/"} {
		if scanned := q.engine.Scan(ctx, prefix, "", move); scanned != nil && !errors.Is(scanned, ErrDamaged) {
			return errors.Join(err, scanned)
		}
	}
	return errors.Join(err, q.engine.Commit(ctx, &b))
}

// forget ends the lease and takes its message out of the index, once nobody
// writes about it. It says false if that was done before.
func (q *Queue) forget(l *Lease) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := l.slot.entry
	for e.busy > 0 {
		q.idle.Wait()
	}
	first = !e.gone
	if first {
		q.index.forget(e)
	}
	if l.slot.lease() == l {
		q.endLease(l)
		q.replace(l.slot)
	}
	return first
}
