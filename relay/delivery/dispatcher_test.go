package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/relay/custody"
)

// station is a queue with its dispatcher, DNS and a transport that follows orders.
type station struct {
	t      testing.TB
	engine *memory.Engine
	queue  *custody.Queue
	zone   *dns.Zone
	*fakeTransport
	*Dispatcher
}

// fakeTransport gives each attempt what answer says, after it took its time, and
// watches how many attempts are under way at each site.
type fakeTransport struct {
	answer func(Attempt) []Result
	took   func(Attempt) time.Duration

	mu       sync.Mutex // guards what follows
	attempts []Attempt
	times    []time.Time // of their ends
	under    map[string]int
	most     map[string]int // at a time, a site; "" is all
}

func (f *fakeTransport) Deliver(ctx context.Context, a Attempt) []Result {
	f.enter(a.Route.Site, 1)
	defer f.enter(a.Route.Site, -1)
	if f.took != nil {
		select {
		case <-time.After(f.took(a)):
		case <-ctx.Done():
			return each(a, deferred("4.4.2", "the attempt was ended"))
		}
	}
	f.mu.Lock()
	f.attempts, f.times = append(f.attempts, a), append(f.times, time.Now())
	f.mu.Unlock()
	if f.answer == nil {
		return each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 2.0.0 Ok", Said: true, Host: "mx", Server: netip.MustParseAddrPort("192.0.2.1:25")})
	}
	return f.answer(a)
}

func (f *fakeTransport) enter(site string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range []string{site, ""} {
		f.under[s] += n
		f.most[s] = max(f.most[s], f.under[s])
	}
}

func (f *fakeTransport) made() []Attempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.attempts)
}

// each is one result for every recipient.
func each(a Attempt, r Result) []Result {
	results := make([]Result, len(a.Envelope.Recipients))
	fill(results, r)
	return results
}

// newStation opens an empty queue; every domain of the zone has an MX of its own.
func newStation(t testing.TB, domains ...string) *station {
	s := &station{t: t, engine: memory.New(), zone: &dns.Zone{}, fakeTransport: &fakeTransport{under: map[string]int{}, most: map[string]int{}}}
	s.open(s.engine)
	for _, d := range domains {
		s.zone.SetMX(d, mail.MX{Preference: 10, Host: "mx." + d})
		s.zone.SetAddresses("mx."+d, netip.MustParseAddr("192.0.2.1"))
	}
	return s
}

func (s *station) open(engine *memory.Engine) {
	queue, err := custody.OpenQueue(context.Background(), engine, custody.Options{
		SealKey: []byte(strings.Repeat("k", 32)), RetryAfter: []time.Duration{time.Minute, time.Hour}, ExpireAfter: 24 * time.Hour,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.queue = queue
	s.Dispatcher = &Dispatcher{Queue: queue, Router: &Router{Resolver: s.zone, Hostname: "relay.anechoic.test"}, Transport: s.fakeTransport}
}

// keep takes custody of one message; from may be empty.
func (s *station) keep(from string, to ...mail.Recipient) mail.ID {
	s.t.Helper()
	warrant, err := custody.NewNotice("about", "acme")
	if err != nil {
		s.t.Fatal(err)
	}
	id := mail.NewID(time.Now())
	sub := custody.Submission{ID: id, Warrant: warrant, Envelope: mail.Envelope{Recipients: to}, Header: mail.Header{Fields: []mail.Field{mail.NewField("Subject", "hello")}}, Body: mail.NewBody([]byte("Hello.\r\n"))}
	if from != "" {
		sub.Envelope.From = address(s.t, from)
	}
	if _, err := s.queue.Keep(context.Background(), sub, time.Now()); err != nil {
		s.t.Fatal(err)
	}
	return id
}

func to(t testing.TB, addresses ...string) (list []mail.Recipient) {
	for _, a := range addresses {
		list = append(list, mail.Recipient{Address: address(t, a)})
	}
	return list
}

// stop stops within a minute, as the relay does.
func (s *station) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.Stop(ctx)
}

// events lists the ledger, "event reply" each.
func (s *station) events() (list []string) {
	err := ledger.Read(context.Background(), s.engine, 0, func(f ledger.Fact) bool {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s", f.Event, f.Reply)))
		return true
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func (s *station) left() int {
	return s.queue.Depth().Queued + s.queue.Depth().Held + s.queue.Depth().Leased
}

func TestAMessageIsDeliveredAsSoonAsItIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.Start()
		synctest.Wait()
		start := time.Now()
		s.keep("alice@acme.example", to(t, "bob@globex.example", "carol@globex.example")...)
		synctest.Wait()
		s.stop()
		if since := time.Since(start); since != 0 {
			t.Errorf("it waited %s", since)
		}
		if diff := cmp.Diff([]string{"accepted", "leased", "delivered 250 2.0.0 Ok"}, s.events()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if n := len(s.made()); n != 1 || s.left() != 0 {
			t.Errorf("%d attempts, %d recipients left", n, s.left())
		}
		c := s.Counters()
		if diff := cmp.Diff(Counters{Attempts: 1, Delivered: 2}, c); diff != "" {
			t.Errorf("counters: -want +got:\n%s", diff)
		}
	})
}

func TestADeferredRecipientIsTriedAgainWhenDueAndTheDispatcherSleepsUntilThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.answer = func(a Attempt) []Result {
			r := each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 Ok"})
			for i, rcpt := range a.Envelope.Recipients {
				if rcpt.Address.Local() == "carol" && len(s.made()) < 3 {
					r[i] = deferred("4.2.0", "450 4.2.0 Greylisted")
				}
			}
			return r
		}
		s.Start()
		start := time.Now()
		s.keep("alice@acme.example", to(t, "bob@globex.example", "carol@globex.example")...)
		time.Sleep(3 * time.Hour)
		s.stop()
		if len(s.times) != 3 || s.left() != 0 {
			t.Fatalf("%d attempts, %d recipients left", len(s.times), s.left())
		}
		if n := len(s.made()[1].Envelope.Recipients); n != 1 {
			t.Errorf("the second attempt was for %d recipients", n)
		}
		first, second := s.times[1].Sub(start), s.times[2].Sub(s.times[1])
		if first < 54*time.Second || first > 66*time.Second || second < 54*time.Minute || second > 66*time.Minute {
			t.Errorf("tried again after %s and %s", first, second)
		}
	})
}

