package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/edit"
	"anechoic/org"
)

// secretWrite makes a secret and writes its hash beside those a source has.
func (sh *shell) secretWrite(ctx context.Context, id, source string, ch changing) error {
	if id == "" || source == "" {
		return usagef("--write needs --org and --source: it writes into the source")
	}
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	s, err := r.source(id, source)
	if err != nil {
		return err
	}
	made := madeSecrets{header: org.SecretHeaderName(s.Organisation), secret: org.NewSecret()}
	hash, change := secretHash(made.secret), registryChange{}
	if s.Secret != nil {
		made.header = s.Secret.Name
		change.edit = func(text []byte) ([]byte, error) {
			return edit.Append(text, org.ID(id), source, "secret_header.sha256", edit.Text(hash))
		}
		change.impact = fmt.Sprintf("Old values of %s stay right until: anechoic source secret retire %s %s", made.header, id, source)
	} else {
		change.edit = func(text []byte) ([]byte, error) {
			return edit.Set(text, org.ID(id), source, "secret_header", edit.SecretHeader(made.header, []string{hash}), "")
		}
		change.impact = fmt.Sprintf("Mail of source %s that does not carry %s is refused from then on.", source, made.header)
	}
	kind := s.Kind
	done, err := sh.change(ctx, r, ch, change)
	if err == nil && done.Changed {
		done.Header, done.Secret = made.header, made.secret
		sh.printSecrets(done, kind)
	}
	return sh.finish(done, err)
}

func (sh *shell) secretRetireCommand() *cobra.Command {
	var hash string
	var ch changing
	c := &cobra.Command{
		Use:   "retire ORG SOURCE",
		Short: "Take old secrets of a source out of the registry",
		Long: `Take the hashes of old secrets of a source out of the registry: all but the last in
the list, which is the newest, or the one that --hash begins. Mail that still
carries an old secret is refused from then on, so change the header where the mail
is sent first. The last one is never taken: remove the source instead.`,
		Example: `  anechoic source secret retire acme office --dry-run
  anechoic source secret retire acme office --hash 8dd43d06 --yes`,
		Args: arguments("ORG SOURCE"),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.secretRetire(c.Context(), args[0], args[1], strings.ToLower(hash), ch)
		},
	}
	c.Flags().StringVar(&hash, "hash", "", "how the `hash` begins that goes (default: all but the last)")
	ch.asking(c)
	return c
}

func (sh *shell) secretRetire(ctx context.Context, id, source, hash string, ch changing) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	s, err := r.source(id, source)
	if err != nil {
		return err
	}
	gone, err := oldSecrets(s, hash)
	if err != nil {
		return err
	}
	name := s.Secret.Name
	done, err := sh.change(ctx, r, ch, registryChange{
		edit: func(text []byte) ([]byte, error) {
			return edit.Take(text, org.ID(id), source, "secret_header.sha256", func(item string) bool { return gone[item] })
		},
		impact:   fmt.Sprintf("Mail that still carries an old value of %s is refused from then on (%s).", name, count(len(gone), "value goes", "values go")),
		question: true,
	})
	return sh.finish(done, err)
}

// oldSecrets chooses which hashes go; one stays.
func oldSecrets(s *org.Source, begins string) (map[string]bool, error) {
	if s.Secret == nil {
		return nil, &api.Problem{Code: api.CodeConflict, Detail: fmt.Sprintf("source %s has no secret header", s.ID)}
	}
	gone := make(map[string]bool)
	for i, h := range s.Secret.SHA256 {
		text := hex.EncodeToString(h[:])
		if begins == "" && i < len(s.Secret.SHA256)-1 || begins != "" && strings.HasPrefix(text, begins) {
			gone[text] = true
		}
	}
	switch {
	case begins != "" && len(gone) == 0:
		return nil, &api.Problem{Code: api.CodeNotFound, Detail: fmt.Sprintf("no secret of source %s has a hash that begins with %s", s.ID, begins)}
	case len(gone) == len(s.Secret.SHA256), len(gone) == 0:
		return nil, &api.Problem{Code: api.CodeConflict, Detail: fmt.Sprintf("source %s would have no secret left", s.ID), Fix: "make a new one first: anechoic source secret new --write"}
	}
	return gone, nil
}

func newRandomPassword() string { return rand.Text() }

func (sh *shell) passwordNewCommand() *cobra.Command {
	var id, source string
	var write bool
	var ch changing
	c := &cobra.Command{
		Use:   "new",
		Short: "Make a password, shown once, and its hash",
		Long: `Make a password of 130 bits and print it, this once, with the registry line that
holds its argon2id hash. With --write the hash takes the place of the one that the
source of --org and --source has, and the running relay takes it: the old password is
wrong from that moment.`,
		Example: `  anechoic source password new
  anechoic source password new --org acme --source billing --write
  anechoic source password new --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			if write || ch.dryRun {
				return sh.passwordWrite(c.Context(), id, source, ch)
			}
			return sh.printPassword(newRandomPassword(), true)
		},
	}
	c.Flags().StringVar(&id, "org", "", "the organisation's `id`")
	c.Flags().StringVar(&source, "source", "", "the source's `id` in the configured registry")
	c.Flags().BoolVar(&write, "write", false, "write the hash into the registry")
	ch.asking(c)
	return c
}

func (sh *shell) passwordWrite(ctx context.Context, id, source string, ch changing) error {
	if id == "" || source == "" {
		return usagef("--write needs --org and --source: it writes into the source")
	}
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	s, err := r.source(id, source)
	if err != nil {
		return err
	}
	if s.Kind != org.Credential {
		return usagef("source %s is of kind %s: only credentials have a password", source, s.Kind)
	}
	return sh.setPassword(ctx, r, s, "", ch)
}
