package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/control/edit"
	"anechoic/org"
)

// Commands that change the registry: each reads the file, changes its text, has
// the whole configuration checked with the new text as config validate does, shows
// the difference, writes the file, and has the running relay take it. A change
// that would not load is never written; one that the relay refuses is taken back.

// changing is the flags of every such command.
type changing struct {
	dryRun, noApply, yes bool
}

func (ch *changing) flags(c *cobra.Command) {
	c.Flags().BoolVar(&ch.dryRun, "dry-run", false, "only show the difference, and change nothing")
	c.Flags().BoolVar(&ch.noApply, "no-apply", false, "write the file, and leave the running relay as it is")
}

func (ch *changing) asking(c *cobra.Command) {
	ch.flags(c)
	c.Flags().BoolVar(&ch.yes, "yes", false, "do not ask")
}

// openRegistry is the configured registry, which loads.
type openRegistry struct {
	config    string // relay.toml
	dataDir   string
	file      edit.File
	directory *org.Directory
	findings  []org.Finding
}

// openRegistry reads the registry to change it. One that does not load is left
// alone.
func (sh *shell) openRegistry() (*openRegistry, error) {
	file, err := sh.configFile()
	if err != nil {
		return nil, err
	}
	cfg, problems := config.Load(file)
	if len(problems) > 0 {
		return nil, sh.invalid(file, problems)
	}
	r := &openRegistry{config: file, dataDir: cfg.DataDir}
	if r.file, err = edit.Open(cfg.Registry); err != nil {
		return nil, fmt.Errorf("the registry that %s names cannot be read: %w", file, err)
	}
	if _, r.directory, problems, r.findings = config.Propose(file, r.file.Text); len(problems) > 0 {
		return nil, sh.invalidBefore(file, problems)
	}
	return r, nil
}

// invalidBefore says that the registry does not load as it is.
func (sh *shell) invalidBefore(file string, problems []org.Problem) error {
	if sh.asJSON {
		return sh.invalid(file, problems)
	}
	sh.printf("%s\n", problems[0])
	sh.notef("anechoic: the configuration does not load as it is, so nothing was changed: %s, anechoic config validate lists all\n", count(len(problems), "problem", "problems"))
	return errFindings
}

// organisation finds one, or says which was meant.
func (r *openRegistry) organisation(id string) (*org.Organisation, error) {
	if o, ok := r.directory.Organisation(org.ID(id)); ok {
		return o, nil
	}
	return nil, unknown(fmt.Sprintf("there is no organisation %q in the registry", id), id, func(yield func(string) bool) {
		for o := range r.directory.Organisations() {
			if !yield(string(o.ID)) {
				return
			}
		}
	}, "anechoic org list names all; anechoic org add makes one")
}

// source finds a source of an organisation, or says which was meant.
func (r *openRegistry) source(id, source string) (*org.Source, error) {
	o, err := r.organisation(id)
	if err != nil {
		return nil, err
	}
	if s, ok := r.directory.Source(o.ID, source); ok {
		return s, nil
	}
	return nil, unknown(fmt.Sprintf("organisation %s has no source %q", id, source), source, func(yield func(string) bool) {
		for _, s := range o.Sources {
			if !yield(s.ID) {
				return
			}
		}
	}, "anechoic source list "+id+" names all")
}

// unknown is the error for a word that names nothing.
func unknown(detail, word string, known iter.Seq[string], fix string) error {
	if meant := likest(word, known); meant != "" {
		fix = "did you mean " + meant + "?"
	}
	return &api.Problem{Code: api.CodeNotFound, Detail: detail, Fix: fix}
}

// likest is the known word that differs least, if it is not quite another.
func likest(word string, known iter.Seq[string]) (found string) {
	best := len(word)/3 + 2
	for k := range known {
		if len(k)-len(word) < best && len(word)-len(k) < best {
			if d := difference(word, k); d < best {
				found, best = k, d
			}
		}
	}
	return found
}

