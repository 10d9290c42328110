package alert

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/engine/memory"
)

// verifier is an implementation of Standard Webhooks that shares nothing with ours.
const verifier = `
import base64, hashlib, hmac, sys
secret, id, at, signatures = sys.argv[1:5]
assert secret.startswith("whsec_")
key = base64.b64decode(secret[len("whsec_"):], validate=True)
body = sys.stdin.buffer.read()
want = base64.b64encode(hmac.new(key, id.encode() + b"." + at.encode() + b"." + body, hashlib.sha256).digest()).decode()
ok = any(hmac.compare_digest(s, "v1," + want) for s in signatures.split(" "))
sys.exit(0 if ok else 1)
`

// verified asks Python whether a request was signed with a secret.
func verified(t *testing.T, r received, secret string) bool {
	t.Helper()
	python := "/usr/bin/python3"
	if _, err := exec.LookPath(python); err != nil {
		t.Skip("/usr/bin/python3 is missing: apt-get install python3")
	}
	c := exec.Command(python, "-c", verifier, secret, r.id, r.at, r.signature)
	c.Stdin = strings.NewReader(string(r.body))
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || len(out) > 0) {
		t.Fatalf("%v: %s", err, out)
	}
	return err == nil
}

func TestAWebhookIsSignedSoThatAnotherImplementationVerifiesIt(t *testing.T) {
	server := newReceiver(t)
	old, current, foreign := secretOf('o'), secretOf('c'), secretOf('f')
	o := options(t, memory.New(), new(mailbox), Endpoint{Org: "acme", ID: "siem", URL: server.URL + "/hook", SecretFiles: secretFiles(t, current, old)})
	o.Roots = server.roots()
	d := open(t, o)
	defer run(d)()
	tell(t, d, campaign)
	until(t, "the request", func() bool { return len(server.seen()) == 1 })
	got := server.seen()[0]
	for secret, want := range map[string]bool{current: true, old: true, foreign: false} {
		if verified(t, got, secret) != want {
			t.Errorf("verified with %s: %v", secret[:10], !want)
		}
	}
	changed := got
	changed.body = append([]byte(" "), got.body...)
	if verified(t, changed, current) {
		t.Error("another body is verified too")
	}
	var p Payload
	if err := json.Unmarshal(got.body, &p); err != nil || p.Type != EventOpened || p.Data.Count != 40 || p.Data.Organisation != "acme" || p.Data.Fields[0] != (PayloadField{"tenant", "9f3c"}) {
		t.Errorf("%v: %s", err, got.body)
	}
}

// silence accepts and never answers; reset breaks the connection.
func silence(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() }
func reset(http.ResponseWriter, *http.Request)       { panic(http.ErrAbortHandler) }

