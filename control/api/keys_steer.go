package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	"anechoic/org"
	"anechoic/relay/signing"
)

// KeyOrder is the body of POST /api/v1/keys/{org}/{domain}/{verb}; verbs are add,
// rotate and revoke.
type KeyOrder struct {
	Selector           string `json:"selector,omitempty"`             // add: empty for the next name; revoke: which
	Algorithm          string `json:"algorithm,omitempty"`            // add: rsa-2048 or ed25519; rotate: empty for every algorithm
	RetireAfterSeconds int64  `json:"retire_after_seconds,omitempty"` // rotate: from when the new key is first seen published; 0 for seven days
	DryRun             bool   `json:"dry_run,omitempty"`              // only say what would be done
}

// KeyChange is what an order did, or would have done. A key that a dry run did
// not make has no record value.
type KeyChange struct {
	Verb          signing.Verb `json:"verb"`
	DryRun        bool         `json:"dry_run,omitempty"`
	Made          []KeyRecord  `json:"made"`
	Replaced      []KeyRecord  `json:"replaced"`
	Revoked       []KeyRecord  `json:"revoked"`
	RegistryLines []string     `json:"registry_lines"` // elements of the domain's dkim to add; the registry is a file and not changed
	Notes         []string     `json:"notes"`          // what follows from it, and what to do
}

// steerKeys is POST /api/v1/keys/{org}/{domain}/{verb}.
func (s *Server) steerKeys(ctx context.Context, r *http.Request) (any, error) {
	d, err := s.findDomain(r)
	if err != nil {
		return nil, err
	}
	var told KeyOrder
	if err := readJSON(r, &told); err != nil {
		return nil, err
	}
	if told.RetireAfterSeconds < 0 || told.RetireAfterSeconds > math.MaxInt64/int64(time.Second) {
		return nil, badRequest("retire_after_seconds is no time to wait", "for example 604800 for seven days")
	}
	order := signing.Order{
		Verb: signing.Verb(r.PathValue("verb")), Organisation: d.Organisation, Domain: d.Name, Selector: told.Selector,
		Algorithm: org.Algorithm(told.Algorithm), RetireAfter: time.Duration(told.RetireAfterSeconds) * time.Second, DryRun: told.DryRun,
		By: asker(r, ""),
	}
	dir, _ := s.Directory()
	done, err := s.Locksmith.Do(ctx, dir, order, time.Now())
	if err != nil {
		return nil, keyProblem(err)
	}
	if !done.DryRun {
		s.logKeys(ctx, done, order.By)
	}
	return changeOf(done), nil
}

func (s *Server) logKeys(ctx context.Context, done signing.Change, by string) {
	for _, k := range append(done.Made, done.Revoked...) {
		s.Log.InfoContext(ctx, "key changed", "verb", done.Verb, "org", k.Organisation, "record", k.RecordName, "algorithm", k.Algorithm, "stage", k.Stage, "by", by)
	}
}

// keyProblem tells the errors of a Locksmith apart.
func keyProblem(err error) error {
	switch {
	case errors.Is(err, signing.ErrOrder):
		return badRequest(err.Error(), "key add --help and its like say what an order is made of")
	case errors.Is(err, signing.ErrNoDomain), errors.Is(err, signing.ErrNoKey):
		return notFound(err.Error(), "key list names all keys")
	case errors.Is(err, signing.ErrTaken):
		return problem(http.StatusConflict, CodeConflict, err.Error(), "key list shows how the keys stand")
	}
	return fmt.Errorf("keys: %w", err)
}

func changeOf(c signing.Change) KeyChange {
	change := KeyChange{
		Verb: c.Verb, DryRun: c.DryRun, Made: recordsOf(c.Made), Replaced: recordsOf(c.Replaced), Revoked: recordsOf(c.Revoked),
		RegistryLines: []string{}, Notes: c.Notes,
	}
	for _, k := range c.Made {
		change.RegistryLines = append(change.RegistryLines, signing.RegistryLine(k))
	}
	return change
}

func recordsOf(keys []signing.KeyInfo) []KeyRecord {
	records := make([]KeyRecord, len(keys))
	for i, k := range keys {
		records[i] = recordOf(k)
	}
	return records
}

// SteerKeys adds, rotates or revokes keys of a domain.
func (c *Client) SteerKeys(ctx context.Context, verb signing.Verb, org, domain string, order KeyOrder) (KeyChange, error) {
	path := "/api/v1/keys/" + url.PathEscape(org) + "/" + url.PathEscape(domain) + "/" + string(verb)
	return ask[KeyChange](ctx, c, http.MethodPost, path, nil, order)
}
