package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// steering is the flags of a command that changes the queue.
type steering struct {
	selection
	yes bool
}

func (sh *shell) steerCommand(verb api.Verb, short, long string) *cobra.Command {
	var s steering
	via, why := "", ""
	if verb == api.Reroute {
		via = " --via mx2.example.org:25"
	}
	if verb == api.Bounce {
		why = ` --why "the address is gone"`
	}
	c := &cobra.Command{
		Use:   string(verb) + " [ID…] [--org ID] [--domain DOMAIN] [--state STATE] [--all]",
		Short: short,
		Long: long + `

Messages are named by id, or selected by flags, or all with --all. Where more than
one message can be meant, and at every bounce and drop, it asks first on a terminal;
without a terminal what is selected, or several ids, need --yes. --dry-run shows how
many are meant, and the first of them.`,
		Example: fmt.Sprintf(`  anechoic queue %[1]s 2al274bqphlahvjvb252eqy6ao%[2]s%[3]s
  anechoic queue %[1]s --domain example.org%[2]s --dry-run
  anechoic queue %[1]s --org acme --older-than 2h%[2]s --yes`, verb, via, why),
		RunE: func(c *cobra.Command, args []string) error {
			for _, id := range args {
				s.IDs = append(s.IDs, mail.ID(id))
			}
			return sh.steer(c.Context(), verb, s)
		},
	}
	s.define(c)
	c.Flags().BoolVar(&s.All, "all", false, "everything in custody")
	c.Flags().BoolVar(&s.DryRun, "dry-run", false, "only say what would be done, and show the first messages")
	c.Flags().BoolVar(&s.yes, "yes", false, "do not ask")
	if verb == api.Reroute {
		c.Flags().StringVar(&s.Via, "via", "", "the next hop, `host:port`; dns for where the domain leads")
	}
	if verb == api.Reroute || verb == api.Bounce {
		c.Flags().StringVar(&s.Why, "why", "", "why, in a few `words`, for the ledger; senders are told it of a bounce")
	}
	return c
}

func (sh *shell) steer(ctx context.Context, verb api.Verb, s steering) error {
	chosen, err := s.read(time.Now())
	if err != nil {
		return err
	}
	if verb == api.Reroute && chosen.Via == "" {
		return usagef("reroute needs --via host:port, or --via dns for where the domain leads")
	}
	chosen.By = whoAsks()
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	final := verb == api.Drop || verb == api.Bounce
	asks := len(chosen.IDs) != 1 || final && isTerminal(sh.in)
	if asks && !s.yes && !chosen.DryRun {
		if err := sh.askFirst(ctx, client, verb, chosen); err != nil {
			return err
		}
	}
	w := sh.work("messages")
	done, err := client.Steer(ctx, verb, chosen, w.steered())
	w.end()
	if err != nil {
		if done.Messages > 0 {
			sh.notef("not all of it was done; before the error: %s\n", steeredSentence(done))
		}
		return err
	}
	return sh.printSteered(done)
}

// printSteered says what was done, or would be.
func (sh *shell) printSteered(done api.Steered) error {
	if sh.asJSON {
		return sh.printJSON(done)
	}
	sh.printf("%s\n", steeredSentence(done))
	defer sh.noteSiteUnknown(done.SiteUnknown)
	if len(done.Sample) == 0 {
		return nil
	}
	if err := sh.table("ID ORG FROM RECIPIENT STATE DUE ATTEMPTS LAST", queueRows(done.Sample)); err != nil {
		return err
	}
	if more := done.Messages - len(done.Sample); more > 0 {
		sh.notef("and %s\n", count(more, "more message", "more messages"))
	}
	return nil
}

// steered gives a function that tells how far a command came.
func (w *work) steered() func(api.Steered) {
	return func(so api.Steered) { w.reached(int64(so.Messages), 0) }
}

