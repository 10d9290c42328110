package org

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
)

// The times of domain proof (ARCHITECTURE 6).
const (
	proofDaily  = 24 * time.Hour   // how often a verified name is looked up again
	proofGrace  = 72 * time.Hour   // how long the last answer stands while DNS gives none
	proofSecond = time.Minute      // the least time between the two checks that find a record gone
	proofHourly = time.Hour        // how often an unverified domain is looked up unasked
	proofRetry  = 10 * time.Second // the least time between look-ups that give no answer
)

// Bounds of the work for names that mail claims.
const (
	maxLevels   = 8     // labels below the registered domain that are looked at
	maxSubnames = 10000 // sub-domains remembered
	proofAsking = 8     // look-ups at a time in the background
)

// Standing is whether a domain counts as an organisation's now.
type Standing uint8

// The standings. Only Verified lets mail pass; the zero Standing does not.
const (
	Unknown      Standing = iota // never asked
	Verified                     // the record is there
	Unverified                   // it is not, or names another: 550 DOMAIN_UNVERIFIED
	LookupFailed                 // DNS has not answered for too long: 451 LOOKUP_FAILED
)

func (s Standing) String() string {
	return [...]string{"unknown", "verified", "unverified", "look-up failed"}[min(s, LookupFailed)]
}

// ProofState is what is known about one name's record. The zero ProofState knows
// nothing.
type ProofState struct {
	Verdict Verdict   `json:"verdict"` // the last answer that counts; never NoAnswer
	Heard   time.Time `json:"heard"`   // when DNS last said so
	Missing time.Time `json:"missing"` // when a record that was there was first not found; else zero
	Asked   time.Time `json:"asked"`   // when DNS was last asked
	Failed  bool      `json:"failed"`  // that gave no answer
}

// Next is the state after one look-up.
//
//	last \ answer   agrees     contrary    no record                       no answer
//	agrees          agrees     contrary    agrees, missing; after a second  as it was
//	                                       one a minute later: no record
//	anything else   agrees     contrary    no record                       as it was
//
// So a record that is taken away counts until a second look-up agrees that it is
// gone, one that names somebody else counts at once, and a failure to look up
// neither gains nor loses anything but time.
func (s ProofState) Next(answer Verdict, now time.Time) ProofState {
	s.Asked, s.Failed = now, answer == NoAnswer
	if s.Failed || answer == NotAsked {
		return s
	}
	if answer == NoRecord && s.agreed() {
		if s.Missing.IsZero() {
			s.Missing = now
		}
		if now.Sub(s.Missing) < proofSecond {
			return s
		}
	}
	s.Verdict, s.Heard, s.Missing = answer, now, time.Time{}
	return s
}

func (s ProofState) agreed() bool { return s.Verdict == Agrees || s.Verdict == AgreesSub }

// At is what counts now: the verdict, or NoAnswer where it has become too old,
// or where there never was one.
func (s ProofState) At(now time.Time) Verdict {
	if s.Verdict == NotAsked || now.Sub(s.Heard) > proofGrace {
		return NoAnswer
	}
	return s.Verdict
}

// due says that the state must be asked for again before it is used. Of a
// sub-domain, having no record of its own is what is usual.
func (s ProofState) due(sub bool, now time.Time) bool {
	wait := proofDaily
	switch {
	case s.Failed:
		wait = proofRetry
	case !s.Missing.IsZero(), !s.agreed() && !sub:
		wait = proofSecond
	}
	return now.Sub(s.Asked) >= wait
}

// dueUnasked says that the background should look a registered domain up.
func (s ProofState) dueUnasked(now time.Time) bool {
	wait := proofHourly
	switch {
	case s.Asked.IsZero():
		wait = 0
	case s.Failed, !s.Missing.IsZero():
		wait = proofSecond
	case s.agreed():
		wait = proofDaily
	}
	return now.Sub(s.Asked) >= wait
}

// ProofName is a name and the organisation it is asked for.
type ProofName struct {
	Organisation ID          `json:"org"`
	Name         mail.Domain `json:"domain"`
}

// SavedProof is one state as it is kept over restarts.
type SavedProof struct {
	ProofName
	ProofState
}

