package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"anechoic/control/metrics"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/inbound"
	"anechoic/relay/inbound/echo"
	"anechoic/relay/policy"
	"anechoic/relay/screen"
	"anechoic/relay/screen/content"
	"anechoic/relay/signing"
	"anechoic/relay/smtpd"
	"anechoic/standard/arc"
	"anechoic/standard/dkim"
	"anechoic/watch/seen"
)

// intake is the path of a message from its last octet to custody, and the only
// place that makes Evidence out of a transaction.
type intake struct {
	hostname  string
	own       ownPostmaster
	spool     string // folder of bodies that are too large for memory
	maxHops   int
	directory *atomic.Pointer[org.Directory]
	domains   *org.Proofs
	resolver  mail.Resolver
	passwords *credentials
	signer    *signing.Signer
	queue     *custody.Queue
	storage   func() error // custody.ErrFull: there is no room
	budgets   *budgets
	recorder  *recorder
	metrics   *metrics.Metrics
	seen      *seen.Table
	returns   *returns
	mailboxes *mailboxReports // nil: nobody looks into reports to mailboxes
	scanners  scanners
	responses *responses
	copies    copies
	log       *slog.Logger

	checker    *inbound.Checker
	echoes     *echo.Table
	recipients *callAhead
	forwarding forwarding
}

// Mail implements smtpd.Handler. Nothing is decided before a recipient is known, but
// that there is no room to keep what would be sent: nobody is to send it in vain.
func (in *intake) Mail(_ context.Context, tx *smtpd.Transaction) *mail.Refusal {
	err := in.storage()
	if !errors.Is(err, custody.ErrFull) {
		return nil // what else is wrong with the store is said where it is met
	}
	refusal := mail.DiskFull.Because("%v", err)
	in.recorder.refused(transactionFact(tx, time.Now()), refusal)
	return refusal
}

// Rcpt implements smtpd.Handler: a peer that can prove nothing is refused here,
// before it sends a message.
func (in *intake) Rcpt(ctx context.Context, tx *smtpd.Transaction, rcpt mail.Recipient) *mail.Refusal {
	refusal := in.judgeRecipient(ctx, tx, rcpt)
	if refusal != nil {
		fact := transactionFact(tx, time.Now())
		fact.Rcpt = []string{rcpt.Address.String()}
		in.recorder.refused(fact, refusal)
	}
	return refusal
}

func (in *intake) judgeRecipient(ctx context.Context, tx *smtpd.Transaction, rcpt mail.Recipient) *mail.Refusal {
	dir := in.directory.Load()
	session := tx.Session
	asked := rcpt.Address
	rcpt.Address = in.readBy(dir, asked)
	w := in.wayTo(dir, session, rcpt.Address)
	if first := tx.Envelope.Recipients; len(first) > 0 && in.wayTo(dir, session, in.readBy(dir, first[0].Address)) != w {
		return mail.DirectionMixed.Because("%s goes another way than %s", rcpt.Address.Domain(), first[0].Address.Domain())
	}
	switch {
	case w.back != nil:
		return in.judgeReturn(tx, w.back, rcpt.Address, time.Now().UTC())
	case w.forwarding && in.own.at(asked):
		return mail.PostmasterMissing.Because("%s is nobody here", asked)
	case w.forwarding:
		return in.judgeForwardingDomain(tx, rcpt.Address, time.Now().UTC())
	case w.to != nil:
		if refusal := in.judgeInward(ctx, tx, w.to, rcpt); refusal != nil || rcpt.Address == asked {
			return refusal
		}
		return in.spendOnPostmaster(tx, asked, time.Now())
	case session.BalancerItself:
		return mail.RelayDenied.Because("the balancer %s speaks for itself", session.Balancer)
	}
	refusal := attribution.AtRecipient(dir, session.Peer.Addr(), session.TLS != nil, session.Username, clientKey(session, time.Now()))
	if refusal != nil && in.own.at(asked) {
		return mail.PostmasterMissing.Because("%s is nobody here: %s", asked, refusal.Detail())
	}
	return refusal
}

