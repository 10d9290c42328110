package echo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/attribution"
)

// Rule is what an administrator decides of verdicts.
type Rule struct {
	SuspectAt int     // points from which a message is suspect; 0: DefaultSuspectAt
	Vouched   []Vouch // tenants that may send for a domain
}

// Vouch says that a tenant belongs to a domain and to all below it.
type Vouch struct {
	From   mail.Domain
	Tenant string // GUID
}

// DefaultSuspectAt is reached by no single doubt but that the provider itself
// attested dmarc=fail. It was chosen with the populations of TestNumbers.
const DefaultSuspectAt = 60

// The points of each reason, chosen with the populations of TestNumbers so that
//
//   - a foreign tenant alone, or one whose mailboxes wrote the mail, stays neutral;
//   - a foreign tenant that took the mail in from outside is suspect as soon as
//     anything else speaks against it: that the domain's tenants are known, that
//     only shared addresses vouch for it, that there are many such tenants;
//   - what the provider attested decides alone, but for the organisation's own
//     servers behind their connector, which SPF often does not list.
const (
	foreignPoints         = 30
	usualOtherPoints      = 20
	enteredPoints         = 20
	spfAlonePoints        = 20
	strangersPoints       = 30 // of mail that entered from outside
	strangersInsidePoints = 10 // of mail from mailboxes: organisations of many tenants look like that
	failPoints            = 60 // the seal covers the message as it is
	failBrokenPoints      = 30 // the seal verified, the message was changed since
	failConnectorPoints   = 20 // the organisation's own server, through its own tenant
	repeatedPoints        = 30
)

// A burst is this many tenants that belong to nobody, all new within newFor and
// seen within burstWithin. Of a domain that is not spoofed there are none to three
// in a day; the campaign of 2024 needed hundreds.
const (
	burstOf     = 3
	burstWithin = 24 * time.Hour
	newFor      = 7 * 24 * time.Hour
)

// Judge says whether a message looks like an echo. p is what was learned of
// o.Organisational before this message; the zero Profile is of a domain never seen.
func Judge(rule Rule, p Profile, o Observation) Verdict {
	if !o.DMARC || o.Organisational.IsZero() || !o.Stamps.Any && len(o.Seals) == 0 {
		return Verdict{Echo: None}
	}
	var v Verdict
	relation := v.relate(rule, p, o)
	if relation == foreign {
		v.weighForeign(p, o)
	}
	v.weighSeals(relation, o)
	slices.SortStableFunc(v.Reasons, func(a, b Reason) int { return cmp.Compare(b.Points, a.Points) })
	if v.Echo = rule.word(relation, v.Score); v.Score == 0 && !o.Stamps.Any && relation != belongs {
		return Verdict{Echo: None}
	}
	return v
}

// word turns a score into the verdict.
func (r Rule) word(relation relation, score int) Echo {
	limit := r.SuspectAt
	if limit <= 0 {
		limit = DefaultSuspectAt
	}
	switch {
	case score >= limit:
		return Suspect
	case relation == belongs && score == 0:
		return Pass
	}
	return Neutral
}

// relation is what the tenant is to the From domain.
type relation uint8

const (
	unstated relation = iota // the stamps do not say which tenant
	belongs
	forwarder // the message was the domain's own before the tenant had it
	foreign
)

// relate finds the relation and adds the reason for it.
func (v *Verdict) relate(rule Rule, p Profile, o Observation) relation {
	s := o.Stamps
	switch why, what := belonging(rule, p, o); {
	case s.Repeated:
		v.add(StampRepeated, repeatedPoints, "a stamp that the provider writes once stands more than once")
		return unstated
	case why != "":
		v.add(why, 0, what)
		return belongs
	case isGenuineBefore(o):
		v.add(GenuineForwarded, 0, fmt.Sprintf("a signature of %s was on the message before tenant %s had it", o.Organisational, named(s)))
		return forwarder
	case s.who() == "":
		v.add(TenantUnstated, 0, "the message does not say whose tenant it left")
		return unstated
	}
	return foreign
}

// belonging says why the tenant belongs to the From domain, if it does.
func belonging(rule Rule, p Profile, o Observation) (Code, string) {
	s := o.Stamps
	switch {
	case signedAtProvider(o):
		return SignedAtProvider, fmt.Sprintf("the provider signed with a key of %s as the message left it", o.Organisational)
	case o.aligned(s.Originator):
		return OriginatorOfFrom, fmt.Sprintf("the originator %s is of %s", s.Originator, o.Organisational)
	case !s.Originator.IsZero() && (slices.Contains(o.names(), s.Originator) || p.names(s.Originator, o.Time)):
		return NamedByDNS, fmt.Sprintf("DNS of %s names %s as its tenant", o.Organisational, s.Originator)
	case s.Tenant == "":
		return "", ""
	case rule.vouches(o.From, s.Tenant):
		return VouchedFor, fmt.Sprintf("tenant %s is vouched for by the configuration", s.Tenant)
	case s.Tenant == consumerTenant && isConsumer(o.Organisational):
		return ConsumerMailbox, "a consumer mailbox of the provider"
	case p.learned(s.Tenant, o.Time):
		return LearnedTenant, fmt.Sprintf("tenant %s held a key of %s on several days", s.Tenant, o.Organisational)
	}
	return "", ""
}

