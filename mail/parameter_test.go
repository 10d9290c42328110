package mail

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParametersAreReadForgivingly(t *testing.T) {
	for _, c := range []struct {
		value, word string
		want        []Parameter
	}{
		{`text/plain`, "text/plain", nil},
		{` Attachment; FileName="a; b.txt" ; size=3`, "attachment", []Parameter{{"filename", "a; b.txt"}, {"size", "3"}}},
		{"application/pdf (a comment);\r\n\tname*0*=utf-8''%41; name*1=b", "application/pdf", []Parameter{{"name*0*", "utf-8''%41"}, {"name*1", "b"}}},
		{`x/y; name=a; name=b`, "x/y", []Parameter{{"name", "a"}, {"name", "b"}}},
		{`;;=;name="unfinished`, "", []Parameter{{"name", "unfinished"}}},
		{``, "", nil},
	} {
		word, got := ReadParameters([]byte(c.value))
		if word != c.word {
			t.Errorf("%q: the word is %q, want %q", c.value, word, c.word)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", c.value, diff)
		}
	}
	if _, got := ReadParameters([]byte("a/b" + strings.Repeat(";a=b", 1000))); len(got) != maxParameters {
		t.Errorf("%d parameters, want %d", len(got), maxParameters)
	}
}

// Whatever a stranger wrote, what is read of it is bounded, has names in small letters,
// and no more octets than were there.
func FuzzReadParameters(f *testing.F) {
	for _, seed := range []string{
		`Attachment; FileName="a; b.txt" ; size=3`, "application/pdf (a (nested) comment);\r\n\tname*0*=utf-8''%41; name*1=b", `x/y; name="a\"b\\"; =; ;name=`, `;;=;name="unfinished`, "text/html(;charset=\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		word, list := ReadParameters(value)
		if word != strings.ToLower(word) || len(word) > 3*len(value) || len(list) > maxParameters {
			t.Fatalf("%q: the word %q, %d parameters", value, word, len(list))
		}
		octets := 0
		for _, p := range list {
			octets += len(p.Name) + len(p.Value)
			if p.Name == "" || p.Name != strings.ToLower(p.Name) {
				t.Fatalf("%q: the name %q", value, p.Name)
			}
		}
		if octets > 3*len(value) {
			t.Fatalf("%q: %d octets in %+v", value, octets, list)
		}
	})
}
