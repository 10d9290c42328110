package arc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rspamdConf is a scanner that does nothing but ARC, over keys it is given: it knows
// only a name server that is not there. The short list of suffixes and the missing
// Hyperscan make it start in seconds.
const rspamdConf = `options {
  disable_hyperscan = true;
  url_tld = "%[1]s/suffixes";
  pidfile = "%[1]s/pid";
  tempdir = "%[1]s";
  filters = ["dkim"];
  explicit_modules = ["settings"];
  dns { nameserver = ["127.0.0.1:1"]; timeout = 0.2s; retransmits = 1; fake_records = [%[3]s]; }
  control_socket = "%[1]s/control.sock mode=0600";
  local_addrs = ["192.168.255.255"];
}
logging { type = "console"; level = "error"; }
worker "normal" { bind_socket = "%[2]s"; count = 1; }
dkim { check_local = true; }
arc { check_local = true; }
modules { path = "/usr/share/rspamd/plugins/arc.lua"; }
`

// startRspamd runs the scanner with the keys of a zone and gives its address.
func startRspamd(t *testing.T, z zone) string {
	t.Helper()
	program, err := exec.LookPath("rspamd")
	if err != nil {
		t.Skip("rspamd is missing: apt-get install --no-install-recommends rspamd")
	}
	dir, err := os.MkdirTemp("", "rspamd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var records []string
	for name, list := range z {
		replies, _ := json.Marshal(list)
		records = append(records, fmt.Sprintf(`{ name = %q; type = txt; replies = %s; }`, name, replies))
	}
	for name, text := range map[string]string{
		"rspamd.conf": fmt.Sprintf(rspamdConf, dir, address, strings.Join(records, ", ")),
		"suffixes":    "// ===BEGIN ICANN DOMAINS===\ncom\nexample\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil { // its workers are nobody
		t.Fatal(err)
	}
	var output bytes.Buffer
	cmd := exec.Command(program, "-f", "-u", "nobody", "-g", "nogroup", "--var=DBDIR="+dir, "--var=RUNDIR="+dir, "-c", filepath.Join(dir, "rspamd.conf"))
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			t.Log(output.String())
		}
	})
	ticks := time.NewTicker(50 * time.Millisecond)
	defer ticks.Stop()
	for range 3 * 60 * 20 { // three minutes, for a machine that is busy
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address
		}
		<-ticks.C
	}
	t.Fatalf("rspamd does not listen on %s", address)
	return ""
}

// rspamdSays gives the chain status that rspamd's symbol stands for.
func rspamdSays(t *testing.T, address string, m message) verdict {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+"/checkv2", bytes.NewReader(m.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("IP", "192.0.2.1")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got struct {
		Symbols map[string]struct{ Options []string }
	}
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	for symbol, status := range map[string]string{"ARC_ALLOW": "pass", "ARC_NA": "none", "ARC_REJECT": "fail", "ARC_INVALID": "fail", "ARC_DNSFAIL": "fail"} {
		if s, ok := got.Symbols[symbol]; ok {
			return verdict{status, symbol + " " + strings.Join(s.Options, ", ")}
		}
	}
	return verdict{"nothing", fmt.Sprint(got.Symbols)}
}

// TestRspamdAgrees asks rspamd about every real message and about what we seal.
func TestRspamdAgrees(t *testing.T) {
	list, z := handlers(t)
	messages, zones := realMessages(t)
	for name, records := range zones {
		z[name] = records
	}
	m := parse(t, text(plainMessage))
	for n := range 3 {
		m = sealNow(t, m, z, list[n/2*2]) // its ARC knows no Ed25519
		messages = append(messages, realMessage{fmt.Sprintf("%d sets of ours", n+1), m})
	}
	for _, r := range messages {
		if onTop[r.name] {
			messages = append(messages, realMessage{"ours on top of " + r.name, sealNow(t, r.message, z, list[0])})
		}
	}
	address := startRspamd(t, z)
	for _, m := range messages {
		ours, theirs := m.validate(z), rspamdSays(t, address, m.message)
		want := ours.Status.String()
		if other, ok := decided["rspamd "+m.name]; ok {
			want = other
		}
		if theirs.Result != want {
			t.Errorf("%s: it says %s (%s), we say %s (%v)", m.name, theirs.Result, theirs.Comment, ours.Status, ours.Err)
		}
	}
}
