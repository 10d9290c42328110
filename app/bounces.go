package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/bounce"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/relay/limit"
	"anechoic/relay/policy"
	"anechoic/relay/smtpd"
	"anechoic/relay/suppression"
	"anechoic/standard/arf"
	"anechoic/standard/dsn"
	"anechoic/standard/report"
	"anechoic/watch/detect"
)

// returns is what comes back about mail sent earlier: the addresses it comes back
// to, what is remembered of it, and whom not to try any more.
type returns struct {
	addresses bounce.Returns
	list      *suppression.List
	store     custody.Engine
	log       *slog.Logger
}

func newReturns(store custody.Engine, secret []byte, log *slog.Logger) *returns {
	return &returns{addresses: bounce.NewReturns(secret), list: suppression.New(store, secret), store: store, log: log}
}

// Bounds of what comes back.
const (
	complaintsPerHour = 600              // at one organisation's complaints address
	acceptedWithin    = 30 * time.Minute // after its id was made, a message was accepted or never
	factsLookedAt     = 200_000          // for one report
)

// judgeReturn takes anybody's RCPT at a return path, if the address is one that
// mail of ours has borne, or the one for complaints. A report is for one address.
func (in *intake) judgeReturn(tx *smtpd.Transaction, o *org.Organisation, rcpt mail.Address, now time.Time) *mail.Refusal {
	if strings.EqualFold(rcpt.Local(), postmaster) {
		return mail.PostmasterElsewhere.Because("mail for the domains above %s does not come in here", rcpt.Domain())
	}
	if len(tx.Envelope.Recipients) > 0 {
		return mail.TooManyRecipients.Because("a second return address")
	}
	if strings.EqualFold(rcpt.Local(), bounce.Complaints) {
		if retry := in.budgets.complaints.Take(now, limit.Claim{Key: "complaints " + string(o.ID), Rate: limit.Rate{Units: complaintsPerHour, Span: time.Hour}, Amount: 1}); !retry.IsZero() {
			return mail.RateLimited.Because("the complaints address of %s takes %d an hour", o.ID, complaintsPerHour)
		}
		return nil
	}
	if _, err := in.returns.addresses.Open(string(o.ID), rcpt.Local(), now); err != nil {
		return mail.BounceNotOurs.Because("%v", err)
	}
	return nil
}

// returned is a report while it is being judged.
type returned struct {
	org      *org.Organisation
	back     bounce.Return   // of the return address; zero: none
	in       bounce.Incoming // what it says
	original ledger.Fact     // how the message it tells of was accepted; zero: not found
	now      time.Time
	brought  ledger.Fact // begins facts about it: as what it came in, and who handed it over
	size     int64

	witness bounce.Witness
	to      mail.Address      // the mailbox it came to; zero: an address for reports
	sites   map[string]string // who took the original for which recipient, as far as that is asked
}

// takeReturn reads a report, finds the message it tells of, and keeps what it
// tells. The message itself is not kept and goes nowhere.
func (in *intake) takeReturn(ctx context.Context, tx *smtpd.Transaction, r *smtpd.Received, o *org.Organisation, fact *ledger.Fact, now time.Time) (receipt custody.Receipt, refusal *mail.Refusal) {
	fact.Direction, fact.ClaimedOrg = "inbound", string(o.ID)
	back := returned{org: o, now: now, brought: sessionFact(tx.Session, now), size: r.Size, witness: bounce.Witness{NoSender: tx.Envelope.From.IsZero()}}
	back.brought.ID = tx.ID
	var err error
	local := tx.Envelope.Recipients[0].Address.Local()
	if !strings.EqualFold(local, bounce.Complaints) {
		if back.back, err = in.returns.addresses.Open(string(o.ID), local, now); err != nil {
			return receipt, mail.BounceNotOurs.Because("%v", err)
		}
	}
	if back.in, err = readReturned(r); err != nil {
		return receipt, mail.Internal.Because("read a report: %v", err)
	}
	if refusal = in.findOriginal(ctx, &back); refusal != nil {
		return receipt, refusal
	}
	kept, err := in.returns.judge(ctx, &back, in.directory.Load(), in.hostname)
	if err != nil {
		return receipt, mail.CustodyFailed.Because("%v", err)
	}
	receipt, err = in.queue.KeepReport(ctx, kept, now)
	switch {
	case errors.Is(err, custody.ErrFull):
		return receipt, mail.DiskFull.Because("%v", err)
	case err != nil:
		return receipt, mail.CustodyFailed.Because("%v", err)
	}
	return receipt, nil
}