// Proofs keeps the standing of every domain. It looks a name up before its first
// use and after that when it is due; Run does the same for all registered
// domains without being asked. It is safe for concurrent use.
type Proofs struct {
	Resolver mail.Resolver
	Relay    mail.Domain                  // this relay's host name, as records may name it
	Load     func() ([]SavedProof, error) // what Save was given before the restart; nil: nothing
	Save     func([]SavedProof) error     // keeps states over a restart; nil: they are not kept
	Log      *slog.Logger

	mu      sync.RWMutex                // guards what follows
	states  map[ProofName]ProofState    // of registered domains
	subs    map[ProofName]ProofState    // of names below them that mail claimed
	asking  map[ProofName]chan struct{} // closed when the look-up is done
	changed map[ProofName]struct{}      // of states, what is to be saved
	lost    time.Time                   // when an answer last took something away
	wake    chan struct{}
}

// Start makes p ready and loads what was saved; nothing else may be called
// before. Every name is asked for once more before it is used, so that what was
// revoked meanwhile is noticed; where DNS does not answer, what was saved counts
// as long as it would have.
func (p *Proofs) Start() error {
	p.states, p.subs = make(map[ProofName]ProofState), make(map[ProofName]ProofState)
	p.asking, p.changed = make(map[ProofName]chan struct{}), make(map[ProofName]struct{})
	p.wake = make(chan struct{}, 1)
	p.lost = time.Now()
	if p.Load == nil {
		return nil
	}
	saved, err := p.Load()
	for _, s := range saved {
		s.Asked, s.Failed = time.Time{}, false
		p.states[s.ProofName] = s.ProofState
	}
	return err
}

// Lost is when DNS last gave an answer that takes the standing of a domain away,
// or when Start was called: what was asked before then must be asked again.
func (p *Proofs) Lost() time.Time {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.lost
}

// Refresh has Run look at all domains now; after a reload.
func (p *Proofs) Refresh() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Standing says whether name, which Owner found to belong to d, counts as the
// organisation's. It asks DNS if it must, and then waits; what is fresh costs one
// map access for each label below d and no allocation.
//
// The nearest record decides: a sub-domain's own, else that of the next name
// above it, which covers it only with sub=yes.
func (p *Proofs) Standing(ctx context.Context, d *Domain, name mail.Domain, now time.Time) Standing {
	if !name.Within(d.Name) || name != d.Name && !d.Subdomains {
		return Unverified
	}
	for at, level := name, 0; level <= maxLevels; at, level = at.Parent(), level+1 {
		state := p.state(ctx, ProofName{d.Organisation, at}, at != d.Name, now)
		switch verdict := state.At(now); {
		case verdict == NoRecord && at != d.Name:
			continue
		case verdict == NoAnswer:
			return LookupFailed
		case verdict == AgreesSub, verdict == Agrees && at == name:
			return Verified
		}
		return Unverified
	}
	return Unverified
}

// Known is what is known without asking.
func (p *Proofs) Known(d *Domain, now time.Time) Standing {
	p.mu.RLock()
	state, ok := p.states[ProofName{d.Organisation, d.Name}]
	p.mu.RUnlock()
	switch verdict := state.At(now); {
	case !ok || state.Verdict == NotAsked && !state.Failed:
		return Unknown
	case verdict == NoAnswer:
		return LookupFailed
	case verdict == Agrees, verdict == AgreesSub:
		return Verified
	}
	return Unverified
}

// Check looks a registered domain up now, whatever is known, and gives the
// standing after it.
func (p *Proofs) Check(ctx context.Context, d *Domain, now time.Time) Standing {
	p.ask(ctx, ProofName{d.Organisation, d.Name}, false, now)
	return p.Known(d, now)
}

// state gives what is known of a name, asked for if that is due.
func (p *Proofs) state(ctx context.Context, n ProofName, sub bool, now time.Time) ProofState {
	p.mu.RLock()
	state := p.table(sub)[n]
	p.mu.RUnlock()
	if state.due(sub, now) {
		return p.ask(ctx, n, sub, now)
	}
	return state
}

// ask looks a name up. Who asks for the same name meanwhile waits for the same
// answer.
func (p *Proofs) ask(ctx context.Context, n ProofName, sub bool, now time.Time) ProofState {
	p.mu.Lock()
	done, asked := p.asking[n]
	if !asked {
		done = make(chan struct{})
		p.asking[n] = done
	}
	p.mu.Unlock()
	if asked {
		select {
		case <-done:
		case <-ctx.Done():
		}
		p.mu.RLock()
		defer p.mu.RUnlock()
		return p.table(sub)[n]
	}
	// The answer is everybody's: one caller that goes away does not spoil it. The
	// resolver bounds its own time.
	answer := p.lookUp(context.WithoutCancel(ctx), n)
	return p.heard(n, sub, answer, now, done)
}

