package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"anechoic/control/edit"
	"anechoic/org"
)

// sourceWish is the flags of source add.
type sourceWish struct {
	entry       org.SourceEntry
	limits      org.LimitsEntry
	identities  []string // domain:selector
	certificate []string // files
	header      string
	risk        riskWish
	secretFile  string
	changing
}

func (sh *shell) sourceAddCommand() *cobra.Command {
	var w sourceWish
	c := &cobra.Command{
		Use:   "add ORG SOURCE --kind KIND",
		Short: "Write a source into the registry",
		Long: `Write a source of an organisation into the registry and have the running relay
take it. What each kind needs:

  microsoft365  --tenant-id; --originator (default: the organisation's domains); a
                secret header is made, unless --require-dkim
  google        --dkim DOMAIN:SELECTOR; a secret header is made
  credential    --username, --from; a password is made, unless --secret-file
  certificate   --certificate FILE or --spki HASH, --from
  address       --network, --from

A secret or password that is made goes to standard output, this once: the registry
holds its hash only. Where to put the header is told by the guides for the two
providers.

--accept-risk=single-proof takes the place of a second proof of a microsoft365
source for a few days: whoever can send through the tenant is believed until then.
It needs --reason and --expires.`,
		Example: `  anechoic source add acme office --kind microsoft365 --tenant-id 11111111-1111-4111-8111-111111111111
  anechoic source add acme billing --kind credential --username billing@acme --from billing@acme.example
  anechoic source add acme scanner --kind certificate --certificate scanner.crt --from scanner@acme.example
  anechoic source add acme onprem --kind address --network 203.0.113.10/32 --role server --internal 10.0.0.0/8 --from '*@acme.example'`,
		Args: arguments("ORG SOURCE"),
		RunE: func(c *cobra.Command, args []string) error {
			w.entry.ID = args[1]
			return sh.sourceAdd(c.Context(), args[0], w)
		},
	}
	e, f := &w.entry, c.Flags()
	f.StringVar(&e.Kind, "kind", "", "microsoft365, google, credential, certificate or address")
	f.StringVar(&e.Role, "role", "", "application or server; not of providers")
	f.StringArrayVar(&e.From, "from", nil, "an `address` it may send as, or *@domain; several times for several")
	f.StringVar(&e.Forwarded, "forwarded", "", "what becomes of mail it did not write: reject, hold or seal")
	f.StringArrayVar(&e.Internal, "internal", nil, "an inner `network` of the server")
	f.StringArrayVar(&e.Addresses, "network", nil, "a `network` it sends from")
	f.IntVar(&w.limits.MessagesPerHour, "messages-per-hour", 0, "at most so `many` messages an hour")
	f.IntVar(&w.limits.RecipientsPerDay, "recipients-per-day", 0, "at most so `many` recipients a day")
	f.StringArrayVar(&e.TenantIDs, "tenant-id", nil, "the tenant's `GUID`")
	f.StringArrayVar(&e.OriginatorOrgs, "originator", nil, "an accepted `domain` of the tenant")
	f.StringArrayVar(&e.ProviderDomains, "provider-domain", nil, "the tenant's own `name`.onmicrosoft.com")
	f.StringArrayVar(&e.HybridAddresses, "hybrid-address", nil, "a `network` of own servers that relay through the tenant")
	f.BoolVar(&e.RequireDKIM, "require-dkim", false, "Microsoft's DKIM signature is the second proof, instead of a header")
	f.StringArrayVar(&w.identities, "dkim", nil, "`DOMAIN:SELECTOR` of a key the organisation has at Google")
	f.StringVar(&w.header, "header", "", "the `name` of the secret header (default: made of the organisation's id); for other kinds too, as one more lock")
	f.StringVar(&e.Username, "username", "", "the `name` it logs in with")
	f.StringVar(&w.secretFile, "secret-file", "", "take the password from this `file`, - for standard input")
	f.StringArrayVar(&e.SPKI, "spki", nil, "SHA-256 of the client key, in `hex`")
	f.StringArrayVar(&w.certificate, "certificate", nil, "a client certificate's `file`, PEM")
	w.risk.flags(c)
	w.flags(c)
	f.BoolVar(&w.yes, "yes", false, "do not ask")
	return c
}

