package acceptance

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
)

// screens starts the relay again with lines of [screening].
func (r *relay) screens(t *testing.T, lines string) {
	t.Helper()
	r.stop(t)
	r.write(t, "relay.toml", fmt.Sprintf(nodeConfig, r.internet.DNS(), r.receiver.Addr().Port())+"[screening]\nmark_field = \"X-Screened\"\n"+lines)
	r.start(t)
}

// checking is guarded with marks, and with more lines for globex.
func checking(t *testing.T, more ...string) (r *relay, inside *lab.Receiver) {
	t.Helper()
	r, inside = guarded(t, more...)
	r.screens(t, "")
	return r, inside
}

// named is mail of acme with a name beside its address.
func named(name string) letter { return mailFromUser("app@acme", name+" <ann@acme.test>") }

// inviting makes an invitation of a letter.
func inviting(l letter, organizer string) letter {
	return l.edited("Content-Type: text/plain; charset=utf-8", "Content-Type: text/calendar; method=REQUEST; charset=utf-8").
		body("BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nORGANIZER;CN=\"The boss\":mai\r\n lto:" + organizer + "\r\nATTENDEE:mailto:victim@mailbox.test\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n")
}

// carrying puts a file into a letter.
func carrying(l letter, name string, data []byte) letter {
	var lines strings.Builder
	for text := base64.StdEncoding.EncodeToString(data); text != ""; {
		n := min(76, len(text))
		lines.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return l.edited("Content-Type: text/plain; charset=utf-8", "Content-Type: application/octet-stream; name=\""+name+"\"").
		ended("Content-Transfer-Encoding: base64").body(lines.String())
}

// spoofs are the ways of row A31 to write as somebody else, with what is found; l
// makes a letter with a name.
func spoofs(l func(name string) letter, victim string) map[string]letter {
	return map[string]letter{
		"name-is-address":                       l(`"ceo@` + victim + `"`),
		"name-is-address, in an encoded-word":   l("=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte("ceo@"+victim)) + "?="),
		"name-is-address, with a wide at sign":  l("=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte("ceo＠"+victim)) + "?="),
		"name-is-address, beside a name":        l(`"The Boss (ceo@` + victim + `)"`),
		"invite-protected":                      inviting(l("Ann"), "ceo@"+victim),
		"invite-protected, with an escaped at":  inviting(l("Ann"), "ceo%40"+victim),
		"invite-other":                          inviting(l("Ann"), "ceo@bank.test"),
		"name-is-address, of nobody's customer": l(`"ceo@bank.test"`),
	}
}

// contentRow is what our own checks find in mail both ways.
func contentRow() row {
	return row{id: "A31", scenario: "display name and calendar", variants: []variant{
		does("out: marked and told", func(t *testing.T, _ *relay) { spoofsGoOutMarkedAndTold(t) }),
		does("out: held where the organisation wants that", func(t *testing.T, _ *relay) { spoofsAreHeldOrRefused(t) }),
		does("out: the organisation's other names are its own", func(t *testing.T, _ *relay) { ownNamesAlarmNobody(t) }),
		does("in: held, or marked", func(t *testing.T, _ *relay) { spoofsComeInHeldOrMarked(t) }),
		does("in: refused where the organisation wants that", func(t *testing.T, _ *relay) { spoofsAreRefusedAtTheDoor(t) }),
		does("from one customer to another", func(t *testing.T, _ *relay) { spoofsOfACustomerAreHeldAtAnothers(t) }),
	}}
}

// alarms are the facts about what an organisation's own source sent.
func (r *relay) alarms(t *testing.T) (found []ledger.Fact) {
	t.Helper()
	for _, facts := range r.facts(t, url.Values{"event": {string(ledger.ContentAlarm)}}) {
		found = append(found, facts...)
	}
	return found
}

func spoofsGoOutMarkedAndTold(t *testing.T) {
	r, _ := checking(t)
	all := spoofs(named, "globex.test")
	for what, l := range all {
		code, _, _ := strings.Cut(what, ",")
		if _, answer := r.send(t, l); answer.code != 250 {
			t.Errorf("%s: %s", what, answer)
			continue
		}
		j := r.await(t, messageID(l.data))
		if !j.Aligned || !strings.Contains(string(j.Data), "X-Screened: Yes\r\n") {
			t.Errorf("%s arrived as %+v", what, j)
		}
		if told := r.factsAbout(t, "acme", ledger.Accepted); !strings.Contains(told, "checks "+code+": ") {
			t.Errorf("%s: the ledger tells %s", what, told)
		}
	}
	alarms := r.alarms(t)
	for _, f := range alarms {
		if f.Org != "acme" || f.Source != "app" || !strings.Contains(f.Detail, "name-is-address") && !strings.Contains(f.Detail, "invite-") || strings.Contains(f.Detail, "ceo") {
			t.Errorf("told %+v", f)
		}
	}
	if page := r.metricsPage(t); len(alarms) != len(all) || !strings.Contains(page, fmt.Sprintf(`anechoic_facts_total{event="content_alarm"} %d`, len(all))) {
		t.Errorf("%d alarms of %d messages", len(alarms), len(all))
	}
	if !strings.Contains(r.log.String(), "content alarm") {
		t.Error("the log does not tell")
	}
}

// factsAbout is the details of an organisation's facts of one kind.
func (r *relay) factsAbout(t *testing.T, org string, event ledger.Event) string {
	t.Helper()
	var b strings.Builder
	for _, facts := range r.facts(t, url.Values{"org": {org}, "event": {string(event)}}) {
		for _, f := range facts {
			fmt.Fprintln(&b, f.Detail)
		}
	}
	return b.String()
}

// acmeScreens is the registry with what acme wants of its outbound mail.
func acmeScreens(line string) string {
	return strings.Replace(registry(), "id = \"acme\"\n", "id = \"acme\"\n"+line+"\n", 1)
}

func spoofsAreHeldOrRefused(t *testing.T) {
	r := newRelay(t, acmeScreens(`screening.outbound = { checks = "hold" }`), nil)
	id := r.detain(t, named(`"ceo@globex.test"`))
	if got := r.detained(t, url.Values{"org": {"acme"}, "reason": {"CONTENT_REFUSED"}}); len(got) != 1 || got[0] != id {
		t.Errorf("detained are %v", got)
	}
	if alarms := r.alarms(t); len(alarms) != 1 || !strings.HasSuffix(alarms[0].Detail, "to: hold") {
		t.Errorf("told %+v", alarms)
	}
	// A person may let it go: it is acme's own.
	if released := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); released.Done != 1 {
		t.Errorf("released: %+v", released)
	}
	r.writeRegistry(t, acmeScreens(`screening.outbound = { checks = "refuse" }`))
	r.reload(t)
	if _, answer := r.send(t, named(`"ceo@globex.test"`)); answer.code != 550 || answer.reason != mail.ReasonContentRefused {
		t.Errorf("answered %s", answer)
	}
	r.writeRegistry(t, acmeScreens(`screening.outbound = { checks = "off" }`))
	r.reload(t)
	if _, answer := r.send(t, named(`"ceo@globex.test"`)); answer.code != 250 || len(r.alarms(t)) != 2 {
		t.Errorf("switched off: %s, %v", answer, r.alarms(t))
	}
}

func ownNamesAlarmNobody(t *testing.T) {
	r, _ := checking(t)
	for _, l := range []letter{
		named("Ann"), named(`"ann@acme.test"`), named(`"ann@x.acme-sub.test"`), named(`"ann@acme.onmicrosoft.com"`),
		inviting(named("Ann"), "boss@acme.test"), inviting(named("Ann"), "boss@acme-sub.test"),
	} {
		if _, answer := r.send(t, l); answer.code != 250 {
			t.Fatalf("%s", answer)
		}
		if j := r.await(t, messageID(l.data)); strings.Contains(string(j.Data), "X-Screened") {
			t.Errorf("it is marked:\n%s", j.Data)
		}
	}
	if alarms := r.alarms(t); len(alarms) > 0 {
		t.Errorf("told %+v", alarms)
	}
}

// partnerNamed is mail of globex's partner with a name.
func partnerNamed(name string) letter {
	return forGlobex(mailFromNobody(partner, name+" <carol@partner.test>"))
}

func spoofsComeInHeldOrMarked(t *testing.T) {
	r, inside := checking(t, "[organisation.screening]", `protected_people = ["Ann Example"]`, `protected_domains = ["big-bank.test"]`)
	for what, l := range spoofs(partnerNamed, "globex.test") {
		if what == "invite-other" || strings.Contains(what, "nobody's") {
			if j := r.comesIn(t, inside, l); !strings.Contains(string(j.Data), "X-Screened: Yes\r\n") {
				t.Errorf("%s came in unmarked", what)
			}
			continue
		}
		r.detain(t, l)
	}
	if got := r.detained(t, url.Values{"org": {"globex"}, "reason": {"CONTENT_REFUSED"}}); len(got) != 6 {
		t.Errorf("%d are detained", len(got))
	}
	for what, l := range map[string]letter{
		"a person":              partnerNamed("Ann Example"),
		"a person, turned over": partnerNamed(`"EXAMPLE, Ann"`),
	} {
		if j := r.comesIn(t, inside, l); !strings.Contains(string(j.Data), "X-Screened: Yes\r\n") || !strings.Contains(string(j.Data), "Authentication-Results: relay.anechoic.test; ") {
			t.Errorf("%s came in unmarked", what)
		}
	}
	r.detain(t, partnerNamed(`"ceo@big-bank.test"`))
	if j := r.comesIn(t, inside, partnerNamed("Carol")); strings.Contains(string(j.Data), "X-Screened") {
		t.Error("honest mail is marked")
	}
	if alarms := r.alarms(t); len(alarms) > 0 {
		t.Errorf("strangers' mail alarms: %+v", alarms)
	}
}

func spoofsAreRefusedAtTheDoor(t *testing.T) {
	r, inside := checking(t, "[organisation.screening]", `inbound = { checks = "refuse" }`)
	r.isRefused(t, inside, partnerNamed(`"ceo@globex.test"`), mail.ContentRefused)
	r.isRefused(t, inside, carrying(partnerNamed("Carol"), "invoice.pdf.exe", []byte("MZ")), mail.ContentRefused)
}

// What a customer sends another is told on its way out and judged at its way in.
func spoofsOfACustomerAreHeldAtAnothers(t *testing.T) {
	r, inside := checking(t)
	l := forGlobex(named(`"ceo@globex.test"`))
	if _, answer := r.send(t, l); answer.code != 250 {
		t.Fatalf("%s", answer)
	}
	eventually(t, "globex's door holds it", func() bool { return len(r.detained(t, url.Values{"org": {"globex"}})) == 1 })
	if alarms := r.alarms(t); len(alarms) != 1 || alarms[0].Org != "acme" {
		t.Errorf("told %+v", alarms)
	}
	ids := r.detained(t, url.Values{"org": {"globex"}})
	eventually(t, "it is released", func() bool { // the list shows it as soon as it is durable, a moment before it may be released
		return r.judge(t, api.Release, api.DetainedSelection{IDs: ids}).Done == 1
	})
	eventually(t, "the released message is at globex's server", func() (there bool) {
		_, there = inside.Judgement(messageID(l.data))
		return there
	})
}

func TestScannersSeeWhatComesIn(t *testing.T) {
	r, inside := guarded(t)
	s := startScanner(t, r.dir)
	r.screens(t, fmt.Sprintf("clamd = %q\ntimeout = \"10s\"\n", "unix:"+s.socket))
	word := func(w string) letter {
		return forGlobex(mailFromNobody(partner, "carol@partner.test", "X-Word: "+w))
	}
	r.isRefused(t, inside, word("XVIRUS"), mail.Malware)
	r.isRefused(t, inside, word("XNONSENSE"), mail.ScreeningLost)
	id := r.detain(t, word("XLOCKED"))
	r.comesIn(t, inside, word("nothing"))
	// What is malware is refused though the sender's policy wants it held: it never
	// lies in quarantine.
	r.isRefused(t, inside, forGlobex(mailFromNobody(vps, "dan@careful.test", "X-Word: XVIRUS")), mail.Malware)
	if released := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); released.Done != 1 {
		t.Errorf("released: %+v", released)
	}
	// What a customer sends another is looked at once more at the door.
	own := forGlobex(mailFromUser("app@acme", "ann@acme.test", "X-Word: nothing at all"))
	r.comesIn(t, inside, own)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := bytes.Count(s.seen, []byte("nothing at all")); n != 2 {
		t.Errorf("it was seen %d times", n)
	}
}

// A release asks scanners again: what is malware by now stays, and so does what
// nobody can look at.
func TestAReleaseIsScreenedAgain(t *testing.T) {
	own, s := screened(t, acmeScreens(`screening.outbound = { checks = "hold", on_loss = "hold" }`), "")
	id := own.detain(t, mailFromUser("app@acme", "ann@acme.test", "X-Word: XNONSENSE"))
	judged := own.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}})
	if judged.Done != 0 {
		t.Errorf("what nobody looked at was released: %+v", judged)
	}
	s.say("XNONSENSE", "stream: Test.Virus FOUND\x00")
	if judged = own.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); judged.Done != 0 {
		t.Errorf("malware was released: %+v", judged)
	}
	s.say("XNONSENSE", "stream: OK\x00")
	if judged = own.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); judged.Done != 1 {
		t.Errorf("it stays: %+v", judged)
	}
}

