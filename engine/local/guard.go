package local

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"anechoic/relay/custody"
)

// fault remembers the first error after which nothing more may be written. It is
// Pebble's logger, because that is where Pebble says that it cannot go on, and
// the guard of its log files.
//
// Where it finds an error it stops the goroutine that met it, for ever. Pebble
// would go on in ways that are no better than an end of the process: it panics
// while holding locks when a log file cannot be closed or made, and tries again
// after a failed MANIFEST. Stopped like this nothing more is changed on disk,
// reading goes on, and whoever waits for a commit is told at once.
type fault struct {
	log    *slog.Logger
	first  atomic.Pointer[error]
	broken chan struct{} // closed with the first error
	armed  atomic.Bool   // since Open succeeded; before, errors are returned
}

func (f *fault) err() error {
	if p := f.first.Load(); p != nil {
		return *p
	}
	return nil
}

// set breaks the engine. A full disk is said, so that the peer can be told.
func (f *fault) set(cause error) error {
	err := fmt.Errorf("%w: %w", custody.ErrBroken, cause)
	if vfs.IsNoSpaceError(cause) {
		err = fmt.Errorf("%w: %w: %w", custody.ErrBroken, custody.ErrFull, cause)
	}
	if f.first.CompareAndSwap(nil, &err) {
		close(f.broken)
		f.log.Error("engine broke: nothing more is written until the relay is started again", "error", cause)
	}
	return f.err()
}

// stop breaks the engine and ends the calling goroutine's work.
func (f *fault) stop(cause error) {
	_ = f.set(cause)
	select {}
}

// check stops on an error of the log, once the engine is open.
func (f *fault) check(err error) error {
	if err != nil && f.armed.Load() {
		f.stop(err)
	}
	return err
}

// Infof takes what Pebble tells of its daily work.
func (f *fault) Infof(format string, args ...any) {
	if f.log.Enabled(context.Background(), slog.LevelDebug) {
		f.log.Debug("pebble", "text", fmt.Sprintf(format, args...))
	}
}

// Errorf takes what Pebble could not do and will try again.
func (f *fault) Errorf(format string, args ...any) {
	f.log.Error("pebble", "text", fmt.Sprintf(format, args...))
}

// Fatalf takes what Pebble cannot go on from.
func (f *fault) Fatalf(format string, args ...any) {
	cause := fmt.Errorf(format, args...)
	for _, a := range args {
		if err, ok := a.(error); ok {
			cause = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
		}
	}
	if !f.armed.Load() { // in Open, which then fails
		_ = f.set(cause)
		return
	}
	f.stop(cause)
}

// background takes errors of flushes and compactions, which Pebble tries again.
func (f *fault) background(err error) { f.log.Error("pebble: background work failed", "error", err) }

// damaged takes note of what the disk gave back otherwise than it was written.
// Pebble would end the process: but writing goes on as well as before, and who
// reads what is damaged is told by an error. A process that ended here would meet
// the same record after its next start.
func (f *fault) damaged(info pebble.DataCorruptionInfo) {
	f.log.Error("a part of the store does not read back as it was written: what is in it is not sent; restore it from a backup",
		"file", info.Path, "from_key", string(info.Bounds.Start), "to_key", string(info.Bounds.End.Key), "error", info.Details)
}

// stall takes note that writers have to wait for flushes or compactions.
func (f *fault) stall(info pebble.WriteStallBeginInfo) {
	f.log.Warn("pebble: writing waits", "reason", info.Reason)
}

// guarded is the file system with the guard on the log's files and on their
// directory, whose sync makes a new log file real. What is elsewhere is a checkpoint,
// which may fail.
type guarded struct {
	vfs.FS
	fault *fault
	dir   string // of the store, cleaned
}

func (g guarded) isLog(name string) bool {
	return strings.HasSuffix(name, ".log") && filepath.Dir(name) == g.dir
}

func (g guarded) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, category)
	return g.guard(name, f, err)
}

func (g guarded) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, category)
	return g.guard(newname, f, err)
}

func (g guarded) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if filepath.Clean(name) != g.dir {
		return f, err
	}
	if g.fault.check(err) != nil {
		return nil, err
	}
	return guardedFile{f, g.fault}, nil
}

func (g guarded) guard(name string, f vfs.File, err error) (vfs.File, error) {
	if !g.isLog(name) {
		return f, err
	}
	if g.fault.check(err) != nil {
		return nil, err
	}
	return guardedFile{f, g.fault}, nil
}

// Unwrap is for vfs.Root.
func (g guarded) Unwrap() vfs.FS { return g.FS }

// guardedFile is a file whose errors break the engine.
type guardedFile struct {
	vfs.File
	fault *fault
}

func (f guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.fault.check(err)
}

func (f guardedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.fault.check(err)
}

func (f guardedFile) Sync() error     { return f.fault.check(f.File.Sync()) }
func (f guardedFile) SyncData() error { return f.fault.check(f.File.SyncData()) }
func (f guardedFile) Close() error    { return f.fault.check(f.File.Close()) }

func (f guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.fault.check(err)
}
