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
	"strings"

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

// reading is one query on one partition: it holds the partition open and the statements
// prepared. It is closed.
type reading struct {
	p          *partition
	statements []*sql.Stmt // of conditions, those with fewer facts first
	arguments  [][]any     // without the batch
	block      int         // in memory
	docs       []doc
}

// doc is one fact in a block.
type doc struct {
	offset uint64
	record []byte
}

// read prepares a query on a partition.
func (p *partition) read(ctx context.Context, q Query) (*reading, error) {
	p.use.RLock()
	if p.db == nil {
		p.use.RUnlock()
		return nil, errGone
	}
	r := &reading{p: p}
	conditions := slices.Clone(q.conditions)
	slices.SortStableFunc(conditions, func(a, b condition) int { return a.field.rank - b.field.rank })
	for _, c := range conditions {
		text, args := c.statement()
		statement, err := p.db.PrepareContext(ctx, text)
		if err != nil {
			r.close()
			return nil, r.failed(ctx, err)
		}
		r.statements, r.arguments = append(r.statements, statement), append(r.arguments, args)
	}
	return r, nil
}

func (r *reading) close() {
	for _, s := range r.statements {
		_ = s.Close() // nothing was written
	}
	r.p.use.RUnlock()
}

// failed tells the end of a query from damage.
func (r *reading) failed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return fmt.Errorf("tracking: %s: %w: %w", r.p.path, errDamaged, err)
}

// statement is the SQL that gives the lists of rows that fulfil a condition in the
// batch ?1: each part goes by the primary key.
func (c condition) statement() (text string, args []any) {
	var exact, parts []string
	for _, s := range c.spans {
		if s.high == "" {
			args = append(args, []byte(s.low))
			exact = append(exact, fmt.Sprintf("?%d", len(args)+1))
			continue
		}
		args = append(args, []byte(s.low), []byte(s.high))
		parts = append(parts, fmt.Sprintf("SELECT rows FROM postings WHERE batch=?1 AND term>=?%d AND term<?%d", len(args), len(args)+1))
	}
	if len(exact) > 0 {
		parts = append(parts, "SELECT rows FROM postings WHERE batch=?1 AND term IN ("+strings.Join(exact, ",")+")")
	}
	return strings.Join(parts, " UNION ALL "), args
}

// rows are those of a batch that fulfil every condition.
func (r *reading) rows(ctx context.Context, b batch) (found rowSet, err error) {
	if len(r.statements) == 0 {
		for row := range b.rows {
			found.add(row)
		}
		return found, nil
	}
	for i, s := range r.statements {
		var some rowSet
		if err := r.condition(ctx, s, r.arguments[i], b, &some); err != nil {
			return found, r.failed(ctx, err)
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

func (r *reading) condition(ctx context.Context, s *sql.Stmt, args []any, b batch, into *rowSet) error {
	rows, err := s.QueryContext(ctx, append([]any{b.first}, args...)...)
	return each(rows, err, func() error {
		var list sql.RawBytes
		if err := rows.Scan(&list); err != nil {
			return err
		}
		row := uint64(0)
		for at := 0; at < len(list); {
			distance, n := binary.Uvarint(list[at:])
			if row += distance; n <= 0 || row >= uint64(b.rows) {
				return fmt.Errorf("batch %d: a list of rows is malformed", b.first)
			}
			into.add(int(row))
			at += n
		}
		return nil
	})
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
	if err := r.p.db.QueryRowContext(ctx, `SELECT data FROM blocks WHERE id=?`, id).Scan(&data); err != nil {
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
