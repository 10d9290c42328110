package campaign

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// version is that of the snapshot's form; another one is not read.
const version = 1

// state is the snapshot.
type state struct {
	Version   int                  `json:"version"`
	Now       time.Time            `json:"now"`
	Campaigns map[string]*incident `json:"campaigns"`
	Keys      map[string]*key      `json:"keys"`
	Pending   map[string]*pending  `json:"pending"`
	Merged    map[string]string    `json:"merged"`
}

// Snapshot is the whole state, for Restore.
func (g *Grouper) Snapshot() []byte {
	out, err := json.Marshal(state{version, g.now, g.campaigns, g.keys, g.pending, g.merged})
	if err != nil {
		return nil // a time outside the years of JSON: nothing that a clock shows
	}
	return out
}

// Restore replaces the state by what Snapshot gave. On an error nothing is changed.
func (g *Grouper) Restore(snapshot []byte) error {
	var s state
	if err := decode(snapshot, &s); err != nil {
		return fmt.Errorf("campaign: restore: %w: read the ledger again instead", err)
	}
	fresh := New(g.o)
	fresh.now = s.Now
	for id, c := range s.Campaigns {
		fresh.campaigns[id] = c
	}
	for k, at := range s.Keys {
		fresh.keys[k] = at
	}
	for k, p := range s.Pending {
		fresh.pending[k] = p
	}
	for from, to := range s.Merged {
		fresh.merged[from] = to
	}
	*g = *fresh
	return nil
}

func decode(snapshot []byte, s *state) error {
	d := json.NewDecoder(bytes.NewReader(snapshot))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return fmt.Errorf("octets that are no snapshot: %w", err)
	}
	if s.Version != version || d.More() {
		return fmt.Errorf("a snapshot of version %d, not %d", s.Version, version)
	}
	if len(s.Keys) > maxKeys || len(s.Pending) > maxPending+1 {
		return fmt.Errorf("a snapshot of %d keys", len(s.Keys)+len(s.Pending))
	}
	for id, c := range s.Campaigns {
		if c == nil || c.ID != id || !isTime(c.Start) || !isTime(c.Last) || !isTime(c.Peak) {
			return fmt.Errorf("campaign %.40q is none", id)
		}
		if c.Members == nil {
			c.Members = map[string]member{}
		}
	}
	for k, at := range s.Keys {
		if at == nil || k != word(k) {
			return fmt.Errorf("key %.40q is none", k)
		}
	}
	for k, p := range s.Pending {
		if p == nil || k != word(k) {
			return fmt.Errorf("key %.40q is none", k)
		}
	}
	return nil
}

func isTime(t time.Time) bool { return t.Year() >= 1 && t.Year() < 9999 }
