package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/control/metrics"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/bounce"
	"anechoic/relay/custody"
	"anechoic/relay/inbound"
	"anechoic/relay/limit"
	"anechoic/relay/policy"
	"anechoic/relay/screen"
	"anechoic/relay/signing"
	"anechoic/relay/smtpd"
	"anechoic/standard/arc"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/srs"
)

// This file is the way of forwarded mail that leaves in nobody's name here: out,
// sealed by the relay's own forwarding domain, and back in, as reports to its
// rewritten senders.

// forwarding is what the relay passes forwarded mail on with. The zero forwarding
// passes nothing on.
type forwarding struct {
	senders srs.Rewriter
	key     signing.KeyRef // seals
}

// domain is the relay's own forwarding domain; zero: there is none.
func (f *forwarding) domain() mail.Domain { return f.senders.Domain() }

// sealSelector names the key of the forwarding domain. It is an RSA key: all who
// validate seals know those (RFC 8617 section 4.1.2 has no other).
const sealSelector = "arc1"

// openForwarding makes the key of the forwarding domain the first time.
func (a *App) openForwarding() error {
	domain := a.config.Disowned.Domain
	if domain.IsZero() {
		return nil
	}
	secret, err := sealKey(a.config.DataDir)
	if err != nil {
		return err
	}
	key := signing.KeyRef{Organisation: signing.RelayOwn, Domain: domain, Selector: sealSelector, Algorithm: org.RSA2048}
	if err := a.keys.MakeOwn(key); err != nil {
		return fmt.Errorf("key of the forwarding domain: %w", err)
	}
	a.signer.RelayKeys = []signing.KeyRef{key}
	a.intake.forwarding = forwarding{senders: srs.New(secret, domain), key: key}
	return nil
}

// takeDisowned is the path of forwarded mail: each statement is a stage that may
// refuse. Nothing of it is signed in anybody's name.
func (in *intake) takeDisowned(ctx context.Context, f *offered, fact *ledger.Fact, now time.Time) (receipt custody.Receipt, refusal *mail.Refusal) {
	saw := in.whatStandsBehind(ctx, f, now)
	fact.Results, fact.Identity = saw.words(), ledger.Unproven
	warrant, refusal := policy.Disown(f.dir, f.proof, messageOf(f.tx.Envelope.From, f.header, f.originators), saw.vouch)
	if refusal != nil {
		return receipt, refusal
	}
	envelope, refusal := in.rewrite(f.tx.Envelope, now)
	if refusal != nil {
		return receipt, refusal
	}
	spent, refusal := in.budgets.spend(f, now)
	if refusal != nil {
		return receipt, refusal
	}
	in.tellBill(bill{limits: spent}, metrics.LimitTaken)
	defer func() {
		if refusal != nil { // what is not kept is not paid for
			in.notKept(now, bill{limits: spent})
		}
	}()
	verdict := in.screenOutbound(ctx, f.tx, f.proof, f.dir, mail.Message{Header: f.header, Body: f.r.Body}, fact)
	if verdict.Action == screen.Hold {
		return in.detain(ctx, in.detention(f, now), verdict.Refusal(), fact, now)
	}
	if refusal = verdict.Refusal(); refusal != nil {
		return receipt, refusal
	}
	header := withoutOurResults(f.header, in.hostname).Prepend(append([]mail.Field{received(in.hostname, f.tx, now)}, verdict.Headers...)...)
	set, refusal := in.sealSet(ctx, header, f, saw, now)
	if refusal != nil {
		return receipt, refusal
	}
	header = header.Prepend(set...)
	fact.Detail = printable("passed on for nobody here, with the sender " + envelope.From.String())
	return in.keep(ctx, custody.Submission{ID: f.tx.ID, Warrant: warrant, Envelope: envelope, Header: header, Body: f.r.Body}, fact, now)
}

// rewrite gives the envelope that forwarded mail leaves with.
func (in *intake) rewrite(e mail.Envelope, now time.Time) (mail.Envelope, *mail.Refusal) {
	sender, err := in.forwarding.senders.Forward(e.From, now)
	if err != nil {
		return e, mail.ForwardedMail.Because("the sender %s cannot be rewritten to %s: %v", e.From, in.forwarding.domain(), err)
	}
	e.From = sender
	return e, nil
}