func TestAWebhookThatFailsIsCalledAgainWithTheSameIdAndANewSignature(t *testing.T) {
	server := newReceiver(t, answer(500, "\x1b[31mno"), reset, answer(302, ""), answer(200, strings.Repeat("x", 1<<20)))
	o := options(t, memory.New(), new(mailbox), Endpoint{Org: "acme", ID: "siem", URL: server.URL, SecretFiles: secretFiles(t, secretOf('a'))})
	o.Roots = server.roots()
	d := open(t, o)
	tell(t, d, campaign)
	id := d.due(time.Now().Add(time.Hour))[0]
	e := o.Endpoints()[0]
	for range 4 {
		if _, err := d.attempt(t.Context(), e, id); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.Request(t.Context(), id)
	if err != nil || r.State != Delivered || len(r.Attempts) != 4 {
		t.Fatalf("%v: %+v", err, r)
	}
	if r.Attempts[0].Answer != "?[31mno" || r.Attempts[1].Error == "" || !strings.Contains(r.Attempts[2].Error, "redirects") || len(r.Attempts[3].Answer) > maxTold {
		t.Errorf("%+v", r.Attempts)
	}
	for _, one := range server.seen() {
		if one.id != id || !verified(t, one, secretOf('a')) {
			t.Errorf("%+v", one)
		}
	}
}

func TestRetriesGoOnForThreeDaysAndThenTheContactIsTold(t *testing.T) {
	r, at := Request{State: Pending, Event: EventOpened}, noon
	for r.State == Pending {
		r = r.After(verdict{attempt: Attempt{At: at, Status: 503}}, 0.5)
		if r.State == Pending {
			at = r.Next
		}
	}
	if lasted := at.Sub(noon); r.State != Failed || lasted < 72*time.Hour || r.Tries != 10 {
		t.Errorf("%s after %s and %d tries", r.State, lasted, r.Tries)
	}
	r = Request{State: Pending}.After(verdict{attempt: Attempt{At: noon, Status: 429}, wait: time.Hour}, 0)
	if !r.Next.Equal(noon.Add(time.Hour)) {
		t.Errorf("Retry-After is not kept: %s", r.Next)
	}
	for text, want := range map[string]time.Duration{"120": 2 * time.Minute, "-1": 0, "99999999": maxRetryWait, noon.Add(time.Hour).Format(http.TimeFormat): time.Hour, "soon": 0} {
		if got := waitOf(text, noon); got != want {
			t.Errorf("Retry-After %q: %s", text, got)
		}
	}
}

func TestAnEndpointThatAnswers410IsSwitchedOffUntilATestIsTaken(t *testing.T) {
	server := newReceiver(t, answer(410, "gone"))
	box, engine := new(mailbox), memory.New()
	o := options(t, engine, box, Endpoint{Org: "acme", ID: "siem", URL: server.URL, SecretFiles: secretFiles(t, secretOf('a'))})
	o.Roots = server.roots()
	d := open(t, o)
	e := o.Endpoints()[0]
	tell(t, d, campaign)
	more := campaign
	more.Key = "campaign/c2"
	tell(t, d, more)
	if _, err := d.attempt(t.Context(), e, d.due(time.Now())[0]); err != nil {
		t.Fatal(err)
	}
	if due := d.due(time.Now()); len(due) != 0 {
		t.Errorf("still due: %v", due)
	}
	d = open(t, o) // it is remembered
	more.Key = "campaign/c3"
	tell(t, d, more)
	if due := d.due(time.Now()); len(due) != 0 {
		t.Errorf("told although it said 410: %v", due)
	}
	open := d.Incidents("acme", true)
	if open[0].Kind != KindWebhook && open[1].Kind != KindWebhook {
		t.Errorf("nobody is told of it: %+v", open)
	}
	r, err := d.Try(t.Context(), "acme/siem")
	if err != nil || r.State != Delivered {
		t.Fatalf("%v: %+v", err, r)
	}
	more.Key = "campaign/c4"
	tell(t, d, more)
	if due := d.due(time.Now()); len(due) != 1 {
		t.Errorf("not told after the test: %v", due)
	}
}

func TestWhatWasToldIsDeliveredAfterARestartInTheMiddleOfRetries(t *testing.T) {
	server := newReceiver(t, answer(500, ""))
	engine := memory.New()
	o := options(t, engine, new(mailbox), Endpoint{Org: "acme", ID: "siem", URL: server.URL, SecretFiles: secretFiles(t, secretOf('a'))})
	o.Roots = server.roots()
	d := open(t, o)
	tell(t, d, campaign)
	if _, err := d.attempt(t.Context(), o.Endpoints()[0], d.due(time.Now())[0]); err != nil {
		t.Fatal(err)
	}
	o.Store = engine.Clone()
	again := open(t, o)
	if due := again.due(time.Now().Add(-time.Minute)); len(due) != 0 {
		t.Errorf("due at once: %v", due)
	}
	due := again.due(time.Now().Add(time.Minute))
	if len(due) != 1 {
		t.Fatalf("%d due", len(due))
	}
	if r, err := again.attempt(t.Context(), o.Endpoints()[0], due[0]); err != nil || r.State != Delivered || len(r.Attempts) != 2 {
		t.Errorf("%v: %+v", err, r)
	}
	seen := server.seen()
	if len(seen) != 2 || seen[0].id != seen[1].id || string(seen[0].body) != string(seen[1].body) {
		t.Errorf("%+v", seen)
	}
	if r, err := again.Replay(t.Context(), due[0]); err != nil || r.State != Pending || r.Tries != 0 {
		t.Errorf("replay: %v %+v", err, r)
	}
}

func TestACallThatTheStopBreaksOffDoesNotCount(t *testing.T) {
	server := newReceiver(t, silence)
	o := options(t, memory.New(), new(mailbox), Endpoint{Org: "acme", ID: "siem", URL: server.URL, SecretFiles: secretFiles(t, secretOf('a'))})
	o.Roots = server.roots()
	d := open(t, o)
	tell(t, d, campaign)
	stop := run(d)
	until(t, "the call", func() bool { return len(server.seen()) == 1 })
	stop()
	list, err := d.History(t.Context(), "acme", "siem", 10)
	if err != nil || len(list) != 1 || list[0].State != Pending || len(list[0].Attempts) != 0 {
		t.Errorf("%v: %+v", err, list)
	}
}

func TestAStallingEndpointDoesNotKeepOthersWaiting(t *testing.T) {
	stalls, works := newReceiver(t, silence), newReceiver(t)
	secrets := secretFiles(t, secretOf('a'))
	o := options(t, memory.New(), new(mailbox), Endpoint{Org: "acme", ID: "a", URL: stalls.URL, SecretFiles: secrets}, Endpoint{Org: "acme", ID: "b", URL: works.URL, SecretFiles: secrets})
	o.Roots = works.roots()
	o.Roots.AddCert(stalls.Certificate())
	d := open(t, o)
	defer run(d)()
	tell(t, d, campaign)
	until(t, "both calls", func() bool { return len(works.seen()) == 1 && len(stalls.seen()) == 1 })
}

func TestRequestsOfAnOrganisationThatLeftAreDropped(t *testing.T) {
	secrets := secretFiles(t, secretOf('a'))
	o := options(t, memory.New(), new(mailbox), Endpoint{Org: "acme", ID: "siem", URL: "https://127.0.0.1:1/", SecretFiles: secrets})
	endpoints := o.Endpoints()
	o.Endpoints = func() []Endpoint { return endpoints }
	d := open(t, o)
	tell(t, d, campaign)
	endpoints = nil
	synctestWait(d)
	list, err := d.History(t.Context(), "acme", "", 10)
	if err != nil || len(list) != 1 || list[0].State != Dropped || list[0].Note == "" {
		t.Errorf("%v: %+v", err, list)
	}
	if _, err := d.Replay(t.Context(), list[0].ID); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("replay: %v", err)
	}
}

