package smtpd

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// proxied is what a PROXY header says.
type proxied struct {
	peer, local netip.AddrPort
	itself      bool // LOCAL or UNKNOWN: the balancer speaks for itself
}

// readProxyHeader reads a PROXY header, version 1 or 2, which must be there (the
// PROXY protocol, sections 2.1 and 2.2). TLVs are passed over: what they say of TLS
// or of names is the balancer's word about somebody else's proof. A header of
// version 1 must come in one piece, as the protocol asks of its sender.
func readProxyHeader(r *bufio.Reader) (proxied, error) {
	h, err := proxyproto.Read(r)
	if err != nil {
		return proxied{}, err
	}
	if h.Command.IsLocal() {
		return proxied{itself: true}, nil
	}
	from, to, ok := h.TCPAddrs()
	if !ok {
		return proxied{}, fmt.Errorf("a PROXY header for %#x, which is not TCP over IP", byte(h.TransportProtocol))
	}
	p := proxied{peer: addrPort(from), local: addrPort(to)}
	if !p.peer.IsValid() || p.peer.Addr().IsUnspecified() || p.peer.Addr().IsMulticast() {
		return proxied{}, fmt.Errorf("a PROXY header says that %v connected, which is nobody's address", from)
	}
	return p, nil
}

// addrPort is a network address in the form that is compared: IPv4 as IPv4. What
// is no IP address is the zero AddrPort.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp == nil {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// trusted says that a balancer may connect.
func trusted(from []netip.Prefix, addr netip.Addr) bool {
	for _, p := range from {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
