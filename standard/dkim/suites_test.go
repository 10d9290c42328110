package dkim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

// suiteFile is what one message of other projects' suites must give: a status
// and a part of the reason for each signature, in order. Where their own
// verdict is another, why says it.
type suiteFile struct {
	results []string
	why     string
}

const chasquidData = "chasquid/internal/dkim/testdata/"

// Verdicts of other projects that are not ours, by design.
var chasquidDiffers = map[string]suiteFile{
	"02-too_many_headers": {[]string{"pass", "pass", "pass", "pass", "pass", "pass", "pass"}, "chasquid looks at 5 signatures, we at 8"},
	"09-limited_body":     {[]string{"policy: l=", "pass", "pass"}, "we accept no l= (RFC 6376 section 8.2)"},
}

// TestChasquidSuite runs the golden trios of chasquid: message, zone, results.
func TestChasquidSuite(t *testing.T) {
	dir := filepath.Join(shared(t, "ANECHOIC_SUITES", "suites"), "dkim", filepath.FromSlash(chasquidData))
	files, err := filepath.Glob(filepath.Join(dir, "*.msg"))
	if err != nil || len(files) != 11 {
		t.Fatalf("%d messages in %s, want 11 (%v)", len(files), dir, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".msg")
		t.Run(name, func(t *testing.T) {
			m, err := split(withCRLF(read(t, file)))
			if name == "03-bad_message" {
				if !errors.Is(err, mail.ErrHeaderSyntax) {
					t.Fatalf("the header was read: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := chasquidResults(t, strings.TrimSuffix(file, ".msg")+".result")
			if differs, ok := chasquidDiffers[name]; ok {
				want = differs.results
			}
			compareResults(t, want, m.verify(chasquidZone(t, strings.TrimSuffix(file, ".msg")+".dns"), noon))
		})
	}
}

// chasquidResults reads their expectations. Their PERMFAIL may be any of three
// statuses of ours.
func chasquidResults(t *testing.T, file string) []string {
	var golden struct{ Results []struct{ State string } }
	if err := json.Unmarshal(read(t, file), &golden); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range golden.Results {
		want = append(want, map[string]string{"SUCCESS": "pass", "TEMPFAIL": "temperror", "PERMFAIL": "permanent"}[r.State])
	}
	return want
}

// chasquidZone reads "name: text" with continued lines.
func chasquidZone(t *testing.T, file string) zone {
	z := zone{}
	b, err := os.ReadFile(file)
	if err != nil {
		return z // a trio without zone
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(string(b), "\\\n", " "), "\n") {
		name, value, ok := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); {
		case !ok || value == "PERMERROR":
		case value == "TEMPERROR":
			z[name] = []string{"SERVFAIL"}
		default:
			z[name] = append(z[name], value)
		}
	}
	return z
}

// otherSuites is every other message of the suites. Their keys come from the
// head of the file (stalwart), from mailauth's dns.json and from the recorded
// answers of blaze. Most of mailauth's and zk-email's messages are real mail
// whose keys were not kept: there the body hash is what is checked, and the
// missing key is what is found.
var otherSuites = map[string]suiteFile{
	"stalwart-mail-auth/resources/dkim/001.txt": {results: []string{"pass", "pass"}},
	"stalwart-mail-auth/resources/dkim/002.txt": {results: []string{"pass"}},
	"stalwart-mail-auth/resources/dkim/003.txt": {results: []string{"pass", "pass"}},
	"stalwart-mail-auth/resources/dkim/004.txt": {results: []string{"pass"}},
	"stalwart-mail-auth/resources/dkim/005.txt": {results: []string{"pass"}},
	"stalwart-mail-auth/resources/dkim/006.txt": {results: []string{"pass"}},

	"mailauth/test/dkim/ec/fixtures/signed.eml": {results: []string{"pass", "pass"}},
	"mailauth/test/fixtures/authtest.eml":       {results: []string{"permerror: no key"}},
	"mailauth/test/fixtures/bimi.eml":           {results: []string{"permerror: no key", "permerror: no key"}},
	"mailauth/test/fixtures/message1.eml":       {},
	"mailauth/test/fixtures/message2.eml":       {results: []string{"permerror: no key"}},
	"mailauth/test/fixtures/message3.eml":       {results: []string{"permerror: no key", "permerror: no key"}},
	"mailauth/test/fixtures/message4.eml":       {results: []string{"permerror: no key"}},
	"mailauth/test/fixtures/zbimi.eml":          {results: []string{"permerror: no key"}},
	"mailauth/test/fixtures/zproov.eml":         {results: []string{"permerror: no key"}},

	"blaze/test/001.mail": {[]string{"permerror: rsa-sha1", "permerror: rsa-sha1"}, "blaze still verifies rsa-sha1; RFC 8301 section 3.1 forbids it"},
	"blaze/test/002.mail": {results: []string{"pass"}},
	"blaze/test/004.mail": {results: []string{"pass"}},
	"blaze/test/007.mail": {results: []string{"pass"}},

	"zk-email-verify/packages/helpers/tests/test-data/email-good.eml":             {results: []string{"permerror: no key"}},
	"zk-email-verify/packages/helpers/tests/test-data/email-good-large.eml":       {results: []string{"permerror: no key"}},
	"zk-email-verify/packages/helpers/tests/test-data/email-body-tampered.eml":    {results: []string{"fail: body hash differs"}},
	"zk-email-verify/packages/helpers/tests/test-data/email-bodyless.eml":         {results: []string{"fail: body hash differs"}},
	"zk-email-verify/packages/helpers/tests/test-data/email-different-domain.eml": {results: []string{"permerror: no key"}},
	"zk-email-verify/packages/helpers/tests/test-data/email-invalid-domain.eml":   {results: []string{"permerror: no key"}},
	"zk-email-verify/packages/helpers/tests/test-data/email-invalid-selector.eml": {results: []string{"permerror: no key"}},
	"zk-email-verify/packages/helpers/tests/test-data/multi-dkim-sig.eml":         {results: []string{"permerror: no key", "permerror: no key"}},
}

// beforeExpiry is when the messages of the suites that expire had not.
var beforeExpiry = time.Date(2022, 11, 8, 0, 0, 0, 0, time.UTC)

// TestOtherSuites gives every message of the other suites its expected result,
// and fails if a suite has a message that the table does not know.
func TestOtherSuites(t *testing.T) {
	dir := filepath.Join(shared(t, "ANECHOIC_SUITES", "suites"), "dkim")
	recorded := zoneFile(t, filepath.Join(dir, "..", "zones", "blaze.json"))
	mailauth := zoneFile(t, filepath.Join(dir, "mailauth/test/dkim/ec/fixtures/dns.json"))
	seen := map[string]bool{}
	for _, name := range suiteMessages(t, dir) {
		seen[name] = true
		t.Run(name, func(t *testing.T) {
			want, ok := otherSuites[name]
			if !ok {
				t.Fatal("this message is not in the table")
			}
			raw, z := withCRLF(read(t, filepath.Join(dir, filepath.FromSlash(name)))), recorded
			switch {
			case strings.HasPrefix(name, "mailauth"):
				z = mailauth
			case strings.HasPrefix(name, "stalwart"):
				raw, z = cutKeys(raw)
			}
			compareResults(t, want.results, parse(t, raw).verify(z, beforeExpiry))
		})
	}
	for name := range otherSuites {
		if !seen[name] {
			t.Errorf("%s is not in the suites any more", name)
		}
	}
}

func suiteMessages(t *testing.T, dir string) []string {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch filepath.Ext(path) {
		case ".eml", ".mail", ".txt":
			if !strings.Contains(path, "LICENSE") {
				names = append(names, filepath.ToSlash(name))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// cutKeys takes the lines "name record" off the front of a case of stalwart.
func cutKeys(raw []byte) ([]byte, zone) {
	z := zone{}
	head, rest, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	for line := range strings.SplitSeq(string(head), "\r\n") {
		name, record, _ := strings.Cut(line, " ")
		z[name] = append(z[name], record)
	}
	return rest, z
}

// zoneFile reads {"name": {"TXT": ["text", ["in", "pieces"]]}}.
func zoneFile(t *testing.T, file string) zone {
	var names map[string]struct{ TXT []any }
	if err := json.Unmarshal(read(t, file), &names); err != nil {
		t.Fatal(err)
	}
	z := zone{}
	for name, node := range names {
		for _, record := range node.TXT {
			text, ok := record.(string)
			if pieces, many := record.([]any); many {
				for _, p := range pieces {
					text += p.(string)
				}
			} else if !ok {
				t.Fatalf("%s: a record of %s is no text", file, name)
			}
			z[name] = append(z[name], text)
		}
	}
	return z
}

// compareResults compares statuses and, after a colon, a part of the reason.
func compareResults(t *testing.T, want []string, results []Result) {
	t.Helper()
	var got []string
	for i, r := range results {
		s := r.Status.String()
		if i < len(want) {
			status, reason, _ := strings.Cut(want[i], ": ")
			if reason != "" && r.Err != nil && strings.Contains(r.Err.Error(), reason) {
				s += ": " + reason
			}
			if status == "permanent" && (r.Status == Fail || r.Status == Policy || r.Status == PermError) {
				s = "permanent"
			}
		}
		got = append(got, s)
		t.Logf("%s %s: %s, %v", r.KeyName, r.Algorithm, r.Status, r.Err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
