package bounce

import (
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/standard/report"
)

// This file is about reports that come to a mailbox, where no return address proves
// what they are about: which may be one, what they name, and whom to believe what.
//
// The threat. A Message-ID is no secret: whoever got the message has it, and whoever
// it was shown to, as everybody on a mailing list. Who has it can write a report
// that is not to be told from a true one. What such a report could do:
//
//   - speak of a recipient whom the message did not go to, or of mail of others. The
//     caller takes a report only for a message that the organisation's own mail
//     accounts sent from the very address the report came to, and tells of no
//     recipient but the message's own.
//   - put another recipient of the same message on the list of addresses that are not
//     tried. So a report is believed for that (Believe) only where nobody but the
//     recipient itself got the message, or where the recipient's own domain, or the
//     one site that took the message for it alone, stands behind the report.
//   - make an organisation look as if it wrote to nobodies. What is not believed is
//     told, and counts for nothing.
//
// What is left: a recipient can have itself left alone, which it may. An address of
// one recipient that hands mail on to many, as a list does, can be left alone by any
// of the many who was shown as many messages as the organisation's rule wants. Marks
// end, are told, and can be taken away.

// MayReport says, from a look at its envelope and header, that a message that came to a mailbox is to
// be read as a report: it has no sender, as reports have none (RFC 5321 section
// 4.5.5), or it calls itself a report (RFC 6522), or is a complaint of Outlook.com's.
func MayReport(noSender bool, contentType, subject string) bool {
	return noSender || strings.HasPrefix(strings.ToLower(strings.TrimSpace(contentType)), "multipart/report") || isHotmail(subject)
}

// Tells says that it tells what became of mail: an automatic answer and a message of
// another kind do not.
func (in Incoming) Tells() bool {
	return in.Kind == KindStatus || in.Kind == KindOldBounce || in.Kind == KindComplaint
}

// maxMessageIDs bounds the Message-IDs that one report names.
const maxMessageIDs = 2

// messageIDs are the Message-IDs of the message that a report tells of: those in the
// header that it gives back. A delivery status that gives none back names the
// message by In-Reply-To alone, if it names one; in answers and in reports that are
// words alone that field names what somebody answers, and References other messages
// of a conversation too: these are not asked.
func messageIDs(header report.Fields, in Incoming) (ids []string) {
	if !in.Tells() {
		return nil
	}
	for _, v := range in.Returned.All("Message-ID") {
		if id := strings.TrimSpace(v); BareID(id) != "" && len(ids) < maxMessageIDs && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if id := strings.TrimSpace(header.Get("In-Reply-To")); len(ids) == 0 && in.Kind == KindStatus && strings.Count(id, "@") == 1 && BareID(id) != "" {
		ids = append(ids, id)
	}
	return ids
}

// BareID is a Message-ID without the angle brackets and what stands around them (RFC
// 5322 section 3.6.4). One whose end was cut off has no second bracket.
func BareID(id string) string {
	if _, inner, ok := strings.Cut(id, "<"); ok {
		id, _, _ = strings.Cut(inner, ">")
	}
	return strings.TrimSpace(id)
}

// Witness is who stands behind a report.
type Witness struct {
	NoSender     bool          // the null reverse-path: what a mailbox sends has a sender
	Contradicted bool          // it says to come from a domain that disowns it
	Domains      []mail.Domain // that SPF or DKIM say it is from
}

// Speaks says that a domain stands behind the report: it, one above it that is not
// everybody's, or a host of its own. Its siblings do not: they may be another's.
func (w Witness) Speaks(domain mail.Domain) bool {
	return !domain.IsZero() && slices.ContainsFunc(w.Domains, func(d mail.Domain) bool {
		return !d.IsZero() && (d.Within(domain) || domain.Within(d) && !d.IsPublicSuffix())
	})
}

// Ground is why a report is believed what it says of a recipient; empty: it is not.
type Ground string

// The grounds.
const (
	GroundAlone  Ground = "nobody else got the message"
	GroundDomain Ground = "the domain of the recipient stands behind it"
	GroundSite   Ground = "the site that took the message for this recipient alone stands behind it"
)

// Sent is a message that went to recipients.
type Sent struct {
	Recipients []string
	Sites      map[string]string // of recipients it was handed over for, as far as known: to whom
}

// Believe says on what ground a report of a kind is believed what it says of one of
// the message's recipients. A complaint comes from whoever runs the mailbox or works
// for them, under names of their own, so that only the first ground is one for it.
func Believe(kind Kind, sent Sent, rcpt string, w Witness) Ground {
	is := func(other string) bool { return strings.EqualFold(other, rcpt) }
	bounce := kind == KindStatus || kind == KindOldBounce
	switch {
	case w.Contradicted, !slices.ContainsFunc(sent.Recipients, is):
		return ""
	case bounce && !w.NoSender, !bounce && kind != KindComplaint:
		return ""
	case !slices.ContainsFunc(sent.Recipients, func(other string) bool { return !is(other) }):
		return GroundAlone
	case kind == KindComplaint:
		return ""
	case w.Speaks(addressDomain(rcpt)):
		return GroundDomain
	case w.Speaks(siteAlone(sent, rcpt)):
		return GroundSite
	}
	return ""
}

// siteAlone is the site that took the message for a recipient, if it took it for
// nobody else.
func siteAlone(sent Sent, rcpt string) (site mail.Domain) {
	name := ""
	for to, at := range sent.Sites {
		if strings.EqualFold(to, rcpt) {
			name = at
		}
	}
	for to, at := range sent.Sites {
		if !strings.EqualFold(to, rcpt) && strings.EqualFold(at, name) {
			return site
		}
	}
	site, _ = mail.ParseDomain(name)
	return site
}

func addressDomain(address string) mail.Domain {
	a, err := mail.ParseAddressUTF8(address)
	if err != nil {
		return mail.Domain{}
	}
	return a.Domain()
}

// IsDaemon says that an address is of the program that writes bounces, as custom has
// it, or of who is answerable for the mail of its domain (RFC 5321 section 4.5.1):
// mailbox providers give neither to a customer.
func IsDaemon(a mail.Address) bool {
	return strings.EqualFold(a.Local(), "mailer-daemon") || strings.EqualFold(a.Local(), "postmaster")
}
