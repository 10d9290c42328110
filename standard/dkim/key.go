package dkim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"anechoic/mail"
)

// maxRecords bounds how many TXT records of one name are tried. RFC 6376
// section 3.6.2.2 leaves more than one undefined; during a change of keys two
// stand there.
const maxRecords = 5

// KeyCheck is what the published keys say of a signature.
type KeyCheck struct {
	Status Status
	Record Record // the one that decided; zero if there was none
	Err    error  // why Status is not Pass
}

// CheckSignature looks the key of a signature up and checks with it that b= is a
// signature over digest (RFC 6376 sections 6.1.2 and 6.1.3). Of s it reads
// domain, selector, algorithm and the signature itself. If several keys are
// published, one that verifies is enough.
func CheckSignature(ctx context.Context, resolver mail.Resolver, s Signature, digest [sha256.Size]byte) KeyCheck {
	if err := s.checkAlgorithm(); err != nil {
		return KeyCheck{Status: PermError, Err: err}
	}
	return LookUpKeys(ctx, resolver, s.KeyName()).Check(s, digest)
}

// Keys is what stands at the name of a key, looked up and read once for all
// signatures that name it. It is not changed once made.
type Keys struct {
	name    string
	records []keyRecord
	failure KeyCheck // why there is no record to try; zero if there is one
}

type keyRecord struct {
	Record
	err error // why the TXT record is no key
}

// LookUpKeys asks for the keys at a name that Signature.KeyName gave. A failure
// of the resolver, ctx's end included, is told by Check.
func LookUpKeys(ctx context.Context, resolver mail.Resolver, name string) Keys {
	k := Keys{name: name}
	if len(name) > mail.MaxDomain {
		k.failure = KeyCheck{Status: PermError, Err: fmt.Errorf("the name of the key has %d octets, the limit is %d", len(name), mail.MaxDomain)}
		return k
	}
	answer, err := resolver.TXT(ctx, name)
	if err != nil && !errors.Is(err, mail.ErrNoDomain) {
		k.failure = KeyCheck{Status: TempError, Err: fmt.Errorf("look up %s: %w", name, err)}
		return k
	}
	if len(answer.Records) == 0 {
		k.failure = KeyCheck{Status: PermError, Err: fmt.Errorf("no key at %s", name)}
		return k
	}
	k.records = make([]keyRecord, min(len(answer.Records), maxRecords))
	for i := range k.records {
		k.records[i].Record, k.records[i].err = ParseRecord(answer.Records[i])
	}
	return k
}

// Check is CheckSignature with keys that were looked up before: those of
// s.KeyName, no others. The zero Keys verifies nothing.
func (k Keys) Check(s Signature, digest [sha256.Size]byte) KeyCheck {
	if err := s.checkAlgorithm(); err != nil {
		return KeyCheck{Status: PermError, Err: err}
	}
	if k.name == "" || k.name != s.KeyName() {
		return KeyCheck{Status: PermError, Err: fmt.Errorf("the keys at %q are not those of the signature", k.name)}
	}
	if k.failure.Err != nil {
		return k.failure
	}
	var best KeyCheck
	for _, r := range k.records {
		c := r.check(s, digest)
		if c.Status == Pass {
			return c
		}
		if best.Status == None || c.Status == Fail && best.Status != Fail {
			best = c
		}
	}
	best.Err = fmt.Errorf("key at %s: %w", k.name, best.Err)
	return best
}

// checkAlgorithm refuses what is not accepted before anything is looked up (RFC
// 8301 section 3.1).
func (s Signature) checkAlgorithm() error {
	if s.Algorithm != RSASHA256 && s.Algorithm != Ed25519SHA256 {
		return fmt.Errorf("algorithm %s is not accepted", s.Algorithm)
	}
	return nil
}

// check is Check for one record.
func (r keyRecord) check(s Signature, digest [sha256.Size]byte) KeyCheck {
	if r.err != nil {
		return KeyCheck{Status: PermError, Err: r.err}
	}
	if status, err := r.usable(s.Algorithm); err != nil {
		return KeyCheck{Status: status, Record: r.Record, Err: err}
	}
	if !r.verifies(digest, s.Signature) {
		return KeyCheck{Status: Fail, Record: r.Record, Err: errors.New("the signature does not verify: a signed header field was changed, or another key signed")}
	}
	return KeyCheck{Status: Pass, Record: r.Record}
}