// Data implements smtpd.Handler: it tells the ledger what became of the message
// on its path.
func (in *intake) Data(ctx context.Context, tx *smtpd.Transaction, r *smtpd.Received) (custody.Receipt, *mail.Refusal) {
	start := time.Now()
	defer func() { in.metrics.Intake(time.Since(start)) }()
	detail := in.addressReaders(tx)
	fact := transactionFact(tx, start)
	fact.Size, fact.Detail = r.Size, detail
	receipt, refusal := in.take(ctx, tx, r, &fact)
	if refusal != nil {
		in.recorder.refused(fact, refusal)
	}
	return receipt, refusal
}

// take is the path: each statement is a stage that may refuse.
func (in *intake) take(ctx context.Context, tx *smtpd.Transaction, r *smtpd.Received, fact *ledger.Fact) (receipt custody.Receipt, refusal *mail.Refusal) {
	now := time.Now().UTC()
	dir := in.directory.Load()
	fact.Generation = dir.Generation()
	if refusal = in.judgeHeader(r); refusal != nil {
		return receipt, refusal
	}
	tellMessageID(fact, r.Header)
	w := in.wayTo(dir, tx.Session, tx.Envelope.Recipients[0].Address)
	if w.back != nil {
		return in.takeReturn(ctx, tx, r, w.back, fact, now)
	}
	if w.forwarding {
		return in.takeForwardReport(ctx, tx, r, fact, now)
	}
	originators, refusal := tx.Envelope.ReadOriginators(r.Header)
	if refusal != nil {
		return receipt, refusal
	}
	tellOriginators(fact, dir, originators)
	evidence := evidenceOf(dir, tx, r.Header, originators, now)
	if w.to != nil && !mayProve(dir, &evidence) {
		return in.takeInbound(ctx, in.arrivingFrom(tx, r, w.to, originators.From.Address, &evidence, now), fact, now)
	}
	proof, refusal := in.attribute(ctx, dir, &evidence, r, now)
	tellEvidence(fact, &evidence)
	if refusal == nil || refusal.Reason() != mail.ReasonRateLimited { // a flood is not looked into
		fact.Print = content.PrintOf(mail.Message{Header: r.Header, Body: r.Body})
	}
	m := &offered{tx: tx, r: r, dir: dir, proof: proof, evidence: evidence, originators: originators, header: attribution.Strip(dir, r.Header)}
	var warrant custody.Proven
	if refusal == nil {
		warrant, refusal = policy.Permit(dir, proof, messageOf(tx.Envelope.From, m.header, originators), in.standing(ctx, now))
	}
	if refusal != nil && w.to != nil && !refusal.Temporary() { // nobody's here: mail like any other that comes in
		return in.takeInbound(ctx, in.arrivingFrom(tx, r, w.to, originators.From.Address, &evidence, now), fact, now)
	}
	tellProof(fact, proof)
	if receipt, stopped, done := in.respond(ctx, m, warrant.SignAs(), refusal == nil, fact, now); done {
		return receipt, stopped
	}
	if refusal != nil {
		return in.turnAway(ctx, m, refusal, fact, now)
	}
	paid, refusal := in.charge(m, warrant.SignAs(), fact, now)
	if refusal != nil {
		return receipt, refusal
	}
	defer func() {
		if refusal != nil { // what is not kept is not paid for
			in.notKept(now, paid)
		}
	}()
	verdict := in.screenOutbound(ctx, tx, proof, dir, mail.Message{Header: m.header, Body: r.Body}, fact)
	if verdict.Action == screen.Hold {
		return in.detain(ctx, in.detention(m, now), verdict.Refusal(), fact, now)
	}
	if refusal = verdict.Refusal(); refusal != nil {
		return receipt, refusal
	}
	header := m.header.Prepend(verdict.Headers...)
	signatures, refusal := in.sign(ctx, warrant, dir, header, r.Hashes, now)
	if refusal != nil {
		return receipt, refusal
	}
	header = header.Prepend(append([]mail.Field{received(in.hostname, tx, now)}, signatures...)...)
	put := in.returns.remember(dir, proof.Organisation(), tx.ID, tx.Envelope)
	return in.keep(ctx, custody.Submission{ID: tx.ID, Warrant: warrant, Envelope: tx.Envelope, Header: header, Body: r.Body, Put: put}, fact, now)
}