// askFirst tells what would be done and has a person agree.
func (sh *shell) askFirst(ctx context.Context, client *api.Client, verb api.Verb, chosen api.Selection) error {
	chosen.DryRun = true
	would, err := client.Steer(ctx, verb, chosen, nil)
	if err != nil {
		return err
	}
	sh.noteSiteUnknown(would.SiteUnknown)
	return sh.confirm(steeredSentence(would) + ".")
}

// pastTense is what was done.
var pastTense = map[api.Verb]string{
	api.Retry: "due now", api.Hold: "held", api.Release: "released", api.Drop: "dropped", api.Reroute: "rerouted", api.Bounce: "bounced",
}

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

// whoAsks is the person at this terminal, for the ledger: a note, not a proof.
func whoAsks() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "user " + strconv.Itoa(os.Getuid())
}

// scopes are the words for what can be suspended.
var scopes = map[string]custody.Scope{
	"organisation": custody.ScopeOrganisation, "org": custody.ScopeOrganisation, "source": custody.ScopeSource,
	"domain": custody.ScopeDomain, "site": custody.ScopeSite,
}

func (sh *shell) suspendCommand(verb api.Verb) *cobra.Command {
	var wish api.SuspensionWish
	short, long := "Stop sending for an organisation, source, domain or site",
		`Mail of an organisation (ID) or source (ORG/ID), or for a recipient domain or site
(NAME) is attempted no more until it is resumed. It goes on to be accepted, and does
not expire meanwhile. What is in flight goes on.`
	example := `  anechoic queue suspend site mailbox.example --reason "they move their servers"
  anechoic queue suspend organisation acme --dry-run
  anechoic queue suspend source acme/acme-billing`
	if verb == api.Resume {
		short, long = "Send again for what was suspended", `What was suspended is attempted again at once. Messages whose time is over get one
more attempt.`
		example = `  anechoic queue resume site mailbox.example
  anechoic queue resume domain example.org --reason "they are back"`
	}
	c := &cobra.Command{
		Use: string(verb) + " {organisation|source|domain|site} NAME", Short: short, Long: long, Example: example, Args: arguments("SCOPE NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if wish.Scope = scopes[args[0]]; wish.Scope == "" {
				return usagef("%q is nothing that can be suspended: organisation, source, domain or site", args[0])
			}
			wish.Name, wish.By = args[1], whoAsks()
			return sh.changeSuspensions(c.Context(), verb, wish)
		},
	}
	c.Flags().StringVar(&wish.Reason, "reason", "", "why, in a few `words`")
	c.Flags().BoolVar(&wish.DryRun, "dry-run", false, "only say what would be done")
	return c
}

// changeSuspensions does it and says how much it is about.
func (sh *shell) changeSuspensions(ctx context.Context, verb api.Verb, wish api.SuspensionWish) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done, err := client.ChangeSuspensions(ctx, verb, wish)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(done)
	}
	sentence := map[api.Verb]string{api.Suspend: "suspended", api.Resume: "resumed"}[verb]
	if wish.DryRun {
		sentence = "would be " + sentence
	}
	sh.printf("%s: %s %s, with %s queued now\n", sentence, done.Scope, done.Name, count(done.Recipients, "recipient", "recipients"))
	if u := done.SiteUnknown; u != nil {
		sh.notef("%s to %s may belong to it too: that is found out before anything is sent to them\n",
			count(u.Recipients, "more recipient", "more recipients"), count(u.Domains, "domain", "domains"))
	}
	return nil
}

func (sh *shell) suspensionsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "suspensions",
		Short: "List what is suspended: since when, by whom and why",
		Long:  "List what is suspended: since when, by whom, why, and how many recipients that keeps back now.",
		Example: `  anechoic queue suspensions
  anechoic queue suspensions --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.listSuspensions(c.Context()) },
	}
}

func (sh *shell) listSuspensions(ctx context.Context) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := client.Suspensions(ctx)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(list)
	}
	var rows [][]string
	for _, s := range list {
		rows = append(rows, []string{string(s.Scope), s.Name, stamp(s.At), s.By, strconv.Itoa(s.Recipients), orDash(s.Reason)})
	}
	return sh.table("SCOPE NAME SINCE BY QUEUED REASON", rows)
}
