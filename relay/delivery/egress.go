package delivery

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
)

// EgressPool is a set of addresses that mail leaves from, with the names it has
// there. A pool without sources leaves the address to the system.
type EgressPool struct {
	Name    string // as an organisation names it; empty: the default
	Helo    string // our name in EHLO, where a source has none of its own; empty: SMTP.Helo
	Sources []EgressSource
}

// EgressSource is one address of a pool.
type EgressSource struct {
	Address netip.Addr // the zero address leaves the choice to the system
	Helo    string     // the name that the address has in DNS; empty: the pool's
	Weight  int        // how often it is chosen, against the others of its family; zero: 1
}

// source chooses where to leave from for a server: an address of its family, by
// weight. Not ok means that the pool has none.
func (p *EgressPool) source(server netip.Addr, random func(n int) int) (s EgressSource, ok bool) {
	if len(p.Sources) == 0 {
		return EgressSource{}, true
	}
	total := 0
	for i := range p.Sources {
		if p.Sources[i].fits(server) {
			total += p.Sources[i].weight()
		}
	}
	if total == 0 {
		return EgressSource{}, false
	}
	n := random(total)
	for i := range p.Sources {
		if !p.Sources[i].fits(server) {
			continue
		}
		if n -= p.Sources[i].weight(); n < 0 {
			return p.Sources[i], true
		}
	}
	return EgressSource{}, false
}

func (s *EgressSource) fits(server netip.Addr) bool {
	return !s.Address.IsValid() || s.Address.Is4() == server.Is4()
}

func (s *EgressSource) weight() int { return max(1, s.Weight) }

// CheckEgress says why mail cannot leave from an address: it is no address of
// this machine. It opens a socket there for a moment, and sends nothing.
func CheckEgress(a netip.Addr) error {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return fmt.Errorf("delivery: nothing can leave from %s: %s; give the address to an interface of this machine (ip address add), or take it out of the configuration", a, describe(err))
	}
	return conn.Close()
}

// way is where one attempt leaves from and how it introduces itself.
type way struct {
	from netip.Addr
	helo string
}

// way finds the source for a server in the pool that the attempt names.
func (d *journey) way(server netip.Addr) (way, error) {
	pool := &EgressPool{Name: d.Egress}
	if d.Egress == "" {
		for _, a := range d.Bind {
			pool.Sources = append(pool.Sources, EgressSource{Address: a})
		}
	} else {
		i := slices.IndexFunc(d.Pools, func(p EgressPool) bool { return p.Name == d.Egress })
		if i < 0 {
			return way{}, fmt.Errorf("there is no egress pool %q in the configuration", d.Egress)
		}
		pool = &d.Pools[i]
	}
	source, ok := pool.source(server, rand.IntN)
	if !ok {
		return way{}, fmt.Errorf("no egress address is of the family of %s", server)
	}
	w := way{from: source.Address, helo: d.Helo}
	for _, helo := range []string{pool.Helo, source.Helo} {
		if helo != "" {
			w.helo = helo
		}
	}
	return w, nil
}

// Family says which addresses of a host are used, and in which order.
type Family string

// The families. The zero Family is AnyFamily.
const (
	AnyFamily Family = "any" // both, taking turns
	OnlyV4    Family = "v4"
	OnlyV6    Family = "v6"
	PreferV4  Family = "prefer-v4"
	PreferV6  Family = "prefer-v6"
)

// arrange gives at most limit addresses of one host in the order in which they
// are tried. The addresses of a family come in random order. Without preference
// the families take turns, so that one without a way costs one attempt, not all
// (RFC 8305 section 4); with one, the other keeps a place at the end.
func (f Family) arrange(addrs []netip.Addr, limit int) []netip.Addr {
	var six, four []netip.Addr
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
	switch f {
	case OnlyV4:
		return four[:min(limit, len(four))]
	case OnlyV6:
		return six[:min(limit, len(six))]
	case PreferV4:
		return prefer(four, six, limit)
	case PreferV6:
		return prefer(six, four, limit)
	}
	return alternate(six, four, limit)
}

// prefer puts one family first.
func prefer(first, second []netip.Addr, limit int) []netip.Addr {
	if len(second) > 0 && len(first) >= limit {
		first = first[:limit-1]
	}
	all := slices.Concat(first, second)
	return all[:min(limit, len(all))]
}

// alternate lets the families take turns.
func alternate(first, second []netip.Addr, limit int) (mixed []netip.Addr) {
	for len(first)+len(second) > 0 && len(mixed) < limit {
		if len(first) > 0 {
			mixed, first = append(mixed, first[0]), first[1:]
		}
		first, second = second, first
	}
	return mixed
}
