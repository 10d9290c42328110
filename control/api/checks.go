package api

import (
	"context"
	"net/http"

	"anechoic/control/probe"
)

// SelfChecks is GET /api/v1/checks: what only the running relay can say of itself.
type SelfChecks struct {
	Checks []probe.Check `json:"checks"`
}

// checks is GET /api/v1/checks.
func (s *Server) checks(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	told := SelfChecks{Checks: []probe.Check{}}
	if s.Examine != nil {
		told.Checks = append(told.Checks, s.Examine(ctx)...)
	}
	return told, nil
}

// Checks asks the relay what it says of itself.
func (c *Client) Checks(ctx context.Context) ([]probe.Check, error) {
	told, err := get[SelfChecks](ctx, c, "/api/v1/checks", nil)
	return told.Checks, err
}
