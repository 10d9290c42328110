// Package mtasts is SMTP MTA Strict Transport Security (RFC 8461): a domain says
// by DNS and HTTPS which hosts take its mail, and that they show a valid
// certificate.
//
// The steps, for one domain:
//
//  1. Find reads the TXT record; its id says whether the policy changed;
//  2. Fetch gets the policy from the domain's policy host, ParsePolicy reads it;
//  3. Entry is what a cache keeps; Entry.Due says, as a function of now, when to
//     fetch again, and Entry.InForce whether it still counts;
//  4. Policy.Allows says whether mail may go to a host.
//
// It guarantees: what is not well formed is no policy, never a lenient one; a
// policy host can cost a minute and 64 KiB and no more; no redirect is followed;
// a failure to fetch never ends a policy that is in force (section 5.1).
//
// It judges no certificate of a mail server: delivery does.
package mtasts

import (
	"errors"
	"fmt"
	"strings"

	"anechoic/mail"
)

// Owner is the name of a domain's TXT record (RFC 8461 section 3.1).
func Owner(domain mail.Domain) string { return "_mta-sts." + domain.String() }

// ErrNoRecord says that a domain has no MTA-STS record, or more than one
// (section 3.1: then it has none).
var ErrNoRecord = errors.New("no MTA-STS record")

// ErrRecord says that a record is not well formed.
var ErrRecord = errors.New("MTA-STS record is not well formed")

// maxID is the longest id (section 3.1).
const maxID = 32

// Find picks the record from the texts at Owner and gives its id.
func Find(texts []string) (id string, err error) {
	var records []string
	for _, t := range texts {
		if strings.HasPrefix(t, "v=STSv1;") {
			records = append(records, t)
		}
	}
	switch len(records) {
	case 0:
		return "", ErrNoRecord
	case 1:
		return ParseRecord(records[0])
	}
	return "", fmt.Errorf("%w: there are %d of them", ErrNoRecord, len(records))
}

// ParseRecord reads one record (section 3.1) and gives its id. Fields that are
// not known are ignored.
func ParseRecord(s string) (id string, err error) {
	fields := strings.Split(s, ";")
	if strings.Trim(fields[0], " \t") != "v=STSv1" {
		return "", fmt.Errorf("%w: it does not begin with v=STSv1", ErrRecord)
	}
	for _, f := range fields[1:] {
		name, value, ok := strings.Cut(strings.Trim(f, " \t"), "=")
		switch {
		case name == "" && !ok:
			continue // the delimiter at the end
		case !ok || name == "":
			return "", fmt.Errorf("%w: %.60q is not name=value", ErrRecord, f)
		case name != "id":
			continue
		case id != "":
			return "", fmt.Errorf("%w: id is there twice", ErrRecord)
		case !isID(value):
			return "", fmt.Errorf("%w: the id %.60q is not 1 to %d letters and digits", ErrRecord, value, maxID)
		}
		id = value
	}
	if id == "" {
		return "", fmt.Errorf("%w: id is missing", ErrRecord)
	}
	return id, nil
}

func isID(s string) bool {
	return s != "" && len(s) <= maxID && strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
	}) < 0
}
