// Package backup packs what a relay is into one file, and makes a relay of it again.
//
// Create reads a checkpoint of the store (of a running relay) or the store itself
// (of one that does not run), the other files of the data directory, relay.toml,
// the registry, and the files those name. Verify reads a backup whole, opens its
// store in a temporary folder, and holds ledger, queue and keys against what they
// must be. Restore makes a data directory of it, in which the whole queue is held:
// what was delivered after the backup was made is not sent again unasked.
//
// What it guarantees: a backup holds every message that was acknowledged before it
// began, whole; any octet of it that changed is noticed before anything of it is
// used; a restore that does not finish leaves nothing that a relay would start on.
//
// A backup is a tar file: manifest.json, then the files it lists in their order,
// then SHA256SUMS. It is compressed with zstd, whose last frame is one that tools
// skip: it holds the SHA-256 of all octets before. Sealed to recipients, all of that
// is in an age file. Without recipients whoever reads it has the relay's private
// keys. Neither proves who made a backup: it is to be kept where nobody else writes.
package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"

	"anechoic/engine/local"
	"anechoic/relay/custody"
)

// FormatVersion is that of the archive: of its container and its manifest.
const FormatVersion = 1

// Limits of what is read. They are ours: a million tables are more than any store has.
const (
	maxManifest = 256 << 20
	maxFiles    = 1 << 20
	maxWindow   = 32 << 20 // of compression, in octets; what Create writes needs 8 MiB
)

// Names in the archive and in data directories.
const (
	manifestName = "manifest.json"
	sumsName     = "SHA256SUMS"
	dataPrefix   = "data/"
	configPrefix = "config/"
	outside      = configPrefix + "outside/" // what does not lie beside relay.toml, by its absolute path
	storeName    = "store"
	sealKeyName  = "seal.key"
	keysName     = "keys"
	lockName     = "LOCK"

	// CheckpointFolder is where a running relay makes checkpoints, in its data
	// directory: hard links need the same disk.
	CheckpointFolder = "checkpoint"

	restoringName = ".restoring"
)

// left is what of a data directory is not part of a backup: mail that is arriving,
// what is made at each start, and what a backup or a restore is doing. The store is
// read from elsewhere.
var left = map[string]bool{storeName: true, "spool": true, CheckpointFolder: true, "control.sock": true, restoringName: true}

// Errors that callers tell apart.
var (
	// ErrDamaged says that a backup does not read as it was written.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrNewer says that a newer program made it.
	ErrNewer = errors.New("the backup was made by a newer anechoic")
	// ErrSealed says that it is encrypted, and nothing was given to open it.
	ErrSealed = errors.New("the backup is encrypted")
	// ErrIdentity says that none of the identities opens it.
	ErrIdentity = errors.New("none of the identities opens the backup")
)

func damagedf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, args...))
}

// Manifest says what a backup holds.
type Manifest struct {
	Format   int              `json:"format"`  // see FormatVersion
	Version  string           `json:"version"` // of the program that made it
	Created  time.Time        `json:"created"` // when it began
	Hostname string           `json:"hostname"`
	DataDir  string           `json:"data_dir"` // where the data was, absolute
	Running  bool             `json:"running"`  // made of a running relay
	Store    local.Format     `json:"store"`
	Ledger   Head             `json:"ledger"`
	Queue    custody.Surveyed `json:"queue"`
	Config   []ConfigFile     `json:"config"`
	Missing  []string         `json:"missing,omitempty"` // files that the configuration names and that could not be read
	Files    []File           `json:"files"`
}

// Head is where the ledger stands.
type Head struct {
	Facts    uint64 `json:"facts"`
	Segments uint64 `json:"segments"`
	Hash     string `json:"hash"` // of the last segment
}

// File is one file of the archive.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// ConfigFile says where a file of the configuration was.
type ConfigFile struct {
	Name string `json:"name"` // in the archive
	Path string `json:"path"` // absolute
	Key  string `json:"key"`  // what names it: "relay.toml", or the key in it or in the registry
}

// Octets is how much the files hold together.
func (m Manifest) Octets() (sum int64) {
	for _, f := range m.Files {
		sum += f.Size
	}
	return sum
}

// readManifest reads one, and refuses what no Create writes.
func readManifest(text []byte) (m Manifest, err error) {
	var version struct{ Format int }
	if err := json.Unmarshal(text, &version); err != nil {
		return m, damagedf("its manifest is no JSON: %w", err)
	}
	if version.Format > FormatVersion {
		return m, fmt.Errorf("%w: it has format %d, and this one reads up to %d: use the version that made it, or a later one", ErrNewer, version.Format, FormatVersion)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, damagedf("its manifest cannot be read: %w", err)
	}
	if m.Format < 1 {
		return m, damagedf("its manifest has format %d", m.Format)
	}
	return m, m.check()
}

// check refuses names that would lead out of where they are restored, or over each
// other, and sizes that cannot be.
func (m Manifest) check() error {
	if len(m.Files) > maxFiles {
		return damagedf("its manifest lists %d files, %d are the most", len(m.Files), maxFiles)
	}
	seen, folders, sum := map[string]bool{}, map[string]bool{}, int64(0)
	for _, f := range m.Files {
		if err := checkName(f.Name); err != nil {
			return err
		}
		if seen[f.Name] {
			return damagedf("its manifest lists %q twice", f.Name)
		}
		seen[f.Name] = true
		for dir := path.Dir(f.Name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
		if f.Size < 0 || f.Size > math.MaxInt64-sum {
			return damagedf("its manifest says that %q has %d octets", f.Name, f.Size)
		}
		sum += f.Size
	}
	for name := range folders {
		if seen[name] {
			return damagedf("its manifest lists %q as a file and as a folder", name)
		}
	}
	return nil
}

func checkName(name string) error {
	rest, data := strings.CutPrefix(name, dataPrefix)
	switch {
	case !fs.ValidPath(name) || strings.ContainsAny(name, "\x00\\\n"):
		return damagedf("its manifest lists %q, which is no plain path", name)
	case !data && !strings.HasPrefix(name, configPrefix):
		return damagedf("its manifest lists %q, which is neither data nor configuration", name)
	}
	top, below, _ := strings.Cut(rest, "/")
	if data && left[top] && (top != storeName || below == "" || strings.Contains(below, "/") || below == lockName) {
		return damagedf("its manifest lists %q, which is no part of a backup", name)
	}
	return nil
}
