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
	Domain mail.Domain // of recipients
	State  State
	Limit  int     // of messages; 0: all, but for List DefaultList
	After  mail.ID // messages after this id, to page on
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
	number    uint32
}

// List gives messages in order of id, which is that of time. next is the After
// of the next page, empty at the end.
func (q *Queue) List(ctx context.Context, f Filter) (entries []Entry, next mail.ID, err error) {
	limit := f.Limit
	if limit <= 0 {
		limit = DefaultList
	}
	limit = min(limit, MaxList)
	prefix, from := messagePrefix, ""
	if f.ID != "" {
		prefix = messageKey(f.ID)
	} else if f.After != "" {
		from = messageKey(f.After)
	}
	var bad error
	err = q.engine.Scan(ctx, prefix, from, func(key string, value []byte) bool {
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
		entries = append(entries, Entry{Message: *m.message(id), Recipients: found})
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, "", fmt.Errorf("custody: list: %w", err)
	}
	for i := range entries {
		if err := q.complete(ctx, &entries[i]); err != nil {
			return nil, "", fmt.Errorf("custody: list: %w", err)
		}
	}
	return entries, next, nil
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
	e := q.index.messages[id]
	if e == nil || !f.matchEntry(e) {
		return nil
	}
	var found []RecipientEntry
	for _, s := range e.slots {
		if !f.Domain.IsZero() && f.Domain != s.domain.domain {
			continue
		}
		inFlight := s.inFlight()
		for i := range s.rcpts {
			r := &s.rcpts[i]
			state := publicState(r, inFlight[r.number])
			if f.State == "" || f.State == state {
				found = append(found, RecipientEntry{State: state, Due: fromNano(r.due), Attempts: int(r.attempts), number: r.number})
			}
		}
	}
	slices.SortFunc(found, func(a, b RecipientEntry) int { return cmp.Compare(a.number, b.number) })
	return found
}

// complete adds what only the records say. A recipient that was done meanwhile
// is left out.
func (q *Queue) complete(ctx context.Context, e *Entry) error {
	there := e.Recipients[:0]
	for _, r := range e.Recipients {
		value, err := q.engine.Get(ctx, recipientKey(e.ID, r.number))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		stored, err := decodeRecipient(value)
		if err != nil {
			return fmt.Errorf("%s: %w", recipientKey(e.ID, r.number), err)
		}
		r.Address, r.LastReply, r.Reason = stored.Address, stored.Reply, stored.Reason
		there = append(there, r)
	}
	e.Recipients = there
	return nil
}

// MaxDepthDomains bounds Depth.Domains.
const MaxDepthDomains = 100

// Depth counts recipients in custody.
type Depth struct {
	Messages int
	Queued   int           // not leased
	Leased   int           // an attempt is in flight
	Held     int           // not sent until released
	Oldest   time.Time     // due longest of what is queued; zero: nothing is
	Domains  []DomainDepth // those with most queued, at most MaxDepthDomains
}

// DomainDepth counts one recipient domain.
type DomainDepth struct {
	Domain mail.Domain
	Queued int
	Oldest time.Time // earliest due
}

// Depth counts what is in custody. It costs a look at each recipient domain.
func (q *Queue) Depth() Depth {
	d := q.depth()
	slices.SortFunc(d.Domains, func(a, b DomainDepth) int {
		return cmp.Or(cmp.Compare(b.Queued, a.Queued), cmp.Compare(a.Domain.String(), b.Domain.String()))
	})
	d.Domains = slices.Clone(d.Domains[:min(len(d.Domains), MaxDepthDomains)])
	return d
}

func (q *Queue) depth() Depth {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := Depth{Messages: len(q.index.messages), Leased: q.index.leased, Held: q.index.held}
	for name, domain := range q.index.domains {
		if len(domain.slots) == 0 {
			continue
		}
		due := fromNano(domain.slots[0].due)
		if d.Queued == 0 || due.Before(d.Oldest) {
			d.Oldest = due
		}
		d.Queued += domain.queued
		d.Domains = append(d.Domains, DomainDepth{Domain: name, Queued: domain.queued, Oldest: due})
	}
	return d
}

// MessagesOf counts the messages in custody by organisation.
func (q *Queue) MessagesOf() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	counts := map[string]int{}
	for _, e := range q.index.messages {
		counts[e.org]++
	}
	return counts
}
