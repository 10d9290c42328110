package arc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"anechoic/standard/dkim"
)

// peer is an independent validator: a script that reads a zone and a message from
// files and prints what it found. None of them uses the network. again runs the
// script for many messages in one process: its arguments are the script, the zone and
// the messages.
type peer struct {
	name, script string
	again        []string
	check        []string // exits with 0 if the peer is installed
	install      string
}

var peerList = []peer{
	{
		"dkimpy", "verify-debian.py",
		[]string{"/usr/bin/python3", "-c", `
import runpy, sys
script, zone, *files = sys.argv[1:]
for f in files:
    sys.argv = [script, "--zone", zone, f]
    runpy.run_path(script, run_name="__main__")
`},
		[]string{"/usr/bin/python3", "-c", "import dkim, spf, nacl, authheaders"},
		"apt-get install python3-dkim python3-spf python3-nacl python3-authheaders",
	},
	{
		"Mail::DKIM", "verify-maildkim.pl",
		[]string{"perl", "-e", `
my ($script, $zone, @files) = @ARGV;
for my $f (@files) { @ARGV = ($zone, $f); defined(do $script) or die "$script: $@ $!" }
`},
		[]string{"perl", "-MMail::DKIM::ARC::Verifier", "-MJSON::PP", "-e", "1"},
		"apt-get install libmail-dkim-perl",
	},
	{
		"mailauth", "verify-mailauth.js",
		[]string{"node", "-e", `
const [node, script, zone, ...files] = process.argv;
for (const f of files) {
	process.argv = [node, script, '--zone', zone, f];
	delete require.cache[script];
	require(script);
}
`},
		nil,
		"copy the folder of the verifiers, run npm install in the copy and set ANECHOIC_VERIFIERS to it",
	},
}

// verdict is the chain status that a peer finds, and its own words.
type verdict struct{ Result, Comment string }

