package local

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"anechoic/ledger"
	"anechoic/relay/custody"
)

// A checkpoint under load: everything acknowledged before it is in it, everything
// else is in it whole or not at all, and its ledger is as it was sealed.
func TestACheckpointHoldsWhatWasAcknowledgedAndNothingInPart(t *testing.T) {
	dir := t.TempDir()
	e, err := Open(Options{Dir: filepath.Join(dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var kept sync.Map // numbers of the units that Commit acknowledged
	var next atomic.Int64
	for round := range 3 {
		stop, some := make(chan struct{}), make(chan struct{}, 4)
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for written := 0; ; written++ {
					if written == 20 {
						some <- struct{}{}
					}
					select {
					case <-stop:
						return
					default:
					}
					n := int(next.Add(1))
					if err := e.Commit(ctx, unit(n, sizeOf(n))); err != nil {
						t.Error(err)
						return
					}
					kept.Store(n, true)
				}
			})
		}
		<-some // writers are at work
		var before []int
		kept.Range(func(n, _ any) bool { before = append(before, n.(int)); return true })
		copied := filepath.Join(dir, "copy"+strconv.Itoa(round))
		err := e.Checkpoint(ctx, copied)
		close(stop)
		writers.Wait()
		if err != nil {
			t.Fatal(err)
		}
		checkCopy(t, copied, before, int(next.Load()))
	}
}

// sizeOf makes every seventh body a large one.
func sizeOf(n int) int64 {
	if n%7 == 0 {
		return custody.ChunkThreshold + int64(n)
	}
	return int64(100 + n)
}

// checkCopy reads a copy, and then opens it as a relay does.
func checkCopy(t *testing.T, dir string, before []int, most int) {
	t.Helper()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	report, err := ledger.Verify(ctx, r)
	if err != nil || !report.OK() || report.Unsealed != 0 {
		t.Errorf("the ledger of the copy: %+v, %v", report, err)
	}
	if head, there, err := r.LedgerHead(); err != nil || !there || head.Hash() != report.Head {
		t.Errorf("the head is %v, %v, %v", head.Hash(), there, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	found := map[int]bool{}
	for n := 1; n <= most; n++ {
		found[n] = there(t, e, n, sizeOf(n))
	}
	for _, n := range before {
		if !found[n] {
			t.Errorf("unit %d was acknowledged and is not in the copy", n)
		}
	}
}

// What goes wrong with a copy is the copy's: a disk that is full where it is made
// breaks nothing.
func TestAFailedCheckpointBreaksNothing(t *testing.T) {
	var full atomic.Bool
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.Contains(op.Path, "copy") && op.Kind != errorfs.OpRemoveAll && op.Kind != errorfs.OpStat {
			return syscall.ENOSPC
		}
		return nil
	}))
	e := mustOpen(t, disk)
	defer e.Close()
	if err := e.Commit(ctx, unit(1, 10)); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if err := e.Checkpoint(ctx, "copy"); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("it said %v", err)
	}
	if err := e.Commit(ctx, unit(2, 10)); err != nil {
		t.Fatal(err)
	}
	full.Store(false)
	if err := e.Checkpoint(ctx, "copy"); err != nil {
		t.Fatal(err)
	}
	if err := e.Checkpoint(ctx, "copy"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a copy over another: %v", err)
	}
}

// Only the log of the copy can fail without harm: the store's own is guarded as
// before.
func TestAFailedSyncBreaksTheEngineDuringACheckpoint(t *testing.T) {
	var fail atomic.Bool
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && op.Kind == errorfs.OpFileSyncData && strings.HasPrefix(op.Path, "data") && strings.HasSuffix(op.Path, ".log") {
			return syscall.EIO
		}
		return nil
	}))
	e := mustOpen(t, disk)
	if err := e.Commit(ctx, unit(1, 10)); err != nil {
		t.Fatal(err)
	}
	lazy := unit(2, 10)
	lazy.Lazy = true
	if err := e.Commit(ctx, lazy); err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	if err := e.Checkpoint(ctx, "copy"); !errors.Is(err, custody.ErrBroken) {
		t.Fatalf("it said %v", err)
	}
}

func TestAClosedEngineMakesNoCheckpoint(t *testing.T) {
	e := mustOpen(t, vfs.NewMem())
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Checkpoint(ctx, "copy"); !errors.Is(err, custody.ErrClosed) {
		t.Fatalf("it said %v", err)
	}
}

// The version of a store is written down once, and a later one is not touched.
func TestAStoreOfANewerProgramIsRefusedUnchanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	e, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Commit(ctx, unit(1, 10)); err != nil {
		t.Fatal(err)
	}
	version, there, err := storedFormat(e.db)
	if version != StoreFormat || !there || err != nil {
		t.Errorf("%d, %v, %v", version, there, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "2")
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "it has format 2, and this one reads up to 1: start that version again") {
		t.Errorf("it said %v", err)
	}
	if _, err := OpenReader(dir); !errors.Is(err, ErrNewer) {
		t.Errorf("the reader said %v", err)
	}
	write(t, dir, "zwei")
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), `"zwei" is no version`) {
		t.Errorf("it said %v", err)
	}
	write(t, dir, "")
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Format() != CurrentFormat() {
		t.Errorf("a store from before the version was written down has %+v", r.Format())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// write gives a store a version; an empty one: none.
func write(t *testing.T, dir, version string) {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebbleFormat, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	if version == "" {
		err = db.Delete(formatKey, pebble.Sync)
	} else {
		err = db.Set(formatKey, []byte(version), pebble.Sync)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

func TestAReaderIsForAStoreThatNobodyHasOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := OpenReader(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no store: %v", err)
	}
	e, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := OpenReader(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
}
