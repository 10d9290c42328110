package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/control/metrics"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/bounce"
	"anechoic/relay/custody"
	"anechoic/relay/inbound"
	"anechoic/relay/limit"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/dsn"
	"anechoic/standard/spf"
	"anechoic/watch/tracking"
)

// mailboxReports looks into bounces and complaints that come in for mailboxes: of an
// organisation without a return path, whose MAIL FROM leads there, and of messages
// that left before it had one. The steps for each:
//
//  1. It has gone on to its mailbox like any other mail; nothing here holds it up.
//  2. It waits its turn, if there is room to wait; else nobody looks.
//  3. The message it tells of is found: by our own Received field in the header that
//     it gives back, or by the Message-ID there.
//  4. That message was accepted for this organisation lately, and a bounce came to
//     the very address that sent it.
//  5. What it says is told as a fact about the message, once; what is believed
//     (bounce.Believe) counts for the suppression list.
//
// Messages are found in the index of the ledger, by what it has under their ids, and
// then read in the ledger itself. Without an index only our Received field finds
// them: nothing reads a whole ledger for a report. An organisation whose Message-IDs
// are not in the index (tracking's personal_data "off") is served by that field too.
//
// What waits is in memory alone: a stop works it off, a crash forgets it. It is no
// promise to anybody: the mailbox has the report.
type mailboxReports struct {
	returns   *returns
	index     *tracking.Index // nil: there is none
	directory *atomic.Pointer[org.Directory]
	hostname  string
	metrics   *metrics.Metrics
	log       *slog.Logger
	waiting   chan *returned

	turn sync.Mutex // one report at a time: what was told before is asked and added to in one go
}

// Bounds of looking into reports.
const (
	reportsWaiting = 64               // each holds what was read of one: at most report.MaxOctets
	reportTime     = 10 * time.Second // for one
	searchTime     = time.Second      // for one question to the index
	sameIDs        = 32               // messages with one Message-ID that are looked at, the latest first
)

// openMailboxReports prepares what looks into reports.
func (a *App) openMailboxReports() error {
	a.intake.mailboxes = &mailboxReports{
		returns: a.returns, index: a.tracking, directory: &a.directory, hostname: a.intake.hostname, metrics: a.metrics, log: a.log,
		waiting: make(chan *returned, reportsWaiting),
	}
	return nil
}

// run takes reports, one after the other.
func (h *mailboxReports) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-h.waiting:
			h.take(ctx, r)
		}
	}
}

// drain takes what still waits, until ctx is done.
func (h *mailboxReports) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case r := <-h.waiting:
			h.take(ctx, r)
		default:
			h.turn.Lock() // for the one that run has begun
			h.turn.Unlock()
			return nil
		}
	}
	return nil
}

// cameHome looks whether a message that was taken in for a mailbox is a report, and
// lets it wait for its turn. A report is for one address; our own tell nothing new.
func (in *intake) cameHome(m *arriving, results *inbound.Results, fact *ledger.Fact, now time.Time) {
	if in.mailboxes == nil || m.notice || len(m.envelope.Recipients) != 1 || !m.mayReport() {
		return
	}
	o, ok := in.directory.Load().Organisation(m.question.Route.Organisation)
	if !ok {
		return
	}
	claim := limit.Claim{Key: "mailbox reports " + string(o.ID), Rate: limit.Rate{Units: reportsPerHour, Span: time.Hour}, Amount: 1}
	if retry := in.budgets.complaints.Take(now, claim); !retry.IsZero() {
		in.mailboxes.skip(m.id, "too many of the organisation came in an hour")
		return
	}
	told, err := m.told()
	if err != nil {
		in.mailboxes.fail(m.id, err)
		return
	}
	if !told.Tells() {
		return
	}
	r := m.report(o, told, now)
	r.witness = witnessOf(m, results)
	r.brought.Peer, r.brought.Helo, r.brought.TLS, r.brought.Generation, r.brought.Results = fact.Peer, fact.Helo, fact.TLS, fact.Generation, fact.Results
	in.mailboxes.offer(r)
}

// report is what a message to a mailbox tells.
func (m *arriving) report(o *org.Organisation, told bounce.Incoming, now time.Time) *returned {
	return &returned{
		org: o, in: told, now: now, brought: ledger.Fact{Time: now, ID: m.id}, size: m.size(), to: m.envelope.Recipients[0].Address,
	}
}

