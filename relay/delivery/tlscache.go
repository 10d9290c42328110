package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/relay/custody"
	"anechoic/standard/mtasts"
)

// stsPrefix begins the records of policies in force: sts/<domain>.
const stsPrefix = "sts/"

// Bounds of the policy cache.
const (
	maxPolicies    = 50_000          // domains remembered, most of them without a policy
	askAgainAfter  = time.Minute     // the record's id is not looked up more often, whatever its TTL
	fetchesAtATime = 8               // of Refresh
	flightTime     = 2 * time.Minute // look-up and fetch
)

// STSCache knows the MTA-STS policies of recipients' domains. What is in force
// outlives a restart. Fields are set before first use; Load comes first, Close
// last. It is safe for concurrent use: of several attempts that need a policy
// one fetches it, and the others wait.
type STSCache struct {
	Resolver mail.Resolver
	Over     http.RoundTripper // of mtasts.Transport
	Store    custody.Engine
	Log      *slog.Logger // nil: no log

	mu      sync.Mutex // guards what follows
	known   map[mail.Domain]*knownPolicy
	closed  bool
	closing chan struct{}
	running sync.WaitGroup // flights
}

// knownPolicy is what is known of one domain.
type knownPolicy struct {
	entry  mtasts.Entry
	fault  error         // of the last fetch
	asked  time.Time     // when its record was looked up
	flight chan struct{} // closed when the look-up under way is over; nil: there is none
}

