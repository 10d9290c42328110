package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/watch/detect"
	"anechoic/watch/response"
)

func (sh *shell) responseCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "response",
		Short: "See, apply and end steps against what was found",
		Long: `See, apply and end steps against what was found: throttle, hold, suspend, kill.
docs/response.md tells what each does, and how far the relay goes by itself.`,
		Example: `  anechoic response list
  anechoic response apply acme/app --step suspend --why "its password is out"
  anechoic response end 3f09a1b2c4 --why "the password was changed"`,
	}
	c.AddCommand(sh.responseListCommand(), sh.responseShowCommand(), sh.responseApplyCommand(), sh.responseEndCommand())
	return sh.group(c)
}

func (sh *shell) responseListCommand() *cobra.Command {
	var org string
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List what is in force and what waits for you",
		Long: `List the steps that are in force and those that are proposed and wait for a person;
with --all also those that ended in the last thirty days.`,
		Example: `  anechoic response list
  anechoic response list --org acme --all --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.responseList(c.Context(), org, all) },
	}
	c.Flags().StringVar(&org, "org", "", "only of this organisation")
	c.Flags().BoolVar(&all, "all", false, "also what has ended")
	return c
}

func (sh *shell) responseList(ctx context.Context, org string, all bool) error {
	list, err := asked(ctx, sh, func(ctx context.Context, c *api.Client) (api.ResponseList, error) { return c.Responses(ctx, org) })
	if err != nil {
		return err
	}
	shown := []api.Response{}
	for _, r := range list.Responses {
		if all || !r.Over() {
			shown = append(shown, r)
		}
	}
	if sh.asJSON {
		return sh.printJSON(api.ResponseList{Responses: shown})
	}
	rows := [][]string{}
	for _, r := range shown {
		rows = append(rows, []string{r.ID, r.State, r.Step.String(), waiting(&r), response.ScopeText(r.Scope), lasting(&r), r.By, r.Why})
	}
	return sh.table("ID STATE STEP WAITING SCOPE UNTIL BY WHY", rows)
}

func waiting(r *api.Response) string {
	if r.Waits() {
		return r.Wants.String()
	}
	return "-"
}

func lasting(r *api.Response) string {
	switch {
	case r.Over():
		return stamp(r.Ended)
	case r.Until.IsZero():
		return "somebody ends it"
	}
	return stamp(r.Until)
}

// asked asks the running relay one thing.
func asked[T any](ctx context.Context, sh *shell, ask func(context.Context, *api.Client) (T, error)) (answer T, err error) {
	client, err := sh.client()
	if err != nil {
		return answer, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return ask(ctx, client)
}

func (sh *shell) responseShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one step with its reasons",
		Long: `Show what is in force or proposed, since when and until when, who put it in force and
why, and by which findings. Of a killed domain it also says which DKIM records to
withdraw from DNS.`,
		Example: `  anechoic response show 3f09a1b2c4
  anechoic response show 3f09a1b2c4 --json`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := asked(c.Context(), sh, func(ctx context.Context, c *api.Client) (api.Response, error) { return c.Response(ctx, args[0]) })
			if err != nil {
				return err
			}
			return sh.printResponse(&r)
		},
	}
}

// printResponse shows one order.
func (sh *shell) printResponse(r *api.Response) error {
	if sh.asJSON {
		return sh.printJSON(r)
	}
	sh.printf("%s of %s: %s\n", r.Step, response.ScopeText(r.Scope), r.State)
	line := func(name, value string) {
		if value != "" && value != "-" {
			sh.printf("  %-9s %s\n", name, value)
		}
	}
	line("id", r.ID)
	line("since", stamp(r.StepAt))
	line("until", lasting(r))
	line("by", r.By)
	line("why", r.Why)
	if r.InForce() && r.Step == response.Throttle {
		line("rate", strconv.Itoa(r.Rate)+" messages an hour")
	}
	line("waiting", waiting(r))
	line("findings", strings.Join(r.Findings, ", "))
	if r.Over() {
		line("ended by", r.EndedBy+": "+r.EndedWhy)
	}
	line("DNS", r.Records)
	return nil
}

func (sh *shell) responseApplyCommand() *cobra.Command {
	var step, domain, why, span string
	var rate int
	var yes bool
	c := &cobra.Command{
		Use:   "apply ID|ORG[/SOURCE]",
		Short: "Put a step in force",
		Long: `Put a step in force: for what was proposed (its ID; without --step what it waits for),
or for an organisation, one source of it, or, with --domain, mail with a From of that
domain. What is already in force for the same is replaced, a stronger step by a weaker
one too. It lasts until somebody ends it, or for as long as --for says.

  throttle  451 past --rate messages an hour
  hold      what comes is kept for a person (anechoic quarantine list)
  suspend   550 to the source; what is queued of it is held
  kill      550 to every source, for --domain; what is queued is held, and the
            answer says which DKIM records to withdraw from DNS`,
		Example: `  anechoic response apply 3f09a1b2c4
  anechoic response apply acme/app --step throttle --rate 50 --for 4h --why "a strange newsletter"
  anechoic response apply acme --domain shop.acme.example --step kill --why "its key is stolen"`,
		Args: arguments("ID|ORG[/SOURCE]"),
		RunE: func(c *cobra.Command, args []string) error {
			wish := api.ResponseWish{Rate: rate, For: span, Why: why}
			id, err := sh.responseWish(c.Context(), args[0], domain, step, &wish)
			if err != nil {
				return err
			}
			if !yes && wish.Step >= response.Suspend {
				if err := sh.confirm(fmt.Sprintf("%s of %s: its mail is refused from now on.", wish.Step, response.ScopeText(wish.Scope))); err != nil {
					return err
				}
			}
			r, err := asked(c.Context(), sh, func(ctx context.Context, c *api.Client) (api.Response, error) { return c.ApplyResponse(ctx, id, wish) })
			if err != nil {
				return err
			}
			return sh.printResponse(&r)
		},
	}
	c.Flags().StringVar(&step, "step", "", "throttle, hold, suspend or kill")
	c.Flags().StringVar(&domain, "domain", "", "only mail with a From of this domain, or below it")
	c.Flags().IntVar(&rate, "rate", 0, fmt.Sprintf("of throttle: messages an hour (default %d)", response.DefaultRate))
	c.Flags().StringVar(&span, "for", "", "how long, as 4h (default: until somebody ends it)")
	c.Flags().StringVar(&why, "why", "", "the reason, for the ledger and for who is told")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// responseWish reads what is to be applied: the proposal of an id, or a scope.
func (sh *shell) responseWish(ctx context.Context, what, domain, step string, wish *api.ResponseWish) (id string, err error) {
	if step != "" {
		if wish.Step, err = response.ParseStep(step); err != nil {
			return "", usagef("%v", err)
		}
	}
	known, err := asked(ctx, sh, func(ctx context.Context, c *api.Client) (api.ResponseList, error) { return c.Responses(ctx, "") })
	if err != nil {
		return "", err
	}
	for _, r := range known.Responses {
		if r.ID != what {
			continue
		}
		if wish.Scope = r.Scope; step == "" {
			wish.Step = r.Wants
		}
		if wish.Why == "" {
			wish.Why = r.Why
		}
		return what, nil
	}
	org, source, _ := strings.Cut(what, "/")
	wish.Scope = detect.Scope{Org: org, Source: source, Domain: domain}
	switch {
	case step == "":
		return "", usagef("there is no response %s; for an organisation or source say --step", what)
	case wish.Why == "":
		return "", usagef("say --why: it stands in the ledger, and is told to the organisation")
	}
	return "", nil
}

func (sh *shell) responseEndCommand() *cobra.Command {
	var why string
	c := &cobra.Command{
		Use:   "end ID",
		Short: "End a step",
		Long: `End a step, or drop a proposal: mail flows as before, and what the step held in the
queue is tried again. What was detained stays for a person to judge (anechoic quarantine
list). The same findings begin nothing for the same for a day.`,
		Example: `  anechoic response end 3f09a1b2c4 --why "it is our newsletter"
  anechoic response end 3f09a1b2c4 --why "the password was changed" --json`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := asked(c.Context(), sh, func(ctx context.Context, c *api.Client) (api.Response, error) {
				return c.EndResponse(ctx, args[0], why)
			})
			if err != nil {
				return err
			}
			return sh.printResponse(&r)
		},
	}
	c.Flags().StringVar(&why, "why", "", "the reason, for the ledger and for who is told")
	return c
}

func (sh *shell) findingCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "finding",
		Short: "See what is not as usual",
		Long:  "See what detection found not to be as usual. docs/detection.md tells what it looks for.",
		Example: `  anechoic finding list
  anechoic finding list --org acme --json`,
	}
	c.AddCommand(sh.findingListCommand())
	return sh.group(c)
}

func (sh *shell) findingListCommand() *cobra.Command {
	var org string
	c := &cobra.Command{
		Use:   "list",
		Short: "List findings, the latest first",
		Long: `List the latest thousand findings, the latest first, each with its score, how many
messages it counts, how many of them were taken to be sent, and what it proposes.
--json has the evidence too.`,
		Example: `  anechoic finding list
  anechoic finding list --org acme --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := asked(c.Context(), sh, func(ctx context.Context, c *api.Client) (api.FindingList, error) { return c.Findings(ctx, org) })
			if err != nil {
				return err
			}
			if sh.asJSON {
				return sh.printJSON(list)
			}
			rows := [][]string{}
			for _, f := range list.Findings {
				rows = append(rows, []string{stamp(f.Last), string(f.Kind), response.ScopeText(f.Scope), strconv.FormatFloat(f.Score, 'f', 2, 64), strconv.Itoa(f.Messages), strconv.Itoa(f.Left), response.Step(f.Propose.Step).String(), f.Sentence})
			}
			return sh.table("LAST KIND SCOPE SCORE MESSAGES LEFT PROPOSES SENTENCE", rows)
		},
	}
	c.Flags().StringVar(&org, "org", "", "only about this organisation")
	return c
}

// sinceStart is how long something took, for a list.
func sinceStart(start, end time.Time) string {
	if end.IsZero() || end.Before(start) {
		return "-"
	}
	return end.Sub(start).Round(time.Second).String()
}
