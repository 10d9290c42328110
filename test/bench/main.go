// Command bench measures the relay beside Postfix with OpenDKIM: both in turn, in
// one run, several times, and prints medians and ratios.
//
//	go run ./test/bench                 the comparison, as Markdown
//	go run ./test/bench -json           the same as JSON
//	go run ./test/bench -profile        where the relay's CPU time goes
//	go run ./test/bench -memory         what a thousand connections take
//	go run ./test/bench -directory      what a registry of 100,000 organisations takes
//
// Generator, sink and the peer's configuration are not part of the project: they
// are read from the folder ANECHOIC_BENCH names (default ../shared/bench from the
// project's root). Without Postfix or OpenDKIM, or without root, only the relay
// is measured, and the output says so. Everything stays on loopback.
//
// It is a measurement, never a test: what it prints depends on the machine and on
// what else runs there. Only ratios of one run count. docs/benchmarks.md says how
// to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "relay" {
		os.Exit(exitCode(serveRelay(os.Args[2:]), os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := exitCode(run(ctx, os.Args[1:], os.Stdout, os.Stderr), os.Stderr)
	stop()
	os.Exit(code)
}

func exitCode(err error, errs io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintln(errs, "bench:", err)
	return 1
}

var errUsage = errors.New("usage")

// options are the flags.
type options struct {
	rounds      int
	seconds     int
	sizes       []int // KiB
	connections []int
	alone       bool
	asJSON      bool
	profile     bool
	memory      bool

	directory     bool
	organisations int
}

func readOptions(args []string, errs io.Writer) (options, error) {
	var o options
	var sizes, connections string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.IntVar(&o.rounds, "rounds", 3, "how often each relay is measured; the medians are printed")
	flags.IntVar(&o.seconds, "seconds", 12, "how long one measurement submits")
	flags.StringVar(&sizes, "sizes", "20", "message sizes in KiB, for example 4,20,100")
	flags.StringVar(&connections, "connections", "20,100", "numbers of connections that submit at the same time")
	flags.BoolVar(&o.alone, "alone", false, "leave Postfix out")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON")
	flags.BoolVar(&o.profile, "profile", false, "print where the relay's CPU time goes, instead")
	flags.BoolVar(&o.memory, "memory", false, "print what a thousand connections take, instead")
	flags.BoolVar(&o.directory, "directory", false, "print what a large registry takes, instead")
	flags.IntVar(&o.organisations, "organisations", 100_000, "how many organisations that registry has, with ten domains each")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	var err1, err2 error
	o.sizes, err1 = numbers(sizes)
	o.connections, err2 = numbers(connections)
	if err1 != nil || err2 != nil || o.rounds < 1 || o.seconds < 1 || o.organisations < 1 || flags.NArg() > 0 || excluded(o.profile, o.memory, o.directory) {
		fmt.Fprintln(errs, "bench: numbers are positive, lists have commas, and -profile, -memory and -directory exclude each other; see -h")
		return o, errUsage
	}
	return o, nil
}

// excluded says that more than one of several choices was made.
func excluded(choices ...bool) bool {
	made := 0
	for _, c := range choices {
		if c {
			made++
		}
	}
	return made > 1
}

// numbers reads a list with commas.
func numbers(list string) (all []int, err error) {
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no positive number", word)
		}
		all = append(all, n)
	}
	return all, nil
}

// run is the command. Progress goes to errs.
func run(ctx context.Context, args []string, out, errs io.Writer) (err error) {
	o, err := readOptions(args, errs)
	if err != nil {
		return err
	}
	if o.directory {
		return directory(ctx, o, out, errs)
	}
	g, err := prepare(ctx, errs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	switch {
	case o.profile:
		return profile(ctx, g, o, out)
	case o.memory:
		return memory(ctx, g, o, out)
	}
	return compare(ctx, g, o, out)
}

// compare runs every contender through every load, round by round, and prints
// medians and ratios.
func compare(ctx context.Context, g *ground, o options, out io.Writer) error {
	report := Report{Date: time.Now().UTC().Truncate(time.Second), Machine: machine(), Rounds: o.rounds, Seconds: o.seconds}
	contenders := []contender{withLibcrypto(g), withoutTLS(withLibcrypto(g)), pureGo(g), withoutTLS(pureGo(g))}
	if !o.alone {
		if missing := postfixMissing(); missing != "" {
			report.Left = "Postfix with OpenDKIM was left out: " + missing
			g.say("%s", report.Left)
		} else if err := postfixPortFree(); err != nil {
			return err
		} else {
			contenders = append(contenders, postfix(g))
		}
	}
	for round := range o.rounds {
		for i, l := range loads(o) {
			if round == 0 {
				report.Loads = append(report.Loads, Comparison{Load: l})
			}
			for _, c := range contenders {
				m, err := measure(ctx, g, c, l)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, l, err)
				}
				g.say("round %d: %s, %s: %.0f/s delivered while submitting, %.2f CPU-ms a message", round+1, c.name, l, m.Delivered, m.CPU)
				report.Loads[i].add(c, m)
			}
		}
	}
	report.settle()
	if o.asJSON {
		return report.writeJSON(out)
	}
	return report.writeMarkdown(out)
}

// loads gives every combination of size and connections.
func loads(o options) (all []Load) {
	for _, size := range o.sizes {
		for _, n := range o.connections {
			all = append(all, Load{KiB: size, Connections: n, Seconds: o.seconds})
		}
	}
	return all
}
