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
	name := KeyName(s.Selector, s.Domain)
	if s.Algorithm != RSASHA256 && s.Algorithm != Ed25519SHA256 { // RFC 8301 section 3.1
		return KeyCheck{Status: PermError, Err: fmt.Errorf("algorithm %s is not accepted", s.Algorithm)}
	}
	if len(name) > mail.MaxDomain {
		return KeyCheck{Status: PermError, Err: fmt.Errorf("the name of the key has %d octets, the limit is %d", len(name), mail.MaxDomain)}
	}
	answer, err := resolver.TXT(ctx, name)
	if err != nil && !errors.Is(err, mail.ErrNoDomain) {
		return KeyCheck{Status: TempError, Err: fmt.Errorf("look up %s: %w", name, err)}
	}
	if len(answer.Records) == 0 {
		return KeyCheck{Status: PermError, Err: fmt.Errorf("no key at %s", name)}
	}
	var best KeyCheck
	for _, txt := range answer.Records[:min(len(answer.Records), maxRecords)] {
		k := checkRecord(txt, s, digest)
		if k.Status == Pass {
			return k
		}
		if best.Status == None || k.Status == Fail && best.Status != Fail {
			best = k
		}
	}
	best.Err = fmt.Errorf("key at %s: %w", name, best.Err)
	return best
}

// checkRecord is CheckSignature for one record.
func checkRecord(txt string, s Signature, digest [sha256.Size]byte) KeyCheck {
	r, err := ParseRecord(txt)
	if err != nil {
		return KeyCheck{Status: PermError, Err: err}
	}
	if status, err := r.usable(s.Algorithm); err != nil {
		return KeyCheck{Status: status, Record: r, Err: err}
	}
	if !r.verifies(digest, s.Signature) {
		return KeyCheck{Status: Fail, Record: r, Err: errors.New("the signature does not verify: a signed header field was changed, or another key signed")}
	}
	return KeyCheck{Status: Pass, Record: r}
}
