package smtpd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
)

// Mode says how a port speaks.
type Mode int

// The modes.
const (
	Plain       Mode = iota // STARTTLS is offered; a PROXY header is never read
	ImplicitTLS             // TLS from the first octet (RFC 8314)
	Submission              // as Plain; MAIL wants TLS, and AUTH or what CertificateSource accepts (RFC 6409)
	Proxy                   // a PROXY header of a trusted balancer is required, then as Plain
)

// String names the mode for logs.
func (m Mode) String() string {
	switch m {
	case Plain:
		return "plain"
	case ImplicitTLS:
		return "tls"
	case Submission:
		return "submission"
	case Proxy:
		return "proxy"
	}
	return fmt.Sprintf("mode %d", int(m))
}

// Server is the configuration of the server and what it serves. Fill it in, call
// Serve once a listener, then Shutdown. Fields are not changed after the first
// Serve. Zero limits are the defaults.
type Server struct {
	Hostname string // in the banner and in replies
	Handler  Handler

	// Authenticate checks a password; nil is right. A nil func: AUTH is not
	// offered. Its refusals are its own to record.
	Authenticate func(ctx context.Context, s *Session, username, password string) *mail.Refusal
	// CertificateSource says that the session's client certificate may stand for
	// AUTH on a Submission port. A nil func: none may.
	CertificateSource func(s *Session) bool

	// TLS is used by STARTTLS and on ImplicitTLS ports; nil: neither. Certificates
	// change under it through GetCertificate or GetConfigForClient. Versions
	// before 1.2 are never spoken, and session tickets are off if client
	// certificates are asked for.
	TLS *tls.Config
	// ProxyFrom are the balancers that may connect to Proxy ports. None: no one.
	ProxyFrom []netip.Prefix

	MaxMessageBytes       int64 // of one message, as SIZE counts
	MaxHeaderBytes        int
	MaxHeaderFields       int
	MaxMIMEDepth          int // how deep parts may stand in parts
	MaxRecipients         int // of one transaction
	MaxConnections        int // of all ports
	MaxConnectionsPerPeer int // of an IPv4 address or an IPv6 /64

	// SharedPeer says that an address sends for many customers at once, as a
	// provider's does. Such a peer has no limit of its own, and a quarter of
	// MaxConnections is kept free for such peers: a flood from elsewhere, or by one
	// customer of the provider, must not shut the others out. A nil func: none is.
	SharedPeer func(netip.Addr) bool

	Timeouts Timeouts
	// ErrorBudget is how many protocol errors (SYNTAX, BAD_SEQUENCE) a connection
	// may make between two messages that were kept; the next is answered 421.
	ErrorBudget int

	SpoolDir       string // where bodies past SpoolThreshold go; empty: the system's directory for temporary files
	SpoolThreshold int64  // octets of a body kept in memory

	// Refused is told of every refusal the server makes itself: the transaction is
	// nil outside of one, the id is the one in the reply. It is called from the
	// goroutines of the sessions and may be nil.
	Refused func(s *Session, t *Transaction, id mail.ID, r *mail.Refusal)
	Log     *slog.Logger // nil: silent

	Counters Counters

	tls *tls.Config // made by the first Serve

	mu       sync.Mutex // guards what follows
	stopping bool
	serves   map[net.Listener]context.CancelFunc
	conns    map[*conn]net.Listener // and the listener each came from
	peers    map[netip.Prefix]int
	serving  sync.WaitGroup // one a Serve
}

// Timeouts bound how long the server waits. Zero values are the defaults.
type Timeouts struct {
	Command     time.Duration // for one whole command line
	ProxyHeader time.Duration // for the whole PROXY header
	Handshake   time.Duration // for the whole TLS handshake
	Write       time.Duration // for the peer to take a batch of replies
	DataWindow  time.Duration // the time over which MinimumRate is averaged
	MinimumRate int           // octets a second in DATA and in a chunk of BDAT
	Transaction time.Duration // from MAIL to the end of the message
}

