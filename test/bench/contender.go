package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"anechoic/control/api"
	"anechoic/org"
)

// contender is a relay to be measured.
type contender struct {
	name  string
	terms Terms
	load  []string // what the generator needs to be let in
	start func(ctx context.Context) (running, error)
}

// running is a relay that takes mail. The caller stops it.
type running struct {
	addr string
	data string // its data directory; of this project's relay only
	pids string // roots of its process trees, with commas
	stop func() error
	kill func() // at once; of this project's relay only
}

// The generator's way in: a credential over TLS.
const (
	username = "application@bench"
	password = "bench-password-of-no-use"
)

var credentialOverTLS = []string{"-starttls", "-auth", username + ":" + password}

// pureGo is this project's relay: `anechoic serve`, as `go build` makes it.
func pureGo(g *ground) contender {
	return contender{
		name: "Anechoic", load: credentialOverTLS,
		terms: Terms{
			Source: "credential, over TLS (STARTTLS, AUTH PLAIN)", Fsync: "yes, before each 250 (group commit)",
			DKIM: "rsa-sha256, 2048 bits, relaxed/relaxed", Signer: "Go crypto/rsa, no cgo", TLSOut: "none: the sink offers none",
			Organisations: g.node.countOrganisations(), Domains: g.node.countDomains(),
		},
		start: func(ctx context.Context) (running, error) {
			return startRelay(ctx, g, g.path("anechoic"), "serve", "--config")
		},
	}
}

// withLibcrypto is the relay built with the tag libcrypto, as packages have it.
func withLibcrypto(g *ground) contender {
	c := pureGo(g)
	c.name, c.terms.Signer = "Anechoic with libcrypto", "libcrypto.so.3, no cgo"
	c.start = func(ctx context.Context) (running, error) {
		r, err := startRelay(ctx, g, g.path("anechoic-libcrypto"), "serve", "--config")
		if err != nil {
			return r, err
		}
		status, err := api.NewClient(r.data).Status(ctx, "bench")
		if err == nil && status.RSA == "Go" {
			err = errors.New("the relay built with libcrypto signs with Go: libcrypto.so.3 is not there, or not as it should be (Debian: apt-get install libssl3)")
		}
		if err != nil {
			return running{}, errors.Join(err, r.stop())
		}
		return r, nil
	}
	return c
}

// withoutTLS is the same relay and the same configuration: the generator's address
// is the proof, and nothing is encrypted, as it is with the peer.
func withoutTLS(c contender) contender {
	c.name, c.load = c.name+", without TLS", nil
	c.terms.Source = "address, without TLS"
	return c
}

// withoutIndex is the same relay, and nothing of its mail can be searched for.
func withoutIndex(g *ground, c contender) contender {
	start := c.start
	c.name += ", without an index"
	c.start = func(ctx context.Context) (running, error) {
		g.node.unindexed = true
		defer func() { g.node.unindexed = false }()
		return start(ctx)
	}
	return c
}

// startRelay writes a fresh node and runs a command on its configuration file,
// until its ready line.
func startRelay(ctx context.Context, g *ground, program string, args ...string) (running, error) {
	dir, err := os.MkdirTemp(g.work, "relay-")
	if err != nil {
		return running{}, err
	}
	file, err := writeNode(g, dir)
	if err == nil && g.node.prepare != nil {
		err = g.node.prepare(filepath.Join(dir, "data"))
	}
	if err != nil {
		return running{}, err
	}
	r, err := launch(ctx, dir, program, append(args, file)...)
	if err != nil {
		return running{}, err
	}
	end := r.stop
	r.data = filepath.Join(dir, "data")
	r.stop = func() error { return errors.Join(end(), os.RemoveAll(r.data)) }
	return r, nil
}

// launch runs a command in a folder until its ready line. Stopping it leaves the
// data directory.
func launch(ctx context.Context, dir, program string, args ...string) (running, error) {
	c := raised(context.WithoutCancel(ctx), dir, program, args...)
	c.Env = append(os.Environ(), "TMPDIR="+dir)
	stdout, err := c.StdoutPipe()
	if err != nil {
		return running{}, err
	}
	if err := c.start(); err != nil {
		return running{}, err
	}
	stop := func() error {
		err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait())
		if err != nil {
			err = c.failed(err)
		}
		return err
	}
	kill := func() {
		_ = c.Process.Kill()
		_ = c.Wait() // its error is that it was killed
	}
	var ready struct {
		SMTP []string `json:"smtp"`
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil || len(ready.SMTP) == 0 {
		return running{}, errors.Join(fmt.Errorf("no ready line: %w", err), stop())
	}
	return running{addr: ready.SMTP[0], pids: strconv.Itoa(c.Process.Pid), stop: stop, kill: kill}, nil
}

