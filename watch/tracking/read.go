package tracking

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"anechoic/ledger"
)

// errDamaged says that a partition does not hold what was written.
var errDamaged = errors.New("the partition is damaged")

// rowSet is rows of a batch.
type rowSet [maxBatch / 64]uint64

func (s *rowSet) add(row int) { s[row/64] |= 1 << (row % 64) }

func (s *rowSet) keep(other *rowSet) (some bool) {
	for i := range s {
		s[i] &= other[i]
		some = some || s[i] != 0
	}
	return some
}

// all gives its rows, the last one first if that is wanted.
func (s *rowSet) all(ascending bool) iter.Seq[int] {
	return func(yield func(int) bool) {
		if ascending {
			for i, word := range s {
				for ; word != 0; word &= word - 1 {
					if !yield(i*64 + bits.TrailingZeros64(word)) {
						return
					}
				}
			}
			return
		}
		for i, word := range slices.Backward(s[:]) {
			for word != 0 {
				bit := 63 - bits.LeadingZeros64(word)
				if !yield(i*64 + bit) {
					return
				}
				word &^= 1 << bit
			}
		}
	}
}

// reading is one query on one partition, which it holds open.
// It is closed.
type reading struct {
	p          *partition
	conditions []condition // those with fewer facts first
	block      int         // in memory
	docs       []doc
}

// doc is one fact in a block.
type doc struct {
	offset uint64
	record []byte
}

// read prepares a query on a partition.
func (p *partition) read(q Query) (*reading, error) {
	p.use.RLock()
	if p.db == nil {
		p.use.RUnlock()
		return nil, errGone
	}
	r := &reading{p: p}
	r.conditions = slices.Clone(q.conditions)
	slices.SortStableFunc(r.conditions, func(a, b condition) int { return a.field.rank - b.field.rank })
	return r, nil
}

func (r *reading) close() { r.p.use.RUnlock() }

// failed tells the end of a query from damage.
func (r *reading) failed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return fmt.Errorf("tracking: %s: %w: %w", r.p.path, errDamaged, err)
}

// rows are those of a batch that fulfil every condition.
func (r *reading) rows(ctx context.Context, b batch) (found rowSet, err error) {
	if len(r.conditions) == 0 {
		for row := range b.rows {
			found.add(row)
		}
		return found, nil
	}
	if ctx.Err() != nil {
		return found, ctx.Err()
	}
	for i, c := range r.conditions {
		var some rowSet
		for _, s := range c.spans {
			if err := r.span(ctx, s, b, &some); err != nil {
				return found, r.failed(ctx, err)
			}
		}
		if i == 0 {
			found = some
		}
		if !found.keep(&some) {
			return found, nil
		}
	}
	return found, nil
}

// span adds the rows of a batch that have a term of a span. What one batch has is read
// in a moment, so ctx is looked at between batches: to watch it within would cost more.
func (r *reading) span(ctx context.Context, s span, b batch, into *rowSet) error {
	low, high := s.bounds()
	first, next := b.sheetsOf(low, high)
	if first == next {
		return nil
	}
	rows, err := r.p.sheets.QueryContext(context.WithoutCancel(ctx), first, next)
	there := 0
	err = each(rows, err, func() error {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return err
		}
		there++
		return within(data, low, high, func(list []byte) error { return into.addAll(list, b) })
	})
	if err == nil && there != next-first {
		err = fmt.Errorf("batch %d: %d of its sheets are missing", b.first, next-first-there)
	}
	return err
}

// addAll adds the rows of a posting of a batch.
func (s *rowSet) addAll(list []byte, b batch) error {
	row := uint64(0)
	for at := 0; at < len(list); {
		distance, n := binary.Uvarint(list[at:])
		if row += distance; n <= 0 || row >= uint64(b.rows) {
			return fmt.Errorf("batch %d: a list of rows is malformed", b.first)
		}
		s.add(int(row))
		at += n
	}
	return nil
}

// fact is that of a row of a batch.
func (r *reading) fact(ctx context.Context, b batch, row int) (f ledger.Fact, err error) {
	if want := b.block + row/perBlock; want != r.block || r.docs == nil {
		if err := r.load(ctx, b, want); err != nil {
			return f, r.failed(ctx, err)
		}
	}
	if row%perBlock >= len(r.docs) {
		return f, r.failed(ctx, fmt.Errorf("batch %d has no row %d", b.first, row))
	}
	d := r.docs[row%perBlock]
	if f, err = ledger.Decode(d.offset, d.record); err != nil {
		return f, r.failed(ctx, err)
	}
	return f, nil
}

// load reads a block.
func (r *reading) load(ctx context.Context, b batch, id int) error {
	var data []byte
	if err := r.p.blocks.QueryRowContext(context.WithoutCancel(ctx), id).Scan(&data); err != nil {
		return fmt.Errorf("block %d: %w", id, err)
	}
	text, err := expander.DecodeAll(data, nil)
	if err != nil {
		return fmt.Errorf("block %d: %w", id, err)
	}
	docs := make([]doc, 0, perBlock)
	for len(text) > 0 {
		distance, n := binary.Uvarint(text)
		size, m := binary.Uvarint(text[max(n, 0):])
		if n <= 0 || m <= 0 || size > uint64(len(text)-n-m) {
			return fmt.Errorf("block %d is malformed", id)
		}
		text = text[n+m:]
		docs = append(docs, doc{offset: b.first + distance, record: text[:size]})
		text = text[size:]
	}
	r.block, r.docs = id, docs
	return nil
}
