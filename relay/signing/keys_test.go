package signing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"anechoic/org"
)

var digest = sha256.Sum256([]byte("what is signed"))

func TestMissingKeysAreMadeSealedAndOpenedAgain(t *testing.T) {
	data := t.TempDir()
	dir := directory(t, organisation("acme", "acme.test",
		org.KeyEntry{Selector: "an1", Algorithm: "rsa-2048"}, org.KeyEntry{Selector: "an1e", Algorithm: "ed25519"}))
	first := openKeys(t, data)
	first.Use(prepare(t, first, dir))
	second := openKeys(t, data)
	second.Use(prepare(t, second, dir))
	for _, ref := range []KeyRef{acmeRSA, acmeEd} {
		if !samePublic(public(t, first, ref), public(t, second, ref)) {
			t.Errorf("%s: another key after a restart", ref)
		}
	}
	if rsaPublic := public(t, first, acmeRSA).(*rsa.PublicKey); rsaPublic.N.BitLen() != 2048 {
		t.Errorf("the RSA key has %d bits", rsaPublic.N.BitLen())
	}
	var files []string
	err := filepath.WalkDir(filepath.Join(data, "keys"), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if !d.IsDir() {
			content, _ := os.ReadFile(name)
			if bytes.Contains(content, []byte("PRIVATE KEY")) {
				t.Errorf("%s is not sealed", name)
			}
			rel, _ := filepath.Rel(data, name)
			files = append(files, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"keys/acme/acme.test/an1.rsa-2048.age", "keys/acme/acme.test/an1e.ed25519.age", "keys/identity.txt"}
	if !reflect.DeepEqual(files, want) {
		t.Errorf("files are %q, want %q", files, want)
	}
}

func TestKeyFileOfTheRegistryIsUsed(t *testing.T) {
	keys := openKeys(t, t.TempDir())
	keys.Use(prepare(t, keys, directory(t, acme(rsaKeyFile(t)))))
	if !samePublic(public(t, keys, acmeRSA), rsaKey().Public()) {
		t.Error("the key is not that of the file")
	}
}

func TestContractsKeyFileLoads(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(projectRoot(t), "..", "shared", "contract", "globex-an1.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the contract examples are not beside the project: expected ../shared/contract")
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := org.ParsePrivateKey(content, org.RSA2048); err != nil {
		t.Error(err)
	}
}

func projectRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(t testing.TB, private any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PRIVATE KEY", der)
}

func TestEveryProblemIsListedAndTheOldKeysStay(t *testing.T) {
	keys := openKeys(t, t.TempDir())
	keys.Use(prepare(t, keys, directory(t, globex())))
	before := public(t, keys, globexKey)

	good, gone := rsaKeyFile(t), filepath.Join(t.TempDir(), "gone.pem")
	bad := directory(t, acme(good), organisation("hooli", "hooli.test", org.KeyEntry{Selector: "a", Algorithm: "ed25519", KeyFile: ed25519File(t)}))
	removed := keyFile(t, pkcs8(t, rsaKey()))
	for _, o := range []string{"acme", "hooli"} { // the files go bad after the registry was read
		found, _ := bad.Organisation(org.ID(o))
		found.Domains[0].Keys[0].File = map[string]string{"acme": gone, "hooli": removed}[o]
	}
	set, problems := keys.Prepare(context.Background(), bad, nil)
	if set != nil || len(problems) != 2 {
		t.Fatalf("got set %v and problems %v, want two problems", set, problems)
	}
	if p := problems[0].String(); !strings.Contains(p, "acme/acme.test/an1/rsa-2048") || !strings.Contains(p, gone) {
		t.Errorf("first problem: %s", p)
	}
	if p := problems[1].String(); !strings.Contains(p, "hooli/hooli.test/a/ed25519") || !strings.Contains(p, "registry says ed25519") {
		t.Errorf("second problem: %s", p)
	}
	if !samePublic(before, public(t, keys, globexKey)) {
		t.Error("the old key was lost")
	}
}

func ed25519File(t testing.TB) string {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keyFile(t, pkcs8(t, ed))
}

func TestPreparedKeysSignOnlyOnceUsed(t *testing.T) {
	keys := openKeys(t, t.TempDir())
	set := prepare(t, keys, directory(t, globex()))
	if _, err := keys.Public(globexKey); !errors.Is(err, ErrNoKey) {
		t.Errorf("before Use: %v, want ErrNoKey", err)
	}
	if _, err := keys.Sign(context.Background(), globexKey, digest[:], crypto.Hash(0)); !errors.Is(err, ErrNoKey) {
		t.Errorf("before Use: %v, want ErrNoKey", err)
	}
	keys.Use(set)
	if _, err := keys.Sign(context.Background(), globexKey, digest[:], crypto.Hash(0)); err != nil {
		t.Error(err)
	}
	keys.Use(prepare(t, keys, directory(t, initech())))
	if _, err := keys.Public(globexKey); !errors.Is(err, ErrNoKey) {
		t.Errorf("after its removal: %v, want ErrNoKey", err)
	}
}

func TestReloadReadsKeyFilesAgain(t *testing.T) {
	keys := openKeys(t, t.TempDir())
	file := ed25519File(t)
	dir := directory(t, organisation("globex", "globex.test", org.KeyEntry{Selector: "g1", Algorithm: "ed25519", KeyFile: file}))
	keys.Use(prepare(t, keys, dir))
	before := public(t, keys, globexKey)
	content, err := os.ReadFile(ed25519File(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	keys.Use(prepare(t, keys, dir))
	if samePublic(before, public(t, keys, globexKey)) {
		t.Error("the new key file was not read")
	}
}

func TestCancelledPrepareMakesNoKey(t *testing.T) {
	keys := openKeys(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	set, problems := keys.Prepare(ctx, directory(t, globex()), nil)
	if set != nil || len(problems) != 1 {
		t.Errorf("got %v and %v", set, problems)
	}
}

func TestKeysSignDKIMDigestsAndNothingElse(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	edKey, rsaKey := newKey(ed, ""), newKey(rsaKey(), "")
	for name, test := range map[string]struct {
		key    *key
		digest []byte
		opts   crypto.SignerOpts
		ok     bool
	}{
		"rsa digest":          {rsaKey, digest[:], crypto.SHA256, true},
		"ed25519 digest":      {edKey, digest[:], crypto.Hash(0), true},
		"rsa, raw":            {rsaKey, digest[:], crypto.Hash(0), false},
		"rsa, PSS":            {rsaKey, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256}, false},
		"rsa, SHA-1":          {rsaKey, digest[:20], crypto.SHA1, false},
		"ed25519, a text":     {edKey, []byte("pay to"), crypto.Hash(0), false},
		"ed25519, pre-hashed": {edKey, digest[:], crypto.SHA512, false},
		"no options":          {edKey, digest[:], nil, false},
	} {
		sig, err := test.key.sign(test.digest, test.opts)
		if (err == nil) != test.ok || (sig != nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamagedKeyIsFoundByItsFirstSignature(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	damaged := newKey(ed, "")
	damaged.public = slicesFlip(damaged.public.(ed25519.PublicKey))
	for range 2 {
		if sig, err := damaged.sign(digest[:], crypto.Hash(0)); !errors.Is(err, errFaulty) || sig != nil {
			t.Errorf("got signature %x and %v", sig, err)
		}
	}
}

func slicesFlip(k ed25519.PublicKey) ed25519.PublicKey {
	flipped := ed25519.PublicKey(bytes.Clone(k))
	flipped[0] ^= 1
	return flipped
}

// Printed in every way there is, and walked field by field through pointers,
// maps and unexported fields: no private key is found.
func TestPrivateKeysAreNeverPrinted(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA, acmeEd)
	sealed, err := os.ReadFile(filepath.Join(b.keys.vault.path, identityFile))
	if err != nil {
		t.Fatal(err)
	}
	private := rsaKey().(*rsa.PrivateKey)
	secrets := [][]byte{bytes.TrimSpace(sealed), private.D.Bytes(), private.Primes[0].Bytes(), private.Primes[1].Bytes()}

	set := b.keys.live.Load()
	one := set.keys[acmeRSA]
	read := readRegistry(t, rsaKeyFile(t))
	handle := b.use(context.Background(), candidate{ref: acmeRSA, public: one.public})
	for _, v := range []any{b.keys, *b.keys.vault, b.keys.vault, set, *set, set.keys, one, one.private, b.Signer, handle, acmeRSA, read, read.KeyFiles(), *read.KeyFiles()} { //nolint:govet // copies are the point
		var text bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&text, verb, v)
		}
		slog.New(slog.NewJSONHandler(&text, nil)).Info("key", "value", v)
		slog.New(slog.NewTextHandler(&text, nil)).Info("key", "value", v)
		for _, secret := range secrets {
			for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%d", secret), new(big.Int).SetBytes(secret).String()} {
				if strings.Contains(text.String(), form) {
					t.Errorf("%T prints a secret", v)
				}
			}
		}
		found := collect(reflect.ValueOf(v))
		for i, secret := range secrets {
			if bytes.Contains(found, secret) || bytes.Contains(found, reversed(secret)) {
				t.Errorf("%T holds secret %d in a field", v, i)
			}
		}
	}
	// The walk finds what is in a field: else the test would prove nothing.
	if !bytes.Contains(collect(reflect.ValueOf(struct{ hidden *rsa.PrivateKey }{private})), reversed(private.D.Bytes())) {
		t.Error("the walk does not find a key in a field")
	}
}

// readRegistry reads a registry with one RSA key in a file.
func readRegistry(t *testing.T, file string) org.Registry {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registry.toml")
	text := fmt.Sprintf("[[organisation]]\nid = \"acme\"\n[[organisation.domain]]\nname = \"acme.test\"\ndkim = [ { selector = \"an1\", algorithm = \"rsa-2048\", key_file = %q } ]\n", file)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	reg, problems := org.ReadRegistry(path)
	if len(problems) > 0 || reg.KeyFiles().Len() != 1 {
		t.Fatal(problems, reg.KeyFiles())
	}
	return reg
}

func TestAKeyFileThatWasReadWithTheRegistryIsNotReadAgain(t *testing.T) {
	file := rsaKeyFile(t)
	reg := readRegistry(t, file)
	dir, problems, _ := org.Build(reg, org.Providers{}, nil, 1, noon)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	keys := openKeys(t, t.TempDir())
	set, problems := keys.Prepare(t.Context(), dir, reg.KeyFiles())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	keys.Use(set)
	if !samePublic(rsaKey().Public(), public(t, keys, acmeRSA)) {
		t.Error("another key than was read with the registry")
	}
}

func reversed(b []byte) []byte {
	r := make([]byte, len(b))
	for i, c := range b {
		r[len(b)-1-i] = c
	}
	return r
}

// collect gathers the octets of everything reflection reaches from v, numbers in
// little-endian order.
func collect(v reflect.Value) []byte {
	seen := make(map[unsafe.Pointer]bool)
	var all []byte
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() && !seen[v.UnsafePointer()] {
				seen[v.UnsafePointer()] = true
				walk(v.Elem())
			}
		case reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i))
			}
			all = append(all, "\x00|\x00"...)
		case reflect.Map:
			for iter := v.MapRange(); iter.Next(); {
				walk(iter.Key())
				walk(iter.Value())
			}
		case reflect.String:
			all = append(all, v.String()...)
		case reflect.Uint8:
			all = append(all, byte(v.Uint()))
		case reflect.Uint, reflect.Uint64, reflect.Uintptr:
			for i := range 8 {
				all = append(all, byte(v.Uint()>>(8*i)))
			}
		}
	}
	walk(v)
	return all
}
