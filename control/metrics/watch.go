package metrics

import (
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anechoic/relay/custody"
	"anechoic/relay/screen"
	"anechoic/watch/alert"
	"anechoic/watch/response"
)

// Gauges is what is asked at each scrape. Nil functions are left out.
type Gauges struct {
	Queue      func() custody.Depth
	Shares     iter.Seq[custody.Share]    // of the queue; with Site
	Site       func(custody.Share) string // where a share leads
	Generation func() uint64              // of the Directory in force
	Findings   func() int                 // open risks
	Listed     func() int                 // domains here whose SPF lists addresses that mail of others leaves from
	Ready      func() bool
	Scanners   func(now time.Time) []screen.State
	Detained   func() []custody.DetainedShare
	Alerts     func() alert.Counts
	Faults     func() uint64 // sessions and workers that ended in a fault of the program
	Responses  func() map[response.Step]int
}

// Watch adds gauges. It is called once.
func (m *Metrics) Watch(g Gauges) {
	if g.Queue != nil {
		m.registry.MustRegister(&queueCollector{depth: g.Queue})
	}
	if g.Shares != nil {
		m.registry.MustRegister(sharesCollector{g.Shares, g.Site})
	}
	if g.Generation != nil {
		m.gauge("directory_generation", "Generation of the Directory in force; each reload has a higher one.", func() float64 { return float64(g.Generation()) })
	}
	if g.Findings != nil {
		m.gauge("findings", "Risks in the registry that load but should end. Alert above 0.", func() float64 { return float64(g.Findings()) })
	}
	if g.Listed != nil {
		m.gauge("egress_in_spf_domains", "Domains of organisations whose SPF passes for addresses that inbound or disowned mail leaves from. Alert above 0.", func() float64 { return float64(g.Listed()) })
	}
	if g.Faults != nil {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "anechoic", Name: "faults_total",
			Help: "Sessions and workers that ended in a fault of the program. Alert above 0; the log has the cause."}, func() float64 { return float64(g.Faults()) }))
	}
	if g.Scanners != nil {
		m.registry.MustRegister(scannersCollector{g.Scanners})
	}
	if g.Responses != nil {
		m.registry.MustRegister(responsesCollector{g.Responses})
	}
	if g.Detained != nil {
		m.registry.MustRegister(detainedCollector{g.Detained})
	}
	if g.Alerts != nil {
		m.registry.MustRegister(alertCollector{g.Alerts})
	}
	if g.Ready != nil {
		m.gauge("ready", "1 while /readyz answers 200.", func() float64 { return oneIf(g.Ready()) })
	}
}

func (m *Metrics) gauge(name, help string, ask func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "anechoic", Name: name, Help: help}, ask))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// queueCollector asks the queue once a scrape, so that its numbers agree.
type queueCollector struct {
	depth func() custody.Depth
}

var (
	queueMessages   = prometheus.NewDesc("anechoic_queue_messages", "Messages in custody.", nil, nil)
	queueRecipients = prometheus.NewDesc("anechoic_queue_recipients", "Recipients in custody, by state: queued, leased, held.", []string{"state"}, nil)
	queueOldest     = prometheus.NewDesc("anechoic_queue_oldest_age_seconds", "How long the recipient that is due longest has been due; 0 while nothing is.", nil, nil)
)

// Describe: see prometheus.Collector.
func (c *queueCollector) Describe(to chan<- *prometheus.Desc) {
	to <- queueMessages
	to <- queueRecipients
	to <- queueOldest
}

// Collect: see prometheus.Collector.
func (c *queueCollector) Collect(to chan<- prometheus.Metric) {
	d := c.depth()
	to <- prometheus.MustNewConstMetric(queueMessages, prometheus.GaugeValue, float64(d.Messages))
	for _, s := range []struct {
		state custody.State
		count int
	}{{custody.StateQueued, d.Queued}, {custody.StateLeased, d.Leased}, {custody.StateHeld, d.Held}} {
		to <- prometheus.MustNewConstMetric(queueRecipients, prometheus.GaugeValue, float64(s.count), string(s.state))
	}
	to <- prometheus.MustNewConstMetric(queueOldest, prometheus.GaugeValue, Age(d.Oldest, time.Now()).Seconds())
}

// Age is how long ago something was due; what is not due yet, or nothing, has
// no age.
func Age(due, now time.Time) time.Duration {
	if due.IsZero() || due.After(now) {
		return 0
	}
	return now.Sub(due)
}
