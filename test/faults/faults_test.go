package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// The short form: next hops and DNS fail for a few seconds. Kills are in
// test/crash, a failing disk in disk_test.go, power cuts in the long form.
func TestMailSurvivesFailingNextHopsAndDNS(t *testing.T) {
	o := options{minutes: 0.1, seed: rand.Uint64(), say: t.Logf}
	r := weather(t.Context(), o)
	for _, p := range r.problems {
		t.Error(p)
	}
	if t.Failed() {
		t.Logf("seed %d; the processes said:\n%s", o.seed, r.said)
	}
	t.Logf("acknowledged | delivered | bounced | lost | repeated | unexplained | cut short: %s; %s", r.cells, r.notes)
}

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-kills", "-1"}, {"-minutes", "-2"}, {"-power-cuts", "x"}, {"more"}} {
		if _, err := readOptions(args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
