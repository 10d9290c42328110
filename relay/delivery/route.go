package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"anechoic/mail"
)

// Bounds of one route: a domain can list thousands of hosts.
const (
	maxHosts     = 8 // looked up, after sorting
	maxAddresses = 4 // used of each host
)

// LocalSite is the site of what goes on here.
const LocalSite = "inbound"

// SMTPPort is the port of RFC 5321 section 4.5.4.2.
const SMTPPort = 25

// Router finds where mail for a domain goes. It is safe for concurrent use and
// keeps nothing: the resolver has the cache.
type Router struct {
	Resolver  mail.Resolver
	SmartHost SmartHost        // if set, everything goes there
	Port      uint16           // of MX hosts; zero: SMTPPort
	Hostname  string           // our own name, for the loop rule
	Own       []netip.AddrPort // where we take mail ourselves, for the loop rule
	Family    Family           // which addresses of a host are used; empty: AnyFamily
	// Private are networks of our own that MX records may lead to. Without them no
	// MX may point at loopback, private, link-local and other addresses that belong
	// to no host of the internet: a stranger's DNS would choose what we connect to.
	Private []netip.Prefix
	// AllowLoopback is for a whole internet on one machine.
	AllowLoopback bool
	// Inner gives the organisation's own server for a domain whose mail this relay
	// takes in; nil: there are no such domains.
	Inner func(domain mail.Domain) (OwnServer, bool)
}

// SmartHost is "host:port" of the configuration. The zero SmartHost is none.
type SmartHost struct {
	Name string
	Port uint16
}

// String is what ParseSmartHost reads.
func (h SmartHost) String() string {
	if h == (SmartHost{}) {
		return ""
	}
	return net.JoinHostPort(h.Name, strconv.Itoa(int(h.Port)))
}

// ParseSmartHost reads "host:port", where host is a name or an address (IPv6 in
// brackets). Empty text is the zero SmartHost.
func ParseSmartHost(s string) (SmartHost, error) {
	if s == "" {
		return SmartHost{}, nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return SmartHost{Name: ap.Addr().Unmap().String(), Port: ap.Port()}, nil
	}
	host, port, ok := strings.Cut(s, ":")
	name, err := mail.ParseDomain(host)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || portErr != nil || n == 0 {
		return SmartHost{}, fmt.Errorf("delivery: smart host %q is not host:port, for example mx.example:25 or [2001:db8::1]:25", s)
	}
	return SmartHost{Name: name.String(), Port: uint16(n)}, nil
}

// site is what the smart host is called among sites.
func (h SmartHost) site() string { return h.Name + ":" + strconv.Itoa(int(h.Port)) }

// relayhost is the site of a domain that is known without a look at DNS, because all goes to
// the smart host but what comes in here.
func (r *Router) relayhost(domain mail.Domain) (site string, ok bool) {
	if r.SmartHost == (SmartHost{}) {
		return "", false
	}
	_, inner := r.inner(domain)
	return r.SmartHost.site(), !inner
}

// Route gives the hosts of a domain, or the Result that ends the attempt: nil
// goes with a route that has at least one address, or that is Local.
func (r *Router) Route(ctx context.Context, domain mail.Domain) (Route, *Result) {
	if _, inner := r.inner(domain); inner {
		return Route{Site: LocalSite, Local: true}, nil
	}
	if r.SmartHost != (SmartHost{}) {
		return r.host(ctx, r.SmartHost, "the smart host")
	}
	answer, err := r.Resolver.MX(ctx, domain.String())
	switch {
	case errors.Is(err, mail.ErrNoDomain):
		return end(failed("5.1.2", "the domain %s does not exist", domain))
	case err != nil:
		return end(deferred("4.4.3", "the mail exchangers of %s could not be looked up", domain))
	}
	exchangers, null := arrange(answer.Records, rand.Shuffle)
	switch {
	case null: // RFC 7505 section 4.1
		return end(failed("5.1.10", "the domain %s takes no mail (null MX)", domain))
	case len(answer.Records) == 0: // RFC 5321 section 5.1: the domain is its own exchanger
		exchangers = []mail.MX{{Host: domain.String()}}
	case len(exchangers) == 0:
		return end(failed("5.4.4", "no mail exchanger of %s is a host name", domain))
	}
	return r.hosts(ctx, domain, exchangers)
}

// Inward is the route of what is in custody as inbound: to the organisation's own
// server and nowhere else. DNS may lead anywhere, and usually leads here.
func (r *Router) Inward(ctx context.Context, domain mail.Domain) (Route, *Result) {
	own, ok := r.inner(domain)
	if !ok {
		return end(deferred("4.3.5", "no server is named for the inbound mail of %s any more", domain))
	}
	route, end := r.host(ctx, own.Address, "the organisation's server")
	route.Own = &own
	return route, end
}

