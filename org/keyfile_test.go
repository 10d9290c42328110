package org

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// rsaKey is one RSA key for all tests: making one takes long.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	private, err := rsa.GenerateKey(rand.Reader, RSABits)
	if err != nil {
		panic(err)
	}
	return private
})

// edKey is the Ed25519 key of a seed.
func edKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))
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

func keyFile(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestUnusableKeyFilesAreNamedWithWhatToDo(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	publicDER, _ := x509.MarshalPKIXPublicKey(ed.Public())
	goodRSA, goodEd := pkcs8(t, rsaKey()), pkcs8(t, ed)
	for name, test := range map[string]struct {
		content   string
		algorithm Algorithm
		want      string // empty: it loads
	}{
		"rsa":                       {goodRSA, RSA2048, ""},
		"ed25519":                   {goodEd, Ed25519, ""},
		"text before the block":     {"Bag Attributes\n    friendlyName: an1\n" + goodEd, Ed25519, ""},
		"white space after":         {goodEd + "\r\n \n", Ed25519, ""},
		"empty":                     {"", RSA2048, "no PEM block"},
		"not PEM":                   {"MIIEvAIBADANBgkq", RSA2048, "no PEM block"},
		"cut off":                   {goodRSA[:len(goodRSA)/2], RSA2048, "no PEM block"},
		"PKCS #1":                   {pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(short)), RSA2048, "openssl pkcs8"},
		"encrypted":                 {pemOf("ENCRYPTED PRIVATE KEY", []byte{1}), RSA2048, "decrypt it"},
		"public":                    {pemOf("PUBLIC KEY", publicDER), Ed25519, "name the private one"},
		"a certificate":             {pemOf("CERTIFICATE", publicDER), Ed25519, "another type"},
		"broken content":            {pemOf("PRIVATE KEY", []byte("nonsense")), RSA2048, "does not parse"},
		"two keys":                  {goodEd + goodEd, Ed25519, "one key in one file"},
		"an elliptic curve key":     {pkcs8(t, ec), RSA2048, "DKIM has RSA and Ed25519"},
		"1024 bits":                 {pkcs8(t, short), RSA2048, "1024 bits"},
		"ed25519 for rsa":           {goodEd, RSA2048, "the registry says rsa-2048"},
		"rsa for ed25519":           {goodRSA, Ed25519, "the registry says ed25519"},
		"an algorithm of no one":    {goodRSA, "rsa-512", "the registry says rsa-512"},
		"larger than any key":       {goodEd + strings.Repeat("\n", MaxKeyFile), Ed25519, "larger than"},
		"encrypted the OpenSSL way": {"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", RSA2048, "PKCS #1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readKeyFile(keyFile(t, test.content), test.algorithm)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (!errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want it to say %q", err, test.want)
			}
		})
	}
}

func TestWhatIsNoFileOfAKeyIsNotRead(t *testing.T) {
	for file, want := range map[string]string{filepath.Join(t.TempDir(), "none.pem"): "no such file", t.TempDir(): "not a regular file"} {
		if _, err := readKeyFile(file, Ed25519); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%v, want it to say %q of %s", err, want, file)
		}
	}
}

// keyRegistry writes a registry whose one domain has an Ed25519 key in each of the
// files.
func keyRegistry(t *testing.T, files ...string) string {
	t.Helper()
	var keys []string
	for i, file := range files {
		keys = append(keys, fmt.Sprintf("{ selector = \"an%d\", algorithm = \"ed25519\", key_file = %q }", i+1, file))
	}
	path := filepath.Join(t.TempDir(), "registry.toml")
	text := "[[organisation]]\nid = \"acme\"\n[[organisation.domain]]\nname = \"acme.test\"\ndkim = [ " + strings.Join(keys, ", ") + " ]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeyFilesAreRelativeToTheRegistry(t *testing.T) {
	path := keyRegistry(t, "an1.pem")
	file := filepath.Join(filepath.Dir(path), "an1.pem")
	if err := os.WriteFile(file, []byte(pkcs8(t, edKey(1))), 0o600); err != nil {
		t.Fatal(err)
	}
	reg, problems := ReadRegistry(path)
	d, more, _ := Build(reg, shared, ours, 1, today)
	if d == nil {
		t.Fatal(problems, more)
	}
	acme, _ := d.Owner(domain(t, "acme.test"))
	if got := acme.Keys[0].File; got != file || reg.KeyFiles().Len() != 1 {
		t.Errorf("%s and %s, want %s", got, reg.KeyFiles(), file)
	}
}

