package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/mail"
)

func (sh *shell) quarantineCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "quarantine",
		Short: "Judge held mail: what nobody proved, and what is doubtful",
		Long: `Judge detained mail: what an organisation's source handed over and nothing proves,
what came in for an organisation and is doubtful, what an organisation that is still
learning would have refused. It is never sent as it is. A release judges it again
with the registry of now; what is still not proven stays. After 30 days, or what
quarantine.keep says, it is deleted.`,
		Example: `  anechoic quarantine list --org acme
  anechoic quarantine show agpqvvzcdqaapfqnqyjsd3sfxe --content
  anechoic quarantine release --org acme --dry-run`,
	}
	c.AddCommand(
		sh.quarantineListCommand(),
		sh.quarantineShowCommand(),
		sh.judgeCommand(api.Release, "Judge messages again, and send what is proven now",
			`Attribution and policy are asked again, about the evidence of then with the registry
of now. What they prove is signed and sent; the rest stays, and is told with its
reason (exit code 3). A release of many messages waits for a second person.`),
		sh.judgeCommand(api.Drop, "Give messages up: never sent, and nobody is told",
			"Messages are deleted. Nobody is told, because nobody is proven to have sent them. It cannot be undone."),
		sh.quarantineExportCommand(),
		sh.approvalsCommand(),
		sh.approvalCommand(api.Approve, "Approve a release that another person asked for, and release",
			"The messages of the proposal are released: judged again, each of them. Who asked for it cannot approve it."),
		sh.approvalCommand(api.Refuse, "Refuse a release that waits for a second person",
			"The proposal is gone, the messages stay as they are. Who asked for it may do so too."),
		sh.digestCommand(),
	)
	return sh.group(c)
}

// heldFlags are the flags that select held mail.
type heldFlags struct {
	api.DetainedSelection
	since, until string
}

func (f *heldFlags) define(c *cobra.Command) {
	text := func(into *string, name, usage string) { c.Flags().StringVar(into, name, "", usage) }
	text(&f.Org, "org", "messages of this organisation's `id`")
	text((*string)(&f.Reason), "reason", "messages detained for this `reason`, as FORWARDED_MAIL")
	text(&f.Direction, "direction", "inbound or outbound `mail`")
	text(&f.Source, "source", "messages that this source's `id` handed over")
	text(&f.Sender, "sender", "with this MAIL FROM: an `address`, a domain, or <>")
	text(&f.From, "from", "with this From: an `address` or a domain")
	text(&f.Recipient, "recipient", "for this `address` or domain")
	text(&f.Domain, "domain", "whose MAIL FROM, From or recipient is in this `domain`")
	text(&f.ID, "id", "whose id begins with these `letters`")
	text(&f.since, "since", "kept since this `time`: 24h, 7d, 2026-11-22, or RFC 3339")
	text(&f.until, "until", "kept before this `time`")
	text(&f.Text, "text", "with all these `words` in envelope, From, source, reason or Subject")
}

// read gives the selection with its times.
func (f *heldFlags) read(now time.Time) (chosen api.DetainedSelection, err error) {
	chosen = f.DetainedSelection
	for _, t := range []struct {
		flag, text string
		into       *time.Time
	}{{"--since", f.since, &chosen.Since}, {"--until", f.until, &chosen.Until}} {
		text, err := moment(t.flag, t.text, now)
		if err != nil {
			return chosen, err
		}
		if text != "" {
			if *t.into, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return chosen, err
			}
		}
	}
	return chosen, nil
}

// heldQuery is a selection as the parameters of a list.
func heldQuery(c api.DetainedSelection) url.Values {
	q := url.Values{
		"org": {c.Org}, "reason": {string(c.Reason)}, "direction": {c.Direction}, "source": {c.Source}, "sender": {c.Sender}, "from": {c.From}, "recipient": {c.Recipient},
		"domain": {c.Domain}, "id": {c.ID}, "text": {c.Text},
	}
	if !c.Since.IsZero() {
		q.Set("since", c.Since.Format(time.RFC3339Nano))
	}
	if !c.Until.IsZero() {
		q.Set("until", c.Until.Format(time.RFC3339Nano))
	}
	return q
}

func (sh *shell) quarantineListCommand() *cobra.Command {
	var f heldFlags
	var limit int
	var subjects bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List and search detained messages, oldest first",
		Long: `List detained messages, oldest first: whose source they came from, as whom, why they
wait and until when. All flags must hold. --text also looks into subjects, which are
shown with --subjects alone.`,
		Example: `  anechoic quarantine list
  anechoic quarantine list --org acme --reason FORWARDED_MAIL --json
  anechoic quarantine list --domain freemail.example --since 7d --subjects
  anechoic quarantine list --text "invoice bob@example.org"`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			chosen, err := f.read(time.Now())
			if err != nil {
				return err
			}
			return sh.quarantineList(c.Context(), chosen, limit, subjects)
		},
	}
	f.define(c)
	c.Flags().IntVar(&limit, "limit", 100, "at most so `many` messages; 0 for all")
	c.Flags().BoolVar(&subjects, "subjects", false, "show subjects, as safe text; that you saw them is logged")
	return c
}

