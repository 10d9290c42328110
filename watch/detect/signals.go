package detect

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// The signals.
const (
	Ramp           Kind = "ramp"            // far more recipients in an hour than ever
	Creep          Kind = "creep"           // a week far above the long memory
	Novelty        Kind = "novelty"         // recipients nobody here wrote to before
	FreeMail       Kind = "free-mail"       // recipients at free-mail providers
	Family         Kind = "family"          // local parts of one stem with random ends
	Mismatch       Kind = "mismatch"        // MAIL FROM and From of different domains
	IDHost         Kind = "id-host"         // Message-ID of a host never seen
	Drift          Kind = "drift"           // an address or origin class never seen
	OneSender      Kind = "one-sender"      // one person who writes to strangers at free-mail providers
	OneRecipient   Kind = "one-recipient"   // one recipient who gets very much from one sender
	Odd            Kind = "odd"             // messages strange in several ways at once
	Hours          Kind = "hours"           // an hour in which nothing is usual
	Dormant        Kind = "dormant"         // a source that wakes
	Bounces        Kind = "bounces"         // recipients that do not exist
	Complaints     Kind = "complaints"      // recipients who complain
	WrongFrom      Kind = "wrong-from"      // a source that tries names that are not its own
	Spread         Kind = "spread"          // the same new text or host from several organisations
	RefusedContent Kind = "refused-content" // what was refused of strangers is sent by a source
	ManySources    Kind = "many-sources"    // several sources of an organisation send what looks forged as one domain
	Replay         Kind = "replay"          // the same signature again and again
	ForeignTenant  Kind = "foreign-tenant"  // a tenant that is not the organisation's, in its name
	SecondProof    Kind = "second-proof"    // the organisation's tenant without its second proof
	UnknownHybrid  Kind = "unknown-hybrid"  // a server behind the tenant that is not listed
	Contradicted   Kind = "contradicted"    // the provider itself says it is not genuine
)

// group is what a signal speaks of. Signals of one group support each other little,
// those of different groups much.
type group int

const (
	behaviour group = iota // how much, when, to whom: what legitimate senders change too
	whence                 // where it comes from
	forging                // what senders who are who they say have no reason to do
	outside                // refused before it got in: nothing is to be done but to tell
)

// signal is what is fixed about a Kind: its group, what it is worth alone, and the
// most that it proposes alone.
type signal struct {
	group group
	score float64
	step  Step
	rank  int // which leads, if several begin together: the highest
}

// signals is the table of docs/detection.md.
var signals = map[Kind]signal{
	Ramp:           {behaviour, 0.6, Throttle, 6},
	Creep:          {behaviour, 0.5, Throttle, 5},
	Novelty:        {behaviour, 0.3, Log, 1},
	FreeMail:       {behaviour, 0.4, Throttle, 3},
	OneSender:      {behaviour, 0.5, Throttle, 4},
	OneRecipient:   {behaviour, 0.5, Throttle, 6},
	Hours:          {behaviour, 0.3, Log, 1},
	Dormant:        {behaviour, 0.4, Log, 3},
	Bounces:        {behaviour, 0.5, Throttle, 4},
	Complaints:     {behaviour, 0.5, Throttle, 4},
	Drift:          {whence, 0.3, Log, 2},
	IDHost:         {whence, 0.2, Log, 1},
	Odd:            {whence, 0.6, Throttle, 7},
	Mismatch:       {whence, 0.35, Log, 2},
	WrongFrom:      {forging, 0.5, Throttle, 5},
	Family:         {forging, 0.7, Throttle, 9},
	Spread:         {whence, 0.4, Log, 3},
	RefusedContent: {forging, 0.8, Throttle, 8},
	ManySources:    {forging, 0.9, KillDomain, 10},
	Replay:         {forging, 0.8, Throttle, 8},
	ForeignTenant:  {outside, 0.7, Log, 0},
	SecondProof:    {outside, 0.6, Log, 0},
	UnknownHybrid:  {outside, 0.6, Log, 0},
	Contradicted:   {outside, 0.6, Log, 0},
}

// Kinds is all signals with what each is worth alone, for the manual and for tests.
func Kinds() map[Kind]float64 {
	kinds := map[Kind]float64{}
	for k, s := range signals {
		kinds[k] = s.score
	}
	return kinds
}

// view is what a signal looks at: the last hour and day of one principal, and what
// is usual of it.
type view struct {
	t         *Thresholds
	now       int64
	base      *baseline
	hour, day counts
	slept     int64 // seconds the source had been asleep, if it woke within a day
	letter
}

