package app

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"anechoic/control/config"
	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/limit"
)

// counting is an App that does nothing but count, on an engine that outlives it.
func counting(t *testing.T, engine *local.Engine, dir *org.Directory, options config.Limits) *App {
	t.Helper()
	a := &App{engine: engine, store: engine, limits: newLimits(options), log: slog.New(slog.DiscardHandler)}
	if err := a.openLimits(); err != nil {
		t.Fatal(err)
	}
	a.directory.Store(dir)
	a.limits.meet(dir, time.Now().UTC())
	if err := a.chargeReplayed(); err != nil {
		t.Fatal(err)
	}
	return a
}

func openEngine(t *testing.T) *local.Engine {
	t.Helper()
	engine, err := local.Open(local.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	return engine
}

// accepted is what custody writes of a message of acme's application.
func accepted(n int) ledger.Fact {
	return ledger.Fact{
		Time: time.Now().UTC(), ID: mail.NewID(time.Now()), Event: ledger.Accepted, Org: "acme", Source: "app", Direction: "outbound",
		MailFrom: "ann@acme.test", From: "ann@acme.test", Rcpt: []string{fmt.Sprintf("a%d@else.test", n), "b@else.test"}, Size: 100,
	}
}

// TestACrashGivesNobodyABudgetBack: what was accepted after the books were stored is
// charged from the ledger, wherever the crash came; nothing is charged twice but
// what was under way.
func TestACrashGivesNobodyABudgetBack(t *testing.T) {
	dir := floodDirectory(t)
	for stored := range 6 {
		engine := openEngine(t)
		a := counting(t, engine, dir, config.Limits{Tiers: true})
		source, _ := dir.Source("acme", "app")
		organisation, _ := dir.Organisation("acme")
		for n := range 5 {
			if n == stored {
				if err := a.storeLimits(t.Context(), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			p := paying{organisation: organisation, source: source, from: domainNamed("acme.test"), bytes: 100, recipients: make([]mail.Address, 2)}
			if _, refusal := a.limits.spend(dir, &p, time.Now()); refusal != nil {
				t.Fatal(refusal)
			}
			if err := engine.Commit(t.Context(), &custody.Batch{Facts: []ledger.Fact{accepted(n)}}); err != nil {
				t.Fatal(err)
			}
		}
		again := counting(t, engine, dir, config.Limits{Tiers: true}) // the first was never stopped
		for _, p := range []limit.Principal{limit.OfSource("acme", "app"), limit.OfOrganisation("acme")} {
			if _, spent := again.limits.book.Look(time.Now(), p, limit.Caps{}); spent != (limit.Amount{Messages: 5, Recipients: 10, Bytes: 500}) {
				t.Errorf("stored before message %d: %s spent %+v, want five messages", stored, p, spent)
			}
		}
		if h, _ := again.limits.trust.History(limit.Name{Organisation: "acme", Source: "app"}); h.Days != 1 {
			t.Errorf("stored before message %d: it sent on %d days", stored, h.Days)
		}
	}
}

// TestAnOldDirectoryIsNotChargedWithItsPast, and who was there goes on as before; who
// is added later is new.
func TestAnOldDirectoryIsNotChargedWithItsPast(t *testing.T) {
	dir := floodDirectory(t)
	engine := openEngine(t)
	for n := range 100 {
		if err := engine.Commit(t.Context(), &custody.Batch{Facts: []ledger.Fact{accepted(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	if end, err := endOfLedger(t.Context(), engine); end != 100 || err != nil {
		t.Errorf("the ledger ends at %d: %v", end, err)
	}
	a := counting(t, engine, dir, config.Limits{Tiers: true, FirstSources: config.FirstTrusted})
	if _, spent := a.limits.book.Look(time.Now(), limit.OfSource("acme", "app"), limit.Caps{}); spent != (limit.Amount{}) {
		t.Errorf("it is charged with %+v", spent)
	}
	view, ok := limitSteering{a}.Of("acme", "app", time.Now())
	if !ok || view.Tier != limit.Trusted || len(view.Budgets) != 0 {
		t.Errorf("%+v", view)
	}
	fresh := counting(t, openEngine(t), dir, config.Limits{Tiers: true, FirstSources: config.FirstNew})
	if view, _ := (limitSteering{fresh}).Of("acme", "app", time.Now()); view.Tier != limit.New || view.By != "tier" || view.Next != limit.Known || len(view.Budgets) != 6 {
		t.Errorf("%+v", view)
	}
}

// TestSourcesOnTiersShareACeiling: what many new sources may do together.
func TestSourcesOnTiersShareACeiling(t *testing.T) {
	dir := floodDirectory(t)
	a := counting(t, openEngine(t), dir, config.Limits{Tiers: true, FirstSources: config.FirstNew})
	organisation, _ := dir.Organisation("acme")
	left := int64(0)
	for _, source := range organisation.Sources {
		for range 4 {
			p := paying{organisation: organisation, source: source, from: domainNamed("acme.test"), recipients: make([]mail.Address, 250)}
			if _, refusal := a.limits.spend(dir, &p, time.Now()); refusal == nil {
				left += 250
			}
		}
	}
	if left != 3000 || len(organisation.Sources) != 4 {
		t.Errorf("%d recipients of %d new sources, want three times a thousand", left, len(organisation.Sources))
	}
}

// TestTheReplySaysWhenAndNoMore: roughly when to come back, and nothing of budgets.
func TestTheReplySaysWhenAndNoMore(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		time.Second: "ten minutes", 10 * time.Minute: "ten minutes", 11 * time.Minute: "an hour", 2 * time.Hour: "six hours", 20 * time.Hour: "tomorrow", 365 * limit.Day: "fewer recipients",
	} {
		r := putOff(limit.Excess{Principal: limit.OfSource("acme", "app"), Unit: limit.RecipientsPerDay, Retry: noon.Add(wait)}, noon)
		line := r.Line("ID")
		if r.Code() != 451 || r.Enhanced() != "4.7.28" || !strings.Contains(line, want) || strings.Contains(line, "acme") || strings.Contains(line, "recipients_per_day") {
			t.Errorf("%s: %s", wait, line)
		}
		if !strings.Contains(r.Detail(), "source acme/app") || !strings.Contains(r.Detail(), "recipients_per_day") {
			t.Errorf("%s: the log says %q", wait, r.Detail())
		}
	}
}

// TestReceptionIsReadFromTheLedger: what was delivered, refused for good and complained
// about; a full disk or a server that is down is not the sender's fault.
func TestReceptionIsReadFromTheLedger(t *testing.T) {
	dir := floodDirectory(t)
	a := counting(t, openEngine(t), dir, config.Limits{Tiers: true, FirstSources: config.FirstNew})
	fact := func(event ledger.Event, class, detail string, n int) *ledger.Fact {
		return &ledger.Fact{Time: time.Now().UTC(), Event: event, Org: "acme", Source: "app", Class: class, Detail: detail, Rcpt: make([]string, n)}
	}
	for _, f := range []*ledger.Fact{
		fact(ledger.Delivered, "", "", 90), fact(ledger.Bounced, "user_unknown", "", 3), fact(ledger.Bounced, "mailbox_full", "", 50),
		fact(ledger.BounceReceived, "user_unknown", "status failed 5.1.1, brought by x", 1), fact(ledger.BounceReceived, "user_unknown", "status delayed 4.1.1, brought by x", 1),
		fact(ledger.ComplaintReceived, "", "", 1),
	} {
		a.limits.observe(f)
	}
	h, _ := a.limits.trust.History(limit.Name{Organisation: "acme", Source: "app"})
	if h.Delivered != 90 || int(h.Lately.Bounced+0.5) != 4 || int(h.Lately.Complained+0.5) != 1 {
		t.Errorf("%+v", h)
	}
}
