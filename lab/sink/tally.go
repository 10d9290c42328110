package sink

import (
	"slices"
	"time"
)

// Tally is what a Sink saw so far.
type Tally struct {
	Domain      string
	Accepted    int // messages that got their 250
	Duplicates  int // of those: a message of that name was taken before
	Attempts    int // transactions begun (MAIL)
	Refused     int // answers other than yes to MAIL, RCPT or the content
	Connections int // opened, those that were turned away left out
	TurnedAway  int // refused at their greeting
	Open        int // open now
	Peak        int // most that were open at a time
	Deliveries  []Delivery
}

// Delivery is the first time that a message was taken.
type Delivery struct {
	At   time.Time
	Took time.Duration // since its sender's stamp; 0 if it has none
}

// Unique counts different messages that were taken.
func (t Tally) Unique() int { return len(t.Deliveries) }

// Until counts different messages that were taken before a time.
func (t Tally) Until(end time.Time) (count int) {
	for _, d := range t.Deliveries {
		if d.At.Before(end) {
			count++
		}
	}
	return count
}

// Last is when the last different message was taken; zero: none was.
func (t Tally) Last() (last time.Time) {
	for _, d := range t.Deliveries {
		if d.At.After(last) {
			last = d.At
		}
	}
	return last
}

// Took gives the time within which a share of the messages was taken, counted
// from their stamps: 0.99 is the 99th percentile (nearest rank).
func (t Tally) Took(share float64) time.Duration {
	if len(t.Deliveries) == 0 {
		return 0
	}
	times := make([]time.Duration, 0, len(t.Deliveries))
	for _, d := range t.Deliveries {
		times = append(times, d.Took)
	}
	slices.Sort(times)
	rank := int(share*float64(len(times))+0.999999) - 1
	return times[min(max(rank, 0), len(times)-1)]
}
