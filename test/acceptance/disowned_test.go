package acceptance

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/standard/arc"
	"anechoic/standard/dkim"
)

// fwd is the relay's own forwarding domain, freemail somebody's who writes to acme,
// and its key that of publishProviderKeys' lists.
const (
	fwd      = "fwd.anechoic.test"
	freemail = "freemail.test"
	fwdBind  = "127.0.0.9"
)

// newSealing is a relay that passes on what acme forwards, in nobody's name. The key
// of its forwarding domain is published, unless the test does that itself.
func newSealing(t *testing.T, publish bool) *relay {
	t.Helper()
	r := newRelay(t, strings.ReplaceAll(holding(), `forwarded = "hold"`, `forwarded = "seal"`), func(n *lab.Internet) {
		n.Publish("s._domainkey."+freemail, dkim.RecordValue(sealKey().Public()))
		n.Zone.SetTXT("_dmarc."+freemail, "v=DMARC1; p=reject")
		n.Zone.SetAddresses(freemail, netip.MustParseAddr(partner))
	})
	r.internet.AddReceiver(freemail, r.receiver.Addr().Addr())
	r.stop(t)
	text, err := os.ReadFile(r.configFile())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "relay.toml", string(text)+fmt.Sprintf("[disowned]\ndomain = %q\nbind = [%q]\n", fwd, fwdBind))
	r.start(t)
	if publish {
		r.publishForwardingKey(t)
	}
	return r
}

// publishForwardingKey does what `key list` asks for.
func (r *relay) publishForwardingKey(t *testing.T) {
	t.Helper()
	keys, err := r.api.Keys(t.Context(), "", fwd)
	if err != nil || len(keys) != 1 || keys[0].Organisation != "[relay]" || keys[0].Published {
		t.Fatalf("the forwarding domain's keys are %+v, %v", keys, err)
	}
	r.internet.Publish(keys[0].RecordName, keys[0].RecordValue)
	r.restart(t) // what DNS did not have is remembered for a minute
}

// fromFreemail is mail that acme's tenant forwards, as Carol wrote and signed it.
func fromFreemail() letter {
	return forwardedBy("Carol <carol@"+freemail+">").sender("carol@"+freemail).signed(freemail, "s", sealKey())
}

// passedOn sends a letter and gives it as it arrived.
func (r *relay) passedOn(t *testing.T, l letter) lab.Judgement {
	t.Helper()
	stage, answer := r.send(t, l)
	if answer.code != 250 || strings.Contains(answer.text, "HELD") {
		t.Fatalf("at %s: %s", stage, answer)
	}
	return r.await(t, messageID(l.data))
}

// chainOf validates the ARC chain of what arrived.
func (r *relay) chainOf(t *testing.T, j lab.Judgement) arc.Chain {
	t.Helper()
	head, body, _ := strings.Cut(string(j.Data), "\r\n\r\n")
	header, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	hasher := dkim.NewBodyHasher(header)
	hasher.Write([]byte(body))
	return arc.Validate(t.Context(), r.internet.Zone, header, hasher.Sum(), time.Now())
}

// isNobodys: nothing of what arrived aligns with an organisation here, and our seal is
// the newest of a chain that validates.
func (r *relay) isNobodys(t *testing.T, j lab.Judgement, sets int) arc.Instance {
	t.Helper()
	chain := r.chainOf(t, j)
	if chain.Status != arc.Pass || len(chain.Instances) != sets {
		t.Fatalf("the chain of %d sets: %s %v:\n%s", len(chain.Instances), chain.Status, chain.Err, j.Data)
	}
	ours := chain.Instances[sets-1]
	if ours.Sealer().String() != fwd || ours.Results.ID != "relay.anechoic.test" {
		t.Errorf("the newest set is of %s, and tells of %s", ours.Sealer(), ours.Text)
	}
	if !strings.HasPrefix(j.MailFrom, "SRS") || !strings.HasSuffix(j.MailFrom, "@"+fwd) {
		t.Errorf("the sender is %q", j.MailFrom)
	}
	if len(j.Leaked) > 0 {
		t.Errorf("evidence left the relay: %v", j.Leaked)
	}
	for _, d := range j.SignedBy {
		if _, customer := domains[d.String()]; customer {
			t.Errorf("it is signed by %s", d)
		}
	}
	return ours
}

