package app

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/bounce"
	"anechoic/relay/custody"
	"anechoic/relay/inbound"
	"anechoic/relay/inbound/echo"
	"anechoic/relay/limit"
	"anechoic/relay/screen"
	"anechoic/relay/smtpd"
	"anechoic/standard/report"
)

// way is where a recipient's mail goes; the zero way is out. All recipients of a
// transaction have the same.
type way struct {
	back *org.Organisation // to its return path: a report
	to   *org.Inbound      // to the organisation's own server

	forwarding bool // to a rewritten sender of forwarded mail: a report
}

// wayTo is decided by the recipient, and by who speaks: what an organisation's own
// client sends is judged as that, whoever it is for, and goes on from custody.
func (in *intake) wayTo(dir *org.Directory, s *smtpd.Session, rcpt mail.Address) way {
	if at := in.forwarding.domain(); !at.IsZero() && rcpt.Domain() == at {
		return way{forwarding: true}
	}
	if o, ok := dir.ReturnPath(rcpt.Domain()); ok {
		return way{back: o}
	}
	if route, ok := dir.InboundFor(rcpt.Domain()); ok && !isOwnClient(dir, s) {
		return way{to: route}
	}
	return way{}
}

// isOwnClient says that the session itself proves an organisation.
func isOwnClient(dir *org.Directory, s *smtpd.Session) bool {
	if s.Username != "" {
		return true
	}
	key := clientKey(s, time.Now())
	if _, known := dir.ClientKey(key.SPKI); known && key.Present && !key.Expired {
		return true
	}
	_, known := dir.Address(s.Peer.Addr())
	return known && !s.BalancerItself
}

// judgeInward is asked about a recipient whose mail comes in here.
func (in *intake) judgeInward(ctx context.Context, tx *smtpd.Transaction, route *org.Inbound, rcpt mail.Recipient) *mail.Refusal {
	if tx.Session.BalancerItself {
		return mail.RelayDenied.Because("the balancer %s speaks for itself", tx.Session.Balancer)
	}
	return in.judgeListed(ctx, route, rcpt)
}

// judgeListed says whether the organisation has such a recipient.
func (in *intake) judgeListed(ctx context.Context, route *org.Inbound, rcpt mail.Recipient) *mail.Refusal {
	if route.Lists() && !route.Listed(rcpt.Address) {
		return mail.RecipientNotFound.Because("%s is not on the list of %s", rcpt.Address, route.Organisation)
	}
	if route.AskServer {
		return in.recipients.ask(ctx, rcpt, time.Now())
	}
	return nil
}

// mayProve says that attribution could find a message of this session to be an
// organisation's own: only then is it asked about mail that comes in.
func mayProve(dir *org.Directory, ev *attribution.Evidence) bool {
	providers := dir.Providers()
	switch {
	case providers.Microsoft365.Contains(ev.Peer):
		_, known := dir.Tenant(strings.ToLower(ev.Header.TenantID.Value))
		return known && ev.TLS
	case providers.Google.Contains(ev.Peer):
		return len(ev.Header.Secrets) > 0 && ev.TLS
	}
	return false
}

// takeInbound is the path of mail for an organisation: each statement is a stage
// that may refuse. sender is the organisation that this relay proved it to be from,
// when it comes out of custody.
func (in *intake) takeInbound(ctx context.Context, m *arriving, fact *ledger.Fact, now time.Time) (receipt custody.Receipt, refusal *mail.Refusal) {
	dir := in.directory.Load()
	fact.Direction, fact.Org = "inbound", string(m.question.Route.Organisation)
	if fact.Identity = ledger.Unproven; m.question.Sender != "" {
		fact.Identity = ledger.Proven
	}
	results := in.checker.Verify(ctx, &m.question, now)
	found := inbound.Found{Echo: in.observe(ctx, m, &results, now)}
	found.Vouched, _ = in.checker.Vouched(&results, m.question.From)
	if found.Foreign, refusal = in.isForeignReport(ctx, m, now); refusal != nil {
		return receipt, refusal
	}
	verdict := inbound.Judge(dir, &m.question, &results, found)
	tellVerdicts(fact, verdict.Verdicts(), found.Echo)
	if verdict.Action == inbound.Refused {
		return receipt, verdict.Why
	}
	marked := inbound.Mark(m.header, results.Authres(in.hostname, &m.question, found, m.envelope.UTF8))
	m.header = attribution.Strip(dir, marked)
	screened := in.screenInbound(ctx, m, dir, fact)
	if refusal = screened.Refusal(); refusal != nil && screened.Action != screen.Hold {
		return receipt, refusal
	}
	m.header = m.header.Prepend(screened.Headers...).Prepend(m.trace...)
	if verdict.Action == inbound.Admitted && screened.Action == screen.Hold {
		verdict.Action, verdict.Why = inbound.Held, screened.Refusal()
	}
	if verdict.Action == inbound.Held {
		return in.detainInbound(ctx, m, verdict, fact, now)
	}
	warrant, err := inbound.Admit(verdict)
	if err != nil {
		return receipt, mail.Internal.Because("%v", err)
	}
	receipt, refusal = in.keep(ctx, custody.Submission{ID: m.id, Warrant: warrant, Envelope: m.envelope, Header: m.header, Body: m.body}, fact, now)
	if refusal == nil {
		in.cameHome(m, &results, fact, now)
	}
	return receipt, refusal
}

