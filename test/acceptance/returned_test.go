package acceptance

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
)

// takesReports gives globex a return path on a running relay.
func (r *relay) takesReports(t *testing.T) {
	t.Helper()
	r.internet.Zone.SetTXT("_anechoic.globex.test", "v=anechoic1; org=globex; sub=yes")
	text, err := os.ReadFile(filepath.Join(r.dir, "registry.toml"))
	if err != nil {
		t.Fatal(err)
	}
	r.writeRegistry(t, strings.NewReplacer(
		"id = \"globex\"\nname = \"globex\"\n", "id = \"globex\"\nname = \"globex\"\nreturn_path = \"bounces.globex.test\"\n",
		"name = \"globex.test\"\nsubdomains = false", "name = \"globex.test\"\nsubdomains = true").Replace(string(text)))
	r.reload(t)
}

// noticeWith waits for a report about a message that has a text.
func (r *relay) noticeWith(t *testing.T, id mail.ID, text string) (found lab.Judgement) {
	t.Helper()
	eventually(t, "a report with "+text, func() bool {
		for _, n := range r.noticesAbout(id) {
			if found = n; strings.Contains(string(n.Data), text) {
				return true
			}
		}
		return false
	})
	return found
}

// What a sender said for its reports is in those that come back later too: a client
// that numbers its messages knows them by nothing else (RFC 3461).
func TestAReportThatComesBackLaterHasTheSendersOwnNames(t *testing.T) {
	r := newReturning(t)
	l := mailFromUser("app@globex", "ann@globex.test")
	c, _ := r.open(t, l)
	c.must(250, "MAIL FROM:<ann@globex.test> ENVID=QQ+2B314159")
	c.must(250, "RCPT TO:<bob@"+mailbox+"> ORCPT=rfc822;list+2Bbob@globex.test")
	c.must(250, "RCPT TO:<dan@"+mailbox+">")
	id := acceptedID(c.chunks(l.data, 1<<20))
	j := r.await(t, messageID(l.data))
	r.restart(t) // it is not only remembered
	for _, to := range []string{"bob@" + mailbox, "dan@" + mailbox} {
		if stage, answer := r.comesBack(t, j.MailFrom, statusReport(to, "failed", "5.1.1", strangersWords)); answer.code != 250 {
			t.Fatalf("at %s: %s", stage, answer)
		}
	}
	text := string(r.noticeWith(t, id, "Final-Recipient: rfc822; bob@"+mailbox).Data)
	if !strings.Contains(text, "Original-Envelope-Id: QQ+314159\r\n") || !strings.Contains(text, "Original-Recipient: rfc822; list+bob@globex.test\r\n") {
		t.Errorf("of bob:\n%s", text)
	}
	text = string(r.noticeWith(t, id, "Final-Recipient: rfc822; dan@"+mailbox).Data)
	if !strings.Contains(text, "Original-Envelope-Id: QQ+314159\r\n") || strings.Contains(text, "Original-Recipient") {
		t.Errorf("of dan:\n%s", text)
	}
}

func TestWhoNamedNothingGetsAReportWithoutNames(t *testing.T) {
	r := newReturning(t)
	j, id := r.sentFor(t, "bob@"+mailbox)
	if stage, answer := r.comesBack(t, j.MailFrom, statusReport("bob@"+mailbox, "failed", "5.1.1", strangersWords)); answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	if text := string(r.noticeWith(t, id, "Status: 5.1.1").Data); strings.Contains(text, "Original-") {
		t.Error(text)
	}
}

// The postmaster of a return path is a person (RFC 5321 section 4.5.1): the one of the
// domain above, where its mail comes in here.
func TestThePostmasterOfAReturnPathIsTheOneOfTheDomainAbove(t *testing.T) {
	r, inside := guarded(t)
	r.takesReports(t)
	stranger := mailFromNobody(partner, "carol@partner.test").recipients("PostMaster@bounces.globex.test")
	j := r.comesIn(t, inside, stranger)
	if len(j.Recipients) != 1 || j.Recipients[0] != "postmaster@globex.test" || len(j.SignedBy) > 0 || !strings.Contains(results(t, j.Data), "dmarc=pass") {
		t.Errorf("it went to %q, signed by %v", j.Recipients, j.SignedBy)
	}
	both := mailFromNobody(partner, "carol@partner.test").recipients("postmaster@bounces.globex.test", "bob@globex.test")
	if j := r.comesIn(t, inside, both); len(j.Recipients) != 2 {
		t.Errorf("beside another it went to %q", j.Recipients)
	}
	own := mailFromUser("app@globex", "ann@globex.test").recipients("postmaster@bounces.globex.test")
	if j := r.comesIn(t, inside, own); j.Recipients[0] != "postmaster@globex.test" {
		t.Errorf("from inside it went to %q", j.Recipients)
	}
	r.isRefused(t, inside, mailFromNobody(partner, "carol@partner.test").recipients("anybody@bounces.globex.test"), mail.BounceNotOurs)
	for _, facts := range r.facts(t, url.Values{"event": {string(ledger.Accepted)}}) {
		for _, f := range facts {
			if strings.Contains(strings.Join(f.Rcpt, " "), "bounces.") {
				t.Errorf("the ledger has an address that nobody reads: %+v", f)
			}
		}
	}
}

// Where it does not, the sender is told whom to write to.
func TestThePostmasterOfAReturnPathIsElsewhereWhereNoMailComesIn(t *testing.T) {
	r := newReturning(t)
	for _, l := range []letter{
		mailFromNobody(vps, "carol@partner.test").recipients("postmaster@bounces.globex.test"),
		mailFromUser("app@globex", "ann@globex.test").recipients("Postmaster@bounces.globex.test"),
	} {
		stage, answer := r.send(t, l)
		if stage != atRcpt || answer.code != 551 || answer.reason != mail.ReasonRecipientUnknown || !strings.Contains(answer.String(), "write to the postmaster of the domain above") {
			t.Errorf("at %s: %s", stage, answer)
		}
	}
}
