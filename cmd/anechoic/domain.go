package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/edit"
	"anechoic/mail"
	"anechoic/org"
)

func (sh *shell) domainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "domain",
		Short: "Look after the domains that organisations send as",
		Long: `Look after the domains that organisations send as. A domain stands in the
registry, which these commands change, and is proven by a record in DNS.`,
		Example: `  anechoic domain list acme
  anechoic domain add acme acme.example
  anechoic domain remove acme acme.example --dry-run`,
	}
	c.AddCommand(sh.domainCheckCommand(), sh.domainListCommand(), sh.domainAddCommand(), sh.domainRemoveCommand())
	return sh.group(c)
}

// domainView is what domain list --json prints.
type domainView struct {
	Organisation string    `json:"org"`
	Name         string    `json:"name"`
	Subdomains   bool      `json:"subdomains"`
	Keys         []keyView `json:"keys"`
	RecordName   string    `json:"record_name"` // what proves it
	RecordValue  string    `json:"record_value"`
}

type keyView struct {
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
	File      string `json:"key_file,omitempty"`
}

func viewOfDomain(d *org.Domain) domainView {
	view := domainView{
		Organisation: string(d.Organisation), Name: d.Name.String(), Subdomains: d.Subdomains, Keys: []keyView{},
		RecordName: org.ProofPrefix + d.Name.String(), RecordValue: proofText(d.Organisation, d.Subdomains),
	}
	for _, k := range d.Keys {
		view.Keys = append(view.Keys, keyView{k.Selector, string(k.Algorithm), k.File})
	}
	return view
}

// proofText is the record that proves a domain.
func proofText(id org.ID, subdomains bool) string {
	text := "v=anechoic1; org=" + string(id)
	if subdomains {
		text += "; sub=yes"
	}
	return text
}

func domainRows(views []domainView, withOwner bool) (rows [][]string) {
	for _, v := range views {
		var keys []string
		for _, k := range v.Keys {
			keys = append(keys, k.Selector+" ("+k.Algorithm+")")
		}
		row := []string{v.Name, yesNo(v.Subdomains), orDash(strings.Join(keys, ", "))}
		if withOwner {
			row = slices.Insert(row, 0, v.Organisation)
		}
		rows = append(rows, row)
	}
	return rows
}

func (sh *shell) domainListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [ORG]",
		Short: "List the domains in the registry",
		Long: `List the domains in the registry, of one organisation or of all, with their
signing keys. No relay needs to run. status tells whether DNS proves them, key list
whether their keys are published.`,
		Example: `  anechoic domain list
  anechoic domain list acme --json`,
		Args: arguments("[ORG]"),
		RunE: func(_ *cobra.Command, args []string) error { return sh.domainList(args) },
	}
}

func (sh *shell) domainList(args []string) error {
	all, err := sh.organisations(args)
	if err != nil {
		return err
	}
	views := []domainView{}
	for _, o := range all {
		for _, d := range o.Domains {
			views = append(views, viewOfDomain(d))
		}
	}
	if sh.asJSON {
		return sh.printJSON(views)
	}
	return sh.table("ORG DOMAIN SUBDOMAINS KEYS", domainRows(views, true))
}

// organisations is the one that is named, or all.
func (sh *shell) organisations(args []string) ([]*org.Organisation, error) {
	r, err := sh.openRegistry()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return slices.Collect(r.directory.Organisations()), nil
	}
	o, err := r.organisation(args[0])
	return []*org.Organisation{o}, err
}

// domainWish is the flags of domain add.
type domainWish struct {
	selectors, algorithms []string
	subdomains            bool
	changing
}

// defaultKeys are those of a new domain: one of each algorithm, since not every
// receiver knows Ed25519 (RFC 8463 section 3 says why RSA stays beside it).
var defaultKeys = []org.KeyEntry{{Selector: "an1", Algorithm: string(org.RSA2048)}, {Selector: "an1e", Algorithm: string(org.Ed25519)}}

func (sh *shell) domainAddCommand() *cobra.Command {
	var w domainWish
	c := &cobra.Command{
		Use:   "add ORG DOMAIN",
		Short: "Write a domain into the registry, and print what to publish",
		Long: `Write a domain of an organisation into the registry and have the running relay
take it. The relay makes the domain's signing keys and keeps them sealed: one RSA
key (an1) and one Ed25519 key (an1e), or those of --selector and --algorithm, which
stand in pairs.

Prints the records to publish as lines of a zone file: the one that proves the
domain, and those of the keys once a relay runs that made them. Nothing is signed
as the domain before DNS has both.`,
		Example: `  anechoic domain add acme acme.example
  anechoic domain add acme acme.example --selector mail1 --algorithm rsa-2048
  anechoic domain add acme acme.example --subdomains --dry-run`,
		Args: arguments("ORG DOMAIN"),
		RunE: func(c *cobra.Command, args []string) error { return sh.domainAdd(c.Context(), args[0], args[1], w) },
	}
	c.Flags().StringArrayVar(&w.selectors, "selector", nil, "a key's `name` in DNS; several times for several keys")
	c.Flags().StringArrayVar(&w.algorithms, "algorithm", nil, "that key's algorithm: rsa-2048 or ed25519")
	c.Flags().BoolVar(&w.subdomains, "subdomains", false, "addresses below the domain count too")
	w.flags(c)
	return c
}