// Load reads the policies that were in force.
func (c *STSCache) Load(ctx context.Context) error {
	var entries []mtasts.Entry
	var bad error
	err := c.Store.Scan(ctx, stsPrefix, "", func(key string, value []byte) bool {
		var e mtasts.Entry
		if err := json.Unmarshal(value, &e); err != nil || stsPrefix+e.Domain.String() != key {
			bad = fmt.Errorf("record %s: %w", key, cmp.Or(err, errors.New("it is of another domain")))
			return true
		}
		entries = append(entries, e)
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open()
	for _, e := range entries {
		c.known[e.Domain] = &knownPolicy{entry: e}
	}
	return errors.Join(err, bad)
}

// open makes the map; c.mu is held.
func (c *STSCache) open() {
	if c.known == nil {
		c.known, c.closing = make(map[mail.Domain]*knownPolicy), make(chan struct{})
	}
}

// Close ends fetches under way and waits for them.
func (c *STSCache) Close() {
	c.mu.Lock()
	c.open()
	if !c.closed {
		close(c.closing)
	}
	c.closed = true
	c.mu.Unlock()
	c.running.Wait()
}

// Policy is what is known of a domain, after asking where that is due. The error
// says why a policy that the domain has could not be had; there is none while
// one is in force.
func (c *STSCache) Policy(ctx context.Context, domain mail.Domain) (mtasts.Entry, error) {
	for {
		entry, flight, fault := c.look(domain, time.Now())
		if flight == nil {
			return entry, fault
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return entry, nil // the attempt is over
		}
	}
}

// look gives what is known, or the flight to wait for, which it starts if it is
// due.
func (c *STSCache) look(domain mail.Domain, now time.Time) (mtasts.Entry, chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open()
	k := c.known[domain]
	if k == nil {
		c.makeRoom(now)
		k = &knownPolicy{entry: mtasts.Entry{Domain: domain}}
		c.known[domain] = k
	}
	if k.flight == nil && now.Sub(k.asked).Abs() >= askAgainAfter && !c.closed {
		c.start(k, func(ctx context.Context) { c.renew(ctx, k.entry, true) })
	}
	if k.flight != nil {
		return k.entry, k.flight, nil
	}
	if k.entry.InForce(now) {
		return k.entry, nil, nil
	}
	return k.entry, nil, k.fault
}

// start begins a flight; c.mu is held.
func (c *STSCache) start(k *knownPolicy, fly func(context.Context)) {
	landed := make(chan struct{})
	k.flight = landed
	background.Go(&c.running, c.Log, "delivery: fetch an MTA-STS policy", func() {
		ctx, cancel := context.WithTimeout(context.Background(), flightTime)
		defer cancel()
		background.Go(nil, c.Log, "delivery: watch a fetch", func() { // ends with ctx, that is with this flight
			select {
			case <-c.closing:
				cancel()
			case <-ctx.Done():
			}
		})
		defer func() {
			c.mu.Lock()
			k.flight = nil
			c.mu.Unlock()
			close(landed)
		}()
		fly(ctx)
	})
}

// makeRoom forgets domains without a policy when there are too many; c.mu is
// held.
func (c *STSCache) makeRoom(now time.Time) {
	if len(c.known) < maxPolicies {
		return
	}
	for domain, k := range c.known {
		if k.flight == nil && k.entry.Forgettable(now) {
			delete(c.known, domain)
			if len(c.known) < maxPolicies*9/10 {
				return
			}
		}
	}
}

// renew asks for the domain's record and fetches the policy if that is due. ask
// says whether to look the record up at all.
func (c *STSCache) renew(ctx context.Context, entry mtasts.Entry, ask bool) {
	now := time.Now()
	id := ""
	if ask {
		id = c.recordID(ctx, entry.Domain)
	}
	var fault error
	due := entry.Due(id, now)
	if due {
		var policy mtasts.Policy
		policy, fault = mtasts.Fetch(ctx, c.Over, entry.Domain)
		if fault == nil {
			entry = entry.Renewed(id, policy, now.UTC())
		} else if entry = entry.Failed(fault, now.UTC()); c.Log != nil && ctx.Err() == nil {
			c.Log.LogAttrs(ctx, slog.LevelWarn, "an MTA-STS policy cannot be had", slog.String("domain", entry.Domain.String()), slog.Bool("cached", entry.InForce(now)), slog.String("why", printable(fault.Error(), maxKeptReply)))
		}
	}
	c.settle(ctx, entry, fault, due, id == "" && ask)
}

// recordID is the id of the domain's record; empty if there is none, or if DNS
// cannot tell: then what is known stays (RFC 8461 section 5.1).
func (c *STSCache) recordID(ctx context.Context, domain mail.Domain) string {
	answer, err := c.Resolver.TXT(ctx, mtasts.Owner(domain))
	if err != nil {
		return ""
	}
	id, err := mtasts.Find(answer.Records)
	if err != nil {
		return ""
	}
	return id
}

// settle puts what was learnt in force, and in store. Without a record there is
// nothing that could not be had.
func (c *STSCache) settle(ctx context.Context, entry mtasts.Entry, fault error, fetched, noRecord bool) {
	c.mu.Lock()
	if k := c.known[entry.Domain]; k != nil {
		k.entry, k.asked = entry, time.Now()
		if fetched || noRecord {
			k.fault = fault
		}
	}
	c.mu.Unlock()
	if !fetched || fault != nil {
		return
	}
	value, err := json.Marshal(entry)
	if err == nil {
		err = c.Store.Commit(ctx, &custody.Batch{Put: []custody.Record{{Key: stsPrefix + entry.Domain.String(), Value: value}}})
	}
	if err != nil && c.Log != nil {
		c.Log.LogAttrs(ctx, slog.LevelError, "an MTA-STS policy could not be stored", slog.String("domain", entry.Domain.String()), slog.String("error", err.Error()))
	}
}

// Refresh fetches every policy in force that is stale, whatever DNS says (RFC
// 8461 section 10.2), and deletes those that are over. It is called now and
// then, and ends when ctx does.
func (c *STSCache) Refresh(ctx context.Context) {
	stale, over := c.aged(time.Now())
	if len(over) > 0 {
		if err := c.Store.Commit(ctx, &custody.Batch{Delete: over}); err != nil && c.Log != nil {
			c.Log.LogAttrs(ctx, slog.LevelError, "old MTA-STS policies could not be deleted", slog.String("error", err.Error()))
		}
	}
	slots := make(chan struct{}, fetchesAtATime)
	for _, domain := range stale {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		if k := c.known[domain]; k != nil && k.flight == nil && !c.closed {
			c.start(k, func(ctx context.Context) { defer func() { <-slots }(); c.renew(ctx, k.entry, false) })
		} else {
			<-slots
		}
		c.mu.Unlock()
	}
}

// aged lists domains whose policy is stale, and records of policies that are over.
func (c *STSCache) aged(now time.Time) (stale []mail.Domain, over []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for domain, k := range c.known {
		switch {
		case k.flight != nil || k.entry.Fetched.IsZero():
		case k.entry.Stale(now):
			stale = append(stale, domain)
		case k.entry.Forgettable(now):
			over = append(over, stsPrefix+domain.String())
			delete(c.known, domain)
		}
	}
	return stale, over
}

// Len is how many policies are in force.
func (c *STSCache) Len(now time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.known {
		if k.entry.InForce(now) {
			n++
		}
	}
	return n
}
