package signing

import (
	"context"
	"fmt"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
)

// RelayOwn stands for the organisation in the KeyRef of a key that is the relay's own.
// Brackets are no part of an organisation's id.
const RelayOwn org.ID = "[relay]"

// MakeOwn makes and seals a key of the relay's own, or opens it if it is there. It
// signs for no organisation: Sign takes keys of the Directory alone.
func (k *LocalKeys) MakeOwn(ref KeyRef) error {
	if ref.Organisation != RelayOwn {
		return fmt.Errorf("signing: key %s is not the relay's own", ref)
	}
	return k.make(ref)
}

// Own gives a key of the relay's own, ready to seal with. As for organisations, one
// that DNS does not publish is not used: KeyNotPublished, or LookupFailed if DNS does
// not say.
func (s *Signer) Own(ctx context.Context, ref KeyRef, now time.Time) (dkim.Signer, *mail.Refusal) {
	if ref.Organisation != RelayOwn {
		return dkim.Signer{}, s.fault("key %s is not the relay's own", ref)
	}
	c := s.candidate(ctx, ref, now, publishedFresh)
	switch {
	case c.err != nil:
		return dkim.Signer{}, mail.SigningFailed.Because("%v", c.err)
	case c.publication.State == Unknown:
		return dkim.Signer{}, mail.LookupFailed.Because("%s TXT: %s", ref.RecordName(), c.publication.Detail)
	case c.publication.State == NotPublished:
		return dkim.Signer{}, mail.KeyNotPublished.Because("%s TXT: %s; publish the record as `anechoic key list` prints it", ref.RecordName(), c.publication.Detail)
	}
	return dkim.Signer{Domain: ref.Domain, Selector: ref.Selector, Key: s.use(ctx, c)}, nil
}

// describeOwn is a line of the list for a key of the relay's own.
func (s *Signer) describeOwn(ctx context.Context, ref KeyRef, now time.Time) KeyInfo {
	info := s.describe(ctx, ref, Life{}, now)
	info.ManagedBy, info.Signs = ByConfiguration, info.Published
	info.Stage = Life{}.stage(time.Time{}, info.Published, now)
	return info
}
