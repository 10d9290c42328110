package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// state is what the test was told of one message.
type state int

const (
	perhapsKept state = iota // Keep did not return nil: there whole, or not at all
	kept
	perhapsDone // Settle did not return nil
	done
)

// told collects what was acknowledged.
type told struct {
	mu       sync.Mutex // guards messages
	messages map[mail.ID]state
}

func (t *told) set(id mail.ID, s state) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.messages[id] = s
}

func (t *told) copy() map[mail.ID]state {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.messages)
}

func openQueue(t testing.TB, e *local.Engine) *custody.Queue {
	t.Helper()
	q, err := custody.OpenQueue(context.Background(), e, custody.Options{SealKey: make([]byte, 32), RetryAfter: []time.Duration{time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Read(context.Background()); err != nil {
		t.Fatal(err)
	}
	return q
}

// bodies of messages: small, large enough for a group of their own, in chunks.
var bodies = []int{1 << 10, 20 << 10, 100 << 10, custody.ChunkThreshold + 1000, 1 << 20}

// workOn keeps, leases and settles until something fails or n rounds are over.
func workOn(q *custody.Queue, rng *rand.Rand, t *told, n int) error {
	ctx := context.Background()
	for range n {
		s, err := submission(bodies[rng.IntN(len(bodies))])
		if err != nil {
			return err
		}
		t.set(s.ID, perhapsKept)
		if _, err := q.Keep(ctx, s, time.Now()); err != nil {
			return err
		}
		t.set(s.ID, kept)
		if rng.IntN(3) == 0 {
			continue
		}
		leases, err := q.Lease(ctx, time.Now().Add(time.Minute), 1, nil)
		if err != nil {
			return err
		}
		for _, l := range leases {
			if err := settle(q, rng, t, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle ends a lease, by delivery or for now.
func settle(q *custody.Queue, rng *rand.Rand, t *told, l *custody.Lease) error {
	outcomes := delivered(l)
	if rng.IntN(4) == 0 {
		for i := range outcomes {
			outcomes[i].Result, outcomes[i].Reply = custody.Deferred, "451 4.2.1 later"
		}
		return q.Settle(context.Background(), l, outcomes, nil, time.Now())
	}
	t.set(l.ID, perhapsDone)
	err := q.Settle(context.Background(), l, outcomes, nil, time.Now())
	if err == nil {
		t.set(l.ID, done)
	}
	return err
}

// Whatever one operation of the disk does wrong: what was acknowledged before is
// there after a restart, and after the first failed write of the log nothing is
// acknowledged any more.
func TestAFailingDiskLosesNothingAcknowledged(t *testing.T) {
	for _, h := range harms {
		t.Run(h.name, func(t *testing.T) {
			for range 3 {
				seed := rand.Uint64()
				t.Run(fmt.Sprint(seed), func(t *testing.T) { failOnce(t, h, seed) })
			}
		})
	}
}

const diskWorkers = 3

func failOnce(t *testing.T, h harm, seed uint64) {
	rng := seeded(seed)
	memory := vfs.NewCrashableMem()
	disk := &faulty{FS: memory, left: -1}
	engine, err := local.Open(local.Options{Dir: "data", FS: disk, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	q := openQueue(t, engine)
	t.Cleanup(q.Close)
	disk.arm(h, 1+rng.IntN(250))
	acknowledged := &told{messages: map[mail.ID]state{}}
	var workers sync.WaitGroup
	for range diskWorkers {
		rng := seeded(rng.Uint64())
		workers.Go(func() {
			err := workOn(q, rng, acknowledged, 40)
			if err != nil && !errors.Is(err, custody.ErrBroken) {
				t.Errorf("after %s: %v", disk.struck(), err)
			}
			if err != nil && workOn(q, rng, acknowledged, 1) == nil {
				t.Error("a broken engine acknowledged something")
			}
		})
	}
	workers.Wait()
	told := acknowledged.copy()
	image := memory.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	_ = engine.Close()
	verifyAfter(t, image, told)
	if t.Failed() {
		t.Logf("seed %d: %s hit %q", seed, h, disk.struck())
	}
}

// verifyAfter opens what is left on a well disk and holds it against what was told.
func verifyAfter(t *testing.T, image vfs.FS, told map[mail.ID]state) {
	t.Helper()
	ctx := context.Background()
	engine, err := local.Open(local.Options{Dir: "data", FS: image, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	q := openQueue(t, engine)
	there := drain(t, q)
	for id, s := range told {
		switch {
		case s == kept && !there[id]:
			t.Errorf("%s was acknowledged and is lost", id)
		case s == done && there[id]:
			t.Errorf("%s was delivered, that was durable, and it is to be sent again", id)
		}
	}
	if r, err := ledger.Verify(ctx, engine); err != nil || !r.OK() {
		t.Errorf("the ledger: %+v, %v", r, err)
	}
	q.Close()
	if err := engine.Close(); err != nil {
		t.Error(err)
	}
}

// drain leases everything there is, reads it through and settles it.
func drain(t *testing.T, q *custody.Queue) map[mail.ID]bool {
	t.Helper()
	ctx, there := context.Background(), map[mail.ID]bool{}
	for {
		leases, err := q.Lease(ctx, time.Now().Add(24*time.Hour), 50, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(leases) == 0 {
			return there
		}
		for _, l := range leases {
			there[l.ID] = true
			content, _, err := q.Load(ctx, l)
			if err != nil {
				t.Errorf("%s is there and does not load: %v", l.ID, err)
				continue
			}
			if n, err := io.Copy(io.Discard, content.Body()); err != nil || n == 0 {
				t.Errorf("%s: %d octets of body, %v", l.ID, n, err)
			}
			if err := q.Settle(ctx, l, delivered(l), nil, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const (
	smallRoom    = 192 << 20
	smallReserve = 64 << 20
)

// A disk that fills up with mail: new mail is refused in time, what is there is
// delivered, and then there is room again, by itself. And again.
func TestAFullDiskDeliversAndThenTakesMailAgain(t *testing.T) {
	disk := &small{FS: vfs.NewMem(), room: smallRoom, sizes: map[string]int64{}}
	engine, err := local.Open(local.Options{Dir: "data", FS: disk, Reserve: smallReserve})
	if err != nil {
		t.Fatal(err)
	}
	q := openQueue(t, engine)
	for range 4 {
		taken := fill(t, q)
		if n := len(drain(t, q)); n != taken {
			t.Fatalf("%d of %d messages were delivered from a full disk", n, taken)
		}
		awaitRoom(t, engine)
	}
	q.Close()
	if err := engine.Close(); err != nil {
		t.Error(err)
	}
}

// fill keeps messages until there is no room, and gives how many.
func fill(t *testing.T, q *custody.Queue) (taken int) {
	t.Helper()
	for {
		s, err := submission(200 << 10)
		if err != nil {
			t.Fatal(err)
		}
		switch _, err = q.Keep(t.Context(), s, time.Now()); {
		case err == nil:
			taken++
		case !errors.Is(err, custody.ErrFull) || errors.Is(err, custody.ErrBroken) || taken == 0:
			t.Fatalf("after %d messages: %v", taken, err)
		default:
			return taken
		}
	}
}

// patience is for what is to happen by itself.
const patience = time.Minute

func awaitRoom(t *testing.T, engine *local.Engine) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); engine.Ready() != nil; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("the queue is empty and there is no room: %v", engine.Ready())
		}
	}
}
