package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anechoic/relay/screen"
)

// scannersCollector asks the screen once a scrape. Scanners are named by the
// configuration alone, so their number is bounded.
type scannersCollector struct {
	states func(now time.Time) []screen.State
}

var (
	scannerAnswers = prometheus.NewDesc("anechoic_scanner_answers_total", "What scanners said about messages, by scanner and action; lost is no answer.", []string{"scanner", "action"}, nil)
	scannerResting = prometheus.NewDesc("anechoic_scanner_resting", "1 while a scanner is left alone after losses in a row, and what it should look at is put off or held. Alert above 0.", []string{"scanner"}, nil)
)

// Describe: see prometheus.Collector.
func (c scannersCollector) Describe(to chan<- *prometheus.Desc) {
	to <- scannerAnswers
	to <- scannerResting
}

// Collect: see prometheus.Collector.
func (c scannersCollector) Collect(to chan<- prometheus.Metric) {
	for _, s := range c.states(time.Now()) {
		for _, a := range screen.Actions() {
			to <- prometheus.MustNewConstMetric(scannerAnswers, prometheus.CounterValue, float64(s.Counts[a]), s.Scanner, a.String())
		}
		to <- prometheus.MustNewConstMetric(scannerResting, prometheus.GaugeValue, oneIf(s.Circuit != screen.Closed), s.Scanner)
	}
}
