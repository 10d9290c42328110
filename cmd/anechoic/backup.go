package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/backup"
	"anechoic/control/config"
	"anechoic/engine/local"
)

func (sh *shell) backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup",
		Short: "Pack the relay into one file, and check such a file",
		Long: `Pack the relay into one file: queue, held mail, ledger, keys, configuration and
registry. It is made while the relay runs. restore makes a relay of it again.`,
		Example: `  anechoic backup create /var/backups/anechoic --recipient-file /etc/anechoic/backup.pub
  anechoic backup verify /var/backups/anechoic/relay.example.org-20261122T020000Z.tar.zst.age --identity-file key.txt
  anechoic backup show relay.tar.zst`,
	}
	c.AddCommand(sh.backupCreateCommand(), sh.backupVerifyCommand(), sh.backupShowCommand(), sh.backupListCommand())
	return sh.group(c)
}

// wrapping is the flags that say for whom a backup is.
type wrapping struct {
	recipients []string
	files      []string
	plain      bool
}

func (sh *shell) backupCreateCommand() *cobra.Command {
	var to wrapping
	c := &cobra.Command{
		Use:   "create {FILE|DIRECTORY}",
		Short: "Make a backup, of a running relay too",
		Long: `Make a backup in a new file; in a directory, under a name of host and time. It holds
every message that was acknowledged before it began, held mail, the ledger, keys,
relay.toml, the registry and the files those name. A running relay goes on; one that
does not run is read from its directory.

Whoever reads a backup can sign as your domains: name age recipients that it is
encrypted to, whose identities are not on this machine (age-keygen makes one), or
say --plain and keep the file as you keep the keys.`,
		Example: `  anechoic backup create /var/backups/anechoic --recipient-file /etc/anechoic/backup.pub
  anechoic backup create relay.tar.zst.age --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  anechoic backup create relay.tar.zst --plain --json`,
		Args: arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error { return sh.backupCreate(c.Context(), args[0], to) },
	}
	c.Flags().StringArrayVar(&to.recipients, "recipient", nil, "encrypt to this age `recipient`; may be repeated")
	c.Flags().StringArrayVar(&to.files, "recipient-file", nil, "encrypt to the age recipients in this `file`, one a line")
	c.Flags().BoolVar(&to.plain, "plain", false, "do not encrypt it, although it holds private keys")
	return c
}

// read gives the recipients; none, if that is what was asked for.
func (w wrapping) read() ([]age.Recipient, error) {
	var all []age.Recipient
	for _, text := range w.recipients {
		one, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, usagef("--recipient %q: %v", text, err)
		}
		all = append(all, one...)
	}
	for _, name := range w.files {
		text, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("--recipient-file: %w", err)
		}
		some, err := age.ParseRecipients(text)
		if err = errors.Join(err, text.Close()); err != nil {
			return nil, fmt.Errorf("--recipient-file %s: %w", name, err)
		}
		all = append(all, some...)
	}
	switch {
	case w.plain && len(all) > 0:
		return nil, usagef("--plain and recipients: a backup is encrypted or it is not")
	case !w.plain && len(all) == 0:
		return nil, usagef("a backup holds private keys: name who may read it with --recipient or --recipient-file (age-keygen makes an identity and its recipient), or say --plain")
	}
	return all, nil
}

// created is what backup create prints.
type created struct {
	File      string          `json:"file"`
	Size      int64           `json:"size"`
	Encrypted bool            `json:"encrypted"`
	Manifest  backup.Manifest `json:"manifest"`
}

