package document

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

// gardens is a struct the quick way can fill: one list of tables.
type gardens struct {
	Gardens []plot `toml:"garden"`
}

type plot struct {
	Name  string          `toml:"name"`
	Since *toml.LocalDate `toml:"since"`
	Open  bool            `toml:"open"`
	Beds  []bed           `toml:"bed"`
	Shed  *shed           `toml:"shed"`
	Gate  shed            `toml:"gate"`
	Names [][]string      `toml:"names"`
}

const plainGardens = `# two gardens
[[garden]]
name = "a" # with a comment
since = 2026-11-22
  [[garden.bed]]
  size = 1
  plants = [ "rose", 'l''', # over lines
    """tulip
[[garden]]
""" ]
  row = [ { length = 1 }, { } ]
  [[garden.bed]]
  [[garden.bed.row]]
  length = 0
  [garden.shed]
  [garden.shed.tools]
  spades = 3

  [[ garden ]]
"name" = "b\u00e9"
open = true
names = [ [ ], [ "x" ] ]
[garden.gate]
tools = { spades = 7 }
[[garden]]
`

// both reads a text both ways, in pieces of one size, and reports differences. It
// says whether the quick way took the text.
func both(t *testing.T, text string, size int) bool {
	t.Helper()
	var fast, slow gardens
	taken := quick([]byte(text), &fast, size)
	d := &Document{file: "f", clean: []byte(text), shape: reflect.TypeFor[gardens]()}
	problems := d.careful(&slow)
	switch {
	case !taken:
		if fast.Gardens != nil {
			t.Error("it gave up and left something behind")
		}
	case len(problems) > 0:
		t.Errorf("the quick way took a text with faults:\n%s\n%s", text, told(problems))
	case !reflect.DeepEqual(fast, slow):
		t.Errorf("of the text\n%s\n-careful +quick:\n%s", text, cmp.Diff(slow.Gardens, fast.Gardens))
	}
	return taken
}

func TestAPlainListIsReadTheQuickWayInPiecesOfEverySize(t *testing.T) {
	text := strings.Replace(plainGardens, "'l'''", "'l'", 1)
	plain := strings.Replace(text, "\n[[garden]]\n\"\"\"", " [[garden]]\n\"\"\"", 1)
	for size := 1; size <= len(plain)+1; size += 1 + size/8 {
		taken := both(t, plain, size)
		header := strings.Contains(plain, "[[ garden ]]") // with blanks it begins no piece, and is read all the same
		if !taken || !header {
			t.Errorf("pieces of %d: given up", size)
		}
	}
	if !both(t, text, len(text)) {
		t.Error("given up as a whole")
	}
	if both(t, text, 1) {
		t.Error("a piece that began inside a text of several lines was taken")
	}
}

func TestWhatIsNotPlainIsLeftToTheCarefulWay(t *testing.T) {
	for name, text := range map[string]string{
		"not TOML":                   "[[garden]]\nname = \n",
		"unknown":                    "[[garden]]\nnome = \"a\"\n",
		"with capitals":              "[[garden]]\nName = \"a\"\n",
		"wrong type":                 "[[garden]]\nname = 1\n",
		"given twice":                "[[garden]]\nname = \"a\"\nname = \"a\"\n",
		"given twice in a line":      "[[garden]]\ngate = { tools = { spades = 1, spades = 2 } }\n",
		"table twice":                "[[garden]]\n[garden.gate]\n[garden.gate]\n",
		"table after its line":       "[[garden]]\ngate = { }\n[garden.gate]\n",
		"list after its line":        "[[garden]]\nbed = [ ]\n[[garden.bed]]\n",
		"line after its list":        "[[garden]]\n[[garden.bed]]\n[[garden]]\nbed = []\nbed = []\n",
		"below nothing":              "[[garden.bed]]\n",
		"below a line":               "[[garden]]\nshed = { }\n[garden.shed.tools]\n",
		"a table for a list":         "[[garden]]\n[garden.bed]\n",
		"a list for a table":         "[[garden]]\n[[garden.gate]]\n",
		"of the top":                 "[garden]\nname = \"a\"\n",
		"in one line":                "garden = [ { name = \"a\" } ]\n",
		"no such day":                "[[garden]]\nsince = 2026-02-30\n",
		"a time where a date stands": "[[garden]]\nsince = 2026-02-03T01:02:03\n",
		"not UTF-8":                  "[[garden]]\nname = \"\xff\"\n",
	} {
		if both(t, text, 8) || both(t, text, 1000) {
			t.Errorf("%s: it was taken", name)
		}
	}
}

