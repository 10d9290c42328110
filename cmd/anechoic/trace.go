package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/dns"
)

// traceFlags is what is known of a message beside its file.
type traceFlags struct {
	peer, user, mailFrom string
	rcpt                 []string
	clear                bool
}

func (sh *shell) traceCommand() *cobra.Command {
	var f traceFlags
	c := &cobra.Command{
		Use:   "trace {FILE|-}",
		Short: "Read a stored message: was it ours, which way did it take, would it be taken today?",
		Long: `Read a message that was saved with its whole header (.eml), or standard input. It
says whether this relay sent it, lists the servers it went through and what signed it,
and asks attribution and policy whether it would be taken today as an organisation's
own, with the evidence that the file shows.

Whoever made a file may have written its Received fields too. Each statement has a
mark: claimed (it stands in the file), seen (the ledger of the running relay says so
too), proven (a signature over it verifies), disproven (one does not). A file proves
nothing about who brought it: --peer, --user, --mail-from and --rcpt say what is known
beside it. What this relay sent bears no evidence any more, because it takes that off.

No relay needs to run; where one does, its ledger is asked. Nothing is sent or kept.

Exits with 0 if it would be taken, with 10 if it would be refused or put off.`,
		Example: `  anechoic trace suspicious.eml
  anechoic trace - < suspicious.eml
  anechoic trace suspicious.eml --peer 40.107.22.52 --mail-from ceo@acme.example
  anechoic trace suspicious.eml --json`,
		Args: arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error { return sh.trace(c.Context(), args[0], f) },
	}
	c.Flags().StringVar(&f.peer, "peer", "", "the `address` that brought it")
	c.Flags().StringVar(&f.user, "user", "", "the user `name` its client logged in with")
	c.Flags().StringVar(&f.mailFrom, "mail-from", "", "its envelope sender, an `address` or <>")
	c.Flags().StringArrayVar(&f.rcpt, "rcpt", nil, "a recipient's `address`")
	c.Flags().BoolVar(&f.clear, "no-tls", false, "it came without TLS")
	return c
}

// maxTrace bounds a stored message: the largest that is taken by default.
const maxTrace = 50 << 20

func (sh *shell) trace(ctx context.Context, name string, f traceFlags) error {
	text, err := sh.readMessage(name)
	if err != nil {
		return err
	}
	q, err := f.question(text)
	if err != nil {
		return err
	}
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	cfg, dir, problems, _ := config.Validate(file)
	if len(problems) > 0 {
		return sh.invalid(file, problems)
	}
	resolver, err := dns.New(dns.Options{Servers: cfg.DNS.Servers, Timeout: cfg.DNS.Timeout})
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	defer resolver.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client := api.NewClient(cfg.DataDir)
	q.Ledger = func(ctx context.Context, id mail.ID) ([]ledger.Fact, error) {
		told, err := client.Message(ctx, id)
		return told.Facts, err
	}
	t, err := app.TraceMessage(ctx, cfg, dir, resolver, q, time.Now().UTC())
	if err != nil {
		return fmt.Errorf("trace: %s: %w", name, err)
	}
	if sh.asJSON {
		err = sh.printJSON(t)
	} else {
		sh.printTrace(t)
	}
	if err == nil && !t.Verdict.WouldPass {
		return errWouldRefuse
	}
	return err
}

// readMessage reads a file, or standard input.
func (sh *shell) readMessage(name string) ([]byte, error) {
	from := sh.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("trace: %w", err)
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxTrace+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("trace: %w", err)
	case len(text) > maxTrace:
		return nil, fmt.Errorf("trace: %s is larger than %d MiB, as no message is: name the right file", name, maxTrace>>20)
	}
	return text, nil
}

func (f *traceFlags) question(text []byte) (q app.TraceQuestion, err error) {
	q = app.TraceQuestion{Text: text, Clear: f.clear, Username: f.user, MailFrom: f.mailFrom}
	if f.peer != "" {
		if q.Peer, err = netip.ParseAddr(f.peer); err != nil {
			return q, usagef("--peer %q is no IP address", f.peer)
		}
	}
	for _, r := range f.rcpt {
		a, err := mail.ParseAddress(r)
		if err != nil {
			return q, usagef("--rcpt: %v", err)
		}
		q.Rcpt = append(q.Rcpt, a)
	}
	if f.mailFrom != "" && f.mailFrom != "<>" {
		if _, err := mail.ParseAddress(strings.Trim(f.mailFrom, "<>")); err != nil {
			return q, usagef("--mail-from: %v", err)
		}
	}
	return q, nil
}

func (sh *shell) printTrace(t app.Trace) {
	v := t.Verdict
	switch {
	case v.WouldPass:
		sentence := fmt.Sprintf("Would be taken: it is proven to be %s's, by source %s with %s.", v.Organisation, v.Source, strings.Join(v.Proofs, " and "))
		fmt.Fprintf(sh.out, "%s\n", sh.paint(sh.out, good, sentence))
	case v.Temporary:
		fmt.Fprintf(sh.out, "%s\n", sh.paint(sh.out, doubt, "Would be put off: "+traceWhy(v)))
	default:
		fmt.Fprintf(sh.out, "%s\n", sh.paint(sh.out, danger, "Would be refused: "+traceWhy(v)))
	}
	ours := "Not ours"
	if t.Ours != "" {
		ours = "Ours (" + string(t.Ours) + ")"
	}
	sh.printf("%s: %s.\n", ours, t.OursWhy)
	sh.traceTables(t)
	for _, list := range []struct {
		title string
		lines []string
	}{{"The file shows", t.Evidence}, {"What a file cannot show was taken for so", t.Assumed}} {
		if len(list.lines) > 0 {
			sh.printf("\n%s:\n  %s\n", list.title, strings.Join(list.lines, "\n  "))
		}
	}
	if v.Reason != "" {
		sh.notef("See: anechoic explain %s\n", v.Reason)
	}
	for _, h := range t.Path {
		if h.ID != "" {
			sh.notef("See: anechoic explain %s\n", h.ID)
		}
	}
}

// traceWhy is why a message would not be taken.
func traceWhy(v app.TraceVerdict) string {
	why := v.Reply
	if v.Detail != "" {
		why += " (" + v.Detail + ")"
	}
	return why + " [" + string(v.Reason) + "]"
}

func (sh *shell) traceTables(t app.Trace) {
	var rows [][]string
	for i, h := range t.Path {
		from := "-"
		if h.From.IsValid() {
			from = h.From.String()
		}
		rows = append(rows, []string{fmt.Sprint(len(t.Path) - i), orDash(h.By), from, string(h.Standing), orDash(string(h.ID))})
	}
	if len(rows) > 0 {
		sh.printf("\n")
		_ = sh.table("HOP BY FROM IS OUR_ID", rows) // an error of standard output shows at the next line too
	}
	rows = nil
	for _, s := range t.Signatures {
		rows = append(rows, []string{s.Kind, orDash(s.Domain), orDash(s.Selector), string(s.Standing), orDash(s.Ours), s.Detail})
	}
	if len(rows) > 0 {
		sh.printf("\n")
		_ = sh.table("SIGNATURE DOMAIN SELECTOR IS OURS DETAIL", rows)
	}
}
