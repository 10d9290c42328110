package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/smtpd"
)

func TestAPeersNameIsConfirmedBothWays(t *testing.T) {
	peer := netip.MustParseAddr("40.107.1.2")
	const name = "mail-x.outbound.protection.outlook.com"
	for what, c := range map[string]struct {
		set  func(*dns.Zone)
		want attribution.PeerName
	}{
		"both ways":                  {func(z *dns.Zone) { z.SetPTR(peer, name); z.SetAddresses(name, peer) }, attribution.PeerNameConfirmed},
		"in capitals":                {func(z *dns.Zone) { z.SetPTR(peer, strings.ToUpper(name)); z.SetAddresses(name, peer) }, attribution.PeerNameConfirmed},
		"no PTR":                     {func(z *dns.Zone) {}, attribution.PeerNameUnconfirmed},
		"another name":               {func(z *dns.Zone) { z.SetPTR(peer, "vps.example"); z.SetAddresses("vps.example", peer) }, attribution.PeerNameUnconfirmed},
		"a name that ends alike":     {func(z *dns.Zone) { z.SetPTR(peer, "x.evil-outbound.protection.outlook.com") }, attribution.PeerNameUnconfirmed},
		"a name that goes on":        {func(z *dns.Zone) { z.SetPTR(peer, name+".evil.example"); z.SetAddresses(name+".evil.example", peer) }, attribution.PeerNameUnconfirmed},
		"the name lacks the address": {func(z *dns.Zone) { z.SetPTR(peer, name); z.SetAddresses(name, netip.MustParseAddr("40.107.9.9")) }, attribution.PeerNameUnconfirmed},
		"the name does not exist":    {func(z *dns.Zone) { z.SetPTR(peer, name) }, attribution.PeerNameUnconfirmed},
		"PTR fails":                  {func(z *dns.Zone) { z.SetFault(dns.ReverseName(peer), true) }, attribution.PeerNameFailed},
		"the address fails":          {func(z *dns.Zone) { z.SetPTR(peer, name); z.SetFault(name, true) }, attribution.PeerNameFailed},
		"one of two names is right":  {func(z *dns.Zone) { z.SetPTR(peer, "vps.example", name); z.SetAddresses(name, peer) }, attribution.PeerNameConfirmed},
		"a failure, then a right one": {func(z *dns.Zone) {
			bad := "b" + name
			z.SetPTR(peer, bad, name)
			z.SetFault(bad, true)
			z.SetAddresses(name, peer)
		}, attribution.PeerNameConfirmed},
	} {
		t.Run(what, func(t *testing.T) {
			z := &dns.Zone{}
			c.set(z)
			if got := confirmPeer(context.Background(), z, peer); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestReceivedTellsWhatWasSeenAndNothingAStrangerWrote(t *testing.T) {
	tx := &smtpd.Transaction{ID: "id", Session: &smtpd.Session{Helo: "mail.acme.test", EHLO: true, Peer: netip.MustParseAddrPort("192.0.2.7:1234")}}
	got := string(received("relay.test", tx, noon).Raw())
	want := "Received: from mail.acme.test ([192.0.2.7])\r\n\tby relay.test with ESMTP id id;\r\n\tSun, 22 Nov 2026 12:00:00 +0000\r\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, helo := range []string{"[10.1.1.1]", "x (forged [10.0.0.1])", "a;b", "evil\r\nX: y", "", "localhost.", "with esmtp"} {
		tx.Session.Helo = helo
		tx.Session.Peer = netip.MustParseAddrPort("[2001:db8::1]:1")
		tx.Session.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
		got := string(received("relay.test", tx, noon).Raw())
		if !strings.HasPrefix(got, "Received: from unknown ([IPv6:2001:db8::1])\r\n") || !strings.Contains(got, "(TLS 1.3 TLS_AES_128_GCM_SHA256)") {
			t.Errorf("HELO %q gave %q", helo, got)
		}
	}
}

func TestReceivedSaysThatAddressesAreUTF8(t *testing.T) {
	tx := &smtpd.Transaction{ID: "id", Session: &smtpd.Session{Helo: "mail.acme.test", EHLO: true, Peer: netip.MustParseAddrPort("192.0.2.7:1234")}}
	tx.Envelope.UTF8 = true
	if got := string(received("relay.test", tx, noon).Raw()); !strings.Contains(got, " with UTF8SMTP id id;") {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsNoMessageByItselfIsRefused(t *testing.T) {
	in := &intake{maxHops: 50}
	for name, c := range map[string]struct {
		header string
		limits mail.HeaderLimits
		want   *mail.Refusal
	}{
		"fifty hops":             {strings.Repeat("Received: x\r\n", 50), mail.HeaderLimits{}, nil},
		"fifty-one hops":         {strings.Repeat("Received: x\r\n", 25) + strings.Repeat("RECEIVED: x\r\n", 26), mail.HeaderLimits{}, mail.TooManyHops},
		"fields over the limit":  {strings.Repeat("X: y\r\n", 11), mail.HeaderLimits{Fields: 10}, mail.HeaderTooBig},
		"octets over the limit":  {strings.Repeat("X: y\r\n", 11), mail.HeaderLimits{Bytes: 60}, mail.HeaderTooBig},
		"a line over the limit":  {"X: " + strings.Repeat("y", 996) + "\r\n", mail.HeaderLimits{}, mail.LineTooLong},
		"a name without a colon": {"X\r\n", mail.HeaderLimits{}, mail.HeaderSyntax},
		"a spaced stamp":         {"X-OriginatorOrg : a.test\r\n", mail.HeaderLimits{}, mail.AttributionAmbiguous},
	} {
		r := &smtpd.Received{RawHeader: []byte(c.header)}
		r.Header, r.HeaderErr = mail.ParseHeader(r.RawHeader, c.limits)
		got := in.judgeHeader(r)
		if (got == nil) != (c.want == nil) || got != nil && got.Text() != c.want.Text() {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// factsOf reads what stands in a ledger.
func factsOf(t *testing.T, e ledger.Scanner) (facts []ledger.Fact) {
	t.Helper()
	if err := ledger.Read(context.Background(), e, 0, func(f ledger.Fact) bool { facts = append(facts, f); return true }); err != nil {
		t.Fatal(err)
	}
	return facts
}

func TestAFloodOfRefusalsIsCountedNotWritten(t *testing.T) {
	e := memory.New()
	r := newRecorder(e, slog.New(slog.DiscardHandler))
	fact := ledger.Fact{ID: "one", Time: noon, Peer: outside, ClaimedOrg: "acme"}
	for range refusalsWritten + 1000 {
		r.refused(fact, mail.TenantNotAuthorized.Because("tenant x"))
	}
	other := ledger.Fact{ID: "two", Time: noon, Peer: inside, ClaimedOrg: "acme"}
	r.refused(other, mail.LookupFailed)
	if n := len(factsOf(t, e)); n != refusalsWritten+1 {
		t.Fatalf("%d facts were written, want %d and the other peer's", n, refusalsWritten)
	}
	r.flush(noon.Add(refusalSpan), false)
	facts := factsOf(t, e)
	last := facts[len(facts)-1]
	if last.Count != 1000 || last.Reason != mail.ReasonTenantNotAuthorized || last.ClaimedOrg != "acme" || last.Peer != outside {
		t.Errorf("the flood was summed up as %+v", last)
	}
	if f := facts[0]; f.Event != ledger.Refused || f.Disposition != ledger.DispositionRefused || f.Identity != ledger.Unproven || !strings.Contains(f.Reply, "[TENANT_NOT_AUTHORIZED id=one]") || f.Detail != "tenant x" {
		t.Errorf("a refusal was written as %+v", f)
	}
	if f := facts[refusalsWritten]; f.Disposition != ledger.DispositionDeferred {
		t.Errorf("a temporary refusal was written as %+v", f)
	}
	r.flush(noon.Add(refusalSpan), true)
	if len(factsOf(t, e)) != len(facts) {
		t.Error("a second flush wrote it again")
	}
}

func TestManyPeersDoNotFillMemory(t *testing.T) {
	e := memory.New()
	r := newRecorder(e, slog.New(slog.DiscardHandler))
	addr := netip.MustParseAddr("10.0.0.0")
	for range refusalPeersAtMost + 10 {
		addr = addr.Next()
		r.due(ledger.Fact{Peer: addr, Time: noon}, noon.Add(time.Second))
	}
	if len(r.peers) > refusalPeersAtMost {
		t.Errorf("%d peers are remembered", len(r.peers))
	}
}

// TestNobodySendsAMessageInVainToAFullDisk: that there is no room is said at MAIL, and only
// that: another fault of the store is met where it matters.
func TestNobodySendsAMessageInVainToAFullDisk(t *testing.T) {
	var state error
	in := &intake{storage: func() error { return state }, recorder: newRecorder(memory.New(), slog.New(slog.DiscardHandler))}
	tx := &smtpd.Transaction{ID: mail.NewID(time.Now()), Session: &smtpd.Session{}}
	for _, c := range []struct {
		state error
		want  *mail.Refusal
	}{{nil, nil}, {fmt.Errorf("engine: /data: %w: 10 MiB are free", custody.ErrFull), mail.DiskFull}, {custody.ErrBroken, nil}, {nil, nil}} {
		state = c.state
		got := in.Mail(t.Context(), tx)
		if (got == nil) != (c.want == nil) || got != nil && got.Reason() != c.want.Reason() {
			t.Errorf("with %v: %v, want %v", c.state, got, c.want)
		}
	}
}
