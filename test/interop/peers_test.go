package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// missing leaves a test out, or fails it where peers are required.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("ANECHOIC_REQUIRE_PEERS") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// run gives the output of a program, which must succeed.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := outputOf(cmd)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// outputOf runs a program to its end, which comes within patience. What it leaves
// behind may keep its output open.
func outputOf(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.WaitDelay = &out, time.Second
	if cmd.Stderr == nil {
		cmd.Stderr = &out
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out.Bytes(), err
}

// end asks a server to end, and ends it if it does not.
func end(cmd *exec.Cmd, signal syscall.Signal) {
	_ = cmd.Process.Signal(signal)
	defer time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() }).Stop()
	_ = cmd.Wait() // ended on purpose
}

// dial greets a server that is to answer within patience.
func dial(t *testing.T, address string) *smtp.Client {
	t.Helper()
	c, err := greet(new(net.Dialer), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func greet(dialer *net.Dialer, address string) (*smtp.Client, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil { // for its greeting too
		return nil, errors.Join(err, conn.Close())
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// hand gives a mail server a message, as its own clients do. An error is its refusal.
func hand(t *testing.T, address, from string, to []string, text string) error {
	t.Helper()
	c := dial(t, address)
	defer c.Quit()
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := c.Rcpt(rcpt); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return errors.Join(err, w.Close())
}

// verifiers gives the folder of the scripts that call other verifiers.
func verifiers(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("ANECHOIC_VERIFIERS")
	if folder == "" {
		folder = filepath.Join(projectRoot(t), "..", "shared", "verifiers")
	}
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("%s is not there: set ANECHOIC_VERIFIERS to the folder of verifiers", folder)
	}
	return folder
}

func projectRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// verifiedByOthers gives a delivered message to every independent verifier.
func (r *relay) verifiedByOthers(t *testing.T, data []byte) {
	t.Helper()
	file := r.write(t, "delivered.eml", string(data))
	records := r.records(t)
	t.Run("python3-dkim verifies both signatures", func(t *testing.T) { byPythonDKIM(t, file, r.jsonZone(t, records)) })
	t.Run("Mail::DKIM verifies the RSA signature", func(t *testing.T) { byMailDKIM(t, file, r.jsonZone(t, records)) })
	t.Run("OpenDKIM verifies", func(t *testing.T) { r.byOpenDKIM(t, file, records) })
}

// records are the DKIM records by name.
func (r *relay) records(t *testing.T) map[string]string {
	t.Helper()
	domain, err := mail.ParseDomain(domainName)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for selector, key := range r.keys {
		found[dkim.KeyName(selector, domain)] = dkim.RecordValue(key.Public())
	}
	return found
}

// jsonZone writes records as the scripts read them, long ones in pieces.
func (r *relay) jsonZone(t *testing.T, records map[string]string) string {
	t.Helper()
	zone := map[string]map[string][]any{}
	for name, value := range records {
		var pieces []string
		for ; len(value) > 255; value = value[255:] {
			pieces = append(pieces, value[:255])
		}
		zone[name] = map[string][]any{"TXT": {append(pieces, value)}}
	}
	text, err := json.Marshal(zone)
	if err != nil {
		t.Fatal(err)
	}
	return r.write(t, "zone.json", string(text))
}

// verdicts reads the JSON that both scripts print.
func verdicts(t *testing.T, cmd *exec.Cmd) map[string]string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	var said struct {
		DKIM []struct{ Result, Algo string }
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found := map[string]string{}
	for _, s := range said.DKIM {
		found[s.Algo] = s.Result
	}
	return found
}

func byPythonDKIM(t *testing.T, file, zone string) {
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import dkim, spf, nacl").Run() != nil {
		missing(t, "python3-dkim is missing: apt-get install python3-dkim python3-spf python3-nacl python3-authheaders")
	}
	said := verdicts(t, exec.Command(python, filepath.Join(verifiers(t), "verify-debian.py"), "--zone", zone, file))
	if len(said) != 2 || said["rsa-sha256"] != "pass" || said["ed25519-sha256"] != "pass" {
		t.Errorf("it says %v", said)
	}
}

// byMailDKIM looks at RSA only: the version in Debian 12 does not know Ed25519.
func byMailDKIM(t *testing.T, file, zone string) {
	if exec.Command("perl", "-MMail::DKIM::Verifier", "-MJSON::PP", "-e", "1").Run() != nil {
		missing(t, "Perl's Mail::DKIM is missing: apt-get install libmail-dkim-perl")
	}
	said := verdicts(t, exec.Command("perl", filepath.Join(verifiers(t), "verify-maildkim.pl"), zone, file))
	if said["rsa-sha256"] != "pass" {
		t.Errorf("it says %v", said)
	}
}

// byOpenDKIM uses OpenDKIM's own test mode, which reads keys from a file.
func (r *relay) byOpenDKIM(t *testing.T, file string, records map[string]string) {
	opendkim, err := exec.LookPath("opendkim")
	if err != nil {
		opendkim = "/usr/sbin/opendkim"
	}
	if _, err := os.Stat(opendkim); err != nil {
		missing(t, "opendkim is missing: apt-get install opendkim")
	}
	var keys strings.Builder
	for name, value := range records {
		keys.WriteString(name + " " + value + "\n")
	}
	conf := r.write(t, "opendkim.conf", "Mode v\nSyslog no\nTestPublicKeys "+r.write(t, "opendkim.keys", keys.String())+"\n")
	out := run(t, exec.Command(opendkim, "-x", conf, "-t", file))
	if !strings.Contains(out, "d="+domainName) || !strings.Contains(out, "succeeded") {
		t.Errorf("it says %s", out)
	}
}