// keys pairs selectors with algorithms.
func (w domainWish) keys() ([]org.KeyEntry, error) {
	if len(w.selectors) == 0 && len(w.algorithms) == 0 {
		return defaultKeys, nil
	}
	if len(w.selectors) != len(w.algorithms) {
		return nil, usagef("%s and %s: each key needs both", count(len(w.selectors), "--selector", "times --selector"), count(len(w.algorithms), "--algorithm", "times --algorithm"))
	}
	keys := make([]org.KeyEntry, len(w.selectors))
	for i := range keys {
		keys[i] = org.KeyEntry{Selector: w.selectors[i], Algorithm: w.algorithms[i]}
	}
	return keys, nil
}

func (sh *shell) domainAdd(ctx context.Context, id, name string, w domainWish) error {
	keys, err := w.keys()
	if err != nil {
		return err
	}
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	if _, err := r.organisation(id); err != nil {
		return err
	}
	if d, err := mail.ParseDomain(name); err == nil {
		name = d.String()
	}
	done, err := sh.change(ctx, r, w.changing, registryChange{
		edit: func(text []byte) ([]byte, error) {
			return edit.AddDomain(text, org.ID(id), org.DomainEntry{Name: name, Subdomains: w.subdomains, DKIM: keys})
		},
		impact: fmt.Sprintf("Sources of %s may send as %s once DNS has its record and that of a key.", id, name),
	})
	if err == nil && done.Changed {
		done.Records = append(done.Records, fmt.Sprintf("%s%s. IN TXT %q", org.ProofPrefix, name, proofText(org.ID(id), w.subdomains)))
		if done.Applied {
			done.Records = append(done.Records, sh.keyRecords(ctx, r.dataDir, id, name, keys)...)
		}
		sh.printRecords(done)
	}
	return sh.finish(done, err)
}

// keyRecords asks the relay for the records of keys it just made.
func (sh *shell) keyRecords(ctx context.Context, dataDir, id, name string, keys []org.KeyEntry) (lines []string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client := api.NewClient(dataDir)
	for _, k := range keys {
		record, err := client.Key(ctx, id, name, k.Selector)
		switch {
		case err != nil || record.ZoneLine == "":
			sh.notef("The record of key %s cannot be told now: anechoic key show %s %s\n", k.Selector, name, k.Selector)
		default:
			lines = append(lines, record.ZoneLine)
		}
	}
	return lines
}

func (sh *shell) printRecords(done registryChanged) {
	if sh.asJSON {
		return
	}
	sh.notef("Publish:\n")
	for _, line := range done.Records {
		sh.printf("%s\n", line)
	}
	if !done.Applied {
		sh.notef("The keys are made when a relay takes the registry: anechoic key show then prints their records\n")
	}
}

func (sh *shell) domainRemoveCommand() *cobra.Command {
	var ch changing
	c := &cobra.Command{
		Use:   "remove ORG DOMAIN",
		Short: "Take a domain out of the registry",
		Long: `Take a domain of an organisation out of the registry, and have the running relay
take that. From then on nothing is taken or sent as the domain; queued mail that
was is held at its next attempt. What the domain's sources name of it (from,
originator_orgs) has to be changed first.

Keys stay sealed in the data directory. Leave their records in DNS for seven days:
receivers look at signatures that long.`,
		Example: `  anechoic domain remove acme acme.example --dry-run
  anechoic domain remove acme acme.example --yes`,
		Args: arguments("ORG DOMAIN"),
		RunE: func(c *cobra.Command, args []string) error { return sh.domainRemove(c.Context(), args[0], args[1], ch) },
	}
	ch.asking(c)
	return c
}

func (sh *shell) domainRemove(ctx context.Context, id, name string, ch changing) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	o, err := r.organisation(id)
	if err != nil {
		return err
	}
	if wanted, err := mail.ParseDomain(name); err != nil || !slices.ContainsFunc(o.Domains, func(d *org.Domain) bool { return d.Name == wanted }) {
		return unknown(fmt.Sprintf("organisation %s has no domain %q", id, name), name, func(yield func(string) bool) {
			for _, d := range o.Domains {
				if !yield(d.Name.String()) {
					return
				}
			}
		}, "anechoic domain list "+id+" names all")
	}
	done, err := sh.change(ctx, r, ch, registryChange{
		edit:     func(text []byte) ([]byte, error) { return edit.RemoveDomain(text, org.ID(id), name) },
		impact:   fmt.Sprintf("Nothing is taken or sent as %s any more; queued mail of it is held.", name),
		question: true,
	})
	return sh.finish(done, err)
}
