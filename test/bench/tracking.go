package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver of the index

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/watch/tracking"
)

// Of -tracking: how the facts are spread, and how often each search is asked.
const (
	trackedPerDay = 10_000_000
	trackedOrgs   = 1000
	trackedAsked  = 40
)

// trackedFacts is a ledger in memory: three facts of each message. Its records lie one
// after another in a few large pieces, so that the garbage collector has as little to
// do with it as with a ledger on disk.
type trackedFacts struct {
	facts  int
	pieces [][]byte
	ends   []uint32 // of each record in its piece
}

// trackedPiece is how many records a piece has.
const trackedPiece = 1 << 16

func newTrackedFacts(facts int) (*trackedFacts, error) {
	t := &trackedFacts{facts: facts, ends: make([]uint32, facts)}
	for n := range facts {
		e, err := ledger.Encode(trackedFact(n))
		if err != nil {
			return nil, err
		}
		if n%trackedPiece == 0 {
			t.pieces = append(t.pieces, nil)
		}
		last := &t.pieces[len(t.pieces)-1]
		*last = append(*last, e.Record()...)
		t.ends[n] = uint32(len(*last))
	}
	return t, nil
}

// record is that of an offset.
func (t *trackedFacts) record(n int) []byte {
	start := uint32(0)
	if n%trackedPiece > 0 {
		start = t.ends[n-1]
	}
	return t.pieces[n/trackedPiece][start:t.ends[n]]
}

// Scan implements ledger.Scanner.
func (t *trackedFacts) Scan(ctx context.Context, _, from string, visit func(string, []byte) bool) error {
	first, err := ledger.ParseKey(ledger.FactPrefix, from)
	if err != nil {
		return err
	}
	for n := int(first); n < t.facts && ctx.Err() == nil; n++ {
		if !visit(ledger.FactKey(uint64(n)), t.record(n)) {
			return nil
		}
	}
	return ctx.Err()
}

// trackedFact is a fact of the synthetic ledger.
func trackedFact(n int) ledger.Fact {
	m := n / 3
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * (24 * time.Hour / trackedPerDay))
	organisation := fmt.Sprintf("org%d", m*7919%trackedOrgs)
	f := ledger.Fact{
		Time: at, ID: trackedID(m), Event: ledger.Accepted, Org: organisation, Source: "exchange", Direction: "outbound", MailFrom: fmt.Sprintf("user%d@%s.example", m%10_007, organisation),
		Rcpt: []string{fmt.Sprintf("somebody%d@far%d.example", m*31%1_000_003, m%5003)},
	}
	switch n % 3 {
	case 0:
		f.Peer, f.From, f.Size, f.Disposition, f.Identity = netip.AddrFrom4([4]byte{192, 0, byte(m >> 8), byte(m)}), f.MailFrom, 4000, ledger.DispositionRelayed, ledger.Proven
		f.Proofs, f.TLS, f.MessageID, f.Generation = []string{"tenant", "secret-header"}, "TLS 1.3 TLS_AES_128_GCM_SHA256", fmt.Sprintf("<%d.%x@%s.example>", m, m*7, organisation), 3
	case 1:
		f.Event, f.Attempt = ledger.Leased, 1
	case 2:
		f.Event, f.Attempt, f.Site, f.Egress, f.Reply = ledger.Delivered, 1, fmt.Sprintf("far%d.example", m%5003), "198.51.100.1", fmt.Sprintf("250 2.0.0 Ok: queued as 4X%xY", m)
		if m%1000 == 7 {
			f.Event, f.Reason, f.Reply = ledger.Bounced, mail.ReasonRecipientUnknown, "550 5.1.1 user unknown"
		}
	}
	return f
}

// trackedID is the id of a message: its own, and always the same.
func trackedID(m int) mail.ID {
	return mail.ID(fmt.Sprintf("2al%023d", m))
}

// tracked indexes a ledger from nothing, and asks.
func tracked(ctx context.Context, o options, out io.Writer) (err error) {
	source, err := newTrackedFacts(o.tracking)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "anechoic-tracking-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	index, err := tracking.Open(tracking.Options{Dir: dir, Ledger: source})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, index.Close()) }()
	before, began := ownTime(), time.Now()
	if err := index.Follow(ctx, began.Add(time.Hour)); err != nil {
		return err
	}
	took, used := time.Since(began), ownTime()-before
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(out, "%s; load %.14s. %d facts indexed from nothing in %.1f s: %.0f a second, %.1f µs of processor time each; %d MiB on disk.\n\n| search | facts found | p50 ms | p95 ms | processor ms |\n|---|--:|--:|--:|--:|\n",
		machine(), load, o.tracking, took.Seconds(), float64(o.tracking)/took.Seconds(), float64(used.Microseconds())/float64(o.tracking), sizeOf(dir)>>20)
	return askTracked(ctx, index, o.tracking, out)
}

// ownTime is what this process used.
func ownTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func sizeOf(dir string) (size int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

// askTracked asks each kind of search often, each time for something else.
func askTracked(ctx context.Context, index *tracking.Index, facts int, out io.Writer) error {
	for _, kind := range []struct {
		name string
		of   func(f ledger.Fact) string
	}{
		{"id", func(f ledger.Fact) string { return "id:" + string(f.ID) }},
		{"message_id", func(f ledger.Fact) string { return "message_id:" + f.MessageID }},
		{"recipient", func(f ledger.Fact) string { return "to:" + f.Rcpt[0] }},
		{"sender", func(f ledger.Fact) string { return "from:" + f.MailFrom }},
		{"beginning of an address", func(f ledger.Fact) string { return "to:" + f.Rcpt[0][:13] + "*" }},
		{"domain", func(f ledger.Fact) string { return "domain:" + f.Site }},
		{"organisation and event", func(f ledger.Fact) string { return "event:bounced org:" + f.Org }},
		{"reason", func(ledger.Fact) string { return "reason:" + string(mail.ReasonRecipientUnknown) }},
		{"peer", func(f ledger.Fact) string { return "peer:" + f.Peer.String() }},
		{"network", func(f ledger.Fact) string { return "peer:" + netip.PrefixFrom(f.Peer, 24).Masked().String() }},
		{"next hop's queue id", func(f ledger.Fact) string { return "word:" + f.Reply[len("250 2.0.0 Ok: queued as "):] }},
		{"nothing there is", func(ledger.Fact) string { return "to:nobody@nowhere.example event:bounced" }},
	} {
		var times []time.Duration
		found, before := 0, ownTime()
		for n := range trackedAsked {
			m := n * 7_654_321 % (facts / 3)
			for m%1000 == 7 {
				m++
			}
			f := trackedFact(3 * m)
			end := trackedFact(3*m + 2)
			f.Site, f.Reply = end.Site, end.Reply
			q, err := tracking.Parse(kind.of(f), time.Now())
			if err != nil {
				return err
			}
			began := time.Now()
			a, err := index.Search(ctx, q, tracking.Page{Limit: 50})
			if err != nil {
				return err
			}
			times, found = append(times, time.Since(began)), found+len(a.Facts)
		}
		slices.Sort(times)
		fmt.Fprintf(out, "| %s | %.1f | %.1f | %.1f | %.1f |\n", kind.name, float64(found)/trackedAsked, times[len(times)/2].Seconds()*1000, times[len(times)*95/100].Seconds()*1000, (ownTime()-before).Seconds()*1000/trackedAsked)
	}
	return nil
}
