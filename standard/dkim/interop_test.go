package dkim

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What Sign writes, other programs must accept. Each test signs every shape,
// writes message and zone to files and asks one independent verifier. None of
// them uses the network.

// signedFiles writes one message a shape, signed with the keys given. They are
// signed now: these programs have clocks of their own.
func signedFiles(t *testing.T, list []Signer) map[string]string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	for name, raw := range shapes {
		if name == "an older signature" {
			continue // is broken by intent
		}
		file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".eml")
		if err := os.WriteFile(file, signAt(t, text(raw), list, time.Now()).bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	return files
}

// jsonZone writes a zone as the verifiers read it, long records in pieces.
func jsonZone(t *testing.T, z zone) string {
	t.Helper()
	names := map[string]map[string][]any{}
	for name, records := range z {
		for _, r := range records {
			var pieces []string
			for ; len(r) > 255; r = r[255:] {
				pieces = append(pieces, r[:255])
			}
			names[name] = map[string][]any{"TXT": {append(pieces, r)}}
		}
	}
	b, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "zone.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run gives the output of a program, which must succeed.
func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// expectPasses reads the JSON both scripts print.
func expectPasses(t *testing.T, out []byte, want int) {
	t.Helper()
	var got struct {
		DKIM []struct{ Result, Algo, Comment string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(got.DKIM) != want {
		t.Fatalf("%d signatures seen, want %d: %s", len(got.DKIM), want, out)
	}
	for _, s := range got.DKIM {
		if s.Result != "pass" {
			t.Errorf("%s: %s, %s", s.Algo, s.Result, s.Comment)
		}
	}
}

func TestPythonDKIMAcceptsWhatWeSign(t *testing.T) {
	script := filepath.Join(shared(t, "ANECHOIC_VERIFIERS", "verifiers"), "verify-debian.py")
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import dkim, spf, nacl").Run(); err != nil {
		t.Skip("python3-dkim is missing: apt-get install python3-dkim python3-spf python3-nacl python3-authheaders")
	}
	list, z := signers(t)
	zoneFile := jsonZone(t, z)
	for name, file := range signedFiles(t, list) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectPasses(t, run(t, python, script, "--zone", zoneFile, file), 2)
		})
	}
}

// TestMailDKIMAcceptsWhatWeSign checks RSA only: the version in Debian 12 does
// not know Ed25519.
func TestMailDKIMAcceptsWhatWeSign(t *testing.T) {
	script := filepath.Join(shared(t, "ANECHOIC_VERIFIERS", "verifiers"), "verify-maildkim.pl")
	if err := exec.Command("perl", "-MMail::DKIM::Verifier", "-MJSON::PP", "-e", "1").Run(); err != nil {
		t.Skip("Perl's Mail::DKIM is missing: apt-get install libmail-dkim-perl")
	}
	list, z := signers(t)
	zoneFile := jsonZone(t, z)
	for name, file := range signedFiles(t, list[:1]) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectPasses(t, run(t, "perl", script, zoneFile, file), 1)
		})
	}
}

// TestOpenDKIMAcceptsWhatWeSign uses OpenDKIM's own test mode, which reads keys
// from a file and reports on one signature of a message. It is asked once for
// each key.
func TestOpenDKIMAcceptsWhatWeSign(t *testing.T) {
	opendkim, err := exec.LookPath("opendkim")
	if err != nil {
		opendkim = "/usr/sbin/opendkim"
	}
	if _, err := os.Stat(opendkim); err != nil {
		t.Skip("opendkim is missing: apt-get install opendkim")
	}
	list, z := signers(t)
	dir := t.TempDir()
	var keys strings.Builder
	for name, records := range z {
		keys.WriteString(name + " " + records[0] + "\n")
	}
	writeFile(t, filepath.Join(dir, "keys"), keys.String())
	conf := filepath.Join(dir, "opendkim.conf")
	writeFile(t, conf, "Mode v\nSyslog no\nTestPublicKeys "+filepath.Join(dir, "keys")+"\n")
	for _, s := range list {
		for name, file := range signedFiles(t, []Signer{s}) {
			if name == "a body without a line end" {
				continue // its test mode cannot read such a file; SMTP cannot carry such a body
			}
			t.Run(s.Algorithm.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				out := run(t, opendkim, "-x", conf, "-t", file)
				if !strings.Contains(string(out), "(s="+s.Selector+", d=t.example,") || !strings.Contains(string(out), "succeeded") {
					t.Errorf("%s", out)
				}
			})
		}
	}
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
