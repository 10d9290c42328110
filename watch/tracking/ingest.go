package tracking

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"anechoic/ledger"
	"anechoic/mail/background"
)

// loaded is how far load came.
type loaded struct {
	offset uint64 // after the last fact
	more   bool
}

// decodeAlone is up to how many records one goroutine decodes.
const decodeAlone = 2048

// load reads at most n facts from an offset on. A record that cannot be read is passed
// over: log verify tells of it.
func load(ctx context.Context, source ledger.Scanner, from uint64, n int) (list []entry, next loaded, err error) {
	next.offset = from
	err = source.Scan(ctx, ledger.FactPrefix, ledger.FactKey(from), func(key string, record []byte) bool {
		if len(list) == n {
			next.more = true
			return false
		}
		offset, err := ledger.ParseKey(ledger.FactPrefix, key)
		if err != nil {
			return true
		}
		list = append(list, entry{fact: ledger.Fact{Offset: offset}, record: bytes.Clone(record)})
		next.offset = offset + 1
		return true
	})
	if err != nil {
		return nil, next, fmt.Errorf("tracking: read the ledger from offset %d: %w", from, err)
	}
	return decode(list), next, nil
}

// decode reads the records of a list, and leaves out those that cannot be read.
func decode(list []entry) []entry {
	part := func(list []entry) {
		for n := range list {
			e := &list[n]
			offset := e.fact.Offset
			f, err := ledger.Decode(offset, e.record)
			if err != nil {
				e.record = nil
				continue
			}
			e.fact = f
		}
	}
	if len(list) <= decodeAlone {
		part(list)
	} else {
		var both background.Group
		for half := range slices.Chunk(list, (len(list)+1)/2) {
			both.Go(func() { part(half) })
		}
		both.Wait()
	}
	return slices.DeleteFunc(list, func(e entry) bool { return e.record == nil })
}

// flush writes what is in memory into partitions. ingest is held.
func (i *Index) flush(ctx context.Context, now time.Time) error {
	i.mu.RLock()
	entries, first, next, behind := i.recent, i.since, i.end, i.behind
	i.mu.RUnlock()
	var reading background.Group
	if behind && len(entries) == maxBatch {
		following := &ahead{from: next}
		reading.Go(func() { following.load(ctx, i.ledger, maxBatch) })
		i.ahead = following
	}
	err := i.write(ctx, entries, stretch{first, next}, now)
	reading.Wait()
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.recent, i.since, i.flushed = nil, next, now
	return nil
}

// ahead is a batch that is read while the one before is written: two cores work on an
// index that is made anew.
type ahead struct {
	from uint64
	list []entry
	next loaded
	err  error
}

func (a *ahead) load(ctx context.Context, source ledger.Scanner, n int) {
	a.list, a.next, a.err = load(ctx, source, a.from, n)
}

// write appends facts to the partitions where they belong: the last one before them,
// while its day lasts and it has room, else a new one. Searches see each at once.
func (i *Index) write(ctx context.Context, entries []entry, all stretch, now time.Time) error {
	for at := all.first; at < all.next; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p := i.before(at)
		if p != nil && len(entries) > 0 && !p.takes(entries[0].fact.Time) {
			p = nil
		}
		if p == nil && len(entries) == 0 {
			return i.cover(at, all.next)
		}
		if p == nil {
			var err error
			if p, err = i.add(at, entries[0].fact.Time, now); err != nil {
				return err
			}
		}
		n, next := p.run(entries, all.next)
		if err := i.append(p, entries[:n], at, next, now); err != nil {
			return err
		}
		entries, at = entries[n:], next
	}
	return nil
}

// before is the partition that ends where an offset begins.
func (i *Index) before(at uint64) *partition {
	i.mu.RLock()
	defer i.mu.RUnlock()
	for _, p := range slices.Backward(i.parts) {
		if p.next() == at {
			return p
		}
	}
	return nil
}

// cover notes that a stretch has no facts that can be read: an empty partition stands
// for it.
func (i *Index) cover(first, next uint64) error {
	p, err := i.add(first, time.Now(), time.Now())
	if err != nil {
		return err
	}
	return i.append(p, nil, first, next, time.Now())
}

// takes says that a fact of a time belongs into this partition: its day is not over, or
// the clock went back.
func (p *partition) takes(t time.Time) bool { return t.Before(p.dayEnd()) && p.size() < maxPartition }

// run is how many of the facts belong into this partition in one batch, and the offset
// after them.
func (p *partition) run(entries []entry, end uint64) (n int, next uint64) {
	for n < len(entries) && n < maxBatch && entries[n].fact.Time.Before(p.dayEnd()) {
		n++
	}
	if n < len(entries) {
		return n, entries[n].fact.Offset
	}
	return n, end
}