// difference is the number of letters to add, take away or change.
func difference(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before, row[j+1] = row[j+1], min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// registryChange is one change of the registry.
type registryChange struct {
	edit     func(text []byte) ([]byte, error)
	impact   string // what it does, in sentences
	question bool   // ask first
}

// registryChanged is what changed, as --json prints it.
type registryChanged struct {
	File       string        `json:"file"`
	DryRun     bool          `json:"dry_run"`
	Changed    bool          `json:"changed"`
	Impact     string        `json:"impact"`
	Diff       string        `json:"diff"`
	Applied    bool          `json:"applied"`
	Generation uint64        `json:"generation,omitempty"`
	Findings   []api.Finding `json:"findings"` // that came with the change
	Header     string        `json:"header,omitempty"`
	Secret     string        `json:"secret,omitempty"` // shown this once
	Username   string        `json:"username,omitempty"`
	Password   string        `json:"password,omitempty"` // shown this once
	Records    []string      `json:"records,omitempty"`  // to publish, as lines of a zone file
}

// largeRegistry is from how many octets on memory is worth a thought.
const largeRegistry = 8 << 20

// change carries a change out, up to the relay that takes it.
func (sh *shell) change(ctx context.Context, r *openRegistry, ch changing, c registryChange) (done registryChanged, err error) {
	text, err := c.edit(r.file.Text)
	if err != nil {
		return done, editFault(err)
	}
	done = registryChanged{File: r.file.Path, DryRun: ch.dryRun, Impact: c.impact, Diff: discreet(edit.Diff(r.file.Path, r.file.Text, text)), Findings: []api.Finding{}}
	if r.directory, c.edit = nil, nil; len(text) > largeRegistry {
		runtime.GC() // the Directory of before makes room for that of after
	}
	_, _, problems, findings := config.Propose(r.config, text)
	if len(problems) > 0 {
		sh.notef("anechoic: the registry would not load with this change, so nothing was written:\n")
		return done, sh.invalid(r.config, problems)
	}
	done.Findings = newFindings(r.findings, findings)
	if done.Diff == "" {
		sh.notef("The registry says so already: nothing was changed\n")
		return done, nil
	}
	sh.showChange(done)
	if ch.dryRun {
		return done, nil
	}
	if c.question && !ch.yes {
		if err := sh.confirm(c.impact); err != nil {
			return done, err
		}
	}
	return done, sh.write(ctx, r, ch, text, &done)
}

// editFault gives errors of the editor their exit code.
func editFault(err error) error {
	switch {
	case errors.Is(err, edit.ErrNotFound):
		return &api.Problem{Code: api.CodeNotFound, Detail: err.Error()}
	case errors.Is(err, edit.ErrThere):
		return &api.Problem{Code: api.CodeConflict, Detail: err.Error()}
	case errors.Is(err, edit.ErrChanged):
		return &api.Problem{Code: api.CodeConflict, Detail: err.Error(), Fix: "nothing was written: run the command again"}
	}
	return err
}

// newFindings are those that were not there before.
func newFindings(before, after []org.Finding) []api.Finding {
	known := make(map[org.Finding]bool, len(before)) // a large registry has a great many
	for _, f := range before {
		known[f] = true
	}
	fresh := slices.DeleteFunc(slices.Clone(after), func(f org.Finding) bool { return known[f] })
	return append([]api.Finding{}, api.Findings(fresh)...)
}

// passwordHash is what a diff need not show.
var passwordHash = regexp.MustCompile(`\$argon2[^"'\s]*`)

// discreet is a diff for the eyes of whoever stands behind.
func discreet(diff string) string {
	return passwordHash.ReplaceAllLiteralString(strings.ReplaceAll(diff, "\r\n", "\n"), "$argon2id$…")
}

// showChange prints the difference: with --dry-run it is the answer, else a
// remark.
func (sh *shell) showChange(done registryChanged) {
	if sh.asJSON {
		return
	}
	out := sh.errs
	if done.DryRun {
		out = sh.out
	}
	for line := range strings.Lines(done.Diff) {
		s := style("")
		switch {
		case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"):
			s = bold
		case line[0] == '+':
			s = good
		case line[0] == '-':
			s = danger
		case line[0] == '@':
			s = faint
		}
		if line = strings.TrimSuffix(line, "\n"); s == "" {
			fmt.Fprintln(out, printable(line))
			continue
		}
		fmt.Fprintln(out, sh.paint(out, s, line))
	}
	sh.warn(done.Findings)
	if done.Impact != "" {
		sh.notef("%s\n", done.Impact)
	}
	if done.DryRun {
		sh.notef("Nothing was changed: this was a dry run\n")
	}
}

// write puts the text in the file's place, and has the relay take it.
func (sh *shell) write(ctx context.Context, r *openRegistry, ch changing, text []byte, done *registryChanged) error {
	written, err := r.file.Replace(text)
	if err != nil {
		return editFault(err)
	}
	done.Changed = true
	if ch.noApply {
		sh.notef("Written to %s. The running relay does not know yet: anechoic apply\n", r.file.Path)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	took, err := api.NewClient(r.dataDir).Reload(ctx)
	var refused *api.Problem
	switch {
	case err == nil:
		done.Applied, done.Generation = true, took.Generation
		sh.notef("In force: generation %d\n", took.Generation)
		return nil
	case errors.Is(err, api.ErrNotRunning):
		sh.notef("Written to %s. No relay runs: it counts from the next start\n", r.file.Path)
		return nil
	case errors.As(err, &refused):
		return sh.takeBack(r, written, done, err)
	}
	return fmt.Errorf("written to %s, but whether the relay took it is not known (anechoic apply): %w", r.file.Path, err)
}

// takeBack writes the old text again: a registry that the relay refuses would keep
// it from starting.
func (sh *shell) takeBack(r *openRegistry, written edit.File, done *registryChanged, refused error) error {
	if _, err := written.Replace(r.file.Text); err != nil {
		return fmt.Errorf("the relay refused the change, and %s could not be put back: %w", r.file.Path, errors.Join(err, refused))
	}
	done.Changed = false
	sh.notef("The relay refused the change: %s is as it was before (--no-apply writes it all the same)\n", r.file.Path)
	return refused
}

// finish prints what a change gave, beside what was said on the way.
func (sh *shell) finish(done registryChanged, err error) error {
	if err != nil || !sh.asJSON {
		return err
	}
	return sh.printJSON(done)
}
