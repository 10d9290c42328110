package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/org"
	"anechoic/watch/tracking"
)

// queryHelp is what every command says that takes a query.
func queryHelp() string {
	var b strings.Builder
	b.WriteString(`A QUERY is words that must all hold. A word alone is an id, an address, a domain,
a network, a tenant or a reason if it looks like one, else a word of a reply. Other
words name a field; commas separate alternatives, a star ends a beginning:

  from:ann@acme.example reason:FROM_NOT_OWNED since:24h
  to:ann@* event:bounced,deferred "user unknown"
  domain:*.example peer:192.0.2.0/24

The fields:
`)
	for _, f := range tracking.Fields() {
		fmt.Fprintf(&b, "\n  %-12s %s", f[0], f[1])
	}
	return b.String()
}

// text is all words of a command line as one query.
func asQuery(args []string) string { return strings.Join(args, " ") }

// searchIndex prints the facts of a query, oldest first. found is how many; an index
// that this relay does not keep is errNoIndex.
func (sh *shell) searchIndex(ctx context.Context, client *api.Client, query url.Values, limit int) error {
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
		a, err := client.Search(ctx, query)
		if err != nil {
			return err
		}
		slices.Reverse(a.Facts)
		return sh.printAnswer(a, len(a.Facts))
	}
	query.Set("order", "asc")
	query.Set("limit", strconv.Itoa(api.MaxPage))
	found := 0
	for {
		a, err := client.Search(ctx, query)
		if err != nil {
			return err
		}
		found += len(a.Facts)
		if a.Next == "" {
			return sh.printAnswer(a, found)
		}
		for _, f := range a.Facts {
			if err := sh.printFact(f); err != nil {
				return err
			}
		}
		query.Set("page_token", a.Next)
	}
}

// printAnswer prints the last page of a search, and says what it covers.
func (sh *shell) printAnswer(a tracking.Answer, found int) error {
	for _, f := range a.Facts {
		if err := sh.printFact(f); err != nil {
			return err
		}
	}
	if found == 0 {
		sh.notef("no fact matches\n")
	}
	if !sh.asJSON {
		sh.notef("%s\n", a.Statement)
	}
	return nil
}

// isNoIndex says that the relay keeps no index, so that the ledger is to be searched.
func isNoIndex(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Code == api.CodeUnavailable
}

func (sh *shell) logExportCommand() *cobra.Command {
	var f logFlags
	var format, output string
	c := &cobra.Command{
		Use:   "export [QUERY...]",
		Short: "Write all facts that match to a file, as JSON lines or CSV",
		Long: `Write every fact that matches, oldest first, to a file or to standard output, and
say how far it came. In CSV no cell is taken for a formula by a spreadsheet, and what
does not print is replaced.

` + queryHelp(),
		Example: `  anechoic log export --format csv --output bounces.csv event:bounced since:7d
  anechoic log export --bound acme since:2026-11-01 > acme.jsonl`,
		RunE: func(c *cobra.Command, args []string) error {
			return sh.logExport(c.Context(), f, asQuery(args), format, output)
		},
	}
	f.defineSearch(c)
	c.Flags().StringVar(&format, "format", tracking.JSONL, "jsonl or csv")
	c.Flags().StringVarP(&output, "output", "o", "", "a new `file`; standard output if it is not given")
	return c
}

