package signing

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// State says whether receivers can find a key.
type State uint8

// The states.
const (
	Unknown      State = iota // never looked up, or the look-up fails
	Published                 // the record is there and holds this key
	NotPublished              // DNS answered, and the answer does not publish this key
)

// String is the state in words.
func (s State) String() string {
	switch s {
	case Published:
		return "published"
	case NotPublished:
		return "not published"
	}
	return "unknown"
}

// How long an answer of DNS counts. A record taken away stops our signing
// within an hour, whatever its TTL; a record put there starts it within a minute.
const (
	publishedFresh    = time.Hour        // used without a look-up
	publishedWaits    = 2 * time.Hour    // past that every caller waits for the look-up under way, unless DNS fails
	publishedStale    = 24 * time.Hour   // while DNS fails, used for so long
	notPublishedFresh = time.Minute      // asked again after that
	failureFresh      = 10 * time.Second // a failed look-up is not repeated sooner
)

// Publication is what is known about one key in DNS.
type Publication struct {
	State  State
	Detail string    // in plain words, what DNS said if that is not simply the key
	Seen   time.Time // when DNS last gave the answer State rests on
	Asked  time.Time // when it was last asked, with or without success
}

// observed is one look-up's outcome: Unknown is a failed one.
type observed struct {
	state  State
	detail string
}

// next is what is known after a look-up at now. A failure takes nothing back
// until the answer before it is publishedStale old; it never makes a key
// published, nor prolongs that it was.
func (p Publication) next(o observed, now time.Time) Publication {
	switch {
	case o.state != Unknown:
		return Publication{State: o.state, Detail: o.detail, Seen: now, Asked: now}
	case p.State == Published && now.Sub(p.Seen) < publishedStale:
		return Publication{State: Published, Detail: o.detail, Seen: p.Seen, Asked: now}
	}
	return Publication{State: Unknown, Detail: o.detail, Asked: now}
}

// step is what a caller does with what is known.
type step uint8

const (
	use     step = iota // take it as it is
	refresh             // look up, unless somebody does: then take it as it is
	wait                // look up, or wait for the one who does
)

// step says what a caller at now does who wants no answer older than atMost.
func (p Publication) step(now time.Time, atMost time.Duration) step {
	seen, asked := now.Sub(p.Seen), now.Sub(p.Asked)
	failing := p.Asked.After(p.Seen) // waiting for one more failure helps nobody
	switch {
	case p.Asked.IsZero():
		return wait
	case p.State == Published && seen >= publishedStale:
		return wait
	case p.State == Published && seen < min(publishedFresh, atMost):
		return use
	case asked < failureFresh:
		return use
	case p.State == Published && (seen < publishedWaits || failing) && atMost >= publishedFresh:
		return refresh
	case p.State == NotPublished && asked < min(notPublishedFresh, atMost):
		return use
	}
	return wait
}

// publications remembers for each key whether it is published. There is no
// goroutine: who finds an answer too old looks up, one caller a key; the others
// go on with the old answer where it may still be used, or wait. The zero value
// is ready. It grows with the keys that were ever used, not with mail.
type publications struct {
	mu      sync.RWMutex // guards entries
	entries map[KeyRef]*publication
}

// publication is one key's entry.
type publication struct {
	mu     sync.Mutex // guards what follows; not held over the look-up
	public crypto.PublicKey
	known  Publication
	flight chan struct{} // closed when the look-up under way ends; nil: none is
}

func (p *publications) entry(ref KeyRef) *publication {
	p.mu.RLock()
	e := p.entries[ref]
	p.mu.RUnlock()
	if e != nil {
		return e
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = make(map[KeyRef]*publication)
	}
	if p.entries[ref] == nil {
		p.entries[ref] = new(publication)
	}
	return p.entries[ref]
}

// check says whether a key is published, by an answer not older than atMost and
// the bounds above.
func (p *publications) check(ctx context.Context, resolver mail.Resolver, ref KeyRef, public crypto.PublicKey, now time.Time, atMost time.Duration) Publication {
	e := p.entry(ref)
	for {
		known, flight, mine := e.begin(public, now, atMost)
		switch {
		case mine:
			return e.look(ctx, resolver, ref, public, now)
		case flight == nil:
			return known
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return Publication{State: Unknown, Detail: "waiting for the look-up: " + ctx.Err().Error()}
		}
	}
}

// begin gives what is known if it may be used, or the flight to wait for, or the
// caller's own duty to look up. A key that changed is known nothing about.
func (e *publication) begin(public crypto.PublicKey, now time.Time, atMost time.Duration) (known Publication, flight chan struct{}, mine bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !samePublic(public, e.public) {
		e.public, e.known = public, Publication{}
	}
	switch do := e.known.step(now, atMost); {
	case do == use, do == refresh && e.flight != nil:
		return e.known, nil, false
	case e.flight != nil:
		return Publication{}, e.flight, false
	}
	e.flight = make(chan struct{})
	return Publication{}, nil, true
}

// look asks DNS and keeps the answer. The end of the caller's own context says
// nothing about DNS and is not kept: the next one asks again. Nor is an answer
// about a key that was changed meanwhile.
func (e *publication) look(ctx context.Context, resolver mail.Resolver, ref KeyRef, public crypto.PublicKey, now time.Time) Publication {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		close(e.flight)
		e.flight = nil
	}()
	seen := observe(ctx, resolver, ref, public)
	e.mu.Lock()
	defer e.mu.Unlock()
	if seen.state == Unknown && ctx.Err() != nil || !samePublic(public, e.public) {
		return Publication{}.next(seen, now)
	}
	e.known = e.known.next(seen, now)
	return e.known
}

// observe looks one key's record up. Several records are no publication: RFC
// 6376 section 3.6.2.2 leaves open which one a receiver takes.
func observe(ctx context.Context, resolver mail.Resolver, ref KeyRef, public crypto.PublicKey) observed {
	answer, err := resolver.TXT(ctx, ref.RecordName())
	switch {
	case errors.Is(err, mail.ErrNoDomain):
		return observed{NotPublished, "the name does not exist"}
	case err != nil:
		return observed{Unknown, "the look-up failed: " + err.Error()}
	case len(answer.Records) == 0:
		return observed{NotPublished, "the name exists, but has no TXT record"}
	case len(answer.Records) > 1:
		return observed{NotPublished, fmt.Sprintf("the name has %d TXT records; there must be one", len(answer.Records))}
	}
	if err := dkim.CheckPublished(answer.Records[0], public); err != nil {
		return observed{NotPublished, err.Error()}
	}
	if record, err := dkim.ParseRecord(answer.Records[0]); err == nil && record.Testing {
		return observed{Published, "the record says t=y: receivers may treat the mail as unsigned"}
	}
	return observed{Published, ""}
}
