package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"anechoic/control/edit"
	"anechoic/org"
)

func (sh *shell) sourceSetCommand() *cobra.Command {
	var risk riskWish
	var ch changing
	c := &cobra.Command{
		Use:   "set ORG SOURCE KEY=VALUE…",
		Short: "Change keys of a source in the registry",
		Long: `Change keys of a source in the registry, and have the running relay take them. The
keys are those of the registry, as in forwarded=hold or
limits.messages_per_hour=2000.

A list is written with commas, and replaced whole; KEY+=VALUE adds to it, KEY-=VALUE
takes away. Nothing behind = takes the key out.

Id and kind of a source stay: add another. Passwords and secrets have commands of
their own. --accept-risk=single-proof, with --reason and --expires, writes
single_proof_until.`,
		Example: `  anechoic source set acme billing limits.messages_per_hour=2000
  anechoic source set acme billing from+=noreply@acme.example
  anechoic source set acme office forwarded=hold require_dkim= --dry-run`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) == 2 && !risk.asked() {
				return usagef("%s takes ORG SOURCE KEY=VALUE…", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return sh.sourceSet(c.Context(), args[0], args[1], args[2:], risk, ch)
		},
	}
	risk.flags(c)
	ch.asking(c)
	return c
}

func (sh *shell) sourceSet(ctx context.Context, id, source string, wishes []string, risk riskWish, ch changing) error {
	var steps []step
	for _, wish := range wishes {
		s, err := readStep(wish)
		if err != nil {
			return err
		}
		steps = append(steps, s)
	}
	var accepted org.SourceEntry
	if err := risk.check(&accepted, time.Now()); err != nil {
		return err
	}
	if risk.asked() {
		steps = append(steps, step{key: "single_proof_until", operator: "=", value: edit.Value(accepted.SingleProofUntil.String()), remark: risk.remark()})
	}
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	if _, err := r.source(id, source); err != nil {
		return err
	}
	change := registryChange{edit: func(text []byte) ([]byte, error) { return applySteps(text, org.ID(id), source, steps) }}
	if risk.asked() {
		change.impact, change.question = risk.opens(id, source), true
	}
	done, err := sh.change(ctx, r, ch, change)
	return sh.finish(done, err)
}

// step is one KEY=VALUE.
type step struct {
	key      string
	operator string // =, += or -=
	value    edit.Value
	texts    []string // of a list
	unset    bool
	remark   string
}

// elsewhere is keys that are not set this way, and how they are.
var elsewhere = map[string]string{
	"id":                   "a source keeps its id: add another, then take this one away",
	"kind":                 "a source keeps its kind: add another, then take this one away",
	"password":             "anechoic source password new --org ORG --source SOURCE --write",
	"password.argon2id":    "anechoic source password new --org ORG --source SOURCE --write",
	"secret_header.sha256": "anechoic source secret new --org ORG --source SOURCE --write",
	"single_proof_until":   "it opens a hole: --accept-risk=single-proof --reason TEXT --expires DAY",
	"dkim":                 "edit the registry: it is a list of tables",
}

// readStep reads KEY=VALUE as the type of the key wants it.
func readStep(wish string) (step, error) {
	key, value, ok := strings.Cut(wish, "=")
	s := step{operator: "=", key: key}
	for _, operator := range []string{"+", "-"} {
		if bare, is := strings.CutSuffix(key, operator); is {
			s.key, s.operator = bare, operator+"="
		}
	}
	if !ok || s.key == "" {
		return s, usagef("%q is not KEY=VALUE", wish)
	}
	s.unset = value == "" && s.operator == "="
	kind, known := keyTypes()[s.key]
	if how := elsewhere[s.key]; how != "" && !(s.unset && s.key == "single_proof_until") {
		return s, usagef("%s is not set this way: %s", s.key, how)
	}
	if !known {
		return s, unknownKey(s.key)
	}
	if s.operator != "=" && kind.Kind() != reflect.Slice {
		return s, usagef("%s is no list: write %s=%s", s.key, s.key, value)
	}
	return s, s.read(kind, value)
}

func (s *step) read(kind reflect.Type, value string) error {
	switch {
	case s.unset:
	case kind.Kind() == reflect.Slice:
		for _, text := range strings.Split(value, ",") {
			if text = strings.TrimSpace(text); text == "" {
				return usagef("%s: an empty value in %q", s.key, value)
			}
			s.texts = append(s.texts, text)
		}
		s.value = edit.Texts(s.texts)
	case kind.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return usagef("%s is true or false, not %q", s.key, value)
		}
		s.value = edit.Bool(b)
	case kind.Kind() == reflect.Int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return usagef("%s is a whole number, not %q", s.key, value)
		}
		s.value = edit.Number(n)
	case kind.Kind() == reflect.String:
		s.value = edit.Text(value)
	default:
		return usagef("%s is a table: set one of the keys in it, or take it out with %s=", s.key, s.key)
	}
	return nil
}

func unknownKey(key string) error {
	known := keyTypes()
	names := make([]string, 0, len(known))
	for name := range known {
		if elsewhere[name] == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if meant := likest(key, slices.Values(names)); meant != "" {
		return usagef("sources have no key %s; did you mean %s?", key, meant)
	}
	return usagef("sources have no key %s, but: %s", key, strings.Join(names, ", "))
}

// keyTypes is the keys of a source, dotted where they stand in a table, as the
// loader of the registry takes them.
func keyTypes() map[string]reflect.Type {
	all := make(map[string]reflect.Type)
	addKeys(all, "", reflect.TypeFor[org.SourceEntry]())
	return all
}

func addKeys(all map[string]reflect.Type, above string, t reflect.Type) {
	for i := range t.NumField() {
		name, kind := above+t.Field(i).Tag.Get("toml"), t.Field(i).Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		all[name] = kind
		if kind.Kind() == reflect.Struct && kind != reflect.TypeFor[toml.LocalDate]() {
			addKeys(all, name+".", kind)
		}
	}
}

// applySteps changes the text, a key after the other.
func applySteps(text []byte, id org.ID, source string, steps []step) (_ []byte, err error) {
	for _, s := range steps {
		switch {
		case s.unset:
			text, err = edit.Unset(text, id, source, s.key)
		case s.operator == "+=":
			text, err = appendAll(text, id, source, s)
		case s.operator == "-=":
			text, err = edit.Take(text, id, source, s.key, func(item string) bool { return slices.Contains(s.texts, item) })
		default:
			text, err = edit.Set(text, id, source, s.key, s.value, s.remark)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.key, err)
		}
	}
	return text, nil
}

// appendAll adds to a list, or begins it.
func appendAll(text []byte, id org.ID, source string, s step) ([]byte, error) {
	there, err := edit.Has(text, id, source, s.key)
	if err != nil {
		return nil, err
	}
	if !there {
		return edit.Set(text, id, source, s.key, s.value, "")
	}
	for _, item := range s.texts {
		if text, err = edit.Append(text, id, source, s.key, edit.Text(item)); err != nil {
			return nil, err
		}
	}
	return text, nil
}
