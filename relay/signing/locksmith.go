package signing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
)

// ErrNoDomain says that an organisation has no such domain.
var ErrNoDomain = errors.New("no such domain")

// ErrTaken says that a command cannot be done as keys stand now.
var ErrTaken = errors.New("cannot be done as the keys stand")

// ErrOrder says that an order is not one that can be carried out at all.
var ErrOrder = errors.New("not an order for keys")

// maxName is the longest name in DNS in its textual form (RFC 1035 section 3.1).
const maxName = 253

// Verb is what a Locksmith does.
type Verb string

// The verbs.
const (
	VerbAdd    Verb = "add"
	VerbRotate Verb = "rotate"
	VerbRevoke Verb = "revoke"
)

// Order is what is to be done to the keys of one domain.
type Order struct {
	Verb         Verb
	Organisation org.ID
	Domain       mail.Domain
	Selector     string        // add: empty for the next name; revoke: which
	Algorithm    org.Algorithm // add: needed; rotate: empty for every algorithm of the domain
	RetireAfter  time.Duration // rotate: zero for DefaultRetireAfter
	DryRun       bool          // only say what would be done
	By           string        // who asks, for Facts
}

// Change is what was done, or would have been. Keys of a dry run that were not
// made have no RecordValue.
type Change struct {
	Verb     Verb
	DryRun   bool
	Made     []KeyInfo // their records are to be published
	Replaced []KeyInfo // what those made follow
	Revoked  []KeyInfo // their records are to be published: the empty p=
	Notes    []string  // what follows from it, and what to do
}

// Locksmith makes, replaces and takes back keys: the commands of a person. Keys,
// Lives and Signer must be set, Keys must follow Lives and Signer use both.
//
// A key it makes is used once DNS publishes it, whether the registry names it or
// not; its name is never used again after it was revoked.
type Locksmith struct {
	Keys   *LocalKeys
	Lives  *Lives
	Signer *Signer
	// Facts tell of a change in the batch that makes it durable; nil: none do.
	Facts func(Order, KeyRef, time.Time) []ledger.Fact
}

// Do carries out an order on a domain of the Directory in force. Errors wrap
// ErrNoDomain, ErrNoKey, ErrTaken or ErrOrder; others are of the store.
func (l *Locksmith) Do(ctx context.Context, dir *org.Directory, o Order, now time.Time) (Change, error) {
	if o.RetireAfter == 0 {
		o.RetireAfter = DefaultRetireAfter
	}
	if err := o.check(); err != nil {
		return Change{}, err
	}
	d, ok := dir.Owner(o.Domain)
	if !ok || d.Name != o.Domain || d.Organisation != o.Organisation {
		return Change{}, fmt.Errorf("%w: %s is no domain of organisation %s", ErrNoDomain, o.Domain, o.Organisation)
	}
	j := job{Locksmith: l, Order: o, dir: dir, domain: d, now: now, before: l.Signer.ListDomain(ctx, d, now)}
	if err := j.do(ctx); err != nil {
		return Change{}, fmt.Errorf("key %s: %w", o.Verb, err)
	}
	return j.tell(ctx), nil
}

// check refuses an order that no keys could make sense of.
func (o Order) check() error {
	known := o.Algorithm == org.RSA2048 || o.Algorithm == org.Ed25519
	switch {
	case o.Verb != VerbAdd && o.Verb != VerbRotate && o.Verb != VerbRevoke:
		return fmt.Errorf("%w: %q is nothing done to keys: add, rotate or revoke", ErrOrder, o.Verb)
	case o.Verb != VerbRotate && o.RetireAfter != DefaultRetireAfter:
		return fmt.Errorf("%w: only rotate has a time after which the old key retires", ErrOrder)
	case o.RetireAfter < MinRetireAfter:
		return fmt.Errorf("%w: a key retires after %d days at least: its last signature lives so long", ErrOrder, MinRetireAfter/(24*time.Hour))
	case o.Verb == VerbRotate && o.Selector != "":
		return fmt.Errorf("%w: rotate replaces the newest key of each algorithm; name an algorithm, not a selector", ErrOrder)
	case o.Verb == VerbRevoke && o.Selector == "":
		return fmt.Errorf("%w: which selector is to be revoked?", ErrOrder)
	case o.Verb == VerbRevoke && o.Algorithm != "":
		return fmt.Errorf("%w: revoke takes a selector, not an algorithm", ErrOrder)
	case o.Verb == VerbAdd && o.Algorithm == "", o.Algorithm != "" && !known:
		return fmt.Errorf("%w: algorithm %q is none: rsa-2048 or ed25519", ErrOrder, o.Algorithm)
	case o.Selector != "" && !org.ValidSelector(o.Selector):
		return fmt.Errorf("%w: %q is no selector: lower-case letters, digits and -, for example an1", ErrOrder, o.Selector)
	}
	return nil
}

