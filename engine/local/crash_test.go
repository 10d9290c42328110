package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

var ctx = context.Background()

func mustOpen(t testing.TB, fs vfs.FS) *Engine {
	t.Helper()
	e, err := Open(Options{Dir: "data", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// unit is one batch of everything: two records, a body, two facts. It is there
// whole or not at all.
func unit(n int, size int64) *custody.Batch {
	name := fmt.Sprintf("%06d", n)
	f := ledger.Fact{Time: time.Unix(int64(n), 0), ID: mail.ID(name), Event: ledger.Accepted, Org: "acme"}
	return &custody.Batch{
		Put:     []custody.Record{{Key: "message/" + name, Value: []byte(name)}, {Key: "recipient/" + name, Value: []byte(name)}},
		PutBody: []custody.BodyRecord{{Name: name, Size: size, Content: pattern(n, size)}},
		Facts:   []ledger.Fact{f, f},
	}
}

// pattern is size octets that only unit n has.
func pattern(n int, size int64) io.Reader {
	return bytes.NewReader(bytes.Repeat([]byte(fmt.Sprintf("%08d", n)), int(size+7)/8)[:size])
}

// there says whether unit n is in the engine, and fails if it is there in part.
func there(t testing.TB, e *Engine, n int, size int64) bool {
	t.Helper()
	name := fmt.Sprintf("%06d", n)
	_, err1 := e.Get(ctx, "message/"+name)
	_, err2 := e.Get(ctx, "recipient/"+name)
	body, err3 := e.OpenBody(ctx, name)
	for _, err := range []error{err1, err2, err3} {
		if errors.Is(err, custody.ErrNotFound) != errors.Is(err1, custody.ErrNotFound) || err != nil && !errors.Is(err, custody.ErrNotFound) {
			t.Errorf("unit %d is there in part: %v, %v, %v", n, err1, err2, err3)
			return false
		}
	}
	if err1 != nil {
		return false
	}
	got, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	want, _ := io.ReadAll(pattern(n, size))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("unit %d has a body of %d octets, want %d: %v", n, len(got), size, err)
	}
	return true
}

// factsOf counts the facts of each unit, and verifies the ledger.
func factsOf(t testing.TB, e *Engine) map[mail.ID]int {
	t.Helper()
	count := map[mail.ID]int{}
	if err := ledger.Read(ctx, e, 0, func(f ledger.Fact) bool { count[f.ID]++; return true }); err != nil {
		t.Error(err)
	}
	r, err := ledger.Verify(ctx, e)
	if err != nil || !r.OK() || r.Unsealed > 0 {
		t.Errorf("after a crash: %+v, %v", r, err)
	}
	return count
}

// sizes of bodies: small, in one chunk, in several.
var sizes = []int64{100, 20 << 10, custody.ChunkThreshold + 1, 2 * custody.ChunkThreshold}

// A crash is the disk as it was at one moment: what was synced, and any part of
// what was not. It may come at any point of any commit.
func TestACrashAtAnyPointLosesNothingAcknowledged(t *testing.T) {
	for seed := range int64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashAtRandomPoints(t, seed) })
	}
}

func crashAtRandomPoints(t *testing.T, seed int64) {
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	disk := vfs.NewCrashableMem()
	e := mustOpen(t, disk)
	const writers, each = 6, 12
	var acknowledged [writers * each]atomic.Bool
	var deleted [writers * each]atomic.Int32 // 1: asked for, 2: acknowledged
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				n := w*each + i
				if err := e.Commit(ctx, unit(n, sizes[n%len(sizes)])); err != nil {
					t.Error(err)
				}
				acknowledged[n].Store(true)
				if i%3 == 2 {
					deleted[n-1].Store(1)
					remove(t, e, n-1)
					deleted[n-1].Store(2)
				}
			}
		})
	}
	type crash struct {
		disk         *vfs.MemFS
		acknowledged map[int]bool
		kept         map[int]bool // and nobody had asked to delete it yet
		removed      map[int]bool // the deletion was acknowledged
	}
	var crashes []crash
	for range 6 {
		c := crash{acknowledged: map[int]bool{}, kept: map[int]bool{}, removed: map[int]bool{}}
		for n := range acknowledged {
			c.removed[n] = deleted[n].Load() == 2
			c.acknowledged[n] = acknowledged[n].Load()
		}
		c.disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		for n := range acknowledged { // after the clone: a deletion asked for before it may be in it
			c.kept[n] = c.acknowledged[n] && deleted[n].Load() == 0
		}
		crashes = append(crashes, c)
		yieldSome(rng)
	}
	wg.Wait()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range crashes {
		after := mustOpen(t, c.disk)
		facts := factsOf(t, after)
		for n := range acknowledged {
			name := mail.ID(fmt.Sprintf("%06d", n))
			is := there(t, after, n, sizes[n%len(sizes)])
			if c.kept[n] && !is {
				t.Errorf("unit %d was acknowledged and is lost", n)
			}
			if c.removed[n] && is {
				t.Errorf("unit %d was deleted, acknowledged, and is back", n)
			}
			if c.acknowledged[n] && facts[name] < 2 || facts[name]%2 != 0 || is && facts[name] != 2 {
				t.Errorf("unit %d is there: %t, acknowledged: %t, and has %d facts", n, is, c.acknowledged[n], facts[name])
			}
		}
		noOrphans(t, after)
		if err := after.Close(); err != nil {
			t.Error(err)
		}
	}
}

