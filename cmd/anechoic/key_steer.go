package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/relay/signing"
)

// keyOrder is the flags of a command that changes keys.
type keyOrder struct {
	order       api.KeyOrder
	retireAfter string
	yes         bool
}

func (sh *shell) keyAddCommand() *cobra.Command {
	var k keyOrder
	c := &cobra.Command{
		Use:   "add [ORG] DOMAIN --algorithm ALGORITHM",
		Short: "Make a signing key for a domain and print its DNS record",
		Long: `Make a signing key for a domain, seal it in the data directory, and print the DNS
record to publish. The key is used once DNS has the record, and then instead of
older keys of its algorithm. The organisation must be named while the domain has
no key.

The registry is a file and is not changed: the line to add to it is printed.`,
		Example: `  anechoic key add acme.test --algorithm ed25519
  anechoic key add acme acme.test --algorithm rsa-2048 --selector mail1
  anechoic key add acme.test --algorithm rsa-2048 --dry-run`,
		Args: arguments("[ORG] DOMAIN"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.keySteer(c.Context(), signing.VerbAdd, args, k)
		},
	}
	c.Flags().StringVar(&k.order.Selector, "selector", "", "the key's `name` (default: counted on, as an2 after an1)")
	c.Flags().StringVar(&k.order.Algorithm, "algorithm", "", "rsa-2048 or ed25519")
	dryRunFlag(c, &k)
	return c
}

func (sh *shell) keyRotateCommand() *cobra.Command {
	var k keyOrder
	c := &cobra.Command{
		Use:   "rotate [ORG] DOMAIN",
		Short: "Make keys that follow a domain's newest ones",
		Long: `Make a new key for each algorithm of a domain, under the next name, and print the
DNS records to publish. Nothing changes before DNS has a new key's record: then
it signs, and the old key retires. Leave the old record in DNS for the time of
--retire-after from then: signatures live six days. key list tells when it is over.

The registry is a file and is not changed: the lines to add to it are printed.`,
		Example: `  anechoic key rotate acme.test
  anechoic key rotate acme.test --algorithm rsa-2048 --retire-after 14d
  anechoic key rotate acme.test --dry-run`,
		Args: arguments("[ORG] DOMAIN"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.keySteer(c.Context(), signing.VerbRotate, args, k)
		},
	}
	c.Flags().StringVar(&k.order.Algorithm, "algorithm", "", "only the keys of this `algorithm`")
	c.Flags().StringVar(&k.retireAfter, "retire-after", "7d", "how `long` the old key's record stays, from when the new one is first seen in DNS")
	dryRunFlag(c, &k)
	c.Flags().BoolVar(&k.yes, "yes", false, "do not ask")
	return c
}

func (sh *shell) keyRevokeCommand() *cobra.Command {
	var k keyOrder
	c := &cobra.Command{
		Use:   "revoke [ORG] DOMAIN SELECTOR",
		Short: "Take a key back: it never signs again",
		Long: `Take a key back, at once and for good: it never signs again, whatever the registry
and DNS say, and its name is never used again. Prints the DNS record with the
empty p= that tells receivers so (RFC 6376 section 3.6.1).

Queued mail that the key signed is held when its next attempt is due. It cannot
be signed anew: drop it and have it sent again.`,
		Example: `  anechoic key revoke acme.test an1
  anechoic key revoke acme acme.test an1 --dry-run
  anechoic key revoke acme.test an1 --yes --json`,
		Args: arguments("[ORG] DOMAIN SELECTOR"),
		RunE: func(c *cobra.Command, args []string) error {
			k.order.Selector = args[len(args)-1]
			return sh.keySteer(c.Context(), signing.VerbRevoke, args[:len(args)-1], k)
		},
	}
	dryRunFlag(c, &k)
	c.Flags().BoolVar(&k.yes, "yes", false, "do not ask")
	return c
}

func dryRunFlag(c *cobra.Command, k *keyOrder) {
	c.Flags().BoolVar(&k.order.DryRun, "dry-run", false, "only say what would be done")
}

// keySteer has the relay carry out an order; names are [ORG] DOMAIN.
func (sh *shell) keySteer(ctx context.Context, verb signing.Verb, names []string, k keyOrder) error {
	if err := k.readRetireAfter(); err != nil {
		return err
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	org, domain, err := sh.domainOwner(ctx, names)
	if err != nil {
		return err
	}
	if verb != signing.VerbAdd && !k.yes && !k.order.DryRun {
		if err := sh.askForKeys(ctx, client, verb, org, domain, k.order); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done, err := client.SteerKeys(ctx, verb, org, domain, k.order)
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(done)
	}
	sh.printKeyChange(done)
	return nil
}

// readRetireAfter reads 14d, or what Go calls a duration.
func (k *keyOrder) readRetireAfter() error {
	if k.retireAfter == "" {
		return nil
	}
	after, err := time.ParseDuration(k.retireAfter)
	if days, ok := strings.CutSuffix(k.retireAfter, "d"); ok {
		var n uint16
		n, err = parseDays(days)
		after = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || after < time.Second {
		return usagef("--retire-after %q is no time to wait: write 7d or 200h", k.retireAfter)
	}
	k.order.RetireAfterSeconds = int64(after / time.Second)
	return nil
}

func parseDays(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err
}

// domainOwner is the organisation and domain of a command, the former named or
// looked up among the domains that have keys.
func (sh *shell) domainOwner(ctx context.Context, names []string) (org, domain string, err error) {
	if len(names) == 2 {
		return names[0], names[1], nil
	}
	keys, err := sh.keys(ctx, "", names[0])
	if err != nil {
		return "", "", err
	}
	if len(keys) == 0 {
		return "", "", &api.Problem{Code: api.CodeNotFound, Detail: names[0] + " has no key that would tell its organisation", Fix: "name it: ORG " + names[0]}
	}
	return keys[0].Organisation, names[0], nil
}

// askForKeys tells what would be done and has a person agree.
func (sh *shell) askForKeys(ctx context.Context, client *api.Client, verb signing.Verb, org, domain string, order api.KeyOrder) error {
	order.DryRun = true
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	would, err := client.SteerKeys(ctx, verb, org, domain, order)
	if err != nil {
		return err
	}
	for _, note := range would.Notes {
		sh.notef("- %s\n", note)
	}
	return sh.confirm(strings.Join(keySentences(would), "; ") + ".")
}

// keySentences says what was done, a key each.
func keySentences(c api.KeyChange) (list []string) {
	tense := func(done string) string {
		if c.DryRun {
			return "would be " + done
		}
		return done
	}
	for i, k := range c.Made {
		sentence := fmt.Sprintf("%s: %s %s", tense("made"), k.Algorithm, k.RecordName)
		if i < len(c.Replaced) {
			sentence += ", to follow " + c.Replaced[i].Selector
		}
		list = append(list, sentence)
	}
	for _, k := range c.Revoked {
		list = append(list, fmt.Sprintf("%s: %s %s", tense("revoked"), k.Algorithm, k.RecordName))
	}
	return list
}

// printKeyChange writes the records to publish to standard output, ready to be
// pasted into a zone file, and the rest beside them.
func (sh *shell) printKeyChange(c api.KeyChange) {
	for _, sentence := range keySentences(c) {
		sh.notef("%s\n", sentence)
	}
	for _, k := range append(c.Made, c.Revoked...) {
		if k.ZoneLine != "" {
			sh.printf("%s\n", k.ZoneLine)
		}
	}
	for _, line := range c.RegistryLines {
		sh.notef("registry: %s\n", line)
	}
	for _, note := range c.Notes {
		sh.notef("- %s\n", note)
	}
}
