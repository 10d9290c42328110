// Command bench measures the relay beside Postfix with OpenDKIM: both in turn, in
// one run, several times, and prints medians and ratios.
//
//	go run ./test/bench                 the comparison, as Markdown
//	go run ./test/bench -json           the same as JSON
//	go run ./test/bench -profile        where the relay's CPU time goes
//	go run ./test/bench -memory         what a thousand connections take
//	go run ./test/bench -directory      what a registry of 100,000 organisations takes
//	go run ./test/bench -accept         how fast mail is taken while none is given
//	go run ./test/bench -latency        how long a message takes at half load
//	go run ./test/bench -goodput        both relays before providers that do not simply take it
//	go run ./test/bench -inbound        how fast inbound mail is verified, beside rspamd
//	go run ./test/bench -queued 1000000 what a start with so many messages in the queue takes
//	go run ./test/bench -unindexed      what the index of the ledger costs
//	go run ./test/bench -tracking 1000000 how fast facts are indexed, and found
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
	if len(os.Args) > 1 && os.Args[1] == "fill" {
		os.Exit(exitCode(serveFill(os.Args[2:]), os.Stderr))
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
	unindexed   bool
	asJSON      bool
	profile     bool
	memory      bool

	directory bool
	accept    bool
	latency   bool
	goodput   bool
	inbound   bool
	queued    int // messages
	tracking  int // facts

	rate  float64       // of -goodput, in all
	drain time.Duration // of -goodput

	organisations, domains int // in the registry; domains of each
}

// node is what the flags make of the relay's registry.
func (o options) node() node { return node{organisations: o.organisations, domains: o.domains} }

// wrong says whether the choices make no sense.
func (o options) wrong() bool {
	return o.rounds < 1 || o.seconds < 1 || o.queued < 0 || o.tracking < 0 || o.tracking > 0 && o.tracking < 30_000 || o.rate <= 0 || o.drain <= 0 ||
		excluded(o.profile, o.memory, o.directory, o.accept, o.latency, o.goodput, o.inbound, o.queued > 0, o.tracking > 0)
}

// Sizes of the registry, unless flags say otherwise.
const (
	directoryOrganisations = 100_000 // of -directory
	queuedOrganisations    = 1000    // of -queued
	queuedDomains          = 5       // of each of those
)

// settle fills in what is not the same for every mode.
func (o *options) settle() {
	organisations, domains := 1, 1
	switch {
	case o.directory:
		organisations = directoryOrganisations
	case o.queued > 0:
		organisations, domains = queuedOrganisations, queuedDomains
	}
	if o.organisations == 0 {
		o.organisations = organisations
	}
	if o.domains == 0 {
		o.domains = domains
	}
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
	flags.BoolVar(&o.unindexed, "unindexed", false, "put the relay without its index of the ledger beside, instead of all others")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON")
	flags.BoolVar(&o.profile, "profile", false, "print where the relay's CPU time goes, instead")
	flags.BoolVar(&o.memory, "memory", false, "print what a thousand connections take, instead")
	flags.BoolVar(&o.directory, "directory", false, "print what a large registry takes, instead")
	flags.BoolVar(&o.accept, "accept", false, "print how fast mail is taken while none is given, instead")
	flags.BoolVar(&o.latency, "latency", false, "print how long messages take at half load, instead")
	flags.BoolVar(&o.goodput, "goodput", false, "print what is delivered to providers that put off, limit and delay, instead")
	flags.BoolVar(&o.inbound, "inbound", false, "print how fast inbound mail is verified, instead")
	flags.IntVar(&o.queued, "queued", 0, "print what a start with so many messages in the queue takes, instead")
	flags.IntVar(&o.tracking, "tracking", 0, "print how fast so many facts are indexed and found, at least 30000, instead")
	flags.Float64Var(&o.rate, "rate", 105, "messages a second that -goodput hands over, in all")
	flags.DurationVar(&o.drain, "drain", 2*time.Minute, "how long -goodput waits for the rest after the last message was handed over")
	positive(flags, &o.organisations, "organisations", "organisations in the registry; the first one sends (1; 100000 with -directory, 1000 with -queued)")
	positive(flags, &o.domains, "domains", "domains of each organisation (1; 5 with -queued; -directory always has ten)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	var err1, err2 error
	o.sizes, err1 = numbers(sizes)
	o.connections, err2 = numbers(connections)
	if err1 != nil || err2 != nil || flags.NArg() > 0 || o.wrong() {
		fmt.Fprintln(errs, "bench: numbers are positive, lists have commas, and -profile, -memory, -directory, -accept, -latency, -goodput, -inbound and -queued exclude each other; see -h")
		return o, errUsage
	}
	o.settle()
	return o, nil
}

// positive adds a flag that keeps 0 where it is not given.
func positive(flags *flag.FlagSet, value *int, name, usage string) {
	flags.Func(name, usage, func(text string) error {
		list, err := numbers(text)
		if err == nil && len(list) != 1 {
			err = errors.New("one number is wanted")
		}
		if err == nil {
			*value = list[0]
		}
		return err
	})
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
	if o.tracking > 0 {
		return tracked(ctx, o, out)
	}
	if o.inbound {
		return inboundSpeed(ctx, o, out, errs)
	}
	g, err := prepare(ctx, errs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.use(o.node()); err != nil {
		return err
	}
	switch {
	case o.profile:
		return profile(ctx, g, o, out)
	case o.memory:
		return memory(ctx, g, o, out)
	case o.accept:
		return accept(ctx, g, o, out)
	case o.latency:
		return latency(ctx, g, o, out)
	case o.goodput:
		return goodput(ctx, g, o, out)
	case o.queued > 0:
		return queued(ctx, g, o, out)
	}
	return compare(ctx, g, o, out)
}

// compare runs every contender through every load, round by round, and prints
// medians and ratios.
func compare(ctx context.Context, g *ground, o options, out io.Writer) error {
	report := Report{Date: time.Now().UTC().Truncate(time.Second), Machine: machine(), Rounds: o.rounds, Seconds: o.seconds}
	contenders, left, err := lineUp(g, o)
	if err != nil {
		return err
	}
	report.Left = left
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

// lineUp gives every contender that can run, and says which was left out and why.
func lineUp(g *ground, o options) (contenders []contender, left string, err error) {
	if o.unindexed {
		return []contender{withLibcrypto(g), withoutIndex(g, withLibcrypto(g))}, "", nil
	}
	contenders = []contender{withLibcrypto(g), withoutTLS(withLibcrypto(g)), pureGo(g), withoutTLS(pureGo(g))}
	if o.alone {
		return contenders, "", nil
	}
	if missing := postfixMissing(); missing != "" {
		left = "Postfix with OpenDKIM was left out: " + missing
		g.say("%s", left)
		return contenders, left, nil
	}
	return append(contenders, postfix(g)), "", postfixPortFree()
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
