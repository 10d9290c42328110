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
}

// openScanners makes the clients; nothing is connected before the first message.
func (a *App) openScanners() scanners {
	options := a.config.Screen()
	options.Log = a.log
	s := scanners{screen: screen.New(options), holdLoss: a.config.Screening.OnLoss == config.OnLossHold}
	a.onStop("scanners", func(context.Context) error { s.screen.Close(); return nil })
	return s
}

// ask asks about a message as its organisation wants it. What a scanner marked is
// told in the fact; why a message does not go on is in the verdict's refusal.
func (s scanners) ask(ctx context.Context, q *screen.Question, way org.ScreeningWay, fact *ledger.Fact) screen.Verdict {
	if s.screen == nil || way.Off {
		return screen.Verdict{Action: screen.Pass}
	}
	q.Rules = screen.Rules{HoldLoss: s.holdLoss, HoldAt: float64(way.HoldAt), RefuseAt: float64(way.RefuseAt)}
	if way.OnLoss != "" {
		q.Rules.HoldLoss = way.OnLoss == org.ScreeningHold
	}
	v := s.screen.Ask(ctx, q)
	if v.Action == screen.Mark {
		fact.Detail = v.Detail()
	}
	return v
}

// screenOutbound asks about a proven message.
func (in *intake) screenOutbound(ctx context.Context, tx *smtpd.Transaction, proof attribution.Proof, dir *org.Directory, m mail.Message, fact *ledger.Fact) screen.Verdict {
	q := questionOf(tx, m)
	q.Direction, q.Organisation, q.Principal = screen.Outbound, proof.Organisation(), string(proof.Organisation())+"/"+proof.Source()
	var way org.ScreeningWay
	if o, ok := dir.Organisation(proof.Organisation()); ok {
		way = o.Screening.Outbound
	}
	return in.scanners.ask(ctx, q, way, fact)
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
