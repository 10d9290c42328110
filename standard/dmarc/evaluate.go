package dmarc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"anechoic/mail"
)

// Limits of one evaluation.
const (
	// MaxAuthors is how many From domains are evaluated. A message with more is
	// not evaluated at all (RFC 9989 section 11.5). Nearly all mail has one.
	MaxAuthors = 4

	// MaxIdentifiers is how many DKIM identifiers count, from the first. Package
	// dkim verifies no more signatures.
	MaxIdentifiers = 16

	// maxLookUps is after how many look-ups no further identifier is compared
	// that needs one. Real mail has identifiers whose walks share their names.
	maxLookUps = 64
)

// Message is what DMARC needs to know of one.
type Message struct {
	// From is the domain of each mailbox of the From field, of all of them if
	// there are several. A domain may stand more than once. None, or a zero
	// Domain, means that the field is absent or cannot be read.
	From []mail.Domain

	// SPF is the result for MAIL FROM. For a null sender, its domain is that of
	// HELO (RFC 7208 section 2.4). A result for HELO beside MAIL FROM does not
	// count (RFC 9989 section 4.4.2).
	SPF Identifier

	// DKIM is one identifier for each signature: d= and whether it verified.
	DKIM []Identifier
}

// Identifier is a domain that SPF or DKIM looked at. The zero Identifier is
// none.
type Identifier struct {
	Domain  mail.Domain
	Outcome Outcome
}

// Alignment is how an identifier stands to the From domain (RFC 9989 section
// 4.4). That of an identifier that was not authenticated is not asked for.
type Alignment struct {
	Identifier
	Strict  bool  // only the same domain would do
	Aligned bool  // the same domain or, unless Strict, the same organisational domain
	Err     error // a look-up failed: Aligned is not known
}

// counts says that this identifier alone makes a pass.
func (a Alignment) counts() bool { return a.Aligned && a.Outcome == Authenticated }

// open says that this identifier might make a pass at the next attempt.
func (a Alignment) open() bool {
	return a.Err != nil || a.Aligned && a.Outcome == Undetermined
}

// Result is what DMARC says of a message.
type Result struct {
	Status Status
	Err    error // why Status is not Pass; lower case, no secrets

	// Author is the From domain that the result is about: with several, the one
	// with the strictest result.
	Author mail.Domain

	// Policy is what the owner asks for such a message, t=y considered. It is to
	// be applied if Status is Fail, and is NoPolicy for None and the errors.
	Policy    Policy
	Published Policy // the same before t=y
	Testing   bool   // t=y

	Domain               mail.Domain // whose record applies
	Record               Record      // zero if none applies
	OrganisationalDomain mail.Domain // of Author; zero if it could not be found out

	SPF  Alignment
	DKIM []Alignment // in the order of the message, at most MaxIdentifiers
}

// Evaluate judges a message (RFC 9989 section 5.3). With several From domains
// each is judged and the strictest result is given: so a Pass is one for all of
// them (section 11.5).
//
// A look-up that fails, ctx's end included, makes a TempError if the result
// depends on it.
func Evaluate(ctx context.Context, resolver mail.Resolver, method Method, m Message) Result {
	authors, err := distinct(m.From)
	if err != nil {
		return Result{Status: PermError, Err: err}
	}
	s := &session{resolver: resolver, method: method}
	strictest := s.evaluate(ctx, authors[0], m)
	for _, author := range authors[1:] {
		if r := s.evaluate(ctx, author, m); rank(r) > rank(strictest) {
			strictest = r
		}
	}
	return strictest
}

// distinct is the From domains, each once.
func distinct(from []mail.Domain) ([]mail.Domain, error) {
	if len(from) == 0 || slices.Contains(from, mail.Domain{}) {
		return nil, errors.New("the From field has no domain that can be read")
	}
	list := make([]mail.Domain, 0, 1)
	for _, d := range from {
		if slices.Contains(list, d) {
			continue
		}
		if len(list) == MaxAuthors {
			return nil, fmt.Errorf("the From field has more than %d domains", MaxAuthors)
		}
		list = append(list, d)
	}
	return list, nil
}

// rank orders results by what they ask for. A failure that is to be rejected
// needs no second attempt; any other result gives way to one that does.
func rank(r Result) int {
	switch {
	case r.Status == Fail && r.Policy == PolicyReject:
		return 5
	case r.Status == TempError:
		return 4
	case r.Status == Fail && r.Policy == PolicyQuarantine:
		return 3
	case r.Status == Fail:
		return 2
	case r.Status == None:
		return 1
	}
	return 0
}

