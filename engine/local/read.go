package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"anechoic/ledger"
	"anechoic/relay/custody"
)

// Get implements custody.Engine.
func (e *Engine) Get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	value, err := e.get(spaceKey(recordSpace, key))
	if err != nil {
		return nil, fmt.Errorf("engine: %s: %w", key, err)
	}
	return value, nil
}

func (e *Engine) get(key []byte) ([]byte, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.leave()
	value, closer, err := e.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, custody.ErrNotFound
	}
	if err != nil {
		return nil, damaged(err)
	}
	return bytes.Clone(value), closer.Close()
}

// damaged says custody.ErrDamaged of what the disk gave back otherwise than it was
// written. What Pebble says of it goes over several lines.
func damaged(err error) error {
	if err == nil || !pebble.IsCorruptionError(err) {
		return err
	}
	cause, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%w: %s", custody.ErrDamaged, cause)
}

// Scan implements custody.Engine. It shows what was there when it was called.
func (e *Engine) Scan(ctx context.Context, prefix, from string, visit func(string, []byte) bool) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	facts, segments := ledger.FactKey(e.durableFacts.Load()), ledger.SegmentKey(e.durableSegments.Load())
	undurable := func(key string) bool {
		return strings.HasPrefix(key, ledger.FactPrefix) && key >= facts ||
			strings.HasPrefix(key, ledger.SegmentPrefix) && key >= segments
	}
	lower := spaceKey(recordSpace, max(prefix, from))
	err := e.iterate(lower, after(spaceKey(recordSpace, prefix)), func(key, value []byte) (bool, error) {
		name := string(key[1:])
		if undurable(name) {
			return true, nil
		}
		return visit(name, value), ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("engine: scan %s: %w", prefix, damaged(err))
	}
	return nil
}

// iterate visits the keys from lower to before upper until visit says false.
func (e *Engine) iterate(lower, upper []byte, visit func(key, value []byte) (bool, error)) error {
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		more, err := visit(it.Key(), value)
		if err != nil || !more {
			return errors.Join(err, it.Close())
		}
	}
	return it.Close() // with the iterator's error
}
