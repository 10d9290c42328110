package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/control/migrate"
	"anechoic/control/migrate/maillog"
	"anechoic/org"
)

func (sh *shell) importCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "import",
		Short: "Come from another mail server",
		Long: `Come from a Postfix with OpenDKIM: make a configuration of its files, and try a
registry on its log before any mail goes through it. docs/migration.md is the plan.`,
		Example: `  anechoic import postfix --opendkim /etc/opendkim.conf --out new
  anechoic import dry-run --log /var/log/mail.log --config new/relay.toml`,
	}
	c.AddCommand(sh.importPostfixCommand(), sh.importDryRunCommand())
	return sh.group(c)
}

// postfixWish is what import postfix is asked.
type postfixWish struct {
	read          migrate.Options
	sasldb        bool
	organisations []string
	inboundBind   []string
	takePorts     bool
	out           string
}

func (sh *shell) importPostfixCommand() *cobra.Command {
	var wish postfixWish
	c := &cobra.Command{
		Use:   "postfix",
		Short: "Make a configuration of a Postfix's files, and tell its echo holes",
		Long: `Read the files of a Postfix, and of OpenDKIM, and tell what would have been an echo
hole, what would be taken over, and what not. Nothing is run and nothing of Postfix
is changed. With --out a folder is made with relay.toml, registry.toml, DKIM keys,
new passwords and the report; without it nothing is written.

Exits with 3 if a hole was found, with 1 if a file could not be read: what could be
read is printed and written all the same.`,
		Example: `  anechoic import postfix
  anechoic import postfix --sasl-users /etc/dovecot/users --opendkim /etc/opendkim.conf --out new
  sasldblistusers2 | anechoic import postfix --sasldb --out new
  anechoic import postfix --organisation 'acme=acme.example,203.0.113.10' --organisation 'globex=*' --out new`,
		Args: arguments(""),
		RunE: func(*cobra.Command, []string) error { return sh.importPostfix(wish) },
	}
	f := c.Flags()
	f.StringVar(&wish.read.Main, "main", "/etc/postfix/main.cf", "main.cf, or a `file` with the output of postconf")
	f.StringVar(&wish.read.Master, "master", "", "master.cf (default: the `file` beside main.cf)")
	f.StringVar(&wish.read.Users, "sasl-users", "", "`file` with who may log in: Dovecot's passwd-file, the output of sasldblistusers2, or a name a line")
	f.BoolVar(&wish.sasldb, "sasldb", false, "the output of sasldblistusers2 comes on standard input")
	f.StringVar(&wish.read.OpenDKIM, "opendkim", "", "opendkim.conf `file`")
	f.StringVar(&wish.read.Root, "root", "", "`folder` where the old machine's / is, if its files were copied")
	f.StringArrayVar(&wish.organisations, "organisation", nil, "`ID=DOMAIN,ADDRESS,…` that are one organisation's; * is every other domain; may be given again")
	f.StringSliceVar(&wish.inboundBind, "inbound-bind", nil, "`addresses` that mail for the organisations' own servers leaves from")
	f.BoolVar(&wish.takePorts, "take-ports", false, "write the ports of master.cf, not 2525, 2465 and 2587 beside them")
	f.StringVar(&wish.out, "out", "", "new `folder` to write to")
	return c
}

// imported is what import postfix prints.
type imported struct {
	*migrate.Plan
	Written  string          `json:"written,omitempty"`
	Problems []api.FileFault `json:"problems"` // of what was written
}

func (sh *shell) importPostfix(wish postfixWish) error {
	wishes, err := wish.wishes()
	if err != nil {
		return err
	}
	if wish.sasldb {
		list, err := io.ReadAll(io.LimitReader(sh.in, maxUserList))
		if err != nil {
			return fmt.Errorf("read the list of users: %w", err)
		}
		if wish.read.UserList = string(list); strings.TrimSpace(wish.read.UserList) == "" {
			return usagef("--sasldb: no list of users came on standard input: sasldblistusers2 | anechoic import postfix --sasldb")
		}
	}
	if cfg, problems := sh.ownProviders(); len(problems) == 0 {
		wishes.Shared = migrate.SharedOf(cfg.OrgProviders())
	}
	estate, err := migrate.Read(wish.read)
	if err != nil {
		return err
	}
	done := imported{Plan: estate.Draft(wishes), Problems: []api.FileFault{}}
	if wish.out != "" {
		if err := done.Write(wish.out); err != nil {
			return err
		}
		done.Written = wish.out
		_, _, problems, _ := config.Validate(filepath.Join(wish.out, migrate.RelayFile))
		done.Problems = append(done.Problems, api.FileFaults(problems)...)
	}
	return sh.tellImport(&done)
}

