package main

import (
	"strings"
	"testing"
)

func TestTheFileOfUnicodeIsRead(t *testing.T) {
	version, list, err := read(strings.NewReader("\ufeff# confusables.txt\n# Version: 15.0.0\n\n0441 ;\t0063 ;\tMA\t# ( с → c )\n006D ;\t0072 006E ;\tMA\t# m\n"))
	if err != nil || version != "15.0.0" || len(list) != 2 || list[0] != (mapping{'m', "rn"}) || list[1] != (mapping{'с', "c"}) {
		t.Errorf("%q %v %v", version, list, err)
	}
	source := string(write(version, list))
	for _, want := range []string{`confusablesVersion = "15.0.0"`, "{0x6d, 0, 2},{0x441, 2, 1},", `"rnc"`} {
		if !strings.Contains(source, want) {
			t.Errorf("the source has no %s:\n%s", want, source)
		}
	}
}

func TestABrokenFileIsAnError(t *testing.T) {
	for _, text := range []string{"", "# Version: 1\n", "# Version: 1\n0441 ; 0063\n", "# Version: 1\n0441 0442 ; 0063 ; MA\n", "# Version: 1\n0441 ; zz ; MA\n", "0441 ; 0063 ; MA\n"} {
		if _, _, err := read(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
