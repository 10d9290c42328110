package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/signing"
	"anechoic/standard/dkim"
	"anechoic/watch/response"
)

const keyRegistry = `
[[organisation]]
id = "acme"
  [[organisation.domain]]
  name = "acme.test"
  dkim = [ { selector = "an1", algorithm = "ed25519" } ]
  [[organisation.domain]]
  name = "bare.test"
`

// keyRelay is as much of a relay as the key commands ask, on a control socket. The
// key of its registry is published.
type keyRelay struct {
	config string
}

func newKeyRelay(t *testing.T) *keyRelay {
	t.Helper()
	reg, problems := org.ParseRegistry("registry.toml", []byte(keyRegistry))
	dir, more, findings := org.Build(reg, org.Providers{}, nil, 1, time.Now())
	if len(problems)+len(more) > 0 {
		t.Fatal(problems, more)
	}
	engine, zone, folder := memory.New(), new(dns.Zone), shortTempDir(t)
	lives, err := signing.OpenLives(t.Context(), engine)
	check(t, err)
	keys, err := signing.OpenKeys(folder)
	check(t, err)
	check(t, keys.Follow(lives))
	set, problems := keys.Prepare(t.Context(), dir, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	keys.Use(set)
	queue, err := custody.OpenQueue(t.Context(), engine, custody.Options{SealKey: bytes.Repeat([]byte{1}, 32), RetryAfter: []time.Duration{time.Minute}, ExpireAfter: time.Hour})
	check(t, err)
	log := slog.New(slog.DiscardHandler)
	signer := &signing.Signer{Keys: keys, Lives: lives, Resolver: zone}
	server := &api.Server{
		Queue: queue, Ledger: engine, Keys: signer, Locksmith: &signing.Locksmith{Keys: keys, Lives: lives, Signer: signer}, Log: log,
		Directory: func() (*org.Directory, []org.Finding) { return dir, findings },
		Node:      func() api.Node { return api.Node{} }, Reload: func(context.Context) error { return nil },
		Standing:   func(context.Context, *org.Domain) (string, string) { return "verified", "" },
		Responding: api.Responding{Orders: func(context.Context) ([]response.Order, error) { return nil, nil }},
	}
	socket, err := api.Listen(folder, log)
	check(t, err)
	control := api.NewHTTPServer(server.Handler(), log)
	ended := make(chan error, 1)
	go func() { ended <- control.Serve(socket) }()
	t.Cleanup(func() {
		_ = control.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Error(err)
		}
		check(t, keys.Close())
	})
	an1 := signing.KeyRef{Organisation: "acme", Domain: mustDomain(t, "acme.test"), Selector: "an1", Algorithm: org.Ed25519}
	public, err := keys.Public(an1)
	check(t, err)
	zone.SetTXT(an1.RecordName(), dkim.RecordValue(public))
	r := &keyRelay{config: filepath.Join(folder, "relay.toml")}
	check(t, os.WriteFile(r.config, fmt.Appendf(nil, "hostname = \"relay.test\"\ndata_dir = %q\nregistry = \"registry.toml\"\n", folder), 0o600))
	return r
}

// shortTempDir is a directory whose path a socket's address can hold.
func shortTempDir(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "anx")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(folder)) })
	return folder
}

func mustDomain(t *testing.T, name string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(name)
	check(t, err)
	return d
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run gives what a command prints, and its exit code.
func (r *keyRelay) run(args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	code = run(append(args, "--config", r.config), strings.NewReader(""), &o, &e)
	return o.String(), e.String(), code
}

func TestKeyCommandsFromTheFirstPublishedKeyOn(t *testing.T) {
	r := newKeyRelay(t)
	for _, step := range []struct {
		args         string
		code         int
		onOut, onErr string
	}{
		{"key rotate acme.test --dry-run", exitOK, "", "would be made: ed25519 an2._domainkey.acme.test, to follow an1"},
		{"key rotate acme.test", exitUsage, "", "would be made: ed25519 an2._domainkey.acme.test, to follow an1. Say --yes"},
		{"key rotate acme.test --retire-after 2d --yes", exitUsage, "", "6 days at least"},
		{"key rotate acme.test --retire-after soon --yes", exitUsage, "", "is no time to wait"},
		{"key rotate acme.test --retire-after 10d --yes", exitOK, "an2._domainkey.acme.test. IN TXT", `registry: { selector = "an2", algorithm = "ed25519" }`},
		{"key list", exitOK, "an1._domainkey.acme.test  active, signs", "an2._domainkey.acme.test: the name does not exist"},
		{"key add acme.test --algorithm ed25519 --selector an2", exitConflict, "", "is a key already"},
		{"key add acme.test", exitUsage, "", "rsa-2048 or ed25519"},
		{"key add bare.test --algorithm ed25519", exitNotFound, "", "name it: ORG bare.test"},
		{"key add acme bare.test --algorithm ed25519", exitOK, "an1e._domainkey.bare.test. IN TXT", "made: ed25519 an1e._domainkey.bare.test"},
		{"key revoke acme.test an1", exitUsage, "", "would be revoked"},
		{"key revoke acme.test an1 --dry-run", exitOK, `p=" )`, "no other key of acme.test is published"},
		{"key show acme.test an1", exitOK, "p=", "active, signs"},
		{"key revoke acme.test an1 --yes", exitOK, `an1._domainkey.acme.test. IN TXT ( "v=DKIM1; k=ed25519; p=" )`, "held when its next attempt is due"},
		{"key show acme.test an1", exitOK, `p=" )`, "but DNS still publishes a key here"},
		{"key list", exitOK, "revoked", ""},
		{"key add acme.test --algorithm ed25519 --selector an1", exitConflict, "", "never used again"},
		{"key revoke acme.test an9 --yes", exitNotFound, "", "no key an9"},
		{"key revoke acme.test", exitUsage, "", "takes [ORG] DOMAIN SELECTOR"},
	} {
		out, errs, code := r.run(strings.Fields(step.args)...)
		if code != step.code || !strings.Contains(out, step.onOut) || !strings.Contains(errs, step.onErr) {
			t.Errorf("anechoic %s left with %d, want %d\nout: %s\nerr: %s", step.args, code, step.code, out, errs)
		}
	}
	var change api.KeyChange
	out, _, _ := r.run("key", "revoke", "acme.test", "an2", "--yes", "--json")
	if err := json.Unmarshal([]byte(out), &change); err != nil || len(change.Revoked) != 1 || change.Revoked[0].Stage != signing.StageRevoked {
		t.Errorf("as JSON: %v %s", err, out)
	}
}
