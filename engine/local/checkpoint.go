package local

import (
	"context"
	"fmt"
)

// Checkpoint makes in dir, which must not exist and lies on the store's disk, a
// store of its own: what this one held at one moment, between two group commits.
// Every batch that Commit acknowledged before the call is in it, whole; one that
// is committed meanwhile is in it whole or not at all. Tables are hard links, so
// that it takes little room and time at first, and holds on to what is deleted
// until it is removed, which is the caller's to do. While it is made no commit
// ends; a full disk fails it and nothing else.
func (e *Engine) Checkpoint(ctx context.Context, dir string) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if err := e.checkpoint(ctx, dir); err != nil {
		return fmt.Errorf("engine: checkpoint %s: %w", dir, err)
	}
	return nil
}

// checkpoint writes the memtable out first, without holding anybody up: then there
// is next to no log to be copied.
func (e *Engine) checkpoint(ctx context.Context, dir string) error {
	var flushed <-chan struct{}
	err := e.inTurn(ctx, func() (err error) {
		e.sealNow()
		flushed, err = e.db.AsyncFlush()
		return err
	})
	if err != nil {
		return err
	}
	select {
	case <-flushed:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.fault.broken:
		return e.fault.err()
	}
	return e.inTurn(ctx, func() error {
		e.sealNow() // also makes durable what was lazy: the copy of the log is whole
		return e.db.Checkpoint(dir)
	})
}

// inTurn has the committing goroutine do something between two groups: it alone
// may meet a fault of the log, and while it is busy nobody writes one.
func (e *Engine) inTurn(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	turn := func() {
		if err := e.fault.err(); err != nil {
			done <- err
			return
		}
		done <- do()
	}
	select {
	case e.turns <- turn:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.fault.broken:
		return e.fault.err()
	}
	select {
	case err := <-done:
		return err
	case <-e.fault.broken:
		return e.fault.err()
	}
}
