package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"anechoic/ledger"
	"anechoic/relay/custody"
)

// Reader reads a store that no relay has open: a checkpoint, a copy, the directory
// of a relay that does not run. It changes nothing in it; the directory is locked
// meanwhile.
type Reader struct {
	engine *Engine
	format Format
}

var _ custody.Store = (*Reader)(nil)

// Format is the versions of a store.
type Format struct {
	Store  int    `json:"store"`  // see StoreFormat
	Pebble uint64 `json:"pebble"` // the storage engine's own
}

// CurrentFormat is what a store has once this program opened it.
func CurrentFormat() Format {
	return Format{Store: StoreFormat, Pebble: uint64(pebbleFormat)}
}

// OpenReader opens the store in a directory. ErrInUse: somebody has it open;
// ErrNewer: this program cannot read it, and Reader.Format says why. An error of
// kind fs.ErrNotExist says that there is no store.
func OpenReader(dir string) (*Reader, error) {
	fail := func(err error) (*Reader, error) { return nil, fmt.Errorf("engine: read %s: %w", dir, err) }
	found, err := pebble.Peek(dir, vfs.Default)
	switch {
	case err != nil:
		return fail(err)
	case !found.Exists:
		return fail(fmt.Errorf("%w: there is no store in it", fs.ErrNotExist))
	case found.FormatMajorVersion > pebble.FormatNewest:
		return fail(fmt.Errorf("%w: its storage engine has format %d, and this one reads up to %d", ErrNewer, found.FormatMajorVersion, pebble.FormatNewest))
	}
	e := &Engine{opts: Options{Dir: dir, FS: vfs.Default, Log: slog.New(slog.DiscardHandler)}, large: map[string]manifest{}, compactions: newCompactions()}
	e.fault.log, e.fault.broken = e.opts.Log, make(chan struct{})
	if e.lock, err = pebble.LockDirectory(dir, e.opts.FS); err != nil {
		return fail(fmt.Errorf("%w: (%v)", ErrInUse, err))
	}
	options := e.pebbleOptions()
	options.ReadOnly, options.ErrorIfNotExists = true, true
	options.FormatMajorVersion = found.FormatMajorVersion
	if e.db, err = pebble.Open(dir, options); err != nil {
		return fail(errors.Join(damaged(err), e.lock.Close()))
	}
	r := &Reader{engine: e, format: Format{Pebble: uint64(found.FormatMajorVersion)}}
	r.format.Store, _, err = storedFormat(e.db)
	if err == nil && r.format.Store > StoreFormat {
		err = newer(r.format.Store)
	}
	if err == nil {
		err = e.readManifests()
	}
	if err != nil {
		return fail(errors.Join(err, r.Close()))
	}
	e.durableFacts.Store(math.MaxUint64) // all there is
	e.durableSegments.Store(math.MaxUint64)
	return r, nil
}

// Format says of which version the store is.
func (r *Reader) Format() Format { return r.format }

// LedgerHead is the last segment of the ledger; false: there is none yet.
func (r *Reader) LedgerHead() (ledger.Segment, bool, error) {
	key, value, err := r.engine.last(ledger.SegmentPrefix)
	if err != nil || key == "" {
		return ledger.Segment{}, false, damaged(err)
	}
	s, err := ledger.ParseSegment(value)
	return s, err == nil, err
}

// Get is that of custody.Engine.
func (r *Reader) Get(ctx context.Context, key string) ([]byte, error) { return r.engine.Get(ctx, key) }

// Scan is that of custody.Engine.
func (r *Reader) Scan(ctx context.Context, prefix, from string, visit func(string, []byte) bool) error {
	return r.engine.Scan(ctx, prefix, from, visit)
}

// OpenBody is that of custody.Engine.
func (r *Reader) OpenBody(ctx context.Context, name string) (custody.StoredBody, error) {
	return r.engine.OpenBody(ctx, name)
}

// Close lets go of the directory.
func (r *Reader) Close() error { return errors.Join(r.engine.db.Close(), r.engine.lock.Close()) }