func (sh *shell) backupCreate(ctx context.Context, target string, to wrapping) error {
	recipients, err := to.read()
	if err != nil {
		return err
	}
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	cfg, problems := config.Load(file)
	if cfg.DataDir == "" {
		return sh.invalid(file, problems)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	target, err = backupName(target, cfg, len(recipients) > 0)
	if err != nil {
		return err
	}
	w := sh.work("octets")
	defer w.end()
	source := backup.Source{
		Version: thisBuild().Version, Hostname: cfg.Hostname.String(), DataDir: cfg.DataDir, ConfigFile: file, Recipients: recipients, Progress: w.reached,
	}
	var made created
	err = withStore(ctx, cfg.DataDir, func(store string, _ *api.Checkpoint) error {
		source.Store = store
		made, err = packInto(ctx, target, source)
		return err
	})
	w.end()
	if err != nil {
		return err
	}
	return sh.printCreated(made)
}

// withStore gives a checkpoint of a running relay, or no name: that of the data
// directory, of a relay that does not run.
func withStore(ctx context.Context, dataDir string, use func(store string, of *api.Checkpoint) error) error {
	err := api.NewClient(dataDir).UseCheckpoint(ctx, func(c api.Checkpoint) error { return use(c.Store, &c) })
	if !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	err = use("", nil)
	if errors.Is(err, local.ErrInUse) {
		return fmt.Errorf("%w: a relay has just started on it, or another command reads it: try again", err)
	}
	return err
}

// backupName is the file to be made. It must not lie where the next backup would
// read it.
func backupName(target string, cfg config.Config, encrypted bool) (string, error) {
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		name := cfg.Hostname.String() + "-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.zst"
		if encrypted {
			name += ".age"
		}
		target = filepath.Join(target, name)
	} else if err == nil {
		return "", fmt.Errorf("%s: %w: name a new file", target, fs.ErrExist)
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(target))
	if err != nil {
		return "", err
	}
	data, err := filepath.EvalSymlinks(cfg.DataDir)
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	for _, p := range []*string{&folder, &data} {
		if *p, err = filepath.Abs(*p); err != nil {
			return "", err
		}
	}
	if rel, err := filepath.Rel(data, folder); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("%s lies in the data directory, of which it is to be a copy: name a place on another disk", target)
	}
	return target, nil
}

// packInto makes the file under another name, which it loses once it is whole and
// durable. Nothing is left of one that is not.
func packInto(ctx context.Context, target string, source backup.Source) (made created, err error) {
	out, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*") // mode 0600
	if err != nil {
		return made, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	made = created{File: target, Encrypted: len(source.Recipients) > 0}
	made.Manifest, err = backup.Create(ctx, source, out)
	if err == nil {
		made.Size, err = out.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return made, err
	}
	if _, err := os.Lstat(target); err == nil {
		return made, fmt.Errorf("%s: %w: it appeared meanwhile", target, fs.ErrExist)
	}
	if err := os.Rename(out.Name(), target); err != nil {
		return made, err
	}
	dir, err := os.Open(filepath.Dir(target))
	if err != nil {
		return made, err
	}
	return made, errors.Join(dir.Sync(), dir.Close())
}

func (sh *shell) printCreated(made created) error {
	for _, name := range made.Manifest.Missing {
		sh.notef("warning: not in the backup: %s\n", name)
	}
	if d := made.Manifest.Queue.Damaged; d > 0 {
		sh.notef("warning: %s damaged in the store itself, the first: %s\n", count(d, "record is", "records are"), made.Manifest.Queue.FirstDamage)
	}
	if !made.Encrypted {
		sh.notef("warning: it is not encrypted and holds private keys: whoever reads it can sign as your domains\n")
	}
	if sh.asJSON {
		return sh.printJSON(made)
	}
	sh.printf("%s: %s octets\n%s", made.File, grouped(made.Size), manifestText(made.Manifest))
	return nil
}

// manifestText is what a backup holds, in a few lines.
func manifestText(m backup.Manifest) string {
	how := "a relay that did not run"
	if m.Running {
		how = "a running relay"
	}
	return fmt.Sprintf(`made      %s, of %s at %s, by anechoic %s
data      %s octets in %s, was %s
queue     %s, %d queued and %d held; %s detained
ledger    %d facts in %d segments, head %s
`,
		stamp(m.Created), how, m.Hostname, m.Version,
		grouped(m.Octets()), count(len(m.Files), "file", "files"), m.DataDir,
		count(m.Queue.Messages, "message", "messages"), m.Queue.Queued, m.Queue.Held, count(m.Queue.Detained, "message", "messages"),
		m.Ledger.Facts, m.Ledger.Segments, orDash(m.Ledger.Hash))
}

// opening is the flags that open a backup.
type opening struct{ identities []string }

func (o *opening) define(c *cobra.Command) {
	c.Flags().StringArrayVar(&o.identities, "identity-file", nil, "open it with the age identities in this `file`")
}

// open gives a backup that is being read, and what closes it.
func (o opening) open(name string) (*backup.Archive, func(), error) {
	var identities []age.Identity
	for _, file := range o.identities {
		text, err := os.Open(file)
		if err != nil {
			return nil, nil, fmt.Errorf("--identity-file: %w", err)
		}
		some, err := age.ParseIdentities(text)
		if err = errors.Join(err, text.Close()); err != nil {
			return nil, nil, fmt.Errorf("--identity-file %s: %w", file, err)
		}
		identities = append(identities, some...)
	}
	in, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	a, err := backup.Open(in, identities)
	switch {
	case errors.Is(err, backup.ErrSealed):
		err = fmt.Errorf("%w: name the file with your age identity: --identity-file", err)
	case errors.Is(err, backup.ErrIdentity):
		err = fmt.Errorf("%w: it was made for another recipient", err)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", name, err), in.Close())
	}
	return a, func() { a.Close(); _ = in.Close() }, nil
}

func (sh *shell) backupVerifyCommand() *cobra.Command {
	var o opening
	var work string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Read a whole backup and check that a relay can be made of it",
		Long: `Read a whole backup: every octet is held against its sum, the store is opened in a
temporary folder, the ledger verified, every message in custody read, every signing
key opened. The folder needs as much room as the data, is for you alone, and goes.

Exits with 0 if all of it is as it was, with 3 and what is wrong if not.`,
		Example: `  anechoic backup verify relay.tar.zst
  anechoic backup verify relay.tar.zst.age --identity-file key.txt --work /var/tmp --json`,
		Args: arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error { return sh.backupVerify(c.Context(), args[0], o, work) },
	}
	o.define(c)
	c.Flags().StringVar(&work, "work", "", "make the temporary folder in this `directory`, not in the system's")
	return c
}

