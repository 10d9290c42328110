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
	ref, err := s.findKey(r)
	if err != nil {
		return nil, err
	}
	record := KeyRecord{KeyInfo: s.Keys.Describe(ctx, ref, time.Now())}
	if record.RecordValue != "" {
		record.ZoneLine = signing.ZoneLine(record.RecordName, record.RecordValue)
	}
	return record, nil
}

func (s *Server) findKey(r *http.Request) (signing.KeyRef, error) {
	id, selector := org.ID(r.PathValue("org")), r.PathValue("selector")
	name, err := domainParameter("domain", r.PathValue("domain"))
	if err != nil {
		return signing.KeyRef{}, err
	}
	dir, _ := s.Directory()
	o, ok := dir.Organisation(id)
	if !ok {
		return signing.KeyRef{}, notFound(fmt.Sprintf("there is no organisation %q", id), "key list names all keys")
	}
	for _, d := range o.Domains {
		for _, key := range d.Keys {
			if d.Name == name && key.Selector == selector {
				return keyRef(d, key), nil
			}
		}
	}
	return signing.KeyRef{}, notFound(fmt.Sprintf("%s has no key %s of %s", id, selector, name), "key list names all keys")
}
