package migrate

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
)

// relayDraft is what relay.toml will say, each value with where it came from.
type relayDraft struct {
	hostname         valued
	listen           []valued
	listenTLS        []valued
	listenSubmission []valued
	cert, key        valued
	size             valued
	smartHost        valued
	bind             []netip.Addr
	bindAt           Place
	inboundBind      []netip.Addr
	helo             valued
	level            valued
	family           valued
	expire           valued
	policies         []tlsPolicy
}

// valued is a value with where it came from; empty: not written.
type valued struct {
	text string
	at   Place
	note string
}

// tlsPolicy is one [[delivery.domain]].
type tlsPolicy struct {
	name       mail.Domain
	subdomains bool
	level      string
	names      []string
	at         Place
}

// relay takes over how mail comes in and goes out.
func (d *drafting) relay() {
	r := &d.plan.relay
	d.hostname(r)
	d.listening(r)
	d.certificate(r)
	d.size(r)
	d.next(r)
	d.binding(r)
	r.inboundBind = d.wishes.InboundBind
	d.transportSecurity(r)
	d.lifetime(r)
	if protocols := d.get("inet_protocols"); strings.EqualFold(protocols.Text, "ipv4") {
		r.family = valued{"v4", protocols.At, ""}
	} else if strings.EqualFold(protocols.Text, "ipv6") {
		r.family = valued{"v6", protocols.At, ""}
	}
}

// unnamed is the host name that is written where main.cf has none that is whole.
const unnamed = "relay.invalid"

func (d *drafting) hostname(r *relayDraft) {
	d.note("mydomain", "myorigin")
	v := d.get("myhostname")
	name, err := mail.ParseDomain(v.Text)
	if err != nil || !strings.Contains(name.String(), ".") {
		r.hostname = valued{unnamed, v.At, "myhostname is no whole name: write the relay's own"}
		d.left(rankRelay, v.At, "myhostname = "+shown(v.Text), "it is not the whole name of a host", "write hostname in relay.toml")
		return
	}
	r.hostname = valued{name.String(), v.At, ""}
	helo := d.get("smtp_helo_name")
	if n, err := mail.ParseDomain(helo.Text); err == nil && n != name {
		r.helo = valued{n.String(), helo.At, ""}
	}
}

// beside are the ports that are written beside a running Postfix.
var beside = map[string]string{"25": "2525", "465": "2465", "587": "2587"}

// listening takes over the network services of master.cf.
func (d *drafting) listening(r *relayDraft) {
	for _, l := range d.listeners() {
		host, port := l.service.listens()
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || l.service.Type != "inet" {
			d.left(rankRelay, l.service.At, "service "+shown(l.service.key()), "it listens at no port of the network that is written as a number", "add it to [smtp] of relay.toml")
			continue
		}
		to := &r.listen
		switch {
		case l.settings.Yes("smtpd_tls_wrappermode"):
			to = &r.listenTLS
		case port == "587" || l.service.Name == "submission":
			to = &r.listenSubmission
		}
		note := "service " + l.service.Name
		if other, ok := beside[port]; ok && !d.wishes.TakePorts {
			note, port = note+": port "+port+" once Postfix has gone", other
		}
		for _, h := range d.hosts(host) {
			address := net.JoinHostPort(h, port)
			if !slices.ContainsFunc(*to, func(v valued) bool { return v.text == address }) && !r.taken(address) {
				*to = append(*to, valued{address, l.service.At, note})
			}
		}
	}
	if len(r.listen)+len(r.listenTLS)+len(r.listenSubmission) == 0 {
		r.listen = []valued{{"127.0.0.1:2525", Place{}, "nothing in master.cf listens at a port that is taken over"}}
	}
}

func (r *relayDraft) taken(address string) bool {
	return slices.ContainsFunc(slices.Concat(r.listen, r.listenTLS, r.listenSubmission), func(v valued) bool { return v.text == address })
}

