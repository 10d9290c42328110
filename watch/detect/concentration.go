package detect

import "slices"

// Sizes of a concentration.
const (
	maxHeaviest = 8                  // that are remembered of an organisation
	heavySteps  = 4                  // the window, two days,
	heavyStep   = 12 * 3600          // in steps of half a day
	heavyNew    = 7 * 86400          // seconds for which what was new counts as new
	letterKB    = 250                // kilobytes that a message weighs besides its octets
	maxPairs    = 8                  // recipients of one message that are weighed
	maxWeight   = 1 << 31            // of one step
	pairStir    = 0x9e3779b97f4a7c15 // so that a pair is not its reverse (the golden ratio, as in Fibonacci hashing)
)

// concentration finds the few of an organisation on whom much of something falls: senders who
// write to strangers, recipients whom one sender writes to. It remembers the heaviest only,
// some 560 octets: who is not among them makes room for the next, and begins again at nothing.
// So what it says of one is never too much, and too little where very many are alike.
//
// What is usual is the heaviest of the two days up to a midnight, the third largest of fourteen.
type concentration struct {
	heaviest []heavy
	day      int64 // number of the day whose heaviest is not learned yet
	tops     [peakDays]uint16
}

// heavy is one of them, by the sum of its name.
type heavy struct {
	Sum   uint64
	First int64 // second of the first message
	Step  int64 // number of the latest step, since 1970
	New   bool  // it was never seen before First
	Slots [heavySteps]burden
}

// burden is what falls on one within a step: the weight that counts, and all that it
// is a part of.
type burden struct{ Weight, Of uint32 }

// writerOf is the sum of who writes: an address in From, by the source it uses.
func writerOf(e *Event) uint64 { return sumOf(e.From)*pairStir ^ sumOf(e.Source) }

// seat is the entry of sum at now, with nothing forgotten that is within the window;
// nil if it has none.
func (c *concentration) seat(sum uint64, now int64) *heavy {
	c.endDays(now)
	for i := range c.heaviest {
		h := &c.heaviest[i]
		if h.Sum != sum {
			continue
		}
		step := now / heavyStep
		if step < h.Step || step-h.Step >= heavySteps { // a clock set back, or quiet for long
			*h = heavy{Sum: sum, First: now, Step: step}
		}
		h.New = h.New && now-h.First < heavyNew
		advance(h.Slots[:], &h.Step, step)
		return h
	}
	return nil
}

// admit makes an entry: the lightest makes room, of two the one that was quiet for longer.
func (c *concentration) admit(sum uint64, now int64, isNew bool) *heavy {
	fresh := heavy{Sum: sum, First: now, Step: now / heavyStep, New: isNew}
	if len(c.heaviest) < maxHeaviest {
		c.heaviest = append(c.heaviest, fresh)
		return &c.heaviest[len(c.heaviest)-1]
	}
	least, weight := 0, uint64(0)
	for i := range c.heaviest {
		h := &c.heaviest[i]
		if w := h.weight(now); i == 0 || w < weight || w == weight && h.Step < c.heaviest[least].Step {
			least, weight = i, w
		}
	}
	c.heaviest[least] = fresh
	return &c.heaviest[least]
}

// bear counts b at the step that seat or admit made the latest.
func (h *heavy) bear(b burden) {
	s := &h.Slots[h.Step%heavySteps]
	s.Weight = min(s.Weight+min(b.Weight, maxWeight), maxWeight)
	s.Of = min(s.Of+min(b.Of, maxWeight), maxWeight)
}

// sum is what fell on it within the window.
func (h *heavy) sum(now int64) (weight, of uint64) {
	for i, step := range stepsOf(h.Step) {
		if step > now/heavyStep-heavySteps && step <= now/heavyStep {
			weight, of = weight+uint64(h.Slots[i].Weight), of+uint64(h.Slots[i].Of)
		}
	}
	return weight, of
}

func (h *heavy) weight(now int64) uint64 {
	weight, _ := h.sum(now)
	return weight
}

// stepsOf is which step each slot is of, where latest is the latest.
func stepsOf(latest int64) (steps [heavySteps]int64) {
	for back := range int64(heavySteps) {
		if step := latest - back; step >= 0 {
			steps[step%heavySteps] = step
		}
	}
	return steps
}

// endDays learns the heaviest of the days that ended before now.
func (c *concentration) endDays(now int64) {
	today := now / 86400
	if c.day == 0 || today < c.day-1 || today-c.day > peakDays { // new, set back, or asleep for long
		c.day = today
	}
	for c.day < today {
		c.day++
		var most uint64
		for i := range c.heaviest {
			most = max(most, c.heaviest[i].weight(c.day*86400-1))
		}
		c.tops[(c.day-1)%peakDays] = toLog(float64(most))
	}
}

// usual is the weight of the heaviest that was reached more than once in fourteen days: the
// window is two days, so what happened once is in the tops of two.
func (c *concentration) usual() float64 {
	tops := c.tops
	slices.Sort(tops[:])
	return fromLog(tops[peakDays-1-heavySteps*heavyStep/86400])
}

// load is what a signal sees of one of the heaviest.
type load struct {
	weight, of uint64
	usual      float64 // weight of the heaviest of a day
	first      int64
	isNew      bool
	provider   string // of a recipient: its domain
	isFree     bool   // and that is a free-mail provider's
}

func (c *concentration) load(h *heavy, now int64) load {
	l := load{usual: c.usual(), first: h.First, isNew: h.New}
	l.weight, l.of = h.sum(now)
	return l
}

// wrote counts a sender's message to recipients of whom so many are strangers at
// free-mail providers. Senders who never write to such have no entry.
func (c *concentration) wrote(from uint64, now int64, n *counts) load {
	h := c.seat(from, now)
	if h == nil && n.Strangers > 0 {
		h = c.admit(from, now, false)
	}
	if h == nil {
		return load{}
	}
	h.bear(burden{n.Strangers, n.Rcpts})
	return c.load(h, now)
}

// passed counts a message from one to one: its octets, and that it is a message.
func (c *concentration) passed(pair uint64, now int64, kilobytes, messages uint32, isNew bool) load {
	h := c.seat(pair, now)
	if h == nil {
		h = c.admit(pair, now, isNew)
	}
	h.bear(burden{min(kilobytes, maxKilobytes) + letterKB*min(messages, maxKilobytes/letterKB), messages})
	return c.load(h, now)
}
