package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"anechoic/control/config"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/limit"
	"anechoic/standard/dsn"
	"anechoic/watch/detect"
)

// What was spent is stored each second, with the offset of the first fact that may
// not be in it. After a crash the facts from there on are charged again:
//
//	a message was taken, and not stored in a book     its fact is: it is charged
//	it was taken and stored in a book                 it may be charged twice, never not at all
//	it paid, and the crash came before custody        its fact is not there; what it paid may be lost to it
//
// So nobody has more after a crash than before, and what is lost to somebody is at
// most what he sent in the last second. Writing each account with each message
// would be exact, and cost as much as custody does.

// limitsEvery is how often what was spent is stored.
const limitsEvery = time.Second

// limitStore is limit.Store on the engine.
type limitStore struct{ custody.Engine }

// Save implements limit.Store.
func (s limitStore) Save(ctx context.Context, put []limit.Record, gone []string) error {
	b := custody.Batch{Delete: gone, Put: make([]custody.Record, len(put))}
	for i, r := range put {
		b.Put[i] = custody.Record{Key: r.Key, Value: r.Value}
	}
	return s.Commit(ctx, &b)
}

// Load implements limit.Store.
func (s limitStore) Load(ctx context.Context, prefix string, visit func(limit.Record)) error {
	return s.Scan(ctx, prefix, "", func(key string, value []byte) bool {
		visit(limit.Record{Key: key, Value: append([]byte(nil), value...)})
		return true
	})
}

// openLimits reads back what was spent before the restart. What cannot be read is
// told, and its budget is whole.
func (a *App) openLimits() error {
	l := a.limits
	ctx, now := context.Background(), time.Now().UTC()
	store := limitStore{a.store}
	mark, stored, err := l.book.Load(ctx, store, now)
	if err != nil {
		a.log.Error("what was spent could not be read back whole", "error", err)
	}
	if _, _, err := l.sites.Load(ctx, store, now); err != nil {
		a.log.Error("what was spent at recipient domains could not be read back whole", "error", err)
	}
	known := true
	var seen uint64
	if l.options.Tiers {
		if seen, known, err = l.trust.Load(ctx, store, now); err != nil {
			a.log.Error("what is known of sources could not be read back whole", "error", err)
		}
	}
	l.founding = !known && l.options.FirstSources != config.FirstNew
	if !stored {
		mark, err = endOfLedger(ctx, a.engine)
		if err != nil {
			return fmt.Errorf("limits: %w", err)
		}
	}
	if l.next = mark; !known {
		seen = mark
	}
	return a.chargeAgain(ctx, mark, seen)
}

