package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"anechoic/app"
)

// serveRelay is `bench relay CPUPROFILE CONFIG`, which the bench runs as a process
// of its own: app.New and app.Start as `anechoic serve` calls them, under the
// profiler. It ends on SIGTERM, when the profile is written; the allocations go
// into a file beside it.
func serveRelay(args []string) (err error) {
	if len(args) != 2 {
		return fmt.Errorf("relay: got %d arguments, wants CPUPROFILE CONFIG", len(args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := app.New(app.Options{ConfigFile: args[1], Log: log, Version: "bench"})
	if err != nil {
		return err
	}
	defer func() {
		drain, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err = errors.Join(err, a.Stop(drain))
	}()
	file, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	if err := a.Start(); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(a.Ready()); err != nil {
		return err
	}
	<-ctx.Done()
	return writeAllocations(args[0] + ".allocs")
}

func writeAllocations(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}
