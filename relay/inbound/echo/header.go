package echo

import (
	"strings"

	"anechoic/mail"
	"anechoic/relay/attribution"
)

// Read takes the provider's fields out of a header. e is what attribution read of
// the same header, before anything was stripped from it.
func Read(e attribution.HeaderEvidence, h mail.Header) Stamps {
	s := Stamps{
		Any:      e.TenantID.Count > 0 || e.Originator.Count > 0,
		Repeated: e.TenantID.Count > 1 || e.Originator.Count > 1,
		Entry:    entry(e),
		Place:    places(e.Hops, h),
	}
	if e.TenantID.Count == 1 {
		s.Tenant = guid(e.TenantID.Value)
	}
	if e.Originator.Count == 1 {
		s.Originator, _ = mail.ParseDomain(strings.TrimSpace(e.Originator.Value))
	}
	return s
}

// who is the tenant's name: its GUID, or else its originator domain; empty if the
// stamps give neither.
func (s Stamps) who() string {
	if s.Tenant != "" {
		return s.Tenant
	}
	return s.Originator.String()
}

// guidForm is how a tenant's name looks: groups of hexadecimal digits.
const guidForm = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"

// guid gives a GUID in lower case, or nothing.
func guid(v string) string {
	v = strings.ToLower(strings.TrimSpace(v))
	if len(v) != len(guidForm) {
		return ""
	}
	for i := range len(v) {
		switch c := v[i]; {
		case guidForm[i] == '-' && c == '-':
		case guidForm[i] == 'x' && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f'):
		default:
			return ""
		}
	}
	return v
}

// entry reads the origin stamps. It asks for no more than the words: what they
// are worth depends on whose tenant it is.
func entry(e attribution.HeaderEvidence) Entry {
	is := func(s attribution.Stamp, word string) bool { return s.Count == 1 && strings.EqualFold(s.Value, word) }
	forwarded := e.Looped || e.Resent
	adCheck := e.ADCheck.Count == 0 || is(e.ADCheck, "1")
	switch {
	case e.Entity.Count == 0 && e.AuthAs.Count == 0:
		return UnknownEntry
	case is(e.AuthAs, "Internal") && is(e.Entity, "Hosted") && e.ConnectingIP.Count == 0 && adCheck && !forwarded:
		return Mailbox
	case is(e.Entity, "HybridOnPrem") && e.ConnectingIP.Count == 1 && !forwarded:
		return Connector
	}
	return Outside
}

// places says for each DKIM-Signature where it stands. The provider writes its own
// directly on its topmost Received field; there may be seals between, which do not
// count.
func places(hops []attribution.Hop, h mail.Header) (found []Place) {
	top := -1 // the provider's topmost hop
	for i, hop := range hops {
		if hop.ByProvider() {
			top = i
			break
		}
	}
	above := 0 // Received fields so far
	for _, f := range h.Fields {
		switch {
		case f.Is("Received"):
			above++
		case !f.Is("DKIM-Signature"):
		case top < 0:
			found = append(found, Nowhere)
		case above > top:
			found = append(found, Before)
		case above == top:
			found = append(found, Egress)
		default:
			found = append(found, After)
		}
	}
	return found
}
