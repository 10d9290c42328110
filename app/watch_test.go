package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"anechoic/control/metrics"
	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/watch/campaign"
	"anechoic/watch/detect"
)

// heard is what a follower did and told.
type heard struct {
	acted, findings, campaigns int
}

func newFollower(t *testing.T, store custody.Engine, h *heard) *follower {
	t.Helper()
	w := &follower{
		store: store, metrics: metrics.New("test"), log: slog.New(slog.DiscardHandler), detector: detect.New(detect.Options{}), grouper: campaign.New(campaign.Options{}), findings: map[string]*foundOnce{},
		act:  func(_ context.Context, f []detect.Finding) { h.acted += len(f) },
		tell: func(_ context.Context, n told) { h.findings += len(n.findings); h.campaigns += len(n.campaigns) },
	}
	if err := w.open(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	return w
}

// spoofed writes facts of refused mail of many tenants into a ledger.
func spoofed(t *testing.T, store custody.Engine, at time.Time, from, n int) {
	t.Helper()
	b := &custody.Batch{}
	for i := from; i < from+n; i++ {
		b.Facts = append(b.Facts, ledger.Fact{
			Time: at.Add(time.Duration(i) * time.Second), ID: mail.NewID(at), Event: ledger.Refused, Direction: "outbound", ClaimedOrg: "acme", Peer: netip.MustParseAddr("40.107.1.1"),
			From: fmt.Sprintf("admin_support%c%c%c@acme.test", 'a'+i%26, 'a'+i/26%26, 'b'), Rcpt: []string{"x@yahoo.com"}, Disposition: ledger.DispositionRefused,
			Identity: ledger.Unproven, Reason: mail.ReasonTenantNotAuthorized, Tenant: fmt.Sprintf("%08d-1111-4111-8111-111111111111", i%50), Originator: "evil.onmicrosoft.com",
		})
	}
	if err := store.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func drain(w *follower) {
	for w.follow(context.Background(), time.Now().UTC()) {
	}
}

func TestAFollowerGoesOnWhereItWasAndTellsNothingTwice(t *testing.T) {
	store := memory.New()
	start := time.Now().Add(-10 * time.Minute)
	var first heard
	w := newFollower(t, store, &first)
	spoofed(t, store, start, 0, 120)
	drain(w)
	if first.findings == 0 || first.campaigns == 0 || first.acted == 0 {
		t.Fatalf("it saw %+v", first)
	}
	known := len(w.shown.Load().Findings)
	for what, stop := range map[string]func(){"after a crash": func() {}, "after a stop": func() { w.save(t.Context(), time.Now()) }} {
		stop()
		var again heard
		restarted := newFollower(t, store, &again)
		drain(restarted)
		if again != (heard{}) {
			t.Errorf("%s it told again: %+v", what, again)
		}
		if got := len(restarted.shown.Load().Findings); got != known {
			t.Errorf("%s it knows %d findings, not %d", what, got, known)
		}
		if restarted.at.Next < 120 {
			t.Errorf("%s it stands at %d", what, restarted.at.Next)
		}
	}
	var later heard
	restarted := newFollower(t, store, &later)
	spoofed(t, store, start, 120, 400)
	drain(restarted)
	if later.campaigns == 0 {
		t.Errorf("what came after the restart is not told: %+v", later)
	}
}

func TestStateThatDoesNotOpenIsMadeAnewFromTheLedger(t *testing.T) {
	store := memory.New()
	var first heard
	w := newFollower(t, store, &first)
	spoofed(t, store, time.Now().Add(-30*24*time.Hour), 0, 10) // too old to be asked for
	spoofed(t, store, time.Now().Add(-10*time.Minute), 0, 120)
	drain(w)
	w.save(t.Context(), time.Now())
	if err := store.Commit(t.Context(), &custody.Batch{Put: []custody.Record{{Key: statePrefix + w.at.Detector[0], Value: []byte("damaged")}}}); err != nil {
		t.Fatal(err)
	}
	var again heard
	rebuilt := newFollower(t, store, &again)
	if rebuilt.at.Next != 10 {
		t.Errorf("it begins at %d, not at the first fact of the last 14 days", rebuilt.at.Next)
	}
	drain(rebuilt)
	if again != (heard{}) || len(rebuilt.detector.Open()) == 0 {
		t.Errorf("it told %+v again, and knows %d findings", again, len(rebuilt.detector.Open()))
	}
}
