package app

import (
	"net"
	"net/netip"
	"slices"

	"anechoic/control/config"
	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
)

// The pools that organisations cannot name: brackets are no part of a pool's name.
const (
	inboundPool  = "[inbound]"
	disownedPool = "[disowned]"
)

// egressPools are the pools of the configuration beside the default one.
func egressPools(c config.Config) []delivery.EgressPool {
	pools := []delivery.EgressPool{
		{Name: inboundPool, Sources: sourcesOf(c.Inbound.Bind)},
		{Name: disownedPool, Sources: sourcesOf(c.Disowned.Bind), Helo: c.Disowned.Domain.String()},
	}
	for _, p := range c.Delivery.Pools {
		pool := delivery.EgressPool{Name: p.Name, Helo: p.HELO.String()}
		for _, s := range p.Sources {
			pool.Sources = append(pool.Sources, delivery.EgressSource{Address: s.Address, Helo: s.HELO.String(), Weight: s.Weight})
		}
		pools = append(pools, pool)
	}
	return pools
}

func sourcesOf(bind []netip.Addr) (sources []delivery.EgressSource) {
	for _, a := range bind {
		sources = append(sources, delivery.EgressSource{Address: a})
	}
	return sources
}

// checkEgress refuses to start with an address that nothing can leave from: mail
// would wait for it, and nobody would know why.
func checkEgress(addresses []netip.Addr) error {
	for _, a := range addresses {
		if err := delivery.CheckEgress(a); err != nil {
			return err
		}
	}
	return nil
}

// family is which addresses of hosts are used: what the configuration says, and
// none that no egress address can reach.
func family(c config.Delivery) delivery.Family {
	egress := config.Config{Delivery: c}.Egress()
	is4 := func(a netip.Addr) bool { return a.Is4() }
	wanted := delivery.Family(c.IP)
	switch {
	case len(c.Bind) == 0, wanted == delivery.OnlyV4, wanted == delivery.OnlyV6:
	case !slices.ContainsFunc(egress, func(a netip.Addr) bool { return !is4(a) }):
		return delivery.OnlyV4
	case !slices.ContainsFunc(egress, is4):
		return delivery.OnlyV6
	}
	return wanted
}

// poolOf names the egress pool a message leaves from: that of the organisation
// it is proven to come from. What is not in an organisation's name leaves from
// addresses of its own. The relay's own mail leaves from the default pool.
func (a *App) poolOf(w custody.Warrant) string {
	var proven custody.Proven
	switch w := w.(type) {
	case custody.Inbound:
		return inboundPool
	case custody.Disowned:
		return disownedPool
	case custody.Proven:
		proven = w
	default:
		return ""
	}
	o, ok := a.directory.Load().Organisation(proven.Organisation())
	if !ok || o.Egress == config.DefaultPool {
		return ""
	}
	return o.Egress
}

// siteLimits is what a site takes, by the shaping file in force.
func (a *App) siteLimits(site string, domain mail.Domain) delivery.SiteLimits {
	return a.shaping.Load().For(site, domain)
}

// adviceOf is what an answer means for its site, by the shaping file in force.
func (a *App) adviceOf(site string, domain mail.Domain, r delivery.Result) delivery.Advice {
	return a.shaping.Load().Advise(site, domain, r)
}

// ownAddresses is where mail would come back to us. Who listens on every address
// listens on each of this machine.
func ownAddresses(listeners []string) (own []netip.AddrPort) {
	for _, l := range listeners {
		at, err := netip.ParseAddrPort(l)
		if err != nil {
			continue
		}
		own = append(own, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
		if at.Addr().IsUnspecified() {
			for _, a := range machineAddresses() {
				own = append(own, netip.AddrPortFrom(a, at.Port()))
			}
		}
	}
	return own
}

// machineAddresses lists the addresses of this machine's interfaces.
func machineAddresses() (list []netip.Addr) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil // then the loop rule knows us by our name only
	}
	for _, i := range interfaces {
		if p, err := netip.ParsePrefix(i.String()); err == nil {
			list = append(list, p.Addr().Unmap().WithZone(""))
		}
	}
	return list
}
