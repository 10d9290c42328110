package custody

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"sync"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// OpenQueue reads back what an engine holds: every recipient that is not done is
// queued or held again, leases do not outlive a restart. Records that cannot be
// read or belong to nothing are moved aside, with a fact and a line in the log;
// they are never sent and never deleted. What a stop left half done is finished.
func OpenQueue(ctx context.Context, engine Engine, opts Options) (*Queue, error) {
	opts, err := opts.prepared()
	if err != nil {
		return nil, err
	}
	q := &Queue{engine: engine, opts: opts, seals: newSealer(opts.SealKey), wake: make(chan struct{}, 1), steering: make(chan struct{}, 1), index: newIndex()}
	q.idle = sync.NewCond(&q.mu)
	q.steering <- struct{}{}
	if err := q.checkKey(ctx); err != nil {
		return nil, fmt.Errorf("custody: open the queue: %w", err)
	}
	o := opening{q: q, lost: map[mail.ID]bool{}}
	for _, step := range []func(context.Context) error{o.readAside, o.readMessages, o.readRecipients, o.readDetained, o.finish} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("custody: open the queue: %w", err)
		}
	}
	q.wakeUp()
	return q, nil
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

// opening is what OpenQueue found on the way.
type opening struct {
	q       *Queue
	lost    map[mail.ID]bool // messages of which a record is or was set aside
	damaged []damage
	dropped []droppedRecipient
}

// damage is a record to be moved aside.
type damage struct {
	Record
	id    mail.ID // may be empty
	cause error
}

// droppedRecipient was given up while an attempt was in flight when the relay
// stopped.
type droppedRecipient struct {
	id      mail.ID
	number  uint32
	address mail.Address
}

// readAside notes the messages of which something was set aside before.
func (o *opening) readAside(ctx context.Context) error {
	return o.q.engine.Scan(ctx, asidePrefix, "", func(key string, _ []byte) bool {
		key = key[len(asidePrefix):]
		if id, _, err := parseRecipientKey(key); err == nil {
			o.lost[id] = true
		} else if id, err := parseMessageKey(key); err == nil {
			o.lost[id] = true
		}
		return true
	})
}

func (o *opening) setAside(key string, value []byte, id mail.ID, cause error) {
	o.damaged = append(o.damaged, damage{Record: Record{Key: key, Value: append([]byte(nil), value...)}, id: id, cause: cause})
	if id != "" {
		o.lost[id] = true
	}
}

func (o *opening) readMessages(ctx context.Context) error {
	return o.q.engine.Scan(ctx, messagePrefix, "", func(key string, value []byte) bool {
		id, err := parseMessageKey(key)
		if err != nil {
			o.setAside(key, value, "", err)
			return true
		}
		m, err := decodeMessage(value)
		if err != nil {
			o.setAside(key, value, id, err)
			return true
		}
		o.q.index.add(id, m.Org)
		return true
	})
}

var errNoMessage = errors.New("the message it belongs to is not there")

func (o *opening) readRecipients(ctx context.Context) error {
	return o.q.engine.Scan(ctx, recipientPrefix, "", func(key string, value []byte) bool {
		id, number, err := parseRecipientKey(key)
		if err != nil {
			o.setAside(key, value, "", err)
			return true
		}
		r, err := decodeRecipient(value)
		e := o.q.index.messages[id]
		switch {
		case err != nil:
			o.setAside(key, value, id, err)
		case e == nil:
			o.setAside(key, value, id, errNoMessage)
		case r.State == recipientDropped:
			o.dropped = append(o.dropped, droppedRecipient{id, number, r.Address})
		default:
			o.q.index.addRecipient(e, r.Address.Domain(), rcpt{due: r.Due.UnixNano(), number: number, attempts: r.Attempts, state: r.State})
		}
		return true
	})
}

// finish writes what reading found out, then lets the rest become due.
func (o *opening) finish(ctx context.Context) error {
	for _, d := range o.damaged {
		if err := o.moveAside(ctx, d); err != nil {
			return err
		}
	}
	for _, d := range o.dropped {
		b := Batch{Delete: []string{recipientKey(d.id, d.number)}, Facts: []ledger.Fact{{
			Time: time.Now().UTC(), ID: d.id, Event: ledger.Dropped, Org: o.q.index.messages[d.id].org, Rcpt: []string{d.address.String()},
		}}}
		if err := o.q.engine.Commit(ctx, &b); err != nil {
			return err
		}
	}
	for id, e := range o.q.index.messages {
		e.aside = o.lost[id]
		if e.open == 0 {
			e.gone = true
			delete(o.q.index.messages, id)
			if err := o.q.cleanUp(ctx, e); err != nil {
				return err
			}
		}
		for _, s := range e.slots {
			o.q.index.place(s)
		}
	}
	return nil
}

// moveAside moves one record. That of its message stays in force for the other
// recipients; a copy goes aside too, because the original ends with them.
func (o *opening) moveAside(ctx context.Context, d damage) error {
	o.q.opts.Log.Error("a stored record is damaged: it was set aside and is not sent; see queue show", "key", d.Key, "id", d.id, "cause", d.cause)
	b := Batch{
		Put:    []Record{{Key: asidePrefix + d.Key, Value: d.Value}},
		Delete: []string{d.Key},
		Facts:  []ledger.Fact{{Time: time.Now().UTC(), ID: d.id, Event: ledger.SetAside, Detail: d.Key + ": " + d.cause.Error()}},
	}
	if e := o.q.index.messages[d.id]; e != nil {
		message, err := o.q.engine.Get(ctx, messageKey(d.id))
		if err != nil {
			return err
		}
		b.Put = append(b.Put, Record{Key: asidePrefix + messageKey(d.id), Value: message})
	}
	return o.q.engine.Commit(ctx, &b)
}

// setAside ends a lease whose message did not read back as it was kept, and
// moves all that is left of the message aside. Nothing of it is sent any more,
// even if that cannot be written.
func (q *Queue) setAside(ctx context.Context, l *Lease, cause error) error {
	first := q.forget(l)
	err := fmt.Errorf("custody: message %s: %w: %w", l.ID, ErrSetAside, cause)
	if !first {
		return err
	}
	q.opts.Log.Error("a message is not what was kept: it was set aside and is not sent; see queue show", "id", l.ID, "cause", cause)
	b := Batch{Facts: []ledger.Fact{{Time: l.at.UTC(), ID: l.ID, Event: ledger.SetAside, Org: l.slot.entry.org, Detail: cause.Error()}}}
	move := func(key string, value []byte) bool {
		b.Put = append(b.Put, Record{Key: asidePrefix + key, Value: append([]byte(nil), value...)})
		b.Delete = append(b.Delete, key)
		return true
	}
	scanned := errors.Join(
		q.engine.Scan(ctx, messageKey(l.ID), "", move),
		q.engine.Scan(ctx, recipientPrefix+string(l.ID)+"/", "", move),
	)
	if scanned != nil {
		return errors.Join(err, scanned)
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
	if l.slot.lease == l {
		q.endLease(l)
		q.replace(l.slot)
	}
	return first
}
