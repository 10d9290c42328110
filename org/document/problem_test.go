package document

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
)

func TestProblemsDoNotRepeatSecrets(t *testing.T) {
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	block := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	body := base64.StdEncoding.EncodeToString(der)
	const header, hash = "anx1_abcdefghijklmnopqrstuvwxyz2", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2g"
	for _, found := range []string{header, hash, block, block[:60], body, strings.ReplaceAll(block, "\n", "")} {
		for _, quoted := range []string{found, fmt.Sprintf("%q", found)} {
			told := Problem{File: "f", Line: 1, Where: "a." + quoted, Message: quoted + " is no selector", Hint: "not " + quoted}.String()
			if strings.Contains(told, found[len(found)/2:]) || strings.Contains(told, found[:25]) && !strings.HasPrefix(found, "-----") || !strings.Contains(told, "left out") {
				t.Errorf("%q is told as %q", found, told)
			}
		}
	}
	for _, harmless := range []string{
		strings.Repeat("0a", 32), "11111111-1111-4111-8111-111111111111", "a.very.long." + strings.Repeat("label.", 20) + "example",
		"n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=", "-----BEGIN CERTIFICATE-----",
		"open /srv/anechoic/organisations/acme/domains/acmeExample/keys/2026/november/selector: no such file",
	} {
		if told := (Problem{Message: harmless}).String(); told != harmless {
			t.Errorf("%q is told as %q", harmless, told)
		}
	}
}
