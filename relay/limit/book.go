package limit

import (
	"iter"
	"math"
	"sync"
	"time"
)

// Scope is what kind of principal an account is of.
type Scope uint8

// The scopes. Their numbers are stored.
const (
	ofSource          Scope = 1 // one way in; a credential is one
	ofOrganisation    Scope = 2 // all of an organisation's mail
	ofTenant          Scope = 3 // one tenant at a provider
	ofDomain          Scope = 4 // what a domain is written as From in
	ofShared          Scope = 5 // the sources of an organisation that tiers bound, together
	ofRecipientDomain Scope = 6 // what one source sends to one domain
	ofReports         Scope = 7 // a source's messages with the null sender
)

// Scopes are all scopes.
func Scopes() []Scope {
	return []Scope{ofSource, ofOrganisation, ofTenant, ofDomain, ofShared, ofRecipientDomain, ofReports}
}

// String is the scope in words.
func (s Scope) String() string {
	switch s {
	case ofSource:
		return "source"
	case ofOrganisation:
		return "organisation"
	case ofTenant:
		return "tenant"
	case ofDomain:
		return "domain"
	case ofShared:
		return "sources by tier"
	case ofRecipientDomain:
		return "recipient domain"
	case ofReports:
		return "reports"
	}
	return "nobody"
}

// Principal is whose budget it is: somebody who was proven, never what a message
// claims. Only a functions of this package makes one.
type Principal struct {
	scope        Scope
	organisation string
	name         string
	more         string
}

// OfSource is a source; of a credential, it is that credential's.
func OfSource(organisation, source string) Principal {
	return Principal{scope: ofSource, organisation: organisation, name: source}
}

// OfOrganisation is an organisation with all its sources.
func OfOrganisation(organisation string) Principal {
	return Principal{scope: ofOrganisation, organisation: organisation}
}

// OfTenant is a provider's tenant that was proven to be an organisation's.
func OfTenant(organisation, tenant string) Principal {
	return Principal{scope: ofTenant, organisation: organisation, name: tenant}
}

// OfDomain is an organisation's own domain, as From.
func OfDomain(organisation, domain string) Principal {
	return Principal{scope: ofDomain, organisation: organisation, name: domain}
}

// OfShared is all sources of an organisation that tiers bound.
func OfShared(organisation string) Principal {
	return Principal{scope: ofShared, organisation: organisation}
}

// OfReports is what a source sends with the null sender.
func OfReports(organisation, source string) Principal {
	return Principal{scope: ofReports, organisation: organisation, name: source}
}

// OfRecipientDomain is what a source sends to one domain.
func OfRecipientDomain(organisation, source, domain string) Principal {
	return Principal{scope: ofRecipientDomain, organisation: organisation, name: source, more: domain}
}

// Scope is what kind of principal it is.
func (p Principal) Scope() Scope { return p.scope }

// String names the principal, for the log.
func (p Principal) String() string {
	text := p.scope.String() + " " + p.organisation
	for _, part := range []string{p.name, p.more} {
		if part != "" {
			text += "/" + part
		}
	}
	return text
}

// Book keeps the accounts of principals: what each spent, whatever caps hold. Caps
// come with each question, so that a change of them counts at once. It is safe for
// concurrent use; the zero Book is ready.
//
// There are at most Keys accounts. Who has nothing left to remember is forgotten;
// if there are still too many, the least spent of some is.
type Book struct {
	Keys   int    // at most; zero: DefaultKeys
	Prefix string // of its records in the store

	mu       sync.Mutex // guards what follows
	clock    clock
	accounts map[Principal]*account
	exact    int      // recipients that are kept exactly, in all accounts
	gone     []string // records of accounts that are no more
	secret   [16]byte // of the hashes of recipients
	stored   bool     // the store has a clock
}

// account is what is remembered of a principal.
type account struct {
	rates  [rateCount]int64 // when each rate is whole again
	day    day
	unique *recipients // nil: no cap ever asked for it
	dirty  bool
}

// Spend is what one principal is to pay of a message.
type Spend struct {
	Principal  Principal
	Caps       Caps
	Amount     Amount
	Recipients []uint64 // different ones, by Hash; only where a cap counts them
}

// Excess says what a message did not fit into. The zero Excess: it fitted.
type Excess struct {
	Principal Principal
	Unit      Unit
	Retry     time.Time // when it would fit; far away if it never can
}

// IsZero says that nothing was too much.
func (e Excess) IsZero() bool { return e.Unit == "" }

