package acceptance

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/lab/sink"
	"anechoic/ledger"
	"anechoic/mail"
)

// guarded is a relay that mail for globex comes in by: inside is globex's own
// server. more are lines of its [[organisation.inbound]].
func guarded(t *testing.T, more ...string) (r *relay, inside *lab.Receiver) {
	t.Helper()
	resolver := new(laterResolver)
	inside, err := lab.NewReceiver("127.51.0.1:0", resolver)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Close() })
	r = newGuarded(t, inside.Addr().String(), resolver, more...)
	return r, inside
}

// newGuarded is guarded with any server of globex's.
func newGuarded(t *testing.T, server string, resolver *laterResolver, more ...string) *relay {
	t.Helper()
	lines := append([]string{`[[organisation.inbound]]`, `domains = ["globex.test"]`, fmt.Sprintf("deliver_to = %q", server)}, more...)
	text := registry()
	at := strings.Index(text, "id = \"globex\"\n")
	end := at + strings.Index(text[at:], "[[organisation]]")
	if at < 0 || end < at {
		t.Fatal("globex is the last organisation, or none")
	}
	return newRelay(t, text[:end]+strings.Join(lines, "\n")+"\n"+text[end:], func(n *lab.Internet) {
		resolver.Resolver = n.Zone
		n.Zone.SetTXT("partner.test", "v=spf1 ip4:"+partner+" ip4:"+eop+" -all")
		n.Zone.SetTXT("_dmarc.partner.test", "v=DMARC1; p=reject")
		n.Zone.SetTXT("_dmarc.careful.test", "v=DMARC1; p=quarantine")
		n.Zone.SetAddresses("partner.test", netip.MustParseAddr(partner))
		n.Zone.SetAddresses("careful.test", netip.MustParseAddr(partner))
		n.Zone.SetAddresses("nobody.test", netip.MustParseAddr(partner))
	})
}

// laterResolver is for who must be there before the internet is.
type laterResolver struct{ mail.Resolver }

// partner is the address of a company that globex gets mail from.
const partner = "203.0.113.40"

// forGlobex is a letter to somebody at globex.
func forGlobex(l letter) letter { return l.recipients("bob@globex.test") }

// comesIn sends a letter and gives it as globex's server has it.
func (r *relay) comesIn(t *testing.T, inside *lab.Receiver, l letter) lab.Judgement {
	t.Helper()
	stage, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	var j lab.Judgement
	eventually(t, "the message is at globex's server", func() (there bool) {
		j, there = inside.Judgement(messageID(l.data))
		return there
	})
	return j
}

// isRefused sends a letter that must not come in.
func (r *relay) isRefused(t *testing.T, inside *lab.Receiver, l letter, want *mail.Refusal) reply {
	t.Helper()
	_, answer := r.send(t, l)
	if answer.code != want.Code() || answer.enhanced != want.Enhanced() || answer.reason != want.Reason() {
		t.Errorf("%s, not %s", answer, want)
	}
	return answer
}

func withoutSecret(t lab.Tenant) lab.Tenant {
	t.SecretName, t.Secret = "", ""
	return t
}

