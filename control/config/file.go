package config

import (
	"anechoic/relay/delivery"
	"anechoic/watch/response"
)

// file is relay.toml as it is written: every value as its text, nothing checked.
type file struct {
	Hostname string `toml:"hostname"`
	DataDir  string `toml:"data_dir"`
	Registry string `toml:"registry"`

	Postmaster string `toml:"postmaster"`

	Storage    storageTable    `toml:"storage"`
	SMTP       smtpTable       `toml:"smtp"`
	Limits     limitsTable     `toml:"limits"`
	DNS        dnsTable        `toml:"dns"`
	Providers  providersTable  `toml:"providers"`
	Delivery   deliveryTable   `toml:"delivery"`
	Inbound    inboundTable    `toml:"inbound"`
	Disowned   disownedTable   `toml:"disowned"`
	Screening  screeningTable  `toml:"screening"`
	Quarantine quarantineTable `toml:"quarantine"`
	Response   responseTable   `toml:"response"`
	Console    listenTable     `toml:"console"`
	Operations listenTable     `toml:"operations"`
	TLSReports tlsReportsTable `toml:"tls_reports"`
	Alerts     alertsTable     `toml:"alerts"`
	Tracking   trackingTable   `toml:"tracking"`
	Log        logTable        `toml:"log"`
}

type storageTable struct {
	Reserve string `toml:"reserve"`
}

type smtpTable struct {
	Listen                []string `toml:"listen"`
	ListenTLS             []string `toml:"listen_tls"`
	ListenSubmission      []string `toml:"listen_submission"`
	ListenProxy           []string `toml:"listen_proxy"`
	ProxyProtocolFrom     []string `toml:"proxy_protocol_from"`
	TLSCert               string   `toml:"tls_cert"`
	TLSKey                string   `toml:"tls_key"`
	ClientCertificates    string   `toml:"client_certificates"`
	MaxMessageBytes       string   `toml:"max_message_bytes"`
	MaxHeaderBytes        string   `toml:"max_header_bytes"`
	MaxHeaderFields       int      `toml:"max_header_fields"`
	MaxMIMEDepth          int      `toml:"max_mime_depth"`
	MaxHops               int      `toml:"max_hops"`
	MaxRecipients         int      `toml:"max_recipients"`
	MaxConnections        int      `toml:"max_connections"`
	MaxConnectionsPerPeer int      `toml:"max_connections_per_peer"`
}

type limitsTable struct {
	RefusedPerClaim     int    `toml:"refused_per_claim"`
	ReportsPerHour      int    `toml:"reports_per_hour"`
	AuthFailuresPerPeer int    `toml:"auth_failures_per_peer"`
	Tiers               bool   `toml:"tiers"`
	FirstSources        string `toml:"first_sources"`
}

type dnsTable struct {
	Servers     []string `toml:"servers"`
	Timeout     string   `toml:"timeout"`
	DNSSEC      string   `toml:"dnssec"`
	DNSSECProbe string   `toml:"dnssec_probe"`
}

type providersTable struct {
	Microsoft365 providerTable `toml:"microsoft365"`
	Google       providerTable `toml:"google"`
}

type providerTable struct {
	Ranges     []string `toml:"ranges"`
	Exclude    []string `toml:"exclude"`
	ARCDomains []string `toml:"arc_domains"`
	Feed       string   `toml:"feed"`
}

type deliveryTable struct {
	SmartHost   string           `toml:"smart_host"`
	Bind        []string         `toml:"bind"`
	HELO        string           `toml:"helo"`
	TLS         string           `toml:"tls"`
	ExpireAfter string           `toml:"expire_after"`
	DelayAfter  string           `toml:"delay_notice_after"`
	RetryAfter  []string         `toml:"retry_after"`
	Port        int              `toml:"port"`
	IP          string           `toml:"ip"`
	Shaping     string           `toml:"shaping"`
	Private     []string         `toml:"private_networks"`
	Egress      []egressTable    `toml:"egress"`
	Domains     []tlsDomainTable `toml:"domain"`
}

type tlsDomainTable struct {
	Name       string   `toml:"name"`
	Subdomains bool     `toml:"subdomains"`
	TLS        string   `toml:"tls"`
	Names      []string `toml:"certificate_names"`
}

type tlsReportsTable struct {
	Enabled      bool   `toml:"enabled"`
	From         string `toml:"from"`
	Organization string `toml:"organization"`
	Contact      string `toml:"contact"`
	Selector     string `toml:"dkim_selector"`
	KeyFile      string `toml:"dkim_key_file"`
}

type inboundTable struct {
	TrustedSealers []string `toml:"trusted_sealers"`
	Bind           []string `toml:"bind"`
}

type disownedTable struct {
	Domain string   `toml:"domain"`
	Bind   []string `toml:"bind"`
}

type quarantineTable struct {
	Keep              string `toml:"keep"`
	SecondPersonAbove int    `toml:"second_person_above"`
}

type listenTable struct {
	Listen string `toml:"listen"`
}

type logTable struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// defaults is what counts where a file says nothing. Lists stay out of it, so
// that an empty list in a file can mean none: defaultLists fills them.
func defaults() file {
	return file{
		DataDir: "data",
		Storage: storageTable{Reserve: "256MiB"},
		SMTP: smtpTable{
			ClientCertificates:    CertificatesRequest,
			MaxMessageBytes:       "50MiB",
			MaxHeaderBytes:        "256KiB",
			MaxHeaderFields:       1000,
			MaxMIMEDepth:          100,
			MaxHops:               50,
			MaxRecipients:         1000,
			MaxConnections:        2000,
			MaxConnectionsPerPeer: 200,
		},
		Limits:     limitsTable{RefusedPerClaim: 5000, ReportsPerHour: 100, AuthFailuresPerPeer: 100, Tiers: true, FirstSources: FirstTrusted},
		DNS:        dnsTable{Timeout: "5s", DNSSEC: DNSSECAuto, DNSSECProbe: "."},
		Delivery:   deliveryTable{TLS: TLSOpportunistic, IP: string(delivery.AnyFamily), ExpireAfter: "120h", DelayAfter: "4h", Port: 25},
		Quarantine: quarantineTable{Keep: "720h", SecondPersonAbove: 20},
		Response:   responseTable{Ceiling: response.Kill.String(), LearnFor: "168h", RecipientsPerSignature: 2000},
		Screening:  screeningTable{OnLoss: OnLossDefer, Timeout: "30s"},
		Console:    listenTable{Listen: "127.0.0.1:8025"},
		Operations: listenTable{Listen: "127.0.0.1:8026"},
		Alerts:     alertsTable{Summary: SummaryWeekly},
		Tracking:   trackingTable{Enabled: true, Keep: "2160h", PersonalData: personalData[0]},
		Log:        logTable{Level: "info", Format: FormatJSON},
	}
}

func (f *file) defaultLists() {
	if f.SMTP.Listen == nil {
		f.SMTP.Listen = []string{"127.0.0.1:2525"}
	}
	if f.Delivery.RetryAfter == nil {
		f.Delivery.RetryAfter = []string{"1m", "5m", "15m", "30m", "1h", "2h", "4h"}
	}
}
