package signing

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
)

var aDigest = sha256.Sum256([]byte("a message"))

// rightAnswer is what every maker of PKCS #1 v1.5 signatures must give.
func rightAnswer(t testing.TB, digest []byte) string {
	t.Helper()
	sig, err := rsa.SignPKCS1v15(nil, rsaKey().(*rsa.PrivateKey), crypto.SHA256, digest)
	if err != nil {
		t.Fatal(err)
	}
	return string(sig)
}

// libraryThat is a library that signs by a function.
func libraryThat(sign func([]byte) ([]byte, error)) *rsaLibrary {
	return &rsaLibrary{name: "a library", load: func([]byte) (func([]byte) ([]byte, error), error) { return sign, nil }}
}

func TestALibraryThatFailsIsNotAskedAgain(t *testing.T) {
	wrong := []byte(rightAnswer(t, aDigest[:]))
	wrong[0] ^= 1
	asked := 0
	for name, lib := range map[string]*rsaLibrary{
		"a wrong signature": libraryThat(func([]byte) ([]byte, error) { asked++; return wrong, nil }),
		"an error":          libraryThat(func([]byte) ([]byte, error) { asked++; return nil, errors.New("no") }),
		"no key": {name: "a library", load: func([]byte) (func([]byte) ([]byte, error), error) {
			asked++
			return nil, errors.New("no")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			asked = 0
			before := fallbacks.Load()
			k := newKey(rsaKey(), "")
			k.fast = lib.key(rsaKey().Public().(*rsa.PublicKey), rsaPKCS1)
			for range 3 {
				sig, err := k.sign(aDigest[:], crypto.SHA256)
				if err != nil || string(sig) != rightAnswer(t, aDigest[:]) {
					t.Fatalf("signature %x, %v", sig, err)
				}
			}
			if asked != 1 || fallbacks.Load() != before+1 {
				t.Errorf("asked %d times, %d fallbacks", asked, fallbacks.Load()-before)
			}
		})
	}
	fallbacks.Store(0)
}

func TestTheFirstSignaturesOfALibraryAreVerified(t *testing.T) {
	right := []byte(rightAnswer(t, aDigest[:]))
	asked := 0
	lib := libraryThat(func([]byte) ([]byte, error) {
		if asked++; asked == verifiedFirst {
			return make([]byte, len(right)), nil
		}
		return right, nil
	})
	k := newKey(rsaKey(), "")
	k.fast = lib.key(rsaKey().Public().(*rsa.PublicKey), rsaPKCS1)
	for i := range verifiedFirst + 1 {
		sig, err := k.sign(aDigest[:], crypto.SHA256)
		if err != nil || string(sig) != string(right) {
			t.Fatalf("signature %d: %x, %v", i+1, sig, err)
		}
	}
	if asked != verifiedFirst {
		t.Errorf("asked %d times after it failed", asked)
	}
	fallbacks.Store(0)
}

// TestWhatSignsIsRight signs with whatever this build has, by several at once.
func TestWhatSignsIsRight(t *testing.T) {
	name, err := RSA()
	if err != nil {
		t.Fatalf("%s signs, because: %v", name, err)
	}
	t.Log(name)
	k := newKey(rsaKey(), "")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 10 {
				digest := sha256.Sum256([]byte{byte(i), byte(j)})
				sig, err := k.sign(digest[:], crypto.SHA256)
				if err != nil || string(sig) != rightAnswer(t, digest[:]) {
					t.Errorf("signature %d/%d is wrong: %v", i, j, err)
				}
			}
		})
	}
	all.Wait()
	if _, err := RSA(); err != nil {
		t.Error(err)
	}
}

func BenchmarkRSA(b *testing.B) {
	k := newKey(rsaKey(), "")
	for b.Loop() {
		if _, err := k.sign(aDigest[:], crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}

func rsaPKCS1() []byte { return x509.MarshalPKCS1PrivateKey(rsaKey().(*rsa.PrivateKey)) }
