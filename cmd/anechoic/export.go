package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/docs"
)

func (sh *shell) exportCommand() *cobra.Command {
	var what string
	c := &cobra.Command{
		Use:   "export [relay|registry]",
		Short: "Print the configuration that is in force",
		Long: `Print the configuration that the running relay goes by, as files that could be used
in place of its own: relay.toml with every default written out, and the registry
without remarks. Secrets are in neither, only hashes of them. Without an argument
both are written into the folder that --dir names.

Where no relay runs, it is what the files say.`,
		Example: `  anechoic export registry > registry.toml
  anechoic export relay
  anechoic export --dir /var/backups/anechoic
  anechoic export --json`,
		Args: arguments("[FILE]"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return sh.exportOne(c.Context(), args[0])
			}
			return sh.exportBoth(c.Context(), what)
		},
	}
	c.Flags().StringVar(&what, "dir", "", "write both files into this `folder`")
	return c
}

// exported is what `export --json` prints.
type exported struct {
	api.InForce
	Running bool `json:"running"` // asked from a relay; else read from the files
}

// inForce asks the relay for what it goes by; where none runs, the files say.
func (sh *shell) inForce(ctx context.Context) (now exported, err error) {
	client, err := sh.client()
	if err != nil {
		return now, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	now.InForce, err = client.InForce(ctx, true)
	if !errors.Is(err, api.ErrNotRunning) {
		now.Running = err == nil
		return now, err
	}
	now.InForce, err = sh.onDisk()
	return now, err
}

// onDisk is what would be in force after an apply.
func (sh *shell) onDisk() (api.InForce, error) {
	file, err := sh.configFile()
	if err != nil {
		return api.InForce{}, err
	}
	cfg, dir, problems, _ := config.Validate(file)
	if len(problems) > 0 {
		return api.InForce{}, sh.invalid(file, problems)
	}
	return api.InForce{Relay: cfg.Show(), Registry: config.Export(dir)}, nil
}

func (sh *shell) exportOne(ctx context.Context, which string) error {
	now, err := sh.inForce(ctx)
	if err != nil {
		return err
	}
	text := now.Relay
	switch which {
	case "relay":
	case "registry":
		text = now.Registry
	default:
		return usagef("%q is nothing to export: relay or registry", which)
	}
	if sh.asJSON {
		return sh.printTOML(text)
	}
	_, err = fmt.Fprint(sh.out, text)
	return err
}

func (sh *shell) exportBoth(ctx context.Context, dir string) error {
	if dir == "" && !sh.asJSON {
		return usagef("say what to export, relay or registry, or where to with --dir FOLDER")
	}
	now, err := sh.inForce(ctx)
	if err != nil {
		return err
	}
	if dir == "" {
		return sh.printJSON(now)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	for name, text := range map[string]string{"relay.toml": now.Relay, "registry.toml": now.Registry} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	if sh.asJSON {
		return sh.printJSON(now)
	}
	sh.printf("%s: relay.toml, registry.toml\n", dir)
	if !now.Running {
		sh.notef("no relay runs: this is what the files say\n")
	}
	return nil
}

func (sh *shell) configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [relay|registry]",
		Short: "Print a JSON Schema, for editors that complete and check",
		Long: `Print the JSON Schema (2020-12) of relay.toml, or of the registry: every key with
what it means, its type, its default and the words it takes. It is made of what the
loader itself reads into.

Editors with a TOML language server (taplo, and "Even Better TOML" of VS Code) use
it when the first line of the file names it:

  #:schema ./relay.schema.json`,
		Example: `  anechoic config schema > relay.schema.json
  anechoic config schema registry > registry.schema.json`,
		Args: arguments("[FILE]"),
		RunE: func(_ *cobra.Command, args []string) error {
			switch strings.Join(args, "") {
			case "", "relay":
				return sh.printJSON(config.RelaySchema(docs.Describe))
			case "registry":
				return sh.printJSON(config.RegistrySchema(docs.Describe))
			}
			return usagef("there is no schema of %q: relay or registry", args[0])
		},
	}
}

