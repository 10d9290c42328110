package tracking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"anechoic/org"
	"anechoic/relay/custody"
)

// Saved is a search that somebody gave a name. The query is kept as it was written, so
// that since:24h stays the last day.
type Saved struct {
	Org   org.ID    `json:"org,omitempty"` // whose it is, and what it is bound to; empty: the operator's
	Name  string    `json:"name"`
	Query string    `json:"query"`
	By    string    `json:"by,omitempty"`
	Time  time.Time `json:"time"`
}

// maxSaved is how many searches one organisation keeps.
const maxSaved = 200

// savedPrefix of the records: tracking/saved/<org>/<name>; the operator's org is "-".
const savedPrefix = "tracking/saved/"

var savedName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Errors of saved searches.
var (
	ErrNoSaved  = errors.New("there is no saved search of this name")
	ErrBadSaved = errors.New("a search cannot be saved so")
)

// SavedSearches keeps searches in the store.
type SavedSearches struct {
	Store custody.Engine
}

func savedFolder(whose org.ID) string {
	if whose == "" {
		whose = "-"
	}
	return savedPrefix + string(whose) + "/"
}

// Save keeps a search under its name, in place of the one that had it.
func (s SavedSearches) Save(ctx context.Context, one Saved) error {
	if !savedName.MatchString(one.Name) {
		return fmt.Errorf("%w: a name has 1 to 63 of a-z, 0-9, dot, hyphen and underscore, a letter or digit first", ErrBadSaved)
	}
	if _, err := Parse(one.Query, one.Time); err != nil {
		return err
	}
	all, err := s.List(ctx, one.Org)
	if err != nil {
		return err
	}
	if len(all) >= maxSaved {
		return fmt.Errorf("%w: there are %d already: delete one", ErrBadSaved, maxSaved)
	}
	value, err := json.Marshal(one)
	if err != nil {
		return err
	}
	return s.Store.Commit(ctx, &custody.Batch{Put: []custody.Record{{Key: savedFolder(one.Org) + one.Name, Value: value}}})
}

// List gives those of an organisation by name; those of the operator if it is empty.
func (s SavedSearches) List(ctx context.Context, whose org.ID) (list []Saved, err error) {
	var bad error
	err = s.Store.Scan(ctx, savedFolder(whose), "", func(key string, value []byte) bool {
		var one Saved
		if err := json.Unmarshal(value, &one); err != nil {
			bad = fmt.Errorf("tracking: the saved search %s: %w", strings.TrimPrefix(key, savedPrefix), err)
			return true
		}
		list = append(list, one)
		return true
	})
	return list, errors.Join(err, bad)
}

// Get gives one by its name.
func (s SavedSearches) Get(ctx context.Context, whose org.ID, name string) (one Saved, err error) {
	if !savedName.MatchString(name) {
		return one, ErrNoSaved
	}
	value, err := s.Store.Get(ctx, savedFolder(whose)+name)
	if errors.Is(err, custody.ErrNotFound) {
		return one, ErrNoSaved
	}
	if err == nil {
		err = json.Unmarshal(value, &one)
	}
	return one, err
}

// Delete drops one.
func (s SavedSearches) Delete(ctx context.Context, whose org.ID, name string) error {
	if _, err := s.Get(ctx, whose, name); err != nil {
		return err
	}
	return s.Store.Commit(ctx, &custody.Batch{Delete: []string{savedFolder(whose) + name}})
}
