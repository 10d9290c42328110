package docs

import (
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"anechoic/control/config"
	"anechoic/org"
)

// made runs the command that a block of the page shows and gives the parts of
// its answer, in the form that the block has too.
func made(t *testing.T, kind, form string) []string {
	t.Helper()
	shown := read(t, firstConfiguration).blockOf(t, "console "+kind)
	line, sample, _ := strings.Cut(strings.TrimPrefix(shown, "$ anechoic "), "\n")
	like := regexp.MustCompile("^" + form + "\n$")
	if !like.MatchString(sample) {
		t.Errorf("the page shows an answer of anechoic %s in another form than\n%s\n%s", line, form, sample)
	}
	w := &walk{T: t, dir: t.TempDir()}
	answer := w.says(line)
	parts := like.FindStringSubmatch(string(answer))
	if parts == nil {
		t.Fatalf("anechoic %s does not answer in the form\n%s\nbut:\n%s", line, form, answer)
	}
	return parts
}

func TestTheCommandForASecretMakesOneThatLoads(t *testing.T) {
	parts := made(t, "secret", `(X-Acme-Relay-Key): (anx1_[a-z2-7]{27})\n(secret_header = \{ name = "X-Acme-Relay-Key", sha256 = \["([0-9a-f]{64})"\] \})`)
	hash, ok := org.HashSecret(parts[2])
	if !ok || hex.EncodeToString(hash[:]) != parts[4] {
		t.Errorf("%s is no secret with the hash %s", parts[2], parts[4])
	}
	source := loadedWith(t, `secret_header +`, parts[3], "office")
	if source.Secret == nil || source.Secret.Name != parts[1] || source.Secret.SHA256[0] != hash {
		t.Errorf("the line loads as %+v", source.Secret)
	}
}

func TestTheCommandForAPasswordMakesItsHash(t *testing.T) {
	parts := made(t, "password", `([A-Z2-7]{26})\n(password = \{ argon2id = "(\S+)" \})`)
	hash, err := org.ParsePasswordHash(parts[3])
	if err != nil || !hash.Matches([]byte(parts[1])) {
		t.Errorf("%s is no hash of %s: %v", parts[3], parts[1], err)
	}
	if source := loadedWith(t, `password +`, parts[2], "billing"); source.Password != parts[3] {
		t.Errorf("the line loads as %s", source.Password)
	}
}

// loadedWith puts a line into the page's registry, in the place of its own, and
// gives the source it is of.
func loadedWith(t *testing.T, place, line, source string) *org.Source {
	t.Helper()
	readme, dir := read(t, firstConfiguration), t.TempDir()
	registry := readme.blockOf(t, "toml registry")
	own := regexp.MustCompile(`(?m)^ *` + place + `= .*$`)
	if len(own.FindAllString(registry, -1)) != 1 {
		t.Fatalf("the page's registry does not have a line like %s once", own)
	}
	write(t, dir, "relay.toml", readme.blockOf(t, "toml relay"))
	write(t, dir, "registry.toml", own.ReplaceAllLiteralString(registry, line))
	_, directory, problems, _ := config.Validate(filepath.Join(dir, "relay.toml"))
	if directory == nil {
		t.Fatalf("it does not load: %v", problems)
	}
	found, ok := directory.Source("acme", source)
	if !ok {
		t.Fatalf("the page's registry has no source %s", source)
	}
	return found
}
