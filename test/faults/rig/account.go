package rig

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/mail"
)

// Account is what became of the messages that were acknowledged.
type Account struct {
	Acknowledged int
	Delivered    int // at the hop
	Bounced      int // and the sender was told
	Lost         int
	Repeated     int // came more than once
	Unexplained  int // of these: more often than attempts in flight and the hop's own silence explain
	InFlight     int // attempts that had no end when a process died
	Starts       int
}

// emptyTimes is how often in a row the queue must be seen empty: right after a
// start it is still being read.
const emptyTimes = 3

// AwaitEmptyQueue waits until everything that was kept has left.
func (r *Rig) AwaitEmptyQueue(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	empty := 0
	for deadline := time.Now().Add(Patience); ; <-tick.C {
		status, err := r.client().Status(ctx, "")
		if empty++; err != nil || status.Queue.Messages > 0 {
			empty = 0
		}
		if empty == emptyTimes {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the queue is not empty after %s: %+v, %v", Patience, status.Queue, err)
		}
	}
}

// Account holds what arrived against what was acknowledged and against the
// ledger. The queue is empty, a process runs.
func (r *Rig) Account(ctx context.Context, acknowledged map[string]mail.ID) Account {
	histories, starts := r.histories(ctx)
	a := Account{Acknowledged: len(acknowledged), Starts: starts}
	copies := r.Hop.Copies()
	for name, id := range acknowledged {
		switch h, c := histories[id], copies[name]; {
		case h == nil || !h.accepted:
			a.Lost++
			r.problem("%s (%s) was acknowledged and the ledger does not know it", name, id)
		case h.delivered && c.Sure+c.Unsure > 0:
			a.Delivered++
		case h.bounced && r.Hop.wasBounced(name):
			a.Bounced++
		default:
			a.Lost++
			r.problem("%s (%s) was acknowledged and is lost: in the ledger %+v, at the hop %+v", name, id, *h, c)
		}
	}
	for _, h := range histories {
		a.InFlight += h.inFlight
	}
	for name, c := range copies {
		r.judge(&a, name, c, histories[c.ID])
	}
	return a
}

// judge looks at what came of one message.
func (r *Rig) judge(a *Account, name string, c Copies, h *history) {
	if !c.Aligned {
		r.problem("%s arrived without a signature that holds", name)
	}
	if h == nil {
		r.problem("%s arrived as %q, which the ledger does not know", name, c.ID)
		return
	}
	if h.again {
		r.problem("%s (%s) was attempted after it was done", name, c.ID)
	}
	if c.Sure+c.Unsure > 1 {
		a.Repeated++
	}
	if c.Sure > 1+h.inFlight {
		a.Unexplained++
		r.problem("%s (%s) was taken and acknowledged %d times; the ledger explains %d of them", name, c.ID, c.Sure, 1+h.inFlight)
	}
}

// history is what the ledger tells of one message with one recipient.
type history struct {
	accepted, delivered, bounced bool
	open                         int  // leases without an end
	inFlight                     int  // of these: when a process died
	again                        bool // leased after it was done
}

// histories reads the ledger. A lease that had no end before the next start was
// in flight when a process died.
func (r *Rig) histories(ctx context.Context) (all map[mail.ID]*history, starts int) {
	all = map[mail.ID]*history{}
	leased := map[mail.ID]*history{}
	err := r.client().Log(ctx, url.Values{}, func(f ledger.Fact) bool {
		h := all[f.ID]
		if h == nil {
			h = &history{}
			all[f.ID] = h
		}
		switch f.Event {
		case ledger.Accepted:
			h.accepted = true
		case ledger.Leased:
			h.again = h.again || h.delivered || h.bounced
			h.open++
			leased[f.ID] = h
		case ledger.Delivered, ledger.Deferred, ledger.Bounced, ledger.Held:
			h.delivered, h.bounced = h.delivered || f.Event == ledger.Delivered, h.bounced || f.Event == ledger.Bounced
			h.open--
			delete(leased, f.ID)
		case ledger.SetAside:
			r.problem("%s was set aside: %s", f.ID, f.Detail)
		case ledger.Started:
			starts++
			for _, h := range leased {
				h.inFlight += h.open
				h.open = 0
			}
			clear(leased)
		}
		return true
	})
	if err != nil {
		r.problem("read the ledger: %v", err)
	}
	return all, starts
}

// VerifyLedger asks the binary, as an operator would, without a server.
func (r *Rig) VerifyLedger(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.binary, "log", "verify", "--config", r.configFile()).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("log verify: %w\n%s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Finish ends a test: it calms the hop, waits until the queue is empty, makes the
// account, stops the process and verifies the ledger. What is wrong is in Problems.
func (r *Rig) Finish(ctx context.Context, last *Process, load *Load) Account {
	acknowledged := load.Stop()
	r.Hop.Calm()
	if _, err := r.client().Steer(ctx, api.Retry, api.Selection{All: true}, nil); err != nil {
		r.problem("retry: %v", err)
	}
	if err := r.AwaitEmptyQueue(ctx); err != nil {
		r.problem("%v", err)
	}
	a := r.Account(ctx, acknowledged)
	if err := last.Stop(); err != nil {
		r.problem("%v", err)
	}
	head, err := r.VerifyLedger(ctx)
	if err != nil {
		r.problem("%v", err)
	}
	r.options.Say("log verify: %s", head)
	return a
}

// Problem notes what is wrong.
func (r *Rig) Problem(err error) {
	if err != nil {
		r.problem("%v", err)
	}
}
