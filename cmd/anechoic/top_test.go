package main

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"anechoic/control/api"
)

var topNow = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// hostile is what a next hop may say to take over a terminal.
const hostile = "450 \x1b[2J\x1b]0;owned\x07\u202egnp.exe\r\n250 ok\x9b31m"

func someTop() api.Top {
	until, due := topNow.Add(time.Minute), topNow.Add(-time.Hour)
	return api.Top{
		At: topNow, Started: topNow.Add(-100 * time.Second), Queue: api.QueueDepth{Messages: 7, Queued: 9}, Suspensions: 1,
		All: api.Flow{Accepted: 200, Delivered: 100}, Refused: 50,
		Sites: []api.TopSite{
			{Name: "big.test", State: api.SiteFlowing, Queued: 5, UnderWay: 2, Window: 20, Flow: api.Flow{Delivered: 90}},
			{Name: "evil\x1b[2J.test", State: api.SitePaused, Until: &until, Queued: 4, OldestDue: &due, Flow: api.Flow{Deferred: 8}, LastReply: hostile, LastAt: &due},
		},
		Organisations: []api.TopOrg{{ID: "acme", Queued: 9, Flow: api.Flow{Accepted: 200}}},
	}
}

func TestTopShowsWhatFlowsAndWhatDoesNot(t *testing.T) {
	v := topView{now: someTop()}
	text := strings.Join(v.lines(200, 50), "\n")
	for _, want := range []string{
		"up 1 min 40 s", "in 2/s", "refused 0.5/s", "delivered 1/s", "7 messages", "1 suspension",
		"paused until 09:01:00", "2/20", "1 h 0 min",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	v.press("o")
	if text := strings.Join(v.lines(200, 50), "\n"); !strings.Contains(text, "acme") || strings.Contains(text, "big.test") {
		t.Errorf("organisations:\n%s", text)
	}
}

func TestRatesAreBetweenTwoAnswers(t *testing.T) {
	v := topView{last: someTop(), now: someTop()}
	v.now.At = v.now.At.Add(2 * time.Second)
	v.now.All.Accepted += 10
	if text := v.lines(200, 50)[1]; !strings.HasPrefix(text, "in 5/s") || !strings.Contains(text, "delivered 0/s") {
		t.Error(text)
	}
	v.now.All.Accepted = 1 // the relay started again
	if text := v.lines(200, 50)[1]; !strings.HasPrefix(text, "in 0/s") {
		t.Error(text)
	}
}

func TestNothingAStrangerSaysReachesTheTerminal(t *testing.T) {
	for _, page := range []topPage{pageSites, pageOrganisations, pageErrors} {
		for _, width := range []int{1, 7, 80, 300} {
			v := topView{now: someTop(), page: page}
			for _, line := range v.lines(width, 10) {
				if strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 || len([]rune(line)) > width {
					t.Errorf("page %d at %d columns: %q", page, width, line)
				}
			}
		}
	}
}

func TestColumnsAreSortedByKeys(t *testing.T) {
	first := func(v *topView) string { return strings.Fields(v.lines(200, 50)[topHead+1])[0] }
	v := topView{now: someTop()}
	if first(&v) != "big.test" {
		t.Errorf("first is %s", first(&v))
	}
	for range 6 { // as far as DEFERRED
		v.press("\x1b[C")
	}
	if got := first(&v); !strings.HasPrefix(got, "evil") {
		t.Errorf("by deferred the first is %s", got)
	}
	v.press("\x1b[D")
	if first(&v) != "big.test" {
		t.Errorf("by rate the first is %s", first(&v))
	}
	for range 20 {
		v.press("\x1b[D") // round and round
		v.lines(80, 24)
	}
	if !v.press("q") || !v.press("\x03") || v.press("?") {
		t.Error("q and Ctrl-C leave, nothing else does")
	}
}

func TestManyRowsAreCutToTheScreen(t *testing.T) {
	v := topView{now: someTop()}
	for len(v.now.Sites) < 90 {
		v.now.Sites = append(v.now.Sites, v.now.Sites[0])
	}
	if n := len(v.lines(80, 24)); n > 24 {
		t.Errorf("%d lines", n)
	}
}
