package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"anechoic/lab/campaign"
	"anechoic/lab/evaluate"
	"anechoic/watch/detect"
)

// labWorld is what `lab generate` and `lab evaluate` have in common: where traffic comes
// from.
type labWorld struct {
	sets   []string // names of sets of the project
	file   string   // or a file of one's own
	seeds  string
	allow  string
	facts  string
	labels string
	write  string
	tune   []string
}

// labGenerateCommand is `anechoic lab generate`: traffic with ground truth.
func (sh *shell) labGenerateCommand() *cobra.Command {
	var o labWorld
	c := &cobra.Command{
		Use:   "generate",
		Short: "Make weeks of traffic with attacks in it, and say which messages they are",
		Long: `Makes what organisations send over weeks, things that only look like an attack, and
attacks. Facts go to standard output as JSON lines, as log search --json prints
them; the truth goes to the file of --labels: a line for each case, then one for
each message of a case. The same set and seed give the same lines. Nothing is sent.

Sets: ` + strings.Join(campaign.Presets(), ", ") + `; or a file with --parameters.`,
		Example: `  anechoic lab generate --labels labels.jsonl > facts.jsonl
  anechoic lab generate --set large --seed 7 --output facts.jsonl --labels labels.jsonl
  anechoic lab generate --parameters mine.json --labels labels.jsonl > facts.jsonl`,
		Args: arguments(""),
		RunE: func(_ *cobra.Command, _ []string) error { return sh.labGenerate(o) },
	}
	c.Flags().StringVar(&o.facts, "output", "", "`file` for the facts (default: standard output)")
	c.Flags().StringVar(&o.labels, "labels", "", "`file` for the truth")
	c.Flags().StringVar(&o.seeds, "seed", "1", "`number` that everything random follows from")
	c.Flags().StringSliceVar(&o.sets, "set", []string{"standard"}, "`name` of a set of parameters")
	c.Flags().StringVar(&o.file, "parameters", "", "`file` with parameters of your own, as JSON")
	return c
}

func (sh *shell) labGenerate(o labWorld) (err error) {
	if len(o.sets) != 1 {
		return usagef("lab generate takes one --set")
	}
	list, err := o.parameters()
	if err != nil {
		return err
	}
	seeds, err := readSeeds(o.seeds, o.sets[0])
	if err != nil || len(seeds) != 1 {
		return usagef("--seed takes one number")
	}
	w, err := campaign.New(list[0], seeds[0])
	if err != nil {
		return err
	}
	facts, closeFacts, err := create(o.facts, sh.out)
	if err != nil {
		return err
	}
	labels, closeLabels, err := create(o.labels, nil)
	if err != nil {
		return errors.Join(err, closeFacts())
	}
	counts, err := w.WriteFacts(facts, labels)
	if err = errors.Join(err, closeFacts(), closeLabels()); err != nil {
		return err
	}
	sh.notef("%d facts of %d messages; %d belong to a case, %d to an attack\n", counts.Events, counts.Messages, counts.Labelled, counts.Attacks)
	return nil
}

// labEvaluateCommand is `anechoic lab evaluate`: what detection sees, and what not.
func (sh *shell) labEvaluateCommand() *cobra.Command {
	var o labWorld
	c := &cobra.Command{
		Use:   "evaluate",
		Short: "Measure detection against attacks of which the truth is known",
		Long: `Lets detection read made traffic, puts in force what it proposes up to what --allow
says, and counts: what was noticed and how soon, what had left by then, false
alarms, and what harmless surprises set off. Intervals hold in 95 of 100 runs. The
seeds of --seeds report are those docs/detection.md is made of; those of tune are the
only ones to choose thresholds by. The exit code is 3 if an aim was not met.

Sets: ` + strings.Join(campaign.Presets(), ", ") + `, or all; or a file with --parameters.`,
		Example: `  anechoic lab evaluate
  anechoic lab evaluate --set all --write docs/detection.md
  anechoic lab evaluate --set slow --seeds 1,2,3 --allow hold --json
  anechoic lab evaluate --tune RampFactor,OddFloor`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if len(o.tune) > 0 {
				return sh.labTune(ctx, o)
			}
			return sh.labEvaluate(ctx, o)
		},
	}
	c.Flags().StringSliceVar(&o.sets, "set", []string{"standard"}, "`names` of sets of parameters, or all")
	c.Flags().StringVar(&o.file, "parameters", "", "`file` with parameters of your own, as JSON")
	c.Flags().StringVar(&o.seeds, "seeds", "report", "`which`: report, tune, or numbers with commas")
	c.Flags().StringVar(&o.allow, "allow", "throttle", "the strongest `step` that happens by itself: log, throttle, hold, suspend or kill")
	c.Flags().StringVar(&o.write, "write", "", "page (a `file`) whose tables are replaced")
	c.Flags().StringSliceVar(&o.tune, "tune", nil, "try these `thresholds`, or all, at half and twice their value, on the seeds of tune")
	c.MarkFlagsMutuallyExclusive("tune", "write")
	return c
}

