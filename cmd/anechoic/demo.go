package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"anechoic/lab"
)

// errDemoFailed says that the result was printed and is not what it must be.
var errDemoFailed = errors.New("the demo failed: see above")

// demoCommand is `anechoic demo`: an attack at two doors, offline.
func (sh *shell) demoCommand() *cobra.Command {
	var options lab.DemoOptions
	var ci bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the attack of 2024 against a permissive relay and against this one",
		Long: `Runs a whole internet on loopback: DNS, a Microsoft 365 with several tenants, an
attacker, receivers that judge by SPF, DKIM and DMARC as large providers do, a
permissive relay of the 2024 kind, and this relay, unchanged. The same legitimate
mail and the same spoofs go to both doors; what arrived is counted. Nothing
leaves this machine. Scenarios:

` + scenarioList() + `
The exit code is 1 if a check of the scenario does not hold: one spoof was signed
that must not be, or one legitimate message was lost.`,
		Example: `  anechoic demo
  anechoic demo --scenario replay --slow
  anechoic demo --picture demo.svg
  anechoic demo --ci --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			options.Out, options.JSON = sh.out, sh.asJSON
			if !ci {
				sh.showProgress(&options)
			}
			return runDemo(c.Context(), options)
		},
	}
	c.Flags().StringVar(&options.Scenario, "scenario", "echospoof", "which attack: a `name` of the list above")
	c.Flags().BoolVar(&options.Slow, "slow", false, "at a pace at which it can be read, with explanations")
	c.Flags().BoolVar(&ci, "ci", false, "no progress: for machines")
	c.Flags().IntVar(&options.Legit, "legitimate", 200, "legitimate messages at each door")
	c.Flags().IntVar(&options.Spoofs, "spoofs", 2000, "spoofed messages at each door")
	c.Flags().StringVar(&options.Keep, "keep", "", "new or empty `folder` in which to leave the relay's configuration and data")
	c.Flags().StringVar(&options.Picture, "picture", "", "`file` for an animated picture of the run, as SVG")
	c.MarkFlagsMutuallyExclusive("ci", "slow")
	if err := c.RegisterFlagCompletionFunc("scenario", cobra.FixedCompletions(scenarioNames(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag stands three lines above
	}
	return c
}

// runDemo runs it until its end, or until a signal: then everything is taken down
// before the program leaves.
func runDemo(ctx context.Context, options lab.DemoOptions) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := lab.Demo(ctx, options)
	var wrong lab.OptionsError
	switch {
	case errors.As(err, &wrong):
		return usagef("%s", wrong.Text)
	case err == nil && !result.OK:
		return errDemoFailed
	}
	return err
}

// showProgress has progress drawn where a person sits, and written elsewhere.
func (sh *shell) showProgress(o *lab.DemoOptions) {
	o.Progress = sh.errs
	dumb := os.Getenv("TERM") == "dumb"
	o.Live = isTerminal(sh.errs) && !dumb
	o.Colour = o.Live && isTerminal(sh.out) && os.Getenv("NO_COLOR") == ""
	if f, ok := sh.errs.(*os.File); ok && o.Live {
		o.Width = func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 0
			}
			return width
		}
	}
}

func scenarioNames() (names []string) {
	for _, s := range lab.Scenarios() {
		names = append(names, s.Name)
	}
	return names
}

// scenarioList is a line for each scenario.
func scenarioList() string {
	var b strings.Builder
	for _, s := range lab.Scenarios() {
		fmt.Fprintf(&b, "  %-22s%s\n", s.Name, s.Title)
	}
	return b.String()
}
