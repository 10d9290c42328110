// Package seen remembers the tenants of a provider whose mail was refused because
// they are nobody's source here: what an administrator needs to decide whether
// one of them is their own organisation's after all.
//
//	refusal of a confirmed provider's mail ─► Note ─► Table ─► List ─► a person, who may add the tenant to the registry
//
// It only counts. Nothing here authorises anything, and nothing is asked of it
// on the path of a message: an organisation's tenant is what the registry says.
//
// A Table is bounded in everything that strangers write: tenants, and for each
// the From domains, organisations and samples. Who was not seen for longest is
// forgotten first. Store keeps it over a restart, lazily: a crash loses the last
// seconds of counting, which the ledger has.
package seen

import (
	"cmp"
	"container/list"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/org"
)

// Bounds of what is remembered. They are ours: enough to recognise one's own
// tenant, too little to be worth a flood.
const (
	MaxTenants = 10_000
	maxDomains = 10 // From domains of one tenant
	maxClaimed = 10 // organisations whose domains were in From
	maxSamples = 5  // the latest envelopes
	maxLeaks   = 5
)

// Sighting is one refused message of a tenant. The peer is a confirmed one of the
// provider's: from others the stamps are a stranger's text and are not noted.
type Sighting struct {
	Time       time.Time
	Tenant     string      // GUID
	Originator mail.Domain // X-OriginatorOrg: an accepted domain of the tenant
	Reason     mail.Reason
	From       mail.Domain // of the From field
	Claimed    org.ID      // whose domain that is; empty: nobody's here
	MailFrom   mail.Address
	Rcpt       mail.Domain // of the first recipient
	Peer       netip.Addr
	Leak       *Leak // a right secret of an organisation that this is not
}

// Tenant is what was seen of one tenant with one originator.
type Tenant struct {
	Tenant     string                 `json:"tenant"`
	Originator mail.Domain            `json:"originator"`
	First      time.Time              `json:"first"`
	Last       time.Time              `json:"last"`
	Messages   uint64                 `json:"messages"` // refused
	Reasons    map[mail.Reason]uint64 `json:"reasons"`
	From       []mail.Domain          `json:"from"`    // domains claimed in From, at most ten
	More       bool                   `json:"more"`    // there were more From domains
	Claimed    []org.ID               `json:"claimed"` // organisations whose domains these are
	Samples    []Sample               `json:"samples"` // the latest envelopes
	Leaks      []Leak                 `json:"leaks,omitempty"`
}

// Sample is one envelope, without anything of the message.
type Sample struct {
	Time     time.Time    `json:"time"`
	MailFrom mail.Address `json:"mail_from"`
	Rcpt     mail.Domain  `json:"rcpt_domain"`
	Peer     netip.Addr   `json:"peer"`
}

// Leak is a right secret header in mail of somebody else: it must be replaced.
type Leak struct {
	Organisation org.ID    `json:"org"`
	Source       string    `json:"source"`
	Header       string    `json:"header"`           // name of the field
	Digest       string    `json:"digest,omitempty"` // SHA-256 of the secret, in hexadecimal
	Last         time.Time `json:"last"`
}

// Stands says that the secret is still in force: it was not replaced since.
func (l Leak) Stands(dir *org.Directory) bool {
	var digest [32]byte
	if n, err := hex.Decode(digest[:], []byte(l.Digest)); err != nil || n != len(digest) {
		return false
	}
	s, ok := dir.Secret(l.Header, digest)
	return ok && s.Organisation == l.Organisation
}

// name is what a Tenant is known by.
type name struct {
	tenant     string
	originator mail.Domain
}

// Table is what was seen. The zero Table is empty and ready; it is safe for
// concurrent use.
type Table struct {
	mu     sync.Mutex // guards what follows
	known  map[name]*list.Element
	recent list.List // of *Tenant, last seen first
	dirty  map[name]bool
	gone   map[name]bool // forgotten, and perhaps stored
}

