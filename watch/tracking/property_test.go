package tracking

import (
	"context"
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
	"anechoic/org"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A random world is small, so that random questions find something.
var (
	someOrgs    = []string{"", "acme", "globex"}
	somePeople  = []string{"ann@acme.example", "Ann.B@acme.example", "bob@mail.acme.example", "eve@globex.example", "ann@globex.example", "odd", ""}
	somePeers   = []netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::1")}
	someReasons = []mail.Reason{"", mail.ReasonTenantNotAuthorized, mail.ReasonRelayDenied}
	someEvents  = []ledger.Event{ledger.Accepted, ledger.Refused, ledger.Delivered, ledger.Bounced}
	someSites   = []string{"", "example.net", "mx.example.net"}
	someReplies = []string{"", "250 2.0.0 Ok: queued as 4XyZ", "550 5.1.1 <ann@acme.example>: user unknown", "mailbox of ann full"}
	someIDs     = []mail.ID{"", "a1", "a2", "b1"}
)

func randomFact(t *rapid.T, at time.Time) ledger.Fact {
	f := ledger.Fact{
		Time: at, ID: pick(t, someIDs), Event: pick(t, someEvents), Org: pick(t, someOrgs), Source: pick(t, []string{"", "exchange", "printer"}), Peer: pick(t, somePeers),
		MailFrom: pick(t, somePeople), From: pick(t, somePeople), Reason: pick(t, someReasons), Site: pick(t, someSites), Reply: pick(t, someReplies),
		Disposition: pick(t, []ledger.Disposition{"", ledger.DispositionRefused, ledger.DispositionRelayed}), Tenant: pick(t, []string{"", "T1", "t2"}), MessageID: pick(t, []string{"", "<X1@acme.example>"}),
	}
	if f.Org == "" {
		f.ClaimedOrg = pick(t, someOrgs)
	}
	for range rapid.IntRange(0, 2).Draw(t, "recipients") {
		f.Rcpt = append(f.Rcpt, pick(t, somePeople[:6]))
	}
	return f
}

func pick[T any](t *rapid.T, from []T) T { return rapid.SampledFrom(from).Draw(t, "one") }

// question is a query, and the same said in another, obvious way.
type question struct {
	text  string
	right func(f ledger.Fact) bool
}

func randomQuestion(t *rapid.T) question {
	q := question{right: func(ledger.Fact) bool { return true }}
	for range rapid.IntRange(0, 2).Draw(t, "conditions") {
		one := pick(t, questions())
		if strings.Contains(q.text, one.text) {
			continue // a time is given once
		}
		before := q.right
		q.text += " " + one.text
		q.right = func(f ledger.Fact) bool { return before(f) && one.right(f) }
	}
	return q
}

func questions() (list []question) {
	add := func(text string, right func(f ledger.Fact) bool) { list = append(list, question{text, right}) }
	same := strings.EqualFold
	anyRcpt := func(f ledger.Fact, is func(string) bool) bool { return slices.ContainsFunc(f.Rcpt, is) }
	domain := func(a string) string { _, d, _ := strings.Cut(a, "@"); return strings.ToLower(d) }
	for _, who := range somePeople[:5] {
		is := func(a string) bool { return same(a, who) }
		add("from:"+who, func(f ledger.Fact) bool { return is(f.From) || is(f.MailFrom) })
		add("to:"+strings.ToUpper(who), func(f ledger.Fact) bool { return anyRcpt(f, is) })
		add(who, func(f ledger.Fact) bool { return is(f.From) || is(f.MailFrom) || anyRcpt(f, is) })
	}
	ann := func(a string) bool { return strings.HasPrefix(strings.ToLower(a), "ann@") }
	add("header_from:ann@*", func(f ledger.Fact) bool { return ann(f.From) })
	below := func(a string) bool { return strings.HasSuffix(domain(a), ".acme.example") }
	add("to:*.acme.example", func(f ledger.Fact) bool { return anyRcpt(f, below) })
	add("mail_from:globex.example", func(f ledger.Fact) bool { return domain(f.MailFrom) == "globex.example" })
	add("domain:acme.example", func(f ledger.Fact) bool {
		is := func(a string) bool { return domain(a) == "acme.example" }
		return is(f.From) || is(f.MailFrom) || anyRcpt(f, is)
	})
	add("org:acme", func(f ledger.Fact) bool { return f.Org == "acme" || f.ClaimedOrg == "acme" })
	add("source:exchange,printer", func(f ledger.Fact) bool { return f.Source != "" })
	add("192.0.2.0/25", func(f ledger.Fact) bool { return f.Peer == somePeers[1] })
	add("peer:192.0.2.200", func(f ledger.Fact) bool { return f.Peer == somePeers[2] })
	add("2001:db8::/32", func(f ledger.Fact) bool { return f.Peer == somePeers[4] })
	add("reason:TENANT_NOT_AUTHORIZED", func(f ledger.Fact) bool { return f.Reason == mail.ReasonTenantNotAuthorized })
	add("event:refused,bounced", func(f ledger.Fact) bool { return f.Event == ledger.Refused || f.Event == ledger.Bounced })
	add("disposition:refused", func(f ledger.Fact) bool { return f.Disposition == ledger.DispositionRefused })
	add("site:*.net", func(f ledger.Fact) bool { return strings.HasSuffix(f.Site, ".net") })
	add("tenant:t*", func(f ledger.Fact) bool { return f.Tenant != "" })
	add("id:a*", func(f ledger.Fact) bool { return strings.HasPrefix(string(f.ID), "a") })
	add("message_id:<x1@ACME.example>", func(f ledger.Fact) bool { return f.MessageID != "" })
	add("4xyz", func(f ledger.Fact) bool { return strings.Contains(f.Reply, "4XyZ") })
	add(`"unknown user"`, func(f ledger.Fact) bool { return strings.Contains(f.Reply, "user unknown") })
	add("word:unkn*", func(f ledger.Fact) bool { return strings.Contains(f.Reply, "unknown") })
	add("since:2026-11-22T10:00:00Z", func(f ledger.Fact) bool { return !f.Time.Before(noon.Add(-2 * time.Hour)) })
	add("until:2026-11-22", func(f ledger.Fact) bool { return f.Time.Before(noon.Truncate(24 * time.Hour)) })
	return list
}

// visible is what the reference lets a reader see: slow, and by the fields alone.
func visible(f ledger.Fact, bound org.ID) bool {
	whose := f.Org
	if whose == "" {
		whose = f.ClaimedOrg
	}
	return bound == "" || whose == string(bound)
}

// pages follows a search to its end.
func pages(t interface {
	Fatalf(string, ...any)
}, i *Index, q Query, p Page) (all []ledger.Fact) {
	for range 10_000 {
		a, err := i.Search(context.Background(), q, p)
		if err != nil {
			t.Fatalf("search %s: %v", q, err)
		}
		all = append(all, a.Facts...)
		if p.After = a.Next; a.Next == "" {
			if a.Statement.Ended != EndedComplete {
				t.Fatalf("a search that has no next ended by %s", a.Statement.Ended)
			}
			return all
		}
	}
	t.Fatalf("the pages of %s never end", q)
	return nil
}

// Whatever was indexed, what is only in memory, and what must be read from the ledger,
// every page in either order has what a slow reading of all facts has, and no
// organisation sees another's.
func TestEverySearchFindsWhatAReadingOfTheWholeLedgerFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "tracking")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		var all records
		var facts []ledger.Fact
		i, err := Open(Options{Dir: dir, Ledger: &all})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = i.Close() }()
		at := noon.Add(-50 * time.Hour)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			for range rapid.IntRange(0, 15).Draw(t, "facts") {
				at = at.Add(time.Duration(rapid.IntRange(-20, 300).Draw(t, "minutes")) * time.Minute) // the clock steps back now and then
				f := randomFact(t, at)
				f.Offset = uint64(len(all))
				all.add(f)
				facts = append(facts, f)
			}
			i = disturb(t, i, dir, &all)
		}
		for range 8 {
			q := randomQuestion(t)
			parsed, err := Parse(q.text, noon)
			if err != nil {
				t.Fatal(err)
			}
			p := Page{Limit: rapid.IntRange(1, 20).Draw(t, "limit"), Ascending: rapid.Bool().Draw(t, "ascending"), Org: org.ID(pick(t, someOrgs)), Scan: rapid.SampledFrom([]int{0, 1, 3}).Draw(t, "scan")}
			want := []ledger.Fact{}
			for _, f := range facts {
				if visible(f, p.Org) && q.right(f) {
					want = append(want, f)
				}
			}
			if !p.Ascending {
				slices.Reverse(want)
			}
			got := pages(t, i, parsed, p)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Fatalf("%s of %q, %+v: -want +got\n%s", q.text, parsed, p, diff)
			}
		}
	})
}

