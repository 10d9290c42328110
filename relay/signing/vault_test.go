package signing

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"anechoic/org"
)

// sealedKey makes globex's key in a new data directory and gives the file.
func sealedKey(t *testing.T) (data, file string, dir *org.Directory) {
	t.Helper()
	data, dir = t.TempDir(), directory(t, globex())
	prepare(t, openKeys(t, data), dir)
	return data, filepath.Join(data, "keys", "globex", "globex.test", "g1.ed25519.age"), dir
}

func TestFilesOthersCanReachAreRefused(t *testing.T) {
	data, sealed, dir := sealedKey(t)
	identity := filepath.Join(data, "keys", "identity.txt")
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o601} {
		chmod(t, identity, mode)
		if _, err := OpenKeys(data); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("identity.txt with mode %v: %v", mode, err)
		}
	}
	chmod(t, identity, 0o600)
	chmod(t, sealed, 0o644)
	if _, problems := openKeys(t, data).Prepare(context.Background(), dir, nil); len(problems) != 1 {
		t.Errorf("a sealed key with mode 0644: %v", problems)
	}
	chmod(t, filepath.Join(data, "keys"), 0o770)
	if _, err := OpenKeys(data); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a directory with mode 0770: %v", err)
	}
}

func chmod(t *testing.T, name string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// Each row of the crash table at vault: what lies on disk, and that the next
// start goes on from there.
func TestCrashWhileAKeyIsMadeLeavesNothingHalf(t *testing.T) {
	for name, crash := range map[string]struct {
		arrange func(t *testing.T, sealed string)
		kept    bool // the key that was made is the key after the restart
	}{
		"nothing written":         {func(t *testing.T, sealed string) { remove(t, sealed) }, false},
		"unfinished file, empty":  {func(t *testing.T, sealed string) { unfinish(t, sealed, 0) }, false},
		"unfinished file, torn":   {func(t *testing.T, sealed string) { unfinish(t, sealed, 100) }, false},
		"unfinished file, whole":  {func(t *testing.T, sealed string) { unfinish(t, sealed, 1<<20) }, false},
		"linked, temporary there": {func(t *testing.T, sealed string) { link(t, sealed, sealed+unfinished) }, true},
		"finished":                {func(*testing.T, string) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			data, sealed, dir := sealedKey(t)
			before := openKeys(t, data)
			before.Use(prepare(t, before, dir))
			crash.arrange(t, sealed)
			for range 2 { // the second start finds what the first one made
				after := openKeys(t, data)
				after.Use(prepare(t, after, dir))
				if same := samePublic(public(t, before, globexKey), public(t, after, globexKey)); same != crash.kept {
					t.Errorf("the same key: %v, want %v", same, crash.kept)
				}
			}
		})
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Link(from, to); err != nil {
		t.Fatal(err)
	}
}

// unfinish leaves the first n octets under the unfinished name only.
func unfinish(t *testing.T, name string, n int) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+unfinished, content[:min(n, len(content))], 0o600); err != nil {
		t.Fatal(err)
	}
	remove(t, name)
}

func TestCrashWhileTheIdentityIsMadeLeavesNothingHalf(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "keys", "identity.txt.new"), []byte("AGE-SECRET-KEY-PQ-1QQ"), 0o600); err != nil {
		t.Fatal(err)
	}
	prepare(t, openKeys(t, data), directory(t, globex()))
	prepare(t, openKeys(t, data), directory(t, globex()))
}

func TestDamagedSealedKeyIsAnErrorAndNeverReplaced(t *testing.T) {
	data, sealed, dir := sealedKey(t)
	whole, err := os.ReadFile(sealed)
	if err != nil {
		t.Fatal(err)
	}
	keys := openKeys(t, data)
	rapid.Check(t, func(rt *rapid.T) {
		damaged := bytes.Clone(whole)
		at := rapid.IntRange(0, len(whole)-1).Draw(rt, "at")
		if rapid.Bool().Draw(rt, "torn") {
			damaged = damaged[:at]
		} else {
			damaged[at] ^= rapid.ByteRange(1, 255).Draw(rt, "flip")
		}
		if err := os.WriteFile(sealed, damaged, 0o600); err != nil {
			rt.Fatal(err)
		}
		set, problems := keys.Prepare(context.Background(), dir, nil)
		if set != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, sealed) || !strings.Contains(problems[0].Message, "move it away") {
			rt.Fatalf("got set %v and problems %v", set, problems)
		}
		if after, err := os.ReadFile(sealed); err != nil || !bytes.Equal(after, damaged) {
			rt.Fatal("the file was changed")
		}
	})
}