func remove(t testing.TB, e *Engine, n int) {
	t.Helper()
	name := fmt.Sprintf("%06d", n)
	if err := e.Commit(ctx, &custody.Batch{Delete: []string{"message/" + name, "recipient/" + name}, DeleteBody: []string{name}}); err != nil {
		t.Error(err)
	}
}

// yieldSome lets the others run for a while that the seed decides.
func yieldSome(rng *rand.Rand) {
	for range rng.IntN(1 << 17) {
		rng.Uint64()
	}
}

// noOrphans says that each chunk belongs to a body.
func noOrphans(t testing.TB, e *Engine) {
	t.Helper()
	space := []byte{chunkSpace}
	err := e.iterate(space, after(space), func(key, _ []byte) (bool, error) {
		name, tag, ok := parseChunkKey(key)
		if m, real := e.large[name]; !ok || !real || m.tag != tag {
			t.Errorf("chunk %q belongs to no body", key)
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestChunksWithoutTheirBatchAreSweptAtOpen(t *testing.T) {
	disk := vfs.NewMem()
	e := mustOpen(t, disk)
	m := manifest{size: 3 * custody.ChunkThreshold, tag: 0xffffffffffffffff}
	if err := e.writeChunks(ctx, custody.BodyRecord{Name: "orphan", Size: m.size, Content: pattern(1, m.size)}, m); err != nil {
		t.Fatal(err)
	}
	if err := e.Commit(ctx, unit(1, sizes[3])); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = mustOpen(t, disk)
	noOrphans(t, e)
	if !there(t, e, 1, sizes[3]) {
		t.Error("the sweep took a body that is real")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// failing is a disk that fails one kind of operation on files of one kind, when
// told to.
func failing(kind errorfs.OpKind, suffix string, cause error) (vfs.FS, *atomic.Bool) {
	on := new(atomic.Bool)
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() && op.Kind == kind && strings.Contains(op.Path, suffix) {
			return &os.PathError{Op: "injected", Path: op.Path, Err: cause}
		}
		return nil
	})), on
}

func TestAFailedWriteIsFinal(t *testing.T) {
	for name, c := range map[string]struct {
		kind  errorfs.OpKind
		cause error
		full  bool
	}{
		"fsync fails":                    {errorfs.OpFileSyncData, syscall.EIO, false},
		"write fails":                    {errorfs.OpFileWrite, syscall.EIO, false},
		"the disk is full while writing": {errorfs.OpFileWrite, syscall.ENOSPC, true},
	} {
		t.Run(name, func(t *testing.T) {
			disk, fail := failing(c.kind, ".log", c.cause)
			e := mustOpen(t, disk)
			if err := e.Commit(ctx, unit(1, 100)); err != nil {
				t.Fatal(err)
			}
			fail.Store(true)
			err := e.Commit(ctx, unit(2, 100))
			if !errors.Is(err, custody.ErrBroken) || errors.Is(err, custody.ErrFull) != c.full || !errors.Is(err, c.cause) {
				t.Fatalf("the failure reads %v", err)
			}
			fail.Store(false) // the disk is well again, and that changes nothing
			for _, b := range []*custody.Batch{unit(3, 100), unit(4, 1<<20), {Delete: []string{"message/000001"}}, {Facts: []ledger.Fact{{}}, Lazy: true}} {
				if err := e.Commit(ctx, b); !errors.Is(err, custody.ErrBroken) {
					t.Errorf("after a failed write: %v", err)
				}
			}
			if !there(t, e, 1, 100) {
				t.Error("what was acknowledged cannot be read")
			}
			if err := e.Ready(); !errors.Is(err, custody.ErrBroken) {
				t.Errorf("Ready: %v", err)
			}
			select {
			case <-e.Broken():
			default:
				t.Error("nobody is told to end the process")
			}
			_ = e.Close()
		})
	}
}

func TestFactsThatWereNotAcknowledgedAreNotRead(t *testing.T) {
	disk, fail := failing(errorfs.OpFileSyncData, ".log", syscall.EIO)
	e := mustOpen(t, disk)
	if err := e.Commit(ctx, unit(1, 100)); err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	if err := e.Commit(ctx, unit(2, 100)); err == nil {
		t.Fatal("committed without a sync")
	}
	if err := ledger.Read(ctx, e, 0, func(f ledger.Fact) bool {
		if f.ID != "000001" {
			t.Errorf("fact %d of %s is shown and may be gone tomorrow", f.Offset, f.ID)
		}
		return true
	}); err != nil {
		t.Error(err)
	}
	fail.Store(false)
	_ = e.Close()
}

// Pebble panics holding locks when a full log cannot be closed or the next not
// be made, and calls its logger's Fatalf when its MANIFEST cannot be written.
func TestAFaultBetweenTwoLogsStopsWritingAndNotReading(t *testing.T) {
	for name, c := range map[string]struct {
		kind   errorfs.OpKind
		suffix string
		cause  error
	}{
		"the full log cannot be synced":           {errorfs.OpFileSyncData, ".log", syscall.EIO},
		"the next log cannot be made":             {errorfs.OpCreate, ".log", syscall.ENOSPC},
		"the directory cannot be synced":          {errorfs.OpFileSync, "data", syscall.EIO},
		"the MANIFEST cannot be written to":       {errorfs.OpFileWrite, "MANIFEST", syscall.EIO},
		"the MANIFEST is written and not synced":  {errorfs.OpFileSync, "MANIFEST", syscall.EIO},
		"no file can be made, tables included":    {errorfs.OpCreate, "", syscall.ENOSPC},
		"nothing at all can be written or synced": {errorfs.OpFileWrite, "", syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			disk, fail := failing(c.kind, c.suffix, c.cause)
			e := mustOpen(t, disk)
			if err := e.Commit(ctx, unit(1, 100)); err != nil {
				t.Fatal(err)
			}
			fail.Store(true)
			var err error
			for n := 0; err == nil && n < 20*memTableSize>>20; n++ {
				err = e.Commit(ctx, &custody.Batch{Put: []custody.Record{{Key: "k", Value: make([]byte, 1<<20)}}})
			}
			if !errors.Is(err, custody.ErrBroken) || !errors.Is(err, c.cause) {
				t.Errorf("the failure reads %v", err)
			}
			fail.Store(false)
			if err := e.Commit(ctx, unit(2, 1<<20)); !errors.Is(err, custody.ErrBroken) {
				t.Errorf("afterwards: %v", err)
			}
			if !there(t, e, 1, 100) {
				t.Error("what was acknowledged cannot be read")
			}
			if err := e.Close(); !errors.Is(err, custody.ErrBroken) {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

func TestAFailureWhileOpeningOrClosingIsToldAndDoesNotHang(t *testing.T) {
	for name, kind := range map[string]errorfs.OpKind{"sync": errorfs.OpFileSync, "log sync": errorfs.OpFileSyncData, "write": errorfs.OpFileWrite, "create": errorfs.OpCreate} {
		t.Run(name, func(t *testing.T) {
			disk, fail := failing(kind, "", syscall.EIO)
			fail.Store(true)
			if e, err := Open(Options{Dir: "data", FS: disk}); !errors.Is(err, syscall.EIO) {
				t.Fatalf("opened: %v, %v", e, err)
			}
			fail.Store(false)
			e := mustOpen(t, disk)
			if err := e.Commit(ctx, unit(1, 100)); err != nil {
				t.Fatal(err)
			}
			fail.Store(true)
			if err := e.Close(); !errors.Is(err, syscall.EIO) && kind != errorfs.OpCreate && kind != errorfs.OpFileSync {
				t.Errorf("closed: %v", err)
			}
		})
	}
}

// spaceFS says how much room there is.
type spaceFS struct {
	vfs.FS
	free *atomic.Uint64
}

func (s spaceFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: s.free.Load(), TotalBytes: 1 << 40}, nil
}

func TestBelowTheReserveNothingNewIsTakenAndTheOldGoesOn(t *testing.T) {
	free := new(atomic.Uint64)
	free.Store(1 << 30)
	e := mustOpen(t, spaceFS{vfs.NewMem(), free})
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := e.Commit(ctx, unit(1, 100)); err != nil {
		t.Fatal(err)
	}
	free.Store(1 << 20)
	e.looked.Store(0) // as if lookEvery had passed
	err := e.Commit(ctx, unit(2, 100))
	if !errors.Is(err, custody.ErrFull) || errors.Is(err, custody.ErrBroken) || !strings.Contains(err.Error(), "make room") {
		t.Errorf("%v", err)
	}
	if err := e.Ready(); !errors.Is(err, custody.ErrFull) {
		t.Errorf("Ready: %v", err)
	}
	remove(t, e, 1)
	free.Store(defaultReserve + 1)
	if err := e.Commit(ctx, unit(3, 100)); !errors.Is(err, custody.ErrFull) {
		t.Errorf("an octet above the reserve, senders come and go: %v", err)
	}
	free.Store(defaultReserve + defaultReserve/reserveMargin)
	if err := errors.Join(e.Ready(), e.Commit(ctx, unit(3, 100))); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestTwoProcessesCannotOpenOneDirectory(t *testing.T) {
	dir := t.TempDir() + "/data"
	e, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the second opener is told %v", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e, err = Open(Options{Dir: dir})
	if err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADirectoryOthersCanReadIsMadePrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes a stored record behind the engine's back.
func rewrite(t *testing.T, e *Engine, key string, change func([]byte) []byte) {
	t.Helper()
	value, err := e.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.db.Set(spaceKey(recordSpace, key), change(value), pebble.Sync); err != nil {
		t.Fatal(err)
	}
}

func TestAFlippedOctetInTheStoreIsFound(t *testing.T) {
	disk := vfs.NewMem()
	e := mustOpen(t, disk)
	for n := range 20 {
		if err := e.Commit(ctx, unit(n, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = mustOpen(t, disk)
	if r, err := ledger.Verify(ctx, e); err != nil || !r.OK() || r.Facts != 40 || r.Unsealed != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 4; return b }
	for _, key := range []string{ledger.FactKey(17), ledger.FactKey(0), ledger.SegmentKey(1)} {
		rewrite(t, e, key, flip)
		if r, err := ledger.Verify(ctx, e); err != nil || r.OK() {
			t.Errorf("%s was changed: %+v, %v", key, r, err)
		}
		rewrite(t, e, key, flip)
	}
	if r, err := ledger.Verify(ctx, e); err != nil || !r.OK() {
		t.Errorf("changed back: %+v, %v", r, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamageInTheUnsealedEndDoesNotStopMailAndIsReported(t *testing.T) {
	disk := vfs.NewCrashableMem()
	e := mustOpen(t, disk)
	for n := range 3 {
		if err := e.Commit(ctx, unit(n, 100)); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(t, e, ledger.FactKey(3), func([]byte) []byte { return []byte("torn") })
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = mustOpen(t, crashed)
	if err := e.Commit(ctx, unit(9, 100)); err != nil {
		t.Fatal(err)
	}
	if r, err := ledger.Verify(ctx, e); err != nil || !strings.Contains(r.Bad, "fact 3") {
		t.Errorf("%+v, %v", r, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheLedgerIsSealedAndSyncedASecondAfterTheFirstFact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := mustOpen(t, vfs.NewMem())
		if err := e.Commit(ctx, &custody.Batch{Facts: unit(1, 0).Facts, Lazy: true}); err != nil {
			t.Fatal(err)
		}
		if r, err := ledger.Verify(ctx, e); err != nil || r.Facts != 0 {
			t.Errorf("lazy facts are shown before they are durable: %+v, %v", r, err)
		}
		time.Sleep(ledger.SealAfter)
		synctest.Wait()
		if r, err := ledger.Verify(ctx, e); err != nil || !r.OK() || r.Facts != 2 || r.Unsealed != 0 {
			t.Errorf("%+v, %v", r, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhatIsInFlightIsBounded(t *testing.T) {
	e := mustOpen(t, vfs.NewMem())
	if err := e.admitted.Acquire(ctx, maxInFlight); err != nil { // as batches that wait for a slow disk do
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(ctx)
	failed := make(chan error)
	go func() { failed <- e.Commit(short, unit(1, 100)) }()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	e.admitted.Release(maxInFlight)
	if there(t, e, 1, 100) {
		t.Error("a batch that was not admitted is there")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
