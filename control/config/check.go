package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/org/document"
	"anechoic/relay/delivery"
)

// Bounds of what can be configured: below them nothing works, above them a
// message or a peer could take the machine.
const (
	minMessage, maxMessage = 1 << 10, 2 << 30
	minHeader, maxHeader   = 1 << 10, 16 << 20
	minReserve, maxReserve = 64 << 20, 1 << 40
	minTimeout, maxTimeout = 100 * time.Millisecond, time.Minute
	minRetry, maxRetry     = time.Second, 24 * time.Hour
	minExpire, maxExpire   = time.Minute, 30 * 24 * time.Hour
	minKeep, maxKeep       = time.Hour, 366 * 24 * time.Hour
	maxFields, maxDepth    = 100_000, 1000
	maxCount               = 1_000_000
	minAuthFailures        = 10 // as many as one user has: fewer would shut out networks for one user
)

// checker turns texts into values and collects what is wrong.
type checker struct {
	folder   string
	problems []org.Problem
}

func (c *checker) refuse(where, hint, format string, args ...any) {
	c.problems = append(c.problems, org.Problem{Where: where, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

// config checks every table.
func (c *checker) config(f *file) Config {
	config := Config{
		Hostname:   c.domain("hostname", f.Hostname),
		DataDir:    c.path(f.DataDir),
		Registry:   c.path(f.Registry),
		Postmaster: c.postmaster(f.Postmaster),
		Storage:    Storage{Reserve: c.size("storage.reserve", f.Storage.Reserve, minReserve, maxReserve)},
		SMTP:       c.smtp(&f.SMTP),
		Limits:     c.limits(&f.Limits),
		DNS:        c.dns(&f.DNS),
		Delivery:   c.delivery(&f.Delivery),
		TLSReports: c.tlsReports(&f.TLSReports, f.Hostname),
		Inbound:    c.inbound(&f.Inbound),
		Screening:  c.screening(&f.Screening),
		Quarantine: c.quarantine(&f.Quarantine),
		Response:   c.response(&f.Response),
		Console:    c.listenOne("console.listen", f.Console.Listen),
		Operations: c.listenOne("operations.listen", f.Operations.Listen),
		Alerts:     c.alerts(&f.Alerts),
		Tracking:   c.tracking(&f.Tracking),
		Log:        c.log(&f.Log),
	}
	config.Providers.Microsoft365 = c.provider("providers.microsoft365", &f.Providers.Microsoft365)
	config.Providers.Google = c.provider("providers.google", &f.Providers.Google)
	config.Disowned = c.disowned(&f.Disowned)
	if config.Delivery.HELO.IsZero() {
		config.Delivery.HELO = config.Hostname
	}
	c.apart(f)
	c.listeners(f)
	return config
}

// required refuses what has no default.
func (c *checker) required(f *file) {
	if f.Hostname == "" {
		c.refuse("hostname", `the name other servers know this one by, for example "relay.acme.example"`, "no host name")
	}
	if f.DataDir == "" {
		c.refuse("data_dir", "a folder for spool, ledger and keys", "no data folder")
	}
	if f.Registry == "" {
		c.refuse("registry", `registry = "registry.toml"`, "no registry: this version knows organisations by file only")
	}
	c.certificate(&f.SMTP)
}

func (c *checker) smtp(t *smtpTable) SMTP {
	s := SMTP{
		Listen:             list(t.Listen),
		ListenTLS:          list(t.ListenTLS),
		ListenSubmission:   list(t.ListenSubmission),
		ListenProxy:        list(t.ListenProxy),
		ProxyProtocolFrom:  c.prefixes("smtp.proxy_protocol_from", t.ProxyProtocolFrom),
		TLSCert:            c.path(t.TLSCert),
		TLSKey:             c.path(t.TLSKey),
		ClientCertificates: c.choice("smtp.client_certificates", t.ClientCertificates, CertificatesNone, CertificatesRequest),
		MaxMessageBytes:    c.size("smtp.max_message_bytes", t.MaxMessageBytes, minMessage, maxMessage),
		MaxHeaderBytes:     c.size("smtp.max_header_bytes", t.MaxHeaderBytes, minHeader, maxHeader),
		MaxHeaderFields:    c.number("smtp.max_header_fields", t.MaxHeaderFields, 10, maxFields),
		MaxMIMEDepth:       c.number("smtp.max_mime_depth", t.MaxMIMEDepth, 1, maxDepth),
		MaxHops:            c.number("smtp.max_hops", t.MaxHops, 1, maxDepth),
		MaxRecipients:      c.number("smtp.max_recipients", t.MaxRecipients, 1, maxCount),
		MaxConnections:     c.number("smtp.max_connections", t.MaxConnections, 1, maxCount),
	}
	s.MaxConnectionsPerPeer = c.number("smtp.max_connections_per_peer", t.MaxConnectionsPerPeer, 1, maxCount)
	if len(t.ListenProxy) > 0 && len(t.ProxyProtocolFrom) == 0 {
		c.refuse("smtp.proxy_protocol_from", "list the balancers, for example 192.0.2.10/32", "nobody may connect to listen_proxy")
	}
	return s
}

// certificate reads the TLS files as a server would.
func (c *checker) certificate(t *smtpTable) {
	if t.TLSCert == "" && t.TLSKey == "" {
		return
	}
	if t.TLSCert == "" || t.TLSKey == "" {
		c.refuse("smtp.tls_cert", "set tls_cert and tls_key, or neither", "one of two TLS files is missing")
		return
	}
	if _, err := tls.LoadX509KeyPair(c.path(t.TLSCert), c.path(t.TLSKey)); err != nil {
		c.refuse("smtp.tls_cert", certificateHint(err), "the TLS certificate cannot be used: %v", err)
	}
}

func (c *checker) limits(t *limitsTable) Limits {
	return Limits{
		RefusedPerClaim:     c.number("limits.refused_per_claim", t.RefusedPerClaim, 0, maxCount),
		ReportsPerHour:      c.number("limits.reports_per_hour", t.ReportsPerHour, 0, maxCount),
		AuthFailuresPerPeer: c.number("limits.auth_failures_per_peer", t.AuthFailuresPerPeer, minAuthFailures, maxCount),
		Tiers:               t.Tiers,
		FirstSources:        c.choice("limits.first_sources", t.FirstSources, FirstTrusted, FirstNew),
	}
}

func (c *checker) dns(t *dnsTable) DNS {
	for i, s := range t.Servers {
		if err := hostPort(s, 1); err != nil {
			c.refuse(element("dns.servers", i), `"127.0.0.1:53"`, "%v", err)
		}
	}
	if t.DNSSECProbe != "." {
		c.domain("dns.dnssec_probe", t.DNSSECProbe)
	}
	return DNS{
		Servers: list(t.Servers), Timeout: c.duration("dns.timeout", t.Timeout, minTimeout, maxTimeout),
		DNSSEC: c.choice("dns.dnssec", t.DNSSEC, DNSSECAuto, DNSSECTrust, DNSSECOff), DNSSECProbe: t.DNSSECProbe,
	}
}

func (c *checker) provider(where string, t *providerTable) Provider {
	p := Provider{Ranges: c.prefixes(where+".ranges", t.Ranges), Exclude: c.prefixes(where+".exclude", t.Exclude)}
	for i, s := range t.ARCDomains {
		p.ARCDomains = append(p.ARCDomains, c.domain(element(where+".arc_domains", i), s))
	}
	if t.Feed != "" {
		p.Feed = c.path(t.Feed)
	}
	return p
}

// families are the values of delivery.ip.
var families = []string{string(delivery.AnyFamily), string(delivery.OnlyV4), string(delivery.OnlyV6), string(delivery.PreferV4), string(delivery.PreferV6)}

func (c *checker) delivery(t *deliveryTable) Delivery {
	d := Delivery{
		SmartHost:   t.SmartHost,
		Bind:        c.addresses("delivery.bind", t.Bind),
		HELO:        c.domain("delivery.helo", t.HELO),
		TLS:         c.choice("delivery.tls", t.TLS, tlsLevels...),
		ExpireAfter: c.duration("delivery.expire_after", t.ExpireAfter, minExpire, maxExpire),
		DelayAfter:  c.duration("delivery.delay_notice_after", t.DelayAfter, minExpire, maxExpire),
		Port:        c.number("delivery.port", t.Port, 1, 65535),
		IP:          c.choice("delivery.ip", t.IP, families...),
		Shaping:     c.path(t.Shaping),
		Private:     c.prefixes("delivery.private_networks", t.Private),
		Pools:       c.egress(t.Egress),
	}
	d.Domains = c.tlsDomains(t)
	if t.SmartHost != "" {
		if err := hostPort(t.SmartHost, 1); err != nil {
			c.refuse("delivery.smart_host", `"host:port"`, "%v", err)
		}
	}
	if len(t.RetryAfter) == 0 {
		c.refuse("delivery.retry_after", `for example ["1m", "15m", "1h"]`, "no times to try again")
	}
	for i, s := range t.RetryAfter {
		d.RetryAfter = append(d.RetryAfter, c.duration(element("delivery.retry_after", i), s, minRetry, maxRetry))
	}
	return d
}

func (c *checker) quarantine(t *quarantineTable) Quarantine {
	return Quarantine{
		Keep:              c.duration("quarantine.keep", t.Keep, minKeep, maxKeep),
		SecondPersonAbove: c.number("quarantine.second_person_above", t.SecondPersonAbove, 0, maxCount),
	}
}

func (c *checker) inbound(t *inboundTable) Inbound {
	in := Inbound{Bind: c.addresses("inbound.bind", t.Bind)}
	for i, s := range t.TrustedSealers {
		in.TrustedSealers = append(in.TrustedSealers, c.domain(element("inbound.trusted_sealers", i), s))
	}
	return in
}

func (c *checker) disowned(t *disownedTable) Disowned {
	if t.Domain == "" && len(t.Bind) > 0 {
		c.refuse("disowned.bind", "take it out", "egress addresses for disowned mail, and no domain to send it with")
	}
	return Disowned{Domain: c.domain("disowned.domain", t.Domain), Bind: c.addresses("disowned.bind", t.Bind)}
}

func (c *checker) log(t *logTable) Log {
	l := Log{Format: c.choice("log.format", t.Format, FormatJSON, FormatText)}
	c.choice("log.level", t.Level, "debug", "info", "warn", "error")
	_ = l.Level.UnmarshalText([]byte(t.Level)) // those four it knows
	return l
}

// apart refuses an address for two kinds of egress: what is in organisations' SPF
// records must not be what inbound and disowned mail leaves from.
func (c *checker) apart(f *file) {
	first := make(map[netip.Addr]string)
	all := egressTexts(f.Delivery.Egress)
	for _, list := range []struct {
		where string
		texts []string
	}{{"delivery.bind", f.Delivery.Bind}, {"inbound.bind", f.Inbound.Bind}, {"disowned.bind", f.Disowned.Bind}} {
		for i, s := range list.texts {
			all = append(all, placed{element(list.where, i), s})
		}
	}
	for _, e := range all {
		a, err := netip.ParseAddr(e.text)
		if err != nil {
			continue // told already
		}
		if taken, ok := first[a.Unmap()]; ok {
			c.problems = append(c.problems, org.Problem{Where: e.where, Also: taken, Message: a.String() + " is an egress address twice", Hint: "each kind of egress, and each pool, has addresses of its own"})
			continue
		}
		first[a.Unmap()] = e.where
	}
}

// listeners checks every address that is listened on, and that none is there
// twice.
func (c *checker) listeners(f *file) {
	first := make(map[string]string)
	for _, list := range []struct {
		where string
		texts []string
	}{
		{"smtp.listen", f.SMTP.Listen}, {"smtp.listen_tls", f.SMTP.ListenTLS},
		{"smtp.listen_submission", f.SMTP.ListenSubmission}, {"smtp.listen_proxy", f.SMTP.ListenProxy},
		{"console.listen", []string{f.Console.Listen}}, {"operations.listen", []string{f.Operations.Listen}},
	} {
		for i, s := range list.texts {
			at := list.where
			if strings.HasPrefix(at, "smtp.") {
				at = element(at, i)
				c.listenOne(at, s)
			}
			if taken, ok := first[s]; ok && s != "" && !strings.HasSuffix(s, ":0") {
				c.problems = append(c.problems, org.Problem{Where: at, Also: taken, Message: s + " is listened on twice", Hint: "each listener needs a port of its own"})
				continue
			}
			first[s] = at
		}
	}
	if len(f.SMTP.Listen)+len(f.SMTP.ListenTLS)+len(f.SMTP.ListenSubmission)+len(f.SMTP.ListenProxy) == 0 {
		c.refuse("smtp", `listen = ["127.0.0.1:2525"]`, "nothing is listened on")
	}
}

// listenOne checks host:port to listen on: port 0 means any, no host every
// address. Console and operations may be empty: then there are none.
func (c *checker) listenOne(where, s string) string {
	if s == "" && !strings.HasPrefix(where, "smtp.") {
		return ""
	}
	whole := s
	if strings.HasPrefix(s, ":") {
		whole = "0.0.0.0" + s
	}
	if err := hostPort(whole, 0); err != nil {
		c.refuse(where, `"127.0.0.1:2525", or ":25" for every address`, "%v", err)
	}
	return s
}

func (c *checker) path(s string) string { return document.Path(c.folder, s) }

func (c *checker) domain(where, s string) mail.Domain {
	if s == "" {
		return mail.Domain{}
	}
	d, err := mail.ParseDomain(s)
	if err != nil {
		c.refuse(where, "a host name as in relay.acme.example", "%v", err)
	}
	return d
}

func (c *checker) prefixes(where string, list []string) (prefixes []netip.Prefix) {
	for i, s := range list {
		p, err := org.ParsePrefix(s)
		if err != nil {
			c.refuse(element(where, i), `there is no way to write "any address"`, "%v", err)
			continue
		}
		prefixes = append(prefixes, p)
	}
	return prefixes
}

func (c *checker) addresses(where string, list []string) (addresses []netip.Addr) {
	for i, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			c.refuse(element(where, i), "an address of this machine, without length or port", "%q is no address to send from", s)
			continue
		}
		addresses = append(addresses, a.Unmap())
	}
	return addresses
}

func (c *checker) choice(where, s string, choices ...string) string {
	if !slices.Contains(choices, s) {
		c.refuse(where, `one of "`+strings.Join(choices, `", "`)+`"`, "%q is none of the choices", s)
	}
	return s
}

func (c *checker) number(where string, n, low, top int) int {
	if n < low || n > top {
		c.refuse(where, fmt.Sprintf("from %d to %d", low, top), "%d is out of bounds", n)
	}
	return n
}

func (c *checker) duration(where, s string, low, top time.Duration) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		c.refuse(where, `a number and its unit: "5s", "15m", "120h"`, "%q is no time span", s)
		return low
	}
	if d < low || d > top {
		c.refuse(where, fmt.Sprintf("from %s to %s", span(low), span(top)), "%s is out of bounds", s)
	}
	return d
}

