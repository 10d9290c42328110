package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// rspamdScanner is a scanner with the modules that verify and no other. Its DNS
// answers are in the configuration, and the name server it knows is not there:
// nothing reaches out. Without Hyperscan it starts in seconds, and it has no
// patterns to match.
const rspamdScanner = `options {
  pidfile = "%[1]s/pid"; tempdir = "%[1]s"; control_socket = "%[1]s/control.sock mode=0600";
  filters = ["dkim", "spf"]; disable_hyperscan = true; url_tld = "%[1]s/suffixes"; local_addrs = ["192.168.255.255"];
  dns { nameserver = ["127.0.0.1:1"]; timeout = 0.2s; retransmits = 1; fake_records = [ %[3]s ]; }
}
logging { type = "console"; level = "error"; }
worker "normal" { bind_socket = "%[2]s"; count = %[4]d; }
spf { } dkim { check_local = true; check_authed = true; } arc { check_local = true; } dmarc { servers = ""; }
metric { name = default; actions { reject = 100; } unknown_weight = 1; }
modules { path = "/usr/share/rspamd/plugins/arc.lua"; path = "/usr/share/rspamd/plugins/dmarc.lua"; path = "/usr/share/rspamd/plugins/spf.lua"; }
`

// rspamdSymbols is what it must find in every message, so that it did the same
// work.
var rspamdSymbols = []string{"R_SPF_ALLOW", "R_DKIM_ALLOW", "ARC_ALLOW", "DMARC_POLICY_ALLOW"}

// rspamdVerifier starts the scanner with these DNS answers, a worker for each core.
// missing says why it was left out.
func rspamdVerifier(ctx context.Context, answers map[string]string, alone bool) (v verifier, stop func() error, missing string, err error) {
	stop = func() error { return nil }
	program, lookUp := exec.LookPath("rspamd")
	switch {
	case alone:
		return v, stop, "rspamd was left out, as asked", nil
	case lookUp != nil:
		return v, stop, "rspamd was left out: it is missing (apt-get install --no-install-recommends rspamd)", nil
	}
	dir, err := os.MkdirTemp("", "anechoic-rspamd-")
	if err != nil {
		return v, stop, "", err
	}
	address, err := freeAddress()
	if err != nil {
		return v, stop, "", errors.Join(err, os.RemoveAll(dir))
	}
	var records []string
	for name, text := range answers {
		records = append(records, fmt.Sprintf("{ name = %q; type = txt; replies = [%q]; }", name, text))
	}
	config := fmt.Sprintf(rspamdScanner, dir, address, strings.Join(records, ", "), runtime.GOMAXPROCS(0))
	err = errors.Join(os.WriteFile(filepath.Join(dir, "rspamd.conf"), []byte(config), 0o600),
		os.WriteFile(filepath.Join(dir, "suffixes"), []byte("// ===BEGIN ICANN DOMAINS===\ncom\nexample\n"), 0o600))
	if err != nil {
		return v, stop, "", errors.Join(err, os.RemoveAll(dir))
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-f", "-i", "-c", filepath.Join(dir, "rspamd.conf"))
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return v, stop, "", errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // ended on purpose
		return os.RemoveAll(dir)
	}
	if err := awaitListening(ctx, address); err != nil {
		return v, func() error { return nil }, "", fmt.Errorf("rspamd does not listen: %w", errors.Join(err, stop(), errors.New(said.String())))
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: inboundScanners}, Timeout: time.Minute}
	verify := func(ctx context.Context, raw []byte) error { return scan(ctx, client, address, raw) }
	return verifier{verify, inboundScanners, func() (time.Duration, error) { return familyTime(cmd.Process.Pid) }}, stop, "", nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func awaitListening(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// scan asks for one message, and says if the scanner did not find all of it good.
func scan(ctx context.Context, client *http.Client, address string, raw []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/checkv2", bytes.NewReader(raw))
	if err != nil {
		return err
	}
	request.Header.Set("IP", inboundAddress)
	request.Header.Set("Helo", "mx."+inboundSender)
	request.Header.Set("From", "ada@"+inboundSender)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	var answer struct {
		Symbols map[string]json.RawMessage `json:"symbols"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%w: %.200s", err, body)
	}
	for _, symbol := range rspamdSymbols {
		if answer.Symbols[symbol] == nil {
			return fmt.Errorf("%s is missing in %.1000s", symbol, body)
		}
	}
	return nil
}

// familyTime is the processor time of a process and of its children that run.
func familyTime(pid int) (total time.Duration, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 1 && (fields[1] == fmt.Sprint(pid) || filepath.Base(filepath.Dir(file)) == fmt.Sprint(pid)) {
			total += processorTime(string(stat))
		}
	}
	return total, nil
}
