package app

import (
	"slices"
	"strings"
	"time"

	"anechoic/control/config"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/limit"
	"anechoic/relay/smtpd"
)

// postmaster is the local part that every domain has that takes mail (RFC 5321 section
// 4.5.1), in any case of letters.
const postmaster = "postmaster"

// ownPostmaster is the postmaster of the relay itself: at its host name, and at the domain
// of forwarded mail where there is one. Anybody may write to it (RFC 5321 sections 4.1.1.3
// and 4.5.1), and to abuse@ there (RFC 2142 section 4). One person reads both, whose mail
// comes in here: it is mail for that organisation from the first RCPT on, with all that is
// asked of such mail, and never leaves as anything else.
type ownPostmaster struct {
	domains []mail.Domain
	person  mail.Address // zero: nobody
}

func newOwnPostmaster(c config.Config) ownPostmaster {
	own := ownPostmaster{domains: []mail.Domain{c.Hostname}, person: c.Postmaster}
	if d := c.Disowned.Domain; !d.IsZero() {
		own.domains = append(own.domains, d)
	}
	return own
}

// at says that an address is the relay's own postmaster's.
func (p ownPostmaster) at(a mail.Address) bool {
	return isRole(a, postmaster, abuse) && slices.Contains(p.domains, a.Domain())
}

// abuse is where misuse is told of (RFC 2142 section 4).
const abuse = "abuse"

func isRole(a mail.Address, roles ...string) bool {
	return slices.ContainsFunc(roles, func(role string) bool { return strings.EqualFold(a.Local(), role) })
}

// What anybody may send to the relay's own postmaster: an hour, from one network and in
// all. Its person has other mail to read.
const (
	postmasterPerPeer = 30
	postmasterInAll   = 300
	postmasterBits4   = 24
)

// spendOnPostmaster refuses for a while what is too much for the relay's own postmaster.
func (in *intake) spendOnPostmaster(tx *smtpd.Transaction, asked mail.Address, now time.Time) *mail.Refusal {
	if !in.own.at(asked) {
		return nil
	}
	from := network(tx.Session.Peer.Addr(), postmasterBits4)
	claims := []limit.Claim{
		{Key: "postmaster from " + from.String(), Rate: limit.Rate{Units: postmasterPerPeer, Span: time.Hour}, Amount: 1},
		{Key: "postmaster", Rate: limit.Rate{Units: postmasterInAll, Span: time.Hour}, Amount: 1},
	}
	if retry := in.budgets.postmaster.Take(now, claims...); !retry.IsZero() {
		return mail.RateLimited.Because("%s takes %d an hour from %s, and %d in all", asked, postmasterPerPeer, from, postmasterInAll)
	}
	return nil
}

// readBy is who reads the mail for an address: that of the relay's own postmaster its person,
// if his mail still comes in here; else see readBy. Where an organisation's mail comes in
// under the relay's own name, the postmaster there is that organisation's.
func (in *intake) readBy(dir *org.Directory, a mail.Address) mail.Address {
	if in.own.person.IsZero() || !in.own.at(a) {
		return readBy(dir, a)
	}
	if _, theirs := dir.InboundFor(a.Domain()); theirs {
		return a
	}
	if _, ok := dir.InboundFor(in.own.person.Domain()); !ok {
		return a
	}
	return in.own.person
}

// readBy is who reads the mail for an address: at a return path nobody does, so that the
// postmaster there is the one of the domain above, where that one's mail comes in here.
// Any other address is its own.
func readBy(dir *org.Directory, a mail.Address) mail.Address {
	if !strings.EqualFold(a.Local(), postmaster) {
		return a
	}
	o, ok := dir.ReturnPath(a.Domain())
	if !ok {
		return a
	}
	for above := a.Domain().Parent(); !above.IsZero(); above = above.Parent() {
		route, ok := dir.InboundFor(above)
		if !ok || route.Organisation != o.ID {
			continue
		}
		if person, err := mail.ParseAddress(postmaster + "@" + above.String()); err == nil {
			return person
		}
	}
	return a
}

// addressReaders puts into a transaction who reads the mail. The facts about it and
// the organisation's server have that address; detail is for the fact, what was asked for
// where it was the relay's own postmaster.
func (in *intake) addressReaders(tx *smtpd.Transaction) (detail string) {
	dir := in.directory.Load()
	kept := tx.Envelope.Recipients[:0]
	for _, r := range tx.Envelope.Recipients {
		asked := r.Address
		r.Address = in.readBy(dir, asked)
		if r.Address != asked && in.own.at(asked) {
			detail = "sent to " + asked.String()
		}
		if detail != "" && slices.ContainsFunc(kept, func(k mail.Recipient) bool { return k.Address == r.Address }) {
			continue // one person reads postmaster and abuse, and gets one copy
		}
		kept = append(kept, r)
	}
	tx.Envelope.Recipients = kept
	return detail
}
