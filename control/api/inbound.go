package api

import (
	"context"
	"net/http"

	"anechoic/mail"
	"anechoic/org"
)

// Severity is how a finding of a check is to be taken.
type Severity string

// The severities.
const (
	Fine    Severity = "ok"
	Wrong   Severity = "problem"
	Unclear Severity = "unknown" // it could not be found out from here
)

// InboundFinding is one thing that was tried.
type InboundFinding struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Fix      string   `json:"fix,omitempty"` // what to do about a problem
}

// InboundCheck is GET /api/v1/inbound/{domain}/check: whether mail for a domain comes
// this way, and no other way around it.
type InboundCheck struct {
	Domain       string           `json:"domain"`
	Organisation string           `json:"org"`
	DeliverTo    string           `json:"deliver_to"`
	Findings     []InboundFinding `json:"findings"`
}

// Problems says whether something is wrong.
func (c *InboundCheck) Problems() bool {
	for _, f := range c.Findings {
		if f.Severity == Wrong {
			return true
		}
	}
	return false
}

// checkInbound is GET /api/v1/inbound/{domain}/check.
func (s *Server) checkInbound(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	name, err := mail.ParseDomain(r.PathValue("domain"))
	if err != nil {
		return nil, badRequest(err.Error(), "a domain, as acme.example")
	}
	dir, _ := s.Directory()
	route, ok := dir.InboundFor(name)
	if !ok {
		return nil, notFound("no organisation takes mail for "+name.String()+" here", "[[organisation.inbound]] of the registry names the domains")
	}
	return InboundCheck{
		Domain: name.String(), Organisation: string(route.Organisation), DeliverTo: route.DeliverTo, Findings: s.CheckInbound(ctx, name, route),
	}, nil
}

// CheckInbound tries the ways of inbound mail.
type CheckInbound func(ctx context.Context, name mail.Domain, route *org.Inbound) []InboundFinding
