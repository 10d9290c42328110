package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
)

// Bounds of RSA keys in bits.
const (
	MinVerifyBits = 1024 // RFC 8301 section 3.2: below, a signature is never valid
	MinSignBits   = 2048 // RFC 8301 section 3.2: signers SHOULD; we do not sign below
	MaxSignBits   = 4096 // RFC 8301 section 3.2: verifiers need not accept more
	MaxVerifyBits = 8192 // ours: bounds the work a stranger's key can cause
)

// Algorithm is how a signature was made: the a= tag. The zero Algorithm is
// none.
type Algorithm uint8

// The algorithms that are known.
const (
	RSASHA256     Algorithm = iota + 1 // RFC 6376 section 3.3.2
	Ed25519SHA256                      // RFC 8463 section 3
	RSASHA1                            // historic (RFC 8301 section 3.1): read, never verified, never signed
)

var algorithmNames = [...]string{"none", "rsa-sha256", "ed25519-sha256", "rsa-sha1"}

// String is the value of the a= tag.
func (a Algorithm) String() string {
	if int(a) < len(algorithmNames) {
		return algorithmNames[a]
	}
	return "none"
}

// KeyType is the k= tag of a key for a: "rsa" or "ed25519".
func (a Algorithm) KeyType() string {
	if a == Ed25519SHA256 {
		return keyEd25519
	}
	return keyRSA
}

// The key types of RFC 6376 section 3.6.1 and RFC 8463 section 4.
const (
	keyRSA     = "rsa"
	keyEd25519 = "ed25519"
)

// ParseAlgorithm reads an a= tag.
func ParseAlgorithm(s string) (Algorithm, error) {
	for i, name := range algorithmNames[1:] {
		if s == name {
			return Algorithm(i + 1), nil
		}
	}
	return 0, fmt.Errorf("algorithm %.40q is not known", s)
}

// algorithmOf gives what a key signs with.
func algorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	switch pub.(type) {
	case *rsa.PublicKey:
		return RSASHA256, nil
	case ed25519.PublicKey:
		return Ed25519SHA256, nil
	}
	return 0, fmt.Errorf("a key of type %T cannot sign, use RSA or Ed25519", pub)
}
