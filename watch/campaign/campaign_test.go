package campaign

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/watch/detect"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// attempt is the i-th refused message of the campaign of 2024: many tenants, many
// victims, a few texts.
func attempt(i int) detect.Event {
	return detect.Event{
		Time: noon.Add(time.Duration(i) * time.Second), What: detect.Refused, ID: mail.ID(fmt.Sprintf("id%d", i)), Claimed: fmt.Sprintf("org%d", i%7),
		From: fmt.Sprintf("admin_supportx%d@victim%d.example", i, i%7), Rcpt: []string{"someone@gmail.com"}, Count: 1,
		Tenant: fmt.Sprintf("tenant-%d", i%100), Reason: mail.ReasonTenantNotAuthorized,
		Peer: netip.MustParseAddr("192.0.2.1"), Print: ledger.Print{Text: uint64(1 + i%3), Hosts: []string{"quiz.example"}},
	}
}

func finding(id string, org string, at time.Time, shares ...string) detect.Finding {
	return detect.Finding{
		ID: id, Kind: detect.Family, Scope: detect.Scope{Org: org, Source: "office"}, Score: 0.9, First: at, Last: at, Messages: 20, Left: 20,
		Sentence: `Source "office" of ` + org + ` writes as 20 made-up addresses that begin with "admin_support".`,
		Propose:  detect.Action{Step: detect.Hold, Scope: detect.Scope{Org: org, Source: "office"}}, Shares: shares, IDs: []string{"sample"},
	}
}

func TestTheCampaignOf2024IsOneIncidentToldAFewTimes(t *testing.T) {
	g := New(Options{})
	d := detect.New(detect.Options{})
	told := map[Change]int{}
	for i := range 3000 {
		e := attempt(i)
		_, change := g.Refused(e)
		told[change]++
		for _, f := range d.Observe(e) {
			_, change := g.Add(f)
			told[change]++
		}
	}
	list := g.List()
	if len(list) != 1 || told[Opened] != 1 || told[Grew]+told[Merged] > 20 {
		t.Fatalf("%d campaigns, told %v", len(list), told)
	}
	c := list[0]
	if c.Refused < 2900 || c.Refused > 3000 || c.Left != 0 || c.Messages != c.Refused || len(c.Organisations) != 7 || len(c.Tenants) != 100 || len(c.Domains) != 7 {
		t.Errorf("%+v", c)
	}
	if !slices.Contains(c.Hosts, "quiz.example") || len(c.Addresses) != 0 {
		t.Errorf("hosts %q, addresses %q: a provider's server is nobody's", c.Hosts, c.Addresses)
	}
	ended := g.Tick(noon.Add(12 * time.Hour))
	if len(ended) != 1 || ended[0].Change != Ended || ended[0].Campaign.Open || !ended[0].Campaign.End.Equal(c.Last) {
		t.Errorf("%+v", ended)
	}
	if again := g.Tick(noon.Add(13 * time.Hour)); len(again) != 0 {
		t.Errorf("ended twice: %+v", again)
	}
}

func TestAFewRefusalsAreNoCampaign(t *testing.T) {
	g := New(Options{})
	for i := range 49 {
		if c, change := g.Refused(attempt(7 * i)); change != Unchanged || c.ID != "" {
			t.Fatalf("%d: %v %+v", i, change, c)
		}
	}
	ordinary := attempt(0)
	ordinary.Reason = mail.ReasonRateLimited
	for range 100 {
		if _, change := g.Refused(ordinary); change != Unchanged {
			t.Fatal("what is refused for its rate is no attempt in a name")
		}
	}
}

func TestANoteJoinsACampaignAndOpensNone(t *testing.T) {
	g := New(Options{})
	note := finding("f1", "acme", noon, "text:1")
	note.Score = 0.3
	if _, change := g.Add(note); change != Unchanged || len(g.List()) != 0 {
		t.Fatal("a note opened a campaign")
	}
	first, _ := g.Add(finding("f2", "acme", noon, "text:1"))
	joined, _ := g.Add(note)
	if joined.ID != first.ID || joined.Messages != 20 || joined.Left != 20 {
		t.Errorf("%+v", joined)
	}
}

