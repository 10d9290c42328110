package custody_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"anechoic/engine/memory"
)

// BenchmarkOpenQueue reads a queue of many messages back, and reports what the
// index holds for each.
func BenchmarkOpenQueue(b *testing.B) {
	const messages = 20_000
	engine := memory.New()
	q := open(b, engine)
	for n := range messages {
		keep(b, q, submission(fmt.Sprintf("r%d@d%d.test", n, n%1000)), noon)
	}
	for b.Loop() {
		before := heap()
		q = open(b, engine)
		b.ReportMetric(float64(heap()-before)/messages, "B/message")
		runtime.KeepAlive(q)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/messages, "µs/message")
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLease takes and settles leases out of a long queue.
func BenchmarkLease(b *testing.B) {
	q := open(b, memory.New())
	for n := range 20_000 {
		keep(b, q, submission(fmt.Sprintf("r@d%d.test", n%1000)), noon)
	}
	now := noon
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		leases, err := q.Lease(ctx, now, 10, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, l := range leases {
			if err := q.Settle(ctx, l, nil, nil, now); err != nil {
				b.Fatal(err)
			}
		}
	}
}
