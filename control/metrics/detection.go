package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anechoic/watch/response"
)

// detection is what the follower of the ledger counts.
type detection struct {
	lag       prometheus.Gauge
	events    prometheus.Counter
	skipped   prometheus.Counter
	found     *prometheus.CounterVec
	campaigns prometheus.Gauge
	kinds     map[string]bool // that have a series
}

// maxKinds bounds the series of findings: there are fewer signals.
const maxKinds = 64

func (m *Metrics) newDetection() {
	m.detection = detection{
		lag:       prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "anechoic", Name: "watch_lag_seconds", Help: "How old the newest fact is that detection has seen, while it has not seen all. Alert above 60."}),
		events:    m.counter("watch_facts_total", "Facts of the ledger that detection has read."),
		skipped:   m.counter("watch_skipped_total", "Facts that detection could not read. Alert above 0: anechoic log verify."),
		found:     m.counters("findings_total", "Findings of detection that began, by kind.", "kind"),
		campaigns: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "anechoic", Name: "campaigns_open", Help: "Campaigns that have not ended. Alert above 0."}),
		kinds:     map[string]bool{},
	}
	m.registry.MustRegister(m.detection.lag, m.detection.campaigns)
	m.detection.found.WithLabelValues(Other)
}

// Watched counts facts that detection read, and how far it is behind.
func (m *Metrics) Watched(facts int, lag time.Duration) {
	m.detection.events.Add(float64(facts))
	m.detection.lag.Set(lag.Seconds())
}

// WatchSkipped counts a fact that detection could not read.
func (m *Metrics) WatchSkipped() { m.detection.skipped.Inc() }

// Found counts a finding that began. One goroutine calls it.
func (m *Metrics) Found(kind string) {
	if !m.detection.kinds[kind] && len(m.detection.kinds) >= maxKinds {
		kind = Other
	}
	m.detection.kinds[kind] = true
	m.detection.found.WithLabelValues(kind).Inc()
}

// CampaignsOpen is how many campaigns have not ended.
func (m *Metrics) CampaignsOpen(n int) { m.detection.campaigns.Set(float64(n)) }

// responsesCollector counts what is in force, by step.
type responsesCollector struct {
	inForce func() map[response.Step]int
}

var responsesInForce = prometheus.NewDesc("anechoic_responses_in_force", "Steps against findings that are in force, by step. Alert above 0 for suspend and kill.", []string{"step"}, nil)

// Describe: see prometheus.Collector.
func (c responsesCollector) Describe(to chan<- *prometheus.Desc) { to <- responsesInForce }

// Collect: see prometheus.Collector.
func (c responsesCollector) Collect(to chan<- prometheus.Metric) {
	counts := c.inForce()
	for _, s := range []response.Step{response.Throttle, response.Hold, response.Suspend, response.Kill} {
		to <- prometheus.MustNewConstMetric(responsesInForce, prometheus.GaugeValue, float64(counts[s]), s.String())
	}
}
