// Package enginetest is the one suite that every custody.Engine passes. A new
// engine calls Run from a test of its own; what is promised to the queue is
// what stands here, and no more.
package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// Engine is what the suite needs beside custody.Engine.
type Engine interface {
	custody.Engine
	Close() error
}

// Open gives an empty engine, and how to have it again after it was closed. The
// test closes what it opens.
type Open func(t *testing.T) (engine Engine, reopen func() Engine)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for name, test := range map[string]func(*testing.T, Open){
		"a committed record is there, also after reopening":         recordsStay,
		"what was deleted is gone, also after reopening":            deletesStay,
		"a batch deletes before it puts":                            deleteThenPut,
		"nothing is found under an unknown name":                    notFound,
		"a scan is in order, begins at from and stops when told":    scans,
		"a value given out is the caller's":                         valuesAreCopies,
		"a batch that is malformed changes nothing":                 badBatches,
		"the ledger's keys are written by facts alone":              ledgerKeys,
		"facts have consecutive offsets in the order of commits":    factsInOrder,
		"facts of concurrent commits have no gap and no repetition": factsConcurrent,
		"the ledger verifies, also after reopening":                 ledgerVerifies,
		"lazy facts come before the durable ones that follow":       lazyFacts,
		"bodies of all sizes read back":                             bodies,
		"a large body is gone when it is deleted":                   largeBodyDeleted,
		"a body that ends early is refused whole":                   shortBody,
		"a body that is longer than it says is refused whole":       longBody,
		"a body's read error is refused whole":                      failingBody,
		"an ended context changes nothing before it is admitted":    endedContext,
		"concurrent commits all arrive":                             concurrent,
		"closing while committing loses nothing acknowledged":       closeWhileCommitting,
		"a closed engine says so":                                   closed,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

var ctx = context.Background()

func fact(n int) ledger.Fact {
	now := time.Date(2026, 11, 22, 12, 0, 0, n, time.UTC)
	return ledger.Fact{Time: now, ID: mail.NewID(now), Event: ledger.Accepted, Org: "acme", MailFrom: "a@acme.test", Rcpt: []string{"b@else.test"}, Size: int64(n)}
}

func mustCommit(t *testing.T, e custody.Engine, b custody.Batch) {
	t.Helper()
	if err := e.Commit(ctx, &b); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

func mustClose(t *testing.T, e Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func record(key, value string) custody.Record { return custody.Record{Key: key, Value: []byte(value)} }

// scan gives what a scan shows, as key=value.
func scan(t *testing.T, e custody.Engine, prefix, from string) []string {
	t.Helper()
	var got []string
	err := e.Scan(ctx, prefix, from, func(k string, v []byte) bool {
		got = append(got, k+"="+string(v))
		return true
	})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return got
}

func facts(t *testing.T, e custody.Engine) []ledger.Fact {
	t.Helper()
	var got []ledger.Fact
	if err := ledger.Read(ctx, e, 0, func(f ledger.Fact) bool { got = append(got, f); return true }); err != nil {
		t.Fatalf("ledger.Read: %v", err)
	}
	return got
}

func recordsStay(t *testing.T, open Open) {
	e, reopen := open(t)
	mustCommit(t, e, custody.Batch{Put: []custody.Record{record("message/a", "one"), record("message/b", "")}})
	mustCommit(t, e, custody.Batch{Put: []custody.Record{record("message/a", "two")}})
	mustClose(t, e)
	e = reopen()
	defer mustClose(t, e)
	if diff := cmp.Diff([]string{"message/a=two", "message/b="}, scan(t, e, "message/", "")); diff != "" {
		t.Error(diff)
	}
	if v, err := e.Get(ctx, "message/a"); err != nil || string(v) != "two" {
		t.Errorf("Get: %q, %v", v, err)
	}
}

func deletesStay(t *testing.T, open Open) {
	e, reopen := open(t)
	mustCommit(t, e, custody.Batch{Put: []custody.Record{record("a/1", "x"), record("a/2", "y")}})
	mustCommit(t, e, custody.Batch{Delete: []string{"a/1", "a/never"}})
	mustClose(t, e)
	e = reopen()
	defer mustClose(t, e)
	if diff := cmp.Diff([]string{"a/2=y"}, scan(t, e, "a/", "")); diff != "" {
		t.Error(diff)
	}
}

func deleteThenPut(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	mustCommit(t, e, custody.Batch{Put: []custody.Record{record("a", "old")}})
	mustCommit(t, e, custody.Batch{Put: []custody.Record{record("a", "new")}, Delete: []string{"a"}})
	if diff := cmp.Diff([]string{"a=new"}, scan(t, e, "a", "")); diff != "" {
		t.Error(diff)
	}
}

func notFound(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	if _, err := e.Get(ctx, "message/none"); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	if _, err := e.OpenBody(ctx, "none"); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("OpenBody: %v", err)
	}
	if got := scan(t, e, "message/", ""); got != nil {
		t.Errorf("Scan: %v", got)
	}
}

func scans(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	mustCommit(t, e, custody.Batch{Put: []custody.Record{
		record("b/2", "2"), record("a/9", "9"), record("b/10", "10"), record("c/1", "1"), record("b/1", "1"), record("b", "no"), record("b0", "no"),
	}})
	if diff := cmp.Diff([]string{"b/1=1", "b/10=10", "b/2=2"}, scan(t, e, "b/", "")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b/10=10", "b/2=2"}, scan(t, e, "b/", "b/10")); diff != "" {
		t.Error(diff)
	}
	if got := scan(t, e, "b/", "c"); got != nil {
		t.Errorf("a scan from beyond its prefix shows %v", got)
	}
	n := 0
	if err := e.Scan(ctx, "b/", "", func(string, []byte) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("a scan told to stop after 2 visited %d: %v", n, err)
	}
}

func valuesAreCopies(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	value := []byte("value")
	mustCommit(t, e, custody.Batch{Put: []custody.Record{{Key: "k", Value: value}}})
	value[0] = 'X'
	v, err := e.Get(ctx, "k")
	if err != nil || string(v) != "value" {
		t.Fatalf("Get: %q, %v", v, err)
	}
	v[0] = 'Y'
	if v, _ := e.Get(ctx, "k"); string(v) != "value" {
		t.Errorf("a changed answer changed the record: %q", v)
	}
}

func badBatches(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	good := record("good", "x")
	for name, b := range map[string]custody.Batch{
		"empty key":             {Put: []custody.Record{good, record("", "x")}},
		"space in key":          {Put: []custody.Record{good, record("a b", "x")}},
		"key not ASCII":         {Put: []custody.Record{good, record("ä", "x")}},
		"key too long":          {Put: []custody.Record{good, record(strings.Repeat("k", custody.MaxKey+1), "x")}},
		"body name with slash":  {Put: []custody.Record{good}, PutBody: []custody.BodyRecord{{Name: "a/b", Size: 1, Content: strings.NewReader("x")}}},
		"body without content":  {Put: []custody.Record{good}, PutBody: []custody.BodyRecord{{Name: "a", Size: 0}}},
		"body of negative size": {Put: []custody.Record{good}, PutBody: []custody.BodyRecord{{Name: "a", Size: -1, Content: strings.NewReader("x")}}},
		"deleted body unnamed":  {Put: []custody.Record{good}, DeleteBody: []string{""}},
	} {
		if err := e.Commit(ctx, &b); !errors.Is(err, custody.ErrBadBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := scan(t, e, "", ""); got != nil {
		t.Errorf("refused batches left %v", got)
	}
}

func ledgerKeys(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	mustCommit(t, e, custody.Batch{Facts: []ledger.Fact{fact(0)}})
	for _, b := range []custody.Batch{
		{Put: []custody.Record{record(ledger.FactKey(0), "forged")}},
		{Delete: []string{ledger.FactKey(0)}},
		{Put: []custody.Record{record(ledger.SegmentKey(1), "forged")}},
		{Delete: []string{ledger.SegmentKey(1)}},
	} {
		if err := e.Commit(ctx, &b); !errors.Is(err, custody.ErrBadBatch) {
			t.Errorf("%v: %v", b, err)
		}
	}
}

func factsInOrder(t *testing.T, open Open) {
	e, reopen := open(t)
	var want []ledger.Fact
	next := func() ledger.Fact {
		f := fact(len(want))
		f.Offset = uint64(len(want))
		want = append(want, f)
		return f
	}
	for range 3 {
		mustCommit(t, e, custody.Batch{Facts: []ledger.Fact{next(), next()}})
	}
	mustClose(t, e)
	e = reopen()
	defer mustClose(t, e)
	mustCommit(t, e, custody.Batch{Facts: []ledger.Fact{next()}})
	if diff := cmp.Diff(want, facts(t, e), cmp.Comparer(equalFact)); diff != "" {
		t.Error(diff)
	}
}

func equalFact(a, b ledger.Fact) bool {
	return a.Offset == b.Offset && a.ID == b.ID && a.Size == b.Size && a.MailFrom == b.MailFrom && a.Time.Equal(b.Time)
}

func factsConcurrent(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	const writers, each = 16, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := e.Commit(ctx, &custody.Batch{Facts: []ledger.Fact{fact(w*1000 + 2*i), fact(w*1000 + 2*i + 1)}}); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wg.Wait()
	got := facts(t, e)
	if len(got) != writers*each*2 {
		t.Fatalf("%d facts, want %d", len(got), writers*each*2)
	}
	last := map[int64]int64{}
	for i, f := range got {
		if f.Offset != uint64(i) {
			t.Fatalf("fact %d has offset %d", i, f.Offset)
		}
		w := f.Size / 1000
		if before, seen := last[w]; seen && f.Size != before+1 {
			t.Fatalf("writer %d: %d after %d", w, f.Size, before)
		}
		last[w] = f.Size
		if f.Size%2 == 1 && got[i-1].Size != f.Size-1 {
			t.Fatalf("the facts of one batch are torn apart at offset %d", i)
		}
	}
}

func ledgerVerifies(t *testing.T, open Open) {
	e, reopen := open(t)
	many := make([]ledger.Fact, 700)
	for i := range many {
		many[i] = fact(i)
	}
	const rounds = 7 // more than one full segment
	for range rounds {
		mustCommit(t, e, custody.Batch{Facts: many})
	}
	mustClose(t, e)
	e = reopen()
	defer mustClose(t, e)
	r, err := ledger.Verify(ctx, e)
	if err != nil || !r.OK() || r.Facts != rounds*700 || r.Unsealed != 0 || r.Segments < 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

func lazyFacts(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	mustCommit(t, e, custody.Batch{Facts: []ledger.Fact{fact(1)}, Lazy: true})
	mustCommit(t, e, custody.Batch{Facts: []ledger.Fact{fact(2)}, Lazy: true})
	mustCommit(t, e, custody.Batch{Facts: []ledger.Fact{fact(3)}})
	got := facts(t, e)
	if len(got) != 3 || got[0].Size != 1 || got[1].Size != 2 || got[2].Size != 3 {
		t.Errorf("%v", got)
	}
}

// content is size octets that differ everywhere.
func content(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return b
}

func bodies(t *testing.T, open Open) {
	e, reopen := open(t)
	sizes := []int{0, 1, 20 << 10, custody.ChunkThreshold - 1, custody.ChunkThreshold, custody.ChunkThreshold + 1, 2 * custody.ChunkThreshold, 10 << 20}
	for _, size := range sizes {
		mustCommit(t, e, custody.Batch{PutBody: []custody.BodyRecord{{Name: fmt.Sprint(size), Size: int64(size), Content: iotest.HalfReader(bytes.NewReader(content(size)))}}})
	}
	mustClose(t, e)
	e = reopen()
	defer mustClose(t, e)
	for _, size := range sizes {
		checkBody(t, e, fmt.Sprint(size), content(size))
	}
}

func checkBody(t *testing.T, e custody.Engine, name string, want []byte) {
	t.Helper()
	b, err := e.OpenBody(ctx, name)
	if err != nil {
		t.Errorf("OpenBody %s: %v", name, err)
		return
	}
	if b.Size() != int64(len(want)) {
		t.Errorf("body %s has %d octets", name, b.Size())
	}
	for range 2 { // it can be read again
		got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("body %s: %d octets that are not what was put: %v", name, len(got), err)
		}
	}
	whole, small := b.Whole()
	if small != (len(want) <= custody.ChunkThreshold) || small && !bytes.Equal(whole, want) {
		t.Errorf("body %s: Whole gives %d octets, %t", name, len(whole), small)
	}
	middle := make([]byte, min(100, len(want)))
	if _, err := b.ReadAt(middle, int64(len(want)-len(middle))); err != nil && err != io.EOF || !bytes.Equal(middle, want[len(want)-len(middle):]) {
		t.Errorf("body %s: its end reads wrongly: %v", name, err)
	}
	if n, err := b.ReadAt(make([]byte, 1), int64(len(want))); n != 0 || err != io.EOF {
		t.Errorf("body %s: beyond its end: %d, %v", name, n, err)
	}
}

func largeBodyDeleted(t *testing.T, open Open) {
	e, reopen := open(t)
	for _, size := range []int{100, 1 << 20} {
		name := fmt.Sprint(size)
		mustCommit(t, e, custody.Batch{PutBody: []custody.BodyRecord{{Name: name, Size: int64(size), Content: bytes.NewReader(content(size))}}})
		mustCommit(t, e, custody.Batch{DeleteBody: []string{name}})
		if _, err := e.OpenBody(ctx, name); !errors.Is(err, custody.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustClose(t, e)
	e = reopen()
	defer mustClose(t, e)
	for _, name := range []string{"100", fmt.Sprint(1 << 20)} {
		if _, err := e.OpenBody(ctx, name); !errors.Is(err, custody.ErrNotFound) {
			t.Errorf("%s came back: %v", name, err)
		}
	}
}

// refused commits a batch whose body is bad and sees that nothing of it is there.
func refused(t *testing.T, open Open, size int64, content func() io.Reader) {
	t.Helper()
	e, reopen := open(t)
	err := e.Commit(ctx, &custody.Batch{
		Put:     []custody.Record{record("message/a", "x")},
		Facts:   []ledger.Fact{fact(1)},
		PutBody: []custody.BodyRecord{{Name: "a", Size: size, Content: content()}},
	})
	if !errors.Is(err, custody.ErrBadBatch) {
		t.Errorf("Commit: %v", err)
	}
	for range 2 {
		if got := scan(t, e, "", ""); got != nil {
			t.Errorf("the refused batch left %v", got)
		}
		if _, err := e.OpenBody(ctx, "a"); !errors.Is(err, custody.ErrNotFound) {
			t.Errorf("the refused batch left a body: %v", err)
		}
		mustClose(t, e)
		e = reopen()
	}
	mustClose(t, e)
}

func shortBody(t *testing.T, open Open) {
	refused(t, open, 11, func() io.Reader { return strings.NewReader("ten octets") })
	refused(t, open, 1<<20, func() io.Reader { return bytes.NewReader(content(1<<20 - 1)) })
}

func longBody(t *testing.T, open Open) {
	refused(t, open, 9, func() io.Reader { return strings.NewReader("ten octets") })
	refused(t, open, 1<<20, func() io.Reader { return bytes.NewReader(content(1<<20 + 1)) })
}

func failingBody(t *testing.T, open Open) {
	broken := iotest.ErrReader(errors.New("the temporary file cannot be read"))
	refused(t, open, 10, func() io.Reader { return io.MultiReader(strings.NewReader("half"), broken) })
	refused(t, open, 1<<20, func() io.Reader { return io.MultiReader(bytes.NewReader(content(1<<19)), broken) })
}

func endedContext(t *testing.T, open Open) {
	e, _ := open(t)
	defer mustClose(t, e)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := e.Commit(ended, &custody.Batch{Put: []custody.Record{record("a", "x")}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := e.Get(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if got := scan(t, e, "", ""); got != nil {
		t.Errorf("left %v", got)
	}
}

func concurrent(t *testing.T, open Open) {
	e, reopen := open(t)
	const writers, each = 20, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("%02d-%02d", w, i)
				b := custody.Batch{
					Put:     []custody.Record{record("message/"+name, name)},
					Facts:   []ledger.Fact{fact(i)},
					PutBody: []custody.BodyRecord{{Name: name, Size: 1000, Content: bytes.NewReader(content(1000))}},
				}
				if err := e.Commit(ctx, &b); err != nil {
					t.Errorf("Commit: %v", err)
				}
				if _, err := e.Get(ctx, "message/"+name); err != nil {
					t.Errorf("what was committed is not there: %v", err)
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, e)
	e = reopen()
	defer mustClose(t, e)
	if n := len(scan(t, e, "message/", "")); n != writers*each {
		t.Errorf("%d records, want %d", n, writers*each)
	}
	checkBody(t, e, "07-13", content(1000))
	if r, err := ledger.Verify(ctx, e); err != nil || !r.OK() || r.Facts != writers*each {
		t.Errorf("%+v, %v", r, err)
	}
}

func closeWhileCommitting(t *testing.T, open Open) {
	e, reopen := open(t)
	var mu sync.Mutex
	var acknowledged []string
	var wg sync.WaitGroup
	begun := make(chan struct{}, 1)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("k/%d-%d", w, i)
				err := e.Commit(ctx, &custody.Batch{Put: []custody.Record{record(key, "x")}, Facts: []ledger.Fact{fact(i)}})
				if err != nil {
					if !errors.Is(err, custody.ErrClosed) {
						t.Errorf("Commit: %v", err)
					}
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, key)
				mu.Unlock()
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	<-begun
	mustClose(t, e)
	wg.Wait()
	e = reopen()
	defer mustClose(t, e)
	for _, key := range acknowledged {
		if _, err := e.Get(ctx, key); err != nil {
			t.Errorf("%s was acknowledged: %v", key, err)
		}
	}
}

func closed(t *testing.T, open Open) {
	e, _ := open(t)
	mustClose(t, e)
	if err := e.Commit(ctx, &custody.Batch{Put: []custody.Record{record("a", "x")}}); !errors.Is(err, custody.ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := e.Get(ctx, "a"); !errors.Is(err, custody.ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	if err := e.Scan(ctx, "", "", func(string, []byte) bool { return true }); !errors.Is(err, custody.ErrClosed) {
		t.Errorf("Scan: %v", err)
	}
	if _, err := e.OpenBody(ctx, "a"); err == nil {
		t.Error("OpenBody gives a body")
	}
}
