package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/org"
)

func (sh *shell) sourceSecretCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "secret",
		Short: "Make secrets for secret headers",
		Long:  "Make secrets for secret headers: a header field that only the organisation's own mail system can write.",
		Example: `  anechoic source secret new --org acme
  anechoic source secret new --org acme --source acme-m365`,
	}
	c.AddCommand(sh.secretNewCommand(), sh.secretRetireCommand())
	return sh.group(c)
}

// newSecret is what `source secret new --json` prints.
type newSecret struct {
	Organisation string `json:"org,omitempty"`
	Source       string `json:"source,omitempty"`
	Header       string `json:"header"`
	Secret       string `json:"secret"` // shown this once
	SHA256       string `json:"sha256"`
	RegistryLine string `json:"registry_line"`
}

func (sh *shell) secretNewCommand() *cobra.Command {
	var organisation, source string
	var write bool
	var ch changing
	c := &cobra.Command{
		Use:   "new",
		Short: "Make a secret, shown once, and the registry line with its hash",
		Long: `Make a secret for a secret header and print it, this once, with the registry line
that holds its SHA-256. Nothing is stored, and no relay needs to run.

With --org and --source the line is for a source of the configured registry: where
it has secrets already, the new one stands beside them, which is how a secret is
rotated. Load the line, change the header where the mail is sent, then take the
old hash out and load again.

With --write the hash is written into the registry, and the running relay takes it:
the old secret stays right until source secret retire.`,
		Example: `  anechoic source secret new --org acme
  anechoic source secret new --org acme --source acme-m365 --write
  anechoic source secret new --org acme --source acme-m365 --config relay.toml
  anechoic source secret new --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error {
			if write || ch.dryRun {
				return sh.secretWrite(c.Context(), organisation, source, ch)
			}
			return sh.secretNew(org.ID(organisation), source)
		},
	}
	c.Flags().StringVar(&organisation, "org", "", "the organisation's `id`, which names the header")
	c.Flags().StringVar(&source, "source", "", "the source's `id` in the configured registry")
	c.Flags().BoolVar(&write, "write", false, "write the hash into the registry")
	ch.flags(c)
	return c
}

func (sh *shell) secretNew(id org.ID, source string) error {
	header := org.SecretHeader{Name: org.SecretHeaderName(id)}
	if source != "" {
		if id == "" {
			return usagef("--source needs --org: a source's id is its organisation's own")
		}
		found, err := sh.findSource(id, source)
		if err != nil {
			return err
		}
		if found.Secret != nil {
			header = *found.Secret
		}
	}
	secret := org.NewSecret()
	hash, ok := org.HashSecret(secret)
	if !ok {
		return errors.New("the secret made is none: this is a fault of the program")
	}
	made := newSecret{
		Organisation: string(id), Source: source, Header: header.Name, Secret: secret, SHA256: hex.EncodeToString(hash[:]),
		RegistryLine: secretLine(header.Name, append(header.SHA256, hash)),
	}
	if sh.asJSON {
		return sh.printJSON(made)
	}
	sh.printf("%s: %s\n%s\n", made.Header, made.Secret, made.RegistryLine)
	sh.notef("The first line is the header field to be written where the mail is sent; it is shown this once.\nThe second is for the source in the registry.\n")
	return nil
}

// secretLine is a source's secret_header in the registry.
func secretLine(name string, hashes [][32]byte) string {
	texts := make([]string, len(hashes))
	for i, h := range hashes {
		texts[i] = fmt.Sprintf("%q", hex.EncodeToString(h[:]))
	}
	return fmt.Sprintf("secret_header = { name = %q, sha256 = [%s] }", name, strings.Join(texts, ", "))
}

// findSource reads the configured registry.
func (sh *shell) findSource(id org.ID, source string) (*org.Source, error) {
	file, err := sh.configFile()
	if err != nil {
		return nil, err
	}
	_, dir, problems, _ := config.Validate(file)
	if dir == nil {
		return nil, sh.invalid(file, problems)
	}
	found, ok := dir.Source(id, source)
	if !ok {
		return nil, &api.Problem{Code: api.CodeNotFound, Detail: fmt.Sprintf("organisation %s has no source %s", id, source), Fix: "status names all; without --source the line is for any"}
	}
	return found, nil
}

func (sh *shell) sourcePasswordCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "password",
		Short: "Make passwords and their hashes for credential sources",
		Long:  "Make passwords and their argon2id hashes (RFC 9106) for credential sources. The registry holds only the hash.",
		Example: `  anechoic source password new
  anechoic source password hash < password.txt`,
	}
	c.AddCommand(sh.passwordNewCommand(), &cobra.Command{
		Use:   "hash",
		Short: "Read a password and print its hash",
		Long: `Read a password from standard input, one line, or ask for it on a terminal, and
print the registry line that holds its argon2id hash. The password is not shown.`,
		Example: `  anechoic source password hash
  anechoic source password hash --json < password.txt`,
		Args: arguments(""),
		RunE: func(*cobra.Command, []string) error {
			password, err := sh.readPassword()
			if err != nil {
				return err
			}
			return sh.printPassword(password, false)
		},
	})
	return sh.group(c)
}

// passwordMade is what `source password new|hash --json` prints.
type passwordMade struct {
	Password     string `json:"password,omitempty"` // shown this once; not of hash
	Argon2id     string `json:"argon2id"`
	RegistryLine string `json:"registry_line"`
}

func (sh *shell) printPassword(password string, show bool) error {
	made := passwordMade{Argon2id: org.HashPassword([]byte(password))}
	made.RegistryLine = fmt.Sprintf("password = { argon2id = %q }", made.Argon2id)
	if show {
		made.Password = password
	}
	if sh.asJSON {
		return sh.printJSON(made)
	}
	if show {
		sh.printf("%s\n", made.Password)
		sh.notef("The first line is the password, shown this once; the second is for the source in the registry.\n")
	}
	sh.printf("%s\n", made.RegistryLine)
	return nil
}

// maxPassword bounds a password, in octets: ours, far above what anybody types.
const maxPassword = 1024

// readPassword reads one line, without showing it on a terminal. Errors never
// show what was read.
func (sh *shell) readPassword() (string, error) {
	var text []byte
	var err error
	if f, ok := sh.in.(*os.File); ok && isTerminal(f) {
		fmt.Fprint(sh.errs, "Password: ")
		text, err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(sh.errs)
	} else {
		return readSecret(sh.in)
	}
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return checkPassword(text)
}

// readSecret reads a password that nobody types.
func readSecret(in io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxPassword+3))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return checkPassword(text)
}

// checkPassword takes one line.
func checkPassword(text []byte) (string, error) {
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case password == "":
		return "", usagef("no password was given")
	case len(password) > maxPassword:
		return "", usagef("the password has more than %d octets", maxPassword)
	case strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }):
		return "", usagef("the password has more than one line, a control character, or is not UTF-8")
	}
	return password, nil
}
