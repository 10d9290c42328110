package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/mail/dns"
)

// Bounds of what is asked of a zone's servers. A zone has two to eight of them.
const (
	serverTime   = 3 * time.Second // for one question to one server
	maxServers   = 8
	maxAddresses = 2 // of each server: one of each family
	dnsPort      = 53
)

// resolverName is how the relay's own resolver is called in answers.
const resolverName = "the relay's resolver"

// Names asks DNS: the relay's own resolver, and past it every server that has the
// zone.
type Names struct {
	Resolver *dns.Client
	Port     uint16 // of the zones' servers; zero: 53
}

// PortFor is the port at which the zones' servers are asked: where all configured
// name servers are on loopback and not at port 53, a whole internet stands on this
// machine, and theirs is the zones' too.
func PortFor(servers []string) uint16 {
	port := uint16(dnsPort)
	for _, s := range servers {
		at, err := netip.ParseAddrPort(s)
		if err != nil || !at.Addr().IsLoopback() || at.Port() == dnsPort {
			return dnsPort
		}
		port = at.Port()
	}
	return port
}

// TXT reads the TXT records of a name everywhere.
func (n *Names) TXT(ctx context.Context, name string) Readings {
	return n.read(ctx, name, func(ctx context.Context) ([]string, error) {
		a, err := n.Resolver.TXT(ctx, name)
		return a.Records, err
	}, dns.HeldTXT)
}

// MX reads the MX records of a name everywhere, as "10 mx.example".
func (n *Names) MX(ctx context.Context, name string) Readings {
	return n.read(ctx, name, func(ctx context.Context) (list []string, err error) {
		a, err := n.Resolver.MX(ctx, name)
		for _, mx := range a.Records {
			list = append(list, strconv.Itoa(int(mx.Preference))+" "+mx.Host)
		}
		slices.Sort(list)
		return list, err
	}, dns.HeldMX)
}

type held func(ctx context.Context, server, name string, timeout time.Duration) (dns.Held, error)

// read asks the resolver and the zone's servers side by side.
func (n *Names) read(ctx context.Context, name string, own func(context.Context) ([]string, error), ask held) (r Readings) {
	servers, zone, note := n.serversOf(ctx, name)
	r.Zone, r.Note, r.Authorities = zone, note, make([]Reading, len(servers))
	work := background.Limit(maxServers)
	for i, s := range servers {
		work.Go(func() {
			reply, err := ask(ctx, s.address, name, serverTime)
			r.Authorities[i] = readingOf(s.name+" ["+s.address+"]", reply.Records, err)
			r.Authorities[i].Alias = reply.Alias
		})
	}
	records, err := own(ctx)
	r.Own = readingOf(resolverName, records, err)
	work.Wait()
	return r
}

// readingOf tells a name that does not exist from a server that does not answer.
func readingOf(server string, records []string, err error) Reading {
	slices.Sort(records)
	if errors.Is(err, mail.ErrNoDomain) {
		return Reading{Server: server, Missing: true}
	}
	return Reading{Server: server, Records: records, Err: err}
}

// zoneServer is one address of a server.
type zoneServer struct {
	name    string
	address string // with port
}

// serversOf finds the zone a name is in, by the nearest NS records at the name or
// above, and the addresses of its servers. note says why there are none.
func (n *Names) serversOf(ctx context.Context, name string) (servers []zoneServer, zone, note string) {
	at := name
	for at != "" {
		answer, err := n.Resolver.NS(ctx, at)
		if err != nil && !errors.Is(err, mail.ErrNoDomain) {
			return nil, "", "not asked: the NS records of " + at + " could not be looked up"
		}
		if len(answer.Records) > 0 {
			slices.Sort(answer.Records)
			servers = n.addressesOf(ctx, answer.Records)
			if len(servers) == 0 {
				note = "not asked: no address of " + answer.Records[0] + " could be looked up"
			}
			return servers, at, note
		}
		at = parentOf(at)
	}
	return nil, "", "not asked: no NS record was found"
}

