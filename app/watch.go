package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"anechoic/control/api"
	"anechoic/control/metrics"
	"anechoic/ledger"
	"anechoic/relay/custody"
	"anechoic/watch/campaign"
	"anechoic/watch/detect"
)

// Times and bounds of the follower. They are ours: a campaign is to be contained
// within a minute, and nothing here is to be felt by the mail.
const (
	followEvery   = 500 * time.Millisecond
	followAtOnce  = 2000                // facts, between two looks whether the relay stops
	rebuildFrom   = 14 * 24 * time.Hour // how much of the ledger is read where no state is stored
	actWithin     = 15 * time.Minute    // a finding about what is older is kept, not acted on
	findingsKept  = 1000
	positionKey   = "watch/position"
	findingPrefix = "finding/"
)

// follower reads the ledger as it grows, outside the path of any message, and lets
// detection see it:
//
//	ledger ─► detect.Of ─► Detector ─► findings ─► Grouper ─► campaigns
//	                                       └─► responses, facts, alerts
//
// Where it stands is stored with its state, so that a restart goes on where it was.
// After a crash the events since then are read again: they give the same findings,
// and what was told of them (position.Told) is not told twice.
type follower struct {
	store    custody.Engine
	metrics  *metrics.Metrics
	log      *slog.Logger
	detector *detect.Detector
	grouper  *campaign.Grouper
	act      func(context.Context, []detect.Finding) // responses
	tell     func(context.Context, told)

	at       position
	findings map[string]*foundOnce // by id
	saveNext time.Time
	dirty    bool // since saved
	shown    atomic.Pointer[api.Watched]
}

// position is where the follower stands.
type position struct {
	Next     uint64   `json:"next"`           // offset of the next fact
	Told     uint64   `json:"told"`           // what follows from facts before it was told
	Detector []string `json:"detector_state"` // names of the pieces of its state, in order
	Grouper  []string `json:"grouper_state"`
}

// foundOnce is a finding as it was last told.
type foundOnce struct {
	detect.Finding
	told int // messages, then
	step detect.Step
}

// told is what came of some facts.
type told struct {
	findings  []detect.Finding
	campaigns []campaign.Update
	grouped   map[string]bool // ids of findings that belong to a campaign
}

// openWatch reads back what detection knew.
func (a *App) openWatch() error {
	w := &follower{
		store: a.store, metrics: a.metrics, log: a.log, detector: detect.New(detect.Options{}), grouper: campaign.New(campaign.Options{}), findings: map[string]*foundOnce{},
		act: a.answerFindings, tell: a.tellWatched,
	}
	a.watch = w
	return w.open(context.Background(), time.Now())
}

// open reads the position and the state. State that does not open is made anew from
// the ledger; that is told in the log.
func (w *follower) open(ctx context.Context, now time.Time) error {
	if err := w.loadFindings(ctx); err != nil {
		return err
	}
	defer w.publish()
	stored, err := w.store.Get(ctx, positionKey)
	if err == nil {
		err = json.Unmarshal(stored, &w.at)
	}
	if err == nil {
		err = w.restore(ctx)
	}
	w.loadTold(ctx)
	if err == nil {
		return w.sweepState(ctx)
	}
	if !errors.Is(err, custody.ErrNotFound) {
		w.log.Warn("what detection knew does not open and is made anew from the ledger", "error", err)
	}
	w.detector, w.grouper = detect.New(detect.Options{}), campaign.New(campaign.Options{})
	next, err := firstSince(ctx, w.store, now.Add(-rebuildFrom))
	w.at = position{Next: next, Told: max(w.at.Told, w.at.Next)}
	return errors.Join(err, w.sweepState(ctx))
}

// loadTold brings Told in line with what was told since the last save.
func (w *follower) loadTold(ctx context.Context) {
	var since toldPosition
	if stored, err := w.store.Get(ctx, toldKey); err == nil && json.Unmarshal(stored, &since) == nil {
		w.at.Told = max(w.at.Told, since.Told)
	}
}

// firstSince is the offset of the first fact of a time or later, found by halves.
func firstSince(ctx context.Context, source ledger.Scanner, since time.Time) (uint64, error) {
	var low, high uint64 = 0, 1 << 40 // more facts than a disk holds
	for low < high {
		middle := low + (high-low)/2
		later, found := true, ledger.Fact{}
		err := ledger.Read(ctx, source, middle, func(f ledger.Fact) bool {
			found, later = f, !f.Time.Before(since)
			return false
		})
		switch {
		case err != nil:
			return low, err
		case later:
			high = middle
		default:
			low = found.Offset + 1
		}
	}
	// Where all is older there is nothing at high: facts are numbered without gaps.
	return low, nil
}

