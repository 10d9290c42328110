package detect

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"encoding/binary"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/ledger"
	"anechoic/mail"
)

// anyEvent is an event of few organisations and many kinds, some seconds after the
// one before, or long after.
func anyEvent(t *rapid.T, now *time.Time, i int) Event {
	gap := rapid.SampledFrom([]int{0, 0, 1, 1, 30, 600, 7200, 90_000, -30, -100_000}).Draw(t, "gap")
	*now = now.Add(time.Duration(gap) * time.Second)
	pick := func(name string, n int) int { return rapid.IntRange(0, n).Draw(t, name) }
	from := fmt.Sprintf("person%d@d%d.example", pick("person", 9), pick("domain", 3))
	if pick("made up", 1) == 0 {
		from = fmt.Sprintf("admin_support%s@d0.example", random(i))
	}
	return Event{
		Time: *now, What: rapid.SampledFrom([]What{Sent, Sent, Sent, Sent, Refused, Refused, Delivered, Bounced, Complained}).Draw(t, "what"),
		ID: mail.ID(fmt.Sprint("id", i)), Org: rapid.SampledFrom([]string{"acme", "beta", ""}).Draw(t, "org"), Claimed: "acme", Source: rapid.SampledFrom([]string{"office", "shop"}).Draw(t, "source"),
		From: from, MailFrom: rapid.SampledFrom([]string{from, "x@other.example", ""}).Draw(t, "mail from"),
		Rcpt: []string{stranger(pick("rcpt", 500)), "partner@partner.example"}, Peer: netip.AddrFrom4([4]byte{192, 0, 2 + byte(pick("peer", 3)), 1}),
		Tenant: rapid.SampledFrom([]string{"", "t1", "t2", "t3", "t4"}).Draw(t, "tenant"), Origin: "hybrid", ConnectingIP: rapid.SampledFrom([]string{"", "203.0.113.9"}).Draw(t, "connecting"),
		Reason: rapid.SampledFrom([]mail.Reason{"", mail.ReasonTenantNotAuthorized, mail.ReasonFromNotOwned, mail.ReasonSecondProofMissing}).Draw(t, "reason"),
		Count:  1 + pick("count", 60),
		Print:  ledger.Print{Text: uint64(1)<<pick("text", 8) | 0xff00, Signature: uint64(pick("signature", 3)), Hosts: []string{fmt.Sprintf("h%d.example", pick("host", 3))}, IDHost: fmt.Sprintf("m%d.example", pick("id host", 4))},
	}
}

func TestARestartAtAnyPointGivesTheSameFindings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Principals: rapid.SampledFrom([]int{3, 6, 1000}).Draw(t, "principals"), Domains: 2, Memory: 1 << 16}
		o.Thresholds = DefaultThresholds()
		o.Thresholds.MinAge, o.Thresholds.FamilyNames, o.Thresholds.FamilyFloor, o.Thresholds.DriftFloor, o.Thresholds.OddFloor = 0, 3, 3, 3, 3
		a, b := New(o), New(o)
		now := monday
		for i := range rapid.IntRange(1, 150).Draw(t, "n") {
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				again := New(o)
				state := b.Snapshot()
				if err := again.Restore(state); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(state, again.Snapshot()) {
					t.Fatal("what was restored is written otherwise")
				}
				b = again
			}
			e := anyEvent(t, &now, i)
			if diff := cmp.Diff(a.Observe(e), b.Observe(e)); diff != "" {
				t.Fatalf("event %d:\n%s", i, diff)
			}
			if a.left != b.left {
				t.Fatalf("%+v and %+v are left", a.left, b.left)
			}
		}
	})
}

func TestTheSameEventsGiveTheSameFindings(t *testing.T) {
	run := func() (all []Finding) {
		w := newWorld(t).days(14)
		for _, c := range cases {
			c.speak(w)
		}
		return w.found
	}
	if diff := cmp.Diff(run(), run()); diff != "" {
		t.Error(diff)
	}
}

