package detect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of findings, and how long their actions are proposed for.
const (
	maxOpen      = 5000
	maxShares    = 24
	maxIDs       = 5
	quiet        = 6 * time.Hour      // without anything new a finding has ended
	quietOfDays  = 3 * 24 * time.Hour // and so has one of a signal that looks at days: nights and a week-end are no end
	noteScore    = AlarmScore - 0.05
	throttleFor  = 6 * time.Hour
	holdFor      = 24 * time.Hour
	throttleMore = 1.5 // times the usual peak
	throttleMin  = 60  // messages an hour
)

// about names an open finding.
type about struct {
	Kind  Kind
	Scope Scope
}

// open is a finding that has not ended, and what of it was told.
type open struct {
	Finding
	Rank      int    // the lead has one, notes have none
	Domain    string // in From of the message that showed it last
	Told      int    // messages
	ToldScore float64
	ToldStep  Step
}

// weight is what several readings of one principal come to: those of one group count
// once, those of different groups support each other.
func weight(readings []reading) (score float64, step Step) {
	var best [outside + 1]float64
	named := slices.ContainsFunc(readings, func(r reading) bool { return r.kind == Family })
	for _, r := range readings {
		s := signals[r.kind]
		if named && r.kind == Odd {
			continue // the new names made the messages odd: one thing must not count twice
		}
		best[s.group] = max(best[s.group], r.score)
		if r.score >= AlarmScore {
			step = max(step, s.step)
		}
	}
	doubt, groups := 1.0, 0
	for _, s := range best {
		doubt *= 1 - s
		if s >= 0.2 {
			groups++
		}
	}
	score = 1 - doubt
	switch {
	case best[outside] > 0: // it was refused
		step = Log
	case best[forging] >= AlarmScore && groups >= 3:
		step = max(step, SuspendSource)
	case best[forging] >= AlarmScore && groups >= 2, isTakeover(readings):
		step = max(step, Hold)
	case score >= AlarmScore+0.2:
		step = max(step, Throttle)
	}
	return score, step
}

// isTakeover is what a stolen credential looks like: much more than ever, from where
// nothing ever came, to strangers at free-mail providers. One or two of these happen
// to everybody who moves or grows.
func isTakeover(readings []reading) bool {
	has := func(k Kind) bool {
		return slices.ContainsFunc(readings, func(r reading) bool { return r.kind == k })
	}
	return has(Odd) && has(FreeMail) && (has(Ramp) || has(Hours) || has(Bounces)) && has(Drift)
}

// judge turns what the signals say of one principal into findings: one leads and
// carries the weight and the step of all, the others are notes.
func (d *Detector) judge(scope Scope, p *principal, readings []reading, e *Event) (out []Finding) {
	if len(readings) == 0 {
		return nil
	}
	score, step := weight(readings)
	if scope.Source == "" {
		step = min(step, Hold)
	}
	lead := d.lead(scope, readings)
	for i := range readings {
		r := &readings[i]
		f, made := d.opened(about{r.kind, scope}, r, e)
		if i == lead {
			f.Rank = signals[r.kind].rank
			f.raise(score, step, scope, p)
		} else if f.Rank == 0 {
			f.raise(min(r.score, noteScore), Log, scope, p)
		}
		if told, ok := d.tell(f, made, r, readings, i == lead); ok {
			out = append(out, told)
		}
	}
	return out
}

// lead is the reading that leads: that of the finding that leads already, else the
// one of the highest rank.
func (d *Detector) lead(scope Scope, readings []reading) (lead int) {
	for i, r := range readings {
		if f := d.open.find(about{r.kind, scope}); f != nil && f.Rank > 0 {
			return i
		}
		if signals[r.kind].rank > signals[readings[lead].kind].rank {
			lead = i
		}
	}
	return lead
}

// openOf is the open findings of each organisation: one looks for its own among some few, not
// among those of all.
type openOf map[string]map[about]*open

func (o openOf) add(k about, f *open) {
	if o[k.Scope.Org] == nil {
		o[k.Scope.Org] = map[about]*open{}
	}
	o[k.Scope.Org][k] = f
}

