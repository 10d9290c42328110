package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/bounce"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/relay/policy"
	"anechoic/relay/smtpd"
)

// makeDispatcher makes the way out.
func (a *App) makeDispatcher() error {
	c := a.config.Delivery
	smartHost, err := delivery.ParseSmartHost(c.SmartHost)
	if err != nil {
		return err
	}
	helo := c.HELO.String()
	if c.HELO.IsZero() {
		helo = a.config.Hostname.String()
	}
	if err := checkEgress(a.config.Egress()); err != nil {
		return err
	}
	transport := &delivery.SMTP{
		Helo: helo, Bind: c.Bind, Pools: egressPools(a.config), Limits: a.siteLimits, Rules: a.security.rules(), Roots: a.options.Roots, Log: a.log,
	}
	a.onStop("connections", func(context.Context) error { transport.Close(); return nil })
	a.transport = transport
	a.dispatcher = &delivery.Dispatcher{
		Queue: a.queue, Known: a.sites, Transport: inwardTransport{returningTransport{measuredTransport{transport, a.metrics}, a.returns, a.directory.Load, a.intake.standing}, a.intake, a.probes}, Ask: a.askAgain, Notice: a.bounce, DelayAfter: c.DelayAfter, Egress: a.poolOf, Limits: a.siteLimits, Advise: a.adviceOf, Log: a.log,
		Router: &delivery.Router{
			Resolver: a.resolver, SmartHost: smartHost, Port: uint16(c.Port), Hostname: a.config.Hostname.String(),
			Family: family(c), Private: c.Private, AllowLoopback: onLoopback(a.config.DNS.Servers), Inner: a.ownServer,
		},
	}
	return nil
}

// onLoopback says that the configured name servers are on this machine alone and
// the answers may name it: an internet for tests. The system's resolver may be on
// loopback too, but then it is not configured here.
func onLoopback(servers []string) bool {
	for _, s := range servers {
		at, err := netip.ParseAddrPort(s)
		if err != nil || !at.Addr().IsLoopback() || at.Port() == 53 {
			return false
		}
	}
	return len(servers) > 0
}

// answerStands is how long policy's answer at intake counts for the first attempt.
// What changes by time alone, as an answer of DNS that is too old, is noticed this
// much later at most.
const answerStands = time.Minute

// justAsked says that policy answered for this message a moment ago and nothing it
// asks of has changed since: this is the first attempt, the Directory is the one
// that permitted it, and no domain lost its standing.
func (a *App) justAsked(lease *custody.Lease, proof attribution.Proof, dir *org.Directory, now time.Time) bool {
	return lease.Attempt == 1 && proof.Generation() == dir.Generation() &&
		lease.Message.Kept.After(a.domains.Lost()) && now.Sub(lease.Message.Kept) < answerStands
}

// askAgain asks policy about a message that is about to leave: its tenant,
// credential, source, domain or organisation may have gone since it was kept.
// What policy refuses for good is held, not sent; released by a person, it is
// asked about again.
func (a *App) askAgain(ctx context.Context, lease *custody.Lease, content custody.Content, warrant custody.Warrant) *mail.Refusal {
	if warrant == nil || warrant.IsZero() {
		return mail.Internal.Because("message %s has no warrant", lease.ID)
	}
	var proven custody.Proven
	switch w := warrant.(type) {
	case custody.Proven:
		proven = w
	case custody.Inbound:
		return a.stillInbound(ctx, lease, content, w)
	case custody.Disowned:
		if refusal := a.responses.stopsLease(lease, content, w.Organisation(), w.Proof().Source(), mail.Domain{}); refusal != nil {
			return refusal
		}
		if refusal := a.stillDisowned(lease, content, w); refusal != nil {
			return refusal
		}
		return a.leavesAsNobody(ctx, lease, content, fromDisowned)
	default:
		return nil // a Notice is the relay's own
	}
	if refusal := a.signedByRevoked(lease.ID, content, proven.SignAs()); refusal != nil {
		return refusal
	}
	if refusal := a.responses.stopsLease(lease, content, proven.Organisation(), proven.Proof().Source(), proven.SignAs()); refusal != nil {
		return refusal
	}
	dir := a.directory.Load()
	now := time.Now().UTC()
	if a.justAsked(lease, proven.Proof(), dir, now) {
		return nil
	}
	header, err := mail.ParseHeader(content.Header(), mail.HeaderLimits{})
	if err != nil {
		return mail.Internal.Because("the stored header of %s: %v", lease.ID, err)
	}
	originators, refusal := lease.Message.Envelope.ReadOriginators(header)
	if refusal != nil {
		return refusal
	}
	_, refusal = policy.Permit(dir, proven.Proof(), messageOf(lease.Message.Envelope.From, header, originators), a.intake.standing(ctx, now))
	return refusal
}

