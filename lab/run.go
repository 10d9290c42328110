package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/mail"
)

// readingTime is the pause between acts at a readable pace.
const readingTime = 5 * time.Second

// run plays the acts, waits for what was accepted, and judges.
func (d *demo) run(ctx context.Context) error {
	if err := d.tell(ctx, d.scenario.Story); err != nil {
		return err
	}
	d.screen.heading()
	for _, a := range d.scenario.acts {
		if err := d.tell(ctx, a.say); err != nil {
			return err
		}
		if err := d.play(ctx, a); err != nil {
			return err
		}
	}
	d.waitForAll(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.judge(ctx)
}

// tell says something at a readable pace, and nothing otherwise.
func (d *demo) tell(ctx context.Context, text string) error {
	if d.o.Slow {
		d.screen.note("", 0)
		d.screen.note(text, 0)
		d.screen.note("", 0)
	}
	return d.o.pause(ctx, readingTime)
}

// event is a reply to a letter at a door.
type event struct {
	at    *side
	kind  string
	l     Letter
	reply Reply
}

// play sends the letters of an act to both doors at once, with progress side by
// side.
func (d *demo) play(ctx context.Context, a act) error {
	view := actView{title: a.title, spoof: a.spoof}
	doors := []*side{d.permissive, d.anechoic}
	var parcels [2][]parcel
	for i, at := range doors {
		var err error
		if parcels[i], err = a.letters(ctx, d, at); err != nil {
			return fmt.Errorf("lab: act %q: %w", a.title, err)
		}
		view.doors[i].total = len(parcels[i])
	}
	events, errs := make(chan event), make(chan error, len(doors))
	for i, at := range doors {
		go d.send(ctx, at, a.around, parcels[i], events, errs)
	}
	return d.follow(view, events, errs)
}

// send gives parcels to a door, or to the receiver behind it.
func (d *demo) send(ctx context.Context, at *side, around bool, parcels []parcel, events chan<- event, errs chan<- error) {
	addr, letters, kinds := at.addr, make([]Letter, len(parcels)), make(map[string]string, len(parcels))
	if around {
		addr = at.receiver.Addr().String()
	}
	for i, p := range parcels {
		letters[i], kinds[p.To] = p.Letter, p.kind
		if !at.auth || around {
			letters[i].User, letters[i].Secret = "", ""
		}
	}
	errs <- sendAll(ctx, addr, letters, func(l Letter, r Reply) { events <- event{at, kinds[l.To], l, r} })
}

// follow counts and shows what the doors say, until both have everything.
func (d *demo) follow(view actView, events <-chan event, errs <-chan error) (err error) {
	for open := 2; open > 0; {
		select {
		case e := <-events:
			d.count(e)
			view.doors[d.column(e.at)].count(e.reply)
			d.screen.show(view)
		case e := <-errs:
			err = errors.Join(err, e)
			open--
		}
	}
	d.screen.finish(view)
	return err
}

func (d *demo) column(at *side) int {
	if at == d.permissive {
		return 0
	}
	return 1
}

// count notes one reply.
func (d *demo) count(e event) {
	c := e.at.counts[e.kind]
	if c == nil {
		c = &Counts{}
		e.at.counts[e.kind] = c
	}
	e.at.kinds[e.l.To] = e.kind
	c.Sent++
	isSpoof := d.scenario.kindOf(e.kind).class == spoof
	if isSpoof {
		e.at.replies[e.l.To] = e.reply
		e.at.spoofs = append(e.at.spoofs, e.l.To)
	}
	switch {
	case e.reply.Accepted():
		c.Accepted++
		e.at.accepted++
		return
	case e.reply.Code < 500:
		c.PutOff++
	default:
		c.Refused++
	}
	if isSpoof {
		e.at.reasons[reasonIn(e.reply)]++
	}
}

// reasonIn is the reason in a refusal of ours.
func reasonIn(r Reply) string {
	if _, rest, ok := strings.Cut(r.Text, "["); ok {
		reason, _, _ := strings.Cut(rest, " ")
		return reason
	}
	return "other"
}

// waitForAll waits until all that was accepted has arrived. What does not shows in
// the figures.
func (d *demo) waitForAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, deliverWithin)
	defer cancel()
	for _, at := range []*side{d.permissive, d.anechoic} {
		if err := at.receiver.Wait(ctx, at.accepted); err != nil && ctx.Err() == nil {
			d.screen.note(err.Error(), 0)
		}
	}
}

// judge counts what the receivers saw and asks the relay what it knows.
func (d *demo) judge(ctx context.Context) (err error) {
	r := &d.result
	r.Scenario, r.Refusals, r.Remark = d.scenario.Name, d.anechoic.reasons, d.scenario.remark
	for _, at := range []*side{d.permissive, d.anechoic} {
		at.countArrivals()
	}
	for _, k := range d.scenario.kinds {
		r.Kinds = append(r.Kinds, KindResult{k.name, k.title, string(k.class), d.permissive.of(k.name), d.anechoic.of(k.name)})
	}
	r.Permissive, r.Anechoic = d.door(d.permissive), d.door(d.anechoic)
	if r.Findings, err = d.findings(ctx); err != nil {
		return err
	}
	if err := d.explain(ctx); err != nil {
		return err
	}
	r.conclude(d.scenario.expect(d))
	r.Seconds = time.Since(d.started).Seconds()
	return nil
}

