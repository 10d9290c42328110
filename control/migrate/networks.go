package migrate

import (
	"net/netip"
	"strconv"
	"strings"

	"anechoic/org"
)

// Shared is addresses that a provider's customers share: mail from there may be
// anybody's.
type Shared struct {
	Name   string
	Ranges []netip.Prefix
}

// microsoftRanges and googleRanges are what the written relay.toml begins with: an
// example as in docs/configuration.md; a feed or the operator keeps them current.
var (
	microsoftRanges  = []string{"40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "104.47.0.0/17", "2a01:111:f400::/48", "2a01:111:f403::/48"}
	microsoftExclude = []string{"40.95.0.0/16"} // relay pool
	googleRanges     = []string{
		"35.190.247.0/24", "64.233.160.0/19", "66.102.0.0/20", "66.249.80.0/20", "72.14.192.0/18", "74.125.0.0/16",
		"108.177.8.0/21", "173.194.0.0/16", "209.85.128.0/17", "216.58.192.0/19", "216.239.32.0/19",
		"2607:f8b0:4000::/36", "2a00:1450:4000::/36",
	}
)

// wellKnown are other senders with many customers behind the same addresses, by the
// SPF records they publish (amazonses.com, sendgrid.net, servers.mcsv.net) as of 2026.
// The list helps to find a mistake; that an address is not in it means nothing.
var wellKnown = []Shared{
	{"Microsoft 365", prefixes(append(microsoftRanges, microsoftExclude...)...)},
	{"Google", prefixes(googleRanges...)},
	{"Amazon SES", prefixes("199.255.192.0/22", "199.127.232.0/22", "54.240.0.0/18", "69.169.224.0/20", "23.249.208.0/20", "23.251.224.0/19", "76.223.176.0/20", "54.240.64.0/18", "76.223.128.0/19", "216.221.160.0/19", "206.55.144.0/20", "24.110.64.0/18")},
	{"SendGrid", prefixes("167.89.0.0/17", "208.117.48.0/20", "50.31.32.0/19", "198.37.144.0/20", "198.21.0.0/21", "192.254.112.0/20", "168.245.0.0/17", "149.72.0.0/16")},
	{"Mailchimp", prefixes("205.201.128.0/20", "198.2.128.0/18", "148.105.8.0/21")},
}

func prefixes(list ...string) (made []netip.Prefix) {
	for _, s := range list {
		made = append(made, netip.MustParsePrefix(s))
	}
	return made
}

// sharedBy names whose customers share some address of p.
func sharedBy(p netip.Prefix, lists ...[]Shared) string {
	for _, list := range lists {
		for _, s := range list {
			for _, r := range s.Ranges {
				if r.Overlaps(p) {
					return s.Name
				}
			}
		}
	}
	return ""
}

// SharedOf is the providers of a configuration, to look for beside those known here.
func SharedOf(p org.Providers) []Shared {
	return []Shared{
		{"Microsoft 365", append(append([]netip.Prefix(nil), p.Microsoft365.Ranges...), p.Microsoft365.Exclude...)},
		{"Google", append(append([]netip.Prefix(nil), p.Google.Ranges...), p.Google.Exclude...)},
	}
}

// The widest networks that can be one organisation's (docs/configuration.md).
const (
	widest4, widest6 = 28, 64
)

// wide says that a network has more addresses than one organisation's source can.
func wide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < widest4
	}
	return p.Bits() < widest6
}

// loopback says that a network is the machine itself.
func loopback(p netip.Prefix) bool { return p.Addr().IsLoopback() }

// Network is an item of a list of networks such as mynetworks.
type Network struct {
	Text   string
	Prefix netip.Prefix // zero: a name, or something else that is no address
	Not    bool         // it takes addresses out
	At     Place
}

// maxNesting is how deep lists name files of lists.
const maxNesting = 5

// networks reads a list of networks: addresses, files of them, tables.
func (f *files) networks(at Place, items []string, depth int) (list []Network) {
	for _, item := range items {
		text, not := strings.CutPrefix(item, "!")
		switch {
		case strings.HasPrefix(text, "/"):
			list = append(list, f.networkFile(at, text, not, depth)...)
		case isTable(text) && !strings.HasPrefix(text, "["):
			list = append(list, f.networkTable(at, text, not)...)
		default:
			list = append(list, Network{Text: text, Prefix: parseNetwork(text), Not: not, At: at})
		}
	}
	return list
}

func (f *files) networkFile(at Place, file string, not bool, depth int) (list []Network) {
	if depth >= maxNesting {
		f.unread = append(f.unread, Unread{At: at, What: printable(file), Why: "lists name each other more than 5 deep"})
		return nil
	}
	text, ok := f.read(at, file)
	if !ok {
		return nil
	}
	for _, l := range logicalLines(text) {
		for _, n := range f.networks(Place{file, l.number}, split(l.text), depth+1) {
			n.Not = n.Not != not
			list = append(list, n)
		}
	}
	return list
}

func (f *files) networkTable(at Place, spec string, not bool) (list []Network) {
	t := f.table(at, spec)
	if !t.Read {
		return []Network{{Text: t.String(), Not: not, At: at}}
	}
	for _, e := range t.Entries {
		key, exempt := strings.CutPrefix(e.Key, "!")
		list = append(list, Network{Text: key, Prefix: parseNetwork(key), Not: not || exempt, At: e.At})
	}
	return list
}

// parseNetwork reads 192.0.2.0/24, 192.0.2.1, [2001:db8::]/64 or [2001:db8::1]. An
// IPv4 network in IPv6 form is given as IPv4.
func parseNetwork(s string) netip.Prefix {
	s = strings.NewReplacer("[", "", "]", "").Replace(s)
	address, bits, masked := strings.Cut(s, "/")
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}
	}
	n := a.BitLen()
	if masked {
		if n, err = strconv.Atoi(bits); err != nil {
			return netip.Prefix{}
		}
	}
	if a.Is4In6() && n >= 96 {
		a, n = a.Unmap(), n-96
	}
	p, err := a.Prefix(n)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
