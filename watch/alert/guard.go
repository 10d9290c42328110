package alert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

// special are addresses that belong to no server of the internet, from the IANA
// special-purpose address registries (RFC 6890) with multicast and what is reserved.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)

// global is what of IPv6 is given out at all (RFC 4291 section 2.4), and specialIn6
// what within it leads elsewhere: protocol assignments with Teredo, documentation,
// 6to4, segment routing.
var (
	global     = netip.MustParsePrefix("2000::/3")
	specialIn6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16")
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

// public says that an address may be one of a stranger's server. Addresses that hold
// an IPv4 address in another form (mapped, translated, 6to4, Teredo) are none: no
// resolver gives them for a web server.
func public(a netip.Addr) bool {
	if a.Zone() != "" || a.Is4In6() {
		return false
	}
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	if a.Is4() {
		return !slices.ContainsFunc(special, within)
	}
	return global.Contains(a) && !slices.ContainsFunc(specialIn6, within)
}

// Guard dials servers that somebody else named: those of the internet alone, and none
// of the machine's own addresses. It looks a name up itself and dials the address it
// has checked, so that no second answer of DNS leads elsewhere.
type Guard struct {
	Lookup   func(ctx context.Context, host string) ([]netip.Addr, error)
	Own      func() []netip.Addr // never dialled
	Loopback bool                // loopback may be dialled: for tests
}

// Bounds of one connection.
const (
	dialTime = 5 * time.Second
	maxDials = 4 // addresses of one name
)

// Dial connects to host:port.
func (g *Guard) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := g.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%s has no address that may be called: servers of the internet alone, not this machine nor its network", host)
	tried := 0
	for _, a := range addresses {
		if !g.allows(a) {
			continue
		}
		if tried++; tried > maxDials {
			break
		}
		var conn net.Conn
		d := net.Dialer{Timeout: dialTime}
		if conn, err = d.DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// addresses is what a host is, or what DNS says of it.
func (g *Guard) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil // RFC 6761 section 6.3: no question for DNS
	}
	return g.Lookup(ctx, host)
}

// allows says that an address may be dialled.
func (g *Guard) allows(a netip.Addr) bool {
	if g.Loopback && a.IsLoopback() {
		return true
	}
	return public(a) && !(g.Own != nil && slices.Contains(g.Own(), a))
}

// MachineAddresses gives the addresses of this machine's interfaces.
func MachineAddresses() (list []netip.Addr) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, one := range all {
		if p, err := netip.ParsePrefix(one.String()); err == nil {
			list = append(list, p.Addr().Unmap())
		}
	}
	return list
}

// transport is how webhooks are called: through the guard, never through a proxy,
// with certificates checked; a redirect is an answer like others, because nobody
// follows it.
func transport(g *Guard, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy: nil, DialContext: g.Dial, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10, TLSHandshakeTimeout: 10 * time.Second,
	}
}
