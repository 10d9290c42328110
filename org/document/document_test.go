package document

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

type garden struct {
	Name  string          `toml:"name"`
	Since *toml.LocalDate `toml:"since"`
	Open  bool            `toml:"open"`
	Beds  []bed           `toml:"bed"`
	Shed  shed            `toml:"shed"`
}

type bed struct {
	Size   int      `toml:"size"`
	Plants []string `toml:"plants"`
	Rows   []row    `toml:"row"`
}

type row struct {
	Length int `toml:"length"`
}

type shed struct {
	Tools *tools `toml:"tools"`
}

type tools struct {
	Spades int `toml:"spades"`
}

// told lists problems a line each.
func told(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

func TestEveryFaultOfFormIsTold(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"nothing wrong", "name = \"a\"\nopen = true\nsince = 2026-11-22\n[[bed]]\nsize = 1\nplants = [\"x\"]\n[[bed.row]]\nlength = 2\n[shed.tools]\nspades = 1\n", ""},
		{"inline", "bed = [ { size = 1, row = [ { length = 1 } ] }, { plants = [] } ]\nshed = { tools = { spades = 1 } }\n", ""},
		{"dotted", "shed.tools.spades = 1\n", ""},
		{"unknown, at every level", "x = 1\n[y]\nz = 1\n[[bed]]\nsise = 1\nrow = [ { long = 1 } ]\n[shed.tools.box]\n[shed.tools]\nspdes = 1\n", `
f:1:1: x: unknown key "x" (known here: bed, name, open, shed, since)
f:2:2: y: unknown key "y" (known here: bed, name, open, shed, since)
f:5:1: bed[0].sise: unknown key "sise" (did you mean "size"?)
f:6:11: bed[0].row[0].long: unknown key "long" (known here: length)
f:7:13: shed.tools.box: unknown key "box" (known here: spades)
f:9:1: shed.tools.spdes: unknown key "spdes" (did you mean "spades"?)
`},
		{"wrong types", "name = 1\nsince = \"2026\"\nopen = 1.5\nbed = \"x\"\n[shed]\ntools = 1979-05-27T07:32:00Z\n", `
f:1:8: name: a text in double quotes is wanted here, not a whole number
f:2:9: since: a date such as 2027-01-31 is wanted here, not a text
f:3:8: open: true or false, without quotes, is wanted here, not a number with a fraction
f:4:7: bed: a list of tables is wanted here, not a text
f:6:9: shed.tools: a table is wanted here, not a date and time
`},
		{"wrong types in lists", "[[bed]]\nplants = [\"a\", 1, [\"b\"], { c = 1 }]\nrow = [ 1 ]\n", `
f:2:16: bed[0].plants[1]: a text in double quotes is wanted here, not a whole number
f:2:16: bed[0].plants[2]: a text in double quotes is wanted here, not a list
f:2:26: bed[0].plants[3]: a text in double quotes is wanted here, not a table
f:3:9: bed[0].row[0]: a table is wanted here, not a whole number
`},
		{"headers of the wrong form", "[bed]\nsize = 1\n[[shed]]\n[name]\nx = 1\n[name.x]\n", `
f:1:2: bed: bed is a list of tables (write [[bed]], once for each)
f:3:3: shed[0]: shed is a table (write [shed])
f:4:2: name: name is a text in double quotes (write name = …)
f:6:7: name.x: unknown key "x" (no keys can stand here)
`},
		{"given twice", "name = \"a\"\nname = \"b\"\n[shed]\n[shed]\n", `
f:2:1: name: key name is already defined (write it once, in a form TOML knows)
f:4:2: shed: table shed already exists (write it once, in a form TOML knows)
`},
		{"with capitals", "Name = \"a\"\n", `
f:1:1: Name: unknown key "Name" (did you mean "name"?)
`},
		{"too large a number", "[[bed]]\nsize = 99999999999999999999\nplants = [1]\n", `
f:2:8: bed[0].size: decimal number is too large to fit in a 64-bit signed integer (write it once, in a form TOML knows)
f:3:11: bed[0].plants[0]: a text in double quotes is wanted here, not a whole number
`},
		{"not TOML, and more", "name = a\nopen = tru\n[[bed]\nsize = \n[[bed]]\nsize = \"x\"\nplants = [\"a\"\n[[bed]]\nsise = 1\n", `
f:1:8: not TOML: unexpected character U+0061 'a' at start of value (texts stand in double quotes, lists in [ ])
f:2:8: not TOML: expected keyword "true" (texts stand in double quotes, lists in [ ])
f:3:6: not TOML: expected ']]' to close array table name (texts stand in double quotes, lists in [ ])
f:6:8: bed[0].size: a whole number, without quotes, is wanted here, not a text
f:8:1: not TOML: expected ',' or ']' after array value (texts stand in double quotes, lists in [ ])
f:9:1: bed[0].sise: unknown key "sise" (did you mean "size"?)
`},
		{"not UTF-8", "name = \"\xff\"\n", `
f:1:9: not TOML: invalid UTF-8 character in basic string (texts stand in double quotes, lists in [ ])
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var g garden
			_, problems := Decode("f", []byte(test.text), &g)
			if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), told(problems)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWhatIsWellFormedIsDecodedBesideWhatIsNot(t *testing.T) {
	g := garden{Open: true}
	d, problems := Decode("f", []byte("name = \"a\"\n[[bed]]\nsize = \"x\"\nplants = [\"p\"]\n[[bed]]\nsize = 2\nsize = 3\n"), &g)
	want := garden{Name: "a", Open: true, Beds: []bed{{Plants: []string{"p"}}, {Size: 2}}}
	if diff := cmp.Diff(want, g); diff != "" || len(problems) != 2 {
		t.Errorf("-want +got:\n%s%s", diff, told(problems))
	}
	if d.Broken() || !d.Unread("bed[0].size") || d.Unread("bed[0].plants") {
		t.Error("bed[0].size alone was not read")
	}
}

func TestUnknownNamesAreNotDecodedAsThoseTheyResemble(t *testing.T) {
	var g garden
	_, problems := Decode("f", []byte("Name = \"a\"\n[Shed]\n[[Bed]]\nsize = 1\n[[BED.row]]\n[[bed]]\nSize = 2\n"), &g)
	if diff := cmp.Diff(garden{Beds: []bed{{}}}, g); diff != "" || len(problems) != 5 {
		t.Errorf("-want +got:\n%s%s", diff, told(problems))
	}
}

func TestPlacesAreThoseOfTheNearestThing(t *testing.T) {
	const text = "name = \"a\"\n\n[[bed]]\n  size = 1\n  plants = [\"p\",\n    \"q\"]\n[[bed]]\nrow = [ { length = 1 } ]\n[[bed.row]]\n"
	var g garden
	d, _ := Decode("f", []byte(strings.Replace(text, "[[bed.row]]\n", "", 1)), &g)
	got := told(d.Place([]Problem{
		{Where: "bed[1].row[0].length", Message: "a"},
		{Where: "bed[0].plants[1]", Message: "b", Also: "bed[0].plants[0]"},
		{Where: "bed[1].plants", Message: "c"},
		{Where: "name", Message: "d"},
		{Where: "shed.tools.spades", Message: "e", Hint: "dig"},
		{Where: "bed[7].size", Message: "f"},
	}))
	want := `f: shed.tools.spades: e (dig)
f:1:1: name: d
f:3:3: bed[7].size: f
f:6:5: bed[0].plants[1]: b; see also f:5:13
f:7:3: bed[1].plants: c
f:8:11: bed[1].row[0].length: a
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFaultsWithoutEndAreGivenUp(t *testing.T) {
	var g garden
	d, problems := Decode("f", []byte(strings.Repeat("name = a\n", 1000)), &g)
	if len(problems) != maxFaults || !d.Broken() {
		t.Errorf("%d problems", len(problems))
	}
	_, problems = Decode("f", []byte(strings.Repeat("open = true\n", 1000)), &g)
	if len(problems) != maxFaults {
		t.Errorf("%d problems", len(problems))
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name = \"a\"\n[[bed]]\nsize = \"x\"\n[shed.tools]\nspades = 1\n"))
	f.Add([]byte("[[bed]\nname = [1,\n{a=1}\n[bed.x]]\n"))
	f.Add([]byte("bed = [[[[{}]]]]\nbed.x = 1\n[bed]\n"))
	f.Add([]byte("\"a.b\".'c' = 1\nname.x.y = 2\n[name]\n[[name]]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := string(text)
		var g garden
		d, problems := Decode("f", text, &g)
		if string(text) != before {
			t.Error("the text was changed")
		}
		for _, p := range append(problems, d.Place([]Problem{{Where: "bed[0].size"}, {Where: "x"}})...) {
			if p.Line < 0 || p.Line > strings.Count(before, "\n")+1 {
				t.Errorf("outside the text: %v", p)
			}
		}
		if err := toml.Unmarshal(text, new(garden)); err != nil && len(problems) == 0 {
			t.Errorf("%v, and no problem", err)
		}
	})
}
