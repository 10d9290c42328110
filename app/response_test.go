package app

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/lab/sink"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/relay/limit"
	"anechoic/standard/dkim"
	"anechoic/watch/detect"
	"anechoic/watch/response"
)

// watched is a relay that runs, with DNS around it, and people who are told. Its
// organisations have sent for some days already.
type watched struct {
	*people
	app    *App
	client *api.Client
	zone   *dns.Zone
	conns  map[string]*smtp.Client
	sent   int
}

// Peers that are sources.
const (
	acmeApp   = "127.0.9.1"
	acmeShop  = "127.0.9.2"
	globexApp = "127.0.9.3"
	smallApp  = "127.0.9.4"
)

const watchedRegistry = `
[[organisation]]
id = "acme"
security_contact = "security@people.example"
return_path = "bounces.acme.test"
response.automatic = "suspend"
  [[organisation.domain]]
  name = "acme.test"
  subdomains = true
  dkim = [{ selector = "an1", algorithm = "ed25519", key_file = "key.pem" }]
  [[organisation.domain]]
  name = "acme-news.test"
  dkim = [{ selector = "an1", algorithm = "ed25519", key_file = "key.pem" }]
  [[organisation.domain]]
  name = "acme-late.test"
  dkim = [{ selector = "an1", algorithm = "ed25519", key_file = "key.pem" }]
  [[organisation.source]]
  id = "app"
  kind = "address"
  addresses = ["` + acmeApp + `/32"]
  from = ["*@acme.test", "*@acme-news.test", "*@acme-late.test"]
  [[organisation.source]]
  id = "shop"
  kind = "address"
  addresses = ["` + acmeShop + `/32"]
  from = ["shop@acme.test"]
  [[organisation.webhook]]
  id = "siem"
  url = %q
  secret_files = ["siem.secret"]
[[organisation]]
id = "globex"
response.automatic = "log"
  [[organisation.domain]]
  name = "globex.test"
  dkim = [{ selector = "an1", algorithm = "ed25519", key_file = "key.pem" }]
  [[organisation.source]]
  id = "app"
  kind = "address"
  addresses = ["` + globexApp + `/32"]
  from = ["*@globex.test"]
[[organisation]]
id = "small"
  [[organisation.domain]]
  name = "small.test"
  dkim = [{ selector = "an1", algorithm = "ed25519", key_file = "key.pem" }]
  [[organisation.source]]
  id = "app"
  kind = "address"
  addresses = ["` + smallApp + `/32"]
  from = ["*@small.test"]
  limits = { messages_per_day = 1 }
`

