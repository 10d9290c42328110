package probe

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"anechoic/control/config"
	"anechoic/org"
)

// EgressOf is where the ordinary mail of an organisation leaves from. note says why
// that is not known, or only what this machine believes. told are addresses that a
// person named instead, as behind a translator of addresses nothing here knows them.
func EgressOf(c *config.Config, o *org.Organisation, told []netip.Addr) (list []Egress, note string) {
	helo := c.Delivery.HELO
	if helo.IsZero() {
		helo = c.Hostname
	}
	for _, a := range told {
		list = append(list, Egress{a, helo})
	}
	if len(list) > 0 {
		return list, ""
	}
	if c.Delivery.SmartHost != "" {
		return nil, fmt.Sprintf("mail leaves through the smart host %s: name its addresses with --egress", c.Delivery.SmartHost)
	}
	for _, pool := range c.Delivery.Pools {
		if o == nil || pool.Name != o.Egress {
			continue
		}
		for _, s := range pool.Sources {
			e := Egress{s.Address, helo}
			if !pool.HELO.IsZero() {
				e.HELO = pool.HELO
			}
			if !s.HELO.IsZero() {
				e.HELO = s.HELO
			}
			list = append(list, e)
		}
		return list, ""
	}
	for _, a := range c.Delivery.Bind {
		list = append(list, Egress{a, helo})
	}
	if len(list) > 0 {
		return list, ""
	}
	addresses, note := chosenBySystem(c.DNS.Servers)
	for _, a := range addresses {
		list = append(list, Egress{a, helo})
	}
	return list, note
}

// AllEgress is where any organisation's ordinary mail leaves from, each address once.
func AllEgress(c *config.Config, organisations []*org.Organisation, told []netip.Addr) (list []Egress, note string) {
	for _, o := range append([]*org.Organisation{nil}, organisations...) {
		more, why := EgressOf(c, o, told)
		if why != "" {
			note = why
		}
		for _, e := range more {
			if !slices.ContainsFunc(list, func(have Egress) bool { return have.Address == e.Address }) {
				list = append(list, e)
			}
		}
	}
	return list, note
}

// outside are addresses that routes lead to as to the internet; nothing is sent there
// (RFC 5737, RFC 3849).
var outside = []string{"192.0.2.1:9", "[2001:db8::1]:9"}

// chosenBySystem finds which address the system sends from where the configuration
// names none. Where the whole internet is on this machine, that is loopback.
func chosenBySystem(servers []string) (list []netip.Addr, note string) {
	if PortFor(servers) != dnsPort {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, ""
	}
	for _, to := range outside {
		conn, err := net.Dial("udp", to) // chooses a route, sends nothing
		if err != nil {
			continue
		}
		at, err := netip.ParseAddrPort(conn.LocalAddr().String())
		_ = conn.Close()
		a := at.Addr().Unmap().WithZone("")
		if err != nil || a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue
		}
		if a.IsPrivate() {
			note = fmt.Sprintf("this machine leaves by the private address %s: name the one that the internet sees with --egress, and in delivery.bind if the machine has it", a)
			continue
		}
		list = append(list, a)
	}
	if len(list) == 0 && note == "" {
		note = "this machine has no way out that is known: name the addresses that mail leaves from with --egress"
	}
	return list, note
}
