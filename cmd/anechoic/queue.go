package main

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func (sh *shell) queueCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "queue",
		Short: "Show and steer the mail that waits",
		Long:  "Show and steer the mail in custody of the running relay. Every change is a fact in the ledger.",
		Example: `  anechoic queue list --domain example.org
  anechoic queue show 2al274bqphlahvjvb252eqy6ao
  anechoic queue retry --reply "try again later" --dry-run
  anechoic queue suspend site mailbox.example --reason "they move their servers"`,
	}
	c.AddCommand(
		sh.queueListCommand(),
		sh.queueShowCommand(),
		sh.queueTraceCommand(),
		sh.steerCommand(api.Retry, "Attempt now what waits for its next attempt", "Messages that wait for their next attempt are due at once."),
		sh.steerCommand(api.Hold, "Keep messages from being sent until released", "Messages are not sent until somebody releases them. What is in flight is held if the attempt fails."),
		sh.steerCommand(api.Release, "Send what is held", "Held messages are due at once. Policy is asked again before they are sent."),
		sh.steerCommand(api.Reroute, "Send messages to another next hop", `Messages go to the next hop of --via instead of where DNS says, until they are
delivered; --via dns leads back. Only mail that an organisation was proven to send
can be rerouted; policy is asked again, and the next hop must show the TLS that
configuration, MTA-STS and DNSSEC of the recipient's domain ask for. What is in
flight is rerouted if the attempt fails.`),
		sh.steerCommand(api.Bounce, "Give messages up and tell their senders", `Attempts end, also for what is held or suspended: the sender gets a report, where an
organisation was proven to send the message. It cannot be undone. What is in flight
is bounced if the attempt fails.`),
		sh.steerCommand(api.Drop, "Give messages up: never sent, and no bounce", "Messages are given up: they are never sent, nobody is told, and it cannot be undone. What is in flight is dropped if the attempt fails."),
		sh.suspendCommand(api.Suspend),
		sh.suspendCommand(api.Resume),
		sh.suspensionsCommand(),
	)
	return sh.group(c)
}

