package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/control/supervise"
	"anechoic/mail/background"
)

// drainTime is how long a stop waits for open transactions and attempts.
const drainTime = 30 * time.Second

// brokenDrain is the same after a failed write: no attempt can be written off any
// more, so there is little to wait for.
const brokenDrain = 5 * time.Second

// standingSpan is how often the supervisor is told how the relay stands, where it
// wants no sign of life more often.
const standingSpan = 10 * time.Second

func (sh *shell) serveCommand() *cobra.Command {
	var logFile string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the relay",
		Long: `Run the relay until it is told to stop. When it accepts mail it prints one JSON
line with its addresses on standard output; its log goes to standard error, or to
the end of a file, which is opened anew when it was moved away.

SIGHUP has it read configuration and registry again, all or nothing (see apply).
SIGTERM and SIGINT stop it: open transactions end, for at most 30 seconds; a
second one stops at once.

Under systemd it says when it is ready, reloads and stops, keeps the watchdog quiet
while it can work, and takes over the sockets of socket units that have the names
smtp, smtp_tls, submission and proxy.

When a write to the data directory fails the relay ends by itself within 5
seconds, with 1: what of the write is on disk shows only at the next start. Let a
supervisor start it again.

Exits with 0 after a stop, with 3 if the configuration is not valid, with 1 if it
could not run.`,
		Example: `  anechoic serve --config relay.toml
  anechoic serve --config relay.toml 2>relay.log
  anechoic serve --config relay.toml --log-file /var/log/anechoic/relay.log`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.serve(c.Context(), logFile) },
	}
	c.Flags().StringVar(&logFile, "log-file", "", "write the log to the end of this `file`")
	return c
}

func (sh *shell) serve(ctx context.Context, logFile string) error {
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	to := sh.errs
	if logFile != "" {
		rotated, err := openLogFile(logFile)
		if err != nil {
			return err
		}
		defer rotated.Close()
		to = rotated
	}
	cfg, _ := config.Load(file) // its problems are told by New, with the registry's
	log := newLog(to, cfg.Log)
	defer background.EndOnPanic(log, "serve")
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	supervisor, err := supervise.Connect(os.Getenv, os.Getpid())
	if err != nil {
		return err
	}
	defer supervisor.Close()
	inherited, err := supervise.Inherited(os.Getenv, os.Getpid())
	if err != nil {
		return err
	}
	usual := collectOften()
	relay, err := app.New(app.Options{ConfigFile: file, Log: log, Version: thisBuild().Version, Inherited: inherited})
	if err != nil {
		return sh.notStarted(err)
	}
	if err := relay.Start(); err != nil {
		return sh.notStarted(err)
	}
	if err := json.NewEncoder(sh.out).Encode(relay.Ready()); err != nil {
		log.Warn("nobody reads the ready line", "error", err)
	}
	var reading sync.WaitGroup
	background.Go(&reading, log, "queue is read", func() { _ = relay.Indexed(ctx); usual() }) // an error is the queue's, which tells it
	s := &service{relay: relay, log: log, supervisor: supervisor}
	return s.run(ctx, stop, hangup)
}

// oftenPercent is how much the heap grows between collections while the queue is
// read back.
const oftenPercent = 50

// collectOften has the collector run more often until usual is called: what reading a
// large queue back leaves behind is else as much as the queue itself. Who sets GOGC
// is left alone.
func collectOften() (usual func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(oftenPercent)
	return func() { debug.SetGCPercent(before) }
}

// notStarted prints the problems of a configuration, one a line, or gives the
// error.
func (sh *shell) notStarted(err error) error {
	problems := api.ListProblems(err)
	if len(problems) == 0 {
		return err
	}
	for _, p := range problems {
		sh.notef("%s\n", p)
	}
	sh.notef("anechoic: not started: %s\n", count(len(problems), "problem", "problems"))
	return errFindings
}

// tellReload logs every problem of a reload by itself.
func tellReload(log *slog.Logger, err error) {
	if err == nil {
		return
	}
	problems := api.ListProblems(err)
	if len(problems) == 0 {
		log.Error("reload failed; what was in force stays so", "error", err)
		return
	}
	for _, p := range problems {
		log.Error("reload refused; what was in force stays so", "problem", p.String())
	}
}

// newLog writes the log as the configuration says.
func newLog(to io.Writer, l config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level}
	if l.Format == config.FormatText {
		return slog.New(slog.NewTextHandler(to, options))
	}
	return slog.New(slog.NewJSONHandler(to, options))
}

// brokenError is how a relay ends whose store failed.
func brokenError(fault error) error {
	return fmt.Errorf("ended because the data directory cannot be written to: %w: see to the disk; nothing acknowledged is lost, and the relay goes on when it is started again", fault)
}