// job is one order being carried out.
type job struct {
	*Locksmith
	Order
	dir    *org.Directory
	domain *org.Domain
	now    time.Time
	before []KeyInfo // of the domain
	touch  []touched
}

// touched is a key the job is about.
type touched struct {
	ref     KeyRef
	follows string // made to follow this one
	revoked bool   // taken back now
}

func (j *job) do(ctx context.Context) error {
	switch j.Verb {
	case VerbAdd:
		return j.add(ctx)
	case VerbRotate:
		return j.rotate(ctx)
	}
	return j.revoke(ctx)
}

func (j *job) add(ctx context.Context) error {
	selector := j.Selector
	if selector == "" {
		selector = j.nextName(j.Algorithm)
	} else if why := j.takenBy(selector); why != "" {
		return fmt.Errorf("%w: selector %q of %s %s", ErrTaken, selector, j.Domain, why)
	}
	return j.make(ctx, selector, j.Algorithm, "")
}

// rotate makes a key to follow the newest of each algorithm, each in a batch of
// its own. A key that is not published yet has nothing to hand over: it is
// published first, or revoked.
func (j *job) rotate(ctx context.Context) error {
	keys := keysOfDomain(j.domain, j.Lives.ofDomain(j.Domain))
	newest := map[org.Algorithm]heldKey{}
	algorithms := slices.DeleteFunc(algorithmsOf(keys), func(a org.Algorithm) bool {
		ordered := newestFirst(keys, a)
		if len(ordered) > 0 {
			newest[a] = ordered[0]
		}
		return len(ordered) == 0 || j.Algorithm != "" && j.Algorithm != a
	})
	if len(algorithms) == 0 {
		return fmt.Errorf("%w: %s has no key to rotate: make one with key add", ErrTaken, j.Domain)
	}
	for _, a := range algorithms {
		if info := infoOf(j.before, newest[a].Selector); info == nil || !info.Published {
			return fmt.Errorf("%w: %s, the newest %s key, is not published: publish it first, or revoke it", ErrTaken, newest[a].ref(j.domain).RecordName(), a)
		}
	}
	for _, a := range algorithms {
		if err := j.make(ctx, j.nextName(a), a, newest[a].Selector); err != nil {
			return err
		}
	}
	return nil
}

// make makes and seals one key, then has it remembered: a crash between the two
// leaves a sealed key that nothing uses.
func (j *job) make(ctx context.Context, selector string, a org.Algorithm, follows string) error {
	ref := KeyRef{j.Organisation, j.Domain, selector, a}
	if len(ref.RecordName()) > maxName {
		return fmt.Errorf("%w: %s has more than %d characters: choose a shorter selector", ErrOrder, ref.RecordName(), maxName)
	}
	j.touch = append(j.touch, touched{ref: ref, follows: follows})
	if j.DryRun {
		return nil
	}
	if err := j.Keys.make(ref); err != nil {
		return err
	}
	return j.Lives.add(ctx, j.facts(ref), ref, follows, j.RetireAfter, j.now)
}

func (j *job) revoke(ctx context.Context) error {
	info := infoOf(j.before, j.Selector)
	if info == nil {
		return fmt.Errorf("%w: %s has no key %s", ErrNoKey, j.Domain, j.Selector)
	}
	ref := KeyRef{j.Organisation, j.Domain, j.Selector, org.Algorithm(info.Algorithm)}
	j.touch = append(j.touch, touched{ref: ref, revoked: true})
	if j.DryRun || info.Stage == StageRevoked {
		return nil
	}
	return j.Lives.revoke(ctx, j.facts(ref), ref, j.now)
}