// maxUserList bounds what comes on standard input.
const maxUserList = 64 << 20

// ownProviders is the configuration there is already, for the ranges in it.
func (sh *shell) ownProviders() (config.Config, []org.Problem) {
	if sh.config == "" {
		return config.Default(), nil
	}
	return config.Load(sh.config)
}

// wishes reads what a person decides.
func (w *postfixWish) wishes() (made migrate.Wishes, err error) {
	made.TakePorts = w.takePorts
	for _, text := range w.organisations {
		id, items, ok := strings.Cut(text, "=")
		if !ok || !migrate.ValidID(id) || items == "" {
			return made, usagef("--organisation %q: write ID=DOMAIN,DOMAIN, with 1 to 63 of a-z, 0-9 and - for the id", text)
		}
		if slices.ContainsFunc(made.Organisations, func(c migrate.Choice) bool { return c.ID == id }) {
			return made, usagef("--organisation: %s is there twice: list all its domains at once", id)
		}
		made.Organisations = append(made.Organisations, migrate.Choice{ID: id, Items: strings.Split(items, ",")})
	}
	for _, text := range w.inboundBind {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return made, usagef("--inbound-bind %q: an address of this machine, without length or port", text)
		}
		made.InboundBind = append(made.InboundBind, a)
	}
	if w.sasldb && w.read.Users != "" {
		return made, usagef("--sasldb and --sasl-users: one of the two")
	}
	return made, nil
}

// tellImport prints the report, and says what was written.
func (sh *shell) tellImport(done *imported) error {
	if sh.asJSON {
		if err := sh.printJSON(done); err != nil {
			return err
		}
	} else {
		sh.printf("%s", done.Report())
	}
	for _, f := range done.Problems {
		sh.notef("%s\n", f)
	}
	switch {
	case len(done.Problems) > 0:
		sh.notef("anechoic: what was written has %s: see above\n", count(len(done.Problems), "problem", "problems"))
	case done.Written != "":
		sh.notef("%s is written: anechoic config validate --config %s\n", done.Written, filepath.Join(done.Written, migrate.RelayFile))
	}
	var unread []string
	for _, u := range done.Unread {
		unread = append(unread, u.String())
	}
	switch {
	case len(unread) > 0:
		return fmt.Errorf("not everything could be read, and what depends on it is missing:\n  %s", strings.Join(unread, "\n  "))
	case len(done.Holes) > 0 || len(done.Problems) > 0:
		return errFindings
	}
	return nil
}

