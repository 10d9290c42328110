package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/mail/background"
)

// drainTime is how long a stop waits for open transactions and attempts.
const drainTime = 30 * time.Second

// brokenDrain is the same after a failed write: no attempt can be written off any
// more, so there is little to wait for.
const brokenDrain = 5 * time.Second

func (sh *shell) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the relay",
		Long: `Run the relay until it is told to stop. When it accepts mail it prints one JSON
line with its addresses on standard output; its log goes to standard error.

SIGHUP has it read configuration and registry again, all or nothing (see apply).
SIGTERM and SIGINT stop it: open transactions end, for at most 30 seconds; a
second one stops at once.

When a write to the data directory fails the relay ends by itself within 5
seconds, with 1: what of the write is on disk shows only at the next start. Let a
supervisor start it again.

Exits with 0 after a stop, with 3 if the configuration is not valid, with 1 if it
could not run.`,
		Example: `  anechoic serve --config relay.toml
  anechoic serve --config relay.toml 2>relay.log`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.serve(c.Context()) },
	}
}

func (sh *shell) serve(ctx context.Context) error {
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	cfg, _ := config.Load(file) // its problems are told by New, with the registry's
	log := newLog(sh.errs, cfg.Log)
	defer background.EndOnPanic(log, "serve")
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	relay, err := app.New(app.Options{ConfigFile: file, Log: log, Version: thisBuild().Version})
	if err != nil {
		return sh.notStarted(err)
	}
	if err := relay.Start(); err != nil {
		return sh.notStarted(err)
	}
	if err := json.NewEncoder(sh.out).Encode(relay.Ready()); err != nil {
		log.Warn("nobody reads the ready line", "error", err)
	}
	for {
		select {
		case <-reload:
			tellReload(log, relay.Reload(ctx))
		case <-ctx.Done():
			stop() // a second signal ends the process
			log.Info("stopping", "within", drainTime)
			drain, cancel := context.WithTimeout(context.Background(), drainTime)
			defer cancel()
			return relay.Stop(drain)
		case <-relay.Broken():
			return sh.endBroken(relay)
		}
	}
}

// endBroken stops a relay whose store failed, and says so. What goes wrong on the
// way is the same fault again.
func (sh *shell) endBroken(relay *app.App) error {
	fault := relay.Fault()
	drain, cancel := context.WithTimeout(context.Background(), brokenDrain)
	defer cancel()
	_ = relay.Stop(drain)
	return fmt.Errorf("ended because the data directory cannot be written to: %w: see to the disk; nothing acknowledged is lost, and the relay goes on when it is started again", fault)
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
