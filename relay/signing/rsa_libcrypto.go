//go:build libcrypto && linux

package signing

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// libcryptoFile is the library of OpenSSL 3. Its functions are stable for as
// long as it has this name.
const libcryptoFile = "libcrypto.so.3"

// Constants of OpenSSL's headers (evp.h, rsa.h, crypto.h).
const (
	evpPKeyRSA       = 6
	rsaPKCS1Padding  = 1
	opensslVersion   = 0
	maxSignature     = 512 // octets: a 4096-bit key's
	maxLibcryptoName = 128
)

// libcrypto is the functions that are called, by address.
type libcrypto struct {
	parse, freeKey                              uintptr
	newUse, freeUse, init, padding, digest, use uintptr
	sha256                                      uintptr // EVP_sha256() itself, an EVP_MD
}

// openLibrary opens libcrypto and tries it.
func openLibrary() (*rsaLibrary, error) {
	chooseMultiplication()
	handle, err := purego.Dlopen(libcryptoFile, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("signing: %s (Debian: libssl3): %w", libcryptoFile, err)
	}
	var lib libcrypto
	var version, md uintptr
	for _, f := range []struct {
		at   *uintptr
		name string
	}{
		{&lib.parse, "d2i_PrivateKey"}, {&lib.freeKey, "EVP_PKEY_free"},
		{&lib.newUse, "EVP_PKEY_CTX_new"}, {&lib.freeUse, "EVP_PKEY_CTX_free"},
		{&lib.init, "EVP_PKEY_sign_init"}, {&lib.padding, "EVP_PKEY_CTX_set_rsa_padding"},
		{&lib.digest, "EVP_PKEY_CTX_set_signature_md"}, {&lib.use, "EVP_PKEY_sign"},
		{&version, "OpenSSL_version"}, {&md, "EVP_sha256"},
	} {
		if *f.at, err = purego.Dlsym(handle, f.name); err != nil {
			return nil, fmt.Errorf("signing: %s: %w", libcryptoFile, err)
		}
	}
	lib.sha256, _, _ = purego.SyscallN(md)
	text, _, _ := purego.SyscallN(version, opensslVersion)
	if lib.sha256 == 0 || text == 0 {
		return nil, fmt.Errorf("signing: %s has no SHA-256", libcryptoFile)
	}
	made := &rsaLibrary{name: "libcrypto, " + cString(text, maxLibcryptoName), load: lib.load}
	if err := made.knownAnswer(); err != nil {
		return nil, fmt.Errorf("signing: %s: %w", made.name, err)
	}
	return made, nil
}

// The key of the known answer: two primes that are no secret, for nothing else.
const (
	knownP = "ccf28aa9dd0899f941782089652f755c5b0783968e9af7cfe0c0c775714ed8fd515c98ffa844b54b0f41881cee7f6cb8" +
		"2c32dfb6df458d00d25626cce90885aedaa439f687ae9c27987705c3742edc087609042336c1dbae02cf542646ef8058" +
		"ac6f451805831c8c0b2fd0a3690bf005f0e3d822d4b719727f30038e6df79647"
	knownQ = "f3b0bf0b445cc64004af82241aac672e6e9fd2e3c79803e5e732a5d85d8059ad0867769489bedcde6e71bcfb9aad8a81" +
		"954fae8a7b4162f8634190303f01c670b04f36b8eed99fbbcb61c1b8dc061b7dd5cba7fb06f3a5eb5583db56efa15c31" +
		"b67c7444b3dadb872643a9745009eb8212648ff8b2def014395daced8fd0237d"
	// knownSignature is the SHA-256 of what it gives for knownText.
	knownSignature = "e6f5c35ab413f56d8bd63258892a11cda843a54d13153445afff50354d5e667a"
	knownText      = "a known answer"
)

// knownKey is that key.
func knownKey() *rsa.PrivateKey {
	p, _ := new(big.Int).SetString(knownP, 16)
	q, _ := new(big.Int).SetString(knownQ, 16)
	one, e := big.NewInt(1), big.NewInt(65537)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(e.Int64())},
		D:         new(big.Int).ModInverse(e, phi),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	return key
}

