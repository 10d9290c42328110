package main

import (
	"encoding/hex"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/org"
)

// sourceView is what source show --json prints: no hash of a secret or password.
type sourceView struct {
	Organisation     string   `json:"org"`
	ID               string   `json:"id"`
	Kind             string   `json:"kind"`
	Role             string   `json:"role,omitempty"`
	Forwarded        string   `json:"forwarded"`
	From             []string `json:"from,omitempty"` // none: every domain of the organisation
	Username         string   `json:"username,omitempty"`
	Addresses        []string `json:"addresses,omitempty"`
	Internal         []string `json:"internal,omitempty"`
	TenantIDs        []string `json:"tenant_ids,omitempty"`
	OriginatorOrgs   []string `json:"originator_orgs,omitempty"`
	ProviderDomains  []string `json:"provider_domains,omitempty"`
	HybridAddresses  []string `json:"hybrid_addresses,omitempty"`
	DKIM             []string `json:"dkim,omitempty"`
	SPKI             []string `json:"spki_sha256,omitempty"`
	SecretHeader     string   `json:"secret_header,omitempty"`
	Secrets          int      `json:"secrets,omitempty"` // how many values of it are right
	RequireDKIM      bool     `json:"require_dkim,omitempty"`
	SingleProofUntil string   `json:"single_proof_until,omitempty"`
	Trust            string   `json:"trust,omitempty"` // none: the organisation's, or it grows by itself

	Limits           map[string]any `json:"limits,omitempty"`             // by key of the registry; with licences their preset too
	MessagesPerHour  int            `json:"messages_per_hour,omitempty"`  // as in limits
	RecipientsPerDay int            `json:"recipients_per_day,omitempty"` // as in limits
}

func viewOfSource(s *org.Source) sourceView {
	v := sourceView{
		Organisation: string(s.Organisation), ID: s.ID, Kind: string(s.Kind), Role: string(s.Role), Forwarded: string(s.Forwarded),
		Username: s.Username, Addresses: words(s.Addresses), Internal: words(s.Internal), TenantIDs: s.TenantIDs,
		OriginatorOrgs: words(s.OriginatorOrgs), ProviderDomains: words(s.ProviderDomains), HybridAddresses: words(s.HybridAddresses),
		RequireDKIM: s.RequireDKIM, Trust: s.Trust, MessagesPerHour: s.Limits.MessagesPerHour, RecipientsPerDay: s.Limits.RecipientsPerDay,
	}
	for key, value := range limitKeys(s.Limits) {
		if v.Limits == nil {
			v.Limits = make(map[string]any)
		}
		v.Limits[key] = value
	}
	for _, p := range s.From {
		v.From = append(v.From, p.Local+"@"+p.Domain.String())
	}
	for _, k := range s.SPKI {
		v.SPKI = append(v.SPKI, hex.EncodeToString(k[:]))
	}
	for _, d := range s.DKIM {
		for _, selector := range d.Selectors {
			v.DKIM = append(v.DKIM, d.Domain.String()+":"+selector)
		}
	}
	if s.Secret != nil {
		v.SecretHeader, v.Secrets = s.Secret.Name, len(s.Secret.SHA256)
	}
	if !s.SingleProofUntil.IsZero() {
		v.SingleProofUntil = s.SingleProofUntil.Format(time.DateOnly)
	}
	return v
}

// limitKeys gives the limits that are set, with their keys in the registry and in its
// order.
func limitKeys(l org.Limits) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		entry := reflect.ValueOf(org.LimitsEntry(l))
		for i := range entry.NumField() {
			if f := entry.Field(i); !f.IsZero() && !yield(entry.Type().Field(i).Tag.Get("toml"), f.Interface()) {
				return
			}
		}
	}
}

// limitText writes them as the registry has them: messages_per_hour = 2000.
func limitText(l org.Limits) string {
	var all []string
	for key, value := range limitKeys(l) {
		if text, is := value.(string); is {
			value = strconv.Quote(text)
		}
		all = append(all, fmt.Sprintf("%s = %v", key, value))
	}
	return strings.Join(all, ", ")
}

