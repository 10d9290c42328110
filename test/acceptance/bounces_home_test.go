package acceptance

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
)

// newHome is a relay where globex has no return path: its bounces come in for its
// mailboxes, and it has a suppression list with a rule. more are lines of its
// [[organisation.inbound]].
func newHome(t *testing.T, hardBounces int, more ...string) (r *relay, inside *lab.Receiver) {
	t.Helper()
	r, inside = guarded(t, more...)
	text, err := os.ReadFile(filepath.Join(r.dir, "registry.toml"))
	if err != nil {
		t.Fatal(err)
	}
	head := "id = \"globex\"\nname = \"globex\"\n"
	if strings.Count(string(text), head) != 1 {
		t.Fatalf("%q is not once in the registry", head)
	}
	r.writeRegistry(t, strings.Replace(string(text), head, head+fmt.Sprintf("suppression = { hard_bounces = %d }\n", hardBounces), 1))
	r.internet.AddReceiver("sender.test", r.receiver.Addr().Addr()) // as clients here call themselves
	r.reload(t)
	return r, inside
}

// sentTo sends a message of globex's to recipients and gives it as the first has it.
func (r *relay) sentTo(t *testing.T, to ...string) (lab.Judgement, mail.ID) {
	t.Helper()
	l := mailFromUser("app@globex", "ann@globex.test").recipients(to...)
	stage, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	id := acceptedID(answer)
	eventually(t, "all have it", func() bool {
		n := 0
		for _, f := range r.factsOf(t, id, ledger.Delivered) {
			n += len(f.Rcpt)
		}
		return n == len(to)
	})
	return r.await(t, messageID(l.data)), id
}

// reports numbers the reports that tests write.
var reports int

// givingBack puts the header of a message behind a report: with our Received field, as
// most servers do, or without.
func givingBack(report string, j lab.Judgement, traced bool) string {
	head := "From: ann@globex.test\r\nMessage-ID: " + messageID(string(j.Data)) + "\r\nSubject: x\r\n"
	if traced {
		whole, _, _ := strings.Cut(string(j.Data), "\r\n\r\n")
		head = whole + "\r\n"
	}
	reports++
	report = strings.Replace(report, "Subject:", fmt.Sprintf("Message-ID: <report-%d@mx.stranger.test>\r\nSubject:", reports), 1)
	return strings.Replace(report, "--b--", "--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"+head+"\r\n--b--", 1)
}

// homecoming hands in a report for a mailbox and sees it arrive there.
func (r *relay) homecoming(t *testing.T, inside *lab.Receiver, l letter) {
	t.Helper()
	if j := r.comesIn(t, inside, l); !slices.Equal(j.Recipients, l.to) {
		t.Errorf("it went to %q", j.Recipients)
	}
}

func fromStranger(to, data string) letter {
	return letter{peer: vps, to: []string{to}, data: data}
}

// told waits for facts about a message.
func (r *relay) told(t *testing.T, id mail.ID, event ledger.Event, n int) []ledger.Fact {
	t.Helper()
	eventually(t, fmt.Sprintf("%d facts %s", n, event), func() bool { return len(r.factsOf(t, id, event)) >= n })
	return r.factsOf(t, id, event)
}

// lookedInto waits until every report that came in so far has had its turn: they have
// it in the order in which they came.
func (r *relay) lookedInto(t *testing.T, inside *lab.Receiver) {
	t.Helper()
	j, id := r.sentTo(t, "marker@"+mailbox)
	r.homecoming(t, inside, fromStranger("ann@globex.test", givingBack(statusReport("marker@"+mailbox, "delayed", "4.4.1", "timed out"), j, false)))
	r.told(t, id, ledger.BounceReceived, 1)
}

// listed is the addresses of globex's list, with how many marks each has.
func (r *relay) listed(t *testing.T) map[string]int {
	t.Helper()
	page, err := r.api.Suppressed(t.Context(), "globex", url.Values{"pending": {"true"}})
	if err != nil {
		t.Fatal(err)
	}
	marks := map[string]int{}
	for _, a := range page.Addresses {
		marks[a.Address] = len(a.Marks)
	}
	return marks
}

