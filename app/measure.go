package app

import (
	"context"
	"net"
	"sync"
	"time"

	"anechoic/control/metrics"
	"anechoic/engine/local"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/relay/smtpd"
)

// measuredStore is the engine with a projection of every fact into metrics, made
// where the fact becomes one: after the batch that carries it was committed.
type measuredStore struct {
	*local.Engine
	metrics *metrics.Metrics
	limits  *limits // sees how sources' mail is received
}

// Commit implements custody.Engine.
func (s measuredStore) Commit(ctx context.Context, b *custody.Batch) error {
	if err := s.Engine.Commit(ctx, b); err != nil {
		return err
	}
	for i := range b.Facts {
		s.metrics.Fact(b.Facts[i])
		s.limits.observe(&b.Facts[i])
	}
	return nil
}

// measuredTransport times attempts.
type measuredTransport struct {
	*delivery.SMTP
	metrics *metrics.Metrics
}

// Deliver implements delivery.Transport.
func (t measuredTransport) Deliver(ctx context.Context, a delivery.Attempt) []delivery.Result {
	start := time.Now()
	defer func() { t.metrics.Attempted(time.Since(start), a.Route.Site, a.Message.Organisation) }()
	return t.SMTP.Deliver(ctx, a)
}

// listenerNames are the labels of the modes.
var listenerNames = map[smtpd.Mode]metrics.Listener{
	smtpd.Plain: metrics.SMTP, smtpd.ImplicitTLS: metrics.SMTPTLS, smtpd.Submission: metrics.Submission, smtpd.Proxy: metrics.Proxy,
}

// measuredListener counts connections, and those that are open.
type measuredListener struct {
	net.Listener
	name    metrics.Listener
	metrics *metrics.Metrics
}

// Accept implements net.Listener.
func (l measuredListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &measuredConn{Conn: conn, ended: sync.OnceFunc(l.metrics.Connected(l.name))}, nil
}

type measuredConn struct {
	net.Conn
	ended func()
}

// Close implements net.Conn.
func (c *measuredConn) Close() error {
	c.ended()
	return c.Conn.Close()
}
