package app

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"anechoic/control/config"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
)

// traceNow is after everything in the examples.
var traceNow = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

const tracedRegistry = `[[organisation]]
id = "acme"
[[organisation.domain]]
name = "acme.test"
dkim = [ { selector = "an1", algorithm = "ed25519" } ]
[[organisation.source]]
id = "servers"
kind = "address"
role = "server"
internal = ["10.0.0.0/8"]
addresses = ["192.0.2.1/32"]
from = ["*@acme.test"]
[[organisation.source]]
id = "office"
kind = "microsoft365"
tenant_ids = ["11111111-1111-4111-8111-111111111111"]
originator_orgs = ["acme.test"]
secret_header = { name = "X-Acme-Relay-Key", sha256 = ["2aa8b41ad611c777b1d4376b32dc4bd6ddcde4046869e886ad679d519497cd49"] }
`

// traced is what a trace needs: a node, its registry, and a DNS.
func traced(t testing.TB) (config.Config, *org.Directory, *dns.Zone) {
	t.Helper()
	c := config.Default()
	c.Hostname, _ = mail.ParseDomain("relay.test")
	reg, problems := org.ParseRegistry("registry.toml", []byte(tracedRegistry))
	providers := org.Providers{Microsoft365: org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("40.107.0.0/16")}}}
	dir, more, _ := org.Build(reg, providers, nil, 1, traceNow)
	if len(problems)+len(more) > 0 {
		t.Fatal(problems, more)
	}
	zone := &dns.Zone{}
	zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=acme")
	zone.SetPTR(netip.MustParseAddr("40.107.1.1"), "mail-1.outbound.protection.outlook.com")
	zone.SetAddresses("mail-1.outbound.protection.outlook.com", netip.MustParseAddr("40.107.1.1"))
	return c, dir, zone
}

func trace(t testing.TB, q TraceQuestion) Trace {
	t.Helper()
	c, dir, zone := traced(t)
	got, err := TraceMessage(t.Context(), c, dir, zone, q, traceNow)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const (
	ownMessage      = "From: ann@acme.test\nTo: bob@example.org\nSubject: hello\n\nHello\n"
	ourField        = "Received: from mx (\t[192.0.2.1])\n\tby relay.test with ESMTPS id 2al274bqphlahvjvb252eqy6ao;\n\tSun, 22 Nov 2026 08:00:00 +0000\n"
	strangersStamps = "X-MS-Exchange-CrossTenant-Id: 99999999-9999-4999-8999-999999999999\nX-OriginatorOrg: rogue.test\n"
)

func TestAFileAloneProvesNothing(t *testing.T) {
	got := trace(t, TraceQuestion{Text: []byte(ownMessage)})
	if got.Verdict.WouldPass || got.Verdict.Reason != mail.ReasonRelayDenied || got.Ours != "" || got.ClaimedOrg != "acme" {
		t.Errorf("without a peer it is %+v", got)
	}
	if !slices.ContainsFunc(got.Assumed, func(s string) bool { return strings.Contains(s, "say --peer") }) {
		t.Errorf("nothing says what to do: %q", got.Assumed)
	}
}

func TestWhatIsSaidBesideAFileIsJudgedWithIt(t *testing.T) {
	got := trace(t, TraceQuestion{Text: []byte(ownMessage), Peer: netip.MustParseAddr("192.0.2.1")})
	if v := got.Verdict; !v.WouldPass || v.Organisation != "acme" || v.Source != "servers" {
		t.Errorf("from the organisation's server it is %+v", v)
	}
	got = trace(t, TraceQuestion{Text: []byte(strangersStamps + ownMessage), Peer: netip.MustParseAddr("40.107.1.1")})
	if v := got.Verdict; v.WouldPass || v.Reason != mail.ReasonTenantNotAuthorized {
		t.Errorf("from a stranger's tenant it is %+v", v)
	}
	if !slices.ContainsFunc(got.Evidence, func(s string) bool { return strings.Contains(s, "99999999") }) {
		t.Errorf("the tenant is not shown: %q", got.Evidence)
	}
	got = trace(t, TraceQuestion{Text: []byte(ownMessage), Peer: netip.MustParseAddr("192.0.2.1"), MailFrom: "eve@example.org"})
	if v := got.Verdict; v.WouldPass || v.Reason != mail.ReasonSenderNotOwned {
		t.Errorf("with a stranger's sender it is %+v", v)
	}
}

// The peer in our own field counts for the question; it is marked as claimed unless
// the ledger says so too.
func TestAHopIsSeenOnlyIfTheLedgerSaysSoToo(t *testing.T) {
	q := TraceQuestion{Text: []byte(ourField + ownMessage)}
	got := trace(t, q)
	if got.Ours != Claimed || got.Path[0].Standing != Claimed || !got.Verdict.WouldPass {
		t.Errorf("without a ledger it is %+v", got)
	}
	peer := netip.MustParseAddr("192.0.2.1")
	q.Ledger = func(_ context.Context, id mail.ID) ([]ledger.Fact, error) {
		return []ledger.Fact{{ID: id, Event: ledger.Accepted, Peer: peer}}, nil
	}
	if got = trace(t, q); got.Ours != Seen || got.Path[0].Standing != Seen {
		t.Errorf("with the ledger it is %+v", got)
	}
	peer = netip.MustParseAddr("198.51.100.9")
	if got = trace(t, q); got.Path[0].Standing != Claimed {
		t.Errorf("the ledger knows another peer, and the hop is %v", got.Path[0].Standing)
	}
}

func TestASignatureThatDoesNotVerifyIsDisproven(t *testing.T) {
	signed := "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=acme.test; s=an1; h=from; bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA\n" + ownMessage
	got := trace(t, TraceQuestion{Text: []byte(signed)})
	if len(got.Signatures) != 1 || got.Signatures[0].Standing == Vouched || got.Signatures[0].Ours != "acme" || got.Ours != "" {
		t.Errorf("it is %+v", got)
	}
}

func TestWhatIsNoMessageIsSaidToBeNone(t *testing.T) {
	c, dir, zone := traced(t)
	for _, text := range []string{"", "\n\n", "hello there\n", strings.Repeat("X: y\n", 100000)} {
		if _, err := TraceMessage(t.Context(), c, dir, zone, TraceQuestion{Text: []byte(text)}, traceNow); err == nil || !strings.Contains(err.Error(), ".eml") {
			t.Errorf("%.20q is a message: %v", text, err)
		}
	}
}

// FuzzTrace: whatever stands in a file, without a peer and a ledger nothing in it is
// believed.
func FuzzTrace(f *testing.F) {
	for _, seed := range []string{ownMessage, ourField + ownMessage, strangersStamps + ownMessage, "Received: by relay.test id 2al274bqphlahvjvb252eqy6ao\nFrom: <a@acme.test>\n\n", "Return-Path: <>\nFrom: a@acme.test\nARC-Seal: i=1; a=rsa-sha256; d=x.test; s=a; cv=none; b=AA==\n\n"} {
		f.Add([]byte(seed))
	}
	c, dir, zone := traced(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := TraceMessage(t.Context(), c, dir, zone, TraceQuestion{Text: text, Peer: netip.MustParseAddr("203.0.113.9")}, traceNow)
		if err != nil {
			return
		}
		if got.Verdict.WouldPass || got.Ours == Seen || got.Ours == Vouched {
			t.Errorf("a stranger's file gives %+v", got)
		}
		for _, h := range got.Path {
			if h.Standing != Claimed {
				t.Errorf("a hop is %s, and there is no ledger", h.Standing)
			}
		}
	})
}
