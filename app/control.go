package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/control/metrics"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/signing"
	"anechoic/watch/response"
	"anechoic/watch/tracking"
)

// makeControl makes the control API and the operations pages.
func (a *App) makeControl() error {
	server := &api.Server{
		Queue: a.queue, Delivery: a.dispatcher, Traffic: a.metrics, Ledger: a.engine, Keys: a.signer, Locksmith: a.locksmith(), Log: a.log, Node: a.node, Relay: a.relayInForce, Reload: a.Reload,
		Directory: func() (*org.Directory, []org.Finding) {
			dir := a.directory.Load()
			return dir, slices.Concat(*a.findings.Load(), a.leaks(dir), a.egressSPF.findings(), a.probes.findings(dir), a.killed(dir))
		},
		Release: a.Release, Approvals: a.approvals, Digest: a.sendDigest, Seen: a.seen, Tracking: a.tracking, Searches: tracking.SavedSearches{Store: a.store}, Suppression: a.returns.list, Organisations: organisations{a}, Limits: limitSteering{a}, Scanners: a.intake.scanners.health.ask, CheckInbound: a.checkInbound,
		Checkpoint: a.checkpoint, Echoes: a.intake.echoes, ForgetEcho: a.forgetEcho, Probes: a.probes, Examine: a.examine, Alerts: a.alerts, Ready: a.Standing, Responding: a.responding(),
		Standing: func(ctx context.Context, d *org.Domain) (string, string) {
			return a.domains.Check(ctx, d, time.Now().UTC()).String(), ""
		},
	}
	a.control = api.NewHTTPServer(server.Handler(), a.log)
	a.checks = api.Operations{
		Checks: []api.Check{{Name: "storage", Ask: a.storageReady}, {Name: "listeners", Ask: a.listenersReady}}, Draining: a.draining.Load, Metrics: a.metrics.Handler(),
	}
	a.operations = api.NewHTTPServer(a.checks.Handler(), a.log)
	a.metrics.Watch(metrics.Gauges{
		Queue: a.queue.Depth, Shares: a.queue.Shares, Site: func(s custody.Share) string { return api.SiteOf(a.dispatcher, s.Domain, s.Via) }, Generation: func() uint64 { return a.directory.Load().Generation() },
		Findings: func() int { return len(*a.findings.Load()) + len(a.leaks(a.directory.Load())) + a.egressSPF.count() },
		Listed:   a.egressSPF.count,
		Faults: func() uint64 {
			return uint64(a.server.Counters.Panics.Load()) + a.dispatcher.Counters().Panics + a.signer.Faults() + background.Faults()
		},
		Ready:     func() bool { return a.checks.Ready(context.Background()).Ready },
		Scanners:  a.intake.scanners.screen.States,
		Responses: func() map[response.Step]int { return a.responses.overlay.Load().Counts() },
		Detained:  a.queue.DetainedShares,
		Alerts:    a.alerts.Counts,
	})
	return nil
}

// relayInForce is relay.toml as it counts now: as it was at the start, with the
// providers' addresses that the last reload brought.
func (a *App) relayInForce() string {
	c, p := a.config, a.directory.Load().Providers()
	for _, one := range []struct {
		to   *config.Provider
		from org.Provider
	}{{&c.Providers.Microsoft365, p.Microsoft365}, {&c.Providers.Google, p.Google}} {
		one.to.Ranges, one.to.Exclude, one.to.ARCDomains = one.from.Ranges, one.from.Exclude, one.from.ARCDomains
	}
	return c.Show()
}

// storageReady says whether mail can be kept: the engine has not broken and has
// room.
func (a *App) storageReady(context.Context) error { return a.engine.Ready() }

// listenersReady says whether every port is bound.
func (a *App) listenersReady(context.Context) error {
	if !a.listening.Load() {
		return errors.New("the ports are not bound")
	}
	return nil
}

// node is what only the running program knows of itself.
func (a *App) node() api.Node {
	n := api.Node{
		Version: a.options.Version, PID: os.Getpid(), Started: a.started, Hostname: a.config.Hostname.String(),
		DataDir: a.config.DataDir, Files: []string{a.options.ConfigFile, a.config.Registry}, Draining: a.draining.Load(), Transport: a.security.describe(),
	}
	n.RSA, _ = signing.RSA()
	add := func(name string, addresses ...string) {
		for _, address := range addresses {
			n.Listeners = append(n.Listeners, api.Listener{Name: name, Address: address})
		}
	}
	add("smtp", a.ready.SMTP...)
	add("smtp_tls", a.ready.SMTPTLS...)
	add("submission", a.ready.Submission...)
	add("proxy", a.ready.Proxy...)
	if a.ready.Operations != "" {
		add("operations", a.ready.Operations)
	}
	return n
}

// listenControl opens the control socket and, if configured, the operations
// listener.
func (a *App) listenControl() error {
	socket, err := api.Listen(a.config.DataDir, a.log)
	if err != nil {
		return err
	}
	a.ready.ControlSocket = socket.Addr().String()
	a.serveHTTP("control socket", a.control, socket)
	if a.config.Operations == "" {
		return nil
	}
	operations, err := net.Listen("tcp", a.config.Operations)
	if err != nil {
		return fmt.Errorf("operations: %w", err)
	}
	a.ready.Operations = operations.Addr().String()
	a.serveHTTP("operations", a.operations, operations)
	return nil
}

// serveHTTP runs a server until Stop. Streams that never end by themselves are
// broken off.
func (a *App) serveHTTP(name string, server *http.Server, listener net.Listener) {
	background.Vital(&a.running, a.log, "serve "+name, func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("a listener failed", "listener", name, "error", err)
		}
	})
	a.onStop(name, func(context.Context) error { return server.Close() })
}
