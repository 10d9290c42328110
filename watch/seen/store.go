package seen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"anechoic/relay/custody"
)

// prefix of the records: seen/<tenant>/<originator>.
const prefix = "seen/"

// flushAtOnce is how many records one lazy batch has.
const flushAtOnce = 500

func (n name) key() string { return prefix + n.tenant + "/" + n.originator.String() }

// Load reads what Flush wrote. What cannot be read is passed over, with an error
// that says how much that was.
func (t *Table) Load(ctx context.Context, engine custody.Engine) error {
	var stored []*Tenant
	bad := 0
	err := engine.Scan(ctx, prefix, "", func(key string, value []byte) bool {
		k := new(Tenant)
		if err := json.Unmarshal(value, k); err != nil || (name{k.Tenant, k.Originator}).key() != key {
			bad++
			return true
		}
		stored = append(stored, k)
		return true
	})
	slices.SortFunc(stored, func(a, b *Tenant) int { return a.Last.Compare(b.Last) })
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range stored {
		t.put(name{k.Tenant, k.Originator}, k)
	}
	if bad > 0 {
		err = errors.Join(err, fmt.Errorf("seen: %d stored tenants could not be read", bad))
	}
	return err
}

// Flush writes what changed since the last time, without a sync of its own. What
// could not be written is written the next time.
func (t *Table) Flush(ctx context.Context, engine custody.Engine) error {
	for {
		b, names := t.changes()
		if len(names) == 0 {
			return nil
		}
		if err := engine.Commit(ctx, b); err != nil {
			t.again(names)
			return fmt.Errorf("seen: %d tenants could not be stored: %w", len(names), err)
		}
	}
}

// changes takes some of what changed as a batch.
func (t *Table) changes() (*custody.Batch, []name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, names := &custody.Batch{Lazy: true}, []name(nil)
	for n := range t.gone {
		if len(names) == flushAtOnce {
			return b, names
		}
		names = append(names, n)
		b.Delete = append(b.Delete, n.key())
		delete(t.gone, n)
	}
	for n := range t.dirty {
		if len(names) == flushAtOnce {
			return b, names
		}
		delete(t.dirty, n)
		value, err := json.Marshal(t.known[n].Value)
		if err != nil {
			continue // every field has a JSON form
		}
		names = append(names, n)
		b.Put = append(b.Put, custody.Record{Key: n.key(), Value: value})
	}
	return b, names
}

// again notes that changes were not written.
func (t *Table) again(names []name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range names {
		if t.known[n] != nil {
			t.dirty[n] = true
		} else {
			t.gone[n] = true
		}
	}
}
