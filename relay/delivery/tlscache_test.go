package delivery

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/engine/memory"
	"anechoic/mail/dns"
	"anechoic/standard/mtasts"
	"anechoic/standard/tlsrpt"
)

// policyHosts answers for every policy host at once.
type policyHosts struct {
	mu     sync.Mutex
	text   string
	delay  time.Duration
	asked  int
	status int
}

func (h *policyHosts) RoundTrip(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	select {
	case <-time.After(h.delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if h.status == 0 {
		return nil, errors.New("nobody answers")
	}
	return &http.Response{StatusCode: h.status, Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader(h.text)), ContentLength: int64(len(h.text))}, nil
}

const weekPolicy = "version: STSv1\nmode: enforce\nmx: mx1.globex.example\nmax_age: 604800\n"

func TestPoliciesAreFetchedKeptAndRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone, hosts, store := &dns.Zone{}, &policyHosts{text: weekPolicy, status: 200}, memory.New()
		domain := domainOf(t, "globex.example")
		cache := &STSCache{Resolver: zone, Over: hosts, Store: store}
		if err := cache.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect := func(about string, mode mtasts.Mode, asked int, fault error) {
			t.Helper()
			e, err := cache.Policy(t.Context(), domain)
			got := e.Policy.Mode
			if !e.InForce(time.Now()) {
				got = ""
			}
			if got != mode || hosts.asked != asked || !errors.Is(err, fault) || (err == nil) != (fault == nil) {
				t.Errorf("%s: mode %q, asked %d times, %v", about, got, hosts.asked, err)
			}
		}
		expect("no record", "", 0, nil)
		zone.SetTXT("_mta-sts.globex.example", "v=STSv1; id=1")
		expect("the record is not looked up at once", "", 0, nil)
		time.Sleep(askAgainAfter)
		expect("a record", mtasts.ModeEnforce, 1, nil)
		expect("known", mtasts.ModeEnforce, 1, nil)
		time.Sleep(time.Hour)
		expect("known for an hour", mtasts.ModeEnforce, 1, nil)

		zone.SetTXT("_mta-sts.globex.example", "v=STSv1; id=2")
		hosts.status = 0
		time.Sleep(time.Hour)
		expect("a new id, and nobody answers: the old policy stays", mtasts.ModeEnforce, 2, nil)
		time.Sleep(askAgainAfter)
		expect("not asked again at once", mtasts.ModeEnforce, 2, nil)
		hosts.status, hosts.text = 200, strings.Replace(weekPolicy, "enforce", "testing", 1)
		time.Sleep(time.Hour)
		expect("the new policy", mtasts.ModeTesting, 3, nil)

		zone.Remove("_mta-sts.globex.example")
		time.Sleep(time.Hour)
		expect("the record is gone: the policy stays", mtasts.ModeTesting, 3, nil)
		cache.Refresh(t.Context())
		synctest.Wait()
		if hosts.asked != 3 {
			t.Error("a fresh policy was refreshed")
		}
		time.Sleep(24 * time.Hour)
		cache.Refresh(t.Context())
		synctest.Wait()
		expect("refreshed", mtasts.ModeTesting, 4, nil)
		cache.Close()

		cache = &STSCache{Resolver: zone, Over: hosts, Store: store}
		if err := cache.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect("after a restart", mtasts.ModeTesting, 4, nil)
		hosts.status = 0
		time.Sleep(7 * 24 * time.Hour)
		expect("over", "", 4, nil)
		cache.Refresh(t.Context())
		if n := cache.Len(time.Now()); n != 0 {
			t.Errorf("%d policies in force", n)
		}
		cache.Close()
		cache = &STSCache{Store: store}
		if err := cache.Load(t.Context()); err != nil || len(cache.known) != 0 {
			t.Errorf("what is over is still stored: %d, %v", len(cache.known), err)
		}
		cache.Close()
	})
}

