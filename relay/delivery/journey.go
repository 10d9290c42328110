package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// journey is one attempt under way.
type journey struct {
	*SMTP
	*Attempt
	results    []Result
	limits     SiteLimits
	plan       *TLSPlan
	probing    bool // recipients are asked about, and nothing is sent
	eightBit   bool // the content has octets outside ASCII
	utf8Header bool // its header has, and came with SMTPUTF8

	visited  int            // servers
	faults   []string       // what stood in the way, a line a server
	unworthy int            // how many of them take no mail at all (RFC 7504)
	blocked  int            // how many may not have this message (RFC 8689)
	unfit    map[int]unfit  // by recipient
	here     map[int]Result // why the server that is visited now cannot have the message for a recipient
}

// unfit is why servers that were reached cannot be given the message for one
// recipient, as it is.
type unfit struct {
	servers int
	result  Result // of the last of them
}

// visit goes from server to server while recipients are undecided.
func (d *journey) visit(ctx context.Context) {
	for _, host := range d.Route.Hosts {
		for _, addr := range host.Addresses {
			if d.undecided() == nil || ctx.Err() != nil || d.visited == maxServers {
				return
			}
			server := netip.AddrPortFrom(addr, host.Port)
			f := d.try(ctx, host, server)
			d.note(ctx, host, server, f)
		}
	}
}

