// Package tracked_test asks for messages over the control socket, as the command line
// does. It stands apart from the other tests of the API, which are fuzzed: with SQLite
// linked in, that takes minutes to be made ready.
package tracked_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // the driver of the index

	"anechoic/control/api"
	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/watch/tracking"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// whole is an id as the relay gives them.
const whole = "2al274bqphlahvjvb252eqy6ao"

// patience is how long anything here may take.
const patience = time.Minute

// relay is the API over a ledger in memory, on a socket.
type relay struct {
	*api.Client
	dir    string
	engine *memory.Engine
}

// listen serves the API; indexed says whether the relay keeps an index.
func listen(t *testing.T, indexed bool) *relay {
	t.Helper()
	r := &relay{dir: t.TempDir(), engine: memory.New()}
	log := slog.New(slog.DiscardHandler)
	s := &api.Server{Ledger: r.engine, Searches: tracking.SavedSearches{Store: r.engine}, Log: log, Directory: func() (*org.Directory, []org.Finding) { return new(org.Directory), nil }}
	if indexed {
		index, err := tracking.Open(tracking.Options{Dir: filepath.Join(r.dir, "tracking"), Ledger: r.engine})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = index.Close() })
		s.Tracking = index
	}
	listener, err := api.Listen(r.dir, log)
	if err != nil {
		t.Fatal(err)
	}
	server := api.NewHTTPServer(s.Handler(), log)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		running.Wait()
	})
	r.Client = api.NewClient(r.dir)
	return r
}

func (r *relay) record(t *testing.T, facts ...ledger.Fact) {
	t.Helper()
	if err := r.engine.Commit(t.Context(), &custody.Batch{Facts: facts}); err != nil {
		t.Fatal(err)
	}
}

// get asks without the client: what stands on the wire counts.
func (r *relay) get(t *testing.T, path string) (status int, kind, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(r.dir, "control.sock"))
	}}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://relay"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, a.Header.Get("Content-Type"), string(text)
}

// someFacts are n messages that were relayed, of acme and globex in turn, and a refused
// one that claimed acme.
func someFacts(n int) (facts []ledger.Fact) {
	for m := range n {
		whose := []string{"acme", "globex"}[m%2]
		facts = append(facts, ledger.Fact{Time: noon.Add(time.Duration(m) * time.Second), ID: mail.ID(fmt.Sprintf("m%d", m)), Event: ledger.Delivered, Org: whose,
			MailFrom: "ann@" + whose + ".example", Rcpt: []string{fmt.Sprintf("r%d@example.org", m)}, Reply: "250 ok"})
	}
	return append(facts, ledger.Fact{Time: noon.Add(time.Hour), ID: "spoof", Event: ledger.Refused, ClaimedOrg: "acme", From: "ceo@acme.example", Reason: mail.ReasonTenantNotAuthorized})
}

func TestPagesOfASearchHoldEveryFactOnceWhileMailComesIn(t *testing.T) {
	r := listen(t, true)
	r.record(t, someFacts(50)...)
	for _, order := range []string{"asc", "desc"} {
		t.Run(order, func(t *testing.T) {
			var offsets []uint64
			v := url.Values{"q": {"org:acme"}, "limit": {"7"}, "order": {order}}
			for range 20 {
				a, err := r.Search(t.Context(), v)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range a.Facts {
					offsets = append(offsets, f.Offset)
				}
				if order == "desc" {
					r.record(t, someFacts(2)...)
				}
				if a.Next == "" {
					break
				}
				v.Set("page_token", a.Next)
			}
			seen := map[uint64]bool{}
			for _, o := range offsets {
				if seen[o] {
					t.Errorf("fact %d comes twice", o)
				}
				seen[o] = true
			}
			if len(offsets) != 26 {
				t.Errorf("%d facts, not 26: %v", len(offsets), offsets)
			}
		})
	}
}

