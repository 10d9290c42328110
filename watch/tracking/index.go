package tracking

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"anechoic/ledger"
)

// How the index follows the ledger. The numbers are ours.
const (
	followEvery  = time.Second      // facts come into memory
	flushAfter   = 15 * time.Minute // from memory into a partition, or when a batch is full
	sweepEvery   = time.Minute      // what must be made again, and what is kept no longer
	pullAtOnce   = 4096             // facts that a search fetches itself
	disorder     = 15 * time.Minute // how far facts stand out of the order of their times
	restAfter    = 8                // making anew rests an eighth of the time it worked, for who has mail to relay
	keyFile      = "key"
	keySize      = 32
	dirMode      = 0o700
	checkedPause = 20 * time.Millisecond // between the checks of two partitions
)

// Options is what an index is made of.
type Options struct {
	Dir    string         // its own; made if it is missing
	Ledger ledger.Scanner // the truth
	Policy func() Policy  // the rules in force; nil: everything, for ever
	Log    *slog.Logger   // nil: silent
}

// Index finds facts. Only Open makes one; it is safe for concurrent use.
type Index struct {
	dir    string
	ledger ledger.Scanner
	rules  func() Policy
	log    *slog.Logger
	key    hashKey

	ingest chan struct{} // held by who reads the ledger on, or changes partitions; guards ahead
	ahead  *ahead        // what was read of the ledger while a batch was written

	mu      sync.RWMutex // guards what follows
	parts   []*partition // in the order of their offsets, no two of one
	recent  []entry      // the latest facts, in no partition yet
	since   uint64       // the offset recent begins at
	end     uint64       // the offset after the last fact that was read
	latest  time.Time    // when the ledger was last read to its end
	behind  bool         // there are more facts in the ledger
	floor   uint64       // below it nothing is kept
	flushed time.Time
}

