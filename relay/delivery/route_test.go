package delivery

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/mail/dns"
)

const routeZone = `{
 "plain.example":     {"MX": [[20, "mx2.plain.example"], [10, "mx1.plain.example"], [30, "mx3.plain.example"]]},
 "mx1.plain.example": {"A": ["192.0.2.11"]}, "mx2.plain.example": {"A": ["192.0.2.12"], "AAAA": ["2001:db8::12"]}, "mx3.plain.example": {"CNAME": "mx1.plain.example"},
 "nullmx.example":    {"MX": [[0, "."]]},
 "nullamong.example": {"MX": [[0, "."], [10, "mx1.plain.example"]]},
 "implicit.example":  {"A": ["192.0.2.20"], "AAAA": ["2001:db8::20"]},
 "nothing.example":   {"TXT": ["v=spf1 -all"]},
 "servfail.example":  {"FAULT": true},
 "literal.example":   {"MX": [[10, "192.0.2.1"]]},
 "deadhosts.example": {"MX": [[10, "gone.example"], [20, "nothing.example"]]},
 "halfdead.example":  {"MX": [[10, "gone.example"], [20, "mx1.plain.example"]]},
 "faulty.example":    {"MX": [[10, "servfail.example"], [20, "gone.example"]]},
 "halffault.example": {"MX": [[10, "servfail.example"], [20, "mx1.plain.example"]]},
 "loop.example":      {"MX": [[10, "relay.anechoic.test"]]},
 "backup.example":    {"MX": [[10, "mx1.plain.example"], [20, "relay.anechoic.test"], [20, "mx2.plain.example"], [30, "mx3.plain.example"]]},
 "byaddress.example": {"MX": [[10, "mx1.plain.example"], [20, "alias-of-us.example"], [30, "mx2.plain.example"]]},
 "alias-of-us.example": {"A": ["198.51.100.7"]}, "relay.anechoic.test": {"A": ["198.51.100.7"]},
 "implicitloop.example": {"A": ["198.51.100.7"]},
 "localhost.example": {"MX": [[10, "lo.example"]]}, "lo.example": {"A": ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255"], "AAAA": ["::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1"]},
 "mixed.example":     {"MX": [[10, "mixedhost.example"]]}, "mixedhost.example": {"A": ["127.0.0.1", "192.0.2.30"]},
 "google-like.example": {"MX": [[1, "aspmx.l.provider.example"], [5, "alt1.aspmx.l.provider.example"]]}, "aspmx.l.provider.example": {"A": ["192.0.2.40"]}, "alt1.aspmx.l.provider.example": {"A": ["192.0.2.41"]},
 "hog.example":       {"MX": [[1, "nosuch.l.provider.example"], [5, "mx.hog.example"]]}, "mx.hog.example": {"A": ["192.0.2.50"]},
 "own-mx.example":    {"MX": [[1, "own-mx.example"]], "A": ["192.0.2.60"]},
 "under_score.example": {"A": ["192.0.2.70"]}, "underscore.example": {"MX": [[10, "under_score.example"]]},
 "private.example":   {"MX": [[10, "inside.example"]]}, "inside.example": {"A": ["10.1.2.3", "192.168.1.1", "172.31.0.1", "100.64.0.1"], "AAAA": ["fd00::1", "64:ff9b::10.1.2.3", "2002:a01:203::1", "64:ff9b:1::1"]},
 "translated.example": {"MX": [[10, "nat64.example"]]}, "nat64.example": {"AAAA": ["64:ff9b::198.51.100.9"]},
 "six.example":       {"MX": [[10, "mx.six.example"]]}, "mx.six.example": {"AAAA": ["2001:db8::66"]},
 "aliasmx.example":   {"MX": [[10, "mx3.plain.example"], [20, "longalias.example"]]}, "longalias.example": {"CNAME": "mx3.plain.example"},
 "aliased.example":   {"CNAME": "plain.example"},
 "smartloop.example": {"A": ["198.51.100.7", "192.0.2.81"]},
 "smart.example":     {"A": ["192.0.2.80"], "AAAA": ["2001:db8::80"]}
}`