// synctestWait lets a dispatcher look once at what is due.
func synctestWait(d *Dispatcher) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d.callDue(ctx, nil, time.Now().UTC())
}

func TestAnEndpointHearsOfItsOwnOrganisationAndOfWhatItWants(t *testing.T) {
	i, _ := Incident{}.After(campaign.clean(noon))
	failed, _ := Incident{}.After(failure(Endpoint{Org: "acme", ID: "siem"}, Request{Attempts: []Attempt{{}}}).clean(noon))
	for _, c := range []struct {
		e     Endpoint
		i     Incident
		event EventType
		want  bool
	}{
		{Endpoint{Org: "acme", ID: "siem"}, i, EventOpened, true},
		{Endpoint{Org: "other", ID: "siem"}, i, EventOpened, false},
		{Endpoint{ID: "operator"}, i, EventOpened, true},
		{Endpoint{Org: "acme", ID: "siem", Events: []EventType{EventEnded}}, i, EventOpened, false},
		{Endpoint{Org: "acme", ID: "siem", Events: []EventType{EventEnded}}, i, EventEnded, true},
		{Endpoint{Org: "acme", ID: "siem"}, failed, EventOpened, false},
		{Endpoint{Org: "acme", ID: "other"}, failed, EventOpened, true},
	} {
		if got := c.e.wants(&c.i, c.event); got != c.want {
			t.Errorf("%s of %s, %s: %v", c.e.Name(), c.i.Kind, c.event, got)
		}
	}
}

func TestNoAddressOfTheInsideIsPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "127.0.0.1": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false, "::1": false, "::": false, "fc00::1": false, "fe80::1": false,
		"fe80::1%eth0": false, "ff02::1": false, "::ffff:8.8.8.8": false, "::ffff:127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
		"2001::1": false, "2001:db8::1": false, "198.18.0.1": false, "192.0.2.1": false, "::127.0.0.1": false,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestTheGuardDialsWhatItChecked(t *testing.T) {
	server := newReceiver(t)
	port := server.URL[strings.LastIndex(server.URL, ":")+1:]
	for name, list := range map[string][]string{
		"inside.test": {"127.0.0.1"}, "mapped.test": {"::ffff:127.0.0.1"}, "metadata.test": {"169.254.169.254"}, "own.test": {"8.8.4.4"}, "nothing.test": nil,
	} {
		lookups := 0
		g := &Guard{Own: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("8.8.4.4")} }, Lookup: func(context.Context, string) (addrs []netip.Addr, err error) {
			lookups++
			for _, a := range list {
				addrs = append(addrs, netip.MustParseAddr(a))
			}
			return addrs, nil
		}}
		if conn, err := g.Dial(t.Context(), "tcp", name+":"+port); err == nil {
			conn.Close()
			t.Errorf("%s was dialled", name)
		}
		if lookups != 1 {
			t.Errorf("%s was looked up %d times", name, lookups)
		}
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]"} {
		if conn, err := new(Guard).Dial(t.Context(), "tcp", host+":"+port); err == nil {
			conn.Close()
			t.Errorf("%s was dialled", host)
		}
	}
	if len(server.seen()) != 0 {
		t.Error("something reached the server")
	}
}