// arriving is a message on its way in.
type arriving struct {
	id       mail.ID
	question inbound.Question
	envelope mail.Envelope
	header   mail.Header  // as it arrived
	trace    []mail.Field // our Received
	raw      []byte       // the header's octets
	body     *mail.Body
	from     mail.Address
	evidence attribution.HeaderEvidence
	notice   bool             // it is a report of this relay's own
	read     *bounce.Incoming // see told; nil: not read yet
}

// mayReport says that it is worth reading as a report.
func (m *arriving) mayReport() bool {
	value := func(name string) string {
		if f, ok := m.question.Header.First(name); ok {
			return f.Value()
		}
		return ""
	}
	return bounce.MayReport(m.envelope.From.IsZero(), value("Content-Type"), value("Subject"))
}

// size is of the message as it came, in octets.
func (m *arriving) size() int64 { return int64(len(m.raw)) + m.body.Size() }

// told reads the message as a report, once, as much as matters of it.
func (m *arriving) told() (bounce.Incoming, error) {
	if m.read == nil {
		body, err := io.ReadAll(io.LimitReader(m.body.Reader(), report.MaxOctets))
		if err != nil {
			return bounce.Incoming{}, fmt.Errorf("read a report: %w", err)
		}
		header, _ := report.Message(m.raw)
		in := bounce.ReadIncoming(header, body)
		m.read = &in
	}
	return *m.read, nil
}

// arrivingFrom is a message that a client sent.
func (in *intake) arrivingFrom(tx *smtpd.Transaction, r *smtpd.Received, route *org.Inbound, from mail.Address, ev *attribution.Evidence, now time.Time) *arriving {
	return &arriving{
		id: tx.ID, envelope: tx.Envelope, header: r.Header, raw: r.RawHeader, body: r.Body, from: from, evidence: ev.Header,
		trace: []mail.Field{received(in.hostname, tx, now)},
		question: inbound.Question{
			Route: route, Peer: tx.Session.Peer.Addr(), Helo: tx.Session.Helo, MailFrom: tx.Envelope.From, From: from.Domain(),
			Header: r.Header, Hashes: r.Hashes,
		},
	}
}

// reportsPerHour is how many reports of one organisation are looked up in the
// ledger.
const reportsPerHour = 3600

// isForeignReport says that a message is a report about mail that was not sent from
// here, where the organisation takes no such reports.
func (in *intake) isForeignReport(ctx context.Context, m *arriving, now time.Time) (bool, *mail.Refusal) {
	route := m.question.Route
	if !m.envelope.From.IsZero() || route.Bounces != org.BouncesOurs || m.question.Sender != "" {
		return false, nil
	}
	o, ok := in.directory.Load().Organisation(route.Organisation)
	if !ok {
		return true, nil
	}
	told, err := m.told()
	if err != nil {
		return false, mail.Internal.Because("%v", err)
	}
	if told.Kind != bounce.KindStatus && told.Kind != bounce.KindOldBounce {
		return false, nil
	}
	claim := limit.Claim{Key: "reports " + string(o.ID), Rate: limit.Rate{Units: reportsPerHour, Span: time.Hour}, Amount: 1}
	if retry := in.budgets.complaints.Take(now, claim); !retry.IsZero() {
		return false, mail.RateLimited.Because("%s takes %d reports an hour", o.ID, reportsPerHour)
	}
	_, id := in.returns.recognise(&returned{org: o, in: told, now: now}, in.hostname)
	original, err := in.returns.accepted(ctx, id, o.ID)
	if err == nil && original.ID == "" && len(m.envelope.Recipients) == 1 && in.mailboxes != nil {
		original, err = in.mailboxes.match(ctx, m.report(o, told, now))
	}
	if err != nil {
		return false, mail.Internal.Because("look in the ledger for the message that a report is about: %v", err)
	}
	return original.ID == "", nil
}

// tellVerdicts writes down what was found.
func tellVerdicts(fact *ledger.Fact, v custody.Verdicts, e echo.Verdict) {
	words := []string{"spf=" + v.SPF, "dkim=" + v.DKIM, "dmarc=" + v.DMARC, "arc=" + v.ARC, "echo=" + v.Echo}
	fact.Results = strings.Join(words, " ")
	if e.Echo == echo.Suspect || e.Echo == echo.Neutral {
		fact.Detail = printable(e.Codes())
	}
}
