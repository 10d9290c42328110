package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/jsonobject"
)

func (sh *shell) logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "Search the ledger: what happened to which mail, and why",
		Long: `Search the ledger of the relay: every message accepted, refused, delivered,
deferred, bounced or held, with the reason and what proved or contradicted it.`,
		Example: `  anechoic log search --address bob@example.org --since 24h
  anechoic log show 2al274bqphlahvjvb252eqy6ao
  anechoic log tail --event refused
  anechoic log verify`,
	}
	c.AddCommand(sh.logSearchCommand(), sh.logShowCommand(), sh.logTailCommand(), sh.logExportCommand(), sh.logSavedCommand(), sh.logVerifyCommand())
	return sh.group(c)
}

// logFlags is what a search selects by.
type logFlags struct {
	id, org, event, reason, domain, address, since, until string
	bound, saved                                          string
	limit                                                 int
	ledger                                                bool // not by the index
}

func (f *logFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.id, "id", "", "facts of this message or transaction `id`")
	c.Flags().StringVar(&f.org, "org", "", "proven organisation, or the one a refused message claimed")
	c.Flags().StringVar(&f.event, "event", "", "accepted, refused, leased, delivered, deferred, bounced, held, released, dropped, …")
	c.Flags().StringVar(&f.reason, "reason", "", "for example TENANT_NOT_AUTHORIZED")
	c.Flags().StringVar(&f.domain, "domain", "", "`domain` of a sender or recipient")
	c.Flags().StringVar(&f.address, "address", "", "`address` of a sender or recipient")
}

// query makes the request of the flags.
func (f *logFlags) query(now time.Time) (url.Values, error) {
	since, err := moment("--since", f.since, now)
	if err != nil {
		return nil, err
	}
	until, err := moment("--until", f.until, now)
	if err != nil {
		return nil, err
	}
	return url.Values{
		"id": {f.id}, "org": {f.org}, "event": {f.event}, "reason": {f.reason}, "domain": {f.domain}, "address": {f.address},
		"since": {since}, "until": {until},
	}, nil
}

// maxDays is a century: before any ledger.
const maxDays = 36525

// moment reads a time as people write it: 24h or 7d ago, a day, or RFC 3339.
func moment(flag, text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n <= maxDays {
			return now.AddDate(0, 0, -n).UTC().Format(time.RFC3339Nano), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago).UTC().Format(time.RFC3339Nano), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC().Format(time.RFC3339Nano), nil
		}
	}
	return "", usagef("%s %q is no time: write 24h, 7d, 2026-11-22 or 2026-11-22T09:00:00Z", flag, text)
}

func (sh *shell) logSearchCommand() *cobra.Command {
	var f logFlags
	c := &cobra.Command{
		Use:   "search [QUERY...]",
		Short: "List facts that match, oldest first",
		Long: `List the facts that match the query and every flag, oldest first. With --json each
is one JSON object a line, with all its fields. With --limit only the latest so many.
What the answer covers is said on standard error.

` + queryHelp(),
		Example: `  anechoic log search --event refused --since 1h
  anechoic log search --org acme --reason TENANT_NOT_AUTHORIZED --json
  anechoic log search --domain example.org --since 2026-11-01 --until 2026-11-08
  anechoic log search to:bob@example.org event:bounced since:7d "user unknown"`,
		RunE: func(c *cobra.Command, args []string) error { return sh.logSearch(c.Context(), f, asQuery(args)) },
	}
	f.defineSearch(c)
	c.Flags().BoolVar(&f.ledger, "ledger", false, "read the ledger itself instead of the index: slow, and everything as it is there")
	c.Flags().IntVar(&f.limit, "limit", 0, "only the latest so `many`; 0 for all")
	return c
}