// Open reads which partitions there are; those it cannot read, and those of another
// ledger, are set aside, and made again by Run. It reads no facts, and is fast.
func Open(o Options) (*Index, error) {
	i := &Index{dir: o.Dir, ledger: o.Ledger, rules: o.Policy, log: o.Log, ingest: make(chan struct{}, 1), flushed: time.Now()}
	if i.rules == nil {
		i.rules = func() Policy { return Policy{Default: Rule{Mode: Full}} }
	}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(i.dir, dirMode); err != nil {
		return nil, fmt.Errorf("tracking: make its folder: %w", err)
	}
	var err error
	if i.key, err = openKey(filepath.Join(i.dir, keyFile)); err != nil {
		return nil, err
	}
	if err := i.openAll(); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	if err := i.begin(); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// openKey reads the key of the sums, or makes one. Without the old one, what was hashed
// before is made again: see mark.
func openKey(path string) (hashKey, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(key) != keySize {
		key = make([]byte, keySize)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
		err = os.WriteFile(path, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("tracking: the key of its sums: %w", err)
	}
	return key, nil
}

// openAll opens the partitions of the folder.
func (i *Index) openAll() error {
	entries, err := os.ReadDir(i.dir)
	if err != nil {
		return fmt.Errorf("tracking: %w", err)
	}
	for _, e := range entries {
		if _, _, ok := parseFileName(e.Name()); !ok {
			continue
		}
		path := filepath.Join(i.dir, e.Name())
		p, err := open(path)
		if err == nil && !i.isOurs(p) {
			err = errors.Join(errors.New("it is of another ledger"), p.close())
		}
		if err != nil {
			i.log.Warn("a partition of the tracking index is set aside, and made again from the ledger", "file", path, "error", err)
			if err := setAside(path); err != nil {
				return err
			}
			continue
		}
		i.parts = append(i.parts, p)
	}
	slices.SortFunc(i.parts, func(a, b *partition) int { return cmp.Compare(a.first, b.first) })
	return i.disjoin()
}

// isOurs says that the ledger has the fact that the partition ends with.
func (i *Index) isOurs(p *partition) bool {
	if p.last == "" {
		return true
	}
	var offset uint64
	if _, err := fmt.Sscan(p.last, &offset); err != nil {
		return false
	}
	same := false
	err := ledger.Read(context.Background(), i.ledger, offset, func(f ledger.Fact) bool {
		same = identify(f) == p.last
		return false
	})
	return same || err != nil // what the ledger cannot read says nothing of the index
}

// disjoin takes away what is empty, or overlaps with the one before.
func (i *Index) disjoin() error {
	var errs []error
	next := uint64(0)
	i.parts = slices.DeleteFunc(i.parts, func(p *partition) bool {
		if p.first >= next && p.next() > p.first {
			next = p.next()
			return false
		}
		errs = append(errs, p.close(), remove(p.path))
		return true
	})
	return errors.Join(errs...)
}

// begin says where reading goes on.
func (i *Index) begin() error {
	floor, err := i.keptFrom(context.Background(), time.Now())
	if err != nil {
		return err
	}
	i.floor, i.since = floor, floor
	if n := len(i.parts); n > 0 {
		i.since = max(floor, i.parts[n-1].next())
	}
	i.end = i.since
	return nil
}

// mark names what a partition of a day is made under now; sums of a key that was lost
// are made again too.
func (i *Index) mark(dayEnd, now time.Time) string {
	policy := i.rules()
	mark := policy.mark(dayEnd, now)
	if policy.hashes() {
		mark += " key=" + i.key.sum("the key")
	}
	return mark
}

// keptFrom is the offset below which all facts are older than anybody's are kept.
func (i *Index) keptFrom(ctx context.Context, now time.Time) (from uint64, err error) {
	policy := i.rules()
	keep := policy.longest()
	if keep == 0 {
		return 0, nil
	}
	found := false
	err = ledger.ReadSince(ctx, i.ledger, now.Add(-keep), func(f ledger.Fact) bool {
		from, found = f.Offset, true
		return false
	})
	if !found {
		from = 0 // an empty ledger, or one of the past: sweep raises it
	}
	return from, err
}

// Close writes what is in memory and closes the files. Run has ended before.
func (i *Index) Close() error {
	i.ingest <- struct{}{}
	defer func() { <-i.ingest }()
	var errs []error
	if len(i.recent) > 0 {
		errs = append(errs, i.flush(context.Background(), time.Now()))
	}
	for _, p := range i.parts {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// Run follows the ledger until ctx is done: it is the loop to be started once.
func (i *Index) Run(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	swept := time.Time{}
	for {
		now := time.Now()
		if err := i.Follow(ctx, now); err != nil && ctx.Err() == nil {
			i.log.Error("the tracking index does not follow the ledger", "error", err)
		}
		if now.Sub(swept) >= sweepEvery || now.Before(swept) {
			swept = now
			if err := i.Sweep(ctx, now); err != nil && ctx.Err() == nil {
				i.log.Error("the tracking index is not mended", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Follow brings the index to the end of the ledger: all of it, if it is far behind.
func (i *Index) Follow(ctx context.Context, now time.Time) error {
	for ctx.Err() == nil {
		began := time.Now()
		i.ingest <- struct{}{}
		more, err := i.pull(ctx, maxBatch)
		if err == nil && (len(i.recent) >= maxBatch || len(i.recent) > 0 && now.Sub(i.flushed) >= flushAfter) {
			err = i.flush(ctx, now)
		}
		<-i.ingest
		if err != nil || !more {
			return err
		}
		rest(ctx, time.Since(began)/restAfter)
	}
	return ctx.Err()
}

// rest lets others work.
func rest(ctx context.Context, d time.Duration) {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-ctx.Done():
	case <-pause.C:
	}
}

// pull reads new facts into memory: at most n, and no more than a batch of them in all.
// ingest is held, so that nobody else changes recent.
func (i *Index) pull(ctx context.Context, n int) (more bool, err error) {
	n = min(n, maxBatch-len(i.recent))
	if n <= 0 {
		return true, nil
	}
	news, next, err := i.news(ctx, n)
	if err != nil {
		return false, err
	}
	more = next.more
	i.mu.Lock()
	defer i.mu.Unlock()
	i.recent, i.end, i.behind = append(i.recent, news...), next.offset, more
	if !more {
		i.latest = time.Now()
	}
	return more, nil
}

// news are the next facts of the ledger: those that were read ahead, if there are any.
func (i *Index) news(ctx context.Context, n int) (list []entry, next loaded, err error) {
	if a := i.ahead; a != nil {
		i.ahead = nil
		if a.from == i.end && a.err == nil && len(a.list) <= maxBatch-len(i.recent) {
			return a.list, a.next, nil
		}
	}
	return load(ctx, i.ledger, i.end, n)
}

// Status is how far the index is.
type Status struct {
	Partitions int      `json:"partitions"`
	Offset     uint64   `json:"offset"`         // the next fact it will read
	Behind     bool     `json:"behind"`         // the ledger has more
	Gaps       []string `json:"gaps,omitempty"` // offsets that are being indexed anew
}

// Status says how far the index is.
func (i *Index) Status() Status {
	i.mu.RLock()
	defer i.mu.RUnlock()
	s := Status{Partitions: len(i.parts), Offset: i.end, Behind: i.behind}
	for _, g := range i.gaps() {
		s.Gaps = append(s.Gaps, g.String())
	}
	return s
}

// stretch is offsets from first to before next.
type stretch struct{ first, next uint64 }

func (s stretch) String() string { return fmt.Sprintf("%d to %d", s.first, s.next-1) }

// gaps are the offsets that are in no partition and not in memory, and should be. mu is
// held.
func (i *Index) gaps() (list []stretch) {
	at := i.floor
	for _, p := range i.parts {
		if p.first > at {
			list = append(list, stretch{at, p.first})
		}
		at = max(at, p.next())
	}
	if i.since > at {
		list = append(list, stretch{at, i.since})
	}
	return list
}

// daysOf tells a partition's day for people.
func daysOf(p *partition) string { return strings.TrimSuffix(filepath.Base(p.path), fileSuffix) }
