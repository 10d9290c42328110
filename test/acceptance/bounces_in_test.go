package acceptance

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
)

// newReturning is a relay where reports about globex's mail come back, and globex
// has a suppression list.
func newReturning(t *testing.T) *relay {
	t.Helper()
	text := registry()
	for _, change := range [][2]string{
		{"id = \"globex\"\nname = \"globex\"\n", "id = \"globex\"\nname = \"globex\"\nreturn_path = \"bounces.globex.test\"\nsuppression = { hard_bounces = 2 }\n"},
		{"name = \"globex.test\"\nsubdomains = false", "name = \"globex.test\"\nsubdomains = true"},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("%q is not once in the registry", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return newRelay(t, text, func(n *lab.Internet) {
		n.Zone.SetTXT("_anechoic.globex.test", "v=anechoic1; org=globex; sub=yes")
	})
}

// sentFor sends a message of globex's and gives it as it arrived, with its id.
func (r *relay) sentFor(t *testing.T, to string) (lab.Judgement, mail.ID) {
	t.Helper()
	l := mailFromUser("app@globex", "ann@globex.test").recipients(to)
	stage, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	return r.await(t, messageID(l.data)), acceptedID(answer)
}

// comesBack hands in a report as a stranger's server does.
func (r *relay) comesBack(t *testing.T, to, data string) (stage string, answer reply) {
	t.Helper()
	return r.send(t, letter{peer: vps, from: "", to: []string{to}, data: data})
}

// statusReport is a DSN about a recipient, with a stranger's words.
func statusReport(recipient, action, status, said string) string {
	return strings.ReplaceAll(fmt.Sprintf(`From: MAILER-DAEMON@mx.stranger.test
To: somebody@stranger.test
Subject: Undelivered Mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b

Call +1 555 0100 for your refund.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.stranger.test

Final-Recipient: rfc822; %s
Action: %s
Status: %s
Diagnostic-Code: smtp; %s

--b--
`, recipient, action, status, said), "\n", "\r\n")
}

func (r *relay) factsOf(t *testing.T, id mail.ID, event ledger.Event) (found []ledger.Fact) {
	t.Helper()
	for _, f := range r.facts(t, url.Values{"id": {string(id)}}) {
		for _, one := range f {
			if one.Event == event {
				found = append(found, one)
			}
		}
	}
	return found
}

// noticesAbout are the reports of ours that name a message.
func (r *relay) noticesAbout(id mail.ID) (found []lab.Judgement) {
	for _, j := range r.receiver.Judgements() {
		if isBounce(j) && strings.Contains(string(j.Data), "X-Message-Id: "+string(id)) {
			found = append(found, j)
		}
	}
	return found
}

const strangersWords = "550 5.1.1 User unknown, call +1 555 0100"

func TestABounceThatComesBackIsToldToTheSender(t *testing.T) {
	r := newReturning(t)
	j, id := r.sentFor(t, "bob@"+mailbox)
	if !strings.HasPrefix(j.MailFrom, "b+") || !strings.HasSuffix(j.MailFrom, "@bounces.globex.test") || !j.Aligned {
		t.Fatalf("MAIL FROM %q, aligned %v", j.MailFrom, j.Aligned)
	}
	for range 2 { // the second time nothing is told again
		if stage, answer := r.comesBack(t, strings.ToUpper(j.MailFrom), statusReport("bob@"+mailbox, "failed", "5.1.1", strangersWords)); answer.code != 250 {
			t.Fatalf("at %s: %s", stage, answer)
		}
	}
	eventually(t, "a report to the sender", func() bool { return len(r.noticesAbout(id)) > 0 })
	facts := r.factsOf(t, id, ledger.BounceReceived)
	if len(facts) != 2 || facts[0].Class != "user_unknown" || facts[0].Org != "globex" || facts[0].Rcpt[0] != "bob@"+mailbox {
		t.Errorf("facts %+v", facts)
	}
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "marker@globex.test"))
	notices := r.noticesAbout(id)
	if len(notices) != 1 || notices[0].MailFrom != "" || notices[0].Recipients[0] != "ann@globex.test" {
		t.Fatalf("%d notices: %+v", len(notices), notices)
	}
	if text := string(notices[0].Data); strings.Contains(text, "555") || strings.Contains(text, "stranger") || !strings.Contains(text, "Status: 5.1.1") {
		t.Errorf("a stranger's words are passed on, or too little is said:\n%s", text)
	}
	story, err := r.app.Explain(t.Context(), id)
	if err != nil || !strings.Contains(strings.Join(story, "\n"), "A report came back about bob@"+mailbox+" (user_unknown)") {
		t.Errorf("%v, %q", err, story)
	}
}

