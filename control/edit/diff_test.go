package edit

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"anechoic/org"
)

// patched applies a unified diff, as patch does.
func patched(t fataler, before, diff []byte) (after []byte) {
	t.Helper()
	old, at := linesOf(before), 0
	lines := linesOf(diff)
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if i < 2 { // the names
			continue
		}
		if line[0] == '@' {
			var from, n, to, m int
			if _, err := fmt.Sscanf(string(line), "@@ -%d,%d +%d,%d @@", &from, &n, &to, &m); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if n > 0 {
				from--
			}
			for ; at < from; at++ {
				after = append(after, old[at]...)
			}
			continue
		}
		text := line[1:]
		if i+1 < len(lines) && bytes.HasPrefix(lines[i+1], []byte(`\ No newline`)) {
			text = bytes.TrimSuffix(text, []byte{'\n'})
		}
		switch line[0] {
		case '\\':
			continue
		case ' ', '-':
			if at >= len(old) || !bytes.Equal(old[at], text) {
				t.Fatalf("line %d of the old text is not %q:\n%s", at+1, text, diff)
			}
			if at++; line[0] == '-' {
				continue
			}
		}
		after = append(after, text...)
	}
	for ; at < len(old); at++ {
		after = append(after, old[at]...)
	}
	return after
}

func TestADiffLeadsFromOneTextToTheOther(t *testing.T) {
	line := rapid.SampledFrom([]string{"a\n", "b\n", "c\n", "\n"})
	texts := rapid.SliceOfN(line, 0, 40)
	rapid.Check(t, func(t *rapid.T) {
		var before, after []byte
		for _, l := range texts.Draw(t, "before") {
			before = append(before, l...)
		}
		for _, l := range texts.Draw(t, "after") {
			after = append(after, l...)
		}
		if rapid.Bool().Draw(t, "open") {
			after = append(after, "end"...)
		}
		diff := []byte(Diff("r", before, after))
		if got := patched(t, before, diff); !bytes.Equal(got, after) {
			t.Fatalf("%q with\n%s\nis %q, not %q", before, diff, got, after)
		}
	})
}

func TestPatchTakesADiff(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("patch is not installed: apt-get install patch")
	}
	changed := must(t, "remove")(RemoveSource([]byte(registry), "acme", "billing"))
	changed = must(t, "add")(AddOrganisation(changed, org.OrganisationEntry{ID: "new"}))
	file := filepath.Join(t.TempDir(), "registry.toml")
	writeFile(t, file, registry, 0o600)
	run := exec.Command(patch, file)
	run.Stdin = bytes.NewReader([]byte(Diff("registry.toml", []byte(registry), changed)))
	if text, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	f, err := Open(file)
	if err != nil || !bytes.Equal(f.Text, changed) {
		t.Errorf("%v\n%s", err, f.Text)
	}
}
