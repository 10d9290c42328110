package seen

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func domain(s string) mail.Domain {
	d, err := mail.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func guid(n int) string { return fmt.Sprintf("%08d-1111-4111-8111-111111111111", n) }

// sighting is one refused message of a numbered tenant.
func sighting(n int) Sighting {
	return Sighting{
		Time: noon, Tenant: guid(n), Originator: domain("evil123.onmicrosoft.com"), Reason: mail.ReasonTenantNotAuthorized, From: domain("acme.test"),
		Claimed: "acme", MailFrom: address("bounce@evil.test"), Rcpt: domain("mailbox.test"), Peer: netip.MustParseAddr("40.107.1.10"),
	}
}

var compare = cmp.Options{
	cmp.AllowUnexported(mail.Domain{}, mail.Address{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestATenantIsCountedAndDescribed(t *testing.T) {
	var table Table
	s := sighting(1)
	if isNew, _ := table.Note(s); !isNew {
		t.Error("the first sighting is not new")
	}
	s.Time, s.Tenant, s.From, s.Claimed = noon.Add(time.Hour), strings.ToUpper(guid(1)), domain("globex.test"), "globex"
	s.Reason = mail.ReasonAttributionConflict
	if isNew, leak := table.Note(s); isNew || leak {
		t.Error("the second one is new")
	}
	table.Note(sighting(2))
	got := table.List(Filter{})
	if len(got) != 2 {
		t.Fatalf("%d tenants", len(got))
	}
	want := Tenant{
		Tenant: guid(1), Originator: s.Originator, First: noon, Last: noon.Add(time.Hour), Messages: 2,
		Reasons: map[mail.Reason]uint64{mail.ReasonTenantNotAuthorized: 1, mail.ReasonAttributionConflict: 1},
		From:    []mail.Domain{domain("acme.test"), domain("globex.test")}, Claimed: []org.ID{"acme", "globex"},
		Samples: []Sample{{noon, s.MailFrom, s.Rcpt, s.Peer}, {s.Time, s.MailFrom, s.Rcpt, s.Peer}},
	}
	if diff := cmp.Diff(want, got[0], compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if found := table.List(Filter{Org: "globex"}); len(found) != 1 || found[0].Tenant != guid(1) {
		t.Errorf("globex was claimed by %+v", found)
	}
	if found := table.List(Filter{Tenant: strings.ToUpper(guid(2))}); len(found) != 1 {
		t.Errorf("tenant 2 is %+v", found)
	}
	if found := table.List(Filter{Org: "initech"}); len(found) != 0 {
		t.Errorf("initech was claimed by %+v", found)
	}
}

func TestWhatNamesNoTenantIsNotNoted(t *testing.T) {
	var table Table
	for _, spoil := range []func(*Sighting){func(s *Sighting) { s.Tenant = "" }, func(s *Sighting) { s.Originator = mail.Domain{} }} {
		s := sighting(1)
		spoil(&s)
		if isNew, _ := table.Note(s); isNew || len(table.List(Filter{})) > 0 {
			t.Errorf("noted: %+v", s)
		}
	}
}

// What strangers send never makes the table grow past its bounds, and the counts
// add up.
func TestTheTableIsBoundedWhateverIsSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table Table
		n := rapid.IntRange(1, 200).Draw(t, "messages")
		for i := range n {
			s := sighting(rapid.IntRange(0, 3).Draw(t, "tenant"))
			s.Time = noon.Add(time.Duration(i) * time.Second)
			s.From = domain(fmt.Sprintf("d%d.test", rapid.IntRange(0, 30).Draw(t, "from")))
			s.Claimed = org.ID(fmt.Sprintf("o%d", rapid.IntRange(0, 30).Draw(t, "org")))
			if rapid.Bool().Draw(t, "leak") {
				s.Leak = &Leak{Organisation: "acme", Digest: fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "secret")), Last: s.Time}
			}
			table.Note(s)
		}
		total := uint64(0)
		for _, k := range table.List(Filter{}) {
			total += k.Messages
			if len(k.From) > maxDomains || len(k.Claimed) > maxClaimed || len(k.Samples) > maxSamples || len(k.Leaks) > maxLeaks {
				t.Fatalf("unbounded: %+v", k)
			}
			if last := k.Samples[len(k.Samples)-1]; !last.Time.Equal(k.Last) || k.First.After(k.Last) {
				t.Fatalf("the latest sample is of %s, last seen %s", last.Time, k.Last)
			}
			if len(k.From) < maxDomains && k.More {
				t.Fatal("it says that there are more From domains")
			}
		}
		if total != uint64(n) {
			t.Fatalf("%d of %d counted", total, n)
		}
	})
}