// Taken is what Take took, for Return.
type Taken struct {
	spends []Spend
	slot   uint32
}

// Bounded is the principals that paid and have caps.
func (t Taken) Bounded() iter.Seq[Principal] {
	return func(yield func(Principal) bool) {
		for i := range t.spends {
			if s := &t.spends[i]; s.Caps != (Caps{}) && !yield(s.Principal) {
				return
			}
		}
	}
}

// Take takes all, or nothing. Spends have different principals. The excess that
// is told is the one that lasts longest. spends is kept until Return.
func (b *Book) Take(now time.Time, spends []Spend) (Taken, Excess) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.clock.at(now)
	worst, excess := at, Excess{}
	for i := range spends {
		s := &spends[i]
		unit, fits := b.fitsAt(s, at)
		if fits > worst {
			worst, excess = fits, Excess{Principal: s.Principal, Unit: unit}
		}
	}
	if excess.Unit != "" {
		excess.Retry = b.clock.said(worst, at, now)
		return Taken{}, excess
	}
	for i := range spends {
		b.charge(&spends[i], at)
	}
	return Taken{spends, slotOf(at)}, Excess{}
}

// Charge takes without asking: of what happened already.
func (b *Book) Charge(now time.Time, spends []Spend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.clock.at(now)
	for i := range spends {
		b.charge(&spends[i], at)
	}
}

// fitsAt says when a spend fits, and which cap says so. mu is held.
func (b *Book) fitsAt(s *Spend, at int64) (unit Unit, fits int64) {
	fits = at
	a := b.accounts[s.Principal]
	if a == nil {
		a = &nothingSpent
	} else {
		a.day.forget(at)
	}
	for i, r := range s.Caps.rates() {
		if free := r.fitsAt(a.rates[i], s.Amount.of(r.of), at); free > fits {
			unit, fits = r.unit, free
		}
	}
	for _, r := range s.Caps.days() {
		if r.most == 0 || s.Amount.of(r.of) == 0 {
			continue
		}
		if free := a.day.fitsAt(r.of, s.Amount.of(r.of), r.most, at); free > fits {
			unit, fits = r.unit, free
		}
	}
	if s.Caps.UniquePerDay > 0 && len(s.Recipients) > 0 {
		if free := b.recipientsFitAt(a, s, at); free > fits {
			unit, fits = UniquePerDay, free
		}
	}
	return unit, fits
}

// nothingSpent stands for an account that is not there. It is never changed.
var nothingSpent account

// recipientsFitAt says when the different recipients fit. mu is held.
func (b *Book) recipientsFitAt(a *account, s *Spend, at int64) int64 {
	r := a.unique
	if r == nil {
		r = &recipients{}
	}
	before := len(r.seen)
	fits := r.fitsAt(s.Recipients, a.day.sum.Recipients, s.Caps.UniquePerDay, at)
	b.exact += len(r.seen) - before // it may have forgotten some
	return fits
}

// fitsAt is the generic cell rate algorithm (ITU-T I.371), of a rate that is whole
// again at whole.
func (r *rate) fitsAt(whole, amount, at int64) int64 {
	switch {
	case r.most == 0 || amount == 0:
		return at
	case amount > r.most:
		return at + int64(never)
	}
	return max(whole, at) + r.cost(amount) - int64(r.span)
}

// cost is the time in which an amount is earned back. A fraction of a nanosecond is
// left out, so that the whole number fits.
func (r *rate) cost(amount int64) int64 {
	if amount >= math.MaxInt64/int64(time.Hour) {
		return int64(never)
	}
	return int64(float64(r.span) * float64(amount) / float64(r.most))
}

// charge takes a spend. mu is held.
func (b *Book) charge(s *Spend, at int64) {
	a := b.account(s.Principal)
	a.dirty = true
	for i, r := range s.Caps.rates() {
		if amount := s.Amount.of(r.of); r.most > 0 && amount > 0 {
			a.rates[i] = max(a.rates[i], at) + r.cost(amount)
		}
	}
	a.day.forget(at)
	a.day.add(slotOf(at), s.Amount)
	if s.Caps.UniquePerDay > 0 && len(s.Recipients) > 0 {
		b.note(a, s.Recipients, at)
	}
}

