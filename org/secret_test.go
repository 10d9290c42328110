package org

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// The secrets and hashes of the example registry that every version must load.
func TestTheExamplesSecretsHaveTheirHashes(t *testing.T) {
	for secret, hash := range map[string]string{
		"anx1_3abigakvquj4hqwgnv7k4x7gvhi": "8dd43d064957db5314152621dc37cecef7835035fdf7147c24dcd13987cb6374",
		"anx1_qeu3s2kqzcndpnnxnbd3oz47whi": "56b2f408699f991c8eb8bd7a13d7c484faba1d5f594f084ea6eb4bfff02e4841",
	} {
		got, ok := HashSecret(secret)
		if !ok || hex.EncodeToString(got[:]) != hash {
			t.Errorf("%s: %x, %v", secret, got, ok)
		}
	}
}

func TestAWrongCharacterIsMostlyNoSecret(t *testing.T) {
	secret := NewSecret()
	if _, ok := HashSecret(secret); !ok || len(secret) != secretLength || secret == NewSecret() {
		t.Fatalf("%q", secret)
	}
	missed := 0
	for i := len(secretPrefix); i < len(secret); i++ {
		for _, c := range secretAlphabet {
			changed := secret[:i] + string(c) + secret[i+1:]
			if _, ok := HashSecret(changed); ok && changed != secret {
				missed++
			}
		}
	}
	if missed != 45 { // of 837: those where position times change is a multiple of 32
		t.Errorf("%d wrong characters are not noticed", missed)
	}
	for _, s := range []string{"", "anx1_", secret + "a", secret[:len(secret)-1], strings.ToUpper(secret), "anx2" + secret[4:], " " + secret, secret[:6] + "0" + secret[7:]} {
		if _, ok := HashSecret(s); ok {
			t.Errorf("%q is a secret", s)
		}
	}
}

func TestThePasswordOfTheExampleMatches(t *testing.T) {
	const written = "$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE"
	h, err := ParsePasswordHash(written)
	if err != nil {
		t.Fatal(err)
	}
	if h.String() != written {
		t.Errorf("%s", h)
	}
	if !h.Matches([]byte("billing-example-password")) || h.Matches([]byte("billing-example-passwore")) {
		t.Error("another password matches")
	}
	if (PasswordHash{}).Matches(nil) {
		t.Error("no hash matches no password")
	}
}

func TestAHashedPasswordIsReadBack(t *testing.T) {
	h, err := ParsePasswordHash(HashPassword([]byte("correct horse")))
	if err != nil || !h.Matches([]byte("correct horse")) || h.Matches(nil) {
		t.Errorf("%v, %v", h, err)
	}
}

func TestHashesOutsideTheFormAreRefused(t *testing.T) {
	const salt, key = "YW5lY2hvaWMtZXhhbXBsZQ", "1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE"
	for _, s := range []string{
		"", "password",
		"$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=16$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$t=2,m=19456,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2$" + salt + "$" + key,
		"$argon2id$v=19$m=019456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=+19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967297,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=65537,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=8191,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$",
		"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "==$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key + "$",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key + "\n",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + strings.Repeat("A", 300),
	} {
		if _, err := ParsePasswordHash(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestNameForASecretHeaderIsOneThatLoads(t *testing.T) {
	for id, want := range map[ID]string{
		"acme":                         "X-Acme-Relay-Key",
		"acme-west-2":                  "X-Acme-West-2-Relay-Key",
		"google":                       "X-Relay-Key", // X-Google-… is the provider's
		"ms":                           "X-Relay-Key",
		ID(strings.Repeat("long", 10)): "X-Relay-Key",
		"":                             "X-Relay-Key",
		"é":                            "X-Relay-Key", // no id, but no reason to fail
	} {
		if got := SecretHeaderName(id); got != want || badSecretName(got) != "" {
			t.Errorf("%q gets %q, want %q", id, got, want)
		}
	}
}

func TestASecretInTheWrongPlaceIsNotRepeated(t *testing.T) {
	secret := NewSecret()
	text := `
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
  [[organisation.source]]
  id = "m365"
  kind = "microsoft365"
  tenant_ids = ["11111111-1111-4111-8111-111111111111"]
  originator_orgs = ["acme.test"]
  secret_header = { name = "X-Key: ` + secret + `", sha256 = ["` + secret + `"] }
`
	registry, _ := ParseRegistry("registry.toml", []byte(text))
	_, problems, _ := Build(registry, Providers{}, nil, 1, time.Now())
	if len(problems) < 2 {
		t.Fatalf("only %v is wrong", problems)
	}
	for _, p := range problems {
		if strings.Contains(p.String(), secret) {
			t.Errorf("the secret stands in %q", p)
		}
	}
}