// run follows until ctx is over, and writes down where it stands.
func (w *follower) run(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		for w.follow(ctx, time.Now().UTC()) && ctx.Err() == nil {
		}
		w.due(ctx, time.Now().UTC())
		select {
		case <-ctx.Done():
			w.save(context.WithoutCancel(ctx), time.Now())
			return
		case <-tick.C:
		}
	}
}

// due does what time asks for.
func (w *follower) due(ctx context.Context, now time.Time) {
	var t told
	for _, f := range w.detector.Tick(now) {
		w.found(&t, f)
	}
	t.campaigns = append(t.campaigns, w.grouper.Tick(now)...)
	w.settle(ctx, t, now)
	if w.dirty && !now.Before(w.saveNext) {
		w.save(ctx, now)
	}
}

// follow takes the next facts. It says whether there may be more at once.
func (w *follower) follow(ctx context.Context, now time.Time) (more bool) {
	facts := make([]ledger.Fact, 0, 64)
	err := ledger.Read(ctx, w.store, w.at.Next, func(f ledger.Fact) bool {
		facts = append(facts, f)
		return len(facts) < followAtOnce
	})
	var t told
	for i := range facts {
		w.take(&t, &facts[i])
	}
	if err != nil && ctx.Err() == nil {
		w.metrics.WatchSkipped()
		w.log.Error("a fact could not be read, detection goes on behind it", "offset", w.at.Next, "error", err)
		w.at.Next++
	}
	if len(facts) > 0 {
		w.dirty = true
		w.settle(ctx, t, now)
	}
	w.metrics.Watched(len(facts), w.lag(facts, now))
	return len(facts) == followAtOnce
}

// lag is how far the follower is behind.
func (w *follower) lag(facts []ledger.Fact, now time.Time) time.Duration {
	if len(facts) < followAtOnce {
		return 0
	}
	return max(now.Sub(facts[len(facts)-1].Time), 0)
}

// take lets detection see a fact. The fact counts as seen before it is: one that
// makes detection fail is met once.
func (w *follower) take(t *told, f *ledger.Fact) {
	w.at.Next = f.Offset + 1
	event, ok := detect.Of(*f)
	if !ok {
		return
	}
	var here told
	for _, finding := range w.detector.Observe(event) {
		w.found(&here, finding)
	}
	if event.What == detect.Refused {
		if c, change := w.grouper.Refused(event); change != campaign.Unchanged {
			here.campaigns = append(here.campaigns, campaign.Update{Campaign: c, Change: change})
		}
	}
	if f.Offset < w.at.Told {
		return // before a crash
	}
	t.findings = append(t.findings, here.findings...)
	t.campaigns = append(t.campaigns, here.campaigns...)
	if len(here.grouped) > 0 && t.grouped == nil {
		t.grouped = map[string]bool{}
	}
	maps.Copy(t.grouped, here.grouped)
}

// found takes a finding into the campaigns.
func (w *follower) found(t *told, f detect.Finding) {
	t.findings = append(t.findings, f)
	c, change := w.grouper.Add(f)
	if change != campaign.Unchanged {
		t.campaigns = append(t.campaigns, campaign.Update{Campaign: c, Change: change})
	}
	if c.ID != "" {
		if t.grouped == nil {
			t.grouped = map[string]bool{}
		}
		t.grouped[f.ID] = true
	}
}

// settle acts on what was found, tells it, and writes it down; in this order, so that a
// crash in between does one of them again rather than not at all.
func (w *follower) settle(ctx context.Context, t told, now time.Time) {
	if len(t.findings) == 0 && len(t.campaigns) == 0 {
		return
	}
	recent := slices.DeleteFunc(slices.Clone(t.findings), func(f detect.Finding) bool { return f.Ended || now.Sub(f.Last) > actWithin })
	w.act(ctx, recent)
	b := &custody.Batch{}
	w.tell(ctx, w.note(b, t, now))
	if len(b.Facts) > 0 {
		w.at.Told = w.at.Next
		text, err := json.Marshal(toldPosition{Told: w.at.Told})
		if err == nil {
			b.Put = append(b.Put, custody.Record{Key: toldKey, Value: text})
			err = w.store.Commit(ctx, b)
		}
		if err != nil {
			w.log.Error("findings could not be written to the ledger", "facts", len(b.Facts), "error", err)
		}
	}
	w.publish()
}

