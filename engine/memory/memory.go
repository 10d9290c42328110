// Package memory is the engine that forgets: everything lives in maps of one
// process. Tests and the lab use it; it keeps the same promises as the durable
// engines but for outliving the process.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"anechoic/ledger"
	"anechoic/relay/custody"
)

// Engine implements custody.Engine. Use New.
type Engine struct {
	mu      sync.RWMutex // guards all below
	records map[string][]byte
	bodies  map[string][]byte
	sealer  *ledger.Sealer
	pending time.Time // of the first fact that is not sealed
	closed  bool
}

// New is an empty engine.
func New() *Engine {
	return &Engine{records: map[string][]byte{}, bodies: map[string][]byte{}, sealer: ledger.NewSealer(ledger.Segment{})}
}

// Clone is a second engine with what this one holds now, as a restart after a
// crash at this moment would find it.
func (e *Engine) Clone() *Engine {
	e.mu.RLock()
	defer e.mu.RUnlock()
	c := &Engine{records: maps.Clone(e.records), bodies: maps.Clone(e.bodies), pending: e.pending}
	c.sealer = e.sealer.Clone()
	return c
}

// Commit implements custody.Engine. Nothing happens if ctx ended before.
func (e *Engine) Commit(ctx context.Context, b *custody.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.Check(); err != nil {
		return err
	}
	bodies := make([][]byte, len(b.PutBody))
	for i, r := range b.PutBody {
		var err error
		if bodies[i], err = readExactly(r); err != nil {
			return err
		}
	}
	facts := make([]ledger.Encoded, len(b.Facts))
	for i, f := range b.Facts {
		var err error
		if facts[i], err = ledger.Encode(f); err != nil {
			return fmt.Errorf("%w: %v", custody.ErrBadBatch, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return custody.ErrClosed
	}
	e.apply(b, bodies, facts)
	return nil
}

// readExactly reads a body and refuses one of another size than it says.
func readExactly(r custody.BodyRecord) ([]byte, error) {
	content := make([]byte, r.Size)
	if _, err := io.ReadFull(r.Content, content); err != nil {
		return nil, fmt.Errorf("%w: read body %s of %d octets: %v", custody.ErrBadBatch, r.Name, r.Size, err)
	}
	if n, _ := r.Content.Read(make([]byte, 1)); n > 0 {
		return nil, fmt.Errorf("%w: body %s has more than its %d octets", custody.ErrBadBatch, r.Name, r.Size)
	}
	return content, nil
}

func (e *Engine) apply(b *custody.Batch, bodies [][]byte, facts []ledger.Encoded) {
	for _, k := range b.Delete {
		delete(e.records, k)
	}
	for _, n := range b.DeleteBody {
		delete(e.bodies, n)
	}
	for _, r := range b.Put {
		e.records[r.Key] = bytes.Clone(r.Value)
	}
	for i, r := range b.PutBody {
		e.bodies[r.Name] = bodies[i]
	}
	now := time.Now()
	for _, f := range facts {
		if e.sealer.Pending() == 0 {
			e.pending = now
		}
		offset := e.sealer.Next()
		e.records[ledger.FactKey(offset)] = f.Record()
		e.sealer.Add(f.Leaf(offset))
		if e.sealer.Full() {
			e.seal(now)
		}
	}
	if e.sealer.Pending() > 0 && now.Sub(e.pending) >= ledger.SealAfter {
		e.seal(now)
	}
}

func (e *Engine) seal(now time.Time) {
	s := e.sealer.Seal(now)
	e.records[ledger.SegmentKey(s.Number)] = s.Bytes()
}

// Seal seals what is not yet, without waiting for the next commit.
func (e *Engine) Seal() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sealer.Pending() > 0 {
		e.seal(time.Now())
	}
}

// Get implements custody.Engine.
func (e *Engine) Get(ctx context.Context, key string) ([]byte, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	v, ok := e.records[key]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case e.closed:
		return nil, custody.ErrClosed
	case !ok:
		return nil, fmt.Errorf("%s: %w", key, custody.ErrNotFound)
	}
	return bytes.Clone(v), nil
}

// Scan implements custody.Engine. It shows what was there when it was called.
func (e *Engine) Scan(ctx context.Context, prefix, from string, visit func(string, []byte) bool) error {
	found, err := e.collect(prefix, from)
	if err != nil {
		return err
	}
	for _, r := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !visit(r.Key, r.Value) {
			return nil
		}
	}
	return nil
}

func (e *Engine) collect(prefix, from string) ([]custody.Record, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, custody.ErrClosed
	}
	var found []custody.Record
	for k, v := range e.records {
		if strings.HasPrefix(k, prefix) && k >= from {
			found = append(found, custody.Record{Key: k, Value: v}) // values are never changed, only replaced
		}
	}
	slices.SortFunc(found, func(a, b custody.Record) int { return strings.Compare(a.Key, b.Key) })
	return found, nil
}

// OpenBody implements custody.Engine.
func (e *Engine) OpenBody(ctx context.Context, name string) (custody.StoredBody, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	b, ok := e.bodies[name]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case e.closed:
		return nil, custody.ErrClosed
	case !ok:
		return nil, fmt.Errorf("body %s: %w", name, custody.ErrNotFound)
	}
	return body{bytes.NewReader(b), b}, nil
}

// body is a custody.StoredBody.
type body struct {
	*bytes.Reader
	all []byte
}

// Whole gives small bodies in one piece, as the durable engines do.
func (b body) Whole() ([]byte, bool) {
	if len(b.all) > custody.ChunkThreshold {
		return nil, false
	}
	return b.all, true
}

// Close seals the ledger; every later call is custody.ErrClosed.
func (e *Engine) Close() error {
	e.Seal()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return nil
}

// Reopen is the engine with what this one held, which is closed.
func (e *Engine) Reopen() *Engine {
	_ = e.Close()
	return e.Clone()
}

// Put replaces one stored record behind the engine's back, and Remove takes one
// away: for tests of what damage leads to.
func (e *Engine) Put(key string, value []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.records[key] = bytes.Clone(value)
}

// Remove: see Put.
func (e *Engine) Remove(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.records, key)
}

// PutBody replaces one stored body behind the engine's back, for tests.
func (e *Engine) PutBody(name string, content []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bodies[name] = bytes.Clone(content)
}
