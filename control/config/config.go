// Package config reads a node's configuration, relay.toml, and the registry it
// names.
//
// Load reads one file, Reload both, as a server does at its start and on SIGHUP.
// Either tells every problem with its place and what to do; while there is one,
// nothing of the result may be used, and a running server keeps what it has.
// What the file does not say has a default (see Default); what this version
// cannot do yet is a problem rather than something silently left out.
//
// There are no secrets in relay.toml: keys and certificates are named by file.
// So Show can print all of it.
package config

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/org/document"
)

// Config is a node's configuration, checked. Paths are relative to the folder
// the file was found in, or absolute.
type Config struct {
	Hostname mail.Domain // in the banner, Received and authserv-id
	DataDir  string
	Registry string

	Postmaster mail.Address // who reads mail to the relay's own postmaster; zero: nobody

	Storage    Storage
	SMTP       SMTP
	Limits     Limits
	DNS        DNS
	Providers  Providers
	Delivery   Delivery
	Inbound    Inbound
	Disowned   Disowned
	Screening  Screening
	Quarantine Quarantine
	Response   Response
	Console    string // host:port; empty: none
	Operations string // host:port; empty: none
	TLSReports TLSReports
	Alerts     Alerts
	Tracking   Tracking
	Log        Log
}

// Storage is how the data directory is kept.
type Storage struct {
	Reserve int64 // octets that stay free on its disk: below them no new mail is taken
}

// SMTP is how mail comes in.
type SMTP struct {
	Listen            []string // STARTTLS offered
	ListenTLS         []string // implicit TLS
	ListenSubmission  []string // AUTH or a certificate source required
	ListenProxy       []string // a PROXY header required
	ProxyProtocolFrom []netip.Prefix

	TLSCert, TLSKey    string // empty: a self-signed certificate is made
	ClientCertificates string // CertificatesNone or CertificatesRequest

	MaxMessageBytes       int64
	MaxHeaderBytes        int64
	MaxHeaderFields       int
	MaxMIMEDepth          int
	MaxHops               int
	MaxRecipients         int
	MaxConnections        int
	MaxConnectionsPerPeer int
}

// The values of SMTP.ClientCertificates.
const (
	CertificatesNone    = "none"
	CertificatesRequest = "request"
)

// Limits is what this node puts off, beside the budgets of sources. Zero of the
// first two is no limit.
type Limits struct {
	RefusedPerClaim     int // refused messages in ten minutes, of one tenant or network of a provider and one claimed organisation
	ReportsPerHour      int // messages with the null sender, of one source
	AuthFailuresPerPeer int // wrong passwords in a quarter of an hour, of one IPv4 address or one IPv6 /64

	Tiers        bool   // sources without limits of their own are bound by tiers of trust
	FirstSources string // where those stand that are in the registry when tiers come into force: FirstTrusted or FirstNew
}

// The values of Limits.FirstSources.
const (
	FirstTrusted = "trusted"
	FirstNew     = "new"
)

// DNS is who is asked.
type DNS struct {
	Servers     []string // host:port each; empty: the system's
	Timeout     time.Duration
	DNSSEC      string // DNSSECAuto, DNSSECTrust or DNSSECOff
	DNSSECProbe string // a signed name by which a validating server is known
}

// The values of DNS.DNSSEC.
const (
	DNSSECAuto  = "auto"  // answers are authentic if every server is on loopback and validates
	DNSSECTrust = "trust" // if every server validates: the way to them is safe
	DNSSECOff   = "off"   // never
)

// Providers is where shared providers' mail may come from.
type Providers struct {
	Microsoft365, Google Provider
}

// Provider is one of them.
type Provider struct {
	Ranges     []netip.Prefix
	Exclude    []netip.Prefix
	ARCDomains []mail.Domain // whose seals are the provider's
	Feed       string        // file with the current ranges; empty: Ranges are all there is
}

