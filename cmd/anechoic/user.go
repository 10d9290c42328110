package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/edit"
	"anechoic/org"
)

func (sh *shell) userCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "user",
		Short: "Look after the names with which applications log in",
		Long: `Look after the user names and passwords with which applications, scanners and
servers log in (SMTP AUTH). Each is a source of kind credential in the registry,
which these commands change; a password is shown once, and kept as a hash.`,
		Example: `  anechoic user list
  anechoic user add acme billing@acme --from billing@acme.example
  anechoic user password billing@acme
  anechoic user remove billing@acme`,
	}
	c.AddCommand(sh.userListCommand(), sh.userAddCommand(), sh.userPasswordCommand(), sh.userRemoveCommand())
	return sh.group(c)
}

func (sh *shell) userListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [ORG]",
		Short: "List user names in the registry",
		Long:  "List the user names in the registry, of one organisation or of all: whose they are, and what they may send as. No relay needs to run.",
		Example: `  anechoic user list
  anechoic user list acme --json`,
		Args: arguments("[ORG]"),
		RunE: func(_ *cobra.Command, args []string) error { return sh.userList(args) },
	}
}

func (sh *shell) userList(args []string) error {
	all, err := sh.organisations(args)
	if err != nil {
		return err
	}
	views, rows := []sourceView{}, [][]string{}
	for _, o := range all {
		for _, s := range o.Sources {
			if s.Kind != org.Credential {
				continue
			}
			v := viewOfSource(s)
			views = append(views, v)
			rows = append(rows, []string{v.Username, v.Organisation, v.ID, v.Role, strings.Join(v.From, ", "), orDash(strings.Join(v.Addresses, ", "))})
		}
	}
	if sh.asJSON {
		return sh.printJSON(views)
	}
	return sh.table("USERNAME ORG SOURCE ROLE FROM ADDRESSES", rows)
}

func (sh *shell) userAddCommand() *cobra.Command {
	var w sourceWish
	c := &cobra.Command{
		Use:   "add ORG USERNAME --from ADDRESS",
		Short: "Write a user name into the registry, with a password",
		Long: `Write a user name of an organisation into the registry, as a source of kind
credential, and have the running relay take it. The password is made and goes to
standard output, this once, or is read from --secret-file.

--from says what it may send as: From, Sender and the envelope's sender alike.`,
		Example: `  anechoic user add acme billing@acme --from billing@acme.example
  anechoic user add acme erp --from '*@acme.example' --network 192.0.2.0/24 --messages-per-hour 2000
  anechoic user add acme scanner --from scanner@acme.example --secret-file - < password.txt`,
		Args: arguments("ORG USERNAME"),
		RunE: func(c *cobra.Command, args []string) error { return sh.userAdd(c.Context(), args[0], args[1], w) },
	}
	e, f := &w.entry, c.Flags()
	f.StringVar(&e.ID, "source", "", "the `id` of its source (default: made of the user name)")
	f.StringVar(&e.Role, "role", string(org.Application), "application, or server for a mail server")
	f.StringArrayVar(&e.From, "from", nil, "an `address` it may send as, or *@domain; several times for several")
	f.StringArrayVar(&e.Internal, "internal", nil, "an inner `network` of the server")
	f.StringArrayVar(&e.Addresses, "network", nil, "the only `network` its password is right from; several times for several")
	f.IntVar(&w.limits.MessagesPerHour, "messages-per-hour", 0, "at most so `many` messages an hour")
	f.IntVar(&w.limits.RecipientsPerDay, "recipients-per-day", 0, "at most so `many` recipients a day")
	f.StringVar(&w.secretFile, "secret-file", "", "take the password from this `file`, - for standard input")
	w.flags(c)
	return c
}

func (sh *shell) userAdd(ctx context.Context, id, username string, w sourceWish) error {
	if len(w.entry.From) == 0 {
		return usagef("--from is missing: say what %s may send as, for example --from billing@acme.example", username)
	}
	w.entry.Kind, w.entry.Username = string(org.Credential), username
	if w.entry.ID == "" {
		r, err := sh.openRegistry()
		if err != nil {
			return err
		}
		o, err := r.organisation(id)
		if err != nil {
			return err
		}
		w.entry.ID = freeSource(r.directory, o.ID, username)
	}
	return sh.sourceAdd(ctx, id, w)
}

