package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anechoic/ledger"
)

// rspamdConf is a scanner that Postfix asks as a milter. It knows only a name
// server that is not there: nothing of it reaches out. The list of suffixes and the
// missing Hyperscan make it start in seconds.
const rspamdConf = `.include "$CONFDIR/common.conf"
options {
  disable_hyperscan = true;
  url_tld = "%[1]s/suffixes";
  pidfile = "%[1]s/pid";
  filters = "";
  dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }
  control_socket = "%[1]s/control.sock mode=0600";
  local_addrs = [];
}
logging { type = "console"; level = "info"; }
worker "rspamd_proxy" {
  bind_socket = "%[2]s";
  milter = yes;
  timeout = 60s;
  count = 1;
  upstream "local" { default = yes; self_scan = yes; }
}
`

// startRspamd runs the scanner and gives its address, and what it logs.
func startRspamd(t *testing.T) (address string, log func() string) {
	t.Helper()
	program, err := exec.LookPath("rspamd")
	if err != nil {
		missing(t, "rspamd is missing: apt-get install --no-install-recommends rspamd")
	}
	dir, err := os.MkdirTemp("", "rspamd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address = fmt.Sprintf("127.51.0.6:%d", freePort(t, "127.51.0.6"))
	for name, text := range map[string]string{"rspamd.conf": fmt.Sprintf(rspamdConf, dir, address), "suffixes": "// ===BEGIN ICANN DOMAINS===\ncom\nexample\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil { // its workers are nobody
		t.Fatal(err)
	}
	output := filepath.Join(dir, "output")
	out, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-f", "-u", "nobody", "-g", "nogroup", "--var=DBDIR="+dir, "--var=RUNDIR="+dir, "-c", filepath.Join(dir, "rspamd.conf"))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end(cmd, syscall.SIGINT)
		out.Close()
	})
	log = func() string {
		text, err := os.ReadFile(output)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address, log
		}
		if time.Now().After(deadline) {
			t.Fatalf("rspamd does not listen:\n%s", log())
		}
	}
}

// TestTheRelayDeliversToPostfixBehindRspamd over TLS: the scanner reads what comes,
// and lets it pass as it is.
func TestTheRelayDeliversToPostfixBehindRspamd(t *testing.T) {
	requirePostfix(t)
	scanner, log := startRspamd(t)
	r, p := startExchanger(t, "required", trusted)
	main, err := os.ReadFile(filepath.Join(p.dir, "etc/main.cf"))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "etc/main.cf", string(main)+"smtpd_milters = inet:"+scanner+"\nmilter_default_action = tempfail\n")
	run(t, exec.Command("postfix", "-c", filepath.Join(p.dir, "etc"), "reload"))
	const id = "<behind-rspamd@acme.example>"
	submit(t, r, id, "bob@dest.example")
	r.verifiedByOthers(t, r.await(t, id).Data)
	if f := r.fact(t, ledger.Delivered, "bob@dest.example"); !strings.Contains(f.TLS, "verified") {
		t.Errorf("the ledger has TLS %q", f.TLS)
	}
	if !strings.Contains(log(), "behind-rspamd@acme.example") {
		t.Errorf("rspamd did not see it:\n%s", log())
	}
}