// Delivery is how proven mail goes out.
type Delivery struct {
	SmartHost   string         // host:port; empty: by MX
	Bind        []netip.Addr   // empty: the system's choice
	HELO        mail.Domain    // Hostname where the file says nothing
	Pools       []EgressPool   // beside Bind, which is the default pool
	IP          string         // a delivery.Family: which addresses of hosts are used
	Shaping     string         // the operator's shaping file; empty: the built-in one alone
	Private     []netip.Prefix // private networks that MX records may lead to
	TLS         string         // one of the values below
	Domains     []TLSDomain    // what is asked of the hosts of single domains instead
	ExpireAfter time.Duration
	DelayAfter  time.Duration   // after which a sender is told of a delay; past ExpireAfter: never
	RetryAfter  []time.Duration // the last one repeats
	Port        int
}

// The values of Delivery.TLS and TLSDomain.TLS.
const (
	TLSNone          = "none"
	TLSOpportunistic = "opportunistic"
	TLSEncrypted     = "encrypted"
	TLSRequired      = "required"
)

// TLSDomain is what is asked of the hosts of one domain.
type TLSDomain struct {
	Name       mail.Domain
	Subdomains bool
	TLS        string
	Names      []string // a certificate is for one of them; empty: for the host
}

// TLSReports is whether, and as whom, TLS reports are sent (RFC 8460).
type TLSReports struct {
	Enabled      bool
	From         mail.Address // zero: tls-reports@ the host name
	Organization string       // empty: the host name
	Contact      mail.Address // zero: postmaster@ the host name
	Selector     string       // of the key that signs them; empty: they are not signed
	KeyFile      string
}

// Inbound is how mail for the organisations' own servers goes out.
type Inbound struct {
	TrustedSealers []mail.Domain // whose ARC seals may speak for mail that fails DMARC
	Bind           []netip.Addr
}

// Disowned is how mail goes out that must align with no organisation.
type Disowned struct {
	Domain mail.Domain // zero: such mail is held
	Bind   []netip.Addr
}

// Quarantine is how held mail waits for a person.
type Quarantine struct {
	Keep              time.Duration // then it is deleted
	SecondPersonAbove int           // a release of more messages needs a second person; 0: never
}

// Log is what the program writes about itself.
type Log struct {
	Level  slog.Level
	Format string // FormatJSON or FormatText
}

// The values of Log.Format.
const (
	FormatJSON = "json"
	FormatText = "text"
)

// Default is the configuration of a file that says nothing but its host name,
// which is left empty here.
func Default() Config {
	f := defaults()
	f.defaultLists()
	c := checker{}
	return c.config(&f)
}

// maxFile bounds relay.toml: a thousand times the complete example.
const maxFile = 8 << 20

// Load reads and checks a configuration. With a problem the Config must not be
// used.
func Load(path string) (Config, []org.Problem) {
	data, problems := read(path)
	if len(problems) > 0 {
		return Config{}, problems
	}
	return Parse(path, data)
}

func read(path string) ([]byte, []org.Problem) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		return nil, []org.Problem{{File: path, Message: "the configuration is larger than 8 MiB", Hint: "name the right file"}}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, []org.Problem{{File: path, Message: "the configuration cannot be read: " + err.Error(), Hint: unreadableHint(err)}}
	}
	return data, nil
}

// Parse is Load for a text; path says what the file's relative paths start from.
func Parse(path string, data []byte) (Config, []org.Problem) {
	c, _, problems := parse(path, data)
	return c, problems
}

func parse(path string, data []byte) (Config, *document.Document, []org.Problem) {
	f := defaults()
	text, problems := document.Decode(path, data, &f)
	f.defaultLists()
	c := checker{folder: filepath.Dir(path)}
	config := c.config(&f)
	c.required(&f)
	if !text.Broken() {
		problems = append(problems, text.Place(c.problems)...)
	}
	_, shaping := config.Shaping()
	problems = append(problems, shaping...)
	document.Sort(problems)
	return config, text, problems
}

// Store is the folder of the engine in the data directory.
func (c Config) Store() string { return filepath.Join(c.DataDir, "store") }

