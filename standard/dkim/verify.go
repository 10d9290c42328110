package dkim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
)

// MaxSignatures is how many DKIM-Signature fields of one message are verified,
// from the top. Each costs a look-up and a public-key operation (RFC 6376
// section 8.4 warns of it); real mail carries one to four.
const MaxSignatures = 8

// Verify judges every DKIM-Signature field of a header: one Result each, in the
// order of the header; nil if there is none. hashes are those of the body, from
// a BodyHasher made for the same header. Fields past MaxSignatures get Policy.
//
// A body that differs is told before any look-up. An error of the resolver,
// ctx's end included, is a TempError of that signature alone.
func Verify(ctx context.Context, resolver mail.Resolver, header mail.Header, hashes BodyHashes, now time.Time) []Result {
	fields := header.All("DKIM-Signature")
	if len(fields) == 0 {
		return nil
	}
	v := verification{resolver: resolver, index: NewIndex(header), hashes: hashes, now: now}
	results := make([]Result, len(fields))
	var wg background.Group
	for i, f := range fields {
		switch {
		case i == 0: // here, when the others are under way
		case i < MaxSignatures:
			wg.Go(func() { results[i] = v.verify(ctx, f) })
		default:
			results[i] = v.overLimit(f)
		}
	}
	results[0] = v.verify(ctx, fields[0])
	wg.Wait()
	return results
}

// verification is one message. It is not changed once made.
type verification struct {
	resolver mail.Resolver
	index    Index
	hashes   BodyHashes
	now      time.Time
}

func (v *verification) overLimit(f mail.Field) Result {
	s, _ := ParseSignature(f.RawValue())
	return s.Claims().with(Policy, fmt.Errorf("not verified: the message has more than %d signatures", MaxSignatures))
}

// verify is RFC 6376 section 6.1 for one field.
func (v *verification) verify(ctx context.Context, f mail.Field) Result {
	s, err := ParseSignature(f.RawValue())
	r := s.Claims()
	if err != nil {
		return r.with(PermError, err)
	}
	if status, err := s.Acceptable(v.index, v.now); err != nil {
		return r.with(status, err)
	}
	if status, err := v.hashes.Check(s); err != nil {
		return r.with(status, err)
	}
	digest := v.index.Digest(s.SignedFields, f, s.Header)
	k := CheckSignature(ctx, v.resolver, s, digest)
	r.KeyBits, r.Testing = k.Record.Bits(), k.Record.Testing
	if k.Status == Pass && k.Record.Strict && s.identityDomain != s.Domain { // RFC 6376 section 3.6.1, t=s
		return r.with(PermError, fmt.Errorf("i= is in %s, and the key allows only %s itself", s.identityDomain, s.Domain))
	}
	return r.with(k.Status, k.Err)
}

// Check compares the bh= of a signature with the body: Pass, or the status and
// the reason.
func (h BodyHashes) Check(s Signature) (Status, error) {
	body, ok := h.of(s.Body)
	if !ok {
		return TempError, fmt.Errorf("the %s hash of the body was not computed", s.Body)
	}
	if !bytes.Equal(body[:], s.BodyHash) {
		return Fail, errors.New("the body hash differs: the body was changed after signing")
	}
	return Pass, nil
}

// Acceptable asks what can be asked of a signature over a message without its
// body and its key: Pass, or the status and the reason. index is that of the
// header the signature stands in.
func (s Signature) Acceptable(index Index, now time.Time) (Status, error) {
	froms := 0
	for _, name := range s.SignedFields {
		if name == "from" {
			froms++
		}
	}
	switch {
	case s.Algorithm == RSASHA1: // RFC 8301 section 3.1: has permanently failed evaluation
		return PermError, errors.New("rsa-sha1 is historic and not accepted")
	case froms == 0: // RFC 6376 section 6.1.1
		return PermError, errors.New("the From field is not signed")
	case froms < index.Count("from"): // RFC 6376 section 8.15
		return Policy, errors.New("the header has more From fields than are signed")
	case !s.Expires.IsZero() && now.After(s.Expires): // RFC 6376 section 6.1.1
		return PermError, fmt.Errorf("the signature expired at %s", s.Expires.Format(time.RFC3339))
	case s.HasLength: // RFC 6376 section 8.2: anything can be appended
		return Policy, errors.New("only part of the body is signed (l=)")
	}
	return Pass, nil
}

// Claims is a Result with what a signature says of itself and no status yet.
func (s Signature) Claims() Result {
	return Result{
		Domain: s.Domain, Selector: s.Selector, KeyName: s.KeyName(), Algorithm: s.Algorithm,
		Identity: s.Identity, Signed: s.Signed, Expires: s.Expires, SignedFields: s.SignedFields,
		BodyHash: s.BodyHash, Signature: s.Signature,
	}
}
