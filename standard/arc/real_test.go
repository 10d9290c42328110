package arc

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/standard/dkim"
)

// realMessage is a message of the suites that bears ARC fields: a file, or the
// message that a bounce in that file returns.
type realMessage struct {
	name string
	message
}

// realMessages finds every message with ARC fields in the suites that hold real
// mail, and the keys that were kept for them.
func realMessages(t testing.TB) ([]realMessage, zone) {
	t.Helper()
	dir := shared(t, "ANECHOIC_SUITES", "suites")
	z := zoneFile(t, filepath.Join(dir, "zones", "microsoft-and-google-arc-keys.json"))
	maps.Copy(z, zoneFile(t, filepath.Join(dir, "zones", "blaze.json")))
	var found []realMessage
	for _, suite := range []string{"arc/mailauth", "dkim", "real", "reports"} {
		err := filepath.WalkDir(filepath.Join(dir, suite), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				name, _ := filepath.Rel(dir, path)
				found = append(found, messagesIn(filepath.ToSlash(name), read(t, path))...)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found, z
}

var (
	sealLine = regexp.MustCompile(`(?mi)^ARC-(Seal|Message-Signature|Authentication-Results)[ \t]*:`)
	boundary = regexp.MustCompile(`(?i)boundary="?([^";\r\n]+)`)
)

// messagesIn cuts a file at the ends of its headers and MIME parts.
func messagesIn(name string, raw []byte) (found []realMessage) {
	if !sealLine.Match(raw) {
		return nil
	}
	raw = withCRLF(raw)
	for _, mbox := range []string{"From ", ">From "} {
		if bytes.HasPrefix(raw, []byte(mbox)) {
			_, raw, _ = bytes.Cut(raw, []byte("\r\n"))
		}
	}
	for start := 0; ; {
		rest := raw[start:]
		head, _, more := bytes.Cut(rest, []byte("\r\n\r\n"))
		if sealLine.Match(head) {
			if start > 0 {
				rest = untilBoundary(rest, raw)
			}
			if m, err := split(rest); err == nil {
				found = append(found, realMessage{fmt.Sprintf("%s, message %d", name, len(found)+1), m})
			} else {
				found = append(found, realMessage{name: fmt.Sprintf("%s, message %d", name, len(found)+1)})
			}
		}
		if !more {
			return found
		}
		start += len(head) + 4
	}
}

// untilBoundary ends a returned message where its MIME part ends.
func untilBoundary(part, whole []byte) []byte {
	for _, m := range boundary.FindAllSubmatch(whole, -1) {
		own := bytes.Contains(part, append([]byte(`boundary="`), m[1]...)) || bytes.Contains(part, append([]byte(`boundary=`), m[1]...))
		if end := bytes.Index(part, append([]byte("\r\n--"), m[1]...)); end >= 0 && !own {
			part = part[:end+2]
		}
	}
	return part
}

// TestRealSeals judges every real message with ARC fields by the keys that were kept.
// The golden file says of each set what its seal and its message signature gave. Of
// the seals by Microsoft and Google whose key is there, each one that does not verify
// is explained there.
func TestRealSeals(t *testing.T) {
	list, z := realMessages(t)
	got := &strings.Builder{}
	seals, sealers := 0, map[string]int{}
	known := map[string]bool{"google.com": true, "microsoft.com": true}
	for _, m := range list {
		c := m.validate(z)
		fmt.Fprintf(got, "%s\n  chain %s, seals %s", m.name, c.Status, c.SealStatus)
		if c.OldestPass > 0 {
			fmt.Fprintf(got, ", unchanged since %d", c.OldestPass)
		}
		if c.Err != nil {
			fmt.Fprintf(got, ": %v", c.Err)
		}
		got.WriteByte('\n')
		for _, i := range c.Instances {
			fmt.Fprintf(got, "  %d seal %s, message %s\n", i.Number, judged(i.Seal), judged(i.Message))
			if known[i.Seal.Domain.String()] && i.Seal.Status == dkim.Fail {
				why := explain(m.name, i)
				if fmt.Fprintf(got, "    %s\n", why); why == "" {
					t.Errorf("%s: nothing explains why seal %d does not verify", m.name, i.Number)
				}
			}
			if i.ResultsErr != nil {
				fmt.Fprintf(got, "    results: %v\n", i.ResultsErr)
			}
			if !i.Sealer().IsZero() {
				seals, sealers[i.Sealer().String()] = seals+1, sealers[i.Sealer().String()]+1
			}
		}
	}
	fmt.Fprintf(got, "\n%d messages, %d seals verify: %v\n", len(list), seals, sealers)
	const file = "testdata/real.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(read(t, file)), got.String()); diff != "" {
		t.Error(diff)
	}
}

// altered is messages that their suite changed so that seals break.
var altered = map[string]string{
	"arc/mailauth/test/fixtures/arc-fail.eml, message 1":  "the suite keeps this copy as one whose newest set was altered",
	"arc/mailauth/test/fixtures/arc-fail2.eml, message 1": "the suite keeps this copy as one whose oldest set was altered",
	"arc/mailauth/test/fixtures/arc-fail3.eml, message 1": "the suite put cv=fail in: the results of the same set say arc=pass",
}

// anonymous is what suites write where names of people and hosts stood.
var anonymous = regexp.MustCompile(`[@.]example\.(jp|com|org|co\.jp)|192\.0\.2\.`)

// explain says why the seal of a set does not verify with the key of its sealer.
func explain(name string, i Instance) string {
	if anonymous.MatchString(i.Text) {
		return "the suite put other names into the results that are sealed"
	}
	return altered[name]
}

// judged writes a result for people.
func judged(r dkim.Result) string {
	s := r.Status.String()
	if !r.Domain.IsZero() {
		s += " of " + r.Domain.String()
	}
	if r.Err != nil {
		s += " (" + r.Err.Error() + ")"
	}
	return s
}