func (sh *shell) backupVerify(ctx context.Context, name string, o opening, work string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	a, done, err := o.open(name)
	if errors.Is(err, backup.ErrDamaged) {
		return sh.printChecked(name, backup.Checked{Problems: []string{err.Error()}})
	}
	if err != nil {
		return err
	}
	defer done()
	w := sh.work("octets")
	defer w.end()
	checked, err := backup.Verify(ctx, a, work, w.reached)
	w.end()
	if err != nil {
		return err
	}
	return sh.printChecked(name, checked)
}

func (sh *shell) printChecked(name string, c backup.Checked) error {
	switch {
	case sh.asJSON:
		if err := sh.printJSON(c); err != nil {
			return err
		}
	case c.OK():
		sh.printf("%s: as it was made\n%s", name, manifestText(c.Manifest))
		sh.printf("checked   %s, %d facts, %s opened\n", count(c.Queue.Messages+c.Queue.Detained, "message", "messages"), c.Ledger.Facts, count(c.Keys, "signing key", "signing keys"))
	default:
		for _, p := range c.Problems {
			sh.printf("%s: %s\n", name, p)
		}
	}
	if !c.OK() {
		return errFindings
	}
	return nil
}

func (sh *shell) backupShowCommand() *cobra.Command {
	var o opening
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "Say what a backup holds",
		Long: `Say of what a backup was made, when, by which version, how its queue and ledger
stood, and where its configuration was. Only its beginning is read: that the rest is
as it was made is told by backup verify.`,
		Example: `  anechoic backup show relay.tar.zst
  anechoic backup show relay.tar.zst.age --identity-file key.txt --json`,
		Args: arguments("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			return sh.withManifest(args[0], o, func(m backup.Manifest) error {
				sh.printf("%s", manifestText(m))
				for _, c := range m.Config {
					sh.printf("config    %s was %s (%s)\n", c.Name, c.Path, c.Key)
				}
				for _, name := range m.Missing {
					sh.printf("missing   %s\n", name)
				}
				return nil
			})
		},
	}
	o.define(c)
	return c
}

func (sh *shell) backupListCommand() *cobra.Command {
	var o opening
	c := &cobra.Command{
		Use:   "list FILE",
		Short: "List the files in a backup",
		Long:  "List the files in a backup with their sizes, as its manifest says. Only its beginning is read.",
		Example: `  anechoic backup list relay.tar.zst
  anechoic backup list relay.tar.zst.age --identity-file key.txt`,
		Args: arguments("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			return sh.withManifest(args[0], o, func(m backup.Manifest) error {
				var rows [][]string
				for _, f := range m.Files {
					rows = append(rows, []string{strconv.FormatInt(f.Size, 10), f.Name})
				}
				return sh.table("OCTETS NAME", rows)
			})
		},
	}
	o.define(c)
	return c
}

// withManifest prints it, or has it told.
func (sh *shell) withManifest(name string, o opening, tell func(backup.Manifest) error) error {
	a, done, err := o.open(name)
	if err != nil {
		return err
	}
	defer done()
	if sh.asJSON {
		return sh.printJSON(a.Manifest())
	}
	return tell(a.Manifest())
}