func TestABounceToAMailboxIsToldOfItsMessage(t *testing.T) {
	r, inside := newHome(t, 2)
	for n, traced := range []bool{false, true} {
		j, id := r.sentTo(t, "bob@"+mailbox)
		if j.MailFrom != "ann@globex.test" {
			t.Fatalf("MAIL FROM is %q", j.MailFrom)
		}
		for range 2 { // the second time nothing is told again
			r.homecoming(t, inside, fromStranger("Ann@globex.test", givingBack(statusReport("bob@"+mailbox, "failed", "5.1.1", strangersWords), j, traced)))
		}
		r.lookedInto(t, inside)
		facts := r.factsOf(t, id, ledger.BounceReceived)
		if len(facts) != 1 || facts[0].Class != "user_unknown" || facts[0].Org != "globex" || facts[0].Source != "app" || facts[0].Rcpt[0] != "bob@"+mailbox || !strings.Contains(facts[0].Detail, "believed: nobody else got the message") {
			t.Errorf("facts %+v", facts)
		}
		story, err := r.app.Explain(t.Context(), id)
		if err != nil || !strings.Contains(strings.Join(story, "\n"), "A report came back about bob@"+mailbox+" (user_unknown)") {
			t.Errorf("%v, %q", err, story)
		}
		if marks := r.listed(t); marks["bob@"+mailbox] != n+1 || len(marks) != 1 {
			t.Errorf("marks %v", marks)
		}
	}
	_, answer := r.send(t, mailFromUser("app@globex", "ann@globex.test").recipients("Bob@"+mailbox))
	id := acceptedID(answer)
	r.bounced(t, id)
	if f := r.factsOf(t, id, ledger.Bounced)[0]; f.Reason != mail.ReasonSuppressed {
		t.Errorf("%+v", f)
	}
	eventually(t, "our own report is in the mailbox", func() bool {
		return slices.ContainsFunc(inside.Judgements(), func(j lab.Judgement) bool { return isBounce(j) && strings.Contains(string(j.Data), string(id)) })
	})
	r.lookedInto(t, inside)
	if facts := r.factsOf(t, id, ledger.BounceReceived); len(facts) != 0 {
		t.Errorf("our own report came back as one: %+v", facts)
	}
	if page := r.metricsPage(t); !strings.Contains(page, `anechoic_mailbox_reports_total{result="repeated"} 2`) || !strings.Contains(page, `anechoic_mailbox_reports_total{result="failed"} 0`) {
		t.Errorf("the metrics count otherwise")
	}
}

