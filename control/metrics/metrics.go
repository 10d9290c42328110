// Package metrics counts what the relay does, for Prometheus.
//
// One Metrics is made by New and fed by app: most counters come from the facts
// of the ledger (Fact), a few durations and connections from typed methods, and
// gauges from functions that are asked when somebody scrapes (Watch).
//
// Every name begins with anechoic_. Labels come from closed sets: reasons and
// events of the ledger, listeners, and organisations up to MaxOrganisations. A
// label never holds an address, a peer or anything else a stranger chooses, so
// the number of series is bounded whatever is sent to the relay.
//
// It is not the record of what happened: counters start at zero with the
// process. The ledger is the record.
package metrics

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"anechoic/ledger"
	"anechoic/mail"
)

// MaxOrganisations is how many organisations get a series of their own; the
// others are counted together as Other.
const MaxOrganisations = 200

// Other is the label of what has no series of its own.
const Other = "other"

// Listener names one kind of listening address in labels.
type Listener string

// The listeners (the keys of [smtp] in the configuration).
const (
	SMTP       Listener = "smtp"
	SMTPTLS    Listener = "smtp_tls"
	Submission Listener = "submission"
	Proxy      Listener = "proxy"
)

// Metrics is the counters of one running relay. Methods are safe for concurrent
// use and cost a few atomic additions.
type Metrics struct {
	registry *prometheus.Registry

	connections *prometheus.CounterVec
	open        *prometheus.GaugeVec
	accepted    *prometheus.CounterVec
	refused     *prometheus.CounterVec
	recipients  *prometheus.CounterVec
	facts       *prometheus.CounterVec
	signed      prometheus.Counter
	reloads     *prometheus.CounterVec
	signing     prometheus.Histogram
	keeping     prometheus.Histogram
	intake      prometheus.Histogram
	attempt     prometheus.Histogram

	mailboxReports *prometheus.CounterVec

	detection detection
	decisions decisions

	mu            sync.Mutex // guards what follows
	organisations map[string]struct{}
	sites, orgs   ranking
	all           Tally
	refusals      uint64
}

// Buckets in seconds. A signature takes about 1.6 ms in pure Go and a durable
// commit a few; an attempt at a distant host takes up to minutes (RFC 5321
// section 4.5.3.2).
var (
	shortBuckets = []float64{.0005, .001, .002, .003, .005, .01, .02, .05, .1, .25, .5, 1, 5}
	longBuckets  = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
)

// New makes the metrics of one process.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), organisations: make(map[string]struct{}), sites: newRanking(), orgs: newRanking()}
	m.connections = m.counters("connections_total", "Connections accepted, by kind of listener.", "listener")
	m.accepted = m.counters("messages_accepted_total", "Messages taken into custody, by proven organisation.", "org")
	m.refused = m.counters("refused_total", "Connections, recipients and messages refused, by reason.", "reason")
	m.recipients = m.counters("recipients_total", "Recipients by what an attempt or an operator came to: delivered, deferred, bounced, held, released, dropped.", "event")
	m.facts = m.counters("facts_total", "Facts written to the ledger, by event.", "event")
	m.reloads = m.counters("reloads_total", "Reloads of configuration and registry, by result: ok or failed.", "result")
	m.signed = m.counter("messages_signed_total", "Messages DKIM-signed as an organisation.")
	m.counter("unproven_signed_total", "Messages signed without proof of their organisation. Always 0 by construction: signing takes a proven warrant and nothing else. Alert above 0.")

	m.open = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "anechoic", Name: "connections_open", Help: "Connections open now, by kind of listener."}, []string{"listener"})
	m.registry.MustRegister(m.open)
	m.signing = m.seconds("signing_seconds", "Time to sign one message with all its keys.", shortBuckets)
	m.keeping = m.seconds("custody_seconds", "Time to make one message durable, before its 250.", shortBuckets)
	m.intake = m.seconds("intake_seconds", "Time from the end of DATA to the reply.", longBuckets)
	m.attempt = m.seconds("attempt_seconds", "Time of one delivery attempt.", longBuckets)

	info := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "anechoic", Name: "build_info", Help: "Always 1; the label names the version.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(trafficCollector{m})
	m.newDetection()
	m.newDecisions()
	m.newReturned()
	m.closedSets()
	return m
}