// However it is asked, what is bound to an organisation shows nothing of another's.
func TestAnOrganisationSeesNothingOfAnother(t *testing.T) {
	r := listen(t, true)
	r.record(t, someFacts(20)...)
	for _, path := range []string{
		"/api/v1/messages?bound=globex", "/api/v1/messages?bound=globex&q=org:acme", "/api/v1/messages?bound=globex&org=acme", "/api/v1/messages?bound=globex&q=id:m0,m1,spoof",
		"/api/v1/messages?bound=globex&q=ceo@acme.example", "/api/v1/messages?bound=globex&order=asc&page_token=0", "/api/v1/messages/export?bound=globex", "/api/v1/messages/export?bound=globex&format=csv&q=org:acme,globex",
		"/api/v1/messages?bound=nobody",
	} {
		status, _, body := r.get(t, path)
		facts, _, _ := strings.Cut(body, `"statement"`)
		if _, rest, ok := strings.Cut(facts, "claimed_org,"); ok {
			facts = rest // the names of columns
		}
		if status != 200 || strings.Contains(facts, "acme") || strings.Contains(facts, "spoof") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	r.record(t, ledger.Fact{Time: noon, ID: whole, Event: ledger.Delivered, Org: "acme", Rcpt: []string{"x@example.org"}})
	if status, _, body := r.get(t, "/api/v1/messages/"+whole+"?org=acme"); status != 200 || !strings.Contains(body, "x@example.org") {
		t.Errorf("a message of acme for acme: %d %s", status, body)
	}
	if status, _, body := r.get(t, "/api/v1/messages/"+whole+"?org=globex"); status != 404 || strings.Contains(body, "example.org") {
		t.Errorf("a message of acme for globex: %d %s", status, body)
	}
	a, err := r.Search(t.Context(), url.Values{"bound": {"acme"}})
	if err != nil || len(a.Facts) != 12 || a.Facts[1].ID != "spoof" {
		t.Errorf("acme sees %d facts, %v", len(a.Facts), err)
	}
}

func TestSavedSearchesOfOneOrganisationAreNotAnothers(t *testing.T) {
	r := listen(t, true)
	r.record(t, someFacts(4)...)
	ctx := t.Context()
	if _, err := r.SaveSearch(ctx, tracking.Saved{Org: "acme", Name: "mine", Query: "event:delivered"}); err != nil {
		t.Fatal(err)
	}
	for whose, want := range map[string]int{"acme": 1, "globex": 0, "": 0} {
		if list, err := r.Searches(ctx, whose); err != nil || len(list) != want {
			t.Errorf("%q has %+v, %v", whose, list, err)
		}
	}
	a, err := r.Search(ctx, url.Values{"bound": {"acme"}, "saved": {"mine"}, "q": {"to:r2@example.org"}})
	if err != nil || len(a.Facts) != 1 || a.Facts[0].Org != "acme" {
		t.Errorf("%+v, %v", a.Facts, err)
	}
	for _, v := range []url.Values{{"bound": {"globex"}, "saved": {"mine"}}, {"saved": {"mine"}}, {"saved": {"../acme/mine"}}, {"saved": {"nothing"}}} {
		if _, err := r.Search(ctx, v); codeOf(err) != api.CodeNotFound {
			t.Errorf("%v: %v", v, err)
		}
	}
	if _, err := r.DeleteSearch(ctx, api.SavedName{Org: "globex", Name: "mine"}); codeOf(err) != api.CodeNotFound {
		t.Errorf("globex deletes it: %v", err)
	}
	if _, err := r.DeleteSearch(ctx, api.SavedName{Org: "acme", Name: "mine"}); err != nil {
		t.Error(err)
	}
}

func codeOf(err error) api.Code {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

func TestAMistakenRequestIsToldWhereItIsWrong(t *testing.T) {
	r := listen(t, true)
	for path, want := range map[string]string{
		"/api/v1/messages?q=org:acme+form:bob":                                "column 10",
		"/api/v1/messages?q=%22user":                                          "column 1",
		"/api/v1/messages?q=peer:banana":                                      "no address and no network",
		"/api/v1/messages?q=" + strings.Repeat("x", 5000):                     "longer than 4096",
		"/api/v1/messages?q=%ff":                                              "not UTF-8",
		"/api/v1/messages?limit=-1":                                           "limit",
		"/api/v1/messages?limit=99999":                                        "limit",
		"/api/v1/messages?limit=many":                                         "limit",
		"/api/v1/messages?order=sideways":                                     "order",
		"/api/v1/messages?page_token=../../etc":                               "no place to go on from",
		"/api/v1/messages?page_token=-5":                                      "no place to go on from",
		"/api/v1/messages?colour=red":                                         "colour",
		"/api/v1/messages?q=a&q=b":                                            "q",
		"/api/v1/messages?since=yesterday":                                    "since",
		"/api/v1/messages/export?format=xls":                                  "format",
		"/api/v1/messages/export?q=since:1h+since:2h":                         "column 10",
		"/api/v1/messages/tail?q=disposition:%1b%5b2Jlost":                    "none of",
		"/api/v1/searches?name=x":                                             "name",
		"/api/v1/messages?q=event:" + strings.Repeat("refused,", 99) + "held": "too many values",
	} {
		status, kind, body := r.get(t, path)
		var p api.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || kind != "application/problem+json" || status != 400 || p.Fix == "" || !strings.Contains(p.Detail+p.Title, want) {
			t.Errorf("%.60s: %d %s %.200s", path, status, kind, body)
		}
		if strings.ContainsAny(body, "\x1b\x00") {
			t.Errorf("%.60s: the answer %q holds what a terminal obeys", path, body)
		}
	}
	if _, err := r.SaveSearch(t.Context(), tracking.Saved{Name: "x", Query: "form:a"}); codeOf(err) != api.CodeBadRequest || !strings.Contains(err.Error(), "column 1") {
		t.Errorf("a search that is wrong is saved: %v", err)
	}
}

func TestARelayWithoutAnIndexSaysSo(t *testing.T) {
	r := listen(t, false)
	for _, path := range []string{"/api/v1/messages", "/api/v1/messages/export", "/api/v1/messages/tail", "/api/v1/tracking", "/api/v1/messages/" + whole + "?org=acme"} {
		if status, _, body := r.get(t, path); status != 503 || !strings.Contains(body, "no index") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// An export of many pages comes whole, oldest first.
func TestAnExportHoldsEverythingThatWasThere(t *testing.T) {
	r := listen(t, true)
	r.record(t, someFacts(2500)...)
	status, kind, body := r.get(t, "/api/v1/messages/export?q=event:delivered")
	if lines := strings.Count(body, "\n"); status != 200 || kind != "application/x-ndjson" || lines != 2500 {
		t.Errorf("%d %s, %d lines", status, kind, lines)
	}
	status, kind, body = r.get(t, "/api/v1/messages/export?q=event:delivered&format=csv")
	rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if status != 200 || !strings.HasPrefix(kind, "text/csv") || err != nil || len(rows) != 2501 || rows[1][2] != "m0" || rows[2500][2] != "m2499" {
		t.Errorf("%d %s, %d rows, %v", status, kind, len(rows), err)
	}
}

// The tail begins with the last facts and goes on with new ones, and only with those.
func TestTheTailFollowsWhatIsAsked(t *testing.T) {
	r := listen(t, true)
	r.record(t, someFacts(6)...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	err := r.Tail(ctx, url.Values{"q": {"org:acme"}, "limit": {"2"}}, func(f ledger.Fact) bool {
		seen = append(seen, string(f.ID))
		if len(seen) == 2 {
			r.record(t, ledger.Fact{Time: noon, ID: "other", Event: ledger.Held, Org: "globex"}, ledger.Fact{Time: noon, ID: "new", Event: ledger.Held, Org: "acme"})
		}
		return len(seen) < 3
	})
	if diff := cmp.Diff([]string{"m4", "spoof", "new"}, seen); diff != "" || err != nil {
		t.Errorf("%v: -want +got\n%s", err, diff)
	}
}

// What a stranger wrote reaches nobody as it is: not a terminal, not a spreadsheet, not
// a page.
func TestWhatStrangersWroteIsEscapedEverywhere(t *testing.T) {
	r := listen(t, true)
	hostile := []string{"\x1b]0;pwned\a\x1b[31m", "a\r\nBcc: eve@evil.example", "<script>alert(1)</script>", "=HYPERLINK(\"http://evil.example\")", "\u009b2J\u202egpj.exe", "\t@SUM(A1)", "x\x00y", "\U000e0041tag"}
	for n, text := range hostile {
		r.record(t, ledger.Fact{Time: noon, ID: mail.ID(fmt.Sprintf("h%d", n)), Event: ledger.Refused, ClaimedOrg: "acme", From: text, MailFrom: text, Rcpt: []string{text}, Reply: text, Detail: text, Helo: text, MessageID: text, Originator: text})
	}
	_, _, page := r.get(t, "/api/v1/messages")
	_, _, lines := r.get(t, "/api/v1/messages/export")
	_, _, sheet := r.get(t, "/api/v1/messages/export?format=csv")
	for name, text := range map[string]string{"page": page, "jsonl": lines} {
		if strings.Contains(text, "<script") || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\n' }) {
			t.Errorf("the %s holds what is obeyed: %q", name, text)
		}
	}
	for _, text := range []string{lines, sheet} {
		if strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && c != '\r' && !unicode.IsPrint(c) }) {
			t.Errorf("an export holds what does not print: %q", text)
		}
	}
	var back ledger.Fact
	first, _, _ := strings.Cut(lines, "\n")
	if err := json.Unmarshal([]byte(first), &back); err != nil || back.From != hostile[0] {
		t.Errorf("%q is not what was written: %v", back.From, err)
	}
	rows, err := csv.NewReader(strings.NewReader(sheet)).ReadAll()
	if err != nil || len(rows) != len(hostile)+1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		for _, cell := range row {
			if strings.ContainsAny(cell, "\r\n") || strings.IndexAny(strings.TrimSpace(cell), "=+-@") == 0 {
				t.Errorf("the cell %q is a formula, or more than a line", cell)
			}
		}
	}
}
