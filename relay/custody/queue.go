// Package custody is what the relay does with a message after 250: it keeps it
// until it is delivered, bounced, or given up by a person.
//
// Keep writes message, recipients and facts in one durable batch and gives the
// Receipt without which nobody may answer 250. Lease gives the exclusive right
// to attempt what is due; Load gives content and warrant, if they are still
// what was kept; Settle writes what came of it. Hold, Release, Retry and Drop
// steer from outside.
//
// What it guarantees: an acknowledged message is never forgotten, a recipient
// that was delivered is never attempted again once that was settled, a lease is
// exclusive, nothing leaves without the warrant it was kept under. A message
// whose attempt was in flight at a crash is attempted again. DESIGN.md has the
// crash table.
//
// It is types and rules over an Engine, which is where state lives. Messages
// that nobody proved have no warrant: Detain keeps them as a record of another
// type, which no lease returns.
package custody

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// ErrSetAside says that a stored message did not read back as it was kept. It
// was moved aside with a fact; it is never sent and its lease is over.
var ErrSetAside = errors.New("set aside")

// ErrNoLease says that a lease was settled before.
var ErrNoLease = errors.New("lease is over")

// ErrSealKey says that a queue was made with another seal key.
var ErrSealKey = errors.New("seal key is not the one the queue was sealed with")

// Defaults of Options. RFC 5321 section 4.5.4.1: retries at least 30 minutes
// apart after the first ones, given up after four to five days.
var defaultRetryAfter = []time.Duration{5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}

const (
	defaultExpireAfter = 5 * 24 * time.Hour
	minSealKey         = 32
)

// Options says how a Queue keeps and retries.
type Options struct {
	SealKey     []byte          // at least 32 octets; stored warrants open with this key only
	RetryAfter  []time.Duration // after the first, second, … failed attempt; the last one repeats; give or take a tenth
	ExpireAfter time.Duration   // from Keep; then deferred recipients bounce
	DetainFor   time.Duration   // how long a person has for a detained message; 0: DetainedFor
	Log         *slog.Logger    // nil: no log
}