// A rare form costs its own piece time, and not the whole text.
func TestAPieceWithARareFormIsReadAlone(t *testing.T) {
	for name, text := range map[string]string{
		"a table left out":         "[garden.shed.tools]\nspades = 2\n",
		"dotted":                   "gate.tools.spades = 1\n",
		"a large number":           "[[garden.bed]]\nsize = 1234567890\n",
		"a number in another form": "[[garden.bed]]\nsize = 1_0\n",
	} {
		whole := "# first\n[[garden]]\nname = \"a\"\n[[garden]]\n" + text + "[[garden]]\nname = \"c\"\n"
		for _, size := range []int{1, 30, 1000} {
			if !both(t, whole, size) {
				t.Errorf("%s, in pieces of %d: given up", name, size)
			}
		}
	}
	for _, text := range []string{
		"garden = [ { name = \"a\" } ]\n\n[[garden]]\nname = \"b\"\n",
		"[[garden]]\ngate.tools.spades = 1\n[[garden]]\nnome = \"a\"\n",
	} {
		if both(t, text, 1) || both(t, text, 1000) {
			t.Errorf("it took %q", text)
		}
	}
}

func TestStructsThatAreNoListAreLeftToTheCarefulWay(t *testing.T) {
	if quick(nil, new(garden), 10) || quick(nil, &gardens{Gardens: make([]plot, 1)}, 10) {
		t.Error("taken")
	}
	for _, target := range []any{
		new(struct {
			Many []map[string]string `toml:"garden"`
		}),
		new(struct {
			Texts []string `toml:"garden"`
		}),
		new(struct {
			Pointers []*plot `toml:"garden"`
		}),
	} {
		if quick([]byte("[[garden]]\n"), target, 10) {
			t.Errorf("%T was taken", target)
		}
	}
	empty := gardens{}
	if !quick([]byte("# nothing\n"), &empty, 10) || empty.Gardens != nil {
		t.Errorf("of nothing it made %+v", empty)
	}
}

// The quick way never takes what the careful way complains of, and never makes
// anything else of it.
func FuzzQuick(f *testing.F) {
	f.Add(plainGardens, 16)
	f.Add(strings.ReplaceAll(plainGardens, "\n", "\r\n"), 1)
	f.Add("[[garden]]\nname=\"\"\"\n[[garden]]\n\"\"\"\n[[garden]]\nopen=false\n", 1)
	f.Add("[[garden]]\nnames=[[\n[[garden]]\n", 1)
	f.Add("\ufeff[[garden]]\nsince = 2024-02-29\n[garden.shed]\n[garden.shed.tools]\nspades=007", 4)
	f.Add("[[garden.bed]]\n[[garden]]\n[garden.gate]\ntools={spades=+1}\n[[garden.bed.row]]", 4)
	f.Add("# \x00\n[[garden]]\n", 4)
	texts, _ := filepath.Glob("../testdata/*/*.toml")
	for _, path := range texts {
		if text, err := os.ReadFile(path); err == nil {
			f.Add(strings.NewReplacer("organisation", "garden", "domain", "bed", "source", "shed").Replace(string(text)), 64)
		}
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		both(t, text, max(size, 1))
	})
}
