// Package local is the engine of one node: records, bodies and ledger in one
// Pebble store in the data directory.
//
// One goroutine commits. It takes the batches that wait, gives their facts
// offsets, seals ledger segments that are due, and writes all of it with one
// sync at the end; whoever waited gets the same answer. Small bodies ride
// along, large ones are written before as chunks that only the synced batch
// makes real. DESIGN.md has the crash table.
//
// A failed write or fsync is final: the engine is broken until the process
// opens it again, reading goes on. It is not for two processes: the directory
// is locked.
package local

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/semaphore"

	"anechoic/mail/background"
	"anechoic/relay/custody"
)

// Limits of this implementation. Sizes are octets.
const (
	memTableSize    = 16 << 20 // two of them, one being flushed, are most of the engine's memory
	memTableStop    = 4        // unflushed tables before writers wait
	cacheSize       = 8 << 20  // most reads are of what was just written, in a memtable
	maxInFlight     = 64 << 20 // of batches that were admitted and are not durable yet
	maxGroup        = 4 << 20  // of one group commit, well under half a memtable
	openFiles       = 512
	l0Stop          = 40        // layers of flushed tables before writers wait
	defaultReserve  = 256 << 20 // room for flushes and compactions of what was acknowledged
	requestOverhead = 512       // of a batch in flight beside its content
)

// ErrInUse says that another process has the directory open.
var ErrInUse = errors.New("directory is in use by another process")

// Options says where an engine lives.
type Options struct {
	Dir string
	FS  vfs.FS // nil: the disk; tests inject faults here
	Log *slog.Logger
	// Reserve is the free space in octets below which no new body is taken; 0
	// means 256 MiB. Taking begins again when there is an eighth more, so that a
	// disk at its limit does not have senders come and go.
	Reserve uint64

	quiet time.Duration // of compactions after the opening; 0: compactionsQuiet
}

// Engine implements custody.Engine.
type Engine struct {
	opts     Options
	db       *pebble.DB
	lock     *pebble.Lock
	opened   time.Time
	looked   atomic.Int64 // when the file system was last asked for room, in nanoseconds since opened; 0: never
	short    atomic.Bool  // free space fell below the reserve and has not recovered
	deleted  atomic.Bool  // something was deleted since the last flush
	reclaims atomic.Bool  // reclaim runs
	admitted *semaphore.Weighted
	requests chan *request
	flushing chan struct{} // asks the committing goroutine for a flush
	turns    chan func()   // what the committing goroutine does between two groups
	stopped  chan struct{} // closed when the committing goroutine ended
	quit     chan struct{} // closed when Close begins
	fault    fault

	durableFacts    atomic.Uint64 // facts below this offset are durable
	durableSegments atomic.Uint64 // segments below this number are

	life    sync.Mutex // guards closing
	closing bool
	users   sync.WaitGroup // calls in progress; none begins after closing

	largeMu sync.RWMutex // guards large
	large   map[string]manifest

	compactions *compactions

	committer // of the committing goroutine alone
}

// Open opens or makes the store in a directory, of which it takes an exclusive
// lock (ErrInUse), seals what a crash left unsealed, and removes chunks of
// bodies that no batch made real.
func Open(opts Options) (*Engine, error) {
	opts, err := opts.prepared()
	if err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(opts.Dir, opts.FS)
	if err != nil {
		return nil, fmt.Errorf("engine: open %s: %w: stop the other anechoic first (%v)", opts.Dir, ErrInUse, err)
	}
	e := &Engine{
		opts:     opts,
		opened:   time.Now(),
		lock:     lock,
		admitted: semaphore.NewWeighted(maxInFlight),
		requests: make(chan *request),
		flushing: make(chan struct{}, 1),
		turns:    make(chan func()),
		stopped:  make(chan struct{}),
		quit:     make(chan struct{}),
		large:    map[string]manifest{},

		compactions: newCompactions(),
	}
	e.fault.log, e.fault.broken = opts.Log, make(chan struct{})
	if e.db, err = pebble.Open(opts.Dir, e.pebbleOptions()); err != nil {
		return nil, errors.Join(fmt.Errorf("engine: open %s: %w", opts.Dir, err), lock.Close())
	}
	if err := checkFormat(e.db); err != nil {
		return nil, errors.Join(fmt.Errorf("engine: open %s: %w", opts.Dir, err), e.db.Close(), lock.Close())
	}
	if err := e.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("engine: open %s: %w", opts.Dir, err), e.db.Close(), lock.Close())
	}
	e.fault.armed.Store(true)
	e.compactions.open(e.opts.Log, e.opts.quiet, func() bool { return urgent(e.db.Metrics()) })
	background.Vital(nil, e.opts.Log, "engine: commit", e.run)
	return e, nil
}