// labSteps are the words of --allow.
var labSteps = map[string]detect.Step{"log": detect.Log, "throttle": detect.Throttle, "hold": detect.Hold, "suspend": detect.SuspendSource, "kill": detect.KillDomain}

func (o labWorld) options() (evaluate.Options, error) {
	step, ok := labSteps[o.allow]
	if !ok {
		return evaluate.Options{}, usagef("--allow takes log, throttle, hold, suspend or kill, not %q", o.allow)
	}
	return evaluate.Options{Allow: step}, nil
}

func (sh *shell) labEvaluate(ctx context.Context, o labWorld) error {
	sets, err := o.parameters()
	if err != nil {
		return err
	}
	options, err := o.options()
	if err != nil {
		return err
	}
	var reports []evaluate.Report
	for _, p := range sets {
		seeds, err := readSeeds(o.seeds, p.Name)
		if err != nil {
			return err
		}
		r, err := evaluate.Run(ctx, p, seeds, options, func(done int) { sh.notef("%s: %d of %d\n", p.Name, done, len(seeds)) })
		if err != nil {
			return err
		}
		reports = append(reports, r)
		if err := writeTables(o.write, reports); err != nil { // after each set: the next takes a while
			return err
		}
	}
	if err := sh.showReports(o, reports); err != nil {
		return err
	}
	for _, r := range reports {
		for _, a := range r.Aims {
			if !a.Met {
				return errFindings
			}
		}
	}
	return nil
}

// writeTables replaces the tables of a page; of none if it has no name.
func writeTables(name string, reports []evaluate.Report) error {
	if name == "" {
		return nil
	}
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := evaluate.Replace(string(page), evaluate.Tables(reports))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// showReports prints what no page was named for.
func (sh *shell) showReports(o labWorld, reports []evaluate.Report) error {
	switch {
	case sh.asJSON:
		return sh.printJSON(reports)
	case o.write != "":
		sh.notef("%s has the new tables\n", o.write)
	default:
		sh.printf("%s", evaluate.Tables(reports))
	}
	return nil
}

func (sh *shell) labTune(ctx context.Context, o labWorld) error {
	sets, err := o.parameters()
	if err != nil {
		return err
	}
	options, err := o.options()
	if err != nil {
		return err
	}
	if len(sets) != 1 {
		return usagef("--tune takes one --set")
	}
	names := o.tune
	if len(names) == 1 && names[0] == "all" {
		names = evaluate.Thresholds()
	}
	progress := func(t evaluate.Tried) {
		sh.notef("%s %s: recall %.2f, false %.2f\n", orDash(t.Threshold), t.Value, t.Recall.Value, t.False.Value)
	}
	list, err := evaluate.Tune(ctx, sets[0], names, evaluate.Tuning(), options, progress)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(list)
	}
	var rows [][]string
	for _, t := range list {
		rows = append(rows, []string{orDash(t.Threshold), orDash(t.Value), fmt.Sprintf("%.3f", t.Recall.Value), fmt.Sprintf("%.3f", t.Precision.Value), fmt.Sprintf("%.3f", t.False.Value)})
	}
	return sh.table("THRESHOLD VALUE RECALL PRECISION FALSE", rows)
}

// parameters are the sets that were asked for.
func (o labWorld) parameters() (list []campaign.Parameters, err error) {
	if o.file != "" {
		text, err := os.ReadFile(o.file)
		if err != nil {
			return nil, err
		}
		p, err := campaign.ReadParameters(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.file, err)
		}
		return []campaign.Parameters{p}, nil
	}
	names := o.sets
	if len(names) == 1 && names[0] == "all" {
		names = campaign.Presets()
	}
	for _, name := range names {
		p, err := campaign.Preset(name)
		if err != nil {
			return nil, usagef("%s", err)
		}
		list = append(list, p)
	}
	return list, nil
}

// readSeeds reads what --seeds says, for a set.
func readSeeds(text, set string) (list []uint64, err error) {
	switch text {
	case "report":
		return evaluate.Reporting(set), nil
	case "tune":
		return evaluate.Tuning(), nil
	}
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(word), 10, 64)
		if err != nil {
			return nil, usagef("--seeds takes report, tune, or numbers with commas between them, not %q", text)
		}
		list = append(list, n)
	}
	return list, nil
}

// create opens a file to write, or gives what stands for none: nil is nowhere.
func create(name string, otherwise io.Writer) (w io.Writer, done func() error, err error) {
	if name == "" && otherwise == nil {
		return io.Discard, func() error { return nil }, nil
	}
	if name == "" {
		return otherwise, func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}
