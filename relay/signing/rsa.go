package signing

import (
	"crypto/rsa"
	"fmt"
	"sync"
	"sync/atomic"
)

// A signature by RSA costs more than all else a message needs, so a build may
// bring a faster maker of it than Go's (build tag libcrypto). It is used only as
// long as it is right: it must give the known answer when the program starts, the
// first signatures of each key are verified, and a key that it fails is signed
// with by Go from then on.

// verifiedFirst is how many signatures of each key are verified before the
// library is taken at its word. It verifies its own results too, as Go does,
// against faults of the machine.
const verifiedFirst = 16

// rsaLibrary makes RSA signatures in Go's place.
type rsaLibrary struct {
	name string // with its version
	// load gives the use of a key (PKCS #1 in DER): a function that signs a SHA-256
	// digest (PKCS #1 v1.5), safe for concurrent use.
	load func(der []byte) (func(digest []byte) ([]byte, error), error)
}

// library is this build's, opened and tried once. A nil library means Go; err
// says why it is not the one that was built in.
var library = sync.OnceValues(openLibrary)

// fallbacks counts keys that the library failed.
var fallbacks atomic.Uint64

// RSA says in words what makes the RSA signatures of this process, and why it is
// not the library this program was built for.
func RSA() (name string, err error) {
	lib, err := library()
	switch failed := fallbacks.Load(); {
	case lib == nil:
		return "Go", err
	case failed > 0:
		return lib.name, fmt.Errorf("signing: %s failed with %d keys: Go signs with them", lib.name, failed)
	}
	return lib.name, nil
}

// fastKey is a key's use by the library. It is prepared at the first signature:
// of a hundred thousand keys few sign on one day.
// The private half is inside a function, as in key.
type fastKey struct {
	public *rsa.PublicKey
	sign   func(digest []byte) ([]byte, error)
	good   atomic.Int32 // signatures that were verified
	failed atomic.Bool
}

// fastKeyOf is nil where Go signs. pkcs1 gives the private key, in DER.
func fastKeyOf(public *rsa.PublicKey, pkcs1 func() []byte) *fastKey {
	lib, _ := library()
	if lib == nil {
		return nil
	}
	return lib.key(public, pkcs1)
}

func (lib *rsaLibrary) key(public *rsa.PublicKey, pkcs1 func() []byte) *fastKey {
	loaded := sync.OnceValues(func() (func([]byte) ([]byte, error), error) {
		der := pkcs1()
		defer clear(der)
		return lib.load(der)
	})
	return &fastKey{public: public, sign: func(digest []byte) ([]byte, error) {
		sign, err := loaded()
		if err != nil {
			return nil, err
		}
		return sign(digest)
	}}
}

// try signs, or gives false: then Go is to sign.
func (f *fastKey) try(digest []byte) ([]byte, bool) {
	if f == nil || f.failed.Load() {
		return nil, false
	}
	sig, err := f.sign(digest)
	if err == nil && f.good.Load() >= verifiedFirst {
		return sig, true
	}
	if err == nil && verifies(f.public, digest, sig) {
		f.good.Add(1)
		return sig, true
	}
	if !f.failed.Swap(true) {
		fallbacks.Add(1)
	}
	return nil, false
}