// What no report from anybody can do: every one of these reaches its mailbox, and
// changes nothing.
func TestForgedReportsToMailboxesChangeNothing(t *testing.T) {
	r, inside := newHome(t, 1, `bounces = "any"`)
	l := mailFromUser("app@acme", "ann@acme.test").recipients("bob@" + mailbox)
	_, answer := r.send(t, l)
	acmes, acmesID := r.await(t, messageID(l.data)), acceptedID(answer)
	j, id := r.sentTo(t, "bob@"+mailbox)
	shared, sharedID := r.sentTo(t, "bob@"+mailbox, "eve@second.test")
	failed := statusReport("bob@"+mailbox, "failed", "5.1.1", strangersWords)
	unknown := j
	unknown.Data = []byte("Message-ID: <never@globex.test>\r\n\r\n")
	pattern := j
	pattern.Data = []byte("Message-ID: <*@globex.test>\r\n\r\n")
	person := fromStranger("ann@globex.test", givingBack(failed, j, false))
	person.from = "eve@second.test"
	for name, l := range map[string]letter{
		"to somebody else's mailbox":    fromStranger("dan@globex.test", givingBack(failed, j, false)),
		"of a message that never was":   fromStranger("ann@globex.test", givingBack(failed, unknown, false)),
		"of any message":                fromStranger("ann@globex.test", givingBack(failed, pattern, false)),
		"of another organisation's":     fromStranger("ann@globex.test", givingBack(failed, acmes, false)),
		"of another's, with its trace":  fromStranger("ann@globex.test", givingBack(failed, acmes, true)),
		"of somebody it did not go to":  fromStranger("ann@globex.test", givingBack(statusReport("carol@elsewhere.test", "failed", "5.1.1", strangersWords), shared, false)),
		"of another who got it":         fromStranger("ann@globex.test", givingBack(failed, shared, false)),
		"of another, traced":            fromStranger("ann@globex.test", givingBack(failed, shared, true)),
		"of a person, with a sender":    person,
		"of one who only waits":         fromStranger("ann@globex.test", givingBack(statusReport("bob@"+mailbox, "delayed", "4.1.1", strangersWords), j, false)),
		"an answer":                     fromStranger("ann@globex.test", "From: bob@"+mailbox+"\r\nTo: ann@globex.test\r\nMessage-ID: <away@x.test>\r\nSubject: Re: x\r\nAuto-Submitted: auto-replied\r\nIn-Reply-To: "+messageID(string(j.Data))+"\r\n\r\nUser unknown.\r\n"),
		"a complaint of another's mail": fromStranger("abuse@globex.test", complaintAbout(acmes, "")),
		"a complaint of all":            fromStranger("abuse@globex.test", complaintAbout(shared, "bob@"+mailbox)),
	} {
		t.Run(name, func(t *testing.T) { r.homecoming(t, inside, l) })
	}
	r.lookedInto(t, inside)
	if marks := r.listed(t); len(marks) != 0 {
		t.Errorf("marks %v", marks)
	}
	if f := append(r.factsOf(t, acmesID, ledger.BounceReceived), r.factsOf(t, acmesID, ledger.ComplaintReceived)...); len(f) != 0 {
		t.Errorf("of acme's message: %+v", f)
	}
	for _, f := range slices.Concat(r.factsOf(t, sharedID, ledger.BounceReceived), r.factsOf(t, sharedID, ledger.ComplaintReceived)) {
		if !strings.HasPrefix(f.Detail, "unproven ") || len(f.Rcpt) > 0 && f.Rcpt[0] != "bob@"+mailbox {
			t.Errorf("%+v", f)
		}
	}
	if n := len(r.factsOf(t, sharedID, ledger.BounceReceived)); n != 2 { // of bob, and of nobody who is told
		t.Errorf("%d facts about the message to two", n)
	}
	for _, f := range r.factsOf(t, id, ledger.BounceReceived) {
		if !strings.HasPrefix(f.Detail, "unproven status failed") && !strings.HasPrefix(f.Detail, "status delayed") {
			t.Errorf("%+v", f)
		}
	}
}

// complaintAbout is a complaint in ARF that gives a message back without its trace.
func complaintAbout(j lab.Judgement, recipient string) string {
	if recipient != "" {
		recipient = "Original-Rcpt-To: " + recipient + "\n"
	}
	reports++
	return strings.ReplaceAll(fmt.Sprintf("From: fbl@provider.test\nTo: abuse@globex.test\nMessage-ID: <complaint-%d@provider.test>\nSubject: complaint\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nwords\n"+
		"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\n%s\n--b\nContent-Type: message/rfc822\n\nFrom: ann@globex.test\nMessage-ID: %s\nSubject: x\n\nhello\n--b--\n",
		reports, recipient, messageID(string(j.Data))), "\n", "\r\n")
}

func TestTheDomainOfTheRecipientIsBelievedAboutOneOfSeveral(t *testing.T) {
	const host = "203.0.113.77"
	r, inside := newHome(t, 1)
	r.internet.Zone.SetTXT("sender.test", "v=spf1 ip4:"+host+" -all")
	r.internet.Zone.SetAddresses("sender.test", netip.MustParseAddr(host))
	j, id := r.sentTo(t, "eve@second.test", "bob@sender.test", "dan@sender.test")
	l := fromStranger("ann@globex.test", givingBack(statusReport("bob@sender.test", "failed", "5.1.1", strangersWords), j, false))
	r.homecoming(t, inside, l) // SPF fails
	l.peer, l.data = host, givingBack(statusReport("eve@second.test", "failed", "5.1.1", strangersWords), j, false)
	r.homecoming(t, inside, l) // of another domain's
	r.lookedInto(t, inside)
	if marks := r.listed(t); len(marks) != 0 {
		t.Fatalf("marks %v", marks)
	}
	l.data = givingBack(statusReport("bob@sender.test", "failed", "5.1.1", strangersWords), j, false)
	r.homecoming(t, inside, l)
	facts := r.told(t, id, ledger.BounceReceived, 3)
	if last := facts[2]; last.Rcpt[0] != "bob@sender.test" || !strings.Contains(last.Detail, "believed: the domain of the recipient stands behind it") {
		t.Errorf("%+v", last)
	}
	if marks := r.listed(t); len(marks) != 1 || marks["bob@sender.test"] != 1 {
		t.Errorf("marks %v", marks)
	}
}