// newWatched starts it. more is added to relay.toml.
func newWatched(t *testing.T, more string) *watched {
	t.Helper()
	w := &watched{people: newPeople(t), zone: &dns.Zone{}, conns: map[string]*smtp.Client{}}
	port := w.sink.Addr().Port()
	freemail, err := sink.Open(sink.Options{Addr: fmt.Sprintf("127.0.0.2:%d", port), Domain: "yahoo.com", Behaviour: sink.Plain{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { freemail.Close() })
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	server, err := w.zone.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	w.putUpNames(t, dir, freemail.Addr())
	for name, text := range map[string]string{
		"relay.toml": fmt.Sprintf("hostname = \"relay.anechoic.test\"\nregistry = \"registry.toml\"\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n[dns]\nservers = [%q]\n[delivery]\nport = %d\n"+
			"[console]\nlisten = \"\"\n[operations]\nlisten = \"\"\n[alerts]\ncontact = \"operator@people.example\"\nloopback_webhooks = true\n%s", server.Addr(), port, more),
		"registry.toml": fmt.Sprintf(watchedRegistry, w.web.URL),
		"siem.secret":   "whsec_YSBzZWNyZXQgZm9yIHRlc3RzLCAzMiBvY3RldHMgLi4u\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(w.web.Certificate())
	if w.app, err = New(Options{ConfigFile: filepath.Join(dir, "relay.toml"), Roots: roots}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = w.app.Stop(ctx) // the test looked at what matters
	})
	w.sendForDays(t)
	if err := w.app.Start(); err != nil {
		t.Fatal(err)
	}
	w.client = api.NewClient(w.app.config.DataDir)
	return w
}

// putUpNames publishes what is needed to send and to deliver.
func (w *watched) putUpNames(t *testing.T, dir string, freemail netip.AddrPort) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for domain, id := range map[string]string{"acme.test": "acme; sub=yes", "acme-news.test": "acme", "globex.test": "globex", "small.test": "small"} {
		w.zone.SetTXT("_anechoic."+domain, "v=anechoic1; org="+id)
		w.zone.SetTXT("an1._domainkey."+domain, dkim.RecordValue(public))
	}
	w.zone.SetTXT("_anechoic.acme-late.test", "v=anechoic1; org=acme") // and no key
	for domain, at := range map[string]netip.Addr{"people.example": w.sink.Addr().Addr(), "yahoo.com": freemail.Addr()} {
		w.zone.SetMX(domain, mail.MX{Preference: 10, Host: "mx." + domain})
		w.zone.SetAddresses("mx."+domain, at)
	}
}

// sendForDays is what the ledger has of the days before: a few messages an hour.
func (w *watched) sendForDays(t *testing.T) {
	t.Helper()
	var facts []ledger.Fact
	for at := time.Now().UTC().AddDate(0, 0, -10); time.Since(at) > time.Hour; at = at.Add(time.Hour) {
		for _, s := range [][4]string{{"acme", "app", "ann@acme.test", acmeApp}, {"acme", "shop", "shop@acme.test", acmeShop}, {"globex", "app", "bob@globex.test", globexApp}} {
			facts = append(facts, ledger.Fact{
				Time: at, ID: mail.NewID(at), Event: ledger.Accepted, Org: s[0], Source: s[1], Direction: "outbound", Peer: netip.MustParseAddr(s[3]), MailFrom: s[2], From: s[2],
				Rcpt: []string{"friend@people.example"}, Size: 2000, Identity: ledger.Proven, Disposition: ledger.DispositionRelayed, Print: ledger.Print{IDHost: "client.test"},
			})
		}
	}
	if err := w.app.recordAll(facts); err != nil {
		t.Fatal(err)
	}
}

// letterOf is a message of a source.
type letterOf struct{ peer, mailFrom, from, to, idHost, body string }

// send hands it in and gives the reply to its last octet.
func (w *watched) send(t *testing.T, l letterOf) (code int, said string) {
	t.Helper()
	c := w.dial(t, l.peer)
	w.sent++
	data := fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: number %d\r\nDate: %s\r\nMessage-ID: <%d@%s>\r\n\r\n%s\r\n", l.from, l.to, w.sent, time.Now().Format(time.RFC1123Z), w.sent, l.idHost, l.body)
	err := errors.Join(c.Mail(l.mailFrom), c.Rcpt(l.to))
	if err != nil {
		t.Fatalf("%+v: %v", l, err)
	}
	out, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	var refused *textproto.Error
	switch err := out.Close(); {
	case errors.As(err, &refused):
		if err := c.Reset(); err != nil {
			t.Fatal(err)
		}
		return refused.Code, refused.Msg
	case err != nil:
		t.Fatal(err)
	}
	return 250, ""
}

// dial opens a connection from a peer's address, or gives the one that is open.
func (w *watched) dial(t *testing.T, peer string) *smtp.Client {
	t.Helper()
	if c := w.conns[peer]; c != nil {
		return c
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(peer)}, Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(t.Context(), "tcp", w.app.Ready().SMTP[0])
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "relay.anechoic.test")
	if err == nil {
		err = c.Hello("client.test")
	}
	if err != nil {
		t.Fatal(err)
	}
	w.conns[peer] = c
	t.Cleanup(func() { c.Close() })
	return c
}

// attack is one message as a thief sends them: a made-up name, to a stranger at a
// free-mail provider, with another domain in MAIL FROM.
func (w *watched) attack(t *testing.T, peer, domain string) (code int, said string) {
	t.Helper()
	name := "admin_support" + strings.ToLower(rand.Text()[:9])
	mailFrom := "x@" + domain
	if domain == "acme.test" {
		mailFrom = "x@acme-news.test"
	}
	return w.send(t, letterOf{
		peer: peer, mailFrom: mailFrom, from: name + "@" + domain, to: strings.ToLower(rand.Text()[:10]) + "@yahoo.com",
		idHost: fmt.Sprintf("thief%d.example", w.sent%6), body: "Your parcel waits, see https://parcel.invalid/now",
	})
}

