package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"anechoic/control/api"
)

func (sh *shell) campaignCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "campaign",
		Short: "See findings and refusals that belong together",
		Long: `See campaigns: findings and refusals that share content, tenants, addresses or hosts,
as one incident each.`,
		Example: `  anechoic campaign list
  anechoic campaign show 4c1f20`,
	}
	c.AddCommand(sh.campaignListCommand(), sh.campaignShowCommand())
	return sh.group(c)
}

func (sh *shell) campaignListCommand() *cobra.Command {
	var org string
	c := &cobra.Command{
		Use:   "list",
		Short: "List campaigns, the latest first",
		Long: `List the campaigns that are remembered, the latest first: how long each took so far,
its messages, and how many of them got through.`,
		Example: `  anechoic campaign list
  anechoic campaign list --org acme --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.campaignList(c.Context(), org) },
	}
	c.Flags().StringVar(&org, "org", "", "only those in the name of this organisation")
	return c
}

func (sh *shell) campaignList(ctx context.Context, org string) error {
	list, err := asked(ctx, sh, func(ctx context.Context, c *api.Client) (api.CampaignList, error) { return c.Campaigns(ctx, org) })
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(list)
	}
	rows := [][]string{}
	for _, c := range list.Campaigns {
		state := "ended"
		if c.Open {
			state = "open"
		}
		rows = append(rows, []string{c.ID, state, stamp(c.Start), sinceStart(c.Start, c.Last), strconv.Itoa(c.Messages), strconv.Itoa(c.Left), c.Title})
	}
	return sh.table("ID STATE START LASTED MESSAGES LEFT TITLE", rows)
}

func (sh *shell) campaignShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one campaign as a page",
		Long: `Show a campaign: start, peak and end, in whose name, what was refused and what got
through, by which tenants, addresses and hosts it is known, and some messages.`,
		Example: `  anechoic campaign show 4c1f20
  anechoic campaign show 4c1f20 --json`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			page, err := asked(c.Context(), sh, func(ctx context.Context, c *api.Client) (api.CampaignPage, error) {
				return c.Campaign(ctx, args[0])
			})
			if err != nil {
				return err
			}
			if sh.asJSON {
				return sh.printJSON(page)
			}
			sh.printf("%s\n", page.Text)
			return nil
		},
	}
}
