package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"anechoic/mail"
	"anechoic/mail/dns"
)

// ProviderRange is where the Microsoft 365 of the range sends from.
var ProviderRange = netip.MustParsePrefix("127.40.0.0/16")

// Internet is DNS and addresses.
type Internet struct {
	Zone   *dns.Zone
	server *dns.Server
	hosts  int // provider hosts made
}

// NewInternet serves an empty zone on a free port of loopback. The caller closes
// it.
func NewInternet() (*Internet, error) {
	zone := &dns.Zone{}
	server, err := zone.Serve("127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return &Internet{Zone: zone, server: server}, nil
}

// DNS is the address of the name server.
func (n *Internet) DNS() string { return n.server.Addr() }

// Close stops the name server.
func (n *Internet) Close() error { return n.server.Close() }

// ProviderHost gives the address of a new sending host of Microsoft 365, with its
// name in DNS both ways.
func (n *Internet) ProviderHost() netip.Addr {
	n.hosts++
	addr := netip.AddrFrom4([4]byte{127, 40, byte(1 + n.hosts/250), byte(1 + n.hosts%250)})
	name := fmt.Sprintf("mail-lab%02d.outbound.protection.outlook.com", n.hosts)
	n.Zone.SetAddresses(name, addr)
	n.Zone.SetPTR(addr, name)
	return addr
}

// AddCustomer puts up what an organisation's domain has in DNS: the proof of its
// domain, a strict DMARC policy, and the relay in its SPF record.
func (n *Internet) AddCustomer(domain, organisation string) {
	n.Zone.SetTXT("_anechoic."+domain, "v=anechoic1; org="+organisation)
	n.Zone.SetTXT("_dmarc."+domain, "v=DMARC1; p=reject")
	n.Zone.SetTXT(domain, "v=spf1 ip4:127.0.0.1 -all")
}

// AddReceiver gives a domain a mail exchanger at an address.
func (n *Internet) AddReceiver(domain string, at netip.Addr) {
	n.Zone.SetMX(domain, mail.MX{Preference: 10, Host: "mx." + domain})
	n.Zone.SetAddresses("mx."+domain, at)
	n.Zone.SetPTR(at, "mx."+domain)
}

// Publish puts a DKIM record up.
func (n *Internet) Publish(name, value string) { n.Zone.SetTXT(strings.TrimSuffix(name, "."), value) }
