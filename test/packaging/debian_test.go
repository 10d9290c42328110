package packaging

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// installs says that the machine may be changed: the package is installed on it, and
// purged again.
const installs = "ANECHOIC_INSTALL"

// build makes a package of a version.
func build(t *testing.T, version string) string {
	t.Helper()
	tool(t, "dpkg-deb", "dpkg")
	c := exec.Command(filepath.Join(root, "packaging", "build.sh"), version)
	c.Env = append(os.Environ(), "DIST="+t.TempDir(), "SOURCE_DATE_EPOCH=1700000000")
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("packaging/build.sh: %v\n%s", err, &errs)
	}
	return strings.TrimSpace(string(out))
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestMaintainerScriptsAreShell(t *testing.T) {
	for _, name := range []string{"build.sh", "debian/postinst", "debian/prerm", "debian/postrm"} {
		run(t, "/bin/sh", "-n", filepath.Join(root, "packaging", name))
	}
	check := tool(t, "shellcheck", "shellcheck")
	for _, name := range []string{"build.sh", "debian/postinst", "debian/prerm", "debian/postrm"} {
		run(t, check, filepath.Join(root, "packaging", name))
	}
}

// The life of the package: built twice alike, installed, nothing runs; what was edited
// survives an upgrade; removal and purge leave what people would miss.
func TestTheDebianPackageOpensNothingAndKeepsWhatIsYours(t *testing.T) {
	if os.Getenv(installs) != "1" || os.Getuid() != 0 {
		t.Skipf("the package is installed on this machine only as root with %s=1, as .ci/run does", installs)
	}
	if out, err := exec.Command("dpkg-query", "-W", "anechoic").CombinedOutput(); err == nil {
		t.Skipf("there is a package installed here already, which is left alone: %s", out)
	}
	first := build(t, "0.0.1")
	if again := build(t, "0.0.1"); sum(t, first) != sum(t, again) {
		t.Error("two builds of one version differ")
	}
	second := build(t, "0.0.2")
	t.Cleanup(func() {
		c := exec.Command("dpkg", "--purge", "anechoic")
		c.Env = append(os.Environ(), "ANECHOIC_PURGE_DATA=yes")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("purge: %v\n%s", err, out)
		}
		for _, gone := range []string{"/var/lib/anechoic", "/etc/anechoic", "/usr/bin/anechoic"} {
			if _, err := os.Stat(gone); err == nil {
				t.Errorf("after a purge with data %s is still there", gone)
			}
		}
	})
	run(t, "dpkg", "-i", first)
	owner, err := user.Lookup("anechoic")
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, "stat", "-c", "%U %G %a", "/var/lib/anechoic", "/etc/anechoic", "/etc/anechoic/relay.toml"); out != "anechoic anechoic 700\nroot anechoic 750\nroot anechoic 640\n" {
		t.Errorf("owners and modes are\n%s", out)
	}
	if out, err := exec.Command("pgrep", "-u", owner.Uid).CombinedOutput(); err == nil {
		t.Errorf("something runs after the installation: %s", out)
	}
	if links, _ := filepath.Glob("/etc/systemd/system/*.wants/anechoic*"); len(links) > 0 {
		t.Errorf("it is enabled: %v", links)
	}
	run(t, "/usr/bin/anechoic", "config", "validate", "--config", "/etc/anechoic/relay.toml")
	refusesEverything(t)

	edited := "hostname = \"relay.mine.example\"\n"
	change(t, "/etc/anechoic/relay.toml", "hostname = \"relay.invalid\"\n", edited)
	run(t, "dpkg", "-i", second)
	if text, err := os.ReadFile("/etc/anechoic/relay.toml"); err != nil || !bytes.Contains(text, []byte(edited)) {
		t.Errorf("an upgrade took an edited file away: %v\n%s", err, text)
	}
	if out := run(t, "/usr/bin/anechoic", "version"); !strings.Contains(out, "0.0.2") {
		t.Errorf("after the upgrade it is %s", out)
	}
	run(t, "dpkg", "--remove", "anechoic")
	if _, err := os.Stat("/etc/anechoic/relay.toml"); err != nil {
		t.Errorf("a removal took the configuration: %v", err)
	}
	run(t, "dpkg", "--purge", "anechoic")
	if _, err := os.Stat("/var/lib/anechoic/store"); err != nil {
		t.Errorf("a purge that was not asked to took the data: %v", err)
	}
	if _, err := os.Stat("/etc/anechoic"); err == nil {
		t.Error("a purge left the configuration")
	}
	run(t, "dpkg", "-i", second) // for the cleanup, which purges with data
}

func sum(t *testing.T, name string) [32]byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(text)
}

func change(t *testing.T, name, old, with string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil || !bytes.Contains(text, []byte(old)) {
		t.Fatalf("%s has no %q: %v", name, old, err)
	}
	if err := os.WriteFile(name, bytes.Replace(text, []byte(old), []byte(with), 1), 0o640); err != nil {
		t.Fatal(err)
	}
}

// offer tries to send a message over TLS.
func offer(relay, from, to string) error {
	client, err := smtp.Dial(relay)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil { // the relay's own certificate
		return err
	}
	if err := client.Mail(from); err != nil {
		return err
	}
	if err := client.Rcpt(to); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "From: %s\r\n\r\nhello\r\n", from)
	return errors.Join(err, w.Close())
}

// refusesEverything runs what was installed, as its user, and tries to send: by the
// addresses of strangers and of its own.
func refusesEverything(t *testing.T) {
	t.Helper()
	setpriv := tool(t, "setpriv", "util-linux")
	c := exec.Command(setpriv, "--reuid=anechoic", "--regid=anechoic", "--clear-groups", "--no-new-privs", "/usr/bin/anechoic", "serve", "--config", "/etc/anechoic/relay.toml")
	var log bytes.Buffer
	c.Dir, c.Stderr = "/", &log
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, `"smtp":["127.0.0.1:2525"]`) {
		t.Fatalf("it says %q: %v; log:\n%s", line, err, &log)
	}
	for _, c := range [][2]string{{"ann@gmail.com", "bob@example.com"}, {"root@localhost.localdomain", "bob@example.com"}, {"", "bob@example.com"}, {"ann@relay.invalid", "postmaster@relay.invalid"}} {
		var refused *textproto.Error
		if err := offer("127.0.0.1:2525", c[0], c[1]); !errors.As(err, &refused) || refused.Code < 500 {
			t.Errorf("mail from %q to %s, which nobody proves: %v", c[0], c[1], err)
		}
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("it ended with %v; log:\n%s", err, &log)
	}
}
