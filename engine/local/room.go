package local

import (
	"fmt"
	"time"

	"anechoic/mail/background"
	"anechoic/relay/custody"
)

// reserveMargin: new bodies are taken again when an eighth of the reserve more is
// free.
const reserveMargin = 8

// lookEvery is how often the file system is asked while there is room. What may be
// written in the meantime is a small part of the reserve.
const lookEvery = 10 * time.Millisecond

// reclaimEvery is how often a disk at its limit is asked to give back what was
// deleted.
const reclaimEvery = time.Second

// room says custody.ErrFull when the disk is down to the reserve, until it is
// above it by a margin.
func (e *Engine) room() error {
	now := time.Since(e.opened)
	if last := time.Duration(e.looked.Load()); last > 0 && now-last < lookEvery && !e.short.Load() {
		return nil
	}
	e.looked.Store(int64(now))
	usage, err := e.opts.FS.GetDiskUsage(e.opts.Dir)
	if err != nil {
		return nil // a file system that does not know its size has none
	}
	wanted := e.opts.Reserve
	if e.short.Load() {
		wanted += wanted / reserveMargin
	}
	is := usage.AvailBytes < wanted
	if was := e.short.Swap(is); was != is {
		e.changeRoom(is, usage.AvailBytes)
	}
	if !is {
		return nil
	}
	return fmt.Errorf("engine: %s: %w: %d MiB are free, %d MiB are reserved: make room on that disk",
		e.opts.Dir, custody.ErrFull, usage.AvailBytes>>20, wanted>>20)
}

// changeRoom logs when taking new mail ends and begins again, and begins to
// reclaim.
func (e *Engine) changeRoom(short bool, free uint64) {
	if !short {
		e.opts.Log.Info("there is room on the disk again: new mail is taken", "dir", e.opts.Dir, "free_bytes", free)
		return
	}
	e.opts.Log.Error("disk is down to the reserve: no new mail is taken, delivery goes on", "dir", e.opts.Dir, "free_bytes", free, "reserve_bytes", e.opts.Reserve)
	if e.reclaims.CompareAndSwap(false, true) && e.enter() == nil {
		background.Go(nil, e.opts.Log, "engine: reclaim room", e.reclaim)
	}
}

// reclaim has the store give back what was deleted, while the disk is short.
// Deletions wait in memory for a memtable to be full, which without new mail may
// never be: the queue could be empty and the disk full for ever. Once they are
// written out, compactions drop what they delete.
func (e *Engine) reclaim() {
	defer e.leave()
	tick := time.NewTicker(reclaimEvery)
	defer tick.Stop()
	for more := true; more; more = e.short.Load() && e.reclaims.CompareAndSwap(false, true) {
		if !e.reclaimWhileShort(tick.C) {
			return
		}
		e.reclaims.Store(false) // and look once more: it may be short again since
	}
}

// reclaimWhileShort says false if the engine ends.
func (e *Engine) reclaimWhileShort(tick <-chan time.Time) bool {
	for e.short.Load() {
		if e.deleted.Swap(false) {
			select {
			case e.flushing <- struct{}{}:
			default:
			}
		}
		select {
		case <-tick:
			_ = e.room()
		case <-e.quit:
			return false
		case <-e.fault.broken:
			return false
		}
	}
	return true
}

// flush begins to write out the memtable. Pebble tries again what fails; only the
// committing goroutine may call it, because a fault of the log stops the caller.
func (e *Engine) flush() {
	if e.fault.err() == nil {
		_, _ = e.db.AsyncFlush() // an error is that of a closed store, which this is not
	}
}
