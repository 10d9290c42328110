// Command faults harms the real relay in the ways that PERFORMANCE and the manual
// speak of, and accounts for every message that it acknowledged: each was
// delivered, or bounced to its sender, or is still queued; duplicates are counted,
// and each is explained by an attempt in flight.
//
//	go run ./test/faults                               a short round of everything
//	go run ./test/faults -kills 1000 -power-cuts 20 -minutes 10
//
// It prints a table and exits with 1 if anything was lost or not explained.
// docs/reliability.md has results. The short form is in the tests: this package's
// and test/crash.
//
// Power cuts need root and loop devices (Debian: e2fsprogs); without them the
// table says so. Everything stays on loopback and below the temporary directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

// options are the flags.
type options struct {
	kills     int
	powerCuts int
	minutes   float64
	seed      uint64
	dir       string
	say       func(format string, args ...any)
}

func readOptions(args []string, errs io.Writer) (options, error) {
	o := options{say: func(format string, args ...any) {
		fmt.Fprintf(errs, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
	}}
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.IntVar(&o.kills, "kills", 20, "how often a process is killed under load; 0: leave that out")
	flags.IntVar(&o.powerCuts, "power-cuts", 2, "how often the disk loses its power under load; 0: leave that out")
	flags.Float64Var(&o.minutes, "minutes", 0.2, "how long next hops and DNS fail; 0: leave that out")
	flags.Uint64Var(&o.seed, "seed", rand.Uint64(), "of what next hops and DNS do")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "where the disks of power cuts are made")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	if o.kills < 0 || o.powerCuts < 0 || o.minutes < 0 || flags.NArg() > 0 {
		fmt.Fprintln(errs, "faults: numbers are not negative, and there are no arguments; see -h")
		return o, errUsage
	}
	return o, nil
}

// run is the command. Progress goes to errs.
func run(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := readOptions(args, errs)
	if err != nil {
		return err
	}
	o.say("seed %d", o.seed)
	var rows []row
	for _, e := range []struct {
		wanted bool
		do     func(context.Context, options) row
	}{{o.kills > 0, kills}, {o.powerCuts > 0, powerCuts}, {o.minutes > 0, weather}, {true, window}} {
		if e.wanted && ctx.Err() == nil {
			rows = append(rows, e.do(ctx, o))
		}
	}
	printTable(out, rows)
	for _, r := range rows {
		if len(r.problems) > 0 {
			return errors.New("something is wrong: see above")
		}
	}
	return ctx.Err()
}

// row is what came of one experiment.
type row struct {
	name     string
	cells    string // acknowledged | delivered | bounced | lost | repeated | unexplained | in flight
	notes    []string
	problems []string
	said     string // by the processes, if there are problems
}

func printTable(out io.Writer, rows []row) {
	fmt.Fprintln(out, "| experiment | acknowledged | delivered | bounced | lost | repeated | of these unexplained | attempts cut short |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		if r.cells != "" {
			fmt.Fprintf(out, "| %s | %s |\n", r.name, r.cells)
		}
	}
	fmt.Fprintln(out)
	for _, r := range rows {
		for _, n := range r.notes {
			fmt.Fprintf(out, "- %s: %s\n", r.name, n)
		}
		for _, p := range r.problems {
			fmt.Fprintf(out, "- %s: WRONG: %s\n", r.name, p)
		}
		if r.said != "" {
			fmt.Fprintf(out, "\nThe processes said:\n%s\n", strings.TrimSpace(r.said))
		}
	}
}
