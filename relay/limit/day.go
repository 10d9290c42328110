package limit

import "time"

// Day is the span of the exact caps.
const Day = 24 * time.Hour

// slotWidth is how finely a day is kept: what was spent counts until a whole day has
// passed since the end of its slot, so at most this much longer than a day. More
// slots would cost memory: there are up to 97 of 24 octets a principal.
const slotWidth = 15 * time.Minute

// day is what was spent in the last 24 hours, exactly where it matters:
//
//   - In any 24 hours, however they are chosen, no more than the cap was taken:
//     whatever was taken in them still counts when the last of it is.
//   - Who keeps within the cap in any 24 hours and a quarter is never put off.
//
// Only slots in which something was spent are kept.
type day struct {
	slots []slot // by time
	sum   Amount // of all slots
}

// slot is what was spent in a quarter of an hour.
type slot struct {
	at         uint32 // its number since 1970
	messages   uint32
	recipients uint32
	bytes      uint64
}

func slotOf(at int64) uint32 { return uint32(at / int64(slotWidth)) }

// over is when what was spent in a slot does not count any more.
func over(slot uint32) int64 { return (int64(slot)+1)*int64(slotWidth) + int64(Day) }

func (s *slot) amount() Amount {
	return Amount{Messages: int64(s.messages), Recipients: int64(s.recipients), Bytes: int64(s.bytes)}
}

// forget drops what does not count any more.
func (d *day) forget(now int64) {
	gone := 0
	for gone < len(d.slots) && over(d.slots[gone].at) <= now {
		d.sum.add(d.slots[gone].amount(), -1)
		gone++
	}
	if gone > 0 {
		d.slots = append(d.slots[:0], d.slots[gone:]...)
	}
}

// add spends. Time does not run backwards.
func (d *day) add(at uint32, a Amount) {
	if n := len(d.slots); n == 0 || d.slots[n-1].at < at {
		d.slots = append(d.slots, slot{at: at})
	}
	s := &d.slots[len(d.slots)-1]
	s.messages += uint32(a.Messages)
	s.recipients += uint32(a.Recipients)
	s.bytes += uint64(a.Bytes)
	d.sum.add(a, 1)
}

// giveBack undoes an add of the slot it was made in, if that counts still.
func (d *day) giveBack(at uint32, a Amount) {
	for i := len(d.slots) - 1; i >= 0 && d.slots[i].at >= at; i-- {
		s := &d.slots[i]
		if s.at != at {
			continue
		}
		a = Amount{min(a.Messages, int64(s.messages)), min(a.Recipients, int64(s.recipients)), min(a.Bytes, int64(s.bytes))}
		s.messages -= uint32(a.Messages)
		s.recipients -= uint32(a.Recipients)
		s.bytes -= uint64(a.Bytes)
		d.sum.add(a, -1)
	}
}

// fitsAt says when so much more of a kind fits below a cap. Forget comes before it.
func (d *day) fitsAt(k kind, amount, most, now int64) int64 {
	excess := d.sum.of(k) + amount - most
	if amount > most {
		return now + int64(never)
	}
	for i := range d.slots {
		if excess <= 0 {
			break
		}
		spent := d.slots[i].amount()
		excess -= spent.of(k)
		now = over(d.slots[i].at)
	}
	return now
}
