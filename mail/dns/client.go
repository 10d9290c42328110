package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/mail"
	"anechoic/mail/background"
)

const (
	defaultTimeout = 5 * time.Second
	rounds         = 2 // how often each server is asked in one look-up
	resolvConf     = "/etc/resolv.conf"
)

// errClosed is what a closed Client says.
var errClosed = errors.New("the resolver is closed")

// errFault is what those have who waited for a look-up that panicked.
var errFault = errors.New("a fault in this program, see its log")

// Options is the configuration of a Client.
type Options struct {
	Servers []string      // recursive servers, "address:port" each; none: those of /etc/resolv.conf
	Timeout time.Duration // of one look-up with all it takes; zero: 5 s
	TrustAD bool          // pass on the AD bit: the servers validate, and nobody stands between
	Entries int           // answers kept at most; zero: 10,000

	// TrustLoopback is TrustAD if every server is on loopback.
	TrustLoopback bool
}

// Validate gives every problem of the options.
func (o Options) Validate() error {
	var problems []error
	for i, s := range o.Servers {
		host, port, err := net.SplitHostPort(s)
		if _, e := netip.ParseAddr(host); err != nil || e != nil {
			problems = append(problems, fmt.Errorf("servers[%d]: %q is no address with a port; write for example \"127.0.0.1:53\" or \"[::1]:53\"", i, s))
			continue
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			problems = append(problems, fmt.Errorf("servers[%d]: %q has no port from 1 to 65535", i, s))
		}
	}
	if o.Timeout < 0 {
		problems = append(problems, fmt.Errorf("timeout: %s is negative", o.Timeout))
	}
	if o.Entries < 0 {
		problems = append(problems, fmt.Errorf("entries: %d is negative", o.Entries))
	}
	return errors.Join(problems...)
}

// Client is a mail.Resolver that asks recursive servers. It is safe for
// concurrent use. Identical questions at the same time are asked once.
type Client struct {
	servers  []string
	timeout  time.Duration
	trustAD  bool
	first    atomic.Uint32 // the server that answered last is asked first
	counters struct{ hits, misses, errors atomic.Uint64 }
	running  sync.WaitGroup // the flights

	mu      sync.Mutex // guards what follows
	closed  bool
	cache   *cache
	flights map[question]*flight
}

var _ mail.Resolver = (*Client)(nil)

// flight is a look-up under way. found is set before done is closed.
type flight struct {
	cancel context.CancelFunc
	done   chan struct{}
	found  found
}

// New makes a Client. It fails on options that do not validate, and if there are
// no servers, neither configured nor in /etc/resolv.conf.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	servers := slices.Clone(o.Servers)
	if len(servers) == 0 {
		system, err := wire.ClientConfigFromFile(resolvConf)
		if err != nil {
			return nil, fmt.Errorf("dns: no servers are configured, and %s cannot be read: %w", resolvConf, err)
		}
		for _, s := range system.Servers {
			servers = append(servers, net.JoinHostPort(s, system.Port))
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("dns: no servers are configured, and %s names none", resolvConf)
	}
	c := &Client{servers: servers, timeout: o.Timeout, trustAD: o.TrustAD || o.TrustLoopback && onLoopback(servers), flights: make(map[question]*flight)}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	entries := o.Entries
	if entries == 0 {
		entries = defaultEntries
	}
	c.cache = newCache(entries)
	return c, nil
}

// Close ends look-ups under way and waits for them. Later ones fail.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, fl := range c.flights {
		fl.cancel()
	}
	c.mu.Unlock()
	c.running.Wait()
	return nil
}

// Counters counts look-ups since New.
type Counters struct {
	Hits   uint64 // answered from the cache
	Misses uint64 // not in the cache
	Errors uint64 // asked, and nothing learned
}

// Counters is for metrics.
func (c *Client) Counters() Counters {
	return Counters{Hits: c.counters.hits.Load(), Misses: c.counters.misses.Load(), Errors: c.counters.errors.Load()}
}