// letter is what a signal sees of the message at hand.
type letter struct {
	domain string  // in From
	family *family // of its local part, if it is new
	writer load    // its sender's
	pair   load    // its sender's with one of its recipients
}

// reading is a signal that speaks.
type reading struct {
	kind     Kind
	score    float64
	messages uint32 // that it counts
	left     uint32
	shares   []string
	explain  func() (says string, values []Value) // what follows the name of the principal
}

// over is a score that grows with how far a number is over its threshold: from
// what the signal is worth alone, nearer to 1 with every doubling.
func over(kind Kind, ratio float64) float64 {
	alone := signals[kind].score
	return min(alone+(1-alone)*min(math.Log2(max(ratio, 1))/8, 0.6), 1)
}

// isYoung says that there is no usual yet.
func (v *view) isYoung() bool {
	return v.base.first == 0 || time.Duration(v.now-v.base.first)*time.Second < v.t.MinAge
}

// ownSignals are those of one principal's windows, each a function of what it sees.
var ownSignals = []func(*view) (reading, bool){
	ramp, creep, novelty, freeMailShare, familyOfNames, mismatch, idHosts, drift, odd, oneSender, oneRecipient, hours, dormant, bounces, complaints, wrongFrom,
}

// wideSignals are those that are asked of domains and organisations too.
var wideSignals = []func(*view) (reading, bool){ramp, creep, familyOfNames}

func ramp(v *view) (reading, bool) {
	n := float64(v.hour.Rcpts)
	if v.isYoung() {
		if v.hour.Rcpts < uint32(v.t.RampNew) {
			return reading{}, false
		}
		r := v.hourly(Ramp, v.hour.Messages, func() (string, []Value) {
			return fmt.Sprintf("is new and wrote to %s recipients in an hour", grouped(n)),
				[]Value{{"recipients in an hour", grouped(n), "new; threshold " + grouped(float64(v.t.RampNew))}}
		})
		r.score = AlarmScore - 0.1 // new senders are for the limits to hold back
		return r, true
	}
	usual := max(v.base.usualPeak(), v.base.usualHour(v.now))
	if n < float64(v.t.RampFloor) || n <= v.t.RampFactor*usual {
		return reading{}, false
	}
	r := v.hourly(Ramp, v.hour.Messages, func() (string, []Value) {
		return fmt.Sprintf("wrote to %s recipients in an hour; its usual peak is %s", grouped(n), grouped(usual)),
			[]Value{{"recipients in an hour", grouped(n), grouped(usual)}}
	})
	r.score = over(Ramp, n/max(v.t.RampFactor*usual, float64(v.t.RampFloor)))
	return r, true
}

// creep compares the last week with the weeks before the last four: who ramps by
// little every day stays below every other threshold.
func creep(v *view) (reading, bool) {
	if time.Duration(v.now-v.base.first)*time.Second < v.t.CreepAge || v.base.first == 0 {
		return reading{}, false
	}
	for _, m := range []struct {
		what  string
		floor int // a week
		days  *[7]uint32
		long  *[longWeeks]float32
	}{
		{"recipients", 7 * v.t.CreepFloor, &v.base.totals, &v.base.weeks},
		{"new recipients at free-mail providers", 7 * v.t.CreepFloor / 4, &v.base.strangers, &v.base.weekStrange},
	} {
		week := sumOfDays(*m.days)
		usual, weeks := v.base.longMemory(v.now, m.long)
		if weeks == 0 || week < float64(m.floor) || week <= v.t.CreepFactor*usual {
			continue
		}
		r := v.daily(Creep, v.day.Messages, func() (string, []Value) {
			return fmt.Sprintf("wrote to %s %s in a week; weeks of the last months had %s", grouped(week), m.what, grouped(usual)),
				[]Value{{m.what + " in a week", grouped(week), grouped(usual)}}
		})
		r.score = over(Creep, week/max(v.t.CreepFactor*usual, 1))
		return r, true
	}
	return reading{}, false
}

func novelty(v *view) (reading, bool) {
	seen, usual := share(v.hour.First, v.hour.Rcpts), v.base.usual.First
	if v.isYoung() || v.hour.Rcpts < uint32(v.t.NoveltyFloor) || float64(seen) <= v.t.NoveltyShare || float64(seen-usual) < v.t.NoveltyMore {
		return reading{}, false
	}
	return v.hourly(Novelty, v.hour.First, func() (string, []Value) {
		return fmt.Sprintf("writes to people it never wrote to: %s of %d recipients in an hour; usual are %s", percent(seen), v.hour.Rcpts, percent(usual)),
			[]Value{{"recipients never written to", percent(seen), percent(usual)}}
	}), true
}

