package bounce

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/standard/dsn"
	"anechoic/standard/report"
)

// suite is the folder of real bounces of many mail systems; it is no part of this
// project.
func suite(t *testing.T) string {
	t.Helper()
	root := os.Getenv("ANECHOIC_SUITES")
	if root == "" {
		root = "../../../shared/suites"
	}
	folder := filepath.Join(root, "real/sisimai/maildir")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("no bounces to read in %s: set ANECHOIC_SUITES to the folder of the suites", folder)
	}
	return folder
}

// readBounce reads a file with line ends of any kind, as CRLF, as mail arrives.
func readBounce(t *testing.T, path string) Incoming {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	return ReadIncoming(report.Message(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))))
}

// oneLine is what was read of a bounce: its kind, and a class a recipient.
func oneLine(in Incoming) string {
	words := []string{string(in.Kind)}
	if in.Kind == KindComplaint {
		words = append(words, string(in.Complaint.Type))
	}
	for _, r := range in.Recipients {
		word := string(r.Class)
		if r.Action != dsn.Failed {
			word = string(r.Action) + ":" + word
		}
		words = append(words, strings.TrimSuffix(word, ":"))
	}
	return strings.Join(words, " ")
}

// The share of bounces whose class is the right one, at least; docs/bounces.md
// states it.
const rightShare = 0.92

// TestRealBouncesAreClassified reads every bounce of the suite. What is read of
// each stands in testdata/bounces.golden; where that is not what a person reads in
// it, testdata/bounces.decided says what would be right, and why it stays.
func TestRealBouncesAreClassified(t *testing.T) {
	folder := suite(t)
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.eml"))
	if err != nil || len(files) < 400 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var got strings.Builder
	for _, f := range files {
		fmt.Fprintf(&got, "%s/%s %s\n", filepath.Base(filepath.Dir(f)), filepath.Base(f), oneLine(readBounce(t, f)))
	}
	const golden = "testdata/bounces.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("-want +got (go test -update writes it anew):\n%s", diff)
	}
	decided := decisions(t)
	wrong := 0
	for line := range strings.Lines(got.String()) {
		name, read, _ := strings.Cut(strings.TrimSpace(line), " ")
		right, listed := decided[name]
		switch {
		case listed && right == read:
			t.Errorf("%s reads as the decision says: take it out of bounces.decided", name)
		case listed:
			wrong++
		}
		delete(decided, name)
	}
	for name := range decided {
		t.Errorf("%s is decided and not in the suite", name)
	}
	if share := 1 - float64(wrong)/float64(len(files)); share < rightShare {
		t.Errorf("%.1f %% of %d are right, want %.0f %%", 100*share, len(files), 100*rightShare)
	} else {
		t.Logf("%d of %d are right (%.1f %%)", len(files)-wrong, len(files), 100*share)
	}
}

// decisions reads testdata/bounces.decided: file, what would be right, "#", why not.
func decisions(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("testdata/bounces.decided")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		text, why, ok := strings.Cut(s.Text(), "#")
		name, right, _ := strings.Cut(strings.TrimSpace(text), " ")
		if name == "" {
			continue
		}
		if !ok || strings.TrimSpace(why) == "" || right == "" {
			t.Errorf("bounces.decided: %q has no decision or no reason", s.Text())
		}
		list[name] = strings.TrimSpace(right)
	}
	return list
}

func TestWhatIsNoBounceIsNone(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(suite(t), "not", "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if in := readBounce(t, f); in.Kind != KindOther {
			t.Errorf("%s: %s", f, oneLine(in))
		}
	}
}

func TestOnlyPermanentWordsAboutTheAddressAreHard(t *testing.T) {
	for _, test := range []struct {
		r    IncomingRecipient
		hard bool
	}{
		{IncomingRecipient{Action: dsn.Failed, Status: "5.1.1"}, true},
		{IncomingRecipient{Action: dsn.Failed}, true},
		{IncomingRecipient{Action: dsn.Failed, Status: "4.1.1"}, false},
		{IncomingRecipient{Action: dsn.Delayed, Status: "5.1.1"}, false},
		{IncomingRecipient{Action: dsn.Delivered}, false},
		{IncomingRecipient{}, false},
	} {
		if test.r.Permanent() != test.hard {
			t.Errorf("%+v", test.r)
		}
	}
}

// FuzzReadIncoming lets anybody write what comes back: it is read within bounds,
// and the classes are ours.
func FuzzReadIncoming(f *testing.F) {
	f.Add([]byte("From: MAILER-DAEMON@x.example\r\nSubject: failure notice\r\n\r\nSorry.\r\n<bob@globex.example>:\r\n550 5.1.1 no such user\r\n\r\n--- Below this line is a copy of the message.\r\n\r\nReceived: from a\r\n"))
	f.Add([]byte("X-Failed-Recipients: a@b.example, c@d.example\r\n\r\nmailbox is full"))
	f.Add([]byte("Content-Type: text/html\r\nReturn-Path: <>\r\n\r\n<p>550 <b>user unknown"))
	f.Add([]byte("Subject: complaint about message from 192.0.2.1\r\nContent-Type: message/rfc822\r\n\r\nX-HmXmrOriginalRecipient: a@b.example\r\n\r\n"))
	f.Fuzz(func(t *testing.T, message []byte) {
		in := ReadIncoming(report.Message(message))
		if len(in.Recipients) > 100 {
			t.Fatalf("%d recipients", len(in.Recipients))
		}
		if len(in.MessageIDs) > maxMessageIDs || len(in.MessageIDs) > 0 && !in.Tells() || slices.ContainsFunc(in.MessageIDs, func(id string) bool { return BareID(id) == "" }) {
			t.Fatalf("it names %q, of kind %s", in.MessageIDs, in.Kind)
		}
		for _, r := range in.Recipients {
			if r.Class != "" && !slices.Contains(dsn.Classes(), r.Class) || len(r.Addresses) > 2 {
				t.Fatalf("%+v", r)
			}
		}
	})
}
