package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// approvalPrefix begins the keys of proposals: approval/<id>.
const approvalPrefix = "approval/"

// Records is where proposals live; a custody.Engine is one.
type Records interface {
	Commit(ctx context.Context, b *custody.Batch) error
	Get(ctx context.Context, key string) ([]byte, error)
	Scan(ctx context.Context, prefix, from string, visit func(key string, value []byte) bool) error
}

// Approvals keeps the releases that wait for a second person. Each step is one
// durable batch with its fact; a proposal is used up before what it allows is done,
// so that after a crash in between the messages are still held, and it is asked for
// again:
//
//	step     before a crash in it   after
//	Ask      nothing waits          it waits
//	Approve  it waits               used up: the caller releases
//	Refuse   it waits               gone
//	Sweep    it waits, but expired  gone
//
// Only New makes a usable one. It is safe for concurrent use.
type Approvals struct {
	records Records
	above   int        // a release of more messages needs a second person; 0: none does
	mu      sync.Mutex // guards pace; held over the records' I/O nowhere
	pace    pace
	turn    chan struct{} // holds a token while nobody changes proposals
}

// NewApprovals makes the approvals of a store. A release of more than above
// messages, at once or within an hour by one person, needs a second one; 0: never.
func NewApprovals(records Records, above int) *Approvals {
	a := &Approvals{records: records, above: above, turn: make(chan struct{}, 1)}
	a.turn <- struct{}{}
	return a
}

// Above is past how many messages a release needs a second person; 0: never.
func (a *Approvals) Above() int { return a.above }

// Needs says that a person's release of so many messages needs a second person.
func (a *Approvals) Needs(by Person, messages int, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.above > 0 && messages > 0 && a.pace.lately(by, now)+messages > a.above
}

// Released notes what a person released without a second one.
func (a *Approvals) Released(by Person, messages int, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pace.note(by, messages, now)
}

// take waits for this goroutine's turn; the caller gives it back.
func (a *Approvals) take(ctx context.Context) error {
	select {
	case <-a.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Approvals) giveBack() { a.turn <- struct{}{} }

// Ask keeps a proposal until somebody else approves or refuses it, or it expires.
func (a *Approvals) Ask(ctx context.Context, p Proposal) error {
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.giveBack()
	waiting, err := a.Waiting(ctx, p.Asked)
	if err != nil {
		return err
	}
	if len(waiting) >= maxProposals {
		return fmt.Errorf("%w: %d, at most %d", ErrManyWaiting, len(waiting), maxProposals)
	}
	value, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return a.commit(ctx, &custody.Batch{Put: []custody.Record{{Key: approvalPrefix + string(p.ID), Value: value}}, Facts: []ledger.Fact{p.fact("asked for by "+p.By.Told, p.Asked)}})
}

// Waiting gives the proposals that wait, oldest first.
func (a *Approvals) Waiting(ctx context.Context, now time.Time) (list []Proposal, err error) {
	err = a.scan(ctx, func(_ string, p Proposal, err error) {
		if err == nil && now.Before(p.Expires) {
			list = append(list, p)
		}
	})
	return list, err
}

func (a *Approvals) scan(ctx context.Context, visit func(key string, p Proposal, err error)) error {
	err := a.records.Scan(ctx, approvalPrefix, "", func(key string, value []byte) bool {
		p, err := readProposal(key, value)
		visit(key, p, err)
		return true
	})
	if err != nil {
		return fmt.Errorf("quarantine: list proposals: %w", err)
	}
	return nil
}

func readProposal(key string, value []byte) (p Proposal, err error) {
	if err := json.Unmarshal(value, &p); err != nil {
		return p, fmt.Errorf("quarantine: proposal %s: %w", key, err)
	}
	if approvalPrefix+string(p.ID) != key {
		return p, fmt.Errorf("quarantine: proposal %s is one of %s", key, p.ID)
	}
	return p, nil
}

// Approve uses a proposal up: the caller is to release its messages now. Who asked
// for it cannot approve it.
func (a *Approvals) Approve(ctx context.Context, id mail.ID, by Person, now time.Time) (Proposal, error) {
	return a.end(ctx, id, now, func(p *Proposal) (string, error) { return "approved by " + by.Told, p.MayApprove(by, now) })
}

// Refuse takes a proposal away; who asked for it may do so too.
func (a *Approvals) Refuse(ctx context.Context, id mail.ID, by Person, now time.Time) (Proposal, error) {
	return a.end(ctx, id, now, func(*Proposal) (string, error) { return "refused by " + by.Told, nil })
}

// end deletes a proposal, if it may be.
func (a *Approvals) end(ctx context.Context, id mail.ID, now time.Time, may func(*Proposal) (string, error)) (p Proposal, err error) {
	if !id.Valid() {
		return p, ErrNoProposal
	}
	if err := a.take(ctx); err != nil {
		return p, err
	}
	defer a.giveBack()
	key := approvalPrefix + string(id)
	value, err := a.records.Get(ctx, key)
	if errors.Is(err, custody.ErrNotFound) {
		return p, ErrNoProposal
	}
	if err == nil {
		p, err = readProposal(key, value)
	}
	if err != nil {
		return p, err
	}
	how, err := may(&p)
	if err != nil {
		return p, err
	}
	return p, a.commit(ctx, &custody.Batch{Delete: []string{key}, Facts: []ledger.Fact{p.fact(how, now)}})
}

// Sweep takes away what expired, and what cannot be read.
func (a *Approvals) Sweep(ctx context.Context, now time.Time) error {
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.giveBack()
	var b custody.Batch
	err := a.scan(ctx, func(key string, p Proposal, err error) {
		if err == nil && now.Before(p.Expires) {
			return
		}
		p.ID = mail.ID(strings.TrimPrefix(key, approvalPrefix))
		b.Delete = append(b.Delete, key)
		b.Facts = append(b.Facts, p.fact("expired", now))
	})
	if err != nil || len(b.Delete) == 0 {
		return err
	}
	return a.commit(ctx, &b)
}

func (a *Approvals) commit(ctx context.Context, b *custody.Batch) error {
	if err := a.records.Commit(ctx, b); err != nil {
		return fmt.Errorf("quarantine: proposals: %w", err)
	}
	return nil
}

// fact is an event of a proposal. What it selects may hold addresses: they are
// personal, as details are.
func (p *Proposal) fact(how string, now time.Time) ledger.Fact {
	return ledger.Fact{Time: now.UTC(), ID: p.ID, Event: ledger.ApprovalChanged, Detail: fmt.Sprintf("release of %d held messages %s", len(p.Messages), how)}
}
