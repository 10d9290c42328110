// Package background starts the goroutines of the relay, so that a panic in one of
// them is told without what it holds, and does no more harm than it must.
//
// A panic is a fault of this program, and Go would end the process with a trace
// that shows the panic's text, which may be made of a message or a secret. Here it
// is logged by the goroutine's name, with mail.PanicText and the stack, and
// counted (Faults). What happens then depends on what the goroutine is for, and
// who starts it says so by the function that starts it:
//
//	Go     work that somebody can do without: it ends, nothing else does
//	Loop   what is looked after again and again: it begins anew after a pause
//	Vital  what others rely on, whose state may be half changed: the process ends
//	       with code 1. Whatever was acknowledged is durable, and a start reads it
//	       back: ending is what a power cut would do
//	Group  parts of one piece of work that somebody waits for: who waits panics
//
// A session and an attempt of delivery have their own recovery: they have somebody
// to answer, or a lease to give back. arch_test.go in the project's root sees to
// it that nothing else starts goroutines.
package background

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/mail"
)

// loopPause is how long a Loop waits after a panic: a fault that comes at once
// again fills no log.
const loopPause = time.Minute

// faults counts panics of this process.
var faults atomic.Uint64

// Faults is how many goroutines of this process ended in a panic, for the metrics.
func Faults() uint64 { return faults.Load() }

// Go runs f in a goroutine that all, unless nil, waits for. A panic ends it.
func Go(all *sync.WaitGroup, log *slog.Logger, name string, f func()) {
	start(all, func() { contained(log, name, "it is not done", f) })
}

// Loop is Go for what runs until the relay stops. After a panic f is called again,
// unless stop was closed; when f returns, that is its end.
func Loop(all *sync.WaitGroup, log *slog.Logger, name string, stop <-chan struct{}, f func()) {
	start(all, func() {
		for contained(log, name, "it begins anew in a minute", f) {
			pause := time.NewTimer(loopPause)
			select {
			case <-stop:
				pause.Stop()
				return
			case <-pause.C:
			}
		}
	})
}

// Vital is Go for what the process must not go on without.
func Vital(all *sync.WaitGroup, log *slog.Logger, name string, f func()) {
	start(all, func() {
		defer EndOnPanic(log, name)
		f()
	})
}

func start(all *sync.WaitGroup, f func()) {
	if all == nil {
		go f()
		return
	}
	all.Go(f)
}

// EndOnPanic is deferred where a panic leaves nothing to rely on: it ends the
// process with code 1.
func EndOnPanic(log *slog.Logger, name string) {
	if fault := recover(); fault != nil {
		Tell(log, name, "the process ends, so that a new one reads back what is durable", fault)
		os.Exit(1)
	}
}

// contained calls f and says whether it panicked.
func contained(log *slog.Logger, name, then string, f func()) (panicked bool) {
	defer func() {
		if fault := recover(); fault != nil {
			panicked = true
			Tell(log, name, then, fault)
		}
	}()
	f()
	return false
}

// Tell logs and counts a panic that was recovered; then says what follows from it.
// It is for who recovers a panic in a place of its own.
func Tell(log *slog.Logger, name, then string, fault any) {
	faults.Add(1)
	if log == nil || !log.Enabled(context.Background(), slog.LevelError) {
		log = slog.Default() // this is not to be passed over
	}
	log.Error("panic in the background, please report this; "+then, "goroutine", name, "panic", mail.PanicText(fault), "stack", string(debug.Stack()))
}

// Group runs parts of one piece of work side by side. The zero Group is ready, and
// has no limit. It is not used again after Wait.
type Group struct {
	all   sync.WaitGroup
	slots chan struct{}
	first atomic.Pointer[mail.RelayedPanic]
}

// Limit is a Group of at most n parts at a time.
func Limit(n int) *Group { return &Group{slots: make(chan struct{}, n)} }

// Go runs a part, once there is room for it.
func (g *Group) Go(f func()) {
	if g.slots != nil {
		g.slots <- struct{}{}
	}
	g.all.Go(func() {
		defer func() {
			if fault := recover(); fault != nil {
				g.first.CompareAndSwap(nil, &mail.RelayedPanic{Text: mail.PanicText(fault), Stack: debug.Stack()})
			}
			if g.slots != nil {
				<-g.slots
			}
		}()
		f()
	})
}

// Wait waits for all parts. If one panicked it panics, with a *mail.RelayedPanic:
// half of a piece of work is none.
func (g *Group) Wait() {
	g.all.Wait()
	if fault := g.first.Load(); fault != nil {
		panic(fault)
	}
}
