package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// Bounds of one attempt.
const (
	maxServers = 10               // addresses tried
	maxAttempt = 45 * time.Minute // whatever the servers do
)

// SMTP is the Transport for the next hop over SMTP. Fields are set before first
// use; Helo must be. Close ends the connections that wait for reuse.
type SMTP struct {
	Helo        string         // our name in EHLO
	Bind        []netip.Addr   // egress addresses, one chosen at random in each family; empty: the system's choice
	TLS         TLSPolicy      // empty: Opportunistic
	Roots       *x509.CertPool // whom Required trusts; nil: the system's
	Timeouts    Timeouts
	IdleLimit   time.Duration // zero: DefaultIdleLimit
	MaxMessages int           // on one connection; zero: DefaultMaxMessages
	Log         *slog.Logger  // nil: no log

	// Dial connects from an egress address to a server; nil: TCP.
	Dial func(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error)

	pool     pool
	sessions tlsSessions
	counters struct{ opened, reused, stale, encrypted, downgraded, transactions atomic.Uint64 }
}

// SMTPCounters is what a transport did since it was made.
type SMTPCounters struct {
	Opened       uint64 // connections that came to MAIL
	Reused       uint64 // transactions on a connection that was open
	Stale        uint64 // connections that were found closed when they were to be used again
	Encrypted    uint64 // connections with TLS
	Downgraded   uint64 // connections in the clear after a failed handshake
	Transactions uint64
}

// Counters reads the counters.
func (t *SMTP) Counters() SMTPCounters {
	return SMTPCounters{
		Opened: t.counters.opened.Load(), Reused: t.counters.reused.Load(), Stale: t.counters.stale.Load(),
		Encrypted: t.counters.encrypted.Load(), Downgraded: t.counters.downgraded.Load(), Transactions: t.counters.transactions.Load(),
	}
}

// Close ends the connections that wait and waits for their end. Deliver may
// still be called; it then keeps no connection open.
func (t *SMTP) Close() { t.pool.close() }

// Deliver implements Transport. Hosts are tried in order until one takes or
// refuses the message; what one says about a recipient is final for this
// attempt. A host that cannot be reached, does not get as far as MAIL, or hangs
// up before the content was sent, is passed over.
func (t *SMTP) Deliver(ctx context.Context, a Attempt) []Result {
	ctx, cancel := context.WithTimeout(ctx, maxAttempt)
	defer cancel()
	d := journey{SMTP: t, Attempt: &a, results: make([]Result, len(a.Envelope.Recipients))}
	eightBit, err := contentHasEightBit(a.Content)
	if err != nil {
		fill(d.results, deferred("4.3.0", "the stored message could not be read: %v", err))
		return d.results
	}
	d.eightBit = eightBit
	d.utf8Header = a.Envelope.UTF8 && hasEightBit(a.Content.Header())
	d.visit(ctx)
	if d.undecided() != nil {
		fill(d.results, d.conclusion(ctx))
	}
	return d.results
}

// journey is one attempt under way.
type journey struct {
	*SMTP
	*Attempt
	results    []Result
	eightBit   bool // as in transaction
	utf8Header bool
	faults     []string // what stood in the way, a line a server
	unworthy   int      // how many of them take no mail at all (RFC 7504)
}

// visit goes from server to server while recipients are undecided.
func (d *journey) visit(ctx context.Context) {
	for _, host := range d.Route.Hosts {
		for _, addr := range host.Addresses {
			if d.undecided() == nil || ctx.Err() != nil || len(d.faults) == maxServers {
				return
			}
			server := netip.AddrPortFrom(addr, host.Port)
			f := d.try(ctx, host.Name, server)
			if f == nil {
				continue
			}
			if f.unworthy {
				d.unworthy++
			}
			d.faults = append(d.faults, fmt.Sprintf("%s: %s", server, f))
			d.logFault(ctx, host.Name, server, f)
		}
	}
}

// undecided lists the recipients without a result.
func (d *journey) undecided() (indices []int) {
	for i, r := range d.results {
		if r.Status == Undecided {
			indices = append(indices, i)
		}
	}
	return indices
}

// conclusion is the result of recipients that no server decided.
func (d *journey) conclusion(ctx context.Context) Result {
	all := strings.Join(d.faults, "; ")
	switch {
	case len(d.faults) == 0 && ctx.Err() == nil:
		return deferred("4.4.4", "no address of %s can be reached from the configured egress addresses", d.Route.Site)
	case d.unworthy > 0 && d.unworthy == len(d.faults) && d.unworthy == d.servers():
		return failed("5.3.2", "no server of %s takes mail: %s", d.Route.Site, all) // RFC 7504 section 4
	case ctx.Err() != nil:
		return deferred("4.4.2", "the attempt was ended before a server answered; %s", all)
	}
	return deferred("4.4.1", "%s", all)
}

// servers counts the addresses of the route.
func (d *journey) servers() (n int) {
	for _, h := range d.Route.Hosts {
		n += len(h.Addresses)
	}
	return n
}

func (d *journey) requireTLS() bool { return d.RequireTLS || d.TLS == Required }

