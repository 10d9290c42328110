package detect

import (
	"math"
	"slices"
)

// Sizes of a baseline, and how fast it learns.
const (
	weekHours  = 168
	peakDays   = 14   // the daily peaks that are remembered
	longWeeks  = 12   // the weeks of the long memory
	logUnit    = 2048 // of log2(1+n), so that sixteen bits hold every count
	learnWeek  = 0.25 // what a week teaches an hour of the week, after the first
	learnDay   = 0.1  // what a day teaches a share, after the first
	clipHour   = 2.0  // doublings: an hour teaches no more at once
	clipShare  = 0.2
	shareFloor = 10  // messages of a day from which on its shares teach
	maxCatchUp = 336 // hours without mail that are learned one by one
)

// baseline is what is usual of one principal. Outliers hardly teach: an hour moves
// its season by a bounded step, and the peak that counts is the second largest, of
// fourteen days or of twelve weeks. Who ramps slowly is compared with the long memory.
type baseline struct {
	first, last int64 // seconds: the first and the last message
	hour        int64 // number of the hour being counted, since 1970
	inHour      uint32
	dayPeak     uint32
	day         counts // of the day being counted
	season      [weekHours]uint16
	days        [peakDays]uint16 // the largest hour of each day, in logs; the latest at dayNumber%14
	totals      [7]uint32        // recipients of each of the last seven days
	strangers   [7]uint32
	weekPeaks   [longWeeks]uint16
	weeks       [longWeeks]float32 // recipients of each week
	weekStrange [longWeeks]float32
	usual       shares
	seenDays    uint16 // days that taught
}

// shares are what is usual of a day with mail.
type shares struct {
	Free, First, Mismatch, IDHost, Bounce, Complaint, Names float32
	Odd                                                     float32 // messages a day, in logs
}

func toLog(n float64) uint16   { return uint16(min(math.Round(logUnit*math.Log2(1+n)), math.MaxUint16)) }
func fromLog(l uint16) float64 { return math.Exp2(float64(l)/logUnit) - 1 }

// learn counts c into the hour of now, after the hours before were learned.
func (b *baseline) learn(now int64, c *counts) {
	b.advance(now)
	if b.first == 0 || now < b.first {
		b.first = now // a clock set back: else it would be young until that time comes again
	}
	b.last = now
	b.inHour += c.Rcpts
	b.day.add(c)
}

// advance learns the hours that ended before now.
func (b *baseline) advance(now int64) {
	hour := now / 3600
	switch {
	case b.hour == 0 || hour < b.hour-24: // new, or the clock was set back by more than a day
		b.hour, b.inHour = hour, 0
		return
	case hour <= b.hour:
		return
	case hour-b.hour > maxCatchUp: // asleep for long: what was usual stays so
		b.endHour()
		b.endDay(b.hour / 24)
		b.hour = hour
		return
	}
	for b.hour < hour {
		b.endHour()
		if b.hour++; b.hour%24 == 0 {
			b.endDay(b.hour/24 - 1)
		}
	}
}

func (b *baseline) endHour() {
	slot := &b.season[seasonSlot(b.hour)]
	seen := float64(toLog(float64(b.inHour)))
	weeks := max(float64(b.hour-b.first/3600)/weekHours, 0)
	step := seen - float64(*slot)
	rate := max(learnWeek, 1/(weeks+1))
	if weeks >= 2 {
		step = min(max(step, -clipHour*logUnit), clipHour*logUnit)
	}
	*slot = uint16(float64(*slot) + step*rate)
	b.dayPeak = max(b.dayPeak, b.inHour)
	b.inHour = 0
}

// endDay learns the day of that number.
func (b *baseline) endDay(day int64) {
	c := b.day
	b.days[day%peakDays] = toLog(float64(b.dayPeak))
	b.totals[day%7], b.strangers[day%7] = c.Rcpts, c.Strangers
	if c.Messages >= shareFloor {
		b.seenDays = min(b.seenDays, math.MaxUint16-1) + 1
		rate := max(learnDay, 1/float32(b.seenDays))
		u := &b.usual
		toward(&u.Free, share(c.Free, c.Rcpts), rate)
		toward(&u.First, share(c.First, c.Rcpts), rate)
		toward(&u.Mismatch, share(c.Mismatch, c.Messages), rate)
		toward(&u.IDHost, share(c.IDHost, c.Messages), rate)
		toward(&u.Bounce, share(c.Bounced, c.Rcpts), rate)
		toward(&u.Complaint, share(c.Complained, c.Rcpts), rate)
		toward(&u.Names, share(c.Names, c.Messages), rate)
		odd := float32(math.Log2(1 + float64(c.Odd)))
		u.Odd += min(max(odd-u.Odd, -1), 1) * rate
	}
	b.day, b.dayPeak = counts{}, 0
	if day%7 == 6 { // weeks begin on Thursday, as 1970 did
		b.endWeek(day)
	}
}

// endWeek learns the seven days up to day.
func (b *baseline) endWeek(day int64) {
	i := day / 7 % longWeeks
	b.weekPeaks[i], b.weeks[i], b.weekStrange[i] = 0, 0, 0
	for back := range min(int64(7), day+1) {
		b.weekPeaks[i] = max(b.weekPeaks[i], b.days[(day-back)%peakDays])
	}
	for d := range b.totals {
		b.weeks[i] += float32(b.totals[d])
		b.weekStrange[i] += float32(b.strangers[d])
	}
}

// toward moves a usual share to what a day showed, by a bounded step.
func toward(usual *float32, seen, rate float32) {
	if rate <= learnDay { // the first days teach freely
		seen = min(max(seen, *usual-clipShare), *usual+clipShare)
	}
	*usual += (seen - *usual) * rate
}

func share(part, of uint32) float32 {
	if of == 0 {
		return 0
	}
	return min(float32(part)/float32(of), 1)
}

// seasonSlot is the hour of the week of an hour since 1970, from Monday on, UTC.
func seasonSlot(hour int64) int64 { return (hour + 72) % weekHours }

// usualHour is what this hour of the week, or the one before or after, usually has.
func (b *baseline) usualHour(now int64) float64 {
	slot := seasonSlot(now / 3600)
	return fromLog(max(b.season[slot], b.season[(slot+weekHours-1)%weekHours], b.season[(slot+1)%weekHours]))
}

// usualPeak is the hour that was reached at least twice: in fourteen days, or in
// two of twelve weeks.
func (b *baseline) usualPeak() float64 {
	return fromLog(max(second(b.days[:]), second(b.weekPeaks[:])))
}

func second(of []uint16) uint16 {
	var first, next uint16
	for _, x := range of {
		if x >= first {
			first, next = x, first
		} else {
			next = max(next, x)
		}
	}
	return next
}

// longMemory is the middle of the weeks that are at least four weeks old, those
// with mail, and how many they are.
func (b *baseline) longMemory(now int64, of *[longWeeks]float32) (middle float64, weeks int) {
	current := now / 86400 / 7
	var old []float32
	for back := int64(4); back < longWeeks; back++ {
		if w := current - back; w*7*86400 >= b.first && w >= 0 {
			old = append(old, of[w%longWeeks])
		}
	}
	if len(old) == 0 {
		return 0, 0
	}
	slices.Sort(old)
	return float64(old[len(old)/2]), len(old)
}

func sumOfDays(days [7]uint32) (sum float64) {
	for _, n := range days {
		sum += float64(n)
	}
	return sum
}