// prepared fills in defaults and makes the directory, which is for the relay's
// user alone.
func (o Options) prepared() (Options, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.quiet == 0 {
		o.quiet = compactionsQuiet
	}
	if o.FS != nil {
		return o, o.FS.MkdirAll(o.Dir, 0o700)
	}
	o.FS = vfs.Default
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return o, fmt.Errorf("engine: make %s: %w", o.Dir, err)
	}
	if info, err := os.Stat(o.Dir); err != nil || info.Mode().Perm()&0o077 != 0 {
		if err := errors.Join(err, os.Chmod(o.Dir, fs.FileMode(0o700))); err != nil {
			return o, fmt.Errorf("engine: make %s private: %w", o.Dir, err)
		}
	}
	return o, nil
}

// pebbleFormat is the storage engine's version of its files. A store is brought to it
// when it is opened, and an engine before it reads it no more: docs/backup.md says so.
const pebbleFormat = pebble.FormatWALSyncChunks

// pebbleOptions tunes for records that mostly die young: large memtables, so
// that a settled message never reaches a table, lazy levels, no compression
// where data is fresh.
func (e *Engine) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                          guarded{e.opts.FS, &e.fault, filepath.Clean(e.opts.Dir)},
		Lock:                        e.lock,
		Logger:                      &e.fault,
		EventListener:               &pebble.EventListener{BackgroundError: e.fault.background, DataCorruption: e.fault.damaged, WriteStallBegin: e.fault.stall},
		FormatMajorVersion:          pebbleFormat,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: memTableStop,
		CacheSize:                   cacheSize,
		MaxOpenFiles:                openFiles,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       l0Stop,
		LBaseMaxBytes:               256 << 20,
		BytesPerSync:                1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
	o.TargetFileSizes[0] = 8 << 20
	o.Experimental.CompactionScheduler = e.compactions
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		s := pebble.DBCompressionFastest
		for level := range 5 {
			s.Levels[level] = block.NoCompression
		}
		return s
	})
	return o
}

// enter begins a call that needs the store; leave ends it.
func (e *Engine) enter() error {
	e.life.Lock()
	defer e.life.Unlock()
	if e.closing {
		return custody.ErrClosed
	}
	e.users.Add(1)
	return nil
}

func (e *Engine) leave() { e.users.Done() }

// Close waits for the calls in progress, seals the ledger and closes the store.
// Later calls are custody.ErrClosed. A broken engine is left as it is, with its
// lock: what is durable is on disk, and the process should end.
func (e *Engine) Close() error {
	e.life.Lock()
	again := e.closing
	e.closing = true
	if !again {
		close(e.quit)
	}
	e.life.Unlock()
	if again {
		return custody.ErrClosed
	}
	e.users.Wait()
	close(e.requests)
	select {
	case <-e.stopped:
	case <-e.fault.broken:
	}
	if err := e.closeStore(); err != nil {
		return fmt.Errorf("engine: close %s: %w", e.opts.Dir, err)
	}
	return nil
}

// closeStore closes Pebble, in a goroutine because it may break on the way.
func (e *Engine) closeStore() error {
	if err := e.fault.err(); err != nil {
		return err
	}
	closed := make(chan error, 1)
	background.Vital(nil, e.opts.Log, "engine: close", func() { closed <- errors.Join(e.db.Close(), e.lock.Close()) })
	select {
	case err := <-closed:
		return err
	case <-e.fault.broken:
		return e.fault.err()
	}
}

// Ready is nil while the engine takes everything; else it wraps
// custody.ErrBroken or custody.ErrFull.
func (e *Engine) Ready() error {
	if err := e.fault.err(); err != nil {
		return err
	}
	return e.room()
}

// Tidy says that a start is over, so that the store may put its tables in order, which takes a
// processor for a while. Half a minute after Open it does so by itself.
func (e *Engine) Tidy() { e.compactions.begin() }

// Broken is closed when a write or fsync failed: from then on nothing is taken,
// and Ready says why. The process is to end and be started again, because only a
// new look at the disk tells what of the failed write is there.
func (e *Engine) Broken() <-chan struct{} { return e.fault.broken }

var _ custody.Engine = (*Engine)(nil)

// sinceOrZero is how long ago t was; zero times were never.
func sinceOrZero(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return time.Since(t)
}
