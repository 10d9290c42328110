package arc

import (
	"strings"
	"testing"
)

func TestWhereTheNumberOfResultsIsRead(t *testing.T) {
	for value, want := range map[string]struct {
		number int
		rest   string
	}{
		"i=1; mx.example; spf=pass":       {1, " mx.example; spf=pass"},
		" (a) i (b(c)) = \r\n\t07 (d) ;x": {7, "x"},
		"i=50;":                           {50, ""},
		`(\)) i=2;x`:                      {2, "x"},
		"i=0; x":                          {},
		"i=51; x":                         {},
		"i=001; x":                        {},
		"i=; x":                           {},
		"i=1 x; y":                        {},
		"i=1":                             {},
		"I=1; x":                          {},
		"mx.example; i=1":                 {},
		"a=b; i=1; x":                     {},
		"(i=1; x":                         {},
		"":                                {},
	} {
		number, rest, err := cutInstance([]byte(value))
		if number != want.number || string(rest) != want.rest || (err == nil) != (want.number > 0) {
			t.Errorf("%q: set %d, %q, %v", value, number, rest, err)
		}
	}
}

func TestWhatIsNoNumberOfASet(t *testing.T) {
	for _, v := range []string{"", "0", "00", "51", "-1", "+1", "1.", "1 ", "100", "1a", "٣", strings.Repeat("1", 1000)} {
		if n, err := parseInstance(v); err == nil {
			t.Errorf("%q is read as %d", v, n)
		}
	}
	for v, want := range map[string]int{"1": 1, "09": 9, "50": 50} {
		if n, err := parseInstance(v); n != want || err != nil {
			t.Errorf("%q: %d, %v", v, n, err)
		}
	}
}
