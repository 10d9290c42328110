package inbound

import (
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/inbound/echo"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
)

// Action is what becomes of a message. The zero Action is none.
type Action uint8

// The actions.
const (
	Refused  Action = iota + 1 // for good, or for now
	Held                       // kept for a person
	Admitted                   // handed to the organisation's server
)

// Verdict is what Judge decides. Why is nil if and only if the message is admitted
// and nothing is to be said against it.
type Verdict struct {
	Action   Action
	Why      *mail.Refusal
	Vouched  mail.Domain // the trusted sealer whose word stood in for DMARC; zero: none
	verdicts custody.Verdicts
	to       org.ID
}

// Found is what is known of a message beside what the standards say.
type Found struct {
	Echo    echo.Verdict
	Vouched mail.Domain // see Checker.Vouched
	Foreign bool        // it is a report, and about no mail that was sent from here
}

// Judge decides by the rules of the package comment.
func Judge(dir *org.Directory, q *Question, r *Results, f Found) Verdict {
	v := Verdict{Action: Admitted, to: q.Route.Organisation, verdicts: verdictsOf(q, r, f)}
	if q.Sender == "" {
		if why := ownDomain(dir, q, r); why != nil {
			return v.refuse(why)
		}
	}
	if f.Foreign && q.Route.Bounces == org.BouncesOurs {
		return v.refuse(mail.BounceNotOurs.Because("it is about no message that was sent from here"))
	}
	if q.Sender == "" && q.Route.DMARC == org.DMARCEnforce {
		v = v.enforce(r, f.Vouched)
	}
	if v.Action == Admitted && f.Echo.Echo == echo.Suspect {
		v = v.doubt(q.Route.Echo, f.Echo)
	}
	return v
}

func (v Verdict) refuse(why *mail.Refusal) Verdict {
	v.Action, v.Why = Refused, why
	return v
}

func (v Verdict) hold(why *mail.Refusal) Verdict {
	v.Action, v.Why = Held, why
	return v
}

// ownDomain protects the domains of all organisations here: what this relay hands on
// in their name would be believed.
func ownDomain(dir *org.Directory, q *Question, r *Results) *mail.Refusal {
	author, owned := dir.Owner(q.From)
	if owned && r.DMARC.Status != dmarc.Pass {
		if r.DMARC.Status == dmarc.TempError {
			return mail.LookupFailed.Because("whether %s stands behind it could not be looked up", q.From)
		}
		return mail.OwnDomainSpoof.Because("From %s of %s: not proven, and dmarc=%s", q.From, author.Organisation, r.DMARC.Status)
	}
	sender, ownSender := dir.Owner(q.MailFrom.Domain())
	switch {
	case !ownSender, r.SPF.Status == spf.Pass, owned && author.Organisation == sender.Organisation:
		return nil
	case r.SPF.Status == spf.TempError:
		return mail.LookupFailed.Because("whether %s authorised %s could not be looked up", q.MailFrom.Domain(), q.Peer)
	}
	return mail.OwnDomainSpoof.Because("MAIL FROM %s of %s: not proven, and spf=%s", q.MailFrom.Domain(), sender.Organisation, r.SPF.Status)
}

// enforce does what the From domain asks for.
func (v Verdict) enforce(r *Results, vouched mail.Domain) Verdict {
	switch {
	case r.DMARC.Status == dmarc.TempError:
		return v.refuse(mail.LookupFailed.Because("dmarc=temperror for %s: %v", r.DMARC.Author, r.DMARC.Err))
	case r.DMARC.Status != dmarc.Fail:
		return v
	case !vouched.IsZero():
		v.Vouched = vouched
		return v
	case r.DMARC.Policy == dmarc.PolicyReject:
		return v.refuse(mail.DMARCReject.Because("dmarc=fail for %s, whose policy is reject", r.DMARC.Author))
	case r.DMARC.Policy == dmarc.PolicyQuarantine:
		return v.hold(mail.DMARCQuarantine.Because("dmarc=fail for %s, whose policy is quarantine", r.DMARC.Author))
	}
	return v
}

// doubt does with a suspected echo what the organisation wants.
func (v Verdict) doubt(policy string, e echo.Verdict) Verdict {
	why := mail.EchoSuspect.Because("echo=suspect score=%d %s", e.Score, e.Codes())
	switch policy {
	case org.EchoRefuse:
		return v.refuse(why)
	case org.EchoHold:
		return v.hold(why)
	}
	return v
}

// verdictsOf are the words that go with the warrant.
func verdictsOf(q *Question, r *Results, f Found) custody.Verdicts {
	return custody.Verdicts{
		SPF: r.SPF.Status.String(), DKIM: r.dkim().String(), DMARC: r.DMARC.Status.String(), ARC: r.ARC.Status.String(), Echo: string(f.Echo.Echo),
		Answerable: q.Sender != "" || r.SPF.Status == spf.Pass && !q.MailFrom.IsZero(),
	}
}

// Verdicts are the words of RFC 8601 that the warrant will bear.
func (v Verdict) Verdicts() custody.Verdicts { return v.verdicts }

// Admit makes the warrant for a message that is admitted, or that a person released
// although it was held. A refused one gets none.
func Admit(v Verdict) (custody.Inbound, error) {
	if v.Action != Admitted && v.Action != Held {
		return custody.NewInbound("", v.verdicts) // an error
	}
	return custody.NewInbound(v.to, v.verdicts)
}

// Reopen judges a detained message again with the Directory of now, when a person
// releases it: it is still for that organisation, and still not in the name of one
// that did not send it. What held it is the person's to judge.
func Reopen(dir *org.Directory, d custody.Detained) (warrant custody.Inbound, refusal *mail.Refusal) {
	for _, r := range d.Envelope.Recipients {
		if route, ok := dir.InboundFor(r.Address.Domain()); !ok || route.Organisation != d.Organisation {
			return warrant, mail.RelayDenied.Because("%s is no longer an inbound domain of %s", r.Address.Domain(), d.Organisation)
		}
	}
	author, authored := dir.Owner(d.From.Domain())
	if authored && d.Verdicts.DMARC != dmarc.Pass.String() {
		return warrant, mail.OwnDomainSpoof.Because("From %s of %s: not proven, and dmarc=%s", d.From.Domain(), author.Organisation, d.Verdicts.DMARC)
	}
	// What one organisation here sent another came from no host: nothing passes SPF
	// then, and its signature stands for both names.
	owner, owned := dir.Owner(d.Envelope.From.Domain())
	if owned && d.Verdicts.SPF != spf.Pass.String() && !(authored && author.Organisation == owner.Organisation) {
		return warrant, mail.OwnDomainSpoof.Because("MAIL FROM %s of %s: not proven, and spf=%s", d.Envelope.From.Domain(), owner.Organisation, d.Verdicts.SPF)
	}
	warrant, err := custody.NewInbound(d.Organisation, d.Verdicts)
	if err != nil {
		return warrant, mail.Internal.Because("%v", err)
	}
	return warrant, nil
}
