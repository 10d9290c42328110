package signing

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

// lifePrefix begins the keys of the records: key/<domain>/<selector>. A domain
// and a selector that DNS can hold together fit an engine's key.
const lifePrefix = "key/"

func (l Life) key() string { return lifePrefix + l.Domain.String() + "/" + l.Selector }

// ErrRevoked says that a key was revoked: it never signs again.
var ErrRevoked = errors.New("the key was revoked")

// Lives is what is remembered of keys, durable in the engine and whole in
// memory: it grows with commands, not with keys of the registry or with mail. A
// nil *Lives remembers nothing, and nothing can be changed in it. Safe for
// concurrent use.
//
// A change is one batch, so that a crash leaves it done or not begun:
//
//	add      a life with Added, after the key is sealed (a sealed key without a life is not used)
//	rotate   the successor's life, and Successor and RetireAfter in the old one's
//	seen     Seen; need not be durable at once: it is noticed again
//	revoke   Revoked; counts from the moment it is durable
type Lives struct {
	engine   custody.Engine
	changing sync.Mutex // one durable change at a time

	mu      sync.RWMutex // guards what follows
	domains map[mail.Domain][]Life
}

// OpenLives reads what is remembered. A record that cannot be read is an error:
// it may be of a key that must never sign again.
func OpenLives(ctx context.Context, engine custody.Engine) (*Lives, error) {
	l := &Lives{engine: engine, domains: map[mail.Domain][]Life{}}
	var bad error
	err := engine.Scan(ctx, lifePrefix, "", func(key string, value []byte) bool {
		var life Life
		if err := json.Unmarshal(value, &life); err != nil || life.key() != key || life.Domain.IsZero() {
			bad = errors.Join(bad, fmt.Errorf("signing: record %s does not say which key it is about: restore the store from a backup", key))
			return true
		}
		l.put(life)
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("signing: read the lives of keys: %w", err)
	}
	return l, nil
}

// put places a life among those of its domain, oldest first. The slice is made
// anew: readers have the old one.
func (l *Lives) put(life Life) {
	old := l.domains[life.Domain]
	lives := make([]Life, 0, len(old)+1)
	for _, other := range old {
		if other.Selector != life.Selector {
			lives = append(lives, other)
		}
	}
	lives = append(lives, life)
	slices.SortFunc(lives, func(a, b Life) int {
		return cmp.Or(a.Added.Compare(b.Added), strings.Compare(a.Selector, b.Selector))
	})
	l.domains[life.Domain] = lives
}

// ofDomain gives the lives of a name, oldest first, not to be changed.
func (l *Lives) ofDomain(name mail.Domain) []Life {
	if l == nil {
		return nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.domains[name]
}

// of gives one life.
func (l *Lives) of(name mail.Domain, selector string) (Life, bool) {
	for _, life := range l.ofDomain(name) {
		if life.Selector == selector {
			return life, true
		}
	}
	return Life{}, false
}

// all gives every life.
func (l *Lives) all() (lives []Life) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, list := range l.domains {
		lives = append(lives, list...)
	}
	return lives
}

// Revoked says that the key of this name was revoked, whoever the name belongs
// to now.
func (l *Lives) Revoked(domain mail.Domain, selector string) bool {
	life, ok := l.of(domain, selector)
	return ok && !life.Revoked.IsZero()
}

// AnyRevoked says that some key of a name was revoked: only then is a message
// worth asking RevokedSignature about.
func (l *Lives) AnyRevoked(domain mail.Domain) bool {
	return slices.ContainsFunc(l.ofDomain(domain), func(life Life) bool { return !life.Revoked.IsZero() })
}

// RevokedSignature gives the selector of a signature on a finished message that
// was made with a key since revoked. signAs is the domain the message was signed
// as. Ours are the DKIM-Signature fields above the second Received field: the
// first is our own, and what came with the message stands below.
func (l *Lives) RevokedSignature(signAs mail.Domain, header mail.Header) (selector string, revoked bool) {
	if !l.AnyRevoked(signAs) {
		return "", false
	}
	hops := 0
	for _, f := range header.Fields {
		if f.Is("Received") {
			if hops++; hops == 2 {
				break
			}
		}
		if !f.Is("DKIM-Signature") {
			continue
		}
		if selector := selectorFor(f, signAs); selector != "" && l.Revoked(signAs, selector) {
			return selector, true
		}
	}
	return "", false
}

// selectorFor is s= of a signature by a domain (RFC 6376 section 3.5); empty if
// the signature is another's, or none.
func selectorFor(f mail.Field, domain mail.Domain) string {
	tags, err := dkim.ParseTags(f.RawValue())
	if err != nil {
		return ""
	}
	d, _ := tags.Get("d")
	s, _ := tags.Get("s")
	if name, err := mail.ParseDomain(d); err != nil || name != domain {
		return ""
	}
	return strings.ToLower(s)
}

// change makes lives durable with the facts that tell of them, and then counts
// them. Only who holds changing calls it.
func (l *Lives) change(ctx context.Context, b *custody.Batch, lives ...Life) error {
	for _, life := range lives {
		value, err := json.Marshal(life)
		if err != nil {
			return fmt.Errorf("signing: key %s: %w", life.key(), err)
		}
		b.Put = append(b.Put, custody.Record{Key: life.key(), Value: value})
	}
	if err := l.engine.Commit(ctx, b); err != nil {
		return fmt.Errorf("signing: remember %s: %w", lives[0].key(), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, life := range lives {
		l.put(life)
	}
	return nil
}

// add remembers a key made by a command, and what it was made to follow.
func (l *Lives) add(ctx context.Context, facts []ledger.Fact, ref KeyRef, follows string, retireAfter time.Duration, now time.Time) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if _, known := l.of(ref.Domain, ref.Selector); known {
		return fmt.Errorf("signing: key %s: %w: the name was used before", ref, ErrTaken)
	}
	made := newLife(ref)
	made.Added = now.UTC()
	lives := []Life{made}
	if follows != "" {
		old := l.lifeOf(KeyRef{ref.Organisation, ref.Domain, follows, ref.Algorithm})
		old.Successor, old.RetireAfter = ref.Selector, retireAfter
		lives = append(lives, old)
	}
	return l.change(ctx, &custody.Batch{Facts: facts}, lives...)
}

// revoke ends a key's use. A key revoked already stays as it is.
func (l *Lives) revoke(ctx context.Context, facts []ledger.Fact, ref KeyRef, now time.Time) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	life := l.lifeOf(ref)
	if !life.Revoked.IsZero() {
		return nil
	}
	life.Revoked = now.UTC()
	return l.change(ctx, &custody.Batch{Facts: facts}, life)
}

// seen remembers when a key was first seen published. It need not be durable at
// once, and an error is none for the caller: it will be seen again.
func (l *Lives) seen(ctx context.Context, ref KeyRef, now time.Time) {
	l.changing.Lock()
	defer l.changing.Unlock()
	life := l.lifeOf(ref)
	if !life.Seen.IsZero() || !life.Revoked.IsZero() {
		return
	}
	life.Seen = now.UTC()
	_ = l.change(ctx, &custody.Batch{Lazy: true}, life)
}

// lifeOf is what is remembered of a key, or the beginning of it.
func (l *Lives) lifeOf(ref KeyRef) Life {
	life, ok := l.of(ref.Domain, ref.Selector)
	if !ok || life.Organisation != ref.Organisation && life.Revoked.IsZero() {
		life = newLife(ref)
	}
	return life
}

func newLife(ref KeyRef) Life {
	return Life{Organisation: ref.Organisation, Domain: ref.Domain, Selector: ref.Selector, Algorithm: ref.Algorithm}
}

// collisions finds keys of ours, revoked ones too, that a source lists as a
// provider's: our own signature would then prove where a message is from.
func (l *Lives) collisions(dir *org.Directory) (problems []org.Problem) {
	for _, life := range l.all() {
		if s, listed := dir.Identity(life.Domain, life.Selector); listed {
			problems = append(problems, org.Problem{
				Where:   fmt.Sprintf("source %s of organisation %s", s.ID, s.Organisation),
				Message: fmt.Sprintf("selector %q of %s is a key of this relay's", life.Selector, life.Domain),
				Hint:    "list the provider's selectors only",
			})
		}
	}
	return problems
}