// readReturned reads as much of a report as matters.
func readReturned(r *smtpd.Received) (bounce.Incoming, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body.Reader(), report.MaxOctets))
	if err != nil {
		return bounce.Incoming{}, err
	}
	header, _ := report.Message(r.RawHeader)
	return bounce.ReadIncoming(header, body), nil
}

// findOriginal finds the message by the return address, or by what the report gives
// back of it: a return address of ours, or our own Received field. What came to the
// complaints address and is about no message of the organisation's is refused.
func (in *intake) findOriginal(ctx context.Context, r *returned) *mail.Refusal {
	id := r.back.Message
	if id == "" {
		r.back, id = in.returns.recognise(r, in.hostname)
	}
	if id == "" {
		return mail.BounceNotOurs.Because("it names no message sent from here for %s", r.org.ID)
	}
	original, err := in.returns.accepted(ctx, id, r.org.ID)
	if err != nil {
		return mail.Internal.Because("look for %s in the ledger: %v", id, err)
	}
	if original.ID == "" && r.back.Message == "" {
		return mail.BounceNotOurs.Because("%s is no message of %s", id, r.org.ID)
	}
	r.original = original
	if r.original.ID == "" {
		r.original.ID = id // its return address is proof enough
	}
	return nil
}

// recognise looks into what a complaint gives back for a return address of ours,
// else for the id in our Received field.
func (s *returns) recognise(r *returned, hostname string) (bounce.Return, mail.ID) {
	for _, candidate := range append(r.in.Returned.All("Return-Path"), r.in.Complaint.MailFrom) {
		a, err := mail.ParseAddress(strings.Trim(candidate, " <>"))
		if err != nil || a.Domain() != r.org.ReturnPath {
			continue
		}
		if back, err := s.addresses.Open(string(r.org.ID), a.Local(), r.now); err == nil {
			return back, back.Message
		}
	}
	for _, trace := range r.in.Returned.All("Received") {
		_, by, _ := strings.Cut(trace, " by "+hostname+" ")
		_, after, ok := strings.Cut(by, " id ")
		if id := mail.ID(strings.TrimRight(firstField(after), ";")); ok && id.Valid() {
			return bounce.Return{}, id
		}
	}
	return bounce.Return{}, ""
}

func firstField(s string) string {
	for word := range strings.FieldsSeq(s) {
		return word
	}
	return ""
}

// accepted finds the fact that a message of an organisation was accepted, of any if
// none is named; zero: there is none. An id says when that was.
func (s *returns) accepted(ctx context.Context, id mail.ID, of org.ID) (found ledger.Fact, err error) {
	at, ok := id.Time()
	if !ok {
		return found, nil
	}
	looked := 0
	err = ledger.ReadSince(ctx, s.store, at, func(f ledger.Fact) bool {
		looked++
		if f.ID == id && f.Event == ledger.Accepted && (of == "" || f.Org == string(of)) {
			found = f
			return false
		}
		return looked < factsLookedAt && f.Time.Before(at.Add(acceptedWithin))
	})
	return found, err
}