func TestASiteNeverHasMoreAttemptsThanItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "a.example", "b.example")
		s.zone.SetMX("alias.example", mail.MX{Preference: 5, Host: "mx.a.example"}) // the same site
		s.PerSite = 3
		s.took = func(Attempt) time.Duration { return time.Second }
		for n := range 30 {
			for _, d := range []string{"a.example", "b.example", "alias.example"} {
				s.keep("alice@acme.example", to(t, fmt.Sprintf("r%d@%s", n, d))...)
			}
		}
		s.Start()
		time.Sleep(time.Hour)
		s.stop()
		if s.left() != 0 {
			t.Errorf("%d recipients are left", s.left())
		}
		if diff := cmp.Diff(map[string]int{"a.example": 3, "b.example": 3, "": 6}, s.most); diff != "" {
			t.Errorf("at a time: -want +got:\n%s", diff)
		}
	})
}

func TestASlowSiteDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "slow.example", "fast.example")
		s.took = func(a Attempt) time.Duration {
			if a.Route.Site == "slow.example" {
				return 30 * time.Minute
			}
			return time.Second
		}
		for n := range 2000 {
			s.keep("alice@acme.example", to(t, fmt.Sprintf("r%d@slow.example", n))...)
		}
		s.Start()
		time.Sleep(time.Minute)
		for n := range 100 {
			s.keep("alice@acme.example", to(t, fmt.Sprintf("r%d@fast.example", n))...)
		}
		time.Sleep(10 * time.Second)
		if n := len(s.made()); n != 100 {
			t.Errorf("%d of 100 messages left beside the slow site", n)
		}
		if n := s.queue.Depth().Leased; n > 2*DefaultPerSite+leaseBatch {
			t.Errorf("%d leases of the slow site are in memory", n)
		}
		s.stop()
	})
}

func TestManyDomainsOfOneSlowSiteDoNotFillTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "slow.example", "fast.example")
		s.MaxLeases, s.PerSite = 1000, 5
		s.took = func(a Attempt) time.Duration {
			if a.Route.Site == "slow.example" {
				return 30 * time.Minute
			}
			return time.Second
		}
		for n := range 2000 {
			d := fmt.Sprintf("d%d.example", n)
			s.zone.SetMX(d, mail.MX{Host: "mx.slow.example"})
			s.keep("alice@acme.example", to(t, "r@"+d)...)
		}
		s.Start()
		time.Sleep(5 * time.Minute)
		s.keep("alice@acme.example", to(t, "bob@fast.example")...)
		time.Sleep(2 * time.Second)
		if n := len(s.made()); n != 1 {
			t.Errorf("%d messages left beside the slow site, want 1", n)
		}
		if n := s.queue.Depth().Leased; n > 200 {
			t.Errorf("%d leases of the slow site are in memory", n)
		}
		s.stop()
	})
}

func TestSlowDNSOfOneDomainDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "fast.example")
		s.Router.Resolver = slowDNS{s.zone, "slow.example"}
		for n := range 500 {
			s.keep("alice@acme.example", to(t, fmt.Sprintf("r%d@slow.example", n))...)
		}
		s.Start()
		time.Sleep(time.Second)
		s.keep("alice@acme.example", to(t, "bob@fast.example")...)
		synctest.Wait()
		if n := len(s.made()); n != 1 {
			t.Errorf("%d messages left beside the slow look-up", n)
		}
		s.stop()
	})
}

type slowDNS struct {
	mail.Resolver
	slow string
}

func (r slowDNS) MX(ctx context.Context, name string) (mail.Answer[mail.MX], error) {
	if name == r.slow {
		select {
		case <-time.After(20 * time.Second):
		case <-ctx.Done():
		}
		return mail.Answer[mail.MX]{}, errors.New("timeout")
	}
	return r.Resolver.MX(ctx, name)
}

func TestSitesTakeTurnsWhereThereAreNotWorkersForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var domains []string
		for n := range 10 {
			domains = append(domains, fmt.Sprintf("d%d.example", n))
		}
		s := newStation(t, domains...)
		s.Workers, s.PerSite = 3, 2
		s.took = func(Attempt) time.Duration { return time.Second }
		for n := range 20 {
			for _, d := range domains {
				s.keep("alice@acme.example", to(t, fmt.Sprintf("r%d@%s", n, d))...)
			}
		}
		s.Start()
		time.Sleep(20 * time.Second)
		seen := map[string]int{}
		for _, a := range s.made() {
			seen[a.Route.Site]++
		}
		for _, d := range domains {
			if seen[d] < 3 || seen[d] > 9 {
				t.Errorf("%s had %d of %d attempts", d, seen[d], len(s.made()))
			}
		}
		time.Sleep(time.Hour)
		s.stop()
		if s.left() != 0 || s.most[""] > 3 {
			t.Errorf("%d recipients left, %d attempts at a time", s.left(), s.most[""])
		}
	})
}

func TestStopWaitsForAttemptsUnderWayAndGivesTheRestBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.PerSite = 1
		s.took = func(Attempt) time.Duration { return 10 * time.Second }
		for n := range 3 {
			s.keep("alice@acme.example", to(t, fmt.Sprintf("r%d@globex.example", n))...)
		}
		s.Start()
		time.Sleep(time.Second)
		start := time.Now()
		s.stop()
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("stopping took %s, the attempt needed 9s more", took)
		}
		if len(s.made()) != 1 || s.queue.Depth().Queued != 2 || s.queue.Depth().Leased != 0 {
			t.Errorf("%d attempts, then %+v", len(s.made()), s.queue.Depth())
		}
		leases, err := s.queue.Lease(context.Background(), time.Now(), 10, nil)
		if err != nil || len(leases) != 2 || leases[0].Attempt != 1 {
			t.Errorf("what was given back: %d leases, %v", len(leases), err)
		}
	})
}

func TestStopBreaksOffWhatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.took = func(Attempt) time.Duration { return time.Hour }
		s.keep("alice@acme.example", to(t, "bob@globex.example")...)
		s.Start()
		time.Sleep(time.Second)
		start := time.Now()
		s.stop()
		if took := time.Since(start); took != time.Minute {
			t.Errorf("stopping took %s", took)
		}
		if diff := cmp.Diff([]string{"accepted", "leased", "deferred the attempt was ended"}, s.events()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestADomainWithoutARouteFailsWithoutAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.zone.SetMX("nomail.example", mail.MX{})
		s.zone.SetFault("dark.example", true)
		told := s.bounces()
		s.keep("alice@acme.example", to(t, "bob@nomail.example", "bob@dark.example")...)
		s.Start()
		synctest.Wait()
		s.stop()
		if len(*told) != 1 || (*told)[0].Result.Enhanced != "5.1.10" || len(s.made()) != 0 {
			t.Errorf("told %+v after %d attempts", *told, len(s.made()))
		}
		events := s.events()
		slices.Sort(events)
		if !slices.Contains(events, "deferred the mail exchangers of dark.example could not be looked up") {
			t.Errorf("events %q", events)
		}
	})
}

func TestAPanicCostsOneAttemptOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.answer = func(a Attempt) []Result {
			if len(s.made()) == 1 {
				panic("a fault")
			}
			return each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 Ok"})
		}
		s.keep("alice@acme.example", to(t, "bob@globex.example")...)
		s.Start()
		time.Sleep(time.Hour)
		s.stop()
		if c := s.Counters(); c.Panics != 1 || c.Delivered != 1 || s.left() != 0 {
			t.Errorf("%+v, %d left", c, s.left())
		}
	})
}

