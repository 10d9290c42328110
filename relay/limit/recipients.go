package limit

import (
	"math"
	"slices"

	"github.com/axiomhq/hyperloglog"
)

// Bounds of what is kept exactly of different recipients: some twenty octets each.
const (
	exactPerPrincipal = 1 << 16
	exactInAll        = 2 << 20
)

// Sketches have an error: the standard deviation of what they estimate is 1.04 by the
// root of the number of registers (Flajolet and others, "HyperLogLog", 2007), with
// 2^14 of them 0.8 %. Four deviations are missed once in thirty thousand estimates.
var sketchMargin = 4 * 1.04 / math.Sqrt(1<<14)

// sketchSlots is how many slots one sketch covers: an hour.
const sketchSlots = 4

// recipients is the different recipients of a day, by keyed hashes of their
// addresses. Up to a bound it is exact. Beyond, each hour has a sketch, and what is
// counted errs to one side: more recipients are assumed than the sketches say, by
// their margin, and near the cap each recipient counts as a new one. So there are
// never more different recipients than the cap but by the chance above, and a sender
// never gets fewer recipients in all than the cap: repeated ones are free as far as
// they are known.
type recipients struct {
	seen  map[uint64]uint32 // the last slot each was written to in; nil: sketched
	swept uint32            // the slot that seen was last looked through in

	hours  []hour
	merged *hyperloglog.Sketch
	most   int64 // of what there may be, when it was last estimated
	since  int64 // recipients since then

	current fresh   // not stored yet, or to be stored again
	before  []fresh // of earlier slots, not stored yet
	gone    []uint32
	sketchy bool // the change to sketches is to be stored
}

// fresh is the recipients of one slot.
type fresh struct {
	slot   uint32
	hashes []uint64
	dirty  bool
}

// hour is the sketch of an hour.
type hour struct {
	number uint32
	sketch *hyperloglog.Sketch
	dirty  bool
}

// unknown counts those of a message that are new in the last day.
func (r *recipients) unknown(hashes []uint64, now int64) (n int64) {
	if r.seen == nil && len(r.hours) > 0 {
		return int64(len(hashes))
	}
	for _, h := range hashes {
		if at, ok := r.seen[h]; !ok || over(at) <= now {
			n++
		}
	}
	return n
}

// fitsAt says when a message with these recipients fits below the cap. total is how
// many recipients there were in the last day, repeated ones too.
func (r *recipients) fitsAt(hashes []uint64, total, most, now int64) int64 {
	n := r.unknown(hashes, now)
	switch {
	case n == 0 || total+int64(len(hashes)) <= most:
		return now
	case n > most:
		return now + int64(never)
	case r.seen == nil && len(r.hours) > 0:
		return r.sketchFitsAt(n, most, now)
	case int64(len(r.seen))+n <= most:
		return now
	}
	r.sweep(now)
	if int64(len(r.seen))+n <= most {
		return now
	}
	return r.soonest(hashes, most, now)
}

// soonest is when so many of the others are over that there is room for hashes: these
// count however long ago they were seen, because they may be over by then too.
func (r *recipients) soonest(hashes []uint64, most, now int64) int64 {
	own := make(map[uint64]bool, len(hashes))
	for _, h := range hashes {
		own[h] = true
	}
	others := make([]uint32, 0, len(r.seen))
	for h, at := range r.seen {
		if !own[h] {
			others = append(others, at)
		}
	}
	slices.Sort(others)
	excess := len(others) + len(own) - int(most)
	if excess > len(others) { // more than the cap by themselves
		return now + int64(never)
	}
	return over(others[max(excess, 1)-1])
}

// sweep drops who does not count any more, once a slot.
func (r *recipients) sweep(now int64) {
	if r.swept == slotOf(now) {
		return
	}
	r.swept = slotOf(now)
	for h, at := range r.seen {
		if over(at) <= now {
			delete(r.seen, h)
		}
	}
	kept := r.hours[:0]
	for _, h := range r.hours {
		if over(h.last()) > now {
			kept = append(kept, h)
		} else {
			r.gone = append(r.gone, h.number)
		}
	}
	if len(kept) < len(r.hours) {
		r.hours = kept
		r.merge()
	}
}

// last is the last slot of an hour.
func (h *hour) last() uint32 { return h.number*sketchSlots + sketchSlots - 1 }

// note counts recipients.
func (r *recipients) note(hashes []uint64, now int64) {
	at := slotOf(now)
	if r.seen == nil && len(r.hours) == 0 {
		r.seen = map[uint64]uint32{}
	}
	if r.seen == nil {
		r.noteSketched(hashes, at)
		return
	}
	if r.current.slot != at {
		if r.current.dirty {
			r.before = append(r.before, r.current)
		}
		r.current = fresh{slot: at}
	}
	for _, h := range hashes {
		if last, ok := r.seen[h]; !ok || last != at {
			r.seen[h] = at
			r.current.hashes, r.current.dirty = append(r.current.hashes, h), true
		}
	}
}

func (r *recipients) noteSketched(hashes []uint64, at uint32) {
	if n := len(r.hours); n == 0 || r.hours[n-1].number < at/sketchSlots {
		r.hours = append(r.hours, hour{number: at / sketchSlots, sketch: hyperloglog.New14()})
	}
	h := &r.hours[len(r.hours)-1]
	h.dirty = true
	for _, one := range hashes {
		h.sketch.InsertHash(one)
		r.merged.InsertHash(one)
	}
	r.since += int64(len(hashes))
}

// sketch goes over to sketches.
func (r *recipients) sketch() {
	byHour := map[uint32]*hyperloglog.Sketch{}
	for h, at := range r.seen {
		s := byHour[at/sketchSlots]
		if s == nil {
			s = hyperloglog.New14()
			byHour[at/sketchSlots] = s
		}
		s.InsertHash(h)
	}
	r.hours = r.hours[:0]
	for number, s := range byHour {
		r.hours = append(r.hours, hour{number: number, sketch: s, dirty: true})
	}
	slices.SortFunc(r.hours, func(a, b hour) int { return int(a.number) - int(b.number) })
	r.seen, r.current, r.before, r.sketchy = nil, fresh{}, nil, true
	r.merge()
}

// merge makes one sketch of all hours.
func (r *recipients) merge() {
	r.merged = hyperloglog.New14()
	for _, h := range r.hours {
		_ = r.merged.Merge(h.sketch) // all have the same precision
	}
	r.estimate()
}

func (r *recipients) estimate() {
	r.most, r.since = int64(math.Ceil(float64(r.merged.Estimate())*(1+sketchMargin))), 0
}

// sketchFitsAt estimates again only when enough was counted one by one since.
func (r *recipients) sketchFitsAt(n, most, now int64) int64 {
	if r.most+r.since+n > most && r.since > max(64, most/1000) {
		r.estimate()
	}
	if r.most+r.since+n <= most {
		return now
	}
	r.sweep(now)
	if len(r.hours) == 0 || r.most+r.since+n <= most {
		return now
	}
	return over(r.hours[0].last())
}

// count is how many different ones there are, at most.
func (r *recipients) count(now int64) int64 {
	r.sweep(now)
	if r.seen == nil && len(r.hours) > 0 {
		return r.most + r.since
	}
	return int64(len(r.seen))
}
