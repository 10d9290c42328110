package app

import (
	"strings"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/smtpd"
)

// postmaster is the local part that every domain has that takes mail (RFC 5321 section
// 4.5.1), in any case of letters.
const postmaster = "postmaster"

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
// the organisation's server have that address.
func (in *intake) addressReaders(tx *smtpd.Transaction) {
	dir := in.directory.Load()
	for i := range tx.Envelope.Recipients {
		r := &tx.Envelope.Recipients[i]
		r.Address = readBy(dir, r.Address)
	}
}
