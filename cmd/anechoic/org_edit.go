package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"anechoic/control/edit"
	"anechoic/org"
)

func (sh *shell) orgAddCommand() *cobra.Command {
	var o org.OrganisationEntry
	var ch changing
	c := &cobra.Command{
		Use:   "add ID",
		Short: "Write an organisation into the registry",
		Long: `Write an organisation into the registry, behind all others, and have the running
relay take it. The id names it for ever, in DNS and in the ledger. Without domains
and sources nothing is taken in its name: those come next.`,
		Example: `  anechoic org add acme --name "Acme Corporation" --security-contact security@acme.example
  anechoic org add acme --dry-run`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			o.ID = args[0]
			return sh.orgAdd(c.Context(), o, ch)
		},
	}
	c.Flags().StringVar(&o.Name, "name", "", "its `name`, for people")
	c.Flags().StringVar(&o.SecurityContact, "security-contact", "", "the `address` of who is told about what is held")
	ch.flags(c)
	return c
}

func (sh *shell) orgAdd(ctx context.Context, o org.OrganisationEntry, ch changing) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	done, err := sh.change(ctx, r, ch, registryChange{
		edit:   func(text []byte) ([]byte, error) { return edit.AddOrganisation(text, o) },
		impact: fmt.Sprintf("Organisation %s has no domain and no source yet: nothing is taken in its name. Next: anechoic domain add %s DOMAIN", o.ID, o.ID),
	})
	return sh.finish(done, err)
}

func (sh *shell) orgRemoveCommand() *cobra.Command {
	var ch changing
	c := &cobra.Command{
		Use:   "remove ID",
		Short: "Take an organisation out of the registry",
		Long: `Take an organisation out of the registry, with its domains, sources and inbound
routes, and have the running relay take that. From then on nothing is taken or
sent in its name, and the id is closed.

What is queued, detained and sealed under the id stays: org close holds it and
tells what there is.`,
		Example: `  anechoic org remove acme --dry-run
  anechoic org remove acme
  anechoic org close acme`,
		Args: arguments("ID"),
		RunE: func(c *cobra.Command, args []string) error { return sh.orgRemove(c.Context(), args[0], ch) },
	}
	ch.asking(c)
	return c
}

func (sh *shell) orgRemove(ctx context.Context, id string, ch changing) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	o, err := r.organisation(id)
	if err != nil {
		return err
	}
	done, err := sh.change(ctx, r, ch, registryChange{
		edit: func(text []byte) ([]byte, error) { return edit.RemoveOrganisation(text, org.ID(id)) },
		impact: fmt.Sprintf("Nothing is taken or sent for %s any more: %s and %s go. What is queued, detained and sealed under the id stays: anechoic org close %s holds it.",
			id, count(len(o.Domains), "domain", "domains"), count(len(o.Sources), "source", "sources"), id),
		question: true,
	})
	return sh.finish(done, err)
}

// organisationView is what org show --json prints.
type organisationView struct {
	ID              string       `json:"id"`
	Name            string       `json:"name,omitempty"`
	SecurityContact string       `json:"security_contact,omitempty"`
	ReturnPath      string       `json:"return_path,omitempty"`
	Egress          string       `json:"egress,omitempty"`
	Learning        bool         `json:"learning,omitempty"`
	Domains         []domainView `json:"domains"`
	Sources         []sourceView `json:"sources"`
	Inbound         []string     `json:"inbound,omitempty"` // domains that receive mail here
}

func (sh *shell) orgShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show what the registry says of an organisation",
		Long:  "Show what the registry says of an organisation: its domains and its sources, without secrets or hashes. No relay needs to run.",
		Example: `  anechoic org show acme
  anechoic org show acme --json`,
		Args: arguments("ID"),
		RunE: func(_ *cobra.Command, args []string) error { return sh.orgShow(args[0]) },
	}
}

func (sh *shell) orgShow(id string) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	o, err := r.organisation(id)
	if err != nil {
		return err
	}
	view := viewOf(o)
	if sh.asJSON {
		return sh.printJSON(view)
	}
	sh.printf("%s (%s), security contact %s\n", view.ID, orDash(view.Name), orDash(view.SecurityContact))
	if view.Learning {
		sh.printf("learning: mail in its name from unknown sources is held\n")
	}
	sh.printf("\n")
	if err := sh.table("DOMAIN SUBDOMAINS KEYS", domainRows(view.Domains, false)); err != nil {
		return err
	}
	sh.printf("\n")
	if err := sh.table("SOURCE KIND ROLE FROM", sourceRows(view.Sources, false)); err != nil {
		return err
	}
	if len(view.Inbound) > 0 {
		sh.printf("\nreceives here: %s\n", joinText(view.Inbound))
	}
	return nil
}

func viewOf(o *org.Organisation) organisationView {
	view := organisationView{
		ID: string(o.ID), Name: o.Name, ReturnPath: o.ReturnPath.String(), Egress: o.Egress, Learning: o.Learning,
		Domains: []domainView{}, Sources: []sourceView{},
	}
	if !o.SecurityContact.IsZero() {
		view.SecurityContact = o.SecurityContact.String()
	}
	for _, d := range o.Domains {
		view.Domains = append(view.Domains, viewOfDomain(d))
	}
	for _, s := range o.Sources {
		view.Sources = append(view.Sources, viewOfSource(s))
	}
	for _, in := range o.Inbound {
		for _, d := range in.Domains {
			view.Inbound = append(view.Inbound, d.String())
		}
	}
	return view
}
