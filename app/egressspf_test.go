package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/org/orgtest"
)

// The addresses that mail in nobody's name leaves from.
var (
	inboundAddress  = netip.MustParseAddr("192.0.2.10")
	inboundAddress6 = netip.MustParseAddr("2001:db8::10")
	disownedAddress = netip.MustParseAddr("192.0.2.20")
)

// egressRig is an egressSPF with a zone of its own.
type egressRig struct {
	*egressSPF
	zone  *dns.Zone
	dir   atomic.Pointer[org.Directory]
	ended atomic.Int32

	mu    sync.Mutex // guards what follows
	asked map[string]int
	facts []ledger.Fact
}

// countedZone counts what it is asked for.
type countedZone struct {
	*dns.Zone
	rig *egressRig
}

// TXT implements mail.Resolver.
func (z countedZone) TXT(ctx context.Context, name string) (mail.Answer[string], error) {
	z.rig.mu.Lock()
	z.rig.asked[name]++
	z.rig.mu.Unlock()
	return z.Zone.TXT(ctx, name)
}

// newEgressRig has the domains of some organisations of orgtest.
func newEgressRig(t *testing.T, organisations int) *egressRig {
	t.Helper()
	r := &egressRig{zone: &dns.Zone{}, asked: map[string]int{}}
	r.register(t, organisations, 1)
	r.egressSPF = (&egressSPF{
		resolver: countedZone{r.zone, r}, directory: r.dir.Load, helo: "relay.test", perSweep: 100, log: slog.New(slog.DiscardHandler),
		ended:     func(context.Context) { r.ended.Add(1) },
		addresses: map[nobodysPool][]netip.Addr{fromInbound: {inboundAddress, inboundAddress6}, fromDisowned: {disownedAddress}},
		record: func(facts []ledger.Fact) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.facts = append(r.facts, facts...)
			return nil
		},
	}).open()
	return r
}

// known is how many names are remembered.
func (r *egressRig) known() int {
	r.egressSPF.mu.Lock()
	defer r.egressSPF.mu.Unlock()
	return len(r.states)
}

// toldFacts are the facts so far.
func (r *egressRig) toldFacts() []ledger.Fact {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.facts)
}

// lookedUp is how many domains were asked for, and how often the first one was.
func (r *egressRig) lookedUp() (domains, first int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked), r.asked[firstDomain]
}

func (r *egressRig) register(t *testing.T, organisations int, generation uint64) {
	t.Helper()
	reg, problems := org.ParseRegistry("registry.toml", orgtest.Registry(organisations))
	if len(problems) > 0 {
		t.Fatal(problems[0])
	}
	dir, problems, _ := org.Build(reg, orgtest.Providers(), nil, generation, time.Now())
	if len(problems) > 0 {
		t.Fatal(problems[0])
	}
	r.dir.Store(dir)
}

// start runs it until the test's end.
func (r *egressRig) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

// pass lets time go by, and what is due then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *egressRig) held(t *testing.T, from nobodysPool, sender string) mail.Reason {
	t.Helper()
	a, err := mail.ParseAddress(sender)
	if err != nil {
		t.Fatal(err)
	}
	if refusal := r.holds(t.Context(), from, mail.Address{}, a); refusal != nil {
		return refusal.Reason()
	}
	return ""
}

// first is the domain most tests are about, and its sender.
var (
	firstDomain = orgtest.Domain(0, 0)
	firstSender = "ann@" + firstDomain
)