// note remembers what a server was good for.
func (d *journey) note(ctx context.Context, host Host, server netip.AddrPort, f *fault) {
	d.visited++
	for i, result := range d.here {
		if d.unfit == nil {
			d.unfit = make(map[int]unfit)
		}
		d.unfit[i] = unfit{d.unfit[i].servers + 1, result}
	}
	d.here = nil
	if f == nil {
		return
	}
	if f.unworthy {
		d.unworthy++
	}
	if errors.Is(f.err, ErrRequireTLS) {
		d.blocked++
	}
	d.faults = append(d.faults, fmt.Sprintf("%s: %s", server, f))
	d.logFault(ctx, host.Name, server, f)
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

// conclusion is the result of a recipient that no server decided. It is for good
// only if every server of the route said no for good: another day the others
// may answer.
func (d *journey) conclusion(ctx context.Context, i int) Result {
	all := strings.Join(d.faults, "; ")
	misfit := d.unfit[i]
	hopeless := ctx.Err() == nil && d.visited > 0 && d.visited >= min(d.servers(), maxServers) && d.unworthy+d.blocked+misfit.servers == d.visited
	switch {
	case hopeless && misfit.servers > 0:
		return misfit.result
	case hopeless && d.blocked > 0: // RFC 8689 section 4.2.1
		return failed("5.7.30", "no server of %s can be used as the sender requires: %s", d.Route.Site, all)
	case hopeless:
		return failed("5.3.2", "no server of %s takes mail: %s", d.Route.Site, all) // RFC 7504 section 4
	case d.visited == 0 && ctx.Err() == nil:
		return deferred("4.4.4", "no address of %s can be reached from the configured egress addresses", d.Route.Site)
	case ctx.Err() != nil:
		return deferred("4.4.2", "the attempt was ended before a server answered; %s", all)
	case misfit.servers > 0:
		return deferred("4.4.1", "%s; and of the other servers: %s", misfit.result.Reply, all)
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

// try makes the attempt at one server: on a connection that waits for reuse, if
// there is one, else on a fresh one. It goes on with another where the server
// had closed the one that waited, has taken as many messages on one as it does,
// or offered CHUNKING and does not know BDAT.
func (d *journey) try(ctx context.Context, host Host, server netip.AddrPort) *fault {
	w, err := d.way(server.Addr())
	if err != nil {
		return &fault{stage: "connect", err: err}
	}
	sec, err := d.plan.Host(ctx, host)
	if err != nil {
		return &fault{stage: "policy", err: err}
	}
	key := poolKey{way: w, server: server, name: host.Name, security: sec.Key(), lmtp: d.Route.Own != nil && d.Route.Own.LMTP}
	for fresh, withoutChunks := false, false; ; {
		c, f := d.obtain(ctx, key, sec, fresh)
		if f != nil {
			return f
		}
		reused := c.messages > 0
		c.ext.chunking = c.ext.chunking && !withoutChunks
		more, f := d.use(ctx, key, c)
		switch {
		case f == nil && !more:
			return nil
		case f == nil:
		case reused && f.lost && f.stage == "MAIL":
			d.counters.stale.Add(1)
			fresh = true
		case f.noChunks && !withoutChunks:
			withoutChunks, fresh = true, true
		default:
			return f
		}
	}
}

// obtain gives a connection on which MAIL can be sent. With opportunistic TLS a
// failed handshake leads to one in the clear.
func (d *journey) obtain(ctx context.Context, key poolKey, sec Security, fresh bool) (*client, *fault) {
	if !fresh {
		if c := d.pool.take(key); c != nil {
			d.counters.reused.Add(1)
			return c, nil
		}
	}
	c, f := d.connect(ctx, key, sec, true)
	if f != nil && f.tls && sec.Level == LevelOpportunistic {
		d.logDowngrade(ctx, key.name, key.server, f)
		if c, f = d.connect(ctx, key, sec, false); f == nil {
			d.counters.downgraded.Add(1)
		}
	}
	if f != nil {
		return nil, f
	}
	d.counters.opened.Add(1)
	if c.tls != "" {
		d.counters.encrypted.Add(1)
	}
	return c, nil
}

// connect opens a connection and brings it to where MAIL can be sent. A site
// never has more of them than its limit.
func (d *journey) connect(ctx context.Context, key poolKey, sec Security, withTLS bool) (*client, *fault) {
	if err := d.pool.admit(ctx, d.Route.Site, d.limits.Connections); err != nil {
		return nil, &fault{stage: "connect", err: err}
	}
	timeouts := d.Timeouts.orDefault()
	dialing, cancel := context.WithTimeout(ctx, timeouts.Connect)
	defer cancel()
	dial := d.Dial
	if dial == nil {
		dial = dialTCP
	}
	conn, err := dial(dialing, key.way.from, key.server)
	if err != nil {
		d.pool.left(d.Route.Site)
		return nil, &fault{stage: "connect", err: err}
	}
	defer closeWhenDone(ctx, conn)()
	c := newClient(conn, key.name, key.server, timeouts)
	c.lmtp = key.lmtp
	c.site, c.left, c.egress = d.Route.Site, d.pool.left, localAddress(conn, key.way.from)
	h := hello{helo: key.way.helo, security: sec, roots: d.Roots}
	if withTLS {
		h.tls = d.sessions.config()
	}
	f := c.open(ctx, h)
	if c.known && withTLS && sec.Level != LevelNone {
		d.plan.Session(TLSSession{Security: sec, Host: key.name, Server: key.server, From: c.egress, Err: c.tlsError})
	}
	if f != nil {
		d.dismiss(c, f)
		return nil, f
	}
	return c, nil
}

// localAddress is where a connection leaves from, as far as it can be told.
func localAddress(conn net.Conn, bind netip.Addr) netip.Addr {
	if tcp, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return bind
}

// closeWhenDone ends what is read or written on conn when ctx ends. The function
// it gives takes that back.
func closeWhenDone(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.Close() })
}

// dismiss ends a connection that failed, with QUIT if it still speaks.
func (t *SMTP) dismiss(c *client, f *fault) {
	if f.reply.Code != 0 && !f.lost && !f.noChunks {
		c.quit()
		return
	}
	c.close()
}

// use sends on an open connection, which then waits for reuse if it is still
// good for that. more says that the server would take further recipients on
// another connection.
func (d *journey) use(ctx context.Context, key poolKey, c *client) (more bool, f *fault) {
	if more, f = d.transact(ctx, c); f != nil {
		d.dismiss(c, f)
		return false, f
	}
	idle, age := d.IdleLimit, d.MaxAge
	if idle == 0 {
		idle = DefaultIdleLimit
	}
	if age == 0 {
		age = DefaultMaxAge
	}
	now := time.Now()
	if more || c.spent(d.limits) || c.replies.in.Buffered() > 0 || now.Sub(c.since) > age || ctx.Err() != nil {
		c.quit()
		return more, nil
	}
	d.pool.put(key, c, now, idle)
	return false, nil
}

// transact runs one transaction, and more as long as the server takes some
// recipients and wants others in the next, or takes only so many in one.
func (d *journey) transact(ctx context.Context, c *client) (more bool, f *fault) {
	defer closeWhenDone(ctx, c.conn)()
	for wanted := d.fitting(c); len(wanted) > 0; wanted = d.stillUndecided(wanted) {
		if c.spent(d.limits) {
			return true, nil
		}
		t := transaction{client: c, journey: d, recipients: d.first(wanted, c)}
		d.counters.transactions.Add(1)
		if f := t.run(); f != nil {
			return false, f
		}
		if t.delivered() {
			for _, i := range t.later {
				d.results[i] = Result{}
			}
		}
	}
	return false, nil
}

// spent says that a connection has served as many messages as it may: as the
// server said (RFC 9422 section 4.1), or as the site takes.
func (c *client) spent(l SiteLimits) bool {
	limit := atMost(l.MessagesPerConnection, c.ext.mailMax)
	return limit > 0 && c.messages >= limit
}

// first gives the recipients of the next transaction: no more than the server
// or the site takes, in no more domains (RFC 9422 sections 4.2 and 4.3).
func (d *journey) first(wanted []int, c *client) []int {
	if limit := atMost(d.limits.RecipientsPerTransaction, c.ext.rcptMax); limit > 0 && limit < len(wanted) {
		wanted = wanted[:limit]
	}
	if c.ext.rcptDomainMax == 0 {
		return wanted
	}
	domains := make(map[string]bool)
	for n, i := range wanted {
		domains[d.Envelope.Recipients[i].Address.Domain().String()] = true
		if len(domains) > c.ext.rcptDomainMax {
			return wanted[:n]
		}
	}
	return wanted
}

func (d *journey) stillUndecided(of []int) (indices []int) {
	for _, i := range of {
		if d.results[i].Status == Undecided {
			indices = append(indices, i)
		}
	}
	return indices
}

// fitting lists the undecided recipients for whom this server can be given the
// message as it is. A relay may not convert signed content. What is too large is
// decided: the other servers of a domain have the same limit or pass the message
// on to this one. For the rest another server may be better.
func (d *journey) fitting(c *client) (fit []int) {
	if c.ext.size > 0 && d.Size > c.ext.size { // RFC 1870 section 6.1
		fill(d.results, c.blame(failed("5.3.4", "the message has %d octets and the server takes at most %d", d.Size, c.ext.size)))
		return nil
	}
	for _, i := range d.undecided() {
		if why := d.misfit(c, i); why.Status != Undecided {
			if d.here == nil {
				d.here = make(map[int]Result)
			}
			d.here[i] = c.blame(why)
			continue
		}
		fit = append(fit, i)
	}
	return fit
}

// misfit says what makes the message impossible here for a recipient. A domain
// outside ASCII needs nothing: it goes out in A-labels always.
func (d *journey) misfit(c *client, i int) Result {
	if !c.ext.utf8 { // RFC 6531 section 3.2
		switch {
		case !d.Envelope.From.IsASCII():
			return failed("5.6.7", "the sender's address is outside ASCII, and the server does not offer SMTPUTF8")
		case d.utf8Header:
			return failed("5.6.7", "the header has octets outside ASCII, and the server does not offer SMTPUTF8")
		case !d.Envelope.Recipients[i].Address.IsASCII():
			return failed("5.6.7", "the recipient's address is outside ASCII, and the server does not offer SMTPUTF8")
		}
	}
	if d.eightBit && !c.ext.eightBit { // RFC 6152 section 3
		return failed("5.6.3", "the message has octets outside ASCII, the server does not offer 8BITMIME, and conversion would break its signature")
	}
	return Result{}
}
