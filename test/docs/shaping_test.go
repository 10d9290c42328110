package docs

import (
	"strings"
	"testing"

	"anechoic/relay/delivery"
)

// TestEveryKeyOfTheShapingFileIsDocumented: a key that nobody knows is answered
// with those that are; each of them has its row, and each row is one of them.
func TestEveryKeyOfTheShapingFileIsDocumented(t *testing.T) {
	known := map[string]bool{}
	for prefix, text := range map[string]string{"": "nonesuch = 1\n[[site]]\nnonesuch = 1\n", "reply.": "[[default.reply]]\nnonesuch = 1\n"} {
		_, problems := delivery.ParseShaping("shaping.toml", []byte(text))
		for _, p := range problems {
			_, list, _ := strings.Cut(p.Hint, "known here: ")
			for key := range strings.SplitSeq(list, ", ") {
				if key != "" && key != "site" && key != "default" && key != "reply" {
					known[prefix+key] = true
				}
			}
		}
	}
	if len(known) < 14 {
		t.Fatalf("only %v are known: the program words its answer otherwise", known)
	}
	told := map[string]bool{}
	for _, row := range cells(read(t, "docs/shaping.md").prose()) {
		for _, key := range spans(row[0]) {
			told[key] = true
			if !known[key] {
				t.Errorf("docs/shaping.md tells of %s, and there is no such key", key)
			}
		}
	}
	for key := range known {
		if !told[key] {
			t.Errorf("docs/shaping.md does not tell of %s", key)
		}
	}
}
