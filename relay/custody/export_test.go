package custody

import (
	"context"
	"time"
)

// OpenInSteps opens a queue that reads so many messages back at each call of next,
// until that says that this was all. Nothing is read in between.
func OpenInSteps(ctx context.Context, engine Engine, opts Options, step int) (q *Queue, next func() (more bool, err error), err error) {
	q, r, err := openQueue(ctx, engine, opts)
	if err != nil {
		return nil, nil, err
	}
	r.step = step
	if err := r.readAside(ctx); err != nil {
		return nil, nil, err
	}
	if err := r.readDetained(ctx); err != nil {
		return nil, nil, err
	}
	return q, func() (bool, error) {
		more, err := r.next(ctx)
		if err == nil && !more {
			r.end(nil)
		}
		return more, err
	}, nil
}

// KeepMany keeps messages in one batch: benchmarks fill a queue with it.
func (q *Queue) KeepMany(ctx context.Context, list []Submission, at func(int) time.Time) error {
	var b Batch
	kept := make([]*staged, len(list))
	for i, s := range list {
		var err error
		if kept[i], err = q.stage(ctx, &b, s, at(i)); err != nil {
			return err
		}
	}
	b.Facts = nil
	if err := q.engine.Commit(ctx, &b); err != nil {
		return err
	}
	for _, k := range kept {
		q.enter(k)
	}
	return nil
}

// SumAgain gives a stored value the sum of what it holds now: damage that somebody
// made on purpose.
func SumAgain(value []byte) []byte {
	sumRecord(value)
	return value
}
