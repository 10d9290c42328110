// Package rig is the real program with an internet around it, for tests that
// harm it: processes that are killed, a disk that loses its power, next hops and
// DNS that fail, a load that never pauses, and the account of every message that
// was acknowledged.
//
// A Rig is made once and outlives many processes on one data directory. What is
// wrong is collected, not thrown: Problems has it all in the end. Everything stays
// on loopback.
package rig

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/standard/dkim"
)

// Patience bounds every wait of a rig: for a process to start, for the queue to
// run empty.
const Patience = 2 * time.Minute

// Domains are those of recipients, each with an exchanger and an address of its
// own, so that the failures of one do not rest the others. Mail for the second is
// put off now and then.
var Domains = func() (all []string) {
	for n := range 16 {
		all = append(all, fmt.Sprintf("d%d.example", n))
	}
	return all
}()

// exchanger is the address of a domain's.
func exchanger(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 50, 1, byte(10 + n)}) }

// home is where mail comes from, and where bounces go.
const home = "acme.example"

// Options say what differs between tests.
type Options struct {
	DataDir string // empty: in a folder of the rig's own
	Seed    uint64 // of what next hops do
	Chaos   float64
	Say     func(format string, args ...any) // progress; nil: silent
}

// Rig is the program's binary and files, and the internet around it.
type Rig struct {
	Hop *Hop // every recipient's mail exchanger

	options  Options
	dir      string
	data     string
	binary   string
	internet *lab.Internet
	clear    *dns.Zone // what the hop judges by: no weather there
	tenant   lab.Tenant
	errors   *os.File // what processes write to standard error

	mu       sync.Mutex // guards what follows
	changed  *sync.Cond
	address  string // where a running process takes mail; empty: none does
	problems []string
}

const nodeConfig = `hostname = "relay.anechoic.example"
data_dir = %q
registry = "registry.toml"
[storage]
reserve = "64MiB"
[smtp]
listen = ["127.0.0.1:0"]
[dns]
servers = [%q]
timeout = "1s"
[providers.microsoft365]
ranges = [%q]
[delivery]
port = %d
retry_after = ["1s"]
[console]
listen = ""
[operations]
listen = ""
[log]
level = "warn"
`

// New builds the binary, opens the internet and writes the program's files.
func New(o Options) (r *Rig, err error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	r = &Rig{options: o, clear: &dns.Zone{}}
	r.changed = sync.NewCond(&r.mu)
	made := r
	defer func() {
		if err != nil {
			err, r = errors.Join(err, made.Close()), nil
		}
	}()
	if r.dir, err = os.MkdirTemp("", "anechoic"); err != nil { // short: the path of a control socket has at most 107 octets
		return r, err
	}
	r.binary, r.data = filepath.Join(r.dir, "anechoic"), o.DataDir
	if r.data == "" {
		r.data = filepath.Join(r.dir, "data")
	}
	if out, err := exec.Command("go", "build", "-o", r.binary, "anechoic/cmd/anechoic").CombinedOutput(); err != nil {
		return r, fmt.Errorf("go build: %w\n%s", err, out)
	}
	if r.errors, err = os.Create(filepath.Join(r.dir, "stderr")); err != nil {
		return r, err
	}
	if err := r.openInternet(); err != nil {
		return r, err
	}
	return r, r.writeFiles()
}

// Close ends the internet and removes the files. Processes are to be ended before.
func (r *Rig) Close() error {
	var errs []error
	if r.Hop != nil {
		errs = append(errs, r.Hop.Close())
	}
	if r.internet != nil {
		errs = append(errs, r.internet.Close())
	}
	if r.errors != nil {
		errs = append(errs, r.errors.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(r.dir))...)
}

// Problems is everything that was wrong so far.
func (r *Rig) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.problems...)
}

// maxProblems are told; more are of the same kind.
const maxProblems = 50

func (r *Rig) problem(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

// Said is the end of what the processes wrote to standard error.
func (r *Rig) Said() string {
	text, err := os.ReadFile(r.errors.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8000):])
}

func (r *Rig) openInternet() (err error) {
	if r.internet, err = lab.NewInternet(); err != nil {
		return err
	}
	r.internet.Zone.SetTTL(time.Second) // so that DNS matters all the time
	var addresses []netip.Addr
	for n := range len(Domains) + 1 {
		addresses = append(addresses, exchanger(n))
	}
	if r.Hop, err = openHop(addresses, r.clear, r.options.Seed, r.options.Chaos); err != nil {
		return err
	}
	for n, d := range append(slices.Clone(Domains), home) {
		r.internet.AddReceiver(d, addresses[n])
	}
	r.internet.AddCustomer(home, "acme")
	r.tenant = lab.Tenant{GUID: "11111111-1111-4111-8111-111111111111", Originator: home, SecretName: "X-Acme-Relay-Key", Secret: org.NewSecret()}
	return nil
}

const registry = `[[organisation]]
id = "acme"
name = "Acme"
[[organisation.domain]]
name = %q
dkim = [ { selector = "an1e", algorithm = "ed25519", key_file = "key.pem" } ]
[[organisation.source]]
id = "m365"
kind = "microsoft365"
tenant_ids = [%q]
originator_orgs = [%q]
secret_header = { name = %q, sha256 = ["%x"] }
`

func (r *Rig) writeFiles() error {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	domain, err := mail.ParseDomain(home)
	if err != nil {
		return err
	}
	name, value := dkim.KeyName("an1e", domain), dkim.RecordValue(key.Public())
	r.internet.Publish(name, value)
	r.clear.SetTXT(strings.TrimSuffix(name, "."), value)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	sum, _ := org.HashSecret(r.tenant.Secret)
	for name, text := range map[string]string{
		"key.pem":       string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"registry.toml": fmt.Sprintf(registry, home, r.tenant.GUID, home, r.tenant.SecretName, sum),
		"relay.toml":    fmt.Sprintf(nodeConfig, r.data, r.internet.DNS(), lab.ProviderRange, r.Hop.Port()),
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rig) configFile() string { return filepath.Join(r.dir, "relay.toml") }

func (r *Rig) client() *api.Client { return api.NewClient(r.data) }

// setAddress tells senders where to go.
func (r *Rig) setAddress(a string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.address = a
	r.changed.Broadcast()
}