func TestWhatStrangersHaveInCommonMergesAndSaysWhy(t *testing.T) {
	g := New(Options{})
	a, change := g.Add(finding("f1", "acme", noon, "text:1"))
	if change != Opened {
		t.Fatal(change)
	}
	b, change := g.Add(finding("f2", "beta", noon.Add(time.Minute), "text:2"))
	if change != Opened || a.ID == b.ID {
		t.Fatal(change, a.ID, b.ID)
	}
	c, change := g.Add(finding("f3", "gamma", noon.Add(2*time.Minute), "text:1", "text:2"))
	if change != Merged || c.ID != a.ID || len(g.List()) != 1 || c.Left != 60 || len(c.Organisations) != 3 {
		t.Fatalf("%v %+v", change, c)
	}
	if len(c.Merged) != 1 || c.Merged[0].ID != b.ID || c.Merged[0].By != "text:2" {
		t.Errorf("%+v", c.Merged)
	}
	if got, ok := g.Get(b.ID); !ok || got.ID != a.ID {
		t.Error("the other's ID is not found any more")
	}
}

func TestAfterAQuietTimeItIsAnotherCampaign(t *testing.T) {
	g := New(Options{})
	a, _ := g.Add(finding("f1", "acme", noon, "text:1"))
	g.Tick(noon.Add(7 * time.Hour))
	b, change := g.Add(finding("f2", "acme", noon.Add(8*time.Hour), "text:1"))
	if change != Opened || a.ID == b.ID {
		t.Error(change, a.ID, b.ID)
	}
	g.Tick(noon.Add(100 * 24 * time.Hour))
	if len(g.List()) != 1 {
		t.Errorf("%d are remembered, the first ended more than 90 days ago", len(g.List()))
	}
}

func TestAHostThatEverybodyHasGroupsNothingInTheEnd(t *testing.T) {
	g := New(Options{Quiet: time.Hour})
	for i := range 10 {
		at := noon.Add(time.Duration(i) * 50 * time.Minute)
		g.Tick(at)
		g.Add(finding(fmt.Sprint("f", i), fmt.Sprint("org", i), at, fmt.Sprint("text:", i), "host:common.example"))
	}
	if n := len(g.List()); n < 1 {
		t.Errorf("%d campaigns", n)
	}
}

func TestThePageIsOneText(t *testing.T) {
	g := New(Options{})
	for i := range 120 {
		g.Refused(attempt(i))
	}
	f := finding("f-1", "org1", noon.Add(150*time.Second), "text:0000000000000001", "family:admin_support", "peer:203.0.113.0/24")
	c, _ := g.Add(f)
	text := c.Text()
	golden := filepath.Join("testdata", "page.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s", diff)
	}
	out, err := json.Marshal(c)
	if err != nil || !bytes.Contains(out, []byte(`"left":20`)) {
		t.Errorf("%v %s", err, out)
	}
}

func TestHostileTextsNeverReachThePage(t *testing.T) {
	g := New(Options{Threshold: 1})
	e := attempt(0)
	e.From = "x@\x1b[2J\u202e" + strings.Repeat("a", 5000) + "\nrefused 0"
	e.Claimed, e.Tenant, e.ID = "\x00org\r\n", "<script>\x07\xff", "\x1b]0;"
	e.Print.Hosts = []string{"\x1b[31m.example"}
	_, _ = g.Refused(e)
	f := finding("\x1b", "a\nb", noon, "tenant:<script>\x07\xff", "host:\x9b")
	f.Sentence = "x\x1b[2J\n" + strings.Repeat("y", 10_000)
	c, _ := g.Add(f)
	text := c.Text()
	for _, r := range text {
		if r != '\n' && (r < ' ' || r > '~') {
			t.Fatalf("%q is in the page", r)
		}
	}
	if len(text) > 20_000 {
		t.Errorf("%d octets", len(text))
	}
}