// withoutOurResults takes off what claims to be a result of ours (RFC 8601 section
// 5).
func withoutOurResults(h mail.Header, id string) mail.Header {
	return h.Without(func(f mail.Field) bool { return authres.Ours(f, id) })
}

// behind is what was seen of forwarded mail beside who forwarded it.
type behind struct {
	results  inbound.Results
	question inbound.Question
	found    inbound.Found
	attested *attribution.Sealed // what the provider's chain says; nil: nothing that verifies
	sealer   mail.Domain         // whose seal that is
	vouch    policy.Vouch
}

// whatStandsBehind verifies what can stand behind From: a DKIM signature, or the word
// of a sealer. Our own SPF of the peer says nothing: it forwards, and a provider's
// address is everybody's.
func (in *intake) whatStandsBehind(ctx context.Context, f *offered, now time.Time) (b behind) {
	from := f.originators.From.Address.Domain()
	b.question = inbound.Question{MailFrom: f.tx.Envelope.From, From: from, Header: f.r.Header, Hashes: f.r.Hashes}
	b.results = in.checker.Verify(ctx, &b.question, now)
	byProvider := false
	if microsoft := f.dir.Providers().Microsoft365; f.evidence.PeerName == attribution.PeerNameConfirmed && microsoft.Contains(f.evidence.Peer) {
		b.attested, b.sealer, byProvider = providersWord(b.results.ARC, microsoft, from)
	}
	trusted, byTrusted := in.checker.Vouched(&b.results, from)
	switch {
	case isSignedFor(&b.results, from), byProvider:
		b.vouch = policy.Vouched
	case byTrusted:
		b.vouch, b.found.Vouched = policy.Vouched, trusted
	case isOpen(&b.results):
		b.vouch = policy.VouchUnknown
	}
	return b
}

// isSignedFor says that a DKIM signature verifies that is aligned with From. Where
// From has no DMARC policy, alignment is the relaxed one.
func isSignedFor(r *inbound.Results, from mail.Domain) bool {
	if slices.ContainsFunc(r.DMARC.DKIM, func(a dmarc.Alignment) bool { return a.Aligned && a.Outcome == dmarc.Authenticated }) {
		return true
	}
	if len(r.DMARC.DKIM) > 0 {
		return false
	}
	above := r.DMARC.OrganisationalDomain
	return slices.ContainsFunc(r.DKIM, func(s dkim.Result) bool {
		return s.Status == dkim.Pass && !s.Testing && (s.Domain == from || !above.IsZero() && s.Domain.Within(above))
	})
}

// isOpen says that a look-up failed that might have found something.
func isOpen(r *inbound.Results) bool {
	return r.ARC.Temporary || r.DMARC.Status == dmarc.TempError ||
		slices.ContainsFunc(r.DKIM, func(s dkim.Result) bool { return s.Status == dkim.TempError })
}

// providersWord is what the provider says in a chain that validates, in its newest
// sets, as far as they are its own: the set that stands behind From, else the newest.
// It stands behind what came to it from outside and passed DMARC, unless that passed
// by an address of the provider alone, which is everybody's.
func providersWord(chain arc.Chain, provider org.Provider, from mail.Domain) (said *attribution.Sealed, by mail.Domain, vouches bool) {
	if chain.Status != arc.Pass {
		return nil, by, false
	}
	own := attribution.SealsOf(chain, provider.ARCDomains)
	for i, number := len(own)-1, len(chain.Instances); i >= 0 && own[i].Instance == number; i, number = i-1, number-1 {
		saw := own[i].Attested
		isShared := provider.Contains(saw.SenderIP) || !saw.SenderIP.IsValid()
		signed := slices.ContainsFunc(saw.DKIM, func(d mail.Domain) bool { return from.Within(d) || d.Within(from) })
		if saw.Vouches(from) && (signed || !isShared) {
			return &own[i], chain.Instances[number-1].Sealer(), true
		}
		if said == nil {
			said, by = &own[i], chain.Instances[number-1].Sealer()
		}
	}
	return said, by, false
}

// words is what was seen, for the ledger.
func (b *behind) words() string {
	var words []string
	r := b.report("", false)
	for _, method := range []string{"spf", "dkim", "dmarc", "arc"} {
		if found := r.Of(method); len(found) > 0 {
			words = append(words, method+"="+found[0].Value)
		}
	}
	return strings.Join(words, " ")
}

