package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/standard/authres"
)

var (
	sender4 = netip.MustParseAddr("192.0.2.1")
	sender6 = netip.MustParseAddr("2001:db8::1")
)

// txt is a zone of TXT records.
func txt(records map[string]string) *dns.Zone {
	z := new(dns.Zone)
	for name, text := range records {
		z.SetTXT(name, text)
	}
	return z
}

func TestResultsSayWhatDecided(t *testing.T) {
	z := txt(map[string]string{
		"listed.example":     "v=spf1 ip4:192.0.2.0/24 -all",
		"refused.example":    "v=spf1 ip4:198.51.100.0/24 -all",
		"open.example":       "v=spf1 ip4:198.51.100.0/24",
		"far.example":        "v=spf1 redirect=listed.example",
		"near.example":       "v=spf1 ?include:listed.example ~all",
		"helo.example":       "v=spf1 exists:%{h}.example -all",
		"broken.example":     "v=spf1 ip4:192.0.2.0/24 ipv4:192.0.2.1",
		"local.example":      "v=spf1 exists:%{l}.users.example -all",
		"xn--br-via.example": "v=spf1 +all",
	})
	z.SetAddresses("postmaster.users.example", netip.MustParseAddr("127.0.0.2"))
	z.SetFault("fault.example", true)
	z.Set("nothing.example", dns.Records{})
	for name, c := range map[string]struct {
		from, helo string
		want       Result
	}{
		"listed":                         {"a@listed.example", "h.example", Result{Status: Pass, Domain: "listed.example", Mechanism: "ip4:192.0.2.0/24"}},
		"refused":                        {"a@refused.example", "h.example", Result{Status: Fail, Domain: "refused.example", Mechanism: "-all"}},
		"nothing said":                   {"a@open.example", "h.example", Result{Status: Neutral, Domain: "open.example", Mechanism: "default"}},
		"by redirect":                    {"a@far.example", "h.example", Result{Status: Pass, Domain: "far.example", Mechanism: "ip4:192.0.2.0/24", Lookups: 1}},
		"by include":                     {"a@near.example", "h.example", Result{Status: Neutral, Domain: "near.example", Mechanism: "?include:listed.example", Lookups: 1}},
		"the null sender is HELO's":      {"", "listed.example", Result{Status: Pass, Domain: "listed.example", ByHELO: true, Mechanism: "ip4:192.0.2.0/24"}},
		"no local part is postmaster":    {"@local.example", "h.example", Result{Status: Pass, Domain: "local.example", Mechanism: "exists:%{l}.users.example", Lookups: 1, Dependent: true}},
		"U-labels are looked up as such": {"a@bär.example", "h.example", Result{Status: Pass, Domain: "xn--br-via.example", Mechanism: "+all"}},
		"a local part outside ASCII matches nothing": {"jörg@local.example", "h.example", Result{Status: Fail, Domain: "local.example", Mechanism: "-all", Lookups: 1, Dependent: true}},
		"an error behind the match":                  {"a@broken.example", "h.example", Result{Status: PermError, Domain: "broken.example"}},
		"a domain without a record":                  {"a@nothing.example", "h.example", Result{Status: None, Domain: "nothing.example"}},
		"a domain that is not there":                 {"a@absent.example", "h.example", Result{Status: None, Domain: "absent.example"}},
		"a domain that cannot be asked":              {"a@fault.example", "h.example", Result{Status: TempError, Domain: "fault.example"}},
		"a literal":                                  {"a@[192.0.2.1]", "h.example", Result{Status: None, Domain: "[192.0.2.1]"}},
		"an address as HELO":                         {"", "192.0.2.1", Result{Status: None, Domain: "192.0.2.1", ByHELO: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Check(context.Background(), z, Request{IP: sender4, HELO: c.helo, MailFrom: c.from})
			decided := got.Status != None && got.Status != TempError && got.Status != PermError
			if (got.Err == nil) != decided {
				t.Errorf("%s with error %v", got.Status, got.Err)
			}
			got.Err = nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWithoutAnAddressNothingIsSaid(t *testing.T) {
	if got := Check(context.Background(), new(dns.Zone), Request{MailFrom: "a@t.example"}); got.Status != None || got.Err == nil {
		t.Errorf("%+v", got)
	}
}

// TestLookupsAreBounded counts the questions that hostile records lead to.
func TestLookupsAreBounded(t *testing.T) {
	z := txt(map[string]string{
		"loop.example":     "v=spf1 include:loop.example include:loop.example all",
		"forward.example":  "v=spf1 redirect=forward.example",
		"many.example":     "v=spf1" + strings.Repeat(" a:b.example", 11) + " all",
		"void.example":     "v=spf1 a:x.example a:y.example a:z.example all",
		"pointers.example": "v=spf1 ptr:t.example -all",
		"long.example":     "v=spf1 " + strings.Repeat("ip4:198.51.100.1 ", MaxRecord/16) + "all",
		"macros.example":   "v=spf1 exists:" + strings.Repeat("%{s}", 3000) + ".example all",
	})
	z.SetAddresses("b.example", netip.MustParseAddr("198.51.100.1"))
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("n%d.t.example", i))
	}
	z.SetPTR(sender4, names...)
	for _, c := range []struct {
		domain string
		want   Status
		most   int
	}{
		{"loop.example", PermError, 12}, {"forward.example", PermError, 12}, {"many.example", PermError, 12}, {"void.example", PermError, 5},
		{"pointers.example", Fail, 12}, {"long.example", PermError, 1}, {"macros.example", Pass, 2},
	} {
		t.Run(c.domain, func(t *testing.T) {
			counted := &counting{Resolver: z}
			got := Check(context.Background(), counted, Request{IP: sender4, HELO: "h.example", MailFrom: strings.Repeat("a", 64) + "@" + c.domain})
			if got.Status != c.want || counted.n > c.most || got.Lookups > MaxLookups+1 {
				t.Errorf("%s (%v) after %d questions, %d terms", got.Status, got.Err, counted.n, got.Lookups)
			}
		})
	}
}

// counting counts questions.
type counting struct {
	mail.Resolver
	n int
}

func (c *counting) TXT(ctx context.Context, name string) (mail.Answer[string], error) {
	c.n++
	return c.Resolver.TXT(ctx, name)
}

func (c *counting) Addresses(ctx context.Context, name string) (mail.Answer[netip.Addr], error) {
	c.n++
	return c.Resolver.Addresses(ctx, name)
}

func (c *counting) PTR(ctx context.Context, ip netip.Addr) (mail.Answer[string], error) {
	c.n++
	return c.Resolver.PTR(ctx, ip)
}

// TestSlowDNSEndsInTime: a resolver that never answers costs MaxTime, all look-ups
// together.
func TestSlowDNSEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		z := txt(map[string]string{"slow.example": "v=spf1 a:x.example a:y.example all"})
		got := Check(context.Background(), silent{z}, Request{IP: sender4, MailFrom: "a@slow.example"})
		if got.Status != TempError || !errors.Is(got.Err, context.DeadlineExceeded) || time.Since(start) != MaxTime {
			t.Errorf("%s (%v) after %s", got.Status, got.Err, time.Since(start))
		}
	})
}