func (m *Metrics) counters(name, help, label string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "anechoic", Name: name, Help: help}, []string{label})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "anechoic", Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) seconds(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "anechoic", Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

// closedSets makes every series of a closed label at zero, so that a rate over
// the first event is right.
func (m *Metrics) closedSets() {
	for _, l := range []Listener{SMTP, SMTPTLS, Submission, Proxy} {
		m.connections.WithLabelValues(string(l))
		m.open.WithLabelValues(string(l))
	}
	for _, r := range mail.Reasons() {
		m.refused.WithLabelValues(string(r))
	}
	for _, e := range outcomes {
		m.recipients.WithLabelValues(string(e))
	}
	m.reloads.WithLabelValues("ok")
	m.reloads.WithLabelValues("failed")
}

// outcomes are the events that recipients_total counts.
var outcomes = []ledger.Event{ledger.Delivered, ledger.Deferred, ledger.Bounced, ledger.Held, ledger.Released, ledger.Dropped}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Fact counts one fact of the ledger. Whoever feeds facts calls it once for
// each, and then calls none of Accepted, Refused and Recipients for the same.
func (m *Metrics) Fact(f ledger.Fact) {
	m.facts.WithLabelValues(eventLabel(f.Event)).Inc()
	m.traffic(f)
	switch f.Event {
	case ledger.Accepted:
		m.Accepted(f.Org)
	case ledger.Refused:
		m.refused.WithLabelValues(reasonLabel(f.Reason)).Add(float64(max(f.Count, 1)))
	default:
		m.Recipients(f.Event, max(len(f.Rcpt), 1))
	}
}

// Accepted counts a message taken into custody for an organisation.
func (m *Metrics) Accepted(org string) { m.accepted.WithLabelValues(m.orgLabel(org)).Inc() }

// Refused counts one refusal.
func (m *Metrics) Refused(r mail.Reason) { m.refused.WithLabelValues(reasonLabel(r)).Inc() }

// Recipients counts what became of n recipients. Events that are not about
// recipients count nothing.
func (m *Metrics) Recipients(e ledger.Event, n int) {
	for _, known := range outcomes {
		if e == known {
			m.recipients.WithLabelValues(string(e)).Add(float64(n))
		}
	}
}

// Connected counts a connection; the caller calls the function it gets when the
// connection ends, once.
func (m *Metrics) Connected(l Listener) (ended func()) {
	m.connections.WithLabelValues(string(l)).Inc()
	open := m.open.WithLabelValues(string(l))
	open.Inc()
	return open.Dec
}

// Signed counts one signed message and the time its signatures took.
func (m *Metrics) Signed(took time.Duration) {
	m.signed.Inc()
	m.signing.Observe(took.Seconds())
}

// Kept is the time one message took to become durable.
func (m *Metrics) Kept(took time.Duration) { m.keeping.Observe(took.Seconds()) }

// Intake is the time from the end of DATA to its reply.
func (m *Metrics) Intake(took time.Duration) { m.intake.Observe(took.Seconds()) }

// Attempted is the time of one delivery attempt at a site, for an organisation.
func (m *Metrics) Attempted(took time.Duration, site, org string) {
	m.attempt.Observe(took.Seconds())
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range []*Tally{&m.all, m.sites.of(site, now), m.orgs.of(org, now)} {
		t.Attempts++
		t.Busy += took
	}
}

// Reloaded counts a reload: err nil for one that is in force.
func (m *Metrics) Reloaded(err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.reloads.WithLabelValues(result).Inc()
}

// orgLabel gives an organisation its own series while there is room.
func (m *Metrics) orgLabel(org string) string {
	if org == "" {
		return "none"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.organisations[org]; ok {
		return org
	}
	if len(m.organisations) >= MaxOrganisations {
		return Other
	}
	m.organisations[org] = struct{}{}
	return org
}

var knownReasons = func() map[mail.Reason]bool {
	known := make(map[mail.Reason]bool)
	for _, r := range mail.Reasons() {
		known[r] = true
	}
	return known
}()

func reasonLabel(r mail.Reason) string {
	if knownReasons[r] {
		return string(r)
	}
	return Other
}

func eventLabel(e ledger.Event) string {
	switch e {
	case ledger.Accepted, ledger.Refused, ledger.Leased, ledger.Delivered, ledger.Deferred, ledger.Bounced, ledger.Held,
		ledger.Released, ledger.Dropped, ledger.SetAside, ledger.BounceReceived, ledger.ComplaintReceived, ledger.SuppressionChanged, ledger.Suspended, ledger.Resumed, ledger.Rerouted, ledger.Ended, ledger.Started, ledger.Restored, ledger.Stopped, ledger.Reloaded, ledger.KeyChanged, ledger.EgressListed, ledger.EgressUnlisted, ledger.EchoForgotten, ledger.LimitChanged, ledger.WouldRefuse, ledger.Exported, ledger.ApprovalChanged, ledger.Finding, ledger.Campaign, ledger.ResponseChanged, ledger.ContentAlarm:
		return string(e)
	}
	return Other
}
