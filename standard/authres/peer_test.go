package authres

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// python is Debian's: the independent readers are installed for no other.
const python = "/usr/bin/python3"

// forPython gives results that python3-authres can read at all. It takes no
// quoted authserv-id, no empty text, no UTF-8, no type of its own, no method whose
// name begins with "none", and a quoted value only as the last of a result.
func forPython() *rapid.Generator[Results] {
	word := rapid.StringMatching(`x[a-z0-9]{0,8}`)
	text := rapid.Map(hostileText(), func(s string) string { return "." + s })
	return rapid.Custom(func(t *rapid.T) Results {
		r := Results{ID: "mx.ours.example", Version: rapid.IntRange(0, 1).Draw(t, "version")}
		for range rapid.IntRange(0, 4).Draw(t, "methods") {
			m := one(rapid.OneOf(word, rapid.SampledFrom([]string{"spf", "dkim", "dmarc", "arc", "iprev", "auth"})).Draw(t, "method"), word.Draw(t, "result"))
			m.Comment, m.Reason = text.Draw(t, "comment"), text.Draw(t, "reason")
			ptype := rapid.SampledFrom([]string{"smtp", "header", "body", "policy"})
			for range rapid.IntRange(0, 3).Draw(t, "properties") {
				value := rapid.StringMatching(`[a-z0-9.=]{1,5}@[a-z0-9]{1,9}\.example|[a-z0-9+_.-]{1,20}`).Filter(func(s string) bool { return !strings.HasPrefix(value(s), `"`) })
				m = m.With(ptype.Draw(t, "ptype"), word.Draw(t, "property"), value.Draw(t, "value"))
			}
			r.Methods = append(r.Methods, m.With(ptype.Draw(t, "ptype"), word.Draw(t, "property"), text.Draw(t, "value")))
		}
		return r
	})
}

// TestPythonReadsWhatWeWrite: an independent reader finds the same results in our
// fields, whatever stands in them.
func TestPythonReadsWhatWeWrite(t *testing.T) {
	if err := exec.Command(python, "-c", "import authres").Run(); err != nil {
		t.Skip("python3-authres is missing: apt-get install python3-authres")
	}
	var want []Results
	var texts []string
	for i := range 300 {
		r := forPython().Example(i).clean()
		texts = append(texts, r.String())
		r.Version = 0
		for j := range r.Methods {
			r.Methods[j].Comment = "" // comments are lost on it
		}
		want = append(want, empty(r))
	}
	input, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, filepath.Join("testdata", "read.py"))
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Results
		Error string
	}
	if err := json.Unmarshal(out, &got); err != nil || len(got) != len(want) {
		t.Fatalf("%d answers, %v", len(got), err)
	}
	for i := range got {
		if got[i].Error != "" {
			t.Errorf("%q: %s", texts[i], got[i].Error)
		} else if diff := cmp.Diff(want[i], empty(got[i].Results)); diff != "" {
			t.Errorf("%q\n%s", texts[i], diff)
		}
	}
	if !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, `\"`) }) {
		t.Error("no hostile text was among them")
	}
}
