package org

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
)

// The form of a secret header's value: a prefix that scanners for leaked
// secrets can look for, random characters, and one that checks them.
const (
	secretPrefix   = "anx1_"
	secretAlphabet = "abcdefghijklmnopqrstuvwxyz234567"
	secretRandom   = 26 // characters of 5 bits: 130 bits
	secretLength   = len(secretPrefix) + secretRandom + 1
)

// NewSecret makes a secret for a secret header: anx1_, 26 random characters and
// a check character. The registry holds only what HashSecret makes of it.
func NewSecret() string {
	var random [secretRandom]byte
	rand.Read(random[:]) // never fails (its documentation)
	for i, b := range random {
		random[i] = secretAlphabet[b%byte(len(secretAlphabet))] // 32 divides 256: every character is as likely
	}
	return secretPrefix + string(random[:]) + string(checkCharacter(string(random[:])))
}

// HashSecret gives the SHA-256 of a secret as the registry has it. What does not
// have a secret's form, its check character included, is no secret and never
// matches.
func HashSecret(value string) ([sha256.Size]byte, bool) {
	random, ok := strings.CutPrefix(value, secretPrefix)
	if !ok || len(value) != secretLength {
		return [sha256.Size]byte{}, false
	}
	for i := range len(random) {
		if strings.IndexByte(secretAlphabet, random[i]) < 0 {
			return [sha256.Size]byte{}, false
		}
	}
	if checkCharacter(random[:secretRandom]) != random[secretRandom] {
		return [sha256.Size]byte{}, false
	}
	return sha256.Sum256([]byte(value)), true
}

// checkCharacter is the sum of position times value, positions from 1, modulo
// 32: it finds most slips of typing. (At even positions some pass: what decides is
// the hash.)
func checkCharacter(random string) byte {
	sum := 0
	for i := range len(random) {
		sum += (i + 1) * strings.IndexByte(secretAlphabet, random[i])
	}
	return secretAlphabet[sum%len(secretAlphabet)]
}

// SecretHeaderName gives a name for an organisation's secret header that a
// registry takes: X-Acme-Relay-Key for acme.
func SecretHeaderName(id ID) string {
	words := strings.FieldsFunc(strings.ToLower(string(id)), func(r rune) bool { return r == '-' })
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	name := "X-" + strings.Join(words, "-") + "-Relay-Key"
	if len(words) == 0 || badSecretName(name) != "" { // a long id, or one such as ms or google
		return "X-Relay-Key"
	}
	return name
}
