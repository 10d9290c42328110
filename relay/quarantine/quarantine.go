// Package quarantine is for the people who judge held mail: what they see of it,
// what they select, who has to agree, and what is told to the organisation.
//
//	Filter     which held messages are meant
//	Visible    a stranger's text as one that a terminal or a page only shows
//	Preview    a message as safe text: no markup, no live link, no attachment
//	Copy       the header of a copy that leaves by a person's hand, with a warning
//	Approvals  releases of many messages, which wait for a second person
//	Compose    the digest for an organisation's security contact
//
// It guarantees that nothing a stranger wrote acts where it is shown, that it is
// bounded, and that who asks for a release is never who approves it. It keeps no
// message and releases none: custody holds them, and what releases one asks
// attribution and policy again. An approval is no proof of anything.
package quarantine

import (
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// Direction is where a held message was going.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// DirectionOf says where a held message was going.
func DirectionOf(d *custody.Detained) Direction {
	if d.Inbound() {
		return Inbound
	}
	return Outbound
}

// Filter selects held messages: all fields that are set must hold. Sender, From
// and Recipient are an address, or a domain; "<>" is the null sender.
type Filter struct {
	Org       org.ID
	Reason    mail.Reason
	Direction Direction
	Source    string
	Sender    string
	From      string
	Recipient string
	Domain    string    // of sender, From or a recipient
	ID        string    // how the id begins
	Since     time.Time // kept at or after
	Until     time.Time // kept before
	Text      string    // words that stand in envelope, From, source, reason or Subject, all of them
}

// IsZero says that it selects everything.
func (f Filter) IsZero() bool { return f == Filter{} }

// Selects says whether a message is meant.
func (f Filter) Selects(d *custody.Detained) bool {
	return (f.Org == "" || f.Org == d.Organisation) &&
		(f.Reason == "" || f.Reason == d.Reason) &&
		(f.Direction == "" || f.Direction == DirectionOf(d)) &&
		(f.Source == "" || f.Source == d.Source) &&
		(f.Sender == "" || isMailbox(f.Sender, d.Envelope.From)) &&
		(f.From == "" || isMailbox(f.From, d.From)) &&
		(f.Recipient == "" || slices.ContainsFunc(d.Envelope.Recipients, func(r mail.Recipient) bool { return isMailbox(f.Recipient, r.Address) })) &&
		(f.Domain == "" || f.touches(d)) &&
		strings.HasPrefix(string(d.ID), strings.ToLower(f.ID)) &&
		!d.Kept.Before(f.Since) && (f.Until.IsZero() || d.Kept.Before(f.Until)) &&
		(f.Text == "" || f.says(d))
}

// isMailbox says whether an address is the one, or in the domain, that is wanted.
func isMailbox(wanted string, a mail.Address) bool {
	switch {
	case wanted == "<>":
		return a.IsZero()
	case strings.Contains(wanted, "@"):
		return strings.EqualFold(wanted, a.String())
	}
	return !a.IsZero() && strings.EqualFold(wanted, a.Domain().String())
}

func (f Filter) touches(d *custody.Detained) bool {
	in := func(a mail.Address) bool { return !a.IsZero() && strings.EqualFold(f.Domain, a.Domain().String()) }
	return in(d.From) || in(d.Envelope.From) || slices.ContainsFunc(d.Envelope.Recipients, func(r mail.Recipient) bool { return in(r.Address) })
}

// says looks for every word, without regard to case.
func (f Filter) says(d *custody.Detained) bool {
	said := []string{string(d.ID), d.Source, string(d.Reason), d.From.String(), d.Envelope.From.String(), Words(d.Subject)}
	for _, r := range d.Envelope.Recipients {
		said = append(said, r.Address.String())
	}
	text := strings.ToLower(strings.Join(said, "\n"))
	for _, word := range strings.Fields(strings.ToLower(f.Text)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// String tells what a filter selects, for whoever has to agree to it.
func (f Filter) String() string {
	var said []string
	say := func(name, value string) {
		if value != "" {
			said = append(said, name+"="+Visible(value))
		}
	}
	say("org", string(f.Org))
	say("reason", string(f.Reason))
	say("direction", string(f.Direction))
	say("source", f.Source)
	say("sender", f.Sender)
	say("from", f.From)
	say("recipient", f.Recipient)
	say("domain", f.Domain)
	say("id", f.ID)
	say("text", f.Text)
	if !f.Since.IsZero() {
		say("since", f.Since.UTC().Format(time.RFC3339))
	}
	if !f.Until.IsZero() {
		say("until", f.Until.UTC().Format(time.RFC3339))
	}
	if len(said) == 0 {
		return "everything"
	}
	return strings.Join(said, " ")
}