// rottenEngine gives bodies back with an octet changed.
type rottenEngine struct{ *memory.Engine }

func (e rottenEngine) OpenBody(ctx context.Context, name string) (custody.StoredBody, error) {
	body, err := e.Engine.OpenBody(ctx, name)
	if err != nil {
		return nil, err
	}
	whole, _ := body.Whole()
	return rotten{body, append([]byte("X"), whole[1:]...)}, nil
}

type rotten struct {
	custody.StoredBody
	whole []byte
}

func (r rotten) Whole() ([]byte, bool) { return r.whole, true }

func TestAMessageThatDoesNotReadBackIsNeverSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.keep("alice@acme.example", to(t, "bob@globex.example")...)
		queue, err := custody.OpenQueue(context.Background(), rottenEngine{s.engine}, custody.Options{SealKey: []byte(strings.Repeat("k", 32))})
		if err != nil {
			t.Fatal(err)
		}
		s.Queue = queue
		s.Start()
		time.Sleep(time.Hour)
		s.stop()
		events := s.events()
		if len(s.made()) != 0 || s.Counters().SetAside != 1 || events[len(events)-1] != "set_aside" {
			t.Errorf("%d attempts, events %q", len(s.made()), events)
		}
	})
}

// brokenEngine fails commits while it is told to.
type brokenEngine struct {
	*memory.Engine
	mu   sync.Mutex
	fail error
}

func (e *brokenEngine) Commit(ctx context.Context, b *custody.Batch) error {
	e.mu.Lock()
	fail := e.fail
	e.mu.Unlock()
	if fail != nil {
		return fail
	}
	return e.Engine.Commit(ctx, b)
}

func TestAnEngineThatIsBrokenForAWhileLosesNothingAndMakesNoNoise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		engine := &brokenEngine{Engine: s.engine}
		queue, err := custody.OpenQueue(context.Background(), engine, custody.Options{SealKey: []byte(strings.Repeat("k", 32))})
		if err != nil {
			t.Fatal(err)
		}
		s.queue, s.Queue = queue, queue
		s.keep("alice@acme.example", to(t, "bob@globex.example")...)
		engine.mu.Lock()
		engine.fail = custody.ErrFull
		engine.mu.Unlock()
		s.Start()
		time.Sleep(time.Minute)
		if len(s.made()) != 0 {
			t.Error("an attempt was made whose lease is not durable")
		}
		engine.mu.Lock()
		engine.fail = nil
		engine.mu.Unlock()
		time.Sleep(2 * time.Second)
		s.stop()
		if len(s.made()) != 1 || s.left() != 0 {
			t.Errorf("%d attempts, %d left", len(s.made()), s.left())
		}
	})
}

// countdown closes done after so many attempts.
type countdown struct {
	Transport
	left atomic.Int64
	done chan struct{}
}

func (c *countdown) Deliver(ctx context.Context, a Attempt) []Result {
	results := c.Transport.Deliver(ctx, a)
	if c.left.Add(-1) == 0 {
		close(c.done)
	}
	return results
}

// TestKeptMessagesArriveOctetForOctet is the whole package on loopback: queue,
// routes, connections.
func TestKeptMessagesArriveOctetForOctet(t *testing.T) {
	s := newStation(t)
	next := newSink(t, testRoots().server(""))
	s.zone.SetMX("globex.example", mail.MX{Preference: 10, Host: "mx1.globex.example"})
	s.zone.SetAddresses("mx1.globex.example", netip.MustParseAddr("127.0.0.1"))
	s.Router.AllowLoopback, s.Router.Port = true, next.Addr().(*net.TCPAddr).AddrPort().Port()
	transport := &SMTP{Helo: "relay.anechoic.test", TLS: Required, Roots: testRoots().pool}
	defer transport.Close()
	all := &countdown{Transport: transport, done: make(chan struct{})}
	all.left.Store(50)
	s.Transport, s.PerSite = all, 4
	for n := range 50 {
		s.keep("alice@acme.example", to(t, fmt.Sprintf("r%d@globex.example", n))...)
	}
	s.Start()
	<-all.done
	s.stop()
	if next.mails.Load() != 50 || s.left() != 0 || next.accepted.Load() > 4 {
		t.Errorf("%d messages on %d connections, %d left", next.mails.Load(), next.accepted.Load(), s.left())
	}
	if got := string(*next.last.Load()); got != "Subject: hello\r\n\r\nHello.\r\n" {
		t.Errorf("%q", got)
	}
	if delivered := s.events()[len(s.events())-1]; delivered != "delivered 250 2.0.0 Kept" {
		t.Error(delivered)
	}
}
