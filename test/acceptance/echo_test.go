package acceptance

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/standard/dkim"
)

// shared is the address of a relay that signs whatever its customers' provider hands
// it, as whom it says it is from.
const shared = "203.0.113.50"

// bank is its customer; bank.test is spoofed.
var bank = lab.Tenant{GUID: "77777777-7777-4777-8777-777777777777", Originator: "bank.onmicrosoft.com"}

// newEchoes is guarded, with the bank and its relay on the internet.
func newEchoes(t *testing.T, more ...string) (*relay, *lab.Receiver) {
	t.Helper()
	r, inside := guarded(t, more...)
	zone := r.internet.Zone
	zone.SetTXT("bank.test", "v=spf1 ip4:"+shared+" -all")
	zone.SetTXT("_dmarc.bank.test", "v=DMARC1; p=reject")
	zone.SetAddresses("bank.test", netip.MustParseAddr(shared))
	r.internet.Publish("r1._domainkey.bank.test", dkim.RecordValue(sealKey().Public()))
	publishSealers(r.internet)
	return r, inside
}

// throughShared is what the relay makes of a letter: it writes where it has it from,
// and signs.
func throughShared(l letter) letter {
	return forGlobex(l.topped("Received: from mail-a.outbound.protection.outlook.com (mail-a.outbound.protection.outlook.com ["+eop+"])\r\n by mx.shared.test with ESMTPS id 1; Sun, 22 Nov 2026 12:00:01 +0000").
		signed("bank.test", "r1", sealKey()).peerIs(shared))
}

// echoed is a spoof that the relay signed; sealed by the provider, which saw it fail.
func echoed() letter {
	return throughShared(mailThrough(attacker, lab.BlindRelay, vps, "ceo@bank.test").sealed(sawFail("bank.test")))
}

// echoedBare is the same with the seals taken off.
func echoedBare() letter {
	return throughShared(mailThrough(attacker, lab.BlindRelay, vps, "ceo@bank.test"))
}

func TestAnEchoIsMarkedHeldOrRefusedAsTheOrganisationSays(t *testing.T) {
	t.Run("mark", func(t *testing.T) {
		r, inside := newEchoes(t)
		got := results(t, r.comesIn(t, inside, echoed()).Data)
		for _, want := range []string{"spf=pass", "dkim=pass", "dmarc=pass header.from=bank.test", `echo=suspect reason="attested_fail foreign_tenant entered_from_outside" policy.score=110`} {
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %s", got, want)
			}
		}
	})
	t.Run("hold", func(t *testing.T) {
		r, inside := newEchoes(t, `echo = "hold"`)
		if _, answer := r.send(t, echoed()); answer.code != 250 {
			t.Fatal(answer)
		}
		held := r.facts(t, url.Values{"event": {string(ledger.Held)}, "reason": {string(mail.ReasonEchoSuspect)}})
		if len(held) != 1 || len(inside.Judgements()) > 0 {
			t.Errorf("%d are held, %d came in", len(held), len(inside.Judgements()))
		}
	})
	t.Run("refuse", func(t *testing.T) {
		r, inside := newEchoes(t, `echo = "refuse"`)
		r.isRefused(t, inside, echoed(), mail.EchoSuspect)
	})
}

