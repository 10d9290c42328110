package metrics

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anechoic/relay/custody"
)

// trafficCollector gives what flowed, by site and organisation.
type trafficCollector struct{ m *Metrics }

// flowDescs are the series of one label.
type flowDescs struct{ recipients, attempt, delay *prometheus.Desc }

func newFlowDescs(prefix, label, what string) flowDescs {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, append([]string{label}, more...), nil)
	}
	return flowDescs{
		recipients: desc("_recipients_total", "Recipients delivered, deferred and bounced, by "+what+".", "event"),
		attempt:    desc("_attempt_seconds", "Time of one delivery attempt, by "+what+"."),
		delay:      desc("_delay_seconds", "Time from custody to delivery, a recipient, by "+what+"."),
	}
}

var (
	siteDescs = newFlowDescs("anechoic_site", "site", "site")
	orgDescs  = newFlowDescs("anechoic_organisation", "org", "organisation")
)

// Describe: see prometheus.Collector.
func (c trafficCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []flowDescs{siteDescs, orgDescs} {
		to <- d.recipients
		to <- d.attempt
		to <- d.delay
	}
}

// Collect: see prometheus.Collector.
func (c trafficCollector) Collect(to chan<- prometheus.Metric) {
	t := c.m.Traffic()
	for _, r := range t.Sites {
		siteDescs.send(to, r)
	}
	for _, r := range t.Organisations {
		orgDescs.send(to, r)
	}
}

func (d flowDescs) send(to chan<- prometheus.Metric, r Ranked) {
	counter := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, append([]string{r.Name}, labels...)...)
	}
	counter(d.recipients, float64(r.Delivered), "delivered")
	counter(d.recipients, float64(r.Deferred), "deferred")
	counter(d.recipients, float64(r.Bounced), "bounced")
	to <- prometheus.MustNewConstSummary(d.attempt, r.Attempts, r.Busy.Seconds(), nil, r.Name)
	to <- prometheus.MustNewConstSummary(d.delay, r.Delivered, r.Waited.Seconds(), nil, r.Name)
}

// Waiting is what is queued for one site or of one organisation.
type Waiting struct {
	Name      string
	Queued    int // recipients
	Suspended int // of those
	Oldest    time.Time
}

// Wait sums shares by a name, those with most first; what has no name is not counted.
func Wait(shares []custody.Share, name func(custody.Share) string) []Waiting {
	var list []Waiting
	at := map[string]int{}
	for _, s := range shares {
		key := name(s)
		i, known := at[key]
		if !known {
			i = len(list)
			at[key] = i
			list = append(list, Waiting{Name: key, Oldest: s.Oldest})
		}
		w := &list[i]
		w.Queued += s.Queued
		w.Suspended += s.Suspended
		if s.Oldest.Before(w.Oldest) {
			w.Oldest = s.Oldest
		}
	}
	slices.SortFunc(list, func(a, b Waiting) int {
		return cmp.Or(cmp.Compare(b.Queued, a.Queued), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// OrganisationOf is the name of Wait for views by organisation.
func OrganisationOf(s custody.Share) string { return s.Organisation }

// sharesCollector gives what waits, by site and organisation: those with most, and
// the others together.
type sharesCollector struct {
	shares func() []custody.Share
	site   func(custody.Share) string
}

var (
	siteQueued = prometheus.NewDesc("anechoic_queue_recipients_by_site", "Recipients queued, by the site where their domain led lately, or the domain.", []string{"site"}, nil)
	orgQueued  = prometheus.NewDesc("anechoic_queue_recipients_by_organisation", "Recipients queued, by organisation.", []string{"org"}, nil)
)

// Describe: see prometheus.Collector.
func (c sharesCollector) Describe(to chan<- *prometheus.Desc) {
	to <- siteQueued
	to <- orgQueued
}

// Collect: see prometheus.Collector.
func (c sharesCollector) Collect(to chan<- prometheus.Metric) {
	shares := c.shares()
	most(to, siteQueued, Wait(shares, c.site))
	most(to, orgQueued, Wait(shares, OrganisationOf))
}

func most(to chan<- prometheus.Metric, desc *prometheus.Desc, list []Waiting) {
	others := 0
	for i, w := range list {
		if i >= MaxRanked || w.Name == Other {
			others += w.Queued
			continue
		}
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(w.Queued), w.Name)
	}
	to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(others), Other)
}
