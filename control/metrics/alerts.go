package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"anechoic/watch/alert"
)

// alertCollector asks once a scrape what was told to whom.
type alertCollector struct {
	counts func() alert.Counts
}

var (
	alertsTotal     = prometheus.NewDesc("anechoic_alerts_total", "Alerts told, by severity: openings, doublings and ends of incidents.", []string{"severity"}, nil)
	alertsOpen      = prometheus.NewDesc("anechoic_alerts_open", "Incidents that are not over.", nil, nil)
	alertMails      = prometheus.NewDesc("anechoic_alert_mails_total", "Mails about alerts taken into custody.", nil, nil)
	webhookRequests = prometheus.NewDesc("anechoic_webhook_requests_total", "Webhook requests that are over, by result.", []string{"result"}, nil)
	webhookFailures = prometheus.NewDesc("anechoic_webhook_call_failures_total", "Calls of webhooks that were not answered with 2yz.", nil, nil)
	webhookWaiting  = prometheus.NewDesc("anechoic_webhook_requests_waiting", "Webhook requests that wait for an attempt.", nil, nil)
	syslogLines     = prometheus.NewDesc("anechoic_alert_syslog_lines_total", "Alerts written to syslog servers.", nil, nil)
	syslogDropped   = prometheus.NewDesc("anechoic_alert_syslog_dropped_total", "Alerts that no syslog server took in time. Alert when it grows.", nil, nil)
)

// Describe: see prometheus.Collector.
func (c alertCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{alertsTotal, alertsOpen, alertMails, webhookRequests, webhookFailures, webhookWaiting, syslogLines, syslogDropped} {
		to <- d
	}
}

// Collect: see prometheus.Collector.
func (c alertCollector) Collect(to chan<- prometheus.Metric) {
	n := c.counts()
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, severity := range []string{alert.Info, alert.Warning, alert.Critical} {
		counter(alertsTotal, n.Told[severity], severity)
	}
	for _, state := range []alert.State{alert.Delivered, alert.Failed, alert.Dropped} {
		counter(webhookRequests, n.Requests[state], string(state))
	}
	counter(alertMails, n.Mails)
	counter(webhookFailures, n.Calls)
	counter(syslogLines, n.SyslogLines)
	counter(syslogDropped, n.SyslogDropped)
	to <- prometheus.MustNewConstMetric(alertsOpen, prometheus.GaugeValue, float64(n.Open))
	to <- prometheus.MustNewConstMetric(webhookWaiting, prometheus.GaugeValue, float64(n.Waiting))
}
