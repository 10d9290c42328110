package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
)

// askTimeout bounds a question to the relay; most look up DNS at most.
const askTimeout = time.Minute

func (sh *shell) statusCommand() *cobra.Command {
	var only string
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how the running relay stands, and whether anybody else can send as you",
		Long: `Say how the running relay stands: whether anybody but an organisation gets mail
signed as its domains, which domains DNS proves, which keys are published, what
waits, and which risks are open.

Exits with 0 if the answer to the first question is No, with 3 if it is Yes.`,
		Example: `  anechoic status
  anechoic status --org acme
  anechoic status --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.status(c.Context(), only) },
	}
	c.Flags().StringVar(&only, "org", "", "only this organisation's `id`")
	return c
}

func (sh *shell) status(ctx context.Context, only string) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, err := client.Status(ctx, only)
	if err != nil {
		return err
	}
	if sh.asJSON {
		err = sh.printJSON(status)
	} else {
		err = sh.printStatus(status)
	}
	if err == nil && status.Answer != api.Answer("") {
		err = errFindings
	}
	return err
}

func (sh *shell) printStatus(s api.Status) error {
	sh.printf("Can anybody but an organisation get mail signed as its domains?\n  ")
	fmt.Fprintf(sh.out, "%s\n", sh.emphasis(s.Answer))
	for _, o := range s.Organisations {
		for _, but := range o.But {
			sh.printf("  but %s: %s\n", o.ID, flat(but))
		}
	}
	sh.printf("\n")
	draining := ""
	if s.Draining {
		draining = "; draining: it takes no new mail"
	}
	sh.printf("relay     %s, anechoic %s, process %d, up %s%s\n", s.Hostname, s.Version, s.PID, span(time.Duration(s.UptimeSeconds)*time.Second), draining)
	sh.printf("files     %s (generation %d)\n", strings.Join(s.Files, ", "), s.Generation)
	var addresses []string
	for _, l := range s.Listeners {
		addresses = append(addresses, l.Name+" "+l.Address)
	}
	sh.printf("listens   %s\n", strings.Join(addresses, ", "))
	sh.printf("signs     RSA by %s\n", s.RSA)
	sh.printf("delivers  %s\n", s.Transport)
	sh.printf("queue     %s\n", queueSentence(s.Queue))
	if sites := sitesSentence(s.Sites); sites != "" {
		sh.printf("sites     %s\n", sites)
	}
	sh.printf("screens   %s\n", scannersSentence(s.Scanners))
	for _, one := range s.Suspensions {
		sh.printf("suspended %s %s since %s by %s (%s)\n", one.Scope, one.Name, stamp(one.At), one.By, count(one.Recipients, "recipient waits", "recipients wait"))
	}
	sh.printf("ledger    %d facts, %d segments sealed\n\n", s.Ledger.Facts, s.Ledger.Segments)
	if err := sh.table("ORGANISATION DOMAIN STANDING KEYS SOURCES", organisationRows(s.Organisations)); err != nil {
		return err
	}
	if more := s.OrganisationsTotal - len(s.Organisations); more > 0 {
		sh.notef("%d more organisations are not shown\n", more)
	}
	for _, o := range s.Organisations {
		for _, d := range o.Domains {
			if d.Detail != "" {
				sh.notef("%s: %s: %s\n", o.ID, d.Name, d.Detail)
			}
		}
	}
	sh.warn(s.Findings)
	return nil
}

// sitesSentence counts the sites that do not take what there is for them.
func sitesSentence(n api.SiteCounts) string {
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{n.Paused, "paused"}, {n.Dead, "dead"}, {n.Suspended, "suspended"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	return strings.Join(parts, ", ")
}

// scannersSentence says of each scanner whether it is there.
func scannersSentence(scanners []api.Scanner) string {
	var parts []string
	for _, s := range scanners {
		part := s.Name + " answers"
		if s.Name == "checks" {
			part = "our own checks"
		}
		if !s.Answers {
			part = s.Name + " does NOT answer (" + s.Detail + ")"
		}
		switch s.Circuit {
		case "open":
			part += ", left alone after losses: mail waits or is held"
		case "half_open":
			part += ", lost lately: the next message shows"
		}
		parts = append(parts, part)
	}
	return orDash(strings.Join(parts, "; "))
}

func queueSentence(q api.QueueDepth) string {
	if q.Messages == 0 && !q.Reading {
		return "empty"
	}
	sentence := count(q.Messages, "message", "messages") + ": recipients " + count(q.Queued, "queued", "queued") +
		", " + count(q.Leased, "in flight", "in flight") + ", " + count(q.Held, "held", "held")
	if q.Suspended > 0 {
		sentence += fmt.Sprintf(", %d suspended", q.Suspended)
	}
	if q.Reading {
		sentence += " so far: the queue is still being read after the start"
	}
	if q.OldestAgeSeconds > 0 {
		sentence += "; the oldest is due for " + span(time.Duration(q.OldestAgeSeconds)*time.Second)
	}
	return sentence
}

func organisationRows(organisations []api.Organisation) (rows [][]string) {
	for _, o := range organisations {
		var sources []string
		for _, s := range o.Sources {
			sources = append(sources, s.ID)
		}
		for i, d := range o.Domains {
			row := []string{"", d.Name, d.Standing, keysSentence(d.Keys), ""}
			if i == 0 {
				row[0], row[4] = o.ID, orDash(strings.Join(sources, ", "))
			}
			rows = append(rows, row)
		}
		if len(o.Domains) == 0 {
			rows = append(rows, []string{o.ID, "-", "-", "-", orDash(strings.Join(sources, ", "))})
		}
	}
	return rows
}

func keysSentence(keys []api.Key) string {
	var parts []string
	for _, k := range keys {
		if k.Published {
			parts = append(parts, k.Selector+" published")
		} else {
			parts = append(parts, k.Selector+" NOT published")
		}
	}
	return orDash(strings.Join(parts, ", "))
}
