package signing

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"anechoic/org"
)

// rsaBits is the size of RSA keys, made here or read from a file: the 2048 of
// org.RSA2048 (RFC 8301 section 3.2: signers should use at least 2048).
const rsaBits = 2048

// maxKeyFile bounds what is read as a key: a 4096-bit key has under 4 KiB of PEM.
const maxKeyFile = 64 << 10

// pemType is the one form of private key taken: PKCS #8 (RFC 5958, RFC 7468
// section 10), which holds RSA and Ed25519 alike.
const pemType = "PRIVATE KEY"

// ErrKeyFile says that a file is not a private key that can be used here.
var ErrKeyFile = errors.New("not a usable private key")

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
	if private, ok := private.(*rsa.PrivateKey); ok {
		k.fast = fastKeyOf(private)
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
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
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
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// readKeyFile reads a key that the registry names by file.
func readKeyFile(file string, algorithm org.Algorithm) (*key, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("signing: key file: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("signing: key file %s: %w", file, err)
	}
	private, err := parsePrivate(content, algorithm)
	if err != nil {
		return nil, fmt.Errorf("signing: key file %s: %w", file, err)
	}
	return newKey(private, file), nil
}

// parsePrivate reads exactly one PKCS #8 private key in PEM, of that algorithm.
// Text before it is passed over, as RFC 7468 section 2 has it. Errors wrap
// ErrKeyFile and never show what was read.
func parsePrivate(content []byte, algorithm org.Algorithm) (crypto.Signer, error) {
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("%w: it is larger than %d octets", ErrKeyFile, maxKeyFile)
	}
	block, rest := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%w: it holds no PEM block; expected -----BEGIN %s-----", ErrKeyFile, pemType)
	}
	if err := pkcs8Only(block); err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: something follows the first PEM block; keep one key in one file", ErrKeyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: its PKCS #8 content does not parse", ErrKeyFile)
	}
	return ofAlgorithm(parsed, algorithm)
}

// pkcs8Only names what else a PEM block may be and how to convert it.
func pkcs8Only(block *pem.Block) error {
	switch block.Type {
	case pemType:
		return nil
	case "RSA PRIVATE KEY":
		return fmt.Errorf("%w: it is PKCS #1; convert it: openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW", ErrKeyFile)
	case "ENCRYPTED PRIVATE KEY":
		return fmt.Errorf("%w: it is encrypted; decrypt it: openssl pkcs8 -in FILE -out NEW", ErrKeyFile)
	case "PUBLIC KEY":
		return fmt.Errorf("%w: it is a public key; name the private one", ErrKeyFile)
	}
	return fmt.Errorf("%w: its PEM block is of another type than %s", ErrKeyFile, pemType)
}

// ofAlgorithm checks that a parsed key is what the registry says it is.
func ofAlgorithm(parsed any, algorithm org.Algorithm) (crypto.Signer, error) {
	switch private := parsed.(type) {
	case *rsa.PrivateKey:
		bits := private.N.BitLen()
		switch {
		case algorithm != org.RSA2048:
			return nil, fmt.Errorf("%w: it is an RSA key, the registry says %s", ErrKeyFile, algorithm)
		case bits != rsaBits:
			return nil, fmt.Errorf("%w: it has %d bits, %s means %d", ErrKeyFile, bits, algorithm, rsaBits)
		case len(private.Primes) != 2:
			return nil, fmt.Errorf("%w: it has %d primes, taken are two", ErrKeyFile, len(private.Primes))
		}
		private.Precompute()
		return private, nil
	case ed25519.PrivateKey:
		if algorithm != org.Ed25519 {
			return nil, fmt.Errorf("%w: it is an Ed25519 key, the registry says %s", ErrKeyFile, algorithm)
		}
		return private, nil
	}
	return nil, fmt.Errorf("%w: it is a %T, DKIM has RSA and Ed25519", ErrKeyFile, parsed)
}