func freeMailShare(v *view) (reading, bool) {
	c, stretch := v.hour, "an hour"
	if c.Rcpts < uint32(v.t.FreeFloor) {
		c, stretch = v.day, "a day"
	}
	seen, usual := share(c.Free, c.Rcpts), v.base.usual.Free
	if v.isYoung() || c.Rcpts < uint32(v.t.FreeFloor) || float64(seen) <= v.t.FreeShare || float64(seen-usual) < v.t.FreeMore {
		return v.strangers()
	}
	if r, ok := v.strangers(); ok {
		return r, true
	}
	return v.hourly(FreeMail, c.Free, func() (string, []Value) {
		return fmt.Sprintf("writes to free-mail addresses: %s of %d recipients in %s; usual are %s", percent(seen), c.Rcpts, stretch, percent(usual)),
			[]Value{{"recipients at free-mail providers", percent(seen), percent(usual)}}
	}), true
}

// strangers counts the new ones among recipients at free-mail providers: an hour
// against a whole day, so that many usual recipients do not hide them.
func (v *view) strangers() (reading, bool) {
	var usual uint32
	for _, n := range v.base.strangers {
		usual = max(usual, n)
	}
	n := v.hour.Strangers
	many := n >= uint32(v.t.StrangerFloor) && float64(n) > v.t.StrangerFactor*float64(usual)
	most := n >= uint32(v.t.StrangerFew) && n > usual && v.areMore(n, v.hour.Rcpts, v.t.StrangerMost)
	if v.isYoung() || !many && !most {
		return reading{}, false
	}
	r := v.hourly(FreeMail, n, func() (string, []Value) {
		return fmt.Sprintf("wrote to %d new recipients at free-mail providers in an hour; the most of a day of the last week is %d", n, usual),
			[]Value{{"new recipients at free-mail providers", strconv.Itoa(int(n)), strconv.Itoa(int(usual))}}
	})
	r.score = max(over(FreeMail, float64(n)/max(v.t.StrangerFactor*float64(usual), float64(v.t.StrangerFloor))), AlarmScore)
	return r, true
}

// areMore says that strangers are a larger share of the recipients than usual. Who writes to
// customers writes to strangers no more often than to new ones, nor to free-mail addresses.
func (v *view) areMore(strangers, rcpts uint32, by float64) bool {
	usual := min(v.base.usual.Free, v.base.usual.First)
	return float64(share(strangers, rcpts)-usual) >= by
}

// oneSender looks at two days of one sender: who sends little every hour, but to somebody new
// each time, is not seen in the numbers of a source.
func oneSender(v *view) (reading, bool) {
	w := v.writer
	n, usual := float64(w.weight), w.usual
	if v.isYoung() || n < float64(v.t.SenderFloor) || n <= v.t.SenderFactor*usual || !v.areMore(uint32(w.weight), uint32(w.of), v.t.SenderMore) {
		return reading{}, false
	}
	r := v.daily(OneSender, uint32(w.weight), func() (string, []Value) {
		return fmt.Sprintf("has one sender of %s who wrote to %s new recipients at free-mail providers within %s; the most of anybody is usually %s",
				v.domain, grouped(n), spanOf(v.now-w.first), grouped(usual)),
			[]Value{{"new recipients of one sender at free-mail providers", grouped(n), grouped(usual)}, {"of its recipients", grouped(float64(w.of)), ""}}
	})
	r.score = over(OneSender, n/max(v.t.SenderFactor*usual, float64(v.t.SenderFloor)))
	return r, true
}

// oneRecipient looks at two days between one sender and one recipient: how much leaves, not
// how often. A recipient who was written to before, or who is at no free-mail provider, may
// get more; who is both may get anything.
func oneRecipient(v *view) (reading, bool) {
	const lenient = 3
	p := v.pair
	floor := 1000 * float64(v.t.PairBulk)
	if !p.isNew {
		floor *= lenient
	}
	if !p.isFree {
		floor *= lenient
	}
	weight := float64(p.weight)
	if v.isYoung() || !p.isNew && !p.isFree || p.of < uint64(v.t.PairFloor) || weight < floor || weight <= v.t.PairFactor*p.usual {
		return reading{}, false
	}
	bulk, whom := grouped((weight-letterKB*float64(p.of))/1000), "to whom nobody here wrote before"
	if !p.isNew {
		whom = "to whom it hardly wrote before"
	}
	r := v.daily(OneRecipient, uint32(p.of), func() (string, []Value) {
		return fmt.Sprintf("has one sender of %s who sent %s messages, %s megabytes, within %s to one recipient at %s, %s",
				v.domain, grouped(float64(p.of)), bulk, spanOf(v.now-p.first), clean(p.provider), whom), []Value{
				{"megabytes to one recipient", bulk, strconv.Itoa(int(floor / 1000))},
				{"messages to one recipient", grouped(float64(p.of)), ""},
				{"usual most of two days, a message being a quarter of a megabyte", grouped(p.usual / 1000), ""},
			}
	})
	r.score = over(OneRecipient, weight/max(v.t.PairFactor*p.usual, floor))
	return r, true
}

