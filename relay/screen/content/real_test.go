package content

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

// realFolders are those of the shared suites that hold mail of others.
var realFolders = []string{"real/spamassassin-public-corpus/easy-ham-1", "real/spamassassin-public-corpus/spam-1", "real/sisimai", "real/m365", "mime"}

// realMail calls f with each message of a folder, in order of their names.
func realMail(t *testing.T, folder string, f func(name, text string)) {
	t.Helper()
	err := filepath.WalkDir(suites(t, filepath.FromSlash(folder)), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".eml", ".msg", ".raw", ".txt"}, filepath.Ext(name)) {
			return err
		}
		text, err := os.ReadFile(name)
		if err == nil {
			f(name, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// golden is what the rules find in mail of others: how many messages have each
// finding. In mail that is no spam the findings are false alarms, or what a reader
// should indeed be shown.
const golden = "testdata/real.golden"

func TestRealMailRaisesFewAlarms(t *testing.T) {
	var got strings.Builder
	for _, folder := range realFolders {
		messages, flagged, counts := 0, 0, map[string]int{}
		realMail(t, folder, func(name, text string) {
			findings := Judge(read(t, text), Rules{Blocked: DefaultBlocked()})
			if messages++; Worst(findings) >= Suspicious {
				flagged++
				if os.Getenv("ANECHOIC_SHOW") != "" {
					t.Logf("%s", name)
					for _, f := range findings {
						t.Logf("    %s %s %s %s", f.Code, f.Severity, f.Place, f.Text)
					}
				}
			}
			for _, word := range strings.Fields(codes(findings)) {
				counts[word]++
			}
		})
		fmt.Fprintf(&got, "%s: %d messages, %d with more than notes\n", folder, messages, flagged)
		var words []string
		for w := range counts {
			words = append(words, w)
		}
		slices.Sort(words)
		for _, w := range words {
			fmt.Fprintf(&got, "  %s %d\n", w, counts[w])
		}
	}
	compareGolden(t, golden, got.String(), "the findings in real mail changed; look whether they are better")
}

// TestRealMailIsReadAsBefore holds sums of all that is read of mail of others, and of
// its prints, which are stored: a change that is to make reading cheaper changes none.
func TestRealMailIsReadAsBefore(t *testing.T) {
	var got strings.Builder
	for _, folder := range realFolders {
		read, prints, judged := sha256.New(), sha256.New(), sha256.New()
		rules := Rules{Blocked: DefaultBlocked(), Protected: Protect(domains(t, "example.com", "paypal.com", "yahoo.com")), People: NewPeople([]string{"Ada Lovelace"}), Own: domains(t, "example.org")}
		realMail(t, folder, func(name, text string) {
			m := messageOf(t, text)
			for _, limits := range []Limits{{KeptText: 1 << 20}, tight} {
				c := readFacts(t, m, limits)
				fmt.Fprintf(read, "%s\n", factsOf(t, c))
				fmt.Fprintf(judged, "%q\n", Judge(c, rules))
			}
			fmt.Fprintf(prints, "%s\n", PrintOf(m))
		})
		fmt.Fprintf(&got, "%s: read %x, judged %x, prints %x\n", folder, read.Sum(nil)[:8], judged.Sum(nil)[:8], prints.Sum(nil)[:8])
	}
	compareGolden(t, "testdata/facts.golden", got.String(), "real mail is read in another way; prints that are stored must stay comparable")
}

// readFacts reads a message whose body can be read.
func readFacts(t *testing.T, m mail.Message, limits Limits) Content {
	t.Helper()
	c, err := Read(m, limits)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// factsOf is all that was read, as text.
func factsOf(t *testing.T, c Content) string {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func compareGolden(t *testing.T, file, got, change string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s, then run with -update (-want +got):\n%s", change, diff)
	}
}
