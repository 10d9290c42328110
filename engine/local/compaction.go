package local

import (
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"anechoic/mail/background"
)

// compactions decides when the store may put its tables in order: never while it is
// being opened, nor in the seconds after, and later as many at a time as the store
// itself finds right.
//
// The store flushes at its opening what the log holds, and that flush may make a
// compaction due; the store would begin it and wait for its end before it lets itself
// be opened, which takes seconds with a full queue. Nothing depends on when tables are put in
// order but the speed of reading and, far later, room to write: so mail is accepted first.
//
// It implements pebble.CompactionScheduler: the store tells it what happened, and what
// waits it offers from one goroutine of its own, without its lock.
type compactions struct {
	db pebble.DBForCompaction // set before any other call

	mu      sync.Mutex
	opened  bool // it runs
	begun   bool // any may run
	ended   bool
	running int

	wake chan struct{} // something may run that could not
	soon chan struct{} // closed when nobody needs the quiet time any more
	quit chan struct{}
	done chan struct{} // closed when nothing is called any more
}

// How long after the opening tables are left as they are at most, and how often the store is
// asked, whatever it tells, whether more may be put in order.
const (
	compactionsQuiet = 30 * time.Second
	compactionsAsked = 100 * time.Millisecond
)

// urgent says that the store is not left as it is any longer: many starts, or much mail in
// the seconds since this one, have left it so much to do that soon it would take no more
// writes.
func urgent(m *pebble.Metrics) bool { return m.Levels[0].Sublevels >= l0Stop/2 }

func newCompactions() *compactions {
	return &compactions{wake: make(chan struct{}, 1), soon: make(chan struct{}), quit: make(chan struct{}), done: make(chan struct{})}
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) { c.db = db }

// open says that the store is open. It is called once at most, after Register. urgent is
// asked at once and after each flush, until the quiet time is over.
func (c *compactions) open(log *slog.Logger, quiet time.Duration, urgent func() bool) {
	c.mu.Lock()
	c.opened = true
	c.mu.Unlock()
	background.Vital(nil, log, "engine: compactions", func() { c.run(quiet, urgent) })
}

// begin ends the quiet time.
func (c *compactions) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.soon:
	default:
		close(c.soon)
	}
}

// Unregister implements pebble.CompactionScheduler: the store closes, which may be before
// it was open. Nothing of it is called when this returns.
func (c *compactions) Unregister() {
	c.mu.Lock()
	c.ended = true
	opened := c.opened
	c.mu.Unlock()
	close(c.quit)
	if opened {
		<-c.done
	}
}

// TrySchedule implements pebble.CompactionScheduler. What it refuses is offered to the
// store again when something ended, and every compactionsAsked.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !c.reserve() {
		return false, nil
	}
	return true, grant{c}
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (c *compactions) UpdateGetAllowedWithoutPermission() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run offers what may run, from the end of the quiet time until the store closes.
func (c *compactions) run(quiet time.Duration, urgent func() bool) {
	defer close(c.done)
	for over := time.After(quiet); over != nil && !urgent(); {
		select {
		case <-over:
			over = nil
		case <-c.soon:
			over = nil
		case <-c.wake:
		case <-c.quit:
			return
		}
	}
	c.mu.Lock()
	c.begun = true
	c.mu.Unlock()
	tick := time.NewTicker(compactionsAsked)
	defer tick.Stop()
	for {
		for c.offer() {
		}
		select {
		case <-tick.C:
		case <-c.wake:
		case <-c.quit:
			return
		}
	}
}

// offer lets one more run, if one may and one waits.
func (c *compactions) offer() bool {
	if !c.reserve() {
		return false
	}
	waiting, _ := c.db.GetWaitingCompaction()
	if waiting && c.db.Schedule(grant{c}) {
		return true
	}
	c.release()
	return false
}

// reserve counts one more as running, if it may.
func (c *compactions) reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun || c.ended || c.running >= c.db.GetAllowedWithoutPermission() {
		return false
	}
	c.running++
	return true
}

func (c *compactions) release() {
	c.mu.Lock()
	c.running--
	c.mu.Unlock()
}

// grant is the leave for one compaction.
type grant struct{ *compactions }

// Done implements pebble.CompactionGrantHandle.
func (g grant) Done() {
	g.release()
	g.UpdateGetAllowedWithoutPermission()
}

// Started implements pebble.CompactionGrantHandle.
func (grant) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (grant) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (grant) CumulativeStats(pebble.CompactionGrantHandleStats) {}
