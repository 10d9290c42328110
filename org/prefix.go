package org

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// The widest prefixes that can be written, in bits. Whoever needs more lists
// several; whoever wants "any address" cannot say so, not by halves either.
const (
	narrowest4, narrowest6 = 28, 64 // kind address (ARCHITECTURE 6): addresses of one organisation alone
	hybrid4, hybrid6       = 24, 64 // an organisation's own servers
	wide4, wide6           = 8, 32  // networks that prove nothing by themselves: a credential's lock, a server's inside, a balancer
)

// local6 is the IPv6 addresses that never come from the internet, however wide: for the
// inside of networks (RFC 4193), and for one link (RFC 4291 section 2.5.6), which
// servers such as Exchange name in their Received fields.
var local6 = []netip.Prefix{netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10")}

// ParsePrefix reads address/bits, written so that no bit after the prefix is set.
// It refuses what is wider than a network of one owner can be: below /8, and
// below /32 in IPv6 (fc00::/7 and fe80::/10 and their parts are taken). The error
// says what to write.
func ParsePrefix(s string) (netip.Prefix, error) { return parsePrefix(s, wide4, wide6) }

func parsePrefix(s string, bits4, bits6 int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
			return netip.Prefix{}, fmt.Errorf("%q has no length: write %s", s, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		}
		return netip.Prefix{}, fmt.Errorf("%q is no prefix: write addresses as 192.0.2.1/32 or 2001:db8::/64", s)
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 address in IPv6 form: write it as IPv4", s)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits set after its length: write %s or %s", s, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	switch {
	case p.Addr().Is4() && p.Bits() < bits4:
		return netip.Prefix{}, fmt.Errorf("%s is too wide: at most /%d can stand here", s, bits4)
	case p.Addr().Is4() || p.Bits() >= bits6 || bits6 == wide6 && slices.ContainsFunc(local6, within(p)):
		return p, nil
	case bits6 == wide6:
		return netip.Prefix{}, fmt.Errorf("%s is too wide: at most /%d can stand here, or what lies in fc00::/7 (unique local) or fe80::/10 (link-local)", s, bits6)
	}
	return netip.Prefix{}, fmt.Errorf("%s is too wide: at most /%d can stand here", s, bits6)
}

// within gives a function that says whether p lies in a prefix.
func within(p netip.Prefix) func(netip.Prefix) bool {
	return func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) }
}

// overlaps gives the first of several prefixes that shares an address with p.
func overlaps(p netip.Prefix, others []netip.Prefix) (netip.Prefix, bool) {
	for _, o := range others {
		if p.Overlaps(o) {
			return o, true
		}
	}
	return netip.Prefix{}, false
}

// claimedPrefix is a prefix that a source says is its organisation's.
type claimedPrefix struct {
	prefix netip.Prefix
	source *Source
	where  string
}

// hybrid says that the claim is to servers behind a tenant, which may also be
// sources of the same organisation.
func (c claimedPrefix) hybrid() bool { return c.source.Kind == Microsoft365 }

// conflicts says that two claims to the same address cannot both stand.
func (c claimedPrefix) conflicts(o claimedPrefix) bool {
	return c.source.Organisation != o.source.Organisation || !c.hybrid() && !o.hybrid()
}

// findConflicts gives each claim that overlaps another it conflicts with, with
// the other, in no particular order. Prefixes lie within each other or apart, so
// one pass over them in order of address finds what each lies in.
func findConflicts(claims []claimedPrefix) (pairs [][2]claimedPrefix) {
	sorted := slices.Clone(claims)
	slices.SortStableFunc(sorted, func(a, b claimedPrefix) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	var around []claimedPrefix
	for _, c := range sorted {
		for len(around) > 0 && !around[len(around)-1].prefix.Contains(c.prefix.Addr()) {
			around = around[:len(around)-1]
		}
		if i := slices.IndexFunc(around, c.conflicts); i >= 0 {
			pairs = append(pairs, [2]claimedPrefix{around[i], c})
		}
		around = append(around, c)
	}
	return pairs
}
