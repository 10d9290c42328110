package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"anechoic/engine/local"
)

// lastStartName is a file of the data directory.
const lastStartName = "last-start.json"

// LastStart is what a relay writes down of itself when it starts, for who wants to
// start another version on the same data. It holds no secret: none can stand in
// relay.toml.
type LastStart struct {
	Version string       `json:"version"`
	Time    time.Time    `json:"time"`
	Store   local.Format `json:"store"`
	Config  string       `json:"config"` // as it counted, defaults written out: what config show prints
}

// Write makes it durable in a data directory.
func (l LastStart) Write(dataDir string) error {
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dataDir, ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("%s: %w", lastStartName, err)
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dataDir, lastStartName))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", lastStartName, err), os.Remove(f.Name()))
	}
	return nil
}

// ReadLastStart reads it; false: no version that writes it was started there.
func ReadLastStart(dataDir string) (l LastStart, there bool, err error) {
	path := filepath.Join(dataDir, lastStartName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	if err != nil {
		return l, false, fmt.Errorf("%s: %w", path, err)
	}
	return l, true, nil
}