// judge says what is kept of a report: facts, marks on the suppression list, and
// what the sender is told.
func (s *returns) judge(ctx context.Context, r *returned, dir *org.Directory, hostname string) (custody.Report, error) {
	kept := custody.Report{ID: r.brought.ID}
	if r.in.Kind == bounce.KindComplaint {
		return kept, s.judgeComplaint(ctx, r, &kept)
	}
	recipients := r.in.Recipients
	if len(recipients) == 0 {
		recipients = []bounce.IncomingRecipient{{}} // an answer, or none of the known shapes
	}
	for _, told := range recipients {
		if err := s.judgeBounce(ctx, r, told, dir, hostname, &kept); err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// judgeBounce keeps what is told of one recipient.
func (s *returns) judgeBounce(ctx context.Context, r *returned, told bounce.IncomingRecipient, dir *org.Directory, hostname string, kept *custody.Report) error {
	rcpt, named := s.recipient(r, told.Addresses)
	fact := r.fact(ledger.BounceReceived, rcpt)
	fact.Class = string(told.Class)
	ground := r.ground(rcpt)
	fact.Detail = r.detail(ground, string(r.in.Kind), string(told.Action), told.Status)
	if known, err := s.knew(ctx, r, rcpt, ground, cameAs(told), kept); err != nil || known {
		return err
	}
	kept.Facts = append(kept.Facts, fact)
	if rcpt == "" {
		return nil
	}
	if named && ground != "" && told.Permanent() && told.Class.AboutAddress() {
		if err := s.mark(ctx, r.org, suppression.Mark{
			Address: rcpt, Reason: suppression.HardBounce, Class: string(told.Class), About: r.original.ID, Since: r.now,
		}, kept); err != nil {
			return err
		}
	}
	return s.tell(ctx, r, told, rcpt, dir, hostname, kept)
}

// judgeComplaint keeps a complaint, and suppresses who complained.
func (s *returns) judgeComplaint(ctx context.Context, r *returned, kept *custody.Report) error {
	c := r.in.Complaint
	rcpt, named := s.recipient(r, c.Recipients)
	fact := r.fact(ledger.ComplaintReceived, rcpt)
	ground := r.ground(rcpt)
	fact.Detail = r.detail(ground, string(c.Type))
	if known, err := s.knew(ctx, r, rcpt, ground, "complaint-"+string(c.Type), kept); err != nil || known {
		return err
	}
	kept.Facts = append(kept.Facts, fact)
	unwanted := c.Type == arf.Abuse || c.Type == arf.OptOut || c.Type == arf.Fraud || c.Type == arf.Virus
	if rcpt == "" || ground == "" || !unwanted || !named && len(c.Recipients) > 0 {
		return nil
	}
	return s.mark(ctx, r.org, suppression.Mark{Address: rcpt, Reason: suppression.Complaint, About: r.original.ID, Since: r.now}, kept)
}

// recipient is the recipient of the message that a report is about; named says
// that the report names it, and not only the return address. A report cannot speak
// of addresses that the message did not go to.
func (s *returns) recipient(r *returned, addresses []string) (rcpt string, named bool) {
	var possible []string
	for _, sent := range r.original.Rcpt {
		if s.addresses.Concerns(r.back, sent) {
			possible = append(possible, sent)
		}
	}
	for _, sent := range possible {
		if slices.ContainsFunc(addresses, func(a string) bool { return strings.EqualFold(a, sent) }) {
			return sent, true
		}
	}
	if len(possible) == 1 {
		return possible[0], false
	}
	return "", false
}

// groundAddress: what comes to the return address of a message is about it.
const groundAddress bounce.Ground = "it came to the return address"

// ground is why the report is believed what it says of a recipient; empty: it is
// not, and then it is told and counts for nothing.
func (r *returned) ground(rcpt string) bounce.Ground {
	if r.back.Message != "" {
		return groundAddress
	}
	return bounce.Believe(r.in.Kind, bounce.Sent{Recipients: r.original.Rcpt, Sites: r.sites}, rcpt, r.witness)
}

// detail says in a fact what a report is; its first words are read by detection.
func (r *returned) detail(ground bounce.Ground, words ...string) string {
	said := strings.Join(slices.DeleteFunc(words, func(t string) bool { return t == "" }), " ")
	if ground == "" {
		said = detect.Unproven + " " + said
	}
	said += ", brought by " + string(r.brought.ID)
	switch {
	case r.to.IsZero():
		return said
	case ground == "":
		return said + " to a mailbox, not believed: anybody may have written it who saw that message"
	}
	return said + " to a mailbox, believed: " + string(ground)
}

// fact begins a fact about a report. It bears the id of the message it tells of.
func (r *returned) fact(event ledger.Event, rcpt string) ledger.Fact {
	fact := r.brought
	fact.ID, fact.Event, fact.Direction, fact.Org, fact.Size = r.original.ID, event, "inbound", string(r.org.ID), r.size
	fact.Source, fact.MailFrom = r.original.Source, r.original.MailFrom
	if rcpt != "" {
		fact.Rcpt = []string{rcpt}
	}
	return fact
}

// mark puts an address on the organisation's list, if it has one, and tells when
// that is what suppresses it.
func (s *returns) mark(ctx context.Context, o *org.Organisation, m suppression.Mark, kept *custody.Report) error {
	if o.Suppression == nil {
		return nil
	}
	m.Until = m.Since.Add(o.Suppression.BounceFor)
	if m.Reason == suppression.Complaint {
		m.Until = m.Since.Add(o.Suppression.ComplaintFor)
	}
	before, err := s.list.Look(ctx, o.ID, *o.Suppression, m.Address, m.Since)
	if err != nil {
		return err
	}
	record, err := s.list.Record(o.ID, m)
	if err != nil {
		return err
	}
	kept.Put = append(kept.Put, record)
	known := slices.ContainsFunc(before.Marks, func(b suppression.Mark) bool { return b.Reason == m.Reason && b.About == m.About })
	if after := suppression.Judge(*o.Suppression, append(before.Marks, m), m.Since); after.Suppressed && !before.Suppressed && !known {
		kept.Facts = append(kept.Facts, ledger.Fact{
			Time: m.Since, ID: m.About, Event: ledger.SuppressionChanged, Org: string(o.ID), Rcpt: []string{m.Address}, Class: m.Class,
			Detail: "suppressed until " + after.Until.UTC().Format(time.DateOnly) + ": " + string(after.Reason),
		})
	}
	return nil
}

// Keys of what a sender was told: return/<message>/<mark of the recipient>.
const toldPrefix = "return/"

// tell composes what the sender hears of a report, once for each recipient: in our
// words alone, to the MAIL FROM that was proven, if it is the organisation's still.
func (s *returns) tell(ctx context.Context, r *returned, told bounce.IncomingRecipient, rcpt string, dir *org.Directory, hostname string, kept *custody.Report) error {
	action, ok := wanted(r.back.Notify, told)
	from, err := mail.ParseAddressUTF8(r.original.MailFrom)
	if !ok || err != nil || r.back.Message == "" || !ownsAddress(dir, r.org, from) {
		return nil
	}
	address, err := mail.ParseAddressUTF8(rcpt)
	if err != nil {
		return nil
	}
	key := toldPrefix + string(r.original.ID) + "/" + s.addresses.Name(r.back.Message, rcpt) + "/" + action.String()
	if _, err := s.store.Get(ctx, key); err == nil || !errors.Is(err, custody.ErrNotFound) {
		return err // told before, or nobody knows
	}
	sent, err := s.sent(ctx, r.original.ID)
	if err != nil {
		return err
	}
	id := mail.NewID(r.now)
	recipient := mail.Recipient{Address: address, ORcpt: sent.ORcpt[s.addresses.Name(r.original.ID, rcpt)]}
	header, body, envelope, err := bounce.Compose(bounce.Report{
		ID: id, Hostname: hostname, About: r.original.ID, Arrived: r.original.Time, Now: r.now, Action: action,
		Envelope: mail.Envelope{From: from, EnvID: sent.EnvID, RequireTLS: sent.RequireTLS},
		Failures: []bounce.Failure{{Recipient: recipient, Enhanced: told.Status, Reply: sayClass(action, told.Class), Later: true}},
	})
	if err != nil {
		return err
	}
	warrant, err := custody.NewNotice(r.original.ID, r.org.ID)
	if err != nil {
		return err
	}
	kept.Put = append(kept.Put, custody.Record{Key: key, Value: []byte{1}})
	kept.Notices = append(kept.Notices, custody.Submission{ID: id, Warrant: warrant, Envelope: envelope, Header: header, Body: body})
	return nil
}

// wanted is what a sender is told of a report, if it wants to hear of it.
func wanted(notify mail.Notify, told bounce.IncomingRecipient) (bounce.Action, bool) {
	switch {
	case told.Permanent():
		return bounce.Failed, notify.OnFailure()
	case told.Action == dsn.Delivered:
		return bounce.Delivered, notify&mail.NotifySuccess != 0
	case told.Action == dsn.Relayed:
		return bounce.Relayed, notify&mail.NotifySuccess != 0
	}
	return bounce.Failed, false
}

// sayClass is a class in words: what others wrote is not repeated.
func sayClass(a bounce.Action, c dsn.Class) string {
	if a != bounce.Failed || c == "" {
		return ""
	}
	return strings.ReplaceAll(string(c), "_", " ")
}

// ownsAddress says that an address lies in a domain of the organisation now.
func ownsAddress(dir *org.Directory, o *org.Organisation, a mail.Address) bool {
	if d, ok := dir.Owner(a.Domain()); ok {
		return d.Organisation == o.ID
	}
	s, ok := dir.ProviderDomain(a.Domain())
	return ok && s.Organisation == o.ID
}

// returningTransport is the way out for an organisation's mail: who is suppressed
// is not tried, the sender is the return address where there is one, and who fails
// for good is marked. Notices are the relay's own and pass as they are.
type returningTransport struct {
	delivery.Transport
	returns  *returns
	dir      func() *org.Directory
	standing func(ctx context.Context, now time.Time) policy.Standing
}

// Deliver implements delivery.Transport.
func (t returningTransport) Deliver(ctx context.Context, a delivery.Attempt) []delivery.Result {
	if a.Message == nil || a.Message.Kind != custody.KindProven {
		return t.Transport.Deliver(ctx, a)
	}
	dir, now := t.dir(), time.Now().UTC()
	o, ok := dir.Organisation(org.ID(a.Message.Organisation))
	if !ok || o.Suppression == nil && o.ReturnPath.IsZero() {
		return t.Transport.Deliver(ctx, a)
	}
	results := make([]delivery.Result, len(a.Envelope.Recipients))
	var tried []int
	var recipients []mail.Recipient
	for i, r := range a.Envelope.Recipients {
		if refused, ok := t.returns.suppressed(ctx, o, r.Address, now); ok {
			results[i] = refused
			continue
		}
		tried, recipients = append(tried, i), append(recipients, r)
	}
	if len(tried) == 0 {
		return results
	}
	a.Envelope.Recipients = recipients
	a.Envelope.From = t.sender(ctx, dir, o, a, now)
	for i, result := range t.Transport.Deliver(ctx, a) {
		results[tried[i]] = result
		t.returns.failed(ctx, o, a.ID, recipients[i].Address, result, now)
	}
	return results
}

// sender is the return address for an attempt, or MAIL FROM as it is: where the
// organisation has no return path, or DNS does not prove it now, or the sender is
// null.
func (t returningTransport) sender(ctx context.Context, dir *org.Directory, o *org.Organisation, a delivery.Attempt, now time.Time) mail.Address {
	from := a.Envelope.From
	if o.ReturnPath.IsZero() || from.IsZero() {
		return from
	}
	d, ok := dir.Owner(o.ReturnPath)
	if !ok || d.Organisation != o.ID || t.standing(ctx, now)(d, o.ReturnPath) != org.Verified {
		return from
	}
	address, err := t.returns.addresses.Address(string(o.ID), a.ID, a.Envelope.Recipients, o.ReturnPath, now)
	if err != nil {
		t.returns.log.Error("no return address could be made", "id", a.ID, "error", err)
		return from
	}
	return address
}

// suppressed is the result for a recipient that is not tried. A list that cannot
// be read defers.
func (s *returns) suppressed(ctx context.Context, o *org.Organisation, a mail.Address, now time.Time) (delivery.Result, bool) {
	if o.Suppression == nil {
		return delivery.Result{}, false
	}
	e, err := s.list.Look(ctx, o.ID, *o.Suppression, a.String(), now)
	if err != nil {
		return delivery.Result{Status: delivery.Deferred, Enhanced: mail.CustodyFailed.Enhanced(), Reply: "the suppression list cannot be read now", Reason: mail.ReasonCustodyFailed}, true
	}
	if !e.Suppressed {
		return delivery.Result{}, false
	}
	return delivery.Result{
		Status: delivery.Failed, Enhanced: mail.Suppressed.Enhanced(), Reason: mail.Suppressed.Reason(),
		Reply: fmt.Sprintf("%s since %s until %s (%s)", mail.Suppressed.Text(), e.Since.Format(time.DateOnly), e.Until.Format(time.DateOnly), strings.ReplaceAll(string(e.Reason), "_", " ")),
	}, true
}

// failed marks a recipient that a server refused for good, by what it said of the
// address.
func (s *returns) failed(ctx context.Context, o *org.Organisation, id mail.ID, a mail.Address, r delivery.Result, now time.Time) {
	if o.Suppression == nil || r.Status != delivery.Failed || !r.Said {
		return
	}
	class := dsn.Classify(0, r.Enhanced, r.Reply)
	if !class.AboutAddress() {
		return
	}
	var kept custody.Report
	err := s.mark(ctx, o, suppression.Mark{Address: a.String(), Reason: suppression.HardBounce, Class: string(class), About: id, Since: now}, &kept)
	if err == nil {
		err = s.store.Commit(ctx, &custody.Batch{Put: kept.Put, Facts: kept.Facts, Lazy: true})
	}
	if err != nil {
		s.log.Error("a hard bounce could not be marked", "id", id, "org", string(o.ID), "error", err)
	}
}

// sweep forgets what is over: marks, and what senders were told of messages whose
// return addresses have ended.
func (s *returns) sweep(ctx context.Context, now time.Time) error {
	_, err := s.list.Sweep(ctx, nil, now)
	var b custody.Batch
	err = errors.Join(err, s.store.Scan(ctx, toldPrefix, "", func(key string, _ []byte) bool {
		id, _, _ := strings.Cut(strings.TrimPrefix(key, toldPrefix), "/")
		if at, ok := mail.ID(id).Time(); !ok || now.Sub(at) > 2*bounce.ReturnDays*24*time.Hour {
			b.Delete = append(b.Delete, key)
		}
		return true
	}))
	if len(b.Delete) > 0 {
		err = errors.Join(err, s.store.Commit(ctx, &b))
	}
	return err
}