// Note counts one sighting. It says whether its tenant is new, and whether it
// shows a leak that this tenant had not shown.
func (t *Table) Note(s Sighting) (newTenant, newLeak bool) {
	n := name{strings.ToLower(s.Tenant), s.Originator}
	if n.tenant == "" || n.originator.IsZero() {
		return false, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at, known := t.known[n]
	if !known {
		at = t.put(n, &Tenant{Tenant: n.tenant, Originator: n.originator, First: s.Time, Reasons: map[mail.Reason]uint64{}})
	}
	newLeak = at.Value.(*Tenant).count(s)
	t.recent.MoveToFront(at)
	t.dirty[n] = true
	return !known, newLeak
}

// put adds a tenant, and forgets the one not seen for longest if there are too
// many. mu is held.
func (t *Table) put(n name, tenant *Tenant) *list.Element {
	if t.known == nil {
		t.known, t.dirty, t.gone = map[name]*list.Element{}, map[name]bool{}, map[name]bool{}
	}
	for len(t.known) >= MaxTenants {
		last := t.recent.Remove(t.recent.Back()).(*Tenant)
		forgotten := name{last.Tenant, last.Originator}
		delete(t.known, forgotten)
		delete(t.dirty, forgotten)
		t.gone[forgotten] = true
	}
	delete(t.gone, n)
	at := t.recent.PushFront(tenant)
	t.known[n] = at
	return at
}

// count adds a sighting to its tenant, within the bounds.
func (k *Tenant) count(s Sighting) (newLeak bool) {
	k.Messages++
	k.Last = s.Time
	if k.Reasons == nil {
		k.Reasons = map[mail.Reason]uint64{}
	}
	k.Reasons[s.Reason]++
	if !s.From.IsZero() && !slices.Contains(k.From, s.From) {
		if k.More = k.More || len(k.From) >= maxDomains; len(k.From) < maxDomains {
			k.From = append(k.From, s.From)
		}
	}
	if s.Claimed != "" && !slices.Contains(k.Claimed, s.Claimed) && len(k.Claimed) < maxClaimed {
		k.Claimed = append(k.Claimed, s.Claimed)
	}
	k.Samples = latest(append(k.Samples, Sample{Time: s.Time, MailFrom: s.MailFrom, Rcpt: s.Rcpt, Peer: s.Peer}), maxSamples)
	if s.Leak == nil {
		return false
	}
	others := slices.DeleteFunc(slices.Clone(k.Leaks), func(l Leak) bool { return l.Digest == s.Leak.Digest })
	newLeak = len(others) == len(k.Leaks)
	k.Leaks = latest(append(others, *s.Leak), maxLeaks)
	return newLeak
}

func latest[T any](all []T, n int) []T { return slices.Clone(all[max(0, len(all)-n):]) }

// Filter selects tenants. Zero fields select all.
type Filter struct {
	Org    org.ID // a From domain of theirs was claimed
	Tenant string
}

// List gives the tenants, those with most messages first.
func (t *Table) List(f Filter) []Tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := []Tenant{}
	for at := t.recent.Front(); at != nil; at = at.Next() {
		k := at.Value.(*Tenant)
		if (f.Org == "" || slices.Contains(k.Claimed, f.Org)) && (f.Tenant == "" || strings.EqualFold(f.Tenant, k.Tenant)) {
			found = append(found, k.clone())
		}
	}
	slices.SortStableFunc(found, func(a, b Tenant) int { return cmp.Compare(b.Messages, a.Messages) })
	return found
}

func (k *Tenant) clone() Tenant {
	c := *k
	c.Reasons = make(map[mail.Reason]uint64, len(k.Reasons))
	for reason, n := range k.Reasons {
		c.Reasons[reason] = n
	}
	c.From, c.Claimed, c.Samples, c.Leaks = slices.Clone(k.From), slices.Clone(k.Claimed), slices.Clone(k.Samples), slices.Clone(k.Leaks)
	return c
}

// Leaks gives the secrets that were seen in mail of somebody else and are still
// in force, each once.
func (t *Table) Leaks(dir *org.Directory) (standing []Leak) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := t.recent.Front(); at != nil; at = at.Next() {
		for _, l := range at.Value.(*Tenant).Leaks {
			if l.Stands(dir) && !slices.ContainsFunc(standing, func(o Leak) bool { return o.Digest == l.Digest }) {
				standing = append(standing, l)
			}
		}
	}
	return standing
}
