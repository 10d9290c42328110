package campaign

import (
	"math"
	"math/rand/v2"
	"time"

	"anechoic/watch/detect"
)

// message is what a flow writes: an event Sent or Refused, its truth, and what will
// become of it.
type message struct {
	event    detect.Event
	label    Label
	bounce   float64 // chance of each recipient to fail for good
	complain float64 // chance of a complaint
}

// flow is messages of one kind of one sender: so many are expected in each hour, at
// random times in it.
type flow struct {
	rng   *rand.Rand
	from  time.Time
	until time.Time
	mean  func(hour time.Time) float64                   // messages expected in the hour that begins
	write func(r *rand.Rand, at time.Time) message       // one of them
	noise func(r *rand.Rand, hour time.Time) (f float64) // factor of the day; nil: none

	hour   time.Time // being sent
	at     time.Time // of the next message
	left   int       // messages of the hour, with the next one
	factor float64
	day    time.Time // the factor is of
}

// advance finds the time of the next message; false: there is none any more.
func (f *flow) advance() bool {
	if f.hour.IsZero() {
		f.hour = f.from.Truncate(time.Hour)
		f.begin()
	} else {
		f.left--
	}
	for {
		for f.left == 0 {
			if f.hour = f.hour.Add(time.Hour); !f.hour.Before(f.until) {
				return false
			}
			f.begin()
		}
		f.step()
		if !f.at.Before(f.until) {
			return false
		}
		if !f.at.Before(f.from) {
			return true
		}
		f.left--
	}
}

// begin draws how many messages an hour has.
func (f *flow) begin() {
	if today := f.hour.Truncate(day); !today.Equal(f.day) {
		f.day, f.factor = today, 1
		if f.noise != nil {
			f.factor = f.noise(f.rng, f.hour)
		}
	}
	f.at, f.left = f.hour, poisson(f.rng, f.factor*f.mean(f.hour))
}

// step draws the next of the times that are left, as if all were drawn at once and
// sorted: the least of n even ones.
func (f *flow) step() {
	rest := f.hour.Add(time.Hour).Sub(f.at)
	share := 1 - math.Pow(1-f.rng.Float64(), 1/float64(f.left))
	f.at = f.at.Add(time.Duration(share * float64(rest))).Truncate(time.Millisecond)
}

// add takes up a flow.
func (w *World) add(f flow, name ...any) {
	f.rng = generator(w.Seed, name...)
	w.flows = append(w.flows, &f)
}
