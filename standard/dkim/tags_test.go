package dkim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestTagListsKeepNamesAndValues(t *testing.T) {
	tags, err := ParseTags([]byte(" v=1 ; h = from :\r\n\tto;b=\r\n aGk\r\n =; d=b\xc3\xbccher.example; n= a=b ;e=;"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"v": "1", "h": "from :\tto", "b": "aGk =", "d": "bücher.example", "n": "a=b", "e": ""} {
		if got, ok := tags.Get(name); !ok || got != want {
			t.Errorf("%s=%q, %v; want %q", name, got, ok, want)
		}
	}
	if tags.First() != "v" {
		t.Errorf("the first tag is %q", tags.First())
	}
	if _, ok := tags.Get("V"); ok {
		t.Error("tag names do not differ by case")
	}
}

func TestBrokenTagListsAreRefused(t *testing.T) {
	for name, list := range map[string]string{
		"a name twice":         "v=1; a=x; v=1",
		"an empty element":     "v=1;; a=x",
		"no equals sign":       "v=1; a",
		"an empty name":        "=1",
		"a name with a hyphen": "v-1=1",
		"a digit first":        "1v=1",
		"only white space":     " ",
		"a control character":  "v=\x01",
		"a bare CR":            "v=a\rb",
		"not UTF-8":            "v=\xff",
		"a thousand tags":      thousandTags(),
		"a folded name":        "v\r\n x=1",
	} {
		if _, err := ParseTags([]byte(list)); !errors.Is(err, ErrTagSyntax) {
			t.Errorf("%s: %q gives %v", name, list, err)
		}
	}
}

func thousandTags() string {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "t%d=1;", i)
	}
	return b.String()
}