func TestAKeyFileIsReadOnce(t *testing.T) {
	file := keyFile(t, pkcs8(t, edKey(1)))
	reg, problems := ReadRegistry(keyRegistry(t, file))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if err := os.WriteFile(file, []byte(pkcs8(t, edKey(2))), 0o600); err != nil {
		t.Fatal(err)
	}
	public := func(files *KeyFiles) crypto.PublicKey {
		key, err := files.Key(file, Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		return key.Public()
	}
	if !edKey(1).Public().(ed25519.PublicKey).Equal(public(reg.KeyFiles())) {
		t.Error("the key that was checked with the registry is not the one that is handed on")
	}
	if !edKey(2).Public().(ed25519.PublicKey).Equal(public(nil)) {
		t.Error("without keys that were read the file is not read")
	}
}

func TestEveryBadKeyFileIsAProblemInItsPlace(t *testing.T) {
	good, gone := keyFile(t, pkcs8(t, edKey(1))), filepath.Join(t.TempDir(), "gone.pem")
	reg, problems := ReadRegistry(keyRegistry(t, gone, good, keyFile(t, pkcs8(t, rsaKey()))))
	if len(problems) != 2 || problems[0].Line != 5 || problems[1].Line != 5 || problems[0].Column >= problems[1].Column {
		t.Fatalf("%v", problems)
	}
	if !strings.Contains(problems[0].Message, gone) || !strings.Contains(problems[1].Message, "the registry says ed25519") {
		t.Errorf("%v", problems)
	}
	if got := reg.KeyFiles().String(); got != "1 key files" {
		t.Errorf("%s", got)
	}
}

// Every number of a key is changed a little, in turn: no such key is taken, nor
// left for its first signature to find out.
func TestAnRSAKeyWhoseNumbersDisagreeIsNotTaken(t *testing.T) {
	type numbers struct {
		Version                         int
		N, E, D, P, Q, Dp, Dq, QInverse *big.Int
	}
	good := func() numbers {
		var k numbers
		if _, err := asn1.Unmarshal(x509.MarshalPKCS1PrivateKey(rsaKey()), &k); err != nil {
			t.Fatal(err)
		}
		return k
	}
	wrap := func(k numbers) []byte {
		inner, err := asn1.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		der, err := asn1.Marshal(struct {
			Version   int
			Algorithm pkix.AlgorithmIdentifier
			Key       []byte
		}{0, pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}, inner})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if _, ok := readRSA(wrap(good())); !ok {
		t.Fatal("a good key is not taken")
	}
	for i := range 8 {
		for _, by := range []int64{-2, 2} {
			k := good()
			field := reflect.ValueOf(&k).Elem().Field(i + 1).Interface().(*big.Int)
			field.Add(field, big.NewInt(by))
			if _, ok := readRSA(wrap(k)); ok {
				t.Errorf("number %d of the key, changed by %d, is taken", i, by)
			}
		}
	}
	k := good()
	k.Version = 1
	if _, ok := readRSA(wrap(k)); ok {
		t.Error("a key of several primes is taken")
	}
}

func TestAnRSAKeySignsAsTheStandardLibraryDoes(t *testing.T) {
	key, err := ParsePrivateKey([]byte(pkcs8(t, rsaKey())), RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("a digest"))
	got, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	want, err := rsaKey().Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x (%v)", got, want, err)
	}
	if _, lazy := key.(*RSAKey); !lazy {
		t.Errorf("a usual key is a %T, made ready before it is used", key)
	}
}

// BenchmarkKeyFile is what each key file costs a start: the aim of 5,000 in a second,
// with all else, leaves under 200 µs of each processor.
func BenchmarkKeyFile(b *testing.B) {
	file := keyFile(b, pkcs8(b, rsaKey()))
	for b.Loop() {
		if _, err := readKeyFile(file, RSA2048); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	ed := edKey(0)
	f.Add([]byte(pkcs8(f, ed)), true)
	f.Add([]byte(pkcs8(f, rsaKey())), false)
	f.Add([]byte("text\n"+pkcs8(f, ed)+"text"), true)
	f.Add([]byte(pemOf("RSA PRIVATE KEY", []byte{0x30, 0})), false)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----\n"), true)
	f.Fuzz(func(t *testing.T, content []byte, isEd bool) {
		algorithm := RSA2048
		if isEd {
			algorithm = Ed25519
		}
		private, err := ParsePrivateKey(content, algorithm)
		if err != nil {
			if private != nil || !errors.Is(err, ErrKeyFile) {
				t.Fatalf("key %v with error %v", private != nil, err)
			}
			return
		}
		standard := any(private)
		if key, ok := private.(*RSAKey); ok { // taken without the standard library, which must agree
			if standard, err = key.private(); err != nil {
				t.Fatalf("%v: crypto/x509 does not take it", err)
			}
		}
		same, err := ParsePrivateKey([]byte(pkcs8(t, standard)), algorithm)
		if err != nil || !same.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(private.Public()) {
			t.Fatalf("what was read does not write back: %v", err)
		}
	})
}

// A line of a key has slashes as a path has: what names no file is not repeated.
func TestAKeyInPlaceOfItsFileIsNotRepeated(t *testing.T) {
	for _, line := range []string{
		"MC4CAQAwBQYDK2VwBCIEIA/b/c/d/eF0g1h2I3j4K5l6M7n8O9p0Q1r2S3t4U5v6", "aB/cD/eF/gH/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN/op",
	} {
		file := filepath.Join(t.TempDir(), "registry.toml")
		text := fmt.Sprintf("[[organisation]]\nid = \"acme\"\n[[organisation.domain]]\nname = \"acme.test\"\ndkim = [ { selector = \"an1\", algorithm = \"ed25519\", key_file = %q } ]\n", line)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		reg, problems := ReadRegistry(file)
		_, more, _ := Build(reg, Providers{}, nil, 1, time.Now())
		all := fmt.Sprint(append(problems, more...))
		if !strings.Contains(all, "cannot be read") || strings.Contains(all, line[8:]) || strings.Contains(all, line[20:40]) {
			t.Errorf("%s", all)
		}
	}
}
