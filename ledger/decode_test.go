package ledger

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// What is read by hand is what encoding/json reads, field by field, or nothing.
func FuzzReadByHand(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"time":"2026-11-22T12:00:00.5Z","id":"a","event":"accepted","org":"acme","peer":"192.0.2.1","size":7,"proofs":["tenant","dkim"],"generation":3,"attempt":-2}`, `{"mail_from":"a@b.example","rcpt":["x@y.example"],"print":"text=00000000000000ff"}`},
		{`{"time":"2026-11-22T12:00:00+01:00","tls":"a\u003cb","size":01}`, `{}`},
		{`{"Time":"2026-11-22T12:00:00Z"}`, `{"rcpt":[],"reply":null}`},
		{`{"time":"2026-11-22T12:00:00Z","count":1.5}`, `{"from":"a","from":"b"}`},
		{`{"generation":-1}`, `{"print":"text=zz"}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	same := []cmp.Option{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}
	f.Fuzz(func(t *testing.T, open, hidden []byte) {
		var got Fact
		if readObject(open, &got, publicField) {
			var p public
			if err := json.Unmarshal(open, &p); err != nil {
				t.Fatalf("%q is read by hand, but %v", open, err)
			}
			if diff := cmp.Diff(joinPublic(0, &p), got, same...); diff != "" {
				t.Fatalf("%q: -json +by hand\n%s", open, diff)
			}
		}
		got = Fact{}
		if readObject(hidden, &got, personalField) {
			var q personal
			if err := json.Unmarshal(hidden, &q); err != nil {
				t.Fatalf("%q is read by hand, but %v", hidden, err)
			}
			var want Fact
			joinPersonal(&want, &q)
			if diff := cmp.Diff(want, got, same...); diff != "" {
				t.Fatalf("%q: -json +by hand\n%s", hidden, diff)
			}
		}
	})
}

// What Encode writes of ordinary facts is read by hand: the fast way is the usual one.
func TestOrdinaryFactsAreReadByHand(t *testing.T) {
	f := Fact{Event: Accepted, Org: "acme", Size: 4000, Proofs: []string{"tenant"}, Generation: 3, MailFrom: "ann@acme.example", Rcpt: []string{"bob@example.org"}, Reply: "250 2.0.0 Ok", MessageID: "<x@acme.example>", Print: Print{Text: 7}}
	e, err := Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parse(e.Record())
	if err != nil {
		t.Fatal(err)
	}
	var got Fact
	if !readObject(r.public, &got, publicField) || !readObject(r.personal, &got, personalField) {
		t.Errorf("%s %s is left to encoding/json", r.public, r.personal)
	}
}

func BenchmarkDecodeFact(b *testing.B) {
	e, err := Encode(Fact{Event: Accepted, Org: "acme", Source: "exchange", Size: 4000, Proofs: []string{"tenant"}, Generation: 3, MailFrom: "ann@acme.example", From: "ann@acme.example", Rcpt: []string{"bob@example.org"}, MessageID: "<x@acme.example>", TLS: "TLS 1.3"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(1, e.Record()); err != nil {
			b.Fatal(err)
		}
	}
}
