package main

import (
	"strings"
	"testing"
)

// What a bundle must not show, in the texts that bundles are made of.
func TestABundleShowsNoSecret(t *testing.T) {
	for name, text := range map[string]string{
		"a secret":              "X-Acme-Relay-Key: anx1_abcdefghijklmnopqrstuvwxyz2",
		"its hash":              `sha256 = ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]`,
		"a hash in capitals":    `SHA256 9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08`,
		"a password's hash":     `"$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWM$1OJqZUIhW7UOgfaqZcoK7kiXoCQU"`,
		"a key that opens keys": "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQ",
		"a private key":         "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----",
		"octets of a key":       "p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAmkC03jsh+9LyYDVs/PLUvUKJoMw8htX7z7rclLYwKz",
		"an address":            `"rua=mailto:reports@acme.example"`,
		"an address in a JSON":  `"from": ["billing.o'neil+x@acme.example"]`,
		"a quoted address":      `\"a b\"@acme.example`,
	} {
		got := redact(text)
		for _, leak := range []string{"anx1_", "9f86d0", "9F86D0", "argon2id", "1QYQSZ", "MC4CAQ", "MIIBIj", "reports", "billing", "acme.example", "oneil"} {
			if strings.Contains(got, leak) {
				t.Errorf("%s is shown: %q", name, got)
			}
		}
	}
	const plain = `hostname = "relay.acme.example", 192.0.2.1, 2 problems, source acme/acme-m365 (11111111-1111-4111-8111-111111111111)`
	if got := redact(plain); got != plain {
		t.Errorf("what helps is gone: %q", got)
	}
}
