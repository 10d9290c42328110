package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func (sh *shell) queueCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "queue",
		Short: "Show and steer the mail that waits",
		Long:  "Show and steer the mail in custody of the running relay. Every change is a fact in the ledger.",
		Example: `  anechoic queue list --domain example.org
  anechoic queue retry --domain example.org
  anechoic queue drop --org acme --dry-run`,
	}
	c.AddCommand(
		sh.queueListCommand(),
		sh.queueShowCommand(),
		sh.steerCommand(api.Retry, "Attempt now what waits for its next attempt", "Messages that wait for their next attempt are due at once."),
		sh.steerCommand(api.Hold, "Keep messages from being sent until released", "Messages are not sent until somebody releases them. What is in flight is held if the attempt fails."),
		sh.steerCommand(api.Release, "Send what is held", "Held messages are due at once. Policy is asked again before they are sent."),
		sh.steerCommand(api.Drop, "Give messages up: never sent, and no bounce", "Messages are given up: they are never sent, nobody is told, and it cannot be undone. What is in flight is dropped if the attempt fails."),
	)
	return sh.group(c)
}

func (sh *shell) queueListCommand() *cobra.Command {
	var chosen api.Selection
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List messages in custody, oldest first",
		Long:  "List messages in custody, oldest first, with each recipient that is not done.",
		Example: `  anechoic queue list
  anechoic queue list --state held --org acme
  anechoic queue list --domain example.org --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.queueList(c.Context(), chosen, limit) },
	}
	selectionFlags(c, &chosen)
	c.Flags().IntVar(&limit, "limit", 100, "at most so `many` messages; 0 for all")
	return c
}

func selectionFlags(c *cobra.Command, chosen *api.Selection) {
	c.Flags().StringVar(&chosen.Org, "org", "", "messages of this organisation's `id`")
	c.Flags().StringVar(&chosen.Domain, "domain", "", "recipients at this `domain`")
	c.Flags().StringVar((*string)(&chosen.State), "state", "", "recipients that are queued, leased or held")
}

func (sh *shell) queueList(ctx context.Context, chosen api.Selection, limit int) error {
	if limit < 0 {
		return usagef("--limit %d is below nothing", limit)
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	messages, more, err := listQueue(ctx, client, chosen, limit)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(messages)
	}
	if err := sh.table("ID ORG FROM RECIPIENT STATE DUE ATTEMPTS LAST", queueRows(messages)); err != nil {
		return err
	}
	if more {
		sh.notef("there is more: say --limit 0 for all\n")
	}
	return nil
}

// listQueue asks for pages until there is enough.
func listQueue(ctx context.Context, client *api.Client, chosen api.Selection, limit int) (messages []api.Queued, more bool, err error) {
	messages, token := []api.Queued{}, ""
	for {
		page := api.MaxPage
		if limit > 0 {
			page = min(page, limit-len(messages))
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		got, err := client.Queue(ctx, url.Values{
			"org": {chosen.Org}, "domain": {chosen.Domain}, "state": {string(chosen.State)}, "page_token": {token}, "limit": {strconv.Itoa(page)},
		})
		cancel()
		if err != nil {
			return nil, false, err
		}
		messages, token = append(messages, got.Messages...), got.NextPageToken
		if token == "" || limit > 0 && len(messages) >= limit {
			return messages, token != "", nil
		}
	}
}

func queueRows(messages []api.Queued) (rows [][]string) {
	for _, m := range messages {
		for i, r := range m.Recipients {
			row := []string{"", "", "", r.Address, string(r.State), dueText(r), strconv.Itoa(r.Attempts), orDash(lastText(r))}
			if i == 0 {
				row[0], row[1], row[2] = string(m.ID), m.Organisation, sender(m.MailFrom)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func sender(mailFrom string) string {
	if mailFrom == "" {
		return "<>"
	}
	return mailFrom
}

func dueText(r api.QueuedRecipient) string {
	if r.Due == nil || r.State != custody.StateQueued {
		return "-"
	}
	return stamp(*r.Due)
}

func lastText(r api.QueuedRecipient) string {
	if r.Reason != "" {
		return string(r.Reason)
	}
	return r.LastReply
}

func (sh *shell) queueShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one message in custody with its recipients",
		Long: `Show one message in custody: whose it is, when it expires, and how each recipient
that is not done stands. What became of a message that left is told by log show.`,
		Example: `  anechoic queue show 2al274bqphlahvjvb252eqy6ao
  anechoic queue show 2al274bqphlahvjvb252eqy6ao --json`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error { return sh.queueShow(c.Context(), mail.ID(args[0])) },
	}
}

func (sh *shell) queueShow(ctx context.Context, id mail.ID) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := client.Queued(ctx, id)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(m)
	}
	sh.printf("message   %s (%s) of %s\nsender    %s\nsize      %d octets\nkept      %s\nexpires   %s\n\n",
		m.ID, m.Kind, orDash(m.Organisation), sender(m.MailFrom), m.Size, stamp(m.Kept), stamp(m.Expires))
	var rows [][]string
	for _, r := range m.Recipients {
		rows = append(rows, []string{r.Address, string(r.State), dueText(r), strconv.Itoa(r.Attempts), orDash(lastText(r))})
	}
	return sh.table("RECIPIENT STATE DUE ATTEMPTS LAST", rows)
}

// steering is the flags of a command that changes the queue.
type steering struct {
	chosen api.Selection
	yes    bool
}

func (sh *shell) steerCommand(verb api.Verb, short, long string) *cobra.Command {
	var s steering
	c := &cobra.Command{
		Use:   string(verb) + " [ID…] [--org ID] [--domain DOMAIN] [--state STATE] [--all]",
		Short: short,
		Long: long + `

Messages are named by id, or selected by flags, or all with --all. A selection,
and every drop, asks first on a terminal; without a terminal a selection needs
--yes.`,
		Example: fmt.Sprintf(`  anechoic queue %[1]s 2al274bqphlahvjvb252eqy6ao
  anechoic queue %[1]s --domain example.org --dry-run
  anechoic queue %[1]s --org acme --yes`, verb),
		RunE: func(c *cobra.Command, args []string) error {
			for _, id := range args {
				s.chosen.IDs = append(s.chosen.IDs, mail.ID(id))
			}
			return sh.steer(c.Context(), verb, s)
		},
	}
	selectionFlags(c, &s.chosen)
	c.Flags().BoolVar(&s.chosen.All, "all", false, "everything in custody")
	c.Flags().BoolVar(&s.chosen.DryRun, "dry-run", false, "only say what would be done")
	c.Flags().BoolVar(&s.yes, "yes", false, "do not ask")
	return c
}

func (sh *shell) steer(ctx context.Context, verb api.Verb, s steering) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	named := len(s.chosen.IDs) > 0
	asks := isTerminal(sh.in) && verb == api.Drop || !named
	if asks && !s.yes && !s.chosen.DryRun {
		if err := sh.askFirst(ctx, client, verb, s.chosen); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done, err := client.Steer(ctx, verb, s.chosen)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(done)
	}
	sh.printf("%s\n", steeredSentence(done))
	return nil
}

// askFirst tells what would be done and has a person agree.
func (sh *shell) askFirst(ctx context.Context, client *api.Client, verb api.Verb, chosen api.Selection) error {
	chosen.DryRun = true
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	would, err := client.Steer(ctx, verb, chosen)
	if err != nil {
		return err
	}
	return sh.confirm(steeredSentence(would) + ".")
}

// pastTense is what was done.
var pastTense = map[api.Verb]string{api.Retry: "due now", api.Hold: "held", api.Release: "released", api.Drop: "dropped"}

func steeredSentence(s api.Steered) string {
	sentence := pastTense[s.Verb] + ": "
	if s.DryRun {
		sentence = "would be " + sentence
	}
	sentence += count(s.Recipients, "recipient", "recipients") + " of " + count(s.Messages, "message", "messages")
	if s.Later > 0 {
		sentence += fmt.Sprintf(", of those %d in flight: if the attempt fails", s.Later)
	}
	return sentence
}