func (r Rule) vouches(from mail.Domain, tenant string) bool {
	return slices.ContainsFunc(r.Vouched, func(v Vouch) bool {
		return from.Within(v.From) && strings.EqualFold(v.Tenant, tenant)
	})
}

// consumerTenant is the one of all free mailboxes of the provider. It says nothing
// about who wrote, and owns no domain but the provider's.
const consumerTenant = "84df9e7f-e9f6-40af-b435-aaaaaaaaaaaa"

// consumerLabels begin the organisational domains of the free mailboxes, such as
// outlook.com, hotmail.co.uk, live.nl.
var consumerLabels = []string{"outlook", "hotmail", "live", "msn", "windowslive", "passport"}

func isConsumer(d mail.Domain) bool {
	first, _, _ := strings.Cut(d.String(), ".")
	return slices.Contains(consumerLabels, first)
}

// signedAtProvider says that the tenant which handed the message out signed it with
// the From domain's own key: what a stranger's tenant cannot, because a domain is
// accepted in one tenant at a time. The signature stands directly on the provider's
// topmost Received field. If the provider itself is the peer nobody else can have put
// it there; behind a relay the key must be the provider's.
func signedAtProvider(o Observation) bool {
	return slices.ContainsFunc(o.Signatures, func(s Signature) bool {
		_, kept := NameOf(s.Alias)
		return o.aligned(s.Domain) && o.place(s) == Egress && (o.Peer == ProviderPeer || kept)
	})
}

// isGenuineBefore says that the message was the From domain's own when it came to
// the tenant: a signature that was there before still verifies, or the provider
// attests of the unchanged message that one verified. SPF does not count: the
// provider's addresses pass it for strangers.
func isGenuineBefore(o Observation) bool {
	signed := slices.ContainsFunc(o.Signatures, func(s Signature) bool { return o.aligned(s.Domain) && o.place(s) == Before })
	attested := slices.ContainsFunc(o.Seals, func(s attribution.Sealed) bool {
		return s.Intact && s.Attested.Outside && s.Attested.DMARC == "pass" && slices.ContainsFunc(s.Attested.DKIM, o.aligned)
	})
	return signed || attested
}

// weighForeign adds what speaks against a tenant that belongs to nobody known.
func (v *Verdict) weighForeign(p Profile, o Observation) {
	s := o.Stamps
	v.add(ForeignTenant, foreignPoints, fmt.Sprintf("tenant %s is not known to belong to %s%s", named(s), o.Organisational, through(o)))
	if p.anyKnown(o.Time) || len(o.names()) > 0 {
		v.add(UsualTenantsOther, usualOtherPoints, fmt.Sprintf("%s has tenants of its own, and this is none of them", o.Organisational))
	}
	inside := s.Entry == Mailbox
	if !inside {
		v.add(EnteredFromOut, enteredPoints, "the message was handed to the tenant from outside")
	}
	if o.SPF && !slices.ContainsFunc(o.Signatures, func(s Signature) bool { return o.aligned(s.Domain) }) {
		v.add(SPFAlone, spfAlonePoints, fmt.Sprintf("no signature of %s; only the connecting address passed, and others share it", o.Organisational))
	}
	if n := p.burst(s.who(), o.Time); n >= burstOf {
		points := strangersPoints
		if inside {
			points = strangersInsidePoints
		}
		v.add(ManyStrangers, points, fmt.Sprintf("%d new foreign tenants sent as %s within a day", n, o.Organisational))
	}
}

// weighSeals adds what the provider attested. A seal that says dmarc=fail of this
// very From, on a message that passes now, tells that somebody signed it, or let it
// pass, after it had failed. One such seal is enough, whatever later ones say.
func (v *Verdict) weighSeals(relation relation, o Observation) {
	points := 0
	for _, s := range o.Seals {
		if s.Attested.DMARC != "fail" || !o.aligned(s.Attested.HeaderFrom) {
			continue
		}
		switch {
		case relation == belongs && o.Stamps.Entry == Connector:
			points = max(points, failConnectorPoints)
		case s.Intact:
			points = max(points, failPoints)
		default:
			points = max(points, failBrokenPoints)
		}
	}
	if points > 0 {
		v.add(AttestedFail, points, fmt.Sprintf("the provider saw DMARC fail for %s before somebody made it pass", o.Organisational))
	}
}

func (v *Verdict) add(c Code, points int, text string) {
	v.Score += points
	v.Reasons = append(v.Reasons, Reason{Code: c, Points: points, Text: text})
}

// named is the tenant in words.
func named(s Stamps) string {
	switch {
	case s.Originator.IsZero():
		return s.Tenant
	case s.Tenant == "":
		return s.Originator.String()
	}
	return s.Originator.String() + " (" + s.Tenant + ")"
}

// through tells by which peer foreign mail came.
func through(o Observation) string {
	if o.PeerName.IsZero() {
		return ""
	}
	return "; it came from " + o.PeerName.String()
}
