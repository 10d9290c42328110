package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"anechoic/org"
	"anechoic/relay/limit"
)

// BudgetLeft is one cap that a source's mail is counted against.
type BudgetLeft struct {
	Of    string    `json:"of"` // whose: the source, the organisation, a tenant, a domain, or all sources on tiers
	Unit  string    `json:"unit"`
	Most  int64     `json:"most"`
	Left  int64     `json:"left"`
	Whole time.Time `json:"whole,omitzero"` // when all of it is there again, if nothing more is sent
}

// SourceLimits is what a source may send, and why.
type SourceLimits struct {
	Organisation string       `json:"org"`
	Source       string       `json:"source"`
	Kind         string       `json:"kind"`
	By           string       `json:"by"`             // what bounds it: tier, limits (the registry has numbers), or nothing
	Tier         limit.Tier   `json:"tier,omitempty"` // where it stands, also if it is not bound by that
	Why          string       `json:"why,omitempty"`
	Next         limit.Tier   `json:"next,omitempty"`
	Missing      []string     `json:"missing,omitempty"`   // what the next takes yet
	NotBefore    time.Time    `json:"not_before,omitzero"` // when the next comes at the earliest, by age
	Grant        *limit.Grant `json:"grant,omitempty"`
	Budgets      []BudgetLeft `json:"budgets"`
	Messages     int64        `json:"messages"` // in the last 24 hours
	Recipients   int64        `json:"recipients"`
	Bytes        int64        `json:"bytes"`
}

// What bounds a source.
const (
	ByTier    = "tier"
	ByLimits  = "limits"
	ByNothing = "nothing"
)

// LimitList is GET /api/v1/limits.
type LimitList struct {
	Sources []SourceLimits `json:"sources"`
}

// Limits tells and changes what sources may send.
type Limits interface {
	// Of tells of a source; false: there is none.
	Of(o org.ID, source string, now time.Time) (SourceLimits, bool)
	// Grant gives a source a tier, or with nil takes a grant back.
	Grant(ctx context.Context, o org.ID, source string, g *limit.Grant, by string) error
	// Reset forgets what a source spent.
	Reset(ctx context.Context, o org.ID, source string, by string) error
}

// The verbs of limits.
const (
	GrantTier   Verb = "grant"
	RevokeTier  Verb = "revoke"
	ResetLimits Verb = "reset"
)

// LimitWish is the body of POST /api/v1/limits/{org}/{source}/{verb}.
type LimitWish struct {
	Tier  limit.Tier `json:"tier,omitempty"` // grant
	Until time.Time  `json:"until,omitzero"` // grant: when it ends
	Note  string     `json:"note,omitempty"` // grant: why
}

// maxGrant is the longest a tier is granted for: what is to last longer is written in
// the registry.
const maxGrant = 90 * 24 * time.Hour

// limits is GET /api/v1/limits.
func (s *Server) limits(_ context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org")
	if err != nil {
		return nil, err
	}
	dir, _ := s.Directory()
	list := LimitList{Sources: []SourceLimits{}}
	now := time.Now().UTC()
	for o := range dir.Organisations() {
		if want := q.Get("org"); want != "" && want != string(o.ID) {
			continue
		}
		for _, source := range o.Sources {
			if one, ok := s.Limits.Of(o.ID, source.ID, now); ok {
				list.Sources = append(list.Sources, one)
			}
		}
	}
	return list, nil
}

// limit is GET /api/v1/limits/{org}/{source}.
func (s *Server) limit(_ context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	return s.limitsOf(r)
}

func (s *Server) limitsOf(r *http.Request) (SourceLimits, error) {
	one, ok := s.Limits.Of(org.ID(r.PathValue("org")), r.PathValue("source"), time.Now().UTC())
	if !ok {
		return one, notFound(fmt.Sprintf("there is no source %s/%s", r.PathValue("org"), r.PathValue("source")), "source list names them all")
	}
	return one, nil
}

// steerLimits is POST /api/v1/limits/{org}/{source}/{verb}.
func (s *Server) steerLimits(ctx context.Context, r *http.Request) (any, error) {
	var wish LimitWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	before, err := s.limitsOf(r)
	if err != nil {
		return nil, err
	}
	id, by := org.ID(before.Organisation), asker(r, "")
	switch Verb(r.PathValue("verb")) {
	case GrantTier:
		g, err := grantOf(&before, wish, by, time.Now().UTC())
		if err != nil {
			return nil, err
		}
		err = s.Limits.Grant(ctx, id, before.Source, g, by)
		if err != nil {
			return nil, err
		}
	case RevokeTier:
		err = s.Limits.Grant(ctx, id, before.Source, nil, by)
	case ResetLimits:
		err = s.Limits.Reset(ctx, id, before.Source, by)
	default:
		return nil, notFound(fmt.Sprintf("%q is nothing that can be done to limits", r.PathValue("verb")), "grant, revoke or reset")
	}
	if err != nil {
		return nil, err
	}
	return s.limitsOf(r)
}

// grantOf checks what somebody wants to grant.
func grantOf(before *SourceLimits, wish LimitWish, by string, now time.Time) (*limit.Grant, error) {
	_, known := limit.RuleOf(wish.Tier)
	switch {
	case before.By == ByLimits:
		return nil, problem(http.StatusConflict, CodeConflict, fmt.Sprintf("source %s/%s has limits of its own in the registry, so no tier bounds it", before.Organisation, before.Source), "change them there: anechoic source set")
	case !known:
		return nil, badRequest(fmt.Sprintf("%q is no tier", wish.Tier), "new, known, established or trusted")
	case wish.Until.IsZero() || !wish.Until.After(now) || wish.Until.Sub(now) > maxGrant:
		return nil, badRequest("until is over already, or more than 90 days away", "a time to come; what is to last is written in the registry: trust = \"established\"")
	case len(wish.Note) > maxNote:
		return nil, badRequest(fmt.Sprintf("the note has %d octets", len(wish.Note)), fmt.Sprintf("at most %d", maxNote))
	}
	return &limit.Grant{Tier: wish.Tier, Until: wish.Until.UTC(), By: by, Note: wish.Note}, nil
}
