package tracking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/org"
)

// Bounds of one answer.
const (
	MaxPage     = 1000
	usualBudget = 2 * time.Second
	maxScanned  = 500_000 // facts looked at one by one

	gapWindow = 1024                   // facts of the ledger that are read at a time where the index has a gap
	turn      = 250 * time.Millisecond // how long a search waits to read the newest facts
)

// Page says which page of the facts of a query is wanted.
type Page struct {
	Org       org.ID        // bound to this organisation; empty: to none
	Limit     int           // at most MaxPage; zero: 100
	Ascending bool          // oldest first; else newest first
	After     string        // Next of the page before; empty: the first
	Budget    time.Duration // zero: two seconds
	Scan      int           // facts looked at, at most; zero: half a million
}

// Why a page ended.
const (
	EndedComplete = "complete" // there is no more
	EndedPage     = "page"     // it is full; Next goes on
	EndedBudget   = "budget"   // the time for one answer was over; Next goes on
)

// Answer is a page of facts in the order of the ledger, and what it covers.
type Answer struct {
	Facts     []ledger.Fact `json:"facts"`
	Next      string        `json:"next,omitempty"` // goes on after this page; absent: there is no more
	Statement Statement     `json:"statement"`
}

// Statement says exactly what an answer covers.
type Statement struct {
	Query   string     `json:"query,omitempty"` // as it was understood
	Since   *time.Time `json:"since,omitempty"` // the window asked for
	Until   *time.Time `json:"until,omitempty"`
	Kept    *time.Time `json:"kept_since,omitempty"` // what is older is found no more
	Org     org.ID     `json:"org,omitempty"`        // bound to
	Ended   string     `json:"ended"`                // complete, page or budget
	Scanned int        `json:"scanned"`              // facts looked at one by one
	From    uint64     `json:"from_offset"`          // every fact from here …
	To      uint64     `json:"to_offset"`            // … to before here is covered by this answer
	AsOf    uint64     `json:"as_of_offset"`         // facts from here on are not in the index yet
	At      time.Time  `json:"as_of"`                // when that was
	Behind  bool       `json:"behind,omitempty"`     // the ledger has more, which is being indexed
	Gaps    []string   `json:"gaps,omitempty"`       // offsets that are indexed anew: the ledger itself was read
}

// String is the statement for a person.
func (s Statement) String() string {
	var b strings.Builder
	switch s.Ended {
	case EndedComplete:
		b.WriteString("complete")
	case EndedPage:
		b.WriteString("a page; more follow")
	case EndedBudget:
		fmt.Fprintf(&b, "stopped after %d facts, before all was searched; it goes on from there", s.Scanned)
	}
	fmt.Fprintf(&b, "; offsets %d to %d, as of %s", s.From, s.To, s.At.UTC().Format(time.RFC3339))
	if s.Behind {
		b.WriteString("; newer facts are still being indexed")
	}
	if len(s.Gaps) > 0 {
		b.WriteString("; being indexed anew: offsets " + strings.Join(s.Gaps, ", "))
	}
	if s.Kept != nil {
		b.WriteString("; kept since " + s.Kept.UTC().Format(time.RFC3339))
	}
	return b.String()
}

// Search gives a page of the facts of a query. It looks at everything that is in the
// ledger when it begins, unless the index is far behind, which it says.
func (i *Index) Search(ctx context.Context, q Query, page Page) (Answer, error) {
	h, err := i.hunt(ctx, q, page, time.Now())
	if err != nil {
		return Answer{}, err
	}
	for _, piece := range h.pieces {
		if h.full() {
			break
		}
		if err := h.piece(ctx, piece); err != nil {
			return Answer{}, err
		}
	}
	return h.answer, h.end()
}

// hunt is one search under way.
type hunt struct {
	index    *Index
	query    Query // with sums
	match    *matcher
	page     Page
	policy   Policy
	now      time.Time
	deadline time.Time
	pieces   []piece
	reach    stretch // what is to be covered
	at       uint64  // all before it, in the order of the search, is covered
	stopped  string  // why it ended early
	answer   Answer
}

// piece is a stretch of offsets, and where it is found: in a partition, in memory, or
// else in the ledger alone.
type piece struct {
	stretch
	part   *partition
	memory bool
	recent []entry
}