func (p *Proofs) lookUp(ctx context.Context, n ProofName) Verdict {
	answer, err := p.Resolver.TXT(ctx, ProofPrefix+n.Name.String())
	switch {
	case errors.Is(err, mail.ErrNoDomain):
		return NoRecord
	case err != nil:
		p.log().Warn("domain proof: no answer", "domain", n.Name.String(), "org", string(n.Organisation), "error", err)
		return NoAnswer
	}
	return Judge(answer.Records, n.Organisation, p.Relay)
}

// table is where a name's state is kept.
func (p *Proofs) table(sub bool) map[ProofName]ProofState {
	if sub {
		return p.subs
	}
	return p.states
}

func (p *Proofs) heard(n ProofName, sub bool, answer Verdict, now time.Time, done chan struct{}) ProofState {
	p.mu.Lock()
	defer p.mu.Unlock()
	table := p.table(sub)
	before := table[n]
	after := before.Next(answer, now)
	if before.Verdict != after.Verdict && (!after.agreed() || before.Verdict == AgreesSub) {
		p.lost = time.Now()
	}
	if before.Verdict != after.Verdict {
		p.log().Info("domain proof", "domain", n.Name.String(), "org", string(n.Organisation), "was", before.Verdict.String(), "is", after.Verdict.String())
	}
	if sub {
		p.makeRoom()
	} else {
		p.changed[n] = struct{}{}
	}
	table[n] = after
	delete(p.asking, n)
	close(done)
	return after
}

// makeRoom forgets a sub-domain when there are too many. Which one is up to the
// map's order; it can be asked for again.
func (p *Proofs) makeRoom() {
	for n := range p.subs {
		if len(p.subs) < maxSubnames {
			return
		}
		delete(p.subs, n)
	}
}

func (p *Proofs) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}

// Run looks registered domains up until ctx ends: all at the start and after
// Refresh if they are new, then each when it is due. It saves what changed.
func (p *Proofs) Run(ctx context.Context, registered func() iter.Seq[*Domain]) {
	tick := time.NewTicker(proofSecond)
	defer tick.Stop()
	for {
		p.sweep(ctx, registered())
		p.flush()
		select {
		case <-ctx.Done():
			p.flush()
			return
		case <-tick.C:
		case <-p.wake:
		}
	}
}

// sweep asks for what is due, a few at a time, and forgets what is registered no
// more.
func (p *Proofs) sweep(ctx context.Context, registered iter.Seq[*Domain]) {
	now := time.Now()
	due := p.due(registered, now)
	asking := background.Limit(proofAsking)
	for _, n := range due {
		if ctx.Err() != nil {
			break
		}
		asking.Go(func() { p.ask(ctx, n, false, now) })
	}
	asking.Wait()
}

// due lists registered domains to look up, and drops states of names that are
// registered no more, and of sub-domains nobody asked for since a day.
func (p *Proofs) due(registered iter.Seq[*Domain], now time.Time) (due []ProofName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := make(map[ProofName]struct{}, len(p.states))
	for d := range registered {
		n := ProofName{d.Organisation, d.Name}
		known[n] = struct{}{}
		if p.states[n].dueUnasked(now) {
			due = append(due, n)
		}
	}
	maps.DeleteFunc(p.states, func(n ProofName, _ ProofState) bool { _, ok := known[n]; return !ok })
	maps.DeleteFunc(p.subs, func(_ ProofName, s ProofState) bool { return now.Sub(s.Asked) > proofDaily })
	return due
}

// flush saves the states that changed since the last time. What cannot be saved
// is tried again.
func (p *Proofs) flush() {
	p.mu.Lock()
	var batch []SavedProof
	for n := range p.changed {
		batch = append(batch, SavedProof{n, p.states[n]})
	}
	clear(p.changed)
	p.mu.Unlock()
	if p.Save == nil || len(batch) == 0 {
		return
	}
	if err := p.Save(batch); err != nil {
		p.log().Error("domain proof: states not saved", "count", len(batch), "error", err)
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range batch {
			p.changed[s.ProofName] = struct{}{}
		}
	}
}
