package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"anechoic/control/metrics"
	"anechoic/relay/delivery"
)

// Top is GET /api/v1/top: what flows, and what does not. Counters count since the
// start; two of them make a rate.
type Top struct {
	At            time.Time  `json:"at"`
	Started       time.Time  `json:"started"`
	Queue         QueueDepth `json:"queue"`
	All           Flow       `json:"all"`
	Refused       uint64     `json:"refused"`
	Suspensions   int        `json:"suspensions"`
	Sites         []TopSite  `json:"sites"`         // at most MaxTop, those with most queued and under way first
	Organisations []TopOrg   `json:"organisations"` // likewise
}

// MaxTop is how many sites and organisations Top has.
const MaxTop = 100

// topOfWaits is how many of those with most in custody are looked at: more than are
// shown, because what is under way and what flowed count too.
const topOfWaits = 100 * MaxTop

// Flow is what became of mail since the start.
type Flow struct {
	Accepted  uint64 `json:"accepted"` // messages; of sites always 0
	Attempts  uint64 `json:"attempts"`
	Delivered uint64 `json:"delivered"` // recipients, as the next two
	Deferred  uint64 `json:"deferred"`
	Bounced   uint64 `json:"bounced"`
}

// SiteState says how a site takes mail.
type SiteState string

// The states.
const (
	SiteFlowing   SiteState = "flowing"
	SitePaused    SiteState = "paused"    // it asked for less
	SiteDead      SiteState = "dead"      // it did not answer
	SiteProbing   SiteState = "probing"   // it was dead; one attempt finds out
	SiteSuspended SiteState = "suspended" // by a person
)

// TopSite is one site, or a domain of which no site is known yet.
type TopSite struct {
	Name      string     `json:"site"`
	State     SiteState  `json:"state"`
	Until     *time.Time `json:"until,omitempty"` // of paused and dead
	Queued    int        `json:"queued"`
	OldestDue *time.Time `json:"oldest_due,omitempty"`
	Ready     int        `json:"ready"`
	UnderWay  int        `json:"under_way"`
	Window    int        `json:"window"` // attempts at a time
	Flow
	LastReply string     `json:"last_reply,omitempty"` // that was no success: a stranger's words
	LastAt    *time.Time `json:"last_at,omitempty"`
}

// TopOrg is one organisation.
type TopOrg struct {
	ID        string     `json:"org"`
	Queued    int        `json:"queued"`
	Suspended int        `json:"suspended"` // of those
	OldestDue *time.Time `json:"oldest_due,omitempty"`
	Flow
}

// top is GET /api/v1/top.
func (s *Server) top(_ context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	traffic := s.Traffic.Traffic()
	var sites, organisations metrics.Waits
	for share := range s.Queue.Shares {
		sites.Add(SiteOf(s.Delivery, share.Domain, share.Via), share)
		organisations.Add(share.Organisation, share)
	}
	return Top{
		At: now, Started: s.Node().Started, Queue: depthOf(s.Queue.Depth(), now), All: flowOf(traffic.All), Refused: traffic.Refused,
		Suspensions: len(s.Queue.Suspensions()), Sites: s.topSites(traffic.Sites, &sites, now), Organisations: topOrgs(traffic.Organisations, &organisations),
	}, nil
}

func flowOf(t metrics.Tally) Flow {
	return Flow{Accepted: t.Accepted, Attempts: t.Attempts, Delivered: t.Delivered, Deferred: t.Deferred, Bounced: t.Bounced}
}

// topSites brings together what the queue, delivery and the counters know of sites.
func (s *Server) topSites(traffic []metrics.Ranked, waits *metrics.Waits, now time.Time) []TopSite {
	list := []TopSite{}
	at := map[string]int{}
	of := func(name string) *TopSite {
		i, known := at[name]
		if !known {
			i = len(list)
			at[name] = i
			list = append(list, TopSite{Name: name, State: SiteFlowing})
		}
		return &list[i]
	}
	waiting, _ := waits.List(topOfWaits)
	for _, w := range waiting {
		t := of(w.Name)
		t.Queued, t.OldestDue = w.Queued, timeOrNil(w.Oldest)
	}
	for _, status := range s.Delivery.Sites() {
		t := of(status.Name)
		t.Ready, t.UnderWay, t.Window, t.State = status.Ready, status.UnderWay, status.Window, stateOf(status, now)
		if t.State != SiteFlowing {
			t.Until = timeOrNil(status.Until)
		}
	}
	for _, r := range traffic {
		t := of(r.Name)
		t.Flow, t.LastReply, t.LastAt = flowOf(r.Tally), r.LastReply, timeOrNil(r.LastAt)
	}
	for i := range list {
		if s.Queue.SuspendedSite(list[i].Name) {
			list[i].State, list[i].Until = SiteSuspended, nil
		}
	}
	slices.SortStableFunc(list, func(a, b TopSite) int {
		return cmp.Or(cmp.Compare(b.Queued+b.UnderWay+b.Ready, a.Queued+a.UnderWay+a.Ready), cmp.Compare(b.Attempts, a.Attempts), cmp.Compare(a.Name, b.Name))
	})
	return slices.Clip(list[:min(len(list), MaxTop)])
}

func stateOf(s delivery.SiteStatus, now time.Time) SiteState {
	switch {
	case s.Dead:
		return SiteDead
	case s.Until.After(now):
		return SitePaused
	case s.Probing:
		return SiteProbing
	}
	return SiteFlowing
}

func topOrgs(traffic []metrics.Ranked, waits *metrics.Waits) []TopOrg {
	list := []TopOrg{}
	at := map[string]int{}
	waiting, _ := waits.List(topOfWaits)
	for _, w := range waiting {
		at[w.Name] = len(list)
		list = append(list, TopOrg{ID: w.Name, Queued: w.Queued, Suspended: w.Suspended, OldestDue: timeOrNil(w.Oldest)})
	}
	for _, r := range traffic {
		i, known := at[r.Name]
		if !known {
			i = len(list)
			list = append(list, TopOrg{ID: r.Name})
		}
		list[i].Flow = flowOf(r.Tally)
	}
	slices.SortStableFunc(list, func(a, b TopOrg) int {
		return cmp.Or(cmp.Compare(b.Queued, a.Queued), cmp.Compare(b.Accepted, a.Accepted), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), MaxTop)]
}