// flows checks that acme's other source sends as always, and that it arrives.
func (w *watched) flows(t *testing.T, when string) {
	t.Helper()
	if code, said := w.send(t, letterOf{acmeShop, "shop@acme.test", "shop@acme.test", "friend@people.example", "client.test", "Your order is on its way."}); code != 250 {
		t.Fatalf("%s: the other source is answered %d %s", when, code, said)
	}
	subject := fmt.Sprintf("\nSubject: number %d\r", w.sent)
	eventually(t, when+": mail of the other source arrives", func() bool {
		mails, _ := w.got()
		return slices.ContainsFunc(mails, func(m string) bool { return strings.Contains(m, subject) })
	})
}

// order is the order of a source that is not over.
func (w *watched) order(t *testing.T, scope detect.Scope) (found response.Order) {
	t.Helper()
	orders, err := w.app.responses.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range orders {
		if o.Scope == scope && !o.Over() {
			found = o
		}
	}
	return found
}

// waitFor is how long a step has to work before the next.
func (w *watched) waitFor(t *testing.T, patience time.Duration) {
	t.Helper()
	done, err := w.app.responses.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	w.app.responses.patience, w.app.responses.machine.Patience = patience, patience
}

// facts are those of an event, in order.
func (w *watched) facts(t *testing.T, event ledger.Event) (found []ledger.Fact) {
	t.Helper()
	if err := w.client.Log(t.Context(), url.Values{"event": {string(event)}}, func(f ledger.Fact) bool { found = append(found, f); return true }); err != nil {
		t.Fatal(err)
	}
	return found
}

// goesOnUntil lets the attack go on until a step is in force. What a throttle puts off
// comes again an hour later, when there is budget again.
func (w *watched) goesOnUntil(t *testing.T, scope detect.Scope, step response.Step) response.Order {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		o := w.order(t, scope)
		if o.Step >= step {
			return o
		}
		if o.Step == response.Throttle {
			w.app.responses.throttle.Return(time.Now(), limit.Claim{Key: o.ID, Rate: throttleRate(o.Rate), Amount: throttleRate(o.Rate).Units})
		}
		if code, said := w.attack(t, acmeApp, "acme.test"); code != 250 && code != 451 && o.Step < response.Hold {
			t.Fatalf("the attack is answered %d %s", code, said)
		}
	}
	t.Fatalf("no %s of %s within a minute: %+v, findings %+v", step, response.ScopeText(scope), w.order(t, scope), w.app.watch.shown.Load().Findings)
	return response.Order{}
}

// From mail to response, through the running program: a source is stolen, detection
// sees it, the relay climbs as far as the organisation allows, people are told of each
// step, and one command takes it back. The organisation's other source notices nothing.
func TestAStolenSourceIsThrottledHeldAndSuspendedAndGivenBackAlone(t *testing.T) {
	w := newWatched(t, "[response]\nlearn_for = \"0h\"\n")
	w.waitFor(t, time.Hour)
	stolen := detect.Scope{Org: "acme", Source: "app"}
	w.flows(t, "before")
	order := w.goesOnUntil(t, stolen, response.Throttle)
	if order.Step != response.Throttle || order.By != response.Watch || order.Wants <= response.Throttle {
		t.Errorf("it begins with %+v", order)
	}
	w.isPutOff(t, order)
	w.flows(t, "throttled")

	w.waitFor(t, time.Nanosecond)
	w.goesOnUntil(t, stolen, response.Hold)
	w.flows(t, "held")
	w.goesOnUntil(t, stolen, response.Suspend)
	if code, said := w.attack(t, acmeApp, "acme.test"); code != 550 || !strings.Contains(said, "[SOURCE_SUSPENDED ") {
		t.Errorf("suspended, it is answered %d %s", code, said)
	}
	w.flows(t, "suspended")
	held := w.facts(t, ledger.Held)
	if len(held) == 0 || held[0].Source != "app" || held[0].Reason != mail.ReasonHeld {
		t.Errorf("%d messages were held: %+v", len(held), held)
	}
	w.isAnnounced(t, "throttle of acme/app", "hold of acme/app", "suspend of acme/app")

	if ended, err := w.client.EndResponse(t.Context(), order.ID, "the password was changed"); err != nil || ended.State != "ended" {
		t.Fatalf("%+v, %v", ended, err)
	}
	if code, said := w.send(t, letterOf{acmeApp, "ann@acme.test", "ann@acme.test", "friend@people.example", "client.test", "hello"}); code != 250 {
		t.Errorf("given back, it is answered %d %s", code, said)
	}
	w.isAnnounced(t, "suspend of acme/app ended by ")
	var told []string
	for _, f := range w.facts(t, ledger.ResponseChanged) {
		if f.Org != "acme" || f.Source != "app" || !strings.HasPrefix(f.Detail, "response "+order.ID+": ") {
			t.Errorf("somebody else is answered: %+v", f)
		}
		words := strings.Fields(f.Detail)
		told = append(told, words[2])
	}
	if strings.Join(told, " ") != "throttle hold suspend suspend" {
		t.Errorf("the ledger tells %q", told)
	}
}

