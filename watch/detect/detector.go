package detect

import (
	"math"
	"strings"
	"time"

	"anechoic/mail"
)

// Bounds of time.
const (
	tickEvery    = 60             // seconds of event time between two looks at what ends
	setBack      = 24 * time.Hour // a clock set back by more starts the windows again
	oddPoints    = 3
	strongPoints = 4          // with a new place, a stranger, and a header that does not fit among them
	maxKilobytes = 1 << 20    // of one message
	otherDomains = "(others)" // stands for an organisation's domains past Options.Domains
	busyFor      = 2 * 3600   // seconds after an alarm of a source in which its domain and organisation are not judged for the same
)

// Detector holds what is usual and what is going on. It is for one goroutine.
type Detector struct {
	o        Options
	freeMail map[string]bool

	now        time.Time // the newest event, or Tick
	looked     int64     // when it was last looked at what ends
	principals *table[Scope, principal]
	contents   *contents
	claims     *table[Scope, claim]
	open       *table[about, open]
	openOf     openOf
	busy       *table[string, int64] // organisations with an alarm of a source, until when
	left       budget
}

// New makes a Detector that knows nothing yet.
func New(o Options) *Detector {
	d := &Detector{o: o.withDefaults(), freeMail: map[string]bool{}}
	for _, name := range o.FreeMail {
		d.freeMail[strings.ToLower(name)] = true
	}
	d.forgetAll()
	return d
}

// forgetAll is the state of a Detector that knows nothing.
func (d *Detector) forgetAll() {
	d.now, d.looked = time.Time{}, 0
	d.principals = newTable[Scope, principal](d.o.Principals)
	d.principals.gone = d.forgotten
	d.contents = newContents()
	d.claims = newTable[Scope, claim](maxClaims)
	d.open, d.openOf = newTable[about, open](maxOpen), openOf{}
	d.open.came, d.open.gone = d.openOf.add, d.openOf.remove
	d.busy = newTable[string, int64](maxOpen)
	d.left = budget{words: d.o.Memory / 8}
}

// forgotten gives back what a principal that made room had.
func (d *Detector) forgotten(s Scope, p *principal) {
	p.rcpts.free(&d.left)
	p.senders.free(&d.left)
	if s.Domain != "" && s.Domain != otherDomains {
		if org := d.principals.find(Scope{Org: s.Org}); org != nil && org.domains > 0 {
			org.domains--
		}
	}
}

// Observe takes the next event and gives the findings that begin, grow or end with
// it. Events come nearly in the order of their times: one that is older than the
// newest counts as if it were as new, unless it is older by more than a day.
func (d *Detector) Observe(e Event) []Finding {
	out := d.Tick(e.Time)
	if d.now.IsZero() {
		return nil // an event of no time
	}
	e.Time = d.now
	e.Count = max(e.Count, 1)
	if d.contents.begun == 0 {
		d.contents.begun = unix(&e)
	}
	switch e.What {
	case Sent:
		if e.From == "" || e.Org == "" {
			return out // a hold at a lease is no new message; what nobody proved teaches nothing
		}
		return append(out, d.sent(&e)...)
	case Refused:
		return append(out, d.refused(&e)...)
	case Delivered, Bounced, Complained:
		return append(out, d.answered(&e)...)
	}
	return out
}

// Tick says that it is now, and gives the findings that end without an event.
func (d *Detector) Tick(now time.Time) []Finding {
	now = now.UTC().Round(0)
	if !isTime(now) {
		return nil
	}
	if now.After(d.now) || d.now.Sub(now) > setBack {
		d.now = now
	}
	at := d.now.Unix()
	if at-d.looked < tickEvery && at >= d.looked {
		return nil
	}
	d.looked = at
	return d.ended(d.now)
}

// Open is the findings that have not ended, the one that was quiet for longest first.
func (d *Detector) Open() (findings []Finding) {
	d.open.each(func(_ about, f *open) {
		if f.Told > 0 {
			findings = append(findings, f.copy())
		}
	})
	return findings
}

