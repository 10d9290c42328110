package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"anechoic/mail"
)

// Record is a key as it is published in DNS (RFC 6376 section 3.6.1).
type Record struct {
	KeyType  string           // k=: "rsa" or "ed25519"
	Key      crypto.PublicKey // p=: *rsa.PublicKey or ed25519.PublicKey; nil if the key is revoked
	Hashes   []string         // h=; nil if every hash is acceptable
	Services []string         // s=; nil if for every service
	Testing  bool             // t=y
	Strict   bool             // t=s: i= may not be a sub-domain of d=
}

// Revoked says that p= is empty: the key was taken back.
func (r Record) Revoked() bool { return r.Key == nil }

// Bits is the length of the key; 0 if it is revoked.
func (r Record) Bits() int {
	switch k := r.Key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen()
	case ed25519.PublicKey:
		return 8 * len(k)
	}
	return 0
}

// ParseRecord reads one TXT record, its strings joined. Unknown tags are
// ignored. A record for a key type that is not known is an error: such a record
// does not count (RFC 6376 section 3.6.1).
func ParseRecord(txt string) (Record, error) {
	tags, err := ParseTags([]byte(txt))
	if err != nil {
		return Record{}, err
	}
	if v, ok := tags.Get("v"); ok && (v != "DKIM1" || tags.First() != "v") {
		return Record{}, fmt.Errorf("the record does not begin with v=DKIM1")
	}
	r := Record{KeyType: keyRSA}
	if k, ok := tags.Get("k"); ok {
		r.KeyType = k
	}
	if h, ok := tags.Get("h"); ok {
		r.Hashes = splitColons(h)
	}
	if s, ok := tags.Get("s"); ok {
		r.Services = splitColons(s)
	}
	if t, ok := tags.Get("t"); ok {
		flags := splitColons(t)
		r.Testing, r.Strict = slices.Contains(flags, "y"), slices.Contains(flags, "s")
	}
	p, ok := tags.Get("p")
	if !ok {
		return Record{}, errors.New("tag p= is missing")
	}
	r.Key, err = parseKey(r.KeyType, p)
	if err != nil {
		return Record{}, fmt.Errorf("tag p=: %w", err)
	}
	return r, nil
}

// parseKey reads p=. Empty means revoked.
func parseKey(keyType, p string) (crypto.PublicKey, error) {
	b, err := DecodeBase64(p)
	if err != nil {
		return nil, err
	}
	switch {
	case keyType != keyRSA && keyType != keyEd25519:
		return nil, fmt.Errorf("key type %.40q is not known", keyType)
	case len(b) == 0:
		return nil, nil
	case keyType == keyEd25519 && len(b) != ed25519.PublicKeySize: // RFC 8463 section 4.2: the bare key
		return nil, fmt.Errorf("%d octets are no Ed25519 key", len(b))
	case keyType == keyEd25519:
		return ed25519.PublicKey(b), nil
	}
	return parseRSAKey(b)
}

// parseRSAKey reads a SubjectPublicKeyInfo, which everybody publishes, or the
// bare RSAPublicKey, which RFC 6376 section 3.6.1 asked for before its erratum
// 3017.
func parseRSAKey(der []byte) (crypto.PublicKey, error) {
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		if rsaKey, ok := key.(*rsa.PublicKey); ok {
			return rsaKey, nil
		}
		return nil, errors.New("the key is not RSA")
	}
	key, err := x509.ParsePKCS1PublicKey(der)
	if err != nil {
		return nil, errors.New("not an RSA public key")
	}
	return key, nil
}

// usable says why the record cannot verify a signature of this algorithm for
// mail, if it cannot.
func (r Record) usable(a Algorithm) (Status, error) {
	switch {
	case r.KeyType != a.KeyType():
		return PermError, fmt.Errorf("the key is of type %s, the signature of %s", r.KeyType, a)
	case r.Revoked():
		return PermError, errors.New("the key is revoked")
	case r.Hashes != nil && !slices.Contains(r.Hashes, "sha256"):
		return PermError, errors.New("the key is not for sha256")
	case r.Services != nil && !slices.Contains(r.Services, "*") && !slices.Contains(r.Services, "email"):
		return PermError, errors.New("the key is not for email")
	case r.KeyType == keyRSA && r.Bits() < MinVerifyBits: // RFC 8301 section 3.2
		return Policy, fmt.Errorf("an RSA key of %d bits is too weak, %d are needed", r.Bits(), MinVerifyBits)
	case r.KeyType == keyRSA && r.Bits() > MaxVerifyBits:
		return Policy, fmt.Errorf("an RSA key of %d bits is too long, the limit is %d", r.Bits(), MaxVerifyBits)
	}
	return Pass, nil
}

// verifies checks a signature over a digest; the record is usable for it.
func (r Record) verifies(digest [sha256.Size]byte, signature []byte) bool {
	switch k := r.Key.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, digest[:], signature) // RFC 8463 section 3: the digest is the message
	}
	return false
}

// KeyName is where the key of a selector is published: s._domainkey.d (RFC 6376
// section 3.6.2.1).
func KeyName(selector string, domain mail.Domain) string {
	return selector + "._domainkey." + domain.String()
}

// RecordValue is the TXT record that publishes a key: "v=DKIM1; k=rsa; p=…". It
// is empty for what is neither an RSA nor an Ed25519 key. DNS wants it split
// into strings of at most 255 octets.
func RecordValue(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return ""
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(k)
	}
	return ""
}

// CheckPublished says why a TXT record does not publish this key so that our
// signatures verify with it; nil if it does. The record may be written in any
// way: other order, white space, further tags.
func CheckPublished(txt string, pub crypto.PublicKey) error {
	algorithm, err := algorithmOf(pub)
	if err != nil {
		return err
	}
	r, err := ParseRecord(txt)
	if err != nil {
		return fmt.Errorf("not a usable key record: %w", err)
	}
	if _, err := r.usable(algorithm); err != nil {
		return err
	}
	if k, ok := r.Key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(pub) {
		return errors.New("the record publishes another key")
	}
	return nil
}
