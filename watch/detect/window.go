package detect

// counts are what is counted of the messages of a stretch of time.
type counts struct {
	Messages, Left      uint32 // all that were taken; those that were not kept back
	Rcpts, Free, First  uint32 // recipients; at free-mail providers; never written to before
	Strangers           uint32 // recipients that are both
	Names               uint32 // local parts in From never seen before
	Mismatch            uint32 // MAIL FROM in another organisational domain than From
	IDHost              uint32 // Message-ID from a host never seen
	Drift               uint32 // from an address, or of an origin class, never seen
	Odd                 uint32 // strange in several ways at once
	WrongFrom           uint32 // refused: a From that is not the source's
	Bounced, Complained uint32 // recipients
	Strong              uint32 // odd in nearly every way
	Kilobytes           uint32 // of all messages
}

func (c *counts) add(o *counts) {
	c.Messages += o.Messages
	c.Left += o.Left
	c.Rcpts += o.Rcpts
	c.Free += o.Free
	c.First += o.First
	c.Strangers += o.Strangers
	c.Names += o.Names
	c.Mismatch += o.Mismatch
	c.IDHost += o.IDHost
	c.Drift += o.Drift
	c.Odd += o.Odd
	c.WrongFrom += o.WrongFrom
	c.Bounced += o.Bounced
	c.Complained += o.Complained
	c.Strong += o.Strong
	c.Kilobytes += o.Kilobytes
}

// The windows: how many steps of how many seconds.
const (
	hourSteps, hourStep = 6, 600
	daySteps, dayStep   = 8, 3 * 3600
)

// hourWindow is the last hour in steps of ten minutes, dayWindow the last day in
// steps of three hours.
type (
	hourWindow struct {
		step  int64 // number of the latest, since 1970
		slots [hourSteps]counts
	}
	dayWindow struct {
		step  int64
		slots [daySteps]counts
	}
)

// at is the counts of the step now, older steps forgotten. A clock that was set back
// starts the window again.
func (w *hourWindow) at(now int64) *counts {
	advance(w.slots[:], &w.step, now/hourStep)
	return &w.slots[w.step%hourSteps]
}

func (w *dayWindow) at(now int64) *counts {
	advance(w.slots[:], &w.step, now/dayStep)
	return &w.slots[w.step%daySteps]
}

func (w *hourWindow) sum(now int64) counts { return sumSince(w.slots[:], w.step, now/hourStep) }
func (w *dayWindow) sum(now int64) counts  { return sumSince(w.slots[:], w.step, now/dayStep) }

// advance makes to the latest step, and empties what comes round again.
func advance[T any](slots []T, step *int64, to int64) {
	n := int64(len(slots))
	if to < *step || to-*step >= n {
		clear(slots)
		*step = to
	}
	for *step < to {
		*step++
		clear(slots[*step%n : *step%n+1])
	}
}

// sumSince adds up the slots that are not older than the window at step now.
func sumSince(slots []counts, latest, now int64) (sum counts) {
	n := int64(len(slots))
	for step := max(latest-n+1, now-n+1, 0); step <= latest; step++ {
		sum.add(&slots[step%n])
	}
	return sum
}