func TestADomainWhoseSPFListsInboundEgressIsToldAndItsMailHeldUntilThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEgressRig(t, 1)
		r.zone.SetTXT(firstDomain, "v=spf1 include:relay.test -all")
		r.zone.SetTXT("relay.test", "v=spf1 ip4:192.0.2.0/28 -all")
		r.start(t)
		findings := r.findings()
		if r.count() != 1 || len(findings) != 1 || findings[0].Organisation != orgtest.ID(0) || !strings.Contains(findings[0].Text, firstDomain+" passes for 192.0.2.10") || !strings.Contains(findings[0].Text, "include:relay.test") {
			t.Errorf("%d listed, findings %v", r.count(), findings)
		}
		if facts := r.toldFacts(); len(facts) != 1 || facts[0].Event != ledger.EgressListed || facts[0].Org != string(orgtest.ID(0)) || facts[0].Detail != findings[0].Text {
			t.Errorf("facts: %+v", facts)
		}
		for sender, want := range map[string]mail.Reason{firstSender: mail.ReasonEgressInSPF, "x@" + orgtest.Domain(0, 1): "", "x@stranger.example": ""} {
			if got := r.held(t, fromInbound, sender); got != want {
				t.Errorf("inbound mail of %s: %q, want %q", sender, got, want)
			}
		}
		if got := r.held(t, fromDisowned, firstSender); got != "" {
			t.Errorf("disowned mail leaves from an address that is not listed: %q", got)
		}

		r.zone.SetTXT("relay.test", "v=spf1 ip4:192.0.2.1 -all")
		ended := r.ended.Load()
		pass(egressListed + egressSweep)
		if r.count() != 0 || len(r.findings()) > 0 || r.ended.Load() != ended+1 || r.held(t, fromInbound, firstSender) != "" {
			t.Errorf("%d listed, %v, %d releases", r.count(), r.findings(), r.ended.Load()-ended)
		}
		facts := r.toldFacts()
		if last := facts[len(facts)-1]; last.Event != ledger.EgressUnlisted || !strings.Contains(last.Detail, firstDomain) {
			t.Errorf("%+v", last)
		}
	})
}

func TestEachPoolsAddressesAreJudgedByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEgressRig(t, 1)
		r.zone.SetTXT(firstDomain, "v=spf1 ip4:192.0.2.20 -all")
		r.zone.SetTXT(orgtest.Domain(0, 1), "v=spf1 ip6:2001:db8::/64 -all")
		r.start(t)
		for _, c := range []struct {
			from   nobodysPool
			sender string
			want   mail.Reason
		}{
			{fromDisowned, firstSender, mail.ReasonEgressInSPF}, {fromInbound, firstSender, ""},
			{fromInbound, "x@" + orgtest.Domain(0, 1), mail.ReasonEgressInSPF}, {fromDisowned, "x@" + orgtest.Domain(0, 1), ""},
		} {
			if got := r.held(t, c.from, c.sender); got != c.want {
				t.Errorf("from %s, %s: %q, want %q", poolNames(c.from), c.sender, got, c.want)
			}
		}
	})
}

func TestWhatDNSDoesNotAnswerKeepsTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEgressRig(t, 1)
		listed, clean, silent := firstDomain, orgtest.Domain(0, 1), orgtest.Domain(0, 2)
		r.zone.SetTXT(listed, "v=spf1 ip4:192.0.2.10 -all")
		r.zone.SetTXT(clean, "v=spf1 -all")
		r.zone.SetFault(silent, true)
		r.start(t)
		if got := r.held(t, fromInbound, "x@"+silent); got != mail.ReasonLookupFailed {
			t.Errorf("a domain about which nothing is known: %q", got)
		}
		r.zone.SetFault(listed, true)
		r.zone.SetFault(clean, true)
		pass(3 * egressDaily)
		for domain, want := range map[string]mail.Reason{listed: mail.ReasonEgressInSPF, clean: ""} {
			if got := r.held(t, fromInbound, "x@"+domain); got != want {
				t.Errorf("%s, while DNS is away: %q, want %q", domain, got, want)
			}
		}
		r.zone.Set(listed, dns.Records{TXT: []string{"v=spf1 -all"}})
		r.zone.Set(clean, dns.Records{TXT: []string{"v=spf1 +all"}})
		r.zone.Set(silent, dns.Records{})
		pass(egressRetry + egressSweep)
		for domain, want := range map[string]mail.Reason{listed: "", clean: mail.ReasonEgressInSPF, silent: ""} {
			if got := r.held(t, fromInbound, "x@"+domain); got != want {
				t.Errorf("%s, with DNS back: %q, want %q", domain, got, want)
			}
		}
	})
}

