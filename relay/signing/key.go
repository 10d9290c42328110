package signing

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"

	"anechoic/org"
)

// errFaulty says that a key's first signature did not verify.
var errFaulty = errors.New("the signature does not verify with the public key: the key or this machine's memory is damaged")

// key is one private key, prepared. The private half is nowhere in a field: it
// is inside a function, where neither a print nor reflection finds it.
type key struct {
	public  crypto.PublicKey
	file    string // the key file it came from; empty: sealed in the data directory
	private func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
	fast    *fastKey    // nil: private alone
	tried   atomic.Bool // its first signature was verified
}

// newKey closes over a private key.
func newKey(private crypto.Signer, file string) *key {
	k := &key{
		public: private.Public(),
		file:   file,
		private: func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			return private.Sign(rand.Reader, digest, opts)
		},
	}
	switch private := private.(type) {
	case *rsa.PrivateKey:
		k.fast = fastKeyOf(&private.PublicKey, func() []byte { return x509.MarshalPKCS1PrivateKey(private) })
	case *org.RSAKey:
		k.fast = fastKeyOf(private.Public().(*rsa.PublicKey), private.PKCS1)
	}
	return k
}

// sign signs a SHA-256 digest the way DKIM does (RFC 6376 section 3.3.1, RFC 8463
// section 3) and nothing else. The first signature is verified, so that a
// damaged key never signs mail that then fails everywhere.
func (k *key) sign(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := dkimUse(k.public, digest, opts); err != nil {
		return nil, err
	}
	if sig, ok := k.fast.try(digest); ok {
		return sig, nil
	}
	sig, err := k.private(digest, opts)
	if err != nil || k.tried.Load() {
		return sig, err
	}
	if !verifies(k.public, digest, sig) {
		return nil, errFaulty
	}
	k.tried.Store(true)
	return sig, nil
}

// dkimUse refuses every use of a key but the one it is for.
func dkimUse(public crypto.PublicKey, digest []byte, opts crypto.SignerOpts) error {
	if len(digest) != sha256.Size {
		return fmt.Errorf("%d octets are no SHA-256 digest", len(digest))
	}
	want := crypto.Hash(0)
	if _, ok := public.(*rsa.PublicKey); ok {
		want = crypto.SHA256
	}
	if got, ok := opts.(crypto.Hash); !ok || got != want {
		return fmt.Errorf("a %T key signs with options %v for DKIM only", public, want)
	}
	return nil
}

func verifies(public crypto.PublicKey, digest, sig []byte) bool {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(public, digest, sig)
	}
	return false
}

// samePublic says that two public keys are the same one.
func samePublic(a, b crypto.PublicKey) bool {
	if key, ok := a.(*rsa.PublicKey); ok && b == a && key != nil {
		return true // the usual case, without the copies that Equal makes
	}
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// makeKey makes a private key and tries it.
func makeKey(algorithm org.Algorithm) (crypto.Signer, error) {
	var private crypto.Signer
	var err error
	opts := crypto.Hash(0)
	switch algorithm {
	case org.RSA2048:
		opts = crypto.SHA256
		private, err = rsa.GenerateKey(rand.Reader, org.RSABits)
	case org.Ed25519:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("algorithm %q is not known", algorithm)
	}
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("a first signature"))
	if _, err := newKey(private, "").sign(digest[:], opts); err != nil {
		return nil, err
	}
	return private, nil
}

// encodePrivate writes a private key as PKCS #8 in PEM.
func encodePrivate(private crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: org.KeyPEM, Bytes: der}), nil
}
