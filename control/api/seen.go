package api

import (
	"context"
	"net/http"

	"anechoic/org"
	"anechoic/watch/seen"
)

// SeenTenant is one tenant whose mail was refused because it is nobody's source.
type SeenTenant struct {
	seen.Tenant
	// Source is whose source the tenant is by now, as organisation/source; empty:
	// its mail is refused.
	Source string `json:"source,omitempty"`
	// Replace names the secrets that this tenant knows and that are still in force.
	Replace []seen.Leak `json:"replace,omitempty"`
}

// SeenPage is GET /api/v1/seen.
type SeenPage struct {
	Tenants []SeenTenant `json:"tenants"` // those with most messages first
	Total   int          `json:"total"`
}

// seen is GET /api/v1/seen, of one organisation whose domains were claimed with
// ?org=, of one tenant with ?tenant=.
func (s *Server) seen(_ context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org", "tenant", "limit")
	if err != nil {
		return nil, err
	}
	limit, err := limitParameter(q.Get("limit"), 100)
	if err != nil {
		return nil, err
	}
	dir, _ := s.Directory()
	found := s.Seen.List(seen.Filter{Org: org.ID(q.Get("org")), Tenant: q.Get("tenant")})
	page := SeenPage{Tenants: []SeenTenant{}, Total: len(found)}
	for _, k := range found[:min(limit, len(found))] {
		told := SeenTenant{Tenant: k}
		if source, ok := dir.Tenant(k.Tenant); ok {
			told.Source = string(source.Organisation) + "/" + source.ID
		}
		for _, l := range k.Leaks {
			if l.Stands(dir) {
				told.Replace = append(told.Replace, l)
			}
		}
		told.Leaks = nil // with digests of secrets: nobody needs them
		for i := range told.Replace {
			told.Replace[i].Digest = ""
		}
		page.Tenants = append(page.Tenants, told)
	}
	return page, nil
}
