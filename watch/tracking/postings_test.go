package tracking

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/ledger"
)

// termsSlowly are the terms of a fact, put together one by one from what queries use.
func termsSlowly(f *ledger.Fact) (list []string) {
	add := func(kind, value string) {
		if value != "" {
			list = append(list, term(kind, value))
		}
	}
	address := func(kind, domainKind, a string) {
		add(kind, a)
		if at := strings.LastIndexByte(a, '@'); at >= 0 {
			add(domainKind, backwards(a[at+1:]))
		}
	}
	add(kindMessageID, messageID(f.MessageID))
	address(kindMailFrom, kindMailFromDomain, f.MailFrom)
	address(kindFrom, kindFromDomain, f.From)
	add(kindOrg, f.Org)
	add(kindSite, backwards(f.Site))
	for _, text := range []string{f.Reply, f.Detail} {
		for _, w := range wordsOf(text, maxWords) {
			list = append(list, kindWord+w)
		}
	}
	return list
}

func TestWhatIsIndexedIsSpelledAsQueriesAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z0-9.@<>"=é-]{0,60}`), rapid.SampledFrom([]string{"a..b", ".", "@", "x@", "x@.", "Ann@MX.Acme.Example.", strings.Repeat("Long", 200), strings.Repeat("w,", 300), "İ@Ünï.example", "a@\xff.b"}))
		f := ledger.Fact{MessageID: text.Draw(t, "message id"), MailFrom: text.Draw(t, "mail from"), From: text.Draw(t, "from"), Org: text.Draw(t, "org"), Site: text.Draw(t, "site"), Reply: text.Draw(t, "reply"), Detail: text.Draw(t, "detail")}
		var got []string
		s := speller{wanted: everyKind, visit: func(term []byte) { got = append(got, string(term)) }}
		s.fact(&f)
		if diff := cmp.Diff(termsSlowly(&f), got); diff != "" {
			t.Fatalf("%+v: -want +got\n%s", f, diff)
		}
	})
}

// Postings come back from their sheets as they were put in, whatever is asked of them.
func TestPostingsAreReadBackFromTheirSheets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPostings(0)
		want := map[string][]int{}
		rows := rapid.IntRange(1, 300).Draw(t, "rows")
		for row := range rows {
			p.row = row
			for range rapid.IntRange(0, 4).Draw(t, "terms") {
				term := rapid.StringMatching(`[a-c]{1,3}`).Draw(t, "term")
				if rapid.Bool().Draw(t, "long") {
					term = strings.Repeat("x", 900) + term
				}
				if list := want[term]; len(list) == 0 || list[len(list)-1] != row {
					want[term] = append(list, row)
				}
				p.post([]byte(term))
			}
		}
		b := batch{rows: rows}
		sheets := p.sheets()
		for _, s := range sheets {
			b.firsts = append(b.firsts, s.first)
		}
		again, err := readFirsts(appendFirsts(nil, b.firsts))
		if err != nil || !slices.Equal(again, b.firsts) {
			t.Fatalf("%q is read back as %q, %v", b.firsts, again, err)
		}
		asked := rapid.SampledFrom([]span{exactly("a"), exactly("abc"), exactly("zz"), beginning("a"), beginning("x"), beginning("ab"), exactly("A")}).Draw(t, "span")
		low, high := asked.bounds()
		var got, right rowSet
		first, next := b.sheetsOf(low, high)
		for _, s := range sheets[first:next] {
			if err := within(s.data, low, high, func(list []byte) error { return got.addAll(list, b) }); err != nil {
				t.Fatal(err)
			}
		}
		for term, list := range want {
			for _, row := range list {
				if asked.has([]byte(term)) {
					right.add(row)
				}
			}
		}
		if got != right {
			t.Fatalf("%+v has %v, not %v", asked, slices.Collect(got.all(true)), slices.Collect(right.all(true)))
		}
	})
}

// Whatever stands in a damaged sheet is an error or rows of the batch.
func TestNoSheetIsTooDamagedToBeRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "sheet")
		var rows rowSet
		err := within(data, "", "\xff", func(list []byte) error { return rows.addAll(list, batch{rows: 100}) })
		for row := range rows.all(true) {
			if row >= 100 {
				t.Fatalf("row %d of 100, %v", row, err)
			}
		}
		if _, err := readFirsts(data); err != nil && !errors.Is(err, errSheet) {
			t.Fatal(err)
		}
	})
}

// While one batch is written the next is read: none is lost or taken twice, neither when
// the index follows nor when it is made again, and what cannot be read is passed over.
func TestBatchesThatAreReadAheadHoldEveryFactOnce(t *testing.T) {
	const facts = 2*maxBatch + 700
	var all records
	for m := 0; len(all) < facts; m++ {
		for _, f := range typical(m) {
			all.add(f)
		}
	}
	all[7], all[maxBatch], all[maxBatch+1] = nil, nil, []byte("no record")
	i := indexed(t, t.TempDir(), &all)
	check := func(when string) {
		t.Helper()
		next := uint64(0)
		for _, f := range found(t, i, "", Page{Ascending: true, Limit: MaxPage}) {
			for next == 7 || next == maxBatch || next == maxBatch+1 {
				next++
			}
			if f.Offset != next {
				t.Fatalf("%s: fact %d follows where %d should", when, f.Offset, next)
			}
			next++
		}
		if next != uint64(len(all)) {
			t.Fatalf("%s: it ends at %d of %d", when, next, len(all))
		}
		if got := found(t, i, fmt.Sprintf("message_id:%d.%d@org%d.example", facts/3-1, (facts/3-1)*7, (facts/3-1)%97), Page{}); len(got) != 1 {
			t.Errorf("%s: one of the last messages is found %d times", when, len(got))
		}
	}
	check("when it has followed")
	for _, p := range i.all() {
		if err := i.drop(p, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Sweep(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	check("when it was made again")
	if s := i.Status(); len(s.Gaps) > 0 || s.Behind {
		t.Errorf("%+v", s)
	}
}
