package api

import (
	"context"
	"net/http"

	"anechoic/control/config"
)

// InForce is GET /api/v1/configuration: what the relay goes by now, whatever became
// of its files since. There is no secret in it; the registry has hashes. Without
// ?registry=true the registry is left out: it may be large.
type InForce struct {
	Generation uint64 `json:"generation"`
	Relay      string `json:"relay"`              // relay.toml, with every default
	Registry   string `json:"registry,omitempty"` // registry.toml, without remarks
}

func (s *Server) inForce(_ context.Context, r *http.Request) (any, error) {
	dir, _ := s.Directory()
	now := InForce{Generation: dir.Generation(), Relay: s.Relay()}
	if r.URL.Query().Get("registry") == "true" {
		now.Registry = config.Export(dir)
	}
	return now, nil
}
