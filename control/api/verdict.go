package api

import (
	"fmt"
	"strings"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
)

// Verdict is what became of a message, in one plain sentence for who is not an expert,
// and what to do next.
type Verdict struct {
	Disposition string      `json:"disposition"` // relayed, refused, held, deferred, bounced; dropped
	Sentence    string      `json:"sentence"`
	Reason      mail.Reason `json:"reason,omitempty"`
	Next        []string    `json:"next"`
}

// Accepts gives the tenants from which an organisation's mail is taken now.
type Accepts func(organisation string) []string

// VerdictOf says how a message stands after all its facts, which are in order and of
// one id.
func VerdictOf(facts []ledger.Fact, accepts Accepts) Verdict {
	var taken, last ledger.Fact
	for _, f := range facts {
		switch f.Event {
		case ledger.Accepted:
			taken, last = f, f
		case ledger.Refused, ledger.Held, ledger.Delivered, ledger.Deferred, ledger.Bounced, ledger.Dropped, ledger.SetAside, ledger.Released, ledger.Ended, ledger.Leased:
			last = f
		}
	}
	if taken.ID == "" {
		taken = last
	}
	v := verdictOf(taken, last, accepts)
	v.Reason = last.Reason
	if v.Next == nil {
		v.Next = []string{}
	}
	if v.Reason != "" {
		v.Next = append(v.Next, "anechoic explain "+string(v.Reason))
	}
	return v
}

// verdictOf is the verdict by the last fact that says something of custody; taken is
// how it came in.
func verdictOf(taken, f ledger.Fact, accepts Accepts) Verdict {
	switch f.Event {
	case ledger.Refused:
		return Verdict{Disposition: "refused", Sentence: "Refused: " + whyRefused(f, accepts) + " Nothing was signed." + remedy(f), Next: toLog(f)}
	case ledger.Held:
		if isDetention(f) {
			return Verdict{Disposition: "held", Sentence: "Held for a person to judge: " + whyRefused(f, accepts) + " Nothing was signed or sent.", Next: []string{"anechoic quarantine show " + string(f.ID)}}
		}
		return Verdict{Disposition: "held", Sentence: fmt.Sprintf("Held%s%s: %s is not sent until somebody releases it.", reason(f), detail(f), whose(taken)), Next: []string{"anechoic queue show " + string(f.ID), "anechoic queue release " + string(f.ID)}}
	case ledger.Delivered:
		return Verdict{Disposition: "relayed", Sentence: fmt.Sprintf("Delivered: %s went to %s%s.", whose(taken), list(f.Rcpt), at(f))}
	case ledger.Deferred:
		return Verdict{Disposition: "deferred", Sentence: fmt.Sprintf("Waiting: %s is not delivered to %s yet%s; another attempt follows by itself.", whose(taken), list(f.Rcpt), answered(f)), Next: []string{"anechoic queue show " + string(f.ID)}}
	case ledger.Bounced, ledger.Ended:
		return Verdict{Disposition: "bounced", Sentence: fmt.Sprintf("Given up: %s could not be delivered to %s%s%s, and its sender was told.", whose(taken), list(f.Rcpt), answered(f), detail(f)), Next: toLog(f)}
	case ledger.Dropped:
		return Verdict{Disposition: "dropped", Sentence: fmt.Sprintf("Dropped by an operator%s: %s was not sent, and nobody was told.", aside(f), whose(taken))}
	case ledger.SetAside:
		return Verdict{Disposition: "held", Sentence: "Set aside: what was stored did not read back as it was kept, so it is never sent.", Next: toLog(f)}
	case ledger.Accepted, ledger.Released, ledger.Leased:
		return Verdict{Disposition: "relayed", Sentence: fmt.Sprintf("Taken: %s is in custody and on its way to %s.", whose(taken), list(f.Rcpt)), Next: []string{"anechoic queue show " + string(f.ID)}}
	}
	return Verdict{Sentence: "The ledger says nothing of what became of it."}
}