func TestWhatDelaysOrAnswersIsKeptAndToldToNobody(t *testing.T) {
	r := newReturning(t)
	j, id := r.sentFor(t, "bob@"+mailbox)
	for _, data := range []string{
		statusReport("bob@"+mailbox, "delayed", "4.4.1", "timed out"),
		statusReport("bob@"+mailbox, "delivered", "2.0.0", "ok"), // nobody asked for it
		statusReport("carol@elsewhere.test", "delayed", "4.4.1", "timed out"),
		"From: bob@" + mailbox + "\r\nTo: ann@globex.test\r\nSubject: Re: x\r\nAuto-Submitted: auto-replied\r\n\r\nI am away.\r\n",
		"From: bob@" + mailbox + "\r\nTo: ann@globex.test\r\nSubject: hello\r\n\r\nBuy.\r\n",
	} {
		if stage, answer := r.comesBack(t, j.MailFrom, data); answer.code != 250 {
			t.Fatalf("at %s: %s", stage, answer)
		}
	}
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "marker@globex.test"))
	if facts := r.factsOf(t, id, ledger.BounceReceived); len(facts) != 5 || facts[0].Class != "network" {
		t.Errorf("facts %+v", facts)
	}
	if notices := r.noticesAbout(id); len(notices) != 0 {
		t.Errorf("%d notices", len(notices))
	}
}

func TestASuccessThatWasAskedForIsTold(t *testing.T) {
	r := newReturning(t)
	l := mailFromUser("app@globex", "ann@globex.test")
	c, _ := r.open(t, l)
	c.must(250, "MAIL FROM:<ann@globex.test>")
	c.must(250, "RCPT TO:<bob@"+mailbox+"> NOTIFY=SUCCESS,FAILURE")
	id := acceptedID(c.chunks(l.data, 1<<20))
	j := r.await(t, messageID(l.data))
	if stage, answer := r.comesBack(t, j.MailFrom, statusReport("bob@"+mailbox, "delivered", "2.0.0", "ok")); answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	eventually(t, "a report of delivery", func() bool {
		for _, n := range r.noticesAbout(id) {
			if strings.Contains(string(n.Data), "Action: delivered\r\n") {
				return true
			}
		}
		return false
	})
}

func TestForgedReturnsAreRefusedAtRcpt(t *testing.T) {
	r := newReturning(t)
	j, id := r.sentFor(t, "bob@"+mailbox)
	local, _, _ := strings.Cut(j.MailFrom, "@")
	last := "2"
	if strings.HasSuffix(local, "2") {
		last = "3"
	}
	report := statusReport("bob@"+mailbox, "failed", "5.1.1", strangersWords)
	for name, to := range map[string]string{
		"no token":           "bounce@bounces.globex.test",
		"a made-up token":    "b+" + strings.Repeat("a", 58) + "@bounces.globex.test",
		"a changed token":    local[:len(local)-1] + last + "@bounces.globex.test",
		"a name of nobody's": local + "@bounces.acme.test",
	} {
		stage, answer := r.comesBack(t, to, report)
		want := mail.ReasonBounceNotOurs
		if strings.HasSuffix(to, "acme.test") {
			want = mail.ReasonRelayDenied
		}
		if stage != atRcpt || answer.reason != want {
			t.Errorf("%s: at %s: %s", name, stage, answer)
		}
	}
	if stage, answer := r.comesBack(t, "complaints@bounces.globex.test", report); stage != atData || answer.reason != mail.ReasonBounceNotOurs {
		t.Errorf("about nothing: at %s: %s", stage, answer)
	}
	c, _ := r.open(t, letter{peer: office, user: "app@globex"})
	c.must(250, "MAIL FROM:<ann@globex.test>")
	c.must(250, "RCPT TO:<bob@"+mailbox+">")
	if answer := c.cmd("RCPT TO:<" + j.MailFrom + ">"); answer.reason != mail.ReasonDirectionMixed {
		t.Errorf("two directions: %s", answer)
	}
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "marker@globex.test"))
	if facts := r.factsOf(t, id, ledger.BounceReceived); len(facts) != 0 {
		t.Errorf("facts %+v", facts)
	}
}