func TestForwardedMailIsPassedOnInNobodysName(t *testing.T) {
	r := newSealing(t, true)

	l := fromFreemail()
	j := r.passedOn(t, l)
	ours := r.isNobodys(t, j, 1)
	if !j.Aligned || len(j.SignedBy) != 1 {
		t.Errorf("Carol's own signature is %v", j.SignedBy)
	}
	if !strings.Contains(ours.Text, "dkim=pass header.d=freemail.test") || !strings.Contains(ours.Text, "dmarc=pass") || !strings.Contains(ours.Text, "arc=none") || strings.Contains(ours.Text, "spf=") {
		t.Errorf("our set says %s", ours.Text)
	}
	if !strings.HasPrefix(j.MailFrom, "SRS0=") || !strings.HasSuffix(j.MailFrom, "=freemail.test=carol@"+fwd) {
		t.Errorf("the sender is %s", j.MailFrom)
	}
	var fact ledger.Fact
	eventually(t, "the ledger has it", func() bool {
		for _, list := range r.facts(t, url.Values{"org": {"acme"}}) {
			for _, f := range list {
				if f.Event == ledger.Delivered {
					fact = f
				}
			}
		}
		return fact.ID != ""
	})
	if fact.Egress != fwdBind {
		t.Errorf("it left from %q", fact.Egress)
	}
	accepted := r.factsOf(t, fact.ID, ledger.Accepted)
	if len(accepted) != 1 || accepted[0].Identity != ledger.Unproven || accepted[0].Origin != "forwarded" || accepted[0].MailFrom != "carol@freemail.test" || !strings.Contains(accepted[0].Results, "dkim=pass") {
		t.Errorf("%+v", accepted)
	}

	broken := forwardedBy("Carol <carol@" + freemail + ">").sender("box+SRS=aaaa=bb=freemail.test=carol@acme.test")
	j = r.passedOn(t, broken.sender("srs@acme.test").sealed(sawPass(freemail)))
	ours = r.isNobodys(t, j, 2)
	for _, want := range []string{"spf=pass (attested by microsoft.com in set 1) smtp.mailfrom=freemail.test", "dmarc=pass (attested by microsoft.com in set 1) header.from=freemail.test", "dkim=none", "arc=pass"} {
		if !strings.Contains(ours.Text, want) {
			t.Errorf("our set does not say %q: %s", want, ours.Text)
		}
	}
	if j.Aligned || len(j.SignedBy) > 0 {
		t.Errorf("it is signed by %v", j.SignedBy)
	}

	server := fromOutside("Carol <carol@"+freemail+">").sender("carol@"+freemail).signed(freemail, "s", sealKey())
	r.isNobodys(t, r.passedOn(t, server), 1)
	r.isNobodys(t, r.passedOn(t, fromFreemail().sealedBy(strangerSeal, "attacker.test; dmarc=fail header.from=freemail.test")), 2)
	r.isNobodys(t, r.passedOn(t, fromFreemail().topped("Resent-From: box@acme.test")), 1)
	if j := r.passedOn(t, fromFreemail().topped("Authentication-Results: relay.anechoic.test; dmarc=pass header.from=bank.test")); strings.Contains(string(j.Data), "bank.test") {
		t.Errorf("a result in our name is still there:\n%s", j.Data)
	}
	if j := r.passedOn(t, fromFreemail().sender("SRS0=HHHH=TT=first.test=ann@second.test")); !strings.HasPrefix(j.MailFrom, "SRS1=") || !strings.HasSuffix(j.MailFrom, "=second.test==HHHH=TT=first.test=ann@"+fwd) {
		t.Errorf("a chain of forwarders leaves with %s", j.MailFrom)
	}
}

// sealedAndPassedOn is the row's short form of the stories here.
func sealedAndPassedOn(t *testing.T, _ *relay) {
	r := newSealing(t, true)
	r.isNobodys(t, r.passedOn(t, fromFreemail()), 1)
	_, answer := r.send(t, forwardedBy("Carol <carol@"+freemail+">"))
	if answer.code != 550 || answer.reason != mail.ReasonForwardedMail {
		t.Errorf("nothing stands behind it: %s", answer)
	}
}

