package custody_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
)

// evidence has something in every field.
var evidence = attribution.Evidence{
	Peer: netip.MustParseAddr("40.107.1.10"), TLS: true, Username: "u", PeerName: attribution.PeerNameConfirmed, From: domain("elsewhere.test"),
	ClientKey: attribution.ClientKey{SPKI: [32]byte{1, 2}, Present: true, Expired: true},
	Header: attribution.HeaderEvidence{
		TenantID: attribution.Stamp{Count: 1, Value: "11111111-1111-4111-8111-111111111111"}, Originator: attribution.Stamp{Count: 2, Value: "acme.test"},
		Looped: true, XForwarded: true, Hops: []attribution.Hop{{By: "mx.test", From: netip.MustParseAddr("2001:db8::1"), Over: true}},
		Secrets: []attribution.Secret{{Name: "x-key", WellFormed: true, Digest: [32]byte{9}}},
	},
	Signatures: []attribution.Signature{{Domain: domain("acme.test"), Selector: "s", Signed: noon, Alias: "x.onmicrosoft.com"}}, SignaturesFailed: true,
}

func detention(of org.ID) custody.Detention {
	s := submission("bob@else.test", "eve@other.test")
	return custody.Detention{
		ID: mail.NewID(noon), Organisation: of, Source: "app", Reason: mail.ReasonForwardedMail, Evidence: evidence, From: address("ceo@elsewhere.test"),
		Envelope: s.Envelope, Header: header, Body: mail.NewBody([]byte(text)),
	}
}

func detain(t testing.TB, q *custody.Queue, d custody.Detention) mail.ID {
	t.Helper()
	r, err := q.Detain(ctx, d, noon)
	if err != nil {
		t.Fatal(err)
	}
	if r.ID() != d.ID || !r.Detained() {
		t.Fatalf("receipt %v for %s", r, d.ID)
	}
	return d.ID
}

func detainedIDs(t testing.TB, q *custody.Queue, f custody.DetainedFilter) (ids []mail.ID) {
	t.Helper()
	for {
		list, next, err := q.ListDetained(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			ids = append(ids, d.ID)
		}
		if f.After = next; next == "" {
			return ids
		}
	}
}