// whose is a message with who sent it and why that is believed.
func whose(f ledger.Fact) string {
	s := "the mail from " + orNone(f.From)
	if f.Org != "" && f.Identity == ledger.Proven {
		s += fmt.Sprintf(", proven to be %s's", f.Org)
		if f.Source != "" {
			s += " by source " + f.Source
		}
		s += ","
	}
	return s
}

// whyRefused says who came and what stood against it.
func whyRefused(f ledger.Fact, accepts Accepts) string {
	claimed := "the domains here"
	if _, domain, ok := strings.Cut(f.From, "@"); ok && f.ClaimedOrg != "" {
		claimed = strings.TrimSuffix(domain, ">")
	}
	switch {
	case f.Reason == mail.ReasonTenantNotAuthorized && f.Tenant != "":
		return fmt.Sprintf("the mail came from Microsoft 365 tenant %s, but %s.", f.Tenant, onlyTenants(claimed, accepts(f.ClaimedOrg)))
	case f.Reason == mail.ReasonSecondProofMissing && f.Tenant != "":
		return fmt.Sprintf("the mail came from Microsoft 365 tenant %s, which may send as %s, but without the second proof that the organisation's own system adds.", f.Tenant, claimed)
	case f.Reason == mail.ReasonRelayDenied && f.Peer.IsValid():
		return fmt.Sprintf("%s has nothing that proves which organisation it sends for.", f.Peer)
	}
	s := "the mail"
	if f.From != "" {
		s += " from " + f.From
	}
	if f.Peer.IsValid() {
		s += " that " + f.Peer.String() + " brought"
	}
	if meaning := meaningOf(f); meaning != "" {
		return s + " was not taken: " + meaning + "."
	}
	return s + " was not taken" + reason(f) + "."
}

// onlyTenants says from which tenants mail in the name of a domain is taken.
func onlyTenants(domain string, tenants []string) string {
	switch len(tenants) {
	case 0:
		return domain + " accepts no tenant"
	case 1:
		return domain + " only accepts tenant " + tenants[0]
	}
	return domain + " only accepts tenants " + list(tenants)
}

// meaningOf is what the ledger and the reply say stood against it.
func meaningOf(f ledger.Fact) string {
	text := f.Reply
	if before, _, found := strings.Cut(text, " ["); found {
		text = before
	}
	if words := strings.SplitN(text, " ", 3); len(words) == 3 && len(words[0]) == 3 {
		text = words[2] // without the codes
	}
	switch {
	case f.Detail != "" && text != "":
		text += " (" + f.Detail + ")"
	case f.Detail != "":
		text = f.Detail
	}
	return strings.TrimSuffix(text, ".")
}

// remedy is what the organisation can do about it, where it is one sentence.
func remedy(f ledger.Fact) string {
	short := func(tenant string) string {
		if len(tenant) > 8 {
			return tenant[:8] + "…"
		}
		return tenant
	}
	switch {
	case f.Reason == mail.ReasonTenantNotAuthorized && f.Tenant != "":
		return fmt.Sprintf(" If %s is yours, add it as a source.", short(f.Tenant))
	case f.Reason == mail.ReasonRelayDenied && f.Peer.IsValid():
		return " If it is yours, give it a user name, a certificate or an address source."
	case f.Reason == mail.ReasonDomainUnverified:
		return " Publish the domain's _anechoic record."
	}
	return ""
}

func toLog(f ledger.Fact) []string { return []string{"anechoic log show " + string(f.ID)} }

// tenantsOf is Accepts for a Directory.
func tenantsOf(dir *org.Directory) Accepts {
	return func(organisation string) (tenants []string) {
		o, ok := dir.Organisation(org.ID(organisation))
		if !ok {
			return nil
		}
		for _, s := range o.Sources {
			tenants = append(tenants, s.TenantIDs...)
		}
		return tenants
	}
}
