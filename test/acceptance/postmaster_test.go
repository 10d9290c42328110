package acceptance

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"anechoic/lab"
	"anechoic/mail"
)

// ownName is the relay's, as nodeConfig has it.
const ownName = "relay.anechoic.test"

// withPostmaster is guarded, and somebody at globex reads what is sent to the relay's
// own postmaster.
func withPostmaster(t *testing.T, more ...string) (r *relay, inside *lab.Receiver) {
	t.Helper()
	r, inside = guarded(t, more...)
	r.configured(t, "postmaster = \"ops@globex.test\"\n", fmt.Sprintf("[disowned]\ndomain = %q\nbind = [%q]\n", fwd, fwdBind))
	return r, inside
}

// configured restarts the relay with more at the top and at the end of relay.toml.
func (r *relay) configured(t *testing.T, top, end string) {
	t.Helper()
	text, err := os.ReadFile(r.configFile())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "relay.toml", top+string(text)+end)
	r.restart(t)
}

// RFC 5321 sections 4.1.1.3 and 4.5.1, RFC 2142 section 4: anybody may write to the postmaster
// of the relay itself, and a person reads it.
func TestAnybodyMayWriteToTheRelaysOwnPostmaster(t *testing.T) {
	r, inside := withPostmaster(t)
	for _, to := range []string{"postmaster@" + ownName, "PostMaster@RELAY.Anechoic.Test", "Postmaster", "POSTMASTER", "abuse@" + ownName, "postmaster@" + fwd, "Abuse@" + fwd} {
		t.Run(to, func(t *testing.T) {
			j := r.comesIn(t, inside, mailFromNobody(partner, "carol@partner.test").recipients(to))
			if len(j.Recipients) != 1 || j.Recipients[0] != "ops@globex.test" || j.MailFrom != "carol@partner.test" {
				t.Errorf("the envelope is %q %q", j.MailFrom, j.Recipients)
			}
			if got := results(t, j.Data); len(j.SignedBy) > 0 || !strings.Contains(got, "spf=pass") || !strings.Contains(got, "dmarc=pass") {
				t.Errorf("signed by %v, judged %s", j.SignedBy, got)
			}
		})
	}
	t.Run("both at once are one copy", func(t *testing.T) {
		j := r.comesIn(t, inside, mailFromNobody(partner, "carol@partner.test").recipients("postmaster@"+ownName, "abuse@"+ownName, "bob@globex.test"))
		if strings.Join(j.Recipients, " ") != "ops@globex.test bob@globex.test" {
			t.Errorf("it is for %q", j.Recipients)
		}
	})
	t.Run("a user of another organisation", func(t *testing.T) {
		j := r.comesIn(t, inside, mailFromUser("app@acme", "ann@acme.test").recipients("postmaster@"+ownName))
		if len(j.Recipients) != 1 || j.Recipients[0] != "ops@globex.test" || !j.Aligned {
			t.Errorf("%+v", j)
		}
	})
	said := false
	for _, facts := range r.facts(t, url.Values{"org": {"globex"}}) {
		for _, f := range facts {
			said = said || f.Detail == "sent to postmaster@"+ownName && len(f.Rcpt) == 1 && f.Rcpt[0] == "ops@globex.test" && f.Direction == "inbound"
		}
	}
	if !said {
		t.Error("the ledger does not say whom it was sent to")
	}
}

// Nothing that is asked of mail that comes in is passed over, and nobody else is reached.
func TestTheRelaysOwnPostmasterIsNoWayAroundWhatIsAskedOfInboundMail(t *testing.T) {
	r, inside := withPostmaster(t)
	to := "postmaster@" + ownName
	forged := func(from string) letter { return mailFromNobody(vps, from).recipients(to) }
	for name, l := range map[string]struct {
		letter
		want *mail.Refusal
	}{
		"a sender whose policy says reject":       {forged("carol@partner.test"), mail.DMARCReject},
		"a sender of an organisation, not proven": {forged("ann@acme.test"), mail.OwnDomainSpoof},
		"its own organisation's":                  {forged("bob@globex.test"), mail.OwnDomainSpoof},
		"anybody else at the relay's name":        {forged("carol@partner.test").recipients("info@" + ownName), mail.RelayDenied},
		"somebody elsewhere beside it":            {mailFromNobody(partner, "carol@partner.test").recipients(to, "victim@"+mailbox), mail.DirectionMixed},
		"somebody elsewhere":                      {mailFromNobody(partner, "carol@partner.test").recipients("postmaster@" + mailbox), mail.RelayDenied},
		"a name below the relay's":                {mailFromNobody(partner, "carol@partner.test").recipients("postmaster@mx." + ownName), mail.RelayDenied},
	} {
		t.Run(name, func(t *testing.T) { r.isRefused(t, inside, l.letter, l.want) })
	}
	if got := append(inside.Judgements(), r.receiver.Judgements()...); len(got) != 0 {
		t.Errorf("%d messages arrived", len(got))
	}
}

// A flood to the postmaster costs its person so much an hour, and keeps nobody else away.
func TestAFloodToTheRelaysOwnPostmasterIsPutOff(t *testing.T) {
	r, inside := withPostmaster(t)
	l := mailFromNobody(partner, "carol@partner.test").recipients("postmaster@" + ownName)
	n := 0
	for ; n < 100; n++ {
		if _, answer := r.send(t, l); answer.code != 250 {
			if answer.reason != mail.ReasonRateLimited || answer.code != 451 {
				t.Fatalf("message %d: %s", n, answer)
			}
			break
		}
	}
	if n != 30 {
		t.Errorf("%d were taken", n)
	}
	r.comesIn(t, inside, forGlobex(mailFromNobody(partner, "carol@partner.test")))
	r.comesIn(t, inside, mailFromNobody("198.51.100.99", "dan@nobody.test").recipients("postmaster@"+ownName))
}

func TestWithoutAPostmasterTheAnswerSaysSo(t *testing.T) {
	r, inside := guarded(t)
	for _, to := range []string{"postmaster@" + ownName, "Postmaster", "abuse@" + ownName} {
		l := mailFromNobody(partner, "carol@partner.test").recipients(to)
		if answer := r.isRefused(t, inside, l, mail.PostmasterMissing); !strings.Contains(answer.text, "no postmaster configured") {
			t.Errorf("%s", answer)
		}
	}
	r.isRefused(t, inside, mailFromNobody(partner, "carol@partner.test").recipients("info@"+ownName), mail.RelayDenied)
	r.configured(t, "", fmt.Sprintf("[disowned]\ndomain = %q\nbind = [%q]\n", fwd, fwdBind))
	r.isRefused(t, inside, mailFromNobody(partner, "carol@partner.test").recipients("postmaster@"+fwd), mail.PostmasterMissing)
}