// writeNode writes configuration, registry and keys of a node: by itself with one
// organisation, one domain, one credential and one address. Whatever the bench does
// not need is as it is by default.
func writeNode(g *ground, dir string) (file string, err error) {
	key, err := os.ReadFile(g.path("dkim.key"))
	if err != nil {
		return "", err
	}
	edwards, err := os.ReadFile(g.path("ed25519.key"))
	if err != nil {
		return "", err
	}
	config := fmt.Sprintf(`hostname = "relay.example.org"
data_dir = "data"
registry = "registry.toml"
[smtp]
listen = ["127.0.0.1:0"]
max_connections_per_peer = 2000   # the generator is one peer
[dns]
servers = [%q]
[delivery]
%s[console]
listen = ""
[operations]
listen = ""
[log]
level = "warn"
[tracking]
enabled = %t
`, g.dns.Addr(), g.node.deliveryLines(g.sinkPort), !g.node.unindexed)
	registry := g.node.registry(org.HashPassword([]byte(password)))
	file = filepath.Join(dir, "relay.toml")
	return file, errors.Join(
		os.WriteFile(filepath.Join(dir, "dkim.pem"), key, 0o600),
		os.WriteFile(filepath.Join(dir, "ed25519.pem"), edwards, 0o600),
		os.WriteFile(filepath.Join(dir, "registry.toml"), []byte(registry), 0o600),
		os.WriteFile(file, []byte(config), 0o600))
}

// postfixPort is where the peer's configuration listens.
const postfixPort = 2525

// peerName is whom ratios are to.
const peerName = "Postfix + OpenDKIM"

// postfix is Postfix with OpenDKIM as a milter, tuned for one fast next hop.
func postfix(g *ground) contender {
	return contender{
		name: peerName,
		terms: Terms{
			Source: "address, without TLS (mynetworks)", Fsync: "yes, before each 250",
			DKIM: "rsa-sha256, 2048 bits, relaxed/relaxed", Signer: "OpenDKIM, libcrypto", TLSOut: "none",
			Organisations: 1, Domains: 1,
		},
		start: func(ctx context.Context) (running, error) { return startPostfix(ctx, g) },
	}
}

func startPostfix(ctx context.Context, g *ground) (running, error) {
	if err := postfixPortFree(); err != nil {
		return running{}, err
	}
	script := func(verb string) call {
		c := raised(context.WithoutCancel(ctx), g.work, filepath.Join(g.peers, "peers", "postfix.sh"), verb, "opendkim")
		c.Env = append(os.Environ(), "WORK="+g.work, "MB="+g.path("mailbench"), "OUT_PORT="+strconv.Itoa(g.sinkPort))
		return c
	}
	stop := func() error {
		return errors.Join(script("stop").run(), waitClosed(portText(postfixPort)), os.RemoveAll(g.path("postfix")))
	}
	out, err := toFile(script("start"), g.path("postfix.pids"))
	if err != nil {
		return running{}, errors.Join(err, stop())
	}
	pids := strings.TrimSpace(string(out))
	for pid := range strings.SplitSeq(pids, ",") { // Postfix's master makes a session of its own
		raiseSession(pid)
	}
	return running{addr: portText(postfixPort), pids: pids, stop: stop}, nil
}

// postfixPortFree says that nothing else is where the peer's configuration wants
// to be.
func postfixPortFree() error {
	c, err := net.Dial("tcp", portText(postfixPort))
	if err != nil {
		return nil
	}
	return errors.Join(fmt.Errorf("something listens on %s already, where Postfix is to: stop it, or use -alone, or run in a network of your own (docs/benchmarks.md)", portText(postfixPort)), c.Close())
}

// toFile runs a script that leaves daemons behind: they keep its output open, so
// it goes into a file, not into a pipe that would never end.
func toFile(c call, name string) ([]byte, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	if err = c.start(); err == nil {
		err = c.Wait()
	}
	if err != nil {
		said, _ := os.ReadFile(name)
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, said)
	}
	return os.ReadFile(name)
}

// waitClosed waits until nothing listens at addr.
func waitClosed(addr string) error {
	for range 100 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil
		}
		_ = c.Close()
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s is still open after its server was stopped", addr)
}

// postfixMissing says why the peer cannot run, or nothing.
func postfixMissing() string {
	if os.Geteuid() != 0 {
		return "Postfix starts only as root"
	}
	for _, program := range []string{"postfix", "opendkim", "bash", "nice"} {
		if _, err := exec.LookPath(program); err != nil {
			return program + " is not installed (Debian: apt-get install postfix opendkim)"
		}
	}
	return ""
}
