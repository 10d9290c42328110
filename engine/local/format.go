package local

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
)

// StoreFormat is the version of what this program writes into a store: of the key
// spaces, and of the records in them as far as an older program would take them for
// something else. It is raised where a program before the change must not open the
// store any more; a program reads every version up to its own.
const StoreFormat = 1

// formatSpace is the key space of the one record that says the version, as a
// decimal number. A store without it is of version 1, from before it was written.
const formatSpace = 'v'

var formatKey = spaceKey(formatSpace, "format")

// ErrNewer says that a store was written by a newer program.
var ErrNewer = errors.New("the store was written by a newer anechoic")

// newer says what to do about it.
func newer(stored int) error {
	return fmt.Errorf("%w: it has format %d, and this one reads up to %d: start that version again, or restore a backup from before the upgrade into another directory", ErrNewer, stored, StoreFormat)
}

// storedFormat is the version of an open store; there says that it is written down.
func storedFormat(db *pebble.DB) (version int, there bool, err error) {
	value, closer, err := db.Get(formatKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return 1, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("format: %w", err)
	}
	version, err = strconv.Atoi(string(value))
	if err != nil || version < 1 {
		return 0, false, errors.Join(fmt.Errorf("format: %q is no version: restore the data directory from a backup", value), closer.Close())
	}
	return version, true, closer.Close()
}

// checkFormat refuses a store that a newer program wrote, before anything in it is
// changed, and writes the version down where it is not.
func checkFormat(db *pebble.DB) error {
	version, there, err := storedFormat(db)
	switch {
	case err != nil:
		return err
	case version > StoreFormat:
		return newer(version)
	case there && version == StoreFormat:
		return nil
	}
	return db.Set(formatKey, strconv.AppendInt(nil, StoreFormat, 10), pebble.Sync)
}
