package dmarc

import (
	"context"
	"errors"
	"fmt"

	"anechoic/mail"
)

// MaxQueries is how many look-ups a tree walk may cost (RFC 9989 section 4.10).
const MaxQueries = 8

// walkLabels is how many labels the second name of a walk has at most, so that
// all names above it can be asked within MaxQueries.
const walkLabels = MaxQueries - 1

// Discovery is what the DNS says about a From domain.
type Discovery struct {
	Author mail.Domain // the From domain

	// Domain is whose record applies: the From domain, its organisational
	// domain, or the public suffix above that. Zero if there is no record; then
	// Reason says why.
	Domain mail.Domain
	Record Record
	Reason error

	// OrganisationalDomain is zero if it could not be found out for now.
	OrganisationalDomain mail.Domain
}

// ErrNoRecord says that no policy record applies to a domain.
var ErrNoRecord = errors.New("no DMARC policy record")

// Discover finds the policy record that applies to mail from a domain, and the
// domain's organisational domain (RFC 9989 sections 4.10.1 and 4.10.2), with at
// most MaxQueries look-ups.
//
// An error means that a look-up failed for now. Domain and Record are given all
// the same if they do not depend on it: the record at the From domain itself is
// the one that applies, whatever stands above.
func Discover(ctx context.Context, resolver mail.Resolver, method Method, author mail.Domain) (Discovery, error) {
	s := &session{resolver: resolver, method: method}
	return s.discover(ctx, author)
}

// session is the look-ups of one evaluation: no name is asked for twice.
type session struct {
	resolver mail.Resolver
	method   Method
	seen     []finding
}

// finding is what stands at _dmarc and a domain.
type finding struct {
	domain  mail.Domain
	record  Record
	present bool // there is exactly one record
	several bool // there is more than one: all are discarded
	err     error
}

func (s *session) discover(ctx context.Context, author mail.Domain) (Discovery, error) {
	d := Discovery{Author: author}
	if author.IsZero() {
		d.Reason = fmt.Errorf("%w: there is no domain", ErrNoRecord)
		return d, nil
	}
	own := s.at(ctx, author)
	if own.err != nil {
		return d, own.err
	}
	if own.present {
		d.Domain, d.Record = author, own.record
	}
	org, above, err := s.above(ctx, author)
	d.OrganisationalDomain = org
	switch {
	case own.several: // RFC 7489 section 6.6.3 step 5
		d.Reason = fmt.Errorf("%w: _dmarc.%s has more than one, so none counts: delete all but one", ErrNoRecord, author)
	case !own.present && err == nil && above.present:
		d.Domain, d.Record = above.domain, above.record
	case !own.present && err == nil:
		d.Reason = fmt.Errorf("%w for %s", ErrNoRecord, author)
	}
	return d, err
}

// above finds the organisational domain of d and the record that applies to d if
// it has none of its own.
func (s *session) above(ctx context.Context, d mail.Domain) (mail.Domain, finding, error) {
	if s.method.list == nil {
		return s.walk(ctx, d)
	}
	org := s.method.registered(d)
	if own := s.at(ctx, d); own.present || own.several {
		return org, own, nil // RFC 7489 section 6.6.3 steps 1 and 2: nothing more is asked
	}
	f := s.at(ctx, org)
	return org, f, f.err
}

// organisational finds the organisational domain of d alone.
func (s *session) organisational(ctx context.Context, d mail.Domain) (mail.Domain, error) {
	if s.method.list != nil {
		return s.method.registered(d), nil
	}
	org, _, err := s.walk(ctx, d)
	return org, err
}

// walk is the tree walk of RFC 9989 section 4.10 and the selection of section
// 4.10.2 in one: the last record seen is that with the fewest labels.
func (s *session) walk(ctx context.Context, start mail.Domain) (mail.Domain, finding, error) {
	top := finding{domain: start} // if nothing is found, the start itself (section 4.10.2)
	for name := start; !name.IsZero(); name = next(name) {
		f := s.at(ctx, name)
		switch {
		case f.err != nil:
			return mail.Domain{}, finding{}, f.err
		case !f.present:
		case f.record.Suffix == SuffixNo:
			return name, f, nil
		case f.record.Suffix == SuffixYes && name == start:
			return name, f, nil // rule 2 is not for the start, and the walk stops
		case f.record.Suffix == SuffixYes:
			return s.below(start, f)
		default:
			top = f
		}
	}
	return top.domain, top, nil
}

// below is the organisational domain under a public suffix, and the record that
// applies to it: its own, if the walk found one, else the suffix's.
func (s *session) below(start mail.Domain, suffix finding) (mail.Domain, finding, error) {
	org := ancestor(start, labels(suffix.domain.String())+1)
	if f, ok := s.known(org); ok && f.present {
		return org, f, nil
	}
	return org, suffix, nil
}

// next is the name that a walk asks for after another (RFC 9989 section 4.10
// steps 4 and 7).
func next(name mail.Domain) mail.Domain {
	if labels(name.String()) > MaxQueries {
		return ancestor(name, walkLabels)
	}
	return name.Parent()
}

// at looks for the record of a domain, once.
func (s *session) at(ctx context.Context, d mail.Domain) finding {
	if f, ok := s.known(d); ok {
		return f
	}
	f := finding{domain: d}
	owner := "_dmarc." + d.String()
	if len(owner) <= mail.MaxDomain { // else the DNS cannot have it
		f.lookUp(ctx, s.resolver, owner)
	}
	s.seen = append(s.seen, f)
	return f
}

func (s *session) known(d mail.Domain) (finding, bool) {
	for i := range s.seen {
		if s.seen[i].domain == d {
			return s.seen[i], true
		}
	}
	return finding{}, false
}

// lookUp keeps the one record at a name. Texts that are no record do not count;
// several records count as none (RFC 9989 section 4.10 steps 2 and 6).
func (f *finding) lookUp(ctx context.Context, resolver mail.Resolver, owner string) {
	answer, err := resolver.TXT(ctx, owner)
	if errors.Is(err, mail.ErrNoDomain) {
		return
	}
	if err != nil {
		f.err = fmt.Errorf("dmarc: look up TXT %s: %w", owner, err)
		return
	}
	for _, txt := range answer.Records {
		r, err := Parse(txt)
		if err != nil {
			continue
		}
		if f.present {
			f.present, f.several, f.record = false, true, Record{}
			return
		}
		f.present, f.record = true, r
	}
}

// exists says whether the DNS has a name (RFC 9989 section 3.2.13). It asks for
// an alias at the name, since that is the one question whose answer is about
// this name alone: an alias into the void is a name that exists.
func (s *session) exists(ctx context.Context, d mail.Domain) (bool, error) {
	_, err := s.resolver.CNAME(ctx, d.String())
	switch {
	case errors.Is(err, mail.ErrNoDomain):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("dmarc: look up whether %s exists: %w", d, err)
	}
	return true, nil
}
