package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"anechoic/lab"
)

func (sh *shell) labCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "Try the relay on this machine, with an internet on loopback",
		Long: `Try the relay without a domain and without sending anything to anybody: an internet
on loopback whose DNS is a file, a mailbox provider that judges what arrives, and a
stranger who sends spoofs.`,
		Example: `  anechoic lab internet ~/internet
  anechoic lab send --server 127.0.0.1:2587 --user billing@acme --from billing@acme.example
  anechoic lab send --server 127.0.0.1:2525 --rogue --from ceo@acme.example`,
	}
	c.AddCommand(sh.labInternetCommand(), sh.labSendCommand(), sh.labGenerateCommand(), sh.labEvaluateCommand())
	return sh.group(c)
}

func (sh *shell) labInternetCommand() *cobra.Command {
	var o lab.TryoutOptions
	c := &cobra.Command{
		Use:   "internet DIR",
		Short: "Be the internet: DNS from a file, and a mailbox provider",
		Long: `Be the internet of this machine until it is interrupted: a name server whose records
stand in DIR/zone.txt and are read again whenever that file is saved, and the mail
server of mailbox.example, which takes mail for anybody there, judges it by SPF, DKIM
and DMARC as large providers do, and keeps it in DIR/mailbox.

It prints the lines that a relay needs to use it.`,
		Example: `  anechoic lab internet ~/internet
  anechoic lab internet ~/internet --dns 127.0.0.1:5353 --mailbox 127.0.0.1:2600`,
		Args: arguments("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			o.Dir = args[0]
			return sh.labInternet(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.DNS, "dns", "127.0.0.1:5301", "`address` and port of the name server")
	c.Flags().StringVar(&o.Mailbox, "mailbox", "127.0.0.1:2530", "`address` and port of the mail server")
	return c
}

// tryoutLines are what a relay needs to use the internet of the lab.
type tryoutLines struct {
	DNS     string `json:"dns"`
	Mailbox string `json:"mailbox"`
	Zone    string `json:"zone"`
	TOML    string `json:"toml"`
}

func (sh *shell) labInternet(ctx context.Context, o lab.TryoutOptions) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	o.Tell = func(line string) { sh.notef("%s\n", line) }
	t, err := lab.OpenTryout(o)
	if err != nil {
		return err
	}
	lines := tryoutLines{DNS: t.DNS(), Mailbox: t.Mailbox().String(), Zone: o.Dir + "/zone.txt",
		TOML: fmt.Sprintf("[dns]\nservers = [%q]\n\n[delivery]\nport = %d\n\n[providers.microsoft365]\nranges = [%q]\n", t.DNS(), t.Mailbox().Port(), lab.ProviderRange)}
	if sh.asJSON {
		err = sh.printJSON(lines)
	} else {
		sh.printf("%s\n", lines.TOML)
		sh.notef("Put these lines into relay.toml. Records go into %s; what arrives at mailbox.example is told here. End with Ctrl-C.\n", lines.Zone)
	}
	if err == nil {
		t.Run(ctx)
	}
	if failed := t.Close(); err == nil {
		err = failed
	}
	return err
}

func (sh *shell) labSendCommand() *cobra.Command {
	var h lab.Handed
	var secretFile string
	c := &cobra.Command{
		Use:   "send",
		Short: "Hand one message to a relay, as yourself or as a spoofer",
		Long: `Hand one message to a relay and print its answer. With --user it signs in inside TLS;
the password comes from --secret-file, a prompt, or standard input. With --rogue it
does what the campaign of 2024 did: the message comes from an address of the lab's
Microsoft 365, stamped with the tenant of a stranger.

Exits with 0 if the relay took it, with 10 if it did not.`,
		Example: `  anechoic lab send --server 127.0.0.1:2587 --user billing@acme --secret-file password.txt --from billing@acme.example
  anechoic lab send --server 127.0.0.1:2525 --from ceo@acme.example
  anechoic lab send --server 127.0.0.1:2525 --rogue --from ceo@acme.example`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if h.From == "" {
				return usagef("%s needs --from ADDRESS", c.CommandPath())
			}
			if h.User != "" {
				if h.Secret, err = sh.secretOf(secretFile); err != nil {
					return err
				}
			}
			return sh.labSend(c.Context(), h)
		},
	}
	f := c.Flags()
	f.StringVar(&h.Server, "server", "127.0.0.1:2525", "`address` and port of the relay")
	f.StringVar(&h.From, "from", "", "`address` in From and MAIL FROM")
	f.StringVar(&h.To, "to", "you@mailbox.example", "`address` of the recipient")
	f.StringVar(&h.Subject, "subject", "A try", "`text` of the subject")
	f.StringVar(&h.User, "user", "", "sign in as this `user`")
	f.StringVar(&secretFile, "secret-file", "", "take the password from this `file`, - for standard input")
	f.BoolVar(&h.Rogue, "rogue", false, "send through a stranger's tenant of the lab's Microsoft 365")
	return c
}

func (sh *shell) labSend(ctx context.Context, h lab.Handed) error {
	answer, err := lab.Send(ctx, h)
	if err != nil {
		return err
	}
	if sh.asJSON {
		err = sh.printJSON(map[string]any{"code": answer.Code, "text": answer.Text, "taken": answer.Accepted()})
	} else {
		sh.printf("%d %s\n", answer.Code, strings.TrimSpace(answer.Text))
	}
	if err == nil && !answer.Accepted() {
		err = errWouldRefuse
	}
	return err
}
