package app

import (
	"strconv"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/limit"
	"anechoic/standard/dkim"
)

// copies bounds what one signed message can be used for: who has one may send it again
// and again, word for word, to whom he likes, and the signature holds
// (RFC 6376 section 8.6).
//
//   - An application writes its own mail. What it hands over with a signature of ours
//     was sent before: it is refused.
//   - Others may have a reason, as a server that spreads a colleague's message to a
//     list. So what bears one and the same signature is counted by recipients, and put
//     off past a number in an hour.
//
// It counts after proof and policy, so that strangers spend nothing.
type copies struct {
	most  int // recipients in copiesSpan; 0: any number
	spent limit.Limiter
}

// copiesSpan is the span of response.recipients_per_signature.
const copiesSpan = time.Hour

// refused says that a message is a copy that its source has no reason to send.
func (c *copies) refused(m *offered, fact *ledger.Fact) *mail.Refusal {
	source, known := m.dir.Source(m.proof.Organisation(), m.proof.Source())
	if fact.Print.Signature == 0 || !known || source.Role != org.Application || source.Kind == org.Microsoft365 || source.Kind == org.Google {
		return nil
	}
	if name := ownSignature(m.dir, m.r.Header); name != "" {
		return mail.Replayed.Because("application %s of %s hands over a message that %s signed before", source.ID, source.Organisation, name)
	}
	return nil
}

// spend counts a message's recipients with its signature, or puts it off: one too many.
func (c *copies) spend(m *offered, fact *ledger.Fact, now time.Time) (claims []limit.Claim, refusal *mail.Refusal) {
	if fact.Print.Signature == 0 || c.most == 0 {
		return nil, nil
	}
	claims = []limit.Claim{{
		Key: string(m.proof.Organisation()) + " " + strconv.FormatUint(fact.Print.Signature, 16), Rate: limit.Rate{Units: c.most, Span: copiesSpan},
		Amount: min(len(m.tx.Envelope.Recipients), c.most),
	}}
	if retry := c.spent.Take(now, claims...); !retry.IsZero() {
		return nil, mail.RateLimited.Because("one DKIM signature came more often than %d recipients an hour: not before %s", c.most, retry.UTC().Format(time.RFC3339))
	}
	return claims, nil
}

// ownSignature is the name of the key of a signature that names one of ours; empty:
// there is none. Whether the signature holds is not asked: who writes such a field by
// himself has no reason to.
func ownSignature(dir *org.Directory, h mail.Header) string {
	for _, f := range h.Fields {
		if !f.Is("DKIM-Signature") {
			continue
		}
		tags, err := dkim.ParseTags(f.RawValue())
		if err != nil {
			continue
		}
		name, err := mail.ParseDomain(tagOf(tags, "d"))
		if err != nil {
			continue
		}
		owner, ok := dir.Owner(name)
		if !ok || owner.Name != name {
			continue
		}
		for _, k := range owner.Keys {
			if k.Selector == tagOf(tags, "s") {
				return k.Selector + "._domainkey." + name.String()
			}
		}
	}
	return ""
}

func tagOf(tags dkim.Tags, name string) string {
	value, _ := tags.Get(name)
	return value
}
