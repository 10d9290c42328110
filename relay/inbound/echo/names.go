package echo

import (
	"slices"
	"strings"

	"anechoic/mail"
)

// The provider's zones of key records, and the one its tenants have names in. The
// newer zone names the tenant by the first label of its name there.
const (
	tenantZone = ".onmicrosoft.com"
	keyZone    = ".dkim.mail.microsoft"
	keyLabel   = "._domainkey."
)

// NameOf gives the tenant's own name (<name>.onmicrosoft.com) out of the alias of
// a key record that the provider keeps, such as
// selector1-acme-example._domainkey.acme.onmicrosoft.com. false: the key is not
// the provider's.
func NameOf(alias string) (mail.Domain, bool) {
	alias = strings.ToLower(strings.TrimSuffix(alias, "."))
	_, zone, found := strings.Cut(alias, keyLabel)
	if !found {
		return mail.Domain{}, false
	}
	name, old := strings.CutSuffix(zone, tenantZone)
	if !old {
		if name, found = strings.CutSuffix(zone, keyZone); !found {
			return mail.Domain{}, false
		}
		name, _, _ = strings.Cut(name, ".")
	}
	if name == "" || strings.Contains(name, ".") {
		return mail.Domain{}, false
	}
	d, err := mail.ParseDomain(name + tenantZone)
	return d, err == nil
}

// KeyNames are the names in DNS whose aliases say which tenant holds a domain's keys:
// of the two selectors that the provider gives to everybody. What NameOf makes of
// their aliases belongs into Observation.Named.
func KeyNames(from mail.Domain) []string {
	return []string{"selector1" + keyLabel + from.String(), "selector2" + keyLabel + from.String()}
}

// names are the tenants that the From domain's own DNS names in this message: by
// the keys of its signatures that verified, and by what was looked up.
func (o Observation) names() []mail.Domain {
	found := slices.Clone(o.Named[:min(len(o.Named), maxNames)])
	for _, s := range o.Signatures {
		if n, ok := NameOf(s.Alias); ok && o.aligned(s.Domain) && !slices.Contains(found, n) && len(found) < maxNames {
			found = append(found, n)
		}
	}
	return found
}

// aligned is relaxed alignment with From (RFC 9989), as far as it
// can be told without a look-up: a domain of the same organisational domain.
func (o Observation) aligned(d mail.Domain) bool {
	return d.Within(o.Organisational) && !o.Organisational.IsZero()
}

// place is where a signature stands.
func (o Observation) place(s Signature) Place {
	if s.Field < 0 || s.Field >= len(o.Stamps.Place) {
		return Nowhere
	}
	return o.Stamps.Place[s.Field]
}