// OrgProviders is what the Directory wants to know of providers.
func (c Config) OrgProviders() org.Providers {
	return org.Providers{
		Microsoft365: org.Provider{Ranges: c.Providers.Microsoft365.Ranges, Exclude: c.Providers.Microsoft365.Exclude, ARCDomains: c.Providers.Microsoft365.ARCDomains},
		Google:       org.Provider{Ranges: c.Providers.Google.Ranges, Exclude: c.Providers.Google.Exclude, ARCDomains: c.Providers.Google.ARCDomains},
	}
}

// disownedApart refuses a forwarding domain that anything of an organisation's would
// align with, and forwarded mail that would leave from the addresses of the ordinary
// egress, which are in SPF records of organisations here (ARCHITECTURE 2, third
// invariant).
func (c Config) disownedApart(dir *org.Directory) (problems []org.Problem) {
	domain := c.Disowned.Domain
	if domain.IsZero() {
		return nil
	}
	if whose, ok := ofOrganisation(dir, domain); ok {
		problems = append(problems, org.Problem{Where: "disowned.domain",
			Message: domain.String() + " is " + whose, Hint: "forwarded mail needs a domain of the relay's own, that is in no organisation's name nor above or below one"})
	}
	inside := slices.ContainsFunc(c.DNS.Servers, isLoopback)
	if len(c.Disowned.Bind) == 0 && !inside {
		problems = append(problems, org.Problem{Where: "disowned.bind",
			Message: "forwarded mail has no egress address of its own", Hint: "set disowned.bind to addresses that are in no organisation's SPF record"})
	}
	return problems
}

// ofOrganisation says what of an organisation's a name is, or is above or below of.
func ofOrganisation(dir *org.Directory, name mail.Domain) (whose string, ok bool) {
	if o, ok := dir.ReturnPath(name); ok {
		return "the return path of " + string(o.ID), true
	}
	if in, ok := dir.InboundFor(name); ok {
		return "an inbound domain of " + string(in.Organisation), true
	}
	if s, ok := dir.ProviderDomain(name); ok {
		return "a provider domain of " + string(s.Organisation), true
	}
	for d := range dir.Domains() {
		if name.Within(d.Name) || d.Name.Within(name) {
			return "a domain of " + string(d.Organisation) + ", or above or below it (" + d.Name.String() + ")", true
		}
	}
	return "", false
}

// inboundEgress refuses an empty inbound.bind where it would matter: inbound mail
// would leave from the addresses of the ordinary egress, which are in SPF records
// of organisations here (ARCHITECTURE 2, third invariant).
func (c Config) inboundEgress(dir *org.Directory) []org.Problem {
	if len(c.Inbound.Bind) > 0 {
		return nil
	}
	for o := range dir.Organisations() {
		if len(o.Sources) == 0 {
			continue
		}
		for _, in := range o.Inbound {
			if !isLoopback(in.DeliverTo) {
				return []org.Problem{{Where: "inbound.bind",
					Message: "organisation " + string(o.ID) + " sends and receives here, and inbound mail for " + in.DeliverTo + " has no egress address of its own",
					Hint:    "set inbound.bind to addresses that are in no organisation's SPF record"}}
			}
		}
	}
	return nil
}

// findings tells of a certificate that is not valid now, and of sources that the
// node's configuration leaves without effect.
func (c Config) findings(dir *org.Directory) (findings []org.Finding) {
	findings = c.Tracking.untracked(dir)
	if pair, err := tls.LoadX509KeyPair(c.SMTP.TLSCert, c.SMTP.TLSKey); err == nil {
		if text := outOfTime(pair, time.Now()); text != "" {
			findings = append(findings, org.Finding{Text: text + ": clients that check it do not send here; put a new one into smtp.tls_cert and run: anechoic apply"})
		}
	}
	if c.SMTP.ClientCertificates != CertificatesNone {
		return findings
	}
	for o := range dir.Organisations() {
		for _, s := range o.Sources {
			if s.Kind == org.Certificate {
				findings = append(findings, org.Finding{Organisation: o.ID, Source: s.ID, Text: `smtp.client_certificates is "none": none of its mail can be proven`})
			}
		}
	}
	return findings
}