func (c *checker) size(where, s string, low, top int64) int64 {
	n, err := parseSize(s)
	if err != nil {
		c.refuse(where, `a whole number and its unit: "256KiB", "50MiB"`, "%v", err)
		return low
	}
	if n < low || n > top {
		c.refuse(where, fmt.Sprintf("from %s to %s", size(low), size(top)), "%s is out of bounds", s)
	}
	return n
}

// units of sizes; powers of 1,024 only, so that nobody has to guess.
var units = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func parseSize(s string) (int64, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > maxMessage || n*u.size > 1<<40 {
			break
		}
		return n * u.size, nil
	}
	return 0, fmt.Errorf("%q is no size", s)
}

func size(n int64) string {
	for _, u := range units {
		if n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return "" // every number is a multiple of 1B
}

// span writes a duration without empty parts: 120h, not 120h0m0s.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// hostPort checks host:port with a port from low up.
func hostPort(s string, low uint64) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < low {
		return fmt.Errorf("%q has no port from %d to 65535", s, low)
	}
	_, addrErr := netip.ParseAddr(host)
	_, nameErr := mail.ParseDomain(host)
	if addrErr != nil && nameErr != nil {
		return fmt.Errorf("%q has no host name or address", s)
	}
	return nil
}

func isLoopback(s string) bool {
	host, _, _ := net.SplitHostPort(s)
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func element(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
