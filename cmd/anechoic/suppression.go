package main

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
)

func (sh *shell) suppressionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "suppression",
		Short: "See and change whom an organisation's mail is not tried for",
		Long: `See and change an organisation's suppression list: addresses that failed for good
again and again, that complained, or that a person put there. Mail for them is
accepted and comes back to its sender at once, with the reason SUPPRESSED. Each
entry ends by itself. An organisation has a list once the registry says
suppression = {} under it.`,
		Example: `  anechoic suppression list acme
  anechoic suppression add acme bob@example.org --note "asked by telephone"
  anechoic suppression remove acme bob@example.org`,
	}
	c.AddCommand(sh.suppressionListCommand(), sh.suppressionAddCommand(), sh.suppressionRemoveCommand())
	return sh.group(c)
}

func (sh *shell) suppressionListCommand() *cobra.Command {
	var address string
	var pending bool
	var limit int
	c := &cobra.Command{
		Use:   "list ORG",
		Short: "List the addresses of an organisation's suppression list",
		Long: `List the addresses that an organisation's mail is not tried for: why, since when
and until when. With --pending also those that failed, but not often enough.`,
		Example: `  anechoic suppression list acme
  anechoic suppression list acme --address bob@example.org --json`,
		Args: arguments("ORG"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.suppressionList(c.Context(), args[0], address, pending, limit)
		},
	}
	c.Flags().StringVar(&address, "address", "", "this `address` alone, also if it is not suppressed yet")
	c.Flags().BoolVar(&pending, "pending", false, "also addresses with fewer hard bounces than the rule wants")
	c.Flags().IntVar(&limit, "limit", 100, "at most so `many` addresses; 0 for all")
	return c
}

func (sh *shell) suppressionList(ctx context.Context, org, address string, pending bool, limit int) error {
	if limit < 0 {
		return usagef("--limit %d is below nothing", limit)
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	list := []api.Suppressed{}
	for token := ""; ; {
		page := api.MaxPage
		if limit > 0 {
			page = min(page, limit-len(list))
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		got, err := client.Suppressed(ctx, org, url.Values{"address": {address}, "pending": {strconv.FormatBool(pending)}, "page_token": {token}, "limit": {strconv.Itoa(page)}})
		cancel()
		if err != nil {
			return err
		}
		if !got.On {
			sh.notef("organisation %s has no suppression list in the registry: nothing here is in force\n", org)
		}
		list, token = append(list, got.Addresses...), got.NextPageToken
		if token == "" || limit > 0 && len(list) >= limit {
			return sh.printSuppressed(list, token != "")
		}
	}
}

func (sh *shell) printSuppressed(list []api.Suppressed, more bool) error {
	if sh.asJSON {
		return sh.printJSON(list)
	}
	var rows [][]string
	for _, s := range list {
		stands := "suppressed"
		if !s.Suppressed {
			stands = "pending"
		}
		rows = append(rows, []string{s.Address, stands, string(s.Reason), stamp(s.Since), stamp(s.Until), strconv.Itoa(len(s.Marks))})
	}
	if err := sh.table("ADDRESS IS REASON SINCE UNTIL MARKS", rows); err != nil {
		return err
	}
	if more {
		sh.notef("there is more: say --limit 0 for all\n")
	}
	return nil
}

func (sh *shell) suppressionAddCommand() *cobra.Command {
	var wish api.SuppressionWish
	var days int
	c := &cobra.Command{
		Use:   "add ORG ADDRESS",
		Short: "Put an address on an organisation's suppression list",
		Long:  "Put an address on an organisation's suppression list. It ends after --days, or as complaints do.",
		Example: `  anechoic suppression add acme bob@example.org
  anechoic suppression add acme bob@example.org --days 30 --note "asked by telephone"`,
		Args: arguments("ORG ADDRESS"),
		RunE: func(c *cobra.Command, args []string) error {
			if days < 0 {
				return usagef("--days %d is below nothing", days)
			}
			if days > 0 {
				wish.Until = time.Now().UTC().AddDate(0, 0, days)
			}
			wish.Address = args[1]
			return sh.changeSuppression(c.Context(), args[0], api.AddSuppression, wish)
		},
	}
	c.Flags().IntVar(&days, "days", 0, "for so `many` days; 0: as for a complaint")
	c.Flags().StringVar(&wish.Note, "note", "", "why, in a few `words`")
	return c
}

func (sh *shell) suppressionRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ORG ADDRESS",
		Short: "Take an address off an organisation's suppression list",
		Long:  "Take an address off an organisation's suppression list, whatever put it there. Nothing of it stays in the list; what is in the ledger is erased there.",
		Example: `  anechoic suppression remove acme bob@example.org
  anechoic suppression remove acme bob@example.org --json`,
		Args: arguments("ORG ADDRESS"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.changeSuppression(c.Context(), args[0], api.RemoveSuppression, api.SuppressionWish{Address: args[1]})
		},
	}
}

func (sh *shell) changeSuppression(ctx context.Context, org string, verb api.Verb, wish api.SuppressionWish) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done, err := client.ChangeSuppression(ctx, org, verb, wish)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(done)
	}
	switch {
	case verb == api.AddSuppression:
		sh.printf("%s: mail of %s for it is not tried any more\n", done.Address, org)
	case done.Marks == 0:
		sh.printf("%s was not on the list of %s\n", done.Address, org)
	default:
		sh.printf("%s is off the list of %s (%s)\n", done.Address, org, count(done.Marks, "mark", "marks"))
	}
	return nil
}
