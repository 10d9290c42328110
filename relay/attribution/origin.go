package attribution

import (
	"net/netip"
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/org"
)

// providerOrigin is the truth table of origin classes for Microsoft 365. A
// refusal says why a hybrid message is none of the organisation's.
func providerOrigin(dir *org.Directory, s *org.Source, tenant string, e *HeaderEvidence) (Origin, *mail.Refusal) {
	entity, ok := e.Entity.once()
	switch {
	case ok && strings.EqualFold(entity, "Hosted") && isHosted(e):
		return Hosted, nil
	case ok && strings.EqualFold(entity, "HybridOnPrem"):
		return hybridOrigin(dir, s, tenant, e)
	}
	return Forwarded, nil
}

// isHosted holds for what a mailbox of the tenant wrote.
func isHosted(e *HeaderEvidence) bool {
	authAs, ok := e.AuthAs.once()
	adCheck := e.ADCheck.Count == 0 || e.ADCheck.Count == 1 && e.ADCheck.Value == "1"
	return ok && strings.EqualFold(authAs, "Internal") && adCheck &&
		e.ConnectingIP.Count == 0 && !e.Looped && !e.Resent
}

// hybridOrigin judges what a server of the organisation's handed to its tenant.
func hybridOrigin(dir *org.Directory, s *org.Source, tenant string, e *HeaderEvidence) (Origin, *mail.Refusal) {
	stamp, ok := e.ConnectingIP.once()
	if !ok {
		return Forwarded, nil
	}
	stampTenant, ip, ok := readConnectingIP(stamp)
	switch {
	case !ok || stampTenant != tenant:
		return Forwarded, nil
	case dir.IsEgress(ip):
		return Forwarded, mail.OwnEcho.Because("connecting address %s is our own egress", ip)
	case !org.Within(ip, s.HybridAddresses):
		return Forwarded, mail.HybridSourceUnknown.Because("connecting address %s is not in hybrid_addresses of source %s", ip, s.ID)
	case e.Resent || e.XForwarded || e.DeliveredTo || e.ListID || e.Looped:
		return Forwarded, nil
	case enteredFromOutside(belowProvider(e.Hops), s, ip):
		return Forwarded, nil
	}
	return Hybrid, nil
}

// readConnectingIP reads "TenantId=<guid>;Ip=[<address>];Helo=[<name>]". Each of
// the first two stands exactly once.
func readConnectingIP(v string) (tenant string, ip netip.Addr, ok bool) {
	tenants, ips := 0, 0
	for part := range strings.SplitSeq(v, ";") {
		name, value, _ := strings.Cut(part, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "tenantid":
			tenant = strings.ToLower(strings.TrimSpace(value))
			tenants++
		case "ip":
			value = strings.TrimSpace(value)
			a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(value, "["), "]"))
			if err != nil {
				return "", netip.Addr{}, false
			}
			ip = a.WithZone("").Unmap()
			ips++
		}
	}
	return tenant, ip, tenants == 1 && ips == 1
}

// providerHosts end the names of the servers that write the provider's own
// Received fields.
var providerHosts = []string{".outlook.com", ".outlook.office365.com", ".exchangelabs.com"}

// ByProvider says that a Received field names one of the provider's servers as its
// writer. It is worth as much as who wrote the field.
func (h Hop) ByProvider() bool {
	return slices.ContainsFunc(providerHosts, func(suffix string) bool { return strings.HasSuffix(h.By, suffix) })
}

// belowProvider gives the hops below those the provider wrote itself: from the
// hybrid server's own downwards.
func belowProvider(hops []Hop) []Hop {
	for i, h := range hops {
		if !h.ByProvider() {
			return hops[i:]
		}
	}
	return nil
}

// enteredFromOutside says that a hop records entry from an address that is
// neither in the source's internal networks nor one of its own servers. A hop
// that came from another host without saying from where is outside: what is not
// known is not the organisation's.
func enteredFromOutside(hops []Hop, s *org.Source, own netip.Addr) bool {
	for _, h := range hops {
		if !h.Over {
			continue
		}
		if !h.From.IsValid() || !h.From.IsLoopback() && h.From != own && !org.Within(h.From, s.Internal) && !isServer(s, h.From) {
			return true
		}
	}
	return false
}

// isServer says that an address is one of an address source's servers.
func isServer(s *org.Source, a netip.Addr) bool {
	return s.Kind == org.Address && org.Within(a, s.Addresses)
}

// maxApplicationHops is how many Received fields an application that writes its
// own mail can have collected: its own and its submission agent's.
const maxApplicationHops = 2

// ownOrigin is the origin class for sources that are no provider's.
func ownOrigin(s *org.Source, peer netip.Addr, e *HeaderEvidence) Origin {
	if s.Role == org.Server {
		if enteredFromOutside(e.Hops, s, peer) {
			return Forwarded
		}
		return Hosted
	}
	if e.Resent || e.Sealed || e.DeliveredTo || e.ListID || e.Authres || len(e.Hops) > maxApplicationHops {
		return Forwarded
	}
	return Hosted
}
