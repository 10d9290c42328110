package org

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// RSAKey is an RSA private key that was read and checked, and is made ready by its
// first signature: making it ready takes longer than all else of reading it, and
// of thousands of keys few sign in the first second, or ever. The key is inside
// functions, where neither a print nor reflection finds it.
type RSAKey struct {
	public  *rsa.PublicKey
	pkcs1   func() []byte
	private func() (*rsa.PrivateKey, error)
}

// Public is the public half, a *rsa.PublicKey which must not be changed.
func (k *RSAKey) Public() crypto.PublicKey { return k.public }

// PKCS1 gives the key in PKCS #1 DER (RFC 8017 appendix A.1.2), for whoever signs
// with it in Go's place. The caller clears it after use.
func (k *RSAKey) PKCS1() []byte { return k.pkcs1() }

// Sign signs a digest.
func (k *RSAKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	private, err := k.private()
	if err != nil {
		return nil, fmt.Errorf("%w: what it holds is no key", ErrKeyFile) // err may show it
	}
	return private.Sign(random, digest, opts)
}

// readRSA reads the usual RSA key from PKCS #8 DER: 2,048 bits, two primes of 1,024,
// exponent 65537, every number in agreement with the others. Anything else is not
// ok, though it may be a key: the standard library judges it.
func readRSA(der []byte) (key *RSAKey, ok bool) {
	pkcs1, ok := innerRSA(der)
	if !ok {
		return nil, false
	}
	n, ok := agreeingRSA(pkcs1)
	if !ok {
		return nil, false
	}
	pkcs1 = bytes.Clone(pkcs1) // der is cleared
	key = &RSAKey{public: &rsa.PublicKey{N: n, E: rsaExponent}, pkcs1: func() []byte { return bytes.Clone(pkcs1) }}
	key.private = sync.OnceValues(func() (*rsa.PrivateKey, error) { return x509.ParsePKCS1PrivateKey(pkcs1) })
	return key, true
}

// rsaExponent is the public exponent of every RSA key that programs make today.
const rsaExponent = 65537

// oidRSA is rsaEncryption (RFC 8017 appendix A.1).
var oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}

// innerRSA takes the PKCS #1 key out of PKCS #8 (RFC 5958 section 2, version 0).
func innerRSA(der []byte) ([]byte, bool) {
	var info, algorithm, inner cryptobyte.String
	var version int
	var oid asn1.ObjectIdentifier
	input := cryptobyte.String(der)
	ok := input.ReadASN1(&info, casn1.SEQUENCE) && input.Empty() &&
		info.ReadASN1Integer(&version) && version == 0 &&
		info.ReadASN1(&algorithm, casn1.SEQUENCE) && algorithm.ReadASN1ObjectIdentifier(&oid) && oid.Equal(oidRSA) &&
		info.ReadASN1(&inner, casn1.OCTET_STRING) && info.Empty()
	return inner, ok
}

// agreeingRSA gives the modulus of a PKCS #1 key (RFC 8017 appendix A.1.2) whose
// numbers agree: n = p·q, and e, d, and the exponents and the coefficient of the
// Chinese remainder theorem as section 3.2 defines them.
func agreeingRSA(der []byte) (*big.Int, bool) {
	var fields cryptobyte.String
	var version int
	n, e, d, p, q, dp, dq, qInv := new(big.Int), new(big.Int), new(big.Int), new(big.Int), new(big.Int), new(big.Int), new(big.Int), new(big.Int)
	input := cryptobyte.String(der)
	if !input.ReadASN1(&fields, casn1.SEQUENCE) || !input.Empty() || !fields.ReadASN1Integer(&version) || version != 0 {
		return nil, false
	}
	for _, number := range []*big.Int{n, e, d, p, q, dp, dq, qInv} {
		if !fields.ReadASN1Integer(number) || number.Sign() <= 0 {
			return nil, false
		}
	}
	if !fields.Empty() || n.BitLen() != RSABits || p.BitLen() != RSABits/2 || q.BitLen() != RSABits/2 || !e.IsInt64() || e.Int64() != rsaExponent || d.Cmp(n) >= 0 {
		return nil, false
	}
	one, product := big.NewInt(1), new(big.Int)
	inverse := func(a, b, modulus *big.Int) bool {
		return product.Mod(product.Mul(a, b), modulus).Cmp(one) == 0
	}
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	ok := product.Mul(p, q).Cmp(n) == 0 && p.Cmp(q) != 0 &&
		product.Mod(d, p1).Cmp(dp) == 0 && product.Mod(d, q1).Cmp(dq) == 0 &&
		inverse(e, dp, p1) && inverse(e, dq, q1) && inverse(qInv, q, p) && qInv.Cmp(p) < 0
	return n, ok
}
