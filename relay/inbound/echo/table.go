package echo

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// Bounds of a Table, ours: some 40 MB of typical profiles. Those in which a tenant is
// learned are counted apart from the others: a flood of new domains pushes out new
// domains, never what was learned.
const (
	MaxTaught   = 20_000
	MaxUntaught = 20_000
	maxOctets   = 16 << 10 // of a stored profile; by the bounds of its lists it has less
)

// Table keeps the profiles of all domains. The zero Table is empty and ready; it is
// safe for concurrent use. What it keeps it writes lazily: a crash loses the last
// seconds, and no verdict rests on one message.
type Table struct {
	mu       sync.Mutex // guards what follows
	known    map[mail.Domain]*entryOf
	taught   list.List // of *entryOf, last seen first
	untaught list.List
	dirty    map[mail.Domain]bool // to be written, or deleted if not known any more
}

// entryOf is a profile with its place in one of the two lists.
type entryOf struct {
	profile Profile
	in      *list.List
	at      *list.Element
}

// Observe judges a message by what was learned before it, and learns from it.
func (t *Table) Observe(rule Rule, o Observation) Verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := Profile{}
	if e := t.known[o.Organisational]; e != nil {
		before = e.profile
	}
	v := Judge(rule, before, o)
	if v.Echo == None {
		return v
	}
	if after := Learn(rule, before, o); !after.Empty() && len(key(o.Organisational)) <= custody.MaxKey {
		t.put(after)
		t.dirty[o.Organisational] = true
	} else if !before.Empty() {
		t.drop(t.known[o.Organisational])
	}
	return v
}

// Profile is what was learned of an organisational domain.
func (t *Table) Profile(d mail.Domain) (Profile, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.known[d]
	if e == nil {
		return Profile{}, false
	}
	return e.profile.clone(), true
}

// Forget drops what was learned of a domain: a person saw that it is wrong.
func (t *Table) Forget(d mail.Domain) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.known[d]
	if e != nil {
		t.drop(e)
	}
	return e != nil
}

// Sweep forgets what is over, also of domains that no mail comes from any more. It
// says how many profiles went.
func (t *Table) Sweep(now time.Time) (swept int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.known {
		if now.Sub(e.profile.lastSeen()) <= newcomerMemory {
			continue // it loses nothing as a whole before
		}
		p := e.profile.clone()
		if p.forget(now); p.Empty() {
			t.drop(e)
			swept++
		}
	}
	return swept
}

// put keeps a profile as the one seen last, and forgets those of its kind that were
// not seen for longest if there are too many. mu is held.
func (t *Table) put(p Profile) {
	if t.known == nil {
		t.known, t.dirty = map[mail.Domain]*entryOf{}, map[mail.Domain]bool{}
	}
	in, limit := &t.untaught, MaxUntaught
	if p.taught() {
		in, limit = &t.taught, MaxTaught
	}
	e := t.known[p.Domain]
	if e == nil {
		e = &entryOf{}
		t.known[p.Domain] = e
	} else {
		e.in.Remove(e.at)
	}
	e.profile, e.in, e.at = p, in, in.PushFront(e)
	for in.Len() > limit {
		t.drop(in.Back().Value.(*entryOf))
	}
}

// drop forgets a profile, the stored one too. mu is held.
func (t *Table) drop(e *entryOf) {
	e.in.Remove(e.at)
	delete(t.known, e.profile.Domain)
	t.dirty[e.profile.Domain] = true
}

// prefix of the records: echo/<organisational domain>.
const prefix = "echo/"

// flushAtOnce is how many records one lazy batch has.
const flushAtOnce = 500

func key(d mail.Domain) string { return prefix + d.String() }

// Load reads what Flush wrote. What cannot be read is passed over, with an error
// that says how much that was: those domains are learned anew.
func (t *Table) Load(ctx context.Context, engine custody.Engine) error {
	var stored []Profile
	bad := 0
	err := engine.Scan(ctx, prefix, "", func(k string, value []byte) bool {
		p, ok := decode(k, value)
		if !ok {
			bad++
			return true
		}
		stored = append(stored, p)
		return true
	})
	slices.SortFunc(stored, func(a, b Profile) int { return a.lastSeen().Compare(b.lastSeen()) })
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range stored {
		t.put(p)
	}
	if bad > 0 {
		err = errors.Join(err, fmt.Errorf("echo: %d stored profiles could not be read; their domains are learned anew", bad))
	}
	return err
}

// decode reads a record. One that does not keep the bounds was not written by
// this package, and is not believed.
func decode(k string, value []byte) (p Profile, ok bool) {
	if len(value) > maxOctets || json.Unmarshal(value, &p) != nil {
		return Profile{}, false
	}
	bounded := len(p.Tenants) <= maxTenants && len(p.Names) <= maxNames && len(p.Strangers) <= maxStrangers
	return p, bounded && !p.Domain.IsZero() && !p.Empty() && key(p.Domain) == k
}

// Flush writes what changed since the last time, without a sync of its own. What
// could not be written is written the next time.
func (t *Table) Flush(ctx context.Context, engine custody.Engine) error {
	for {
		b, domains := t.changes()
		if len(domains) == 0 {
			return nil
		}
		if err := engine.Commit(ctx, b); err != nil {
			t.again(domains)
			return fmt.Errorf("echo: %d profiles could not be stored: %w", len(domains), err)
		}
	}
}

// changes takes some of what changed as a batch.
func (t *Table) changes() (*custody.Batch, []mail.Domain) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, domains := &custody.Batch{Lazy: true}, []mail.Domain(nil)
	for d := range t.dirty {
		if len(domains) == flushAtOnce {
			break
		}
		delete(t.dirty, d)
		domains = append(domains, d)
		e := t.known[d]
		if e == nil {
			b.Delete = append(b.Delete, key(d))
			continue
		}
		value, err := json.Marshal(e.profile)
		if err != nil {
			continue // every field has a JSON form
		}
		b.Put = append(b.Put, custody.Record{Key: key(d), Value: value})
	}
	return b, domains
}

// again notes that changes were not written.
func (t *Table) again(domains []mail.Domain) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range domains {
		t.dirty[d] = true
	}
}
