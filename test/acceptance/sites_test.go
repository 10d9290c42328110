package acceptance

import (
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/engine/local"
	"anechoic/lab"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// bySite is what a list of one site gives.
func (r *relay) bySite(t *testing.T, site string) (ids []mail.ID, unknown api.SiteUnknown) {
	t.Helper()
	page, err := r.api.Queue(t.Context(), url.Values{"site": {site}})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Messages {
		ids = append(ids, m.ID)
	}
	if page.SiteUnknown != nil {
		unknown = *page.SiteUnknown
	}
	return ids, unknown
}

// kill ends the program at once, whatever it is doing.
func (r *relay) kill(t *testing.T) {
	t.Helper()
	if err := r.program.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.program.ended:
	case <-time.After(patience):
		t.Fatalf("it is not over %s after SIGKILL", patience)
	}
}

// says is all that a command of the program writes.
func (r *relay) says(t *testing.T, binary string, args ...string) string {
	t.Helper()
	told := r.command(t, binary, args...)
	if told.code != 0 {
		t.Fatalf("anechoic %s: exit code %d\n%s%s", strings.Join(args, " "), told.code, told.out, told.errs)
	}
	return told.out + told.errs
}

// refuses has mail for a domain deferred for as long as the test is.
func (r *relay) refuses(t *testing.T, domain string) (id mail.ID) {
	t.Helper()
	r.receiver.Answer(domain, "451 4.2.1 mailbox busy")
	id = r.kept(t, mailFromUser("app@acme", "ann@acme.test").recipients("bob@"+domain))
	eventually(t, "the first attempt to "+domain+" fails", func() bool {
		q := r.queued(t, id, custody.StateQueued)
		return len(q) == 1 && q[0].Attempts == 1
	})
	return id
}

// What waits for its next attempt is found by its site right after a start, also when the
// relay was killed. What is not known is said, never passed over in silence.
func TestASiteSelectsRightAfterAStart(t *testing.T) {
	r := newRelay(t, registry(), nil)
	id := r.refuses(t, "busy.test")
	binary := r.asProgram(t) // a stop, and a start
	if ids, unknown := r.bySite(t, "busy.test"); len(ids) != 1 || ids[0] != id || unknown.Recipients != 0 {
		t.Fatalf("after a start the site has %v, not known is %+v", ids, unknown)
	}
	second := r.refuses(t, "second.test")
	r.kill(t)
	r.run(t, binary)
	if ids, unknown := r.bySite(t, "busy.test"); len(ids) != 1 || ids[0] != id || unknown.Domains > 1 {
		t.Errorf("after a kill the site has %v, not known is %+v", ids, unknown)
	}
	// What the kill came too early for is one of the two: found, or said not to be known.
	ids, unknown := r.bySite(t, "second.test")
	if found := len(ids) == 1 && ids[0] == second; found == (unknown == api.SiteUnknown{Messages: 1, Recipients: 1, Domains: 1}) {
		t.Errorf("of what was learned before the kill the site has %v, not known is %+v", ids, unknown)
	}
	if q := r.queued(t, id, custody.StateQueued); len(q) != 1 || q[0].Attempts != 1 || q[0].Site != "busy.test" {
		t.Errorf("it is %+v", q)
	}
	if said := r.says(t, binary, "queue", "hold", "--site", "busy.test", "--yes"); !strings.Contains(said, "held: 1 recipient of 1 message") {
		t.Errorf("hold says %q", said)
	}
	r.kill(t)
}

