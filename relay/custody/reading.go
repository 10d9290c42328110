package custody

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// Reading the queue back. The index is made of the records while mail is accepted
// and delivered: readStep messages at a time, in the order of their ids, each with
// its recipients. What makes that right:
//
//   - A message that is not in the index yet can be changed by nobody: it has no
//     lease, and commands wait for the whole queue. So what is read of it stands.
//   - A message kept meanwhile is in the index already, or will be, or is done
//     already; its records may be seen all the same. Its id is in progress.fresh
//     before its first write, and reading passes over what is there.
//   - A step is done again from its start after an error.

// readStep is how many messages are read at a time. The index is locked once a step.
const readStep = 2048

// Pauses after an error of the engine while reading: the first, doubled up to
// the last.
const (
	readPause    = time.Second
	maxReadPause = time.Minute
)

// ErrReading says that something needs the whole queue, which is still being read.
var ErrReading = errors.New("the queue is still being read")

// progress is how far the reading came. The mutex of the Queue guards it.
type progress struct {
	fresh    map[idKey]bool // kept since the start; nil: the queue was read
	messages int
	err      error
	detained chan struct{} // closed when what is detained was read
	all      chan struct{} // closed when everything was, or cannot be
}

func (p *progress) begin() {
	p.fresh = map[idKey]bool{}
	p.detained, p.all = make(chan struct{}), make(chan struct{})
}

// Progress says how many stored messages were read since the start, and whether
// that is all. An error says that reading stopped for good: what was not read is
// there, and is delivered after the next start.
func (q *Queue) Progress() (messages int, all bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reading.messages, q.reading.fresh == nil, q.reading.err
}

// Read waits until the whole queue was read back. ErrReading says how far it came
// when the context ended.
func (q *Queue) Read(ctx context.Context) error {
	select {
	case <-q.reading.all:
	default:
		select {
		case <-q.reading.all:
		case <-ctx.Done():
			n, _, _ := q.Progress()
			return fmt.Errorf("%w (%d messages so far): ask again", ErrReading, n)
		}
	}
	_, _, err := q.Progress()
	return err
}

// awaitDetained waits until what is detained was read.
func (q *Queue) awaitDetained(ctx context.Context) error {
	select {
	case <-q.reading.detained:
		return nil
	default:
	}
	select {
	case <-q.reading.detained:
		return nil
	case <-q.reading.all:
		_, _, err := q.Progress()
		return err
	case <-ctx.Done():
		return ErrReading
	}
}

// reading is the state of the one who reads.
type reading struct {
	q       *Queue
	step    int
	lost    map[mail.ID]bool // messages of which a record is or was set aside
	message string           // key from which to go on
	rcpt    string
	domains map[string]mail.Domain
	names   map[string]string // of organisations and sources, each once
	found   []found           // of this step
	rcpts   []foundRcpt       // theirs, in the same order
	damaged []damage
	skipped []ledger.Fact // about what cannot be read, not written yet
	gaps    []stretch     // of the recipients
	allLost bool          // which messages were set aside before cannot be read
}

// found is one message that was read.
type found struct {
	id          mail.ID
	key         idKey
	org, source string
	first, n    int // its recipients in reading.rcpts
	dropped     []droppedRecipient
	aside       bool // none could be read: it is set aside
}

type foundRcpt struct {
	rcpt
	domain mail.Domain
	way    way
}

// droppedRecipient was given up while an attempt was in flight when the relay
// stopped.
type droppedRecipient struct {
	number  uint32
	address mail.Address
}

func newReading(q *Queue) *reading {
	return &reading{q: q, step: readStep, lost: map[mail.ID]bool{}, message: messagePrefix, rcpt: recipientPrefix, domains: map[string]mail.Domain{}, names: map[string]string{}}
}

// run reads everything. Where the engine fails it tries again, unless it is
// broken or closed for good.
func (r *reading) run(ctx context.Context) {
	pause := readPause
	for _, step := range []func(context.Context) (more bool, err error){once(r.readAside), once(r.readDetained), r.next} {
		for more := true; more; {
			var err error
			if more, err = step(ctx); err == nil {
				pause = readPause
				continue
			}
			if ctx.Err() != nil || errors.Is(err, ErrBroken) || errors.Is(err, ErrClosed) {
				r.end(errors.Join(ErrReading, err, ctx.Err()))
				return
			}
			r.q.opts.Log.Error("the queue cannot be read back now: what was not read yet waits", "cause", err, "again_in", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			more, pause = true, min(2*pause, maxReadPause)
		}
	}
	r.end(nil)
}

// once makes a step of what is done in one.
func once(f func(context.Context) error) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) { return false, f(ctx) }
}

