package custody_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// countingEngine counts what is written, and fails as long as it is told to.
type countingEngine struct {
	*memory.Engine
	batches, puts, deletes atomic.Int64
	broken                 atomic.Bool
}

func (e *countingEngine) Commit(ctx context.Context, b *custody.Batch) error {
	if e.broken.Load() {
		return errors.New("the disk has gone away")
	}
	if !b.Lazy {
		return errors.New("a record of a site asks for a sync of its own")
	}
	e.batches.Add(1)
	e.puts.Add(int64(len(b.Put)))
	e.deletes.Add(int64(len(b.Delete)))
	return e.Engine.Commit(ctx, b)
}

// runningSites are Sites that run until stop.
type runningSites struct {
	*custody.Sites
	stop func()
	said *bytes.Buffer // the log; read it after stop
}

func runSites(engine custody.Engine, atMost int) runningSites {
	said := new(bytes.Buffer)
	s := &custody.Sites{Store: engine, Log: slog.New(slog.NewTextHandler(said, nil))}
	s.AtMost(atMost)
	running, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { s.Run(running) })
	return runningSites{s, func() { cancel(); all.Wait() }, said}
}

func (s *runningSites) is(t testing.TB, d, want string) {
	t.Helper()
	if got, ok := s.Site(domain(d)); got != want || ok != (want != "") {
		t.Errorf("%s leads to %q, want %q", d, got, want)
	}
}

func TestWhereADomainLeadsIsKnownAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := memory.New()
		s := runSites(engine, 0)
		s.Learn(domain("one.test"), "big.test", time.Now())
		s.Learn(domain("two.test"), "10.0.0.7:25", time.Now())
		s.is(t, "one.test", "big.test")
		s.stop() // writes what is left
		s = runSites(engine.Reopen(), 0)
		if err := s.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.is(t, "one.test", "big.test")
		s.is(t, "two.test", "10.0.0.7:25")
		s.is(t, "three.test", "")
		s.stop()
	})
}

func TestWithoutAStopADomainsSiteIsStoredWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := memory.New()
		s := runSites(engine, 0)
		s.Learn(domain("one.test"), "big.test", time.Now())
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		killed := runSites(engine.Clone(), 0) // as the disk is at the kill
		if err := killed.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		killed.is(t, "one.test", "big.test")
		killed.stop()
		s.stop()
	})
}

func TestASiteIsWrittenWhenItIsNewOrAnotherOrItsRecordIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &countingEngine{Engine: memory.New()}
		s := runSites(engine, 0)
		wrote := func(n int64) {
			t.Helper()
			time.Sleep(2 * time.Second)
			if got := engine.puts.Swap(0); got != n {
				t.Errorf("%d records were written, want %d", got, n)
			}
		}
		for range 100 {
			s.Learn(domain("one.test"), "big.test", time.Now())
			s.Learn(domain("two.test"), "big.test", time.Now())
		}
		wrote(2)
		if n := engine.batches.Load(); n != 1 {
			t.Errorf("in %d batches", n)
		}
		s.Learn(domain("one.test"), "big.test", time.Now())
		wrote(0)
		s.Learn(domain("one.test"), "other.test", time.Now())
		wrote(1)
		time.Sleep(custody.SiteRenewed)
		s.Learn(domain("one.test"), "other.test", time.Now())
		wrote(1)
		s.stop()
	})
}

func TestADomainThatNothingGoesToIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := memory.New()
		s := runSites(engine, 0)
		s.Learn(domain("old.test"), "big.test", time.Now())
		time.Sleep(custody.SiteStands - time.Hour)
		s.Learn(domain("new.test"), "big.test", time.Now())
		time.Sleep(150 * time.Minute) // it is looked for each hour
		s.is(t, "old.test", "")
		s.is(t, "new.test", "big.test")
		s.stop()
		if _, err := engine.Get(ctx, custody.SiteKey(domain("old.test"))); !errors.Is(err, custody.ErrNotFound) {
			t.Errorf("its record: %v", err)
		}
		time.Sleep(custody.SiteStands) // the relay stands still
		engine = engine.Reopen()
		s = runSites(engine, 0)
		if err := s.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.is(t, "new.test", "")
		s.stop()
		if _, err := engine.Get(ctx, custody.SiteKey(domain("new.test"))); !errors.Is(err, custody.ErrNotFound) {
			t.Errorf("its record: %v", err)
		}
	})
}

func TestHowManyDomainsAreRememberedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := memory.New()
		s := runSites(engine, 100)
		for n := range 1000 {
			s.Learn(domain(fmt.Sprintf("d%d.test", n)), "big.test", time.Now())
			time.Sleep(time.Millisecond)
		}
		s.is(t, "d999.test", "big.test")
		s.is(t, "d0.test", "")
		s.stop()
		records := 0
		if err := engine.Scan(ctx, "site/", "", func(string, []byte) bool { records++; return true }); err != nil || records == 0 || records > 100 {
			t.Errorf("%d records, %v", records, err)
		}
		s = runSites(engine.Reopen(), 50) // a smaller bound
		if err := s.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.is(t, "d999.test", "big.test")
		s.stop()
	})
}