func (sh *shell) sourceAdd(ctx context.Context, id string, w sourceWish) error {
	if w.entry.Kind == "" {
		return usagef("--kind is missing: microsoft365, google, credential, certificate or address")
	}
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	o, err := r.organisation(id)
	if err != nil {
		return err
	}
	secrets, err := sh.completeSource(o, &w)
	if err != nil {
		return err
	}
	impact := sourceImpact(id, &w.entry)
	if w.risk.asked() {
		impact = w.risk.opens(id, w.entry.ID) + " " + impact
	}
	done, err := sh.change(ctx, r, w.changing, registryChange{
		edit:     func(text []byte) ([]byte, error) { return edit.AddSource(text, org.ID(id), w.entry, w.risk.remark()) },
		impact:   impact,
		question: w.risk.asked(),
	})
	if err == nil && done.Changed {
		done.Header, done.Secret, done.Username, done.Password = secrets.header, secrets.secret, secrets.username, secrets.password
		sh.printSecrets(done, org.Kind(w.entry.Kind))
	}
	return sh.finish(done, err)
}

// madeSecrets is what a person sees once.
type madeSecrets struct{ header, secret, username, password string }

// completeSource fills in what is made or read from files.
func (sh *shell) completeSource(o *org.Organisation, w *sourceWish) (made madeSecrets, err error) {
	e := &w.entry
	if w.limits != (org.LimitsEntry{}) {
		e.Limits = &w.limits
	}
	for _, text := range w.identities {
		domain, selector, ok := strings.Cut(text, ":")
		if !ok || domain == "" || selector == "" {
			return made, usagef("--dkim %q is not DOMAIN:SELECTOR", text)
		}
		e.DKIM = append(e.DKIM, org.IdentityEntry{Domain: domain, Selectors: []string{selector}})
	}
	for _, file := range w.certificate {
		hash, err := certificateKey(file)
		if err != nil {
			return made, err
		}
		e.SPKI = append(e.SPKI, hash)
	}
	if err := w.risk.check(e, time.Now()); err != nil {
		return made, err
	}
	if org.Kind(e.Kind) == org.Microsoft365 && len(e.OriginatorOrgs) == 0 {
		for _, d := range o.Domains {
			e.OriginatorOrgs = append(e.OriginatorOrgs, d.Name.String())
		}
	}
	header := org.Kind(e.Kind) == org.Google || org.Kind(e.Kind) == org.Microsoft365 && !e.RequireDKIM && !w.risk.asked()
	if header || w.header != "" {
		made.header, made.secret = w.header, org.NewSecret()
		if made.header == "" {
			made.header = org.SecretHeaderName(o.ID)
		}
		e.SecretHeader = &org.SecretHeaderEntry{Name: made.header, SHA256: []string{secretHash(made.secret)}}
	}
	if org.Kind(e.Kind) != org.Credential {
		return made, nil
	}
	made.username = e.Username
	if made.password, err = sh.newPassword(w.secretFile, w.dryRun); err != nil {
		return made, err
	}
	e.Password = &org.PasswordEntry{Argon2id: org.HashPassword([]byte(made.password))}
	if w.secretFile != "" {
		made.password = "" // whoever gave it knows it
	}
	return made, nil
}

func secretHash(secret string) string {
	hash, _ := org.HashSecret(secret) // what NewSecret makes is one
	return hex.EncodeToString(hash[:])
}

// maxCertificate bounds a file with a certificate: a long one has 10 KiB.
const maxCertificate = 1 << 20

// certificateKey is the SHA-256 of a certificate's key, as the registry has it.
func certificateKey(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("--certificate: %w", err)
	}
	if info.Size() > maxCertificate {
		return "", usagef("--certificate %s is larger than 1 MiB: it is no certificate", file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--certificate: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", usagef("--certificate %s does not begin with a certificate in PEM (-----BEGIN CERTIFICATE-----)", file)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", usagef("--certificate %s: %v", file, err)
	}
	hash := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(hash[:]), nil
}

// sourceImpact says what a new source lets through.
func sourceImpact(id string, e *org.SourceEntry) string {
	as := "every domain of " + id
	if len(e.From) > 0 {
		as = strings.Join(e.From, ", ")
	}
	who := map[org.Kind]string{
		org.Microsoft365: "every mailbox and connector of the tenant",
		org.Google:       "the organisation's Workspace",
		org.Credential:   "whoever knows the password",
		org.Certificate:  "whoever has the certificate's key",
		org.Address:      "whoever sends from its addresses",
	}[org.Kind(e.Kind)]
	return fmt.Sprintf("With source %s %s may send as %s.", e.ID, who, as)
}

// printSecrets writes what was made to standard output, this once.
func (sh *shell) printSecrets(done registryChanged, kind org.Kind) {
	if sh.asJSON {
		return
	}
	if done.Secret != "" {
		sh.printf("%s: %s\n", done.Header, done.Secret)
		sh.notef("This header field is to be written where the mail is sent; it is shown this once.\n")
	}
	if done.Password != "" {
		sh.printf("%s\n", done.Password)
		sh.notef("This is the password of %s, shown this once.\n", done.Username)
	}
	switch kind {
	case org.Microsoft365:
		sh.notef("Next: the connector and the rule in Exchange Online, docs/microsoft365.md section 3 has the PowerShell\n")
	case org.Google:
		sh.notef("Next: the route and the header in the Admin console, docs/google.md section 3\n")
	}
}