// end says that everything was read, or why not.
func (r *reading) end(err error) {
	q := r.q
	q.mu.Lock()
	if err == nil {
		q.reading.fresh = nil
	}
	q.reading.err = err
	close(q.reading.all)
	q.mu.Unlock()
	q.wakeUp()
}

// readSuspensions reads what is not to be leased.
func (r *reading) readSuspensions(ctx context.Context) error {
	now := suspended{}
	var broken []damage
	err := r.q.engine.Scan(ctx, suspensionPrefix, "", func(key string, value []byte) bool {
		s, err := decodeSuspension(key, value)
		if err != nil {
			broken = append(broken, damaged(key, value, "", err))
			return true
		}
		now = now.with(s, true)
		return true
	})
	if err != nil {
		return err
	}
	r.q.index.suspended = now
	r.q.suspendedNow.Store(&now)
	return r.moveAside(ctx, broken)
}

func (r *reading) moveAside(ctx context.Context, list []damage) error {
	for _, d := range list {
		if err := r.q.moveAside(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// readAside notes the messages of which something was set aside before. If that cannot
// be read, nothing is deleted until the next start.
func (r *reading) readAside(ctx context.Context) error {
	err := r.q.engine.Scan(ctx, asidePrefix, "", func(key string, _ []byte) bool {
		key = key[len(asidePrefix):]
		if id, _, err := parseRecipientKey(key); err == nil {
			r.lost[id] = true
		} else if id, err := parseMessageKey(key); err == nil {
			r.lost[id] = true
		}
		return true
	})
	if errors.Is(err, ErrDamaged) {
		r.allLost = true
		r.skip(asidePrefix, stretch{after: asidePrefix})
		return nil
	}
	return err
}

// readDetained notes what is detained, and what of it is damaged.
func (r *reading) readDetained(ctx context.Context) error {
	var broken []damage
	err := r.q.scanPast(ctx, detainedPrefix, "", func(key string, value []byte) bool {
		id, d, err := r.q.seals.openDetained(key, value)
		if err != nil {
			broken = append(broken, damaged(key, value, id, err))
			return true
		}
		r.q.detained.add(id, detainedEntry{org: d.Org, reason: d.Reason, claimedOnly: d.Claimed, size: d.Size, expires: d.Expires})
		return true
	}, func(s stretch) { r.skip(detainedPrefix, s) })
	if err == nil {
		err = r.moveAside(ctx, broken)
	}
	if err == nil {
		close(r.q.reading.detained)
	}
	return err
}

// next reads some messages with their recipients, writes what that finds to be
// done, and lets the rest become due.
func (r *reading) next(ctx context.Context) (more bool, err error) {
	r.found, r.rcpts, r.damaged = r.found[:0], r.rcpts[:0], r.damaged[:0]
	message, more, err := r.readMessages(ctx)
	if err != nil {
		return true, err
	}
	limit := "" // none: all that is left
	if more {
		limit = recipientPrefix + string(r.found[len(r.found)-1].id) + "0" // what follows the slash
	}
	rcpt, err := r.readRecipients(ctx, limit)
	if err != nil {
		return true, err
	}
	r.passFresh()
	if err := r.missRecipients(ctx); err != nil {
		return true, err
	}
	if err := r.finish(ctx); err != nil {
		return true, err
	}
	r.message, r.rcpt = message, rcpt
	r.enter()
	r.q.wakeUp()
	return more, nil
}

// readMessages finds the messages of a step, and where the next begins.
func (r *reading) readMessages(ctx context.Context) (next string, more bool, err error) {
	next = r.message
	err = r.q.scanPast(ctx, messagePrefix, r.message, func(key string, value []byte) bool {
		if len(r.found) == r.step {
			more = true
			return false
		}
		next = key + "\x00"
		id, err := parseMessageKey(key)
		if err != nil {
			r.damaged = append(r.damaged, damaged(key, value, "", err))
			return true
		}
		g, err := glanceMessage(value)
		if err != nil {
			r.damaged = append(r.damaged, damaged(key, value, id, err))
			r.lost[id] = true
			return true
		}
		r.found = append(r.found, found{id: id, key: keyOf(id), org: r.intern(g.org), source: r.intern(g.source)})
		return true
	}, func(s stretch) { r.skip(messagePrefix, s) })
	return next, more, err
}

// intern gives the string that others of the same text share.
func (r *reading) intern(b []byte) string {
	s, ok := r.names[string(b)]
	if !ok {
		s = string(b)
		r.names[s] = s
	}
	return s
}

var errNoMessage = errors.New("the message it belongs to is not there")

// readRecipients finds the recipients of the messages of a step: those with keys
// below limit, and at the last step all that are left.
func (r *reading) readRecipients(ctx context.Context, limit string) (next string, err error) {
	next = r.rcpt
	at := 0
	err = r.q.scanPast(ctx, recipientPrefix, r.rcpt, func(key string, value []byte) bool {
		if limit != "" && key >= limit {
			return false
		}
		next = key + "\x00"
		id, number, err := parseRecipientKey(key)
		if err != nil {
			r.damaged = append(r.damaged, damaged(key, value, "", err))
			return true
		}
		for at < len(r.found) && r.found[at].id < id {
			at++
		}
		var of *found
		if at < len(r.found) && r.found[at].id == id {
			of = &r.found[at]
		}
		if err := r.recipient(of, number, value); err != nil {
			d := damaged(key, value, id, err)
			d.whole = of != nil
			r.damaged = append(r.damaged, d)
			r.lost[id] = true
		}
		return true
	}, func(s stretch) {
		r.skip(recipientPrefix, s)
		r.gaps = append(r.gaps, s)
		next = cmp.Or(s.next, recipientPrefix+"~") // behind all
	})
	return next, err
}

// recipient notes one recipient of a message.
func (r *reading) recipient(of *found, number uint32, value []byte) error {
	one, lane, err := glanceRecipient(value)
	if err != nil {
		return err
	}
	name, via, end := cutWay(lane)
	if of == nil {
		return errNoMessage
	}
	one.number = number
	if one.state == recipientDropped {
		full, err := decodeRecipient(value)
		if err != nil {
			return err
		}
		of.dropped = append(of.dropped, droppedRecipient{number, full.Address})
		return nil
	}
	d, ok := r.domains[string(name)]
	if !ok {
		if d, err = mail.ParseDomain(string(name)); err != nil {
			return fmt.Errorf("%w: %w", errRecord, err)
		}
		r.domains[string(name)] = d
	}
	if of.n == 0 {
		of.first = len(r.rcpts)
	}
	of.n++
	r.rcpts = append(r.rcpts, foundRcpt{one, d, way{r.intern(via), end}})
	return nil
}

// passFresh passes over what was kept since the start: the index knows it better.
func (r *reading) passFresh() {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	fresh := q.reading.fresh
	if len(fresh) == 0 {
		return
	}
	keep := r.found[:0]
	for _, f := range r.found {
		if !fresh[f.key] {
			keep = append(keep, f)
		}
	}
	r.found = keep
	broken := r.damaged[:0]
	for _, d := range r.damaged {
		if d.id == "" || !fresh[keyOf(d.id)] {
			broken = append(broken, d)
		}
	}
	r.damaged = broken
}

// finish writes what reading found out.
func (r *reading) finish(ctx context.Context) error {
	if len(r.skipped) > 0 {
		if err := r.q.engine.Commit(ctx, &Batch{Facts: r.skipped}); err != nil {
			return err
		}
		r.skipped = nil
	}
	if err := r.moveAside(ctx, r.damaged); err != nil {
		return err
	}
	for i := range r.found {
		f := &r.found[i]
		if f.aside || f.n > 0 && len(f.dropped) == 0 {
			continue
		}
		if err := r.endRecipients(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// endRecipients ends the recipients of a message that were dropped, and the message if no
// other is left.
func (r *reading) endRecipients(ctx context.Context, f *found) error {
	var b Batch
	for _, d := range f.dropped {
		b.Delete = append(b.Delete, recipientKey(f.id, d.number))
		b.Facts = append(b.Facts, ledger.Fact{Time: time.Now().UTC(), ID: f.id, Event: ledger.Dropped, Org: f.org, Rcpt: []string{d.address.String()}})
	}
	if f.n == 0 {
		finish(&b, f.id, r.allLost || r.lost[f.id])
	}
	return r.q.engine.Commit(ctx, &b)
}

// enter brings what was read into the index.
func (r *reading) enter() {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range r.found {
		f := &r.found[i]
		if f.n == 0 {
			continue
		}
		q.reading.messages++
		e := q.index.add(f.key, f.org, f.source)
		e.aside = r.allLost || r.lost[f.id]
		for _, one := range r.rcpts[f.first : f.first+f.n] {
			q.index.addRecipient(e, one.domain, one.way, one.rcpt)
		}
		for s := range e.slots {
			q.index.place(s)
		}
	}
}
