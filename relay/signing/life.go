package signing

import (
	"slices"
	"time"

	"anechoic/mail"
	"anechoic/org"
)

// Life is what is remembered of one key beside the registry: moments, each
// written once. What stage the key is in follows from them and from DNS, so that
// nothing needs to be written when time passes.
type Life struct {
	Organisation org.ID        `json:"org"`
	Domain       mail.Domain   `json:"domain"`
	Selector     string        `json:"selector"`
	Algorithm    org.Algorithm `json:"algorithm"`
	Added        time.Time     `json:"added,omitzero"`        // made by a command; zero: the registry names it
	Seen         time.Time     `json:"seen,omitzero"`         // first seen published, where that ends an older key's time
	Successor    string        `json:"successor,omitempty"`   // the key that was made to follow
	RetireAfter  time.Duration `json:"retire_after,omitzero"` // from the successor's Seen to the end of retiring
	Revoked      time.Time     `json:"revoked,omitzero"`      // never signs again; the name is never used again
}

// Stage is where a key stands in its life.
type Stage string

// The stages. Among the keys of a domain and algorithm the newest that DNS
// publishes signs, and no other.
const (
	StageAdded    Stage = "added"    // not seen published yet, so not used
	StageActive   Stage = "active"   // published, and none newer is
	StageRetiring Stage = "retiring" // a newer one was seen published: the record must stay until its signatures end
	StageRetired  Stage = "retired"  // that is over: record and registry line may go
	StageRevoked  Stage = "revoked"  // taken back: never signs again
)

// How long a key retires: longer than its last signature lives. The default is
// a day more than that.
const (
	MinRetireAfter     = SignatureLifetime
	DefaultRetireAfter = 7 * 24 * time.Hour
)

// heldKey is a key of a domain with what is remembered of it.
type heldKey struct {
	org.Key
	life   Life
	byFile bool // the registry names it
}

func (k heldKey) revoked() bool { return !k.life.Revoked.IsZero() }

// ref names the key. What only a life names is that life's.
func (k heldKey) ref(d *org.Domain) KeyRef { return refOf(d, k.Key) }

// keysOfDomain gives every key of a domain: those of the registry in its order,
// then those made by command, oldest first. lives are those of the domain's name,
// oldest first; those of another organisation count only where they revoke.
func keysOfDomain(d *org.Domain, lives []Life) []heldKey {
	keys := make([]heldKey, 0, len(d.Keys)+len(lives))
	for _, k := range d.Keys {
		held := heldKey{Key: k, byFile: true}
		for _, l := range lives {
			same := l.Organisation == d.Organisation && l.Algorithm == k.Algorithm
			if l.Selector == k.Selector && (same || !l.Revoked.IsZero()) {
				held.life = l
			}
		}
		keys = append(keys, held)
	}
	for _, l := range lives {
		named := slices.ContainsFunc(d.Keys, func(k org.Key) bool { return k.Selector == l.Selector })
		mine := l.Organisation == d.Organisation && (!l.Added.IsZero() || !l.Revoked.IsZero())
		if mine && !named {
			keys = append(keys, heldKey{Key: org.Key{Selector: l.Selector, Algorithm: l.Algorithm}, life: l})
		}
	}
	return keys
}

// newestFirst gives the keys of one algorithm that were not revoked, in the order
// in which they are tried: a later one before an earlier one, and a successor
// before what it was made to follow, wherever they stand.
func newestFirst(keys []heldKey, algorithm org.Algorithm) []heldKey {
	ordered := make([]heldKey, 0, len(keys))
	taken := make([]bool, len(keys))
	var take func(i int)
	take = func(i int) {
		if taken[i] || keys[i].Algorithm != algorithm {
			return
		}
		taken[i] = true
		if next := keys[i].life.Successor; next != "" {
			if j := slices.IndexFunc(keys, func(k heldKey) bool { return k.Selector == next }); j >= 0 {
				take(j)
			}
		}
		if !keys[i].revoked() {
			ordered = append(ordered, keys[i])
		}
	}
	for i := len(keys) - 1; i >= 0; i-- {
		take(i)
	}
	return ordered
}

// algorithmsOf gives the algorithms of keys in the order in which they first
// stand: one signature is made for each.
func algorithmsOf(keys []heldKey) []org.Algorithm {
	algorithms := make([]org.Algorithm, 0, 2)
	for _, k := range keys {
		if !slices.Contains(algorithms, k.Algorithm) {
			algorithms = append(algorithms, k.Algorithm)
		}
	}
	return algorithms
}

// supersededAt is when a newer key than ordered[i] was first seen published; zero
// if none was. A newer key that was revoked is not among ordered: what it took
// over from stands again as it did before.
func supersededAt(ordered []heldKey, i int) (first time.Time) {
	for _, newer := range ordered[:i] {
		if seen := newer.life.Seen; !seen.IsZero() && (first.IsZero() || seen.Before(first)) {
			first = seen
		}
	}
	return first
}

// retiresAt is the end of retiring of a key that was superseded at a moment.
func (l Life) retiresAt(superseded time.Time) time.Time {
	after := l.RetireAfter
	if after < MinRetireAfter {
		after = DefaultRetireAfter
	}
	return superseded.Add(after)
}

// stage is the table of a key's life. superseded is supersededAt; published is
// what DNS says now.
//
//	revoked  superseded  time            published  stage
//	yes      -           -               -          revoked
//	no       never       -               no         added (active, if it was seen before)
//	no       never       -               yes        active
//	no       yes         before the end  -          retiring
//	no       yes         after the end   -          retired
func (l Life) stage(superseded time.Time, published bool, now time.Time) Stage {
	switch {
	case !l.Revoked.IsZero():
		return StageRevoked
	case superseded.IsZero() && (published || !l.Seen.IsZero()):
		return StageActive
	case superseded.IsZero():
		return StageAdded
	case now.Before(l.retiresAt(superseded)):
		return StageRetiring
	}
	return StageRetired
}
