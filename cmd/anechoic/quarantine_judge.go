package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/mail"
)

func (sh *shell) judgeCommand(verb api.Verb, short, long string) *cobra.Command {
	var f heldFlags
	var yes bool
	c := &cobra.Command{
		Use:   string(verb) + " [ID…] [--org ID] [--reason REASON] [--since TIME] [--text WORDS] [--all]",
		Short: short,
		Long: long + `

Messages are named by id, or selected by flags (all must hold), or all with --all. A
selection, and every drop, asks first on a terminal; without a terminal a selection
needs --yes.`,
		Example: fmt.Sprintf(`  anechoic quarantine %[1]s agpqvvzcdqaapfqnqyjsd3sfxe
  anechoic quarantine %[1]s --org acme --dry-run
  anechoic quarantine %[1]s --from freemail.example --until 7d --yes
  anechoic quarantine %[1]s --all --yes`, verb),
		RunE: func(c *cobra.Command, args []string) error {
			chosen, err := f.read(time.Now())
			if err != nil {
				return err
			}
			for _, id := range args {
				chosen.IDs = append(chosen.IDs, mail.ID(id))
			}
			return sh.judge(c.Context(), verb, chosen, yes)
		},
	}
	f.define(c)
	byFlag(c, &f.By)
	c.Flags().BoolVar(&f.All, "all", false, "everything that is detained")
	c.Flags().BoolVar(&f.DryRun, "dry-run", false, "only say what would be done")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func byFlag(c *cobra.Command, by *string) {
	c.Flags().StringVar(by, "by", "", "who you are, a `name`, if not the user of this machine; the ledger has both")
}

// orMe is a name, or that of the user.
func orMe(by string) string {
	if by == "" {
		return whoAsks()
	}
	return by
}

func (sh *shell) judge(ctx context.Context, verb api.Verb, chosen api.DetainedSelection, yes bool) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	chosen.By = orMe(chosen.By)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	asks := isTerminal(sh.in) && verb == api.Drop || len(chosen.IDs) == 0
	if asks && !yes && !chosen.DryRun {
		rehearsal := chosen
		rehearsal.DryRun = true
		w := sh.work("messages")
		would, err := client.JudgeTelling(ctx, verb, rehearsal, w.judged())
		w.end()
		if err != nil {
			return err
		}
		if err := sh.confirm(judgedSentence(would) + "."); err != nil {
			return err
		}
	}
	w := sh.work("messages")
	told, err := client.JudgeTelling(ctx, verb, chosen, w.judged())
	w.end()
	if err != nil {
		if told.Done > 0 {
			sh.notef("not all of it was done; before the error: %s\n", judgedSentence(told))
		}
		return err
	}
	return sh.printJudged(told)
}

// judged gives a function that tells how far long work came.
func (w *work) judged() func(reached, of int) {
	return func(reached, of int) { w.reached(int64(reached), int64(of)) }
}

// printJudged says what became of each message that stays, and of how many it is
// done. What stays, or waits for a second person, is exit code 3.
func (sh *shell) printJudged(j api.Judgement) error {
	if sh.asJSON {
		if err := sh.printJSON(j); err != nil {
			return err
		}
	} else {
		for _, m := range j.Messages {
			if !m.Done {
				sh.printf("%s stays: %s\n", m.ID, strings.TrimPrefix(string(m.Reason)+": "+m.Detail, ": "))
			}
		}
		sh.printf("%s\n", judgedSentence(j))
	}
	if j.Approval != nil {
		sh.notef("nothing was released yet: another person has to say, before %s:\n  anechoic quarantine approve %s\n", stamp(j.Approval.Expires), j.Approval.ID)
	}
	if j.Stay > 0 || j.Approval != nil {
		return errFindings
	}
	return nil
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
	if j.Approval != nil {
		sentence += fmt.Sprintf("; waiting for a second person: %d", j.Waiting)
	}
	return sentence
}