// sent is a message of a proven source.
func (d *Detector) sent(e *Event) (out []Finding) {
	now := unix(e)
	domain := strings.ToLower(clean(domainOf(e.From)))
	orgScope, scope := Scope{Org: clean(e.Org)}, Scope{Org: clean(e.Org), Source: clean(e.Source)}
	org, source := d.principal(orgScope), d.principal(scope)
	domainScope := d.domainScope(org, Scope{Org: orgScope.Org, Domain: domain})
	named := d.principal(domainScope)

	wake(source, now, &d.o.Thresholds)
	org.concentrate()
	c, fresh, pair := d.traits(e, org, source, domain)
	teach := !d.isHeld(scope)
	own, wide := letter{domain: domain, pair: pair, writer: org.writers.wrote(writerOf(e), now, &c)}, letter{domain: domain}
	if fresh {
		local := localOf(e.From)
		own.family, wide.family = source.names.add(local, now), named.names.add(local, now)
	}
	for _, p := range []*principal{org, source, named} {
		p.count(now, &c, teach)
	}

	spreads, names := d.contents.of(e)
	for _, s := range spreads {
		s.sent(e, domain, uint32(e.Count))
	}
	readings := d.read(source, now, own, ownSignals)
	readings = append(readings, d.contents.readings(e, &d.o.Thresholds, spreads, names)...)
	at, again, replayed := d.contents.signed(e, &d.o.Thresholds)
	if replayed && at == scope {
		readings = append(readings, again)
	}
	out = d.judge(scope, source, lean(readings, source, now), e)
	if replayed && at != scope {
		out = append(out, d.judge(at, nil, []reading{again}, e)...)
	}
	out = append(out, d.afterSource(out, orgScope.Org, domain, e)...)
	if until, _ := d.busy.touch(orgScope.Org); *until < now {
		out = append(out, d.judge(domainScope, named, d.read(named, now, wide, wideSignals), e)...)
		if len(out) == 0 {
			out = d.judge(orgScope, org, d.read(org, now, letter{}, wideSignals), e)
		}
	}
	return out
}

// afterSource notes that the organisation is busy with an alarm of a source, and
// looks whether it is one of many.
func (d *Detector) afterSource(told []Finding, org, domain string, e *Event) (out []Finding) {
	for _, f := range told {
		if f.Scope.Source == "" || !f.IsAlarm() {
			continue
		}
		until, _ := d.busy.touch(org)
		*until = unix(e) + busyFor
		if many, ok := d.manySources(f, domain, e); ok {
			out = append(out, many)
		}
	}
	return out
}

// lean adds to a forging signal what is too little for a signal of its own: most
// recipients of the hour are strangers at free-mail providers.
func lean(readings []reading, p *principal, now int64) []reading {
	const few, most = 20, 0.6
	forged := false
	for _, r := range readings {
		if r.kind == FreeMail {
			return readings
		}
		forged = forged || signals[r.kind].group == forging
	}
	if !forged || p.hour == nil {
		return readings
	}
	c := p.hour.sum(now)
	free := share(c.Free, c.Rcpts)
	if c.Rcpts < few || free < most || free < p.base.usual.Free+0.3 {
		return readings
	}
	return append(readings, reading{kind: FreeMail, score: 0.3, messages: c.Free, left: min(c.Free, c.Left), explain: func() (string, []Value) {
		return "writes to free-mail addresses: " + percent(free) + " of its recipients",
			[]Value{{"recipients at free-mail providers", percent(free), percent(p.base.usual.Free)}}
	}})
}

// read asks signals about a principal.
func (d *Detector) read(p *principal, now int64, l letter, asked []func(*view) (reading, bool)) (readings []reading) {
	if p.hour == nil {
		return nil
	}
	v := view{t: &d.o.Thresholds, now: now, base: &p.base, hour: p.hour.sum(now), day: p.day.sum(now), letter: l}
	if now-p.woke < 86400 {
		v.slept = p.slept
	}
	for _, signal := range asked {
		if r, ok := signal(&v); ok {
			readings = append(readings, r)
		}
	}
	return readings
}

// traits is what a message counts as. Fresh says that its From was never seen; pair is
// the recipient with whom its sender has passed most.
func (d *Detector) traits(e *Event, org, source *principal, domain string) (c counts, fresh bool, pair load) {
	now, n := unix(e), uint32(min(e.Count, math.MaxInt16))
	young := source.base.first + int64(d.o.Thresholds.MinAge/time.Second)
	if source.base.first == 0 {
		young = math.MaxInt64
	}
	c.Messages, c.Left, c.Kilobytes = n, left(e, n), uint32(min(max(e.Size, 0)/1000, maxKilobytes))
	pair = d.recipients(e, org, &c)
	points := uint32(0)
	if fresh = org.senders.first(sumOf(e.From), &d.left); fresh {
		c.Names = n
		points++
	}
	if other := domainOf(e.MailFrom); e.MailFrom != "" && other != domain && site(other) != site(domain) {
		c.Mismatch = n
		points++
	}
	if host := e.Print.IDHost; host != "" && isNew(&source.idHosts, sumOf(site(host)), now, young, int64(d.o.Thresholds.SettleTime/time.Second)) {
		c.IDHost = n
		points++
	}
	if at := placeOf(e); at != "" && isNew(&source.places, sumOf(at), now, young, int64(d.o.Thresholds.SettleTime/time.Second)) {
		c.Drift = n
		points += 2
	}
	if c.Rcpts > 0 && 2*c.Strangers > c.Rcpts {
		points++
	}
	if points >= oddPoints && now > young {
		c.Odd = n
	}
	if points >= strongPoints && c.Drift > 0 && c.Strangers > 0 && c.IDHost+c.Mismatch > 0 && now > young {
		c.Strong = n
	}
	return c, fresh, pair
}