func TestDetainedMailIsKeptWholeAndNoLeaseReturnsIt(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	want := detention("acme")
	id := detain(t, q, want)
	q = open(t, engine.Clone()) // a restart
	if leases := leaseAll(t, q, noon.Add(1000*time.Hour)); len(leases) > 0 {
		t.Fatalf("it was leased: %+v", leases[0])
	}
	if d := q.Depth(); d.Messages != 0 {
		t.Errorf("it counts as queued: %+v", d)
	}
	gone(t, q, id)
	for _, steer := range []func() (custody.Steered, error){
		func() (custody.Steered, error) { return q.Release(ctx, custody.Filter{}, noon) },
		func() (custody.Steered, error) { return q.Drop(ctx, custody.Filter{}, noon) },
	} {
		if reached, err := steer(); err != nil || reached.Messages > 0 {
			t.Errorf("a command to the queue reached it: %+v, %v", reached, err)
		}
	}
	got, content, err := q.LoadDetained(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, content) != string(header.Bytes())+text {
		t.Errorf("the content is %q", read(t, content))
	}
	if diff := cmp.Diff(evidence, got.Evidence, cmp.AllowUnexported(mail.Domain{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
	if got.Organisation != "acme" || got.Source != "app" || got.Reason != mail.ReasonForwardedMail || got.From != want.From || !got.Kept.Equal(noon) ||
		!got.Expires.Equal(noon.Add(custody.DetainedFor)) || len(got.Envelope.Recipients) != 2 || got.Envelope.From != want.Envelope.From || got.Size != content.Size() {
		t.Errorf("it is %+v", got)
	}
	if f := lastFact(t, engine); f.Event != ledger.Held || f.Disposition != ledger.DispositionHeld || f.Identity != ledger.Unproven || f.Reason != mail.ReasonForwardedMail || len(f.Rcpt) != 2 {
		t.Errorf("the fact is %+v", f)
	}
}

func TestWhatIsNoDetentionIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for name, spoil := range map[string]func(*custody.Detention){
		"no id":                      func(d *custody.Detention) { d.ID = "x" },
		"no organisation":            func(d *custody.Detention) { d.Organisation = "" },
		"no source":                  func(d *custody.Detention) { d.Source = "" },
		"no reason":                  func(d *custody.Detention) { d.Reason = "" },
		"no recipient":               func(d *custody.Detention) { d.Envelope.Recipients = nil },
		"no body":                    func(d *custody.Detention) { d.Body = nil },
		"a body that cannot be read": func(d *custody.Detention) { d.Body = closedBody(t) },
	} {
		t.Run(name, func(t *testing.T) {
			engine := memory.New()
			q := open(t, engine)
			d := detention("acme")
			spoil(&d)
			if r, err := q.Detain(ctx, d, noon); err == nil || !r.IsZero() {
				t.Errorf("detained: %v, %v", r, err)
			}
			if found := keys(t, engine); len(found) > 0 || q.DetainedUse("") != (custody.DetainedUse{}) {
				t.Errorf("left %v, %+v", found, q.DetainedUse(""))
			}
		})
	}
}

func TestDetainedMailIsListedByFilterAndInPages(t *testing.T) {
	q := open(t, memory.New())
	var acme []mail.ID
	for i := range 5 {
		d := detention("acme")
		d.ID = mail.NewID(noon.Add(time.Duration(i) * time.Second))
		acme = append(acme, detain(t, q, d))
	}
	other := detention("globex")
	other.Reason = mail.ReasonHeld
	globex := detain(t, q, other)
	if got := detainedIDs(t, q, custody.DetainedFilter{Org: "acme", Limit: 2}); !slices.Equal(got, acme) {
		t.Errorf("acme has %v, want %v", got, acme)
	}
	for _, f := range []custody.DetainedFilter{{Org: "globex"}, {Reason: mail.ReasonHeld}} {
		if got := detainedIDs(t, q, f); !slices.Equal(got, []mail.ID{globex}) {
			t.Errorf("%+v selects %v", f, got)
		}
	}
	if got := detainedIDs(t, q, custody.DetainedFilter{}); len(got) != 6 {
		t.Errorf("all are %v", got)
	}
	if u := q.DetainedUse("acme"); u.Messages != 5 || u.Octets == 0 {
		t.Errorf("acme uses %+v", u)
	}
}

func TestAnOrganisationHasOnlySoMuchRoom(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	var last mail.ID
	for range custody.DetainedMessages {
		last = detain(t, q, detention("acme"))
	}
	q = open(t, engine) // what there is counts after a restart too
	if r, err := q.Detain(ctx, detention("acme"), noon); !errors.Is(err, custody.ErrDetentionFull) || !r.IsZero() {
		t.Errorf("one more: %v, %v", r, err)
	}
	detain(t, q, detention("globex"))
	if err := q.DropDetained(ctx, last, "alice", noon); err != nil {
		t.Fatal(err)
	}
	detain(t, q, detention("acme"))

	q = open(t, memory.New())
	big := detention("acme")
	big.Body = mail.NewBody(make([]byte, custody.DetainedOctets))
	if _, err := q.Detain(ctx, big, noon); !errors.Is(err, custody.ErrDetentionFull) {
		t.Errorf("a message as large as all the room: %v", err)
	}
}

func TestALostCommitTakesNoRoomAndGivesNoReceipt(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	engine.set(true, false)
	if r, err := q.Detain(ctx, detention("acme"), noon); !errors.Is(err, errLost) || !r.IsZero() {
		t.Errorf("receipt %v, %v", r, err)
	}
	if u := q.DetainedUse("acme"); u.Messages != 0 {
		t.Errorf("it takes room: %+v", u)
	}
	engine.set(false, false)
	id := detain(t, q, detention("acme"))
	if b := engine.last; len(b.Put) != 1 || len(b.PutBody) != 1 || len(b.Facts) != 1 || b.Lazy {
		t.Errorf("it is not one durable batch: %+v", b)
	}
	engine.set(true, false)
	if err := q.DropDetained(ctx, id, "alice", noon); !errors.Is(err, errLost) {
		t.Errorf("dropped: %v", err)
	}
	engine.set(false, false)
	if _, _, err := q.LoadDetained(ctx, id); err != nil {
		t.Errorf("it is gone although the drop was lost: %v", err)
	}
	if err := q.DropDetained(ctx, id, "alice", noon); err != nil {
		t.Errorf("dropped again: %v", err)
	}
}

func TestEvidenceThatWasEditedAtRestIsSetAside(t *testing.T) {
	edit := func(t *testing.T, engine *memory.Engine, id mail.ID) {
		t.Helper()
		key := "detained/" + string(id)
		value, err := engine.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		edited := bytes.Replace(value, []byte(`"Looped":true`), []byte(`"Looped":null`), 1)
		if bytes.Equal(edited, value) {
			t.Fatal("nothing to edit")
		}
		if err := engine.Commit(ctx, &custody.Batch{Put: []custody.Record{{Key: key, Value: edited}}}); err != nil {
			t.Fatal(err)
		}
	}
	for name, look := range map[string]func(*testing.T, *memory.Engine, *custody.Queue, mail.ID){
		"when it is loaded": func(t *testing.T, _ *memory.Engine, q *custody.Queue, id mail.ID) {
			if _, _, err := q.LoadDetained(ctx, id); !errors.Is(err, custody.ErrSetAside) {
				t.Errorf("loaded: %v", err)
			}
		},
		"when it is listed": func(t *testing.T, _ *memory.Engine, q *custody.Queue, _ mail.ID) {
			if list, _, err := q.ListDetained(ctx, custody.DetainedFilter{}); len(list) > 0 || err != nil {
				t.Errorf("listed: %v, %v", list, err)
			}
		},
		"when it is dropped": func(t *testing.T, _ *memory.Engine, q *custody.Queue, id mail.ID) {
			if err := q.DropDetained(ctx, id, "alice", noon); !errors.Is(err, custody.ErrSetAside) {
				t.Errorf("dropped: %v", err)
			}
		},
		"when it is released": func(t *testing.T, _ *memory.Engine, q *custody.Queue, id mail.ID) {
			s := submission("bob@else.test")
			s.ID, s.Warrant = id, provenWarrant(t)
			if _, err := q.ReleaseDetained(ctx, s, "alice", noon); !errors.Is(err, custody.ErrSetAside) {
				t.Errorf("released: %v", err)
			}
		},
		"at the next start": func(t *testing.T, engine *memory.Engine, _ *custody.Queue, _ mail.ID) {
			open(t, engine)
		},
	} {
		t.Run(name, func(t *testing.T) {
			engine := memory.New()
			q := open(t, engine)
			id := detain(t, q, detention("acme"))
			edit(t, engine, id)
			look(t, engine, q, id)
			if got, want := keys(t, engine), []string{"aside/detained/" + string(id)}; !slices.Equal(got, want) {
				t.Errorf("there is %v, want %v", got, want)
			}
			if f := lastFact(t, engine); f.Event != ledger.SetAside || f.ID != id {
				t.Errorf("the fact is %+v", f)
			}
			q = open(t, engine)
			if ids := detainedIDs(t, q, custody.DetainedFilter{}); len(ids) > 0 || q.DetainedUse("").Messages > 0 {
				t.Errorf("it is still detained: %v", ids)
			}
		})
	}
}

func TestARecordUnderAnotherIdOrWithAnotherBodyIsNotBelieved(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id, other := detain(t, q, detention("acme")), mail.NewID(noon)
	value, err := engine.Get(ctx, "detained/"+string(id))
	if err != nil {
		t.Fatal(err)
	}
	forged := &custody.Batch{
		Put:        []custody.Record{{Key: "detained/" + string(other), Value: value}},
		DeleteBody: []string{"detained-" + string(id)},
		PutBody:    []custody.BodyRecord{{Name: "detained-" + string(other), Size: 3, Content: strings.NewReader("abc")}},
	}
	if err := engine.Commit(ctx, forged); err != nil {
		t.Fatal(err)
	}
	for _, id := range []mail.ID{id, other} {
		if _, _, err := q.LoadDetained(ctx, id); !errors.Is(err, custody.ErrSetAside) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestOnlyAProvenWarrantOfTheSameOrganisationReleases(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id, foreign := detain(t, q, detention("acme")), detain(t, q, detention("globex"))
	for name, c := range map[string]struct {
		id      mail.ID
		warrant custody.Warrant
		want    error
	}{
		"no warrant":               {id, nil, custody.ErrNoWarrant},
		"the zero warrant":         {id, custody.Proven{}, custody.ErrNoWarrant},
		"a notice":                 {id, noticeWarrant(), custody.ErrNoWarrant},
		"another organisation's":   {foreign, provenWarrant(t), custody.ErrNoWarrant},
		"a message that is no one": {mail.NewID(noon), provenWarrant(t), custody.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s := submission("bob@else.test")
			s.ID, s.Warrant = c.id, c.warrant
			if r, err := q.ReleaseDetained(ctx, s, "alice", noon); !errors.Is(err, c.want) || !r.IsZero() {
				t.Errorf("released: %v, %v", r, err)
			}
		})
	}
	if ids := detainedIDs(t, q, custody.DetainedFilter{}); len(ids) != 2 {
		t.Errorf("detained are %v", ids)
	}
	if leases := leaseAll(t, q, noon); len(leases) > 0 {
		t.Error("something is leased")
	}
}

func TestAReleaseIsOneBatchAndTheMessageIsDue(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	id := detain(t, q, detention("acme"))
	s := submission("bob@else.test", "eve@other.test")
	s.ID, s.Warrant = id, provenWarrant(t)
	engine.set(true, false)
	if _, err := q.ReleaseDetained(ctx, s, "alice", noon); !errors.Is(err, errLost) {
		t.Fatalf("released: %v", err)
	}
	if ids := detainedIDs(t, q, custody.DetainedFilter{}); len(ids) != 1 || len(leaseAll(t, q, noon)) > 0 {
		t.Fatalf("after a lost commit %v are detained", ids)
	}
	engine.set(false, false)
	r, err := q.ReleaseDetained(ctx, s, "alice", noon)
	if err != nil || r.ID() != id || r.Detained() {
		t.Fatalf("released: %v, %v", r, err)
	}
	if b := engine.last; len(b.Delete) != 1 || len(b.DeleteBody) != 1 || len(b.PutBody) != 1 || len(b.Facts) != 2 {
		t.Errorf("it is not one batch: %+v", b)
	}
	if got, want := story(t, engine, id), []string{"held bob@else.test eve@other.test", "released bob@else.test eve@other.test", "accepted bob@else.test eve@other.test"}; !slices.Equal(got, want) {
		t.Errorf("the story is %v, want %v", got, want)
	}
	q = open(t, engine)
	if ids := detainedIDs(t, q, custody.DetainedFilter{}); len(ids) > 0 || q.DetainedUse("") != (custody.DetainedUse{}) {
		t.Errorf("it is still detained: %v", ids)
	}
	if leases := leaseAll(t, q, noon); len(leases) != 2 {
		t.Errorf("%d leases", len(leases))
	}
	if _, err := q.ReleaseDetained(ctx, s, "alice", noon); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("released twice: %v", err)
	}
}

func TestWhatNobodyReleasedExpires(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := detain(t, q, detention("acme"))
	if n, err := q.ExpireDetained(ctx, noon.Add(custody.DetainedFor-1)); n != 0 || err != nil {
		t.Errorf("%d expired too early, %v", n, err)
	}
	q = open(t, engine)
	if n, err := q.ExpireDetained(ctx, noon.Add(custody.DetainedFor)); n != 1 || err != nil {
		t.Errorf("%d expired, %v", n, err)
	}
	if found := keys(t, engine); len(found) > 0 {
		t.Errorf("left %v", found)
	}
	if _, err := engine.OpenBody(ctx, "detained-"+string(id)); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("the body is still there: %v", err)
	}
	if f := lastFact(t, engine); f.Event != ledger.Dropped || f.Detail == "" || len(f.Rcpt) != 2 {
		t.Errorf("the fact is %+v", f)
	}
}

func TestADetentionEndsOnce(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	for range 50 {
		id := detain(t, q, detention("acme"))
		s := submission("bob@else.test")
		s.ID, s.Warrant = id, provenWarrant(t)
		var ends sync.WaitGroup
		var won [3]bool
		ends.Go(func() { _, err := q.ReleaseDetained(ctx, s, "alice", noon); won[0] = err == nil })
		ends.Go(func() { won[1] = q.DropDetained(ctx, id, "alice", noon) == nil })
		ends.Go(func() { n, _ := q.ExpireDetained(ctx, noon.Add(custody.DetainedFor)); won[2] = n > 0 })
		ends.Wait()
		n := 0
		for _, w := range won {
			if w {
				n++
			}
		}
		events := fmt.Sprint(story(t, engine, id))
		if n != 1 || strings.Contains(events, "dropped") == strings.Contains(events, "accepted") {
			t.Fatalf("%d ended it: %s", n, events)
		}
		if _, err := q.Drop(ctx, custody.Filter{}, noon); err != nil {
			t.Fatal(err)
		}
	}
	if u := q.DetainedUse(""); u != (custody.DetainedUse{}) {
		t.Errorf("room is still taken: %+v", u)
	}
}
