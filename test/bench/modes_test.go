package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"anechoic/lab/sink"
)

// wellFormed says whether every row of each Markdown table has as many cells as
// its head.
func wellFormed(t *testing.T, text string) {
	t.Helper()
	columns := 0
	for line := range strings.Lines(text) {
		n := strings.Count(line, "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			columns = 0
		case columns == 0:
			columns = n
		case n != columns:
			t.Errorf("a row of %d cells among such of %d: %s", n, columns, line)
		}
	}
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestTheStampOfTheGeneratorNamesAMessage(t *testing.T) {
	header := "From: a@a.example\r\nX-Bench: 1003.17.1700000000000000042\r\nSubject: x\r\n"
	name, sent, ok := generatorStamp([]byte(header))
	if name != "1003.17" || !sent.Equal(time.Unix(1700000000, 42)) || !ok {
		t.Errorf("%q, %s, %t", name, sent, ok)
	}
	for _, header := range []string{"", "X-Bench: 1\r\n", "X-Bench: 1.2.x\r\n", "Subject: X-Bench\r\n"} {
		if name, _, ok := generatorStamp([]byte(header)); ok {
			t.Errorf("%q names %q", header, name)
		}
	}
}

// TestWhatIsMissingIsNeverHidden: a relay that did not deliver all has no time
// until all were.
func TestWhatIsMissingIsNeverHidden(t *testing.T) {
	start := time.Unix(1000, 0)
	tallies, accepted := make([]sink.Tally, len(providers)), make([]int, len(providers))
	for i := range tallies {
		accepted[i] = 2
		tallies[i] = sink.Tally{Attempts: 6, Deliveries: []sink.Delivery{{At: start.Add(5 * time.Second), Took: time.Second}, {At: start.Add(20 * time.Second), Took: 2 * time.Second}}}
	}
	c := contender{name: "ours"}
	r := sumUp(c, tallies, accepted, start, start.Add(10*time.Second))
	n := float64(len(providers))
	if r.Seconds != 20 || r.Whole != 2*n/20 || r.Window != n/10 || r.Attempts != 3 || r.PlainP50 != 1000 || r.PlainP99 != 2000 || r.Missing != 0 {
		t.Errorf("%+v", r)
	}
	accepted[0] = 3
	late := sumUp(c, tallies, accepted, start, start.Add(10*time.Second))
	if late.Seconds != 0 || late.Missing != 1 {
		t.Errorf("%+v", late)
	}
	if m := medianGoodput([]Goodput{r, late, r}); m.Missing != 1 || m.Submitted != 6*len(providers)+1 || m.Window != n/10 {
		t.Errorf("%+v", m)
	}
	var b bytes.Buffer
	if err := writeGoodput(&b, options{sizes: []int{20}, rounds: 2, rate: 105, seconds: 12}, "something was left out", [][]Goodput{{r, r}, {late, r}}); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, b.String())
	contains(t, b.String(), "something was left out.", "retry_after = "+ourRetries, "minimal_backoff_time = 5s", "| 20 | 3.00 | 1000 / 2000 |", "| – | – | 3.00 |", "| plain: takes everything at once | ours | 2 | 2 |")
}

// TestPostfixHasAWayToEachProvider: and no other.
func TestPostfixHasAWayToEachProvider(t *testing.T) {
	settings := strings.Join(providerSettings(2600), "\n")
	contains(t, settings, "relayhost =\n", "transport_maps = inline:{plain.example=smtp:[127.70.0.1]:2600, storm.example=smtp:[127.70.0.2]:2600,")
	if n := strings.Count(settings, "smtp:["); n != len(providers) {
		t.Errorf("%d ways to %d providers", n, len(providers))
	}
}

func TestEachProviderListensAtItsAddressAndHasItsDomain(t *testing.T) {
	g := testGround(t)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	g.sinkPort = port
	g.publishProviders()
	sinks, err := g.openProviders(15)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make([]int, len(sinks))
	tallies := awaitAll(t.Context(), sinks, accepted, time.Now())
	for i, s := range sinks {
		if s.Addr().Addr() != providerAddress(i) || int(s.Addr().Port()) != port || tallies[i].Domain != providers[i].domain() {
			t.Errorf("%s listens at %s", tallies[i].Domain, s.Addr())
		}
		answer, err := g.zone.MX(t.Context(), providers[i].domain())
		if err != nil || len(answer.Records) != 1 {
			t.Errorf("%v, %v", answer, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHalvesAreWrittenWithTheirConditions(t *testing.T) {
	g := &ground{}
	h := Half{Relay: "Anechoic", Terms: pureGo(g).terms, Load: Load{KiB: 4, Connections: 200}, Full: 4000, Half: 2000, Taken: 1999, AckP50: 1, AckP99: 9, EndP50: 3, EndP99: 12}
	for _, delivered := range []bool{false, true} {
		var b bytes.Buffer
		if err := writeHalves(&b, "A title", []Half{h, h}, delivered); err != nil {
			t.Fatal(err)
		}
		wellFormed(t, b.String())
		contains(t, b.String(), "A title. ", "fsync: yes", "| 4 | 200 | Anechoic | 4000 | 0.00 | 2000 | 1999 | 1.0 / 9.0 |")
		if strings.Contains(b.String(), "3 / 12") != delivered {
			t.Errorf("end to end, with delivered %t:\n%s", delivered, b.String())
		}
	}
}

func TestALoadTellsTheGeneratorItsRate(t *testing.T) {
	got := strings.Join(Load{KiB: 4, Connections: 9, Seconds: 3, Rate: 12.5}.arguments(), " ")
	if want := "-size 4096 -conns 9 -duration 3s -rate 12.50"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestMemoryOfAProcessIsRead(t *testing.T) {
	const status = "Name:\tanechoic\nVmHWM:\t  409600 kB\nVmRSS:\t  204800 kB\n"
	if peak, now := memoryOf(status, "VmHWM:"), memoryOf(status, "VmRSS:"); peak != 400 || now != 200 || memoryOf(status, "VmSwap:") != 0 {
		t.Errorf("%d, %d", peak, now)
	}
}

func TestProcessorTimeOfAProcessIsRead(t *testing.T) {
	const stat = "42 (a b) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1 1 1"
	if got := processorTime(stat); got != 3*time.Second {
		t.Errorf("%s", got)
	}
	if got := processorTime(""); got != 0 {
		t.Errorf("%s", got)
	}
}

// TestALineUpWithoutThePeer: with -alone nothing of the peer is asked for.
func TestALineUpWithoutThePeer(t *testing.T) {
	all, left, err := lineUp(&ground{errs: io.Discard}, options{alone: true})
	if err != nil || left != "" || len(all) != 4 {
		t.Errorf("%d contenders, %q, %v", len(all), left, err)
	}
	for _, c := range all {
		if c.name == peerName {
			t.Error("the peer is there")
		}
	}
}