func TestAComplaintToAMailboxSuppressesWhoComplained(t *testing.T) {
	r, inside := newHome(t, 2)
	j, id := r.sentTo(t, "bob@"+mailbox)
	l := fromStranger("abuse@globex.test", complaintAbout(j, ""))
	l.from = "fbl@provider.test"
	r.homecoming(t, inside, l)
	facts := r.told(t, id, ledger.ComplaintReceived, 1)
	if facts[0].Rcpt[0] != "bob@"+mailbox || facts[0].Org != "globex" {
		t.Errorf("%+v", facts[0])
	}
	if marks := r.listed(t); marks["bob@"+mailbox] != 1 {
		t.Errorf("marks %v", marks)
	}
}

// A bounce that gives back the Message-ID alone is not a stranger's (A44), as long as
// it came to who sent that message.
func onlyOurBouncesComeInByMessageID(t *testing.T) {
	r, inside := newHome(t, 2)
	j, _ := r.sentTo(t, "bob@"+mailbox)
	failed := statusReport("bob@"+mailbox, "failed", "5.1.1", strangersWords)
	r.homecoming(t, inside, fromStranger("ann@globex.test", givingBack(failed, j, false)))
	foreign := j
	foreign.Data = []byte("Message-ID: <forged@globex.test>\r\n\r\n")
	r.isRefused(t, inside, fromStranger("ann@globex.test", givingBack(failed, foreign, false)), mail.BounceNotOurs)
	r.isRefused(t, inside, fromStranger("dan@globex.test", givingBack(failed, j, false)), mail.BounceNotOurs)
}

