package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"anechoic/org"
	"anechoic/relay/signing"
)

// KeyList is GET /api/v1/keys.
type KeyList struct {
	Keys []signing.KeyInfo `json:"keys"`
}

// KeyRecord is GET /api/v1/keys/{org}/{domain}/{selector}: a key, and its record
// as a line of a zone file.
type KeyRecord struct {
	signing.KeyInfo
	ZoneLine string `json:"zone_line,omitempty"`
}

// keys is GET /api/v1/keys, of one organisation with ?org=, of one domain with
// ?domain=.
func (s *Server) keys(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org", "domain")
	if err != nil {
		return nil, err
	}
	domain, err := domainParameter("domain", q.Get("domain"))
	if err != nil {
		return nil, err
	}
	dir, _ := s.Directory()
	list := KeyList{Keys: []signing.KeyInfo{}}
	for _, info := range s.Keys.List(ctx, dir, time.Now()) {
		if q.Has("org") && info.Organisation != q.Get("org") || !domain.IsZero() && info.Domain != domain.String() {
			continue
		}
		list.Keys = append(list.Keys, info)
	}
	return list, ctx.Err()
}

// key is GET /api/v1/keys/{org}/{domain}/{selector}.
func (s *Server) key(ctx context.Context, r *http.Request) (any, error) {
	d, err := s.findDomain(r)
	if err != nil {
		return nil, err
	}
	selector := r.PathValue("selector")
	for _, info := range s.Keys.ListDomain(ctx, d, time.Now()) {
		if info.Selector == selector {
			return recordOf(info), nil
		}
	}
	return nil, notFound(fmt.Sprintf("%s has no key %s of %s", d.Organisation, selector, d.Name), "key list names all keys")
}

// recordOf adds the line of a zone file to a key whose record is known.
func recordOf(info signing.KeyInfo) KeyRecord {
	record := KeyRecord{KeyInfo: info}
	if info.RecordValue != "" {
		record.ZoneLine = signing.ZoneLine(info.RecordName, info.RecordValue)
	}
	return record
}

// findDomain is the domain that a path names.
func (s *Server) findDomain(r *http.Request) (*org.Domain, error) {
	id := org.ID(r.PathValue("org"))
	name, err := domainParameter("domain", r.PathValue("domain"))
	if err != nil {
		return nil, err
	}
	dir, _ := s.Directory()
	o, ok := dir.Organisation(id)
	if !ok {
		return nil, notFound(fmt.Sprintf("there is no organisation %q", id), "key list names all keys")
	}
	for _, d := range o.Domains {
		if d.Name == name {
			return d, nil
		}
	}
	return nil, notFound(fmt.Sprintf("organisation %s has no domain %s", id, name), "status names all domains")
}
