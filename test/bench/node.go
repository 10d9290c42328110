package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"anechoic/engine/local"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

// node says how a mode's configuration and registry differ from those of the plain
// comparison, which the zero node is.
type node struct {
	organisations int    // 0: one
	domains       int    // of each; 0: one
	ed25519       bool   // one Ed25519 key signs, instead of one RSA-2048 key
	delivery      string // lines of [delivery]; empty: the generator's sink is the smart host
	unindexed     bool   // the ledger is not indexed

	// prepare is called before the relay starts, with its data directory; nil: nothing
	// is to do.
	prepare func(dataDir string) error
}

func (n node) countOrganisations() int { return max(1, n.organisations) }

// countDomains counts those of all organisations.
func (n node) countDomains() int { return n.countOrganisations() * max(1, n.domains) }

// organisation names the i-th. The first is the one that sends.
func (n node) organisation(i int) string {
	if i == 0 {
		return "bench"
	}
	return fmt.Sprintf("org%04d", i)
}

// domain names the j-th domain of the i-th organisation.
func (n node) domain(i, j int) string {
	if i == 0 && j == 0 {
		return senderDomain
	}
	return fmt.Sprintf("d%d.%s.example", j, n.organisation(i))
}

// username names the credential of the i-th organisation.
func (n node) username(i int) string { return "application@" + n.organisation(i) }

// signature is the line of the one key that every domain has. All of them share a
// file: what loading and looking up cost does not depend on whose key it is.
func (n node) signature() string {
	algorithm, name, file := "rsa-2048", selector, "dkim.pem"
	if n.ed25519 {
		algorithm, name, file = "ed25519", edwardsSelector, "ed25519.pem"
	}
	return fmt.Sprintf("dkim = [ { selector = %q, algorithm = %q, key_file = %q } ]", name, algorithm, file)
}

// edwardsSelector is the selector of the Ed25519 key.
const edwardsSelector = "s1e"

// deliveryLines is the content of [delivery].
func (n node) deliveryLines(sinkPort int) string {
	if n.delivery != "" {
		return n.delivery
	}
	return fmt.Sprintf("smart_host = %q\n", portText(sinkPort))
}

// registry writes the organisations. passwordHash is of the one password that all
// credentials have. The address, which is the way in without TLS, is the first's:
// it can belong to one only.
func (n node) registry(passwordHash string) string {
	var b strings.Builder
	for i := range n.countOrganisations() {
		fmt.Fprintf(&b, "[[organisation]]\nid = %q\nname = %[1]q\nsecurity_contact = %q\n", n.organisation(i), "security@"+n.domain(i, 0))
		for j := range max(1, n.domains) {
			fmt.Fprintf(&b, "  [[organisation.domain]]\n  name = %q\n  %s\n", n.domain(i, j), n.signature())
		}
		fmt.Fprintf(&b, "  [[organisation.source]]\n  id = \"%s-application\"\n  kind = \"credential\"\n  role = \"application\"\n  username = %q\n  password = { argon2id = %q }\n  from = [%q]\n",
			n.organisation(i), n.username(i), passwordHash, "sender@"+n.domain(i, 0))
		if i == 0 {
			fmt.Fprintf(&b, "  [[organisation.source]]\n  id = \"bench-address\"\n  kind = \"address\"\n  role = \"application\"\n  addresses = [\"127.0.0.1/32\"]\n  from = [%q]\n", sender)
		}
	}
	return b.String()
}

// makeEdwardsKey writes the Ed25519 key and gives its DNS record.
func (g *ground) makeEdwardsKey() (record string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return dkim.RecordValue(public), os.WriteFile(g.path("ed25519.key"), text, 0o600)
}

// use sets the node of the relays that start from now on, and publishes the proofs
// and keys of its domains.
func (g *ground) use(n node) error {
	rsaRecord, err := os.ReadFile(g.path("dkim.txt"))
	if err != nil {
		return err
	}
	edwards, err := g.makeEdwardsKey()
	if err != nil {
		return err
	}
	for i := range n.countOrganisations() {
		for j := range max(1, n.domains) {
			name := n.domain(i, j)
			g.zone.SetTXT("_anechoic."+name, "v=anechoic1; org="+n.organisation(i))
			g.zone.SetTXT(selector+"._domainkey."+name, strings.TrimSpace(string(rsaRecord)))
			g.zone.SetTXT(edwardsSelector+"._domainkey."+name, edwards)
		}
	}
	g.node = n
	return nil
}

// openQueue opens the queue of a relay that does not run, and makes its seal key
// if there is none.
func openQueue(ctx context.Context, dataDir string, store func(*local.Engine) custody.Engine) (*custody.Queue, *local.Engine, error) {
	key := make([]byte, sealKeySize)
	rand.Read(key) // never fails (its documentation)
	file := filepath.Join(dataDir, "seal.key")
	err := os.MkdirAll(dataDir, 0o700)
	if err == nil {
		if stored, missing := os.ReadFile(file); missing == nil {
			key = bytes.Clone(stored)
		} else {
			err = os.WriteFile(file, key, 0o600)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	engine, err := local.Open(local.Options{Dir: filepath.Join(dataDir, "store")})
	if err != nil {
		return nil, nil, err
	}
	q, err := custody.OpenQueue(ctx, store(engine), custody.Options{SealKey: key, RetryAfter: []time.Duration{time.Minute}, ExpireAfter: queueExpiry})
	if err != nil {
		return nil, nil, errors.Join(err, engine.Close())
	}
	return q, engine, nil
}

const (
	sealKeySize = 32                 // of the file seal.key in the data directory
	queueExpiry = 5 * 24 * time.Hour // the default of expire_after
)

// suspendNextHop suspends the smart host before the relay starts: mail is taken,
// and none is given.
func suspendNextHop(ctx context.Context, g *ground) func(dataDir string) error {
	return func(dataDir string) (err error) {
		q, engine, err := openQueue(ctx, dataDir, func(e *local.Engine) custody.Engine { return e })
		if err != nil {
			return err
		}
		defer func() { q.Close(); err = errors.Join(err, engine.Close()) }()
		return suspend(ctx, q, g.sinkPort)
	}
}

func suspend(ctx context.Context, q *custody.Queue, sinkPort int) error {
	return q.Suspend(ctx, custody.Suspension{Scope: custody.ScopeSite, Name: portText(sinkPort), By: "bench", Reason: "nothing is delivered in this measurement", At: time.Now().UTC()})
}