// spanOf is a stretch of seconds within the two days of a concentration, in words.
func spanOf(seconds int64) string {
	switch {
	case seconds >= 2*86400:
		return "two days"
	case seconds >= 2*3600:
		return strconv.FormatInt(seconds/3600, 10) + " hours"
	}
	return strconv.FormatInt(max(seconds/60, 1), 10) + " minutes"
}

func familyOfNames(v *view) (reading, bool) {
	f := v.family
	if f == nil || f.Names < uint32(v.t.FamilyNames) || v.hour.Messages < uint32(v.t.FamilyFloor) || !f.isRandom(v.t) {
		return reading{}, false
	}
	names, usual := share(v.hour.Names, v.hour.Messages), v.base.usual.Names
	const ofNames = 0.2 // in a crowd of new people some begin alike
	if float64(names) <= v.t.FamilyRatio || float64(f.Names) < ofNames*float64(v.hour.Names) || v.base.seenDays >= 3 && names-usual < 0.3 {
		return reading{}, false
	}
	stem := clean(f.Stem)
	r := v.hourly(Family, max(f.Names, v.hour.Names), func() (string, []Value) {
		return fmt.Sprintf("writes as %d made-up addresses that begin with %q", f.Names, stem), []Value{
			{"addresses with one beginning", strconv.Itoa(int(f.Names)), strconv.Itoa(v.t.FamilyNames)},
			{"beginning", stem, ""},
			{"bits in each letter behind it", strconv.FormatFloat(f.entropy(), 'f', 1, 64), strconv.FormatFloat(v.t.FamilyEntropy, 'f', 1, 64)},
			{"addresses never seen", percent(names), percent(usual)},
		}
	})
	r.score = over(Family, float64(f.Names)/float64(v.t.FamilyNames))
	r.shares = []string{"family:" + stem}
	return r, true
}

func mismatch(v *view) (reading, bool) {
	seen, usual := share(v.hour.Mismatch, v.hour.Messages), v.base.usual.Mismatch
	if v.isYoung() || v.hour.Mismatch < uint32(v.t.MismatchFloor) || float64(seen-usual) <= v.t.MismatchShare {
		return reading{}, false
	}
	return v.hourly(Mismatch, v.hour.Mismatch, func() (string, []Value) {
		return fmt.Sprintf("gives MAIL FROM and From of different domains in %s of its messages; usual are %s", percent(seen), percent(usual)),
			[]Value{{"MAIL FROM and From of different domains", percent(seen), percent(usual)}}
	}), true
}

func idHosts(v *view) (reading, bool) {
	seen, usual := share(v.hour.IDHost, v.hour.Messages), v.base.usual.IDHost
	if v.isYoung() || v.hour.IDHost < uint32(v.t.IDHostFloor) || float64(seen-usual) <= v.t.IDHostShare {
		return reading{}, false
	}
	return v.hourly(IDHost, v.hour.IDHost, func() (string, []Value) {
		return fmt.Sprintf("has Message-IDs of hosts never seen in %s of its messages", percent(seen)),
			[]Value{{"Message-ID of a host never seen", percent(seen), percent(usual)}}
	}), true
}

func drift(v *view) (reading, bool) {
	if v.isYoung() || v.hour.Drift < uint32(v.t.DriftFloor) {
		return reading{}, false
	}
	return v.hourly(Drift, v.hour.Drift, func() (string, []Value) {
		return fmt.Sprintf("sent %d messages in an hour from where it never sent before", v.hour.Drift),
			[]Value{{"messages from a new place", strconv.Itoa(int(v.hour.Drift)), "0"}}
	}), true
}

// odd counts messages, not shares: a few strange ones are not hidden by many usual
// ones.
func odd(v *view) (reading, bool) {
	usual := math.Exp2(float64(v.base.usual.Odd)) - 1
	n := float64(v.day.Odd)
	enough := v.day.Odd >= uint32(v.t.OddFloor) || v.day.Strong >= uint32(v.t.OddStrong)
	if v.isYoung() || !enough || n <= v.t.OddFactor*usual {
		return reading{}, false
	}
	r := v.daily(Odd, v.day.Odd, func() (string, []Value) {
		return fmt.Sprintf("sent %s messages in a day that are strange in several ways at once: from a new place, or of new senders, to strangers; usual are %s", grouped(n), grouped(usual)),
			[]Value{{"messages strange in several ways", grouped(n), grouped(usual)}}
	})
	r.score = over(Odd, n/max(v.t.OddFactor*usual, float64(v.t.OddFloor)))
	return r, true
}

