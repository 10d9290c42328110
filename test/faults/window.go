package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

const (
	windowMessages = 4000 // at each load
	windowSize     = 20 << 10
)

// window measures what a crash can repeat: the time from when the next hop said
// 250 until the note of it is durable. That is one commit, which waits for one
// sync; more at the same time wait longer together and not more often.
func window(ctx context.Context, o options) row {
	r := row{name: "the window of a duplicate"}
	for _, workers := range []int{1, 20, 100} {
		times, err := settleTimes(ctx, o.dir, workers)
		if err != nil {
			r.problems = append(r.problems, err.Error())
			return r
		}
		slices.Sort(times)
		at := func(share float64) time.Duration {
			return times[int(share*float64(len(times)-1))].Round(10 * time.Microsecond)
		}
		r.notes = append(r.notes, fmt.Sprintf("%d at a time: p50 %s, p99 %s, longest %s", workers, at(0.5), at(0.99), at(1)))
	}
	return r
}

// settleTimes keeps and settles messages with some workers, on a real disk.
func settleTimes(ctx context.Context, dir string, workers int) (times []time.Duration, err error) {
	if dir, err = os.MkdirTemp(dir, "anechoic-window"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	engine, err := local.Open(local.Options{Dir: dir, Reserve: 1})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	var mu sync.Mutex // guards times and failed
	var failed error
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range windowMessages / workers {
				took, err := settleOne(ctx, engine)
				mu.Lock()
				times, failed = append(times, took), errOr(failed, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if failed == nil && len(times) == 0 {
		failed = fmt.Errorf("nothing was settled")
	}
	return times, failed
}

func errOr(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// settleOne commits what keeps a message, and then what ends it; it gives the time
// of the second.
func settleOne(ctx context.Context, e *local.Engine) (time.Duration, error) {
	id := mail.NewID(time.Now())
	fact := ledger.Fact{Time: time.Now(), ID: id, Event: ledger.Accepted, Org: "acme", MailFrom: "a@acme.test", Rcpt: []string{"b@else.test"}}
	records := []string{"window/message/" + string(id), "window/recipient/" + string(id)}
	kept := custody.Batch{
		Put:     []custody.Record{{Key: records[0], Value: make([]byte, 600)}, {Key: records[1], Value: make([]byte, 150)}},
		PutBody: []custody.BodyRecord{{Name: string(id), Size: windowSize, Content: bytes.NewReader(make([]byte, windowSize))}},
		Facts:   []ledger.Fact{fact},
	}
	if err := e.Commit(ctx, &kept); err != nil {
		return 0, err
	}
	fact.Event = ledger.Delivered
	begin := time.Now()
	err := e.Commit(ctx, &custody.Batch{Delete: records, DeleteBody: []string{string(id)}, Facts: []ledger.Fact{fact}})
	return time.Since(begin), err
}