func (o openOf) remove(k about, _ *open) {
	if delete(o[k.Scope.Org], k); len(o[k.Scope.Org]) == 0 {
		delete(o, k.Scope.Org)
	}
}

// outweighs says which of two findings is counted: the same one in whatever order they
// are looked at.
func (f *open) outweighs(g *open) bool {
	return cmp.Or(cmp.Compare(f.Messages, g.Messages), cmp.Compare(f.Left, g.Left)) > 0
}

// opened is the open finding of a reading, with this message counted.
func (d *Detector) opened(key about, r *reading, e *Event) (f *open, made bool) {
	f, made = d.open.touch(key)
	if made {
		f.Finding = Finding{
			ID: findingID(key, e.Time), Kind: key.Kind, Scope: key.Scope, First: e.Time, Last: e.Time,
			Messages: int(r.messages), Left: int(r.left),
		}
	} else if e.What == Sent || e.What == Refused {
		f.Messages += e.Count
		f.Left += int(left(e, uint32(e.Count)))
	}
	f.Messages = max(f.Messages, int(r.messages))
	f.Left = max(f.Left, int(r.left))
	if e.Time.After(f.Last) {
		f.Last = e.Time
	}
	f.Domain = clean(domainOf(e.From))
	for _, s := range r.shares {
		f.share(s)
	}
	if key.Kind != Spread && key.Kind != RefusedContent {
		for _, s := range d.sharesOf(e) {
			f.share(s)
		}
	}
	if e.ID != "" && len(f.IDs) < maxIDs {
		f.IDs = append(f.IDs, clean(string(e.ID)))
	}
	return f, made
}

func (f *open) share(s string) {
	if len(f.Shares) < maxShares && !slices.Contains(f.Shares, s) {
		f.Shares = append(f.Shares, s)
	}
}

// sharesOf is what an event may have in common with others. The address of a
// provider's server is everybody's; and so are hosts that are common.
func (d *Detector) sharesOf(e *Event) (shares []string) {
	if e.Org == "" && e.Tenant != "" {
		shares = append(shares, "tenant:"+clean(e.Tenant))
	}
	switch {
	case e.ConnectingIP != "":
		shares = append(shares, "peer:"+prefixOf(e.ConnectingIP))
	case e.Tenant == "" && e.Peer.IsValid():
		shares = append(shares, "peer:"+networkOf(e.Peer))
	}
	if e.Print.Text != 0 {
		shares = append(shares, fmt.Sprintf("text:%016x", d.contents.alike(e.Print.Text)))
	}
	for _, h := range e.Print.Hosts[:min(len(e.Print.Hosts), 4)] {
		h = clean(site(h))
		if s := d.contents.hosts.find(h); s == nil || !s.isCommon(&d.o.Thresholds, d.contents.begun) {
			shares = append(shares, "host:"+h)
		}
	}
	return shares
}

// raise gives a finding the score and step of now, if they are higher.
func (f *open) raise(score float64, step Step, scope Scope, p *principal) {
	f.Score = max(f.Score, score)
	if step < f.Propose.Step && f.Propose.Scope.Org != "" {
		return
	}
	f.Propose = propose(step, scope, p)
}

// propose is an action of a step, never wider than the scope.
func propose(step Step, scope Scope, p *principal) Action {
	a := Action{Step: step, Scope: scope}
	switch step {
	case Throttle:
		a.For, a.Rate = throttleFor, throttleMin
		if p != nil {
			a.Rate = max(throttleMin, int(throttleMore*p.base.usualPeak()))
		}
	case Hold:
		a.For = holdFor
	}
	return a
}

// tell is what to tell of a finding now: when it begins, doubles, becomes an alarm or
// proposes a stronger step.
func (d *Detector) tell(f *open, made bool, r *reading, readings []reading, leads bool) (Finding, bool) {
	alarmed := f.Score >= AlarmScore && f.ToldScore < AlarmScore
	if !made && !alarmed && f.Propose.Step <= f.ToldStep && f.Messages < 2*f.Told {
		return Finding{}, false
	}
	f.Told, f.ToldScore, f.ToldStep = f.Messages, f.Score, f.Propose.Step
	says, values := r.explain()
	f.Sentence, f.Evidence = nameOf(f.Scope)+" "+says, values
	if signals[f.Kind].group == outside {
		f.Sentence = nameOf(f.Scope) + ": " + says
	}
	if leads {
		f.addOthers(r, readings)
	}
	f.Sentence += "."
	return f.copy(), true
}

