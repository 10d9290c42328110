package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"anechoic/control/api"
	"anechoic/control/supervise"
	"anechoic/mail/background"
	"anechoic/relay/custody"
	"anechoic/relay/smtpd"
)

// aliveTimeout is how long the parts that Alive asks have for their answer. They need
// microseconds, and tenths of a second on a disk that is busy.
const aliveTimeout = 10 * time.Second

// bound is a listener and what is spoken on it.
type bound struct {
	listener net.Listener
	mode     smtpd.Mode
}

// listenSMTP takes every port, from the supervisor or itself, before it serves any.
func (a *App) listenSMTP() error {
	a.ready = Ready{Event: "ready", Version: a.options.Version, PID: os.Getpid(), Operations: a.ready.Operations, ControlSocket: a.ready.ControlSocket}
	listeners, err := a.bindSMTP()
	if err != nil {
		for _, b := range listeners {
			err = errors.Join(err, b.listener.Close())
		}
		return fmt.Errorf("smtp: %w", err)
	}
	a.dispatcher.Router.Own = ownAddresses(slices.Concat(a.ready.SMTP, a.ready.SMTPTLS, a.ready.Submission, a.ready.Proxy))
	a.onStop("smtp", a.server.Shutdown)
	a.listening.Store(true)
	for _, b := range listeners {
		background.Vital(&a.running, a.log, "serve smtp", func() {
			listener := measuredListener{b.listener, listenerNames[b.mode], a.metrics}
			if err := a.server.Serve(context.Background(), listener, b.mode); err != nil {
				a.failed.Add(1)
				a.log.Error("a listener failed", "address", b.listener.Addr().String(), "error", err)
			}
		})
	}
	return nil
}

// bindSMTP gives the listeners of all configured addresses. What the supervisor
// holds has to be configured too: else mail would come in by a way that nobody wrote
// down.
func (a *App) bindSMTP() (listeners []bound, err error) {
	c := a.config.SMTP
	inherited := slices.Clone(a.options.Inherited)
	for _, l := range []struct {
		addrs []string
		mode  smtpd.Mode
		ready *[]string
	}{{c.Listen, smtpd.Plain, &a.ready.SMTP}, {c.ListenTLS, smtpd.ImplicitTLS, &a.ready.SMTPTLS}, {c.ListenSubmission, smtpd.Submission, &a.ready.Submission}, {c.ListenProxy, smtpd.Proxy, &a.ready.Proxy}} {
		for _, addr := range l.addrs {
			var listener net.Listener
			i := slices.IndexFunc(inherited, func(s supervise.Socket) bool {
				return s.Name == string(listenerNames[l.mode]) && listensOn(s.Listener.Addr(), addr)
			})
			if i >= 0 {
				listener = inherited[i].Listener
				inherited = slices.Delete(inherited, i, i+1)
			} else if listener, err = net.Listen("tcp", addr); err != nil {
				return listeners, errors.Join(inUse(err, addr, inherited), closeSockets(inherited))
			}
			listeners = append(listeners, bound{listener, l.mode})
			*l.ready = append(*l.ready, listener.Addr().String())
		}
	}
	var unclaimed []error
	for _, s := range inherited {
		unclaimed = append(unclaimed, nobodys(s))
	}
	return listeners, errors.Join(append(unclaimed, closeSockets(inherited))...)
}

// inUse names the socket of the supervisor that stands in the way, if one does.
func inUse(err error, addr string, inherited []supervise.Socket) error {
	for _, s := range inherited {
		if listensOn(s.Listener.Addr(), addr) {
			return errors.Join(err, nobodys(s))
		}
	}
	return err
}

func closeSockets(sockets []supervise.Socket) (err error) {
	for _, s := range sockets {
		err = errors.Join(err, s.Listener.Close())
	}
	return err
}

// nobodys says why a socket that was handed over cannot be served.
func nobodys(s supervise.Socket) error {
	keys := map[string]string{"smtp": "smtp.listen", "smtp_tls": "smtp.listen_tls", "submission": "smtp.listen_submission", "proxy": "smtp.listen_proxy"}
	key, known := keys[s.Name]
	if !known {
		return fmt.Errorf("the supervisor handed over %s by the name %q: FileDescriptorName= of its socket unit must be smtp, smtp_tls, submission or proxy", s.Listener.Addr(), s.Name)
	}
	return fmt.Errorf("the supervisor handed over %s by the name %q, and %s does not list that address: add it there, or disable the socket unit", s.Listener.Addr(), s.Name, key)
}

// listensOn says whether a socket is the one that a configured host:port means. A
// host that is a name is compared for localhost only.
func listensOn(socket net.Addr, configured string) bool {
	tcp, ok := socket.(*net.TCPAddr)
	host, port, err := net.SplitHostPort(configured)
	if !ok || err != nil || port != fmt.Sprint(tcp.Port) {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return tcp.IP.IsLoopback()
	}
	want, err := netip.ParseAddr(host)
	if host == "" || err == nil && want.IsUnspecified() {
		return tcp.IP.IsUnspecified()
	}
	return err == nil && want.Unmap() == tcp.AddrPort().Addr().Unmap()
}

// Alive says whether the relay can work at all: the store has not failed and answers,
// the queue's lock is free, every port is served. It is a supervisor's question, who
// starts the relay again if the answer is no; so a full disk, DNS that is away or a
// scanner that is lost are no reasons. Standing tells of those.
func (a *App) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	select {
	case <-a.engine.Broken():
		return a.engine.Ready()
	default:
	}
	if n := a.failed.Load(); n > 0 {
		return fmt.Errorf("%d listeners failed", n)
	}
	answered := make(chan error, 1)
	background.Vital(nil, a.log, "liveness", func() {
		a.queue.Suspensions()
		_, err := a.engine.Get(ctx, aliveKey)
		answered <- err
	})
	select {
	case err := <-answered:
		if errors.Is(err, custody.ErrNotFound) {
			return nil
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("queue and store did not answer within %v", aliveTimeout)
	}
}

// aliveKey is a record that nothing writes.
const aliveKey = "alive"

// Standing says whether mail is taken now, and if not, why.
func (a *App) Standing(ctx context.Context) api.Readiness { return a.checks.Ready(ctx) }
