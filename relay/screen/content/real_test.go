package content

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden is what the rules find in mail of others: how many messages have each
// finding. In mail that is no spam the findings are false alarms, or what a reader
// should indeed be shown.
const golden = "testdata/real.golden"

func TestRealMailRaisesFewAlarms(t *testing.T) {
	var got strings.Builder
	for _, folder := range []string{"real/spamassassin-public-corpus/easy-ham-1", "real/spamassassin-public-corpus/spam-1", "real/sisimai", "real/m365", "mime"} {
		dir := suites(t, filepath.FromSlash(folder))
		messages, flagged, counts := 0, 0, map[string]int{}
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !slices.Contains([]string{".eml", ".msg", ".raw", ".txt"}, filepath.Ext(name)) {
				return err
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			c := read(t, string(text))
			findings := Judge(c, Rules{Blocked: DefaultBlocked()})
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
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
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
		t.Errorf("the findings in real mail changed; look whether they are better, then run with -update (-want +got):\n%s", diff)
	}
}
