// Package tlsrpt is TLS reporting (RFC 8460): where a domain wants to hear of
// the sessions that mail to it was sent on, and what it is told.
//
// The steps: results are counted in a Tally a day and policy domain; after the
// day Record is looked up and parsed; Compose makes the report of the tally, the
// same in its gzipped JSON form for mailto and https.
//
// It guarantees: a report names servers, policies and counts, never a message,
// a sender or a recipient; texts of strangers in it are bounded. It sends
// nothing and looks nothing up.
package tlsrpt

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"anechoic/mail"
)

// Owner is the name of a domain's record (RFC 8460 section 3).
func Owner(domain mail.Domain) string { return "_smtp._tls." + domain.String() }

// ErrNoRecord says that the domain wants no reports.
var ErrNoRecord = errors.New("no TLS reporting record")

// ErrRecord says that a record is not well formed.
var ErrRecord = errors.New("TLS reporting record is not well formed")

// maxAddresses is how many addresses of a record are used; the RFC sets no bound.
const maxAddresses = 10

// Record is where reports go.
type Record struct {
	Mail []mail.Address // of "mailto:"
	Web  []string       // of "https:"
}

// Find picks the record from the texts at Owner. Other texts do not count; more
// than one record is none (RFC 8460 section 3).
func Find(texts []string) (Record, error) {
	var records []string
	for _, t := range texts {
		if t == "v=TLSRPTv1" || strings.HasPrefix(t, "v=TLSRPTv1;") || strings.HasPrefix(t, "v=TLSRPTv1 ") {
			records = append(records, t)
		}
	}
	switch len(records) {
	case 0:
		return Record{}, ErrNoRecord
	case 1:
		return Parse(records[0])
	}
	return Record{}, fmt.Errorf("%w: there are %d of them", ErrNoRecord, len(records))
}

// Parse reads one record (RFC 8460 section 3). Addresses of schemes that nobody
// defined are left out; a record with none left is an error.
func Parse(s string) (Record, error) {
	fields := strings.Split(s, ";")
	if strings.Trim(fields[0], " \t") != "v=TLSRPTv1" {
		return Record{}, fmt.Errorf("%w: it does not begin with v=TLSRPTv1", ErrRecord)
	}
	var rua string
	var found bool
	for _, f := range fields[1:] {
		name, value, ok := strings.Cut(f, "=")
		name = strings.Trim(name, " \t")
		switch {
		case strings.Trim(f, " \t") == "":
			continue
		case !ok || name == "":
			return Record{}, fmt.Errorf("%w: %.60q is not name=value", ErrRecord, f)
		case name != "rua":
			continue // extensions are ignored
		case found:
			return Record{}, fmt.Errorf("%w: rua is there twice", ErrRecord)
		}
		rua, found = value, true
	}
	if !found {
		return Record{}, fmt.Errorf("%w: rua is missing", ErrRecord)
	}
	return addresses(rua)
}

// addresses reads the value of rua. Comma, semicolon and exclamation mark stand
// percent-encoded in an address.
func addresses(rua string) (r Record, err error) {
	for _, text := range strings.Split(rua, ",") {
		text = strings.Trim(text, " \t")
		u, err := url.Parse(text)
		if err != nil || len(r.Mail)+len(r.Web) == maxAddresses {
			continue
		}
		switch strings.ToLower(u.Scheme) {
		case "mailto":
			local, err := url.PathUnescape(u.Opaque)
			if err != nil {
				continue
			}
			if a, err := mail.ParseAddress(local); err == nil && !a.IsZero() && a.IsASCII() {
				r.Mail = append(r.Mail, a)
			}
		case "https":
			if u.Hostname() != "" && u.User == nil {
				r.Web = append(r.Web, u.String())
			}
		}
	}
	if len(r.Mail)+len(r.Web) == 0 {
		return Record{}, fmt.Errorf("%w: rua has no mailto or https address that can be used: %.120q", ErrRecord, rua)
	}
	return r, nil
}
