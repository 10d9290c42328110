package acceptance

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/standard/dkim"
)

// patience bounds every wait; what takes as long is broken.
const patience = 20 * time.Second

// mailbox is the domain of recipients; its exchanger is the range's receiver.
const mailbox = "mailbox.test"

// relay is the program under test with the internet around it.
type relay struct {
	dir      string
	internet *lab.Internet
	receiver *lab.Receiver
	app      *app.App
	program  *program // instead of app: in a process of its own
	api      *api.Client
	log      *logBuffer
	said     *logBuffer // every reply the relay gave to the harness's clients
}

// logBuffer is a buffer that many goroutines write to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// nodeConfig is relay.toml. The relay's own egress is 127.0.0.1, so that there is
// an address whose mail is an echo.
const nodeConfig = `hostname = "relay.anechoic.test"
data_dir = "data"
registry = "registry.toml"
[smtp]
listen = ["127.0.0.1:0"]
listen_tls = ["127.0.0.1:0"]
listen_submission = ["127.0.0.1:0"]
listen_proxy = ["127.0.0.1:0"]
proxy_protocol_from = ["127.0.0.1/32"]
max_message_bytes = "1MiB"
[dns]
servers = [%q]
[providers.microsoft365]
ranges = ["40.92.0.0/15", "40.107.0.0/16", "52.100.0.0/14", "104.47.0.0/17", "2a01:111:f400::/48", "2a01:111:f403::/48"]
exclude = ["40.95.0.0/16"]
arc_domains = ["microsoft.com"]
[providers.google]
ranges = ["209.85.128.0/17", "2a00:1450:4000::/36"]
[delivery]
bind = ["127.0.0.1"]
port = %d
retry_after = ["1h"]
[console]
listen = ""
[operations]
listen = "127.0.0.1:0"
[log]
level = "debug"
`

// newRelay writes the files of a relay with a registry and starts it. arrange
// changes the internet before the relay sees it; it may be nil.
func newRelay(t *testing.T, registry string, arrange func(*lab.Internet)) *relay {
	t.Helper()
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &relay{dir: dir, log: new(logBuffer), said: new(logBuffer)}
	if r.internet, err = lab.NewInternet(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.internet.Close() })
	if r.receiver, err = lab.NewReceiver("127.50.0.1:0", r.internet.Zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.receiver.Close() })
	r.arrangeInternet()
	if arrange != nil {
		arrange(r.internet)
	}
	writeKeys(t, dir)
	r.writeRegistry(t, registry)
	r.write(t, "relay.toml", fmt.Sprintf(nodeConfig, r.internet.DNS(), r.receiver.Addr().Port()))
	t.Cleanup(func() { r.stop(t) })
	r.start(t)
	return r
}

func (r *relay) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *relay) writeRegistry(t *testing.T, text string) {
	t.Helper()
	r.write(t, "registry.toml", text)
}

func (r *relay) configFile() string { return filepath.Join(r.dir, "relay.toml") }