// note counts different recipients, and goes over to sketches where they become too
// many. mu is held.
func (b *Book) note(a *account, hashes []uint64, at int64) {
	if a.unique == nil {
		a.unique = &recipients{}
	}
	before := len(a.unique.seen)
	a.unique.note(hashes, at)
	b.exact += len(a.unique.seen) - before
	if len(a.unique.seen) > exactPerPrincipal || b.exact > exactInAll && len(a.unique.seen) > exactPerPrincipal/16 {
		b.exact -= len(a.unique.seen)
		a.unique.sketch()
	}
}

// account gives the account of a principal, a new one if there is none. mu is held.
func (b *Book) account(p Principal) *account {
	if a := b.accounts[p]; a != nil {
		return a
	}
	if b.accounts == nil {
		b.accounts = map[Principal]*account{}
	}
	most := b.Keys
	if most == 0 {
		most = DefaultKeys
	}
	if len(b.accounts) >= most {
		b.forgetOne()
	}
	a := &account{}
	b.accounts[p] = a
	return a
}

// forgetSample is how many accounts are looked at to find one to forget.
const forgetSample = 64

// forgetOne forgets the account that spent least, of some taken at random. mu is held.
func (b *Book) forgetOne() {
	var least Principal
	var spent int64 = math.MaxInt64
	looked := 0
	for p, a := range b.accounts { // begins anywhere (the Go specification, "For statements")
		if a.day.sum.Recipients < spent {
			least, spent = p, a.day.sum.Recipients
		}
		if looked++; looked == forgetSample {
			break
		}
	}
	b.forget(least)
}

// forget drops an account. mu is held.
func (b *Book) forget(p Principal) {
	if a := b.accounts[p]; a != nil && a.unique != nil {
		b.exact -= len(a.unique.seen)
		b.gone = append(b.gone, b.recipientKeys(p)...)
	}
	delete(b.accounts, p)
	b.gone = append(b.gone, b.accountKey(p))
}

// Return gives back what was taken, because nothing came of it. Recipients stay
// counted as different ones: the same message, tried again, has the same.
func (b *Book) Return(now time.Time, t Taken) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.clock.at(now)
	for i := range t.spends {
		s := &t.spends[i]
		a := b.accounts[s.Principal]
		if a == nil {
			continue
		}
		a.dirty = true
		for i, r := range s.Caps.rates() {
			if amount := s.Amount.of(r.of); r.most > 0 && amount > 0 {
				a.rates[i] = max(at, a.rates[i]-r.cost(amount))
			}
		}
		a.day.giveBack(t.slot, s.Amount)
	}
}

// Reset forgets what a principal spent; false: nothing was remembered.
func (b *Book) Reset(p Principal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, there := b.accounts[p]
	if there {
		b.forget(p)
	}
	return there
}

// Budget is one cap and what is left of it.
type Budget struct {
	Unit  Unit
	Most  int64
	Left  int64
	Whole time.Time // when all of it is there again, if nothing more is spent; zero: it is
}

// Look tells what is left of the caps of a principal, and what it spent in a day.
func (b *Book) Look(now time.Time, p Principal, caps Caps) (budgets []Budget, spent Amount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.clock.at(now)
	a := b.accounts[p]
	if a == nil {
		a = &account{}
	}
	a.day.forget(at)
	tell := func(unit Unit, most, used, whole int64) {
		budget := Budget{Unit: unit, Most: most, Left: max(0, most-used)}
		if used > 0 && whole > at {
			budget.Whole = b.clock.said(whole, at, now)
		}
		budgets = append(budgets, budget)
	}
	for i, r := range caps.rates() {
		if r.most > 0 {
			owed := float64(max(0, a.rates[i]-at)) / float64(r.span)
			tell(r.unit, r.most, int64(math.Ceil(owed*float64(r.most)-1e-6)), a.rates[i])
		}
	}
	var whole int64
	if n := len(a.day.slots); n > 0 {
		whole = over(a.day.slots[n-1].at)
	}
	for _, r := range caps.days() {
		if r.most > 0 {
			tell(r.unit, r.most, a.day.sum.of(r.of), whole)
		}
	}
	if caps.UniquePerDay > 0 {
		var used int64
		if a.unique != nil {
			used = b.countExactly(a, at)
		}
		tell(UniquePerDay, caps.UniquePerDay, used, whole)
	}
	return budgets, a.day.sum
}

// countExactly counts an account's recipients. mu is held.
func (b *Book) countExactly(a *account, at int64) int64 {
	before := len(a.unique.seen)
	n := a.unique.count(at)
	b.exact += len(a.unique.seen) - before
	return n
}

// Accounts is how many there are.
func (b *Book) Accounts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.accounts)
}
