package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/control/metrics"
	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/bounce"
	"anechoic/relay/custody"
	"anechoic/relay/inbound"
	"anechoic/standard/arf"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
	"anechoic/watch/detect"
)

var reportNoon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// sentFact is how a message of acme's was accepted.
func sentFact(id mail.ID, from string, to ...string) ledger.Fact {
	return ledger.Fact{
		Time: reportNoon.Add(-time.Hour), ID: id, Event: ledger.Accepted, Identity: ledger.Proven, Direction: "outbound", Org: "acme", Source: "app", MailFrom: from, Rcpt: to,
	}
}

// failedReport tells that a recipient failed, to a mailbox of acme's.
func failedReport(t testing.TB, mailbox, rcpt string) *returned {
	t.Helper()
	to, err := mail.ParseAddress(mailbox)
	if err != nil {
		t.Fatal(err)
	}
	told := bounce.Incoming{Kind: bounce.KindStatus, Recipients: []bounce.IncomingRecipient{{Addresses: []string{rcpt}, Action: "failed", Status: "5.1.1", Class: "user_unknown"}}}
	return &returned{
		org: &org.Organisation{ID: "acme"}, in: told, now: reportNoon, brought: ledger.Fact{Time: reportNoon, ID: mail.NewID(reportNoon)}, to: to, witness: bounce.Witness{NoSender: true},
	}
}

func TestOnlyAMessageThatTheMailboxSentFitsAReport(t *testing.T) {
	id := mail.NewID(reportNoon.Add(-time.Hour))
	good := sentFact(id, "Ann@acme.test", "bob@people.example")
	for name, test := range map[string]struct {
		change func(f *ledger.Fact, r *returned)
		want   bool
	}{
		"as it is":                       {func(*ledger.Fact, *returned) {}, true},
		"sent by another mailbox":        {func(f *ledger.Fact, _ *returned) { f.MailFrom = "dan@acme.test" }, false},
		"sent by nobody":                 {func(f *ledger.Fact, _ *returned) { f.MailFrom = "" }, false},
		"another organisation's":         {func(f *ledger.Fact, _ *returned) { f.Org = "globex" }, false},
		"came in":                        {func(f *ledger.Fact, _ *returned) { f.Direction = "inbound" }, false},
		"refused":                        {func(f *ledger.Fact, _ *returned) { f.Event = ledger.Refused }, false},
		"passed on in nobody's name":     {func(f *ledger.Fact, _ *returned) { f.Identity = ledger.Unproven }, false},
		"a month ago":                    {func(f *ledger.Fact, _ *returned) { f.Time = reportNoon.Add(-reportAge + time.Minute) }, true},
		"longer ago":                     {func(f *ledger.Fact, _ *returned) { f.Time = reportNoon.Add(-reportAge - time.Minute) }, false},
		"a complaint, elsewhere":         {func(f *ledger.Fact, r *returned) { f.MailFrom, r.in.Kind = "dan@acme.test", bounce.KindComplaint }, true},
		"a complaint of another's":       {func(f *ledger.Fact, r *returned) { f.Org, r.in.Kind = "globex", bounce.KindComplaint }, false},
		"a mailbox in another case":      {func(f *ledger.Fact, _ *returned) { f.MailFrom = "ANN@ACME.TEST" }, true},
		"a mailbox of another domain's":  {func(f *ledger.Fact, _ *returned) { f.MailFrom = "ann@acme.example" }, false},
		"a MAIL FROM that is no address": {func(f *ledger.Fact, _ *returned) { f.MailFrom = "ann" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := good, failedReport(t, "ann@acme.test", "bob@people.example")
			test.change(&f, r)
			if got := r.fits(&f); got != test.want {
				t.Errorf("%v: %+v", got, f)
			}
		})
	}
}

// Of messages that bear one Message-ID, a report is about the latest to whom it names.
func TestOfSeveralMessagesTheOneThatWentThereIsChosen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		people := []string{"bob@people.example", "eve@others.example", "dan@third.example"}
		var list []ledger.Fact
		for n := range rapid.IntRange(0, 6).Draw(t, "messages") {
			f := sentFact(mail.NewID(reportNoon), rapid.SampledFrom([]string{"ann@acme.test", "dan@acme.test"}).Draw(t, "from"), rapid.SliceOfNDistinct(rapid.SampledFrom(people), 1, 2, rapid.ID[string]).Draw(t, "to")...)
			f.Org = rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "organisation")
			f.Time, f.Offset = reportNoon.Add(-time.Duration(rapid.IntRange(1, 5).Draw(t, "hours"))*time.Hour), uint64(n)
			list = append(list, f)
		}
		rcpt := rapid.SampledFrom(people).Draw(t, "said of")
		r := &returned{org: &org.Organisation{ID: "acme"}, now: reportNoon, in: bounce.Incoming{Kind: bounce.KindStatus, Recipients: []bounce.IncomingRecipient{{Addresses: []string{rcpt}}}}}
		r.to, _ = mail.ParseAddress("ann@acme.test")
		got := r.choose(slices.Clone(list))
		for _, f := range list {
			if !r.fits(&f) {
				if f.ID == got.ID {
					t.Fatalf("%+v does not fit", f)
				}
				continue
			}
			went, chosenWent := slices.Contains(f.Rcpt, rcpt), slices.Contains(got.Rcpt, rcpt)
			if got.ID == "" || went && !chosenWent || went == chosenWent && f.Time.After(got.Time) {
				t.Fatalf("%+v, not %+v", got, f)
			}
		}
	})
}

