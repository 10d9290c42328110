package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/relay/inbound"
)

// This file is the last part of the way of inbound mail: to organisations' own
// servers, and for what was sent from here, from custody to the way in.

// ownServer is where mail for a domain goes, if it comes in here.
func (a *App) ownServer(domain mail.Domain) (own delivery.OwnServer, ok bool) {
	route, ok := a.directory.Load().InboundFor(domain)
	if !ok {
		return own, domain == a.config.Hostname && a.probes.any()
	}
	own.LMTP = route.LMTP
	own.Address, _ = delivery.ParseSmartHost(route.DeliverTo) // org checked its form
	own.Security = securityOf(route)
	return own, true
}

// securityOf is what the organisation wants its server to show: one of the keys it
// pinned, else a certificate for the name, else TLS at all.
func securityOf(route *org.Inbound) delivery.Security {
	s := delivery.Security{By: delivery.ByConfig}
	switch {
	case len(route.TLSSPKI) > 0:
		s.Level, s.Pins = delivery.LevelVerified, route.TLSSPKI
	case route.TLSName != "":
		s.Level, s.Names = delivery.LevelVerified, []string{route.TLSName}
	case route.TLSRequired:
		s.Level = delivery.LevelEncrypted
	default:
		return delivery.Security{}
	}
	return s
}

// probe asks the server of a recipient whether it knows it.
func (a *App) probe(ctx context.Context, rcpt mail.Recipient) delivery.Result {
	return a.probeFrom(ctx, inboundPool, mail.Address{}, rcpt)
}

// stillInbound says that the recipients' domains are still the organisation's: what
// was taken for one is never handed to another; and that it does not leave as anybody's.
func (a *App) stillInbound(ctx context.Context, lease *custody.Lease, content custody.Content, w custody.Inbound) *mail.Refusal {
	for _, r := range lease.Recipients {
		route, ok := a.directory.Load().InboundFor(r.Address.Domain())
		if !ok || route.Organisation != w.Organisation() {
			return mail.RelayDenied.Because("%s is no longer an inbound domain of %s", r.Address.Domain(), w.Organisation())
		}
	}
	return a.leavesAsNobody(ctx, lease, content, fromInbound)
}

// inwardTransport takes what was sent from here for an organisation whose mail comes
// in here the inbound way, without a detour over the network.
type inwardTransport struct {
	delivery.Transport
	intake *intake
	probes *probes
}

// Deliver implements delivery.Transport.
func (t inwardTransport) Deliver(ctx context.Context, a delivery.Attempt) []delivery.Result {
	if !a.Route.Local {
		return t.Transport.Deliver(ctx, a)
	}
	if a.Envelope.Recipients[0].Address.Domain() == t.probes.app.config.Hostname && !t.probes.takesMailItself() {
		return t.probes.deliver(ctx, t.Transport, a)
	}
	results := make([]delivery.Result, len(a.Envelope.Recipients))
	result := t.intake.handOver(ctx, &a)
	for i := range results {
		results[i] = result
	}
	return results
}

// handOver takes a message out of custody in once more, under a new id.
func (in *intake) handOver(ctx context.Context, a *delivery.Attempt) delivery.Result {
	now := time.Now().UTC()
	m, err := in.arrivingFromCustody(a, now)
	if err != nil {
		return delivery.Result{Status: delivery.Deferred, Enhanced: "4.3.0", Reply: printable(err.Error())}
	}
	defer m.body.Close()
	fact := ledger.Fact{
		Time: now, ID: m.id, MailFrom: m.envelope.From.String(), Size: a.Size, Generation: in.directory.Load().Generation(), Detail: "sent from here as " + string(a.ID),
	}
	for _, r := range m.envelope.Recipients {
		if refusal := in.judgeListed(ctx, m.question.Route, r); refusal != nil {
			return refused(refusal)
		}
		fact.Rcpt = append(fact.Rcpt, r.Address.String())
	}
	fact.From = m.from.String()
	if _, refusal := in.takeInbound(ctx, m, &fact, now); refusal != nil {
		in.recorder.refused(fact, refusal)
		return refused(refusal)
	}
	return delivery.Result{Status: delivery.Delivered, Enhanced: "2.0.0", Reply: "taken in here as " + string(m.id), Relayed: true}
}

// refused is a refusal of our own as the result of an attempt.
func refused(r *mail.Refusal) delivery.Result {
	result := delivery.Result{Status: delivery.Failed, Enhanced: r.Enhanced(), Reply: r.Text(), Reason: r.Reason()}
	if r.Temporary() {
		result.Status = delivery.Deferred
	}
	return result
}

// arrivingFromCustody is a message that is in custody already. Who sent it was
// proven then; nobody connected now.
func (in *intake) arrivingFromCustody(a *delivery.Attempt, now time.Time) (*arriving, error) {
	dir := in.directory.Load()
	route, ok := dir.InboundFor(a.Envelope.Recipients[0].Address.Domain())
	if !ok {
		return nil, fmt.Errorf("%s does not come in here any more", a.Envelope.Recipients[0].Address.Domain())
	}
	header, err := mail.ParseHeader(a.Content.Header(), mail.HeaderLimits{})
	if err != nil {
		return nil, fmt.Errorf("the stored header: %w", err)
	}
	originators, refusal := a.Envelope.ReadOriginators(header)
	if refusal != nil {
		return nil, errors.New("the stored header: " + refusal.Text())
	}
	body, hashes, err := in.spooled(header, a.Content.Body())
	if err != nil {
		return nil, err
	}
	m := &arriving{
		id: mail.NewID(now), envelope: a.Envelope, header: header, raw: a.Content.Header(), body: body, from: originators.From.Address,
		evidence: attribution.ReadHeader(dir, header),
		question: inbound.Question{Route: route, MailFrom: a.Envelope.From, From: originators.From.Address.Domain(), Header: header, Hashes: hashes, Sender: org.ID(a.Message.Organisation)},
	}
	if a.Message.Kind == custody.KindDisowned { // who forwarded it is not who sent it
		m.question.Sender = ""
	}
	m.notice = a.Message.Kind == custody.KindNotice
	m.trace = []mail.Field{mail.NewField("Received", "by "+in.hostname+" with LOCAL id "+string(m.id)+";\r\n\t"+now.Format(time.RFC1123Z))}
	return m, nil
}
