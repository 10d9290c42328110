package local

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"anechoic/ledger"
	"anechoic/relay/custody"
)

// request is a batch that waits for the committing goroutine.
type request struct {
	batch *pebble.Batch
	facts []ledger.Encoded
	added []string // names of large bodies the batch makes real, with their manifests
	large []manifest
	gone  []string // names of bodies it deletes
	lazy  bool
	size  int64
	done  chan error
}

// committer is the state of the committing goroutine.
type committer struct {
	sealer  *ledger.Sealer
	pending time.Time // when the first unsealed fact came; zero: there is none
	dirty   bool      // something lazy is not durable yet
	timer   *time.Timer
}

// Commit implements custody.Engine. ctx counts until the batch is admitted: if
// Commit returns its error, nothing happened. After that Commit waits to know.
func (e *Engine) Commit(ctx context.Context, b *custody.Batch) error {
	if err := b.Check(); err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if err := e.admit(ctx, b); err != nil {
		return err
	}
	size := weight(b)
	if err := e.admitted.Acquire(ctx, size); err != nil {
		return err
	}
	defer e.admitted.Release(size)
	r, err := e.prepare(ctx, b, size)
	if err != nil {
		return err
	}
	if err := e.submit(ctx, r); err != nil {
		return err
	}
	e.finish(r)
	return nil
}

// submit hands a request to the committing goroutine and waits for the answer.
// Once it has it, ctx does not count. If the engine breaks the request is not
// touched any more: that goroutine may have stopped with it in its hands.
func (e *Engine) submit(ctx context.Context, r *request) error {
	select {
	case e.requests <- r:
	case <-ctx.Done():
		e.abandon(r)
		return ctx.Err()
	case <-e.fault.broken:
		return e.fault.err()
	}
	select {
	case err := <-r.done:
		return err
	case <-e.fault.broken:
		return e.fault.err()
	}
}

// admit refuses what is hopeless before any work is done.
func (e *Engine) admit(ctx context.Context, b *custody.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.fault.err(); err != nil {
		return err
	}
	if len(b.PutBody) > 0 {
		return e.room()
	}
	return nil
}

// weight is what a batch holds in memory while it is in flight.
func weight(b *custody.Batch) int64 {
	size := int64(requestOverhead * (1 + len(b.Facts)))
	for _, r := range b.Put {
		size += int64(len(r.Key) + len(r.Value))
	}
	for _, r := range b.PutBody {
		size += min(r.Size, custody.ChunkThreshold)
	}
	return min(size, maxInFlight)
}

// prepare does, in the caller's goroutine, all that needs no order: encode the
// facts, read small bodies into the batch, write the chunks of large ones.
func (e *Engine) prepare(ctx context.Context, b *custody.Batch, size int64) (*request, error) {
	r := &request{batch: e.db.NewBatchWithSize(int(min(size, maxGroup))), gone: b.DeleteBody, lazy: b.Lazy, size: size, done: make(chan error, 1)}
	if err := e.fill(ctx, r, b); err != nil {
		e.abandon(r)
		return nil, err
	}
	return r, nil
}

func (e *Engine) fill(ctx context.Context, r *request, b *custody.Batch) error {
	if len(b.Facts) > 0 {
		r.facts = make([]ledger.Encoded, len(b.Facts))
	}
	for i, f := range b.Facts {
		var err error
		if r.facts[i], err = ledger.Encode(f); err != nil {
			return fmt.Errorf("%w: %v", custody.ErrBadBatch, err)
		}
	}
	for _, k := range b.Delete {
		deleteKey(r.batch, recordSpace, k)
	}
	for _, n := range b.DeleteBody {
		e.deleteBody(r.batch, n)
	}
	for _, p := range b.Put {
		put(r.batch, recordSpace, p.Key, p.Value)
	}
	for _, p := range b.PutBody {
		if err := e.putBody(ctx, r, p); err != nil {
			return err
		}
	}
	return nil
}

// put and deleteKey build the key inside the batch. Their errors are those of a
// batch that was committed already, which these are not.
func put(b *pebble.Batch, space byte, key string, value []byte) {
	op := b.SetDeferred(1+len(key), len(value))
	op.Key[0] = space
	copy(op.Key[1:], key)
	copy(op.Value, value)
	_ = op.Finish()
}

func deleteKey(b *pebble.Batch, space byte, key string) {
	op := b.DeleteDeferred(1 + len(key))
	op.Key[0] = space
	copy(op.Key[1:], key)
	_ = op.Finish()
}

// abandon gives up a request that was never committed, and the chunks it wrote.
func (e *Engine) abandon(r *request) {
	_ = r.batch.Close()
	for i, name := range r.added {
		e.dropChunks(name, r.large[i])
	}
}

