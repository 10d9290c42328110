package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/relay/limit"
)

func (sh *shell) limitCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "limit",
		Short: "See and change how much sources may send",
		Long: `See how much each source may send, what is left of it and why, give a source a higher
tier for a while, or forget what it spent. Numbers for good are in the registry:
limits and trust of a source. docs/limits.md tells how it is counted.`,
		Example: `  anechoic limit list
  anechoic limit show acme/billing
  anechoic limit grant acme/billing --tier established --days 7 --note "month-end invoices"
  anechoic limit reset acme/billing`,
	}
	c.AddCommand(sh.limitListCommand(), sh.limitShowCommand(), sh.limitGrantCommand(), sh.limitResetCommand())
	return sh.group(c)
}

func (sh *shell) limitListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [ORG]",
		Short: "List how much sources may send",
		Long:  "List every source, or those of one organisation: what bounds it, what it sent in the last 24 hours, and its tightest budget.",
		Example: `  anechoic limit list
  anechoic limit list acme --json`,
		Args: arguments("[ORG]"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.limitList(c.Context(), strings.Join(args, ""))
		},
	}
}

func (sh *shell) limitList(ctx context.Context, org string) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := client.Limits(ctx, url.Values{"org": {org}})
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(list)
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{s.Organisation + "/" + s.Source, boundBy(&s), strconv.FormatInt(s.Messages, 10), strconv.FormatInt(s.Recipients, 10), tightest(s.Budgets)})
	}
	return sh.table("SOURCE BOUND MESSAGES RECIPIENTS TIGHTEST", rows)
}

// boundBy is what bounds a source, in a word or two.
func boundBy(s *api.SourceLimits) string {
	if s.By == api.ByTier {
		return "tier " + string(s.Tier)
	}
	return s.By
}

// tightest is the budget of which least is left.
func tightest(budgets []api.BudgetLeft) string {
	var found *api.BudgetLeft
	for i, b := range budgets {
		if found == nil || b.Left*found.Most < found.Left*b.Most {
			found = &budgets[i]
		}
	}
	if found == nil {
		return "-"
	}
	return fmt.Sprintf("%d of %d %s left", found.Left, found.Most, spelt(found.Unit))
}

// spelt is a unit as a person reads it.
func spelt(unit string) string { return strings.ReplaceAll(unit, "_", " ") }

func (sh *shell) limitShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORG/SOURCE",
		Short: "Show how much a source may send, and why",
		Long: `Show the tier of a source, why it stands there, when the next one comes and what is
missing for it, and what is left of each budget that its mail is counted against.`,
		Example: `  anechoic limit show acme/billing
  anechoic limit show acme/billing --json`,
		Args: arguments("ORG/SOURCE"),
		RunE: func(c *cobra.Command, args []string) error { return sh.limitShow(c.Context(), args) },
	}
}

func (sh *shell) limitShow(ctx context.Context, args []string) error {
	org, source, err := splitSource(args)
	if err != nil {
		return err
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := client.LimitsOf(ctx, org, source)
	if err != nil {
		return err
	}
	return sh.printLimits(&s)
}

func (sh *shell) printLimits(s *api.SourceLimits) error {
	if sh.asJSON {
		return sh.printJSON(s)
	}
	sh.printf("%s/%s (%s) is bound by %s\n", s.Organisation, s.Source, s.Kind, boundBy(s))
	if s.Why != "" {
		sh.printf("tier %s: %s\n", s.Tier, printable(s.Why))
	}
	if s.Next != "" {
		sh.printf("next tier %s, not yet:\n", s.Next)
		for _, missing := range s.Missing {
			sh.printf("  - %s\n", printable(missing))
		}
		if !s.NotBefore.IsZero() {
			sh.printf("  not before %s\n", stamp(s.NotBefore))
		}
	}
	sh.printf("in the last 24 hours: %d messages to %d recipients, %d octets\n", s.Messages, s.Recipients, s.Bytes)
	var rows [][]string
	for _, b := range s.Budgets {
		whole := "now"
		if !b.Whole.IsZero() {
			whole = stamp(b.Whole)
		}
		rows = append(rows, []string{b.Of, spelt(b.Unit), strconv.FormatInt(b.Most, 10), strconv.FormatInt(b.Left, 10), whole})
	}
	return sh.table("OF BUDGET MOST LEFT WHOLE", rows)
}

func (sh *shell) limitGrantCommand() *cobra.Command {
	var tier, note string
	var days int
	var revoke bool
	c := &cobra.Command{
		Use:   "grant ORG/SOURCE",
		Short: "Give a source a higher tier for a while",
		Long: `Give a source a tier for some days, at most 90: for a migration, or a mailing that was
announced. It counts only while it is higher than what the source has earned. With
--revoke it is taken back. A tier for good is written in the registry: trust.`,
		Example: `  anechoic limit grant acme/billing --tier established --days 7 --note "month-end invoices"
  anechoic limit grant acme/billing --revoke`,
		Args: arguments("ORG/SOURCE"),
		RunE: func(c *cobra.Command, args []string) error {
			if revoke != (tier == "") || days < 1 {
				return usagef("say --tier new, known, established or trusted and --days, or --revoke")
			}
			if revoke {
				return sh.changeLimits(c.Context(), args, api.RevokeTier, api.LimitWish{})
			}
			return sh.changeLimits(c.Context(), args, api.GrantTier, api.LimitWish{Tier: limit.Tier(tier), Until: time.Now().UTC().AddDate(0, 0, days), Note: note})
		},
	}
	c.Flags().StringVar(&tier, "tier", "", "the `tier`: new, known, established or trusted")
	c.Flags().IntVar(&days, "days", 7, "for so `many` days")
	c.Flags().StringVar(&note, "note", "", "why, in a few `words`")
	c.Flags().BoolVar(&revoke, "revoke", false, "take back what was granted")
	return c
}

func (sh *shell) limitResetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reset ORG/SOURCE",
		Short: "Forget what a source spent",
		Long: `Forget what a source spent: all its own budgets are whole. Those of its organisation,
tenants and domains stay as they are, and so does its tier.`,
		Example: `  anechoic limit reset acme/billing
  anechoic limit reset acme/billing --json`,
		Args: arguments("ORG/SOURCE"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.changeLimits(c.Context(), args, api.ResetLimits, api.LimitWish{})
		},
	}
}

func (sh *shell) changeLimits(ctx context.Context, args []string, verb api.Verb, wish api.LimitWish) error {
	org, source, err := splitSource(args)
	if err != nil {
		return err
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := client.ChangeLimits(ctx, org, source, verb, wish)
	if err != nil {
		return err
	}
	return sh.printLimits(&s)
}