// hosts are the addresses that a service listens at: its own, or those of
// inet_interfaces.
func (d *drafting) hosts(own string) (hosts []string) {
	interfaces := []string{own}
	if own == "" {
		interfaces = split(d.get("inet_interfaces").Text)
	}
	d.note("inet_interfaces")
	wildcard := "::"
	if strings.EqualFold(d.Main.Get("inet_protocols").Text, "ipv4") {
		wildcard = "0.0.0.0"
	}
	for _, name := range interfaces {
		a, err := netip.ParseAddr(strings.Trim(name, "[]"))
		switch {
		case name == "loopback-only" || name == "localhost":
			hosts = append(hosts, "127.0.0.1")
		case name == "all" || err != nil || a.IsUnspecified():
			hosts = append(hosts, wildcard)
		default:
			hosts = append(hosts, a.WithZone("").String())
		}
	}
	return slices.Compact(hosts)
}

// certificate takes over the TLS files if they can be used from here.
func (d *drafting) certificate(r *relayDraft) {
	cert, key := d.get("smtpd_tls_cert_file"), d.get("smtpd_tls_key_file")
	if chain := d.get("smtpd_tls_chain_files"); chain.Text != "" {
		if list := split(chain.Text); len(list) > 0 {
			cert, key = chain, chain
			cert.Text, key.Text = list[len(list)-1], list[0]
		}
	}
	if key.Text == "" || key.Text == "$smtpd_tls_cert_file" {
		key.Text = cert.Text
	}
	if cert.Text == "" || strings.EqualFold(cert.Text, "none") {
		return
	}
	if _, err := tls.LoadX509KeyPair(d.files.path(cert.Text), d.files.path(key.Text)); err != nil || d.files.root != "" {
		why := "the files are another machine's"
		if err != nil {
			why = "the files cannot be used: " + printable(reason(err).Error())
		}
		d.left(rankRelay, cert.At, "smtpd_tls_cert_file = "+shown(cert.Text), why, "write tls_cert and tls_key in relay.toml; until then the relay makes a certificate of its own")
		return
	}
	r.cert, r.key = valued{cert.Text, cert.At, ""}, valued{key.Text, key.At, ""}
}

// Bounds of max_message_bytes (docs/configuration.md).
const minSize, maxSize = 1 << 10, 2 << 30

func (d *drafting) size(r *relayDraft) {
	v := d.get("message_size_limit")
	n, err := strconv.ParseInt(v.Text, 10, 64)
	switch {
	case err == nil && n >= minSize && n <= maxSize:
		r.size = valued{strconv.FormatInt(n, 10) + "B", v.At, ""}
	default:
		d.left(rankRelay, v.At, "message_size_limit = "+shown(v.Text), "there is always a limit, from 1 KiB to 2 GiB", "50MiB counts; write max_message_bytes if it should be another")
	}
}

// next takes over relayhost.
func (d *drafting) next(r *relayDraft) {
	v := d.get("relayhost")
	if v.Text == "" {
		return
	}
	host, port := hopOf(v.Text)
	if host == "" {
		d.left(rankRelay, v.At, "relayhost = "+shown(v.Text), "it is no host and port", "write smart_host in relay.toml")
		return
	}
	r.smartHost = valued{text: net.JoinHostPort(host, port), at: v.At}
	if !strings.HasPrefix(v.Text, "[") {
		r.smartHost.note = "Postfix asked for MX records of this name, the relay goes to the host itself"
	}
	if auth := d.get("smtp_sasl_password_maps"); d.Main.Yes("smtp_sasl_auth_enable") && auth.Text != "" {
		d.left(rankSend, auth.At, "smtp_sasl_password_maps = "+shown(auth.Text), "the relay does not log in at its smart host", "have the next host know the relay by its address, or take smart_host out")
	}
}