// add makes a partition and puts it into its place.
func (i *Index) add(first uint64, t, now time.Time) (*partition, error) {
	day := t.UTC().Truncate(24 * time.Hour)
	p, err := create(i.dir, first, day, i.mark(day.AddDate(0, 0, 1), now))
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	at, _ := slices.BinarySearchFunc(i.parts, first, func(p *partition, first uint64) int {
		if p.first < first {
			return -1
		}
		return 1
	})
	i.parts = slices.Insert(slices.Clone(i.parts), at, p)
	return p, nil
}

// append packs a batch and writes it.
func (i *Index) append(p *partition, entries []entry, first, next uint64, now time.Time) error {
	policy := i.rules()
	b, err := pack(entries, first, next, p.dayEnd(), now, &policy, i.key)
	if err != nil {
		return err
	}
	return p.append(b)
}

// Sweep does what is due: it drops what is kept no longer, sets aside what is damaged or
// was made under other rules, and makes again what is missing.
func (i *Index) Sweep(ctx context.Context, now time.Time) error {
	if err := i.forget(ctx, now); err != nil {
		return err
	}
	if err := i.fill(ctx, now); err != nil {
		return err
	}
	for _, p := range i.all() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if why := i.unfit(ctx, p, now); why != nil {
			i.log.Warn("a part of the tracking index is made again from the ledger", "partition", daysOf(p), "cause", why)
			if err := errors.Join(i.drop(p, why), i.fill(ctx, now)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *Index) all() []*partition {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.Clone(i.parts)
}

// unfit says why a partition must be made again. Each is checked once.
func (i *Index) unfit(ctx context.Context, p *partition, now time.Time) error {
	if p.mark != i.mark(p.dayEnd(), now) {
		return errors.New("it was made under other rules")
	}
	p.mu.RLock()
	checked := p.checked
	p.mu.RUnlock()
	if checked {
		return nil
	}
	if err := p.check(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errGone) {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	p.mu.Lock()
	p.checked = true
	p.mu.Unlock()
	rest(ctx, checkedPause)
	return nil
}

// drop takes a partition out of the index: searches read the ledger in its place.
func (i *Index) drop(p *partition, why error) error {
	i.ingest <- struct{}{}
	defer func() { <-i.ingest }()
	return i.dropHeld(p, why)
}

func (i *Index) dropHeld(p *partition, why error) error {
	i.mu.Lock()
	before := len(i.parts)
	i.parts = slices.DeleteFunc(slices.Clone(i.parts), func(o *partition) bool { return o == p })
	gone := len(i.parts) == before
	i.mu.Unlock()
	if gone {
		return nil
	}
	_ = p.close() // it is not used any more, whatever state it is in
	if errors.Is(why, errDamaged) {
		return setAside(p.path)
	}
	return remove(p.path)
}

// forget drops partitions that hold nothing that is found.
func (i *Index) forget(ctx context.Context, now time.Time) error {
	floor, err := i.keptFrom(ctx, now)
	if err != nil {
		return err
	}
	i.mu.Lock()
	i.floor = min(max(i.floor, floor), i.since)
	floor = i.floor
	i.mu.Unlock()
	for _, p := range i.all() {
		if p.next() <= floor {
			if err := i.drop(p, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill indexes the gaps, the latest one first.
func (i *Index) fill(ctx context.Context, now time.Time) error {
	for ctx.Err() == nil {
		i.mu.RLock()
		gaps := i.gaps()
		i.mu.RUnlock()
		if len(gaps) == 0 {
			return nil
		}
		if err := i.fillOne(ctx, gaps[len(gaps)-1], now); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// fillOne reads a stretch of the ledger into partitions, a batch at a time.
func (i *Index) fillOne(ctx context.Context, gap stretch, now time.Time) error {
	one := i.piece(ctx, gap)
	for at := gap.first; at < gap.next; {
		began := time.Now()
		if one.err != nil {
			return one.err
		}
		list, end := one.list, one.next.offset
		for len(list) > 0 && list[len(list)-1].fact.Offset >= gap.next {
			list = list[:len(list)-1]
		}
		if !one.next.more || len(list) == 0 || end > gap.next {
			end = gap.next
		}
		var reading background.Group
		var following *ahead
		reading.Go(func() { following = i.piece(ctx, stretch{end, gap.next}) })
		i.ingest <- struct{}{}
		err := i.write(ctx, list, stretch{at, end}, now)
		<-i.ingest
		reading.Wait()
		if err != nil {
			return err
		}
		at, one = end, following
		rest(ctx, time.Since(began)/restAfter)
	}
	return nil
}

// piece reads the first batch of a gap; nothing of an empty one.
func (i *Index) piece(ctx context.Context, gap stretch) *ahead {
	a := &ahead{from: gap.first}
	if gap.first < gap.next {
		a.load(ctx, i.ledger, int(min(gap.next-gap.first, maxBatch)))
	}
	return a
}
