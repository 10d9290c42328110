package interop

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
)

// patience bounds every wait; other programs are slower than ours.
const patience = time.Minute

// The organisation whose mail it is, and its user.
const (
	domainName = "acme.example"
	username   = "mta@acme"
	sender     = "ann@acme.example"
)

// relay is the program under test with the internet around it.
type relay struct {
	dir      string
	password string
	internet *lab.Internet
	receiver *lab.Receiver
	app      *app.App
	keys     map[string]crypto.Signer // by selector
}

const nodeConfig = `hostname = "relay.anechoic.example"
data_dir = "data"
registry = "registry.toml"
[smtp]
listen = ["127.0.0.1:0"]
listen_tls = ["127.0.0.1:0"]
listen_submission = ["127.0.0.1:0"]
%s[dns]
servers = [%q]
dnssec_probe = %q
[delivery]
port = %d
tls = %q
retry_after = ["1s"]
[console]
listen = ""
[operations]
listen = ""
`

// options are what the tests' relays differ in.
type options struct {
	internet    func(r *relay) string // makes the rest of the internet, and gives the resolver to ask; nil: the name server of the internet
	dnssecProbe string                // dns.dnssec_probe; empty: as it is
	config      string                // more of relay.toml
	registry    string                // more of registry.toml
	smtp        string                // more of the section [smtp]
	directory   string                // all of registry.toml; empty: the organisation with its mail server, and registry
	roots       *x509.CertPool
	dialWeb     func(ctx context.Context, network, address string) (net.Conn, error)

	port uint16 // of exchangers; zero: the receiver's
	tls  string // delivery.tls; empty: opportunistic
}

// start runs a relay for one organisation with a mail server's credential, whose
// domain has an RSA and an Ed25519 key.
func start(t *testing.T, o options) *relay {
	t.Helper()
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &relay{dir: dir, password: org.NewSecret()}
	if r.internet, err = lab.NewInternet(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.internet.Close() })
	if r.receiver, err = lab.NewReceiver("127.50.0.4:0", r.internet.Zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.receiver.Close() })
	r.internet.AddCustomer(domainName, "acme")
	r.internet.AddReceiver("mailbox.example", r.receiver.Addr().Addr())
	resolver := r.internet.DNS()
	if o.internet != nil {
		resolver = o.internet(r)
	}
	if o.dnssecProbe == "" {
		o.dnssecProbe = "."
	}
	r.makeKeys(t)
	if o.port == 0 {
		o.port = r.receiver.Addr().Port()
	}
	if o.tls == "" {
		o.tls = "opportunistic"
	}
	r.write(t, "relay.toml", fmt.Sprintf(nodeConfig, o.smtp, resolver, o.dnssecProbe, o.port, o.tls)+o.config)
	if o.directory == "" {
		o.directory = fmt.Sprintf(`[[organisation]]
id = "acme"
name = "Acme"
[[organisation.domain]]
name = "acme.example"
dkim = [ { selector = "an1", algorithm = "rsa-2048", key_file = "an1.pem" }, { selector = "an1e", algorithm = "ed25519", key_file = "an1e.pem" } ]
[[organisation.source]]
id = "mta"
kind = "credential"
role = "server"
internal = ["10.0.0.0/8"]
username = %q
password = { argon2id = %q }
from = ["*@acme.example"]
`, username, org.HashPassword([]byte(r.password))) + o.registry
	}
	r.write(t, "registry.toml", o.directory)
	if r.app, err = app.New(app.Options{ConfigFile: filepath.Join(dir, "relay.toml"), Version: "test", Roots: o.roots, DialWeb: o.dialWeb}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.app.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := r.app.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *relay) makeKeys(t *testing.T) {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.keys = map[string]crypto.Signer{"an1": rsaKey, "an1e": edKey}
	domain, err := mail.ParseDomain(domainName)
	if err != nil {
		t.Fatal(err)
	}
	for selector, key := range r.keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		r.write(t, selector+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
		r.internet.Publish(dkim.KeyName(selector, domain), dkim.RecordValue(key.Public()))
	}
}

func (r *relay) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// await gives a message once the receiver has it; DMARC must pass there.
func (r *relay) await(t *testing.T, messageID string) lab.Judgement {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	j, err := r.receiver.Await(ctx, messageID)
	if err != nil {
		t.Fatal(err)
	}
	if !j.Aligned || len(j.SignedBy) != 2 {
		t.Errorf("signed by %v, DMARC passes: %v", j.SignedBy, j.Aligned)
	}
	return j
}

// fact waits for an event about a recipient.
func (r *relay) fact(t *testing.T, event ledger.Event, recipient string) (found ledger.Fact) {
	t.Helper()
	client := api.NewClient(filepath.Join(r.dir, "data"))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); found.Event == ""; <-tick.C {
		err := client.Log(t.Context(), url.Values{"address": {recipient}, "event": {string(event)}}, func(f ledger.Fact) bool {
			found = f
			return false
		})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the ledger has no %s of %s: %v", event, recipient, err)
		}
	}
	return found
}

// port is the last part of an address.
func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