// knownAnswer has the known key sign: PKCS #1 v1.5 has one right answer.
func (lib *rsaLibrary) knownAnswer() error {
	digest := sha256.Sum256([]byte(knownText))
	sign, err := lib.load(x509.MarshalPKCS1PrivateKey(knownKey()))
	if err != nil {
		return err
	}
	sig, err := sign(digest[:])
	if err != nil {
		return err
	}
	if got := sha256.Sum256(sig); hex.EncodeToString(got[:]) != knownSignature {
		return errors.New("its answer to a known signature is wrong")
	}
	return nil
}

// loadedKey is one key in the library's memory. What is in the channel can sign at
// once; a use serves one signature at a time.
type loadedKey struct {
	lib  *libcrypto
	key  uintptr      // EVP_PKEY
	free chan uintptr // EVP_PKEY_CTX, initialised
}

var errLibcrypto = errors.New("the library refused")

// load: see rsaLibrary.
func (lib *libcrypto) load(der []byte) (func(digest []byte) ([]byte, error), error) {
	at := unsafe.Pointer(unsafe.SliceData(der))
	var pin runtime.Pinner
	pin.Pin(at)
	defer pin.Unpin()
	key, _, _ := purego.SyscallN(lib.parse, evpPKeyRSA, 0, uintptr(unsafe.Pointer(&at)), uintptr(len(der)))
	if key == 0 {
		return nil, fmt.Errorf("%w to read a key", errLibcrypto)
	}
	u := &loadedKey{lib: lib, key: key, free: make(chan uintptr, runtime.GOMAXPROCS(0))}
	runtime.AddCleanup(u, func(free chan uintptr) {
		for len(free) > 0 {
			purego.SyscallN(lib.freeUse, <-free)
		}
		purego.SyscallN(lib.freeKey, key)
	}, u.free)
	return u.sign, nil
}

// sign signs a digest.
func (u *loadedKey) sign(digest []byte) ([]byte, error) {
	defer runtime.KeepAlive(u)
	if len(digest) != sha256.Size {
		return nil, fmt.Errorf("%d octets are no SHA-256 digest", len(digest))
	}
	ctx, err := u.take()
	if err != nil {
		return nil, err
	}
	sig, size := make([]byte, maxSignature), uintptr(maxSignature)
	ok, _, _ := purego.SyscallN(u.lib.use, ctx, uintptr(unsafe.Pointer(unsafe.SliceData(sig))), uintptr(unsafe.Pointer(&size)),
		uintptr(unsafe.Pointer(unsafe.SliceData(digest))), uintptr(len(digest)))
	if int32(ok) != 1 || size > maxSignature {
		purego.SyscallN(u.lib.freeUse, ctx)
		return nil, fmt.Errorf("%w to sign", errLibcrypto)
	}
	select {
	case u.free <- ctx:
	default:
		purego.SyscallN(u.lib.freeUse, ctx)
	}
	return sig[:size], nil
}

// take gives a use of the key that nobody has, or makes one.
func (u *loadedKey) take() (uintptr, error) {
	select {
	case ctx := <-u.free:
		return ctx, nil
	default:
	}
	ctx, _, _ := purego.SyscallN(u.lib.newUse, u.key, 0)
	if ctx == 0 {
		return 0, fmt.Errorf("%w to use a key", errLibcrypto)
	}
	for _, call := range [][]uintptr{{u.lib.init, ctx}, {u.lib.padding, ctx, rsaPKCS1Padding}, {u.lib.digest, ctx, u.lib.sha256}} {
		if ok, _, _ := purego.SyscallN(call[0], call[1:]...); int32(ok) != 1 {
			purego.SyscallN(u.lib.freeUse, ctx)
			return 0, fmt.Errorf("%w to prepare a signature", errLibcrypto)
		}
	}
	return ctx, nil
}

// cString reads a string of the library's, of most octets at most.
func cString(at uintptr, most int) string {
	text := unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), most)
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	return string(text)
}
