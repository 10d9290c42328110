package org

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyFiles writes one key of each sort into a new folder.
func keyFiles(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	write := func(name, kind string, der []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pkcs8 := func(name string, key any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		write(name, "PRIVATE KEY", der, err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	pkcs8("rsa2048.pem", small, err)
	large, err := rsa.GenerateKey(rand.Reader, 3072)
	pkcs8("rsa3072.pem", large, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	pkcs8("ed25519.pem", edwards, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pkcs8("ecdsa.pem", curve, err)
	write("pkcs1.pem", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small), nil)
	write("garbage.pem", "PRIVATE KEY", []byte("garbage"), nil)
	return folder
}

func TestKeyFilesMatchTheirAlgorithm(t *testing.T) {
	folder := keyFiles(t)
	for _, test := range []struct {
		file      string
		algorithm Algorithm
		want      string // of the error; empty: it is taken
	}{
		{"rsa2048.pem", RSA2048, ""},
		{"ed25519.pem", Ed25519, ""},
		{"rsa2048.pem", Ed25519, "another algorithm"},
		{"ed25519.pem", RSA2048, "another algorithm"},
		{"rsa3072.pem", RSA2048, "3072 bits"},
		{"ecdsa.pem", RSA2048, "another algorithm"},
		{"pkcs1.pem", RSA2048, "no PEM block PRIVATE KEY"},
		{"garbage.pem", RSA2048, "no PKCS#8 key"},
		{"none.pem", RSA2048, "cannot be read"},
		{".", RSA2048, "cannot be read"},
	} {
		_, err := ReadKeyFile(filepath.Join(folder, test.file), test.algorithm)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s as %s: %v, want %q", test.file, test.algorithm, err, test.want)
		}
	}
}

func TestKeyFilesAreRelativeToTheRegistry(t *testing.T) {
	folder := keyFiles(t)
	path := filepath.Join(folder, "registry.toml")
	text := "[[organisation]]\nid = \"acme\"\n[[organisation.domain]]\nname = \"acme.test\"\n" +
		"dkim = [ { selector = \"an1\", algorithm = \"rsa-2048\", key_file = \"rsa2048.pem\" }, { selector = \"an2\", algorithm = \"rsa-2048\" } ]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	reg, problems := ReadRegistry(path)
	d, more, _ := Build(reg, shared, ours, 1, today)
	if d == nil {
		t.Fatal(problems, more)
	}
	acme, _ := d.Owner(domain(t, "acme.test"))
	if got, want := acme.Keys[0].File, filepath.Join(folder, "rsa2048.pem"); got != want || acme.Keys[1].File != "" {
		t.Errorf("%+v, want %s", acme.Keys, want)
	}
}