func (sh *shell) queueListCommand() *cobra.Command {
	var chosen selection
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List messages in custody, oldest first",
		Long:  "List messages in custody, oldest first, with each recipient that is not done.",
		Example: `  anechoic queue list
  anechoic queue list --state held --org acme
  anechoic queue list --site mailbox.example --older-than 2h
  anechoic queue list --reply "mailbox full" --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.queueList(c.Context(), chosen, limit) },
	}
	chosen.define(c)
	c.Flags().IntVar(&limit, "limit", 100, "at most so `many` messages; 0 for all")
	return c
}

// selection is the flags that select messages.
type selection struct {
	api.Selection
	olderThan string
}

func (s *selection) define(c *cobra.Command) {
	c.Flags().StringVar(&s.Org, "org", "", "messages of this organisation's `id`")
	c.Flags().StringVar(&s.Source, "source", "", "messages that came by the source of this `id`")
	c.Flags().StringVar(&s.Sender, "sender", "", "messages whose sender is at this `domain`")
	c.Flags().StringVar(&s.Domain, "domain", "", "recipients at this `domain`")
	c.Flags().StringVar(&s.Site, "site", "", "recipients whose domain led to this `site` lately")
	c.Flags().StringVar((*string)(&s.State), "state", "", "recipients that are queued, leased or held")
	c.Flags().StringVar(&s.olderThan, "older-than", "", "messages kept longer ago than this `time`: 2h, 7d, or a date")
	c.Flags().StringVar(&s.Reply, "reply", "", "recipients whose last reply has this `text`")
}

// read gives the selection with its age as a time.
func (s *selection) read(now time.Time) (chosen api.Selection, err error) {
	chosen = s.Selection
	text, err := moment("--older-than", s.olderThan, now)
	if err == nil && text != "" {
		chosen.Before, err = time.Parse(time.RFC3339Nano, text)
	}
	return chosen, err
}

func (sh *shell) queueList(ctx context.Context, flags selection, limit int) error {
	chosen, err := flags.read(time.Now())
	if err != nil {
		return err
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	query := url.Values{
		"org": {chosen.Org}, "source": {chosen.Source}, "sender": {chosen.Sender}, "domain": {chosen.Domain}, "site": {chosen.Site},
		"state": {string(chosen.State)}, "reply": {chosen.Reply},
	}
	if !chosen.Before.IsZero() {
		query.Set("before", chosen.Before.Format(time.RFC3339Nano))
	}
	var unknown *api.SiteUnknown
	messages, more, err := pages(ctx, limit, query, func(ctx context.Context, q url.Values) ([]api.Queued, string, error) {
		page, err := client.Queue(ctx, q)
		if page.SiteUnknown != nil { // the first page has it
			unknown = page.SiteUnknown
		}
		return page.Messages, page.NextPageToken, err
	})
	if err != nil {
		return err
	}
	if sh.asJSON {
		sh.noteSiteUnknown(unknown)
		return sh.printJSON(messages)
	}
	if err := sh.table("ID ORG FROM RECIPIENT STATE DUE ATTEMPTS LAST", queueRows(messages)); err != nil {
		return err
	}
	sh.noteMore(more)
	sh.noteSiteUnknown(unknown)
	return nil
}

// noteSiteUnknown says what a selection by site leaves out.
func (sh *shell) noteSiteUnknown(u *api.SiteUnknown) {
	if u == nil {
		return
	}
	what := count(u.Messages, "message", "messages")
	if u.Messages == 0 {
		what = count(u.Recipients, "recipient", "recipients")
	}
	sh.notef("not among them: %s to %s whose site is not known yet; it is known after the next attempt (queue retry --domain)\n",
		what, count(u.Domains, "domain", "domains"))
}

func queueRows(messages []api.Queued) (rows [][]string) {
	for _, m := range messages {
		for i, r := range m.Recipients {
			row := []string{"", "", "", r.Address, stateText(r), dueText(r), strconv.Itoa(r.Attempts), orDash(lastText(r))}
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

// stateText is the state, and what a person made of it.
func stateText(r api.QueuedRecipient) string {
	switch {
	case r.Ended:
		return string(r.State) + ", ended"
	case r.State == custody.StateQueued && r.Suspended != "":
		return "suspended"
	case r.Via != "":
		return string(r.State) + ", rerouted"
	}
	return string(r.State)
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
		Short: "Say why one message is still here, and how its recipients stand",
		Long: `Say in one sentence why one message is still in custody; then whose it is, when it
expires, and how each recipient that is not done stands. What became of a message
that left is told by log show.`,
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
	sh.printf("%s\n\nmessage   %s (%s) of %s\nsender    %s\nsize      %d octets\nkept      %s\nexpires   %s\n\n",
		strings.ReplaceAll(m.Why, "\n", " "), m.ID, m.Kind, orDash(m.Organisation), sender(m.MailFrom), m.Size, stamp(m.Kept), stamp(m.Expires))
	var rows [][]string
	for _, r := range m.Recipients {
		rows = append(rows, []string{r.Address, stateText(r), dueText(r), strconv.Itoa(r.Attempts), orDash(r.Site), orDash(lastText(r))})
	}
	return sh.table("RECIPIENT STATE DUE ATTEMPTS SITE LAST", rows)
}

func (sh *shell) queueTraceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "trace ID",
		Short: "List everything that was tried for one message",
		Long: `List what happened to one message, a row a fact, in order: each attempt with its
site, egress address, TLS and reply, and what operators did. It works for messages that left
too; log show tells the same in words.`,
		Example: `  anechoic queue trace 2al274bqphlahvjvb252eqy6ao
  anechoic queue trace 2al274bqphlahvjvb252eqy6ao --json`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error { return sh.queueTrace(c.Context(), mail.ID(args[0])) },
	}
}

func (sh *shell) queueTrace(ctx context.Context, id mail.ID) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	told, err := client.Message(ctx, id)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(told.Facts)
	}
	var rows [][]string
	for _, f := range told.Facts {
		rows = append(rows, traceRow(f))
	}
	return sh.table("TIME EVENT ATTEMPT RECIPIENT SITE EGRESS TLS REPLY", rows)
}

func traceRow(f ledger.Fact) []string {
	attempt := "-"
	if f.Attempt > 0 {
		attempt = strconv.Itoa(f.Attempt)
	}
	said := f.Reply
	for _, more := range []string{string(f.Reason), f.Detail} {
		if said == "" {
			said = more
		}
	}
	return []string{stamp(f.Time), string(f.Event), attempt, recipients(f.Rcpt), orDash(f.Site), orDash(f.Egress), orDash(f.TLS), orDash(said)}
}
