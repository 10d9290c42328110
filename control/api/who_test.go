package api

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"strconv"
	"strings"
	"testing"

	"anechoic/ledger"
	"anechoic/relay/custody"
)

// thisUser is how the ledger names the user of this process.
func thisUser(t *testing.T) string {
	t.Helper()
	uid := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(uid); err == nil {
		return u.Username + " (uid " + uid + ")"
	}
	return "uid " + uid
}

func TestTheLedgerSaysWhoReallySteeredAndForWhom(t *testing.T) {
	r := newRelay(t, registry)
	id := r.keep(t, "acme", "a@one.test")
	c, _ := serveOnSocket(t, r)
	steps := []struct {
		verb   Verb
		chosen Selection
		want   string
	}{
		{Hold, Selection{All: true, By: "mallory"}, "by " + thisUser(t) + " for mallory"},
		{Release, Selection{All: true}, "by " + thisUser(t)},
		{Bounce, Selection{All: true, By: "nobody-else (uid 0)"}, " by " + thisUser(t) + " for nobody-else uid 0"},
		{Drop, Selection{All: true, By: strings.Repeat("a", 2000)}, "by " + thisUser(t) + " for " + strings.Repeat("a", maxClaim)},
	}
	for _, step := range steps {
		if done, err := c.Steer(t.Context(), step.verb, step.chosen, nil); err != nil || done.Messages != 1 {
			t.Fatalf("%s: %+v, %v", step.verb, done, err)
		}
	}
	if _, err := c.ChangeSuspensions(t.Context(), Suspend, SuspensionWish{Scope: custody.ScopeOrganisation, Name: "acme", By: "mallory"}); err != nil {
		t.Fatal(err)
	}
	var details []string
	if err := ledger.Read(t.Context(), r.engine, 0, func(f ledger.Fact) bool {
		if f.Event != ledger.Accepted && (f.ID == id || f.Event == ledger.Suspended) {
			details = append(details, f.Detail)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		found := false
		for _, d := range details {
			found = found || strings.HasSuffix(d, step.want)
		}
		if !found {
			t.Errorf("%s: no fact ends with %q: %q", step.verb, step.want, details)
		}
	}
	if last := details[len(details)-1]; !strings.Contains(last, "by "+thisUser(t)+" for mallory") {
		t.Errorf("suspended: %q", last)
	}
}

func TestWhoAsksIsTheUserOfTheSocket(t *testing.T) {
	for _, test := range []struct{ remote, claim, want string }{
		{"uid:4294967294", "", "uid 4294967294"},
		{"uid:4294967294", "ann", "uid 4294967294 for ann"},
		{"uid:4294967294", " \r\n", "uid 4294967294"},
		{"uid:4294967294", "root (uid 0)\x1b[2K", "uid 4294967294 for root uid 0[2K"},
		{"@", "ann", "ann"},
		{"127.0.0.1:8025", "", anOperator},
		{"uid:", "", anOperator},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RemoteAddr = test.remote
		if got := asker(r, test.claim); got != test.want {
			t.Errorf("%q, which says it is %q: %q, want %q", test.remote, test.claim, got, test.want)
		}
	}
}
