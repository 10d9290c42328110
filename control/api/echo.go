package api

import (
	"context"
	"net/http"
	"time"

	"anechoic/mail"
	"anechoic/relay/inbound/echo"
)

// EchoTenant is a tenant that was seen to hold a domain's key.
type EchoTenant struct {
	echo.Tenant
	Learned bool `json:"learned"` // it counts as the domain's own
}

// EchoProfile is GET /api/v1/echo/{domain}: what was learned of an organisational
// domain for the verdict on echoes.
type EchoProfile struct {
	Domain    string          `json:"domain"`
	Tenants   []EchoTenant    `json:"tenants"`
	Names     []echo.Name     `json:"names"`
	Strangers []echo.Stranger `json:"strangers"` // the latest tenants that sent as the domain and belong to nobody known
}

// EchoForgotten is the answer of POST /api/v1/echo/{domain}/forget.
type EchoForgotten struct {
	Domain string `json:"domain"`
}

// echoProfile is GET /api/v1/echo/{domain}. A name below an organisational domain
// leads to what is known of that one.
func (s *Server) echoProfile(_ context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	name, err := echoDomain(r)
	if err != nil {
		return nil, err
	}
	for at := name; !at.IsZero(); at = at.Parent() {
		if p, ok := s.Echoes.Profile(at); ok {
			return echoProfileOf(&p, time.Now()), nil
		}
	}
	return nil, nothingLearned(name)
}

// forgetEcho is POST /api/v1/echo/{domain}/forget. Only the exact domain is forgotten.
func (s *Server) forgetEcho(ctx context.Context, r *http.Request) (any, error) {
	name, err := echoDomain(r)
	if err != nil {
		return nil, err
	}
	known, err := s.ForgetEcho(ctx, name, asker(r, ""))
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, nothingLearned(name)
	}
	return EchoForgotten{Domain: name.String()}, nil
}

func echoDomain(r *http.Request) (mail.Domain, error) {
	name, err := mail.ParseDomain(r.PathValue("domain"))
	if err != nil {
		return name, badRequest(err.Error(), "the domain of a From, as partner.example")
	}
	return name, nil
}

func nothingLearned(name mail.Domain) error {
	return notFound("nothing was learned of "+name.String(), "profiles are kept by organisational domain, once mail of it came from a tenant")
}

func echoProfileOf(p *echo.Profile, now time.Time) EchoProfile {
	told := EchoProfile{Domain: p.Domain.String(), Tenants: []EchoTenant{}, Names: []echo.Name{}, Strangers: []echo.Stranger{}}
	for _, t := range p.Tenants {
		told.Tenants = append(told.Tenants, EchoTenant{t, t.Learned(now)})
	}
	told.Names = append(told.Names, p.Names...)
	told.Strangers = append(told.Strangers, p.Strangers...)
	return told
}