func TestStatusTellsOfScannersAndAReloadOfThemIsRefused(t *testing.T) {
	r, s := screened(t, registry(), "")
	status, err := r.api.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Scanners) != 2 || status.Scanners[0].Name != "clamd" || !status.Scanners[1].Answers || status.Scanners[1].Name != "checks" || status.Scanners[1].Circuit != "closed" {
		t.Errorf("%+v", status.Scanners)
	}
	r.write(t, "relay.toml", fmt.Sprintf(nodeConfig, r.internet.DNS(), r.receiver.Addr().Port())+fmt.Sprintf("[screening]\nclamd = %q\non_loss = \"hold\"\n", "unix:"+s.socket))
	if err := r.app.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "[screening] in relay.toml changed, which needs a restart") {
		t.Errorf("the reload says %v", err)
	}
}

// bomb is an archive that unpacks to 64 MiB.
func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("report.txt")
	for range 64 {
		if err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// archiveInArchive is an archive in an archive, in an archive, and so on.
func archiveInArchive(t *testing.T, depth int) []byte {
	t.Helper()
	data := []byte("MZ")
	for range depth {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.Create("inner.zip")
		if err == nil {
			_, err = w.Write(data)
		}
		if err == nil {
			err = z.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	return data
}

// deep is a letter of parts in parts.
func deep(l letter, depth int) letter {
	var b strings.Builder
	for i := range depth {
		fmt.Fprintf(&b, "--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, i+1)
	}
	return l.edited("Content-Type: text/plain; charset=utf-8", "Content-Type: multipart/mixed; boundary=b0").
		body(b.String() + "\r\n")
}

// Hostile messages have a clear verdict through the whole relay, both ways.
func TestHostileContentHasAClearVerdict(t *testing.T) {
	r, inside := checking(t, "[organisation.screening]", `inbound = { checks = "refuse" }`)
	carol := func() letter { return partnerNamed("Carol") }
	links := strings.Repeat("https://a.test/x https://b.test@c.test/ \r\n", 20_000)
	for what, c := range map[string]struct {
		l       letter
		refusal *mail.Refusal // nil: it comes in marked
	}{
		"an archive bomb":             {carrying(carol(), "report.zip", bomb(t)), mail.ContentRefused},
		"archives in archives":        {carrying(carol(), "report.zip", archiveInArchive(t, 40)), nil},
		"parts in parts past bounds":  {deep(carol(), 150), mail.MIMETooDeep},
		"parts in parts":              {deep(carol(), 90), nil},
		"a thousand parts and more":   {carol().edited("Content-Type: text/plain; charset=utf-8", "Content-Type: multipart/mixed; boundary=b").body(strings.Repeat("--b\r\n\r\nx\r\n", 5000) + "--b--\r\n"), nil},
		"links without end":           {carol().body(links), nil},
		"a header list without end":   {carol().topped(strings.Fields(strings.Repeat("X-A:b ", 3000))...), mail.HeaderTooBig},
		"a thousand names in one":     {carol().ended("Reply-To: " + strings.TrimSuffix(strings.Repeat("\"ceo@globex.test\" <x@glob-ex.test>,\r\n ", 400), ",\r\n ")), nil},
		"parameters without end":      {carol().edited("Content-Type: text/plain; charset=utf-8", "Content-Type: text/plain"+strings.Repeat(";\r\n name*0=a; name*1=.exe", 300)), mail.ContentRefused},
		"a calendar without end":      {inviting(carol(), "x@partner.test").body("BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\n" + strings.Repeat("ORGANIZER:mailto:a@school.test\r\nATTENDEE:mailto:c@d.test\r\n", 10_000)), nil},
		"a file that is cut off":      {carrying(carol(), "report.zip", bomb(t)[:2000]), nil},
		"a program by another name":   {carrying(carol(), "report.pdf", append([]byte("MZ\x90\x00"), make([]byte, 200)...)), mail.ContentRefused},
		"a piece of a message, alone": {carol().edited("Content-Type: text/plain; charset=utf-8", "Content-Type: message/partial; id=x; number=1; total=2"), nil},
	} {
		t.Run(what, func(t *testing.T) {
			start := time.Now()
			switch {
			case strings.Contains(what, "alone"):
				r.detain(t, c.l)
			case c.refusal != nil:
				r.isRefused(t, inside, c.l, c.refusal)
			default:
				if j := r.comesIn(t, inside, c.l); !strings.Contains(string(j.Data), "X-Screened: Yes\r\n") {
					t.Error("it came in unmarked")
				}
			}
			t.Logf("in %v", time.Since(start))
		})
	}
	// The relay is as well as before.
	r.comesIn(t, inside, carol())
}

// A scanner that drips, or is silent, or lies about lengths has its time and no more,
// and what it did not judge does not pass.
func TestScannersThatLieOrDawdleAreLost(t *testing.T) {
	for what, c := range map[string]struct {
		key  string
		talk func(net.Conn)
	}{
		"a clamd that says nothing":            {"clamd", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }},
		"a clamd that says it before it reads": {"clamd", func(conn net.Conn) { _, _ = io.WriteString(conn, "stream: OK\x00") }},
		"a clamd that drips":                   {"clamd", drip},
		"an rspamd that says nothing":          {"rspamd", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }},
		"an rspamd that answers two things":    {"rspamd", answering(`{"score":0,"required_score":15,"action":"no action","action":"reject","symbols":{}}`)},
		"an rspamd that answers without end":   {"rspamd", answering(`{"score":0,"required_score":15,"action":"no action","symbols":{` + strings.Repeat(`"A":{"score":1},`, 100_000) + `}}`)},
		"an rspamd whose score is no number":   {"rspamd", answering(`{"score":"NaN","required_score":15,"action":"no action","symbols":{}}`)},
		"a milter that says nothing":           {"milter", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }},
		"a milter with a packet without end":   {"milter", func(conn net.Conn) { _, _ = conn.Write([]byte("\xff\xff\xff\xffO")) }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r, inside := guarded(t)
			lines := fmt.Sprintf("%s = %q\n", c.key, listening(t, r.dir, c.key, c.talk))
			if c.key == "milter" {
				lines = strings.Replace(strings.Replace(lines, "milter = ", "milters = [", 1), "\n", "]\n", 1)
			}
			r.screens(t, "timeout = \"1s\"\n"+lines)
			long := strings.Repeat("It was a dark and stormy night.\r\n", 20_000) // more than a socket takes unread
			r.isRefused(t, inside, forGlobex(mailFromNobody(partner, "carol@partner.test")).body(long), mail.ScreeningLost)
			r.isRefused(t, inside, mailFromUser("app@acme", "ann@acme.test").body(long), mail.ScreeningLost)
		})
	}
}

// drip answers an octet at a time, for longer than anybody waits.
func drip(conn net.Conn) {
	for {
		if _, err := conn.Write([]byte("s")); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// answering reads a request's head, and answers with a text.
func answering(text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.ReadAtLeast(conn, make([]byte, 64<<10), 600)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
	}
}

// listening is where a scanner listens that does this.
func listening(t *testing.T, dir, key string, talk func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(dir, key)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); talk(conn) }()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "unix:" + path
}
