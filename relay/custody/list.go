package custody

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"anechoic/mail"
)

// State is where a recipient stands.
type State string

// The states.
const (
	StateQueued State = "queued" // due now or later
	StateLeased State = "leased" // an attempt is in flight
	StateHeld   State = "held"   // not sent until released
)

// Filter selects recipients in custody. Zero fields select all.
type Filter struct {
	ID     mail.ID
	Org    string
	Source string
	Sender mail.Domain // of MAIL FROM
	Domain mail.Domain // of recipients
	State  State
	Before time.Time // kept before
	Reply  string    // part of the last one; upper and lower case are the same
	Limit  int       // of messages; 0: all, but for List DefaultList
	After  mail.ID   // messages after this id, to page on

	// Leads says of a recipient domain, and of the next hop a person chose instead,
	// whether what goes there is selected. It must not call the queue. Nil: all is.
	Leads func(domain mail.Domain, via string) bool

	// By is who gives a command, for the facts of it; empty: they do not say.
	By string

	// Progress is told how far a command came, after each of its writes; nil: nobody is.
	Progress func(Steered)
}

// DefaultList and MaxList bound what List gives at a time, in messages.
const (
	DefaultList = 100
	MaxList     = 1000
)

// Entry is one message in custody with the recipients a Filter selected.
type Entry struct {
	Message
	Recipients []RecipientEntry
}

// RecipientEntry is one recipient not yet done.
type RecipientEntry struct {
	Address   mail.Address
	State     State
	Due       time.Time // of queued recipients
	Attempts  int
	LastReply string
	Reason    mail.Reason // of held recipients
	Suspended Scope       // what of it is suspended, but for its site, which delivery knows; empty: nothing
	Course    *Course     // what a person decided; nil: the domain's way
	number    uint32
}

// List gives messages in order of id, which is that of time. next is the After
// of the next page, empty at the end.
func (q *Queue) List(ctx context.Context, f Filter) (entries []Entry, next mail.ID, err error) {
	if err := q.readFor(ctx, f); err != nil {
		return nil, "", fmt.Errorf("custody: list: %w", err)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = DefaultList
	}
	limit = min(limit, MaxList)
	for {
		var page []Entry
		if page, next, err = q.page(ctx, f, limit-len(entries)); err != nil {
			return nil, "", fmt.Errorf("custody: list: %w", err)
		}
		for _, e := range page {
			if err := q.complete(ctx, &e, f.Reply); err != nil {
				return nil, "", fmt.Errorf("custody: list: %w", err)
			}
			if len(e.Recipients) > 0 {
				entries = append(entries, e)
			}
		}
		if next == "" || len(entries) >= limit {
			return entries, next, nil
		}
		f.After = next
	}
}

// page gives up to limit messages as far as the index and their own records select
// them.
func (q *Queue) page(ctx context.Context, f Filter, limit int) (entries []Entry, next mail.ID, err error) {
	from := ""
	if f.After != "" {
		from = messageKey(f.After)
	}
	var bad error
	visit := func(key string, value []byte) bool {
		id := mail.ID(key[len(messagePrefix):])
		found := q.snapshot(id, f)
		if len(found) == 0 {
			return true
		}
		if len(entries) == limit {
			next = entries[limit-1].ID
			return false
		}
		m, err := decodeMessage(value)
		if err != nil {
			bad = fmt.Errorf("%s: %w", key, err)
			return false
		}
		if !f.matchSender(m) {
			return true
		}
		entries = append(entries, Entry{Message: *m.message(id), Recipients: found})
		return true
	}
	if f.ID != "" {
		err = q.engine.Scan(ctx, messageKey(f.ID), "", visit)
	} else {
		err = q.scanPast(ctx, messagePrefix, from, visit, func(stretch) {}) // told when it was read back
	}
	return entries, next, errors.Join(err, bad)
}

// Show gives one message; ErrNotFound if it is not in custody.
func (q *Queue) Show(ctx context.Context, id mail.ID) (Entry, error) {
	if !id.Valid() {
		return Entry{}, fmt.Errorf("custody: message %q: %w", id, ErrNotFound)
	}
	found, _, err := q.List(ctx, Filter{ID: id})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("custody: message %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Entry{}, err
	}
	return found[0], nil
}

// snapshot is what the index knows of the selected recipients of a message.
func (q *Queue) snapshot(id mail.ID, f Filter) []RecipientEntry {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.index.messages[keyOf(id)]
	if e == nil || !f.matchEntry(e) {
		return nil
	}
	var found []RecipientEntry
	for s := range e.slots {
		if !f.matchLane(s.lane) {
			continue
		}
		inFlight := s.inFlight()
		var stopped Suspension
		if !s.lane.to.way.end {
			stopped, _ = q.index.suspended.of(e.org(), e.origin.source, s.lane.to.domain, "")
		}
		rcpts := s.rcpts()
		for i := range rcpts {
			r := &rcpts[i]
			state := publicState(r, inFlight[r.number])
			if f.State == "" || f.State == state {
				found = append(found, RecipientEntry{
					State: state, Due: fromNano(r.due), Attempts: int(r.attempts), Suspended: stopped.Scope, number: r.number,
				})
			}
		}
	}
	slices.SortFunc(found, func(a, b RecipientEntry) int { return cmp.Compare(a.number, b.number) })
	return found
}

// isDamaged is in place of the last reply of a recipient whose record cannot be read.
const isDamaged = "(what is stored of this recipient is damaged: it is set aside when it is due)"

// complete adds what only the records say. A recipient that was done meanwhile is
// left out, as is one whose last reply does not have the text.
func (q *Queue) complete(ctx context.Context, e *Entry, reply string) error {
	there := e.Recipients[:0]
	for _, r := range e.Recipients {
		value, err := q.engine.Get(ctx, recipientKey(e.ID, r.number))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		var stored *recipientRecord
		if err == nil {
			stored, err = decodeRecipient(value)
		}
		if unreadable(err) {
			stored, err = &recipientRecord{Reply: isDamaged}, nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", recipientKey(e.ID, r.number), err)
		}
		if !hasText(stored.Reply, reply) {
			continue
		}
		r.Address, r.LastReply, r.Reason, r.Course = stored.Address, stored.Reply, stored.Reason, stored.Course
		there = append(there, r)
	}
	e.Recipients = there
	return nil
}

// readFor waits until the queue was read as far as a filter needs it.
func (q *Queue) readFor(ctx context.Context, f Filter) error {
	if f.ID != "" {
		q.mu.Lock()
		known := q.index.messages[keyOf(f.ID)] != nil
		q.mu.Unlock()
		if known {
			return nil
		}
	}
	return q.Read(ctx)
}