// TestWhatIsProposedIsNeverWiderThanWhatIsFound is what the response relies on.
func TestWhatIsProposedIsNeverWiderThanWhatIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Thresholds: DefaultThresholds()}
		o.Thresholds.MinAge, o.Thresholds.FamilyNames, o.Thresholds.FamilyFloor, o.Thresholds.DriftFloor, o.Thresholds.OddFloor = 0, 3, 3, 3, 3
		d := New(o)
		now := monday
		for i := range rapid.IntRange(1, 200).Draw(t, "n") {
			for _, f := range d.Observe(anyEvent(t, &now, i)) {
				switch {
				case f.Scope.Org == "" || f.Propose.Scope != f.Scope:
					t.Fatalf("finding of %+v proposes for %+v", f.Scope, f.Propose.Scope)
				case f.Score < 0 || f.Score > 1 || f.Left > f.Messages || f.Last.Before(f.First):
					t.Fatalf("%+v", f)
				case f.Propose.Step == SuspendSource && f.Scope.Source == "", f.Propose.Step == KillDomain && f.Scope.Domain == "":
					t.Fatalf("%v of %+v", f.Propose.Step, f.Scope)
				case f.Propose.Step == Throttle && (f.Propose.Rate <= 0 || f.Propose.For <= 0):
					t.Fatalf("%+v", f.Propose)
				}
			}
		}
	})
}

func TestHostileTextsAreKeptShortAndPrintable(t *testing.T) {
	d := New(Options{})
	long := strings.Repeat("\x1b[2J\u202e\xff", 1000)
	now := monday
	for i := range 400 {
		e := Event{Time: now, What: Sent, Org: "acme", Source: long, From: fmt.Sprint("admin_support\x1b", random(i), "@", long), MailFrom: long, Rcpt: []string{long, fmt.Sprint(long, i)},
			Tenant: long, Originator: long, ConnectingIP: long, ID: mail.ID(long), Print: ledger.Print{Text: 7, Hosts: []string{long, long, long, long, long, long}, IDHost: long}}
		if i%2 == 0 {
			e.What, e.Org, e.Claimed, e.Reason = Refused, "", long, mail.ReasonTenantNotAuthorized
		}
		for _, f := range d.Observe(e) {
			text := fmt.Sprint(f)
			if !isPrintable(text) || len(text) > 20_000 {
				t.Fatalf("%d octets: %.200q", len(text), text)
			}
		}
		now = now.Add(time.Second)
	}
	if again := New(Options{}); again.Restore(d.Snapshot()) != nil {
		t.Error("such a state cannot be restored")
	}
}

func TestEventsOfNoTimeOrOfATimeThatIsNoneChangeNothing(t *testing.T) {
	d := New(Options{})
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if fs := d.Observe(Event{Time: at, What: Sent, Org: "acme", Source: "s", From: "a@b.example"}); len(fs) != 0 || len(d.principals.entries) != 0 {
			t.Errorf("%v: %v", at, fs)
		}
	}
}

func TestAClockThatIsSetBackStartsAgainWithoutAFinding(t *testing.T) {
	w := newWorld(t).days(14)
	w.found = nil
	w.now = w.now.AddDate(-1, 0, 0)
	w.days(3)
	if alarms := w.alarms(); len(alarms) != 0 {
		t.Errorf("%s", alarms[0].Sentence)
	}
}