// isPutOff sends until the throttle says no: with 451 and a reason, and a fact.
func (w *watched) isPutOff(t *testing.T, order response.Order) {
	t.Helper()
	for range 2 * order.Rate {
		code, said := w.attack(t, acmeApp, "acme.test")
		if code == 250 {
			continue
		}
		if code != 451 || !strings.HasPrefix(said, "4.7.28 ") || !strings.Contains(said, "[RATE_LIMITED ") {
			t.Errorf("throttled, it is answered %d %s", code, said)
		}
		w.flows(t, "when put off") // a fact of a refusal is shown once something durable was written after it
		for _, f := range w.facts(t, ledger.Refused) {
			if f.Reason == mail.ReasonRateLimited && f.Source == "app" && strings.Contains(f.Detail, order.ID) {
				return
			}
		}
		t.Fatal("no fact tells of it")
	}
	t.Fatalf("nothing was put off within %d messages", 2*order.Rate)
}

// isAnnounced waits until the webhook was told, and looks for the first mail.
func (w *watched) isAnnounced(t *testing.T, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		eventually(t, "the webhook is told: "+want, func() bool {
			_, posts := w.got()
			for _, p := range posts {
				if strings.Contains(p, `"kind":"response"`) && strings.Contains(p, want) {
					return true
				}
			}
			return false
		})
	}
	for _, to := range []string{"security@people.example", "operator@people.example"} {
		eventually(t, "a mail to "+to, func() bool {
			mails, _ := w.got()
			for _, m := range mails {
				if strings.Contains(m, "To: "+to) && strings.Contains(m, "acme/app") {
					return true
				}
			}
			return false
		})
	}
}

// What an organisation does not allow waits for a person, and its mail flows.
func TestWhatAnOrganisationDoesNotAllowIsProposedAlone(t *testing.T) {
	w := newWatched(t, "[response]\nlearn_for = \"0h\"\n")
	thief := detect.Scope{Org: "globex", Source: "app"}
	for range 30 {
		if code, said := w.attack(t, globexApp, "globex.test"); code != 250 {
			t.Fatalf("it is answered %d %s", code, said)
		}
	}
	eventually(t, "something is proposed", func() bool { o := w.order(t, thief); return o.ID != "" && o.Waits() })
	if o := w.order(t, thief); o.InForce() {
		t.Errorf("it is in force: %+v", o)
	}
	if code, said := w.attack(t, globexApp, "globex.test"); code != 250 {
		t.Errorf("proposed, it is answered %d %s", code, said)
	}
	applied, err := w.client.ApplyResponse(t.Context(), w.order(t, thief).ID, api.ResponseWish{Step: response.Suspend, Why: "it is one"})
	if err != nil || !applied.InForce() {
		t.Fatalf("%+v, %v", applied, err)
	}
	if code, _ := w.attack(t, globexApp, "globex.test"); code != 550 {
		t.Errorf("applied, it is answered %d", code)
	}
}