func TestWhatNothingStandsBehindIsNotPassedOn(t *testing.T) {
	r := newSealing(t, true)
	plain := func() letter { return forwardedBy("Carol <carol@" + freemail + ">") }
	signedAs := func(from string) letter {
		return forwardedBy(from).signed(freemail, "s", sealKey())
	}
	for name, c := range map[string]struct {
		letter  letter
		refusal *mail.Refusal
	}{
		"nothing":                                    {plain(), mail.ForwardedMail},
		"a signature that broke":                     {fromFreemail().body("other words\r\n"), mail.ForwardedMail},
		"a signature of somebody else":               {plain().signed("attacker.test", "arc", sealKey()), mail.ForwardedMail},
		"a chain that says dmarc=fail":               {plain().sealed(sawFail(freemail)), mail.ForwardedMail},
		"a chain about another From":                 {plain().sealed(sawPass("elsewhere.test")), mail.ForwardedMail},
		"a chain of a message that was changed":      {plain().sealed(sawPass(freemail)).body("other words\r\n"), mail.ForwardedMail},
		"a spoilt chain":                             {plain().sealed(sawPass(freemail)).sealBroken(), mail.ForwardedMail},
		"a stranger's chain":                         {plain().sealedBy(strangerSeal, sawPass(freemail)), mail.ForwardedMail},
		"a stranger's set above Microsoft's":         {plain().sealed(sawPass(freemail)).sealedBy(strangerSeal, "attacker.test; arc=pass"), mail.ForwardedMail},
		"what a mailbox of some tenant wrote":        {plain().sealed(sawInside(freemail)), mail.ForwardedMail},
		"what passed by the provider's own address":  {plain().sealed(strings.NewReplacer(partner, eop, "dkim=pass (signature was verified)", "dkim=none").Replace(sawPass(freemail))), mail.ForwardedMail},
		"a key that cannot be looked up":             {plain().sealedBy(slowSeal, sawPass(freemail)), mail.LookupFailed},
		"the null sender":                            {fromFreemail().sender(""), mail.ForwardedMail},
		"a sender that becomes too long":             {fromFreemail().sender(strings.Repeat("a", 60) + "@" + freemail), mail.ForwardedMail},
		"the organisation's own From":                {signedAs("ceo@acme.test").sealed(sawPass("acme.test")), mail.ForwardedMail},
		"the From of another":                        {signedAs("ceo@globex.test").sealed(sawPass("globex.test")), mail.ForwardedMail},
		"a From below another's, which covers none":  {signedAs("ceo@mail.globex.test").sealed(sawPass("mail.globex.test")), mail.ForwardedMail},
		"a From of a tenant's own name":              {signedAs("ceo@acme.onmicrosoft.com").sealed(sawPass("acme.onmicrosoft.com")), mail.ForwardedMail},
		"a Resent-From of another organisation's":    {fromFreemail().topped("Resent-From: ceo@globex.test"), mail.ForwardedMail},
		"hosted mail with a foreign From":            {mailFromMicrosoft(acme, "Carol <carol@"+freemail+">").signed(freemail, "s", sealKey()), mail.FromNotOwned},
		"a forwarding domain's address that is none": {fromFreemail().sender("somebody@" + fwd), mail.ForwardedMail},
		"without the secret":                         {fromFreemail().headless(acme.SecretName), mail.SecondProofMissing},
	} {
		t.Run(name, func(t *testing.T) {
			stage, answer := r.send(t, c.letter)
			if stage != atData || answer.code != c.refusal.Code() || answer.reason != c.refusal.Reason() {
				t.Errorf("at %s: %s, want %s", stage, answer, c.refusal)
			}
		})
	}
	r.passedOn(t, fromFreemail())
	if all := r.receiver.Judgements(); len(all) != 1 {
		t.Errorf("%d messages arrived", len(all))
	}
	if n := len(r.detained(t, url.Values{})); n != 0 {
		t.Errorf("%d are detained", n)
	}
}

