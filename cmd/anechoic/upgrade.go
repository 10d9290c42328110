package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/backup"
	"anechoic/control/config"
)

func (sh *shell) upgradeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Look before you start another version",
		Long:  "Look before you start another version of the relay on the data of this one.",
		Example: `  ./anechoic upgrade check --config /etc/anechoic/relay.toml
  ./anechoic upgrade check --json`,
	}
	c.AddCommand(sh.upgradeCheckCommand())
	return sh.group(c)
}

func (sh *shell) upgradeCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what starting this version here would change, and change nothing",
		Long: `Run with the new program, while the old one runs or not: says whether this version
reads the data directory and every record of its queue, whether configuration and
registry are valid for it, which settings would count otherwise than at the last
start because the file or a default changed, and whether the old version reads
the data afterwards. It reads a checkpoint of a running relay.

Exits with 0 if the relay would start, with 3 if not.`,
		Example: `  ./anechoic upgrade check --config /etc/anechoic/relay.toml
  ./anechoic upgrade check --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.upgradeCheck(c.Context()) },
	}
}

func (sh *shell) upgradeCheck(ctx context.Context) error {
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	cfg, _, problems, findings := config.Validate(file)
	if cfg.DataDir == "" {
		return sh.invalid(file, problems)
	}
	effective := ""
	if len(problems) == 0 {
		effective = cfg.Show()
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var u backup.Upgrade
	err = withStore(ctx, cfg.DataDir, func(store string, running *api.Checkpoint) error {
		u, err = backup.CheckUpgrade(ctx, cfg.DataDir, store, effective, text)
		if running != nil {
			u.Running = running.Version
		}
		return err
	})
	if err != nil {
		return err
	}
	u.Version = thisBuild().Version
	for _, p := range problems {
		u.Problems = append(u.Problems, p.String())
	}
	sh.warn(api.Findings(findings))
	if sh.asJSON {
		err = sh.printJSON(u)
	} else {
		sh.printUpgrade(u)
	}
	if err == nil && len(u.Problems) > 0 {
		return errFindings
	}
	return err
}

func (sh *shell) printUpgrade(u backup.Upgrade) {
	sh.printf("this      anechoic %s, store format %d, storage engine format %d\n", u.Version, u.After.Store, u.After.Pebble)
	if u.Running != "" {
		sh.printf("runs      anechoic %s\n", u.Running)
	}
	if u.Started != nil {
		sh.printf("last      anechoic %s, started %s\n", u.Started.Version, stamp(u.Started.Time))
	} else {
		sh.printf("last      not known: no version that writes it down was started here\n")
	}
	switch {
	case u.Store != nil:
		sh.printf("store     format %d, storage engine format %d; %s in the queue and %d detained can be read\n", u.Store.Store, u.Store.Pebble,
			count(u.Queue.Messages, "message", "messages"), u.Queue.Detained)
	case len(u.Problems) == 0:
		sh.printf("store     none yet\n")
	}
	for _, s := range u.Settings {
		sh.printf("setting   %s\n", settingText(s))
	}
	for _, p := range u.Problems {
		sh.printf("problem   %s\n", p)
	}
	switch {
	case len(u.Problems) > 0:
		sh.printf("verdict   this version would not start here as things are\n")
	case u.Back:
		sh.printf("verdict   this version starts here; the one before reads the data afterwards\n")
	default:
		sh.printf("verdict   this version starts here; there is no way back but a backup made before\n")
	}
}

func settingText(s backup.Setting) string {
	why := "its default changed"
	switch {
	case s.Before == "":
		why = "it is new"
	case s.Now == "":
		why = "it is gone"
	}
	if s.InFile {
		why = "it stands in the file, which was changed"
	}
	return fmt.Sprintf("%s: %s, was %s: %s", s.Key, orDash(s.Now), orDash(s.Before), why)
}