// disturb lets something happen to the index: it follows, writes, is stopped and
// started, loses a file.
func disturb(t *rapid.T, i *Index, dir string, all *records) *Index {
	ctx := context.Background()
	reopen := func(tamper func()) {
		if err := i.Close(); err != nil {
			t.Fatal(err)
		}
		tamper()
		var err error
		if i, err = Open(Options{Dir: dir, Ledger: all}); err != nil {
			t.Fatal(err)
		}
	}
	switch rapid.SampledFrom([]string{"nothing", "follow", "flush", "restart", "crash", "lose", "damage", "sweep"}).Draw(t, "happens") {
	case "follow":
		if err := i.Follow(ctx, noon); err != nil {
			t.Fatal(err)
		}
	case "flush":
		if err := i.Follow(ctx, time.Now().Add(flushAfter+time.Minute)); err != nil {
			t.Fatal(err)
		}
	case "restart":
		reopen(func() {})
	case "crash": // what was in memory is lost, and the copies of files are what a crash leaves
		i.mu.Lock()
		i.recent, i.end = nil, i.since
		i.mu.Unlock()
		reopen(func() {})
	case "lose":
		reopen(func() { lose(t, dir) })
	case "damage":
		reopen(func() { damage(t, dir) })
		if err := i.Sweep(ctx, noon); err != nil {
			t.Fatal(err)
		}
	case "sweep":
		if err := i.Sweep(ctx, noon); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

func files(dir string) []string {
	list, err := filepath.Glob(filepath.Join(dir, "*"+fileSuffix))
	if err != nil {
		panic(err)
	}
	return list
}

func lose(t *rapid.T, dir string) {
	if list := files(dir); len(list) > 0 {
		if err := os.Remove(pick(t, list)); err != nil {
			t.Fatal(err)
		}
	}
}

func damage(t *rapid.T, dir string) {
	list := files(dir)
	if len(list) == 0 {
		return
	}
	path := pick(t, list)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		data[rapid.IntRange(0, len(data)-1).Draw(t, "octet")] ^= 0x41
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Under any rules no answer, and no file, holds an address that is to be hidden, and the
// whole address still finds what is hashed.
func TestPersonalDataIsKeptAsItsOrganisationWants(t *testing.T) {
	for _, mode := range []Mode{Full, Hashed, Off} {
		t.Run(string(mode), func(t *testing.T) {
			var all records
			f := ledger.Fact{Time: time.Now(), ID: "a1", Event: ledger.Bounced, Org: "acme", MailFrom: "ann@acme.example", From: "Ann@acme.example", Rcpt: []string{"bobby@example.org"}, Reply: "550 <bobby@example.org>: bobby is unknown", Detail: "for ann", MessageID: "<secret@acme.example>", Reason: mail.ReasonRelayDenied}
			all.add(f)
			dir := t.TempDir()
			i, err := Open(Options{Dir: dir, Ledger: &all, Policy: func() Policy {
				return Policy{Default: Rule{Mode: Full}, Of: map[org.ID]Rule{"acme": {Mode: mode}}}
			}})
			if err != nil {
				t.Fatal(err)
			}
			for _, stored := range []bool{false, true} {
				if stored {
					if err := i.Follow(t.Context(), time.Now().Add(time.Hour)); err != nil {
						t.Fatal(err)
					}
				}
				found := map[string]int{}
				for _, text := range []string{"to:bobby@example.org", "from:ann@acme.example", "message_id:secret@acme.example", "to:bobby@*", "to:example.org", "bobby", "unknown", "reason:RELAY_DENIED"} {
					q, err := Parse(text, noon)
					if err != nil {
						t.Fatal(err)
					}
					list := pages(t, i, q, Page{})
					found[text] = len(list)
					if shown := fmt.Sprintf("%+v", list); mode != Full && (strings.Contains(strings.ToLower(shown), "ann@") || strings.Contains(shown, "bobby") || strings.Contains(shown, "secret")) {
						t.Errorf("%s shows %s", text, shown)
					}
				}
				want := map[Mode]map[string]int{
					Full:   {"to:bobby@example.org": 1, "from:ann@acme.example": 1, "message_id:secret@acme.example": 1, "to:bobby@*": 1, "to:example.org": 1, "bobby": 1, "unknown": 1, "reason:RELAY_DENIED": 1},
					Hashed: {"to:bobby@example.org": 1, "from:ann@acme.example": 1, "message_id:secret@acme.example": 1, "to:bobby@*": 0, "to:example.org": 1, "bobby": 0, "unknown": 1, "reason:RELAY_DENIED": 1},
					Off:    {"to:bobby@example.org": 0, "from:ann@acme.example": 0, "message_id:secret@acme.example": 0, "to:bobby@*": 0, "to:example.org": 0, "bobby": 0, "unknown": 0, "reason:RELAY_DENIED": 1},
				}[mode]
				if diff := cmp.Diff(want, found); diff != "" {
					t.Errorf("stored %v: -want +got\n%s", stored, diff)
				}
			}
			if err := i.Close(); err != nil {
				t.Fatal(err)
			}
			for _, path := range files(dir) {
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if mode != Full && strings.Contains(string(data), "bobby") {
					t.Errorf("%s holds a recipient", path)
				}
			}
		})
	}
}