// A record that is damaged costs its site nothing but its name: the mail is there, and it is said.
func TestADamagedRecordOfASiteIsSaidAndItsMailIsNotForgotten(t *testing.T) {
	r := newRelay(t, registry(), nil)
	r.refuses(t, "busy.test")
	r.refuses(t, "second.test")
	r.stop(t)
	r.damageSite(t, "busy.test")
	binary := r.asProgram(t)
	for site, want := range map[string]int{"busy.test": 0, "second.test": 1} {
		if ids, unknown := r.bySite(t, site); len(ids) != want || unknown != (api.SiteUnknown{Messages: 1, Recipients: 1, Domains: 1}) {
			t.Errorf("%s has %v, not known is %+v", site, ids, unknown)
		}
	}
	told := func() int {
		return strings.Count(r.log.String(), "records of which site a domain belongs to are damaged")
	}
	eventually(t, "it is said", func() bool { return told() > 0 })
	if told() != 1 {
		t.Errorf("it was said %d times", told())
	}
	said := r.says(t, binary, "queue", "list", "--site", "second.test")
	if !strings.Contains(said, "bob@second.test") || !strings.Contains(said, "not among them: 1 message to 1 domain whose site is not known yet") {
		t.Errorf("the list says %q", said)
	}
	if said := r.says(t, binary, "queue", "drop", "--site", "second.test", "--dry-run", "--json"); !strings.Contains(said, `"site_unknown"`) {
		t.Errorf("the dry run says %q", said)
	}
	if said := r.says(t, binary, "queue", "suspend", "site", "busy.test"); !strings.Contains(said, "1 more recipient to 1 domain may belong to it too") {
		t.Errorf("suspend says %q", said)
	}
	r.kill(t)
}

// damageSite changes what is stored of a domain.
func (r *relay) damageSite(t *testing.T, domain string) {
	t.Helper()
	store, err := local.Open(local.Options{Dir: filepath.Join(r.dir, "data", "store"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	var found *custody.Record
	err = store.Scan(t.Context(), "site/", "", func(key string, value []byte) bool {
		if strings.Contains(string(value), `"`+domain+`"`) {
			found = &custody.Record{Key: key, Value: append([]byte(nil), value...)}
		}
		return found == nil
	})
	if err != nil || found == nil {
		t.Fatalf("there is no record of %s: %v", domain, err)
	}
	found.Value[len(found.Value)-3] ^= 1
	if err := store.Commit(t.Context(), &custody.Batch{Put: []custody.Record{*found}}); err != nil {
		t.Fatal(err)
	}
}

// A suspended site gets nothing, also of a domain of which it is found out at its first attempt
// that it leads there; after a start too.
func TestASuspendedSiteGetsNothingOfADomainThatTurnsOutToLeadThere(t *testing.T) {
	r := newRelay(t, registry(), func(internet *lab.Internet) {
		for _, alias := range []string{"alias.test", "another.test"} {
			internet.Zone.SetMX(alias, mail.MX{Preference: 10, Host: "mx.busy.test"})
		}
	})
	if _, err := r.api.ChangeSuspensions(t.Context(), api.Suspend, api.SuspensionWish{Scope: custody.ScopeSite, Name: "busy.test", By: "ann"}); err != nil {
		t.Fatal(err)
	}
	first, restarted := mailFromUser("app@acme", "ann@acme.test").recipients("bob@alias.test"), mailFromUser("app@acme", "ann@acme.test").recipients("bob@another.test")
	id := r.kept(t, first)
	itWaits := func(id mail.ID) func() bool {
		return func() bool {
			q := r.queued(t, id, custody.StateQueued)
			return len(q) == 1 && q[0].Attempts == 0 && q[0].Site == "busy.test"
		}
	}
	eventually(t, "where it leads is found out, and it waits", itWaits(id))
	r.restart(t)
	next := r.kept(t, restarted)
	eventually(t, "where the other leads is found out, and it waits", itWaits(next))
	if ids, unknown := r.bySite(t, "busy.test"); len(ids) != 2 || unknown.Recipients != 0 {
		t.Errorf("the site has %v, not known is %+v", ids, unknown)
	}
	m, err := r.api.Queued(t.Context(), id)
	if err != nil || !strings.Contains(m.Why, "for ann with the site busy.test") {
		t.Errorf("%q, %v", m.Why, err)
	}
	if got := r.receiver.Judgements(); len(got) != 0 {
		t.Errorf("%d messages arrived", len(got))
	}
	if _, err := r.api.ChangeSuspensions(t.Context(), api.Resume, api.SuspensionWish{Scope: custody.ScopeSite, Name: "busy.test", By: "ann"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both arrive", func() bool { return len(r.receiver.Judgements()) == 2 })
}