func (sh *shell) logExport(ctx context.Context, f logFlags, text, format, output string) (err error) {
	query, err := f.search(text, time.Now())
	if err != nil {
		return err
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	var to io.Writer = sh.out
	if output != "" {
		file, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("log export: %w (name a file that is not there yet)", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		to = file
	}
	e, err := tracking.NewExporter(to, format)
	if err != nil {
		return usagef("--format: %v", err)
	}
	w := sh.work("offsets")
	defer w.end()
	written, statement, err := exportPages(ctx, client, query, e, w)
	if err != nil {
		return errors.Join(fmt.Errorf("log export: it stopped after %d facts: %w", written, err), e.Flush())
	}
	w.end()
	sh.notef("%d facts: %s\n", written, statement)
	return e.Flush()
}

// exportPages writes page after page, up to what was there at the first.
func exportPages(ctx context.Context, client *api.Client, query url.Values, e *tracking.Exporter, w *work) (written int, whole tracking.Statement, err error) {
	query.Set("order", "asc")
	query.Set("limit", strconv.Itoa(api.MaxPage))
	for {
		a, err := client.Search(ctx, query)
		if err != nil {
			return written, whole, err
		}
		if whole.AsOf == 0 {
			whole = a.Statement
		}
		for _, f := range a.Facts {
			if f.Offset >= whole.AsOf {
				break
			}
			if err := e.Write(f); err != nil {
				return written, whole, err
			}
			written++
		}
		whole.To, whole.Ended = min(a.Statement.To, whole.AsOf), tracking.EndedComplete
		w.reached(int64(whole.To-whole.From), int64(whole.AsOf-whole.From))
		if a.Next == "" || a.Statement.To >= whole.AsOf {
			return written, whole, nil
		}
		query.Set("page_token", a.Next)
	}
}

func (sh *shell) logSavedCommand() *cobra.Command {
	var bound string
	c := &cobra.Command{
		Use:   "saved",
		Short: "Keep searches under a name",
		Long:  "List searches that were given a name, give one, or take it away. log search --saved NAME runs one.",
		Example: `  anechoic log saved list
  anechoic log saved add bounces-today event:bounced since:24h
  anechoic log search --saved bounces-today`,
	}
	c.PersistentFlags().StringVar(&bound, "bound", "", "those of this `organisation`, which find its facts alone")
	c.AddCommand(sh.logSavedListCommand(&bound), sh.logSavedAddCommand(&bound), sh.logSavedRemoveCommand(&bound))
	return sh.group(c)
}

func (sh *shell) logSavedListCommand(bound *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List saved searches", Long: "List the saved searches with their queries.",
		Example: "  anechoic log saved list\n  anechoic log saved list --bound acme --json",
		Args:    arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := sh.client()
			if err != nil {
				return err
			}
			list, err := client.Searches(c.Context(), *bound)
			if err != nil {
				return err
			}
			if sh.asJSON {
				return sh.printJSON(api.SearchList{Searches: list})
			}
			var rows [][]string
			for _, one := range list {
				rows = append(rows, []string{one.Name, one.Query, orDash(one.By)})
			}
			return sh.table("NAME QUERY BY", rows)
		},
	}
}

func (sh *shell) logSavedAddCommand(bound *string) *cobra.Command {
	return &cobra.Command{
		Use: "add NAME QUERY...", Short: "Save a search", Long: "Save a search under a name, in place of the one that had it. The name has a-z, 0-9, dots, hyphens and underscores.",
		Example: "  anechoic log saved add bounces-today event:bounced since:24h\n  anechoic log saved add strangers reason:TENANT_NOT_AUTHORIZED --bound acme",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("%s takes NAME QUERY", c.CommandPath())
			}
			client, err := sh.client()
			if err != nil {
				return err
			}
			one, err := client.SaveSearch(c.Context(), tracking.Saved{Org: org.ID(*bound), Name: args[0], Query: asQuery(args[1:])})
			if err != nil {
				return err
			}
			if sh.asJSON {
				return sh.printJSON(one)
			}
			sh.printf("saved %s: %s\n", one.Name, printable(one.Query))
			return nil
		},
	}
}

func (sh *shell) logSavedRemoveCommand(bound *string) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove a saved search", Long: "Take a saved search away. Nothing it found is touched.",
		Example: "  anechoic log saved remove bounces-today\n  anechoic log saved remove strangers --bound acme",
		Args:    arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := sh.client()
			if err != nil {
				return err
			}
			name, err := client.DeleteSearch(c.Context(), api.SavedName{Org: org.ID(*bound), Name: args[0]})
			if err != nil {
				return err
			}
			if sh.asJSON {
				return sh.printJSON(name)
			}
			sh.printf("removed %s\n", name.Name)
			return nil
		},
	}
}

// defineSearch defines the flags of searches by the index.
func (f *logFlags) defineSearch(c *cobra.Command) {
	f.define(c)
	c.Flags().StringVar(&f.since, "since", "", "not before this `time`: 24h, 7d, 2026-11-22, or RFC 3339")
	c.Flags().StringVar(&f.until, "until", "", "before this `time`")
	f.defineBound(c)
}

func (f *logFlags) defineBound(c *cobra.Command) {
	c.Flags().StringVar(&f.bound, "bound", "", "as this `organisation` sees it: its own facts alone")
	c.Flags().StringVar(&f.saved, "saved", "", "the saved search of this `name`")
}

// search makes the request of the flags and a query.
func (f *logFlags) search(text string, now time.Time) (url.Values, error) {
	query, err := f.query(now)
	if err != nil {
		return nil, err
	}
	query.Set("q", text)
	query.Set("bound", f.bound)
	query.Set("saved", f.saved)
	return query, nil
}

// searchLedger is log search without the index.
func (sh *shell) searchLedger(ctx context.Context, client *api.Client, f logFlags) error {
	query, err := f.query(time.Now())
	if err != nil {
		return err
	}
	if f.limit > 0 {
		query.Set("limit", strconv.Itoa(f.limit))
	}
	found := 0
	err = client.Log(ctx, query, func(fact ledger.Fact) bool {
		found++
		return sh.printFact(fact) == nil
	})
	if err == nil && found == 0 {
		sh.notef("no fact matches\n")
	}
	return err
}
