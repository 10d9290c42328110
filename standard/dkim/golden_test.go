package dkim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGoldenTrios verifies the messages of testdata: NAME.msg with NAME.zone
// (lines "name text") gives the text of NAME.want. -update writes that.
func TestGoldenTrios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.msg")
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages in testdata (%v)", err)
	}
	for _, file := range files {
		base := strings.TrimSuffix(file, ".msg")
		t.Run(filepath.Base(base), func(t *testing.T) {
			m := parse(t, withCRLF(read(t, file)))
			got := describe(m.verify(lineZone(t, base+".zone"), noon))
			if *update {
				if err := os.WriteFile(base+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(read(t, base+".want")), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// lineZone reads lines "name text"; a name alone has no TXT record.
func lineZone(t *testing.T, file string) zone {
	z := zone{}
	for line := range strings.Lines(string(read(t, file))) {
		name, record, ok := strings.Cut(strings.TrimSpace(line), " ")
		if z[name] == nil {
			z[name] = []string{}
		}
		if ok {
			z[name] = append(z[name], record)
		}
	}
	return z
}

// describe writes results for people.
func describe(results []Result) string {
	var b strings.Builder
	for i, r := range results {
		fmt.Fprintf(&b, "signature %d: %s\n", i+1, r.Status)
		if r.Err != nil {
			fmt.Fprintf(&b, "  because %v\n", r.Err)
		}
		fmt.Fprintf(&b, "  %s, %d bits, at %s\n  for %s\n  signs %s\n", r.Algorithm, r.KeyBits, r.KeyName, r.Identity, strings.Join(r.SignedFields, " "))
		if r.Testing {
			b.WriteString("  the key is a test\n")
		}
	}
	return b.String()
}
