package lab

import (
	"context"
	"time"

	"anechoic/mail"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
)

// Place is where a large mailbox provider puts a message, as far as
// authentication decides it.
type Place uint8

// The places. The zero Place is of a message whose connection is not known.
const (
	Unplaced Place = iota
	Inbox
	Spam
	Rejected // not taken at all
)

// String is the place in a word.
func (p Place) String() string {
	return [...]string{"unplaced", "inbox", "spam", "rejected"}[p]
}

// Passes says that DMARC passes for the message.
func (j *Judgement) Passes() bool { return j.DMARC.Status == dmarc.Pass }

// judgeConnection adds what the connection tells: SPF for MAIL FROM, DMARC for
// both, and where the message goes.
func (j *Judgement) judgeConnection(ctx context.Context, resolver mail.Resolver, e envelope) {
	j.MailFrom, j.Recipients = e.From, e.Recipients
	j.SPF = spf.Check(ctx, resolver, spf.Request{IP: e.Peer, HELO: e.Helo, MailFrom: e.From, Receiver: "mx.freemail.example", Now: time.Now()})
	m := dmarc.Message{From: []mail.Domain{j.From}}
	if domain, err := mail.ParseDomain(j.SPF.Domain); err == nil {
		m.SPF = dmarc.Identifier{Domain: domain, Outcome: outcome(j.SPF.Status == spf.Pass, j.SPF.Status == spf.TempError)}
	}
	for _, s := range j.signatures {
		m.DKIM = append(m.DKIM, dmarc.Identifier{Domain: s.Domain, Outcome: outcome(s.Status == dkim.Pass, s.Status == dkim.TempError)})
	}
	j.DMARC = dmarc.Evaluate(ctx, resolver, dmarc.TreeWalk, m)
	j.Place = PlaceOf(j.DMARC, j.SPF.Status == spf.Pass || len(j.SignedBy) > 0)
}

func outcome(pass, unsure bool) dmarc.Outcome {
	switch {
	case pass:
		return dmarc.Authenticated
	case unsure:
		return dmarc.Undetermined
	}
	return dmarc.Unauthenticated
}

// PlaceOf is where a message goes: by the policy of its author's domain where it
// applies. Without one, what nothing authenticates, aligned or not, is refused,
// as large providers do since 2024. What could not be found out is no reason to
// trust, nor to refuse for good.
func PlaceOf(r dmarc.Result, authenticated bool) Place {
	switch {
	case r.Status == dmarc.Pass:
		return Inbox
	case r.Status == dmarc.Fail && r.Policy == dmarc.PolicyReject, r.Status == dmarc.PermError:
		return Rejected
	case r.Status == dmarc.Fail && r.Policy == dmarc.PolicyQuarantine, r.Status == dmarc.TempError:
		return Spam
	case authenticated:
		return Inbox
	}
	return Rejected
}