func (r *Router) inner(domain mail.Domain) (own OwnServer, ok bool) {
	if r.Inner == nil {
		return OwnServer{}, false
	}
	return r.Inner(domain)
}

func end(r Result) (Route, *Result) { return Route{}, &r }

// Via is the route to a next hop that a person chose, "host:port". It is trusted as
// the configuration is: it may be on a private network, but not this relay.
func (r *Router) Via(ctx context.Context, hop string) (Route, *Result) {
	host, err := ParseSmartHost(hop)
	if err != nil || host == (SmartHost{}) {
		return end(deferred("4.3.5", "the chosen next hop %q is not host:port", hop))
	}
	route, end := r.host(ctx, host, "the chosen next hop")
	route.Chosen = true
	return route, end
}

// host is the route to a host that we named ourselves. what it is stands in results.
func (r *Router) host(ctx context.Context, named SmartHost, what string) (Route, *Result) {
	host := Host{Name: named.Name, Port: named.Port}
	route := Route{Site: named.site()}
	all, known := []netip.Addr(nil), false
	if addr, err := netip.ParseAddr(host.Name); err == nil {
		all, known = []netip.Addr{addr}, true
	} else {
		answer, err := r.Resolver.Addresses(ctx, host.Name)
		all, known = answer.Records, err == nil
	}
	host.Addresses = r.Family.arrange(all, maxAddresses)
	route.Hosts = []Host{host}
	switch { // our own configuration, not the recipient's fault: never permanent
	case !known || len(all) == 0:
		return end(deferred("4.4.3", "%s %s has no address now", what, host.Name))
	case slices.ContainsFunc(all, func(a netip.Addr) bool { return r.isOwnAt(a.Unmap(), host.Port) }):
		return end(deferred("4.4.6", "%s %s is this relay: mail for it would loop", what, host.Name))
	case len(host.Addresses) == 0:
		return end(deferred("4.4.4", "%s %s has no address of the family that may be used", what, host.Name))
	}
	return route, nil
}

// arrange sorts exchangers by preference and shuffles those of equal preference
// (RFC 5321 section 5.1). What is no host name, such as an address, is left out.
// null says that the only record is a null MX.
func arrange(records []mail.MX, shuffle func(n int, swap func(i, j int))) (sorted []mail.MX, null bool) {
	if len(records) == 1 && records[0].Host == "" {
		return nil, true
	}
	for _, mx := range records {
		mx.Host = strings.ToLower(strings.TrimSuffix(mx.Host, "."))
		if isHostName(mx.Host) {
			sorted = append(sorted, mx)
		}
	}
	shuffle(len(sorted), func(i, j int) { sorted[i], sorted[j] = sorted[j], sorted[i] })
	slices.SortStableFunc(sorted, func(a, b mail.MX) int { return int(a.Preference) - int(b.Preference) })
	return sorted, false
}

// isHostName says that s can be looked up and compared with a certificate:
// labels of letters, digits, hyphens and (they exist) underscores, and no
// number at its end.
func isHostName(s string) bool {
	if len(s) > mail.MaxDomain {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.IndexFunc(label, notHostRune) >= 0 {
			return false
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != ""
}

func notHostRune(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
}

// hosts looks the exchangers up, best first, and applies the loop rule of RFC
// 5321 section 5.1: where we are one of them, only better ones are used.
func (r *Router) hosts(ctx context.Context, domain mail.Domain, exchangers []mail.MX) (Route, *Result) {
	var route Route
	var usable []mail.MX               // of the hosts of route
	var unknown, forbidden, other bool // a host could not be looked up; it has addresses that may not be used; it has none of the wanted family
	for _, mx := range exchangers[:min(len(exchangers), maxHosts)] {
		addrs, err := r.addresses(ctx, mx.Host)
		if strings.EqualFold(mx.Host, r.Hostname) || slices.ContainsFunc(addrs, r.isOwn) {
			n := slices.IndexFunc(append(usable, mx), func(other mail.MX) bool { return other.Preference == mx.Preference })
			if n == 0 {
				return end(failed("5.4.6", "the mail exchanger of %s is this relay: mail for it would loop", domain))
			}
			route.Hosts, usable = route.Hosts[:n], usable[:n]
			break
		}
		allowed := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !r.mayUse(a) })
		unknown, forbidden = unknown || err != nil, forbidden || len(allowed) < len(addrs)
		arranged := r.Family.arrange(allowed, maxAddresses)
		other = other || len(allowed) > 0 && len(arranged) == 0
		if len(arranged) > 0 {
			route.Hosts = append(route.Hosts, Host{Name: mx.Host, Addresses: arranged, Port: r.port()})
			usable = append(usable, mx)
		}
	}
	switch {
	case len(usable) > 0:
		route.Site = siteOf(usable)
		return route, nil
	case unknown:
		return end(deferred("4.4.3", "no mail exchanger of %s could be looked up", domain))
	case other: // our configuration, not the recipient's fault
		return end(deferred("4.4.4", "no mail exchanger of %s has an address of the family that may be used", domain))
	case forbidden:
		return end(failed("5.4.4", "the mail exchangers of %s have only addresses that no mail server has", domain))
	}
	return end(failed("5.4.4", "no mail exchanger of %s has an address", domain))
}