// hunt prepares a search.
func (i *Index) hunt(ctx context.Context, q Query, page Page, now time.Time) (*hunt, error) {
	i.refresh(ctx)
	page.Limit = min(cmp.Or(max(page.Limit, 0), 100), MaxPage)
	page.Scan = cmp.Or(page.Scan, maxScanned)
	h := &hunt{index: i, query: i.key.covered(q), page: page, policy: i.rules(), now: now, deadline: time.Now().Add(cmp.Or(page.Budget, usualBudget))}
	h.answer.Facts = []ledger.Fact{}
	s := &h.answer.Statement
	*s = Statement{Query: q.String(), Since: given(q.Since), Until: given(q.Until), Org: page.Org}
	if page.Org != "" {
		h.query.conditions = append(h.query.conditions, condition{field: fieldNamed("org"), spans: []span{exactly(term(kindOrg, string(page.Org))), exactly(term(kindClaimed, string(page.Org)))}})
	}
	h.match = newMatcher(h.query)
	keep := h.policy.longest()
	if page.Org != "" {
		keep = h.policy.rule(&ledger.Fact{Org: string(page.Org)}).Keep
	}
	if keep > 0 {
		s.Kept = given(now.Add(-keep).UTC())
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	s.AsOf, s.At, s.Behind = i.end, i.latest.UTC(), i.behind
	h.reach = stretch{i.floor, i.end}
	if page.After != "" {
		at, err := strconv.ParseUint(page.After, 10, 63)
		if err != nil {
			return nil, &ParseError{1, fmt.Sprintf("%q is no place to go on from", cut(page.After, 40)), "give what the page before had as next"}
		}
		if page.Ascending {
			h.reach.first = min(max(at, i.floor), i.end)
		} else {
			h.reach.next = max(min(at, i.end), i.floor)
		}
	}
	h.at = h.reach.next
	if page.Ascending {
		h.at = h.reach.first
	}
	h.pieces = i.piecesOf(h.reach)
	if !page.Ascending {
		slices.Reverse(h.pieces)
	}
	return h, nil
}

func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// refresh reads what is new in the ledger, unless others keep the index busy.
func (i *Index) refresh(ctx context.Context) {
	wait := time.NewTimer(turn)
	defer wait.Stop()
	select {
	case i.ingest <- struct{}{}:
		if _, err := i.pull(ctx, pullAtOnce); err != nil && ctx.Err() == nil {
			i.log.Error("the newest facts cannot be read", "error", err)
		}
		<-i.ingest
	case <-wait.C:
	case <-ctx.Done():
	}
}

// piecesOf divides a stretch. mu is held.
func (i *Index) piecesOf(all stretch) (list []piece) {
	add := func(p piece) {
		if p.first, p.next = max(p.first, all.first), min(p.next, all.next); p.first < p.next {
			list = append(list, p)
		}
	}
	at := i.floor
	for _, p := range i.parts {
		next := p.next()
		if p.first > at {
			add(piece{stretch: stretch{at, p.first}})
		}
		add(piece{stretch: stretch{max(p.first, at), next}, part: p})
		at = max(at, next)
	}
	if i.since > at {
		add(piece{stretch: stretch{at, i.since}})
	}
	add(piece{stretch: stretch{i.since, i.end}, memory: true, recent: i.recent})
	return list
}

// piece searches one piece, and reads the ledger in the place of a partition that fails.
func (h *hunt) piece(ctx context.Context, p piece) error {
	switch {
	case p.part != nil:
		err := h.partition(ctx, p)
		if !errors.Is(err, errDamaged) && !errors.Is(err, errGone) {
			return err
		}
		if errors.Is(err, errDamaged) {
			h.index.damaged(p.part, err)
		}
		return h.gap(ctx, h.rest(p.stretch))
	case p.memory:
		return h.memory(ctx, p)
	}
	return h.gap(ctx, p.stretch)
}

// damaged sets a partition aside; it is made again by the next Sweep.
func (i *Index) damaged(p *partition, why error) {
	select {
	case i.ingest <- struct{}{}:
		defer func() { <-i.ingest }()
	case <-time.After(turn):
		p.mu.Lock()
		p.checked = false // Sweep looks at it
		p.mu.Unlock()
		return
	}
	i.log.Error("a part of the tracking index is damaged: it is set aside, and made again from the ledger", "partition", daysOf(p), "error", why)
	if err := i.dropHeld(p, why); err != nil {
		i.log.Error("a damaged part of the tracking index cannot be set aside", "error", err)
	}
}

// rest is what of a stretch is not covered yet.
func (h *hunt) rest(s stretch) stretch {
	if h.page.Ascending {
		s.first = max(s.first, h.at)
	} else {
		s.next = min(s.next, h.at)
	}
	return s
}

// full says that the page has what it can have.
func (h *hunt) full() bool { return h.stopped != "" }

// covered notes that everything of a stretch was looked at.
func (h *hunt) covered(s stretch) {
	if h.page.Ascending {
		h.at = s.next
	} else {
		h.at = s.first
	}
}

// offer takes a fact if it is one of the query's. It says whether the search goes on.
func (h *hunt) offer(f *ledger.Fact) bool {
	h.answer.Statement.Scanned++
	h.covered(stretch{f.Offset, f.Offset + 1})
	rule := h.policy.rule(f)
	if !rule.ended(f.Time, h.now) && (h.page.Org == "" || owner(f) == h.page.Org) {
		if rule.Mode != Full {
			hidden := h.index.key.cover(*f, rule.Mode)
			f = &hidden
		}
		if h.match.match(f) {
			h.answer.Facts = append(h.answer.Facts, *f)
		}
	}
	if len(h.answer.Facts) >= h.page.Limit {
		h.stopped = EndedPage
	}
	if n := h.answer.Statement.Scanned; n%clockEvery == 0 || n >= h.page.Scan {
		h.spend()
	}
	return !h.full()
}

// clockEvery is how many facts are looked at between two looks at the clock.
const clockEvery = 64

// spend ends a search whose time is over. It has looked at something by then, so that
// every page goes on.
func (h *hunt) spend() {
	if h.stopped == "" && (h.answer.Statement.Scanned >= h.page.Scan || time.Now().After(h.deadline)) {
		h.stopped = EndedBudget
	}
}

// partition searches a partition, batch by batch.
func (h *hunt) partition(ctx context.Context, p piece) error {
	batches := p.part.stand()
	r, err := p.part.read(h.query)
	if err != nil {
		return err
	}
	defer r.close()
	for n := range batches {
		b := batches[n]
		if !h.page.Ascending {
			b = batches[len(batches)-1-n]
		}
		s := stretch{max(b.first, p.first), min(b.next, p.next)}
		if s = h.rest(s); s.first >= s.next {
			continue
		}
		if h.query.passes(b) {
			if err := h.batch(ctx, r, b, s); err != nil {
				return err
			}
		}
		if h.full() {
			return nil
		}
		h.covered(s)
		h.spend()
		if h.full() {
			return nil
		}
	}
	h.covered(p.stretch)
	return ctx.Err()
}

// passes says that facts of a batch may lie in the window of the query.
func (q Query) passes(b batch) bool {
	return (q.Since.IsZero() || b.high >= q.Since.UnixMilli()) && (q.Until.IsZero() || b.low <= q.Until.UnixMilli())
}

// batch offers the facts of a batch, as far as they lie in a stretch.
func (h *hunt) batch(ctx context.Context, r *reading, b batch, s stretch) error {
	rows, err := r.rows(ctx, b)
	if err != nil {
		return err
	}
	for row := range rows.all(h.page.Ascending) {
		f, err := r.fact(ctx, b, row)
		if err != nil {
			return err
		}
		if f.Offset >= s.first && f.Offset < s.next && !h.offer(&f) {
			return nil
		}
	}
	return nil
}

// memory searches the latest facts.
func (h *hunt) memory(ctx context.Context, p piece) error {
	for n := range p.recent {
		e := &p.recent[n]
		if !h.page.Ascending {
			e = &p.recent[len(p.recent)-1-n]
		}
		if e.fact.Offset >= p.first && e.fact.Offset < p.next && !h.offer(&e.fact) {
			return nil
		}
	}
	h.covered(p.stretch)
	return ctx.Err()
}

// gap searches the ledger itself.
func (h *hunt) gap(ctx context.Context, all stretch) error {
	if all.first >= all.next {
		return nil
	}
	h.answer.Statement.Gaps = append(h.answer.Statement.Gaps, all.String())
	for all.first < all.next && !h.full() {
		window := stretch{all.first, min(all.first+gapWindow, all.next)}
		if !h.page.Ascending {
			window = stretch{max(all.first, all.next-min(gapWindow, all.next)), all.next}
		}
		list, _, err := load(ctx, h.index.ledger, window.first, int(window.next-window.first))
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(e entry) bool { return e.fact.Offset >= window.next })
		if err := h.memory(ctx, piece{stretch: window, recent: list}); err != nil {
			return err
		}
		if h.page.Ascending {
			all.first = window.next
		} else {
			all.next = window.first
		}
		h.spend()
	}
	return nil
}

// end states what was covered.
func (h *hunt) end() error {
	s := &h.answer.Statement
	s.From, s.To = h.at, h.reach.next
	if h.page.Ascending {
		s.From, s.To = h.reach.first, h.at
	}
	more := s.From > h.index.lowest()
	if h.page.Ascending {
		more = s.To < s.AsOf
	}
	switch {
	case h.stopped != "" && more:
		s.Ended, h.answer.Next = h.stopped, strconv.FormatUint(h.at, 10)
	default:
		s.Ended = EndedComplete
	}
	return nil
}

// lowest is the offset below which nothing is kept.
func (i *Index) lowest() uint64 {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.floor
}
