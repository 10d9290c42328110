package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/org"
)

// validation is the answer of config validate.
type validation struct {
	File          string          `json:"file"`
	Valid         bool            `json:"valid"`
	Organisations int             `json:"organisations"`
	Domains       int             `json:"domains"`
	Sources       int             `json:"sources"`
	Problems      []api.FileFault `json:"problems"`
	Findings      []api.Finding   `json:"findings"`
	Notes         []string        `json:"notes,omitempty"` // what it does without
}

func (sh *shell) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check and show the configuration",
		Long:  "Check and show the configuration file and the registry it names. Neither needs a running relay.",
		Example: `  anechoic config validate
  anechoic config show --config /etc/anechoic/relay.toml`,
	}
	c.AddCommand(sh.configValidateCommand(), sh.configShowCommand(), sh.configDiffCommand(), sh.configSchemaCommand())
	return sh.group(c)
}

func (sh *shell) configValidateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check configuration and registry, and list every problem",
		Long: `Check the configuration and the registry it names. Every problem is listed with
file, line and column, and what to do about it. What loads but is a risk is a
warning.

Exits with 0 if a relay would start with these files, with 3 if not.`,
		Example: `  anechoic config validate
  anechoic config validate --config /etc/anechoic/relay.toml
  anechoic config validate --json`,
		Args: arguments(""),
		RunE: func(*cobra.Command, []string) error { return sh.configValidate() },
	}
}

func (sh *shell) configValidate() error {
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	c, dir, problems, findings := config.Validate(file)
	if len(problems) > 0 {
		return sh.invalid(file, problems)
	}
	v := validated(file, dir, findings)
	v.Notes = c.Notes()
	if sh.asJSON {
		return sh.printJSON(v)
	}
	sh.warn(v.Findings)
	for _, note := range v.Notes {
		sh.notef("note: %s\n", note)
	}
	sh.printf("%s: valid: %s, %s, %s\n", file, count(v.Organisations, "organisation", "organisations"),
		count(v.Domains, "domain", "domains"), count(v.Sources, "source", "sources"))
	return nil
}

// invalid prints all problems and gives the error for them.
func (sh *shell) invalid(file string, problems []org.Problem) error {
	return sh.faulty(file, api.FileFaults(problems))
}

func (sh *shell) faulty(file string, faults []api.FileFault) error {
	if sh.asJSON {
		if err := sh.printJSON(validation{File: file, Problems: faults, Findings: []api.Finding{}}); err != nil {
			return err
		}
		return errFindings
	}
	for _, f := range faults {
		sh.printf("%s\n", f)
	}
	sh.notef("anechoic: %s\n", count(len(faults), "problem", "problems"))
	return errFindings
}

func validated(file string, dir *org.Directory, findings []org.Finding) validation {
	v := validation{File: file, Valid: true, Problems: []api.FileFault{}, Findings: api.Findings(findings)}
	for o := range dir.Organisations() {
		v.Organisations++
		v.Domains += len(o.Domains)
		v.Sources += len(o.Sources)
	}
	return v
}

// warnAtMost is how many risks are told one by one: past it nobody reads.
const warnAtMost = 50

// warn tells of risks, beside the data.
func (sh *shell) warn(findings []api.Finding) {
	for _, f := range findings[:min(len(findings), warnAtMost)] {
		sh.notef("warning: %s\n", f)
	}
	if more := len(findings) - warnAtMost; more > 0 {
		sh.notef("warning: and %s more: --json lists all\n", grouped(int64(more)))
	}
}

func (sh *shell) configShowCommand() *cobra.Command {
	var effective, origin bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the configuration as it counts, defaults included",
		Long: `Print the configuration as it counts, with every default written out, as a file
that could be used in its place. It holds no secret: keys and certificates are
named by file.

With --effective it is what the running relay goes by, which the file may differ
from since it was last applied. With --origin each key has the line it stands in, or
the word default.`,
		Example: `  anechoic config show
  anechoic config show --origin
  anechoic config show --effective --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case origin:
				return sh.showOrigin(c.Context(), effective)
			case effective:
				return sh.showEffective(c.Context())
			}
			return sh.configShow()
		},
	}
	c.Flags().BoolVar(&effective, "effective", false, "what is in force, instead of what the file says")
	c.Flags().BoolVar(&origin, "origin", false, "where each value comes from")
	return c
}

func (sh *shell) configShow() error {
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	cfg, problems := config.Load(file)
	if len(problems) > 0 {
		return sh.invalid(file, problems)
	}
	if sh.asJSON {
		return sh.printTOML(cfg.Show())
	}
	sh.printf("%s", cfg.Show())
	return nil
}

// applyTimeout bounds a reload: making RSA keys of new domains takes seconds.
const applyTimeout = 2 * time.Minute

func (sh *shell) applyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "apply",
		Short: "Have the running relay take its changed files: all or nothing",
		Long: `Check the configuration and the registry, then have the running relay read them
again. All or nothing: with one problem, what was in force stays, and every
problem is listed. Sending SIGHUP to the relay does the same, but tells only its
log.

Exits with 0 when the new files are in force, with 3 if they are not valid, with
6 if they cannot take force now.`,
		Example: `  anechoic apply
  anechoic apply --config /etc/anechoic/relay.toml`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.apply(c.Context()) },
	}
}

func (sh *shell) apply(ctx context.Context) error {
	file, err := sh.configFile()
	if err != nil {
		return err
	}
	cfg, _, problems, _ := config.Validate(file)
	if len(problems) > 0 {
		return sh.invalid(file, problems)
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	done, err := api.NewClient(cfg.DataDir).Reload(ctx)
	var refused *api.Problem
	if errors.As(err, &refused) && len(refused.Problems) > 0 {
		return sh.faulty(file, refused.Problems)
	}
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(done)
	}
	sh.warn(done.Findings)
	sh.printf("in force: generation %d with %s\n", done.Generation, count(done.Organisations, "organisation", "organisations"))
	return nil
}
