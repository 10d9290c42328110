package metrics

import (
	"cmp"
	"slices"
	"time"

	"anechoic/ledger"
)

// MaxRanked is how many sites, and how many organisations, have series of their own
// beside the one of all others.
const MaxRanked = 50

const (
	maxCandidates = 1000             // names that may come to have a series
	halfLife      = 10 * time.Minute // of what counts for a name's rank
	maxLastReply  = 200              // octets kept of a site's last bad answer
)

// Tally is what became of the mail of one site or organisation.
type Tally struct {
	Accepted  uint64 // messages, of organisations
	Attempts  uint64
	Delivered uint64 // recipients, as the next two
	Deferred  uint64
	Bounced   uint64

	Busy   time.Duration // of all attempts together
	Waited time.Duration // of all delivered recipients together: from the time in their message's id

	LastReply string // that was no success: a stranger's words
	LastAt    time.Time
}

// Ranked is the tally of a name that has a series.
type Ranked struct {
	Name string
	Tally
}

// Traffic is what flowed since the start.
type Traffic struct {
	All           Tally
	Refused       uint64
	Sites         []Ranked // by name; Other is the last, if there are others
	Organisations []Ranked // likewise
}

// Traffic gives what was counted.
func (m *Metrics) Traffic() Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Traffic{All: m.all, Refused: m.refusals, Sites: m.sites.list(), Organisations: m.orgs.list()}
}

// ranking counts by names that strangers choose, in bounded room: names with most
// traffic have a tally of their own, all others share one. A name that takes the
// place of another begins at zero, and what that one had is forgotten: so a tally
// never goes down but to zero, as counters may.
type ranking struct {
	named      map[string]*ranked
	candidates map[string]float64 // what names without a tally had lately
	rest       Tally
	used       bool // rest was
	halved     time.Time
}

type ranked struct {
	Tally
	score float64 // lately
}

func newRanking() ranking {
	return ranking{named: map[string]*ranked{}, candidates: map[string]float64{}}
}

// of is where traffic of a name is counted.
func (r *ranking) of(name string, now time.Time) *Tally {
	r.age(now)
	if n := r.named[name]; n != nil {
		n.score++
		return &n.Tally
	}
	if len(r.named) < MaxRanked || r.overtakes(name) {
		n := &ranked{score: 1 + r.candidates[name]}
		delete(r.candidates, name)
		r.named[name] = n
		return &n.Tally
	}
	r.used = true
	return &r.rest
}

// overtakes counts for a candidate, and makes room for it if it had twice the traffic
// of the name that has least.
func (r *ranking) overtakes(name string) bool {
	if _, known := r.candidates[name]; !known && len(r.candidates) >= maxCandidates {
		r.halve()
		if len(r.candidates) >= maxCandidates {
			clear(r.candidates)
		}
	}
	r.candidates[name]++
	least := ""
	for other, n := range r.named {
		if least == "" || n.score < r.named[least].score {
			least = other
		}
	}
	if r.candidates[name] < 2*r.named[least].score+1 {
		return false
	}
	delete(r.named, least)
	return true
}

// age lets what was longer ago count less.
func (r *ranking) age(now time.Time) {
	if r.halved.IsZero() {
		r.halved = now
	}
	for n := 0; now.Sub(r.halved) >= halfLife; n++ {
		if r.halved = r.halved.Add(halfLife); n > 16 {
			r.halved = now
		}
		r.halve()
	}
}

func (r *ranking) halve() {
	for _, n := range r.named {
		n.score /= 2
	}
	for name := range r.candidates {
		if r.candidates[name] /= 2; r.candidates[name] < 1 {
			delete(r.candidates, name)
		}
	}
}

func (r *ranking) list() []Ranked {
	list := make([]Ranked, 0, len(r.named)+1)
	for name, n := range r.named {
		list = append(list, Ranked{name, n.Tally})
	}
	slices.SortFunc(list, func(a, b Ranked) int { return cmp.Compare(a.Name, b.Name) })
	if r.used {
		list = append(list, Ranked{Other, r.rest})
	}
	return list
}

// traffic counts a fact for its site and organisation.
func (m *Metrics) traffic(f ledger.Fact) {
	n := uint64(max(len(f.Rcpt), 1))
	var count func(*Tally)
	switch f.Event {
	case ledger.Accepted:
		count = func(t *Tally) { t.Accepted++ }
	case ledger.Delivered:
		waited := waitOf(f) * time.Duration(n)
		count = func(t *Tally) { t.Delivered += n; t.Waited += waited }
	case ledger.Deferred:
		if f.Reply == "" {
			return // nobody was asked
		}
		count = func(t *Tally) { t.Deferred += n; t.failed(f) }
	case ledger.Bounced:
		count = func(t *Tally) { t.Bounced += n; t.failed(f) }
	case ledger.Refused:
		m.mu.Lock()
		m.refusals += uint64(max(f.Count, 1))
		m.mu.Unlock()
		return
	default:
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	count(&m.all)
	if f.Site != "" {
		count(m.sites.of(f.Site, f.Time))
	}
	if f.Org != "" {
		count(m.orgs.of(f.Org, f.Time))
	}
}

func (t *Tally) failed(f ledger.Fact) {
	t.LastReply, t.LastAt = f.Reply[:min(len(f.Reply), maxLastReply)], f.Time
}

// waitOf is how long a message was here.
func waitOf(f ledger.Fact) time.Duration {
	kept, ok := f.ID.Time()
	if !ok {
		return 0
	}
	return max(f.Time.Sub(kept), 0)
}
