// Package app is the relay as one program: New makes the parts, Start lets them
// run, Reload swaps the Directory, Stop ends everything in order.
//
// intake.go is the path of a message to custody, outbound.go what delivery asks
// of it afterwards. Only here is a transaction made into Evidence, and only here
// is a Notice made. There is no other way to put the parts together.
package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/control/metrics"
	"anechoic/control/supervise"
	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/relay/quarantine"
	"anechoic/relay/signing"
	"anechoic/relay/smtpd"
	"anechoic/watch/alert"
	"anechoic/watch/seen"
	"anechoic/watch/tracking"
)

// Options says what to run.
type Options struct {
	ConfigFile string
	Log        *slog.Logger // nil: silent
	Version    string

	// What the relay believes of the world outside, for an internet on one machine.
	Roots   *x509.CertPool                                                       // who vouches for next hops and policy hosts; nil: whom the system trusts
	DialWeb func(ctx context.Context, network, address string) (net.Conn, error) // to policy hosts and for reports; nil: as the name servers say

	Inherited []supervise.Socket // listening sockets that the supervisor holds; every one has to be configured

	disk vfs.FS // of the store; nil: the machine's. Tests inject faults here
}

// App is a relay. Only New makes one.
type App struct {
	options Options
	config  config.Config
	log     *slog.Logger
	started time.Time
	metrics *metrics.Metrics

	engine     *local.Engine
	store      custody.Engine // the same, measured
	queue      *custody.Queue
	sites      *custody.Sites
	approvals  *quarantine.Approvals
	resolver   *dns.Client
	domains    *org.Proofs
	egressSPF  *egressSPF
	keys       *signing.LocalKeys
	lives      *signing.Lives
	signer     *signing.Signer
	recorder   *recorder
	seen       *seen.Table
	tracking   *tracking.Index // nil: there is none
	alerts     *alert.Dispatcher
	limits     *limits
	returns    *returns
	orgs       orgRecords
	tls        *certificate
	intake     *intake
	probes     *probes
	responses  *responses
	watch      *follower
	server     *smtpd.Server
	security   *transportSecurity
	dispatcher *delivery.Dispatcher
	transport  *delivery.SMTP
	control    *http.Server
	operations *http.Server
	checks     api.Operations

	directory atomic.Pointer[org.Directory]
	findings  atomic.Pointer[[]org.Finding]
	shaping   atomic.Pointer[delivery.Shaping]
	listening atomic.Bool  // every port is bound
	failed    atomic.Int32 // listeners that are served no more, but for a stop
	draining  atomic.Bool

	reloading sync.Mutex // one reload at a time
	copying   sync.Mutex // one checkpoint at a time
	running   sync.WaitGroup
	stop      context.CancelFunc // of what runs in the background
	ready     Ready
	cleanups  []cleanup
	stopOnce  sync.Once
	stopError error
}

// Ready is where the relay answers, as `serve` prints it.
type Ready struct {
	Event         string   `json:"event"` // "ready"
	Version       string   `json:"version"`
	PID           int      `json:"pid"`
	SMTP          []string `json:"smtp"`
	SMTPTLS       []string `json:"smtp_tls,omitempty"`
	Submission    []string `json:"submission,omitempty"`
	Proxy         []string `json:"proxy,omitempty"`
	Operations    string   `json:"operations,omitempty"`
	ControlSocket string   `json:"control_socket"`
}

// cleanup undoes one step of New or Start.
type cleanup struct {
	name string
	undo func(context.Context) error
}

func (a *App) onStop(name string, undo func(context.Context) error) {
	a.cleanups = append(a.cleanups, cleanup{name, undo})
}

