package lab

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"anechoic/app"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
)

// Relay is this project's relay, unchanged, in the range: its own directory, its
// own ports, the range's DNS.
type Relay struct {
	App *app.App
	Dir string
}

// Customer is an organisation of the registry the range writes.
type Customer struct {
	ID       string
	Domain   string
	Tenant   Tenant
	Username string // of its application, if it has one
	Password string
	Sources  string // further sources, as the registry has them
}

// NewCustomer makes an organisation with a tenant of its own and, if asked, an
// application. Secrets and passwords are made anew.
func NewCustomer(internet *Internet, id string, number byte, application bool) Customer {
	c := Customer{
		ID: id, Domain: id + ".example",
		Tenant: Tenant{
			GUID: guid("customer", number), Originator: id + ".example", Host: internet.ProviderHost(),
			SecretName: "X-" + strings.ToUpper(id[:1]) + id[1:] + "-Relay-Key", Secret: org.NewSecret(),
		},
	}
	if application {
		c.Username, c.Password = "billing@"+id, org.NewSecret()
	}
	internet.AddCustomer(c.Domain, id)
	return c
}

// guid makes a fixed GUID for a number of a kind: the range is the same each time.
func guid(kind string, number byte) string {
	sum := sha256.Sum256(append([]byte(kind), number))
	h := fmt.Sprintf("%x", sum[:16])
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
}

// registry writes the customer as the registry has it.
func (c Customer) registry() string {
	digest, _ := org.HashSecret(c.Tenant.Secret)
	text := fmt.Sprintf(`
[[organisation]]
id = %q
name = %q
security_contact = "security@%s"
  [[organisation.domain]]
  name = %[3]q
  dkim = [ { selector = "an1", algorithm = "rsa-2048", key_file = "%[1]s-an1.pem" }, { selector = "an1e", algorithm = "ed25519", key_file = "%[1]s-an1e.pem" } ]
  [[organisation.source]]
  id = "%[1]s-m365"
  kind = "microsoft365"
  tenant_ids = [%[4]q]
  originator_orgs = [%[5]q]
  secret_header = { name = %[6]q, sha256 = ["%[7]x"] }
`, c.ID, c.ID, c.Domain, c.Tenant.GUID, c.Tenant.Originator, c.Tenant.SecretName, digest)
	if c.Username != "" {
		text += fmt.Sprintf(`  [[organisation.source]]
  id = "%s-billing"
  kind = "credential"
  role = "application"
  username = %q
  password = { argon2id = %q }
  from = ["billing@%s"]
`, c.ID, c.Username, org.HashPassword([]byte(c.Password)), c.Domain)
	}
	return text + c.Sources
}

// makeKeys makes the customer's signing keys, beside the registry, and publishes
// them as its administrator would.
func (c Customer) makeKeys(internet *Internet, dir string) error {
	domain, err := mail.ParseDomain(c.Domain)
	if err != nil {
		return err
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	for selector, key := range map[string]crypto.Signer{"an1": rsaKey, "an1e": edKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, c.ID+"-"+selector+".pem"), block, 0o600); err != nil {
			return err
		}
		internet.Publish(dkim.KeyName(selector, domain), dkim.RecordValue(key.Public()))
	}
	return nil
}

// WriteRelay writes configuration, registry and keys of a relay for customers into
// a directory, publishes the keys, and gives the configuration's path. Recipients'
// exchangers listen on port.
func WriteRelay(internet *Internet, dir string, port uint16, customers []Customer) (string, error) {
	registry := "# Written by the range.\n"
	for _, c := range customers {
		registry += c.registry()
		if err := c.makeKeys(internet, dir); err != nil {
			return "", fmt.Errorf("lab: keys of %s: %w", c.ID, err)
		}
	}
	config := fmt.Sprintf(`hostname = "relay.anechoic.example"
data_dir = "data"
registry = "registry.toml"
[smtp]
listen = ["127.0.0.1:0"]
[dns]
servers = [%q]
[providers.microsoft365]
ranges = [%q]
exclude = []
[delivery]
port = %d
retry_after = ["1s", "2s", "5s"]
[console]
listen = ""
[operations]
listen = "127.0.0.1:0"
`, internet.DNS(), ProviderRange, port)
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "registry.toml"), []byte(registry), 0o600),
		os.WriteFile(filepath.Join(dir, "relay.toml"), []byte(config), 0o600))
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	return filepath.Join(dir, "relay.toml"), nil
}

// StartRelay starts the relay that WriteRelay writes, in this process.
func StartRelay(internet *Internet, dir string, port uint16, customers []Customer, log *slog.Logger) (*Relay, error) {
	file, err := WriteRelay(internet, dir, port, customers)
	if err != nil {
		return nil, err
	}
	a, err := app.New(app.Options{ConfigFile: file, Log: log, Version: "lab"})
	if err != nil {
		return nil, err
	}
	if err := a.Start(); err != nil {
		return nil, errors.Join(err, a.Stop(context.Background()))
	}
	return &Relay{App: a, Dir: dir}, nil
}

// Addr is where the relay takes mail.
func (r *Relay) Addr() string { return r.App.Ready().SMTP[0] }

// stopWithin bounds how long the relay may take to stop.
const stopWithin = 10 * time.Second

// Stop ends the relay.
func (r *Relay) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return r.App.Stop(ctx)
}