// report is what our set says that was seen (RFC 8617 section 4.1.1). What we could
// not see, because the message was forwarded to us, is the provider's word and said to
// be.
func (b *behind) report(id string, utf8 bool) authres.Results {
	r := b.results.Authres(id, &b.question, b.found, utf8)
	if b.attested == nil {
		return r
	}
	saw, comment := b.attested.Attested, fmt.Sprintf("attested by %s in set %d", b.sealer, b.attested.Instance)
	if i := slices.IndexFunc(r.Methods, func(m authres.Result) bool { return m.Method == "dmarc" }); i >= 0 && b.results.DMARC.Status != dmarc.Pass && saw.DMARC != "" {
		r.Methods[i] = authres.Result{Method: "dmarc", Value: saw.DMARC, Comment: comment}.With("header", "from", saw.HeaderFrom.String())
	}
	if saw.SPF != "" {
		word := authres.Result{Method: "spf", Value: saw.SPF, Comment: comment}
		if !saw.MailFrom.IsZero() {
			word = word.With("smtp", "mailfrom", saw.MailFrom.String())
		}
		r.Methods = slices.Insert(r.Methods, 0, word)
	}
	return r
}

// sealSet makes our ARC set. A chain that has ended, or is full, gets none (RFC 8617
// section 5.1): the message goes on with the signature that stands behind it.
func (in *intake) sealSet(ctx context.Context, header mail.Header, f *offered, saw behind, now time.Time) ([]mail.Field, *mail.Refusal) {
	key, refusal := in.signer.Own(ctx, in.forwarding.key, now)
	if refusal != nil {
		return nil, refusal
	}
	set, err := arc.Seal(header, f.r.Hashes, saw.results.ARC, saw.report(in.hostname, f.tx.Envelope.UTF8), key, now)
	switch {
	case errors.Is(err, arc.ErrEnded), errors.Is(err, arc.ErrTooLong):
		return nil, nil
	case errors.Is(err, arc.ErrTemporary):
		return nil, mail.LookupFailed.Because("%v", err)
	case err != nil:
		return nil, mail.SigningFailed.Because("%v", err)
	}
	return set, nil
}

// stillDisowned asks policy again about forwarded mail that is about to leave. What
// stood behind From was seen when it was accepted.
func (a *App) stillDisowned(lease *custody.Lease, content custody.Content, w custody.Disowned) *mail.Refusal {
	envelope := lease.Message.Envelope
	if envelope.From.IsZero() || envelope.From.Domain() != a.config.Disowned.Domain {
		return mail.ForwardedMail.Because("its sender %s is not of the forwarding domain", envelope.From)
	}
	header, err := mail.ParseHeader(content.Header(), mail.HeaderLimits{})
	if err != nil {
		return mail.Internal.Because("the stored header of %s: %v", lease.ID, err)
	}
	originators, refusal := envelope.ReadOriginators(header)
	if refusal != nil {
		return refusal
	}
	_, refusal = policy.Disown(a.directory.Load(), w.Proof(), messageOf(envelope.From, header, originators), policy.Vouched)
	return refusal
}

// beforeRewriting is the envelope of forwarded mail as it came, if its sender is told
// of a failure: it is of the organisation that forwarded the message, or of the domain
// in From, behind which something stands. Strangers whom anybody could have written
// there are told nothing.
func (a *App) beforeRewriting(e mail.Envelope, header mail.Header, of org.ID, now time.Time) (mail.Envelope, bool) {
	if e.From.Domain() != a.intake.forwarding.domain() {
		return e, false
	}
	sender, err := a.intake.forwarding.senders.Reverse(e.From.Local(), now)
	if err != nil {
		return e, false
	}
	originators, refusal := e.ReadOriginators(header)
	if refusal != nil {
		return e, false
	}
	e.From = sender
	dir := a.directory.Load()
	o, known := dir.Organisation(of)
	return e, known && ownsAddress(dir, o, sender) || sender.Domain() == originators.From.Address.Domain()
}

// Bounds of what comes to rewritten senders.
const (
	reportsPerSender = 60 // an hour, at one of them
	unnamedPerSender = 1  // a day: notices about a message that the report does not name
)

