package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/relay/signing"
	"anechoic/watch/response"
)

func (sh *shell) keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Show, make, replace and revoke signing keys",
		Long: `Show the DKIM keys the running relay signs with, and whether receivers can find
them; make new ones, let them follow old ones, take them back. A private key is
never shown.

Of each algorithm the newest key of a domain that DNS publishes signs.`,
		Example: `  anechoic key list
  anechoic key show acme.test an1
  anechoic key rotate acme.test
  anechoic key revoke acme.test an1`,
	}
	c.AddCommand(sh.keyListCommand(), sh.keyShowCommand(), sh.keyAddCommand(), sh.keyRotateCommand(), sh.keyRevokeCommand())
	return sh.group(c)
}

func (sh *shell) keyListCommand() *cobra.Command {
	var org, domain string
	c := &cobra.Command{
		Use:   "list",
		Short: "List signing keys with their DNS records, and whether those are published",
		Long: `List signing keys with the DNS record each needs, and whether DNS has it now. A
key that is not published is not used. Stages:

  added     made, and not seen in DNS yet
  active    published, and no newer one of its algorithm was seen
  retiring  a newer one signs; leave the record in DNS until the day shown
  retired   record and registry line may be taken out
  revoked   never signs again; its record has an empty p=

While the domain of a key is killed (anechoic response list) its record is to be
withdrawn from DNS, whatever its stage; afterwards it is to be published again.`,
		Example: `  anechoic key list
  anechoic key list --org acme
  anechoic key list --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.keyList(c.Context(), org, domain) },
	}
	c.Flags().StringVar(&org, "org", "", "only this organisation's `id`")
	c.Flags().StringVar(&domain, "domain", "", "only this `domain`")
	return c
}

func (sh *shell) keyList(ctx context.Context, org, domain string) error {
	keys, err := sh.keys(ctx, org, domain)
	if err != nil {
		return err
	}
	kills, err := sh.kills(ctx, org)
	if err != nil {
		return err
	}
	list := make([]listedKey, len(keys))
	for i, k := range keys {
		list[i] = listedKey{k, kills.of(k)}
	}
	if sh.asJSON {
		return sh.printJSON(list)
	}
	var rows [][]string
	for _, k := range list {
		stage := stageText(k.KeyInfo)
		if k.DNS != response.NothingInDNS {
			stage += "; " + strings.TrimSuffix(string(k.DNS), ",")
		}
		rows = append(rows, []string{k.Organisation, k.Domain, k.Selector, k.Algorithm, yesNo(k.Published), k.RecordName, stage})
	}
	if err := sh.table("ORG DOMAIN SELECTOR ALGORITHM PUBLISHED RECORD STAGE", rows); err != nil {
		return err
	}
	kills.tell(sh)
	for _, k := range list {
		if k.DNS != response.Withdraw && !k.Published && k.Stage != signing.StageRetired {
			sh.notef("%s: %s (anechoic key show %s %s prints it)\n", k.RecordName, orDash(k.Detail), k.Domain, k.Selector)
		}
	}
	return nil
}

// listedKey is a key with what a kill of its domain asks for.
type listedKey struct {
	signing.KeyInfo
	DNS response.InDNS `json:"dns,omitempty"`
}

// kills are the orders that killed domains, those in force and those that are over.
type kills []api.Response

// kills asks the relay for them.
func (sh *shell) kills(ctx context.Context, org string) (list kills, err error) {
	known, err := asked(ctx, sh, func(ctx context.Context, c *api.Client) (api.ResponseList, error) { return c.Responses(ctx, org) })
	for _, r := range known.Responses {
		if r.DNS() != response.NothingInDNS {
			list = append(list, r)
		}
	}
	return list, err
}

// of is what is to be done with the record of a key. What was killed once and is
// published is as it should be.
func (l kills) of(k signing.KeyInfo) response.InDNS {
	again := response.NothingInDNS
	for _, r := range l {
		if r.Scope.Org != k.Organisation || r.Scope.Domain != k.Domain && !strings.HasSuffix(r.Scope.Domain, "."+k.Domain) {
			continue
		}
		switch what := r.DNS(); {
		case what == response.Withdraw:
			return what
		case !k.Published && k.Stage != signing.StageRetired && k.Stage != signing.StageRevoked:
			again = what
		}
	}
	return again
}

// tell says which domains are killed now.
func (l kills) tell(sh *shell) {
	for _, r := range l {
		if r.DNS() == response.Withdraw {
			sh.notef("%s is killed (anechoic response show %s): %s\n", r.Scope.Domain, r.ID, r.Records)
		}
	}
}

func (sh *shell) keys(ctx context.Context, org, domain string) ([]signing.KeyInfo, error) {
	client, err := sh.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return client.Keys(ctx, org, domain)
}

func (sh *shell) keyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [ORG] DOMAIN SELECTOR",
		Short: "Print one key's DNS record as a line of a zone file",
		Long: `Print the DNS record of one key as a line of a zone file, ready to be pasted. Long
values are cut into strings of 255 octets, as DNS wants. Whether DNS has the
record now goes to standard error.`,
		Example: `  anechoic key show acme.test an1
  anechoic key show acme acme.test an1 --json`,
		Args: arguments("[ORG] DOMAIN SELECTOR"),
		RunE: func(c *cobra.Command, args []string) error { return sh.keyShow(c.Context(), args) },
	}
}

func (sh *shell) keyShow(ctx context.Context, args []string) error {
	domain, selector := args[len(args)-2], args[len(args)-1]
	org, err := sh.ownerOf(ctx, args, domain, selector)
	if err != nil {
		return err
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	key, err := client.Key(ctx, org, domain, selector)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(key)
	}
	sh.printf("%s\n", key.ZoneLine)
	published := "published"
	if !key.Published {
		published = "not published: " + key.Detail
	}
	sh.notef("%s, of %s: %s; %s\n", key.Algorithm, key.Organisation, published, stageText(key.KeyInfo))
	return nil
}

// stageText is a key's stage with what it means now.
func stageText(k signing.KeyInfo) string {
	text := string(k.Stage)
	if k.Stage == signing.StageRetiring {
		text += " until " + k.RetiresAt.UTC().Format(time.DateOnly)
	}
	if k.Signs {
		text += ", signs"
	}
	return text
}

// ownerOf is the organisation a key belongs to, named or looked up: a domain is
// of one organisation only.
func (sh *shell) ownerOf(ctx context.Context, args []string, domain, selector string) (string, error) {
	if len(args) == 3 {
		return args[0], nil
	}
	keys, err := sh.keys(ctx, "", domain)
	if err != nil {
		return "", err
	}
	for _, k := range keys {
		if k.Selector == selector {
			return k.Organisation, nil
		}
	}
	return "", &api.Problem{Code: api.CodeNotFound, Detail: "no key " + selector + " of " + domain, Fix: "anechoic key list names them"}
}
