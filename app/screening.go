package app

import (
	"context"
	"crypto/tls"
	"strings"

	"anechoic/control/config"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/screen"
	"anechoic/relay/smtpd"
)

// scanners is who is asked about messages, and what the node does when one of them
// does not say. The zero scanners ask nobody.
type scanners struct {
	screen   *screen.Screen
	holdLoss bool // where the organisation says nothing
	checks   *checkRules
	health   *scannerHealth
}

// openScanners makes the clients; nothing is connected before the first message.
func (a *App) openScanners() scanners {
	options := a.config.Screen()
	options.Log = a.log
	s := scanners{screen: screen.New(options), holdLoss: a.config.Screening.OnLoss == config.OnLossHold, checks: new(checkRules)}
	s.health = &scannerHealth{screen: s.screen}
	a.onStop("scanners", func(context.Context) error { s.screen.Close(); return nil })
	return s
}

// ask asks about a message as its organisation wants it. What a scanner marked is
// told in the fact; why a message does not go on is in the verdict's refusal.
func (s scanners) ask(ctx context.Context, dir *org.Directory, q *screen.Question, fact *ledger.Fact) screen.Verdict {
	o, ok := dir.Organisation(q.Organisation)
	if s.screen == nil || !ok {
		return screen.Verdict{Action: screen.Pass}
	}
	way := &o.Screening.Outbound
	if q.Direction == screen.Inbound {
		way = &o.Screening.Inbound
	}
	if way.Off {
		return screen.Verdict{Action: screen.Pass}
	}
	q.Rules = screen.Rules{HoldLoss: s.holdLoss, HoldAt: float64(way.HoldAt), RefuseAt: float64(way.RefuseAt), Checks: s.checks.checking(dir, o, way)}
	if way.OnLoss != "" {
		q.Rules.HoldLoss = way.OnLoss == org.ScreeningHold
	}
	v := s.screen.Ask(ctx, q)
	if v.Action == screen.Mark {
		fact.Detail = joinDetail(fact.Detail, v.Detail())
	}
	return v
}

func joinDetail(first, second string) string {
	if first == "" {
		return second
	}
	return first + "; " + second
}

// screenOutbound asks about a proven message, and tells its organisation's operator
// what is alarming about it.
func (in *intake) screenOutbound(ctx context.Context, tx *smtpd.Transaction, proof attribution.Proof, dir *org.Directory, m mail.Message, fact *ledger.Fact) screen.Verdict {
	q := questionOf(tx, m)
	q.Direction, q.Organisation, q.Principal = screen.Outbound, proof.Organisation(), string(proof.Organisation())+"/"+proof.Source()
	v := in.scanners.ask(ctx, dir, q, fact)
	in.alarm(fact, v)
	return v
}

// screenInbound asks about a message for an organisation, that was judged and bears
// the results.
func (in *intake) screenInbound(ctx context.Context, m *arriving, dir *org.Directory, fact *ledger.Fact) screen.Verdict {
	return in.scanners.ask(ctx, dir, &screen.Question{
		ID: m.id, Direction: screen.Inbound, Organisation: m.question.Route.Organisation, Peer: m.question.Peer, Helo: m.question.Helo,
		Envelope: m.envelope, Message: mail.Message{Header: m.header, Body: m.body},
	}, fact)
}

// screenAgain asks about a detained message that a person releases. The person's
// judgement stands for that of who wanted it held, and for nobody's who refuses it or
// does not say: what was found to be malware since, or was never looked at, stays.
func (in *intake) screenAgain(ctx context.Context, t *trial, body *mail.Body) *mail.Refusal {
	q := &screen.Question{
		ID: t.detained.ID, Direction: screen.Outbound, Organisation: t.detained.Organisation, Principal: string(t.detained.Organisation) + "/" + t.detained.Source,
		Peer: t.detained.Evidence.Peer, Envelope: t.detained.Envelope, Message: mail.Message{Header: t.header, Body: body},
	}
	if t.detained.Inbound() {
		q.Direction, q.Principal = screen.Inbound, ""
	}
	v := in.scanners.ask(ctx, t.dir, q, new(ledger.Fact))
	if v.Action == screen.Hold && v.Reason != mail.ReasonScreeningLost {
		return nil
	}
	return v.Refusal()
}

// questionOf is what scanners are told of a transaction and its message, which has
// no evidence any more.
func questionOf(tx *smtpd.Transaction, m mail.Message) *screen.Question {
	q := &screen.Question{ID: tx.ID, Helo: tx.Session.Helo, Envelope: tx.Envelope, Message: m}
	if !tx.Session.BalancerItself {
		q.Peer = tx.Session.Peer.Addr()
	}
	if tx.Session.TLS != nil {
		q.TLS = strings.ReplaceAll(tls.VersionName(tx.Session.TLS.Version), "TLS ", "TLSv")
	}
	return q
}