// unnamedRecipient stands, at the forwarding domain, for a recipient that a report did
// not name in a way that can be checked.
const unnamedRecipient = "forwarded"

// judgeForwardingDomain takes a RCPT at the forwarding domain if it is a sender of
// ours, for a report.
func (in *intake) judgeForwardingDomain(tx *smtpd.Transaction, rcpt mail.Address, now time.Time) *mail.Refusal {
	if len(tx.Envelope.Recipients) > 0 {
		return mail.TooManyRecipients.Because("a second address at the forwarding domain")
	}
	if _, err := in.forwarding.senders.Reverse(rcpt.Local(), now); err != nil {
		return mail.SRSInvalid.Because("%v", err)
	}
	if !tx.Envelope.From.IsZero() {
		return mail.SRSInvalid.Because("it takes reports only, whose sender is null")
	}
	return nil
}

// takeForwardReport reads a report about mail that was passed on, and keeps what it
// tells: facts, and a notice of ours to the sender before it was rewritten. The
// message itself is not kept and goes nowhere.
func (in *intake) takeForwardReport(ctx context.Context, tx *smtpd.Transaction, r *smtpd.Received, fact *ledger.Fact, now time.Time) (receipt custody.Receipt, refusal *mail.Refusal) {
	fact.Direction = "inbound"
	rcpt := tx.Envelope.Recipients[0].Address
	if refusal = in.judgeForwardingDomain(&smtpd.Transaction{Envelope: mail.Envelope{From: tx.Envelope.From}}, rcpt, now); refusal != nil {
		return receipt, refusal
	}
	back := &forwardReport{tx: tx, size: r.Size, now: now, local: strings.ToLower(rcpt.Local())}
	back.sender, _ = in.forwarding.senders.Reverse(rcpt.Local(), now)
	if retry := in.budgets.complaints.Take(now, back.claim("forwarded", reportsPerSender, time.Hour)); !retry.IsZero() {
		return receipt, mail.RateLimited.Because("%s takes %d reports an hour", rcpt, reportsPerSender)
	}
	var err error
	if back.in, err = readReturned(r); err != nil {
		return receipt, mail.Internal.Because("read a report: %v", err)
	}
	if back.in.Kind != bounce.KindStatus && back.in.Kind != bounce.KindOldBounce {
		return receipt, mail.SRSInvalid.Because("it takes reports only, and this is none (%s)", back.in.Kind)
	}
	if back.original, err = in.findForwarded(ctx, back); err != nil {
		return receipt, mail.Internal.Because("look for the forwarded message in the ledger: %v", err)
	}
	kept, err := in.tellForwarded(ctx, back)
	if err == nil {
		receipt, err = in.queue.KeepReport(ctx, kept, now)
	}
	switch {
	case errors.Is(err, custody.ErrFull):
		return receipt, mail.DiskFull.Because("%v", err)
	case err != nil:
		return receipt, mail.CustodyFailed.Because("%v", err)
	}
	return receipt, nil
}

// forwardReport is a report about forwarded mail while it is being judged.
type forwardReport struct {
	tx       *smtpd.Transaction
	size     int64
	now      time.Time
	local    string // of the rewritten sender, in lower case
	sender   mail.Address
	in       bounce.Incoming
	original ledger.Fact // how the message was accepted; zero: the report does not name one that was
}

func (r *forwardReport) claim(kind string, units int, span time.Duration) limit.Claim {
	return limit.Claim{Key: kind + " " + r.local, Rate: limit.Rate{Units: units, Span: span}, Amount: 1}
}

// findForwarded finds the message by our own Received field in what the report gives
// back. It must be one that left with this sender.
func (in *intake) findForwarded(ctx context.Context, r *forwardReport) (original ledger.Fact, err error) {
	_, id := in.returns.recognise(&returned{org: new(org.Organisation), in: r.in, now: r.now}, in.hostname)
	if id == "" {
		return original, nil
	}
	original, err = in.returns.accepted(ctx, id, "")
	if err != nil || original.Origin != string(attribution.Forwarded) || !in.leftAs(original.MailFrom, r.sender, r.now) {
		return ledger.Fact{}, err
	}
	return original, nil
}

