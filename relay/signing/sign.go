// Package signing puts an organisation's DKIM signatures on a message that was
// proven to be the organisation's.
//
// The steps of Sign: the warrant must be one that policy made; its domain must be
// one of the proven organisation in the Directory given; of each algorithm of
// that domain the newest published key signs once. Keys, the private halves, are
// used through the interface of that name, which gives signatures and public
// halves and nothing else.
//
// Keys change: a Locksmith adds, rotates and revokes them, Lives remembers it, and
// what is remembered decides which keys there are beside the registry's.
//
// It guarantees that nothing is signed without a custody.Proven, that the
// signing domain comes from the organisation and never from the message, and
// that no signature leaves that receivers could not verify: without a published
// key the message is put off (451), not sent unsigned.
//
// It is not for verifying, which is standard/dkim's, nor for the bounces of the
// relay itself.
package signing

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

// SignatureLifetime is x= minus t=: longer than a message waits in a queue (five
// days, RFC 5321 section 4.5.4.1), short enough to bound replays.
const SignatureLifetime = 6 * 24 * time.Hour

// Signer is the stage. Keys and Resolver must be set; it must not be copied.
type Signer struct {
	Keys     Keys
	Resolver mail.Resolver
	Lives    *Lives // nil: nothing is remembered of keys

	RelayKeys []KeyRef // the relay's own, for the list

	publications publications
	slots        slots
	faults       atomic.Uint64
}

// candidate is a key of the domain and what is known about it.
type candidate struct {
	ref         KeyRef
	public      crypto.PublicKey
	publication Publication
	err         error // the key cannot be used: public is nil
}

// Sign makes the DKIM-Signature fields for a message, to be put on top of the
// header given: one for each algorithm of the warrant's domain that has a
// published key, by the newest of these. hashes are those of the body. A warrant whose SignAs is
// zero gives no fields: the message leaves unsigned.
//
// It refuses with SigningFailed what should never come (the zero warrant, a
// domain that is not the organisation's; counted as Faults) and what the keys
// cannot do now; with KeyNotPublished a domain without a published key; with
// LookupFailed if DNS does not say.
func (s *Signer) Sign(ctx context.Context, w custody.Proven, dir *org.Directory, header mail.Header, hashes dkim.BodyHashes, now time.Time) ([]mail.Field, *mail.Refusal) {
	if w.IsZero() {
		return nil, s.fault("%v: a message came to signing that nothing proves", custody.ErrNoWarrant)
	}
	if w.SignAs().IsZero() {
		return nil, nil
	}
	domain, ok := dir.Owner(w.SignAs())
	if !ok || domain.Name != w.SignAs() || domain.Organisation != w.Organisation() {
		return nil, s.fault("%s is no domain of organisation %s", w.SignAs(), w.Organisation())
	}
	published, refusal := s.published(ctx, domain, now)
	if refusal != nil {
		return nil, refusal
	}
	signers := make([]dkim.Signer, len(published))
	for i, c := range published {
		signers[i] = dkim.Signer{Domain: c.ref.Domain, Selector: c.ref.Selector, Key: s.use(ctx, c)}
	}
	fields, err := dkim.Sign(header, hashes, signers, now, SignatureLifetime)
	if err != nil {
		return nil, mail.SigningFailed.Because("%v", err)
	}
	return fields, nil
}

// Faults is how often Sign was asked for what no stage should ask: a sign of a
// fault in this program or of tampering with stored messages.
func (s *Signer) Faults() uint64 { return s.faults.Load() }

func (s *Signer) fault(format string, args ...any) *mail.Refusal {
	s.faults.Add(1)
	return mail.SigningFailed.Because(format, args...)
}

// published gives the keys of a domain that sign now, of each algorithm the
// newest that is published, or why there is none.
func (s *Signer) published(ctx context.Context, d *org.Domain, now time.Time) ([]candidate, *mail.Refusal) {
	var found, others []candidate
	keys := keysOfDomain(d, s.Lives.ofDomain(d.Name))
	for _, algorithm := range algorithmsOf(keys) {
		ordered := newestFirst(keys, algorithm)
		for i, k := range ordered {
			c := s.candidate(ctx, k.ref(d), now, publishedFresh)
			if c.err == nil && c.publication.State == Published {
				s.saw(ctx, d, ordered[i:], now)
				found = append(found, c)
				break
			}
			others = append(others, c)
		}
	}
	if len(found) == 0 {
		return nil, unsignable(d, keys, others)
	}
	return found, nil
}

