package policy

import (
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// learnable are the refusals that an entry in the registry can turn into a proof: a
// source that is not listed yet, a second proof that is not set up, a sender that
// the source may not use. What contradicts, what was forwarded, what came from a
// pool nobody vouches for or from everybody's tenant stays refused: no entry could
// make it the organisation's.
var learnable = []mail.Reason{
	mail.ReasonTenantNotAuthorized, mail.ReasonAttributionMissing, mail.ReasonSecondProofMissing, mail.ReasonHybridUnknown,
	mail.ReasonSourceNotAllowed, mail.ReasonSenderNotOwned,
}

// Learned is whom a message is held for that would have been refused, and by which
// source of its own it came; empty: by a shared provider's door alone.
type Learned struct {
	Organisation org.ID
	Source       string
}

// Learns says that a refused message is to be held, because it claims an
// organisation that is still learning: its From is in a proven domain of that one,
// the peer is a shared provider's or a source of the same organisation, and the
// registry could make it provable. It gives no right to anything: a release asks for
// a proof, as everywhere.
func Learns(dir *org.Directory, ev *attribution.Evidence, o mail.Originators, refusal *mail.Refusal, standing Standing) (l Learned, ok bool) {
	from := o.From.Address.Domain()
	d, owned := dir.Owner(from)
	if !owned || refusal.Temporary() || !slices.Contains(learnable, refusal.Reason()) {
		return l, false
	}
	claimed, known := dir.Organisation(d.Organisation)
	if !known || !claimed.Learning {
		return l, false
	}
	source, ok := ownDoor(dir, ev, claimed.ID)
	if !ok || standing(d, from) != org.Verified {
		return l, false
	}
	return Learned{Organisation: claimed.ID, Source: source}, true
}

// ownDoor says by what a message came: a source of the organisation, or a shared
// provider. A source of anybody else's is no door.
func ownDoor(dir *org.Directory, ev *attribution.Evidence, of org.ID) (source string, ok bool) {
	for _, s := range doors(dir, ev) {
		if s.Organisation != of {
			return "", false
		}
		source = s.ID
	}
	providers := dir.Providers()
	shared := ev.TLS && (providers.Microsoft365.Contains(ev.Peer) || providers.Google.Contains(ev.Peer))
	return source, source != "" || shared
}

// doors are the sources that the session or the provider's stamp names.
func doors(dir *org.Directory, ev *attribution.Evidence) (found []*org.Source) {
	add := func(s *org.Source, ok bool) {
		if ok {
			found = append(found, s)
		}
	}
	if ev.Username != "" && ev.TLS {
		add(dir.Username(ev.Username))
	}
	if ev.ClientKey.Present && !ev.ClientKey.Expired && ev.TLS {
		add(dir.ClientKey(ev.ClientKey.SPKI))
	}
	add(dir.Address(ev.Peer))
	if ev.PeerName == attribution.PeerNameConfirmed && ev.Header.TenantID.Count == 1 {
		add(dir.Tenant(strings.ToLower(ev.Header.TenantID.Value)))
	}
	return found
}