// silent gives no addresses until it is told to stop.
type silent struct{ mail.Resolver }

func (silent) Addresses(ctx context.Context, _ string) (a mail.Answer[netip.Addr], err error) {
	<-ctx.Done()
	return a, ctx.Err()
}

func TestExplanationsAreHarmless(t *testing.T) {
	for name, c := range map[string]struct{ text, from, helo, want string }{
		"macros of explanations":  {"%{i} %{c} %{r} %{t} %{d} %%", "a@t.example", "h.example", "192.0.2.1 192.0.2.1 mx.example 1793534400 t.example %"},
		"a line end from outside": {"%{s}|%{h}", "a\r\n250 ok@t.example", "x\x00\u202ey", "a??250 ok@t.example|x??y"},
		"a record with one":       {"no\r\n250 ok", "a@t.example", "h.example", ""},
		"octets outside ASCII":    {"nö", "a@t.example", "h.example", ""},
		"a macro that is none":    {"%{x}", "a@t.example", "h.example", ""},
		"too long":                {strings.Repeat("%{s}", 100), "a@t.example", "h.example", strings.Repeat("a@t.example", 100)[:MaxExplanation]},
		"space":                   {"%_ %_", "a@t.example", "h.example", ""},
	} {
		t.Run(name, func(t *testing.T) {
			z := zone{
				"t.example":   {{rrtype: "TXT", text: "v=spf1 -all exp=why.example"}},
				"why.example": {{rrtype: "TXT", text: c.text}},
			}
			got := Check(context.Background(), z, Request{
				IP: sender4, HELO: c.helo, MailFrom: c.from, Receiver: "mx.example", Now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
			})
			if got.Status != Fail || got.Explanation != c.want {
				t.Errorf("%s %q, want %q", got.Status, got.Explanation, c.want)
			}
		})
	}
}

