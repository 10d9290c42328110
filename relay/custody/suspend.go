package custody

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// Scope says of what a Suspension is.
type Scope string

// The scopes.
const (
	ScopeOrganisation Scope = "organisation" // Name is its id
	ScopeSource       Scope = "source"       // Name is "organisation/source"
	ScopeDomain       Scope = "domain"       // Name is a recipient domain
	ScopeSite         Scope = "site"         // Name is a site, as delivery names them
)

// Suspension keeps mail from being leased until it is lifted. Mail goes on to be
// accepted. What is suspended does not expire and nobody is told of a delay: time
// that is over when it is resumed ends it after one more attempt.
type Suspension struct {
	Scope  Scope     `json:"scope"`
	Name   string    `json:"name"`
	Reason string    `json:"reason,omitempty"` // in the words of who asked for it
	By     string    `json:"by"`               // who
	At     time.Time `json:"at"`
}

// MaxSuspensions bounds how many there are at a time.
const MaxSuspensions = 10_000

// ErrBadSuspension says that a suspension names nothing that can be suspended.
var ErrBadSuspension = errors.New("bad suspension")

// suspended is the suspensions by scope and name. It is never changed, only
// replaced, so that delivery can ask without a lock.
type suspended map[Scope]map[string]Suspension

func (s suspended) has(scope Scope, name string) bool {
	_, found := s[scope][name]
	return found
}

func (s suspended) count() (n int) {
	for _, names := range s {
		n += len(names)
	}
	return n
}

// with gives a copy that has one more, or one less.
func (s suspended) with(one Suspension, there bool) suspended {
	changed := suspended{}
	for scope, names := range s {
		changed[scope] = names
	}
	names := make(map[string]Suspension, len(s[one.Scope])+1)
	for name, other := range s[one.Scope] {
		names[name] = other
	}
	if changed[one.Scope] = names; there {
		names[one.Name] = one
	} else {
		delete(names, one.Name)
	}
	return changed
}

func sourceName(org, source string) string { return org + "/" + source }

// Checked is the suspension with its name as it is compared, if it names something
// that can be suspended.
func (s Suspension) Checked() (Suspension, error) {
	if s.By == "" {
		return s, fmt.Errorf("%w: it is not said who asks for it", ErrBadSuspension)
	}
	switch s.Scope {
	case ScopeOrganisation:
	case ScopeSource:
		if org, source, ok := strings.Cut(s.Name, "/"); !ok || org == "" || source == "" {
			return s, fmt.Errorf("%w: source %q: it is named as organisation/source", ErrBadSuspension, s.Name)
		}
	case ScopeDomain:
		d, err := mail.ParseDomain(s.Name)
		if err != nil {
			return s, fmt.Errorf("%w: %w", ErrBadSuspension, err)
		}
		s.Name = d.String()
	case ScopeSite:
		s.Name = strings.ToLower(s.Name)
	default:
		return s, fmt.Errorf("%w: scope %q: there are organisation, source, domain and site", ErrBadSuspension, s.Scope)
	}
	if s.Name == "" {
		return s, fmt.Errorf("%w: it names nothing", ErrBadSuspension)
	}
	s.At = s.At.UTC()
	return s, nil
}

// Suspend keeps mail of one organisation or source, or for one domain or site,
// from being leased, until Resume. It is durable when it returns; leases already
// given are asked about by Suspended. Another one of the same scope and name takes
// its place.
func (q *Queue) Suspend(ctx context.Context, s Suspension) error {
	s, err := s.Checked()
	if err != nil {
		return fmt.Errorf("custody: suspend: %w", err)
	}
	value, err := encodeRecord(&s)
	if err != nil {
		return fmt.Errorf("custody: suspend %s %s: %w", s.Scope, s.Name, err)
	}
	b := Batch{Put: []Record{{Key: s.key(), Value: value}}, Facts: []ledger.Fact{s.fact(ledger.Suspended)}}
	return q.changeSuspensions(ctx, &b, s, true)
}

// Resume lifts a suspension; By, At and Reason say who did, when and why.
// ErrNotFound: there is none of that scope and name.
func (q *Queue) Resume(ctx context.Context, s Suspension) error {
	s, err := s.Checked()
	if err != nil {
		return fmt.Errorf("custody: resume: %w", err)
	}
	b := Batch{Delete: []string{s.key()}, Facts: []ledger.Fact{s.fact(ledger.Resumed)}}
	return q.changeSuspensions(ctx, &b, s, false)
}