// riskWish is the flags by which a dangerous choice is made.
type riskWish struct {
	accept, reason, expires string
	until                   toml.LocalDate
}

// The one risk that can be accepted, and for how long at most.
const (
	riskSingleProof = "single-proof"
	maxRiskDays     = 30
)

func (w *riskWish) flags(c *cobra.Command) {
	c.Flags().StringVar(&w.accept, "accept-risk", "", "accept a `risk`: "+riskSingleProof)
	c.Flags().StringVar(&w.reason, "reason", "", "why, for whoever reads the registry")
	c.Flags().StringVar(&w.expires, "expires", "", "the last `day` of it, as 2027-01-31, 30 days from now at most")
}

func (w *riskWish) asked() bool { return w.accept != "" }

// check wants a reason and an end, and writes the choice into the source.
func (w *riskWish) check(e *org.SourceEntry, now time.Time) error {
	if w.accept == "" {
		if w.reason != "" || w.expires != "" {
			return usagef("--reason and --expires are of --accept-risk")
		}
		return nil
	}
	day, err := time.Parse(time.DateOnly, w.expires)
	switch {
	case w.accept != riskSingleProof:
		return usagef("--accept-risk=%s: %s is the one risk that can be accepted", w.accept, riskSingleProof)
	case strings.TrimSpace(w.reason) == "" || strings.ContainsFunc(w.reason, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }):
		return usagef("--accept-risk needs --reason, a line of text: who reads the registry later wants to know")
	case err != nil:
		return usagef("--accept-risk needs --expires, a day as 2027-01-31")
	case day.After(now.AddDate(0, 0, maxRiskDays)) || day.Before(now.UTC().Truncate(24*time.Hour)):
		return usagef("--expires %s: from today to %d days from now", w.expires, maxRiskDays)
	}
	w.until = toml.LocalDate{Year: day.Year(), Month: int(day.Month()), Day: day.Day()}
	e.SingleProofUntil = &w.until
	return nil
}

// opens says in plain words what is accepted.
func (w *riskWish) opens(id, source string) string {
	return fmt.Sprintf("Until %s anybody who can get mail through the tenant of source %s, by any of its mailboxes or connectors, gets it signed as %s: no second proof is asked for.", w.expires, source, id)
}

func (w *riskWish) remark() string {
	if !w.asked() {
		return ""
	}
	return "accepted: " + strings.TrimSpace(w.reason)
}

func (sh *shell) sourceRemoveCommand() *cobra.Command {
	var ch changing
	c := &cobra.Command{
		Use:   "remove ORG SOURCE",
		Short: "Take a source out of the registry",
		Long: `Take a source of an organisation out of the registry, and have the running relay
take that. Mail that comes by it is refused from then on; what came before and is
still queued is held at its next attempt.`,
		Example: `  anechoic source remove acme billing --dry-run
  anechoic source remove acme billing --yes`,
		Args: arguments("ORG SOURCE"),
		RunE: func(c *cobra.Command, args []string) error { return sh.sourceRemove(c.Context(), args[0], args[1], ch) },
	}
	ch.asking(c)
	return c
}

func (sh *shell) sourceRemove(ctx context.Context, id, source string, ch changing) error {
	r, err := sh.openRegistry()
	if err != nil {
		return err
	}
	if _, err := r.source(id, source); err != nil {
		return err
	}
	return sh.removeSource(ctx, r, org.ID(id), source, ch)
}

func (sh *shell) removeSource(ctx context.Context, r *openRegistry, id org.ID, source string, ch changing) error {
	done, err := sh.change(ctx, r, ch, registryChange{
		edit:     func(text []byte) ([]byte, error) { return edit.RemoveSource(text, id, source) },
		impact:   fmt.Sprintf("Mail that comes by source %s of %s is refused from then on; what of it is queued is held.", source, id),
		question: true,
	})
	return sh.finish(done, err)
}

// newPassword reads a password from a file or standard input, or makes one.
func (sh *shell) newPassword(file string, dryRun bool) (string, error) {
	if file == "" || dryRun {
		return newRandomPassword(), nil
	}
	return sh.secretOf(file)
}

// secretOf reads a password from a file; from a prompt or standard input where file is
// empty or -.
func (sh *shell) secretOf(file string) (string, error) {
	if file == "" || file == "-" {
		return sh.readPassword()
	}
	in, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("--secret-file: %w", err)
	}
	defer in.Close()
	text, err := readSecret(in)
	if err != nil {
		return "", errors.Join(fmt.Errorf("--secret-file %s", file), err)
	}
	return text, nil
}