// freeSource makes a source's id of a user name: billing of billing@acme, or
// billing-2 where that is taken.
func freeSource(dir *org.Directory, id org.ID, username string) string {
	local, _, _ := strings.Cut(strings.ToLower(username), "@")
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, local), "-")
	const room = 56 // of the 63 characters of an id, to count on
	if name = strings.TrimRight(name[:min(len(name), room)], "-"); name == "" {
		name = "user"
	}
	for i, free := 2, name; ; i++ {
		if _, taken := dir.Source(id, free); !taken {
			return free
		}
		free = fmt.Sprintf("%s-%d", name, i)
	}
}

// user finds the source of a user name.
func (r *openRegistry) user(username string) (*org.Source, error) {
	if s, ok := r.directory.Username(username); ok {
		return s, nil
	}
	return nil, unknown(fmt.Sprintf("there is no user name %q in the registry", username), username, func(yield func(string) bool) {
		for o := range r.directory.Organisations() {
			for _, s := range o.Sources {
				if s.Username != "" && !yield(s.Username) {
					return
				}
			}
		}
	}, "anechoic user list names all")
}

func (sh *shell) userPasswordCommand() *cobra.Command {
	var file string
	var ch changing
	c := &cobra.Command{
		Use:   "password USERNAME",
		Short: "Give a user name another password",
		Long: `Give a user name another password, and have the running relay take it. The
password is made and goes to standard output, this once, or is read from
--secret-file. The old one is wrong from that moment: to change without a gap, add a
second user name with the same --from, change the application, remove the first.`,
		Example: `  anechoic user password billing@acme
  anechoic user password billing@acme --secret-file - < password.txt`,
		Args: arguments("USERNAME"),
		RunE: func(c *cobra.Command, args []string) error { return sh.userPassword(c.Context(), args[0], file, ch) },
	}
	c.Flags().StringVar(&file, "secret-file", "", "take the password from this `file`, - for standard input")
	ch.asking(c)
	return c
}

func (sh *shell) userPassword(ctx context.Context, username, file string, ch changing) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	s, err := r.user(username)
	if err != nil {
		return err
	}
	return sh.setPassword(ctx, r, s, file, ch)
}

// setPassword gives a credential source another password.
func (sh *shell) setPassword(ctx context.Context, r *openRegistry, s *org.Source, file string, ch changing) error {
	password, err := sh.newPassword(file, ch.dryRun)
	if err != nil {
		return err
	}
	id, source, username := s.Organisation, s.ID, s.Username
	hash := org.HashPassword([]byte(password))
	done, err := sh.change(ctx, r, ch, registryChange{
		edit: func(text []byte) ([]byte, error) {
			return edit.Set(text, id, source, "password.argon2id", edit.Text(hash), "")
		},
		impact:   fmt.Sprintf("The old password of %s is wrong from then on.", username),
		question: true,
	})
	if err == nil && done.Changed && file == "" {
		done.Username, done.Password = username, password
		sh.printSecrets(done, org.Credential)
	}
	return sh.finish(done, err)
}

func (sh *shell) userRemoveCommand() *cobra.Command {
	var ch changing
	c := &cobra.Command{
		Use:   "remove USERNAME",
		Short: "Take a user name out of the registry",
		Long: `Take a user name out of the registry, with its source, and have the running relay
take that. It cannot log in from then on; what it sent before and is still queued is
held at its next attempt.`,
		Example: `  anechoic user remove billing@acme --dry-run
  anechoic user remove billing@acme --yes`,
		Args: arguments("USERNAME"),
		RunE: func(c *cobra.Command, args []string) error { return sh.userRemove(c.Context(), args[0], ch) },
	}
	ch.asking(c)
	return c
}

func (sh *shell) userRemove(ctx context.Context, username string, ch changing) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	s, err := r.user(username)
	if err != nil {
		return err
	}
	return sh.removeSource(ctx, r, s.Organisation, s.ID, ch)
}
