package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"anechoic/mail"
	"anechoic/org"
)

// Probing makes and follows probes: messages by which a person sees whether a
// source works from end to end. It is a second implementation's place in tests.
type Probing interface {
	// Begin makes a one-time recipient for a source.
	Begin(ctx context.Context, source *org.Source) (Probe, error)
	// Probe tells how one stands.
	Probe(token string) (Probe, bool)
}

// ProbeWish is what POST /api/v1/probes takes.
type ProbeWish struct {
	Organisation string `json:"org"`
	Source       string `json:"source"`
}

// Probe is a one-time recipient, and what came to it.
type Probe struct {
	Token        string    `json:"token"`
	Address      string    `json:"address"` // where the message is to be sent
	Organisation string    `json:"org"`
	Source       string    `json:"source"`
	Kind         string    `json:"kind"`
	Username     string    `json:"username,omitempty"`
	LockedTo     []string  `json:"locked_to,omitempty"` // the networks that alone may use the user name
	From         []string  `json:"from"`                // what the source may send as
	Expires      time.Time `json:"expires"`

	SecretHeader string     `json:"secret_header,omitempty"` // the name of the field that the source's mail bears
	Listeners    []Listener `json:"listeners"`               // where the relay takes mail
	Certificate  string     `json:"certificate"`             // SHA-256 of what it shows there, in hex

	Taken    []ProbeTaken   `json:"taken"`
	Refused  []ProbeRefusal `json:"refused"`
	Arrivals []ProbeArrival `json:"arrivals"`
	Spoofs   []Spoof        `json:"spoofs"`   // each way in which somebody else tried to be the source
	Complete bool           `json:"complete"` // a message arrived, and every spoof was tried
}

// ProbeTaken is a message to the probe that the relay took.
type ProbeTaken struct {
	ID           mail.ID   `json:"id"`
	At           time.Time `json:"at"`
	From         string    `json:"from"`
	Organisation string    `json:"org,omitempty"`
	Source       string    `json:"source,omitempty"`
	Proofs       []string  `json:"proofs"`
	Origin       string    `json:"origin,omitempty"`
	Tenant       string    `json:"tenant,omitempty"`
	Held         string    `json:"held,omitempty"` // why it stays here: it was taken, and is not proven
}

// ProbeRefusal is one that was refused.
type ProbeRefusal struct {
	ID     mail.ID     `json:"id"`
	At     time.Time   `json:"at"`
	Reply  string      `json:"reply"`
	Reason mail.Reason `json:"reason"`
	Detail string      `json:"detail,omitempty"`
}

// ProbeArrival is a message at the end of its way, judged as a receiver does.
type ProbeArrival struct {
	ID         mail.ID          `json:"id"`
	At         time.Time        `json:"at"`
	Signatures []ProbeSignature `json:"signatures"`
	Leaked     []string         `json:"leaked"` // evidence fields that are still there
	DMARC      string           `json:"dmarc"`
	Aligned    bool             `json:"aligned"` // a signature that verifies is of the From domain
	Problem    string           `json:"problem,omitempty"`
}

// ProbeSignature is one DKIM signature of it.
type ProbeSignature struct {
	Domain    string `json:"domain"`
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
	Status    string `json:"status"`
	Detail    string `json:"detail,omitempty"`
}

// Spoof is one way in which somebody else tried to be the source.
type Spoof struct {
	Way     string      `json:"way"`
	Refused bool        `json:"refused"`
	Reason  mail.Reason `json:"reason,omitempty"`
	Detail  string      `json:"detail,omitempty"`
}

// Good says that what arrived is what a receiver should get: signed and aligned,
// nothing of the evidence left.
func (a ProbeArrival) Good() bool { return a.Problem == "" && a.Aligned && len(a.Leaked) == 0 }

// AtRisk lists the spoofs that were not refused.
func (p *Probe) AtRisk() (list []Spoof) {
	for _, s := range p.Spoofs {
		if !s.Refused {
			list = append(list, s)
		}
	}
	return list
}

// Proven says that a message of the source itself came through, and nobody else's
// would have.
func (p *Probe) Proven() bool {
	if !p.Complete || len(p.AtRisk()) > 0 {
		return false
	}
	for _, taken := range p.Taken {
		for _, a := range p.Arrivals {
			if a.ID == taken.ID && a.Good() && taken.Organisation == p.Organisation && taken.Source == p.Source {
				return true
			}
		}
	}
	return false
}

// beginProbe is POST /api/v1/probes.
func (s *Server) beginProbe(ctx context.Context, r *http.Request) (any, error) {
	var wish ProbeWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	dir, _ := s.Directory()
	if _, ok := dir.Organisation(org.ID(wish.Organisation)); !ok {
		return nil, notFound(fmt.Sprintf("there is no organisation %q", wish.Organisation), "anechoic status lists organisations and their sources")
	}
	source, ok := dir.Source(org.ID(wish.Organisation), wish.Source)
	if !ok {
		return nil, notFound(fmt.Sprintf("organisation %s has no source %q", wish.Organisation, wish.Source), "anechoic status lists them; one that was just added counts after anechoic apply")
	}
	return s.Probes.Begin(ctx, source)
}

// probe is GET /api/v1/probes/{token}.
func (s *Server) probe(_ context.Context, r *http.Request) (any, error) {
	p, ok := s.Probes.Probe(r.PathValue("token"))
	if !ok {
		return nil, notFound("there is no such probe", "probes last an hour and end with the relay: begin a new one with anechoic source test")
	}
	return p, nil
}

// BeginProbe has the relay make a one-time recipient for a source.
func (c *Client) BeginProbe(ctx context.Context, org, source string) (Probe, error) {
	return ask[Probe](ctx, c, http.MethodPost, "/api/v1/probes", nil, ProbeWish{Organisation: org, Source: source})
}

// Probe asks how one stands.
func (c *Client) Probe(ctx context.Context, token string) (Probe, error) {
	return get[Probe](ctx, c, "/api/v1/probes/"+url.PathEscape(token), nil)
}
