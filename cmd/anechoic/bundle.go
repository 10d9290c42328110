package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"time"

	"anechoic/control/api"
	"anechoic/control/probe"
)

// Everything in a bundle goes through redact, whatever wrote it: what has the form of
// an address of mail, a secret, a hash or a key is replaced by a word.
var redactions = []struct {
	form *regexp.Regexp
	word string
}{
	{regexp.MustCompile(`anx1_[a-z2-7]*`), "(secret)"},
	{regexp.MustCompile(`(?i)AGE-SECRET-KEY-[0-9A-Z-]+`), "(secret)"},
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?-----END [A-Z0-9 ]+-----`), "(key)"},
	{regexp.MustCompile(`\$argon2[a-z]*\$[^\s"']*`), "(hash)"},
	{regexp.MustCompile(`(?i)\b[0-9a-f]{32,}\b`), "(hash)"},
	{regexp.MustCompile(`[A-Za-z0-9+/_=-]{43,}`), "(key)"},
	{regexp.MustCompile(`[^\s"<>(),:;=\[\]\\]*@[^\s"'<>(),:;=\[\]\\]+`), "(address)"},
}

func redact(text string) string {
	for _, r := range redactions {
		text = r.form.ReplaceAllString(text, r.word)
	}
	return text
}

// bundleMetrics bounds what is taken of /metrics.
const bundleMetrics = 4 << 20

// sourceSummary is what a bundle says of a source: how it is made, not what proves it.
type sourceSummary struct {
	Organisation  string `json:"org"`
	ID            string `json:"id"`
	Kind          string `json:"kind"`
	Role          string `json:"role,omitempty"`
	Forwarded     string `json:"forwarded,omitempty"`
	Senders       int    `json:"from"`
	Addresses     int    `json:"addresses"`
	Tenants       int    `json:"tenants"`
	Secrets       int    `json:"secrets"`
	RequireDKIM   bool   `json:"require_dkim"`
	OneProofUntil string `json:"single_proof_until,omitempty"`
}

// writeBundle writes a gzipped tar that only this user reads. An existing file is
// never overwritten; one that was not finished is taken away.
func (e *examination) writeBundle(ctx context.Context, name string, found *diagnosis) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(fmt.Errorf("bundle: %w", err), os.Remove(name))
		}
	}()
	packed := gzip.NewWriter(f)
	archive := tar.NewWriter(packed)
	for _, part := range e.bundleParts(ctx, found) {
		text := []byte(redact(part.text))
		header := tar.Header{Name: "anechoic/" + part.name, Mode: 0o600, Size: int64(len(text)), ModTime: time.Now().UTC().Truncate(time.Second)}
		if err := archive.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := archive.Write(text); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), packed.Close(), f.Sync())
}

type bundlePart struct{ name, text string }

func (e *examination) bundleParts(ctx context.Context, found *diagnosis) []bundlePart {
	parts := []bundlePart{{"doctor.json", indented(found)}, {"version.json", indented(thisBuild())}}
	if e.usable() {
		parts = append(parts, bundlePart{"relay.toml", e.config.Show()})
	}
	if e.dir != nil {
		parts = append(parts, bundlePart{"sources.json", indented(e.summaries())})
	}
	findings := api.Findings(e.findings)
	if e.status != nil {
		parts = append(parts, bundlePart{"status.json", indented(e.status)}, bundlePart{"metrics.txt", metricsOf(ctx, e.status)})
		findings = e.status.Findings
	}
	return append(parts, bundlePart{"findings.json", indented(findings)})
}

func indented(value any) string {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text) + "\n"
}

func (e *examination) summaries() (list []sourceSummary) {
	for o := range e.dir.Organisations() {
		if e.wish.org != "" && string(o.ID) != e.wish.org {
			continue
		}
		for _, s := range o.Sources {
			one := sourceSummary{
				Organisation: string(o.ID), ID: s.ID, Kind: string(s.Kind), Role: string(s.Role), Forwarded: string(s.Forwarded),
				Senders: len(s.From), Addresses: len(s.Addresses), Tenants: len(s.TenantIDs), RequireDKIM: s.RequireDKIM,
			}
			if s.Secret != nil {
				one.Secrets = len(s.Secret.SHA256)
			}
			if !s.SingleProofUntil.IsZero() {
				one.OneProofUntil = s.SingleProofUntil.Format(time.DateOnly)
			}
			list = append(list, one)
		}
	}
	return list
}

// metricsOf is what the operations listener shows, or why there is nothing.
func metricsOf(ctx context.Context, s *api.Status) string {
	for _, l := range s.Listeners {
		if l.Name != "operations" {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, probe.CheckTime)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+probe.Reachable(l.Address)+"/metrics", nil)
		if err != nil {
			return err.Error()
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(io.LimitReader(answer.Body, bundleMetrics))
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	return "no operations listener"
}