// recipients counts whom a message goes to, and gives the heaviest of those whom its
// sender wrote to.
func (d *Detector) recipients(e *Event, org *principal, c *counts) (heaviest load) {
	from := writerOf(e)
	for i, rcpt := range e.Rcpt[:min(len(e.Rcpt), maxRcpt)] {
		provider, to := domainOf(rcpt), sumOf(rcpt)
		free := isFreeMail(provider, d.freeMail)
		first := org.rcpts.first(to, &d.left)
		if i < maxPairs {
			l := org.pairs.passed(from^to*pairStir, unix(e), c.Kilobytes, c.Messages, first)
			if l.provider, l.isFree = provider, free; l.weight > heaviest.weight {
				heaviest = l
			}
		}
		c.Rcpts++
		if free {
			c.Free++
		}
		if first {
			c.First++
		}
		if free && first {
			c.Strangers++
		}
	}
	c.Rcpts += uint32(len(e.Rcpt) - min(len(e.Rcpt), maxRcpt))
	return heaviest
}

// refused is a message that was refused: an attempt in somebody's name.
func (d *Detector) refused(e *Event) (out []Finding) {
	now := unix(e)
	spreads, _ := d.contents.of(e)
	for _, s := range spreads {
		s.refused(e, uint32(e.Count))
	}
	if at, again, ok := d.contents.signed(e, &d.o.Thresholds); ok && at.Org != "" {
		out = d.judge(at, nil, []reading{again}, e)
	}
	if e.Org != "" && e.Source != "" && isWrongFrom(e) {
		scope := Scope{Org: clean(e.Org), Source: clean(e.Source)}
		p := d.principal(scope)
		p.count(now, &counts{WrongFrom: uint32(min(e.Count, math.MaxInt16))}, false)
		out = append(out, d.judge(scope, p, d.read(p, now, letter{}, ownSignals), e)...)
	}
	org := e.Claimed
	if org == "" {
		org = e.Org
	}
	if outsideOf(e.Reason) < 0 || org == "" {
		return out
	}
	scope := Scope{Org: clean(org), Domain: strings.ToLower(clean(domainOf(e.From)))}
	c, _ := d.claims.touch(scope)
	if r, ok := c.refused(e, &d.o.Thresholds, now); ok {
		out = append(out, d.judge(scope, nil, []reading{r}, e)...)
	}
	return out
}

// answered is what became of a message later.
func (d *Detector) answered(e *Event) []Finding {
	if e.Org == "" || e.What == Delivered {
		return nil
	}
	scope := Scope{Org: clean(e.Org), Source: clean(e.Source)}
	p := d.principals.find(scope)
	if p == nil || p.hour == nil {
		return nil // nothing of it is remembered that this could be compared with
	}
	n := uint32(max(len(e.Rcpt), 1))
	var c counts
	switch e.What {
	case Bounced:
		c.Bounced = n
	case Complained:
		c.Complained = n
	}
	p.hour.at(unix(e)).add(&c)
	p.day.at(unix(e)).add(&c)
	p.base.day.add(&c)
	return d.judge(scope, p, d.read(p, unix(e), letter{}, ownSignals), e)
}

// principal is that of a scope, touched.
func (d *Detector) principal(s Scope) *principal {
	p, _ := d.principals.touch(s)
	return p
}

// domainScope is that of a From domain; an organisation's domains past its bound
// share one.
func (d *Detector) domainScope(org *principal, s Scope) Scope {
	if d.principals.find(s) != nil {
		return s
	}
	if org.domains >= d.o.Domains {
		return Scope{Org: s.Org, Domain: otherDomains}
	}
	org.domains++
	s.Domain = strings.Clone(s.Domain) // not the whole address
	return s
}

// isHeld says that a source is suspected so much that its mail teaches nothing.
func (d *Detector) isHeld(s Scope) bool {
	until := d.busy.find(s.Org)
	if until == nil || *until == 0 {
		return false
	}
	held := false
	for kind := range signals {
		f := d.open.find(about{kind, s})
		held = held || f != nil && f.Propose.Step >= Hold
	}
	return held
}

// wake notes that a source sends again after long.
func wake(p *principal, now int64, t *Thresholds) {
	if slept := now - p.base.last; p.base.last != 0 && slept >= int64(t.Dormant/time.Second) {
		p.slept, p.woke = slept, now
	}
	p.rest(now)
}

func isWrongFrom(e *Event) bool {
	switch e.Reason {
	case mail.ReasonFromNotOwned, mail.ReasonSenderNotOwned, mail.ReasonSourceNotAllowed:
		return true
	}
	return false
}

// left is how many of n messages of an event were not kept back.
func left(e *Event, n uint32) uint32 {
	if e.What != Sent || e.Reason != "" {
		return 0
	}
	return n
}

// isTime says that a time is one that a clock may show.
func isTime(t time.Time) bool {
	const latest = 7_258_118_400 // the year 2200
	return t.Unix() > 0 && t.Unix() < latest
}

func unix(e *Event) int64 { return e.Time.Unix() }
