package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"anechoic/mail/dns"
)

// What generator and peers are set to (../shared/bench/peers/common.sh).
const (
	senderDomain = "bench.example.org"
	sender       = "sender@" + senderDomain
	selector     = "s1"
)

// priority is the niceness of relays and generator alike, where we are root: on a
// shared machine both come before what has nothing to do with the measurement.
// Each runs in a session of its own, because Linux weighs sessions against each
// other before it weighs processes (sched(7), autogroups).
const priority = "-15"

// ground is what a measurement stands on: a folder with the binaries and the key,
// and a DNS server.
type ground struct {
	root     string // of the project
	peers    string // folder of the generator and the peers
	work     string // removed at the end
	sinkPort int
	zone     *dns.Zone
	dns      *dns.Server
	node     node // of relays that start from now on; see use
	errs     io.Writer
}

// prepare builds the binaries and makes the signing key that every relay uses.
func prepare(ctx context.Context, errs io.Writer) (g *ground, err error) {
	g = &ground{errs: errs}
	if err := programsMissing(); err != nil {
		return g, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if g.root, err = projectRoot(); err != nil {
		return g, err
	}
	if g.peers, err = benchFolder(g.root); err != nil {
		return g, err
	}
	if g.work, err = os.MkdirTemp("", "anechoic-bench-"); err != nil {
		return g, err
	}
	if err := os.Chmod(g.work, 0o755); err != nil { // the peers' own users read it
		return g, err
	}
	g.say("building the relay and the generator")
	for _, build := range []struct{ dir, name, tags, pkg string }{
		{g.root, "anechoic", "", "./cmd/anechoic"},
		{g.root, "anechoic-libcrypto", "libcrypto", "./cmd/anechoic"},
		{filepath.Join(g.peers, "mailbench"), "mailbench", "", "."},
	} {
		c := command(ctx, build.dir, "go", "build", "-tags", build.tags, "-o", g.path(build.name), build.pkg)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := c.run(); err != nil {
			return g, err
		}
	}
	if err := command(ctx, g.work, g.path("mailbench"), "keygen", "-out", g.path("dkim")).run(); err != nil {
		return g, err
	}
	if g.sinkPort, err = freePort(); err != nil {
		return g, err
	}
	return g, g.serveDNS()
}

// programsMissing says what every mode needs and is not installed.
func programsMissing() error {
	needed := []string{"go"}
	if os.Geteuid() == 0 {
		needed = append(needed, "nice")
	}
	for _, program := range needed {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed, or not in PATH", program)
		}
	}
	return nil
}

// serveDNS publishes the proof of the domain and its key.
func (g *ground) serveDNS() (err error) {
	g.zone = &dns.Zone{}
	g.zone.SetTTL(3600e9)
	if err := g.use(node{}); err != nil {
		return err
	}
	g.dns, err = g.zone.Serve("127.0.0.1:0")
	return err
}

func (g *ground) path(name ...string) string {
	return filepath.Join(append([]string{g.work}, name...)...)
}

func (g *ground) say(format string, args ...any) { fmt.Fprintf(g.errs, "bench: "+format+"\n", args...) }

func (g *ground) close() (err error) {
	if g.dns != nil {
		err = g.dns.Close()
	}
	if g.work != "" {
		err = errors.Join(err, os.RemoveAll(g.work))
	}
	return err
}

// projectRoot is the folder of go.mod, here or above.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod here or above: run it inside the project")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// benchFolder is where generator and peers are.
func benchFolder(root string) (string, error) {
	dir := os.Getenv("ANECHOIC_BENCH")
	if dir == "" {
		dir = filepath.Join(root, "..", "shared", "bench")
	}
	if _, err := os.Stat(filepath.Join(dir, "mailbench", "go.mod")); err != nil {
		return "", fmt.Errorf("no load generator in %s: set ANECHOIC_BENCH to the folder that has mailbench/ and peers/", dir)
	}
	return filepath.Abs(dir)
}

// freePort finds a port of loopback that nothing listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// machine describes where the figures come from.
func machine() string {
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	return fmt.Sprintf("%d cores, %s, %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// call is a command whose failure tells what it said.
type call struct {
	*exec.Cmd
	said   *bytes.Buffer
	raised bool
}

func command(ctx context.Context, dir, name string, args ...string) call {
	c := call{Cmd: exec.CommandContext(ctx, name, args...), said: &bytes.Buffer{}}
	c.Dir, c.Stderr = dir, c.said
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	return c
}

// raised is command with the priority of measured processes.
func raised(ctx context.Context, dir, name string, args ...string) call {
	if os.Geteuid() != 0 {
		return command(ctx, dir, name, args...)
	}
	c := command(ctx, dir, "nice", append([]string{"-n", priority, name}, args...)...)
	c.SysProcAttr, c.raised = &syscall.SysProcAttr{Setsid: true}, true
	return c
}

// start begins it.
func (c call) start() error {
	if err := c.Start(); err != nil {
		return err
	}
	if c.raised {
		raiseSession(strconv.Itoa(c.Process.Pid))
	}
	return nil
}

// raiseSession gives the whole session of a process the priority. A kernel
// without autogroups has no such file and needs none.
func raiseSession(pid string) {
	_ = os.WriteFile(filepath.Join("/proc", pid, "autogroup"), []byte(priority), 0)
}

func (c call) run() error {
	_, err := c.output()
	return err
}

func (c call) output() ([]byte, error) {
	out := &bytes.Buffer{}
	c.Stdout = out
	err := c.start()
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return nil, c.failed(err)
	}
	return out.Bytes(), nil
}

func (c call) failed(err error) error {
	return fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, strings.TrimSpace(c.said.String()))
}

func portText(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