// New reads the configuration, opens the data directory and makes the parts. It
// binds no port and takes no mail. On an error everything is undone; an error of
// the configuration lists every problem (api.ListProblems).
func New(options Options) (a *App, err error) {
	a = &App{options: options, log: options.Log, started: time.Now().UTC(), metrics: metrics.New(options.Version)}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	made := a // a is nil when New returns an error
	defer func() {
		if err != nil {
			err = errors.Join(err, made.Stop(context.Background()))
		}
	}()
	var problems []org.Problem
	if a.config, problems = config.Load(options.ConfigFile); len(problems) > 0 {
		return nil, problemList(problems)
	}
	for _, step := range []func() error{a.openStore, a.openTracking, a.openDNS, a.openSightings, a.openLimits, a.openDirectory, a.chargeReplayed, a.openQueue, a.openResponses, a.makeServer, a.openMailboxReports, a.openInbound, a.openForwarding, a.openTransportSecurity, a.makeDispatcher, a.openAlerts, a.openWatch, a.makeControl} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// problemList is an error of configuration files: all of it at once.
type problemList []org.Problem

func (l problemList) Error() string {
	text := fmt.Sprintf("%d problems in the configuration", len(l))
	if len(l) == 1 {
		text = "a problem in the configuration"
	}
	for _, p := range l {
		text += "\n" + p.String()
	}
	return text
}

// Problems gives them one by one.
func (l problemList) Problems() []org.Problem { return l }

// openStore opens the engine in the data directory.
func (a *App) openStore() (err error) {
	if err := a.whole(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(a.config.DataDir, "spool"), 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	a.engine, err = local.Open(local.Options{Dir: a.config.Store(), FS: a.options.disk, Log: a.log, Reserve: uint64(a.config.Storage.Reserve)})
	if err != nil {
		return err
	}
	a.onStop("store", func(context.Context) error { return a.engine.Close() })
	if err := a.sweepCheckpoints(); err != nil {
		return err
	}
	a.limits = newLimits(a.config.Limits)
	a.limits.metrics = a.metrics
	a.store = measuredStore{a.engine, a.metrics, a.limits}
	a.recorder = newRecorder(a.store, a.log)
	return a.orgs.load(context.Background(), a.store)
}

func (a *App) openDNS() (err error) {
	c := a.config.DNS
	a.resolver, err = dns.New(dns.Options{Servers: c.Servers, Timeout: c.Timeout, TrustAD: c.DNSSEC == config.DNSSECTrust, TrustLoopback: c.DNSSEC == config.DNSSECAuto})
	if err != nil {
		return err
	}
	a.onStop("resolver", func(context.Context) error { return a.resolver.Close() })
	a.domains = &org.Proofs{Resolver: a.resolver, Relay: a.config.Hostname, Load: a.loadProofs, Save: a.saveProofs, Log: a.log}
	a.egressSPF = (&egressSPF{
		resolver: a.resolver, directory: a.directory.Load, helo: a.config.Hostname.String(), perSweep: egressPerSweep, record: a.recordAll, ended: a.releaseListed, log: a.log,
		addresses: map[nobodysPool][]netip.Addr{fromInbound: a.config.Inbound.Bind, fromDisowned: a.config.Disowned.Bind},
	}).open()
	return a.domains.Start()
}

// openDirectory reads the registry, prepares its keys and puts both in force.
func (a *App) openDirectory() (err error) {
	if err := a.openKeys(); err != nil {
		return err
	}
	if a.tls, err = openCertificate(a.config); err != nil {
		return err
	}
	return a.adopt(context.Background())
}

// openQueue reads back what is in custody.
func (a *App) openQueue() error {
	key, err := sealKey(a.config.DataDir)
	if err != nil {
		return err
	}
	a.returns = newReturns(a.store, key, a.log)
	a.queue, err = custody.OpenQueue(context.Background(), a.store, custody.Options{
		SealKey: key, RetryAfter: a.config.Delivery.RetryAfter, ExpireAfter: a.config.Delivery.ExpireAfter, DetainFor: a.config.Quarantine.Keep, Log: a.log,
	})
	if err != nil {
		return err
	}
	a.sites = &custody.Sites{Store: a.store, Log: a.log}
	a.approvals = quarantine.NewApprovals(a.store, a.config.Quarantine.SecondPersonAbove)
	a.onStop("queue", func(context.Context) error { a.queue.Close(); return nil })
	return nil
}

func (a *App) makeServer() error {
	in := &intake{
		hostname: a.config.Hostname.String(), own: newOwnPostmaster(a.config), spool: filepath.Join(a.config.DataDir, "spool"), maxHops: a.config.SMTP.MaxHops, directory: &a.directory, domains: a.domains,
		resolver: a.resolver, passwords: newCredentials(a.config.Limits.AuthFailuresPerPeer), signer: a.signer, queue: a.queue, storage: a.engine.Ready, recorder: a.recorder, metrics: a.metrics,
		seen: a.seen, budgets: &budgets{limits: a.config.Limits, principals: a.limits}, returns: a.returns, scanners: a.openScanners(), responses: a.responses, copies: copies{most: a.config.Response.RecipientsPerSignature}, log: a.log,
	}
	a.intake, a.probes = in, newProbes(a)
	c := a.config.SMTP
	a.server = &smtpd.Server{
		Hostname: in.hostname, Handler: probed{in, a.probes}, Authenticate: in.authenticate, CertificateSource: in.hasCertificate, TLS: a.tls.config(c.ClientCertificates == config.CertificatesRequest),
		ProxyFrom: c.ProxyProtocolFrom, MaxMessageBytes: c.MaxMessageBytes, MaxHeaderBytes: int(c.MaxHeaderBytes), MaxHeaderFields: c.MaxHeaderFields, MaxMIMEDepth: c.MaxMIMEDepth,
		MaxRecipients: c.MaxRecipients, MaxConnections: c.MaxConnections, MaxConnectionsPerPeer: c.MaxConnectionsPerPeer,
		SharedPeer: in.isProvider, SpoolDir: filepath.Join(a.config.DataDir, "spool"), Refused: in.serverRefused, Log: a.log,
	}
	return nil
}

// Start binds the listeners and lets everything run: from the first bound port
// on, mail is taken. It is called once.
func (a *App) Start() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop(context.Background()))
		}
	}()
	var running context.Context
	running, a.stop = context.WithCancel(context.Background())
	a.onStop("background", func(context.Context) error { a.stop(); a.running.Wait(); return nil })
	if err := a.record(ledger.Fact{Event: ledger.Started, Generation: a.directory.Load().Generation()}); err != nil {
		return err
	}
	a.noteStart()
	a.onStop("ledger", func(context.Context) error {
		a.recorder.flush(time.Now(), true)
		a.flushSightings()
		a.flushEchoes()
		return a.record(ledger.Fact{Event: ledger.Stopped})
	})
	loop := func(name string, f func(context.Context)) {
		background.Loop(&a.running, a.log, name, running.Done(), func() { f(running) })
	}
	loop("domain proofs", func(ctx context.Context) { a.domains.Run(ctx, a.registered) })
	loop("spf of egress", a.egressSPF.run)
	loop("refusals", a.flushRefusals)
	loop("sites", a.sites.Run)
	loop("housekeeping", a.keepHouse)
	loop("feeds", a.watchFeeds)
	loop("tracking", a.track)
	loop("reports to mailboxes", a.intake.mailboxes.run)
	a.onStop("reports to mailboxes", a.intake.mailboxes.drain)
	loop("watch", a.watch.run)
	loop("responses", a.runResponses)
	loop("limits", a.keepLimits)
	loop("transport security", a.security.run)
	loop("alerts", a.alerts.Run)
	loop("weekly summaries", a.summaries)
	if err := a.listenControl(); err != nil {
		return err
	}
	background.Go(&a.running, a.log, "queue read back", func() { a.tidy(running) })
	a.dispatcher.Start()
	a.onStop("delivery", func(ctx context.Context) error { a.dispatcher.Stop(ctx); return nil })
	return a.listenSMTP()
}