// saw has it remembered that the first of ordered is published, where that
// matters: a command made it, or older keys retire by it.
func (s *Signer) saw(ctx context.Context, d *org.Domain, ordered []heldKey, now time.Time) {
	newest := ordered[0]
	if s.Lives == nil || !newest.life.Seen.IsZero() || newest.life.Added.IsZero() && len(ordered) == 1 {
		return
	}
	s.Lives.seen(ctx, newest.ref(d), now)
}

// candidate looks at one key.
func (s *Signer) candidate(ctx context.Context, ref KeyRef, now time.Time, atMost time.Duration) candidate {
	public, err := s.Keys.Public(ref)
	if err != nil {
		return candidate{ref: ref, err: err}
	}
	return candidate{ref: ref, public: public, publication: s.publications.check(ctx, s.Resolver, ref, public, now, atMost)}
}

// unsignable says why none of a domain's keys can sign. What may pass by itself
// comes first: a key store that does not answer, then DNS.
func unsignable(d *org.Domain, keys []heldKey, tried []candidate) *mail.Refusal {
	switch {
	case len(keys) == 0:
		return mail.KeyNotPublished.Because("%s has no DKIM key: add one under dkim in the registry, or with `anechoic key add`", d.Name)
	case len(tried) == 0:
		return mail.KeyNotPublished.Because("every DKIM key of %s was revoked: make one with `anechoic key add`", d.Name)
	}
	refusal := mail.KeyNotPublished
	var why []string
	for _, c := range tried {
		switch {
		case c.err != nil:
			refusal = mail.SigningFailed
			why = append(why, c.err.Error())
			continue
		case c.publication.State == Unknown && refusal == mail.KeyNotPublished:
			refusal = mail.LookupFailed
		}
		why = append(why, c.ref.RecordName()+" TXT: "+c.publication.Detail)
	}
	if refusal == mail.KeyNotPublished {
		why = append(why, "publish one of these records as `anechoic key show` prints it")
	}
	return refusal.Because("%s", strings.Join(why, "; "))
}

// oneUse is one use of one key, as crypto.Signer wants it.
type oneUse struct {
	public crypto.PublicKey
	sign   func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (u oneUse) Public() crypto.PublicKey { return u.public }

func (u oneUse) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return u.sign(digest, opts)
}

// use lets a message be signed with a candidate, RSA within the slots. A key
// that was swapped since its record was checked does not sign.
func (s *Signer) use(ctx context.Context, c candidate) crypto.Signer {
	return oneUse{public: c.public, sign: func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		if c.ref.Algorithm == org.RSA2048 {
			if err := s.slots.take(ctx); err != nil {
				return nil, err
			}
			defer s.slots.give()
		}
		sig, err := s.Keys.Sign(ctx, c.ref, digest, opts)
		if err != nil {
			return nil, err
		}
		if now, err := s.Keys.Public(c.ref); err != nil || !samePublic(now, c.public) {
			return nil, fmt.Errorf("signing: key %s was changed while it signed", c.ref)
		}
		return sig, nil
	}}
}

// slots bounds how many RSA signatures are made at once: as many as there are
// processors. More would only make each of them later, and everything else too.
// Before it signs, a holder lets everybody go first who is ready to run: a
// signature takes longer than all else a message needs, and without that every
// step of a delivery would wait behind several. The zero value is ready.
type slots struct {
	once sync.Once
	free chan struct{}
}

func (s *slots) take(ctx context.Context) error {
	s.once.Do(func() { s.free = make(chan struct{}, runtime.GOMAXPROCS(0)) })
	select {
	case s.free <- struct{}{}:
		runtime.Gosched()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("signing: waiting for a processor: %w", ctx.Err())
	}
}

func (s *slots) give() { <-s.free }