func TestAForwardingDomainWhoseKeyIsNotPublishedSealsNothing(t *testing.T) {
	r := newSealing(t, false)
	_, answer := r.send(t, fromFreemail())
	if answer.code != 451 || answer.reason != mail.ReasonKeyNotPublished {
		t.Fatalf("%s", answer)
	}
	if n := len(r.receiver.Judgements()); n > 0 {
		t.Errorf("%d messages arrived", n)
	}
}

func TestForwardedMailIsJudgedAgainBeforeItLeaves(t *testing.T) {
	r := newSealing(t, true)
	r.receiver.Answer(mailbox, "451 4.2.1 later")
	l := fromFreemail()
	_, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatal(answer)
	}
	id := acceptedID(answer)
	eventually(t, "the first attempt is over", func() bool { return len(r.factsOf(t, id, ledger.Deferred)) > 0 })
	r.receiver.Answer(mailbox, "")
	r.writeRegistry(t, registry()) // forwarded mail is refused now
	r.reload(t)
	if _, err := r.api.Steer(t.Context(), api.Retry, api.Selection{IDs: []mail.ID{id}}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is held", func() bool {
		facts := r.factsOf(t, id, ledger.Held)
		return len(facts) == 1 && facts[0].Reason == mail.ReasonForwardedMail
	})
	if _, arrived := r.receiver.Judgement(messageID(l.data)); arrived {
		t.Error("it was sent")
	}
}

// giving is a report that gives a few fields of the message back.
func giving(report string, j lab.Judgement) string {
	head, _, _ := strings.Cut(string(j.Data), "\r\n\r\n")
	return strings.Replace(report, "\r\n--b--\r\n", "\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"+head+"\r\n\r\n--b--\r\n", 1)
}

// noticesTo are the notices that came for an address.
func (r *relay) noticesTo(address string) (list []lab.Judgement) {
	for _, j := range r.receiver.Judgements() {
		if isBounce(j) && len(j.Recipients) == 1 && j.Recipients[0] == address {
			list = append(list, j)
		}
	}
	return list
}

func reportsFindBackToWhoSentForwardedMail(t *testing.T, _ *relay) {
	r := newSealing(t, true)
	j := r.passedOn(t, fromFreemail())
	report := giving(statusReport("victim@"+mailbox, "failed", "5.1.1", "550 no such user"), j)
	for range 2 { // told once
		if stage, answer := r.comesBack(t, j.MailFrom, report); answer.code != 250 {
			t.Fatalf("at %s: %s", stage, answer)
		}
	}
	eventually(t, "Carol is told", func() bool { return len(r.noticesTo("carol@"+freemail)) == 1 })
	notice := string(r.noticesTo("carol@" + freemail)[0].Data)
	if strings.Contains(notice, "refund") || strings.Contains(notice, "no such user") || !strings.Contains(notice, "victim@"+mailbox) {
		t.Errorf("the notice says\n%s", notice)
	}

	other := r.passedOn(t, fromFreemail().sender("dora@"+freemail))
	for name, c := range map[string]struct{ to, data string }{
		"it names nothing that was sent":   {other.MailFrom, statusReport("attention-call-now@attacker.test", "failed", "5.1.1", "x")},
		"in capitals":                      {strings.ToUpper(other.MailFrom), statusReport("attention-call-now@attacker.test", "failed", "5.1.1", "x")},
		"about a message of somebody else": {other.MailFrom, giving(statusReport("victim@"+mailbox, "failed", "5.1.1", "x"), j)},
		"about a delay":                    {other.MailFrom, statusReport("victim@"+mailbox, "delayed", "4.4.1", "x")},
	} {
		if stage, answer := r.comesBack(t, c.to, c.data); answer.code != 250 {
			t.Errorf("%s: at %s: %s", name, stage, answer)
		}
	}
	eventually(t, "Dora is told", func() bool { return len(r.noticesTo("dora@"+freemail)) == 1 })
	if notice := string(r.noticesTo("dora@" + freemail)[0].Data); strings.Contains(notice, "attention") || strings.Contains(notice, mailbox) {
		t.Errorf("the notice repeats a stranger's words:\n%s", notice)
	}
	facts := r.facts(t, url.Values{"event": {string(ledger.BounceReceived)}})
	n := 0
	for _, list := range facts {
		n += len(list)
	}
	if n != 6 {
		t.Errorf("the ledger has %d reports: %+v", n, facts)
	}
}

