package app

import (
	"context"
	"sync"
	"time"

	"anechoic/control/api"
	"anechoic/relay/screen"
)

// How long status waits for scanners, and how long what they said holds: whoever
// looks at status again and again must not keep them busy.
const (
	pingTimeout = 2 * time.Second
	pingKept    = 10 * time.Second
)

// scannerHealth remembers whether scanners answered lately.
type scannerHealth struct {
	screen *screen.Screen

	mu    sync.Mutex // guards what follows
	asked time.Time
	last  []screen.Health
}

// ask says how the scanners stand.
func (h *scannerHealth) ask(ctx context.Context) []api.Scanner {
	now := time.Now()
	healths, list := h.ping(ctx, now), []api.Scanner{}
	for i, state := range h.screen.States(now) {
		one := api.Scanner{Name: state.Scanner, Answers: healths[i].Err == nil, Circuit: string(state.Circuit), Counts: map[string]uint64{}}
		if err := healths[i].Err; err != nil {
			one.Detail = printable(err.Error())
		}
		for action, n := range state.Counts {
			one.Counts[action.String()] = n
		}
		list = append(list, one)
	}
	return list
}

// ping asks them, unless that was a moment ago. A caller that gives up says nothing
// about scanners: they are asked on their own time.
func (h *scannerHealth) ping(ctx context.Context, now time.Time) []screen.Health {
	if last := h.recent(now); last != nil {
		return last
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
	defer cancel()
	found := h.screen.Ping(within)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.asked = found, now
	return found
}

// recent is what they said a moment ago; nil: nobody asked then.
func (h *scannerHealth) recent(now time.Time) []screen.Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.asked) >= pingKept {
		return nil
	}
	return h.last
}