// start makes the program and runs it.
func (r *relay) start(t *testing.T) {
	t.Helper()
	logger := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := app.New(app.Options{ConfigFile: r.configFile(), Log: logger, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	r.app, r.api = a, api.NewClient(filepath.Join(r.dir, "data"))
}

func (r *relay) stop(t *testing.T) {
	t.Helper()
	if r.app == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.app.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	r.app = nil
}

// restart ends the program and starts it on the same data: what it only
// remembered is forgotten, what it kept is there.
func (r *relay) restart(t *testing.T) {
	t.Helper()
	r.stop(t)
	r.start(t)
}

func (r *relay) reload(t *testing.T) {
	t.Helper()
	if err := r.app.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// facts gives the ledger, by id. Facts about refusals are shown once something
// durable was written after them.
func (r *relay) facts(t *testing.T, query url.Values) map[mail.ID][]ledger.Fact {
	t.Helper()
	found := map[mail.ID][]ledger.Fact{}
	err := r.api.Log(t.Context(), query, func(f ledger.Fact) bool {
		found[f.ID] = append(found[f.ID], f)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// metricsPage is what a monitoring system reads.
func (r *relay) metricsPage(t *testing.T) string {
	t.Helper()
	answer, err := http.Get("http://" + r.app.Ready().Operations + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", answer.Status, err)
	}
	return string(page)
}

// refusedTotal is anechoic_refused_total of a reason.
func (r *relay) refusedTotal(t *testing.T, reason mail.Reason) (n int) {
	t.Helper()
	name := fmt.Sprintf("anechoic_refused_total{reason=%q} ", string(reason))
	for line := range strings.Lines(r.metricsPage(t)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			if _, err := fmt.Sscanf(value, "%d", &n); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return n
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// await gives a message once the receiver has it.
func (r *relay) await(t *testing.T, messageID string) lab.Judgement {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	j, err := r.receiver.Await(ctx, messageID)
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, r.log)
	}
	return j
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// Addresses that mail comes from.
const (
	eop       = "40.107.1.10"         // Microsoft 365, with its name in DNS both ways
	eopSecond = "104.47.0.1"          // another
	eopIPv6   = "2a01:111:f400::1:10" // another
	eopNoPTR  = "40.107.9.1"          // in the range, without a name
	eopFalse  = "40.92.3.3"           // in the range, with a name of somebody else
	eopLiar   = "52.101.5.5"          // its PTR claims a name whose address is another
	pool      = "40.95.1.2"           // the provider's pool for what it does not vouch for
	azure     = "13.93.42.39"         // a virtual machine at Microsoft's
	vps       = "51.68.66.6"          // an attacker's
	vpsNamed  = "51.68.66.7"          // an attacker's, whose PTR and A claim to be Microsoft 365
	office    = "192.0.2.20"          // where acme's billing application may be
	hybrid    = "198.51.100.7"        // acme's listed server behind its tenant
)

// arrangeInternet puts up the names of those addresses and of the domains.
func (r *relay) arrangeInternet() {
	zone := r.internet.Zone
	both := func(addr, name string) {
		zone.SetAddresses(name, netip.MustParseAddr(addr))
		zone.SetPTR(netip.MustParseAddr(addr), name)
	}
	both(eop, "mail-a.outbound.protection.outlook.com")
	both(eopSecond, "mail-b.outbound.protection.outlook.com")
	both(eopIPv6, "mail-c.outbound.protection.outlook.com")
	both(pool, "mail-d.outbound.protection.outlook.com")
	both(eopFalse, "host.attacker.test")
	both(vpsNamed, "mail-e.outbound.protection.outlook.com")
	zone.SetPTR(netip.MustParseAddr(eopLiar), "mail-a.outbound.protection.outlook.com")
	for domain, organisation := range domains {
		r.internet.AddCustomer(domain, organisation)
		r.internet.AddReceiver(domain, r.receiver.Addr().Addr()) // for what comes back to senders
		for selector, key := range keysOf(domain) {
			name, err := mail.ParseDomain(domain)
			if err != nil {
				panic(err) // domains are constants
			}
			r.internet.Publish(dkim.KeyName(selector, name), dkim.RecordValue(key.Public()))
		}
	}
	publishProviderKeys(r.internet)
	publishSealers(r.internet)
	zone.SetTXT("_anechoic.acme-sub.test", "v=anechoic1; org=acme; sub=yes")
	for _, name := range []string{mailbox, "second.test", "busy.test", "refusing.test"} {
		r.internet.AddReceiver(name, r.receiver.Addr().Addr())
	}
}

// keys makes the signing keys once: RSA and Ed25519 for acme.test, Ed25519 for
// the others.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	made := map[string]crypto.Signer{}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	made["acme.test/an1"] = rsaKey
	for domain := range domains {
		_, edKey, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		made[domain+"/an1e"] = edKey
	}
	return made
})

// keysOf gives a domain's keys by selector.
func keysOf(domain string) map[string]crypto.Signer {
	own := map[string]crypto.Signer{}
	for name, key := range keys() {
		if d, selector, _ := strings.Cut(name, "/"); d == domain {
			own[selector] = key
		}
	}
	return own
}

func keyFile(name string) string { return strings.ReplaceAll(name, "/", "-") + ".pem" }

func keyPEM(key crypto.Signer) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err) // RSA and Ed25519 can be written
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func writeKeys(t *testing.T, dir string) {
	t.Helper()
	for name, key := range keys() {
		if err := os.WriteFile(filepath.Join(dir, keyFile(name)), keyPEM(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
