package local

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"anechoic/ledger"
)

// recover brings what is kept in memory in line with the store: where the
// ledger stands, and what large bodies there are.
func (e *Engine) recover() error {
	if err := e.recoverLedger(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := e.recoverBodies(); err != nil {
		return fmt.Errorf("bodies: %w", err)
	}
	return nil
}

// recoverLedger goes on after the last segment with the facts a crash left
// unsealed, and seals them.
func (e *Engine) recoverLedger() error {
	key, value, err := e.last(ledger.SegmentPrefix)
	if err != nil {
		return err
	}
	var last ledger.Segment
	if key != "" {
		if last, err = ledger.ParseSegment(value); err != nil {
			return fmt.Errorf("%s: %w: restore the data directory from a backup", key, err)
		}
	}
	e.sealer = ledger.NewSealer(last)
	batch := e.db.NewBatch()
	defer func() { _ = batch.Close() }()
	lower := spaceKey(recordSpace, ledger.FactKey(e.sealer.Next()))
	err = e.iterate(lower, after(spaceKey(recordSpace, ledger.FactPrefix)), func(key, value []byte) (bool, error) {
		return true, e.recoverFact(batch, string(key[1:]), value)
	})
	if err != nil {
		return err
	}
	if e.sealer.Pending() > 0 {
		e.seal(batch)
	}
	return e.write(batch, true)
}

// recoverFact adds one unsealed fact to the segment in the making. Damage does
// not stop mail: it is left out, logged, and a gap that Verify reports.
func (e *Engine) recoverFact(batch *pebble.Batch, key string, value []byte) error {
	offset, err := ledger.ParseKey(ledger.FactPrefix, key)
	if err != nil {
		return err
	}
	leaf, err := ledger.Leaf(offset, value)
	if err != nil || offset != e.sealer.Next() {
		e.opts.Log.Error("ledger is damaged in its unsealed end: run log verify", "fact", offset, "expected", e.sealer.Next(), "error", err)
		if e.sealer.Pending() > 0 {
			e.seal(batch)
		}
		e.sealer.Skip(offset)
	}
	if err != nil {
		e.sealer.Skip(offset + 1)
		return nil
	}
	e.sealer.Add(leaf)
	if e.sealer.Full() {
		e.seal(batch)
	}
	return nil
}

// last is the last record whose key begins with prefix; no key: there is none.
func (e *Engine) last(prefix string) (key string, value []byte, err error) {
	lower := spaceKey(recordSpace, prefix)
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after(lower)})
	if err != nil {
		return "", nil, err
	}
	if it.Last() {
		value, err = it.ValueAndErr()
		key, value = string(it.Key()[1:]), append([]byte(nil), value...)
	}
	return key, value, errors.Join(err, it.Close())
}

// recoverBodies reads the manifests and removes the chunks of none: a crash
// came between them and the batch that would have made them real.
func (e *Engine) recoverBodies() error {
	if err := e.readManifests(); err != nil {
		return err
	}
	return e.sweep()
}

// readManifests notes what large bodies there are.
func (e *Engine) readManifests() error {
	space := []byte{manifestSpace}
	return e.iterate(space, after(space), func(key, value []byte) (bool, error) {
		m, err := parseManifest(value)
		if err != nil {
			return false, fmt.Errorf("%s: %w", key[1:], err)
		}
		e.large[string(key[1:])] = m
		return true, nil
	})
}

// sweep visits one chunk of each large body, not all.
func (e *Engine) sweep() error {
	space := []byte{chunkSpace}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: space, UpperBound: after(space)})
	if err != nil {
		return err
	}
	batch := e.db.NewBatch()
	defer func() { _ = batch.Close() }()
	for ok := it.First(); ok; {
		name, tag, known := parseChunkKey(it.Key())
		if !known {
			ok = it.Next()
			continue
		}
		prefix := chunkPrefix(name, tag)
		if m, real := e.large[name]; !real || m.tag != tag {
			_ = batch.DeleteRange(prefix, after(prefix), nil)
			e.opts.Log.Info("removed chunks of a body that was never kept", "body", name)
		}
		ok = it.SeekGE(after(prefix))
	}
	return errors.Join(it.Close(), e.apply(batch, false))
}