func TestAFloodOfKeysTakesBoundedMemory(t *testing.T) {
	g := New(Options{Campaigns: 50})
	for i := range 60_000 {
		e := attempt(i)
		e.Claimed, e.From, e.Tenant = fmt.Sprint("o", i), fmt.Sprintf("a@d%d.example", i), fmt.Sprint("t", i)
		e.Print = ledger.Print{Text: uint64(i + 1), Hosts: []string{fmt.Sprintf("h%d.example", i)}}
		e.Count = 1 + i%2*60
		g.Refused(e)
	}
	if len(g.campaigns) > 50 || len(g.keys) > maxKeys || len(g.pending) > maxPending+8 || len(g.merged) > 100 {
		t.Errorf("%d campaigns, %d keys, %d pending, %d merged", len(g.campaigns), len(g.keys), len(g.pending), len(g.merged))
	}
	if size := len(g.Snapshot()); size > 20<<20 {
		t.Errorf("a snapshot of %d octets", size)
	}
}

// step is something that happens to a Grouper.
type step struct {
	finding *detect.Finding
	refused *detect.Event
	tick    time.Time
}

func steps() *rapid.Generator[[]step] {
	return rapid.Custom(func(t *rapid.T) (all []step) {
		now := noon
		for range rapid.IntRange(1, 120).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "gap")) * time.Second)
			switch k := rapid.IntRange(0, 9).Draw(t, "what"); {
			case k == 0:
				all = append(all, step{tick: now})
			case k < 4:
				f := finding(fmt.Sprint("f", rapid.IntRange(0, 9).Draw(t, "id")), fmt.Sprint("o", rapid.IntRange(0, 3).Draw(t, "org")), now,
					fmt.Sprint("text:", rapid.IntRange(0, 5).Draw(t, "text")), fmt.Sprint("host:", rapid.IntRange(0, 2).Draw(t, "host")))
				all = append(all, step{finding: &f})
			default:
				e := attempt(rapid.IntRange(0, 50).Draw(t, "i"))
				e.Time, e.Count = now, rapid.IntRange(1, 40).Draw(t, "count")
				all = append(all, step{refused: &e})
			}
		}
		return all
	})
}

// do takes a step and gives what came of it.
func (s step) do(g *Grouper) (out []Update) {
	switch {
	case s.finding != nil:
		c, change := g.Add(*s.finding)
		return []Update{{c, change}}
	case s.refused != nil:
		c, change := g.Refused(*s.refused)
		return []Update{{c, change}}
	}
	return g.Tick(s.tick)
}

func TestARestartAtAnyPointChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(Options{}), New(Options{})
		for i, s := range steps().Draw(t, "steps") {
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				again := New(Options{})
				if err := again.Restore(b.Snapshot()); err != nil {
					t.Fatal(err)
				}
				b = again
			}
			if diff := cmp.Diff(s.do(a), s.do(b), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("step %d:\n%s", i, diff)
			}
		}
	})
}

func TestEveryMessageOfACampaignIsCountedOnceAndNoneIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Options{Threshold: 1})
		refused := 0
		for _, s := range steps().Draw(t, "steps") {
			if s.refused != nil {
				refused += s.refused.Count
				s.do(g)
			}
		}
		sum := 0
		for _, c := range g.List() {
			sum += c.Refused
			if c.Messages != c.Refused+c.Left || c.Last.Before(c.Start) || c.PeakMessages > c.Messages {
				t.Fatalf("%+v", c)
			}
		}
		if sum != refused {
			t.Fatalf("%d were refused, campaigns have %d", refused, sum)
		}
	})
}

func FuzzRestore(f *testing.F) {
	g := New(Options{})
	for i := range 60 {
		g.Refused(attempt(i))
	}
	g.Add(finding("f1", "acme", noon, "text:1"))
	f.Add(g.Snapshot())
	f.Add([]byte(`{"version":1,"now":"2026-06-01T12:00:00Z"}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, state []byte) {
		g := New(Options{})
		if err := g.Restore(state); err != nil {
			if len(g.campaigns) != 0 {
				t.Fatal("changed by what could not be read")
			}
			return
		}
		for i := range 60 {
			g.Refused(attempt(i))
		}
		g.Add(finding("f1", "acme", noon, "text:1", "host:quiz.example"))
		g.Tick(noon.Add(24 * time.Hour))
		for _, c := range g.List() {
			_ = c.Text()
		}
	})
}
