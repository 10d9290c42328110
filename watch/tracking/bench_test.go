package tracking

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver of the index

	"anechoic/ledger"
	"anechoic/mail"
)

// records is a ledger in memory.
type records [][]byte

func (r *records) add(f ledger.Fact) {
	e, err := ledger.Encode(f)
	if err != nil {
		panic(err)
	}
	*r = append(*r, e.Record())
}

func (r *records) Scan(ctx context.Context, _, from string, visit func(string, []byte) bool) error {
	first, err := ledger.ParseKey(ledger.FactPrefix, from)
	if err != nil {
		return err
	}
	for n := first; n < uint64(len(*r)); n++ {
		if (*r)[n] != nil && !visit(ledger.FactKey(n), (*r)[n]) {
			return nil
		}
	}
	return ctx.Err()
}

// typical is the three facts of a message that was relayed.
func typical(n int) []ledger.Fact {
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * 86 * time.Millisecond)
	org := fmt.Sprintf("org%d", n%97)
	base := ledger.Fact{Time: at, ID: mail.NewID(at), Event: ledger.Accepted, Org: org, Source: "exchange", Direction: "outbound", Peer: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}),
		MailFrom: fmt.Sprintf("user%d@%s.example", n%1009, org), From: fmt.Sprintf("user%d@%s.example", n%1009, org), Rcpt: []string{fmt.Sprintf("somebody%d@far%d.example", n%50021, n%503)},
		Size: 4000, Disposition: ledger.DispositionRelayed, Identity: ledger.Proven, Generation: 3, MessageID: fmt.Sprintf("<%d.%d@%s.example>", n, n*7, org), TLS: "TLS1.3 TLS_AES_128_GCM_SHA256"}
	leased := ledger.Fact{Time: at, ID: base.ID, Event: ledger.Leased, Org: org, Source: "exchange", Direction: "outbound", MailFrom: base.MailFrom, Rcpt: base.Rcpt, Attempt: 1}
	delivered := leased
	delivered.Event, delivered.Site, delivered.Reply, delivered.Egress = ledger.Delivered, fmt.Sprintf("far%d.example", n%503), fmt.Sprintf("250 2.0.0 Ok: queued as 4X%dY", n), "198.51.100.1"
	return []ledger.Fact{base, leased, delivered}
}

// A rebuild of a day, for its rate and the profile.
func BenchmarkRebuild(b *testing.B) {
	var all records
	for n := range 40_000 {
		for _, f := range typical(n) {
			all.add(f)
		}
	}
	for b.Loop() {
		i, err := Open(Options{Dir: b.TempDir(), Ledger: &all})
		if err != nil {
			b.Fatal(err)
		}
		if err := i.Follow(b.Context(), time.Now()); err != nil {
			b.Fatal(err)
		}
		if err := i.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(all)*b.N)/b.Elapsed().Seconds(), "facts/s")
}

// A search that finds nothing in many batches, for the cost of one.
func BenchmarkSearchNothing(b *testing.B) {
	var all records
	for n := range 40_000 {
		for _, f := range typical(n) {
			all.add(f)
		}
	}
	i, err := Open(Options{Dir: b.TempDir(), Ledger: &all})
	if err != nil {
		b.Fatal(err)
	}
	defer i.Close()
	if err := i.Follow(b.Context(), time.Now().Add(time.Hour)); err != nil {
		b.Fatal(err)
	}
	q, err := Parse("to:nobody@nowhere.example event:bounced", time.Now())
	if err != nil {
		b.Fatal(err)
	}
	batches := 0
	for _, p := range i.all() {
		batches += len(p.stand())
	}
	for b.Loop() {
		if _, err := i.Search(b.Context(), q, Page{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batches), "µs/batch")
}
