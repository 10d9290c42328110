package campaign

import (
	"container/heap"
	"encoding/binary"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/watch/detect"
)

// Gate says whether a proven message of an item is let through; false makes it a
// refusal for its rate. It is how whoever reads the items acts on what follows.
type Gate func(Item) bool

// Items gives the events in order of time, once: a World is used up by it. A nil gate
// lets everything through.
func (w *World) Items(gate Gate) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		s := &stream{world: w, gate: gate, rng: generator(w.Seed, "fates")}
		for _, f := range w.flows {
			if f.advance() {
				s.flows = append(s.flows, f)
			}
		}
		w.flows = nil
		heap.Init(&s.flows)
		for s.run(yield) {
		}
	}
}

// stream merges flows, and what happens to their messages later.
type stream struct {
	world   *World
	gate    Gate
	rng     *rand.Rand
	flows   flowHeap
	pending itemHeap
	serial  uint64
}

// run gives one event; false: there is none any more, or nobody wants it.
func (s *stream) run(yield func(Item) bool) bool {
	switch {
	case len(s.flows) == 0 && len(s.pending) == 0:
		return false
	case len(s.flows) == 0, len(s.pending) > 0 && !s.pending[0].Event.Time.After(s.flows[0].at):
		return yield(heap.Pop(&s.pending).(pendingItem).Item)
	}
	f := s.flows[0]
	m := f.write(f.rng, f.at)
	if f.advance() {
		heap.Fix(&s.flows, 0)
	} else {
		heap.Pop(&s.flows)
	}
	return yield(s.send(m))
}

// send gives the event of a message, and has what follows from it wait.
func (s *stream) send(m message) Item {
	s.serial++
	m.event.ID, m.event.Count = identify(m.event.Time, s.world.Seed, s.serial), 1
	item := Item{m.event, m.label}
	if item.Event.What == detect.Sent && s.gate != nil && !s.gate(item) {
		item.Event.What, item.Event.Reason, item.Event.Claimed = detect.Refused, mail.ReasonRateLimited, item.Event.Org
	}
	if item.Event.What == detect.Sent {
		s.fate(item, m)
	}
	return item
}

// How long things take that follow. Complaints are made by people who read their
// mail.
const (
	slowestDelivery  = 20 * time.Second
	slowestComplaint = 20 * time.Hour
)

// fate decides what becomes of the recipients.
func (s *stream) fate(item Item, m message) {
	var delivered, bounced []string
	for _, to := range item.Event.Rcpt {
		if s.rng.Float64() < m.bounce {
			bounced = append(bounced, to)
		} else {
			delivered = append(delivered, to)
		}
	}
	delay := time.Second + time.Duration(s.rng.Int64N(int64(slowestDelivery)))
	s.later(item, detect.Delivered, delivered, delay, "")
	s.later(item, detect.Bounced, bounced, delay+time.Second, mailboxUnknown)
	if m.complain > 0 && len(delivered) > 0 && s.rng.Float64() < m.complain {
		s.later(item, detect.Complained, delivered[:1], delay+time.Minute+time.Duration(s.rng.Int64N(int64(slowestComplaint))), "")
	}
}

// mailboxUnknown is the class of nearly all bounces (docs/bounces.md).
const mailboxUnknown = "user_unknown"

func (s *stream) later(item Item, what detect.What, rcpt []string, delay time.Duration, class string) {
	if len(rcpt) == 0 {
		return
	}
	s.serial++
	item.Event.What, item.Event.Rcpt, item.Event.Class = what, slices.Clone(rcpt), class
	item.Event.Time = item.Event.Time.Add(delay).Truncate(time.Millisecond)
	item.Event.Print = ledger.Print{} // facts about deliveries have none
	heap.Push(&s.pending, pendingItem{item, s.serial})
}

// identify makes the id of a message: its time, the seed and a number.
func identify(at time.Time, seed, serial uint64) mail.ID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(at.UnixMilli())<<16|seed&0xffff)
	binary.BigEndian.PutUint64(b[8:], serial)
	return mail.IDOf(b)
}

// flowHeap is flows by the time of their next message.
type flowHeap []*flow

func (h flowHeap) Len() int           { return len(h) }
func (h flowHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h flowHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *flowHeap) Push(x any)        { *h = append(*h, x.(*flow)) }
func (h *flowHeap) Pop() any          { return pop((*[]*flow)(h)) }

// pendingItem is an event that will happen; serial keeps the order of what happens at
// the same time.
type pendingItem struct {
	Item
	serial uint64
}

type itemHeap []pendingItem

func (h itemHeap) Len() int      { return len(h) }
func (h itemHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h itemHeap) Less(i, j int) bool {
	if !h[i].Event.Time.Equal(h[j].Event.Time) {
		return h[i].Event.Time.Before(h[j].Event.Time)
	}
	return h[i].serial < h[j].serial
}
func (h *itemHeap) Push(x any) { *h = append(*h, x.(pendingItem)) }
func (h *itemHeap) Pop() any   { return pop((*[]pendingItem)(h)) }

func pop[T any](h *[]T) (last T) {
	last = (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