func TestIncludesFindsAddressesFromWhichADomainPasses(t *testing.T) {
	many := txt(map[string]string{
		"plain.example":   "v=spf1 ip4:192.0.2.0/24 -all",
		"soft.example":    "v=spf1 ip4:198.51.100.1 ~all",
		"broken.example":  "v=spf1 ipv4:192.0.2.1",
		"chosen.example":  "v=spf1 exists:%{l}.users.example -all",
		"greedy.example":  "v=spf1" + strings.Repeat(" a:b.example", 11) + " a:c.example -all",
		"partly.example":  "v=spf1 ip6:2001:db8::/32 include:fault.example -all",
		"nothing.example": "hello",
	})
	many.SetAddresses("b.example", netip.MustParseAddr("198.51.100.1"))
	many.SetAddresses("c.example", sender4)
	many.SetFault("fault.example", true)
	addresses := []netip.Addr{sender4, sender6, {}}
	for domain, want := range map[string][]Inclusion{
		"plain.example":   {Included, NotIncluded, Unknown},
		"soft.example":    {NotIncluded, NotIncluded, Unknown},
		"broken.example":  {NotIncluded, NotIncluded, Unknown},
		"chosen.example":  {Unknown, Unknown, Unknown},
		"greedy.example":  {Included, NotIncluded, Unknown},
		"partly.example":  {Unknown, Included, Unknown},
		"nothing.example": {NotIncluded, NotIncluded, Unknown},
		"absent.example":  {NotIncluded, NotIncluded, Unknown},
	} {
		t.Run(domain, func(t *testing.T) {
			d, err := mail.ParseDomain(domain)
			if err != nil {
				t.Fatal(err)
			}
			var got []Inclusion
			for i, l := range Includes(context.Background(), many, d, addresses) {
				if l.Address != addresses[i] {
					t.Errorf("answer %d is for %s", i, l.Address)
				}
				got = append(got, l.Inclusion)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResultsAreReportedInFields(t *testing.T) {
	z := txt(map[string]string{"t.example": "v=spf1 -all", "h.example": "v=spf1 +all", "broken.example": "v=spf1 x"})
	for name, c := range map[string]struct {
		q                Request
		result, received string
	}{
		"fail of MAIL FROM": {
			Request{IP: sender4, HELO: "h.example", MailFrom: "ada@t.example", Receiver: "mx.example"},
			"mx.example; spf=fail (sender ip is 192.0.2.1)\r\n smtp.mailfrom=ada@t.example",
			"fail (mx.example: the domain does not permit this host)\r\n receiver=mx.example; client-ip=192.0.2.1; envelope-from=\"ada@t.example\";\r\n helo=h.example; identity=mailfrom; mechanism=-all",
		},
		"pass of HELO": {
			Request{IP: sender6, HELO: "h.example", Receiver: "mx.example"},
			"mx.example; spf=pass (sender ip is 2001:db8::1)\r\n smtp.helo=h.example",
			"pass (mx.example: the domain permits this host)\r\n receiver=mx.example; client-ip=\"2001:db8::1\"; helo=h.example; identity=helo;\r\n mechanism=+all",
		},
		"an error": {
			Request{IP: sender4, HELO: "h.example", MailFrom: "ada@broken.example", Receiver: "mx.example"},
			"mx.example; spf=permerror (sender ip is 192.0.2.1)\r\n reason=\"the record of broken.example: term \\\"x\\\": there is no mechanism \\\"x\\\"\"\r\n smtp.mailfrom=ada@broken.example",
			"permerror\r\n (mx.example: what the domain publishes cannot be used) receiver=mx.example;\r\n client-ip=192.0.2.1; envelope-from=\"ada@broken.example\"; helo=h.example;\r\n identity=mailfrom;\r\n problem=\"the record of broken.example: term \\\"x\\\": there is no mechanism \\\"x\\\"\"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Check(context.Background(), z, c.q)
			if diff := cmp.Diff(c.result, authres.Results{ID: "mx.example", Methods: []authres.Result{got.AuthResult(c.q)}}.String()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.received, got.Received(c.q).String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
