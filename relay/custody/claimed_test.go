package custody_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// claimed is mail that nobody's source handed over.
func claimed() custody.Detention {
	d := detention("acme")
	d.Source, d.Claimed = "", true
	return d
}

func TestWhatOnlyClaimsAnOrganisationLeavesRoomForItsOwn(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	for range custody.ClaimedMessages {
		detain(t, q, claimed())
	}
	q = open(t, engine.Clone()) // a restart
	if _, err := q.Detain(ctx, claimed(), noon); !errors.Is(err, custody.ErrDetentionFull) {
		t.Errorf("one more: %v", err)
	}
	own := detain(t, q, detention("acme"))
	if got := q.DetainedUse("acme"); got.Messages != custody.ClaimedMessages+1 || q.DetainedUse("") != got {
		t.Errorf("detained: %+v, all %+v", got, q.DetainedUse(""))
	}
	first := detainedIDs(t, q, custody.DetainedFilter{Where: func(d *custody.Detained) bool { return d.Claimed }})[0]
	if err := q.DropDetained(ctx, first, "alice", noon); err != nil {
		t.Fatal(err)
	}
	if f := lastFact(t, engine); f.Org == "acme" && f.ClaimedOrg == "" && f.Event == ledger.Dropped {
		t.Errorf("the fact says that it was acme's: %+v", f)
	}
	detain(t, q, claimed())
	shares := q.DetainedShares()
	if len(shares) != 1 || shares[0].Organisation != "acme" || shares[0].Messages != custody.ClaimedMessages+1 || shares[0].Reason != mail.ReasonForwardedMail {
		t.Errorf("the shares are %+v", shares)
	}
	if d, err := q.LookDetained(ctx, own); err != nil || d.Claimed || d.Source != "app" {
		t.Errorf("its own is %+v, %v", d, err)
	}
}

func TestAFilterPagesPastWhatItDoesNotMean(t *testing.T) {
	q := open(t, memory.New())
	var wanted []mail.ID
	for i := range 30 {
		d := detention("acme")
		if i%7 == 0 {
			d.From = address("ann@acme.test")
		}
		if id := detain(t, q, d); i%7 == 0 {
			wanted = append(wanted, id)
		}
	}
	slices.Sort(wanted) // of one millisecond, ids are in no order
	got := detainedIDs(t, q, custody.DetainedFilter{Limit: 2, Where: func(d *custody.Detained) bool { return d.From == address("ann@acme.test") }})
	if !slices.Equal(got, wanted) {
		t.Errorf("selected are %v, want %v", got, wanted)
	}
}

func TestTheSubjectIsKeptBesideTheContentAndInNoFact(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	d := detention("acme")
	long := make([]byte, 2000)
	for i := range long {
		long[i] = 'x'
	}
	d.Header = d.Header.Without(func(f mail.Field) bool { return f.Is("Subject") }).Prepend(mail.NewField("Subject", "private "+string(long[:900])))
	id := detain(t, q, d)
	got, err := q.LookDetained(ctx, id)
	if err != nil || len(got.Subject) != 500 || got.Subject[:8] != "private " {
		t.Errorf("the subject is %q, %v", got.Subject, err)
	}
	if err := q.ReadDetained(ctx, id, "alice", noon); err != nil {
		t.Fatal(err)
	}
	if f := lastFact(t, engine); f.Event != ledger.Exported || f.Detail != "by alice" || f.ID != id {
		t.Errorf("the fact is %+v", f)
	}
}

func TestDetentionLastsAsLongAsItIsConfigured(t *testing.T) {
	q, err := custody.OpenQueue(ctx, memory.New(), custody.Options{SealKey: make([]byte, 32), DetainFor: 2 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	detain(t, q, detention("acme"))
	if n, err := q.ExpireDetained(ctx, noon.Add(2*time.Hour-1)); n != 0 || err != nil {
		t.Errorf("too early: %d, %v", n, err)
	}
	if n, err := q.ExpireDetained(ctx, noon.Add(2*time.Hour)); n != 1 || err != nil {
		t.Errorf("over: %d, %v", n, err)
	}
}
