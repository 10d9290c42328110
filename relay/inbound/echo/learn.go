package echo

import (
	"slices"
	"time"

	"anechoic/mail"
)

// Profile is what is remembered of one organisational domain. It is a value: Learn
// gives another and leaves this one as it is.
type Profile struct {
	Domain    mail.Domain `json:"domain"`
	Tenants   []Tenant    `json:"tenants,omitempty"`   // that held the domain's key
	Names     []Name      `json:"names,omitempty"`     // that the domain's DNS gives its tenants
	Strangers []Stranger  `json:"strangers,omitempty"` // the latest that belong to nobody known
}

// Tenant is one that was seen to hold the domain's key.
type Tenant struct {
	ID    string    `json:"id"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Days  int       `json:"days"` // different days, UTC
}

// Name is a provider's name of a tenant.
type Name struct {
	Name mail.Domain `json:"name"`
	Last time.Time   `json:"last"`
}

// Stranger is a foreign tenant that sent as the domain.
type Stranger struct {
	ID    string    `json:"id"` // GUID; the originator where only that was stated
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// When a tenant counts as learned. A week has all days on which an organisation
// writes. Three days of it keep one slip from standing: a key or a domain that is in
// the wrong tenant for an afternoon, and is taken back when somebody notices.
const (
	LearnDays = 3
	LearnSpan = 7 * 24 * time.Hour
)

// How long things are remembered: three months without mail make an organisation
// a stranger, one month a newcomer that did not stay.
const (
	Memory         = 90 * 24 * time.Hour
	newcomerMemory = 30 * 24 * time.Hour
)

// Bounds of a profile. Of strangers the latest count; the others are more than
// organisations have, by what the provider's own limits and mergers make usual.
const (
	maxTenants   = 16
	maxNames     = 8
	maxStrangers = 32
	maxNewcomers = 4 // tenants that are learned at the same time; in a burst of more none is
)

// Learned says that the tenant counts as the domain's own.
func (t Tenant) Learned(now time.Time) bool { return t.known(now) }

// known says that a tenant is learned.
func (t Tenant) known(now time.Time) bool {
	return t.Days >= LearnDays && t.Last.Sub(t.First) >= LearnSpan && now.Sub(t.Last) <= Memory
}

// over says that a tenant is to be forgotten.
func (t Tenant) over(now time.Time) bool {
	if t.Days >= LearnDays && t.Last.Sub(t.First) >= LearnSpan {
		return now.Sub(t.Last) > Memory
	}
	return now.Sub(t.Last) > newcomerMemory
}

func (p Profile) learned(tenant string, now time.Time) bool {
	return slices.ContainsFunc(p.Tenants, func(t Tenant) bool { return t.ID == tenant && t.known(now) })
}

func (p Profile) names(d mail.Domain, now time.Time) bool {
	return slices.ContainsFunc(p.Names, func(n Name) bool { return n.Name == d && now.Sub(n.Last) <= Memory })
}

// anyKnown says that the domain's own tenants are known, by mail or by DNS.
func (p Profile) anyKnown(now time.Time) bool {
	return slices.ContainsFunc(p.Tenants, func(t Tenant) bool { return t.known(now) }) ||
		slices.ContainsFunc(p.Names, func(n Name) bool { return now.Sub(n.Last) <= Memory })
}

// Known lists the tenants that are learned at a time.
func (p Profile) Known(now time.Time) (ids []string) {
	for _, t := range p.Tenants {
		if t.known(now) {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// taught says that some tenant was learned, however long ago.
func (p Profile) taught() bool {
	return slices.ContainsFunc(p.Tenants, func(t Tenant) bool { return t.known(t.Last) })
}

// Empty says that there is nothing worth keeping.
func (p Profile) Empty() bool { return len(p.Tenants)+len(p.Names)+len(p.Strangers) == 0 }

// burst counts the new strangers of the last day, tenant among them.
func (p Profile) burst(tenant string, now time.Time) int {
	n, listed := 0, false
	for _, s := range p.Strangers {
		if s.ID == tenant {
			listed = true
		}
		if now.Sub(s.First) <= newFor && (now.Sub(s.Last) <= burstWithin || s.ID == tenant) {
			n++
		}
	}
	if !listed {
		n++
	}
	return n
}

// Learn is the profile after a message. It forgets what is over, whatever the
// message is; it learns from a message that teaches, and notes a stranger's.
func Learn(rule Rule, p Profile, o Observation) Profile {
	p = p.clone()
	p.forget(o.Time)
	if !o.DMARC || o.Organisational.IsZero() {
		return p
	}
	p.Domain = o.Organisational
	for _, n := range o.names() {
		p.noteName(n, o.Time)
	}
	switch {
	case teaches(o):
		p.noteTenant(o.Stamps.Tenant, o.Time)
	case isStranger(rule, p, o):
		p.noteStranger(o.Stamps.who(), o.Time)
	}
	return p
}

func (p Profile) clone() Profile {
	p.Tenants, p.Names, p.Strangers = slices.Clone(p.Tenants), slices.Clone(p.Names), slices.Clone(p.Strangers)
	return p
}

func (p *Profile) forget(now time.Time) {
	p.Tenants = slices.DeleteFunc(p.Tenants, func(t Tenant) bool { return t.over(now) })
	p.Names = slices.DeleteFunc(p.Names, func(n Name) bool { return now.Sub(n.Last) > Memory })
	p.Strangers = slices.DeleteFunc(p.Strangers, func(s Stranger) bool { return now.Sub(s.Last) > newcomerMemory })
}

// teaches says that a message shows that its tenant holds the From domain's key,
// in a way that the blind signature of a relay does not (DESIGN.md has each
// condition and the attack it stops). Only the provider's own hands teach: behind a
// relay the stamps, which nothing signs, are its word.
func teaches(o Observation) bool {
	s := o.Stamps
	if o.Peer != ProviderPeer || s.Entry != Mailbox || s.Repeated || s.Tenant == "" || s.Tenant == consumerTenant {
		return false
	}
	for _, seal := range o.Seals {
		if seal.Attested.Outside || seal.Attested.DMARC == "fail" {
			return false // it came from outside at some time
		}
	}
	return hasOwnKey(o) || o.aligned(s.Originator) && isSealedInside(o)
}

// hasOwnKey says that the provider signed the leaving message with a key that it
// keeps for the From domain.
func hasOwnKey(o Observation) bool {
	return slices.ContainsFunc(o.Signatures, func(s Signature) bool {
		_, kept := NameOf(s.Alias)
		return kept && o.aligned(s.Domain) && o.place(s) == Egress
	})
}

// isSealedInside says that the provider attests of the message, as it is, that it
// was written inside with this From and saw nothing before this tenant.
func isSealedInside(o Observation) bool {
	return len(o.Seals) == 1 && o.Seals[0].Instance == 1 && o.Seals[0].Intact &&
		o.Seals[0].Attested.DMARC == "pass" && o.aligned(o.Seals[0].Attested.HeaderFrom)
}

// noteTenant counts a day of a tenant that taught. While more newcomers than
// maxNewcomers are about, none of them gets a day: an organisation has them one by
// one, and who has many at once waits or is vouched for.
func (p *Profile) noteTenant(id string, now time.Time) {
	i := slices.IndexFunc(p.Tenants, func(t Tenant) bool { return t.ID == id })
	if i < 0 {
		if p.Tenants = p.makeRoom(); len(p.Tenants) < maxTenants {
			p.Tenants = append(p.Tenants, Tenant{ID: id, First: now, Last: now, Days: 1})
		}
		return
	}
	t := &p.Tenants[i]
	switch {
	case !now.After(t.Last):
		return
	case !t.known(now) && p.newcomers(now) > maxNewcomers:
		t.First, t.Last, t.Days = now, now, 1
	case !sameDay(now, t.Last):
		t.Days++
		t.Last = now
	default:
		t.Last = now
	}
}

// makeRoom drops the newcomer that was not seen for longest, if the list is full;
// nobody who is learned.
func (p *Profile) makeRoom() []Tenant {
	if len(p.Tenants) < maxTenants {
		return p.Tenants
	}
	worst := -1
	for i, t := range p.Tenants {
		if !t.known(t.Last) && (worst < 0 || t.Last.Before(p.Tenants[worst].Last)) {
			worst = i
		}
	}
	if worst < 0 {
		return p.Tenants
	}
	return slices.Delete(p.Tenants, worst, worst+1)
}

func (p *Profile) newcomers(now time.Time) (n int) {
	for _, t := range p.Tenants {
		if !t.known(now) {
			n++
		}
	}
	return n
}

func sameDay(a, b time.Time) bool {
	return a.UTC().Truncate(24 * time.Hour).Equal(b.UTC().Truncate(24 * time.Hour))
}

// isStranger says that a message is of a tenant that belongs to nobody known.
func isStranger(rule Rule, p Profile, o Observation) bool {
	var v Verdict
	return v.relate(rule, p, o) == foreign
}

func (p *Profile) noteStranger(id string, now time.Time) {
	i := slices.IndexFunc(p.Strangers, func(s Stranger) bool { return s.ID == id })
	if i >= 0 {
		if s := &p.Strangers[i]; now.After(s.Last) {
			s.Last = now
		}
		return
	}
	if len(p.Strangers) >= maxStrangers {
		oldest := slices.MinFunc(p.Strangers, func(a, b Stranger) int { return a.Last.Compare(b.Last) })
		p.Strangers = slices.DeleteFunc(p.Strangers, func(s Stranger) bool { return s.ID == oldest.ID })
	}
	p.Strangers = append(p.Strangers, Stranger{ID: id, First: now, Last: now})
}

func (p *Profile) noteName(d mail.Domain, now time.Time) {
	i := slices.IndexFunc(p.Names, func(n Name) bool { return n.Name == d })
	switch {
	case i >= 0:
		if now.After(p.Names[i].Last) {
			p.Names[i].Last = now
		}
	case len(p.Names) >= maxNames:
		oldest := slices.MinFunc(p.Names, func(a, b Name) int { return a.Last.Compare(b.Last) })
		p.Names[slices.Index(p.Names, oldest)] = Name{d, now}
	default:
		p.Names = append(p.Names, Name{d, now})
	}
}

// lastSeen is when the profile last changed.
func (p Profile) lastSeen() (last time.Time) {
	for _, t := range p.Tenants {
		last = later(last, t.Last)
	}
	for _, n := range p.Names {
		last = later(last, n.Last)
	}
	for _, s := range p.Strangers {
		last = later(last, s.Last)
	}
	return last
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