// Defaults.
const (
	DefaultMaxMessageBytes       = 50 << 20
	DefaultMaxHeaderBytes        = 256 << 10
	DefaultMaxHeaderFields       = 1000
	DefaultMaxRecipients         = 1000 // RFC 5321 section 4.5.3.1.8: at least 100
	DefaultMaxConnections        = 2000
	DefaultMaxConnectionsPerPeer = 200
	DefaultErrorBudget           = 10
	DefaultSpoolThreshold        = 1 << 20

	DefaultCommandTimeout     = 5 * time.Minute // RFC 5321 section 4.5.3.2.7
	DefaultProxyHeaderTimeout = 3 * time.Second
	DefaultHandshakeTimeout   = 30 * time.Second
	DefaultWriteTimeout       = time.Minute
	DefaultDataWindow         = 3 * time.Minute // what a client gets for a block, RFC 5321 section 4.5.3.2.5
	DefaultMinimumRate        = 128
	DefaultTransactionTimeout = time.Hour
)

func (t Timeouts) withDefaults() Timeouts {
	t.Command = cmp.Or(t.Command, DefaultCommandTimeout)
	t.ProxyHeader = cmp.Or(t.ProxyHeader, DefaultProxyHeaderTimeout)
	t.Handshake = cmp.Or(t.Handshake, DefaultHandshakeTimeout)
	t.Write = cmp.Or(t.Write, DefaultWriteTimeout)
	t.DataWindow = cmp.Or(t.DataWindow, DefaultDataWindow)
	t.MinimumRate = cmp.Or(t.MinimumRate, DefaultMinimumRate)
	t.Transaction = cmp.Or(t.Transaction, DefaultTransactionTimeout)
	return t
}

// Counters count since the start. Open is what is open now.
type Counters struct {
	Connections      atomic.Int64
	Open             atomic.Int64
	Transactions     atomic.Int64 // MAIL commands that were well formed
	Kept             atomic.Int64 // messages answered 250
	Refused          atomic.Int64 // refusals sent, the Handler's included
	Authenticated    atomic.Int64
	HandshakesFailed atomic.Int64
	Panics           atomic.Int64
}

// ErrShutDown says that Serve was called after Shutdown.
var ErrShutDown = errors.New("smtpd: the server is shut down")

// Serve accepts connections until Shutdown, or until ctx ends, which breaks all
// its connections off at once. It closes the listener and waits for its sessions.
// The error is one of the listener's; stopping is none.
func (s *Server) Serve(ctx context.Context, listener net.Listener, mode Mode) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.begin(listener, cancel); err != nil {
		return errors.Join(err, listener.Close())
	}
	defer s.end(listener)
	broken := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() { defer close(broken); s.breakOff(listener) })
	defer func() {
		if !unwatch() {
			<-broken
		}
	}()

	var sessions sync.WaitGroup
	err := s.accept(ctx, listener, func(raw net.Conn) {
		if c := s.admit(ctx, listener, raw, mode); c != nil {
			background.Go(&sessions, s.log(), "smtp: a session", func() { c.serve(ctx) })
		}
	})
	sessions.Wait()
	return err
}

// begin and end register a Serve.
func (s *Server) begin(listener net.Listener, cancel context.CancelFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return ErrShutDown
	}
	if s.serves == nil {
		s.serves = make(map[net.Listener]context.CancelFunc)
		s.conns = make(map[*conn]net.Listener)
		s.peers = make(map[netip.Prefix]int)
		s.tls = s.tlsConfig()
	}
	s.serves[listener] = cancel
	s.serving.Add(1)
	return nil
}

func (s *Server) end(listener net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.serves, listener)
	s.serving.Done()
}