// try makes the attempt at one server: on a connection that waits for reuse, if
// there is one; on a fresh one if there is none or it was closed meanwhile; and
// with opportunistic TLS once more in the clear after a failed handshake.
func (d *journey) try(ctx context.Context, name string, server netip.AddrPort) *fault {
	bind, ok := d.egress(server.Addr())
	if !ok {
		return &fault{stage: "connect", err: fmt.Errorf("no egress address is of the family of %s", server.Addr())}
	}
	key := poolKey{bind: bind, server: server, name: name, require: d.requireTLS()}
	if c := d.pool.take(key); c != nil {
		d.counters.reused.Add(1)
		f := d.use(ctx, key, c)
		if f == nil || !f.lost || f.stage != "MAIL" {
			return f
		}
		d.counters.stale.Add(1)
	}
	c, f := d.connect(ctx, key, true)
	if f != nil && f.tls && !key.require {
		d.logDowngrade(ctx, name, server, f)
		if c, f = d.connect(ctx, key, false); f == nil {
			d.counters.downgraded.Add(1)
		}
	}
	if f != nil {
		return f
	}
	d.counters.opened.Add(1)
	if c.tls != "" {
		d.counters.encrypted.Add(1)
	}
	return d.use(ctx, key, c)
}

// egress chooses an address to leave from, of the server's family. The zero
// address leaves the choice to the system.
func (t *SMTP) egress(to netip.Addr) (from netip.Addr, ok bool) {
	var fit []netip.Addr
	for _, a := range t.Bind {
		if a.Is4() == to.Is4() {
			fit = append(fit, a)
		}
	}
	if len(fit) == 0 {
		return netip.Addr{}, len(t.Bind) == 0
	}
	return fit[rand.IntN(len(fit))], true
}

// connect opens a connection and brings it to where MAIL can be sent.
func (d *journey) connect(ctx context.Context, key poolKey, withTLS bool) (*client, *fault) {
	timeouts := d.Timeouts.orDefault()
	dialing, cancel := context.WithTimeout(ctx, timeouts.Connect)
	defer cancel()
	dial := d.Dial
	if dial == nil {
		dial = dialTCP
	}
	conn, err := dial(dialing, key.bind, key.server)
	if err != nil {
		return nil, &fault{stage: "connect", err: err}
	}
	defer closeWhenDone(ctx, conn)()
	h := hello{helo: d.Helo, name: key.name, verify: key.require, roots: d.Roots}
	if withTLS {
		h.tls = d.sessions.config()
	}
	c := newClient(conn, key.name, key.server, timeouts)
	if f := c.open(ctx, h); f != nil {
		d.dismiss(c, f)
		return nil, f
	}
	return c, nil
}

// closeWhenDone ends what is read or written on conn when ctx ends. The function
// it gives takes that back.
func closeWhenDone(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.Close() })
}

// dismiss ends a connection that failed, with QUIT if it still speaks.
func (t *SMTP) dismiss(c *client, f *fault) {
	if f.reply.Code != 0 && !f.lost {
		c.quit()
		return
	}
	c.conn.Close() // it failed already
}

// use sends on an open connection, which then waits for reuse if it is still
// good for that.
func (d *journey) use(ctx context.Context, key poolKey, c *client) *fault {
	if f := d.transact(ctx, c); f != nil {
		d.dismiss(c, f)
		return f
	}
	limit, idle := d.MaxMessages, d.IdleLimit
	if limit == 0 {
		limit = DefaultMaxMessages
	}
	if idle == 0 {
		idle = DefaultIdleLimit
	}
	if c.messages >= limit || c.replies.in.Buffered() > 0 || ctx.Err() != nil {
		c.quit()
		return nil
	}
	d.pool.put(key, c, time.Now(), idle)
	return nil
}

// transact runs one transaction, and more as long as the server takes some
// recipients and wants others in the next.
func (d *journey) transact(ctx context.Context, c *client) *fault {
	defer closeWhenDone(ctx, c.conn)()
	for {
		t := transaction{client: c, Attempt: d.Attempt, recipients: d.undecided(), results: d.results, eightBit: d.eightBit, utf8Header: d.utf8Header}
		d.counters.transactions.Add(1)
		if f := t.run(); f != nil || !t.progressed() {
			return f
		}
		for _, i := range t.later {
			d.results[i] = Result{}
		}
	}
}

// progressed says that another transaction is worth it: the server put some
// recipients off and took others.
func (t *transaction) progressed() bool {
	if len(t.later) == 0 {
		return false
	}
	for _, i := range t.recipients {
		if t.results[i].Status == Delivered {
			return true
		}
	}
	return false
}

func dialTCP(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, "tcp", to.String())
}

// tlsSessions is the TLS state that connections share: sessions are resumed.
type tlsSessions struct {
	conf atomic.Pointer[tls.Config]
}

func (s *tlsSessions) config() *tls.Config {
	if conf := s.conf.Load(); conf != nil {
		return conf
	}
	s.conf.CompareAndSwap(nil, &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(1024)})
	return s.conf.Load()
}

func (d *journey) logFault(ctx context.Context, name string, server netip.AddrPort, f *fault) {
	if d.Log != nil {
		d.Log.LogAttrs(ctx, slog.LevelInfo, "server passed over", slog.String("id", string(d.ID)), slog.String("host", name), slog.String("server", server.String()), slog.String("why", printable(f.Error(), maxKeptReply)))
	}
}

func (d *journey) logDowngrade(ctx context.Context, name string, server netip.AddrPort, f *fault) {
	if d.Log != nil {
		d.Log.LogAttrs(ctx, slog.LevelWarn, "TLS failed, once more in the clear", slog.String("id", string(d.ID)), slog.String("host", name), slog.String("server", server.String()), slog.String("why", printable(f.Error(), maxKeptReply)))
	}
}
