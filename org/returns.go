package org

import (
	"slices"
	"time"

	"anechoic/mail"
)

// Bounds of the suppression list's numbers.
const (
	maxHardBounces     = 100
	maxSuppressionDays = 10 * 365
)

// returns checks an organisation's suppression list, and where its reports come
// back to, as far as that is its own affair.
func (b *builder) returns(i int) {
	e, o, where := &b.reg.Organisations[i], b.dir.organisations[i], b.below("organisation", i)
	if e.ReturnPath != "" {
		b.returnPath(o, where+".return_path", e.ReturnPath)
	}
	if e.Suppression != nil {
		o.Suppression = b.suppression(where+".suppression", e.Suppression)
	}
}

// returnPath takes a name below one of the organisation's own domains that is
// proven with it: addresses there are made by the relay, so that SPF of the name
// aligns with From (RFC 9989 section 4.4).
func (b *builder) returnPath(o *Organisation, where, text string) {
	name, ok := b.domainName(where, text)
	if !ok || !b.owns(o, where, name) {
		return
	}
	if above := b.nearestAbove(o, name); above == nil {
		b.refuse(where, "write a name below it, as bounces."+name.String()+": the relay takes all mail for that name", "%s is no sub-domain of a domain of organisation %s", name, o.ID)
		return
	}
	o.ReturnPath = name
	b.claims.returnPaths = append(b.claims.returnPaths, claim[mail.Domain, *Organisation]{name, o, where})
}

// indexReturnPaths lets nothing else be delivered to a return path. It asks the
// look-up of inbound domains.
func (c *making) indexReturnPaths(parts []*builder) *builder {
	b := &builder{making: c}
	b.dir.returnPaths = indexed(b, parts, func(c *claims) []claim[mail.Domain, *Organisation] { return c.returnPaths },
		func(c claim[mail.Domain, *Organisation], first *Organisation) {
			b.second(c.where, below("organisation", slices.Index(b.dir.organisations, first))+".return_path", "%s is the return path of organisation %s already", c.key, first.ID)
		})
	for _, claim := range collect(parts, func(p *builder) []claim[mail.Domain, *Organisation] { return p.claims.returnPaths }) {
		if in, taken := b.dir.inbound[claim.key]; taken {
			b.second(claim.where, in.where()+".domains", "mail for %s goes to the organisation's own server", claim.key)
		}
	}
	return b
}

// nearestAbove is a registered domain of the organisation that a name lies below.
func (b *builder) nearestAbove(o *Organisation, name mail.Domain) *Domain {
	for _, d := range o.Domains {
		if name != d.Name && name.Within(d.Name) {
			return d
		}
	}
	return nil
}

func (b *builder) suppression(where string, e *SuppressionEntry) *Suppression {
	number := func(key string, n, most int) bool {
		if n < 0 || n > most {
			b.refuse(where+"."+key, "leave it out for the default", "%d is not from 1 to %d", n, most)
		}
		return n > 0 && n <= most
	}
	s := DefaultSuppression
	if number("hard_bounces", e.HardBounces, maxHardBounces) {
		s.HardBounces = e.HardBounces
	}
	if number("bounce_days", e.BounceDays, maxSuppressionDays) {
		s.BounceFor = time.Duration(e.BounceDays) * 24 * time.Hour
	}
	if number("complaint_days", e.ComplaintDays, maxSuppressionDays) {
		s.ComplaintFor = time.Duration(e.ComplaintDays) * 24 * time.Hour
	}
	return &s
}
