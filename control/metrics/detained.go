package metrics

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// detainedCollector asks once a scrape what waits for a person.
type detainedCollector struct {
	shares func() []custody.DetainedShare
}

var detainedMessages = prometheus.NewDesc("anechoic_detained_messages", "Messages that wait for a person, by organisation and reason. Organisations with few are counted together as other.", []string{"org", "reason"}, nil)

// Describe: see prometheus.Collector.
func (c detainedCollector) Describe(to chan<- *prometheus.Desc) { to <- detainedMessages }

// Collect: see prometheus.Collector.
func (c detainedCollector) Collect(to chan<- prometheus.Metric) {
	for _, s := range largestShares(c.shares()) {
		to <- prometheus.MustNewConstMetric(detainedMessages, prometheus.GaugeValue, float64(s.Messages), string(s.Organisation), string(s.Reason))
	}
}

// largestShares gives the shares of the organisations with most, and those of all others
// under one name: of a million organisations most would be noise.
func largestShares(shares []custody.DetainedShare) []custody.DetainedShare {
	total := map[string]int{}
	for _, s := range shares {
		total[string(s.Organisation)] += s.Messages
	}
	names := make([]string, 0, len(total))
	for name := range total {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(total[b]-total[a], cmp.Compare(a, b)) })
	named := map[string]bool{}
	for _, name := range names[:min(len(names), MaxRanked)] {
		named[name] = name != Other
	}
	summed := map[custody.DetainedShare]int{}
	for _, s := range shares {
		n := s.Messages
		if s.Messages, s.Reason = 0, mail.Reason(reasonLabel(s.Reason)); !named[string(s.Organisation)] {
			s.Organisation = Other
		}
		summed[s] += n
	}
	list := make([]custody.DetainedShare, 0, len(summed))
	for s, n := range summed {
		s.Messages = n
		list = append(list, s)
	}
	return list
}