// endOfLedger is the offset of the next fact. It asks some sixty times, however long
// the ledger is.
func endOfLedger(ctx context.Context, s ledger.Scanner) (uint64, error) {
	there := func(offset uint64) (found bool, err error) {
		err = s.Scan(ctx, ledger.FactPrefix, ledger.FactKey(offset), func(string, []byte) bool { found = true; return false })
		return found, err
	}
	low, high := uint64(0), uint64(1)
	for {
		found, err := there(high - 1)
		if err != nil {
			return 0, err
		}
		if !found {
			break
		}
		low, high = high, high*2
	}
	for low < high-1 { // a fact at or past low-1, none at or past high-1
		middle := low + (high-low)/2
		found, err := there(middle - 1)
		if err != nil {
			return 0, err
		}
		if found {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

// chargeAgain counts what happened since what was stored. It waits for the Directory:
// what is charged is charged when that is there.
func (a *App) chargeAgain(ctx context.Context, mark, seen uint64) error {
	return ledger.Read(ctx, a.engine, min(mark, seen), func(f ledger.Fact) bool {
		if f.Offset >= mark && f.Event == ledger.Accepted && f.Org != "" && f.Source != "" {
			a.limits.replay = append(a.limits.replay, f)
		}
		if f.Offset >= seen {
			a.limits.observe(&f)
		}
		return true
	})
}

// chargeReplayed charges what chargeAgain found.
func (a *App) chargeReplayed() error {
	dir, now := a.directory.Load(), time.Now().UTC()
	for i := range a.limits.replay {
		a.limits.charge(dir, &a.limits.replay[i], now)
	}
	a.limits.replay = nil
	a.limits.founding = false // who is met from now on is new
	if err := a.storeLimits(context.Background(), now); err != nil {
		return err
	}
	a.onStop("limits", func(ctx context.Context) error { return a.storeLimits(ctx, time.Now().UTC()) })
	return nil
}

// charge pays for a message by its fact.
func (l *limits) charge(dir *org.Directory, f *ledger.Fact, now time.Time) {
	o, known := dir.Organisation(org.ID(f.Org))
	s, there := dir.Source(org.ID(f.Org), f.Source)
	if !known || !there {
		return
	}
	p := paying{organisation: o, source: s, tenant: strings.ToLower(f.Tenant), bytes: f.Size, report: f.MailFrom == ""}
	if from, err := mail.ParseAddressUTF8(f.From); err == nil {
		p.from = from.Domain()
	}
	for _, text := range f.Rcpt {
		if a, err := mail.ParseAddressUTF8(text); err == nil {
			p.recipients = append(p.recipients, a)
		}
	}
	l.book.Charge(now, l.spends(dir, &p, now))
	l.sites.Charge(now, l.siteSpends(&p))
}

// observe notes what became of a source's mail.
func (l *limits) observe(f *ledger.Fact) {
	if !l.options.Tiers || f.Org == "" || f.Source == "" {
		return
	}
	n := limit.Name{Organisation: f.Org, Source: f.Source}
	switch f.Event {
	case ledger.Accepted:
		l.trust.Note(n, limit.Sent, len(f.Rcpt), f.Time)
	case ledger.Delivered:
		l.trust.Note(n, limit.Delivered, len(f.Rcpt), f.Time)
	case ledger.Bounced:
		if badly(f.Class) {
			l.trust.Note(n, limit.Bounced, len(f.Rcpt), f.Time)
		}
	case ledger.BounceReceived:
		if badly(f.Class) && detect.IsFailure(f) {
			l.trust.Note(n, limit.Bounced, max(1, len(f.Rcpt)), f.Time)
		}
	case ledger.ComplaintReceived:
		if !detect.IsComplaint(f) {
			return
		}
		l.trust.Note(n, limit.Complained, max(1, len(f.Rcpt)), f.Time)
	}
}

// badly says that recipients were refused for what was sent, or to whom: not for a
// server that was down, nor a full disk.
func badly(class string) bool {
	c := dsn.Class(class)
	return c.AboutAddress() || c == dsn.Spam || c == dsn.Virus
}

// keepLimits stores what was spent until ctx ends.
func (a *App) keepLimits(ctx context.Context) {
	tick := time.NewTicker(limitsEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			err := a.storeLimits(ctx, time.Now().UTC())
			if err != nil && !failing && ctx.Err() == nil {
				a.log.Error("what was spent could not be stored: after a crash some of it would be whole again", "error", err)
			}
			failing = err != nil
		}
	}
}

// storeLimits stores what was spent, and what is known of sources.
func (a *App) storeLimits(ctx context.Context, now time.Time) error {
	l := a.limits
	l.flushing.Lock()
	defer l.flushing.Unlock()
	next := l.next
	if err := a.engine.Scan(ctx, ledger.FactPrefix, ledger.FactKey(next), func(key string, _ []byte) bool {
		if n, err := ledger.ParseKey(ledger.FactPrefix, key); err == nil {
			next = n + 1
		}
		return true
	}); err != nil {
		return err
	}
	store := limitStore{a.store}
	if err := l.book.Flush(ctx, store, now, next); err != nil {
		return err
	}
	if err := l.sites.Flush(ctx, store, now, next); err != nil {
		return err
	}
	if l.options.Tiers {
		if err := l.trust.Flush(ctx, store, now, next); err != nil {
			return err
		}
	}
	l.next = next
	return nil
}
