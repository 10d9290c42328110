package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Show writes the whole configuration as it counts, defaults included, as a file
// that Load reads to the same Config. It holds no secret, because none can stand
// in relay.toml.
func (c Config) Show() string {
	text, err := toml.Marshal(c.file())
	if err != nil {
		panic(err) // texts, numbers and lists of them can always be written
	}
	return string(text)
}

// file is the configuration as it would be written.
func (c Config) file() file {
	return file{
		Hostname: c.Hostname.String(),
		DataDir:  absolute(c.DataDir),
		Registry: absolute(c.Registry),

		Postmaster: c.Postmaster.String(),

		Storage: storageTable{Reserve: size(c.Storage.Reserve)},
		SMTP: smtpTable{
			Listen:                list(c.SMTP.Listen),
			ListenTLS:             list(c.SMTP.ListenTLS),
			ListenSubmission:      list(c.SMTP.ListenSubmission),
			ListenProxy:           list(c.SMTP.ListenProxy),
			ProxyProtocolFrom:     texts(c.SMTP.ProxyProtocolFrom),
			TLSCert:               absolute(c.SMTP.TLSCert),
			TLSKey:                absolute(c.SMTP.TLSKey),
			ClientCertificates:    c.SMTP.ClientCertificates,
			MaxMessageBytes:       size(c.SMTP.MaxMessageBytes),
			MaxHeaderBytes:        size(c.SMTP.MaxHeaderBytes),
			MaxHeaderFields:       c.SMTP.MaxHeaderFields,
			MaxMIMEDepth:          c.SMTP.MaxMIMEDepth,
			MaxHops:               c.SMTP.MaxHops,
			MaxRecipients:         c.SMTP.MaxRecipients,
			MaxConnections:        c.SMTP.MaxConnections,
			MaxConnectionsPerPeer: c.SMTP.MaxConnectionsPerPeer,
		},
		Limits:    limitsTable(c.Limits),
		DNS:       dnsTable{Servers: list(c.DNS.Servers), Timeout: span(c.DNS.Timeout), DNSSEC: c.DNS.DNSSEC, DNSSECProbe: c.DNS.DNSSECProbe},
		Providers: providersTable{Microsoft365: c.Providers.Microsoft365.table(), Google: c.Providers.Google.table()},
		Delivery: deliveryTable{
			SmartHost:   c.Delivery.SmartHost,
			Bind:        texts(c.Delivery.Bind),
			HELO:        c.Delivery.HELO.String(),
			TLS:         c.Delivery.TLS,
			Domains:     c.Delivery.tlsTables(),
			ExpireAfter: span(c.Delivery.ExpireAfter),
			DelayAfter:  span(c.Delivery.DelayAfter),
			RetryAfter:  spans(c.Delivery.RetryAfter),
			Port:        c.Delivery.Port,
			IP:          c.Delivery.IP,
			Shaping:     absolute(c.Delivery.Shaping),
			Private:     texts(c.Delivery.Private),
			Egress:      c.Delivery.egressTables(),
		},
		TLSReports: c.TLSReports.table(),
		Inbound:    inboundTable{TrustedSealers: texts(c.Inbound.TrustedSealers), Bind: texts(c.Inbound.Bind)},
		Disowned:   disownedTable{Domain: c.Disowned.Domain.String(), Bind: texts(c.Disowned.Bind)},
		Screening:  c.Screening.table(),
		Quarantine: quarantineTable{Keep: span(c.Quarantine.Keep), SecondPersonAbove: c.Quarantine.SecondPersonAbove},
		Response:   responseTable{Ceiling: c.Response.Ceiling.String(), LearnFor: span(c.Response.LearnFor), RecipientsPerSignature: c.Response.RecipientsPerSignature},
		Console:    listenTable{Listen: c.Console},
		Operations: listenTable{Listen: c.Operations},
		Alerts:     c.Alerts.table(),
		Tracking:   c.Tracking.table(),
		Log:        logTable{Level: strings.ToLower(c.Log.Level.String()), Format: c.Log.Format},
	}
}

func (p Provider) table() providerTable {
	return providerTable{Ranges: texts(p.Ranges), Exclude: texts(p.Exclude), ARCDomains: texts(p.ARCDomains), Feed: absolute(p.Feed)}
}

func absolute(path string) string {
	if path == "" {
		return ""
	}
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path
}

func spans(durations []time.Duration) []string {
	written := make([]string, len(durations))
	for i, d := range durations {
		written[i] = span(d)
	}
	return written
}

// list keeps an empty list an empty list: nil would be left out, and a default
// would take its place.
func list(s []string) []string { return append([]string{}, s...) }

func texts[T fmt.Stringer](values []T) []string {
	written := make([]string, len(values))
	for i, v := range values {
		written[i] = v.String()
	}
	return written
}