func theForwardingDomainTakesNothingButReports(t *testing.T, _ *relay) {
	r := newSealing(t, true)
	j := r.passedOn(t, fromFreemail())
	chain := r.passedOn(t, fromFreemail().sender("SRS0=HHHH=TT=first.test=ann@second.test"))
	report := statusReport("victim@"+mailbox, "failed", "5.1.1", "x")
	forge := func(from, old, new string) string {
		if !strings.Contains(from, old) {
			t.Fatalf("%q is not in %s", old, from)
		}
		return strings.Replace(from, old, new, 1)
	}
	stale, late := "SRS0=aaaaaa=aa=freemail.test=carol@"+fwd, "SRS1=aaaaaaaa=second.test==HHHH=TT=first.test=ann@"+fwd
	for name, c := range map[string]struct {
		letter letter
		at     string
		want   *mail.Refusal
	}{
		"a forged hash":              {letter{to: []string{stale}, data: report}, atRcpt, mail.SRSInvalid},
		"another address":            {letter{to: []string{forge(j.MailFrom, "=carol@", "=victim@")}, data: report}, atRcpt, mail.SRSInvalid},
		"another domain":             {letter{to: []string{forge(j.MailFrom, "freemail.test", "bank.test")}, data: report}, atRcpt, mail.SRSInvalid},
		"a forged chain":             {letter{to: []string{late}, data: report}, atRcpt, mail.SRSInvalid},
		"a chain to somebody else":   {letter{to: []string{forge(chain.MailFrom, "second.test", "victim.test")}, data: report}, atRcpt, mail.SRSInvalid},
		"an ordinary address":        {letter{to: []string{"info@" + fwd}, data: report}, atRcpt, mail.SRSInvalid},
		"a sender that is not null":  {letter{from: "carol@" + freemail, to: []string{j.MailFrom}, data: report}, atRcpt, mail.SRSInvalid},
		"a customer's client":        {mailFromUser("app@globex", "app@globex.test").recipients(j.MailFrom), atRcpt, mail.SRSInvalid},
		"two addresses":              {letter{to: []string{j.MailFrom, chain.MailFrom}, data: report}, atRcpt, mail.TooManyRecipients},
		"an outside address as well": {letter{to: []string{j.MailFrom, "victim@" + mailbox}, data: report}, atRcpt, mail.DirectionMixed},
		"a letter":                   {letter{to: []string{j.MailFrom}, data: string(draft("x@stranger.test").Plain())}, atData, mail.SRSInvalid},
		"a vacation notice":          {letter{to: []string{j.MailFrom}, data: string(draft("x@stranger.test", "Auto-Submitted: auto-replied").Plain())}, atData, mail.SRSInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			if c.letter.peer == "" {
				c.letter.peer = vps
			}
			stage, answer := r.send(t, c.letter)
			if stage != c.at || answer.code != c.want.Code() || answer.reason != c.want.Reason() {
				t.Errorf("at %s: %s, want %s", stage, answer, c.want)
			}
		})
	}
	r.restart(t)
	if stage, answer := r.comesBack(t, chain.MailFrom, report); answer.code != 250 {
		t.Errorf("a genuine chain, after a restart: at %s: %s", stage, answer)
	}
}

func TestWhoIsToldThatForwardedMailFailed(t *testing.T) {
	r := newSealing(t, true)
	r.receiver.Answer("refusing.test", "550 5.1.1 no such user")
	send := func(l letter) mail.ID {
		_, answer := r.send(t, l.recipients("victim@refusing.test"))
		if answer.code != 250 {
			t.Fatal(answer)
		}
		id := acceptedID(answer)
		eventually(t, "it failed", func() bool { return len(r.factsOf(t, id, ledger.Bounced)) > 0 })
		return id
	}
	send(fromFreemail().sender("stranger@elsewhere.test"))
	send(fromFreemail().sender("box@acme.test"))
	send(fromFreemail())
	eventually(t, "box and Carol are told", func() bool { return len(r.noticesTo("box@acme.test")) == 1 && len(r.noticesTo("carol@"+freemail)) == 1 })
	if d := r.status(t).Queue; d.Messages != 0 {
		t.Errorf("more waits: %+v", d)
	}
}