func hours(v *view) (reading, bool) {
	const quiet = 0.01 // of the usual peak
	if v.isYoung() || v.hour.Messages < uint32(v.t.HoursFloor) || v.base.usualHour(v.now) > max(quiet*v.base.usualPeak(), 1) {
		return reading{}, false
	}
	bulk := int(v.hour.Kilobytes / 1000)
	r := v.hourly(Hours, v.hour.Messages, func() (string, []Value) {
		at := time.Unix(v.now, 0).UTC().Format("Monday 15:04")
		return fmt.Sprintf("sent %d messages, %d megabytes, on %s UTC, when it usually sends none", v.hour.Messages, bulk, at), []Value{
			{"messages in a quiet hour", strconv.Itoa(int(v.hour.Messages)), "0"},
			{"megabytes", strconv.Itoa(bulk), strconv.Itoa(v.t.HoursBulk)},
		}
	})
	if bulk >= v.t.HoursBulk {
		r.score = AlarmScore
	}
	return r, true
}

func dormant(v *view) (reading, bool) {
	if v.slept < int64(v.t.Dormant/time.Second) || v.day.Messages < uint32(v.t.DormantFloor) {
		return reading{}, false
	}
	return v.daily(Dormant, v.day.Messages, func() (string, []Value) {
		return fmt.Sprintf("sent nothing for %d days and now %d messages in a day", v.slept/86400, v.day.Messages),
			[]Value{{"days without mail", strconv.FormatInt(v.slept/86400, 10), ""}, {"messages of the day after", strconv.Itoa(int(v.day.Messages)), ""}}
	}), true
}

func bounces(v *view) (reading, bool) {
	return v.answered(Bounces, v.day.Bounced, v.base.usual.Bounce, v.t.BounceShare, v.t.BounceFloor, "fail for good")
}

func complaints(v *view) (reading, bool) {
	return v.answered(Complaints, v.day.Complained, v.base.usual.Complaint, v.t.ComplaintShare, v.t.ComplaintFloor, "complain")
}

// answered is the signals of what recipients' servers say afterwards.
func (v *view) answered(kind Kind, n uint32, usual float32, threshold float64, floor int, verb string) (reading, bool) {
	seen := share(n, v.day.Rcpts)
	if n < uint32(floor) || float64(seen) <= threshold || float64(seen) <= 3*float64(usual) {
		return reading{}, false
	}
	r := v.daily(kind, n, func() (string, []Value) {
		return fmt.Sprintf("has recipients that %s: %s of a day's; usual are %s", verb, percent(seen), percent(usual)),
			[]Value{{"recipients that " + verb, percent(seen), percent(usual)}}
	})
	r.left = r.messages
	r.score = over(kind, float64(seen)/threshold)
	return r, true
}

func wrongFrom(v *view) (reading, bool) {
	if v.hour.WrongFrom < uint32(v.t.WrongFromFloor) {
		return reading{}, false
	}
	r := v.hourly(WrongFrom, v.hour.WrongFrom, func() (string, []Value) {
		return fmt.Sprintf("tried %d times in an hour to send with an address that is not its own", v.hour.WrongFrom),
			[]Value{{"refused for an address not its own", strconv.Itoa(int(v.hour.WrongFrom)), strconv.Itoa(v.t.WrongFromFloor)}}
	})
	r.left = 0
	r.score = over(WrongFrom, float64(v.hour.WrongFrom)/float64(v.t.WrongFromFloor))
	return r, true
}

// hourly is a reading of the hour's window, daily one of the day's.
func (v *view) hourly(kind Kind, messages uint32, explain func() (string, []Value)) reading {
	return reading{kind: kind, score: signals[kind].score, messages: messages, left: min(messages, v.hour.Left), explain: explain}
}

func (v *view) daily(kind Kind, messages uint32, explain func() (string, []Value)) reading {
	return reading{kind: kind, score: signals[kind].score, messages: messages, left: min(messages, v.day.Left), explain: explain}
}

func percent(share float32) string { return strconv.Itoa(int(math.Round(100*float64(share)))) + " %" }

// grouped is a number with its thousands apart.
func grouped(n float64) string {
	s := strconv.FormatInt(int64(math.Round(n)), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
