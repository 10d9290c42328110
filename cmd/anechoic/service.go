package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"anechoic/app"
	"anechoic/control/supervise"
	"anechoic/mail/background"
)

// service is a relay that runs, and what it tells its supervisor.
type service struct {
	relay      *app.App
	log        *slog.Logger
	supervisor *supervise.Supervisor // nil: nobody
	told       string                // the last status
}

// run is the main loop, from the first message that may come to the end. The
// watchdog is kept quiet from here and from nowhere else: a loop that hangs is not
// alive.
func (s *service) run(ctx context.Context, release func(), hangup <-chan os.Signal) error {
	s.told = s.standing(ctx)
	s.warn(s.supervisor.Ready(s.told))
	tick := time.NewTicker(cmp.Or(s.supervisor.Watchdog(), standingSpan))
	defer tick.Stop()
	reloaded, waiting := make(chan error), hangup
	for {
		select {
		case <-waiting:
			waiting = nil // one reload at a time
			s.warn(s.supervisor.Reloading("Reads configuration and registry again."))
			background.Vital(nil, s.log, "reload", func() { reloaded <- s.relay.Reload(ctx) })
		case err := <-reloaded:
			waiting = hangup
			tellReload(s.log, err)
			s.told = s.standing(ctx)
			s.warn(s.supervisor.Ready(afterReload(err) + s.told))
		case <-tick.C:
			s.tick(ctx)
		case <-ctx.Done():
			release() // a second signal ends the process
			s.log.Info("stopping", "within", drainTime)
			return s.stop(drainTime, tick.C)
		case <-s.relay.Broken():
			fault := s.relay.Fault()
			_ = s.stop(brokenDrain, tick.C) // what goes wrong on the way is the same fault again
			return brokenError(fault)
		}
	}
}

func afterReload(err error) string {
	if err == nil {
		return ""
	}
	return "The last reload was refused, see the log. "
}

// tick keeps the watchdog quiet if the relay can work, and tells how it stands if
// that changed.
func (s *service) tick(ctx context.Context) {
	if s.supervisor == nil {
		return
	}
	if err := s.relay.Alive(ctx); err != nil {
		s.log.Error("the relay cannot work: the watchdog is not told that it is alive", "error", err)
		return
	}
	s.warn(s.supervisor.Alive())
	if now := s.standing(ctx); now != s.told {
		s.told = now
		s.warn(s.supervisor.Status(now))
	}
}

// standing is the status as one line.
func (s *service) standing(ctx context.Context) string {
	if s.supervisor == nil {
		return ""
	}
	now := s.relay.Standing(ctx)
	if now.Ready {
		ready := s.relay.Ready()
		return "Accepts mail on " + strings.Join(slices.Concat(ready.SMTP, ready.SMTPTLS, ready.Submission, ready.Proxy), ", ") + "."
	}
	var why []string
	for _, failed := range now.Failed {
		why = append(why, failed.Check+": "+failed.Error)
	}
	return "Takes no mail: " + strings.Join(why, "; ") + "."
}

// stop ends the relay within its time, and is alive meanwhile: what Stop waits for
// is bounded.
func (s *service) stop(within time.Duration, tick <-chan time.Time) error {
	s.warn(s.supervisor.Stopping(within+drainMargin, "Stops: takes no new mail, ends open transactions and attempts."))
	drain, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	ended := make(chan error, 1)
	background.Vital(nil, s.log, "stop", func() { ended <- s.relay.Stop(drain) })
	for {
		select {
		case err := <-ended:
			return err
		case <-tick:
			s.warn(s.supervisor.Alive())
		}
	}
}

// drainMargin is what closing the store may take after the drain.
const drainMargin = 15 * time.Second

// warn logs that the supervisor could not be told; the mail goes on.
func (s *service) warn(err error) {
	if err != nil {
		s.log.Warn("the supervisor could not be told", "error", err)
	}
}
