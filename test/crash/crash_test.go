package crash

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"anechoic/test/faults/rig"
)

const (
	fullKills, shortKills = 200, 20
	senders               = 4
	longestStart          = 400 * time.Millisecond // of a process that is killed while it may not be ready yet
	longestLife           = 800 * time.Millisecond // of one that is killed under load, from when it is ready
)

func TestAcknowledgedMailSurvivesKill(t *testing.T) {
	r, err := rig.New(rig.Options{Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("the processes said:\n%s", r.Said())
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	load := r.StartLoad(senders)
	kills := killsWanted(t)
	for range kills {
		p, err := r.Start()
		if err != nil {
			t.Fatal(err)
		}
		life := longestStart
		if rand.IntN(4) > 0 {
			life = longestLife
			if err := p.AwaitReady(); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.KillWithin(life); err != nil {
			t.Fatal(err)
		}
	}
	last, err := r.StartReady()
	if err != nil {
		t.Fatal(err)
	}
	a := r.Finish(t.Context(), last, load)
	for _, p := range r.Problems() {
		t.Error(p)
	}
	if a.Acknowledged < 10*kills {
		t.Errorf("%d messages were acknowledged over %d kills: the load was too little to show anything", a.Acknowledged, kills)
	}
	t.Logf("crash: %d kills, %d messages acknowledged and delivered, %d delivered more than once by attempts in flight", kills, a.Delivered, a.Repeated)
}

func killsWanted(t *testing.T) int {
	t.Helper()
	if s := os.Getenv("ANECHOIC_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("ANECHOIC_KILLS: %v", err)
		}
		return n
	}
	if testing.Short() {
		return shortKills
	}
	return fullKills
}
