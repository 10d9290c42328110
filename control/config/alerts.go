package config

import (
	"crypto/x509"
	"fmt"
	"os"
	"slices"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/watch/alert"
)

// Alerts is whom the relay tells what it sees.
type Alerts struct {
	Contact          mail.Address // the operator's; zero: nobody is mailed
	Summary          string       // one of the values below
	LoopbackWebhooks bool         // webhooks may lead to this machine: for tests
	Webhooks         []AlertWebhook
	Syslog           []AlertSyslog
}

// The values of Alerts.Summary.
const (
	SummaryWeekly = "weekly" // where something happened
	SummaryAlways = "always"
	SummaryOff    = "off"
)

// AlertWebhook is one of the operator's, which are told of every organisation.
type AlertWebhook struct {
	ID          string
	URL         string
	SecretFiles []string
	Events      []string
}

// AlertSyslog is a syslog server.
type AlertSyslog struct {
	Server string // udp:, tcp:, tls: or unix:
	Format string
	CAFile string // of tls; empty: whom the system trusts
}

type alertsTable struct {
	Contact          string              `toml:"contact"`
	Summary          string              `toml:"summary"`
	LoopbackWebhooks bool                `toml:"loopback_webhooks"`
	Webhooks         []alertWebhookTable `toml:"webhook"`
	Syslog           []alertSyslogTable  `toml:"syslog"`
}

type alertWebhookTable struct {
	ID          string   `toml:"id"`
	URL         string   `toml:"url"`
	SecretFiles []string `toml:"secret_files"`
	Events      []string `toml:"events"`
}

type alertSyslogTable struct {
	Server string `toml:"server"`
	Format string `toml:"format"`
	CAFile string `toml:"ca_file"`
}

// syslogFormats are how lines are written.
var syslogFormats = []string{string(alert.RFC5424), string(alert.CEF)}

// maxAlertTargets bounds the operator's webhooks, and syslog servers.
const maxAlertTargets = 10

func (c *checker) alerts(t *alertsTable) Alerts {
	a := Alerts{Contact: c.address("alerts.contact", t.Contact), Summary: c.choice("alerts.summary", t.Summary, SummaryWeekly, SummaryAlways, SummaryOff), LoopbackWebhooks: t.LoopbackWebhooks}
	if len(t.Webhooks) > maxAlertTargets || len(t.Syslog) > maxAlertTargets {
		c.refuse("alerts", "let one of them tell the others", "more than %d webhooks or syslog servers", maxAlertTargets)
	}
	seen := map[string]bool{}
	for i, w := range t.Webhooks {
		at := element("alerts.webhook", i)
		if _, err := mail.ParseDomain(w.ID); err != nil || seen[w.ID] {
			c.refuse(at+".id", "a name of its own: a-z, 0-9 and -", "%q cannot name a webhook", w.ID)
		}
		seen[w.ID] = true
		made := AlertWebhook{ID: w.ID, URL: w.URL, Events: w.Events}
		for _, file := range w.SecretFiles {
			made.SecretFiles = append(made.SecretFiles, c.path(file))
		}
		c.problems = append(c.problems, webhookProblems(at, w.URL, made.SecretFiles, w.Events, t.LoopbackWebhooks)...)
		if n := len(w.SecretFiles); n < 1 || n > 2 {
			c.refuse(at+".secret_files", `secret_files = ["siem.secret"]; two while they are exchanged`, "%d secrets of a webhook", n)
		}
		a.Webhooks = append(a.Webhooks, made)
	}
	for i, s := range t.Syslog {
		a.Syslog = append(a.Syslog, c.syslog(element("alerts.syslog", i), s))
	}
	return a
}

func (c *checker) syslog(at string, t alertSyslogTable) AlertSyslog {
	if t.Format == "" {
		t.Format = string(alert.RFC5424)
	}
	target, err := alert.ParseTarget(t.Server)
	if err != nil {
		c.refuse(at+".server", `"udp:127.0.0.1:514", "tcp:host:601", "tls:host:6514" or "unix:/dev/log"`, "%v", err)
	}
	s := AlertSyslog{Server: t.Server, Format: c.choice(at+".format", t.Format, syslogFormats...), CAFile: c.path(t.CAFile)}
	if t.CAFile != "" && target.Network != "tls" {
		c.refuse(at+".ca_file", "take it out, or write tls:", "only TLS has certificates")
	} else if _, err := s.roots(); err != nil {
		c.refuse(at+".ca_file", "a PEM file of certificates, relative to this file", "%v", err)
	}
	return s
}

// roots are whom a server's certificate must come from; nil: whom the system trusts.
func (s AlertSyslog) roots() (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", s.CAFile)
	}
	return pool, nil
}

// Targets are the syslog servers, as watch/alert wants them.
func (a Alerts) Targets() (targets []alert.Target, err error) {
	for _, s := range a.Syslog {
		t, err := alert.ParseTarget(s.Server)
		if err == nil {
			t.Format = alert.Format(s.Format)
			t.Roots, err = s.roots()
		}
		if err != nil {
			return nil, fmt.Errorf("alerts.syslog: %w", err)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// webhookProblems checks what a webhook is called with.
func webhookProblems(at, url string, secretFiles, events []string, loopback bool) (problems []org.Problem) {
	if err := alert.CheckURL(url, loopback); err != nil {
		problems = append(problems, org.Problem{Where: at + ".url", Message: "the URL cannot be used: " + err.Error(), Hint: `"https://siem.acme.example/hook"`})
	}
	for i, file := range secretFiles {
		if _, err := alert.ReadSecret(file); err != nil {
			problems = append(problems, org.Problem{Where: element(at+".secret_files", i), Message: err.Error(), Hint: "a file with whsec_ and 24 to 64 random octets in base64: (printf whsec_; openssl rand -base64 32) > FILE"})
		}
	}
	for i, e := range events {
		if !slices.Contains(alert.EventTypes(), alert.EventType(e)) {
			problems = append(problems, org.Problem{Where: element(at+".events", i), Message: fmt.Sprintf("%q is no event", e), Hint: fmt.Sprint(alert.EventTypes())})
		}
	}
	return problems
}

// webhooks checks the webhooks of the registry's organisations.
func (c Config) webhooks(reg *org.Registry, dir *org.Directory) (problems []org.Problem) {
	for i := range reg.Organisations {
		e := &reg.Organisations[i]
		if len(e.Webhooks) == 0 || dir == nil {
			continue
		}
		o, ok := dir.Organisation(org.ID(e.ID))
		if !ok {
			continue
		}
		for j, w := range o.Webhooks {
			problems = append(problems, webhookProblems(element(element("organisation", i)+".webhook", j), w.URL, w.SecretFiles, w.Events, c.Alerts.LoopbackWebhooks)...)
		}
	}
	return problems
}

// table is how it would be written.
func (a Alerts) table() alertsTable {
	t := alertsTable{Contact: a.Contact.String(), Summary: a.Summary, LoopbackWebhooks: a.LoopbackWebhooks}
	for _, w := range a.Webhooks {
		e := alertWebhookTable{ID: w.ID, URL: w.URL, Events: list(w.Events)}
		for _, file := range w.SecretFiles {
			e.SecretFiles = append(e.SecretFiles, absolute(file))
		}
		t.Webhooks = append(t.Webhooks, e)
	}
	for _, s := range a.Syslog {
		t.Syslog = append(t.Syslog, alertSyslogTable{Server: s.Server, Format: s.Format, CAFile: absolute(s.CAFile)})
	}
	return t
}
