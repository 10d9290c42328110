package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"anechoic/org"
	"anechoic/relay/custody"
)

// OrganisationIs is where an organisation's id stands.
type OrganisationIs string

// The states.
const (
	OrganisationOpen      OrganisationIs = "open"
	OrganisationClosed    OrganisationIs = "closed"    // it left the registry; a registry that names it does not load
	OrganisationReopening OrganisationIs = "reopening" // a person allowed it to come back
)

// OrganisationRecord is an id that is or was in the registry, with what is stored
// under it.
type OrganisationRecord struct {
	ID         string         `json:"id"`
	Name       string         `json:"name,omitempty"` // while it is in the registry
	State      OrganisationIs `json:"state"`
	InRegistry bool           `json:"in_registry"`
	Generation uint64         `json:"generation"` // of the first Directory that knew it
	Since      time.Time      `json:"since"`
	Closed     *time.Time     `json:"closed,omitempty"`
	Queued     int            `json:"queued"`   // messages in custody
	Detained   int            `json:"detained"` // messages
	Keys       int            `json:"keys"`     // private keys sealed in the data directory
}

// Organisations keeps the ids of organisations, those that are gone too.
type Organisations interface {
	List(ctx context.Context) ([]OrganisationRecord, error)
	// Close holds what is queued of an organisation that left the registry and
	// tells what is still there; with dryRun it only tells.
	Close(ctx context.Context, id org.ID, dryRun bool) (OrganisationRecord, error)
	// Reopen lets a closed id stand in the registry again.
	Reopen(ctx context.Context, id org.ID) error
}

// OrganisationList is GET /api/v1/organisations.
type OrganisationList struct {
	Organisations []OrganisationRecord `json:"organisations"`
}

// organisationRecords is GET /api/v1/organisations.
func (s *Server) organisationRecords(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	list, err := s.Organisations.List(ctx)
	return OrganisationList{Organisations: list}, err
}

// OrganisationWish is the body of POST /api/v1/organisations/{id}/{verb}.
type OrganisationWish struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// The verbs of organisations.
const (
	CloseOrganisation  Verb = "close"
	ReopenOrganisation Verb = "reopen"
)

// steerOrganisation is POST /api/v1/organisations/{id}/{verb}. A dry run tells
// what is there and changes nothing.
func (s *Server) steerOrganisation(ctx context.Context, r *http.Request) (any, error) {
	id, verb := org.ID(r.PathValue("id")), Verb(r.PathValue("verb"))
	var wish OrganisationWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	switch verb {
	case CloseOrganisation:
	case ReopenOrganisation:
		if wish.DryRun {
			break
		}
		if err := s.Organisations.Reopen(ctx, id); err != nil {
			return nil, organisationProblem(id, err)
		}
		wish.DryRun = true // and tell what is there
	default:
		return nil, notFound(fmt.Sprintf("%q is nothing that can be done to an organisation", verb), "close or reopen")
	}
	record, err := s.Organisations.Close(ctx, id, wish.DryRun)
	if err != nil {
		return nil, organisationProblem(id, err)
	}
	s.Log.Info("organisation steered", "verb", verb, "org", string(id), "dry_run", wish.DryRun)
	return record, nil
}

func organisationProblem(id org.ID, err error) error {
	switch {
	case errors.Is(err, custody.ErrNotFound):
		return notFound(fmt.Sprintf("there never was an organisation %q", id), "org list names them all")
	case errors.Is(err, ErrConflict):
		return problem(http.StatusConflict, CodeConflict, err.Error(), "see org list")
	}
	return err
}