// addOthers puts what the other readings say behind the lead's sentence.
func (f *open) addOthers(r *reading, readings []reading) {
	for i := range readings {
		if other := &readings[i]; other != r {
			says, values := other.explain()
			f.Sentence += "; it " + says
			f.Evidence = append(f.Evidence, values...)
		}
	}
}

func (f *open) copy() Finding {
	c := f.Finding
	c.Evidence, c.Shares, c.IDs = slices.Clone(c.Evidence), slices.Clone(c.Shares), slices.Clone(c.IDs)
	return c
}

// nameOf is a scope at the beginning of a sentence.
func nameOf(s Scope) string {
	switch {
	case s.Source != "":
		return fmt.Sprintf("Source %q of %s", s.Source, s.Org)
	case s.Domain != "":
		return fmt.Sprintf("Domain %s of %s", s.Domain, s.Org)
	}
	return "Organisation " + s.Org
}

// findingID is the same for the same finding.
func findingID(key about, first time.Time) string {
	sum := sumOf(strings.Join([]string{string(key.Kind), key.Scope.Org, key.Scope.Source, key.Scope.Domain, first.UTC().Format(time.RFC3339Nano)}, "\x00"))
	return fmt.Sprintf("f-%016x", sum)
}

// ended is the findings of which nothing was seen for long.
func (d *Detector) ended(now time.Time) (out []Finding) {
	for e := d.open.oldest; e != nil && now.Sub(e.value.Last) >= quiet; {
		last, next := e, e.newer
		if e = next; now.Sub(last.value.Last) < quietOf(last.key.Kind) {
			continue
		}
		f := last.value.copy()
		f.Ended = true
		if last.value.Told > 0 {
			out = append(out, f)
		}
		d.open.remove(last.key)
	}
	return out
}

// quietOf is how long a finding waits for more of it.
func quietOf(k Kind) time.Duration {
	if k == Creep || k == OneSender || k == OneRecipient {
		return quietOfDays
	}
	return quiet
}

// manySources is the finding that several sources of an organisation send what is
// worth holding, as one domain: then the domain is the one to stop.
func (d *Detector) manySources(of Finding, domain string, e *Event) (Finding, bool) {
	if of.Propose.Step < Hold || of.Scope.Source == "" || domain == "" {
		return Finding{}, false
	}
	most := map[string]*open{} // of each other source, the finding with most messages
	for k, f := range d.openOf[of.Scope.Org] {
		if source := k.Scope.Source; source != "" && source != of.Scope.Source && f.Propose.Step >= Hold && f.Domain == domain {
			if before := most[source]; before == nil || f.outweighs(before) {
				most[source] = f
			}
		}
	}
	if len(most) == 0 {
		return Finding{}, false
	}
	messages, leftover := of.Messages, of.Left
	for _, f := range most {
		messages, leftover = messages+f.Messages, leftover+f.Left
	}
	most[of.Scope.Source] = nil
	sources := slices.Sorted(maps.Keys(most))
	scope := Scope{Org: of.Scope.Org, Domain: domain}
	r := reading{kind: ManySources, score: signals[ManySources].score, messages: uint32(messages), left: uint32(leftover), explain: func() (string, []Value) {
		return fmt.Sprintf("is what %d sources send forged-looking mail as", len(sources)),
			[]Value{{"sources", strconv.Itoa(len(sources)), "1"}, {"which", clean(strings.Join(sources, " ")), ""}}
	}}
	f, made := d.opened(about{ManySources, scope}, &r, e)
	f.Rank = signals[ManySources].rank
	f.raise(r.score, KillDomain, scope, nil)
	return d.tell(f, made, &r, []reading{r}, false)
}
