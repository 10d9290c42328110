package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"anechoic/control/config"
	"anechoic/docs"
	"anechoic/org"
)

// violations holds a value against a schema, for the words of JSON Schema that ours
// use. It works on the JSON that editors read.
func violations(where string, schema map[string]any, value any) (bad []string) {
	switch schema["type"] {
	case "object":
		table, ok := value.(map[string]any)
		if !ok {
			return []string{where + " is no table"}
		}
		properties, _ := schema["properties"].(map[string]any)
		for key, below := range table {
			known, ok := properties[key].(map[string]any)
			if !ok {
				bad = append(bad, where+"."+key+" is not in the schema")
				continue
			}
			bad = append(bad, violations(where+"."+key, known, below)...)
		}
		required, _ := schema["required"].([]any)
		for _, key := range required {
			if _, there := table[key.(string)]; !there {
				bad = append(bad, where+"."+key.(string)+" is missing")
			}
		}
	case "array":
		list, ok := value.([]any)
		if !ok {
			return []string{where + " is no list"}
		}
		for i, element := range list {
			bad = append(bad, violations(fmt.Sprintf("%s[%d]", where, i), schema["items"].(map[string]any), element)...)
		}
	case "string":
		text, ok := value.(string)
		if date, is := value.(toml.LocalDate); is && schema["format"] == "date" {
			text, ok = date.String(), true
		}
		words, closed := schema["enum"].([]any)
		if !ok || closed && !slices.Contains(words, any(text)) {
			bad = append(bad, fmt.Sprintf("%s is %v", where, value))
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			bad = append(bad, where+" is no boolean")
		}
	case "integer":
		if _, ok := value.(int64); !ok {
			bad = append(bad, where+" is no number")
		}
	default:
		bad = append(bad, fmt.Sprintf("%s has type %v", where, schema["type"]))
	}
	return bad
}

// asJSON is a schema as editors read it.
func asJSON(t *testing.T, s *config.Schema) (read map[string]any) {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

func check(t *testing.T, name string, s *config.Schema, text []byte) []string {
	t.Helper()
	var value map[string]any
	if err := toml.Unmarshal(text, &value); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return violations(name, asJSON(t, s), value)
}

func TestWhatLoadsFitsTheSchema(t *testing.T) {
	relay, registry := config.RelaySchema(docs.Describe), config.RegistrySchema(docs.Describe)
	tried := 0
	for _, dir := range []string{"testdata/good", "../../../shared/contract"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.toml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s := relay
			if filepath.Base(name) == "registry.toml" {
				s = registry
			} else if _, problems := config.Parse(name, text); len(problems) > 0 {
				continue // another kind of file
			}
			tried++
			for _, bad := range check(t, name, s, text) {
				t.Error(bad)
			}
		}
	}
	for _, bad := range check(t, "the defaults", relay, []byte(config.Default().Show())) {
		t.Error(bad)
	}
	if tried == 0 {
		t.Fatal("no file was tried")
	}
}

func TestWhatTheLoaderDoesNotKnowDoesNotFitTheSchema(t *testing.T) {
	for text, s := range map[string]*config.Schema{
		"hostname = \"a\"\nregistry = \"b\"\ncolour = 1":                  config.RelaySchema(docs.Describe),
		"hostname = \"a\"\nregistry = \"b\"\n[dns]\ndnssec = \"perhaps\"": config.RelaySchema(docs.Describe),
		"hostname = \"a\"\nregistry = \"b\"\n[smtp]\nmax_hops = \"50\"":   config.RelaySchema(docs.Describe),
		"registry = \"b\"": config.RelaySchema(docs.Describe),
		"[[organisation]]\nid = \"acme\"\nany_tenant = true":                        config.RegistrySchema(docs.Describe),
		"[[organisation]]\nid = \"acme\"\n[[organisation.source]]\nid = \"office\"": config.RegistrySchema(docs.Describe),
	} {
		if len(check(t, "it", s, []byte(text))) == 0 {
			t.Errorf("it fits:\n%s", text)
		}
	}
}

// keysOf are the keys of a struct that is decoded into.
func keysOf(typ reflect.Type, path string) (keys []string) {
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[toml.LocalDate]() {
		return []string{path}
	}
	for i := range typ.NumField() {
		if name := typ.Field(i).Tag.Get("toml"); name != "" {
			at := name
			if path != "" {
				at = path + "." + name
			}
			keys = append(keys, keysOf(typ.Field(i).Type, at)...)
		}
	}
	return keys
}

func TestTheSchemaHasEveryKeyOfTheRegistryAndNoOther(t *testing.T) {
	want := keysOf(reflect.TypeFor[org.Registry](), "")
	got := config.RegistrySchema(docs.Describe).Keys()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("the loader takes\n%v\nthe schema has\n%v", want, got)
	}
}

// Every key has its meaning where the cursor is; those of tables that the manual
// explains in prose have none.
func TestKeysAreDescribed(t *testing.T) {
	inProse := []string{"delivery.domain.", "delivery.egress.", "alerts.webhook.", "alerts.syslog.", "tracking.organisation."}
	for _, s := range []*config.Schema{config.RelaySchema(docs.Describe), config.RegistrySchema(docs.Describe)} {
		for _, key := range s.Keys() {
			prose := slices.ContainsFunc(inProse, func(p string) bool { return len(key) > len(p) && key[:len(p)] == p })
			if s.At(key).Description == "" && !prose {
				t.Errorf("%s has no description: docs/configuration.md has no row of it", key)
			}
		}
	}
}

func TestWhatIsExportedBuildsTheSame(t *testing.T) {
	for _, relay := range []string{"../../../shared/contract/relay.toml", "testdata/good/relay.toml"} {
		if _, err := os.Stat(relay); err != nil {
			continue
		}
		c, dir, problems, _ := config.Validate(relay)
		if len(problems) > 0 {
			t.Fatalf("%s: %v", relay, problems)
		}
		text := config.Export(dir)
		reg, problems := org.ParseRegistry(filepath.Join(t.TempDir(), "registry.toml"), []byte(text))
		if len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, text)
		}
		again, problems, _ := org.Build(reg, c.OrgProviders(), c.Egress(), dir.Generation(), time.Now())
		if len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, text)
		}
		if second := config.Export(again); second != text {
			t.Errorf("it was\n%s\nand is\n%s", text, second)
		}
	}
}

func TestDifferencesAreToldByNameNotByPlace(t *testing.T) {
	before := "[[organisation]]\nid = \"acme\"\nname = \"Acme\"\n[[organisation]]\nid = \"globex\"\nname = \"Globex\"\n"
	after := "[[organisation]]\nid = \"globex\"\nname = \"Globex Ltd\"\n"
	got, err := config.Differences("registry.toml", before, after)
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Difference{
		{File: "registry.toml", Key: "organisation[acme].id", Before: `"acme"`},
		{File: "registry.toml", Key: "organisation[acme].name", Before: `"Acme"`},
		{File: "registry.toml", Key: "organisation[globex].name", Before: `"Globex"`, After: `"Globex Ltd"`},
	}
	if !slices.Equal(got, want) {
		t.Errorf("it is %v, want %v", got, want)
	}
}
