package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"anechoic/relay/custody"
)

// putBody puts a small body into the batch, or writes a large one in chunks and
// puts its manifest.
func (e *Engine) putBody(ctx context.Context, r *request, p custody.BodyRecord) error {
	if p.Size <= custody.ChunkThreshold {
		op := r.batch.SetDeferred(1+len(p.Name), int(p.Size))
		op.Key[0] = bodySpace
		copy(op.Key[1:], p.Name)
		if err := readExactly(p, op.Value); err != nil {
			return err
		}
		return errors.Join(op.Finish(), atEnd(p))
	}
	m := manifest{size: p.Size, tag: rand.Uint64()}
	r.added, r.large = append(r.added, p.Name), append(r.large, m)
	if err := e.writeChunks(ctx, p, m); err != nil {
		return err
	}
	put(r.batch, manifestSpace, p.Name, m.bytes())
	return nil
}

func readExactly(p custody.BodyRecord, into []byte) error {
	if _, err := io.ReadFull(p.Content, into); err != nil {
		return fmt.Errorf("%w: read body %s of %d octets: %v", custody.ErrBadBatch, p.Name, p.Size, err)
	}
	return nil
}

func atEnd(p custody.BodyRecord) error {
	if n, _ := io.ReadFull(p.Content, make([]byte, 1)); n > 0 {
		return fmt.Errorf("%w: body %s has more than its %d octets", custody.ErrBadBatch, p.Name, p.Size)
	}
	return nil
}

// writeChunks writes a large body unsynced. The log is written in order, so the
// synced batch with the manifest makes the chunks durable too.
func (e *Engine) writeChunks(ctx context.Context, p custody.BodyRecord, m manifest) error {
	for n := range m.chunks() {
		size := int(min(p.Size-int64(n)*custody.ChunkThreshold, custody.ChunkThreshold))
		batch := e.db.NewBatchWithSize(size + 2*custody.MaxKey)
		key := chunkKey(p.Name, m.tag, n)
		op := batch.SetDeferred(len(key), size)
		copy(op.Key, key)
		if err := readExactly(p, op.Value); err != nil {
			return errors.Join(err, batch.Close())
		}
		if err := errors.Join(op.Finish(), e.writeLazily(ctx, batch, size)); err != nil {
			return err
		}
	}
	return atEnd(p)
}

// writeLazily commits a batch of this engine's own, and closes it.
func (e *Engine) writeLazily(ctx context.Context, batch *pebble.Batch, size int) error {
	r := &request{batch: batch, lazy: true, size: int64(size), done: make(chan error, 1)}
	if err := e.submit(ctx, r); err != nil {
		return err
	}
	return batch.Close()
}

// dropChunks removes the chunks of a body that did not become real. What it
// cannot remove, the next Open does.
func (e *Engine) dropChunks(name string, m manifest) {
	batch := e.db.NewBatch()
	for n := range m.chunks() {
		_ = batch.Delete(chunkKey(name, m.tag, n), nil)
	}
	_ = e.writeLazily(context.Background(), batch, requestOverhead)
}

// deleteBody adds to the batch what deletes a body, which need not exist.
func (e *Engine) deleteBody(batch *pebble.Batch, name string) {
	e.largeMu.RLock()
	m, large := e.large[name]
	e.largeMu.RUnlock()
	if !large {
		deleteKey(batch, bodySpace, name)
		return
	}
	deleteKey(batch, manifestSpace, name)
	for n := range m.chunks() {
		_ = batch.Delete(chunkKey(name, m.tag, n), nil)
	}
}

// OpenBody implements custody.Engine.
func (e *Engine) OpenBody(ctx context.Context, name string) (custody.StoredBody, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.largeMu.RLock()
	m, large := e.large[name]
	e.largeMu.RUnlock()
	if large {
		return &chunked{engine: e, name: name, manifest: m, number: noChunk}, nil
	}
	whole, err := e.get(spaceKey(bodySpace, name))
	if err != nil {
		return nil, fmt.Errorf("engine: body %s: %w", name, err)
	}
	return small(whole), nil
}

// small is a body in one piece.
type small []byte

func (s small) Size() int64           { return int64(len(s)) }
func (s small) Whole() ([]byte, bool) { return s, true }

func (s small) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(s)) {
		return 0, io.EOF
	}
	n := copy(p, s[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// chunked is a body in chunks. It keeps the one it read last.
type chunked struct {
	engine *Engine
	name   string
	manifest

	mu     sync.Mutex // guards chunk and number
	chunk  []byte
	number uint32
}

const noChunk = ^uint32(0)

func (c *chunked) Size() int64           { return c.size }
func (c *chunked) Whole() ([]byte, bool) { return nil, false }

func (c *chunked) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off < 0 || off >= c.size {
			return n, io.EOF
		}
		chunk, err := c.load(uint32(off / custody.ChunkThreshold))
		if err != nil {
			return n, err
		}
		at := off % custody.ChunkThreshold
		if at >= int64(len(chunk)) {
			return n, fmt.Errorf("engine: body %s: %w: a chunk is too short", c.name, io.ErrUnexpectedEOF)
		}
		got := copy(p[n:], chunk[at:])
		n, off = n+got, off+int64(got)
	}
	return n, nil
}

// load gives a chunk, whose bytes are not changed any more.
func (c *chunked) load(number uint32) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.number == number {
		return c.chunk, nil
	}
	chunk, err := c.engine.get(chunkKey(c.name, c.tag, number))
	if err != nil {
		return nil, fmt.Errorf("engine: body %s: chunk %d: %w", c.name, number, err)
	}
	c.chunk, c.number = chunk, number
	return chunk, nil
}
