package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"anechoic/control/config"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/relay/delivery"
	"anechoic/standard/mtasts"
	"anechoic/standard/tlsrpt"
)

// How often transport security looks after itself.
const (
	securityTick = time.Minute      // results are stored, a name server that did not validate is asked again
	probeEvery   = 10 * time.Minute // a name server that validates is asked again
	refreshEvery = time.Hour        // policies are refreshed
	reportsEvery = 10 * time.Minute // reports that are due are sent
	maxWebDials  = 4                // addresses of one web server that are tried
	webDialTime  = 10 * time.Second // for one of them
)

// transportSecurity is what delivery's TLS rules rest on: policies, DNSSEC, and
// the results that are reported.
type transportSecurity struct {
	app     *App
	cache   *delivery.STSCache
	tallies *delivery.TLSTallies
	web     *http.Transport
	dnssec  atomic.Pointer[dnssecState]
}

// dnssecState is whether answers of DNS can be authentic, and why.
type dnssecState struct {
	on  bool
	why string
}

// openTransportSecurity reads back policies and results, and asks whether the
// name servers validate.
func (a *App) openTransportSecurity() error {
	s := &transportSecurity{app: a}
	s.web = mtasts.Transport(&http.Transport{DialContext: s.dialWeb, TLSClientConfig: &tls.Config{RootCAs: a.options.Roots, MinVersion: tls.VersionTLS12}})
	s.cache = &delivery.STSCache{Resolver: a.resolver, Over: s.web, Store: a.engine, Log: a.log}
	s.tallies = &delivery.TLSTallies{Store: a.engine}
	ctx := context.Background()
	if err := s.cache.Load(ctx); err != nil {
		a.log.Warn("not every MTA-STS policy could be read back: it is fetched again", "error", err)
	}
	if err := s.tallies.Load(ctx); err != nil {
		a.log.Warn("not all TLS results could be read back: reports will miss them", "error", err)
	}
	a.onStop("transport security", func(ctx context.Context) error {
		s.cache.Close()
		return s.tallies.Flush(ctx)
	})
	s.probe(ctx)
	a.security = s
	return nil
}

// rules are those of the configuration, with what is known of domains.
func (s *transportSecurity) rules() *delivery.TLSRules {
	c := s.app.config.Delivery
	r := &delivery.TLSRules{
		Resolver: s.app.resolver, SmartHost: c.SmartHost != "", STS: s.cache.Policy,
		DANE: func() bool { return s.dnssec.Load().on },
	}
	r.Default, _ = delivery.LevelOf(c.TLS)
	for _, d := range c.Domains {
		level, _ := delivery.LevelOf(d.TLS)
		r.Overrides = append(r.Overrides, delivery.TLSOverride{Domain: d.Name, Subdomains: d.Subdomains, Level: level, Names: d.Names})
	}
	if s.app.config.TLSReports.Enabled {
		r.Report = func(domain mail.Domain, p tlsrpt.Policy, f tlsrpt.Failure) { s.tallies.Count(domain, p, f, time.Now()) }
	}
	return r
}

// probe asks whether answers are authentic, and says so when that changes. A name
// server that does not answer changes nothing: what it answered before counts, and
// TLSA records that cannot be looked up hold mail back by themselves.
func (s *transportSecurity) probe(ctx context.Context) {
	before := s.dnssec.Load()
	now := s.judge(ctx, before)
	if before == nil || before.on != now.on {
		say := s.app.log.Info
		if before != nil && before.on {
			say = s.app.log.Warn
		}
		say("DANE", "on", now.on, "because", now.why)
	}
	s.dnssec.Store(&now)
}

func (s *transportSecurity) judge(ctx context.Context, before *dnssecState) dnssecState {
	c := s.app.config.DNS
	if c.DNSSEC == config.DNSSECOff {
		return dnssecState{why: "dns.dnssec is off"}
	}
	err := s.app.resolver.CheckAuthentic(ctx, c.DNSSECProbe)
	switch {
	case err == nil:
		return dnssecState{on: true, why: "the name servers validate, and nobody stands between"}
	case errors.Is(err, dns.ErrNotAuthentic) || before == nil:
		return dnssecState{why: err.Error()}
	}
	return *before
}

// describe is one line for people.
func (s *transportSecurity) describe() string {
	d := s.dnssec.Load()
	state := "off"
	if d.on {
		state = "on"
	}
	return fmt.Sprintf("DANE %s: %s; %d MTA-STS policies in force", state, d.why, s.cache.Len(time.Now()))
}

// run looks after policies, DNSSEC and reports until ctx ends.
func (s *transportSecurity) run(ctx context.Context) {
	tick := time.NewTicker(securityTick)
	defer tick.Stop()
	var probed, refreshed, reported time.Time
	for {
		now := time.Now()
		if err := s.tallies.Flush(ctx); err != nil && ctx.Err() == nil {
			s.app.log.Error("TLS results could not be stored", "error", err)
		}
		if !s.dnssec.Load().on || now.Sub(probed) >= probeEvery {
			s.probe(ctx)
			probed = now
		}
		if now.Sub(refreshed) >= refreshEvery {
			s.cache.Refresh(ctx)
			refreshed = now
		}
		if now.Sub(reported) >= reportsEvery {
			s.report(ctx, now)
			reported = now
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// dialWeb connects to a web server that a stranger's DNS names: to addresses of
// the internet only, found by the relay's own resolver.
func (s *transportSecurity) dialWeb(ctx context.Context, network, address string) (net.Conn, error) {
	if s.app.options.DialWeb != nil {
		return s.app.options.DialWeb(ctx, network, address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	answer, err := s.app.resolver.Addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%s has no address that may be used", host)
	tried := 0
	for _, a := range answer.Records {
		if !publicAddress(a.Unmap()) && !(a.IsLoopback() && onLoopback(s.app.config.DNS.Servers)) {
			continue
		}
		if tried++; tried > maxWebDials {
			break
		}
		var conn net.Conn
		d := net.Dialer{Timeout: webDialTime}
		if conn, err = d.DialContext(ctx, network, net.JoinHostPort(a.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// sharedSpace is RFC 6598: behind a provider's translator, as private as RFC 1918.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// publicAddress says that a stranger may send a request of ours there.
func publicAddress(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !sharedSpace.Contains(a) && !(a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240))
}
