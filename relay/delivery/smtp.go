package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"anechoic/mail"
)

// Bounds of one attempt.
const (
	maxServers = 10               // addresses tried
	maxAttempt = 45 * time.Minute // whatever the servers do
)

// SMTP is the Transport for the next hop over SMTP. Fields are set before first
// use; Helo must be. Close ends the connections that wait for reuse.
type SMTP struct {
	Helo        string         // our name in EHLO, where the egress has none of its own
	Bind        []netip.Addr   // the default egress pool, one chosen at random in each family; empty: the system's choice
	Pools       []EgressPool   // the others, by name
	TLS         TLSPolicy      // empty: Opportunistic; used where Rules is nil
	Rules       *TLSRules      // what hosts must show; nil: TLS says it of all
	Roots       *x509.CertPool // whom Required trusts; nil: the system's
	Timeouts    Timeouts
	Limits      Limits        // what sites take; nil: no bounds but those below
	IdleLimit   time.Duration // zero: DefaultIdleLimit
	MaxMessages int           // on one connection; zero: DefaultMaxMessages
	MaxAge      time.Duration // of a connection that is to be used again; zero: DefaultMaxAge
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
// attempt. A host that cannot be reached, does not get as far as MAIL, cannot be
// told of the message as it is, or hangs up before the content was sent, is
// passed over.
func (t *SMTP) Deliver(ctx context.Context, a Attempt) []Result {
	ctx, cancel := context.WithTimeout(ctx, maxAttempt)
	defer cancel()
	return t.travel(ctx, &journey{SMTP: t, Attempt: &a, results: make([]Result, len(a.Envelope.Recipients))})
}

// Probe asks whether a message from an address would be taken for recipients, and
// sends none: Delivered says that the recipient was accepted.
func (t *SMTP) Probe(ctx context.Context, route Route, egress string, from mail.Address, to ...mail.Recipient) []Result {
	a := Attempt{Route: route, Egress: egress, Envelope: mail.Envelope{From: from, Recipients: to}, Content: noContent{}}
	return t.travel(ctx, &journey{SMTP: t, Attempt: &a, results: make([]Result, len(to)), probing: true})
}

// noContent is the content of a message that is not sent.
type noContent struct{}

func (noContent) Header() []byte               { return nil }
func (noContent) Body() io.Reader              { return strings.NewReader("") }
func (noContent) BodyInMemory() ([]byte, bool) { return nil, true }

func (t *SMTP) travel(ctx context.Context, d *journey) []Result {
	a := d.Attempt
	eightBit, err := contentHasEightBit(a.Content)
	if err != nil {
		fill(d.results, deferred("4.3.0", "the stored message could not be read: %v", err))
		return d.results
	}
	d.eightBit = eightBit
	d.utf8Header = a.Envelope.UTF8 && hasEightBit(a.Content.Header())
	d.limits = t.limitsOf(a)
	plan, end := t.rules().Plan(ctx, a)
	if end != nil {
		fill(d.results, *end)
		return d.results
	}
	d.plan = plan
	d.visit(ctx)
	for _, i := range d.undecided() {
		d.results[i] = d.conclusion(ctx, i)
	}
	return d.results
}

// rules are those of the fields.
func (t *SMTP) rules() *TLSRules {
	switch {
	case t.Rules != nil:
		return t.Rules
	case t.TLS == Required:
		return &TLSRules{Default: LevelVerified}
	}
	return &TLSRules{}
}

// limitsOf asks once an attempt: what a reload changes counts from the next on.
func (t *SMTP) limitsOf(a *Attempt) (l SiteLimits) {
	if t.Limits != nil && len(a.Envelope.Recipients) > 0 {
		l = t.Limits(a.Route.Site, a.Envelope.Recipients[0].Address.Domain())
	}
	most := t.MaxMessages
	if most == 0 {
		most = DefaultMaxMessages
	}
	l.MessagesPerConnection = atMost(l.MessagesPerConnection, most)
	return l
}

// atMost is the smaller of two bounds, where zero is none.
func atMost(n, limit int) int {
	if n == 0 || limit > 0 && limit < n {
		return limit
	}
	return n
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
