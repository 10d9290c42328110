package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"anechoic/lab"
)

// errDemoFailed says that the result was printed and is not what it must be.
var errDemoFailed = errors.New("the demo failed: see above")

// demoCommand is `anechoic demo`: the campaign of 2024 at two doors, offline.
func (sh *shell) demoCommand() *cobra.Command {
	var options lab.DemoOptions
	var ci bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the attack of 2024 against a permissive relay and against this one",
		Long: `Runs a whole internet on loopback: DNS, a Microsoft 365 with several tenants, an
attacker, receivers that check DKIM and DMARC, a permissive relay of the 2024
kind, and this relay, unchanged. The same legitimate mail and the same spoofs go
to both doors; what arrived is counted. Nothing leaves this machine.

The exit code is 1 if one spoof was signed or one legitimate message was lost.`,
		Example: `  anechoic demo
  anechoic demo --ci --json
  anechoic demo --keep /tmp/range`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			options.Out, options.Progress, options.JSON = sh.out, sh.errs, sh.asJSON
			if ci {
				options.Progress = io.Discard
			}
			result, err := lab.Demo(c.Context(), options)
			if err != nil {
				return err
			}
			if !result.OK {
				return errDemoFailed
			}
			return nil
		},
	}
	c.Flags().BoolVar(&ci, "ci", false, "no progress: for machines")
	c.Flags().IntVar(&options.Legit, "legitimate", 200, "legitimate messages at each door")
	c.Flags().IntVar(&options.Spoofs, "spoofs", 2000, "spoofed messages at each door")
	c.Flags().StringVar(&options.Keep, "keep", "", "directory in which to leave the relay's configuration and data")
	return c
}