// witnessOf is who stands behind a report. A signature counts only on what the
// program that writes bounces wrote: whoever has a mailbox can have their own words
// signed, and hand them in without a sender.
func witnessOf(m *arriving, results *inbound.Results) bounce.Witness {
	w := bounce.Witness{NoSender: m.envelope.From.IsZero()}
	disowned := results.DMARC.Status == dmarc.Fail && results.DMARC.Policy != dmarc.PolicyNone
	w.Contradicted = disowned || results.SPF.Status == spf.Fail && results.DMARC.Status != dmarc.Pass
	if d, err := mail.ParseDomain(results.SPF.Domain); err == nil && results.SPF.Status == spf.Pass {
		w.Domains = append(w.Domains, d)
	}
	if !bounce.IsDaemon(m.from) {
		return w
	}
	from := m.from.Domain()
	for _, s := range results.DKIM {
		if s.Status == dkim.Pass && !s.Testing && (s.Domain.Within(from) || from.Within(s.Domain)) {
			w.Domains = append(w.Domains, s.Domain)
		}
	}
	if m.question.Sender != "" { // this relay proved that From is theirs
		w.Domains = append(w.Domains, from)
	}
	return w
}

// offer lets a report wait, if there is room.
func (h *mailboxReports) offer(r *returned) {
	select {
	case h.waiting <- r:
	default:
		h.skip(r.brought.ID, fmt.Sprintf("%d others wait", reportsWaiting))
	}
}

func (h *mailboxReports) skip(id mail.ID, why string) {
	h.metrics.CameHome(metrics.ReportSkipped)
	h.log.Warn("a report to a mailbox was handed on and not looked into", "id", id, "why", why)
}

func (h *mailboxReports) fail(id mail.ID, err error) {
	h.metrics.CameHome(metrics.ReportFailed)
	h.log.Error("a report to a mailbox was handed on, and looking into it failed", "id", id, "error", err)
}

// take finds the message that a report tells of, and keeps what it tells.
func (h *mailboxReports) take(ctx context.Context, r *returned) {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	h.turn.Lock()
	defer h.turn.Unlock()
	result, err := h.settle(ctx, r)
	if err != nil {
		h.fail(r.brought.ID, err)
		return
	}
	h.metrics.CameHome(result)
}

func (h *mailboxReports) settle(ctx context.Context, r *returned) (result metrics.MailboxReport, err error) {
	if r.original, err = h.match(ctx, r); err != nil || r.original.ID == "" {
		return metrics.ReportUnmatched, err
	}
	if r.sites, err = h.sitesOf(ctx, r); err != nil {
		return "", err
	}
	kept, err := h.returns.judge(ctx, r, h.directory.Load(), h.hostname)
	if err != nil || len(kept.Facts) == 0 {
		return metrics.ReportRepeated, err
	}
	return metrics.ReportMatched, h.returns.store.Commit(ctx, &custody.Batch{Put: kept.Put, Facts: kept.Facts})
}

// match finds how the message was accepted that a report to a mailbox tells of; zero:
// there is none, or none that fits. By our Received field there is one; of several
// with the same Message-ID it is the latest that went to whom the report names.
func (h *mailboxReports) match(ctx context.Context, r *returned) (ledger.Fact, error) {
	if _, id := h.returns.recognise(r, h.hostname); id != "" {
		traced, err := h.traced(ctx, r, id)
		if err != nil {
			return ledger.Fact{}, err
		}
		if f := r.choose(traced); f.ID != "" {
			return f, nil
		}
	}
	var named []ledger.Fact
	for _, id := range r.in.MessageIDs {
		found, err := h.withMessageID(ctx, r, id)
		if err != nil {
			return ledger.Fact{}, err
		}
		named = append(named, found...)
	}
	return r.choose(named), nil
}

// traced finds a message by our id of it.
func (h *mailboxReports) traced(ctx context.Context, r *returned, id mail.ID) ([]ledger.Fact, error) {
	if h.index != nil {
		return h.search(ctx, r, "id", string(id), ledger.Accepted, sameIDs)
	}
	f, err := h.returns.accepted(ctx, id, r.org.ID)
	return []ledger.Fact{f}, err
}

// withMessageID finds messages by their Message-ID. One that the index would read as
// a pattern is not asked for.
func (h *mailboxReports) withMessageID(ctx context.Context, r *returned, id string) ([]ledger.Fact, error) {
	want := bounce.BareID(messageIDText(id))
	if h.index == nil || want == "" || strings.Contains(want, "*") {
		return nil, nil
	}
	found, err := h.search(ctx, r, "message_id", want, ledger.Accepted, sameIDs)
	return slices.DeleteFunc(found, func(f ledger.Fact) bool { return bounce.BareID(f.MessageID) != want }), err
}

