package delivery

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"anechoic/mail/background"
)

// How long and how often a connection is used again.
const (
	DefaultIdleLimit   = 5 * time.Second // RFC 5321 leaves it open; servers dislike more
	DefaultMaxMessages = 200             // transactions on one connection
	DefaultMaxAge      = 5 * time.Minute // then changed addresses, certificates and policies count
	maxIdle            = 500             // connections that wait, in all
)

// poolKey is what must be the same for a connection to serve another message.
type poolKey struct {
	way      way // egress address and the name given there
	server   netip.AddrPort
	name     string // the host name TLS was made for
	security string // Security.Key: what the host had to show
	lmtp     bool
}

// pool holds open connections between messages, the latest on top, and counts
// the open ones of each site, whether they wait or are used. One goroutine, the
// sweeper, closes those that waited too long; it runs while there are any. close
// ends it.
type pool struct {
	mu       sync.Mutex // guards what follows
	idle     map[poolKey][]idleClient
	count    int
	open     map[string]int // connections of each site, from before they are made until they are closed
	freed    chan struct{}  // closed when one is; made by who waits for it
	sweeping bool
	closed   bool

	stop    chan struct{}  // closed by close; made with the first sweeper
	running sync.WaitGroup // sweeper and closings
}

type idleClient struct {
	*client
	since time.Time
}

// take gives the connection that was put there last, or nil.
func (p *pool) take(key poolKey) *client {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.idle[key]
	if len(waiting) == 0 {
		return nil
	}
	c := waiting[len(waiting)-1].client
	waiting[len(waiting)-1] = idleClient{}
	p.set(key, waiting[:len(waiting)-1])
	p.count--
	return c
}

func (p *pool) set(key poolKey, waiting []idleClient) {
	if len(waiting) == 0 {
		delete(p.idle, key)
		return
	}
	p.idle[key] = waiting
}

// admit counts a connection that is about to be made to a site, once there are
// fewer than limit; zero is no limit. A connection that waits there for other
// use is closed to make room. Each admit that gives no error needs its left.
func (p *pool) admit(ctx context.Context, site string, limit int) error {
	for {
		old, freed := p.enter(site, limit)
		switch {
		case old != nil:
			old.quit()
		case freed == nil:
			return nil
		default:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-freed:
			}
		}
	}
}

// enter counts the connection if there is room. Else it gives one to be closed
// first, or, where none waits, a channel that tells of the next that ends.
func (p *pool) enter(site string, limit int) (old *client, freed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = make(map[string]int)
	}
	if limit <= 0 || p.open[site] < limit {
		p.open[site]++
		return nil, nil
	}
	for key, waiting := range p.idle {
		if waiting[0].site == site {
			p.set(key, waiting[1:])
			p.count--
			return waiting[0].client, nil
		}
	}
	if p.freed == nil {
		p.freed = make(chan struct{})
	}
	return nil, p.freed
}

// left takes back an admit: the connection is closed.
func (p *pool) left(site string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[site]--; p.open[site] <= 0 {
		delete(p.open, site)
	}
	if p.freed != nil {
		close(p.freed)
		p.freed = nil
	}
}

// put keeps a connection for at most limit, or ends it if the pool is full or
// closed.
func (p *pool) put(key poolKey, c *client, now time.Time, limit time.Duration) {
	p.mu.Lock()
	if p.closed || p.count >= maxIdle {
		p.mu.Unlock()
		c.quit()
		return
	}
	defer p.mu.Unlock()
	if p.idle == nil {
		p.idle, p.stop = make(map[poolKey][]idleClient), make(chan struct{})
	}
	p.idle[key] = append(p.idle[key], idleClient{c, now})
	p.count++
	if p.freed != nil { // who waits for room may close this one
		close(p.freed)
		p.freed = nil
	}
	if !p.sweeping {
		p.sweeping = true
		background.Loop(&p.running, nil, "delivery: end idle connections", p.stop, func() { p.sweep(limit) })
	}
}

// sweep ends connections that waited too long until none is left.
func (p *pool) sweep(limit time.Duration) {
	tick := time.NewTicker(max(limit/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case now := <-tick.C:
			old, more := p.expired(now.Add(-limit))
			p.retire(old)
			if !more {
				return
			}
		}
	}
}

// expired takes out what waits since before the limit. more says that the
// sweeper has still something to do; else it is marked as ended.
func (p *pool) expired(before time.Time) (old []*client, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, waiting := range p.idle {
		n := 0
		for n < len(waiting) && !waiting[n].since.After(before) {
			old = append(old, waiting[n].client)
			n++
		}
		p.set(key, waiting[n:])
	}
	p.count -= len(old)
	p.sweeping = p.count > 0
	return old, p.sweeping
}

// retire says QUIT on each of them, at the same time: one that hangs holds
// nobody up.
func (p *pool) retire(old []*client) {
	for _, c := range old {
		background.Go(&p.running, nil, "delivery: end a connection", c.quit)
	}
}

// close ends every waiting connection and waits for what the pool started.
func (p *pool) close() {
	p.mu.Lock()
	if !p.closed && p.stop != nil {
		close(p.stop)
	}
	p.closed = true
	p.mu.Unlock()
	old, _ := p.expired(time.Now().Add(time.Hour))
	p.retire(old)
	p.running.Wait()
}
