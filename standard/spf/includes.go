package spf

import (
	"context"
	"net/netip"

	"anechoic/mail"
)

// What Includes does beyond the limits of RFC 7208: there are receivers that count
// less strictly or not at all, and to them mail from an address passes all the
// same.
const (
	laxLookups = 60
	laxVoid    = 60
)

// Inclusion says whether mail of a domain passes SPF from an address. The zero
// Inclusion is Unknown.
type Inclusion uint8

// The answers.
const (
	Unknown     Inclusion = iota // a look-up failed, or it depends on what the sender says
	NotIncluded                  // it does not pass; a record that cannot be read lets nothing pass
	Included                     // it passes
)

var inclusionNames = [...]string{"unknown", "not included", "included"}

func (i Inclusion) String() string {
	if int(i) < len(inclusionNames) {
		return inclusionNames[i]
	}
	return inclusionNames[Unknown]
}

// Listing is the answer for one address.
type Listing struct {
	Address   netip.Addr
	Inclusion Inclusion
	Result    Result
}

// Includes asks for each address whether mail from it passes SPF with MAIL FROM in
// the domain. Addresses that mail of nobody here may align from must give
// NotIncluded for every domain that is registered: Unknown is to be asked again,
// and nothing is to leave from there meanwhile. The limits are wider than those of
// Check, so that a record which only strict receivers refuse counts too.
func Includes(ctx context.Context, r mail.Resolver, domain mail.Domain, addresses []netip.Addr) []Listing {
	list := make([]Listing, len(addresses))
	for i, ip := range addresses {
		q := Request{IP: ip, HELO: domain.String(), MailFrom: "postmaster@" + domain.String()}
		if !ip.IsValid() { // stays Unknown
			list[i].Address = ip
			continue
		}
		result := check(ctx, r, q, limits{lookups: laxLookups, void: laxVoid})
		list[i] = Listing{Address: ip, Inclusion: inclusion(result), Result: result}
	}
	return list
}

func inclusion(r Result) Inclusion {
	switch {
	case r.Status == Pass:
		return Included
	case r.Status == TempError, r.Dependent:
		return Unknown
	}
	return NotIncluded
}