// offered is a client's message as it stands once it was asked whose it is.
type offered struct {
	tx          *smtpd.Transaction
	r           *smtpd.Received
	dir         *org.Directory
	proof       attribution.Proof // zero: nobody's
	evidence    attribution.Evidence
	originators mail.Originators
	header      mail.Header // without evidence
}

// turnAway is the end of a message that may not leave as its organisation's: passed
// on in nobody's name, held for a person, or refused.
func (in *intake) turnAway(ctx context.Context, m *offered, refusal *mail.Refusal, fact *ledger.Fact, now time.Time) (custody.Receipt, *mail.Refusal) {
	switch {
	case !in.forwarding.domain().IsZero() && policy.Seals(m.dir, m.proof):
		return in.takeDisowned(ctx, m, fact, now)
	case policy.Detains(m.dir, m.proof, m.originators):
		return in.detain(ctx, in.detention(m, now), refusal, fact, now)
	}
	in.budgets.refused(m.dir, &m.evidence, refusal, now)
	in.see(m.dir, &m.evidence, m.tx, m.originators, refusal, now)
	return in.learn(ctx, m, refusal, fact, now)
}

// attribute asks whose a message is, after what it takes to know.
func (in *intake) attribute(ctx context.Context, dir *org.Directory, ev *attribution.Evidence, r *smtpd.Received, now time.Time) (proof attribution.Proof, refusal *mail.Refusal) {
	if refusal = in.lookUp(ctx, dir, ev, r, now); refusal != nil {
		return proof, refusal
	}
	return attribution.Attribute(dir, ev, now)
}

// judgeHeader refuses what is no message by itself.
func (in *intake) judgeHeader(r *smtpd.Received) *mail.Refusal {
	switch {
	case errors.Is(r.HeaderErr, mail.ErrHeaderTooBig):
		return mail.HeaderTooBig.Because("%v", r.HeaderErr)
	case errors.Is(r.HeaderErr, mail.ErrLineTooLong):
		return mail.LineTooLong.Because("%v", r.HeaderErr)
	case r.HeaderErr != nil && hasSpacedStamp(r.RawHeader):
		return mail.AttributionAmbiguous.Because("%v", r.HeaderErr)
	case r.HeaderErr != nil:
		return mail.HeaderSyntax.Because("%v", r.HeaderErr)
	case r.Header.Count("Received") > in.maxHops:
		return mail.TooManyHops.Because("%d Received fields, the limit is %d", r.Header.Count("Received"), in.maxHops)
	}
	return nil
}

// hasSpacedStamp finds a provider's stamp with white space before its colon, as
// only somebody who hopes for a careless reader writes it.
func hasSpacedStamp(raw []byte) bool {
	for line := range strings.Lines(string(raw)) {
		name, _, ok := strings.Cut(line, ":")
		if ok && name != strings.TrimRight(name, " \t") && attribution.IsStamp(name) {
			return true
		}
	}
	return false
}

// evidenceOf makes plain values of a transaction: all that needs no look-up.
func evidenceOf(dir *org.Directory, tx *smtpd.Transaction, h mail.Header, o mail.Originators, now time.Time) attribution.Evidence {
	session := tx.Session
	ev := attribution.Evidence{
		Peer: session.Peer.Addr(), TLS: session.TLS != nil, Username: session.Username, ClientKey: clientKey(session, now),
		From: o.From.Address.Domain(), Header: attribution.ReadHeader(dir, h),
	}
	if session.BalancerItself {
		ev.Peer = netip.Addr{}
	}
	return ev
}

