package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	return SuspensionList{Suspensions: s.keptBackBy()}, nil
}

// keptBackBy counts what each suspension keeps back.
func (s *Server) keptBackBy() []Suspended {
	list := []Suspended{}
	for _, one := range s.Queue.Suspensions() {
		list = append(list, Suspended{one, s.keptBack(one)})
	}
	return list
}

// keptBack counts the recipients that a suspension is about.
func (s *Server) keptBack(one custody.Suspension) int {
	var f custody.Filter
	switch one.Scope {
	case custody.ScopeOrganisation:
		f.Org = one.Name
	case custody.ScopeSource:
		f.Org, f.Source, _ = strings.Cut(one.Name, "/")
	case custody.ScopeDomain:
		f.Domain, _ = mail.ParseDomain(one.Name) // it is one: see Checked
	case custody.ScopeSite:
		f.Leads = s.leadsTo(one.Name)
	}
	return s.Queue.Queued(f)
}

// steerSuspensions is POST /api/v1/suspensions/{verb}.
func (s *Server) steerSuspensions(ctx context.Context, r *http.Request) (any, error) {
	var wish SuspensionWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	one := custody.Suspension{Scope: wish.Scope, Name: wish.Name, Reason: wish.Reason, By: wish.By, At: time.Now().UTC()}
	if one.By == "" {
		one.By = anOperator
	}
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
	told := Suspended{one, s.keptBack(one)}
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
