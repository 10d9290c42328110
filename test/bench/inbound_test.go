package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"anechoic/mail/dns"
)

// inboundGround is the messages and our verifier of them.
func inboundGround(t testing.TB) ([][]byte, verifier) {
	zone, answers := &dns.Zone{}, map[string]string{}
	corpus, err := inboundCorpus(context.Background(), 20<<10, zone, answers)
	if err != nil {
		t.Fatal(err)
	}
	v, stop, err := ownVerifier(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return corpus, v
}

func TestEveryMessageOfTheInboundMeasurementPassesEverything(t *testing.T) {
	corpus, v := inboundGround(t)
	for _, m := range corpus[:8] {
		if len(m) < 18<<10 || len(m) > 22<<10 {
			t.Errorf("%d octets", len(m))
		}
		if err := v.verify(context.Background(), m); err != nil {
			t.Error(err)
		}
	}
	broken := bytes.Replace(corpus[0], []byte("Subject: Minutes"), []byte("Subject: Seconds"), 1)
	if v.verify(context.Background(), broken) == nil {
		t.Error("a changed message passes")
	}
}

func TestInboundFiguresArePrintedWithTheirRatio(t *testing.T) {
	r := Inbound{Date: time.Unix(0, 0), KiB: 20, Cores: 2, Ours: []Pace{{2000, 0.5}, {4000, 0.25}, {3000, 0.4}}, Rspamd: []Pace{{200, 5}, {300, 4}, {300, 4}}}
	var b bytes.Buffer
	if err := r.writeMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, b.String())
	contains(t, b.String(), "| 3000 | 0.400 |", "| 300 | 4.000 |", "| ratio, median of the rounds' | 10.0 | 10.0 |")
}

func BenchmarkInbound(b *testing.B) {
	corpus, v := inboundGround(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := v.verify(context.Background(), corpus[i%len(corpus)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
