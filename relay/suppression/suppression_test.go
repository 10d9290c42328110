package suppression

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

var (
	rule = org.Suppression{HardBounces: 2, BounceFor: 90 * 24 * time.Hour, ComplaintFor: 365 * 24 * time.Hour}
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

const day = 24 * time.Hour

func bounced(n int, since time.Time) Mark {
	return Mark{Address: "bob@globex.example", Reason: HardBounce, Class: "user_unknown", About: mail.NewID(since.Add(time.Duration(n) * time.Second)), Since: since, Until: since.Add(rule.BounceFor)}
}

func complained(since time.Time) Mark {
	return Mark{Address: "bob@globex.example", Reason: Complaint, Since: since, Until: since.Add(rule.ComplaintFor)}
}

func TestAnAddressIsSuppressedOnceTheRuleIsMet(t *testing.T) {
	for _, test := range []struct {
		name       string
		marks      []Mark
		at         time.Time
		suppressed bool
		reason     Reason
		until      time.Time
	}{
		{"no marks", nil, noon, false, "", time.Time{}},
		{"one hard bounce", []Mark{bounced(0, noon)}, noon, false, HardBounce, noon.Add(90 * day)},
		{"two", []Mark{bounced(0, noon), bounced(1, noon.Add(day))}, noon.Add(day), true, HardBounce, noon.Add(90 * day)},
		{"two, one of them over", []Mark{bounced(0, noon), bounced(1, noon.Add(day))}, noon.Add(90 * day), false, HardBounce, noon.Add(91 * day)},
		{"three: one may end", []Mark{bounced(0, noon), bounced(1, noon.Add(day)), bounced(2, noon.Add(2*day))}, noon.Add(90 * day), true, HardBounce, noon.Add(91 * day)},
		{"a complaint", []Mark{complained(noon)}, noon, true, Complaint, noon.Add(365 * day)},
		{"a complaint that is over", []Mark{complained(noon)}, noon.Add(365 * day), false, "", time.Time{}},
		{"both: the later end counts", []Mark{complained(noon), bounced(0, noon.Add(300*day)), bounced(1, noon.Add(300*day))}, noon.Add(300 * day), true, Complaint, noon.Add(390 * day)},
		{"a person's", []Mark{{Address: "bob@globex.example", Reason: Manual, Since: noon, Until: noon.Add(day)}}, noon, true, Manual, noon.Add(day)},
		{"of tomorrow", []Mark{complained(noon)}, noon.Add(-day), false, "", time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := Judge(rule, test.marks, test.at)
			if e.Suppressed != test.suppressed || e.Reason != test.reason || !e.Until.Equal(test.until) {
				t.Errorf("%+v", e)
			}
		})
	}
}

// Whatever the marks: once the time an entry names has come, it is not suppressed
// by the marks of before.
func TestEveryEntryEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var marks []Mark
		for i := range rapid.IntRange(0, 6).Draw(t, "marks") {
			since := noon.Add(time.Duration(rapid.IntRange(-100, 0).Draw(t, "since")) * day)
			if rapid.Bool().Draw(t, "complaint") {
				marks = append(marks, complained(since))
			} else {
				marks = append(marks, bounced(i, since))
			}
		}
		r := rule
		r.HardBounces = rapid.IntRange(1, 4).Draw(t, "rule")
		e := Judge(r, marks, noon)
		if e.Suppressed && (!e.Until.After(noon) || Judge(r, marks, e.Until).Suppressed || !Judge(r, marks, e.Until.Add(-1)).Suppressed) {
			t.Fatalf("%+v", e)
		}
	})
}

func newList() *List { return New(memory.New(), []byte("a secret of the relay's own, long")) }

