package docs

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"anechoic/control/config"
	"anechoic/org"
)

// documented gives the rows of a part of the page by key; an empty to is the end. The keys of a table
// whose heading is [name] are written without it.
func documented(t *testing.T, from, to string) map[string][]string {
	t.Helper()
	text := read(t, "docs/configuration.md").prose()
	_, text, found := strings.Cut(text, from)
	if !found {
		t.Fatalf("docs/configuration.md has no part that begins with %q", from)
	}
	if to != "" {
		text, _, _ = strings.Cut(text, to)
	}
	rows := map[string][]string{}
	for _, section := range strings.Split(text, "\n### ") {
		title, _, _ := strings.Cut(section, "\n")
		for _, row := range cells(section) {
			for _, key := range spans(row[0]) {
				rows[tableOf(title)+key] = row
			}
		}
	}
	return rows
}

// tableOf is the table that the keys below a heading stand in. Where a heading
// names several, keys are written with theirs.
func tableOf(title string) string {
	name, rest, ok := strings.Cut(strings.TrimPrefix(title, "["), "]")
	switch {
	case !ok || !strings.HasPrefix(title, "[") || strings.HasPrefix(title, "[["):
		return ""
	case strings.HasPrefix(rest, " and [providers."):
		return "providers.*."
	case strings.Contains(rest, "["):
		return ""
	}
	return name + "."
}

// flatten gives every key of a TOML table with its value.
func flatten(prefix string, table map[string]any, into map[string]any) {
	for key, value := range table {
		if below, ok := value.(map[string]any); ok {
			flatten(prefix+key+".", below, into)
			continue
		}
		into[prefix+key] = value
	}
}

func TestEveryKeyOfTheNodeIsDocumentedWithItsDefault(t *testing.T) {
	var shown map[string]any
	if err := toml.Unmarshal([]byte(config.Default().Show()), &shown); err != nil {
		t.Fatal(err)
	}
	defaults := map[string]any{}
	flatten("", shown, defaults)
	rows := documented(t, "\n## relay.toml\n", "\n## registry.toml\n")
	used := map[string]bool{}
	for key, value := range defaults {
		name := strings.NewReplacer("providers.microsoft365.", "providers.*.", "providers.google.", "providers.*.").Replace(key)
		row, ok := rows[name]
		if !ok {
			t.Errorf("docs/configuration.md does not tell of %s", key)
			continue
		}
		used[name] = true
		if want := defaultText(key, value); !strings.Contains(row[2], want) {
			t.Errorf("docs/configuration.md says that the default of %s is %s, and it is %s", key, row[2], want)
		}
	}
	for name := range rows {
		if !used[name] {
			t.Errorf("docs/configuration.md tells of %s, and there is no such key", name)
		}
	}
}

// defaultText is how the page writes a default.
func defaultText(key string, value any) string {
	switch v := value.(type) {
	case string:
		switch {
		case key == "data_dir":
			return `"data"` // shown as a whole path
		case key == "hostname" || key == "registry":
			return "none; required"
		case v == "":
			return "empty"
		}
		return fmt.Sprintf("`%q`", v)
	case []any:
		texts := make([]string, len(v))
		for i, element := range v {
			text, err := json.Marshal(element)
			if err != nil {
				return err.Error()
			}
			texts[i] = string(text)
		}
		if len(v) == 0 {
			return "" // said as `[]` or as empty
		}
		return "`[" + strings.Join(texts, ", ") + "]`"
	}
	return fmt.Sprintf("`%v`", value)
}

func TestEveryKeyOfTheRegistryIsDocumented(t *testing.T) {
	known := map[string]bool{}
	registryKeys(reflect.TypeFor[org.Registry](), "", known)
	rows := documented(t, "\n## registry.toml\n", "")
	for key, table := range known {
		if _, ok := rows[key]; !ok && !table {
			t.Errorf("docs/configuration.md does not tell of %s", key)
		}
	}
	for key := range rows {
		if _, ok := known[key]; !ok {
			t.Errorf("docs/configuration.md tells of %s, and there is no such key", key)
		}
	}
}

// registryKeys collects the keys of a type as the page writes them: tables that
// repeat have headings of their own, tables within them a dot. Tables are
// marked true: a row for the whole of one may stand, and need not.
func registryKeys(t reflect.Type, prefix string, into map[string]bool) {
	repeated := []string{"organisation", "domain", "source", "inbound", "webhook"}
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("toml")
		if name == "" {
			continue
		}
		below := t.Field(i).Type
		for below.Kind() == reflect.Slice || below.Kind() == reflect.Pointer {
			below = below.Elem()
		}
		if below.Kind() != reflect.Struct || below.PkgPath() != t.PkgPath() {
			into[prefix+name] = false
			continue
		}
		into[prefix+name] = true
		inner := prefix + name + "."
		if prefix == "" && slices.Contains(repeated, name) {
			inner = ""
		}
		registryKeys(below, inner, into)
	}
}
