package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	// AllowLoopback is for a whole internet on one machine. Without it no MX may
	// point at loopback, link-local and other addresses that belong to no host
	// of the internet: a stranger's DNS would choose what we connect to.
	AllowLoopback bool
}

// SmartHost is "host:port" of the configuration. The zero SmartHost is none.
type SmartHost struct {
	Name string
	Port uint16
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

// Route gives the hosts of a domain, or the Result that ends the attempt: nil
// goes with a route that has at least one address.
func (r *Router) Route(ctx context.Context, domain mail.Domain) (Route, *Result) {
	if r.SmartHost != (SmartHost{}) {
		return r.smartHost(ctx)
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

func end(r Result) (Route, *Result) { return Route{}, &r }

// smartHost is the route of everything.
func (r *Router) smartHost(ctx context.Context) (Route, *Result) {
	host := Host{Name: r.SmartHost.Name, Port: r.SmartHost.Port}
	route := Route{Site: fmt.Sprintf("%s:%d", host.Name, host.Port)}
	if addr, err := netip.ParseAddr(host.Name); err == nil {
		host.Addresses = []netip.Addr{addr}
		route.Hosts = []Host{host}
		return route, nil
	}
	answer, err := r.Resolver.Addresses(ctx, host.Name)
	if err != nil || len(answer.Records) == 0 { // our own configuration, not the recipient's fault: never permanent
		return end(deferred("4.4.3", "the smart host %s has no address now", host.Name))
	}
	host.Addresses = interleave(answer.Records)
	route.Hosts = []Host{host}
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
	var usable []mail.MX        // of the hosts of route
	var unknown, forbidden bool // a host could not be looked up; it has addresses that may not be used
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
		if len(allowed) > 0 {
			route.Hosts = append(route.Hosts, Host{Name: mx.Host, Addresses: interleave(allowed), Port: r.port()})
			usable = append(usable, mx)
		}
	}
	switch {
	case len(usable) > 0:
		route.Site = siteOf(usable)
		return route, nil
	case unknown:
		return end(deferred("4.4.3", "no mail exchanger of %s could be looked up", domain))
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

func (r *Router) isOwn(a netip.Addr) bool {
	return slices.Contains(r.Own, netip.AddrPortFrom(a, r.port()))
}

func (r *Router) port() uint16 {
	if r.Port == 0 {
		return SMTPPort
	}
	return r.Port
}

// mayUse says that a stranger's DNS may send us to that address.
func (r *Router) mayUse(a netip.Addr) bool {
	if r.AllowLoopback && a.IsLoopback() {
		return true
	}
	thisNetwork := a.Is4() && a.As4()[0] == 0 // RFC 1122 section 3.2.1.3
	reserved := a.Is4() && a.As4()[0] >= 240  // RFC 1112 section 4, and broadcast
	return a.IsValid() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && !thisNetwork && !reserved
}

// interleave shuffles the addresses of one host and lets the families take
// turns, so that a family without a way costs one attempt, not all (RFC 8305
// section 4).
func interleave(addrs []netip.Addr) []netip.Addr {
	var six, four, mixed []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	for _, family := range [][]netip.Addr{six, four} {
		rand.Shuffle(len(family), func(i, j int) { family[i], family[j] = family[j], family[i] })
	}
	for len(six)+len(four) > 0 && len(mixed) < maxAddresses {
		if len(six) > 0 {
			mixed, six = append(mixed, six[0]), six[1:]
		}
		if len(four) > 0 {
			mixed, four = append(mixed, four[0]), four[1:]
		}
	}
	return mixed[:min(len(mixed), maxAddresses)]
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