// lookUp adds to the evidence what DNS says, for peers and sources whose proof
// needs it; a flood is stopped before each of its steps.
func (in *intake) lookUp(ctx context.Context, dir *org.Directory, ev *attribution.Evidence, r *smtpd.Received, now time.Time) *mail.Refusal {
	if refusal := in.budgets.flooded(dir, ev, now); refusal != nil {
		return refusal
	}
	providers := dir.Providers()
	wanted := providers.Google.Contains(ev.Peer)
	if providers.Microsoft365.Contains(ev.Peer) {
		ev.PeerName = confirmPeer(ctx, in.resolver, ev.Peer)
		if refusal := in.budgets.flooded(dir, ev, now); refusal != nil {
			return refusal
		}
		s, ok := dir.Tenant(strings.ToLower(ev.Header.TenantID.Value))
		learning := learns(dir, ev.From)
		wanted = wanted || ok && s.RequireDKIM || learning
		if (ok || learning) && ev.PeerName == attribution.PeerNameConfirmed && attribution.Accused(r.Header, ev.From) {
			in.readChain(ctx, providers.Microsoft365.ARCDomains, ev, r, now)
		}
	}
	if wanted {
		ev.Signatures, ev.SignaturesFailed = in.verified(ctx, r, now)
	}
	return nil
}

// readChain adds to the evidence what the provider's seals say. It costs look-ups and
// signatures, so it is asked only where the words would decide if they are genuine.
func (in *intake) readChain(ctx context.Context, sealers []mail.Domain, ev *attribution.Evidence, r *smtpd.Received, now time.Time) {
	if len(sealers) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, inbound.DefaultLimit)
	defer cancel()
	ev.ReadChain(arc.Validate(ctx, in.resolver, r.Header, r.Hashes, now), sealers)
}

// clientKey is the key of the client's certificate. The handshake proved that the
// client has it; who issued the certificate says nothing here.
func clientKey(s *smtpd.Session, now time.Time) attribution.ClientKey {
	if s.TLS == nil || len(s.TLS.PeerCertificates) == 0 {
		return attribution.ClientKey{}
	}
	leaf := s.TLS.PeerCertificates[0]
	return attribution.ClientKey{
		SPKI: sha256.Sum256(leaf.RawSubjectPublicKeyInfo), Present: true,
		Expired: now.Before(leaf.NotBefore) || now.After(leaf.NotAfter),
	}
}

// hasCertificate is smtpd.Server's CertificateSource: a certificate of a source
// stands for AUTH on the submission port.
func (in *intake) hasCertificate(s *smtpd.Session) bool {
	key := clientKey(s, time.Now())
	_, known := in.directory.Load().ClientKey(key.SPKI)
	return key.Present && !key.Expired && known
}

// verified gives the DKIM signatures of a message that hold, with where their key
// records are kept. failed says that DNS did not answer for some.
func (in *intake) verified(ctx context.Context, r *smtpd.Received, now time.Time) (signatures []attribution.Signature, failed bool) {
	for _, result := range dkim.Verify(ctx, in.resolver, r.Header, r.Hashes, now) {
		if result.Status == dkim.TempError {
			failed = true
		}
		if result.Status != dkim.Pass || result.Testing {
			continue
		}
		alias, err := in.resolver.CNAME(ctx, result.KeyName)
		if err != nil && !errors.Is(err, mail.ErrNoDomain) {
			failed = true
			continue
		}
		s := attribution.Signature{Domain: result.Domain, Selector: result.Selector, Signed: result.Signed}
		if len(alias.Records) == 1 {
			s.Alias = alias.Records[0]
		}
		signatures = append(signatures, s)
	}
	return signatures, failed
}

// standing asks for the DNS proof of a domain, before its first use by a look-up.
func (in *intake) standing(ctx context.Context, now time.Time) policy.Standing {
	return func(d *org.Domain, name mail.Domain) org.Standing { return in.domains.Standing(ctx, d, name, now) }
}

func (in *intake) sign(ctx context.Context, w custody.Proven, dir *org.Directory, header mail.Header, hashes dkim.BodyHashes, now time.Time) ([]mail.Field, *mail.Refusal) {
	start := time.Now()
	fields, refusal := in.signer.Sign(ctx, w, dir, header, hashes, now)
	if len(fields) > 0 {
		in.metrics.Signed(time.Since(start))
	}
	return fields, refusal
}

