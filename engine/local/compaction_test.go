package local

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"anechoic/relay/custody"
)

// untidy is a store with one layer of flushed tables more than it takes to put them in
// order, the last of them still in the log, and nobody who did so.
func untidy(t *testing.T) Options {
	t.Helper()
	options := Options{Dir: t.TempDir(), Reserve: 1, quiet: time.Hour}
	for range 6 {
		e, err := Open(options)
		if err != nil {
			t.Fatal(err)
		}
		b := custody.Batch{}
		for i := range 50 { // the same keys: each layer lies over the one before
			b.Put = append(b.Put, custody.Record{Key: fmt.Sprintf("message/%02d", i), Value: []byte(strings.Repeat("x", 100))})
		}
		if err := e.Commit(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return options
}

// TestAStoreOpensBeforeItsTablesAreInOrder: what a full queue leaves to be put in order
// delays no start, and is done afterwards.
func TestAStoreOpensBeforeItsTablesAreInOrder(t *testing.T) {
	options := untidy(t)
	e, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	m := e.db.Metrics()
	if m.Compact.Count != 0 || m.Compact.NumInProgress != 0 || m.Levels[0].Sublevels < 5 {
		t.Errorf("%d compactions were done and %d run when the store is open, with %d layers", m.Compact.Count, m.Compact.NumInProgress, m.Levels[0].Sublevels)
	}
	defer e.Close()
	e.Tidy()
	e.Tidy() // again: nothing
	for end := time.Now().Add(time.Minute); e.db.Metrics().Levels[0].Sublevels > 4; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing was put in order in a minute")
		}
	}
	if v, err := e.Get(context.Background(), "message/49"); err != nil || len(v) != 100 {
		t.Errorf("afterwards a record has %d octets: %v", len(v), err)
	}
}

// TestAStoreThatSoonTakesNoMoreIsPutInOrderAtOnce is for many starts, each ended by a
// crash within seconds, and for much mail right after one.
func TestAStoreThatSoonTakesNoMoreIsPutInOrderAtOnce(t *testing.T) {
	var m pebble.Metrics
	for layers, want := range map[int32]bool{0: false, l0Stop/2 - 1: false, l0Stop / 2: true, l0Stop: true} {
		if m.Levels[0].Sublevels = layers; urgent(&m) != want {
			t.Errorf("with %d layers: %v", layers, !want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c, w := newCompactions(), &waiting{allowed: 1, left: 1}
		defer c.Unregister()
		c.Register(2, w)
		var hurry atomic.Bool
		c.open(slog.New(slog.DiscardHandler), time.Hour, hurry.Load)
		for _, want := range []bool{false, true} {
			hurry.Store(want)
			c.UpdateGetAllowedWithoutPermission() // as after a flush
			synctest.Wait()
			w.mu.Lock()
			if got := len(w.running) == 1; got != want {
				t.Errorf("urgent %v: it runs %v", want, got)
			}
			w.mu.Unlock()
		}
	})
}

// TestCompactionsOfAStoreThatWasNeverOpenEnd: a store that fails to open is closed at once.
func TestCompactionsOfAStoreThatWasNeverOpenEnd(t *testing.T) {
	c := newCompactions()
	c.Register(2, &waiting{allowed: 1, left: 1})
	if ok, _ := c.TrySchedule(); ok {
		t.Error("one may run before the store is open")
	}
	c.Unregister()
}

// waiting is a store in which compactions wait.
type waiting struct {
	mu            sync.Mutex
	allowed, left int
	running       []pebble.CompactionGrantHandle
}

func (w *waiting) GetAllowedWithoutPermission() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.allowed
}

func (w *waiting) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.left > 0, pebble.WaitingCompaction{}
}

func (w *waiting) Schedule(h pebble.CompactionGrantHandle) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left--
	w.running = append(w.running, h)
	return true
}

// change says how many may run and how many wait.
func (w *waiting) change(allowed, left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.allowed, w.left = allowed, left
}

// end ends the compaction that runs longest.
func (w *waiting) end() {
	w.mu.Lock()
	h := w.running[0]
	w.running = w.running[1:]
	w.mu.Unlock()
	h.Done()
}

// TestCompactionsRunAfterTheQuietTimeAsManyAsMay: none before, then as many as the store
// allows, the next when one ended, and none after the store closed.
func TestCompactionsRunAfterTheQuietTimeAsManyAsMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newCompactions(), &waiting{allowed: 2, left: 5}
		c.Register(2, w)
		c.open(slog.New(slog.DiscardHandler), time.Second, func() bool { return false })
		expect := func(when string, running, left int) {
			t.Helper()
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.running) != running || w.left != left {
				t.Errorf("%s: %d run and %d wait, want %d and %d", when, len(w.running), w.left, running, left)
			}
		}
		c.UpdateGetAllowedWithoutPermission()
		if ok, _ := c.TrySchedule(); ok {
			t.Error("one may run in the quiet time")
		}
		time.Sleep(time.Second - time.Millisecond)
		expect("in the quiet time", 0, 5)
		time.Sleep(time.Millisecond)
		expect("after it", 2, 3)
		if ok, _ := c.TrySchedule(); ok {
			t.Error("one more may run than the store allows")
		}
		w.end()
		expect("when one ended", 2, 2)
		w.change(3, 2)
		time.Sleep(compactionsAsked)
		expect("when more may", 3, 1)
		w.change(1, 0)
		for range 3 {
			w.end()
		}
		expect("when all ended", 0, 0)
		ok, h := c.TrySchedule()
		if !ok {
			t.Fatal("none may run, and none does")
		}
		h.Done()
		c.Unregister()
		if ok, _ := c.TrySchedule(); ok {
			t.Error("one may run in a closed store")
		}
	})
}