func TestReloadDoesNotNeedSealedKeysThatAreInUse(t *testing.T) {
	data, sealed, dir := sealedKey(t)
	keys := openKeys(t, data)
	keys.Use(prepare(t, keys, dir))
	before := public(t, keys, globexKey)
	if err := os.WriteFile(sealed, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys.Use(prepare(t, keys, dir))
	if !samePublic(before, public(t, keys, globexKey)) {
		t.Error("another key after the reload")
	}
}

func TestLostIdentityIsNotReplacedWhileKeysAreSealedToIt(t *testing.T) {
	data, _, _ := sealedKey(t)
	identity := filepath.Join(data, "keys", "identity.txt")
	remove(t, identity)
	if _, err := OpenKeys(data); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(identity); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a new identity was made: %v", err)
	}
}

func TestDamagedIdentityIsNotShown(t *testing.T) {
	data, _, _ := sealedKey(t)
	identity := filepath.Join(data, "keys", "identity.txt")
	content, err := os.ReadFile(identity)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(identity, append(content, "and more"...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenKeys(data)
	if err == nil || strings.Contains(err.Error(), string(content[19:40])) {
		t.Errorf("got %v", err)
	}
}

func TestSealedKeyOfAnotherOrganisationDoesNotOpen(t *testing.T) {
	data, sealed, _ := sealedKey(t)
	stolen := filepath.Join(data, "keys", "hooli", "hooli.test")
	if err := os.MkdirAll(stolen, 0o700); err != nil {
		t.Fatal(err)
	}
	link(t, sealed, filepath.Join(stolen, "g1.ed25519.age"))
	dir := directory(t, organisation("hooli", "hooli.test", org.KeyEntry{Selector: "g1", Algorithm: "ed25519"}))
	_, problems := openKeys(t, data).Prepare(context.Background(), dir, nil)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, errForeign.Error()) {
		t.Errorf("got %v", problems)
	}
}

func TestNamesThatLeaveTheDirectoryAreRefused(t *testing.T) {
	acmeTest := domain("acme.test")
	for _, ref := range []KeyRef{
		{"..", acmeTest, "a", org.Ed25519},
		{"acme", acmeTest, "../../x", org.Ed25519},
		{"acme", acmeTest, "a/b", org.Ed25519},
		{"acme", acmeTest, ".hidden", org.Ed25519},
		{"acme", acmeTest, "", org.Ed25519},
		{"", acmeTest, "a", org.Ed25519},
		{"acme", domain("x.test").Parent().Parent(), "a", org.Ed25519},
		{"acme", acmeTest, "a", "../../x"},
	} {
		if name, err := ref.file(); err == nil {
			t.Errorf("%s is the file %s", ref, name)
		}
	}
}

func TestDirectoryThatCannotBeMadeIsAProblem(t *testing.T) {
	data := t.TempDir()
	keys := openKeys(t, data)
	inTheWay := filepath.Join(data, "keys", "globex")
	if err := os.WriteFile(inTheWay, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	set, problems := keys.Prepare(context.Background(), directory(t, globex()), nil)
	if set != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, inTheWay) {
		t.Errorf("got %v and %v", set, problems)
	}
	remove(t, inTheWay)
	prepare(t, keys, directory(t, globex()))
}

func TestWhatExistsIsNeverOverwritten(t *testing.T) {
	v := openKeys(t, t.TempDir()).vault
	for _, content := range []string{"first", "second"} {
		if err := v.write("acme/key.age", []byte(content)); (err == nil) != (content == "first") {
			t.Errorf("%s: %v", content, err)
		}
	}
	if got, err := v.read("acme/key.age", maxSealed); err != nil || string(got) != "first" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFileThatIsNoOrdinaryOneIsRefused(t *testing.T) {
	v := openKeys(t, t.TempDir()).vault
	if err := os.Mkdir(v.place("acme"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := v.write("big", make([]byte, maxSealed+1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", v.place("outside")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"acme": "not a regular file", "big": "the limit is", "outside": "escapes"} {
		if got, err := v.read(name, maxSealed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d octets and %v, want %q", name, len(got), err, want)
		}
	}
}
