package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"anechoic/ledger"
	"anechoic/mail"
)

var (
	ctx  = context.Background()
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

// full is a fact with every field set.
func full(n int) ledger.Fact {
	return ledger.Fact{
		Time: noon.Add(time.Duration(n)), ID: mail.NewID(noon), Event: ledger.Refused, Org: "acme", ClaimedOrg: "globex", Source: "m365",
		Direction: "outbound", Peer: netip.MustParseAddr("192.0.2.7"), Helo: "mail.acme.test", MailFrom: "bounce@acme.test", From: "ann@acme.test",
		Rcpt: []string{"bob@else.test", "eve@else.test"}, Size: int64(n), Disposition: ledger.DispositionRefused, Identity: ledger.Contradicted,
		Reason: mail.ReasonFromNotOwned, Class: "policy", Proofs: []string{"tenant", "dkim"}, Origin: "hosted", Results: "spf=pass dmarc=pass", Tenant: "11111111-1111-4111-8111-111111111111",
		Originator: "acme.test", ConnectingIP: "198.51.100.7", Generation: 7, Site: "mx.else.test", Reply: "550 5.7.1 no \"quotes\" \x01\u2028<&>", Attempt: 2,
		Egress: "192.0.2.9", TLS: "TLS1.3 AES", Detail: "expected acme", Count: 3, MessageID: "<1@acme.test>",
		Print: ledger.Print{Text: 7, Shape: 8, Signature: 9, Hosts: []string{"a.test", "b.test"}, IDHost: "acme.test"},
	}
}

// store is a ledger in a map, for damage to be done to.
type store map[string][]byte

func (s store) Scan(_ context.Context, prefix, from string, visit func(string, []byte) bool) error {
	var keys []string
	for k := range s {
		if strings.HasPrefix(k, prefix) && k >= from {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !visit(k, s[k]) {
			break
		}
	}
	return nil
}

// fill writes facts and seals every so many of them.
func fill(t testing.TB, facts, every int) store {
	t.Helper()
	s, sealer := store{}, ledger.NewSealer(ledger.Segment{})
	for n := range facts {
		e, err := ledger.Encode(full(n))
		if err != nil {
			t.Fatal(err)
		}
		offset := sealer.Next()
		s[ledger.FactKey(offset)] = e.Record()
		sealer.Add(e.Leaf(offset))
		if sealer.Pending() == every {
			seal(s, sealer)
		}
	}
	return s
}

func seal(s store, sealer *ledger.Sealer) {
	segment := sealer.Seal(noon)
	s[ledger.SegmentKey(segment.Number)] = segment.Bytes()
}

func verify(t testing.TB, s ledger.Scanner) ledger.Report {
	t.Helper()
	r, err := ledger.Verify(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAFactReadsBackWithEveryField(t *testing.T) {
	want := full(1)
	for f, v := range reflect.ValueOf(want).Fields() {
		if f.Name != "Offset" && v.IsZero() {
			t.Fatalf("full does not set %s: set it, and see that a record keeps it", f.Name)
		}
	}
	e, err := ledger.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ledger.Decode(9, e.Record())
	if err != nil {
		t.Fatal(err)
	}
	want.Offset = 9
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestARecordIsTheJSONThatFactsHave(t *testing.T) {
	for name, f := range map[string]ledger.Fact{"full": full(1), "empty": {Time: noon, Event: ledger.Started}, "far": {Time: time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.FixedZone("x", 3600))}} {
		e, err := ledger.Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ledger.Decode(0, e.Record())
		if err != nil {
			t.Fatal(err)
		}
		f.Time = f.Time.UTC()
		want, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(got)
		if err != nil || !bytes.Equal(want, again) {
			t.Errorf("%s: %s\nread back as %s, %v", name, want, again, err)
		}
	}
}

func TestTheSameFactTwiceHasDifferentCommitments(t *testing.T) {
	a, _ := ledger.Encode(full(1))
	b, _ := ledger.Encode(full(1))
	if a.Leaf(0) == b.Leaf(0) {
		t.Error("a guess at the personal part could be checked against the leaf of another fact")
	}
}

func TestAnErasedFactVerifiesAndHidesWhatWasPersonal(t *testing.T) {
	s := fill(t, 10, 5)
	before := verify(t, s)
	erased, err := ledger.Erase(s[ledger.FactKey(3)])
	if err != nil {
		t.Fatal(err)
	}
	s[ledger.FactKey(3)] = erased
	after := verify(t, s)
	if !after.OK() || after.Head != before.Head || after.Erased != 1 {
		t.Errorf("%+v", after)
	}
	f, err := ledger.Decode(3, erased)
	if err != nil || f.Org != "acme" || f.MailFrom != "" || f.From != "" || f.Rcpt != nil || f.Reply != "" || f.Detail != "" {
		t.Errorf("%+v, %v", f, err)
	}
	for _, word := range []string{"ann@", "bob@", "eve@", "quotes", "expected"} {
		if bytes.Contains(erased, []byte(word)) {
			t.Errorf("the erased record still says %q", word)
		}
	}
	if twice, err := ledger.Erase(erased); err != nil || !bytes.Equal(twice, erased) {
		t.Errorf("erasing again: %v", err)
	}
}

func TestAWholeLedgerVerifies(t *testing.T) {
	for _, facts := range []int{0, 1, 2, 3, 5, 8, 13, 31, 32, 33} {
		for _, every := range []int{1, 2, 3, 4, 7, 16} {
			r := verify(t, fill(t, facts, every))
			if !r.OK() || r.Facts != uint64(facts) || r.Segments != uint64(facts/every) || r.Unsealed != uint64(facts%every) {
				t.Fatalf("%d facts sealed every %d: %+v", facts, every, r)
			}
		}
	}
}

func TestMoreSegmentsThanOnePageVerify(t *testing.T) {
	if r := verify(t, fill(t, 1025, 2)); !r.OK() || r.Segments != 512 || r.Unsealed != 1 {
		t.Errorf("%+v", r)
	}
}

func TestVerifyFindsAnyChangedOctet(t *testing.T) {
	whole := fill(t, 4, 2)
	for key, value := range whole {
		for i := range value {
			damaged := cloneStore(whole)
			damaged[key][i] ^= 1 << rand.IntN(8)
			if r := verify(t, damaged); r.OK() {
				t.Errorf("octet %d of %s was changed, and the ledger verifies", i, key)
			}
		}
	}
}

func cloneStore(s store) store {
	c := store{}
	for k, v := range s {
		c[k] = bytes.Clone(v)
	}
	return c
}

func TestVerifyNamesTheFirstBadPlace(t *testing.T) {
	fact, segment := ledger.FactKey, ledger.SegmentKey
	swap := func(s store, a, b string) { s[a], s[b] = s[b], s[a] }
	for name, c := range map[string]struct {
		damage func(store)
		want   string
	}{
		"a fact was removed":             {func(s store) { delete(s, fact(6)) }, "fact 6 is missing"},
		"the last sealed one was":        {func(s store) { delete(s, fact(11)); delete(s, fact(12)); delete(s, fact(13)) }, "fact 11 is missing"},
		"two facts changed places":       {func(s store) { swap(s, fact(1), fact(2)) }, "facts 0 to 3"},
		"facts of two segments did":      {func(s store) { swap(s, fact(3), fact(4)) }, "facts 0 to 3"},
		"a fact was added between":       {func(s store) { s[fact(6)+"x"] = s[fact(6)] }, "stands in its place"},
		"a segment was removed":          {func(s store) { delete(s, segment(2)) }, "segment 2 is missing"},
		"two segments changed places":    {func(s store) { swap(s, segment(1), segment(2)) }, "segment 1 says that it is number 2"},
		"the first fact was removed":     {func(s store) { delete(s, fact(0)) }, "fact 0 is missing"},
		"an unsealed fact was removed":   {func(s store) { delete(s, fact(12)) }, "fact 12 is missing"},
		"an unsealed fact is unreadable": {func(s store) { s[fact(12)] = []byte("?") }, "fact 12: "},
		"both segment and later fact":    {func(s store) { s[fact(1)][20] ^= 1; s[segment(3)][5] ^= 1 }, "facts 0 to 3"},
		"a fact, and the next segment":   {func(s store) { s[fact(1)][20] ^= 1; delete(s, segment(2)) }, "facts 0 to 3"},
		"a segment was resealed": {func(s store) {
			other := ledger.NewSealer(ledger.Segment{})
			for n := range uint64(4) {
				e, _ := ledger.Encode(ledger.Fact{Time: noon, Event: ledger.Started})
				s[fact(n)] = e.Record()
				other.Add(e.Leaf(n))
			}
			seal(s, other)
		}, "segment 2 does not follow the one before"},
	} {
		t.Run(name, func(t *testing.T) {
			s := fill(t, 14, 4)
			c.damage(s)
			if r := verify(t, s); !strings.Contains(r.Bad, c.want) && !strings.Contains(r.Bad, "fact 1: ") {
				t.Errorf("%q, want %q", r.Bad, c.want)
			}
		})
	}
}

func TestASealerGoesOnWhereTheLastSegmentEnded(t *testing.T) {
	s := fill(t, 8, 4)
	last, err := ledger.ParseSegment(s[ledger.SegmentKey(2)])
	if err != nil {
		t.Fatal(err)
	}
	sealer := ledger.NewSealer(last)
	e, _ := ledger.Encode(full(8))
	s[ledger.FactKey(sealer.Next())] = e.Record()
	sealer.Add(e.Leaf(sealer.Next()))
	seal(s, sealer)
	if r := verify(t, s); !r.OK() || r.Segments != 3 || r.Facts != 9 {
		t.Errorf("%+v", r)
	}
}

func TestAGapThatWasSkippedIsReported(t *testing.T) {
	s := fill(t, 4, 4)
	last, _ := ledger.ParseSegment(s[ledger.SegmentKey(1)])
	sealer := ledger.NewSealer(last)
	sealer.Skip(6)
	e, _ := ledger.Encode(full(6))
	s[ledger.FactKey(6)] = e.Record()
	sealer.Add(e.Leaf(6))
	seal(s, sealer)
	if r := verify(t, s); !strings.Contains(r.Bad, "segment 2 begins at fact 6, but fact 4 is next") {
		t.Errorf("%+v", r)
	}
}

// The root is that of RFC 6962 section 2.1, computed here as it defines it.
func TestTheRootIsTheMerkleTreeHashOfRFC6962(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 70).Draw(t, "facts")
		sealer := ledger.NewSealer(ledger.Segment{})
		leaves := make([]ledger.Hash, n)
		for i := range leaves {
			e, _ := ledger.Encode(ledger.Fact{Time: noon, Event: ledger.Started, Count: i})
			leaves[i] = e.Leaf(uint64(i))
			sealer.Add(leaves[i])
		}
		if got, want := sealer.Seal(noon).Root, merkle(leaves); got != want {
			t.Fatalf("root of %d leaves is %s, want %s", n, got, want)
		}
	})
}

func TestReadGivesFactsFromAnOffsetOnAndStops(t *testing.T) {
	s := fill(t, 10, 4)
	var got []uint64
	if err := ledger.Read(ctx, s, 3, func(f ledger.Fact) bool { got = append(got, f.Offset); return f.Offset < 6 }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{3, 4, 5, 6}, got); diff != "" {
		t.Error(diff)
	}
	s[ledger.FactKey(5)] = nil
	if err := ledger.Read(ctx, s, 0, func(ledger.Fact) bool { return true }); err == nil || !strings.Contains(err.Error(), ledger.FactKey(5)) {
		t.Errorf("an unreadable fact: %v", err)
	}
}

func TestFilterSelects(t *testing.T) {
	f := full(0)
	domain := func(s string) mail.Domain { d, _ := mail.ParseDomain(s); return d }
	for name, c := range map[string]struct {
		filter ledger.Filter
		want   bool
	}{
		"everything when empty":             {ledger.Filter{}, true},
		"by id":                             {ledger.Filter{ID: f.ID}, true},
		"not another id":                    {ledger.Filter{ID: "other"}, false},
		"by organisation":                   {ledger.Filter{Org: "acme"}, true},
		"by claimed organisation":           {ledger.Filter{Org: "globex"}, true},
		"not another organisation":          {ledger.Filter{Org: "initech"}, false},
		"by sender, without regard to case": {ledger.Filter{Address: "Ann@ACME.test"}, true},
		"by a recipient":                    {ledger.Filter{Address: "eve@else.test"}, true},
		"not another address":               {ledger.Filter{Address: "mallory@else.test"}, false},
		"by domain of a recipient":          {ledger.Filter{Domain: domain("else.test")}, true},
		"not a domain above":                {ledger.Filter{Domain: domain("test")}, false},
		"address and domain of one":         {ledger.Filter{Address: "eve@else.test", Domain: domain("else.test")}, true},
		"not address and domain of two":     {ledger.Filter{Address: "eve@else.test", Domain: domain("acme.test")}, false},
		"by reason and event":               {ledger.Filter{Reason: mail.ReasonFromNotOwned, Event: ledger.Refused}, true},
		"not another reason":                {ledger.Filter{Reason: mail.ReasonMalware}, false},
		"not another event":                 {ledger.Filter{Event: ledger.Accepted}, false},
		"since is included":                 {ledger.Filter{Since: noon}, true},
		"until is not":                      {ledger.Filter{Until: noon}, false},
		"not before since":                  {ledger.Filter{Since: noon.Add(1)}, false},
	} {
		if got := c.filter.Match(f); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	e, _ := ledger.Encode(full(1))
	erased, _ := ledger.Erase(e.Record())
	f.Add(e.Record())
	f.Add(erased)
	f.Add([]byte{1, 0, 0, 0, 2, '{', '}'})
	f.Fuzz(func(t *testing.T, record []byte) {
		if _, err := ledger.Decode(0, record); err != nil {
			return
		}
		leaf, err := ledger.Leaf(0, record)
		if err != nil {
			t.Fatalf("a record that decodes has no leaf: %v", err)
		}
		erased, err := ledger.Erase(record)
		if err != nil {
			t.Fatalf("a record that decodes cannot be erased: %v", err)
		}
		if again, err := ledger.Leaf(0, erased); err != nil || again != leaf {
			t.Fatalf("erasing changed the leaf: %v", err)
		}
	})
}

func FuzzParseSegment(f *testing.F) {
	f.Add(fill(f, 2, 2)[ledger.SegmentKey(1)])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ledger.ParseSegment(b); err == nil && !bytes.Equal(s.Bytes(), b) {
			t.Errorf("%x reads as %+v, which is %x", b, s, s.Bytes())
		}
	})
}

func BenchmarkEncodeFact(b *testing.B) {
	f := full(1)
	b.ReportAllocs()
	for b.Loop() {
		e, err := ledger.Encode(f)
		if err != nil {
			b.Fatal(err)
		}
		_ = e.Leaf(1)
	}
}

func ExampleReport() {
	fmt.Println(ledger.Report{Bad: "fact 7 is missing"}.OK())
	// Output: false
}