func TestGenuineMailOfMicrosoft365IsNoEcho(t *testing.T) {
	r, inside := newEchoes(t, `echo = "refuse"`)
	r.internet.Zone.SetTXT("bank.test", "v=spf1 ip4:"+shared+" ip4:"+eop+" -all")
	r.internet.Zone.SetCNAME("selector1._domainkey.bank.test", "selector1-bank-test._domainkey.bank.onmicrosoft.com")
	r.internet.Publish("selector1-bank-test._domainkey.bank.onmicrosoft.com", dkim.RecordValue(sealKey().Public()))
	named := bank
	named.Originator = "bank.test"
	for name, c := range map[string]struct {
		letter letter
		want   string
	}{
		"signed by Microsoft":                 {forGlobex(mailFromMicrosoft(bank, "ann@bank.test").signed("bank.test", "selector1", sealKey())), `echo=pass reason="signed_at_provider"`},
		"behind the relay, which alone signs": {throughShared(mailFromMicrosoft(bank, "ann@bank.test")), `echo=pass reason="named_by_dns"`},
		"of the domain by name":               {throughShared(mailFromMicrosoft(named, "ann@bank.test").sealed(sawInside("bank.test"))), `echo=pass reason="originator_of_from"`},
		"of a stranger, in his own name":      {forGlobex(mailFromMicrosoft(partnerTenant, "carol@partner.test")), `echo=pass reason="originator_of_from"`},
		"that never was at Microsoft":         {forGlobex(mailFromNobody(partner, "carol@partner.test")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := results(t, r.comesIn(t, inside, c.letter).Data)
			if c.want == "" && strings.Contains(got, "echo=") || !strings.Contains(got, c.want) {
				t.Errorf("%s, not %q", got, c.want)
			}
		})
	}
}

// partnerTenant is another honest customer of Microsoft's.
var partnerTenant = lab.Tenant{GUID: "78787878-7878-4878-8878-787878787878", Originator: "partner.test"}

func TestDNSOfTheSpoofedDomainTellsItsTenantsApart(t *testing.T) {
	r, inside := newEchoes(t)
	if got := results(t, r.comesIn(t, inside, echoedBare()).Data); !strings.Contains(got, `echo=neutral reason="foreign_tenant entered_from_outside" policy.score=50`) {
		t.Errorf("without a name in DNS: %s", got)
	}
	r.internet.Zone.SetCNAME("selector2._domainkey.bank.test", "selector2-bank-test._domainkey.bank.onmicrosoft.com")
	if got := results(t, r.comesIn(t, inside, echoedBare()).Data); !strings.Contains(got, "echo=suspect") || !strings.Contains(got, "usual_tenants_other") {
		t.Errorf("with it: %s", got)
	}
}

func TestATenantThatIsVouchedForIsNoEcho(t *testing.T) {
	r, inside := newEchoes(t, `echo = "refuse"`, `[[organisation.inbound.vouched]]`, `from = "bank.test"`, fmt.Sprintf("tenant = %q", strings.ToUpper(attacker.GUID)))
	r.internet.Zone.SetCNAME("selector1._domainkey.bank.test", "selector1-bank-test._domainkey.bank.onmicrosoft.com")
	if got := results(t, r.comesIn(t, inside, echoedBare()).Data); !strings.Contains(got, `echo=pass reason="vouched_for"`) {
		t.Errorf("%s", got)
	}
	r.isRefused(t, inside, throughShared(mailThrough(otherAttacker(), lab.BlindRelay, vps, "ceo@bank.test")), mail.EchoSuspect)
}

func otherAttacker() lab.Tenant {
	t := attacker
	t.GUID = "79797979-7979-4979-8979-797979797979"
	return t
}

func TestWhatIsKnownOfADomainIsShownAndForgotten(t *testing.T) {
	r, inside := newEchoes(t)
	r.comesIn(t, inside, echoedBare())
	profile, err := r.api.EchoProfile(t.Context(), "mail.bank.test")
	if err != nil || profile.Domain != "bank.test" || len(profile.Strangers) != 1 || profile.Strangers[0].ID != attacker.GUID || len(profile.Tenants) != 0 {
		t.Fatalf("%+v: %v", profile, err)
	}
	if _, err := r.api.ForgetEcho(t.Context(), "bank.test"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.api.EchoProfile(t.Context(), "bank.test"); err == nil || !strings.Contains(err.Error(), "nothing was learned of bank.test") {
		t.Errorf("%v", err)
	}
	if _, err := r.api.ForgetEcho(t.Context(), "bank.test"); err == nil {
		t.Error("forgotten twice")
	}
	r.restart(t)
	if _, err := r.api.EchoProfile(t.Context(), "bank.test"); err == nil {
		t.Error("it is known again after a restart")
	}
	if facts := r.facts(t, url.Values{"event": {string(ledger.EchoForgotten)}}); len(facts) != 1 {
		t.Errorf("%v", facts)
	}
}