// In its first days nothing is done without a person, whatever is allowed.
func TestNothingIsDoneByItselfWhileAnOrganisationIsNew(t *testing.T) {
	w := newWatched(t, "")
	for range 30 {
		if code, said := w.attack(t, acmeApp, "acme.test"); code != 250 {
			t.Fatalf("it is answered %d %s", code, said)
		}
	}
	stolen := detect.Scope{Org: "acme", Source: "app"}
	eventually(t, "something is proposed", func() bool { return w.order(t, stolen).ID != "" })
	if o := w.order(t, stolen); o.InForce() || !o.Waits() {
		t.Errorf("it is in force: %+v", o)
	}
}

// A message that is refused for another reason gives back what it paid: to throttles,
// for its signature and to limits.
func TestOnlyWhatIsTakenPays(t *testing.T) {
	w := newWatched(t, "")
	scope := detect.Scope{Org: "acme", Source: "app"}
	if _, err := w.client.ApplyResponse(t.Context(), "", api.ResponseWish{Scope: scope, Step: response.Throttle, Rate: 60, Why: "a test"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		code, said := w.send(t, letterOf{acmeApp, "ann@acme-late.test", "ann@acme-late.test", "friend@people.example", "client.test", "hello"})
		if code != 451 || !strings.Contains(said, "[KEY_NOT_PUBLISHED ") {
			t.Fatalf("without a key it is answered %d %s", code, said)
		}
	}
	if _, spent := w.app.limits.book.Look(time.Now(), limit.OfSource("acme", "app"), limit.Caps{}); spent != (limit.Amount{}) {
		t.Errorf("its account says %+v", spent)
	}
	order := w.order(t, scope)
	if retry := w.app.responses.throttle.Ask(time.Now(), limit.Claim{Key: order.ID, Rate: throttleRate(order.Rate), Amount: throttleRate(order.Rate).Units}); !retry.IsZero() {
		t.Errorf("the throttle is used up until %s", retry)
	}
	page := w.metricsPage(t)
	for _, want := range []string{
		`anechoic_limit_decisions_total{outcome="taken",principal="throttle"} 3`, `anechoic_limit_decisions_total{outcome="given_back",principal="throttle"} 3`,
		`anechoic_limit_decisions_total{outcome="put_off",principal="throttle"} 0`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

// What one budget puts off pays to no other either.
func TestALimitThatPutsAMessageOffGivesTheThrottleBack(t *testing.T) {
	w := newWatched(t, "")
	scope := detect.Scope{Org: "small", Source: "app"}
	if _, err := w.client.ApplyResponse(t.Context(), "", api.ResponseWish{Scope: scope, Step: response.Throttle, Rate: 60, Why: "a test"}); err != nil {
		t.Fatal(err)
	}
	l := letterOf{smallApp, "ann@small.test", "ann@small.test", "friend@people.example", "client.test", "hello"}
	if code, said := w.send(t, l); code != 250 {
		t.Fatalf("the first is answered %d %s", code, said)
	}
	order := w.order(t, scope)
	whole := limit.Claim{Key: order.ID, Rate: throttleRate(order.Rate), Amount: throttleRate(order.Rate).Units}
	w.app.responses.throttle.Return(time.Now(), whole) // an hour later
	for range 2 {
		if code, said := w.send(t, l); code != 451 || !strings.Contains(said, "tomorrow") {
			t.Errorf("past the limit of a day it is answered %d %s", code, said)
		}
	}
	if retry := w.app.responses.throttle.Ask(time.Now(), whole); !retry.IsZero() {
		t.Errorf("the throttle is used up until %s", retry)
	}
	if _, spent := w.app.limits.book.Look(time.Now(), limit.OfSource("small", "app"), limit.Caps{}); spent.Messages != 1 {
		t.Errorf("its account says %+v", spent)
	}
	if n := w.metric(t, `anechoic_limit_decisions_total{outcome="put_off",principal="source"}`); n != 2 {
		t.Errorf("%v messages were put off by a source's limit", n)
	}
}

// metricsPage is what a monitoring system reads.
func (w *watched) metricsPage(t *testing.T) string {
	t.Helper()
	answer := httptest.NewRecorder()
	w.app.metrics.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	return answer.Body.String()
}
