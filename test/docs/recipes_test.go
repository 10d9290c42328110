package docs

import (
	"encoding/hex"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"anechoic/org"
)

// program finds a program that a recipe needs, or leaves the test out. Where
// ANECHOIC_REQUIRE_PEERS is set nothing may be left out.
func program(t *testing.T, name, debian string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("ANECHOIC_REQUIRE_PEERS") != "" {
		t.Fatalf("%s is not installed (Debian: apt install %s)", name, debian)
	}
	t.Skipf("%s is not installed (Debian: apt install %s)", name, debian)
}

// run gives what a recipe of the README prints.
func run(t *testing.T, kind string) string {
	t.Helper()
	script := read(t, "README.md").blockOf(t, kind)
	text, err := exec.Command("sh", "-eu", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("the recipe for a %s failed: %v\n%s", kind, err, text)
	}
	return string(text)
}

func TestTheRecipeForASecretMakesOne(t *testing.T) {
	program(t, "python3", "python3")
	for range 5 {
		m := regexp.MustCompile(`^secret: (\S+)\nsha256: (\S+)\n$`).FindStringSubmatch(run(t, "sh secret"))
		if m == nil {
			t.Fatal("the recipe for a secret does not print secret and sha256")
		}
		hash, ok := org.HashSecret(m[1])
		if !ok || hex.EncodeToString(hash[:]) != m[2] {
			t.Errorf("%s is no secret with the hash %s", m[1], m[2])
		}
	}
}

func TestTheRecipeForAPasswordMakesItsHash(t *testing.T) {
	program(t, "argon2", "argon2")
	program(t, "openssl", "openssl")
	m := regexp.MustCompile(`^password: (\S+)\n(\S+)\n$`).FindStringSubmatch(run(t, "sh password"))
	if m == nil {
		t.Fatal("the recipe for a password does not print password and hash")
	}
	hash, err := org.ParsePasswordHash(m[2])
	if err != nil || !hash.Matches([]byte(m[1])) {
		t.Errorf("%s is no hash of %s: %v", m[2], m[1], err)
	}
}