func TestWhoWasNotSeenForLongestIsForgottenFirst(t *testing.T) {
	var table Table
	engine := memory.New()
	for i := range MaxTenants {
		table.Note(sighting(i))
	}
	if err := table.Flush(context.Background(), engine); err != nil {
		t.Fatal(err)
	}
	table.Note(sighting(0)) // seen again
	table.Note(sighting(MaxTenants))
	if err := table.Flush(context.Background(), engine); err != nil {
		t.Fatal(err)
	}
	var again Table
	if err := again.Load(context.Background(), engine); err != nil {
		t.Fatal(err)
	}
	for what, table := range map[string]*Table{"now": &table, "after a restart": &again} {
		if n := len(table.List(Filter{})); n != MaxTenants {
			t.Errorf("%s: %d tenants", what, n)
		}
		for n, want := range map[int]int{0: 1, 1: 0, 2: 1, MaxTenants: 1} {
			if got := len(table.List(Filter{Tenant: guid(n)})); got != want {
				t.Errorf("%s: tenant %d is there %d times, want %d", what, n, got, want)
			}
		}
	}
}

// unwilling is an engine that refuses.
type unwilling struct {
	*memory.Engine
	err error
}

func (u *unwilling) Commit(ctx context.Context, b *custody.Batch) error {
	if u.err != nil {
		return u.err
	}
	return u.Engine.Commit(ctx, b)
}

func TestItIsKeptOverARestart(t *testing.T) {
	ctx := context.Background()
	engine := &unwilling{memory.New(), errors.New("not now")}
	var table, again Table
	s := sighting(1)
	s.Leak = &Leak{Organisation: "acme", Source: "m365", Header: "x-acme-relay-key", Digest: strings.Repeat("ab", 32), Last: noon}
	table.Note(s)
	if err := table.Flush(ctx, engine); !errors.Is(err, engine.err) {
		t.Fatalf("flushed: %v", err)
	}
	engine.err = nil
	if err := table.Flush(ctx, engine); err != nil {
		t.Fatal(err)
	}
	bad := []custody.Record{{Key: "seen/x/y", Value: []byte("{")}, {Key: "seen/" + guid(7) + "/b.test", Value: []byte(`{"tenant":"` + guid(8) + `"}`)}}
	if err := engine.Commit(ctx, &custody.Batch{Put: bad}); err != nil {
		t.Fatal(err)
	}
	if err := again.Load(ctx, engine); err == nil || !strings.Contains(err.Error(), "2 stored tenants") {
		t.Errorf("what cannot be read is told as %v", err)
	}
	if diff := cmp.Diff(table.List(Filter{}), again.List(Filter{}), compare); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	again.Note(sighting(1))
	if got := again.List(Filter{})[0].Messages; got != 2 {
		t.Errorf("%d messages are counted", got)
	}
}

func TestALeakStandsUntilTheSecretIsReplaced(t *testing.T) {
	leaked, next := org.NewSecret(), org.NewSecret()
	var table Table
	s := sighting(1)
	digest, _ := org.HashSecret(leaked)
	s.Leak = &Leak{Organisation: "acme", Source: "m365", Header: "x-acme-relay-key", Digest: fmt.Sprintf("%x", digest), Last: noon}
	if _, news := table.Note(s); !news {
		t.Error("the first leak is no news")
	}
	if _, news := table.Note(s); news {
		t.Error("the same leak is news again")
	}
	table.Note(sighting(2))
	if got := table.Leaks(directory(t, leaked, next)); len(got) != 1 || got[0].Organisation != "acme" {
		t.Errorf("while it is in force: %+v", got)
	}
	if got := table.Leaks(directory(t, next)); len(got) != 0 {
		t.Errorf("when it was replaced: %+v", got)
	}
}

func directory(t *testing.T, secrets ...string) *org.Directory {
	t.Helper()
	var digests []string
	for _, s := range secrets {
		d, ok := org.HashSecret(s)
		if !ok {
			t.Fatal("no secret")
		}
		digests = append(digests, fmt.Sprintf("%q", fmt.Sprintf("%x", d)))
	}
	registry, problems := org.ParseRegistry("registry.toml", []byte(`
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
  [[organisation.domain]]
  name = "acme.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.source]]
  id = "m365"
  kind = "microsoft365"
  tenant_ids = ["22222222-1111-4111-8111-111111111111"]
  originator_orgs = ["acme.test"]
  secret_header = { name = "X-Acme-Relay-Key", sha256 = [`+strings.Join(digests, ", ")+`] }
`))
	dir, more, _ := org.Build(registry, org.Providers{}, nil, 1, noon)
	if len(problems)+len(more) > 0 {
		t.Fatal(problems, more)
	}
	return dir
}