func (l *List) put(t testing.TB, o org.ID, marks ...Mark) {
	t.Helper()
	var b custody.Batch
	for _, m := range marks {
		r, err := l.Record(o, m)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(r.Key, "bob") || strings.Contains(r.Key, "globex.example") {
			t.Errorf("the key %q tells the address", r.Key)
		}
		b.Put = append(b.Put, r)
	}
	if err := l.Put(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
}

func (l *List) look(t testing.TB, o org.ID, address string, now time.Time) Entry {
	t.Helper()
	e, err := l.Look(context.Background(), o, rule, address, now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAListIsAnOrganisationsOwn(t *testing.T) {
	l := newList()
	l.put(t, "acme", complained(noon))
	if !l.look(t, "acme", "BOB@globex.example", noon).Suppressed {
		t.Error("case matters")
	}
	for _, other := range []org.ID{"acme2", "acm", "globex"} {
		if e := l.look(t, other, "bob@globex.example", noon); len(e.Marks) > 0 {
			t.Errorf("%s: %+v", other, e)
		}
	}
	if e := l.look(t, "acme", "carol@globex.example", noon); len(e.Marks) > 0 {
		t.Errorf("%+v", e)
	}
}

func TestTheSameReportTwiceIsOneMark(t *testing.T) {
	l, m := newList(), bounced(0, noon)
	l.put(t, "acme", m)
	l.put(t, "acme", m)
	if e := l.look(t, "acme", m.Address, noon); e.Suppressed || len(e.Marks) != 1 {
		t.Errorf("%+v", e)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	l := newList()
	l.put(t, "acme", bounced(0, noon), bounced(1, noon), complained(noon))
	l.put(t, "globex", complained(noon))
	tell := func(int) custody.Batch { return custody.Batch{} }
	if n, err := l.Remove(t.Context(), "acme", "Bob@globex.example", tell); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := l.Remove(t.Context(), "acme", "bob@globex.example", tell); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if len(l.look(t, "acme", "bob@globex.example", noon).Marks) != 0 || !l.look(t, "globex", "bob@globex.example", noon).Suppressed {
		t.Error("not removed, or another's removed")
	}
}

func TestListsComeInPagesAndMarksAreSwept(t *testing.T) {
	l := newList()
	for i := range 25 {
		m := complained(noon)
		m.Address = fmt.Sprintf("user%d@globex.example", i)
		if i%5 == 0 {
			m = bounced(i, noon)
			m.Address = fmt.Sprintf("user%d@globex.example", i)
		}
		l.put(t, "acme", m)
	}
	for _, test := range []struct {
		pending bool
		want    int
	}{{false, 20}, {true, 25}} {
		seen, next := map[string]bool{}, ""
		for pages := 0; ; pages++ {
			list, after, err := l.Entries(t.Context(), "acme", rule, test.pending, next, 7, noon)
			if err != nil || len(list) > 7 || pages > 10 {
				t.Fatalf("%d entries on page %d, %v", len(list), pages, err)
			}
			for _, e := range list {
				seen[e.Address] = true
			}
			if next = after; next == "" {
				break
			}
		}
		if len(seen) != test.want {
			t.Errorf("pending %v: %d addresses, want %d", test.pending, len(seen), test.want)
		}
	}
	if n, err := l.Sweep(t.Context(), nil, noon.Add(100*day)); n != 5 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if n, err := l.Sweep(t.Context(), func(o org.ID) bool { return o == "acme" }, noon); n != 20 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
}

func TestWhatIsNoMarkIsNotRecorded(t *testing.T) {
	l := newList()
	good := bounced(0, noon)
	for name, change := range map[string]func(*Mark){
		"no address":  func(m *Mark) { m.Address = "" },
		"no time":     func(m *Mark) { m.Since = time.Time{} },
		"no end":      func(m *Mark) { m.Until = m.Since },
		"no message":  func(m *Mark) { m.About = "../x" },
		"no reason":   func(m *Mark) { m.Reason = "" },
		"a wild word": func(m *Mark) { m.Reason = "x/y" },
	} {
		m := good
		change(&m)
		if r, err := l.Record("acme", m); !errors.Is(err, ErrMark) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := l.Record("", good); !errors.Is(err, ErrMark) {
		t.Error("no organisation")
	}
}
