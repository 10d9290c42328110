package local_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"anechoic/engine/local"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// BenchmarkCustody is one message from Keep to Settle: 20 KiB, one recipient.
func BenchmarkCustody(b *testing.B) {
	for _, producers := range []int{1, 100} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) { benchmark(b, producers) })
	}
}

func benchmark(b *testing.B, producers int) {
	ctx := context.Background()
	engine, err := local.Open(local.Options{Dir: b.TempDir(), Reserve: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = engine.Close() }()
	q, err := custody.OpenQueue(ctx, engine, custody.Options{SealKey: make([]byte, 32)})
	if err != nil {
		b.Fatal(err)
	}
	header, _ := mail.ParseHeader([]byte("From: a@acme.test\r\nTo: b@else.test\r\nSubject: x\r\n"), mail.HeaderLimits{})
	body := bytes.Repeat([]byte("All work and no play makes Jack a dull boy.\r\n"), 20<<10/45)
	from, _ := mail.ParseAddress("a@acme.test")
	warrant, _ := custody.NewNotice("about", "acme")
	var n atomic.Int64
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.SetParallelism(producers)
	before := cpu()
	defer func() { b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op") }()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			now := time.Now()
			to, _ := mail.ParseAddress(fmt.Sprintf("b@d%d.test", n.Add(1)%500))
			s := custody.Submission{
				ID: mail.NewID(now), Warrant: warrant, Header: header, Body: mail.NewBody(body),
				Envelope: mail.Envelope{From: from, Recipients: []mail.Recipient{{Address: to}}},
			}
			if _, err := q.Keep(ctx, s, now); err != nil {
				b.Fatal(err)
			}
			leases, err := q.Lease(ctx, time.Now(), 1, nil)
			if err != nil {
				b.Fatal(err)
			}
			for _, l := range leases {
				c, _, err := q.Load(ctx, l)
				if err != nil {
					b.Fatal(err)
				}
				if body, ok := c.BodyInMemory(); ok {
					_, _ = io.Discard.Write(body)
				}
				if err := q.Settle(ctx, l, []custody.Outcome{{Result: custody.Delivered, Reply: "250 2.0.0 Ok"}}, nil, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
