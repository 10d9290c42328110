package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// schema is a partition's. Everything is appended; nothing is changed.
const schema = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (
	first INTEGER PRIMARY KEY, -- offset it begins at
	next  INTEGER NOT NULL,    -- offset the one after it begins at
	rows  INTEGER NOT NULL,
	block INTEGER NOT NULL,    -- id of its first block
	low   INTEGER NOT NULL,    -- times of its facts, in milliseconds
	high  INTEGER NOT NULL,
	sheet INTEGER NOT NULL,    -- id of its first sheet of postings
	firsts BLOB NOT NULL,      -- the first term of each of its sheets
	sum   INTEGER NOT NULL     -- CRC-32C of firsts, sheets and blocks
);
CREATE TABLE postings (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE blocks (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
`

// version of the schema, of terms and of their spelling: other files are made again.
const version = "2"

const fileSuffix = ".sqlite"

// maxBatch is how many facts a batch has at most: a posting costs little beside it, and
// so many facts are searched one by one in a moment.
const maxBatch = 16_384

// perBlock is how many facts are compressed together.
const perBlock = 64

// maxPartition is how many facts a partition has before another begins, even on the same
// day: a file stays of a size that is made again in a minute or two.
const maxPartition = 4_000_000

// errGone says that a partition was closed meanwhile.
var errGone = errors.New("tracking: the partition is closed")

// partition is one file: the facts from an offset to another, of one day or nearly.
type partition struct {
	path  string
	first uint64
	day   time.Time // its facts are of this day, but for clocks that went back
	mark  string    // of the rules it was made under

	use    sync.RWMutex // held, for reading, by who uses db; guards it
	db     *sql.DB      // nil: closed
	sheets *sql.Stmt    // sheetsBetween
	blocks *sql.Stmt    // blockOf

	mu      sync.RWMutex // guards what follows, and is held for a moment only
	batches []batch
	last    string // what is in the ledger at its last offset
	checked bool
}

// batch is a row of batches.
type batch struct {
	first, next uint64
	rows, block int
	low, high   int64
	sheet       int      // id of its first sheet of postings
	firsts      []string // the first term of each
	sum         uint32
}

// dataSource is how a file is opened: several readers beside one writer, and nothing is
// synced, which would hold up the store beside it. A power cut may leave a damaged file:
// every one is checked once after a start, and made again.
func dataSource(path string) string {
	return "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path) + "?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=wal_autocheckpoint(8000)&_pragma=busy_timeout(10000)&_txlock=immediate"
}

// fileName has the day for people, and the offset for the order.
func fileName(first uint64, day time.Time) string {
	return fmt.Sprintf("%s.%016x%s", day.Format(time.DateOnly), first, fileSuffix)
}

// parseFileName reads what fileName wrote.
func parseFileName(name string) (first uint64, day time.Time, ok bool) {
	text, isIndex := strings.CutSuffix(name, fileSuffix)
	date, digits, found := strings.Cut(text, ".")
	first, err := strconv.ParseUint(digits, 16, 64)
	day, bad := time.Parse(time.DateOnly, date)
	return first, day, isIndex && found && err == nil && bad == nil && len(digits) == 16 && first < math.MaxInt64
}

// What is asked of a partition in a search: each goes by the primary key.
const (
	sheetsBetween = `SELECT data FROM postings WHERE id>=? AND id<?`
	blockOf       = `SELECT data FROM blocks WHERE id=?`
)

// prepare makes the statements of searches. They end with db.
func (p *partition) prepare() (err error) {
	if p.sheets, err = p.db.Prepare(sheetsBetween); err == nil {
		p.blocks, err = p.db.Prepare(blockOf)
	}
	return err
}

func connect(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dataSource(path))
	if err != nil {
		return nil, fmt.Errorf("tracking: open %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(2)
	db.SetConnMaxIdleTime(10 * time.Minute)
	return db, nil
}

// create makes an empty partition.
func create(dir string, first uint64, day time.Time, mark string) (p *partition, err error) {
	p = &partition{path: filepath.Join(dir, fileName(first, day)), first: first, day: day, mark: mark, checked: true}
	if err := remove(p.path); err != nil {
		return nil, err
	}
	if p.db, err = connect(p.path); err != nil {
		return nil, err
	}
	if _, err = p.db.Exec(schema); err == nil {
		_, err = p.db.Exec(`INSERT INTO meta VALUES ('version', ?), ('mark', ?), ('last', '')`, version, mark)
	}
	if err == nil {
		err = p.prepare()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tracking: make %s: %w", p.path, err), p.db.Close())
	}
	return p, os.Chmod(p.path, 0o600)
}

// open reads what a partition holds.
func open(path string) (p *partition, err error) {
	p = &partition{path: path}
	var ok bool
	if p.first, p.day, ok = parseFileName(filepath.Base(path)); !ok {
		return nil, fmt.Errorf("tracking: %s is no partition's name", path)
	}
	if p.db, err = connect(path); err != nil {
		return nil, err
	}
	if err := errors.Join(p.load(), p.prepare()); err != nil {
		return nil, errors.Join(fmt.Errorf("tracking: read %s: %w", path, err), p.db.Close())
	}
	return p, nil
}

func (p *partition) load() error {
	var made string
	err := p.db.QueryRow(`SELECT a.value, b.value, c.value FROM meta a, meta b, meta c WHERE a.key='version' AND b.key='mark' AND c.key='last'`).Scan(&made, &p.mark, &p.last)
	if err != nil {
		return err
	}
	if made != version {
		return fmt.Errorf("it is of version %s, this is %s", made, version)
	}
	rows, err := p.db.Query(`SELECT first, next, rows, block, low, high, sheet, firsts, sum FROM batches ORDER BY first`)
	if err != nil {
		return err
	}
	defer rows.Close()
	next := p.first
	for rows.Next() {
		var b batch
		var firsts sql.RawBytes
		if err := rows.Scan(&b.first, &b.next, &b.rows, &b.block, &b.low, &b.high, &b.sheet, &firsts, &b.sum); err != nil {
			return err
		}
		if b.firsts, err = readFirsts(firsts); err != nil {
			return err
		}
		if b.first != next || b.next <= b.first || b.rows < 0 || b.rows > maxBatch {
			return fmt.Errorf("its batches have a gap at offset %d", next)
		}
		next = b.next
		p.batches = append(p.batches, b)
	}
	return rows.Err()
}

// next is the offset after its last fact.
func (p *partition) next() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.end()
}

// end is next with mu held.
func (p *partition) end() uint64 {
	if n := len(p.batches); n > 0 {
		return p.batches[n-1].next
	}
	return p.first
}

// stand is its batches now.
func (p *partition) stand() []batch {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.batches
}

// size is how many facts it has.
func (p *partition) size() (n int) {
	for _, b := range p.stand() {
		n += b.rows
	}
	return n
}

// dayEnd is when its day is over.
func (p *partition) dayEnd() time.Time { return p.day.AddDate(0, 0, 1) }

// close ends its use; searches that have it go on without.
func (p *partition) close() error {
	p.use.Lock()
	defer p.use.Unlock()
	if p.db == nil {
		return nil
	}
	err := p.db.Close()
	p.db = nil
	return err
}

// check reads the whole file: SQLite's own check, and the sum of every batch.
func (p *partition) check(ctx context.Context) error {
	p.use.RLock()
	defer p.use.RUnlock()
	if p.db == nil {
		return errGone
	}
	var found string
	if err := p.db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&found); err != nil {
		return fmt.Errorf("tracking: check %s: %w", p.path, err)
	}
	if found != "ok" {
		return fmt.Errorf("tracking: %s is damaged: %s", p.path, found)
	}
	for _, b := range p.stand() {
		if err := p.checkBatch(ctx, b); err != nil {
			return fmt.Errorf("tracking: check %s: batch %d: %w", p.path, b.first, err)
		}
	}
	return nil
}

func (p *partition) checkBatch(ctx context.Context, b batch) error {
	var sum checksum
	sum.add(appendFirsts(nil, b.firsts))
	rows, err := p.db.QueryContext(ctx, sheetsBetween+" ORDER BY id", b.sheet, b.sheet+len(b.firsts))
	if err := each(rows, err, func() error {
		var data sql.RawBytes
		err := rows.Scan(&data)
		sum.add(data)
		return err
	}); err != nil {
		return err
	}
	rows, err = p.db.QueryContext(ctx, `SELECT data FROM blocks WHERE id>=? AND id<? ORDER BY id`, b.block, b.block+blocksOf(b.rows))
	if err := each(rows, err, func() error {
		var data sql.RawBytes
		err := rows.Scan(&data)
		sum.add(data)
		return err
	}); err != nil {
		return err
	}
	if uint32(sum) != b.sum {
		return errors.New("what it holds has not the sum it was written with")
	}
	return nil
}

// each goes through the rows of a query and closes them.
func each(rows *sql.Rows, err error, visit func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := visit(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// blocksOf is how many blocks so many rows have.
func blocksOf(rows int) int { return (rows + perBlock - 1) / perBlock }

// remove deletes a partition's files, if they are there.
func remove(path string) error {
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("tracking: remove a partition: %w", err)
		}
	}
	return nil
}

// damagedSuffix is of a partition that was set aside, for whoever wants to look at it.
const damagedSuffix = ".damaged"

// setAside takes a damaged partition out of the way. Of each only the last is kept.
func setAside(path string) error {
	if err := os.Rename(path, path+damagedSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("tracking: set a damaged partition aside: %w", err)
	}
	return remove(path)
}