// leftAs says that mail of a sender left with an address that leads to another: the
// same, or where the first of several forwarders is.
func (in *intake) leftAs(mailFrom string, leadsTo mail.Address, now time.Time) bool {
	from, err := mail.ParseAddressUTF8(mailFrom)
	if err != nil {
		return false
	}
	made, err := in.forwarding.senders.Forward(from, now)
	if err != nil {
		return false
	}
	back, err := in.forwarding.senders.Reverse(made.Local(), now)
	return err == nil && strings.EqualFold(back.String(), leadsTo.String())
}

// tellForwarded says what is kept of a report.
func (in *intake) tellForwarded(ctx context.Context, r *forwardReport) (custody.Report, error) {
	kept := custody.Report{ID: r.tx.ID}
	recipients := r.in.Recipients
	if len(recipients) == 0 {
		recipients = []bounce.IncomingRecipient{{}}
	}
	for _, told := range recipients {
		rcpt := r.recipient(told.Addresses)
		kept.Facts = append(kept.Facts, r.fact(told, rcpt))
		if !told.Permanent() {
			continue
		}
		if err := in.noticeForwarded(ctx, r, told, rcpt, &kept); err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// recipient is the recipient of the message that is told of; empty: it cannot be told
// which.
func (r *forwardReport) recipient(addresses []string) string {
	for _, sent := range r.original.Rcpt {
		if len(r.original.Rcpt) == 1 || slices.ContainsFunc(addresses, func(a string) bool { return strings.EqualFold(a, sent) }) {
			return sent
		}
	}
	return ""
}

func (r *forwardReport) fact(told bounce.IncomingRecipient, rcpt string) ledger.Fact {
	fact := transactionFact(r.tx, r.now)
	fact.Event, fact.Direction, fact.Size, fact.Class = ledger.BounceReceived, "inbound", r.size, string(told.Class)
	fact.MailFrom, fact.Rcpt = r.sender.String(), nil
	if r.original.ID != "" {
		fact.ID, fact.Org, fact.Source = r.original.ID, r.original.Org, r.original.Source
	}
	if rcpt != "" {
		fact.Rcpt = []string{rcpt}
	}
	words := slices.DeleteFunc([]string{"of forwarded mail:", string(r.in.Kind), string(told.Action), told.Status}, func(t string) bool { return t == "" })
	fact.Detail = strings.Join(words, " ") + ", brought by " + string(r.tx.ID)
	return fact
}

// noticeForwarded composes what the sender hears, in our words alone: once for each
// recipient of a message that is known, else once a day.
func (in *intake) noticeForwarded(ctx context.Context, r *forwardReport, told bounce.IncomingRecipient, rcpt string, kept *custody.Report) error {
	about, of := r.tx.ID, signing.RelayOwn
	if rcpt != "" {
		about, of = r.original.ID, org.ID(r.original.Org)
		key := toldPrefix + string(about) + "/" + in.returns.addresses.Name(about, rcpt) + "/" + bounce.Failed.String()
		if _, err := in.returns.store.Get(ctx, key); err == nil || !errors.Is(err, custody.ErrNotFound) {
			return err // told before, or nobody knows
		}
		kept.Put = append(kept.Put, custody.Record{Key: key, Value: []byte{1}})
	} else {
		if retry := in.budgets.complaints.Take(r.now, r.claim("forwarded, unnamed", unnamedPerSender, 24*time.Hour)); !retry.IsZero() {
			return nil
		}
		rcpt = unnamedRecipient + "@" + in.forwarding.domain().String()
	}
	address, err := mail.ParseAddressUTF8(rcpt)
	if err != nil {
		return err
	}
	id := mail.NewID(r.now)
	header, body, envelope, err := bounce.Compose(bounce.Report{
		ID: id, Hostname: in.hostname, About: about, Envelope: mail.Envelope{From: r.sender}, Arrived: r.original.Time, Now: r.now, Action: bounce.Failed,
		Failures: []bounce.Failure{{Recipient: mail.Recipient{Address: address}, Enhanced: told.Status, Reply: sayClass(bounce.Failed, told.Class), Later: true}},
	})
	if err != nil {
		return err
	}
	warrant, err := custody.NewNotice(about, of)
	if err != nil {
		return err
	}
	kept.Notices = append(kept.Notices, custody.Submission{ID: id, Warrant: warrant, Envelope: envelope, Header: header, Body: body})
	return nil
}