// breakOff closes a listener and the connections that it accepted.
func (s *Server) breakOff(listener net.Listener) {
	_ = listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, from := range s.conns {
		if from == listener {
			_ = c.wire.raw.Close()
		}
	}
}

// accept hands connections to take until the listener is closed. Errors of one
// connection, or of a moment without file descriptors, are waited out.
func (s *Server) accept(ctx context.Context, listener net.Listener, take func(net.Conn)) error {
	const longest = time.Second
	pause := 5 * time.Millisecond
	for {
		raw, err := listener.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			take(raw)
			continue
		case s.isStopping() || ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("smtpd: accept on %s: %w", listener.Addr(), err)
		}
		s.log().Error("smtp: accept failed, trying again", "listener", listener.Addr().String(), "pause", pause, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

// admit registers a connection, or refuses one too many: with a reply, but for
// ImplicitTLS, where a reply would cost a handshake.
func (s *Server) admit(ctx context.Context, listener net.Listener, raw net.Conn, mode Mode) *conn {
	s.Counters.Connections.Add(1)
	c := newConn(s, raw, mode)
	most := cmp.Or(s.MaxConnections, DefaultMaxConnections)
	if s.SharedPeer != nil && mode != Proxy && !s.isShared(c.session.Peer.Addr()) {
		most -= most / sharedPart
	}
	s.mu.Lock()
	admitted := len(s.conns) < most
	if admitted {
		s.conns[c] = listener
		c.stopping = s.stopping
	}
	s.mu.Unlock()
	if ctx.Err() != nil {
		_ = raw.Close() // breakOff may have come before
	}
	if admitted {
		s.Counters.Open.Add(1)
		return c
	}
	c.refuseOutright(mail.TooManyConnections.Because("%d connections are open", s.Counters.Open.Load()))
	return nil
}

// dismiss forgets a connection.
func (s *Server) dismiss(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.counted.IsValid() {
		if s.peers[c.counted]--; s.peers[c.counted] == 0 {
			delete(s.peers, c.counted)
		}
	}
	s.Counters.Open.Add(-1)
}

// countPeer counts a connection for its peer; false: it is one too many.
func (s *Server) countPeer(c *conn) bool {
	peer := peerNetwork(c.session.Peer.Addr())
	if !peer.IsValid() || s.isShared(c.session.Peer.Addr()) {
		return true // not an IP network (tests), or not one peer's alone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[peer] >= cmp.Or(s.MaxConnectionsPerPeer, DefaultMaxConnectionsPerPeer) {
		return false
	}
	s.peers[peer]++
	c.counted = peer
	return true
}

// sharedPart is the part of MaxConnections that is kept for shared peers: one in
// so many.
const sharedPart = 4

func (s *Server) isShared(peer netip.Addr) bool {
	return s.SharedPeer != nil && s.SharedPeer(peer.Unmap())
}

// peerNetwork is what one peer is for limits: an IPv4 address, an IPv6 /64.
func peerNetwork(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Shutdown stops gracefully: no connection is accepted any more, idle ones get
// 421 SHUTTING_DOWN at once, and those with an open transaction when it ends. If
// ctx ends before, what is left is broken off, and Shutdown says so with ctx's
// error. When it returns, no goroutine of the server is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	for listener := range s.serves {
		_ = listener.Close()
	}
	for c := range s.conns {
		c.stop()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	background.Go(nil, s.log(), "smtp: wait for sessions", func() { s.serving.Wait(); close(done) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	left := len(s.conns)
	for _, cancel := range s.serves {
		cancel()
	}
	s.mu.Unlock()
	<-done
	return fmt.Errorf("smtpd: %d connections were broken off: %w", left, ctx.Err())
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// tlsConfig is TLS with what the server insists on.
func (s *Server) tlsConfig() *tls.Config {
	if s.TLS == nil {
		return nil
	}
	config := s.TLS.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	if config.ClientAuth != tls.NoClientCert {
		config.SessionTicketsDisabled = true
	}
	return config
}