// addresses looks one host up; that it does not exist is no error.
func (r *Router) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	answer, err := r.Resolver.Addresses(ctx, host)
	if errors.Is(err, mail.ErrNoDomain) {
		return nil, nil
	}
	addrs := make([]netip.Addr, len(answer.Records))
	for i, a := range answer.Records {
		addrs[i] = a.Unmap()
	}
	return addrs, err
}

func (r *Router) isOwn(a netip.Addr) bool { return r.isOwnAt(a, r.port()) }

func (r *Router) isOwnAt(a netip.Addr, port uint16) bool {
	return slices.Contains(r.Own, netip.AddrPortFrom(a, port))
}

func (r *Router) port() uint16 {
	if r.Port == 0 {
		return SMTPPort
	}
	return r.Port
}

// nobodys are addresses that no host of the internet has, or that lead to one by
// another way than it seems (RFC 6890 and the IANA special-purpose registries).
var nobodys = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),      // this network, RFC 1122 section 3.2.1.3
	netip.MustParsePrefix("10.0.0.0/8"),     // private, RFC 1918
	netip.MustParsePrefix("100.64.0.0/10"),  // shared by a provider's customers, RFC 6598
	netip.MustParsePrefix("127.0.0.0/8"),    // loopback, RFC 1122
	netip.MustParsePrefix("169.254.0.0/16"), // link-local, RFC 3927
	netip.MustParsePrefix("172.16.0.0/12"),  // private, RFC 1918
	netip.MustParsePrefix("192.0.0.0/24"),   // protocol assignments, RFC 6890
	netip.MustParsePrefix("192.168.0.0/16"), // private, RFC 1918
	netip.MustParsePrefix("224.0.0.0/4"),    // multicast, RFC 5771
	netip.MustParsePrefix("240.0.0.0/4"),    // reserved, RFC 1112 section 4, and broadcast
	netip.MustParsePrefix("::/96"),          // unspecified, loopback, IPv4-compatible, RFC 4291
	netip.MustParsePrefix("64:ff9b:1::/48"), // translation of the site's own, RFC 8215
	netip.MustParsePrefix("100::/64"),       // discard, RFC 6666
	netip.MustParsePrefix("fc00::/7"),       // private, RFC 4193
	netip.MustParsePrefix("fe80::/10"),      // link-local, RFC 4291
	netip.MustParsePrefix("fec0::/10"),      // site-local, RFC 3879
	netip.MustParsePrefix("ff00::/8"),       // multicast, RFC 4291
}

// Prefixes whose addresses hold an IPv4 address, and where.
var (
	translated = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour  = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// mayUse says that a stranger's DNS may send us to that address.
func (r *Router) mayUse(a netip.Addr) bool {
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	switch {
	case !a.IsValid():
		return false
	case r.AllowLoopback && a.IsLoopback(), slices.ContainsFunc(r.Private, within):
		return true
	case slices.ContainsFunc(nobodys, within):
		return false
	case translated.Contains(a):
		b := a.As16()
		return r.mayUse(netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(a):
		b := a.As16()
		return r.mayUse(netip.AddrFrom4([4]byte(b[2:6])))
	}
	return true
}

// siteOf names what domains of one operator share: the parent of the best
// exchanger, or the exchanger where the parent belongs to many. Of equal ones
// the first by name counts, so that the name is stable. Only exchangers with
// usable addresses are asked: a stranger's record that names somebody else's
// host, which does not exist, must not count against that somebody.
func siteOf(exchangers []mail.MX) string {
	best := exchangers[0]
	for _, mx := range exchangers {
		if mx.Preference == best.Preference && mx.Host < best.Host {
			best = mx
		}
	}
	name, err := mail.ParseDomain(best.Host)
	if err != nil {
		return best.Host
	}
	if parent := name.Parent(); !parent.IsZero() && !parent.IsPublicSuffix() {
		return parent.String()
	}
	return name.String()
}