func (sh *shell) importDryRunCommand() *cobra.Command {
	var logs []string
	var senders int
	c := &cobra.Command{
		Use:   "dry-run",
		Short: "Judge a Postfix's log by a registry that is not in force yet",
		Long: `Read the log of a Postfix, packed by gzip or not, and judge each message by the
registry, as far as a log tells: client address, user and MAIL FROM are in it, From
and other headers are not. Name the oldest file first. No relay has to run.

Exits with 3 if mail in an organisation's name, that the next server took, would be
refused.`,
		Example: `  anechoic import dry-run --log /var/log/mail.log --config new/relay.toml
  anechoic import dry-run --log mail.log.2.gz --log mail.log.1 --log mail.log --config new/relay.toml --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.importDryRun(c.Context(), logs, senders) },
	}
	c.Flags().StringArrayVar(&logs, "log", nil, "log `file`; may be given again, the oldest first; - is standard input")
	c.Flags().IntVar(&senders, "senders", 20, "how many senders that would be refused are listed")
	return c
}

// dryRun is what import dry-run prints.
type dryRun struct {
	*maillog.Tally
	Lines            int `json:"lines"`
	RejectedAlready  int `json:"rejected_by_postfix"`
	OwnSendersToLose int `json:"own_senders_refused"` // in an organisation's name, and delivered until now
}

func (sh *shell) importDryRun(ctx context.Context, logs []string, senders int) error {
	if len(logs) == 0 {
		return usagef("no log is named: --log /var/log/mail.log")
	}
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	_, dir, problems, _ := config.Validate(file)
	if len(problems) > 0 {
		return sh.invalid(file, problems)
	}
	tally := maillog.NewTally()
	joiner := maillog.NewJoiner(func(m *maillog.Message) { tally.Add(m, maillog.Judge(dir, m)) })
	done := dryRun{Tally: tally}
	var unread []error
	for _, name := range logs {
		lines, err := sh.readLog(ctx, joiner, name)
		done.Lines += lines
		if err != nil {
			unread = append(unread, fmt.Errorf("read %s: %w", name, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	joiner.Flush()
	tally.Settle(max(senders, 0))
	done.RejectedAlready, done.OwnSendersToLose = joiner.Rejected, tally.Own()
	if err := sh.tellDryRun(&done); err != nil {
		return err
	}
	if len(unread) > 0 {
		return errors.Join(unread...)
	}
	if done.OwnSendersToLose > 0 {
		return errFindings
	}
	return nil
}

// readLog joins one file, and says how far it came.
func (sh *shell) readLog(ctx context.Context, joiner *maillog.Joiner, name string) (int, error) {
	var r io.Reader = sh.in
	var size int64
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			var at *os.PathError
			if errors.As(err, &at) {
				err = at.Err
			}
			return 0, err
		}
		defer file.Close()
		if info, err := file.Stat(); err == nil {
			size = info.Size()
		}
		r = file
	}
	w := sh.work("octets of " + filepath.Base(name))
	defer w.end()
	return joiner.Read(ctx, &counted{r: r, told: func(n int64) { w.reached(n, size) }})
}

// counted tells how much was read.
type counted struct {
	r    io.Reader
	n    int64
	told func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.told(c.n)
	return n, err
}

func (sh *shell) tellDryRun(d *dryRun) error {
	if sh.asJSON {
		return sh.printJSON(d)
	}
	sh.printf("%s in %s: %d would be relayed, %d are for organisations here, %d would be refused, of %d a log cannot tell\n",
		count(d.Messages, "message", "messages"), count(d.Lines, "line", "lines"), d.Relayed, d.Inbound, d.Refused, d.Unknown)
	if d.Again+d.RejectedAlready > 0 {
		sh.printf("not counted: %d handed in again by a filter, %d refused by Postfix itself\n", d.Again, d.RejectedAlready)
	}
	sh.printf("\n")
	var rows [][]string
	for _, s := range d.Sources {
		rows = append(rows, []string{"relayed", string(s.Organisation) + "/" + s.Source, strconv.Itoa(s.Messages)})
	}
	for _, r := range d.Reasons {
		rows = append(rows, []string{"refused", string(r.Reason), strconv.Itoa(r.Messages)})
	}
	for _, u := range d.Doubts {
		rows = append(rows, []string{"cannot be told", u.Why, strconv.Itoa(u.Messages)})
	}
	if err := sh.table("VERDICT BY MESSAGES", rows); err != nil || len(d.Senders) == 0 {
		return err
	}
	sh.printf("\nWould be refused; if it is an organisation's own mail, add what stands behind it:\n\n")
	rows = nil
	for _, s := range d.Senders {
		rows = append(rows, []string{s.Client, cmp.Or(s.From, "<>"), orDash(string(s.Organisation)), string(s.Reason), strconv.Itoa(s.Messages), strconv.Itoa(s.Delivered), s.Do})
	}
	if err := sh.table("CLIENT MAIL-FROM CLAIMS REASON MESSAGES DELIVERED ADD", rows); err != nil {
		return err
	}
	if d.Others > 0 {
		sh.printf("\nand %s of further senders that were not counted apart\n", count(d.Others, "message", "messages"))
	}
	return nil
}