// suppressedAt waits until a message is given up because of the list.
func (r *relay) suppressedAt(t *testing.T, to string) {
	t.Helper()
	l := mailFromUser("app@globex", "ann@globex.test").recipients(to)
	stage, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	id := acceptedID(answer)
	r.bounced(t, id)
	if f := r.factsOf(t, id, ledger.Bounced)[0]; f.Reason != mail.ReasonSuppressed {
		t.Errorf("%+v", f)
	}
	if _, arrived := r.receiver.Judgement(messageID(l.data)); arrived {
		t.Error("it was tried")
	}
	r.bouncesAbout(t, l, 1)
}

func TestHardBouncesSuppressUntilSomebodyRemovesThem(t *testing.T) {
	r := newReturning(t)
	for range 2 {
		j, _ := r.sentFor(t, "bob@"+mailbox)
		if stage, answer := r.comesBack(t, j.MailFrom, statusReport("bob@"+mailbox, "failed", "5.1.1", strangersWords)); answer.code != 250 {
			t.Fatalf("at %s: %s", stage, answer)
		}
	}
	page, err := r.api.Suppressed(t.Context(), "globex", url.Values{})
	if err != nil || len(page.Addresses) != 1 || page.Addresses[0].Address != "bob@"+mailbox || len(page.Addresses[0].Marks) != 2 || !page.On {
		t.Fatalf("%+v, %v", page, err)
	}
	r.suppressedAt(t, "Bob@"+mailbox)
	other := mailFromUser("app@acme", "ann@acme.test").recipients("bob@" + mailbox) // the list is globex's alone
	r.acceptedAndDelivered(t, other)
	done, err := r.api.ChangeSuppression(t.Context(), "globex", api.RemoveSuppression, api.SuppressionWish{Address: "bob@" + mailbox})
	if err != nil || done.Marks != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	r.sentFor(t, "bob@"+mailbox)
}

func TestRefusalsOfServersSuppressToo(t *testing.T) {
	r := newReturning(t)
	r.receiver.Answer("refusing.test", "550 5.1.1 no such user")
	for range 2 {
		_, answer := r.send(t, mailFromUser("app@globex", "ann@globex.test").recipients("nobody@refusing.test"))
		id := acceptedID(answer)
		r.bounced(t, id)
		if f := r.factsOf(t, id, ledger.Bounced)[0]; f.Class != "user_unknown" || f.Reason != "" {
			t.Errorf("%+v", f)
		}
	}
	r.receiver.Answer("refusing.test", "")
	r.suppressedAt(t, "nobody@refusing.test")
}

func TestAComplaintSuppressesWhoComplained(t *testing.T) {
	r := newReturning(t)
	j, id := r.sentFor(t, "bob@"+mailbox)
	complaint := strings.ReplaceAll("From: fbl@provider.test\nTo: complaints@bounces.globex.test\nSubject: complaint\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nwords\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\n\n--b\nContent-Type: message/rfc822\n\n", "\n", "\r\n") + string(j.Data) + "\r\n--b--\r\n"
	if stage, answer := r.comesBack(t, "complaints@bounces.globex.test", complaint); answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	facts := r.factsOf(t, id, ledger.ComplaintReceived)
	if len(facts) != 1 || facts[0].Rcpt[0] != "bob@"+mailbox {
		t.Errorf("facts %+v", facts)
	}
	r.suppressedAt(t, "bob@"+mailbox)
}
