package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/engine/local"
	"anechoic/org"
	"anechoic/relay/custody"
)

func (sh *shell) orgCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "org",
		Short: "Look after organisations, those that left too",
		Long: `Look after organisations and their ids. The registry says which there are, and add
and remove change it; an id that leaves it is closed, and a registry that names a
closed id does not load: mail, keys and facts of the organisation that had it are
stored under it.`,
		Example: `  anechoic org list
  anechoic org add acme --name "Acme Corporation" --security-contact security@acme.example
  anechoic org close acme --dry-run
  anechoic org reopen acme`,
	}
	c.AddCommand(sh.orgListCommand(), sh.orgShowCommand(), sh.orgAddCommand(), sh.orgRemoveCommand(), sh.orgCloseCommand(), sh.orgReopenCommand())
	return sh.group(c)
}

func (sh *shell) orgListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List organisations, those that left too",
		Long:  "List every id that ever was in the registry, with what is stored under it.",
		Example: `  anechoic org list
  anechoic org list --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.orgList(c.Context()) },
	}
}

func (sh *shell) orgList(ctx context.Context) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := client.Organisations(ctx)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(list)
	}
	var rows [][]string
	for _, o := range list {
		rows = append(rows, []string{o.ID, orDash(o.Name), string(o.State), stamp(o.Since), strconv.Itoa(o.Queued), strconv.Itoa(o.Detained), strconv.Itoa(o.Keys)})
	}
	return sh.table("ID NAME STATE SINCE QUEUED DETAINED KEYS", rows)
}

func (sh *shell) orgCloseCommand() *cobra.Command {
	var dryRun, yes bool
	c := &cobra.Command{
		Use:   "close ID",
		Short: "Hold what is left of an organisation that is going",
		Long: `Close an organisation. With --dry-run it tells what is stored under the id. Then
take the organisation out of the registry and apply: from that moment nothing is
taken or sent for it. At last, close holds whatever of it is queued and tells what
is left to be dropped by hand.`,
		Example: `  anechoic org close acme --dry-run
  anechoic apply
  anechoic org close acme
  anechoic queue drop --org acme`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error { return sh.orgClose(c.Context(), args[0], dryRun, yes) },
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what is there")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (sh *shell) orgClose(ctx context.Context, id string, dryRun, yes bool) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if !dryRun && !yes && isTerminal(sh.in) {
		would, err := client.SteerOrganisation(ctx, api.CloseOrganisation, id, api.OrganisationWish{DryRun: true})
		if err != nil {
			return err
		}
		if err := sh.confirm(left(would) + " What is queued will be held."); err != nil {
			return err
		}
	}
	o, err := client.SteerOrganisation(ctx, api.CloseOrganisation, id, api.OrganisationWish{DryRun: dryRun})
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(o)
	}
	sh.printf("%s\n", left(o))
	switch {
	case o.InRegistry:
		sh.notef("It is in the registry: take it out, then anechoic apply, then anechoic org close %s\n", id)
	case o.Queued+o.Detained > 0:
		sh.notef("anechoic queue drop --org %[1]s and anechoic quarantine drop --org %[1]s give it up; keys stay sealed in the data directory\n", id)
	}
	return nil
}

// left is what is stored under an id.
func left(o api.OrganisationRecord) string {
	return fmt.Sprintf("organisation %s is %s: %s in the queue, %s detained, %s sealed.", o.ID, o.State,
		count(o.Queued, "message", "messages"), count(o.Detained, "message", "messages"), count(o.Keys, "key", "keys"))
}

func (sh *shell) orgReopenCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "reopen ID",
		Short: "Let a closed id stand in the registry again",
		Long: `Let a closed id stand in the registry again, for the same organisation alone:
whoever has it next has what is queued, detained and sealed under it. It works on
the data directory itself when no relay runs, because a relay whose registry names
a closed id does not start.`,
		Example: `  anechoic org reopen acme
  anechoic apply`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error { return sh.orgReopen(c.Context(), args[0], yes) },
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (sh *shell) orgReopen(ctx context.Context, id string, yes bool) error {
	dir, err := sh.dataDir()
	if err != nil {
		return err
	}
	if !yes && isTerminal(sh.in) {
		if err := sh.confirm(fmt.Sprintf("Whoever is %s next gets the mail and keys of the organisation that had this id.", id)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err = api.NewClient(dir).SteerOrganisation(ctx, api.ReopenOrganisation, id, api.OrganisationWish{})
	if errors.Is(err, api.ErrNotRunning) {
		err = reopenStopped(ctx, dir, org.ID(id))
	}
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(map[string]string{"id": id, "state": string(api.OrganisationReopening)})
	}
	sh.printf("organisation %s may stand in the registry again\n", id)
	return nil
}

// reopenStopped works on the store of a relay that does not run.
func reopenStopped(ctx context.Context, dataDir string, id org.ID) (err error) {
	dir := config.Config{DataDir: dataDir}.Store()
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("org reopen: no relay runs, and there is no store: %w", err)
	}
	engine, err := local.Open(local.Options{Dir: dir})
	if err != nil {
		return fmt.Errorf("org reopen: no relay answers on %s: %w", dataDir, err)
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	err = app.ReopenOrganisation(ctx, engine, id)
	switch {
	case errors.Is(err, custody.ErrNotFound):
		return &api.Problem{Code: api.CodeNotFound, Detail: fmt.Sprintf("there never was an organisation %q", id)}
	case errors.Is(err, api.ErrConflict):
		return &api.Problem{Code: api.CodeConflict, Detail: err.Error()}
	}
	return err
}