func (sh *shell) configDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff",
		Short: "Say what apply would change: the files against what is in force",
		Long: `Hold the configuration and the registry on disk against those that the running
relay goes by, and list each key that differs: - is in force and not in the file, +
is in the file and not in force, ~ has another value.

Exits with 0 if nothing differs, with 3 if something does.`,
		Example: `  anechoic config diff
  anechoic config diff --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.configDiff(c.Context()) },
	}
}

func (sh *shell) configDiff(ctx context.Context) error {
	after, err := sh.onDisk()
	if err != nil {
		return err
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	before, err := client.InForce(ctx, true)
	if err != nil {
		return err
	}
	list, err := config.Differences("relay.toml", before.Relay, after.Relay)
	if err != nil {
		return err
	}
	more, err := config.Differences("registry.toml", before.Registry, after.Registry)
	if err != nil {
		return err
	}
	list = append(list, more...)
	if sh.asJSON {
		err = sh.printJSON(append([]config.Difference{}, list...))
	} else {
		sh.printDifferences(list)
	}
	if err == nil && len(list) > 0 {
		return errFindings
	}
	return err
}

func (sh *shell) printDifferences(list []config.Difference) {
	file := ""
	for _, d := range list {
		if d.File != file {
			file = d.File
			sh.printf("%s\n", file)
		}
		switch {
		case d.Before == "":
			fmt.Fprintf(sh.out, "  %s\n", sh.paint(sh.out, good, "+ "+d.Key+" = "+d.After))
		case d.After == "":
			fmt.Fprintf(sh.out, "  %s\n", sh.paint(sh.out, danger, "- "+d.Key+" = "+d.Before))
		default:
			fmt.Fprintf(sh.out, "  %s\n", sh.paint(sh.out, doubt, "~ "+d.Key+" = "+d.After+"  (in force: "+d.Before+")"))
		}
	}
	if len(list) == 0 {
		sh.notef("the files say what is in force\n")
		return
	}
	sh.notef("%s; anechoic apply puts the files in force\n", count(len(list), "difference", "differences"))
}

// showEffective prints what the running relay goes by.
func (sh *shell) showEffective(ctx context.Context) error {
	now, err := sh.inForce(ctx)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printTOML(now.Relay)
	}
	_, err = fmt.Fprint(sh.out, now.Relay)
	return err
}

// showOrigin prints where each value comes from; effective: of what is in force, too.
func (sh *shell) showOrigin(ctx context.Context, effective bool) error {
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	origins, problems := config.Origins(file)
	if len(problems) > 0 {
		return sh.invalid(file, problems)
	}
	if effective {
		if err := sh.originsInForce(ctx, origins); err != nil {
			return err
		}
	}
	if sh.asJSON {
		return sh.printJSON(origins)
	}
	rows := make([][]string, len(origins))
	for i, o := range origins {
		rows[i] = []string{o.Key, o.Value, o.Place}
	}
	return sh.table("KEY VALUE FROM", rows)
}

// originsInForce puts the values that are in force in place of those of the file.
func (sh *shell) originsInForce(ctx context.Context, origins []config.Origin) error {
	now, err := sh.inForce(ctx)
	if err != nil {
		return err
	}
	file, err := sh.onDisk()
	if err != nil {
		return err
	}
	differences, err := config.Differences("relay.toml", now.Relay, file.Relay)
	if err != nil {
		return err
	}
	for i := range origins {
		for _, d := range differences {
			if d.Key == origins[i].Key {
				origins[i].Value = d.Before
				origins[i].Place += ", not in force yet: " + d.After
			}
		}
	}
	return nil
}

// printTOML prints a text of TOML as JSON.
func (sh *shell) printTOML(text string) error {
	var value map[string]any
	if err := toml.Unmarshal([]byte(text), &value); err != nil {
		return err
	}
	return sh.printJSON(value)
}
