package docs

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"anechoic/control/config"
	manualpages "anechoic/docs"
	"anechoic/mail"
	"anechoic/test/docs/reference"
)

// generate is what to do when a page is stale.
const generate = "run: go run ./test/docs/generate"

func TestTheReferenceIsWhatTheProgramSays(t *testing.T) {
	commands, err := exec.Command(anechoic(t), "man", "--format", "markdown").Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := reference.Pages(root, string(commands))
	if err != nil {
		t.Fatal(err)
	}
	got := referencePages(t)
	for name, text := range want {
		if diff := cmp.Diff(text, got[name]); diff != "" {
			t.Errorf("%s/%s is stale (%s):\n%.2000s", reference.Folder, name, generate, diff)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s/%s is of nothing any more (%s)", reference.Folder, name, generate)
		}
	}
}

// referencePages reads docs/reference.
func referencePages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	folder := filepath.Join(root, reference.Folder)
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		relative, _ := filepath.Rel(folder, name)
		pages[filepath.ToSlash(relative)] = string(text)
		return err
	})
	if err != nil || len(pages) < 50 {
		t.Fatalf("only %d pages were found: %v", len(pages), err)
	}
	return pages
}

func TestEveryLinkOfTheReferenceLeadsSomewhere(t *testing.T) {
	for name, text := range referencePages(t) {
		at := filepath.Join(reference.Folder, name)
		for _, m := range link.FindAllStringSubmatch(page{at, text}.prose(), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := at
			if file != "" {
				target = filepath.Join(filepath.Dir(at), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", at, m[1])
			} else if anchor != "" && !slices.Contains(read(t, target).anchors(), anchor) {
				t.Errorf("%s links to %s: there is no such heading", at, m[1])
			}
		}
	}
}

func TestEveryWordOfTheRelayCanBeExplained(t *testing.T) {
	for _, r := range mail.Reasons() {
		if found := manualpages.Find(string(r)); len(found) == 0 || found[0].Kind != manualpages.Reason {
			t.Errorf("%s cannot be explained (%s)", r, generate)
		}
	}
	for _, word := range []string{"accepted", "smtp.max_hops", "max_hops", "organisation.source.from", "anechoic_refused_total", "anechoic_detained_messages"} {
		if found := manualpages.Find(word); len(found) == 0 || found[0].Text == "" {
			t.Errorf("%s cannot be explained (%s)", word, generate)
		}
	}
}

var exitRow = regexp.MustCompile(`(?m)^\| (\d+) \| (.*) \|$`)

func TestTheManualHasTheExitCodesOfTheProgram(t *testing.T) {
	told := exitRow.FindAllString(read(t, "docs/commands.md").text, -1)
	known := exitRow.FindAllString(referencePages(t)["commands.md"], -1)
	if diff := cmp.Diff(known, told); diff != "" || len(known) == 0 {
		t.Errorf("docs/commands.md has other exit codes (-program +page):\n%s", diff)
	}
}

func TestEveryConfigurationInTheManualFitsTheSchema(t *testing.T) {
	for _, p := range manual(t) {
		for _, b := range p.blocks() {
			var s *config.Schema
			switch b.kind {
			case "toml relay":
				s = config.RelaySchema(manualpages.Describe)
			case "toml registry":
				s = config.RegistrySchema(manualpages.Describe)
			default:
				continue
			}
			var value map[string]any
			if err := toml.Unmarshal([]byte(b.text), &value); err != nil {
				t.Fatalf("%s: %v", b.page, err)
			}
			for _, key := range keysIn("", value) {
				if s.At(key) == nil {
					t.Errorf("%s, block ```%s: the schema does not have %s", b.page, b.kind, key)
				}
			}
		}
	}
}

// keysIn are the keys of a value of TOML, without places in lists.
func keysIn(path string, value any) (keys []string) {
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			keys = append(keys, keysIn(strings.TrimPrefix(path+"."+key, "."), below)...)
		}
		return keys
	case []any:
		for _, element := range v {
			keys = append(keys, keysIn(path, element)...)
		}
	}
	if path != "" {
		keys = append(keys, path)
	}
	return keys
}