// What is damaged is passed over, said in one line, and never said again.
func TestADamagedRecordOfASiteIsPassedOverAndSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := memory.New()
		s := runSites(engine, 0)
		for n := range 10 {
			s.Learn(domain(fmt.Sprintf("d%d.test", n)), "big.test", time.Now())
		}
		s.stop()
		engine = engine.Reopen()
		for n, spoil := range map[int]func([]byte) []byte{
			1: func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			2: func(b []byte) []byte { return b[:len(b)-3] },
			3: func([]byte) []byte { return nil },
			4: func([]byte) []byte { // another's
				b, _ := engine.Get(ctx, custody.SiteKey(domain("d5.test")))
				return b
			},
		} {
			key := custody.SiteKey(domain(fmt.Sprintf("d%d.test", n)))
			value, err := engine.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			engine.Put(key, spoil(value))
		}
		s = runSites(engine, 0)
		if err := s.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n, want := range []string{"big.test", "", "", "", "", "big.test"} {
			s.is(t, fmt.Sprintf("d%d.test", n), want)
		}
		s.stop()
		if said := s.said.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "records=4") || !strings.Contains(said, "level=WARN") {
			t.Errorf("said was:\n%s", said)
		}
		s = runSites(engine.Reopen(), 0)
		synctest.Wait()
		s.stop()
		if s.said.Len() != 0 {
			t.Errorf("it was said again:\n%s", s.said)
		}
	})
}

func TestWhatIsLearnedBeforeTheStoredWasReadStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := memory.New()
		before := runSites(engine, 0)
		before.Learn(domain("one.test"), "old.test", time.Now())
		before.stop()
		s := &custody.Sites{Store: engine.Reopen()}
		s.Learn(domain("one.test"), "new.test", time.Now())
		waiting, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Read(waiting); !errors.Is(err, custody.ErrReading) {
			t.Errorf("nothing was read: %v", err)
		}
		running, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		s.Run(running)
		if site, _ := s.Site(domain("one.test")); site != "new.test" {
			t.Errorf("it leads to %s", site)
		}
		if err := s.Read(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Whatever is learned, whenever the relay is killed and while the disk fails: what was stored
// stands, nothing else is known, nothing is stored that was never learned, and the bound holds.
func TestSitesOutliveWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(*testing.T) {
			const most = 20
			engine := &countingEngine{Engine: memory.New()}
			s := runSites(engine, most)
			defer func() { s.stop() }()
			learned := map[mail.Domain]map[string]bool{}
			latest := map[mail.Domain]string{} // of this life, or stored
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				d := domain(fmt.Sprintf("d%d.test", rapid.IntRange(0, 30).Draw(rt, "domain")))
				switch rapid.SampledFrom([]string{"learn", "learn", "learn", "wait", "fail", "mend", "kill", "stop"}).Draw(rt, "step") {
				case "learn":
					site := rapid.SampledFrom([]string{"big.test", "small.test", "mx.test:25"}).Draw(rt, "site")
					s.Learn(d, site, time.Now())
					if learned[d] == nil {
						learned[d] = map[string]bool{}
					}
					learned[d][site] = true
					latest[d] = site
					if got, ok := s.Site(d); !ok || got != site {
						rt.Fatalf("%s leads to %q, learned was %s", d, got, site)
					}
				case "wait":
					wait := time.Duration(rapid.IntRange(0, 200).Draw(rt, "hours")) * time.Hour
					if engine.broken.Load() { // it is tried again each minute
						wait = 3 * time.Minute
					}
					time.Sleep(wait)
				case "fail":
					engine.broken.Store(true)
				case "mend":
					engine.broken.Store(false)
					time.Sleep(5 * time.Minute)
				case "kill":
					left := engine.Clone()
					s.stop()
					engine = &countingEngine{Engine: left}
					s = runSites(engine, most)
					latest = map[mail.Domain]string{}
				case "stop":
					engine.broken.Store(false)
					synctest.Wait()
					before := map[mail.Domain]string{}
					for d := range learned {
						before[d], _ = s.Site(d)
					}
					s.stop()
					engine = &countingEngine{Engine: engine.Reopen()}
					s = runSites(engine, most)
					if err := s.Read(ctx); err != nil {
						rt.Fatal(err)
					}
					for d, site := range before {
						if got, _ := s.Site(d); got != site {
							rt.Fatalf("%s led to %q before the stop, to %q after it", d, site, got)
						}
					}
				}
				if err := s.Read(ctx); err != nil {
					rt.Fatal(err)
				}
				known := 0
				for d, sites := range learned {
					got, ok := s.Site(d)
					if ok {
						known++
					}
					if ok && !sites[got] || ok && latest[d] != "" && got != latest[d] {
						rt.Fatalf("%s leads to %s, learned were %v, last %s", d, got, sites, latest[d])
					}
				}
				if known > most {
					rt.Fatalf("%d domains are known", known)
				}
			}
		})
	})
}

func TestWhatCouldNotBeStoredIsStoredWhenTheDiskIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &countingEngine{Engine: memory.New()}
		s := runSites(engine, 0)
		engine.broken.Store(true)
		s.Learn(domain("one.test"), "big.test", time.Now())
		time.Sleep(10 * time.Second)
		engine.broken.Store(false)
		time.Sleep(2 * time.Minute)
		if engine.puts.Load() != 1 {
			t.Errorf("%d records were written", engine.puts.Load())
		}
		s.stop()
		if n := strings.Count(s.said.String(), "\n"); n != 1 {
			t.Errorf("said was:\n%s", s.said)
		}
	})
}