// keep is the durable write. The 250 rests on it alone.
func (in *intake) keep(ctx context.Context, s custody.Submission, fact *ledger.Fact, now time.Time) (receipt custody.Receipt, refusal *mail.Refusal) {
	accepted := *fact
	accepted.Event, accepted.Identity, accepted.Disposition = ledger.Accepted, cmp.Or(fact.Identity, ledger.Proven), ledger.DispositionRelayed
	s.Facts = []ledger.Fact{accepted}
	start := time.Now()
	receipt, err := in.queue.Keep(ctx, s, now)
	switch {
	case errors.Is(err, custody.ErrFull):
		return receipt, mail.DiskFull.Because("%v", err)
	case err != nil:
		return receipt, mail.CustodyFailed.Because("%v", err)
	}
	in.metrics.Kept(time.Since(start))
	return receipt, nil
}

// authenticate is smtpd.Server's Authenticate.
func (in *intake) authenticate(ctx context.Context, s *smtpd.Session, username, password string) *mail.Refusal {
	l := login{username: username, password: password, peer: s.Peer.Addr(), shared: in.isProvider(s.Peer.Addr())}
	refusal := in.passwords.check(ctx, in.directory.Load(), l, time.Now())
	if refusal != nil {
		in.recorder.refused(sessionFact(s, time.Now()), refusal)
	}
	return refusal
}

// isProvider is smtpd.Server's SharedPeer.
func (in *intake) isProvider(peer netip.Addr) bool {
	p := in.directory.Load().Providers()
	return p.Microsoft365.Contains(peer) || p.Google.Contains(peer)
}

// messageOf is what policy asks about a message.
func messageOf(mailFrom mail.Address, h mail.Header, o mail.Originators) *policy.Message {
	return &policy.Message{MailFrom: mailFrom, Originators: o, Report: mail.IsAutomatic(h)}
}

// received is our trace field (RFC 5321 section 4.4). The client's name is
// written only if it is one; what the client wrote otherwise stays out.
func received(hostname string, tx *smtpd.Transaction, now time.Time) mail.Field {
	session := tx.Session
	helo := session.Helo
	if _, err := mail.ParseDomain(helo); err != nil {
		helo = "unknown"
	}
	v := "from " + helo + " (" + addressLiteral(session.Peer.Addr()) + ")\r\n\tby " + hostname +
		" with " + tx.Protocol() + " id " + string(tx.ID)
	if t := tlsText(session.TLS); t != "" {
		v += "\r\n\t(" + t + ")"
	}
	return mail.NewField("Received", v+";\r\n\t"+now.Format(time.RFC1123Z))
}

// addressLiteral is an address in the form of RFC 5321 section 4.1.3.
func addressLiteral(a netip.Addr) string {
	if a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}

func tellOriginators(fact *ledger.Fact, dir *org.Directory, o mail.Originators) {
	fact.From = o.From.Address.String()
	if d, ok := dir.Owner(o.From.Address.Domain()); ok {
		fact.ClaimedOrg = string(d.Organisation)
	}
}

// tellEvidence writes down what a provider's peer stamped; of other peers the
// same fields are a stranger's text.
func tellEvidence(fact *ledger.Fact, ev *attribution.Evidence) {
	if ev.PeerName != attribution.PeerNameConfirmed {
		return
	}
	fact.Tenant = printable(ev.Header.TenantID.Value)
	fact.Originator = printable(ev.Header.Originator.Value)
	fact.ConnectingIP = printable(ev.Header.ConnectingIP.Value)
}

func tellProof(fact *ledger.Fact, p attribution.Proof) {
	if p.IsZero() {
		return
	}
	fact.Org, fact.ClaimedOrg = string(p.Organisation()), ""
	fact.Source, fact.Origin = p.Source(), string(p.Origin())
	fact.Proofs = slices.Clip(p.Methods().Names())
}
