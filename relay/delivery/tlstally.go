package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/standard/tlsrpt"
)

// tallyPrefix begins the records of sessions counted: tlsrpt/<day>/<domain>.
const tallyPrefix = "tlsrpt/"

// Bounds of the tallies.
const (
	maxTallies    = 20_000 // domains of one day; sessions with more are not counted
	tallyKeep     = 3      // days that a report which cannot be sent is kept
	talliesAtOnce = 200    // records of one batch
)

// TLSTallies counts TLS sessions by day and recipients' domain, for the reports
// of RFC 8460. What is counted outlives a restart, but for what came since the
// last Flush. Store is set, and Load called, before anything else. It is safe
// for concurrent use.
type TLSTallies struct {
	Store custody.Engine

	mu    sync.Mutex // guards what follows
	days  map[tallyName]*tlsrpt.Tally
	size  map[time.Time]int // domains by day
	dirty map[tallyName]struct{}
}

type tallyName struct {
	day    time.Time
	domain mail.Domain
}

func (n tallyName) key() string {
	return tallyPrefix + n.day.Format(time.DateOnly) + "/" + n.domain.String()
}

func nameOf(t *tlsrpt.Tally) tallyName { return tallyName{t.Day, t.Domain} }

// Load reads what Flush wrote. What cannot be read is passed over, with an error.
func (t *TLSTallies) Load(ctx context.Context) error {
	var bad error
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open()
	err := t.Store.Scan(ctx, tallyPrefix, "", func(key string, value []byte) bool {
		tally := new(tlsrpt.Tally)
		if err := json.Unmarshal(value, tally); err != nil || nameOf(tally).key() != key {
			bad = fmt.Errorf("record %s: %w", key, cmp.Or(err, errors.New("it is of another domain or day")))
			return true
		}
		tally.Day = tlsrpt.Day(tally.Day)
		t.days[nameOf(tally)] = tally
		t.size[tally.Day]++
		return true
	})
	return errors.Join(err, bad)
}

// open makes the maps; t.mu is held.
func (t *TLSTallies) open() {
	if t.days == nil {
		t.days, t.size, t.dirty = make(map[tallyName]*tlsrpt.Tally), make(map[time.Time]int), make(map[tallyName]struct{})
	}
}

// Count adds one session with a domain. The zero Failure is success.
func (t *TLSTallies) Count(domain mail.Domain, p tlsrpt.Policy, f tlsrpt.Failure, now time.Time) {
	n := tallyName{tlsrpt.Day(now), domain}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open()
	tally := t.days[n]
	if tally == nil {
		if t.size[n.day] >= maxTallies {
			return
		}
		tally = &tlsrpt.Tally{Day: n.day, Domain: domain}
		t.days[n] = tally
		t.size[n.day]++
	}
	tally.Count(p, f)
	t.dirty[n] = struct{}{}
}

// Flush writes what changed since the last time, without a sync of its own.
func (t *TLSTallies) Flush(ctx context.Context) error {
	for {
		batch, names, err := t.changes()
		if err != nil || len(names) == 0 {
			return err
		}
		if err := t.Store.Commit(ctx, batch); err != nil {
			t.mu.Lock()
			for _, n := range names {
				t.dirty[n] = struct{}{}
			}
			t.mu.Unlock()
			return fmt.Errorf("TLS results of %d domains could not be stored: %w", len(names), err)
		}
	}
}

// changes takes some of what changed as a batch.
func (t *TLSTallies) changes() (*custody.Batch, []tallyName, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch, names := &custody.Batch{Lazy: true}, []tallyName(nil)
	for n := range t.dirty {
		if len(names) == talliesAtOnce {
			break
		}
		delete(t.dirty, n)
		tally, ok := t.days[n]
		if !ok {
			continue
		}
		value, err := json.Marshal(tally)
		if err != nil {
			return nil, nil, fmt.Errorf("TLS results of %s: %w", n.domain, err)
		}
		names = append(names, n)
		batch.Put = append(batch.Put, custody.Record{Key: n.key(), Value: value})
	}
	return batch, names, nil
}

// Finished gives the tallies of days that are over, oldest first. They change no
// more.
func (t *TLSTallies) Finished(now time.Time) (finished []tlsrpt.Tally) {
	today := tlsrpt.Day(now)
	t.mu.Lock()
	for n, tally := range t.days {
		if n.day.Before(today) {
			finished = append(finished, *tally)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(finished, func(a, b tlsrpt.Tally) int {
		return cmp.Or(a.Day.Compare(b.Day), cmp.Compare(a.Domain.String(), b.Domain.String()))
	})
	return finished
}

// Outdated says that a tally is too old to be reported any more.
func Outdated(t tlsrpt.Tally, now time.Time) bool {
	return now.After(t.Day.AddDate(0, 0, 1+tallyKeep))
}

// Drop forgets tallies: their reports are sent, or nobody wants them.
func (t *TLSTallies) Drop(ctx context.Context, tallies ...tlsrpt.Tally) error {
	batch := &custody.Batch{Lazy: true, Delete: t.forget(tallies)}
	if len(batch.Delete) == 0 {
		return nil
	}
	if err := t.Store.Commit(ctx, batch); err != nil {
		return fmt.Errorf("TLS results that were reported could not be deleted: %w", err)
	}
	return nil
}

func (t *TLSTallies) forget(tallies []tlsrpt.Tally) (keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range tallies {
		n := nameOf(&tallies[i])
		if _, ok := t.days[n]; !ok {
			continue
		}
		delete(t.days, n)
		delete(t.dirty, n)
		if t.size[n.day]--; t.size[n.day] == 0 {
			delete(t.size, n.day)
		}
		keys = append(keys, n.key())
	}
	return keys
}