// TXT implements mail.Resolver, as do the methods that follow.
func (c *Client) TXT(ctx context.Context, name string) (mail.Answer[string], error) {
	return lookup(ctx, c.find, name, wire.TypeTXT, decodeTXT)
}

func (c *Client) MX(ctx context.Context, name string) (mail.Answer[mail.MX], error) {
	return lookup(ctx, c.find, name, wire.TypeMX, decodeMX)
}

func (c *Client) Addresses(ctx context.Context, name string) (mail.Answer[netip.Addr], error) {
	return lookupAddresses(ctx, c.find, name)
}

func (c *Client) PTR(ctx context.Context, addr netip.Addr) (mail.Answer[string], error) {
	return lookup(ctx, c.find, ReverseName(addr), wire.TypePTR, decodePTR)
}

func (c *Client) CNAME(ctx context.Context, name string) (mail.Answer[string], error) {
	return lookup(ctx, c.find, name, wire.TypeCNAME, decodeCNAME)
}

func (c *Client) TLSA(ctx context.Context, name string) (mail.Answer[mail.TLSA], error) {
	return lookup(ctx, c.find, name, wire.TypeTLSA, decodeTLSA)
}

func (c *Client) find(ctx context.Context, q question) found { return c.findAt(ctx, q, time.Now()) }

// findAt answers from the cache, or waits for the flight of this question. The
// flight does not end with ctx: others may wait for it too.
func (c *Client) findAt(ctx context.Context, q question, now time.Time) found {
	c.mu.Lock()
	if f, ok := c.cache.get(q, now); ok {
		c.mu.Unlock()
		c.counters.hits.Add(1)
		return f
	}
	if c.closed {
		c.mu.Unlock()
		return failed(q, errClosed)
	}
	fl, ok := c.flights[q]
	if !ok {
		flying, cancel := context.WithTimeout(context.Background(), c.timeout)
		fl = &flight{cancel: cancel, done: make(chan struct{})}
		c.flights[q] = fl
		background.Go(&c.running, nil, "dns: a look-up", func() { c.fly(flying, q, fl, now) })
	}
	c.mu.Unlock()
	c.counters.misses.Add(1)
	select {
	case <-fl.done:
		return fl.found
	case <-ctx.Done():
		return failed(q, ctx.Err())
	}
}

// fly looks q up and keeps what it found. What was found is kept from the time
// of the question, a failure from its own time: it may take longer than it is kept.
// After a panic those who wait have a failure, which is not kept.
func (c *Client) fly(ctx context.Context, q question, fl *flight, now time.Time) {
	defer fl.cancel()
	defer close(fl.done)
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.flights, q)
	}()
	fl.found = failed(q, errFault)
	fl.found = resolve(ctx, q, c.ask)
	fl.found.authentic = fl.found.authentic && c.trustAD
	if fl.found.err != nil && !errors.Is(fl.found.err, mail.ErrNoDomain) {
		c.counters.errors.Add(1)
		now = time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cache.put(q, fl.found, now)
}

// ask puts q to the servers until one answers.
func (c *Client) ask(ctx context.Context, q question) (*wire.Msg, error) {
	var problems []error
	first := int(c.first.Load())
	attempts := rounds * len(c.servers)
	for i := 0; i < attempts && ctx.Err() == nil; i++ {
		n := (first + i) % len(c.servers)
		m, err := c.askServer(ctx, c.servers[n], q, c.timeout/time.Duration(attempts))
		if err == nil {
			c.first.Store(uint32(n))
			return m, nil
		}
		if i < len(c.servers) { // the second round says the same again
			problems = append(problems, fmt.Errorf("%s: %w", c.servers[n], err))
		}
	}
	if len(problems) == 0 {
		return nil, ctx.Err()
	}
	return nil, errors.Join(problems...)
}
