package jsonobject

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestEverythingOfAPrintableTextPrintsAndMeansTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\u009b31m", "\u202eexe.txt", "\x7f", "\U000e0001tag", "\x1b]0;x\a", "é ü ✓"})).Draw(t, "text")
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		text = Printable(text)
		if strings.ContainsFunc(string(text), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q does not print", text)
		}
		var got, before string
		plain, _ := json.Marshal(want)
		if json.Unmarshal(text, &got) != nil || json.Unmarshal(plain, &before) != nil || got != before {
			t.Errorf("%q became %s", want, text)
		}
	})
}