// judge asks the peer about messages by their names. A peer that is not installed
// skips the test.
func (p peer) judge(t *testing.T, z zone, messages map[string]message) map[string]verdict {
	t.Helper()
	dir := shared(t, "ANECHOIC_VERIFIERS", "verifiers")
	if p.check == nil {
		if _, err := os.Stat(filepath.Join(dir, "node_modules", p.name)); err != nil {
			t.Skipf("%s is missing: %s", p.name, p.install)
		}
	} else if exec.Command(p.check[0], p.check[1:]...).Run() != nil {
		t.Skipf("%s is missing: %s", p.name, p.install)
	}
	folder := t.TempDir()
	args := append(p.again[1:len(p.again):len(p.again)], filepath.Join(dir, p.script), jsonZone(t, z))
	names := map[string]string{}
	for name, m := range messages {
		file := filepath.Join(folder, fmt.Sprintf("%d.eml", len(names)))
		if err := os.WriteFile(file, m.bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		names[file] = name
		args = append(args, file)
	}
	cmd := exec.Command(p.again[0], args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", p.name, err, out, stderr.String())
	}
	verdicts := map[string]verdict{}
	for line := range bytes.Lines(out) {
		var got struct {
			File string
			ARC  verdict
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v\n%s", p.name, err, line)
		}
		verdicts[names[got.File]] = got.ARC
	}
	if len(verdicts) != len(messages) {
		t.Fatalf("%s judged %d of %d messages\n%s", p.name, len(verdicts), len(messages), stderr.String())
	}
	return verdicts
}

// jsonZone writes a zone as the peers read it, long records in pieces.
func jsonZone(t *testing.T, z zone) string {
	t.Helper()
	names := map[string]map[string][]any{}
	for name, records := range z {
		for _, r := range records {
			var pieces []string
			for ; len(r) > 255; r = r[255:] {
				pieces = append(pieces, r[:255])
			}
			if names[name] == nil {
				names[name] = map[string][]any{}
			}
			names[name]["TXT"] = append(names[name]["TXT"], append(pieces, r))
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

// onTop is real messages with a chain that passes: by Google, by Microsoft, by both.
var onTop = map[string]bool{
	"arc/mailauth/test/fixtures/arc-pass.eml, message 1":        true,
	"real/m365/rspamd-arcallow.eml, message 1":                  true,
	"reports/mox/testdata/dmarc-reports/outlook.eml, message 1": true,
}

// TestPeersAcceptWhatWeSeal gives the peers sets of ours: one, several, over a body
// that a handler changed, over DKIM signatures, and over chains that others made.
func TestPeersAcceptWhatWeSeal(t *testing.T) {
	list, z := handlers(t)
	list = []dkim.Signer{list[0], list[2]} // RSA: two of the three know no Ed25519 here
	list[1].Key = rsa2048()
	real, zones := realMessages(t)
	maps.Copy(z, zones)
	sealed := map[string]message{}
	m := parse(t, text(plainMessage))
	for n := range 4 {
		m = sealNow(t, m, z, list[n%2])
		sealed[fmt.Sprintf("%d sets", n+1)] = m
	}
	signed, err := dkim.Sign(m.header, m.hashes(), list[:1], time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	sealed["a signature beneath"] = sealNow(t, message{m.header.Prepend(signed...), m.body}, z, list[1])
	for _, r := range real {
		if onTop[r.name] {
			sealed["on top of "+r.name] = sealNow(t, r.message, z, list[0])
		}
	}
	for _, p := range peerList {
		t.Run(p.name, func(t *testing.T) {
			for name, v := range p.judge(t, z, sealed) {
				if v.Result != "pass" {
					t.Errorf("%s: %s, %s", name, v.Result, v.Comment)
				}
			}
		})
	}
}

// sealNow seals with the clock of the machine: the peers have no other.
func sealNow(t *testing.T, m message, z zone, s dkim.Signer) message {
	t.Helper()
	chain := m.validate(z)
	if chain.Status == Fail {
		t.Fatal(chain.Err)
	}
	fields, err := Seal(m.header, m.hashes(), chain, saw(chain), s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return message{m.header.Prepend(fields...), m.body}
}

// decided is where a peer and we differ over a real message. Each is explained in
// docs/standards.md.
var decided = map[string]string{
	"dkimpy arc/mailauth/test/fixtures/arc-fail3.eml, message 1":         "none",
	"Mail::DKIM real/sisimai/maildir/bsd/rfc3464-61.eml, message 1":      "none",
	"Mail::DKIM real/sisimai/maildir/bsd/rhost-gsuite-12.eml, message 1": "none",
	"rspamd real/sisimai/maildir/bsd/rfc3464-61.eml, message 1":          "none",
	"rspamd real/sisimai/maildir/bsd/rhost-gsuite-12.eml, message 1":     "none",
}

// words of peers that are no status of RFC 8617 section 4.4, and what they mean.
var words = map[string]string{
	"invalid": "fail", // Mail::DKIM: the key cannot be had, or a field cannot be read
}

// TestPeersAndWeAgreeOnRealMessages compares the status of every chain in the suites.
func TestPeersAndWeAgreeOnRealMessages(t *testing.T) {
	list, z := realMessages(t)
	messages, ours := map[string]message{}, map[string]Chain{}
	for _, m := range list {
		messages[m.name], ours[m.name] = m.message, m.validate(z)
	}
	for _, p := range peerList {
		t.Run(p.name, func(t *testing.T) {
			for name, v := range p.judge(t, z, messages) {
				want := ours[name].Status.String()
				if other, ok := decided[p.name+" "+name]; ok {
					want = other
				}
				if word, ok := words[v.Result]; ok {
					v.Result = word
				}
				if v.Result != want {
					t.Errorf("%s: it says %s (%s), we say %s (%v)", name, v.Result, v.Comment, ours[name].Status, ours[name].Err)
				}
			}
		})
	}
}
