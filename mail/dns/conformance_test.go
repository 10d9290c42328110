package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"anechoic/mail"
)

// conformanceZone has one name for each situation.
const conformanceZone = `{
 "text.example":  {"TXT": ["one", ["t", "w", "o"], "with \"quotes\", \\ and \u0000"]},
 "long.example":  {"TXT": ["LONG"]},
 "host.example":  {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
 "four.example":  {"A": ["192.0.2.4"]},
 "mail.example":  {"MX": [[10, "mx1.example"], [20, "MX2.example."]]},
 "null.example":  {"MX": [[0, ""]]},
 "odd-mx.example": {"MX": [[10, "mx1.example"], [20, "not a host"], [30, "192.0.2.1"]]},
 "bad-mx.example": {"MX": [[10, "not a host"]]},
 "bad-alias.example": {"CNAME": "a(b).example"},
 "alias.example": {"CNAME": "again.example"},
 "again.example": {"CNAME": "Host.Example."},
 "lost.example":  {"CNAME": "nowhere.example"},
 "loop.example":  {"CNAME": "pool.example"},
 "pool.example":  {"CNAME": "loop.example"},
 "to-nothing.example": {"CNAME": "empty.example"},
 "empty.example": {},
 "broken.example": {"FAULT": true},
 "half.example":  {"A": ["192.0.2.5"], "TXT": ["still here"], "FAULT": {"code": "ESERVFAIL", "type": "AAAA"}},
 "almost.example": {"TXT": ["still here"], "FAULT": {"except": ["TXT"]}},
 "to-broken.example": {"CNAME": "broken.example"},
 "_25._tcp.mx1.example": {"TLSA": [[3, 1, 1, "00ff"]]},
 "we+ird=name;(x).example": {"TXT": ["found"]},
 "1.2.0.192.in-addr.arpa": {"PTR": ["host.example", "Other.example."]},
 "3.2.0.192.in-addr.arpa": {"PTR": ["<script>.example", "a b"]},
 "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": {"PTR": ["six.example"]}
}`

func zoneForTest(t testing.TB) *Zone {
	t.Helper()
	z, err := ParseZone([]byte(conformanceZone))
	if err != nil {
		t.Fatal(err)
	}
	z.SetTXT("long.example", strings.Repeat("0123456789", 100))
	return z
}