func (sh *shell) logSearch(ctx context.Context, f logFlags, text string) error {
	query, err := f.search(text, time.Now())
	if err != nil {
		return err
	}
	if f.limit < 0 || f.limit > api.MaxPage {
		return usagef("--limit %d: 0 for all, or up to %d", f.limit, api.MaxPage)
	}
	plain := text == "" && f.bound == "" && f.saved == ""
	if f.ledger && !plain {
		return usagef("--ledger takes flags, but no query, --bound or --saved")
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	if f.ledger {
		return sh.searchLedger(ctx, client, f)
	}
	if err = sh.searchIndex(ctx, client, query, f.limit); plain && isNoIndex(err) {
		return sh.searchLedger(ctx, client, f)
	}
	return err
}

// printFact writes one fact on one line.
func (sh *shell) printFact(f ledger.Fact) error {
	if sh.asJSON {
		text, err := json.Marshal(f)
		if err == nil {
			_, err = sh.out.Write(append(jsonobject.Printable(text), '\n'))
		}
		return err
	}
	line := strings.NewReplacer("\n", " ", "\t", " ").Replace(factLine(f)) // a fact is one line, whatever it holds
	_, err := fmt.Fprintln(sh.out, strings.TrimRight(printable(line), " "))
	return err
}

func factLine(f ledger.Fact) string {
	org := f.Org
	if org == "" && f.ClaimedOrg != "" {
		org = f.ClaimedOrg + "?" // claimed only
	}
	line := fmt.Sprintf("%s  %-9s  %-12s  %-26s", stamp(f.Time), f.Event, orDash(org), orDash(string(f.ID)))
	if f.From != "" || f.MailFrom != "" || len(f.Rcpt) > 0 {
		from := f.From
		if from == "" {
			from = sender(f.MailFrom)
		}
		line += "  " + from + " -> " + recipients(f.Rcpt)
	}
	for _, more := range []string{string(f.Reason), f.Site, f.Reply} {
		if more != "" {
			line += "  " + more
		}
	}
	if f.Count > 1 {
		line += fmt.Sprintf("  (%d times)", f.Count)
	}
	return line
}

func recipients(rcpt []string) string {
	switch len(rcpt) {
	case 0:
		return "-"
	case 1:
		return rcpt[0]
	}
	return fmt.Sprintf("%s +%d", rcpt[0], len(rcpt)-1)
}

func (sh *shell) logTailCommand() *cobra.Command {
	var f logFlags
	c := &cobra.Command{
		Use:   "tail [QUERY...]",
		Short: "Show the latest facts and follow new ones",
		Long: `Show the latest facts that match, and new ones as they are written, until
interrupted. A query is that of log search.`,
		Example: `  anechoic log tail
  anechoic log tail --event refused --org acme
  anechoic log tail to:*.example.org disposition:refused
  anechoic log tail --limit 0 --json`,
		RunE: func(c *cobra.Command, args []string) error { return sh.logTail(c.Context(), f, asQuery(args)) },
	}
	f.define(c)
	f.defineBound(c)
	c.Flags().IntVar(&f.limit, "limit", 10, "begin with the latest so `many`")
	return c
}

func (sh *shell) logTail(ctx context.Context, f logFlags, text string) error {
	query, err := f.search(text, time.Now())
	if err != nil {
		return err
	}
	query.Set("limit", strconv.Itoa(f.limit))
	client, err := sh.client()
	if err != nil {
		return err
	}
	follow := client.Tail
	if text == "" && f.bound == "" && f.saved == "" { // no index is needed
		follow = client.Log
		query.Set("follow", "true")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = follow(ctx, query, func(fact ledger.Fact) bool { return sh.printFact(fact) == nil })
	if ctx.Err() != nil {
		return nil // the person has seen enough
	}
	return err
}

func (sh *shell) logShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Tell what happened to one message, and why",
		Long: `Tell in plain words what happened to one message, a line a fact, then print the
facts themselves. The id is the one in our reply, and in the Received field.`,
		Example: `  anechoic log show 2al274bqphlahvjvb252eqy6ao
  anechoic log show 2al274bqphlahvjvb252eqy6ao --json`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error { return sh.logShow(c.Context(), mail.ID(args[0])) },
	}
}

func (sh *shell) logShow(ctx context.Context, id mail.ID) error {
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
		return sh.printJSON(told)
	}
	sh.printf("%s\n\n", strings.Join(told.Story, "\n"))
	for _, f := range told.Facts {
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		sh.printf("%s\n", text)
	}
	return nil
}

func (sh *shell) logVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that nothing in the ledger was changed",
		Long: `Read the whole ledger and check that every fact is what was sealed, with none
missing, added or moved. It works on the data directory itself when no relay
runs. The head it prints, written down elsewhere, shows a ledger that was cut or
rewritten whole.

Exits with 0 if everything is as it was sealed, with 3 if not.`,
		Example: `  anechoic log verify
  anechoic log verify --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.logVerify(c.Context()) },
	}
}

func (sh *shell) logVerify(ctx context.Context) error {
	dir, err := sh.dataDir()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := sh.work("facts")
	defer w.end()
	reached := func(facts, of uint64) { w.reached(int64(facts), int64(of)) }
	verified, err := api.NewClient(dir).Verify(ctx, reached)
	if errors.Is(err, api.ErrNotRunning) {
		verified, err = verifyStopped(ctx, dir, reached)
	}
	w.end()
	if err != nil {
		return err
	}
	if sh.asJSON {
		err = sh.printJSON(verified)
	} else {
		sh.printVerified(verified)
	}
	if err == nil && !verified.OK {
		return errFindings
	}
	return err
}

// verifyStopped reads the ledger of a relay that does not run.
func verifyStopped(ctx context.Context, dataDir string, reached func(facts, of uint64)) (verified api.Verified, err error) {
	dir := config.Config{DataDir: dataDir}.Store()
	if _, err := os.Stat(dir); err != nil {
		return verified, fmt.Errorf("log verify: no relay runs, and there is no ledger: %w", err)
	}
	engine, err := local.Open(local.Options{Dir: dir})
	if err != nil {
		return verified, fmt.Errorf("log verify: no relay answers on %s: %w", dataDir, err)
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return api.VerifyLedger(ctx, engine, reached)
}

func (sh *shell) printVerified(v api.Verified) {
	if !v.OK {
		sh.printf("CHANGED: %s\n", v.Bad)
	} else {
		sh.printf("as it was sealed: ")
	}
	sh.printf("%d facts, %d segments, %d facts not sealed yet, %d erased; head %s\n", v.Facts, v.Segments, v.Unsealed, v.Erased, v.Head)
}