// results is the Authentication-Results field of a message, unfolded.
func results(t *testing.T, data []byte) string {
	t.Helper()
	head, _, _ := strings.Cut(string(data), "\r\n\r\n")
	header, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range header.Fields {
		if f.Is("Authentication-Results") {
			found = append(found, f.Value())
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d Authentication-Results in %s", len(found), head)
	}
	return found[0]
}

func TestMailForAnOrganisationIsJudgedMarkedAndHandedOnUnsigned(t *testing.T) {
	r, inside := guarded(t)
	l := forGlobex(mailFromNobody(partner, "carol@partner.test"))
	j := r.comesIn(t, inside, l)
	if got := results(t, j.Data); !strings.HasPrefix(got, "relay.anechoic.test; spf=pass (sender ip is 203.0.113.40) smtp.mailfrom=carol@partner.test; dkim=none") || !strings.Contains(got, "dmarc=pass header.from=partner.test; arc=none") {
		t.Errorf("%s", got)
	}
	if len(j.SignedBy) > 0 || strings.Contains(string(j.Data), "DKIM-Signature") {
		t.Errorf("inbound mail was signed by %v", j.SignedBy)
	}
	if j.MailFrom != "carol@partner.test" || len(j.Recipients) != 1 || j.Recipients[0] != "bob@globex.test" {
		t.Errorf("the envelope is %q %q", j.MailFrom, j.Recipients)
	}
	for _, facts := range r.facts(t, url.Values{"org": {"globex"}}) {
		for _, f := range facts {
			if f.Direction != "inbound" || f.Event == ledger.Accepted && f.Results != "spf=pass dkim=none dmarc=pass arc=none echo=none" {
				t.Errorf("%+v", f)
			}
		}
	}
}

// A provider's address sends for its customers and to ours. Which way a message
// goes is decided by its recipient, and by what it proves (A42).
func oneAddressIsInboundAndOutbound(t *testing.T) {
	r, inside := guarded(t)
	stranger := attacker
	stranger.Originator = "partner.test"
	in := forGlobex(mailFromMicrosoft(stranger, "carol@partner.test"))
	j := r.comesIn(t, inside, in)
	if got := results(t, j.Data); !strings.Contains(got, "spf=pass") || !strings.Contains(got, "dmarc=pass") || strings.Contains(string(j.Data), "d=globex.test") || len(j.Leaked) > 0 {
		t.Errorf("%s %v", got, j.Leaked)
	}
	out := mailFromMicrosoft(acme, "ann@acme.test")
	if _, answer := r.send(t, out); answer.code != 250 {
		t.Errorf("acme's own mail from the same address: %s", answer)
	} else if got := r.await(t, messageID(out.data)); !got.Aligned {
		t.Error("it left unsigned")
	}
	_, answer := r.send(t, in.recipients("bob@globex.test", "eve@"+mailbox))
	if answer.reason != mail.ReasonDirectionMixed {
		t.Errorf("both directions in one transaction: %s", answer)
	}
	_, answer = r.send(t, in.recipients("eve@"+mailbox))
	if answer.reason != mail.ReasonTenantNotAuthorized {
		t.Errorf("the stranger's tenant relays: %s", answer)
	}
}

// What a customer sends another is proven, signed, and taken in here.
func mailOfOneCustomerToAnother(t *testing.T) {
	r, inside := guarded(t)
	for _, l := range []letter{
		mailFromUser("app@acme", "ann@acme.test"),
		mailFromMicrosoft(acme, "ann@acme.test"),
	} {
		j := r.comesIn(t, inside, forGlobex(l))
		got := results(t, j.Data)
		if !strings.Contains(got, "dkim=pass header.d=acme.test") || !strings.Contains(got, "dmarc=pass header.from=acme.test") || strings.Contains(got, "spf=") || len(j.Leaked) > 0 {
			t.Errorf("%s %v", got, j.Leaked)
		}
	}
}

// The domains of all organisations are protected at the inbound door. row selects
// variants.
func ownDomainsAreProtected(t *testing.T, row string) {
	r, inside := guarded(t, `dmarc = "observe"`)
	for name, l := range map[string]letter{
		"A43: the organisation's own domain":         mailFromNobody(vps, "ceo@globex.test"),
		"A43: through Microsoft":                     mailFromMicrosoft(attacker, "ceo@globex.test"),
		"A57: another customer's domain":             mailFromNobody(vps, "ceo@acme.test"),
		"A57: in From alone":                         mailFromNobody(vps, "ceo@acme.test").sender("x@nobody.test"),
		"A57: in MAIL FROM alone":                    mailFromNobody(vps, "x@nobody.test").sender("ceo@acme.test"),
		"A57: a sub-domain that is covered":          mailFromNobody(vps, "ceo@x.acme-sub.test"),
		"A57: with results that claim to be ours":    mailFromNobody(vps, "ceo@acme.test").topped("Authentication-Results: relay.anechoic.test; dmarc=pass header.from=acme.test"),
		"A57: in capitals":                           mailFromNobody(vps, "ceo@ACME.Test"),
		"A57: acme's own tenant, without its secret": mailFromMicrosoft(withoutSecret(acme), "ceo@acme.test"),
	} {
		if strings.HasPrefix(name, row) {
			t.Run(name, func(t *testing.T) { r.isRefused(t, inside, forGlobex(l), mail.OwnDomainSpoof) })
		}
	}
	if all := inside.Judgements(); len(all) > 0 {
		t.Errorf("%d messages came in", len(all))
	}
}

func TestTheSendersPolicyIsEnforcedOrWrittenDown(t *testing.T) {
	spoof := func() letter { return forGlobex(mailFromNobody(vps, "carol@partner.test")) }
	doubtful := func() letter { return forGlobex(mailFromNobody(vps, "dan@careful.test")) }
	t.Run("enforced", func(t *testing.T) {
		r, inside := guarded(t)
		r.isRefused(t, inside, spoof(), mail.DMARCReject)
		if _, answer := r.send(t, doubtful()); answer.code != 250 {
			t.Errorf("quarantine: %s", answer)
		}
		held := r.facts(t, url.Values{"event": {string(ledger.Held)}})
		if len(held) != 1 {
			t.Errorf("%d messages are held: %v", len(held), held)
		}
		if j := r.comesIn(t, inside, forGlobex(mailFromNobody(vps, "erin@nobody.test"))); !strings.Contains(results(t, j.Data), "dmarc=none") {
			t.Errorf("%s", results(t, j.Data))
		}
	})
	t.Run("observed", func(t *testing.T) {
		r, inside := guarded(t, `dmarc = "observe"`)
		if j := r.comesIn(t, inside, spoof()); !strings.Contains(results(t, j.Data), `dmarc=fail`) {
			t.Errorf("%s", results(t, j.Data))
		}
	})
}

func nobodyElsesWordStandsInOurName(t *testing.T) {
	r, inside := guarded(t, `dmarc = "observe"`)
	j := r.comesIn(t, inside, forGlobex(mailFromNobody(vps, "erin@nobody.test").topped(
		"Authentication-Results: relay.anechoic.test; dmarc=pass header.from=nobody.test",
		"Authentication-Results: RELAY.anechoic.TEST. 1; spf=pass",
		"authentication-results: (x) \"relay.anechoic.test\"; spf=pass",
		"Authentication-Results: relay.anechoic.test (")))
	if got := results(t, j.Data); strings.Contains(got, "pass") {
		t.Errorf("%s", got)
	}
}

// A foreign bounce is refused, and a real one comes in.
func foreignBounces(t *testing.T) {
	r, inside := guarded(t)
	foreign := letter{peer: vps, from: "", to: []string{"ann@globex.test"}, data: statusReport("x@mailbox.test", "failed", "5.1.1", "550 no")}
	r.isRefused(t, inside, foreign, mail.BounceNotOurs)
	l := mailFromUser("app@globex", "ann@globex.test")
	if _, answer := r.send(t, l); answer.code != 250 {
		t.Fatal(answer)
	}
	sent := r.await(t, messageID(l.data))
	head, _, _ := strings.Cut(string(sent.Data), "\r\n\r\n")
	real := foreign
	real.data = strings.Replace(foreign.data, "--b--", "--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"+head+"\r\n\r\n--b--", 1)
	real.data = strings.Replace(real.data, "Subject:", "Message-ID: <real-bounce@mx.stranger.test>\r\nSubject:", 1)
	if j := r.comesIn(t, inside, real); j.MailFrom != "" {
		t.Errorf("it came from %q", j.MailFrom)
	}
}

// What the organisation's server refuses after all is told to a sender that SPF
// proved, and to nobody else.
func undeliverableInboundMail(t *testing.T) {
	r, inside := guarded(t)
	inside.Answer("globex.test", "550 5.2.1 mailbox disabled")
	for _, domain := range []string{"partner.test", "nobody.test"} {
		r.internet.AddReceiver(domain, r.receiver.Addr().Addr())
	}
	forged := forGlobex(mailFromNobody(vps, "erin@nobody.test"))
	proven := forGlobex(mailFromNobody(partner, "carol@partner.test"))
	var ids []mail.ID
	for _, l := range []letter{forged, proven} {
		stage, answer := r.send(t, l)
		if answer.code != 250 {
			t.Fatalf("at %s: %s", stage, answer)
		}
		ids = append(ids, acceptedID(answer))
	}
	for _, id := range ids {
		eventually(t, "it is over", func() bool { return len(r.factsOf(t, id, ledger.Bounced)) == 1 })
	}
	eventually(t, "the proven sender is told", func() bool { return len(r.receiver.Judgements()) > 0 })
	for _, j := range r.receiver.Judgements() {
		if j.MailFrom != "" || len(j.Recipients) != 1 || j.Recipients[0] != "carol@partner.test" || !strings.Contains(string(j.Data), "5.2.1") {
			t.Errorf("<%s> to %q:\n%s", j.MailFrom, j.Recipients, j.Data)
		}
	}
}

// picky is a server that knows one recipient.
type picky struct{}

func (picky) Answer(q sink.Question) sink.Answer {
	if q.Stage == sink.Recipient && q.To != "bob@globex.test" {
		return sink.Answer{Reply: "550 5.1.1 no such user"}
	}
	return sink.Answer{}
}

func TestUnknownRecipientsAreRefusedBeforeTheMessage(t *testing.T) {
	from := mailFromNobody(partner, "carol@partner.test")
	t.Run("by the organisation's server", func(t *testing.T) {
		own, err := sink.Open(sink.Options{Addr: "127.51.0.2:0", Domain: "globex.test", Behaviour: picky{}})
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		r := newGuarded(t, own.Addr().String(), new(laterResolver), `recipients = "ask"`)
		for range 2 { // the second answer is remembered
			if stage, answer := r.send(t, from.recipients("gone@globex.test")); stage != atRcpt || answer.reason != mail.ReasonRecipientUnknown || answer.code != 550 {
				t.Errorf("at %s: %s", stage, answer)
			}
		}
		if _, answer := r.send(t, forGlobex(from)); answer.code != 250 {
			t.Errorf("a recipient that is known: %s", answer)
		}
		eventually(t, "the message is there", func() bool { return len(own.Tally().Deliveries) == 1 })
	})
	t.Run("by the organisation's list", func(t *testing.T) {
		list := filepath.Join(t.TempDir(), "recipients.txt")
		if err := os.WriteFile(list, []byte("bob@globex.test\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r, inside := guarded(t, fmt.Sprintf("recipients_file = %q", list))
		if stage, answer := r.send(t, from.recipients("gone@globex.test")); stage != atRcpt || answer.reason != mail.ReasonRecipientUnknown {
			t.Errorf("at %s: %s", stage, answer)
		}
		r.comesIn(t, inside, from.recipients("bob+news@globex.test"))
	})
	t.Run("a server that does not answer decides nothing", func(t *testing.T) {
		r, inside := guarded(t, `recipients = "ask"`)
		inside.Close()
		r.isRefused(t, inside, forGlobex(from), mail.RecipientNotAsked)
	})
}

// A server that anybody can reach is told apart from one that takes mail from this
// relay alone.
func TestTheWayAroundTheRelayIsFound(t *testing.T) {
	r, _ := guarded(t)
	check, err := r.api.CheckInbound(t.Context(), "globex.test")
	if err != nil || !check.Problems() || !strings.Contains(check.Findings[0].What, "no MX record of globex.test leads here") || check.Findings[1].Severity != api.Fine || check.Findings[2].Severity != api.Unclear {
		t.Errorf("%+v, %v", check, err)
	}
	r.internet.Zone.SetMX("globex.test", mail.MX{Preference: 10, Host: "relay.anechoic.test"}, mail.MX{Preference: 20, Host: "mail.elsewhere.test"})
	text, err := os.ReadFile(r.configFile())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "relay.toml", strings.Replace(string(text), "[console]", "[inbound]\nbind = [\"127.0.0.9\"]\n[console]", 1))
	r.restart(t)
	if check, err = r.api.CheckInbound(t.Context(), "globex.test"); err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, f := range check.Findings {
		said = append(said, string(f.Severity)+": "+f.What)
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"ok: MX records lead here: relay.anechoic.test", "problem: MX records lead around this relay: mail.elsewhere.test", "ok: the organisation's server takes mail for postmaster@globex.test from here", "problem: the server takes mail for postmaster@globex.test from 127.0.0.1 too"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	if _, err := r.api.CheckInbound(t.Context(), "acme.test"); err == nil {
		t.Error("a domain whose mail does not come in here was checked")
	}
}
