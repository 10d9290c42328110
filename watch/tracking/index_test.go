package tracking

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/org"
)

// filled is an index of n typical messages, all in partitions.
func filled(t *testing.T, n int) (*Index, *records, string) {
	t.Helper()
	all := new(records)
	for m := range n {
		for _, f := range typical(m) {
			all.add(f)
		}
	}
	dir := t.TempDir()
	i, err := Open(Options{Dir: dir, Ledger: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	if err := i.Follow(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return i, all, dir
}

func found(t *testing.T, i *Index, text string, p Page) []ledger.Fact {
	t.Helper()
	q, err := Parse(text, noon)
	if err != nil {
		t.Fatal(err)
	}
	return pages(t, i, q, p)
}

func TestEverySearchGoesByTheKey(t *testing.T) {
	i, _, _ := filled(t, 10)
	for _, text := range []string{sheetsBetween, blockOf} {
		rows, err := i.parts[0].db.Query("EXPLAIN QUERY PLAN " + strings.ReplaceAll(text, "?", "7"))
		plans := ""
		err = each(rows, err, func() error {
			var id, parent, unused int
			var plan string
			err := rows.Scan(&id, &parent, &unused, &plan)
			plans += plan
			return err
		})
		if err != nil || !strings.HasPrefix(plans, "SEARCH") || !strings.Contains(plans, "USING INTEGER PRIMARY KEY") {
			t.Errorf("%s: %q, %v", text, plans, err)
		}
	}
}

// One octet is changed anywhere in a partition; it is found, and made again.
func TestADamagedPartitionIsMadeAgain(t *testing.T) {
	i, all, dir := filled(t, 150)
	want := found(t, i, "", Page{})
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	path := files(dir)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(whole); at += 1 + len(whole)/23 {
		broken := bytes.Clone(whole)
		broken[at] ^= 0x10
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(Options{Dir: dir, Ledger: all})
		if err != nil {
			t.Fatalf("octet %d: %v", at, err)
		}
		if err := j.Sweep(t.Context(), time.Now()); err != nil {
			t.Fatalf("octet %d: %v", at, err)
		}
		for _, text := range []string{"", "org:org3", "to:somebody7@far7.example", "4x7y"} {
			got := found(t, j, text, Page{})
			if text == "" && !cmp.Equal(want, got, cmp.Comparer(func(a, b ledger.Fact) bool { return a.Offset == b.Offset && a.Reply == b.Reply })) {
				t.Fatalf("octet %d: %d facts, not %d", at, len(got), len(want))
			}
			if len(got) == 0 {
				t.Fatalf("octet %d: %q finds nothing", at, text)
			}
		}
		if s := j.Status(); len(s.Gaps) > 0 {
			t.Fatalf("octet %d: gaps %v", at, s.Gaps)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A partition that turns out damaged in a search is read from the ledger at once.
func TestASearchThatMeetsDamageAnswersFromTheLedger(t *testing.T) {
	i, _, _ := filled(t, 100)
	if _, err := i.parts[0].db.Exec(`UPDATE blocks SET data = x'00'`); err != nil {
		t.Fatal(err)
	}
	q, _ := Parse("org:org3", noon)
	a, err := i.Search(t.Context(), q, Page{})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Facts) != 3 || len(a.Statement.Gaps) == 0 || a.Statement.Ended != EndedComplete {
		t.Errorf("%d facts, %+v", len(a.Facts), a.Statement)
	}
	if err := i.Sweep(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if a, err = i.Search(t.Context(), q, Page{}); err != nil || len(a.Facts) != 3 || len(a.Statement.Gaps) > 0 {
		t.Errorf("after it was made again: %d facts, %+v, %v", len(a.Facts), a.Statement, err)
	}
}

func TestPagesStayAsTheyAreWhileFactsComeIn(t *testing.T) {
	i, all, _ := filled(t, 50)
	q, _ := Parse("event:accepted", noon)
	first, err := i.Search(t.Context(), q, Page{Limit: 20})
	if err != nil {
		t.Fatal(err)
	}
	for m := range 50 {
		for _, f := range typical(1000 + m) {
			all.add(f)
		}
	}
	second, err := i.Search(t.Context(), q, Page{Limit: 20, After: first.Next})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := second.Facts[0].Offset, first.Facts[19].Offset-3; got != want {
		t.Errorf("the second page begins at %d, not %d", got, want)
	}
}

// What would look at everything stops, says so, and goes on from there.
func TestASearchKeepsToItsBudget(t *testing.T) {
	i, _, _ := filled(t, 200)
	if err := i.drop(i.parts[0], nil); err != nil {
		t.Fatal(err)
	}
	q, _ := Parse("word:nothing", noon)
	a, err := i.Search(t.Context(), q, Page{Scan: 50})
	if err != nil {
		t.Fatal(err)
	}
	s := a.Statement
	if s.Ended != EndedBudget || a.Next == "" || s.From != 550 || s.To != 600 || !strings.Contains(s.String(), "stopped after 50 facts") {
		t.Errorf("next %q, %s", a.Next, s)
	}
	if got := found(t, i, "word:nothing", Page{Scan: 50}); len(got) != 0 {
		t.Errorf("%d facts", len(got))
	}
}

func TestAnIndexOfAnotherLedgerIsNotBelieved(t *testing.T) {
	i, _, dir := filled(t, 50)
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	other := new(records)
	for m := range 60 {
		for _, f := range typical(70_000 + m) {
			other.add(f)
		}
	}
	j, err := Open(Options{Dir: dir, Ledger: other})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if got := found(t, j, "", Page{}); len(got) != 180 || !strings.Contains(got[0].Reply, "4X70059Y") {
		t.Errorf("%d facts", len(got))
	}
}

func TestWhatIsKeptNoLongerIsNeitherFoundNorOnDisk(t *testing.T) {
	all := new(records)
	now := time.Now().UTC()
	for day := 9; day >= 0; day-- {
		for n := range 4 {
			all.add(ledger.Fact{Time: now.AddDate(0, 0, -day), Event: ledger.Delivered, Org: []string{"acme", "globex"}[n%2], Rcpt: []string{fmt.Sprintf("r%d@example.org", day)}})
		}
	}
	policy := Policy{Default: Rule{Mode: Full}}
	dir := t.TempDir()
	i, err := Open(Options{Dir: dir, Ledger: all, Policy: func() Policy { return policy }})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.Follow(t.Context(), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := len(files(dir)); got != 10 {
		t.Errorf("%d partitions of ten days", got)
	}
	policy = Policy{Default: Rule{Mode: Full, Keep: 5*24*time.Hour + time.Hour}, Of: map[org.ID]Rule{"acme": {Mode: Full, Keep: 2*24*time.Hour + time.Hour}}}
	check := func(when string) {
		if a, b := len(found(t, i, "org:acme", Page{})), len(found(t, i, "org:globex", Page{})); a != 3*2 || b != 6*2 {
			t.Errorf("%s: %d of acme, %d of globex", when, a, b)
		}
	}
	check("before the sweep")
	if err := i.Sweep(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	check("after the sweep")
	stored := 0
	for _, p := range i.all() {
		stored += p.size()
	}
	if len(files(dir)) > 7 || stored > 24 {
		t.Errorf("%d files with %d facts", len(files(dir)), stored)
	}
}

func TestExportsHoldEverythingAndNoFormula(t *testing.T) {
	i, all, _ := filled(t, 1200)
	hostile := ledger.Fact{Time: noon, Event: ledger.Refused, From: "=cmd|' /C calc'!A0@acme.example", Reply: "a\x1b[31m\r\n\"b\",c", Detail: " +1", Helo: "@x\u202e"}
	all.add(hostile)
	for _, format := range []string{JSONL, CSV} {
		var b bytes.Buffer
		e, err := NewExporter(&b, format)
		if err != nil {
			t.Fatal(err)
		}
		last := Progress{}
		s, err := i.Export(t.Context(), Query{}, Page{}, e, func(p Progress) { last = p })
		if err != nil {
			t.Fatal(err)
		}
		if last.Facts != 3601 || last.Covered != last.Of || s.Ended != EndedComplete {
			t.Errorf("%s: %+v, %s", format, last, s)
		}
		if format == JSONL {
			if n := strings.Count(b.String(), "\n"); n != 3601 {
				t.Errorf("%d lines", n)
			}
			continue
		}
		rows, err := csv.NewReader(&b).ReadAll()
		if err != nil || len(rows) != 3602 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		for _, cell := range rows[3601] {
			if strings.ContainsAny(cell, "\x1b\r\n\u202e") || strings.IndexAny(strings.TrimSpace(cell), "=+-@") == 0 {
				t.Errorf("the cell %q", cell)
			}
		}
	}
}

func TestSavedSearchesAreKeptForEachOrganisation(t *testing.T) {
	ctx := context.Background()
	s := SavedSearches{Store: memory.New()}
	for _, one := range []Saved{{Name: "bounces", Query: "event:bounced since:24h", Time: noon}, {Org: "acme", Name: "mine", Query: "reason:RELAY_DENIED", Time: noon}} {
		if err := s.Save(ctx, one); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []Saved{{Name: "../x", Query: "a"}, {Name: "x", Query: "form:a"}} {
		if s.Save(ctx, bad) == nil {
			t.Errorf("%+v was saved", bad)
		}
	}
	list, err := s.List(ctx, "acme")
	if err != nil || len(list) != 1 || list[0].Name != "mine" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := s.Get(ctx, "acme", "bounces"); err == nil {
		t.Error("acme sees the operator's search")
	}
	if err := s.Delete(ctx, "", "bounces"); err != nil {
		t.Error(err)
	}
	if err := s.Delete(ctx, "", "bounces"); err == nil {
		t.Error("it was deleted twice")
	}
}