func (j *job) facts(ref KeyRef) []ledger.Fact {
	if j.Facts == nil {
		return nil
	}
	return j.Facts(j.Order, ref, j.now)
}

// nextName counts on from the newest name of an algorithm.
func (j *job) nextName(a org.Algorithm) string {
	taken := func(s string) bool {
		return j.takenBy(s) != "" || j.Keys.vault.has(KeyRef{j.Organisation, j.Domain, s, a}) ||
			slices.ContainsFunc(j.touch, func(t touched) bool { return t.ref.Selector == s })
	}
	keys := keysOfDomain(j.domain, j.Lives.ofDomain(j.Domain))
	last := ""
	for _, k := range keys {
		if k.Algorithm == a {
			last = k.Selector
		}
	}
	if last == "" && !taken(firstSelectors[a]) {
		return firstSelectors[a]
	}
	if last == "" {
		last = firstSelectors[a]
	}
	return nextSelector(last, taken)
}

// takenBy says why a selector cannot be used for a new key; empty if it can.
func (j *job) takenBy(selector string) string {
	if _, listed := j.dir.Identity(j.Domain, selector); listed {
		return "is a provider's, listed by a source"
	}
	if life, known := j.Lives.of(j.Domain, selector); known && !life.Revoked.IsZero() {
		return "was revoked: its name is never used again"
	} else if known {
		return "is a key already, or was one"
	}
	if slices.ContainsFunc(j.domain.Keys, func(k org.Key) bool { return k.Selector == selector }) {
		return "is a key of the registry already"
	}
	return ""
}

// tell describes the change as DNS and the keys stand after it.
func (j *job) tell(ctx context.Context) Change {
	change := Change{Verb: j.Verb, DryRun: j.DryRun}
	after := j.before
	if !j.DryRun {
		after = j.Signer.ListDomain(ctx, j.domain, j.now)
	}
	for _, t := range j.touch {
		info := infoOf(after, t.ref.Selector)
		if info == nil { // a dry run made none
			info = &KeyInfo{
				Organisation: string(j.Organisation), Domain: j.Domain.String(), Selector: t.ref.Selector, Algorithm: string(t.ref.Algorithm),
				RecordName: t.ref.RecordName(), Stage: StageAdded, ManagedBy: ByCommand,
			}
		}
		if t.revoked {
			revoked := *info
			revoked.Stage, revoked.Signs, revoked.Published, revoked.RecordValue = StageRevoked, false, false, revokedRecord(t.ref.Algorithm)
			change.Revoked = append(change.Revoked, revoked)
			continue
		}
		change.Made = append(change.Made, *info)
		if old := infoOf(after, t.follows); old != nil {
			change.Replaced = append(change.Replaced, *old)
		}
	}
	change.Notes = notes(change, after, j.RetireAfter)
	return change
}

// notes says what a person does next.
func notes(c Change, after []KeyInfo, retireAfter time.Duration) (list []string) {
	note := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, k := range c.Made {
		note("publish %s; the key is used once DNS has it, and nothing changes before", k.RecordName)
		note("the registry is a file: add this to dkim of %s, after the other keys, so that the file tells of it; the key works without, from the data directory", k.Domain)
	}
	for _, k := range c.Replaced {
		note("%s stops signing when its successor is published; leave its record in DNS for %d days from then (signatures live %d), then take record and registry line out", k.Selector, retireAfter/(24*time.Hour), SignatureLifetime/(24*time.Hour))
	}
	for _, k := range c.Revoked {
		note("publish %s with the empty p= instead of the key, and leave it so", k.RecordName)
		note("%s never signs again, whatever the registry says; take its line out of the file", k.Selector)
		note("queued mail that it signed is held when its next attempt is due: it cannot be signed anew; drop it and have it sent again")
		published := func(other KeyInfo) bool { return other.Published && other.Selector != k.Selector }
		if !slices.ContainsFunc(after, published) {
			note("no other key of %s is published: its mail is put off (451 KEY_NOT_PUBLISHED) until one is", k.Domain)
		}
	}
	return list
}

// RegistryLine is a key as an element of `dkim` in the registry.
func RegistryLine(k KeyInfo) string {
	return fmt.Sprintf("{ selector = %q, algorithm = %q }", k.Selector, k.Algorithm)
}
