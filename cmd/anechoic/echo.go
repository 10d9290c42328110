package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"anechoic/control/api"
)

func (sh *shell) echoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "echo",
		Short: "See and forget what was learned of domains' tenants",
		Long: `See and forget what was learned of domains' tenants, on which the verdict about
echoes in inbound mail rests. docs/echo.md tells what an echo is.`,
		Example: `  anechoic echo show partner.example
  anechoic echo forget partner.example`,
	}
	c.AddCommand(sh.echoShowCommand(), sh.echoForgetCommand())
	return sh.group(c)
}

func (sh *shell) echoShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show DOMAIN",
		Short: "Show which tenants send as a domain",
		Long: `Show what is known of a From domain: the tenants that were seen to hold its key, the
names that its DNS gives its tenants, and the latest tenants that sent as it and
belong to nobody known. A tenant counts as the domain's own (learned) after three
days over at least a week.`,
		Example: `  anechoic echo show partner.example
  anechoic echo show partner.example --json`,
		Args: arguments("DOMAIN"),
		RunE: func(c *cobra.Command, args []string) error { return sh.echoShow(c.Context(), args[0]) },
	}
}

func (sh *shell) echoShow(ctx context.Context, domain string) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	profile, err := client.EchoProfile(ctx, domain)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(profile)
	}
	if err := sh.table("TENANT IS FIRST LAST DAYS", echoRows(&profile)); err != nil {
		return err
	}
	if len(profile.Strangers) > 0 {
		sh.notef("A stranger that you know to belong to %s is vouched for in the registry ([[organisation.inbound.vouched]])\n", profile.Domain)
	}
	return nil
}

// echoRows lists all that sends as a domain, those that are known first.
func echoRows(p *api.EchoProfile) (rows [][]string) {
	for _, t := range p.Tenants {
		is := "new"
		if t.Learned {
			is = "learned"
		}
		rows = append(rows, []string{t.ID, is, stamp(t.First), stamp(t.Last), strconv.Itoa(t.Days)})
	}
	for _, n := range p.Names {
		rows = append(rows, []string{n.Name.String(), "named by DNS", "-", stamp(n.Last), "-"})
	}
	for _, s := range p.Strangers {
		rows = append(rows, []string{s.ID, "stranger", stamp(s.First), stamp(s.Last), "-"})
	}
	return rows
}

func (sh *shell) echoForgetCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "forget DOMAIN",
		Short: "Forget what was learned of a domain",
		Long: `Forget what was learned of a From domain: it is as if no mail of it ever came. Its
own tenants are learned anew from its own mail; until then more of it is neutral,
and echoes of it are found by what is in them alone.`,
		Example: `  anechoic echo forget partner.example
  anechoic echo forget partner.example --yes`,
		Args: arguments("DOMAIN"),
		RunE: func(c *cobra.Command, args []string) error { return sh.echoForget(c.Context(), args[0], yes) },
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (sh *shell) echoForget(ctx context.Context, domain string, yes bool) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if !yes && isTerminal(sh.in) {
		if err := sh.confirm(fmt.Sprintf("What was learned of %s is forgotten.", domain)); err != nil {
			return err
		}
	}
	done, err := client.ForgetEcho(ctx, domain)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(done)
	}
	sh.printf("%s is forgotten\n", done.Domain)
	return nil
}