func TestARecordThatDependsOnTheSenderIsAskedForEachMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEgressRig(t, 1)
		r.zone.SetTXT(firstDomain, "v=spf1 exists:%{l}.allowed.test -all")
		r.zone.SetAddresses("news.allowed.test", netip.MustParseAddr("127.0.0.2"))
		r.start(t)
		for local, want := range map[string]mail.Reason{"news": mail.ReasonEgressInSPF, "ann": ""} {
			if got := r.held(t, fromInbound, local+"@"+firstDomain); got != want {
				t.Errorf("%s: %q, want %q", local, got, want)
			}
		}
		if r.count() != 0 {
			t.Errorf("%d domains are told of", r.count())
		}
	})
}

func TestARelayThatJustStartedAsksBeforeMailLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEgressRig(t, 1)
		r.zone.SetTXT(firstDomain, "v=spf1 +all")
		if got := r.held(t, fromInbound, firstSender); got != mail.ReasonEgressInSPF {
			t.Errorf("%q", got)
		}
		if facts := r.toldFacts(); len(facts) != 1 {
			t.Errorf("%v", facts)
		}
		_, before := r.lookedUp()
		for range 100 {
			r.held(t, fromInbound, firstSender)
		}
		if _, now := r.lookedUp(); now != before {
			t.Errorf("%d look-ups more for a hundred messages", now-before)
		}
	})
}

func TestDomainsOfAReloadAreAskedAboutSoonAndOldOnesForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEgressRig(t, 1)
		added := orgtest.Domain(1, 3)
		r.zone.SetTXT(firstDomain, "v=spf1 +all")
		r.zone.SetTXT(added, "v=spf1 a -all")
		r.zone.SetAddresses(added, disownedAddress)
		r.start(t)
		r.register(t, 2, 2)
		r.refresh()
		pass(time.Second)
		if r.count() != 2 || r.held(t, fromDisowned, "x@"+added) != mail.ReasonEgressInSPF {
			t.Errorf("%d domains list us: %v", r.count(), r.findings())
		}
		r.register(t, 1, 3)
		r.refresh()
		pass(time.Second)
		if r.count() != 1 || len(r.findings()) != 1 || r.known() != orgtest.DomainsEach {
			t.Errorf("%d domains list us, %d are known", r.count(), r.known())
		}
		r.zone.SetTXT(firstDomain, "v=spf1 -all")
		r.refresh()
		pass(time.Second)
		if r.count() != 0 {
			t.Error("a reload does not look again at what is listed")
		}
	})
}

func TestManyDomainsAreAskedAboutOnceADayInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const organisations = 25 // two and a half times what a sweep asks about
		r := newEgressRig(t, organisations)
		r.start(t)
		if n, _ := r.lookedUp(); n != r.perSweep {
			t.Errorf("the first sweep asked about %d domains", n)
		}
		pass(2 * egressSweep)
		n, before := r.lookedUp()
		if n != organisations*orgtest.DomainsEach {
			t.Errorf("%d of %d domains were asked about", n, organisations*orgtest.DomainsEach)
		}
		pass(egressDaily - 3*egressSweep)
		if _, now := r.lookedUp(); now != before {
			t.Errorf("asked %d times within a day", now-before)
		}
		pass(2 * egressSweep)
		if _, now := r.lookedUp(); now == before {
			t.Error("not asked again after a day")
		}
	})
}

func TestNamesBelowADomainAreBounded(t *testing.T) {
	r := newEgressRig(t, 1)
	for i := range egressSubnames + 50 {
		name, err := mail.ParseDomain(fmt.Sprintf("n%d.%s", i, firstDomain))
		if err != nil {
			t.Fatal(err)
		}
		c := egressChange{name: name}
		r.heard(&c, true, []poolAnswer{{pool: fromInbound, listed: i%2 == 0}})
	}
	if len(r.states) > egressSubnames || len(r.below) != len(r.states) {
		t.Errorf("%d names are known, %d of them below", len(r.states), len(r.below))
	}
	listed := 0
	for _, s := range r.states {
		if s.listed != 0 {
			listed++
		}
	}
	if r.count() != listed {
		t.Errorf("%d are counted, %d are listed", r.count(), listed)
	}
	if told := len(r.findings()); told > egressTold+1 {
		t.Errorf("%d findings", told)
	}
}
