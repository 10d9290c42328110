package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/mail"
)

func (sh *shell) sourceSeenCommand() *cobra.Command {
	var org string
	var limit int
	c := &cobra.Command{
		Use:   "seen [TENANT]",
		Short: "List tenants that sent mail here and are nobody's source",
		Long: `List tenants of a provider whose mail was refused because they are nobody's
source: how much they sent, as whom, and samples of their envelopes. With the id
of a tenant, or --org, the samples are shown too.

It is for whoever finds an own tenant missing. Adding a tenant to the registry
authorises every mailbox and every connector in it, so ask its administrator
first: the domains it claims prove nothing, anybody can write them. Nothing is
ever added by itself.`,
		Example: `  anechoic source seen
  anechoic source seen --org acme
  anechoic source seen 66666666-6666-4666-8666-666666666666 --json`,
		Args: arguments("[TENANT]"),
		RunE: func(c *cobra.Command, args []string) error {
			tenant := ""
			if len(args) > 0 {
				tenant = args[0]
			}
			return sh.sourceSeen(c.Context(), org, tenant, limit)
		},
	}
	c.Flags().StringVar(&org, "org", "", "tenants that claimed a domain of this organisation's `id`")
	c.Flags().IntVar(&limit, "limit", 100, "at most so `many` tenants, those with most messages")
	return c
}

func (sh *shell) sourceSeen(ctx context.Context, org, tenant string, limit int) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	page, err := client.Seen(ctx, url.Values{"org": {org}, "tenant": {tenant}, "limit": {strconv.Itoa(limit)}})
	if err != nil {
		return err
	}
	if sh.asJSON {
		return sh.printJSON(page.Tenants)
	}
	if err := sh.table("TENANT ORIGINATOR REFUSED FIRST LAST CLAIMS FROM NOW", seenRows(page.Tenants)); err != nil {
		return err
	}
	if org != "" || tenant != "" {
		for _, k := range page.Tenants {
			sh.printSamples(k)
		}
	}
	sh.notefSeen(page)
	return nil
}

func seenRows(tenants []api.SeenTenant) (rows [][]string) {
	for _, k := range tenants {
		now := "refused"
		if k.Source != "" {
			now = "source " + k.Source
		}
		rows = append(rows, []string{
			k.Tenant.Tenant, k.Originator.String(), strconv.FormatUint(k.Messages, 10), stamp(k.First), stamp(k.Last),
			orDash(joinText(k.Claimed)), orDash(joinText(k.From) + map[bool]string{true: ", …"}[k.More]), now,
		})
	}
	return rows
}

// joinText lists words.
func joinText[T any](list []T) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = fmt.Sprint(w)
	}
	return strings.Join(words, ", ")
}

func (sh *shell) printSamples(k api.SeenTenant) {
	sh.printf("\n%s, refused as %s; the latest envelopes:\n", k.Tenant.Tenant, reasonCounts(k.Reasons))
	for _, s := range k.Samples {
		sh.printf("  %s  %s -> @%s  from %s\n", stamp(s.Time), sender(s.MailFrom.String()), s.Rcpt, s.Peer)
	}
}

func reasonCounts(reasons map[mail.Reason]uint64) string {
	var words []string
	for _, r := range mail.Reasons() {
		if n := reasons[r]; n > 0 {
			words = append(words, fmt.Sprintf("%s %d times", r, n))
		}
	}
	return strings.Join(words, ", ")
}

// notefSeen tells what to be careful about.
func (sh *shell) notefSeen(page api.SeenPage) {
	for _, k := range page.Tenants {
		for _, l := range k.Replace {
			sh.notef("SECRET LEAKED: tenant %s knows the secret header %s of %s, source %s: replace it (last seen %s)\n",
				k.Tenant.Tenant, l.Header, l.Organisation, l.Source, stamp(l.Last))
		}
	}
	if len(page.Tenants) > 0 {
		sh.notef("Adding a tenant to tenant_ids authorises all of its mailboxes and connectors; what it claims here proves nothing. Ask its administrator first.\n")
	}
	if page.Total > len(page.Tenants) {
		sh.notef("%d of %d are shown: say --limit\n", len(page.Tenants), page.Total)
	}
}