func TestWhoStandsBehindAReport(t *testing.T) {
	domain := func(name string) mail.Domain {
		d, err := mail.ParseDomain(name)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	arrives := func(sender, from string) *arriving {
		m := new(arriving)
		m.from, _ = mail.ParseAddress(from)
		m.question.From = m.from.Domain()
		m.envelope.From, _ = mail.ParseAddress(sender)
		return m
	}
	signed := func(name string, testing bool) []dkim.Result {
		return []dkim.Result{{Status: dkim.Fail, Domain: domain("failed.example")}, {Status: dkim.Pass, Domain: domain(name), Testing: testing}}
	}
	for name, test := range map[string]struct {
		m       *arriving
		results inbound.Results
		want    bounce.Witness
	}{
		"nobody":                         {arrives("", "MAILER-DAEMON@mx.people.example"), inbound.Results{}, bounce.Witness{NoSender: true}},
		"the host that spoke":            {arrives("", "x@y.example"), inbound.Results{SPF: spf.Result{Status: spf.Pass, Domain: "mx.people.example"}}, bounce.Witness{NoSender: true, Domains: []mail.Domain{domain("mx.people.example")}}},
		"a host that is none of theirs":  {arrives("", "x@y.example"), inbound.Results{SPF: spf.Result{Status: spf.Fail, Domain: "mx.people.example"}}, bounce.Witness{NoSender: true, Contradicted: true}},
		"who signed it":                  {arrives("", "mailer-daemon@mx.people.example"), inbound.Results{DKIM: signed("people.example", false)}, bounce.Witness{NoSender: true, Domains: []mail.Domain{domain("people.example")}}},
		"who signed it for somebody":     {arrives("", "eve@people.example"), inbound.Results{DKIM: signed("people.example", false)}, bounce.Witness{NoSender: true}},
		"who signed it for others":       {arrives("", "mailer-daemon@mx.people.example"), inbound.Results{DKIM: signed("sender.example", false)}, bounce.Witness{NoSender: true}},
		"who tries out signing":          {arrives("", "mailer-daemon@mx.people.example"), inbound.Results{DKIM: signed("people.example", true)}, bounce.Witness{NoSender: true}},
		"a sender":                       {arrives("eve@people.example", "postmaster@people.example"), inbound.Results{SPF: spf.Result{Status: spf.Pass, Domain: "people.example"}}, bounce.Witness{Domains: []mail.Domain{domain("people.example")}}},
		"a domain that disowns it":       {arrives("", "mailer-daemon@people.example"), inbound.Results{DMARC: dmarc.Result{Status: dmarc.Fail, Policy: dmarc.PolicyReject}}, bounce.Witness{NoSender: true, Contradicted: true}},
		"a domain that only watches":     {arrives("", "mailer-daemon@people.example"), inbound.Results{DMARC: dmarc.Result{Status: dmarc.Fail, Policy: dmarc.PolicyNone}}, bounce.Witness{NoSender: true}},
		"a forwarder, and who signed it": {arrives("", "mailer-daemon@people.example"), inbound.Results{SPF: spf.Result{Status: spf.Fail, Domain: "x.example"}, DMARC: dmarc.Result{Status: dmarc.Pass}, DKIM: signed("people.example", false)}, bounce.Witness{NoSender: true, Domains: []mail.Domain{domain("people.example")}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := witnessOf(test.m, &test.results)
			if got.NoSender != test.want.NoSender || got.Contradicted != test.want.Contradicted || !slices.Equal(got.Domains, test.want.Domains) {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
	m := arrives("", "mailer-daemon@globex.test")
	m.question.Sender = "globex"
	if got := witnessOf(m, &inbound.Results{}); !got.Speaks(domain("globex.test")) || got.Speaks(domain("acme.test")) {
		t.Errorf("of a customer: %+v", got)
	}
}

// lookers is what looks into reports, over a store in memory, without an index.
func lookers(t testing.TB, log *strings.Builder) *mailboxReports {
	t.Helper()
	store := memory.New()
	dir, problems, _ := org.Build(org.Registry{}, org.Providers{}, nil, 1, reportNoon)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	h := &mailboxReports{
		returns: newReturns(store, []byte("a secret of the relay's own, long"), slog.New(slog.DiscardHandler)), directory: new(atomic.Pointer[org.Directory]), hostname: "relay.test",
		metrics: metrics.New("test"), log: slog.New(slog.NewTextHandler(log, nil)), waiting: make(chan *returned, reportsWaiting),
	}
	h.directory.Store(dir)
	return h
}

// factsIn is what the ledger of a store has of an event.
func factsIn(t testing.TB, store custody.Engine, event ledger.Event) (found []ledger.Fact) {
	t.Helper()
	err := ledger.Read(context.Background(), store, 0, func(f ledger.Fact) bool {
		if f.Event == event {
			found = append(found, f)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestReportsThatFindNoRoomToWaitArePassedOver(t *testing.T) {
	var log strings.Builder
	h := lookers(t, &log)
	id := mail.NewID(reportNoon.Add(-time.Hour))
	if err := h.returns.store.Commit(t.Context(), &custody.Batch{Facts: []ledger.Fact{sentFact(id, "ann@acme.test", "bob@people.example")}}); err != nil {
		t.Fatal(err)
	}
	for range reportsWaiting + 3 {
		r := failedReport(t, "ann@acme.test", "bob@people.example")
		r.in.Returned = append(r.in.Returned, struct{ Name, Value string }{"Received", "from x by relay.test with ESMTPS id " + string(id) + "; now"})
		h.offer(r)
	}
	if n := strings.Count(log.String(), "not looked into"); n != 3 {
		t.Errorf("%d were passed over:\n%s", n, log.String())
	}
	if err := h.drain(t.Context()); err != nil || len(h.waiting) > 0 {
		t.Fatalf("%d wait, %v", len(h.waiting), err)
	}
	facts := factsIn(t, h.returns.store, ledger.BounceReceived)
	if len(facts) != 1 || facts[0].ID != id || facts[0].Rcpt[0] != "bob@people.example" || facts[0].Source != "app" {
		t.Errorf("%+v", facts)
	}
}

func TestAReportThatCannotBeLookedIntoIsToldToTheOperatorAlone(t *testing.T) {
	var log strings.Builder
	h := lookers(t, &log)
	r := failedReport(t, "ann@acme.test", "bob@people.example")
	r.in.Returned = append(r.in.Returned, struct{ Name, Value string }{"Received", "from x by relay.test with ESMTPS id " + string(mail.NewID(reportNoon)) + "; now"})
	whole := h.returns.store
	h.returns.store = silent{whole}
	h.take(t.Context(), r)
	h.returns.store = whole
	if !strings.Contains(log.String(), "looking into it failed") || strings.Contains(log.String(), "@") {
		t.Errorf("the log:\n%s", log.String())
	}
	h.take(t.Context(), r) // about nothing
	if facts := factsIn(t, h.returns.store, ledger.BounceReceived); len(facts) != 0 {
		t.Errorf("%+v", facts)
	}
}

// silent is a store that nothing can be read from.
type silent struct{ custody.Engine }

func (silent) Scan(context.Context, string, string, func(string, []byte) bool) error {
	return errors.New("the disk says nothing")
}

// What is not believed counts for nothing elsewhere either: what detection and tiers
// read of it are the first words of its detail.
func TestWhatIsNotBelievedIsNoFailureAndNoComplaint(t *testing.T) {
	for _, test := range []struct {
		name     string
		to       []string
		believed bool
	}{
		{"to one", []string{"bob@people.example"}, true},
		{"to several", []string{"bob@people.example", "eve@others.example"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log strings.Builder
			h := lookers(t, &log)
			id := mail.NewID(reportNoon.Add(-time.Hour))
			if err := h.returns.store.Commit(t.Context(), &custody.Batch{Facts: []ledger.Fact{sentFact(id, "ann@acme.test", test.to...)}}); err != nil {
				t.Fatal(err)
			}
			failed, complaint := failedReport(t, "ann@acme.test", "bob@people.example"), failedReport(t, "abuse@acme.test", "")
			complaint.in = bounce.Incoming{Kind: bounce.KindComplaint, Complaint: arf.Report{Type: arf.Abuse, Recipients: []string{"bob@people.example"}}}
			for _, r := range []*returned{failed, complaint} {
				r.org.Suppression = &org.Suppression{HardBounces: 1, BounceFor: time.Hour, ComplaintFor: time.Hour}
				r.in.Returned = append(r.in.Returned, struct{ Name, Value string }{"Received", "from x by relay.test with ESMTPS id " + string(id) + "; now"})
				h.take(t.Context(), r)
			}
			bounces, complaints := factsIn(t, h.returns.store, ledger.BounceReceived), factsIn(t, h.returns.store, ledger.ComplaintReceived)
			if len(bounces) != 1 || len(complaints) != 1 {
				t.Fatalf("%+v %+v", bounces, complaints)
			}
			if detect.IsFailure(&bounces[0]) != test.believed || detect.IsComplaint(&complaints[0]) != test.believed {
				t.Errorf("%q, %q", bounces[0].Detail, complaints[0].Detail)
			}
			entry, err := h.returns.list.Look(t.Context(), "acme", *failed.org.Suppression, "bob@people.example", reportNoon)
			if err != nil || len(entry.Marks) > 0 != test.believed {
				t.Errorf("%+v, %v", entry, err)
			}
		})
	}
}