// conclude takes down the checks, and says what did not hold.
func (r *DemoResult) conclude(checks []Check) {
	r.Checks, r.OK = checks, true
	for _, c := range checks {
		if !c.OK {
			r.OK, r.Failures = false, append(r.Failures, c.String())
		}
	}
}

func (at *side) of(kind string) Counts {
	if c := at.counts[kind]; c != nil {
		return *c
	}
	return Counts{}
}

// countArrivals adds what the receiver saw to the counts of the kinds.
func (at *side) countArrivals() {
	for _, j := range at.receiver.Judgements() {
		c := at.counts[at.kinds[j.Recipients[0]]]
		if c == nil {
			continue // nothing of the demo's
		}
		c.Delivered++
		c.Signed += one(len(j.SignedBy) > 0)
		c.DMARCPass += one(j.Passes())
		c.Inbox += one(j.Place == Inbox)
		c.Spam += one(j.Place == Spam)
		c.Rejected += one(j.Place == Rejected)
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// door sums up the kinds that came to a relay.
func (d *demo) door(at *side) DoorResult {
	r := DoorResult{Repeated: at.receiver.Repeated()}
	for name, c := range at.counts {
		switch d.scenario.kindOf(name).class {
		case legitimate:
			r.LegitSent += c.Sent
			r.LegitDelivered += c.Delivered
			r.LegitAligned += c.DMARCPass
			r.LegitInbox += c.Inbox
		case spoof:
			r.SpoofsSent += c.Sent
			r.SpoofsRefused += c.Sent - c.Accepted
			r.SpoofsSigned += c.Signed
			r.SpoofsArrived += c.Delivered
			r.SpoofsAligned += c.DMARCPass
			r.SpoofsInbox += c.Inbox
			r.SpoofsSpam += c.Spam
			r.SpoofsRejected += c.Rejected
		}
	}
	for _, j := range at.receiver.Judgements() {
		if d.scenario.kindOf(at.kinds[j.Recipients[0]]).class != around {
			r.Leaked += len(j.Leaked)
		}
	}
	return r
}

// findings are what the relay's status warns of.
func (d *demo) findings(ctx context.Context) (list []string, err error) {
	status, err := d.control().Status(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("lab: status of the relay: %w", err)
	}
	for _, f := range status.Findings {
		list = append(list, f.String())
	}
	return list, nil
}

// explain asks the relay's own ledger about one refused spoof, and puts it beside
// what became of the same spoof at the other door.
func (d *demo) explain(ctx context.Context) error {
	to, reply, ok := d.shown()
	if !ok {
		return nil
	}
	_, rest, _ := strings.Cut(reply.Text, " id=")
	known, err := d.story(ctx, mail.ID(strings.TrimSuffix(rest, "]")))
	if err != nil {
		return err
	}
	d.result.Example = append([]string{reply.Text}, known.Story...)
	for _, f := range known.Facts {
		if f.Event == ledger.Refused {
			c := compare(d.inboxOf(to), reply, f)
			d.result.Comparison = &c
		}
	}
	return nil
}

// The ledger shows what is sealed, which takes a second.
const (
	sealedWithin = 10 * time.Second
	askEvery     = 100 * time.Millisecond
)

// story is what the ledger has of one message, once it has it.
func (d *demo) story(ctx context.Context, id mail.ID) (api.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, sealedWithin)
	defer cancel()
	for {
		known, err := d.control().Message(ctx, id)
		if err == nil {
			return known, nil
		}
		var problem *api.Problem
		if !errors.As(err, &problem) || problem.Code != api.CodeNotFound || pause(ctx, askEvery) != nil {
			return api.Message{}, fmt.Errorf("lab: explain %s: %w", id, err)
		}
	}
}

// shown picks the spoof that is shown: the first refused one of the scenario's
// kind, for the ledger counts the later ones of a flood only; if there is one, the
// first that got through at the other door.
func (d *demo) shown() (to string, reply Reply, ok bool) {
	for _, candidate := range d.anechoic.spoofs {
		r := d.anechoic.replies[candidate]
		wanted := d.scenario.show == "" || d.anechoic.kinds[candidate] == d.scenario.show
		if r.Code < 500 || !wanted || !strings.Contains(r.Text, " id=") {
			continue
		}
		if d.permissive.replies[candidate].Accepted() {
			return candidate, r, true
		}
		if !ok {
			to, reply, ok = candidate, r, true
		}
	}
	return to, reply, ok
}

// inboxOf is what the receiver behind the permissive relay made of the same
// letter.
func (d *demo) inboxOf(to string) *Judgement {
	if j, ok := d.permissive.receiver.Judgement(to); ok {
		return &j
	}
	return nil
}
