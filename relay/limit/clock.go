package limit

import "time"

// clock is the time budgets are counted in: nanoseconds that never run backwards,
// and while the relay runs pass as fast as the machine's monotonic clock, whatever
// becomes of the time of day.
//
//	the time of day is set back       nothing is reset, time goes on
//	the time of day is set forward    nothing is earned by it
//	the machine sleeps                nothing is earned meanwhile
//	the relay is off                  as much is earned as the time of day says; none, if that says less than before
//
// A clock that is set forward while the relay is off cannot be told from a relay
// that was off for long.
type clock struct {
	anchor time.Time // a reading of the machine's clock
	base   int64     // what it was then
	high   int64     // the latest there was
}

// at reads the clock.
func (c *clock) at(now time.Time) int64 {
	if c.anchor.IsZero() {
		c.anchor, c.base = now, max(now.UnixNano(), c.high)
	}
	c.high = max(c.high, c.base+int64(now.Sub(c.anchor)))
	return c.high
}

// resume goes on from a clock that was stored as budget when the time of day was
// wall.
func (c *clock) resume(budget int64, wall, now time.Time) {
	off := max(0, now.Round(0).Sub(wall.Round(0)))
	c.anchor, c.base, c.high = now, budget+int64(off), budget
}

// said turns a time of this clock into one that a caller understands.
func (c *clock) said(at, reading int64, now time.Time) time.Time {
	return now.Add(time.Duration(at - reading))
}
