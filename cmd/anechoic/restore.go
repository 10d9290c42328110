package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"anechoic/control/backup"
	"anechoic/control/config"
)

func (sh *shell) restoreCommand() *cobra.Command {
	var o opening
	var t backup.Target
	c := &cobra.Command{
		Use:   "restore FILE --to DIRECTORY [--config-to DIRECTORY]",
		Short: "Make a data directory of a backup, with the whole queue held",
		Long: `Make a data directory of a backup, in a new or empty directory. If anything goes
wrong nothing stays there, and after a crash no relay starts on what is there.

The whole queue comes back held: what was delivered after the backup was made would
be sent twice. Look at it with queue list, and let it go with queue release. Detained
mail stays detained. The ledger has a fact, restored, of what was done.

relay.toml, the registry and what lay beside them go to --config-to; what they name
elsewhere goes below outside/ there. Without it they stay in the backup.

Run it as the relay's user. Run as root, everything gets the owner that the directory
has, if it was there.`,
		Example: `  anechoic restore relay.tar.zst --to /var/lib/anechoic
  anechoic restore relay.tar.zst.age --identity-file key.txt --to /var/lib/anechoic --config-to /etc/anechoic.restored`,
		Args: arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error { return sh.restore(c.Context(), args[0], o, t) },
	}
	o.define(c)
	c.Flags().StringVar(&t.DataDir, "to", "", "the data directory to be: new, or `directory` that is empty")
	c.Flags().StringVar(&t.ConfigDir, "config-to", "", "put the configuration in this new or empty `directory`")
	return c
}

func (sh *shell) restore(ctx context.Context, name string, o opening, t backup.Target) error {
	if t.DataDir == "" {
		return usagef("restore needs --to DIRECTORY: the data directory to be")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	a, done, err := o.open(name)
	if err != nil {
		return err
	}
	defer done()
	w := sh.work("octets")
	defer w.end()
	t.By, t.Progress = whoAsks(), w.reached
	restored, err := backup.Restore(ctx, a, t)
	w.end()
	if err != nil {
		return err
	}
	return sh.printRestored(restored, t)
}

func (sh *shell) printRestored(r backup.Restored, t backup.Target) error {
	sh.warnRestored(r, t)
	if sh.asJSON {
		return sh.printJSON(r)
	}
	sh.printf("%s: restored\n%sheld      %s of %s: nothing of it is sent before queue release\n", r.DataDir, manifestText(r.Manifest),
		count(r.Held.Recipients, "recipient", "recipients"), count(r.Held.Messages, "message", "messages"))
	for _, path := range r.Config {
		sh.printf("config    %s\n", path)
	}
	return nil
}

// warnRestored tells what a person has to look at: what is as it was when the backup
// was made, and is not to be any more.
func (sh *shell) warnRestored(r backup.Restored, t backup.Target) {
	for _, name := range r.Missing {
		sh.notef("warning: the configuration names a file that is not here: %s\n", name)
	}
	if t.ConfigDir != "" {
		file := filepath.Join(t.ConfigDir, filepath.Base(configPath(r.Manifest)))
		if cfg, _ := config.Load(file); cfg.DataDir != "" {
			if where, err := filepath.Abs(cfg.DataDir); err == nil && where != r.DataDir {
				sh.notef("warning: %s names the data directory %s, and not %s: change one of them\n", file, where, r.DataDir)
			}
		}
	}
	sh.notef("%s", `warning: everything is as it was when the backup was made. Before the relay starts, look at what changed since:
  keys that were revoked since sign again: anechoic key list, then key revoke
  organisations that were closed since are open again: anechoic org list
  suppressed addresses and refused tenants that came since are not known
  secrets in the registry that were taken back since count again
  the lost machine must not come back: two relays with one seal.key and one queue send twice
`)
}

// configPath is where relay.toml was.
func configPath(m backup.Manifest) string {
	for _, c := range m.Config {
		if c.Key == "relay.toml" {
			return c.Path
		}
	}
	return "relay.toml"
}
