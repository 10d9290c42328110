package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/watch/alert"
)

func (sh *shell) alertCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "alert",
		Short: "See what people were told of, and try whether they hear it",
		Long: `See what people were told of by mail, webhook and syslog; try whether it arrives; see
each call of a webhook and send one again. Whom the relay tells is in the registry
(security_contact, webhook) and in relay.toml ([alerts]).`,
		Example: `  anechoic alert list --open
  anechoic alert test acme/siem
  anechoic alert history acme/siem`,
	}
	c.AddCommand(sh.alertListCommand(), sh.alertTestCommand(), sh.alertHistoryCommand(), sh.alertReplayCommand())
	return sh.group(c)
}

func (sh *shell) alertListCommand() *cobra.Command {
	var org string
	var open bool
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List incidents that people were told of",
		Long: `List the incidents of the last 30 days, newest first: when each began, how bad it is,
how many messages it is about, and how often people were told of it.`,
		Example: `  anechoic alert list
  anechoic alert list --org acme --open --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.alertList(c.Context(), org, open, limit) },
	}
	c.Flags().StringVar(&org, "org", "", "of this `organisation` alone")
	c.Flags().BoolVar(&open, "open", false, "only those that are not over")
	c.Flags().IntVar(&limit, "limit", 100, "at most so `many`, up to 1000")
	return c
}

func (sh *shell) alertList(ctx context.Context, org string, open bool, limit int) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := client.Incidents(ctx, url.Values{"org": {org}, "open": {strconv.FormatBool(open)}, "limit": {strconv.Itoa(limit)}})
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(list.Incidents)
	}
	var rows [][]string
	for _, i := range list.Incidents {
		state := "open"
		if !i.Ended.IsZero() {
			state = "over"
		}
		rows = append(rows, []string{stamp(i.Opened), stamp(i.Updated), state, i.Severity, i.Org, strconv.Itoa(i.Count), strconv.Itoa(i.Told), i.Title})
	}
	if err := sh.table("OPENED UPDATED IS SEVERITY ORG COUNT TOLD TITLE", rows); err != nil {
		return err
	}
	if list.Truncated {
		sh.notef("there is more: say --limit 1000\n")
	}
	return nil
}

func (sh *shell) alertTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test [ORG[/WEBHOOK]]",
		Short: "Send a test alert",
		Long: `Send a test alert every way that alerts of an organisation go; without ORG, the
operator's ways. With /WEBHOOK that webhook alone is called, once, and the answer is
shown: one that had said 410 is used again if it takes the test. An operator's
webhook is written as /WEBHOOK. Exit code 3: the webhook did not take it.`,
		Example: `  anechoic alert test
  anechoic alert test acme
  anechoic alert test acme/siem`,
		Args: arguments("[ORG]"),
		RunE: func(c *cobra.Command, args []string) error {
			org, webhook, _ := strings.Cut(strings.Join(args, ""), "/")
			return sh.alertTest(c.Context(), org, webhook)
		},
	}
}

func (sh *shell) alertTest(ctx context.Context, org, webhook string) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done, err := client.TestAlerts(ctx, api.AlertTest{Org: org, Webhook: webhook})
	if err != nil {
		return err
	}
	if sh.asJSON {
		err = sh.printJSON(done)
	} else if done.Request == nil {
		sh.printf("A test alert is on its way. Look into the mailbox, and at: anechoic alert history\n")
	} else {
		err = sh.printRequests([]alert.Request{*done.Request})
	}
	if err == nil && done.Request != nil && done.Request.State != alert.Delivered {
		return errFindings
	}
	return err
}

func (sh *shell) alertHistoryCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use:   "history [ORG[/WEBHOOK]]",
		Short: "List what webhooks were called with",
		Long: `List the requests of webhooks, newest first: of all, of an organisation, or of one
webhook. Of each webhook the last 200 that are over are kept, and all that wait.
With --json each attempt with its answer, and the payload.`,
		Example: `  anechoic alert history
  anechoic alert history acme/siem --json`,
		Args: arguments("[ORG]"),
		RunE: func(c *cobra.Command, args []string) error {
			org, webhook, _ := strings.Cut(strings.Join(args, ""), "/")
			return sh.alertHistory(c.Context(), org, webhook, limit)
		},
	}
	c.Flags().IntVar(&limit, "limit", 50, "at most so `many`, up to 1000")
	return c
}

func (sh *shell) alertHistory(ctx context.Context, org, webhook string, limit int) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := client.AlertRequests(ctx, url.Values{"org": {org}, "webhook": {webhook}, "limit": {strconv.Itoa(limit)}})
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(list)
	}
	return sh.printRequests(list)
}

func (sh *shell) printRequests(list []alert.Request) error {
	var rows [][]string
	for _, r := range list {
		answer, next := r.Note, ""
		if n := len(r.Attempts); n > 0 && answer == "" {
			last := r.Attempts[n-1]
			answer = last.Error
			if answer == "" {
				answer = fmt.Sprint(last.Status)
			}
		}
		if !r.Next.IsZero() {
			next = stamp(r.Next)
		}
		rows = append(rows, []string{r.ID, stamp(r.Created), r.Endpoint, string(r.Event), string(r.State), strconv.Itoa(len(r.Attempts)), next, answer})
	}
	return sh.table("REQUEST CREATED WEBHOOK EVENT STATE ATTEMPTS NEXT ANSWER", rows)
}

func (sh *shell) alertReplayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replay REQUEST",
		Short: "Send a webhook request again",
		Long: `Send a request of a webhook again, with the webhook-id and payload it had, a new time
and a new signature. It is tried as often as a new one.`,
		Example: `  anechoic alert replay msg_0a1b2c3d4e5f6g7h8j9k0m1n2p
  anechoic alert replay msg_0a1b2c3d4e5f6g7h8j9k0m1n2p --json`,
		Args: arguments("REQUEST"),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := sh.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), askTimeout)
			defer cancel()
			r, err := client.ReplayAlert(ctx, args[0])
			if err != nil {
				return err
			}
			if sh.asJSON {
				return sh.printJSON(r)
			}
			sh.printf("%s is sent to %s again\n", r.ID, r.Endpoint)
			return nil
		},
	}
}