// Where the index is off, or holds no Message-IDs, our own Received field in what is
// given back still finds the message.
func TestWithoutMessageIDsInTheIndexOurTraceFindsTheMessage(t *testing.T) {
	for name, c := range map[string]struct {
		lines string
		byID  bool
	}{
		"no index":       {"enabled = false", false},
		"sums for names": {`personal_data = "hashed"`, true},
		"no names":       {`personal_data = "off"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, inside := newHome(t, 2, `bounces = "any"`)
			text, err := os.ReadFile(r.configFile())
			if err != nil {
				t.Fatal(err)
			}
			r.write(t, "relay.toml", string(text)+"[tracking]\n"+c.lines+"\n")
			r.restart(t)
			failed := statusReport("bob@"+mailbox, "failed", "5.1.1", strangersWords)
			byID, id := r.sentTo(t, "bob@"+mailbox, "eve@second.test")
			r.homecoming(t, inside, fromStranger("ann@globex.test", givingBack(failed, byID, false)))
			traced, tracedID := r.sentTo(t, "bob@"+mailbox)
			r.homecoming(t, inside, fromStranger("ann@globex.test", givingBack(failed, traced, true)))
			r.told(t, tracedID, ledger.BounceReceived, 1)
			if facts := r.factsOf(t, id, ledger.BounceReceived); len(facts) > 0 != c.byID {
				t.Errorf("%+v", facts)
			}
			r.restart(t) // what was told is not told again
			r.homecoming(t, inside, fromStranger("ann@globex.test", givingBack(failed, traced, true)))
			eventually(t, "it is looked into", func() bool {
				return strings.Contains(r.metricsPage(t), `anechoic_mailbox_reports_total{result="repeated"} 1`)
			})
			if facts := r.factsOf(t, tracedID, ledger.BounceReceived); len(facts) != 1 {
				t.Errorf("%+v", facts)
			}
		})
	}
}

// What one customer's server says of mail that another customer sent it comes out of
// custody here, with the proof of whose it is.
func TestAnotherCustomersServerIsBelievedAboutItsOwn(t *testing.T) {
	r, inside := newHome(t, 1)
	j, id := r.sentTo(t, "bob@acme.test", "eve@second.test")
	report := givingBack(statusReport("bob@acme.test", "failed", "5.1.1", strangersWords), j, false)
	l := letter{peer: office, user: "server@acme", to: []string{"ann@globex.test"}, data: strings.Replace(report, "MAILER-DAEMON@mx.stranger.test", "MAILER-DAEMON@acme.test", 1)}
	r.homecoming(t, inside, l)
	facts := r.told(t, id, ledger.BounceReceived, 1)
	if !strings.Contains(facts[0].Detail, "believed: the domain of the recipient stands behind it") {
		t.Errorf("%+v", facts[0])
	}
	if marks := r.listed(t); marks["bob@acme.test"] != 1 {
		t.Errorf("marks %v", marks)
	}
}

// A site that took a message for one recipient alone is believed about that one.
func TestTheSiteOfTheRecipientIsBelievedAboutOneOfSeveral(t *testing.T) {
	const host = "203.0.113.77"
	r, inside := newHome(t, 1)
	zone := r.internet.Zone
	zone.SetTXT("sender.test", "v=spf1 ip4:"+host+" -all")
	for _, name := range []string{"hosted.test", "alsohosted.test"} {
		zone.SetMX(name, mail.MX{Preference: 10, Host: "mx.sender.test"})
	}
	zone.SetAddresses("mx.sender.test", r.receiver.Addr().Addr())
	alone, aloneID := r.sentTo(t, "bob@hosted.test", "eve@second.test")
	both, bothID := r.sentTo(t, "bob@hosted.test", "dan@alsohosted.test")
	for _, j := range []lab.Judgement{alone, both} {
		l := fromStranger("ann@globex.test", givingBack(statusReport("bob@hosted.test", "failed", "5.1.1", strangersWords), j, false))
		l.peer = host
		r.homecoming(t, inside, l)
	}
	if f := r.told(t, bothID, ledger.BounceReceived, 1)[0]; !strings.HasPrefix(f.Detail, "unproven ") {
		t.Errorf("%+v", f)
	}
	if f := r.told(t, aloneID, ledger.BounceReceived, 1)[0]; !strings.Contains(f.Detail, "the site that took the message for this recipient alone") {
		t.Errorf("%+v", f)
	}
	if marks := r.listed(t); marks["bob@hosted.test"] != 1 {
		t.Errorf("marks %v", marks)
	}
}

// What has neither a subject nor a type is somebody's mail.
func TestABareMessageComesIn(t *testing.T) {
	r, inside := newHome(t, 1)
	l := fromStranger("ann@globex.test", "From: carol@nobody.test\r\nMessage-ID: <bare@nobody.test>\r\n\r\nhello\r\n")
	l.from = "carol@nobody.test"
	r.homecoming(t, inside, l)
}

// At the address for complaints too, one of several who got a message cannot have the
// others left alone.
func TestAComplaintAboutOneOfSeveralIsToldAndSuppressesNobody(t *testing.T) {
	r := newReturning(t)
	j, id := r.sentTo(t, "bob@"+mailbox, "eve@second.test")
	head, _, _ := strings.Cut(string(j.Data), "\r\n\r\n")
	complaint := strings.Replace(complaintAbout(j, "bob@"+mailbox), "\r\nFrom: ann@globex.test\r\n", "\r\n"+head[strings.Index(head, "Received:"):]+"\r\n", 1)
	if stage, answer := r.comesBack(t, "complaints@bounces.globex.test", complaint); answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	facts := r.told(t, id, ledger.ComplaintReceived, 1)
	if !strings.HasPrefix(facts[0].Detail, "unproven abuse") {
		t.Errorf("%+v", facts[0])
	}
	if marks := r.listed(t); len(marks) != 0 {
		t.Errorf("marks %v", marks)
	}
}