// evaluate judges the message for one From domain.
func (s *session) evaluate(ctx context.Context, author mail.Domain, m Message) Result {
	found, lookUp := s.discover(ctx, author)
	r := Result{Author: author, OrganisationalDomain: found.OrganisationalDomain}
	switch {
	case found.Reason != nil:
		return r.with(None, found.Reason)
	case found.Domain.IsZero():
		return r.with(TempError, lookUp)
	}
	r.Domain, r.Record = found.Domain, found.Record
	if !r.Record.Applies() {
		return r.with(None, r.Record.inapplicable(r.Domain))
	}
	s.align(ctx, &r, m, lookUp)
	relation, unknown := s.relation(ctx, r)
	open := r.open()
	switch {
	case r.passes():
		return r.ask(relation).with(Pass, nil)
	case open != nil:
		return r.with(TempError, open)
	case unknown != nil:
		return r.with(TempError, unknown)
	}
	return r.ask(relation).with(Fail, fmt.Errorf("neither SPF nor DKIM authenticated a domain aligned with %s", author))
}

func (r Result) with(s Status, err error) Result {
	r.Status, r.Err = s, err
	return r
}

// inapplicable says why a record has no effect.
func (r Record) inapplicable(domain mail.Domain) error {
	err := fmt.Errorf("%w: that of %s has neither a valid policy nor rua=", ErrNoRecord, domain)
	if len(r.Problems) > 0 {
		return fmt.Errorf("%w: %w", err, r.Problems[0])
	}
	return err
}

// ask takes the policy from the record.
func (r Result) ask(relation Relation) Result {
	r.Testing = r.Record.Testing
	r.Published = r.Record.PolicyFor(relation)
	r.Policy = r.Published
	if r.Testing {
		r.Policy = r.Policy.lowered()
	}
	return r
}

// relation asks whether the From domain exists only if the record makes a
// difference of it. If that cannot be found out, it is taken to exist.
func (s *session) relation(ctx context.Context, r Result) (Relation, error) {
	if r.Author == r.Domain {
		return Same, nil
	}
	if r.Record.PolicyFor(Nonexistent) == r.Record.PolicyFor(Subdomain) {
		return Subdomain, nil
	}
	exists, err := s.exists(ctx, r.Author)
	if err != nil || exists {
		return Subdomain, err
	}
	return Nonexistent, nil
}

func (r Result) passes() bool {
	return r.SPF.counts() || slices.ContainsFunc(r.DKIM, Alignment.counts)
}

// open is why the message might pass at the next attempt; nil if it cannot.
func (r Result) open() error {
	for _, a := range append([]Alignment{r.SPF}, r.DKIM...) {
		switch {
		case a.Err != nil:
			return a.Err
		case a.open():
			return fmt.Errorf("whether %s is authenticated is not known for now", a.Domain)
		}
	}
	return nil
}

// align compares every identifier with the From domain. lookUp is why the
// organisational domain of that is not known, if it is not.
func (s *session) align(ctx context.Context, r *Result, m Message, lookUp error) {
	r.SPF = s.alignOne(ctx, *r, m.SPF, r.Record.StrictSPF, lookUp)
	for _, id := range m.DKIM[:min(len(m.DKIM), MaxIdentifiers)] {
		r.DKIM = append(r.DKIM, s.alignOne(ctx, *r, id, r.Record.StrictDKIM, lookUp))
	}
}

func (s *session) alignOne(ctx context.Context, r Result, id Identifier, strict bool, lookUp error) Alignment {
	a := Alignment{Identifier: id, Strict: strict}
	switch {
	case id.Outcome == Unauthenticated || id.Domain.IsZero():
	case id.Domain == r.Author:
		a.Aligned = true
	case strict:
	case r.OrganisationalDomain.IsZero():
		if sameTop(id.Domain, r.Author) {
			a.Err = lookUp
		}
	case !id.Domain.Within(r.OrganisationalDomain): // it has another one, which needs no look-up
	case len(s.seen) >= maxLookUps: // such a message costs enough: it has to pass without this one
	default:
		var org mail.Domain
		org, a.Err = s.organisational(ctx, id.Domain)
		a.Aligned = a.Err == nil && org == r.OrganisationalDomain
	}
	return a
}

// sameTop says that two domains have the same last label; without that, they
// have no organisational domain in common.
func sameTop(a, b mail.Domain) bool {
	return lastLabel(a) == lastLabel(b)
}

func lastLabel(d mail.Domain) string {
	s := d.String()
	return s[strings.LastIndexByte(s, '.')+1:]
}
