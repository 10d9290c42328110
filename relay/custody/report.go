package custody

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// Report is a message that tells of mail sent earlier: a bounce or a complaint. It
// is read when it arrives and never sent on; what is kept of it is what it told:
// facts, records of its reader's, and what the relay itself has to say about it.
type Report struct {
	ID      mail.ID       // of the transaction that brought it
	Facts   []ledger.Fact // at least one
	Put     []Record      // of the reader's own: never those of the queue
	Notices []Submission
}

// KeepReport keeps what a report told: one durable batch, and notices enter
// custody as by Keep. The Receipt says that it is done; after an error nothing may
// be acknowledged.
func (q *Queue) KeepReport(ctx context.Context, r Report, now time.Time) (Receipt, error) {
	if err := r.check(); err != nil {
		return Receipt{}, fmt.Errorf("custody: keep the report %s: %w", r.ID, err)
	}
	b := Batch{Put: r.Put}
	kept := make([]*staged, len(r.Notices))
	for i, n := range r.Notices {
		var err error
		if kept[i], err = q.stage(ctx, &b, n, now); err != nil {
			return Receipt{}, fmt.Errorf("custody: keep the report %s: its notice: %w", r.ID, err)
		}
	}
	b.Facts = append(b.Facts, r.Facts...)
	if err := q.engine.Commit(ctx, &b); err != nil {
		return Receipt{}, fmt.Errorf("custody: keep the report %s: %w", r.ID, err)
	}
	for _, k := range kept {
		q.enter(k)
	}
	if len(kept) > 0 {
		q.wakeUp()
	}
	return Receipt{id: r.ID}, nil
}

func (r *Report) check() error {
	if !r.ID.Valid() {
		return errors.New("the id is not one that mail.NewID made")
	}
	if len(r.Facts) == 0 {
		return errors.New("it tells nothing")
	}
	return notOfTheQueue(r.Put)
}

// notOfTheQueue refuses records that only the queue writes.
func notOfTheQueue(records []Record) error {
	for _, r := range records {
		for _, own := range []string{messagePrefix, recipientPrefix, suspensionPrefix, asidePrefix, detainedPrefix, sitePrefix} {
			if strings.HasPrefix(r.Key, own) {
				return fmt.Errorf("the record %q is one of the queue", r.Key)
			}
		}
	}
	return nil
}
