package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
)

func (sh *shell) inboundCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "inbound",
		Short: "Look after mail that comes in for organisations",
		Long:  `Look after mail that comes in for organisations, and the ways it can take.`,
		Example: `  anechoic inbound check acme.example
  anechoic inbound check acme.example --json`,
	}
	c.AddCommand(sh.inboundCheckCommand())
	return sh.group(c)
}

func (sh *shell) inboundCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check DOMAIN",
		Short: "Try the ways that mail for a domain can take",
		Long: `Try the ways that mail for a domain can take: where its MX records lead, whether the
organisation's server takes mail from here, and whether it takes mail from
elsewhere too, around this relay. Nothing is sent. The exit code is 3 if something
is wrong.`,
		Example: `  anechoic inbound check acme.example
  anechoic inbound check acme.example --json`,
		Args: arguments("DOMAIN"),
		RunE: func(c *cobra.Command, args []string) error { return sh.inboundCheck(c.Context(), args[0]) },
	}
}

// inboundTimeout is for a check, which waits for servers that do not answer.
const inboundTimeout = time.Minute

func (sh *shell) inboundCheck(ctx context.Context, domain string) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, inboundTimeout)
	defer cancel()
	check, err := client.CheckInbound(ctx, domain)
	if err != nil {
		return err
	}
	if sh.asJSON {
		err = sh.printJSON(check)
	} else {
		err = sh.printInboundCheck(&check)
	}
	if err == nil && check.Problems() {
		err = errFindings
	}
	return err
}

func (sh *shell) printInboundCheck(check *api.InboundCheck) error {
	if _, err := fmt.Fprintf(sh.out, "%s of %s, delivered to %s\n", check.Domain, check.Organisation, check.DeliverTo); err != nil {
		return err
	}
	for _, f := range check.Findings {
		if _, err := fmt.Fprintf(sh.out, "%-8s %s\n", f.Severity, printable(f.What)); err != nil {
			return err
		}
		if f.Fix != "" {
			if _, err := fmt.Fprintf(sh.out, "         %s\n", printable(f.Fix)); err != nil {
				return err
			}
		}
	}
	return nil
}