func (sh *shell) quarantineExportCommand() *cobra.Command {
	var output, by string
	c := &cobra.Command{
		Use:   "export ID",
		Short: "Take a copy of a detained message, with a warning in its header",
		Long: `Write a detained message as an .eml file, without evidence and secrets, with a header
field that warns. It is what a stranger sent: open it nowhere where it can do harm.
The file is made for you alone (0600) and must not be there yet. Without --output it
goes to standard output, but never to a terminal. The ledger has who took it.`,
		Example: `  anechoic quarantine export agpqvvzcdqaapfqnqyjsd3sfxe --output held.eml
  anechoic quarantine export agpqvvzcdqaapfqnqyjsd3sfxe | clamscan -`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.quarantineExport(c.Context(), mail.ID(args[0]), output, orMe(by))
		},
	}
	c.Flags().StringVar(&output, "output", "", "a new `file`")
	byFlag(c, &by)
	return c
}

func (sh *shell) quarantineExport(ctx context.Context, id mail.ID, output, by string) (err error) {
	if output == "" && isTerminal(sh.out) {
		return usagef("a stranger's message can act on a terminal: say --output FILE")
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	message, err := client.Copy(ctx, id, by)
	if err != nil {
		return err
	}
	defer message.Close()
	to := sh.out
	if output != "" {
		file, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("export %s: %w", id, err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		to = file
	}
	if _, err := io.Copy(to, message); err != nil {
		return fmt.Errorf("export %s: it is not whole: %w", id, err)
	}
	sh.notef("this is a stranger's message: nobody proved who wrote it\n")
	return nil
}

func (sh *shell) approvalsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "approvals",
		Short: "List the releases that wait for a second person",
		Long:  "List the releases that wait for a second person: who asked, for how many messages, selected how, and until when.",
		Example: `  anechoic quarantine approvals
  anechoic quarantine approvals --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.approvals(c.Context()) },
	}
}

func (sh *shell) approvals(ctx context.Context) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := client.Approvals(ctx)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(list)
	}
	var rows [][]string
	for _, p := range list.Approvals {
		rows = append(rows, []string{string(p.ID), p.By.Told, count(len(p.Messages), "message", "messages"), p.What, stamp(p.Asked), stamp(p.Expires)})
	}
	return sh.table("ID BY MESSAGES WHAT ASKED UNTIL", rows)
}

func (sh *shell) approvalCommand(verb api.Verb, short, long string) *cobra.Command {
	var by string
	c := &cobra.Command{
		Use:     string(verb) + " ID",
		Short:   short,
		Long:    long,
		Example: fmt.Sprintf("  anechoic quarantine approvals\n  anechoic quarantine %s agpqvvzcdqaapfqnqyjsd3sfxe", verb),
		Args:    arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.approval(c.Context(), verb, mail.ID(args[0]), orMe(by))
		},
	}
	byFlag(c, &by)
	return c
}

func (sh *shell) approval(ctx context.Context, verb api.Verb, id mail.ID, by string) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	done, err := client.SteerApproval(ctx, verb, id, api.ApprovalWish{By: by})
	switch {
	case err != nil:
		return err
	case done.Released != nil:
		return sh.printJudged(*done.Released)
	case sh.asJSON:
		return sh.printJSON(done)
	}
	sh.printf("refused: %s stay held\n", count(len(done.Approval.Messages), "message", "messages"))
	return nil
}

func (sh *shell) digestCommand() *cobra.Command {
	var wish api.DigestWish
	c := &cobra.Command{
		Use:   "digest ORG",
		Short: "Send an organisation's digest of held mail now, or show it",
		Long: `Mail the organisation's security_contact what is newly held, as the relay does by
itself each morning. With --dry-run it is only shown. Each message is told of once.`,
		Example: `  anechoic quarantine digest acme --dry-run
  anechoic quarantine digest acme`,
		Args: arguments("ORG"),
		RunE: func(c *cobra.Command, args []string) error {
			wish.Org = args[0]
			return sh.digest(c.Context(), wish)
		},
	}
	c.Flags().BoolVar(&wish.DryRun, "dry-run", false, "only show it")
	return c
}

func (sh *shell) digest(ctx context.Context, wish api.DigestWish) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	sent, err := client.Digest(ctx, wish)
	switch {
	case err != nil:
		return err
	case sh.asJSON:
		return sh.printJSON(sent)
	case wish.DryRun:
		sh.printf("to %s:\n\n%s", sent.To, strings.ReplaceAll(sent.Text, "\r\n", "\n"))
		return nil
	}
	sh.printf("queued as %s for %s\n", sent.ID, sent.To)
	return nil
}