// tidy lets the store put its tables in order once the queue was read back.
func (a *App) tidy(ctx context.Context) {
	if a.queue.Read(ctx) == nil {
		a.engine.Tidy()
	}
}

// Indexed waits until what was in the queue at the start is read back.
func (a *App) Indexed(ctx context.Context) error { return a.queue.Read(ctx) }

// Ready is valid after Start.
func (a *App) Ready() Ready { return a.ready }

// Broken is closed when the store saw a failed write or fsync: Fault says which,
// nothing is taken or attempted any more, and the program is to Stop and end, so
// that whoever supervises it starts it again.
func (a *App) Broken() <-chan struct{} { return a.engine.Broken() }

// Fault is why the relay takes no mail, or nil.
func (a *App) Fault() error { return a.engine.Ready() }

// Stop ends everything, last started first: no new connections, open
// transactions end, attempts in flight end, what is counted is written, the store
// is closed. Whatever is not over when ctx is, is broken off. It may be called
// more than once.
func (a *App) Stop(ctx context.Context) error {
	a.stopOnce.Do(func() {
		a.draining.Store(true)
		var errs []error
		for _, c := range slices.Backward(a.cleanups) {
			if err := c.undo(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", c.name, err))
			}
		}
		a.stopError = errors.Join(errs...)
	})
	return a.stopError
}

// record writes a fact of the relay itself.
func (a *App) record(f ledger.Fact) error {
	f.Time = time.Now().UTC()
	return a.store.Commit(context.Background(), &custody.Batch{Facts: []ledger.Fact{f}})
}

func (a *App) flushRefusals(ctx context.Context) {
	tick := time.NewTicker(refusalSpan)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			a.recorder.flush(now, false)
			a.flushSightings()
			a.flushEchoes()
		}
	}
}

// recordAll is record for many.
func (a *App) recordAll(facts []ledger.Fact) error {
	return a.store.Commit(context.Background(), &custody.Batch{Facts: facts})
}

// registered gives every domain of the Directory in force.
func (a *App) registered() iter.Seq[*org.Domain] {
	dir := a.directory.Load()
	return func(yield func(*org.Domain) bool) {
		for o := range dir.Organisations() {
			for _, d := range o.Domains {
				if !yield(d) {
					return
				}
			}
		}
	}
}

// Explain tells from the ledger what became of a message, in plain words.
func (a *App) Explain(ctx context.Context, id mail.ID) ([]string, error) {
	var facts []ledger.Fact
	err := ledger.Read(ctx, a.engine, 0, func(f ledger.Fact) bool {
		if f.ID == id {
			facts = append(facts, f)
		}
		return true
	})
	if err != nil || len(facts) == 0 {
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	return api.Story(facts), nil
}