// search asks the index for facts of the organisation's as old as reports may be about,
// and reads them in the ledger: the index may have sums in the place of addresses.
func (h *mailboxReports) search(ctx context.Context, r *returned, field, value string, event ledger.Event, most int) (found []ledger.Fact, err error) {
	query := tracking.Query{Since: r.now.Add(-reportAge)}
	for _, c := range [][2]string{{field, value}, {"event", string(event)}} {
		if query, err = query.And(c[0], c[1], r.now); err != nil {
			return nil, fmt.Errorf("look for %s %q: %w", field, value, err)
		}
	}
	answer, err := h.index.Search(ctx, query, tracking.Page{Org: r.org.ID, Limit: most, Budget: searchTime, Scan: factsLookedAt})
	if err != nil {
		return nil, fmt.Errorf("look for %s %q: %w", field, value, err)
	}
	for _, hit := range answer.Facts {
		err := ledger.Read(ctx, h.returns.store, hit.Offset, func(f ledger.Fact) bool {
			if f.Offset == hit.Offset {
				found = append(found, f)
			}
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	if len(found) == 0 && (answer.Statement.Ended == tracking.EndedBudget || answer.Statement.Behind) {
		return nil, fmt.Errorf("look for %s %q: the index is not ready: %s", field, value, answer.Statement)
	}
	return found, nil
}

// reportAge is how old a message may be that reports are about: as old as the return
// addresses that take them.
const reportAge = (bounce.ReturnDays + 1) * 24 * time.Hour

// choose gives, of messages, the one that a report is about: the latest that fits and
// went to somebody whom it names, else the latest that fits.
func (r *returned) choose(list []ledger.Fact) ledger.Fact {
	list = slices.DeleteFunc(list, func(f ledger.Fact) bool { return !r.fits(&f) })
	if len(list) == 0 {
		return ledger.Fact{}
	}
	names := slices.Clone(r.in.Complaint.Recipients)
	for _, told := range r.in.Recipients {
		names = append(names, told.Addresses...)
	}
	went := func(f *ledger.Fact) int {
		if slices.ContainsFunc(names, func(a string) bool { return hasAddress(f.Rcpt, a) }) {
			return 1
		}
		return 0
	}
	return slices.MaxFunc(list, func(a, b ledger.Fact) int {
		return cmp.Or(cmp.Compare(went(&a), went(&b)), a.Time.Compare(b.Time), cmp.Compare(a.Offset, b.Offset))
	})
}

func hasAddress(list []string, a string) bool {
	return slices.ContainsFunc(list, func(b string) bool { return strings.EqualFold(a, b) })
}

// fits says that a report may be about a message: it was the organisation's own and
// proven, lately, and a bounce came to its MAIL FROM (RFC 5321 section 4.4). Complaints
// come to whatever address the organisation gave for them.
func (r *returned) fits(f *ledger.Fact) bool {
	switch {
	case f.Event != ledger.Accepted || f.Direction != "outbound" || f.Identity != ledger.Proven || f.Org != string(r.org.ID):
		return false
	case r.now.Sub(f.Time) > reportAge:
		return false
	case r.in.Kind == bounce.KindComplaint:
		return true
	}
	from, err := mail.ParseAddressUTF8(f.MailFrom)
	return err == nil && from.Domain() == r.to.Domain() && strings.EqualFold(from.Local(), r.to.Local())
}

// sitesOf is who took a message for which recipient, where the ground of a report may
// rest on it.
func (h *mailboxReports) sitesOf(ctx context.Context, r *returned) (map[string]string, error) {
	if h.index == nil || len(r.original.Rcpt) < 2 || len(r.witness.Domains) == 0 || r.in.Kind == bounce.KindComplaint {
		return nil, nil
	}
	found, err := h.search(ctx, r, "id", string(r.original.ID), ledger.Delivered, tracking.MaxPage)
	if err != nil || len(found) == tracking.MaxPage { // a message has no more recipients that are served one by one
		return nil, err
	}
	sites := map[string]string{}
	for _, f := range found {
		for _, rcpt := range f.Rcpt {
			sites[rcpt] = f.Site
		}
	}
	return sites, nil
}

// knew says that what a report to a mailbox tells was told before: anybody can hand
// in the same report again and again. If it was not, that it is now is kept with it.
// Reports to return addresses are told each time.
func (s *returns) knew(ctx context.Context, r *returned, rcpt string, ground bounce.Ground, what string, kept *custody.Report) (bool, error) {
	if r.to.IsZero() {
		return false, nil
	}
	key := toldPrefix + string(r.original.ID) + "/" + s.addresses.Name(r.original.ID, rcpt) + "/came-" + what
	if ground == "" {
		key += "-unproven"
	}
	if slices.ContainsFunc(kept.Put, func(p custody.Record) bool { return p.Key == key }) {
		return true, nil
	}
	_, err := s.store.Get(ctx, key)
	if errors.Is(err, custody.ErrNotFound) {
		kept.Put = append(kept.Put, custody.Record{Key: key, Value: []byte{1}})
		return false, nil
	}
	return err == nil, err
}

// cameAs is what is told of a recipient, as part of a key.
func cameAs(told bounce.IncomingRecipient) string {
	switch {
	case told.Permanent():
		return "failed"
	case told.Action == dsn.Delivered, told.Action == dsn.Relayed, told.Action == dsn.Expanded:
		return "delivered"
	}
	return "delayed"
}
