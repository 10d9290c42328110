package tracking

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"anechoic/ledger"
)

// entry is a fact that was read from the ledger, and its record there.
type entry struct {
	fact   ledger.Fact
	record []byte
}

// checksum is a running CRC-32C.
type checksum uint32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (c *checksum) add(parts ...[]byte) {
	for _, p := range parts {
		*c = checksum(crc32.Update(uint32(*c), castagnoli, p))
	}
}

// packed is a batch made ready in memory.
type packed struct {
	batch
	pages  []sheet // of its postings
	blocks [][]byte
	last   string
}

// compressor is shared; EncodeAll may be called by many at once.
var compressor, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))

// expander likewise.
var expander, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))

// pack makes a batch of facts, in order, as their rules have them; next is the offset
// after the last one that was read. Facts that are not kept are left out.
func pack(entries []entry, first, next uint64, dayEnd, now time.Time, policy *Policy, key hashKey) (packed, error) {
	b := packed{batch: batch{first: first, next: next, low: 1<<63 - 1, high: -1 << 63}}
	p := newPostings(len(entries))
	var block []byte
	for _, e := range entries {
		rule := policy.rule(&e.fact)
		if rule.ended(dayEnd, now) {
			continue
		}
		f, record, err := covered(e, rule.Mode, key)
		if err != nil {
			return b, err
		}
		at := f.Time.UnixMilli()
		b.low, b.high = min(b.low, at), max(b.high, at)
		p.add(&f, b.rows)
		block = binary.AppendUvarint(block, f.Offset-first)
		block = binary.AppendUvarint(block, uint64(len(record)))
		block = append(block, record...)
		if b.rows++; b.rows%perBlock == 0 {
			b.blocks, block = append(b.blocks, compressor.EncodeAll(block, nil)), block[:0]
		}
	}
	if len(block) > 0 {
		b.blocks = append(b.blocks, compressor.EncodeAll(block, nil))
	}
	b.seal(p)
	if n := len(entries); n > 0 {
		b.last = identify(entries[n-1].fact)
	}
	return b, nil
}

// covered is a fact and its record under a mode.
func covered(e entry, mode Mode, key hashKey) (ledger.Fact, []byte, error) {
	if mode == Full {
		return e.fact, e.record, nil
	}
	f := key.cover(e.fact, mode)
	encoded, err := ledger.Encode(f)
	return f, encoded.Record(), err
}

// seal puts the postings in order and sums up.
func (b *packed) seal(p *postings) {
	b.pages = p.sheets()
	for _, s := range b.pages {
		b.firsts = append(b.firsts, s.first)
	}
	var sum checksum
	sum.add(appendFirsts(nil, b.firsts))
	for _, s := range b.pages {
		sum.add(s.data)
	}
	sum.add(b.blocks...)
	b.sum = uint32(sum)
}

// identify tells a fact from that of another ledger at the same offset.
func identify(f ledger.Fact) string {
	return fmt.Sprintf("%d %s %s %s", f.Offset, f.Time.UTC().Format(time.RFC3339Nano), f.Event, f.ID)
}

// perInsert is how many rows one statement brings.
const perInsert = 100

// append writes a batch in one transaction.
func (p *partition) append(b packed) error {
	p.use.RLock()
	defer p.use.RUnlock()
	p.mu.RLock()
	db, end := p.db, p.end()
	b.block, b.sheet = 1, 1
	if n := len(p.batches); n > 0 {
		before := p.batches[n-1]
		b.block, b.sheet = before.block+blocksOf(before.rows), before.sheet+len(before.firsts)
	}
	p.mu.RUnlock()
	if db == nil {
		return errGone
	}
	if end != b.first {
		return fmt.Errorf("tracking: a batch of offset %d does not follow on %d", b.first, end)
	}
	tx, err := db.Begin()
	if err != nil {
		return fmt.Errorf("tracking: write %s: %w", p.path, err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := b.write(tx); err != nil {
		return fmt.Errorf("tracking: write %s: %w", p.path, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("tracking: write %s: %w", p.path, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches, p.last = append(slices.Clip(p.batches), b.batch), b.last
	return nil
}

// write puts the rows of a batch into a transaction.
func (b *packed) write(tx *sql.Tx) error {
	if err := insert(tx, `INSERT INTO postings VALUES `, "(?,?)", len(b.pages), func(i int, args []any) []any {
		return append(args, b.sheet+i, b.pages[i].data)
	}); err != nil {
		return err
	}
	if err := insert(tx, `INSERT INTO blocks VALUES `, "(?,?)", len(b.blocks), func(i int, args []any) []any {
		return append(args, b.block+i, b.blocks[i])
	}); err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO batches VALUES (?,?,?,?,?,?,?,?,?)`, b.first, b.next, b.rows, b.block, b.low, b.high, b.sheet, appendFirsts([]byte{}, b.firsts), b.sum); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE meta SET value=? WHERE key='last'`, b.last)
	return err
}

// insert brings n rows, many with each statement.
func insert(tx *sql.Tx, into, row string, n int, values func(i int, args []any) []any) error {
	var args []any
	var many *sql.Stmt
	for i := 0; i < n; {
		count := min(perInsert, n-i)
		args = args[:0]
		for end := i + count; i < end; i++ {
			args = values(i, args)
		}
		text := into + strings.Repeat(row+",", count-1) + row
		if count < perInsert {
			_, err := tx.Exec(text, args...)
			return err
		}
		if many == nil {
			var err error
			if many, err = tx.Prepare(text); err != nil {
				return err
			}
			defer many.Close()
		}
		if _, err := many.Exec(args...); err != nil {
			return err
		}
	}
	return nil
}