// finish makes known what large bodies there are now.
func (e *Engine) finish(r *request) {
	if len(r.gone) > 0 {
		e.deleted.Store(true)
	}
	if len(r.added)+len(r.gone) > 0 {
		e.largeMu.Lock()
		for _, name := range r.gone {
			delete(e.large, name)
		}
		for i, name := range r.added {
			e.large[name] = r.large[i]
		}
		e.largeMu.Unlock()
	}
	_ = r.batch.Close()
}

// run is the committing goroutine. It ends when Close closes the channel, with
// the ledger sealed.
func (e *Engine) run() {
	defer close(e.stopped)
	e.timer = time.NewTimer(time.Hour)
	e.timer.Stop()
	var group []*request
	for {
		select {
		case r, ok := <-e.requests:
			if !ok {
				e.sealNow()
				return
			}
			group = e.gather(append(group[:0], r))
			e.commitGroup(group)
			clear(group)
		case <-e.timer.C:
			e.sealNow()
		case <-e.flushing:
			e.flush()
		case turn := <-e.turns:
			turn()
		}
	}
}

// gather takes what else waits, up to a size. Whoever is ready to run goes first
// and may bring a batch too: on a busy machine that halves the number of syncs,
// on an idle one it costs nothing.
func (e *Engine) gather(group []*request) []*request {
	runtime.Gosched()
	size := group[0].size
	for size < maxGroup {
		select {
		case r, ok := <-e.requests:
			if !ok { // not while a request waits; Close comes after all of them
				return group
			}
			group = append(group, r)
			size += r.size
		default:
			return group
		}
	}
	return group
}

// commitGroup writes the batches of a group one after the other and syncs with
// the last: the log is written in order, so that its sync is that of all before.
// Each batch stays whole by itself. Then it tells everybody.
func (e *Engine) commitGroup(group []*request) {
	lazy := true
	for _, r := range group {
		lazy = lazy && r.lazy
	}
	var err error
	for i, r := range group {
		if err == nil {
			last := i == len(group)-1
			e.number(r.batch, r.facts)
			if last && e.sealer.Pending() > 0 && sinceOrZero(e.pending) >= ledger.SealAfter {
				e.seal(r.batch)
			}
			err = e.write(r.batch, last && !lazy)
		}
	}
	for _, r := range group {
		r.done <- err
	}
	e.arm()
}

// number gives facts their offsets and adds them to the batch.
func (e *Engine) number(batch *pebble.Batch, facts []ledger.Encoded) {
	for _, f := range facts {
		if e.pending.IsZero() {
			e.pending = time.Now()
		}
		offset := e.sealer.Next()
		put(batch, recordSpace, ledger.FactKey(offset), f.Record())
		e.sealer.Add(f.Leaf(offset))
		if e.sealer.Full() {
			e.seal(batch)
		}
	}
}

// seal adds the segment in the making to the batch.
func (e *Engine) seal(batch *pebble.Batch) {
	s := e.sealer.Seal(time.Now())
	put(batch, recordSpace, ledger.SegmentKey(s.Number), s.Bytes())
	e.pending = time.Time{}
}

// write applies a batch, synced or not, and says what is durable since.
func (e *Engine) write(batch *pebble.Batch, sync bool) error {
	if err := e.apply(batch, sync); err != nil {
		return err
	}
	e.dirty = !sync
	if sync {
		e.durableFacts.Store(e.sealer.Next())
		e.durableSegments.Store(e.sealer.Number())
	}
	return nil
}

// sealNow seals what waits for it and makes durable what was lazy.
func (e *Engine) sealNow() {
	if e.sealer.Pending() == 0 && !e.dirty || e.fault.err() != nil {
		return
	}
	batch := e.db.NewBatch()
	defer func() { _ = batch.Close() }()
	if e.sealer.Pending() > 0 {
		e.seal(batch)
	}
	_ = e.write(batch, true) // the fault is remembered, and logged
}

// arm sets the timer if something is to be sealed or synced.
func (e *Engine) arm() {
	if e.sealer.Pending() > 0 || e.dirty {
		e.timer.Reset(max(ledger.SealAfter-sinceOrZero(e.pending), time.Millisecond))
	}
}

// apply writes one batch to Pebble. Any failure is final: nobody knows what of a
// failed write is on disk, and a second fsync would not tell, because the kernel
// forgets the pages it could not write. Most failures do not come back here:
// the guard stops this goroutine inside.
func (e *Engine) apply(batch *pebble.Batch, sync bool) error {
	if err := e.fault.err(); err != nil {
		return err
	}
	if batch.Empty() {
		if !sync {
			return nil
		}
		_ = batch.LogData(nil, nil) // stores nothing, but can be synced
	}
	opts := pebble.NoSync
	if sync {
		opts = pebble.Sync
	}
	if err := e.db.Apply(batch, opts); err != nil {
		return e.fault.set(err)
	}
	return e.fault.err()
}
