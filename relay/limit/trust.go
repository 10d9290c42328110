package limit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// Name is a source by its organisation and id.
type Name struct{ Organisation, Source string }

func (n Name) String() string { return n.Organisation + "/" + n.Source }

// Trust is the histories of sources. The zero Trust is ready; it is safe for
// concurrent use. It has one history for each source that was ever in the registry.
type Trust struct {
	Prefix string // of its records in the store

	mu      sync.Mutex // guards what follows
	sources map[Name]*History
	dirty   map[Name]bool
	clock   clock // nobody gets older, or younger, by a clock that is set
	stored  bool  // Flush wrote, or Load found, something
}

// Deed is what a source's mail came to.
type Deed uint8

// The deeds.
const (
	Sent       Deed = iota // a message was accepted
	Delivered              // a server took recipients
	Bounced                // recipients were refused for good, at once or later
	Complained             // a recipient complained
)

// half is the natural logarithm of a half: what is `lately` old counts that much.
const half = -math.Ln2

// fade brings the numbers to now.
func (r *Reception) fade(now time.Time) {
	if since := now.Sub(r.At); since > 0 {
		f := math.Exp(half * float64(since) / float64(lately))
		r.Delivered, r.Bounced, r.Complained = r.Delivered*f, r.Bounced*f, r.Complained*f
		r.At = now
	}
}

// Meet notes that sources are in the registry, each with the hashes of what proves
// it. Who is not known yet begins now; founder says whether such are older than
// tiers are. A source nothing of which proves what it did is another one under an
// old name: it begins again.
func (t *Trust) Meet(n Name, identities []string, founder bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now = t.time(now)
	h := t.sources[n]
	same := h != nil && (len(h.Identities) == 0 || slices.ContainsFunc(identities, func(id string) bool { return slices.Contains(h.Identities, id) }))
	switch {
	case !same:
		t.put(n, &History{First: now, Founder: founder && h == nil, Identities: slices.Clone(identities)})
	case !slices.Equal(h.Identities, identities):
		h.Identities = slices.Clone(identities)
		t.put(n, h)
	}
}

// time is now by the clock that is not set. mu is held.
func (t *Trust) time(now time.Time) time.Time { return time.Unix(0, t.clock.at(now)).UTC() }

func (t *Trust) put(n Name, h *History) {
	if t.sources == nil {
		t.sources = map[Name]*History{}
	}
	if t.dirty == nil {
		t.dirty = map[Name]bool{}
	}
	t.sources[n], t.dirty[n] = h, true
}

// Note counts what came of a source's mail, in recipients. Of who is not known
// nothing is counted.
func (t *Trust) Note(n Name, d Deed, recipients int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at = t.time(at)
	h := t.sources[n]
	if h == nil {
		return
	}
	h.Lately.fade(at)
	switch d {
	case Sent:
		today := int(at.Unix() / int64(Day/time.Second))
		if today <= h.LastDay {
			return
		}
		h.Days, h.LastDay = h.Days+1, today
	case Delivered:
		h.Delivered += recipients
		h.Lately.Delivered += float64(recipients)
	case Bounced:
		h.Lately.Bounced += float64(recipients)
	case Complained:
		h.Lately.Complained += float64(recipients)
	}
	t.put(n, h)
}

// Stand is History.Stand of a source. Who is not known is new.
func (t *Trust) Stand(n Name, pinned Tier, confirmed bool, now time.Time) Standing {
	t.mu.Lock()
	defer t.mu.Unlock()
	now = t.time(now)
	h := t.sources[n]
	if h == nil {
		h = &History{First: now}
	}
	return h.Stand(pinned, confirmed, now)
}

// History gives a copy of what is known of a source.
func (t *Trust) History(n Name) (History, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.sources[n]
	if h == nil {
		return History{}, false
	}
	c := *h
	return c, true
}

// Grant gives a source a tier for a while; nil takes it back. false: it is not known.
func (t *Trust) Grant(n Name, g *Grant) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.sources[n]
	if h == nil {
		return false
	}
	h.Grant = g
	t.put(n, h)
	return true
}

// storedMark is the record of how far a Trust has come.
type storedMark struct {
	Mark   uint64    `json:"mark"`
	Budget int64     `json:"budget"`
	Wall   time.Time `json:"wall"`
}

// Kinds of records below a Trust's prefix.
const (
	historyRecord = "source/" // <organisation>/<source>
	markRecord    = "mark"
)

// Flush writes what changed, with the caller's mark, as Book.Flush does.
func (t *Trust) Flush(ctx context.Context, s Store, now time.Time, mark uint64) error {
	t.mu.Lock()
	if len(t.dirty) == 0 && t.stored {
		t.mu.Unlock()
		return nil
	}
	dirty := t.dirty
	t.dirty = nil
	var put []Record
	for n := range dirty {
		text, _ := json.Marshal(t.sources[n]) // plain values
		put = append(put, Record{Key: t.Prefix + historyRecord + n.String(), Value: text})
	}
	text, _ := json.Marshal(storedMark{Mark: mark, Budget: t.clock.at(now), Wall: now.UTC().Round(0)})
	t.mu.Unlock()
	err := s.Save(ctx, append(put, Record{Key: t.Prefix + markRecord, Value: text}), nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		for n := range dirty {
			t.put(n, t.sources[n])
		}
		return fmt.Errorf("limit: store what is known of sources: %w", err)
	}
	t.stored = true
	return nil
}

// Load reads back what Flush stored; stored says that there was something. A source
// whose record cannot be read is new again.
func (t *Trust) Load(ctx context.Context, s Store, now time.Time) (mark uint64, stored bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var bad error
	if err := s.Load(ctx, t.Prefix+markRecord, func(r Record) {
		var m storedMark
		if stored = json.Unmarshal(r.Value, &m) == nil; stored {
			mark = m.Mark
			t.clock.resume(m.Budget, m.Wall, now)
		}
	}); err != nil {
		return 0, false, fmt.Errorf("limit: read what is known of sources: %w", err)
	}
	t.sources = map[Name]*History{}
	err = s.Load(ctx, t.Prefix+historyRecord, func(r Record) {
		n, h, err := decodeHistory(r.Key[len(t.Prefix)+len(historyRecord):], r.Value)
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("%w: %s", errDamaged, r.Key))
			return
		}
		t.sources[n] = h
		stored = true
	})
	t.stored = stored
	return mark, stored, errors.Join(err, bad)
}

func decodeHistory(name string, text []byte) (n Name, h *History, err error) {
	h = &History{}
	if err := json.Unmarshal(text, h); err != nil {
		return n, nil, err
	}
	for i := range len(name) {
		if name[i] == '/' {
			return Name{name[:i], name[i+1:]}, h, nil
		}
	}
	return n, nil, errDamaged
}