func (sh *shell) quarantineList(ctx context.Context, chosen api.DetainedSelection, limit int, subjects bool) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	query := heldQuery(chosen)
	if subjects {
		query.Set("content", "true")
	}
	messages, more, err := pages(ctx, limit, query, func(ctx context.Context, q url.Values) ([]api.Detained, string, error) {
		page, err := client.Quarantine(ctx, q)
		return page.Messages, page.NextPageToken, err
	})
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(messages)
	}
	header, rows := "ID ORG SOURCE FROM TO REASON SINCE UNTIL", [][]string{}
	if subjects {
		header += " SUBJECT"
	}
	for _, m := range messages {
		row := []string{string(m.ID), m.Organisation, cameBy(m), orDash(m.From), firstOf(m.Recipients), string(m.Reason), stamp(m.Kept), stamp(m.Expires)}
		if subjects {
			row = append(row, orDash(m.Subject))
		}
		rows = append(rows, row)
	}
	if err := sh.table(header, rows); err != nil {
		return err
	}
	sh.noteMore(more)
	return nil
}

// cameBy says by what a message came, in a table.
func cameBy(m api.Detained) string {
	switch {
	case m.Claimed:
		return "(claims it)"
	case m.Source == "":
		return "(" + m.Direction + ")"
	}
	return m.Source
}

// firstOf names the first, and how many more there are.
func firstOf(list []string) string {
	if len(list) < 2 {
		return orDash(strings.Join(list, ""))
	}
	return fmt.Sprintf("%s and %d more", list[0], len(list)-1)
}

func (sh *shell) quarantineShowCommand() *cobra.Command {
	var content bool
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one detained message: what was seen of it, and what a release would say",
		Long: `Show one detained message: its envelope, From, what was seen of it in words, the
names of its header fields, and what a release would say now. Secrets are never
shown; with --content also subject, text and the names of attachments, as safe text:
control characters are written out, HTML is reduced to its words, links are broken,
nothing is opened or loaded. That you saw the content is logged.`,
		Example: `  anechoic quarantine show agpqvvzcdqaapfqnqyjsd3sfxe
  anechoic quarantine show agpqvvzcdqaapfqnqyjsd3sfxe --content
  anechoic quarantine show agpqvvzcdqaapfqnqyjsd3sfxe --json`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.quarantineShow(c.Context(), mail.ID(args[0]), content)
		},
	}
	c.Flags().BoolVar(&content, "content", false, "also what the message says, as safe text")
	return c
}

func (sh *shell) quarantineShow(ctx context.Context, id mail.ID, content bool) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ask := client.Detained
	if content {
		ask = client.DetainedContent
	}
	m, err := ask(ctx, id)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(m)
	}
	sh.printf("message   %s, %s\nreason    %s\nfrom      %s\nsender    %s\nto        %s\nsize      %d octets\nsince     %s\nuntil     %s\n\n",
		m.ID, whoseHeld(m.Detained), m.Reason, orDash(m.From), sender(m.MailFrom), strings.Join(m.Recipients, ", "), m.Size, stamp(m.Kept), stamp(m.Expires))
	sh.printf("%s\n\nheader    %s\n\n", strings.Join(m.Evidence, "\n"), strings.Join(m.Header, ", "))
	sh.printContent(m)
	if m.Release.Done {
		sh.printf("Released now, it would be sent: it is proven, or permitted, by the registry of now.\n")
	} else {
		sh.printf("Released now, it would stay: %s: %s\n", m.Release.Reason, m.Release.Detail)
	}
	return nil
}

// whoseHeld says how a message came to be held for an organisation.
func whoseHeld(m api.Detained) string {
	switch {
	case m.Claimed:
		return "claims " + m.Organisation + ", which is still learning"
	case m.Source == "":
		return "came in for " + m.Organisation
	}
	return "handed over by source " + m.Source + " of " + m.Organisation
}

// printContent shows what a message says. Every line of it is indented, so that
// none can be taken for one of ours.
func (sh *shell) printContent(m api.DetainedMessage) {
	p := m.Content
	if p == nil {
		return
	}
	sh.printf("What follows was written by a stranger: answer nothing, follow nothing.\n\n")
	for _, f := range p.Fields {
		sh.printf("  | %s\n", f)
	}
	for _, t := range p.Texts {
		how := ""
		if t.Reduced {
			how = ", reduced from HTML"
		}
		sh.printf("\n%s%s\n", t.Place, how)
		for line := range strings.SplitSeq(t.Text, "\n") {
			sh.printf("  | %s\n", line)
		}
	}
	for _, a := range p.Attachments {
		found := ""
		if a.Found != "" {
			found = ", is " + a.Found
		}
		sh.printf("\n%s: attachment %q, %s%s, %d octets\n", a.Place, a.Name, orDash(a.Type), found, a.Size)
	}
	if p.Cut {
		sh.printf("\nThere is more than is shown; quarantine export gives all of it.\n")
	}
	sh.printf("\n")
}