// TestStrangersCannotTakeMemory lets everything that strangers and users write be
// ever new.
func TestStrangersCannotTakeMemory(t *testing.T) {
	d := New(Options{Principals: 500, Domains: 20, Memory: 1 << 20})
	now := monday
	for i := range 40_000 {
		now = now.Add(time.Second)
		e := Event{Time: now, What: Sent, Org: fmt.Sprint("o", i%700), Source: fmt.Sprint("s", i%3), From: fmt.Sprintf("%s@d%d.example", random(i), i), Rcpt: []string{stranger(i), stranger(-i)},
			Peer: netip.AddrFrom4([4]byte{byte(i), byte(i >> 8), 1, 1}), Print: ledger.Print{Text: sumOf(fmt.Sprint(i)), Signature: uint64(i + 1), Hosts: []string{fmt.Sprintf("h%d.example", i)}, IDHost: fmt.Sprintf("m%d.example", i)}}
		if i%2 == 0 {
			e.What, e.Claimed, e.Tenant, e.Reason = Refused, fmt.Sprint("c", i), fmt.Sprint("t", i), mail.ReasonTenantNotAuthorized
		}
		d.Observe(e)
	}
	for name, n := range map[string][2]int{
		"principals": {len(d.principals.entries), 500}, "texts": {len(d.contents.texts.entries), maxTexts}, "bands": {len(d.contents.bands), 4 * maxTexts},
		"hosts": {len(d.contents.hosts.entries), maxHosts}, "signatures": {len(d.contents.signatures.entries), maxSignatures},
		"claims": {len(d.claims.entries), maxClaims}, "findings": {len(d.open.entries), maxOpen}, "organisations": {len(d.busy.entries), maxOpen},
	} {
		if n[0] > n[1] {
			t.Errorf("%d %s, the bound is %d", n[0], name, n[1])
		}
	}
	if d.left.words < -2*500*knownFirst {
		t.Errorf("%d words over the budget", -d.left.words)
	}
}

func TestOneOrganisationsDomainsTakeNoMoreThanTheirShare(t *testing.T) {
	d := New(Options{Principals: 300, Domains: 10})
	d.Observe(Event{Time: monday, What: Sent, Org: "quiet", Source: "s", From: "a@quiet.example"})
	for i := range 5000 {
		d.Observe(Event{Time: monday.Add(time.Duration(i) * time.Second), What: Sent, Org: "acme", Source: "s", From: fmt.Sprintf("a@d%d.acme.example", i)})
	}
	if n := len(d.principals.entries); n > 2+11+3 || d.principals.find(Scope{Org: "quiet"}) == nil {
		t.Errorf("%d principals", n)
	}
}

func TestAHundredThousandPrincipalsFitInThreeHundredMegabytes(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector has memory of its own: a tenth of the principals")
	}
	n := 100_000
	if raceEnabled || testing.Short() {
		n = 10_000
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d := New(Options{})
	fill(d, n, 2)
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d principals, %.0f MB, %.0f octets each", len(d.principals.entries), float64(used)/1e6, float64(used)/float64(n))
	if len(d.principals.entries) < n {
		t.Fatalf("%d principals", len(d.principals.entries))
	}
	if limit := int64(300e6) * int64(n) / 100_000; used > limit {
		t.Errorf("%d octets, the limit is %d", used, limit)
	}
	runtime.KeepAlive(d)
}