// toldKey is where Told is kept between two saves.
const toldKey = "watch/told"

type toldPosition struct {
	Told uint64 `json:"told"`
}

// note puts what is worth telling into a batch: findings that are new, propose more, or
// doubled, and campaigns that opened, grew or ended.
func (w *follower) note(b *custody.Batch, t told, now time.Time) (news told) {
	news.grouped = t.grouped
	for _, f := range t.findings {
		known := w.findings[f.ID]
		isNews := known == nil || f.Ended != known.Ended || f.Propose.Step > known.step || f.Messages >= 2*known.told
		if known == nil {
			known = &foundOnce{}
			w.findings[f.ID] = known
			w.metrics.Found(string(f.Kind))
		}
		if known.Finding = f; !isNews {
			continue
		}
		known.told, known.step = f.Messages, f.Propose.Step
		news.findings = append(news.findings, f)
		b.Facts = append(b.Facts, ledger.Fact{
			Time: now, Event: ledger.Finding, Org: f.Scope.Org, Source: f.Scope.Source, Detail: printable(f.ID + " " + string(f.Kind) + ": " + f.Sentence),
		})
		if text, err := json.Marshal(f); err == nil {
			b.Put = append(b.Put, custody.Record{Key: findingKey(f.ID), Value: text})
		}
	}
	for _, u := range t.campaigns {
		if u.Change == campaign.Unchanged {
			continue
		}
		news.campaigns = append(news.campaigns, u)
		b.Facts = append(b.Facts, ledger.Fact{Time: now, Event: ledger.Campaign, Detail: printable(fmt.Sprintf("%s %s: %s (%d messages, %d got through)", u.Campaign.ID, campaignWords[u.Change], u.Campaign.Title, u.Campaign.Messages, u.Campaign.Left))})
	}
	w.forgetFindings(b)
	return news
}

var campaignWords = map[campaign.Change]string{campaign.Opened: "opened", campaign.Grew: "grew", campaign.Merged: "merged", campaign.Ended: "ended"}

// forgetFindings drops the findings that were not seen for longest.
func (w *follower) forgetFindings(b *custody.Batch) {
	if len(w.findings) <= findingsKept {
		return
	}
	for _, f := range w.list()[findingsKept:] {
		delete(w.findings, f.ID)
		b.Delete = append(b.Delete, findingKey(f.ID))
	}
}

// findingKey is short and printable whatever the id is.
func findingKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return findingPrefix + hex.EncodeToString(sum[:16])
}

// list is the findings, the latest first.
func (w *follower) list() []detect.Finding {
	all := make([]detect.Finding, 0, len(w.findings))
	for _, f := range w.findings {
		all = append(all, f.Finding)
	}
	slices.SortFunc(all, func(a, b detect.Finding) int { return cmp.Or(b.Last.Compare(a.Last), strings.Compare(a.ID, b.ID)) })
	return all
}

// loadFindings reads back the findings, and what was told. A finding that cannot be
// read is passed over: it is in the ledger.
func (w *follower) loadFindings(ctx context.Context) error {
	err := w.store.Scan(ctx, findingPrefix, "", func(_ string, value []byte) bool {
		var f detect.Finding
		if json.Unmarshal(value, &f) == nil && f.ID != "" {
			w.findings[f.ID] = &foundOnce{Finding: f, told: f.Messages, step: f.Propose.Step}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("watch: findings: %w", err)
	}
	return nil
}

// publish makes lists for those who ask.
func (w *follower) publish() {
	w.shown.Store(&api.Watched{Findings: w.list(), Campaigns: w.grouper.List()})
	open := 0
	for _, c := range w.shown.Load().Campaigns {
		if c.Open {
			open++
		}
	}
	w.metrics.CampaignsOpen(open)
}

// runResponses ends what is over.
func (a *App) runResponses(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		changes, err := a.responses.tick(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Error("responses could not be ended", "error", err)
		}
		a.tellResponses(ctx, changes)
		a.releaseLifted(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// answerFindings lets responses answer.
func (a *App) answerFindings(ctx context.Context, findings []detect.Finding) {
	changes, err := a.responses.consider(ctx, findings)
	if err != nil && ctx.Err() == nil {
		a.log.Error("findings could not be answered", "findings", len(findings), "error", err)
	}
	a.tellResponses(ctx, changes)
}