// trustText says how far a source is trusted, and who says so.
func trustText(source, organisation string) string {
	switch {
	case source != "":
		return source
	case organisation != "":
		return organisation + ", as its organisation"
	}
	return "grows by itself"
}

func words[T fmt.Stringer](list []T) (texts []string) {
	for _, w := range list {
		texts = append(texts, w.String())
	}
	return texts
}

func sourceRows(views []sourceView, withOwner bool) (rows [][]string) {
	for _, v := range views {
		from := strings.Join(v.From, ", ")
		if from == "" {
			from = "every domain"
		}
		row := []string{v.ID, v.Kind, orDash(v.Role), from}
		if withOwner {
			row = slices.Insert(row, 0, v.Organisation)
		}
		rows = append(rows, row)
	}
	return rows
}

func (sh *shell) sourceListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [ORG]",
		Short: "List the sources in the registry",
		Long:  "List the sources in the registry, of one organisation or of all, without secrets or hashes. No relay needs to run.",
		Example: `  anechoic source list
  anechoic source list acme --json`,
		Args: arguments("[ORG]"),
		RunE: func(_ *cobra.Command, args []string) error { return sh.sourceList(args) },
	}
}

func (sh *shell) sourceList(args []string) error {
	all, err := sh.organisations(args)
	if err != nil {
		return err
	}
	views := []sourceView{}
	for _, o := range all {
		for _, s := range o.Sources {
			views = append(views, viewOfSource(s))
		}
	}
	if sh.asJSON {
		return sh.printJSON(views)
	}
	return sh.table("ORG SOURCE KIND ROLE FROM", sourceRows(views, true))
}

func (sh *shell) sourceShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORG SOURCE",
		Short: "Show what the registry says of a source",
		Long:  "Show what the registry says of a source, defaults included, without secrets or hashes of them. No relay needs to run.",
		Example: `  anechoic source show acme billing
  anechoic source show acme billing --json`,
		Args: arguments("ORG SOURCE"),
		RunE: func(_ *cobra.Command, args []string) error { return sh.sourceShow(args[0], args[1]) },
	}
}

// secondProof is what stands beside the provider's own.
func (v *sourceView) secondProof() string {
	switch {
	case v.SecretHeader != "":
		return fmt.Sprintf("%s, %s", v.SecretHeader, count(v.Secrets, "value is right", "values are right"))
	case v.SingleProofUntil != "":
		return "none until " + v.SingleProofUntil + ": a risk"
	case v.RequireDKIM:
		return "Microsoft's DKIM signature"
	}
	return ""
}

func (sh *shell) sourceShow(id, source string) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	s, err := r.source(id, source)
	if err != nil {
		return err
	}
	v := viewOfSource(s)
	if sh.asJSON {
		return sh.printJSON(v)
	}
	o, _ := r.directory.Organisation(s.Organisation)
	var rows [][]string
	for _, row := range [][]string{
		{"source", v.Organisation + "/" + v.ID}, {"kind", v.Kind}, {"role", v.Role}, {"username", v.Username},
		{"from", strings.Join(v.From, ", ")}, {"forwarded", v.Forwarded}, {"addresses", strings.Join(v.Addresses, ", ")},
		{"internal", strings.Join(v.Internal, ", ")}, {"tenants", strings.Join(v.TenantIDs, ", ")},
		{"originators", strings.Join(v.OriginatorOrgs, ", ")}, {"provider domains", strings.Join(v.ProviderDomains, ", ")},
		{"hybrid addresses", strings.Join(v.HybridAddresses, ", ")}, {"dkim", strings.Join(v.DKIM, ", ")},
		{"client keys", strings.Join(v.SPKI, ", ")}, {"second proof", v.secondProof()}, {"trust", trustText(s.Trust, o.Trust)}, {"limits", limitText(s.Limits)},
	} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	return sh.table("WHAT IS", rows)
}
