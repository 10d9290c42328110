package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"anechoic/engine/local"
	"anechoic/relay/custody"
)

// Upgrade is what would come of starting this program on a data directory.
type Upgrade struct {
	Version  string           `json:"version"`           // of this program
	Started  *LastStart       `json:"started,omitempty"` // what was started there last; nil: not known
	Running  string           `json:"running,omitempty"` // version of the relay that runs there
	Store    *local.Format    `json:"store,omitempty"`   // what is there; nil: nothing that can be read
	After    local.Format     `json:"after"`             // what the store has once this program opened it
	Queue    custody.Surveyed `json:"queue"`
	Back     bool             `json:"back"`     // what was started last reads the store afterwards
	Settings []Setting        `json:"settings"` // that count otherwise than at the last start
	Problems []string         `json:"problems"` // that keep this program from starting, or from reading something
}

// Setting is a key of relay.toml whose value is not what it was.
type Setting struct {
	Key    string `json:"key"`
	Before string `json:"before"` // empty: there was no such key
	Now    string `json:"now"`    // empty: there is none any more
	InFile bool   `json:"in_file"`
}

// CheckUpgrade reads a data directory as this program would, and changes nothing. The
// store is a checkpoint, or empty: that of the directory, which nobody may have open.
// effective is the configuration as this program reads it, file the text it was read
// of.
func CheckUpgrade(ctx context.Context, dataDir, store, effective string, file []byte) (u Upgrade, err error) {
	u = Upgrade{After: local.CurrentFormat(), Settings: []Setting{}, Problems: []string{}}
	started, there, err := ReadLastStart(dataDir)
	switch {
	case err != nil:
		u.Problems = append(u.Problems, err.Error())
	case there:
		u.Started = &started
		if effective != "" {
			u.Settings = changedSettings(started.Config, effective, file)
		}
	}
	if err := Unfinished(dataDir); err != nil {
		u.Problems = append(u.Problems, err.Error())
	}
	if store == "" {
		store = filepath.Join(dataDir, storeName)
	}
	return u, u.readStore(ctx, dataDir, store)
}

// readStore opens it, and reads every record of the queue.
func (u *Upgrade) readStore(ctx context.Context, dataDir, dir string) error {
	reader, err := local.OpenReader(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		u.Back = true // nothing is there yet
		return nil
	case errors.Is(err, local.ErrInUse), errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		u.Problems = append(u.Problems, err.Error())
		return nil
	}
	defer func() { _ = reader.Close() }() // it was only read
	format := reader.Format()
	u.Store, u.Back = &format, u.After.Store <= format.Store && u.After.Pebble <= format.Pebble
	key, err := readSealKey(dataDir)
	if err != nil {
		u.Problems = append(u.Problems, err.Error())
		return nil
	}
	if u.Queue, err = custody.Survey(ctx, reader, key, false); errors.Is(err, custody.ErrSealKey) {
		u.Problems = append(u.Problems, err.Error())
		return nil
	} else if err != nil {
		return err
	}
	if u.Queue.Damaged > 0 {
		u.Problems = append(u.Problems, fmt.Sprintf("%d records of the queue cannot be read by this version and would be set aside, the first: %s", u.Queue.Damaged, u.Queue.FirstDamage))
	}
	return nil
}

// changedSettings holds two configurations as they count against each other.
func changedSettings(before, now string, file []byte) []Setting {
	was, is, written := settings(before), settings(now), settings(string(file))
	keys := map[string]bool{}
	for key := range was {
		keys[key] = true
	}
	for key := range is {
		keys[key] = true
	}
	list := []Setting{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if was[key] != is[key] {
			_, in := written[key]
			list = append(list, Setting{Key: key, Before: was[key], Now: is[key], InFile: in})
		}
	}
	return list
}

// settings is every value of a configuration by its key, as text.
func settings(text string) map[string]string {
	var tree map[string]any
	if toml.Unmarshal([]byte(text), &tree) != nil {
		return nil
	}
	found := map[string]string{}
	flatten("", tree, func(key string, value any) {
		found[key] = strings.TrimSpace(fmt.Sprintf("%v", value))
		if text, ok := value.(string); ok {
			found[key] = fmt.Sprintf("%q", text)
		}
	})
	return found
}