func (o Options) prepared() (Options, error) {
	if len(o.SealKey) < minSealKey {
		return o, fmt.Errorf("custody: the seal key has %d octets: it needs at least %d", len(o.SealKey), minSealKey)
	}
	if len(o.RetryAfter) == 0 {
		o.RetryAfter = defaultRetryAfter
	}
	for _, d := range o.RetryAfter {
		if d <= 0 {
			return o, fmt.Errorf("custody: retry after %s: it must be more than nothing", d)
		}
	}
	if o.ExpireAfter <= 0 {
		o.ExpireAfter = defaultExpireAfter
	}
	if o.DetainFor <= 0 {
		o.DetainFor = DetainedFor
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Queue holds the messages in custody. It is safe for concurrent use; one Queue
// has an engine to itself.
type Queue struct {
	engine Engine
	opts   Options
	seals  sealer
	wake   chan struct{}

	steering     chan struct{} // holds a token while nobody steers
	suspending   chan struct{} // holds a token while nobody suspends or resumes
	suspendedNow atomic.Pointer[suspended]
	detained     detainedIndex // what nobody proved: apart from all else
	stopReading  context.CancelFunc
	running      sync.WaitGroup // the reading of what is stored

	mu      sync.Mutex // guards index and reading; never held over I/O
	idle    *sync.Cond // on mu: a slot or entry is no longer busy
	index   *index
	reading progress
	rested  func(looked int) // of tests: at each rest of a walk, without the mutex
}

// Wake receives when something may have become due: after Keep, Settle, Retry,
// Release. One receive may stand for many changes.
func (q *Queue) Wake() <-chan struct{} { return q.wake }

func (q *Queue) wakeUp() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// NextDue is when the next domain becomes due of those that are not at now.
// Until then, and without Wake, Lease has nothing to give that it would not give
// at now.
func (q *Queue) NextDue(now time.Time) (time.Time, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	due, ok := q.index.nextDue(now.UnixNano())
	return fromNano(due), ok
}

func fromNano(n int64) time.Time { return time.Unix(0, n).UTC() }

// staged is a submission made ready to be committed.
type staged struct {
	submission Submission
	record     messageRecord
	numbers    []recipientRecord
	header     []byte
}

// Keep takes custody: one durable batch of message, recipients and facts. The
// Receipt says that it is done; after an error nothing may be acknowledged
// (ErrFull: 452, else 451). A zero or foreign warrant, no recipient, or an id
// that mail.NewID did not make are refused before anything is written.
func (q *Queue) Keep(ctx context.Context, s Submission, now time.Time) (Receipt, error) {
	var b Batch
	k, err := q.stage(ctx, &b, s, now)
	if err != nil {
		return Receipt{}, fmt.Errorf("custody: keep %s: %w", s.ID, err)
	}
	if err := q.engine.Commit(ctx, &b); err != nil {
		return Receipt{}, fmt.Errorf("custody: keep %s: %w", s.ID, err)
	}
	q.enter(k)
	q.wakeUp()
	return Receipt{id: s.ID}, nil
}

// stage adds to a batch what keeps a message.
func (q *Queue) stage(ctx context.Context, b *Batch, s Submission, now time.Time) (*staged, error) {
	if err := q.check(ctx, s); err != nil {
		return nil, err
	}
	k := &staged{submission: s, header: s.Header.Bytes()}
	k.record = messageRecord{
		Kept: now.UTC(), Expires: now.Add(q.opts.ExpireAfter).UTC(), Envelope: s.Envelope,
		Recipients: uint32(len(s.Envelope.Recipients)), HeaderSize: int64(len(k.header)),
	}
	if err := k.record.describe(s.Warrant); err != nil {
		return nil, err
	}
	var err error
	if k.record.Hash, k.record.Size, err = hashContent(k.header, s.Body.Reader()); err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if err := q.stageRecipients(b, k); err != nil {
		return nil, err
	}
	if err := q.seals.seal(s.ID, &k.record, s.Warrant); err != nil {
		return nil, err
	}
	value, err := encodeRecord(&k.record)
	if err != nil {
		return nil, err
	}
	b.Put = append(append(b.Put, Record{Key: messageKey(s.ID), Value: value}), s.Put...)
	b.PutBody = append(b.PutBody, BodyRecord{Name: string(s.ID), Size: k.record.Size, Content: k.content()})
	b.Facts = append(b.Facts, k.facts()...)
	return k, nil
}

func (q *Queue) check(ctx context.Context, s Submission) error {
	switch {
	case s.Warrant == nil || s.Warrant.IsZero():
		return ErrNoWarrant
	case !s.ID.Valid():
		return errors.New("the id is not one that mail.NewID made")
	case len(s.Envelope.Recipients) == 0:
		return errors.New("there is no recipient")
	case s.Body == nil:
		return errors.New("there is no body")
	}
	for _, r := range s.Envelope.Recipients {
		if r.Address.IsZero() {
			return errors.New("a recipient has no address")
		}
	}
	if err := notOfTheQueue(s.Put); err != nil {
		return err
	}
	return q.claimID(ctx, s.ID)
}

var errThere = errors.New("a message of that id is in custody already")

// claimID sees to it that a message is kept once. While the queue is being read,
// it notes that reading is to pass over this one.
func (q *Queue) claimID(ctx context.Context, id mail.ID) error {
	key := keyOf(id)
	q.mu.Lock()
	reading := q.reading.fresh != nil
	there := q.index.messages[key] != nil
	q.mu.Unlock()
	if there {
		return errThere
	}
	if !reading {
		return nil
	}
	if _, err := q.engine.Get(ctx, messageKey(id)); !errors.Is(err, ErrNotFound) {
		return errors.Join(errThere, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reading.fresh != nil {
		q.reading.fresh[key] = true
	}
	return nil
}

// stageRecipients adds a record for each recipient and hashes them all.
func (q *Queue) stageRecipients(b *Batch, k *staged) error {
	s := &k.submission
	accepted := make(canonical, 0, 128)
	b.Put = append(make([]Record, 0, len(b.Put)+len(s.Envelope.Recipients)+1), b.Put...)
	k.numbers = make([]recipientRecord, len(s.Envelope.Recipients))
	for i := range s.Envelope.Recipients {
		r := &k.numbers[i]
		*r = recipientRecord{Recipient: s.Envelope.Recipients[i], Due: k.record.Kept}
		r.MAC = q.seals.recipientMAC(s.ID, uint32(i), &r.Recipient, nil)
		if s.Held != "" {
			r.State, r.Reason = recipientHeld, s.Held
		}
		value, err := encodeRecord(r)
		if err != nil {
			return err
		}
		b.Put = append(b.Put, Record{Key: recipientKey(s.ID, uint32(i)), Value: value})
		accepted = accepted.recipient(&r.Recipient)
	}
	sum := sha256.Sum256(accepted)
	k.record.Accepted = sum[:]
	return nil
}

// content is what is stored as the body: header and body in one piece.
func (k *staged) content() io.Reader {
	return io.MultiReader(bytes.NewReader(k.header), k.submission.Body.Reader())
}

// facts are those of the submission, or an accepted fact made of it.
func (k *staged) facts() []ledger.Fact {
	s := &k.submission
	if len(s.Facts) > 0 {
		return s.Facts
	}
	f := ledger.Fact{
		Time: k.record.Kept, ID: s.ID, Event: ledger.Accepted, Org: k.record.Org, Source: k.record.Source, Direction: k.record.direction(),
		MailFrom: s.Envelope.From.String(), Size: k.record.Size, Disposition: ledger.DispositionRelayed, Detail: string(k.record.Kind),
	}
	for _, r := range s.Envelope.Recipients {
		f.Rcpt = append(f.Rcpt, r.Address.String())
	}
	if s.Held != "" {
		f.Disposition, f.Reason = ledger.DispositionHeld, s.Held
	}
	return []ledger.Fact{f}
}

// enter makes a committed message known to the index.
func (q *Queue) enter(k *staged) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.index.add(keyOf(k.submission.ID), k.record.Org, k.record.Source)
	for i := range k.numbers {
		r := &k.numbers[i]
		q.index.addRecipient(e, r.Address.Domain(), way{}, rcpt{due: r.Due.UnixNano(), number: uint32(i), state: r.State})
	}
	for s := range e.slots {
		q.index.place(s)
	}
	if k.submission.Held == "" {
		r := &recent{record: &k.record, recipients: k.numbers, warrant: k.submission.Warrant}
		if body, ok := k.submission.Body.InMemory(); ok {
			r.header, r.body = k.header, body
		}
		q.index.remember(e, r)
	}
}

// longestWait is how far off a retry can be: the longest of RetryAfter, and a tenth.
func (o *Options) longestWait() time.Duration {
	return slices.Max(o.RetryAfter) * 11 / 10
}

// retryAt is when the next attempt is due after so many failed ones: by
// RetryAfter, a tenth more or less so that retries spread, not before notBefore as
// far as that is within the longest wait, and a last time when the message expires.
func (q *Queue) retryAt(now time.Time, failed int, notBefore, expires time.Time) time.Time {
	wait := q.opts.RetryAfter[min(failed, len(q.opts.RetryAfter))-1]
	notBefore = earlier(notBefore, now.Add(q.opts.longestWait()))
	wait += time.Duration((rand.Float64() - 0.5) / 5 * float64(wait))
	due := now.Add(wait)
	if due.Before(notBefore) {
		due = notBefore
	}
	if !expires.IsZero() && due.After(expires) {
		due = expires
	}
	return due.UTC()
}
