package maillog

import (
	"fmt"
	"strings"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// Outcome is what would become of a message.
type Outcome string

// The outcomes.
const (
	Relayed Outcome = "relayed" // as far as a log tells
	Inbound Outcome = "inbound" // it is for an organisation here, and judged by other checks
	Refused Outcome = "refused"
	Unknown Outcome = "cannot be told"
)

// Verdict is what would become of one message.
type Verdict struct {
	Outcome      Outcome
	Organisation org.ID      // whose source it is, or whose domain MAIL FROM claims
	Source       string      // relayed: the source
	Reason       mail.Reason // refused
	Why          string      // refused and cannot be told: in a few words, without names of strangers
	Do           string      // what to add, if the message is the organisation's own
}

// Judge asks the registry about a message of the log. Domains are taken as proven by
// DNS, connections with a password as inside TLS, and MAIL FROM for From: the log does not
// tell.
func Judge(dir *org.Directory, m *Message) Verdict {
	switch {
	case !m.begun:
		return Verdict{Outcome: Unknown, Why: "the log begins after the message came"}
	case m.Local:
		return Verdict{Outcome: Refused, Reason: mail.RelayDenied.Reason(), Why: "handed in by a program of the old machine itself", Do: "give the program a credential, and let it submit over TLS"}
	case !m.named:
		return Verdict{Outcome: Unknown, Why: "the log ends before the message was queued"}
	}
	if v, ok := inbound(dir, m); ok {
		return v
	}
	source, v := bySession(dir, m)
	if source == nil {
		return v
	}
	return bySender(dir, source, m.From)
}

// inbound is for mail whose recipients are all in domains that are routed here.
func inbound(dir *org.Directory, m *Message) (v Verdict, ok bool) {
	for _, to := range m.To {
		a, err := mail.ParseAddressUTF8(to)
		if err != nil {
			return v, false
		}
		in, routed := dir.InboundFor(a.Domain())
		if !routed {
			return v, false
		}
		v.Organisation = in.Organisation
	}
	v.Outcome = Inbound
	return v, len(m.To) > 0
}

// bySession finds the source that a session proves, or what became of the message
// without one.
func bySession(dir *org.Directory, m *Message) (*org.Source, Verdict) {
	if m.User != "" {
		return byUser(dir, m)
	}
	if s, ok := dir.Address(m.Address); ok {
		if s.Secret != nil {
			return nil, Verdict{Outcome: Unknown, Organisation: s.Organisation, Why: "the source asks for a secret header, and the log has no headers"}
		}
		return s, Verdict{}
	}
	claimed := claimedBy(dir, m.From)
	refusal := attribution.AtRecipient(dir, m.Address, true, "", attribution.ClientKey{})
	switch {
	case !m.Address.IsValid():
		return nil, Verdict{Outcome: Unknown, Organisation: claimed, Why: "the log has no address of the client"}
	case refusal == nil:
		return nil, fromProvider(dir, m, claimed)
	}
	v := Verdict{Outcome: Refused, Organisation: claimed, Reason: refusal.Reason(), Why: "the client proves nothing", Do: "if the machine is the organisation's own: a source of kind address, or a credential for it"}
	if m.Address.IsLoopback() {
		v.Why, v.Do = "a program of the old machine itself", "give the program a credential, and let it submit over TLS"
	}
	return nil, v
}

func byUser(dir *org.Directory, m *Message) (*org.Source, Verdict) {
	s, ok := dir.Username(m.User)
	switch {
	case !ok:
		return nil, Verdict{Outcome: Refused, Organisation: claimedBy(dir, m.From), Reason: mail.ReasonAuthFailed, Why: "the user is not in the registry", Do: "a source of kind credential for the user, with `from`"}
	case len(s.Addresses) > 0 && !org.Within(m.Address, s.Addresses):
		return nil, Verdict{Outcome: Refused, Organisation: s.Organisation, Reason: mail.SourceNotAllowed.Reason(), Why: "source " + s.ID + " is not for this address", Do: "`addresses` of source " + s.ID}
	case s.Secret != nil:
		return nil, Verdict{Outcome: Unknown, Organisation: s.Organisation, Why: "the source asks for a secret header, and the log has no headers"}
	}
	return s, Verdict{}
}

// fromProvider is mail from addresses that a provider's customers share.
func fromProvider(dir *org.Directory, m *Message, claimed org.ID) Verdict {
	kind := org.Google
	if dir.Providers().Microsoft365.Contains(m.Address) {
		kind = org.Microsoft365
	}
	if o, ok := dir.Organisation(claimed); ok {
		for _, s := range o.Sources {
			if s.Kind == kind {
				return Verdict{Outcome: Unknown, Organisation: claimed, Why: "source " + s.ID + " is told by headers, which the log has not"}
			}
		}
	}
	reason := mail.TenantNotAuthorized.Reason()
	if kind == org.Google {
		reason = mail.SecondProofMissing.Reason()
	}
	return Verdict{Outcome: Refused, Organisation: claimed, Reason: reason, Why: fmt.Sprintf("%s's shared addresses, and the organisation has no source there", kind),
		Do: fmt.Sprintf("if the tenant is the organisation's own: a source of kind %s", kind)}
}

// bySender asks whether a source may send as MAIL FROM.
func bySender(dir *org.Directory, s *org.Source, from string) Verdict {
	v := Verdict{Outcome: Relayed, Organisation: s.Organisation, Source: s.ID}
	if from == "" {
		v.Outcome, v.Why = Unknown, "a report with the null sender: From decides, which the log has not"
		return v
	}
	a, err := mail.ParseAddressUTF8(from)
	if err != nil {
		return Verdict{Outcome: Refused, Organisation: s.Organisation, Reason: mail.SenderNotOwned.Reason(), Why: "MAIL FROM is no whole address", Do: "have the sender write a whole address"}
	}
	owner, ok := dir.Owner(a.Domain())
	switch {
	case !ok || owner.Organisation != s.Organisation:
		return Verdict{Outcome: Refused, Organisation: s.Organisation, Reason: mail.SenderNotOwned.Reason(), Why: "source " + s.ID + " sends as a domain that is not its organisation's", Do: "a [[organisation.domain]], if the domain is the organisation's own"}
	case !s.MaySendAs(a):
		return Verdict{Outcome: Refused, Organisation: s.Organisation, Reason: mail.SourceNotAllowed.Reason(), Why: "source " + s.ID + " sends as an address that is not in its `from`", Do: "`from` of source " + s.ID}
	}
	return v
}

// claimedBy is the organisation whose domain MAIL FROM names.
func claimedBy(dir *org.Directory, from string) org.ID {
	_, name, ok := strings.Cut(from, "@")
	domain, err := mail.ParseDomain(name)
	if !ok || err != nil {
		return ""
	}
	owner, ok := dir.Owner(domain)
	if !ok {
		return ""
	}
	return owner.Organisation
}