func parentOf(name string) string {
	for i := range len(name) {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return ""
}

func (n *Names) addressesOf(ctx context.Context, hosts []string) (servers []zoneServer) {
	port := n.Port
	if port == 0 {
		port = dnsPort
	}
	for _, host := range hosts[:min(len(hosts), maxServers)] {
		answer, err := n.Resolver.Addresses(ctx, host)
		if err != nil {
			continue
		}
		for _, a := range onePerFamily(answer.Records) {
			servers = append(servers, zoneServer{host, net.JoinHostPort(a.String(), strconv.Itoa(int(port)))})
		}
	}
	return servers
}

func onePerFamily(addresses []netip.Addr) (few []netip.Addr) {
	var four, six bool
	for _, a := range addresses {
		if a.Is4() && !four || a.Is6() && !six {
			few = append(few, a)
		}
		four, six = four || a.Is4(), six || a.Is6()
	}
	return few[:min(len(few), maxAddresses)]
}

// Confirmed says whether an address has a name in DNS that leads back to it
// (forward-confirmed reverse DNS), and whether it is the wanted one.
func Confirmed(ctx context.Context, r mail.Resolver, address netip.Addr, helo mail.Domain) Check {
	c := Check{Name: "reverse", About: address.String(), Expected: "a PTR record to " + helo.String() + ", which has this address"}
	names, err := r.PTR(ctx, address)
	reverse := dns.ReverseName(address)
	c.Publish = []string{fmt.Sprintf("%s. IN PTR %s.", trimDot(reverse), helo), addressLine(helo, address)}
	switch {
	case err != nil && !errors.Is(err, mail.ErrNoDomain):
		c.State, c.Seen, c.Fix = Warning, "its PTR record could not be looked up: "+err.Error(), "see that the name servers answer"
		return c
	case len(names.Records) == 0:
		c.State, c.Seen, c.Fix = Problem, "no PTR record", "have whoever gives you the address set its reverse name: large receivers refuse mail without one"
		return c
	}
	var back []string
	for _, name := range names.Records[:min(len(names.Records), maxServers)] {
		if a, err := r.Addresses(ctx, name); err == nil && slices.Contains(a.Records, address) {
			back = append(back, name)
		}
	}
	slices.Sort(back)
	switch {
	case len(back) == 0:
		c.State, c.Seen = Problem, fmt.Sprintf("its name %s does not have this address", names.Records[0])
		c.Fix = "let the reverse name be one that has the address, best " + helo.String()
	case !slices.Contains(back, helo.String()):
		c.State, c.Seen, c.Publish = OK, "it is "+back[0]+", both ways; the relay greets as "+helo.String(), nil
		c.Fix = "some receivers want both to be the same: set helo, or the reverse name"
	default:
		c.State, c.Seen, c.Publish = OK, "it is "+helo.String()+", both ways", nil
	}
	return c
}

// Greeting says whether the name the relay greets with has the address it greets
// from.
func Greeting(ctx context.Context, r mail.Resolver, address netip.Addr, helo mail.Domain) Check {
	c := Check{Name: "helo", About: helo.String(), Expected: "the address " + address.String()}
	answer, err := r.Addresses(ctx, helo.String())
	switch {
	case err != nil && !errors.Is(err, mail.ErrNoDomain):
		c.State, c.Seen, c.Fix = Warning, "it could not be looked up: "+err.Error(), "see that the name servers answer"
	case slices.Contains(answer.Records, address):
		c.State, c.Seen = OK, "it has the address"
	default:
		c.State, c.Seen, c.Fix = Problem, "it has "+listOf(answer.Records, "no address"), "publish the line: the name a server greets with is to lead to it (RFC 5321 section 4.1.4)"
		c.Publish = []string{addressLine(helo, address)}
	}
	return c
}

func addressLine(name mail.Domain, a netip.Addr) string {
	kind := "A"
	if a.Is6() {
		kind = "AAAA"
	}
	return fmt.Sprintf("%s. IN %s %s", name, kind, a)
}

func listOf(addresses []netip.Addr, none string) string {
	text := ""
	for i, a := range addresses {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	return orElse(text, none)
}

func trimDot(name string) string {
	if len(name) > 0 && name[len(name)-1] == '.' {
		return name[:len(name)-1]
	}
	return name
}