func TestAPolicyThatCannotBeHadIsToldEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone, hosts := &dns.Zone{}, &policyHosts{text: "<html>", status: 200}
		zone.SetTXT("_mta-sts.globex.example", "v=STSv1; id=1")
		cache := &STSCache{Resolver: zone, Over: hosts, Store: memory.New()}
		defer cache.Close()
		for range 3 {
			if _, err := cache.Policy(t.Context(), domainOf(t, "globex.example")); !errors.Is(err, mtasts.ErrPolicy) {
				t.Errorf("%v", err)
			}
			time.Sleep(askAgainAfter)
		}
		if hosts.asked != 1 {
			t.Errorf("asked %d times", hosts.asked)
		}
	})
}

func TestAttemptsShareAFetchAndWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone, hosts := &dns.Zone{}, &policyHosts{text: weekPolicy, status: 200, delay: 30 * time.Second}
		zone.SetTXT("_mta-sts.globex.example", "v=STSv1; id=1")
		cache := &STSCache{Resolver: zone, Over: hosts, Store: memory.New()}
		defer cache.Close()
		domain := domainOf(t, "globex.example")
		var attempts sync.WaitGroup
		for range 20 {
			attempts.Go(func() {
				if e, err := cache.Policy(t.Context(), domain); e.Policy.Mode != mtasts.ModeEnforce || err != nil {
					t.Errorf("%+v, %v", e, err)
				}
			})
		}
		attempts.Wait()
		if hosts.asked != 1 {
			t.Errorf("asked %d times", hosts.asked)
		}
	})
}

func TestASlowPolicyHostEndsWithTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone, hosts := &dns.Zone{}, &policyHosts{delay: time.Hour}
		zone.SetTXT("_mta-sts.globex.example", "v=STSv1; id=1")
		cache := &STSCache{Resolver: zone, Over: hosts, Store: memory.New()}
		domain, begin := domainOf(t, "globex.example"), time.Now()
		go cache.Policy(t.Context(), domain)
		synctest.Wait()
		cache.Close()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestResultsOutliveARestartAndGoOnceReported(t *testing.T) {
	store, now := memory.New(), time.Date(2026, 11, 21, 23, 0, 0, 0, time.UTC)
	policy := tlsrpt.Policy{Type: tlsrpt.PolicyNone}
	tallies := &TLSTallies{Store: store}
	for _, name := range []string{"globex.example", "initech.example"} {
		tallies.Count(domainOf(t, name), policy, tlsrpt.Failure{}, now)
		tallies.Count(domainOf(t, name), policy, tlsrpt.Failure{Type: tlsrpt.Expired}, now.Add(2*time.Hour)) // the next day
	}
	if err := tallies.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := &TLSTallies{Store: store}
	if err := again.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := again.Finished(now); len(f) != 0 {
		t.Errorf("finished before the day is over: %v", f)
	}
	finished := again.Finished(now.Add(2 * time.Hour))
	if len(finished) != 2 || finished[0].Domain.String() != "globex.example" || finished[0].Policies[0].Success != 1 || finished[0].Policies[0].Failure != 0 {
		t.Fatalf("%+v", finished)
	}
	if err := again.Drop(t.Context(), finished...); err != nil {
		t.Fatal(err)
	}
	last := &TLSTallies{Store: store}
	if err := last.Load(t.Context()); err != nil || len(last.Finished(now.AddDate(0, 0, 5))) != 2 {
		t.Errorf("%+v, %v", last.days, err)
	}
}

func TestResultsAreBounded(t *testing.T) {
	tallies, now := &TLSTallies{Store: memory.New()}, time.Now()
	tallies.open()
	tallies.size[tlsrpt.Day(now)] = maxTallies
	tallies.Count(domainOf(t, "globex.example"), tlsrpt.Policy{}, tlsrpt.Failure{}, now)
	if len(tallies.days) != 0 {
		t.Error("counted beyond the bound")
	}
}
