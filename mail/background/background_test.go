package background

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/mail"
)

// secret is what a careless panic could be made of.
const secret = "anx1_secret"

// record gives a log and what was written to it.
func record() (*slog.Logger, *bytes.Buffer) {
	var text bytes.Buffer
	return slog.New(slog.NewTextHandler(&text, nil)), &text
}

// told checks what a log says of a panic.
func told(t *testing.T, log string, want ...string) {
	t.Helper()
	if strings.Contains(log, secret) {
		t.Errorf("the log holds the panic's text: %s", log)
	}
	for _, w := range append(want, "background_test.go") {
		if !strings.Contains(log, w) {
			t.Errorf("the log does not say %q: %s", w, log)
		}
	}
}

func TestAPanicEndsItsGoroutineAloneAndIsToldWithoutItsText(t *testing.T) {
	log, text := record()
	before := Faults()
	var all sync.WaitGroup
	Go(&all, log, "a report", func() { panic("careless: " + secret) })
	all.Wait()
	told(t, text.String(), `goroutine="a report"`, "a value of type string")
	if n := Faults() - before; n != 1 {
		t.Errorf("%d faults counted", n)
	}
}

func TestALoopBeginsAnewAMinuteAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := record()
		begun := time.Now()
		var at []time.Duration
		var all sync.WaitGroup
		Loop(&all, log, "the house", t.Context().Done(), func() {
			if at = append(at, time.Since(begun)); len(at) < 3 {
				panic(errors.New(secret))
			}
		})
		all.Wait()
		if len(at) != 3 || at[1] != time.Minute || at[2] != 2*time.Minute {
			t.Errorf("begun at %v", at)
		}
		told(t, text.String(), "the house")
	})
}

func TestALoopThatPanickedStopsWithTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := record()
		stop := make(chan struct{})
		var all sync.WaitGroup
		var calls atomic.Int32
		Loop(&all, log, "the house", stop, func() { calls.Add(1); panic(secret) })
		synctest.Wait()
		close(stop)
		all.Wait()
		if calls.Load() != 1 {
			t.Errorf("called %d times", calls.Load())
		}
	})
}

// vitalEnv has this test's process be the one that ends.
const vitalEnv = "ANECHOIC_TEST_VITAL"

func TestAPanicOfSomethingVitalEndsTheProcessWithOne(t *testing.T) {
	if os.Getenv(vitalEnv) != "" {
		var all sync.WaitGroup
		Vital(&all, slog.New(slog.NewTextHandler(os.Stderr, nil)), "leases", func() { panic("careless: " + secret) })
		all.Wait()
		select {} // the process has ended
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-test.run", "^"+t.Name()+"$")
	c.Env = append(os.Environ(), vitalEnv+"=1")
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	told(t, string(out), "goroutine=leases", "the process ends")
}

func TestWhoWaitsForAGroupPanicsAsOneOfItDid(t *testing.T) {
	var done atomic.Int32
	fault := func() (fault any) {
		defer func() { fault = recover() }()
		var g Group
		g.Go(func() { panic("careless: " + secret) })
		g.Go(func() { done.Add(1) })
		g.Wait()
		return nil
	}()
	if fault == nil || done.Load() != 1 {
		t.Fatalf("panic %v, %d parts done", fault, done.Load())
	}
	told(t, mail.PanicText(fault), "a value of type string")
}

func TestAGroupRunsNoMoreThanItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := Limit(2)
		var now, most atomic.Int32
		for range 10 {
			g.Go(func() {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				now.Add(-1)
			})
		}
		g.Wait()
		if most.Load() != 2 {
			t.Errorf("%d at a time", most.Load())
		}
	})
}