func testRouter(t testing.TB) *Router {
	t.Helper()
	zone, err := dns.ParseZone([]byte(routeZone))
	if err != nil {
		t.Fatal(err)
	}
	return &Router{Resolver: zone, Hostname: "relay.anechoic.test", Own: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.7:25")}}
}

func domain(t testing.TB, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// routeText is "site: host[addresses sorted] …", or the result.
func routeText(r Route, end *Result) string {
	if end != nil {
		return fmt.Sprintf("%s %s %s", end.Status, end.Enhanced, end.Reply)
	}
	s := r.Site + ":"
	for _, h := range r.Hosts {
		addrs := slices.Clone(h.Addresses)
		slices.SortFunc(addrs, netip.Addr.Compare)
		s += fmt.Sprintf(" %s%v", h.Name, addrs)
	}
	return s
}

func TestRoutes(t *testing.T) {
	for name, want := range map[string]string{
		"plain.example":        "plain.example: mx1.plain.example[192.0.2.11] mx2.plain.example[192.0.2.12 2001:db8::12] mx3.plain.example[192.0.2.11]",
		"nullmx.example":       "failed 5.1.10 the domain nullmx.example takes no mail (null MX)",
		"nullamong.example":    "plain.example: mx1.plain.example[192.0.2.11]",
		"implicit.example":     "implicit.example: implicit.example[192.0.2.20 2001:db8::20]",
		"nothing.example":      "failed 5.4.4 no mail exchanger of nothing.example has an address",
		"gone.example":         "failed 5.1.2 the domain gone.example does not exist",
		"servfail.example":     "deferred 4.4.3 the mail exchangers of servfail.example could not be looked up",
		"deadhosts.example":    "failed 5.4.4 no mail exchanger of deadhosts.example has an address",
		"halfdead.example":     "plain.example: mx1.plain.example[192.0.2.11]",
		"faulty.example":       "deferred 4.4.3 no mail exchanger of faulty.example could be looked up",
		"halffault.example":    "plain.example: mx1.plain.example[192.0.2.11]",
		"loop.example":         "failed 5.4.6 the mail exchanger of loop.example is this relay: mail for it would loop",
		"backup.example":       "plain.example: mx1.plain.example[192.0.2.11]",
		"byaddress.example":    "plain.example: mx1.plain.example[192.0.2.11]",
		"implicitloop.example": "failed 5.4.6 the mail exchanger of implicitloop.example is this relay: mail for it would loop",
		"localhost.example":    "failed 5.4.4 the mail exchangers of localhost.example have only addresses that no mail server has",
		"mixed.example":        "mixedhost.example: mixedhost.example[192.0.2.30]",
		"google-like.example":  "l.provider.example: aspmx.l.provider.example[192.0.2.40] alt1.aspmx.l.provider.example[192.0.2.41]",
		"hog.example":          "hog.example: mx.hog.example[192.0.2.50]",
		"own-mx.example":       "own-mx.example: own-mx.example[192.0.2.60]",
		"private.example":      "failed 5.4.4 the mail exchangers of private.example have only addresses that no mail server has",
		"translated.example":   "nat64.example: nat64.example[64:ff9b::c633:6409]",
		"six.example":          "six.example: mx.six.example[2001:db8::66]",
		"aliasmx.example":      "plain.example: mx3.plain.example[192.0.2.11] longalias.example[192.0.2.11]", // RFC 2181 section 10.3 forbids it; it works
		"aliased.example":      "plain.example: mx1.plain.example[192.0.2.11] mx2.plain.example[192.0.2.12 2001:db8::12] mx3.plain.example[192.0.2.11]",
		"underscore.example":   "under_score.example: under_score.example[192.0.2.70]",
	} {
		t.Run(name, func(t *testing.T) {
			router := testRouter(t)
			for range 20 { // what is shuffled may not matter
				if got := routeText(router.Route(t.Context(), domain(t, name))); got != want {
					t.Fatalf("got  %s\nwant %s", got, want)
				}
			}
		})
	}
}

// TestAnAddressIsNoExchanger: RFC 5321 section 5.1 wants a host name. Whether the
// resolver drops it or we do, nothing is sent there.
func TestAnAddressIsNoExchanger(t *testing.T) {
	route, end := testRouter(t).Route(t.Context(), domain(t, "literal.example"))
	if end == nil || len(route.Hosts) != 0 {
		t.Errorf("route %v", route)
	}
	if sorted, null := arrange([]mail.MX{{Host: "192.0.2.1"}, {Host: "a..b"}, {Host: "-a b"}, {Host: ""}}, func(int, func(int, int)) {}); len(sorted) != 0 || null {
		t.Errorf("%v, %v", sorted, null)
	}
}

func TestPrivateNetworksAreReachedWhereTheConfigurationSaysSo(t *testing.T) {
	r := testRouter(t)
	r.Private = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64")}
	if got := routeText(r.Route(t.Context(), domain(t, "private.example"))); !strings.HasPrefix(got, "inside.example: inside.example[10.1.2.3 ") {
		t.Error(got)
	}
	if _, end := r.Route(t.Context(), domain(t, "localhost.example")); end == nil {
		t.Error("loopback is no private network")
	}
}

func TestOnlyAddressesOfTheWantedFamilyAreUsed(t *testing.T) {
	for _, c := range []struct {
		family       Family
		domain, want string
	}{
		{OnlyV4, "plain.example", "plain.example: mx1.plain.example[192.0.2.11] mx2.plain.example[192.0.2.12] mx3.plain.example[192.0.2.11]"},
		{OnlyV6, "plain.example", "plain.example: mx2.plain.example[2001:db8::12]"},
		{OnlyV4, "six.example", "deferred 4.4.4 no mail exchanger of six.example has an address of the family that may be used"},
		{PreferV4, "six.example", "six.example: mx.six.example[2001:db8::66]"},
	} {
		r := testRouter(t)
		r.Family = c.family
		if got := routeText(r.Route(t.Context(), domain(t, c.domain))); got != c.want {
			t.Errorf("%s %s: %s", c.family, c.domain, got)
		}
	}
}

func TestASmartHostThatIsThisRelayEndsNothing(t *testing.T) {
	for in, want := range map[string]string{
		"198.51.100.7:25":      "deferred 4.4.6 the smart host 198.51.100.7 is this relay: mail for it would loop",
		"smartloop.example:25": "deferred 4.4.6 the smart host smartloop.example is this relay: mail for it would loop",
		"198.51.100.7:26":      "198.51.100.7:26: 198.51.100.7[198.51.100.7]",
	} {
		r := testRouter(t)
		r.SmartHost, _ = ParseSmartHost(in)
		if got := routeText(r.Route(t.Context(), domain(t, "plain.example"))); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestLoopbackIsForAnInternetOnOneMachine(t *testing.T) {
	r := testRouter(t)
	r.AllowLoopback, r.Port = true, 2599
	got := routeText(r.Route(t.Context(), domain(t, "localhost.example")))
	if got != "lo.example: lo.example[127.0.0.1 127.0.0.1 ::1]" {
		t.Error(got)
	}
	r.Own = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2525")} // ours, but not where mail goes
	if _, end := r.Route(t.Context(), domain(t, "localhost.example")); end != nil {
		t.Error(end)
	}
}

func TestExchangersOfEqualPreferenceTakeTurns(t *testing.T) {
	zone := &dns.Zone{}
	zone.SetMX("many.example", mail.MX{Preference: 10, Host: "a.many.example"}, mail.MX{Preference: 10, Host: "b.many.example"}, mail.MX{Preference: 5, Host: "best.many.example"})
	for i, h := range []string{"a", "b", "best"} {
		zone.SetAddresses(h+".many.example", netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
	}
	second := map[string]int{}
	for range 200 {
		route, end := (&Router{Resolver: zone}).Route(t.Context(), domain(t, "many.example"))
		if end != nil || route.Hosts[0].Name != "best.many.example" {
			t.Fatal(route, end)
		}
		second[route.Hosts[1].Name]++
	}
	if second["a.many.example"] < 50 || second["b.many.example"] < 50 {
		t.Errorf("%v", second)
	}
}

func TestFamiliesAlternateAndAreBounded(t *testing.T) {
	var addrs []netip.Addr
	for i := range 20 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	addrs = append(addrs, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.77"))
	got := AnyFamily.arrange(addrs, maxAddresses)
	if len(got) != maxAddresses || !got[0].Is6() || !got[1].Is4() || !got[2].Is4() {
		t.Error(got)
	}
}

func TestADomainWithManyHostsIsBounded(t *testing.T) {
	zone := &dns.Zone{}
	zone.Update("many.example", func(r *dns.Records) {
		for n := range 5000 {
			r.MX = append(r.MX, mail.MX{Preference: 10, Host: fmt.Sprintf("mx%d.many.example", n)})
		}
	})
	counter := &countingResolver{Resolver: zone}
	_, end := (&Router{Resolver: counter}).Route(t.Context(), domain(t, "many.example"))
	if end == nil || counter.n > maxHosts {
		t.Errorf("%v after %d look-ups", end, counter.n)
	}
}

type countingResolver struct {
	mail.Resolver
	n int
}

func (r *countingResolver) Addresses(ctx context.Context, name string) (mail.Answer[netip.Addr], error) {
	r.n++
	return r.Resolver.Addresses(ctx, name)
}

func TestSmartHostTakesEverything(t *testing.T) {
	for in, want := range map[string]string{
		"smart.example:2525":    "smart.example:2525: smart.example[192.0.2.80 2001:db8::80]",
		"192.0.2.1:25":          "192.0.2.1:25: 192.0.2.1[192.0.2.1]",
		"127.0.0.1:2599":        "127.0.0.1:2599: 127.0.0.1[127.0.0.1]",
		"[2001:db8::1]:25":      "2001:db8::1:25: 2001:db8::1[2001:db8::1]",
		"gone.example:25":       "deferred 4.4.3 the smart host gone.example has no address now",
		"servfail.example:25":   "deferred 4.4.3 the smart host servfail.example has no address now",
		"[::ffff:192.0.2.1]:25": "192.0.2.1:25: 192.0.2.1[192.0.2.1]",
	} {
		r := testRouter(t)
		var err error
		if r.SmartHost, err = ParseSmartHost(in); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := routeText(r.Route(t.Context(), domain(t, "nullmx.example"))); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	for _, bad := range []string{"smart.example", "smart.example:", ":25", "smart.example:0", "smart.example:65536", "smart.example:smtp", "192.0.2.1", "192.0.2.1:0", "2001:db8::1:25x", "a b:25", "smart.example:25:25"} {
		if s, err := ParseSmartHost(bad); err == nil || !strings.Contains(err.Error(), "host:port") {
			t.Errorf("%q: %v, %v", bad, s, err)
		}
	}
}

// FuzzRoute lets DNS answer anything: there is a bounded route with allowed
// addresses in order, or a result, never both.
func FuzzRoute(f *testing.F) {
	f.Add("mx1.example\x0010\x00mx2.example", []byte{192, 0, 2, 1, 127, 0, 0, 1})
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, hosts string, addresses []byte) {
		var r anyResolver
		for i, h := range strings.Split(hosts, "\x00") {
			r.mx = append(r.mx, mail.MX{Preference: uint16(i * 7 % 3), Host: h})
		}
		for ; len(addresses) >= 4; addresses = addresses[4:] {
			r.addrs = append(r.addrs, netip.AddrFrom4([4]byte(addresses)))
		}
		route, end := (&Router{Resolver: r, Hostname: "relay.anechoic.test"}).Route(t.Context(), domain(t, "x.example"))
		if (end == nil) != (len(route.Hosts) > 0) || end != nil && (end.Status != Deferred && end.Status != Failed || end.Enhanced == "" || end.Reply == "") {
			t.Fatalf("%v, %v", route, end)
		}
		if end == nil && route.Site == "" || len(route.Hosts) > maxHosts {
			t.Fatalf("site %q, %d hosts", route.Site, len(route.Hosts))
		}
		for _, h := range route.Hosts {
			if len(h.Addresses) == 0 || len(h.Addresses) > maxAddresses || h.Port != SMTPPort || !isHostName(h.Name) {
				t.Fatalf("host %v", h)
			}
			for _, a := range h.Addresses {
				if a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsPrivate() || a.IsLinkLocalUnicast() {
					t.Fatalf("address %s", a)
				}
			}
		}
	})
}

type anyResolver struct {
	mail.Resolver
	mx    []mail.MX
	addrs []netip.Addr
}

func (r anyResolver) MX(context.Context, string) (mail.Answer[mail.MX], error) {
	return mail.Answer[mail.MX]{Records: r.mx}, nil
}

func (r anyResolver) Addresses(context.Context, string) (mail.Answer[netip.Addr], error) {
	return mail.Answer[netip.Addr]{Records: r.addrs}, nil
}
