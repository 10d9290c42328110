package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// The verbs of suspensions.
const (
	Suspend Verb = "suspend" // mail is leased no more
	Resume  Verb = "resume"
)

// Suspended is one suspension with what it keeps back now.
type Suspended struct {
	custody.Suspension
	Recipients int `json:"recipients"`

	// SiteUnknown is what is queued for domains of which it is found out at their next
	// attempt, before anything is sent, whether a suspended site is theirs. Messages are not counted.
	SiteUnknown *SiteUnknown `json:"site_unknown,omitempty"`
}

// SuspensionList is GET /api/v1/suspensions.
type SuspensionList struct {
	Suspensions []Suspended `json:"suspensions"`
}

// SuspensionWish is the body of POST /api/v1/suspensions/{verb}.
type SuspensionWish struct {
	Scope  custody.Scope `json:"scope"`
	Name   string        `json:"name"`
	Reason string        `json:"reason,omitempty"`
	By     string        `json:"by,omitempty"`
	DryRun bool          `json:"dry_run,omitempty"` // only count
}

// suspensions is GET /api/v1/suspensions.
func (s *Server) suspensions(_ context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	return SuspensionList{Suspensions: s.keptBackBy(s.Queue.Suspensions()...)}, nil
}

// keptBackBy counts what each suspension keeps back.
func (s *Server) keptBackBy(suspensions ...custody.Suspension) []Suspended {
	list := make([]Suspended, len(suspensions))
	sites := map[string]int{}
	for i, one := range suspensions {
		list[i] = Suspended{Suspension: one, Recipients: s.Queue.QueuedUnder(one)}
		if one.Scope == custody.ScopeSite {
			sites[one.Name] = 0
		}
	}
	if len(sites) == 0 {
		return list
	}
	unknown := s.countSites(sites)
	for i := range list {
		if list[i].Scope == custody.ScopeSite {
			list[i].Recipients, list[i].SiteUnknown = sites[list[i].Name], unknown
		}
	}
	return list
}

// countSites counts what is queued for each of some sites, as far as is known where it
// leads: the queue knows domains alone. The rest is counted too, if there is any.
func (s *Server) countSites(queued map[string]int) *SiteUnknown {
	unknown := SiteUnknown{}
	domains := map[mail.Domain]bool{}
	for share := range s.Queue.Shares {
		if share.Queued == 0 {
			continue
		}
		site := s.siteOf(share.Domain, share.Via)
		if n, wanted := queued[site]; wanted {
			queued[site] = n + share.Queued
		}
		if site == "" {
			unknown.Recipients += share.Queued
			domains[share.Domain] = true
		}
	}
	if unknown.Domains = len(domains); unknown.Domains == 0 {
		return nil
	}
	return &unknown
}

// steerSuspensions is POST /api/v1/suspensions/{verb}.
func (s *Server) steerSuspensions(ctx context.Context, r *http.Request) (any, error) {
	var wish SuspensionWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	one := custody.Suspension{Scope: wish.Scope, Name: wish.Name, Reason: wish.Reason, By: asker(r, wish.By), At: time.Now().UTC()}
	one, err := one.Checked()
	if err != nil {
		return nil, badSuspension(err)
	}
	apply := s.Queue.Suspend
	switch Verb(r.PathValue("verb")) {
	case Suspend:
	case Resume:
		apply = s.Queue.Resume
	default:
		return nil, notFound(fmt.Sprintf("%q is nothing that can be done to suspensions", r.PathValue("verb")), "suspend or resume")
	}
	if one.Scope == custody.ScopeSite {
		if err := s.Delivery.SitesRead(ctx); err != nil {
			return nil, err
		}
	}
	told := s.keptBackBy(one)[0]
	if wish.DryRun {
		return told, nil
	}
	if err := apply(ctx, one); err != nil {
		return nil, badSuspension(err)
	}
	s.Log.Info("suspensions changed", "verb", r.PathValue("verb"), "scope", one.Scope, "name", one.Name, "by", one.By)
	return told, nil
}

func badSuspension(err error) error {
	switch {
	case errors.Is(err, custody.ErrBadSuspension):
		return badRequest(err.Error(), "organisation ID, source ORG/ID, domain NAME, or site NAME")
	case errors.Is(err, custody.ErrNotFound):
		return notFound(err.Error(), "queue suspensions lists what is suspended")
	}
	return err
}