// fill makes n principals: a third organisations, a third sources, a third domains.
func fill(d *Detector, n, rounds int) {
	for round := range rounds {
		for i := range n/3 + 1 {
			d.Observe(Event{Time: monday.Add(time.Duration(round)*time.Hour + time.Duration(i)*10*time.Millisecond), What: Sent, Org: fmt.Sprint("organisation", i), Source: "office",
				From: fmt.Sprintf("person%d@organisation%d.example", round, i), Rcpt: []string{fmt.Sprintf("r%d@partner.example", round)}, Peer: netip.AddrFrom4([4]byte{192, 0, 2, byte(round)}),
				Print: ledger.Print{Text: sumOf(fmt.Sprint(i, round)), IDHost: fmt.Sprintf("mail%d.organisation%d.example", round, i)}})
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	d := New(Options{})
	fill(d, 100_000, 1)
	events := make([]Event, 4096)
	for i := range events {
		events[i] = Event{What: Sent, Org: fmt.Sprint("organisation", i*7%33_000), Source: "office", From: fmt.Sprintf("person%d@organisation%d.example", i%9, i*7%33_000),
			Rcpt: []string{stranger(i), stranger(i + 1)}, MailFrom: "a@elsewhere.example", Peer: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
			Print: ledger.Print{Text: sumOf(fmt.Sprint(i)), Signature: uint64(i), Hosts: []string{fmt.Sprintf("www.h%d.example", i%99)}, IDHost: "mail.elsewhere.example"}}
	}
	now := monday.Add(24 * time.Hour)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e := events[i%len(events)]
		now = now.Add(10 * time.Millisecond)
		e.Time = now
		d.Observe(e)
	}
}

func BenchmarkObserveAttack(b *testing.B) {
	d := New(Options{})
	now := monday
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(10 * time.Millisecond)
		d.Observe(Event{Time: now, What: Sent, Org: "acme", Source: "office", From: "admin_support" + random(i) + "@acme.example", Rcpt: []string{stranger(i)}, ConnectingIP: "203.0.113.9",
			Print: ledger.Print{Text: uint64(i % 3), Hosts: []string{"quiz.example"}}})
	}
}

func FuzzRestore(f *testing.F) {
	d := New(Options{})
	f.Add(unsealed(d.Snapshot()))
	now := monday
	for i := range 60 {
		now = now.Add(time.Minute)
		d.Observe(Event{Time: now, What: Sent, Org: "acme", Source: "office", From: "admin_support" + random(i) + "@acme.example", Rcpt: []string{stranger(i)}, ConnectingIP: "203.0.113.9",
			Print: ledger.Print{Text: 3, Signature: 5, Hosts: []string{"quiz.example"}, IDHost: "x.example"}})
		d.Observe(Event{Time: now, What: Refused, Claimed: "acme", From: "ceo@acme.example", Tenant: "t", Reason: mail.ReasonTenantNotAuthorized})
	}
	f.Add(unsealed(d.Snapshot()))
	f.Fuzz(func(t *testing.T, body []byte) {
		state := append([]byte(snapshotHead), body...)
		state = binary.LittleEndian.AppendUint32(state, crc32.ChecksumIEEE(state))
		d := New(Options{})
		if err := d.Restore(state); err != nil {
			if len(d.principals.entries) != 0 {
				t.Fatal("changed by what could not be read")
			}
			return
		}
		for i := range 40 {
			d.Observe(Event{Time: monday.Add(time.Duration(i) * time.Hour), What: Sent, Org: "acme", Source: "office", From: "admin_support" + random(i) + "@acme.example", Rcpt: []string{stranger(i)}})
			d.Observe(Event{Time: monday.Add(time.Duration(i) * time.Hour), What: Refused, Claimed: "acme", From: "ceo@acme.example", Tenant: "t", Reason: mail.ReasonTenantNotAuthorized})
		}
		again := New(Options{})
		if err := again.Restore(d.Snapshot()); err != nil {
			t.Fatal(err)
		}
	})
}

// unsealed is a snapshot without its head and checksum, which a fuzzer would not guess.
func unsealed(state []byte) []byte {
	return state[len(snapshotHead) : len(state)-crc32.Size]
}

func TestAnAlteredSnapshotIsRefused(t *testing.T) {
	d := New(Options{})
	d.Observe(Event{Time: monday, What: Sent, Org: "acme", Source: "office", From: "a@acme.example"})
	state := d.Snapshot()
	for i := range state {
		bad := bytes.Clone(state)
		bad[i] ^= 1
		if err := d.Restore(bad); err == nil {
			t.Fatalf("octet %d altered, and restored", i)
		}
		if err := d.Restore(state[:i]); err == nil {
			t.Fatalf("cut at %d, and restored", i)
		}
	}
	if err := d.Restore(state); err != nil {
		t.Error(err)
	}
}
