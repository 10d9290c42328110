package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/mail"
)

func (sh *shell) quarantineCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "quarantine",
		Short: "Judge the mail that nobody proved",
		Long: `Judge detained mail: an organisation's source handed it over, but nothing proves
that the organisation wrote it, and the source says forwarded = "hold". It is
never sent as it is. A release judges it again with the registry of now; what is
still not proven stays. After 30 days it is dropped.`,
		Example: `  anechoic quarantine list --org acme
  anechoic quarantine show agpqvvzcdqaapfqnqyjsd3sfxe
  anechoic quarantine release --org acme --dry-run`,
	}
	c.AddCommand(
		sh.quarantineListCommand(),
		sh.quarantineShowCommand(),
		sh.judgeCommand(api.Release, "Judge messages again, and send what is proven now",
			"Attribution and policy are asked again, about the evidence of then with the registry of now. What they prove is signed and sent; the rest stays, and is told with its reason (exit code 3)."),
		sh.judgeCommand(api.Drop, "Give messages up: never sent, and nobody is told",
			"Messages are deleted. Nobody is told, because nobody is proven to have sent them. It cannot be undone."),
	)
	return sh.group(c)
}

func detainedFlags(c *cobra.Command, chosen *api.DetainedSelection) {
	c.Flags().StringVar(&chosen.Org, "org", "", "messages of this organisation's `id`")
	c.Flags().StringVar((*string)(&chosen.Reason), "reason", "", "messages detained for this `reason`, as FORWARDED_MAIL")
}

func (sh *shell) quarantineListCommand() *cobra.Command {
	var chosen api.DetainedSelection
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List detained messages, oldest first",
		Long:  "List detained messages, oldest first: whose source they came from, as whom, why they wait and until when.",
		Example: `  anechoic quarantine list
  anechoic quarantine list --org acme --reason FORWARDED_MAIL --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.quarantineList(c.Context(), chosen, limit) },
	}
	detainedFlags(c, &chosen)
	c.Flags().IntVar(&limit, "limit", 100, "at most so `many` messages; 0 for all")
	return c
}

func (sh *shell) quarantineList(ctx context.Context, chosen api.DetainedSelection, limit int) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	query := url.Values{"org": {chosen.Org}, "reason": {string(chosen.Reason)}}
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
	var rows [][]string
	for _, m := range messages {
		to := m.Recipients[0]
		if n := len(m.Recipients); n > 1 {
			to = fmt.Sprintf("%s and %d more", to, n-1)
		}
		rows = append(rows, []string{string(m.ID), m.Organisation, m.Source, orDash(m.From), to, string(m.Reason), stamp(m.Kept), stamp(m.Expires)})
	}
	if err := sh.table("ID ORG SOURCE FROM TO REASON SINCE UNTIL", rows); err != nil {
		return err
	}
	sh.noteMore(more)
	return nil
}

func (sh *shell) quarantineShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one detained message: what was seen of it, and what a release would say",
		Long: `Show one detained message: its envelope, From, what was seen of it in words, the
names of its header fields, and what a release would say now. Subject, body and
secrets are never shown.`,
		Example: `  anechoic quarantine show agpqvvzcdqaapfqnqyjsd3sfxe
  anechoic quarantine show agpqvvzcdqaapfqnqyjsd3sfxe --json`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error { return sh.quarantineShow(c.Context(), mail.ID(args[0])) },
	}
}

func (sh *shell) quarantineShow(ctx context.Context, id mail.ID) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := client.Detained(ctx, id)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(m)
	}
	sh.printf("message   %s, handed over by source %s of %s\nreason    %s\nfrom      %s\nsender    %s\nto        %s\nsize      %d octets\nsince     %s\nuntil     %s\n\n",
		m.ID, m.Source, m.Organisation, m.Reason, orDash(m.From), sender(m.MailFrom), strings.Join(m.Recipients, ", "), m.Size, stamp(m.Kept), stamp(m.Expires))
	sh.printf("%s\n\nheader    %s\n\n", strings.Join(m.Evidence, "\n"), strings.Join(m.Header, ", "))
	if m.Release.Done {
		sh.printf("Released now, it would be signed and sent: it is proven by the registry of now.\n")
	} else {
		sh.printf("Released now, it would stay: %s: %s\n", m.Release.Reason, m.Release.Detail)
	}
	return nil
}

func (sh *shell) judgeCommand(verb api.Verb, short, long string) *cobra.Command {
	var chosen api.DetainedSelection
	var yes bool
	c := &cobra.Command{
		Use:   string(verb) + " [ID…] [--org ID] [--reason REASON] [--all]",
		Short: short,
		Long: long + `

Messages are named by id, or selected by flags, or all with --all. A selection,
and every drop, asks first on a terminal; without a terminal a selection needs
--yes.`,
		Example: fmt.Sprintf(`  anechoic quarantine %[1]s agpqvvzcdqaapfqnqyjsd3sfxe
  anechoic quarantine %[1]s --org acme --dry-run
  anechoic quarantine %[1]s --all --yes`, verb),
		RunE: func(c *cobra.Command, args []string) error {
			for _, id := range args {
				chosen.IDs = append(chosen.IDs, mail.ID(id))
			}
			return sh.judge(c.Context(), verb, chosen, yes)
		},
	}
	detainedFlags(c, &chosen)
	c.Flags().BoolVar(&chosen.All, "all", false, "everything that is detained")
	c.Flags().BoolVar(&chosen.DryRun, "dry-run", false, "only say what would be done")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (sh *shell) judge(ctx context.Context, verb api.Verb, chosen api.DetainedSelection, yes bool) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	asks := isTerminal(sh.in) && verb == api.Drop || len(chosen.IDs) == 0
	if asks && !yes && !chosen.DryRun {
		rehearsal := chosen
		rehearsal.DryRun = true
		would, err := client.Judge(ctx, verb, rehearsal)
		if err != nil {
			return err
		}
		if err := sh.confirm(judgedSentence(would) + "."); err != nil {
			return err
		}
	}
	told, err := client.Judge(ctx, verb, chosen)
	if err != nil {
		return err
	}
	if sh.asJSON {
		err = sh.printJSON(told)
	} else {
		sh.printJudged(told)
	}
	if err == nil && told.Stay > 0 {
		return errFindings
	}
	return err
}

func (sh *shell) printJudged(j api.Judgement) {
	for _, m := range j.Messages {
		if !m.Done {
			sh.printf("%s stays: %s: %s\n", m.ID, m.Reason, m.Detail)
		}
	}
	sh.printf("%s\n", judgedSentence(j))
}

func judgedSentence(j api.Judgement) string {
	sentence := pastTense[j.Verb] + ": "
	if j.DryRun {
		sentence = "would be " + sentence
	}
	sentence += count(j.Done, "message", "messages")
	if j.Stay > 0 {
		sentence += fmt.Sprintf("; not proven: %d", j.Stay)
	}
	return sentence
}
