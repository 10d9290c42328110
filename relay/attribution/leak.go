package attribution

import (
	"strings"

	"anechoic/mail"
	"anechoic/org"
)

// Leak is a right secret in a message that did not come from the organisation
// whose secret it is: somebody else knows it, so it must be replaced.
type Leak struct {
	Organisation org.ID
	Source       string
	Header       string // name of the secret header, lower case
	Digest       [32]byte
}

// Leaked finds a right secret of an organisation that nothing else in the
// evidence points to. It is for messages that Attribute refused because of who
// sent them: there a right secret is no mistake of its owner's, as it may be in
// mail of the owner's own tenant.
func Leaked(dir *org.Directory, ev *Evidence) (Leak, bool) {
	for i := range ev.Header.Secrets {
		found := &ev.Header.Secrets[i]
		s, ok := dir.Secret(found.Name, found.Digest)
		if ok && found.WellFormed && !pointsTo(dir, ev, s.Organisation) {
			return Leak{Organisation: s.Organisation, Source: s.ID, Header: found.Name, Digest: found.Digest}, true
		}
	}
	return Leak{}, false
}

// pointsTo says that anything but a secret in the evidence is an organisation's.
func pointsTo(dir *org.Directory, ev *Evidence, id org.ID) bool {
	of := func(s *org.Source, ok bool) bool { return ok && s.Organisation == id }
	originator, err := mail.ParseDomain(ev.Header.Originator.Value)
	return of(dir.Tenant(strings.ToLower(ev.Header.TenantID.Value))) || of(dir.Username(ev.Username)) ||
		of(dir.ClientKey(ev.ClientKey.SPKI)) || of(dir.Address(ev.Peer)) || err == nil && of(dir.Originator(originator))
}