// binding takes over the addresses that mail leaves from.
func (d *drafting) binding(r *relayDraft) {
	for _, name := range []string{"smtp_bind_address", "smtp_bind_address6"} {
		v := d.get(name)
		a, err := netip.ParseAddr(strings.Trim(v.Text, "[]"))
		switch {
		case v.Text == "":
		case err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast():
			d.left(rankRelay, v.At, name+" = "+shown(v.Text), "it is no address to send from", "write bind in relay.toml")
		default:
			r.bind, r.bindAt = append(r.bind, a.Unmap()), v.At
		}
	}
}

// levels are what Postfix asks of TLS, in the relay's words. MTA-STS and DANE only ever
// raise what is written.
var levels = map[string]string{
	"": "opportunistic", "none": "none", "may": "opportunistic", "encrypt": "encrypted", "dane": "opportunistic",
	"dane-only": "required", "half-dane": "opportunistic", "verify": "required", "secure": "required",
}

func (d *drafting) transportSecurity(r *relayDraft) {
	v := d.get("smtp_tls_security_level")
	level, ok := levels[strings.ToLower(v.Text)]
	switch {
	case !ok:
		d.left(rankSend, v.At, "smtp_tls_security_level = "+shown(v.Text), "there is no such level here", "TLS is opportunistic; write delivery.tls if it should be more")
		level = "opportunistic"
	case v.Text == "" || v.Text == "none":
		level = "opportunistic" // more than before costs nothing
	}
	r.level = valued{text: level, at: v.At}
	for _, t := range d.files.tables(d.Main, "smtp_tls_policy_maps") {
		for _, e := range t.Entries {
			d.policy(r, e)
		}
	}
	d.note("smtp_tls_policy_maps")
}

// policy takes over an entry of smtp_tls_policy_maps.
func (d *drafting) policy(r *relayDraft, e Entry) {
	fields := strings.Fields(strings.ToLower(e.Value))
	name, err := mail.ParseDomain(strings.Trim(strings.ToLower(strings.TrimPrefix(e.Key, ".")), "[]"))
	p := tlsPolicy{name: name, subdomains: strings.HasPrefix(e.Key, "."), at: e.At}
	ok := err == nil && !e.Pattern && len(fields) > 0
	if ok {
		p.level, ok = levels[fields[0]]
	}
	if !ok || slices.ContainsFunc(r.policies, func(other tlsPolicy) bool { return other.name == name }) {
		d.left(rankSend, e.At, "smtp_tls_policy_maps: "+shown(e.Key+" "+e.Value), "it is no domain with a level of TLS that there is here, or the domain is there twice", "write [[delivery.domain]]")
		return
	}
	for _, f := range fields[1:] {
		if list, is := strings.CutPrefix(f, "match="); is && p.level == "required" {
			for host := range strings.SplitSeq(list, ":") {
				if n, err := mail.ParseDomain(host); err == nil {
					p.names = append(p.names, n.String())
				}
			}
		}
	}
	r.policies = append(r.policies, p)
}

// Bounds of expire_after (docs/configuration.md).
const minExpire, maxExpire = time.Minute, 30 * 24 * time.Hour

// lifetime takes over maximal_queue_lifetime: a number and s, m, h, d or w; days where no
// unit is written (postconf(5)).
func (d *drafting) lifetime(r *relayDraft) {
	v := d.get("maximal_queue_lifetime")
	text, unit := v.Text, 24*time.Hour
	for suffix, u := range map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(v.Text, suffix); ok {
			text, unit = number, u
		}
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if span := time.Duration(n) * unit; err == nil && n < 1000000 && span >= minExpire && span <= maxExpire {
		r.expire = valued{text: strings.TrimSuffix(strings.TrimSuffix(span.String(), "0s"), "0m"), at: v.At}
		return
	}
	d.left(rankRelay, v.At, "maximal_queue_lifetime = "+shown(v.Text), "it is no time from a minute to 30 days", "120h counts")
}