func serve(t testing.TB, z *Zone) *Server {
	t.Helper()
	s, err := z.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func client(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestResolversGiveTheSame asks a Zone itself and a Client over the network.
func TestResolversGiveTheSame(t *testing.T) {
	z := zoneForTest(t)
	over := client(t, Options{Servers: []string{serve(t, z).Addr()}})
	for name, r := range map[string]mail.Resolver{"zone": z, "client": over} {
		t.Run(name, func(t *testing.T) { conforms(t, r) })
	}
}

func conforms(t *testing.T, r mail.Resolver) {
	ctx := context.Background()
	none, broken := mail.ErrNoDomain, errServer
	txt := func(name string) (any, error) { a, err := r.TXT(ctx, name); return a.Records, err }
	mx := func(name string) (any, error) {
		a, err := r.MX(ctx, name)
		slices.SortFunc(a.Records, func(a, b mail.MX) int { return int(a.Preference) - int(b.Preference) })
		return a.Records, err
	}
	addr := func(name string) (any, error) { a, err := r.Addresses(ctx, name); return a.Records, err }
	ptr := func(ip string) (any, error) { a, err := r.PTR(ctx, netip.MustParseAddr(ip)); return a.Records, err }
	cname := func(name string) (any, error) { a, err := r.CNAME(ctx, name); return a.Records, err }
	tlsa := func(name string) (any, error) { a, err := r.TLSA(ctx, name); return a.Records, err }
	ips := func(s ...string) (l []netip.Addr) {
		for _, a := range s {
			l = append(l, netip.MustParseAddr(a))
		}
		return l
	}
	anyError := errors.New("any failure")
	host := ips("192.0.2.1", "192.0.2.2", "2001:db8::1")
	for _, tt := range []struct {
		story string
		ask   func(string) (any, error)
		name  string
		want  any
		err   error
	}{
		{"texts are joined and raw", txt, "text.example", []string{"one", "two", "with \"quotes\", \\ and \x00"}, nil},
		{"a long text is whole", txt, "long.example", []string{strings.Repeat("0123456789", 100)}, nil},
		{"case and last dot do not matter", txt, "Long.Example.", []string{strings.Repeat("0123456789", 100)}, nil},
		{"specials in a name are asked as they are", txt, "we+ird=name;(x).example", []string{"found"}, nil},
		{"both families", addr, "host.example", host, nil},
		{"one family", addr, "four.example", ips("192.0.2.4"), nil},
		{"aliases are followed", addr, "alias.example", host, nil},
		{"an alias to nowhere", addr, "lost.example", nil, none},
		{"an alias to a name without records", txt, "to-nothing.example", []string(nil), nil},
		{"an alias to a fault", txt, "to-broken.example", nil, broken},
		{"a loop of aliases", addr, "loop.example", nil, anyError},
		{"an alias itself", cname, "alias.example", []string{"again.example"}, nil},
		{"an alias that ends in an exotic name", cname, "bad-alias.example", nil, anyError},
		{"no alias", cname, "host.example", []string(nil), nil},
		{"exchangers", mx, "mail.example", []mail.MX{{Preference: 10, Host: "mx1.example"}, {Preference: 20, Host: "mx2.example"}}, nil},
		{"the null exchanger", mx, "null.example", []mail.MX{{}}, nil},
		{"no exchanger", mx, "host.example", []mail.MX(nil), nil},
		{"exchangers that are no hosts are dropped", mx, "odd-mx.example", []mail.MX{{Preference: 10, Host: "mx1.example"}}, nil},
		{"no exchanger is left", mx, "bad-mx.example", nil, anyError},
		{"names of an address", ptr, "192.0.2.1", []string{"host.example", "other.example"}, nil},
		{"names of a mapped address", ptr, "::ffff:192.0.2.1", []string{"host.example", "other.example"}, nil},
		{"names of an IPv6 address", ptr, "2001:db8::1", []string{"six.example"}, nil},
		{"names that are no host names are dropped", ptr, "192.0.2.3", []string(nil), nil},
		{"no names", ptr, "192.0.2.9", nil, none},
		{"associations", tlsa, "_25._tcp.mx1.example", []mail.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: []byte{0, 255}}}, nil},
		{"an absent name", txt, "absent.example", nil, none},
		{"a name without records", txt, "empty.example", []string(nil), nil},
		{"a fault", txt, "broken.example", nil, broken},
		{"a fault of the other family", addr, "half.example", nil, broken},
		{"a fault of another type", txt, "half.example", []string{"still here"}, nil},
		{"a fault of all other types", mx, "almost.example", nil, broken},
		{"a fault of all types but this", txt, "almost.example", []string{"still here"}, nil},
		{"the empty name", txt, "", nil, none},
		{"an empty label", txt, "a..example", nil, none},
		{"a label of 64 octets", txt, strings.Repeat("a", 64) + ".example", nil, none},
		{"a name of 254 octets", txt, strings.Repeat("a.", 123) + "examples", nil, none},
		{"a NUL", txt, "selector._domainkey.attack.example.\x00.any", nil, none},
		{"a space", txt, "a b.example", nil, none},
		{"a U-label", txt, "bücher.example", nil, none},
	} {
		t.Run(tt.story, func(t *testing.T) {
			got, err := tt.ask(tt.name)
			switch {
			case tt.err == anyError && (err == nil || errors.Is(err, none)):
				t.Errorf("%v, %v; want a failure", got, err)
			case tt.err == broken && (err == nil || errors.Is(err, none)):
				t.Errorf("%v, %v; want %v", got, err, broken)
			case tt.err == none && !errors.Is(err, none):
				t.Errorf("%v, %v; want %v", got, err, none)
			case tt.err == nil && err != nil:
				t.Error(err)
			case tt.err == nil:
				if d := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestReverseNames(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.255":        "255.2.0.192.in-addr.arpa",
		"::ffff:104.47.0.1":  "1.0.47.104.in-addr.arpa",
		"2a01:111:f400::7%x": "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.f.1.1.1.0.1.0.a.2.ip6.arpa",
	} {
		if got := ReverseName(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %s, want %s", ip, got, want)
		}
	}
}

func TestTheAuthenticBitIsPassedOnOnlyIfTrusted(t *testing.T) {
	z := zoneForTest(t)
	z.SetAuthentic(true)
	at := serve(t, z).Addr()
	for _, trust := range []bool{false, true} {
		c := client(t, Options{Servers: []string{at}, TrustAD: trust})
		for range 2 { // from the server, from the cache
			a, err := c.Addresses(context.Background(), "alias.example")
			if err != nil || a.Authentic != trust {
				t.Errorf("TrustAD %v: authentic %v, %v", trust, a.Authentic, err)
			}
		}
		if _, err := c.TXT(context.Background(), "absent.example"); !errors.Is(err, mail.ErrNoDomain) {
			t.Error(err)
		}
	}
	z.SetAuthentic(false)
	c := client(t, Options{Servers: []string{at}, TrustAD: true})
	if a, err := c.TXT(context.Background(), "text.example"); err != nil || a.Authentic {
		t.Errorf("authentic without the bit: %v", err)
	}
}

func TestAnswersBelongToTheCaller(t *testing.T) {
	z := zoneForTest(t)
	z.SetTTL(1e12)
	c := client(t, Options{Servers: []string{serve(t, z).Addr()}})
	for range 2 {
		a, err := c.TLSA(context.Background(), "_25._tcp.mx1.example")
		if err != nil || fmt.Sprintf("%x", a.Records[0].Data) != "00ff" {
			t.Fatalf("%x, %v", a.Records, err)
		}
		a.Records[0].Data[1] = 0 // must not reach the cache
	}
}