// changeSuspensions writes, then brings the index in line. One runs at a time.
func (q *Queue) changeSuspensions(ctx context.Context, b *Batch, s Suspension, there bool) error {
	fail := func(err error) error { return fmt.Errorf("custody: suspensions: %s %s: %w", s.Scope, s.Name, err) }
	select {
	case <-q.suspending:
		defer func() { q.suspending <- struct{}{} }()
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	now := q.suspensions()
	switch found := now.has(s.Scope, s.Name); {
	case !there && !found:
		return fail(ErrNotFound)
	case there && !found && now.count() >= MaxSuspensions:
		return fail(fmt.Errorf("%w: there are %d already", ErrBadSuspension, MaxSuspensions))
	}
	if err := q.engine.Commit(ctx, b); err != nil {
		return fail(err)
	}
	next := now.with(s, there)
	q.mu.Lock()
	q.index.suspend(next, s)
	q.suspendedNow.Store(&next)
	q.mu.Unlock()
	q.moveSuspended(s)
	q.wakeUp()
	return nil
}

func (s *Suspension) summary(c canonical) canonical { return c.text(string(s.Scope)).text(s.Name) }

func (s *Suspension) appendJSON(b []byte) ([]byte, error) {
	text, err := json.Marshal(s)
	return append(b, text...), err
}

// key names the record. Names can be longer than keys.
func (s *Suspension) key() string {
	sum := sha256.Sum256([]byte(s.Name))
	return suspensionPrefix + string(s.Scope) + "/" + hex.EncodeToString(sum[:16])
}

func (s *Suspension) fact(event ledger.Event) ledger.Fact {
	f := ledger.Fact{Time: s.At, Event: event, Direction: "outbound", Detail: fmt.Sprintf("%s %s by %s", s.Scope, s.Name, s.By)}
	if s.Reason != "" {
		f.Detail += ": " + s.Reason
	}
	switch s.Scope {
	case ScopeOrganisation:
		f.Org = s.Name
	case ScopeSource:
		f.Org, f.Source, _ = strings.Cut(s.Name, "/")
	case ScopeDomain, ScopeSite:
		f.Site = s.Name
	}
	return f
}

func decodeSuspension(key string, value []byte) (Suspension, error) {
	var s Suspension
	if err := decodeRecord(value, &s); err != nil {
		return s, err
	}
	s, err := s.Checked()
	if err != nil || s.key() != key {
		return s, fmt.Errorf("%w: it is no suspension of that name", errRecord)
	}
	return s, nil
}

func (q *Queue) suspensions() suspended { return *q.suspendedNow.Load() }

// Suspensions lists what is suspended, by scope and name.
func (q *Queue) Suspensions() []Suspension {
	list := []Suspension{}
	for _, names := range q.suspensions() {
		for _, s := range names {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Suspension) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// Suspended says whether a lease, whose domain leads to a site, is not to be
// attempted now: what it belongs to was suspended after it was given.
func (q *Queue) Suspended(l *Lease, site string) (Suspension, bool) {
	now := q.suspensions()
	if len(now) == 0 {
		return Suspension{}, false
	}
	return now.of(l.Message.Organisation, l.Message.Source, l.Domain, site)
}

// SuspendedSite says whether mail for a site waits.
func (q *Queue) SuspendedSite(site string) bool { return q.suspensions().has(ScopeSite, site) }

// of gives the suspension that keeps a message back, if one does.
func (s suspended) of(org, source string, d mail.Domain, site string) (Suspension, bool) {
	for _, c := range []struct {
		scope Scope
		name  string
	}{{ScopeOrganisation, org}, {ScopeSource, sourceName(org, source)}, {ScopeDomain, d.String()}, {ScopeSite, site}} {
		if found, ok := s[c.scope][c.name]; ok {
			return found, true
		}
	}
	return Suspension{}, false
}

// suspend marks in the index which of the suspensions of now changed. From here on
// no new lease is given of what is suspended.
func (x *index) suspend(now suspended, changed Suspension) {
	x.suspended = now
	there := now.has(changed.Scope, changed.Name)
	switch changed.Scope {
	case ScopeOrganisation:
		if t := x.tenants[changed.Name]; t != nil {
			t.suspended = there
		}
	case ScopeSource:
		if o := x.originOf(changed.Name); o != nil {
			o.suspended = there
		}
	case ScopeDomain:
		for d := x.destinations[domainOf(changed)]; d != nil; d = d.other {
			d.suspended = there
		}
	}
}

// originOf is that of a source, named "organisation/source", if there is mail of it.
func (x *index) originOf(name string) *origin {
	org, source, _ := strings.Cut(name, "/")
	t := x.tenants[org]
	if t == nil {
		return nil
	}
	for _, o := range t.origins {
		if o.source == source {
			return o
		}
	}
	return nil
}

// domainOf is the domain that a suspension names.
func domainOf(s Suspension) mail.Domain {
	d, _ := mail.ParseDomain(s.Name) // it is one: see Checked
	return d
}

// moveSuspended puts the lanes that a suspension is about where they belong now, some
// at a time.
func (q *Queue) moveSuspended(changed Suspension) {
	w := q.walk()
	defer w.end()
	x := q.index
	switch changed.Scope {
	case ScopeOrganisation, ScopeSource:
		org := changed.Name
		if changed.Scope == ScopeSource {
			org, _, _ = strings.Cut(org, "/")
		}
		t := x.tenants[org]
		if t == nil {
			return
		}
		for _, l := range t.lanes {
			x.moved(l)
			w.rest()
		}
	case ScopeDomain:
		domain := domainOf(changed)
		for _, t := range x.tenants {
			for d := x.destinations[domain]; d != nil; d = d.other {
				if l := t.lanes[d]; l != nil {
					x.moved(l)
				}
			}
			w.rest()
		}
	}
}

// suspendedRecipients counts those queued that a suspension keeps back.
func (l *lane) suspendedRecipients() (n int) {
	if l.to.way.end {
		return 0
	}
	if l.to.suspended || l.tenant().suspended {
		return int(l.counts().queued)
	}
	for p := range l.parts {
		if p.origin.suspended {
			n += int(p.queued)
		}
	}
	return n
}
