package metrics

import (
	"cmp"
	"iter"
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

// Waiting is what is in custody for one site or of one organisation.
type Waiting struct {
	Name      string
	Queued    int // recipients
	Suspended int // of those
	Leased    int
	Held      int
	Oldest    time.Time // earliest due of those queued; zero: none is
}

func (w *Waiting) all() int { return w.Queued + w.Leased + w.Held }

func (w *Waiting) add(of Waiting) {
	w.Queued += of.Queued
	w.Suspended += of.Suspended
	w.Leased += of.Leased
	w.Held += of.Held
	w.Oldest = custody.Earliest(w.Oldest, of.Oldest)
}

// maxWaits bounds how many names Waits keeps apart: a million domains of which no site
// is known have a million names.
const maxWaits = 16 << 10

// Waits sums shares by a name, in bounded room: of very many names those with least are
// counted together, as Other. The zero value is ready.
type Waits struct {
	named  map[string]*Waiting
	others Waiting
}

// Add counts a share under a name.
func (w *Waits) Add(name string, s custody.Share) {
	of := Waiting{Name: name, Queued: s.Queued, Suspended: s.Suspended, Leased: s.Leased, Held: s.Held, Oldest: s.Oldest}
	if known := w.named[name]; known != nil {
		known.add(of)
		return
	}
	if w.named == nil {
		w.named = map[string]*Waiting{}
	}
	if w.named[name] = &of; len(w.named) > maxWaits {
		for _, least := range w.sorted()[maxWaits/2:] {
			w.others.add(least)
			delete(w.named, least.Name)
		}
	}
}

// List gives those with most first, and what of all others there is.
func (w *Waits) List(most int) (list []Waiting, others Waiting) {
	list, others = w.sorted(), w.others
	others.Name = Other
	if len(list) > most {
		for _, one := range list[most:] {
			others.add(one)
		}
		list = list[:most]
	}
	return list, others
}

func (w *Waits) sorted() []Waiting {
	list := make([]Waiting, 0, len(w.named))
	for _, one := range w.named {
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Waiting) int { return cmp.Or(cmp.Compare(b.all(), a.all()), cmp.Compare(a.Name, b.Name)) })
	return list
}

// sharesCollector gives what is in custody, by site and organisation: those with
// most, and the others together.
type sharesCollector struct {
	shares iter.Seq[custody.Share]
	site   func(custody.Share) string
}

var (
	siteRecipients = prometheus.NewDesc("anechoic_queue_recipients_by_site", "Recipients in custody, by the site where their domain led lately, or the domain, and by state: queued, leased, held.", []string{"site", "state"}, nil)
	orgRecipients  = prometheus.NewDesc("anechoic_queue_recipients_by_organisation", "Recipients in custody, by organisation and state: queued, leased, held.", []string{"org", "state"}, nil)
)

// Describe: see prometheus.Collector.
func (c sharesCollector) Describe(to chan<- *prometheus.Desc) {
	to <- siteRecipients
	to <- orgRecipients
}

// Collect: see prometheus.Collector.
func (c sharesCollector) Collect(to chan<- prometheus.Metric) {
	var sites, organisations Waits
	for s := range c.shares {
		sites.Add(c.site(s), s)
		organisations.Add(s.Organisation, s)
	}
	sites.send(to, siteRecipients)
	organisations.send(to, orgRecipients)
}

func (w *Waits) send(to chan<- prometheus.Metric, desc *prometheus.Desc) {
	list, others := w.List(MaxRanked)
	for i := range list {
		if list[i].Name == Other { // somebody is called so
			others.add(list[i])
			continue
		}
		list[i].send(to, desc)
	}
	others.send(to, desc)
}

func (w *Waiting) send(to chan<- prometheus.Metric, desc *prometheus.Desc) {
	for _, s := range []struct {
		state custody.State
		count int
	}{{custody.StateQueued, w.Queued}, {custody.StateLeased, w.Leased}, {custody.StateHeld, w.Held}} {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(s.count), w.Name, string(s.state))
	}
}