func TestAServerWithAForeignCertificateIsNotTold(t *testing.T) {
	server := newReceiver(t)
	o := options(t, memory.New(), new(mailbox), Endpoint{Org: "acme", ID: "siem", URL: server.URL, SecretFiles: secretFiles(t, secretOf('a'))})
	d := open(t, o)
	r, err := d.Try(t.Context(), "acme/siem")
	if err != nil || r.State != Failed || !strings.Contains(r.Attempts[0].Error, "certificate") || len(server.seen()) != 0 {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestTheProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy, server := newReceiver(t), newReceiver(t)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("https_proxy", proxy.URL)
	o := options(t, memory.New(), new(mailbox), Endpoint{Org: "acme", ID: "siem", URL: server.URL, SecretFiles: secretFiles(t, secretOf('a'))})
	o.Roots = server.roots()
	if r, err := open(t, o).Try(t.Context(), "acme/siem"); err != nil || r.State != Delivered || len(proxy.seen()) > 0 {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestURLsThatLeadInsideOrShowSecretsAreRefused(t *testing.T) {
	for url, want := range map[string][2]bool{ // without and with loopback
		"https://siem.acme.example/hook": {true, true}, "https://siem.acme.example:8443/a?b=c": {true, true}, "http://siem.acme.example/": {false, false},
		"http://127.0.0.1:8000/": {false, true}, "https://[::1]/": {false, true}, "https://10.0.0.1/": {false, false}, "https://[::ffff:10.0.0.1]/": {false, false},
		"https://u:p@siem.acme.example/": {false, false}, "ftp://siem.acme.example/": {false, false}, "https:///x": {false, false}, "file:///etc/passwd": {false, false},
		"https://siem.acme.example/#x": {false, false}, "\x00": {false, false}, "gopher://127.0.0.1/": {false, false},
	} {
		for k, loopback := range []bool{false, true} {
			if err := CheckURL(url, loopback); (err == nil) != want[k] {
				t.Errorf("%q, loopback %v: %v", url, loopback, err)
			}
		}
	}
}

func FuzzSecret(f *testing.F) {
	f.Add(secretOf('a'))
	f.Add("whsec_")
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := parseSecret(text)
		if err == nil && (len(secret) < minSecret || len(secret) > maxSecret) {
			t.Errorf("%d octets", len(secret))
		}
		if err != nil && len(text) > 12 && strings.Contains(err.Error(), text) {
			t.Errorf("the error repeats it: %v", err)
		}
	})
}

func TestOneMailAtATimeAndTheWorstFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := new(mailbox)
		d := open(t, options(t, memory.New(), box))
		stop := run(d)
		defer stop()
		tell(t, d, campaign)
		synctest.Wait()
		if len(box.of("acme")) != 1 || len(box.of("")) != 1 {
			t.Fatalf("%d and %d mails at once", len(box.of("acme")), len(box.of("")))
		}
		for n := range 1000 { // a storm: each a new incident
			a := campaign
			a.Key, a.Count = "c/"+string(rune('0'+n%10))+time.Duration(n).String(), n+1
			tell(t, d, a)
		}
		time.Sleep(mailGap - time.Minute)
		if len(box.of("acme")) != 1 {
			t.Fatal("a mail within the pause")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		mails := box.of("acme")
		if len(mails) != 2 || len(mails[1].Incidents) != maxMailed || mails[1].More != 1000-maxMailed || mails[1].Incidents[0].Count != 1000 {
			t.Fatalf("%d mails", len(mails))
		}
		time.Sleep(24 * time.Hour)
		if len(box.of("acme")) != 2 || len(box.of("")) != 2 {
			t.Error("told again of what is known")
		}
		over := campaign
		over.Ended = true
		tell(t, d, over)
		synctest.Wait()
		if mails = box.of("acme"); len(mails) != 3 || mails[2].Incidents[0].Ended.IsZero() {
			t.Error("the end is not told")
		}
	})
}

func TestMailThatCannotBeKeptIsTriedAgainAlsoAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, engine := &mailbox{fail: errors.New("no room")}, memory.New()
		stop := run(open(t, options(t, engine, box)))
		d := open(t, options(t, engine, box))
		tell(t, d, campaign)
		stop()
		box.fail = nil
		again := open(t, options(t, engine, box))
		stop = run(again)
		defer stop()
		synctest.Wait()
		if len(box.of("acme")) != 1 {
			t.Error("not told after the restart")
		}
	})
}

func TestWhoHasNoContactOrLeftIsNotMailedAndTheOperatorIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := new(mailbox)
		o := options(t, memory.New(), box)
		d := open(t, o)
		defer run(d)()
		for _, org := range []string{"quiet", "left", ""} {
			a := campaign
			a.Key, a.Org = "c/"+org, org
			tell(t, d, a)
		}
		time.Sleep(mailGap + time.Minute)
		synctest.Wait()
		told := 0
		for _, m := range box.of("") {
			told += len(m.Incidents)
		}
		if len(box.of("quiet"))+len(box.of("left")) != 0 || told != 3 {
			t.Errorf("%+v", box.got)
		}
	})
}
