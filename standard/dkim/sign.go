package dkim

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"anechoic/mail"
)

// Signer is one key of one domain. Key need not hold the key itself: only
// Public and Sign are called, Sign once for each message with a SHA-256 digest.
type Signer struct {
	Domain    mail.Domain
	Selector  string    // lower-case labels
	Algorithm Algorithm // zero: what Key is for
	Key       crypto.Signer
}

// overSigned is signed with every instance and one more, so that none can be
// added: what readers show, what changes who speaks or how the body is read
// (RFC 6376 sections 5.4 and 8.15).
var overSigned = []string{
	"from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id",
	"mime-version", "content-type", "content-transfer-encoding",
}

// overSignedIfPresent is the same where there is an instance. Without one,
// naming it would break the signature of everybody who redirects mail as RFC
// 5322 section 3.6.6 says.
var overSignedIfPresent = []string{
	"resent-from", "resent-sender", "resent-to", "resent-cc", "resent-date", "resent-message-id", "resent-reply-to",
}

// signedIfPresent is signed as it stands. Mailing lists that leave mail intact
// may add theirs.
var signedIfPresent = []string{
	"in-reply-to", "references", "auto-submitted", "content-disposition", "content-id", "content-language",
	"feedback-id", "list-id", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post",
	"list-owner", "list-help", "list-archive",
}

// Sign makes one DKIM-Signature field for each signer, in their order, to be put
// on top of the header. It signs the whole body in the relaxed form, t= is now,
// x= is expireAfter later, and l= is never there (RFC 6376 section 8.2).
//
// It refuses a header without exactly one From field, hashes of no body, no
// signer at all, and a key that is too weak or does not fit: then there is no
// field, not even of the other signers.
func Sign(header mail.Header, hashes BodyHashes, signers []Signer, now time.Time, expireAfter time.Duration) ([]mail.Field, error) {
	index := NewIndex(header)
	switch {
	case len(signers) == 0:
		return nil, errors.New("dkim: sign: no key was given")
	case index.Count("from") != 1:
		return nil, fmt.Errorf("dkim: sign: the header has %d From fields, exactly one can be signed", index.Count("from"))
	case hashes.Relaxed == [sha256.Size]byte{}:
		return nil, errors.New("dkim: sign: the body was not hashed")
	case expireAfter < time.Second:
		return nil, fmt.Errorf("dkim: sign: a signature that expires after %s is of no use", expireAfter)
	}
	names := FieldsToSign(index)
	canonical := index.AppendFields(make([]byte, 0, 4096), names, mail.Field{}, Relaxed)
	fields := make([]mail.Field, 0, len(signers))
	for _, s := range signers {
		f, err := s.sign(canonical, names, hashes, now, now.Add(expireAfter))
		if err != nil {
			return nil, fmt.Errorf("dkim: sign for %s with selector %q: %w", s.Domain, s.Selector, err)
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// FieldsToSign is the h= list for a header: what Sign covers.
func FieldsToSign(x Index) []string {
	names := make([]string, 0, 48)
	add := func(name string, times int) {
		for range times {
			names = append(names, name)
		}
	}
	for _, name := range overSigned {
		add(name, x.Count(name)+1)
	}
	for _, name := range overSignedIfPresent {
		if n := x.Count(name); n > 0 {
			add(name, n+1)
		}
	}
	for _, name := range signedIfPresent {
		add(name, x.Count(name))
	}
	return names
}

const signatureField = "DKIM-Signature"

// sign makes the field over header fields that are canonical already.
func (s Signer) sign(canonical []byte, names []string, hashes BodyHashes, now, expires time.Time) (mail.Field, error) {
	algorithm, err := s.Uses()
	if err != nil {
		return mail.Field{}, err
	}
	w := NewTagWriter(signatureField)
	w.Tag("v", "1")
	w.Tag("a", algorithm.String())
	w.Tag("c", "relaxed/relaxed")
	w.Tag("d", s.Domain.String())
	w.Tag("s", s.Selector)
	w.Tag("t", strconv.FormatInt(now.Unix(), 10))
	w.Tag("x", strconv.FormatInt(expires.Unix(), 10))
	w.List("h", names)
	w.Tag("bh", base64.StdEncoding.EncodeToString(hashes.Relaxed[:]))
	return s.Complete(w, canonical, Relaxed)
}

// Complete ends a signature field with its b= tag: the signature over the
// canonical fields given and over the field itself. canonical is not changed.
func (s Signer) Complete(w *TagWriter, canonical []byte, c Canonicalization) (mail.Field, error) {
	unsigned := w.unsigned()
	// The field ends with b=, so that there is nothing to delete but its CRLF.
	data := AppendField(canonical[:len(canonical):len(canonical)], mail.NewField(w.field, unsigned), c)
	signature, err := s.SignDigest(sha256.Sum256(data[:len(data)-len(crlf)]))
	if err != nil {
		return mail.Field{}, err
	}
	return mail.NewField(w.field, w.signed(unsigned, signature)), nil
}

// SignDigest makes the octets of a signature. The key may not be too weak and
// must fit the algorithm.
func (s Signer) SignDigest(digest [sha256.Size]byte) ([]byte, error) {
	algorithm, err := s.Uses()
	if err != nil {
		return nil, err
	}
	var opts crypto.SignerOpts = crypto.SHA256
	if algorithm == Ed25519SHA256 {
		opts = crypto.Hash(0) // RFC 8463 section 3: PureEdDSA, the digest is the message
	}
	signature, err := s.Key.Sign(rand.Reader, digest[:], opts)
	if err != nil {
		return nil, fmt.Errorf("use the key: %w", err)
	}
	return signature, nil
}

// Uses says what the signer signs with, or why it cannot.
func (s Signer) Uses() (Algorithm, error) {
	if s.Domain.IsZero() {
		return 0, errors.New("it has no domain")
	}
	if selector, err := ParseSelector(s.Selector); err != nil || selector != s.Selector {
		return 0, errors.New("its selector is not one or more lower-case labels")
	}
	if s.Key == nil {
		return 0, errors.New("it has no key")
	}
	pub := s.Key.Public()
	algorithm, err := algorithmOf(pub)
	if err != nil {
		return 0, err
	}
	if s.Algorithm != 0 && s.Algorithm != algorithm {
		return 0, fmt.Errorf("its key is for %s, not for %s", algorithm, s.Algorithm)
	}
	if k, ok := pub.(*rsa.PublicKey); ok && (k.N.BitLen() < MinSignBits || k.N.BitLen() > MaxSignBits) {
		return 0, fmt.Errorf("its RSA key has %d bits, %d to %d are allowed", k.N.BitLen(), MinSignBits, MaxSignBits)
	}
	return algorithm, nil
}