// noticeActions are what a notice tells, in the words of a report.
var noticeActions = map[delivery.NoticeKind]bounce.Action{
	delivery.NoticeFailed: bounce.Failed, delivery.NoticeDelayed: bounce.Delayed,
	delivery.NoticeRelayed: bounce.Relayed, delivery.NoticeDelivered: bounce.Delivered,
}

// mayBeTold says whether the sender of a message is told of its fate, and whose
// message it is. Who was proven is told all it asked for. Of mail that came in only a
// failure is told, and only to a sender whose domain authorised the peer: to others
// it would be backscatter.
func mayBeTold(b delivery.Bounce) (of org.ID, ok bool) {
	switch w := b.Warrant.(type) {
	case custody.Proven:
		return w.Organisation(), true
	case custody.Inbound:
		return w.Organisation(), w.Verdicts().Answerable && b.Kind == delivery.NoticeFailed
	case custody.Disowned:
		return w.Organisation(), b.Kind == delivery.NoticeFailed // and only to whom beforeRewriting finds
	}
	return "", false
}

// bounce composes what a sender is told of recipients that failed for good, that
// wait for long, or that were served and should be told of. Only
// senders that were proven get one: policy saw to it that MAIL FROM is theirs.
func (a *App) bounce(_ context.Context, b delivery.Bounce) ([]custody.Submission, error) {
	of, ok := mayBeTold(b)
	if !ok {
		return nil, nil
	}
	header, err := mail.ParseHeader(b.Content.Header(), mail.HeaderLimits{})
	if err != nil {
		return nil, fmt.Errorf("bounce of %s: %w", b.Lease.ID, err)
	}
	original := b.Lease.Message.Envelope
	if b.Warrant.Kind() == custody.KindDisowned {
		if original, ok = a.beforeRewriting(original, header, of, b.Now); !ok {
			return nil, nil
		}
	}
	report := bounce.Report{
		ID: mail.NewID(b.Now), Hostname: a.config.Hostname.String(), About: b.Lease.ID, Envelope: original,
		Header: header, Arrived: b.Lease.Message.Kept, Now: b.Now,
		Action: noticeActions[b.Kind], Expires: b.Lease.Message.Expires,
	}
	for _, f := range b.Failures {
		report.Failures = append(report.Failures, bounce.Failure{
			Recipient: f.Recipient.Recipient, Enhanced: f.Result.Enhanced, Reply: f.Result.Reply, Said: f.Result.Said,
			Host: f.Result.Host, Expired: f.Expired, Attempts: f.Recipient.Attempts + 1,
		})
	}
	finalHeader, body, envelope, err := bounce.Compose(report)
	if errors.Is(err, bounce.ErrNullSender) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	notice, err := custody.NewNotice(b.Lease.ID, of)
	if err != nil {
		return nil, err
	}
	return []custody.Submission{{ID: report.ID, Warrant: notice, Envelope: envelope, Header: finalHeader, Body: body}}, nil
}

// serverRefused is smtpd.Server's Refused: it records what the server refused by
// itself.
func (in *intake) serverRefused(s *smtpd.Session, tx *smtpd.Transaction, id mail.ID, r *mail.Refusal) {
	fact := sessionFact(s, time.Now())
	if tx != nil {
		fact = transactionFact(tx, time.Now())
	}
	fact.ID = id
	in.recorder.refused(fact, r)
}
