package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheContainerFileIsSound reads it as far as it can be read without an engine:
// what is copied is there, the user is not root, the program is asked for its health.
func TestTheContainerFileIsSound(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "packaging", "container", "Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]bool{}
	last := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "FROM":
			if _, name, ok := strings.Cut(rest, " AS "); ok {
				stages[name] = true
			}
			last = map[string]string{} // the last stage is what runs
		case "COPY":
			copied(t, stages, strings.Fields(rest))
		}
		last[word] = rest
	}
	if user := last["USER"]; !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("it runs as %q: want a number that is not 0", user)
	}
	for _, want := range []string{"HEALTHCHECK", "VOLUME", "ENTRYPOINT"} {
		if last[want] == "" {
			t.Errorf("the last stage has no %s", want)
		}
	}
	if goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(file(t, "go.mod")); !strings.Contains(string(text), "golang:"+goVersion[1]+"-") {
		t.Errorf("it is not built by Go %s, as go.mod says", goVersion[1])
	}
}

// copied looks for the sources of one COPY.
func copied(t *testing.T, stages map[string]bool, words []string) {
	t.Helper()
	if stage, ok := strings.CutPrefix(words[0], "--from="); ok {
		if !stages[stage] {
			t.Errorf("there is no stage %s before it is copied from", stage)
		}
		return
	}
	for _, source := range words[:len(words)-1] {
		if _, err := os.Stat(filepath.Join(root, source)); err != nil {
			t.Error(err)
		}
	}
}

func file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
